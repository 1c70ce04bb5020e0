#!/usr/bin/env python3
"""Write unicode_tables.h: what the Rust `tokenizers` library does with every code point.

    make_unicode_tables.py > unicode_tables.h        (needs tokenizers 0.23.3)

The library mixes tables of several Unicode versions: categories of Unicode 8.0,
decompositions and combining classes of 9.0, lower-casing, White_Space and \\w of its
compiler's.  So nothing is taken from a Unicode file: each property is measured by
running the library over all code points.  Combining classes, whose numbers cannot be
seen from outside, are those of Python's unicodedata (stable by Unicode's policy)
for the code points that the library is seen to reorder.
"""
import struct
import sys
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

(REMOVED, SPACE, PUNCTUATION, MN, CJK, WORD, ACCENT, MAPPED,
 LETTER, NUMBER, EXTEND, CONTROL, PREPEND, PICTOGRAPH, NUMERIC) = (1 << i for i in range(15))
SHIFT = 8
BLOCK = 1 << SHIFT
MAP_LIMIT = 0x30000


def bert(**on):
    options = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    options.update(on)
    return normalizers.BertNormalizer(**options).normalize_str


def charsmap(firsts):
    """A character map with keys of one byte, all replaced by Y: it shows where clusters begin."""
    units = [0] * 1280
    units[0] = 256 << 10
    units[1024] = 1 << 31
    for byte in firsts:
        units[256 + byte] = (1280 + byte) << 10 | 1 << 8 | byte
    return normalizers.Precompiled(struct.pack("<I1280I", 5120, *units) + b"Y\0").normalize_str


def clusters():
    """How the library cuts text before it looks into a character map (clusters of less than six bytes only)."""
    after, before, marks = charsmap(b"a"), charsmap(set(range(0x100)) - {0x61, 0xCC}), charsmap(b"\xc2")
    accents = charsmap(b"\xcc")
    flags = {}
    for cp in range(0x110000):
        if 0xD800 <= cp < 0xE000 or cp == 0x61:
            continue
        char, flag = chr(cp), 0
        if after("a" + char) == "Y":
            flag |= EXTEND
        if cp and cp < 0x10000 and not 0x300 <= cp < 0x340 and before(char + "\u0301") == "Y\u0301":
            flag |= CONTROL
        # four bytes and two marks are no small cluster, the two marks alone are one
        if cp >= 0x10000 and accents(char + "\u0301\u0302") == char + "Y":
            flag |= CONTROL
        if cp and not 0x300 <= cp < 0x340 and before(char + "a") == "Y":
            flag |= PREPEND
        if marks("\u00a9\u200d" + char)[:2] == "Y\u200d":
            flag |= PICTOGRAPH if not flag & EXTEND else 0
        if flag:
            flags[cp] = flag
    flags[0] = CONTROL
    return flags


def measure():
    clean, cjk = bert(clean_text=True), bert(handle_chinese_chars=True)
    strip, lower = bert(strip_accents=True), bert(lowercase=True)
    nfd, accents = normalizers.NFD().normalize_str, normalizers.StripAccents().normalize_str
    punctuation, words = pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Whitespace()
    nfkd, digits = normalizers.NFKD().normalize_str, pre_tokenizers.Digits(individual_digits=True)
    patterns = [(bit, pre_tokenizers.Split(Regex(regex), "isolated"))
                for bit, regex in ((LETTER, r"\p{L}"), (NUMBER, r"\p{N}"), (SPACE, r"\s"))]
    cuts = clusters()
    flags, classes, decompositions, compatible, lowers = {}, {}, {}, {}, {}
    for cp in range(0x110000):
        if 0xD800 <= cp < 0xE000:
            continue
        char = chr(cp)
        text = "a" + char + "b"
        flag = 0
        cleaned = clean(text)
        pieces = len(punctuation.pre_tokenize_str(text))
        if cleaned == "ab":
            flag |= REMOVED
        if pieces == 2:
            flag |= SPACE
            assert flag & REMOVED or cleaned == "a b"
        else:
            assert cleaned in (text, "ab")
        if pieces == 3:
            flag |= PUNCTUATION
        if cjk(text) != text:
            assert cjk(text) == "a " + char + " b"
            flag |= CJK
        decomposed = nfd(text)[1:-1]
        if decomposed == char:
            if strip(text) == "ab":
                flag |= MN
        elif not 0xAC00 <= cp < 0xD7A4:
            decompositions[cp] = decomposed
        else:
            assert decomposed == unicodedata.normalize("NFD", char)
        if lower(text) != text:
            lowers[cp] = lower(text)[1:-1]
        if accents(text) == "ab":
            flag |= ACCENT
        if len(words.pre_tokenize_str(text)) == 1:
            flag |= WORD
        for bit, pattern in patterns:
            single = len(pattern.pre_tokenize_str("-" + char + "-")) == 3
            if bit == SPACE:
                assert single == bool(flag & SPACE), hex(cp)
            elif single:
                flag |= bit
        if len(digits.pre_tokenize_str("a" + char + "b")) == 3:
            flag |= NUMERIC
        flag |= cuts.get(cp, 0)
        if nfkd(text)[1:-1] != decomposed:
            compatible[cp] = nfkd(text)[1:-1]
        if cp in decompositions or cp in lowers:
            flag |= MAPPED
        if nfd("a" + char + "\u0334") == "a\u0334" + char and char != "\u0334" \
                or nfd("a\u05b0" + char) == "a" + char + "\u05b0" and char != "\u05b0":
            classes[cp] = unicodedata.combining(char)
            assert classes[cp] != 0
        if flag:
            flags[cp] = flag
    return flags, classes, decompositions, compatible, lowers


def compositions(decompositions):
    """Pairs that NFC joins, as rows of three sorted by the pair."""
    nfc = normalizers.NFC().normalize_str
    found = []
    for cp in sorted(decompositions):
        parts = unicodedata.decomposition(chr(cp)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            first, second = (int(part, 16) for part in parts)
            if nfc(chr(first) + chr(second)) == chr(cp):
                found.append((first, second, cp))
    return sorted(found)


def rows(values, out):
    line = "\t"
    for value in values:
        text = "%d," % value
        if len(line) + len(text) > 106:
            out.append(line)
            line = "\t"
        line += text
    out.append(line)


def const(name):
    """Only the properties of characters are read outside unicode.c (unicode.h declares them)."""
    return "const " if name == "char" else "static const "


def two_stage(name, values, limit, kind, out):
    blocks, index, flat = {}, [], []
    for start in range(0, limit, BLOCK):
        block = tuple(values.get(cp, 0) for cp in range(start, start + BLOCK))
        if block not in blocks:
            blocks[block] = len(blocks)
            flat.extend(block)
        index.append(blocks[block])
    assert len(blocks) <= 256
    out.append("%suint8_t distil_%s_index[%d] = {" % (const(name), name, len(index)))
    rows(index, out)
    out.append("};")
    out.append("%s%s distil_%s_blocks[%d] = {" % (const(name), kind, name, len(flat)))
    rows(flat, out)
    out.append("};")


def sequences(name, mapping, out):
    pool, where, values = [0], {}, {}
    for cp in sorted(mapping):
        text = mapping[cp]
        if text not in where:
            where[text] = len(pool)
            pool.append(len(text))
            pool.extend(map(ord, text))
        values[cp] = where[text]
    assert len(pool) < 65536 and max(mapping) < MAP_LIMIT and max(map(len, mapping.values())) <= 18
    two_stage(name, values, MAP_LIMIT, "uint16_t", out)
    out.append("%suint32_t distil_%s_pool[%d] = {" % (const(name), name, len(pool)))
    rows(pool, out)
    out.append("};")


def main():
    flags, classes, decompositions, compatible, lowers = measure()
    records, values = [(0, 0)], {}
    for cp in sorted(set(flags) | set(classes)):
        record = (flags.get(cp, 0), classes.get(cp, 0))
        if record not in records:
            records.append(record)
        values[cp] = records.index(record)
    assert len(records) <= 256
    out = ["/*",
           " * unicode_tables.h",
           " *\t\tGenerated by make_unicode_tables.py with tokenizers %s; included by unicode.c only." % tokenizers.__version__,
           " *\t\tThese are numbers only, one table for all of Unicode: that is why the file is longer than others",
           " *\t\tmay be.",
           " */",
           "%sDistilCharProps distil_char_records[%d] = {" % (const("char"), len(records))]
    line = "\t"
    for flag, combining in records:
        text = "{%d, %d}, " % (flag, combining)
        if len(line) + len(text) > 106:
            out.append(line.rstrip())
            line = "\t"
        line += text
    out.append(line.rstrip())
    out.append("};")
    two_stage("char", values, 0x110000, "uint8_t", out)
    sequences("nfd", decompositions, out)
    sequences("lower", lowers, out)
    sequences("nfkd", compatible, out)
    pairs = compositions(decompositions)
    out.append("%suint32_t distil_pairs[%d] = {" % (const("pairs"), 3 * len(pairs)))
    rows([value for pair in pairs for value in pair], out)
    out.append("};")
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
