/*
 * train_run.h
 *		One run of a training job in this process: its parts, in the order of their use.
 *
 * distil_run_prepare, distil_run_read_corpus, distil_run_forget_corpus and distil_run_finish are called
 * inside a transaction and may throw; distil_run_train is called outside of one (or, in a session,
 * in one without a snapshot) and opens short ones through the two functions of the run.
 */
#ifndef DISTIL_TRAIN_RUN_H
#define DISTIL_TRAIN_RUN_H

#include "postgres.h"
#include "nodes/pg_list.h"
#include "distil_engine.h"
#include "guc.h"
#include "job.h"
#include "model_cache.h"
#include "worker.h"

typedef enum DistilRunStop
{
	DISTIL_STOP_NONE,			/* the work is done */
	DISTIL_STOP_ERROR,			/* status and err say why */
	DISTIL_STOP_CORPUS,			/* nothing has begun: the spool is damaged, err says how */
	DISTIL_STOP_REQUEST,		/* the row says cancel or pause, or somebody sent SIGINT */
	DISTIL_STOP_TERMINATE		/* SIGTERM: leave at once, the job can be resumed */
} DistilRunStop;

typedef struct DistilRun
{
	int64		job;
	bool		in_session;
	int			slot;			/* place among distil.max_jobs, -1 = none */
	bool		locked;			/* the job's lock is held */
	MemoryContext context;		/* everything of this run */
	DistilAllocator *alloc;
	DistilJob	row;
	char	   *folder;
	DistilOpenModel *open;		/* the teacher's mapping, closed with the run */
	const DistilModel *teacher;
	DistilTrainOptions options;
	const void *spool;			/* mapped */
	size_t		spool_size;
	DistilDevice *devices[DISTIL_MAX_THREADS];
	int			ndevices;
	DistilTrainer *trainer;

	/* Figures: the last step, and what is not yet in the log. */
	DistilJobFigures figures;
	DistilJobFigures *pending;
	int			npending;
	char	   *request;		/* what the row asked for when figures were last written, NULL = nothing */
	TimestampTz last_progress;
	TimestampTz last_checkpoint;
	int64		speed_step;		/* step, tokens and time the speed is measured from */
	int64		speed_tokens;
	TimestampTz speed_time;

	DistilStatus status;		/* of the engine, to be thrown in a transaction */
	DistilError err;
} DistilRun;

/*
 * One part of a run in a transaction of its own (worker.c); returns NULL or its error, and then nothing of
 * the part has happened.  A FATAL error ends the process as ever.
 */
extern ErrorData *distil_run_part(DistilRun *run, void (*part) (DistilRun *run));
/* Figures into row and log; that they could not be written is logged, and nothing else. */
extern void distil_run_keep_figures(DistilRun *run);
/* Transactions of a run (worker.c); the current context is run->context afterwards. */
extern void distil_run_begin(DistilRun *run);
extern void distil_run_commit(DistilRun *run);

extern void distil_run_prepare(DistilRun *run);
extern void distil_run_read_corpus(DistilRun *run);
/* After DISTIL_STOP_CORPUS: the corpus is to be read again. */
extern void distil_run_forget_corpus(DistilRun *run);
extern DistilRunStop distil_run_train(DistilRun *run);
/* The figures so far into row and log, if there are any. */
extern void distil_run_write_figures(DistilRun *run);
extern void distil_run_finish(DistilRun *run);
/* Write a checkpoint now, if there is anything to keep; a failure is logged. */
extern void distil_run_checkpoint(DistilRun *run);
extern bool distil_run_has_checkpoint(const DistilRun *run);
/* The devices of the job (train_device.c); errors 58000 when one that was asked for by name cannot be had. */
extern void distil_run_open_devices(DistilRun *run);
extern void distil_run_close_devices(DistilRun *run);
/* After a failure `status`: true when the job now has CPU devices instead and may try again. */
extern bool distil_run_leave_accelerator(DistilRun *run, DistilStatus status);
/* Refuse options "device" and "gpus" that this server cannot serve; talks to no device. */
extern void distil_train_device_check(const DistilTrainOptions *options);

/* Free trainer, devices and mappings; harmless at any time. */
extern void distil_run_close(DistilRun *run);

#endif							/* DISTIL_TRAIN_RUN_H */
