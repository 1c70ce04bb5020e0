/*
 * batch_plan.c
 *		Walks finished plans and puts DistilBatch above nodes whose expressions call ours.
 *
 * Finished plans and not paths: final target lists are attached only when paths become
 * plans.  The new node returns the old output column for column, so nothing above changes.
 *
 * Rules that keep this right:
 *	- Nodes that are not in the table below are neither wrapped nor descended into.
 *	- Node numbers must be unique in the statement: instrumentation and workers use them.
 *	- The node reads ahead.  It has no backward scan and no mark, and where not all rows may be
 *	  asked for it is put only if nobody can tell (batch_ahead.c).
 */
#include "postgres.h"

#include "common/int.h"
#include "jit/jit.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "optimizer/optimizer.h"

#include "batch_plan.h"

/* What is known of a place in the plan from the nodes above it. */
typedef struct Place
{
	bool		partial;		/* not all rows that are read ahead may be asked for */
	bool		first;			/* all rows are asked for, or the first alone */
	bool		marked;			/* must support mark and restore */
	bool		in_worker;		/* below a Gather */
	bool		whole;			/* all rows are read, however few the executor is asked for */
	bool		updatable;		/* WHERE CURRENT OF looks from here for the scan of a table */
	int			rows_wanted;	/* rows that are asked for, if so many exist; INT_MAX: all; 0: unknown */
} Place;

/* What may be done with a node. */
enum
{
	WRAPS = 1,					/* projects its target list: a DistilBatch may lie above it */
	KEEPS_ROWS = 2,				/* asks its children for no more rows than it is asked for */
	TAKES_ALL = 4				/* reads all of its left child */
};

typedef struct NodeKind
{
	NodeTag		tag;
	int			flags;
} NodeKind;

static const NodeKind kinds[] = {
	{T_SeqScan, WRAPS}, {T_SampleScan, WRAPS}, {T_IndexScan, WRAPS}, {T_IndexOnlyScan, WRAPS},
	{T_BitmapHeapScan, WRAPS}, {T_TidScan, WRAPS}, {T_TidRangeScan, WRAPS},
	{T_SubqueryScan, WRAPS | KEEPS_ROWS},
	{T_FunctionScan, WRAPS}, {T_TableFuncScan, WRAPS}, {T_ValuesScan, WRAPS}, {T_CteScan, WRAPS},
	{T_NamedTuplestoreScan, WRAPS}, {T_WorkTableScan, WRAPS}, {T_ForeignScan, WRAPS},
	{T_NestLoop, WRAPS}, {T_MergeJoin, WRAPS}, {T_HashJoin, WRAPS},
	{T_Gather, WRAPS}, {T_GatherMerge, WRAPS}, {T_Agg, WRAPS}, {T_Group, WRAPS}, {T_WindowAgg, WRAPS},
	{T_Result, WRAPS | KEEPS_ROWS}, {T_ProjectSet, WRAPS}, {T_ModifyTable, TAKES_ALL},
	{T_Append, KEEPS_ROWS}, {T_MergeAppend, KEEPS_ROWS}, {T_Sort, TAKES_ALL}, {T_Hash, TAKES_ALL},
	{T_IncrementalSort, 0}, {T_Limit, 0}, {T_LockRows, 0}, {T_Material, 0}, {T_Memoize, 0},
	{T_RecursiveUnion, 0}, {T_SetOp, 0}, {T_Unique, 0},
};

/* The flags of a node, -1 when it is not known. */
static int
node_flags(const Plan *plan)
{
	int			i;

	for (i = 0; i < lengthof(kinds); i++)
	{
		if (kinds[i].tag == nodeTag(plan))
			return kinds[i].flags;
	}
	return -1;
}

/* Field with a list of child plans, NULL for nodes that have none. */
static List **
plan_children(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_Append:
			return &((Append *) plan)->appendplans;
		case T_MergeAppend:
			return &((MergeAppend *) plan)->mergeplans;
		case T_BitmapAnd:
			return &((BitmapAnd *) plan)->bitmapplans;
		case T_BitmapOr:
			return &((BitmapOr *) plan)->bitmapplans;
		case T_CustomScan:
			return &((CustomScan *) plan)->custom_plans;
		default:
			return NULL;
	}
}

/* What is known of a statement before its plans are changed. */
typedef struct Facts
{
	int			highest_node_id;
	Bitmapset  *whole;			/* numbers of the subplans that are always read to their end */
} Facts;

static bool
whole_walker(Node *node, void *context)
{
	Facts	   *facts = context;

	if (node == NULL)
		return false;
	if (IsA(node, SubPlan))
	{
		const SubPlan *subplan = (const SubPlan *) node;

		if (subplan->subLinkType == ARRAY_SUBLINK || subplan->useHashTable)
			facts->whole = bms_add_member(facts->whole, subplan->plan_id);
	}
	return expression_tree_walker(node, whole_walker, context);
}

static void
collect_facts(Plan *plan, Facts *facts)
{
	List	  **children;
	ListCell   *cell;

	if (plan == NULL)
		return;
	check_stack_depth();
	facts->highest_node_id = Max(facts->highest_node_id, plan->plan_node_id);
	whole_walker((Node *) plan->targetlist, facts);
	whole_walker((Node *) plan->qual, facts);
	whole_walker((Node *) plan->initPlan, facts);
	collect_facts(plan->lefttree, facts);
	collect_facts(plan->righttree, facts);
	if (IsA(plan, SubqueryScan))
		collect_facts(((SubqueryScan *) plan)->subplan, facts);
	children = plan_children(plan);
	if (children != NULL)
	{
		foreach(cell, *children)
			collect_facts(lfirst(cell), facts);
	}
}

/* Nodes that project their own target list and can be read ahead. */
static bool
can_wrap(Plan *plan)
{
	int			flags = node_flags(plan);

	if (flags < 0 || (flags & WRAPS) == 0)
		return IsA(plan, CustomScan) && ((CustomScan *) plan)->methods == &distil_batch_methods;
	switch (nodeTag(plan))
	{
			/* Without a child it is one row. */
		case T_Result:
			return outerPlan(plan) != NULL;
			/* Its conditions read the columns of its own target list by number. */
		case T_WindowAgg:
			return ((WindowAgg *) plan)->runCondition == NIL && plan->qual == NIL;
			/* Not when the remote side computes the columns or is asked asynchronously. */
		case T_ForeignScan:
			{
				ForeignScan *scan = (ForeignScan *) plan;

				return scan->operation == CMD_SELECT && scan->scan.scanrelid > 0 &&
					scan->fdw_scan_tlist == NIL && !plan->async_capable;
			}
		default:
			return true;
	}
}

/* ---------- one node ---------- */

/* What a cut changes in a plan node. */
typedef struct SavedPlan
{
	Plan		plan;
	Join		join;
} SavedPlan;

static bool
is_join(Plan *plan)
{
	return IsA(plan, NestLoop) || IsA(plan, MergeJoin) || IsA(plan, HashJoin);
}

static void
save_plan(SavedPlan *saved, Plan *plan)
{
	saved->plan = *plan;
	if (is_join(plan))
		saved->join = *(Join *) plan;
}

static void
restore_plan(Plan *plan, const SavedPlan *saved)
{
	if (is_join(plan))
		*(Join *) plan = saved->join;
	else
		*plan = saved->plan;
}

/*
 * How a node is to be run; ahead: nobody can tell that it reads rows of its child that are then not asked
 * for.  Parallel-aware only to get shared memory for what EXPLAIN shows.
 */
static void
finish_node(CustomScan *node, Place place, bool at_least, bool partial, bool ahead, DistilBatchLate late)
{
	node->custom_private = list_make5_int(place.rows_wanted, at_least, partial, ahead, place.whole);
	node->custom_private = lappend_int(node->custom_private, late);
	node->scan.plan.parallel_aware = place.in_worker;
}

/* All rows of a child are read for the first row of its parent. */
static void
take_all(Place *place)
{
	place->partial = false;
	place->first = false;
	place->rows_wanted = INT_MAX;
	place->whole = true;
}

/* Below a node that may ask for more rows than it is asked for. */
static Place
place_of_more(Place place)
{
	if (place.first || (place.rows_wanted > 0 && place.rows_wanted < INT_MAX))
	{
		place.partial = true;
		place.first = false;
		place.rows_wanted = 0;
	}
	return place;
}

static Plan *wrap_targetlist(Plan *plan, Place place, DistilBatchRewrite *rewrite);
static Plan *rewrite_plan(Plan *plan, Place place, DistilBatchRewrite *rewrite);

/*
 * The node that a cut of plan gave (NULL: there is none) above plan, whose new target list may have calls
 * again; at_least: it asks for more rows than it is asked for.  NULL, and the cut undone, where somebody can
 * tell that it reads ahead.
 */
static Plan *
finish_cut(CustomScan *node, Plan *plan, const SavedPlan *saved, Place place, bool at_least,
		   DistilBatchRewrite *rewrite)
{
	Place		below = at_least ? place_of_more(place) : place;
	Plan	   *child = plan;
	bool		ahead = false;

	if (node != NULL)
	{
		rewrite->next_node_id++;
		child = wrap_targetlist(plan, below, rewrite);
		ahead = distil_batch_reads_ahead(child);
	}
	if (node == NULL || (below.partial && !ahead))
	{
		restore_plan(plan, saved);
		return NULL;
	}
	rewrite->found = true;
	finish_node(node, place, at_least, below.partial, ahead, DISTIL_LATE_NEVER);
	node->scan.plan.lefttree = child;
	return &node->scan.plan;
}

/*
 * Wrap plan if its target list has calls.  A call in an argument of another one is then
 * in the target list of plan again: one node above the other.
 */
static Plan *
wrap_targetlist(Plan *plan, Place place, DistilBatchRewrite *rewrite)
{
	SavedPlan	saved;
	CustomScan *cut;
	Plan	   *node;

	if (!distil_batch_has_call(plan->targetlist))
		return plan;
	if (rewrite->look_only)
	{
		rewrite->found = true;
		return plan;
	}
	save_plan(&saved, plan);
	cut = distil_batch_split(plan, rewrite->next_node_id);
	node = finish_cut(cut, plan, &saved, place, false, rewrite);
	return node != NULL ? node : plan;
}

/* Wrap plan if its conditions have calls: one node for each such condition, the first lowest. */
static Plan *
wrap_conditions(Plan *plan, Place place, DistilBatchRewrite *rewrite)
{
	int			clause = distil_batch_condition(plan);
	SavedPlan	saved;
	CustomScan *cut;
	Plan	   *node;

	if (clause < 0)
		return plan;
	if (rewrite->look_only)
	{
		rewrite->found = true;
		return plan;
	}
	save_plan(&saved, plan);
	cut = distil_batch_split_condition(plan, clause, rewrite->next_node_id);
	node = finish_cut(cut, plan, &saved, place, true, rewrite);
	return node != NULL ? wrap_conditions(node, place, rewrite) : plan;
}

/* Whether WHERE CURRENT OF, which looks through this plan for the scan of a table, passes an Append. */
static bool
spans_tables(Plan *plan)
{
	while (plan != NULL && (IsA(plan, Result) || IsA(plan, Limit) || IsA(plan, SubqueryScan)))
		plan = IsA(plan, SubqueryScan) ? ((SubqueryScan *) plan)->subplan : outerPlan(plan);
	return plan != NULL && IsA(plan, Append);
}

static Plan *
wrap(Plan *plan, Place place, DistilBatchRewrite *rewrite)
{
	if (place.marked || !can_wrap(plan) || (place.updatable && spans_tables(plan)))
		return plan;
	if (IsA(plan, ValuesScan) && distil_batch_has_values_call((ValuesScan *) plan))
	{
		if (rewrite->look_only)
			rewrite->found = true;
		else
			distil_batch_expand_values((ValuesScan *) plan, rewrite->statement->rtable);
	}
	return wrap_targetlist(wrap_conditions(plan, place, rewrite), place, rewrite);
}

/*
 * A node above a ModifyTable whose RETURNING has calls.  All rows are written, whether or not they are
 * asked for; but volatile functions may see, row by row, what has been written.
 */
static Plan *
wrap_returning(ModifyTable *modify, bool whole, DistilBatchRewrite *rewrite)
{
	Place		place = {.rows_wanted = INT_MAX, .whole = whole};
	CustomScan *node;

	if (modify->returningLists == NIL || !distil_batch_has_call(linitial(modify->returningLists)) ||
		contain_volatile_functions((Node *) modify->returningLists))
		return &modify->plan;
	if (rewrite->look_only)
	{
		rewrite->found = true;
		return &modify->plan;
	}
	node = distil_batch_split_returning(modify, rewrite->next_node_id);
	if (node == NULL)
		return &modify->plan;
	rewrite->found = true;
	rewrite->next_node_id++;
	finish_node(node, place, false, place.partial, false, DISTIL_LATE_NEVER);
	return &node->scan.plan;
}

/* Whether further columns can be computed in a plan without more rows or calls of volatile functions. */
static bool
can_extend(Plan *plan)
{
	if (IsA(plan, ProjectSet) || contain_volatile_functions((Node *) plan->targetlist))
		return false;
	return IsA(plan, Sort) || IsA(plan, IncrementalSort) || can_wrap(plan);
}

static bool
has_input_call(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_Agg:
		case T_WindowAgg:
			return distil_batch_has_input_call(plan);
		case T_ModifyTable:
			return distil_batch_has_merge_call((ModifyTable *) plan);
		default:
			return false;
	}
}

/* What may be computed in child, below a node in this place. */
static DistilBatchBelow
below_node(Plan *child, Place place, DistilBatchLate late)
{
	DistilBatchBelow below = {
		.can_extend = can_extend(child),
		.harmless = place.partial,
		.late = late != DISTIL_LATE_NEVER
	};

	return below;
}

/*
 * A node has been put between plan and child: child may compute new expressions now, with calls again.  Their
 * errors would come too early for who reads late.
 */
static void
finish_input(CustomScan *node, Place place, DistilBatchLate late, DistilBatchRewrite *rewrite)
{
	Plan	   *child = outerPlan(&node->scan.plan);
	bool		early = late != DISTIL_LATE_NEVER && distil_batch_has_call(child->targetlist);

	rewrite->found = true;
	rewrite->next_node_id += 2;	/* a Result may have come with it */
	child = wrap(child, place, rewrite);
	node->scan.plan.lefttree = child;
	finish_node(node, place, false, place.partial, !early && distil_batch_reads_ahead(child), late);
}

/*
 * A node below an Agg or WindowAgg whose aggregates have calls in their arguments, or below a
 * MERGE.
 */
static void
wrap_input(Plan *plan, Place place, DistilBatchRewrite *rewrite)
{
	Plan	   *child = outerPlan(plan);
	bool		all = (place.whole && !place.partial) || IsA(plan, ModifyTable);
	DistilBatchLate late = all ? DISTIL_LATE_NEVER : DISTIL_LATE_LAST;
	DistilBatchBelow below;
	CustomScan *node;

	if (child == NULL || !has_input_call(plan))
		return;
	if (rewrite->look_only)
	{
		rewrite->found = true;
		return;
	}
	if (place.partial && !distil_batch_reads_ahead(child))
		return;
	below = below_node(child, place, late);
	if (IsA(plan, ModifyTable))
		node = distil_batch_split_merge((ModifyTable *) plan, rewrite->next_node_id, &below);
	else
		node = distil_batch_split_input(plan, rewrite->next_node_id, &below);
	if (node != NULL)
		finish_input(node, place, late, rewrite);
}

/* ---------- hash joins ---------- */

/*
 * Whether the first row of the outer side may be read before the inner side turns out to be empty: the
 * executor looks there first where that costs less, unless it reads all of one side anyway.
 */
static bool
looks_first(const HashJoin *join)
{
	switch (join->join.jointype)
	{
		case JOIN_LEFT:
		case JOIN_RIGHT:
		case JOIN_FULL:
		case JOIN_ANTI:
			return false;
		default:
			return outerPlan(join)->startup_cost < innerPlan(join)->total_cost;
	}
}

/*
 * Rewrite the outer side.  What is read ahead there must not show when the inner side is empty: so the inner
 * side is hashed first, by telling the executor what a first outer row costs, unless that could show too.
 */
static void
rewrite_outer(HashJoin *join, Place place, DistilBatchRewrite *rewrite)
{
	int			before = rewrite->next_node_id;
	bool		hash_first = place.first && distil_batch_runs_unasked(innerPlan(join)) &&
		distil_batch_evaluates_ahead((Node *) join->hashclauses);
	Plan	   *outer;

	if (hash_first)
		place.first = false;
	outer = rewrite_plan(outerPlan(join), place, rewrite);
	if (hash_first && rewrite->next_node_id > before)
	{
		outer->startup_cost = innerPlan(join)->total_cost;
		outer->total_cost = Max(outer->total_cost, outer->startup_cost);
	}
	outerPlan(join) = outer;
}

/* Whether all of the outer side may be read for the first row, as where the inner one takes over work_mem. */
static bool
outer_reads_ahead(const HashJoin *join)
{
	Plan	   *outer = outerPlan(join);

	return !IsA(outer, CustomScan) && distil_batch_reads_ahead(outer) &&
		distil_batch_evaluates_ahead((Node *) join->hashkeys) &&
		distil_batch_evaluates_ahead((Node *) join->join.joinqual);
}

/* A node below a HashJoin (plan: the join itself) or the Hash of it (plan) whose keys have calls. */
static void
wrap_keys(HashJoin *join, Plan *plan, Place place, DistilBatchLate late, DistilBatchRewrite *rewrite)
{
	Plan	   *child = outerPlan(plan);
	DistilBatchBelow below;
	CustomScan *node;

	if (!distil_batch_has_key_call(plan))
		return;
	if (rewrite->look_only)
	{
		rewrite->found = true;
		return;
	}
	if (place.partial && !distil_batch_reads_ahead(child))
		return;
	below = below_node(child, place, late);
	node = distil_batch_split_keys(join, plan, rewrite->next_node_id, &below);
	if (node != NULL)
		finish_input(node, place, late, rewrite);
}

/* The inner side of a hash join is read at once, and kept with the results of its calls. */
static void
wrap_join(HashJoin *join, Place left, Place right, DistilBatchRewrite *rewrite)
{
	bool		ahead = outer_reads_ahead(join);

	take_all(&right);
	right.whole = left.whole || ahead;
	if (ahead || !left.partial)
		wrap_keys(join, innerPlan(join), right, right.whole ? DISTIL_LATE_NEVER : DISTIL_LATE_KEPT, rewrite);
	wrap_keys(join, &join->join.plan, left, DISTIL_LATE_FIRST, rewrite);
}

/* ---------- the whole plan ---------- */

/* Rows that a Limit with constants takes from its child, 0 if that is not known. */
static int
limit_rows(const Limit *limit)
{
	const Const *count = (const Const *) limit->limitCount;
	const Const *offset = (const Const *) limit->limitOffset;
	int64		rows;

	if (limit->limitOption != LIMIT_OPTION_COUNT || count == NULL || !IsA(count, Const) || count->constisnull)
		return 0;
	rows = DatumGetInt64(count->constvalue);
	if (offset != NULL)
	{
		if (!IsA(offset, Const) || offset->constisnull ||
			pg_add_s64_overflow(rows, DatumGetInt64(offset->constvalue), &rows))
			return 0;
	}
	return rows > 0 && rows < INT_MAX ? (int) rows : 0;
}

/* A Limit without a count, only an offset, takes all rows. */
static bool
is_offset(const Limit *limit)
{
	return limit->limitCount == NULL ||
		(IsA(limit->limitCount, Const) && ((const Const *) limit->limitCount)->constisnull);
}

/* What a node says of the places of its two children. */
static void
places_below(Plan *plan, Place place, Place *left, Place *right)
{
	int			flags = node_flags(plan);

	*left = place;
	left->marked = false;
	left->updatable = place.updatable && (IsA(plan, Result) || IsA(plan, Limit) ||
										  IsA(plan, SubqueryScan) || IsA(plan, Append));
	if ((flags & KEEPS_ROWS) == 0 || plan->qual != NIL)
	{
		*left = place_of_more(*left);
		left->rows_wanted = 0;
	}
	if ((flags & TAKES_ALL) != 0)
		take_all(left);
	*right = *left;
	switch (nodeTag(plan))
	{
		case T_Limit:
			if (is_offset((Limit *) plan))
				break;
			left->rows_wanted = limit_rows((Limit *) plan);
			left->partial = place.partial || place.first || left->rows_wanted == 0 ||
				(place.rows_wanted > 0 && place.rows_wanted < left->rows_wanted);
			break;
		case T_Agg:
			if (((Agg *) plan)->aggstrategy == AGG_PLAIN || ((Agg *) plan)->aggstrategy == AGG_HASHED)
				take_all(left);
			break;
			/* Only with RETURNING can it be left before its end. */
		case T_ModifyTable:
			left->whole = place.whole || ((ModifyTable *) plan)->returningLists == NIL;
			break;
			/* A child is asked for what those before it did not have. */
		case T_Append:
		case T_MergeAppend:
			left->partial = left->partial || (left->rows_wanted > 0 && left->rows_wanted < INT_MAX);
			break;
			/* The right side (PostgreSQL 18) may be left where the left one ends. */
		case T_SetOp:
			right->partial = right->partial || ((SetOp *) plan)->strategy == SETOP_SORTED;
			break;
			/* It ends when its condition on the row's number does not hold any more. */
		case T_WindowAgg:
			left->partial = left->partial || ((WindowAgg *) plan)->runCondition != NIL;
			break;
		case T_Gather:
		case T_GatherMerge:
			left->in_worker = true;
			break;
			/* Passes marks on to its child. */
		case T_Result:
			left->marked = place.marked;
			break;
		case T_HashJoin:
			left->first = !left->partial && looks_first((HashJoin *) plan);
			/* FALLTHROUGH */
			/* The inner side may be left at its first match. */
		case T_NestLoop:
			if (((Join *) plan)->inner_unique || ((Join *) plan)->jointype == JOIN_SEMI ||
				((Join *) plan)->jointype == JOIN_ANTI)
				right->partial = true;
			break;
		case T_MergeJoin:
			left->partial = true;
			right->partial = true;
			right->marked = !((MergeJoin *) plan)->skip_mark_restore;
			break;
		default:
			break;
	}
}

static Plan *
rewrite_plan(Plan *plan, Place place, DistilBatchRewrite *rewrite)
{
	List	  **children;
	ListCell   *cell;
	Place		left;
	Place		right;

	if (plan == NULL || node_flags(plan) < 0 || (rewrite->look_only && rewrite->found))
		return plan;
	check_stack_depth();
	places_below(plan, place, &left, &right);
	/* What a ForeignScan has below it is run for one row again, after a concurrent update. */
	if (!IsA(plan, ForeignScan))
	{
		if (IsA(plan, HashJoin))
			rewrite_outer((HashJoin *) plan, left, rewrite);
		else
			plan->lefttree = rewrite_plan(plan->lefttree, left, rewrite);
		plan->righttree = rewrite_plan(plan->righttree, right, rewrite);
	}
	if (IsA(plan, SubqueryScan))
		((SubqueryScan *) plan)->subplan = rewrite_plan(((SubqueryScan *) plan)->subplan, left, rewrite);
	children = plan_children(plan);
	if (children != NULL)
	{
		foreach(cell, *children)
			lfirst(cell) = rewrite_plan(lfirst(cell), left, rewrite);
	}
	wrap_input(plan, left, rewrite);
	if (IsA(plan, HashJoin))
		wrap_join((HashJoin *) plan, left, right, rewrite);
	if (IsA(plan, ModifyTable))
		return wrap_returning((ModifyTable *) plan, place.whole, rewrite);
	return wrap(plan, place, rewrite);
}

/*
 * Most subplans may be left before their end (EXISTS, CTE).  Just-in-time compilation goes: it was
 * chosen for costs that are the calls', which it cannot speed up, and would take longer than a
 * small batch.
 */
void
distil_batch_rewrite(PlannedStmt *statement, DistilBatchRewrite *rewrite)
{
	/* With row marks, WHERE CURRENT OF looks at these. */
	Place		place = {
		.partial = rewrite->partial,
		.updatable = rewrite->updatable && statement->rowMarks == NIL
	};
	Facts		facts = {0};
	ListCell   *cell;

	collect_facts(statement->planTree, &facts);
	foreach(cell, statement->subplans)
		collect_facts(lfirst(cell), &facts);
	rewrite->statement = statement;
	rewrite->next_node_id = facts.highest_node_id + 1;

	statement->planTree = rewrite_plan(statement->planTree, place, rewrite);
	place.updatable = false;
	foreach(cell, statement->subplans)
	{
		bool		whole = bms_is_member(foreach_current_index(cell) + 1, facts.whole);

		/* What a CTE writes is written whether or not it is read to its end. */
		place.whole = whole || (lfirst(cell) != NULL && IsA(lfirst(cell), ModifyTable));
		place.partial = !whole;
		place.rows_wanted = whole ? INT_MAX : 0;
		lfirst(cell) = rewrite_plan(lfirst(cell), place, rewrite);
	}
	if (rewrite->found && !rewrite->look_only)
		statement->jitFlags = PGJIT_NONE;
}
