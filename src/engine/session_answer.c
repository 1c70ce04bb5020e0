/*
 * session_answer.c
 *		Extractive answers: the best spans of a context, by overlapping windows.
 *
 * A window is question and a part of the context, at most 384 tokens; two windows share
 * 128.  A span has at most 30 tokens; its score is the product of the softmax of its
 * begin and of its end over the window's context tokens and its CLS token.  The rule a
 * newcomer would break: CLS takes probability but is never an answer.
 */
#include "session.h"

#include "head.h"

#include <math.h>
#include <string.h>

#define WINDOW_TOKENS 384
#define WINDOW_OVERLAP 128
#define QUESTION_TOKENS 64
#define ANSWER_TOKENS 30
#define MAX_ANSWERS 10000
#define BLOCK_POINTS 256		/* code points from one known byte offset to the next */

/* A pair of texts as the template lays it out, with the context left open. */
typedef struct Frame
{
	int32_t    *ids;			/* [n] question and special tokens */
	int32_t    *types;
	int			n;
	int			at;				/* where the context's tokens go */
} Frame;

typedef struct Search
{
	DistilSession *session;
	const DistilText *context;
	DistilSpan *best;			/* [top_k] best first */
	int			nbest;
	int			top_k;
	Frame		frame;
	int32_t    *ids;			/* context tokens */
	int32_t    *starts, *ends;
	int			n;
	int32_t    *window_ids, *window_types;
	double	   *p;				/* [2 * window] begin and end */
	float	   *masked;			/* [window] */
} Search;

/* Keep a span if it is among the best; one found twice keeps the larger score. */
static void
offer(Search *s, float score, int32_t start, int32_t end)
{
	int			at = s->nbest;

	if (s->nbest == s->top_k && !(score > s->best[s->nbest - 1].score))
		return;
	for (int i = 0; i < s->nbest; i++)
		if (s->best[i].start_pos == start && s->best[i].end_pos == end)
		{
			if (!(score > s->best[i].score))
				return;
			memmove(&s->best[i], &s->best[i + 1], sizeof(DistilSpan) * (size_t) (s->nbest - i - 1));
			s->nbest--;
			break;
		}
	if (s->nbest == s->top_k)
		s->nbest--;
	for (at = s->nbest; at > 0 && s->best[at - 1].score < score; at--)
		s->best[at] = s->best[at - 1];
	s->best[at] = (DistilSpan) {NULL, score, start, end, 0, 0};
	s->nbest++;
}

/* Copy of n integers, NULL without memory. */
static int32_t *
copy_ints(const DistilSession *session, const int32_t *from, int n)
{
	int32_t    *to = distil_alloc_array(session->alloc, (size_t) n + 1, sizeof(int32_t));

	if (to != NULL && n > 0)
		memcpy(to, from, sizeof(int32_t) * (size_t) n);
	return to;
}

static DistilStatus
encode(DistilSession *session, const DistilText *text, const DistilText *pair, bool special, bool offsets,
	   int max_tokens, DistilError *err)
{
	DistilEncodeOptions options = distil_tokenizer_defaults(session->model->tokenizer);

	options.add_special = special;
	options.offsets = offsets;
	options.max_tokens = max_tokens;
	options.truncation = max_tokens > 0 ? DISTIL_TRUNCATE_ONLY_FIRST : DISTIL_TRUNCATE_NONE;
	return distil_tokenizer_encode(session->model->tokenizer, &session->encoding, text, pair, &options,
								   &session->poll, err);
}

/*
 * Question and template: the tokens of a pair with an empty context.  The context's place is in
 * front of the special tokens that the template puts behind it.
 */
static DistilStatus
make_frame(Search *s, const DistilText *question, DistilError *err)
{
	DistilSession *session = s->session;
	DistilText	empty = {"", 0};
	DistilText	letter = {"a", 1};
	Frame	   *frame = &s->frame;
	int			added = distil_tokenizer_special(session->model->tokenizer)->added_pair;
	int			behind = 0;
	int			front;

	DISTIL_FORWARD(encode(session, question, &empty, true, true, QUESTION_TOKENS + added, err));
	session->stats.truncated += session->encoding.truncated;
	frame->n = session->encoding.n;
	frame->ids = copy_ints(session, session->encoding.ids, frame->n);
	frame->types = copy_ints(session, session->encoding.types, frame->n);
	if (frame->ids == NULL || frame->types == NULL)
		return distil_fail_memory(err, (size_t) frame->n * sizeof(int32_t));
	for (front = frame->n; front > 0 && session->encoding.special[front - 1]; front--)
		;
	DISTIL_FORWARD(encode(session, &empty, &letter, true, false, 0, err));
	while (behind < session->encoding.n && session->encoding.special[session->encoding.n - 1 - behind])
		behind++;
	frame->at = frame->n - behind;
	if (frame->at < front || frame->at > frame->n)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "the tokenizer's template is not supported in question answering");
	return DISTIL_OK;
}

/* The context's tokens, uncut, and the segment that a pair's second text has. */
static DistilStatus
context_tokens(Search *s, int32_t *type, DistilError *err)
{
	DistilSession *session = s->session;
	DistilEncoding *encoding = &session->encoding;
	DistilText	letter = {"a", 1};

	DISTIL_FORWARD(encode(session, &letter, &letter, true, false, 0, err));
	*type = 0;
	for (int i = 0; i < encoding->n; i++)
		if (!encoding->special[i])
			*type = encoding->types[i];
	DISTIL_FORWARD(encode(session, s->context, NULL, false, true, 0, err));
	s->n = encoding->n;
	s->ids = copy_ints(session, encoding->ids, s->n);
	s->starts = copy_ints(session, encoding->starts, s->n);
	s->ends = copy_ints(session, encoding->ends, s->n);
	if (s->ids == NULL || s->starts == NULL || s->ends == NULL)
		return distil_fail_memory(err, 3 * (size_t) s->n * sizeof(int32_t));
	return distil_session_check_ids(session, s->ids, NULL, s->n, err);
}

/* p [t]: softmax of a column of scores over the context's tokens and CLS; 0 elsewhere. */
static void
column_softmax(Search *s, double *p, int column, int t, int length)
{
	int32_t		cls = distil_tokenizer_special(s->session->model->tokenizer)->cls;
	const float *logits = s->session->head.host;

	for (int i = 0; i < t; i++)
	{
		bool		counts = (i >= s->frame.at && i < s->frame.at + length) ||
			(cls >= 0 && s->window_ids[i] == cls);

		s->masked[i] = counts ? logits[2 * i + column] : -INFINITY;
	}
	distil_softmax(p, s->masked, t, 1);
}

/* Context tokens [first, first + length) in the frame. */
static DistilStatus
search_window(Search *s, int first, int length, int32_t type, DistilError *err)
{
	DistilSession *session = s->session;
	const Frame *frame = &s->frame;
	int			t = frame->n + length;
	int			rows;

	DISTIL_POLL(&session->poll, err);
	memcpy(s->window_ids, frame->ids, sizeof(int32_t) * (size_t) frame->at);
	memcpy(s->window_types, frame->types, sizeof(int32_t) * (size_t) frame->at);
	memcpy(s->window_ids + frame->at, s->ids + first, sizeof(int32_t) * (size_t) length);
	for (int i = 0; i < length; i++)
		s->window_types[frame->at + i] = type;
	memcpy(s->window_ids + frame->at + length, frame->ids + frame->at,
		   sizeof(int32_t) * (size_t) (frame->n - frame->at));
	memcpy(s->window_types + frame->at + length, frame->types + frame->at,
		   sizeof(int32_t) * (size_t) (frame->n - frame->at));
	DISTIL_FORWARD(distil_session_check_ids(session, s->window_ids, s->window_types, t, err));
	DISTIL_FORWARD(distil_session_head_run(session, s->window_ids, s->window_types, t, &rows, err));
	column_softmax(s, s->p, 0, t, length);
	column_softmax(s, s->p + t, 1, t, length);
	for (int i = 0; i < length; i++)
		for (int j = i; j < length && j < i + ANSWER_TOKENS; j++)
			offer(s, (float) (s->p[frame->at + i] * s->p[t + frame->at + j]), s->starts[first + i],
				  s->ends[first + j]);
	return DISTIL_OK;
}

static DistilStatus
search(Search *s, const DistilText *question, DistilError *err)
{
	DistilSession *session = s->session;
	int			size = session->max_tokens < WINDOW_TOKENS ? session->max_tokens : WINDOW_TOKENS;
	int			overlap = size / 2 < WINDOW_OVERLAP ? size / 2 : WINDOW_OVERLAP;
	int32_t		type;
	int			room;

	DISTIL_FORWARD(make_frame(s, question, err));
	DISTIL_FORWARD(context_tokens(s, &type, err));
	session->stats.texts++;
	room = size - s->frame.n;
	if (room < 1)
	{
		distil_fail(err, DISTIL_ERR_LIMIT, "the model has no room for the context beside the question");
		distil_fail_detail(err, DISTIL_ERR_LIMIT, "The question has %d tokens, special tokens included; the"
						   " model reads at most %d.", s->frame.n, size);
		return distil_fail_hint(err, DISTIL_ERR_LIMIT, "Shorten the question.");
	}
	if (overlap >= room)
		overlap = room / 2;
	s->window_ids = distil_alloc_array(session->alloc, (size_t) size, sizeof(int32_t));
	s->window_types = distil_alloc_array(session->alloc, (size_t) size, sizeof(int32_t));
	s->p = distil_alloc_array(session->alloc, 2 * (size_t) size, sizeof(double));
	s->masked = distil_alloc_array(session->alloc, (size_t) size, sizeof(float));
	if (s->window_ids == NULL || s->window_types == NULL || s->p == NULL || s->masked == NULL)
		return distil_fail_memory(err, (size_t) size * 4 * sizeof(double));
	for (int first = 0; first < s->n; first += room - overlap)
	{
		int			length = s->n - first < room ? s->n - first : room;

		DISTIL_FORWARD(search_window(s, first, length, type, err));
		if (first + length == s->n)
			break;
	}
	return DISTIL_OK;
}

/* Byte offset of a code point among `points`; the text's length for one behind it. */
static size_t
byte_of(const DistilText *text, const size_t *blocks, size_t points, size_t wanted)
{
	size_t		point = wanted / BLOCK_POINTS * BLOCK_POINTS;
	size_t		i = wanted < points ? blocks[wanted / BLOCK_POINTS] : text->length;

	for (; i < text->length && point < wanted; point++)
		do
			i++;
		while (i < text->length && ((unsigned char) text->data[i] & 0xC0) == 0x80);
	return i;
}

/* Byte offsets of the spans' code points, from those of every BLOCK_POINTS one. */
static DistilStatus
fill_bytes(Search *s, DistilError *err)
{
	const DistilText *text = s->context;
	size_t		nblocks = text->length / BLOCK_POINTS + 1;
	size_t	   *blocks = distil_alloc_array(s->session->alloc, nblocks, sizeof(size_t));
	size_t		point = 0;

	if (blocks == NULL)
		return distil_fail_memory(err, nblocks * sizeof(size_t));
	for (size_t i = 0; i < text->length; i++)
	{
		if (((unsigned char) text->data[i] & 0xC0) == 0x80)
			continue;
		if (point % BLOCK_POINTS == 0)
			blocks[point / BLOCK_POINTS] = i;
		point++;
	}
	for (int k = 0; k < s->nbest; k++)
	{
		DistilSpan *span = &s->best[k];

		span->byte_start = byte_of(text, blocks, point, (size_t) span->start_pos);
		span->byte_end = byte_of(text, blocks, point, (size_t) span->end_pos);
	}
	distil_release(s->session->alloc, blocks);
	return DISTIL_OK;
}

DistilStatus
distil_session_answer(DistilSession *session, DistilSpan **spans, int *nspans, const DistilText *question,
					  const DistilText *context, int top_k, DistilError *err)
{
	Search		s = {.session = session,.context = context,.top_k = top_k};
	DistilStatus status;

	*spans = NULL;
	*nspans = 0;
	DISTIL_FORWARD(distil_session_require(session, DISTIL_HEAD_QUESTION, err));
	if (top_k < 1 || top_k > MAX_ANSWERS)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "top_k must be between 1 and %d", MAX_ANSWERS);
	s.best = distil_alloc_array(session->alloc, (size_t) top_k, sizeof(DistilSpan));
	if (s.best == NULL)
		return distil_fail_memory(err, (size_t) top_k * sizeof(DistilSpan));
	status = search(&s, question, err);
	if (status == DISTIL_OK)
		status = fill_bytes(&s, err);
	if (status == DISTIL_OK)
	{
		*spans = s.best;
		*nspans = s.nbest;
		s.best = NULL;
	}
	distil_release(session->alloc, s.best);
	distil_release(session->alloc, s.frame.ids);
	distil_release(session->alloc, s.frame.types);
	distil_release(session->alloc, s.ids);
	distil_release(session->alloc, s.starts);
	distil_release(session->alloc, s.ends);
	distil_release(session->alloc, s.window_ids);
	distil_release(session->alloc, s.window_types);
	distil_release(session->alloc, s.p);
	distil_release(session->alloc, s.masked);
	return status;
}
