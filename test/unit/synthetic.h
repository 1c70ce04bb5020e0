/*
 * synthetic.h
 *		A small model made in memory, without files, for tests of forward and backward.
 *
 * The spec is filled by hand: all fields that the encoder, the heads and the pipeline
 * read.  Weights are drawn from a fixed generator.
 */
#ifndef DISTIL_SYNTHETIC_H
#define DISTIL_SYNTHETIC_H

#include "check.h"
#include "config.h"

#define SYNTHETIC_MAX_PARAMS 256
#define SYNTHETIC_MAX_LAYERS 16

typedef struct Synthetic
{
	DistilSpec	spec;
	DistilParam params[SYNTHETIC_MAX_PARAMS];
	DistilLayerParams layers[SYNTHETIC_MAX_LAYERS];
	float	   *weights;
	float	   *gradients;
} Synthetic;

static inline uint64_t
synthetic_random(uint64_t *state)
{
	uint64_t	z = (*state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/* Uniform in [-1, 1). */
static inline float
synthetic_uniform(uint64_t *state)
{
	return (float) (synthetic_random(state) >> 40) / 8388608.0f - 1.0f;
}

static inline int
synthetic_param(Synthetic *s, int rows, int cols, unsigned flags)
{
	DistilParamTable *table = &s->spec.table;
	DistilParam *param = &s->params[table->n];

	param->name = "synthetic";
	param->rows = rows;
	param->cols = cols;
	param->vector = cols == 1;
	param->flags = flags;
	param->offset = table->total;
	param->count = (size_t) rows * cols;
	table->total += (param->count + 15) / 16 * 16;
	return table->n++;
}

static inline void
synthetic_layer(Synthetic *s, DistilLayerParams *layer)
{
	int			c = s->spec.config.width;
	int			f = s->spec.config.mlp;

	layer->qkv_weight = synthetic_param(s, 3 * c, c, DISTIL_PARAM_NORMAL);
	layer->qkv_bias = synthetic_param(s, 3 * c, 1, DISTIL_PARAM_NO_DECAY);
	layer->out_weight = synthetic_param(s, c, c, DISTIL_PARAM_NORMAL);
	layer->out_bias = synthetic_param(s, c, 1, DISTIL_PARAM_NO_DECAY);
	layer->norm1_weight = synthetic_param(s, c, 1, DISTIL_PARAM_NO_DECAY | DISTIL_PARAM_ONES);
	layer->norm1_bias = synthetic_param(s, c, 1, DISTIL_PARAM_NO_DECAY);
	layer->up_weight = synthetic_param(s, f, c, DISTIL_PARAM_NORMAL);
	layer->up_bias = synthetic_param(s, f, 1, DISTIL_PARAM_NO_DECAY);
	layer->down_weight = synthetic_param(s, c, f, DISTIL_PARAM_NORMAL);
	layer->down_bias = synthetic_param(s, c, 1, DISTIL_PARAM_NO_DECAY);
	layer->norm2_weight = synthetic_param(s, c, 1, DISTIL_PARAM_NO_DECAY | DISTIL_PARAM_ONES);
	layer->norm2_bias = synthetic_param(s, c, 1, DISTIL_PARAM_NO_DECAY);
}

/*
 * The caller has set width, heads, mlp, layers, vocabulary, positions, types, arch
 * (by types when NULL; GPT-2 also causal, MPNet relative_buckets, ALBERT table_width and shared_layers),
 * activation and dropouts in s->spec.config, and the pipeline's poolings, dense
 * sizes and normalize; with_lm adds a tied masked-LM head.  scale: of the weights.
 */
static inline void
synthetic_create(Synthetic *s, bool with_lm, float scale, uint64_t seed)
{
	DistilSpec *spec = &s->spec;
	DistilConfig *config = &spec->config;
	int			c = config->width;
	int			e = distil_table_width(config);
	int			i;
	size_t		j;

	if (config->arch == NULL)
		config->arch = distil_arch_find(config->types > 0 ? "bert" : "distilbert");
	config->embedding_dropout = config->hidden_dropout;
	config->head_dim = c / config->heads;
	distil_spec_clear(spec);
	config->norm_eps = 1e-12f;
	spec->table.params = s->params;
	spec->table.capacity = SYNTHETIC_MAX_PARAMS;
	spec->layer = s->layers;
	spec->word = synthetic_param(s, config->vocabulary, e, DISTIL_PARAM_NORMAL);
	spec->position = synthetic_param(s, config->positions, e, DISTIL_PARAM_NORMAL);
	spec->type = config->types > 0 ? synthetic_param(s, config->types, e, DISTIL_PARAM_NORMAL) : -1;
	if (!config->causal)
	{
		spec->embedding_norm_weight = synthetic_param(s, e, 1, DISTIL_PARAM_NO_DECAY | DISTIL_PARAM_ONES);
		spec->embedding_norm_bias = synthetic_param(s, e, 1, DISTIL_PARAM_NO_DECAY);
	}
	else
	{
		spec->final_norm_weight = synthetic_param(s, c, 1, DISTIL_PARAM_NO_DECAY | DISTIL_PARAM_ONES);
		spec->final_norm_bias = synthetic_param(s, c, 1, DISTIL_PARAM_NO_DECAY);
	}
	if (config->table_width > 0)
	{
		spec->projection_weight = synthetic_param(s, c, e, DISTIL_PARAM_NORMAL);
		spec->projection_bias = synthetic_param(s, c, 1, DISTIL_PARAM_NO_DECAY);
	}
	if (config->relative_buckets > 0)
		spec->relative = synthetic_param(s, config->relative_buckets, config->heads, DISTIL_PARAM_NORMAL);
	for (i = 0; i < config->layers; i++)
		if (i > 0 && config->shared_layers)
			s->layers[i] = s->layers[0];
		else
			synthetic_layer(s, &s->layers[i]);
	spec->has_lm = with_lm;
	if (with_lm && config->causal)
		spec->lm.decoder_weight = spec->word;
	else if (with_lm)
	{
		spec->lm.dense_weight = synthetic_param(s, e, c, DISTIL_PARAM_NORMAL);
		spec->lm.dense_bias = synthetic_param(s, e, 1, DISTIL_PARAM_NO_DECAY);
		spec->lm.norm_weight = synthetic_param(s, e, 1, DISTIL_PARAM_NO_DECAY | DISTIL_PARAM_ONES);
		spec->lm.norm_bias = synthetic_param(s, e, 1, DISTIL_PARAM_NO_DECAY);
		spec->lm.decoder_weight = spec->word;
		spec->lm.decoder_bias = synthetic_param(s, config->vocabulary, 1, DISTIL_PARAM_NO_DECAY);
	}
	for (i = 0; i < spec->pipeline.ndense; i++)
	{
		DistilDenseModule *dense = &spec->pipeline.dense[i];

		dense->weight = synthetic_param(s, dense->out, dense->in, DISTIL_PARAM_NORMAL);
		dense->bias = i == 0 ? synthetic_param(s, dense->out, 1, DISTIL_PARAM_NO_DECAY) : -1;
	}
	spec->info.layers = config->layers;
	spec->info.width = c;
	spec->info.dimensions = spec->pipeline.ndense > 0 ? spec->pipeline.dense[spec->pipeline.ndense - 1].out
		: c * spec->pipeline.npoolings;
	spec->info.max_tokens = config->positions;
	spec->info.vocabulary = config->vocabulary;
	s->weights = calloc(spec->table.total, sizeof(float));
	s->gradients = calloc(spec->table.total, sizeof(float));
	for (i = 0; i < spec->table.n; i++)
		for (j = 0; j < s->params[i].count; j++)
			s->weights[s->params[i].offset + j] = scale * synthetic_uniform(&seed) +
				((s->params[i].flags & DISTIL_PARAM_ONES) != 0 ? 1.0f : 0.0f);
}

/* An INT8 parameter as it lies in an image: panels, then what is beside them; its input has no factors. */
static inline void
synthetic_pack_int8(char *to, const DistilParam *param, const float *from)
{
	size_t		panel = distil_weight_bytes(DISTIL_TYPE_INT8, DISTIL_PANEL, param->cols);
	DistilBeside beside = distil_param_beside(param, to);
	const int8_t *data = (const int8_t *) to;
	int8_t	   *numbers = malloc((size_t) DISTIL_PANEL * param->cols);
	uint8_t    *scratch = malloc(DISTIL_ORDER_SCRATCH(param->cols));
	int			row,
				count,
				i,
				j;

	for (row = 0; row < param->rows; row += count, to += panel)
	{
		count = param->rows - row < DISTIL_PANEL ? param->rows - row : DISTIL_PANEL;
		for (i = 0; i < count; i++)
		{
			const float *values = from + (size_t) (row + i) * param->cols;
			float		largest = 0.0f;

			for (j = 0; j < param->cols; j++)
				largest = fmaxf(largest, fabsf(values[j]));
			beside.scale[row + i] = largest / 127.0f;
			for (j = 0; j < param->cols; j++)
				numbers[i * param->cols + j] = (int8_t) lrintf(values[j] / beside.scale[row + i]);
		}
		distil_pack_panel_int8((int8_t *) to, beside.sum + row, numbers, (size_t) param->cols, count,
							   param->cols);
	}
	for (i = 0; i < distil_order_halves(param->rows) && beside.order != NULL; i++)
		distil_order_half(beside.order, scratch, data, i, param->cols);
	for (j = 0; j < param->cols; j++)
		beside.factor[j] = 1.0f;
	free(scratch);
	free(numbers);
}

/* Bring the weights into a packed layout; in INT8 all of the layers' are quantised. */
static inline void
synthetic_pack(Synthetic *s, const char *layout)
{
	uint64_t	quantized[DISTIL_QUANTIZED_WORDS];
	size_t		offsets[SYNTHETIC_MAX_PARAMS];
	float	   *plain = s->weights;
	int			i;

	for (i = 0; i < s->spec.table.n; i++)
		offsets[i] = s->params[i].offset;
	memset(quantized, 0xff, sizeof(quantized));
	distil_spec_pack(&s->spec, layout, quantized);
	s->weights = aligned_alloc(64, s->spec.table.total * sizeof(float));
	for (i = 0; i < s->spec.table.n; i++)
	{
		DistilParam *param = &s->params[i];
		const float *from = plain + offsets[i];
		char	   *to = (char *) (s->weights + param->offset);
		int			row;

		if ((param->flags & DISTIL_PARAM_PACKED) == 0)
			memcpy(to, from, param->count * sizeof(float));
		else if (param->type == DISTIL_TYPE_INT8)
			synthetic_pack_int8(to, param, from);
		else
			for (row = 0; row < param->rows; row += DISTIL_PANEL)
		{
			const float *rows = from + (size_t) row * param->cols;
			int			count = param->rows - row < DISTIL_PANEL ? param->rows - row : DISTIL_PANEL;

			if (param->type == DISTIL_TYPE_BF16)
				distil_pack_panel_bf16((uint16_t *) to, rows, (size_t) param->cols, count, param->cols);
			else
				distil_pack_panel((float *) to, rows, (size_t) param->cols, count, param->cols);
			to += distil_weight_bytes(param->type, DISTIL_PANEL, param->cols);
		}
	}
	free(plain);
}

static inline void
synthetic_free(Synthetic *s)
{
	free(s->weights);
	free(s->gradients);
}

/* A ragged batch with random ids, on a CPU backend (device memory is plain memory). */
typedef struct SyntheticBatch
{
	DistilBatch batch;
	int32_t    *ids;
	int32_t    *positions;
	int32_t    *types;
	int32_t    *offsets;
} SyntheticBatch;

static inline void
synthetic_batch(SyntheticBatch *b, const DistilSpec *spec, const int *lengths, int nseq, uint64_t seed)
{
	int			t = 0;
	int			i;
	int			j;

	for (i = 0; i < nseq; i++)
		t += lengths[i];
	b->ids = calloc((size_t) t, sizeof(int32_t));
	b->positions = calloc((size_t) t, sizeof(int32_t));
	b->types = calloc((size_t) t, sizeof(int32_t));
	b->offsets = calloc((size_t) nseq + 1, sizeof(int32_t));
	for (i = 0, t = 0; i < nseq; i++)
	{
		for (j = 0; j < lengths[i]; j++, t++)
		{
			b->ids[t] = (int32_t) (synthetic_random(&seed) % (uint64_t) spec->config.vocabulary);
			b->positions[t] = spec->config.position_offset + j;
			b->types[t] = spec->config.types > 1 && j > lengths[i] / 2 ? 1 : 0;
		}
		b->offsets[i + 1] = t;
	}
	memset(&b->batch, 0, sizeof(b->batch));
	b->batch.nseq = nseq;
	b->batch.ntokens = t;
	b->batch.ids = b->ids;
	b->batch.positions = b->positions;
	b->batch.types = b->types;
	b->batch.offsets = b->offsets;
	b->batch.host_offsets = b->offsets;
}

static inline void
synthetic_batch_free(SyntheticBatch *b)
{
	free(b->ids);
	free(b->positions);
	free(b->types);
	free(b->offsets);
}

#endif							/* DISTIL_SYNTHETIC_H */
