/*
 * train_fixture.h
 *		What the training tests share: models from folders, sinks in memory, texts, spools.
 */
#ifndef DISTIL_TRAIN_FIXTURE_H
#define DISTIL_TRAIN_FIXTURE_H

#include "alloc.h"
#include "check.h"
#include "folder.h"
#include "model.h"
#include "rng.h"
#include "spool.h"
#include "status.h"
#include "test_folder.h"

/* Bytes written through a DistilSink. */
static DistilStatus
fixture_write(void *ctx, const void *data, size_t bytes, DistilError *err)
{
	if (!distil_buffer_append(ctx, data, bytes))
		return distil_fail_memory(err, bytes);
	return DISTIL_OK;
}

static DistilStatus
fixture_read(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	const DistilBuffer *from = ctx;

	if (offset > from->length || bytes > from->length - offset)
		return distil_fail(err, DISTIL_ERR_IO, "read beyond the end");
	memcpy(buffer, from->data + offset, bytes);
	return DISTIL_OK;
}

typedef struct Fixture
{
	void	   *image;
	size_t		image_size;
	DistilModel *model;
} Fixture;

#define MUST(call) \
	do { \
		DistilStatus must_ = (call); \
		if (must_ != DISTIL_OK) \
		{ \
			fprintf(stderr, "%s:%d: %s: status %d: %s (%s)\n", __FILE__, __LINE__, #call, must_, \
					err.message, err.detail); \
			exit(1); \
		} \
	} while (0)

/* A model over a folder in memory or on disk. */
static inline void
fixture_from_folder(Fixture *fixture, const DistilFolder *folder)
{
	const DistilAllocator *alloc = distil_alloc_system();
	DistilError err = {{0}, {0}, {0}};
	DistilImportOptions options = {.parse_special = true};
	DistilImport *import;
	DistilBuffer container;
	DistilBuffer image;
	DistilSink	sink = {fixture_write, &container};
	DistilReader reader;
	static const uint8_t sha256[32] = {1};

	distil_buffer_init(&container, alloc);
	distil_buffer_init(&image, alloc);
	MUST(distil_import_open(&import, folder, &options, alloc, NULL, &err));
	MUST(distil_import_write(import, &sink, &err));
	distil_import_free(import);
	reader.read = fixture_read;
	reader.ctx = &container;
	reader.size = container.length;
	sink.ctx = &image;
	MUST(distil_image_write(DISTIL_LAYOUT_F32P16, &reader, sha256, &sink, alloc, NULL, &err));
	fixture->image_size = image.length;
	fixture->image = aligned_alloc(64, (image.length + 63) / 64 * 64);
	memcpy(fixture->image, image.data, image.length);
	distil_buffer_free(&container);
	distil_buffer_free(&image);
	MUST(distil_model_open(&fixture->model, fixture->image, fixture->image_size, NULL, alloc, &err));
}

static inline void
fixture_open(Fixture *fixture, const char *path)
{
	const DistilAllocator *alloc = distil_alloc_system();
	DistilError err = {{0}, {0}, {0}};
	DistilFolder *folder;

	MUST(distil_folder_open_disk(&folder, path, alloc, &err));
	fixture_from_folder(fixture, folder);
	distil_folder_close_disk(folder, alloc);
}

/* One head of an architecture. */
static inline void
fixture_open_head(Fixture *fixture, const char *arch, const char *kind)
{
	TestFolder	folder;

	CHECK(compose(&folder, arch, kind));
	fixture_from_folder(fixture, &folder.folder);
	test_folder_free(&folder);
}

static inline void
fixture_close(Fixture *fixture)
{
	distil_model_free(fixture->model);
	free(fixture->image);
}

/* n sentences of the tiny models' vocabulary with a pattern to learn: each word depends on the one before. */
static inline void
fixture_sentence(char *text, size_t size, int number)
{
	static const char *const words[] = {
		"the", "cat", "sat", "on", "mat", "dog", "fox", "river", "lazy", "quick", "brown", "hello", "world",
		"database", "data", "rows", "columns", "queries", "read", "store", "table", "index", "model", "small",
		"large", "training", "work", "time", "good", "night", "water", "fire", "house", "city", "king", "book"
	};
	const uint64_t nwords = sizeof(words) / sizeof(words[0]);
	DistilRng	rng;
	uint64_t	word;
	int			length;
	size_t		used = 0;
	int			i;

	distil_rng_open(&rng, 99, DISTIL_RNG_INIT, (uint64_t) number);
	word = distil_rng_below(&rng, nwords);
	length = 11 + (int) distil_rng_below(&rng, 20);
	for (i = 0; i < length; i++)
	{
		used += (size_t) snprintf(text + used, size - used, "%s ", words[word]);
		word = (word * 7 + 3 + distil_rng_below(&rng, 2)) % nwords;
	}
}

/* A finished spool of n such sentences; *spool is 8-byte aligned, to be freed. */
static inline void
fixture_spool(void **spool, size_t *size, const DistilModel *model, const DistilTrainOptions *options, int n)
{
	const DistilAllocator *alloc = distil_alloc_system();
	DistilError err = {{0}, {0}, {0}};
	DistilBuffer buffer;
	DistilSink	sink = {fixture_write, &buffer};
	DistilSpool *writer;
	int			i;

	distil_buffer_init(&buffer, alloc);
	MUST(distil_spool_create(&writer, model, options, &sink, alloc, NULL, &err));
	for (i = 0; i < n; i++)
	{
		char		text[1000];
		DistilText	view = {text, 0};

		fixture_sentence(text, sizeof(text), i);
		view.length = strlen(text);
		MUST(distil_spool_add(writer, &view, &err));
	}
	MUST(distil_spool_finish(writer, &err));
	distil_spool_free(writer);
	*size = buffer.length;
	*spool = aligned_alloc(64, (buffer.length + 63) / 64 * 64);
	memcpy(*spool, buffer.data, buffer.length);
	distil_buffer_free(&buffer);
}

/* Options of a job from JSON. */
static inline DistilTrainOptions
fixture_options(const DistilModel *model, const char *method, const char *json)
{
	DistilError err = {{0}, {0}, {0}};
	DistilTrainOptions options;

	MUST(distil_train_options_parse(&options, method, json, strlen(json), model, distil_alloc_system(),
									&err));
	return options;
}

/* A job of n sentences for a teacher with a language-model head. */
typedef struct FixtureJob
{
	Fixture		teacher;
	DistilTrainOptions options;
	void	   *spool;
	size_t		spool_size;
} FixtureJob;

static inline void
fixture_open_job(FixtureJob *job, const char *arch, const char *method, const char *json, int n)
{
	fixture_open_head(&job->teacher, arch, "lm");
	job->options = fixture_options(job->teacher.model, method, json);
	fixture_spool(&job->spool, &job->spool_size, job->teacher.model, &job->options, n);
}

static inline void
fixture_close_job(FixtureJob *job)
{
	free(job->spool);
	fixture_close(&job->teacher);
}

static inline DistilDevice *
fixture_device(const char *backend)
{
	char		message[256];
	DistilDevice *device = distil_device_open(backend, NULL, message, sizeof(message));

	if (device == NULL)
	{
		fprintf(stderr, "cannot open device %s: %s\n", backend, message);
		exit(1);
	}
	return device;
}

#endif							/* DISTIL_TRAIN_FIXTURE_H */
