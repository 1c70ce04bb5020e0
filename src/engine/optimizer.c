/*
 * optimizer.c
 *		See optimizer.h; the arithmetic itself is the kernel adamw.
 */
#include <math.h>

#include "optimizer.h"
#include "status.h"

#define SEGMENT ((size_t) 256 * 1024)	/* floats of a unit: about 1 ms of AdamW */

DistilStatus
distil_optimizer_segments(DistilSegment **segments, int *n, const DistilParamTable *table,
						  const DistilDevice *device, const DistilAllocator *alloc, DistilError *err)
{
	size_t		length = SEGMENT * (size_t) distil_device_units(device);
	size_t		count = 0;
	int			i;

	*n = 0;
	for (i = 0; i < table->n; i++)
		count += (table->params[i].count + length - 1) / length;
	*segments = distil_alloc_array(alloc, count, sizeof(DistilSegment));
	if (*segments == NULL)
		return distil_fail_memory(err, count * sizeof(DistilSegment));
	for (i = 0; i < table->n; i++)
	{
		const DistilParam *param = &table->params[i];
		size_t		at;

		if (param->flags & DISTIL_PARAM_FROZEN)
			continue;
		for (at = 0; at < param->count; at += length)
		{
			DistilSegment *segment = &(*segments)[(*n)++];

			segment->offset = param->offset + at;
			segment->count = param->count - at < length ? param->count - at : length;
			segment->decay = !(param->flags & DISTIL_PARAM_NO_DECAY);
		}
	}
	return DISTIL_OK;
}

double
distil_optimizer_clip(double norm, double max_norm)
{
	double		scale = max_norm > 0 ? max_norm / (norm + 1e-6) : 1;

	return scale < 1 ? scale : 1;
}

void
distil_optimizer_settings(DistilAdamW *adamw, const DistilTrainOptions *options, double rate,
						  double gradient_scale, int64_t step)
{
	adamw->learning_rate = (float) rate;
	adamw->beta1 = (float) options->adam_beta1;
	adamw->beta2 = (float) options->adam_beta2;
	adamw->epsilon = (float) options->adam_epsilon;
	adamw->weight_decay = (float) options->weight_decay;
	adamw->correction1 = (float) (1 - pow(options->adam_beta1, (double) step));
	adamw->correction2 = (float) (1 - pow(options->adam_beta2, (double) step));
	adamw->gradient_scale = (float) gradient_scale;
}
