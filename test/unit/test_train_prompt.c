/*
 * test_train_prompt.c
 *		Method embedding with a default prompt: the vectors learnt from are those the teacher gives in use.
 */
#include "train.h"
#include "train_fixture.h"

#define TEXTS 24

/* The sentence model with a default prompt, whose tokens are pooled or not. */
static void
open_teacher(Fixture *teacher, const char *prompt_name, const char *include_prompt)
{
	TestFolder	folder;

	CHECK(test_folder_load(&folder, "test/golden/models/bert-sentence"));
	test_folder_replace(&folder, "config_sentence_transformers.json", "\"default_prompt_name\": null",
						prompt_name);
	test_folder_replace(&folder, "1_Pooling/config.json", "\"include_prompt\": true", include_prompt);
	fixture_from_folder(teacher, &folder.folder);
	test_folder_free(&folder);
}

/* As an application gets it. */
static void
embed(const DistilModel *model, DistilDevice *device, float *out, int number)
{
	DistilSession *session;
	DistilError err = {{0}, {0}, {0}};
	DistilText	text;
	char		words[1000];
	bool		has;
	int			prompt;

	fixture_sentence(words, sizeof(words), number);
	text = (DistilText) {words, strlen(words)};
	MUST(distil_session_create(&session, model, device, (size_t) 16 << 20, distil_alloc_system(), NULL,
							   &err));
	MUST(distil_model_prompt(model, &prompt, NULL, &err));
	MUST(distil_session_embed(session, out, &has, &text, 1, prompt, &err));
	CHECK(has);
	distil_session_free(session);
}

static void
test_teacher_vectors(const char *prompt_name, const char *include_prompt, int skip, int first_word)
{
	DistilDevice *device = fixture_device("cpu");
	DistilError err = {{0}, {0}, {0}};
	DistilTrainer *trainer;
	DistilTrainOptions options;
	DistilTrainReport report;
	const DistilFolder *folder;
	Fixture		teacher;
	double		before = 0;
	void	   *spool;
	size_t		size;
	size_t		d;
	int			i;
	int			k;

	open_teacher(&teacher, prompt_name, include_prompt);
	d = (size_t) distil_model_info(teacher.model)->dimensions;
	/* all layers: the student begins as its teacher */
	options = fixture_options(teacher.model, "embedding",
							  "{\"layers\": 2, \"batch_size\": 8, \"epochs\": 2, \"learning_rate\": 0}");
	fixture_spool(&spool, &size, teacher.model, &options, TEXTS);
	MUST(distil_trainer_create(&trainer, teacher.model, &options, spool, size, &device, 1,
							   distil_alloc_system(), NULL, &err));
	CHECK_MSG(trainer->spool.skip == skip, "skip %d", trainer->spool.skip);
	CHECK(trainer->cache.enabled && trainer->ntrain == TEXTS);
	for (i = 0; i < TEXTS; i++)
		CHECK(trainer->spool.ids[trainer->spool.starts[i] + (uint64_t) first_word] ==
			  trainer->spool.ids[trainer->spool.starts[0] + (uint64_t) first_word] || first_word == 0);
	while (!distil_trainer_done(trainer))
	{
		MUST(distil_trainer_step(trainer, &report, &err));
		CHECK_MSG(report.loss < 1e-10, "loss %g", report.loss);
	}
	for (i = 0; i < TEXTS; i++)
	{
		float		expected[512];

		embed(teacher.model, device, expected, i);
		for (k = 0; k < (int) d; k++)
			CHECK_NEAR(trainer->cache.vectors[(size_t) i * d + (size_t) k], expected[k], 1e-5);
	}
	distil_trainer_free(trainer);

	/* and it learns with them */
	options = fixture_options(teacher.model, "embedding",
							  "{\"layers\": 1, \"batch_size\": 8, \"epochs\": 20, \"learning_rate\": 0.003}");
	MUST(distil_trainer_create(&trainer, teacher.model, &options, spool, size, &device, 1,
							   distil_alloc_system(), NULL, &err));
	while (!distil_trainer_done(trainer))
	{
		MUST(distil_trainer_step(trainer, &report, &err));
		if (report.step == 1)
			before = report.loss;
	}
	CHECK_MSG(report.loss < before / 4, "loss %g, then %g", before, report.loss);
	/* the student has the prompts too */
	MUST(distil_trainer_student(trainer, &folder, &err));
	CHECK(distil_folder_find(folder, "config_sentence_transformers.json") != NULL);
	CHECK(distil_folder_find(folder, "1_Pooling/config.json") != NULL);
	distil_trainer_free(trainer);
	free(spool);
	device->ops->close(device);
	fixture_close(&teacher);
}

/* A text that has no token of its own teaches nothing. */
static void
test_blank(void)
{
	static const char *const texts[] = {"", "  \n ", "cat", "the"};
	DistilError err = {{0}, {0}, {0}};
	DistilTrainOptions options;
	DistilSpoolView view;
	DistilBuffer buffer;
	DistilSink	sink = {fixture_write, &buffer};
	DistilSpool *spool;
	Fixture		teacher;
	size_t		i;

	open_teacher(&teacher, "\"default_prompt_name\": \"passage\"", "\"include_prompt\": false");
	options = fixture_options(teacher.model, "embedding", "{\"max_tokens\": 11}");
	distil_buffer_init(&buffer, distil_alloc_system());
	MUST(distil_spool_create(&spool, teacher.model, &options, &sink, distil_alloc_system(), NULL, &err));
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		DistilText	text = {texts[i], strlen(texts[i])};

		MUST(distil_spool_add(spool, &text, &err));
	}
	MUST(distil_spool_finish(spool, &err));
	MUST(distil_spool_view(&view, buffer.data, buffer.length, DISTIL_METHOD_EMBEDDING,
						   distil_model_info(teacher.model)->vocabulary, 11, NULL, &err));
	CHECK(view.info.texts == 4 && view.info.sequences == 2);
	distil_spool_free(spool);
	distil_buffer_free(&buffer);
	fixture_close(&teacher);
}

/* What cannot be trained is known before a corpus is read. */
static void
test_check(const char *file, const char *from, const char *to, const char *json, DistilStatus expected,
		   const char *says)
{
	DistilTrainOptions options;
	DistilError err = {{0}, {0}, {0}};
	TestFolder	folder;
	Fixture		teacher;
	DistilStatus status;

	CHECK(test_folder_load(&folder, "test/golden/models/bert-sentence"));
	test_folder_replace(&folder, "tokenizer.json", "\"lowercase\": true", "\"lowercase\": false");
	test_folder_replace(&folder, "tokenizer_config.json", "\"do_lower_case\": true",
						"\"do_lower_case\": false");
	test_folder_replace(&folder, "config_sentence_transformers.json", "\"default_prompt_name\": null",
						"\"default_prompt_name\": \"passage\"");
	test_folder_replace(&folder, file, from, to);
	fixture_from_folder(&teacher, &folder.folder);
	options = fixture_options(teacher.model, "embedding", json);
	status = distil_train_check(teacher.model, &options, distil_alloc_system(), &err);
	CHECK_MSG(status == expected, "%d: %s", status, err.message);
	CHECK_MSG(strstr(err.message, says) != NULL, "%s", err.message);
	fixture_close(&teacher);
	test_folder_free(&folder);
}

static void
test_checks(void)
{
	const char *pooling = "1_Pooling/config.json";
	const char *mean = "\"mean\",\n    \"include_prompt\": true";
	const char *weighted = "\"weightedmean\", \"include_prompt\": false";

	test_check(pooling, mean, mean, "{}", DISTIL_OK, "");
	test_check("sentence_bert_config.json", "{", "{\"do_lower_case\": true, ", "{}", DISTIL_OK, "");
	test_check(pooling, mean, weighted, "{}", DISTIL_ERR_UNSUPPORTED,
			   "pooling \"weightedmean\" without the prompt is not supported");
	test_check(pooling, mean, weighted, "{\"max_steps\": 0}", DISTIL_OK, "");
}

int
main(void)
{
	test_teacher_vectors("\"default_prompt_name\": null", "\"include_prompt\": false", 0, 0);
	test_teacher_vectors("\"default_prompt_name\": \"passage\"", "\"include_prompt\": true", 0, 8);
	test_teacher_vectors("\"default_prompt_name\": \"passage\"", "\"include_prompt\": false", 9, 8);
	test_blank();
	test_checks();
	return check_report("train_prompt");
}
