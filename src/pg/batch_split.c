/*
 * batch_split.c
 *		Cuts a finished target list in two: what the child computes, and what is
 *		computed above a batch of its rows.
 *
 *			distil_embed(title || body)::float8[], id
 *
 *		becomes in the child (title || body), id; the calls read child columns as
 *		OUTER_VAR; the new target list reads children and calls as INDEX_VAR.
 *
 * Calls in the arguments of an aggregate are cut off likewise, but upward of the child: the
 * new node lies between the child and the Agg and adds a column per call.
 *
 * A call is taken only from where the executor would evaluate it for each row.  In CASE,
 * COALESCE, AND, OR and everything else that is not in passes_through() it stays a part of an
 * expression of the child, evaluated there row by row and only when needed.  All that
 * has no call goes to the child as a whole, so that it is evaluated as often as before.
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"

#include "batch_plan.h"

typedef struct Split
{
	List	   *child;			/* of TargetEntry: new target list of the child */
	List	   *calls;			/* of FuncExpr, arguments OUTER_VAR or constant */
	bool		is_aggregate;	/* below an Agg: child begins with the columns that are there */
	bool		can_extend;		/* columns may be added to these */
} Split;

/* Number of a call while the number of child columns is not known yet. */
#define CALL_VARNO ROWID_VAR

static bool has_call_walker(Node *node, void *context);

/* Nodes that make a value differ from row to row (parameters change only with a rescan). */
static bool
varies_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Var:
		case T_Aggref:
		case T_GroupingFunc:
		case T_WindowFunc:
		case T_SubPlan:
		case T_AlternativeSubPlan:
			return true;
		default:
			return expression_tree_walker(node, varies_walker, context);
	}
}

/* A batchable call whose arguments differ from row to row. */
static bool
is_call(Node *node, DistilBatchCallee *callee)
{
	FuncExpr   *call = (FuncExpr *) node;

	return IsA(node, FuncExpr) && !call->funcretset && list_length(call->args) <= DISTIL_BATCH_MAX_ARGS &&
		distil_batch_callee(call->funcid, callee) &&
		(varies_walker((Node *) call->args, NULL) || contain_volatile_functions((Node *) call->args));
}

/* Nodes that evaluate all their arguments whenever they are evaluated themselves. */
static bool
passes_through(Node *node)
{
	switch (nodeTag(node))
	{
		case T_List:
		case T_OpExpr:
		case T_DistinctExpr:
		case T_ScalarArrayOpExpr:
		case T_ArrayExpr:
		case T_RowExpr:
		case T_MinMaxExpr:
		case T_FieldSelect:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_ConvertRowtypeExpr:
		case T_CoerceToDomain:
		case T_NullTest:
		case T_BooleanTest:
			return true;
		case T_FuncExpr:
			return !((FuncExpr *) node)->funcretset;
		default:
			return false;
	}
}

static bool
has_call(Node *node)
{
	DistilBatchCallee callee;

	if (node == NULL)
		return false;
	if (is_call(node, &callee))
		return true;
	switch (nodeTag(node))
	{
			/* The expression for one element is no place for a column. */
		case T_ArrayCoerceExpr:
			return has_call((Node *) ((ArrayCoerceExpr *) node)->arg);
			/* Subscripts are skipped when the array is NULL. */
		case T_SubscriptingRef:
			return ((SubscriptingRef *) node)->refassgnexpr == NULL &&
				has_call((Node *) ((SubscriptingRef *) node)->refexpr);
		default:
			return passes_through(node) && expression_tree_walker(node, has_call_walker, NULL);
	}
}

static bool
has_call_walker(Node *node, void *context)
{
	return has_call(node);
}

bool
distil_batch_has_call(List *targetlist)
{
	ListCell   *cell;

	foreach(cell, targetlist)
	{
		if (has_call((Node *) lfirst_node(TargetEntry, cell)->expr))
			return true;
	}
	return false;
}

static Var *
make_column(int varno, int attno, Node *node)
{
	return makeVar(varno, attno, exprType(node), exprTypmod(node), exprCollation(node), 0);
}

/* Number of the child column that computes node; equal ones are shared unless they are volatile. */
static int
child_column(Split *split, Node *node)
{
	bool		shared = !contain_volatile_functions(node);
	ListCell   *cell;

	foreach(cell, split->child)
	{
		if (shared && equal(lfirst_node(TargetEntry, cell)->expr, node))
			return foreach_current_index(cell) + 1;
	}
	split->child = lappend(split->child, makeTargetEntry((Expr *) copyObject(node),
														 list_length(split->child) + 1, NULL, false));
	return list_length(split->child);
}

/* Something to read as column of varno, or itself when it is the same for the whole statement. */
static Node *
leaf(Split *split, Node *node, int varno)
{
	/* Expressions of an Agg read columns of its child: they stay, and so do the numbers. */
	if (split->is_aggregate && (varno == INDEX_VAR || (IsA(node, Var) && ((Var *) node)->varno == OUTER_VAR)))
		return copyObject(node);
	if (node == NULL || IsA(node, Const) ||
		(IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN))
		return copyObject(node);
	return (Node *) make_column(varno, child_column(split, node), node);
}

static List *
leaf_list(Split *split, List *list, int varno)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, list)
		result = lappend(result, leaf(split, lfirst(cell), varno));
	return result;
}

/* Column of a call; equal calls are one column unless the function is volatile. */
static Var *
call_column(Split *split, FuncExpr *call, const DistilBatchCallee *callee)
{
	FuncExpr   *taken = makeNode(FuncExpr);
	ListCell   *cell;

	*taken = *call;
	taken->args = leaf_list(split, call->args, OUTER_VAR);
	foreach(cell, split->calls)
	{
		if (!callee->is_volatile && equal(lfirst(cell), taken))
			return make_column(CALL_VARNO, foreach_current_index(cell) + 1, (Node *) call);
	}
	split->calls = lappend(split->calls, taken);
	return make_column(CALL_VARNO, list_length(split->calls), (Node *) call);
}

/* Whether the child has the arguments of a call, or can compute them. */
static bool
has_arguments(const Split *split, const FuncExpr *call)
{
	ListCell   *cell;

	if (!split->is_aggregate)
		return true;
	foreach(cell, call->args)
	{
		Node	   *arg = lfirst(cell);

		if (!IsA(arg, Var) && !IsA(arg, Const) && (!split->can_extend || contain_subplans(arg)))
			return false;
	}
	return true;
}

/* The expression to evaluate above the batch. */
static Node *
upper_mutator(Node *node, void *context)
{
	Split	   *split = (Split *) context;
	DistilBatchCallee callee;

	if (node == NULL)
		return NULL;
	if (is_call(node, &callee))
		return has_arguments(split, (FuncExpr *) node) ?
			(Node *) call_column(split, (FuncExpr *) node, &callee) : copyObject(node);
	if (IsA(node, List))
		return expression_tree_mutator(node, upper_mutator, context);
	if (!has_call(node))
		return leaf(split, node, INDEX_VAR);
	if (IsA(node, ArrayCoerceExpr))
	{
		ArrayCoerceExpr *upper = makeNode(ArrayCoerceExpr);

		*upper = *(ArrayCoerceExpr *) node;
		upper->arg = (Expr *) upper_mutator((Node *) upper->arg, context);
		upper->elemexpr = copyObject(upper->elemexpr);
		return (Node *) upper;
	}
	if (IsA(node, SubscriptingRef))
	{
		SubscriptingRef *upper = makeNode(SubscriptingRef);

		*upper = *(SubscriptingRef *) node;
		upper->refexpr = (Expr *) upper_mutator((Node *) upper->refexpr, context);
		upper->refupperindexpr = leaf_list(split, upper->refupperindexpr, INDEX_VAR);
		upper->reflowerindexpr = leaf_list(split, upper->reflowerindexpr, INDEX_VAR);
		return (Node *) upper;
	}
	return expression_tree_mutator(node, upper_mutator, context);
}

/* Calls follow other columns: when these are counted, number them. */
typedef struct CallNumbers
{
	int			varno;
	int			before;			/* columns before the first call */
} CallNumbers;

static Node *
number_calls_mutator(Node *node, void *context)
{
	const CallNumbers *numbers = (const CallNumbers *) context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == CALL_VARNO)
		return (Node *) make_column(numbers->varno, numbers->before + ((Var *) node)->varattno, node);
	return expression_tree_mutator(node, number_calls_mutator, context);
}

/* Columns of the scan tuple: the child's, then one per call. */
static List *
scan_targetlist(const Split *split)
{
	List	   *list = NIL;
	ListCell   *cell;

	foreach(cell, split->child)
	{
		Node	   *node = (Node *) lfirst_node(TargetEntry, cell)->expr;
		int			number = list_length(list) + 1;

		list = lappend(list, makeTargetEntry((Expr *) make_column(OUTER_VAR, number, node), number, NULL, false));
	}
	foreach(cell, split->calls)
		list = lappend(list, makeTargetEntry(lfirst(cell), list_length(list) + 1, NULL, false));
	return list;
}

/* The node above plan.  Rows, width, costs and parallel safety are plan's. */
static CustomScan *
make_node(Plan *plan, const Split *split, List *targetlist, int plan_node_id)
{
	CustomScan *node = makeNode(CustomScan);

	node->scan.plan = *plan;
	NodeSetTag(node, T_CustomScan);
	node->scan.plan.plan_node_id = plan_node_id;
	node->scan.plan.parallel_aware = false;
	node->scan.plan.async_capable = false;
	node->scan.plan.targetlist = targetlist;
	node->scan.plan.qual = NIL;
	node->scan.plan.lefttree = plan;
	node->scan.plan.righttree = NULL;
	node->scan.plan.initPlan = NIL;
	node->scan.plan.extParam = bms_copy(plan->extParam);
	node->scan.plan.allParam = bms_copy(plan->allParam);
	node->scan.scanrelid = 0;
	node->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	node->custom_scan_tlist = scan_targetlist(split);
	node->methods = &distil_batch_methods;
	return node;
}

CustomScan *
distil_batch_split(Plan *plan, int plan_node_id)
{
	Split		split = {0};
	CallNumbers numbers = {INDEX_VAR, 0};
	CustomScan *node;
	List	   *targetlist = NIL;
	ListCell   *cell;

	foreach(cell, plan->targetlist)
	{
		TargetEntry *entry = flatCopyTargetEntry(lfirst_node(TargetEntry, cell));

		entry->expr = (Expr *) upper_mutator((Node *) entry->expr, &split);
		targetlist = lappend(targetlist, entry);
	}
	numbers.before = list_length(split.child);
	targetlist = (List *) number_calls_mutator((Node *) targetlist, &numbers);
	node = make_node(plan, &split, targetlist, plan_node_id);
	plan->targetlist = split.child;
	return node;
}

/* ---------- arguments of aggregates ---------- */

/* An aggregate that evaluates its arguments for each row of the Agg's child. */
static bool
takes_all_rows(const Aggref *aggref)
{
	return aggref->aggfilter == NULL && !DO_AGGSPLIT_COMBINE(aggref->aggsplit);
}

static bool
aggregate_call_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
		return takes_all_rows((Aggref *) node) && distil_batch_has_call(((Aggref *) node)->args);
	return expression_tree_walker(node, aggregate_call_walker, context);
}

bool
distil_batch_has_aggregate_call(Agg *agg)
{
	return aggregate_call_walker((Node *) agg->plan.targetlist, NULL) ||
		aggregate_call_walker((Node *) agg->plan.qual, NULL);
}

static Node *
aggregate_mutator(Node *node, void *context)
{
	Aggref	   *aggref;
	List	   *args = NIL;
	ListCell   *cell;

	if (node == NULL)
		return NULL;
	if (!IsA(node, Aggref))
		return expression_tree_mutator(node, aggregate_mutator, context);
	aggref = copyObject((Aggref *) node);
	if (!takes_all_rows(aggref))
		return (Node *) aggref;
	foreach(cell, aggref->args)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		entry->expr = (Expr *) upper_mutator((Node *) entry->expr, context);
		args = lappend(args, entry);
	}
	aggref->args = args;
	return (Node *) aggref;
}

/* An expression over the output of a plan, as one over the plan's input. */
static Node *
below_mutator(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == OUTER_VAR)
	{
		TargetEntry *entry = list_nth_node(TargetEntry, (List *) context, ((Var *) node)->varattno - 1);

		return (Node *) copyObject(entry->expr);
	}
	return expression_tree_mutator(node, below_mutator, context);
}

/* Add a column to a plan: an expression over its output.  A Sort passes on what its child computes. */
static void
extend(Plan *plan, Node *expr)
{
	int			number = list_length(plan->targetlist) + 1;

	expr = below_mutator(expr, plan->targetlist);
	if (IsA(plan, Sort))
	{
		extend(outerPlan(plan), expr);
		expr = (Node *) make_column(OUTER_VAR, list_length(outerPlan(plan)->targetlist), expr);
	}
	plan->targetlist = lappend(list_copy(plan->targetlist), makeTargetEntry((Expr *) expr, number, NULL, false));
}

/* Output of the node below an Agg: the child's columns as they were, then the calls. */
static List *
aggregate_input(List *child, const Split *split)
{
	List	   *targetlist = NIL;
	ListCell   *cell;
	int			nchild = list_length(split->child);

	foreach(cell, child)
	{
		TargetEntry *entry = flatCopyTargetEntry(lfirst_node(TargetEntry, cell));

		entry->expr = (Expr *) make_column(INDEX_VAR, foreach_current_index(cell) + 1, (Node *) entry->expr);
		targetlist = lappend(targetlist, entry);
	}
	foreach(cell, split->calls)
	{
		Var		   *column = make_column(INDEX_VAR, ++nchild, lfirst(cell));

		targetlist = lappend(targetlist, makeTargetEntry((Expr *) column, list_length(targetlist) + 1, NULL, false));
	}
	return targetlist;
}

CustomScan *
distil_batch_split_aggregate(Agg *agg, int plan_node_id, bool can_extend)
{
	Plan	   *child = outerPlan(agg);
	List	   *output = child->targetlist;
	Split		split = {.is_aggregate = true};
	CallNumbers numbers = {OUTER_VAR, list_length(output)};
	CustomScan *node;
	List	   *targetlist;
	List	   *qual;
	ListCell   *cell;

	split.can_extend = can_extend;
	foreach(cell, output)
	{
		TargetEntry *entry = flatCopyTargetEntry(lfirst_node(TargetEntry, cell));

		entry->expr = (Expr *) make_column(OUTER_VAR, foreach_current_index(cell) + 1, (Node *) entry->expr);
		split.child = lappend(split.child, entry);
	}
	targetlist = (List *) aggregate_mutator((Node *) agg->plan.targetlist, &split);
	qual = (List *) aggregate_mutator((Node *) agg->plan.qual, &split);
	if (split.calls == NIL)
		return NULL;

	agg->plan.targetlist = (List *) number_calls_mutator((Node *) targetlist, &numbers);
	agg->plan.qual = (List *) number_calls_mutator((Node *) qual, &numbers);
	node = make_node(child, &split, aggregate_input(output, &split), plan_node_id);
	for_each_from(cell, split.child, list_length(output))
		extend(child, (Node *) lfirst_node(TargetEntry, cell)->expr);
	outerPlan(agg) = &node->scan.plan;
	return node;
}
