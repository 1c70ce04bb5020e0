/*
 * gpu_client.h
 *		A backend's side of the GPU service.
 */
#ifndef DISTIL_GPU_CLIENT_H
#define DISTIL_GPU_CLIENT_H

#include "model_cache.h"

/*
 * Shall embeddings be computed by the GPU now?  By distil.device; under auto not where there is no driver,
 * and not for a while after a failure.
 */
extern bool distil_gpu_wanted(void);

/*
 * Before distil_session_embed: lets the session ask the service, which is started when it does not run.
 * false: the session computes by itself.  Errors (58000) only where distil.device demands the GPU.
 * After true, nothing may throw before distil_gpu_end().
 */
extern bool distil_gpu_begin(DistilOpenModel *open);
/* After it; warns, once in a session, when the CPU had to do it. */
extern void distil_gpu_end(DistilOpenModel *open);

/* One line about the running service, palloc'd; NULL: none runs. */
extern char *distil_gpu_describe(void);

#endif							/* DISTIL_GPU_CLIENT_H */
