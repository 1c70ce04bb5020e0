/*
 * test_train_rounds.c
 *		What large models and batches make a training do in parts comes out as if it were done at once: logits
 *		some rows at a time, and an update, or an evaluation, in several rounds.
 */
#include "train.h"
#include "train_fixture.h"

#define TEXTS 200
#define STEPS 3
#define BATCH 32

typedef struct Outcome
{
	DistilTrainReport report;
	float	   *weights;		/* to be freed */
	size_t		count;
	int			watched;
	double		done;			/* as last told */
} Outcome;

/* A DistilTrainWatchFn */
static DistilStatus
watch(void *ctx, double done, int64_t tokens, DistilError *err)
{
	Outcome    *outcome = ctx;

	(void) err;
	CHECK(done > 0 && done < 1 && tokens >= 0);
	outcome->watched++;
	outcome->done = done;
	return DISTIL_OK;
}

/* logits_rows, max_sequences: at most so many at a time; 0: as many as there is room for. */
static Outcome
train(const FixtureJob *job, int logits_rows, int max_sequences)
{
	Outcome		outcome = {.watched = 0};
	DistilDevice *device = fixture_device("cpu");
	DistilTrainer *trainer;
	DistilError err = {{0}, {0}, {0}};

	MUST(distil_trainer_create(&trainer, job->teacher.model, &job->options, job->spool, job->spool_size,
							   &device, 1, distil_alloc_system(), NULL, &err));
	CHECK(logits_rows < trainer->logits_rows && max_sequences < trainer->round.max_sequences);
	if (logits_rows > 0)
		trainer->logits_rows = logits_rows;
	if (max_sequences > 0)
		trainer->round.max_sequences = max_sequences;
	if (!job->options.causal)
		CHECK(trainer->masking.proportion == job->options.mlm_mask_prop &&
			  trainer->masking.word_mask == job->options.word_mask &&
			  trainer->masking.word_keep == job->options.word_keep);
	distil_trainer_watch(trainer, watch, &outcome);
	while (!distil_trainer_done(trainer))
		MUST(distil_trainer_step(trainer, &outcome.report, &err));
	CHECK(outcome.report.step == STEPS);
	/* so early the held-out part's loss is about that of the rest; nothing of the update is in it */
	CHECK_NEAR(outcome.report.eval_loss, outcome.report.loss, 0.2 * outcome.report.loss);
	outcome.count = trainer->student.table.total;
	outcome.weights = malloc(outcome.count * sizeof(float));
	memcpy(outcome.weights, trainer->copies[0].weights, outcome.count * sizeof(float));
	distil_trainer_free(trainer);
	device->ops->close(device);
	return outcome;
}

/* The same sums in another order: 1e-7 of a weight or a loss for each of some hundred terms. */
static void
check_same(const char *what, const Outcome *a, const Outcome *b)
{
	double		worst = 0;

	for (size_t i = 0; i < a->count; i++)
		worst = check_worse(worst, fabs(a->weights[i] - b->weights[i]));
	CHECK_MSG(worst < 1e-5, "%s: weights differ by %g", what, worst);
	CHECK_NEAR(a->report.loss, b->report.loss, 1e-6 * a->report.loss);
	CHECK_NEAR(a->report.loss_ce, b->report.loss_ce, 1e-6 * a->report.loss);
	CHECK_NEAR(a->report.loss_cos, b->report.loss_cos, 1e-6 * a->report.loss);
	CHECK_NEAR(a->report.eval_loss, b->report.eval_loss, 1e-6 * a->report.loss);
	CHECK_NEAR(a->report.gradient_norm, b->report.gradient_norm, 1e-4 * a->report.gradient_norm);
	CHECK(a->report.tokens == b->report.tokens);
}

static void
test_parts(const char *arch, const char *json, bool rounds)
{
	FixtureJob	job;
	Outcome		whole;
	Outcome		parts;
	char		what[80];

	fixture_open_job(&job, arch, "triple", json, TEXTS);
	whole = train(&job, 0, 0);
	parts = train(&job, 7, 0);
	snprintf(what, sizeof(what), "%s: logits of 7 rows at a time", arch);
	check_same(what, &whole, &parts);
	CHECK(whole.watched == 0 && parts.watched == 0);
	free(parts.weights);
	if (rounds)
	{
		parts = train(&job, 0, BATCH);
		snprintf(what, sizeof(what), "%s: rounds of one batch", arch);
		check_same(what, &whole, &parts);
		/* between the batches of an update */
		CHECK(parts.watched == STEPS * (job.options.gradient_accumulation_steps - 1));
		CHECK_NEAR(parts.done, 2.0 / 3, 1e-12);
		free(parts.weights);
	}
	free(whole.weights);
	fixture_close_job(&job);
}

int
main(void)
{
	static const char json[] =
		"{\"layers\": 1, \"batch_size\": 32, \"gradient_accumulation_steps\": 3, \"max_steps\": 3,"
		"\"learning_rate\": 0.001, \"eval_fraction\": 0.4, \"alpha_mse\": 0.01}";

	test_parts("albert", json, true);	/* without dropout, which goes by the place in a round */
	test_parts("gpt2", json, false);
	return check_report("train_rounds");
}
