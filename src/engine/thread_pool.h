/*
 * thread_pool.h
 *		Threads that share numbered pieces of work, the calling thread being the first worker.
 *
 * The threads block all signals and touch nothing but what the run's function touches.
 * The host's poll function is called by the calling thread only; the others look at a
 * flag that it sets.  Threads start with the first run that wants them and end after a
 * while without one.
 * The rule a newcomer would break: which worker does an item must not change the result,
 * unless owners are given; so an item writes only what is its own.
 */
#ifndef DISTIL_THREAD_POOL_H
#define DISTIL_THREAD_POOL_H

#include "distil_engine.h"

typedef DistilStatus (*DistilPoolFn) (void *ctx, int worker, int item, DistilError *err);

/*
 * fn(ctx, worker, item) for all items.  owner [nitems] names each item's worker, which does
 * its own in order, whatever distil_pool_limit() says; DISTIL_ERR_DEVICE when a thread cannot
 * be started.  owner NULL: a worker takes the lowest item that nobody has taken; threads that
 * cannot be started are done without.  The first failure stops the others.
 */
extern DistilStatus distil_pool_run(DistilPool *pool, DistilPoolFn fn, void *ctx, int nitems,
									const int *owner, DistilError *err);
extern int	distil_pool_workers(const DistilPool *pool);
/* How many of them distil_pool_limit() allows now. */
extern int	distil_pool_limited(const DistilPool *pool);
/* The poll a worker's compute calls get. */
extern const DistilPoll *distil_pool_poll(const DistilPool *pool, int worker);
/*
 * While finishing, the host is still polled but a stop is only remembered: for the update
 * of the weights, which must not end halfway.  Leaving gives whether a stop was asked for.
 */
extern void distil_pool_finishing(DistilPool *pool);
extern bool distil_pool_finished(DistilPool *pool);

#endif							/* DISTIL_THREAD_POOL_H */
