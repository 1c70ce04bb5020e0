/*
 * bench_image.c
 *		One thread of the engine over a mapped copy, as a server process for the benchmark's driver.
 *
 *	bench_image IMAGE [isa]
 *
 * IMAGE is a file of a server's pgsql_tmp_distil: precision and layout are those the server uses.
 * Commands, one per line of standard input, and their answers:
 *	time SECONDS ID ...		forward passes of one sequence for so long (two at least), after an untimed one:
 *							"CALLS MEDIAN BEST", milliseconds of processor time
 *	hidden ID ...			"TOKENS WIDTH" and the last hidden state, raw float32
 *	embed FILE				embeds all lines of a file: "TEXTS PASSED PROCESSOR", seconds, tokenizer included
 * The rule a newcomer would break: nothing but answers goes to standard output.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "image.h"
#include "session.h"

#define MAX_CALLS 100000

static DistilSession *session;	/* texts, cut as the model's users have them */
static DistilSession *whole;	/* sequences of all the model's positions */
static int32_t ids[DISTIL_SESSION_TOKENS * 8];

static _Noreturn void
die(const char *what)
{
	fprintf(stderr, "bench_image: %s\n", what);
	exit(1);
}

static double
processor_time(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static int
compare_times(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return (x > y) - (x < y);
}

static const float *
forward(int n)
{
	static const int32_t types[sizeof(ids) / sizeof(ids[0])];
	const float *hidden;
	DistilError err;

	if (distil_session_single(whole, ids, types, n, &hidden, &err) != DISTIL_OK)
		die(err.message);
	return hidden;
}

static int
read_ids(char *list)
{
	int			n = 0;
	char	   *word;

	for (word = strtok(list, " \n"); word != NULL; word = strtok(NULL, " \n"))
	{
		if (n == whole->max_tokens || n == sizeof(ids) / sizeof(ids[0]))
			die("too many tokens");
		ids[n++] = atoi(word);
	}
	return n;
}

static void
answer_time(char *arguments)
{
	static double times[MAX_CALLS];
	double		seconds = strtod(arguments, &arguments);
	int			n = read_ids(arguments);
	int			calls = 0;
	double		began;

	forward(n);
	began = processor_time();
	while (calls < MAX_CALLS && (calls < 2 || processor_time() - began < seconds))
	{
		double		start = processor_time();

		forward(n);
		times[calls++] = (processor_time() - start) * 1e3;
	}
	qsort(times, (size_t) calls, sizeof(double), compare_times);
	printf("%d %.6f %.6f\n", calls, times[calls / 2], times[0]);
}

static void
answer_hidden(char *arguments)
{
	int			n = read_ids(arguments);
	size_t		count = (size_t) n * (size_t) session->model->spec.config.width;
	float	   *host = malloc(count * sizeof(float));

	if (host == NULL)
		die("out of memory");
	whole->device->ops->copy_out(whole->device, host, forward(n), count * sizeof(float));
	printf("%d %d\n", n, session->model->spec.config.width);
	fwrite(host, sizeof(float), count, stdout);
	free(host);
}

static void
answer_embed(const char *path)
{
	FILE	   *file = fopen(path, "r");
	DistilText *texts = NULL;
	char	   *line = NULL;
	size_t		capacity = 0;
	ssize_t		length;
	int			n = 0;
	float	   *out;
	bool	   *has;
	double		passed;
	double		processor;
	DistilError err;

	if (file == NULL)
		die(path);
	while ((length = getline(&line, &capacity, file)) > 0)
	{
		if (line[length - 1] == '\n')
			length--;
		if (n % 1024 == 0)
			texts = realloc(texts, sizeof(DistilText) * (size_t) (n + 1024));
		texts[n].data = line;
		texts[n++].length = (size_t) length;
		line = NULL;
		capacity = 0;
	}
	fclose(file);
	free(line);
	out = calloc((size_t) n * (size_t) session->model->spec.info.dimensions + 1, sizeof(float));
	has = calloc((size_t) n + 1, sizeof(bool));
	if (out == NULL || has == NULL)
		die("out of memory");
	passed = distil_session_clock();
	processor = processor_time();
	if (distil_session_embed(session, out, has, texts, n, -1, &err) != DISTIL_OK)
		die(err.message);
	printf("%d %.6f %.6f\n", n, distil_session_clock() - passed, processor_time() - processor);
	while (n > 0)
		free((char *) texts[--n].data);
	free(texts);
	free(out);
	free(has);
}

static DistilSession *
open_session(const DistilModel *model, DistilDevice *device)
{
	DistilSession *opened;
	DistilError err;

	if (distil_session_create(&opened, model, device, 0, distil_alloc_system(), NULL, &err) != DISTIL_OK)
		die(err.message);
	return opened;
}

static DistilModel *
open_image(const char *path)
{
	int			fd = open(path, O_RDONLY);
	struct stat info;
	DistilModel *model;
	DistilError err;
	const DistilImageHeader *header;

	if (fd < 0 || fstat(fd, &info) != 0 || (size_t) info.st_size < sizeof(*header))
		die("the image cannot be read");
	header = mmap(NULL, (size_t) info.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (header == MAP_FAILED)
		die("the image cannot be mapped");
	if (distil_model_open(&model, header, (size_t) info.st_size, header->sha256, distil_alloc_system(),
						  &err) != DISTIL_OK)
		die(err.message);
	return model;
}

int
main(int argc, char **argv)
{
	char		message[256] = "";
	DistilDevice *device;
	DistilModel *model;
	char	   *line = NULL;
	size_t		capacity = 0;

	if (argc < 2)
		die("usage: bench_image IMAGE [isa]");
	model = open_image(argv[1]);
	device = distil_device_open("cpu", argc > 2 ? argv[2] : NULL, message, sizeof(message));
	if (device == NULL)
		die(message);
	session = open_session(model, device);
	model->spec.info.max_tokens = model->spec.config.positions - model->spec.config.position_offset;
	whole = open_session(model, device);
	while (getline(&line, &capacity, stdin) > 0)
	{
		if (strncmp(line, "time ", 5) == 0)
			answer_time(line + 5);
		else if (strncmp(line, "hidden ", 7) == 0)
			answer_hidden(line + 7);
		else if (strncmp(line, "embed ", 6) == 0)
		{
			line[strcspn(line, "\n")] = '\0';
			answer_embed(line + 6);
		}
		else
			die("unknown command");
		fflush(stdout);
	}
	free(line);
	distil_session_free(session);
	distil_session_free(whole);
	device->ops->close(device);
	distil_model_free(model);
	return 0;
}
