/*
 * head.h
 *		Task heads: out(act(dense(row))) on rows of the last hidden state, and what their scores mean.
 *
 * One table row per kind says how it is called; an architecture's DistilHeadForm says of
 * which tensors it is made.  The language-model head has its own file, head_lm.c.
 */
#ifndef DISTIL_HEAD_H
#define DISTIL_HEAD_H

#include "config.h"

struct DistilHead
{
	DistilHeadKind kind;
	const char *name;			/* "classify" */
	const char *task;			/* "text-classification" */
	const char *class_suffix;	/* "ForSequenceClassification" */
	bool		every_token;	/* scores for each token, otherwise one row per text */
};

/* Which head the class and the tensors (NULL: the class alone) say: facts->head and head_missing. */
struct DistilTensorSet;
extern void distil_head_detect(DistilSpecFacts *facts, const DistilArch *arch, const char *class_name,
							   const struct DistilTensorSet *tensors);
/* Add the parameters of the head of this kind (-1: none) and fill spec->head. */
extern DistilStatus distil_head_params(DistilSpec *spec, int kind, DistilError *err);
extern void distil_head_info(DistilHeadInfo *info, const DistilSpec *spec);
/* One score: does it rank (cross-encoder) or is it a value (regression)? */
extern bool distil_head_ranks(const DistilSpec *spec);
/* The problem type, with transformers' defaults where config.json has none. */
extern DistilProblem distil_head_problem(const DistilSpec *spec);

/* The row of each text that a head with one row per text reads: rows [nseq]; ids on the host. */
extern void distil_head_rows(int32_t *rows, const DistilSpec *spec, const int32_t *ids,
							 const int32_t *offsets, int nseq);

/*
 * logits [n, K] from rows x [n, C].  work [2nC] keeps what backward reads.  backward: dx [n, C]
 * overwritten, scratch [n, C]; gradients += as everywhere.  All of it device memory.
 */
extern DistilStatus distil_head_forward(const DistilSpec *spec, const float *weights, float *logits,
										const float *x, int n, float *work,
										DistilDevice *device, const DistilPoll *poll, DistilError *err);
extern DistilStatus distil_head_backward(const DistilSpec *spec, const float *weights, float *gradients,
										 float *dx, const float *dlogits, const float *x, int n,
										 const float *work, float *scratch,
										 DistilDevice *device, const DistilPoll *poll, DistilError *err);

/*
 * Losses on host memory, as transformers computes them with labels; each returns the loss and,
 * unless dlogits is NULL, writes its gradient.  A label of -100 counts for nothing; without
 * any label the loss is NAN, as there.
 */
#define DISTIL_NO_LABEL (-100)
/* Mean cross-entropy over the labelled of `rows` rows [k]; head_token.c, also of masked and causal LMs. */
extern double distil_loss_labels(float *dlogits, const float *logits, const int32_t *labels, int rows, int k);
/* The largest of n numbers, step apart; -INFINITY of none, and a NaN is passed over. */
extern double distil_largest(const float *x, int n, size_t step);
/* -log softmax(logits [k])[label], numbers of a row ld apart from the next; *gradient += weight * ... */
extern double distil_cross_entropy(float *dlogits, const float *logits, size_t step, int k, int label,
								   double weight);
/* [n, k] by problem: labels [n] for one label of many, values [n, k] for the others; head_sequence.c */
extern double distil_loss_sequence(float *dlogits, const float *logits, DistilProblem problem,
								   const int32_t *labels, const float *values, int n, int k);
/*
 * [t, 2] of one text: the mean of the two cross-entropies; positions beyond the text count for nothing;
 * head_question.c
 */
extern double distil_loss_question(float *dlogits, const float *logits, int t, int start, int end);
/* One score for each of n choices; head_choice.c */
extern double distil_loss_choice(float *dlogits, const float *logits, int n, int label);

#endif							/* DISTIL_HEAD_H */
