/*
 * train_pool.c
 *		See train_pool.h.
 *
 * mutex protects generation, running, quit and what a run sets; status and error of a
 * worker belong to it while it runs.  `stop` is the only field read without the mutex.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "alloc.h"
#include "status.h"
#include "train_pool.h"

#define WAIT_NANOSECONDS 5000000	/* between polls of the host while waiting */

typedef struct PoolWorker
{
	DistilPool *pool;
	int			number;
	pthread_t	thread;
	bool		started;
	DistilPoll	poll;
	DistilStatus status;
	DistilError error;
} PoolWorker;

struct DistilPool
{
	const DistilAllocator *alloc;
	const DistilPoll *host;
	int			n;
	PoolWorker *workers;
	pthread_mutex_t mutex;
	pthread_cond_t work;
	pthread_cond_t done;
	uint64_t	generation;
	int			running;
	bool		quit;
	bool		finishing;
	bool		stop_asked;		/* by the host, while finishing */
	atomic_bool stop;
	DistilPoolFn fn;
	void	   *ctx;
	int			nitems;
	const int  *owner;
};

static bool
ask_host(DistilPool *pool)
{
	if (pool->host == NULL || pool->host->stop == NULL || !pool->host->stop(pool->host->ctx))
		return false;
	if (pool->finishing)
	{
		pool->stop_asked = true;
		return false;
	}
	atomic_store_explicit(&pool->stop, true, memory_order_relaxed);
	return true;
}

static bool
first_worker_stop(void *ctx)
{
	PoolWorker *worker = ctx;

	return ask_host(worker->pool) || atomic_load_explicit(&worker->pool->stop, memory_order_relaxed);
}

static bool
other_worker_stop(void *ctx)
{
	PoolWorker *worker = ctx;

	return atomic_load_explicit(&worker->pool->stop, memory_order_relaxed);
}

static void
work(PoolWorker *worker)
{
	DistilPool *pool = worker->pool;
	int			i;

	worker->status = DISTIL_OK;
	for (i = 0; i < pool->nitems; i++)
	{
		if ((pool->owner != NULL ? pool->owner[i] : i % pool->n) != worker->number)
			continue;
		if (worker->poll.stop(worker->poll.ctx))
			worker->status = distil_fail_cancelled(&worker->error);
		else
			worker->status = pool->fn(pool->ctx, worker->number, i, &worker->error);
		if (worker->status != DISTIL_OK)
		{
			atomic_store_explicit(&pool->stop, true, memory_order_relaxed);
			return;
		}
	}
}

static void *
thread_main(void *arg)
{
	PoolWorker *worker = arg;
	DistilPool *pool = worker->pool;
	uint64_t	seen = 0;

	pthread_mutex_lock(&pool->mutex);
	for (;;)
	{
		while (!pool->quit && pool->generation == seen)
			pthread_cond_wait(&pool->work, &pool->mutex);
		if (pool->quit)
			break;
		seen = pool->generation;
		pthread_mutex_unlock(&pool->mutex);
		work(worker);
		pthread_mutex_lock(&pool->mutex);
		if (--pool->running == 0)
			pthread_cond_signal(&pool->done);
	}
	pthread_mutex_unlock(&pool->mutex);
	return NULL;
}

static DistilStatus
start_threads(DistilPool *pool, DistilError *err)
{
	sigset_t	all;
	sigset_t	before;
	int			failed = 0;
	int			i;

	sigfillset(&all);
	if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
		return distil_fail(err, DISTIL_ERR_DEVICE, "could not block signals for training threads");
	for (i = 1; i < pool->n && failed == 0; i++)
	{
		failed = pthread_create(&pool->workers[i].thread, NULL, thread_main, &pool->workers[i]);
		pool->workers[i].started = failed == 0;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (failed != 0)
	{
		distil_fail(err, DISTIL_ERR_DEVICE, "could not start a training thread");
		return distil_fail_detail(err, DISTIL_ERR_DEVICE, "Thread %d of %d, error %d.", i - 1, pool->n,
								  failed);
	}
	return DISTIL_OK;
}

DistilStatus
distil_pool_create(DistilPool **result, int nworkers, const DistilPoll *poll,
				   const DistilAllocator *alloc, DistilError *err)
{
	DistilPool *pool = distil_alloc_array(alloc, 1, sizeof(DistilPool));
	pthread_condattr_t monotonic;
	DistilStatus status;
	int			i;

	*result = NULL;
	if (pool == NULL)
		return distil_fail_memory(err, sizeof(DistilPool));
	pool->alloc = alloc;
	pool->host = poll;
	pool->n = nworkers;
	pthread_mutex_init(&pool->mutex, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->done, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pool->workers = distil_alloc_array(alloc, (size_t) nworkers, sizeof(PoolWorker));
	for (i = 0; pool->workers != NULL && i < nworkers; i++)
	{
		pool->workers[i].pool = pool;
		pool->workers[i].number = i;
		pool->workers[i].poll.stop = i == 0 ? first_worker_stop : other_worker_stop;
		pool->workers[i].poll.ctx = &pool->workers[i];
	}
	status = pool->workers != NULL ? start_threads(pool, err) : distil_fail_memory(err, sizeof(PoolWorker));
	if (status != DISTIL_OK)
	{
		distil_pool_free(pool);
		return status;
	}
	*result = pool;
	return DISTIL_OK;
}

/* Wait for the other workers, asking the host whether to go on. */
static void
wait_for_workers(DistilPool *pool)
{
	pthread_mutex_lock(&pool->mutex);
	while (pool->running > 0)
	{
		struct timespec until;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += WAIT_NANOSECONDS;
		if (until.tv_nsec >= 1000000000)
		{
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		if (pthread_cond_timedwait(&pool->done, &pool->mutex, &until) == ETIMEDOUT)
		{
			pthread_mutex_unlock(&pool->mutex);
			ask_host(pool);
			pthread_mutex_lock(&pool->mutex);
		}
	}
	pthread_mutex_unlock(&pool->mutex);
}

DistilStatus
distil_pool_run(DistilPool *pool, DistilPoolFn fn, void *ctx, int nitems, const int *owner, DistilError *err)
{
	int			worst = -1;
	bool		stopped;
	int			i;

	pool->fn = fn;
	pool->ctx = ctx;
	pool->nitems = nitems;
	pool->owner = owner;
	atomic_store_explicit(&pool->stop, false, memory_order_relaxed);
	if (pool->n > 1)
	{
		pthread_mutex_lock(&pool->mutex);
		pool->running = pool->n - 1;
		pool->generation++;
		pthread_cond_broadcast(&pool->work);
		pthread_mutex_unlock(&pool->mutex);
	}
	work(&pool->workers[0]);
	if (pool->n > 1)
		wait_for_workers(pool);
	for (i = 0; i < pool->n; i++)
	{
		DistilStatus status = pool->workers[i].status;

		if (status == DISTIL_OK)
			continue;
		/* A failure counts more than the stops it caused. */
		if (worst < 0 || (pool->workers[worst].status == DISTIL_ERR_CANCELLED &&
						  status != DISTIL_ERR_CANCELLED))
			worst = i;
	}
	/* The flag ends with this run: what follows a cancelled step (a checkpoint) asks the host anew. */
	stopped = atomic_exchange_explicit(&pool->stop, false, memory_order_relaxed);
	if (worst >= 0)
	{
		*err = pool->workers[worst].error;
		return pool->workers[worst].status;
	}
	/* The host said stop when everybody had just finished. */
	if (stopped)
		return distil_fail_cancelled(err);
	return DISTIL_OK;
}

const DistilPoll *
distil_pool_poll(const DistilPool *pool, int worker)
{
	return &pool->workers[worker].poll;
}

void
distil_pool_finishing(DistilPool *pool)
{
	pool->finishing = true;
	pool->stop_asked = false;
}

bool
distil_pool_finished(DistilPool *pool)
{
	pool->finishing = false;
	return pool->stop_asked;
}

void
distil_pool_free(DistilPool *pool)
{
	int			i;

	if (pool == NULL)
		return;
	pthread_mutex_lock(&pool->mutex);
	pool->quit = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->mutex);
	for (i = 1; pool->workers != NULL && i < pool->n; i++)
		if (pool->workers[i].started)
			pthread_join(pool->workers[i].thread, NULL);
	pthread_cond_destroy(&pool->work);
	pthread_cond_destroy(&pool->done);
	pthread_mutex_destroy(&pool->mutex);
	distil_release(pool->alloc, pool->workers);
	distil_release(pool->alloc, pool);
}
