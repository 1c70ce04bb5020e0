/*
 * block_half.c
 *		What layers with activations in bfloat16 share: their parts, and all of them from and to float32.
 *
 * Norms, softmax and gradients of parameters are float32.
 * The rule a newcomer would break: dropout and the sum with the residual are part of the norm behind them, so
 * that what a product gave is read once; dropout's gradient comes out of the norm's backward beside that of
 * the sum.
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

DistilHalfLayer *
distil_half_layer(const DistilPass *pass, int index)
{
	return &pass->activations->half_layer[pass->activations->saved ? index : 0];
}

DistilStatus
distil_half_linear(const DistilPass *pass, uint16_t *y, uint16_t *before, const uint16_t *x, int w, int b,
				   DistilActivation act, DistilError *err)
{
	const DistilParam *param = &pass->spec->table.params[w];

	HALF(linear_forward, y, (size_t) param->rows, before, x, half_weight(pass, w), half_weight(pass, b), act,
		 pass->batch->ntokens, param->rows, param->cols);
	return DISTIL_OK;
}

DistilStatus
distil_half_linear_backward(const DistilPass *pass, uint16_t *dx, const uint16_t *before, bool accumulate,
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

DistilStatus
distil_half_norm(const DistilPass *pass, uint16_t *y, uint16_t *sum, float *mean, float *rstd,
				 const uint16_t *x, const uint16_t *residual, DistilDropout dropout, int w, int b,
				 DistilError *err)
{
	HALF(norm_forward, y, sum, mean, rstd, x, residual, dropout, distil_weight(pass->spec, pass->weights, w),
		 distil_weight(pass->spec, pass->weights, b), pass->spec->config.norm_eps, pass->batch->ntokens,
		 pass->spec->config.width);
	return DISTIL_OK;
}

DistilStatus
distil_half_norm_backward(const DistilPass *pass, uint16_t *dsum, uint16_t *dx, const uint16_t *dy,
						  const uint16_t *dresidual, const uint16_t *sum, const float *mean,
						  const float *rstd, DistilDropout dropout, int w, int b, DistilError *err)
{
	HALF(norm_backward, dsum, dropout.p > 0 ? dx : NULL, distil_pass_gradient(pass, w),
		 distil_pass_gradient(pass, b), dy, dresidual, sum, mean, rstd, dropout,
		 distil_weight(pass->spec, pass->weights, w), pass->batch->ntokens, pass->spec->config.width);
	return DISTIL_OK;
}

/* hidden [T, C] float32: in the output of the embeddings, out the last hidden state. */
DistilStatus
distil_layers_forward_half(const DistilPass *pass, float *hidden, DistilError *err)
{
	size_t		n = (size_t) pass->batch->ntokens * (size_t) pass->spec->config.width;
	const uint16_t *y;

	HALF(round, pass->activations->half_input, hidden, n);
	DISTIL_FORWARD(pass->spec->config.arch->family->forward_half(pass, &y, err));
	HALF(widen, hidden, y, n);
	return DISTIL_OK;
}

/* dhidden [T, C] float32: in the gradient of the last hidden state, out that of the first layer's input. */
DistilStatus
distil_layers_backward_half(const DistilPass *pass, float *dhidden, DistilError *err)
{
	const DistilActivations *a = pass->activations;
	size_t		n = (size_t) pass->batch->ntokens * (size_t) pass->spec->config.width;

	HALF(round, a->half_dx, dhidden, n);
	DISTIL_FORWARD(pass->spec->config.arch->family->backward_half(pass, err));
	HALF(widen, dhidden, a->half_dx, n);
	return DISTIL_OK;
}
