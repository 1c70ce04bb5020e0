/*
 * session_verify.c
 *		Checks of a stored model: finite weights, tokenizer round trip, a forward pass.
 *
 * Each item is reported on its own; only what keeps the checks from running (memory,
 * a cancel) is an error of the call.
 */
#include "session.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define HOST_PART ((size_t) 4096)	/* values read one by one */
#define PART ((size_t) 1 << 20)	/* weights counted, or tokens looked up * 1024, between polls */

/* Values that are not finite among [first, first + count) of a parameter that the host reads. */
static int64_t
count_bad(const DistilSession *session, const DistilParam *param, size_t first, size_t count)
{
	float		values[HOST_PART];
	int64_t		bad = 0;
	size_t		i;
	size_t		j;

	for (i = 0; i < count; i += HOST_PART)
	{
		size_t		n = count - i < HOST_PART ? count - i : HOST_PART;

		distil_param_read(values, session->model->weights, param, first + i, n);
		for (j = 0; j < n; j++)
			bad += !isfinite(values[j]);
	}
	return bad;
}

static DistilStatus
verify_weights(DistilSession *session, DistilVerifyFn report, void *ctx, DistilError *err)
{
	const DistilParamTable *table = &session->model->spec.table;
	char		detail[256];
	int64_t	   *device_bad = session->device->ops->alloc(session->device, sizeof(int64_t));
	int64_t		total = 0;
	int			first = -1;
	int			i;
	size_t		j;

	if (device_bad == NULL)
		return distil_fail_memory(err, sizeof(int64_t));
	for (i = 0; i < table->n; i++)
		for (j = 0; j < table->params[i].count; j += PART)
		{
			size_t		count = table->params[i].count - j < PART ? table->params[i].count - j : PART;
			int64_t		bad;

			if (session->poll.stop != NULL && session->poll.stop(session->poll.ctx))
			{
				session->device->ops->release(session->device, device_bad);
				return distil_fail_cancelled(err);
			}
			if (table->params[i].type != DISTIL_TYPE_F32)
				bad = count_bad(session, &table->params[i], j, count);
			else
			{
				session->device->ops->count_nonfinite(session->device, device_bad,
													  session->weights + table->params[i].offset + j, count);
				session->device->ops->copy_out(session->device, &bad, device_bad, sizeof(bad));
			}
			total += bad;
			if (bad > 0 && first < 0)
				first = i;
		}
	session->device->ops->release(session->device, device_bad);
	DISTIL_FORWARD(distil_device_check(session->device, err));
	if (first >= 0)
		snprintf(detail, sizeof(detail), "%lld values are not finite, the first in \"%.128s\"",
				 (long long) total,
				 table->params[first].name);
	else
		snprintf(detail, sizeof(detail), "%lld parameters in %d tensors, all finite",
				 (long long) session->model->spec.info.parameters, table->n);
	report(ctx, "weights", first < 0, detail);
	return DISTIL_OK;
}

/* Every token's text gives its id again, and a text survives encode and decode. */
static DistilStatus
verify_tokenizer(DistilSession *session, DistilVerifyFn report, void *ctx, DistilError *err)
{
	const DistilTokenizer *tokenizer = session->model->tokenizer;
	int			v = distil_tokenizer_vocabulary(tokenizer);
	char		detail[256];
	int			tokens = 0;
	int			wrong = 0;
	int32_t		example = -1;
	int32_t		id;

	for (id = 0; id < v; id++)
	{
		size_t		length;
		const char *token = distil_tokenizer_token(tokenizer, id, &length);

		if (id % 1024 == 0)
			DISTIL_POLL(&session->poll, err);
		if (token == NULL)
			continue;
		tokens++;
		if (distil_tokenizer_id(tokenizer, token, length) != id && wrong++ == 0)
			example = id;
	}
	if (wrong > 0)
		snprintf(detail, sizeof(detail), "%d of %d tokens do not give their id again, the first is %d", wrong,
				 tokens, (int) example);
	else
		snprintf(detail, sizeof(detail), "%d tokens, each gives its id again", tokens);
	report(ctx, "tokenizer", wrong == 0 && tokens > 0, detail);
	return DISTIL_OK;
}

/* A pass over a short text gives finite numbers, and the same ones beside another text. */
static DistilStatus
verify_forward(DistilSession *session, DistilVerifyFn report, void *ctx, DistilError *err)
{
	DistilText	texts[2] = {{"The quick brown fox jumps over the lazy dog.", 44}, {"A second text.", 14}};
	size_t		d = (size_t) session->model->spec.info.dimensions;
	float	   *out = distil_alloc_array(session->alloc, 3 * d, sizeof(float));
	bool		has[3] = {false, false, false};
	char		detail[256];
	DistilStatus status;
	double		largest = 0;
	double		differ = 0;
	size_t		i;

	if (out == NULL)
		return distil_fail_memory(err, 3 * d * sizeof(float));
	status = distil_session_embed(session, out, has, texts, 1, -1, err);
	if (status == DISTIL_OK)
		status = distil_session_embed(session, out + d, has + 1, texts, 2, -1, err);
	if (status == DISTIL_OK)
	{
		for (i = 0; i < d; i++)
		{
			largest = isfinite(out[i]) ? fmax(largest, fabs((double) out[i])) : INFINITY;
			differ = fmax(differ, fabs((double) out[i] - out[d + i]));
		}
		snprintf(detail, sizeof(detail), "%zu dimensions, largest %.6g, alone and in a batch within %.1g", d,
				 largest, differ);
		/* float32 sums in another order: a few units of the last place of the largest value */
		report(ctx, "forward", has[0] && isfinite(largest) && largest > 0 && differ <= 1e-5 * fmax(1.0,
																								   largest),
			   detail);
	}
	distil_release(session->alloc, out);
	return status;
}

/* Reports "weights", "tokenizer" and "forward" through report(ctx, item, ok, detail). */
DistilStatus
distil_session_verify(DistilSession *session, DistilVerifyFn report, void *ctx, DistilError *err)
{
	DISTIL_FORWARD(verify_weights(session, report, ctx, err));
	DISTIL_FORWARD(verify_tokenizer(session, report, ctx, err));
	return verify_forward(session, report, ctx, err);
}
