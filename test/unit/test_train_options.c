/*
 * test_train_options.c
 *		Defaults, types, ranges, names, messages, and the round trip of training options.
 */
#include "check.h"
#include "student.h"
#include "train_fixture.h"

static Fixture mlm;
static Fixture sentence;
static Fixture causal;

static DistilStatus
parse(DistilTrainOptions *options, const DistilModel *model, const char *method, const char *json,
	  DistilError *err)
{
	memset(err, 0, sizeof(*err));
	return distil_train_options_parse(options, method, json, strlen(json), model, distil_alloc_system(), err);
}

static void
test_defaults(void)
{
	DistilTrainOptions o;
	DistilError err;

	CHECK(parse(&o, mlm.model, NULL, "{}", &err) == DISTIL_OK);
	CHECK(o.method == DISTIL_METHOD_TRIPLE);
	CHECK(o.alpha_ce == 5 && o.alpha_mlm == 2 && o.alpha_clm == 0 && o.alpha_cos == 1 && o.alpha_mse == 0);
	CHECK(o.temperature == 2 && o.mlm_mask_prop == 0.15 && o.word_mask == 0.8 && o.word_keep == 0.1);
	CHECK(o.word_rand == 0.1 && o.mlm_smoothing == 0.7 && !o.restrict_ce_to_mask);
	CHECK(o.learning_rate == 5e-4 && o.warmup_prop == 0.05 && o.weight_decay == 0 && o.adam_beta1 == 0.9);
	CHECK(o.adam_beta2 == 0.98 && o.adam_epsilon == 1e-6 && o.max_grad_norm == 5 && o.batch_size == 5);
	CHECK(o.gradient_accumulation_steps == 50 && o.epochs == 3 && o.max_steps == -1 && o.seed == 56);
	CHECK(o.nlayers == 1 && o.layers[0] == 1 && o.max_tokens == 64);	/* half of 2: the last */
	CHECK(strcmp(o.device, "auto") == 0 && o.gpus == 1);

	CHECK(parse(&o, sentence.model, NULL, "{}", &err) == DISTIL_OK);
	CHECK(o.method == DISTIL_METHOD_EMBEDDING);
	CHECK(o.batch_size == 64 && o.gradient_accumulation_steps == 1 && o.learning_rate == 5e-4 &&
		  o.epochs == 1);
	CHECK(parse(&o, causal.model, NULL, "{}", &err) == DISTIL_OK);
	CHECK(o.method == DISTIL_METHOD_TRIPLE && o.causal && o.alpha_clm == 2 && o.alpha_mlm == 0 &&
		  o.alpha_ce == 5);
	CHECK(!o.freeze_pos_embs && o.batch_size == 5 && o.temperature == 2);
	CHECK(parse(&o, causal.model, "embedding", "", &err) == DISTIL_OK);
	CHECK(o.method == DISTIL_METHOD_EMBEDDING && !o.causal);
	CHECK(parse(&o, mlm.model, "embedding", "", &err) == DISTIL_OK);
	CHECK(o.method == DISTIL_METHOD_EMBEDDING);
}

static void
test_layers(void)
{
	static const int original[] = {0, 2, 4, 7, 9, 11};
	static const int three_of_six[] = {0, 2, 5};
	static const int four_of_twelve[] = {0, 3, 7, 11};
	int			layers[DISTIL_MAX_LAYERS];
	int			n;

	distil_student_layers(layers, 6, 12, DISTIL_METHOD_TRIPLE);
	CHECK(memcmp(layers, original, sizeof(original)) == 0);
	distil_student_layers(layers, 3, 6, DISTIL_METHOD_EMBEDDING);
	CHECK(memcmp(layers, three_of_six, sizeof(three_of_six)) == 0);
	distil_student_layers(layers, 4, 12, DISTIL_METHOD_TRIPLE);
	CHECK(memcmp(layers, four_of_twelve, sizeof(four_of_twelve)) == 0);
	distil_student_layers(layers, 1, 12, DISTIL_METHOD_EMBEDDING);
	CHECK(layers[0] == 11);
	for (n = 2; n <= 24; n++)
	{
		int			i;

		distil_student_layers(layers, n, 24, DISTIL_METHOD_EMBEDDING);
		CHECK(layers[0] == 0 && layers[n - 1] == 23);
		for (i = 1; i < n; i++)
			CHECK(layers[i] > layers[i - 1]);
	}
}

static void
test_values(void)
{
	DistilTrainOptions o;
	DistilError err;

	CHECK(parse(&o, mlm.model, "triple",
				"{\"layers\": 2, \"batch_size\": 7, \"learning_rate\": 1, \"epochs\": 0.5,"
				"\"restrict_ce_to_mask\": true, \"device\": \"cpu\", \"seed\": -3,"
				" \"max_steps\": 12, \"threads\": 2.0}", &err) == DISTIL_OK);
	CHECK(o.nlayers == 2 && o.layers[0] == 0 && o.layers[1] == 1 && o.batch_size == 7 &&
		  o.learning_rate == 1);
	CHECK(o.epochs == 0.5 && o.restrict_ce_to_mask && o.seed == -3 && o.max_steps == 12 && o.threads == 2);
	CHECK(strcmp(o.device, "cpu") == 0);
	CHECK(parse(&o, mlm.model, "triple", "{\"layers\": [1, 0]}", &err) == DISTIL_OK);
	CHECK(o.nlayers == 2 && o.layers[0] == 1 && o.layers[1] == 0);
	CHECK(parse(&o, mlm.model, "triple", "{\"n_epoch\": 7, \"group_by_size\": false}", &err) == DISTIL_OK);
	CHECK(o.epochs == 7 && !o.group_by_size && !o.freeze_token_type_embds);
	CHECK(parse(&o, sentence.model, NULL, "{\"freeze_token_type_embds\": true}", &err) == DISTIL_OK);
	CHECK(o.freeze_token_type_embds && !o.group_by_size);
	CHECK(distil_train_check(sentence.model, &o, distil_alloc_system(), &err) == DISTIL_OK);
	/* a DistilBERT has none */
	CHECK(parse(&o, mlm.model, "triple", "{\"freeze_token_type_embds\": true}", &err) == DISTIL_OK);
	CHECK(distil_train_check(mlm.model, &o, distil_alloc_system(), &err) == DISTIL_ERR_ARGUMENT);
	CHECK(strstr(err.message, "\"freeze_token_type_embds\" does not apply") != NULL);
	CHECK(parse(&o, mlm.model, "triple", "{\"layers\": 2.0}", &err) == DISTIL_OK);
	CHECK(o.nlayers == 2 && o.layers[0] == 0 && o.layers[1] == 1);
	CHECK(parse(&o, mlm.model, "triple", "{\"layers\": [1.0]}", &err) == DISTIL_OK);
	CHECK(o.nlayers == 1 && o.layers[0] == 1);
}

typedef struct BadCase
{
	const char *method;
	const char *json;
	DistilStatus status;
	const char *says;			/* part of the message, detail or hint */
} BadCase;

static void
test_errors(void)
{
	static const BadCase cases[] = {
		{"triple", "{\"alpha_kl\": 1}", DISTIL_ERR_ARGUMENT, "unknown option \"alpha_kl\""},
		{"triple", "{\"alpha_kl\": 1}", DISTIL_ERR_ARGUMENT, "checkpoint_seconds, device, gpus."},
		{"embedding", "{\"alpha_ce\": 1}", DISTIL_ERR_ARGUMENT, "does not apply to method \"embedding\""},
		{"triple", "{\"dtype\": \"float8\"}", DISTIL_ERR_ARGUMENT, "auto, float32, bfloat16"},
		{"triple", "{\"dimensions\": 128}", DISTIL_ERR_UNSUPPORTED, "\"dimensions\""},
		{"triple", "{\"alpha_clm\": 1}", DISTIL_ERR_ARGUMENT,
		"\"alpha_clm\" does not apply to a masked-LM teacher"},
		{"triple", "{\"alpha_clm\": 0.0}", DISTIL_OK, ""},
		{"causal", "{\"alpha_mlm\": 1}", DISTIL_ERR_ARGUMENT,
		"\"alpha_mlm\" does not apply to a causal teacher"},
		{"causal", "{\"alpha_mlm\": 0, \"alpha_clm\": 1}", DISTIL_OK, ""},
		{"causal", "{\"mlm_mask_prop\": 0.1}", DISTIL_ERR_ARGUMENT, "does not apply to a causal teacher"},
		{"causal", "{\"restrict_ce_to_mask\": true}", DISTIL_ERR_ARGUMENT,
		"does not apply to a causal teacher"},
		{"causal", "{\"word_keep\": 0.1}", DISTIL_ERR_ARGUMENT,
		"alpha_clm, alpha_cos, alpha_mse, temperature, layers"},
		{"causal", "{\"alpha_ce\": 0, \"alpha_clm\": 0, \"alpha_cos\": 0}", DISTIL_ERR_ARGUMENT,
		"at least one"},
		{"triple", "{\"alpha_ce\": \"5\"}", DISTIL_ERR_ARGUMENT, "\"alpha_ce\" has the wrong type"},
		{"triple", "{\"alpha_ce\": null}", DISTIL_ERR_ARGUMENT, "\"alpha_ce\" has the wrong type"},
		{"triple", "{\"alpha_ce\": -1}", DISTIL_ERR_ARGUMENT, "\"alpha_ce\" is out of range"},
		{"triple", "{\"alpha_ce\": -1}", DISTIL_ERR_ARGUMENT, "The value is -1, allowed is 0 to 1000000."},
		{"triple", "{\"alpha_ce\": 0, \"alpha_mlm\": 0, \"alpha_cos\": 0}",
		DISTIL_ERR_ARGUMENT, "at least one"},
		{"triple", "{\"batch_size\": 0}", DISTIL_ERR_ARGUMENT, "batch_size"},
		{"triple", "{\"batch_size\": 1.5}", DISTIL_ERR_ARGUMENT, "It must be an integer."},
		{"triple", "{\"batch_size\": 1e300}", DISTIL_ERR_ARGUMENT, "out of range"},
		{"triple", "{\"layers\": 3}", DISTIL_ERR_ARGUMENT, "allowed is 1 to 2"},
		{"triple", "{\"layers\": 0}", DISTIL_ERR_ARGUMENT, "out of range"},
		{"triple", "{\"epochs\": 1, \"n_epoch\": 1}", DISTIL_ERR_ARGUMENT, "are the same"},
		{"embedding", "{\"group_by_size\": true}", DISTIL_ERR_ARGUMENT,
		"does not apply to method \"embedding\""},
		{"causal", "{\"freeze_token_type_embds\": true}", DISTIL_ERR_ARGUMENT,
		"does not apply to a causal teacher"},
		{"triple", "{\"layers\": 1.5}", DISTIL_ERR_ARGUMENT, "a number of layers or the list"},
		{"triple", "{\"layers\": 1e300}", DISTIL_ERR_ARGUMENT, "out of range"},
		{"triple", "{\"layers\": [0.5]}", DISTIL_ERR_ARGUMENT, "a number of layers or the list"},
		{"triple", "{\"layers\": []}", DISTIL_ERR_ARGUMENT, "out of range"},
		{"triple", "{\"layers\": [0, 2]}", DISTIL_ERR_ARGUMENT, "the teacher has layers 0 to 1"},
		{"triple", "{\"layers\": [0, \"1\"]}", DISTIL_ERR_ARGUMENT, "wrong type"},
		{"triple", "{\"layers\": \"all\"}", DISTIL_ERR_ARGUMENT, "wrong type"},
		{"triple", "{\"word_mask\": 0.9}", DISTIL_ERR_ARGUMENT, "must sum to 1"},
		{"triple", "{\"mlm_mask_prop\": 0}", DISTIL_ERR_ARGUMENT, "mlm_mask_prop"},
		{"triple", "{\"device\": \"tpu\"}", DISTIL_ERR_ARGUMENT, "auto, cpu, cuda"},
		{"triple", "{\"gpus\": 2, \"device\": \"cpu\"}", DISTIL_ERR_ARGUMENT, "\"gpus\" does not apply"},
		{"triple", "{\"gpus\": 17}", DISTIL_ERR_ARGUMENT, "1 to 16"},
		{"triple", "{\"gpus\": 0}", DISTIL_ERR_ARGUMENT, "1 to 16"},
		{"triple", "{\"max_tokens\": 65}", DISTIL_ERR_ARGUMENT, "allowed is 4 to 64"},
		{"triple", "{\"restrict_ce_to_mask\": 1}", DISTIL_ERR_ARGUMENT, "true or false"},
		{"triple", "{\"epochs\": 0}", DISTIL_ERR_ARGUMENT, "epochs"},
		{"triple", "{\"temperature\": 0}", DISTIL_ERR_ARGUMENT, "temperature"},
		{"triple", "[1]", DISTIL_ERR_ARGUMENT, "JSON object"},
		{"triple", "{\"alpha_ce\": 1, \"alpha_ce\": 2}", DISTIL_ERR_TEXT_FILE, ""},
		{"triple", "{\"alpha_ce\":", DISTIL_ERR_TEXT_FILE, "training options"},
		{"triple", "1", DISTIL_ERR_ARGUMENT, "training options must be a JSON object"},
		{"static", "{}", DISTIL_ERR_UNSUPPORTED, "\"static\""},
		{"quadruple", "{}", DISTIL_ERR_ARGUMENT, "triple, embedding"},
		{"tri\001ple", "{}", DISTIL_ERR_ARGUMENT, "unknown training method"},
	};
	DistilTrainOptions o;
	DistilError err;
	size_t		i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		bool		is_causal = strcmp(cases[i].method, "causal") == 0;
		DistilStatus status = parse(&o, is_causal ? causal.model : mlm.model,
									is_causal ? "triple" : cases[i].method, cases[i].json, &err);
		char		all[1600];

		snprintf(all, sizeof(all), "%s|%s|%s", err.message, err.detail, err.hint);
		CHECK_MSG(status == cases[i].status, "%s: status %d, %s", cases[i].json, status, all);
		CHECK_MSG(strstr(all, cases[i].says) != NULL, "%s: %s", cases[i].json, all);
		CHECK(strchr(err.message, '\001') == NULL);
	}
	CHECK(parse(&o, sentence.model, "triple", "{}", &err) == DISTIL_ERR_STATE);
}

/* What is written parses back to the same structure, and is written the same again. */
static void
test_round_trip(void)
{
	static const char *const given[][2] = {
		{"triple", "{}"},
		{"triple", "{\"layers\": [1, 0], \"learning_rate\": 0.1, \"epochs\": 0.3333333333333333,"
		"\"seed\": 123456789012345,"
		"\"temperature\": 3.7, \"device\": \"cuda\", \"gpus\": 4, \"max_steps\": 0, \"deterministic\": "
		"false}"},
		{"embedding", "{\"eval_fraction\": 0.07, \"adam_epsilon\": 1e-10}"},
		{"causal", "{\"alpha_clm\": 0.5, \"temperature\": 1}"},
	};
	size_t		i;

	for (i = 0; i < sizeof(given) / sizeof(given[0]); i++)
	{
		bool		is_causal = strcmp(given[i][0], "causal") == 0;
		const DistilModel *model = is_causal ? causal.model : mlm.model;
		const char *method = is_causal ? "triple" : given[i][0];
		DistilTrainOptions a;
		DistilTrainOptions b;
		DistilError err;
		char	   *first;
		char	   *second;

		CHECK(parse(&a, model, method, given[i][1], &err) == DISTIL_OK);
		CHECK(distil_train_options_write(&first, &a, distil_alloc_system(), &err) == DISTIL_OK);
		CHECK_MSG(parse(&b, model, method, first, &err) == DISTIL_OK, "%s: %s", first, err.message);
		CHECK(memcmp(&a, &b, sizeof(a)) == 0);
		CHECK(distil_train_options_write(&second, &b, distil_alloc_system(), &err) == DISTIL_OK);
		CHECK(strcmp(first, second) == 0);
		distil_release(distil_alloc_system(), first);
		distil_release(distil_alloc_system(), second);
	}
}

int
main(void)
{
	fixture_open(&mlm, "test/golden/models/bert-mlm");
	fixture_open(&sentence, "test/golden/models/bert-sentence");
	fixture_open_head(&causal, "gpt2", "lm");
	test_defaults();
	test_layers();
	test_values();
	test_errors();
	test_round_trip();
	fixture_close(&mlm);
	fixture_close(&sentence);
	fixture_close(&causal);
	return check_report("train_options");
}
