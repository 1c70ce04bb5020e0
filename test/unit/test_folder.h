/*
 * test_folder.h
 *		Model folders in memory, for tests: load one, change a file, import it.
 *
 * Also an allocator that counts and can fail at the Nth request, and a sink that
 * collects bytes (64-byte aligned, as images need).
 */
#ifndef DISTIL_TEST_FOLDER_H
#define DISTIL_TEST_FOLDER_H

#include "alloc.h"
#include "check.h"
#include "distil_engine.h"
#include "folder.h"

#define TEST_MAX_FILES 64

typedef struct TestBytes
{
	char	   *data;
	size_t		length;
	size_t		capacity;
} TestBytes;

typedef struct TestFolder
{
	DistilFolder folder;
	DistilFile	files[TEST_MAX_FILES];
	TestBytes	bytes[TEST_MAX_FILES];
	char		names[TEST_MAX_FILES][256];
} TestFolder;

static inline DistilStatus
test_bytes_read(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	const TestBytes *from = ctx;

	(void) err;
	CHECK(offset <= from->length && bytes <= from->length - offset);
	if (offset > from->length || bytes > from->length - offset)
		return DISTIL_ERR_IO;
	memcpy(buffer, from->data + offset, bytes);
	return DISTIL_OK;
}

/* A DistilSink's write: pieces of at most 1 MB. */
static inline DistilStatus
test_bytes_write(void *ctx, const void *data, size_t bytes, DistilError *err)
{
	TestBytes  *to = ctx;

	(void) err;
	CHECK(bytes <= (size_t) 1 << 20);
	if (to->length + bytes > to->capacity)
	{
		size_t		capacity = (to->length + bytes) * 2 / 64 * 64 + 64;
		char	   *grown = aligned_alloc(64, capacity);

		if (to->length > 0)
			memcpy(grown, to->data, to->length);
		free(to->data);
		to->data = grown;
		to->capacity = capacity;
	}
	memcpy(to->data + to->length, data, bytes);
	to->length += bytes;
	return DISTIL_OK;
}

static inline DistilReader
test_bytes_reader(TestBytes *bytes)
{
	DistilReader reader = {test_bytes_read, bytes, bytes->length};

	return reader;
}

static inline void
test_bytes_free(TestBytes *bytes)
{
	free(bytes->data);
	memset(bytes, 0, sizeof(*bytes));
}

static inline int
test_folder_index(const TestFolder *folder, const char *name)
{
	for (int i = 0; i < folder->folder.nfiles; i++)
		if (strcmp(folder->names[i], name) == 0)
			return i;
	return -1;
}

/* Add or replace a file. */
static inline void
test_folder_set(TestFolder *folder, const char *name, const void *data, size_t length)
{
	int			i = test_folder_index(folder, name);

	if (i < 0)
		i = folder->folder.nfiles++;
	else
		free(folder->bytes[i].data);
	snprintf(folder->names[i], sizeof(folder->names[i]), "%s", name);
	folder->bytes[i].data = malloc(length + 1);
	memcpy(folder->bytes[i].data, data, length);
	folder->bytes[i].data[length] = '\0';
	folder->bytes[i].length = length;
	folder->files[i].name = folder->names[i];
	folder->files[i].reader = test_bytes_reader(&folder->bytes[i]);
	folder->folder.files = folder->files;
}

static inline void
test_folder_set_text(TestFolder *folder, const char *name, const char *text)
{
	test_folder_set(folder, name, text, strlen(text));
}

static inline void
test_folder_remove(TestFolder *folder, const char *name)
{
	int			i = test_folder_index(folder, name);
	int			last = folder->folder.nfiles - 1;

	CHECK(i >= 0);
	if (i < 0)
		return;
	free(folder->bytes[i].data);
	folder->folder.nfiles--;
	if (i == last)
		return;
	folder->bytes[i] = folder->bytes[last];
	memcpy(folder->names[i], folder->names[last], sizeof(folder->names[i]));
	folder->files[i].reader = test_bytes_reader(&folder->bytes[i]);
}

static inline void
test_folder_free(TestFolder *folder)
{
	for (int i = 0; i < folder->folder.nfiles; i++)
		free(folder->bytes[i].data);
	memset(folder, 0, sizeof(*folder));
}

/* Where `text` is in a file's bytes; NULL with a failed check when it is not. */
static inline char *
test_folder_find_text(TestFolder *folder, const char *name, const char *text)
{
	int			i = test_folder_index(folder, name);
	size_t		length = strlen(text);

	CHECK_MSG(i >= 0, "no file %s", name);
	for (size_t at = 0; i >= 0 && at + length <= folder->bytes[i].length; at++)
		if (memcmp(folder->bytes[i].data + at, text, length) == 0)
			return folder->bytes[i].data + at;
	CHECK_MSG(false, "no %s in %s", text, name);
	return NULL;
}

/* Replace the first `from` of a file by `to`. */
static inline void
test_folder_replace(TestFolder *folder, const char *name, const char *from, const char *to)
{
	char	   *at = test_folder_find_text(folder, name, from);
	int			i = test_folder_index(folder, name);
	TestBytes	old;
	char	   *made;
	size_t		head;

	if (at == NULL)
		return;
	old = folder->bytes[i];
	head = (size_t) (at - old.data);
	made = malloc(old.length + strlen(to) + 1);
	memcpy(made, old.data, head);
	memcpy(made + head, to, strlen(to));
	memcpy(made + head + strlen(to), at + strlen(from), old.length - head - strlen(from));
	test_folder_set(folder, name, made, old.length - strlen(from) + strlen(to));
	free(made);
}

/* A folder from disk; false (with a failed check) when it cannot be read. */
static inline bool
test_folder_load(TestFolder *folder, const char *path)
{
	DistilFolder *disk;
	DistilError err;
	DistilStatus status = distil_folder_open_disk(&disk, path, distil_alloc_system(), &err);

	memset(folder, 0, sizeof(*folder));
	folder->folder.files = folder->files;
	CHECK_MSG(status == DISTIL_OK, "%s", err.message);
	if (status != DISTIL_OK)
		return false;
	for (int i = 0; i < disk->nfiles; i++)
	{
		const DistilFile *file = &disk->files[i];
		char	   *data = malloc((size_t) file->reader.size + 1);

		CHECK(file->reader.read(file->reader.ctx, 0, data, (size_t) file->reader.size, &err) == DISTIL_OK);
		test_folder_set(folder, file->name, data, (size_t) file->reader.size);
		free(data);
	}
	distil_folder_close_disk(disk, distil_alloc_system());
	return true;
}

/* ---------- one head of one architecture ---------- */

static inline void
rename_file(TestFolder *folder, const char *from, const char *to)
{
	int			i = test_folder_index(folder, from);

	CHECK_MSG(i >= 0, "no file %s", from);
	if (i < 0)
		return;
	test_folder_set(folder, to, folder->bytes[i].data, folder->bytes[i].length);
}

/* The folder of one head of test/golden/models/heads-ARCH, as it would be imported. */
static inline bool
compose(TestFolder *folder, const char *arch, const char *kind)
{
	char		path[128];
	char		name[64];

	snprintf(path, sizeof(path), "test/golden/models/heads-%s", arch);
	if (!test_folder_load(folder, path))
		return false;
	snprintf(name, sizeof(name), "%s.config.json", kind);
	rename_file(folder, name, "config.json");
	snprintf(name, sizeof(name), "%s.index.json", kind);
	rename_file(folder, name, "model.safetensors.index.json");
	return true;
}

/* ---------- an allocator that can fail ---------- */

typedef struct TestAllocator
{
	DistilAllocator alloc;
	long		live;			/* allocations not released */
	long		requests;
	long		fail_at;		/* this request fails (1 = the first); 0 = none */
} TestAllocator;

static inline void *
test_alloc(void *ctx, size_t bytes)
{
	TestAllocator *test = ctx;

	if (++test->requests == test->fail_at)
		return NULL;
	test->live++;
	return malloc(bytes);
}

static inline void
test_release(void *ctx, void *memory)
{
	TestAllocator *test = ctx;

	if (memory != NULL)
		test->live--;
	free(memory);
}

static inline void
test_allocator_init(TestAllocator *test, long fail_at)
{
	memset(test, 0, sizeof(*test));
	test->alloc.alloc = test_alloc;
	test->alloc.release = test_release;
	test->alloc.ctx = test;
	test->fail_at = fail_at;
}

#endif							/* DISTIL_TEST_FOLDER_H */
