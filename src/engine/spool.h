/*
 * spool.h
 *		The spool file: the corpus tokenised once.
 *
 * Layout (little endian, as the machine; a spool never leaves it):
 *		header	64 bytes: magic, version, method, vocabulary, max_tokens, skip
 *		ids		int32, all sequences one after the other, special tokens and prompts included
 *		padding	to 8 bytes
 *		starts	uint64 [sequences + 1], in ids
 *		counts	int64 [vocabulary], how often each id occurs in all texts that were added (method
 *				triple: before they are cut and the short ones dropped)
 *		footer	128 bytes: numbers of the above, fingerprint, finish marker
 * Without its footer a spool is unfinished and is refused.  The reader trusts nothing:
 * every id, start and count is checked once, when it is opened.
 */
#ifndef DISTIL_SPOOL_H
#define DISTIL_SPOOL_H

#include "distil_engine.h"

/* Sequences of this many tokens or fewer are not used by method triple. */
#define DISTIL_SPOOL_SHORT 11
/* Sequences with this share of unknown tokens or more are not used by method triple. */
#define DISTIL_SPOOL_UNKNOWN 0.5

typedef struct DistilSpoolHeader
{
	char		magic[8];
	uint32_t	version;
	uint32_t	method;
	uint32_t	vocabulary;
	uint32_t	max_tokens;
	uint32_t	skip;			/* tokens of the prompt, which are not pooled */
	uint8_t		reserved[36];
} DistilSpoolHeader;

typedef struct DistilSpoolFooter
{
	int64_t		texts;
	int64_t		sequences;
	int64_t		tokens;
	uint64_t	starts_offset;	/* bytes from the beginning of the file */
	uint64_t	counts_offset;
	uint8_t		fingerprint[32];	/* of everything before the footer and of its fields above */
	uint8_t		reserved[48];
	char		magic[8];
} DistilSpoolFooter;

/* A checked view over a finished spool in memory; everything is borrowed from it. */
typedef struct DistilSpoolView
{
	DistilSpoolInfo info;
	const int32_t *ids;
	const uint64_t *starts;		/* [sequences + 1] */
	const int64_t *counts;		/* [vocabulary] */
	int			longest;		/* tokens of the longest sequence */
	int			skip;			/* leading tokens of each sequence (its prompt) that are not pooled */
} DistilSpoolView;

/* Whether texts can be tokenised for this method. */
extern DistilStatus distil_spool_check(const DistilModel *teacher, const DistilTrainOptions *options,
									   DistilError *err);

/* `spool` must be 8-byte aligned. */
extern DistilStatus distil_spool_view(DistilSpoolView *view, const void *spool, size_t size,
									  DistilMethod method, int vocabulary, int max_tokens,
									  const DistilPoll *poll, DistilError *err);

/*
 * Cut one tokenised text, its special tokens included, into the sequences method triple learns
 * from, strictly as the DistilBERT scripts: cut what is longer than max_len into pieces of max_len - 2 (the
 * special tokens in front and at the end included), give each its first and last token, drop
 * pieces of 11 tokens or fewer, drop pieces of which half or more is unknown.
 * Calls take(ctx, ids, n) for each; scratch has room for max_len ids.
 */
typedef struct DistilSpoolEnds
{
	int32_t		first;			/* [CLS]; of a causal model its begin token */
	int32_t		last;			/* [SEP]; its end token */
	int32_t		unk;
} DistilSpoolEnds;
typedef DistilStatus (*DistilSequenceFn) (void *ctx, const int32_t *ids, int n, DistilError *err);
extern DistilStatus distil_spool_split(const int32_t *ids, int n, int max_len,
									   const DistilSpoolEnds *ends,
									   int32_t *scratch, DistilSequenceFn take, void *ctx, DistilError *err);

#endif							/* DISTIL_SPOOL_H */
