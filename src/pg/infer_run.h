/*
 * infer_run.h
 *		Helpers of functions that run a model over rows: grouping by model, truncation.
 */
#ifndef DISTIL_INFER_RUN_H
#define DISTIL_INFER_RUN_H

#include "batch_call.h"
#include "model_cache.h"

/*
 * Rows [first, end) of a batch that share the optional text arguments `model` and `prompt`
 * (argument numbers, -1: the function has none).  Returns `end`.  *model_name, *prompt_name:
 * palloc'd, NULL when not given.
 */
extern int	distil_run_group(const DistilBatchArgs *args, int first, int model, int prompt,
							 char **model_name, char **prompt_name);

/* Argument given and not NULL in this row. */
static inline bool
distil_run_has(const DistilBatchArgs *args, int arg, int row)
{
	return arg >= 0 && arg < args->nargs && !args->nulls[arg][row];
}

/* distil_bridge_check_model with the name of an open model. */
extern void distil_run_check(DistilStatus status, DistilError *err, const DistilOpenModel *open);

/* Texts cut so far; pass the figure to distil_run_truncated after the work. */
extern int64 distil_run_truncations(const DistilOpenModel *open);
/*
 * Warns (once per statement and process) or throws 54000 when texts
 * were cut since, as distil.truncation says.
 */
extern void distil_run_truncated(const DistilOpenModel *open, int64 before);

/* The model for the next function: as the device that computes embeddings now wants it. */
extern DistilOpenModel *distil_run_embedder(const char *name);

/* Embeddings of n texts [n, D'], palloc'd, and whether each has any; query: as encode_query. */
extern float *distil_run_embeddings(bool **has, DistilOpenModel *open, const DistilText *texts, int n,
									const char *prompt, bool query);

/*
 * Texts of rows [first, end) of a batch in which none of the first nargs arguments is NULL: argument
 * arg as texts, palloc'd; rows [*n] says where each is from.  Marks the result of the others NULL.
 */
typedef struct DistilRunTexts
{
	int			n;
	int		   *rows;
	DistilText *texts;
	DistilText *pairs;			/* NULL unless asked for */
	bool	   *has;			/* [n] for the engine to fill */
} DistilRunTexts;
extern void distil_run_texts(DistilRunTexts *texts, DistilBatchArgs *args, int first, int end, int nargs,
							 int arg, int pair);
extern void distil_run_texts_free(DistilRunTexts *texts);

/* Where the engine puts rows of texts: real[] of the one row, or with matrix real[][] of all. */
typedef struct DistilRunSink
{
	DistilTextRows rows;		/* for the engine */
	DistilBatchArgs *args;
	const DistilRunTexts *texts;
	bool		matrix;
} DistilRunSink;
extern void distil_run_sink(DistilRunSink *sink, DistilBatchArgs *args, const DistilRunTexts *texts,
							bool matrix);
/* Empty arrays for texts that have no token. */
extern void distil_run_sink_finish(DistilRunSink *sink);

#endif							/* DISTIL_INFER_RUN_H */
