/*
 * gpu_worker.h
 *		The GPU service: a background worker, and the process below it that has the device.
 */
#ifndef DISTIL_GPU_WORKER_H
#define DISTIL_GPU_WORKER_H

#include "compat.h"
#include "gpu_protocol.h"

/* Entry point of the background worker. */
extern PGDLLEXPORT void distil_gpu_main(Datum arg);

/*
 * What its child process does, until the worker closes `control` or nobody wants anything any more:
 * serves the connections that `listener` takes.  Settings come through `control`.
 */
pg_noreturn extern void distil_gpu_serve(int listener, int control);

/* Milliseconds of a clock that nobody sets. */
extern int64 distil_gpu_clock(void);

/* ---------- models on the device: gpu_models.c ---------- */

/* Memory for models; those on the device are given up when it changes. */
extern void distil_gpu_limit(int64 bytes);
/*
 * A session on the device over the model of a key, borrowed until the next call; others have to go when
 * memory is short.  poll (borrowed for the life of the process) is that of all sessions.
 */
extern DistilStatus distil_gpu_session(DistilSession **session, int *dimensions, const DistilGpuKey *key,
									   const DistilPoll *poll, DistilError *err);
/* Has the device failed, or could it not be opened?  Then this process is of no use any more. */
extern bool distil_gpu_lost(void);
/* Fills what it knows: device, models, evictions. */
extern void distil_gpu_models_status(DistilGpuStatus *status);

#endif							/* DISTIL_GPU_WORKER_H */
