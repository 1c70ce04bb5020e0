#!/usr/bin/env python3
"""Compare the C tokenizer with the Rust `tokenizers` library: ids, types, offsets, words, decoded text.

    compare_tokenizers.py --tool PROGRAM [--fuzz N] [--seed S] [--limit LINES] FOLDER... [--texts FILE...]

PROGRAM is test/tools/tokenize_lines.c, built.  A FOLDER holds tokenizer.json, vocab.txt
(read as the class BertTokenizer would, with tokenizer_config.json), or other legacy files
(read by the class of transformers that tokenizer_config.json names).  Every line of the text files (.gz too; SQuAD's .json;
translations of message catalogues, .mo, such as the server's in `pg_config --localedir`) and N random
Unicode strings go through each folder, alone, as pairs, with truncation, and with special
tokens not recognised.  Exit status 1 when anything differs.  Needs tokenizers 0.23.3.
"""
import argparse
import gettext
import gzip
import json
import os
import random
import subprocess
import sys

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

MODES = {
    "single": [],
    "plain": ["plain"],
    "bare": ["bare"],
    "max 13": ["max", "13"],
    "pair": ["pair"],
    "pair max 20": ["pair", "max", "20"],
    "pair max 17 bare": ["pair", "bare", "max", "17"],
}


def load(folder):
    path = os.path.join(folder, "tokenizer.json")
    if os.path.exists(path):
        tokenizer = Tokenizer.from_file(path)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer
    config = {}
    if os.path.exists(os.path.join(folder, "tokenizer_config.json")):
        config = json.load(open(os.path.join(folder, "tokenizer_config.json")))
    if not os.path.exists(os.path.join(folder, "vocab.txt")):
        import transformers
        tokenizer = getattr(transformers, config["tokenizer_class"]).from_pretrained(folder).backend_tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer
    vocab = {}
    with open(os.path.join(folder, "vocab.txt"), encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines):
            vocab[line.rstrip("\n")] = number
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"), lowercase=config.get("do_lower_case", True))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])])
    return tokenizer


def has_types(folder):
    """Whether the model is given segment ids: a class that AutoTokenizer finds says so, BertTokenizer gives them."""
    import transformers
    try:
        return "token_type_ids" in transformers.AutoTokenizer.from_pretrained(folder).model_input_names
    except (OSError, ValueError):
        return True


def show(tokenizer, encoding, types):
    words = [-1 if w is None else w for w in encoding.word_ids]
    tokens = ["%d:%d:%d:%d:%d" % (i, t if types else 0, s, e, w) for i, t, (s, e), w in
              zip(encoding.ids, encoding.type_ids, encoding.offsets, words)]
    return " ".join(tokens) + "\t" + tokenizer.decode(encoding.ids).encode().hex()


def expected(tokenizer, mode, texts, types):
    options = MODES[mode]
    tokenizer.encode_special_tokens = "plain" in options
    tokenizer.no_truncation()
    if "max" in options:
        tokenizer.enable_truncation(int(options[options.index("max") + 1]))
    if "pair" in options:
        texts = list(zip(texts[0::2], texts[1::2]))
    out = []
    for start in range(0, len(texts), 1000):
        out += [show(tokenizer, e, types) for e in
                tokenizer.encode_batch(texts[start:start + 1000], add_special_tokens="bare" not in options)]
    return out


def found(tool, folder, mode, texts):
    data = b"".join(b"%d\n%s" % (len(t), t) for t in (text.encode() for text in texts))
    run = subprocess.run([tool, folder] + MODES[mode], input=data, stdout=subprocess.PIPE, check=True)
    return run.stdout.decode().split("\n")[:-1]


def translations(path):
    """The messages that say something else than the original."""
    with open(path, "rb") as catalogue:
        messages = gettext.GNUTranslations(catalogue)._catalog
    return [text for key, text in messages.items() if key not in ("", text)]


def read(paths, limit):
    texts = []
    for path in paths:
        if path.endswith(".mo"):
            new = translations(path)
            texts += new[:limit] if limit else new
            continue
        opened = gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8")
        with opened as lines:
            if path.endswith(".json"):
                data = json.load(lines)["data"]
                new = [t for article in data for p in article["paragraphs"]
                       for t in [p["context"]] + [q["question"] for q in p["qas"]]]
            else:
                new = [line.rstrip("\n") for line in lines if line.strip()]
        texts += new[:limit] if limit else new
    return texts


def random_texts(n, seed):
    rng = random.Random(seed)
    words = ["the", "Don't", "[SEP]", "[CLS]", "[MASK]", "[sep]", "un", "affable", "Straße", "naïve", "中文", "パン", "한국어",
             "й", "Ё", "ΟΔΟΣ", "İstanbul", "e\u0301", "\u0344", "x\u0301\u0323", "हिन्दी", "ไทย", "שָׁלוֹם", "مُحَمَّد", "🤗", "👩‍👧", "a" * 99,
             "a" * 100, "a" * 101, "\u00ad", "\u200b", "\ufffd", "\x00", "\u2028", "\u3000", "\u00a0", "\x85", "\x0b", "\x1f",
             "don 't", " do not", "n't", "'s", "...", "foo,bar", "3.14", "\u1e9b\u0323", "\u0f73\u0f71", "\u212b", "ﬁ", "\U0002b820",
             "\U0002b920", "\u1bab\u0301", "\u037e", "\u1fef", "≮", "\uf900", "\U0001d15e", "\u0b94",
             "he's", "we're they've I'm I'll you'd", "it'S", "<s>", "</s>", "<mask>", "<pad>", "<unk>", "<|endoftext|>", "\u2581", "\u0120a", "\u00a9\u200d\u00ae",
             "``", "''", "\r\n", "\u0600a", "\uff76\uff9e", "\u2121", "\ufdfa", "12345", "\u0663\u0664", "\u00bd\u2168", "   ", "\t\t", "\n \n",
             "New York", "<x>", "<y>", "<x><x>", "É", "éé", "foo", "Foo", "b b", "B B", "a", "b", "ab", "x_1", "--", "x", "."]
    marks = [chr(c) for c in range(0x300, 0x370)] + ["\u0f71", "\u0f72", "\u0f74", "\u0f73", "\u05b0", "\u0334", "\u1bab",
                                                     "\u0345", "\U0001d165", "\U0001d16e", "\u302e", "\u17d2", "\u1ab0", "\u0898",
                                                     "\U00016ff0", "\u1baa", "\u1a60", "\u103a", "\U00010eab"]
    ranges = [(0x20, 0x7f)] * 6 + [(0, 0x100), (0xc0, 0x250), (0x370, 0x600), (0x600, 0xe80), (0xe80, 0x1200), (0x1200, 0x2000),
                                   (0x1e00, 0x2000), (0x2000, 0x2c00), (0x2c00, 0x3400), (0x4e00, 0x4f00), (0xa000, 0xd7a4),
                                   (0xac00, 0xad00), (0xf900, 0x10000), (0x10000, 0x12000), (0x12000, 0x20000),
                                   (0x20000, 0x30000), (0xe0000, 0xe0200), (0, 0x110000)]
    texts = []
    for _ in range(n):
        parts = []
        for _ in range(rng.choice((1, 2, 3, 5, 8, 20))):
            kind = rng.random()
            if kind < 0.35:
                parts.append(rng.choice(words))
            elif kind < 0.5:
                parts.append("".join(rng.choice(marks) for _ in range(rng.choice((1, 2, 3, 4, 40)))))
            else:
                low, high = rng.choice(ranges)
                for _ in range(rng.randrange(1, 9)):
                    cp = rng.randrange(low, high)
                    parts.append("?" if 0xd800 <= cp < 0xe000 else chr(cp))
            if rng.random() < 0.5:
                parts.append(rng.choice((" ", " ", " ", "  ", "\n", "\t", ".", "-")))
        texts.append("".join(parts))
    return texts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", required=True)
    parser.add_argument("--fuzz", type=int, default=0)
    parser.add_argument("--codepoints", action="store_true", help="every code point alone and inside a word")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int, default=0, help="lines per file")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--texts", nargs="*", default=[])
    parser.add_argument("folders", nargs="+")
    args = parser.parse_args()
    texts = read(args.texts, args.limit) + random_texts(args.fuzz, args.seed)
    if args.codepoints:
        for cp in range(0x110000):
            if not 0xd800 <= cp < 0xe000:
                texts += [chr(cp), "a%sb" % chr(cp), "A\u0301%s\u0334 B" % chr(cp)]
    if len(texts) % 2:
        texts.append("odd one out")
    bad = 0
    for folder in args.folders:
        tokenizer, types = load(folder), has_types(folder)
        for mode in args.modes.split(","):
            want, got = expected(tokenizer, mode, texts, types), found(args.tool, folder, mode, texts)
            differ = [i for i in range(max(len(want), len(got)))
                      if i >= len(want) or i >= len(got) or want[i] != got[i]]
            tokens = sum(line.count(":") // 4 for line in want)
            print("%s, %s: %d texts, %d tokens, %d differ" % (folder, mode, len(want), tokens, len(differ)), flush=True)
            for i in differ[:5]:
                source = texts[2 * i:2 * i + 2] if "pair" in MODES[mode] else texts[i:i + 1]
                print("  %s\n    want %s\n    got  %s" % (ascii(source)[:600], want[i][:600], got[i][:600] if i < len(got) else None))
            bad += len(differ)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
