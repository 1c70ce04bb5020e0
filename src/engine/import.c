/*
 * import.c
 *		Check a model folder completely, then stream it as a container.
 *
 * The rule a newcomer would break: everything that could make a model unusable later
 * (a missing tensor, a token id beyond the word table, one NaN) is found in
 * distil_import_open, before a byte has been stored.
 */
#include "checkpoint.h"
#include "config.h"
#include "container.h"
#include "folder.h"
#include "status.h"
#include "tokenizer.h"

#include <stdio.h>
#include <string.h>

/* One read, between two polls. */
#define PIECE ((size_t) 1 << 20)

struct DistilImport
{
	DistilSpec	spec;
	DistilTensorSet *set;
	const DistilFolder *folder;
	DistilImportOptions options;
	DistilPoll	poll;
	DistilArena *arena;
	const DistilAllocator *alloc;
	char	   *config_text;
	const DistilTensor **order; /* of the container: model tensors, then files */
	int			n;
	DistilBuffer header;
	uint64_t	size;
	char	   *piece;			/* PIECE bytes */
};

/* ---------- options ---------- */

static DistilStatus
read_options(DistilImportOptions *options, const DistilJsonDoc *doc, DistilError *err)
{
	const DistilJson *root = distil_json_root(doc);
	const void *at = NULL;
	const char *key;
	const DistilJson *value;
	char		shown[80];

	if (distil_json_type(root) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "import options must be a JSON object");
	while ((at = distil_json_next(root, at, &key, NULL, &value)) != NULL)
	{
		if (strcmp(key, "parse_special") != 0)
		{
			distil_fail(err, DISTIL_ERR_ARGUMENT, "unknown import option \"%s\"",
						distil_printable(shown, sizeof(shown), key, strlen(key)));
			return distil_fail_hint(err, DISTIL_ERR_ARGUMENT, "Known options: parse_special.");
		}
		if (distil_json_type(value) != DISTIL_JSON_BOOL)
			return distil_fail(err, DISTIL_ERR_ARGUMENT,
							   "import option \"parse_special\" must be true or false");
		options->parse_special = distil_json_bool(value);
	}
	return DISTIL_OK;
}

DistilStatus
distil_import_options_parse(DistilImportOptions *options, const char *json, size_t length,
							const DistilAllocator *alloc, DistilError *err)
{
	DistilJsonDoc *doc;
	DistilStatus status;

	options->parse_special = true;
	status = distil_json_parse_value(&doc, json, length, "the import options", alloc, err);
	if (status != DISTIL_OK)
		return status == DISTIL_ERR_TEXT_FILE ? DISTIL_ERR_ARGUMENT : status;
	status = read_options(options, doc, err);
	distil_json_free(doc);
	return status;
}

/* ---------- checks ---------- */

/*
 * GPT-2 would add rows of the word table by segment ids; elsewhere passes over single texts take theirs to
 * be 0.
 */
static DistilStatus
check_types(const DistilImport *import, const DistilTokenizer *tokenizer, DistilError *err)
{
	int32_t		type = distil_tokenizer_single_type(tokenizer);

	if (import->spec.config.causal && type >= 0)
		distil_fail(err, DISTIL_ERR_UNSUPPORTED,
					"token_type_ids of the tokenizer are not supported in a causal model");
	else if (import->spec.config.types > 0 && type > 0)
		distil_fail(err, DISTIL_ERR_UNSUPPORTED,
					"type_id %d of the tokenizer in a single text is not supported", (int) type);
	else
		return DISTIL_OK;
	return distil_fail_hint(err, DISTIL_ERR_UNSUPPORTED,
							"With \"model_input_names\": [\"input_ids\", \"attention_mask\"] in "
							"tokenizer_config.json the model is given no token_type_ids.");
}

/* The tokenizer must compile, open again, and give the model nothing that it has no row for. */
static DistilStatus
check_tokenizer(DistilImport *import, DistilError *err)
{
	DistilBuffer blob;
	DistilTokenizer *tokenizer = NULL;
	DistilStatus status;
	int			vocabulary;

	distil_buffer_init(&blob, import->alloc);
	status = distil_tokenizer_compile(&blob, import->folder, import->options.parse_special,
									  import->spec.pipeline.lower_case, import->spec.config.vocabulary,
									  import->alloc, &import->poll, err);
	if (status == DISTIL_OK)
		status = distil_tokenizer_open(&tokenizer, blob.data, blob.length, import->alloc, err);
	if (status == DISTIL_OK)
	{
		vocabulary = distil_tokenizer_vocabulary(tokenizer);
		if (vocabulary > import->spec.config.vocabulary)
		{
			distil_fail(err, DISTIL_ERR_MODEL_FILE, "the tokenizer has more tokens than the model");
			status = distil_fail_detail(err, DISTIL_ERR_MODEL_FILE,
										"The tokenizer has %d, \"vocab_size\" of file \"config.json\" is %d.",
										vocabulary, import->spec.config.vocabulary);
		}
	}
	if (status == DISTIL_OK)
		status = check_types(import, tokenizer, err);
	distil_tokenizer_free(tokenizer);
	distil_buffer_free(&blob);
	return status;
}

static DistilStatus
check_finite(DistilImport *import, const DistilTensor *tensor, DistilError *err)
{
	uint64_t	bad = 0;

	for (uint64_t at = 0; at < tensor->bytes; at += PIECE)
	{
		size_t		bytes = tensor->bytes - at < PIECE ? (size_t) (tensor->bytes - at) : PIECE;

		DISTIL_POLL(&import->poll, err);
		DISTIL_FORWARD(distil_tensor_read(tensor, at, import->piece, bytes, err));
		bad += distil_count_nonfinite(import->piece, tensor->dtype,
									  bytes / distil_dtype_size(tensor->dtype));
	}
	if (bad > 0)
	{
		char		shown[DISTIL_MAX_NAME + 1];

		distil_fail(err, DISTIL_ERR_MODEL_FILE, "tensor \"%s\" has values that are not finite",
					distil_printable(shown, sizeof(shown), tensor->name, strlen(tensor->name)));
		return distil_fail_detail(err, DISTIL_ERR_MODEL_FILE,
								  "%llu of its %llu values are NaN or infinite.",
								  (unsigned long long) bad, (unsigned long long) tensor->count);
	}
	return DISTIL_OK;
}

/* Two tensors that the configuration ties must be the same. */
static DistilStatus
check_tied(DistilImport *import, const DistilTensor *a, const DistilTensor *b, DistilError *err)
{
	size_t		half = PIECE / 2;
	bool		same = a->dtype == b->dtype && a->bytes == b->bytes;
	char		shown[2][120];

	for (uint64_t at = 0; same && at < a->bytes; at += half)
	{
		size_t		bytes = a->bytes - at < half ? (size_t) (a->bytes - at) : half;

		DISTIL_POLL(&import->poll, err);
		DISTIL_FORWARD(distil_tensor_read(a, at, import->piece, bytes, err));
		DISTIL_FORWARD(distil_tensor_read(b, at, import->piece + half, bytes, err));
		same = memcmp(import->piece, import->piece + half, bytes) == 0;
	}
	if (same)
		return DISTIL_OK;
	distil_printable(shown[0], sizeof(shown[0]), a->name, strlen(a->name));
	distil_printable(shown[1], sizeof(shown[1]), b->name, strlen(b->name));
	distil_fail(err, DISTIL_ERR_MODEL_FILE, "tensors \"%s\" and \"%s\" are tied and differ", shown[0],
				shown[1]);
	return distil_fail_hint(err, DISTIL_ERR_MODEL_FILE,
							"If the model was trained with an output layer of its own, "
							"set \"tie_word_embeddings\" to false in file \"config.json\".");
}

static DistilStatus
check_weights(DistilImport *import, DistilError *err)
{
	const DistilTensorSet *set = import->set;
	const DistilConfig *config = &import->spec.config;
	const DistilTensor *const *bound;

	DISTIL_FORWARD(distil_checkpoint_bind(&bound, &import->spec, set, import->arena, err));
	for (int i = 0; i < set->n; i++)
		if (distil_dtype_is_weight(set->tensors[i].dtype))
			DISTIL_FORWARD(check_finite(import, &set->tensors[i], err));
	for (const struct DistilAlias *alias = config->arch->aliases; alias != NULL &&
		 alias->source != NULL; alias++)
	{
		const DistilTensor *a = distil_checkpoint_find_exact(set, config->arch, alias->source);
		const DistilTensor *b = distil_checkpoint_find_exact(set, config->arch, alias->other);

		if (a != NULL && b != NULL && !alias->first && import->spec.has_lm && config->tie_word_embeddings)
			DISTIL_FORWARD(check_tied(import, a, b, err));
	}
	return DISTIL_OK;
}

/* ---------- layout of the container ---------- */

/* A small file as a U8 tensor of the container. */
static DistilStatus
file_tensor(DistilImport *import, DistilTensor *tensor, const DistilFile *file, DistilError *err)
{
	char		shown[120];

	if (file->reader.size > DISTIL_MAX_JSON_BYTES)
	{
		distil_fail(err, DISTIL_ERR_LIMIT, "model file \"%s\" is too large",
					distil_printable(shown, sizeof(shown), file->name, strlen(file->name)));
		return distil_fail_detail(err, DISTIL_ERR_LIMIT, "It has %llu bytes; the limit is %zu.",
								  (unsigned long long) file->reader.size, DISTIL_MAX_JSON_BYTES);
	}
	tensor->name = distil_arena_printf(import->arena, DISTIL_FILE_PREFIX "%s", file->name);
	if (tensor->name == NULL)
		return distil_fail_memory(err, strlen(file->name));
	tensor->dtype = DISTIL_DTYPE_U8;
	tensor->rank = 1;
	tensor->shape[0] = (int64_t) file->reader.size;
	tensor->count = tensor->bytes = file->reader.size;
	tensor->reader = &file->reader;
	return DISTIL_OK;
}

static DistilStatus
lay_out(DistilImport *import, DistilError *err)
{
	const DistilTensorSet *set = import->set;
	const DistilFolder *folder = import->folder;
	DistilTensor *files = distil_arena_alloc(import->arena, (size_t) folder->nfiles + 1, sizeof(*files));
	int			nfiles = 0;
	const char *metadata;

	import->order = distil_arena_alloc(import->arena, (size_t) set->n + (size_t) folder->nfiles + 1,
									   sizeof(*import->order));
	if (files == NULL || import->order == NULL)
		return distil_fail_memory(err, 0);
	for (int i = 0; i < set->n; i++)
	{
		if (distil_container_is_file(&set->tensors[i]))
			return distil_fail(err, DISTIL_ERR_MODEL_FILE,
							   "a tensor's name begins with \"" DISTIL_FILE_PREFIX "\"");
		import->order[import->n++] = &set->tensors[i];
	}
	for (int i = 0; i < folder->nfiles; i++)
		if (distil_container_keeps(&folder->files[i]))
		{
			DISTIL_FORWARD(file_tensor(import, &files[nfiles], &folder->files[i], err));
			import->order[import->n++] = &files[nfiles++];
		}
	distil_container_sort(import->order, import->n);
	metadata = import->options.parse_special
		? "{\"distil.container\":\"1\",\"distil.parse_special\":\"true\"}"
		: "{\"distil.container\":\"1\",\"distil.parse_special\":\"false\"}";
	DISTIL_FORWARD(distil_safetensors_header(&import->header, import->order, import->n, 0, metadata, err));
	import->size = import->header.length;
	for (int i = 0; i < import->n; i++)
		import->size += import->order[i]->bytes;
	return DISTIL_OK;
}

/* ---------- the import ---------- */

static DistilStatus
check_folder(const DistilFolder *folder, DistilError *err)
{
	if (folder->nfiles > DISTIL_MAX_FILES)
		return distil_fail(err, DISTIL_ERR_LIMIT, "folder has more than %d files", DISTIL_MAX_FILES);
	for (int i = 0; i < folder->nfiles; i++)
	{
		const char *name = folder->files[i].name;
		char		shown[80];

		distil_printable(shown, sizeof(shown), name, strlen(name));
		if (name[0] == '\0' || strlen(name) > DISTIL_MAX_NAME - strlen(DISTIL_FILE_PREFIX))
			return distil_fail(err, DISTIL_ERR_LIMIT, "file name \"%s\" is empty or too long, the limit "
							   "is %zu bytes", shown, DISTIL_MAX_NAME - strlen(DISTIL_FILE_PREFIX));
		if (distil_folder_find(folder, name) != &folder->files[i])
			return distil_fail(err, DISTIL_ERR_ARGUMENT, "file \"%s\" is given twice", shown);
	}
	return DISTIL_OK;
}

static DistilStatus
open_import(DistilImport *import, DistilError *err)
{
	DistilSpecFacts facts;
	size_t		length;

	import->arena = distil_arena_create(import->alloc);
	import->piece = distil_alloc_array(import->alloc, PIECE, 1);
	if (import->arena == NULL || import->piece == NULL)
		return distil_fail_memory(err, PIECE);
	DISTIL_FORWARD(check_folder(import->folder, err));
	DISTIL_FORWARD(distil_folder_read(import->folder, "config.json", DISTIL_MAX_JSON_BYTES,
									  &import->config_text, &length, import->alloc, err));
	/* first by the configuration alone: an unknown model type is a better message than its tensors */
	DISTIL_FORWARD(distil_spec_facts(&facts, import->folder, NULL, import->alloc, err));
	DISTIL_FORWARD(distil_checkpoint_open(&import->set, import->folder, import->alloc, err));
	DISTIL_FORWARD(distil_spec_facts(&facts, import->folder, import->set, import->alloc, err));
	DISTIL_FORWARD(distil_spec_build(&import->spec, import->folder, &facts, import->arena, import->alloc,
									 err));
	DISTIL_FORWARD(check_tokenizer(import, err));
	DISTIL_FORWARD(check_weights(import, err));
	return lay_out(import, err);
}

DistilStatus
distil_import_open(DistilImport **import, const DistilFolder *folder, const DistilImportOptions *options,
				   const DistilAllocator *alloc, const DistilPoll *poll, DistilError *err)
{
	DistilImport *made = distil_alloc_array(alloc, 1, sizeof(DistilImport));
	DistilStatus status;

	*import = NULL;
	if (made == NULL)
		return distil_fail_memory(err, sizeof(DistilImport));
	made->alloc = alloc;
	made->folder = folder;
	made->options = *options;
	if (poll != NULL)
		made->poll = *poll;
	distil_buffer_init(&made->header, alloc);
	status = open_import(made, err);
	if (status != DISTIL_OK)
	{
		distil_import_free(made);
		return status;
	}
	*import = made;
	return DISTIL_OK;
}

const DistilModelInfo *
distil_import_info(const DistilImport *import)
{
	return &import->spec.info;
}

const char *
distil_import_config(const DistilImport *import)
{
	return import->config_text;
}

uint64_t
distil_import_size(const DistilImport *import)
{
	return import->size;
}

DistilStatus
distil_import_write(DistilImport *import, const DistilSink *sink, DistilError *err)
{
	for (size_t at = 0; at < import->header.length; at += PIECE)
	{
		size_t		rest = import->header.length - at;

		DISTIL_POLL(&import->poll, err);
		DISTIL_FORWARD(sink->write(sink->ctx, import->header.data + at, rest < PIECE ? rest : PIECE, err));
	}
	for (int i = 0; i < import->n; i++)
	{
		const DistilTensor *tensor = import->order[i];

		for (uint64_t at = 0; at < tensor->bytes; at += PIECE)
		{
			size_t		bytes = tensor->bytes - at < PIECE ? (size_t) (tensor->bytes - at) : PIECE;

			DISTIL_POLL(&import->poll, err);
			DISTIL_FORWARD(distil_tensor_read(tensor, at, import->piece, bytes, err));
			DISTIL_FORWARD(sink->write(sink->ctx, import->piece, bytes, err));
		}
	}
	return DISTIL_OK;
}

void
distil_import_free(DistilImport *import)
{
	if (import == NULL)
		return;
	distil_tensor_set_free(import->set);
	distil_arena_free(import->arena);
	distil_buffer_free(&import->header);
	distil_release(import->alloc, import->config_text);
	distil_release(import->alloc, import->piece);
	distil_release(import->alloc, import);
}
