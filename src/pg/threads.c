/*
 * threads.c
 *		This backend's pool of threads, and a table of what all processes of the server run.
 *
 * The table is a small file that all processes map: one entry for each of the server's
 * processes, written by it alone.  With distil.threads = 0 a batch gets the cores that no other
 * entry names, and gives threads back while it runs when others begin.  An entry counts only
 * while its process lives, so that a crash leaves nothing to clean up.
 * The rule a newcomer would break: the threads call nothing of the server and take no memory
 * of its contexts; they are joined before the backend's memory goes.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/parallel.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/proc.h"

#include "bridge.h"
#include "guc.h"
#include "threads.h"

/* Below the data directory; left out of backups by the beginning of its name. */
#define TABLE_FILE "pgsql_tmp_distil.threads"
/* Milliseconds after which a thread without work ends. */
#define IDLE_MS 5000

/* What a process runs; valid while `pid` is that of the server's process with this number. */
typedef struct ThreadEntry
{
	pg_atomic_uint32 pid;
	pg_atomic_uint32 threads;	/* runs now, its own thread counted */
	pg_atomic_uint32 sharing;	/* would use more than one */
} ThreadEntry;

static ThreadEntry *table = NULL;
static DistilPool *pool = NULL;
static int	pool_workers;
static int	granted;			/* threads of the call at work */
static int	most_granted;		/* of calls since distil_threads_most() */

int
distil_threads_cores(void)
{
	cpu_set_t	set;
	long		n;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = CPU_COUNT(&set);
	else
		n = sysconf(_SC_NPROCESSORS_ONLN);
	return n < 1 ? 1 : (int) Min(n, DISTIL_MAX_THREADS);
}

/* ---------- the table ---------- */

/* A file of at least so many bytes, mapped; NULL when that cannot be had. */
static void *
map_table(Size bytes)
{
	static const char zeros[4096];
	int			fd = OpenTransientFile(TABLE_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | PG_BINARY);
	struct stat info;
	void	   *memory = MAP_FAILED;
	bool		good;

	if (fd < 0)
		return NULL;
	good = fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
	/* Written, not truncated to its size: on a full disk a hole would be a crash later. */
	while (good && info.st_size < bytes)
	{
		Size		part = Min(bytes - info.st_size, sizeof(zeros));

		good = pwrite(fd, zeros, part, info.st_size) == (ssize_t) part;
		info.st_size += part;
	}
	if (good)
		memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CloseTransientFile(fd);
	return memory == MAP_FAILED ? NULL : memory;
}

static ThreadEntry *
my_entry(void)
{
	static bool tried = false;

	if (!tried && MyProc != NULL)
	{
		tried = true;
		table = map_table(ProcGlobal->allProcCount * sizeof(ThreadEntry));
		if (table != NULL)
		{
			ThreadEntry *entry = &table[MyProc - ProcGlobal->allProcs];

			pg_atomic_write_u32(&entry->threads, 0);
			pg_atomic_write_u32(&entry->sharing, 0);
		}
	}
	return table == NULL ? NULL : &table[MyProc - ProcGlobal->allProcs];
}

static void
announce(int threads, bool sharing)
{
	ThreadEntry *entry = my_entry();

	if (entry == NULL)
		return;
	/* Again each time: another process that makes the file at the same moment may write zeros over it. */
	pg_atomic_write_u32(&entry->pid, MyProcPid);
	pg_atomic_write_u32(&entry->sharing, sharing);
	pg_atomic_write_u32(&entry->threads, threads);
	pg_memory_barrier();
}

/* Threads this process may run: cores that others leave, and no more than its part of all of them. */
static int
free_cores(void)
{
	ThreadEntry *mine = my_entry();
	int			cores = distil_threads_cores();
	int			left = cores;
	int			sharing = 1;
	uint32		i;

	if (mine == NULL)
		return 1;
	for (i = 0; i < ProcGlobal->allProcCount; i++)
	{
		ThreadEntry *entry = &table[i];
		uint32		threads = pg_atomic_read_u32(&entry->threads);

		if (threads == 0 || entry == mine ||
			pg_atomic_read_u32(&entry->pid) != (uint32) ProcGlobal->allProcs[i].pid)
			continue;
		left -= Min(threads, DISTIL_MAX_THREADS);
		sharing += pg_atomic_read_u32(&entry->sharing) != 0;
	}
	return Max(Min(left, cores / sharing), 1);
}

/* ---------- the pool ---------- */

/* Memory of the threads: no context of the server. */
static void *
thread_alloc(void *ctx, size_t bytes)
{
	(void) ctx;
	return malloc(bytes);
}

static void
thread_release(void *ctx, void *memory)
{
	(void) ctx;
	free(memory);
}

static const DistilAllocator thread_memory = {thread_alloc, thread_release, NULL};

/* The backend's poll, which also gives threads back that others need. */
static bool
pool_stop(void *ctx)
{
	const DistilPoll *poll = distil_bridge_poll();

	(void) ctx;
	if (granted > 1 && distil_threads == 0)
	{
		int			n = free_cores();

		if (n < granted)
		{
			granted = n;
			distil_pool_limit(pool, n);
			announce(n, true);
		}
	}
	return poll->stop(poll->ctx);
}

/* The backend ends, perhaps in the middle of a batch: before its memory goes. */
static void
end_threads(int code, Datum arg)
{
	(void) code;
	(void) arg;
	distil_pool_stop(pool);
}

static void
need_pool(int workers)
{
	static const DistilPoll poll = {pool_stop, NULL};
	static bool registered = false;
	DistilError err;

	if (pool != NULL && pool_workers == workers)
		return;
	distil_cache_unshare();
	distil_pool_free(pool);
	pool = NULL;
	distil_bridge_check(distil_pool_create(&pool, workers, IDLE_MS, &poll, &thread_memory, &err), &err);
	pool_workers = workers;
	if (!registered)
		before_shmem_exit(end_threads, (Datum) 0);
	registered = true;
}

/* The most threads a batch of this process may have. */
static int
most_threads(void)
{
	int			n = distil_threads > 0 ? distil_threads : distil_threads_cores();

	if (IsParallelWorker())
		return 1;
	return distil_max_threads > 0 ? Min(n, distil_max_threads) : n;
}

void
distil_threads_begin(DistilOpenModel *open, int n)
{
	int			most = n > 1 ? most_threads() : 1;

	granted = 1;
	if (most > 1)
	{
		granted = distil_threads > 0 ? most : Min(most, free_cores());
		if (granted > 1)
		{
			need_pool(most);
			if (!open->shared)
				distil_session_share(open->session, pool, distil_bridge_thread_devices(most), &thread_memory);
			open->shared = true;
		}
	}
	if (pool != NULL)
		distil_pool_limit(pool, granted);
	announce(granted, most > 1);
	if (granted > 1 && distil_threads == 0)
	{
		/* Two may have seen the same free cores: now each sees the other. */
		granted = Min(granted, free_cores());
		distil_pool_limit(pool, granted);
		announce(granted, true);
	}
	most_granted = Max(most_granted, granted);
}

void
distil_threads_end(void)
{
	granted = 0;
	announce(0, false);
}

int
distil_threads_most(void)
{
	int			most = most_granted;

	most_granted = 0;
	return most;
}

void
distil_threads_announce(int n)
{
	announce(n, false);
}
