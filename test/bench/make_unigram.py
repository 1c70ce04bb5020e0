#!/usr/bin/env python3
"""A Unigram tokenizer of XLM-R's size from a list of pieces: make_unigram.py PIECES FOLDER OUT

PIECES: lines "piece TAB anything TAB score", may be gzip.  FOLDER: of a SentencePiece model whose character map is taken
(tokenizer_config.json names its class).  OUT: a new folder with tokenizer.json, for compare_tokenizers.py and tokenizer_rival.py,
which give the same file to both sides.
"""
import gzip
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
from compare_tokenizers import load  # noqa: E402


def charsmap(part):
    if part and part.get("type") == "Precompiled":
        return part
    return next((m for m in map(charsmap, (part or {}).get("normalizers", [])) if m), None)


def main():
    source, folder, out = sys.argv[1:4]
    opened = gzip.open(source, "rt", encoding="utf8") if source.endswith(".gz") else open(source, encoding="utf8")
    with opened as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines]
    pieces, seen = [["<s>", 0.0]], {"<s>"}
    for row in rows:
        if row[0] and row[0] not in seen:
            seen.add(row[0])
            pieces.append([row[0], float(row[-1])])
    if "<mask>" not in seen:
        pieces.append(["<mask>", 0.0])
    ids = {piece: i for i, (piece, _) in enumerate(pieces)}
    meta = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    pair = single + [single[2], {"Sequence": {"id": "B", "type_id": 0}}, single[2]]
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": ids[t], "content": t, "single_word": False, "lstrip": t == "<mask>", "rstrip": False, "normalized": False,
                          "special": True} for t in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")],
        "normalizer": charsmap(json.loads(load(folder).to_str())["normalizer"]),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, meta]},
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": pair,
                           "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in ("<s>", "</s>")}},
        "decoder": meta, "model": {"type": "Unigram", "unk_id": ids["<unk>"], "vocab": pieces, "byte_fallback": False}}
    os.makedirs(out)
    with open(os.path.join(out, "tokenizer.json"), "w", encoding="utf8") as f:
        json.dump(tokenizer, f, ensure_ascii=False)
    print(len(pieces), "pieces")


if __name__ == "__main__":
    main()
