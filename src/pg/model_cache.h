/*
 * model_cache.h
 *		One read-only mapped copy of each model per server, and this backend's open models.
 */
#ifndef DISTIL_MODEL_CACHE_H
#define DISTIL_MODEL_CACHE_H

#include "postgres.h"
#include "distil_engine.h"
#include "model_store.h"

/*
 * A model this backend has open (mapped) with its session; stays open
 * for the life of the backend, LRU-bounded.
 */
typedef struct DistilOpenModel
{
	DistilModel *model;
	DistilSession *session;		/* on this backend's device; one user at a time */
	bool		shared;			/* threads share its batches, see threads.c */
	const char *layout;			/* of the mapped copy: by distil.precision and the device */
	const DistilModelInfo *info;
	char		name[NAMEDATALEN];
	uint8		sha256[32];
} DistilOpenModel;

/*
 * The model by name (NULL: default) for the current user: looked up and permission
 * checked under the current snapshot, mapped (building the shared copy if missing) and
 * opened.  Borrowed; valid until the end of the transaction at least.
 */
extern DistilOpenModel *distil_cache_get(const char *name);

/* The same with a copy in float32, whatever distil.precision says: for a device with memory of its own. */
extern DistilOpenModel *distil_cache_get_float32(const char *name);

/* The same for work on tokens only: session may be NULL. */
extern DistilOpenModel *distil_cache_get_tokenizer(const char *name);

/* The same for a training job, in float32, which outlives transactions: the caller's until it is closed. */
extern DistilOpenModel *distil_cache_open(const char *name);
extern void distil_cache_close(DistilOpenModel *open);

/*
 * Layout of the copy of a model that a backend with the settings of this one would use; used: of the one that
 * this backend used last, if it did.  Maps none.  Static storage.
 */
extern const char *distil_cache_layout(const DistilModelRow *row, bool used);

/* The mapping under an open model (for distil_verify). */
extern const void *distil_cache_image(const DistilOpenModel *open, size_t *size);

/* No threads share batches of this backend's models any more: their memory is given back. */
extern void distil_cache_unshare(void);

/* Sums of all sessions of this backend, also of those that are closed. */
extern void distil_cache_stats(DistilSessionStats *total);

/*
 * Number of shared copies this backend has built (not mapped), for tests: a fresh connection must not load.
 */
extern int64 distil_cache_builds(void);

/* Bytes of a model's shared copies that are in memory now; 0 when there is none. */
extern int64 distil_cache_resident(const uint8 sha256[32]);

/* Remove the least recently used shared copies over distil.cache_size, and leftovers of dead processes. */
extern void distil_cache_trim(void);
/* Remove every shared copy that no process has open; bytes freed. */
extern int64 distil_cache_clear_files(void);

/* "pgsql_tmp_distil" below the data directory; created on demand, also home of the training spools. */
#define DISTIL_CACHE_DIR "pgsql_tmp_distil"
extern void distil_cache_directory(void);

#endif							/* DISTIL_MODEL_CACHE_H */
