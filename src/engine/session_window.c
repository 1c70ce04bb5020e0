/*
 * session_window.c
 *		Many texts as passes: what all functions of n texts share.
 *
 * Equal texts (the same bytes, pairs included) are computed once.  The others, longest first,
 * are cut into shares for the workers (session_share.c).  A share is tokenised into a window,
 * sorted by length there, and computed in passes bounded in tokens and texts.  Results go to
 * their places by index: the rule a newcomer would break is that passes come in no order of the
 * input.
 */
#include "session.h"

#include <limits.h>
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
run_pass(DistilSession *session, const DistilWindowRun *run, const DistilWindowText *texts, int count,
		 DistilError *err)
{
	DistilBatch batch;
	DistilStatus status;
	const float *hidden;
	int			t = 0;
	int			i;

	session->offsets[0] = 0;
	for (i = 0; i < count; i++)
	{
		size_t		bytes = sizeof(int32_t) * (size_t) texts[i].length;

		memcpy(session->ids + t, session->window_ids + texts[i].start, bytes);
		if (run->typed)
			memcpy(session->types + t, session->window_types + texts[i].start, bytes);
		distil_positions(session->positions + t, session->ids + t, texts[i].length,
						 &session->model->spec.config);
		session->ranges[2 * i] = t + run->skip;
		t += texts[i].length;
		session->ranges[2 * i + 1] = t;
		session->offsets[i + 1] = t;
	}
	status = distil_session_pass(session, run, &batch, count, t, &hidden, err);
	if (status == DISTIL_OK)
		status = run->pass(session, run->ctx, &batch, hidden, texts, count, err);
	if (run->typed)
		memset(session->types, 0, sizeof(int32_t) * (size_t) t);
	return status;
}

/* By the session's remote, if there is one for this run and it takes them. */
static DistilStatus
flush_remote(DistilSession *session, const DistilWindowRun *run, bool *done, DistilError *err)
{
	*done = false;
	if (run->remote == NULL || session->remote == NULL || session->window_count == 0)
		return DISTIL_OK;
	DISTIL_FORWARD(run->remote(session, run, done, err));
	if (*done)
	{
		session->stats.batches++;
		session->stats.tokens += session->window_used;
	}
	return DISTIL_OK;
}

/* In passes of this session. */
static DistilStatus
flush_passes(DistilSession *session, const DistilWindowRun *run, DistilError *err)
{
	int			first = 0;

	qsort(session->window, (size_t) session->window_count, sizeof(DistilWindowText), compare_window);
	while (first < session->window_count)
	{
		int			tokens = 0;
		int			count = 0;

		while (first + count < session->window_count && count < session->batch_texts &&
			   tokens + session->window[first + count].length <= session->batch_tokens)
			tokens += session->window[first + count++].length;
		DISTIL_FORWARD(run_pass(session, run, session->window + first, count, err));
		first += count;
	}
	return DISTIL_OK;
}

DistilStatus
distil_session_window_flush(DistilSession *session, const DistilWindowRun *run, DistilError *err)
{
	double		start = distil_session_clock();
	bool		done;

	DISTIL_FORWARD(flush_remote(session, run, &done, err));
	if (!done)
		DISTIL_FORWARD(flush_passes(session, run, err));
	session->window_count = 0;
	session->window_used = 0;
	session->stats.model_seconds += distil_session_clock() - start;
	return DISTIL_OK;
}

DistilStatus
distil_session_window_add(DistilSession *session, const DistilWindowRun *run, int index, const int32_t *ids,
						  const int32_t *types, int n, DistilError *err)
{
	DistilWindowText *item;

	if (session->window_used + n > session->window_tokens ||
		session->window_count == session->window_capacity)
		DISTIL_FORWARD(distil_session_window_flush(session, run, err));
	item = &session->window[session->window_count++];
	item->index = index;
	item->start = session->window_used;
	item->length = n;
	memcpy(session->window_ids + item->start, ids, sizeof(int32_t) * (size_t) n);
	if (run->typed)
		memcpy(session->window_types + item->start, types, sizeof(int32_t) * (size_t) n);
	session->window_used += n;
	return DISTIL_OK;
}

/* Tokenise text `index` into the window. */
static DistilStatus
add_text(DistilSession *session, const DistilWindowRun *run, bool *has, int index, DistilError *err)
{
	int			n;

	DISTIL_POLL(&session->poll, err);
	DISTIL_FORWARD(distil_session_encode(session, &run->texts[index], run->pairs ? &run->pairs[index] : NULL,
										 run->prompt, err));
	n = session->encoding.n;
	*has = n > run->skip;
	if (!*has)
		return DISTIL_OK;
	return distil_session_window_add(session, run, index, session->encoding.ids, session->encoding.types, n,
									 err);
}

/* FNV-1a, eight bytes at a time. */
static uint64_t
hash_text(uint64_t hash, const DistilText *text)
{
	size_t		i = 0;

	hash = (hash ^ text->length) * UINT64_C(0x100000001B3);
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

static bool
same_text(const DistilText *texts, int a, int b)
{
	return texts == NULL || (texts[a].length == texts[b].length &&
							 memcmp(texts[a].data, texts[b].data, texts[a].length) == 0);
}

/*
 * Index of the first text equal to text i, which is i itself for a new one.
 * table: open addressing over `slots` (a power of two), -1 = empty.
 */
static int
find_equal(int *table, size_t slots, const DistilWindowRun *run, int i)
{
	uint64_t	hash = hash_text(UINT64_C(0xCBF29CE484222325), &run->texts[i]);
	size_t		slot;

	if (run->pairs != NULL)
		hash = hash_text(hash, &run->pairs[i]);
	slot = (size_t) hash & (slots - 1);
	while (table[slot] >= 0)
	{
		if (same_text(run->texts, table[slot], i) && same_text(run->pairs, table[slot], i))
			return table[slot];
		slot = (slot + 1) & (slots - 1);
	}
	table[slot] = i;
	return i;
}

/* ---------- shares ---------- */

/* A text to be computed, and its part of the work as known before it is tokenised. */
typedef struct FreshText
{
	int			index;
	int			cost;
} FreshText;

/* Of a text, besides its bytes. */
#define TEXT_COST 16
/* A smaller share is not worth a thread's trouble: about a hundred tokens. */
#define LEAST_SHARE 512

/*
 * same [n] for a new text is its own index i, or ~i when it was truncated; for an equal one
 * the index of the first.
 */
typedef struct ShareRun
{
	const DistilWindowRun *run;
	bool	   *has;			/* [n] */
	int		   *same;			/* [n] */
	FreshText  *fresh;			/* [n] the new texts */
	int			nfresh;
	int		   *shares;			/* [n + 1] share i is fresh [shares[i] .. shares[i + 1]) */
	int			nshares;
} ShareRun;

static int
text_cost(const DistilWindowRun *run, int i)
{
	size_t		cost = run->texts[i].length;

	if (run->pairs != NULL)
		cost += run->pairs[i].length;
	return cost < INT_MAX / 2 ? (int) cost + TEXT_COST : INT_MAX / 2;
}

static int
compare_cost(const void *a, const void *b)
{
	const FreshText *x = a;
	const FreshText *y = b;

	if (x->cost != y->cost)
		return x->cost > y->cost ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

/*
 * One share for a session alone.  Otherwise each takes a part of what is left, so that the
 * last ones are small and all workers end at about the same time.
 */
static void
cut_shares(ShareRun *share, int workers)
{
	int64_t		left = 0;
	int			i;

	share->nshares = 0;
	for (i = 0; i < share->nfresh; i++)
		left += share->fresh[i].cost;
	for (i = 0; i < share->nfresh;)
	{
		int64_t		size = workers < 2 ? left : left / (2 * workers);
		int64_t		taken = 0;

		if (size < LEAST_SHARE)
			size = LEAST_SHARE;
		share->shares[share->nshares++] = i;
		while (i < share->nfresh && taken < size)
			taken += share->fresh[i++].cost;
		left -= taken;
	}
	share->shares[share->nshares] = share->nfresh;
}

/* The types of a window's tokens are made at their first use. */
static DistilStatus
prepare_types(DistilSession *session, DistilError *err)
{
	if (session->window_types != NULL)
		return DISTIL_OK;
	session->window_types = distil_alloc_array(session->alloc, (size_t) session->window_tokens,
											   sizeof(int32_t));
	if (session->window_types == NULL)
		return distil_fail_memory(err, (size_t) session->window_tokens * sizeof(int32_t));
	return DISTIL_OK;
}

/* A DistilSessionFn */
static DistilStatus
run_share(void *ctx, DistilSession *session, int item, DistilError *err)
{
	ShareRun   *share = ctx;
	int			i;

	if (share->run->typed)
		DISTIL_FORWARD(prepare_types(session, err));
	session->window_count = 0;
	session->window_used = 0;
	for (i = share->shares[item]; i < share->shares[item + 1]; i++)
	{
		int			index = share->fresh[i].index;

		DISTIL_FORWARD(add_text(session, share->run, &share->has[index], index, err));
		if (session->encoding.truncated)
			share->same[index] = ~index;
	}
	return distil_session_window_flush(session, share->run, err);
}

/* Equal texts get what the first of them has. */
static DistilStatus
copy_equal(DistilSession *session, const ShareRun *share, DistilError *err)
{
	const DistilWindowRun *run = share->run;
	int			i;

	for (i = 0; i < run->n; i++)
	{
		int			first = share->same[i];

		if (i % 1024 == 0)
			DISTIL_POLL(&session->poll, err);
		if (first < 0 || first == i)
			continue;
		session->stats.texts++;
		session->stats.truncated += share->same[first] < 0;
		share->has[i] = share->has[first];
		if (share->has[i])
			DISTIL_FORWARD(run->copy(session, run->ctx, i, first, err));
	}
	return DISTIL_OK;
}

/* table: of find_equal */
static DistilStatus
run_texts(DistilSession *session, ShareRun *share, int *table, size_t slots, DistilError *err)
{
	const DistilWindowRun *run = share->run;
	int			workers = run->shared ? distil_session_workers(session) : 1;
	int			i;

	memset(table, -1, slots * sizeof(int));
	for (i = 0; i < run->n; i++)
	{
		if (i % 1024 == 0)
			DISTIL_POLL(&session->poll, err);
		share->same[i] = find_equal(table, slots, run, i);
		if (share->same[i] != i)
			continue;
		share->fresh[share->nfresh].index = i;
		share->fresh[share->nfresh++].cost = text_cost(run, i);
	}
	qsort(share->fresh, (size_t) share->nfresh, sizeof(FreshText), compare_cost);
	cut_shares(share, workers);
	DISTIL_FORWARD(distil_session_run(session, run_share, share, share->nshares, err));
	return copy_equal(session, share, err);
}

DistilStatus
distil_session_run_texts(DistilSession *session, const DistilWindowRun *run, bool *has, DistilError *err)
{
	ShareRun	share = {.run = run, .has = has};
	size_t		slots = 16;
	size_t		count;
	int		   *memory;
	DistilStatus status;

	if (run->n < 1)
		return DISTIL_OK;
	while (slots < 2 * (size_t) run->n)
		slots *= 2;
	count = slots + 4 * (size_t) run->n + 1;	/* fresh has two of them for each text */
	memory = distil_alloc_array(session->alloc, count, sizeof(int));
	if (memory == NULL)
		return distil_fail_memory(err, count * sizeof(int));
	share.fresh = (FreshText *) (memory + slots);
	share.same = memory + slots + 2 * (size_t) run->n;
	share.shares = share.same + run->n;
	status = run_texts(session, &share, memory, slots, err);
	distil_release(session->alloc, memory);
	return status;
}
