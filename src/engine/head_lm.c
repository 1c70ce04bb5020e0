/*
 * head_lm.c
 *		The language-model head: h = norm(act(dense(x))), logits = decoder(h), and backward.
 *
 * A causal model's has no dense layer and no norm: h is x.
 * Works on gathered rows: only the tokens that matter pay for the vocabulary.
 * The decoder's weight is the word table when the two are tied, so its gradient adds
 * to the embeddings', and h has the tables' width E.  saved [2nE + 2n floats]: the dense
 * layer's output before the activation [n, E], the norm's input [n, E], its mean [n] and rstd [n].
 */
#include "layers.h"

/* Floats of `saved` for n rows. */
size_t
distil_lm_saved_floats(const DistilSpec *spec, int n)
{
	return (size_t) n * (2 * (size_t) distil_table_width(&spec->config) + 2);
}

/* Gradient of a parameter, NULL when absent or frozen. */
static float *
gradient_of(const DistilSpec *spec, float *gradients, int param)
{
	DistilPass	pass = {0};

	pass.spec = spec;
	pass.gradients = gradients;
	return distil_pass_gradient(&pass, param);
}

static DistilActivation
lm_activation(const DistilSpec *spec)
{
	return spec->lm.gelu ? DISTIL_ACT_GELU : spec->config.activation;
}

/* h [n, E] from x [n, C]; scratch [n, E] holds the activations on the way. */
DistilStatus
distil_lm_transform(const DistilSpec *spec, const float *weights, float *h, const float *x, int n,
					float *saved, float *scratch, DistilDevice *device, const DistilPoll *poll,
						DistilError *err)
{
	const DistilLmParams *lm = &spec->lm;
	int			c = spec->config.width;
	int			e = distil_table_width(&spec->config);
	size_t		ne = (size_t) n * e;
	float	   *dense = saved != NULL ? saved : scratch;
	float	   *sum = saved != NULL ? saved + ne : NULL;

	if (lm->dense_weight < 0)
	{
		device->ops->zero(device, h, ne);
		return distil_add_rows(h, x, ne, device, poll, err);
	}
	DISTIL_FORWARD(distil_param_forward(dense, (size_t) e, x, (size_t) c, spec, weights, lm->dense_weight,
										lm->dense_bias, DISTIL_ACT_NONE, n, device, poll, err));
	DISTIL_FORWARD(distil_activation_rows(lm_activation(spec), scratch, dense, ne, device, poll, err));
	return distil_norm_rows(h, sum, sum != NULL ? sum + ne : NULL, sum != NULL ? sum + ne + n : NULL,
							scratch, NULL, distil_weight(spec, weights, lm->norm_weight),
							distil_weight(spec, weights, lm->norm_bias), spec->config.norm_eps, n, e,
							device, poll, err);
}

/* dx [n, C] overwritten, from dh [n, E] and what transform saved; scratch [n, E]. */
DistilStatus
distil_lm_transform_backward(const DistilSpec *spec, const float *weights, float *gradients,
							 float *dx, const float *dh, const float *x, int n,
							 const float *saved, float *scratch,
							 DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	const DistilLmParams *lm = &spec->lm;
	int			c = spec->config.width;
	int			e = distil_table_width(&spec->config);
	size_t		ne = (size_t) n * e;
	const float *sum = saved + ne;

	if (lm->dense_weight < 0)
	{
		device->ops->zero(device, dx, ne);
		return distil_add_rows(dx, dh, ne, device, poll, err);
	}
	DISTIL_FORWARD(distil_norm_backward_rows(scratch, gradient_of(spec, gradients, lm->norm_weight),
											 gradient_of(spec, gradients, lm->norm_bias), dh, sum,
											 sum + ne, sum + ne + n,
											 distil_weight(spec, weights, lm->norm_weight), n, e,
											 device, poll, err));
	DISTIL_FORWARD(distil_activation_backward_rows(lm_activation(spec), scratch, scratch, saved, ne,
												   device, poll, err));
	return distil_linear_backward(dx, (size_t) c, false, gradient_of(spec, gradients, lm->dense_weight),
								  gradient_of(spec, gradients, lm->dense_bias), scratch, (size_t) e,
								  x, (size_t) c, distil_weight(spec, weights, lm->dense_weight),
								  n, e, c, device, poll, err);
}

/* logits [n, V] = h decoder^T + bias */
DistilStatus
distil_lm_decode(const DistilSpec *spec, const float *weights, float *logits, const float *h, int n,
				 DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	return distil_param_forward(logits, (size_t) spec->config.vocabulary, h,
								(size_t) distil_table_width(&spec->config), spec, weights,
								spec->lm.decoder_weight, spec->lm.decoder_bias,
								DISTIL_ACT_NONE, n, device, poll, err);
}

DistilStatus
distil_lm_decode_low(const DistilSpec *spec, const float *weights, float *logits, const float *h, int n,
					 const DistilRows *rows, DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	int			e = distil_table_width(&spec->config);
	DistilRows	in = distil_float_rows((float *) (uintptr_t) h, (size_t) e);
	DistilRows	out = distil_float_rows(logits, (size_t) spec->config.vocabulary);
	DistilWeight decoder;

	distil_param_weight(&decoder, spec, weights, spec->lm.low_weight, spec->lm.decoder_bias);
	DISTIL_FORWARD(distil_quantize_rows(rows, &in, DISTIL_ACT_NONE, n, e, device, poll, err));
	return distil_linear_rows(&out, rows, &decoder, DISTIL_ACT_NONE, n, device, poll, err);
}

/* dh [n, E] overwritten, from dlogits [n, V] and the h of forward. */
DistilStatus
distil_lm_decode_backward(const DistilSpec *spec, const float *weights, float *gradients, float *dh,
						  const float *dlogits, const float *h, int n,
						  DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	int			e = distil_table_width(&spec->config);

	return distil_linear_backward(dh, (size_t) e, false,
								  gradient_of(spec, gradients, spec->lm.decoder_weight),
								  gradient_of(spec, gradients, spec->lm.decoder_bias),
								  dlogits, (size_t) spec->config.vocabulary, h, (size_t) e,
								  distil_weight(spec, weights, spec->lm.decoder_weight),
								  n, spec->config.vocabulary, e, device, poll, err);
}

void
distil_lm_decode_half(const DistilSpec *spec, const uint16_t *half, uint16_t *logits, size_t ld,
					  const uint16_t *h, int n, DistilDevice *device)
{
	const DistilParam *params = spec->table.params;
	int			bias = spec->lm.decoder_bias;

	device->ops->half->linear_forward(device, logits, ld, NULL, h,
									  half + params[spec->lm.decoder_weight].offset,
									  bias >= 0 ? half + params[bias].offset : NULL, DISTIL_ACT_NONE, n,
									  spec->config.vocabulary, distil_table_width(&spec->config));
}

void
distil_lm_decode_backward_half(const DistilSpec *spec, const uint16_t *half, float *gradients, uint16_t *dh,
							   const uint16_t *dlogits, size_t ld, const uint16_t *h, int n,
							   DistilDevice *device)
{
	const DistilHalfKernels *ops = device->ops->half;
	float	   *dw = gradient_of(spec, gradients, spec->lm.decoder_weight);
	int			v = spec->config.vocabulary;
	int			c = distil_table_width(&spec->config);

	if (dw != NULL)
		ops->linear_backward_weight(device, dw, gradient_of(spec, gradients, spec->lm.decoder_bias), dlogits,
									ld, h, n, v, c);
	ops->linear_backward_input(device, dh, dlogits, ld,
							   half + spec->table.params[spec->lm.decoder_weight].offset,
							   NULL, DISTIL_ACT_NONE, false, n, v, c);
}
