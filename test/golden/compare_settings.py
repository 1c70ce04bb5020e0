#!/usr/bin/env python3
"""Compare the C tokenizer with AutoTokenizer over random settings beside tokenizer.json: ids, types, offsets, decoded text.

    compare_settings.py --tool PROGRAM [--cases N] [--seed S] [FOLDER...]

PROGRAM is test/tools/tokenize_lines.c, built.  Each case takes one of the small tokenizers of make_settings.py (or the tokenizer.json
and config.json of a FOLDER) and changes its added tokens, tokenizer_config.json, special_tokens_map.json and added_tokens.json at random.
What we refuse must be refused by name; what transformers cannot load is not compared.  Exit status 1 when anything differs.
Needs transformers 5.23.
"""
import argparse
import copy
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile

import transformers
from transformers import AutoTokenizer

import make_settings as small

WORDS = ["a", "b", "x", "Ab", "[MASK]", "<mask>", "[PAD]", "<new>", "<x>", "[END]", "<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED", "<eop>", "<pad>", "[CLS]", "<|endoftext|>",
         "\u00c9", "<s>", "B!", "[UNK]", "<unk>"]
TEXTS = small.TEXTS + ["a [mask] b", " [MASK] x <x> <new> ", "<s>a</s> [END]b", "<S> <NEW> ab zz Zz a b", "<s>NOTUSED </s>NOTUSED<unk>NOTUSED a <eop> <eod>", "[UNK] [unk] <unk> <UNK>",
                       "<pad>[PAD]a <|endoftext|> b!B! \u00c9 \u00e9", "[CLS] [cls] <Mask>  <MASK>"]
NAMES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"]
FLAGS = ["lstrip", "rstrip", "normalized", "special", "single_word"]
OTHERS = {"do_lower_case": [True, False], "strip_accents": [None, True, False], "tokenize_chinese_chars": [True, False], "add_prefix_space": [True, False], "keep_accents": [True, False],
          "trim_offsets": [True, False], "add_bos_token": [True, False], "add_eos_token": [True], "model_max_length": [5, 512], "never_split": [["a"]], "do_basic_tokenize": [False],
          "padding_side": ["left"], "remove_space": [False], "errors": ["strict"], "legacy": [True, False], "unk_id": [0, 1, 2], "vocab_size": [7], "split_special_tokens": [False],
          "sp_model_kwargs": [{}], "fuse_unk": [True], "wordpieces_prefix": ["@@"], "clean_text": [False], "lowercase": [True], "stride": [2], "max_length": [3], "init_inputs": [[]],
          "clean_up_tokenization_spaces": [True, False, None], "model_input_names": [["input_ids", "attention_mask"], ["input_ids", "token_type_ids"]], "prepend_scheme": ["first"], "byte_fallback": [True], "dropout": [0.5], "unk_token_id": [1], "cls_token_id": [3], "vocab_file": ["vocab.txt"], "tokenizer_file": ["x.json"]}


def small_bases():
    mpnet = small.bert()
    mpnet["model"]["vocab"].update({t: len(mpnet["model"]["vocab"]) + i for i, t in enumerate(["<s>", "</s>", "<pad>", "<mask>"])})
    roberta = {"type": "RobertaProcessing", "sep": None, "cls": None, "trim_offsets": True, "add_prefix_space": False}
    xlm = ["<s>", "<pad>", "</s>", "<unk>"]
    return [("bert", "BertTokenizer", small.bert()), ("distilbert", "DistilBertTokenizer", small.bert()), ("mpnet", "MPNetTokenizer", mpnet),
            ("gpt2", "GPT2Tokenizer", small.byte_level(["<|endoftext|>"], small.level(), small.level())),
            ("roberta", "RobertaTokenizer", small.byte_level(xlm + ["<mask>"], small.level(), roberta)),
            ("xlm-roberta", "XLMRobertaTokenizer", small.pieces(xlm, ["map"], "always", 3)),
            ("camembert", "CamembertTokenizer", small.pieces(xlm + ["<unk>NOTUSED"], ["map"], "always", 3)),
            ("albert", "AlbertTokenizer", small.pieces(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], ["map"], "always", 1)),
            ("bert", "XLNetTokenizer", small.pieces(["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>"], ["map"], "always", 0))]


class Cases:
    def __init__(self, seed, bases):
        self.rng = random.Random(seed)
        self.bases = bases

    def chance(self, p):
        return self.rng.random() < p

    def token(self):
        flags = {k: self.chance(0.15) for k in ("lstrip", "rstrip", "single_word") if self.chance(0.9)}
        flags.update({k: self.chance(p) for k, p in (("normalized", 0.3), ("special", 0.7)) if self.chance(0.8)})
        return dict(flags, content=self.rng.choice(WORDS))

    def value(self):
        return self.rng.choice(WORDS) if self.chance(0.6) else dict(self.token(), __type="AddedToken")

    def lists(self, settings, p):
        def some():
            return [self.value() for _ in range(self.rng.randrange(3))]
        if self.chance(p):
            settings["additional_special_tokens"] = some() if self.chance(0.9) else None
        if self.chance(p):
            settings["extra_special_tokens"] = some() if self.chance(0.6) else {"image_token": self.rng.choice(WORDS)} if self.chance(0.6) else self.rng.choice([None, {}])
        if self.chance(p / 2):
            settings["video_token"] = self.value()

    def decoder(self, tokens, ids, free):
        decoder = {}
        for token in tokens:
            if self.chance(0.85):
                entry = {k: v for k, v in token.items() if k != "id"}
                if self.chance(0.1):
                    entry[self.rng.choice(FLAGS)] ^= True
                if self.chance(0.1):
                    entry.pop(self.rng.choice(FLAGS[:4]))
                decoder[str(token["id"])] = entry
        if self.chance(0.3):
            token = self.token()
            decoder[str(ids.get(token["content"], free))] = token
        return decoder

    def next(self):
        kind, cls, data = self.rng.choice(self.bases)
        data = copy.deepcopy(data)
        tokens, vocab = data["added_tokens"], data["model"]["vocab"]
        ids = {t[0]: i for i, t in enumerate(vocab)} if isinstance(vocab, list) else vocab
        free = max([len(vocab) - 1] + [t["id"] for t in tokens]) + 1
        if self.chance(0.5):
            for text in self.rng.sample(["<x>", "<new>", "a b", "Zz", "zq"], self.rng.randrange(1, 3)):
                if text not in ids:
                    tokens.append({"id": free, "content": text, "single_word": False, "lstrip": self.chance(0.2), "rstrip": False, "normalized": self.chance(0.3), "special": self.chance(0.5)})
                    free += 1
        elif self.chance(0.4) and len(tokens) > 1 and all(t["id"] < len(vocab) for t in tokens):
            tokens.pop(self.rng.randrange(len(tokens)))
        if self.chance(0.2):
            self.rng.choice(tokens)[self.rng.choice(FLAGS[:4])] ^= True
        files = {"config.json": {"model_type": kind}, "tokenizer.json": data}
        config = {k: self.rng.choice(v) for k, v in OTHERS.items() if self.chance(0.04)}
        if self.chance(0.75) or cls == "XLNetTokenizer":
            config["tokenizer_class"] = cls if self.chance(0.7) else self.rng.choice(["PreTrainedTokenizerFast", "TokenizersBackend"])
        if self.chance(0.4):
            config["added_tokens_decoder"] = self.decoder(tokens, ids, free)
        config.update({name: None if self.chance(0.2) else self.value() for name in NAMES if self.chance(0.12)})
        self.lists(config, 0.2)
        if config or self.chance(0.5):
            files["tokenizer_config.json"] = config
        if self.chance(0.3):
            special = {name: None if self.chance(0.1) else self.rng.choice(WORDS) if self.chance(0.6) else {k: v for k, v in self.token().items() if k != "special"}
                       for name in NAMES if self.chance(0.2)}
            self.lists(special, 0.25)
            files["special_tokens_map.json"] = special
        if self.chance(0.15):
            files["added_tokens.json"] = {text: ids.get(text, free + i) for i, text in enumerate(self.rng.sample(WORDS, self.rng.randrange(1, 3)))}
        return files


def want(folder):
    whole = AutoTokenizer.from_pretrained(folder)
    tokenizer = whole.backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    passed = "token_type_ids" in whole.model_input_names
    lines = []
    for e in [tokenizer.encode(text) for text in TEXTS] + [tokenizer.encode(*pair) for pair in zip(TEXTS[0::2], TEXTS[1::2])]:
        lines.append(" ".join("%d:%d:%d:%d" % (i, t if passed else 0, *o) for i, t, o in zip(e.ids, e.type_ids, e.offsets)) + "\t" +
                     whole.decode(e.ids, skip_special_tokens=True).encode().hex())
    return lines


def got(tool, folder):
    data = b"".join(b"%d\n%s" % (len(t), t) for t in (text.encode() for text in TEXTS))
    lines = []
    for mode in ([], ["pair"]):
        run = subprocess.run([tool, folder] + mode, input=data, capture_output=True)
        if run.returncode == 1:
            return run.stderr.decode().strip()
        lines += [line.partition("\t") for line in run.stdout.decode().split("\n")[:-1]]
    return [" ".join(token.rpartition(":")[0] for token in tokens.split()) + "\t" + text for tokens, _, text in lines]


def compare(tool, files, folder):
    for name, content in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
            json.dump(content, out)
    ours = got(tool, folder)
    try:
        theirs = want(folder)
    except Exception:
        return "not loaded by transformers"
    if isinstance(ours, str):
        return "refused by us"
    if ours == theirs:
        return "equal"
    shown = {name: content for name, content in files.items() if name != "tokenizer.json"}
    print("%s\nadded tokens %s" % (json.dumps(shown), json.dumps(files["tokenizer.json"]["added_tokens"])))
    for text, line, other in zip(TEXTS, theirs, ours + [""] * len(theirs)):
        if line != other:
            print("  %r\n    want %s\n    got  %s" % (text, line, other))
    return "different"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", required=True)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("folders", nargs="*")
    args = parser.parse_args()
    transformers.logging.set_verbosity(logging.CRITICAL)
    logging.disable(logging.CRITICAL)
    bases = []
    for path in args.folders:
        config, data = (json.load(open(os.path.join(path, name), encoding="utf-8")) for name in ("config.json", "tokenizer.json"))
        bases.append((config["model_type"], transformers.models.auto.tokenization_auto.TOKENIZER_MAPPING_NAMES[config["model_type"]], data))
    cases = Cases(args.seed, bases or small_bases())
    counts = {}
    for _ in range(args.cases):
        folder = tempfile.mkdtemp()
        outcome = compare(args.tool, cases.next(), folder)
        shutil.rmtree(folder)
        counts[outcome] = counts.get(outcome, 0) + 1
    print(", ".join("%d %s" % (n, outcome) for outcome, n in sorted(counts.items())))
    return 1 if "different" in counts else 0


if __name__ == "__main__":
    sys.exit(main())
