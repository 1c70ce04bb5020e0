/*
 * tokenizer_bytes.c
 *		ByteLevel: the pre-tokenizer with the pattern of GPT-2, the decoder, offsets without blanks.
 *
 * A byte is written as one character in vocabularies: printable ones as themselves, the
 * 68 others as U+0100 and up, in order.  Words stay bytes here; only vocabularies are
 * translated.  The pattern, alternatives in order:
 *		's 't 're 've 'm 'll 'd | blank? letters | blank? numbers | blank? others |
 *		white space up to the last one before something else | white space
 * The rule a newcomer would break: a run of white space leaves its last character to
 * the next word, and only a plain space joins a word, so "a\n b" is a, \n, b with a space.
 * Radford et al., "Language models are unsupervised multitask learners", 2019.
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <string.h>

#define POLL_BYTES 65536

enum
{
	CLASS_OTHER, CLASS_LETTER, CLASS_NUMBER, CLASS_SPACE
};

/* The bytes without a character of their own: 0 to 32, 127 to 160, 173. */
uint32_t
distil_char_of(uint8_t byte)
{
	if (byte <= 32)
		return 0x100u + byte;
	if (byte >= 127 && byte <= 160)
		return 0x121u + (byte - 127u);
	return byte == 173 ? 0x143u : byte;
}

int
distil_byte_of(uint32_t cp)
{
	if (cp >= 0x100)
		return cp <= 0x120 ? (int) (cp - 0x100) : cp <= 0x142 ? (int) (cp - 0x121 + 127) : cp == 0x143 ? 173
			: -1;
	return distil_char_of((uint8_t) cp) == cp ? (int) cp : -1;
}

/* ---------- the pattern ---------- */

/* Class and bytes of the character at p; 0 bytes: invalid. */
static inline int
classify(const uint8_t *p, const uint8_t *end, int *class)
{
	uint32_t	cp = *p;
	int			n = 1;
	unsigned	flags;

	if (cp >= 0x80)
		n = distil_utf8_decode(&cp, p, end);
	if (n == 0)
		return 0;
	flags = distil_char_props(cp).flags;
	*class = (flags & DISTIL_CHAR_LETTER) != 0 ? CLASS_LETTER
		: (flags & DISTIL_CHAR_NUMBER) != 0 ? CLASS_NUMBER
		: (flags & DISTIL_CHAR_SPACE) != 0 ? CLASS_SPACE : CLASS_OTHER;
	return n;
}

static int
contraction(const uint8_t *p, const uint8_t *end)
{
	size_t		left = (size_t) (end - p);

	if (left < 2)
		return 0;
	if (p[1] == 's' || p[1] == 't' || p[1] == 'm' || p[1] == 'd')
		return 2;
	return left >= 3 && ((p[1] == 'r' && p[2] == 'e') || (p[1] == 'v' && p[2] == 'e') ||
						 (p[1] == 'l' && p[2] == 'l')) ? 3 : 0;
}

/* End of white space that begins at p: all of it, or without the last character. */
static const uint8_t *
blank_end(const uint8_t *p, const uint8_t *end)
{
	const uint8_t *start = p;
	const uint8_t *last = p;

	while (p < end)
	{
		int			class;
		int			n = classify(p, end, &class);

		if (n == 0)
			return NULL;
		if (class != CLASS_SPACE)
			return last > start ? last : p;
		last = p;
		p += n;
	}
	return p;
}

/* End of the word that begins at p < end; NULL: invalid UTF-8. */
static const uint8_t *
word_end(const uint8_t *p, const uint8_t *end)
{
	int			class;
	int			want;
	int			n;
	const uint8_t *start = p;

	if (*p == '\'')
	{
		n = contraction(p, end);
		if (n > 0)
			return p + n;
	}
	if (*p == ' ' && p + 1 < end)
		p++;
	n = classify(p, end, &want);
	if (n == 0)
		return NULL;
	if (want == CLASS_SPACE)
		return blank_end(start, end);
	p += n;
	while (p < end)
	{
		n = classify(p, end, &class);
		if (n == 0)
			return NULL;
		if (class != want)
			break;
		p += n;
	}
	return p;
}

static uint32_t
count_chars(const uint8_t *p, const uint8_t *end)
{
	uint32_t	n = 0;

	for (; p < end; p++)
		n += (*p & 0xC0) != 0x80;
	return n;
}

static DistilStatus
put_words(DistilWords *words, const uint8_t *p, const uint8_t *end, bool split, const uint32_t *sources,
		  uint32_t first, DistilError *err)
{
	const uint8_t *start = p;
	const uint8_t *polled = p;

	while (p < end && !distil_words_full(words))
	{
		const uint8_t *stop = split ? word_end(p, end) : end;

		if (stop == NULL)
			return distil_fail(err, DISTIL_ERR_ENCODING, "text is not valid UTF-8 at character %u",
							   first + count_chars(start, p));
		DISTIL_FORWARD(distil_bpe_word(words, p, (size_t) (stop - p), sources != NULL ? sources + (p - start)
									   : NULL,
									   first, err));
		words->word++;
		if (sources == NULL && words->offsets)
		{
			first += count_chars(p, stop);
			start = stop;
		}
		if (stop - polled > POLL_BYTES)
		{
			polled = stop;
			DISTIL_POLL(words->poll, err);
		}
		p = stop;
	}
	return DISTIL_OK;
}

/* A blank in front belongs to the text's first character: then sources are needed. */
static DistilStatus
run_prefixed(DistilWords *words, uint32_t flags, uint32_t first, const uint8_t *p, const uint8_t *end,
			 DistilError *err)
{
	size_t		n = (size_t) (end - p) + 1;
	uint8_t    *bytes;
	uint32_t   *sources = NULL;

	DISTIL_FORWARD(distil_span_reserve(words, n * (words->offsets ? 5 : 1) + 8, err));
	bytes = (uint8_t *) words->span.data;
	if (words->offsets)
	{
		uint32_t	source = first - 1;

		sources = (uint32_t *) (void *) words->span.data;
		bytes = (uint8_t *) (sources + n);
		sources[0] = first;
		for (size_t i = 1; i < n; i++)
		{
			source += (p[i - 1] & 0xC0) != 0x80;
			sources[i] = source;
		}
	}
	bytes[0] = ' ';
	memcpy(bytes + 1, p, n - 1);
	return put_words(words, bytes, bytes + n, (flags & DISTIL_BYTES_SPLIT) != 0, sources, first, err);
}

/* Text between added tokens. */
static DistilStatus
run_part(DistilWords *words, uint32_t *source, const uint8_t *p, const uint8_t *end, DistilError *err)
{
	uint32_t	flags = words->tokenizer->pre[0].flags;
	uint32_t	first = *source;

	if (p == end)
		return DISTIL_OK;
	if ((flags & DISTIL_BYTES_SPLIT) == 0 && !distil_utf8_valid((const char *) p, (size_t) (end - p)))
		return distil_fail(err, DISTIL_ERR_ENCODING, "text is not valid UTF-8");
	if ((flags & DISTIL_BYTES_PREFIX) != 0 && *p != ' ')
		DISTIL_FORWARD(run_prefixed(words, flags, first, p, end, err));
	else
		DISTIL_FORWARD(put_words(words, p, end, (flags & DISTIL_BYTES_SPLIT) != 0, NULL, first, err));
	*source = first + count_chars(p, end);
	return DISTIL_OK;
}

/* Without normalizers, added tokens of the normalised text are found in the text itself. */
DistilStatus
distil_bytes_run(DistilWords *words, uint32_t *source, const uint8_t *p, const uint8_t *end, DistilError *err)
{
	size_t		length = (size_t) (end - p);
	size_t		done = 0;
	size_t		search = 0;
	DistilMatch match;

	while (words->tokenizer->has_norm && search < length && !distil_words_full(words) &&
		   distil_match_find(words->tokenizer, true, words->parse_special, p, length, search, length, done,
							 &match))
	{
		if (match.start > done)
		{
			DISTIL_FORWARD(run_part(words, source, p + done, p + match.start, err));
			done = match.start;
		}
		if (distil_words_full(words))
			return DISTIL_OK;
		DISTIL_FORWARD(distil_words_match(words, &match, p, done, source, err));
		done = match.stop;
		search = match.after;
		DISTIL_POLL(words->poll, err);
	}
	return run_part(words, source, p + done, end, err);
}

DistilStatus
distil_bytes_span(DistilWords *words, uint32_t flags, const DistilChar *chars, size_t n, DistilError *err)
{
	bool		prefix = (flags & DISTIL_BYTES_PREFIX) != 0 && chars[0].cp != ' ';
	uint32_t   *sources;
	uint8_t    *bytes;
	size_t		length = 0;

	if (n > SIZE_MAX / 32)
		return distil_fail_memory(err, n);
	DISTIL_FORWARD(distil_span_reserve(words, (n + 1) * 20, err));
	sources = (uint32_t *) (void *) words->span.data;
	bytes = (uint8_t *) (sources + (n + 1) * 4);
	if (prefix)
	{
		sources[0] = chars[0].source;
		bytes[length++] = ' ';
	}
	for (size_t i = 0; i < n; i++)
	{
		int			k = distil_utf8_encode(bytes + length, chars[i].cp);

		while (k-- > 0)
			sources[length++] = chars[i].source;
	}
	return put_words(words, bytes, bytes + length, (flags & DISTIL_BYTES_SPLIT) != 0, sources, 0, err);
}

/* ---------- offsets ---------- */

static bool
is_blank(uint32_t cp)
{
	return cp == 0x120 || (distil_char_props(cp).flags & DISTIL_CHAR_SPACE) != 0;
}

void
distil_words_trim(const DistilWords *words, const char *text, size_t length, uint32_t *start, uint32_t *end)
{
	const uint8_t *p = (const uint8_t *) text;
	const uint8_t *stop = p + length;
	uint32_t	leading = 0;
	uint32_t	trailing = 0;
	uint32_t	cp;
	int			n;
	bool		all = true;

	while (p < stop && (n = distil_utf8_decode(&cp, p, stop)) > 0)
	{
		bool		blank = is_blank(cp);

		leading += blank && all;
		all &= blank;
		trailing = blank ? trailing + 1 : 0;
		p += n;
	}
	if (leading > 0)
	{
		if ((words->out->n == words->begin || *start == 0) && leading == 1 &&
			(words->tokenizer->blob->flags & DISTIL_BLOB_TRIM_PREFIX) != 0)
			leading = 0;
		*start = *start + leading < *end ? *start + leading : *end;
	}
	if (trailing > 0 && *end >= trailing)
		*end = *end - trailing > *start ? *end - trailing : *start;
}

/* ---------- decoder ---------- */

static DistilStatus
decode_token(const DistilTokenizer *tokenizer, DistilBuffer *out, const char *text, size_t length, bool first,
			 DistilError *err)
{
	const uint8_t *p = (const uint8_t *) text;
	const uint8_t *end = p + length;
	size_t		start = out->length;

	(void) tokenizer;
	(void) first;
	while (p < end)
	{
		uint32_t	cp;
		int			n = distil_utf8_decode(&cp, p, end);
		int			byte = n > 0 ? distil_byte_of(cp) : -1;
		uint8_t		value = (uint8_t) byte;

		if (byte < 0)
		{
			/* a token that is not byte-level stands for itself */
			out->length = start;
			return distil_buffer_append(out, text, length) ? DISTIL_OK : distil_fail_memory(err, length);
		}
		if (!distil_buffer_append(out, &value, 1))
			return distil_fail_memory(err, out->length + 1);
		p += n;
	}
	return DISTIL_OK;
}

/*
 * Bytes at p that are no character but begin one: they become one replacement
 * character together (Unicode's "maximal subpart").
 */
static size_t
bad_length(const uint8_t *p, const uint8_t *end)
{
	uint8_t		c = p[0];
	size_t		need = c >= 0xC2 && c < 0xE0 ? 2 : (c & 0xF0) == 0xE0 ? 3 : c >= 0xF0 && c < 0xF5 ? 4 : 1;
	uint8_t		low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
	uint8_t		high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
	size_t		n = 1;

	while (n < need && p + n < end && p[n] >= low && p[n] <= high)
	{
		low = 0x80;
		high = 0xBF;
		n++;
	}
	return n;
}

static DistilStatus
decode_finish(const DistilTokenizer *tokenizer, DistilBuffer *out, DistilError *err)
{
	DistilBuffer clean;
	const uint8_t *p;
	const uint8_t *end;
	bool		ok = true;

	(void) tokenizer;
	if (out->length == 0 || distil_utf8_valid(out->data, out->length))
		return DISTIL_OK;
	p = (const uint8_t *) out->data;
	end = p + out->length;
	distil_buffer_init(&clean, out->alloc);
	while (p < end && ok)
	{
		uint32_t	cp;
		int			n = distil_utf8_decode(&cp, p, end);

		ok = n > 0 ? distil_buffer_append(&clean, p, (size_t) n)
			: distil_buffer_append(&clean, "\xEF\xBF\xBD", 3);
		p += n > 0 ? (size_t) n : bad_length(p, end);
	}
	if (!ok)
	{
		distil_buffer_free(&clean);
		return distil_fail_memory(err, out->length * 3);
	}
	distil_buffer_free(out);
	*out = clean;
	return DISTIL_OK;
}

/* ---------- files ---------- */

static DistilStatus
read_flags(DistilDraft *draft, const DistilJson *value, const char *what, bool *prefix, bool *trim,
		   bool *split,
		   DistilError *err)
{
	static const char *const known[] = {"type", "add_prefix_space", "trim_offsets", "use_regex", NULL};

	DISTIL_FORWARD(distil_draft_known(value, known, what, err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "add_prefix_space", true, prefix, err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "trim_offsets", true, trim, err));
	return distil_json_get_bool(draft->doc, value, "use_regex", true, split, err);
}

static DistilStatus
parse_pre(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	bool		prefix;
	bool		trim;
	bool		split;

	DISTIL_FORWARD(read_flags(draft, value, "pre_tokenizer ByteLevel", &prefix, &trim, &split, err));
	if (draft->npre > 0 && (draft->pre[draft->npre - 1].flags & DISTIL_BYTES_OPEN) != 0 &&
		draft->pre[draft->npre - 1].kind == DISTIL_PRE_BYTES)
	{
		/* a Split by the same pattern has cut the words */
		if (prefix || split)
			return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "pre_tokenizer Split before ByteLevel with "
							   "add_prefix_space or use_regex is not supported");
		draft->pre[draft->npre - 1].flags = DISTIL_BYTES_SPLIT;
		return DISTIL_OK;
	}
	return distil_draft_step(draft->pre, &draft->npre, DISTIL_PRE_BYTES,
							 (prefix ? DISTIL_BYTES_PREFIX : 0u) | (split ? DISTIL_BYTES_SPLIT : 0u), err);
}

static DistilStatus
parse_decoder(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	bool		prefix;
	bool		trim;
	bool		split;

	DISTIL_FORWARD(read_flags(draft, value, "decoder ByteLevel", &prefix, &trim, &split, err));
	draft->header.decoder = DISTIL_DECODER_BYTES;
	return DISTIL_OK;
}

/* As a post-processor it adds nothing and takes blanks out of offsets. */
static DistilStatus
parse_post(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	bool		prefix;
	bool		trim;
	bool		split;

	DISTIL_FORWARD(read_flags(draft, value, "post_processor ByteLevel", &prefix, &trim, &split, err));
	draft->header.flags |= (trim ? DISTIL_BLOB_TRIM : 0u) | (prefix ? DISTIL_BLOB_TRIM_PREFIX : 0u);
	return DISTIL_OK;
}

const DistilPreTokenizerPart distil_pre_bytes = {"ByteLevel", DISTIL_PRE_BYTES, parse_pre, NULL};
const DistilPostPart distil_post_bytes = {"ByteLevel", parse_post};
const DistilDecoderPart distil_decoder_bytes = {
	"ByteLevel", DISTIL_DECODER_BYTES, parse_decoder, decode_token, decode_finish
};
