/*
 * sql_check.c
 *		Looking after stored models: distil_verify, distil_check, distil_cache_clear.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "bridge.h"
#include "compat.h"
#include "job.h"
#include "model_cache.h"
#include "model_store.h"
#include "model_weights.h"
#include "sql_args.h"

PG_FUNCTION_INFO_V1(distil_verify);
PG_FUNCTION_INFO_V1(distil_check);
PG_FUNCTION_INFO_V1(distil_cache_clear);
PG_FUNCTION_INFO_V1(distil_cache_builds_sql);
PG_FUNCTION_INFO_V1(distil_resident);

/* ---------- distil_verify ---------- */

/* May throw. */
static void
put_item(ReturnSetInfo *rsinfo, const char *item, bool ok, const char *detail)
{
	Datum		values[3];
	bool		nulls[3] = {false};

	values[0] = distil_bridge_datum(item, strlen(item));
	values[1] = BoolGetDatum(ok);
	values[2] = distil_bridge_datum(detail, strlen(detail));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

typedef struct VerifyState
{
	ReturnSetInfo *rsinfo;
	bool		failed;			/* an error is saved */
} VerifyState;

/* Callback of the engine: must not throw. */
static void
report_item(void *ctx, const char *item, bool ok, const char *detail)
{
	VerifyState *state = ctx;
	MemoryContext context = CurrentMemoryContext;

	if (state->failed)
		return;
	PG_TRY();
	{
		put_item(state->rsinfo, item, ok, detail);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		distil_bridge_save_error();
		state->failed = true;
	}
	PG_END_TRY();
}

/* Hash of the large object, as an item: a failure is a result here, not an error. */
static bool
verify_weights(ReturnSetInfo *rsinfo, const DistilModelRow *row)
{
	bool		ok = distil_weights_fit(row);

	put_item(rsinfo, "container", ok,
			 ok ? psprintf(INT64_FORMAT " bytes have the sha256 of the import", row->bytes)
			 : psprintf("the stored weights of model \"%s\" were modified", row->name));
	return ok;
}

/* distil_verify(model) */
Datum
distil_verify(PG_FUNCTION_ARGS)
{
	char	   *name = distil_args_string(fcinfo, 0, "model");
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	VerifyState state = {rsinfo, false};
	DistilOpenModel *open;
	DistilModelRow row;
	DistilStatus status;
	DistilError err;
	const void *image;
	size_t		size;

	InitMaterializedSRF(fcinfo, 0);
	distil_store_lookup(&row, name);
	if (!verify_weights(rsinfo, &row))
		return (Datum) 0;
	open = distil_cache_get(name);
	image = distil_cache_image(open, &size);
	status = distil_image_verify(image, size, distil_bridge_poll(), &err);
	if (status != DISTIL_OK && status != DISTIL_ERR_CORRUPT)
		distil_bridge_check(status, &err);
	put_item(rsinfo, "mapped copy", status == DISTIL_OK,
			 status == DISTIL_OK ? psprintf("%zu bytes have the sha256 of their header", size) : err.message);
	status = distil_session_verify(open->session, report_item, &state, &err);
	if (state.failed && status == DISTIL_OK)
		status = DISTIL_ERR_CANCELLED;
	distil_bridge_check(status, &err);
	return (Datum) 0;
}

/* ---------- distil_check ---------- */

/* Problems the catalogs show: rows without large object, large objects without row, jobs without owner. */
static void
check_catalogs(ReturnSetInfo *rsinfo, MemoryContext context)
{
	/*
	 * A container is a safetensors file of ours: 8 bytes of length, then a header that
	 * begins with our metadata.  Models of others name tensors "distilbert...".
	 */
	static const char *const sql =
		"SELECT pg_catalog.format('model %s', m.name), "
		"pg_catalog.format('large object %s with its weights does not exist', m.weights), "
		"pg_catalog.format('restore the large objects, or SELECT distil_drop_model(%L, force => true)', "
		"m.name) "
		"FROM distil.model m WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata l "
		"WHERE l.oid OPERATOR(pg_catalog.=) m.weights) "
		"UNION ALL "
		"SELECT pg_catalog.format('large object %s', p.loid), 'weights that no model refers to', "
		"pg_catalog.format('SELECT lo_unlink(%s)', p.loid) "
		"FROM pg_catalog.pg_largeobject p WHERE p.pageno OPERATOR(pg_catalog.=) 0 "
		"AND pg_catalog.substr(p.data, 9, 36) OPERATOR(pg_catalog.=) "
		"pg_catalog.convert_to('{\"__metadata__\":{\"distil.container\":', 'UTF8') "
		"AND NOT EXISTS (SELECT FROM distil.model m WHERE m.weights OPERATOR(pg_catalog.=) p.loid) "
		"UNION ALL "
		"SELECT pg_catalog.format('job %s', j.job), "
		"pg_catalog.format('its owner, role %s, does not exist any more', j.owner), "
		"pg_catalog.format('SELECT distil_cancel(%s)', j.job) "
		"FROM distil.job j WHERE j.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused']) "
		"AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) j.owner) "
		"ORDER BY 1";
	uint64		i;

	SPI_connect();
	if (SPI_execute(sql, true, 0) < 0)
		elog(ERROR, "could not read the catalogs");
	for (i = 0; i < SPI_processed; i++)
	{
		Datum		values[3];
		bool		nulls[3];
		int			column;

		for (column = 0; column < 3; column++)
			values[column] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, column + 1,
										   &nulls[column]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	SPI_finish();
	MemoryContextSwitchTo(context);
}

/* One row of distil_check. */
static void
put_problem(ReturnSetInfo *rsinfo, const char *object, const char *problem, const char *fix)
{
	Datum		values[3];
	bool		nulls[3] = {false};

	values[0] = CStringGetTextDatum(object);
	values[1] = CStringGetTextDatum(problem);
	values[2] = CStringGetTextDatum(fix);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Folders of training jobs that are no more; they are removed on the spot. */
static void
check_folders(ReturnSetInfo *rsinfo)
{
	ListCell   *cell;

	foreach(cell, distil_job_folders_sweep())
		put_problem(rsinfo, psprintf("folder %s", (char *) lfirst(cell)),
					"files of a training job that is no more", "done: they were removed");
}

/* distil_check() */
Datum
distil_check(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		may_write = !RecoveryInProgress() && !XactReadOnly;
	List	   *strangers;
	ListCell   *cell;
	int			links;

	InitMaterializedSRF(fcinfo, 0);
	check_catalogs(rsinfo, CurrentMemoryContext);
	links = distil_weights_relink(may_write, &strangers);
	if (links > 0 && may_write)
		put_problem(rsinfo, "extension distil",
					psprintf("large objects of models that would outlive DROP EXTENSION: %d", links),
					"done: their links were recorded again");
	foreach(cell, strangers)
	{
		DistilModelRow *row = lfirst(cell);

		put_problem(rsinfo, psprintf("model %s", row->name),
					psprintf("large object %u is not the one with its weights", row->weights),
					psprintf("restore the large objects, or SELECT distil_drop_model(%s, force => true)",
							 quote_literal_cstr(row->name)));
	}
	if (!RecoveryInProgress())
		check_folders(rsinfo);
	distil_cache_trim();
	return (Datum) 0;
}

/* ---------- mapped copies ---------- */

/* distil_cache_clear() */
Datum
distil_cache_clear(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(distil_cache_clear_files());
}

/* distil.cache_builds(): shared copies this backend has built */
Datum
distil_cache_builds_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(distil_cache_builds());
}

/* distil.resident(sha256) */
Datum
distil_resident(PG_FUNCTION_ARGS)
{
	bytea	   *sha256 = PG_GETARG_BYTEA_PP(0);

	if (VARSIZE_ANY_EXHDR(sha256) != 32)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a sha256 has 32 bytes, not %d", (int) VARSIZE_ANY_EXHDR(sha256))));
	PG_RETURN_INT64(distil_cache_resident((const uint8 *) VARDATA_ANY(sha256)));
}
