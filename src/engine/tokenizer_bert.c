/*
 * tokenizer_bert.c
 *		BertNormalizer and BertPreTokenizer, fused: one pass from bytes to words.
 *
 * Order of the steps, per character: clean_text (delete controls, blanks become one
 * space), a space either side of an ideograph, NFD and deletion of marks, lower case,
 * then words end at blanks and round punctuation.  The rule a newcomer would break:
 * punctuation and blanks are looked up after the mapping (U+037E becomes ';'), while
 * ideographs and controls are looked up before.
 *
 * Runs of ASCII take a short way: one table look-up per byte.
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <string.h>

enum
{
	ASCII_CHAR, ASCII_SPACE, ASCII_PUNCTUATION, ASCII_CONTROL, ASCII_CONTROL_SPACE
};

#define C ASCII_CONTROL
#define B ASCII_CONTROL_SPACE
#define S ASCII_SPACE
#define P ASCII_PUNCTUATION
static const uint8_t ascii_class[128] = {
	C, C, C, C, C, C, C, C, C, S, S, B, B, S, C, C,
	C, C, C, C, C, C, C, C, C, C, C, C, C, C, C, C,
	S, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P,
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, P, P, P, P, P, P,
	P, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, P, P, P, P, P,
	P, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, P, P, P, P, C,
};
#undef C
#undef B
#undef S
#undef P

/* A character after all mappings: it ends, makes or continues a word. */
static inline DistilStatus
put_mapped(DistilWords *words, uint32_t cp, uint32_t source, DistilError *err)
{
	unsigned	flags = distil_char_props(cp).flags;

	if ((flags & DISTIL_CHAR_SPACE) != 0)
		return distil_words_end(words, err);
	if ((flags & DISTIL_CHAR_PUNCTUATION) != 0)
	{
		DISTIL_FORWARD(distil_words_end(words, err));
		distil_words_char(words, cp, source);
		return distil_words_end(words, err);
	}
	distil_words_char(words, cp, source);
	return DISTIL_OK;
}

/* A character after NFD: marks go, then lower case. */
static DistilStatus
put_decomposed(DistilWords *words, uint32_t cp, uint32_t source, unsigned bert, DistilError *err)
{
	unsigned	flags = distil_char_props(cp).flags;
	uint32_t	lower[DISTIL_MAX_DECOMPOSITION];
	int			n;

	if ((bert & DISTIL_BERT_STRIP) != 0 && (flags & DISTIL_CHAR_MN) != 0)
		return DISTIL_OK;
	if ((bert & DISTIL_BERT_LOWER) == 0 || (flags & DISTIL_CHAR_MAPPED) == 0)
		return put_mapped(words, cp, source, err);
	n = distil_char_lower(lower, cp);
	for (int i = 0; i < n; i++)
		DISTIL_FORWARD(put_mapped(words, lower[i], source, err));
	return DISTIL_OK;
}

/* End of a run of combining characters. */
static DistilStatus
flush_marks(DistilWords *words, unsigned bert, DistilError *err)
{
	DistilMarks *marks = &words->marks;

	DISTIL_FORWARD(distil_marks_sort(marks, words->out->alloc, err));
	for (size_t i = 0; i < marks->n; i++)
		DISTIL_FORWARD(put_decomposed(words, marks->items[i].cp, marks->items[i].source, bert, err));
	marks->n = 0;
	return DISTIL_OK;
}

/* A cleaned character: decompose and order when marks are to go. */
static DistilStatus
put_clean(DistilWords *words, uint32_t cp, uint32_t source, unsigned bert, DistilError *err)
{
	uint32_t	parts[DISTIL_MAX_DECOMPOSITION];
	int			n;

	if ((bert & DISTIL_BERT_STRIP) == 0)
		return put_decomposed(words, cp, source, bert, err);
	n = distil_char_nfd(parts, cp);
	for (int i = 0; i < n; i++)
	{
		uint8_t		combining = distil_char_props(parts[i]).combining;

		if (combining != 0)
		{
			DISTIL_FORWARD(distil_marks_add(&words->marks, parts[i], source, combining, i > 0,
											words->out->alloc, err));
			continue;
		}
		if (words->marks.n > 0)
			DISTIL_FORWARD(flush_marks(words, bert, err));
		words->marks.last_source = source;
		DISTIL_FORWARD(put_decomposed(words, parts[i], source, bert, err));
	}
	return DISTIL_OK;
}

static DistilStatus
end_word(DistilWords *words, unsigned bert, DistilError *err)
{
	if (words->marks.n > 0)
		DISTIL_FORWARD(flush_marks(words, bert, err));
	return distil_words_end(words, err);
}

/* One character of the text, by the general way. */
static DistilStatus
put_char(DistilWords *words, uint32_t cp, uint32_t source, unsigned bert, DistilError *err)
{
	unsigned	flags = distil_char_props(cp).flags;

	if ((bert & DISTIL_BERT_CLEAN) != 0 && (flags & DISTIL_CHAR_REMOVED) != 0)
		return DISTIL_OK;
	if ((flags & DISTIL_CHAR_SPACE) != 0)
		return end_word(words, bert, err);
	if ((bert & DISTIL_BERT_CJK) != 0 && (flags & DISTIL_CHAR_CJK) != 0)
	{
		DISTIL_FORWARD(end_word(words, bert, err));
		DISTIL_FORWARD(put_clean(words, cp, source, bert, err));
		return end_word(words, bert, err);
	}
	return put_clean(words, cp, source, bert, err);
}

/* Letters and digits: bytes up to the first that is none. */
static const uint8_t *
put_ascii(DistilWords *words, uint32_t source, const uint8_t *p, const uint8_t *end, bool lower)
{
	const uint8_t *start = p;
	uint8_t	   *to = words->bytes + words->length;
	size_t		room = words->nchars < words->max_chars ? (size_t) (words->max_chars - words->nchars) : 0;
	const uint8_t *stored = (size_t) (end - p) < room ? end : p + room;
	size_t		n;

	for (; p < stored && *p < 0x80 && ascii_class[*p] == ASCII_CHAR; p++)
		*to++ = (uint8_t) (lower && (unsigned) (*p - 'A') < 26 ? *p | 0x20 : *p);
	n = (size_t) (p - start);
	if (words->offsets)
		for (size_t i = 0; i < n; i++)
			words->sources[words->length + i] = source + (uint32_t) i;
	words->length += n;
	if (p == stored)
		while (p < end && *p < 0x80 && ascii_class[*p] == ASCII_CHAR)
			p++;				/* too long: counted, not stored */
	n = (size_t) (p - start);
	if (words->nchars == 0)
		words->first_source = source;
	words->last_source = source + (uint32_t) n - 1;
	words->nchars = n > (size_t) (INT32_MAX - words->nchars) ? INT32_MAX : words->nchars + (int) n;
	return p;
}

DistilStatus
distil_bert_run(DistilWords *words, uint32_t *source, const uint8_t *p, const uint8_t *end, DistilError *err)
{
	unsigned	bert = words->tokenizer->normalizer[0].flags;
	bool		lower = (bert & DISTIL_BERT_LOWER) != 0;
	uint32_t	at = *source;

	while (p < end)
	{
		const uint8_t *start = p;
		uint8_t		c = *p;
		uint32_t	cp;
		int			n;

		if (c >= 0x80)
		{
			n = distil_utf8_decode(&cp, p, end);
			if (n == 0)
				return distil_fail(err, DISTIL_ERR_ENCODING, "text is not valid UTF-8 at character %u", at);
			DISTIL_FORWARD(put_char(words, cp, at, bert, err));
			at++;
			p += n;
			continue;
		}
		switch (ascii_class[c])
		{
			case ASCII_CHAR:
				if (words->marks.n > 0)
					DISTIL_FORWARD(flush_marks(words, bert, err));
				p = put_ascii(words, at, p, end, lower);
				at += (uint32_t) (p - start);
				words->marks.last_source = at - 1;
				continue;
			case ASCII_SPACE:
				DISTIL_FORWARD(end_word(words, bert, err));
				break;
			case ASCII_PUNCTUATION:
				DISTIL_FORWARD(end_word(words, bert, err));
				words->marks.last_source = at;
				distil_words_char(words, c, at);
				DISTIL_FORWARD(distil_words_end(words, err));
				break;
			default:
				DISTIL_FORWARD(put_char(words, c, at, bert, err));
				break;
		}
		at++;
		p++;
	}
	*source = at;
	return DISTIL_OK;
}

DistilStatus
distil_bert_finish(DistilWords *words, DistilError *err)
{
	return end_word(words, words->tokenizer->normalizer[0].flags, err);
}

/* ---------- the same normalizer over an array of characters ---------- */

static DistilStatus
strip_chars(DistilChars *chars, DistilError *err)
{
	size_t		n = 0;

	DISTIL_FORWARD(distil_normalizer_nfd.run(chars, NULL, NULL, err));
	for (size_t i = 0; i < chars->n; i++)
		if ((distil_char_props(chars->items[i].cp).flags & DISTIL_CHAR_MN) == 0)
			chars->items[n++] = chars->items[i];
	chars->n = n;
	return DISTIL_OK;
}

static DistilStatus
space_ideographs(DistilChars *chars, DistilError *err)
{
	DistilChars spaced = {.alloc = chars->alloc};
	DistilStatus status = DISTIL_OK;

	for (size_t i = 0; i < chars->n && status == DISTIL_OK; i++)
	{
		DistilChar	c = chars->items[i];
		bool		cjk = (distil_char_props(c.cp).flags & DISTIL_CHAR_CJK) != 0;

		if (cjk)				/* both spaces are aligned with the ideograph */
			status = distil_chars_push(&spaced, ' ', c.source, err);
		if (status == DISTIL_OK)
			status = distil_chars_push(&spaced, c.cp, c.source, err);
		if (cjk && status == DISTIL_OK)
			status = distil_chars_push(&spaced, ' ', c.source, err);
	}
	distil_release(chars->alloc, chars->items);
	*chars = spaced;
	return status;
}

static DistilStatus
run_bert(DistilChars *chars, const DistilStepArgs *args, const DistilPoll *poll, DistilError *err)
{
	uint32_t	flags = args->flags;

	if ((flags & DISTIL_BERT_CLEAN) != 0)
	{
		size_t		n = 0;

		for (size_t i = 0; i < chars->n; i++)
		{
			DistilChar	c = chars->items[i];
			unsigned	props = distil_char_props(c.cp).flags;

			if ((props & DISTIL_CHAR_REMOVED) != 0)
				continue;
			if ((props & DISTIL_CHAR_SPACE) != 0)
				c.cp = ' ';
			chars->items[n++] = c;
		}
		chars->n = n;
	}
	if ((flags & DISTIL_BERT_CJK) != 0)
		DISTIL_FORWARD(space_ideographs(chars, err));
	if ((flags & DISTIL_BERT_STRIP) != 0)
		DISTIL_FORWARD(strip_chars(chars, err));
	if ((flags & DISTIL_BERT_LOWER) != 0)
		DISTIL_FORWARD(distil_normalizer_lowercase.run(chars, NULL, poll, err));
	return DISTIL_OK;
}

/* ---------- files ---------- */

/* strip_accents: absent or null follows lowercase. */
static DistilStatus
parse_bert(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {
		"type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase", NULL
	};
	bool		clean;
	bool		cjk;
	bool		lower;
	bool		strip;

	DISTIL_FORWARD(distil_draft_known(value, known, "normalizer BertNormalizer", err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "clean_text", true, &clean, err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "handle_chinese_chars", true, &cjk, err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "lowercase", true, &lower, err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "strip_accents", lower, &strip, err));
	return distil_draft_step(draft->normalizer, &draft->nnormalizer, DISTIL_NORMALIZER_BERT,
							 (clean ? DISTIL_BERT_CLEAN : 0u) | (cjk ? DISTIL_BERT_CJK : 0u) |
							 (strip ? DISTIL_BERT_STRIP : 0u) | (lower ? DISTIL_BERT_LOWER : 0u), err);
}

static DistilStatus
parse_pre(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", NULL};

	DISTIL_FORWARD(distil_draft_known(value, known, "pre_tokenizer BertPreTokenizer", err));
	return distil_draft_step(draft->pre, &draft->npre, DISTIL_PRE_BERT, 0, err);
}

static int
classify_bert(uint32_t cp)
{
	unsigned	flags = distil_char_props(cp).flags;

	return (flags & DISTIL_CHAR_SPACE) != 0 ? 1 : (flags & DISTIL_CHAR_PUNCTUATION) != 0 ? 2 : 0;
}

const DistilNormalizerPart distil_normalizer_bert = {"BertNormalizer", DISTIL_NORMALIZER_BERT, parse_bert,
													 run_bert};
const DistilPreTokenizerPart distil_pre_bert = {"BertPreTokenizer", DISTIL_PRE_BERT, parse_pre,
												classify_bert};
