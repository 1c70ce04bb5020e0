/*
 * test_session_share.c
 *		Batches shared by threads: the same bits and figures as alone, whoever computes them;
 *		cancels, bad texts and failing allocations in the middle; limits.
 */
#include "heads_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#include "session.h"
#include "thread_pool.h"

#define N 240
#define WORKERS 4

static DistilText many[N];
static DistilDevice *others[WORKERS - 1];

/* Texts of all lengths, some equal, some empty, one longer than the model's limit. */
static void
make_texts(void)
{
	static const char *const words[] = {"the", "cat", "reads", "a", "large", "table", "of", "rows", "water",
										"by",
	"night"};
	int			i;
	int			j;

	for (i = 0; i < N; i++)
	{
		char	   *text = calloc(1, 4096);
		int			kind = i % 4 == 3 ? i - 3 : i;

		for (j = 0; j < (kind == 100 ? 400 : (kind * 7919) % 90); j++)
		{
			strcat(text, words[(kind * 31 + j * 17) % 11]);
			strcat(text, " ");
		}
		many[i].data = text;
		many[i].length = strlen(text);
	}
}

/* ---------- memory of the other threads: counted, and the k-th fails ---------- */

typedef struct Memory
{
	atomic_int	calls;
	atomic_int	live;
	int			fail_at;		/* 0: never */
	pthread_t	main_thread;
	atomic_int	by_main;		/* taken by the calling thread */
} Memory;

static void *
memory_alloc(void *ctx, size_t bytes)
{
	Memory	   *memory = ctx;
	void	   *result;

	if (pthread_equal(pthread_self(), memory->main_thread))
		atomic_fetch_add(&memory->by_main, 1);
	if (atomic_fetch_add(&memory->calls, 1) + 1 == memory->fail_at)
		return NULL;
	result = malloc(bytes);
	if (result != NULL)
		atomic_fetch_add(&memory->live, 1);
	return result;
}

static void
memory_release(void *ctx, void *data)
{
	Memory	   *memory = ctx;

	if (data != NULL)
		atomic_fetch_sub(&memory->live, 1);
	free(data);
}

/* ---------- stops ---------- */

typedef struct Countdown
{
	int			calls;
	int			stop_at;		/* 0: never */
	pthread_t	main_thread;
	bool		foreign;		/* asked by another thread */
} Countdown;

static bool
countdown_stop(void *ctx)
{
	Countdown  *countdown = ctx;

	if (!pthread_equal(pthread_self(), countdown->main_thread))
		countdown->foreign = true;
	return ++countdown->calls == countdown->stop_at;
}

/* ---------- checks ---------- */

typedef struct Result
{
	float	   *out;
	bool		has[N];
	DistilSessionStats stats;
} Result;

static DistilStatus
embed(DistilSession *session, Result *result, int prompt, DistilError *err)
{
	DistilSessionStats before = *distil_session_stats(session);
	const DistilSessionStats *after = distil_session_stats(session);
	size_t		count = (size_t) N * (size_t) session->model->spec.info.dimensions;
	DistilStatus status;

	memset(result->has, 7, sizeof(result->has));
	memset(result->out, 7, count * sizeof(float));
	status = distil_session_embed(session, result->out, result->has, many, N, prompt, err);
	result->stats.texts = after->texts - before.texts;
	result->stats.tokens = after->tokens - before.tokens;
	result->stats.truncated = after->truncated - before.truncated;
	return status;
}

static bool
same_result(const Result *a, const Result *b, int d)
{
	return same_in_batches(a->out, b->out, (size_t) N * (size_t) d) &&
		memcmp(a->has, b->has, sizeof(a->has)) == 0 && a->stats.texts == b->stats.texts &&
		a->stats.tokens == b->stats.tokens && a->stats.truncated == b->stats.truncated;
}

static void
check_same(const DistilModel *model, int prompt)
{
	DistilSession *session = open_session(model, 0);
	int			d = distil_model_info(model)->dimensions;
	Result		alone = {.out = calloc((size_t) N * (size_t) d, sizeof(float))};
	Result		shared = {.out = calloc((size_t) N * (size_t) d, sizeof(float))};
	DistilError err = {"", "", ""};
	int			workers;

	CHECK(distil_session_used(session) == 0);
	CHECK_MSG(embed(session, &alone, prompt, &err) == DISTIL_OK, "%s", err.message);
	CHECK(distil_session_used(session) > 0);
	distil_session_rest(session);
	CHECK(distil_session_used(session) == 0);
	CHECK(alone.stats.texts == N && alone.stats.truncated > 0);
	for (workers = 1; workers <= WORKERS; workers++)
	{
		Memory		memory = {.main_thread = pthread_self()};
		DistilAllocator alloc = {memory_alloc, memory_release, &memory};
		DistilPool *pool = NULL;

		CHECK(distil_pool_create(&pool, workers, 0, NULL, distil_alloc_system(), &err) == DISTIL_OK);
		distil_session_share(session, pool, others, &alloc);
		CHECK(distil_session_workers(session) == workers);
		CHECK(embed(session, &shared, prompt, &err) == DISTIL_OK);
		CHECK_MSG(same_result(&alone, &shared, d), "%d workers", workers);
		/* again, with the sessions there are; and with one worker only */
		CHECK(embed(session, &shared, prompt, &err) == DISTIL_OK && same_result(&alone, &shared, d));
		distil_pool_limit(pool, 1);
		memory.calls = 0;
		CHECK(embed(session, &shared, prompt, &err) == DISTIL_OK && same_result(&alone, &shared, d));
		CHECK(memory.calls == 0);
		distil_session_share(session, NULL, NULL, NULL);
		distil_pool_free(pool);
		CHECK(memory.live == 0 && memory.by_main == 0);
	}
	distil_session_free(session);
	free(alone.out);
	free(shared.out);
}

/*
 * A stop at many polls, a text that is no UTF-8, failing allocations: an error, and the next batch is right.
 */
static void
check_failures(const DistilModel *model)
{
	int			d = distil_model_info(model)->dimensions;
	Result		alone = {.out = calloc((size_t) N * (size_t) d, sizeof(float))};
	Result		shared = {.out = calloc((size_t) N * (size_t) d, sizeof(float))};
	Memory		memory = {.main_thread = pthread_self()};
	DistilAllocator alloc = {memory_alloc, memory_release, &memory};
	Countdown	countdown = {.main_thread = pthread_self()};
	DistilPoll	poll = {countdown_stop, &countdown};
	DistilSession *session = NULL;
	DistilPool *pool = NULL;
	DistilError err = {"", "", ""};
	DistilText	kept = many[N / 2];
	int			i;

	CHECK(distil_session_create(&session, model, device, 0, distil_alloc_system(), &poll, &err) == DISTIL_OK);
	CHECK(embed(session, &alone, -1, &err) == DISTIL_OK);
	CHECK(distil_pool_create(&pool, 3, 0, &poll, distil_alloc_system(), &err) == DISTIL_OK);
	distil_session_share(session, pool, others, &alloc);
	for (i = 1; i < 400; i += 1 + i / 4)
	{
		countdown.calls = 0;
		countdown.stop_at = i;
		CHECK(embed(session, &shared, -1, &err) == DISTIL_ERR_CANCELLED || countdown.calls < i);
	}
	countdown.stop_at = 0;
	CHECK(embed(session, &shared, -1, &err) == DISTIL_OK && same_result(&alone, &shared, d));
	CHECK(!countdown.foreign);
	many[N / 2].data = "\xff\xfe";
	many[N / 2].length = 2;
	CHECK(embed(session, &shared, -1, &err) == DISTIL_ERR_ENCODING);
	many[N / 2] = kept;
	CHECK(embed(session, &shared, -1, &err) == DISTIL_OK && same_result(&alone, &shared, d));
	for (i = 1; i < 60; i += 1 + i / 8)
	{
		DistilStatus status;

		distil_session_share(session, pool, others, &alloc);	/* their sessions are made anew */
		CHECK(memory.live == 0);
		memory.calls = 0;
		memory.fail_at = i;
		status = embed(session, &shared, -1, &err);
		CHECK(status == DISTIL_ERR_MEMORY || (status == DISTIL_OK && memory.calls < i));
		memory.fail_at = 0;
	}
	CHECK(embed(session, &shared, -1, &err) == DISTIL_OK && same_result(&alone, &shared, d));
	distil_session_free(session);
	distil_pool_free(pool);
	CHECK(memory.live == 0);
	free(alone.out);
	free(shared.out);
}

/* Labels of a classifier, or perplexities of a language model: by three workers the same as alone. */
static void
check_head(const char *arch, const char *kind)
{
	bool		classify = strcmp(kind, "sequence") == 0;
	const char *labels[2][N];
	double		values[2][N];
	bool		has[2][N];
	bool		regression;
	int			differ = 0;
	DistilText	read[N];
	Memory		memory = {.main_thread = pthread_self()};
	DistilAllocator alloc = {memory_alloc, memory_release, &memory};
	DistilPool *pool = NULL;
	DistilError err = {"", "", ""};
	LoadedModel loaded;
	DistilSession *session;

	CHECK_MSG(load_head(&loaded, arch, kind, &err) == DISTIL_OK, "%s", err.message);
	/* GPT-2 has no token, and so no label, for an empty text */
	for (int i = 0; i < N; i++)
		read[i] = classify && many[i].length == 0 ? text_of("cat") : many[i];
	session = open_session(loaded.model, 0);
	CHECK(distil_pool_create(&pool, 3, 0, NULL, distil_alloc_system(), &err) == DISTIL_OK);
	for (int i = 0; i < 2; i++)
	{
		int64_t		texts_before = distil_session_stats(session)->texts;

		if (i == 1)
			distil_session_share(session, pool, others, &alloc);
		CHECK((classify ? distil_session_labels(session, labels[i], &regression, read, NULL, N, &err)
			   : distil_session_perplexity(session, values[i], has[i], read, N, &err)) == DISTIL_OK);
		CHECK(distil_session_stats(session)->texts - texts_before == N);
	}
	for (int i = 0; i < N; i++)
	{
		CHECK(classify ? labels[0][i] == labels[1][i]
			  : has[0][i] == has[1][i] && (!has[0][i] || values[0][i] == values[1][i]));
		differ += classify && labels[0][i] != labels[0][0];
	}
	CHECK(!classify || differ > 0);
	distil_session_free(session);
	distil_pool_free(pool);
	CHECK(memory.live == 0 && memory.by_main == 0);
	load_free(&loaded);
}

int
main(void)
{
	char		message[256];
	LoadedModel loaded;
	int			i;

	make_texts();
	device = distil_device_open("cpu", NULL, message, sizeof(message));
	CHECK_MSG(device != NULL, "%s", message);
	for (i = 0; i < WORKERS - 1; i++)
		others[i] = distil_device_open("cpu", NULL, message, sizeof(message));
	if (device != NULL && load_model(&loaded, MODELS "bert-sentence", true))
	{
		check_same(loaded.model, -1);
		check_same(loaded.model, distil_model_query_prompt(loaded.model));
		check_failures(loaded.model);
		load_free(&loaded);
	}
	else
		CHECK_MSG(false, "bert-sentence does not load");
	check_head("gpt2", "sequence");
	check_head("gpt2", "lm");
	for (i = 0; i < WORKERS - 1; i++)
		others[i]->ops->close(others[i]);
	if (device != NULL)
		device->ops->close(device);
	for (i = 0; i < N; i++)
		free((char *) many[i].data);
	return check_report("session_share");
}
