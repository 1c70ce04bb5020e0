/*
 * loss_ref.c
 *		Reference: losses and their gradients in one pass.
 *
 * logits_loss is the distillation loss of Hinton et al. 2015 (soft targets) beside
 * the plain cross entropy and the squared error of logits.  The gradient replaces
 * the student's logits: nothing may read s[i] after ds[i] was written.
 */
#include "ref.h"

#include <math.h>

#define SQUARED_NORM_FLOOR 1e-12

void
distil_ref_mse_loss(DistilDevice *dev, double *loss, float *ds, const float *s, const float *t,
					float scale, int rows, int c)
{
	size_t		n = (size_t) rows * c;
	double		total = 0.0;
	size_t		i;

	(void) dev;
	for (i = 0; i < n; i++)
	{
		double		difference = (double) s[i] - t[i];

		total += difference * difference;
		ds[i] = (float) (2.0 * scale * difference);
	}
	*loss += scale * total;
}

void
distil_ref_cosine_loss(DistilDevice *dev, double *loss, float *ds, const float *s, const float *t,
					   float scale, int rows, int c)
{
	int			i,
				j;

	(void) dev;
	for (i = 0; i < rows; i++)
	{
		size_t		row = (size_t) i * c;
		double		ss = 0.0;
		double		tt = 0.0;
		double		st = 0.0;
		double		cosine;

		for (j = 0; j < c; j++)
		{
			ss += (double) s[row + j] * s[row + j];
			tt += (double) t[row + j] * t[row + j];
			st += (double) s[row + j] * t[row + j];
		}
		ss = sqrt(ss < SQUARED_NORM_FLOOR ? SQUARED_NORM_FLOOR : ss);
		tt = sqrt(tt < SQUARED_NORM_FLOOR ? SQUARED_NORM_FLOOR : tt);
		cosine = st / (ss * tt);
		*loss += scale * (1.0 - cosine);
		for (j = 0; j < c; j++)
			ds[row + j] = (float) (-scale * (t[row + j] / tt - cosine * s[row + j] / ss) / ss);
	}
}

/* log of the sum of exp(x * factor) */
static double
log_sum_exp(const float *x, double factor, int n)
{
	double		top = -INFINITY;
	double		total = 0.0;
	int			j;

	for (j = 0; j < n; j++)
	{
		if (!(x[j] * factor <= top))
			top = x[j] * factor;
	}
	for (j = 0; j < n; j++)
		total += exp(x[j] * factor - top);
	return top + log(total);
}

void
distil_ref_logits_loss(DistilDevice *dev, double *losses, float *s, const float *t,
					   const int32_t *labels, const DistilLogitsLoss *loss, int rows, int v)
{
	double		inverse = 1.0 / loss->temperature;
	bool		soft = loss->scale_ce != 0.0f;
	bool		squared = loss->scale_mse != 0.0f;
	int			i,
				j;

	(void) dev;
	for (i = 0; i < rows; i++)
	{
		float	   *sr = s + (size_t) i * v;
		const float *tr = t != NULL ? t + (size_t) i * v : NULL;
		int			label = labels != NULL && loss->scale_label != 0.0f ? labels[i] : -100;
		double		lse_q = soft ? log_sum_exp(sr, inverse, v) : 0.0;
		double		lse_p = soft ? log_sum_exp(tr, inverse, v) : 0.0;
		double		lse_s = label >= 0 ? log_sum_exp(sr, 1.0, v) : 0.0;

		if (label >= 0)
			losses[1] += loss->scale_label * (lse_s - sr[label]);
		for (j = 0; j < v; j++)
		{
			double		gradient = 0.0;

			if (soft)
			{
				double		log_p = tr[j] * inverse - lse_p;
				double		log_q = sr[j] * inverse - lse_q;
				double		p = exp(log_p);

				if (p != 0.0)
					losses[0] += loss->scale_ce * p * (log_p - log_q);
				gradient += loss->scale_ce * (exp(log_q) - p) * inverse;
			}
			if (label >= 0)
				gradient += loss->scale_label * (exp(sr[j] - lse_s) - (j == label));
			if (squared)
			{
				double		difference = (double) sr[j] - tr[j];

				losses[2] += loss->scale_mse * difference * difference;
				gradient += 2.0 * loss->scale_mse * difference;
			}
			sr[j] = (float) gradient;
		}
	}
}
