/*
 * packed.c
 *		Which parameters of an image are packed, and how they are read one by one.
 *
 * In the packed layout the weights of linear layers are panels of 16 rows (kernels.h); a
 * packed parameter has the size and the offset of a plain one, because only those whose
 * rows fill their panels are packed.  Tables that are looked up by row, and the
 * decoder that may be such a table, stay as they are.  The rule a newcomer would break: a
 * student's block is always plain; only an image's spec has packed parameters.
 */
#include <string.h>

#include "model.h"

/* Packed weights serve CPUs whose backend multiplies by itself. */
const char *
distil_image_layout(void)
{
	return strcmp(distil_cpu_isa(), "reference") == 0 ? DISTIL_LAYOUT_F32 : DISTIL_LAYOUT_F32P16;
}

static void
pack_param(DistilSpec *spec, int index)
{
	if (index >= 0 && spec->table.params[index].rows % DISTIL_PANEL == 0 &&
		!spec->table.params[index].vector && (spec->table.params[index].flags & DISTIL_PARAM_TRANSPOSED) == 0)
		spec->table.params[index].flags |= DISTIL_PARAM_PACKED;
}

void
distil_spec_pack(DistilSpec *spec)
{
	int			i;

	for (i = 0; i < spec->config.layers; i++)
	{
		pack_param(spec, spec->layer[i].qkv_weight);
		pack_param(spec, spec->layer[i].out_weight);
		pack_param(spec, spec->layer[i].up_weight);
		pack_param(spec, spec->layer[i].down_weight);
	}
	if (spec->has_lm)
		pack_param(spec, spec->lm.dense_weight);
	for (i = 0; i < spec->pipeline.ndense; i++)
		pack_param(spec, spec->pipeline.dense[i].weight);
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
		to[i - first] = from[distil_packed_index(i / k, i % k, k)];
}
