/*
 * checkpoint.c
 *		The tensors of a model folder, and which of them each parameter is made of.
 *
 * The rules a newcomer would break: ".gamma" and ".beta" are old names only at the end
 * of a LayerNorm's name; of two tied tensors a file may store either; weights are read
 * from safetensors alone, a pickle is never opened.
 */
#include "checkpoint.h"

#include "config.h"
#include "folder.h"
#include "status.h"

#include <stdio.h>
#include <string.h>

#define SINGLE_FILE "model.safetensors"
#define INDEX_FILE "model.safetensors.index.json"

static DistilStatus
fail_no_weights(const DistilFolder *folder, const char *prefix, DistilError *err)
{
	static const char *const others[] = {
		"pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"
	};
	char		name[DISTIL_MAX_NAME + 64];
	char		shown[120];

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
	{
		snprintf(name, sizeof(name), "%s%s", prefix, others[i]);
		if (distil_folder_find(folder, name) == NULL)
			continue;
		distil_fail(err, DISTIL_ERR_UNSUPPORTED, "weights in file \"%s\" are not supported",
					distil_printable(shown, sizeof(shown), name, strlen(name)));
		distil_fail_detail(err, DISTIL_ERR_UNSUPPORTED, "Weights are read from safetensors files only.");
		return distil_fail_hint(err, DISTIL_ERR_UNSUPPORTED,
								"Convert the model: load it with transformers (or "
								"sentence-transformers) and save it again with "
								"save_pretrained(path, safe_serialization=True).");
	}
	snprintf(name, sizeof(name), "%s%s", prefix, SINGLE_FILE);
	return distil_fail(err, DISTIL_ERR_NO_FILE, "model file \"%s\" is missing",
					   distil_printable(shown, sizeof(shown), name, strlen(name)));
}

/* The shards named by the values of "weight_map", each once, in the order of the map. */
static DistilStatus
add_shards(DistilTensorSet *set, const DistilFolder *folder, const DistilJson *map, DistilError *err)
{
	const DistilFile *done[DISTIL_MAX_FILES];
	int			ndone = 0;
	const void *at = NULL;
	const char *key;
	const DistilJson *value;

	while ((at = distil_json_next(map, at, &key, NULL, &value)) != NULL)
	{
		const char *name = distil_json_type(value) == DISTIL_JSON_STRING ? distil_json_string(value,
																							  NULL) : NULL;
		const DistilFile *file;
		char		shown[120];
		int			i = 0;

		if (name == NULL)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE, "\"weight_map\" of file \"" INDEX_FILE
							   "\" must map names to files");
		file = distil_folder_find(folder, name);
		if (file == NULL)
		{
			distil_fail(err, DISTIL_ERR_NO_FILE, "model file \"%s\" is missing",
						distil_printable(shown, sizeof(shown), name, strlen(name)));
			return distil_fail_detail(err, DISTIL_ERR_NO_FILE, "It is named by file \"" INDEX_FILE "\".");
		}
		while (i < ndone && done[i] != file)
			i++;
		if (i < ndone)
			continue;
		if (ndone == DISTIL_MAX_FILES)
			return distil_fail(err, DISTIL_ERR_LIMIT, "model has more than %d files", DISTIL_MAX_FILES);
		done[ndone++] = file;
		DISTIL_FORWARD(distil_tensor_set_add(set, &file->reader, name, "", err));
	}
	return DISTIL_OK;
}

/* Every tensor of the index must be in the shard it names. */
static DistilStatus
check_index(const DistilTensorSet *set, const DistilFolder *folder, const DistilJson *map, DistilError *err)
{
	const void *at = NULL;
	const char *key;
	const DistilJson *value;

	while ((at = distil_json_next(map, at, &key, NULL, &value)) != NULL)
	{
		const DistilTensor *tensor = distil_tensor_set_find(set, key);
		const DistilFile *file = distil_folder_find(folder, distil_json_string(value, NULL));
		char		shown[120];

		if (tensor == NULL || file == NULL || tensor->reader != &file->reader)
			return distil_fail(err, DISTIL_ERR_MODEL_FILE,
							   "tensor \"%s\" is not in the file that \"" INDEX_FILE "\" names",
							   distil_printable(shown, sizeof(shown), key, strlen(key)));
	}
	return DISTIL_OK;
}

static DistilStatus
add_index(DistilTensorSet *set, const DistilFolder *folder, const DistilJsonDoc *doc, DistilError *err)
{
	const DistilJson *root = distil_json_root(doc);
	const DistilJson *map = distil_json_type(root) == DISTIL_JSON_OBJECT
		? distil_json_member(root, "weight_map") : NULL;

	if (map == NULL || distil_json_type(map) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "file \"" INDEX_FILE "\" has no \"weight_map\"");
	DISTIL_FORWARD(add_shards(set, folder, map, err));
	DISTIL_FORWARD(distil_tensor_set_finish(set, err));
	return check_index(set, folder, map, err);
}

/* Weights of the sentence pipeline's Dense modules. */
static DistilStatus
add_dense(DistilTensorSet *set, const DistilFolder *folder, DistilError *err)
{
	const char *const *dirs;
	int			n;

	DISTIL_FORWARD(distil_pipeline_dense_dirs(&dirs, &n, folder, set->arena, set->alloc, err));
	for (int i = 0; i < n; i++)
	{
		char		prefix[DISTIL_MAX_NAME + 2];
		char		name[DISTIL_MAX_NAME + 32];
		const DistilFile *file;

		snprintf(prefix, sizeof(prefix), "%s/", dirs[i]);
		snprintf(name, sizeof(name), "%s%s", prefix, SINGLE_FILE);
		file = distil_folder_find(folder, name);
		if (file == NULL)
			return fail_no_weights(folder, prefix, err);
		DISTIL_FORWARD(distil_tensor_set_add(set, &file->reader, name, prefix, err));
	}
	return DISTIL_OK;
}

static DistilStatus
open_set(DistilTensorSet *set, const DistilFolder *folder, DistilError *err)
{
	const DistilFile *file = distil_folder_find(folder, SINGLE_FILE);

	if (file != NULL)
		DISTIL_FORWARD(distil_tensor_set_add(set, &file->reader, SINGLE_FILE, "", err));
	else if (distil_folder_find(folder, INDEX_FILE) != NULL)
	{
		DistilJsonDoc *doc;
		DistilStatus status;

		DISTIL_FORWARD(distil_folder_json(folder, INDEX_FILE, true, &doc, set->alloc, err));
		status = add_index(set, folder, doc, err);
		distil_json_free(doc);
		if (status != DISTIL_OK)
			return status;
	}
	else
		return fail_no_weights(folder, "", err);
	DISTIL_FORWARD(add_dense(set, folder, err));
	return distil_tensor_set_finish(set, err);
}

DistilStatus
distil_checkpoint_open(DistilTensorSet **set, const DistilFolder *folder,
					   const DistilAllocator *alloc, DistilError *err)
{
	DistilStatus status;

	DISTIL_FORWARD(distil_tensor_set_create(set, alloc, err));
	status = open_set(*set, folder, err);
	if (status != DISTIL_OK)
	{
		distil_tensor_set_free(*set);
		*set = NULL;
	}
	return status;
}

/* ---------- finding ---------- */

static const DistilTensor *
find_prefixed(const DistilTensorSet *set, const DistilArch *arch, const char *name)
{
	char		full[DISTIL_MAX_NAME * 2];
	const DistilTensor *tensor;

	snprintf(full, sizeof(full), "%s%s", arch->prefix, name);
	tensor = distil_tensor_set_find(set, full);
	return tensor != NULL ? tensor : distil_tensor_set_find(set, name);
}

/* "...LayerNorm.weight" -> "...LayerNorm.gamma"; false when the name does not end so. */
static bool
old_norm_name(char *old, size_t size, const char *name)
{
	static const char *const ends[2][2] = {{"LayerNorm.weight", "gamma"}, {"LayerNorm.bias", "beta"}};
	size_t		length = strlen(name);

	for (int i = 0; i < 2; i++)
	{
		size_t		end = strlen(ends[i][0]);

		if (length >= end && strcmp(name + length - end, ends[i][0]) == 0)
		{
			snprintf(old, size, "%.*sLayerNorm.%s", (int) (length - end), name, ends[i][1]);
			return true;
		}
	}
	return false;
}

const DistilTensor *
distil_checkpoint_find_exact(const DistilTensorSet *set, const DistilArch *arch, const char *source)
{
	const DistilTensor *tensor = find_prefixed(set, arch, source);
	char		old[DISTIL_MAX_NAME + 1];

	if (tensor == NULL && old_norm_name(old, sizeof(old), source))
		tensor = find_prefixed(set, arch, old);
	return tensor;
}

const DistilTensor *
distil_checkpoint_find(const DistilTensorSet *set, const DistilArch *arch, const char *source)
{
	const DistilTensor *tensor = distil_checkpoint_find_exact(set, arch, source);

	for (const struct DistilAlias *alias = arch->aliases; alias != NULL && alias->source != NULL; alias++)
		if ((tensor == NULL || alias->first) && strcmp(alias->source, source) == 0)
		{
			const DistilTensor *other = distil_checkpoint_find_exact(set, arch, alias->other);

			tensor = other != NULL ? other : tensor;
		}
	return tensor;
}

bool
distil_tensor_is_buffer(const DistilTensor *tensor)
{
	static const char *const ends[] = {".attn.bias", ".attn.masked_bias", "position_ids"};
	size_t		length = strlen(tensor->name);

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
	{
		size_t		end = strlen(ends[i]);

		if (length >= end && strcmp(tensor->name + length - end, ends[i]) == 0 && tensor->rank != 1)
			return true;
	}
	return false;
}

/* ---------- binding ---------- */

/* "[2, 384]" */
static void
print_shape(char *out, size_t size, const int64_t *shape, int rank)
{
	size_t		at = 0;

	out[0] = '\0';
	for (int i = 0; i < rank && at < size; i++)
		at += (size_t) snprintf(out + at, size - at, "%s%lld", i > 0 ? ", " : "", (long long) shape[i]);
}

static DistilStatus
check_tensor(const DistilTensor *tensor, const DistilParam *param, DistilError *err)
{
	bool		turned = (param->flags & DISTIL_PARAM_TRANSPOSED) != 0;
	int64_t		rows = param->rows / param->nsources;
	int64_t		expected[2] = {turned ? param->cols : rows, turned ? rows : param->cols};
	int			rank = param->vector ? 1 : 2;
	char		shown[DISTIL_MAX_NAME + 1];
	char		found_text[200];
	char		expected_text[60];

	distil_printable(shown, sizeof(shown), tensor->name, strlen(tensor->name));
	if (!distil_tensor_is_weight(tensor))
	{
		distil_fail(err, DISTIL_ERR_UNSUPPORTED, "tensor \"%s\" has data type \"%s\"", shown,
					distil_dtype_name(tensor->dtype));
		return distil_fail_detail(err, DISTIL_ERR_UNSUPPORTED, "Weights must be F32, F16 or BF16.");
	}
	if (tensor->rank == rank && tensor->shape[0] == expected[0] &&
		(rank == 1 || tensor->shape[1] == expected[1]))
		return DISTIL_OK;
	print_shape(found_text, sizeof(found_text), tensor->shape, tensor->rank);
	print_shape(expected_text, sizeof(expected_text), expected, rank);
	distil_fail(err, DISTIL_ERR_MODEL_FILE, "tensor \"%s\" has a shape that does not fit the configuration",
				shown);
	return distil_fail_detail(err, DISTIL_ERR_MODEL_FILE, "Its shape is [%s]; expected is [%s].",
							  found_text, expected_text);
}

DistilStatus
distil_checkpoint_bind(const DistilTensor *const **tensors, const DistilSpec *spec,
					   const DistilTensorSet *set, DistilArena *arena, DistilError *err)
{
	const DistilParamTable *table = &spec->table;
	const DistilTensor **found = distil_arena_alloc(arena, (size_t) table->n * DISTIL_PARAM_MAX_SOURCES + 1,
													sizeof(*found));

	if (found == NULL)
		return distil_fail_memory(err, 0);
	for (int i = 0; i < table->n; i++)
	{
		const DistilParam *param = &table->params[i];

		for (int k = 0; k < param->nsources; k++)
		{
			/* an untied decoder is no word table */
			bool		exact = i == spec->word && !spec->config.tie_word_embeddings;
			const DistilTensor *tensor = exact
				? distil_checkpoint_find_exact(set, spec->config.arch, param->sources[k])
				: distil_checkpoint_find(set, spec->config.arch, param->sources[k]);
			char		shown[DISTIL_MAX_NAME + 1];

			if (tensor == NULL)
				return distil_fail(err, DISTIL_ERR_MODEL_FILE, "model has no tensor \"%s\"",
								   distil_printable(shown, sizeof(shown), param->sources[k],
													strlen(param->sources[k])));
			DISTIL_FORWARD(check_tensor(tensor, param, err));
			found[i * DISTIL_PARAM_MAX_SOURCES + k] = tensor;
		}
	}
	*tensors = found;
	return DISTIL_OK;
}
