/*
 * tokenizer_memory.h
 *		For the tokenizer's tests: an allocator that counts and can fail, files in memory.
 */
#ifndef DISTIL_TOKENIZER_MEMORY_H
#define DISTIL_TOKENIZER_MEMORY_H

#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"

/* ---------- an allocator that counts and can fail ---------- */

static long live_blocks;
static long allocations;
static long fail_at = -1;

static void *
count_alloc(void *ctx, size_t bytes)
{
	void	   *memory;

	(void) ctx;
	if (allocations++ == fail_at)
		return NULL;
	memory = malloc(bytes > 0 ? bytes : 1);
	live_blocks += memory != NULL;
	return memory;
}

static void
count_release(void *ctx, void *memory)
{
	(void) ctx;
	live_blocks -= memory != NULL;
	free(memory);
}

static const DistilAllocator counting = {count_alloc, count_release, NULL};

/* ---------- folders in memory ---------- */

typedef struct Memory
{
	const char *data;
	size_t		length;
} Memory;

static DistilStatus
read_memory(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	const Memory *memory = ctx;

	(void) err;
	memcpy(buffer, memory->data + offset, bytes);
	return DISTIL_OK;
}

/* A file of the goldens, with a zero behind it; the caller frees it. */
static inline char *
read_file(const char *name, size_t *length)
{
	char		path[256];
	FILE	   *stream;
	char	   *data;

	snprintf(path, sizeof(path), "test/golden/tokenizer/%s", name);
	stream = fopen(path, "rb");
	if (stream == NULL)
	{
		fprintf(stderr, "cannot open %s\n", path);
		exit(1);
	}
	fseek(stream, 0, SEEK_END);
	*length = (size_t) ftell(stream);
	rewind(stream);
	data = malloc(*length + 1);
	if (data == NULL || fread(data, 1, *length, stream) != *length)
		exit(1);
	data[*length] = '\0';
	fclose(stream);
	return data;
}

/* Compile a folder; the blob is allocated with malloc (alignment of 16). */
static inline DistilStatus
compile_lower(char **blob, size_t *size, const DistilFolder *folder, bool lower_case,
			  const DistilAllocator *alloc, DistilError *err)
{
	DistilBuffer out;
	DistilStatus status;

	distil_buffer_init(&out, alloc);
	status = distil_tokenizer_compile(&out, folder, true, lower_case, 0, alloc, NULL, err);
	*blob = NULL;
	*size = out.length;
	if (status == DISTIL_OK)
	{
		*blob = malloc(out.length);
		memcpy(*blob, out.data, out.length);
	}
	distil_buffer_free(&out);
	return status;
}

static inline DistilStatus
compile_folder(char **blob, size_t *size, const DistilFolder *folder, const DistilAllocator *alloc,
			   DistilError *err)
{
	return compile_lower(blob, size, folder, false, alloc, err);
}

/* The same of one or two files. */
static inline DistilStatus
compile_files(char **blob, size_t *size, const char *name1, Memory *data1, const char *name2, Memory *data2,
			  const DistilAllocator *alloc, DistilError *err)
{
	DistilFile	files[2] = {
		{name1, {read_memory, data1, data1->length}},
		{name2, {read_memory, data2, data2 != NULL ? data2->length : 0}}
	};
	DistilFolder folder = {files, name2 != NULL ? 2 : 1};

	return compile_folder(blob, size, &folder, alloc, err);
}

#endif							/* DISTIL_TOKENIZER_MEMORY_H */
