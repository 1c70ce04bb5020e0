/*
 * test_train_group.c
 *		Trainings on several devices with memory of their own: those of one device with the same batches, with
 *		checkpoints that go both ways, cancelled, short of memory, and with one device lost.
 */
#include "heads_fixture.h"
#include "train.h"
#include "train_fixture.h"

#define TEXTS 80
#define STEPS 4					/* at most */
#define MOST 3					/* devices */

#ifdef __SANITIZE_THREAD__		/* all of it would take minutes */
#define BRIEF true
#else
#define BRIEF false
#endif

/* Five micro-batches, so that neither two nor three devices get equal shares. */
#ifdef DISTIL_TEST_CUDA			/* less of it, as it takes long on the CPU */
#define BACKEND "cuda"
#define EXACT "float32"
static const char masked_json[] =
"{\"layers\": 1, \"batch_size\": 3, \"gradient_accumulation_steps\": 5, \"max_steps\": 2,"
"\"learning_rate\": 0.003, \"restrict_ce_to_mask\": true}";
#else
#define BACKEND "standin"
#define EXACT NULL
static const char masked_json[] =
"{\"layers\": 1, \"batch_size\": 6, \"gradient_accumulation_steps\": 5, \"max_steps\": 4,"
"\"learning_rate\": 0.003, \"alpha_mse\": 0.01, \"eval_fraction\": 0.1}";
/* Micro-batches that more threads of a CPU would cut into more pieces, with other dropout. */
static const char large_json[] =
"{\"layers\": 1, \"batch_size\": 30, \"gradient_accumulation_steps\": 2, \"max_steps\": 2, "
"\"learning_rate\": 0.003}";
static const char embedding_json[] =
"{\"layers\": 1, \"batch_size\": 6, \"gradient_accumulation_steps\": 5, \"max_steps\": 4, \"learning_rate\": "
"0.003}";
#endif

typedef struct Result
{
	int			n;
	DistilTrainReport steps[STEPS];
	float	   *weights;		/* [total] of the first device, at the end */
	size_t		total;
} Result;

/* n devices together, or with n 0 one alone; gives how many there are, 0: not so many. */
static int
open_devices(DistilDevice **devices, const char *isa, int n)
{
	char		message[400] = "";
	bool		opened;

	if (n > 0)
		opened = distil_device_open_group(BACKEND, isa, devices, n, message, sizeof(message));
	else
		opened = (devices[0] = distil_device_open(BACKEND, isa, message, sizeof(message))) != NULL;
	if (!opened)
		printf("%d devices: %s\n", n, message);
	return opened ? n > 0 ? n : 1 : 0;
}

static void
close_devices(DistilDevice **devices, int n)
{
	while (n > 0)
	{
		n--;
		devices[n]->ops->close(devices[n]);
	}
}

static DistilStatus
create(DistilTrainer **trainer, const FixtureJob *job, DistilDevice **devices, int n, const DistilPoll *poll,
	   DistilError *err)
{
	return distil_trainer_create(trainer, job->teacher.model, &job->options, job->spool, job->spool_size,
								 devices, n, distil_alloc_system(), poll, err);
}

/* All steps that are left.  Each device's copy has the same bits at the end. */
static void
finish(DistilTrainer *trainer, Result *result)
{
	DistilError err = {{0}, {0}, {0}};
	float	   *other;
	int			i;

	while (!distil_trainer_done(trainer))
	{
		DistilTrainReport report;

		MUST(distil_trainer_step(trainer, &report, &err));
		CHECK(report.skipped == 0 && report.step <= STEPS);
		result->steps[report.step - 1] = report;
		result->n = (int) report.step;
	}
	result->total = trainer->student.table.total;
	result->weights = malloc(result->total * sizeof(float));
	other = malloc(result->total * sizeof(float));
	for (i = 0; i < trainer->ncopies; i++)
	{
		const DistilKernels *ops = trainer->workers[i].device->ops;

		ops->copy_out(trainer->workers[i].device, i == 0 ? result->weights : other,
					  trainer->copies[i].weights, result->total * sizeof(float));
		CHECK(ops->failure(trainer->workers[i].device) == NULL);
		CHECK(i == 0 || memcmp(result->weights, other, result->total * sizeof(float)) == 0);
	}
	free(other);
	distil_trainer_free(trainer);
}

static void
train(const FixtureJob *job, DistilDevice **devices, int n, Result *result)
{
	DistilError err = {{0}, {0}, {0}};
	DistilTrainer *trainer;

	MUST(create(&trainer, job, devices, n, NULL, &err));
	CHECK(trainer->nworkers == n && trainer->ncopies == n);
	finish(trainer, result);
}

/*
 * Gradients are the same sums in another order: they and the losses differ in the last bits of float32.
 * AdamW divides a gradient by its own size, so a weight whose gradient is nearly 0 may move by a part of the
 * learning rate more or less in a step, but few do: the root of the mean square is compared.  With
 * activations in bfloat16 a last bit of a weight now and then is one of 8 bits of its copy.  tolerance: of
 * losses, relative.
 */
#define SAME 0.0
#define REORDERED 1e-6
#define ROUNDED 1e-4
static void
compare(const Result *got, const Result *want, double tolerance)
{
	double		squares = 0;
	size_t		i;
	int			s;

	CHECK(got->n == want->n && got->total == want->total);
	for (s = 0; s < want->n; s++)
	{
		const DistilTrainReport *a = &got->steps[s];
		const DistilTrainReport *b = &want->steps[s];

		CHECK_NEAR(a->loss, b->loss, tolerance * b->loss);
		CHECK_NEAR(a->gradient_norm, b->gradient_norm, 10 * tolerance * b->gradient_norm);
		CHECK(a->tokens == b->tokens && isnan(a->eval_loss) == isnan(b->eval_loss));
		CHECK(isnan(a->eval_loss) || fabs(a->eval_loss - b->eval_loss) <= tolerance * b->eval_loss);
	}
	for (i = 0; i < want->total; i++)
		squares += pow((double) got->weights[i] - want->weights[i], 2);
	CHECK_MSG(sqrt(squares / (double) want->total) <= 1000 * tolerance * 0.003, "weights differ by %g\n",
			  sqrt(squares / (double) want->total));
}

/* One device alone, a group of it, and groups of two and more. */
static void
test_same(const char *model, const char *method, const char *json, const char *isa, double tolerance)
{
	FixtureJob	job;
	DistilDevice *devices[MOST];
	Result		alone;
	Result		result;
	int			n;

	fixture_open_job(&job, model, method, json, TEXTS);
	CHECK(open_devices(devices, isa, 0) == 1 && devices[0]->ops->all_sum == NULL);
	train(&job, devices, 1, &alone);
	close_devices(devices, 1);
	CHECK(alone.n >= 2);
	for (n = 1; n <= MOST && open_devices(devices, isa, n) == n; n++)
	{
		train(&job, devices, n, &result);
		compare(&result, &alone, n == 1 ? SAME : tolerance);
		free(result.weights);
		close_devices(devices, n);
	}
	printf("%s %s: 1 to %d devices\n", model, method, n - 1);
#if !defined(DISTIL_TEST_CUDA) || defined(DISTIL_TEST_EMULATED)
	CHECK(n == MOST + 1);
#endif
	free(alone.weights);
	fixture_close_job(&job);
}

#ifndef DISTIL_TEST_CUDA

/* Three devices, then one of them alone, then two: each goes on from the checkpoint of the one before. */
static void
test_moved(void)
{
	static const int numbers[] = {3, 0, 2};
	FixtureJob	job;
	DistilDevice *devices[MOST];
	DistilError err = {{0}, {0}, {0}};
	DistilBuffer buffer;
	DistilSink	sink = {fixture_write, &buffer};
	Result		alone;
	Result		moved = {0};
	int			i;

	fixture_open_job(&job, "bert", "triple", masked_json, TEXTS);
	open_devices(devices, NULL, 0);
	train(&job, devices, 1, &alone);
	close_devices(devices, 1);
	distil_buffer_init(&buffer, distil_alloc_system());
	for (i = 0; i < 3; i++)
	{
		DistilTrainer *trainer;
		int			n = open_devices(devices, NULL, numbers[i]);

		/* the number of devices is no part of what a checkpoint belongs to */
		job.options.gpus = n;
		MUST(create(&trainer, &job, devices, n, NULL, &err));
		if (i > 0)
			MUST(distil_trainer_restore(trainer, buffer.data, buffer.length, &moved.steps[i - 1], &err));
		if (i == 2)
			finish(trainer, &moved);
		else
		{
			MUST(distil_trainer_step(trainer, &moved.steps[i], &err));
			buffer.length = 0;
			MUST(distil_trainer_save(trainer, &sink, &err));
			distil_trainer_free(trainer);
		}
		close_devices(devices, n);
	}
	compare(&moved, &alone, REORDERED);
	distil_buffer_free(&buffer);
	free(moved.weights);
	free(alone.weights);
	fixture_close_job(&job);
}

/* Stops the caller once, at the question number `left`. */
typedef struct Stop
{
	int			left;
	int			stopped;
} Stop;

static bool
stop_once(void *ctx)
{
	Stop	   *stop = ctx;

	if (stop->left-- != 0)
		return false;
	stop->stopped++;
	return true;
}

/* A step that is cancelled on the way is as if it had not been: the same bits in the end. */
static void
test_cancel(void)
{
	FixtureJob	job;
	DistilDevice *devices[2];
	DistilError err = {{0}, {0}, {0}};
	Result		whole;
	int			cancelled = 0;
	int			after;

	fixture_open_job(&job, "distilbert", "embedding", embedding_json, TEXTS);
	CHECK(open_devices(devices, NULL, 2) == 2);
	train(&job, devices, 2, &whole);
	for (after = 1; after < 200; after += 23)
	{
		Stop		stop = {-1, 0};
		DistilPoll	poll = {stop_once, &stop};
		DistilTrainer *trainer;
		DistilTrainReport report;
		Result		result = {0};
		DistilStatus status = DISTIL_OK;

		MUST(create(&trainer, &job, devices, 2, &poll, &err));
		stop.left = after;
		while (stop.stopped == 0 && !distil_trainer_done(trainer))
		{
			status = distil_trainer_step(trainer, &report, &err);
			if (status == DISTIL_OK)
				result.steps[report.step - 1] = report;
			else
				CHECK(status == DISTIL_ERR_CANCELLED);
		}
		cancelled += status == DISTIL_ERR_CANCELLED;
		/* stopped while the weights were updated, that step counts and is reported */
		if (status == DISTIL_ERR_CANCELLED && report.step > 0)
			result.steps[report.step - 1] = report;
		finish(trainer, &result);
		result.n = whole.n;
		compare(&result, &whole, SAME);
		free(result.weights);
	}
	CHECK(cancelled >= 5);
	free(whole.weights);
	close_devices(devices, 2);
	fixture_close_job(&job);
}

/* The last of three devices is lost: the job fails by name, and from its last checkpoint goes on on one. */
static void
test_lost(void)
{
	FixtureJob	job;
	DistilDevice *devices[MOST];
	DistilError err = {{0}, {0}, {0}};
	Result		alone;
	int			failed = 0;
	int			moved = 0;
	int			after;

	fixture_open_job(&job, "distilbert", "embedding", embedding_json, TEXTS);
	open_devices(devices, NULL, 0);
	train(&job, devices, 1, &alone);
	close_devices(devices, 1);
	for (after = 0; after < 1600; after += 67)
	{
		DistilTrainer *trainer = NULL;
		DistilTrainReport report = {0};
		DistilBuffer buffer;
		DistilSink	sink = {fixture_write, &buffer};
		Result		result = {0};
		DistilStatus status;
		char		isa[32];

		snprintf(isa, sizeof(isa), "lost %d", after);
		CHECK(open_devices(devices, isa, 3) == 3);
		distil_buffer_init(&buffer, distil_alloc_system());
		status = create(&trainer, &job, devices, 3, NULL, &err);
		while (status == DISTIL_OK && !distil_trainer_done(trainer))
		{
			status = distil_trainer_step(trainer, &report, &err);
			if (status != DISTIL_OK)
				break;
			result.steps[report.step - 1] = report;
			buffer.length = 0;
			/* the first device has not failed */
			MUST(distil_trainer_save(trainer, &sink, &err));
		}
		if (status != DISTIL_OK)
		{
			failed++;
			CHECK(status == DISTIL_ERR_DEVICE && strstr(err.message, "\"standin\" has failed") != NULL);
			CHECK(strstr(err.detail, "lost") != NULL || strstr(err.detail, "nother device") != NULL);
		}
		distil_trainer_free(trainer);
		close_devices(devices, 3);
		if (status != DISTIL_OK && buffer.length > 0)
		{
			moved++;
			CHECK(open_devices(devices, NULL, 0) == 1);
			MUST(create(&trainer, &job, devices, 1, NULL, &err));
			MUST(distil_trainer_restore(trainer, buffer.data, buffer.length, &report, &err));
			finish(trainer, &result);
			compare(&result, &alone, REORDERED);
			free(result.weights);
			close_devices(devices, 1);
		}
		distil_buffer_free(&buffer);
	}
	CHECK_MSG(failed >= 5 && moved >= 2, "%d failed, %d moved\n", failed, moved);
	free(alone.weights);
	fixture_close_job(&job);
}

/* One device with less memory than the others: pieces become smaller for all, then the job does not fit. */
static void
test_small_memory(void)
{
	FixtureJob	job;
	DistilDevice *devices[2];
	DistilError err = {{0}, {0}, {0}};
	DistilTrainer *trainer;
	size_t		limit = (size_t) 64 << 20;
	int			least = DISTIL_DEVICE_PIECE_TOKENS;
	DistilStatus status = DISTIL_OK;

	fixture_open_job(&job, "bert", "triple", masked_json, TEXTS);
	CHECK(open_devices(devices, NULL, 2) == 2);
	for (; status == DISTIL_OK && limit > 4096; limit /= 2)
	{
		devices[1]->ops->limit_memory(devices[1], limit);
		status = create(&trainer, &job, devices, 2, NULL, &err);
		if (status == DISTIL_OK)
		{
			least = trainer->piece_limit;
			distil_trainer_free(trainer);
		}
	}
	CHECK(status == DISTIL_ERR_MEMORY && least <= DISTIL_DEVICE_PIECE_TOKENS / 4);
	close_devices(devices, 2);
	fixture_close_job(&job);
}

/* Devices that were not opened together, and a part of a group. */
static void
test_refused(void)
{
	FixtureJob	job;
	DistilDevice *devices[3];
	DistilError err = {{0}, {0}, {0}};
	DistilTrainer *trainer = NULL;
	DistilTrainReport report;
	int			i;

	fixture_open_job(&job, "distilbert", "embedding", embedding_json, TEXTS);
	for (i = 0; i < 2; i++)
		CHECK(open_devices(&devices[i], NULL, 0) == 1);
	CHECK(create(&trainer, &job, devices, 2, NULL, &err) == DISTIL_ERR_UNSUPPORTED);
	CHECK(trainer == NULL && strstr(err.message, "several") != NULL);
	close_devices(devices, 2);
	CHECK(open_devices(devices, NULL, 3) == 3);
	MUST(create(&trainer, &job, devices, 2, NULL, &err));
	CHECK(distil_trainer_step(trainer, &report, &err) == DISTIL_ERR_DEVICE);
	CHECK(strstr(err.detail, "not given all") != NULL);
	distil_trainer_free(trainer);
	close_devices(devices, 3);
	fixture_close_job(&job);
}

#endif

int
main(void)
{
	test_same("bert", "triple", masked_json, EXACT, REORDERED);
	if (!BRIEF)
		test_same("bert", "triple", masked_json, "bf16", ROUNDED);
#ifndef DISTIL_TEST_CUDA
	test_moved();
	test_refused();
	if (!BRIEF)
	{
		test_same("bert", "triple", large_json, EXACT, REORDERED);
		test_same("gpt2", "embedding", embedding_json, EXACT, REORDERED);
		test_same("mpnet", "embedding", embedding_json, EXACT, REORDERED);
		test_cancel();
		test_lost();
		test_small_memory();
	}
#endif
	return check_report("train_group");
}
