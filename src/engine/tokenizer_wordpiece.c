/*
 * tokenizer_wordpiece.c
 *		The WordPiece model and its decoder.
 *
 * Greedy longest match from the left; pieces after the first one are looked up with
 * the prefix ("##") by starting in the state that the prefix leads to.  The rule a
 * newcomer would break: if any piece fails, the whole word is one unknown token.
 * Schuster and Nakajima, "Japanese and Korean voice search", 2012.
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <string.h>

#define CLEANUP 1				/* decoder flag */

static DistilStatus
unknown_word(DistilWords *words, int first, DistilError *err)
{
	words->out->n = first;
	return distil_words_token(words, words->tokenizer->blob->unk, words->first_source, words->last_source + 1,
							  err);
}

static DistilStatus
encode_word(DistilWords *words, DistilError *err)
{
	const DistilTokenizer *tokenizer = words->tokenizer;
	const DistilTrie *trie = &tokenizer->model;
	const uint8_t *bytes = words->bytes;
	size_t		length = words->length;
	size_t		at = 0;
	uint32_t	state = 0;
	int			first = words->out->n;

	if (words->nchars > words->max_chars)
		return unknown_word(words, first, err);
	while (at < length)
	{
		int32_t		id = -1;
		size_t		end = at;

		if (at > 0 && tokenizer->continuation == 0)
			return unknown_word(words, first, err);
		for (size_t i = at; i < length && distil_trie_step(trie, &state, bytes[i]); i++)
		{
			int32_t		value = distil_trie_value(trie, state);

			if (value >= 0)
			{
				id = value;
				end = i + 1;
			}
		}
		if (id < 0)
			return unknown_word(words, first, err);
		DISTIL_FORWARD(distil_words_token(words, id, words->offsets ? words->sources[at] : 0,
										  words->offsets ? words->sources[end - 1] + 1 : 0, err));
		at = end;
		state = tokenizer->continuation;
	}
	return DISTIL_OK;
}

static DistilStatus
parse_model(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {
		"type", "vocab", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", NULL
	};
	const char *prefix;
	int64_t		max_chars;

	DISTIL_FORWARD(distil_draft_known(value, known, "model WordPiece", err));
	DISTIL_FORWARD(distil_json_get_string(draft->doc, value, "unk_token", "[UNK]", &draft->unk, err));
	DISTIL_FORWARD(distil_json_get_string(draft->doc, value, "continuing_subword_prefix", "##", &prefix,
										  err));
	DISTIL_FORWARD(distil_json_get_int(draft->doc, value, "max_input_chars_per_word", 100, 0, INT32_MAX,
									   &max_chars, err));
	if (max_chars > DISTIL_MAX_WORD_CHARS)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "max_input_chars_per_word %lld of model WordPiece is not supported",
						   (long long) max_chars);
	if (prefix[0] == '\0' || strlen(prefix) > DISTIL_PREFIX_BYTES)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "continuing_subword_prefix of %zu bytes of model WordPiece is not supported",
						   strlen(prefix));
	draft->header.model = DISTIL_MODEL_WORDPIECE;
	draft->header.max_chars = (uint32_t) max_chars;
	draft->header.prefix_length = (uint32_t) strlen(prefix);
	memcpy(draft->header.prefix, prefix, strlen(prefix));
	return DISTIL_OK;
}

/* ---------- decoder ---------- */

static DistilStatus
parse_decoder(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", "prefix", "cleanup", NULL};
	const char *prefix;
	bool		cleanup;

	DISTIL_FORWARD(distil_draft_known(value, known, "decoder WordPiece", err));
	DISTIL_FORWARD(distil_json_get_string(draft->doc, value, "prefix", "##", &prefix, err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "cleanup", true, &cleanup, err));
	if (strlen(prefix) > DISTIL_PREFIX_BYTES)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "prefix of %zu bytes of decoder WordPiece is not supported",
						   strlen(prefix));
	draft->header.decoder = DISTIL_DECODER_WORDPIECE;
	draft->header.decoder_flags = cleanup ? CLEANUP : 0;
	draft->header.decoder_prefix_length = (uint32_t) strlen(prefix);
	memcpy(draft->header.decoder_prefix, prefix, strlen(prefix));
	return DISTIL_OK;
}

/* Replace every `from` in bytes [start, out->length) by `to`, which is never longer than from. */
static void
replace_all(DistilBuffer *out, size_t start, const char *from, const char *to)
{
	size_t		nfrom = strlen(from);
	size_t		nto = strlen(to);
	size_t		write = start;
	size_t		read = start;

	while (read < out->length)
	{
		if (out->length - read >= nfrom && memcmp(out->data + read, from, nfrom) == 0)
		{
			memcpy(out->data + write, to, nto);
			write += nto;
			read += nfrom;
		}
		else
			out->data[write++] = out->data[read++];
	}
	out->length = write;
}

/*
 * The clean-up is done on each token by itself, as the Rust library does, so that
 * the list below rarely meets more than one word.
 */
static DistilStatus
decode_token(const DistilTokenizer *tokenizer, DistilBuffer *out,
			 const char *text, size_t length, bool first, DistilError *err)
{
	static const char *const pairs[][2] = {
		{" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"}, {" 'm", "'m"},
		{" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}
	};
	const DistilTokenizerBlob *blob = tokenizer->blob;
	size_t		start = out->length;
	bool		ok = true;

	if (!first)
	{
		if (length >= blob->decoder_prefix_length &&
			memcmp(text, blob->decoder_prefix, blob->decoder_prefix_length) == 0)
		{
			text += blob->decoder_prefix_length;
			length -= blob->decoder_prefix_length;
		}
		else
			ok = distil_buffer_append(out, " ", 1);
	}
	if (!ok || !distil_buffer_append(out, text, length))
		return distil_fail_memory(err, out->length + length);
	if ((blob->decoder_flags & CLEANUP) != 0)
		for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
			replace_all(out, start, pairs[i][0], pairs[i][1]);
	return DISTIL_OK;
}

/* No decoder: tokens with one space between. */
static DistilStatus
decode_plain(const DistilTokenizer *tokenizer, DistilBuffer *out,
			 const char *text, size_t length, bool first, DistilError *err)
{
	(void) tokenizer;
	if ((!first && !distil_buffer_append(out, " ", 1)) || !distil_buffer_append(out, text, length))
		return distil_fail_memory(err, out->length + length);
	return DISTIL_OK;
}

const DistilModelPart distil_model_wordpiece = {"WordPiece", DISTIL_MODEL_WORDPIECE, parse_model,
												encode_word, NULL, NULL};
const DistilDecoderPart distil_decoder_plain = {NULL, DISTIL_DECODER_NONE, NULL, decode_plain, NULL};
const DistilDecoderPart distil_decoder_wordpiece = {
	"WordPiece", DISTIL_DECODER_WORDPIECE, parse_decoder, decode_token, NULL
};
