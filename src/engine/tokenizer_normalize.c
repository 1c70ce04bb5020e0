/*
 * tokenizer_normalize.c
 *		Normalizers NFD, NFKD, NFC, NFKC, Nmt, Replace and Prepend.
 *
 * Each new character takes the source of the character it replaces, an added one that
 * of its predecessor; see tokenizer_pipeline.c.  Unicode Standard Annex #15.
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <string.h>

#define MAX_GROWTH		32
#define POLL_CHARS		65536
#define POLL_MATCHES	4096
#define MAX_RUN			4096	/* marks in a row that are put into order together */
#define PATTERN_STRING	0
#define PATTERN_BLANKS	1		/* two or more spaces */

void
distil_chars_take(DistilChars *chars, DistilChars *to)
{
	distil_release(chars->alloc, chars->items);
	*chars = *to;
	to->items = NULL;
	to->n = to->capacity = 0;
}

/* The longest mapping of Unicode makes 18 characters of one. */
DistilStatus
distil_chars_bound(size_t now, size_t before, DistilError *err)
{
	return now / MAX_GROWTH <= before + DISTIL_MAX_TOKEN_BYTES ? DISTIL_OK
		: distil_fail(err, DISTIL_ERR_LIMIT, "a normalizer makes more than %zu characters of %zu", now,
					  before);
}

/* ---------- decomposition ---------- */

static DistilStatus
flush_marks(DistilChars *out, DistilMarks *marks, DistilError *err)
{
	DISTIL_FORWARD(distil_marks_sort(marks, out->alloc, err));
	for (size_t i = 0; i < marks->n; i++)
		DISTIL_FORWARD(distil_chars_push(out, marks->items[i].cp, marks->items[i].source, err));
	marks->n = 0;
	return DISTIL_OK;
}

static DistilStatus
decomposed(DistilChars *out, const DistilChars *chars, bool compatible, DistilMarks *marks,
		   const DistilPoll *poll, DistilError *err)
{
	for (size_t i = 0; i < chars->n; i++)
	{
		DistilChar	c = chars->items[i];
		uint32_t	parts[DISTIL_MAX_COMPATIBILITY];
		int			n = compatible ? distil_char_nfkd(parts, c.cp) : distil_char_nfd(parts, c.cp);

		if (i % POLL_CHARS == POLL_CHARS - 1)
			DISTIL_POLL(poll, err);
		for (int k = 0; k < n; k++)
		{
			uint8_t		combining = distil_char_props(parts[k]).combining;

			if (combining != 0)
			{
				DISTIL_FORWARD(distil_marks_add(marks, parts[k], c.source, combining, k > 0, out->alloc,
												err));
				continue;
			}
			if (marks->n > 0)
				DISTIL_FORWARD(flush_marks(out, marks, err));
			marks->last_source = c.source;
			DISTIL_FORWARD(distil_chars_push(out, parts[k], c.source, err));
		}
	}
	return flush_marks(out, marks, err);
}

static bool
all_ascii(const DistilChars *chars)
{
	uint32_t	all = 0;

	for (size_t i = 0; i < chars->n; i++)
		all |= chars->items[i].cp;
	return all < 0x80;
}

static DistilStatus
decompose_chars(DistilChars *chars, bool compatible, const DistilPoll *poll, DistilError *err)
{
	DistilChars out = {.alloc = chars->alloc};
	DistilMarks marks = {.items = NULL};
	DistilStatus status;

	if (all_ascii(chars))
		return DISTIL_OK;
	status = decomposed(&out, chars, compatible, &marks, poll, err);
	if (marks.items != marks.stack_items)
		distil_release(chars->alloc, marks.items);
	distil_chars_take(chars, &out);
	return status;
}

static DistilStatus
run_nfd(DistilChars *chars, const DistilStepArgs *args, const DistilPoll *poll, DistilError *err)
{
	(void) args;
	return decompose_chars(chars, false, poll, err);
}

static DistilStatus
run_nfkd(DistilChars *chars, const DistilStepArgs *args, const DistilPoll *poll, DistilError *err)
{
	(void) args;
	return decompose_chars(chars, true, poll, err);
}

/* ---------- composition ---------- */

/* Sort the run that begins at `from` by class; runs longer than a stack's worth are rare, so by insertion. */
static void
order_run(DistilChanges *changes, size_t from)
{
	DistilChange *items = changes->items;

	for (size_t i = from + 1; i < changes->n; i++)
	{
		DistilChange mark = items[i];
		int			class = distil_char_props(mark.cp).combining;
		size_t		j = i;

		for (; j > from && distil_char_props(items[j - 1].cp).combining > class; j--)
			items[j] = items[j - 1];
		items[j] = mark;
	}
}

static DistilStatus
decompose(DistilChanges *changes, const DistilChars *chars, bool compatible, const DistilPoll *poll,
		  DistilError *err)
{
	size_t		run = 0;		/* where the last run of marks begins */

	for (size_t i = 0; i < chars->n; i++)
	{
		uint32_t	parts[DISTIL_MAX_COMPATIBILITY];
		int			n = compatible ? distil_char_nfkd(parts, chars->items[i].cp)
			: distil_char_nfd(parts, chars->items[i].cp);

		if (i % POLL_CHARS == POLL_CHARS - 1)
			DISTIL_POLL(poll, err);
		for (int k = 0; k < n; k++)
		{
			bool		mark = distil_char_props(parts[k]).combining != 0;

			if (!mark || changes->n - run > MAX_RUN)
			{
				order_run(changes, run);
				run = changes->n + !mark;
			}
			DISTIL_FORWARD(distil_changes_push(changes, parts[k], k > 0, err));
		}
	}
	order_run(changes, run);
	return DISTIL_OK;
}

/* In place; what a composed character swallowed counts as removed behind it. */
static void
compose(DistilChanges *changes)
{
	size_t		n = 0;
	size_t		starter = SIZE_MAX;
	int			last = -1;		/* class of the last character behind the starter; -1: none */

	for (size_t i = 0; i < changes->n; i++)
	{
		DistilChange c = changes->items[i];
		int			combining = distil_char_props(c.cp).combining;

		if (starter != SIZE_MAX && last < combining)
		{
			uint32_t	joined = distil_char_compose(changes->items[starter].cp, c.cp);

			if (joined != 0)
			{
				changes->items[starter].cp = joined;
				changes->items[starter].change += c.change - 1;
				continue;
			}
		}
		changes->items[n] = c;
		if (combining == 0)
		{
			starter = n;
			last = -1;
		}
		else
			last = combining;
		n++;
	}
	changes->n = n;
}

static DistilStatus
run_composed(DistilChars *chars, bool compatible, const DistilPoll *poll, DistilError *err)
{
	DistilChanges changes = {.alloc = chars->alloc};
	DistilStatus status;

	if (all_ascii(chars))
		return DISTIL_OK;
	status = decompose(&changes, chars, compatible, poll, err);
	if (status == DISTIL_OK)
	{
		compose(&changes);
		status = distil_changes_align(chars, &changes, err);
	}
	distil_release(chars->alloc, changes.items);
	return status;
}

static DistilStatus
run_nfc(DistilChars *chars, const DistilStepArgs *args, const DistilPoll *poll, DistilError *err)
{
	(void) args;
	return run_composed(chars, false, poll, err);
}

static DistilStatus
run_nfkc(DistilChars *chars, const DistilStepArgs *args, const DistilPoll *poll, DistilError *err)
{
	(void) args;
	return run_composed(chars, true, poll, err);
}

/* ---------- Nmt ---------- */

static DistilStatus
run_nmt(DistilChars *chars, const DistilStepArgs *args, const DistilPoll *poll, DistilError *err)
{
	size_t		n = 0;

	(void) args;
	(void) poll;
	(void) err;
	for (size_t i = 0; i < chars->n; i++)
	{
		DistilChar	c = chars->items[i];
		uint32_t	cp = c.cp;

		if ((cp >= 1 && cp <= 8) || cp == 0x0B || (cp >= 0x0E && cp <= 0x1F) || cp == 0x7F || cp == 0x8F ||
			cp == 0x9F)
			continue;
		if (cp == 9 || cp == 10 || cp == 12 || cp == 13 || cp == 0x1680 || (cp >= 0x200B && cp <= 0x200F) ||
			cp == 0x2028 || cp == 0x2029 || cp == 0x2581 || cp == 0xFEFF || cp == 0xFFFD)
			c.cp = ' ';
		chars->items[n++] = c;
	}
	chars->n = n;
	return DISTIL_OK;
}

/* ---------- Replace and Prepend ---------- */

/* Data: length of the pattern, pattern, content, as code points. */
static size_t
match_at(const DistilChars *chars, size_t i, uint32_t pattern, const uint32_t *text, size_t n)
{
	size_t		k = 0;

	if (pattern == PATTERN_BLANKS)
	{
		while (i + k < chars->n && chars->items[i + k].cp == ' ')
			k++;
		return k >= 2 ? k : 0;
	}
	while (k < n && i + k < chars->n && chars->items[i + k].cp == text[k])
		k++;
	return k == n ? n : 0;
}

/* The content takes the source of the last character that it replaces. */
static DistilStatus
run_replace(DistilChars *chars, const DistilStepArgs *args, const DistilPoll *poll, DistilError *err)
{
	const uint32_t *data = (const uint32_t *) (const void *) args->data;
	size_t		words = args->length / sizeof(uint32_t);
	DistilChars out = {.alloc = chars->alloc};
	DistilStatus status = DISTIL_OK;
	size_t		i = 0;
	size_t		n;
	size_t		steps = 0;
	bool		any = false;

	if (data == NULL || words < 1 || data[0] > words - 1 || (args->flags == PATTERN_STRING && data[0] == 0))
		return distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has a bad pattern");
	n = data[0];
	for (i = 0; i < chars->n && !any; i++)
	{
		any = match_at(chars, i, args->flags, data + 1, n) > 0;
		if (i % POLL_MATCHES == POLL_MATCHES - 1)
			DISTIL_POLL(poll, err);
	}
	if (!any)
		return DISTIL_OK;
	i = 0;
	while (i < chars->n && status == DISTIL_OK)
	{
		size_t		k = match_at(chars, i, args->flags, data + 1, n);

		if (++steps % POLL_MATCHES == 0 && poll != NULL && poll->stop != NULL && poll->stop(poll->ctx))
			status = distil_fail_cancelled(err);
		else if (k == 0)
		{
			status = distil_chars_push(&out, chars->items[i].cp, chars->items[i].source, err);
			i++;
			continue;
		}
		for (size_t c = 1 + n; c < words && status == DISTIL_OK; c++)
		{
			if (data[c] >= 0x110000)
				status = distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has a bad pattern");
			else
				status = distil_chars_push(&out, data[c], chars->items[i + k - 1].source, err);
		}
		if (status == DISTIL_OK)
			status = distil_chars_bound(out.n, chars->n, err);
		i += k;
	}
	distil_chars_take(chars, &out);
	return status;
}

static DistilStatus
run_prepend(DistilChars *chars, const DistilStepArgs *args, const DistilPoll *poll, DistilError *err)
{
	const uint32_t *data = (const uint32_t *) (const void *) args->data;
	size_t		words = args->length / sizeof(uint32_t);
	DistilChars out = {.alloc = chars->alloc};
	DistilStatus status = DISTIL_OK;

	(void) poll;
	if (chars->n == 0 || data == NULL)
		return DISTIL_OK;
	for (size_t i = 1; i < words && status == DISTIL_OK; i++)
		status = data[i] < 0x110000 ? distil_chars_push(&out, data[i], chars->items[0].source, err)
			: distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has a bad pattern");
	for (size_t i = 0; i < chars->n && status == DISTIL_OK; i++)
		status = distil_chars_push(&out, chars->items[i].cp, chars->items[i].source, err);
	distil_chars_take(chars, &out);
	return status;
}

/* ---------- files ---------- */

static DistilStatus
parse_nfd(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	return distil_draft_normalizer(draft, value, DISTIL_NORMALIZER_NFD, "normalizer NFD", err);
}

static DistilStatus
parse_nfkd(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	return distil_draft_normalizer(draft, value, DISTIL_NORMALIZER_NFKD, "normalizer NFKD", err);
}

static DistilStatus
parse_nfc(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	return distil_draft_normalizer(draft, value, DISTIL_NORMALIZER_NFC, "normalizer NFC", err);
}

static DistilStatus
parse_nfkc(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	return distil_draft_normalizer(draft, value, DISTIL_NORMALIZER_NFKC, "normalizer NFKC", err);
}

static DistilStatus
parse_nmt(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	return distil_draft_normalizer(draft, value, DISTIL_NORMALIZER_NMT, "normalizer Nmt", err);
}

uint32_t
distil_decode_string(uint32_t *out, const char *text, size_t length)
{
	const uint8_t *p = (const uint8_t *) text;
	const uint8_t *end = p + length;
	uint32_t	n = 0;

	while (p < end)
	{
		int			bytes = distil_utf8_decode(&out[n], p, end);

		if (bytes == 0)
			break;
		p += bytes;
		n++;
	}
	return n;
}

DistilStatus
distil_draft_replace(DistilDraft *draft, uint32_t kind, uint32_t flags, const char *pattern,
					 const char *content, DistilError *err)
{
	size_t		nfrom = strlen(pattern);
	size_t		nto = strlen(content);
	uint32_t   *data;
	uint32_t	n;

	if (nfrom > DISTIL_MAX_TOKEN_BYTES || nto > DISTIL_MAX_TOKEN_BYTES)
		return distil_fail(err, DISTIL_ERR_LIMIT, "pattern of tokenizer.json is too long, the limit is "
						   "%d bytes", DISTIL_MAX_TOKEN_BYTES);
	data = distil_arena_alloc(draft->arena, nfrom + nto + 1, sizeof(*data));
	if (data == NULL)
		return distil_fail_memory(err, (nfrom + nto + 1) * sizeof(*data));
	data[0] = distil_decode_string(data + 1, pattern, nfrom);
	n = distil_decode_string(data + 1 + data[0], content, nto);
	return distil_draft_step_data(draft, draft->normalizer, &draft->nnormalizer, kind, flags, data,
								  (1 + data[0] + n) * sizeof(*data), err);
}

static DistilStatus
parse_replace(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", "pattern", "content", NULL};
	const DistilJson *pattern = distil_json_member(value, "pattern");
	const DistilJson *text = NULL;
	const char *content;
	const char *string;
	size_t		length = 0;
	bool		regex;
	char		printable[64];

	DISTIL_FORWARD(distil_draft_known(value, known, "normalizer Replace", err));
	DISTIL_FORWARD(distil_json_get_string(draft->doc, value, "content", "", &content, err));
	if (pattern != NULL && distil_json_type(pattern) == DISTIL_JSON_OBJECT && distil_json_count(pattern) == 1)
		text = distil_json_member(pattern, "String");
	regex = text == NULL;
	if (regex && pattern != NULL && distil_json_type(pattern) == DISTIL_JSON_OBJECT)
		text = distil_json_member(pattern, "Regex");
	if (text == NULL || distil_json_type(text) != DISTIL_JSON_STRING)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "normalizer Replace has no pattern");
	string = distil_json_string(text, &length);
	if (regex && strcmp(string, " {2,}") != 0)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "pattern \"%s\" of normalizer Replace is not supported",
						   distil_printable(printable, sizeof(printable), string, length));
	if (length == 0)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "an empty pattern of normalizer Replace is not supported");
	return distil_draft_replace(draft, DISTIL_NORMALIZER_REPLACE, regex ? PATTERN_BLANKS : PATTERN_STRING,
								regex ? "" : string, content, err);
}

static DistilStatus
parse_prepend(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", "prepend", NULL};
	const char *text;

	DISTIL_FORWARD(distil_draft_known(value, known, "normalizer Prepend", err));
	DISTIL_FORWARD(distil_json_get_string(draft->doc, value, "prepend", "", &text, err));
	return distil_draft_replace(draft, DISTIL_NORMALIZER_PREPEND, 0, "", text, err);
}

const DistilNormalizerPart distil_normalizer_nfd = {"NFD", DISTIL_NORMALIZER_NFD, parse_nfd, run_nfd};
const DistilNormalizerPart distil_normalizer_nfkd = {"NFKD", DISTIL_NORMALIZER_NFKD, parse_nfkd, run_nfkd};
const DistilNormalizerPart distil_normalizer_nfc = {"NFC", DISTIL_NORMALIZER_NFC, parse_nfc, run_nfc};
const DistilNormalizerPart distil_normalizer_nfkc = {"NFKC", DISTIL_NORMALIZER_NFKC, parse_nfkc, run_nfkc};
const DistilNormalizerPart distil_normalizer_nmt = {"Nmt", DISTIL_NORMALIZER_NMT, parse_nmt, run_nmt};
const DistilNormalizerPart distil_normalizer_replace = {
	"Replace", DISTIL_NORMALIZER_REPLACE, parse_replace, run_replace
};
const DistilNormalizerPart distil_normalizer_prepend = {
	"Prepend", DISTIL_NORMALIZER_PREPEND, parse_prepend, run_prepend
};
