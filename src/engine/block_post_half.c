/*
 * block_post_half.c
 *		The post-norm layer with activations in bfloat16, see block_post.c for what it computes.
 *
 * The residual stream is rounded where it is stored; norms, softmax and gradients of parameters are float32.
 * The rule a newcomer would break: dropout is part of the norm behind it (norm_forward), so that what a product
 * gave is read once; its gradient comes out of norm_backward beside that of the residual.
 * Without saved activations all layers share one set of arrays, and a layer's output replaces its input.
 */
#include "layers.h"

/* One operation on the pass's device. */
#define HALF(operation, ...) \
	do { \
		DISTIL_POLL(pass->poll, err); \
		pass->device->ops->half->operation(pass->device, __VA_ARGS__); \
	} while (0)

static const uint16_t *
half_weight(const DistilPass *pass, int param)
{
	return param < 0 ? NULL : pass->activations->half + pass->spec->table.params[param].offset;
}

static const float *
weight(const DistilPass *pass, int param)
{
	return distil_weight(pass->spec, pass->weights, param);
}

DistilHalfLayer *
distil_half_layer(const DistilPass *pass, int index)
{
	return &pass->activations->half_layer[pass->activations->saved ? index : 0];
}

static DistilStatus
forward_half(const DistilPass *pass, int index, uint16_t *x, DistilError *err)
{
	const DistilConfig *config = &pass->spec->config;
	const DistilLayerParams *params = &pass->spec->layer[index];
	const DistilHalfLayer *layer = distil_half_layer(pass, index);
	uint16_t   *out = pass->activations->half_out;
	uint16_t   *next = pass->activations->saved ? layer->output : x;
	int			t = pass->batch->ntokens;
	int			c = config->width;
	int			f = config->mlp;

	HALF(linear_forward, layer->qkv, 3 * (size_t) c, NULL, x, half_weight(pass, params->qkv_weight),
		 half_weight(pass, params->qkv_bias), DISTIL_ACT_NONE, t, 3 * c, c);
	DISTIL_FORWARD(distil_attend_half(pass, index, NULL, NULL, err));
	HALF(linear_forward, out, (size_t) c, NULL, layer->context, half_weight(pass, params->out_weight),
		 half_weight(pass, params->out_bias), DISTIL_ACT_NONE, t, c, c);
	HALF(norm_forward, layer->middle, layer->sum1, layer->mean1, layer->rstd1, out, x,
		 distil_attention_dropout(pass, index), weight(pass, params->norm1_weight),
		 weight(pass, params->norm1_bias), config->norm_eps, t, c);
	HALF(linear_forward, layer->activated, (size_t) f, layer->up, layer->middle,
		 half_weight(pass, params->up_weight), half_weight(pass, params->up_bias), config->activation, t, f, c);
	HALF(linear_forward, out, (size_t) c, NULL, layer->activated, half_weight(pass, params->down_weight),
		 half_weight(pass, params->down_bias), DISTIL_ACT_NONE, t, c, f);
	HALF(norm_forward, next, layer->sum2, layer->mean2, layer->rstd2, out, layer->middle,
		 distil_mlp_dropout(pass, index), weight(pass, params->norm2_weight),
		 weight(pass, params->norm2_bias), config->norm_eps, t, c);
	return DISTIL_OK;
}

/* dx = (or +=) dy w, dw += dy^T x, db += sums of dy; before: see linear_backward_input. */
static DistilStatus
linear_backward(const DistilPass *pass, uint16_t *dx, const uint16_t *before, bool accumulate,
				const uint16_t *dy, const uint16_t *x, int w, int b, DistilError *err)
{
	const DistilParam *param = &pass->spec->table.params[w];
	float	   *dw = distil_pass_gradient(pass, w);
	int			t = pass->batch->ntokens;

	if (dw != NULL)
		HALF(linear_backward_weight, dw, distil_pass_gradient(pass, b), dy, (size_t) param->rows, x, t,
			 param->rows, param->cols);
	HALF(linear_backward_input, dx, dy, (size_t) param->rows, half_weight(pass, w), before,
		 pass->spec->config.activation, accumulate, t, param->rows, param->cols);
	return DISTIL_OK;
}

static DistilStatus
backward_half(const DistilPass *pass, int index, uint16_t *dx, const uint16_t *x, DistilError *err)
{
	const DistilLayerParams *params = &pass->spec->layer[index];
	const DistilHalfLayer *layer = distil_half_layer(pass, index);
	const DistilActivations *a = pass->activations;
	DistilDropout mlp = distil_mlp_dropout(pass, index);
	DistilDropout attention = distil_attention_dropout(pass, index);
	int			t = pass->batch->ntokens;
	int			c = pass->spec->config.width;
	uint16_t   *dout = mlp.p > 0 ? a->half_db : a->half_da;

	/* da: the gradient of norm 2's input, which is also the residual's part of that of `middle` */
	HALF(norm_backward, a->half_da, mlp.p > 0 ? dout : NULL, distil_pass_gradient(pass, params->norm2_weight),
		 distil_pass_gradient(pass, params->norm2_bias), dx, layer->sum2, layer->mean2, layer->rstd2, mlp,
		 weight(pass, params->norm2_weight), t, c);
	DISTIL_FORWARD(linear_backward(pass, a->half_dup, layer->up, false, dout, layer->activated,
								   params->down_weight, params->down_bias, err));
	DISTIL_FORWARD(linear_backward(pass, a->half_da, NULL, true, a->half_dup, layer->middle, params->up_weight,
								   params->up_bias, err));
	/* dx: the gradient of norm 1's input, which is also the residual's part of that of x */
	dout = attention.p > 0 ? a->half_db : dx;
	HALF(norm_backward, dx, attention.p > 0 ? dout : NULL, distil_pass_gradient(pass, params->norm1_weight),
		 distil_pass_gradient(pass, params->norm1_bias), a->half_da, layer->sum1, layer->mean1, layer->rstd1,
		 attention, weight(pass, params->norm1_weight), t, c);
	DISTIL_FORWARD(linear_backward(pass, a->half_da, NULL, false, dout, layer->context, params->out_weight,
								   params->out_bias, err));
	DISTIL_FORWARD(distil_attend_half(pass, index, a->half_dqkv, a->half_da, err));
	return linear_backward(pass, dx, NULL, true, a->half_dqkv, x, params->qkv_weight, params->qkv_bias, err);
}

/* hidden [T, C] float32: in the output of the embeddings, out that of the last layer. */
DistilStatus
distil_layers_forward_half(const DistilPass *pass, float *hidden, DistilError *err)
{
	const DistilActivations *a = pass->activations;
	size_t		n = (size_t) pass->batch->ntokens * (size_t) pass->spec->config.width;
	uint16_t   *x = a->half_input;
	int			i;

	HALF(round, x, hidden, n);
	for (i = 0; i < pass->spec->config.layers; i++)
	{
		DISTIL_FORWARD(forward_half(pass, i, x, err));
		if (a->saved)
			x = a->half_layer[i].output;
	}
	HALF(widen, hidden, x, n);
	return DISTIL_OK;
}

/* dhidden [T, C] float32: in the gradient of the last layer's output, out that of the first one's input. */
DistilStatus
distil_layers_backward_half(const DistilPass *pass, float *dhidden, DistilError *err)
{
	const DistilActivations *a = pass->activations;
	size_t		n = (size_t) pass->batch->ntokens * (size_t) pass->spec->config.width;
	int			i;

	HALF(round, a->half_dx, dhidden, n);
	for (i = pass->spec->config.layers - 1; i >= 0; i--)
		DISTIL_FORWARD(backward_half(pass, i, a->half_dx, i == 0 ? a->half_input : a->half_layer[i - 1].output,
									 err));
	HALF(widen, dhidden, a->half_dx, n);
	return DISTIL_OK;
}
