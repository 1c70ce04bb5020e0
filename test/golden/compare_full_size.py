#!/usr/bin/env python3
"""Hidden states and masked-LM logits of full-size BERT-base, DistilBERT, ALBERT-base and ELECTRA-small with random weights.

    python compare_full_size.py EMBED_LINES TOKENIZER_FOLDER

EMBED_LINES: the built test/tools/embed_lines.c.  TOKENIZER_FOLDER: any uncased BERT folder (its
tokenizer of 30,522 tokens is used).  The reference is transformers in float64.  Exit status 1
when a value differs by more than 1e-4.
"""
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
from transformers import (AlbertConfig, AlbertForMaskedLM, AutoTokenizer, BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM,
                          ElectraConfig, ElectraForMaskedLM)

TOOL, TOKENIZER = sys.argv[1:3]
TEXTS = ["The capital of France is Paris.", "hello", "",
         "A database stores rows and columns; queries read them. " * 12,
         "Training a small model to do the work of a large one takes time and data. " * 60]


def randomise(model, seed):
    """Larger than the initialisation: states and logits then differ well between tokens, as trained ones do."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name.lower() and name.endswith("weight"):
                p.copy_(1 + 0.1 * torch.randn(p.shape, generator=g))
            elif name.endswith("bias"):
                p.copy_(0.05 * torch.randn(p.shape, generator=g))
            else:
                p.copy_(0.04 * torch.randn(p.shape, generator=g))
    return model.eval()


def ours(folder, mode, width):
    data = subprocess.run([TOOL, folder, mode], input="".join(t + "\n" for t in TEXTS).encode(),
                          stdout=subprocess.PIPE, check=True).stdout
    out, at = [], 0
    for _ in TEXTS:
        t = int(np.frombuffer(data, np.int32, 1, at)[0])
        out.append(np.frombuffer(data, np.float32, t * width, at + 4).reshape(t, width))
        at += 4 + 4 * t * width
    assert at == len(data)
    return out


def compare(name, model):
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        for f in ["tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"]:
            if os.path.exists(os.path.join(TOKENIZER, f)):
                shutil.copy(os.path.join(TOKENIZER, f), folder)
        tok = AutoTokenizer.from_pretrained(folder)
        hidden, logits = ours(folder, "hidden", model.config.hidden_size), ours(folder, "logits", 30522)
    model = model.double()
    worst = [0.0, 0.0]
    with torch.no_grad():
        for i, text in enumerate(TEXTS):
            enc = tok(text, return_tensors="pt", truncation=True, max_length=512)
            if name == "distilbert":
                enc.pop("token_type_ids", None)
            out = model(**enc, output_hidden_states=True)
            assert hidden[i].shape[0] == enc["input_ids"].shape[1], (hidden[i].shape, enc["input_ids"].shape)
            worst[0] = max(worst[0], np.abs(hidden[i] - out.hidden_states[-1][0].numpy()).max())
            worst[1] = max(worst[1], np.abs(logits[i] - out.logits[0].numpy()).max())
    print(f"{name}: hidden states within {worst[0]:.3g}, logits within {worst[1]:.3g} (largest logit {out.logits.abs().max():.3g})")
    return max(worst) <= 1e-4


def main():
    torch.manual_seed(0)
    ok = compare("bert", randomise(BertForMaskedLM(BertConfig()), 1))
    ok &= compare("distilbert", randomise(DistilBertForMaskedLM(DistilBertConfig()), 2))
    base = AlbertConfig(vocab_size=30522, hidden_size=768, num_attention_heads=12, intermediate_size=3072)
    ok &= compare("albert", randomise(AlbertForMaskedLM(base), 3))
    ok &= compare("electra", randomise(ElectraForMaskedLM(ElectraConfig()), 4))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
