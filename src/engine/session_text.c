/*
 * session_text.c
 *		From a text to tokens: prompt, truncation, as sentence-transformers does.
 *
 * The prompt is put before the text as text, so the two are tokenised together; its
 * length in tokens is that of the prompt alone without the closing special token.
 */
#include "session.h"

#include <string.h>

#define KEEP_TOKENS 65536				/* larger encodings are given back */

/*
 * Index of the prompt to put before texts, -1: none.  name NULL: the model's default.
 * DISTIL_ERR_UNKNOWN lists the names the model has.
 */
DistilStatus
distil_model_prompt(const DistilModel *model, int *prompt, const char *name, DistilError *err)
{
	const DistilPipeline *pipeline = &model->spec.pipeline;
	char		shown[128];
	char		list[256] = "";
	size_t		used = 0;
	int			i;

	*prompt = -1;
	if (name == NULL)
	{
		*prompt = pipeline->default_prompt < pipeline->nprompts ? pipeline->default_prompt : -1;
		return DISTIL_OK;
	}
	for (i = 0; i < pipeline->nprompts; i++)
	{
		const char *known = pipeline->prompt_names[i];
		size_t		length = strlen(known);

		if (strcmp(known, name) == 0)
		{
			*prompt = i;
			return DISTIL_OK;
		}
		if (used + length + 3 < sizeof(list))
		{
			if (used > 0)
			{
				memcpy(list + used, ", ", 2);
				used += 2;
			}
			memcpy(list + used, known, length);
			used += length;
			list[used] = '\0';
		}
	}
	distil_fail(err, DISTIL_ERR_UNKNOWN, "the model has no prompt \"%s\"",
				distil_printable(shown, sizeof(shown), name, strlen(name)));
	if (pipeline->nprompts == 0)
		return distil_fail_detail(err, DISTIL_ERR_UNKNOWN, "The model has no prompts.");
	return distil_fail_detail(err, DISTIL_ERR_UNKNOWN, "Its prompts are: %s.", list);
}

/* "query" if the model has it, else -1, though there be a default prompt. */
int
distil_model_query_prompt(const DistilModel *model)
{
	const DistilPipeline *pipeline = &model->spec.pipeline;
	int			i;

	for (i = 0; i < pipeline->nprompts; i++)
		if (strcmp(pipeline->prompt_names[i], "query") == 0)
			return i;
	return -1;
}

/* Encode prompt + text without counting. */
static DistilStatus
encode(DistilSession *session, const DistilText *text, const DistilText *pair, int prompt, DistilError *err)
{
	const DistilTokenizer *tokenizer = session->model->tokenizer;
	DistilEncodeOptions options = distil_tokenizer_defaults(tokenizer);
	DistilText	joined = *text;

	options.max_tokens = session->max_tokens;
	options.offsets = session->want_offsets;
	options.truncation = DISTIL_TRUNCATE_LONGEST_FIRST;
	if (session->encoding.capacity > KEEP_TOKENS)
	{
		distil_encoding_reset(&session->encoding);
		distil_encoding_init(&session->encoding, session->alloc);
	}
	if (prompt >= 0)
	{
		const char *words = session->model->spec.pipeline.prompts[prompt];
		size_t		length = strlen(words);

		if (session->text.capacity > KEEP_TOKENS)
		{
			distil_buffer_free(&session->text);
			distil_buffer_init(&session->text, session->alloc);
		}
		session->text.length = 0;
		if (!distil_buffer_append(&session->text, words, length) ||
			!distil_buffer_append(&session->text, text->data, text->length))
			return distil_fail_memory(err, length + text->length);
		joined.data = session->text.data != NULL ? session->text.data : "";
		joined.length = session->text.length;
	}
	return distil_tokenizer_encode(tokenizer, &session->encoding, &joined, pair, &options, &session->poll,
								   err);
}

/* The tokenizer's file may know more than the tables of the weights hold. */
DistilStatus
distil_session_check_ids(const DistilSession *session, const int32_t *ids, const int32_t *types, int n,
						 DistilError *err)
{
	const DistilConfig *config = &session->model->spec.config;
	int			i;

	for (i = 0; i < n; i++)
	{
		if (ids[i] < 0 || ids[i] >= config->vocabulary)
			return distil_fail(err, DISTIL_ERR_LIMIT, "token %d is outside the model's vocabulary of %d",
							   (int) ids[i], config->vocabulary);
		if (types != NULL && config->types > 0 && (types[i] < 0 || types[i] >= config->types))
			return distil_fail(err, DISTIL_ERR_LIMIT, "segment %d is outside the model's %d segments",
							   (int) types[i], config->types);
	}
	return DISTIL_OK;
}

DistilStatus
distil_session_encode(DistilSession *session, const DistilText *text, const DistilText *pair, int prompt,
					  DistilError *err)
{
	double		start = distil_session_clock();
	DistilStatus status = encode(session, text, pair, prompt, err);

	session->stats.tokenizer_seconds += distil_session_clock() - start;
	if (status != DISTIL_OK)
		return status;
	DISTIL_FORWARD(distil_session_check_ids(session, session->encoding.ids, session->encoding.types,
											session->encoding.n, err));
	session->stats.texts++;
	if (session->encoding.truncated)
		session->stats.truncated++;
	return DISTIL_OK;
}

DistilStatus
distil_session_prompt_skip(DistilSession *session, int prompt, int *skip, DistilError *err)
{
	DistilText	none = {"", 0};
	DistilEncoding *encoding = &session->encoding;

	*skip = 0;
	if (prompt < 0 || session->model->spec.pipeline.include_prompt ||
		session->model->spec.pipeline.prompts[prompt][0] == '\0')
		return DISTIL_OK;
	if (prompt != session->prompt)
	{
		DISTIL_FORWARD(encode(session, &none, NULL, prompt, err));
		session->pool_skip = encoding->n;
		if (encoding->n > 0 && distil_tokenizer_is_special(session->model->tokenizer,
														   encoding->ids[encoding->n - 1]))
			session->pool_skip--;
		session->prompt = prompt;
	}
	*skip = session->pool_skip;
	return DISTIL_OK;
}
