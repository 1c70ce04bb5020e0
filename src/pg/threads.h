/*
 * threads.h
 *		This backend's threads, and how many all processes of the server run.
 */
#ifndef DISTIL_THREADS_H
#define DISTIL_THREADS_H

#include "model_cache.h"

/* Processors that this process may use. */
extern int	distil_threads_cores(void);

/*
 * Before a call of the engine over n texts: lets threads share it, as distil.threads says, and
 * tells the other processes.  Nothing may throw before distil_threads_end().
 */
extern void distil_threads_begin(DistilOpenModel *open, int n);
extern void distil_threads_end(void);
/* Most threads that such a call was given since this was asked last, 0 without a call. */
extern int	distil_threads_most(void);

/* Tell the other processes that this one runs so many threads (a training), 0 when it has ended. */
extern void distil_threads_announce(int n);

#endif							/* DISTIL_THREADS_H */
