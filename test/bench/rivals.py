#!/usr/bin/env python3
"""Rivals of distil on one core, for test/bench/run.sh.

    rivals.py MODEL_FOLDER TEXT_FILE ONNX_FILE

Needs torch, transformers, onnx, onnxruntime, tokenizers, sentence-transformers.  Prints one line per figure:
    name<TAB>value<TAB>unit<TAB>setting
"""
import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = "1"
os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import json
import pathlib
import statistics
import sys
import time


def median_ms(run, seconds=2.0, least=7):
    run()
    times, end = [], time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        began = time.perf_counter()
        run()
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


def show(name, value, unit, setting):
    print(f"{name}\t{value:.3f}\t{unit}\t{setting}", flush=True)


def export_onnx(folder, path):
    """The encoder as a fused float32 graph: the state after ONNX Runtime's own transformer optimizer."""
    import torch
    from onnxruntime.transformers import optimizer
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(folder)
    kwargs = {"add_pooling_layer": False} if config.model_type == "bert" else {}
    model = AutoModel.from_pretrained(folder, attn_implementation="eager", **kwargs).eval()

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask):
            return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    ids = torch.randint(1000, 20000, (2, 24))
    raw = path.with_suffix(".raw.onnx")
    torch.onnx.export(Encoder(), (ids, torch.ones_like(ids)), str(raw), dynamo=False, opset_version=17,
                      input_names=["input_ids", "attention_mask"], output_names=["last_hidden_state"],
                      dynamic_axes={n: {0: "batch", 1: "length"} for n in ("input_ids", "attention_mask", "last_hidden_state")})
    fused = optimizer.optimize_model(str(raw), model_type="bert", num_heads=config.num_attention_heads,
                                     hidden_size=config.hidden_size, opt_level=1)
    fused.save_model_to_file(str(path))
    return fused.get_fused_operator_statistics()


def main():
    folder, text_file, onnx_file = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    import numpy
    import onnxruntime
    import torch

    torch.set_num_threads(1)
    if not onnx_file.exists():
        export_onnx(folder, onnx_file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(onnx_file), options, providers=["CPUExecutionProvider"])
    rng = numpy.random.default_rng(1)
    for tokens in (16, 128, 512):
        feed = {"input_ids": rng.integers(1000, 20000, (1, tokens)), "attention_mask": numpy.ones((1, tokens), numpy.int64)}
        show(f"onnxruntime.float32.1x{tokens}", median_ms(lambda: session.run(None, feed)), "ms",
             f"onnxruntime {onnxruntime.__version__}, fused graph, 1 thread")

    from tokenizers import Tokenizer
    from tokenizers import __version__ as tokenizers_version

    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    lines = pathlib.Path(text_file).read_text(encoding="utf-8").splitlines()
    size = sum(len(line.encode()) for line in lines) / 1e6
    show("tokenizers.encode_batch", size * 1e3 / median_ms(lambda: tokenizer.encode_batch(lines), 3.0, 3), "MB/s",
         f"tokenizers {tokenizers_version}, 1 thread")

    from sentence_transformers import SentenceTransformer
    from sentence_transformers import __version__ as st_version

    model = SentenceTransformer(folder, device="cpu")
    sample = lines[:256]
    show("sentence-transformers.float32.rows", len(sample) * 1e3 / median_ms(lambda: model.encode(sample, batch_size=32), 3.0, 2), "rows/s",
         f"sentence-transformers {st_version}, batch 32, 1 thread")


if __name__ == "__main__":
    main()
