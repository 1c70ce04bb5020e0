/*
 * train_run.c
 *		One run of a training job: corpus into the spool, steps, checkpoints, student.
 *
 * The rule a newcomer would break: while the trainer computes, no transaction is open in
 * the worker, so vacuum is not held back for hours.  Everything that touches tables goes
 * between distil_run_begin() and distil_run_commit(), for milliseconds.
 *
 * The spool and the checkpoints are files of the job's folder.  A checkpoint is written
 * under a temporary name, then "checkpoint" becomes "checkpoint.old", then the new one
 * "checkpoint": at every moment one of the two is complete.
 */
#include "postgres.h"

#include <math.h>
#include <unistd.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/timestamp.h"

#include "bridge.h"
#include "compat.h"
#include "corpus.h"
#include "model_cache.h"
#include "model_store.h"
#include "train_files.h"
#include "train_run.h"

#define PROGRESS_MS 1000		/* between updates of the row */
#define MAX_LOG_ROWS 1000		/* of one job, about */
#define MAX_PENDING 256			/* log rows held back between two updates */

static char *
path_of(const DistilRun *run, const char *file)
{
	return psprintf("%s/%s", run->folder, file);
}

/* A checkpoint on the way out must not be stopped by what asks this process to leave. */
static bool checkpointing = false;

/* As distil_bridge_poll(), but a worker whose postmaster has died stops too: a new one waits for it. */
static bool
run_stop(void *ctx)
{
	const DistilPoll *poll = distil_bridge_poll();

	(void) ctx;
	if (!PostmasterIsAlive())
		return true;
	return !checkpointing && poll->stop(poll->ctx);
}

static const DistilPoll run_poll = {run_stop, NULL};

/* What pg_stat_activity and the process title show. */
static void
show_activity(const DistilRun *run, const char *what)
{
	char		text[160];

	if (run->in_session)
		return;
	snprintf(text, sizeof(text), "distil job " INT64_FORMAT ": %s", run->job, what);
	pgstat_report_activity(STATE_RUNNING, text);
	set_ps_display(what);
}

/* ---------- teacher, options ---------- */

void
distil_run_prepare(DistilRun *run)
{
	char	   *options;

	/* Found at the end it would cost all the work. */
	distil_job_check_name(&run->row);
	run->open = distil_cache_open(run->row.teacher);
	run->teacher = run->open->model;
	options = pg_server_to_any(run->row.options, strlen(run->row.options), PG_UTF8);
	distil_bridge_check(distil_train_options_parse(&run->options, run->row.method, options, strlen(options),
												   run->teacher, run->alloc, &run->err), &run->err);
	distil_job_folder_create(run->job);
	distil_run_open_devices(run);
}

/* ---------- corpus -> spool ---------- */

typedef struct SpoolWriter
{
	DistilRun  *run;
	DistilSpool *spool;
	int64		texts;
	TimestampTz shown;
} SpoolWriter;

static void
add_text(void *ctx, Datum text_datum)
{
	SpoolWriter *writer = ctx;
	DistilText	text = distil_bridge_text(text_datum);

	distil_bridge_check(distil_spool_add(writer->spool, &text, &writer->run->err), &writer->run->err);
	writer->texts++;
	if (writer->texts % 256 == 0)
	{
		TimestampTz now = GetCurrentTimestamp();

		if (TimestampDifferenceExceeds(writer->shown, now, PROGRESS_MS))
		{
			char		what[80];

			snprintf(what, sizeof(what), "reading the corpus, " INT64_FORMAT " texts", writer->texts);
			show_activity(writer->run, what);
			writer->shown = now;
		}
	}
}

static void
check_corpus(const DistilSpoolInfo *info)
{
	if (info->texts == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the corpus is empty"),
				 errdetail("The query returned no text that is not NULL to this role."),
				 errhint("Row security is applied with the custom settings of the session that called"
						 " distil_train.")));
	if (info->sequences == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the corpus has no usable text"),
				 errdetail("All " INT64_FORMAT " texts are too short for this method.", info->texts)));
}

static void
write_spool(DistilRun *run, DistilFileSink *file)
{
	SpoolWriter writer = {run, NULL, 0, GetCurrentTimestamp()};
	DistilCorpus corpus;
	int			level = NewGUCNestLevel();

	/* Names and custom settings mean what they meant to the caller; policies are applied, never refused. */
	(void) set_config_option("search_path", run->row.search_path, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("row_security", "on", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);

	distil_job_settings_apply(run->row.settings);
	distil_bridge_check(distil_spool_create(&writer.spool, run->teacher, &run->options, &file->sink,
											run->alloc, &run_poll, &run->err), &run->err);
	PG_TRY();
	{
		SPI_connect();
		distil_corpus_open(&corpus, run->row.corpus, run->row.column_name);
		distil_corpus_read(&corpus, PG_INT64_MAX, add_text, &writer);
		SPI_finish();

		/* Back to what was set before, whatever functions of the corpus have set: role, read-only, ... */
		AtEOXact_GUC(false, level);
		distil_bridge_check(distil_spool_finish(writer.spool, &run->err), &run->err);
		check_corpus(distil_spool_info(writer.spool));
		distil_bridge_check(distil_file_sink_finish(file, path_of(run, "spool"), &run->err), &run->err);
		distil_job_set_spool(run->job, distil_spool_info(writer.spool));
	}
	PG_FINALLY();
	{
		distil_spool_free(writer.spool);
	}
	PG_END_TRY();
}

void
distil_run_read_corpus(DistilRun *run)
{
	DistilFileSink *file;

	if (run->row.has_spool && access(path_of(run, "spool"), R_OK) == 0)
		return;
	show_activity(run, "reading the corpus");
	file = MemoryContextAlloc(run->context, sizeof(DistilFileSink));
	distil_bridge_check(distil_file_sink_open(file, path_of(run, "spool.tmp"), &run->err), &run->err);
	distil_job_locks_lend(run->job, run->slot);
	PG_TRY();
	{
		write_spool(run, file);
	}
	PG_FINALLY();
	{
		distil_job_locks_take_back(run->job, run->slot);
		distil_file_sink_discard(file);
	}
	PG_END_TRY();
	pfree(file);
}

/* ---------- checkpoints ---------- */

static DistilStatus
save_checkpoint(DistilRun *run)
{
	char	   *current = path_of(run, "checkpoint");
	DistilFileSink *file = MemoryContextAlloc(run->context, sizeof(DistilFileSink));
	DistilStatus status = distil_file_sink_open(file, path_of(run, "checkpoint.tmp"), &run->err);

	if (status == DISTIL_OK)
	{
		status = distil_trainer_save(run->trainer, &file->sink, &run->err);
		if (status == DISTIL_OK)
		{
			/* No checkpoint yet is fine; any other failure costs only the older copy. */
			if (rename(current, path_of(run, "checkpoint.old")) != 0 && errno != ENOENT)
				ereport(LOG,
						(errcode_for_file_access(),
						 errmsg("could not rename file \"%s\": %m", current)));
			status = distil_file_sink_finish(file, current, &run->err);
		}
		else
			distil_file_sink_discard(file);
	}
	pfree(file);
	run->last_checkpoint = GetCurrentTimestamp();
	return status;
}

void
distil_run_checkpoint(DistilRun *run)
{
	DistilStatus status;

	if (run->trainer == NULL)
		return;
	checkpointing = true;
	status = save_checkpoint(run);
	checkpointing = false;
	if (status != DISTIL_OK)
		ereport(LOG,
				(errmsg("distil job " INT64_FORMAT ": no checkpoint could be written", run->job),
				 errdetail_internal("%s", run->err.message)));
	else
		ereport(DEBUG1,
				(errmsg("distil job " INT64_FORMAT ": checkpoint at step " INT64_FORMAT,
						run->job, run->figures.report.step)));
}

bool
distil_run_has_checkpoint(const DistilRun *run)
{
	return access(path_of(run, "checkpoint"), R_OK) == 0 || access(path_of(run, "checkpoint.old"), R_OK) == 0;
}

static DistilStatus
create_trainer(DistilRun *run)
{
	DistilStatus status;

	distil_trainer_free(run->trainer);
	run->trainer = NULL;
	do
		status = distil_trainer_create(&run->trainer, run->teacher, &run->options, run->spool,
									   run->spool_size, run->devices, run->ndevices, run->alloc, &run_poll,
									   &run->err);
	while (distil_run_leave_accelerator(run, status));
	return status;
}

/* A trainer at the newest valid checkpoint, or at the beginning. */
static DistilStatus
open_trainer(DistilRun *run)
{
	static const char *const files[] = {"checkpoint", "checkpoint.old"};
	DistilStatus status = create_trainer(run);
	size_t		i;

	for (i = 0; status == DISTIL_OK && i < lengthof(files); i++)
	{
		size_t		size;
		const void *data = distil_file_map(path_of(run, files[i]), &size);

		if (data == NULL)
			continue;
		status = distil_trainer_restore(run->trainer, data, size, &run->figures.report, &run->err);
		distil_file_unmap(data, size);
		if (status == DISTIL_OK)
		{
			ereport(LOG,
					(errmsg("distil job " INT64_FORMAT " goes on after step " INT64_FORMAT,
							run->job, run->figures.report.step)));
			return status;
		}
		if (status == DISTIL_ERR_CANCELLED || status == DISTIL_ERR_MEMORY)
			return status;
		ereport(LOG,
				(errmsg("distil job " INT64_FORMAT ": file \"%s\" is not used", run->job, files[i]),
				 errdetail_internal("%s", run->err.message)));
		status = create_trainer(run);
	}
	if (status == DISTIL_OK)
		run->figures.report = *distil_trainer_report(run->trainer);
	return status;
}

/* ---------- progress ---------- */

static void
flush_log(DistilRun *run)
{
	int			i;

	for (i = 0; i < run->npending; i++)
		distil_job_log_add(run->job, &run->pending[i]);
	run->npending = 0;
}

void
distil_run_write_figures(DistilRun *run)
{
	MemoryContext old;

	if (run->pending == NULL)
		return;
	flush_log(run);
	old = MemoryContextSwitchTo(run->context);
	distil_job_set_progress(run->job, &run->figures, &run->request);
	MemoryContextSwitchTo(old);
}

/* Row and log; whether the row asks for something. */
static bool
write_progress(DistilRun *run)
{
	HOLD_INTERRUPTS();
	distil_run_begin(run);
	distil_run_write_figures(run);
	distil_run_commit(run);
	RESUME_INTERRUPTS();
	run->last_progress = run->figures.at;
	return run->request != NULL;
}

/*
 * Speed over the last ten seconds or more, and the time of the end that follows from it.  part: of the next
 * step that is done.
 */
static void
measure_speed(DistilRun *run, double part)
{
	DistilJobFigures *figures = &run->figures;
	double		seconds = (figures->at - run->speed_time) / 1e6;
	double		steps = figures->report.step - run->speed_step + part;

	if (seconds <= 0 || steps <= 0)
		return;
	figures->tokens_per_second = (figures->report.tokens - run->speed_tokens) / seconds;
	figures->eta = figures->at +
		(int64) ((figures->report.steps - figures->report.step - part) * (seconds / steps) * 1e6);
	if (seconds > 20 && part == 0)
	{
		/* Half of the window is forgotten. */
		run->speed_step += (int64) steps / 2;
		run->speed_tokens += (figures->report.tokens - run->speed_tokens) / 2;
		run->speed_time += (figures->at - run->speed_time) / 2;
	}
}

/*
 * In the middle of a long update: the speed so far.  What is asked of the job ends the update, which the next
 * run does again.
 */
static DistilStatus
watch_update(void *ctx, double done, int64_t tokens, DistilError *err)
{
	DistilRun  *run = ctx;
	DistilJobFigures kept = run->figures;
	TimestampTz now = GetCurrentTimestamp();
	char		what[100];

	(void) err;
	if (!TimestampDifferenceExceeds(run->last_progress, now, PROGRESS_MS))
		return DISTIL_OK;
	snprintf(what, sizeof(what), "step " INT64_FORMAT "/" INT64_FORMAT ", %d %% of the next",
			 kept.report.step, kept.report.steps, (int) (100 * done));
	show_activity(run, what);
	run->figures.at = now;
	run->figures.report.tokens = tokens;
	measure_speed(run, done);
	distil_run_keep_figures(run);
	run->figures = kept;
	run->last_progress = now;
	return run->request != NULL ? DISTIL_ERR_CANCELLED : DISTIL_OK;
}

static void
note_step(DistilRun *run)
{
	const DistilTrainReport *report = &run->figures.report;
	int64		every = (report->steps + MAX_LOG_ROWS - 1) / MAX_LOG_ROWS;

	run->figures.at = GetCurrentTimestamp();
	measure_speed(run, 0);
	if (every > 1 && report->step % every != 0 && report->step != 1 && report->step != report->steps &&
		isnan(report->eval_loss))
		return;
	if (run->npending < MAX_PENDING)
		run->pending[run->npending++] = run->figures;
}

static void
show_step(DistilRun *run)
{
	const DistilTrainReport *report = &run->figures.report;
	char		what[100];

	if (isnan(report->loss))
		snprintf(what, sizeof(what), "step " INT64_FORMAT "/" INT64_FORMAT, report->step, report->steps);
	else
		snprintf(what, sizeof(what), "step " INT64_FORMAT "/" INT64_FORMAT " loss %.4g",
				 report->step, report->steps, report->loss);
	show_activity(run, what);
}

/* ---------- the loop ---------- */

/* An interrupt that the engine has stopped for. */
static DistilRunStop
stop_reason(void)
{
	if (!PostmasterIsAlive())
		proc_exit(1);
	if (ProcDiePending)
		return DISTIL_STOP_TERMINATE;
	if (QueryCancelPending)
	{
		QueryCancelPending = false;
		return DISTIL_STOP_REQUEST;
	}
	return DISTIL_STOP_NONE;
}

static void
serve_signals(DistilRun *run)
{
	if (run->in_session)
		return;
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

static DistilRunStop
begin_measuring(DistilRun *run)
{
	TimestampTz now = GetCurrentTimestamp();

	run->pending = MemoryContextAlloc(run->context, MAX_PENDING * sizeof(DistilJobFigures));
	run->figures.at = now;
	run->figures.tokens_per_second = NAN;
	run->last_progress = 0;
	run->last_checkpoint = now;
	run->speed_time = now;
	run->speed_step = run->figures.report.step;
	run->speed_tokens = run->figures.report.tokens;

	/* What was logged after the checkpoint is about to happen again. */
	HOLD_INTERRUPTS();
	distil_run_begin(run);
	distil_job_log_truncate(run->job, run->figures.report.step);
	distil_run_commit(run);
	RESUME_INTERRUPTS();

	/* The number of steps, which the first one may keep waiting for. */
	show_step(run);
	if (write_progress(run))
		return DISTIL_STOP_REQUEST;
	run->last_progress = 0;
	distil_trainer_watch(run->trainer, watch_update, run);
	return DISTIL_STOP_NONE;
}

/* Checkpoint when it is time; the row then forgives earlier crashes. */
static void
checkpoint_if_due(DistilRun *run)
{
	if (!TimestampDifferenceExceeds(run->last_checkpoint, run->figures.at,
									run->options.checkpoint_seconds * 1000))
		return;
	distil_run_checkpoint(run);
	HOLD_INTERRUPTS();
	distil_run_begin(run);
	distil_job_set_progressed(run->job);
	distil_run_commit(run);
	RESUME_INTERRUPTS();
}

void
distil_run_forget_corpus(DistilRun *run)
{
	ereport(LOG,
			(errmsg("distil job " INT64_FORMAT " reads its corpus again", run->job),
			 errdetail_internal("%s", run->err.message)));
	distil_file_unmap(run->spool, run->spool_size);
	run->spool = NULL;
	if (unlink(path_of(run, "spool")) != 0 && errno != ENOENT)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", path_of(run, "spool"))));
	distil_job_set_spool(run->job, NULL);
	run->row.has_spool = false;
}

static DistilStatus
map_spool(DistilRun *run)
{
	run->spool = distil_file_map(path_of(run, "spool"), &run->spool_size);
	if (run->spool != NULL)
		return DISTIL_OK;
	snprintf(run->err.message, sizeof(run->err.message), "could not map the job's spool: %s",
			 strerror(errno));
	return errno == EINVAL ? DISTIL_ERR_CORRUPT : DISTIL_ERR_IO;	/* nothing is in it */
}

DistilRunStop
distil_run_train(DistilRun *run)
{
	DistilRunStop stop;

	run->status = map_spool(run);
	if (run->status == DISTIL_OK)
		run->status = open_trainer(run);
	if (run->status == DISTIL_ERR_CORRUPT && run->trainer == NULL)
		return DISTIL_STOP_CORPUS;
	if (run->status != DISTIL_OK)
	{
		stop = stop_reason();
		return run->status == DISTIL_ERR_CANCELLED && stop != DISTIL_STOP_NONE ? stop : DISTIL_STOP_ERROR;
	}
	stop = begin_measuring(run);
	if (stop != DISTIL_STOP_NONE)
		return stop;
	while (!distil_trainer_done(run->trainer))
	{
		int64		before = run->figures.report.step;

		serve_signals(run);
		run->status = distil_trainer_step(run->trainer, &run->figures.report, &run->err);
		if (run->status != DISTIL_OK && run->status != DISTIL_ERR_CANCELLED)
			return DISTIL_STOP_ERROR;
		/* A step that was asked to stop while it changed the weights has been done all the same. */
		if (run->figures.report.step > before)
			note_step(run);
		stop = stop_reason();
		if (stop != DISTIL_STOP_NONE)
			return stop;
		if (run->status == DISTIL_ERR_CANCELLED)
			return run->request != NULL ? DISTIL_STOP_REQUEST : DISTIL_STOP_ERROR;
		if (run->npending == MAX_PENDING ||
			TimestampDifferenceExceeds(run->last_progress, run->figures.at, PROGRESS_MS))
		{
			show_step(run);
			if (write_progress(run))
				return DISTIL_STOP_REQUEST;
		}
		checkpoint_if_due(run);
	}
	return write_progress(run) ? DISTIL_STOP_REQUEST : DISTIL_STOP_NONE;
}

/* ---------- the student ---------- */

void
distil_run_finish(DistilRun *run)
{
	const DistilFolder *folder;
	DistilImportOptions options = {0};
	DistilImport *import = NULL;

	show_activity(run, "storing the student");
	distil_bridge_check(distil_trainer_student(run->trainer, &folder, &run->err), &run->err);
	options.parse_special = distil_tokenizer_defaults(distil_model_tokenizer(run->teacher)).parse_special;
	distil_bridge_check(distil_import_open(&import, folder, &options, run->alloc, distil_bridge_poll(),
										   &run->err), &run->err);
	PG_TRY();
	{
		distil_store_import(run->row.student, import, run->row.teacher);
	}
	PG_FINALLY();
	{
		distil_import_free(import);
	}
	PG_END_TRY();
	distil_job_end(run->job, "done", NULL);
}

void
distil_run_close(DistilRun *run)
{
	distil_trainer_free(run->trainer);
	run->trainer = NULL;
	distil_run_close_devices(run);
	distil_file_unmap(run->spool, run->spool_size);
	run->spool = NULL;
	distil_cache_close(run->open);
	run->open = NULL;
	run->teacher = NULL;
}
