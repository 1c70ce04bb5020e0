/*
 * sql_train.c
 *		SQL functions of training: distil_train, distil_wait, distil_work, and the
 *		commands and reports of jobs.
 *
 * The rule a newcomer would break: distil_train checks everything it can at the call,
 * with the caller's rights, so that a job which was accepted does not fail an hour later
 * for a reason that was known.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/shmem.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "bridge.h"
#include "compat.h"
#include "corpus.h"
#include "guc.h"
#include "job.h"
#include "job_wait.h"
#include "model_cache.h"
#include "model_store.h"
#include "threads.h"
#include "train_run.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(distil_train);
PG_FUNCTION_INFO_V1(distil_wait);
PG_FUNCTION_INFO_V1(distil_work);
PG_FUNCTION_INFO_V1(distil_last_job);
PG_FUNCTION_INFO_V1(distil_cancel);
PG_FUNCTION_INFO_V1(distil_pause);
PG_FUNCTION_INFO_V1(distil_resume);
PG_FUNCTION_INFO_V1(distil_token_counts);

/* ---------- arguments ---------- */

/* Whether this procedure may commit. */
static bool
may_commit(FunctionCallInfo fcinfo)
{
	return fcinfo->context != NULL && IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic;
}

static char *
text_or_null(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static void
require(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
}

static void
forbid_in_transaction(FunctionCallInfo fcinfo, const char *what, const char *hint)
{
	if (!may_commit(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run inside a transaction block or function", what),
				 hint != NULL ? errhint("%s", hint) : 0));
}

/* Before PostgreSQL 17 a worker cannot run as a role that may not log in. */
static void
check_login(void)
{
	HeapTuple	tuple;
	bool		login;

	if (DISTIL_CAN_BYPASS_ROLELOGIN)
		return;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	login = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (!login)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" may not log in, so no worker can run as it",
						GetUserNameFromId(GetUserId(), true)),
				 errhint("Call distil_train as a role with LOGIN.")));
}

/* ---------- distil_train ---------- */

static void
check_student(const char *student)
{
	int64		job;

	distil_store_check_name(student);
	distil_job_name_lock(student);
	distil_store_check_free(student);

	distil_store_check_dropped(student, "Choose another name with student => '...': indexes and stored"
							   " results may still rely on the old content.");
	job = distil_job_for_student(student, 0);
	if (job != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("job " INT64_FORMAT " is already making a model \"%s\"", job, student),
				 errhint("Choose another name with student => '...', or distil_cancel(" INT64_FORMAT ").",
						 job)));
}

/* Threads of the job: its option, else the setting, else all cores; never more than allowed. */
static int
choose_threads(int option)
{
	int			limit = distil_max_threads > 0 ? distil_max_threads : distil_threads_cores();

	if (option > limit)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"threads\" is %d, but distil.max_threads allows %d", option, limit)));
	if (option > 0)
		return option;
	return Min(distil_threads > 0 ? distil_threads : distil_threads_cores(), limit);
}

/* Method and options, checked by the engine against the teacher and made explicit. */
static void
choose_options(DistilJobRequest *request, const char *method, Datum options_datum)
{
	DistilOpenModel *teacher = distil_cache_get(request->teacher);
	DistilAllocator *alloc = distil_bridge_allocator(CurrentMemoryContext);
	Jsonb	   *jsonb = DatumGetJsonbP(options_datum);
	DistilTrainOptions *options = palloc0(sizeof(DistilTrainOptions));
	DistilError err;
	char	   *json;
	char	   *effective;

	json = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
	json = pg_server_to_any(json, strlen(json), PG_UTF8);
	distil_bridge_check(distil_train_options_parse(options, method, json, strlen(json), teacher->model,
												   alloc, &err), &err);
	distil_bridge_check(distil_train_check(teacher->model, options, alloc, &err), &err);
	distil_train_device_check(options);
	request->threads = choose_threads(options->threads);
	request->isa = distil_isa == DISTIL_ISA_AUTO ? distil_device_isa(distil_bridge_device())
		: distil_guc_isa_name(distil_isa);
	distil_bridge_check(distil_train_options_write(&effective, options, alloc, &err), &err);
	request->options = pg_any_to_server(effective, strlen(effective), PG_UTF8);
	request->method = options->method == DISTIL_METHOD_EMBEDDING ? "embedding" : "triple";
}

Datum
distil_train(PG_FUNCTION_ARGS)
{
	DistilJobRequest request = {0};
	DistilModelRow teacher;
	DistilCorpus corpus;
	bool		wait;
	int64		job;

	require(fcinfo, 0, "teacher");
	require(fcinfo, 1, "corpus");
	require(fcinfo, 5, "options");
	require(fcinfo, 6, "wait");
	wait = PG_GETARG_BOOL(6);
	if (wait)
		forbid_in_transaction(fcinfo, "distil_train with wait => true",
							  "Leave out wait; the job starts when the transaction commits.");
	PreventCommandIfReadOnly("CALL distil_train");
	check_login();

	SPI_connect_ext(wait ? SPI_OPT_NONATOMIC : 0);
	PushActiveSnapshot(GetTransactionSnapshot());
	distil_store_lookup(&teacher, text_or_null(fcinfo, 0));
	request.teacher = pstrdup(teacher.name);
	request.student = PG_ARGISNULL(2) ? psprintf("distil%s", teacher.name) : text_or_null(fcinfo, 2);
	check_student(request.student);
	choose_options(&request, text_or_null(fcinfo, 4), PG_GETARG_DATUM(5));
	distil_corpus_open(&corpus, text_or_null(fcinfo, 1), text_or_null(fcinfo, 3));
	request.corpus = corpus.name;
	request.column_name = corpus.column;
	job = distil_job_insert(&request);
	PopActiveSnapshot();

	distil_job_at_commit(DISTIL_JOB_LAUNCH, job, GetUserId(), 0);
	ereport(NOTICE,
			(errmsg("job " INT64_FORMAT ": model \"%s\" is distilled from \"%s\"%s", job, request.student,
					request.teacher, may_commit(fcinfo) ? "" : " when this transaction commits")));
	if (wait)
	{
		/* Otherwise the job starts with the caller's commit: what was done before is not ours to commit. */
		distil_job_quiet_launch = true;
		SPI_commit();
		distil_job_wait(job, -1);
	}
	SPI_finish();
	PG_RETURN_VOID();
}

/* ---------- waiting and working ---------- */

Datum
distil_wait(PG_FUNCTION_ARGS)
{
	DistilJob	row;
	int64		ms = -1;

	require(fcinfo, 0, "job");
	forbid_in_transaction(fcinfo, "distil_wait", NULL);
	if (!PG_ARGISNULL(1))
	{
		Interval   *timeout = PG_GETARG_INTERVAL_P(1);
		double		seconds = timeout->time / 1e6 + timeout->day * 86400.0 + timeout->month * 30.0 * 86400.0;

		if (seconds < 0 || seconds > 1e9)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("timeout must be between 0 and 1,000,000,000 seconds")));
		ms = (int64) (seconds * 1000);
	}
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	PushActiveSnapshot(GetTransactionSnapshot());
	distil_job_get(PG_GETARG_INT64(0), &row, false);
	PopActiveSnapshot();
	distil_job_wait(row.job, ms);
	SPI_finish();
	PG_RETURN_VOID();
}

/* Oldest queued job of a role (InvalidOid: of any), 0 = none. */
static int64
next_job(Oid role, Oid *owner)
{
	int64		job;

	PushActiveSnapshot(GetTransactionSnapshot());
	job = distil_job_next(role, owner);
	PopActiveSnapshot();
	return job;
}

Datum
distil_work(PG_FUNCTION_ARGS)
{
	Oid			owner;
	int64		job;
	int			jobs = 0;

	forbid_in_transaction(fcinfo, "distil_work", NULL);
	PreventCommandIfReadOnly("CALL distil_work");
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	while ((job = next_job(GetUserId(), &owner)) != 0)
	{
		DistilRunOutcome outcome = distil_worker_run(job, true);

		if (outcome == DISTIL_RUN_TERMINATED)
		{
			CHECK_FOR_INTERRUPTS();
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("canceling statement due to user request"),
					 errdetail("Job " INT64_FORMAT " is queued again and keeps its progress.", job)));
		}
		if (outcome == DISTIL_RUN_NOTHING)
		{
			ereport(NOTICE,
					(errmsg("job " INT64_FORMAT " waits: as many jobs run as distil.max_jobs allows", job)));
			break;
		}
		PushActiveSnapshot(GetTransactionSnapshot());
		distil_job_report_end(job, NOTICE);
		PopActiveSnapshot();
		jobs++;
	}
	if (jobs == 0 && job == 0)
		ereport(NOTICE, (errmsg("no job of role \"%s\" is queued", GetUserNameFromId(GetUserId(), true))));

	/* This session had a place; whoever came in vain meanwhile gets it. */
	if (jobs > 0 && (job = next_job(InvalidOid, &owner)) != 0)
		(void) distil_job_launch(job, owner);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
distil_last_job(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	if (distil_job_last() == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(distil_job_last());
}

/* ---------- commands ---------- */

static void
refuse_state(const DistilJob *row, const char *state, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("job " INT64_FORMAT " is %s", row->job, state),
			 hint != NULL ? errhint("%s", hint) : 0));
}

/* Cancel or pause: by its process if there is one, otherwise at once. */
static void
stop_job(int64 job, bool cancel)
{
	DistilJob	row;
	int			pid;

	PreventCommandIfReadOnly(cancel ? "distil_cancel()" : "distil_pause()");
	distil_job_get(job, &row, true);
	if (strcmp(row.state, "done") == 0 || (!cancel && (strcmp(row.state, "failed") == 0 ||
														strcmp(row.state, "canceled") == 0)))
		refuse_state(&row, row.state, NULL);
	if (strcmp(row.state, "failed") == 0 || strcmp(row.state, "canceled") == 0)
	{
		/*
		 * Nothing runs any more; what could still be resumed is given up.  A resume waits
		 * until the folder is gone, and one that came before has left another state.
		 */
		distil_job_at_commit(DISTIL_JOB_FORGET, job, row.owner, 0);
		return;
	}
	pid = strcmp(row.state, "running") == 0 ? distil_job_holder(job) : 0;
	if (pid != 0)
	{
		distil_job_set_request(job, cancel ? "cancel" : "pause");
		distil_job_at_commit(DISTIL_JOB_SIGNAL, job, row.owner, pid);
		return;
	}
	distil_job_end(job, cancel ? "canceled" : "paused", NULL);
	if (cancel)
		distil_job_at_commit(DISTIL_JOB_FORGET, job, row.owner, 0);
}

Datum
distil_cancel(PG_FUNCTION_ARGS)
{
	require(fcinfo, 0, "job");
	stop_job(PG_GETARG_INT64(0), true);
	PG_RETURN_VOID();
}

Datum
distil_pause(PG_FUNCTION_ARGS)
{
	require(fcinfo, 0, "job");
	stop_job(PG_GETARG_INT64(0), false);
	PG_RETURN_VOID();
}

/* A job runs with the rights of its owner, the one to train included. */
static void
check_allowed(const DistilJob *row)
{
	char	   *owner = GetUserNameFromId(row->owner, true);

	if (!distil_job_allowed(row->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to resume job " INT64_FORMAT, row->job),
				 errdetail("Its owner may not execute distil_train any more."),
				 owner != NULL ? errhint("To allow it: GRANT EXECUTE ON PROCEDURE distil_train TO %s.",
										 quote_identifier(owner)) : 0));
}

Datum
distil_resume(PG_FUNCTION_ARGS)
{
	DistilJob	row;
	int64		other;

	require(fcinfo, 0, "job");
	PreventCommandIfReadOnly("distil_resume()");
	distil_job_get(PG_GETARG_INT64(0), &row, true);
	if (strcmp(row.state, "done") == 0)
		refuse_state(&row, row.state, "A student is never trained further; start a new job.");
	if (strcmp(row.state, "running") == 0 && distil_job_holder(row.job) != 0)
		refuse_state(&row, row.state,
					 row.request != NULL ? "It is about to stop; try again in a moment." : NULL);
	check_allowed(&row);
	distil_job_name_lock(row.student);
	distil_job_check_name(&row);
	other = distil_job_for_student(row.student, row.job);
	if (other != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("job " INT64_FORMAT " is already making a model \"%s\"", other, row.student)));
	if (strcmp(row.state, "queued") != 0)
		distil_job_requeue(row.job);
	distil_job_at_commit(DISTIL_JOB_LAUNCH, row.job, row.owner, 0);
	PG_RETURN_VOID();
}

/* ---------- token counts ---------- */

typedef struct TokenCounter
{
	const DistilTokenizer *tokenizer;
	DistilEncoding encoding;
	DistilEncodeOptions options;
	int64	   *counts;			/* [vocabulary] */
	int			vocabulary;
	DistilError err;
} TokenCounter;

static void
count_text(void *ctx, Datum text_datum)
{
	TokenCounter *counter = ctx;
	DistilText	text = distil_bridge_text(text_datum);
	int			i;

	distil_bridge_check(distil_tokenizer_encode(counter->tokenizer, &counter->encoding, &text, NULL,
												&counter->options, distil_bridge_poll(), &counter->err),
						&counter->err);
	for (i = 0; i < counter->encoding.n; i++)
		if (counter->encoding.ids[i] >= 0 && counter->encoding.ids[i] < counter->vocabulary)
			counter->counts[counter->encoding.ids[i]]++;
}

Datum
distil_token_counts(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TokenCounter *counter = palloc0(sizeof(TokenCounter));
	DistilCorpus corpus;
	int			id;

	require(fcinfo, 0, "model");
	require(fcinfo, 1, "corpus");
	InitMaterializedSRF(fcinfo, 0);
	counter->tokenizer = distil_model_tokenizer(distil_cache_get(text_or_null(fcinfo, 0))->model);
	counter->options = distil_tokenizer_defaults(counter->tokenizer);
	counter->options.parse_special = false;
	counter->vocabulary = distil_tokenizer_vocabulary(counter->tokenizer);
	counter->counts = palloc0(mul_size(counter->vocabulary, sizeof(int64)));
	distil_encoding_init(&counter->encoding, distil_bridge_allocator(CurrentMemoryContext));

	SPI_connect();
	distil_corpus_open(&corpus, text_or_null(fcinfo, 1), text_or_null(fcinfo, 2));
	distil_corpus_read(&corpus, PG_INT64_MAX, count_text, counter);
	SPI_finish();

	for (id = 0; id < counter->vocabulary; id++)
	{
		Datum		values[3];
		bool		nulls[3] = {false, false, false};
		size_t		length;
		const char *token;

		if (counter->counts[id] == 0)
			continue;
		token = distil_tokenizer_token(counter->tokenizer, id, &length);
		values[0] = Int32GetDatum(id);
		nulls[1] = token == NULL;
		values[1] = token == NULL ? (Datum) 0 : distil_bridge_datum(token, length);
		values[2] = Int64GetDatum(counter->counts[id]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
