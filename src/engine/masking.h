/*
 * masking.h
 *		Dynamic masking for masked-language-model losses, as in the DistilBERT scripts.
 *
 * Over the flattened micro-batch (special tokens counted), ceil(proportion * T) distinct
 * positions are drawn without replacement with probability in proportion to
 * max(count, 1)^-smoothing of their token; special tokens have weight 0.  Each drawn
 * position becomes [MASK], stays, or becomes a random id; its label is the original id.
 * Drawing: the smallest E / w with E ~ Exp(1) (Efraimidis and Spirakis, 2006).
 */
#ifndef DISTIL_MASKING_H
#define DISTIL_MASKING_H

#include "distil_engine.h"
#include "rng.h"

#define DISTIL_NO_LABEL (-100)

typedef struct DistilMasking
{
	const double *weights;		/* [vocabulary] */
	int			vocabulary;
	int32_t		mask_id;
	double		proportion;
	double		word_mask;
	double		word_keep;		/* the rest is random */
} DistilMasking;

/* weights [vocabulary] from token counts [vocabulary] */
extern void distil_masking_weights(double *weights, const int64_t *counts, int vocabulary, double smoothing,
								   const DistilSpecialIds *special);

/* One position of the heap that holds the best keys. */
typedef struct DistilMaskKey
{
	double		key;
	int32_t		position;
} DistilMaskKey;

/*
 * ids [t] are changed in place, labels [t] filled; heap [t] is scratch.  Returns the
 * number of labelled positions: min(ceil(proportion * t), positions with a weight).
 */
extern int	distil_masking_apply(const DistilMasking *masking, int32_t *ids, int32_t *labels, int t,
								 DistilMaskKey *heap, DistilRng *rng);

#endif							/* DISTIL_MASKING_H */
