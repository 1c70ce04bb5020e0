/*
 * batch_plan.h
 *		Putting DistilBatch nodes into finished plans.
 *
 * batch_callee.c knows which functions can be batched, batch_split.c cuts one target
 * list in two, batch_plan.c walks plans and hooks into the planner, batch_node.c executes.
 */
#ifndef DISTIL_BATCH_PLAN_H
#define DISTIL_BATCH_PLAN_H

#include "postgres.h"
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

/* Whether an entry of the target list calls a batchable function for each of its rows. */
extern bool distil_batch_has_call(List *targetlist);

/*
 * Cut the target list of plan: plan keeps the arguments and everything else that is
 * computed below, the returned node (plan is its outer child) has the calls and plan's old output.
 */
extern CustomScan *distil_batch_split(Plan *plan, int plan_node_id);

/* The same for calls in arguments of the aggregates of agg. */
extern bool distil_batch_has_aggregate_call(Agg *agg);

/*
 * Put a node below agg, above its child, that computes these calls.  Left row by row are calls
 * whose arguments the child does not have and, unless can_extend, cannot project; NULL, and
 * nothing changed, when that is all of them.
 */
extern CustomScan *distil_batch_split_aggregate(Agg *agg, int plan_node_id, bool can_extend);

extern const CustomScanMethods distil_batch_methods;

/* Planner and executor hooks; called by distil_batch_node_init(). */
extern void distil_batch_plan_init(void);

#endif							/* DISTIL_BATCH_PLAN_H */
