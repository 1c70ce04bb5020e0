#!/usr/bin/env python3
"""Write test/golden/tokenizer/settings.txt: what AutoTokenizer makes of a tokenizer.json with many configurations beside it.

    make_settings.py            (needs transformers 5.23 and sentence-transformers 6.2; no chance is involved)

Records of lines:
    F JSON                       tokenizer.json of what follows
    S JSON, A JSON               special_tokens_map.json and added_tokens.json of the next C only
    L                            the next C is a sentence model with do_lower_case
    C CONFIG TAB SETTINGS TAB WHY    config.json, tokenizer_config.json (- when there is none), and the refusal expected of us (- for none:
                                 then the tokens are those of the T lines)
    T TEXT TAB TOKENS            text in hexadecimal; TOKENS id:type:start:end ..., types as the model is given them: 0 where it is given none
    P TOKENS                     of the texts PAIR
    D TEXT                       what all ids in order decode to without special tokens, in hexadecimal
"""
import json
import os
import shutil
import tempfile

import transformers
from sentence_transformers.base.modules.transformer import _has_lowercase
from tokenizers import normalizers, pre_tokenizers
from transformers import AutoTokenizer

from make_tokenizer import HERE, added
from make_tokenizer_models import charsmap

import base64

TEXTS = ["Ab \u00c9a", "a\u4e2d b", "  a  b ", "a <mask> b[MASK]", "a\x00b", "\x01a b", "``a''", "<unk>NOTUSED <e> b<b> <x> <eod> <s>NOTUSED <m>", ""]
PAIR = ("a b", "b")
MISSING = "of tokenizer.json that contradicts the default"


def template(cls, sep, ids):
    def special(name, kind):
        return {"SpecialToken": {"id": name, "type_id": kind}}
    single = [special(cls, 0), {"Sequence": {"id": "A", "type_id": 0}}, special(sep, 0)]
    return {"type": "TemplateProcessing", "single": single, "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}, special(sep, 1)],
            "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in (cls, sep)}}


def file(tokens, normalizer, pre, post, decoder, model):
    return {"version": "1.0", "added_tokens": tokens, "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": post, "decoder": decoder, "model": model}


def bert(model={}, **normalizer):
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {t: i for i, t in enumerate(names + ["a", "A", "b", "B", "\u00e9", "\u00c9", "e", "E", "\u4e2d", "##\u4e2d", "##a", "##b", "`", "'"])}
    return file([added(i, t, special=True) for i, t in enumerate(names)],
                dict({"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}, **normalizer),
                {"type": "BertPreTokenizer"}, template("[CLS]", "[SEP]", vocab), {"type": "WordPiece", "prefix": "##", "cleanup": True},
                dict({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab}, **model))


def level(**more):
    return dict({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}, **more)


def byte_level(names, pre, post, **model):
    vocab = {t: i for i, t in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()) + ["\u0120a"] + names)}
    if post["type"] == "RobertaProcessing":
        post = dict(post, sep=["</s>", vocab["</s>"]], cls=["<s>", vocab["<s>"]])
    return file([added(vocab[t], t, special=True) for t in names], None, pre, post, level(),
                dict({"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False, "vocab": vocab,
                      "merges": ["\u0120 a"]}, **model))


def pieces(names, steps, pre, unk, **model):
    meta = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": pre, "split": True}
    mapped = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap({"\u4e2d": "b"})).decode()}
    vocab = [[t, 0.0] for t in names] + [["\u2581", -2.0], ["a", -1.5], ["b", -1.6], ["A", -1.7], ["\u2581a", -1.0], ["\u00c9", -3.0], ["\"", -3.5], ["<mask>", 0.0]]
    ids = {t[0]: i for i, t in enumerate(vocab)}
    cls, sep = ("<s>", "</s>") if "<s>" in ids else ("[CLS]", "[SEP]")
    return file([added(ids[t], t, special=True) for t in names if "NOT" not in t] + [added(len(vocab) - 1, "<mask>", special=True, lstrip=True)],
                {"type": "Sequence", "normalizers": [mapped if s == "map" else s for s in steps]},
                {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, meta]}, template(cls, sep, ids), meta,
                dict({"type": "Unigram", "unk_id": unk, "vocab": vocab}, **model))


def named(name, **more):
    return dict({"tokenizer_class": name}, **more)


def bert_cases():
    common = [({"model_type": "bert"}, None), ({"model_type": "distilbert"}, {}), ({"model_type": "electra"}, named("ElectraTokenizer")),
              ({"model_type": "bert"}, named("BertTokenizer", strip_accents=None, do_basic_tokenize=True)),
              ({"model_type": "distilbert"}, named("DistilBertTokenizerFast", do_lower_case=False)), ({"model_type": "bert"}, {"do_lower_case": False, "strip_accents": True}),
              ({"model_type": "bert"}, {"tokenize_chinese_chars": False, "strip_accents": False}), ({"model_type": "bert", "tokenizer_class": "BertTokenizer"}, {"do_lower_case": False}),
              ({"model_type": "bert", "tokenizer_class": "PreTrainedTokenizerFast"}, {"do_lower_case": False}),
              ({"model_type": "bert"}, named("PreTrainedTokenizerFast", do_lower_case=False, add_bos_token=True, bos_token="[CLS]")),
              ({"model_type": "bert"}, named("TokenizersBackend", add_eos_token=True, eos_token="[SEP]")), ({"model_type": "roberta"}, named("BertTokenizer", do_lower_case=False)),
              ({"model_type": "mpnet"}, named("MPNetTokenizer", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", mask_token="[MASK]", bos_token="[CLS]", eos_token="[SEP]"))]
    for normalizer, why in [({}, None), ({"lowercase": False}, "do_lower_case"), ({"strip_accents": False}, "strip_accents"), ({"handle_chinese_chars": False}, "tokenize_chinese_chars"),
                            ({"lowercase": False, "strip_accents": True}, "do_lower_case"), ({"clean_text": False}, None)]:
        yield bert(**normalizer), [(c, s, why + " " + MISSING if s is None and why else None) for c, s in common]
    yield dict(bert(), normalizer={"type": "Lowercase"}, pre_tokenizer={"type": "WhitespaceSplit"}, post_processor=None), common[1:6]
    yield bert({"max_input_chars_per_word": 50}), [({"model_type": "bert"}, {}, "max_input_chars_per_word of the model"), ({"model_type": "bert"}, named("PreTrainedTokenizerFast"))]
    yield bert({"unk_token": "[PAD]"}), [({"model_type": "bert"}, {}, "unk_token of the model")]
    yield bert(), [({"model_type": "gpt2"}, {}, "type of the model"), ({"model_type": "bert"}, named("LlamaTokenizer"), "tokenizer_class \"LlamaTokenizer\"")]


def input_cases():
    """Segment ids are passed to the model where the class or model_input_names says so."""
    plain, typed = ["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]
    names = ["BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"]
    yield bert(), [({"model_type": kind}, settings) for kind in ("bert", "distilbert", "electra") for settings in (None, {}, {"model_input_names": plain})] + [
        ({"model_type": "bert"}, named(name, **more)) for name in names for more in ({}, {"model_input_names": plain}, {"model_input_names": typed}, {"model_input_names": []})] + [
        ({"model_type": "bert"}, {"model_input_names": name}, "model_input_names of file") for name in (None, {})]
    albert = pieces(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], ["map"], "always", 1)
    yield albert, [({"model_type": "albert"}, settings) for settings in ({}, named("AlbertTokenizerFast"), {"model_input_names": typed})]
    xlnet = pieces(["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>"], ["map"], "always", 0)
    yield xlnet, [({"model_type": "bert"}, named("XLNetTokenizer", model_input_names=typed))]


def decode_cases():
    """clean_up_tokenization_spaces; ends of words come twice, behind a blank and behind another end."""
    clean, bpe = "clean_up_tokenization_spaces", "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"
    ends = [".", "?", "!", ",", "' ", "'", "n't", "'m", "'s", "'ve", "'re", " n't", "  '  ", " '", " ' ' a", ". .", "''s"]
    words = [t for i, end in enumerate(ends) for t in (end, "x%d" % i)] + ["\u00c9 n'", " '  's", "a . b", " ", " .", "  ", "n't  'm"]
    word = bert()
    size = len(word["model"]["vocab"])
    word["model"]["vocab"].update({t: size + i for i, t in enumerate(t for t in words if t != "'")})
    yield word, [({"model_type": "bert"}, settings) for settings in ({clean: True}, {clean: False}, {clean: None, bpe: True}, named("PreTrainedTokenizerFast", **{clean: True}))]
    yield dict(word, decoder=None), [({"model_type": "bert"}, named("PreTrainedTokenizerFast", **{clean: value})) for value in (True, False)]
    albert = pieces(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], ["map"], "always", 1)
    more = dict.fromkeys(t.replace(" ", "\u2581") for w in words for t in (w, "\u2581" + w) if w != " ")
    albert["model"]["vocab"] += [[t, -4.0] for t in more]
    yield albert, [({"model_type": "albert"}, {clean: value}) for value in (True, False)]
    gpt2 = byte_level(["<|endoftext|>"], level(), level())
    size = len(gpt2["model"]["vocab"])
    gpt2["model"]["vocab"].update({t.replace(" ", "\u0120"): size + i for i, t in enumerate(t for t in words if "\u00c9" not in t and len(t) > 1)})
    yield gpt2, [({"model_type": "gpt2"}, settings) for settings in ({clean: True}, {clean: True, bpe: True}, {clean: False, bpe: True}, {clean: True, bpe: False})]
    yield bert(), [({"model_type": "bert"}, {clean: "yes"}, clean)]


def lower_cases():
    """do_lower_case of sentence_bert_config.json."""
    lower = {"sentence_bert_config.json": {"do_lower_case": True}}

    def more(data):
        size = max([len(data["model"]["vocab"]) - 1] + [t["id"] for t in data["added_tokens"]]) + 1
        return dict(data, added_tokens=data["added_tokens"] + [added(size, "Ab", special=False, normalized=True), added(size + 1, "\u00c9a", special=False), added(size + 2, "[MA", special=True)])
    general = named("PreTrainedTokenizerFast")
    cases = [({"model_type": "bert"}, settings, None, lower) for settings in (general, {"do_lower_case": False}, {"do_lower_case": False, "strip_accents": True}, {})]
    yield more(bert(lowercase=False)), cases
    yield dict(more(bert()), normalizer={"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}]}), cases[:1]
    yield dict(more(bert()), normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}]}), cases[:1]
    yield dict(more(bert()), normalizer=None), cases[:1]
    yield more(byte_level(["<|endoftext|>"], level(), level())), [({"model_type": "gpt2"}, settings, None, lower) for settings in ({}, {"add_prefix_space": True}, general)]
    yield more(pieces(["<s>", "<pad>", "</s>", "<unk>"], ["map"], "always", 3)), [({"model_type": "xlm-roberta"}, settings, None, lower) for settings in ({}, general)]
    albert = pieces(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], ["map"], "always", 1)
    yield more(albert), [({"model_type": "albert"}, settings, None, lower) for settings in ({}, {"do_lower_case": False}, general)]


def first_cases():
    """Metaspace "first", where normalizers delete the first characters."""
    for steps in ([{"type": "Strip", "strip_left": True, "strip_right": True}], [], [{"type": "Nmt"}]):
        data = pieces(["<s>", "<pad>", "</s>", "<unk>"], steps, "first", 3)
        yield dict(data, pre_tokenizer=data["pre_tokenizer"]["pretokenizers"][1]), [({"model_type": "xlm-roberta"}, named("PreTrainedTokenizerFast"))]
        yield data, [({"model_type": "xlm-roberta"}, named("PreTrainedTokenizerFast"))]


def blank_cases():
    """Added tokens of blanks, which those beside them swallow."""
    base = bert()
    size = len(base["model"]["vocab"])
    for text in (" ", "  ", " b"):
        for left, right in ((False, False), (False, True), (True, True)):
            for normalized in (False, True):
                tokens = [added(size, "<mask>", lstrip=True, rstrip=True, normalized=normalized), added(size + 1, text, lstrip=left, rstrip=right, normalized=normalized),
                          added(13, "\u4e2d", rstrip=True, normalized=normalized)]
                yield dict(base, added_tokens=base["added_tokens"] + tokens), [({"model_type": "bert"}, named("PreTrainedTokenizerFast"))]
                data = byte_level(["<|endoftext|>"], level(), level())
                yield dict(data, added_tokens=data["added_tokens"] + [dict(t, id=258 + i) for i, t in enumerate(tokens)]), [({"model_type": "gpt2"}, named("PreTrainedTokenizerFast"))]


def trim_cases():
    """RobertaProcessing's offsets of tokens that are not found whole: what they stand for has blanks."""
    for trim, prefix in ((True, True), (True, False), (False, True)):
        data = pieces(["<s>", "<pad>", "</s>", "<unk>"], [], "never", 3)
        post = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": trim, "add_prefix_space": prefix}
        yield dict(data, pre_tokenizer=None, post_processor=post), [({"model_type": "roberta"}, named("PreTrainedTokenizerFast"))]


def added_cases():
    def token(text, **more):
        return dict({"content": text, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}, **more)
    decoder = {str(i): token(t) for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])}
    data = bert()
    size = len(data["model"]["vocab"])
    cases = [({"added_tokens_decoder": dict(decoder, **change)}, None) for change in [
        {}, {"4": token("[MASK]", lstrip=True)}, {"4": token("[MASK]", rstrip=True, normalized=True)}, {"4": token("[MASK]", single_word=True)}, {"4": token("[MASK]", special=False)},
        {str(size + 1): token("b["), str(size): {"content": "<mask>"}}]]
    cases += [({"additional_special_tokens": ["b", {"content": "e", "__type": "AddedToken"}]}, None), ({"extra_special_tokens": {"image_token": "b"}}, None), ({"mask_token": "b"}, None),
              ({"mask_token": {"content": "b", "lstrip": True, "rstrip": False, "single_word": False, "normalized": False, "__type": "AddedToken"}}, None),
              ({"split_special_tokens": True}, "split_special_tokens of file"), ({"added_tokens_decoder": dict(decoder, **{"4": token("<mask>")})}, "has id 4")]
    twice = "\"normalized\" in one place"
    yield data, [({"model_type": "bert"}, named(name, **settings), twice if name == "TokenizersBackend" and settings is cases[2][0] else why)
                 for name in ("BertTokenizer", "TokenizersBackend") for settings, why in cases]
    yield dict(data, added_tokens=data["added_tokens"][:4]), [({"model_type": "bert"}, {}), ({"model_type": "bert"}, named("TokenizersBackend"))]


def special_cases():
    """Added tokens by every way into a folder: dropped, named, listed, said to be none."""
    def token(text, **more):
        return dict({"content": text, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}, **more)

    def typed(text, **more):
        return token(text, __type="AddedToken", **more)
    config = {"model_type": "bert"}
    data = bert()
    size = len(data["model"]["vocab"])
    data["added_tokens"] += [added(size, "b[", special=False), added(size + 1, "<mask>", special=True)]
    decoder = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in data["added_tokens"]}
    short = {k: v for k, v in decoder.items() if k in ("1", "2", "3", str(size))}
    ways = [
        ({"added_tokens_decoder": decoder}, {}), ({"added_tokens_decoder": short}, {}), ({"added_tokens_decoder": {}}, {}),
        ({"added_tokens_decoder": short, "bos_token": "a", "eos_token": typed("<e>", rstrip=True)}, {"special_tokens_map.json": {"bos_token": "b"}}),
        ({"bos_token": "<b>", "eos_token": "a b", "mask_token": None}, {}), ({"pad_token": "<mask>", "extra_special_tokens": ["<x>", typed("a", single_word=True)]}, {}),
        ({"image_token": "b", "video_token": typed("e", lstrip=True), "a_token": 5}, {}), ({"extra_special_tokens": {"image_token": "b"}, "additional_special_tokens": ["e"]}, {}),
        ({"extra_special_tokens": [], "additional_special_tokens": ["e"]}, {}), ({"extra_special_tokens": ["b"], "additional_special_tokens": ["e"]}, {}),
        ({}, {"special_tokens_map.json": {"additional_special_tokens": ["b", "a b"], "cls_token": token("[CLS]", lstrip=True), "mask_token": "<m>"}}),
        ({"additional_special_tokens": ["e"]}, {"special_tokens_map.json": {"additional_special_tokens": ["b"]}}),
        ({"image_token": "b"}, {"special_tokens_map.json": {"image_token": "a", "video_token": "e", "extra_special_tokens": ["\u4e2d", token("b", lstrip=True)]}}),
        ({"extra_special_tokens": ["b"]}, {"special_tokens_map.json": {"extra_special_tokens": {"image_token": "e"}}}),
        ({"additional_special_tokens": ["e"]}, {"special_tokens_map.json": {"extra_special_tokens": None, "bos_token": "b"}}),
        ({"extra_special_tokens": ["e"]}, {"special_tokens_map.json": {"extra_special_tokens": {}, "additional_special_tokens": ["b"]}}),
        ({"extra_special_tokens": {}, "additional_special_tokens": ["e"]}, {}),
        ({"bos_token": "``"}, {"added_tokens.json": {"``": size + 2, "a  b": size + 3, "e": 11}}),
        ({"added_tokens_decoder": decoder}, {"added_tokens.json": {"``": size + 2}, "special_tokens_map.json": {"additional_special_tokens": ["b"]}})]
    yield data, [(config, named(name, **settings), None, files) for name in ("BertTokenizer", "TokenizersBackend") for settings, files in ways]
    yield data, [(config, named("BertTokenizer"), why, files) for files, why in [({"special_tokens_map.json": {"add_bos_token": True}}, "field \"add_bos_token\" of file"), ({"special_tokens_map.json": {"do_lower_case": False}}, "field \"do_lower_case\" of file"),
                       ({"added_tokens.json": {"<x>": size + 7}}, "has id %d" % (size + 7))]]
    # A token of added_tokens.json is special where another file says so; "AB" is found in normalised text only when it is not.
    plain = {"clean_up_tokenization_spaces": False}
    late = {"added_tokens.json": {"AB": size + 2}}
    ways = [(dict(plain, **settings), dict(late, **files)) for settings, files in [
        ({}, {}), ({"bos_token": "AB"}, {}), ({"bos_token": typed("AB")}, {}), ({"extra_special_tokens": ["AB"]}, {}), ({"extra_special_tokens": [typed("AB")]}, {}),
        ({}, {"special_tokens_map.json": {"bos_token": "AB"}}), ({}, {"special_tokens_map.json": {"bos_token": token("AB")}}),
        ({"bos_token": "AB"}, {"special_tokens_map.json": {"bos_token": "e"}}), ({"bos_token": "e"}, {"special_tokens_map.json": {"bos_token": "AB"}}),
        ({}, {"special_tokens_map.json": {"extra_special_tokens": ["AB"]}}), ({}, {"special_tokens_map.json": {"extra_special_tokens": [token("AB")]}}),
        ({}, {"special_tokens_map.json": {"additional_special_tokens": ["AB"]}}), ({"image_token": "AB"}, {}), ({}, {"special_tokens_map.json": {"image_token": "AB"}})]]
    # What two files say of one name, and flags that are left out.
    ways += [(dict(plain, **settings), files) for settings, files in [
        ({"image_token": typed("AB")}, {"special_tokens_map.json": {"image_token": "a"}}), ({"image_token": "AB"}, {"special_tokens_map.json": {"image_token": token("a")}}),
        ({"image_token": typed("AB")}, {"special_tokens_map.json": {"image_token": token("a")}}),
        ({}, {"special_tokens_map.json": {"extra_special_tokens": [token("AB")]}}),
        ({"extra_special_tokens": [{"content": "AB", "special": True, "__type": "AddedToken"}]}, {}), ({"extra_special_tokens": [{"content": "AB", "__type": "AddedToken"}]}, {}),
        ({"extra_special_tokens": [typed("AB", special=True)]}, {}), ({"extra_special_tokens": [typed("AB")]}, {}),
        ({"bos_token": typed("a", lstrip=True), "image_token": "a"}, {}), ({"bos_token": "a", "image_token": typed("a", lstrip=True)}, {})]]
    yield data, [(config, named(name, **settings), None, files) for name in ("BertTokenizer", "TokenizersBackend") for settings, files in ways]
    mpnet = bert()
    mpnet["model"]["vocab"].update({t: size + i for i, t in enumerate(["<s>", "</s>", "<pad>", "<mask>"])})
    yield mpnet, [({"model_type": "mpnet"}, {}), ({"model_type": "mpnet"}, {"mask_token": typed("<mask>", rstrip=True)}), ({"model_type": "mpnet"}, {"mask_token": typed("<mask>", special=True)}),
                  ({"model_type": "mpnet"}, {"mask_token": "<mask>", "image_token": "<mask>"}), ({"model_type": "mpnet"}, {"mask_token": "<mask>", "image_token": typed("<mask>", rstrip=True)}),
                  ({"model_type": "mpnet"}, {"mask_token": "b", "image_token": "b"})]
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    for extra in ([], ["<unk>NOTUSED"]):
        data = pieces(names + extra, ["map"], "always", 3)
        yield data, [({"model_type": "camembert"}, settings, None, files) for settings, files in [
            ({}, {}), ({"additional_special_tokens": ["<s>NOTUSED"]}, {}), ({"additional_special_tokens": None}, {}), ({"extra_special_tokens": {"image_token": "b"}}, {}),
            ({}, {"special_tokens_map.json": {"additional_special_tokens": ["b"], "mask_token": "<mask>"}})]]
    data = pieces(["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>"], ["map"], "always", 0)
    yield data, [({"model_type": "bert"}, named("XLNetTokenizer", **settings), why) for settings, why in [
        ({}, None), ({"additional_special_tokens": ["b"]}, None), ({"eos_token": "<mask>"}, None), ({"unk_id": 0}, None), ({"unk_id": 2}, "unk_id 2 of file")]]


def bytes_cases():
    gpt2 = [({"model_type": "gpt2"}, None), ({"model_type": "gpt2"}, {}), ({"model_type": "gpt2"}, named("GPT2Tokenizer", add_prefix_space=True)),
            ({"model_type": "gpt2"}, named("GPT2TokenizerFast", add_prefix_space=False, trim_offsets=False)), ({"model_type": "gpt2"}, {"add_prefix_space": True}),
            ({"model_type": "gpt2"}, named("GPT2Tokenizer", add_bos_token=True, add_eos_token=True, bos_token="<|endoftext|>")),
            ({"model_type": "gpt2"}, named("TokenizersBackend", add_bos_token=True, bos_token="<|endoftext|>", add_prefix_space=True))]
    for pre, post in [({}, {"add_prefix_space": True}), ({}, {"trim_offsets": False}), ({"add_prefix_space": True}, {}), ({"add_prefix_space": True}, {"add_prefix_space": True}),
                      ({"use_regex": False}, {})]:
        yield byte_level(["<|endoftext|>"], level(**pre), level(**post)), [
            (c, s, "add_prefix_space " + MISSING if s is None and pre.get("add_prefix_space") else None) for c, s in gpt2]
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    for trim, prefix in [(True, True), (False, False)]:
        post = {"type": "RobertaProcessing", "sep": None, "cls": None, "trim_offsets": trim, "add_prefix_space": prefix}
        yield byte_level(names, level(add_prefix_space=prefix), post), [
            ({"model_type": "roberta"}, None, "add_prefix_space " + MISSING if prefix else None), ({"model_type": "roberta"}, {}),
            ({"model_type": "roberta"}, named("RobertaTokenizer", add_prefix_space=True, trim_offsets=False)),
            ({"model_type": "roberta"}, named("RobertaTokenizerFast", trim_offsets=True, add_bos_token=True)), ({"model_type": "roberta"}, named("PreTrainedTokenizerFast"))]
    yield byte_level(["<|endoftext|>"], level(), level(), ignore_merges=True), [({"model_type": "gpt2"}, {}, "ignore_merges of the model")]


def pieces_cases():
    xlm, camembert = ["<s>", "<pad>", "</s>", "<unk>"], ["<s>", "<pad>", "</s>", "<unk>", "<unk>NOTUSED"]
    albert, xlnet = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>"]
    ends = [{"type": "Strip", "strip_left": False, "strip_right": True}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}]
    quotes = [{"type": "Replace", "pattern": {"String": q}, "content": "\""} for q in ("``", "''")]
    folds = quotes + [{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]
    for names, kind, name in [(xlm, "xlm-roberta", "XLMRobertaTokenizer"), (camembert, "camembert", "CamembertTokenizer")]:
        for steps, pre in [(["map"], "always"), (["map"] + ends, "always"), ([], "never")]:
            yield pieces(names, steps, pre, 3), [({"model_type": kind}, None, "add_prefix_space " + MISSING if pre == "never" else None), ({"model_type": kind}, {}),
                                                 ({"model_type": "bert"}, named(name + "Fast", add_prefix_space=False)), ({"model_type": "bert"}, named("PreTrainedTokenizerFast"))]
    yield pieces(["<unk>"] + xlm[:3], ["map"], "always", 0), [({"model_type": "xlm-roberta"}, {}, "unk_id of the model")]
    yield pieces(xlm, ["map"], "always", 3, byte_fallback=True), [({"model_type": "xlm-roberta"}, {}, "byte_fallback of the model")]
    for steps, why in [(folds + ["map"], None), (folds[:4] + ["map"], "do_lower_case"), (quotes + folds[4:], "keep_accents")]:
        yield pieces(albert, steps, "always", 1), [
            ({"model_type": "albert"}, None, why + " " + MISSING if why else None), ({"model_type": "albert"}, {}), ({"model_type": "albert"}, named("AlbertTokenizer", do_lower_case=False)),
            ({"model_type": "albert"}, named("AlbertTokenizerFast", keep_accents=True, add_prefix_space=False)), ({"model_type": "albert"}, named("PreTrainedTokenizerFast"))]
    yield dict(pieces(albert, folds, "always", 1), post_processor=None), [({"model_type": "albert"}, {})]
    yield pieces(xlnet, folds + ["map"], "always", 0), [({"model_type": "bert"}, named("XLNetTokenizer", keep_accents=True, add_prefix_space=False)),
                                                       ({"model_type": "bert"}, named("XLNetTokenizer", do_lower_case=True))]


def answer(data, config, settings, files):
    folder = tempfile.mkdtemp()
    for name, content in (("tokenizer.json", data), ("config.json", config), ("tokenizer_config.json", settings), *files.items()):
        if content is not None:
            with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
                json.dump(content, out, ensure_ascii=False)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        normalizer = tokenizer.backend_tokenizer.normalizer
        # as the module Transformer of sentence-transformers does
        if files.get("sentence_bert_config.json", {}).get("do_lower_case") and not _has_lowercase(normalizer):
            steps = list(normalizer) if isinstance(normalizer, normalizers.Sequence) else [normalizer] if normalizer is not None else []
            tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase()] + steps)
    finally:
        shutil.rmtree(folder)
    encodings = [tokenizer(*texts, return_offsets_mapping=True) for texts in [(text,) for text in TEXTS] + [PAIR]]
    decoded = tokenizer.decode(list(range(len(tokenizer))), skip_special_tokens=True)
    return decoded.encode().hex(), *[" ".join("%d:%d:%d:%d" % (i, t, *o) for i, t, o in zip(e["input_ids"], e.get("token_type_ids", [0] * len(e["input_ids"])), e["offset_mapping"])) for e in encodings]


def compact(data):
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def main():
    transformers.logging.set_verbosity_error()
    with open(os.path.join(HERE, "settings.txt"), "w", newline="\n", encoding="utf-8") as out:
        for data, cases in [case for make in (bert_cases, input_cases, decode_cases, lower_cases, first_cases, blank_cases, trim_cases, added_cases, special_cases, bytes_cases, pieces_cases) for case in make()]:
            out.write("F %s\n" % compact(data))
            for case in cases:
                config, settings, why, files = (*case, None, None)[:4]
                for name, content in (files or {}).items():
                    out.write("L\n" if name == "sentence_bert_config.json" else"%s %s\n" % ("S" if name == "special_tokens_map.json" else "A", compact(content)))
                out.write("C %s\t%s\t%s\n" % (compact(config), compact(settings) if settings is not None else "-", why or "-"))
                if not why:
                    decoded, *tokens, pair = answer(data, config, settings, files or {})
                    out.write("".join("T %s\t%s\n" % (text.encode().hex(), t) for text, t in zip(TEXTS, tokens)) + "P %s\n" % pair)
                    if "clean_up_tokenization_spaces" in (settings or {}):
                        out.write("D %s\n" % decoded)


if __name__ == "__main__":
    main()
