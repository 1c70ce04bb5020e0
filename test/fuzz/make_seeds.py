#!/usr/bin/env python3
"""Seed inputs of fuzz_json, fuzz_safetensors and fuzz_config, from the tiny models of test/golden."""
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "..", "golden", "models")
PARTS = ["config.json", "modules.json", "1_Pooling/config.json", "2_Dense/config.json", "3_Normalize/config.json",
         "sentence_bert_config.json", "config_sentence_transformers.json", "tokenizer_config.json",
         "model.safetensors.index.json", "2_Dense/model.safetensors"]


def read(model, name):
    path = os.path.join(MODELS, model, name)
    return open(path, "rb").read() if os.path.exists(path) else b""


def save(fuzzer, name, data):
    folder = os.path.join(HERE, "corpus", fuzzer)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def safetensors(header, data):
    return struct.pack("<Q", len(header)) + header + data


def main():
    for name in ["config.json", "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"]:
        save("json", name, read("bert-sentence", name))
    save("json", "numbers", b'[0, -1.5e-3, 1e308, 1000000000000000019884624838656, true, null, "\\u00e9\\ud83d\\ude00"]')
    save("json", "nested", b'{"a": [[[{"b": {"c": "[{\\\\\\""}}]]]}')
    two = b'{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},' \
          b'"b":{"dtype":"F16","shape":[2],"data_offsets":[8,12]}}'
    save("safetensors", "two", safetensors(two, bytes(range(12))))
    one = b'{"__metadata__":{"distil.container":"1","distil.parse_special":"false"},' \
          b'"w":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]},' \
          b'"2_D/x":{"dtype":"F16","shape":[],"data_offsets":[2,4]},' \
          b'"file:2_D/config.json":{"dtype":"U8","shape":[2],"data_offsets":[4,6]},' \
          b'"file:config.json":{"dtype":"U8","shape":[2],"data_offsets":[6,8]}}'
    save("safetensors", "container", safetensors(one, b"\0\x3f\0\x3c{}{}"))
    save("safetensors", "empty", safetensors(b"{}", b""))
    for model in ["bert-mlm", "distilbert-mlm", "bert-sentence"]:
        parts = [b"" if name.endswith(".safetensors") else read(model, name) for name in PARTS]
        save("config", model, b"\xff".join(parts) + b"\xff")
    for arch, kind in [("roberta", "sequence"), ("mpnet", "token"), ("gpt2", "lm"), ("bert", "choice")]:
        parts = [read("heads-" + arch, kind + ".config.json")] + [b""] * (len(PARTS) - 1)
        save("config", f"{arch}-{kind}", b"\xff".join(parts) + b"\xff")


if __name__ == "__main__":
    main()
