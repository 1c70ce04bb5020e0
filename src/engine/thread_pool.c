/*
 * thread_pool.c
 *		See thread_pool.h.
 *
 * mutex protects generation, running, taking, quit, the workers' `ended` and what a run sets;
 * status and error of a worker belong to it while it runs.  stop, limit and next are read
 * and written without the mutex.
 */
#include "thread_pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "alloc.h"
#include "status.h"

#define WAIT_MILLISECONDS 5		/* between polls of the host while waiting */

typedef struct PoolWorker
{
	DistilPool *pool;
	int			number;
	pthread_t	thread;
	bool		started;		/* to be joined; only the calling thread looks at it */
	bool		ended;			/* by itself */
	uint64_t	seen;			/* the last generation it has looked at */
	DistilPoll	poll;
	DistilStatus status;
	DistilError error;
} PoolWorker;

struct DistilPool
{
	const DistilAllocator *alloc;
	const DistilPoll *host;
	int			n;
	int			idle_ms;		/* after which a thread ends; 0: never */
	PoolWorker *workers;
	pthread_mutex_t mutex;
	pthread_cond_t work;
	pthread_cond_t done;
	uint64_t	generation;
	int			taking;			/* workers of the run at work, the first ones */
	int			running;		/* of them, threads that have not finished */
	bool		quit;
	bool		finishing;
	bool		stop_asked;		/* by the host, while finishing */
	atomic_bool stop;
	atomic_int	limit;
	atomic_int	next;			/* item nobody has taken, of a run without owners */
	DistilPoolFn fn;
	void	   *ctx;
	int			nitems;
	const int  *owner;
};

/* ---------- work ---------- */

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

/* The worker's next item after `item` (-1: its first); nitems when there is none. */
static int
next_item(PoolWorker *worker, int item)
{
	DistilPool *pool = worker->pool;

	if (pool->owner == NULL)
	{
		if (worker->number >= atomic_load_explicit(&pool->limit, memory_order_relaxed))
			return pool->nitems;
		return atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
	}
	for (item++; item < pool->nitems; item++)
		if (pool->owner[item] == worker->number)
			break;
	return item;
}

static void
work(PoolWorker *worker)
{
	DistilPool *pool = worker->pool;
	int			i;

	worker->status = DISTIL_OK;
	for (i = next_item(worker, -1); i < pool->nitems; i = next_item(worker, i))
	{
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

/* ---------- threads ---------- */

static struct timespec
time_after(int milliseconds)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += milliseconds / 1000;
	until.tv_nsec += (long) (milliseconds % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000)
	{
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	return until;
}

/* Wait for a run that wants this worker, with the mutex held; false: end. */
static bool
wait_for_run(PoolWorker *worker)
{
	DistilPool *pool = worker->pool;
	struct timespec until = time_after(pool->idle_ms);

	for (;;)
	{
		bool		late = false;

		if (pool->quit)
			return false;
		if (worker->seen != pool->generation)
		{
			worker->seen = pool->generation;
			if (worker->number < pool->taking)
				return true;
		}
		if (pool->idle_ms > 0)
			late = pthread_cond_timedwait(&pool->work, &pool->mutex, &until) == ETIMEDOUT;
		else
			pthread_cond_wait(&pool->work, &pool->mutex);
		if (late && (worker->seen == pool->generation || worker->number >= pool->taking))
			return false;
	}
}

static void *
thread_main(void *arg)
{
	PoolWorker *worker = arg;
	DistilPool *pool = worker->pool;

	pthread_mutex_lock(&pool->mutex);
	while (wait_for_run(worker))
	{
		pthread_mutex_unlock(&pool->mutex);
		work(worker);
		pthread_mutex_lock(&pool->mutex);
		if (--pool->running == 0)
			pthread_cond_signal(&pool->done);
	}
	worker->ended = true;
	pthread_mutex_unlock(&pool->mutex);
	return NULL;
}

/* Threads for workers 1 .. wanted - 1, with the mutex held; gives how many workers there are. */
static int
start_threads(DistilPool *pool, int wanted)
{
	sigset_t	all;
	sigset_t	before;
	int			i;

	for (i = 1; i < wanted; i++)
	{
		PoolWorker *worker = &pool->workers[i];
		int			failed;

		if (worker->started && !worker->ended)
			continue;
		if (worker->started)
			pthread_join(worker->thread, NULL);
		worker->ended = false;
		worker->seen = pool->generation;
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		failed = pthread_create(&worker->thread, NULL, thread_main, worker);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		worker->started = failed == 0;
		if (failed != 0)
			break;
	}
	return i;
}

DistilStatus
distil_pool_create(DistilPool **result, int nworkers, int idle_ms, const DistilPoll *poll,
				   const DistilAllocator *alloc, DistilError *err)
{
	DistilPool *pool = distil_alloc_array(alloc, 1, sizeof(DistilPool));
	pthread_condattr_t monotonic;
	int			i;

	*result = NULL;
	if (pool == NULL)
		return distil_fail_memory(err, sizeof(DistilPool));
	pool->workers = distil_alloc_array(alloc, (size_t) nworkers, sizeof(PoolWorker));
	if (pool->workers == NULL)
	{
		distil_release(alloc, pool);
		return distil_fail_memory(err, (size_t) nworkers * sizeof(PoolWorker));
	}
	pool->alloc = alloc;
	pool->host = poll;
	pool->n = nworkers;
	pool->idle_ms = idle_ms;
	atomic_init(&pool->stop, false);
	atomic_init(&pool->limit, nworkers);
	atomic_init(&pool->next, 0);
	pthread_mutex_init(&pool->mutex, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->work, &monotonic);
	pthread_cond_init(&pool->done, &monotonic);
	pthread_condattr_destroy(&monotonic);
	for (i = 0; i < nworkers; i++)
	{
		pool->workers[i].pool = pool;
		pool->workers[i].number = i;
		pool->workers[i].poll.stop = i == 0 ? first_worker_stop : other_worker_stop;
		pool->workers[i].poll.ctx = &pool->workers[i];
	}
	*result = pool;
	return DISTIL_OK;
}

void
distil_pool_stop(DistilPool *pool)
{
	int			i;

	if (pool == NULL)
		return;
	atomic_store_explicit(&pool->stop, true, memory_order_relaxed);
	pthread_mutex_lock(&pool->mutex);
	pool->quit = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->mutex);
	for (i = 1; i < pool->n; i++)
	{
		if (pool->workers[i].started)
			pthread_join(pool->workers[i].thread, NULL);
		pool->workers[i].started = false;
	}
}

void
distil_pool_free(DistilPool *pool)
{
	if (pool == NULL)
		return;
	distil_pool_stop(pool);
	pthread_cond_destroy(&pool->work);
	pthread_cond_destroy(&pool->done);
	pthread_mutex_destroy(&pool->mutex);
	distil_release(pool->alloc, pool->workers);
	distil_release(pool->alloc, pool);
}

/* ---------- runs ---------- */

/* Start a run on as many workers as it can use. */
static DistilStatus
begin_run(DistilPool *pool, DistilError *err)
{
	int			wanted = pool->n;
	int			limit = atomic_load_explicit(&pool->limit, memory_order_relaxed);
	int			workers;

	if (pool->owner == NULL && wanted > limit)
		wanted = limit;
	if (pool->owner == NULL && wanted > pool->nitems)
		wanted = pool->nitems > 0 ? pool->nitems : 1;
	if (wanted < 2)
		return DISTIL_OK;
	pthread_mutex_lock(&pool->mutex);
	workers = start_threads(pool, wanted);
	if (workers == wanted || pool->owner == NULL)
	{
		pool->taking = workers;
		pool->running = workers - 1;
		pool->generation++;
		pthread_cond_broadcast(&pool->work);
	}
	pthread_mutex_unlock(&pool->mutex);
	if (workers == wanted || pool->owner == NULL)
		return DISTIL_OK;
	distil_fail(err, DISTIL_ERR_DEVICE, "could not start a thread");
	return distil_fail_detail(err, DISTIL_ERR_DEVICE, "Thread %d of %d.", workers, wanted);
}

/* Wait for the other workers, asking the host whether to go on. */
static void
wait_for_workers(DistilPool *pool)
{
	pthread_mutex_lock(&pool->mutex);
	while (pool->running > 0)
	{
		struct timespec until = time_after(WAIT_MILLISECONDS);

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
	for (i = 0; i < pool->n; i++)
		pool->workers[i].status = DISTIL_OK;
	atomic_store_explicit(&pool->stop, false, memory_order_relaxed);
	atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
	DISTIL_FORWARD(begin_run(pool, err));
	work(&pool->workers[0]);
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

int
distil_pool_workers(const DistilPool *pool)
{
	return pool->n;
}

int
distil_pool_limited(const DistilPool *pool)
{
	return atomic_load_explicit(&pool->limit, memory_order_relaxed);
}

void
distil_pool_limit(DistilPool *pool, int workers)
{
	atomic_store_explicit(&pool->limit, workers, memory_order_relaxed);
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
