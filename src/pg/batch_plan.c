/*
 * batch_plan.c
 *		Walks finished plans and puts DistilBatch above nodes whose target list calls ours.
 *
 * Finished plans and not paths: final target lists are attached only when paths become
 * plans.  The new node returns the old output column for column, so nothing above changes.
 *
 * Rules that keep this right:
 *	- A plan given to the executor may belong to the plan cache: it is copied before a change.
 *	- Nodes this file does not know are neither wrapped nor descended into.
 *	- Node numbers must be unique in the statement: instrumentation and workers use them.
 *	- The node reads ahead.  It has no backward scan and no mark, and under a LIMIT or in a
 *	  cursor nothing volatile may be read ahead.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "common/int.h"
#include "executor/executor.h"
#include "jit/jit.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "batch_plan.h"
#include "guc.h"

/* What is known of a place in the plan from the nodes above it. */
typedef struct Place
{
	bool		partial;		/* not all rows may be asked for */
	bool		marked;			/* must support mark and restore */
	bool		in_worker;		/* below a Gather */
	int			rows_wanted;	/* rows that are asked for, if so many exist; INT_MAX: all; 0: unknown */
} Place;

typedef struct Rewrite
{
	bool		look_only;		/* change nothing, stop at the first node that would be made */
	bool		found;
	int			next_node_id;
} Rewrite;

static planner_hook_type previous_planner = NULL;
static ExecutorStart_hook_type previous_executor_start = NULL;

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

static int
highest_node_id(Plan *plan)
{
	List	  **children;
	ListCell   *cell;
	int			highest;

	if (plan == NULL)
		return 0;
	check_stack_depth();
	highest = Max(plan->plan_node_id, highest_node_id(plan->lefttree));
	highest = Max(highest, highest_node_id(plan->righttree));
	if (IsA(plan, SubqueryScan))
		highest = Max(highest, highest_node_id(((SubqueryScan *) plan)->subplan));
	children = plan_children(plan);
	if (children != NULL)
	{
		foreach(cell, *children)
			highest = Max(highest, highest_node_id(lfirst(cell)));
	}
	return highest;
}

/* Nodes that project their own target list and can be read ahead. */
static bool
can_wrap(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_SeqScan:
		case T_SampleScan:
		case T_IndexScan:
		case T_IndexOnlyScan:
		case T_BitmapHeapScan:
		case T_TidScan:
		case T_TidRangeScan:
		case T_SubqueryScan:
		case T_FunctionScan:
		case T_TableFuncScan:
		case T_ValuesScan:
		case T_CteScan:
		case T_NamedTuplestoreScan:
		case T_WorkTableScan:
		case T_NestLoop:
		case T_MergeJoin:
		case T_HashJoin:
		case T_Gather:
		case T_GatherMerge:
		case T_Agg:
		case T_Group:
			return true;
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
			return false;
	}
}

/*
 * Wrap plan if its target list has calls.  A call in an argument of another one is then
 * in the target list of plan again: one node above the other.
 */
static Plan *
wrap(Plan *plan, Place place, Rewrite *rewrite)
{
	CustomScan *node;

	if (place.marked || !can_wrap(plan) || !distil_batch_has_call(plan->targetlist))
		return plan;
	if (place.partial && (contain_volatile_functions((Node *) plan->targetlist) ||
						  contain_volatile_functions((Node *) plan->qual)))
		return plan;
	rewrite->found = true;
	if (rewrite->look_only)
		return plan;
	node = distil_batch_split(plan, rewrite->next_node_id++);
	node->custom_private = list_make1_int(place.rows_wanted);
	/* Parallel-aware only to get shared memory in which workers add up what EXPLAIN shows. */
	node->scan.plan.parallel_aware = place.in_worker;
	node->scan.plan.lefttree = wrap(plan, place, rewrite);
	return &node->scan.plan;
}

/* Whether further columns can be computed in a plan without more rows or calls of volatile functions. */
static bool
can_extend(Plan *plan)
{
	if (contain_volatile_functions((Node *) plan->targetlist))
		return false;
	return IsA(plan, Sort) ? can_extend(outerPlan(plan)) : can_wrap(plan);
}

/*
 * A node below an Agg whose aggregates have calls in their arguments.  The arguments of these
 * may be new expressions of the child, with calls again.
 */
static void
wrap_aggregate_input(Agg *agg, Place place, Rewrite *rewrite)
{
	Plan	   *child = outerPlan(agg);
	CustomScan *node;

	if (!distil_batch_has_aggregate_call(agg))
		return;
	if (place.partial && (contain_volatile_functions((Node *) agg->plan.targetlist) ||
						  contain_volatile_functions((Node *) child->targetlist)))
		return;
	if (rewrite->look_only)
	{
		rewrite->found = true;
		return;
	}
	node = distil_batch_split_aggregate(agg, rewrite->next_node_id, can_extend(child));
	if (node == NULL)
		return;
	rewrite->found = true;
	rewrite->next_node_id++;
	node->custom_private = list_make1_int(place.rows_wanted);
	node->scan.plan.parallel_aware = place.in_worker;
	if (IsA(child, Sort))
		outerPlan(child) = wrap(outerPlan(child), place, rewrite);
	node->scan.plan.lefttree = wrap(child, place, rewrite);
}

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

/* Nodes that ask their children for no other number of rows than they are asked for themselves. */
static bool
keeps_rows_wanted(Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_Append:
		case T_MergeAppend:
			return true;
		case T_Result:
		case T_SubqueryScan:
			return plan->qual == NIL;
		default:
			return false;
	}
}

/* What a node says of the places of its two children. */
static void
places_below(Plan *plan, Place place, Place *left, Place *right)
{
	*left = place;
	left->marked = false;
	if (!keeps_rows_wanted(plan))
		left->rows_wanted = 0;
	*right = *left;
	switch (nodeTag(plan))
	{
		case T_Limit:
			left->partial = true;
			left->rows_wanted = limit_rows((Limit *) plan);
			break;
			/* These read all of their input. */
		case T_Sort:
		case T_Hash:
		case T_ModifyTable:
			left->partial = false;
			left->rows_wanted = INT_MAX;
			break;
		case T_Agg:
			if (((Agg *) plan)->aggstrategy == AGG_PLAIN || ((Agg *) plan)->aggstrategy == AGG_HASHED)
			{
				left->partial = false;
				left->rows_wanted = INT_MAX;
			}
			break;
		case T_Gather:
		case T_GatherMerge:
			left->in_worker = true;
			break;
			/* Passes marks on to its child. */
		case T_Result:
			left->marked = place.marked;
			break;
		case T_NestLoop:
		case T_HashJoin:
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
rewrite_plan(Plan *plan, Place place, Rewrite *rewrite)
{
	List	  **children;
	ListCell   *cell;
	Place		left;
	Place		right;

	if (plan == NULL || (rewrite->look_only && rewrite->found))
		return plan;
	check_stack_depth();
	places_below(plan, place, &left, &right);
	plan->lefttree = rewrite_plan(plan->lefttree, left, rewrite);
	plan->righttree = rewrite_plan(plan->righttree, right, rewrite);
	if (IsA(plan, SubqueryScan))
		((SubqueryScan *) plan)->subplan = rewrite_plan(((SubqueryScan *) plan)->subplan, left, rewrite);
	children = plan_children(plan);
	if (children != NULL)
	{
		foreach(cell, *children)
			lfirst(cell) = rewrite_plan(lfirst(cell), left, rewrite);
	}
	if (IsA(plan, Agg))
		wrap_aggregate_input((Agg *) plan, left, rewrite);
	return wrap(plan, place, rewrite);
}

/*
 * Rewrite the main plan and the subplans; those may be left before their end (EXISTS, CTE).
 * Just-in-time compilation goes: it was chosen for costs that are the calls', which it cannot
 * speed up, and would take longer than a small batch.
 */
static void
rewrite_statement(PlannedStmt *statement, bool in_cursor, Rewrite *rewrite)
{
	Place		place = {.partial = in_cursor};
	ListCell   *cell;

	rewrite->next_node_id = highest_node_id(statement->planTree);
	foreach(cell, statement->subplans)
		rewrite->next_node_id = Max(rewrite->next_node_id, highest_node_id(lfirst(cell)));
	rewrite->next_node_id++;

	statement->planTree = rewrite_plan(statement->planTree, place, rewrite);
	place.partial = true;
	foreach(cell, statement->subplans)
		lfirst(cell) = rewrite_plan(lfirst(cell), place, rewrite);
	if (rewrite->found && !rewrite->look_only)
		statement->jitFlags = PGJIT_NONE;
}

/*
 * A plan depends on each function that is not built in, and says so in its list of
 * invalidation items: no such item, no call of ours.  This is what most statements pay.
 */
static bool
calls_functions(const PlannedStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->invalItems)
	{
		if (lfirst_node(PlanInvalItem, cell)->cacheId == PROCOID)
			return true;
	}
	return false;
}

static PlannedStmt *
batch_planner(Query *parse, const char *query_string, int cursor_options, ParamListInfo bound_params)
{
	const int	cursor = CURSOR_OPT_NO_SCROLL | CURSOR_OPT_HOLD | CURSOR_OPT_FAST_PLAN;
	PlannedStmt *statement;
	Rewrite		rewrite = {0};

	if (previous_planner)
		statement = previous_planner(parse, query_string, cursor_options, bound_params);
	else
		statement = standard_planner(parse, query_string, cursor_options, bound_params);

	/* A scrollable cursor was planned for reading backward. */
	if (distil_batch && (cursor_options & CURSOR_OPT_SCROLL) == 0 && calls_functions(statement))
		rewrite_statement(statement, (cursor_options & cursor) != 0, &rewrite);
	return statement;
}

/*
 * The statement that made the server load this library was planned without the hook
 * above, and a plan cache may keep it: rewrite a copy each time.  A plan that the hook
 * has seen has nothing left to rewrite.
 */
static void
batch_executor_start(QueryDesc *query, int eflags)
{
	if (distil_batch && (eflags & EXEC_FLAG_BACKWARD) == 0 && !IsParallelWorker() &&
		calls_functions(query->plannedstmt))
	{
		Rewrite		look = {.look_only = true};

		rewrite_statement(query->plannedstmt, false, &look);
		if (look.found)
		{
			MemoryContext old_context = MemoryContextSwitchTo(GetMemoryChunkContext(query));
			Rewrite		rewrite = {0};

			query->plannedstmt = copyObject(query->plannedstmt);
			rewrite_statement(query->plannedstmt, false, &rewrite);
			MemoryContextSwitchTo(old_context);
		}
	}
	if (previous_executor_start)
		previous_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
}

void
distil_batch_plan_init(void)
{
	previous_planner = planner_hook;
	planner_hook = batch_planner;
	previous_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = batch_executor_start;
}
