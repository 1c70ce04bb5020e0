/*
 * import_fixture.h
 *		Containers and images of model folders, for the tests of imports.
 */
#ifndef DISTIL_IMPORT_FIXTURE_H
#define DISTIL_IMPORT_FIXTURE_H

#include "image.h"
#include "model.h"
#include "status.h"
#include "test_folder.h"

#define MODELS "test/golden/models/"

/* Files of them. */
#define C "config.json"
#define MODULES "modules.json"
#define POOLING "1_Pooling/config.json"
#define DENSE "2_Dense/config.json"
#define PROMPTS "config_sentence_transformers.json"
#define SENTENCE "sentence_bert_config.json"
#define W "model.safetensors"
#define INDEX "model.safetensors.index.json"

static const DistilImportOptions options = {true};
static const uint8_t sha256[32] = {1, 2, 3, 4};

static inline DistilStatus
import_status(const TestFolder *folder, DistilError *err)
{
	DistilImport *import;
	DistilStatus status = distil_import_open(&import, &folder->folder, &options, distil_alloc_system(),
											 NULL, err);

	CHECK((status == DISTIL_OK) == (import != NULL));
	distil_import_free(import);
	return status;
}

/* The container of a folder; empty after a failed check. */
static inline TestBytes
make_container(const DistilFolder *folder)
{
	TestBytes	container = {0};
	DistilSink	sink = {test_bytes_write, &container};
	DistilImport *import;
	DistilError err;
	DistilStatus status = distil_import_open(&import, folder, &options, distil_alloc_system(), NULL, &err);

	CHECK_MSG(status == DISTIL_OK, "%s %s", err.message, err.detail);
	if (status != DISTIL_OK)
		return container;
	CHECK(distil_import_write(import, &sink, &err) == DISTIL_OK);
	CHECK(container.length == distil_import_size(import));
	distil_import_free(import);
	return container;
}

static inline TestBytes
make_image(TestBytes *container)
{
	TestBytes	image = {0};
	DistilSink	sink = {test_bytes_write, &image};
	DistilReader reader = test_bytes_reader(container);
	DistilError err;
	DistilStatus status = distil_image_write(DISTIL_LAYOUT_F32P16, &reader, sha256, &sink,
											 distil_alloc_system(), NULL, &err);

	CHECK_MSG(status == DISTIL_OK, "%s %s", err.message, err.detail);
	return image;
}

#endif							/* DISTIL_IMPORT_FIXTURE_H */
