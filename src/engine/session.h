/*
 * session.h
 *		Inside of a session: its memory and the steps that its calls share.
 *
 * The rule a newcomer would break: a session's memory is made when it is created,
 * within memory_limit, and does not grow with the number of texts.  Only the buffers
 * of the masked-LM head and of hidden states are made at their first use, and they
 * are bounded by the model alone.
 */
#ifndef DISTIL_SESSION_H
#define DISTIL_SESSION_H

#include "model.h"
#include "status.h"

#define DISTIL_SESSION_MEMORY ((size_t) 16 << 20)	/* default memory_limit */
/* More tokens in one pass do not make it faster, and fewer sequences keep the output small. */
#define DISTIL_SESSION_TOKENS 1024
/* The same in low precision, at most, see low_tokens(). */
#define DISTIL_SESSION_LOW_TOKENS 512
#define DISTIL_SESSION_TEXTS 128
/* Of a device that takes more work in one call, at most so many times as much. */
#define DISTIL_SESSION_UNITS 16
/* Texts are sorted by length inside windows of this many passes. */
#define DISTIL_SESSION_WINDOW 16
/* Logits rows at a time: as many as fit this, at most so many, at least one. */
#define DISTIL_SESSION_LOGITS_BYTES ((size_t) 2 << 20)
#define DISTIL_SESSION_LOGITS_ROWS 16

/* A text of the window: its tokens are window_ids[start .. start + length). */
typedef struct DistilWindowText
{
	int			index;			/* in the caller's array */
	int			start;
	int			length;
} DistilWindowText;

/* Buffers of the masked-LM head. */
typedef struct DistilSessionLm
{
	int			rows;			/* rows at a time */
	float	   *memory;			/* device; the arrays below lie in it */
	float	   *x, *h, *scratch;	/* [rows, C] */
	float	   *logits;			/* [rows, V] */
	int32_t    *gather;			/* [rows] */
	DistilRows	low;			/* [rows, C] BF16, for a decoder of low precision */
	float	   *host;			/* [V] host */
} DistilSessionLm;

/* Buffers of the task head. */
typedef struct DistilSessionHead
{
	float	   *memory;			/* device: work [2 rows C], x [rows C], logits [rows K], gather [rows] */
	float	   *work, *x, *logits;
	int32_t    *gather;
	float	   *host;			/* [host_rows, K] the scores of the last text */
	int			host_rows;
} DistilSessionHead;

/* Rows of the head at a time. */
#define DISTIL_SESSION_HEAD_ROWS 64

/* A size of small passes, see session_graph.c. */
typedef struct DistilSessionGraph
{
	int			tokens;			/* 0: nothing here yet */
	int			nseq;
	DistilGraph *graph;			/* NULL: it has been seen once, or cannot be repeated */
	bool		unrepeatable;
	int64_t		used;
} DistilSessionGraph;

#define DISTIL_SESSION_GRAPHS 32

struct DistilSession
{
	const DistilModel *model;
	DistilDevice *device;		/* borrowed */
	const DistilAllocator *alloc;
	DistilPoll	poll;
	const float *weights;		/* of the device */
	float	   *uploaded;		/* the device's own copy, NULL where it shares the host's memory */
	uint16_t   *half;			/* the same in bfloat16, where activations are; NULL: float32 */
	DistilSessionStats stats;
	int			max_tokens;		/* of one text */
	int			batch_tokens;	/* of one pass */
	int			batch_texts;
	DistilActivations *activations;
	int			largest_pass;	/* tokens */
	DistilSessionGraph graphs[DISTIL_SESSION_GRAPHS];
	int64_t		graph_uses;

	/* one pass: staged on the host, copied to the device; types are zero for embeddings */
	int32_t    *staging;		/* host block of the arrays below */
	int32_t    *ids, *positions, *types;	/* [batch_tokens] */
	int32_t    *offsets;		/* [batch_texts + 1] */
	int32_t    *ranges;			/* [2 * batch_texts] rows pooled */
	int32_t    *device_staging; /* the same block in device memory */
	float	   *pipeline;		/* device: pipeline scratch, then pooled [batch_texts, D'] */
	float	   *pooled;
	float	   *host_pooled;	/* [batch_texts, D'] */
	DistilKinds kinds;			/* of the pass; its arrays lie in kinds_memory */
	int32_t    *kinds_memory;	/* host; NULL: nothing is computed once for a kind here */

	/* a window of tokenised texts */
	int32_t    *window_ids;
	int32_t    *window_types;	/* made at first use */
	int			window_tokens;	/* capacity */
	int			window_used;
	DistilWindowText *window;
	int			window_capacity;
	int			window_count;

	DistilEncoding encoding;
	DistilBuffer text;			/* prompt + text */
	int			prompt;			/* whose length pool_skip is */
	int			pool_skip;		/* tokens of the prompt that are not pooled */

	float	   *host_hidden;	/* [rows, C], made at first use */
	int			host_hidden_rows;
	DistilSessionLm lm;
	DistilSessionHead head;
	bool		want_offsets;	/* encode with offsets */

	/* who shares batches with this session, see session_share.c; NULL: nobody */
	DistilPool *pool;
	DistilDevice *const *share_devices; /* of the other workers */
	const DistilAllocator *share_alloc;
	DistilSession **helpers;	/* [workers - 1] their sessions, made by them when first needed */
	size_t		memory_limit;

	const DistilRemote *remote; /* computes embeddings instead of this session, NULL: none */
};

/* Results from the device to the host. */
extern DistilStatus distil_session_fetch(DistilSession *session, void *host, const void *device, size_t bytes,
										 DistilError *err);
/* Seconds of a monotonic clock. */
extern double distil_session_clock(void);

/*
 * Tokens of a text (and pair) into session->encoding, special tokens added, cut to the
 * model's limit; prompt: index or -1.  Counts the text in stats.
 */
extern DistilStatus distil_session_encode(DistilSession *session, const DistilText *text,
										  const DistilText *pair,
										  int prompt, DistilError *err);
/* Ids and types (NULL: none) are inside the model's tables. */
extern DistilStatus distil_session_check_ids(const DistilSession *session, const int32_t *ids,
											 const int32_t *types, int n, DistilError *err);
/* How many tokens at the beginning of a text with this prompt are not pooled. */
extern DistilStatus distil_session_prompt_skip(DistilSession *session, int prompt, int *skip,
											   DistilError *err);

/* The language-model head's buffers; DISTIL_ERR_STATE when the model has none or one of the other kind. */
extern DistilStatus distil_session_lm_prepare(DistilSession *session, bool causal, DistilError *err);
/* Logits of row `row` of hidden into lm.host [V]. */
extern DistilStatus distil_session_lm_row(DistilSession *session, const float *hidden, int row,
										  DistilError *err);

/*
 * Calls row(ctx, t, logits [V], V) for rows t in [first, first + n) of hidden; several at a time, so
 * that the decoder is read once for all of them.  An error of row ends the call.
 */
extern DistilStatus distil_session_lm_rows(DistilSession *session, const float *hidden, int first, int n,
										   DistilRowFn row, void *ctx, DistilError *err);

/* DISTIL_ERR_STATE unless the model has this head. */
extern DistilStatus distil_session_require(const DistilSession *session, DistilHeadKind kind,
										   DistilError *err);
/* DISTIL_ERR_ARGUMENT: nothing to run the head on. */
extern DistilStatus distil_session_fail_empty(DistilError *err);
/*
 * The head's scores of a sequence: head.host [*rows, K], one row or one for each token.
 */
extern DistilStatus distil_session_head_run(DistilSession *session, const int32_t *ids, const int32_t *types,
											int n, int *rows, DistilError *err);
/* p [n] = softmax of x [n], x and p may be the same; numbers `step` apart */
extern void distil_softmax(double *p, const float *x, int n, size_t step);

/*
 * Do items 0 .. nitems - 1 of a batch: by this session alone, or by the pool's workers, each
 * with its own session, in any order.  Statistics of all of them are added to this session's.
 */
typedef DistilStatus (*DistilSessionFn) (void *ctx, DistilSession *session, int item, DistilError *err);
extern DistilStatus distil_session_run(DistilSession *session, DistilSessionFn fn, void *ctx, int nitems,
									   DistilError *err);
/* How many workers may share a batch now, this session's thread counted. */
extern int	distil_session_workers(const DistilSession *session);

/* Copy the staged pass of nseq sequences and ntokens tokens to the device; fills *batch. */
extern void distil_session_stage(DistilSession *session, DistilBatch *batch, int nseq, int ntokens);
/* What the kinds of so many tokens take, in int32_t; the same in this session: 0 where they are of no use. */
extern size_t distil_kinds_count(int ntokens);
extern size_t distil_session_kinds_count(const DistilSession *session, int ntokens);
/*
 * The kinds of tokens on the host, in memory [distil_kinds_count]; false: there are so many that one of each
 * is hardly less work than all tokens.
 */
extern bool distil_kinds_find(DistilKinds *kinds, int32_t *memory, const int32_t *ids,
							  const int32_t *positions, const int32_t *types, int ntokens);
/* The same of a staged pass, in the session's memory; NULL: not worth it. */
extern const DistilKinds *distil_session_kinds(DistilSession *session, int nseq, int ntokens);
/* Counts a pass in stats. */
extern void distil_session_count(DistilSession *session, int ntokens);
/* Stage and run the encoder: *hidden [T, C] on the device. */
extern DistilStatus distil_session_forward(DistilSession *session, DistilBatch *batch, int nseq, int ntokens,
										   const float **hidden, DistilError *err);
/* One pass over ids [n] and types [n] as a single sequence. */
extern DistilStatus distil_session_single(DistilSession *session, const int32_t *ids, const int32_t *types,
										  int n,
										  const float **hidden, DistilError *err);

/*
 * n texts (and pairs, NULL: none) in as few passes as they fit.  pass is called for each, with
 * the hidden states of `count` texts on the device and batch->host_offsets; copy for a text that
 * equals an earlier one.  Texts with no more than `skip` tokens are left out: has false.
 */
typedef struct DistilWindowRun DistilWindowRun;
struct DistilWindowRun
{
	const DistilText *texts, *pairs;
	int			n;
	int			prompt;			/* -1: none */
	int			skip;			/* tokens of the prompt that are not pooled */
	bool		typed;			/* with the tokenizer's types, otherwise zero */
	bool		shared;			/* pass may be called by other threads, with their sessions */
	/* what follows the encoder on the device, by the batch's size alone and without copies; NULL: nothing */
	DistilStatus (*compute) (DistilSession *session, const DistilBatch *batch, const float *hidden,
							 DistilError *err);
	/* with compute, hidden is not to be used */
	DistilStatus (*pass) (DistilSession *session, void *ctx, const DistilBatch *batch, const float *hidden,
						  const DistilWindowText *texts, int count, DistilError *err);
	DistilStatus (*copy) (DistilSession *session, void *ctx, int to, int from, DistilError *err);
	/*
	 * the whole window by session->remote, as its texts were added; *done false: not this time.  NULL: never
	 */
	DistilStatus (*remote) (DistilSession *session, const DistilWindowRun *run, bool *done, DistilError *err);
	void	   *ctx;
};
extern DistilStatus distil_session_run_texts(DistilSession *session, const DistilWindowRun *run, bool *has,
											 DistilError *err);
/* Put n tokens (types: NULL unless run->typed) as text `index` into the window, making room first. */
extern DistilStatus distil_session_window_add(DistilSession *session, const DistilWindowRun *run, int index,
											  const int32_t *ids, const int32_t *types, int n,
											  DistilError *err);
/* The encoder and run->compute over a staged pass, as a graph where that is faster; fills *batch. */
extern DistilStatus distil_session_pass(DistilSession *session, const DistilWindowRun *run,
										DistilBatch *batch, int nseq, int ntokens, const float **hidden,
										DistilError *err);
extern void distil_session_graphs_free(DistilSession *session);
/* Compute all texts of the window and empty it. */
extern DistilStatus distil_session_window_flush(DistilSession *session, const DistilWindowRun *run,
												DistilError *err);

#endif							/* DISTIL_SESSION_H */
