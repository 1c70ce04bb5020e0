/*
 * session_share.c
 *		A batch shared by the workers of a pool.
 *
 * Worker 0 is the caller's thread with the caller's session; every other worker has a
 * session over the same model, with its own device and memory.
 * The rule a newcomer would break: other workers take memory only from the allocator
 * given for them, the caller's belongs to the caller's thread.
 */
#include "session.h"

#include <string.h>

#include "thread_pool.h"

typedef struct SharedRun
{
	DistilSession *session;
	DistilSessionFn fn;
	void	   *ctx;
} SharedRun;

void
distil_session_share(DistilSession *session, DistilPool *pool, DistilDevice *const *devices,
					 const DistilAllocator *alloc)
{
	int			i;

	for (i = 1; session->helpers != NULL && i < distil_pool_workers(session->pool); i++)
		distil_session_free(session->helpers[i - 1]);
	distil_release(session->alloc, session->helpers);
	session->helpers = NULL;
	session->pool = pool;
	session->share_devices = devices;
	session->share_alloc = alloc;
}

int
distil_session_workers(const DistilSession *session)
{
	return session->pool != NULL ? distil_pool_limited(session->pool) : 1;
}

/* A DistilPoolFn */
static DistilStatus
run_item(void *ctx, int worker, int item, DistilError *err)
{
	const SharedRun *run = ctx;
	DistilSession *session = run->session;
	DistilSession **helper;

	if (worker == 0)
		return run->fn(run->ctx, session, item, err);
	helper = &session->helpers[worker - 1];
	if (*helper == NULL)
		DISTIL_FORWARD(distil_session_create(helper, session->model, session->share_devices[worker - 1],
											 session->memory_limit, session->share_alloc,
											 distil_pool_poll(session->pool, worker), err));
	return run->fn(run->ctx, *helper, item, err);
}

/* Add what the helpers have done to the session's figures. */
static void
collect_stats(DistilSession *session)
{
	int			i;

	for (i = 1; i < distil_pool_workers(session->pool); i++)
	{
		DistilSession *helper = session->helpers[i - 1];

		if (helper == NULL)
			continue;
		session->stats.texts += helper->stats.texts;
		session->stats.tokens += helper->stats.tokens;
		session->stats.batches += helper->stats.batches;
		session->stats.truncated += helper->stats.truncated;
		session->stats.tokenizer_seconds += helper->stats.tokenizer_seconds;
		session->stats.model_seconds += helper->stats.model_seconds;
		memset(&helper->stats, 0, sizeof(helper->stats));
	}
}

DistilStatus
distil_session_run(DistilSession *session, DistilSessionFn fn, void *ctx, int nitems, DistilError *err)
{
	SharedRun	run = {session, fn, ctx};
	DistilPoll	poll = session->poll;
	DistilStatus status = DISTIL_OK;
	int			i;

	if (nitems < 2 || distil_session_workers(session) < 2)
	{
		for (i = 0; i < nitems && status == DISTIL_OK; i++)
			status = fn(ctx, session, i, err);
		return status;
	}
	if (session->helpers == NULL)
		session->helpers = distil_alloc_array(session->alloc, (size_t) distil_pool_workers(session->pool),
											  sizeof(DistilSession *));
	if (session->helpers == NULL)
		return distil_fail_memory(err, (size_t) distil_pool_workers(session->pool) * sizeof(DistilSession *));
	session->poll = *distil_pool_poll(session->pool, 0);
	status = distil_pool_run(session->pool, run_item, &run, nitems, NULL, err);
	session->poll = poll;
	collect_stats(session);
	return status;
}
