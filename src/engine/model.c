/*
 * model.c
 *		A model: a small view over an image that stays where it is.
 *
 * The rule a newcomer would break: opening touches no weight.  It parses a few small
 * configuration files and must stay well under a millisecond, because every server
 * process does it.
 */
#include "model.h"

#include "config.h"
#include "image.h"
#include "status.h"
#include "tensor.h"
#include "tokenizer.h"

#include <string.h>

/* Reader over memory. */
typedef struct MemoryFile
{
	const char *data;
	size_t		size;
} MemoryFile;

static DistilStatus
memory_read(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	const MemoryFile *file = ctx;

	if (offset > file->size || bytes > file->size - offset)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "read beyond the end of a file");
	memcpy(buffer, file->data + offset, bytes);
	return DISTIL_OK;
}

/* [offset, offset + length] (one more for the terminating 0) within the section */
static bool
string_ok(const char *section, uint64_t size, uint64_t offset, uint64_t length)
{
	return offset < size && length < size - offset && section[offset + length] == '\0';
}

static DistilStatus
open_files(DistilModel *model, const DistilImageHeader *header, DistilError *err)
{
	const char *section = (const char *) model->image + header->files_offset;
	DistilFile *files = distil_arena_alloc(model->arena, header->nfiles + 1, sizeof(*files));
	MemoryFile *views = distil_arena_alloc(model->arena, header->nfiles + 1, sizeof(*views));

	if (files == NULL || views == NULL)
		return distil_fail_memory(err, header->nfiles * sizeof(*files));
	for (uint32_t i = 0; i < header->nfiles; i++)
	{
		DistilImageFile entry;

		memcpy(&entry, section + i * sizeof(entry), sizeof(entry));
		if (!string_ok(section, header->files_size, entry.name_offset, entry.name_length) ||
			!string_ok(section, header->files_size, entry.data_offset, entry.data_size))
			return distil_fail(err, DISTIL_ERR_CORRUPT, "the prepared copy of the model is damaged");
		views[i].data = section + entry.data_offset;
		views[i].size = (size_t) entry.data_size;
		files[i].name = section + entry.name_offset;
		files[i].reader.read = memory_read;
		files[i].reader.ctx = &views[i];
		files[i].reader.size = entry.data_size;
		if (strcmp(files[i].name, "config.json") == 0)
			model->config_text = views[i].data;
	}
	model->files = files;
	model->nfiles = (int) header->nfiles;
	return DISTIL_OK;
}

static DistilStatus
open_model(DistilModel *model, const uint8_t sha256[32], DistilError *err)
{
	DistilImageHeader header;
	DistilSpecFacts facts = {0};
	DistilFolder folder;

	if ((uintptr_t) model->image % DISTIL_IMAGE_ALIGN != 0)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "a model's image must be aligned to %d bytes",
						   DISTIL_IMAGE_ALIGN);
	DISTIL_FORWARD(distil_image_check(model->image, model->image_size, sha256, err));
	memcpy(&header, model->image, sizeof(header));
	model->arena = distil_arena_create(model->alloc);
	if (model->arena == NULL)
		return distil_fail_memory(err, 0);
	DISTIL_FORWARD(open_files(model, &header, err));
	facts.with_lm = header.with_lm != 0;
	facts.head = (int) header.head - 1;
	facts.parameters = header.parameters;
	facts.model_max_length = header.model_max_length;
	facts.dtype = distil_dtype_long_name((DistilDtype) header.dtype);
	folder.files = model->files;
	folder.nfiles = model->nfiles;
	DISTIL_FORWARD(distil_spec_build(&model->spec, &folder, &facts, model->arena, model->alloc, err));
	if (!distil_spec_pack(&model->spec, header.layout, header.quantized))
		return distil_fail_memory(err, 0);
	if (model->spec.table.total != header.weights_count)
		return distil_fail(err, DISTIL_ERR_CORRUPT,
						   "the prepared copy of the model does not fit its configuration");
	model->weights = (const float *) (const void *) ((const char *) model->image + header.weights_offset);
	DISTIL_FORWARD(distil_tokenizer_open(&model->tokenizer,
										 (const char *) model->image + header.tokenizer_offset,
										 (size_t) header.tokenizer_size, model->alloc, err));
	if (distil_tokenizer_vocabulary(model->tokenizer) > model->spec.config.vocabulary)
		return distil_fail(err, DISTIL_ERR_CORRUPT, "the model's tokenizer has more tokens than the model");
	return DISTIL_OK;
}

DistilStatus
distil_model_open(DistilModel **model, const void *image, size_t size, const uint8_t sha256[32],
				  const DistilAllocator *alloc, DistilError *err)
{
	DistilModel *made = distil_alloc_array(alloc, 1, sizeof(DistilModel));
	DistilStatus status;

	*model = NULL;
	if (made == NULL)
		return distil_fail_memory(err, sizeof(DistilModel));
	made->alloc = alloc;
	made->image = image;
	made->image_size = size;
	status = open_model(made, sha256, err);
	if (status != DISTIL_OK)
	{
		distil_model_free(made);
		return status;
	}
	*model = made;
	return DISTIL_OK;
}

const DistilModelInfo *
distil_model_info(const DistilModel *model)
{
	return &model->spec.info;
}

const char *
distil_model_layout(const DistilModel *model)
{
	return ((const DistilImageHeader *) model->image)->layout;
}

const char *
distil_model_config(const DistilModel *model)
{
	return model->config_text;
}

const DistilTokenizer *
distil_model_tokenizer(const DistilModel *model)
{
	return model->tokenizer;
}

void
distil_model_free(DistilModel *model)
{
	if (model == NULL)
		return;
	distil_tokenizer_free(model->tokenizer);
	distil_arena_free(model->arena);
	distil_release(model->alloc, model);
}
