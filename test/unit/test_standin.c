/*
 * test_standin.c
 *		The stand-in device finds the mistakes it is there for, and trainings on it: as on the
 *		CPU, with checkpoints that go both ways, with little memory, and when it is lost.
 */
#include "heads_fixture.h"
#include "train.h"
#include "train_fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXTS 80

static const char masked_json[] =
"{\"layers\": 1, \"batch_size\": 6, \"gradient_accumulation_steps\": 2, \"max_steps\": 4,"
"\"learning_rate\": 0.003, \"restrict_ce_to_mask\": true}";

#ifndef DISTIL_TEST_EMULATED
static const char causal_json[] =
"{\"layers\": 1, \"batch_size\": 2, \"max_steps\": 4, \"learning_rate\": 0.003}";
#endif

/* The device whose trainings are compared: the CUDA backend where that is tested. */
#ifdef DISTIL_TEST_CUDA
#define BACKEND "cuda"
#define EXACT "float32"
#define ROUNDED "bf16"
#else
#define BACKEND "standin"
#define EXACT NULL
#define ROUNDED "bf16"
#endif

#ifndef DISTIL_TEST_CUDA		/* only the shortest training there: it takes a minute on the CPU */
static const char triple_json[] =
"{\"layers\": 1, \"batch_size\": 6, \"gradient_accumulation_steps\": 2, \"max_steps\": 8,"
"\"learning_rate\": 0.003, \"eval_fraction\": 0.1, \"alpha_mse\": 0.01}";
static const char embedding_json[] =
"{\"layers\": 1, \"batch_size\": 16, \"max_steps\": 10, \"learning_rate\": 0.003, \"eval_fraction\": 0.1}";
#endif

static DistilDevice *
open_device(const char *backend, const char *isa)
{
	char		message[256];
	DistilDevice *device = distil_device_open(backend, isa, message, sizeof(message));

	CHECK_MSG(device != NULL, "%s\n", message);
	if (device == NULL)
		exit(1);
	return device;
}

#ifndef DISTIL_TEST_CUDA

/* ---------- mistakes ---------- */

/* What a child process that runs this ends with: a signal's number, or 0. */
static int
signal_of(void (*mistake) (DistilDevice *device, float *memory))
{
	DistilDevice *device = open_device("standin", NULL);
	float	   *memory = device->ops->alloc(device, 64 * sizeof(float));
	pid_t		child;
	int			status = 0;

	CHECK(memory != NULL);
	fflush(NULL);
	child = fork();
	if (child == 0)
	{
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		mistake(device, memory);
		_exit(0);
	}
	CHECK(child > 0 && waitpid(child, &status, 0) == child);
	device->ops->close(device);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void
read_on_host(DistilDevice *device, float *memory)
{
	volatile float value = memory[63];

	(void) device;
	(void) value;
}

static void
write_on_host(DistilDevice *device, float *memory)
{
	(void) device;
	*(volatile float *) memory = 1.0f;
}

static void
no_mistake(DistilDevice *device, float *memory)
{
	device->ops->zero(device, memory, 64);
}

static void
test_mistakes(void)
{
	DistilDevice *device = open_device("standin", NULL);
	float		host[64] = {0};
	float	   *memory = device->ops->alloc(device, sizeof(host));

	CHECK(signal_of(no_mistake) == 0);
	CHECK(signal_of(read_on_host) == SIGSEGV);
	CHECK(signal_of(write_on_host) == SIGSEGV);
	/* memory that nobody has written is NaN */
	device->ops->copy_out(device, host, memory, sizeof(host));
	CHECK(isnan(host[0]) && isnan(host[63]) && device->ops->failure(device) == NULL);
	/* host memory given to an operation */
	device->ops->axpy(device, memory, host, 1.0f, 64);
	CHECK(device->ops->failure(device) != NULL);
	device->ops->close(device);

	device = open_device("standin", NULL);
	memory = device->ops->alloc(device, sizeof(host));
	device->ops->copy_in(device, memory + 1, host, sizeof(host));	/* beyond the end */
	CHECK(device->ops->failure(device) != NULL);
	device->ops->close(device);

	device = open_device("standin", NULL);
	memory = device->ops->alloc(device, sizeof(host));
	device->ops->release(device, memory);
	device->ops->zero(device, memory, 1);	/* freed */
	CHECK(device->ops->failure(device) != NULL);
	device->ops->close(device);
}

static void
test_limit(void)
{
	DistilDevice *device = open_device("standin", NULL);
	void	   *first;

	device->ops->limit_memory(device, 1000);
	first = device->ops->alloc(device, 600);
	CHECK(first != NULL && device->ops->alloc(device, 401) == NULL);
	device->ops->release(device, first);
	CHECK(device->ops->alloc(device, 1000) != NULL);
	CHECK(device->ops->alloc(device, SIZE_MAX) == NULL);
	device->ops->close(device);
}

#endif

/* ---------- trainings ---------- */

static DistilTrainer *
open_trainer(const FixtureJob *job, DistilDevice **device)
{
	DistilTrainer *trainer = NULL;
	DistilError err = {{0}, {0}, {0}};

	MUST(distil_trainer_create(&trainer, job->teacher.model, &job->options, job->spool, job->spool_size,
							   device, 1, distil_alloc_system(), NULL, &err));
	/* activations in bfloat16 where the device has them */
	CHECK((trainer->copies[0].half != NULL) == ((*device)->ops->own_memory && (*device)->ops->half != NULL));
	return trainer;
}

/* Losses of all steps; every `save_every` steps the training moves to the next of the devices. */
static int
run(const FixtureJob *job, DistilDevice **devices, int ndevices, int save_every, double *losses)
{
	DistilError err = {{0}, {0}, {0}};
	DistilTrainReport report;
	int			device = 0;
	DistilTrainer *trainer = open_trainer(job, &devices[device]);
	const DistilFolder *folder = NULL;
	int			n = 0;

	while (!distil_trainer_done(trainer))
	{
		if (n > 0 && n % save_every == 0)
		{
			DistilBuffer buffer;
			DistilSink	sink = {fixture_write, &buffer};

			distil_buffer_init(&buffer, distil_alloc_system());
			MUST(distil_trainer_save(trainer, &sink, &err));
			distil_trainer_free(trainer);
			device = (device + 1) % ndevices;
			trainer = open_trainer(job, &devices[device]);
			MUST(distil_trainer_restore(trainer, buffer.data, buffer.length, &report, &err));
			distil_buffer_free(&buffer);
		}
		MUST(distil_trainer_step(trainer, &report, &err));
		losses[n++] = report.loss;
		CHECK(report.skipped == 0);
	}
	MUST(distil_trainer_student(trainer, &folder, &err));
	CHECK(folder != NULL);
	distil_trainer_free(trainer);
	return n;
}

/*
 * The same arithmetic in other sums (pieces are larger): losses agree to what the order of float32
 * sums changes over a few steps, as between numbers of threads.
 */
static void
test_training(const char *model, const char *method, const char *json)
{
	FixtureJob	job;
	DistilDevice *devices[2] = {open_device("reference", NULL), open_device(BACKEND, EXACT)};
	double		want[64];
	double		got[64];
	double		moved[64];
	int			n;
	int			i;

	fixture_open_job(&job, model, method, json, TEXTS);
	n = run(&job, &devices[0], 1, 1000, want);
	CHECK(run(&job, &devices[1], 1, 1000, got) == n && n >= 4);
	CHECK(run(&job, devices, 2, 2, moved) == n);
	for (i = 0; i < n; i++)
	{
		CHECK_NEAR(got[i], want[i], 1e-5 * want[i]);
		CHECK_NEAR(moved[i], want[i], 1e-5 * want[i]);
	}
	CHECK(devices[1]->ops->failure(devices[1]) == NULL);
	fixture_close_job(&job);
	devices[0]->ops->close(devices[0]);
	devices[1]->ops->close(devices[1]);
}

#ifndef DISTIL_TEST_CUDA

/* With less and less memory the pieces become smaller, then the job fails as out of memory. */
static void
test_small_memory(const char *isa, double tolerance)
{
	FixtureJob	job;
	DistilError err = {{0}, {0}, {0}};
	double		want[64];
	double		got[64];
	size_t		limit = (size_t) 64 << 20;
	int			least = DISTIL_DEVICE_PIECE_TOKENS;
	DistilStatus status = DISTIL_OK;
	DistilDevice *device = open_device(BACKEND, isa);

	fixture_open_job(&job, "bert", "triple", masked_json, TEXTS);
	run(&job, &device, 1, 1000, want);
	for (; status == DISTIL_OK && limit > 4096; limit /= 2)
	{
		DistilTrainer *trainer = NULL;

		device->ops->limit_memory(device, limit);
		status = distil_trainer_create(&trainer, job.teacher.model, &job.options, job.spool, job.spool_size,
									   &device, 1, distil_alloc_system(), NULL, &err);
		if (status == DISTIL_OK)
		{
			CHECK(trainer->piece_limit <= least);
			least = trainer->piece_limit;
			distil_trainer_free(trainer);
			CHECK(run(&job, &device, 1, 1000, got) > 0);
			CHECK_NEAR(got[3], want[3], tolerance * want[3]);
		}
	}
	CHECK(status == DISTIL_ERR_MEMORY);
	CHECK(least <= DISTIL_DEVICE_PIECE_TOKENS / 4);
	/* nothing stays behind */
	device->ops->limit_memory(device, 1000);
	CHECK(device->ops->alloc(device, 1000) != NULL);
	device->ops->close(device);
	fixture_close_job(&job);
}

/* The device is lost at its N-th operation: the step fails by name and no checkpoint can be sealed. */
static void
test_lost(void)
{
	FixtureJob	job;
	DistilTrainReport report;
	int			after;
	int			failed = 0;

	fixture_open_job(&job, "distilbert", "embedding", embedding_json, TEXTS);
	for (after = 0; after < 2000; after += 97)
	{
		DistilError err = {{0}, {0}, {0}};
		DistilBuffer buffer;
		DistilSink	sink = {fixture_write, &buffer};
		DistilTrainer *trainer = NULL;
		char		isa[32];
		DistilDevice *device;
		DistilStatus status;

		snprintf(isa, sizeof(isa), "lost %d", after);
		device = open_device("standin", isa);
		status = distil_trainer_create(&trainer, job.teacher.model, &job.options, job.spool, job.spool_size,
									   &device, 1, distil_alloc_system(), NULL, &err);
		while (status == DISTIL_OK && !distil_trainer_done(trainer))
			status = distil_trainer_step(trainer, &report, &err);
		if (status != DISTIL_OK)
		{
			failed++;
			CHECK(status == DISTIL_ERR_DEVICE && strstr(err.message, "\"standin\"") != NULL);
			CHECK(strstr(err.detail, "lost") != NULL);
		}
		if (status != DISTIL_OK && trainer != NULL)
		{
			distil_buffer_init(&buffer, distil_alloc_system());
			CHECK(distil_trainer_save(trainer, &sink, &err) == DISTIL_ERR_DEVICE);
			distil_buffer_free(&buffer);
		}
		distil_trainer_free(trainer);
		device->ops->close(device);
	}
	CHECK(failed >= 5);
	fixture_close_job(&job);
}

static void
test_several(void)
{
	FixtureJob	job;
	DistilError err = {{0}, {0}, {0}};
	DistilTrainer *trainer = NULL;
	DistilDevice *devices[2] = {open_device("standin", NULL), open_device("standin", NULL)};

	fixture_open_job(&job, "distilbert", "embedding", embedding_json, TEXTS);
	CHECK(distil_trainer_create(&trainer, job.teacher.model, &job.options, job.spool, job.spool_size, devices,
								2, distil_alloc_system(), NULL, &err) == DISTIL_ERR_UNSUPPORTED);
	CHECK(trainer == NULL && strstr(err.message, "several") != NULL);
	fixture_close_job(&job);
	devices[0]->ops->close(devices[0]);
	devices[1]->ops->close(devices[1]);
}

#endif

/* ---------- activations in bfloat16 ---------- */

#define TOKENS 40

/*
 * What a pass over two sequences gives: hidden [TOKENS, C], and the
 * gradients of all parameters; to be freed.
 */
static void
run_pass(const DistilModel *model, const char *isa, bool has_half, float **hidden, float **gradients)
{
	const DistilSpec *spec = &model->spec;
	DistilDevice *device = open_device(BACKEND, isa);
	const DistilKernels *ops = device->ops;
	size_t		bytes = TOKENS * (size_t) spec->config.width * sizeof(float);
	size_t		total = spec->table.total * sizeof(float);
	int32_t		host[3 * TOKENS + 3];
	int32_t    *offsets = host + 3 * TOKENS;
	int32_t    *staged = ops->alloc(device, sizeof(host));
	DistilBatch batch = {.nseq = 2,.ntokens = TOKENS,.ids = staged,.positions = staged + TOKENS,
	.types = staged + 2 * TOKENS,.offsets = staged + 3 * TOKENS,.host_offsets = offsets};
	float	   *dhidden = ops->alloc(device, bytes);
	float	   *dweights = ops->alloc(device, total);
	float	   *weights;
	uint16_t   *half = NULL;
	DistilActivations *activations;
	const float *out;
	DistilError err = {{0}, {0}, {0}};
	int			i;

	memset(host, 0, sizeof(host));
	for (i = 0; i < TOKENS; i++)
		host[i] = 5 + i * 7 % (spec->config.vocabulary - 5);
	offsets[1] = 17;
	offsets[2] = TOKENS;
	for (i = 0; i < 2; i++)
		distil_positions(host + TOKENS + offsets[i], host + offsets[i], offsets[i + 1] - offsets[i],
						 &spec->config);
	ops->copy_in(device, staged, host, sizeof(host));
	MUST(distil_model_upload(&weights, model, device, distil_alloc_system(), NULL, &err));
	CHECK(distil_has_half(spec, device) == has_half);
	if (has_half)
		MUST(distil_half_weights(&half, weights, spec->table.total, device, &err));
	MUST(distil_activations_create_half(&activations, spec, TOKENS, true, half, device, distil_alloc_system(),
										&err));
	MUST(distil_encoder_forward(spec, weights, &batch, activations, 5, &out, device, NULL, &err));
	*hidden = malloc(bytes);
	*gradients = malloc(total);
	ops->copy_out(device, *hidden, out, bytes);
	/* the loss is half the sum of squares of every third value */
	for (i = 0; i < TOKENS * spec->config.width; i++)
		(*gradients)[i] = i % 3 == 0 ? (*hidden)[i] : 0.0f;
	ops->copy_in(device, dhidden, *gradients, bytes);
	ops->zero(device, dweights, spec->table.total);
	MUST(distil_encoder_backward(spec, weights, dweights, &batch, activations, 5, dhidden, device, NULL,
								 &err));
	ops->copy_out(device, *gradients, dweights, total);
	CHECK(ops->failure(device) == NULL);
	distil_activations_free(activations);
	ops->close(device);
}

static double
norm_of(const float *x, const float *y, size_t n)
{
	double		sum = 0;
	size_t		i;

	for (i = 0; i < n; i++)
		sum += (x[i] - (y != NULL ? (double) y[i] : 0)) * (x[i] - (y != NULL ? (double) y[i] : 0));
	return sqrt(sum);
}

/*
 * Against float32, with dropout.  Numbers of 8 bits in two layers: 2 parts in a hundred of each gradient, or
 * of all together where one is nothing but a difference (of keys' biases, nothing at all).  A term that is
 * missing, or dropped out elsewhere, costs ten times as much.
 */
static void
test_gradients(const char *arch)
{
	Fixture		fixture;
	const DistilParamTable *table;
	float	   *hidden[2];
	float	   *gradients[2];
	double		all;
	size_t		n;
	int			i;

	fixture_open_head(&fixture, arch, "lm");
	table = &fixture.model->spec.table;
	n = TOKENS * (size_t) fixture.model->spec.config.width;
	run_pass(fixture.model, EXACT, false, &hidden[0], &gradients[0]);
	run_pass(fixture.model, ROUNDED, true, &hidden[1], &gradients[1]);
	all = norm_of(gradients[0], NULL, table->total);
	CHECK_MSG(norm_of(hidden[1], hidden[0], n) < 2e-2 * norm_of(hidden[0], NULL, n), "%s: %g of %g\n", arch,
			  norm_of(hidden[1], hidden[0], n), norm_of(hidden[0], NULL, n));
	for (i = 0; i < table->n; i++)
	{
		const DistilParam *param = &table->params[i];
		const float *want = gradients[0] + param->offset;
		double		wrong = norm_of(gradients[1] + param->offset, want, param->count);

		CHECK_MSG(wrong <= 2e-2 * norm_of(want, NULL, param->count) + 1e-3 * all, "%s %s: %g of %g, all %g\n",
				  arch, param->name, wrong, norm_of(want, NULL, param->count), all);
	}
	for (i = 0; i < 2; i++)
	{
		free(hidden[i]);
		free(gradients[i]);
	}
	fixture_close(&fixture);
}

/*
 * Activations and products of numbers of 8 bits: each loss within a part
 * in a hundred, with checkpoints both ways.
 */
static void
test_rounded(const char *model, const char *json)
{
	FixtureJob	job;
	DistilDevice *devices[2] = {open_device("reference", NULL), open_device(BACKEND, ROUNDED)};
	double		want[64];
	double		got[64];
	double		moved[64];
	int			n;
	int			i;

	fixture_open_job(&job, model, "triple", json, TEXTS);
	n = run(&job, &devices[0], 1, 1000, want);
	CHECK(run(&job, &devices[1], 1, 1000, got) == n);
	CHECK(run(&job, devices, 2, 2, moved) == n);
	for (i = 0; i < n; i++)
	{
		CHECK_NEAR(got[i], want[i], 1e-2 * want[i]);
		CHECK_NEAR(moved[i], want[i], 1e-2 * want[i]);
	}
	fixture_close_job(&job);
	devices[0]->ops->close(devices[0]);
	devices[1]->ops->close(devices[1]);
}

/* Embeddings with activations in bfloat16: 2 layers that round to 8 bits. */
static void
test_embeddings(void)
{
	static const DistilText texts[] = {{"the lazy dog", 12}, {"good night", 10},
	{"a small house in the large city", 31}};
	DistilDevice *devices[2] = {open_device("reference", NULL), open_device(BACKEND, ROUNDED)};
	DistilError err = {{0}, {0}, {0}};
	Fixture		model;
	float		vectors[2][3 * 32];
	int			d;
	int			i;
	int			j;

	fixture_open(&model, "test/golden/models/bert-sentence");
	d = distil_model_info(model.model)->dimensions;
	CHECK(d <= 32);
	for (i = 0; i < 2; i++)
	{
		DistilSession *session;
		bool		has[3];

		MUST(distil_session_create(&session, model.model, devices[i], 0, distil_alloc_system(), NULL, &err));
		MUST(distil_session_embed(session, vectors[i], has, texts, 3, -1, &err));
		distil_session_free(session);
	}
	for (i = 0; i < 3; i++)
	{
		double		ab = 0;
		double		aa = 0;
		double		bb = 0;

		for (j = 0; j < d; j++)
		{
			double		a = vectors[0][d * i + j];
			double		b = vectors[1][d * i + j];

			ab += a * b;
			aa += a * a;
			bb += b * b;
		}
		CHECK_MSG(ab / sqrt(aa * bb) > 0.9995 && ab / sqrt(aa * bb) < 1 - 1e-9, "cosine %g\n",
				  ab / sqrt(aa * bb));
	}
	fixture_close(&model);
	devices[0]->ops->close(devices[0]);
	devices[1]->ops->close(devices[1]);
}

int
main(void)
{
#ifndef DISTIL_TEST_CUDA
	test_mistakes();
	test_limit();
	test_lost();
	test_several();
#endif
	test_embeddings();
	test_gradients("bert");
	test_gradients("gpt2");
	test_rounded("bert", masked_json);
#ifndef DISTIL_TEST_EMULATED	/* all of its tokens have logits */
	test_rounded("gpt2", causal_json);
#endif
	test_training("bert", "triple", masked_json);
#ifndef DISTIL_TEST_CUDA
	test_training("bert", "triple", triple_json);
	test_training("roberta", "triple", masked_json);
	test_training("distilbert", "embedding", embedding_json);
	test_training("mpnet", "embedding", embedding_json);
	test_training("gpt2", "embedding", embedding_json);
	test_gradients("albert");
	test_gradients("mpnet");
	test_small_memory(EXACT, 1e-5);
	test_small_memory(ROUNDED, 1e-2);
#endif
	return check_report("standin");
}
