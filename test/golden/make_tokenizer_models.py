#!/usr/bin/env python3
"""Write the byte-level BPE and Unigram tokenizers of test/golden/tokenizer/, and what the Rust library makes of many strings.

    make_tokenizer_models.py            (needs tokenizers 0.23.3 and transformers 5; the seed is fixed)

models.txt has the form of tokens.txt (see make_tokenizer.py).  Folders without tokenizer.json are read by the classes of
transformers: gpt2 and roberta are vocab.json with merges.txt, albert, xlnet, xlmr and camembert SentencePiece models.
"""
import base64
import json
import os
import random
import shutil
import struct
import tempfile

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from compare_tokenizers import load, random_texts
from make_pieces import model as pieces_model
from make_tokenizer import HERE, SENTENCES, TRICKY, added, results

MORE = [
    "he's we're they've I'm I'll you'd it'S 'S 're", " don't", "a  b", "a\n\nb", "trail  ", "\u00a0x", "\u3000x", "x \n y", "12 345\u00bd\u2168\u0663", "foo<mask>bar",
    "foo <mask> bar", "<s> a </s>", "<pad><unk>", "<|endoftext|>", "hello", " hello", "``a''", "\r\n", "a\r\nb", "\u0600a", "\uff76\uff9e", "\u00a9\u200d\u00ae", "\u2581a\u2581",
    "\u0120a", "\ufdfa", "\u2121x\u0301", "e\u0301\u0302", "\x00a\x00", "\x01\u0301", "\u200b\u0301a", "\u00ad\u0301", "\uac00\u11a8\u0301", "<0x41>", "\u0958\u0301", "\U0001f1e9\U0001f1ea\u0301",
    "b b", "B B", "New York", " <x> ", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "the the thethe", "\u2028\u2029", "\ufeff", "\ufb01", "A\u030a", "\u212b", "\u1e9b\u0323", "q\u0307\u0323", "\u0344", "\u0f71\u0f74\u0f73",
]
CASES = [                       # where tokenizers are known to differ from each other
    "\U0001fae8 emoji", "e\u0301 \u00e9 E\u0301", "\u039f\u0394\u039f\u03a3", "\u0130stanbul", "\ud55c\uad6d\uc5b4", "\u30d1\u30f3 \u3067 \u0439 \u0451", "\u0939\u093f\u0928\u094d\u0926\u0940 \u0645\u064f\u062d",
    "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd \u0e44\u0e17\u0e22", "\U0002b820\U0002b91f\U0002b920", "\u0107 \u017e \u0151", "q\u0323\u0307 q\u0307\u0323 x\u0301\u0323\u0334", "\u4e2d\u6587abc", "\U0001d4b3\x01\x7f", "DON'T don't don\u2019t",
    "trailing \t", "foo<mask>", "foo <mask> bar <s>", "[CLS] x [SEP] [cls]", "\u00d6\u00c4\u00dc \u00f6\u00e4\u00fc\u00df", "\u0096 \u200e \u00ad", "a\u00adb\u200dc\u200cd", "b" * 100 + " " + "c" * 101, "", "  ",
    "Hello, my dog is cute", "they do not, isn't it?", "\ufffd\ufffe", "\u180e\u2060\u3164", "1,234.56\u00a0\u20ac", "\u202dx\u202c",
    "\U000e000e\u0341\u034dB", "\U000e0108\u0341\u034dB",
]
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SHORT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
MAPPED = {"\r": " ", "\n": " ", "\t": " ", "\u00a0": " ", "\u3000": " ", "\u200b": " ", "\u00ad": "", "\ufb01": "fi", "\u2121": "TEL", "e\u0301": "\u00e9", "\u0958": "\u0915\u093c", "\x01": "",
          "\uff76": "\u30ab", "\uff76\uff9e": "\u30ac", "\u00a9": "(c)", "\ufdfa": "\u0635\u0644\u0649", "A\u030a": "\u00c5", "\u0600": "#", "\U0001f1e9": "D", "\u1e9b\u0323": "\u1e69",
          "\u0341": "\u0301"}


def charsmap(mapping):
    """Double array of the keys, in the form of SentencePiece."""
    strings, nodes = b"", {}
    for key, value in mapping.items():
        node = nodes
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[None] = len(strings)
        strings += value.encode() + b"\0"
    units, used = {0: 0}, {0}

    def place(node, state):
        labels = [0 if byte is None else byte for byte in node]
        base = 1
        while any(base ^ label in used for label in labels) or base ^ state >= 1 << 21:
            base += 1
        used.update(base ^ label for label in labels)
        units[state] |= (base ^ state) << 10 | (1 << 8 if None in node else 0)
        for byte, child in node.items():
            if byte is None:
                units[base] = 1 << 31 | child
            else:
                units[base ^ byte] = byte
        for byte, child in node.items():
            if byte is not None:
                place(child, base ^ byte)
    place(nodes, 0)
    size = (max(units) | 255) + 1
    return struct.pack("<I%dI" % size, 4 * size, *[units.get(i, 0) for i in range(size)]) + strings


def train_bpe(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=460, min_frequency=1, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(texts, trainer)
    data = json.loads(tokenizer.to_str())["model"]
    return data["vocab"], data["merges"]


def pieces_of(texts):
    rng = random.Random(3)
    counts = {}
    for text in texts:
        for word in text.replace(" ", " \u2581").split():
            for start in range(len(word)):
                for size in range(1, 7):
                    piece = word[start:start + size]
                    if size == 1 and (ord(piece) * 31 + 7) % 11 == 0:
                        continue
                    counts[piece] = counts.get(piece, 0) + 1
    best = sorted(counts, key=lambda p: (-counts[p] * len(p), p))[:700]
    return [(piece, -1.0 - rng.randrange(0, 40) / 4.0) for piece in best if "\x00" not in piece]


def files(vocab, merges, pieces):
    n = len(vocab)
    bpe = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False, "vocab": vocab,
           "merges": [" ".join(pair) for pair in merges]}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    specials = [added(n, "<s>", special=True), added(n + 1, "</s>", special=True), added(n + 2, "<pad>", special=True, normalized=True),
                added(n + 3, "<mask>", special=True, lstrip=True), added(n + 4, " <x> "), added(n + 5, "New York", normalized=True, rstrip=True)]
    roberta = {"type": "RobertaProcessing", "sep": ["</s>", n + 1], "cls": ["<s>", n], "trim_offsets": True, "add_prefix_space": True}
    unigram = {"type": "Unigram", "unk_id": 0, "byte_fallback": False,
               "vocab": [["<unk>", 0.0], ["<s>", 0.0], ["</s>", 0.0]] + [list(p) for p in pieces]}
    meta = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    ends = [added(0, "<unk>", special=True), added(1, "<s>", special=True), added(2, "</s>", special=True), added(len(pieces) + 3, "<mask>", special=True, lstrip=True, rstrip=True)]
    mapped = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap(MAPPED)).decode()}
    template = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 2}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}}
    def split(pattern, behavior="Isolated", invert=False):
        return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}

    bare = dict(level, use_regex=False)
    fallback = dict(unigram, byte_fallback=True, vocab=unigram["vocab"] + [["<0x%02X>" % i, -20.0] for i in range(256)])

    def file(tokens, normalizer, pre, post, decoder, model):
        return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": post,
                "decoder": decoder, "model": model}
    return {
        "bpe": file([added(n, "<|endoftext|>", special=True, normalized=True)], None, level, dict(level, trim_offsets=False), level, bpe),
        "bpe-prefix": file(specials, None, dict(level, add_prefix_space=True), roberta, level, dict(bpe, merges=[list(pair) for pair in merges])),
        "bpe-sequence": file(specials, {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
                             {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, dict(level, use_regex=False, add_prefix_space=True)]},
                             {"type": "Sequence", "processors": [level, {"type": "BertProcessing", "sep": ["</s>", n + 1], "cls": ["<s>", n]}]}, level, dict(bpe, ignore_merges=True)),
        "bpe-split": file(specials, None, {"type": "Sequence", "pretokenizers": [split(SPLIT), bare]}, level, level, bpe),
        "bpe-split-short": file(specials, {"type": "Lowercase"}, {"type": "Sequence", "pretokenizers": [split(r"\p{N}"), split(SHORT, "Removed", True), bare]}, level, level, bpe),
        "unigram-split": file(ends, None, {"type": "Sequence", "pretokenizers": [split(r"\s+", "Removed"), split(r"\p{N}+"), meta]}, None, meta, unigram),
        "unigram": file(ends, mapped, {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, meta]}, template, meta, unigram),
        "unigram-strip": file(ends, {"type": "Sequence", "normalizers": [mapped, {"type": "Strip", "strip_left": False, "strip_right": True},
                                                                         {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}]}, meta, template, meta, unigram),
        "unigram-first": file(ends, {"type": "Sequence", "normalizers": [{"type": "Nmt"}, {"type": "NFKC"}, {"type": "Replace", "pattern": {"String": "the"}, "content": "a th"}]},
                              {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": False},
                                                                     {"type": "Split", "pattern": {"String": "a "}, "behavior": "Isolated", "invert": False},
                                                                     {"type": "Split", "pattern": {"String": "-"}, "behavior": "Removed", "invert": False}, dict(meta, prepend_scheme="first", split=False)]}, None,
                              dict(meta, prepend_scheme="never"), unigram),
        "unigram-bytes": file([], {"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Prepend", "prepend": "\u2581"}]},
                              {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": False, "prepend_scheme": "never"}, None,
                              {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                                                                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}, fallback),
    }


def legacy(vocab, merges, pieces):
    n = len(vocab)
    lines = "#version: 0.2\n" + "".join("%s %s\n" % tuple(pair) for pair in merges)
    small = charsmap(MAPPED)
    control = [("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    normal = [(text, score, 1) for text, score in pieces]
    roberta = dict(vocab, **{"<s>": n, "</s>": n + 1, "<pad>": n + 2, "<unk>": n + 3, "<mask>": n + 4})
    return {
        "gpt2": ({"vocab.json": dict(vocab, **{"<|endoftext|>": n}), "merges.txt": lines}, "GPT2Tokenizer"),
        "roberta": ({"vocab.json": roberta, "merges.txt": lines}, "RobertaTokenizer"),
        "albert": ({"spiece.model": pieces_model([("<pad>", 0.0, 3), ("<unk>", 0.0, 2), ("[CLS]", 0.0, 3), ("[SEP]", 0.0, 3), ("[MASK]", 0.0, 3), ("(", 0.0, 4)] + normal, small, 1, 1)},
                   "AlbertTokenizer"),
        "xlnet": ({"spiece.model": pieces_model([("<unk>", 0.0, 2)] + control + [("<cls>", 0.0, 3), ("<sep>", 0.0, 3), ("<pad>", 0.0, 3), ("<mask>", 0.0, 3), ("<eod>", 0.0, 3)] + normal, b"")},
                  "XLNetTokenizer"),
        "xlmr": ({"sentencepiece.bpe.model": pieces_model([("<unk>", 0.0, 2)] + control + normal, small)}, "XLMRobertaTokenizer"),
        "camembert": ({"sentencepiece.bpe.model": pieces_model([("<unk>", 0.0, 2)] + control + normal, small)}, "CamembertTokenizer"),
    }


def load_legacy(name, contents, class_name):
    folder = tempfile.mkdtemp()
    for file, content in contents.items():
        data = content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        for path in (os.path.join(folder, file), os.path.join(HERE, name + "." + file)):
            with open(path, "wb") as out:
                out.write(data)
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as out:
        json.dump({"tokenizer_class": class_name}, out)
    tokenizer = load(folder)
    shutil.rmtree(folder)
    return tokenizer


def main():
    vocab, merges = train_bpe(SENTENCES + ["the the the New York"])
    pieces = [p for p in pieces_of(SENTENCES + ["the the the New York"]) if p[0] != "("]
    tokenizers = {}
    for name, data in files(vocab, merges, pieces).items():
        path = os.path.join(HERE, name + ".json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(data, file, ensure_ascii=False, separators=(",", ":"))
        tokenizers[name] = Tokenizer.from_file(path)
    for name, (contents, class_name) in legacy(vocab, merges, pieces).items():
        tokenizers[name] = load_legacy(name, contents, class_name)
    out = []
    texts = MORE + CASES + [text[:40] for text in TRICKY[::3]] + [text[:24] for text in SENTENCES[::6]] + [text[:20] for text in random_texts(24, 9)]
    for number, text in enumerate(texts):
        out.append("T " + text.encode().hex())
        for k, name in enumerate(tokenizers):
            if number < len(MORE) + len(CASES) or (number + k) % 4 == 0:
                results(out, name, tokenizers[name], text)
            if (number + k) % 12 == 0:
                results(out, name, tokenizers[name], text, modes="pb")
                results(out, name, tokenizers[name], text, limit=5)
        if number % 6 == 0:
            out.append("U " + texts[(number * 7 + 3) % len(texts)].encode().hex())
            for name in tokenizers:
                results(out, name, tokenizers[name], text, texts[(number * 7 + 3) % len(texts)], limit=9 if number % 12 == 0 else 0)
    with open(os.path.join(HERE, "models.txt"), "w", newline="\n") as file:
        file.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
