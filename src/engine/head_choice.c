/*
 * head_choice.c
 *		Loss of multiple choice: cross-entropy over the scores of the choices.
 */
#include "head.h"

#include <string.h>

double
distil_loss_choice(float *dlogits, const float *logits, int n, int label)
{
	if (dlogits != NULL)
		memset(dlogits, 0, (size_t) n * sizeof(float));
	return distil_cross_entropy(dlogits, logits, 1, n, label, 1.0);
}
