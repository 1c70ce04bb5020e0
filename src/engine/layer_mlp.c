/*
 * layer_mlp.c
 *		down = dropout(W_2 act(W_1 x)), and backward, a part of the rows at a time.
 *
 * The F-wide values are the largest of a layer.  They exist for activations->mlp_rows
 * rows at a time; training saves them before the activation and computes the
 * activation again in backward.
 */
#include "layers.h"

int
distil_mlp_rows(const DistilPass *pass, int first)
{
	int			rows = pass->batch->ntokens - first;
	int			most = pass->activations->mlp_rows;
	int			(*chain_rows) (DistilDevice *, int, int) = pass->device->ops->chain_rows;
	int			parts;
	int			even;

	if (pass->spec->low != DISTIL_TYPE_F32 && chain_rows != NULL)
	{
		int			chain = chain_rows(pass->device, pass->batch->ntokens, pass->spec->config.mlp);

		most = chain < most ? chain : most;
	}
	parts = (rows + most - 1) / most;
	/* alike, in multiples of what kernels take at a time: a few rows left over would be slow */
	even = ((rows + parts - 1) / parts + DISTIL_ROW_BLOCK - 1) / DISTIL_ROW_BLOCK * DISTIL_ROW_BLOCK;
	even = even < most ? even : most;
	return rows < even ? rows : even;
}

DistilDropout
distil_mlp_dropout(const DistilPass *pass, int index)
{
	const DistilConfig *config = &pass->spec->config;

	return distil_pass_dropout(pass, config->no_mlp_dropout ? 0 : config->hidden_dropout, index,
							   DISTIL_DROP_MLP_OUTPUT);
}

DistilStatus
distil_mlp_forward(const DistilPass *pass, int index, float *down, const float *x, int first, int rows,
				   DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilConfig *config = &spec->config;
	const DistilLayerParams *params = &spec->layer[index];
	DistilActivations *a = pass->activations;
	DistilSavedLayer *saved = a->saved ? &a->layer[index] : NULL;
	DistilDropout dropout = distil_mlp_dropout(pass, index);
	size_t		c = (size_t) config->width;
	size_t		f = (size_t) config->mlp;
	float	   *up = saved != NULL ? saved->up + (size_t) first * f : a->scratch;

	x = distil_tap(pass, index, DISTIL_PLACE_UP, x, rows, config->width);
	DISTIL_FORWARD(distil_param_forward(up, f, x, c, spec, pass->weights, params->up_weight, params->up_bias,
										saved != NULL ? DISTIL_ACT_NONE : config->activation, rows,
										pass->device, pass->poll, err));
	if (saved != NULL)
		DISTIL_FORWARD(distil_activation_rows(config->activation, a->scratch, up, (size_t) rows * f,
											  pass->device, pass->poll, err));
	x = distil_tap(pass, index, DISTIL_PLACE_DOWN, a->scratch, rows, config->mlp);
	DISTIL_FORWARD(distil_param_forward(down, c, x, f, spec, pass->weights, params->down_weight,
										params->down_bias, DISTIL_ACT_NONE, rows, pass->device, pass->poll,
										err));
	if (dropout.p > 0)
		DISTIL_FORWARD(distil_dropout_rows(down, down, dropout, (size_t) first * c, (size_t) rows * c,
										   pass->device, pass->poll, err));
	return DISTIL_OK;
}

DistilStatus
distil_mlp_forward_low(const DistilPass *pass, int index, int first, int rows, DistilError *err)
{
	const DistilConfig *config = &pass->spec->config;
	const DistilLayerParams *params = &pass->spec->layer[index];
	const DistilActivations *a = pass->activations;
	/* the activation is a part of quantising, if there is any */
	bool		late = pass->spec->table.params[params->down_weight].type == DISTIL_TYPE_INT8;
	DistilRows	all = distil_low_input(pass, &a->mlp_in, params->up_weight);
	DistilRows	in = distil_rows_from(&all, first);
	DistilRows	out = distil_float_rows(a->out, (size_t) config->width);

	DISTIL_FORWARD(distil_param_rows(pass, &a->up, &in, params->up_weight, params->up_bias,
									 late ? DISTIL_ACT_NONE : config->activation, rows, err));
	DISTIL_FORWARD(distil_low_operand(pass, &in, &a->up, &a->up_copy, params->down_weight, config->activation,
									  rows, err));
	return distil_param_rows(pass, &out, &in, params->down_weight, params->down_bias, DISTIL_ACT_NONE,
							 rows, err);
}

DistilStatus
distil_mlp_backward(const DistilPass *pass, int index, float *dx, bool accumulate, const float *ddown,
					const float *x, int first, int rows, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilConfig *config = &spec->config;
	const DistilLayerParams *params = &spec->layer[index];
	DistilActivations *a = pass->activations;
	size_t		c = (size_t) config->width;
	size_t		f = (size_t) config->mlp;
	float	   *activated = a->scratch; /* [rows, F] */
	float	   *dup = a->scratch + (size_t) a->mlp_rows * f;	/* [rows, F] */
	const float *up = a->layer[index].up + (size_t) first * f;

	DISTIL_FORWARD(distil_activation_rows(config->activation, activated, up, (size_t) rows * f,
										  pass->device, pass->poll, err));
	DISTIL_FORWARD(distil_linear_backward(dup, f, false,
										  distil_pass_gradient(pass, params->down_weight),
										  distil_pass_gradient(pass, params->down_bias),
										  ddown, c, activated, f,
										  distil_weight(spec, pass->weights, params->down_weight),
										  rows, config->width, config->mlp, pass->device, pass->poll, err));
	DISTIL_FORWARD(distil_activation_backward_rows(config->activation, dup, dup, up, (size_t) rows * f,
												   pass->device, pass->poll, err));
	return distil_linear_backward(dx, c, accumulate,
								  distil_pass_gradient(pass, params->up_weight),
								  distil_pass_gradient(pass, params->up_bias),
								  dup, f, x, c, distil_weight(spec, pass->weights, params->up_weight),
								  rows, config->mlp, config->width, pass->device, pass->poll, err);
}
