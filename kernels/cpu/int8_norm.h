/*
 * int8_norm.h
 *		Template: norm of rows and their copy in eight bits, while a row is in the first cache.
 *
 * Several rows at a time, so that their sums across vectors overlap, and of each two vectors at a time, whose
 * sums are added last; other widths take distil_cpu_norm_int8.
 */

#define INT8_NORM_ROWS 4

/* y = x + residual; means of the rows */
static inline __attribute__((always_inline)) void
int8_norm_mean(float *mean, float *y, const float *x, const float *residual, size_t c, int rows)
{
	vf			sum[INT8_NORM_ROWS][2] = {{{0}}};
	size_t		i;
	int			r,
				k;

	for (i = 0; i < c; i += 2 * LANES)
	{
#pragma GCC unroll 4
		for (r = 0; r < rows; r++)
		{
#pragma GCC unroll 2
			for (k = 0; k < 2; k++)
			{
				size_t		at = r * c + i + k * LANES;
				vf			value = v_load(x + at);

				if (residual != NULL)
					value += v_load(residual + at);
				v_store(y + at, value);
				sum[r][k] += value;
			}
		}
	}
#pragma GCC unroll 4
	for (r = 0; r < rows; r++)
		mean[r] = int8_total(sum[r][0] + sum[r][1]) / c;
}

/* The rows' 1 / deviations. */
static inline __attribute__((always_inline)) void
int8_norm_scale(float *scale, const float *y, const float *mean, float eps, size_t c, int rows)
{
	vf			sum[INT8_NORM_ROWS][2] = {{{0}}};
	size_t		i;
	int			r,
				k;

	for (i = 0; i < c; i += 2 * LANES)
	{
#pragma GCC unroll 4
		for (r = 0; r < rows; r++)
		{
#pragma GCC unroll 2
			for (k = 0; k < 2; k++)
			{
				vf			off = v_load(y + r * c + i + k * LANES) - mean[r];

				sum[r][k] = v_fma(off, off, sum[r][k]);
			}
		}
	}
#pragma GCC unroll 4
	for (r = 0; r < rows; r++)
		scale[r] = 1.0f / sqrtf(int8_total(sum[r][0] + sum[r][1]) / c + eps);
}

/*
 * y = (y - mean) * scale * gamma + beta; how the rows are cut into steps after their factors.  next, other:
 * as many rows that come after these, fetched into the first cache meanwhile.
 */
static inline __attribute__((always_inline)) void
int8_norm_apply(Int8Step *step, float *y, const float *mean, const float *scale, const float *gamma,
				const float *beta, const float *factor, size_t c, int rows, const float *next,
				const float *other)
{
	vf			low[INT8_NORM_ROWS] = {{0}};
	vf			high[INT8_NORM_ROWS] = {{0}};
	float		start[INT8_NORM_ROWS];
	size_t		i;
	int			r;

#pragma GCC unroll 4
	for (r = 0; r < rows; r++)
		start[r] = -mean[r] * scale[r];
	for (i = 0; i < c; i += LANES)
	{
		vf			slope = v_load(gamma + i);
		vf			shift = v_load(beta + i);
		vf			times = factor != NULL ? v_load(factor + i) : (vf) {0};

#pragma GCC unroll 4
		for (r = 0; r < rows; r++)
		{
			vf			value = (v_load(y + r * c + i) * scale[r] + start[r]) * slope + shift;

			__builtin_prefetch(next + r * c + i);
			__builtin_prefetch(other + r * c + i);
			v_store(y + r * c + i, value);
			if (factor != NULL)
				value *= times;
			low[r] = int8_min(low[r], value);
			high[r] = int8_max(high[r], value);
		}
	}
	/* a row that is not finite has a mean or scale that is not: start stands for the sum */
#pragma GCC unroll 4
	for (r = 0; r < rows; r++)
		step[r] = int8_step(int8_lowest(low[r]), int8_highest(high[r]), start[r]);
}

/* Rows from `row` on; x, residual and y: of the first one. */
static inline __attribute__((always_inline)) void
int8_norm_rows(float *y, const DistilRows *low, const float *x, const float *residual, const float *gamma,
			   const float *beta, float eps, int row, size_t c, int rows)
{
	float		mean[INT8_NORM_ROWS];
	float		scale[INT8_NORM_ROWS];
	Int8Step	step[INT8_NORM_ROWS];
	int			r;

	int8_norm_mean(mean, y, x, residual, c, rows);
	int8_norm_scale(scale, y, mean, eps, c, rows);
	int8_norm_apply(step, y, mean, scale, gamma, beta, low->factor, c, rows, x + rows * c,
					(residual != NULL ? residual : x) + rows * c);
	for (r = 0; r < rows; r++)
	{
		low->scale[row + r] = step[r].scale;
		low->zero[row + r] = step[r].zero;
		int8_put_row((uint8_t *) low->data + (size_t) (row + r) * low->ld, y + r * c, low->factor, step[r],
					 c);
	}
}

void
INT8_NORM(DistilDevice *dev, float *y, const DistilRows *low, const float *x, const float *residual,
		  const float *gamma, const float *beta, float eps, int rows, int c)
{
	int			most;
	int			row;

	if (c % (2 * CPU_LANES) != 0)
	{
		distil_cpu_norm_int8(dev, y, low, x, residual, gamma, beta, eps, rows, c);
		return;
	}
	for (row = 0; row < rows; row += most)
	{
		size_t		at = (size_t) row * c;
		const float *other = residual != NULL ? residual + at : NULL;

		most = rows - row < INT8_NORM_ROWS ? 1 : INT8_NORM_ROWS;
		if (most == 1)
			int8_norm_rows(y + at, low, x + at, other, gamma, beta, eps, row, c, 1);
		else
			int8_norm_rows(y + at, low, x + at, other, gamma, beta, eps, row, c, INT8_NORM_ROWS);
	}
}
