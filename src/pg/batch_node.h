/*
 * batch_node.h
 *		Inside of the plan node DistilBatch: its state, and what of it is shown.
 */
#ifndef DISTIL_BATCH_NODE_H
#define DISTIL_BATCH_NODE_H

#include "postgres.h"

#include "access/parallel.h"
#include "commands/explain.h"
#include "nodes/extensible.h"
#include "port/atomics.h"

#include "batch_plan.h"

/* What EXPLAIN ANALYZE shows. */
typedef struct BatchCounts
{
	int64		batches;
	int64		rows;
	int64		tokens;
	double		tokenizer_seconds;
	double		model_seconds;
	int			threads;		/* most of a batch, in this process */
} BatchCounts;

/* The same, summed over workers; times in microseconds. */
typedef struct SharedCounts
{
	pg_atomic_uint64 batches;
	pg_atomic_uint64 rows;
	pg_atomic_uint64 tokens;
	pg_atomic_uint64 tokenizer_us;
	pg_atomic_uint64 model_us;
} SharedCounts;

/* A column of the buffered rows that is an argument. */
typedef struct BatchColumn
{
	AttrNumber	number;			/* of the child's column, from 1; 0: constant */
	ExprState  *constant;
	Oid			type;
	bool		is_varlena;
	Datum	   *values;			/* [rows] in the buffer */
	bool	   *nulls;
} BatchColumn;

typedef struct BatchFunctionCall
{
	DistilBatchCallee callee;
	int			nargs;
	int			args[DISTIL_BATCH_MAX_ARGS];	/* indexes into columns */
	Datum	   *results;		/* [rows] in the buffer */
	bool	   *nulls;
} BatchFunctionCall;

typedef struct DistilBatchState
{
	CustomScanState css;		/* must be first */
	int			nchild;			/* columns of the child */
	int			ncalls;
	BatchFunctionCall *calls;
	int			ncolumns;
	BatchColumn *columns;

	MemoryContext buffer;		/* rows, arguments, results of one refill */
	MinimalTuple *rows;
	ItemPointer places;			/* [rows] in the table that is scanned below, unless table is NULL */
	ScanState  *table;			/* the scan of it */
	int			nrows;
	int			next;			/* row to return next */
	int			target;			/* rows the next refill may take */
	int			wanted;			/* rows the nodes above will ask for, INT_MAX: all, 0: unknown */
	bool		at_least;		/* rows of the child: these and perhaps more */
	bool		partial;		/* rows that are read ahead may not be asked for */
	bool		ahead;			/* nobody could tell */
	bool		whole;			/* all rows are read, however few the executor is asked for */
	DistilBatchLate late;
	int			given;			/* rows buffered so far since the (re)scan, at most INT_MAX */
	int			ceiling;		/* rows any refill may take, lowered when results are large */
	bool		done;			/* the child has no more rows */
	bool		row_wise;		/* a call on the buffered rows failed: each is run when it is due */
	bool		deferring;		/* a node of this kind above reads ahead: an error is not to be thrown yet */
	bool		deferred;		/* there was one: the row after the last one returned has it */
	TupleTableSlot *row_slot;	/* reads one buffered row */

	BatchCounts counts;			/* of this process and of the workers collected so far */
	List	   *models;			/* of char *, what EXPLAIN ANALYZE shows */
	SharedCounts *shared;		/* while the workers may add; in a worker: where to add */
	bool		is_worker;
} DistilBatchState;

/* batch_report.c: counting, shared memory, EXPLAIN */

/* Count a run of calls on nrows; before and after are the totals of this backend round it. */
extern void distil_batch_count(DistilBatchState *state, int nrows, const DistilBatchTotals *before,
							   const DistilBatchTotals *after);
/* Keep for EXPLAIN ANALYZE the names of the models that the calls have run, here or (not here) in workers. */
extern void distil_batch_note_models(DistilBatchState *state, bool here);

extern Size distil_batch_estimate_shared(CustomScanState *node, ParallelContext *context);
extern void distil_batch_initialize_shared(CustomScanState *node, ParallelContext *context, void *coordinate);
extern void distil_batch_initialize_worker(CustomScanState *node, shm_toc *toc, void *coordinate);
extern void distil_batch_shutdown(CustomScanState *node);
extern void distil_batch_explain(CustomScanState *node, List *ancestors, ExplainState *es);

#endif							/* DISTIL_BATCH_NODE_H */
