/*
 * sampler.h
 *		Which sequences a micro-batch holds: a seeded permutation per epoch, grouped by length.
 *
 * Grouping as in the DistilBERT scripts: bins 3, 7, 11, ... below max_len; walking the
 * permutation, each sequence joins its bin's buffer, a full buffer becomes a batch; the
 * left-overs are joined by ascending bin and cut into batches, the last possibly short.
 */
#ifndef DISTIL_SAMPLER_H
#define DISTIL_SAMPLER_H

#include "distil_engine.h"

typedef struct DistilSampler
{
	const DistilAllocator *alloc;
	const int32_t *items;		/* [n] sequence numbers taking part, borrowed */
	const uint64_t *starts;		/* of the spool */
	int32_t		n;
	int			batch_size;
	int64_t		batches;		/* per epoch */
	int64_t		seed;
	int			groups;			/* 0: no grouping by length */
	int64_t		epoch;			/* whose order is in `order`; -1: none */
	int32_t    *order;			/* [n] sequence numbers in the order of the epoch */
	int32_t    *buffers;		/* [groups, batch_size] */
	int		   *filled;			/* [groups] */
} DistilSampler;

/* max_len 0: batches are cut from the permutation as it is. */
extern DistilStatus distil_sampler_create(DistilSampler **sampler, const int32_t *items, int32_t n,
										  const uint64_t *starts, int batch_size, int max_len, int64_t seed,
										  const DistilAllocator *alloc, DistilError *err);
/*
 * Micro-batch number `batch` since the beginning of the job: *sequences [*n], borrowed until the next call.
 */
extern void distil_sampler_batch(DistilSampler *sampler, int64_t batch, const int32_t **sequences, int *n);
extern void distil_sampler_free(DistilSampler *sampler);	/* takes NULL */

#endif							/* DISTIL_SAMPLER_H */
