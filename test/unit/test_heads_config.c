/*
 * test_heads_config.c
 *		Configurations of every architecture: fields that are honoured, against transformers with
 *		the same change; fields and values that are refused by name; heads whose tensors are
 *		missing; models made from a configuration alone.
 */
#include "config.h"
#include "heads_fixture.h"
#include "student_files.h"

/* Import of one head's folder with a piece of a file replaced. */
static DistilStatus
import_changed(const char *arch, const char *kind, const char *from, const char *to, DistilError *err)
{
	TestFolder	folder;
	LoadedModel loaded;
	DistilStatus status = DISTIL_ERR_NO_FILE;
	static const DistilImportOptions options = {true};

	memset(&loaded, 0, sizeof(loaded));
	if (compose(&folder, arch, kind))
	{
		test_folder_replace(&folder, "config.json", from, to);
		status = load_folder(&loaded, &folder.folder, &options, err);
	}
	load_free(&loaded);
	test_folder_free(&folder);
	return status;
}

/* ---------- honoured ---------- */

static void
test_changes(const char *arch, const DistilJson *facts)
{
	static const DistilImportOptions options = {true};
	const DistilJson *changes = member(facts, "changes");
	DistilText	text = text_of(head_texts[0]);
	char		name[64];
	Goldens		g;

	snprintf(name, sizeof(name), "heads-%s.goldens.safetensors", arch);
	if (!goldens_open(&g, name))
		return;
	for (size_t i = 0; i < distil_json_count(changes); i++)
	{
		const DistilJson *change = distil_json_item(changes, i);
		TestFolder	folder;
		LoadedModel loaded;
		DistilSession *session;
		DistilError err = {"", "", ""};
		const float *states;
		int			tokens;

		if (!compose(&folder, arch, "lm"))
			continue;
		test_folder_replace(&folder, "config.json", distil_json_string(member(change, "from"), NULL),
							distil_json_string(member(change, "to"), NULL));
		CHECK_MSG(load_folder(&loaded, &folder.folder, &options, &err) == DISTIL_OK, "%s %s", err.message,
				  err.detail);
		session = open_session(loaded.model, 0);
		CHECK(distil_session_hidden(session, &states, &tokens, &text, &err) == DISTIL_OK);
		snprintf(name, sizeof(name), "change%zu.hidden", i);
		check_rows(&g, name, states, tokens, 32, 2 * TOLERANCE);
		distil_session_free(session);
		load_free(&loaded);
		test_folder_free(&folder);
	}
	goldens_close(&g);
}

/* ---------- refused ---------- */

/* What is changed in a folder, and what comes of it. */
static const struct
{
	const char *arch;
	const char *kind;
	const char *from;
	const char *to;
	DistilStatus status;
	const char *message;
}			refused[] = {
	{"roberta", "lm", "\"gelu\"", "\"mish\"", DISTIL_ERR_UNSUPPORTED, "\"mish\""},
	{"roberta", "lm", "\"pad_token_id\": 1", "\"pad_token_id\": -1", DISTIL_ERR_UNSUPPORTED,
	"pad_token_id"},
	{"roberta", "lm", "\"pad_token_id\": 1", "\"pad_token_id\": 65", DISTIL_ERR_TEXT_FILE,
	"max_position"},
	{"roberta", "lm", "\"is_decoder\": false", "\"is_decoder\": true", DISTIL_ERR_UNSUPPORTED,
	"is_decoder"},
	{"roberta", "lm", "\"type_vocab_size\": 1", "\"type_vocab_size\": 2", DISTIL_ERR_MODEL_FILE,
	"token_type"},
	{"distilbert", "lm", "\"gelu\"", "\"mish\"", DISTIL_ERR_UNSUPPORTED, "\"mish\""},
	{"bert", "lm", "\"gelu\"", "\"gelu_10\"", DISTIL_ERR_UNSUPPORTED, "\"gelu_10\""},
	{"bert", "lm", "\"gelu\"", "\"hardswish\"", DISTIL_ERR_UNSUPPORTED, "\"hardswish\""},
	{"bert", "lm", "\"gelu\"", "\"laplace\"", DISTIL_ERR_UNSUPPORTED, "\"laplace\""},
	{"bert", "lm", "\"gelu\"", "\"leaky_relu\"", DISTIL_ERR_UNSUPPORTED, "\"leaky_relu\""},
	{"bert", "lm", "\"gelu\"", "\"linear\"", DISTIL_ERR_UNSUPPORTED, "\"linear\""},
	{"bert", "lm", "\"gelu\"", "\"prelu\"", DISTIL_ERR_UNSUPPORTED, "\"prelu\""},
	{"bert", "lm", "\"gelu\"", "\"relu2\"", DISTIL_ERR_UNSUPPORTED, "\"relu2\""},
	{"bert", "lm", "\"gelu\"", "\"relu6\"", DISTIL_ERR_UNSUPPORTED, "\"relu6\""},
	{"bert", "lm", "\"gelu\"", "\"sqrtsoftplus\"", DISTIL_ERR_UNSUPPORTED, "\"sqrtsoftplus\""},
	{"bert", "lm", "\"gelu\"", "\"xielu\"", DISTIL_ERR_UNSUPPORTED, "\"xielu\""},
	/* the general names of sizes win */
	{"distilbert", "lm", "\"n_heads\"", "\"num_attention_heads\": 5, \"n_heads\"", DISTIL_ERR_TEXT_FILE,
	"n_heads"},
	{"distilbert", "lm", "\"n_layers\": 2", "\"num_hidden_layers\": 2", DISTIL_OK, NULL},
	{"distilbert", "lm", "\"n_layers\"", "\"num_hidden_layers\": 3, \"n_layers\"", DISTIL_ERR_MODEL_FILE,
	"layer.2."},
	{"distilbert", "lm", "\"dim\": 32", "\"hidden_size\": 32", DISTIL_OK, NULL},
	{"gpt2", "lm", "\"n_head\"", "\"num_attention_heads\": 5, \"n_head\"", DISTIL_ERR_TEXT_FILE,
	"n_head"},
	{"gpt2", "lm", "\"n_layer\": 2", "\"num_hidden_layers\": 3", DISTIL_ERR_MODEL_FILE, "h.2."},
	{"gpt2", "lm", "\"n_embd\": 32", "\"hidden_size\": 32", DISTIL_OK, NULL},
	{"gpt2", "lm", "\"n_positions\": 64", "\"max_position_embeddings\": 32", DISTIL_ERR_MODEL_FILE,
	"32]"},
	{"electra", "token", "\"embedding_size\": 32", "\"embedding_size\": 16", DISTIL_ERR_MODEL_FILE,
	", 16]"},
	{"electra-small", "token", "\"embedding_size\": 16", "\"embedding_size\": 32", DISTIL_ERR_MODEL_FILE,
	"32]"},
	{"albert", "lm", "\"embedding_size\": 16", "\"embedding_size\": 32", DISTIL_ERR_MODEL_FILE, "32]"},
	{"electra-small", "lm", "\"num_attention_heads\": 4,", "", DISTIL_OK, NULL},
	{"albert", "lm", "\"num_hidden_groups\": 1", "\"num_hidden_groups\": 2", DISTIL_ERR_UNSUPPORTED,
	"num_hidden_groups"},
	{"albert", "lm", "\"inner_group_num\": 1", "\"inner_group_num\": 2", DISTIL_ERR_UNSUPPORTED,
	"inner_group_num"},
	{"albert", "lm", "\"gelu_new\"", "\"mish\"", DISTIL_ERR_UNSUPPORTED, "\"mish\""},
	{"electra", "lm", "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"relu\"", DISTIL_ERR_UNSUPPORTED,
	"hidden_act"},
	{"electra", "token", "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"relu\"", DISTIL_OK, NULL},
	{"electra", "choice", "\"summary_type\": \"first\"", "\"summary_type\": \"last\"",
	DISTIL_ERR_UNSUPPORTED, "summary_type"},
	{"electra", "choice", "\"summary_activation\": \"gelu\"", "\"summary_activation\": \"tanh\"",
	DISTIL_ERR_UNSUPPORTED, "summary_activation"},
	{"electra", "choice", "\"summary_use_proj\": true", "\"summary_use_proj\": false",
	DISTIL_ERR_UNSUPPORTED, "summary_use_proj"},
	{"electra", "sequence", "\"summary_type\": \"first\"", "\"summary_type\": \"last\"", DISTIL_OK, NULL},
	{"mpnet", "lm", "\"gelu\"", "\"mish\"", DISTIL_ERR_UNSUPPORTED, "\"mish\""},
	{"mpnet", "lm", "\"relative_attention_num_buckets\": 32", "\"relative_attention_num_buckets\": 16",
	DISTIL_ERR_UNSUPPORTED, "relative_attention_num_buckets"},
	{"gpt2", "lm", "\"gelu_new\"", "\"mish\"", DISTIL_ERR_UNSUPPORTED, "\"mish\""},
	{"gpt2", "lm", "\"add_cross_attention\": false", "\"add_cross_attention\": true",
	DISTIL_ERR_UNSUPPORTED,
	"cross"},
	{"gpt2", "lm", "\"n_inner\": 48", "\"n_inner\": 49", DISTIL_ERR_MODEL_FILE, "[32, 49]"},
	{"gpt2", "lm", "\"n_inner\": 48", "\"n_inner\": null", DISTIL_ERR_MODEL_FILE, "[32, 128]"},
	{"gpt2", "lm", "\"n_head\": 4", "\"n_head\": 5", DISTIL_ERR_TEXT_FILE, "n_head"},
	{"gpt2", "lm", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false",
	DISTIL_ERR_MODEL_FILE,
	"lm_head.weight"},
	{"bert", "sequence", "\"model_type\"", "\"problem_type\": \"ranking\", \"model_type\"",
	DISTIL_ERR_UNSUPPORTED, "\"ranking\""},
	{"bert", "sequence", "\"2\": \"good\"", "\"2\": \"good\", \"3\": \"best\"", DISTIL_ERR_MODEL_FILE,
	"classifier.weight"},
	{"bert", "sequence", "\"2\": \"good\"", "\" +0_2\": \"good\"", DISTIL_OK, NULL},
	{"bert", "sequence", "\"2\": \"good\"", "\"01\": \"good\", \"2\": \"best\"", DISTIL_OK, NULL},
	{"bert", "sequence", "\"2\": \"good\"", "\"0__2\": \"good\"", DISTIL_ERR_TEXT_FILE, "\"0__2\""},
	{"bert", "sequence", "\"2\": \"good\"", "\"-2\": \"good\"", DISTIL_ERR_TEXT_FILE, "\"-2\""},
	{"bert", "sequence", "\"2\": \"good\"", "\"99999999999\": \"good\"", DISTIL_ERR_TEXT_FILE, "99999999999"},
	{"bert", "sequence", "\"2\": \"good\"", "\"01\": \"good\"", DISTIL_ERR_MODEL_FILE,
	"classifier.weight"},
	{"bert", "token", "\"4\": \"I-LOC\"", "\"5\": \"I-LOC\"", DISTIL_ERR_TEXT_FILE, "id2label"},
	{"bert", "one", "\"model_type\"",
	"\"sentence_transformers\": {\"activation_fn\": \"my.Activation\"}, "
	"\"model_type\"", DISTIL_ERR_UNSUPPORTED, "my.Activation"},
	{"bert", "one", "\"model_type\"", "\"sbert_ce_default_activation_function\": "
	"\"torch.nn.modules.activation.Mish\", \"model_type\"", DISTIL_ERR_UNSUPPORTED, "Mish"},
	{"gpt2", "lm", "\"eos_token_id\": 0", "\"eos_token_id\": \"end\"", DISTIL_ERR_TEXT_FILE,
	"eos_token_id"},
	{"bert", "question", "\"model_type\"", "\"num_labels\": 3, \"model_type\"", DISTIL_ERR_UNSUPPORTED,
	"\"num_labels\" is 3"},
	{"gpt2", "question", "\"model_type\"", "\"id2label\": {\"0\": \"a\"}, \"model_type\"",
	DISTIL_ERR_UNSUPPORTED, "\"num_labels\" is 1"},
	{"albert", "choice", "\"num_hidden_groups\": 1", "\"num_hidden_groups\": 2", DISTIL_ERR_UNSUPPORTED,
	"num_hidden_groups"},
	{"bert", "question", "\"BertForQuestionAnswering\"", "\"BertForMultipleChoice\"", DISTIL_OK, NULL}
};

static void
test_refused(void)
{
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
	{
		DistilError err = {"", "", ""};
		DistilStatus status = import_changed(refused[i].arch, refused[i].kind, refused[i].from, refused[i].to,
											 &err);

		CHECK_MSG(status == refused[i].status, "%s %s: %d %s (%s)", refused[i].arch, refused[i].to,
				  (int) status, err.message, err.detail);
		CHECK_MSG(refused[i].message == NULL || strstr(err.message, refused[i].message) != NULL ||
				  strstr(err.detail, refused[i].message) != NULL, "%s: %s (%s)", refused[i].to, err.message,
				  err.detail);
	}
}

/* What would make it another model is refused by its name in every architecture of the table. */
static void
test_refused_everywhere(void)
{
	static const char *const fields[] = {
		"\"is_encoder_decoder\": true", "\"add_cross_attention\": true",
		"\"quantization_config\": {\"bits\": 8}",
		"\"compression_config\": {\"format\": \"pack\"}", "\"pruned_heads\": {\"0\": [1]}",
		"\"auto_map\": {\"AutoModel\": \"m.M\"}",
		"\"rope_scaling\": {\"factor\": 2}", "\"rope_parameters\": {\"rope_type\": \"default\"}",
		"\"adapters\": {\"a\": 1}",
		"\"position_embedding_type\": \"relative_key\"", "\"problem_type\": \"ranking\"", "\"vocab_size\": 0",
		"\"pad_token_id\": \"x\"", "\"initializer_range\": -1", "\"tie_word_embeddings\": 3"
	};
	char		list[200];
	int			n = 0;

	snprintf(list, sizeof(list), "%s", distil_arch_list());
	for (char *arch = strtok(list, ", "); arch != NULL; arch = strtok(NULL, ", "), n++)
		for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		{
			TestFolder	folder;
			DistilArena *arena = distil_arena_create(distil_alloc_system());
			DistilSpecFacts facts;
			DistilSpec	spec;
			DistilStatus status;
			DistilError err = {"", "", ""};
			char		config[300];
			char		field[40];

			CHECK(distil_arch_find(arch) != NULL);
			memset(&folder, 0, sizeof(folder));
			snprintf(field, sizeof(field), "%.*s", (int) (strchr(fields[i] + 1, '"') - fields[i] - 1),
					 fields[i] + 1);
			snprintf(config, sizeof(config), "{\"model_type\": \"%s\", %s}", arch, fields[i]);
			test_folder_set_text(&folder, "config.json", config);
			status = distil_spec_facts(&facts, &folder.folder, NULL, distil_alloc_system(), &err);
			if (status == DISTIL_OK)
				status = distil_spec_build(&spec, &folder.folder, &facts, arena, distil_alloc_system(), &err);
			CHECK_MSG(status == DISTIL_ERR_UNSUPPORTED || status == DISTIL_ERR_TEXT_FILE, "%s: %d", config,
					  (int) status);
			/* a value is named where it is the surprise */
			CHECK_MSG(strstr(err.message, field) != NULL || strstr(err.detail, field) != NULL ||
					  strstr(err.message, "\"ranking\"") != NULL, "%s: %s (%s)", config, err.message,
					  err.detail);
			distil_arena_free(arena);
			test_folder_free(&folder);
		}
	CHECK(n == 9);
}

/* XLM-R and CamemBERT are RoBERTa under other names. */
static void
test_same_as_roberta(const char *type, const char *stem)
{
	static const DistilImportOptions options = {true};
	DistilText	text = text_of(head_texts[1]);

	for (int k = 0; k < KINDS; k++)
	{
		TestFolder	folder;
		LoadedModel models[2];
		DistilError err = {"", "", ""};
		float		values[2][32];

		if (!compose(&folder, "roberta", kinds[k]))
			return;
		for (int i = 0; i < 2; i++)
		{
			DistilSession *session;
			const float *logits;
			int			rows;
			int			n;
			bool		has;

			if (i == 1)
			{
				char		quoted[64];

				snprintf(quoted, sizeof(quoted), "\"model_type\": \"%s\"", type);
				test_folder_replace(&folder, "config.json", "\"model_type\": \"roberta\"", quoted);
				snprintf(quoted, sizeof(quoted), "\"%sFor", stem);
				test_folder_replace(&folder, "config.json", "\"RobertaFor", quoted);
			}
			CHECK_MSG(load_folder(&models[i], &folder.folder, &options, &err) == DISTIL_OK, "%s %s", type,
					  err.message);
			CHECK(strcmp(distil_model_info(models[i].model)->architecture, i == 0 ? "roberta" : type) == 0);
			CHECK(distil_model_info(models[i].model)->nheads == 1);
			session = open_session(models[i].model, 0);
			if (k == 0)
				CHECK(distil_session_embed(session, values[i], &has, &text, 1, -1, &err) == DISTIL_OK);
			else
			{
				CHECK(distil_session_head_logits(session, &logits, &rows, &n, &text, NULL,
												 &err) == DISTIL_OK);
				memset(values[i], 0, sizeof(values[i]));
				memcpy(values[i], logits, sizeof(float) * (size_t) (rows * n < 32 ? rows * n : 32));
			}
			distil_session_free(session);
		}
		CHECK_MSG(memcmp(values[0], values[1], sizeof(values[0])) == 0, "%s %s", type, kinds[k]);
		load_free(&models[0]);
		load_free(&models[1]);
		test_folder_free(&folder);
	}
}

/* ---------- heads and tensors ---------- */

static void
test_head_facts(void)
{
	static const char *const tasks[] = {"fill-mask", "text-classification", "token-classification",
	"question-answering", "multiple-choice"};
	static const char *const names[] = {"lm", "classify", "entities", "answer", "choose"};

	for (int a = 0; a < ARCHITECTURES; a++)
		for (int k = 0; k < KINDS; k++)
		{
			LoadedModel loaded;
			DistilError err = {"", "", ""};

			if (!has_kind(architectures[a], kinds[k]))
				continue;
			CHECK_MSG(load_head(&loaded, architectures[a], kinds[k], &err) == DISTIL_OK, "%s", err.message);
			if (loaded.model != NULL)
			{
				const DistilModelInfo *info = distil_model_info(loaded.model);
				bool		causal = strcmp(architectures[a], "gpt2") == 0;

				CHECK(info->nheads == 1 && strcmp(info->heads[0].name, names[k]) == 0);
				CHECK(strcmp(info->heads[0].task, causal && k == 0 ? "text-generation" : tasks[k]) == 0);
				CHECK(strcmp(info->tasks[info->ntasks - 1], info->heads[0].task) == 0);
				CHECK(info->heads[0].nlabels == (k == 1 ? 3 : k == 2 ? 5 : 0));
				CHECK(info->max_tokens == 64 && info->causal == causal && info->missing_head == NULL);
				CHECK(info->has_lm_head == (k == 0));
				CHECK(k != 2 || strcmp(info->heads[0].labels[3], "B-LOC") == 0);
			}
			load_free(&loaded);
		}
}

/* Old names, no prefix, one side of the tied pair, buffers among the weights: the same model. */
static void
test_old_files(const char *arch)
{
	LoadedModel loaded;
	LoadedModel old;
	DistilError err = {"", "", ""};

	CHECK(load_head(&loaded, arch, "lm", &err) == DISTIL_OK);
	CHECK_MSG(load_head(&old, arch, "old", &err) == DISTIL_OK, "%s: %s %s", arch, err.message, err.detail);
	if (loaded.model != NULL && old.model != NULL)
	{
		const DistilModelInfo *info = distil_model_info(old.model);

		CHECK(old.model->spec.table.total == loaded.model->spec.table.total);
		CHECK(memcmp(old.model->weights, loaded.model->weights,
					 loaded.model->spec.table.total * sizeof(float)) == 0);
		CHECK_MSG(info->parameters == distil_model_info(loaded.model)->parameters, "%lld, expected %lld",
				  (long long) info->parameters, (long long) distil_model_info(loaded.model)->parameters);
		CHECK(info->has_lm_head);
	}
	load_free(&old);
	load_free(&loaded);
}

/* A class whose head has no tensors leaves the model without one and says so. */
static void
test_missing_head(void)
{
	static const DistilImportOptions options = {true};
	TestFolder	folder;
	DistilImport *import;
	DistilError err = {"", "", ""};

	if (!compose(&folder, "roberta", "lm"))
		return;
	test_folder_replace(&folder, "config.json", "\"RobertaForMaskedLM\"",
						"\"RobertaForSequenceClassification\"");
	CHECK_MSG(distil_import_open(&import, &folder.folder, &options, distil_alloc_system(), NULL,
								 &err) == DISTIL_OK,
			  "%s", err.message);
	if (import != NULL)
	{
		/* the language-model head is there and is kept */
		CHECK(distil_import_info(import)->missing_head != NULL &&
			  strcmp(distil_import_info(import)->missing_head, "RobertaForSequenceClassification") == 0);
		CHECK(distil_import_info(import)->nheads == 1 && distil_import_info(import)->has_lm_head);
	}
	distil_import_free(import);
	/* a class that no table knows is named too */
	test_folder_replace(&folder, "config.json", "\"RobertaForSequenceClassification\"",
						"\"RobertaForNothing\"");
	CHECK(distil_import_open(&import, &folder.folder, &options, distil_alloc_system(), NULL,
							 &err) == DISTIL_OK);
	if (import != NULL)
		CHECK(distil_import_info(import)->missing_head != NULL &&
			  strcmp(distil_import_info(import)->missing_head, "RobertaForNothing") == 0);
	distil_import_free(import);
	test_folder_free(&folder);
}

/* ---------- models from a configuration ---------- */

static double
spread(const DistilModel *model, const char *name)
{
	const DistilParamTable *table = &model->spec.table;
	double		sum = 0;

	for (int i = 0; i < table->n; i++)
		if (strcmp(table->params[i].name, name) == 0)
		{
			for (size_t j = 0; j < table->params[i].count; j++)
				sum += (double) model->weights[table->params[i].offset + j] *
					model->weights[table->params[i].offset + j];
			return sqrt(sum / (double) table->params[i].count);
		}
	return NAN;
}

/* Norms begin with ones, biases with zeros. */
static void
check_vectors(const DistilModel *model, const char *what)
{
	for (int i = 0; i < model->spec.table.n; i++)
	{
		const DistilParam *param = &model->spec.table.params[i];
		float		expected = (param->flags & DISTIL_PARAM_ONES) != 0 ? 1.0f : 0.0f;
		int			others = 0;

		for (size_t at = 0; (param->flags & DISTIL_PARAM_NORMAL) == 0 && at < param->count; at++)
		{
			float		value;

			distil_param_read(&value, model->weights, param, at, 1);
			others += value != expected;
		}
		CHECK_MSG(others == 0, "%s, %s: %d others", what, param->name, others);
	}
}

static void
test_create(const char *arch, const char *kind)
{
	static const DistilImportOptions options = {true};
	LoadedModel from;
	LoadedModel made[3];
	DistilError err = {"", "", ""};
	const char *config;

	CHECK(load_head(&from, arch, kind, &err) == DISTIL_OK);
	if (from.model == NULL)
		return;
	config = distil_model_config(from.model);
	for (int i = 0; i < 3; i++)
	{
		DistilCreated *created;

		memset(&made[i], 0, sizeof(made[i]));
		CHECK_MSG(distil_create(&created, config, strlen(config), from.model, i == 2 ? 6 : 5,
								distil_alloc_system(),
								NULL, &err) == DISTIL_OK, "%s %s: %s", arch, kind, err.message);
		if (created != NULL)
			CHECK_MSG(load_folder(&made[i], distil_created_folder(created), &options, &err) == DISTIL_OK,
					  "%s %s: %s %s", arch, kind, err.message, err.detail);
		distil_created_free(created);
	}
	if (made[0].model != NULL && made[1].model != NULL && made[2].model != NULL)
	{
		size_t		bytes = made[0].model->spec.table.total * sizeof(float);
		double		range = 0.02;
		const char *residual = "layer.0.down.weight";
		DistilSession *session = open_session(made[0].model, 0);
		DistilText	text = text_of(head_texts[0]);
		const float *states;
		int			tokens;

		CHECK(memcmp(made[0].model->weights, made[1].model->weights, bytes) == 0);
		CHECK(memcmp(made[0].model->weights, made[2].model->weights, bytes) != 0);
		CHECK(strcmp(distil_model_config(made[0].model), config) == 0);
		/* 3,072 values: the spread of their spread is 1.3 % */
		CHECK_NEAR(spread(made[0].model, "layer.0.qkv.weight") / range, 1, 0.06);
		check_vectors(made[0].model, arch);
		CHECK_NEAR(spread(made[0].model, residual) / range, strcmp(arch, "gpt2") == 0 ? 0.5 : 1, 0.08);
		CHECK(distil_session_hidden(session, &states, &tokens, &text, &err) == DISTIL_OK && tokens > 5);
		for (int i = 0; i < tokens * 32; i++)
			if (!isfinite(states[i]))
			{
				CHECK(isfinite(states[i]));
				break;
			}
		distil_session_free(session);
	}
	for (int i = 0; i < 3; i++)
		load_free(&made[i]);
	load_free(&from);
}

/* DistilBERT's other positions: made with the model, never trained. */
static void
test_sinusoids(void)
{
	static const DistilImportOptions options = {true};
	TestFolder	folder;
	LoadedModel from;
	LoadedModel made;
	DistilCreated *created;
	DistilError err = {"", "", ""};
	Goldens		g;

	memset(&made, 0, sizeof(made));
	if (!compose(&folder, "distilbert", "lm") || !goldens_open(&g, "heads-distilbert.goldens.safetensors"))
		return;
	test_folder_replace(&folder, "config.json", "\"sinusoidal_pos_embds\": false",
						"\"sinusoidal_pos_embds\": true");
	CHECK_MSG(load_folder(&from, &folder.folder, &options, &err) == DISTIL_OK, "%s", err.message);
	CHECK(distil_create(&created, distil_model_config(from.model), strlen(distil_model_config(from.model)),
						from.model, 1, distil_alloc_system(), NULL, &err) == DISTIL_OK);
	if (created != NULL && load_folder(&made, distil_created_folder(created), &options, &err) == DISTIL_OK)
	{
		const DistilSpec *spec = &made.model->spec;
		const DistilParam *position = &spec->table.params[spec->position];

		CHECK((position->flags & DISTIL_PARAM_FROZEN) != 0);
		/* float32 roundings of values up to 1 */
		check_rows(&g, "sinusoids", made.model->weights + position->offset, position->rows, position->cols,
				   1e-7);
	}
	else
		CHECK_MSG(false, "%s", err.message);
	distil_created_free(created);
	load_free(&made);
	load_free(&from);
	goldens_close(&g);
	test_folder_free(&folder);
}

static int32_t
first_id(const DistilModel *model, const char *text)
{
	DistilEncodeOptions options = distil_tokenizer_defaults(model->tokenizer);
	DistilText	input = text_of(text);
	DistilEncoding e;
	DistilError err;
	int32_t		id;

	distil_encoding_init(&e, distil_alloc_system());
	CHECK(distil_tokenizer_encode(model->tokenizer, &e, &input, NULL, &options, NULL, &err) == DISTIL_OK);
	id = e.n > 1 ? e.ids[1] : -1;	/* behind [CLS] */
	distil_encoding_reset(&e);
	return id;
}

/* special_tokens_map.json has the last word, but none beside added_tokens_decoder. */
static void
test_special_map(void)
{
	static const DistilImportOptions options = {true};
	static const char *const settings[] = {
		"{\"tokenizer_class\": \"BertTokenizer\", \"cls_token\": \"[SEP]\", \"eos_token\": \"a token of no "
		"row\"}",
		"{\"tokenizer_class\": \"BertTokenizer\", \"cls_token\": \"[SEP]\", \"added_tokens_decoder\": {}}"
	};
	static const int32_t cls[] = {2, 3};
	TestFolder	folder;
	LoadedModel loaded;
	DistilError err = {"", "", ""};

	for (int i = 0; i < 2 && compose(&folder, "bert", "lm"); i++)
	{
		test_folder_set_text(&folder, "tokenizer_config.json", settings[i]);
		test_folder_set_text(&folder, "special_tokens_map.json", "{\"cls_token\": \"[CLS]\"}");
		CHECK_MSG(load_folder(&loaded, &folder.folder, &options, &err) == DISTIL_OK, "%s", err.message);
		if (loaded.model != NULL)
			CHECK(distil_tokenizer_special(loaded.model->tokenizer)->cls == cls[i]);
		load_free(&loaded);
		test_folder_free(&folder);
	}
}

/* A token that a setting names is special, whatever tokenizer.json says. */
static void
test_named_special(void)
{
	static const DistilImportOptions options = {true};
	TestFolder	folder;
	LoadedModel loaded;
	DistilError err = {"", "", ""};
	int			i;

	for (i = 0; i < 2 && compose(&folder, "bert", "lm"); i++)
	{
		test_folder_replace(&folder, "tokenizer.json", "\"special\": true\n    }\n  ],",
							"\"special\": false\n    }\n  ],");
		test_folder_set_text(&folder, "tokenizer_config.json",
							 i == 0 ? "{\"tokenizer_class\": \"BertTokenizer\"}"
							 : "{\"tokenizer_class\": \"PreTrainedTokenizerFast\", \"mask_token\": "
							   "\"[MASK]\"}");
		CHECK_MSG(load_folder(&loaded, &folder.folder, &options, &err) == DISTIL_OK, "%s", err.message);
		if (loaded.model != NULL)
			CHECK(distil_tokenizer_is_special(loaded.model->tokenizer, 4));	/* [MASK] */
		load_free(&loaded);
		test_folder_free(&folder);
	}
}

/* RoBERTa's and MPNet's language-model heads have GELU, whatever hidden_act is; BERT's has that. */
static void
test_lm_activation(void)
{
	static const DistilImportOptions options = {true};
	static const struct
	{
		const char *family;
		bool		gelu;
	}			cases[] = {{"roberta", true}, {"mpnet", true}, {"bert", false}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		TestFolder	folder;
		LoadedModel made;
		DistilError err = {"", "", ""};

		if (!compose(&folder, cases[i].family, "lm"))
			return;
		test_folder_replace(&folder, "config.json", "\"gelu\"", "\"relu\"");
		CHECK(load_folder(&made, &folder.folder, &options, &err) == DISTIL_OK);
		CHECK(made.model != NULL && made.model->spec.config.activation == DISTIL_ACT_RELU &&
			  made.model->spec.lm.gelu == cases[i].gelu);
		load_free(&made);
		test_folder_free(&folder);
	}
}

/*
 * A student's config.json, and that of a model made from nothing, gives
 * the tokenizer's files the class they had.
 */
static void
test_tokenizer_class(void)
{
	static const DistilImportOptions options = {true};
	static const char named[] = "\"tokenizer_class\": \"PreTrainedTokenizerFast\"";
	DistilArena *arena = distil_arena_create(distil_alloc_system());
	TestFolder	folder;
	LoadedModel from;
	LoadedModel made;
	DistilFolder small;
	DistilCreated *created;
	DistilError err = {"", "", ""};
	char		text[4096] = "";
	const char *config;

	memset(&made, 0, sizeof(made));
	if (!compose(&folder, "bert", "lm"))
		return;
	CHECK(load_folder(&from, &folder.folder, &options, &err) == DISTIL_OK);
	config = strdup(distil_model_config(from.model));
	load_free(&from);
	/* cased, which only a class that takes tokenizer.json as it is leaves */
	test_folder_set_text(&folder, "tokenizer_config.json", "{\"model_max_length\": 64}");
	test_folder_replace(&folder, "tokenizer.json", "\"lowercase\": true", "\"lowercase\": false");
	test_folder_replace(&folder, "config.json", "\"model_type\"",
						"\"tokenizer_class\": \"PreTrainedTokenizerFast\", \"model_type\"");
	CHECK_MSG(load_folder(&from, &folder.folder, &options, &err) == DISTIL_OK, "%s", err.message);
	CHECK(distil_create(&created, config, strlen(config), from.model, 1, distil_alloc_system(), NULL,
						&err) == DISTIL_OK);
	CHECK_MSG(created != NULL && load_folder(&made, distil_created_folder(created), &options,
											 &err) == DISTIL_OK, "%s", err.message);
	if (made.model != NULL)
	{
		CHECK(strstr(distil_model_config(made.model), named) != NULL);
		CHECK(first_id(made.model, "THE") == first_id(from.model, "THE"));
		CHECK(first_id(made.model, "THE") != first_id(made.model, "the"));
	}
	CHECK(distil_student_small_files(&small, from.model, config, strlen(config), arena, &err) == DISTIL_OK);
	CHECK(small.files[0].reader.size < sizeof(text) &&
		  small.files[0].reader.read(small.files[0].reader.ctx, 0, text, small.files[0].reader.size,
									 &err) == DISTIL_OK &&
		  strstr(text, named) != NULL);
	distil_created_free(created);
	distil_arena_free(arena);
	load_free(&made);
	load_free(&from);
	test_folder_free(&folder);
	free((char *) config);
}

static void
test_create_errors(void)
{
	LoadedModel from;
	DistilCreated *created;
	DistilError err = {"", "", ""};
	const char *small = "{\"model_type\": \"bert\", \"vocab_size\": 5, \"hidden_size\": 8, "
						"\"num_attention_heads\": 2}";
	TestAllocator test;
	const char *config;

	CHECK(load_head(&from, "gpt2", "lm", &err) == DISTIL_OK);
	if (from.model == NULL)
		return;
	CHECK(distil_create(&created, small, strlen(small), from.model, 1, distil_alloc_system(), NULL, &err)
		  == DISTIL_ERR_ARGUMENT && created == NULL);
	CHECK(distil_create(&created, "[1]", 3, from.model, 1, distil_alloc_system(), NULL, &err)
		  == DISTIL_ERR_TEXT_FILE && created == NULL);
	config = distil_model_config(from.model);
	for (long fail = 1; fail < 10000; fail++)
	{
		DistilStatus status;

		test_allocator_init(&test, fail);
		status = distil_create(&created, config, strlen(config), from.model, 1, &test.alloc, NULL, &err);
		distil_created_free(created);
		CHECK(test.live == 0);
		if (status == DISTIL_OK)
			break;
		CHECK(status == DISTIL_ERR_MEMORY && created == NULL);
	}
	load_free(&from);
}

int
main(void)
{
	char		message[256] = "";

	device = distil_device_open("cpu", NULL, message, sizeof(message));
	CHECK_MSG(device != NULL, "%s", message);
	if (device == NULL)
		return check_report("heads_config");
	for (int a = 0; a < ARCHITECTURES; a++)
	{
		DistilJsonDoc *facts = facts_of(architectures[a]);

		if (facts != NULL)
			test_changes(architectures[a], distil_json_root(facts));
		distil_json_free(facts);
		test_create(architectures[a], "lm");
		test_create(architectures[a], "sequence");
	}
	test_refused();
	test_refused_everywhere();
	test_same_as_roberta("xlm-roberta", "XLMRoberta");
	test_same_as_roberta("camembert", "Camembert");
	test_head_facts();
	test_missing_head();
	test_old_files("gpt2");
	test_old_files("roberta");
	test_sinusoids();
	test_lm_activation();
	test_tokenizer_class();
	test_special_map();
	test_named_special();
	test_create_errors();
	device->ops->close(device);
	return check_report("heads_config");
}
