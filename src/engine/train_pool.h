/*
 * train_pool.h
 *		The trainer's threads: one per device, the calling thread being the first.
 *
 * A run hands numbered items to workers by a fixed rule, so the same worker count gives
 * the same sums.  The threads block all signals, allocate nothing and touch nothing but
 * what the run's function touches.  The host's poll function is called by the calling
 * thread only; the others look at a flag that it sets.
 */
#ifndef DISTIL_TRAIN_POOL_H
#define DISTIL_TRAIN_POOL_H

#include "distil_engine.h"

typedef struct DistilPool DistilPool;
typedef DistilStatus (*DistilPoolFn) (void *ctx, int worker, int item, DistilError *err);

/* nworkers >= 1; nworkers - 1 threads are started.  poll may be NULL. */
extern DistilStatus distil_pool_create(DistilPool **pool, int nworkers, const DistilPoll *poll,
									   const DistilAllocator *alloc, DistilError *err);
/*
 * fn(ctx, worker, item) for all items, in order within a worker.  owner [nitems] names
 * each item's worker; NULL: item % nworkers.  The first failure stops the others.
 */
extern DistilStatus distil_pool_run(DistilPool *pool, DistilPoolFn fn, void *ctx, int nitems,
									const int *owner, DistilError *err);
/* The poll a worker's compute calls get. */
extern const DistilPoll *distil_pool_poll(const DistilPool *pool, int worker);
/*
 * While finishing, the host is still polled but a stop is only remembered: for the update
 * of the weights, which must not end halfway.  Leaving gives whether a stop was asked for.
 */
extern void distil_pool_finishing(DistilPool *pool);
extern bool distil_pool_finished(DistilPool *pool);
extern void distil_pool_free(DistilPool *pool);	/* joins; takes NULL */

#endif							/* DISTIL_TRAIN_POOL_H */
