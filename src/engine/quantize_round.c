/*
 * quantize_round.c
 *		Rounding of a weight in which later columns make up for the errors of earlier ones.
 *
 * The inputs of a layer hang together: what rounding one column does to the output can be undone in part
 * by the others.  Columns are rounded one after the other, each after the errors so far were added to it
 * as the inputs predict it from theirs.  This is GPTQ (arXiv 2210.17323) in the form without an inverse
 * (LDLQ, arXiv 2307.13304): with H = L L^T, L lower, column k is rounded from
 * w_k + sum over j > k of (w_j - q_j) L_jk / L_kk, the last column first.
 * The rule a newcomer would break: errors are those of the original weight, never of what was made of it.
 */
#include "quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 32				/* columns that are done at once */
#define ROWS 256				/* of the weight, that are rounded at once */
/* Of the mean of the diagonal: texts are few, and what they do not show is not to be relied on. */
#define DAMPING 0.1
/* Gathered between polls. */
#define POLL_VALUES ((size_t) 1 << 18)

typedef struct Column
{
	int			at;
	double		power;			/* of its input, smoothed */
} Column;

typedef struct Rounding
{
	DistilQuantMatrix *matrix;
	const float *w;				/* [rows, cols] */
	Column	   *order;			/* [n] the weakest first, so that the strongest is rounded first */
	float	   *l;				/* [n, n] its lower triangle */
	float	   *panel;			/* [BLOCK, n] */
	float	   *product;		/* [n or ROWS, BLOCK] */
	float	   *error;			/* [ROWS, n] weights in this order, and in their place their errors */
	int			n;
	DistilDevice *device;
	const DistilPoll *poll;
} Rounding;

static int
compare_columns(const void *a, const void *b)
{
	const Column *x = a;
	const Column *y = b;

	if (x->power != y->power)
		return x->power < y->power ? -1 : 1;
	return x->at - y->at;
}

static int
least(int a, int b)
{
	return a < b ? a : b;
}

DistilStatus
distil_quantize_correlate(DistilQuantMatrix *matrix, const float *x, int rows, DistilDevice *device,
						  const DistilPoll *poll, DistilError *err)
{
	size_t		ld = (size_t) matrix->cols;

	for (int at = 0; at < matrix->cols; at += DISTIL_GRAM_ROWS)
	{
		int			part = least(DISTIL_GRAM_ROWS, matrix->cols - at);
		float	   *strip = matrix->gram + distil_gram_offset((size_t) at / DISTIL_GRAM_ROWS);

		DISTIL_FORWARD(distil_linear_backward(NULL, 0, false, strip, NULL, x + at, ld, x, ld, NULL, rows,
											  part, at + part, device, poll, err));
	}
	return DISTIL_OK;
}

/* order and l from the sums of products of inputs; *usable: they are finite and not all 0. */
static DistilStatus
fill(Rounding *r, bool *usable, DistilError *err)
{
	const DistilQuantMatrix *matrix = r->matrix;
	size_t		n = (size_t) r->n;
	size_t		poll_rows = POLL_VALUES / n + 1;
	double		mean = 0.0;

	for (size_t j = 0; j < n; j++)
	{
		double		factor = matrix->factor[j];

		r->order[j] = (Column) {(int) j, distil_gram_value(matrix->gram, n, j, j) * factor * factor};
		mean += r->order[j].power / (double) n;
	}
	*usable = mean > 0.0 && isfinite((float) mean);
	if (!*usable)
		return DISTIL_OK;
	qsort(r->order, n, sizeof(Column), compare_columns);
	for (size_t i = 0; i < n; i++)
	{
		size_t		from = (size_t) r->order[i].at;

		if (i % poll_rows == 0)
			DISTIL_POLL(r->poll, err);
		for (size_t j = 0; j <= i; j++)
		{
			size_t		to = (size_t) r->order[j].at;

			r->l[i * n + j] = distil_gram_value(matrix->gram, n, from, to) * matrix->factor[from] *
				matrix->factor[to];
		}
		r->l[i * n + i] += (float) (DAMPING * mean);
	}
	return DISTIL_OK;
}

/* Columns [at, at + part) of l, after the earlier ones were subtracted; false: not positive definite. */
static bool
factor_block(Rounding *r, int at, int part)
{
	size_t		n = (size_t) r->n;

	for (int i = at; i < r->n; i++)
	{
		float	   *row = r->l + (size_t) i * n + at;

		for (int c = 0; c < least(part, i - at + 1); c++)
		{
			const float *other = r->l + (size_t) (at + c) * n + at;
			float		sum = row[c];

			for (int d = 0; d < c; d++)
				sum -= row[d] * other[d];
			if (i > at + c)
				row[c] = sum / other[c];
			else if (sum > 0.0f)
				row[c] = sqrtf(sum);
			else
				return false;
		}
	}
	return true;
}

/* Cholesky's factor of l in its place. */
static DistilStatus
factorize(Rounding *r, bool *usable, DistilError *err)
{
	size_t		n = (size_t) r->n;

	for (int at = 0; *usable && at < r->n; at += BLOCK)
	{
		int			part = least(BLOCK, r->n - at);
		float	   *first = r->l + (size_t) at * n;

		DISTIL_POLL(r->poll, err);
		for (int c = 0; c < part; c++)
			memcpy(r->panel + c * at, first + (size_t) c * n, (size_t) at * sizeof(float));
		if (at > 0)
			DISTIL_FORWARD(distil_linear_forward(r->product, BLOCK, first, n, r->panel, NULL, DISTIL_ACT_NONE,
												 r->n - at, part, at, r->device, r->poll, err));
		for (int i = 0; at > 0 && i < r->n - at; i++)
			for (int c = 0; c < least(part, i + 1); c++)
				first[(size_t) i * n + (size_t) (at + c)] -= r->product[i * BLOCK + c];
		*usable = factor_block(r, at, part);
	}
	return DISTIL_OK;
}

/* Columns [at, at + part) of m rows from row first; product has what the errors of later columns add. */
static void
round_block(Rounding *r, int first, int m, int at, int part)
{
	DistilQuantMatrix *matrix = r->matrix;
	size_t		n = (size_t) r->n;

	for (int i = 0; i < m; i++)
	{
		float	   *error = r->error + (size_t) i * n + at;
		int8_t	   *values = matrix->values + (size_t) (first + i) * n;
		float		scale = matrix->scale[first + i];

		for (int c = part - 1; c >= 0; c--)
		{
			const float *column = r->l + (size_t) at * n + (size_t) (at + c);
			float		sum = r->product[i * BLOCK + c];
			float		step;

			for (int d = c + 1; d < part; d++)
				sum += error[d] * column[(size_t) d * n];
			step = rintf((error[c] + sum / column[(size_t) c * n]) / scale);
			step = fminf(fmaxf(step, -127.0f), 127.0f);
			values[r->order[at + c].at] = (int8_t) step;
			error[c] -= step * scale;
		}
	}
}

/* m rows from row first. */
static DistilStatus
round_rows(Rounding *r, int first, int m, DistilError *err)
{
	size_t		n = (size_t) r->n;

	for (size_t i = 0; i < (size_t) m; i++)
		for (size_t k = 0; k < n; k++)
		{
			size_t		from = (size_t) r->order[k].at;

			r->error[i * n + k] = r->w[((size_t) first + i) * n + from] / r->matrix->factor[from];
		}
	for (int at = (r->n - 1) / BLOCK * BLOCK; at >= 0; at -= BLOCK)
	{
		int			part = least(BLOCK, r->n - at);
		int			end = at + part;
		int			later = r->n - end;

		DISTIL_POLL(r->poll, err);
		for (int j = 0; j < later; j++)
			for (int c = 0; c < part; c++)
				r->panel[c * later + j] = r->l[(size_t) (end + j) * n + (size_t) (at + c)];
		if (later > 0)
			DISTIL_FORWARD(distil_linear_forward(r->product, BLOCK, r->error + end, n, r->panel, NULL,
												 DISTIL_ACT_NONE, m, part, later, r->device, r->poll, err));
		else
			memset(r->product, 0, (size_t) m * BLOCK * sizeof(float));
		round_block(r, first, m, at, part);
	}
	return DISTIL_OK;
}

static DistilStatus
compensate(Rounding *r, DistilError *err)
{
	bool		usable;

	DISTIL_FORWARD(fill(r, &usable, err));
	DISTIL_FORWARD(factorize(r, &usable, err));
	for (int first = 0; usable && first < r->matrix->rows; first += ROWS)
		DISTIL_FORWARD(round_rows(r, first, least(ROWS, r->matrix->rows - first), err));
	return DISTIL_OK;
}

DistilStatus
distil_quantize_compensate(DistilQuantMatrix *matrix, const float *w, DistilDevice *device,
						   const DistilAllocator *alloc, const DistilPoll *poll, DistilError *err)
{
	size_t		n = (size_t) matrix->cols;
	Rounding	r = {.matrix = matrix,.w = w,.n = matrix->cols,.device = device,.poll = poll};
	DistilStatus status;

	r.order = distil_alloc_array(alloc, n, sizeof(Column));
	r.l = distil_alloc_array(alloc, n * n, sizeof(float));
	r.panel = distil_alloc_array(alloc, n * BLOCK, sizeof(float));
	r.product = distil_alloc_array(alloc, (n > ROWS ? n : ROWS) * BLOCK, sizeof(float));
	r.error = distil_alloc_array(alloc, n * ROWS, sizeof(float));
	if (r.order == NULL || r.l == NULL || r.panel == NULL || r.product == NULL || r.error == NULL)
		status = distil_fail_memory(err, n * n * sizeof(float));
	else
		status = compensate(&r, err);
	distil_release(alloc, r.order);
	distil_release(alloc, r.l);
	distil_release(alloc, r.panel);
	distil_release(alloc, r.product);
	distil_release(alloc, r.error);
	return status;
}
