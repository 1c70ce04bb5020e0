/*
 * session_head.c
 *		Scores of the task head, and the answers that are one row of them: classify, rerank, choose.
 */
#include "session.h"

#include "head.h"

#include <math.h>
#include <string.h>

DistilStatus
distil_session_require(const DistilSession *session, DistilHeadKind kind, DistilError *err)
{
	static const char *const names[DISTIL_HEAD_KINDS] = {
		"text classification", "token classification", "question answering", "multiple choice"
	};
	const DistilHead *head = session->model->spec.head.head;

	if (head != NULL && head->kind == kind)
		return DISTIL_OK;
	distil_fail(err, DISTIL_ERR_STATE, "the model has no head for %s", names[kind]);
	if (head == NULL)
		return DISTIL_ERR_STATE;
	return distil_fail_detail(err, DISTIL_ERR_STATE, "It has one for %s.", names[head->kind]);
}

/* Make the head's buffers at the first use; room for `rows` rows of scores on the host. */
static DistilStatus
prepare(DistilSession *session, int rows, DistilError *err)
{
	DistilSessionHead *head = &session->head;
	const DistilSpec *spec = &session->model->spec;
	size_t		k = (size_t) spec->head.outputs;
	size_t		wide = (DISTIL_SESSION_HEAD_ROWS * (size_t) spec->config.width + 15) / 16 * 16;
	size_t		scores = (DISTIL_SESSION_HEAD_ROWS * k + 15) / 16 * 16;
	size_t		bytes = (3 * wide + scores + DISTIL_SESSION_HEAD_ROWS) * sizeof(float);

	if (head->memory == NULL)
	{
		head->memory = session->device->ops->alloc(session->device, bytes);
		if (head->memory == NULL)
			return distil_fail_memory(err, bytes);
		head->work = head->memory;
		head->x = head->work + 2 * wide;
		head->logits = head->x + wide;
		head->gather = (int32_t *) (head->logits + scores);
	}
	if (rows > head->host_rows)
	{
		distil_release(session->alloc, head->host);
		head->host_rows = 0;
		head->host = distil_alloc_array(session->alloc, (size_t) rows * k, sizeof(float));
		if (head->host == NULL)
			return distil_fail_memory(err, (size_t) rows * k * sizeof(float));
		head->host_rows = rows;
	}
	return DISTIL_OK;
}

/*
 * Scores of n rows of hidden into head.host [n, K]: of rows[0 .. n), or of the first n when rows
 * is NULL.  The activation is put on them.
 */
static DistilStatus
score(DistilSession *session, const float *hidden, const int32_t *rows, int n, DistilActivation activation,
	  DistilError *err)
{
	DistilSessionHead *head = &session->head;
	const DistilSpec *spec = &session->model->spec;
	DistilDevice *device = session->device;
	size_t		c = (size_t) spec->config.width;
	size_t		k = (size_t) spec->head.outputs;

	DISTIL_FORWARD(prepare(session, n, err));
	for (int i = 0; i < n; i += DISTIL_SESSION_HEAD_ROWS)
	{
		int			count = n - i < DISTIL_SESSION_HEAD_ROWS ? n - i : DISTIL_SESSION_HEAD_ROWS;
		const float *x = hidden + (size_t) i * c;

		if (rows != NULL)
		{
			device->ops->copy_in(device, head->gather, rows + i, sizeof(int32_t) * (size_t) count);
			device->ops->gather_rows(device, head->x, hidden, head->gather, count, spec->config.width);
			x = head->x;
		}
		DISTIL_FORWARD(distil_head_forward(spec, session->weights, head->logits, x, count, head->work, device,
										   &session->poll, err));
		if (activation != DISTIL_ACT_NONE)
			device->ops->activation_forward(device, activation, head->logits, head->logits,
											(size_t) count * k);
		DISTIL_FORWARD(distil_session_fetch(session, head->host + (size_t) i * k, head->logits,
											(size_t) count * k * sizeof(float), err));
	}
	return DISTIL_OK;
}

DistilStatus
distil_session_head_run(DistilSession *session, const int32_t *ids, const int32_t *types, int n, int *rows,
						DistilError *err)
{
	const DistilSpec *spec = &session->model->spec;
	const int32_t offsets[2] = {0, n};
	const float *hidden;
	int32_t		row;

	DISTIL_FORWARD(distil_session_single(session, ids, types, n, &hidden, err));
	*rows = spec->head.head->every_token ? n : 1;
	if (spec->head.head->every_token)
		return score(session, hidden, NULL, n, DISTIL_ACT_NONE, err);
	distil_head_rows(&row, spec, ids, offsets, 1);
	return score(session, hidden, &row, 1, DISTIL_ACT_NONE, err);
}

/* ---------- many texts ---------- */

typedef struct HeadRun
{
	DistilActivation activation;
	const DistilTextRows *rows;
} HeadRun;

static DistilStatus
head_pass(DistilSession *session, void *ctx, const DistilBatch *batch, const float *hidden,
		  const DistilWindowText *texts, int count, DistilError *err)
{
	const HeadRun *run = ctx;
	const DistilSpec *spec = &session->model->spec;
	size_t		c = (size_t) spec->config.width;
	int			k = spec->head.outputs;
	bool		every_token = spec->head.head->every_token;

	if (!every_token)
	{
		/* the staged ranges are on the device: their place is free */
		distil_head_rows(session->ranges, spec, session->ids, session->offsets, count);
		DISTIL_FORWARD(score(session, hidden, session->ranges, count, run->activation, err));
	}
	for (int i = 0; i < count; i++)
	{
		int32_t		first = batch->host_offsets[i];
		int			n = every_token ? texts[i].length : 1;

		if (every_token)
			DISTIL_FORWARD(score(session, hidden + (size_t) first * c, NULL, n, run->activation, err));
		DISTIL_FORWARD(run->rows->rows(run->rows->ctx, texts[i].index,
									   session->head.host + (every_token ? 0 : (size_t) i * (size_t) k), n, k,
									   err));
	}
	return DISTIL_OK;
}

static DistilStatus
head_copy(DistilSession *session, void *ctx, int to, int from, DistilError *err)
{
	const HeadRun *run = ctx;

	(void) session;
	return run->rows->same(run->rows->ctx, to, from, err);
}

/* Scores of n texts; has [n] as distil_session_run_texts.  shared: rows may be given by other threads. */
static DistilStatus
run_many(DistilSession *session, const DistilText *texts, const DistilText *pairs, int n,
		 DistilActivation activation, const DistilTextRows *rows, bool shared, bool *has, DistilError *err)
{
	HeadRun		head = {activation, rows};
	DistilWindowRun run = {
		.texts = texts, .pairs = pairs, .n = n, .prompt = -1, .typed = true, .shared = shared,
		.pass = head_pass, .copy = head_copy, .ctx = &head
	};

	return distil_session_run_texts(session, &run, has, err);
}

DistilStatus
distil_session_head_many(DistilSession *session, const DistilText *texts, const DistilText *pairs, int n,
						 const DistilTextRows *rows, bool *has, DistilError *err)
{
	if (session->model->spec.head.head == NULL)
		return distil_fail(err, DISTIL_ERR_STATE, "the model has no task head");
	return run_many(session, texts, pairs, n, DISTIL_ACT_NONE, rows, false, has, err);
}

/* ---------- one text ---------- */

/* Encode and run; *rows 0 when the text has no token. */
static DistilStatus
run_text(DistilSession *session, const DistilText *text, const DistilText *pair, int *rows, DistilError *err)
{
	*rows = 0;
	DISTIL_FORWARD(distil_session_encode(session, text, pair, -1, err));
	if (session->encoding.n == 0)
		return DISTIL_OK;
	return distil_session_head_run(session, session->encoding.ids, session->encoding.types,
								   session->encoding.n, rows, err);
}

DistilStatus
distil_session_head_logits(DistilSession *session, const float **logits, int *rows, int *n,
						   const DistilText *text, const DistilText *pair, DistilError *err)
{
	if (session->model->spec.head.head == NULL)
		return distil_fail(err, DISTIL_ERR_STATE, "the model has no task head");
	DISTIL_FORWARD(run_text(session, text, pair, rows, err));
	*logits = session->head.host;
	*n = session->model->spec.head.outputs;
	return DISTIL_OK;
}

void
distil_softmax(double *p, const float *x, int n, size_t step)
{
	double		top = distil_largest(x, n, step);
	double		sum = 0;
	int			i;

	for (i = 0; i < n; i++)
		sum += p[i] = exp(x[(size_t) i * step] - top);
	for (i = 0; i < n; i++)
		p[i] /= sum;
}

static double
sigmoid(double x)
{
	return 1 / (1 + exp(-x));
}

DistilStatus
distil_session_fail_empty(DistilError *err)
{
	return distil_fail_hint(err, distil_fail(err, DISTIL_ERR_ARGUMENT, "the model has no token for the text"),
							"The model's tokenizer adds none of its own.  Leave empty texts out, or make "
							"them NULL: NULLIF(body, '').");
}

/* How scores come from the logits of one text. */
typedef struct Scale
{
	DistilProblem problem;
	double		top, sum;		/* of the softmax */
} Scale;

static Scale
scale_of(const DistilSpec *spec, const float *logits)
{
	Scale		scale = {distil_head_problem(spec), distil_largest(logits, spec->head.outputs, 1), 0};

	for (int i = 0; i < spec->head.outputs; i++)
		scale.sum += exp(logits[i] - scale.top);
	return scale;
}

static float
score_of(const Scale *scale, float logit)
{
	if (scale->problem == DISTIL_PROBLEM_MULTI_LABEL)
		return (float) sigmoid(logit);
	if (scale->problem == DISTIL_PROBLEM_REGRESSION)
		return logit;
	return (float) (exp(logit - scale->top) / scale->sum);
}

/* scores [k] from logits [k], best first; of equal ones the lower label number */
static DistilStatus
fill_scores(const DistilSession *session, DistilScore *scores, const float *logits, DistilError *err)
{
	const DistilSpec *spec = &session->model->spec;
	Scale		scale = scale_of(spec, logits);

	for (int i = 0; i < spec->head.outputs; i++)
	{
		DistilScore score = {spec->config.labels[i], score_of(&scale, logits[i])};
		int			at = i;

		/* thousands of labels are rare */
		for (; at > 0 && scores[at - 1].score < score.score; at--)
			scores[at] = scores[at - 1];
		scores[at] = score;
		if (i % 1024 == 1023)
			DISTIL_POLL(&session->poll, err);
	}
	return DISTIL_OK;
}

/* The first of fill_scores(). */
static const char *
best_label(const DistilSpec *spec, const float *logits)
{
	Scale		scale = scale_of(spec, logits);
	float		best = score_of(&scale, logits[0]);
	int			at = 0;

	for (int i = 1; i < spec->head.outputs; i++)
	{
		float		score = score_of(&scale, logits[i]);

		if (score > best)
		{
			best = score;
			at = i;
		}
	}
	return spec->config.labels[at];
}

/* Does the model classify?  *regression: it gives a value, no label. */
static DistilStatus
require_classes(DistilSession *session, bool *regression, DistilError *err)
{
	DISTIL_FORWARD(distil_session_require(session, DISTIL_HEAD_SEQUENCE, err));
	if (distil_head_ranks(&session->model->spec))
		return distil_fail(err, DISTIL_ERR_STATE, "the model's head ranks pairs of texts and has no labels");
	*regression = distil_head_problem(&session->model->spec) == DISTIL_PROBLEM_REGRESSION;
	return DISTIL_OK;
}

DistilStatus
distil_session_classify(DistilSession *session, DistilScore **scores, int *nscores, bool *regression,
						const DistilText *text, const DistilText *pair, DistilError *err)
{
	int			k = session->model->spec.head.outputs;
	DistilStatus status;
	int			rows;

	*scores = NULL;
	*nscores = 0;
	DISTIL_FORWARD(require_classes(session, regression, err));
	DISTIL_FORWARD(run_text(session, text, pair, &rows, err));
	if (rows == 0)
		return distil_session_fail_empty(err);
	*scores = distil_alloc_array(session->alloc, (size_t) k, sizeof(DistilScore));
	if (*scores == NULL)
		return distil_fail_memory(err, (size_t) k * sizeof(DistilScore));
	status = fill_scores(session, *scores, session->head.host, err);
	if (status != DISTIL_OK)
	{
		distil_release(session->alloc, *scores);
		*scores = NULL;
		return status;
	}
	*nscores = k;
	return DISTIL_OK;
}

/* Where the results of many texts go: a value or a label each. */
typedef struct Results
{
	DistilSession *session;
	const char **labels;		/* [n] or NULL */
	float	   *values;			/* [n] or NULL */
} Results;

/* By any thread: each text has a place of its own. */
static DistilStatus
keep_row(void *ctx, int index, const float *row, int nrows, int width, DistilError *err)
{
	Results    *results = ctx;

	(void) nrows;
	(void) width;
	(void) err;
	if (results->values != NULL)
		results->values[index] = row[0];
	else
		results->labels[index] = best_label(&results->session->model->spec, row);
	return DISTIL_OK;
}

static DistilStatus
keep_same(void *ctx, int index, int first, DistilError *err)
{
	Results    *results = ctx;

	(void) err;
	if (results->values != NULL)
		results->values[index] = results->values[first];
	else
		results->labels[index] = results->labels[first];
	return DISTIL_OK;
}

/* One result for each of n texts; a text without a token is an error. */
static DistilStatus
fill_results(Results *results, const DistilText *texts, const DistilText *pairs, int n,
			 DistilActivation activation, DistilError *err)
{
	const DistilAllocator *alloc = results->session->alloc;
	const DistilTextRows rows = {keep_row, keep_same, results};
	bool	   *has = distil_alloc_array(alloc, (size_t) n + 1, sizeof(bool));
	DistilStatus status;

	if (has == NULL)
		return distil_fail_memory(err, (size_t) n);
	status = run_many(results->session, texts, pairs, n, activation, &rows, true, has, err);
	for (int i = 0; status == DISTIL_OK && i < n; i++)
		if (!has[i])
			status = distil_session_fail_empty(err);
	distil_release(alloc, has);
	return status;
}

DistilStatus
distil_session_labels(DistilSession *session, const char **labels, bool *regression, const DistilText *texts,
					  const DistilText *pairs, int n, DistilError *err)
{
	Results		results = {.session = session, .labels = labels};

	DISTIL_FORWARD(require_classes(session, regression, err));
	if (*regression)
		return DISTIL_OK;
	return fill_results(&results, texts, pairs, n, DISTIL_ACT_NONE, err);
}

DistilStatus
distil_session_rerank(DistilSession *session, float *scores, const DistilText *queries,
					  const DistilText *documents, int n, DistilError *err)
{
	const DistilSpec *spec = &session->model->spec;
	Results		results = {.session = session, .values = scores};

	DISTIL_FORWARD(distil_session_require(session, DISTIL_HEAD_SEQUENCE, err));
	if (!distil_head_ranks(spec))
		return distil_fail(err, DISTIL_ERR_STATE, "the model's head has labels or values and does not rank");
	return fill_results(&results, queries, documents, n, spec->config.rank_activation, err);
}

DistilStatus
distil_session_choose(DistilSession *session, float *scores, const DistilText *prompt,
					  const DistilText *choices, int n, DistilError *err)
{
	Results		results = {.session = session, .values = scores};
	DistilText *prompts;
	DistilStatus status;
	double	   *p;
	int			i;

	DISTIL_FORWARD(distil_session_require(session, DISTIL_HEAD_CHOICE, err));
	p = distil_alloc_array(session->alloc, (size_t) n + 1, sizeof(double));
	prompts = distil_alloc_array(session->alloc, (size_t) n + 1, sizeof(DistilText));
	if (p == NULL || prompts == NULL)
		status = distil_fail_memory(err, (size_t) n * (sizeof(double) + sizeof(DistilText)));
	else
	{
		for (i = 0; i < n; i++)
			prompts[i] = *prompt;
		status = fill_results(&results, prompts, choices, n, DISTIL_ACT_NONE, err);
	}
	if (status == DISTIL_OK)
	{
		distil_softmax(p, scores, n, 1);
		for (i = 0; i < n; i++)
			scores[i] = (float) p[i];
	}
	distil_release(session->alloc, p);
	distil_release(session->alloc, prompts);
	return status;
}
