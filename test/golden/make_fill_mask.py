#!/usr/bin/env python3
"""fill_mask.json: what the Hugging Face fill-mask pipeline answers with the tiny masked-LM models.

    python make_fill_mask.py       needs torch, transformers; models/ from make_models.py
"""
import json
import os

import torch
from transformers import pipeline

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = ["the [MASK] sat on the river .", "[MASK]", "A database [MASK], and reads rows!", "hello world [MASK]"]


def main():
    torch.set_num_threads(1)
    out = {}
    for name in ["bert-mlm", "distilbert-mlm"]:
        fill = pipeline("fill-mask", os.path.join(HERE, "models", name), device="cpu")
        out[name] = [{"text": t, "fills": [{"id": r["token"], "score": round(r["score"], 8), "token": r["token_str"].strip(),
                                            "sequence": r["sequence"]} for r in fill(t, top_k=7)]} for t in TEXTS]
    with open(os.path.join(HERE, "fill_mask.json"), "w", encoding="utf8") as f:
        json.dump(out, f, indent=1, ensure_ascii=False)
        f.write("\n")


if __name__ == "__main__":
    main()
