/*
 * optimizer.h
 *		AdamW over the flat parameter block, cut into segments.
 *
 * Weight decay goes by the kind of a parameter (its flags), not by its name.  Segments
 * are the unit of work, of polling and of the norm's sum: the gradient norm is the
 * root of the segments' sums added in order, whatever thread made them.
 * Loshchilov and Hutter, Decoupled weight decay regularization, 2019.
 */
#ifndef DISTIL_OPTIMIZER_H
#define DISTIL_OPTIMIZER_H

#include "model.h"

typedef struct DistilSegment
{
	size_t		offset;			/* in floats */
	size_t		count;
	bool		decay;
} DistilSegment;

/*
 * Segments of the trained parameters, frozen ones left out, each a unit of
 * the device's work.  *segments is allocated.
 */
extern DistilStatus distil_optimizer_segments(DistilSegment **segments, int *n, const DistilParamTable *table,
											  const DistilDevice *device, const DistilAllocator *alloc,
											  DistilError *err);
/*
 * Factor for gradients of norm `norm`: 1, or max_norm / (norm + 1e-6) when beyond; max_norm 0: no clipping.
 */
extern double distil_optimizer_clip(double norm, double max_norm);
/* Settings of update number `step` (from 1). */
extern void distil_optimizer_settings(DistilAdamW *adamw, const DistilTrainOptions *options, double rate,
									  double gradient_scale, int64_t step);

#endif							/* DISTIL_OPTIMIZER_H */
