/*
 * session_entities.c
 *		Named entities, as the token-classification pipeline of transformers groups them.
 *
 * first, average and max decide per word; a word's later pieces are known by the piece
 * prefix of WordPiece, and elsewhere by the blank that is not there.  The rule a newcomer
 * would break: "O" takes part in grouping and is left out only at the end.
 */
#include "session.h"

#include "tokenizer_parts.h"

#include <math.h>
#include <string.h>

typedef struct Entity
{
	const double *scores;		/* [K] of its first token */
	int			label;
	double		score;
	int			start, end;		/* code points */
	bool		subword;
} Entity;

typedef struct Entities
{
	DistilSession *session;
	const DistilText *text;
	size_t	   *bytes;			/* [code points + 1] where each begins */
	int			npoints;
	double	   *scores;			/* [tokens, K] */
	Entity	   *items;			/* tokens, then words */
	int			n;
	int			k;
} Entities;

DistilStatus
distil_aggregation_parse(DistilAggregation *aggregation, const char *name, DistilError *err)
{
	static const char *const names[] = {"none", "simple", "first", "average", "max"};
	char		shown[80];

	for (int i = 0; i < 5; i++)
		if (strcmp(name, names[i]) == 0)
		{
			*aggregation = (DistilAggregation) i;
			return DISTIL_OK;
		}
	distil_fail(err, DISTIL_ERR_ARGUMENT, "unknown aggregation \"%s\"",
				distil_printable(shown, sizeof(shown), name, strlen(name)));
	return distil_fail_hint(err, DISTIL_ERR_ARGUMENT, "Known: none, simple, first, average, max.");
}

/* Where each code point of the (valid) text begins. */
static DistilStatus
find_points(Entities *e, DistilError *err)
{
	e->bytes = distil_alloc_array(e->session->alloc, e->text->length + 1, sizeof(size_t));
	if (e->bytes == NULL)
		return distil_fail_memory(err, (e->text->length + 1) * sizeof(size_t));
	for (size_t i = 0; i < e->text->length; i++)
		if (((unsigned char) e->text->data[i] & 0xC0) != 0x80)
			e->bytes[e->npoints++] = i;
	e->bytes[e->npoints] = e->text->length;
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

static bool
is_subword(const Entities *e, int32_t id, int start, int end)
{
	const DistilTokenizer *tokenizer = e->session->model->tokenizer;
	size_t		length;
	const char *token = distil_tokenizer_token(tokenizer, id, &length);

	if (id == distil_tokenizer_special(tokenizer)->unk || token == NULL)
		return false;
	if (strcmp(tokenizer->model_part->type, "WordPiece") == 0)
		return code_points(token, length) != end - start;
	if (start == 0)
		return false;
	return e->text->data[e->bytes[start - 1]] != ' ' &&
		!(start < e->npoints && e->text->data[e->bytes[start]] == ' ');
}

static int
largest(const double *scores, int k)
{
	int			best = 0;

	for (int i = 1; i < k; i++)
		if (scores[i] > scores[best])
			best = i;
	return best;
}

/* One entity for each token that the template did not add. */
static DistilStatus
make_tokens(Entities *e, DistilError *err)
{
	const DistilEncoding *encoding = &e->session->encoding;

	e->scores = distil_alloc_array(e->session->alloc, (size_t) encoding->n * (size_t) e->k, sizeof(double));
	e->items = distil_alloc_array(e->session->alloc, (size_t) encoding->n, sizeof(Entity));
	if (e->scores == NULL || e->items == NULL)
		return distil_fail_memory(err, (size_t) encoding->n * (size_t) e->k * sizeof(double));
	for (int i = 0; i < encoding->n; i++)
	{
		Entity	   *item = &e->items[e->n];
		double	   *scores = e->scores + (size_t) i * (size_t) e->k;

		if (encoding->special[i])
			continue;
		if (encoding->starts[i] < 0 || encoding->ends[i] < encoding->starts[i] ||
			encoding->ends[i] > e->npoints)
			return distil_fail(err, DISTIL_ERR_CORRUPT, "the tokenizer gives offsets outside of the text");
		distil_softmax(scores, e->session->head.host + (size_t) i * (size_t) e->k, e->k, 1);
		item->scores = scores;
		item->label = largest(scores, e->k);
		item->score = scores[item->label];
		item->start = encoding->starts[i];
		item->end = encoding->ends[i];
		item->subword = is_subword(e, encoding->ids[i], item->start, item->end);
		e->n++;
	}
	return DISTIL_OK;
}

/* Label and score of a word of n tokens, into the first of them. */
static void
decide_word(Entities *e, Entity *word, int n, DistilAggregation aggregation)
{
	double	   *mean = (double *) word->scores;	/* nobody reads the token's own any more */
	int			best = 0;

	word->end = word[n - 1].end;
	if (aggregation == DISTIL_AGGREGATE_MAX)
	{
		for (int i = 1; i < n; i++)
			if (word[i].score > word[best].score)
				best = i;
		word->label = word[best].label;
		word->score = word[best].score;
	}
	else if (aggregation == DISTIL_AGGREGATE_AVERAGE)
	{
		for (int j = 0; j < e->k; j++)
		{
			for (int i = 1; i < n; i++)
				mean[j] += word[i].scores[j];
			mean[j] /= n;
		}
		word->label = largest(mean, e->k);
		word->score = mean[word->label];
	}
}

static void
make_words(Entities *e, DistilAggregation aggregation)
{
	int			words = 0;
	int			n;

	for (int i = 0; i < e->n; i += n)
	{
		for (n = 1; i + n < e->n && e->items[i + n].subword;)
			n++;
		decide_word(e, &e->items[i], n, aggregation);
		e->items[words++] = e->items[i];
	}
	e->n = words;
}

/* "LOC" of "B-LOC" and "I-LOC"; *begins: it is a "B-". */
static const char *
tag_of(const char *label, bool *begins)
{
	*begins = strncmp(label, "B-", 2) == 0;
	return *begins || strncmp(label, "I-", 2) == 0 ? label + 2 : label;
}

/* What a group is called: all behind the label's first hyphen. */
static const char *
group_name(const char *label)
{
	const char *hyphen = strchr(label, '-');

	return hyphen != NULL ? hyphen + 1 : label;
}

static DistilSpan
make_span(const Entities *e, const char *label, double score, int start, int end)
{
	DistilSpan	span = {label, (float) score, start, end, e->bytes[start],
	e->bytes[end]};

	return span;
}

/* Entities into spans, grouped or one by one. */
static int
make_spans(const Entities *e, DistilSpan *spans, bool grouped)
{
	const char *const *labels = e->session->model->spec.config.labels;
	int			nspans = 0;
	int			n;

	for (int i = 0; i < e->n; i += n)
	{
		const char *label = labels[e->items[i].label];
		const char *last = label;
		double		sum = e->items[i].score;
		bool		begins;

		for (n = 1; grouped && i + n < e->n; n++)
		{
			const char *next = labels[e->items[i + n].label];
			bool		unused;
			const char *last_tag = tag_of(last, &unused);

			if (strcmp(tag_of(next, &begins), last_tag) != 0 || begins)
				break;
			sum += e->items[i + n].score;
			last = next;
		}
		if (grouped)
			label = group_name(label);
		if (strcmp(label, "O") != 0)
			spans[nspans++] = make_span(e, label, sum / n, e->items[i].start, e->items[i + n - 1].end);
	}
	return nspans;
}

static DistilStatus
find_entities(Entities *e, DistilSpan **spans, int *nspans, DistilAggregation aggregation, DistilError *err)
{
	DistilSession *session = e->session;
	DistilStatus status;
	int			rows;

	session->want_offsets = true;
	status = distil_session_encode(session, e->text, NULL, -1, err);
	session->want_offsets = false;
	DISTIL_FORWARD(status);
	if (session->encoding.n == 0)
		return DISTIL_OK;
	DISTIL_FORWARD(distil_session_head_run(session, session->encoding.ids, session->encoding.types,
										   session->encoding.n, &rows, err));
	DISTIL_FORWARD(find_points(e, err));
	DISTIL_FORWARD(make_tokens(e, err));
	if (aggregation >= DISTIL_AGGREGATE_FIRST)
		make_words(e, aggregation);
	*spans = distil_alloc_array(session->alloc, (size_t) e->n + 1, sizeof(DistilSpan));
	if (*spans == NULL)
		return distil_fail_memory(err, (size_t) e->n * sizeof(DistilSpan));
	*nspans = make_spans(e, *spans, aggregation != DISTIL_AGGREGATE_NONE);
	return DISTIL_OK;
}

DistilStatus
distil_session_entities(DistilSession *session, DistilSpan **spans, int *nspans, const DistilText *text,
						DistilAggregation aggregation, DistilError *err)
{
	Entities	e = {.session = session,.text = text,.k = session->model->spec.head.outputs};
	DistilStatus status;

	*spans = NULL;
	*nspans = 0;
	DISTIL_FORWARD(distil_session_require(session, DISTIL_HEAD_TOKEN, err));
	status = find_entities(&e, spans, nspans, aggregation, err);
	distil_release(session->alloc, e.bytes);
	distil_release(session->alloc, e.scores);
	distil_release(session->alloc, e.items);
	return status;
}
