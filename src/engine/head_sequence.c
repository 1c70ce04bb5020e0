/*
 * head_sequence.c
 *		Loss of text classification: one label of many, several labels, or values.
 *
 * The rule a newcomer would break: the mean is over texts for one label of many, but over
 * texts and labels for the other two.
 */
#include "head.h"

#include <math.h>
#include <string.h>

/* Mean of max(x, 0) - x y + log(1 + exp(-|x|)): binary cross-entropy of each label. */
static double
multi_label_loss(float *dlogits, const float *logits, const float *values, size_t n)
{
	double		sum = 0;

	for (size_t i = 0; i < n; i++)
	{
		double		x = logits[i];

		sum += fmax(x, 0) - x * values[i] + log1p(exp(-fabs(x)));
		if (dlogits != NULL)
			dlogits[i] = (float) ((1 / (1 + exp(-x)) - values[i]) / (double) n);
	}
	return sum / (double) n;
}

static double
regression_loss(float *dlogits, const float *logits, const float *values, size_t n)
{
	double		sum = 0;

	for (size_t i = 0; i < n; i++)
	{
		double		d = (double) logits[i] - values[i];

		sum += d * d;
		if (dlogits != NULL)
			dlogits[i] = (float) (2 * d / (double) n);
	}
	return sum / (double) n;
}

double
distil_loss_sequence(float *dlogits, const float *logits, DistilProblem problem, const int32_t *labels,
					 const float *values, int n, int k)
{
	size_t		count = (size_t) n * (size_t) k;

	if (problem == DISTIL_PROBLEM_MULTI_LABEL)
		return multi_label_loss(dlogits, logits, values, count);
	if (problem == DISTIL_PROBLEM_REGRESSION)
		return regression_loss(dlogits, logits, values, count);
	return distil_loss_labels(dlogits, logits, labels, n, k);
}
