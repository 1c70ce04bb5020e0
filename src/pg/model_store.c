/*
 * model_store.c
 *		Rows of distil.model and the large objects that hold the weights.
 *
 * Rows are read by index scan under the active snapshot, then under a later one, without
 * asking for rights on the table: they are public, the right to use a model is the ACL of
 * its large object.
 * Rows are written as the owner of the tables, by fixed statements.
 * The rule a newcomer would break: large objects only through be_lo_open() and
 * lo_read()/lo_write(); bare inv_* calls crash the server after an abort.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_largeobject_metadata.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "executor/spi.h"
#include "libpq/be-fsstubs.h"
#include "libpq/libpq-fs.h"
#include "miscadmin.h"
#include "storage/large_object.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "bridge.h"
#include "compat.h"
#include "guc.h"
#include "model_cache.h"
#include "model_store.h"
#include "model_weights.h"

/* Columns of distil.model read here, in the order of distil--1.0.sql. */
#define ANUM_MODEL_NAME 1
#define ANUM_MODEL_WEIGHTS 2
#define ANUM_MODEL_SHA256 3
#define ANUM_MODEL_BYTES 4
#define ANUM_MODEL_IS_DEFAULT 5
#define ANUM_MODEL_DTYPE 13

/* Large objects are read and written in pieces of this size. */
#define STORE_CHUNK (1024 * 1024)
/* Known models named in a hint. */
#define HINT_MODELS 10

Oid
distil_store_relation(const char *name)
{
	Oid			schema = get_namespace_oid("distil", true);
	Oid			relation = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	if (!OidIsValid(relation))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("relation \"distil.%s\" does not exist", name),
				 errhint("Run CREATE EXTENSION distil.")));
	return relation;
}

/* ---------- finding rows ---------- */

static void
read_row(DistilModelRow *row, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	bytea	   *sha256;
	char	   *name;
	char	   *dtype;

	name = TextDatumGetCString(heap_getattr(tuple, ANUM_MODEL_NAME, desc, &isnull));
	strlcpy(row->name, name, NAMEDATALEN);
	pfree(name);
	row->weights = DatumGetObjectId(heap_getattr(tuple, ANUM_MODEL_WEIGHTS, desc, &isnull));
	sha256 = DatumGetByteaPP(heap_getattr(tuple, ANUM_MODEL_SHA256, desc, &isnull));
	memset(row->sha256, 0, sizeof(row->sha256));
	memcpy(row->sha256, VARDATA_ANY(sha256), Min(VARSIZE_ANY_EXHDR(sha256), sizeof(row->sha256)));
	row->bytes = DatumGetInt64(heap_getattr(tuple, ANUM_MODEL_BYTES, desc, &isnull));
	dtype = TextDatumGetCString(heap_getattr(tuple, ANUM_MODEL_DTYPE, desc, &isnull));
	row->quantized = strcmp(dtype, "int8") == 0;
	pfree(dtype);
}

/* name NULL: the row flagged as the database's default. */
static bool
find_row(DistilModelRow *row, const char *name)
{
	Relation	relation = table_open(distil_store_relation("model"), AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	bool		found;

	if (name != NULL)
	{
		ScanKeyInit(&key, ANUM_MODEL_NAME, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(name));
		key.sk_collation = C_COLLATION_OID;
		scan = systable_beginscan(relation, distil_store_relation("model_pkey"), true, GetActiveSnapshot(), 1,
								  &key);
	}
	else
	{
		ScanKeyInit(&key, ANUM_MODEL_IS_DEFAULT, BTEqualStrategyNumber, F_BOOLEQ, BoolGetDatum(true));
		scan = systable_beginscan(relation, InvalidOid, false, GetActiveSnapshot(), 1, &key);
	}
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
		read_row(row, tuple, RelationGetDescr(relation));
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return found;
}

/* "a, b, c, ..." of the models there are; NULL when there is none. */
static char *
known_models(void)
{
	Relation	relation = table_open(distil_store_relation("model"), AccessShareLock);
	SysScanDesc scan = systable_beginscan(relation, distil_store_relation("model_pkey"), true,
										  GetActiveSnapshot(), 0, NULL);
	StringInfoData names;
	HeapTuple	tuple;
	DistilModelRow row;
	int			n = 0;

	initStringInfo(&names);
	while (n <= HINT_MODELS && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		read_row(&row, tuple, RelationGetDescr(relation));
		if (n > 0)
			appendStringInfoString(&names, ", ");
		appendStringInfoString(&names, n == HINT_MODELS ? "..." : row.name);
		n++;
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return n > 0 ? names.data : NULL;
}

/* The model of a head's name "model/head" if there is that model, otherwise NULL. */
static char *
model_of_head(const char *name)
{
	const char *slash = strrchr(name, '/');
	DistilModelRow row;

	if (slash == NULL || slash == name || slash - name >= NAMEDATALEN)
		return NULL;
	return distil_store_find(&row, pnstrdup(name, slash - name)) ? pstrdup(row.name) : NULL;
}

void
distil_store_unknown(const char *name)
{
	char	   *known = known_models();
	char	   *model = model_of_head(name);

	if (model != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model \"%s\" does not exist", distil_bridge_clip(name)),
				 errhint("A name with a slash is that of a head: give the model \"%s\".", model)));
	if (strchr(name, '/') != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model \"%s\" does not exist", distil_bridge_clip(name)),
				 errhint("Names of a hub are not looked up: download the model's folder and import it with "
						 "distil_import(name, path).")));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("model \"%s\" does not exist", distil_bridge_clip(name)),
			 known != NULL ? errhint("Known models: %s.", known)
			 : errhint("There is no model yet: import one with distil_import(name, path).")));
}

/*
 * Make a later snapshot the active one; false where there can be none.  Constants are folded,
 * and simple expressions of PL/pgSQL run, under the snapshot of the command around them, which
 * does not see what that command has imported.  A name never stands for other content.
 */
static bool
push_later_snapshot(void)
{
	if (IsInParallelMode())
		return false;
	PushActiveSnapshot(GetLatestSnapshot());
	return true;
}

/* Is the large object there for the current snapshot?  (LargeObjectExists asks for now.) */
static bool
object_visible(Oid object)
{
	Relation	relation = table_open(LargeObjectMetadataRelationId, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	bool		found;

	ScanKeyInit(&key, Anum_pg_largeobject_metadata_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(object));
	scan = systable_beginscan(relation, LargeObjectMetadataOidIndexId, true, GetActiveSnapshot(), 1, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return found;
}

bool
distil_store_find(DistilModelRow *row, const char *name)
{
	bool		found;

	if (name == NULL && distil_default_model != NULL && distil_default_model[0] != '\0')
		name = distil_default_model;
	found = find_row(row, name);
	if (!found && name != NULL && push_later_snapshot())
	{
		found = find_row(row, name);
		PopActiveSnapshot();
	}
	return found;
}

bool
distil_store_find_now(DistilModelRow *row, const char *name)
{
	bool		later = push_later_snapshot();
	bool		found = find_row(row, name);

	if (later)
		PopActiveSnapshot();
	return found;
}

void
distil_store_lookup(DistilModelRow *row, const char *name)
{
	bool		later = false;

	if (!distil_store_find(row, name))
	{
		if (name == NULL && distil_default_model != NULL && distil_default_model[0] != '\0')
			name = distil_default_model;
		if (name == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("there is no default model"),
					 errhint("Import a model with distil_import(name, path), or choose one with "
							 "distil_set_default(model).")));
		distil_store_unknown(name);
	}
	if (!object_visible(row->weights) &&
		(!(later = push_later_snapshot()) || !object_visible(row->weights)))
		distil_weights_lost(row);
	if (!lo_compat_privileges &&
		pg_largeobject_aclcheck_snapshot(row->weights, GetUserId(), ACL_SELECT,
										 GetActiveSnapshot()) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for model \"%s\"", row->name),
				 errhint("Its owner can run: SELECT distil_grant(%s, %s).",
						 quote_literal_cstr(row->name),
						 quote_literal_cstr(GetUserNameFromId(GetUserId(), false)))));
	if (later)
		PopActiveSnapshot();
}

/* ---------- checks ---------- */

void
distil_store_check_name(const char *name)
{
	size_t		length = strlen(name);
	bool		blank = true;
	const char *p;

	for (p = name; *p != '\0'; p++)
	{
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a model name must not hold control characters")));
		if (*p != ' ')
			blank = false;
	}
	if (blank)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a model name must not be blank")));
	if (strchr(name, '/') != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model name \"%s\" has a slash", distil_bridge_clip(name)),
				 errhint("The part after the last slash of a hub name makes a good name: %s.",
						 quote_literal_cstr(distil_bridge_clip(strrchr(name, '/') + 1)))));
	if (length >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model name \"%s\" is too long", distil_bridge_clip(name)),
				 errdetail("It has %zu bytes, the limit is %d.", length, NAMEDATALEN - 1)));
}

void
distil_store_check_free(const char *name)
{
	DistilModelRow row;

	if (distil_store_find_now(&row, name))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("model \"%s\" already exists", name),
				 errhint("Choose another name: a model's content never changes.")));
}

/* The same weights could have the name again, but hours of work must not hang on that. */
void
distil_store_check_dropped(const char *name, const char *hint)
{
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(name);

	if (distil_store_execute("SELECT 1 FROM distil.tombstone WHERE name OPERATOR(pg_catalog.=) $1",
							 1, &type, &value, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("the name \"%s\" belonged to a model that was dropped", name),
				 errhint("%s", hint)));
}

/* ---------- large objects ---------- */

typedef struct StoreReader
{
	DistilReader reader;		/* first: what the caller sees */
	int			fd;
	uint64_t	position;
} StoreReader;

/* May throw; false when the object ends before. */
static bool
read_bytes(StoreReader *store, uint64_t offset, char *buffer, size_t bytes)
{
	if (offset != store->position)
		DirectFunctionCall3(be_lo_lseek64, Int32GetDatum(store->fd), Int64GetDatum((int64) offset),
							Int32GetDatum(SEEK_SET));
	store->position = offset;
	while (bytes > 0)
	{
		int			got;

		CHECK_FOR_INTERRUPTS();
		got = lo_read(store->fd, buffer, (int) Min(bytes, (size_t) STORE_CHUNK));
		if (got <= 0)
			return false;
		buffer += got;
		bytes -= got;
		store->position += got;
	}
	return true;
}

static DistilStatus
store_read(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	StoreReader *store = ctx;
	MemoryContext context = CurrentMemoryContext;
	volatile DistilStatus status = DISTIL_OK;

	err->message[0] = err->detail[0] = err->hint[0] = '\0';
	PG_TRY();
	{
		if (!read_bytes(store, offset, buffer, bytes))
		{
			snprintf(err->message, sizeof(err->message), "the stored weights end early");
			status = DISTIL_ERR_CORRUPT;
		}
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		distil_bridge_save_error();
		store->position = PG_UINT64_MAX;
		status = DISTIL_ERR_IO;
	}
	PG_END_TRY();
	return status;
}

DistilReader *
distil_store_open(Oid weights, int64 bytes)
{
	StoreReader *store = palloc0(sizeof(StoreReader));
	bool		later = !object_visible(weights) && push_later_snapshot();

	store->fd = DatumGetInt32(DirectFunctionCall2(be_lo_open, ObjectIdGetDatum(weights),
												  Int32GetDatum(INV_READ)));
	if (later)
		PopActiveSnapshot();	/* the large object keeps it */
	if (bytes < 0)
	{
		bytes = DatumGetInt64(DirectFunctionCall3(be_lo_lseek64, Int32GetDatum(store->fd), Int64GetDatum(0),
												  Int32GetDatum(SEEK_END)));
		store->position = (uint64_t) bytes;
	}
	store->reader.read = store_read;
	store->reader.ctx = store;
	store->reader.size = (uint64_t) bytes;
	return &store->reader;
}

void
distil_store_close(DistilReader *reader)
{
	if (reader == NULL)
		return;
	DirectFunctionCall1(be_lo_close, Int32GetDatum(((StoreReader *) reader->ctx)->fd));
	pfree(reader->ctx);
}

/* ---------- writing ---------- */

uint64
distil_store_execute(const char *sql, int nargs, Oid *types, Datum *values, const bool *nulls)
{
	Oid			user;
	int			context;
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(distil_store_relation("model")));
	Oid			owner;
	char	   *flags = NULL;
	uint64		processed = 0;
	int			i;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation distil.model");
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	if (nulls != NULL)
	{
		flags = palloc(nargs + 1);
		for (i = 0; i < nargs; i++)
			flags[i] = nulls[i] ? 'n' : ' ';
		flags[nargs] = '\0';
	}
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(owner, context | SECURITY_LOCAL_USERID_CHANGE);
	PG_TRY();
	{
		int			code;

		SPI_connect();
		code = SPI_execute_with_args(sql, nargs, types, values, flags, false, 0);
		if (code < 0)
			elog(ERROR, "statement on the tables of distil failed: %s", SPI_result_code_string(code));
		processed = SPI_processed;
		SPI_finish();
	}
	PG_FINALLY();
	{
		SetUserIdAndSecContext(user, context);
	}
	PG_END_TRY();
	return processed;
}

/* The sink of an import: whole pieces into the large object, every byte into the hash. */
typedef struct StoreSink
{
	int			fd;
	char	   *buffer;			/* [STORE_CHUNK] */
	size_t		used;
	int64		written;
	pg_cryptohash_ctx *hash;
} StoreSink;

/* May throw. */
static void
sink_flush(StoreSink *sink)
{
	if (sink->used == 0)
		return;
	CHECK_FOR_INTERRUPTS();
	if (pg_cryptohash_update(sink->hash, (uint8 *) sink->buffer, sink->used) < 0)
		elog(ERROR, "could not compute sha256");
	if (lo_write(sink->fd, sink->buffer, (int) sink->used) != (int) sink->used)
		elog(ERROR, "could not write the large object");
	sink->written += sink->used;
	sink->used = 0;
}

/* May throw. */
static void
sink_append(StoreSink *sink, const char *data, size_t bytes)
{
	while (bytes > 0)
	{
		size_t		part = Min(bytes, STORE_CHUNK - sink->used);

		memcpy(sink->buffer + sink->used, data, part);
		sink->used += part;
		data += part;
		bytes -= part;
		if (sink->used == STORE_CHUNK)
			sink_flush(sink);
	}
}

static DistilStatus
sink_write(void *ctx, const void *data, size_t bytes, DistilError *err)
{
	MemoryContext context = CurrentMemoryContext;
	volatile DistilStatus status = DISTIL_OK;

	err->message[0] = err->detail[0] = err->hint[0] = '\0';
	PG_TRY();
	{
		sink_append(ctx, data, bytes);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		distil_bridge_save_error();
		status = DISTIL_ERR_IO;
	}
	PG_END_TRY();
	return status;
}

/* The container of `import` as a new large object of the current user. */
static void
write_container(DistilModelRow *row, DistilImport *import)
{
	StoreSink	sink = {0};
	DistilSink	target = {sink_write, &sink};
	DistilError err;

	row->weights = DatumGetObjectId(DirectFunctionCall1(be_lo_create, ObjectIdGetDatum(InvalidOid)));
	sink.fd = DatumGetInt32(DirectFunctionCall2(be_lo_open, ObjectIdGetDatum(row->weights),
												Int32GetDatum(INV_READ | INV_WRITE)));
	sink.buffer = MemoryContextAllocHuge(CurrentMemoryContext, STORE_CHUNK);
	sink.hash = pg_cryptohash_create(PG_SHA256);
	if (sink.hash == NULL || pg_cryptohash_init(sink.hash) < 0)
		elog(ERROR, "could not start sha256");
	distil_bridge_check(distil_import_write(import, &target, &err), &err);
	sink_flush(&sink);
	if (pg_cryptohash_final(sink.hash, row->sha256, sizeof(row->sha256)) < 0)
		elog(ERROR, "could not finish sha256");
	pg_cryptohash_free(sink.hash);
	pfree(sink.buffer);
	DirectFunctionCall1(be_lo_close, Int32GetDatum(sink.fd));
	row->bytes = sink.written;
	CommandCounterIncrement();
}

static Datum
text_array(const char *const *values, int n)
{
	Datum	   *items = palloc(sizeof(Datum) * Max(n, 1));
	int			i;

	for (i = 0; i < n; i++)
		items[i] = distil_bridge_datum(values[i], strlen(values[i]));
	return PointerGetDatum(construct_array(items, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* 42710 when the name is taken, or was used for other weights.  The table is locked. */
static void
check_name_final(const DistilModelRow *row)
{
	Oid			types[2] = {TEXTOID, BYTEAOID};
	Datum		values[2];
	bytea	   *sha256 = palloc(VARHDRSZ + 32);

	SET_VARSIZE(sha256, VARHDRSZ + 32);
	memcpy(VARDATA(sha256), row->sha256, 32);
	values[0] = CStringGetTextDatum(row->name);
	values[1] = PointerGetDatum(sha256);
	if (distil_store_execute("SELECT FROM distil.model WHERE name OPERATOR(pg_catalog.=) $1",
							 1, types, values, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("model \"%s\" already exists", row->name),
				 errhint("Choose another name: a model's content never changes.")));
	if (distil_store_execute("SELECT FROM distil.tombstone WHERE name OPERATOR(pg_catalog.=) $1 "
							 "AND sha256 OPERATOR(pg_catalog.<>) $2", 2, types, values, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("the name \"%s\" belonged to a dropped model with other weights", row->name),
				 errhint("Choose another name: indexes and stored results may still rely on the old "
						 "content.")));
}

static void
insert_heads(const char *name, const DistilModelInfo *info)
{
	int			i;

	for (i = 0; i < info->nheads; i++)
	{
		const DistilHeadInfo *head = &info->heads[i];
		Oid			types[4] = {TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID};
		Datum		values[4];

		values[0] = CStringGetTextDatum(name);
		values[1] = distil_bridge_datum(head->name, strlen(head->name));
		values[2] = distil_bridge_datum(head->task, strlen(head->task));
		values[3] = text_array(head->labels, head->nlabels);
		distil_store_execute("INSERT INTO distil.head (model, name, task, labels) VALUES ($1, $2, $3, $4)",
							 4, types, values, NULL);
	}
}

static void
insert_row(const DistilModelRow *row, DistilImport *import, const char *teacher)
{
	const DistilModelInfo *info = distil_import_info(import);
	const char *config = distil_import_config(import);
	Oid			types[15] = {TEXTOID, OIDOID, BYTEAOID, INT8OID, TEXTOID, TEXTARRAYOID, INT8OID,
	INT4OID, INT4OID, INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, BOOLOID};
	Datum		values[15];
	bool		nulls[15] = {false};
	bytea	   *sha256 = palloc(VARHDRSZ + 32);
	DistilModelRow other;

	SET_VARSIZE(sha256, VARHDRSZ + 32);
	memcpy(VARDATA(sha256), row->sha256, 32);
	values[0] = CStringGetTextDatum(row->name);
	values[1] = ObjectIdGetDatum(row->weights);
	values[2] = PointerGetDatum(sha256);
	values[3] = Int64GetDatum(row->bytes);
	values[4] = distil_bridge_datum(info->architecture, strlen(info->architecture));
	values[5] = text_array(info->tasks, info->ntasks);
	values[6] = Int64GetDatum(info->parameters);
	values[7] = Int32GetDatum(info->layers);
	values[8] = Int32GetDatum(info->dimensions);
	values[9] = Int32GetDatum(info->max_tokens);
	values[10] = Int32GetDatum(info->vocabulary);
	values[11] = distil_bridge_datum(info->dtype, strlen(info->dtype));
	values[12] = distil_bridge_datum(config, strlen(config));
	values[13] = teacher != NULL ? CStringGetTextDatum(teacher) : (Datum) 0;
	nulls[13] = teacher == NULL;
	values[14] = BoolGetDatum(!distil_store_find_now(&other, NULL));
	distil_store_execute("INSERT INTO distil.model (name, weights, sha256, bytes, is_default, architecture, "
						 "tasks, "
						 "parameters, layers, dimensions, max_tokens, vocabulary, dtype, config, teacher) "
						 "VALUES ($1, $2, $3, $4, $15, $5, $6, "
						 "$7, $8, $9, $10, $11, $12, $13::pg_catalog.jsonb, $14)",
						 15, types, values, nulls);
	insert_heads(row->name, info);
}

void
distil_store_set_cosine(const char *name, double mean, double least)
{
	Oid			types[3] = {TEXTOID, FLOAT4OID, FLOAT4OID};
	Datum		values[3];

	values[0] = CStringGetTextDatum(name);
	values[1] = Float4GetDatum((float4) mean);
	values[2] = Float4GetDatum((float4) least);
	distil_store_execute("UPDATE distil.model SET cosine_mean = $2, cosine_min = $3 "
						 "WHERE name OPERATOR(pg_catalog.=) $1", 3, types, values, NULL);
}

void
distil_store_import(const char *name, DistilImport *import, const char *teacher)
{
	DistilModelRow row = {0};

	distil_store_check_name(name);
	PreventCommandIfReadOnly("distil_import()");
	PreventCommandIfParallelMode("distil_import()");
	strlcpy(row.name, name, NAMEDATALEN);
	write_container(&row, import);
	/* One import at a time from here to the commit: the name and the default flag are decided. */
	LockRelationOid(distil_store_relation("model"), ShareRowExclusiveLock);
	check_name_final(&row);
	insert_row(&row, import, teacher);
	distil_weights_link(row.weights);
	CommandCounterIncrement();
	distil_cache_trim();
}
