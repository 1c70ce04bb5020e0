#!/usr/bin/env python3
"""Does the triple loss help?  Students with a teacher against the same students without, at equal steps.

    triple_against_labels.py TRAIN_FOLDER TEXTS WORK [SEEDS]      needs torch, transformers, tokenizers

TRAIN_FOLDER: the built test/tools/train_folder.c.  TEXTS: one text per line.  A small teacher (4 layers of 128) is trained
on the texts from random weights by masked words alone; then for each seed two 2-layer students start from the same
teacher layers and see the same batches: one with the whole triple loss, one with masked words only.  Prints the masked-word
loss of each on texts that none has seen (same masks for all).  Exit status 1 unless the triple loss wins for every seed.
"""
import json
import pathlib
import random
import subprocess
import sys

import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForMaskedLM, DistilBertForMaskedLM, PreTrainedTokenizerFast

TOOL, TEXTS, WORK = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
SEEDS = int(sys.argv[4]) if len(sys.argv) > 4 else 3
WORK.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)


def random_teacher(lines):
    """A folder with random weights and a vocabulary of the texts."""
    folder = WORK / "random"
    tokenizer = BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(lines, vocab_size=4000, show_progress=False)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", sep_token="[SEP]", cls_token="[CLS]",
                                   pad_token="[PAD]", mask_token="[MASK]", model_max_length=160)
    torch.manual_seed(1)
    config = BertConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=128, num_hidden_layers=4, num_attention_heads=4,
                        intermediate_size=512, max_position_embeddings=160, hidden_dropout_prob=0.0,
                        attention_probs_dropout_prob=0.0)
    BertForMaskedLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def train(teacher, student, texts, **options):
    options = {"gradient_accumulation_steps": 1, "batch_size": 32, "mlm_smoothing": 0.7, "max_tokens": 160, **options}
    subprocess.run([TOOL, str(teacher), str(texts), str(student), "triple", json.dumps(options), "2"], check=True,
                   stdout=open(f"{student}.log", "w"))
    return student


def masked_loss(folder, lines):
    """Mean loss at 15 % of the tokens of the lines; the same tokens for every model."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(WORK / "random")
    model = DistilBertForMaskedLM.from_pretrained(folder).eval()
    generator = torch.Generator().manual_seed(7)
    total = count = 0
    with torch.no_grad():
        for i in range(0, len(lines), 32):
            batch = tokenizer(lines[i:i + 32], padding=True, truncation=True, return_tensors="pt")
            ids, mask = batch["input_ids"], batch["attention_mask"]
            chosen = (torch.rand(ids.shape, generator=generator) < 0.15) & (mask == 1) & (ids > 4)
            labels = torch.where(chosen, ids, torch.full_like(ids, -100))
            loss = model(input_ids=torch.where(chosen, torch.full_like(ids, tokenizer.mask_token_id), ids),
                         attention_mask=mask, labels=labels).loss
            total += loss.item() * chosen.sum().item()
            count += chosen.sum().item()
    return total / count


def main():
    lines = [line for line in TEXTS.read_text(encoding="utf-8").splitlines() if len(line) > 100]
    random.Random(1).shuffle(lines)
    unseen, seen = lines[:500], lines[500:]
    texts = WORK / "seen.txt"
    texts.write_text("\n".join(seen) + "\n", encoding="utf-8")
    labels_only = {"alpha_ce": 0, "alpha_cos": 0, "alpha_mlm": 1}
    teacher = train(random_teacher(lines), WORK / "teacher", texts, layers=4, max_steps=1500, learning_rate=1e-3, **labels_only)
    print(f"teacher: masked-word loss {masked_loss(teacher, unseen):.4f}", flush=True)
    wins = 0
    for seed in range(1, SEEDS + 1):
        common = {"layers": 2, "max_steps": 200, "learning_rate": 5e-4, "seed": seed}
        triple = masked_loss(train(teacher, WORK / f"triple{seed}", texts, **common), unseen)
        labels = masked_loss(train(teacher, WORK / f"labels{seed}", texts, **common, **labels_only), unseen)
        wins += triple < labels
        print(f"seed {seed}: triple loss {triple:.4f}, masked words only {labels:.4f}, difference {labels - triple:+.4f}", flush=True)
    sys.exit(0 if wins == SEEDS else 1)


if __name__ == "__main__":
    main()
