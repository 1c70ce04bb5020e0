/*
 * activation_ref.c
 *		Reference: activation functions and their slopes.
 *
 * GELU: Hendrycks and Gimpel 2016, both the exact form and the tanh approximation.
 */
#include "ref.h"

#include <math.h>

#define INV_SQRT_2		0.70710678118654752440
#define INV_SQRT_2PI	0.39894228040143267794
#define SQRT_2_OVER_PI	0.79788456080286535588
#define GELU_CUBIC		0.044715

static double
sigmoid(double x)
{
	return 1.0 / (1.0 + exp(-x));
}

double
distil_ref_activate(DistilActivation act, double x)
{
	switch (act)
	{
		case DISTIL_ACT_NONE:
			return x;
		case DISTIL_ACT_GELU:
			return 0.5 * x * (1.0 + erf(x * INV_SQRT_2));
		case DISTIL_ACT_GELU_TANH:
			return 0.5 * x * (1.0 + tanh(SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x)));
		case DISTIL_ACT_QUICK_GELU:
			return x * sigmoid(1.702 * x);
		case DISTIL_ACT_RELU:
			return x < 0.0 ? 0.0 : x;	/* NaN stays */
		case DISTIL_ACT_SILU:
			return x * sigmoid(x);
		case DISTIL_ACT_TANH:
			return tanh(x);
		case DISTIL_ACT_SIGMOID:
			return sigmoid(x);
	}
	return x;
}

double
distil_ref_activate_slope(DistilActivation act, double x)
{
	double		s;

	switch (act)
	{
		case DISTIL_ACT_NONE:
			return 1.0;
		case DISTIL_ACT_GELU:
			return 0.5 * (1.0 + erf(x * INV_SQRT_2)) + x * INV_SQRT_2PI * exp(-0.5 * x * x);
		case DISTIL_ACT_GELU_TANH:
			s = tanh(SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x));
			return 0.5 * (1.0 + s) +
				0.5 * x * (1.0 - s * s) * SQRT_2_OVER_PI * (1.0 + 3.0 * GELU_CUBIC * x * x);
		case DISTIL_ACT_QUICK_GELU:
			s = sigmoid(1.702 * x);
			return s + 1.702 * x * s * (1.0 - s);
		case DISTIL_ACT_RELU:
			return x > 0.0 ? 1.0 : 0.0;
		case DISTIL_ACT_SILU:
			s = sigmoid(x);
			return s + x * s * (1.0 - s);
		case DISTIL_ACT_TANH:
			s = tanh(x);
			return 1.0 - s * s;
		case DISTIL_ACT_SIGMOID:
			s = sigmoid(x);
			return s * (1.0 - s);
	}
	return 1.0;
}

void
distil_ref_activation_forward(DistilDevice *dev, DistilActivation act,
							  float *y, const float *x, size_t n)
{
	size_t		i;

	(void) dev;
	for (i = 0; i < n; i++)
		y[i] = (float) distil_ref_activate(act, x[i]);
}

void
distil_ref_activation_backward(DistilDevice *dev, DistilActivation act,
							   float *dx, const float *dy, const float *x, size_t n)
{
	size_t		i;

	(void) dev;
	for (i = 0; i < n; i++)
		dx[i] = (float) (dy[i] * distil_ref_activate_slope(act, x[i]));
}
