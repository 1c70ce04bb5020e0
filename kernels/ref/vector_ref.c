/*
 * vector_ref.c
 *		Reference: elementwise operations on flat vectors, and the optimizer.
 */
#include "ref.h"

#include <math.h>

void
distil_ref_zero(DistilDevice *dev, float *y, size_t n)
{
	size_t		i;

	(void) dev;
	for (i = 0; i < n; i++)
		y[i] = 0.0f;
}

void
distil_ref_axpy(DistilDevice *dev, float *y, const float *x, float scale, size_t n)
{
	size_t		i;

	(void) dev;
	for (i = 0; i < n; i++)
		y[i] = (float) (y[i] + (double) scale * x[i]);
}

void
distil_ref_sum_squares(DistilDevice *dev, double *sum, const float *x, size_t n)
{
	double		total = 0.0;
	size_t		i;

	(void) dev;
	for (i = 0; i < n; i++)
		total += (double) x[i] * x[i];
	*sum = total;
}

void
distil_ref_count_nonfinite(DistilDevice *dev, int64_t *bad, const float *x, size_t n)
{
	int64_t		count = 0;
	size_t		i;

	(void) dev;
	for (i = 0; i < n; i++)
		count += !isfinite(x[i]);
	*bad = count;
}

void
distil_ref_dropout(DistilDevice *dev, float *y, const float *x,
				   DistilDropout dropout, uint64_t first, size_t n)
{
	double		scale = 1.0 / (1.0 - (double) dropout.p);
	size_t		i;

	(void) dev;
	for (i = 0; i < n; i++)
	{
		if (!(dropout.p > 0.0f))
			y[i] = x[i];
		else if (distil_dropout_keep(dropout.seed, first + i, dropout.p))
			y[i] = (float) (x[i] * scale);
		else
			y[i] = 0.0f;
	}
}

/* Loshchilov and Hutter 2019, "Decoupled weight decay regularization", algorithm 2. */
void
distil_ref_adamw(DistilDevice *dev, float *w, float *m, float *v, const float *g,
				 const DistilAdamW *step, size_t n)
{
	size_t		i;

	(void) dev;
	for (i = 0; i < n; i++)
	{
		double		gradient = (double) g[i] * step->gradient_scale;
		double		first = step->beta1 * (double) m[i] + (1.0 - step->beta1) * gradient;
		double		second = step->beta2 * (double) v[i] + (1.0 - step->beta2) * gradient * gradient;
		double		weight = w[i] * (1.0 - (double) step->learning_rate * step->weight_decay);

		weight -= step->learning_rate * (first / step->correction1) /
			(sqrt(second / step->correction2) + step->epsilon);
		m[i] = (float) first;
		v[i] = (float) second;
		w[i] = (float) weight;
	}
}
