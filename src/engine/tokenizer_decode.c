/*
 * tokenizer_decode.c
 *		Decoders Sequence, Replace, Strip, ByteFallback and Fuse; the blanks that clean_up_tokenization_spaces
 *		takes out.
 *
 * Tokens are collected first, then each step rewrites the list, as the reference does;
 * what is left is joined without anything between.  The rule a newcomer would break:
 * a step behind Fuse sees one text, a step before it sees tokens.
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <string.h>

enum
{
	STEP_REPLACE = 1, STEP_STRIP, STEP_BYTES, STEP_FUSE
};

/* A list is a buffer of records: length (not aligned), bytes. */
static bool
put_record(DistilBuffer *list, const void *data, size_t length)
{
	uint32_t	n = (uint32_t) length;

	return distil_buffer_append(list, &n, sizeof(n)) && (n == 0 || distil_buffer_append(list, data, length));
}

/* Record at *at, or false at the end. */
static bool
next_record(const DistilBuffer *list, size_t *at, const char **data, size_t *length)
{
	uint32_t	n;

	if (*at >= list->length)
		return false;
	memcpy(&n, list->data + *at, sizeof(n));
	*data = list->data + *at + sizeof(n);
	*length = n;
	*at += sizeof(n) + n;
	return true;
}

static DistilStatus
collect_token(const DistilTokenizer *tokenizer, DistilBuffer *out, const char *text, size_t length,
			  bool first,
			  DistilError *err)
{
	(void) tokenizer;
	(void) first;
	return put_record(out, text, length) ? DISTIL_OK : distil_fail_memory(err, out->length + length);
}

/* ---------- steps ---------- */

/* Data: length of the pattern in 4 bytes, pattern, content. */
static bool
replace_tokens(DistilBuffer *to, const DistilBuffer *from, const uint8_t *data, size_t size)
{
	size_t		at = 0;
	const char *text;
	size_t		length;
	uint32_t	n;

	if (size < sizeof(n))
		return false;
	memcpy(&n, data, sizeof(n));
	data += sizeof(n);
	size -= sizeof(n);
	if (n == 0 || n > size)
		return false;
	while (next_record(from, &at, &text, &length))
	{
		size_t		start = to->length;
		uint32_t	written;

		if (!put_record(to, "", 0))
			return false;
		for (size_t i = 0; i < length;)
		{
			bool		match = length - i >= n && memcmp(text + i, data, n) == 0;

			if (match ? (size > n && !distil_buffer_append(to, data + n, size - n))
				: !distil_buffer_append(to, text + i, 1))
				return false;
			i += match ? n : 1;
		}
		written = (uint32_t) (to->length - start - sizeof(written));
		memcpy(to->data + start, &written, sizeof(written));
	}
	return true;
}

/* Data: start, stop, length of the character, all in 4 bytes, then the character. */
static bool
strip_tokens(DistilBuffer *to, const DistilBuffer *from, const uint8_t *data, size_t size)
{
	size_t		at = 0;
	const char *text;
	size_t		length;
	uint32_t	n[3];

	if (size < sizeof(n))
		return false;
	memcpy(n, data, sizeof(n));
	data += sizeof(n);
	if (n[2] == 0 || n[2] != size - sizeof(n))
		return false;
	while (next_record(from, &at, &text, &length))
	{
		for (uint32_t i = 0; i < n[0] && length >= n[2] && memcmp(text, data, n[2]) == 0; i++)
		{
			text += n[2];
			length -= n[2];
		}
		for (uint32_t i = 0; i < n[1] && length >= n[2] && memcmp(text + length - n[2], data, n[2]) == 0; i++)
			length -= n[2];
		if (!put_record(to, text, length))
			return false;
	}
	return true;
}

static int
hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f'
		? c - 'a' + 10
		: -1;
}

/* Bytes that are no valid text become one replacement character each. */
static bool
flush_bytes(DistilBuffer *to, DistilBuffer *bytes)
{
	bool		ok = true;

	if (bytes->length > 0 && distil_utf8_valid(bytes->data, bytes->length))
		ok = put_record(to, bytes->data, bytes->length);
	else
		for (size_t i = 0; i < bytes->length && ok; i++)
			ok = put_record(to, "\xEF\xBF\xBD", 3);
	bytes->length = 0;
	return ok;
}

static bool
join_bytes(DistilBuffer *to, const DistilBuffer *from)
{
	DistilBuffer bytes;
	size_t		at = 0;
	const char *text;
	size_t		length;
	bool		ok = true;

	distil_buffer_init(&bytes, to->alloc);
	while (ok && next_record(from, &at, &text, &length))
	{
		bool		coded = length == 6 && memcmp(text, "<0x", 3) == 0 && text[5] == '>' &&
			hex_value(text[3]) >= 0 && hex_value(text[4]) >= 0;
		uint8_t		byte = coded ? (uint8_t) (hex_value(text[3]) << 4 | hex_value(text[4])) : 0;

		ok = coded ? distil_buffer_append(&bytes, &byte, 1)
			: flush_bytes(to, &bytes) && put_record(to, text, length);
	}
	ok = ok && flush_bytes(to, &bytes);
	distil_buffer_free(&bytes);
	return ok;
}

static bool
fuse_tokens(DistilBuffer *to, const DistilBuffer *from, bool record)
{
	size_t		at = 0;
	const char *text;
	size_t		length;
	uint32_t	written = 0;

	if (record && !distil_buffer_append(to, &written, sizeof(written)))
		return false;
	while (next_record(from, &at, &text, &length))
	{
		if (length > 0 && !distil_buffer_append(to, text, length))
			return false;
		written += (uint32_t) length;
	}
	if (record)
		memcpy(to->data, &written, sizeof(written));
	return true;
}

static DistilStatus
run_steps(const DistilTokenizer *tokenizer, DistilBuffer *out, DistilError *err)
{
	for (int i = 0; i <= tokenizer->ndecoder; i++)
	{
		const DistilBlobStep *step = &tokenizer->decoder[i];
		const uint8_t *data = tokenizer->data;
		DistilBuffer to;
		bool		ok;

		if (i < tokenizer->ndecoder &&
			(step->data > tokenizer->data_size || step->length > tokenizer->data_size - step->data))
			return distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has a step without its data");
		distil_buffer_init(&to, out->alloc);
		if (i == tokenizer->ndecoder)
			ok = fuse_tokens(&to, out, false);
		else if (step->kind == STEP_REPLACE)
			ok = replace_tokens(&to, out, data + step->data, step->length);
		else if (step->kind == STEP_STRIP)
			ok = strip_tokens(&to, out, data + step->data, step->length);
		else if (step->kind == STEP_BYTES)
			ok = join_bytes(&to, out);
		else
			ok = fuse_tokens(&to, out, true);
		distil_buffer_free(out);
		*out = to;
		if (!ok)
			return distil_fail_memory(err, out->length);
	}
	return DISTIL_OK;
}

/* ---------- clean_up_tokenization_spaces ---------- */

/* Each of them in the whole text before the next one, as one makes what the next one finds. */
void
distil_clean_text(DistilBuffer *text)
{
	static const struct
	{
		const char *from;
		size_t		skip;		/* bytes of it that go, in front */
		size_t		keep;		/* bytes of it that stay, then */
	}			changes[] = {
		{" .", 1, 1}, {" ?", 1, 1}, {" !", 1, 1}, {" ,", 1, 1}, {" ' ", 1, 1}, {" n't", 1, 3}, {" 'm", 1, 2},
		{" 's", 1, 2}, {" 've", 1, 3}, {" 're", 1, 3}
	};

	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
	{
		size_t		n = strlen(changes[i].from);
		size_t		to = 0;

		for (size_t at = 0; at < text->length;)
		{
			bool		match = text->length - at >= n && memcmp(text->data + at, changes[i].from, n) == 0;
			size_t		keep = match ? changes[i].keep : 1;

			memmove(text->data + to, text->data + at + (match ? changes[i].skip : 0), keep);
			to += keep;
			at += match ? n : 1;
		}
		text->length = to;
	}
}

/* ---------- files ---------- */

static DistilStatus
parse_replace(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", "pattern", "content", NULL};
	const DistilJson *pattern = distil_json_member(value, "pattern");
	const DistilJson *text = pattern != NULL && distil_json_type(pattern) == DISTIL_JSON_OBJECT
		? distil_json_member(pattern, "String") : NULL;
	const char *content;
	const char *string;
	size_t		length;
	uint32_t	n;
	char	   *data;

	DISTIL_FORWARD(distil_draft_known(value, known, "decoder Replace", err));
	DISTIL_FORWARD(distil_json_get_string(draft->doc, value, "content", "", &content, err));
	if (text == NULL || distil_json_type(text) != DISTIL_JSON_STRING)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "decoder Replace without a String is not supported");
	string = distil_json_string(text, &length);
	if (length == 0 || length > DISTIL_MAX_TOKEN_BYTES || strlen(content) > DISTIL_MAX_TOKEN_BYTES)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "decoder Replace of %zu bytes is not supported",
						   length);
	n = (uint32_t) length;
	data = distil_arena_alloc(draft->arena, sizeof(n) + length + strlen(content), 1);
	if (data == NULL)
		return distil_fail_memory(err, length);
	memcpy(data, &n, sizeof(n));
	memcpy(data + sizeof(n), string, length);
	memcpy(data + sizeof(n) + length, content, strlen(content));
	return distil_draft_step_data(draft, draft->decoder, &draft->ndecoder, STEP_REPLACE, 0, data,
								  sizeof(n) + length + strlen(content), err);
}

static DistilStatus
parse_strip(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", "content", "start", "stop", NULL};
	const char *content;
	int64_t		start;
	int64_t		stop;
	uint32_t	n[4] = {0, 0, 0, 0};
	uint32_t	cp;

	DISTIL_FORWARD(distil_draft_known(value, known, "decoder Strip", err));
	DISTIL_FORWARD(distil_json_get_string(draft->doc, value, "content", " ", &content, err));
	DISTIL_FORWARD(distil_json_get_int(draft->doc, value, "start", 0, 0, 1000000, &start, err));
	DISTIL_FORWARD(distil_json_get_int(draft->doc, value, "stop", 0, 0, 1000000, &stop, err));
	if (content[0] == '\0' || distil_utf8_decode(&cp, (const uint8_t *) content,
												 (const uint8_t *) content + strlen(content)) !=
		(int) strlen(content))
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "content of decoder Strip is not one character");
	n[0] = (uint32_t) start;
	n[1] = (uint32_t) stop;
	n[2] = (uint32_t) strlen(content);
	memcpy(&n[3], content, n[2]);
	return distil_draft_step_data(draft, draft->decoder, &draft->ndecoder, STEP_STRIP, 0, n, 12 + n[2], err);
}

static DistilStatus
parse_step(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", NULL};
	const char *type;
	char		printable[64];

	if (distil_json_type(value) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "decoder of tokenizer.json is not an object");
	DISTIL_FORWARD(distil_json_get_string(draft->doc, value, "type", "", &type, err));
	draft->header.decoder = DISTIL_DECODER_STEPS;
	if (strcmp(type, "Replace") == 0)
		return parse_replace(draft, value, err);
	if (strcmp(type, "Strip") == 0)
		return parse_strip(draft, value, err);
	if (strcmp(type, "ByteFallback") != 0 && strcmp(type, "Fuse") != 0)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "decoder Sequence with \"%s\" is not supported",
						   distil_printable(printable, sizeof(printable), type, strlen(type)));
	DISTIL_FORWARD(distil_draft_known(value, known, "decoder", err));
	return distil_draft_step(draft->decoder, &draft->ndecoder, type[0] == 'B' ? STEP_BYTES : STEP_FUSE, 0,
							 err);
}

static DistilStatus
parse_sequence(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", "decoders", NULL};
	const DistilJson *list = distil_json_member(value, "decoders");

	DISTIL_FORWARD(distil_draft_known(value, known, "decoder Sequence", err));
	if (list == NULL || distil_json_type(list) != DISTIL_JSON_ARRAY)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "decoder Sequence has no list \"decoders\"");
	draft->header.decoder = DISTIL_DECODER_STEPS;
	for (size_t i = 0; i < distil_json_count(list); i++)
		DISTIL_FORWARD(parse_step(draft, distil_json_item(list, i), err));
	return DISTIL_OK;
}

const DistilDecoderPart distil_decoder_sequence = {
	"Sequence", DISTIL_DECODER_STEPS, parse_sequence, collect_token, run_steps
};
const DistilDecoderPart distil_decoder_replace = {
	"Replace", DISTIL_DECODER_STEPS, parse_step, collect_token, run_steps
};
const DistilDecoderPart distil_decoder_strip = {
	"Strip", DISTIL_DECODER_STEPS, parse_step, collect_token, run_steps
};
const DistilDecoderPart distil_decoder_fallback = {
	"ByteFallback", DISTIL_DECODER_STEPS, parse_step, collect_token, run_steps
};
const DistilDecoderPart distil_decoder_fuse = {
	"Fuse", DISTIL_DECODER_STEPS, parse_step, collect_token, run_steps
};
