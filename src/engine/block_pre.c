/*
 * block_pre.c
 *		The pre-norm layer of GPT-2: x = x + attention(norm(x)); x = x + mlp(norm(x)).
 *
 * What is saved: sum1 and sum2 the outputs of the norms, middle the sum after attention;
 * the norms' inputs are the layer's input and middle.  The rule a newcomer would break:
 * without saved activations the norm's output lies where attention writes its context
 * later, and where the mlp writes its result.
 * Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
 */
#include "layers.h"

/* Forward that keeps what backward needs. */
static DistilStatus
forward_saved(const DistilPass *pass, int index, float *x, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilLayerParams *params = &spec->layer[index];
	DistilSavedLayer *saved = &pass->activations->layer[index];
	int			t = pass->batch->ntokens;
	int			width = spec->config.width;
	size_t		c = (size_t) width;
	int			rows;
	int			i;

	DISTIL_FORWARD(distil_norm_rows(saved->sum1, x, saved->mean1, saved->rstd1, x, NULL,
									distil_weight(spec, pass->weights, params->norm1_weight),
									distil_weight(spec, pass->weights, params->norm1_bias),
									spec->config.norm_eps, t, width, pass->device, pass->poll, err));
	DISTIL_FORWARD(distil_attention_forward(pass, index, saved->middle, saved->sum1, err));
	DISTIL_FORWARD(distil_add_rows(saved->middle, x, (size_t) t * c, pass->device, pass->poll, err));
	DISTIL_FORWARD(distil_norm_rows(saved->sum2, saved->middle, saved->mean2, saved->rstd2, saved->middle,
									NULL,
									distil_weight(spec, pass->weights, params->norm2_weight),
									distil_weight(spec, pass->weights, params->norm2_bias),
									spec->config.norm_eps, t, width, pass->device, pass->poll, err));
	for (i = 0; i < t; i += rows)
	{
		rows = distil_mlp_rows(pass, i);
		DISTIL_FORWARD(distil_mlp_forward(pass, index, saved->output + (size_t) i * c,
										  saved->sum2 + (size_t) i * c, i, rows, err));
	}
	return distil_add_rows(saved->output, saved->middle, (size_t) t * c, pass->device, pass->poll, err);
}

static DistilStatus
pre_norm_forward(const DistilPass *pass, int index, float *x, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilLayerParams *params = &spec->layer[index];
	DistilActivations *a = pass->activations;
	int			t = pass->batch->ntokens;
	int			width = spec->config.width;
	size_t		c = (size_t) width;
	size_t		tc = (size_t) t * c;
	float	   *normed = a->scratch + 3 * tc;
	int			rows;
	int			i;

	if (a->saved)
		return forward_saved(pass, index, x, err);
	DISTIL_FORWARD(distil_norm_rows(normed, NULL, NULL, NULL, x, NULL,
									distil_weight(spec, pass->weights, params->norm1_weight),
									distil_weight(spec, pass->weights, params->norm1_bias),
									spec->config.norm_eps, t, width, pass->device, pass->poll, err));
	DISTIL_FORWARD(distil_attention_forward(pass, index, a->scratch, normed, err));
	DISTIL_FORWARD(distil_add_rows(x, a->scratch, tc, pass->device, pass->poll, err));
	for (i = 0; i < t; i += rows)
	{
		float	   *down = a->scratch + (size_t) a->mlp_rows * (size_t) spec->config.mlp;
		float	   *part = x + (size_t) i * c;

		rows = distil_mlp_rows(pass, i);
		DISTIL_FORWARD(distil_norm_rows(down, NULL, NULL, NULL, part, NULL,
										distil_weight(spec, pass->weights, params->norm2_weight),
										distil_weight(spec, pass->weights, params->norm2_bias),
										spec->config.norm_eps, rows, width, pass->device, pass->poll, err));
		DISTIL_FORWARD(distil_mlp_forward(pass, index, down, down, i, rows, err));
		DISTIL_FORWARD(distil_add_rows(part, down, (size_t) rows * c, pass->device, pass->poll, err));
	}
	return DISTIL_OK;
}

static DistilStatus
pre_norm_forward_low(const DistilPass *pass, int index, float *x, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilLayerParams *params = &spec->layer[index];
	const DistilActivations *a = pass->activations;
	int			t = pass->batch->ntokens;
	int			width = spec->config.width;
	size_t		c = (size_t) width;
	DistilRows	attention_in = distil_low_input(pass, &a->attention_in, params->qkv_weight);
	DistilRows	mlp_in = distil_low_input(pass, &a->mlp_in, params->up_weight);
	int			rows;
	int			i;

	DISTIL_FORWARD(distil_norm_low_rows(a->out, &attention_in, x, NULL,
										distil_weight(spec, pass->weights, params->norm1_weight),
										distil_weight(spec, pass->weights, params->norm1_bias),
										spec->config.norm_eps, t, width, pass->device, pass->poll, err));
	DISTIL_FORWARD(distil_attention_forward_low(pass, index, NULL, err));
	DISTIL_FORWARD(distil_attention_output_low(pass, index, 0, t, err));
	DISTIL_FORWARD(distil_add_rows(x, a->out, (size_t) t * c, pass->device, pass->poll, err));
	DISTIL_FORWARD(distil_norm_low_rows(a->out, &mlp_in, x, NULL,
										distil_weight(spec, pass->weights, params->norm2_weight),
										distil_weight(spec, pass->weights, params->norm2_bias),
										spec->config.norm_eps, t, width, pass->device, pass->poll, err));
	for (i = 0; i < t; i += rows)
	{
		float	   *to = x + (size_t) i * c;

		rows = distil_mlp_rows(pass, i);
		DISTIL_FORWARD(distil_mlp_forward_low(pass, index, i, rows, err));
		DISTIL_FORWARD(distil_add_rows(to, a->out, (size_t) rows * c, pass->device, pass->poll, err));
	}
	return DISTIL_OK;
}

/* The gradient dout after a dropout: dout itself without one, else in db. */
static DistilStatus
drop_gradient(const DistilPass *pass, const float **out, const float *dout, DistilDropout dropout,
			  DistilError *err)
{
	size_t		n = (size_t) pass->batch->ntokens * (size_t) pass->spec->config.width;

	*out = dout;
	if (!(dropout.p > 0))
		return DISTIL_OK;
	*out = pass->activations->db;
	return distil_dropout_rows(pass->activations->db, dout, dropout, 0, n, pass->device, pass->poll, err);
}

/* dx += the gradient of a norm's input; da holds that of its output, db is scratch */
static DistilStatus
norm_backward(const DistilPass *pass, float *dx, int weight, int bias, const float *in, const float *mean,
			  const float *rstd, DistilError *err)
{
	DistilActivations *a = pass->activations;
	int			t = pass->batch->ntokens;
	int			c = pass->spec->config.width;

	DISTIL_FORWARD(distil_norm_backward_rows(a->db, distil_pass_gradient(pass, weight),
											 distil_pass_gradient(pass, bias), a->da, in, mean, rstd,
											 distil_weight(pass->spec, pass->weights, weight),
											 t, c, pass->device, pass->poll, err));
	return distil_add_rows(dx, a->db, (size_t) t * (size_t) c, pass->device, pass->poll, err);
}

static DistilStatus
pre_norm_backward(const DistilPass *pass, int index, float *dx, const float *x, DistilError *err)
{
	const DistilLayerParams *params = &pass->spec->layer[index];
	DistilActivations *a = pass->activations;
	DistilSavedLayer *saved = &a->layer[index];
	size_t		c = (size_t) pass->spec->config.width;
	const float *dout;
	int			rows;
	int			i;

	DISTIL_FORWARD(drop_gradient(pass, &dout, dx, distil_mlp_dropout(pass, index), err));
	for (i = 0; i < pass->batch->ntokens; i += rows)
	{
		size_t		at = (size_t) i * c;

		rows = distil_mlp_rows(pass, i);
		DISTIL_FORWARD(distil_mlp_backward(pass, index, a->da + at, false, dout + at, saved->sum2 + at, i,
										   rows, err));
	}
	DISTIL_FORWARD(norm_backward(pass, dx, params->norm2_weight, params->norm2_bias, saved->middle,
								 saved->mean2, saved->rstd2, err));
	DISTIL_FORWARD(drop_gradient(pass, &dout, dx, distil_attention_dropout(pass, index), err));
	DISTIL_FORWARD(distil_attention_backward(pass, index, a->da, false, dout, saved->sum1, a->da, err));
	return norm_backward(pass, dx, params->norm1_weight, params->norm1_bias, x, saved->mean1, saved->rstd1,
						 err);
}

const DistilFamily distil_family_pre_norm = {
	.forward = pre_norm_forward,
	.forward_low = pre_norm_forward_low,
	.backward = pre_norm_backward,
	.forward_half = distil_pre_norm_forward_half,
	.backward_half = distil_pre_norm_backward_half
};
