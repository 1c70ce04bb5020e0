/*
 * train_folder.c
 *		Distil a model folder without a server: teacher folder + text file -> student folder.
 *
 *	train_folder TEACHER TEXTS STUDENT [METHOD [OPTIONS-JSON [THREADS [CHECKPOINT-EVERY]]]]
 *
 * One text per line.  Prints a report per step and tokens per second.  With
 * CHECKPOINT-EVERY n the training is saved and restored into a new trainer every n steps,
 * which must change nothing.
 */
#include <errno.h>
#include <sys/stat.h>
#include <time.h>

#include "load_model.h"

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
}

/* Longest processor time of the calling thread between two polls, in seconds. */
typedef struct PollGap
{
	double		last;
	double		longest;
} PollGap;

static bool
measure_poll(void *ctx)
{
	PollGap    *gap = ctx;
	struct timespec now;
	double		t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	t = (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
	if (gap->last > 0 && t - gap->last > gap->longest)
		gap->longest = t - gap->last;
	gap->last = t;
	return false;
}

static int
fail(const DistilError *err)
{
	fprintf(stderr, "error: %s\n%s\n%s\n", err->message, err->detail, err->hint);
	return 1;
}

/* The whole spool, 64-byte aligned. */
static DistilStatus
make_spool(void **spool, size_t *size, const DistilModel *teacher, const DistilTrainOptions *options,
		   FILE *texts, DistilError *err)
{
	const DistilAllocator *alloc = distil_alloc_system();
	DistilBuffer buffer;
	DistilSink	sink = {load_sink, &buffer};
	DistilSpool *writer;
	const DistilSpoolInfo *info;
	char	   *line = NULL;
	size_t		capacity = 0;
	ssize_t		length;
	double		begin = seconds();
	DistilStatus status;

	distil_buffer_init(&buffer, alloc);
	status = distil_spool_create(&writer, teacher, options, &sink, alloc, NULL, err);
	if (status != DISTIL_OK)
		return status;
	while (status == DISTIL_OK && (length = getline(&line, &capacity, texts)) >= 0)
	{
		DistilText	text = {line, (size_t) length};

		if (length > 0 && line[length - 1] == '\n')
			text.length--;
		status = distil_spool_add(writer, &text, err);
	}
	free(line);
	if (status == DISTIL_OK)
		status = distil_spool_finish(writer, err);
	info = distil_spool_info(writer);
	if (status == DISTIL_OK)
		fprintf(stderr, "%lld texts, %lld sequences, %lld tokens in %.2f s\n", (long long) info->texts,
				(long long) info->sequences, (long long) info->tokens, seconds() - begin);
	distil_spool_free(writer);
	*size = buffer.length;
	*spool = aligned_alloc(64, (buffer.length + 63) / 64 * 64);
	memcpy(*spool, buffer.data, buffer.length);
	distil_buffer_free(&buffer);
	return status;
}

/* mkdir -p of the directory of a path. */
static void
make_parents(char *path)
{
	char	   *slash;

	for (slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/'))
	{
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
}

static DistilStatus
write_folder(const DistilFolder *folder, const char *path, DistilError *err)
{
	int			i;

	for (i = 0; i < folder->nfiles; i++)
	{
		const DistilFile *file = &folder->files[i];
		char		name[4096];
		char		part[65536];
		uint64_t	at;
		FILE	   *out;

		snprintf(name, sizeof(name), "%s/%s", path, file->name);
		make_parents(name);
		out = fopen(name, "wb");
		if (out == NULL)
			return distil_fail(err, DISTIL_ERR_IO, "cannot write file \"%s\": %s", name, strerror(errno));
		for (at = 0; at < file->reader.size; at += sizeof(part))
		{
			uint64_t	left = file->reader.size - at;
			size_t		take = left < sizeof(part) ? (size_t) left : sizeof(part);
			DistilStatus status = file->reader.read(file->reader.ctx, at, part, take, err);

			if (status != DISTIL_OK)
			{
				fclose(out);
				return status;
			}
			fwrite(part, 1, take, out);
		}
		fclose(out);
	}
	return DISTIL_OK;
}

static DistilStatus
train(DistilTrainer **trainer, const DistilModel *teacher, const DistilTrainOptions *options,
	  const void *spool, size_t size, DistilDevice **devices, int ndevices, int every, DistilError *err)
{
	const DistilAllocator *alloc = distil_alloc_system();
	PollGap		gap = {0, 0};
	DistilPoll	poll = {measure_poll, &gap};
	double		begin = seconds();

	DISTIL_FORWARD(distil_trainer_create(trainer, teacher, options, spool, size, devices, ndevices, alloc,
										 &poll, err));
	fprintf(stderr, "longest time between polls while made ready: %.1f ms\n", gap.longest * 1000);
	gap.longest = 0;
	fprintf(stderr, "ready in %.2f s\n", seconds() - begin);
	begin = seconds();
	while (!distil_trainer_done(*trainer))
	{
		DistilTrainReport r;

		DISTIL_FORWARD(distil_trainer_step(*trainer, &r, err));
		printf("step %lld/%lld epoch %.3f loss %.5f ce %.4f mlm %.4f cos %.4f eval %.5f"
			   " lr %.3g norm %.3g skipped %lld tokens/s %.0f\n", (long long) r.step,
			   (long long) r.steps, r.epoch, r.loss, r.loss_ce, r.loss_mlm,
			   r.loss_cos, r.eval_loss, r.learning_rate, r.gradient_norm, (long long) r.skipped,
			   (double) r.tokens / (seconds() - begin));
		fflush(stdout);
		if (every > 0 && r.step % every == 0)
		{
			DistilBuffer buffer;
			DistilSink	sink = {load_sink, &buffer};

			distil_buffer_init(&buffer, alloc);
			DISTIL_FORWARD(distil_trainer_save(*trainer, &sink, err));
			distil_trainer_free(*trainer);
			*trainer = NULL;
			DISTIL_FORWARD(distil_trainer_create(trainer, teacher, options, spool, size, devices, ndevices,
												 alloc, &poll, err));
			DISTIL_FORWARD(distil_trainer_restore(*trainer, buffer.data, buffer.length, &r, err));
			distil_buffer_free(&buffer);
		}
	}
	fprintf(stderr, "longest time between polls in steps: %.1f ms\n", gap.longest * 1000);
	return DISTIL_OK;
}

int
main(int argc, char **argv)
{
	const char *method = argc > 4 ? argv[4] : NULL;
	const char *json = argc > 5 ? argv[5] : "{}";
	int			threads = argc > 6 ? atoi(argv[6]) : 1;
	int			every = argc > 7 ? atoi(argv[7]) : 0;
	const DistilAllocator *alloc = distil_alloc_system();
	DistilError err = {{0}, {0}, {0}};
	DistilDevice *devices[64];
	DistilTrainOptions options;
	DistilTrainer *trainer = NULL;
	const DistilFolder *folder;
	LoadedModel teacher;
	FILE	   *texts;
	void	   *spool;
	size_t		size;
	char	   *effective;
	int			i;

	if (argc < 4 || threads < 1 || threads > 64)
	{
		fprintf(stderr, "usage: train_folder TEACHER TEXTS STUDENT "
				"[METHOD [OPTIONS [THREADS [CHECKPOINT-EVERY]]]]\n");
		return 2;
	}
	texts = fopen(argv[2], "rb");
	if (texts == NULL || !load_model(&teacher, argv[1], true))
		return 1;
	if (distil_train_options_parse(&options, method, json, strlen(json), teacher.model, alloc,
								   &err) != DISTIL_OK ||
		distil_train_options_write(&effective, &options, alloc, &err) != DISTIL_OK)
		return fail(&err);
	fprintf(stderr, "%s\n", effective);
	distil_release(alloc, effective);
	for (i = 0; i < threads; i++)
	{
		devices[i] = distil_device_open("cpu", NULL, err.message, sizeof(err.message));
		if (devices[i] == NULL)
			return fail(&err);
	}
	if (make_spool(&spool, &size, teacher.model, &options, texts, &err) != DISTIL_OK ||
		train(&trainer, teacher.model, &options, spool, size, devices, threads, every, &err) != DISTIL_OK ||
		distil_trainer_student(trainer, &folder, &err) != DISTIL_OK ||
		write_folder(folder, argv[3], &err) != DISTIL_OK)
		return fail(&err);
	distil_trainer_free(trainer);
	for (i = 0; i < threads; i++)
		devices[i]->ops->close(devices[i]);
	free(spool);
	load_free(&teacher);
	fclose(texts);
	return 0;
}
