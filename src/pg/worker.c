/*
 * worker.c
 *		Running training jobs: the background worker, and the same in a session.
 *
 * A job is run by whoever holds its lock and one of distil.max_jobs places.  The parts
 * that read or write tables run in a subtransaction each, so that their errors end up in
 * the job's row; the training itself (train_run.c) runs outside of transactions.
 *
 * The rule a newcomer would break: the exit code.  The postmaster starts a worker again
 * after a crash, which is what resumes a job, and after any exit code but 0, which would
 * repeat a refused login every five seconds for ever.  So every orderly end, FATAL
 * included, leaves with 0 (see leave_quietly).
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "bridge.h"
#include "compat.h"
#include "train_run.h"
#include "worker.h"

/* ---------- transactions ---------- */

void
distil_run_begin(DistilRun *run)
{
	if (!run->in_session)
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
	}
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
distil_run_commit(DistilRun *run)
{
	PopActiveSnapshot();
	if (run->in_session)
		SPI_commit();
	else
	{
		CommitTransactionCommand();
		pgstat_report_stat(false);
	}
	MemoryContextSwitchTo(run->context);
}

ErrorData *
distil_run_part(DistilRun *run, void (*part) (DistilRun *run))
{
	ResourceOwner owner;
	ErrorData  *volatile error = NULL;

	distil_run_begin(run);
	owner = CurrentResourceOwner;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(run->context);
	PG_TRY();
	{
		RESUME_CANCEL_INTERRUPTS();
		part(run);
		HOLD_CANCEL_INTERRUPTS();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		QueryCancelHoldoffCount = 1;	/* an error has ended the hold */
		/* Before its error is copied, which may fail: a session whose subtransaction is left open is lost. */
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(run->context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(run->context);
	CurrentResourceOwner = owner;
	distil_run_commit(run);
	return error;
}

/* The engine's error, thrown where it can be caught. */
static void
throw_status(DistilRun *run)
{
	distil_bridge_check(run->status, &run->err);
}

/* ---------- ends of a job ---------- */

/* false = the row is gone, and nobody will ever ask for the job's files. */
static bool
end_job(DistilRun *run, const char *state, const ErrorData *error)
{
	bool		exists;

	distil_run_begin(run);
	exists = distil_job_end(run->job, state, error);
	distil_run_commit(run);
	return exists;
}

void
distil_run_keep_figures(DistilRun *run)
{
	ErrorData  *error;

	HOLD_INTERRUPTS();
	error = distil_run_part(run, distil_run_write_figures);
	if (error == NULL)
		RESUME_INTERRUPTS();	/* an error has done so */
	else
		ereport(LOG,
				(errmsg("distil job " INT64_FORMAT ": its figures could not be written: %s", run->job,
						distil_bridge_clip(error->message))));
}

static void
drop_files(DistilRun *run)
{
	distil_run_close(run);
	distil_job_folder_remove(run->job);
}

static DistilRunOutcome
end_failed(DistilRun *run, ErrorData *error)
{
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("distil job " INT64_FORMAT " failed: %s", run->job, distil_bridge_clip(error->message)),
			 error->detail != NULL ? errdetail_internal("%s", distil_bridge_clip(error->detail)) : 0));
	distil_run_keep_figures(run);

	/* Only a checkpoint is worth keeping for distil_resume(). */
	if (!end_job(run, "failed", error) || !distil_run_has_checkpoint(run))
		drop_files(run);
	return DISTIL_RUN_FAILED;
}

/*
 * Somebody wants this run to stop; what exactly is in the row.  SIGINT without a word is
 * a cancel that keeps the checkpoint.
 */
static DistilRunOutcome
end_requested(DistilRun *run)
{
	DistilJob	row;
	bool		cancel;

	distil_run_keep_figures(run);
	distil_run_begin(run);
	MemoryContextSwitchTo(run->context);
	if (!distil_job_read(run->job, &row))
		row.request = pstrdup("cancel");
	distil_run_commit(run);
	cancel = row.request != NULL && strcmp(row.request, "cancel") == 0;

	if (cancel)
	{
		(void) end_job(run, "canceled", NULL);
		drop_files(run);
	}
	else
	{
		distil_run_checkpoint(run);
		if (run->in_session && row.request == NULL)
		{
			distil_run_begin(run);
			distil_job_requeue(run->job);
			distil_run_commit(run);
			return DISTIL_RUN_TERMINATED;
		}
		if (!end_job(run, row.request != NULL ? "paused" : "canceled", NULL))
			drop_files(run);
	}
	ereport(LOG,
			(errmsg("distil job " INT64_FORMAT " %s after step " INT64_FORMAT, run->job,
					row.request != NULL && !cancel ? "paused" : "canceled", run->figures.report.step)));
	return row.request != NULL && !cancel ? DISTIL_RUN_PAUSED : DISTIL_RUN_CANCELED;
}

static DistilRunOutcome
end_error(DistilRun *run, ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		return end_requested(run);
	return end_failed(run, error);
}

/* ---------- one job ---------- */

/* Row to running; false = there is nothing to run any more. */
static bool
start_job(DistilRun *run)
{
	bool		startable;

	distil_run_begin(run);
	MemoryContextSwitchTo(run->context);
	startable = distil_job_start(run->job, &run->row);
	if (startable)
		run->folder = distil_job_folder(run->job);
	distil_run_commit(run);
	return startable;
}

/* The corpus, if it is not there yet or not any more, and the training; *error: of the former. */
static DistilRunStop
read_and_train(DistilRun *run, ErrorData **error)
{
	DistilRunStop stop = DISTIL_STOP_ERROR;
	int			i;

	for (i = 0; i < 2; i++)
	{
		*error = distil_run_part(run, distil_run_read_corpus);
		if (*error != NULL)
			return DISTIL_STOP_ERROR;
		stop = distil_run_train(run);
		if (stop != DISTIL_STOP_CORPUS)
			break;
		/* Its checkpoint may be good; the corpus decides whether it still fits. */
		*error = distil_run_part(run, distil_run_forget_corpus);
		if (*error != NULL)
			return DISTIL_STOP_ERROR;
	}
	return stop;
}

static DistilRunOutcome
run_locked(DistilRun *run)
{
	DistilRunStop stop;
	ErrorData  *error;
	ErrorData	worn = {0};

	if (!start_job(run))
		return DISTIL_RUN_GONE;
	if (run->row.request != NULL)
		return end_requested(run);
	if (run->row.attempts > DISTIL_JOB_ATTEMPTS)
	{
		worn.sqlerrcode = ERRCODE_SYSTEM_ERROR;
		worn.message = psprintf("the worker died %d times without progress", DISTIL_JOB_ATTEMPTS);
		worn.hint = "The server log tells why; distil_resume() tries again.";
		return end_failed(run, &worn);
	}
	ereport(LOG,
			(errmsg("distil job " INT64_FORMAT " %s: \"%s\" from \"%s\"", run->job,
					run->row.attempts > 1 ? "starts again" : "starts", run->row.student, run->row.teacher)));

	/* The folder of an earlier job with this number (the extension was made anew) is not ours. */
	if (run->row.attempts == 1 && run->row.step == 0 && !run->row.has_spool)
		distil_job_folder_remove(run->job);
	error = distil_run_part(run, distil_run_prepare);
	if (error != NULL)
		return end_error(run, error);
	stop = read_and_train(run, &error);
	if (error != NULL)
		return end_error(run, error);

	switch (stop)
	{
		case DISTIL_STOP_NONE:
			break;
		case DISTIL_STOP_ERROR:
		case DISTIL_STOP_CORPUS:
			return end_error(run, distil_run_part(run, throw_status));
		case DISTIL_STOP_REQUEST:
			return end_requested(run);
		case DISTIL_STOP_TERMINATE:
			distil_run_keep_figures(run);
			distil_run_checkpoint(run);
			return DISTIL_RUN_TERMINATED;
	}
	error = distil_run_part(run, distil_run_finish);
	if (error != NULL)
	{
		distil_run_checkpoint(run);
		return end_error(run, error);
	}
	drop_files(run);
	ereport(LOG,
			(errmsg("distil job " INT64_FORMAT " is done: \"%s\"", run->job, run->row.student)));
	return DISTIL_RUN_DONE;
}

/*
 * The locks of a session outlive its transactions, so they are given back whatever happens.
 * What is asked of a job stands in its row, and the signal that follows only hurries.  It may come late, so
 * it is an error in a part only, never in the statements that do as the row says.
 */
DistilRunOutcome
distil_worker_run(int64 job, bool in_session)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "distil training job",
												  ALLOCSET_DEFAULT_SIZES);
	DistilRun  *run = MemoryContextAllocZero(context, sizeof(DistilRun));
	volatile DistilRunOutcome outcome = DISTIL_RUN_NOTHING;

	run->job = job;
	run->slot = -1;
	run->in_session = in_session;
	run->context = context;
	run->alloc = distil_bridge_allocator(context);
	MemoryContextSwitchTo(context);
	HOLD_CANCEL_INTERRUPTS();
	PG_TRY();
	{
		if (!in_session)
			StartTransactionCommand();
		run->locked = distil_job_lock(job);
		if (run->locked)
			run->slot = distil_job_slot_lock();
		if (!in_session)
			CommitTransactionCommand();
		MemoryContextSwitchTo(context);
		if (run->slot >= 0)
			outcome = run_locked(run);
	}
	PG_FINALLY();
	{
		distil_run_close(run);
		if (run->slot >= 0)
			distil_job_slot_unlock(run->slot);
		if (run->locked)
			distil_job_unlock(job);
		MemoryContextSwitchTo(old);
		MemoryContextDelete(context);
	}
	PG_END_TRY();
	RESUME_CANCEL_INTERRUPTS();
	return outcome;
}

/* ---------- the background worker ---------- */

/*
 * on_proc_exit: an exit with 1 (FATAL: the login is refused, the database is gone,
 * SIGTERM inside of a query) must not start this worker again.  Everything registered
 * after this one has run; exit() runs what is left.
 */
static void
leave_quietly(int code, Datum arg)
{
	(void) arg;
	if (code == 1)
		exit(0);
}

/*
 * An error outside of all parts: into the row.  Without a row the files go too, unless a
 * new job with this number runs already.  false = the extension was dropped, so there is
 * no queue either.
 */
static bool
record_unexpected(int64 job, const ErrorData *error)
{
	bool		exists;
	bool		gone;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	exists = OidIsValid(get_extension_oid("distil", true));
	gone = !exists || !distil_job_end(job, "failed", error);
	if (gone && distil_job_lock(job))
	{
		distil_job_folder_remove(job);
		distil_job_unlock(job);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	return exists;
}

static DistilRunOutcome
run_guarded(int64 job)
{
	MemoryContext context = CurrentMemoryContext;
	volatile DistilRunOutcome outcome = DISTIL_RUN_FAILED;

	PG_TRY();
	{
		outcome = distil_worker_run(job, false);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		QueryCancelPending = false;
		RESUME_INTERRUPTS();
		MemoryContextSwitchTo(context);
		if (!record_unexpected(job, error))
			outcome = DISTIL_RUN_TERMINATED;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return outcome;
}

/* Oldest queued job of the database; 0 = none. */
static int64
next_job(Oid *owner)
{
	int64		job;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	job = distil_job_next(InvalidOid, owner);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	return job;
}

void
distil_worker_main(Datum arg)
{
	DistilWorkerArgs args;
	int64		job;
	int64		before;
	Oid			owner;

	(void) arg;
	memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
	on_proc_exit(leave_quietly, (Datum) 0);
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(args.database, args.role, DISTIL_BYPASS_ROLELOGIN);

	/* ALTER ROLE or ALTER DATABASE may have set another role than the job's owner. */
	SetConfigOption("role", "none", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
#ifdef DISTIL_HAS_TRANSACTION_TIMEOUT
	SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
#endif
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);

	job = args.job;
	for (;;)
	{
		DistilRunOutcome outcome;

		outcome = run_guarded(job);
		/* A late signal for this job, whose lock is gone: no other will come. */
		QueryCancelPending = false;

		if (outcome == DISTIL_RUN_NOTHING || outcome == DISTIL_RUN_TERMINATED)
			break;
		before = job;
		job = next_job(&owner);
		if (job == before && outcome == DISTIL_RUN_GONE)
		{
			/* Nor could the next worker start it, nor the one after that. */
			ereport(LOG, (errmsg("distil job " INT64_FORMAT " stays queued: it could not start", job)));
			break;
		}
		if (job == 0 || distil_job_launch(job, owner))
			break;

		/* Without a free slot this process may do it, if it is of the right role. */
		if (owner != args.role)
		{
			ereport(LOG,
					(errmsg("distil job " INT64_FORMAT " stays queued: no free worker slot", job),
					 errhint("Consider increasing max_worker_processes.")));
			break;
		}
	}
	proc_exit(0);
}
