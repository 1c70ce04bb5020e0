/*
 * layer_attention.c
 *		out = dropout(W_o attention(W_qkv x)), and backward.
 *
 * Attention's cost is quadratic in a sequence's length, so its units are made from
 * lengths: many short sequences in one call, a long one cut by heads, and forward the
 * queries of one head where that is still too much.
 */
#include <math.h>

#include "layers.h"

#define BACKWARD_FACTOR 2.5		/* work of backward to that of forward */

/* Attention of some sequences and heads: forward, or backward when dcontext is there. */
typedef struct AttentionJob
{
	float	   *context;		/* [T, C] */
	float	   *lse;			/* [T, H] or NULL */
	const float *qkv;			/* [T, 3C] */
	float	   *dqkv;			/* [T, 3C], backward */
	const float *dcontext;		/* [T, C], backward */
	DistilRows	low_context;	/* instead of context and qkv, in low precision */
	DistilRows	low_qkv;
	const DistilHalfLayer *half;	/* the same, in bfloat16; with the two below backward */
	uint16_t   *half_dqkv;
	const uint16_t *half_dcontext;
} AttentionJob;

static void
run_attention(const DistilPass *pass, const AttentionJob *job, const int32_t *offsets,
			  const DistilAttention *attention)
{
	if (job->half_dcontext != NULL)
		pass->device->ops->half->attention_backward(pass->device, job->half_dqkv, job->half_dcontext,
													job->half->qkv, job->half->context, job->half->lse,
													offsets, attention);
	else if (job->half != NULL)
		pass->device->ops->half->attention_forward(pass->device, job->half->context, job->half->lse,
												   job->half->qkv, offsets, attention);
	else if (job->low_qkv.data != NULL)
		pass->device->ops->attention_rows(pass->device, &job->low_context, &job->low_qkv, offsets, attention);
	else if (job->dcontext == NULL)
		pass->device->ops->attention_forward(pass->device, job->context, job->lse, job->qkv, offsets,
											 attention);
	else
		pass->device->ops->attention_backward(pass->device, job->dqkv, job->dcontext, job->qkv, job->context,
											  job->lse, offsets, attention);
}

static float
attention_scale(const DistilConfig *config, int index)
{
	double		scale = config->unscaled_attention ? 1.0 : 1.0 / sqrt((double) config->head_dim);

	return (float) (config->layer_scaled_attention ? scale / (index + 1) : scale);
}

/*
 * In how many parts the queries past .. length - 1 of a head are done;
 * units: its work if all rows were queries.
 */
static int
query_parts(double units, int past, int length)
{
	double		parts = ceil(units * (length - past) / length);

	return parts < length - past ? (int) parts : length - past;
}

/* Part `part` of them: as many in each. */
static void
set_queries(DistilAttention *attention, int past, int length, int part, int parts)
{
	int64_t		queries = length - past;

	attention->query_first = past + (int) (queries * part / parts);
	attention->query_end = past + (int) (queries * (part + 1) / parts);
}

/* All sequences and heads of the batch in units. */
static DistilStatus
attend(const DistilPass *pass, int index, const AttentionJob *job, DistilError *err)
{
	const DistilConfig *config = &pass->spec->config;
	const int32_t *host = pass->batch->host_offsets;
	bool		backward = job->dcontext != NULL || job->half_dcontext != NULL;
	double		unit = DISTIL_UNIT_ATTENTION(pass->device) / (backward ? BACKWARD_FACTOR : 1.0);
	DistilAttention attention = {0};
	int			past = pass->cache != NULL ? pass->cache->past : 0;
	int			first = 0;

	attention.heads = config->heads;
	attention.head_dim = config->head_dim;
	attention.scale = attention_scale(config, index);
	attention.causal = config->causal;
	attention.query_first = past;
	attention.bytes = pass->spec->table.params[pass->spec->layer[index].qkv_weight].type == DISTIL_TYPE_INT8;
	if (config->relative_buckets > 0)
	{
		attention.relative = pass->activations->relative;
		attention.relative_limit = pass->activations->relative_limit;
		attention.drelative = backward ? pass->activations->drelative : NULL;
	}
	attention.dropout = distil_pass_dropout(pass, config->attention_dropout, index,
											DISTIL_DROP_PROBABILITIES);
	while (first < pass->batch->nseq)
	{
		double		work = 0;
		int			count = 0;
		int			longest = 0;
		int			heads = config->heads;
		int			parts = 1;
		int			head;
		int			part;

		while (first + count < pass->batch->nseq)
		{
			double		length = host[first + count + 1] - host[first + count];
			double		more = 4.0 * length * length * config->width;

			if (count > 0 && work + more > unit)
				break;
			work += more;
			count++;
			longest = length > longest ? (int) length : longest;
		}
		if (work > unit)		/* one long sequence */
		{
			heads = (int) (unit / (work / config->heads));
			if (heads < 1 && !backward)
				parts = query_parts(work / config->heads / unit, past, host[first + 1] - host[first]);
			heads = heads > 0 ? heads : 1;
		}
		attention.nseq = count;
		attention.longest = longest;
		for (head = 0; head < config->heads; head += heads)
		{
			attention.head_first = head;
			attention.head_count = config->heads - head < heads ? config->heads - head : heads;
			for (part = 0; part < parts; part++)
			{
				DISTIL_POLL(pass->poll, err);
				if (parts > 1)
					set_queries(&attention, past, host[first + 1] - host[first], part, parts);
				run_attention(pass, job, pass->batch->offsets + first, &attention);
			}
		}
		attention.query_first = past;
		attention.query_end = 0;
		first += count;
	}
	return DISTIL_OK;
}

DistilDropout
distil_attention_dropout(const DistilPass *pass, int index)
{
	const DistilConfig *config = &pass->spec->config;

	return distil_pass_dropout(pass, config->attention_output_dropout ? config->hidden_dropout : 0, index,
							   DISTIL_DROP_ATTENTION_OUTPUT);
}

DistilStatus
distil_attention_forward(const DistilPass *pass, int index, float *out, const float *x, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilLayerParams *params = &spec->layer[index];
	DistilActivations *a = pass->activations;
	const DistilKeyCache *cache = pass->cache;
	DistilSavedLayer *saved = a->saved ? &a->layer[index] : NULL;
	DistilDropout dropout = distil_attention_dropout(pass, index);
	int			t = pass->batch->ntokens;
	int			c = spec->config.width;
	size_t		tc = (size_t) t * c;
	size_t		past = cache != NULL ? (size_t) cache->past : 0;
	AttentionJob job = {0};
	float	   *qkv = saved != NULL ? saved->qkv : a->scratch;

	job.context = saved != NULL ? saved->context : a->scratch + 3 * tc;
	if (cache != NULL)
	{
		qkv = (float *) cache->qkv + (size_t) index * (size_t) cache->limit * 3 * (size_t) c;
		job.context = cache->context;
	}
	job.lse = saved != NULL ? saved->lse : NULL;
	job.qkv = qkv;
	x = distil_tap(pass, index, DISTIL_PLACE_QKV, x, t, c);
	DISTIL_FORWARD(distil_param_forward(qkv + past * 3 * (size_t) c, 3 * (size_t) c, x, (size_t) c, spec,
										pass->weights, params->qkv_weight, params->qkv_bias, DISTIL_ACT_NONE,
										t, pass->device, pass->poll, err));
	DISTIL_FORWARD(attend(pass, index, &job, err));
	x = distil_tap(pass, index, DISTIL_PLACE_OUT, job.context + past * (size_t) c, t, c);
	DISTIL_FORWARD(distil_param_forward(out, (size_t) c, x, (size_t) c, spec, pass->weights,
										params->out_weight, params->out_bias, DISTIL_ACT_NONE, t,
										pass->device, pass->poll, err));
	if (dropout.p > 0)
		DISTIL_FORWARD(distil_dropout_rows(out, out, dropout, 0, tc, pass->device, pass->poll, err));
	return DISTIL_OK;
}

DistilStatus
distil_attention_forward_low(const DistilPass *pass, int index, const DistilKinds *kinds, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilLayerParams *params = &spec->layer[index];
	const DistilActivations *a = pass->activations;
	const DistilKeyCache *cache = pass->cache;
	AttentionJob job = {0};
	DistilRows	rows;
	DistilRows	in;

	job.low_qkv = a->qkv;
	job.low_context = a->context;
	if (cache != NULL)
	{
		job.low_qkv.data = (char *) cache->qkv +
			(size_t) index * 3 * distil_key_cache_bytes(spec, cache->limit);
		job.low_context.data = cache->context;
	}
	rows = distil_rows_from(&job.low_qkv, cache != NULL ? cache->past : 0);
	in = distil_low_input(pass, &a->attention_in, params->qkv_weight);
	DISTIL_FORWARD(distil_param_rows(pass, &rows, &in, params->qkv_weight, params->qkv_bias,
									 DISTIL_ACT_NONE, kinds != NULL ? kinds->n : pass->batch->ntokens, err));
	if (kinds != NULL)
		DISTIL_FORWARD(distil_spread_kinds(pass, kinds, &rows, 3 * spec->config.width, err));
	return attend(pass, index, &job, err);
}

DistilStatus
distil_attention_output_low(const DistilPass *pass, int index, int first, int rows, DistilError *err)
{
	const DistilLayerParams *params = &pass->spec->layer[index];
	const DistilActivations *a = pass->activations;
	const DistilKeyCache *cache = pass->cache;
	DistilRows	out = distil_float_rows(a->out, (size_t) pass->spec->config.width);
	DistilRows	context = a->context;
	DistilRows	in;

	if (cache != NULL)
	{
		context.data = cache->context;
		first += cache->past;
	}
	context = distil_rows_from(&context, first);
	DISTIL_FORWARD(distil_low_operand(pass, &in, &context, &a->context_copy, params->out_weight,
									   DISTIL_ACT_NONE, rows, err));
	return distil_param_rows(pass, &out, &in, params->out_weight, params->out_bias, DISTIL_ACT_NONE, rows,
							 err);
}

DistilStatus
distil_attend_half(const DistilPass *pass, int index, uint16_t *dqkv, const uint16_t *dcontext,
				   DistilError *err)
{
	AttentionJob job = {.half = distil_half_layer(pass, index),.half_dqkv = dqkv,.half_dcontext = dcontext};

	return attend(pass, index, &job, err);
}

DistilStatus
distil_attention_backward(const DistilPass *pass, int index, float *dx, bool accumulate, const float *dout,
						  const float *x, float *dcontext, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilLayerParams *params = &spec->layer[index];
	DistilActivations *a = pass->activations;
	DistilSavedLayer *saved = &a->layer[index];
	int			t = pass->batch->ntokens;
	int			c = spec->config.width;
	AttentionJob job = {0};

	DISTIL_FORWARD(distil_linear_backward(dcontext, (size_t) c, false,
										  distil_pass_gradient(pass, params->out_weight),
										  distil_pass_gradient(pass, params->out_bias),
										  dout, (size_t) c, saved->context, (size_t) c,
										  distil_weight(spec, pass->weights, params->out_weight),
										  t, c, c, pass->device, pass->poll, err));
	job.context = saved->context;
	job.lse = saved->lse;
	job.qkv = saved->qkv;
	job.dqkv = a->scratch;
	job.dcontext = dcontext;
	DISTIL_FORWARD(attend(pass, index, &job, err));
	return distil_linear_backward(dx, (size_t) c, accumulate,
								  distil_pass_gradient(pass, params->qkv_weight),
								  distil_pass_gradient(pass, params->qkv_bias),
								  a->scratch, 3 * (size_t) c, x, (size_t) c,
								  distil_weight(spec, pass->weights, params->qkv_weight),
								  t, 3 * c, c, pass->device, pass->poll, err);
}
