/*
 * load_model.h
 *		A model folder on disk -> import -> container -> image -> model, all in memory.
 */
#ifndef DISTIL_LOAD_MODEL_H
#define DISTIL_LOAD_MODEL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "folder.h"
#include "model.h"
#include "status.h"

typedef struct LoadedModel
{
	DistilModel *model;
	DistilBuffer container;
	void	   *image;			/* 64-byte aligned copy */
} LoadedModel;

static inline DistilStatus
load_sink(void *ctx, const void *data, size_t bytes, DistilError *err)
{
	return distil_buffer_append(ctx, data, bytes) ? DISTIL_OK : distil_fail_memory(err, bytes);
}

static inline DistilStatus
load_read(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	const DistilBuffer *from = ctx;

	if (offset > from->length || bytes > from->length - offset)
		return distil_fail(err, DISTIL_ERR_IO, "read beyond the end");
	memcpy(buffer, from->data + offset, bytes);
	return DISTIL_OK;
}

static inline DistilStatus
load_container(DistilBuffer *container, const char *path, const DistilImportOptions *options,
			   const DistilAllocator *alloc, DistilError *err)
{
	DistilSink	sink = {load_sink, container};
	DistilFolder *folder;
	DistilImport *import;
	DistilStatus status = distil_folder_open_disk(&folder, path, alloc, err);

	if (status != DISTIL_OK)
		return status;
	status = distil_import_open(&import, folder, options, alloc, NULL, err);
	if (status == DISTIL_OK)
	{
		status = distil_import_write(import, &sink, err);
		distil_import_free(import);
	}
	distil_folder_close_disk(folder, alloc);
	return status;
}

/* false, with a line on stderr, when the folder does not load. */
static inline bool
load_model(LoadedModel *loaded, const char *path, bool parse_special)
{
	const DistilAllocator *alloc = distil_alloc_system();
	DistilImportOptions options = {parse_special};
	DistilReader reader = {load_read, &loaded->container, 0};
	DistilBuffer image;
	DistilSink	sink = {load_sink, &image};
	uint8_t		sha256[32] = {1, 2, 3};
	DistilError err;
	DistilStatus status;

	memset(loaded, 0, sizeof(*loaded));
	distil_buffer_init(&loaded->container, alloc);
	distil_buffer_init(&image, alloc);
	status = load_container(&loaded->container, path, &options, alloc, &err);
	reader.size = loaded->container.length;
	if (status == DISTIL_OK)
		status = distil_image_write(&reader, sha256, &sink, alloc, NULL, &err);
	if (status == DISTIL_OK)
	{
		loaded->image = aligned_alloc(64, (image.length + 63) / 64 * 64);
		memcpy(loaded->image, image.data, image.length);
		status = distil_model_open(&loaded->model, loaded->image, image.length, sha256, alloc, &err);
	}
	if (status != DISTIL_OK)
		fprintf(stderr, "%s: %s: %s\n", path, err.message, err.detail);
	distil_buffer_free(&image);
	return status == DISTIL_OK;
}

static inline void
load_free(LoadedModel *loaded)
{
	distil_model_free(loaded->model);
	distil_buffer_free(&loaded->container);
	free(loaded->image);
}

#endif							/* DISTIL_LOAD_MODEL_H */
