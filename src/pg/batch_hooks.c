/*
 * batch_hooks.c
 *		Planner and executor hooks: which statements get DistilBatch nodes, when, and where their rows go.
 *
 * Plans are rewritten when they are made.  The statement that makes the server load this
 * library is planned before the hook is there: it is rewritten when it starts.  A plan given to
 * the executor may belong to the plan cache, so it is copied before a change; a plan that the
 * hook has seen is left as it is, for only the planner knows all options of a cursor.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "executor/executor.h"
#include "optimizer/planner.h"
#include "tcop/pquery.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "batch_plan.h"
#include "compat.h"
#include "guc.h"

static planner_hook_type previous_planner = NULL;
static ExecutorStart_hook_type previous_executor_start = NULL;
static ExecutorRun_hook_type previous_executor_run = NULL;

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

/* ---------- plans the hook has seen ---------- */

/* They depend on the support function too, which no plan does by itself. */
static uint32
mark_value(void)
{
	return GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(distil_batch_support()));
}

static void
mark_seen(PlannedStmt *statement)
{
	PlanInvalItem *item;

	if (!OidIsValid(distil_batch_support()))
		return;
	item = makeNode(PlanInvalItem);
	item->cacheId = PROCOID;
	item->hashValue = mark_value();
	statement->invalItems = lappend(statement->invalItems, item);
}

static bool
is_seen(const PlannedStmt *statement)
{
	uint32		value;
	ListCell   *cell;

	if (!OidIsValid(distil_batch_support()))
		return false;
	value = mark_value();
	foreach(cell, statement->invalItems)
	{
		const PlanInvalItem *item = lfirst_node(PlanInvalItem, cell);

		if (item->cacheId == PROCOID && item->hashValue == value)
			return true;
	}
	return false;
}

/* ---------- hooks ---------- */

static PlannedStmt *
batch_planner(Query *parse, const char *query_string, int cursor_options, ParamListInfo bound_params)
{
	const int	cursor = CURSOR_OPT_NO_SCROLL | CURSOR_OPT_HOLD | CURSOR_OPT_FAST_PLAN;
	PlannedStmt *statement;
	DistilBatchRewrite rewrite = {0};

	if (previous_planner)
		statement = previous_planner(parse, query_string, cursor_options, bound_params);
	else
		statement = standard_planner(parse, query_string, cursor_options, bound_params);

	if (!calls_functions(statement))
		return statement;
	/*
	 * A scrollable cursor was planned for reading backward.  What may be parallel is no cursor: PL/pgSQL
	 * asks for NO SCROLL for PERFORM too.
	 */
	rewrite.partial = (cursor_options & cursor) != 0 && (cursor_options & CURSOR_OPT_PARALLEL_OK) == 0;
	/* The option that all cursors with a name have. */
	rewrite.updatable = rewrite.partial && (cursor_options & CURSOR_OPT_FAST_PLAN) != 0;
	if (distil_batch && (cursor_options & CURSOR_OPT_SCROLL) == 0)
		distil_batch_rewrite(statement, &rewrite);
	mark_seen(statement);
	return statement;
}

/* Whether the statement that starts may be that of a cursor with a name. */
static bool
may_be_cursor(const QueryDesc *query)
{
	return query->operation == CMD_SELECT && ActivePortal != NULL &&
		(ActivePortal->cursorOptions & (CURSOR_OPT_HOLD | CURSOR_OPT_FAST_PLAN)) != 0;
}

/* Each time for a plan of the plan cache that was made before this library was there. */
static void
batch_executor_start(QueryDesc *query, int eflags)
{
	if (distil_batch && (eflags & EXEC_FLAG_BACKWARD) == 0 && !IsParallelWorker() &&
		calls_functions(query->plannedstmt) && !is_seen(query->plannedstmt))
	{
		DistilBatchRewrite look = {.look_only = true};

		distil_batch_rewrite(query->plannedstmt, &look);
		if (look.found && !is_seen(query->plannedstmt))
		{
			MemoryContext old_context = MemoryContextSwitchTo(GetMemoryChunkContext(query));
			bool		cursor = may_be_cursor(query);
			DistilBatchRewrite rewrite = {.partial = cursor, .updatable = cursor};

			query->plannedstmt = copyObject(query->plannedstmt);
			distil_batch_rewrite(query->plannedstmt, &rewrite);
			MemoryContextSwitchTo(old_context);
		}
	}
	if (previous_executor_start)
		previous_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
}

static void
batch_executor_run(DISTIL_EXECUTOR_RUN_PARAMETERS)
{
	DestReceiver *client = query->dest;
	DestReceiver *own = calls_functions(query->plannedstmt) ? distil_batch_receiver(query) : NULL;
	bool		counted = distil_batch_set_counted(count != 0);

	if (own != NULL)
		query->dest = own;
	PG_TRY();
	{
		if (previous_executor_run)
			previous_executor_run(DISTIL_EXECUTOR_RUN_ARGUMENTS);
		else
			standard_ExecutorRun(DISTIL_EXECUTOR_RUN_ARGUMENTS);
	}
	PG_FINALLY();
	{
		distil_batch_set_counted(counted);
	}
	PG_END_TRY();
	if (own != NULL)
	{
		query->dest = client;
		own->rDestroy(own);
	}
}

void
distil_batch_hooks_init(void)
{
	previous_planner = planner_hook;
	planner_hook = batch_planner;
	previous_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = batch_executor_start;
	previous_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = batch_executor_run;
}
