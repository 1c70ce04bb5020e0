/*
 * int8_norm.h
 *		Template: norm of rows and their copy in eight bits, while a row is in the first cache.
 *
 * Two vectors at a time, whose sums are added last; other widths take distil_cpu_norm_int8.
 */

/* y = x + residual; its mean */
static inline __attribute__((always_inline)) float
int8_norm_mean(float *y, const float *x, const float *residual, size_t c)
{
	vf			sum[2] = {{0}};
	size_t		i;
	int			k;

	for (i = 0; i < c; i += 2 * LANES)
	{
#pragma GCC unroll 2
		for (k = 0; k < 2; k++)
		{
			size_t		at = i + k * LANES;
			vf			value = v_load(x + at);

			if (residual != NULL)
				value += v_load(residual + at);
			v_store(y + at, value);
			sum[k] += value;
		}
	}
	return int8_total(sum[0] + sum[1]) / c;
}

static inline float
int8_norm_variance(const float *y, float mean, size_t c)
{
	vf			sum[2] = {{0}};
	size_t		i;
	int			k;

	for (i = 0; i < c; i += 2 * LANES)
	{
#pragma GCC unroll 2
		for (k = 0; k < 2; k++)
		{
			vf			off = v_load(y + i + k * LANES) - mean;

			sum[k] += off * off;
		}
	}
	return int8_total(sum[0] + sum[1]) / c;
}

/* y = (y - mean) * scale * gamma + beta; how it is cut into steps after its factors */
static inline __attribute__((always_inline)) Int8Step
int8_norm_apply(float *y, float mean, float scale, const float *gamma, const float *beta, const float *factor,
				size_t c)
{
	vf			low[2] = {{0}};
	vf			high[2] = {{0}};
	vf			sum[2] = {{0}};
	size_t		i;
	int			k;

	for (i = 0; i < c; i += 2 * LANES)
	{
#pragma GCC unroll 2
		for (k = 0; k < 2; k++)
		{
			size_t		at = i + k * LANES;
			vf			value = (v_load(y + at) - mean) * scale * v_load(gamma + at) + v_load(beta + at);

			v_store(y + at, value);
			if (factor != NULL)
				value *= v_load(factor + at);
			low[k] = int8_min(low[k], value);
			high[k] = int8_max(high[k], value);
			sum[k] += value;
		}
	}
	return int8_step(int8_lowest(int8_min(low[0], low[1])), int8_highest(int8_max(high[0], high[1])),
					 int8_total(sum[0] + sum[1]));
}

void
INT8_NORM(DistilDevice *dev, float *y, const DistilRows *low, const float *x, const float *residual,
		  const float *gamma, const float *beta, float eps, int rows, int c)
{
	int			row;

	if (c % (2 * CPU_LANES) != 0)
	{
		distil_cpu_norm_int8(dev, y, low, x, residual, gamma, beta, eps, rows, c);
		return;
	}
	for (row = 0; row < rows; row++)
	{
		size_t		at = (size_t) row * c;
		float		mean = int8_norm_mean(y + at, x + at, residual != NULL ? residual + at : NULL, c);
		float		scale = 1.0f / sqrtf(int8_norm_variance(y + at, mean, c) + eps);
		Int8Step	step = int8_norm_apply(y + at, mean, scale, gamma, beta, low->factor, c);
		uint8_t    *to = (uint8_t *) low->data + (size_t) row * low->ld;

		low->scale[row] = step.scale;
		low->zero[row] = step.zero;
		int8_put_row(to, y + at, low->factor, step, c);
	}
}
