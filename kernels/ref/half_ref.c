/*
 * half_ref.c
 *		Reference: layers with activations in bfloat16, computed in double from the stored numbers.
 *
 * A result is rounded to float32 and then to bfloat16 when it is stored, and nowhere else.
 */
#include "ref.h"

#include <math.h>

static double
get(const uint16_t *x, size_t at)
{
	return distil_bf16_float(x[at]);
}

static void
put(uint16_t *y, size_t at, double value)
{
	y[at] = distil_bf16((float) value);
}

static void
half_round(DistilDevice *dev, uint16_t *y, const float *x, size_t n)
{
	size_t		i;

	(void) dev;
	for (i = 0; i < n; i++)
		y[i] = distil_bf16(x[i]);
}

static void
half_widen(DistilDevice *dev, float *y, const uint16_t *x, size_t n)
{
	size_t		i;

	(void) dev;
	for (i = 0; i < n; i++)
		y[i] = distil_bf16_float(x[i]);
}

static void
half_linear_forward(DistilDevice *dev, uint16_t *y, size_t ldy, uint16_t *before, const uint16_t *x,
					const uint16_t *w, const uint16_t *b, DistilActivation act, int m, int n, int k)
{
	int			i,
				j,
				l;

	(void) dev;
	for (i = 0; i < m; i++)
		for (j = 0; j < n; j++)
		{
			double		sum = b != NULL ? get(b, j) : 0.0;

			for (l = 0; l < k; l++)
				sum += get(x, (size_t) i * k + l) * get(w, (size_t) j * k + l);
			if (before != NULL)
				put(before, (size_t) i * n + j, sum);
			put(y, i * ldy + j, distil_ref_activate(act, sum));
		}
}

static void
half_linear_backward_input(DistilDevice *dev, uint16_t *dx, const uint16_t *dy, size_t lddy,
						   const uint16_t *w, const uint16_t *before, DistilActivation act, bool accumulate,
						   int m, int n, int k)
{
	int			i,
				j,
				l;

	(void) dev;
	for (i = 0; i < m; i++)
		for (l = 0; l < k; l++)
		{
			size_t		at = (size_t) i * k + l;
			double		sum = accumulate ? get(dx, at) : 0.0;

			for (j = 0; j < n; j++)
				sum += get(dy, i * lddy + j) * get(w, (size_t) j * k + l);
			if (before != NULL)
				sum *= distil_ref_activate_slope(act, get(before, at));
			put(dx, at, sum);
		}
}

static void
half_linear_backward_weight(DistilDevice *dev, float *dw, float *db, const uint16_t *dy, size_t lddy,
							const uint16_t *x, int m, int n, int k)
{
	int			i,
				j,
				l;

	(void) dev;
	for (j = 0; j < n; j++)
	{
		double		bias = db != NULL ? db[j] : 0.0;

		for (l = 0; l < k; l++)
		{
			double		sum = dw[(size_t) j * k + l];

			for (i = 0; i < m; i++)
				sum += get(dy, i * lddy + j) * get(x, (size_t) i * k + l);
			dw[(size_t) j * k + l] = (float) sum;
		}
		for (i = 0; i < m; i++)
			bias += get(dy, i * lddy + j);
		if (db != NULL)
			db[j] = (float) bias;
	}
}

static double
dropped(double x, DistilDropout dropout, size_t element)
{
	if (!(dropout.p > 0.0f))
		return x;
	return distil_dropout_keep(dropout.seed, element, dropout.p) ? x / (1.0 - (double) dropout.p) : 0.0;
}

static void
half_norm_forward(DistilDevice *dev, uint16_t *y, uint16_t *sum, float *mean, float *rstd, const uint16_t *x,
				  const uint16_t *residual, DistilDropout dropout, const float *gamma, const float *beta,
				  float eps, int rows, int c)
{
	int			i,
				j;

	(void) dev;
	for (i = 0; i < rows; i++)
	{
		size_t		row = (size_t) i * c;
		uint16_t   *s = sum != NULL ? sum + row : y + row;
		double		total = 0.0;
		double		squares = 0.0;
		double		scale;

		for (j = 0; j < c; j++)
		{
			put(s, j, dropped(get(x, row + j), dropout, row + j) +
				(residual != NULL ? get(residual, row + j) : 0.0));
			total += get(s, j);
		}
		total /= c;
		for (j = 0; j < c; j++)
			squares += (get(s, j) - total) * (get(s, j) - total);
		scale = 1.0 / sqrt(squares / c + (double) eps);
		for (j = 0; j < c; j++)
			put(y, row + j, (get(s, j) - total) * scale * gamma[j] + beta[j]);
		if (mean != NULL)
		{
			mean[i] = (float) total;
			rstd[i] = (float) scale;
		}
	}
}

static void
half_norm_backward(DistilDevice *dev, uint16_t *dsum, uint16_t *dx, float *dgamma, float *dbeta,
				   const uint16_t *dy, const uint16_t *dresidual, const uint16_t *sum, const float *mean,
				   const float *rstd, DistilDropout dropout, const float *gamma, int rows, int c)
{
	int			i,
				j;

	(void) dev;
	for (j = 0; j < c; j++)
	{
		double		dg = dgamma[j];
		double		db = dbeta[j];

		for (i = 0; i < rows; i++)
		{
			size_t		at = (size_t) i * c + j;

			dg += get(dy, at) * (get(sum, at) - mean[i]) * rstd[i];
			db += get(dy, at);
		}
		dgamma[j] = (float) dg;
		dbeta[j] = (float) db;
	}
	for (i = 0; i < rows; i++)
	{
		size_t		row = (size_t) i * c;
		double		sum1 = 0.0;
		double		sum2 = 0.0;

		for (j = 0; j < c; j++)
		{
			double		d = get(dy, row + j) * gamma[j];

			sum1 += d / c;
			sum2 += d * (get(sum, row + j) - mean[i]) * rstd[i] / c;
		}
		for (j = 0; j < c; j++)
		{
			double		normal = (get(sum, row + j) - mean[i]) * rstd[i];
			double		d = rstd[i] * (get(dy, row + j) * gamma[j] - sum1 - normal * sum2);

			if (dresidual != NULL)
				d += get(dresidual, row + j);
			if (dx != NULL)
				put(dx, row + j, dropped(d, dropout, row + j));
			put(dsum, row + j, d);
		}
	}
}

static double
log_sum_exp(const uint16_t *x, double factor, int n)
{
	double		top = -INFINITY;
	double		total = 0.0;
	int			j;

	for (j = 0; j < n; j++)
		if (!(get(x, j) * factor <= top))
			top = get(x, j) * factor;
	for (j = 0; j < n; j++)
		total += exp(get(x, j) * factor - top);
	return top + log(total);
}

static void
half_logits_loss(DistilDevice *dev, double *losses, uint16_t *s, const uint16_t *t, size_t ld,
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
		uint16_t   *sr = s + i * ld;
		const uint16_t *tr = t != NULL ? t + i * ld : NULL;
		int			label = labels != NULL && loss->scale_label != 0.0f ? labels[i] : -100;
		double		lse_q = soft ? log_sum_exp(sr, inverse, v) : 0.0;
		double		lse_p = soft ? log_sum_exp(tr, inverse, v) : 0.0;
		double		lse_s = label >= 0 ? log_sum_exp(sr, 1.0, v) : 0.0;

		if (label >= 0)
			losses[1] += loss->scale_label * (lse_s - get(sr, label));
		for (j = 0; j < v; j++)
		{
			double		gradient = 0.0;

			if (soft)
			{
				double		log_p = get(tr, j) * inverse - lse_p;
				double		log_q = get(sr, j) * inverse - lse_q;

				losses[0] += loss->scale_ce * exp(log_p) * (log_p - log_q);
				gradient += loss->scale_ce * (exp(log_q) - exp(log_p)) * inverse;
			}
			if (label >= 0)
				gradient += loss->scale_label * (exp(get(sr, j) - lse_s) - (j == label));
			if (squared)
			{
				double		difference = get(sr, j) - get(tr, j);

				losses[2] += loss->scale_mse * difference * difference;
				gradient += 2.0 * loss->scale_mse * difference;
			}
			put(sr, j, gradient);
		}
	}
}

static void
half_adamw(DistilDevice *dev, float *w, float *m, float *v, const float *g, const DistilAdamW *step,
		   uint16_t *copy, size_t n)
{
	distil_ref_adamw(dev, w, m, v, g, step, n);
	half_round(dev, copy, w, n);
}

const DistilHalfKernels distil_ref_half = {
	.round = half_round,
	.widen = half_widen,
	.linear_forward = half_linear_forward,
	.linear_backward_input = half_linear_backward_input,
	.linear_backward_weight = half_linear_backward_weight,
	.norm_forward = half_norm_forward,
	.norm_backward = half_norm_backward,
	.attention_forward = distil_ref_half_attention_forward,
	.attention_backward = distil_ref_half_attention_backward,
	.logits_loss = half_logits_loss,
	.adamw = half_adamw,
};
