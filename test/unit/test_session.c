/*
 * test_session.c
 *		Sessions on the tiny models against transformers and sentence-transformers: hidden
 *		states, logits, embeddings of every pipeline; ragged batches, equal texts,
 *		truncation, cancelling at every poll, failing allocations.
 *
 * With DISTIL_TEST_MODEL set to a sentence model's folder, batches of it are checked too.
 */
#include "session_fixture.h"

/*
 * Goldens are computed in float64.  Ours are float32: sums of 32 to 64 terms of size 1
 * over 2 or 3 layers, and logits of size 10: 1e-4 is the manual's bound, 2e-5 what such
 * sums can lose.
 */
#define TOLERANCE 2e-5

/* ---------- hidden states and logits ---------- */

typedef struct Rows
{
	float	   *data;
	int			n;
	int			width;
} Rows;

static DistilStatus
collect_row(void *ctx, int t, const float *row, int n, DistilError *err)
{
	Rows	   *rows = ctx;

	(void) err;
	CHECK(t == rows->n);
	rows->data = realloc(rows->data, sizeof(float) * (size_t) (t + 1) * (size_t) n);
	memcpy(rows->data + (size_t) t * n, row, sizeof(float) * (size_t) n);
	rows->n = t + 1;
	rows->width = n;
	return DISTIL_OK;
}

static void
check_logits(DistilSession *session, const Goldens *g, const char *key, const DistilText *text,
			 const DistilText *second)
{
	Rows		rows = {NULL, 0, 0};
	char		name[64];
	DistilError err;
	float	   *expected;
	int			t = 0;
	int			tokens = -1;

	snprintf(name, sizeof(name), "%s.logits", key);
	expected = golden(g, name, &t);
	CHECK(distil_session_lm_logits(session, text, second, collect_row, &rows, &tokens, &err) == DISTIL_OK);
	CHECK(tokens == t && rows.n == t);
	if (tokens == t && expected != NULL)
		CHECK_MSG(largest_difference(rows.data, expected, (size_t) t * rows.width) <= 5 * TOLERANCE,
				  "%s: %g", name,
				  largest_difference(rows.data, expected, (size_t) t * rows.width));
	free(expected);
	free(rows.data);
}

static void
test_masked_lm(const char *folder, const char *file, double tolerance)
{
	LoadedModel loaded;
	Goldens		g;
	DistilSession *session;
	char		path[128];
	int			i;

	snprintf(path, sizeof(path), MODELS "%s", folder);
	CHECK(goldens_open(&g, file));
	if (!load_model(&loaded, path, true))
	{
		CHECK_MSG(false, "%s", path);
		return;
	}
	session = open_session(loaded.model, 0);
	for (i = 0; i < NTEXTS; i++)
	{
		char		key[64];
		DistilError err;
		const float *states;
		float	   *expected;
		int			tokens = -1;
		int			t = 0;

		snprintf(key, sizeof(key), "text%d.hidden", i);
		expected = golden(&g, key, &t);
		CHECK(distil_session_hidden(session, &states, &tokens, &texts[i], &err) == DISTIL_OK);
		CHECK_MSG(tokens == t, "%s %s: %d tokens, expected %d", folder, key, tokens, t);
		if (tokens == t && expected != NULL)
			CHECK_MSG(largest_difference(states, expected, (size_t) t * 32) <= tolerance, "%s %s: %g",
					  folder, key,
					  largest_difference(states, expected, (size_t) t * 32));
		free(expected);
		if (tolerance <= TOLERANCE)
		{
			snprintf(key, sizeof(key), "text%d", i);
			check_logits(session, &g, key, &texts[i], NULL);
		}
	}
	if (tolerance <= TOLERANCE)
		check_logits(session, &g, "pair", &pair[0], &pair[1]);
	distil_session_free(session);
	load_free(&loaded);
	goldens_close(&g);
}

/* ---------- embeddings ---------- */

static void
check_embeddings(const DistilModel *model, const Goldens *g, const char *key, int prompt)
{
	DistilSession *session = open_session(model, 0);
	int			d = distil_model_info(model)->dimensions;
	float	   *out = calloc((size_t) NTEXTS * (size_t) d, sizeof(float));
	float	   *alone = calloc((size_t) d, sizeof(float));
	bool		has[NTEXTS];
	DistilError err = {"", "", ""};
	float	   *expected;
	int			rows = 0;
	int			i;

	expected = golden(g, key, &rows);
	CHECK(rows == NTEXTS);
	CHECK_MSG(distil_session_embed(session, out, has, texts, NTEXTS, prompt, &err) == DISTIL_OK, "%s",
			  err.message);
	if (expected != NULL)
		CHECK_MSG(largest_difference(out, expected, (size_t) NTEXTS * d) <= TOLERANCE, "%s: %g", key,
				  largest_difference(out, expected, (size_t) NTEXTS * d));
	for (i = 0; i < NTEXTS; i++)
	{
		bool		one;

		CHECK(has[i]);
		CHECK(distil_session_embed(session, alone, &one, &texts[i], 1, prompt, &err) == DISTIL_OK);
		/* a row's result does not depend on the others, to the last bit */
		CHECK_MSG(memcmp(alone, out + (size_t) i * d, sizeof(float) * (size_t) d) == 0, "%s, text %d: %g",
				  key, i, largest_difference(alone, out + (size_t) i * d, (size_t) d));
	}
	free(expected);
	free(out);
	free(alone);
	distil_session_free(session);
}

/* The same encoder with other poolings: a copy of the model's view with another pipeline. */
static void
check_pooling(const DistilModel *model, const Goldens *g, const char *key, DistilPooling first, int second,
			  bool include_prompt, int prompt)
{
	DistilModel changed = *model;
	DistilPipeline *pipeline = &changed.spec.pipeline;

	pipeline->pooling[0] = first;
	pipeline->npoolings = 1;
	if (second >= 0)
		pipeline->pooling[pipeline->npoolings++] = (DistilPooling) second;
	pipeline->ndense = 0;
	pipeline->normalize = false;
	pipeline->include_prompt = include_prompt;
	changed.spec.info.dimensions = 32 * pipeline->npoolings;
	check_embeddings(&changed, g, key, prompt);
}

static void
test_sentence(void)
{
	LoadedModel loaded;
	Goldens		g;
	DistilError err;
	int			query = -2;
	int			passage = -2;
	int			prompt = -2;

	CHECK(goldens_open(&g, "bert-sentence.goldens.safetensors"));
	if (!load_model(&loaded, MODELS "bert-sentence", true))
	{
		CHECK_MSG(false, "bert-sentence does not load");
		return;
	}
	CHECK(distil_model_prompt(loaded.model, &query, "query", &err) == DISTIL_OK && query >= 0);
	CHECK(distil_model_prompt(loaded.model, &passage, "passage", &err) == DISTIL_OK && passage >= 0);
	CHECK(distil_model_prompt(loaded.model, &prompt, NULL, &err) == DISTIL_OK && prompt == -1);
	CHECK(distil_model_query_prompt(loaded.model) == query);
	/* without one of that name a query has no prompt, though there be a default */
	loaded.model->spec.pipeline.nprompts = query;
	loaded.model->spec.pipeline.default_prompt = passage;
	CHECK(passage < query && distil_model_query_prompt(loaded.model) == -1);
	loaded.model->spec.pipeline.nprompts = query + 1;
	loaded.model->spec.pipeline.default_prompt = -1;
	CHECK(distil_model_prompt(loaded.model, &prompt, "poem", &err) == DISTIL_ERR_UNKNOWN);
	CHECK(strstr(err.message, "\"poem\"") != NULL && strstr(err.detail, "query") != NULL &&
		  strstr(err.detail, "passage") != NULL);
	check_embeddings(loaded.model, &g, "embedding", -1);
	check_embeddings(loaded.model, &g, "embedding.query", query);
	check_embeddings(loaded.model, &g, "embedding.passage", passage);
	check_pooling(loaded.model, &g, "pooling.cls", DISTIL_POOL_CLS, -1, true, -1);
	check_pooling(loaded.model, &g, "pooling.max", DISTIL_POOL_MAX, -1, true, -1);
	check_pooling(loaded.model, &g, "pooling.mean", DISTIL_POOL_MEAN, -1, true, -1);
	check_pooling(loaded.model, &g, "pooling.mean_sqrt_len_tokens", DISTIL_POOL_MEAN_SQRT, -1, true, -1);
	check_pooling(loaded.model, &g, "pooling.weightedmean", DISTIL_POOL_WEIGHTED_MEAN, -1, true, -1);
	check_pooling(loaded.model, &g, "pooling.lasttoken", DISTIL_POOL_LAST, -1, true, -1);
	check_pooling(loaded.model, &g, "pooling.mean+max", DISTIL_POOL_MEAN, DISTIL_POOL_MAX, true, -1);
	check_pooling(loaded.model, &g, "pooling.mean.no_prompt.query", DISTIL_POOL_MEAN, -1, false, query);
	load_free(&loaded);
	goldens_close(&g);
}

/* ---------- lower case ---------- */

/* A folder with two of its files replaced. */
typedef struct Patched
{
	DistilFolder *disk;
	DistilFolder folder;
	DistilFile	files[64];
	DistilBuffer contents[2];
} Patched;

static void
patch_file(Patched *patched, int which, const char *name, const char *from, const char *to)
{
	const DistilAllocator *alloc = distil_alloc_system();
	DistilBuffer *buffer = &patched->contents[which];
	char	   *text;
	char	   *at;
	size_t		length;
	DistilError err;
	int			i;

	distil_buffer_init(buffer, alloc);
	CHECK(distil_folder_read(patched->disk, name, 1 << 20, &text, &length, alloc, &err) == DISTIL_OK);
	at = strstr(text, from);
	CHECK_MSG(at != NULL, "%s has no %s", name, from);
	distil_buffer_append(buffer, text, (size_t) (at - text));
	distil_buffer_append(buffer, to, strlen(to));
	distil_buffer_append(buffer, at + strlen(from), strlen(at + strlen(from)));
	distil_release(alloc, text);
	for (i = 0; i < patched->folder.nfiles; i++)
		if (strcmp(patched->files[i].name, name) == 0)
		{
			patched->files[i].reader.read = load_read;
			patched->files[i].reader.ctx = buffer;
			patched->files[i].reader.size = buffer->length;
		}
}

/*
 * do_lower_case of the sentence model with a tokenizer that keeps case: the same vectors
 * as with the tokenizer that lower-cases, also for the text with a special token.
 */
static void
test_lower_case(void)
{
	const DistilAllocator *alloc = distil_alloc_system();
	DistilImportOptions options = {true};
	Patched		patched;
	LoadedModel loaded;
	Goldens		g;
	DistilError err = {"", "", ""};

	CHECK(goldens_open(&g, "bert-sentence.goldens.safetensors"));
	CHECK(distil_folder_open_disk(&patched.disk, MODELS "bert-sentence", alloc, &err) == DISTIL_OK);
	patched.folder.files = patched.files;
	patched.folder.nfiles = patched.disk->nfiles;
	CHECK(patched.disk->nfiles <= 64);
	memcpy(patched.files, patched.disk->files, sizeof(DistilFile) * (size_t) patched.disk->nfiles);
	patch_file(&patched, 0, "tokenizer.json", "\"lowercase\": true", "\"lowercase\": false");
	patch_file(&patched, 1, "sentence_bert_config.json", "{", "{\"do_lower_case\": true,");
	CHECK_MSG(load_folder(&loaded, &patched.folder, &options, &err) == DISTIL_OK, "%s", err.message);
	if (loaded.model != NULL)
	{
		CHECK(loaded.model->spec.pipeline.lower_case);
		check_embeddings(loaded.model, &g, "embedding", -1);
		check_embeddings(loaded.model, &g, "embedding.query", distil_model_query_prompt(loaded.model));
	}
	load_free(&loaded);
	distil_buffer_free(&patched.contents[0]);
	distil_buffer_free(&patched.contents[1]);
	distil_folder_close_disk(patched.disk, alloc);
	goldens_close(&g);
}

/* ---------- batches ---------- */

/* Many texts of all lengths, many of them equal, through a session of little memory. */
static void
check_batches(const DistilModel *model, size_t memory)
{
	static const char *const words[] = {"the", "cat", "reads", "a", "large", "table", "of", "rows", "water",
										"by",
	"night"};
	enum
	{
		N = 300
	};
	DistilSession *session = open_session(model, memory);
	DistilText	many[N];
	int			d = distil_model_info(model)->dimensions;
	float	   *out = calloc((size_t) N * (size_t) d, sizeof(float));
	float	   *alone = calloc((size_t) d, sizeof(float));
	bool		has[N];
	DistilError err = {"", "", ""};
	double		worst = 0;
	int64_t		tokens;
	int			i;
	int			j;

	for (i = 0; i < N; i++)
	{
		char		text[4096] = "";
		int			kind = i % 3 == 2 ? i - 2 : i;	/* every third repeats an earlier one */

		for (j = 0; j < (kind * 7919) % 150; j++)
		{
			strcat(text, words[(kind * 31 + j * 17) % 11]);
			strcat(text, " ");
		}
		many[i].data = strcpy(malloc(strlen(text) + 1), text);
		many[i].length = strlen(text);
	}
	CHECK_MSG(distil_session_embed(session, out, has, many, N, -1, &err) == DISTIL_OK, "%s", err.message);
	CHECK(distil_session_stats(session)->texts == N);
	tokens = distil_session_stats(session)->tokens;
	for (i = 0; i < N; i++)
	{
		bool		one;

		CHECK(has[i]);
		CHECK(distil_session_embed(session, alone, &one, &many[i], 1, -1, &err) == DISTIL_OK && one);
		worst = check_worse(worst, largest_difference(alone, out + (size_t) i * d, (size_t) d));
	}
	CHECK_MSG(worst == 0.0, "alone and in a batch differ by %g", worst);
	/* equal texts were computed once: a third less than the texts one by one */
	CHECK(tokens * 10 <= (distil_session_stats(session)->tokens - tokens) * 7);
	for (i = 0; i < N; i++)
		free((char *) many[i].data);
	free(out);
	free(alone);
	distil_session_free(session);
}

static void
test_batches(void)
{
	LoadedModel loaded;
	const char *real = getenv("DISTIL_TEST_MODEL");

	if (load_model(&loaded, MODELS "bert-sentence", true))
	{
		check_batches(loaded.model, 0);
		check_batches(loaded.model, 1);	/* as little memory as possible */
		load_free(&loaded);
	}
	else
		CHECK_MSG(false, "bert-sentence does not load");
	if (real != NULL && load_model(&loaded, real, true))
	{
		check_batches(loaded.model, 0);
		load_free(&loaded);
	}
}

static void
test_truncation(void)
{
	LoadedModel loaded;
	DistilSession *session;
	char	   *text = malloc(200 * 6 + 1);
	DistilText	two[2];
	const float *states;
	float		out[48];
	bool		has[2];
	DistilError err;
	int			tokens;
	int			i;

	if (!load_model(&loaded, MODELS "bert-sentence", true))
		return;
	text[0] = '\0';
	for (i = 0; i < 200; i++)
		strcat(text, "table ");
	two[0].data = two[1].data = text;
	two[0].length = strlen(text);
	two[1].length = strlen(text) - 12;
	session = open_session(loaded.model, 0);
	CHECK(distil_session_hidden(session, &states, &tokens, &two[0], &err) == DISTIL_OK);
	CHECK(tokens == distil_model_info(loaded.model)->max_tokens);
	CHECK(distil_session_stats(session)->truncated == 1);
	CHECK(distil_session_embed(session, out, has, two, 2, -1, &err) == DISTIL_OK);
	CHECK(distil_session_stats(session)->truncated == 3);
	/* both are cut to the same tokens; their rows lie in other places of a product */
	CHECK(largest_difference(out, out + 24, 24) <= 1e-6);
	CHECK(distil_session_embed(session, out, has, two, 2, 99, &err) == DISTIL_ERR_ARGUMENT);
	distil_session_free(session);
	load_free(&loaded);
	free(text);
}

/* ---------- failures ---------- */

typedef struct Countdown
{
	int			calls;
	int			stop_at;		/* 0: never */
} Countdown;

static bool
countdown_stop(void *ctx)
{
	Countdown  *countdown = ctx;

	countdown->calls++;
	return countdown->stop_at > 0 && countdown->calls >= countdown->stop_at;
}

/* The k-th allocation fails; counts what is not given back. */
typedef struct Failing
{
	int			calls;
	int			fail_at;
	int			live;
} Failing;

static void *
failing_alloc(void *ctx, size_t bytes)
{
	Failing    *failing = ctx;

	if (++failing->calls == failing->fail_at)
		return NULL;
	failing->live++;
	return malloc(bytes > 0 ? bytes : 1);
}

static void
failing_release(void *ctx, void *memory)
{
	if (memory != NULL)
		((Failing *) ctx)->live--;
	free(memory);
}

/* All calls of a session; the first error. */
static DistilStatus
use_session(DistilSession *session, float *out, DistilError *err)
{
	const DistilAllocator *alloc;
	const float *states;
	DistilFill *fills;
	Rows		rows = {NULL, 0, 0};
	bool		has[NTEXTS];
	DistilStatus status;
	int			n;

	DISTIL_FORWARD(distil_session_embed(session, out, has, texts, NTEXTS, -1, err));
	DISTIL_FORWARD(distil_session_hidden(session, &states, &n, &texts[1], err));
	status = distil_session_lm_logits(session, &pair[0], &pair[1], collect_row, &rows, &n, err);
	free(rows.data);
	if (status != DISTIL_OK)
		return status;
	DISTIL_FORWARD(distil_session_fill_mask(session, &fills, &n, &texts[6], 3, err));
	alloc = *(const DistilAllocator *const *) (const void *) &out[NTEXTS * 32];
	distil_release(alloc, fills);
	return DISTIL_OK;
}

static void
test_cancel(void)
{
	LoadedModel loaded;
	DistilSession *session = NULL;
	Countdown	countdown = {0, 0};
	DistilPoll	poll = {countdown_stop, &countdown};
	Failing		failing = {0, 0, 0};
	DistilAllocator alloc = {failing_alloc, failing_release, &failing};
	const DistilAllocator *pointer = &alloc;
	float	   *out = calloc(NTEXTS * 32 + 16, sizeof(float));
	float	   *first = calloc(NTEXTS * 32, sizeof(float));
	DistilError err;
	int			total;
	int			k;

	if (!load_model(&loaded, MODELS "bert-mlm", true))
		return;
	memcpy(&out[NTEXTS * 32], &pointer, sizeof(pointer));
	CHECK(distil_session_create(&session, loaded.model, device, 0, &alloc, &poll, &err) == DISTIL_OK);
	CHECK(use_session(session, out, &err) == DISTIL_OK);
	memcpy(first, out, sizeof(float) * NTEXTS * 32);
	countdown.calls = 0;
	CHECK(use_session(session, out, &err) == DISTIL_OK);
	total = countdown.calls;
	CHECK(total > 50);
	for (k = 1; k <= total; k++)
	{
		countdown.calls = 0;
		countdown.stop_at = k;
		CHECK_MSG(use_session(session, out, &err) == DISTIL_ERR_CANCELLED, "stopped at poll %d of %d", k,
				  total);
	}
	countdown.stop_at = 0;
	memset(out, 0, sizeof(float) * NTEXTS * 32);
	CHECK(use_session(session, out, &err) == DISTIL_OK);
	CHECK(memcmp(first, out, sizeof(float) * NTEXTS * 32) == 0);
	distil_session_free(session);
	CHECK_MSG(failing.live == 0, "%d allocations were not given back", failing.live);

	/* every allocation fails once, from creation to the last call */
	total = failing.calls;
	for (k = 1; k <= total; k++)
	{
		DistilStatus status;

		failing.calls = 0;
		failing.fail_at = k;
		status = distil_session_create(&session, loaded.model, device, 0, &alloc, NULL, &err);
		if (status == DISTIL_OK)
		{
			status = use_session(session, out, &err);
			CHECK(status == DISTIL_OK || status == DISTIL_ERR_MEMORY);
			failing.fail_at = 0;
			CHECK(use_session(session, out, &err) == DISTIL_OK);
			CHECK(memcmp(first, out, sizeof(float) * NTEXTS * 32) == 0);
			distil_session_free(session);
		}
		else
			CHECK(status == DISTIL_ERR_MEMORY && session == NULL);
		CHECK_MSG(failing.live == 0, "allocation %d: %d not given back", k, failing.live);
		if (failing.calls < k)
			break;
	}
	load_free(&loaded);
	free(out);
	free(first);
}

/* ---------- verify ---------- */

typedef struct Items
{
	int			n;
	int			bad;
	char		names[64];
} Items;

static void
count_item(void *ctx, const char *item, bool ok, const char *detail)
{
	Items	   *items = ctx;

	items->n++;
	if (!ok)
	{
		items->bad++;
		strncat(items->names, item, 60);
	}
	CHECK(detail[0] != '\0');
}

/* A weight becomes a NaN in the image: the first of the table, or of a matrix in bfloat16. */
static void
spoil(const DistilModel *model)
{
	float	   *weights = (float *) (uintptr_t) model->weights;
	const DistilParamTable *table = &model->spec.table;

	for (int i = 0; i < table->n; i++)
		if (table->params[i].type == DISTIL_TYPE_BF16)
		{
			*(uint16_t *) (void *) (weights + table->params[i].offset) = 0x7fc0;
			return;
		}
	weights[table->params[model->spec.word].offset + 5] = NAN;
}

static void
check_verify(const char *layout)
{
	LoadedModel loaded;
	DistilSession *session;
	Items		items = {0, 0, ""};
	DistilError err;
	bool		ok;

	load_layout = layout;
	ok = load_model(&loaded, MODELS "bert-mlm", true);
	load_layout = NULL;
	CHECK(ok);
	if (!ok)
		return;
	session = open_session(loaded.model, 0);
	CHECK(distil_session_verify(session, count_item, &items, &err) == DISTIL_OK);
	CHECK_MSG(items.n == 3 && items.bad == 0, "%d of %d: %s", items.bad, items.n, items.names);
	spoil(loaded.model);
	memset(&items, 0, sizeof(items));
	distil_session_free(session);	/* a device may have a copy */
	session = open_session(loaded.model, 0);
	CHECK(distil_session_verify(session, count_item, &items, &err) == DISTIL_OK);
	CHECK_MSG(items.bad >= 1 && strstr(items.names, "weights") != NULL, "%s", items.names);
	distil_session_free(session);
	load_free(&loaded);
}

/* A packed and a plain image of one model give the same bits, and a verified forward pass. */
static void
test_layouts(void)
{
	static const char *const layouts[] = {DISTIL_LAYOUT_F32, DISTIL_LAYOUT_F32P16};
	static const char *const models[] = {"bert-sentence", "bert-mlm"};
	DistilText	texts[] = {{"the cat sat on the river", 24}, {"a dog", 5}};
	float		out[2][2 * 256];
	int			packed = 0;
	int			i;
	int			j;
	int			k;

	for (i = 0; i < 2; i++)
	{
		size_t		bytes = 0;

		for (j = 0; j < 2; j++)
		{
			LoadedModel loaded;
			DistilSession *session;
			Items		items = {0, 0, ""};
			DistilError err = {"", "", ""};
			bool		has[2];
			bool		ok;

			load_layout = layouts[j];
			ok = load_model(&loaded, i == 0 ? MODELS "bert-sentence" : MODELS "bert-mlm", true);
			load_layout = NULL;
			CHECK(ok);
			if (!ok)
				return;
			CHECK(distil_model_info(loaded.model)->dimensions <= 256);
			for (k = 0; k < loaded.model->spec.table.n; k++)
				packed += (loaded.model->spec.table.params[k].flags & DISTIL_PARAM_PACKED) != 0;
			CHECK_MSG((packed > 0) == (i + j > 0), "%s as %s: %d packed", models[i], layouts[j], packed);
			session = open_session(loaded.model, 0);
			CHECK(distil_session_embed(session, out[j], has, texts, 2, -1, &err) == DISTIL_OK);
			CHECK(distil_session_verify(session, count_item, &items, &err) == DISTIL_OK && items.bad == 0);
			bytes = sizeof(float) * 2 * (size_t) distil_model_info(loaded.model)->dimensions;
			distil_session_free(session);
			load_free(&loaded);
		}
		CHECK(memcmp(out[0], out[1], bytes) == 0);
	}
}

/* Logits of a masked model from a BF16 image, decoder included, are near those in float32. */
typedef struct LogitRows
{
	float	   *values;
	size_t		n;
} LogitRows;

static DistilStatus
keep_logits(void *ctx, int t, const float *row, int n, DistilError *err)
{
	LogitRows  *rows = ctx;

	(void) t;
	(void) err;
	rows->values = realloc(rows->values, (rows->n + (size_t) n) * sizeof(float));
	memcpy(rows->values + rows->n, row, (size_t) n * sizeof(float));
	rows->n += (size_t) n;
	return DISTIL_OK;
}

static void
test_low_logits(void)
{
	static const char *const layouts[] = {DISTIL_LAYOUT_F32P16, DISTIL_LAYOUT_BF16P16};
	DistilText	text = {"the cat sat on the river", 24};
	LogitRows	rows[2] = {{NULL, 0}, {NULL, 0}};
	double		dot = 0;
	double		aa = 0;
	double		bb = 0;
	size_t		k;
	int			i;

	if (device->ops->has_type == NULL || !device->ops->has_type(device, DISTIL_TYPE_BF16))
		return;
	for (i = 0; i < 2; i++)
	{
		LoadedModel loaded;
		DistilSession *session;
		DistilError err = {"", "", ""};
		int			tokens;
		bool		ok;

		load_layout = layouts[i];
		ok = load_model(&loaded, MODELS "bert-mlm", true);
		load_layout = NULL;
		CHECK(ok);
		if (!ok)
			return;
		CHECK((loaded.model->spec.lm.low_weight >= 0) == (i == 1));
		session = open_session(loaded.model, 0);
		CHECK(distil_session_lm_logits(session, &text, NULL, keep_logits, &rows[i], &tokens,
									   &err) == DISTIL_OK);
		distil_session_free(session);
		load_free(&loaded);
	}
	CHECK(rows[0].n == rows[1].n && rows[0].n > 0);
	for (k = 0; k < rows[0].n && k < rows[1].n; k++)
	{
		dot += (double) rows[0].values[k] * rows[1].values[k];
		aa += (double) rows[0].values[k] * rows[0].values[k];
		bb += (double) rows[1].values[k] * rows[1].values[k];
	}
	CHECK_MSG(dot / sqrt(aa * bb) > 0.999, "cosine %.6f", dot / sqrt(aa * bb));
	CHECK(dot / sqrt(aa * bb) < 1.0);	/* it was another path */
	free(rows[0].values);
	free(rows[1].values);
}

int
main(void)
{
	static const char *const devices[][2] = {
		{"reference", NULL}, {"standin", NULL}, {"cpu", "avx2"}, {"cpu", "avx512"}
	};
	char		message[256];
	int			i;

	read_texts();
	for (i = 0; i < 4; i++)
	{
		if (devices[i][1] != NULL && !distil_cpu_has(devices[i][1]))
			continue;
		device = distil_device_open(devices[i][0], devices[i][1], message, sizeof(message));
		CHECK_MSG(device != NULL, "%s", message);
		if (device == NULL)
			continue;
		test_masked_lm("bert-mlm", "bert-mlm.goldens.safetensors", TOLERANCE);
		test_masked_lm("bert-old", "bert-mlm.goldens.safetensors", TOLERANCE);
		/* float16 weights: 2^-11 relative on weights of size 0.15, over two layers */
		test_masked_lm("bert-f16-sharded", "bert-mlm.goldens.safetensors", 2e-2);
		test_masked_lm("distilbert-mlm", "distilbert-mlm.goldens.safetensors", TOLERANCE);
		test_sentence();
		test_lower_case();
		test_batches();
		test_truncation();
		test_cancel();
		check_verify(DISTIL_LAYOUT_F32P16);
		if (!device->ops->own_memory)	/* an accelerator takes float32 */
			check_verify(DISTIL_LAYOUT_BF16P16);
		test_layouts();
		test_low_logits();
		device->ops->close(device);
	}
	return check_report("session");
}
