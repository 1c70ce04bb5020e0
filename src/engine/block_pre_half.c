/*
 * block_pre_half.c
 *		The pre-norm layer with activations in bfloat16, see block_pre.c for what it computes.
 *
 * Each norm also adds what comes before it to the residual stream, so a layer begins behind its first norm
 * and ends with that of the next layer, the last one with the final norm.  sum1 and sum2 are the stream in
 * front of the layer's norms, output and middle what these give; behind the last layer there are sum1 and
 * output once more.  The rule a newcomer would break: without saved activations there is one stream,
 * half_input, which sum1 and sum2 of all layers are, and output is middle.
 */
#include "layers.h"

/* The norm in front of layer `index`, or the final one. */
static void
first_norm(const DistilPass *pass, int index, int *weight, int *bias)
{
	const DistilSpec *spec = pass->spec;
	bool		final = index == spec->config.layers;

	*weight = final ? spec->final_norm_weight : spec->layer[index].norm1_weight;
	*bias = final ? spec->final_norm_bias : spec->layer[index].norm1_bias;
}

/* sum1 and output of layer `index`: the stream with x added, and its norm. */
static DistilStatus
begin_layer(const DistilPass *pass, int index, const uint16_t *x, const uint16_t *stream,
			DistilDropout dropout, DistilError *err)
{
	const DistilHalfLayer *layer = distil_half_layer(pass, index);
	int			weight;
	int			bias;

	first_norm(pass, index, &weight, &bias);
	return distil_half_norm(pass, layer->output, layer->sum1, layer->mean1, layer->rstd1, x, stream, dropout,
							weight, bias, err);
}

static DistilStatus
forward_layer(const DistilPass *pass, int index, DistilError *err)
{
	const DistilLayerParams *params = &pass->spec->layer[index];
	const DistilHalfLayer *layer = distil_half_layer(pass, index);
	uint16_t   *out = pass->activations->half_out;

	DISTIL_FORWARD(distil_half_linear(pass, layer->qkv, NULL, layer->output, params->qkv_weight,
									  params->qkv_bias, DISTIL_ACT_NONE, err));
	DISTIL_FORWARD(distil_attend_half(pass, index, NULL, NULL, err));
	DISTIL_FORWARD(distil_half_linear(pass, out, NULL, layer->context, params->out_weight, params->out_bias,
									  DISTIL_ACT_NONE, err));
	DISTIL_FORWARD(distil_half_norm(pass, layer->middle, layer->sum2, layer->mean2, layer->rstd2, out,
									layer->sum1, distil_attention_dropout(pass, index), params->norm2_weight,
									params->norm2_bias, err));
	DISTIL_FORWARD(distil_half_linear(pass, layer->activated, layer->up, layer->middle, params->up_weight,
									  params->up_bias, pass->spec->config.activation, err));
	DISTIL_FORWARD(distil_half_linear(pass, out, NULL, layer->activated, params->down_weight,
									  params->down_bias, DISTIL_ACT_NONE, err));
	return begin_layer(pass, index + 1, out, layer->sum2, distil_mlp_dropout(pass, index), err);
}

DistilStatus
distil_pre_norm_forward_half(const DistilPass *pass, const uint16_t **y, DistilError *err)
{
	DistilDropout none = {0};
	int			n = pass->spec->config.layers;
	int			i;

	DISTIL_FORWARD(begin_layer(pass, 0, pass->activations->half_input, NULL, none, err));
	for (i = 0; i < n; i++)
		DISTIL_FORWARD(forward_layer(pass, i, err));
	*y = distil_half_layer(pass, n)->output;
	return DISTIL_OK;
}

/*
 * From dy, the gradient of output of layer `index`: dx becomes that of its sum1, which has the stream's part
 * already unless this is the last norm; db the same behind the dropout of the layer before it.
 */
static DistilStatus
end_backward(const DistilPass *pass, int index, const uint16_t *dy, DistilError *err)
{
	const DistilActivations *a = pass->activations;
	const DistilHalfLayer *layer = distil_half_layer(pass, index);
	DistilDropout dropout = {0};
	int			weight;
	int			bias;

	if (index > 0)
		dropout = distil_mlp_dropout(pass, index - 1);
	first_norm(pass, index, &weight, &bias);
	return distil_half_norm_backward(pass, a->half_dx, a->half_db, dy,
									 index < pass->spec->config.layers ? a->half_dx : NULL, layer->sum1,
									 layer->mean1, layer->rstd1, dropout, weight, bias, err);
}

static DistilStatus
backward_layer(const DistilPass *pass, int index, DistilError *err)
{
	const DistilLayerParams *params = &pass->spec->layer[index];
	const DistilHalfLayer *layer = distil_half_layer(pass, index);
	const DistilActivations *a = pass->activations;
	DistilDropout attention = distil_attention_dropout(pass, index);
	const uint16_t *dout = distil_mlp_dropout(pass, index).p > 0 ? a->half_db : a->half_dx;

	DISTIL_FORWARD(distil_half_linear_backward(pass, a->half_dup, layer->up, false, dout, layer->activated,
											   params->down_weight, params->down_bias, err));
	DISTIL_FORWARD(distil_half_linear_backward(pass, a->half_da, NULL, false, a->half_dup, layer->middle,
											   params->up_weight, params->up_bias, err));
	DISTIL_FORWARD(distil_half_norm_backward(pass, a->half_dx, a->half_db, a->half_da, a->half_dx,
											 layer->sum2, layer->mean2, layer->rstd2, attention,
											 params->norm2_weight, params->norm2_bias, err));
	dout = attention.p > 0 ? a->half_db : a->half_dx;
	DISTIL_FORWARD(distil_half_linear_backward(pass, a->half_da, NULL, false, dout, layer->context,
											   params->out_weight, params->out_bias, err));
	DISTIL_FORWARD(distil_attend_half(pass, index, a->half_dqkv, a->half_da, err));
	DISTIL_FORWARD(distil_half_linear_backward(pass, a->half_da, NULL, false, a->half_dqkv, layer->output,
											   params->qkv_weight, params->qkv_bias, err));
	return end_backward(pass, index, a->half_da, err);
}

DistilStatus
distil_pre_norm_backward_half(const DistilPass *pass, DistilError *err)
{
	const DistilActivations *a = pass->activations;
	int			n = pass->spec->config.layers;
	int			i;

	DISTIL_FORWARD(end_backward(pass, n, a->half_dx, err));
	for (i = n - 1; i >= 0; i--)
		DISTIL_FORWARD(backward_layer(pass, i, err));
	return DISTIL_OK;
}
