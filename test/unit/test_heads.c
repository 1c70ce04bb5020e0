/*
 * test_heads.c
 *		Every architecture with every head against transformers: hidden states, scores, losses,
 *		answers, entities, generated tokens; gradients of every head by finite differences.
 *
 * The folders test/golden/models/heads-ARCH hold one backbone and the tensors of each
 * head; a case puts the files of one head together.
 */
#include "heads_fixture.h"

#include "thread_pool.h"

static DistilStatus
keep_row(void *ctx, int t, const float *row, int n, DistilError *err)
{
	float	  **rows = ctx;

	(void) err;
	*rows = realloc(*rows, sizeof(float) * (size_t) (t + 1) * (size_t) n);
	memcpy(*rows + (size_t) t * n, row, sizeof(float) * (size_t) n);
	return DISTIL_OK;
}

static void
check_lm(DistilSession *session, const Goldens *g, const char *name, const DistilText *text,
		 const DistilText *second, int v)
{
	float	   *rows = NULL;
	int			tokens = 0;
	DistilError err = {"", "", ""};

	CHECK_MSG(distil_session_lm_logits(session, text, second, keep_row, &rows, &tokens, &err) == DISTIL_OK,
			  "%s", err.message);
	check_rows(g, name, rows, tokens, v, 5 * TOLERANCE);
	free(rows);
}

static void
test_scores(DistilSession *session, const Goldens *g, const char *kind, const DistilModel *model)
{
	DistilError err = {"", "", ""};
	char		name[64];

	for (int i = 0; i < 3; i++)
	{
		DistilText	text = text_of(head_texts[i]);
		const float *logits;
		int			rows;
		int			n;

		if (strcmp(kind, "lm") == 0)
		{
			snprintf(name, sizeof(name), "text%d.hidden", i);
			CHECK(distil_session_hidden(session, &logits, &rows, &text, &err) == DISTIL_OK);
			check_rows(g, name, logits, rows, 32, TOLERANCE);
			if (i == 0)
				check_lm(session, g, "lm.text0", &text, NULL, distil_model_info(model)->vocabulary);
			continue;
		}
		snprintf(name, sizeof(name), "%s.text%d", kind, i);
		CHECK_MSG(distil_session_head_logits(session, &logits, &rows, &n, &text, NULL, &err) == DISTIL_OK,
				  "%s",
				  err.message);
		check_rows(g, name, logits, rows, n, 2 * TOLERANCE);
	}
	if (strcmp(kind, "lm") == 0)
		check_lm(session, g, "lm.pair", &pair[0], &pair[1], distil_model_info(model)->vocabulary);
}

/* ---------- many texts at once ---------- */

#define MANY 7

typedef struct Kept
{
	float	   *values[MANY];
	int			rows[MANY];
	int			calls;
	int			width;
} Kept;

static DistilStatus
keep_text(void *ctx, int index, const float *rows, int n, int width, DistilError *err)
{
	Kept	   *kept = ctx;
	size_t		bytes = sizeof(float) * (size_t) n * (size_t) width;

	(void) err;
	CHECK(index >= 0 && index < MANY && kept->values[index] == NULL);
	kept->values[index] = memcpy(malloc(bytes), rows, bytes);
	kept->rows[index] = n;
	kept->width = width;
	kept->calls++;
	return DISTIL_OK;
}

static DistilStatus
keep_equal(void *ctx, int index, int first, DistilError *err)
{
	Kept	   *kept = ctx;
	size_t		bytes = sizeof(float) * (size_t) kept->rows[first] * (size_t) kept->width;

	(void) err;
	CHECK(kept->values[first] != NULL && kept->values[index] == NULL);
	kept->values[index] = memcpy(malloc(bytes), kept->values[first], bytes);
	kept->rows[index] = kept->rows[first];
	return DISTIL_OK;
}

/* Many texts give what each gives alone, equal ones are computed once, an empty one gets no call. */
static void
test_many(DistilSession *session, const char *kind, bool pairs)
{
	static const char *const texts[MANY] = {
		"a fox", "", "a fox", "the cat sat on the mat .", "where is the cat", "a fox", "it"
	};
	bool		head = strcmp(kind, "lm") != 0;
	DistilText	input[MANY];
	DistilText	second[MANY];
	DistilError err = {"", "", ""};
	Kept		kept = {0};
	DistilTextRows sink = {keep_text, keep_equal, &kept};
	bool		has[MANY];
	DistilStatus status;

	for (int i = 0; i < MANY; i++)
	{
		input[i] = text_of(texts[i]);
		second[i] = text_of(texts[i == 2 ? 3 : (i + 1) % MANY]);
	}
	status = head ? distil_session_head_many(session, input, pairs ? second : NULL, MANY, &sink, has, &err)
		: distil_session_hidden_many(session, input, MANY, &sink, has, &err);
	CHECK_MSG(status == DISTIL_OK, "%s", err.message);
	for (int i = 0; i < MANY; i++)
	{
		const float *alone;
		int			rows;
		int			n = kept.width;

		status = head ? distil_session_head_logits(session, &alone, &rows, &n, &input[i],
												   pairs ? &second[i] : NULL, &err)
			: distil_session_hidden(session, &alone, &rows, &input[i], &err);
		CHECK_MSG(status == DISTIL_OK, "%s", err.message);
		CHECK_MSG(has[i] == (rows > 0) && kept.rows[i] == rows, "%s %d: %d rows, alone %d", kind, i,
				  kept.rows[i], rows);
		/* another batch may sum in another order */
		for (int j = 0; has[i] && j < rows * n; j++)
			CHECK_NEAR(kept.values[i][j], alone[j], TOLERANCE);
		free(kept.values[i]);
	}
	CHECK(kept.calls <= (pairs ? MANY : MANY - 2));
}

/* ---------- losses ---------- */

static void
check_loss(DistilSession *session, const Goldens *g, const char *name, const char *example)
{
	DistilError err = {"", "", ""};
	int			rows;
	float	   *expected = golden(g, name, &rows);
	double		loss = NAN;

	CHECK_MSG(distil_session_loss(session, &loss, example, strlen(example), &err) == DISTIL_OK, "%s: %s %s",
			  name, err.message, err.detail);
	/* losses of size 1 to 10 from logits that are within 1e-4 */
	if (expected != NULL)
		CHECK_MSG(fabs(loss - expected[0]) <= 1e-4, "%s: %g, expected %g", name, loss, expected[0]);
	free(expected);
}

static void
test_loss(DistilSession *session, const Goldens *g, const char *arch, const char *kind)
{
	const char *mask = strcmp(arch, "roberta") == 0 || strcmp(arch, "mpnet") == 0 ? "<mask>" : "[MASK]";
	char		example[512];

	if (strcmp(kind, "lm") == 0 && strcmp(arch, "gpt2") == 0)
		check_loss(session, g, "loss.lm", "{\"text\": \"the cat sat on the mat .\"}");
	else if (strcmp(kind, "lm") == 0)
	{
		snprintf(example, sizeof(example),
				 "{\"text\": \"the %s sat on the mat .\", \"target\": \"the cat sat on the mat .\"}", mask);
		check_loss(session, g, "loss.lm", example);
		snprintf(example, sizeof(example), "{\"text\": \"the %s sat on the mat .\", "
				 "\"target\": \"the cat sat on the mat .\", \"masked_only\": true}", mask);
		check_loss(session, g, "loss.lm.masked_only", example);
	}
	else if (strcmp(kind, "sequence") == 0)
		check_loss(session, g, "loss.sequence",
				   "{\"text\": \"the cat sat on the mat .\", \"label\": \"good\"}");
	else if (strcmp(kind, "token") == 0)
		check_loss(session, g, "loss.token",
				   "{\"words\": [\"the\", \"cat\", \"sat\", \"on\", \"the\", \"mat\", \".\"], "
				   "\"tags\": [\"O\", \"B-PER\", 2, \"O\", \"B-LOC\", \"I-LOC\", \"O\"]}");
	else if (strcmp(kind, "question") == 0)
		check_loss(session, g, "loss.question", "{\"question\": \"where is the cat\", "
				   "\"context\": \"the cat is on the mat\", \"start\": 3, \"end\": 5}");
	else
		check_loss(session, g, "loss.choice", "{\"prompt\": \"where is the cat\", \"choices\": "
				   "[\"the cat is on the mat\", \"a fox\", \"the king reads a book\"], \"label\": 2}");
}

/* ---------- what the heads answer ---------- */

static void
check_spans(const char *what, const DistilJson *expected, const DistilSpan *spans, int n, double tolerance)
{
	CHECK_MSG((int) distil_json_count(expected) == n, "%s: %d spans, expected %d", what, n,
			  (int) distil_json_count(expected));
	for (int i = 0; i < n && i < (int) distil_json_count(expected); i++)
	{
		const DistilJson *e = distil_json_item(expected, (size_t) i);
		const DistilJson *label = distil_json_member(e, "entity");

		CHECK_MSG(spans[i].start_pos == distil_json_integer(member(e, "start")) &&
				  spans[i].end_pos == distil_json_integer(member(e, "end")) &&
				  fabs(spans[i].score - distil_json_number(member(e, "score"))) <= tolerance,
				  "%s %d: [%d, %d) %g, expected [%d, %d) %g", what, i, spans[i].start_pos, spans[i].end_pos,
				  spans[i].score, (int) distil_json_integer(member(e, "start")),
				  (int) distil_json_integer(member(e, "end")), distil_json_number(member(e, "score")));
		if (label != NULL)
			CHECK_MSG(strcmp(spans[i].label, distil_json_string(label, NULL)) == 0, "%s %d: %s, expected %s",
					  what,
					  i, spans[i].label, distil_json_string(label, NULL));
	}
}

static void
test_entities(DistilSession *session, const DistilJson *facts)
{
	static const char *const names[] = {"none", "simple", "first", "average", "max"};
	const DistilJson *entities = member(facts, "entities");
	DistilText	text = text_of(distil_json_string(member(entities, "text"), NULL));
	DistilError err = {"", "", ""};

	for (int i = 0; i < 5; i++)
	{
		DistilAggregation aggregation;
		DistilSpan *spans;
		int			n;

		CHECK(distil_aggregation_parse(&aggregation, names[i], &err) == DISTIL_OK);
		CHECK_MSG(distil_session_entities(session, &spans, &n, &text, aggregation, &err) == DISTIL_OK, "%s",
				  err.message);
		/* the pipeline runs in float32 */
		check_spans(names[i], member(entities, names[i]), spans, n, 1e-4);
		free(spans);
	}
}

static void
test_answers(DistilSession *session, const DistilJson *facts)
{
	DistilText	question = text_of(distil_json_string(member(facts, "question"), NULL));
	DistilText	context = text_of(distil_json_string(member(facts, "context"), NULL));
	DistilError err = {"", "", ""};
	DistilSpan *spans = NULL;
	int			n = 0;

	CHECK_MSG(distil_session_answer(session, &spans, &n, &question, &context, 5, &err) == DISTIL_OK, "%s",
			  err.message);
	check_spans("answer", member(facts, "answers"), spans, n, 1e-4);
	for (int i = 0; i < n; i++)
		CHECK((int) spans[i].byte_start == spans[i].start_pos && (int) spans[i].byte_end == spans[i].end_pos);
	free(spans);
}

static void
test_generation(DistilSession *session, const DistilJson *facts)
{
	const DistilJson *cases = member(facts, "generate");
	DistilGenerateOptions options = {24, 0, 0, 1, 0};
	DistilError err = {"", "", ""};

	for (size_t i = 0; i < distil_json_count(cases); i++)
	{
		const DistilJson *one = distil_json_item(cases, i);
		const DistilJson *expected = member(one, "ids");
		DistilText	prompt = text_of(distil_json_string(member(one, "prompt"), NULL));
		DistilEncoding encoding;
		DistilEncodeOptions encode = distil_tokenizer_defaults(distil_model_tokenizer(session->model));
		int32_t    *ids = NULL;
		int			n = 0;
		size_t		ends = 0;

		distil_encoding_init(&encoding, distil_alloc_system());
		CHECK(distil_tokenizer_encode(distil_model_tokenizer(session->model), &encoding, &prompt, NULL,
									  &encode,
									  NULL, &err) == DISTIL_OK);
		CHECK_MSG(distil_session_generate_ids(session, &ids, &n, encoding.ids, encoding.n, &options, &err)
				  == DISTIL_OK, "%s", err.message);
		/* up to the end token, which is kept */
		while (ends < distil_json_count(expected) && distil_json_integer(distil_json_item(expected,
																						  ends)) != 0)
			ends++;
		ends += ends < distil_json_count(expected);
		CHECK_MSG(n == (int) ends, "%d tokens, expected %zu", n, ends);
		for (int j = 0; j < n && j < (int) ends; j++)
			CHECK_MSG(ids[j] == distil_json_integer(distil_json_item(expected, (size_t) j)), "token %d: %d",
					  j,
					  ids[j]);
		free(ids);
		distil_encoding_reset(&encoding);
	}
	for (int i = 0; i < 3; i++)
	{
		DistilText	text = text_of(head_texts[i]);
		double		value;
		bool		has;
		double		expected = distil_json_number(distil_json_item(member(facts, "perplexity"), (size_t) i));

		CHECK(distil_session_perplexity(session, &value, &has, &text, 1, &err) == DISTIL_OK && has);
		CHECK_MSG(fabs(value / expected - 1) <= 1e-4, "perplexity %g, expected %g", value, expected);
	}
}

/* Sampling: the same seed the same tokens, one candidate the likeliest, a full context ends it. */
static void
test_sampling(DistilSession *session)
{
	const int32_t prompt[3] = {10, 20, 30};
	int32_t		many[80];
	DistilError err = {"", "", ""};
	DistilGenerateOptions greedy = {20, 0, 0, 1, 0};
	DistilGenerateOptions options = {20, 1.5, 0, 1, 7};
	int32_t    *a;
	int32_t    *b;
	int			na;
	int			nb;
	int			differ = 0;

	CHECK(distil_session_generate_ids(session, &a, &na, prompt, 3, &options, &err) == DISTIL_OK);
	CHECK(distil_session_generate_ids(session, &b, &nb, prompt, 3, &options, &err) == DISTIL_OK);
	CHECK(na == nb && memcmp(a, b, sizeof(int32_t) * (size_t) na) == 0);
	free(b);
	for (options.seed = 8; options.seed < 12; options.seed++)
	{
		CHECK(distil_session_generate_ids(session, &b, &nb, prompt, 3, &options, &err) == DISTIL_OK);
		differ += na != nb || memcmp(a, b, sizeof(int32_t) * (size_t) na) != 0;
		free(b);
	}
	CHECK(differ > 0);
	free(a);
	CHECK(distil_session_generate_ids(session, &a, &na, prompt, 3, &greedy, &err) == DISTIL_OK);
	options.top_k = 1;
	CHECK(distil_session_generate_ids(session, &b, &nb, prompt, 3, &options, &err) == DISTIL_OK);
	CHECK(na == nb && memcmp(a, b, sizeof(int32_t) * (size_t) na) == 0);
	free(b);
	options.top_k = 0;
	options.top_p = 1e-9;
	CHECK(distil_session_generate_ids(session, &b, &nb, prompt, 3, &options, &err) == DISTIL_OK);
	CHECK(na == nb && memcmp(a, b, sizeof(int32_t) * (size_t) na) == 0);
	free(a);
	free(b);
	for (int i = 0; i < 80; i++)
		many[i] = 10 + i;
	greedy.max_tokens = 1000;
	CHECK(distil_session_generate_ids(session, &a, &na, many, 60, &greedy, &err) == DISTIL_OK && na <= 4);
	free(a);
	CHECK(distil_session_generate_ids(session, &a, &na, many, 80, &greedy, &err) == DISTIL_OK && na <= 32);
	free(a);
	greedy.max_tokens = 0;
	CHECK(distil_session_generate_ids(session, &a, &na, many, 3, &greedy, &err) == DISTIL_ERR_ARGUMENT);
}

/* ---------- gradients of the heads ---------- */

/* The derivative of sum r * logits along a random direction of each parameter of the head and of the rows. */
static void
test_head_gradient(const char *arch, const char *kind, DistilSpec *spec, const float *image)
{
	DistilDevice *ref = device;
	int			n = 5;
	int			k = spec->head.outputs;
	int			c = spec->config.width;
	size_t		total = spec->table.total;
	float	   *weights = malloc(total * sizeof(float));
	float	   *gradients = calloc(total, sizeof(float));
	float	   *buffer = calloc((size_t) (n * (4 * c + 3 * k)), sizeof(float));
	float	   *x = buffer;
	float	   *dx = x + n * c;
	float	   *work = dx + n * c;
	float	   *r = work + 2 * n * c;
	float	   *logits = r + n * k;
	float	   *scratch = calloc((size_t) (n * c), sizeof(float));
	const int	indexes[4] = {spec->head.dense_weight, spec->head.dense_bias, spec->head.out_weight,
	spec->head.out_bias};
	DistilError err;
	uint32_t	state = 1;

	memcpy(weights, image, total * sizeof(float));
	for (int i = 0; i < n * c; i++)
		x[i] = (float) (int32_t) (state = state * 1664525u + 1013904223u) / 2147483648.0f;
	for (int i = 0; i < n * k; i++)
		r[i] = (float) (int32_t) (state = state * 1664525u + 1013904223u) / 2147483648.0f;
	CHECK(distil_head_forward(spec, weights, logits, x, n, work, ref, NULL, &err) == DISTIL_OK);
	CHECK(distil_head_backward(spec, weights, gradients, dx, r, x, n, work, scratch, ref, NULL,
							   &err) == DISTIL_OK);
	for (int part = 0; part < 5; part++)
	{
		float	   *w = part == 4 ? x
			: weights + (indexes[part] >= 0 ? spec->table.params[indexes[part]].offset : 0);
		float	   *g = part == 4 ? dx : gradients + (w - weights);
		size_t		count = part == 4 ? (size_t) (n * c)
			: indexes[part] >= 0 ? spec->table.params[indexes[part]].count : 0;
		double		worst = 0;

		for (size_t at = 0; at < count; at += count / 7 + 1)
		{
			double		sums[2] = {0, 0};
			float		old = w[at];

			for (int sign = 0; sign < 2; sign++)
			{
				w[at] = old + (sign ? 1e-3f : -1e-3f);
				CHECK(distil_head_forward(spec, weights, logits, x, n, work, ref, NULL, &err) == DISTIL_OK);
				for (int i = 0; i < n * k; i++)
					sums[sign] += (double) r[i] * logits[i];
			}
			w[at] = old;
			worst = check_worse(worst, fabs((sums[1] - sums[0]) / 2e-3 - g[at]));
		}
		/* sums of 15 floats of size 1 are good to 1e-6; over a step of 2e-3 that is 5e-4 */
		CHECK_MSG(worst <= 1e-3, "%s %s, part %d: gradient off by %g", arch, kind, part, worst);
	}
	free(weights);
	free(gradients);
	free(buffer);
	free(scratch);
}

/* Losses' gradients by differences. */
static void
test_loss_gradients(void)
{
	static const int32_t labels[4] = {2, DISTIL_NO_LABEL, 0, 1};
	static const float values[12] = {0.5f, 1, 0, -1, 2, 0.25f, 1, 1, 0, 0, 1, 0.5f};
	float		logits[12];
	float		gradient[12];
	float		unused[12];

	for (int i = 0; i < 12; i++)
		logits[i] = sinf((float) (3 * i + 1)) * 2;
	for (int kind = 0; kind < 5; kind++)
		for (int i = -1; i < 12; i++)
		{
			double		loss[2] = {0, 0};

			for (int sign = 0; sign < 2; sign++)
			{
				float		old = i >= 0 ? logits[i] : 0;
				float	   *to = i < 0 ? gradient : unused;

				if (i >= 0)
					logits[i] = old + (sign ? 1e-2f : -1e-2f);
				loss[sign] = kind == 0 ? distil_loss_labels(to, logits, labels, 4, 3)
					: kind == 1 ? distil_loss_sequence(to, logits, DISTIL_PROBLEM_MULTI_LABEL, NULL, values,
													   4, 3)
					: kind == 2 ? distil_loss_sequence(to, logits, DISTIL_PROBLEM_REGRESSION, NULL, values, 4,
													   3)
					: kind == 3 ? distil_loss_question(to, logits, 6, 1, 4)
					: distil_loss_choice(to, logits, 12, 5);
				if (i >= 0)
					logits[i] = old;
			}
			/* third-order term of a step of 1e-2, and rounding of the float step */
			if (i >= 0)
				CHECK_NEAR((loss[1] - loss[0]) / 2e-2, gradient[i], 2e-4);
		}
}

/* ---------- memory and cancelling ---------- */

/* One question to whichever head the model has; what it gives is released. */
static DistilStatus
ask(DistilSession *session, const DistilModelInfo *info, DistilAllocator *alloc, DistilError *err)
{
	DistilText	text = text_of(head_texts[0]);
	DistilText	long_text = text_of(head_texts[2]);
	DistilGenerateOptions options = {3, 1, 5, 0.9, 4};
	DistilSpan *spans = NULL;
	DistilScore *scores = NULL;
	char	   *written = NULL;
	size_t		length;
	bool		regression;
	int			n;
	DistilStatus status;

	if (strcmp(info->heads[0].name, "lm") == 0)
		status = distil_session_generate(session, &written, &length, &text, &options, err);
	else if (strcmp(info->heads[0].name, "classify") == 0)
		status = distil_session_classify(session, &scores, &n, &regression, &text, NULL, err);
	else if (strcmp(info->heads[0].name, "entities") == 0)
		status = distil_session_entities(session, &spans, &n, &text, DISTIL_AGGREGATE_AVERAGE, err);
	else
		status = distil_session_answer(session, &spans, &n, &text, &long_text, 3, err);
	CHECK(status == DISTIL_OK || (spans == NULL && scores == NULL && written == NULL));
	alloc->release(alloc->ctx, spans);
	alloc->release(alloc->ctx, scores);
	alloc->release(alloc->ctx, written);
	return status;
}

static bool
count_stop(void *ctx)
{
	int		   *left = ctx;

	return --*left < 0;
}

/* Each allocation fails once, each poll stops once: a clean error, nothing left, the session usable. */
static void
test_failing(const char *arch, const char *kind)
{
	LoadedModel loaded;
	DistilError err = {"", "", ""};
	DistilStatus status = DISTIL_ERR_MEMORY;
	TestAllocator test;
	DistilSession *session;

	CHECK(load_head(&loaded, arch, kind, &err) == DISTIL_OK);
	if (loaded.model == NULL)
		return;
	for (long fail = 1; fail < 5000 && status != DISTIL_OK; fail++)
	{
		test_allocator_init(&test, fail);
		status = distil_session_create(&session, loaded.model, device, 0, &test.alloc, NULL, &err);
		if (status == DISTIL_OK)
			status = ask(session, distil_model_info(loaded.model), &test.alloc, &err);
		CHECK(status == DISTIL_OK || status == DISTIL_ERR_MEMORY);
		if (status != DISTIL_OK && session != NULL)
		{
			test.fail_at = 0;
			CHECK(ask(session, distil_model_info(loaded.model), &test.alloc, &err) == DISTIL_OK);
		}
		distil_session_free(session);
		CHECK_MSG(test.live == 0, "%s %s, allocation %ld: %ld left", arch, kind, fail, test.live);
	}
	CHECK(status == DISTIL_OK);
	status = DISTIL_ERR_CANCELLED;
	for (int polls = 0; polls < 5000 && status != DISTIL_OK; polls++)
	{
		int			left = polls;
		DistilPoll	poll = {count_stop, &left};

		test_allocator_init(&test, 0);
		status = distil_session_create(&session, loaded.model, device, 0, &test.alloc, &poll, &err);
		if (status == DISTIL_OK)
			status = ask(session, distil_model_info(loaded.model), &test.alloc, &err);
		CHECK(status == DISTIL_OK || status == DISTIL_ERR_CANCELLED);
		distil_session_free(session);
		CHECK(test.live == 0);
	}
	CHECK(status == DISTIL_OK);
	load_free(&loaded);
}

/* ---------- cases ---------- */

static void
test_case(const char *arch, const char *kind, const DistilJson *facts)
{
	LoadedModel loaded;
	Goldens		g;
	char		file[64];
	DistilSession *session;
	DistilError err = {"", "", ""};
	DistilStatus status = load_head(&loaded, arch, kind, &err);

	CHECK_MSG(status == DISTIL_OK, "%s %s: %s %s", arch, kind, err.message, err.detail);
	snprintf(file, sizeof(file), "heads-%s.goldens.safetensors", arch);
	if (status != DISTIL_OK || !goldens_open(&g, file))
	{
		load_free(&loaded);
		return;
	}
	session = open_session(loaded.model, 0);
	test_scores(session, &g, kind, loaded.model);
	test_many(session, kind, false);
	if (strcmp(kind, "lm") != 0)
		test_many(session, kind, true);
	test_loss(session, &g, arch, kind);
	if (strcmp(kind, "token") == 0)
		test_entities(session, facts);
	if (strcmp(kind, "question") == 0)
		test_answers(session, facts);
	if (strcmp(kind, "lm") == 0 && strcmp(arch, "gpt2") == 0)
	{
		test_generation(session, facts);
		test_sampling(session);
	}
	if (strcmp(kind, "choice") == 0)
	{
		DistilText	choices[3] = {text_of("the cat is on the mat"), text_of("a fox"),
			text_of("the king reads a book")};
		float		scores[3];

		CHECK(distil_session_choose(session, scores, &pair[0], choices, 3, &err) == DISTIL_OK);
		check_rows(&g, "choose.scores", scores, 3, 1, TOLERANCE);
	}
	if (strcmp(kind, "lm") != 0 && !device->ops->own_memory)
		test_head_gradient(arch, kind, &loaded.model->spec, loaded.model->weights);
	distil_session_free(session);
	goldens_close(&g);
	load_free(&loaded);
}

/* Names, tasks and scores of the classification heads of BERT. */
static void
test_classifiers(void)
{
	static const struct
	{
		const char *kind;
		const char *name;
		const char *task;
	}			cases[] = {
		{"sequence", "classify", "text-classification"}, {"multi", "classify", "text-classification"},
		{"regression", "classify", "text-classification"}, {"one", "rerank", "text-ranking"}
	};
	Goldens		g;
	DistilText	text = text_of(head_texts[0]);
	int			rows;
	float	   *raw;

	CHECK(goldens_open(&g, "heads-bert.goldens.safetensors"));
	raw = golden(&g, "sequence.text0", &rows);
	for (int i = 0; i < 4; i++)
	{
		LoadedModel loaded;
		DistilSession *session;
		DistilScore *scores = NULL;
		DistilError err = {"", "", ""};
		const char *labels[3];
		const DistilText queries[3] = {pair[0], text, pair[0]};
		const DistilText documents[3] = {pair[1], text, pair[1]};
		bool		regression;
		float		several[3];
		float		score;
		int			n;

		CHECK_MSG(load_head(&loaded, "bert", cases[i].kind, &err) == DISTIL_OK, "%s", err.message);
		CHECK(distil_model_info(loaded.model)->nheads == 1);
		CHECK(strcmp(distil_model_info(loaded.model)->heads[0].name, cases[i].name) == 0);
		CHECK(strcmp(distil_model_info(loaded.model)->heads[0].task, cases[i].task) == 0);
		session = open_session(loaded.model, 0);
		if (i == 3)
		{
			CHECK(distil_session_rerank(session, &score, &pair[0], &pair[1], 1, &err) == DISTIL_OK);
			check_rows(&g, "rerank", &score, 1, 1, TOLERANCE);
			CHECK(distil_session_rerank(session, several, queries, documents, 3, &err) == DISTIL_OK);
			CHECK_NEAR(several[0], score, TOLERANCE);
			CHECK(several[2] == several[0]);
			CHECK(distil_session_labels(session, labels, &regression, queries, NULL, 3,
										&err) == DISTIL_ERR_STATE);
			CHECK(distil_session_classify(session, &scores, &n, &regression, &text, NULL,
										  &err) == DISTIL_ERR_STATE);
		}
		else
		{
			double		sum = 0;

			CHECK(distil_session_classify(session, &scores, &n, &regression, &text, NULL, &err) == DISTIL_OK);
			CHECK(regression == (i == 2) && n == (i == 2 ? 1 : 3));
			CHECK(distil_session_labels(session, labels, &regression, queries, NULL, 3, &err) == DISTIL_OK);
			CHECK(regression == (i == 2) && (i == 2 || strcmp(labels[1], scores[0].label) == 0));
			CHECK(i == 2 || strcmp(labels[0], labels[2]) == 0);
			for (int j = 0; j < n; j++)
			{
				sum += scores[j].score;
				CHECK(j == 0 || scores[j - 1].score >= scores[j].score);
			}
			if (i == 0)
				CHECK_NEAR(sum, 1, 1e-6);	/* probabilities */
			for (int j = 0; i == 1 && j < n; j++)
				for (int l = 0; l < 3; l++)
					if (strcmp(scores[j].label, l == 0 ? "bad" : l == 1 ? "plain" : "good") == 0)
						CHECK_NEAR(scores[j].score, 1 / (1 + exp(-raw[l])), TOLERANCE);
			CHECK(distil_session_rerank(session, &score, &pair[0], &pair[1], 1, &err) == DISTIL_ERR_STATE);
			if (i == 1)
				check_loss(session, &g, "loss.multi",
						   "{\"text\": \"the cat sat on the mat .\", \"label\": [\"bad\", \"good\"]}");
		}
		free(scores);
		distil_session_free(session);
		load_free(&loaded);
	}
	free(raw);
	goldens_close(&g);
}

/* Every head of every architecture on one backend. */
static void
test_backend(const char *backend)
{
	char		message[256] = "";

	device = distil_device_open(backend, NULL, message, sizeof(message));
	CHECK_MSG(device != NULL, "%s", message);
	if (device == NULL)
		return;
	for (int a = 0; a < ARCHITECTURES; a++)
	{
		DistilJsonDoc *facts = facts_of(architectures[a]);

		for (int k = 0; k < KINDS && facts != NULL; k++)
			if (has_kind(architectures[a], kinds[k]))
				test_case(architectures[a], kinds[k], distil_json_root(facts));
		distil_json_free(facts);
	}
	test_classifiers();
	device->ops->close(device);
}

/* Scores of pairs that threads share are those of one thread. */
static void
test_shared_rerank(void)
{
	enum
	{
		PAIRS = 90
	};
	char		message[256] = "";
	DistilDevice *others[2] = {
		distil_device_open("cpu", NULL, message, sizeof(message)),
		distil_device_open("cpu", NULL, message, sizeof(message))
	};
	LoadedModel loaded;
	DistilSession *session;
	DistilPool *pool = NULL;
	DistilText	queries[PAIRS];
	DistilText	documents[PAIRS];
	DistilError err = {"", "", ""};
	char		texts[PAIRS][256] = {""};
	float		alone[PAIRS];
	float		shared[PAIRS];

	CHECK(load_head(&loaded, "bert", "one", &err) == DISTIL_OK);
	session = open_session(loaded.model, 0);
	for (int i = 0; i < PAIRS; i++)
	{
		for (int j = 0; j < i % 30; j++)
			strcat(texts[i], j % 3 == 0 ? "fox " : j % 3 == 1 ? "cat " : "king ");
		queries[i] = text_of("where is the cat");
		documents[i] = text_of(texts[i]);
	}
	CHECK(distil_session_rerank(session, alone, queries, documents, PAIRS, &err) == DISTIL_OK);
	CHECK(distil_pool_create(&pool, 3, 0, NULL, distil_alloc_system(), &err) == DISTIL_OK);
	distil_session_share(session, pool, others, distil_alloc_system());
	CHECK(distil_session_rerank(session, shared, queries, documents, PAIRS, &err) == DISTIL_OK);
	CHECK(same_in_batches(alone, shared, PAIRS));
	distil_session_share(session, NULL, NULL, NULL);
	distil_pool_free(pool);
	distil_session_free(session);
	load_free(&loaded);
	others[0]->ops->close(others[0]);
	others[1]->ops->close(others[1]);
}

int
main(void)
{
	char		message[256] = "";

	read_texts();
	test_backend("cpu");
	test_backend("standin");
	device = distil_device_open("cpu", NULL, message, sizeof(message));
	if (device == NULL)
		return check_report("heads");
	test_shared_rerank();
	test_loss_gradients();
	test_failing("gpt2", "lm");
	test_failing("roberta", "sequence");
	test_failing("mpnet", "token");
	test_failing("bert", "question");
	device->ops->close(device);
	return check_report("heads");
}
