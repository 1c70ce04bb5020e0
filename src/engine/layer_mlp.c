/*
 * layer_mlp.c
 *		x = norm(x + dropout(W_2 act(W_1 x))), and backward.
 *
 * The F-wide values are the largest of a layer.  They exist for activations->mlp_rows
 * rows at a time; training saves them before the activation and computes the
 * activation again in backward.
 */
#include "layers.h"

static int
rows_left(const DistilPass *pass, int first)
{
	int			rows = pass->batch->ntokens - first;

	return rows < pass->activations->mlp_rows ? rows : pass->activations->mlp_rows;
}

DistilStatus
distil_mlp_layer_forward(const DistilPass *pass, int index, float *x, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilConfig *config = &spec->config;
	const DistilLayerParams *params = &spec->layer[index];
	DistilActivations *a = pass->activations;
	DistilSavedLayer *saved = a->saved ? &a->layer[index] : NULL;
	DistilDropout dropout = distil_pass_dropout(pass, config->hidden_dropout, index, DISTIL_DROP_MLP_OUTPUT);
	size_t		c = (size_t) config->width;
	size_t		f = (size_t) config->mlp;
	int			i;

	for (i = 0; i < pass->batch->ntokens; i += a->mlp_rows)
	{
		int			rows = rows_left(pass, i);
		const float *in = saved != NULL ? saved->middle + i * c : x + i * c;
		float	   *up = saved != NULL ? saved->up + i * f : a->scratch;
		float	   *down = saved != NULL ? saved->output + i * c : a->scratch + (size_t) a->mlp_rows * f;

		DISTIL_FORWARD(distil_param_forward(up, f, in, c, spec, pass->weights, params->up_weight,
											params->up_bias,
											saved != NULL ? DISTIL_ACT_NONE : config->activation,
											rows, pass->device, pass->poll, err));
		if (saved != NULL)
			DISTIL_FORWARD(distil_activation_rows(config->activation, a->scratch, up, rows * f,
												  pass->device, pass->poll, err));
		DISTIL_FORWARD(distil_param_forward(down, c, a->scratch, f, spec, pass->weights,
											params->down_weight, params->down_bias, DISTIL_ACT_NONE, rows,
											pass->device, pass->poll, err));
		if (dropout.p > 0)
			DISTIL_FORWARD(distil_dropout_rows(down, down, dropout, i * c, rows * c,
											   pass->device, pass->poll, err));
		DISTIL_FORWARD(distil_norm_rows(saved != NULL ? down : x + i * c,
										saved != NULL ? saved->sum2 + i * c : NULL,
										saved != NULL ? saved->mean2 + i : NULL,
										saved != NULL ? saved->rstd2 + i : NULL,
										down, in, distil_weight(spec, pass->weights, params->norm2_weight),
										distil_weight(spec, pass->weights, params->norm2_bias),
										config->norm_eps, rows, config->width, pass->device, pass->poll,
										err));
	}
	return DISTIL_OK;
}

/* One chunk of rows: gradients of the two linear layers; da [rows, C] += the input's gradient. */
static DistilStatus
chunk_backward(const DistilPass *pass, int index, int first, int rows, const float *ddown, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilConfig *config = &spec->config;
	const DistilLayerParams *params = &spec->layer[index];
	DistilActivations *a = pass->activations;
	DistilSavedLayer *saved = &a->layer[index];
	size_t		c = (size_t) config->width;
	size_t		f = (size_t) config->mlp;
	float	   *activated = a->scratch;	/* [rows, F] */
	float	   *dup = a->scratch + (size_t) a->mlp_rows * f;	/* [rows, F] */
	const float *up = saved->up + first * f;

	DISTIL_FORWARD(distil_activation_rows(config->activation, activated, up, rows * f,
										  pass->device, pass->poll, err));
	DISTIL_FORWARD(distil_linear_backward(dup, f, false,
										  distil_pass_gradient(pass, params->down_weight),
										  distil_pass_gradient(pass, params->down_bias),
										  ddown + first * c, c, activated, f,
										  distil_weight(spec, pass->weights, params->down_weight),
										  rows, config->width, config->mlp, pass->device, pass->poll, err));
	DISTIL_FORWARD(distil_activation_backward_rows(config->activation, dup, dup, up, rows * f,
												   pass->device, pass->poll, err));
	return distil_linear_backward(a->da + first * c, c, true,
								  distil_pass_gradient(pass, params->up_weight),
								  distil_pass_gradient(pass, params->up_bias),
								  dup, f, saved->middle + first * c, c,
								  distil_weight(spec, pass->weights, params->up_weight),
								  rows, config->mlp, config->width, pass->device, pass->poll, err);
}

DistilStatus
distil_mlp_layer_backward(const DistilPass *pass, int index, const float *dy, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	const DistilConfig *config = &spec->config;
	const DistilLayerParams *params = &spec->layer[index];
	DistilActivations *a = pass->activations;
	DistilSavedLayer *saved = &a->layer[index];
	DistilDropout dropout = distil_pass_dropout(pass, config->hidden_dropout, index, DISTIL_DROP_MLP_OUTPUT);
	int			t = pass->batch->ntokens;
	const float *ddown = a->da;
	int			i;

	/* da: gradient of norm 2's input, which is also the residual's part of the result */
	DISTIL_FORWARD(distil_norm_backward_rows(a->da, distil_pass_gradient(pass, params->norm2_weight),
											 distil_pass_gradient(pass, params->norm2_bias), dy,
											 saved->sum2, saved->mean2, saved->rstd2,
											 distil_weight(spec, pass->weights, params->norm2_weight),
											 t, config->width, pass->device, pass->poll, err));
	if (dropout.p > 0)
	{
		ddown = a->db;
		DISTIL_FORWARD(distil_dropout_rows(a->db, a->da, dropout, 0, (size_t) t * config->width,
										   pass->device, pass->poll, err));
	}
	/* Without dropout ddown is da: a chunk reads its rows before it adds to them. */
	for (i = 0; i < t; i += a->mlp_rows)
		DISTIL_FORWARD(chunk_backward(pass, index, i, rows_left(pass, i), ddown, err));
	return DISTIL_OK;
}
