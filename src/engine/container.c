/*
 * container.c
 *		The stored form of a model: one safetensors file with tensors and small files.
 *
 * The rule a newcomer would break: a container is as hostile as any file (it is a large
 * object that its owner can write), so it goes through the same strict reader.
 */
#include "container.h"

#include "status.h"

#include <stdlib.h>
#include <string.h>

/* Reader over a part of another one. */
struct DistilFileView
{
	const DistilTensor *tensor;
};

static DistilStatus
view_read(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	const struct DistilFileView *view = ctx;

	return distil_tensor_read(view->tensor, offset, buffer, bytes, err);
}

bool
distil_container_is_file(const DistilTensor *tensor)
{
	return strncmp(tensor->name, DISTIL_FILE_PREFIX, strlen(DISTIL_FILE_PREFIX)) == 0;
}

static bool
ends_with(const char *name, const char *end)
{
	size_t		length = strlen(name);

	return length >= strlen(end) && strcmp(name + length - strlen(end), end) == 0;
}

bool
distil_container_keeps(const DistilFile *file)
{
	static const char *const names[] = {
		"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
		"special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt",
		"modules.json", "config_sentence_transformers.json", "sentence_bert_config.json",
		"sentence_roberta_config.json", "sentence_distilbert_config.json", "sentence_camembert_config.json",
		"sentence_albert_config.json", "sentence_xlm-roberta_config.json", "sentence_xlnet_config.json"
	};
	static const char *const texts[] = {"README.md", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE"};
	const char *slash = strchr(file->name, '/');

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(file->name, names[i]) == 0)
			return true;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (strcmp(file->name, texts[i]) == 0)
			return file->reader.size <= (1 << 20);
	if (slash == NULL)
		return ends_with(file->name, ".model");
	/* a module's folder starts with its number */
	return file->name[0] >= '0' && file->name[0] <= '9' && strcmp(slash, "/config.json") == 0;
}

static int
compare_order(const void *a, const void *b)
{
	const DistilTensor *x = *(const DistilTensor *const *) a;
	const DistilTensor *y = *(const DistilTensor *const *) b;
	size_t		xs = distil_dtype_size(x->dtype);
	size_t		ys = distil_dtype_size(y->dtype);

	if (xs != ys)
		return xs > ys ? -1 : 1;
	return strcmp(x->name, y->name);
}

void
distil_container_sort(const DistilTensor **tensors, int n)
{
	if (n > 1)
		qsort(tensors, (size_t) n, sizeof(*tensors), compare_order);
}

static DistilStatus
open_files(DistilContainer *container, DistilError *err)
{
	DistilTensorSet *set = container->set;
	int			n = 0;

	for (int i = 0; i < set->n; i++)
		n += distil_container_is_file(&set->tensors[i]);
	if (n > DISTIL_MAX_FILES)
		return distil_fail(err, DISTIL_ERR_LIMIT, "model has more than %d files", DISTIL_MAX_FILES);
	container->files = distil_alloc_array(container->alloc, (size_t) n + 1, sizeof(DistilFile));
	container->views = distil_alloc_array(container->alloc, (size_t) n + 1, sizeof(*container->views));
	if (container->files == NULL || container->views == NULL)
		return distil_fail_memory(err, (size_t) n * sizeof(DistilFile));
	container->folder.files = container->files;
	for (int i = 0; i < set->n; i++)
	{
		const DistilTensor *tensor = &set->tensors[i];
		DistilFile *file = &container->files[container->folder.nfiles];
		struct DistilFileView *view = &container->views[container->folder.nfiles];

		if (!distil_container_is_file(tensor))
			continue;
		if (tensor->dtype != DISTIL_DTYPE_U8 || tensor->rank != 1)
			return distil_fail(err, DISTIL_ERR_MODEL_FILE,
							   "a file of the stored model is not a list of bytes");
		view->tensor = tensor;
		file->name = tensor->name + strlen(DISTIL_FILE_PREFIX);
		file->reader.read = view_read;
		file->reader.ctx = view;
		file->reader.size = tensor->bytes;
		container->folder.nfiles++;
	}
	return DISTIL_OK;
}

DistilStatus
distil_container_open(DistilContainer **container, const DistilReader *reader,
					  const DistilAllocator *alloc, DistilError *err)
{
	DistilContainer *made = distil_alloc_array(alloc, 1, sizeof(DistilContainer));
	DistilStatus status;

	*container = NULL;
	if (made == NULL)
		return distil_fail_memory(err, sizeof(DistilContainer));
	made->alloc = alloc;
	status = distil_tensor_set_create(&made->set, alloc, err);
	if (status == DISTIL_OK)
		status = distil_tensor_set_add(made->set, reader, "stored model", "", err);
	if (status == DISTIL_OK)
		status = distil_tensor_set_finish(made->set, err);
	if (status == DISTIL_OK && !made->set->is_container)
		status = distil_fail(err, DISTIL_ERR_MODEL_FILE,
							 "the stored file is not a model of this extension");
	if (status == DISTIL_OK)
		status = open_files(made, err);
	if (status != DISTIL_OK)
	{
		distil_container_free(made);
		return status;
	}
	made->parse_special = made->set->parse_special;
	*container = made;
	return DISTIL_OK;
}

void
distil_container_free(DistilContainer *container)
{
	if (container == NULL)
		return;
	distil_tensor_set_free(container->set);
	distil_release(container->alloc, container->files);
	distil_release(container->alloc, container->views);
	distil_release(container->alloc, container);
}
