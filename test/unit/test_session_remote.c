/*
 * test_session_remote.c
 *		Embeddings that another session computes: the same as by oneself, whatever the texts; its refusals,
 *		its errors, and tokens that a model does not take.
 */
#include "session_fixture.h"

#include "session.h"

#define N 150
#define LONGEST 200

/* The stand-in computes by the reference kernels: only the order of sums differs. */
#define TOLERANCE 2e-5

static DistilText many[N];

/* Texts of all lengths, some equal, some empty, one longer than the model's limit. */
static void
make_texts(void)
{
	static const char *const words[] = {"the", "cat", "reads", "a", "large", "table", "of", "rows"};
	int			i;
	int			j;

	for (i = 0; i < N; i++)
	{
		char	   *text = calloc(1, 4096);
		int			kind = i % 4 == 3 ? i - 3 : i;

		for (j = 0; j < (kind == 100 ? LONGEST * 2 : (kind * 7919) % 60); j++)
		{
			strcat(text, words[(kind * 31 + j * 17) % 8]);
			strcat(text, " ");
		}
		many[i].data = text;
		many[i].length = strlen(text);
	}
}

/* The other side, in this process: a session on a device with memory of its own. */
typedef struct Other
{
	DistilSession *session;
	int			calls;
	int			texts;
	bool		refuses;
	DistilStatus fails;
} Other;

static DistilStatus
other_embed(void *ctx, float *out, const int32_t *ids, const int32_t *offsets, int n, int skip, bool *done,
			DistilError *err)
{
	Other	   *other = ctx;

	other->calls++;
	other->texts += n;
	*done = !other->refuses;
	if (other->fails != DISTIL_OK)
		return distil_fail(err, other->fails, "the other side failed");
	return other->refuses ? DISTIL_OK
		: distil_session_embed_tokens(other->session, out, ids, offsets, n, skip, err);
}


static void
check_remote(const DistilModel *model, DistilDevice *standin, int prompt)
{
	DistilSession *session = open_session(model, 0);
	size_t		count = (size_t) N * (size_t) distil_model_info(model)->dimensions;
	float	   *alone = calloc(count, sizeof(float));
	float	   *out = calloc(count, sizeof(float));
	bool		has[N];
	bool		has_too[N];
	Other		other = {0};
	DistilRemote remote = {other_embed, &other};
	DistilSessionStats stats;
	DistilError err = {"", "", ""};

	CHECK(distil_session_create(&other.session, model, standin, 0, distil_alloc_system(), NULL, &err) ==
		  DISTIL_OK);
	CHECK(distil_session_embed(session, alone, has, many, N, prompt, &err) == DISTIL_OK);
	stats = *distil_session_stats(session);

	distil_session_remote(session, &remote);
	CHECK_MSG(distil_session_embed(session, out, has_too, many, N, prompt, &err) == DISTIL_OK, "%s",
			  err.message);
	CHECK_MSG(largest_difference(alone, out, count) < TOLERANCE, "%g", largest_difference(alone, out, count));
	CHECK(memcmp(has, has_too, sizeof(has)) == 0);
	CHECK(other.calls > 0 && other.texts < N);	/* equal texts once */
	CHECK(distil_session_stats(session)->tokens == 2 * stats.tokens);
	CHECK(distil_session_stats(session)->truncated == 2 * stats.truncated && stats.truncated > 0);

	/* refused: by itself, to the bit */
	other.refuses = true;
	CHECK(distil_session_embed(session, out, has_too, many, N, prompt, &err) == DISTIL_OK);
	CHECK(memcmp(alone, out, count * sizeof(float)) == 0);
	other.fails = DISTIL_ERR_DEVICE;
	CHECK(distil_session_embed(session, out, has_too, many, N, prompt, &err) == DISTIL_ERR_DEVICE);
	CHECK(strcmp(err.message, "the other side failed") == 0);
	distil_session_remote(session, NULL);
	other.calls = 0;
	CHECK(distil_session_embed(session, out, has_too, many, N, prompt, &err) == DISTIL_OK &&
		  other.calls == 0);
	CHECK(memcmp(alone, out, count * sizeof(float)) == 0);
	distil_session_free(session);
	distil_session_free(other.session);
	free(alone);
	free(out);
}

/* Tokens come from outside: what the model has no place for is refused, and the session goes on. */
static void
check_hostile(const DistilModel *model, DistilDevice *standin)
{
	const DistilModelInfo *info = distil_model_info(model);
	int32_t    *ids = calloc((size_t) info->max_tokens + 1, sizeof(int32_t));
	float	   *out = calloc(2 * (size_t) info->dimensions, sizeof(float));
	int32_t		offsets[3] = {0, 3, 5};
	DistilSession *session = NULL;
	DistilError err;

	CHECK(distil_session_create(&session, model, standin, 0, distil_alloc_system(), NULL, &err) == DISTIL_OK);
	CHECK(distil_session_embed_tokens(session, out, ids, offsets, 2, 0, &err) == DISTIL_OK);
	ids[4] = info->vocabulary;
	CHECK(distil_session_embed_tokens(session, out, ids, offsets, 2, 0, &err) == DISTIL_ERR_LIMIT);
	ids[4] = -1;
	CHECK(distil_session_embed_tokens(session, out, ids, offsets, 2, 0, &err) == DISTIL_ERR_LIMIT);
	ids[4] = 0;
	CHECK(distil_session_embed_tokens(session, out, ids, offsets, 2, 2, &err) == DISTIL_ERR_LIMIT);
	CHECK(distil_session_embed_tokens(session, out, ids, offsets, 2, -1, &err) == DISTIL_ERR_LIMIT);
	offsets[1] = 0;
	CHECK(distil_session_embed_tokens(session, out, ids, offsets, 2, 0, &err) == DISTIL_ERR_LIMIT);
	offsets[1] = info->max_tokens + 1;
	CHECK(distil_session_embed_tokens(session, out, ids, offsets, 1, 0, &err) == DISTIL_ERR_LIMIT);
	offsets[1] = info->max_tokens;
	CHECK(distil_session_embed_tokens(session, out, ids, offsets, 1, 0, &err) == DISTIL_OK);
	CHECK(distil_session_embed_tokens(session, out, ids, offsets, 0, 0, &err) == DISTIL_OK);
	distil_session_free(session);
	free(ids);
	free(out);
}

/* Where large passes have no room, a limit makes small ones, with the same results. */
static void
check_short_memory(const DistilModel *model, DistilDevice *standin)
{
	size_t		count = (size_t) N * (size_t) distil_model_info(model)->dimensions;
	float	   *large = calloc(count, sizeof(float));
	float	   *small = calloc(count, sizeof(float));
	DistilSession *session = NULL;
	DistilStatus status = DISTIL_ERR_MEMORY;
	DistilError err;
	bool		has[N];
	size_t		limit;

	CHECK(distil_session_create(&session, model, standin, 0, distil_alloc_system(), NULL, &err) == DISTIL_OK);
	CHECK(distil_session_embed(session, large, has, many, N, -1, &err) == DISTIL_OK);
	distil_session_free(session);
	for (limit = 1 << 16; status == DISTIL_ERR_MEMORY && limit < (size_t) 1 << 30; limit *= 2)
	{
		standin->ops->limit_memory(standin, limit);
		status = distil_session_create(&session, model, standin, 1 << 20, distil_alloc_system(), NULL, &err);
	}
	CHECK(status == DISTIL_OK);
	CHECK(distil_session_embed(session, small, has, many, N, -1, &err) == DISTIL_OK);
	CHECK(largest_difference(large, small, count) < TOLERANCE);
	distil_session_free(session);
	CHECK(distil_session_create(&session, model, standin, 0, distil_alloc_system(), NULL,
								&err) == DISTIL_ERR_MEMORY);
	CHECK(session == NULL);
	standin->ops->limit_memory(standin, 0);
	free(large);
	free(small);
}

int
main(void)
{
	char		message[256];
	DistilDevice *standin = distil_device_open("standin", NULL, message, sizeof(message));
	LoadedModel loaded;
	int			i;

	make_texts();
	device = distil_device_open("reference", NULL, message, sizeof(message));
	CHECK_MSG(device != NULL && standin != NULL, "%s", message);
	if (device != NULL && standin != NULL && load_model(&loaded, MODELS "bert-sentence", true))
	{
		check_remote(loaded.model, standin, -1);
		check_remote(loaded.model, standin, distil_model_query_prompt(loaded.model));
		check_hostile(loaded.model, standin);
		check_short_memory(loaded.model, standin);
		load_free(&loaded);
	}
	else
		CHECK_MSG(false, "bert-sentence does not load");
	standin->ops->close(standin);
	device->ops->close(device);
	for (i = 0; i < N; i++)
		free((char *) many[i].data);
	return check_report("session_remote");
}
