/*
 * batch_split.c
 *		Cuts the finished expressions of a plan node in two: what the child computes, and
 *		what is computed above a batch of its rows.
 *
 *			distil_embed(title || body)::float8[], id / n
 *
 *		becomes in the child (title || body), id, n; the calls read child columns as
 *		OUTER_VAR; the new target list reads children and calls as INDEX_VAR.
 *
 * Only arguments of calls are computed ahead.  Everything else is evaluated above, when its
 * row is due: a row that nobody asks for cannot fail, and volatile functions run as often as before.
 *
 * A call is taken only from where the executor would evaluate it for each row.  In CASE,
 * COALESCE, AND, OR and everything else that is not in passes_through() it stays a part of its
 * expression, evaluated row by row and only when needed.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"

#include "batch_plan.h"
#include "batch_split.h"
#include "compat.h"

/* Number of a call while the number of child columns is not known yet. */
#define CALL_VARNO ROWID_VAR

/* ---------- calls ---------- */

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
		case T_FuncExpr:
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
		default:
			return false;
	}
}

/* What only the child can compute: its columns, aggregates, sets. */
static bool
is_atom(Node *node)
{
	switch (nodeTag(node))
	{
		case T_Var:
		case T_Aggref:
		case T_GroupingFunc:
		case T_WindowFunc:
			return true;
		case T_FuncExpr:
			return ((FuncExpr *) node)->funcretset;
		case T_OpExpr:
			return ((OpExpr *) node)->opretset;
		default:
			return DISTIL_IS_RETURNING_NODE(node);
	}
}

static bool
has_call_walker(Node *node, void *context)
{
	return distil_split_has_call(node);
}

bool
distil_split_has_call(Node *node)
{
	DistilBatchCallee callee;

	if (node == NULL || is_atom(node))
		return false;
	if (is_call(node, &callee))
		return true;
	switch (nodeTag(node))
	{
			/* The expression for one element is no place for a column. */
		case T_ArrayCoerceExpr:
			return distil_split_has_call((Node *) ((ArrayCoerceExpr *) node)->arg);
			/* Subscripts are skipped when the array is NULL. */
		case T_SubscriptingRef:
			return ((SubscriptingRef *) node)->refassgnexpr == NULL &&
				distil_split_has_call((Node *) ((SubscriptingRef *) node)->refexpr);
		default:
			return passes_through(node) && expression_tree_walker(node, has_call_walker, NULL);
	}
}

bool
distil_batch_has_call(List *targetlist)
{
	ListCell   *cell;

	foreach(cell, targetlist)
	{
		if (distil_split_has_call((Node *) lfirst_node(TargetEntry, cell)->expr))
			return true;
	}
	return false;
}

/* ---------- columns ---------- */

Var *
distil_split_column(int varno, int attno, Node *node)
{
	return makeVar(varno, attno, exprType(node), exprTypmod(node), exprCollation(node), 0);
}

/* Number of the child column that computes node; equal ones are shared unless they are volatile. */
static int
child_column(DistilSplit *split, Node *node)
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

/* The same for the whole statement. */
static bool
is_constant(Node *node)
{
	return IsA(node, Const) || (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN);
}

/*
 * What holds where the node makes a call behind the guard (NULL: none); NULL: always.  What the node says is
 * no parameter: EXPLAIN of PostgreSQL 17 asserts that it finds what sets one.
 */
static Expr *
whole_guard(const DistilSplit *split, Expr *guard)
{
	CaseTestExpr *computing;

	if (!split->below.late)
		return guard;
	computing = makeNode(CaseTestExpr);
	computing->typeId = BOOLOID;
	computing->typeMod = -1;
	if (guard == NULL)
		return (Expr *) computing;
	return makeBoolExpr(AND_EXPR, list_make2(computing, guard), -1);
}

/*
 * An argument as the child computes it: NULL where nothing is to be computed.  What can be read without
 * computing anything is made NULL only if it must be, for the call's sake.
 */
static Node *
guarded_argument(const DistilSplit *split, Expr *guard, Node *node, bool must)
{
	Expr	   *condition = whole_guard(split, guard);
	DistilBatchCallee callee;
	CaseExpr   *expr;
	CaseWhen   *when;

	if (condition == NULL || (!must && (is_constant(node) || IsA(node, Var))))
		return node;
	/* Behind a CASE it would be made row by row. */
	if (is_call(node, &callee))
	{
		FuncExpr   *call = makeNode(FuncExpr);
		ListCell   *cell;

		*call = *(FuncExpr *) node;
		call->args = NIL;
		foreach(cell, ((FuncExpr *) node)->args)
			call->args = lappend(call->args, guarded_argument(split, guard, lfirst(cell), call->args == NIL));
		return (Node *) call;
	}
	when = makeNode(CaseWhen);
	when->expr = condition;
	when->result = (Expr *) node;
	when->location = -1;
	expr = makeNode(CaseExpr);
	expr->casetype = exprType(node);
	expr->casecollid = exprCollation(node);
	expr->args = list_make1(when);
	expr->defresult = (Expr *) makeNullConst(exprType(node), exprTypmod(node), exprCollation(node));
	expr->location = -1;
	return (Node *) expr;
}

/* What a call reads as argument: a column of the child, or a constant. */
static Node *
argument(DistilSplit *split, Node *node)
{
	if (is_constant(node) || (split->is_input && IsA(node, Var) && ((Var *) node)->varno == OUTER_VAR))
		return copyObject(node);
	return (Node *) distil_split_column(OUTER_VAR, child_column(split, node), node);
}

/*
 * Whether the first argument of a call must be NULL where nothing is to be computed: behind a guard, and
 * where another argument is a call, whose node below may have read rows for which it left NULL.
 */
static bool
guards_first(const DistilSplit *split, Expr *guard, const FuncExpr *call)
{
	return guard != NULL || (split->below.late && distil_split_has_call((Node *) call->args));
}

/* Is call, made where the guard holds, what `taken` computes? */
static bool
same_call(const DistilSplit *split, const FuncExpr *taken, const FuncExpr *call, Expr *guard)
{
	bool		first = guards_first(split, guard, call);
	ListCell   *a;
	ListCell   *b;

	if (taken->funcid != call->funcid || list_length(taken->args) != list_length(call->args))
		return false;
	forboth(a, taken->args, b, call->args)
	{
		Node	   *expr = lfirst(a);

		if (IsA(expr, Var) && ((Var *) expr)->varno == OUTER_VAR)
			expr = (Node *) list_nth_node(TargetEntry, split->child, ((Var *) expr)->varattno - 1)->expr;
		if (!equal(expr, guarded_argument(split, guard, lfirst(b), first && foreach_current_index(a) == 0)))
			return false;
	}
	return true;
}

static bool
other_column_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return ((Var *) node)->varno != OUTER_VAR;
	return expression_tree_walker(node, other_column_walker, context);
}

bool
distil_split_fits(const DistilSplit *split, int more)
{
	return list_length(split->child) + list_length(split->calls) + more <= MaxTupleAttributeNumber;
}

/* Whether the child has the arguments of a call, or can compute them. */
static bool
has_arguments(const DistilSplit *split, const FuncExpr *call)
{
	const DistilBatchBelow *below = &split->below;
	ListCell   *cell;

	if (!split->is_input)
		return true;
	if (!distil_split_fits(split, list_length(call->args) + 1))
		return false;
	if (other_column_walker((Node *) call->args, NULL))
		return false;
	/* Who finds NULL makes the call again. */
	if ((split->guard != NULL || below->late) && contain_volatile_functions((Node *) call->args))
		return false;
	if (split->guard != NULL &&
		(!below->can_extend || (below->harmless && !distil_batch_evaluates_ahead((Node *) split->guard))))
		return false;
	foreach(cell, call->args)
	{
		Node	   *arg = lfirst(cell);

		if (!IsA(arg, Var) && !IsA(arg, Const) &&
			(!below->can_extend || contain_subplans(arg) ||
			 (below->harmless && !distil_batch_evaluates_ahead(arg))))
			return false;
	}
	return true;
}

/* ---------- expressions above ---------- */

typedef struct Upper
{
	DistilSplit *split;
	bool		take;
} Upper;

/* What to read for a call: its column; the call itself where that may be NULL because it was not made. */
static Node *
read_call(const DistilSplit *split, int number, FuncExpr *call)
{
	Var		   *column = distil_split_column(CALL_VARNO, number, (Node *) call);
	CoalesceExpr *either;

	if (whole_guard(split, split->guard) == NULL)
		return (Node *) column;
	either = makeNode(CoalesceExpr);
	either->coalescetype = exprType((Node *) call);
	either->coalescecollid = exprCollation((Node *) call);
	either->args = list_make2(column, copyObject(call));
	either->location = -1;
	return (Node *) either;
}

/* Column of a call, NULL when it stays a call; equal calls are one column unless something is volatile. */
static Node *
call_column(const Upper *upper, FuncExpr *call, const DistilBatchCallee *callee)
{
	DistilSplit *split = upper->split;
	bool		shared = !callee->is_volatile && !contain_volatile_functions((Node *) call->args);
	bool		first = guards_first(split, split->guard, call);
	FuncExpr   *taken;
	List	   *args = NIL;
	ListCell   *cell;

	foreach(cell, split->calls)
	{
		if (shared && (same_call(split, lfirst(cell), call, split->guard) ||
					   same_call(split, lfirst(cell), call, NULL)))
			return read_call(split, foreach_current_index(cell) + 1, call);
	}
	if (!upper->take || !has_arguments(split, call))
		return NULL;
	foreach(cell, call->args)
	{
		Node	   *arg = guarded_argument(split, split->guard, lfirst(cell), first && args == NIL);

		args = lappend(args, argument(split, arg));
	}
	taken = makeNode(FuncExpr);
	*taken = *call;
	taken->args = args;
	split->calls = lappend(split->calls, taken);
	return read_call(split, list_length(split->calls), call);
}

static Node *
upper_mutator(Node *node, void *context)
{
	const Upper *upper = context;
	Upper		guarded = {upper->split, false};
	DistilBatchCallee callee;
	Node	   *column;

	if (node == NULL)
		return NULL;
	if (is_atom(node))
		return upper->split->is_input ? copyObject(node) :
			(Node *) distil_split_column(INDEX_VAR, child_column(upper->split, node), node);
	if (is_call(node, &callee))
	{
		column = call_column(upper, (FuncExpr *) node, &callee);
		if (column != NULL)
			return column;
	}
	if (IsA(node, ArrayCoerceExpr))
	{
		ArrayCoerceExpr *copy = makeNode(ArrayCoerceExpr);

		*copy = *(ArrayCoerceExpr *) node;
		copy->arg = (Expr *) upper_mutator((Node *) copy->arg, context);
		copy->elemexpr = copyObject(copy->elemexpr);
		return (Node *) copy;
	}
	if (IsA(node, SubscriptingRef) && ((SubscriptingRef *) node)->refassgnexpr == NULL)
	{
		SubscriptingRef *copy = makeNode(SubscriptingRef);

		*copy = *(SubscriptingRef *) node;
		copy->refexpr = (Expr *) upper_mutator((Node *) copy->refexpr, context);
		copy->refupperindexpr = (List *) upper_mutator((Node *) copy->refupperindexpr, &guarded);
		copy->reflowerindexpr = (List *) upper_mutator((Node *) copy->reflowerindexpr, &guarded);
		return (Node *) copy;
	}
	return expression_tree_mutator(node, upper_mutator, passes_through(node) ? context : &guarded);
}

Node *
distil_split_upper(DistilSplit *split, Node *node, bool take)
{
	Upper		upper = {split, take};

	return upper_mutator(node, &upper);
}

List *
distil_split_upper_list(DistilSplit *split, List *targetlist, bool take)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, targetlist)
	{
		TargetEntry *entry = flatCopyTargetEntry(lfirst_node(TargetEntry, cell));

		entry->expr = (Expr *) distil_split_upper(split, (Node *) entry->expr, take);
		result = lappend(result, entry);
	}
	return result;
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
		return (Node *) distil_split_column(numbers->varno, numbers->before + ((Var *) node)->varattno, node);
	return expression_tree_mutator(node, number_calls_mutator, context);
}

Node *
distil_split_number_calls(Node *node, int varno, int before)
{
	CallNumbers numbers = {varno, before};

	return number_calls_mutator(node, &numbers);
}

/* ---------- nodes ---------- */

/* Columns of the scan tuple: the child's, then one per call. */
static List *
scan_targetlist(const DistilSplit *split)
{
	List	   *list = NIL;
	ListCell   *cell;

	foreach(cell, split->child)
	{
		Node	   *node = (Node *) lfirst_node(TargetEntry, cell)->expr;
		int			number = list_length(list) + 1;

		list = lappend(list, makeTargetEntry((Expr *) distil_split_column(OUTER_VAR, number, node), number,
											 NULL, false));
	}
	foreach(cell, split->calls)
		list = lappend(list, makeTargetEntry(lfirst(cell), list_length(list) + 1, NULL, false));
	return list;
}

/* Rows, width, costs and parallel safety are plan's; its initplans move up, above all that reads them. */
CustomScan *
distil_split_node(Plan *plan, const DistilSplit *split, List *targetlist, int plan_node_id)
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
	node->scan.plan.extParam = bms_copy(plan->extParam);
	node->scan.plan.allParam = bms_copy(plan->allParam);
	node->scan.scanrelid = 0;
	node->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	node->custom_scan_tlist = scan_targetlist(split);
	node->methods = &distil_batch_methods;
	plan->initPlan = NIL;
	return node;
}

CustomScan *
distil_batch_split(Plan *plan, int plan_node_id)
{
	DistilSplit split = {0};
	List	   *targetlist = distil_split_upper_list(&split, plan->targetlist, true);
	CustomScan *node;

	if (!distil_split_fits(&split, 0))
		return NULL;
	targetlist = (List *) distil_split_number_calls((Node *) targetlist, INDEX_VAR, list_length(split.child));
	node = distil_split_node(plan, &split, targetlist, plan_node_id);
	plan->targetlist = split.child;
	return node;
}

/* ---------- conditions ---------- */

/* The condition of an inner join, whose place does not matter; NULL for other nodes. */
static Join *
inner_join(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_NestLoop:
		case T_MergeJoin:
		case T_HashJoin:
			return ((Join *) plan)->jointype == JOIN_INNER ? (Join *) plan : NULL;
		default:
			return NULL;
	}
}

/* Clauses in the order of their evaluation. */
static List *
conditions(Plan *plan)
{
	Join	   *join = inner_join(plan);

	return join != NULL ? list_concat_copy(join->joinqual, plan->qual) : plan->qual;
}

int
distil_batch_condition(Plan *plan)
{
	ListCell   *cell;
	List	   *clauses = conditions(plan);

	foreach(cell, clauses)
	{
		if (distil_split_has_call(lfirst(cell)))
			return foreach_current_index(cell);
	}
	return -1;
}

/* Leave the first n clauses to the plan. */
static void
keep_conditions(Plan *plan, int n)
{
	Join	   *join = inner_join(plan);
	int			before = join != NULL ? list_length(join->joinqual) : 0;

	plan->qual = n > before ? list_truncate(list_copy(plan->qual), n - before) : NIL;
	if (n >= before)
		return;
	join->joinqual = list_truncate(list_copy(join->joinqual), n);
	/* That there is one match for each outer row may have followed from what went. */
	join->inner_unique = false;
}

CustomScan *
distil_batch_split_condition(Plan *plan, int clause, int plan_node_id)
{
	DistilSplit split = {0};
	List	   *clauses = conditions(plan);
	List	   *targetlist;
	List	   *qual = NIL;
	CustomScan *node;
	ListCell   *cell;

	for_each_from(cell, clauses, clause)
		qual = lappend(qual, distil_split_upper(&split, lfirst(cell), foreach_current_index(cell) == clause));
	targetlist = distil_split_upper_list(&split, plan->targetlist, false);
	if (!distil_split_fits(&split, 0))
		return NULL;
	targetlist = (List *) distil_split_number_calls((Node *) targetlist, INDEX_VAR, list_length(split.child));
	qual = (List *) distil_split_number_calls((Node *) qual, INDEX_VAR, list_length(split.child));
	node = distil_split_node(plan, &split, targetlist, plan_node_id);
	node->scan.plan.qual = qual;
	keep_conditions(plan, clause);
	plan->targetlist = split.child;
	return node;
}

/* ---------- RETURNING ---------- */

CustomScan *
distil_batch_split_returning(ModifyTable *modify, int plan_node_id)
{
	DistilSplit first = {0};
	List	   *targetlist = distil_split_upper_list(&first, linitial(modify->returningLists), true);
	List	   *lists = NIL;
	CustomScan *node;
	ListCell   *cell;

	foreach(cell, modify->returningLists)
	{
		DistilSplit split = {0};
		List	   *same = distil_split_upper_list(&split, lfirst(cell), true);

		/* One node must do for all partitions: the same columns above, computed from other ones below. */
		if (!equal(same, targetlist) || list_length(split.child) != list_length(first.child))
			return NULL;
		lists = lappend(lists, split.child);
	}
	if (!distil_split_fits(&first, 0))
		return NULL;
	targetlist = (List *) distil_split_number_calls((Node *) targetlist, INDEX_VAR, list_length(first.child));
	node = distil_split_node(&modify->plan, &first, targetlist, plan_node_id);
	modify->returningLists = lists;
	modify->plan.targetlist = copyObject(linitial(lists));
	return node;
}
