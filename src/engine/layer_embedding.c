/*
 * layer_embedding.c
 *		hidden = projection(dropout(norm(word[id] + position[j] + type[segment]))), and backward.
 *
 * The dropout comes after the norm.  Some architectures have no norm here, most no projection.  With the
 * kinds of a batch's tokens (session_kinds.c) there is a row for each kind.
 */
#include "layers.h"

/* Tokens of one unit. */
static int
unit_tokens(const DistilDevice *device, int c)
{
	int			tokens = (int) (DISTIL_UNIT_ELEMENTS(device) / (size_t) c);

	return tokens > 0 ? tokens : 1;
}

DistilStatus
distil_embedding_layer_forward(const DistilPass *pass, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilBatch *batch = pass->batch;
	DistilActivations *a = pass->activations;
	const float *gamma = distil_weight(spec, pass->weights, spec->embedding_norm_weight);
	const float *beta = distil_weight(spec, pass->weights, spec->embedding_norm_bias);
	DistilDropout dropout = distil_pass_dropout(pass, spec->config.embedding_dropout, -1,
												DISTIL_DROP_EMBEDDINGS);
	bool		projected = spec->projection_weight >= 0;
	float	   *x = projected ? a->embedding : a->hidden;
	const DistilKinds *kinds = batch->kinds;
	const int32_t *ids = kinds != NULL ? kinds->ids : batch->ids;
	const int32_t *positions = kinds != NULL ? kinds->positions : batch->positions;
	const int32_t *types = kinds != NULL ? kinds->types : batch->types;
	int			t = kinds != NULL ? kinds->n : batch->ntokens;
	int			c = distil_table_width(&spec->config);
	int			step = unit_tokens(pass->device, c);
	int			i;

	for (i = 0; i < t; i += step)
	{
		DISTIL_POLL(pass->poll, err);
		pass->device->ops->embedding_forward(pass->device, x + (size_t) i * c, ids + i, positions + i,
											 types != NULL ? types + i : NULL,
											 distil_weight(spec, pass->weights, spec->word),
											 distil_weight(spec, pass->weights, spec->position),
											 distil_weight(spec, pass->weights, spec->type),
											 t - i < step ? t - i : step, c);
	}
	if (spec->embedding_norm_weight >= 0)
		DISTIL_FORWARD(distil_norm_rows(x, a->embedding_sum, a->embedding_mean, a->embedding_rstd,
										x, NULL, gamma, beta, spec->config.norm_eps, t, c,
										pass->device, pass->poll, err));
	if (dropout.p > 0)
		DISTIL_FORWARD(distil_dropout_rows(x, x, dropout, 0, (size_t) t * c, pass->device, pass->poll, err));
	if (!projected)
		return DISTIL_OK;
	return distil_param_forward(a->hidden, (size_t) spec->config.width, x, (size_t) c, spec, pass->weights,
								spec->projection_weight, spec->projection_bias, DISTIL_ACT_NONE, t,
								pass->device, pass->poll, err);
}

DistilStatus
distil_embedding_layer_backward(const DistilPass *pass, float *dhidden, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilBatch *batch = pass->batch;
	DistilActivations *a = pass->activations;
	DistilDropout dropout = distil_pass_dropout(pass, spec->config.embedding_dropout, -1,
												DISTIL_DROP_EMBEDDINGS);
	float	   *dword = distil_pass_gradient(pass, spec->word);
	float	   *dposition = distil_pass_gradient(pass, spec->position);
	float	   *dtype = distil_pass_gradient(pass, spec->type);
	float	   *dx = dhidden;
	const float *dsum;
	int			t = batch->ntokens;
	int			c = distil_table_width(&spec->config);
	int			step = unit_tokens(pass->device, c);
	int			i;

	if (spec->projection_weight >= 0)
	{
		dx = a->db;
		DISTIL_FORWARD(distil_linear_backward(dx, (size_t) c, false,
											  distil_pass_gradient(pass, spec->projection_weight),
											  distil_pass_gradient(pass, spec->projection_bias),
											  dhidden, (size_t) spec->config.width, a->embedding, (size_t) c,
											  distil_weight(spec, pass->weights, spec->projection_weight),
											  t, spec->config.width, c, pass->device, pass->poll, err));
	}
	if (dropout.p > 0)
		DISTIL_FORWARD(distil_dropout_rows(dx, dx, dropout, 0, (size_t) t * c, pass->device, pass->poll,
										   err));
	dsum = dx;
	if (spec->embedding_norm_weight >= 0)
	{
		DISTIL_FORWARD(distil_norm_backward_rows(a->da,
												 distil_pass_gradient(pass, spec->embedding_norm_weight),
												 distil_pass_gradient(pass, spec->embedding_norm_bias),
												 dx, a->embedding_sum, a->embedding_mean,
												 a->embedding_rstd,
												 distil_weight(spec, pass->weights,
															   spec->embedding_norm_weight),
												 t, c, pass->device, pass->poll, err));
		dsum = a->da;
	}
	for (i = 0; i < t; i += step)
	{
		DISTIL_POLL(pass->poll, err);
		pass->device->ops->embedding_backward(pass->device, dword, dposition, dtype, dsum + (size_t) i * c,
											  batch->ids + i, batch->positions + i,
											  batch->types != NULL ? batch->types + i : NULL,
											  t - i < step ? t - i : step, c);
	}
	return DISTIL_OK;
}
