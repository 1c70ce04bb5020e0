/*
 * job_queue.c
 *		What of a training job lives outside of tables: locks, workers, signals, folders.
 *
 * Locks are advisory locks of this database with their own objsubid, so they never meet
 * those of pg_advisory_lock(): class 17481 (bigint job number) says that a process runs
 * the job, class 17482 (number of the place) that one of distil.max_jobs places is taken.
 * They belong to the session and vanish with the process, however it ends.  Class 17483
 * (bigint job number) puts the commands on a job one after the other, class 17484 (hash of
 * the name) puts those after each other that give a new model its name, or promise it to a
 * job; these two belong to the transaction.
 *
 * Nothing is missed without a supervisor: a worker frees its place first and looks for
 * queued jobs afterwards; a worker that finds no place leaves its job queued.  Whoever
 * came too early for the place was queued before it was freed, so it is found.  Who had a
 * place, be it for a moment and in vain, must look.
 *
 * The rule a newcomer would break: what runs at commit comes after the commit record, where
 * an error is a PANIC of the whole server.  So nothing there allocates memory or opens a
 * file in a way that may throw.
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/fd.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "compat.h"
#include "guc.h"
#include "job.h"
#include "model_cache.h"
#include "worker.h"

#define JOB_LOCK_CLASS 17481	/* the view distil_jobs knows this number */
#define SLOT_LOCK_CLASS 17482
#define COMMAND_LOCK_CLASS 17483
#define NAME_LOCK_CLASS 17484

typedef struct CommitAction
{
	DistilJobAction action;
	int64		job;
	Oid			owner;
	int			pid;
	int			level;			/* of the (sub)transaction that asks for it */
} CommitAction;

bool		distil_job_quiet_launch = false;
bool		distil_job_launched = false;

/* In TopTransactionContext; NIL outside of a transaction that asked for something. */
static List *commit_actions = NIL;

/* ---------- locks ---------- */

static bool
lock_try(uint32 high, uint32 low, uint16 class)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, high, low, class);
	return LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_OK;
}

static void
lock_release(uint32 high, uint32 low, uint16 class)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, high, low, class);
	LockRelease(&tag, ExclusiveLock, true);
}

/* From the session to its transaction. */
static void
lock_lend(uint32 high, uint32 low, uint16 class)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, high, low, class);
	(void) LockAcquire(&tag, ExclusiveLock, false, true);
	LockRelease(&tag, ExclusiveLock, true);
}

void
distil_job_command_lock(int64 job)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (job >> 32), (uint32) job, COMMAND_LOCK_CLASS);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

void
distil_job_name_lock(const char *name)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) name, strlen(name), 0);
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (hash >> 32), (uint32) hash, NAME_LOCK_CLASS);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

bool
distil_job_lock(int64 job)
{
	return lock_try((uint32) (job >> 32), (uint32) job, JOB_LOCK_CLASS);
}

void
distil_job_unlock(int64 job)
{
	lock_release((uint32) (job >> 32), (uint32) job, JOB_LOCK_CLASS);
}

int
distil_job_slot_lock(void)
{
	int			slot;

	for (slot = 0; slot < distil_max_jobs; slot++)
		if (lock_try(0, slot, SLOT_LOCK_CLASS))
			return slot;
	return -1;
}

void
distil_job_slot_unlock(int slot)
{
	lock_release(0, slot, SLOT_LOCK_CLASS);
}

void
distil_job_locks_lend(int64 job, int slot)
{
	lock_lend((uint32) (job >> 32), (uint32) job, JOB_LOCK_CLASS);
	lock_lend(0, slot, SLOT_LOCK_CLASS);
}

/* Nobody else can have them. */
void
distil_job_locks_take_back(int64 job, int slot)
{
	(void) distil_job_lock(job);
	(void) lock_try(0, slot, SLOT_LOCK_CLASS);
}

/* Sum or value of the lock table's rows of one class, by fixed SQL. */
static int64
lock_query(const char *sql, int nargs, int64 argument)
{
	Oid			types[2] = {OIDOID, INT8OID};
	Datum		values[2];
	bool		isnull;
	int64		result = 0;

	values[0] = ObjectIdGetDatum(MyDatabaseId);
	values[1] = Int64GetDatum(argument);
	SPI_connect();
	distil_job_sql(sql, nargs, types, values, NULL);
	if (SPI_processed > 0)
		result = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return result;
}

int
distil_job_holder(int64 job)
{
	return (int) lock_query("SELECT pid::pg_catalog.int8 FROM pg_catalog.pg_locks"
							" WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND granted"
							" AND database OPERATOR(pg_catalog.=) $1"
							" AND objsubid OPERATOR(pg_catalog.=) 17481"
							" AND classid::pg_catalog.int8 OPERATOR(pg_catalog.=)"
							" ($2 OPERATOR(pg_catalog.>>) 32)"
							" AND objid::pg_catalog.int8 OPERATOR(pg_catalog.=)"
							" ($2 OPERATOR(pg_catalog.&) 4294967295)", 2, job);
}

int
distil_job_slots_taken(void)
{
	return (int) lock_query("SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks"
							" WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND granted"
							" AND database OPERATOR(pg_catalog.=) $1"
							" AND objsubid OPERATOR(pg_catalog.=) 17482", 1, 0);
}

/* ---------- workers ---------- */

bool
distil_job_launch(int64 job, Oid owner)
{
	BackgroundWorker worker;
	DistilWorkerArgs args;

	memset(&worker, 0, sizeof(worker));
	memset(&args, 0, sizeof(args));
	args.database = MyDatabaseId;
	args.role = owner;
	args.job = job;
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;	/* only after a crash: the worker turns every other end into 0 */
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "distil");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "distil_worker_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "distil job " INT64_FORMAT, job);
	snprintf(worker.bgw_type, BGW_MAXLEN, "distil job");
	StaticAssertStmt(sizeof(args) <= BGW_EXTRALEN, "arguments of a worker are too long");
	memcpy(worker.bgw_extra, &args, sizeof(args));
	worker.bgw_notify_pid = 0;
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

/* Whether a process holds a lock, seen under the lock table's partition lock. */
static bool
holds_lock(PGPROC *proc, const LOCKTAG *tag, uint32 hash)
{
	DistilProcLockList *list = &proc->myProcLocks[LockHashPartition(hash)];
	PROCLOCK   *entry = distil_compat_proclock_next(list, (PROCLOCK *) NULL);

	for (; entry != NULL; entry = distil_compat_proclock_next(list, entry))
		if (entry->holdMask != 0 && memcmp(&entry->tag.myLock->tag, tag, sizeof(LOCKTAG)) == 0)
			return true;
	return false;
}

/*
 * Interrupt the process that runs the job.  It may have ended since it was looked up, and
 * its number may be another's, so it is asked under the lock that it needs to let go of
 * the job: the signal cannot reach anybody else.
 */
static void
signal_holder(int64 job, int pid)
{
	LOCKTAG		tag;
	uint32		hash;
	PGPROC	   *proc;

	if (pid <= 0 || pid == MyProcPid || (proc = BackendPidGetProc(pid)) == NULL)
		return;
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (job >> 32), (uint32) job, JOB_LOCK_CLASS);
	hash = LockTagHashCode(&tag);
	LWLockAcquire(LockHashPartitionLock(hash), LW_SHARED);
	if (proc->pid == pid && holds_lock(proc, &tag, hash))
		kill(pid, SIGINT);
	LWLockRelease(LockHashPartitionLock(hash));
}

/* The warning's few hundred bytes are within what error reporting keeps in reserve. */
static void
run_action(const CommitAction *action)
{
	switch (action->action)
	{
		case DISTIL_JOB_LAUNCH:
			distil_job_launched = distil_job_launch(action->job, action->owner);
			if (!distil_job_launched && !distil_job_quiet_launch)
				ereport(WARNING,
						(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						 errmsg("no free worker slot: job " INT64_FORMAT " stays queued", action->job),
						 errhint("It starts when a running job ends, with distil_resume(" INT64_FORMAT
								 "), or in a session with CALL distil_work()."
								 "  Consider increasing max_worker_processes.", action->job)));
			break;
		case DISTIL_JOB_SIGNAL:
			signal_holder(action->job, action->pid);
			break;
		case DISTIL_JOB_FORGET:
			distil_job_folder_remove(action->job);
			break;
	}
}

static void
transaction_callback(XactEvent event, void *arg)
{
	List	   *actions = commit_actions;
	ListCell   *cell;

	(void) arg;
	if (actions == NIL)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			commit_actions = NIL;
			foreach(cell, actions)
				run_action(lfirst(cell));
			distil_job_quiet_launch = false;
			break;
		case XACT_EVENT_ABORT:
			commit_actions = NIL;
			distil_job_quiet_launch = false;
			break;
		case XACT_EVENT_PRE_PREPARE:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot PREPARE a transaction that has changed training jobs")));
			break;
		default:
			break;
	}
}

/* What a subtransaction asked for belongs to its parent, or to nobody. */
static void
subtransaction_callback(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	ListCell   *cell;

	(void) mine;
	(void) parent;
	(void) arg;
	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	foreach(cell, commit_actions)
	{
		CommitAction *action = lfirst(cell);

		if (action->level < level)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			action->level = level - 1;
		else
			commit_actions = foreach_delete_current(commit_actions, cell);
	}
}

void
distil_job_at_commit(DistilJobAction action, int64 job, Oid owner, int pid)
{
	static bool registered = false;
	MemoryContext old;
	CommitAction *entry;

	if (!registered)
	{
		RegisterXactCallback(transaction_callback, NULL);
		RegisterSubXactCallback(subtransaction_callback, NULL);
		registered = true;
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	entry = palloc(sizeof(CommitAction));
	entry->action = action;
	entry->job = job;
	entry->owner = owner;
	entry->pid = pid;
	entry->level = GetCurrentTransactionNestLevel();
	commit_actions = lappend(commit_actions, entry);
	MemoryContextSwitchTo(old);
}

/* ---------- folders ---------- */

char *
distil_job_folder(int64 job)
{
	return psprintf("%s/job_%u_" INT64_FORMAT, DISTIL_CACHE_DIR, MyDatabaseId, job);
}

void
distil_job_folder_create(int64 job)
{
	char	   *folder = distil_job_folder(job);

	distil_cache_directory();
	if (MakePGDirectory(folder) < 0 && errno != EEXIST)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", folder)));
	pfree(folder);
}

/* The folder has plain files only.  What cannot be removed stays for distil_job_folders_sweep(). */
void
distil_job_folder_remove(int64 job)
{
	char		folder[MAXPGPATH];
	struct dirent *entry;
	DIR		   *dir;
	int			fd;

	snprintf(folder, sizeof(folder), "%s/job_%u_" INT64_FORMAT, DISTIL_CACHE_DIR, MyDatabaseId, job);
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	dir = fdopendir(fd);
	if (dir == NULL)
	{
		(void) close(fd);
		return;
	}
	while ((entry = readdir(dir)) != NULL)
		(void) unlinkat(fd, entry->d_name, 0);
	(void) closedir(dir);
	(void) rmdir(folder);
}

/* Whether a folder called job_<database>_<job> still has its job. */
static bool
folder_wanted(Oid database, int64 job)
{
	DistilJob	row;

	if (database != MyDatabaseId)
		return SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database));
	if (distil_job_holder(job) != 0)
		return true;
	return distil_job_read(job, &row) && strcmp(row.state, "done") != 0;
}

List *
distil_job_folders_sweep(void)
{
	List	   *removed = NIL;
	DIR		   *dir = AllocateDir(DISTIL_CACHE_DIR);
	struct dirent *entry;

	if (dir == NULL)
		return NIL;
	while ((entry = ReadDirExtended(dir, DISTIL_CACHE_DIR, LOG)) != NULL)
	{
		unsigned int database;
		int64		job;
		int			length = 0;
		char	   *path;

		if (sscanf(entry->d_name, "job_%u_" INT64_FORMAT "%n", &database, &job, &length) != 2 ||
			entry->d_name[length] != '\0' || folder_wanted(database, job))
			continue;
		path = psprintf("%s/%s", DISTIL_CACHE_DIR, entry->d_name);
		if (rmtree(path, true))
			removed = lappend(removed, path);
	}
	FreeDir(dir);
	return removed;
}
