/*
 * job.h
 *		Training jobs: rows of distil.job, their locks, their queue, their folders.
 *
 * Rows are written as the owner of the extension with fixed SQL; who may do what is
 * checked before, by the callers.  A job is alive while some process holds its session
 * advisory lock, whatever its row says: state "running" with a free lock means that the
 * worker has died, which the views show as "interrupted".
 *
 * The rule a newcomer would break: nothing outside of the database (a worker, a signal,
 * a removed folder) may happen before the transaction that asks for it has committed.
 * Such things are put on the list of distil_job_at_commit().
 */
#ifndef DISTIL_JOB_H
#define DISTIL_JOB_H

#include "postgres.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/timestamp.h"
#include "distil_engine.h"

/* Starts of a worker that bring no new checkpoint before a job is given up. */
#define DISTIL_JOB_ATTEMPTS 3

/* The row; strings are in the context it was read in, NULL where the column is. */
typedef struct DistilJob
{
	int64		job;
	Oid			owner;
	char	   *state;			/* as stored: running also when interrupted */
	char	   *request;		/* cancel, pause or NULL */
	char	   *teacher;
	char	   *student;
	char	   *corpus;
	char	   *column_name;
	char	   *method;
	char	   *options;		/* effective ones, JSON */
	char	   *search_path;	/* of the caller */
	ArrayType  *settings;		/* custom ones of the caller; may be NULL */
	char	   *isa;			/* fixed at the call: a resumed job computes the same bits */
	int			threads;		/* likewise */
	int			attempts;
	bool		has_spool;		/* the corpus has been read completely */
	int64		step;
	int64		steps;			/* 0 = not known yet */
	double		loss;			/* NAN = none */
	double		tokens_per_second;
	TimestampTz eta;			/* 0 = none */
	char	   *error;
	char	   *error_code;
	char	   *error_hint;
} DistilJob;

/* What a new job is made of. */
typedef struct DistilJobRequest
{
	const char *teacher;
	const char *student;
	const char *corpus;
	const char *column_name;
	const char *method;
	const char *options;
	const char *isa;
	int			threads;
} DistilJobRequest;

/* ---------- custom settings (job_settings.c) ---------- */

/* Those of this session: text[], names and values in turn. */
extern ArrayType *distil_job_settings_take(void);
/* This process has these and no others until the end of the nest level; NULL: none. */
extern void distil_job_settings_apply(ArrayType *taken);

/* ---------- rows ---------- */

/*
 * Run one fixed statement on distil's tables as the owner of the extension, SPI being
 * connected; returns SPI's result code, never a failure.
 */
extern int	distil_job_sql(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls);

/* New row in state queued, owned by the current user; also remembered as this session's last job. */
extern int64 distil_job_insert(const DistilJobRequest *request);
/* Whether a role may start jobs: the right to execute distil_train. */
extern bool distil_job_allowed(Oid role);
/* 42710 when the job's student cannot have its name any more. */
extern void distil_job_check_name(const DistilJob *row);
/* This session's last job, 0 = none. */
extern int64 distil_job_last(void);

/* Read a row into the current context; false = there is none. */
extern bool distil_job_read(int64 job, DistilJob *row);
/*
 * Read the row of an existing job that the current user may see or (manage) command; 42704, 42501.
 * A row to be commanded is locked until the end of the transaction.
 */
extern void distil_job_get(int64 job, DistilJob *row, bool manage);

/* The current user's job, queued or running -> running: counts the start.  false = nothing to do any more. */
extern bool distil_job_start(int64 job, DistilJob *row);
/* The corpus is read (info) or is to be read again (NULL). */
extern void distil_job_set_spool(int64 job, const DistilSpoolInfo *info);
/* There is a new checkpoint: starts are counted anew. */
extern void distil_job_set_progressed(int64 job);

/* One row of the log or the latest figures. */
typedef struct DistilJobFigures
{
	DistilTrainReport report;
	double		tokens_per_second;
	TimestampTz eta;			/* 0 = none */
	TimestampTz at;
	const char *device;			/* NULL: the CPU */
} DistilJobFigures;

/*
 * Latest figures into the row; never waits for a row lock.  *request: what the row asks
 * for ("cancel", "pause" or NULL), in the current context; "cancel" when there is no row.
 */
extern void distil_job_set_progress(int64 job, const DistilJobFigures *figures, char **request);
/*
 * Append to the log, unless the row is gone or about to go; distil_job_log_truncate
 * forgets what was logged after a step.
 */
extern void distil_job_log_add(int64 job, const DistilJobFigures *figures);
extern void distil_job_log_truncate(int64 job, int64 step);

/* Final or resting states: done, failed, canceled, paused.  error may be NULL.  false = there is no row. */
extern bool distil_job_end(int64 job, const char *state, const ErrorData *error);
/* Any resting state -> queued, counted as new. */
extern void distil_job_requeue(int64 job);
/* Write what is asked of a running job. */
extern void distil_job_set_request(int64 job, const char *request);

/* Another job that is queued, running or paused with this student, as of now; 0 = none. */
extern int64 distil_job_for_student(const char *student, int64 except);
/* Oldest queued job of that owner; InvalidOid: of any role a worker can run as.  0 = none. */
extern int64 distil_job_next(Oid owner, Oid *job_owner);

typedef struct DistilQueuedJob
{
	int64		job;
	Oid			owner;
} DistilQueuedJob;

/* All queued jobs a worker can run, oldest first, as DistilQueuedJob in the current context. */
extern List *distil_job_queue(void);
/* After a start of the server: jobs whose process is gone -> queued; their starts stay counted. */
extern void distil_job_requeue_interrupted(void);

/* ---------- locks (of the session and never waiting, but for the first two) ---------- */

/*
 * Commands on one job come one after the other: waits, and lasts until the transaction has
 * done all that it does at its commit.
 */
extern void distil_job_command_lock(int64 job);
/* Whoever gives a new model this name, or promises it to a job: one transaction at a time.  Waits. */
extern void distil_job_name_lock(const char *name);

extern bool distil_job_lock(int64 job);
extern void distil_job_unlock(int64 job);
/* One of distil.max_jobs places to run; returns its number or -1. */
extern int	distil_job_slot_lock(void);
extern void distil_job_slot_unlock(int slot);
/*
 * While code of a user runs, which may call pg_advisory_unlock_all(), the transaction holds the job's lock
 * and place instead of the session.  Take them back before it ends.
 */
extern void distil_job_locks_lend(int64 job, int slot);
extern void distil_job_locks_take_back(int64 job, int slot);
/* Process that holds the job's lock, 0 = none; SPI-free callers only inside a transaction. */
extern int	distil_job_holder(int64 job);
/* Number of places taken now. */
extern int	distil_job_slots_taken(void);

/* ---------- what happens at commit ---------- */

typedef enum DistilJobAction
{
	DISTIL_JOB_LAUNCH,			/* start a worker for the job */
	DISTIL_JOB_SIGNAL,			/* interrupt the process, if it still runs the job */
	DISTIL_JOB_FORGET			/* remove its folder */
} DistilJobAction;

extern void distil_job_at_commit(DistilJobAction action, int64 job, Oid owner, int pid);
/* Start a worker now; false = no free worker slot. */
extern bool distil_job_launch(int64 job, Oid owner);
/* If true a launch at the next commit without a free slot says nothing (the caller will). */
extern bool distil_job_quiet_launch;
/* Whether the last launch at commit found a slot. */
extern bool distil_job_launched;

/* ---------- folders ---------- */

/* "pgsql_tmp_distil/job_<database>_<job>", in the current context. */
extern char *distil_job_folder(int64 job);
extern void distil_job_folder_create(int64 job);
/* Removes it with all files; a missing one is fine; never an error, so that it may be called at commit. */
extern void distil_job_folder_remove(int64 job);
/* Remove folders of dropped databases and of jobs that are no more; returns their paths (char *). */
extern List *distil_job_folders_sweep(void);

#endif							/* DISTIL_JOB_H */
