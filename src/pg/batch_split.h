/*
 * batch_split.h
 *		Cutting expressions in two, for the files that put DistilBatch into plans.
 *
 * A DistilSplit collects what lies below the cut: columns of the child and calls.  The
 * expressions above are made by distil_split_upper(); their columns of calls are numbered
 * last, by distil_split_number_calls(), when all columns of the child are known.
 */
#ifndef DISTIL_BATCH_SPLIT_H
#define DISTIL_BATCH_SPLIT_H

#include "postgres.h"
#include "nodes/extensible.h"

#include "batch_plan.h"

typedef struct DistilSplit
{
	List	   *child;			/* of TargetEntry: target list of the child */
	List	   *calls;			/* of FuncExpr, arguments OUTER_VAR or constant */
	bool		is_input;		/* child begins with columns that are read by number above */
	DistilBatchBelow below;		/* then */
	Expr	   *guard;			/* then: calls are made only for rows where this holds; NULL: for all */
} DistilSplit;

/* Whether an expression has a call that is made whenever the expression is evaluated. */
extern bool distil_split_has_call(Node *node);

/*
 * The expression to evaluate above.  With take its calls are added to the split; without, only
 * calls that are in it already are read from their columns.
 */
extern Node *distil_split_upper(DistilSplit *split, Node *node, bool take);
/* The same for each entry of a target list. */
extern List *distil_split_upper_list(DistilSplit *split, List *targetlist, bool take);

/* Columns of calls as columns of varno that follow `before` others. */
extern Node *distil_split_number_calls(Node *node, int varno, int before);

/* Whether a row has room for the columns of the split and so many more. */
extern bool distil_split_fits(const DistilSplit *split, int more);

extern Var *distil_split_column(int varno, int attno, Node *node);

/* The node above plan that has this target list. */
extern CustomScan *distil_split_node(Plan *plan, const DistilSplit *split, List *targetlist,
									 int plan_node_id);

#endif							/* DISTIL_BATCH_SPLIT_H */
