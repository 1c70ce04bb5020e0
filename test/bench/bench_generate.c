/*
 * bench_generate.c
 *		Writing on, on one core, against the memory's own speed.
 *
 *		bench_generate FOLDER TOKENS [ROUNDS]
 *
 * FOLDER holds a causal model; room for a copy of its weights is taken there while this runs.  Each new token
 * reads every weight once but for the position table, so a core that reads memory at B bytes/s writes at most
 * B / weights tokens/s.  B is that of the very pages that the weights are in, a mapped file of the page cache
 * as in a server, and of the fastest of several ways to read them: another memory, or one of another size,
 * has other pages and another share of the last cache.  Prints the best of ROUNDS (5) for both in processor
 * time, taken in turns, their ratio, and the ids of the last round: "ids: 1 2 3".
 */
#include <fcntl.h>
#include <math.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "load_model.h"
#include "session.h"

typedef uint64_t Line __attribute__((vector_size(64)));

/* A way to read: so many places in turn, four lines at a time, and requests so many bytes ahead of each. */
typedef struct Pattern
{
	int			streams;
	size_t		ahead;
} Pattern;

static const Pattern patterns[] = {
	{1, 0}, {1, 1024}, {2, 0}, {2, 1024}, {4, 0}, {4, 1024}, {8, 0}, {8, 1024}, {16, 0}, {16, 1024}
};

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

/* Sums whole lines; compiled for each width of vectors, the CPU's own is taken. */
__attribute__((target_clones("avx512f", "avx2", "default")))
static uint64_t
read_lines(const char *memory, size_t bytes, Pattern pattern)
{
	size_t		part = bytes / (size_t) pattern.streams / 256 * 256;
	Line		sums[4] = {{0}};
	uint64_t	sum = 0;

	for (size_t i = 0; i < part; i += 256)
		for (int k = 0; k < pattern.streams; k++)
		{
			const Line *at = (const Line *) (memory + (size_t) k * part + i);

			for (size_t line = 0; line < 4; line++)
			{
				if (pattern.ahead > 0)
					__builtin_prefetch((const char *) (at + line) + pattern.ahead);
				sums[line] += at[line];
			}
		}
	for (int k = 0; k < 8; k++)
		sum += sums[0][k] + sums[1][k] + sums[2][k] + sums[3][k];
	return sum;
}

/* Bytes per second of the fastest pattern. */
static double
read_speed(const char *memory, size_t bytes)
{
	static volatile uint64_t result;
	double		best = 0;

	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
	{
		double		start = now();
		double		speed;

		result += read_lines(memory, bytes, patterns[i]);
		speed = (double) bytes / (now() - start);
		best = speed > best ? speed : best;
	}
	return best;
}

/* Bytes of weights that one token reads. */
static double
weight_bytes(const DistilSpec *spec)
{
	double		floats = 0;

	for (int i = 0; i < spec->table.n; i++)
		if (i != spec->position)
			floats += (double) spec->table.params[i].count;
	return floats * sizeof(float);
}

static void
die(const char *message)
{
	fprintf(stderr, "bench_generate: %s\n", message);
	exit(1);
}

/* The image of a folder's model, in a file without a name that is mapped as a server maps its copies. */
static const DistilImageHeader *
map_image(const char *folder)
{
	char		path[4096];
	LoadedModel loaded;
	const DistilImageHeader *header;
	size_t		size;
	int			fd;

	if (snprintf(path, sizeof(path), "%s/image-XXXXXX", folder) >= (int) sizeof(path) ||
		!load_model(&loaded, folder, true))
		die("the model cannot be loaded");
	size = (size_t) ((const DistilImageHeader *) loaded.image)->size;
	fd = mkstemp(path);
	if (fd < 0 || unlink(path) != 0 || ftruncate(fd, (off_t) size) != 0)
		die("no file for the weights can be made in the folder");
	for (size_t done = 0; done < size;)
	{
		ssize_t		n = write(fd, (const char *) loaded.image + done, size - done);

		if (n <= 0)
			die("the weights cannot be written into the folder");
		done += (size_t) n;
	}
	load_free(&loaded);
	header = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (header == MAP_FAILED)
		die("the weights cannot be mapped");
	close(fd);
	return header;
}

/* Seconds for n new tokens; *ids, which are to be freed, are those. */
static double
generate(DistilSession *session, int n, int32_t **ids)
{
	const int32_t prompt[4] = {1, 2, 3, 4};
	DistilGenerateOptions options = {n, 0, 0, 1, 0};
	DistilError err;
	int			made;
	double		start = now();

	if (distil_session_generate_ids(session, ids, &made, prompt, 4, &options, &err) != DISTIL_OK)
		die(err.message);
	if (made != n)
		die("the model ended early");
	return now() - start;
}

int
main(int argc, char **argv)
{
	int			tokens = argc > 2 ? atoi(argv[2]) : 0;
	int			rounds = argc > 3 ? atoi(argv[3]) : 5;
	char		message[256];
	DistilDevice *device = distil_device_open("cpu", NULL, message, sizeof(message));
	const DistilImageHeader *image;
	DistilModel *model;
	DistilSession *session;
	DistilError err;
	int32_t    *ids = NULL;
	double		speed = 0;
	double		first = 1e9;
	double		all = 1e9;
	double		limit;

	if (tokens < 2 || rounds < 1 || device == NULL)
		die("usage: bench_generate FOLDER TOKENS [ROUNDS]");
	image = map_image(argv[1]);
	if (distil_model_open(&model, image, image->size, image->sha256, distil_alloc_system(),
						  &err) != DISTIL_OK ||
		distil_session_create(&session, model, device, 0, distil_alloc_system(), NULL, &err) != DISTIL_OK)
		die(err.message);
	for (int round = 0; round < rounds; round++)
	{
		/* one token costs the prompt; the others are what is measured */
		free(ids);
		first = fmin(first, generate(session, 1, &ids));
		free(ids);
		all = fmin(all, generate(session, tokens, &ids));
		speed = fmax(speed, read_speed((const char *) image + image->weights_offset,
									   image->weights_count * sizeof(float)));
	}
	printf("ids:");
	for (int i = 0; i < tokens; i++)
		printf(" %d", ids[i]);
	limit = speed / weight_bytes(&model->spec);
	printf("\n%.0f MB of weights, read from the page cache at %.2f GB/s: at most %.2f tokens/s\n",
		   weight_bytes(&model->spec) * 1e-6, speed * 1e-9, limit);
	printf("%.2f tokens/s, %.0f %% of the limit\n", (tokens - 1) / (all - first),
		   100 * (tokens - 1) / (all - first) / limit);
	free(ids);
	distil_session_free(session);
	distil_model_free(model);
	device->ops->close(device);
	munmap((void *) image, image->size);
	return 0;
}
