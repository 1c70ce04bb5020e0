/*
 * worker.h
 *		Running training jobs: the background worker, and the same in a session.
 */
#ifndef DISTIL_WORKER_H
#define DISTIL_WORKER_H

#include "postgres.h"

/* In bgw_extra of the worker. */
typedef struct DistilWorkerArgs
{
	Oid			database;
	Oid			role;
	int64		job;
} DistilWorkerArgs;

/* Entry point of the background worker. */
extern PGDLLEXPORT void distil_worker_main(Datum arg);

typedef enum DistilRunOutcome
{
	DISTIL_RUN_NOTHING,			/* taken by another process, or no free place */
	DISTIL_RUN_GONE,			/* not to be run any more */
	DISTIL_RUN_DONE,
	DISTIL_RUN_FAILED,
	DISTIL_RUN_CANCELED,
	DISTIL_RUN_PAUSED,
	DISTIL_RUN_TERMINATED		/* this process is to end; the job stays as it is */
} DistilRunOutcome;

/*
 * Run one job to its end in this process, as the current user, who must be its owner.
 * in_session: inside a procedure that may commit (SPI connected non-atomic), otherwise
 * outside of a transaction.  Commits several times.
 */
extern DistilRunOutcome distil_worker_run(int64 job, bool in_session);

#endif							/* DISTIL_WORKER_H */
