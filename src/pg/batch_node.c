/*
 * batch_node.c
 *		The plan node DistilBatch: reads rows of its child ahead and runs each call on all of them.
 *
 * The scan tuple has the child's columns, then one column per call (batch_split.c).  Rows
 * are buffered as minimal tuples with the detoasted arguments and the results in one
 * context that is reset before each refill; they leave in the order they came.
 *
 * Refills start with one row after each (re)scan and grow, so that LIMIT 1 or EXISTS does
 * not pay for hundreds, unless the plan says how many rows are wanted.  The calls are no
 * expressions of the executor: this node itself checks EXECUTE rights and strictness.
 *
 * An error belongs to its row.  When a run over many rows fails, it is undone as a
 * subtransaction and each row is run by itself when it is due; a row that nobody asks for
 * cannot fail.  A node of this kind above, which reads ahead itself, is told of the error
 * as if the rows ended and comes back when the row is due there.
 *
 * Who reads late (batch_input.c) gets NULL for the calls on rows of a run that failed.
 *
 * Below a Gather the node is parallel-aware, for one purpose: workers add their counts
 * in shared memory (batch_report.c).
 */
#include "postgres.h"

#include "access/relscan.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#include "batch_node.h"
#include "compat.h"
#include "guc.h"
#include "threads.h"

#define BATCH_GROWTH 4			/* each refill takes this many times the rows of the one before */

static Node *create_state(CustomScan *node);
static const CustomExecMethods exec_methods;

static bool rows_counted = false;	/* see distil_batch_set_counted() */

const CustomScanMethods distil_batch_methods = {
	.CustomName = "DistilBatch",
	.CreateCustomScanState = create_state
};

/* ---------- start ---------- */

/* Rows that a refill may take: what the settings say, fewer when the results are large. */
static int
most_rows(const DistilBatchState *state)
{
	return distil_batch ? Min(distil_batch_rows, state->ceiling) : 1;
}

/* Size of the first refill. */
static void
restart(DistilBatchState *state)
{
	state->done = false;
	state->given = 0;
	state->target = state->wanted > 0 ? state->wanted : 1;
}

/* Size of the next refill: what is still wanted, or growing; less when results took over work_mem. */
static void
choose_target(DistilBatchState *state)
{
	Size		used = MemoryContextMemAllocated(state->buffer, true);
	Size		allowed = (Size) work_mem * 1024;

	if (used > allowed)
		state->ceiling = Max(1, (int) (state->nrows * ((double) allowed / used)));
	state->given = state->given > INT_MAX - state->nrows ? INT_MAX : state->given + state->nrows;
	if (state->wanted > state->given)
		state->target = state->wanted - state->given;
	else if (!state->at_least && state->wanted > state->given - state->nrows)
		state->target = 1;
	else
		state->target = Min(state->target, DISTIL_MAX_BATCH_ROWS) * BATCH_GROWTH;
}

/* As ExecInitFunc does for a call that is an expression. */
static void
check_execute(Oid funcid)
{
	AclResult	result = DISTIL_FUNCTION_ACLCHECK(funcid, GetUserId());

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, get_func_name(funcid));
	InvokeFunctionExecuteHook(funcid);
}

/* Index of the column that feeds argument arg; calls with the same argument share it. */
static int
find_column(DistilBatchState *state, Expr *arg)
{
	AttrNumber	number = IsA(arg, Var) ? ((Var *) arg)->varattno : 0;
	BatchColumn *column;
	int			i;

	for (i = 0; number > 0 && i < state->ncolumns; i++)
	{
		if (state->columns[i].number == number)
			return i;
	}
	column = &state->columns[state->ncolumns];
	column->number = number;
	column->type = exprType((Node *) arg);
	column->is_varlena = get_typlen(column->type) == -1;
	column->constant = number > 0 ? NULL : ExecInitExpr(arg, &state->css.ss.ps);
	return state->ncolumns++;
}

static void
init_call(DistilBatchState *state, BatchFunctionCall *call, FuncExpr *expr)
{
	ListCell   *cell;

	if (!distil_batch_callee(expr->funcid, &call->callee))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("function with OID %u was altered after the statement was planned", expr->funcid),
				 errhint("Repeat the statement.")));
	check_execute(expr->funcid);
	foreach(cell, expr->args)
		call->args[call->nargs++] = find_column(state, lfirst(cell));
}

/* The child if it is a node of this kind. */
static DistilBatchState *
child_state(const DistilBatchState *state)
{
	PlanState  *child = outerPlanState(&state->css);

	return IsA(child, CustomScanState) && ((CustomScanState *) child)->methods == &exec_methods ?
		(DistilBatchState *) child : NULL;
}

/*
 * Above the scan of one table this node stands for it: WHERE CURRENT OF looks for the row returned last, and
 * finds this node instead of those that it would look through.
 */
static void
note_table(DistilBatchState *state)
{
	PlanState  *child = outerPlanState(&state->css);

	while (IsA(child, LimitState) || IsA(child, SubqueryScanState) ||
		   (IsA(child, ResultState) && outerPlanState(child) != NULL))
		child = IsA(child, SubqueryScanState) ? ((SubqueryScanState *) child)->subplan
			: outerPlanState(child);
	switch (nodeTag(child))
	{
		case T_SeqScanState:
		case T_SampleScanState:
		case T_IndexScanState:
		case T_IndexOnlyScanState:
		case T_BitmapHeapScanState:
		case T_TidScanState:
		case T_TidRangeScanState:
			state->table = (ScanState *) child;
			break;
		case T_CustomScanState:
			if (((CustomScanState *) child)->methods == &exec_methods &&
				((ScanState *) child)->ss_currentRelation != NULL)
				state->table = (ScanState *) child;
			break;
		default:
			break;
	}
	if (state->table != NULL)
		state->css.ss.ss_currentRelation = state->table->ss_currentRelation;
}

static void
begin_scan(CustomScanState *node, EState *estate, int eflags)
{
	DistilBatchState *state = (DistilBatchState *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	ListCell   *cell;
	int			ncolumns = list_length(plan->custom_scan_tlist);

	Assert(!(eflags & (EXEC_FLAG_BACKWARD | EXEC_FLAG_MARK)));
	outerPlanState(node) = ExecInitNode(outerPlan(plan), estate, eflags);
	/* What nobody read of a writing CTE is read when the statement ends: by this node, for its errors. */
	foreach(cell, estate->es_auxmodifytables)
	{
		if (lfirst(cell) == outerPlanState(node))
			lfirst(cell) = node;
	}

	state->calls = palloc0(sizeof(BatchFunctionCall) * ncolumns);
	state->columns = palloc0(sizeof(BatchColumn) * ncolumns * DISTIL_BATCH_MAX_ARGS);
	foreach(cell, plan->custom_scan_tlist)
	{
		Expr	   *expr = lfirst_node(TargetEntry, cell)->expr;

		if (IsA(expr, FuncExpr))
			init_call(state, &state->calls[state->ncalls++], (FuncExpr *) expr);
		else
			state->nchild++;
	}

	note_table(state);
	state->buffer = AllocSetContextCreate(estate->es_query_cxt, "DistilBatch rows", ALLOCSET_DEFAULT_SIZES);
	state->row_slot = ExecInitExtraTupleSlot(estate, ExecGetResultType(outerPlanState(node)),
											 &TTSOpsMinimalTuple);
	state->wanted = list_nth_int(plan->custom_private, DISTIL_BATCH_ROWS);
	state->at_least = list_nth_int(plan->custom_private, DISTIL_BATCH_AT_LEAST) != 0;
	state->partial = list_nth_int(plan->custom_private, DISTIL_BATCH_PARTIAL) != 0;
	state->ahead = list_nth_int(plan->custom_private, DISTIL_BATCH_AHEAD) != 0;
	state->whole = list_nth_int(plan->custom_private, DISTIL_BATCH_WHOLE) != 0;
	state->late = list_nth_int(plan->custom_private, DISTIL_BATCH_LATE);
	/* A Limit cannot tell a Sort below this node that it may keep the first rows only. */
	if (state->wanted > 0 && state->wanted < INT_MAX && !state->at_least)
		ExecSetTupleBound(state->wanted, outerPlanState(node));
	state->ceiling = INT_MAX;
	restart(state);
}

/* ---------- refill ---------- */

static void
forget_rows(DistilBatchState *state)
{
	ExecClearTuple(state->row_slot);
	ExecClearTuple(state->css.ss.ss_ScanTupleSlot);
	MemoryContextReset(state->buffer);
	state->rows = NULL;
	state->nrows = 0;
	state->next = 0;
	state->row_wise = false;
}

/* Arguments of the row in row_slot; returns the bytes they took besides the row. */
static Size
read_arguments(DistilBatchState *state, int row)
{
	Size		bytes = 0;
	int			i;

	for (i = 0; i < state->ncolumns; i++)
	{
		BatchColumn *column = &state->columns[i];
		Datum		value;

		if (column->constant != NULL)
			continue;
		value = slot_getattr(state->row_slot, column->number, &column->nulls[row]);
		if (!column->nulls[row] && column->is_varlena)
		{
			struct varlena *stored = (struct varlena *) DatumGetPointer(value);
			struct varlena *plain;

			/* Text functions take short headers, others may want alignment. */
			plain = column->type == TEXTOID ? pg_detoast_datum_packed(stored) : pg_detoast_datum(stored);
			if (plain != stored)
				bytes += VARSIZE_ANY(plain);
			value = PointerGetDatum(plain);
		}
		column->values[row] = value;
	}
	return bytes;
}

/* Constants and parameters: one evaluation, the value in each row of the column. */
static void
read_constants(DistilBatchState *state)
{
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;
	int			i;
	int			row;

	for (i = 0; i < state->ncolumns; i++)
	{
		BatchColumn *column = &state->columns[i];
		Datum		value;
		bool		isnull;

		if (column->constant == NULL)
			continue;
		value = ExecEvalExpr(column->constant, econtext, &isnull);
		for (row = 0; row < state->nrows; row++)
		{
			column->values[row] = value;
			column->nulls[row] = isnull;
		}
	}
}

/* Where in its table the row is that the child has just returned. */
static void
note_place(DistilBatchState *state, int row)
{
	if (state->table == NULL)
		return;
	if (IsA(state->table, IndexOnlyScanState))
		state->places[row] = ((IndexOnlyScanState *) state->table)->ioss_ScanDesc->xs_heaptid;
	else
		state->places[row] = state->table->ss_ScanTupleSlot->tts_tid;
}

/* Read up to target rows, fewer when they get long or the next one has an error. */
static void
read_rows(DistilBatchState *state, int target)
{
	const Size	limit = (Size) work_mem * 1024 / 4;
	PlanState  *child = outerPlanState(&state->css);
	DistilBatchState *same_kind = child_state(state);
	Size		bytes = 0;
	int			i;

	state->rows = MemoryContextAlloc(state->buffer, sizeof(MinimalTuple) * target);
	state->places = MemoryContextAlloc(state->buffer, sizeof(ItemPointerData) * target);
	for (i = 0; i < state->ncolumns; i++)
	{
		state->columns[i].values = MemoryContextAlloc(state->buffer, sizeof(Datum) * target);
		state->columns[i].nulls = MemoryContextAlloc(state->buffer, sizeof(bool) * target);
	}
	while (state->nrows < target && bytes < limit)
	{
		TupleTableSlot *slot;
		MemoryContext old_context;
		MinimalTuple row;

		CHECK_FOR_INTERRUPTS();
		if (same_kind != NULL)
			same_kind->deferring = state->deferring || state->nrows > 0;
		slot = ExecProcNode(child);
		if (TupIsNull(slot))
		{
			state->done = same_kind == NULL || !same_kind->deferred;
			state->deferred = state->nrows == 0 && !state->done;
			break;
		}
		note_place(state, state->nrows);
		old_context = MemoryContextSwitchTo(state->buffer);
		row = ExecCopySlotMinimalTuple(slot);
		ExecForceStoreMinimalTuple(row, state->row_slot, false);
		bytes += row->t_len + read_arguments(state, state->nrows);
		state->rows[state->nrows++] = row;
		MemoryContextSwitchTo(old_context);
	}
	ExecClearTuple(state->row_slot);
}

/* Run one call on those of count rows that need it: all, or for a strict function those without a NULL. */
static void
run_call(DistilBatchState *state, BatchFunctionCall *call, int first, int count)
{
	DistilBatchArgs args = {0};
	Datum	   *results = palloc0(sizeof(Datum) * count);
	bool	   *nulls = palloc0(sizeof(bool) * count);
	int		   *wanted = palloc(sizeof(int) * count);
	int			row;
	int			i;

	args.nargs = call->nargs;
	args.results = results;
	args.result_nulls = nulls;
	for (i = 0; i < call->nargs; i++)
	{
		args.values[i] = palloc(sizeof(Datum) * count);
		args.nulls[i] = palloc(sizeof(bool) * count);
	}
	for (row = first; row < first + count; row++)
	{
		bool		has_null = false;

		call->nulls[row] = true;
		for (i = 0; i < call->nargs; i++)
		{
			BatchColumn *column = &state->columns[call->args[i]];

			args.values[i][args.nrows] = column->values[row];
			args.nulls[i][args.nrows] = column->nulls[row];
			has_null |= column->nulls[row];
		}
		if (!has_null || !call->callee.strict)
			wanted[args.nrows++] = row;
	}
	if (args.nrows > 0)
		call->callee.function->run(&args);
	for (i = 0; i < args.nrows; i++)
	{
		call->results[wanted[i]] = results[i];
		call->nulls[wanted[i]] = nulls[i];
	}
}

/* Run all calls on rows [first, first + count). */
static void
run_rows(DistilBatchState *state, int first, int count)
{
	MemoryContext old_context = MemoryContextSwitchTo(state->buffer);
	DistilBatchTotals before;
	DistilBatchTotals after;
	int			i;

	distil_batch_totals(&before);
	(void) distil_threads_most();
	for (i = 0; i < state->ncalls; i++)
		run_call(state, &state->calls[i], first, count);
	distil_batch_totals(&after);
	MemoryContextSwitchTo(old_context);
	distil_batch_count(state, count, &before, &after);
	distil_batch_note_models(state, true);
}

/* Errors that end the statement wherever they come. */
static bool
ends_statement(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return category == ERRCODE_OPERATOR_INTERVENTION || category == ERRCODE_TRANSACTION_ROLLBACK;
}

/* The same; false when it failed and nothing is left of it. */
static bool
try_rows(DistilBatchState *state, int first, int count)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		run_rows(state, first, count);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		/* First of all: nothing may fail before it, or the session stays in the subtransaction. */
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (ends_statement(geterrcode()))
			PG_RE_THROW();
		FlushErrorState();
		done = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return done;
}

/*
 * Subtransactions are not to be had while workers run; on a standby a conflict with recovery would
 * end the session instead of the statement.
 */
static bool
can_try(void)
{
	return !IsInParallelMode() && !RecoveryInProgress();
}

/* Whether the executor may not be asked for all rows. */
static bool
is_counted(const DistilBatchState *state)
{
	return rows_counted && !state->whole;
}

/* How many rows a refill takes.  Where errors cannot be kept until their row is due, none that may not be. */
static int
refill_rows(const DistilBatchState *state)
{
	bool		counted = is_counted(state);

	if ((counted && !state->ahead) || ((counted || state->partial) && !can_try()))
		return 1;
	return Min(state->target, most_rows(state));
}

/* Whether the next row is one that may be read in vain, and computing its calls could not be undone. */
static bool
leaves_calls(const DistilBatchState *state)
{
	bool		undone = state->ahead && can_try();

	switch (state->late)
	{
		case DISTIL_LATE_LAST:
			return !undone && (is_counted(state) || state->partial);
		case DISTIL_LATE_FIRST:
			return !undone && state->given == 0;
		case DISTIL_LATE_KEPT:
			return is_counted(state);
		default:
			return false;
	}
}

/*
 * Whether arguments are to be computed below: what a CaseTestExpr outside of a CASE with a value reads there.
 * They are in the next node that is not of this kind, or in one of ours above it.
 */
static void
set_computing(const DistilBatchState *state, bool computing)
{
	do
	{
		PlanState  *child = outerPlanState(&state->css);

		if (child->ps_ExprContext != NULL)
		{
			child->ps_ExprContext->caseValue_datum = BoolGetDatum(computing);
			child->ps_ExprContext->caseValue_isNull = false;
		}
		state = child_state(state);
	} while (state != NULL);
}

/* The next rows with their results; false at the end or when an error is deferred. */
static bool
refill(DistilBatchState *state)
{
	bool		leave = leaves_calls(state);
	MemoryContext old_context;
	int			i;

	if (state->done)
		return false;
	forget_rows(state);
	if (state->late != DISTIL_LATE_NEVER)
		set_computing(state, !leave);
	read_rows(state, leave ? 1 : refill_rows(state));
	if (state->nrows == 0)
		return false;

	old_context = MemoryContextSwitchTo(state->buffer);
	read_constants(state);
	for (i = 0; i < state->ncalls; i++)
	{
		state->calls[i].results = palloc0(sizeof(Datum) * state->nrows);
		state->calls[i].nulls = palloc(sizeof(bool) * state->nrows);
		memset(state->calls[i].nulls, true, sizeof(bool) * state->nrows);
	}
	MemoryContextSwitchTo(old_context);
	if (!leave && (state->nrows > 1 || state->deferring || state->late != DISTIL_LATE_NEVER) && can_try())
		state->row_wise = !try_rows(state, 0, state->nrows);
	else if (!leave)
		run_rows(state, 0, state->nrows);
	choose_target(state);
	return true;
}

/* ---------- execution ---------- */

/* Put the next buffered row and its results into the scan slot. */
static void
store_row(DistilBatchState *state)
{
	TupleTableSlot *scan = state->css.ss.ss_ScanTupleSlot;
	int			row = state->next++;
	int			i;

	ExecClearTuple(scan);
	ExecForceStoreMinimalTuple(state->rows[row], state->row_slot, false);
	slot_getallattrs(state->row_slot);
	memcpy(scan->tts_values, state->row_slot->tts_values, sizeof(Datum) * state->nchild);
	memcpy(scan->tts_isnull, state->row_slot->tts_isnull, sizeof(bool) * state->nchild);
	for (i = 0; i < state->ncalls; i++)
	{
		scan->tts_values[state->nchild + i] = state->calls[i].results[row];
		scan->tts_isnull[state->nchild + i] = state->calls[i].nulls[row];
	}
	ExecStoreVirtualTuple(scan);
	if (state->table != NULL)
	{
		scan->tts_tid = state->places[row];
		scan->tts_tableOid = RelationGetRelid(state->table->ss_currentRelation);
	}
}

/* Have the results of the next row, unless they are an error that is deferred. */
static bool
finish_row(DistilBatchState *state)
{
	/* NULL tells who reads late to make the call. */
	if (!state->row_wise || state->late != DISTIL_LATE_NEVER)
		return true;
	if (state->deferring && can_try())
	{
		state->deferred = !try_rows(state, state->next, 1);
		return !state->deferred;
	}
	run_rows(state, state->next, 1);
	return true;
}

static TupleTableSlot *
exec_scan(CustomScanState *node)
{
	DistilBatchState *state = (DistilBatchState *) node;
	ProjectionInfo *projection = node->ss.ps.ps_ProjInfo;
	ExprContext *econtext = node->ss.ps.ps_ExprContext;

	state->deferred = false;
	for (;;)
	{
		ResetExprContext(econtext);
		if ((state->next >= state->nrows && !refill(state)) || !finish_row(state))
		{
			/* It is at no row: WHERE CURRENT OF looks at the scan's slot. */
			ExecClearTuple(node->ss.ss_ScanTupleSlot);
			return ExecClearTuple(projection ? projection->pi_state.resultslot : node->ss.ss_ScanTupleSlot);
		}
		store_row(state);
		econtext->ecxt_scantuple = node->ss.ss_ScanTupleSlot;
		if (node->ss.ps.qual == NULL || ExecQual(node->ss.ps.qual, econtext))
			return projection ? ExecProject(projection) : node->ss.ss_ScanTupleSlot;
		InstrCountFiltered1(node, 1);
	}
}

static void
rescan(CustomScanState *node)
{
	DistilBatchState *state = (DistilBatchState *) node;

	forget_rows(state);
	restart(state);
	if (outerPlanState(node)->chgParam == NULL)
		ExecReScan(outerPlanState(node));
}

static void
end_scan(CustomScanState *node)
{
	forget_rows((DistilBatchState *) node);
	ExecEndNode(outerPlanState(node));
}

static const CustomExecMethods exec_methods = {
	.CustomName = "DistilBatch",
	.BeginCustomScan = begin_scan,
	.ExecCustomScan = exec_scan,
	.EndCustomScan = end_scan,
	.ReScanCustomScan = rescan,
	.EstimateDSMCustomScan = distil_batch_estimate_shared,
	.InitializeDSMCustomScan = distil_batch_initialize_shared,
	.InitializeWorkerCustomScan = distil_batch_initialize_worker,
	.ShutdownCustomScan = distil_batch_shutdown,
	.ExplainCustomScan = distil_batch_explain
};

static Node *
create_state(CustomScan *node)
{
	DistilBatchState *state = palloc0(sizeof(DistilBatchState));

	NodeSetTag(state, T_CustomScanState);
	state->css.methods = &exec_methods;
	return (Node *) state;
}

bool
distil_batch_set_counted(bool counted)
{
	bool		before = rows_counted;

	rows_counted = counted;
	return before;
}

void
distil_batch_node_init(void)
{
	RegisterCustomScanMethods(&distil_batch_methods);
	distil_batch_hooks_init();
}
