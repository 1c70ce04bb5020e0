/*
 * session_lm.c
 *		Logits of language models, and fill-mask.
 *
 * Logits are computed for a few rows at a time; fill-mask computes one row.  The mask
 * in a fill-mask text is recognised even in models imported with parse_special off:
 * then the texts before and after it are tokenised on their own, as the tokenizer
 * itself does round a special token.
 */
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A language-model head; causal: which one is asked for. */
static DistilStatus
require_lm(const DistilSession *session, bool causal, DistilError *err)
{
	if (session->model->spec.has_lm)
		return DISTIL_OK;
	distil_fail(err, DISTIL_ERR_STATE, "the model has no %s-language-model head",
				causal ? "causal" : "masked");
	return distil_fail_detail(err, DISTIL_ERR_STATE,
							  causal ? "It cannot write on or score a text from its beginning."
							  : "It can neither fill masks nor give logits of tokens.");
}

/* Make the head's buffers at the first use. */
static DistilStatus
prepare_lm(DistilSession *session, DistilError *err)
{
	DistilSessionLm *lm = &session->lm;
	size_t		c = (size_t) distil_widest(&session->model->spec.config);
	size_t		v = (size_t) session->model->spec.config.vocabulary;
	size_t		rows = DISTIL_SESSION_LOGITS_BYTES / (v * sizeof(float));
	size_t		wide;
	size_t		low;
	size_t		floats;

	if (lm->memory != NULL)
		return DISTIL_OK;
	rows = rows < 1 ? 1 : rows > DISTIL_SESSION_LOGITS_ROWS ? DISTIL_SESSION_LOGITS_ROWS : rows;
	wide = (rows * c + 15) / 16 * 16;
	low = distil_rows_elements(DISTIL_TYPE_BF16, rows, c) / 2;
	floats = 3 * wide + low + rows * v + rows;
	if (lm->host == NULL)
		lm->host = distil_alloc_array(session->alloc, v, sizeof(float));
	if (lm->host == NULL)
		return distil_fail_memory(err, v * sizeof(float));
	lm->memory = session->device->ops->alloc(session->device, floats * sizeof(float));
	if (lm->memory == NULL)
		return distil_fail_memory(err, floats * sizeof(float));
	lm->rows = (int) rows;
	lm->x = lm->memory;
	lm->h = lm->x + wide;
	lm->scratch = lm->h + wide;
	lm->low.type = DISTIL_TYPE_BF16;
	lm->low.data = lm->scratch + wide;
	lm->low.ld = distil_row_stride(DISTIL_TYPE_BF16, c);
	lm->logits = lm->scratch + wide + low;
	lm->gather = (int32_t *) (lm->logits + rows * v);
	return DISTIL_OK;
}

/* Logits of rows first .. first + n - 1 of hidden into lm.logits; n <= lm.rows. */
static DistilStatus
compute_logits(DistilSession *session, const float *hidden, int first, int n, DistilError *err)
{
	DistilSessionLm *lm = &session->lm;
	const DistilSpec *spec = &session->model->spec;
	int32_t		rows[DISTIL_SESSION_LOGITS_ROWS];
	int			i;

	for (i = 0; i < n; i++)
		rows[i] = first + i;
	session->device->ops->copy_in(session->device, lm->gather, rows, sizeof(int32_t) * (size_t) n);
	session->device->ops->gather_rows(session->device, lm->x, hidden, lm->gather, n, spec->config.width);
	DISTIL_FORWARD(distil_lm_transform(spec, session->weights, lm->h, lm->x, n, NULL, lm->scratch,
									   session->device, &session->poll, err));
	if (spec->lm.low_weight >= 0)
		return distil_lm_decode_low(spec, session->weights, lm->logits, lm->h, n, &lm->low, session->device,
									&session->poll, err);
	return distil_lm_decode(spec, session->weights, lm->logits, lm->h, n, session->device, &session->poll,
							err);
}

DistilStatus
distil_session_lm_prepare(DistilSession *session, bool causal, DistilError *err)
{
	DISTIL_FORWARD(require_lm(session, causal, err));
	if (session->model->spec.config.causal != causal)
	{
		distil_fail(err, DISTIL_ERR_STATE, causal ? "the model is a masked language model, not a causal one"
					: "the model is a causal language model, not a masked one");
		return distil_fail_detail(err, DISTIL_ERR_STATE,
								  causal ? "It cannot write on or score a text from its beginning."
								  : "It writes texts on and fills no masks.");
	}
	return prepare_lm(session, err);
}

/* One row of lm.logits to the host. */
static DistilStatus
fetch_row(DistilSession *session, int row, DistilError *err)
{
	size_t		v = (size_t) session->model->spec.config.vocabulary;

	return distil_session_fetch(session, session->lm.host, session->lm.logits + (size_t) row * v,
								v * sizeof(float), err);
}

DistilStatus
distil_session_lm_row(DistilSession *session, const float *hidden, int row, DistilError *err)
{
	DISTIL_FORWARD(compute_logits(session, hidden, row, 1, err));
	return fetch_row(session, 0, err);
}

DistilStatus
distil_session_lm_rows(DistilSession *session, const float *hidden, int first, int n, DistilRowFn row,
					   void *ctx, DistilError *err)
{
	int			v = session->model->spec.config.vocabulary;
	int			i;
	int			j;

	for (i = 0; i < n; i += session->lm.rows)
	{
		int			count = n - i < session->lm.rows ? n - i : session->lm.rows;

		DISTIL_FORWARD(compute_logits(session, hidden, first + i, count, err));
		for (j = 0; j < count; j++)
		{
			DISTIL_FORWARD(fetch_row(session, j, err));
			DISTIL_FORWARD(row(ctx, first + i + j, session->lm.host, v, err));
		}
	}
	return DISTIL_OK;
}

/*
 * Calls row(ctx, t, logits [V], V) for each token of the text (and pair, may be NULL);
 * *tokens is their number.  An error of row ends the call.
 */
DistilStatus
distil_session_lm_logits(DistilSession *session, const DistilText *text, const DistilText *pair,
						 DistilRowFn row, void *ctx, int *tokens, DistilError *err)
{
	const float *hidden;
	int			n;

	DISTIL_FORWARD(require_lm(session, session->model->spec.config.causal, err));
	DISTIL_FORWARD(prepare_lm(session, err));
	DISTIL_FORWARD(distil_session_encode(session, text, pair, -1, err));
	n = session->encoding.n;
	*tokens = n;
	if (n == 0)
		return DISTIL_OK;
	DISTIL_FORWARD(distil_session_single(session, session->encoding.ids, session->encoding.types, n,
										 &hidden, err));
	return distil_session_lm_rows(session, hidden, 0, n, row, ctx, err);
}

/* ---------- fill-mask ---------- */

/* The model's mask token; *length its bytes. */
static DistilStatus
mask_token(const DistilSession *session, int32_t *id, const char **token, size_t *length, DistilError *err)
{
	*id = distil_tokenizer_special(session->model->tokenizer)->mask;
	*token = *id >= 0 ? distil_tokenizer_token(session->model->tokenizer, *id, length) : NULL;
	if (*token == NULL || *length == 0)
		return distil_fail(err, DISTIL_ERR_STATE, "the tokenizer of the model has no mask token");
	return DISTIL_OK;
}

static DistilStatus
fail_masks(int found, const char *token, size_t length, DistilError *err)
{
	char		shown[128];

	distil_fail(err, DISTIL_ERR_ARGUMENT, "the text must hold exactly one mask token \"%s\"",
				distil_printable(shown, sizeof(shown), token, length));
	if (found == 0)
		return distil_fail_detail(err, DISTIL_ERR_ARGUMENT,
								  "It holds none within the model's limit of tokens.");
	return distil_fail_detail(err, DISTIL_ERR_ARGUMENT, "It holds %d.", found);
}

/* First place of the token in the text, or NULL. */
static const char *
find_token(const char *text, size_t length, const char *token, size_t token_length)
{
	const char *end = text + length;
	const char *p = text;

	while (p < end && (size_t) (end - p) >= token_length)
	{
		p = memchr(p, token[0], (size_t) (end - p) - token_length + 1);
		if (p == NULL)
			return NULL;
		if (memcmp(p, token, token_length) == 0)
			return p;
		p++;
	}
	return NULL;
}

/* Special tokens in front of a text: what the template puts before "a". */
static DistilStatus
template_front(DistilSession *session, int *front, DistilError *err)
{
	DistilText	probe = {"a", 1};

	DISTIL_FORWARD(distil_session_encode(session, &probe, NULL, -1, err));
	session->stats.texts--;
	*front = 0;
	while (*front < session->encoding.n && session->encoding.special[*front])
		(*front)++;
	return DISTIL_OK;
}

/* Put ids into session->window_ids (it holds several passes); they are kept there. */
static void
window_append(DistilSession *session, const int32_t *ids, int n)
{
	memcpy(session->window_ids + session->window_used, ids, sizeof(int32_t) * (size_t) n);
	session->window_used += n;
}

/*
 * parse_special is off: front, left text, mask, right text, back, each text tokenised on
 * its own.  The ids go to window_ids, at most max_tokens of them.
 */
static DistilStatus
encode_round_mask(DistilSession *session, const DistilText *text, int32_t mask, const char *token,
				  size_t token_length, DistilError *err)
{
	const DistilTokenizer *tokenizer = session->model->tokenizer;
	DistilEncodeOptions options = distil_tokenizer_defaults(tokenizer);
	DistilEncoding *encoding = &session->encoding;
	const char *at = find_token(text->data, text->length, token, token_length);
	DistilText	left = *text;
	DistilText	right;
	int32_t		back[64];
	int			front;
	int			nback;
	int			room;

	if (at == NULL)
		return fail_masks(0, token, token_length, err);
	left.length = (size_t) (at - text->data);
	right.data = at + token_length;
	right.length = text->length - left.length - token_length;
	if (find_token(right.data, right.length, token, token_length) != NULL)
		return fail_masks(2, token, token_length, err);
	DISTIL_FORWARD(template_front(session, &front, err));
	nback = distil_tokenizer_special(tokenizer)->added_single - front;
	if (nback < 0 || nback > 64 || nback > encoding->n)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "the tokenizer's template is not supported in fill-mask");
	memcpy(back, encoding->ids + encoding->n - nback, sizeof(int32_t) * (size_t) nback);
	session->window_used = 0;
	window_append(session, encoding->ids, front);
	options.add_special = false;
	options.parse_special = false;
	options.truncation = DISTIL_TRUNCATE_LONGEST_FIRST;
	options.max_tokens = session->max_tokens;
	DISTIL_FORWARD(distil_tokenizer_encode(tokenizer, encoding, &left, NULL, &options, &session->poll, err));
	room = session->max_tokens - front - nback;
	if (encoding->n + 1 > room)
		return fail_masks(0, token, token_length, err);
	window_append(session, encoding->ids, encoding->n);
	window_append(session, &mask, 1);
	room -= encoding->n + 1;
	DISTIL_FORWARD(distil_tokenizer_encode(tokenizer, encoding, &right, NULL, &options, &session->poll, err));
	if (encoding->n > room)
		session->stats.truncated++;
	window_append(session, encoding->ids, encoding->n < room ? encoding->n : room);
	window_append(session, back, nback);
	session->stats.texts++;
	return DISTIL_OK;
}

/* Tokens of the text into window_ids; *at is the place of its one mask. */
static DistilStatus
encode_masked(DistilSession *session, const DistilText *text, int *at, DistilError *err)
{
	const char *token = NULL;
	size_t		length = 0;
	int32_t		mask;
	int			found = 0;
	int			i;

	DISTIL_FORWARD(mask_token(session, &mask, &token, &length, err));
	if (distil_tokenizer_defaults(session->model->tokenizer).parse_special)
	{
		DISTIL_FORWARD(distil_session_encode(session, text, NULL, -1, err));
		session->window_used = 0;
		window_append(session, session->encoding.ids, session->encoding.n);
	}
	else
		DISTIL_FORWARD(encode_round_mask(session, text, mask, token, length, err));
	DISTIL_FORWARD(distil_session_check_ids(session, session->window_ids, NULL, session->window_used, err));
	for (i = 0; i < session->window_used; i++)
		if (session->window_ids[i] == mask)
		{
			*at = i;
			found++;
		}
	return found == 1 ? DISTIL_OK : fail_masks(found, token, length, err);
}

typedef struct Candidate
{
	int32_t		id;
	float		logit;
} Candidate;

/* Is a the worse one?  Of equal logits the higher id is. */
static bool
worse(const Candidate *a, const Candidate *b)
{
	return a->logit != b->logit ? a->logit < b->logit : a->id > b->id;
}

static int
compare_candidates(const void *a, const void *b)
{
	return worse(a, b) ? 1 : -1;
}

/* Let heap[at] sink: heap[0] is the worst of those kept. */
static void
sink(Candidate *heap, int n, int at)
{
	for (;;)
	{
		int			child = 2 * at + 1;
		Candidate	swap;

		if (child >= n)
			return;
		if (child + 1 < n && worse(&heap[child + 1], &heap[child]))
			child++;
		if (!worse(&heap[child], &heap[at]))
			return;
		swap = heap[at];
		heap[at] = heap[child];
		heap[child] = swap;
		at = child;
	}
}

/* The k largest of logits [v], best first. */
static void
choose_best(Candidate *best, int k, const float *logits, int v)
{
	int			i;

	for (i = 0; i < k; i++)
	{
		best[i].id = i;
		best[i].logit = logits[i];
	}
	for (i = k / 2 - 1; i >= 0; i--)
		sink(best, k, i);
	for (i = k; i < v; i++)
		if (logits[i] > best[0].logit)
		{
			best[0].id = i;
			best[0].logit = logits[i];
			sink(best, k, 0);
		}
	qsort(best, (size_t) k, sizeof(Candidate), compare_candidates);
}

/* Append the text of ids (terminated) to the strings; trim: without blanks at its ends. */
static DistilStatus
append_decoded(DistilSession *session, DistilBuffer *strings, const int32_t *ids, int n, bool skip_special,
			   bool trim, DistilError *err)
{
	char	   *text;
	size_t		length;
	size_t		start = 0;
	bool		ok;

	DISTIL_FORWARD(distil_tokenizer_decode(session->model->tokenizer, &text, &length, ids, n, skip_special,
										   session->alloc, err));
	while (trim && start < length && text[start] == ' ')
		start++;
	while (trim && length > start && text[length - 1] == ' ')
		length--;
	ok = distil_buffer_append(strings, text + start, length - start) && distil_buffer_append(strings, "", 1);
	distil_release(session->alloc, text);
	return ok ? DISTIL_OK : distil_fail_memory(err, length);
}

/* The array and its strings in one allocation, from the candidates in order. */
static DistilStatus
build_fills(DistilSession *session, DistilFill **fills, const Candidate *best, int k, int at,
			DistilBuffer *strings,
			DistilError *err)
{
	int			v = session->model->spec.config.vocabulary;
	double		largest = best[0].logit;
	double		sum = 0;
	DistilFill *out;
	char	   *string;
	int			i;

	for (i = 0; i < v; i++)
		sum += exp(session->lm.host[i] - largest);
	for (i = 0; i < k; i++)
	{
		DISTIL_POLL(&session->poll, err);
		session->window_ids[at] = best[i].id;
		DISTIL_FORWARD(append_decoded(session, strings, &best[i].id, 1, false, true, err));
		DISTIL_FORWARD(append_decoded(session, strings, session->window_ids, session->window_used, true,
									  false, err));
	}
	out = distil_alloc_array(session->alloc, sizeof(DistilFill) * (size_t) k + strings->length, 1);
	if (out == NULL)
		return distil_fail_memory(err, sizeof(DistilFill) * (size_t) k + strings->length);
	string = (char *) (out + k);
	memcpy(string, strings->data, strings->length);
	for (i = 0; i < k; i++)
	{
		out[i].id = best[i].id;
		out[i].score = (float) (exp(best[i].logit - largest) / sum);
		out[i].token = string;
		string += strlen(string) + 1;
		out[i].sequence = string;
		string += strlen(string) + 1;
	}
	*fills = out;
	return DISTIL_OK;
}

/*
 * *fills [*nfills]: the top_k candidates for the one mask of the text, best first, in one
 * allocation of the session's allocator that the caller releases.
 */
DistilStatus
distil_session_fill_mask(DistilSession *session, DistilFill **fills, int *nfills,
						 const DistilText *text, int top_k, DistilError *err)
{
	int			v = session->model->spec.config.vocabulary;
	DistilBuffer strings;
	Candidate  *best;
	DistilStatus status;
	const float *hidden;
	int			at = 0;

	*fills = NULL;
	*nfills = 0;
	DISTIL_FORWARD(distil_session_lm_prepare(session, false, err));
	if (top_k < 1 || top_k > v)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "top_k must be between 1 and %d", v);
	DISTIL_FORWARD(encode_masked(session, text, &at, err));
	/* types of a single text are all zero, as the staging's are */
	DISTIL_FORWARD(distil_session_single(session, session->window_ids, session->types, session->window_used,
										 &hidden, err));
	DISTIL_FORWARD(compute_logits(session, hidden, at, 1, err));
	DISTIL_FORWARD(fetch_row(session, 0, err));
	best = distil_alloc_array(session->alloc, (size_t) top_k, sizeof(Candidate));
	if (best == NULL)
		return distil_fail_memory(err, (size_t) top_k * sizeof(Candidate));
	choose_best(best, top_k, session->lm.host, v);
	distil_buffer_init(&strings, session->alloc);
	status = build_fills(session, fills, best, top_k, at, &strings, err);
	distil_buffer_free(&strings);
	distil_release(session->alloc, best);
	if (status == DISTIL_OK)
		*nfills = top_k;
	return status;
}
