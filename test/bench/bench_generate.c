/*
 * bench_generate.c
 *		Writing on, on one core, against the memory's own speed.
 *
 *		bench_generate FOLDER TOKENS [ROUNDS]
 *
 * FOLDER holds a causal model.  Each new token reads every weight once but for the position table, so a
 * core that reads memory at B bytes/s writes at most B / weights tokens/s.  Prints the best of ROUNDS (5) for
 * both, taken in turns, their ratio, and the ids of the last round: "ids: 1 2 3".
 */
#include <math.h>
#include <time.h>

#include "load_model.h"
#include "session.h"

#define STREAM_BYTES ((size_t) 512 << 20)

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

/* Bytes per second of a sum over memory that no cache holds. */
static double
read_speed(const uint64_t *memory)
{
	static volatile uint64_t result;
	uint64_t	sums[32] = {0};
	double		start = now();

	for (size_t i = 0; i < STREAM_BYTES / sizeof(uint64_t); i += 32)
		for (int k = 0; k < 32; k++)
			sums[k] += memory[i + (size_t) k];
	for (int k = 0; k < 32; k++)
		result += sums[k];
	return (double) STREAM_BYTES / (now() - start);
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

int
main(int argc, char **argv)
{
	int			tokens = argc > 2 ? atoi(argv[2]) : 0;
	int			rounds = argc > 3 ? atoi(argv[3]) : 5;
	const int32_t prompt[4] = {1, 2, 3, 4};
	DistilGenerateOptions options = {tokens, 0, 0, 1, 0};
	uint64_t   *memory = calloc(1, STREAM_BYTES);
	char		message[256];
	DistilDevice *device = distil_device_open("cpu", NULL, message, sizeof(message));
	LoadedModel loaded;
	DistilSession *session;
	DistilError err;
	double		speed = 0;
	double		first = 1e9;
	double		all = 1e9;
	double		limit;

	if (tokens < 2 || memory == NULL || device == NULL || !load_model(&loaded, argv[1], true))
		die("usage: bench_generate FOLDER TOKENS [ROUNDS]");
	memset(memory, 1, STREAM_BYTES);
	if (distil_session_create(&session, loaded.model, device, 0, distil_alloc_system(), NULL, &err) != DISTIL_OK)
		die(err.message);
	for (int round = 0; round < rounds; round++)
	{
		for (int part = 0; part < 2; part++)
		{
			int32_t    *ids;
			int			n;
			double		start = now();

			/* one token costs the prompt; the others are what is measured */
			options.max_tokens = part == 0 ? 1 : tokens;
			if (distil_session_generate_ids(session, &ids, &n, prompt, 4, &options, &err) != DISTIL_OK)
				die(err.message);
			start = now() - start;
			if (n != options.max_tokens)
				die("the model ended early");
			if (part == 0)
				first = start < first ? start : first;
			else
				all = start < all ? start : all;
			for (int i = 0; part == 1 && round == rounds - 1 && i < n; i++)
				printf("%s%d%s", i == 0 ? "ids: " : "", ids[i], i + 1 < n ? " " : "\n");
			free(ids);
		}
		speed = fmax(speed, read_speed(memory));
	}
	limit = speed / weight_bytes(&loaded.model->spec);
	printf("%.0f MB of weights, memory read at %.2f GB/s: at most %.2f tokens/s\n",
		   weight_bytes(&loaded.model->spec) * 1e-6, speed * 1e-9, limit);
	printf("%.2f tokens/s, %.0f %% of the limit\n", (tokens - 1) / (all - first),
		   100 * (tokens - 1) / (all - first) / limit);
	distil_session_free(session);
	load_free(&loaded);
	device->ops->close(device);
	free(memory);
	return 0;
}
