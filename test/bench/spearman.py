#!/usr/bin/env python3
"""How well sentence models agree with people: Spearman's correlation on pairs with a score, and what a student keeps of its teacher's.

    spearman.py PAIRS.tsv TEACHER [STUDENT ...] [--tool EMBED_LINES | --socket DIR --port N [--database D]]

PAIRS.tsv: tab-separated, columns as compare_embeddings.py finds them (STS-B's files, for example).  TEACHER and STUDENT are model folders
with --tool (the built test/tools/embed_lines.c), names of models in a database with --socket.  Prints 100 x Spearman and each student's
share of the teacher's.  Needs numpy and scipy, and psycopg for a database.
"""
import argparse
import os
import subprocess
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
from pairs import read_pairs, spearman  # noqa: E402


def by_tool(tool):
    def embed(model, texts):
        data = subprocess.run([tool, model, "embed"], input="".join(text + "\n" for text in texts).encode(), stdout=subprocess.PIPE,
                              check=True).stdout
        return np.frombuffer(data, np.float32).reshape(len(texts), -1)
    return embed


def by_database(options):
    import psycopg
    db = psycopg.connect(host=options.socket, port=options.port, dbname=options.database, user=options.user)

    def embed(model, texts):
        return np.array([row[0] for row in db.execute("SELECT distil_embed_many(%s, %s)", (texts, model))], np.float32)
    return embed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs")
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--tool")
    parser.add_argument("--socket")
    parser.add_argument("--port", type=int, default=5432)
    parser.add_argument("--database", default="postgres")
    parser.add_argument("--user", default="postgres")
    options = parser.parse_args()
    if (options.tool is None) == (options.socket is None):
        parser.error("give --tool or --socket")
    embed = by_tool(options.tool) if options.tool else by_database(options)
    pairs = read_pairs(options.pairs)
    texts = [text for _, left, right in pairs for text in (left, right)]
    teacher = None
    for model in options.models:
        vectors = embed(model, texts)
        score = spearman(vectors[::2], vectors[1::2], pairs)
        teacher = teacher or score
        print(f"{model}: Spearman {score:.2f} on {len(pairs)} pairs, {100 * score / teacher:.1f} % of {options.models[0]}'s", flush=True)


if __name__ == "__main__":
    main()
