/*
 * kernel_int8.h
 *		Rows and weights of the tests of 8-bit kernels.
 */
#ifndef DISTIL_KERNEL_INT8_H
#define DISTIL_KERNEL_INT8_H

#include "kernel_samples.h"

#define POISON 0x5a

static inline DistilRows
make_rows(DistilType type, int m, int c)
{
	size_t		bytes = distil_rows_elements(type, m, c) * distil_type_size(type);
	DistilRows	rows = {type, ref->ops->alloc(ref, bytes), distil_row_stride(type, c), NULL, NULL, NULL};

	memset(rows.data, POISON, bytes);
	if (type == DISTIL_TYPE_INT8)
	{
		rows.scale = unset_floats(m + 1);
		rows.zero = random_ints(m + 1, 256);
	}
	return rows;
}

static inline void
drop_rows(DistilRows *rows)
{
	drop(rows->data);
	drop(rows->scale);
	drop(rows->zero);
}

/* Float rows whose sizes differ from row to row. */
static inline DistilRows
random_rows(DistilType type, int m, int c)
{
	DistilRows	rows = make_rows(type, m, c);
	int			i,
				j;

	for (i = 0; i < m; i++)
	{
		double		size = exp(6.0 * uniform() - 3.0);
		double		shift = uniform() - 0.3;

		for (j = 0; j < c; j++)
		{
			float		value = (float) (size * (2.0 * uniform() - 1.0 + shift));

			if (type == DISTIL_TYPE_F32)
				((float *) rows.data)[(size_t) i * rows.ld + j] = value;
			else
				((uint16_t *) rows.data)[(size_t) i * rows.ld + j] = distil_bf16(value);
		}
	}
	return rows;
}

static inline double
row_value(const DistilRows *rows, int row, int column)
{
	size_t		at = (size_t) row * rows->ld + column;

	switch (rows->type)
	{
		case DISTIL_TYPE_F32:
			return ((const float *) rows->data)[at];
		case DISTIL_TYPE_BF16:
			return distil_bf16_float(((const uint16_t *) rows->data)[at]);
		case DISTIL_TYPE_INT8:
			return (double) rows->scale[row] * (((const uint8_t *) rows->data)[at] - rows->zero[row]);
	}
	return NAN;
}

static inline DistilWeight
random_weight(int n, int k, bool bias)
{
	int8_t	   *data = ref->ops->alloc(ref, distil_weight_bytes(DISTIL_TYPE_INT8, n, k));
	float	   *scale = random_floats(n, 0.01);
	int32_t    *sum = random_ints(n, 2);
	int			i,
				j;

	memset(data, 0, distil_weight_bytes(DISTIL_TYPE_INT8, n, k));
	for (i = 0; i < n; i++)
	{
		sum[i] = 0;
		for (j = 0; j < k; j++)
		{
			/* of all sizes, so that of the lines of an order some are in pairs, some alone, some the rest */
			int			q = (int) lrint((2.0 * uniform() - 1.0) * 127.0 * uniform());

			data[distil_weight_index(DISTIL_TYPE_INT8, i, j, k)] = (int8_t) q;
			sum[i] += q;
		}
	}
	return (DistilWeight) {.type = DISTIL_TYPE_INT8,.n = n,.k = k,.data = data,.scale = scale,.sum = sum,
	.bias = bias ? random_floats(n, 0.5) : NULL};
}

/* The order of its lines, where there may be one. */
static inline void
order_weight(DistilWeight *w)
{
	uint16_t   *order = ref->ops->alloc(ref, distil_order_length(w->n, w->k) * sizeof(uint16_t));
	uint8_t    *scratch = ref->ops->alloc(ref, DISTIL_ORDER_SCRATCH(w->k));
	int			i;

	for (i = 0; i < distil_order_halves(w->n) && w->k <= DISTIL_ORDER_INPUTS; i++)
		distil_order_half(order, scratch, w->data, i, w->k);
	w->order = w->k <= DISTIL_ORDER_INPUTS ? order : NULL;
	drop(scratch);
	if (w->order == NULL)
		drop(order);
}

static inline void
drop_weight(DistilWeight *w)
{
	drop((void *) w->data);
	drop((void *) w->scale);
	drop((void *) w->sum);
	drop((void *) w->bias);
	drop((void *) w->order);
}

#endif							/* DISTIL_KERNEL_INT8_H */
