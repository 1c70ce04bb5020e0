/*
 * norm_ref.c
 *		Reference: layer normalisation (Ba et al. 2016) and unit length rows.
 */
#include "ref.h"

#include <math.h>

#define NORM_FLOOR 1e-12

void
distil_ref_layernorm_forward(DistilDevice *dev, float *y, float *sum, float *mean, float *rstd,
							 const float *x, const float *residual,
							 const float *gamma, const float *beta, float eps,
							 int rows, int c)
{
	int			i,
				j;

	(void) dev;
	for (i = 0; i < rows; i++)
	{
		size_t		row = (size_t) i * c;
		float	   *s = sum != NULL ? sum + row : y + row;
		double		total = 0.0;
		double		squares = 0.0;
		double		mu,
					scale;

		for (j = 0; j < c; j++)
		{
			s[j] = residual != NULL ? x[row + j] + residual[row + j] : x[row + j];
			total += s[j];
		}
		mu = total / c;
		for (j = 0; j < c; j++)
			squares += (s[j] - mu) * (s[j] - mu);
		scale = 1.0 / sqrt(squares / c + eps);
		for (j = 0; j < c; j++)
			y[row + j] = (float) ((s[j] - mu) * scale * gamma[j] + beta[j]);
		if (mean != NULL)
			mean[i] = (float) mu;
		if (rstd != NULL)
			rstd[i] = (float) scale;
	}
}

void
distil_ref_layernorm_backward(DistilDevice *dev, float *dx, float *dgamma, float *dbeta,
							  const float *dy, const float *sum, const float *mean,
							  const float *rstd, const float *gamma, int rows, int c)
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

			dg += dy[at] * ((double) sum[at] - mean[i]) * rstd[i];
			db += dy[at];
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
			double		d = (double) dy[row + j] * gamma[j];

			sum1 += d;
			sum2 += d * ((double) sum[row + j] - mean[i]) * rstd[i];
		}
		for (j = 0; j < c; j++)
		{
			double		d = (double) dy[row + j] * gamma[j];
			double		normal = ((double) sum[row + j] - mean[i]) * rstd[i];

			dx[row + j] = (float) (rstd[i] * (d - sum1 / c - normal * sum2 / c));
		}
	}
}

void
distil_ref_normalize_forward(DistilDevice *dev, float *y, float *norm, const float *x, int rows, int c)
{
	int			i,
				j;

	(void) dev;
	for (i = 0; i < rows; i++)
	{
		size_t		row = (size_t) i * c;
		double		length = 0.0;

		for (j = 0; j < c; j++)
			length += (double) x[row + j] * x[row + j];
		length = sqrt(length);
		if (norm != NULL)
			norm[i] = (float) length;
		if (length < NORM_FLOOR)
			length = NORM_FLOOR;
		for (j = 0; j < c; j++)
			y[row + j] = (float) (x[row + j] / length);
	}
}

/* Below the floor the length is a constant, so the projection term falls away. */
void
distil_ref_normalize_backward(DistilDevice *dev, float *dx, const float *dy, const float *y,
							  const float *norm, int rows, int c)
{
	int			i,
				j;

	(void) dev;
	for (i = 0; i < rows; i++)
	{
		size_t		row = (size_t) i * c;
		double		dot = 0.0;
		double		length = norm[i];

		for (j = 0; j < c; j++)
			dot += (double) dy[row + j] * y[row + j];
		if (length < NORM_FLOOR)
		{
			length = NORM_FLOOR;
			dot = 0.0;
		}
		for (j = 0; j < c; j++)
			dx[row + j] = (float) ((dy[row + j] - dot * y[row + j]) / length);
	}
}
