#!/usr/bin/env python3
"""Speed of our tokenizer and of the Rust `tokenizers` library on the same text: tokenizer_rival.py BENCH FILE FOLDER...

BENCH is test/bench/bench_tokenizer.c, built.  One thread each, processor time, the best of their rounds, taken in turns; ours
with offsets and without, theirs by encode_batch and, where the library has it, encode_batch_fast (no offsets).  Exit status 1
when ours with offsets is less than 4 times as fast as encode_batch, or the numbers of tokens differ.
"""
import os
import re
import subprocess
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
from compare_tokenizers import load  # noqa: E402

WANTED = 4


def ours(bench, folder, file, *options):
    out = subprocess.run([bench, folder, file, *options], stdout=subprocess.PIPE, check=True).stdout.decode()
    return [float(x) for x in re.search(r"(\d+) tokens: ([0-9.]+) MB/s", out).groups()]


def theirs(encode, lines, size):
    best, tokens = 1e9, 0
    for _ in range(3):
        start = time.process_time()
        tokens = sum(len(encoding.ids) for i in range(0, len(lines), 1000) for encoding in encode(lines[i:i + 1000]))
        best = min(best, time.process_time() - start)
    return tokens, size / best * 1e-6


def main():
    bench, file, *folders = sys.argv[1:]
    data = open(file, "rb").read()
    lines = data.decode().removesuffix("\n").split("\n")
    slow = []
    for folder in folders:
        tokenizer = load(folder)
        tokens, speed = ours(bench, folder, file, "offsets")
        _, without = ours(bench, folder, file)
        batch_tokens, batch = theirs(tokenizer.encode_batch, lines, len(data))
        fast = theirs(tokenizer.encode_batch_fast, lines, len(data))[1] if hasattr(tokenizer, "encode_batch_fast") else batch
        speed = max(speed, ours(bench, folder, file, "offsets")[1])
        print(f"{os.path.basename(folder)}: {speed:.1f} MB/s, {without:.1f} without offsets; Rust {batch:.2f}, {fast:.2f}: "
              f"{speed / batch:.1f} and {without / fast:.1f} times as fast; {tokens:.0f} tokens", flush=True)
        if speed < WANTED * batch or tokens != batch_tokens:
            slow.append(folder)
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
