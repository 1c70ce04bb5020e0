"""Sentence pairs with a score of how alike they are, and Spearman's correlation of a model's cosines with it."""
import numpy as np


def number(text):
    try:
        return float(text)
    except ValueError:
        return None


def read_pairs(path):
    """(score, left, right) of a tab-separated file: the columns score, sentence1, sentence2 by their names, or the last three, in that
    order or score last."""
    with open(path, encoding="utf8") as file:
        rows = [row for row in (line.rstrip("\n").split("\t") for line in file) if len(row) >= 3]
    head = [name.lower() for name in rows[0]]
    if "score" in head and "sentence1" in head:
        columns = [head.index(name) for name in ("score", "sentence1", "sentence2")]
    else:
        score = next(i for i in range(len(rows[1])) if all(number(row[i]) is not None for row in rows[1:50]))
        columns = [score, *[i for i in range(len(rows[1])) if i != score][-2:]]
    pairs = [(number(row[columns[0]]), row[columns[1]], row[columns[2]]) for row in rows if len(row) > max(columns)]
    return [pair for pair in pairs if pair[0] is not None]


def cosine(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def spearman(left, right, pairs):
    """Times 100."""
    from scipy.stats import spearmanr
    return 100 * float(spearmanr(cosine(left, right), [score for score, _, _ in pairs]).statistic)
