/*
 * batch_plan.h
 *		Putting DistilBatch nodes into finished plans.
 *
 * batch_callee.c knows which functions can be batched, batch_split.c and batch_input.c cut
 * expressions in two, batch_ahead.c says what may be read ahead, batch_plan.c walks plans,
 * batch_hooks.c hooks into planner and executor, batch_node.c executes, batch_send.c sends rows to clients.
 */
#ifndef DISTIL_BATCH_PLAN_H
#define DISTIL_BATCH_PLAN_H

#include "postgres.h"
#include "executor/execdesc.h"
#include "nodes/extensible.h"

#include "batch_call.h"

/* What must be known of a batchable SQL function. */
typedef struct DistilBatchCallee
{
	Oid			funcid;			/* hash key */
	const DistilBatchFunction *function;	/* NULL: not batchable (remembered) */
	bool		strict;			/* a NULL argument gives NULL without a run */
	bool		is_volatile;	/* equal calls are not one call */
} DistilBatchCallee;

/*
 * A batchable function of this library, or NULL.  Filled by value: the cache behind it
 * may be emptied by any catalog access.
 */
extern bool distil_batch_callee(Oid funcid, DistilBatchCallee *callee);

/* The planner support function of these, InvalidOid before one was seen. */
extern Oid	distil_batch_support(void);

/* Whether an entry of the target list calls a batchable function for each of its rows. */
extern bool distil_batch_has_call(List *targetlist);

/*
 * Cut the target list of plan: plan keeps its columns and the arguments of calls; the returned
 * node (plan is its outer child) has the calls and plan's old output.  NULL: it would need more
 * columns than a row can have; plan is to be restored.
 */
extern CustomScan *distil_batch_split(Plan *plan, int plan_node_id);

/* Number of the first condition with a call, in the order of their evaluation; -1: none. */
extern int	distil_batch_condition(Plan *plan);
/*
 * The same for this condition, which the node evaluates; those after it and the old output go
 * above with it, so that nothing sees a row before the condition let it pass.
 */
extern CustomScan *distil_batch_split_condition(Plan *plan, int clause, int plan_node_id);

/* The same for RETURNING; NULL, and nothing changed, also when partitions differ too much. */
extern CustomScan *distil_batch_split_returning(ModifyTable *modify, int plan_node_id);

/* What a node that is put below another may do. */
typedef struct DistilBatchBelow
{
	bool		can_extend;		/* its child can compute further columns */
	bool		harmless;		/* arguments must not be able to fail */
	/*
	 * The reader may read a row of which it does not compute the calls.  It then makes a call itself where it
	 * finds NULL, and while the node says so (batch_node.c) nothing is computed below.
	 */
	bool		late;
} DistilBatchBelow;

/* Calls in arguments of aggregates of an Agg or WindowAgg, made for each row of its input. */
extern bool distil_batch_has_input_call(Plan *plan);
/*
 * Put a node below plan, above its child, that computes these calls.  Left row by row are calls
 * whose arguments the child does not have and cannot project; NULL, and nothing changed, when that is all of
 * them.
 */
extern CustomScan *distil_batch_split_input(Plan *plan, int plan_node_id, const DistilBatchBelow *below);

/* The same for calls in actions of a MERGE that are done for all rows of their kind. */
extern bool distil_batch_has_merge_call(ModifyTable *modify);
extern CustomScan *distil_batch_split_merge(ModifyTable *modify, int plan_node_id,
											const DistilBatchBelow *below);

/* The same for calls in the keys of a HashJoin (plan: of its outer side) or of the Hash below it. */
extern bool distil_batch_has_key_call(Plan *plan);
extern CustomScan *distil_batch_split_keys(HashJoin *join, Plan *plan, int plan_node_id,
										   const DistilBatchBelow *below);

/* Columns of VALUES that are calls on constants, all of one function. */
extern bool distil_batch_has_values_call(const ValuesScan *scan);
/* Have the arguments as columns instead, and the calls in the target list and conditions. */
extern void distil_batch_expand_values(ValuesScan *scan, List *rtable);

/* Whether nobody can tell that rows of plan were read which are then not asked for. */
extern bool distil_batch_reads_ahead(Plan *plan);
/* Whether nobody can tell that plan was run at all, when no row of it is asked for. */
extern bool distil_batch_runs_unasked(Plan *plan);
/* The same for an expression that is evaluated for such rows. */
extern bool distil_batch_evaluates_ahead(Node *node);

/* What a DistilBatch knows of its place; integers in its custom_private. */
typedef enum DistilBatchPrivate
{
	DISTIL_BATCH_ROWS,			/* INT_MAX: all; 0: unknown */
	DISTIL_BATCH_AT_LEAST,		/* 0: exactly so many, if they exist; 1: or more */
	DISTIL_BATCH_PARTIAL,		/* 1: rows that are read ahead may not be asked for */
	DISTIL_BATCH_AHEAD,			/* 1: nobody could tell */
	DISTIL_BATCH_WHOLE,			/* 1: all are read, however few the executor is asked for */
	DISTIL_BATCH_LATE			/* DistilBatchLate */
} DistilBatchPrivate;

/* Rows whose calls the reader may not compute: see DistilBatchBelow. */
typedef enum DistilBatchLate
{
	DISTIL_LATE_NEVER,
	DISTIL_LATE_LAST,			/* one that is read to know where a group of rows ends */
	DISTIL_LATE_FIRST,			/* the first, which is read to know whether there is one */
	DISTIL_LATE_KEPT			/* all, where few rows may be asked for: the reader keeps the results */
} DistilBatchLate;

extern const CustomScanMethods distil_batch_methods;

/* What batch_plan.c did with a statement. */
typedef struct DistilBatchRewrite
{
	bool		look_only;		/* change nothing, stop at the first place with a call */
	bool		partial;		/* not all rows of the main plan may be asked for */
	bool		updatable;		/* WHERE CURRENT OF may ask for the table of its last row */
	bool		found;
	int			next_node_id;
	PlannedStmt *statement;
} DistilBatchRewrite;

/* Rewrite main plan and subplans. */
extern void distil_batch_rewrite(PlannedStmt *statement, DistilBatchRewrite *rewrite);

/*
 * While the executor is asked for a number of rows, as by a portal, SPI or an SQL function, nodes that
 * are not DISTIL_BATCH_AHEAD take one row at a time.  Gives what was set before.
 */
extern bool distil_batch_set_counted(bool counted);

/* Planner and executor hooks; called by distil_batch_node_init(). */
extern void distil_batch_hooks_init(void);

/* batch_send.c: a receiver round the client's for the rows of a started statement; NULL: the client's. */
extern DestReceiver *distil_batch_receiver(QueryDesc *query);

#endif							/* DISTIL_BATCH_PLAN_H */
