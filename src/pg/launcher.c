/*
 * launcher.c
 *		Training jobs go on by themselves after a start of the server.
 *
 * A dynamic worker is forgotten when the postmaster ends, so jobs that were running are
 * "interrupted" afterwards.  With shared_preload_libraries = 'distil' a worker visits
 * each database of distil.databases once, queues such jobs again and starts as many as
 * may run; the rest follows as places become free.
 *
 * The rule a newcomer would break: this worker is a superuser's session, so it runs
 * nothing but the fixed statements of job.c; the jobs themselves run in workers of
 * their owners.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

#include "guc.h"
#include "job.h"
#include "launcher.h"

void
distil_launcher_init(void)
{
	List	   *names;
	ListCell   *cell;

	if (!process_shared_preload_libraries_in_progress ||
		distil_databases == NULL || distil_databases[0] == '\0')
		return;
	if (!SplitIdentifierString(pstrdup(distil_databases), ',', &names))
	{
		ereport(LOG,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("distil.databases is not a list of names")));
		return;
	}
	foreach(cell, names)
	{
		BackgroundWorker worker;
		const char *name = lfirst(cell);

		memset(&worker, 0, sizeof(worker));
		worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
		worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
		worker.bgw_restart_time = BGW_NEVER_RESTART;
		snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "distil");
		snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "distil_launcher_main");
		snprintf(worker.bgw_name, BGW_MAXLEN, "distil launcher");
		snprintf(worker.bgw_type, BGW_MAXLEN, "distil launcher");
		strlcpy(worker.bgw_extra, name, BGW_EXTRALEN);
		RegisterBackgroundWorker(&worker);
	}
	list_free(names);
}

/* Interrupted jobs into the queue, and the first of the queue. */
static void
resume_jobs(void)
{
	List	   *jobs;
	ListCell   *cell;
	int			places = distil_max_jobs;

	distil_job_requeue_interrupted();
	jobs = distil_job_queue();
	foreach(cell, jobs)
	{
		const DistilQueuedJob *queued = lfirst(cell);

		if (places-- <= 0)
			break;
		distil_job_at_commit(DISTIL_JOB_LAUNCH, queued->job, queued->owner, 0);
	}
}

void
distil_launcher_main(Datum arg)
{
	char		database[NAMEDATALEN];

	(void) arg;
	strlcpy(database, MyBgworkerEntry->bgw_extra, sizeof(database));
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(database, NULL, 0);

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (OidIsValid(get_extension_oid("distil", true)))
		resume_jobs();
	PopActiveSnapshot();
	CommitTransactionCommand();
	proc_exit(0);
}
