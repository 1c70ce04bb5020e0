#!/usr/bin/env python3
"""Forward pass of a BERT shape: ONNX Runtime float32, one thread, next to bench_engine in the same run.

    python compare_onnx.py BENCH_ENGINE      needs torch, transformers, onnx, onnxruntime

BENCH_ENGINE is the built test/bench/bench_engine.c.  The two alternate, so that a change of
the machine's clock touches both.  Prints milliseconds and the ratio ours / ONNX Runtime.
"""
import os
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime as ort
import torch
from transformers import BertConfig, BertModel

TOKENS = [16, 128, 512]


def export(path):
    torch.manual_seed(1)
    config = BertConfig(vocab_size=1000, hidden_size=384, num_hidden_layers=6, num_attention_heads=12,
                        intermediate_size=1536, attn_implementation="eager")
    model = BertModel(config, add_pooling_layer=False).eval()
    ids = torch.ones(1, 16, dtype=torch.int64)

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask):
            return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    torch.onnx.export(Wrapped(), (ids, torch.ones_like(ids)), path, input_names=["input_ids", "attention_mask"],
                      output_names=["hidden"], dynamo=False, opset_version=17,
                      dynamic_axes={"input_ids": {0: "b", 1: "t"}, "attention_mask": {0: "b", 1: "t"}})
    # fuse attention, GELU and LayerNorm as its optimizer does for BERT
    try:
        from onnxruntime.transformers import optimizer
        fused = optimizer.optimize_model(path, model_type="bert", num_heads=12, hidden_size=384)
        fused.save_model_to_file(path)
    except Exception as e:
        print("not fused by onnxruntime.transformers:", e)


def time_onnx(session, tokens):
    ids = np.random.default_rng(1).integers(0, 1000, (1, tokens))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    times = []
    spent = time.perf_counter()
    while len(times) < 5 or (len(times) < 40 and time.perf_counter() - spent < 1.5):
        start = time.perf_counter()
        session.run(None, feed)
        times.append((time.perf_counter() - start) * 1e3)
    return min(times), sorted(times)[len(times) // 2]


def main():
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "model.onnx")
        export(path)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        ours = {t: [] for t in TOKENS}
        theirs = {t: [] for t in TOKENS}
        for _ in range(3):
            out = subprocess.run([sys.argv[1]], capture_output=True, text=True, env=dict(os.environ, BENCH_SHAPES="1"))
            for t in TOKENS:
                m = re.search(r"MiniLM-L6 +1 x +%d tokens: best +([0-9.]+) ms, median +([0-9.]+)" % t, out.stdout)
                ours[t].append((float(m[1]), float(m[2])))
                theirs[t].append(time_onnx(session, t))
        print(out.stdout.splitlines()[0])
        for t in TOKENS:
            a, b = min(x[0] for x in ours[t]), min(x[0] for x in theirs[t])
            print(f"1 x {t}: ours {a:.2f} ms, onnxruntime {b:.2f} ms, ratio {a / b:.2f} "
                  f"(medians {sorted(x[1] for x in ours[t])[1]:.2f}, {sorted(x[1] for x in theirs[t])[1]:.2f})")


if __name__ == "__main__":
    main()
