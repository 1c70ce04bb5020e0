/*
 * model_weights.c
 *		Which large object holds the weights of a model, and who may command it.
 *
 * The rule a newcomer would break: the number in distil.model proves nothing.  When the
 * object was lost (a dump restored without it), any role can make one of that number; it
 * must not be dropped, granted or linked in the model's name.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_largeobject.h"
#include "catalog/pg_largeobject_metadata.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "bridge.h"
#include "compat.h"
#include "model_weights.h"

/* The object is hashed in pieces of this size. */
#define WEIGHTS_CHUNK (1024 * 1024)

/* ---------- content ---------- */

bool
distil_weights_fit(const DistilModelRow *row)
{
	DistilReader *reader = distil_store_open(row->weights, -1);
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);
	char	   *buffer = palloc(WEIGHTS_CHUNK);
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	uint64		offset = 0;
	bool		same = reader->size == (uint64_t) row->bytes;
	DistilError err;

	if (hash == NULL || pg_cryptohash_init(hash) < 0)
		elog(ERROR, "could not start sha256");
	while (same && offset < reader->size)
	{
		size_t		bytes = Min(reader->size - offset, (uint64_t) WEIGHTS_CHUNK);

		CHECK_FOR_INTERRUPTS();
		distil_bridge_check(reader->read(reader->ctx, offset, buffer, bytes, &err), &err);
		if (pg_cryptohash_update(hash, (uint8 *) buffer, bytes) < 0)
			elog(ERROR, "could not compute sha256");
		offset += bytes;
	}
	if (same)
	{
		if (pg_cryptohash_final(hash, digest, sizeof(digest)) < 0)
			elog(ERROR, "could not finish sha256");
		same = memcmp(digest, row->sha256, sizeof(digest)) == 0;
	}
	pg_cryptohash_free(hash);
	pfree(buffer);
	distil_store_close(reader);
	return same;
}

void
distil_weights_check(const DistilModelRow *row)
{
	if (!distil_weights_fit(row))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the stored weights of model \"%s\" were modified", row->name),
				 errdetail("Large object %u does not have the size and sha256 of the import.", row->weights),
				 errhint("Drop the model and import it again.")));
}

/* The same whoever asks: it decides about what is done with the object, and shows nothing of it. */
static bool
fits_for_any_user(const DistilModelRow *row)
{
	Oid			user;
	int			context;
	volatile bool fits = false;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
	PG_TRY();
	{
		fits = distil_weights_fit(row);
	}
	PG_FINALLY();
	{
		SetUserIdAndSecContext(user, context);
	}
	PG_END_TRY();
	return fits;
}

/* ---------- links ---------- */

void
distil_weights_link(Oid weights)
{
	ObjectAddress object;
	ObjectAddress table;

	ObjectAddressSet(object, LargeObjectRelationId, weights);
	ObjectAddressSet(table, RelationRelationId, distil_store_relation("model"));
	recordDependencyOn(&object, &table, DEPENDENCY_AUTO);
}

static bool
is_linked(Oid weights)
{
	Relation	relation = table_open(DependRelationId, AccessShareLock);
	Oid			table = distil_store_relation("model");
	SysScanDesc scan;
	ScanKeyData keys[2];
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(LargeObjectRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(weights));
	scan = systable_beginscan(relation, DependDependerIndexId, true, NULL, 2, keys);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend link = (Form_pg_depend) GETSTRUCT(tuple);

		found = link->refclassid == RelationRelationId && link->refobjid == table;
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return found;
}

bool
distil_weights_ours(const DistilModelRow *row)
{
	return LargeObjectExists(row->weights) && (is_linked(row->weights) || fits_for_any_user(row));
}

void
distil_weights_lost(const DistilModelRow *row)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("model \"%s\" has lost its weights", row->name),
			 LargeObjectExists(row->weights)
			 ? errdetail("Large object %u is not the one that was imported.", row->weights)
			 : errdetail("Large object %u does not exist.", row->weights),
			 errhint("Restore the large objects of the dump, or remove the model with "
					 "distil_drop_model(name, force => true).")));
}

void
distil_weights_check_owner(const DistilModelRow *row)
{
	bool		exists = LargeObjectExists(row->weights);
	bool		owner = exists && distil_compat_owns_largeobject(row->weights, GetUserId());

	if (superuser() || (owner && distil_weights_ours(row)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("must be owner of model \"%s\"", row->name),
			 owner ? errdetail("Large object %u is not the one that was imported.", row->weights) : 0,
			 !exists || owner ? errhint("The model has lost its weights: a superuser can remove it.") : 0));
}

/* All models, as DistilModelRow in the current context. */
static List *
all_models(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *rows = NIL;
	uint64		i;

	SPI_connect();
	if (SPI_execute("SELECT name, weights, sha256, bytes FROM distil.model", true, 0) < 0)
		elog(ERROR, "could not read the catalog of models");
	for (i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext old = MemoryContextSwitchTo(context);
		DistilModelRow *row = palloc0(sizeof(DistilModelRow));
		bytea	   *sha256;
		bool		isnull;

		strlcpy(row->name, TextDatumGetCString(SPI_getbinval(tuple, desc, 1, &isnull)), NAMEDATALEN);
		row->weights = DatumGetObjectId(SPI_getbinval(tuple, desc, 2, &isnull));
		sha256 = DatumGetByteaPP(SPI_getbinval(tuple, desc, 3, &isnull));
		memcpy(row->sha256, VARDATA_ANY(sha256), Min(VARSIZE_ANY_EXHDR(sha256), sizeof(row->sha256)));
		row->bytes = DatumGetInt64(SPI_getbinval(tuple, desc, 4, &isnull));
		rows = lappend(rows, row);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return rows;
}

int
distil_weights_relink(bool record, List **strangers)
{
	int			links = 0;
	ListCell   *cell;

	*strangers = NIL;
	foreach(cell, all_models())
	{
		DistilModelRow *row = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		if (!LargeObjectExists(row->weights) || is_linked(row->weights))
			continue;

		/* Who drops the object or links it holds this lock. */
		if (record)
			LockDatabaseObject(LargeObjectRelationId, row->weights, 0, ShareUpdateExclusiveLock);
		if (!LargeObjectExists(row->weights) || is_linked(row->weights))
			continue;
		if (!fits_for_any_user(row))
			*strangers = lappend(*strangers, row);
		else
		{
			links++;
			if (record)
				distil_weights_link(row->weights);
		}
	}
	return links;
}
