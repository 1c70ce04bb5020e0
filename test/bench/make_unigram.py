#!/usr/bin/env python3
"""A Unigram tokenizer of XLM-R's size out of a text: make_unigram.py TEXT OUT

Pieces are the parts of the text's words that are frequent and long, with the logarithm of their frequency as score: about as many of
them match at each place of the text as with a trained model.  OUT: a new folder with tokenizer.json, for compare_tokenizers.py and
tokenizer_rival.py, which give the same file to both sides.
"""
import collections
import json
import math
import os
import sys

PIECES = 250002
LONGEST = 16
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
HERE = os.path.dirname(os.path.abspath(__file__))


def charsmap(part):
    """A normalizer's map of characters."""
    if part and part.get("type") == "Precompiled":
        return part
    return next((m for m in map(charsmap, (part or {}).get("normalizers", [])) if m), None)


def pieces(text):
    """[piece, score], all single characters among them."""
    count = collections.Counter()
    for word, n in collections.Counter(text.split()).items():
        word = "\u2581" + word
        for i in range(len(word)):
            for j in range(i + 1, min(len(word), i + LONGEST) + 1):
                count[word[i:j]] += n
    characters = sorted(piece for piece in count if len(piece) == 1)
    longer = sorted((piece for piece in count if len(piece) > 1), key=lambda piece: (-count[piece] * len(piece), piece))
    chosen = characters + longer[:PIECES - len(SPECIAL) - len(characters)]
    if len(chosen) + len(SPECIAL) < PIECES:
        sys.exit(f"only {len(chosen) + len(SPECIAL)} pieces: the text is too short")
    total = sum(count[piece] for piece in chosen)
    return [[piece, math.log(count[piece] / total)] for piece in chosen]


def main():
    source, out = sys.argv[1:3]
    with open(source, encoding="utf8") as text:
        vocabulary = [[piece, 0.0] for piece in SPECIAL] + pieces(text.read())
    with open(os.path.join(HERE, "..", "golden", "tokenizer", "unigram.json"), encoding="utf8") as golden:
        normalizer = charsmap(json.load(golden)["normalizer"])
    ids = {piece: i for i, piece in enumerate(SPECIAL)}
    meta = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    pair = single + [single[2], {"Sequence": {"id": "B", "type_id": 0}}, single[2]]
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": ids[t], "content": t, "single_word": False, "lstrip": t == "<mask>", "rstrip": False, "normalized": False,
                          "special": True} for t in SPECIAL],
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, meta]},
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": pair,
                           "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in ("<s>", "</s>")}},
        "decoder": meta, "model": {"type": "Unigram", "unk_id": ids["<unk>"], "vocab": vocabulary, "byte_fallback": False}}
    os.makedirs(out)
    with open(os.path.join(out, "tokenizer.json"), "w", encoding="utf8") as f:
        json.dump(tokenizer, f, ensure_ascii=False)


if __name__ == "__main__":
    main()
