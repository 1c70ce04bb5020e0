/*
 * folder.h
 *		Small helpers over a DistilFolder.
 */
#ifndef DISTIL_FOLDER_H
#define DISTIL_FOLDER_H

#include "alloc.h"
#include "distil_engine.h"
#include "json.h"

/* NULL when the folder has no file of that name. */
extern const DistilFile *distil_folder_find(const DistilFolder *folder, const char *name);
/* Whole file, allocated and terminated; over `limit` bytes: DISTIL_ERR_LIMIT; missing: DISTIL_ERR_NO_FILE. */
extern DistilStatus distil_folder_read(const DistilFolder *folder, const char *name, size_t limit,
									   char **data, size_t *length, const DistilAllocator *alloc,
										   DistilError *err);
/* Parse a JSON file; *doc NULL when the file is missing and not `required`. */
extern DistilStatus distil_folder_json(const DistilFolder *folder, const char *name, bool required,
									   DistilJsonDoc **doc, const DistilAllocator *alloc, DistilError *err);
/* A folder on disk, for tests and tools (the glue has its own with its checks). */
extern DistilStatus distil_folder_open_disk(DistilFolder **folder, const char *path,
											const DistilAllocator *alloc, DistilError *err);
extern void distil_folder_close_disk(DistilFolder *folder, const DistilAllocator *alloc);

#endif							/* DISTIL_FOLDER_H */
