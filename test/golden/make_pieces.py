#!/usr/bin/env python3
"""Write folders with SentencePiece vocabularies of full size, for compare_tokenizers.py.

    make_pieces.py DICT MODEL OUT

DICT is a list of XLM-R's pieces (text, any, score, between tabs; gzip), MODEL a SentencePiece model whose character map is
used.  OUT/xlmr-pieces, OUT/xlmr-json, OUT/bge-json, OUT/nfkc-json and OUT/camembert-pieces are written.
"""
import base64
import gzip
import json
import os
import struct
import sys


def varint(value):
    out = b""
    while value >= 128:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def model(pieces, charsmap, kind=1, unk_id=0):
    out = []
    for text, score, piece_type in pieces:
        data = field(1, text.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score)
        if piece_type != 1:
            data += varint(3 << 3) + varint(piece_type)
        out.append(field(1, data))
    out.append(field(2, varint(3 << 3) + varint(kind) + varint(40 << 3) + varint(unk_id)))
    return b"".join(out) + field(3, field(1, b"nmt_nfkc") + (field(2, charsmap) if charsmap else b""))


def charsmap_of(path):
    def fields(data):
        at = 0
        while at < len(data):
            tag, at = number(data, at)
            if tag & 7 == 0:
                value, at = number(data, at)
            else:
                length, at = (4, at) if tag & 7 == 5 else (8, at) if tag & 7 == 1 else number(data, at)
                value = data[at:at + length]
                at += length
            yield tag >> 3, value

    def number(data, at):
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                return value, at

    for outer, value in fields(open(path, "rb").read()):
        if outer == 3:
            for inner, text in fields(value):
                if inner == 2:
                    return text
    return b""


def save(folder, name, data):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as out:
        out.write(data if isinstance(data, bytes) else json.dumps(data, ensure_ascii=False).encode())


def main():
    dictionary, source, out = sys.argv[1:]
    charsmap = charsmap_of(source)
    rows = [line.rstrip("\n").split("\t") for line in gzip.open(dictionary, "rt", encoding="utf-8")]
    pieces, seen = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)], {"<unk>", "<s>", "</s>", "<pad>", "<mask>"}
    for text, _, score in rows:
        if text not in seen:
            seen.add(text)
            pieces.append((text, float(score), 1))
    folder = os.path.join(out, "xlmr-pieces")
    save(folder, "sentencepiece.bpe.model", model(pieces, charsmap))
    save(folder, "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"})
    folder = os.path.join(out, "camembert-pieces")
    save(folder, "sentencepiece.bpe.model", model(pieces[:20000], charsmap))
    save(folder, "tokenizer_config.json", {"tokenizer_class": "CamembertTokenizer"})
    vocab = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]] + [[t, s] for t, s, _ in pieces[3:]] + [["<mask>", 0.0]]
    added = [{"id": i, "content": t, "single_word": False, "lstrip": t == "<mask>", "rstrip": False, "normalized": False, "special": True}
             for i, t in [(0, "<s>"), (1, "<pad>"), (2, "</s>"), (3, "<unk>"), (len(vocab) - 1, "<mask>")]]
    special = {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in (("<s>", 0), ("</s>", 2))}

    def tok(text):
        return {"SpecialToken": {"id": text, "type_id": 0}}

    def seq(name):
        return {"Sequence": {"id": name, "type_id": 0}}
    template = {"type": "TemplateProcessing", "single": [tok("<s>"), seq("A"), tok("</s>")],
                "pair": [tok("<s>"), seq("A"), tok("</s>"), tok("</s>"), seq("B"), tok("</s>")], "special_tokens": special}
    precompiled = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}
    meta = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    blanks = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}

    def file(normalizer, pre, decoder, count=None):
        return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added if count is None else added[:4], "normalizer": normalizer,
                "pre_tokenizer": pre, "post_processor": template, "decoder": decoder,
                "model": {"type": "Unigram", "unk_id": 3, "vocab": vocab[:count], "byte_fallback": count is not None}}
    save(os.path.join(out, "xlmr-json"), "tokenizer.json",
         file(precompiled, {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, meta]}, meta))
    strip = {"type": "Strip", "strip_left": False, "strip_right": True}
    save(os.path.join(out, "bge-json"), "tokenizer.json", file({"type": "Sequence", "normalizers": [precompiled, strip, blanks]}, meta, meta))
    old = {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True}
    first = dict(meta, prepend_scheme="first", split=False)
    save(os.path.join(out, "nfkc-json"), "tokenizer.json",
         file({"type": "Sequence", "normalizers": [{"type": "Nmt"}, {"type": "NFKC"}, blanks]}, old, old, 30000))
    save(os.path.join(out, "nfc-json"), "tokenizer.json",
         file({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}, {"type": "Prepend", "prepend": "\u2581x"}]},
              {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, {"type": "Punctuation", "behavior": "Isolated"}, first]},
              dict(meta, prepend_scheme="never"), 30000))


if __name__ == "__main__":
    main()
