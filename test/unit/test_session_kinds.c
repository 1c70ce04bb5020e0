/*
 * test_session_kinds.c
 *		Tokens that are equal in id, position and type: finding them, and sessions that compute them once.
 *
 * What must be exact: a text's numbers are the same bits alone, where nothing is equal, and among many.
 */
#include "kernel_samples.h"
#include "product_rows.h"
#include "session.h"
#include "synthetic.h"
#include "test_folder.h"

#define TEXTS 40
#define LONGEST 24

/* ---------- finding them ---------- */

/* The kinds of tokens [n], to be freed with *memory; checks what must be true of any. */
static bool
find(DistilKinds *kinds, int32_t **memory, const int32_t *ids, const int32_t *positions, const int32_t *types,
	 int n)
{
	bool		worth;
	int			bad = 0;
	int			next = 0;
	int			i;

	*memory = malloc(sizeof(int32_t) * distil_kinds_count(n));
	worth = distil_kinds_find(kinds, *memory, ids, positions, types, n);
	for (i = 0; i < n; i++)
	{
		int			kind = kinds->kind[i];

		bad += kind < 0 || kind > i || kind > next || kinds->ids[kind] != ids[i] ||
			kinds->positions[kind] != positions[i] || kinds->types[kind] != types[i];
		next += kind == next;
	}
	CHECK_MSG(bad == 0 && next == kinds->n, "%d of %d tokens have a wrong kind", bad, n);
	CHECK(worth == (kinds->n <= n - (n + 7) / 8));
	return worth;
}

static void
test_find(void)
{
	/* the same id at another position, of another type, and all three again */
	const int32_t ids[] = {5, 6, 6, 5, 6, 6, 7, 5, 6, 6};
	const int32_t positions[] = {0, 1, 2, 0, 1, 2, 3, 0, 1, 3};
	const int32_t types[] = {0, 0, 0, 0, 0, 1, 1, 1, 0, 0};
	const int32_t want[] = {0, 1, 2, 0, 1, 3, 4, 5, 1, 6};
	const int32_t kind_ids[] = {5, 6, 6, 6, 7, 5, 6};
	const int32_t kind_positions[] = {0, 1, 2, 2, 3, 0, 3};
	const int32_t kind_types[] = {0, 0, 0, 1, 1, 1, 0};
	const int32_t same[16] = {0};
	int32_t		other[16];
	DistilKinds kinds;
	int32_t    *memory;
	int			i;

	CHECK(find(&kinds, &memory, ids, positions, types, 10));
	CHECK(kinds.n == 7 && memcmp(kinds.kind, want, sizeof(want)) == 0 &&
		  memcmp(kinds.ids, kind_ids, sizeof(kind_ids)) == 0 &&
		  memcmp(kinds.positions, kind_positions, sizeof(kind_positions)) == 0 &&
		  memcmp(kinds.types, kind_types, sizeof(kind_types)) == 0);
	free(memory);
	CHECK(find(&kinds, &memory, same, same, same, 16) && kinds.n == 1);
	free(memory);
	/* all differ, in one of the three */
	for (i = 0; i < 16; i++)
		other[i] = i;
	CHECK(!find(&kinds, &memory, other, same, same, 16) && kinds.n == 16);
	free(memory);
	CHECK(!find(&kinds, &memory, same, other, same, 16) && kinds.n == 16);
	free(memory);
	CHECK(!find(&kinds, &memory, same, same, other, 16) && kinds.n == 16);
	free(memory);
	CHECK(!find(&kinds, &memory, same, same, other, 1) && kinds.n == 1);
	free(memory);
	/* 15 and 14 of 16 */
	other[9] = 2;
	CHECK(!find(&kinds, &memory, other, same, same, 16) && kinds.n == 15);
	free(memory);
	other[15] = 2;
	CHECK(find(&kinds, &memory, other, same, same, 16) && kinds.n == 14);
	free(memory);
}

/* Against a search through all earlier tokens: many, and few, whose places in the table often meet. */
static void
test_find_many(void)
{
	enum
	{
		MOST = 3000,
		ROUNDS = 300
	};
	int32_t    *tokens = malloc(3 * MOST * sizeof(int32_t));
	int			round;
	int			i;
	int			j;

	random_state = 1;
	for (round = 0; round < ROUNDS; round++)
	{
		int			n = round == 0 ? MOST : 1 + round % 24;
		int			range = round == 0 ? 40 : 3;
		DistilKinds kinds;
		int32_t    *memory;
		int			count = 0;

		for (i = 0; i < n; i++)
		{
			tokens[i] = (int32_t) (uniform() * range);
			tokens[MOST + i] = (int32_t) (uniform() * range);
			tokens[2 * MOST + i] = (int32_t) (uniform() * 2);
		}
		find(&kinds, &memory, tokens, tokens + MOST, tokens + 2 * MOST, n);
		for (i = 0; i < n; i++)
		{
			for (j = 0; j < i; j++)
				if (tokens[j] == tokens[i] && tokens[MOST + j] == tokens[MOST + i] &&
					tokens[2 * MOST + j] == tokens[2 * MOST + i])
					break;
			count += j == i;
		}
		CHECK_MSG(kinds.n == count, "%d kinds of %d tokens, expected %d", kinds.n, n, count);
		free(memory);
	}
	free(tokens);
}

/* Tokens that meet in one place of the table: not all that are equal are found, those that are found are. */
static void
test_find_crowded(void)
{
	enum
	{
		CROWD = 400
	};
	int32_t		ids[2 * CROWD];
	int32_t		types[2 * CROWD];
	const int32_t positions[2 * CROWD] = {0};
	DistilKinds kinds;
	int32_t    *memory;
	int			i;

	for (i = 0; i < 2 * CROWD; i++)
	{
		ids[i] = i % CROWD;
		types[i] = 16 * ids[i];
	}
	find(&kinds, &memory, ids, positions, types, 2 * CROWD);
	CHECK_MSG(kinds.n > CROWD && kinds.n < 2 * CROWD, "%d kinds", kinds.n);
	free(memory);
}

/* ---------- sessions ---------- */

/* Texts of random tokens, most of which begin with those of the first; of two types, cut anywhere. */
typedef struct Texts
{
	int32_t		ids[TEXTS * LONGEST];
	int32_t		types[TEXTS * LONGEST];
	int32_t		offsets[TEXTS + 1];
} Texts;

static void
make_texts(Texts *texts)
{
	int			i;
	int			j;

	random_state = 3;
	texts->offsets[0] = 0;
	for (i = 0; i < TEXTS; i++)
	{
		int			start = texts->offsets[i];
		int			length = i == 0 ? LONGEST : 1 + (int) (uniform() * LONGEST);
		int			shared = (int) (uniform() * length);
		int			cut = (int) (uniform() * length);

		for (j = 0; j < length; j++)
		{
			/* few ids, so that one comes at many positions */
			texts->ids[start + j] = i > 0 && j < shared ? texts->ids[j] : (int32_t) (uniform() * 12);
			texts->types[start + j] = j > cut;
		}
		texts->offsets[i + 1] = start + length;
	}
}

static void
check_embeddings(DistilSession *session, const Texts *texts)
{
	size_t		d = (size_t) session->model->spec.info.dimensions;
	float	   *all = malloc(sizeof(float) * d * TEXTS);
	float	   *one = malloc(sizeof(float) * d);
	int			differ = 0;
	DistilError err = {"", "", ""};
	int			i;

	CHECK_MSG(distil_session_embed_tokens(session, all, texts->ids, texts->offsets, TEXTS, 0,
										  &err) == DISTIL_OK, "%s\n", err.message);
	for (i = 0; i < TEXTS; i++)
	{
		CHECK(distil_session_embed_tokens(session, one, texts->ids, texts->offsets + i, 1, 0,
										  &err) == DISTIL_OK);
		differ += memcmp(one, all + (size_t) i * d, sizeof(float) * d) != 0;
	}
	CHECK_MSG(differ == 0, "%s: %d texts differ alone\n", under_test, differ);
	free(all);
	free(one);
}

typedef struct Hidden
{
	float	   *rows;			/* [T, C] of all texts, as they are given */
	const int32_t *offsets;
	int			passes;
	int			known;			/* of them those with kinds */
} Hidden;

static DistilStatus
keep_pass(DistilSession *session, void *ctx, const DistilBatch *batch, const float *hidden,
		  const DistilWindowText *texts, int count, DistilError *err)
{
	Hidden	   *kept = ctx;
	size_t		c = (size_t) session->model->spec.config.width;
	int			i;

	(void) err;
	kept->passes++;
	kept->known += batch->kinds != NULL;
	for (i = 0; i < count; i++)
		memcpy(kept->rows + (size_t) kept->offsets[texts[i].index] * c,
			   hidden + (size_t) batch->host_offsets[i] * c, sizeof(float) * c * (size_t) texts[i].length);
	return DISTIL_OK;
}

/* Hidden states with types, as heads and distil_session_hidden_many() use them; known: kinds are used. */
static void
check_hidden(DistilSession *session, const Texts *texts, bool known)
{
	const DistilSpec *spec = &session->model->spec;
	size_t		c = (size_t) spec->config.width;
	int			t = texts->offsets[TEXTS];
	int			all = spec->config.layers * t;
	Hidden		kept = {malloc(sizeof(float) * c * (size_t) t), texts->offsets, 0, 0};
	DistilWindowRun run = {.n = TEXTS, .prompt = -1, .typed = true, .pass = keep_pass, .ctx = &kept};
	DistilError err = {"", "", ""};
	int			differ = 0;
	int			i;

	session->window_count = session->window_used = 0;
	session->window_types = distil_alloc_array(session->alloc, (size_t) session->window_tokens,
											   sizeof(int32_t));
	product_rows = 0;
	for (i = 0; i < TEXTS; i++)
		CHECK(distil_session_window_add(session, &run, i, texts->ids + texts->offsets[i],
										texts->types + texts->offsets[i],
										texts->offsets[i + 1] - texts->offsets[i], &err) == DISTIL_OK);
	CHECK_MSG(distil_session_window_flush(session, &run, &err) == DISTIL_OK, "%s\n", err.message);
	CHECK(known ? kept.known > 0 : kept.known == 0);
	/* in the first layer, for less than 7 of 8 tokens */
	CHECK_MSG(known ? product_rows < all - t / 8 : product_rows == all, "%s: %d rows of %d\n", under_test,
			  product_rows, all);
	for (i = 0; i < TEXTS; i++)
	{
		const float *alone;
		int			start = texts->offsets[i];
		int			n = texts->offsets[i + 1] - start;

		CHECK(distil_session_single(session, texts->ids + start, texts->types + start, n, &alone,
									&err) == DISTIL_OK);
		differ += memcmp(alone, kept.rows + (size_t) start * c, sizeof(float) * c * (size_t) n) != 0;
	}
	CHECK_MSG(differ == 0, "%s: hidden states of %d texts differ alone\n", under_test, differ);
	free(kept.rows);
}

/* layout NULL: the weights as they are, in float32 */
static void
make_model(Synthetic *model, DistilModel *view, const char *arch, const char *layout)
{
	DistilConfig *config = &model->spec.config;

	memset(model, 0, sizeof(*model));
	memset(view, 0, sizeof(*view));
	config->arch = distil_arch_find(arch);
	config->causal = strcmp(arch, "gpt2") == 0;
	config->layers = 2;
	config->width = 64;
	config->heads = 2;
	config->mlp = 128;
	config->vocabulary = 12;
	config->positions = 60;
	config->types = strcmp(arch, "bert") == 0 || strcmp(arch, "albert") == 0 ? 2 : 0;
	config->position_offset = strcmp(arch, "roberta") == 0 ? 2 : 0; /* token 1 is padding there */
	if (strcmp(arch, "albert") == 0)
	{
		config->table_width = 40;
		config->shared_layers = true;
	}
	if (strcmp(arch, "mpnet") == 0)
		config->relative_buckets = 32;
	config->activation = DISTIL_ACT_GELU;
	model->spec.pipeline.npoolings = 1;
	model->spec.pipeline.pooling[0] = DISTIL_POOL_MEAN;
	synthetic_create(model, false, 0.15f, 7);
	if (layout != NULL)
		synthetic_pack(model, layout);
	view->spec = model->spec;
	view->spec.info.max_tokens = config->positions - config->position_offset;
	view->weights = model->weights;
}

static void
check_model(DistilDevice *device, const char *arch, const char *layout)
{
	bool		known = layout != NULL && strcmp(arch, "gpt2") != 0;
	Synthetic	model;
	DistilModel view;
	DistilSession *session;
	Texts		texts;
	DistilError err = {"", "", ""};

	make_model(&model, &view, arch, layout);
	make_texts(&texts);
	count_products(device, 3 * model.spec.config.width);
	CHECK_MSG(distil_session_create(&session, &view, device, 0, distil_alloc_system(), NULL,
									&err) == DISTIL_OK, "%s\n", err.message);
	if (session != NULL)
	{
		CHECK((session->kinds_memory != NULL) == known);
		/* in float32 a row may depend on how many there are */
		if (layout != NULL)
		{
			check_embeddings(session, &texts);
			check_hidden(session, &texts, known);
		}
		distil_session_free(session);
	}
	device->ops = counted;
	synthetic_free(&model);
}

static void
test_sessions(DistilDevice *device)
{
	check_model(device, "bert", DISTIL_LAYOUT_BF16P16);
	check_model(device, "bert", DISTIL_LAYOUT_INT8P16);
	check_model(device, "bert", DISTIL_LAYOUT_INT8P16_ORDERED);
	check_model(device, "albert", DISTIL_LAYOUT_INT8P16);
	check_model(device, "roberta", DISTIL_LAYOUT_INT8P16);
	check_model(device, "mpnet", DISTIL_LAYOUT_BF16P16);
	check_model(device, "bert", NULL);
	check_model(device, "gpt2", DISTIL_LAYOUT_BF16P16);
}

/* ---------- failures ---------- */

static int	polls;
static int	stop_at;

static bool
stop(void *ctx)
{
	(void) ctx;
	return ++polls == stop_at;
}

/* Stopped at every poll, and without memory for each of a session's arrays. */
static void
test_failures(void)
{
	char		message[400];
	DistilDevice *device = distil_device_open("cpu", NULL, message, sizeof(message));
	const DistilPoll poll = {stop, NULL};
	TestAllocator test;
	Synthetic	model;
	DistilModel view;
	DistilSession *session;
	Texts		texts;
	float	   *first = calloc(TEXTS * 64, sizeof(float));
	float	   *out = calloc(TEXTS * 64, sizeof(float));
	DistilError err;
	long		n = 0;
	int			total;

	CHECK_MSG(device != NULL, "%s\n", message);
	if (device == NULL)
		return;
	make_model(&model, &view, "bert", DISTIL_LAYOUT_INT8P16);
	make_texts(&texts);
	do
	{
		test_allocator_init(&test, ++n);
		if (distil_session_create(&session, &view, device, 0, &test.alloc, &poll, &err) == DISTIL_OK)
			break;
		CHECK(session == NULL && test.live == 0);
	} while (n < 100);
	CHECK(session != NULL && test.requests == n - 1);	/* none has failed */
	if (session == NULL)
		return;
	polls = stop_at = 0;
	CHECK(distil_session_embed_tokens(session, first, texts.ids, texts.offsets, TEXTS, 0, &err) == DISTIL_OK);
	total = polls;
	for (stop_at = 1; stop_at <= total; stop_at++)
	{
		polls = 0;
		CHECK(distil_session_embed_tokens(session, out, texts.ids, texts.offsets, TEXTS, 0,
										  &err) == DISTIL_ERR_CANCELLED);
	}
	stop_at = 0;
	CHECK(distil_session_embed_tokens(session, out, texts.ids, texts.offsets, TEXTS, 0, &err) == DISTIL_OK);
	CHECK(memcmp(first, out, TEXTS * 64 * sizeof(float)) == 0);
	distil_session_free(session);
	CHECK(test.live == 0);
	free(first);
	free(out);
	synthetic_free(&model);
	device->ops->close(device);
}

int
main(void)
{
	if (!open_reference())
		return check_report("session_kinds");
	test_find();
	test_find_many();
	test_find_crowded();
	on_every_rows_device(test_sessions);
	test_failures();
	ref->ops->close(ref);
	return check_report("session_kinds");
}
