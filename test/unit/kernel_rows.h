/*
 * kernel_rows.h
 *		What the tests of BF16 rows share: rows with guards, and their comparison.
 *
 * Operands are the same BF16 numbers on both sides, so a product of k terms of size 1 differs by the order
 * of its float32 sums only: 2e-6 sqrt(k).  A result in BF16 is rounded on both sides: 1/128 of its size.
 */
#ifndef DISTIL_KERNEL_ROWS_H
#define DISTIL_KERNEL_ROWS_H

#include "kernel_samples.h"

#define HALF_STEP (1.0 / 256)	/* of BF16, relative */

/* m rows of c random values; what lies behind them is NaN, which must not matter. */
static inline DistilRows
random_rows(int m, int c, double size)
{
	size_t		n = distil_rows_elements(DISTIL_TYPE_BF16, m, c);
	DistilRows	rows = {DISTIL_TYPE_BF16, NULL, distil_row_stride(DISTIL_TYPE_BF16, c), NULL, NULL, NULL};
	uint16_t   *data = ref->ops->alloc(ref, n * sizeof(uint16_t));
	size_t		i;

	for (i = 0; i < n; i++)
	{
		size_t		column = i % rows.ld;

		data[i] = i / rows.ld >= (size_t) m ? 0x7fc0 : column >= (size_t) c ? 0
			: distil_bf16((float) ((2 * uniform() - 1) * size));
	}
	rows.data = data;
	return rows;
}

/* Rows to be written, all NaN. */
static inline DistilRows
unset_rows(DistilType type, int m, int c)
{
	size_t		n = distil_rows_elements(type, m, c);
	DistilRows	rows = {type, NULL, distil_row_stride(type, c), NULL, NULL, NULL};

	rows.data = ref->ops->alloc(ref, n * distil_type_size(type));
	memset(rows.data, 0xff, n * distil_type_size(type));
	return rows;
}

static inline double
get(const DistilRows *rows, int row, int column)
{
	size_t		at = row * rows->ld + column;

	return rows->type == DISTIL_TYPE_F32 ? ((const float *) rows->data)[at]
		: distil_bf16_float(((const uint16_t *) rows->data)[at]);
}

/* Rows [from, m) of c columns; behind them zeros (BF16) or what was there before. */
static inline void
same_rows(const char *what, const DistilRows *got, const DistilRows *want, int from, int m, int c,
		  double absolute, double relative)
{
	int			end = (int) distil_row_length(got->type, c);
	double		worst = 0.0;
	int			stray = 0;
	int			i,
				j;

	for (i = from; i < m; i++)
	{
		for (j = 0; j < c; j++)
		{
			double		error = fabs(get(got, i, j) - get(want, i, j));
			double		excess = error - relative * fabs(get(want, i, j));

			if (!(excess <= worst))
				worst = isnan(excess) ? INFINITY : excess;
		}
		for (; j < (int) got->ld; j++)
			stray += got->type == DISTIL_TYPE_BF16 && j < end ? get(got, i, j) != 0 : !isnan(get(got, i, j));
	}
	CHECK_MSG(worst <= absolute, "%s %s, %d rows of %d: off by %g, allowed %g\n", under_test, what, m, c,
			  worst, absolute);
	CHECK_MSG(stray == 0, "%s %s, %d rows of %d: %d numbers beside the result\n", under_test, what, m, c,
			  stray);
}

#endif
