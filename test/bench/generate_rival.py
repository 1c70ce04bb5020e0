#!/usr/bin/env python3
"""Writing on with a model of DistilGPT2's size (random weights), one thread: generate_rival.py BENCH TOKENIZER_FOLDER [TOKENS]

BENCH is test/bench/bench_generate.c, built; TOKENIZER_FOLDER any folder of GPT-2's tokenizer.  Prints what BENCH prints and the
speed of PyTorch (transformers' generate with its cache, float32) on the same tokens, which must be equal; both in processor time.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

os.environ["OMP_NUM_THREADS"] = "1"
import torch  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel  # noqa: E402


def main():
    bench, tokenizer = sys.argv[1:3]
    tokens = int(sys.argv[3]) if len(sys.argv) > 3 else 32
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=6, initializer_range=0.1)).eval()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        for name in ("tokenizer.json", "vocab.json", "merges.txt"):
            if os.path.exists(os.path.join(tokenizer, name)):
                shutil.copy(os.path.join(tokenizer, name), folder)
        out = subprocess.run([bench, folder, str(tokens)], stdout=subprocess.PIPE, check=True).stdout.decode()
    ours = float(out.split(" tokens/s, ")[0].split("\n")[-1])
    ids = [int(x) for x in out.split("ids: ")[1].split("\n")[0].split()]
    seconds = {1: 1e9, tokens: 1e9}
    theirs = None
    for _ in range(3):
        for n in seconds:
            start = time.process_time()
            with torch.no_grad():
                theirs = model.generate(torch.tensor([[1, 2, 3, 4]]), max_new_tokens=n, min_new_tokens=n, do_sample=False, pad_token_id=0)
            seconds[n] = min(seconds[n], time.process_time() - start)
    rate = (tokens - 1) / (seconds[tokens] - seconds[1])
    print("\n".join(line for line in out.splitlines() if not line.startswith("ids")))
    print(f"PyTorch {torch.__version__}: {rate:.2f} tokens/s; ours {ours / rate:.2f} times as fast")
    same = theirs[0, 4:].tolist() == ids
    print("the same tokens" if same else f"other tokens: {theirs[0, 4:].tolist()} {ids}")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
