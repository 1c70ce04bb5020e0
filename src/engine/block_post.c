/*
 * block_post.c
 *		The post-norm layer of BERT and its kin: x = norm(x + attention(x)); x = norm(x + mlp(x)).
 *
 * What is saved: sum1 and sum2 the inputs of the norms, middle the output of norm 1.
 * Vaswani et al. 2017 (arXiv:1706.03762), Devlin et al. 2019 (arXiv:1810.04805).
 */
#include "layers.h"

static DistilStatus
post_norm_forward(const DistilPass *pass, int index, float *x, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilLayerParams *params = &spec->layer[index];
	DistilActivations *a = pass->activations;
	DistilSavedLayer *saved = a->saved ? &a->layer[index] : NULL;
	int			t = pass->batch->ntokens;
	int			width = spec->config.width;
	size_t		c = (size_t) width;
	float	   *out = saved != NULL ? saved->middle : a->scratch;	/* q, k, v are not needed any more */
	int			rows;
	int			i;

	DISTIL_FORWARD(distil_attention_forward(pass, index, out, x, err));
	DISTIL_FORWARD(distil_norm_rows(saved != NULL ? out : x, saved != NULL ? saved->sum1 : NULL,
									saved != NULL ? saved->mean1 : NULL, saved != NULL ? saved->rstd1 : NULL,
									out, x, distil_weight(spec, pass->weights, params->norm1_weight),
									distil_weight(spec, pass->weights, params->norm1_bias),
									spec->config.norm_eps, t, width, pass->device, pass->poll, err));
	for (i = 0; i < t; i += rows)
	{
		size_t		at = (size_t) i * c;
		const float *in = saved != NULL ? saved->middle + at : x + at;
		float	   *down = saved != NULL ? saved->output + at
			: a->scratch + (size_t) a->mlp_rows * (size_t) spec->config.mlp;

		rows = distil_mlp_rows(pass, i);
		DISTIL_FORWARD(distil_mlp_forward(pass, index, down, in, i, rows, err));
		DISTIL_FORWARD(distil_norm_rows(saved != NULL ? down : x + at, saved != NULL ? saved->sum2 + at
										: NULL,
										saved != NULL ? saved->mean2 + i : NULL,
										saved != NULL ? saved->rstd2 + i : NULL,
										down, in, distil_weight(spec, pass->weights, params->norm2_weight),
										distil_weight(spec, pass->weights, params->norm2_bias),
										spec->config.norm_eps, rows, width, pass->device, pass->poll, err));
	}
	return DISTIL_OK;
}

static DistilStatus
post_norm_forward_low(const DistilPass *pass, int index, float *x, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilLayerParams *params = &spec->layer[index];
	const DistilActivations *a = pass->activations;
	int			t = pass->batch->ntokens;
	int			width = spec->config.width;
	DistilRows	in = distil_float_rows(x, (size_t) width);
	DistilRows	attention_in = distil_low_input(pass, &a->attention_in, params->qkv_weight);
	DistilRows	mlp_in = distil_low_input(pass, &a->mlp_in, params->up_weight);
	const DistilKinds *kinds = index == 0 ? pass->batch->kinds : NULL;
	bool		last = index + 1 == spec->config.layers;
	int			rows;
	int			i;

	if (index == 0)
		DISTIL_FORWARD(distil_quantize_rows(&attention_in, &in, DISTIL_ACT_NONE, kinds != NULL ? kinds->n : t,
											width, pass->device, pass->poll, err));
	if (kinds != NULL)
		DISTIL_FORWARD(distil_spread_kinds(pass, kinds, &in, width, err));
	DISTIL_FORWARD(distil_attention_forward_low(pass, index, kinds, err));
	/* the next layer's input, if there is one; parts of the rows, which stay cached from here to there */
	attention_in = distil_low_input(pass, &a->attention_in, spec->layer[last ? index : index + 1].qkv_weight);
	for (i = 0; i < t; i += rows)
	{
		float	   *to = x + (size_t) i * (size_t) width;
		DistilRows	middle = distil_rows_from(&mlp_in, i);
		DistilRows	next = distil_rows_from(&attention_in, i);

		rows = distil_mlp_rows(pass, i);
		DISTIL_FORWARD(distil_attention_output_low(pass, index, i, rows, err));
		DISTIL_FORWARD(distil_norm_low_rows(to, &middle, a->out, to,
											distil_weight(spec, pass->weights, params->norm1_weight),
											distil_weight(spec, pass->weights, params->norm1_bias),
											spec->config.norm_eps, rows, width, pass->device, pass->poll,
											err));
		DISTIL_FORWARD(distil_mlp_forward_low(pass, index, i, rows, err));
		DISTIL_FORWARD(distil_norm_low_rows(to, &next, a->out, to,
											distil_weight(spec, pass->weights, params->norm2_weight),
											distil_weight(spec, pass->weights, params->norm2_bias),
											spec->config.norm_eps, rows, width, pass->device, pass->poll,
											err));
	}
	return DISTIL_OK;
}

/* dx: the gradient of the output; da becomes the gradient of `middle` */
static DistilStatus
mlp_backward(const DistilPass *pass, int index, const float *dx, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilLayerParams *params = &spec->layer[index];
	DistilActivations *a = pass->activations;
	DistilSavedLayer *saved = &a->layer[index];
	DistilDropout dropout = distil_mlp_dropout(pass, index);
	size_t		c = (size_t) spec->config.width;
	int			t = pass->batch->ntokens;
	const float *ddown = a->da;
	int			rows;
	int			i;

	/* da: gradient of norm 2's input, which is also the residual's part of the result */
	DISTIL_FORWARD(distil_norm_backward_rows(a->da, distil_pass_gradient(pass, params->norm2_weight),
											 distil_pass_gradient(pass, params->norm2_bias), dx,
											 saved->sum2, saved->mean2, saved->rstd2,
											 distil_weight(spec, pass->weights, params->norm2_weight),
											 t, spec->config.width, pass->device, pass->poll, err));
	if (dropout.p > 0)
	{
		ddown = a->db;
		DISTIL_FORWARD(distil_dropout_rows(a->db, a->da, dropout, 0, (size_t) t * c, pass->device, pass->poll,
										   err));
	}
	/* Without dropout ddown is da: a part reads its rows before it adds to them. */
	for (i = 0; i < t; i += rows)
	{
		size_t		at = (size_t) i * c;

		rows = distil_mlp_rows(pass, i);
		DISTIL_FORWARD(distil_mlp_backward(pass, index, a->da + at, true, ddown + at, saved->middle + at, i,
										   rows, err));
	}
	return DISTIL_OK;
}

static DistilStatus
post_norm_backward(const DistilPass *pass, int index, float *dx, const float *x, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilLayerParams *params = &spec->layer[index];
	DistilActivations *a = pass->activations;
	DistilSavedLayer *saved = &a->layer[index];
	DistilDropout dropout = distil_attention_dropout(pass, index);
	int			t = pass->batch->ntokens;
	int			c = spec->config.width;
	float	   *dout = dx;

	DISTIL_FORWARD(mlp_backward(pass, index, dx, err));
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
	return distil_attention_backward(pass, index, dx, true, dout, x, a->da, err);
}

const DistilFamily distil_family_post_norm = {
	.forward = post_norm_forward,
	.forward_low = post_norm_forward_low,
	.backward = post_norm_backward,
	.forward_half = distil_post_norm_forward_half,
	.backward_half = distil_post_norm_backward_half
};
