/*
 * masking.c
 *		See masking.h.
 */
#include <math.h>

#include "masking.h"

void
distil_masking_weights(double *weights, const int64_t *counts, int vocabulary, double smoothing,
					   const DistilSpecialIds *special)
{
	const int32_t none[] = {special->unk, special->cls, special->sep, special->pad, special->mask,
	special->bos, special->eos};
	size_t		i;
	int			v;

	for (v = 0; v < vocabulary; v++)
		weights[v] = pow(counts[v] > 1 ? (double) counts[v] : 1.0, -smoothing);
	for (i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		if (none[i] >= 0 && none[i] < vocabulary)
			weights[none[i]] = 0;
}

/* Larger key first; equal keys by position, so that the choice is the same everywhere. */
static bool
above(const DistilMaskKey *a, const DistilMaskKey *b)
{
	return a->key > b->key || (a->key == b->key && a->position > b->position);
}

static void
sift_down(DistilMaskKey *heap, int n, int at)
{
	for (;;)
	{
		int			top = at;
		int			child = 2 * at + 1;
		DistilMaskKey swap;

		if (child < n && above(&heap[child], &heap[top]))
			top = child;
		if (child + 1 < n && above(&heap[child + 1], &heap[top]))
			top = child + 1;
		if (top == at)
			return;
		swap = heap[at];
		heap[at] = heap[top];
		heap[top] = swap;
		at = top;
	}
}

int
distil_masking_apply(const DistilMasking *masking, int32_t *ids, int32_t *labels, int t,
					 DistilMaskKey *heap, DistilRng *rng)
{
	int			wanted = (int) ceil(masking->proportion * t);
	int			n = 0;
	int			i;

	for (i = 0; i < t; i++)
	{
		double		weight = masking->weights[ids[i]];
		DistilMaskKey key;

		labels[i] = DISTIL_NO_LABEL;
		if (weight <= 0 || wanted <= 0)
			continue;
		key.key = -log(distil_rng_uniform(rng)) / weight;
		key.position = i;
		if (n < wanted)
		{
			heap[n++] = key;
			if (n == wanted)
			{
				int			at;

				for (at = n / 2 - 1; at >= 0; at--)
					sift_down(heap, n, at);
			}
		}
		else if (above(&heap[0], &key))
		{
			heap[0] = key;
			sift_down(heap, n, 0);
		}
	}
	for (i = 0; i < n; i++)
		labels[heap[i].position] = ids[heap[i].position];
	for (i = 0; i < t; i++)
	{
		double		u;

		if (labels[i] == DISTIL_NO_LABEL)
			continue;
		u = distil_rng_uniform(rng);
		if (u <= masking->word_mask)
			ids[i] = masking->mask_id;
		else if (u > masking->word_mask + masking->word_keep)
			ids[i] = (int32_t) distil_rng_below(rng, (uint64_t) masking->vocabulary);
	}
	return n;
}
