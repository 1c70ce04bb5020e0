/*
 * fuzz_safetensors.c
 *		Any bytes as a safetensors file and as a container: open, look up and read all.
 */
#include "container.h"
#include "safetensors.h"
#include "status.h"

#include <stdlib.h>
#include <string.h>

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Input
{
	const uint8_t *data;
	size_t		size;
} Input;

static DistilStatus
input_read(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	const Input *input = ctx;

	(void) err;
	if (offset > input->size || bytes > input->size - offset)
		abort();				/* the reader must stay inside the file */
	memcpy(buffer, input->data + offset, bytes);
	return DISTIL_OK;
}

static void
read_all(const DistilTensorSet *set)
{
	DistilError err;
	uint64_t	total = 0;

	for (int i = 0; i < set->n; i++)
	{
		const DistilTensor *tensor = &set->tensors[i];
		char	   *buffer = malloc((size_t) tensor->bytes + 1);

		if (distil_tensor_set_find(set, tensor->name) != tensor ||
			distil_tensor_read(tensor, 0, buffer, (size_t) tensor->bytes, &err) != DISTIL_OK ||
			tensor->count * distil_dtype_size(tensor->dtype) != tensor->bytes)
			abort();
		if (distil_dtype_is_weight(tensor->dtype))
			(void) distil_count_nonfinite(buffer, tensor->dtype, (size_t) tensor->count);
		total += tensor->bytes;
		free(buffer);
	}
	if (set->n > 0 && total > set->tensors[0].reader->size)
		abort();
}

static void
open_bundle(const DistilReader *reader)
{
	DistilBundle *bundle;
	DistilError err;

	if (distil_bundle_open(&bundle, reader, distil_alloc_system(), &err) != DISTIL_OK)
		return;
	for (int i = 0; i < distil_bundle_folder(bundle)->nfiles; i++)
	{
		const DistilReader *file = &distil_bundle_folder(bundle)->files[i].reader;
		char	   *buffer = malloc((size_t) file->size + 1);

		if (file->read(file->ctx, 0, buffer, (size_t) file->size, &err) != DISTIL_OK)
			abort();
		free(buffer);
	}
	distil_bundle_free(bundle);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Input		input = {data, size};
	DistilReader reader = {input_read, &input, size};
	DistilTensorSet *set;
	DistilError err;

	if (distil_tensor_set_create(&set, distil_alloc_system(), &err) != DISTIL_OK)
		return 0;
	if (distil_tensor_set_add(set, &reader, "input", "", &err) == DISTIL_OK &&
		distil_tensor_set_finish(set, &err) == DISTIL_OK)
		read_all(set);
	distil_tensor_set_free(set);
	open_bundle(&reader);
	return 0;
}
