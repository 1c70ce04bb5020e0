/*
 * arch.c
 *		The table of architectures, and what they share: building the parameter table.
 *
 * A new architecture is one file arch_<name>.c with one const DistilArch and one line
 * in the table below.  The rule a newcomer would break: canonical parameter names are
 * the same in all architectures, because students copy layers by them.
 */
#include "config.h"

#include "status.h"

#include <stdio.h>
#include <string.h>

extern const DistilArch distil_arch_albert;
extern const DistilArch distil_arch_bert;
extern const DistilArch distil_arch_camembert;
extern const DistilArch distil_arch_distilbert;
extern const DistilArch distil_arch_electra;
extern const DistilArch distil_arch_gpt2;
extern const DistilArch distil_arch_mpnet;
extern const DistilArch distil_arch_roberta;
extern const DistilArch distil_arch_xlm_roberta;

static const DistilArch *const architectures[] = {
	&distil_arch_albert, &distil_arch_bert, &distil_arch_camembert, &distil_arch_distilbert,
	&distil_arch_electra, &distil_arch_gpt2, &distil_arch_mpnet, &distil_arch_roberta,
	&distil_arch_xlm_roberta
};

#define ARCHITECTURES (sizeof(architectures) / sizeof(architectures[0]))

const DistilArch *
distil_arch_find(const char *model_type)
{
	for (size_t i = 0; i < ARCHITECTURES; i++)
		if (strcmp(architectures[i]->model_type, model_type) == 0)
			return architectures[i];
	return NULL;
}

const char *
distil_arch_list(void)
{
	return "albert, bert, camembert, distilbert, electra, gpt2, mpnet, roberta, xlm-roberta";
}

/* Floats of a flat block are aligned to 64 bytes. */
#define PARAM_ALIGN 16

static bool
table_reserve(DistilSpec *spec)
{
	DistilParamTable *table = &spec->table;
	int			capacity;
	DistilParam *params;

	if (table->n < table->capacity)
		return true;
	capacity = table->capacity == 0 ? 64 : table->capacity * 2;
	params = distil_arena_alloc(spec->arena, (size_t) capacity, sizeof(DistilParam));
	if (params == NULL)
		return false;
	if (table->n > 0)
		memcpy(params, table->params, (size_t) table->n * sizeof(DistilParam));
	table->params = params;
	table->capacity = capacity;
	return true;
}

int
distil_param_add(DistilSpec *spec, const char *name, const char *const *sources, int nsources,
				 int rows, int cols, unsigned flags)
{
	DistilParamTable *table = &spec->table;
	DistilParam param = {0};
	size_t		padded;

	if (nsources < 1 || nsources > DISTIL_PARAM_MAX_SOURCES || rows <= 0 || cols < 0 ||
		!table_reserve(spec))
		return -1;
	param.name = distil_arena_string(spec->arena, name, strlen(name));
	if (param.name == NULL)
		return -1;
	for (int i = 0; i < nsources; i++)
	{
		param.sources[i] = distil_arena_string(spec->arena, sources[i], strlen(sources[i]));
		if (param.sources[i] == NULL)
			return -1;
	}
	param.nsources = nsources;
	param.rows = rows;
	param.cols = cols == 0 ? 1 : cols;
	param.vector = cols == 0;
	param.flags = flags;
	param.offset = table->total;
	if (!distil_size_mul(&param.count, (size_t) rows, (size_t) param.cols) ||
		!distil_size_add(&padded, param.count, PARAM_ALIGN - 1))
		return -1;
	padded -= padded % PARAM_ALIGN;
	/* the block must also be addressable in bytes */
	if (!distil_size_add(&padded, padded, table->total) || padded > SIZE_MAX / sizeof(float))
		return -1;
	table->total = padded;
	table->params[table->n] = param;
	return table->n++;
}

DistilStatus
distil_single_param(DistilSpec *spec, int *index, const char *name, const char *source,
					int rows, int cols, unsigned flags, DistilError *err)
{
	*index = distil_param_add(spec, name, &source, 1, rows, cols, flags);
	return *index < 0 ? distil_fail_memory(err, 0) : DISTIL_OK;
}

DistilStatus
distil_pair_params(DistilSpec *spec, int *weight, int *bias, const char *name, const char *source,
				   int rows, int cols, DistilError *err)
{
	char		full[DISTIL_MAX_NAME + 1];
	char		from[DISTIL_MAX_NAME + 1];

	/* cols 0: a norm */
	snprintf(full, sizeof(full), "%s.weight", name);
	snprintf(from, sizeof(from), "%s.weight", source);
	DISTIL_FORWARD(distil_single_param(spec, weight, full, from, rows, cols,
									   cols == 0 ? DISTIL_PARAM_NO_DECAY | DISTIL_PARAM_ONES
									   : DISTIL_PARAM_NORMAL, err));
	snprintf(full, sizeof(full), "%s.bias", name);
	snprintf(from, sizeof(from), "%s.bias", source);
	return distil_single_param(spec, bias, full, from, rows, 0, DISTIL_PARAM_NO_DECAY, err);
}

/* q, k and v as one [3C, C] weight and one [3C] bias */
static DistilStatus
qkv_params(DistilSpec *spec, int layer, const char *const names[3], DistilError *err)
{
	DistilLayerParams *p = &spec->layer[layer];
	char		from[3][DISTIL_MAX_NAME + 1];
	const char *const sources[3] = {from[0], from[1], from[2]};
	char		name[40];
	int			c = spec->config.width;

	for (int part = 0; part < 2; part++)
	{
		for (int i = 0; i < 3; i++)
		{
			char		stem[DISTIL_MAX_NAME - 8];

			snprintf(stem, sizeof(stem), names[i], layer);
			snprintf(from[i], sizeof(from[i]), "%s.%s", stem, part == 0 ? "weight" : "bias");
		}
		snprintf(name, sizeof(name), "layer.%d.qkv.%s", layer, part == 0 ? "weight" : "bias");
		if (part == 0)
			p->qkv_weight = distil_param_add(spec, name, sources, 3, 3 * c, c, DISTIL_PARAM_NORMAL);
		else
			p->qkv_bias = distil_param_add(spec, name, sources, 3, 3 * c, 0, DISTIL_PARAM_NO_DECAY);
	}
	return p->qkv_weight < 0 || p->qkv_bias < 0 ? distil_fail_memory(err, 0) : DISTIL_OK;
}

DistilStatus
distil_layer_params(DistilSpec *spec, const char *const names[DISTIL_LAYER_NAMES], DistilError *err)
{
	static const char *const canonical[] = {"out", "norm1", "up", "down", "norm2"};
	const DistilConfig *config = &spec->config;
	int			rows[] = {config->width, config->width, config->mlp, config->width, config->width};
	int			cols[] = {config->width, 0, config->width, config->mlp, 0};

	spec->layer = distil_arena_alloc(spec->arena, (size_t) config->layers, sizeof(DistilLayerParams));
	if (spec->layer == NULL)
		return distil_fail_memory(err, 0);
	for (int i = 0; i < config->layers; i++)
	{
		DistilLayerParams *p = &spec->layer[i];
		int		   *weights[] = {&p->out_weight, &p->norm1_weight, &p->up_weight, &p->down_weight,
								 &p->norm2_weight};
		int		   *biases[] = {&p->out_bias, &p->norm1_bias, &p->up_bias, &p->down_bias, &p->norm2_bias};

		if (i > 0 && config->shared_layers)
		{
			*p = spec->layer[0];
			continue;
		}
		DISTIL_FORWARD(qkv_params(spec, i, names, err));
		for (int k = 0; k < 5; k++)
		{
			char		name[40];
			char		source[DISTIL_MAX_NAME - 8];

			snprintf(name, sizeof(name), "layer.%d.%s", i, canonical[k]);
			snprintf(source, sizeof(source), names[3 + k], i);
			DISTIL_FORWARD(distil_pair_params(spec, weights[k], biases[k], name, source, rows[k], cols[k],
											  err));
		}
	}
	return DISTIL_OK;
}
