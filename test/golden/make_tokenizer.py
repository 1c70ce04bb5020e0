#!/usr/bin/env python3
"""Write test/golden/tokenizer/: a small vocabulary, tokenizer.json files, and what the Rust library makes of many strings.

    make_tokenizer.py            (needs tokenizers 0.23.3; the seed is fixed)

tokens.txt holds records of lines:
    T HEX                        a text (UTF-8 in hexadecimal)
    U HEX                        its pair, for the next results only
    R VARIANT MODE MAX TOKENS    MODE s (as it is), p (special tokens not recognised), b (none added);
                                 MAX 0 or longest_first; TOKENS id:type:start:end:word ... TAB decoded text in hexadecimal
VARIANT is the name of a folder of variants() below; test_tokenizer.c knows the same ones.
"""
import json
import os
import random

from tokenizers import Tokenizer, normalizers, pre_tokenizers

from compare_tokenizers import load, random_texts, show

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer")
CONFIGS = {
    "uncased": {"do_lower_case": True},
    "cased": {"do_lower_case": False},
    "accents": {"do_lower_case": True, "strip_accents": False},
}
SENTENCES = [
    "Hello, my dog is cute.", "The quick brown fox jumps over the lazy dog; it's 3.14 miles away!",
    "DON'T don't don’t — “quoted” text…", "unaffable unbelievably re-estimated", "a  b\n\nc\td ",
    "Größe und Straße: ÖÄÜ öäüß", "Ein Hund läuft über die Brücke.", "L'été, le garçon a mangé une pêche.", "Où est l'œuvre d'Hélène ?",
    "El niño comió piñas en Logroño.", "¿Dónde está la estación?", "Привет, как дела? Ёлка и йогурт.", "Москва — столица России.",
    "ΟΔΟΣ και Αθήνα", "Η γρήγορη αλεπού", "İstanbul ve Iğdır şehirleri", "Çok güzel bir gün", "Tiếng Việt có dấu thanh điệu", "Hà Nội là thủ đô của Việt Nam.",
    "हिन्दी में लिखा हुआ वाक्य", "नमस्ते दुनिया", "ภาษาไทยไม่มีช่องว่าง", "สวัสดีชาวโลก", "مرحبا بالعالم", "اللُّغَةُ العَرَبِيَّةُ", "שָׁלוֹם עולם", "עברית ללא ניקוד",
    "中文分词很有趣。", "我爱北京天安门", "日本語のテキストです。", "パンとビール、で", "한국어 문장입니다.", "안녕하세요 세계", "Ćao, ž ő ű š đ", "Zażółć gęślą jaźń",
    "România are orașe frumoase: Iași, Brașov", "ᏣᎳᎩ ꭰꭱ", "ქართული ენა", "Հայերեն լեզու", "বাংলা ভাষা", "தமிழ் மொழி", "မြန်မာဘာသာ", "ខ្មែរ", "አማርኛ",
]
TRICKY = [
    "", " ", " \t\n ", "\u00a0\u3000\u2028", "[CLS] x [SEP]", "[cls] x [sep]", "x[SEP]y [MASK].", "[SEP][SEP]", "[ SEP ]", "[UNK] [PAD]", "[MASK][MAS[MASK]",
    "\u0096", "\u200e", "\u00ad", "a\u00adb", "a\u200db", "a\u200cb", "x\x00y", "\ufffd", "\ufeffbom", "\x07\x0b\x0c\x1f\x7f", "a\x85b", "a\x0bb",
    "a" * 99, "a" * 100, "a" * 101, "é" * 100, "é" * 101, "e\u0301" * 51, "e\u0301" * 50, "中文abc", "abc中文", "\U0002b820\U0002b91f\U0002b920\U0002ceaf", "𠀀𪛟",
    "\uf900\ufaff\U0002f800", "🤗", "I ❤ 🍕!", "👩\u200d👧\u200d👦", "\U0001fae8 new emoji", "é e\u0301 E\u0301", "q\u0323\u0307 q\u0307\u0323", "\u0344 \u0f73\u0f71 \u0f71\u0f73",
    "\u1e9b\u0323", "\u212b \u2126 \u212a", "ﬁ ﬀ ﬆ", "½ ² Ⅷ", "\u037e \u1fef \u0387", "≮ ≠ ≯", "\u1bab\u0301", "x\u0301\u1bab\u0323y", "\u0301abc", "中\u0301文",
    "İ", "I\u0307", "ǅ ǆ Ǆ", "ẞ ß", "ΣΑΣ σας", "K", "\U00010400 \U00010428", "\u1c89\ua7cb", "\u180e \u200b \u2060", "\ue000\U000f0000", "\U000e0001", "$+<=>^`|~", "¡¿§¶«»",
    "٪ ؟ ،", "。、「」", "\u05f3\u05be", "don 't do not isn't I 'm they 're", "foo , bar . baz !", "a.b.c", "...---...", "C++ #1 @me", "http://a.b/c?d=e&f#g", "1,234.56",
    "\u2060a\u2060", "𝒳𝓎", "ℌello", "Ａｂｃ１２３", "\u3164", "\U0001d15e", "a\U0001d165\U0001d16e\u0301", "\u16ff\U00016ff0", "\u0b94\u0bcb", "\u0dde", "ꯍ꯭", "x" + "\u0301" * 40 + "y",
    "x" + "\u0301\u0323\u0334\u1bab" * 12 + "y", "[UNK", "##ing ##a", "a##b", "\u2019s", "'s 's", "n't", "x \u0300\u0301", "\r\n\r", "tab\tnew\nline",
]
BASE = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "##", "##ing"]


def vocabulary(texts):
    """Characters and pieces of the texts, some left out so that unknown words appear."""
    tokens = dict.fromkeys(BASE)
    for lower in (True, False):
        normalizer = normalizers.BertNormalizer(lowercase=lower)
        pre = pre_tokenizers.BertPreTokenizer()
        words = []
        for text in texts:
            words += [w for w, _ in pre.pre_tokenize_str(normalizer.normalize_str(text))]
        for number, word in enumerate(dict.fromkeys(words)):
            if number % 3 == 0 and len(word) < 20:
                tokens[word] = None
            if number % 2 == 0 and len(word) > 4:
                tokens[word[:3]] = None
                tokens["##" + word[3:6]] = None
            for char in word[:20]:
                if (ord(char) * 31 + 7) % 23:
                    tokens[char] = None
                    tokens["##" + char] = None
    return list(tokens)


def added(token_id, content, **flags):
    token = dict(id=token_id, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
    token.update(flags)
    return token


def pipelines():
    """Small tokenizer.json files, one for each thing that is not plain BERT."""
    words = ["[UNK]", "[CLS]", "[SEP]", "a", "##a", "b", "##b", "ab", "ba", "the", "new", "york", "New", "York", ".", ",", "é", "e", "##e", "-", "--", "mask", "x", "X",
             "##x", "\u0301", "##\u0301", "<", ">", "중", "foo", "Foo", "FOO", "[MASK]", "ny", "i", "##i", "##\u0307", "_", "##_", "1", "##1", "##.", "##,", "##-"]
    vocab = {word: i for i, word in enumerate(words)}
    n = len(words)
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 12, "vocab": vocab}
    specials = [added(0, "[UNK]", special=True), added(1, "[CLS]", special=True), added(2, "[SEP]", special=True),
                added(words.index("[MASK]"), "[MASK]", special=True, lstrip=True)]
    bert = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    template = {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
                "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 2}}, {"SpecialToken": {"id": "two", "type_id": 1}},
                         {"Sequence": {"id": "A", "type_id": 1}}],
                "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]}, "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]},
                                   "two": {"id": "two", "ids": [2, 1], "tokens": ["[SEP]", "[CLS]"]}}}
    more = [added(n, "New York", normalized=True), added(n + 1, "<x>", single_word=True), added(n + 2, "<y>", rstrip=True, lstrip=True),
            added(n + 3, "ÉÉ", normalized=True), added(n + 4, "<x><x>"), added(vocab["foo"], "foo", normalized=True, single_word=True),
            added(n + 5, "b b", normalized=True, lstrip=True, rstrip=True)]

    def file(added_tokens, normalizer, pre_tokenizer, post, decoder, **changes):
        return {"version": "1.0", "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
                "padding": {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "[UNK]"},
                "added_tokens": added_tokens, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post, "decoder": decoder,
                "model": dict(model, **changes)}

    wordpiece = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    return {
        "added": file(specials + more, bert, {"type": "BertPreTokenizer"}, template, wordpiece),
        "sequence": file(specials, {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"}]},
                         {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "Punctuation", "behavior": "Isolated"}]},
                         {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]}, dict(wordpiece, cleanup=False)),
        "split": file(specials, {"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "WhitespaceSplit"}, None, None),
        "bare": file([], None, {"type": "Punctuation", "behavior": "Isolated"}, None, wordpiece),
        "nopre": file([], bert, None, template, wordpiece),
        "whitespace": file(specials, bert, {"type": "Whitespace"}, None, wordpiece),
    }


def pipeline_texts():
    rng = random.Random(5)
    parts = ["New York", "new  york", "<x>", "<y>", "<x><x>", " ", "  ", "\t", "a", "b", "ab", "É", "e\u0301", "éé", "ÉÉ", "[MASK]", "[SEP]", "[CLS]", "foo", "FOO", "Foo", ".", ",",
             "--", "중", "\u1100", "İ", "b b", "B B", "x_1", "\u0301", "\u3000", "中", "\u00ad", "aaaaaaaaaaaaa", "abababababab"]
    texts = ["", " ", "  a  ", "New York <x> <y> <x><x>", "<x>a <x> a<x> <x>", " <y>  a", "[MASK] a  [MASK]", "aaaaaaaaaaaa aaaaaaaaaaaaa", "foo foobar xfoo Foo FOO.", "ab [SEP] ba"]
    for _ in range(36):
        texts.append("".join(rng.choice(parts) for _ in range(rng.randrange(1, 9))))
    return texts


def results(out, name, tokenizer, text, pair=None, modes=("s",), limit=0):
    tokenizer.no_truncation()
    if limit:
        tokenizer.enable_truncation(limit)
    for mode in modes:
        tokenizer.encode_special_tokens = mode == "p"
        encoding = tokenizer.encode(text, pair, add_special_tokens=mode != "b")
        out.append("R %s %s %d %s" % (name, mode, limit, show(tokenizer, encoding)))


def main():
    texts = SENTENCES + TRICKY
    for first, second in zip(SENTENCES[0::2], SENTENCES[1::2]):
        texts.append(first.upper() + " " + second.lower() + "!")
    texts += [text[:32] for text in random_texts(110, 7)]
    vocab = vocabulary(SENTENCES + TRICKY)
    os.makedirs(HERE, exist_ok=True)
    with open(os.path.join(HERE, "vocab.txt"), "w", encoding="utf-8", newline="\n") as out:
        out.writelines(word + "\n" for word in vocab if "\n" not in word and "\r" not in word)
    out, tokenizers = [], {}
    for name, config in CONFIGS.items():
        with open(os.path.join(HERE, "tokenizer_config.json"), "w") as file:
            json.dump(config, file)
        tokenizers[name] = load(HERE)
    os.remove(os.path.join(HERE, "tokenizer_config.json"))
    for number, text in enumerate(texts):
        out.append("T " + text.encode().hex())
        for name in CONFIGS:
            results(out, name, tokenizers[name], text)
        if "[" in text:
            results(out, "uncased", tokenizers["uncased"], text, modes="pb")
        if number % 9 == 0:
            out.append("U " + texts[(number * 7 + 3) % len(texts)].encode().hex())
            results(out, "uncased", tokenizers["uncased"], text, texts[(number * 7 + 3) % len(texts)])
            for limit in (3, 4, 9, 14):
                results(out, "uncased", tokenizers["uncased"], text, texts[(number * 7 + 3) % len(texts)], limit=limit)
            out.append("T " + text.encode().hex())
            for limit in (2, 3, 8):
                results(out, "cased", tokenizers["cased"], text, limit=limit)
    for name, data in pipelines().items():
        path = os.path.join(HERE, name + ".json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(data, file, ensure_ascii=False, separators=(",", ":"))
        tokenizers[name] = Tokenizer.from_file(path)
        tokenizers[name].no_padding()
    for number, text in enumerate(pipeline_texts()):
        out.append("T " + text.encode().hex())
        for name in pipelines():
            results(out, name, tokenizers[name], text, modes="sp" if number < 20 else "s")
        out.append("U " + b"a foo".hex())
        for name in ("added", "sequence", "split"):
            results(out, name, tokenizers[name], text, "a foo", modes="sb")
    with open(os.path.join(HERE, "tokens.txt"), "w", newline="\n") as file:
        file.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
