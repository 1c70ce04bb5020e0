/*
 * session_embed.c
 *		Sentence embeddings of many texts, by this session or by another one for it.
 *
 * The rule a newcomer would break: a session that works for others (distil_session_embed_tokens)
 * gets tokens from outside, so that each is checked.
 */
#include "session.h"

#include <string.h>

static DistilStatus
pool(DistilSession *session, const DistilBatch *batch, const float *hidden, DistilError *err)
{
	return distil_pipeline_forward(&session->model->spec, session->weights, session->pooled, hidden, batch,
								   NULL, session->pipeline, session->device, &session->poll, err);
}

static DistilStatus
fetch_pass(DistilSession *session, void *ctx, const DistilBatch *batch, const float *hidden,
		   const DistilWindowText *texts, int count, DistilError *err)
{
	size_t		d = (size_t) session->model->spec.info.dimensions;
	float	   *out = ctx;
	int			i;

	(void) batch;
	(void) hidden;
	DISTIL_FORWARD(distil_session_fetch(session, session->host_pooled, session->pooled,
										sizeof(float) * d * (size_t) count, err));
	for (i = 0; i < count; i++)
		memcpy(out + (size_t) texts[i].index * d, session->host_pooled + (size_t) i * d, sizeof(float) * d);
	return DISTIL_OK;
}

static DistilStatus
copy_embedding(DistilSession *session, void *ctx, int to, int from, DistilError *err)
{
	size_t		d = (size_t) session->model->spec.info.dimensions;
	float	   *out = ctx;

	(void) err;
	memcpy(out + (size_t) to * d, out + (size_t) from * d, sizeof(float) * d);
	return DISTIL_OK;
}

/* A DistilWindowRun's remote: texts lie in the window one behind the other. */
static DistilStatus
embed_remote(DistilSession *session, const DistilWindowRun *run, bool *done, DistilError *err)
{
	const DistilRemote *remote = session->remote;
	size_t		d = (size_t) session->model->spec.info.dimensions;
	int			n = session->window_count;
	float	   *out = distil_alloc_array(session->alloc, (size_t) n * d, sizeof(float));
	int32_t    *offsets = distil_alloc_array(session->alloc, (size_t) n + 1, sizeof(int32_t));
	DistilStatus status;
	int			i;

	if (out == NULL || offsets == NULL)
		status = distil_fail_memory(err, (size_t) n * (d + 1) * sizeof(float));
	else
	{
		for (i = 0; i < n; i++)
			offsets[i] = session->window[i].start;
		offsets[n] = session->window_used;
		status = remote->embed(remote->ctx, out, session->window_ids, offsets, n, run->skip, done, err);
	}
	for (i = 0; status == DISTIL_OK && *done && i < n; i++)
		memcpy((float *) run->ctx + (size_t) session->window[i].index * d, out + (size_t) i * d,
			   sizeof(float) * d);
	distil_release(session->alloc, out);
	distil_release(session->alloc, offsets);
	return status;
}

/*
 * out [n, D'] and has [n] in input order; rows without a token are zero.  prompt: an
 * index of the model's prompts or -1.  A text that is not valid UTF-8 fails the call.
 */
DistilStatus
distil_session_embed(DistilSession *session, float *out, bool *has, const DistilText *texts, int n,
					 int prompt, DistilError *err)
{
	size_t		d = (size_t) session->model->spec.info.dimensions;
	DistilWindowRun run = {
		.texts = texts, .n = n, .prompt = prompt, .compute = pool, .pass = fetch_pass, .copy = copy_embedding,
		.ctx = out, .shared = true, .remote = embed_remote
	};
	int			i;

	if (prompt < -1 || prompt >= session->model->spec.pipeline.nprompts)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "the model has no prompt number %d", prompt);
	DISTIL_FORWARD(distil_session_prompt_skip(session, prompt, &run.skip, err));
	DISTIL_FORWARD(distil_session_run_texts(session, &run, has, err));
	for (i = 0; i < n; i++)
		if (!has[i])
			memset(out + (size_t) i * d, 0, sizeof(float) * d);
	return DISTIL_OK;
}

void
distil_session_remote(DistilSession *session, const DistilRemote *remote)
{
	session->remote = remote;
}

DistilStatus
distil_session_embed_tokens(DistilSession *session, float *out, const int32_t *ids, const int32_t *offsets,
							int n, int skip, DistilError *err)
{
	DistilWindowRun run = {.n = n, .prompt = -1, .skip = skip, .compute = pool, .pass = fetch_pass,
	.ctx = out};
	int			i;

	session->window_count = 0;
	session->window_used = 0;
	for (i = 0; i < n; i++)
	{
		int			length = offsets[i + 1] - offsets[i];

		DISTIL_POLL(&session->poll, err);
		if (skip < 0 || length <= skip || length > session->max_tokens)
			return distil_fail(err, DISTIL_ERR_LIMIT, "a text of %d tokens is outside %d .. %d", length,
							   skip + 1, session->max_tokens);
		DISTIL_FORWARD(distil_session_check_ids(session, ids + offsets[i], NULL, length, err));
		DISTIL_FORWARD(distil_session_window_add(session, &run, i, ids + offsets[i], NULL, length, err));
	}
	session->stats.texts += n;
	return distil_session_window_flush(session, &run, err);
}
