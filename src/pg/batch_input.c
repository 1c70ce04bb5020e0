/*
 * batch_input.c
 *		Puts DistilBatch below a node that calls ours in the arguments of its aggregates, in
 *		the actions of a MERGE, or in the keys of a hash join.
 *
 * The new node lies between an Agg, WindowAgg, ModifyTable, HashJoin or Hash and its child.  The child's
 * columns keep their numbers, by which these know what to group, sort and compare; a column per call follows.
 *
 * Taken are arguments that are evaluated for each row of the input: not of window functions
 * that pick rows, not with frames that may leave rows out.
 *
 * Behind a FILTER, and in an action of MERGE, a call is made for some rows only.  For the others
 * its arguments are NULL and nothing is computed.  Another session may change which action
 * it is after the row was read: so who finds NULL makes the call itself.
 *
 * Some nodes read a row of which they compute nothing: the first of another group, where no more groups may
 * be asked for; the first of the outer side of a hash join, before the inner one turns out to be empty.
 * There an error must not come from the node: it hands on NULL instead, and who reads that makes the call.
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"

#include "batch_plan.h"
#include "batch_split.h"
#include "compat.h"

/* Frames that begin with the partition and end with the row itself or later: each row is in one. */
#define WHOLE_FRAME (FRAMEOPTION_START_UNBOUNDED_PRECEDING)
#define FRAME_ENDS (FRAMEOPTION_END_CURRENT_ROW | FRAMEOPTION_END_UNBOUNDED_FOLLOWING)

typedef struct Input
{
	DistilSplit *split;
	bool		all_rows;		/* frames of window functions leave no row out */
} Input;

static bool
frame_has_all_rows(const WindowAgg *window)
{
	return (window->frameOptions & WHOLE_FRAME) != 0 && (window->frameOptions & FRAME_ENDS) != 0 &&
		(window->frameOptions & FRAMEOPTION_EXCLUSION) == 0;
}

/*
 * The arguments of an aggregate that evaluates them for each row of its input, otherwise NIL;
 * with a filter, for each row that passes it.
 */
static List *
evaluated_arguments(Node *node, bool all_rows, Expr **filter)
{
	List	   *args = NIL;

	*filter = NULL;
	if (IsA(node, Aggref) && !DO_AGGSPLIT_COMBINE(((Aggref *) node)->aggsplit))
	{
		args = ((Aggref *) node)->args;
		*filter = ((Aggref *) node)->aggfilter;
	}
	else if (IsA(node, WindowFunc) && all_rows && ((WindowFunc *) node)->winagg)
	{
		args = ((WindowFunc *) node)->args;
		*filter = ((WindowFunc *) node)->aggfilter;
	}
	if (*filter != NULL &&
		(contain_volatile_functions((Node *) *filter) || contain_subplans((Node *) *filter)))
		return NIL;
	return args;
}

static Node *
argument_expr(Node *argument)
{
	return IsA(argument, TargetEntry) ? (Node *) ((TargetEntry *) argument)->expr : argument;
}

static bool
has_call_walker(Node *node, void *context)
{
	const Input *input = context;
	Expr	   *filter;
	ListCell   *cell;

	if (node == NULL)
		return false;
	if (!IsA(node, Aggref) && !IsA(node, WindowFunc))
		return expression_tree_walker(node, has_call_walker, context);
	foreach(cell, evaluated_arguments(node, input->all_rows, &filter))
	{
		if (distil_split_has_call(argument_expr(lfirst(cell))))
			return true;
	}
	return false;
}

static Input
input_of(Plan *plan, DistilSplit *split)
{
	Input		input = {split, IsA(plan, WindowAgg) && frame_has_all_rows((WindowAgg *) plan)};

	return input;
}

bool
distil_batch_has_input_call(Plan *plan)
{
	Input		input = input_of(plan, NULL);

	return has_call_walker((Node *) plan->targetlist, &input) || has_call_walker((Node *) plan->qual, &input);
}

static Node *
input_mutator(Node *node, void *context)
{
	const Input *input = context;
	List	   *args = NIL;
	Node	   *copy;
	Expr	   *filter;
	ListCell   *cell;

	if (node == NULL)
		return NULL;
	if (!IsA(node, Aggref) && !IsA(node, WindowFunc))
		return expression_tree_mutator(node, input_mutator, context);
	copy = copyObject(node);
	foreach(cell, evaluated_arguments(copy, input->all_rows, &filter))
	{
		Node	   *argument = lfirst(cell);
		Node	   *upper;

		input->split->guard = filter;
		upper = distil_split_upper(input->split, argument_expr(argument), true);
		input->split->guard = NULL;
		if (IsA(argument, TargetEntry))
			((TargetEntry *) argument)->expr = (Expr *) upper;
		args = lappend(args, IsA(argument, TargetEntry) ? argument : upper);
	}
	if (args != NIL && IsA(copy, Aggref))
		((Aggref *) copy)->args = args;
	else if (args != NIL)
		((WindowFunc *) copy)->args = args;
	return copy;
}

/* ---------- columns of the child ---------- */

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

/*
 * Add a column to a plan: an expression of `reader` over its output.  When a parameter of the expression
 * changes the rows must be computed again, not only read again.
 */
static void
extend(Plan *plan, Node *expr, const Plan *reader)
{
	int			number = list_length(plan->targetlist) + 1;

	expr = below_mutator(expr, plan->targetlist);
	plan->extParam = bms_union(plan->extParam, reader->extParam);
	plan->allParam = bms_union(plan->allParam, reader->allParam);
	plan->targetlist = lappend(list_copy(plan->targetlist),
							   makeTargetEntry((Expr *) expr, number, NULL, false));
}

/* Output of the node: the child's columns as they were, then the calls. */
static List *
input_targetlist(List *child, const DistilSplit *split)
{
	List	   *targetlist = NIL;
	ListCell   *cell;
	int			nchild = list_length(split->child);

	foreach(cell, child)
	{
		TargetEntry *entry = flatCopyTargetEntry(lfirst_node(TargetEntry, cell));

		entry->expr = (Expr *) distil_split_column(INDEX_VAR, foreach_current_index(cell) + 1,
												   (Node *) entry->expr);
		targetlist = lappend(targetlist, entry);
	}
	foreach(cell, split->calls)
	{
		Var		   *column = distil_split_column(INDEX_VAR, ++nchild, lfirst(cell));

		targetlist = lappend(targetlist, makeTargetEntry((Expr *) column, list_length(targetlist) + 1,
														 NULL, false));
	}
	return targetlist;
}

/* A split that begins with the output of child. */
static DistilSplit
begin_split(const Plan *child, const DistilBatchBelow *below)
{
	DistilSplit split = {.is_input = true, .below = *below};
	ListCell   *cell;

	foreach(cell, child->targetlist)
	{
		TargetEntry *entry = flatCopyTargetEntry(lfirst_node(TargetEntry, cell));

		entry->expr = (Expr *) distil_split_column(OUTER_VAR, foreach_current_index(cell) + 1,
												   (Node *) entry->expr);
		split.child = lappend(split.child, entry);
	}
	return split;
}

/* A Result with the columns of child, a Sort: what it is to compute is computed in the order of the Sort. */
static Plan *
result_above(Plan *child, int plan_node_id)
{
	Result	   *result = makeNode(Result);
	Plan	   *plan = &result->plan;
	ListCell   *cell;

	*plan = *child;
	NodeSetTag(plan, T_Result);
	plan->plan_node_id = plan_node_id;
	plan->parallel_aware = false;
	plan->async_capable = false;
	plan->qual = NIL;
	plan->lefttree = child;
	plan->righttree = NULL;
	plan->extParam = bms_copy(child->extParam);
	plan->allParam = bms_copy(child->allParam);
	plan->targetlist = NIL;
	foreach(cell, child->targetlist)
	{
		TargetEntry *entry = flatCopyTargetEntry(lfirst_node(TargetEntry, cell));

		entry->expr = (Expr *) distil_split_column(OUTER_VAR, foreach_current_index(cell) + 1,
												   (Node *) entry->expr);
		plan->targetlist = lappend(plan->targetlist, entry);
	}
	child->initPlan = NIL;
	return plan;
}

/*
 * Put the node between plan and its child, which gets the further columns of the split; takes up to two node
 * numbers.
 */
static CustomScan *
insert_node(Plan *plan, const DistilSplit *split, int plan_node_id)
{
	Plan	   *child = outerPlan(plan);
	int			noutput = list_length(child->targetlist);
	List	   *targetlist = input_targetlist(child->targetlist, split);
	CustomScan *node;
	ListCell   *cell;

	if ((IsA(child, Sort) || IsA(child, IncrementalSort)) && list_length(split->child) > noutput)
		child = result_above(child, plan_node_id + 1);
	for_each_from(cell, split->child, noutput)
		extend(child, (Node *) lfirst_node(TargetEntry, cell)->expr, plan);
	node = distil_split_node(child, split, targetlist, plan_node_id);
	outerPlan(plan) = &node->scan.plan;
	return node;
}

CustomScan *
distil_batch_split_input(Plan *plan, int plan_node_id, const DistilBatchBelow *below)
{
	DistilSplit split = begin_split(outerPlan(plan), below);
	Input		input = input_of(plan, &split);
	int			noutput = list_length(split.child);
	List	   *targetlist;
	List	   *qual;

	targetlist = (List *) input_mutator((Node *) plan->targetlist, &input);
	qual = (List *) input_mutator((Node *) plan->qual, &input);
	if (split.calls == NIL)
		return NULL;

	plan->targetlist = (List *) distil_split_number_calls((Node *) targetlist, OUTER_VAR, noutput);
	plan->qual = (List *) distil_split_number_calls((Node *) qual, OUTER_VAR, noutput);
	return insert_node(plan, &split, plan_node_id);
}

/* ---------- actions of MERGE ---------- */

/* Columns of one variable number as those of another. */
typedef struct Renumber
{
	int			from;
	int			to;
} Renumber;

static Node *
renumber_mutator(Node *node, void *context)
{
	const Renumber *renumber = context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == renumber->from)
	{
		Var		   *column = copyObject((Var *) node);

		column->varno = renumber->to;
		return (Node *) column;
	}
	return expression_tree_mutator(node, renumber_mutator, context);
}

/* Actions read the columns of the plan below as INNER_VAR. */
static Node *
renumber(Node *node, int from, int to)
{
	Renumber	context = {from, to};

	return renumber_mutator(node, &context);
}

/* Column of the target row's place, NULL in rows without one; 0: there is none. */
static AttrNumber
place_column(List *targetlist)
{
	ListCell   *cell;

	foreach(cell, targetlist)
	{
		const TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (entry->resjunk && entry->resname != NULL && strcmp(entry->resname, "ctid") == 0)
			return entry->resno;
	}
	return 0;
}

static bool
has_by_source(List *actions)
{
	ListCell   *cell;

	foreach(cell, actions)
	{
		if (DISTIL_MERGE_BY_SOURCE(lfirst_node(MergeAction, cell)))
			return true;
	}
	return false;
}

/*
 * The first action for matched rows or for those of the source alone, when it is done for all of them and
 * writes: NULL when it has a condition.  By its place a row of the target alone looks like a matched one, so
 * where there are actions for such rows none is taken for matched ones.
 */
static MergeAction *
first_action(List *actions, bool matched)
{
	ListCell   *cell;

	if (matched && has_by_source(actions))
		return NULL;
	foreach(cell, actions)
	{
		MergeAction *action = lfirst_node(MergeAction, cell);

		if (!DISTIL_MERGE_BY_SOURCE(action) && DISTIL_MERGE_MATCHED(action) == matched)
			return action->qual == NULL ? action : NULL;
	}
	return NULL;
}

bool
distil_batch_has_merge_call(ModifyTable *modify)
{
	List	   *actions = modify->mergeActionLists != NIL ? linitial(modify->mergeActionLists) : NIL;
	int			matched;

	if (place_column(outerPlan(modify)->targetlist) == 0)
		return false;
	for (matched = 0; matched <= 1; matched++)
	{
		MergeAction *action = first_action(actions, matched);

		if (action != NULL && distil_batch_has_call(action->targetList))
			return true;
	}
	return false;
}

CustomScan *
distil_batch_split_merge(ModifyTable *modify, int plan_node_id, const DistilBatchBelow *below)
{
	Plan	   *child = outerPlan(modify);
	DistilSplit split = begin_split(child, below);
	AttrNumber	place = place_column(child->targetlist);
	int			noutput = list_length(split.child);
	int			matched;
	ListCell   *cell;

	for (matched = 0; matched <= 1; matched++)
	{
		NullTest   *guard = makeNode(NullTest);

		guard->arg = list_nth_node(TargetEntry, split.child, place - 1)->expr;
		guard->nulltesttype = matched ? IS_NOT_NULL : IS_NULL;
		guard->location = -1;
		split.guard = (Expr *) guard;
		foreach(cell, modify->mergeActionLists)
		{
			MergeAction *action = first_action(lfirst(cell), matched);
			Node	   *upper;

			if (action == NULL || !distil_batch_has_call(action->targetList))
				continue;
			upper = renumber((Node *) action->targetList, INNER_VAR, OUTER_VAR);
			upper = (Node *) distil_split_upper_list(&split, (List *) upper, true);
			upper = renumber(upper, OUTER_VAR, INNER_VAR);
			action->targetList = (List *) distil_split_number_calls(upper, INNER_VAR, noutput);
		}
	}
	return split.calls == NIL ? NULL : insert_node(&modify->plan, &split, plan_node_id);
}

/* ---------- keys of a hash join ---------- */

/* Only the first key's calls are taken: where it is null the others may not be computed. */

static List **
hash_keys(Plan *plan)
{
	return IsA(plan, Hash) ? &((Hash *) plan)->hashkeys : &((HashJoin *) plan)->hashkeys;
}

bool
distil_batch_has_key_call(Plan *plan)
{
	return distil_split_has_call(linitial(*hash_keys(plan)));
}

/* The conditions of a join, with the calls of one side read from its new columns. */
static List *
key_conditions(DistilSplit *split, List *clauses, bool inner, int before)
{
	int			varno = inner ? INNER_VAR : OUTER_VAR;
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, clauses)
	{
		OpExpr	   *clause = copyObject(lfirst_node(OpExpr, cell));
		ListCell   *operand = inner ? list_second_cell(clause->args) : list_head(clause->args);
		Node	   *side = renumber(lfirst(operand), varno, OUTER_VAR);

		side = renumber(distil_split_upper(split, side, false), OUTER_VAR, varno);
		lfirst(operand) = distil_split_number_calls(side, varno, before);
		result = lappend(result, clause);
	}
	return result;
}

CustomScan *
distil_batch_split_keys(HashJoin *join, Plan *plan, int plan_node_id, const DistilBatchBelow *below)
{
	bool		inner = IsA(plan, Hash);
	DistilSplit split = begin_split(outerPlan(plan), below);
	int			noutput = list_length(split.child);
	List	   *keys = NIL;
	CustomScan *node;
	ListCell   *cell;

	foreach(cell, *hash_keys(plan))
		keys = lappend(keys, distil_split_upper(&split, lfirst(cell), foreach_current_index(cell) == 0));
	if (split.calls == NIL)
		return NULL;
	*hash_keys(plan) = (List *) distil_split_number_calls((Node *) keys, OUTER_VAR, noutput);
	join->hashclauses = key_conditions(&split, join->hashclauses, inner, noutput);
	node = insert_node(plan, &split, plan_node_id);
	/* A Hash hands on the rows of its child. */
	for_each_from(cell, inner ? node->scan.plan.targetlist : NIL, noutput)
	{
		TargetEntry *entry = flatCopyTargetEntry(lfirst_node(TargetEntry, cell));

		entry->expr = (Expr *) distil_split_column(OUTER_VAR, entry->resno, (Node *) entry->expr);
		plan->targetlist = lappend(plan->targetlist, entry);
	}
	return node;
}
