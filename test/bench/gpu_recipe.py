"""Tokens per second of the published DistilBERT recipe in PyTorch on this GPU, to compare test/gpu_train.c with.

    python3 test/bench/gpu_recipe.py [BATCH [STEPS]]

BERT-base teaches six layers on sequences of 128 tokens in bfloat16: both compute logits of all tokens; losses are those of the
recipe (KL at temperature 2 on all tokens, masked words, cosine of the last hidden states), the optimiser is fused AdamW.
"""
import sys
import time

import torch
import torch.nn.functional as F
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

batch, steps, length, temperature = int((sys.argv + ["256"])[1]), int((sys.argv + ["", "20"])[2] or 20), 128, 2.0
torch.manual_seed(0)
torch.backends.cuda.matmul.allow_tf32 = True
teacher = BertForMaskedLM(BertConfig()).cuda().eval()
student = DistilBertForMaskedLM(DistilBertConfig(sinusoidal_pos_embds=False)).cuda().train()
optimizer = torch.optim.AdamW(student.parameters(), lr=5e-4, fused=True)
ids = torch.randint(1000, 30000, (batch, length), device="cuda")
mask = torch.rand(ids.shape, device="cuda") < 0.15
labels = torch.where(mask, ids, -100)
inputs = torch.where(mask, torch.full_like(ids, 103), ids)
attention = torch.ones_like(ids)


def step():
    with torch.autocast("cuda", dtype=torch.bfloat16):
        with torch.no_grad():
            t = teacher(inputs, attention_mask=attention, output_hidden_states=True)
        s = student(inputs, attention_mask=attention, output_hidden_states=True)
        ce = F.kl_div(F.log_softmax(s.logits / temperature, -1).flatten(0, 1), F.softmax(t.logits / temperature, -1).flatten(0, 1),
                      reduction="batchmean") * temperature ** 2
        mlm = F.cross_entropy(s.logits.flatten(0, 1), labels.flatten())
        cos = F.cosine_embedding_loss(s.hidden_states[-1].flatten(0, 1), t.hidden_states[-1].flatten(0, 1),
                                      torch.ones(batch * length, device="cuda"))
        loss = 5 * ce + 2 * mlm + cos
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


for _ in range(3):
    step()
torch.cuda.synchronize()
began = time.perf_counter()
for _ in range(steps):
    step()
torch.cuda.synchronize()
print(f"pytorch {torch.__version__} batch {batch}: {batch * length * steps / (time.perf_counter() - began):.0f} tokens/s")
