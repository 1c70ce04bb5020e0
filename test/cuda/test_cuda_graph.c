/*
 * test_cuda_graph.c
 *		Operations noted once and repeated, and small passes of a session that are computed so: the same bits
 *		as operation by operation, also when the device cannot, when it is cancelled, and with more sizes than
 *		are kept.
 */
#include "heads_fixture.h"

#define TEXTS 31
#define LONGEST 64
#define REQUESTS 5
#define ROUNDS 3

/*
 * cuBLASLt chooses by a pass's size, to which graphs fill up: there
 * only what was filled up alike is the same.
 */
#ifdef DISTIL_TEST_EMULATED
#define DIFFERENCE 0.0
#else
#define DIFFERENCE 5e-3
#endif

/* The device's operations, without graphs, and with graphs that are counted. */
static DistilKernels real;
static DistilKernels plain;
static DistilKernels counted;
static struct
{
	int			begins;
	int			notes;
	int			runs;
	int			frees;
	bool		unable;			/* to repeat what was noted */
}			count;

static bool
count_begin(DistilDevice *dev)
{
	count.begins++;
	return real.graph_begin(dev);
}

static DistilGraph *
count_end(DistilDevice *dev)
{
	DistilGraph *graph = real.graph_end(dev);

	if (count.unable)
	{
		real.graph_free(dev, graph);
		return NULL;
	}
	count.notes += graph != NULL;
	return graph;
}

static void
count_run(DistilDevice *dev, DistilGraph *graph)
{
	count.runs++;
	real.graph_run(dev, graph);
}

static void
count_free(DistilDevice *dev, DistilGraph *graph)
{
	count.frees += graph != NULL;
	real.graph_free(dev, graph);
}

static void
open_device(const char *precision)
{
	char		message[256];

	device = distil_device_open("cuda", precision, message, sizeof(message));
	CHECK_MSG(device != NULL, "%s\n", message);
	if (device == NULL)
		exit(1);
	memset(&count, 0, sizeof(count));
	real = plain = counted = *device->ops;
	plain.graph_begin = NULL;
	counted.graph_begin = count_begin;
	counted.graph_end = count_end;
	counted.graph_run = count_run;
	counted.graph_free = count_free;
}

static void
close_device(void)
{
	CHECK_MSG(real.failure(device) == NULL, "%s\n", real.failure(device));
	real.close(device);
}

/* ---------- operations ---------- */

static void
test_operations(void)
{
	float		host[3] = {1, 2, 3};
	float		back[3];
	float	   *x;
	float	   *y;
	DistilGraph *graph;

	open_device("float32");
	x = real.alloc(device, sizeof(host));
	y = real.alloc(device, sizeof(host));
	real.copy_in(device, x, host, sizeof(host));
	real.copy_in(device, y, host, sizeof(host));
	CHECK(real.graph_begin(device));
	real.axpy(device, y, x, 2.0f, 3);
	real.axpy(device, x, y, 1.0f, 3);
	graph = real.graph_end(device);
	CHECK(graph != NULL);
	real.copy_out(device, back, y, sizeof(back));
	CHECK(back[0] == 1 && back[2] == 3);	/* noted, not done */
	real.graph_run(device, graph);
	real.copy_out(device, back, y, sizeof(back));
	CHECK(back[0] == 3 && back[2] == 9);
	/* with what is there now: x is 4, y 3 */
	real.zero(device, y, 1);
	real.graph_run(device, graph);
	real.copy_out(device, back, y, sizeof(back));
	CHECK(back[0] == 8 && back[2] == 33);
	real.graph_free(device, graph);
	real.graph_free(device, NULL);

	/* a copy is neither done nor noted, and the device is well */
	CHECK(real.graph_begin(device));
	real.axpy(device, y, x, 2.0f, 3);
	real.copy_in(device, y, host, sizeof(host));
	CHECK(real.graph_end(device) == NULL && real.failure(device) == NULL);
	CHECK(real.graph_begin(device));
	real.copy_out(device, back, x, sizeof(back));
	CHECK(real.graph_end(device) == NULL && real.failure(device) == NULL);
	real.copy_out(device, back, y, sizeof(back));
	CHECK(back[0] == 8 && back[2] == 33);
	real.release(device, x);
	real.release(device, y);
	close_device();
}

/* ---------- sessions ---------- */

typedef struct Request
{
	int			n;
	int32_t		offsets[TEXTS + 1];
	int32_t		ids[TEXTS * LONGEST];
} Request;

/* n texts of these lengths, with tokens that depend on `seed`. */
static void
make_request(Request *request, const DistilModel *model, const int *lengths, int n, unsigned seed)
{
	int			vocab = model->spec.config.vocabulary;
	int			i;

	request->n = n;
	request->offsets[0] = 0;
	for (i = 0; i < n; i++)
		request->offsets[i + 1] = request->offsets[i] + lengths[i];
	for (i = 0; i < request->offsets[n]; i++)
	{
		seed = seed * 1664525 + 1013904223;
		request->ids[i] = (int32_t) ((seed >> 8) % (unsigned) vocab);
	}
}

static DistilStatus
embed(DistilSession *session, const DistilKernels *ops, const Request *request, float *out, int skip)
{
	DistilError err = {"", "", ""};

	device->ops = ops;
	return distil_session_embed_tokens(session, out, request->ids, request->offsets, request->n, skip, &err);
}

static DistilSession *
create(const DistilModel *model, const DistilPoll *poll)
{
	DistilSession *session = NULL;
	DistilError err = {"", "", ""};

	device->ops = &plain;
	CHECK_MSG(distil_session_create(&session, model, device, 0, distil_alloc_system(), poll,
									&err) == DISTIL_OK, "%s",
			  err.message);
	return session;
}

/* The same numbers with graphs as without; whether there were any is left to who asks. */
static void
compare(DistilSession *with, DistilSession *without, const DistilModel *model, const Request *request,
		int skip)
{
	size_t		floats = (size_t) request->n * (size_t) distil_model_info(model)->dimensions;
	float	   *a = calloc(floats, sizeof(float));
	float	   *b = calloc(floats, sizeof(float));

	CHECK(embed(without, &plain, request, a, skip) == DISTIL_OK);
	CHECK(embed(with, &counted, request, b, skip) == DISTIL_OK);
	CHECK_MSG(largest_difference(a, b, floats) <= DIFFERENCE, "%d texts of %d tokens: %g\n", request->n,
			  request->offsets[request->n], largest_difference(a, b, floats));
	free(a);
	free(b);
}

/* Requests whose texts change while the sizes that they are filled up to come again. */
static void
test_model(const char *name, const char *precision)
{
	LoadedModel loaded;
	DistilError err = {"", "", ""};
	DistilSession *with;
	DistilSession *without;
	Request		request;
	int			lengths[TEXTS];
	int			round;
	int			i;
	int			j;

	CHECK_MSG(load_head(&loaded, name, "sequence", &err) == DISTIL_OK, "%s: %s\n", name, err.message);
	if (loaded.model == NULL)
		return;
	open_device(precision);
	with = create(loaded.model, NULL);
	without = create(loaded.model, NULL);
	for (round = 0; round < ROUNDS; round++)
		for (i = 0; i < REQUESTS; i++)
		{
			int			n = 1 + i;

			for (j = 0; j < n; j++)
				lengths[j] = (i % 2 ? 12 : 24) / n + (round + j) % 2;
			make_request(&request, loaded.model, lengths, n, (unsigned) (round * REQUESTS + i));
			compare(with, without, loaded.model, &request, 0);
		}
	CHECK_MSG(count.notes > 0 && count.notes <= REQUESTS && count.runs >= count.notes + REQUESTS,
			  "%s: %d notes, %d runs\n", name, count.notes, count.runs);
	CHECK(with->stats.tokens == without->stats.tokens && with->stats.batches == without->stats.batches);
	/* a prompt that is not pooled: never */
	count.begins = count.runs = 0;
	for (round = 0; round < ROUNDS; round++)
		compare(with, without, loaded.model, &request, 1);
	CHECK(count.begins == 0 && count.runs == 0);
	distil_session_free(without);
	device->ops = &counted;
	distil_session_free(with);
	CHECK(count.frees == count.notes);
	close_device();
	load_free(&loaded);
}

/* The same bits the first time, when it is noted, and repeated: on a real GPU too. */
static void
test_bits(const LoadedModel *loaded, const char *precision)
{
	static const int lengths[] = {7, 13, 5};
	size_t		floats = 3 * (size_t) distil_model_info(loaded->model)->dimensions;
	float	   *first = calloc(floats, sizeof(float));
	float	   *again = calloc(floats, sizeof(float));
	DistilSession *session;
	Request		request;
	int			i;

	open_device(precision);
	session = create(loaded->model, NULL);
	make_request(&request, loaded->model, lengths, 3, 5);
	CHECK(embed(session, &counted, &request, first, 0) == DISTIL_OK && count.begins == 0);
	for (i = 0; i < 3; i++)
	{
		CHECK(embed(session, &counted, &request, again, 0) == DISTIL_OK && count.notes == 1 &&
			  count.runs == i + 1);
		CHECK(memcmp(first, again, floats * sizeof(float)) == 0);
	}
	distil_session_free(session);
	close_device();
	free(first);
	free(again);
}

/* A device that cannot repeat is not asked again for the same size. */
static void
test_unable(const LoadedModel *loaded)
{
	static const int lengths[] = {4, 9};
	DistilSession *with;
	DistilSession *without;
	Request		request;
	int			i;

	open_device("float32");
	count.unable = true;
	with = create(loaded->model, NULL);
	without = create(loaded->model, NULL);
	for (i = 0; i < 4; i++)
	{
		make_request(&request, loaded->model, lengths, 2, (unsigned) i);
		compare(with, without, loaded->model, &request, 0);
	}
	CHECK(count.begins == 1 && count.runs == 0);
	distil_session_free(with);
	distil_session_free(without);
	close_device();
}

/* More sizes than a session keeps, each asked for twice: the oldest are given back. */
static void
test_many_sizes(const LoadedModel *loaded)
{
	static const int totals[] = {16, 32, 48, 64, 96, 128, 160, 192};
	static const int numbers[] = {1, 3, 7, 15, 31};
	size_t		floats = TEXTS * (size_t) distil_model_info(loaded->model)->dimensions;
	float	   *out = calloc(floats, sizeof(float));
	DistilSession *session;
	Request		request;
	int			lengths[TEXTS];
	size_t		i;
	size_t		j;
	int			k;

	open_device("float32");
	session = create(loaded->model, NULL);
	for (i = 0; i < sizeof(totals) / sizeof(totals[0]); i++)
		for (j = 0; j < sizeof(numbers) / sizeof(numbers[0]); j++)
		{
			int			n = numbers[j];

			for (k = 0; k < n; k++)
				lengths[k] = totals[i] / n + (k < totals[i] % n);
			if (lengths[n - 1] < 1 || lengths[0] > session->max_tokens)
				continue;
			make_request(&request, loaded->model, lengths, n, (unsigned) (i + j));
			CHECK(embed(session, &counted, &request, out, 0) == DISTIL_OK);
			CHECK(embed(session, &counted, &request, out, 0) == DISTIL_OK);
		}
	CHECK_MSG(count.notes > DISTIL_SESSION_GRAPHS && count.frees == count.notes - DISTIL_SESSION_GRAPHS,
			  "%d notes, %d given back\n", count.notes, count.frees);
	device->ops = &counted;
	distil_session_free(session);
	CHECK(count.frees == count.notes);
	close_device();
	free(out);
}

static bool
stop_at(void *ctx)
{
	int		   *left = ctx;

	return *left >= 0 && (*left)-- == 0;
}

/* A cancel at each poll of the pass that is noted; then all is as before. */
static void
test_cancel(const LoadedModel *loaded)
{
	static const int lengths[] = {6, 3};
	size_t		floats = 2 * (size_t) distil_model_info(loaded->model)->dimensions;
	float	   *first = calloc(floats, sizeof(float));
	float	   *again = calloc(floats, sizeof(float));
	int			left = -1;
	DistilPoll	poll = {stop_at, &left};
	DistilStatus status = DISTIL_ERR_CANCELLED;
	DistilSession *session;
	Request		request;
	int			stop;

	open_device("float32");
	make_request(&request, loaded->model, lengths, 2, 1);
	for (stop = 0; status == DISTIL_ERR_CANCELLED && stop < 1000; stop++)
	{
		session = create(loaded->model, &poll);
		CHECK(embed(session, &counted, &request, first, 0) == DISTIL_OK);
		left = stop;
		status = embed(session, &counted, &request, again, 0);
		CHECK(status == DISTIL_OK || status == DISTIL_ERR_CANCELLED);
		left = -1;
		CHECK(embed(session, &counted, &request, again, 0) == DISTIL_OK);
		CHECK(memcmp(first, again, floats * sizeof(float)) == 0);
		device->ops = &counted;
		distil_session_free(session);
	}
	CHECK(status == DISTIL_OK && stop > 5 && count.frees == count.notes);
	close_device();
	free(first);
	free(again);
}

int
main(void)
{
	static const char *const names[] = {"bert", "mpnet", "gpt2", "albert", "electra-small"};
	LoadedModel loaded;
	size_t		i;

	test_operations();
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		test_model(names[i], "float32");
		test_model(names[i], "bf16");
	}
	if (!load_model(&loaded, MODELS "bert-sentence", true))
		exit(1);
	test_bits(&loaded, "float32");
	test_bits(&loaded, "bf16");
	test_unable(&loaded);
	test_many_sizes(&loaded);
	test_cancel(&loaded);
	load_free(&loaded);
	return check_report("cuda_graph");
}
