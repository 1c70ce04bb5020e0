/*
 * packed.c
 *		Layouts of images: which parameters are packed, where they lie, how they are read one by one.
 *
 * In the packed layouts the weights of linear layers are panels of 16 rows (kernels.h). In float32 a packed
 * parameter has the size and the offset of a plain one, because only those whose rows fill
 * their panels are packed; in low precision all parameters move together.  Tables
 * that are looked up by row, and the decoder that may be such a table, stay as they are (in low
 * precision a packed decoder is added behind everything), and so do biases, norms and heads.  The rule a
 * newcomer would break: a student's block is always plain; only an image's spec has packed parameters.
 */
#include <string.h>

#include "model.h"

typedef struct Layout
{
	const char *name;
	bool		packed;
	DistilType	type;			/* of the layers' weights */
	bool		ordered;		/* INT8: has an order of lines */
} Layout;

static const Layout layouts[] = {
	{DISTIL_LAYOUT_F32, false, DISTIL_TYPE_F32, false},
	{DISTIL_LAYOUT_F32P16, true, DISTIL_TYPE_F32, false},
	{DISTIL_LAYOUT_BF16P16, true, DISTIL_TYPE_BF16, false},
	{DISTIL_LAYOUT_INT8P16, true, DISTIL_TYPE_INT8, false},
	{DISTIL_LAYOUT_INT8P16_ORDERED, true, DISTIL_TYPE_INT8, true},
};

#define LAYOUTS (sizeof(layouts) / sizeof(layouts[0]))
#define ALIGN_FLOATS 16

static const Layout *
find_layout(const char *name)
{
	size_t		i;

	for (i = 0; i < LAYOUTS; i++)
		if (strcmp(layouts[i].name, name) == 0)
			return &layouts[i];
	return NULL;
}

bool
distil_layout_known(const char *layout)
{
	return find_layout(layout) != NULL;
}

/*
 * Packed weights serve CPUs whose backend multiplies by itself, and devices that read the host's memory.
 */
const char *
distil_image_layout(DistilPrecision precision, DistilDevice *device)
{
	if (device != NULL && !device->ops->own_memory && device->ops->has_type != NULL &&
		device->ops->has_type(device, DISTIL_TYPE_BF16) &&
		(precision == DISTIL_PRECISION_BFLOAT16 ||
		 (precision == DISTIL_PRECISION_AUTO && device->ops->fast_type(device) == DISTIL_TYPE_BF16)))
		return DISTIL_LAYOUT_BF16P16;
	return strcmp(distil_cpu_isa(), "reference") == 0 ? DISTIL_LAYOUT_F32 : DISTIL_LAYOUT_F32P16;
}

const char *
distil_quantized_layout(DistilPrecision precision, DistilDevice *device)
{
	if (precision != DISTIL_PRECISION_FLOAT32 && device != NULL && !device->ops->own_memory &&
		device->ops->has_type != NULL && device->ops->has_type(device, DISTIL_TYPE_INT8) &&
		device->ops->has_type(device, DISTIL_TYPE_BF16) && strcmp(distil_cpu_isa(), "reference") != 0)
		return device->ops->orders_lines != NULL && device->ops->orders_lines(device)
			? DISTIL_LAYOUT_INT8P16_ORDERED : DISTIL_LAYOUT_INT8P16;
	return distil_image_layout(precision, device);
}

static void
pack_param(DistilSpec *spec, int index, DistilType type, bool ordered)
{
	DistilParam *param;

	if (index < 0)
		return;
	param = &spec->table.params[index];
	if (param->vector || (type == DISTIL_TYPE_F32 && param->rows % DISTIL_PANEL != 0))
		return;
	param->flags |= DISTIL_PARAM_PACKED;
	if (ordered && type == DISTIL_TYPE_INT8)
		param->flags |= DISTIL_PARAM_ORDERED;
	param->type = type;
}

static size_t
whole_lines(size_t bytes)
{
	return (bytes + 63) / 64 * 64;
}

size_t
distil_param_bytes(const DistilParam *param)
{
	size_t		bytes = distil_weight_bytes(param->type, param->rows, param->cols);

	if (param->type == DISTIL_TYPE_INT8)
		bytes += 2 * whole_lines((size_t) param->rows * 4) + whole_lines((size_t) param->cols * 4);
	if ((param->flags & DISTIL_PARAM_ORDERED) != 0)
		bytes += whole_lines(distil_order_length(param->rows, param->cols) * sizeof(uint16_t));
	return bytes;
}

DistilBeside
distil_param_beside(const DistilParam *param, void *data)
{
	char	   *scale = (char *) data + distil_weight_bytes(param->type, param->rows, param->cols);
	char	   *sum = scale + whole_lines((size_t) param->rows * 4);
	char	   *factor = sum + whole_lines((size_t) param->rows * 4);
	char	   *order = factor + whole_lines((size_t) param->cols * 4);

	return (DistilBeside) {(float *) (void *) scale, (int32_t *) (void *) sum, (float *) (void *) factor,
		(param->flags & DISTIL_PARAM_ORDERED) != 0 ? (uint16_t *) (void *) order : NULL};
}

static DistilBeside
find_beside(const DistilParam *param, const float *weights)
{
	return distil_param_beside(param, (void *) (weights + param->offset));
}

void
distil_layer_weights(int weights[4], const DistilLayerParams *layer)
{
	weights[0] = layer->qkv_weight;
	weights[1] = layer->out_weight;
	weights[2] = layer->up_weight;
	weights[3] = layer->down_weight;
}

/* Offsets by the sizes the parameters have now. */
static void
place_params(DistilParamTable *table)
{
	size_t		total = 0;
	int			i;

	for (i = 0; i < table->n; i++)
	{
		DistilParam *param = &table->params[i];
		size_t		floats = param->type == DISTIL_TYPE_F32 ? param->count
			: distil_param_bytes(param) / sizeof(float);

		param->offset = total;
		total += (floats + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
	}
	table->total = total;
}

/* Types of the weights of one layer. */
static void
pack_layer(DistilSpec *spec, int layer, const Layout *layout,
		   const uint64_t quantized[DISTIL_QUANTIZED_WORDS])
{
	int			weights[4];
	int			i;

	distil_layer_weights(weights, &spec->layer[layer]);
	for (i = 0; i < 4; i++)
	{
		int			bit = 4 * layer + i;
		bool		marked = quantized != NULL && (quantized[bit / 64] >> (bit % 64) & 1) != 0;
		DistilType	type = layout->type == DISTIL_TYPE_INT8 && !marked ? DISTIL_TYPE_BF16 : layout->type;

		pack_param(spec, weights[i], type, layout->ordered);
	}
}

/*
 * The decoder may be the table that tokens are looked up in, which must stay as it is: products get a packed
 * one beside it.  It comes last, from the same tensors (see write_weights).
 */
static bool
add_low_decoder(DistilSpec *spec)
{
	const DistilParam *decoder = &spec->table.params[spec->lm.decoder_weight];

	spec->lm.low_weight = distil_param_add(spec, "lm.decoder.low", decoder->sources, decoder->nsources,
											decoder->rows, decoder->cols, 0);
	pack_param(spec, spec->lm.low_weight, DISTIL_TYPE_BF16, false);
	return spec->lm.low_weight >= 0;
}

/* false without memory */
bool
distil_spec_pack(DistilSpec *spec, const char *layout, const uint64_t quantized[DISTIL_QUANTIZED_WORDS])
{
	const Layout *found = find_layout(layout);
	int			i;

	if (found == NULL || !found->packed)
		return true;
	for (i = 0; i < spec->config.layers; i++)
		pack_layer(spec, i, found, quantized);
	pack_param(spec, spec->projection_weight, DISTIL_TYPE_F32, false);
	if (spec->has_lm)
		pack_param(spec, spec->lm.dense_weight, DISTIL_TYPE_F32, false);
	for (i = 0; i < spec->pipeline.ndense; i++)
		pack_param(spec, spec->pipeline.dense[i].weight, DISTIL_TYPE_F32, false);
	spec->low = found->type;
	if (found->type == DISTIL_TYPE_F32)
		return true;
	if (spec->has_lm && !add_low_decoder(spec))
		return false;
	place_params(&spec->table);
	return true;
}

void
distil_param_weight(DistilWeight *weight, const DistilSpec *spec, const float *weights, int param, int bias)
{
	const DistilParam *p = &spec->table.params[param];

	memset(weight, 0, sizeof(*weight));
	weight->type = p->type;
	weight->n = p->rows;
	weight->k = p->cols;
	weight->data = weights + p->offset;
	weight->bias = distil_weight(spec, weights, bias);
	if (p->type == DISTIL_TYPE_INT8)
	{
		DistilBeside beside = find_beside(p, weights);

		weight->scale = beside.scale;
		weight->sum = beside.sum;
		weight->order = beside.order;
	}
}

const float *
distil_param_factor(const DistilSpec *spec, const float *weights, int param)
{
	const DistilParam *p = &spec->table.params[param];

	return p->type == DISTIL_TYPE_INT8 ? find_beside(p, weights).factor : NULL;
}

void
distil_param_read(float *to, const float *weights, const DistilParam *param, size_t first, size_t count)
{
	const float *from = weights + param->offset;
	size_t		k = (size_t) param->cols;
	size_t		i;

	if ((param->flags & DISTIL_PARAM_PACKED) == 0)
	{
		memcpy(to, from + first, count * sizeof(float));
		return;
	}
	for (i = first; i < first + count; i++)
	{
		size_t		at = distil_weight_index(param->type, i / k, i % k, k);

		if (param->type == DISTIL_TYPE_F32)
			to[i - first] = from[at];
		else if (param->type == DISTIL_TYPE_BF16)
			to[i - first] = distil_bf16_float(((const uint16_t *) from)[at]);
		else
			to[i - first] = ((const int8_t *) from)[at] * find_beside(param, weights).scale[i / k] *
				find_beside(param, weights).factor[i % k];
	}
}
