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
#include "image.h"
#include "model.h"
#include "status.h"

typedef struct LoadedModel
{
	DistilModel *model;
	DistilBuffer container;
	void	   *image;			/* 64-byte aligned copy */
} LoadedModel;

/* Layout of the images made; NULL: this CPU's in float32. */
static const char *load_layout;

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

/* From a folder given as files; *loaded must be freed in any case. */
static inline DistilStatus
load_folder(LoadedModel *loaded, const DistilFolder *folder, const DistilImportOptions *options,
			DistilError *err)
{
	const DistilAllocator *alloc = distil_alloc_system();
	DistilReader reader = {load_read, &loaded->container, 0};
	DistilSink	to_container = {load_sink, &loaded->container};
	DistilBuffer image;
	DistilSink	to_image = {load_sink, &image};
	uint8_t		sha256[32] = {1, 2, 3};
	DistilImport *import;
	DistilStatus status;

	memset(loaded, 0, sizeof(*loaded));
	distil_buffer_init(&loaded->container, alloc);
	distil_buffer_init(&image, alloc);
	status = distil_import_open(&import, folder, options, alloc, NULL, err);
	if (status == DISTIL_OK)
	{
		status = distil_import_write(import, &to_container, err);
		distil_import_free(import);
	}
	reader.size = loaded->container.length;
	if (status == DISTIL_OK)
		status = distil_image_write(load_layout != NULL ? load_layout
									: distil_image_layout(DISTIL_PRECISION_FLOAT32, NULL), &reader, sha256,
									&to_image, alloc, NULL, err);
	if (status == DISTIL_OK)
	{
		loaded->image = aligned_alloc(64, (image.length + 63) / 64 * 64);
		memcpy(loaded->image, image.data, image.length);
		status = distil_model_open(&loaded->model, loaded->image, image.length, sha256, alloc, err);
	}
	distil_buffer_free(&image);
	return status;
}

/* false, with a line on stderr, when the folder does not load; nothing is left then. */
static inline bool
load_model(LoadedModel *loaded, const char *path, bool parse_special)
{
	DistilImportOptions options = {parse_special};
	DistilFolder *folder;
	DistilError err = {"", "", ""};
	DistilStatus status = distil_folder_open_disk(&folder, path, distil_alloc_system(), &err);

	if (status == DISTIL_OK)
	{
		status = load_folder(loaded, folder, &options, &err);
		distil_folder_close_disk(folder, distil_alloc_system());
		if (status != DISTIL_OK)
		{
			distil_buffer_free(&loaded->container);
			free(loaded->image);
		}
	}
	if (status != DISTIL_OK)
		fprintf(stderr, "%s: %s: %s\n", path, err.message, err.detail);
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
