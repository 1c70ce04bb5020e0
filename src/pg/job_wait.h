/*
 * job_wait.h
 *		Waiting for a training job, with its progress as notices.
 */
#ifndef DISTIL_JOB_WAIT_H
#define DISTIL_JOB_WAIT_H

#include "postgres.h"

/*
 * Wait until the job rests (done, failed, canceled, paused) or timeout_ms (-1: none) have
 * passed; in a procedure that may commit, SPI connected, no snapshot pushed.  Ends as
 * distil_job_report_end(job, ERROR) does.  A job that no worker takes within ten seconds
 * although there is a free place: 53000; it stays queued.
 */
extern void distil_job_wait(int64 job, int64 timeout_ms);

/* Say how a job has ended; with ERROR a failed or canceled one is an error, with NOTICE never. */
extern void distil_job_report_end(int64 job, int elevel);

#endif							/* DISTIL_JOB_WAIT_H */
