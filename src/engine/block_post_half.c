/*
 * block_post_half.c
 *		The post-norm layer with activations in bfloat16, see block_post.c for what it computes.
 *
 * The rule a newcomer would break: without saved activations all layers share one set of arrays, and a
 * layer's output replaces its input.
 */
#include "layers.h"

static DistilStatus
forward_layer(const DistilPass *pass, int index, uint16_t *x, DistilError *err)
{
	const DistilLayerParams *params = &pass->spec->layer[index];
	const DistilHalfLayer *layer = distil_half_layer(pass, index);
	uint16_t   *out = pass->activations->half_out;
	uint16_t   *next = pass->activations->saved ? layer->output : x;

	DISTIL_FORWARD(distil_half_linear(pass, layer->qkv, NULL, x, params->qkv_weight, params->qkv_bias,
									  DISTIL_ACT_NONE, err));
	DISTIL_FORWARD(distil_attend_half(pass, index, NULL, NULL, err));
	DISTIL_FORWARD(distil_half_linear(pass, out, NULL, layer->context, params->out_weight, params->out_bias,
									  DISTIL_ACT_NONE, err));
	DISTIL_FORWARD(distil_half_norm(pass, layer->middle, layer->sum1, layer->mean1, layer->rstd1, out, x,
									distil_attention_dropout(pass, index), params->norm1_weight,
									params->norm1_bias, err));
	DISTIL_FORWARD(distil_half_linear(pass, layer->activated, layer->up, layer->middle, params->up_weight,
									  params->up_bias, pass->spec->config.activation, err));
	DISTIL_FORWARD(distil_half_linear(pass, out, NULL, layer->activated, params->down_weight,
									  params->down_bias, DISTIL_ACT_NONE, err));
	return distil_half_norm(pass, next, layer->sum2, layer->mean2, layer->rstd2, out, layer->middle,
							distil_mlp_dropout(pass, index), params->norm2_weight, params->norm2_bias, err);
}

static DistilStatus
backward_layer(const DistilPass *pass, int index, uint16_t *dx, const uint16_t *x, DistilError *err)
{
	const DistilLayerParams *params = &pass->spec->layer[index];
	const DistilHalfLayer *layer = distil_half_layer(pass, index);
	const DistilActivations *a = pass->activations;
	DistilDropout mlp = distil_mlp_dropout(pass, index);
	DistilDropout attention = distil_attention_dropout(pass, index);

	/* da: the gradient of norm 2's input, which is also the residual's part of that of `middle` */
	DISTIL_FORWARD(distil_half_norm_backward(pass, a->half_da, a->half_db, dx, NULL, layer->sum2,
											 layer->mean2, layer->rstd2, mlp, params->norm2_weight,
											 params->norm2_bias, err));
	DISTIL_FORWARD(distil_half_linear_backward(pass, a->half_dup, layer->up, false,
											   mlp.p > 0 ? a->half_db : a->half_da, layer->activated,
											   params->down_weight, params->down_bias, err));
	DISTIL_FORWARD(distil_half_linear_backward(pass, a->half_da, NULL, true, a->half_dup, layer->middle,
											   params->up_weight, params->up_bias, err));
	/* dx: the gradient of norm 1's input, which is also the residual's part of that of x */
	DISTIL_FORWARD(distil_half_norm_backward(pass, dx, a->half_db, a->half_da, NULL, layer->sum1,
											 layer->mean1, layer->rstd1, attention, params->norm1_weight,
											 params->norm1_bias, err));
	DISTIL_FORWARD(distil_half_linear_backward(pass, a->half_da, NULL, false,
											   attention.p > 0 ? a->half_db : dx, layer->context,
											   params->out_weight, params->out_bias, err));
	DISTIL_FORWARD(distil_attend_half(pass, index, a->half_dqkv, a->half_da, err));
	return distil_half_linear_backward(pass, dx, NULL, true, a->half_dqkv, x, params->qkv_weight,
									   params->qkv_bias, err);
}

DistilStatus
distil_post_norm_forward_half(const DistilPass *pass, const uint16_t **y, DistilError *err)
{
	const DistilActivations *a = pass->activations;
	uint16_t   *x = a->half_input;
	int			i;

	for (i = 0; i < pass->spec->config.layers; i++)
	{
		DISTIL_FORWARD(forward_layer(pass, i, x, err));
		if (a->saved)
			x = a->half_layer[i].output;
	}
	*y = x;
	return DISTIL_OK;
}

DistilStatus
distil_post_norm_backward_half(const DistilPass *pass, DistilError *err)
{
	const DistilActivations *a = pass->activations;
	int			i;

	for (i = pass->spec->config.layers - 1; i >= 0; i--)
		DISTIL_FORWARD(backward_layer(pass, i, a->half_dx,
									  i == 0 ? a->half_input : a->half_layer[i - 1].output, err));
	return DISTIL_OK;
}
