/*
 * gpu_train.c
 *		Trains a student on a device without a server and prints tokens per second: the measurement of
 *		the CUDA backend, and the CPU's to compare with.
 *
 *	gpu_train BACKEND [PRECISION [MODEL [STEPS [BATCH [CHECKPOINT]]]]]
 *
 * BACKEND cuda, cpu, standin, or cuda*2 and so on: so many devices together, whose BATCH is that of all;
 * PRECISION auto, float32, bf16, tf32; MODEL base (BERT-base to DistilBERT, 30,522 tokens, random weights:
 * speed does not depend on them), tiny, or embed: BERT-base computes embeddings of BATCH sequences of 16 to
 * 64 tokens (the tokenizer at hand takes no more), STEPS times, with the last argument "launches" without
 * graphs.  In trainings sequences
 * have 128 tokens, losses are those of method triple on all tokens, as in the published recipe, and with the
 * last argument "masked" on the masked tokens only.  CHECKPOINT is written at the end, and read back on the
 * CPU.
 */
#include "load_model.h"
#include "train_fixture.h"

#include <time.h>

#define TOKENS 128
#define TEXTS 64

static const char base_json[] =
"{\"model_type\": \"bert\", \"architectures\": [\"BertForMaskedLM\"], \"hidden_size\": 768, "
"\"num_hidden_layers\": 12, "
"\"num_attention_heads\": 12, \"intermediate_size\": 3072, \"vocab_size\": 30522, "
"\"max_position_embeddings\": 512, "
"\"type_vocab_size\": 2, \"hidden_act\": \"gelu\"}";

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
}

/* The tiny model, or a large one with its tokenizer. */
static void
open_teacher(Fixture *teacher, bool base)
{
	DistilError err = {{0}, {0}, {0}};
	DistilCreated *created;
	Fixture		tiny;

	fixture_open(&tiny, "test/golden/models/bert-mlm");
	if (!base)
	{
		*teacher = tiny;
		return;
	}
	MUST(distil_create(&created, base_json, strlen(base_json), tiny.model, 1, distil_alloc_system(), NULL,
					   &err));
	fixture_from_folder(teacher, distil_created_folder(created));
	distil_created_free(created);
	fixture_close(&tiny);
}

/* Long texts, which the spool cuts into whole sequences. */
static void
make_spool(void **spool, size_t *size, const DistilModel *teacher, const DistilTrainOptions *options,
		   int sequences)
{
	DistilError err = {{0}, {0}, {0}};
	DistilBuffer buffer;
	DistilSink	sink = {fixture_write, &buffer};
	DistilSpool *writer;
	int			number = 0;

	distil_buffer_init(&buffer, distil_alloc_system());
	MUST(distil_spool_create(&writer, teacher, options, &sink, distil_alloc_system(), NULL, &err));
	while (distil_spool_info(writer)->sequences < sequences)
	{
		char		text[65536];
		size_t		used = 0;
		DistilText	view = {text, 0};

		for (int i = 0; i < TEXTS; i++, used += strlen(text + used))
			fixture_sentence(text + used, sizeof(text) - used, number++);
		view.length = used;
		MUST(distil_spool_add(writer, &view, &err));
	}
	MUST(distil_spool_finish(writer, &err));
	distil_spool_free(writer);
	*size = buffer.length;
	*spool = aligned_alloc(64, (buffer.length + 63) / 64 * 64);
	memcpy(*spool, buffer.data, buffer.length);
	distil_buffer_free(&buffer);
}

/* Write the checkpoint and read it with a trainer on the CPU. */
static void
check_checkpoint(DistilTrainer *trainer, const DistilModel *teacher, const DistilTrainOptions *options,
				 const void *spool, size_t size, const char *path)
{
	DistilError err = {{0}, {0}, {0}};
	DistilBuffer buffer;
	DistilSink	sink = {fixture_write, &buffer};
	DistilDevice *cpu = fixture_device("cpu");
	DistilTrainer *other;
	DistilTrainReport report;
	FILE	   *file = fopen(path, "wb");

	distil_buffer_init(&buffer, distil_alloc_system());
	MUST(distil_trainer_save(trainer, &sink, &err));
	if (file == NULL || fwrite(buffer.data, 1, buffer.length, file) != buffer.length || fclose(file) != 0)
	{
		perror(path);
		exit(1);
	}
	MUST(distil_trainer_create(&other, teacher, options, spool, size, &cpu, 1, distil_alloc_system(), NULL,
							   &err));
	MUST(distil_trainer_restore(other, buffer.data, buffer.length, &report, &err));
	printf("checkpoint of step %lld: %zu bytes, read back on the CPU\n", (long long) report.step,
		   buffer.length);
	distil_trainer_free(other);
	cpu->ops->close(cpu);
	distil_buffer_free(&buffer);
}

/* Tokens per second of embeddings of mixed lengths. */
static void
measure_embedding(DistilDevice *device, int steps, int n, bool launches)
{
	static DistilKernels plain;
	DistilError err = {{0}, {0}, {0}};
	int32_t    *offsets = calloc((size_t) n + 1, sizeof(int32_t));
	int32_t    *ids = calloc((size_t) n * 64, sizeof(int32_t));
	float	   *out = calloc((size_t) n * 768, sizeof(float));
	DistilSession *session;
	Fixture		model;
	double		begin = 0;
	int			i;

	open_teacher(&model, true);
	for (i = 0; i < n; i++)
		offsets[i + 1] = offsets[i] + 16 + i * 37 % 49;
	for (i = 0; i < offsets[n]; i++)
		ids[i] = 1000 + (int32_t) ((int64_t) i * 7919 % 29000);
	plain = *device->ops;
	plain.graph_begin = NULL;
	if (launches)
		device->ops = &plain;
	MUST(distil_session_create(&session, model.model, device, 0, distil_alloc_system(), NULL, &err));
	/* the first two choose algorithms and make graphs */
	for (i = 0; i < steps + 2; i++)
	{
		if (i == 2)
			begin = seconds();
		MUST(distil_session_embed_tokens(session, out, ids, offsets, n, 0, &err));
	}
	printf("embeddings: %.0f tokens/s, %.3f ms for %d tokens\n",
		   (double) offsets[n] * steps / (seconds() - begin), (seconds() - begin) / steps * 1e3, offsets[n]);
	distil_session_free(session);
	fixture_close(&model);
	free(out);
	free(ids);
	free(offsets);
}

/* "cuda", or several as "cuda*2"; gives their number. */
static int
open_devices(DistilDevice **devices, const char *backend, const char *precision)
{
	const char *star = strchr(backend, '*');
	char		name[40];
	char		message[400];
	int			n = star != NULL ? atoi(star + 1) : 1;

	snprintf(name, sizeof(name), "%.*s", star != NULL ? (int) (star - backend) : 30, backend);
	if (star == NULL)
		devices[0] = distil_device_open(name, precision, message, sizeof(message));
	if (star != NULL ? !distil_device_open_group(name, precision, devices, n, message,
												 sizeof(message)) : devices[0] == NULL)
	{
		fprintf(stderr, "%s\n", message);
		exit(1);
	}
	return n;
}

int
main(int argc, char **argv)
{
	const char *backend = argc > 1 ? argv[1] : "cpu";
	bool		base = argc > 3 && strcmp(argv[3], "base") == 0;
	int			steps = argc > 4 ? atoi(argv[4]) : 10;
	int			batch = argc > 5 ? atoi(argv[5]) : base ? 256 : 16;
	bool		masked = argc > 1 && strcmp(argv[argc - 1], "masked") == 0;
	DistilTrainOptions options;
	DistilTrainReport report;
	DistilError err = {{0}, {0}, {0}};
	DistilTrainer *trainer;
	DistilDevice *devices[DISTIL_MAX_GROUP];
	int			ndevices;
	Fixture		teacher;
	char		json[400];
	void	   *spool;
	size_t		size;
	double		begin = 0;
	int64_t		before = 0;

	ndevices = open_devices(devices, backend, argc > 2 ? argv[2] : NULL);
	if (argc > 3 && strcmp(argv[3], "embed") == 0 && ndevices == 1)
	{
		measure_embedding(devices[0], steps, batch, strcmp(argv[argc - 1], "launches") == 0);
		devices[0]->ops->close(devices[0]);
		return 0;
	}
	open_teacher(&teacher, base);
	snprintf(json, sizeof(json),
			 "{\"layers\": %d, \"batch_size\": %d, \"gradient_accumulation_steps\": 1, \"max_steps\": %d, "
			 "\"max_tokens\": %d, \"warmup_prop\": 0.01, \"restrict_ce_to_mask\": %s}", base ? 6 : 1, batch,
			 steps, base ? TOKENS : 40, masked ? "true" : "false");
	options = fixture_options(teacher.model, "triple", json);
	make_spool(&spool, &size, teacher.model, &options, 2 * batch);
	MUST(distil_trainer_create(&trainer, teacher.model, &options, spool, size, devices, ndevices,
							   distil_alloc_system(), NULL, &err));
	while (!distil_trainer_done(trainer))
	{
		MUST(distil_trainer_step(trainer, &report, &err));
		printf("step %lld loss %.6f norm %.4f\n", (long long) report.step, report.loss, report.gradient_norm);
		/* the first steps choose algorithms */
		if (report.step == (steps > 4 ? 3 : 1))
		{
			begin = seconds();
			before = report.tokens;
		}
	}
	printf("%s %s: %.0f tokens/s\n", backend, argc > 2 ? argv[2] : "auto",
		   (double) (report.tokens - before) / (seconds() - begin));
	if (argc > 6 && strcmp(argv[6], "masked") != 0)
		check_checkpoint(trainer, teacher.model, &options, spool, size, argv[6]);
	distil_trainer_free(trainer);
	while (ndevices > 0)
	{
		ndevices--;
		devices[ndevices]->ops->close(devices[ndevices]);
	}
	fixture_close(&teacher);
	free(spool);
	return 0;
}
