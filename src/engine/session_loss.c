/*
 * session_loss.c
 *		The training loss of one labelled example, as the model's class computes it with labels.
 *
 * The rule a newcomer would break: a tag belongs to the first piece of its word, the
 * word's other pieces count for nothing.
 */
#include "session.h"

#include "head.h"

#include <math.h>
#include <string.h>

typedef struct Example
{
	DistilSession *session;
	const DistilJsonDoc *doc;
	const DistilJson *root;
	DistilError *err;
} Example;

static DistilStatus
fail_member(const Example *e, const char *key, const char *what)
{
	return distil_fail(e->err, DISTIL_ERR_ARGUMENT, "member \"%s\" of the example must be %s", key, what);
}

static DistilStatus
get_text(const Example *e, const char *key, DistilText *text)
{
	const DistilJson *value = distil_json_member(e->root, key);

	if (value == NULL || distil_json_type(value) != DISTIL_JSON_STRING)
		return fail_member(e, key, "a text");
	text->data = distil_json_string(value, &text->length);
	return DISTIL_OK;
}

static DistilStatus
get_array(const Example *e, const char *key, const DistilJson **array)
{
	*array = distil_json_member(e->root, key);
	if (*array == NULL || distil_json_type(*array) != DISTIL_JSON_ARRAY || distil_json_count(*array) == 0)
		return fail_member(e, key, "an array that is not empty");
	return DISTIL_OK;
}

/* An integer in [0, n); what it counts is up to the caller. */
static DistilStatus
get_index(const Example *e, const char *key, int n, int *index)
{
	const DistilJson *value = distil_json_member(e->root, key);

	if (value == NULL || distil_json_type(value) != DISTIL_JSON_INTEGER)
		return fail_member(e, key, "a whole number");
	if (distil_json_integer(value) < 0 || distil_json_integer(value) >= n)
		return distil_fail(e->err, DISTIL_ERR_ARGUMENT,
						   "member \"%s\" of the example must be between 0 and %d",
						   key, n - 1);
	*index = (int) distil_json_integer(value);
	return DISTIL_OK;
}

/* A label of the model by name or number. */
static DistilStatus
label_of(const Example *e, const DistilJson *value, int *label)
{
	const DistilConfig *config = &e->session->model->spec.config;
	int			k = e->session->model->spec.head.outputs;
	char		shown[80];

	if (value != NULL && distil_json_type(value) == DISTIL_JSON_INTEGER && distil_json_integer(value) >= 0 &&
		distil_json_integer(value) < k)
	{
		*label = (int) distil_json_integer(value);
		return DISTIL_OK;
	}
	if (value == NULL || distil_json_type(value) != DISTIL_JSON_STRING)
		return distil_fail(e->err, DISTIL_ERR_ARGUMENT,
						   "a label of the example must be the name of one or a number from 0 to %d", k - 1);
	for (int i = 0; i < k; i++)
		if (strcmp(config->labels[i], distil_json_string(value, NULL)) == 0)
		{
			*label = i;
			return DISTIL_OK;
		}
	return distil_fail(e->err, DISTIL_ERR_UNKNOWN, "the model has no label \"%s\"",
					   distil_printable(shown, sizeof(shown), distil_json_string(value, NULL),
										strlen(distil_json_string(value, NULL))));
}

/* Encode and run the head on a text (and pair); at least one token. */
static DistilStatus
run(const Example *e, const DistilText *text, const DistilText *pair, int *rows)
{
	DistilSession *session = e->session;
	DistilStatus status;

	session->want_offsets = true;
	status = distil_session_encode(session, text, pair, -1, e->err);
	session->want_offsets = false;
	DISTIL_FORWARD(status);
	if (session->encoding.n == 0)
		return distil_session_fail_empty(e->err);
	return distil_session_head_run(session, session->encoding.ids, session->encoding.types,
								   session->encoding.n, rows, e->err);
}

/* ---------- language models ---------- */

typedef struct TokenLosses
{
	const int32_t *labels;		/* of row t */
	double		sum;
	int			count;
} TokenLosses;

/* A DistilRowFn */
static DistilStatus
add_loss(void *ctx, int t, const float *logits, int v, DistilError *err)
{
	TokenLosses *losses = ctx;

	(void) err;
	losses->sum += distil_cross_entropy(NULL, logits, 1, v, losses->labels[t], 1.0);
	losses->count++;
	return DISTIL_OK;
}

/* Mean of -log softmax over the tokens with a label; shift 1: of the token before it. */
static DistilStatus
token_losses(const Example *e, const int32_t *labels, int n, int shift, double *loss)
{
	DistilSession *session = e->session;
	TokenLosses losses = {.labels = labels + shift};
	const float *hidden;
	int			end;

	DISTIL_FORWARD(distil_session_single(session, session->encoding.ids, session->encoding.types, n, &hidden,
										 e->err));
	for (int t = 0; t < n - shift; t = end + 1)
	{
		/* labelled tokens in a row */
		for (end = t; end < n - shift && losses.labels[end] != DISTIL_NO_LABEL;)
			end++;
		DISTIL_FORWARD(distil_session_lm_rows(session, hidden, t, end - t, add_loss, &losses, e->err));
	}
	if (losses.count == 0)
		return distil_fail(e->err, DISTIL_ERR_ARGUMENT, "the example has no token to predict");
	*loss = losses.sum / losses.count;
	return DISTIL_OK;
}

static DistilStatus
masked_loss(const Example *e, double *loss)
{
	DistilSession *session = e->session;
	int32_t		mask = distil_tokenizer_special(session->model->tokenizer)->mask;
	DistilText	text;
	DistilText	target;
	DistilStatus status;
	int32_t    *labels;
	bool		only;
	int			n;

	DISTIL_FORWARD(get_text(e, "text", &text));
	DISTIL_FORWARD(get_text(e, "target", &target));
	DISTIL_FORWARD(distil_json_get_bool(e->doc, e->root, "masked_only", false, &only, e->err));
	DISTIL_FORWARD(distil_session_encode(session, &target, NULL, -1, e->err));
	n = session->encoding.n;
	labels = distil_alloc_array(session->alloc, (size_t) n + 1, sizeof(int32_t));
	if (labels == NULL)
		return distil_fail_memory(e->err, (size_t) n * sizeof(int32_t));
	memcpy(labels, session->encoding.ids, sizeof(int32_t) * (size_t) n);
	status = distil_session_encode(session, &text, NULL, -1, e->err);
	if (status == DISTIL_OK && session->encoding.n != n)
	{
		distil_fail(e->err, DISTIL_ERR_ARGUMENT,
					"\"text\" and \"target\" must have the same number of tokens");
		status = distil_fail_detail(e->err, DISTIL_ERR_ARGUMENT, "They have %d and %d.", session->encoding.n,
									n);
	}
	for (int i = 0; status == DISTIL_OK && only && i < n; i++)
		if (session->encoding.ids[i] != mask)
			labels[i] = DISTIL_NO_LABEL;
	if (status == DISTIL_OK)
		status = token_losses(e, labels, n, 0, loss);
	distil_release(session->alloc, labels);
	return status;
}

static DistilStatus
causal_loss(const Example *e, double *loss)
{
	DistilText	text;

	DISTIL_FORWARD(get_text(e, "text", &text));
	DISTIL_FORWARD(distil_session_encode(e->session, &text, NULL, -1, e->err));
	if (e->session->encoding.n < 2)
		return distil_fail(e->err, DISTIL_ERR_ARGUMENT, "the example has no token to predict");
	return token_losses(e, e->session->encoding.ids, e->session->encoding.n, 1, loss);
}

/* ---------- task heads ---------- */

/* Values of a regression or flags of a multi-label head: numbers, or names of the labels that hold. */
static DistilStatus
get_values(const Example *e, const DistilJson *value, float *values, int k, bool names)
{
	size_t		n = value != NULL && distil_json_type(value) == DISTIL_JSON_ARRAY ? distil_json_count(value)
		: 0;

	for (size_t i = 0; i < n; i++)
	{
		const DistilJson *item = distil_json_item(value, i);
		int			label;

		if (names && distil_json_type(item) == DISTIL_JSON_STRING)
		{
			DISTIL_FORWARD(label_of(e, item, &label));
			values[label] = 1;
			continue;
		}
		if (n != (size_t) k || (distil_json_type(item) != DISTIL_JSON_REAL &&
								distil_json_type(item) != DISTIL_JSON_INTEGER))
			return fail_member(e, "label", "an array with a number for each label");
		values[i] = (float) distil_json_number(item);
	}
	if (value != NULL && !names && k == 1 && (distil_json_type(value) == DISTIL_JSON_REAL ||
											  distil_json_type(value) == DISTIL_JSON_INTEGER))
		values[0] = (float) distil_json_number(value);
	else if (value == NULL || distil_json_type(value) != DISTIL_JSON_ARRAY || (!names && n == 0))
		return fail_member(e, "label", names ? "an array of labels" : "a number");
	return DISTIL_OK;
}

static DistilStatus
sequence_loss(const Example *e, double *loss)
{
	DistilSession *session = e->session;
	const DistilSpec *spec = &session->model->spec;
	const DistilJson *value = distil_json_member(e->root, "label");
	const DistilJson *second = distil_json_member(e->root, "pair");
	bool		paired = second != NULL && distil_json_type(second) != DISTIL_JSON_NULL;
	DistilProblem problem = distil_head_problem(spec);
	DistilText	text;
	DistilText	pair;
	float	   *values = NULL;
	DistilStatus status = DISTIL_OK;
	int32_t		label32 = 0;
	int			label = 0;
	int			rows;

	DISTIL_FORWARD(get_text(e, "text", &text));
	if (paired)
		DISTIL_FORWARD(get_text(e, "pair", &pair));
	if (problem == DISTIL_PROBLEM_SINGLE_LABEL)
		DISTIL_FORWARD(label_of(e, value, &label));
	else
	{
		values = distil_alloc_array(session->alloc, (size_t) spec->head.outputs, sizeof(float));
		if (values == NULL)
			return distil_fail_memory(e->err, (size_t) spec->head.outputs * sizeof(float));
		status = get_values(e, value, values, spec->head.outputs, problem == DISTIL_PROBLEM_MULTI_LABEL);
	}
	if (status == DISTIL_OK)
		status = run(e, &text, paired ? &pair : NULL, &rows);
	label32 = label;
	if (status == DISTIL_OK)
		*loss = distil_loss_sequence(NULL, session->head.host, problem, &label32, values, 1,
									 spec->head.outputs);
	distil_release(session->alloc, values);
	return status;
}

/*
 * Words joined by blanks; bytes and code points of each word's begin and end are found again by
 * label_words.
 */
static DistilStatus
join_words(const Example *e, const DistilJson *words, DistilBuffer *text)
{
	for (size_t i = 0; i < distil_json_count(words); i++)
	{
		const DistilJson *word = distil_json_item(words, i);
		const char *data;
		size_t		length;

		if (distil_json_type(word) != DISTIL_JSON_STRING)
			return fail_member(e, "words", "an array of texts");
		data = distil_json_string(word, &length);
		if ((i > 0 && !distil_buffer_append(text, " ", 1)) || !distil_buffer_append(text, data, length))
			return distil_fail_memory(e->err, length);
	}
	return DISTIL_OK;
}

static int
code_points(const char *text, size_t length)
{
	int			n = 0;

	for (size_t i = 0; i < length; i++)
		n += ((unsigned char) text[i] & 0xC0) != 0x80;
	return n;
}

/* labels [tokens]: each word's tag at its first token. */
static DistilStatus
label_words(const Example *e, const DistilJson *words, const DistilJson *tags, int32_t *labels)
{
	const DistilEncoding *encoding = &e->session->encoding;
	int			start = 0;
	int			token = 0;

	for (int i = 0; i < encoding->n; i++)
		labels[i] = DISTIL_NO_LABEL;
	for (size_t i = 0; i < distil_json_count(words); i++)
	{
		size_t		length;
		const char *data = distil_json_string(distil_json_item(words, i), &length);
		int			end = start + code_points(data, length);
		int			label;

		DISTIL_FORWARD(label_of(e, distil_json_item(tags, i), &label));
		while (token < encoding->n && (encoding->special[token] || encoding->ends[token] <= start))
			token++;
		if (token < encoding->n && encoding->starts[token] < end)
			labels[token] = label;
		start = end + 1;
	}
	return DISTIL_OK;
}

static DistilStatus
tagged_loss(const Example *e, DistilBuffer *joined, int32_t **labels, double *loss)
{
	DistilSession *session = e->session;
	const DistilJson *words;
	const DistilJson *tags;
	DistilText	text;
	int			rows;

	DISTIL_FORWARD(get_array(e, "words", &words));
	DISTIL_FORWARD(get_array(e, "tags", &tags));
	if (distil_json_count(words) != distil_json_count(tags))
		return distil_fail(e->err, DISTIL_ERR_ARGUMENT, "\"words\" and \"tags\" must have the same length");
	DISTIL_FORWARD(join_words(e, words, joined));
	text.data = joined->data != NULL ? joined->data : "";
	text.length = joined->length;
	DISTIL_FORWARD(run(e, &text, NULL, &rows));
	*labels = distil_alloc_array(session->alloc, (size_t) rows, sizeof(int32_t));
	if (*labels == NULL)
		return distil_fail_memory(e->err, (size_t) rows * sizeof(int32_t));
	DISTIL_FORWARD(label_words(e, words, tags, *labels));
	*loss = distil_loss_labels(NULL, session->head.host, *labels, rows, session->model->spec.head.outputs);
	return DISTIL_OK;
}

static DistilStatus
token_loss(const Example *e, double *loss)
{
	DistilBuffer joined;
	int32_t    *labels = NULL;
	DistilStatus status;

	distil_buffer_init(&joined, e->session->alloc);
	status = tagged_loss(e, &joined, &labels, loss);
	distil_buffer_free(&joined);
	distil_release(e->session->alloc, labels);
	return status;
}

/* Tokens of the answer's first and last character in a pair that was encoded whole. */
static DistilStatus
find_answer(const Example *e, const DistilText *context, int nquestion, int *start, int *end)
{
	const DistilEncoding *encoding = &e->session->encoding;
	DistilText	answer;
	int			from;
	int			to;
	int			seen = 0;
	size_t		at = 0;

	DISTIL_FORWARD(get_text(e, "answer", &answer));
	while (answer.length > 0 && at + answer.length <= context->length &&
		   memcmp(context->data + at, answer.data, answer.length) != 0)
		at++;
	if (answer.length == 0 || at + answer.length > context->length)
		return distil_fail(e->err, DISTIL_ERR_ARGUMENT, "the answer is not in the context");
	from = code_points(context->data, at);
	to = from + code_points(answer.data, answer.length);
	*start = *end = -1;
	for (int i = 0; i < encoding->n; i++)
	{
		if (encoding->special[i] || seen++ < nquestion)
			continue;
		if (encoding->ends[i] > from && *start < 0)
			*start = i;
		if (encoding->starts[i] < to)
			*end = i;
	}
	return *start >= 0 && *end >= *start ? DISTIL_OK
		: distil_fail(e->err, DISTIL_ERR_ARGUMENT, "the answer has no token");
}

static DistilStatus
question_loss(const Example *e, double *loss)
{
	DistilSession *session = e->session;
	DistilEncodeOptions options = distil_tokenizer_defaults(session->model->tokenizer);
	DistilText	question;
	DistilText	context;
	int			nquestion;
	int			rows;
	int			start;
	int			end;

	DISTIL_FORWARD(get_text(e, "question", &question));
	DISTIL_FORWARD(get_text(e, "context", &context));
	options.add_special = false;
	DISTIL_FORWARD(distil_tokenizer_encode(session->model->tokenizer, &session->encoding, &question, NULL,
										   &options, &session->poll, e->err));
	nquestion = session->encoding.n;
	DISTIL_FORWARD(run(e, &question, &context, &rows));
	if (distil_json_member(e->root, "answer") != NULL)
	{
		if (session->encoding.truncated)
			return distil_fail(e->err, DISTIL_ERR_LIMIT,
							   "question and context are longer than the model's limit");
		DISTIL_FORWARD(find_answer(e, &context, nquestion, &start, &end));
	}
	else
	{
		DISTIL_FORWARD(get_index(e, "start", rows, &start));
		DISTIL_FORWARD(get_index(e, "end", rows, &end));
	}
	*loss = distil_loss_question(NULL, session->head.host, rows, start, end);
	return DISTIL_OK;
}

static DistilStatus
choice_loss(const Example *e, double *loss)
{
	DistilSession *session = e->session;
	const DistilJson *choices;
	DistilText	prompt;
	DistilStatus status = DISTIL_OK;
	float	   *scores;
	int			label;
	int			n;

	DISTIL_FORWARD(get_text(e, "prompt", &prompt));
	DISTIL_FORWARD(get_array(e, "choices", &choices));
	n = distil_json_count(choices) > 65536 ? 65536 : (int) distil_json_count(choices);
	DISTIL_FORWARD(get_index(e, "label", n, &label));
	scores = distil_alloc_array(session->alloc, (size_t) n, sizeof(float));
	if (scores == NULL)
		return distil_fail_memory(e->err, (size_t) n * sizeof(float));
	for (int i = 0; status == DISTIL_OK && i < n; i++)
	{
		const DistilJson *choice = distil_json_item(choices, (size_t) i);
		DistilText	text;
		int			rows;

		if (distil_json_type(choice) != DISTIL_JSON_STRING)
			status = fail_member(e, "choices", "an array of texts");
		if (status != DISTIL_OK)
			break;
		text.data = distil_json_string(choice, &text.length);
		status = run(e, &prompt, &text, &rows);
		if (status == DISTIL_OK)
			scores[i] = session->head.host[0];
	}
	if (status == DISTIL_OK)
		*loss = distil_loss_choice(NULL, scores, n, label);
	distil_release(session->alloc, scores);
	return status;
}

static DistilStatus
example_loss(const Example *e, double *loss)
{
	static DistilStatus (*const losses[DISTIL_HEAD_KINDS]) (const Example *, double *) = {
		[DISTIL_HEAD_SEQUENCE] = sequence_loss,
		[DISTIL_HEAD_TOKEN] = token_loss,
		[DISTIL_HEAD_QUESTION] = question_loss,
		[DISTIL_HEAD_CHOICE] = choice_loss
	};
	const DistilSpec *spec = &e->session->model->spec;

	if (distil_json_type(e->root) != DISTIL_JSON_OBJECT)
		return distil_fail(e->err, DISTIL_ERR_ARGUMENT, "the example must be a JSON object");
	if (spec->head.head != NULL)
		return losses[spec->head.head->kind] (e, loss);
	DISTIL_FORWARD(distil_session_lm_prepare(e->session, spec->config.causal, e->err));
	return spec->config.causal ? causal_loss(e, loss) : masked_loss(e, loss);
}

DistilStatus
distil_session_loss(DistilSession *session, double *loss, const char *json, size_t length, DistilError *err)
{
	Example		e = {.session = session,.err = err};
	DistilJsonDoc *doc;
	DistilStatus status;

	status = distil_json_parse_value(&doc, json, length, "the example", session->alloc, err);
	if (status != DISTIL_OK)
		return status == DISTIL_ERR_TEXT_FILE ? DISTIL_ERR_ARGUMENT : status;
	e.doc = doc;
	e.root = distil_json_root(doc);
	status = example_loss(&e, loss);
	distil_json_free(doc);
	return status == DISTIL_ERR_TEXT_FILE ? DISTIL_ERR_ARGUMENT : status;
}
