/*
 * pool_cpu.h
 *		Template: one vector per sequence out of its token rows.
 *
 * A sequence without rows pools to zeros and has argmax -1.
 */

/* Weight of row i of a sequence of `length` rows; not for MAX. */
static inline float
pool_weight(DistilPooling pooling, int i, int length)
{
	switch (pooling)
	{
		case DISTIL_POOL_CLS:
			return i == 0 ? 1.0f : 0.0f;
		case DISTIL_POOL_MEAN:
			return 1.0f / length;
		case DISTIL_POOL_MEAN_SQRT:
			return 1.0f / sqrtf(length);
		case DISTIL_POOL_WEIGHTED_MEAN:
			return (float) ((i + 1.0) / (0.5 * length * (length + 1.0)));
		case DISTIL_POOL_LAST:
			return i == length - 1 ? 1.0f : 0.0f;
		case DISTIL_POOL_MAX:
			break;
	}
	return 0.0f;
}

/* Rows [*begin, *end) of a sequence whose weight is not 0. */
static inline void
pool_range(DistilPooling pooling, int length, int *begin, int *end)
{
	*begin = pooling == DISTIL_POOL_LAST && length > 0 ? length - 1 : 0;
	*end = pooling == DISTIL_POOL_CLS && length > 1 ? 1 : length;
}

static void
pool_max(float *y, int32_t *argmax, const float *x, int first, int length, int c)
{
	int			i,
				j;

	if (length > 0)
		memcpy(y, x, c * sizeof(float));
	else
		memset(y, 0, c * sizeof(float));
	for (j = 0; j < c && argmax != NULL; j++)
		argmax[j] = length > 0 ? first : -1;
	for (i = 1; i < length; i++)
	{
		const float *row = x + (size_t) i * c;

		for (j = 0; j < c; j++)
		{
			bool		better = row[j] > y[j];

			y[j] = better ? row[j] : y[j];
			if (argmax != NULL)
				argmax[j] = better ? first + i : argmax[j];
		}
	}
}

static void
pool_forward(DistilDevice *dev, DistilPooling pooling, float *y, int32_t *argmax,
			 const float *x, const int32_t *offsets, int nseq, int c)
{
	int			b,
				i;

	(void) dev;
	for (b = 0; b < nseq; b++)
	{
		int			length = offsets[b + 1] - offsets[b];
		const float *rows = x + (size_t) offsets[b] * c;
		float	   *out = y + (size_t) b * c;
		int			begin,
					end;

		if (pooling == DISTIL_POOL_MAX)
		{
			pool_max(out, argmax != NULL ? argmax + (size_t) b * c : NULL, rows, offsets[b], length, c);
			continue;
		}
		memset(out, 0, c * sizeof(float));
		pool_range(pooling, length, &begin, &end);
		for (i = begin; i < end; i++)
			add_scaled(out, rows + (size_t) i * c, pool_weight(pooling, i, length), c);
	}
}

static void
pool_backward(DistilDevice *dev, DistilPooling pooling, float *dx, const float *dy,
			  const int32_t *argmax, const int32_t *offsets, int nseq, int c)
{
	int			b,
				i,
				j;

	for (b = 0; b < nseq; b++)
	{
		int			length = offsets[b + 1] - offsets[b];
		float	   *rows = dx + (size_t) offsets[b] * c;
		const float *gradient = dy + (size_t) b * c;
		int			begin,
					end;

		zero(dev, rows, (size_t) length * c);
		if (pooling == DISTIL_POOL_MAX)
		{
			for (j = 0; j < c && length > 0; j++)
				dx[(size_t) argmax[(size_t) b * c + j] * c + j] = gradient[j];
			continue;
		}
		pool_range(pooling, length, &begin, &end);
		for (i = begin; i < end; i++)
			add_scaled(rows + (size_t) i * c, gradient, pool_weight(pooling, i, length), c);
	}
}
