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
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

TOOL, FOLDER, TEXTS = sys.argv[1:4]


def ours(texts):
    data = subprocess.run([TOOL, FOLDER, "embed"], input="".join(t + "\n" for t in texts).encode(),
                          stdout=subprocess.PIPE, check=True).stdout
    return np.frombuffer(data, np.float32).reshape(len(texts), -1)


def cosine(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def stsb(path):
    rows = [line.rstrip("\n").split("\t") for line in open(path, encoding="utf8")]
    def number(x):
        try:
            return float(x)
        except ValueError:
            return None
    rows = [r for r in rows if len(r) >= 3]
    head = [h.lower() for h in rows[0]]
    if "score" in head and "sentence1" in head:
        cols = [head.index(k) for k in ("score", "sentence1", "sentence2")]
        rows = rows[1:]
    else:
        score = next(i for i in range(len(rows[1])) if number(rows[1][i]) is not None and
                     all(number(r[i]) is not None for r in rows[1:50]))
        others = [i for i in range(len(rows[1])) if i != score]
        cols = [score, others[-2], others[-1]]
    out = [(number(r[cols[0]]), r[cols[1]], r[cols[2]]) for r in rows if len(r) > max(cols)]
    return [r for r in out if r[0] is not None]


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
        pairs = stsb(sys.argv[4])
        gold = [p[0] for p in pairs]
        left, right = [p[1] for p in pairs], [p[2] for p in pairs]
        a = 100 * spearmanr(cosine(ours(left), ours(right)), gold).statistic
        b = 100 * spearmanr(cosine(model.encode(left, batch_size=64), model.encode(right, batch_size=64)), gold).statistic
        print(f"{len(pairs)} pairs: Spearman ours {a:.4f}, sentence-transformers {b:.4f}")
        failed |= abs(a - b) > 0.05
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
