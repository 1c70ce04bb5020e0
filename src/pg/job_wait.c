/*
 * job_wait.c
 *		Waiting for a training job, with its progress as notices.
 *
 * The rule a newcomer would break: every look at the row is a transaction of its own, so
 * that the wait sees what others commit and keeps no snapshot for hours.
 *
 * On a standby the rows are the primary's, and so are the workers: nothing is launched
 * there, and no job is called lost.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "guc.h"
#include "job.h"
#include "job_wait.h"

#define POLL_MS 250
#define START_TIMEOUT_MS 10000
#define BAR_WIDTH 10
/* Looks at a running job without a process before it is called lost: the process may just be starting. */
#define LOST_LOOKS 12

typedef struct Waiter
{
	int64		job;
	TimestampTz began;
	TimestampTz unstarted;		/* queued although there is a place, since; 0 = not so */
	TimestampTz noticed;		/* last progress notice */
	int64		noticed_step;
	int			noticed_percent;
	int			lost;
	bool		launched;
	bool		told_queue;
	bool		told_reading;
} Waiter;

/* 4210 -> "4,210" */
static char *
with_commas(double value)
{
	char	   *digits = psprintf("%.0f", value);
	int			length = strlen(digits);
	StringInfoData result;
	int			i;

	initStringInfo(&result);
	for (i = 0; i < length; i++)
	{
		if (i > 0 && (length - i) % 3 == 0)
			appendStringInfoChar(&result, ',');
		appendStringInfoChar(&result, digits[i]);
	}
	return result.data;
}

/* 83 -> "1:23", 3723 -> "1:02:03" */
static char *
as_clock(int64 seconds)
{
	if (seconds < 0)
		seconds = 0;
	if (seconds >= 3600)
		return psprintf(INT64_FORMAT ":%02d:%02d", seconds / 3600, (int) (seconds / 60 % 60),
						(int) (seconds % 60));
	return psprintf("%d:%02d", (int) (seconds / 60), (int) (seconds % 60));
}

static void
show_progress(Waiter *waiter, const DistilJob *row)
{
	TimestampTz now = GetCurrentTimestamp();
	StringInfoData line;
	int			percent;
	int			filled;

	if (row->steps == 0)
	{
		if (!row->has_spool && !waiter->told_reading)
			ereport(NOTICE, (errmsg("job " INT64_FORMAT " reads its corpus", row->job)));
		waiter->told_reading = true;
		return;
	}
	percent = (int) (100 * row->step / row->steps);
	if (row->step == waiter->noticed_step ||
		!TimestampDifferenceExceeds(waiter->noticed, now, percent == waiter->noticed_percent ? 10000 : 1000))
		return;
	waiter->noticed = now;
	waiter->noticed_step = row->step;
	waiter->noticed_percent = percent;

	filled = (int) (BAR_WIDTH * row->step / row->steps);
	initStringInfo(&line);
	appendStringInfo(&line, "[%.*s%.*s] %2d %%  step " INT64_FORMAT "/" INT64_FORMAT,
					 filled, "##########", BAR_WIDTH - filled, "..........", percent, row->step, row->steps);
	if (!isnan(row->loss))
		appendStringInfo(&line, "  loss %.4f", row->loss);
	if (!isnan(row->tokens_per_second))
		appendStringInfo(&line, "  %s tokens/s", with_commas(row->tokens_per_second));
	if (row->eta != 0)
		appendStringInfo(&line, "  eta %s", as_clock((row->eta - now) / 1000000));
	ereport(NOTICE, (errmsg_internal("%s", line.data)));
}

static void
watch_queued(Waiter *waiter, const DistilJob *row, int taken)
{
	TimestampTz now = GetCurrentTimestamp();

	if (taken >= distil_max_jobs)
	{
		if (!waiter->told_queue)
			ereport(NOTICE,
					(errmsg("job " INT64_FORMAT " waits until another job ends", row->job),
					 errdetail("distil.max_jobs = %d.", distil_max_jobs)));
		waiter->told_queue = true;
		waiter->unstarted = 0;
		return;
	}
	if (waiter->unstarted == 0)
		waiter->unstarted = now;
	if (!TimestampDifferenceExceeds(waiter->unstarted, now, START_TIMEOUT_MS))
	{
		if (!waiter->launched)
			waiter->launched = distil_job_launch(row->job, row->owner);
		return;
	}
	if (waiter->launched)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("the worker of job " INT64_FORMAT " did not start: the job stays queued", row->job),
				 errhint("The server log tells why.")));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("no free worker slot: job " INT64_FORMAT " stays queued", row->job),
			 errhint("It starts with distil_resume(" INT64_FORMAT "), or in a session with"
					 " CALL distil_work().  Consider increasing max_worker_processes.", row->job)));
}

static void
watch_running(Waiter *waiter, const DistilJob *row, int holder)
{
	waiter->unstarted = 0;
	waiter->lost = holder == 0 ? waiter->lost + 1 : 0;
	if (waiter->lost > LOST_LOOKS)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("job " INT64_FORMAT " was interrupted: its worker has ended", row->job),
				 errhint("SELECT distil_resume(" INT64_FORMAT ") goes on from the last checkpoint.",
						 row->job)));
	show_progress(waiter, row);
}

/* One look in one transaction; true = the job rests. */
static bool
look(Waiter *waiter)
{
	DistilJob	row;
	bool		found;
	bool		queued;
	bool		running;
	bool		elsewhere;
	int			holder = 0;
	int			taken = 0;

	PushActiveSnapshot(GetTransactionSnapshot());
	found = distil_job_read(waiter->job, &row);
	queued = found && strcmp(row.state, "queued") == 0;
	running = found && strcmp(row.state, "running") == 0;
	elsewhere = RecoveryInProgress();
	if (queued && !elsewhere)
		taken = distil_job_slots_taken();
	/* Of a queued job too, and then: one of the slots that were counted may be its own. */
	if ((queued || running) && !elsewhere)
		holder = distil_job_holder(waiter->job);
	PopActiveSnapshot();
	SPI_commit();
	if (queued && !elsewhere && holder == 0)
		watch_queued(waiter, &row, taken);
	if (running && elsewhere)
		show_progress(waiter, &row);
	else if (running)
		watch_running(waiter, &row, holder);
	return !queued && !running;
}

/* true = the job rests, false = the time is over */
static bool
wait_loop(Waiter *waiter, int64 timeout_ms)
{
	MemoryContext outer = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(outer, "distil wait", ALLOCSET_DEFAULT_SIZES);
	bool		rests;

	for (;;)
	{
		bool		over = timeout_ms >= 0 &&
			GetCurrentTimestamp() - waiter->began >= timeout_ms * INT64CONST(1000);

		MemoryContextSwitchTo(context);
		rests = look(waiter);
		MemoryContextSwitchTo(outer);
		MemoryContextReset(context);
		if (rests || over)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextDelete(context);
	return rests;
}

void
distil_job_wait(int64 job, int64 timeout_ms)
{
	Waiter		waiter = {0};
	volatile bool rests = false;

	waiter.job = job;
	waiter.began = GetCurrentTimestamp();
	waiter.noticed_step = -1;
	waiter.noticed_percent = -1;
	PG_TRY();
	{
		rests = wait_loop(&waiter, timeout_ms);
	}
	PG_CATCH();
	{
		if (geterrcode() == ERRCODE_QUERY_CANCELED)
			ereport(NOTICE,
					(errmsg("only the wait is over: job " INT64_FORMAT " goes on in the background", job),
					 errhint("SELECT distil_cancel(" INT64_FORMAT ") ends the job,"
							 " CALL distil_wait(" INT64_FORMAT ") waits again.", job, job)));
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (!rests)
	{
		ereport(NOTICE, (errmsg("job " INT64_FORMAT " goes on, the time to wait is over", job)));
		return;
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	distil_job_report_end(job, ERROR);
	PopActiveSnapshot();
}

void
distil_job_report_end(int64 job, int elevel)
{
	DistilJob	row;
	int			code = ERRCODE_SYSTEM_ERROR;

	if (!distil_job_read(job, &row))
		return;
	if (strcmp(row.state, "failed") == 0)
	{
		if (row.error_code != NULL && strlen(row.error_code) == 5)
			code = MAKE_SQLSTATE(row.error_code[0], row.error_code[1], row.error_code[2],
								 row.error_code[3], row.error_code[4]);
		ereport(elevel == ERROR ? ERROR : WARNING,
				(errcode(code),
				 errmsg("job " INT64_FORMAT " failed: %s", job,
						row.error != NULL ? row.error : "unknown error"),
				 row.error_hint != NULL ? errhint("%s", row.error_hint) : 0));
	}
	else if (strcmp(row.state, "canceled") == 0)
		ereport(elevel == ERROR ? ERROR : NOTICE,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("job " INT64_FORMAT " was canceled", job)));
	else if (strcmp(row.state, "paused") == 0)
		ereport(NOTICE,
				(errmsg("job " INT64_FORMAT " is paused", job),
				 errhint("SELECT distil_resume(" INT64_FORMAT ") goes on.", job)));
	else if (strcmp(row.state, "done") == 0)
		ereport(NOTICE,
				(errmsg("job " INT64_FORMAT " is done: model \"%s\" is ready", job, row.student)));
}
