/*
 * sql_model.c
 *		Models: import, create, drop, default, rights, configuration; triggers.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_largeobject.h"
#include "catalog/pg_largeobject_metadata.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "libpq/be-fsstubs.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "replication/logicalworker.h"
#include "storage/fd.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "bridge.h"
#include "compat.h"
#include "guc.h"
#include "model_cache.h"
#include "model_folder.h"
#include "model_store.h"
#include "model_weights.h"
#include "sql_args.h"

PG_FUNCTION_INFO_V1(distil_import);
PG_FUNCTION_INFO_V1(distil_import_objects);
PG_FUNCTION_INFO_V1(distil_import_bundled);
PG_FUNCTION_INFO_V1(distil_create_model);
PG_FUNCTION_INFO_V1(distil_config);
PG_FUNCTION_INFO_V1(distil_drop_model);
PG_FUNCTION_INFO_V1(distil_set_default);
PG_FUNCTION_INFO_V1(distil_grant);
PG_FUNCTION_INFO_V1(distil_revoke);
PG_FUNCTION_INFO_V1(distil_model_changed);
PG_FUNCTION_INFO_V1(distil_no_truncate);
PG_FUNCTION_INFO_V1(distil_local_only);

/* ---------- import ---------- */

static DistilImportOptions
import_options(FunctionCallInfo fcinfo, int arg)
{
	DistilImportOptions options;
	DistilError err;
	DistilText	input;

	distil_args_require(fcinfo, arg, "options");
	input = distil_bridge_jsonb(PG_GETARG_JSONB_P(arg));
	distil_bridge_check(distil_import_options_parse(&options, input.data, input.length,
													distil_bridge_allocator(CurrentMemoryContext), &err),
						&err);
	return options;
}

/* Check the folder completely, then store it; created: it was made from a configuration. */
static void
import_folder(const char *name, const DistilFolder *folder, const DistilImportOptions *options, bool created)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "distil import",
												  ALLOCSET_DEFAULT_SIZES);
	DistilImport *import = NULL;
	const DistilModelInfo *info;
	DistilError err;

	distil_bridge_check(distil_import_open(&import, folder, options, distil_bridge_allocator(context),
										   distil_bridge_poll(), &err), &err);
	distil_store_import(name, import, NULL);
	info = distil_import_info(import);
	if (info->missing_head != NULL && !info->sentence_model)
		ereport(NOTICE,
				(errmsg("model \"%s\" is stored without the head of class \"%s\"", name,
						TextDatumGetCString(distil_bridge_datum(info->missing_head,
																strlen(info->missing_head)))),
				 created ? errdetail("Distil does not know this head.")
				 : errdetail("Its weights are not in the folder, or distil does not know this head.")));
	if (info->nheads == 0 && !info->sentence_model)
		ereport(NOTICE,
				(errmsg("embeddings of model \"%s\" will be the mean of its token vectors", name),
				 created ? errdetail("A configuration does not say how a sentence model pools them.")
				 : errdetail("The folder has no modules.json, which says how a sentence model pools them."),
				 created ? 0
				 : errhint("If it was published with one, import the whole folder under another name.")));
	distil_import_free(import);
	MemoryContextDelete(context);
}

/* What can be refused before a file is opened. */
static char *
import_name(FunctionCallInfo fcinfo, const char *command)
{
	return distil_args_new_model(fcinfo, 0, "name", command);
}

/* distil_import(name, path, options) */
Datum
distil_import(PG_FUNCTION_ARGS)
{
	char	   *name = import_name(fcinfo, "distil_import()");
	char	   *path = distil_args_string(fcinfo, 1, "path");
	DistilImportOptions options = import_options(fcinfo, 2);
	DistilFolder *folder;

	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to import model \"%s\" from a folder of the server", name),
				 errdetail("Only roles with privileges of role \"pg_read_server_files\" may do so."),
				 errhint("Load the files as large objects with \\lo_import and use "
						 "distil_import_objects().")));
	if (!is_absolute_path(path))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("path \"%s\" of model \"%s\" is not absolute", distil_bridge_clip(path), name)));
	folder = distil_folder_open_server(path);
	import_folder(name, folder, &options, false);
	distil_folder_close(folder);
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/* distil_import_objects(name, objects, options) */
Datum
distil_import_objects(PG_FUNCTION_ARGS)
{
	char	   *name = import_name(fcinfo, "distil_import()");
	DistilImportOptions options = import_options(fcinfo, 2);
	DistilFolder *folder;

	distil_args_require(fcinfo, 1, "objects");
	folder = distil_folder_open_objects(PG_GETARG_JSONB_P(1));
	import_folder(name, folder, &options, false);
	distil_folder_close(folder);
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/* "a, b" of the folders in `path`; NULL when there is none. */
static char *
bundled_models(const char *path)
{
	StringInfoData names;
	DIR		   *dir = AllocateDir(path);
	struct dirent *entry;

	if (dir == NULL)
		return NULL;
	initStringInfo(&names);
	while ((entry = ReadDir(dir, path)) != NULL)
		if (entry->d_name[0] != '.')
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", entry->d_name);
	FreeDir(dir);
	return names.len > 0 ? names.data : NULL;
}

/* distil_import(name): a folder below the installation's share directory, trusted like the library itself. */
Datum
distil_import_bundled(PG_FUNCTION_ARGS)
{
	char	   *name = import_name(fcinfo, "distil_import()");
	DistilImportOptions options = {true};
	char		share[MAXPGPATH];
	char	   *path;
	char	   *known;
	DistilFolder *folder;

	get_share_path(my_exec_path, share);
	path = psprintf("%s/distil", share);
	if (name[0] == '.' || access(psprintf("%s/%s/config.json", path, name), R_OK) != 0)
	{
		known = bundled_models(path);
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model \"%s\" is not bundled with this installation", name),
				 known != NULL ? errhint("Bundled models: %s.  Other models: distil_import(name, path).",
										 known)
				 : errhint("No model is bundled: import a folder with distil_import(name, path).")));
	}
	folder = distil_folder_open_server(psprintf("%s/%s", path, name));
	import_folder(name, folder, &options, false);
	distil_folder_close(folder);
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/* An allocator that gives no block larger than a model may be: the weights are one. */
typedef struct LimitedAllocator
{
	DistilAllocator alloc;
	const DistilAllocator *base;
	bool		refused;
} LimitedAllocator;

static void *
limited_alloc(void *ctx, size_t bytes)
{
	LimitedAllocator *limited = ctx;

	if (bytes > (size_t) distil_max_model_size * 1024 * 1024)
	{
		limited->refused = true;
		return NULL;
	}
	return limited->base->alloc(limited->base->ctx, bytes);
}

static void
limited_release(void *ctx, void *memory)
{
	LimitedAllocator *limited = ctx;

	limited->base->release(limited->base->ctx, memory);
}

/* distil_create(name, config, tokenizer_of, seed); the engine has a function of that name */
Datum
distil_create_model(PG_FUNCTION_ARGS)
{
	char	   *name = import_name(fcinfo, "distil_create()");
	char	   *tokenizer_of = distil_args_string(fcinfo, 2, "tokenizer_of");
	DistilOpenModel *open;
	DistilImportOptions options;
	LimitedAllocator *limited = palloc0(sizeof(LimitedAllocator));
	DistilCreated *created;
	DistilStatus status;
	DistilText	config;
	DistilError err;

	distil_args_require(fcinfo, 1, "config");
	distil_args_require(fcinfo, 3, "seed");
	limited->alloc = (DistilAllocator) {limited_alloc, limited_release, limited};
	limited->base = distil_bridge_allocator(CurrentMemoryContext);
	config = distil_bridge_jsonb(PG_GETARG_JSONB_P(1));
	open = distil_cache_get_tokenizer(tokenizer_of);
	options.parse_special = distil_tokenizer_defaults(distil_model_tokenizer(open->model)).parse_special;
	status = distil_create(&created, config.data, config.length, open->model, PG_GETARG_INT64(3),
						   &limited->alloc, distil_bridge_poll(), &err);
	if (status == DISTIL_ERR_MEMORY && limited->refused)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the model is larger than distil.max_model_size"),
				 errdetail("Its weights exceed %d MB.", distil_max_model_size)));
	distil_bridge_check(status, &err);
	import_folder(name, distil_created_folder(created), &options, true);
	distil_created_free(created);
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/* ---------- configuration ---------- */

/* distil_config(model) */
Datum
distil_config(PG_FUNCTION_ARGS)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Oid			types[1] = {TEXTOID};
	Datum		values[1];
	Datum		config = (Datum) 0;
	bool		isnull = true;

	values[0] = PG_GETARG_DATUM(0);
	SPI_connect();
	if (SPI_execute_with_args("SELECT config FROM distil.model WHERE name OPERATOR(pg_catalog.=) $1",
							  1, types, values, NULL, true, 1) < 0)
		elog(ERROR, "could not read the catalog of models");
	if (SPI_processed > 0)
	{
		MemoryContext old;

		config = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
		old = MemoryContextSwitchTo(context);
		if (!isnull)
			config = PointerGetDatum(PG_DETOAST_DATUM_COPY(config));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	if (isnull)
		distil_store_unknown(name);
	PG_RETURN_DATUM(config);
}

/* ---------- dropping ---------- */

/* A string as a literal begins with it where the server writes out an expression. */
static char *
literal_start(const char *string)
{
	StringInfoData literal;
	const char *p;

	initStringInfo(&literal);
	appendStringInfoChar(&literal, '\'');
	for (p = string; *p != '\0'; p++)
	{
		if (SQL_STR_DOUBLE(*p, !standard_conforming_strings))
			appendStringInfoChar(&literal, *p);
		appendStringInfoChar(&literal, *p);
	}
	return literal.data;
}

/* Objects with expressions of users, and these written out. */
static const char uses_sql[] =
"SELECT what FROM ("
"SELECT pg_catalog.format('index %s', i.indexrelid::pg_catalog.regclass), "
"pg_catalog.pg_get_indexdef(i.indexrelid) FROM pg_catalog.pg_index i "
"WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL "
"UNION ALL SELECT pg_catalog.format('default of column %I of %s', a.attname, "
"d.adrelid::pg_catalog.regclass), "
"pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d "
"JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) d.adrelid "
"AND a.attnum OPERATOR(pg_catalog.=) d.adnum "
"UNION ALL SELECT pg_catalog.format('constraint %I of %s', c.conname, "
"CASE WHEN c.conrelid OPERATOR(pg_catalog.<>) 0 "
"THEN c.conrelid::pg_catalog.regclass::pg_catalog.text "
"ELSE pg_catalog.concat('domain ', c.contypid::pg_catalog.regtype) END), "
"pg_catalog.pg_get_constraintdef(c.oid) FROM pg_catalog.pg_constraint c "
"WHERE c.contype OPERATOR(pg_catalog.=) 'c' "
"UNION ALL SELECT pg_catalog.format('default of domain %s', t.oid::pg_catalog.regtype), "
"pg_catalog.pg_get_expr(t.typdefaultbin, 0) FROM pg_catalog.pg_type t "
"WHERE t.typdefaultbin IS NOT NULL "
"UNION ALL SELECT pg_catalog.format('partition key of %s', p.partrelid::pg_catalog.regclass), "
"pg_catalog.pg_get_partkeydef(p.partrelid) FROM pg_catalog.pg_partitioned_table p "
"WHERE p.partexprs IS NOT NULL "
"UNION ALL SELECT pg_catalog.format('statistics object %I of %s', e.stxname, "
"e.stxrelid::pg_catalog.regclass), "
"pg_catalog.pg_get_statisticsobjdef(e.oid) FROM pg_catalog.pg_statistic_ext e "
"WHERE e.stxexprs IS NOT NULL "
"UNION ALL SELECT CASE WHEN r.rulename OPERATOR(pg_catalog.=) '_RETURN' "
"THEN pg_catalog.concat('view ', r.ev_class::pg_catalog.regclass) "
"ELSE pg_catalog.format('rule %I of %s', r.rulename, r.ev_class::pg_catalog.regclass) END, "
"pg_catalog.pg_get_ruledef(r.oid) FROM pg_catalog.pg_rewrite r "
"WHERE r.oid OPERATOR(pg_catalog.>=) 16384 AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d "
"WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass "
"AND d.objid OPERATOR(pg_catalog.=) r.ev_class AND d.deptype OPERATOR(pg_catalog.=) 'e') "
"UNION ALL SELECT pg_catalog.format('policy %I of %s', l.polname, l.polrelid::pg_catalog.regclass), "
"pg_catalog.concat(pg_catalog.pg_get_expr(l.polqual, l.polrelid), ' ', "
"pg_catalog.pg_get_expr(l.polwithcheck, l.polrelid)) FROM pg_catalog.pg_policy l "
"UNION ALL SELECT pg_catalog.format('trigger %I of %s', g.tgname, g.tgrelid::pg_catalog.regclass), "
"pg_catalog.pg_get_triggerdef(g.oid) FROM pg_catalog.pg_trigger g WHERE g.tgqual IS NOT NULL "
"UNION ALL SELECT pg_catalog.concat('function ', f.oid::pg_catalog.regprocedure), "
"pg_catalog.concat(pg_catalog.pg_get_function_sqlbody(f.oid), ' ', "
"pg_catalog.pg_get_expr(f.proargdefaults, 0)) FROM pg_catalog.pg_proc f "
"WHERE f.oid OPERATOR(pg_catalog.>=) 16384 "
"AND (f.prosqlbody IS NOT NULL OR f.proargdefaults IS NOT NULL)"
") objects (what, definition) "
"WHERE pg_catalog.strpos(definition, 'distil_') OPERATOR(pg_catalog.>) 0 "
"AND (pg_catalog.strpos(definition, pg_catalog.concat($1, '''')) OPERATOR(pg_catalog.>) 0 "
"OR pg_catalog.strpos(definition, pg_catalog.concat($1, '/')) OPERATOR(pg_catalog.>) 0 "
"OR EXISTS (SELECT FROM distil.head h WHERE h.model OPERATOR(pg_catalog.=) $2 "
"AND NOT EXISTS (SELECT FROM distil.head o WHERE o.name OPERATOR(pg_catalog.=) h.name "
"AND o.model OPERATOR(pg_catalog.<>) $2) "
"AND pg_catalog.strpos(definition, pg_catalog.concat('''', h.name, '''')) OPERATOR(pg_catalog.>) 0)) "
"ORDER BY 1 LIMIT 1";

/*
 * What has an expression that calls a function of distil with a literal that is the model's
 * name or begins with it and a slash, or is the name of a head that only this model has; NULL: nothing.  A
 * name in an expression is only a literal: there is no dependency the server knows of.  Bodies of functions
 * that are strings are not looked at.
 */
static char *
find_use(const char *name)
{
	MemoryContext context = CurrentMemoryContext;
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		values[2];
	char	   *user = NULL;

	values[0] = CStringGetTextDatum(literal_start(name));
	values[1] = CStringGetTextDatum(name);
	SPI_connect();
	if (SPI_execute_with_args(uses_sql, 2, types, values, NULL, true, 1) < 0)
		elog(ERROR, "could not look for uses of the model");
	if (SPI_processed > 0)
		user = MemoryContextStrdup(context, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	SPI_finish();
	return user;
}

/* 2BP01 when an expression of the schema uses the model, or an unfinished job has it as teacher. */
static void
check_unused(const char *name)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1];
	char	   *user = find_use(name);

	values[0] = CStringGetTextDatum(name);
	if (user == NULL &&
		distil_store_execute("SELECT FROM distil.job WHERE teacher OPERATOR(pg_catalog.=) $1 "
							 "AND state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])",
							 1, types, values, NULL) > 0)
		user = "a training job";
	if (user != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("model \"%s\" is in use by %s", name, user),
				 errhint("Remove what uses it first, or call distil_drop_model(%s, force => true).",
						 quote_literal_cstr(name))));
}

/* distil_drop_model(name, force) */
Datum
distil_drop_model(PG_FUNCTION_ARGS)
{
	char	   *name = distil_args_string(fcinfo, 0, "name");
	Oid			types[1] = {TEXTOID};
	Datum		values[1];
	DistilModelRow row;

	distil_args_require(fcinfo, 1, "force");
	PreventCommandIfReadOnly("distil_drop_model()");
	if (!distil_store_find(&row, name))
		distil_store_unknown(name);
	distil_weights_check_owner(&row);
	if (!PG_GETARG_BOOL(1))
		check_unused(name);
	values[0] = CStringGetTextDatum(name);
	if (distil_store_execute("DELETE FROM distil.model WHERE name OPERATOR(pg_catalog.=) $1",
							 1, types, values, NULL) == 0)
		distil_store_unknown(name);
	distil_cache_trim();
	PG_RETURN_VOID();
}

/*
 * Row trigger of distil.model.  DELETE: the weights go with the row (not another object
 * that has their number), and the name is kept with its hash so that it never stands for
 * other weights.  UPDATE: content is frozen.
 */
Datum
distil_model_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	DistilModelRow row = {0};
	TupleDesc	desc;
	HeapTuple	tuple;
	bytea	   *sha256;
	bool		isnull;
	Oid			types[2] = {TEXTOID, BYTEAOID};
	Datum		values[2];

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("distil_model_changed() can only be called as a row trigger")));
	if (!TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the content of a model cannot be changed"),
				 errhint("Import the new content under a new name.")));
	desc = RelationGetDescr(trigger->tg_relation);
	tuple = trigger->tg_trigtuple;
	values[0] = heap_getattr(tuple, SPI_fnumber(desc, "name"), desc, &isnull);
	values[1] = heap_getattr(tuple, SPI_fnumber(desc, "sha256"), desc, &isnull);
	distil_store_execute("INSERT INTO distil.tombstone (name, sha256) VALUES ($1, $2) ON CONFLICT DO NOTHING",
						 2, types, values, NULL);
	strlcpy(row.name, TextDatumGetCString(values[0]), NAMEDATALEN);
	sha256 = DatumGetByteaPP(values[1]);
	memcpy(row.sha256, VARDATA_ANY(sha256), Min(VARSIZE_ANY_EXHDR(sha256), sizeof(row.sha256)));
	row.weights = DatumGetObjectId(heap_getattr(tuple, SPI_fnumber(desc, "weights"), desc, &isnull));
	row.bytes = DatumGetInt64(heap_getattr(tuple, SPI_fnumber(desc, "bytes"), desc, &isnull));
	if (distil_weights_ours(&row))
	{
		ObjectAddress object;

		ObjectAddressSet(object, LargeObjectRelationId, row.weights);
		performDeletion(&object, DROP_CASCADE, 0);
	}
	return PointerGetDatum(trigger->tg_trigtuple);
}

/*
 * Statement trigger of all tables: TRUNCATE would leave large objects and folders behind, and the
 * row trigger below could not keep it from a subscriber's tables.
 */
Datum
distil_no_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("distil_no_truncate() can only be called as a trigger of TRUNCATE")));
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("table distil.%s cannot be truncated", RelationGetRelationName(trigger->tg_relation)),
			 errhint("Use DELETE; for models, distil_drop_model().")));
}

/*
 * Row trigger of all tables: a publication of all tables publishes these too, but their
 * rows are about large objects, folders and workers, which stay on the server they are on.
 */
Datum
distil_local_only(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("distil_local_only() can only be called as a row trigger before the change")));
	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event)
						   ? trigger->tg_newtuple : trigger->tg_trigtuple);
}

/* ---------- default and rights ---------- */

/* distil_set_default(model) */
Datum
distil_set_default(PG_FUNCTION_ARGS)
{
	char	   *name = distil_args_string(fcinfo, 0, "model");
	Oid			types[1] = {TEXTOID};
	Datum		values[1];
	DistilModelRow row;

	PreventCommandIfReadOnly("distil_set_default()");
	if (!distil_store_find(&row, name))
		distil_store_unknown(name);
	if (!distil_compat_owns_database(MyDatabaseId, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set the default model"),
				 errdetail("Only the owner of the database may do so."),
				 errhint("Set distil.default_model for a session or a role instead.")));

	/* One at a time, and none while a model is being dropped or imported. */
	LockRelationOid(distil_store_relation("model"), ShareRowExclusiveLock);
	if (!distil_store_find_now(&row, name))
		distil_store_unknown(name);
	values[0] = CStringGetTextDatum(name);
	distil_store_execute("UPDATE distil.model SET is_default = false "
						 "WHERE is_default AND name OPERATOR(pg_catalog.<>) $1", 1, types, values, NULL);
	distil_store_execute("UPDATE distil.model SET is_default = true "
						 "WHERE NOT is_default AND name OPERATOR(pg_catalog.=) $1", 1, types, values, NULL);
	PG_RETURN_VOID();
}

/* GRANT or REVOKE on the model's large object, as the current user. */
static void
change_rights(FunctionCallInfo fcinfo, const char *command, const char *word)
{
	char	   *name = distil_args_string(fcinfo, 0, "model");
	char	   *role = distil_args_string(fcinfo, 1, "role");
	DistilModelRow row;

	PreventCommandIfReadOnly(command);
	if (!distil_store_find(&row, name))
		distil_store_unknown(name);
	distil_weights_check_owner(&row);

	/* GRANT itself takes no lock: two at once would be one too many. */
	LockDatabaseObject(LargeObjectRelationId, row.weights, 0, ShareUpdateExclusiveLock);
	if (!distil_store_find_now(&row, name))
		distil_store_unknown(name);
	if (!distil_weights_ours(&row))
		distil_weights_lost(&row);
	if (strcmp(role, "public") == 0)
		role = "PUBLIC";
	else
	{
		(void) get_role_oid(role, false);
		role = (char *) quote_identifier(role);
	}
	SPI_connect();
	if (SPI_execute(psprintf("%s SELECT ON LARGE OBJECT %u %s %s", command, row.weights, word, role), false,
					0) < 0)
		elog(ERROR, "could not change the rights on large object %u", row.weights);
	SPI_finish();
}

/* distil_grant(model, role) */
Datum
distil_grant(PG_FUNCTION_ARGS)
{
	change_rights(fcinfo, "GRANT", "TO");
	PG_RETURN_VOID();
}

/* distil_revoke(model, role) */
Datum
distil_revoke(PG_FUNCTION_ARGS)
{
	change_rights(fcinfo, "REVOKE", "FROM");
	PG_RETURN_VOID();
}
