/*
 * head_token.c
 *		Mean cross-entropy over labelled rows: token classification and language models.
 *
 * A causal model's labels are its own tokens, one place further on.
 */
#include "head.h"

#include <math.h>
#include <string.h>

double
distil_loss_labels(float *dlogits, const float *logits, const int32_t *labels, int rows, int k)
{
	double		sum = 0;
	int			labelled = 0;
	int			i;

	if (dlogits != NULL)
		memset(dlogits, 0, (size_t) rows * (size_t) k * sizeof(float));
	for (i = 0; i < rows; i++)
		labelled += labels[i] != DISTIL_NO_LABEL;
	if (labelled == 0)
		return NAN;
	for (i = 0; i < rows; i++)
	{
		size_t		at = (size_t) i * (size_t) k;

		if (labels[i] != DISTIL_NO_LABEL)
			sum += distil_cross_entropy(dlogits != NULL ? dlogits + at : NULL, logits + at, 1, k, labels[i],
										1.0 / labelled);
	}
	return sum;
}
