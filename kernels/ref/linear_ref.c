/*
 * linear_ref.c
 *		Reference: the linear layer.
 */
#include "ref.h"

void
distil_ref_linear_forward(DistilDevice *dev, float *y, size_t ldy,
						  const float *x, size_t ldx, const float *w, const float *b,
						  DistilActivation act, int m, int n, int k)
{
	int			i,
				j,
				l;

	(void) dev;
	for (i = 0; i < m; i++)
	{
		for (j = 0; j < n; j++)
		{
			double		sum = b != NULL ? b[j] : 0.0;

			for (l = 0; l < k; l++)
				sum += (double) x[i * ldx + l] * w[(size_t) j * k + l];
			y[i * ldy + j] = (float) distil_ref_activate(act, sum);
		}
	}
}

void
distil_ref_linear_forward_packed(DistilDevice *dev, float *y, size_t ldy,
								 const float *x, size_t ldx, const float *w, const float *b,
								 DistilActivation act, int m, int n, int k)
{
	int			i,
				j,
				l;

	(void) dev;
	for (i = 0; i < m; i++)
	{
		for (j = 0; j < n; j++)
		{
			double		sum = b != NULL ? b[j] : 0.0;

			for (l = 0; l < k; l++)
				sum += (double) x[i * ldx + l] * w[distil_packed_index(j, l, k)];
			y[i * ldy + j] = (float) distil_ref_activate(act, sum);
		}
	}
}

void
distil_ref_linear_backward_input(DistilDevice *dev, float *dx, size_t lddx,
								 const float *dy, size_t lddy, const float *w,
								 bool accumulate, int m, int n, int k)
{
	int			i,
				j,
				l;

	(void) dev;
	for (i = 0; i < m; i++)
	{
		for (l = 0; l < k; l++)
		{
			double		sum = accumulate ? dx[i * lddx + l] : 0.0;

			for (j = 0; j < n; j++)
				sum += (double) dy[i * lddy + j] * w[(size_t) j * k + l];
			dx[i * lddx + l] = (float) sum;
		}
	}
}

void
distil_ref_linear_backward_weight(DistilDevice *dev, float *dw, float *db,
								  const float *dy, size_t lddy,
								  const float *x, size_t ldx, int m, int n, int k)
{
	int			i,
				j,
				l;

	(void) dev;
	for (j = 0; j < n; j++)
	{
		for (l = 0; l < k; l++)
		{
			double		sum = dw[(size_t) j * k + l];

			for (i = 0; i < m; i++)
				sum += (double) dy[i * lddy + j] * x[i * ldx + l];
			dw[(size_t) j * k + l] = (float) sum;
		}
		if (db != NULL)
		{
			double		sum = db[j];

			for (i = 0; i < m; i++)
				sum += dy[i * lddy + j];
			db[j] = (float) sum;
		}
	}
}
