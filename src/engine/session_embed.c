/*
 * session_embed.c
 *		Sentence embeddings of many texts.
 */
#include "session.h"

#include <string.h>

static DistilStatus
pool_pass(DistilSession *session, void *ctx, const DistilBatch *batch, const float *hidden,
		  const DistilWindowText *texts, int count, DistilError *err)
{
	size_t		d = (size_t) session->model->spec.info.dimensions;
	float	   *out = ctx;
	int			i;

	DISTIL_FORWARD(distil_pipeline_forward(&session->model->spec, session->weights, session->pooled, hidden,
										   batch, NULL, session->pipeline, session->device, &session->poll,
										   err));
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
		.texts = texts, .n = n, .prompt = prompt, .pass = pool_pass, .copy = copy_embedding, .ctx = out,
		.shared = true
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
