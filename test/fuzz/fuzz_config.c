/*
 * fuzz_config.c
 *		A model folder whose files are the parts of the input, separated by byte 0xFF
 *		(which no JSON text holds): configuration, pipeline and checkpoint are parsed.
 */
#include "checkpoint.h"
#include "config.h"
#include "status.h"

#include <stdlib.h>
#include <string.h>

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The weights come last: they may hold any byte. */
static const char *const names[] = {
	"config.json", "modules.json", "1_Pooling/config.json", "2_Dense/config.json", "3_Normalize/config.json",
	"sentence_bert_config.json", "config_sentence_transformers.json", "tokenizer_config.json",
	"generation_config.json", "model.safetensors.index.json", "2_Dense/model.safetensors", "model.safetensors"
};

#define NAMES (sizeof(names) / sizeof(names[0]))

typedef struct Part
{
	const uint8_t *data;
	size_t		size;
} Part;

static DistilStatus
part_read(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	const Part *part = ctx;

	(void) err;
	if (offset > part->size || bytes > part->size - offset)
		abort();
	memcpy(buffer, part->data + offset, bytes);
	return DISTIL_OK;
}

static void
parse_folder(const DistilFolder *folder)
{
	const DistilAllocator *alloc = distil_alloc_system();
	DistilArena *arena = distil_arena_create(alloc);
	DistilTensorSet *set = NULL;
	const DistilTensor *const *bound;
	DistilSpec	spec;
	DistilError err;

	(void) distil_checkpoint_open(&set, folder, alloc, &err);
	if (distil_spec_parse(&spec, folder, set, arena, &err) == DISTIL_OK)
	{
		DistilBuffer out;

		/* offsets of the table never overlap */
		for (int i = 1; i < spec.table.n; i++)
			if (spec.table.params[i].offset <
				spec.table.params[i - 1].offset + spec.table.params[i - 1].count)
				abort();
		distil_buffer_init(&out, alloc);
		(void) spec.config.arch->write_config(&spec.config, "Class", &out, &err);
		distil_buffer_free(&out);
		if (set != NULL)
			(void) distil_checkpoint_bind(&bound, &spec, set, arena, &err);
	}
	distil_tensor_set_free(set);
	distil_arena_free(arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	DistilFile	files[NAMES];
	Part		parts[NAMES];
	DistilFolder folder = {files, 0};
	size_t		at = 0;

	for (size_t i = 0; i < NAMES && at <= size; i++)
	{
		const uint8_t *end = i + 1 == NAMES || at == size ? NULL : memchr(data + at, 0xff, size - at);
		size_t		length = end == NULL ? size - at : (size_t) (end - (data + at));

		if (length > 0)			/* an empty part: the folder has no such file */
		{
			Part	   *part = &parts[folder.nfiles];

			part->data = data + at;
			part->size = length;
			files[folder.nfiles].name = names[i];
			files[folder.nfiles].reader.read = part_read;
			files[folder.nfiles].reader.ctx = part;
			files[folder.nfiles].reader.size = length;
			folder.nfiles++;
		}
		at += length + 1;
	}
	parse_folder(&folder);
	return 0;
}
