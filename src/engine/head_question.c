/*
 * head_question.c
 *		Loss of extractive question answering: cross-entropy over the places of begin and end.
 *
 * The scores of a text are [T, 2]: column 0 the begin, column 1 the end.
 */
#include "head.h"

#include <math.h>
#include <string.h>

double
distil_loss_question(float *dlogits, const float *logits, int t, int start, int end)
{
	double		loss = 0;

	if (dlogits != NULL)
		memset(dlogits, 0, 2 * (size_t) t * sizeof(float));
	/* a place beyond the text is ignored: then there is nothing to take the mean of */
	loss += start < 0 || start >= t ? NAN : distil_cross_entropy(dlogits, logits, 2, t, start, 0.5);
	loss += end < 0 || end >= t ? NAN
		: distil_cross_entropy(dlogits != NULL ? dlogits + 1 : NULL, logits + 1, 2, t, end, 0.5);
	return loss;
}
