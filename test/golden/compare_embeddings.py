#!/usr/bin/env python3
"""Embeddings of a real sentence model against sentence-transformers, on real texts.

    python compare_embeddings.py EMBED_LINES FOLDER TEXTS [STSB]

EMBED_LINES: the built test/tools/embed_lines.c.  TEXTS: a file with one text per line (500 are
taken evenly).  STSB: tab-separated file; the columns score, sentence1, sentence2 are found by
their names, or are the last three in that order or score last.  Exit status 1 when a bound of
the manual is broken: cosine >= 0.99999 and difference <= 1e-4 on every text, Spearman equal to
0.05 points.
"""
import subprocess
import sys

import numpy as np
from pairs import cosine, read_pairs, spearman
from sentence_transformers import SentenceTransformer

TOOL, FOLDER, TEXTS = sys.argv[1:4]


def ours(texts):
    data = subprocess.run([TOOL, FOLDER, "embed"], input="".join(t + "\n" for t in texts).encode(),
                          stdout=subprocess.PIPE, check=True).stdout
    return np.frombuffer(data, np.float32).reshape(len(texts), -1)


def main():
    failed = False
    model = SentenceTransformer(FOLDER, device="cpu")
    lines = [t for t in open(TEXTS, encoding="utf8").read().split("\n") if t.strip()]
    texts = [lines[i * len(lines) // 500] for i in range(min(500, len(lines)))]
    mine = ours(texts).astype(np.float64)
    reference = model.encode(texts, batch_size=32).astype(np.float64)
    c = cosine(mine, reference)
    d = np.abs(mine - reference).max()
    print(f"{len(texts)} texts: cosine min {c.min():.9f}, largest difference {d:.3g}")
    failed |= c.min() < 0.99999 or d > 1e-4
    if len(sys.argv) > 4:
        pairs = read_pairs(sys.argv[4])
        left, right = [p[1] for p in pairs], [p[2] for p in pairs]
        a = spearman(ours(left), ours(right), pairs)
        b = spearman(model.encode(left, batch_size=64), model.encode(right, batch_size=64), pairs)
        print(f"{len(pairs)} pairs: Spearman ours {a:.4f}, sentence-transformers {b:.4f}")
        failed |= abs(a - b) > 0.05
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
