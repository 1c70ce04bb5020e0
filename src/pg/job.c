/*
 * job.c
 *		Rows of distil.job and distil.job_log.
 *
 * The rule a newcomer would break: the tables belong to the owner of the extension and
 * nobody else may touch them, so every statement goes through distil_job_sql(), is a
 * constant string and qualifies every name; values travel as parameters only.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "bridge.h"
#include "compat.h"
#include "job.h"
#include "model_store.h"

static int64 last_job = 0;

/* ---------- statements as the owner of the extension ---------- */

static Oid
table_owner(void)
{
	Oid			namespace_oid = get_namespace_oid("distil", true);
	Oid			table = OidIsValid(namespace_oid) ? get_relname_relid("job", namespace_oid) : InvalidOid;
	HeapTuple	tuple;
	Oid			owner;

	tuple = OidIsValid(table) ? SearchSysCache1(RELOID, ObjectIdGetDatum(table)) : NULL;
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"distil.job\" does not exist"),
				 errhint("Run CREATE EXTENSION distil in this database.")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static int
run_as_owner(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls, bool read_only)
{
	Oid			user;
	int			context;
	volatile int result = 0;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(table_owner(), context | SECURITY_LOCAL_USERID_CHANGE);
	PG_TRY();
	{
		result = SPI_execute_with_args(sql, nargs, types, values, nulls, read_only, 0);
		if (result < 0)
			elog(ERROR, "statement on distil.job failed: %s", SPI_result_code_string(result));
	}
	PG_FINALLY();
	{
		SetUserIdAndSecContext(user, context);
	}
	PG_END_TRY();
	return result;
}

int
distil_job_sql(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	return run_as_owner(sql, nargs, types, values, nulls, false);
}

/* A statement with up to 24 parameters, built one by one. */
#define MAX_PARAMETERS 24

typedef struct Statement
{
	int			n;
	Oid			types[MAX_PARAMETERS];
	Datum		values[MAX_PARAMETERS];
	char		nulls[MAX_PARAMETERS];
} Statement;

static void
add_datum(Statement *st, Oid type, Datum value, bool isnull)
{
	Assert(st->n < MAX_PARAMETERS);
	st->types[st->n] = type;
	st->values[st->n] = value;
	st->nulls[st->n] = isnull ? 'n' : ' ';
	st->n++;
}

static void
add_int64(Statement *st, int64 value)
{
	add_datum(st, INT8OID, Int64GetDatum(value), false);
}

/* NAN is NULL. */
static void
add_float8(Statement *st, double value)
{
	add_datum(st, FLOAT8OID, Float8GetDatum(value), isnan(value));
}

static void
add_text(Statement *st, const char *value)
{
	add_datum(st, TEXTOID, value == NULL ? (Datum) 0 : CStringGetTextDatum(value), value == NULL);
}

static void
add_time(Statement *st, TimestampTz value)
{
	add_datum(st, TIMESTAMPTZOID, TimestampTzGetDatum(value), value == 0);
}

static uint64
execute(Statement *st, const char *sql)
{
	distil_job_sql(sql, st->n, st->types, st->values, st->nulls);
	return SPI_processed;
}

/* One statement with the job as $1 and its own SPI connection; returns the rows processed. */
static uint64
execute_alone(Statement *st, const char *sql)
{
	uint64		rows;

	SPI_connect();
	rows = execute(st, sql);
	SPI_finish();
	return rows;
}

/* ---------- reading ---------- */

#define JOB_COLUMNS \
	"job, owner, state, request, teacher, student, corpus, column_name, method, options, " \
	"search_path, isa, threads, attempts, fingerprint IS NOT NULL, step, steps, loss, " \
	"tokens_per_second, eta, error, error_code, error_hint, settings"

static char *
column_text(HeapTuple tuple, TupleDesc desc, int column, MemoryContext context)
{
	char	   *value = SPI_getvalue(tuple, desc, column);

	return value == NULL ? NULL : MemoryContextStrdup(context, value);
}

static Datum
column_datum(HeapTuple tuple, TupleDesc desc, int column, bool *isnull)
{
	return SPI_getbinval(tuple, desc, column, isnull);
}

static int64
column_int64(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = column_datum(tuple, desc, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

static double
column_float8(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = column_datum(tuple, desc, column, &isnull);

	return isnull ? NAN : DatumGetFloat8(value);
}

/* The first row of SPI_tuptable into a DistilJob whose strings live in `context`. */
static void
read_row(DistilJob *row, MemoryContext context)
{
	HeapTuple	tuple = SPI_tuptable->vals[0];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	Datum		settings;
	bool		isnull;

	row->job = column_int64(tuple, desc, 1);
	row->owner = DatumGetObjectId(column_datum(tuple, desc, 2, &isnull));
	row->state = column_text(tuple, desc, 3, context);
	row->request = column_text(tuple, desc, 4, context);
	row->teacher = column_text(tuple, desc, 5, context);
	row->student = column_text(tuple, desc, 6, context);
	row->corpus = column_text(tuple, desc, 7, context);
	row->column_name = column_text(tuple, desc, 8, context);
	row->method = column_text(tuple, desc, 9, context);
	row->options = column_text(tuple, desc, 10, context);
	row->search_path = column_text(tuple, desc, 11, context);
	row->isa = column_text(tuple, desc, 12, context);
	row->threads = DatumGetInt32(column_datum(tuple, desc, 13, &isnull));
	row->attempts = DatumGetInt32(column_datum(tuple, desc, 14, &isnull));
	row->has_spool = DatumGetBool(column_datum(tuple, desc, 15, &isnull));
	row->step = column_int64(tuple, desc, 16);
	row->steps = column_int64(tuple, desc, 17);
	row->loss = column_float8(tuple, desc, 18);
	row->tokens_per_second = column_float8(tuple, desc, 19);
	row->eta = column_int64(tuple, desc, 20);
	row->error = column_text(tuple, desc, 21, context);
	row->error_code = column_text(tuple, desc, 22, context);
	row->error_hint = column_text(tuple, desc, 23, context);
	row->settings = NULL;
	settings = column_datum(tuple, desc, 24, &isnull);
	if (!isnull)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		row->settings = DatumGetArrayTypePCopy(settings);
		MemoryContextSwitchTo(old);
	}
}

#define READ_JOB "SELECT " JOB_COLUMNS " FROM distil.job WHERE job OPERATOR(pg_catalog.=) $1"

static bool
read_job(const char *sql, int64 job, DistilJob *row)
{
	MemoryContext context = CurrentMemoryContext;
	Statement	st = {0};
	bool		found;

	SPI_connect();
	add_int64(&st, job);
	found = execute(&st, sql) > 0;
	if (found)
		read_row(row, context);
	SPI_finish();
	return found;
}

bool
distil_job_read(int64 job, DistilJob *row)
{
	return read_job(READ_JOB, job, row);
}

static void
refuse_unknown(int64 job)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("job " INT64_FORMAT " does not exist", job),
			 errhint("The view distil_jobs lists the jobs.")));
}

void
distil_job_get(int64 job, DistilJob *row, bool manage)
{
	Oid			user = GetUserId();
	bool		allowed;

	if (!distil_job_read(job, row))
		refuse_unknown(job);
	allowed = has_privs_of_role(user, row->owner);
	if (!allowed && !manage)
		allowed = has_privs_of_role(user, ROLE_PG_MONITOR);
	if (!allowed && manage)
		allowed = has_privs_of_role(user, ROLE_PG_SIGNAL_BACKEND) && !superuser_arg(row->owner);
	if (!allowed)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for job " INT64_FORMAT, job),
				 !manage ? errhint("Only its owner and members of pg_monitor may do this.")
				 : superuser_arg(row->owner)
				 ? errhint("The job is a superuser's: only superusers may do this.")
				 : errhint("Only its owner and members of pg_signal_backend may do this.")));
	if (!manage)
		return;

	/* The worker's log rows take key locks on the row, so this lock must leave the key alone. */
	distil_job_command_lock(job);
	if (!read_job(READ_JOB " FOR NO KEY UPDATE", job, row))
		refuse_unknown(job);
}

/* ---------- writing ---------- */

int64
distil_job_insert(const DistilJobRequest *request)
{
	Statement	st = {0};
	bool		isnull;
	int64		job;

	SPI_connect();
	add_datum(&st, OIDOID, ObjectIdGetDatum(GetUserId()), false);
	add_text(&st, request->teacher);
	add_text(&st, request->student);
	add_text(&st, request->corpus);
	add_text(&st, request->column_name);
	add_text(&st, request->method);
	add_text(&st, request->options);
	add_text(&st, namespace_search_path);
	add_text(&st, request->isa);
	add_datum(&st, INT4OID, Int32GetDatum(request->threads), false);
	add_datum(&st, TEXTARRAYOID, PointerGetDatum(distil_job_settings_take()), false);
	execute(&st, "INSERT INTO distil.job (owner, teacher, student, corpus, column_name, method, options,"
			" search_path, isa, threads, settings)"
			" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING job");
	job = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	last_job = job;
	return job;
}

bool
distil_job_allowed(Oid role)
{
	Statement	st = {0};
	bool		allowed;

	SPI_connect();
	add_datum(&st, OIDOID, ObjectIdGetDatum(role), false);
	allowed = execute(&st, "SELECT FROM pg_catalog.pg_proc p"
					  " JOIN pg_catalog.pg_depend d ON d.objid OPERATOR(pg_catalog.=) p.oid"
					  " JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid"
					  " WHERE p.proname OPERATOR(pg_catalog.=) 'distil_train'"
					  " AND e.extname OPERATOR(pg_catalog.=) 'distil'"
					  " AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass"
					  " AND d.refclassid OPERATOR(pg_catalog.=)"
					  " 'pg_catalog.pg_extension'::pg_catalog.regclass"
					  " AND pg_catalog.has_function_privilege($1, p.oid, 'EXECUTE')") > 0;
	SPI_finish();
	return allowed;
}

void
distil_job_check_name(const DistilJob *row)
{
	distil_store_check_free(row->student);
	distil_store_check_dropped(row->student,
							   psprintf("Start a new job with another student => '...'; distil_cancel("
										INT64_FORMAT ") gives this one up.", row->job));
}

int64
distil_job_last(void)
{
	return last_job;
}

bool
distil_job_start(int64 job, DistilJob *row)
{
	MemoryContext context = CurrentMemoryContext;
	Statement	st = {0};
	bool		found;

	SPI_connect();
	add_int64(&st, job);
	add_datum(&st, OIDOID, ObjectIdGetDatum(GetUserId()), false);
	found = execute(&st, "UPDATE distil.job SET state = 'running',"
					" attempts = attempts OPERATOR(pg_catalog.+) 1,"
					" started_at = COALESCE(started_at, pg_catalog.clock_timestamp()),"
					" updated_at = pg_catalog.clock_timestamp()"
					" WHERE job OPERATOR(pg_catalog.=) $1 AND owner OPERATOR(pg_catalog.=) $2"
					" AND state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running'])"
					" RETURNING " JOB_COLUMNS) > 0;
	if (found)
		read_row(row, context);
	SPI_finish();
	return found;
}

void
distil_job_set_spool(int64 job, const DistilSpoolInfo *info)
{
	Statement	st = {0};
	bytea	   *fingerprint = palloc(VARHDRSZ + 32);
	bool		none = info == NULL;

	SET_VARSIZE(fingerprint, VARHDRSZ + 32);
	if (!none)
		memcpy(VARDATA(fingerprint), info->fingerprint, 32);
	add_int64(&st, job);
	add_datum(&st, INT8OID, none ? (Datum) 0 : Int64GetDatum(info->texts), none);
	add_datum(&st, INT8OID, none ? (Datum) 0 : Int64GetDatum(info->sequences), none);
	add_datum(&st, INT8OID, none ? (Datum) 0 : Int64GetDatum(info->tokens), none);
	add_datum(&st, BYTEAOID, PointerGetDatum(fingerprint), none);
	execute_alone(&st, "UPDATE distil.job SET texts = $2, sequences = $3, corpus_tokens = $4,"
				  " fingerprint = $5,"
				  " attempts = CASE WHEN $5 IS NULL THEN attempts ELSE 1 END"
				  " WHERE job OPERATOR(pg_catalog.=) $1");
}

void
distil_job_set_progressed(int64 job)
{
	Statement	st = {0};

	add_int64(&st, job);
	execute_alone(&st, "UPDATE distil.job SET attempts = 1"
				  " WHERE job OPERATOR(pg_catalog.=) $1 AND attempts OPERATOR(pg_catalog.<>) 1");
}

/* step ... tokens_per_second, in the order of both tables. */
static void
add_figures(Statement *st, const DistilJobFigures *figures)
{
	const DistilTrainReport *report = &figures->report;

	add_int64(st, report->step);
	add_float8(st, report->epoch);
	add_float8(st, report->loss);
	add_float8(st, report->loss_ce);
	add_float8(st, report->loss_mlm);
	add_float8(st, report->loss_clm);
	add_float8(st, report->loss_mse);
	add_float8(st, report->loss_cos);
	add_float8(st, report->eval_loss);
	add_float8(st, report->learning_rate);
	add_float8(st, report->gradient_norm);
	add_int64(st, report->tokens);
	add_float8(st, figures->tokens_per_second);
	add_time(st, figures->at);
}

void
distil_job_set_progress(int64 job, const DistilJobFigures *figures, char **request)
{
	MemoryContext context = CurrentMemoryContext;
	Statement	st = {0};

	*request = NULL;
	SPI_connect();
	add_int64(&st, job);
	add_figures(&st, figures);
	add_time(&st, figures->eta);
	add_int64(&st, figures->report.steps);
	add_int64(&st, figures->report.skipped);
	add_text(&st, figures->device);
	if (execute(&st, "UPDATE distil.job j SET step = $2, epoch = $3, loss = $4, loss_ce = $5, loss_mlm = $6,"
				" loss_clm = $7, loss_mse = $8, loss_cos = $9, eval_loss = COALESCE($10, j.eval_loss),"
				" learning_rate = $11, gradient_norm = $12, tokens = $13, tokens_per_second = $14,"
				" updated_at = $15, eta = $16, steps = $17, skipped = $18, device = $19"
				" FROM (SELECT k.job FROM distil.job k WHERE k.job OPERATOR(pg_catalog.=) $1"
				" FOR NO KEY UPDATE SKIP LOCKED) free"
				" WHERE j.job OPERATOR(pg_catalog.=) free.job RETURNING j.request") > 0)
		*request = column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, context);
	else
	{
		Statement	look = {0};

		add_int64(&look, job);
		if (execute(&look, "SELECT FROM distil.job WHERE job OPERATOR(pg_catalog.=) $1") == 0)
			*request = MemoryContextStrdup(context, "cancel");
	}
	SPI_finish();
}

void
distil_job_log_add(int64 job, const DistilJobFigures *figures)
{
	Statement	st = {0};

	add_int64(&st, job);
	add_figures(&st, figures);
	execute_alone(&st, "INSERT INTO distil.job_log (job, step, epoch, loss, loss_ce, loss_mlm, loss_clm,"
				  " loss_mse,"
				  " loss_cos, eval_loss, learning_rate, gradient_norm, tokens, tokens_per_second, logged_at)"
				  " SELECT free.job, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15"
				  " FROM (SELECT k.job FROM distil.job k WHERE k.job OPERATOR(pg_catalog.=) $1"
				  " FOR KEY SHARE SKIP LOCKED) free"
				  " ON CONFLICT DO NOTHING");
}

void
distil_job_log_truncate(int64 job, int64 step)
{
	Statement	st = {0};

	add_int64(&st, job);
	add_int64(&st, step);
	execute_alone(&st, "DELETE FROM distil.job_log WHERE job OPERATOR(pg_catalog.=) $1"
				  " AND step OPERATOR(pg_catalog.>) $2");
}

bool
distil_job_end(int64 job, const char *state, const ErrorData *error)
{
	Statement	st = {0};
	const char *message = NULL;

	if (error != NULL)
		message = error->detail == NULL ? distil_bridge_clip(error->message)
			: psprintf("%s: %s", distil_bridge_clip(error->message), distil_bridge_clip(error->detail));
	add_int64(&st, job);
	add_text(&st, state);
	add_text(&st, message);
	add_text(&st, error != NULL ? unpack_sql_state(error->sqlerrcode) : NULL);
	add_text(&st, error != NULL ? distil_bridge_clip(error->hint) : NULL);
	return execute_alone(&st, "UPDATE distil.job SET state = $2, error = $3, error_code = $4,"
						 " error_hint = $5,"
						 " settings = CASE WHEN $2 OPERATOR(pg_catalog.=) 'done' THEN NULL ELSE settings END,"
						 " request = NULL, eta = NULL, updated_at = pg_catalog.clock_timestamp(),"
						 " finished_at = CASE WHEN $2 OPERATOR(pg_catalog.=) 'paused' THEN NULL"
						 " ELSE pg_catalog.clock_timestamp() END"
						 " WHERE job OPERATOR(pg_catalog.=) $1") > 0;
}

void
distil_job_requeue(int64 job)
{
	Statement	st = {0};

	add_int64(&st, job);
	execute_alone(&st, "UPDATE distil.job SET state = 'queued', request = NULL, attempts = 0,"
				  " finished_at = NULL,"
				  " error = NULL, error_code = NULL, error_hint = NULL WHERE job OPERATOR(pg_catalog.=) $1");
}

void
distil_job_set_request(int64 job, const char *request)
{
	Statement	st = {0};

	add_int64(&st, job);
	add_text(&st, request);
	execute_alone(&st, "UPDATE distil.job SET request = $2 WHERE job OPERATOR(pg_catalog.=) $1");
}

/* ---------- searching ---------- */

int64
distil_job_for_student(const char *student, int64 except)
{
	Statement	st = {0};
	int64		job = 0;

	/* As of now, in a transaction with an older snapshot too: the unique index asks the same. */
	PushActiveSnapshot(GetLatestSnapshot());
	SPI_connect();
	add_text(&st, student);
	add_int64(&st, except);
	run_as_owner("SELECT job FROM distil.job WHERE student OPERATOR(pg_catalog.=) $1"
				 " AND job OPERATOR(pg_catalog.<>) $2"
				 " AND state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])",
				 st.n, st.types, st.values, st.nulls, true);
	if (SPI_processed > 0)
		job = column_int64(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	SPI_finish();
	PopActiveSnapshot();
	return job;
}

/*
 * A job of a role that was dropped, or may not log in or connect any more, must not stand
 * in the way of the others: its worker would end before it looks at the queue.
 */
#define OWNER_CAN_RUN(bypass) \
	"EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) owner" \
	" AND (r.rolcanlogin OR " bypass ")" \
	" AND pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database()::pg_catalog.text," \
	" 'CONNECT'))"

int64
distil_job_next(Oid owner, Oid *job_owner)
{
	Statement	st = {0};
	int64		job = 0;
	bool		isnull;

	SPI_connect();
	add_datum(&st, OIDOID, ObjectIdGetDatum(owner), !OidIsValid(owner));
	add_datum(&st, BOOLOID, BoolGetDatum(DISTIL_CAN_BYPASS_ROLELOGIN), false);
	if (execute(&st, "SELECT job, owner FROM distil.job WHERE state OPERATOR(pg_catalog.=) 'queued'"
				" AND (owner OPERATOR(pg_catalog.=) $1 OR ($1 IS NULL AND " OWNER_CAN_RUN("$2") "))"
				" ORDER BY job LIMIT 1") > 0)
	{
		job = column_int64(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		*job_owner = DatumGetObjectId(column_datum(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	}
	SPI_finish();
	return job;
}

List *
distil_job_queue(void)
{
	MemoryContext context = CurrentMemoryContext;
	Statement	st = {0};
	List	   *jobs = NIL;
	uint64		n;
	uint64		i;

	SPI_connect();
	add_datum(&st, BOOLOID, BoolGetDatum(DISTIL_CAN_BYPASS_ROLELOGIN), false);
	n = execute(&st, "SELECT job, owner FROM distil.job"
				" WHERE state OPERATOR(pg_catalog.=) 'queued' AND " OWNER_CAN_RUN("$1") " ORDER BY job");
	for (i = 0; i < n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		DistilQueuedJob *queued = palloc(sizeof(DistilQueuedJob));
		HeapTuple	tuple = SPI_tuptable->vals[i];
		bool		isnull;

		queued->job = column_int64(tuple, SPI_tuptable->tupdesc, 1);
		queued->owner = DatumGetObjectId(column_datum(tuple, SPI_tuptable->tupdesc, 2, &isnull));
		jobs = lappend(jobs, queued);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return jobs;
}

void
distil_job_requeue_interrupted(void)
{
	Statement	st = {0};

	add_datum(&st, OIDOID, ObjectIdGetDatum(MyDatabaseId), false);
	execute_alone(&st, "UPDATE distil.job j SET state = 'queued'"
				  " WHERE j.state OPERATOR(pg_catalog.=) 'running'"
				  " AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks l"
				  " WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.granted"
				  " AND l.database OPERATOR(pg_catalog.=) $1 AND l.objsubid OPERATOR(pg_catalog.=) 17481"
				  " AND l.classid::pg_catalog.int8 OPERATOR(pg_catalog.=) (j.job OPERATOR(pg_catalog.>>) 32)"
				  " AND l.objid::pg_catalog.int8 OPERATOR(pg_catalog.=)"
				  " (j.job OPERATOR(pg_catalog.&) 4294967295))");
}
