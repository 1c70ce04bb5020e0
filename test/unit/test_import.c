/*
 * test_import.c
 *		A folder's facts, what an import takes and what it refuses by name.
 *
 * The folders are those of test/golden/models.
 */
#include "checkpoint.h"
#include "import_fixture.h"
#include "load_model.h"

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
		{DENSE, "modules.activation.Tanh", "Tanh", DISTIL_OK, NULL},
		{DENSE, "modules.activation.Tanh", "functional.tanh", DISTIL_ERR_UNSUPPORTED, "functional.tanh"},
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
		{PROMPTS, "\"default_prompt_name\": null", "\"default_prompt_name\": \"document\"", DISTIL_OK, NULL},
		{PROMPTS, "\"query\": \"query: \"", "\"a\": null", DISTIL_OK, NULL},
		{PROMPTS, "\"query: \"", "1", DISTIL_ERR_TEXT_FILE, "prompt"},
		{PROMPTS, "\"default_prompt_name\"", "\"truncate_dim\": null, \"default_prompt_name\"", DISTIL_OK,
		NULL},
		{PROMPTS, "\"default_prompt_name\"", "\"truncate_dim\": 8, \"default_prompt_name\"",
		 DISTIL_ERR_UNSUPPORTED, "truncate_dim"},
		{PROMPTS, "SentenceTransformer", "SparseEncoder", DISTIL_ERR_UNSUPPORTED, "SparseEncoder"}
	};

	RUN_CASES("bert-sentence", cases);
}

/* The folder of a cross-encoder as sentence-transformers 6 saves it. */
static void
test_cross_encoder(void)
{
	static const struct
	{
		const char *settings;
		DistilStatus status;
		DistilActivation activation;
		const char *message;
	}			cases[] = {
		{"{}", DISTIL_OK, DISTIL_ACT_SIGMOID, NULL},
		{"{\"activation_fn\": \"torch.nn.modules.linear.Identity\", \"prompts\": {}}", DISTIL_OK,
		DISTIL_ACT_NONE, NULL},
		{"{\"activation_fn\": \"mine.Tanh\"}", DISTIL_ERR_UNSUPPORTED, DISTIL_ACT_NONE, "mine.Tanh"},
		{"{\"prompts\": {\"web\": \"web: \"}}", DISTIL_ERR_UNSUPPORTED, DISTIL_ACT_NONE, "prompts"},
		{"{\"model_type\": \"SentenceTransformer\"}", DISTIL_ERR_UNSUPPORTED, DISTIL_ACT_NONE, "model_type"},
		{"{\"future\": 1}", DISTIL_ERR_UNSUPPORTED, DISTIL_ACT_NONE, "future"}
	};
	TestFolder	folder;

	if (!test_folder_load(&folder, MODELS "bert-sentence"))
		return;
	/* as transformers writes it where one output was trained */
	test_folder_replace(&folder, "config.json", "{", "{\"problem_type\": \"regression\", ");
	test_folder_set_text(&folder, MODULES, "[{\"path\": \"\", \"type\": \"" OLD "Transformer\"}]");
	test_folder_set_text(&folder, SENTENCE,
						 "{\"transformer_task\": \"sequence-classification\", "
						 "\"modality_config\": {\"text\": {\"method\": \"forward\", "
						 "\"method_output_name\": \"logits\"}}, \"module_output_name\": \"scores\"}");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		LoadedModel loaded;
		DistilError err;

		test_folder_set_text(&folder, PROMPTS, cases[i].settings);
		CHECK(load_folder(&loaded, &folder.folder, &options, &err) == cases[i].status);
		if (cases[i].message != NULL)
			CHECK(strstr(err.message, cases[i].message) != NULL);
		if (loaded.model != NULL)
			CHECK(loaded.model->spec.config.rank_activation == cases[i].activation &&
				  loaded.model->spec.config.ranks && !loaded.model->spec.pipeline.present);
		load_free(&loaded);
	}
	test_folder_free(&folder);
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

/* Add the vector cls.predictions.decoder.bias, zeros. */
static void
add_decoder_bias(TestFolder *folder)
{
	const TestBytes *old = &folder->bytes[test_folder_index(folder, W)];
	size_t		bytes = 277 * sizeof(float);
	char		entry[128];
	uint64_t	header;
	uint64_t	longer;
	size_t		data;
	char	   *new;

	memcpy(&header, old->data, 8);
	data = old->length - 8 - header;
	snprintf(entry, sizeof(entry),
			 "{\"cls.predictions.decoder.bias\":{\"dtype\":\"F32\",\"shape\":[277],"
			 "\"data_offsets\":[%zu,%zu]},",
			 data, data + bytes);
	longer = header + strlen(entry) - 1;
	new = calloc(1, 8 + longer + data + bytes);
	memcpy(new, &longer, 8);
	memcpy(new + 8, entry, strlen(entry));
	memcpy(new + 8 + strlen(entry), old->data + 9, header - 1 + data);
	test_folder_set(folder, W, new, 8 + longer + data + bytes);
	free(new);
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
	add_decoder_bias(&folder);
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

/* First value of the output layer's bias, as a model of the folder has it. */
static float
first_bias(TestFolder *folder)
{
	DistilImportOptions options = {false};
	LoadedModel loaded;
	DistilError err = {"", "", ""};
	float		value = 0;

	CHECK_MSG(load_folder(&loaded, &folder->folder, &options, &err) == DISTIL_OK, "%s", err.message);
	if (loaded.model != NULL)
		distil_param_read(&value, loaded.model->weights,
						  &loaded.model->spec.table.params[loaded.model->spec.lm.decoder_bias], 0, 1);
	load_free(&loaded);
	return value;
}

/* As transformers: decoder.bias counts where both are stored, and alone where the tables are not tied. */
static void
test_output_bias(void)
{
	TestFolder	folder;
	DistilError err;
	float		stored;

	if (!test_folder_load(&folder, MODELS "bert-old"))
		return;
	stored = first_bias(&folder);
	test_folder_replace(&folder, C, "\"model_type\"", "\"tie_word_embeddings\": false, \"model_type\"");
	CHECK(import_status(&folder, &err) == DISTIL_ERR_MODEL_FILE &&
		  strstr(err.message, "\"cls.predictions.decoder.bias\"") != NULL);
	add_decoder_bias(&folder);
	CHECK(stored != 0 && first_bias(&folder) == 0);
	test_folder_replace(&folder, C, "\"tie_word_embeddings\": false, ", "");
	CHECK(first_bias(&folder) == 0);
	test_folder_replace(&folder, W, "cls.predictions.bias", "cls.predictions.bisa");
	CHECK(first_bias(&folder) == 0);
	test_folder_free(&folder);
}

/* ---------- files ---------- */

static void
test_files(void)
{
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
	/* without its file a module is not passed over */
	CHECK(test_folder_load(&folder, MODELS "bert-sentence"));
	test_folder_remove(&folder, "2_Dense/config.json");
	CHECK_MSG(import_status(&folder, &err) == DISTIL_ERR_NO_FILE &&
			  strstr(err.message, "2_Dense/config.json") != NULL, "%s", err.message);
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

/* ---------- students' configurations ---------- */

static void
check_same(const char *what, const DistilConfig *a, const DistilConfig *b)
{
	CHECK_MSG(a->arch == b->arch && a->layers == b->layers && a->width == b->width && a->mlp == b->mlp &&
			  a->table_width == b->table_width && a->heads == b->heads && a->head_dim == b->head_dim &&
			  a->vocabulary == b->vocabulary && a->positions == b->positions && a->types == b->types &&
			  a->position_offset == b->position_offset, "%s", what);
	CHECK_MSG(a->norm_eps == b->norm_eps && a->activation == b->activation &&
			  a->embedding_dropout == b->embedding_dropout && a->hidden_dropout == b->hidden_dropout &&
			  a->attention_dropout == b->attention_dropout && a->initializer_range == b->initializer_range,
			  "%s", what);
	CHECK_MSG(a->causal == b->causal && a->unscaled_attention == b->unscaled_attention &&
			  a->layer_scaled_attention == b->layer_scaled_attention &&
			  a->relative_buckets == b->relative_buckets && a->shared_layers == b->shared_layers &&
			  a->sinusoidal_positions == b->sinusoidal_positions && a->pad_id == b->pad_id &&
			  a->tie_word_embeddings == b->tie_word_embeddings, "%s", what);
}

/* What is written reads as it was; what no golden has, too, so that no default takes its place. */
static void
test_write_config(void)
{
	static const struct
	{
		const char *arch;
		const char *from;
		const char *to;
	}			cases[] = {
		{"albert", "\"embedding_size\": 16", "\"embedding_size\": 24"},
		{"bert", "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"gelu_new\""},
		{"bert", "\"layer_norm_eps\": 1e-12", "\"layer_norm_eps\": 1e-7"},
		{"bert", "\"type_vocab_size\": 2", "\"type_vocab_size\": 3"},
		{"bert", "\"initializer_range\": 0.02", "\"initializer_range\": 0.031"},
		{"distilbert", "\"dropout\": 0.1", "\"dropout\": 0.3"},
		{"distilbert", "\"sinusoidal_pos_embds\": false", "\"sinusoidal_pos_embds\": true"},
		{"electra-small", "\"pad_token_id\": 0", "\"pad_token_id\": 7"},
		{"gpt2", "\"embd_pdrop\": 0.1", "\"embd_pdrop\": 0.2"},
		{"gpt2", "\"n_inner\": 48", "\"n_inner\": 80"},
		{"gpt2", "\"scale_attn_by_inverse_layer_idx\": false", "\"scale_attn_by_inverse_layer_idx\": true"},
		{"gpt2", "\"scale_attn_weights\": true", "\"scale_attn_weights\": false"},
		{"mpnet", "\"num_attention_heads\": 4", "\"num_attention_heads\": 8"},
		{"roberta", "\"max_position_embeddings\": 66", "\"max_position_embeddings\": 50"}
	};

	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++)
	{
		const bool	changed = i % 2 == 1;
		TestFolder	folder;
		DistilSpec	spec;
		DistilSpec	again;
		DistilArena *arena = distil_arena_create(distil_alloc_system());
		DistilBuffer text;
		DistilError err = {"", "", ""};

		CHECK(compose(&folder, cases[i / 2].arch, "lm"));
		if (changed)
			test_folder_replace(&folder, C, cases[i / 2].from, cases[i / 2].to);
		CHECK_MSG(distil_spec_parse(&spec, &folder.folder, NULL, arena, &err) == DISTIL_OK && spec.has_lm,
				  "%s", err.message);
		distil_buffer_init(&text, distil_alloc_system());
		CHECK(spec.config.arch->write_config(&spec.config, spec.config.class_name, &text,
											 &err) == DISTIL_OK);
		test_folder_set(&folder, C, text.data, text.length);
		CHECK_MSG(changed || import_status(&folder, &err) == DISTIL_OK, "%s %s", err.message, err.detail);
		CHECK_MSG(distil_spec_parse(&again, &folder.folder, NULL, arena, &err) == DISTIL_OK, "%s",
				  err.message);
		check_same(changed ? cases[i / 2].to : cases[i / 2].arch, &spec.config, &again.config);
		CHECK(again.table.total == spec.table.total && again.has_lm);
		distil_buffer_free(&text);
		distil_arena_free(arena);
		test_folder_free(&folder);
	}
}

int
main(void)
{
	test_facts();
	test_pipeline();
	test_config();
	test_pipeline_config();
	test_cross_encoder();
	test_pipeline_values();
	test_tensors();
	test_tied();
	test_output_bias();
	test_files();
	test_options();
	test_write_config();
	return check_report("import");
}
