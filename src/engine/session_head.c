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
	size_t		c = (size_t) spec->config.width;
	size_t		k = (size_t) spec->head.outputs;
	size_t		work = (2 * DISTIL_SESSION_HEAD_ROWS * c + 15) / 16 * 16;

	if (head->memory == NULL)
	{
		head->memory = session->device->ops->alloc(session->device,
												   (work + DISTIL_SESSION_HEAD_ROWS * k) * sizeof(float));
		if (head->memory == NULL)
			return distil_fail_memory(err, (work + DISTIL_SESSION_HEAD_ROWS * k) * sizeof(float));
		head->work = head->memory;
		head->logits = head->memory + work;
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

DistilStatus
distil_session_head_run(DistilSession *session, const int32_t *ids, const int32_t *types, int n, int *rows,
						DistilError *err)
{
	DistilSessionHead *head = &session->head;
	const DistilSpec *spec = &session->model->spec;
	size_t		c = (size_t) spec->config.width;
	size_t		k = (size_t) spec->head.outputs;
	const int32_t offsets[2] = {0, n};
	const float *hidden;
	int32_t		first = 0;
	int			i;

	*rows = spec->head.head->every_token ? n : 1;
	DISTIL_FORWARD(prepare(session, *rows, err));
	DISTIL_FORWARD(distil_session_single(session, ids, types, n, &hidden, err));
	if (!spec->head.head->every_token)
		distil_head_rows(&first, spec, ids, offsets, 1);
	for (i = 0; i < *rows; i += DISTIL_SESSION_HEAD_ROWS)
	{
		int			count = *rows - i < DISTIL_SESSION_HEAD_ROWS ? *rows - i : DISTIL_SESSION_HEAD_ROWS;

		DISTIL_FORWARD(distil_head_forward(spec, session->weights, head->logits,
										   hidden + ((size_t) first + (size_t) i) * c, count, head->work,
										   session->device, &session->poll, err));
		DISTIL_FORWARD(distil_session_fetch(session, head->host + (size_t) i * k, head->logits,
											(size_t) count * k * sizeof(float), err));
	}
	return DISTIL_OK;
}

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
	double		top = -INFINITY;
	double		sum = 0;
	int			i;

	for (i = 0; i < n; i++)
		top = fmax(top, x[(size_t) i * step]);
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

static DistilStatus
fail_empty(DistilError *err)
{
	return distil_fail(err, DISTIL_ERR_ARGUMENT, "the text has no token");
}

/* scores [k] from the head's row, by problem */
static DistilStatus
fill_scores(DistilSession *session, DistilScore *scores, DistilError *err)
{
	const DistilSpec *spec = &session->model->spec;
	DistilProblem problem = distil_head_problem(spec);
	const float *logits = session->head.host;
	int			k = spec->head.outputs;
	double	   *p = distil_alloc_array(session->alloc, (size_t) k, sizeof(double));

	if (p == NULL)
		return distil_fail_memory(err, (size_t) k * sizeof(double));
	distil_softmax(p, logits, k, 1);
	for (int i = 0; i < k; i++)
	{
		DistilScore score = {spec->config.labels[i], (float) p[i]};
		int			at = i;

		if (problem == DISTIL_PROBLEM_MULTI_LABEL)
			score.score = (float) sigmoid(logits[i]);
		else if (problem == DISTIL_PROBLEM_REGRESSION)
			score.score = logits[i];
		/* best first; of equal ones the lower label number; thousands of labels are rare */
		for (; at > 0 && scores[at - 1].score < score.score; at--)
			scores[at] = scores[at - 1];
		scores[at] = score;
		if (i % 1024 == 1023 && session->poll.stop != NULL && session->poll.stop(session->poll.ctx))
		{
			distil_release(session->alloc, p);
			return distil_fail_cancelled(err);
		}
	}
	distil_release(session->alloc, p);
	return DISTIL_OK;
}

DistilStatus
distil_session_classify(DistilSession *session, DistilScore **scores, int *nscores, bool *regression,
						const DistilText *text, DistilError *err)
{
	const DistilSpec *spec = &session->model->spec;
	int			k = spec->head.outputs;
	DistilStatus status;
	int			rows;

	*scores = NULL;
	*nscores = 0;
	DISTIL_FORWARD(distil_session_require(session, DISTIL_HEAD_SEQUENCE, err));
	if (distil_head_ranks(spec))
		return distil_fail(err, DISTIL_ERR_STATE, "the model's head ranks pairs of texts and has no labels");
	*regression = distil_head_problem(spec) == DISTIL_PROBLEM_REGRESSION;
	DISTIL_FORWARD(run_text(session, text, NULL, &rows, err));
	if (rows == 0)
		return fail_empty(err);
	*scores = distil_alloc_array(session->alloc, (size_t) k, sizeof(DistilScore));
	if (*scores == NULL)
		return distil_fail_memory(err, (size_t) k * sizeof(DistilScore));
	status = fill_scores(session, *scores, err);
	if (status != DISTIL_OK)
	{
		distil_release(session->alloc, *scores);
		*scores = NULL;
		return status;
	}
	*nscores = k;
	return DISTIL_OK;
}

DistilStatus
distil_session_rerank(DistilSession *session, float *score, const DistilText *query,
					  const DistilText *document, DistilError *err)
{
	const DistilConfig *config = &session->model->spec.config;
	int			rows;

	DISTIL_FORWARD(distil_session_require(session, DISTIL_HEAD_SEQUENCE, err));
	if (!distil_head_ranks(&session->model->spec))
		return distil_fail(err, DISTIL_ERR_STATE, "the model's head has labels or values and does not rank");
	DISTIL_FORWARD(run_text(session, query, document, &rows, err));
	if (rows == 0)
		return fail_empty(err);
	if (config->rank_activation != DISTIL_ACT_NONE)
	{
		session->device->ops->activation_forward(session->device, config->rank_activation,
												 session->head.logits, session->head.logits, 1);
		DISTIL_FORWARD(distil_session_fetch(session, session->head.host, session->head.logits, sizeof(float),
											err));
	}
	*score = session->head.host[0];
	return DISTIL_OK;
}

DistilStatus
distil_session_choose(DistilSession *session, float *scores, const DistilText *prompt,
					  const DistilText *choices, int n, DistilError *err)
{
	double	   *p;
	int			rows;
	int			i;

	DISTIL_FORWARD(distil_session_require(session, DISTIL_HEAD_CHOICE, err));
	for (i = 0; i < n; i++)
	{
		DISTIL_FORWARD(run_text(session, prompt, &choices[i], &rows, err));
		if (rows == 0)
			return fail_empty(err);
		scores[i] = session->head.host[0];
	}
	p = distil_alloc_array(session->alloc, (size_t) n + 1, sizeof(double));
	if (p == NULL)
		return distil_fail_memory(err, (size_t) n * sizeof(double));
	distil_softmax(p, scores, n, 1);
	for (i = 0; i < n; i++)
		scores[i] = (float) p[i];
	distil_release(session->alloc, p);
	return DISTIL_OK;
}
