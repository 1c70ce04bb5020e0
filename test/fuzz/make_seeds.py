#!/usr/bin/env python3
"""Seed inputs of fuzz_json, fuzz_safetensors, fuzz_config and fuzz_tokenizer_file, from the small files of test/golden."""
import json
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "..", "golden", "models")
PARTS = ["config.json", "modules.json", "1_Pooling/config.json", "2_Dense/config.json", "3_Normalize/config.json",
         "sentence_bert_config.json", "config_sentence_transformers.json", "tokenizer_config.json",
         "generation_config.json", "model.safetensors.index.json", "2_Dense/model.safetensors"]


def read(model, name):
    path = os.path.join(MODELS, model, name)
    return open(path, "rb").read() if os.path.exists(path) else b""


def save(fuzzer, name, data):
    folder = os.path.join(HERE, "corpus", fuzzer)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def smaller(tokenizer):
    """The same parts over a vocabulary that a mutation can reach around in."""
    model = tokenizer["model"]
    if model["type"] == "BPE":
        merges = [m if isinstance(m, list) else m.split(" ") for m in model["merges"]][:12]
        wanted = {t for m in merges for t in m + ["".join(m)]}
        model["vocab"] = {t: i for t, i in model["vocab"].items() if len(t) == 1 or t in wanted}
        ids = {t: i for i, t in enumerate(sorted(model["vocab"], key=model["vocab"].get))}
        model["vocab"], model["merges"] = ids, merges
    else:
        model["vocab"] = model["vocab"][:40] + [p for p in model["vocab"] if p[0].startswith("<0x")]
    tokenizer["added_tokens"] = [dict(t, id=len(model["vocab"]) + i) for i, t in enumerate(tokenizer["added_tokens"])
                                 if model["type"] == "BPE"]
    tokenizer["post_processor"] = None
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")).encode()


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
    for arch, kind in [("roberta", "sequence"), ("mpnet", "token"), ("gpt2", "lm"), ("bert", "choice"), ("electra", "choice"), ("albert", "lm")]:
        parts = [read("heads-" + arch, kind + ".config.json")] + [b""] * (len(PARTS) - 1)
        if arch == "gpt2":
            parts[PARTS.index("generation_config.json")] = b'{"eos_token_id": [0, 3]}'
        save("config", f"{arch}-{kind}", b"\xff".join(parts) + b"\xff")
    settings = {"bpe-prefix": b'{"tokenizer_class": "RobertaTokenizer", "add_prefix_space": true}',
                "unigram-first": b'{"tokenizer_class": "AlbertTokenizer", "keep_accents": true, "do_lower_case": false}',
                "bpe-sequence": b'{"tokenizer_class": "TokenizersBackend", "mask_token": "b", "added_tokens_decoder": {"3": {"content": "a", "lstrip": true}}, '
                                b'"additional_special_tokens": ["c", {"content": "d"}]}',
                "unigram-split": b'{"tokenizer_class": "CamembertTokenizer", "eos_token": null, "a_token": "a", "extra_special_tokens": {"image_token": "b"}}\n---\n'
                                 b'{"bos_token": {"content": "<e>", "rstrip": true}, "additional_special_tokens": ["c", {"content": "d"}]}\n---\n{"<n>": 9, "a": 1}'}
    for name in ["bpe-prefix", "bpe-sequence", "bpe-split-short", "unigram-first", "unigram-bytes", "unigram-split"]:
        seed = smaller(json.load(open(os.path.join(HERE, "..", "golden", "tokenizer", name + ".json"), encoding="utf8")))
        save("tokenizer_file", name, seed)
        if name in settings:
            save("tokenizer_file", name + "-settings", seed + b"\n---\n" + settings[name])


if __name__ == "__main__":
    main()
