/*
 * train_files.h
 *		Files of a training job: written once through a sink, read by mapping.
 *
 * Nothing here raises an error: the engine calls the sink.  A file gets its final name
 * only when all of it is on disk, so what has the name is complete.
 */
#ifndef DISTIL_TRAIN_FILES_H
#define DISTIL_TRAIN_FILES_H

#include "postgres.h"
#include "distil_engine.h"

typedef struct DistilFileSink
{
	DistilSink	sink;			/* for the engine */
	int			fd;				/* -1 = closed */
	char		path[MAXPGPATH];	/* of the temporary file */
	size_t		used;
	char		buffer[65536];
} DistilFileSink;

/* A new, empty temporary file (an old one of that name is replaced). */
extern DistilStatus distil_file_sink_open(DistilFileSink *file, const char *path, DistilError *err);
/* Flush, fsync and rename; on failure the temporary file is gone. */
extern DistilStatus distil_file_sink_finish(DistilFileSink *file, const char *final_path, DistilError *err);
/* Close and remove the temporary file; harmless when there is none. */
extern void distil_file_sink_discard(DistilFileSink *file);

/* Map a whole file read-only; NULL when it is missing, empty (errno EINVAL), or cannot be mapped (errno). */
extern const void *distil_file_map(const char *path, size_t *size);
extern void distil_file_unmap(const void *data, size_t size);	/* takes NULL */

#endif							/* DISTIL_TRAIN_FILES_H */
