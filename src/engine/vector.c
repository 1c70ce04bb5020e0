/*
 * vector.c
 *		Similarities of two vectors, for SQL.
 *
 * The rule a newcomer would break: sums are kept in double, in the order of the values,
 * so that the result is the same on every machine.
 */
#include "distil_engine.h"

#include <math.h>

double
distil_vector_dot(const float *a, const float *b, size_t n)
{
	double		sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (double) a[i] * (double) b[i];
	return sum;
}

double
distil_vector_cosine(const float *a, const float *b, size_t n)
{
	double		ab = 0,
				aa = 0,
				bb = 0;
	double		cosine;

	for (size_t i = 0; i < n; i++)
	{
		double		x = (double) a[i];
		double		y = (double) b[i];

		ab += x * y;
		aa += x * x;
		bb += y * y;
	}
	if (aa == 0 || bb == 0)
		return NAN;
	cosine = ab / (sqrt(aa) * sqrt(bb));
	/* rounding must not leave [-1, 1]; NaN stays NaN */
	return cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
}

double
distil_vector_l2(const float *a, const float *b, size_t n)
{
	double		sum = 0;

	for (size_t i = 0; i < n; i++)
	{
		double		difference = (double) a[i] - (double) b[i];

		sum += difference * difference;
	}
	return sqrt(sum);
}
