/*
 * pool_ref.c
 *		Reference: one vector per sequence out of its token rows.
 *
 * A sequence without rows pools to zeros and has argmax -1.
 */
#include "ref.h"

#include <math.h>

/* Weight of row i of a sequence of `length` rows; not for MAX. */
static double
pool_weight(DistilPooling pooling, int i, int length)
{
	switch (pooling)
	{
		case DISTIL_POOL_CLS:
			return i == 0;
		case DISTIL_POOL_MEAN:
			return 1.0 / length;
		case DISTIL_POOL_MEAN_SQRT:
			return 1.0 / sqrt(length);
		case DISTIL_POOL_WEIGHTED_MEAN:
			return (i + 1.0) / (0.5 * length * (length + 1.0));
		case DISTIL_POOL_LAST:
			return i == length - 1;
		case DISTIL_POOL_MAX:
			break;
	}
	return 0.0;
}

void
distil_ref_pool_forward(DistilDevice *dev, DistilPooling pooling, float *y, int32_t *argmax,
						const float *x, const int32_t *offsets, int nseq, int c)
{
	int			b,
				i,
				j;

	(void) dev;
	for (b = 0; b < nseq; b++)
	{
		int			length = offsets[b + 1] - offsets[b];
		const float *rows = x + (size_t) offsets[b] * c;

		for (j = 0; j < c; j++)
		{
			double		sum = 0.0;
			int			best = -1;

			for (i = 0; i < length; i++)
			{
				if (pooling != DISTIL_POOL_MAX)
					sum += pool_weight(pooling, i, length) * rows[(size_t) i * c + j];
				else if (best < 0 || rows[(size_t) i * c + j] > rows[(size_t) best * c + j])
					best = i;
			}
			if (best >= 0)
				sum = rows[(size_t) best * c + j];
			y[(size_t) b * c + j] = (float) sum;
			if (argmax != NULL && pooling == DISTIL_POOL_MAX)
				argmax[(size_t) b * c + j] = best < 0 ? -1 : offsets[b] + best;
		}
	}
}

void
distil_ref_pool_backward(DistilDevice *dev, DistilPooling pooling, float *dx, const float *dy,
						 const int32_t *argmax, const int32_t *offsets, int nseq, int c)
{
	int			b,
				i,
				j;

	(void) dev;
	for (b = 0; b < nseq; b++)
	{
		int			length = offsets[b + 1] - offsets[b];

		for (i = 0; i < length; i++)
		{
			int			row = offsets[b] + i;

			for (j = 0; j < c; j++)
			{
				double		weight;

				if (pooling == DISTIL_POOL_MAX)
					weight = argmax[(size_t) b * c + j] == row;
				else
					weight = pool_weight(pooling, i, length);
				dx[(size_t) row * c + j] = (float) (weight * dy[(size_t) b * c + j]);
			}
		}
	}
}
