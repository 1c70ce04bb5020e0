/*
 * activations.c
 *		Memory of a pass: what forward saves for backward, or small scratch for inference.
 *
 * All arrays lie in one device block, laid out by plan(), which also computes the
 * block's size when there is no memory yet: the two can never disagree.
 * Inference needs 5C floats per token: the hidden state, and 4C of scratch that is
 * q | k | v and the context during attention, F-wide rows during the mlp (and more for a few
 * tokens, so that all of them go through the mlp at once).  In low
 * precision these are rows of BF16, and the layers' inputs are there a second time in them.
 * Embeddings of another width E than the layers' are rows of their own.
 */
#include "layers.h"

#define ALIGN_FLOATS 16

/* Next array of the block; NULL while only the size is wanted. */
static float *
take(float *memory, size_t *used, size_t count)
{
	float	   *array = memory != NULL ? memory + *used : NULL;

	*used += (count + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
	return array;
}

static size_t
max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* Floats of scratch, and how many F-wide rows (with C more for their output) fit it. */
static size_t
scratch_floats(const DistilConfig *config, size_t t, bool saved, size_t units, int *mlp_rows)
{
	size_t		c = (size_t) config->width;
	size_t		f = (size_t) config->mlp;
	size_t		least = t < DISTIL_MLP_ROWS ? t : DISTIL_MLP_ROWS;
	size_t		row = saved ? 2 * f : f + c;
	size_t		floats;
	size_t		rows;

	floats = max_size((saved ? 3 : 4) * c * t, row * least);
	rows = floats / row;
	if (!saved && rows > DISTIL_MLP_ROWS * units)
		rows = DISTIL_MLP_ROWS * units;
	*mlp_rows = (int) (rows < t ? rows : t);
	return floats;
}

/* The next rows of the block; eight_bits: they may also be INT8, which is smaller. */
static DistilRows
take_rows(float *memory, size_t *used, DistilType type, size_t t, size_t c, bool eight_bits)
{
	DistilRows	rows = {.type = type,.ld = distil_row_stride(type, c)};

	rows.data = take(memory, used, distil_rows_elements(type, t, c) * distil_type_size(type) / sizeof(float));
	if (eight_bits)
	{
		rows.scale = take(memory, used, t);
		rows.zero = (int32_t *) (void *) take(memory, used, t);
	}
	return rows;
}

/* What forward in low precision needs beside the hidden state. */
static void
plan_low(DistilActivations *a, const DistilSpec *spec, float *memory, size_t *used, size_t t)
{
	const DistilConfig *config = &spec->config;
	bool		eight_bits = spec->low == DISTIL_TYPE_INT8;
	size_t		c = (size_t) config->width;

	a->mlp_rows = (int) (t < DISTIL_LOW_MLP_ROWS ? t : DISTIL_LOW_MLP_ROWS);
	a->attention_in = take_rows(memory, used, DISTIL_TYPE_BF16, t, c, eight_bits);
	a->mlp_in = take_rows(memory, used, DISTIL_TYPE_BF16, t, c, eight_bits);
	a->qkv = take_rows(memory, used, DISTIL_TYPE_BF16, t, 3 * c, false);
	a->context = take_rows(memory, used, DISTIL_TYPE_BF16, t, c, false);
	a->up = take_rows(memory, used, DISTIL_TYPE_BF16, (size_t) a->mlp_rows, (size_t) config->mlp, false);
	if (eight_bits)
	{
		a->context_copy = take_rows(memory, used, DISTIL_TYPE_INT8, t, c, true);
		a->up_copy = take_rows(memory, used, DISTIL_TYPE_INT8, (size_t) a->mlp_rows, (size_t) config->mlp,
							   true);
	}
	a->out = take(memory, used, t * c);
}

size_t
distil_key_cache_bytes(const DistilSpec *spec, int limit)
{
	size_t		c = (size_t) spec->config.width;

	/* 3C wide rows have at most three times the stride of C wide ones */
	return spec->low == DISTIL_TYPE_F32 ? (size_t) limit * c * sizeof(float)
		: distil_rows_elements(DISTIL_TYPE_BF16, (size_t) limit, c) * sizeof(uint16_t);
}

static uint16_t *
take_half(float *memory, size_t *used, size_t count)
{
	return (uint16_t *) (void *) take(memory, used, (count + 1) / 2);
}

/* What layers with activations in bfloat16 need beside the hidden state. */
static void
plan_half(DistilActivations *a, const DistilConfig *config, float *memory, size_t *used, size_t t)
{
	size_t		tc = t * (size_t) config->width;
	size_t		tf = t * (size_t) config->mlp;
	bool		saved = a->saved;
	bool		pre_norm = config->arch->family == &distil_family_pre_norm;
	DistilHalfLayer unused;
	DistilHalfLayer *layer = a->half_layer != NULL ? a->half_layer : &unused;
	int			i;

	a->half_input = take_half(memory, used, tc);
	a->half_out = take_half(memory, used, tc);
	if (saved)
	{
		a->half_dx = take_half(memory, used, tc);
		a->half_da = take_half(memory, used, tc);
		a->half_db = take_half(memory, used, tc);
		a->half_dqkv = take_half(memory, used, 3 * tc);
		a->half_dup = take_half(memory, used, tf);
	}
	for (i = 0; i < (saved ? config->layers : 1); i++, layer += a->half_layer != NULL)
	{
		layer->qkv = take_half(memory, used, 3 * tc);
		layer->context = take_half(memory, used, tc);
		layer->middle = take_half(memory, used, tc);
		layer->activated = take_half(memory, used, tf);
		if (!saved && pre_norm)
		{
			layer->sum1 = layer->sum2 = a->half_input;
			layer->output = layer->middle;
		}
		if (!saved)
			return;
		layer->lse = take(memory, used, t * (size_t) config->heads);
		layer->sum1 = take_half(memory, used, tc);
		layer->mean1 = take(memory, used, t);
		layer->rstd1 = take(memory, used, t);
		layer->up = take_half(memory, used, tf);
		layer->sum2 = take_half(memory, used, tc);
		layer->mean2 = take(memory, used, t);
		layer->rstd2 = take(memory, used, t);
		layer->output = take_half(memory, used, tc);
	}
	if (!pre_norm)
		return;
	layer->sum1 = take_half(memory, used, tc);
	layer->mean1 = take(memory, used, t);
	layer->rstd1 = take(memory, used, t);
	layer->output = take_half(memory, used, tc);
}

/* Lay the arrays out in `memory` (NULL: only count); returns the floats of the block. */
static size_t
plan(DistilActivations *a, const DistilSpec *spec, int max_tokens, bool saved, float *memory)
{
	const DistilConfig *config = &spec->config;
	size_t		t = (size_t) max_tokens;
	size_t		c = (size_t) config->width;
	size_t		e = (size_t) distil_table_width(config);
	size_t		units = a->device != NULL ? (size_t) distil_device_units(a->device) : 1;
	size_t		used = 0;
	int			i;

	a->relative_limit = max_tokens < config->positions ? max_tokens : config->positions;
	if (config->relative_buckets > 0)
	{
		size_t		n = 2 * (size_t) a->relative_limit - 1;

		a->relative_rows = (int32_t *) take(memory, &used, n);
		a->relative = take(memory, &used, n * (size_t) config->heads);
		if (saved)
			a->drelative = take(memory, &used, n * (size_t) config->heads);
	}
	a->hidden = take(memory, &used, t * c);
	if (spec->projection_weight >= 0)
		a->embedding = take(memory, &used, t * e);
	if (a->half != NULL)
		plan_half(a, config, memory, &used, t);
	else if (!saved && spec->low != DISTIL_TYPE_F32)
	{
		plan_low(a, spec, memory, &used, t);
		return used;
	}
	else
		a->scratch = take(memory, &used, scratch_floats(config, t, saved, units, &a->mlp_rows));
	if (!saved)
		return used;
	a->embedding_sum = take(memory, &used, t * e);
	a->embedding_mean = take(memory, &used, t);
	a->embedding_rstd = take(memory, &used, t);
	a->da = take(memory, &used, t * max_size(c, e));
	a->db = take(memory, &used, t * max_size(c, e));
	if (a->half != NULL)
		return used;
	if (config->arch->family == &distil_family_pre_norm)
	{
		a->final = take(memory, &used, t * c);
		a->final_mean = take(memory, &used, t);
		a->final_rstd = take(memory, &used, t);
	}
	for (i = 0; i < config->layers; i++)
	{
		DistilSavedLayer unused;
		DistilSavedLayer *layer = a->layer != NULL ? &a->layer[i] : &unused;

		layer->qkv = take(memory, &used, t * 3 * c);
		layer->lse = take(memory, &used, t * (size_t) config->heads);
		layer->context = take(memory, &used, t * c);
		layer->sum1 = take(memory, &used, t * c);
		layer->mean1 = take(memory, &used, t);
		layer->rstd1 = take(memory, &used, t);
		layer->middle = take(memory, &used, t * c);
		layer->up = take(memory, &used, t * (size_t) config->mlp);
		layer->sum2 = take(memory, &used, t * c);
		layer->mean2 = take(memory, &used, t);
		layer->rstd2 = take(memory, &used, t);
		layer->output = take(memory, &used, t * c);
	}
	return used;
}

/* Bytes of device memory that distil_activations_create() takes. */
size_t
distil_activations_bytes(const DistilSpec *spec, int max_tokens, bool saved)
{
	DistilActivations a = {0};

	return plan(&a, spec, max_tokens, saved, NULL) * sizeof(float);
}

static DistilStatus
create(DistilActivations **activations, const DistilSpec *spec, int max_tokens, bool saved,
	   const uint16_t *half, DistilDevice *device, const DistilAllocator *alloc, DistilError *err)
{
	DistilActivations *a;
	size_t		bytes;
	DistilStatus status;

	*activations = NULL;
	if (max_tokens < 1 || max_tokens > DISTIL_MAX_PASS_TOKENS)
		return distil_fail(err, DISTIL_ERR_LIMIT, "a pass of %d tokens is outside 1 .. %d",
						   max_tokens, DISTIL_MAX_PASS_TOKENS);
	a = distil_alloc_array(alloc, 1, sizeof(*a));
	if (a == NULL)
		return distil_fail_memory(err, sizeof(*a));
	a->max_tokens = max_tokens;
	a->saved = saved;
	a->device = device;
	a->alloc = alloc;
	a->half = half;
	bytes = plan(a, spec, max_tokens, saved, NULL) * sizeof(float);
	if (half != NULL)
		a->half_layer = distil_alloc_array(alloc, (size_t) spec->config.layers + 1, sizeof(*a->half_layer));
	else if (saved)
		a->layer = distil_alloc_array(alloc, (size_t) spec->config.layers + 1, sizeof(*a->layer));
	a->memory = device->ops->alloc(device, bytes);
	if (a->memory == NULL || (half != NULL ? a->half_layer == NULL : saved && a->layer == NULL))
	{
		distil_activations_free(a);
		return distil_fail_memory(err, bytes);
	}
	a->floats = plan(a, spec, max_tokens, saved, a->memory);
	status = distil_relative_create(a, &spec->config, err);
	if (status != DISTIL_OK)
	{
		distil_activations_free(a);
		return status;
	}
	*activations = a;
	return DISTIL_OK;
}

/*
 * Memory for passes of at most max_tokens tokens on `device` (borrowed until free).
 * DISTIL_ERR_LIMIT beyond DISTIL_MAX_PASS_TOKENS, DISTIL_ERR_MEMORY.
 */
DistilStatus
distil_activations_create(DistilActivations **activations, const DistilSpec *spec, int max_tokens, bool saved,
						  DistilDevice *device, const DistilAllocator *alloc, DistilError *err)
{
	return create(activations, spec, max_tokens, saved, NULL, device, alloc, err);
}

DistilStatus
distil_activations_create_half(DistilActivations **activations, const DistilSpec *spec, int max_tokens,
							   bool saved, const uint16_t *half, DistilDevice *device,
							   const DistilAllocator *alloc, DistilError *err)
{
	return create(activations, spec, max_tokens, saved, half, device, alloc, err);
}

/* All but what is computed once, which lies first. */
void
distil_activations_forget(DistilActivations *activations)
{
	DistilDevice *device = activations->device;
	size_t		once = (size_t) (activations->hidden - activations->memory);

	if (device->ops->forget != NULL)
		device->ops->forget(device, activations->hidden, (activations->floats - once) * sizeof(float));
}

/* Takes NULL. */
void
distil_activations_free(DistilActivations *activations)
{
	if (activations == NULL)
		return;
	activations->device->ops->release(activations->device, activations->memory);
	distil_release(activations->alloc, activations->layer);
	distil_release(activations->alloc, activations->half_layer);
	distil_release(activations->alloc, activations);
}
