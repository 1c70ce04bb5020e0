/*
 * test_thread_pool.c
 *		The pool of threads: every item once, owners, limits, stops, failures, blocked
 *		signals, threads that end when idle and start again.
 */
#include "check.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "alloc.h"
#include "status.h"
#include "thread_pool.h"

#define ITEMS 1000
#define WORKERS 4

typedef struct Work
{
	atomic_int	done[ITEMS];
	int			worker[ITEMS];	/* who did it */
	atomic_int	arrived;
	int			meet;			/* items wait until so many have arrived */
	int			fail_at;		/* -1: none */
	atomic_int	open_signals;	/* threads that some signal could reach */
	DistilPool *pool;
	int			limit_at;		/* item that sets the limit to 1; -1: none */
} Work;

static void
pause_a_moment(void)
{
	struct timespec moment = {0, 1000000};

	nanosleep(&moment, NULL);
}

/* Threads without any of a pool: a sanitizer may have one of its own, from the first thread on. */
static int	at_first;

/* Threads of this process but those, the calling one counted. */
static int
count_threads(void)
{
	DIR		   *dir = opendir("/proc/self/task");
	struct dirent *entry;
	int			n = at_first > 0 ? 1 - at_first : 0;

	while (dir != NULL && (entry = readdir(dir)) != NULL)
		n += entry->d_name[0] != '.';
	if (dir != NULL)
		closedir(dir);
	return n;
}

static void *
count_first(void *arg)
{
	(void) arg;
	at_first = count_threads() - 1;
	return NULL;
}

/* Wait, for 20 seconds at most: a thread that has been joined is listed for a moment still. */
static bool
threads_become(int n)
{
	int			i;

	for (i = 0; i < 20000 && count_threads() != n; i++)
		pause_a_moment();
	return count_threads() == n;
}

/* No use in waiting then: a stopped worker takes no item.  (Only the calling thread asks the host.) */
static bool
is_stopped(const Work *work, int worker)
{
	const DistilPoll *poll = distil_pool_poll(work->pool, worker);

	return worker > 0 && poll->stop(poll->ctx);
}

static DistilStatus
do_item(void *ctx, int worker, int item, DistilError *err)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGURG, SIGCHLD, SIGHUP};
	Work	   *work = ctx;
	sigset_t	blocked;
	size_t		i;
	int			waited = 0;

	atomic_fetch_add(&work->done[item], 1);
	work->worker[item] = worker;
	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	for (i = 0; worker > 0 && i < sizeof(signals) / sizeof(signals[0]); i++)
		if (!sigismember(&blocked, signals[i]))
			atomic_fetch_add(&work->open_signals, 1);
	atomic_fetch_add(&work->arrived, 1);
	while (atomic_load(&work->arrived) < work->meet && waited++ < 20000 && !is_stopped(work, worker))
		pause_a_moment();
	if (item == work->limit_at)
		distil_pool_limit(work->pool, 1);
	if (item == work->fail_at)
		return distil_fail(err, DISTIL_ERR_LIMIT, "item %d", item);
	return DISTIL_OK;
}

static DistilPool *
open_pool(int workers, int idle_ms, const DistilPoll *poll)
{
	DistilPool *pool = NULL;
	DistilError err;

	CHECK(distil_pool_create(&pool, workers, idle_ms, poll, distil_alloc_system(), &err) == DISTIL_OK);
	return pool;
}

static void
reset(Work *work, DistilPool *pool)
{
	memset(work, 0, sizeof(*work));
	work->fail_at = work->limit_at = -1;
	work->pool = pool;
}

static int
done_once(const Work *work, int nitems)
{
	int			n = 0;
	int			i;

	for (i = 0; i < nitems; i++)
		n += atomic_load(&work->done[i]) == 1;
	return n;
}

static void
test_items(void)
{
	static Work work;
	int			owner[ITEMS];
	int			workers;
	DistilError err;
	int			i;

	for (workers = 1; workers <= WORKERS; workers++)
	{
		DistilPool *pool = open_pool(workers, 0, NULL);
		int			wrong = 0;

		CHECK(distil_pool_workers(pool) == workers);
		reset(&work, pool);
		CHECK(distil_pool_run(pool, do_item, &work, ITEMS, NULL, &err) == DISTIL_OK);
		CHECK(done_once(&work, ITEMS) == ITEMS);
		/* nothing to do, and less to do than workers */
		CHECK(distil_pool_run(pool, do_item, &work, 0, NULL, &err) == DISTIL_OK);
		reset(&work, pool);
		CHECK(distil_pool_run(pool, do_item, &work, 1, NULL, &err) == DISTIL_OK);
		CHECK(done_once(&work, 1) == 1 && work.worker[0] == 0);
		reset(&work, pool);
		for (i = 0; i < ITEMS; i++)
			owner[i] = (i / 7) % workers;
		CHECK(distil_pool_run(pool, do_item, &work, ITEMS, owner, &err) == DISTIL_OK);
		CHECK(done_once(&work, ITEMS) == ITEMS);
		for (i = 0; i < ITEMS; i++)
			wrong += work.worker[i] != owner[i];
		CHECK(wrong == 0);
		CHECK(atomic_load(&work.open_signals) == 0);
		/* all of them at once: each item waits for the others */
		reset(&work, pool);
		work.meet = workers;
		CHECK(distil_pool_run(pool, do_item, &work, workers, NULL, &err) == DISTIL_OK);
		CHECK(atomic_load(&work.arrived) == workers && atomic_load(&work.open_signals) == 0);
		distil_pool_free(pool);
		CHECK(threads_become(1));
	}
}

static void
test_limit(void)
{
	static Work work;
	DistilPool *pool = open_pool(WORKERS, 0, NULL);
	DistilError err;
	int			others = 0;
	int			i;

	distil_pool_limit(pool, 1);
	reset(&work, pool);
	CHECK(distil_pool_run(pool, do_item, &work, ITEMS, NULL, &err) == DISTIL_OK);
	for (i = 0; i < ITEMS; i++)
		others += work.worker[i] != 0;
	CHECK(done_once(&work, ITEMS) == ITEMS && others == 0);
	CHECK(threads_become(1));
	distil_pool_limit(pool, 2);
	reset(&work, pool);
	work.meet = 2;
	CHECK(distil_pool_run(pool, do_item, &work, 2, NULL, &err) == DISTIL_OK);
	CHECK(count_threads() == 2);
	/* from the middle of a run on: the others end what they have begun */
	distil_pool_limit(pool, WORKERS);
	reset(&work, pool);
	work.meet = WORKERS;
	work.limit_at = 10;
	CHECK(distil_pool_run(pool, do_item, &work, ITEMS, NULL, &err) == DISTIL_OK);
	CHECK(done_once(&work, ITEMS) == ITEMS);
	for (i = 10 + WORKERS; i < ITEMS; i++)
		others += work.worker[i] != 0;
	CHECK(others <= WORKERS);
	distil_pool_free(pool);
}

typedef struct Stop
{
	int			after;			/* polls */
	int			polls;
	pthread_t	thread;
	bool		foreign;		/* polled by another thread */
} Stop;

static bool
stop_after(void *ctx)
{
	Stop	   *stop = ctx;

	if (!pthread_equal(pthread_self(), stop->thread))
		stop->foreign = true;
	return ++stop->polls > stop->after;
}

static void
test_stop(void)
{
	static Work work;
	Stop		stop = {.after = 5, .thread = pthread_self()};
	DistilPoll	poll = {stop_after, &stop};
	DistilPool *pool = open_pool(WORKERS, 0, &poll);
	DistilError err;
	int			i;

	for (i = 0; i < 20; i++)
	{
		reset(&work, pool);
		stop.polls = 0;
		stop.after = i;
		work.meet = WORKERS;	/* so that the calling thread takes part */
		CHECK(distil_pool_run(pool, do_item, &work, ITEMS, NULL, &err) == DISTIL_ERR_CANCELLED || i > 0);
		/* the stop ends with the run */
		stop.after = 1 << 30;
		reset(&work, pool);
		CHECK(distil_pool_run(pool, do_item, &work, ITEMS, NULL, &err) == DISTIL_OK);
		CHECK(done_once(&work, ITEMS) == ITEMS);
	}
	CHECK(!stop.foreign);
	/* a stop is only remembered while finishing */
	stop.after = -1;
	distil_pool_finishing(pool);
	reset(&work, pool);
	work.meet = WORKERS;
	CHECK(distil_pool_run(pool, do_item, &work, ITEMS, NULL, &err) == DISTIL_OK);
	CHECK(done_once(&work, ITEMS) == ITEMS && distil_pool_finished(pool));
	distil_pool_free(pool);
}

static void
test_failure(void)
{
	static Work work;
	DistilPool *pool = open_pool(WORKERS, 0, NULL);
	DistilError err;
	int			i;

	for (i = 0; i < 50; i++)
	{
		reset(&work, pool);
		work.fail_at = i;
		CHECK(distil_pool_run(pool, do_item, &work, ITEMS, NULL, &err) == DISTIL_ERR_LIMIT);
		CHECK(strncmp(err.message, "item ", 5) == 0 && atoi(err.message + 5) == i);
	}
	distil_pool_free(pool);
}

static void
test_idle(void)
{
	static Work work;
	DistilPool *pool;
	DistilError err;
	int			i;

	CHECK(threads_become(1));	/* those of the pools before */
	pool = open_pool(WORKERS, 30, NULL);
	CHECK(count_threads() == 1);	/* none before the first run */
	for (i = 0; i < 3; i++)
	{
		reset(&work, pool);
		work.meet = WORKERS;
		CHECK(distil_pool_run(pool, do_item, &work, WORKERS, NULL, &err) == DISTIL_OK);
		CHECK(atomic_load(&work.arrived) == WORKERS);
		CHECK(threads_become(1));
	}
	distil_pool_free(pool);
	distil_pool_free(NULL);
}

/* Threads that end at the very time a run begins. */
static void
test_idle_races(void)
{
	static Work work;
	DistilPool *pool = open_pool(WORKERS, 1, NULL);
	DistilError err;
	int			i;

	for (i = 0; i < 300; i++)
	{
		reset(&work, pool);
		CHECK(distil_pool_run(pool, do_item, &work, 20, NULL, &err) == DISTIL_OK &&
			  done_once(&work, 20) == 20);
		if (i % 2 == 0)
			pause_a_moment();
	}
	distil_pool_free(pool);
	CHECK(threads_become(1));
}

static void *
no_memory(void *ctx, size_t bytes)
{
	int		   *left = ctx;

	return (*left)-- > 0 ? malloc(bytes) : NULL;
}

static void
release(void *ctx, void *memory)
{
	(void) ctx;
	free(memory);
}

static void
test_memory(void)
{
	int			n;

	for (n = 0; n < 2; n++)
	{
		int			left = n;
		DistilAllocator alloc = {no_memory, release, &left};
		DistilPool *pool = NULL;
		DistilError err;

		CHECK(distil_pool_create(&pool, WORKERS, 0, NULL, &alloc, &err) == DISTIL_ERR_MEMORY && pool == NULL);
	}
}

int
main(void)
{
	pthread_t	first;

	CHECK(pthread_create(&first, NULL, count_first, NULL) == 0 && pthread_join(first, NULL) == 0);
	test_items();
	test_limit();
	test_stop();
	test_failure();
	test_idle();
	test_idle_races();
	test_memory();
	return check_report("thread_pool");
}
