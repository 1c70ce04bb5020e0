/*
 * model_store.h
 *		Models in the catalog: rows of distil.model, large objects, privileges.
 *
 * The weights of a model are one large object, written only here, always through
 * be_lo_open()/lo_write() (bare inv_* calls leave the relation open and crash after an
 * abort).  The large object's ACL is the model's ACL.
 */
#ifndef DISTIL_MODEL_STORE_H
#define DISTIL_MODEL_STORE_H

#include "compat.h"
#include "distil_engine.h"

typedef struct DistilModelRow
{
	Oid			weights;		/* large object */
	uint8		sha256[32];		/* of the container */
	int64		bytes;
	char		name[NAMEDATALEN];
	bool		quantized;		/* dtype int8 */
} DistilModelRow;

/*
 * Row of a model by name under the current snapshot or, where that lacks the name, a later
 * one; NULL name = the default model (setting distil.default_model, then the catalog flag).
 * Checks that GetUserId() may use it (42501).  Unknown: 42704 with the known names as a
 * hint; no default set: 42704.
 */
extern void distil_store_lookup(DistilModelRow *row, const char *name);

/* The same without the check of rights; false when there is no such model. */
extern bool distil_store_find(DistilModelRow *row, const char *name);
/* The same as of now, and NULL name = the catalog flag: after waiting for a lock. */
extern bool distil_store_find_now(DistilModelRow *row, const char *name);
/* 42704 for a name distil_store_find did not find. */
pg_noreturn extern void distil_store_unknown(const char *name);

/* Names (22023): 1 to 63 bytes, no slash (hint for hub names), no control characters, not blank. */
extern void distil_store_check_name(const char *name);
/* 42710 when the name is taken by a model; called before any work is done. */
extern void distil_store_check_free(const char *name);
/* 42710 when the name belonged to a model that was dropped, whatever its weights were. */
extern void distil_store_check_dropped(const char *name, const char *hint);

/* A relation of schema distil; 42704 where the extension is not. */
extern Oid	distil_store_relation(const char *name);

/* Container reader over a large object; valid until distil_store_close. */
extern DistilReader *distil_store_open(Oid weights, int64 bytes);
extern void distil_store_close(DistilReader *reader);

/*
 * Import a checked folder as a new model owned by the current user: large object, row,
 * heads, dependency; everything in the current transaction.  teacher NULL unless trained.
 */
extern void distil_store_import(const char *name, DistilImport *import, const char *teacher);

/* How near the embeddings of a model just imported are to those of the one it was made from. */
extern void distil_store_set_cosine(const char *name, double mean, double least);

/*
 * Run one fixed statement on the extension's own tables as their owner; every name and
 * operator of `sql` is qualified, user data comes in parameters only.  nulls may be NULL.
 * Returns the rows processed.
 */
extern uint64 distil_store_execute(const char *sql, int nargs, Oid *types, Datum *values, const bool *nulls);

#endif							/* DISTIL_MODEL_STORE_H */
