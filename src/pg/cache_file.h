/*
 * cache_file.h
 *		The files of the shared copies: building, mapping, listing, removing.
 *
 * Used by model_cache.c and gpu_models.c only.
 */
#ifndef DISTIL_CACHE_FILE_H
#define DISTIL_CACHE_FILE_H

#include "postgres.h"
#include "distil_engine.h"
#include "model_store.h"

/* An image in memory: a shared file mapping, or a private copy (fd -1). */
typedef struct DistilMapping
{
	void	   *image;
	size_t		size;
	int			fd;				/* holds the lock that says "in use" */
} DistilMapping;

/*
 * Map the shared copy of a model in a layout, building it when it is missing or bad; a private copy
 * with a warning when it cannot be written.  The weights' hash is checked when building.
 */
extern void distil_cache_file_map(DistilMapping *mapping, const DistilModelRow *row, const char *layout);
/*
 * The same of the copy that is there, by a process without catalogs: false, with errno, when there is none.
 */
extern bool distil_cache_file_find(DistilMapping *mapping, const uint8 sha256[32], const char *layout);
extern void distil_cache_file_unmap(DistilMapping *mapping);

#endif							/* DISTIL_CACHE_FILE_H */
