/*
 * elementwise.c
 *		Element-wise operations and norms over many rows, cut into units with polls.
 */
#include "layers.h"

DistilStatus
distil_add_rows(float *y, const float *x, size_t n, DistilDevice *device, const DistilPoll *poll,
				DistilError *err)
{
	size_t		unit = DISTIL_UNIT_ELEMENTS(device);
	size_t		i;

	for (i = 0; i < n; i += unit)
	{
		DISTIL_POLL(poll, err);
		device->ops->axpy(device, y + i, x + i, 1.0f,
						  n - i < unit ? n - i : unit);
	}
	return DISTIL_OK;
}

DistilStatus
distil_dropout_rows(float *y, const float *x, DistilDropout dropout, size_t first, size_t n,
					DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	size_t		unit = DISTIL_UNIT_ELEMENTS(device);
	size_t		i;

	for (i = 0; i < n; i += unit)
	{
		size_t		count = n - i < unit ? n - i : unit;

		DISTIL_POLL(poll, err);
		device->ops->dropout(device, y + i, x + i, dropout, first + i, count);
	}
	return DISTIL_OK;
}

DistilStatus
distil_activation_rows(DistilActivation act, float *y, const float *x, size_t n,
					   DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	size_t		unit = DISTIL_UNIT_ELEMENTS(device);
	size_t		i;

	for (i = 0; i < n; i += unit)
	{
		size_t		count = n - i < unit ? n - i : unit;

		DISTIL_POLL(poll, err);
		device->ops->activation_forward(device, act, y + i, x + i, count);
	}
	return DISTIL_OK;
}

DistilStatus
distil_activation_backward_rows(DistilActivation act, float *dx, const float *dy, const float *x, size_t n,
								DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	size_t		unit = DISTIL_UNIT_ELEMENTS(device);
	size_t		i;

	for (i = 0; i < n; i += unit)
	{
		size_t		count = n - i < unit ? n - i : unit;

		DISTIL_POLL(poll, err);
		device->ops->activation_backward(device, act, dx + i, dy + i, x + i, count);
	}
	return DISTIL_OK;
}

/* Rows of one unit, at least one. */
static int
unit_rows(const DistilDevice *device, int c)
{
	int			rows = (int) (DISTIL_UNIT_ELEMENTS(device) / (size_t) c);

	return rows > 0 ? rows : 1;
}

DistilStatus
distil_norm_rows(float *y, float *sum, float *mean, float *rstd, const float *x, const float *residual,
				 const float *gamma, const float *beta, float eps, int rows, int c,
				 DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	int			step = unit_rows(device, c);
	int			i;

	for (i = 0; i < rows; i += step)
	{
		size_t		at = (size_t) i * c;

		DISTIL_POLL(poll, err);
		device->ops->layernorm_forward(device, y + at, sum != NULL ? sum + at : NULL,
									   sum != NULL ? mean + i : NULL, sum != NULL ? rstd + i : NULL,
									   x + at, residual != NULL ? residual + at : NULL, gamma, beta, eps,
									   rows - i < step ? rows - i : step, c);
	}
	return DISTIL_OK;
}

DistilStatus
distil_norm_backward_rows(float *dx, float *dgamma, float *dbeta, const float *dy, const float *sum,
						  const float *mean, const float *rstd, const float *gamma, int rows, int c,
						  DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	int			step = unit_rows(device, c);
	int			i;

	for (i = 0; i < rows; i += step)
	{
		size_t		at = (size_t) i * c;

		DISTIL_POLL(poll, err);
		device->ops->layernorm_backward(device, dx + at, dgamma, dbeta, dy + at, sum + at, mean + i, rstd + i,
										gamma, rows - i < step ? rows - i : step, c);
	}
	return DISTIL_OK;
}
