/*
 * layer_attention.c
 *		x = norm(x + dropout(W_o attention(W_qkv x))), and backward.
 *
 * Attention's cost is quadratic in a sequence's length, so its units are made from
 * lengths: many short sequences in one call, a long one cut by heads.
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
} AttentionJob;

static void
run_attention(const DistilPass *pass, const AttentionJob *job, const int32_t *offsets,
			  const DistilAttention *attention)
{
	if (job->dcontext == NULL)
		pass->device->ops->attention_forward(pass->device, job->context, job->lse, job->qkv, offsets,
											 attention);
	else
		pass->device->ops->attention_backward(pass->device, job->dqkv, job->dcontext, job->qkv, job->context,
											  job->lse, offsets, attention);
}

/* All sequences and heads of the batch in units. */
static DistilStatus
attend(const DistilPass *pass, int index, const AttentionJob *job, DistilError *err)
{
	const DistilConfig *config = &pass->spec->config;
	const int32_t *host = pass->batch->host_offsets;
	double		unit = DISTIL_UNIT_ATTENTION / (job->dcontext != NULL ? BACKWARD_FACTOR : 1.0);
	DistilAttention attention = {0};
	int			first = 0;

	attention.heads = config->heads;
	attention.head_dim = config->head_dim;
	attention.scale = (float) (1.0 / sqrt((double) config->head_dim));
	attention.dropout = distil_pass_dropout(pass, config->attention_dropout, index,
											DISTIL_DROP_PROBABILITIES);
	while (first < pass->batch->nseq)
	{
		double		work = 0;
		int			count = 0;
		int			heads = config->heads;
		int			head;

		while (first + count < pass->batch->nseq)
		{
			double		length = host[first + count + 1] - host[first + count];
			double		more = 4.0 * length * length * config->width;

			if (count > 0 && work + more > unit)
				break;
			work += more;
			count++;
		}
		if (work > unit)		/* one long sequence */
		{
			heads = (int) (unit / (work / config->heads));
			heads = heads > 0 ? heads : 1;
		}
		attention.nseq = count;
		for (head = 0; head < config->heads; head += heads)
		{
			DISTIL_POLL(pass->poll, err);
			attention.head_first = head;
			attention.head_count = config->heads - head < heads ? config->heads - head : heads;
			run_attention(pass, job, pass->batch->offsets + first, &attention);
		}
		first += count;
	}
	return DISTIL_OK;
}

static float
output_dropout(const DistilConfig *config)
{
	return config->attention_output_dropout ? config->hidden_dropout : 0;
}

DistilStatus
distil_attention_layer_forward(const DistilPass *pass, int index, float *x, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilLayerParams *params = &spec->layer[index];
	DistilActivations *a = pass->activations;
	DistilSavedLayer *saved = a->saved ? &a->layer[index] : NULL;
	DistilDropout dropout = distil_pass_dropout(pass, output_dropout(&spec->config), index,
												DISTIL_DROP_ATTENTION_OUTPUT);
	int			t = pass->batch->ntokens;
	int			c = spec->config.width;
	size_t		tc = (size_t) t * c;
	float	   *qkv = saved != NULL ? saved->qkv : a->scratch;
	float	   *context = saved != NULL ? saved->context : a->scratch + 3 * tc;
	float	   *out = saved != NULL ? saved->middle : a->scratch;	/* q, k, v are not needed any more */
	AttentionJob job = {0};

	job.context = context;
	job.lse = saved != NULL ? saved->lse : NULL;
	job.qkv = qkv;
	DISTIL_FORWARD(distil_param_forward(qkv, 3 * (size_t) c, x, (size_t) c, spec, pass->weights,
										params->qkv_weight, params->qkv_bias, DISTIL_ACT_NONE, t,
										pass->device, pass->poll, err));
	DISTIL_FORWARD(attend(pass, index, &job, err));
	DISTIL_FORWARD(distil_param_forward(out, (size_t) c, context, (size_t) c, spec, pass->weights,
										params->out_weight, params->out_bias, DISTIL_ACT_NONE, t,
										pass->device, pass->poll, err));
	if (dropout.p > 0)
		DISTIL_FORWARD(distil_dropout_rows(out, out, dropout, 0, tc, pass->device, pass->poll, err));
	return distil_norm_rows(saved != NULL ? out : x, saved != NULL ? saved->sum1 : NULL,
							saved != NULL ? saved->mean1 : NULL, saved != NULL ? saved->rstd1 : NULL,
							out, x, distil_weight(spec, pass->weights, params->norm1_weight),
							distil_weight(spec, pass->weights, params->norm1_bias),
							spec->config.norm_eps, t, c, pass->device, pass->poll, err);
}

DistilStatus
distil_attention_layer_backward(const DistilPass *pass, int index, float *dx, const float *x,
								DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilLayerParams *params = &spec->layer[index];
	DistilActivations *a = pass->activations;
	DistilSavedLayer *saved = &a->layer[index];
	DistilDropout dropout = distil_pass_dropout(pass, output_dropout(&spec->config), index,
												DISTIL_DROP_ATTENTION_OUTPUT);
	int			t = pass->batch->ntokens;
	int			c = spec->config.width;
	float	   *dout = dx;
	AttentionJob job = {0};

	/* dx: gradient of norm 1's input, which is also the residual's part of the result */
	DISTIL_FORWARD(distil_norm_backward_rows(dx, distil_pass_gradient(pass, params->norm1_weight),
											 distil_pass_gradient(pass, params->norm1_bias), a->da,
											 saved->sum1, saved->mean1, saved->rstd1,
											 distil_weight(spec, pass->weights, params->norm1_weight),
											 t, c, pass->device, pass->poll, err));
	if (dropout.p > 0)
	{
		dout = a->db;
		DISTIL_FORWARD(distil_dropout_rows(dout, dx, dropout, 0, (size_t) t * c, pass->device, pass->poll,
										   err));
	}
	/* da is free now: gradient of the context */
	DISTIL_FORWARD(distil_linear_backward(a->da, (size_t) c, false,
										  distil_pass_gradient(pass, params->out_weight),
										  distil_pass_gradient(pass, params->out_bias),
										  dout, (size_t) c, saved->context, (size_t) c,
										  distil_weight(spec, pass->weights, params->out_weight),
										  t, c, c, pass->device, pass->poll, err));
	job.context = saved->context;
	job.lse = saved->lse;
	job.qkv = saved->qkv;
	job.dqkv = a->scratch;
	job.dcontext = a->da;
	DISTIL_FORWARD(attend(pass, index, &job, err));
	return distil_linear_backward(dx, (size_t) c, true,
								  distil_pass_gradient(pass, params->qkv_weight),
								  distil_pass_gradient(pass, params->qkv_bias),
								  a->scratch, 3 * (size_t) c, x, (size_t) c,
								  distil_weight(spec, pass->weights, params->qkv_weight),
								  t, 3 * c, c, pass->device, pass->poll, err);
}
