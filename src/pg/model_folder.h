/*
 * model_folder.h
 *		Model folders for an import: on the server's disk, or in large objects.
 */
#ifndef DISTIL_MODEL_FOLDER_H
#define DISTIL_MODEL_FOLDER_H

#include "postgres.h"
#include "utils/jsonb.h"
#include "distil_engine.h"

/*
 * The files of a folder that an import may need, opened: the known names at the top and
 * in the module folders that modules.json names, and weight shards.  Links are followed;
 * what is not a regular file is refused.  The caller has checked the right to read.
 */
extern DistilFolder *distil_folder_open_server(const char *path);
/* {"config.json": 16401, ...}: file names to large objects the current user may read. */
extern DistilFolder *distil_folder_open_objects(Jsonb *objects);
/* Closes files and large objects of either kind. */
extern void distil_folder_close(DistilFolder *folder);

#endif							/* DISTIL_MODEL_FOLDER_H */
