/*
 * test_train.c
 *		Whole trainings on tiny models: curves, resuming to the bit, cancelling, threads,
 *		hostile checkpoints, students as folders.
 */
#include "check.h"
#include "train.h"
#include "train_fixture.h"

#define TEXTS 120

typedef struct Job
{
	Fixture		teacher;
	DistilTrainOptions options;
	void	   *spool;
	size_t		spool_size;
	DistilDevice *devices[3];
	DistilTrainer *trainer;
} Job;

static const char triple_json[] =
"{\"layers\": 1, \"batch_size\": 4, \"gradient_accumulation_steps\": 3, \"epochs\": 0.6,"
"\"learning_rate\": 0.003,"
"\"eval_fraction\": 0.1, \"alpha_mse\": 0.01}";
static const char embedding_json[] =
"{\"layers\": 1, \"batch_size\": 16, \"epochs\": 2, \"learning_rate\": 0.003, \"eval_fraction\": 0.1}";

/* method "causal": triple with a causal teacher */
static void
open_job(Job *job, const char *method, const char *json, int ndevices)
{
	DistilError err = {{0}, {0}, {0}};
	int			i;

	if (strcmp(method, "causal") == 0)
		fixture_open_head(&job->teacher, "gpt2", "lm");
	else
		fixture_open(&job->teacher, strcmp(method, "triple") == 0 ? "test/golden/models/bert-mlm"
					 : "test/golden/models/bert-sentence");
	job->options = fixture_options(job->teacher.model, strcmp(method, "causal") == 0 ? "triple" : method,
								   json);
	fixture_spool(&job->spool, &job->spool_size, job->teacher.model, &job->options, TEXTS);
	for (i = 0; i < 3; i++)
		job->devices[i] = fixture_device("cpu");
	MUST(distil_trainer_create(&job->trainer, job->teacher.model, &job->options, job->spool, job->spool_size,
							   job->devices, ndevices, distil_alloc_system(), NULL, &err));
}

static void
reopen_trainer(Job *job, int ndevices, const DistilPoll *poll)
{
	DistilError err = {{0}, {0}, {0}};

	distil_trainer_free(job->trainer);
	MUST(distil_trainer_create(&job->trainer, job->teacher.model, &job->options, job->spool, job->spool_size,
							   job->devices, ndevices, distil_alloc_system(), poll, &err));
}

static void
close_job(Job *job)
{
	int			i;

	distil_trainer_free(job->trainer);
	for (i = 0; i < 3; i++)
		job->devices[i]->ops->close(job->devices[i]);
	free(job->spool);
	fixture_close(&job->teacher);
}

static DistilTrainReport
run_to_end(DistilTrainer *trainer)
{
	DistilTrainReport report = {0};
	DistilError err = {{0}, {0}, {0}};

	while (!distil_trainer_done(trainer))
		MUST(distil_trainer_step(trainer, &report, &err));
	return report;
}

/* Weights and moments, to be freed. */
static float *
all_blocks(DistilTrainer *trainer, size_t *count)
{
	size_t		total = trainer->student.table.total;
	float	   *copy = malloc(3 * total * sizeof(float));

	memcpy(copy, trainer->copies[0].weights, total * sizeof(float));
	memcpy(copy + total, trainer->copies[0].moment1, total * sizeof(float));
	memcpy(copy + 2 * total, trainer->copies[0].moment2, total * sizeof(float));
	*count = 3 * total;
	return copy;
}

static void
save(DistilTrainer *trainer, DistilBuffer *buffer)
{
	DistilSink	sink = {fixture_write, buffer};
	DistilError err = {{0}, {0}, {0}};

	distil_buffer_init(buffer, distil_alloc_system());
	MUST(distil_trainer_save(trainer, &sink, &err));
}

/* The loss falls; reports hold what they say. */
static void
test_curve(const char *method, const char *json, double factor)
{
	Job			job;
	DistilTrainReport report;
	DistilTrainReport first;
	DistilError err = {{0}, {0}, {0}};
	double		early = 0;
	double		late = 0;
	int64_t		steps;
	int			evals = 0;
	int64_t		last_tokens = 0;

	open_job(&job, method, json, 1);
	steps = job.trainer->schedule.updates;
	CHECK(steps >= 12);
	MUST(distil_trainer_step(job.trainer, &first, &err));
	CHECK(first.step == 1 && first.steps == steps && first.learning_rate == 0);
	while (!distil_trainer_done(job.trainer))
	{
		MUST(distil_trainer_step(job.trainer, &report, &err));
		CHECK(isfinite(report.loss) && isfinite(report.gradient_norm) && report.learning_rate > 0);
		CHECK(report.tokens > last_tokens);
		last_tokens = report.tokens;
		evals += !isnan(report.eval_loss);
		if (report.step <= 5)
			early += report.loss / 4;
		if (report.step > steps - 4)
			late += report.loss / 4;
		if (job.options.method == DISTIL_METHOD_TRIPLE)
		{
			CHECK_NEAR(report.loss,
					   5 * report.loss_ce + 2 * (job.options.causal ? report.loss_clm : report.loss_mlm) +
					   0.01 * report.loss_mse + report.loss_cos, 1e-6 * report.loss);
			CHECK(isnan(job.options.causal ? report.loss_mlm : report.loss_clm));
		}
		else
			CHECK(isnan(report.loss_ce) && isnan(report.loss_cos));
	}
	CHECK(report.step == steps && report.skipped == 0);
	CHECK(!isnan(report.eval_loss) && evals == (int) ceil(report.epoch - 1e-9));
	CHECK_MSG(late < factor * early, "loss %g -> %g", early, late);
	CHECK(distil_trainer_step(job.trainer, &report, &err) == DISTIL_ERR_STATE);
	close_job(&job);
}

/* Interrupted at several points by save, free, create, restore: the same bits at the end. */
static void
test_resume(const char *method, const char *json, int ndevices)
{
	Job			job;
	DistilError err = {{0}, {0}, {0}};
	DistilTrainReport straight;
	DistilTrainReport resumed;
	DistilTrainReport report;
	float	   *a;
	float	   *b;
	size_t		n;

	open_job(&job, method, json, ndevices);
	straight = run_to_end(job.trainer);
	a = all_blocks(job.trainer, &n);
	reopen_trainer(&job, ndevices, NULL);
	while (!distil_trainer_done(job.trainer))
	{
		MUST(distil_trainer_step(job.trainer, &resumed, &err));
		if (resumed.step % 4 == 1 || distil_trainer_done(job.trainer))
		{
			DistilBuffer buffer;

			save(job.trainer, &buffer);
			/* steps after the checkpoint are lost in a crash */
			if (resumed.step % 8 == 1)
				MUST(distil_trainer_step(job.trainer, NULL, &err));
			reopen_trainer(&job, ndevices, NULL);
			MUST(distil_trainer_restore(job.trainer, buffer.data, buffer.length, &report, &err));
			CHECK(report.step == resumed.step && report.tokens == resumed.tokens);
			distil_buffer_free(&buffer);
		}
	}
	b = all_blocks(job.trainer, &n);
	CHECK(memcmp(a, b, n * sizeof(float)) == 0);
	CHECK(straight.loss == resumed.loss && straight.eval_loss == resumed.eval_loss &&
		  straight.tokens == resumed.tokens);
	free(a);
	free(b);
	close_job(&job);
}

typedef struct Countdown
{
	int64_t		polls;
	int64_t		stop_at;		/* -1: never */
} Countdown;

static bool
count_poll(void *ctx)
{
	Countdown  *countdown = ctx;

	return ++countdown->polls == countdown->stop_at;
}

/* Cancelled at the k-th poll of a step: nothing has changed, and going on gives the same bits. */
static void
test_cancel(const char *method, const char *json, int ndevices)
{
	Job			job;
	Countdown	countdown = {0, -1};
	DistilPoll	poll = {count_poll, &countdown};
	DistilError err = {{0}, {0}, {0}};
	DistilTrainReport report;
	float	   *expected;
	float	   *before;
	float	   *after;
	size_t		n;
	int64_t		polls;
	int64_t		k;
	int			cancelled = 0;

	open_job(&job, method, json, ndevices);
	reopen_trainer(&job, ndevices, &poll);
	MUST(distil_trainer_step(job.trainer, &report, &err));
	before = all_blocks(job.trainer, &n);
	polls = countdown.polls;
	MUST(distil_trainer_step(job.trainer, &report, &err));
	polls = countdown.polls - polls;
	CHECK(polls > 20);
	MUST(distil_trainer_step(job.trainer, &report, &err));
	expected = all_blocks(job.trainer, &n);
	for (k = 1; k < polls; k += 1 + polls / 13)
	{
		DistilStatus status;

		reopen_trainer(&job, ndevices, &poll);
		countdown.stop_at = -1;
		MUST(distil_trainer_step(job.trainer, &report, &err));
		countdown.polls = 0;
		countdown.stop_at = k;
		status = distil_trainer_step(job.trainer, &report, &err);
		CHECK(status == DISTIL_OK || status == DISTIL_ERR_CANCELLED);
		cancelled += status == DISTIL_ERR_CANCELLED;
		after = all_blocks(job.trainer, &n);
		/* one step or two: never something between */
		if (job.trainer->state.step == 1)
			CHECK(memcmp(before, after, n * sizeof(float)) == 0);
		else
			CHECK(job.trainer->state.step == 2);
		free(after);
		countdown.stop_at = -1;
		while (job.trainer->state.step < 3)
			MUST(distil_trainer_step(job.trainer, &report, &err));
		after = all_blocks(job.trainer, &n);
		CHECK(memcmp(expected, after, n * sizeof(float)) == 0);
		free(after);
	}
	CHECK(cancelled >= 5);
	free(before);
	free(expected);
	close_job(&job);
}

/*
 * One, two and three threads: the same sums in another order.  The rounding of a gradient
 * near zero may turn Adam's first steps, so weights are compared where it matters: the
 * losses of every step, to 1e-5.
 */
static void
test_threads(const char *method, const char *json)
{
	Job			job;
	double		losses[3][200];
	int			threads;
	int			steps = 0;
	int			i;

	open_job(&job, method, json, 1);
	for (threads = 1; threads <= 3; threads++)
	{
		DistilError err = {{0}, {0}, {0}};

		reopen_trainer(&job, threads, NULL);
		for (steps = 0; !distil_trainer_done(job.trainer); steps++)
		{
			DistilTrainReport report;

			MUST(distil_trainer_step(job.trainer, &report, &err));
			losses[threads - 1][steps] = report.loss;
		}
	}
	for (i = 0; i < steps; i++)
	{
		CHECK_NEAR(losses[0][i], losses[1][i], 1e-5 * losses[0][i]);
		CHECK_NEAR(losses[0][i], losses[2][i], 1e-5 * losses[0][i]);
	}
	close_job(&job);
}

/* The same job twice gives the same bits; another seed does not. */
/* A batch that is no multiple of pieces is cut so that no worker waits for another. */
static void
test_balance(void)
{
	Job			job;
	DistilError err = {{0}, {0}, {0}};
	int			threads;

	open_job(&job, "embedding", "{\"layers\": 1, \"batch_size\": 36, \"epochs\": 1}", 1);
	for (threads = 2; threads <= 3; threads++)
	{
		reopen_trainer(&job, threads, NULL);
		while (!distil_trainer_done(job.trainer))
		{
			int64_t		least = INT64_MAX;
			int64_t		most = 0;
			int64_t		total = 0;
			int			w;

			MUST(distil_trainer_step(job.trainer, NULL, &err));
			for (w = 0; w < threads; w++)
			{
				int64_t		load = job.trainer->workers[w].load;

				least = load < least ? load : least;
				most = load > most ? load : most;
				total += load;
			}
			if (total < threads * DISTIL_PIECE_TOKENS / 4)
				continue;		/* too small to be shared */
			/* a sequence is not cut: half of one at either end of a piece */
			CHECK_MSG(most - least <= 2 * job.trainer->spool.longest, "%d threads: %d to %d tokens", threads,
					  (int) least, (int) most);
		}
	}
	close_job(&job);
}

static void
test_seed(void)
{
	Job			job;
	float	   *a;
	float	   *b;
	float	   *c;
	size_t		n;

	open_job(&job, "triple", triple_json, 2);
	run_to_end(job.trainer);
	a = all_blocks(job.trainer, &n);
	reopen_trainer(&job, 2, NULL);
	run_to_end(job.trainer);
	b = all_blocks(job.trainer, &n);
	job.options.seed++;
	reopen_trainer(&job, 2, NULL);
	run_to_end(job.trainer);
	c = all_blocks(job.trainer, &n);
	CHECK(memcmp(a, b, n * sizeof(float)) == 0);
	CHECK(memcmp(a, c, n * sizeof(float)) != 0);
	free(a);
	free(b);
	free(c);
	close_job(&job);
}

/*
 * Two updates against the formula of AdamW with clipping: of the first, whose rate is 0,
 * the moments; of the second the weights, from the moments it left.
 */
static void
test_update(void)
{
	Job			job;
	DistilError err = {{0}, {0}, {0}};
	DistilTrainReport report;
	const DistilParamTable *table;
	float	   *before;
	size_t		total;
	size_t		i;
	double		squares = 0;
	double		worst = 0;
	int			p;

	open_job(&job, "embedding", "{\"layers\": 1, \"batch_size\": 16, \"learning_rate\": 0.01,"
			 "\"weight_decay\": 0.1, \"max_grad_norm\": 0.05, \"max_steps\": 9}", 2);
	table = &job.trainer->student.table;
	total = table->total;
	before = malloc(total * sizeof(float));
	MUST(distil_trainer_step(job.trainer, &report, &err));
	CHECK(report.gradient_norm > 0.05);
	for (i = 0; i < total; i++)
	{
		squares += (double) job.trainer->copies[0].moment1[i] * job.trainer->copies[0].moment1[i];
		/* m = 0.1 g, v = 0.001 g^2 */
		worst = check_worse(worst, fabs(job.trainer->copies[0].moment2[i] -
										0.1 * pow(job.trainer->copies[0].moment1[i], 2)));
	}
	CHECK_NEAR(sqrt(squares) / 0.1, 0.05, 1e-6);	/* clipped to max_grad_norm */
	CHECK(worst < 1e-9);
	memcpy(before, job.trainer->copies[0].weights, total * sizeof(float));
	MUST(distil_trainer_step(job.trainer, &report, &err));
	CHECK(report.learning_rate == 0.01);
	for (p = 0, worst = 0; p < table->n; p++)
	{
		const DistilParam *param = &table->params[p];
		double		decay = param->vector ? 0 : 0.1;	/* biases and norms do not decay */

		for (i = param->offset; i < param->offset + param->count; i++)
		{
			double		m = job.trainer->copies[0].moment1[i] / (1 - 0.9 * 0.9);
			double		v = job.trainer->copies[0].moment2[i] / (1 - 0.999 * 0.999);
			double		expected = before[i] * (1 - 0.01 * decay) - 0.01 * m / (sqrt(v) + 1e-8);

			worst = check_worse(worst, fabs(expected - job.trainer->copies[0].weights[i]));
		}
	}
	/* float32: 1 - 0.999^2 rounds at 3e-5 of a step of 0.01, weights of size 1 at 1e-7 */
	CHECK_MSG(worst < 1e-6, "weights differ by %g", worst);
	free(before);
	close_job(&job);
}

/* Frozen positions stay as they were; everything else moves. */
static void
test_frozen(const char *method, const char *json)
{
	Job			job;
	const DistilParamTable *table;
	float	   *first;
	size_t		total;
	int			p;

	open_job(&job, method, json, 1);
	table = &job.trainer->student.table;
	total = table->total;
	first = malloc(total * sizeof(float));
	memcpy(first, job.trainer->copies[0].weights, total * sizeof(float));
	run_to_end(job.trainer);
	for (p = 0; p < table->n; p++)
	{
		const DistilParam *param = &table->params[p];
		bool		same = memcmp(first + param->offset, job.trainer->copies[0].weights + param->offset,
								  param->count * sizeof(float)) == 0;

		CHECK_MSG(same == ((p == job.trainer->student.position && job.options.freeze_pos_embs) ||
						   (p == job.trainer->student.type && job.options.freeze_token_type_embds)),
				  "%s", param->name);
	}
	free(first);
	close_job(&job);
}

/* Micro-batches of like length, or of any. */
static void
test_grouped(void)
{
	int			spread[2] = {0, 0};
	int			grouped;

	for (grouped = 0; grouped < 2; grouped++)
	{
		Job			job;
		int64_t		batch;
		const int32_t *sequences;
		int			n;
		int			i;

		open_job(&job, "triple",
				 grouped ? "{\"layers\": 1}" : "{\"layers\": 1, \"group_by_size\": false}", 1);
		for (batch = 0; batch < job.trainer->sampler->batches; batch++)
		{
			const uint64_t *starts = job.trainer->spool.starts;
			int			least = INT32_MAX;
			int			most = 0;

			distil_sampler_batch(job.trainer->sampler, batch, &sequences, &n);
			for (i = 0; i < n; i++)
			{
				int			length = (int) (starts[sequences[i] + 1] - starts[sequences[i]]);

				least = length < least ? length : least;
				most = length > most ? length : most;
			}
			spread[grouped] += most - least;
		}
		close_job(&job);
	}
	CHECK_MSG(2 * spread[1] < spread[0], "%d, %d", spread[0], spread[1]);
}

/* A loss that is not finite: the update is skipped and counted, the weights stay. */
static void
test_not_finite(void)
{
	Job			job;
	DistilError err = {{0}, {0}, {0}};
	DistilTrainReport report;
	float	   *a;
	float	   *b;
	const DistilParam *bias;
	size_t		n;

	open_job(&job, "embedding", embedding_json, 1);
	MUST(distil_trainer_step(job.trainer, &report, &err));
	bias = &job.trainer->student.table.params[job.trainer->student.embedding_norm_bias];
	job.trainer->copies[0].weights[bias->offset] = NAN;
	a = all_blocks(job.trainer, &n);
	MUST(distil_trainer_step(job.trainer, &report, &err));
	b = all_blocks(job.trainer, &n);
	CHECK(report.skipped == 1 && report.step == 2 && !isfinite(report.loss));
	CHECK(memcmp(a, b, n * sizeof(float)) == 0);
	free(a);
	free(b);
	close_job(&job);
}

static void
test_hostile_checkpoint(void)
{
	Job			job;
	DistilBuffer buffer;
	DistilError err = {{0}, {0}, {0}};
	DistilTrainReport report;
	float	   *before;
	float	   *after;
	char	   *copy;
	size_t		n;
	size_t		at;

	open_job(&job, "triple", triple_json, 1);
	MUST(distil_trainer_step(job.trainer, &report, &err));
	save(job.trainer, &buffer);
	MUST(distil_trainer_step(job.trainer, &report, &err));
	before = all_blocks(job.trainer, &n);
	copy = malloc(buffer.length + 8);
	for (at = 0; at < buffer.length; at += at < 500 ? 1 : 9973)
		CHECK(distil_trainer_restore(job.trainer, buffer.data, at, &report, &err) == DISTIL_ERR_CORRUPT);
	for (at = 0; at < buffer.length; at += at < 500 ? 3 : 9973)
	{
		memcpy(copy, buffer.data, buffer.length);
		copy[at] ^= 0x10;
		CHECK(distil_trainer_restore(job.trainer, copy, buffer.length, &report, &err) == DISTIL_ERR_CORRUPT);
	}
	memcpy(copy, buffer.data, buffer.length);
	memset(copy + buffer.length, 0, 8);
	CHECK(distil_trainer_restore(job.trainer, copy, buffer.length + 8, &report, &err) == DISTIL_ERR_CORRUPT);
	after = all_blocks(job.trainer, &n);
	CHECK(memcmp(before, after, n * sizeof(float)) == 0 && job.trainer->state.step == 2);

	/* of another job */
	job.options.learning_rate *= 2;
	reopen_trainer(&job, 1, NULL);
	CHECK(distil_trainer_restore(job.trainer, buffer.data, buffer.length, &report, &err) == DISTIL_ERR_STATE);
	CHECK(strstr(err.detail, "options") != NULL);
	job.options.learning_rate /= 2;
	free(job.spool);
	fixture_spool(&job.spool, &job.spool_size, job.teacher.model, &job.options, TEXTS - 1);
	reopen_trainer(&job, 1, NULL);
	CHECK(distil_trainer_restore(job.trainer, buffer.data, buffer.length, &report, &err) == DISTIL_ERR_STATE);
	CHECK(strstr(err.detail, "texts") != NULL);
	free(copy);
	free(before);
	free(after);
	distil_buffer_free(&buffer);
	close_job(&job);
}

/* The student's folder imports as the student; its sentence files are the teacher's. */
static void
test_student_folder(void)
{
	static const char text[] = "the cat sat on the river";
	DistilText	view = {text, sizeof(text) - 1};
	Job			job;
	Fixture		student;
	const DistilFolder *folder;
	DistilSession *session;
	DistilError err = {{0}, {0}, {0}};
	float		out[64];
	float	   *stored;
	bool		has;
	double		norm = 0;
	int			i;

	open_job(&job, "embedding", embedding_json, 1);
	run_to_end(job.trainer);
	MUST(distil_trainer_student(job.trainer, &folder, &err));
	CHECK(distil_folder_find(folder, "modules.json") != NULL);
	CHECK(distil_folder_find(folder, "2_Dense/model.safetensors") != NULL);
	fixture_from_folder(&student, folder);
	CHECK(distil_model_info(student.model)->layers == 1);
	CHECK(distil_model_info(student.model)->dimensions == 24);
	CHECK(distil_model_info(student.model)->sentence_model);
	CHECK(distil_model_info(student.model)->nprompts == distil_model_info(job.teacher.model)->nprompts);
	/* the same weights in another order of files */
	for (i = 0; i < student.model->spec.table.n; i++)
	{
		const DistilParam *param = &student.model->spec.table.params[i];

		CHECK(strcmp(param->name, job.trainer->student.table.params[i].name) == 0);
		stored = malloc(param->count * sizeof(float));
		distil_param_read(stored, student.model->weights, param, 0, param->count);
		CHECK(memcmp(stored, job.trainer->copies[0].weights + job.trainer->student.table.params[i].offset,
					 param->count * sizeof(float)) == 0);
		free(stored);
	}
	MUST(distil_session_create(&session, student.model, job.devices[0], 0, distil_alloc_system(), NULL,
							   &err));
	MUST(distil_session_embed(session, out, &has, &view, 1, -1, &err));
	for (i = 0; i < 24; i++)
		norm += (double) out[i] * out[i];
	CHECK_NEAR(norm, 1, 1e-5);
	distil_session_free(session);
	fixture_close(&student);
	close_job(&job);
}

/* Nothing to learn from; more tokens than positions; the n-th allocation failing. */
typedef struct Failing
{
	int64_t		left;
	int64_t		live;
} Failing;

static void *
failing_alloc(void *ctx, size_t bytes)
{
	Failing    *failing = ctx;

	if (failing->left-- == 0)
		return NULL;
	failing->live++;
	return calloc(1, bytes);
}

static void
failing_release(void *ctx, void *memory)
{
	Failing    *failing = ctx;

	failing->live -= memory != NULL;
	free(memory);
}

static void
test_creation_failures(void)
{
	Job			job;
	DistilError err = {{0}, {0}, {0}};
	DistilTrainer *trainer;
	Failing		failing = {0, 0};
	DistilAllocator alloc = {failing_alloc, failing_release, &failing};
	void	   *empty;
	size_t		size;
	int			n;

	open_job(&job, "triple", triple_json, 1);
	fixture_spool(&empty, &size, job.teacher.model, &job.options, 0);
	CHECK(distil_trainer_create(&trainer, job.teacher.model, &job.options, empty, size, job.devices, 1,
								distil_alloc_system(), NULL, &err) == DISTIL_ERR_ARGUMENT);
	CHECK(trainer == NULL);
	free(empty);
	for (n = 0;; n++)
	{
		DistilStatus status;

		failing.left = n;
		failing.live = 0;
		status = distil_trainer_create(&trainer, job.teacher.model, &job.options, job.spool, job.spool_size,
									   job.devices, 2, &alloc, NULL, &err);
		if (status == DISTIL_OK)
			break;
		CHECK_MSG(status == DISTIL_ERR_MEMORY, "allocation %d: %s", n, err.message);
		CHECK(trainer == NULL);
		CHECK_MSG(failing.live == 0, "allocation %d: %d leaked", n, (int) failing.live);
	}
	CHECK(n > 20);
	distil_trainer_free(trainer);
	CHECK(failing.live == 0);
	close_job(&job);
}

int
main(void)
{
	test_curve("triple",
			   "{\"layers\": 1, \"batch_size\": 4, \"gradient_accumulation_steps\": 2, \"epochs\": 5,"
			   "\"learning_rate\": 0.003, \"eval_fraction\": 0.1, \"alpha_mse\": 0.01}", 0.8);
	test_curve("embedding", "{\"layers\": 1, \"batch_size\": 16, \"epochs\": 5,"
			   "\"learning_rate\": 0.003, \"eval_fraction\": 0.1}", 0.7);
	test_resume("triple", triple_json, 1);
	test_resume("triple", triple_json, 2);
	test_curve("causal",
			   "{\"layers\": 1, \"batch_size\": 4, \"gradient_accumulation_steps\": 2, \"epochs\": 5,"
			   "\"learning_rate\": 0.003, \"eval_fraction\": 0.1, \"alpha_mse\": 0.01}", 0.95);
	test_resume("causal", triple_json, 1);
	test_resume("causal", triple_json, 2);
	test_resume("embedding", embedding_json, 1);
	test_resume("embedding", embedding_json, 2);
	test_cancel("triple", triple_json, 1);
	test_cancel("causal", triple_json, 2);
	test_cancel("embedding", embedding_json, 2);
	test_threads("triple", triple_json);
	test_threads("causal", triple_json);
	test_threads("embedding", embedding_json);
	test_balance();
	test_seed();
	test_update();
	test_frozen("triple", triple_json);
	test_frozen("embedding", "{\"layers\": 1, \"batch_size\": 16, \"freeze_token_type_embds\": true}");
	test_grouped();
	test_not_finite();
	test_hostile_checkpoint();
	test_student_folder();
	test_creation_failures();
	return check_report("train");
}
