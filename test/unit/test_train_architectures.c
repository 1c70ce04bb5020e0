/*
 * test_train_architectures.c
 *		Teachers of every architecture: a student with all layers and no step is its teacher, a
 *		smaller one learns, its folder is a model like any other.
 */
#include "heads_fixture.h"
#include "train_fixture.h"

/* The loss of the first and the last steps; *student is the model the trainer made. */
static void
train(Fixture *student, double *early, double *late, const DistilModel *teacher, const char *method,
	  const char *json)
{
	DistilTrainOptions options = fixture_options(teacher, method, json);
	DistilError err = {{0}, {0}, {0}};
	DistilTrainReport report;
	const DistilFolder *folder;
	DistilTrainer *trainer;
	void	   *spool;
	size_t		size;

	*early = *late = 0;
	fixture_spool(&spool, &size, teacher, &options, 60);
	MUST(distil_trainer_create(&trainer, teacher, &options, spool, size, &device, 1, distil_alloc_system(),
							   NULL, &err));
	while (!distil_trainer_done(trainer))
	{
		MUST(distil_trainer_step(trainer, &report, &err));
		if (report.step <= 4)
			*early += report.loss / 4;
		if (report.step > report.steps - 4)
			*late += report.loss / 4;
	}
	MUST(distil_trainer_student(trainer, &folder, &err));
	fixture_from_folder(student, folder);
	distil_trainer_free(trainer);
	free(spool);
}

static double
embedding_difference(const DistilModel *a, const DistilModel *b)
{
	DistilText	text = text_of(head_texts[1]);
	const DistilModel *models[2] = {a, b};
	float		out[2][32];
	DistilError err = {"", "", ""};
	bool		has;

	for (int i = 0; i < 2; i++)
	{
		DistilSession *session = open_session(models[i], 0);

		CHECK(distil_session_embed(session, out[i], &has, &text, 1, -1, &err) == DISTIL_OK && has);
		distil_session_free(session);
	}
	return largest_difference(out[0], out[1], 32);
}

static void
test_method(const char *arch, const char *method)
{
	Fixture		teacher;
	Fixture		student;
	double		early;
	double		late;

	fixture_open_head(&teacher, arch, "lm");
	train(&student, &early, &late, teacher.model, method,
		  "{\"layers\": 2, \"max_steps\": 0, \"max_tokens\": 40}");
	CHECK(strcmp(distil_model_info(student.model)->architecture,
				 distil_model_info(teacher.model)->architecture)
		  == 0 || strcmp(arch, "bert") == 0);
	/* BERT's student adds the segment's row to the positions: another order of three sums */
	CHECK_MSG(embedding_difference(student.model, teacher.model) <= 1e-5, "%s %s: %g", arch, method,
			  embedding_difference(student.model, teacher.model));
	fixture_close(&student);
	train(&student, &early, &late, teacher.model, method,
		  "{\"layers\": 1, \"max_steps\": 40, \"max_tokens\": 40, "
		  "\"batch_size\": 8, \"learning_rate\": 0.005, \"seed\": 3}");
	CHECK_MSG(late < 0.9 * early, "%s %s: loss %g -> %g", arch, method, early, late);
	CHECK(distil_model_info(student.model)->layers == 1);
	fixture_close(&student);
	fixture_close(&teacher);
}

int
main(void)
{
	device = fixture_device("cpu");
	for (int a = 0; a < ARCHITECTURES; a++)
	{
		test_method(architectures[a], "embedding");
		test_method(architectures[a], "triple");
	}
	device->ops->close(device);
	return check_report("train_architectures");
}
