/*
 * session_embed.c
 *		Sentence embeddings of many texts.
 *
 * Equal texts (the same bytes) are computed once.  The others are tokenised into a
 * window, sorted by length there, and computed in passes bounded in tokens and texts;
 * results go to their places in input order.
 */
#include "session.h"

#include <stdlib.h>
#include <string.h>

/* Longest first; ties in input order, so that the passes do not depend on the sort. */
static int
compare_window(const void *a, const void *b)
{
	const DistilWindowText *x = a;
	const DistilWindowText *y = b;

	if (x->length != y->length)
		return x->length > y->length ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

/* One pass over `count` texts of the window. */
static DistilStatus
run_pass(DistilSession *session, float *out, const DistilWindowText *texts, int count, int skip,
		 DistilError *err)
{
	size_t		d = (size_t) session->model->spec.info.dimensions;
	DistilBatch batch;
	const float *hidden;
	int			t = 0;
	int			i;

	session->offsets[0] = 0;
	for (i = 0; i < count; i++)
	{
		memcpy(session->ids + t, session->window_ids + texts[i].start,
			   sizeof(int32_t) * (size_t) texts[i].length);
		distil_positions(session->positions + t, session->ids + t, texts[i].length,
						 &session->model->spec.config);
		session->ranges[2 * i] = t + skip;
		t += texts[i].length;
		session->ranges[2 * i + 1] = t;
		session->offsets[i + 1] = t;
	}
	DISTIL_FORWARD(distil_session_forward(session, &batch, count, t, &hidden, err));
	batch.pool_skip = skip;
	DISTIL_FORWARD(distil_pipeline_forward(&session->model->spec, session->weights, session->pooled, hidden,
										   &batch,
										   NULL, session->pipeline, session->device, &session->poll, err));
	DISTIL_FORWARD(distil_session_fetch(session, session->host_pooled, session->pooled,
										sizeof(float) * d * (size_t) count, err));
	for (i = 0; i < count; i++)
		memcpy(out + (size_t) texts[i].index * d, session->host_pooled + (size_t) i * d, sizeof(float) * d);
	return DISTIL_OK;
}

/* Compute all texts of the window and empty it. */
static DistilStatus
flush_window(DistilSession *session, float *out, int skip, DistilError *err)
{
	double		start = distil_session_clock();
	int			first = 0;

	qsort(session->window, (size_t) session->window_count, sizeof(DistilWindowText), compare_window);
	while (first < session->window_count)
	{
		int			tokens = 0;
		int			count = 0;

		while (first + count < session->window_count && count < session->batch_texts &&
			   tokens + session->window[first + count].length <= session->batch_tokens)
			tokens += session->window[first + count++].length;
		DISTIL_FORWARD(run_pass(session, out, session->window + first, count, skip, err));
		first += count;
	}
	session->window_count = 0;
	session->window_used = 0;
	session->stats.model_seconds += distil_session_clock() - start;
	return DISTIL_OK;
}

/* Tokenise a text into the window, making room first. */
static DistilStatus
add_text(DistilSession *session, float *out, bool *has, const DistilText *text, int index, int prompt,
		 int skip,
		 DistilError *err)
{
	DistilWindowText *item;
	int			n;

	DISTIL_POLL(&session->poll, err);
	DISTIL_FORWARD(distil_session_encode(session, text, NULL, prompt, err));
	n = session->encoding.n;
	*has = n > skip;
	if (!*has)
		return DISTIL_OK;
	if (session->window_used + n > session->window_tokens ||
		session->window_count == session->window_capacity)
		DISTIL_FORWARD(flush_window(session, out, skip, err));
	item = &session->window[session->window_count++];
	item->index = index;
	item->start = session->window_used;
	item->length = n;
	memcpy(session->window_ids + item->start, session->encoding.ids, sizeof(int32_t) * (size_t) n);
	session->window_used += n;
	return DISTIL_OK;
}

/* FNV-1a, eight bytes at a time. */
static uint64_t
hash_text(const DistilText *text)
{
	uint64_t	hash = UINT64_C(0xCBF29CE484222325) ^ text->length;
	size_t		i = 0;

	for (; i + 8 <= text->length; i += 8)
	{
		uint64_t	part;

		memcpy(&part, text->data + i, 8);
		hash = (hash ^ part) * UINT64_C(0x100000001B3);
		hash ^= hash >> 29;
	}
	for (; i < text->length; i++)
		hash = (hash ^ (uint8_t) text->data[i]) * UINT64_C(0x100000001B3);
	return hash ^ (hash >> 32);
}

/*
 * Index of the first text equal to texts[i], which is i itself for a new one.
 * table: open addressing over `slots` (a power of two), -1 = empty.
 */
static int
find_equal(int *table, size_t slots, const DistilText *texts, int i)
{
	size_t		slot = (size_t) hash_text(&texts[i]) & (slots - 1);

	while (table[slot] >= 0)
	{
		const DistilText *other = &texts[table[slot]];

		if (other->length == texts[i].length && memcmp(other->data, texts[i].data, other->length) == 0)
			return table[slot];
		slot = (slot + 1) & (slots - 1);
	}
	table[slot] = i;
	return i;
}

/*
 * same [n]: for a new text its own index i, or ~i when it was truncated; for an equal
 * one the index of the first.
 */
static DistilStatus
embed_texts(DistilSession *session, float *out, bool *has, const DistilText *texts, int n, int prompt,
			int *same, int *table, size_t slots, DistilError *err)
{
	size_t		d = (size_t) session->model->spec.info.dimensions;
	int			skip;
	int			i;

	DISTIL_FORWARD(distil_session_prompt_skip(session, prompt, &skip, err));
	session->window_count = 0;
	session->window_used = 0;
	memset(table, -1, slots * sizeof(int));
	for (i = 0; i < n; i++)
	{
		same[i] = find_equal(table, slots, texts, i);
		if (same[i] == i)
		{
			DISTIL_FORWARD(add_text(session, out, &has[i], &texts[i], i, prompt, skip, err));
			if (session->encoding.truncated)
				same[i] = ~i;
		}
	}
	DISTIL_FORWARD(flush_window(session, out, skip, err));
	for (i = 0; i < n; i++)
	{
		int			first = same[i];

		if (i % 1024 == 0)
			DISTIL_POLL(&session->poll, err);
		if (first >= 0 && first != i)
		{
			session->stats.texts++;
			session->stats.truncated += same[first] < 0;
			has[i] = has[first];
			memcpy(out + (size_t) i * d, out + (size_t) first * d, sizeof(float) * d);
		}
		else if (!has[i])
			memset(out + (size_t) i * d, 0, sizeof(float) * d);
	}
	return DISTIL_OK;
}

/*
 * out [n, D'] and has [n] in input order; rows without a token are zero.  prompt: an
 * index of the model's prompts or -1.  A text that is not valid UTF-8 fails the call.
 */
DistilStatus
distil_session_embed(DistilSession *session, float *out, bool *has, const DistilText *texts, int n,
					 int prompt, DistilError *err)
{
	size_t		slots = 16;
	int		   *memory;
	DistilStatus status;

	if (prompt < -1 || prompt >= session->model->spec.pipeline.nprompts)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "the model has no prompt number %d", prompt);
	if (n < 1)
		return DISTIL_OK;
	while (slots < 2 * (size_t) n)
		slots *= 2;
	memory = distil_alloc_array(session->alloc, slots + (size_t) n, sizeof(int));
	if (memory == NULL)
		return distil_fail_memory(err, (slots + (size_t) n) * sizeof(int));
	status = embed_texts(session, out, has, texts, n, prompt, memory + slots, memory, slots, err);
	distil_release(session->alloc, memory);
	return status;
}
