/*
 * batch_call.h
 *		The table of functions that DistilBatch can run over many rows at once.
 *
 * A batchable SQL function is one C function over n rows; its scalar SQL form calls the
 * same code with n = 1.  Adding one: a row in the table of batch_call.c.
 */
#ifndef DISTIL_BATCH_CALL_H
#define DISTIL_BATCH_CALL_H

#include "postgres.h"
#include "fmgr.h"

#define DISTIL_BATCH_MAX_ARGS 4

/* Arguments column-wise; results and null flags are filled, results in the current context. */
typedef struct DistilBatchArgs
{
	int			nrows;
	int			nargs;
	Datum	   *values[DISTIL_BATCH_MAX_ARGS];	/* [nrows] each */
	bool	   *nulls[DISTIL_BATCH_MAX_ARGS];
	Datum	   *results;
	bool	   *result_nulls;
} DistilBatchArgs;

typedef struct DistilBatchFunction
{
	const char *prosrc;			/* C symbol of the SQL function */
	void		(*run) (DistilBatchArgs *args);
	int			model_arg;		/* names the model or head; not given or NULL: the default model */
	bool		is_head;		/* model_arg names a head */
} DistilBatchFunction;

/* NULL when the C symbol is not batchable. */
extern const DistilBatchFunction *distil_batch_function(const char *prosrc);

/*
 * The scalar SQL form: one row through the same run function.  Calls whose arguments are
 * constant in the statement run it once.
 */
extern Datum distil_batch_scalar(FunctionCallInfo fcinfo, const char *prosrc);

/* Work of all sessions of this backend so far, for EXPLAIN; batches are forward passes. */
typedef struct DistilBatchTotals
{
	int64		tokens;
	int64		batches;
	double		tokenizer_seconds;
	double		model_seconds;
} DistilBatchTotals;
extern void distil_batch_totals(DistilBatchTotals *totals);

/* Installs planner and executor hooks and the custom scan methods; called once by _PG_init. */
extern void distil_batch_node_init(void);

#endif							/* DISTIL_BATCH_CALL_H */
