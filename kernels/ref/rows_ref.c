/*
 * rows_ref.c
 *		Reference: low-precision rows and weights, computed in double from the stored numbers.
 *
 * Only results are rounded to their type; what the fast backends round on the way (the
 * probabilities of attention) belongs to their error bounds.
 */
#include "ref.h"

#include <math.h>

bool
distil_ref_has_type(DistilDevice *dev, DistilType type)
{
	(void) dev;
	(void) type;
	return true;
}

DistilType
distil_ref_fast_type(DistilDevice *dev)
{
	(void) dev;
	return DISTIL_TYPE_F32;
}

static double
row_get(const DistilRows *x, size_t row, size_t column)
{
	size_t		at = row * x->ld + column;

	switch (x->type)
	{
		case DISTIL_TYPE_F32:
			return ((const float *) x->data)[at];
		case DISTIL_TYPE_BF16:
			return distil_bf16_float(((const uint16_t *) x->data)[at]);
		case DISTIL_TYPE_INT8:
			return (double) x->scale[row] * (((const uint8_t *) x->data)[at] - x->zero[row]);
	}
	return 0.0;
}

/* F32 and BF16 */
static void
row_put(const DistilRows *y, size_t row, size_t column, double value)
{
	size_t		at = row * y->ld + column;

	if (y->type == DISTIL_TYPE_F32)
		((float *) y->data)[at] = (float) value;
	else
		((uint16_t *) y->data)[at] = distil_bf16((float) value);
}

/* Zeros behind c columns of BF16. */
static void
row_fill(const DistilRows *y, size_t row, size_t c)
{
	size_t		end = distil_row_length(y->type, c);

	for (; y->type == DISTIL_TYPE_BF16 && c < end; c++)
		row_put(y, row, c, 0.0);
}

static double
weight_get(const DistilWeight *w, size_t row, size_t column)
{
	size_t		at = distil_weight_index(w->type, row, column, (size_t) w->k);

	switch (w->type)
	{
		case DISTIL_TYPE_F32:
			return ((const float *) w->data)[at];
		case DISTIL_TYPE_BF16:
			return distil_bf16_float(((const uint16_t *) w->data)[at]);
		case DISTIL_TYPE_INT8:
			return (double) w->scale[row] * ((const int8_t *) w->data)[at];
	}
	return 0.0;
}

void
distil_ref_linear_rows(DistilDevice *dev, const DistilRows *y, const DistilRows *x, const DistilWeight *w,
					   DistilActivation act, int m)
{
	int			i,
				j,
				l;

	(void) dev;
	for (i = 0; i < m; i++)
	{
		for (j = 0; j < w->n; j++)
		{
			double		sum = w->bias != NULL ? w->bias[j] : 0.0;

			for (l = 0; l < w->k; l++)
				sum += row_get(x, i, l) * weight_get(w, j, l);
			row_put(y, i, j, distil_ref_activate(act, sum));
		}
		row_fill(y, i, w->n);
	}
}

static double
staged_get(const DistilRows *x, DistilActivation act, const float *factor, size_t row, size_t column)
{
	return distil_ref_activate(act, row_get(x, row, column)) * (factor != NULL ? factor[column] : 1.0f);
}

/*
 * Unsigned, from the smallest value (or 0) to the largest (or 0), so that 0
 * is exact; a row with a NaN is one of NaNs.
 */
static void
quantize_row(const DistilRows *y, const DistilRows *x, DistilActivation act, size_t row, size_t c)
{
	uint8_t    *to = (uint8_t *) y->data + row * y->ld;
	size_t		end = distil_row_length(y->type, c);
	double		low = 0.0;
	double		high = 0.0;
	bool		finite = true;
	float		scale;
	size_t		i;

	for (i = 0; i < c; i++)
	{
		double		value = staged_get(x, act, y->factor, row, i);

		low = fmin(low, value);
		high = fmax(high, value);
		finite = finite && isfinite(value);
	}
	scale = (float) ((high - low) / 255.0);
	if (!finite)
		scale = NAN;
	else if (!(scale > 0.0f))
		scale = 1.0f;
	y->scale[row] = scale;
	y->zero[row] = finite ? (int32_t) nearbyint(-low / scale) : 0;
	for (i = 0; i < end; i++)
	{
		double		q = i < c ? nearbyint(staged_get(x, act, y->factor, row, i) / scale) + y->zero[row]
			: y->zero[row];

		to[i] = finite ? (uint8_t) fmin(fmax(q, 0.0), 255.0) : 0;
	}
}

void
distil_ref_quantize_rows(DistilDevice *dev, const DistilRows *y, const DistilRows *x, DistilActivation act,
						 int m, int c)
{
	int			i,
				j;

	(void) dev;
	for (i = 0; i < m; i++)
	{
		if (y->type == DISTIL_TYPE_INT8)
		{
			quantize_row(y, x, act, i, c);
			continue;
		}
		for (j = 0; j < c; j++)
			row_put(y, i, j, row_get(x, i, j));
		row_fill(y, i, c);
	}
}

void
distil_ref_norm_rows(DistilDevice *dev, float *y, const DistilRows *low, const float *x,
					 const float *residual, const float *gamma, const float *beta, float eps,
					 int rows, int c)
{
	DistilRows	full = {DISTIL_TYPE_F32, y, (size_t) c, NULL, NULL, NULL};

	distil_ref_layernorm_forward(dev, y, NULL, NULL, NULL, x, residual, gamma, beta, eps, rows, c);
	distil_ref_quantize_rows(dev, low, &full, DISTIL_ACT_NONE, rows, c);
}

/* One query of one head: its probabilities in ref->keys, its result in ref->head1. */
static void
attend_query(RefDevice *ref, const DistilRows *qkv, const DistilAttention *a, size_t first, int head,
			 int query, int keys)
{
	size_t		dim = a->head_dim;
	size_t		width = a->heads * dim;
	size_t		column = head * dim;
	double		top = -INFINITY;
	double		total = 0.0;
	size_t		d;
	int			j;

	for (j = 0; j < keys; j++)
	{
		double		sum = 0.0;

		for (d = 0; d < dim; d++)
			sum += row_get(qkv, first + query, column + d) * row_get(qkv, first + j, width + column + d);
		sum *= a->scale;
		if (a->relative != NULL)
			sum += a->relative[(size_t) (j - query + a->relative_limit - 1) * a->heads + head];
		ref->keys[j] = sum;
		if (!(sum <= top))
			top = sum;
	}
	for (d = 0; d < dim; d++)
		ref->head1[d] = 0.0;
	for (j = 0; j < keys; j++)
	{
		double		p = exp(ref->keys[j] - top);

		total += p;
		for (d = 0; d < dim; d++)
			ref->head1[d] += p * row_get(qkv, first + j, 2 * width + column + d);
	}
	for (d = 0; d < dim; d++)
		ref->head1[d] /= total;
}

void
distil_ref_attention_rows(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv,
						  const int32_t *offsets, const DistilAttention *a)
{
	RefDevice  *ref = (RefDevice *) dev;
	int			seq,
				head,
				i,
				d;

	for (seq = 0; seq < a->nseq; seq++)
	{
		size_t		first = offsets[seq];
		int			length = offsets[seq + 1] - offsets[seq];

		for (head = a->head_first; head < a->head_first + a->head_count; head++)
		{
			for (i = a->query_first; i < DISTIL_QUERY_END(a, length); i++)
			{
				attend_query(ref, qkv, a, first, head, i, a->causal ? i + 1 : length);
				for (d = 0; d < a->head_dim; d++)
					row_put(out, first + i, (size_t) head * a->head_dim + d, ref->head1[d]);
			}
		}
		for (i = a->query_first; i < DISTIL_QUERY_END(a, length); i++)
			row_fill(out, first + i, (size_t) a->heads * a->head_dim);
	}
}
