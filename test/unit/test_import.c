/*
 * test_import.c
 *		Folder -> container -> image -> model: facts, refusals by name, round trips, and
 *		every way in which files and memory can fail.
 *
 * The folders are those of test/golden/models; DISTIL_TEST_MODEL may name one more (a
 * real sentence model such as all-MiniLM-L6-v2).
 */
#include "checkpoint.h"
#include "image.h"
#include "model.h"
#include "status.h"
#include "test_folder.h"

#define MODELS "test/golden/models/"

static const DistilImportOptions options = {true};
static const uint8_t sha256[32] = {1, 2, 3, 4};

static DistilStatus
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
static TestBytes
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

static TestBytes
make_image(TestBytes *container)
{
	TestBytes	image = {0};
	DistilSink	sink = {test_bytes_write, &image};
	DistilReader reader = test_bytes_reader(container);
	DistilError err;
	DistilStatus status = distil_image_write(DISTIL_LAYOUT_F32P16, &reader, sha256, &sink, distil_alloc_system(), NULL, &err);

	CHECK_MSG(status == DISTIL_OK, "%s %s", err.message, err.detail);
	return image;
}

/* ---------- facts ---------- */

static void
test_facts(void)
{
	static const struct
	{
		const char *name;
		const char *architecture;
		int64_t		parameters;	/* of the library: sum of model.parameters(), tied ones once */
		int			layers;
		int			dimensions;
		const char *dtype;
		bool		lm;
		bool		sentence;
		const char *last_task;
	}			models[] = {
		{"bert-mlm", "bert", 29525, 2, 32, "float32", true, false, "fill-mask"},
		{"bert-old", "bert", 29525, 2, 32, "float32", true, false, "fill-mask"},
		{"bert-f16-sharded", "bert", 29525, 2, 32, "float16", true, false, "fill-mask"},
		{"bert-bf16", "bert", 28128, 2, 32, "bfloat16", false, false, "feature-extraction"},
		{"distilbert-mlm", "distilbert", 38005, 3, 32, "float32", true, false, "fill-mask"},
		{"bert-sentence", "bert", 29976, 2, 24, "float32", false, true, "sentence-similarity"}
	};

	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++)
	{
		TestFolder	folder;
		DistilImport *import;
		DistilError err;
		char		path[200];

		snprintf(path, sizeof(path), MODELS "%s", models[i].name);
		if (!test_folder_load(&folder, path))
			continue;
		CHECK_MSG(distil_import_open(&import, &folder.folder, &options, distil_alloc_system(), NULL,
									 &err) == DISTIL_OK,
				  "%s: %s %s", models[i].name, err.message, err.detail);
		if (import != NULL)
		{
			const DistilModelInfo *info = distil_import_info(import);

			CHECK(strcmp(info->architecture, models[i].architecture) == 0);
			CHECK_MSG(info->parameters == models[i].parameters, "%s: %lld", models[i].name,
					  (long long) info->parameters);
			CHECK(info->layers == models[i].layers && info->width == 32 && info->vocabulary == 277);
			CHECK(info->dimensions == models[i].dimensions && info->max_tokens == 64);
			CHECK(strcmp(info->dtype, models[i].dtype) == 0);
			CHECK(info->has_lm_head == models[i].lm && info->nheads == (models[i].lm ? 1 : 0));
			CHECK(info->sentence_model == models[i].sentence);
			CHECK(strcmp(info->tasks[0], "feature-extraction") == 0);
			CHECK(strcmp(info->tasks[info->ntasks - 1], models[i].last_task) == 0);
			CHECK(strstr(distil_import_config(import), "\"vocab_size\": 277") != NULL);
		}
		distil_import_free(import);
		test_folder_free(&folder);
	}
}

static void
test_pipeline(void)
{
	TestFolder	folder;
	TestBytes	container;
	TestBytes	image;
	DistilModel *model;
	DistilError err;

	if (!test_folder_load(&folder, MODELS "bert-sentence"))
		return;
	container = make_container(&folder.folder);
	image = make_image(&container);
	CHECK(distil_model_open(&model, image.data, image.length, sha256, distil_alloc_system(),
							&err) == DISTIL_OK);
	if (model != NULL)
	{
		const DistilPipeline *pipeline = &model->spec.pipeline;

		CHECK(pipeline->npoolings == 1 && pipeline->pooling[0] == DISTIL_POOL_MEAN &&
			  pipeline->include_prompt);
		CHECK(pipeline->ndense == 1 && pipeline->dense[0].in == 32 && pipeline->dense[0].out == 24);
		CHECK(pipeline->dense[0].activation == DISTIL_ACT_TANH && pipeline->dense[0].bias >= 0);
		CHECK(pipeline->normalize && !pipeline->lower_case && pipeline->default_prompt == -1);
		CHECK(pipeline->nprompts == 3 && strcmp(pipeline->prompt_names[2], "query") == 0);
		CHECK(strcmp(pipeline->prompts[2], "query: ") == 0 && pipeline->prompts[0][0] == '\0');
		CHECK(model->spec.info.nprompts == 3);
	}
	distil_model_free(model);
	test_bytes_free(&image);
	test_bytes_free(&container);
	test_folder_free(&folder);
}

/* ---------- what the configuration may and may not say ---------- */

typedef struct ConfigCase
{
	const char *file;
	const char *from;
	const char *to;
	DistilStatus status;
	const char *message;		/* part of the message or detail */
} ConfigCase;

static void
run_cases(const char *model, const ConfigCase *cases, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		TestFolder	folder;
		DistilError err = {"", "", ""};
		DistilStatus status;
		char		path[200];

		snprintf(path, sizeof(path), MODELS "%s", model);
		if (!test_folder_load(&folder, path))
			return;
		test_folder_replace(&folder, cases[i].file, cases[i].from, cases[i].to);
		status = import_status(&folder, &err);
		CHECK_MSG(status == cases[i].status, "%s: %d %s (%s)", cases[i].to, (int) status, err.message,
				  err.detail);
		CHECK_MSG(cases[i].message == NULL || strstr(err.message, cases[i].message) != NULL ||
				  strstr(err.detail, cases[i].message) != NULL, "%s: %s (%s)", cases[i].to, err.message,
					  err.detail);
		test_folder_free(&folder);
	}
}

#define RUN_CASES(model, cases) run_cases(model, cases, sizeof(cases) / sizeof((cases)[0]))

static void
test_config(void)
{
#define C "config.json"
#define TYPE "\"model_type\": \"bert\","
	static const ConfigCase cases[] = {
		{C, TYPE, "\"model_type\": \"llama\",", DISTIL_ERR_UNSUPPORTED, "\"llama\""},
		{C, TYPE, "\"model_type\": \"llama\",", DISTIL_ERR_UNSUPPORTED, "bert, distilbert"},
		{C, TYPE, "", DISTIL_ERR_TEXT_FILE, "model_type"},
		{C, TYPE, "\"model_type\": 7,", DISTIL_ERR_TEXT_FILE, "model_type"},
		{C, TYPE, TYPE "\"is_decoder2\": true,", DISTIL_OK, NULL},
		{C, "\"is_decoder\": false", "\"is_decoder\": true", DISTIL_ERR_UNSUPPORTED, "is_decoder"},
		{C, "\"add_cross_attention\": false", "\"add_cross_attention\": true", DISTIL_ERR_UNSUPPORTED,
		 "cross"},
		{C, TYPE, TYPE "\"is_encoder_decoder\": true,", DISTIL_ERR_UNSUPPORTED, "is_encoder_decoder"},
		{C, TYPE, TYPE "\"position_embedding_type\": \"absolute\",", DISTIL_OK, NULL},
		{C, TYPE, TYPE "\"position_embedding_type\": \"relative_key\",", DISTIL_ERR_UNSUPPORTED,
		 "relative_key"},
		{C, TYPE, TYPE "\"position_embedding_type\": \"alibi\",", DISTIL_ERR_UNSUPPORTED, "alibi"},
		{C, TYPE, TYPE "\"pruned_heads\": {},", DISTIL_OK, NULL},
		{C, TYPE, TYPE "\"pruned_heads\": {\"0\": [1]},", DISTIL_ERR_UNSUPPORTED, "pruned_heads"},
		{C, TYPE, TYPE "\"quantization_config\": {\"bits\": 4},", DISTIL_ERR_UNSUPPORTED,
		 "quantization_config"},
		{C, TYPE, TYPE "\"auto_map\": {\"AutoModel\": \"m.M\"},", DISTIL_ERR_UNSUPPORTED, "auto_map"},
		{C, TYPE, TYPE "\"chunk_size_feed_forward\": 3,", DISTIL_OK, NULL},
		{C, "\"gelu\"", "\"gelu_new\"", DISTIL_OK, NULL},
		{C, "\"gelu\"", "\"relu\"", DISTIL_OK, NULL},
		{C, "\"gelu\"", "\"mish\"", DISTIL_ERR_UNSUPPORTED, "\"mish\""},
		{C, "\"hidden_size\": 32", "\"hidden_size\": 33", DISTIL_ERR_TEXT_FILE, "not a multiple"},
		{C, "\"hidden_size\": 32", "\"hidden_size\": 64", DISTIL_ERR_MODEL_FILE, "expected is [277, 64]"},
		{C, "\"hidden_size\": 32", "\"hidden_size\": 0", DISTIL_ERR_TEXT_FILE, "hidden_size"},
		{C, "\"hidden_size\": 32", "\"hidden_size\": -32", DISTIL_ERR_TEXT_FILE, "hidden_size"},
		{C, "\"hidden_size\": 32", "\"hidden_size\": 16385", DISTIL_ERR_LIMIT, "16384"},
		{C, "\"hidden_size\": 32", "\"hidden_size\": \"32\"", DISTIL_ERR_TEXT_FILE, "hidden_size"},
		{C, "\"hidden_size\": 32", "\"hidden_size\": 1e30", DISTIL_ERR_TEXT_FILE, "hidden_size"},
		{C, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", DISTIL_ERR_MODEL_FILE,
		 "encoder.layer.2."},
		{C, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 257", DISTIL_ERR_LIMIT,
		 "num_hidden_layers"},
		{C, "\"num_attention_heads\": 4", "\"num_attention_heads\": 5", DISTIL_ERR_TEXT_FILE, "multiple"},
		{C, "\"vocab_size\": 277", "\"vocab_size\": 276", DISTIL_ERR_MODEL_FILE, "277"},
		{C, "\"vocab_size\": 277", "\"vocab_size\": 4000001", DISTIL_ERR_LIMIT, "vocab_size"},
		{C, "\"max_position_embeddings\": 64", "\"max_position_embeddings\": 32", DISTIL_ERR_MODEL_FILE,
		 "[64, 32]"},
		{C, "\"max_position_embeddings\": 64", "\"max_position_embeddings\": 65537", DISTIL_ERR_LIMIT,
		 "65537"},
		{C, "\"type_vocab_size\": 2", "\"type_vocab_size\": 3", DISTIL_ERR_MODEL_FILE, "token_type"},
		{C, "\"layer_norm_eps\": 1e-12", "\"layer_norm_eps\": -1", DISTIL_ERR_TEXT_FILE, "layer_norm_eps"},
		{C, "\"BertForMaskedLM\"", "\"BertModel\"", DISTIL_OK, NULL},
		{C, "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", DISTIL_ERR_MODEL_FILE,
			"cls.predictions.decoder.weight"},
		{C, "{", "[{", DISTIL_ERR_TEXT_FILE, "not valid JSON"},
		{C, TYPE, TYPE TYPE, DISTIL_ERR_TEXT_FILE, "duplicate"},
		{C, TYPE, TYPE "\"id2label\": {\"0\": \"a\", \"1\": \"b\"},", DISTIL_OK, NULL},
		{C, TYPE, TYPE "\"id2label\": {\"0\": \"a\", \"2\": \"b\"},", DISTIL_ERR_TEXT_FILE, "id2label"},
		{C, TYPE, TYPE "\"id2label\": [],", DISTIL_ERR_TEXT_FILE, "id2label"}
	};

	RUN_CASES("bert-mlm", cases);
}

static void
test_pipeline_config(void)
{
#define MODULES "modules.json"
#define POOLING "1_Pooling/config.json"
#define DENSE "2_Dense/config.json"
#define SENTENCE "sentence_bert_config.json"
#define PROMPTS "config_sentence_transformers.json"
#define TASK "\"transformer_task\""
#define OLD "sentence_transformers.models."
	static const ConfigCase cases[] = {
		/* the names of releases 2 to 5 */
		{MODULES, "sentence_transformers.base.modules.transformer.T", OLD "T", DISTIL_OK, NULL},
		{MODULES, "sentence_transformers.sentence_transformer.modules.pooling.P", OLD "P", DISTIL_OK, NULL},
		{MODULES, "sentence_transformers.base.modules.dense.D", OLD "D", DISTIL_OK, NULL},
		{MODULES, "modules.normalize.Normalize", "modules.lstm.LSTM", DISTIL_ERR_UNSUPPORTED, "\"LSTM\""},
		{MODULES, "sentence_transformers.base.modules.dense.D", "mine.D", DISTIL_ERR_UNSUPPORTED,
		 "mine.Dense"},
		{MODULES, "\"path\": \"\"", "\"path\": \"0_T\"", DISTIL_ERR_UNSUPPORTED, "0_T"},
		{MODULES, "\"path\": \"1_Pooling\"", "\"path\": \"../x\"", DISTIL_ERR_UNSUPPORTED, "../x"},
		{MODULES, "\"path\": \"1_Pooling\"", "\"path\": \"1_x\"", DISTIL_ERR_NO_FILE, "1_x/config.json"},
		{MODULES, "\"path\": \"2_Dense\"", "\"path\": \"2_x\"", DISTIL_ERR_NO_FILE,
		 "2_x/model.safetensors"},
		{MODULES, "[", "[1, ", DISTIL_ERR_TEXT_FILE, "not an object"},
		{POOLING, "\"mean\"", "\"cls\"", DISTIL_OK, NULL},
		{POOLING, "\"mean\"", "[\"mean\"]", DISTIL_OK, NULL},
		{POOLING, "\"mean\"", "[\"mean\", \"max\"]", DISTIL_ERR_TEXT_FILE, "64 values"},
		{POOLING, "\"mean\"", "\"attention\"", DISTIL_ERR_UNSUPPORTED, "\"attention\""},
		{POOLING, "\"mean\"", "[\"mean\", 1]", DISTIL_ERR_TEXT_FILE, "pooling_mode"},
		{POOLING, "\"mean\"", "[\"cls\", \"max\", \"mean\", \"lasttoken\", \"cls\"]", DISTIL_ERR_LIMIT,
		 "pooling"},
		{POOLING, "\"pooling_mode\": \"mean\"", "\"pooling_mode_lasttoken\": true", DISTIL_OK, NULL},
		{POOLING, "\"pooling_mode\": \"mean\"", "\"pooling_mode_mean_tokens\": true", DISTIL_OK, NULL},
		{POOLING, "\"pooling_mode\": \"mean\"", "\"pooling_mode_new\": true", DISTIL_ERR_UNSUPPORTED,
		 "mode_new"},
		{POOLING, "\"embedding_dimension\": 32", "\"embedding_dimension\": 31", DISTIL_ERR_TEXT_FILE, "31"},
		{POOLING, "\"include_prompt\": true", "\"include_prompt\": false", DISTIL_OK, NULL},
		{DENSE, "activation.Tanh", "activation.ReLU", DISTIL_OK, NULL},
		{DENSE, "activation.Tanh", "activation.Mish", DISTIL_ERR_UNSUPPORTED, "activation.Mish"},
		{DENSE, "\"in_features\": 32", "\"in_features\": 31", DISTIL_ERR_TEXT_FILE, "in_features"},
		{DENSE, "\"out_features\": 24", "\"out_features\": 25", DISTIL_ERR_MODEL_FILE, "[25, 32]"},
		{DENSE, "\"bias\": true", "\"bias\": false", DISTIL_OK, NULL},
		{DENSE, "\"bias\": true", "\"bias\": true, \"use_residual\": true", DISTIL_ERR_UNSUPPORTED,
		 "use_residual"},
		{DENSE, "\"bias\": true", "\"bias\": true, \"future\": 1", DISTIL_ERR_UNSUPPORTED, "future"},
		{DENSE, "\"module_input_name\": \"sentence_embedding\"",
		 "\"module_input_name\": \"token_embeddings\"",
			DISTIL_ERR_UNSUPPORTED, "token_embeddings"},
		{"3_Normalize/config.json", "sentence_embedding", "token_embeddings", DISTIL_ERR_UNSUPPORTED,
		 "token"},
		{SENTENCE, TASK, "\"max_seq_length\": 16, \"do_lower_case\": true, " TASK, DISTIL_OK, NULL},
		{SENTENCE, TASK, "\"max_seq_length\": null, " TASK, DISTIL_OK, NULL},
		{SENTENCE, TASK, "\"max_seq_length\": -1, " TASK, DISTIL_ERR_TEXT_FILE, "max_seq_length"},
		{SENTENCE, TASK, "\"model_args\": {}, " TASK, DISTIL_OK, NULL},
		{SENTENCE, TASK, "\"model_args\": {\"x\": 1}, " TASK, DISTIL_ERR_UNSUPPORTED, "model_args"},
		{SENTENCE, TASK, "\"query_length\": 32, " TASK, DISTIL_ERR_UNSUPPORTED, "query_length"},
		{SENTENCE, "feature-extraction", "fill-mask", DISTIL_ERR_UNSUPPORTED, "fill-mask"},
		{SENTENCE, "last_hidden_state", "pooler_output", DISTIL_ERR_UNSUPPORTED, "pooler_output"},
		{PROMPTS, "\"default_prompt_name\": null", "\"default_prompt_name\": \"query\"", DISTIL_OK, NULL},
		{PROMPTS, "\"default_prompt_name\": null", "\"default_prompt_name\": \"x\"", DISTIL_ERR_TEXT_FILE,
		 "prompt"},
		{PROMPTS, "\"query: \"", "1", DISTIL_ERR_TEXT_FILE, "prompt"},
		{PROMPTS, "SentenceTransformer", "SparseEncoder", DISTIL_ERR_UNSUPPORTED, "SparseEncoder"}
	};

	RUN_CASES("bert-sentence", cases);
}

/* Poolings and length limits land in the spec. */
static void
test_pipeline_values(void)
{
	TestFolder	folder;
	DistilError err;
	DistilImport *import;

	if (!test_folder_load(&folder, MODELS "bert-sentence"))
		return;
	test_folder_replace(&folder, POOLING, "\"mean\"", "[\"max\", \"weightedmean\"]");
	test_folder_replace(&folder, DENSE, "\"in_features\": 32", "\"in_features\": 64");
	CHECK(import_status(&folder, &err) == DISTIL_ERR_MODEL_FILE);	/* the stored weight is [24, 32] */
	CHECK(strstr(err.message, "2_Dense/linear.weight") != NULL && strstr(err.detail, "[24, 64]") != NULL);
	test_folder_free(&folder);

	CHECK(test_folder_load(&folder, MODELS "bert-sentence"));
	test_folder_set_text(&folder, MODULES,
						 "[{\"idx\":0,\"name\":\"0\",\"path\":\"\",\"type\":\"" OLD "Transformer\"},"
						 "{\"idx\":1,\"name\":\"1\",\"path\":\"1_Pooling\",\"type\":\"" OLD "Pooling\"}]");
	test_folder_set_text(&folder, POOLING,
						 "{\"word_embedding_dimension\":32,\"pooling_mode_max_tokens\":true,"
						 "\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":false}");
	test_folder_set_text(&folder, SENTENCE, "{\"max_seq_length\": 17, \"do_lower_case\": false}");
	CHECK(distil_import_open(&import, &folder.folder, &options, distil_alloc_system(), NULL,
							 &err) == DISTIL_OK);
	if (import != NULL)
		CHECK(distil_import_info(import)->dimensions == 64 && distil_import_info(import)->max_tokens == 17);
	distil_import_free(import);
	/* longer than the positions: the positions limit */
	test_folder_set_text(&folder, SENTENCE, "{\"max_seq_length\": 1000}");
	CHECK(distil_import_open(&import, &folder.folder, &options, distil_alloc_system(), NULL,
							 &err) == DISTIL_OK);
	if (import != NULL)
		CHECK(distil_import_info(import)->max_tokens == 64);
	distil_import_free(import);
	test_folder_free(&folder);
}

/* ---------- tensors ---------- */

static void
test_tensors(void)
{
#define W "model.safetensors"
#define QUERY "encoder.layer.0.attention.self.query.weight"
	/* same length, so that nothing else of the file moves */
	static const ConfigCase cases[] = {
		{W, QUERY, "encoder.layer.0.attention.self.qwery.weight", DISTIL_ERR_MODEL_FILE, "\"" QUERY "\""},
		{W, "cls.predictions.bias", "cls.predictions.bisa", DISTIL_ERR_MODEL_FILE,
		 "\"cls.predictions.bias\""},
		{W, "bert." QUERY "\":{\"dtype\":\"F32", "bert." QUERY "\":{\"dtype\":\"I32",
		 DISTIL_ERR_UNSUPPORTED, "I32"},
		{W, "\"shape\":[277,32]", "\"shape\":[32,277]", DISTIL_ERR_MODEL_FILE,
		 "[32, 277]; expected is [277, 32]"},
		{W, "\"shape\":[277,32]", "\"shape\":[  8864]", DISTIL_ERR_MODEL_FILE, "[8864]; expected"},
		{W, "bert.embeddings.LayerNorm.bias", "file:embeddings.LayerNorm.bias", DISTIL_ERR_MODEL_FILE, NULL}
	};
	TestFolder	folder;
	DistilError err;
	char	   *nan;

	RUN_CASES("bert-mlm", cases);
	if (!test_folder_load(&folder, MODELS "bert-mlm"))
		return;
	/* the last two values of the file: one NaN, one infinity */
	nan = folder.bytes[test_folder_index(&folder, W)].data + folder.bytes[test_folder_index(&folder,
																							W)].length - 8;
	memcpy(nan, "\xff\xff\xff\xff\x00\x00\x80\x7f", 8);
	CHECK(import_status(&folder, &err) == DISTIL_ERR_MODEL_FILE);
	CHECK_MSG(strstr(err.message, "not finite") != NULL && strstr(err.message, "tensor \"") != NULL, "%s",
			  err.message);
	CHECK_MSG(strncmp(err.detail, "2 of its ", 9) == 0, "%s", err.detail);
	test_folder_free(&folder);
}

/* Change the first value of a stored tensor. */
static void
change_value(TestFolder *folder, const char *file, const char *name)
{
	DistilTensorSet *set;
	DistilError err;
	int			i = test_folder_index(folder, file);

	CHECK(distil_checkpoint_open(&set, &folder->folder, distil_alloc_system(), &err) == DISTIL_OK);
	if (set != NULL)
	{
		const DistilTensor *tensor = distil_tensor_set_find(set, name);

		CHECK(tensor != NULL);
		if (tensor != NULL)
			folder->bytes[i].data[tensor->offset] ^= 1;
	}
	distil_tensor_set_free(set);
}

static void
test_tied(void)
{
	TestFolder	folder;
	DistilError err;

	if (!test_folder_load(&folder, MODELS "bert-old"))
		return;
	change_value(&folder, W, "cls.predictions.decoder.weight");
	CHECK(import_status(&folder, &err) == DISTIL_ERR_MODEL_FILE);
	CHECK(strstr(err.message, "tied and differ") != NULL);
	/* with an output layer of its own the same file is fine */
	test_folder_replace(&folder, C, "\"model_type\"", "\"tie_word_embeddings\": false, \"model_type\"");
	CHECK_MSG(import_status(&folder, &err) == DISTIL_OK, "%s", err.message);
	/* a tied word table may be stored as the decoder alone */
	test_folder_free(&folder);
	CHECK(test_folder_load(&folder, MODELS "bert-old"));
	test_folder_replace(&folder, W, "bert.embeddings.word_embeddings.weight",
						"bert.embeddings.word_embeddings.weighs");
	CHECK_MSG(import_status(&folder, &err) == DISTIL_OK, "%s", err.message);
	test_folder_replace(&folder, C, "\"model_type\"", "\"tie_word_embeddings\": false, \"model_type\"");
	CHECK(import_status(&folder, &err) == DISTIL_ERR_MODEL_FILE);
	test_folder_free(&folder);
}

/* ---------- files ---------- */

static void
test_files(void)
{
#define INDEX "model.safetensors.index.json"
	static const ConfigCase sharded[] = {
		{INDEX, "model-00002-of-00002.safetensors", "../../../../etc/passwd", DISTIL_ERR_NO_FILE,
		 "etc/passwd"},
		{INDEX, "model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors",
		 DISTIL_ERR_MODEL_FILE,
			INDEX},
		{INDEX, "\"weight_map\"", "\"weights\"", DISTIL_ERR_TEXT_FILE, "weight_map"},
		{INDEX, "\"bert.embeddings.LayerNorm.bias\": \"",
		 "\"bert.embeddings.LayerNorm.bias\": 1, \"x\": \"",
			DISTIL_ERR_TEXT_FILE, "weight_map"}
	};
	TestFolder	folder;
	DistilError err;

	RUN_CASES("bert-f16-sharded", sharded);
	if (!test_folder_load(&folder, MODELS "bert-mlm"))
		return;
	test_folder_remove(&folder, W);
	CHECK(import_status(&folder, &err) == DISTIL_ERR_NO_FILE && strstr(err.message, W) != NULL);
	test_folder_set_text(&folder, "pytorch_model.bin", "\x80\x02pickle");
	CHECK(import_status(&folder, &err) == DISTIL_ERR_UNSUPPORTED);
	CHECK(strstr(err.message, "pytorch_model.bin") != NULL && strstr(err.hint,
																	 "safe_serialization=True") != NULL);
	test_folder_remove(&folder, C);
	CHECK(import_status(&folder, &err) == DISTIL_ERR_NO_FILE && strstr(err.message, C) != NULL);
	test_folder_free(&folder);
	/* shards: one missing */
	CHECK(test_folder_load(&folder, MODELS "bert-f16-sharded"));
	test_folder_remove(&folder, "model-00002-of-00002.safetensors");
	CHECK(import_status(&folder, &err) == DISTIL_ERR_NO_FILE && strstr(err.message, "model-00002") != NULL);
	test_folder_free(&folder);
	/* a Dense module whose weights are a pickle */
	CHECK(test_folder_load(&folder, MODELS "bert-sentence"));
	test_folder_remove(&folder, "2_Dense/model.safetensors");
	test_folder_set_text(&folder, "2_Dense/pytorch_model.bin", "\x80\x02");
	CHECK(import_status(&folder, &err) == DISTIL_ERR_UNSUPPORTED &&
		  strstr(err.message, "2_Dense/") != NULL);
	test_folder_free(&folder);
}

static void
test_options(void)
{
	static const struct
	{
		const char *json;
		DistilStatus status;
		bool		parse_special;
	}			cases[] = {
		{"{}", DISTIL_OK, true}, {"{\"parse_special\": false}", DISTIL_OK, false},
		{"{\"parse_special\": true}", DISTIL_OK, true}, {"{\"parse_special\": 1}", DISTIL_ERR_ARGUMENT,
														 true},
		{"{\"parse\": true}", DISTIL_ERR_ARGUMENT, true}, {"[]", DISTIL_ERR_ARGUMENT, true},
		{"{", DISTIL_ERR_ARGUMENT, true}
	};
	DistilError err;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		DistilImportOptions parsed;
		DistilStatus status = distil_import_options_parse(&parsed, cases[i].json, strlen(cases[i].json),
														  distil_alloc_system(), &err);

		CHECK_MSG(status == cases[i].status, "%s", cases[i].json);
		CHECK(status != DISTIL_OK || parsed.parse_special == cases[i].parse_special);
	}
	CHECK(distil_import_options_parse(&(DistilImportOptions) {0}, "{\"x\":1}", 7, distil_alloc_system(),
									  &err)
		  == DISTIL_ERR_ARGUMENT && strstr(err.hint, "parse_special") != NULL);
}

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

/* ---------- students' configurations ---------- */

static void
test_write_config(void)
{
	static const char *const models[] = {"bert-mlm", "distilbert-mlm"};

	for (int i = 0; i < 2; i++)
	{
		TestFolder	folder;
		DistilSpec	spec;
		DistilSpec	again;
		DistilArena *arena = distil_arena_create(distil_alloc_system());
		DistilBuffer text;
		DistilError err;
		char		path[200];

		snprintf(path, sizeof(path), MODELS "%s", models[i]);
		CHECK(test_folder_load(&folder, path));
		CHECK(distil_spec_parse(&spec, &folder.folder, NULL, arena, &err) == DISTIL_OK && spec.has_lm);
		distil_buffer_init(&text, distil_alloc_system());
		CHECK(spec.config.arch->write_config(&spec.config, spec.config.class_name, &text,
											 &err) == DISTIL_OK);
		test_folder_set(&folder, C, text.data, text.length);
		CHECK_MSG(import_status(&folder, &err) == DISTIL_OK, "%s %s", err.message, err.detail);
		CHECK(distil_spec_parse(&again, &folder.folder, NULL, arena, &err) == DISTIL_OK);
		CHECK(again.config.layers == spec.config.layers && again.config.mlp == spec.config.mlp);
		CHECK(again.config.norm_eps == spec.config.norm_eps &&
			  again.config.activation == spec.config.activation);
		CHECK(again.config.hidden_dropout == spec.config.hidden_dropout);
		CHECK(again.config.initializer_range == spec.config.initializer_range);
		CHECK(again.table.total == spec.table.total && again.has_lm);
		distil_buffer_free(&text);
		distil_arena_free(arena);
		test_folder_free(&folder);
	}
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

	test_facts();
	test_pipeline();
	test_config();
	test_pipeline_config();
	test_pipeline_values();
	test_tensors();
	test_tied();
	test_files();
	test_options();
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		test_round_trip(all[i]);
	test_bundle_reads();
	test_image_damage();
	test_truncated();
	test_cancel();
	test_read_errors();
	test_memory();
	test_write_config();
	test_real_model();
	return check_report("import");
}
