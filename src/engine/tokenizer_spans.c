/*
 * tokenizer_spans.c
 *		Pre-tokenizers one inside the other, for words of any length; Metaspace, Digits, Split.
 *
 * Each step cuts a span and hands the parts on to the next step, so that words come out
 * in order without lists in between.  The rule a newcomer would break: Metaspace adds a
 * character in front of each span it is given, not in front of each word it makes.
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <string.h>

#define DIGITS_SINGLE	1		/* each digit by itself */
#define DIGITS_PATTERN	2		/* as \p{N} of a Split, which knows another version of Unicode */
#define POLL_WORDS		1024
#define SPLIT_REMOVED	1		/* what matches is dropped, not a word */

static DistilStatus apply(DistilWords *words, int step, const DistilChar *chars, size_t n, uint32_t start,
						  DistilError *err);

/* Behind the last step. */
static DistilStatus
put_span(DistilWords *words, const DistilChar *chars, size_t n, DistilError *err)
{
	const DistilModelPart *model = words->tokenizer->model_part;

	if (model->span == NULL)
	{
		for (size_t i = 0; i < n; i++)
			distil_words_char(words, chars[i].cp, chars[i].source);
		return distil_words_end(words, err);
	}
	DISTIL_FORWARD(model->span(words, chars, n, err));
	if (++words->word % POLL_WORDS == 0)
		DISTIL_POLL(words->poll, err);
	return DISTIL_OK;
}

/* 0 and 3: parts of a word of that class; 1: dropped; 2: alone */
static int
class_of(const DistilBlobStep *step, const DistilPreTokenizerPart *part, uint32_t cp)
{
	if (part->kind == DISTIL_PRE_DIGITS)
	{
		unsigned	digit = (step->flags & DIGITS_PATTERN) != 0 ? DISTIL_CHAR_NUMBER : DISTIL_CHAR_NUMERIC;

		if ((distil_char_props(cp).flags & digit) == 0)
			return 0;
		return (step->flags & DIGITS_SINGLE) != 0 ? 2 : 3;
	}
	return part->classify(cp);
}

static DistilStatus
cut_classes(DistilWords *words, int step, const DistilPreTokenizerPart *part, const DistilChar *chars,
			size_t n,
			DistilError *err)
{
	size_t		i = 0;

	while (i < n && !distil_words_full(words))
	{
		size_t		from = i;
		int			class = class_of(&words->tokenizer->pre[step], part, chars[i++].cp);

		if (class == 1)
			continue;
		while (class != 2 && i < n && class_of(&words->tokenizer->pre[step], part, chars[i].cp) == class)
			i++;
		DISTIL_FORWARD(apply(words, step + 1, chars + from, i - from, chars[from].source, err));
	}
	return DISTIL_OK;
}

static DistilStatus
meta_chars(DistilChars *out, uint32_t flags, const DistilChar *chars, size_t n, uint32_t start,
		   DistilError *err)
{
	uint32_t	mark = flags >> DISTIL_META_SHIFT;
	uint32_t	first = chars[0].cp == ' ' ? mark : chars[0].cp;

	out->n = 0;
	if (out->capacity < n + 1)
	{
		DistilChar *items = distil_alloc_array(out->alloc, 2 * (n + 1), sizeof(*items));

		if (items == NULL)
			return distil_fail_memory(err, 2 * (n + 1) * sizeof(*items));
		distil_release(out->alloc, out->items);
		out->items = items;
		out->capacity = 2 * (n + 1);
	}
	if (first != mark &&
		((flags & DISTIL_META_ALWAYS) != 0 || ((flags & DISTIL_META_FIRST) != 0 && start == 0)))
		out->items[out->n++] = (DistilChar) {mark, chars[0].source};
	for (size_t i = 0; i < n; i++)
		out->items[out->n++] = (DistilChar) {chars[i].cp == ' ' ? mark : chars[i].cp, chars[i].source};
	return DISTIL_OK;
}

static DistilStatus
cut_meta(DistilWords *words, int step, const DistilChar *chars, size_t n, uint32_t start, DistilError *err)
{
	uint32_t	flags = words->tokenizer->pre[step].flags;
	uint32_t	mark = flags >> DISTIL_META_SHIFT;
	size_t		from = 0;

	if (mark >= 0x110000 || chars == words->scratch.items)
		return distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has a bad Metaspace");
	DISTIL_FORWARD(meta_chars(&words->scratch, flags, chars, n, start, err));
	chars = words->scratch.items;
	n = words->scratch.n;
	if ((flags & DISTIL_META_SPLIT) == 0)
		return apply(words, step + 1, chars, n, start, err);
	for (size_t i = 1; i <= n && !distil_words_full(words); i++)
		if (i == n || chars[i].cp == mark)
		{
			DISTIL_FORWARD(apply(words, step + 1, chars + from, i - from, chars[from].source, err));
			from = i;
		}
	return DISTIL_OK;
}

/* Data: the pattern as code points. */
static DistilStatus
cut_pattern(DistilWords *words, int step, const DistilChar *chars, size_t n, DistilError *err)
{
	const DistilTokenizer *tokenizer = words->tokenizer;
	const DistilBlobStep *s = &tokenizer->pre[step];
	const uint32_t *pattern = (const uint32_t *) (const void *) (tokenizer->data + s->data);
	size_t		length = s->length / sizeof(uint32_t);
	size_t		from = 0;
	size_t		i = 0;

	if (s->data % 8 != 0 || s->data > tokenizer->data_size || s->length > tokenizer->data_size - s->data ||
		length == 0)
		return distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has a step without its data");
	while (i < n && !distil_words_full(words))
	{
		size_t		k = 0;

		while (k < length && i + k < n && chars[i + k].cp == pattern[k])
			k++;
		if (k < length)
		{
			i++;
			continue;
		}
		DISTIL_FORWARD(apply(words, step + 1, chars + from, i - from, chars[from].source, err));
		if ((s->flags & SPLIT_REMOVED) == 0)
			DISTIL_FORWARD(apply(words, step + 1, chars + i, length, chars[i].source, err));
		from = i += length;
	}
	return from < n ? apply(words, step + 1, chars + from, n - from, chars[from].source, err) : DISTIL_OK;
}

static DistilStatus
apply(DistilWords *words, int step, const DistilChar *chars, size_t n, uint32_t start, DistilError *err)
{
	const DistilTokenizer *tokenizer = words->tokenizer;
	const DistilPreTokenizerPart *part;

	if (n == 0)
		return DISTIL_OK;
	if (step == tokenizer->npre)
		return put_span(words, chars, n, err);
	part = distil_pre_tokenizer_kind(tokenizer->pre[step].kind);
	if (part == NULL)
		return distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has unknown pre-tokenizer %u",
						   tokenizer->pre[step].kind);
	if (part->kind == DISTIL_PRE_METASPACE)
		return cut_meta(words, step, chars, n, start, err);
	if (part->kind == DISTIL_PRE_PATTERN)
		return cut_pattern(words, step, chars, n, err);
	if (part->kind == DISTIL_PRE_BYTES)
		return tokenizer->bytes != NULL && step + 1 == tokenizer->npre
			? distil_bytes_span(words, tokenizer->pre[step].flags, chars, n, err)
			: distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has ByteLevel in the wrong place");
	return cut_classes(words, step, part, chars, n, err);
}

DistilStatus
distil_spans_put(DistilWords *words, const DistilChars *chars, size_t from, size_t to, DistilError *err)
{
	DISTIL_POLL(words->poll, err);
	/* the first one of the text is at its beginning only if no normalizer deleted what was before it */
	return apply(words, 0, chars->items + from, to - from, chars->items[from].source, err);
}

/* ---------- decoder Metaspace ---------- */

/* Marks become blanks; those of the first token go, if one was added to the text. */
static DistilStatus
decode_token(const DistilTokenizer *tokenizer, DistilBuffer *out, const char *text, size_t length, bool first,
			 DistilError *err)
{
	const uint8_t *p = (const uint8_t *) text;
	const uint8_t *end = p + length;
	uint32_t	mark = tokenizer->blob->decoder_flags >> DISTIL_META_SHIFT;
	bool        drop = first &&
		(tokenizer->blob->decoder_flags & (DISTIL_META_ALWAYS | DISTIL_META_FIRST)) != 0;

	while (p < end)
	{
		uint32_t	cp;
		int			n = distil_utf8_decode(&cp, p, end);
		bool		ok = true;

		if (n == 0)
		{
			n = 1;
			cp = 0xFFFD;
		}
		if (cp != mark)
			ok = distil_buffer_append(out, p, (size_t) n);
		else if (!drop)
			ok = distil_buffer_append(out, " ", 1);
		if (!ok)
			return distil_fail_memory(err, out->length + 4);
		p += n;
	}
	return DISTIL_OK;
}

/* ---------- files ---------- */

static DistilStatus
read_meta(DistilDraft *draft, const DistilJson *value, const char *what, uint32_t *flags, DistilError *err)
{
	static const char *const known[] = {
		"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep", NULL
	};
	const char *mark;
	const char *scheme;
	const DistilJson *add = distil_json_member(value, "add_prefix_space");
	bool		prefix;
	bool		split;
	uint32_t	cp;
	char		printable[64];

	DISTIL_FORWARD(distil_draft_known(value, known, what, err));
	DISTIL_FORWARD(distil_json_get_string(draft->doc, value, "replacement", "\xE2\x96\x81", &mark, err));
	DISTIL_FORWARD(distil_json_get_string(draft->doc, value, "prepend_scheme", "always", &scheme, err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "add_prefix_space", true, &prefix, err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "split", true, &split, err));
	if (distil_utf8_decode(&cp, (const uint8_t *) mark, (const uint8_t *) mark + strlen(mark)) !=
		(int) strlen(mark) || mark[0] == '\0')
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "replacement of %s is not one character", what);
	if (add != NULL && !prefix)
		scheme = "never";
	if (strcmp(scheme, "always") != 0 && strcmp(scheme, "first") != 0 && strcmp(scheme, "never") != 0)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "prepend_scheme \"%s\" of %s is not supported",
						   distil_printable(printable, sizeof(printable), scheme, strlen(scheme)), what);
	*flags = cp << DISTIL_META_SHIFT | (split ? DISTIL_META_SPLIT : 0u) |
		(scheme[0] == 'a' ? DISTIL_META_ALWAYS : scheme[0] == 'f' ? DISTIL_META_FIRST : 0u);
	return DISTIL_OK;
}

static DistilStatus
parse_meta(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	uint32_t	flags = 0;

	DISTIL_FORWARD(read_meta(draft, value, "pre_tokenizer Metaspace", &flags, err));
	for (int i = 0; i < draft->npre; i++)
		if (draft->pre[i].kind == DISTIL_PRE_METASPACE)
			return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
							   "more than one pre_tokenizer Metaspace is not supported");
	return distil_draft_step(draft->pre, &draft->npre, DISTIL_PRE_METASPACE, flags, err);
}

static DistilStatus
parse_decoder(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	draft->header.decoder = DISTIL_DECODER_METASPACE;
	return read_meta(draft, value, "decoder Metaspace", &draft->header.decoder_flags, err);
}

static DistilStatus
parse_digits(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", "individual_digits", NULL};
	bool		single;

	DISTIL_FORWARD(distil_draft_known(value, known, "pre_tokenizer Digits", err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "individual_digits", false, &single, err));
	return distil_draft_step(draft->pre, &draft->npre, DISTIL_PRE_DIGITS, single ? DIGITS_SINGLE : 0, err);
}

/*
 * Patterns that are what another part does anyway; `removed`: what matches is dropped.  GPT-2's matches every
 * character, so it cuts the same whether its matches or, inverted, what is between them is dropped.
 */
static const struct
{
	const char *regex;
	bool		removed;
	uint32_t	kind;
	uint32_t	flags;
}			expressions[] = {
	{"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", false,
	DISTIL_PRE_BYTES, DISTIL_BYTES_SPLIT | DISTIL_BYTES_OPEN},
	{"'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", false,
	DISTIL_PRE_BYTES, DISTIL_BYTES_SPLIT | DISTIL_BYTES_OPEN},
	{"\\s+", true, DISTIL_PRE_SPLIT, 0},
	{"\\p{N}", false, DISTIL_PRE_DIGITS, DIGITS_SINGLE | DIGITS_PATTERN},
	{"\\p{N}+", false, DISTIL_PRE_DIGITS, DIGITS_PATTERN}
};

static DistilStatus
parse_expression(DistilDraft *draft, const char *regex, const char *behavior, bool invert, DistilError *err)
{
	bool		removed = strcmp(behavior, "Removed") == 0;
	char		printable[200];

	for (size_t i = 0; i < sizeof(expressions) / sizeof(expressions[0]); i++)
	{
		bool		whole = expressions[i].kind == DISTIL_PRE_BYTES;

		if (strcmp(expressions[i].regex, regex) != 0 || (!removed && strcmp(behavior, "Isolated") != 0) ||
			(whole ? removed && !invert : invert || removed != expressions[i].removed))
			continue;
		return distil_draft_step(draft->pre, &draft->npre, expressions[i].kind, expressions[i].flags, err);
	}
	distil_fail(err, DISTIL_ERR_UNSUPPORTED, "pattern \"%s\" of pre_tokenizer Split is not supported",
				distil_printable(printable, sizeof(printable), regex, strlen(regex)));
	return distil_fail_detail(err, DISTIL_ERR_UNSUPPORTED, "Its behavior is \"%s\"%s.",
							  distil_printable(printable, sizeof(printable), behavior, strlen(behavior)),
							  invert ? ", inverted" : "");
}

static DistilStatus
parse_split(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", "pattern", "behavior", "invert", NULL};
	const DistilJson *pattern = distil_json_member(value, "pattern");
	const DistilJson *text = NULL;
	const char *behavior;
	const char *string;
	size_t		length;
	uint32_t   *data;
	uint32_t	n;
	bool		invert;
	char		printable[64];

	DISTIL_FORWARD(distil_draft_known(value, known, "pre_tokenizer Split", err));
	DISTIL_FORWARD(distil_json_get_string(draft->doc, value, "behavior", "", &behavior, err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "invert", false, &invert, err));
	if (pattern != NULL && distil_json_type(pattern) == DISTIL_JSON_OBJECT)
	{
		const DistilJson *regex = distil_json_member(pattern, "Regex");

		if (regex != NULL && distil_json_type(regex) == DISTIL_JSON_STRING)
			return parse_expression(draft, distil_json_string(regex, NULL), behavior, invert, err);
		text = distil_json_member(pattern, "String");
	}
	if (text == NULL || distil_json_type(text) != DISTIL_JSON_STRING || invert)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "pre_tokenizer Split other than by a String is not supported");
	if (strcmp(behavior, "Isolated") != 0 && strcmp(behavior, "Removed") != 0)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "behavior \"%s\" of pre_tokenizer Split is not supported",
						   distil_printable(printable, sizeof(printable), behavior, strlen(behavior)));
	string = distil_json_string(text, &length);
	if (length == 0 || length > DISTIL_MAX_TOKEN_BYTES)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "pattern of %zu bytes of pre_tokenizer Split"
						   " is not supported", length);
	data = distil_arena_alloc(draft->arena, length, sizeof(*data));
	if (data == NULL)
		return distil_fail_memory(err, length * sizeof(*data));
	n = distil_decode_string(data, string, length);
	return distil_draft_step_data(draft, draft->pre, &draft->npre, DISTIL_PRE_PATTERN,
								  behavior[0] == 'R' ? SPLIT_REMOVED : 0, data, n * sizeof(*data), err);
}

const DistilPreTokenizerPart distil_pre_pattern = {"Split", DISTIL_PRE_PATTERN, parse_split, NULL};
const DistilPreTokenizerPart distil_pre_metaspace = {"Metaspace", DISTIL_PRE_METASPACE, parse_meta, NULL};
const DistilPreTokenizerPart distil_pre_digits = {"Digits", DISTIL_PRE_DIGITS, parse_digits, NULL};
const DistilDecoderPart distil_decoder_metaspace = {
	"Metaspace", DISTIL_DECODER_METASPACE, parse_decoder, decode_token, NULL
};
