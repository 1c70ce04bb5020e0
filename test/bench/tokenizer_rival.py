#!/usr/bin/env python3
"""Speed of the Rust `tokenizers` library on the file of bench_tokenizer.c: tokenizer_rival.py FOLDER FILE

One thread; encode_batch and, where the library has it, encode_batch_fast (no offsets); best of three rounds, processor time.
"""
import os
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
from compare_tokenizers import load  # noqa: E402


def main():
    tokenizer = load(sys.argv[1])
    data = open(sys.argv[2], "rb").read()
    lines = data.decode().split("\n")
    for name in ("encode_batch", "encode_batch_fast"):
        encode = getattr(tokenizer, name, None)
        if encode is None:
            continue
        best, tokens = 1e9, 0
        for _ in range(3):
            start = time.process_time()
            tokens = sum(len(encoding.ids) for i in range(0, len(lines), 1000) for encoding in encode(lines[i:i + 1000]))
            best = min(best, time.process_time() - start)
        print("%s: %d bytes, %d lines, %d tokens: %.1f MB/s" % (name, len(data), len(lines), tokens, len(data) / best * 1e-6))


if __name__ == "__main__":
    main()
