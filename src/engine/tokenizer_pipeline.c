/*
 * tokenizer_pipeline.c
 *		Normalizers and pre-tokenizers one after the other, for files that are not plain BERT.
 *
 * A segment of text becomes an array of characters with their sources, each
 * normalizer rewrites the array, added tokens are looked for in the result, and the
 * pre-tokenizers (all of those here class single characters) cut it into words.  Two
 * neighbours are in one word when every pre-tokenizer puts both in the same class.
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <string.h>

#define POLL_CHARS 65536

DistilStatus
distil_chars_push(DistilChars *chars, uint32_t cp, uint32_t source, DistilError *err)
{
	if (chars->n == chars->capacity)
	{
		size_t		capacity = chars->capacity == 0 ? 256 : chars->capacity * 2;
		DistilChar *items = distil_alloc_array(chars->alloc, capacity, sizeof(*items));

		if (items == NULL)
			return distil_fail_memory(err, capacity * sizeof(*items));
		if (chars->n > 0)
			memcpy(items, chars->items, chars->n * sizeof(*items));
		distil_release(chars->alloc, chars->items);
		chars->items = items;
		chars->capacity = capacity;
	}
	chars->items[chars->n].cp = cp;
	chars->items[chars->n++].source = source;
	return DISTIL_OK;
}

/* ---------- normalizers ---------- */

static DistilStatus
lower_chars(DistilChars *out, const DistilChars *chars, const DistilPoll *poll, DistilError *err)
{
	for (size_t i = 0; i < chars->n; i++)
	{
		uint32_t	lower[DISTIL_MAX_DECOMPOSITION];
		int			n = distil_char_lower(lower, chars->items[i].cp);

		if (i % POLL_CHARS == POLL_CHARS - 1)
			DISTIL_POLL(poll, err);
		for (int k = 0; k < n; k++)
			DISTIL_FORWARD(distil_chars_push(out, lower[k], chars->items[i].source, err));
	}
	return DISTIL_OK;
}

static DistilStatus
run_lowercase(DistilChars *chars, const DistilStepArgs *args, const DistilPoll *poll, DistilError *err)
{
	DistilChars out = {.alloc = chars->alloc};
	DistilStatus status;
	uint32_t	all = 0;

	(void) args;
	for (size_t i = 0; i < chars->n; i++)
		all |= chars->items[i].cp;
	for (size_t i = 0; all < 0x80 && i < chars->n; i++)
		chars->items[i].cp += chars->items[i].cp - 'A' < 26 ? 'a' - 'A' : 0;
	if (all < 0x80)
		return DISTIL_OK;
	status = lower_chars(&out, chars, poll, err);
	distil_chars_take(chars, &out);
	return status;
}

static DistilStatus
run_accents(DistilChars *chars, const DistilStepArgs *args, const DistilPoll *poll, DistilError *err)
{
	size_t		n = 0;

	(void) args;
	for (size_t i = 0; i < chars->n; i++)
	{
		if (i % POLL_CHARS == POLL_CHARS - 1)
			DISTIL_POLL(poll, err);
		if ((distil_char_props(chars->items[i].cp).flags & DISTIL_CHAR_ACCENT) == 0)
			chars->items[n++] = chars->items[i];
	}
	chars->n = n;
	return DISTIL_OK;
}

#define STRIP_LEFT 1
#define STRIP_RIGHT 2

static DistilStatus
run_strip(DistilChars *chars, const DistilStepArgs *args, const DistilPoll *poll, DistilError *err)
{
	size_t		start = 0;

	(void) poll;
	(void) err;
	if ((args->flags & STRIP_RIGHT) != 0)
		while (chars->n > 0 &&
			   (distil_char_props(chars->items[chars->n - 1].cp).flags & DISTIL_CHAR_SPACE) != 0)
			chars->n--;
	if ((args->flags & STRIP_LEFT) != 0)
		while (start < chars->n && (distil_char_props(chars->items[start].cp).flags & DISTIL_CHAR_SPACE) != 0)
			start++;
	if (start > 0)
		memmove(chars->items, chars->items + start, (chars->n - start) * sizeof(*chars->items));
	chars->n -= start;
	return DISTIL_OK;
}

DistilStatus
distil_chars_normalize(DistilChars *chars, const DistilBlobStep *steps, int n, const uint8_t *data,
					   size_t data_size, const DistilPoll *poll, DistilError *err)
{
	size_t		before = chars->n;

	for (int i = 0; i < n; i++)
	{
		const DistilNormalizerPart *part = distil_normalizer_kind(steps[i].kind);
		DistilStepArgs args = {steps[i].flags, data != NULL ? data + steps[i].data : NULL, steps[i].length};

		if (steps[i].data > data_size || steps[i].length > data_size - steps[i].data ||
			steps[i].data % 8 != 0)
			return distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has a step without its data");
		if (part == NULL)
			return distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has unknown normalizer %u",
							   steps[i].kind);
		DISTIL_FORWARD(part->run(chars, &args, poll, err));
		DISTIL_FORWARD(distil_chars_bound(chars->n, before, err));
		DISTIL_POLL(poll, err);
	}
	return DISTIL_OK;
}

/* ---------- pre-tokenizers ---------- */

static int
classify_whitespace(uint32_t cp)
{
	unsigned	flags = distil_char_props(cp).flags;

	return (flags & DISTIL_CHAR_WORD) != 0 ? 0 : (flags & DISTIL_CHAR_SPACE) != 0 ? 1 : 3;
}

static int
classify_split(uint32_t cp)
{
	return (distil_char_props(cp).flags & DISTIL_CHAR_SPACE) != 0 ? 1 : 0;
}

static int
classify_punctuation(uint32_t cp)
{
	return (distil_char_props(cp).flags & DISTIL_CHAR_PUNCTUATION) != 0 ? 2 : 0;
}

/* Characters [from, to) into words. */
static DistilStatus
put_words(DistilWords *words, const DistilChars *chars, size_t from, size_t to, DistilError *err)
{
	const DistilTokenizer *tokenizer = words->tokenizer;
	int			before[DISTIL_MAX_STEPS] = {0};
	const DistilPreTokenizerPart *parts[DISTIL_MAX_STEPS];

	for (int s = 0; s < tokenizer->npre; s++)
	{
		parts[s] = distil_pre_tokenizer_kind(tokenizer->pre[s].kind);
		if (parts[s] == NULL)
			return distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has unknown pre-tokenizer %u",
							   tokenizer->pre[s].kind);
	}
	for (size_t i = from; i < to; i++)
	{
		bool		cut = false;
		bool		blank = false;

		for (int s = 0; s < tokenizer->npre; s++)
		{
			int			class = parts[s]->classify(chars->items[i].cp);

			cut |= class == 1 || class == 2 || class != before[s];
			blank |= class == 1;
			before[s] = class;
		}
		if (cut)
			DISTIL_FORWARD(distil_words_end(words, err));
		if (!blank)
			distil_words_char(words, chars->items[i].cp, chars->items[i].source);
		if (i % POLL_CHARS == POLL_CHARS - 1)
			DISTIL_POLL(words->poll, err);
		if (distil_words_full(words))
			break;
	}
	return distil_words_end(words, err);
}

/* ---------- a segment ---------- */

typedef struct Segment
{
	DistilChars chars;
	DistilBuffer text;			/* the normalised characters as UTF-8, only to look for added tokens */
} Segment;

static DistilStatus
put_part(DistilWords *words, const Segment *segment, size_t from, size_t to, DistilError *err)
{
	const DistilTokenizer *tokenizer = words->tokenizer;
	bool		by_class = tokenizer->model_part->span == NULL;

	for (int i = 0; i < tokenizer->npre; i++)
	{
		const DistilPreTokenizerPart *part = distil_pre_tokenizer_kind(tokenizer->pre[i].kind);

		by_class &= part == NULL || part->classify != NULL;
	}
	if (by_class)
		return put_words(words, &segment->chars, from, to, err);
	return from < to ? distil_spans_put(words, &segment->chars, from, to, err) : DISTIL_OK;
}

static DistilStatus
find_added(DistilWords *words, Segment *segment, DistilError *err)
{
	const DistilChars *chars = &segment->chars;
	const uint8_t *text;
	size_t		length;
	size_t		done = 0;		/* characters */
	size_t		byte = 0;		/* bytes of them */
	size_t		search = 0;
	DistilMatch match;

	if (!words->tokenizer->has_norm)
		return put_part(words, segment, 0, chars->n, err);
	for (size_t i = 0; i < chars->n; i++)
	{
		uint8_t		bytes[4];

		if (!distil_buffer_append(&segment->text, bytes, (size_t) distil_utf8_encode(bytes,
																					 chars->items[i].cp)))
			return distil_fail_memory(err, segment->text.length + 4);
	}
	text = (const uint8_t *) segment->text.data;
	length = segment->text.length;
	while (search < length && !distil_words_full(words) &&
		   distil_match_find(words->tokenizer, true, words->parse_special, text, length, search, length, byte,
							 &match))
	{
		size_t		start = done;
		size_t		stop;

		/* start may lie before `byte` when blanks were swallowed behind the last token */
		while (match.start < byte)
			if ((text[--byte] & 0xC0) != 0x80)
				start--, done--;
		for (; byte < match.start; byte++)
			start += (text[byte] & 0xC0) != 0x80;
		if (start > done)
			DISTIL_FORWARD(put_part(words, segment, done, start, err));
		stop = start;
		for (; byte < match.stop; byte++)
			stop += (text[byte] & 0xC0) != 0x80;
		if (start < stop)
			DISTIL_FORWARD(distil_words_added(words, match.added, text + match.start,
											  match.stop - match.start, chars->items[start].source,
											  chars->items[stop - 1].source + 1, err));
		done = stop;
		search = match.after;
		DISTIL_POLL(words->poll, err);
	}
	return put_part(words, segment, done, chars->n, err);
}

static DistilStatus
run_segment(DistilWords *words, Segment *segment, uint32_t *source, const uint8_t *p, const uint8_t *end,
			DistilError *err)
{
	const DistilTokenizer *tokenizer = words->tokenizer;
	uint32_t	cp;

	while (p < end)
	{
		int			n = distil_utf8_decode(&cp, p, end);

		if (n == 0)
			return distil_fail(err, DISTIL_ERR_ENCODING, "text is not valid UTF-8 at character %u", *source);
		DISTIL_FORWARD(distil_chars_push(&segment->chars, cp, (*source)++, err));
		p += n;
		if (*source % POLL_CHARS == 0)
			DISTIL_POLL(words->poll, err);
	}
	DISTIL_FORWARD(distil_chars_normalize(&segment->chars, tokenizer->normalizer, tokenizer->nnormalizer,
										  tokenizer->data, tokenizer->data_size, words->poll, err));
	return find_added(words, segment, err);
}

DistilStatus
distil_pipeline_run(DistilWords *words, uint32_t *source, const uint8_t *p, const uint8_t *end,
					DistilError *err)
{
	Segment		segment = {.chars = {.alloc = words->out->alloc}};
	DistilStatus status;

	distil_buffer_init(&segment.text, words->out->alloc);
	status = run_segment(words, &segment, source, p, end, err);
	distil_release(words->out->alloc, segment.chars.items);
	distil_buffer_free(&segment.text);
	return status;
}

/* ---------- files and table ---------- */

DistilStatus
distil_draft_normalizer(DistilDraft *draft, const DistilJson *value, uint32_t kind, const char *what,
						DistilError *err)
{
	static const char *const known[] = {"type", NULL};

	DISTIL_FORWARD(distil_draft_known(value, known, what, err));
	return distil_draft_step(draft->normalizer, &draft->nnormalizer, kind, 0, err);
}

static DistilStatus
parse_lowercase(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	return distil_draft_normalizer(draft, value, DISTIL_NORMALIZER_LOWERCASE, "normalizer Lowercase", err);
}

static DistilStatus
parse_accents(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	return distil_draft_normalizer(draft, value, DISTIL_NORMALIZER_ACCENTS, "normalizer StripAccents", err);
}

static DistilStatus
parse_strip(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", "strip_left", "strip_right", NULL};
	bool		left;
	bool		right;

	DISTIL_FORWARD(distil_draft_known(value, known, "normalizer Strip", err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "strip_left", true, &left, err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "strip_right", true, &right, err));
	return distil_draft_step(draft->normalizer, &draft->nnormalizer, DISTIL_NORMALIZER_STRIP,
							 (left ? STRIP_LEFT : 0u) | (right ? STRIP_RIGHT : 0u), err);
}

static DistilStatus
parse_pre(DistilDraft *draft, const DistilJson *value, uint32_t kind, const char *what, DistilError *err)
{
	static const char *const known[] = {"type", NULL};

	DISTIL_FORWARD(distil_draft_known(value, known, what, err));
	return distil_draft_step(draft->pre, &draft->npre, kind, 0, err);
}

static DistilStatus
parse_whitespace(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	return parse_pre(draft, value, DISTIL_PRE_WHITESPACE, "pre_tokenizer Whitespace", err);
}

static DistilStatus
parse_split(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	return parse_pre(draft, value, DISTIL_PRE_SPLIT, "pre_tokenizer WhitespaceSplit", err);
}

static DistilStatus
parse_punctuation(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", "behavior", NULL};
	const char *behavior;
	char		printable[64];

	DISTIL_FORWARD(distil_draft_known(value, known, "pre_tokenizer Punctuation", err));
	DISTIL_FORWARD(distil_json_get_string(draft->doc, value, "behavior", "Isolated", &behavior, err));
	if (strcmp(behavior, "Isolated") != 0)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "behavior \"%s\" of pre_tokenizer Punctuation is not supported",
						   distil_printable(printable, sizeof(printable), behavior, strlen(behavior)));
	return distil_draft_step(draft->pre, &draft->npre, DISTIL_PRE_PUNCTUATION, 0, err);
}

const DistilNormalizerPart distil_normalizer_lowercase = {
	"Lowercase", DISTIL_NORMALIZER_LOWERCASE, parse_lowercase, run_lowercase
};
const DistilNormalizerPart distil_normalizer_accents = {
	"StripAccents", DISTIL_NORMALIZER_ACCENTS, parse_accents, run_accents
};
const DistilNormalizerPart distil_normalizer_strip = {"Strip", DISTIL_NORMALIZER_STRIP, parse_strip,
													  run_strip};
const DistilPreTokenizerPart distil_pre_whitespace = {
	"Whitespace", DISTIL_PRE_WHITESPACE, parse_whitespace, classify_whitespace
};
const DistilPreTokenizerPart distil_pre_split = {"WhitespaceSplit", DISTIL_PRE_SPLIT, parse_split,
												 classify_split};
const DistilPreTokenizerPart distil_pre_punctuation = {
	"Punctuation", DISTIL_PRE_PUNCTUATION, parse_punctuation, classify_punctuation
};
