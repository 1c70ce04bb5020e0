/*
 * test_import_image.c
 *		Folder -> container -> image -> model: round trips, and every way in which files and memory can fail.
 *
 * The folders are those of test/golden/models; DISTIL_TEST_MODEL may name one more (a real sentence model
 * such as all-MiniLM-L6-v2).
 */
#include "checkpoint.h"
#include "import_fixture.h"

/* ---------- round trips ---------- */

/* Each parameter of the model equals the stored tensors it is made of. */
static void
check_weights(const DistilModel *model, const DistilFolder *folder)
{
	DistilTensorSet *set;
	DistilError err;
	const DistilTensor *const *bound;
	float	   *values = malloc(1 << 20);
	float	   *stored = malloc(1 << 20);
	char	   *raw = malloc(1 << 20);

	CHECK(distil_checkpoint_open(&set, folder, distil_alloc_system(), &err) == DISTIL_OK);
	CHECK(distil_checkpoint_bind(&bound, &model->spec, set, model->arena, &err) == DISTIL_OK);
	for (int i = 0; i < model->spec.table.n; i++)
	{
		const DistilParam *param = &model->spec.table.params[i];
		size_t		at = 0;

		CHECK(param->offset % 16 == 0);
		for (int k = 0; k < param->nsources; k++)
		{
			const DistilTensor *tensor = bound[i * DISTIL_PARAM_MAX_SOURCES + k];

			CHECK(distil_tensor_read(tensor, 0, raw, (size_t) tensor->bytes, &err) == DISTIL_OK);
			distil_convert_to_float(values, raw, tensor->dtype, (size_t) tensor->count);
			distil_param_read(stored, model->weights, param, at, (size_t) tensor->count);
			CHECK_MSG(memcmp(stored, values, (size_t) tensor->count * sizeof(float)) == 0, "%s", param->name);
			at += (size_t) tensor->count;
		}
		CHECK(at == param->count);
	}
	distil_tensor_set_free(set);
	free(values);
	free(stored);
	free(raw);
}

static void
test_round_trip(const char *name)
{
	TestFolder	folder;
	TestBytes	container;
	TestBytes	again;
	TestBytes	image;
	DistilReader reader;
	DistilBundle *bundle;
	DistilModel *model;
	DistilError err;
	char		path[200];
	const uint8_t other[32] = {9};

	snprintf(path, sizeof(path), MODELS "%s", name);
	if (!test_folder_load(&folder, path))
		return;
	/* deterministic, and the exported folder imports to the same bytes */
	container = make_container(&folder.folder);
	again = make_container(&folder.folder);
	CHECK(container.length == again.length && memcmp(container.data, again.data, again.length) == 0);
	test_bytes_free(&again);
	reader = test_bytes_reader(&container);
	CHECK(distil_bundle_open(&bundle, &reader, distil_alloc_system(), &err) == DISTIL_OK);
	if (bundle != NULL)
	{
		again = make_container(distil_bundle_folder(bundle));
		CHECK(container.length == again.length && memcmp(container.data, again.data, again.length) == 0);
		test_bytes_free(&again);
	}
	distil_bundle_free(bundle);

	image = make_image(&container);
	CHECK(distil_image_verify(image.data, image.length, NULL, &err) == DISTIL_OK);
	CHECK(distil_model_open(&model, image.data, image.length, sha256, distil_alloc_system(),
							&err) == DISTIL_OK);
	if (model != NULL)
	{
		const DistilFile *config = NULL;

		check_weights(model, &folder.folder);
		for (int i = 0; i < model->nfiles; i++)
			if (strcmp(model->files[i].name, "config.json") == 0)
				config = &model->files[i];
		CHECK(config != NULL && strlen(distil_model_config(model)) == config->reader.size);
		CHECK(distil_tokenizer_vocabulary(distil_model_tokenizer(model)) == 277);
	}
	distil_model_free(model);
	CHECK(distil_model_open(&model, image.data, image.length, other, distil_alloc_system(), &err)
		  == DISTIL_ERR_CORRUPT && model == NULL);
	test_bytes_free(&image);
	test_bytes_free(&container);
	test_folder_free(&folder);
}

/* Any part of the exported files can be read, in any pieces. */
static void
test_bundle_reads(void)
{
	TestFolder	folder;
	TestBytes	container;
	DistilReader reader;
	DistilBundle *bundle;
	DistilError err;

	if (!test_folder_load(&folder, MODELS "bert-sentence"))
		return;
	container = make_container(&folder.folder);
	reader = test_bytes_reader(&container);
	CHECK(distil_bundle_open(&bundle, &reader, distil_alloc_system(), &err) == DISTIL_OK);
	for (int i = 0; bundle != NULL && i < distil_bundle_folder(bundle)->nfiles; i++)
	{
		const DistilFile *file = &distil_bundle_folder(bundle)->files[i];
		size_t		size = (size_t) file->reader.size;
		char	   *whole = malloc(size + 1);
		char	   *parts = malloc(size + 1);
		char		byte;
		const int	kept = test_folder_index(&folder, file->name);

		CHECK(file->reader.read(file->reader.ctx, 0, whole, size, &err) == DISTIL_OK);
		for (size_t at = 0; at < size; at += 61)
			CHECK(file->reader.read(file->reader.ctx, at, parts + at, size - at < 61 ? size - at : 61, &err)
				  == DISTIL_OK);
		CHECK(memcmp(whole, parts, size) == 0);
		CHECK(file->reader.read(file->reader.ctx, size, &byte, 1, &err) != DISTIL_OK);
		CHECK(kept >= 0);
		if (kept >= 0 && strstr(file->name, ".safetensors") == NULL)
			CHECK(folder.bytes[kept].length == size && memcmp(folder.bytes[kept].data, whole, size) == 0);
		free(whole);
		free(parts);
	}
	distil_bundle_free(bundle);
	test_bytes_free(&container);
	test_folder_free(&folder);
}

/* The last of the most layers a model may have is INT8 as the first is, also where all are one. */
static void
test_many_layers(void)
{
	static const char *const types[] = {"bert", "albert"};
	uint64_t	quantized[DISTIL_QUANTIZED_WORDS];

	memset(quantized, 0xFF, sizeof(quantized));
	for (int i = 0; i < 2; i++)
	{
		TestFolder	folder = {.folder = {NULL, 0}};
		DistilArena *arena = distil_arena_create(distil_alloc_system());
		DistilSpec	spec;
		DistilError err;
		char		text[512];

		folder.folder.files = folder.files;
		snprintf(text, sizeof(text),
				 "{\"model_type\": \"%s\", \"hidden_size\": 16, \"embedding_size\": 16, "
				 "\"num_attention_heads\": 1,"
				 " \"intermediate_size\": 16, \"vocab_size\": 8, \"num_hidden_layers\": %d}", types[i],
				 DISTIL_MAX_LAYERS);
		test_folder_set_text(&folder, C, text);
		CHECK_MSG(distil_spec_parse(&spec, &folder.folder, NULL, arena, &err) == DISTIL_OK, "%s",
				  err.message);
		CHECK(distil_spec_pack(&spec, DISTIL_LAYOUT_INT8P16, quantized));
		for (int layer = 0; layer < DISTIL_MAX_LAYERS; layer += DISTIL_MAX_LAYERS - 1)
		{
			int			weights[4];

			distil_layer_weights(weights, &spec.layer[layer]);
			for (int k = 0; k < 4; k++)
				CHECK(spec.table.params[weights[k]].type == DISTIL_TYPE_INT8);
		}
		distil_arena_free(arena);
		test_folder_free(&folder);
	}
}

/* ---------- damage ---------- */

static void
test_image_damage(void)
{
	TestFolder	folder;
	TestBytes	container;
	TestBytes	image;
	DistilModel *model;
	DistilError err;

	if (!test_folder_load(&folder, MODELS "bert-mlm"))
		return;
	container = make_container(&folder.folder);
	image = make_image(&container);
	/* every byte of the header matters; a model whose header is damaged does not open */
	for (size_t i = 0; i < sizeof(DistilImageHeader); i++)
	{
		image.data[i] ^= 0x10;
		CHECK_MSG(distil_model_open(&model, image.data, image.length, NULL, distil_alloc_system(), &err)
				  == DISTIL_ERR_CORRUPT, "byte %zu", i);
		image.data[i] ^= 0x10;
	}
	/* verify finds a changed bit anywhere */
	for (size_t i = 256; i < image.length - 56; i += 997)
	{
		image.data[i] ^= 1;
		CHECK_MSG(distil_image_verify(image.data, image.length, NULL, &err) == DISTIL_ERR_CORRUPT,
				  "byte %zu", i);
		image.data[i] ^= 1;
	}
	/* cut at every 64 bytes, and everywhere in the header */
	for (size_t n = 0; n < image.length; n += n < 300 ? 1 : 64)
		CHECK(distil_model_open(&model, image.data, n, NULL, distil_alloc_system(),
								&err) == DISTIL_ERR_CORRUPT);
	CHECK(distil_model_open(&model, image.data + 8, image.length - 8, NULL, distil_alloc_system(), &err)
		  == DISTIL_ERR_ARGUMENT);
	CHECK(distil_model_open(&model, image.data, image.length, NULL, distil_alloc_system(),
							&err) == DISTIL_OK);
	distil_model_free(model);
	test_bytes_free(&image);
	test_bytes_free(&container);
	test_folder_free(&folder);
}

/* A container cut anywhere, and folders whose files are cut anywhere. */
static void
test_truncated(void)
{
	TestFolder	folder;
	TestBytes	container;
	DistilError err;
	static const char *const files[] = {C, MODULES, POOLING, DENSE, PROMPTS, SENTENCE,
										"tokenizer_config.json"};

	if (!test_folder_load(&folder, MODELS "bert-sentence"))
		return;
	container = make_container(&folder.folder);
	for (size_t n = 0; n < container.length; n += n < 100 ? 1 : 331)
	{
		TestBytes	cut = {container.data, n, n};
		DistilReader reader = test_bytes_reader(&cut);
		DistilBundle *bundle;

		CHECK(distil_bundle_open(&bundle, &reader, distil_alloc_system(), &err) == DISTIL_ERR_MODEL_FILE);
		distil_bundle_free(bundle);
	}
	test_bytes_free(&container);
	for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++)
	{
		int			i = test_folder_index(&folder, files[f]);
		uint64_t	size = folder.files[i].reader.size;

		/* without its last white space a JSON text is whole: stop at the bracket */
		while (size > 0 && folder.bytes[i].data[size - 1] <= ' ')
			size--;
		for (uint64_t n = 0; n < size; n++)
		{
			folder.files[i].reader.size = folder.bytes[i].length = (size_t) n;
			CHECK_MSG(import_status(&folder, &err) == DISTIL_ERR_TEXT_FILE, "%s at %d: %s", files[f],
					  (int) n,
					  err.message);
		}
		folder.files[i].reader.size = folder.bytes[i].length = (size_t) size;
	}
	CHECK(import_status(&folder, &err) == DISTIL_OK);
	test_folder_free(&folder);
}

/* ---------- cancelling and failing readers, sinks and memory ---------- */

static bool
stop_after(void *ctx)
{
	return --*(int *) ctx < 0;
}

static void
test_cancel(void)
{
	TestFolder	folder;
	DistilError err;
	int			polls;

	if (!test_folder_load(&folder, MODELS "bert-mlm"))
		return;
	for (polls = 0; polls < 10000; polls++)
	{
		int			left = polls;
		DistilPoll	poll = {stop_after, &left};
		DistilImport *import;
		DistilStatus status = distil_import_open(&import, &folder.folder, &options, distil_alloc_system(),
												 &poll,
												 &err);

		distil_import_free(import);
		if (status == DISTIL_OK)
			break;
		CHECK(status == DISTIL_ERR_CANCELLED);
	}
	CHECK(polls > 10 && polls < 10000);
	test_folder_free(&folder);
}

static int	reads_left;

static DistilStatus
failing_read(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	if (reads_left-- <= 0)
		return distil_fail(err, DISTIL_ERR_IO, "test: read failed");
	return test_bytes_read(ctx, offset, buffer, bytes, err);
}

static void
test_read_errors(void)
{
	TestFolder	folder;
	DistilError err;
	int			n;

	if (!test_folder_load(&folder, MODELS "bert-f16-sharded"))
		return;
	for (int i = 0; i < folder.folder.nfiles; i++)
		folder.files[i].reader.read = failing_read;
	for (n = 0; n < 10000; n++)
	{
		reads_left = n;
		if (import_status(&folder, &err) == DISTIL_OK)
			break;
		CHECK(strcmp(err.message, "test: read failed") == 0);
	}
	CHECK(n > 10 && n < 10000);
	test_folder_free(&folder);
}

/* Import, image, model, bundle with one allocator. */
static DistilStatus
whole_life(const DistilFolder *folder, const DistilAllocator *alloc, DistilError *err)
{
	TestBytes	container = {0};
	TestBytes	image = {0};
	DistilSink	sink = {test_bytes_write, &container};
	DistilSink	image_sink = {test_bytes_write, &image};
	DistilReader reader;
	DistilImport *import;
	DistilModel *model = NULL;
	DistilBundle *bundle = NULL;
	DistilStatus status = distil_import_open(&import, folder, &options, alloc, NULL, err);

	if (status == DISTIL_OK)
		status = distil_import_write(import, &sink, err);
	distil_import_free(import);
	reader = test_bytes_reader(&container);
	if (status == DISTIL_OK)
		status = distil_image_write(DISTIL_LAYOUT_F32P16, &reader, sha256, &image_sink, alloc, NULL, err);
	if (status == DISTIL_OK)
		status = distil_model_open(&model, image.data, image.length, sha256, alloc, err);
	if (status == DISTIL_OK)
		status = distil_bundle_open(&bundle, &reader, alloc, err);
	distil_bundle_free(bundle);
	distil_model_free(model);
	test_bytes_free(&image);
	test_bytes_free(&container);
	return status;
}

/* A vocabulary of a few words: each run compiles it anew. */
static void
shrink_tokenizer(TestFolder *folder)
{
	if (test_folder_index(folder, "tokenizer.json") >= 0)
		test_folder_remove(folder, "tokenizer.json");
	test_folder_set_text(folder, "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n");
}

static void
test_memory(void)
{
	TestFolder	folder;
	TestAllocator test;
	DistilError err;
	long		n;
	long		requests;

	if (!test_folder_load(&folder, MODELS "bert-sentence"))
		return;
	shrink_tokenizer(&folder);
	test_allocator_init(&test, 0);
	CHECK(whole_life(&folder.folder, &test.alloc, &err) == DISTIL_OK && test.live == 0);
	requests = test.requests;
	for (n = 1; n <= requests; n++)
	{
		DistilStatus status;

		test_allocator_init(&test, n);
		status = whole_life(&folder.folder, &test.alloc, &err);
		CHECK_MSG(status == DISTIL_ERR_MEMORY, "request %ld of %ld: %d %s", n, requests, (int) status,
				  err.message);
		CHECK_MSG(test.live == 0, "request %ld of %ld: %ld left", n, requests, test.live);
	}
	test_folder_free(&folder);
}

/* all-MiniLM-L6-v2, when it is there: the facts everyone knows. */
static void
test_real_model(void)
{
	const char *path = getenv("DISTIL_TEST_MODEL");
	DistilFolder *folder;
	DistilImport *import;
	DistilError err;
	TestBytes	container;
	TestBytes	image;
	DistilModel *model;

	if (path == NULL)
	{
		printf("import: real model skipped, DISTIL_TEST_MODEL is not set\n");
		return;
	}
	CHECK_MSG(distil_folder_open_disk(&folder, path, distil_alloc_system(), &err) == DISTIL_OK, "%s",
			  err.message);
	if (folder == NULL)
		return;
	CHECK_MSG(distil_import_open(&import, folder, &options, distil_alloc_system(), NULL, &err) == DISTIL_OK,
			  "%s %s", err.message, err.detail);
	if (import != NULL && strstr(path, "minilm") != NULL)
	{
		const DistilModelInfo *info = distil_import_info(import);

		CHECK(info->parameters == 22713216 && info->layers == 6 && info->dimensions == 384);
		CHECK(info->max_tokens == 256 && info->vocabulary == 30522 && info->sentence_model &&
			  !info->has_lm_head);
	}
	distil_import_free(import);
	container = make_container(folder);
	image = make_image(&container);
	CHECK(distil_image_verify(image.data, image.length, NULL, &err) == DISTIL_OK);
	CHECK(distil_model_open(&model, image.data, image.length, sha256, distil_alloc_system(),
							&err) == DISTIL_OK);
	distil_model_free(model);
	test_bytes_free(&image);
	test_bytes_free(&container);
	distil_folder_close_disk(folder, distil_alloc_system());
}

int
main(void)
{
	static const char *const all[] = {
		"bert-mlm", "bert-old", "bert-f16-sharded", "bert-bf16", "distilbert-mlm", "bert-sentence"
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		test_round_trip(all[i]);
	test_bundle_reads();
	test_many_layers();
	test_image_damage();
	test_truncated();
	test_cancel();
	test_read_errors();
	test_memory();
	test_real_model();
	return check_report("import_image");
}
