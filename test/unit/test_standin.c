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

typedef struct Job
{
	Fixture		teacher;
	DistilTrainOptions options;
	void	   *spool;
	size_t		spool_size;
} Job;

static void
open_job(Job *job, const char *model, const char *method, const char *json)
{
	TestFolder	folder;

	CHECK(compose(&folder, model, "lm"));
	fixture_from_folder(&job->teacher, &folder.folder);
	test_folder_free(&folder);
	job->options = fixture_options(job->teacher.model, method, json);
	fixture_spool(&job->spool, &job->spool_size, job->teacher.model, &job->options, TEXTS);
}

static void
close_job(Job *job)
{
	free(job->spool);
	fixture_close(&job->teacher);
}

static DistilTrainer *
open_trainer(const Job *job, DistilDevice **device)
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
run(const Job *job, DistilDevice **devices, int ndevices, int save_every, double *losses)
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
	Job			job;
	DistilDevice *devices[2] = {open_device("reference", NULL), open_device(BACKEND, EXACT)};
	double		want[64];
	double		got[64];
	double		moved[64];
	int			n;
	int			i;

	open_job(&job, model, method, json);
	n = run(&job, &devices[0], 1, 1000, want);
	CHECK(run(&job, &devices[1], 1, 1000, got) == n && n >= 4);
	CHECK(run(&job, devices, 2, 2, moved) == n);
	for (i = 0; i < n; i++)
	{
		CHECK_NEAR(got[i], want[i], 1e-5 * want[i]);
		CHECK_NEAR(moved[i], want[i], 1e-5 * want[i]);
	}
	CHECK(devices[1]->ops->failure(devices[1]) == NULL);
	close_job(&job);
	devices[0]->ops->close(devices[0]);
	devices[1]->ops->close(devices[1]);
}

#ifndef DISTIL_TEST_CUDA

/* With less and less memory the pieces become smaller, then the job fails as out of memory. */
static void
test_small_memory(const char *isa, double tolerance)
{
	Job			job;
	DistilError err = {{0}, {0}, {0}};
	double		want[64];
	double		got[64];
	size_t		limit = (size_t) 64 << 20;
	int			least = DISTIL_DEVICE_PIECE_TOKENS;
	DistilStatus status = DISTIL_OK;
	DistilDevice *device = open_device(BACKEND, isa);

	open_job(&job, "bert", "triple", masked_json);
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
	close_job(&job);
}

/* The device is lost at its N-th operation: the step fails by name and no checkpoint can be sealed. */
static void
test_lost(void)
{
	Job			job;
	DistilTrainReport report;
	int			after;
	int			failed = 0;

	open_job(&job, "distilbert", "embedding", embedding_json);
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
	close_job(&job);
}

static void
test_several(void)
{
	Job			job;
	DistilError err = {{0}, {0}, {0}};
	DistilTrainer *trainer = NULL;
	DistilDevice *devices[2] = {open_device("standin", NULL), open_device("standin", NULL)};

	open_job(&job, "distilbert", "embedding", embedding_json);
	CHECK(distil_trainer_create(&trainer, job.teacher.model, &job.options, job.spool, job.spool_size, devices, 2,
								distil_alloc_system(), NULL, &err) == DISTIL_ERR_UNSUPPORTED);
	CHECK(trainer == NULL && strstr(err.message, "several") != NULL);
	close_job(&job);
	devices[0]->ops->close(devices[0]);
	devices[1]->ops->close(devices[1]);
}

#endif

/* Activations and products of numbers of 8 bits: each loss within a part in a hundred, with checkpoints both ways. */
static void
test_rounded(void)
{
	Job			job;
	DistilDevice *devices[2] = {open_device("reference", NULL), open_device(BACKEND, ROUNDED)};
	double		want[64];
	double		got[64];
	double		moved[64];
	int			n;
	int			i;

	open_job(&job, "bert", "triple", masked_json);
	n = run(&job, &devices[0], 1, 1000, want);
	CHECK(run(&job, &devices[1], 1, 1000, got) == n);
	CHECK(run(&job, devices, 2, 2, moved) == n);
	for (i = 0; i < n; i++)
	{
		CHECK_NEAR(got[i], want[i], 1e-2 * want[i]);
		CHECK_NEAR(moved[i], want[i], 1e-2 * want[i]);
	}
	close_job(&job);
	devices[0]->ops->close(devices[0]);
	devices[1]->ops->close(devices[1]);
}

/* Embeddings with activations in bfloat16: 2 layers that round to 8 bits. */
static void
test_embeddings(void)
{
	static const DistilText texts[] = {{"the lazy dog", 12}, {"good night", 10}, {"a small house in the large city", 31}};
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
		CHECK_MSG(ab / sqrt(aa * bb) > 0.9995 && ab / sqrt(aa * bb) < 1 - 1e-9, "cosine %g\n", ab / sqrt(aa * bb));
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
	test_rounded();
	test_training("bert", "triple", masked_json);
#ifndef DISTIL_TEST_CUDA
	test_training("bert", "triple", triple_json);
	test_training("roberta", "triple", masked_json);
	test_training("distilbert", "embedding", embedding_json);
	test_training("mpnet", "embedding", embedding_json);
	test_training("gpt2", "embedding", embedding_json);
	test_small_memory(EXACT, 1e-5);
	test_small_memory(ROUNDED, 1e-2);
#endif
	return check_report("standin");
}
