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
 * Below a Gather the node is parallel-aware, for one purpose: workers add their counts
 * in shared memory, the leader collects them before the Gather lets go of it.
 */
#include "postgres.h"

#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "port/atomics.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "batch_plan.h"
#include "compat.h"
#include "guc.h"
#include "model_cache.h"
#include "sql_args.h"

#define BATCH_GROWTH 4			/* each refill takes this many times the rows of the one before */

/* What EXPLAIN ANALYZE shows. */
typedef struct BatchCounts
{
	int64		batches;
	int64		rows;
	int64		tokens;
	double		tokenizer_seconds;
	double		model_seconds;
} BatchCounts;

/* The same, summed over workers; times in microseconds. */
typedef struct SharedCounts
{
	pg_atomic_uint64 batches;
	pg_atomic_uint64 rows;
	pg_atomic_uint64 tokens;
	pg_atomic_uint64 tokenizer_us;
	pg_atomic_uint64 model_us;
} SharedCounts;

/* A column of the buffered rows that is an argument. */
typedef struct BatchColumn
{
	AttrNumber	number;			/* of the child's column, from 1; 0: constant */
	ExprState  *constant;
	Oid			type;
	bool		is_varlena;
	Datum	   *values;			/* [rows] in the buffer */
	bool	   *nulls;
} BatchColumn;

typedef struct BatchFunctionCall
{
	DistilBatchCallee callee;
	int			nargs;
	int			args[DISTIL_BATCH_MAX_ARGS];	/* indexes into columns */
	Datum	   *results;		/* [rows] in the buffer */
	bool	   *nulls;
} BatchFunctionCall;

typedef struct DistilBatchState
{
	CustomScanState css;		/* must be first */
	int			nchild;			/* columns of the child */
	int			ncalls;
	BatchFunctionCall *calls;
	int			ncolumns;
	BatchColumn *columns;

	MemoryContext buffer;		/* rows, arguments, results of one refill */
	MinimalTuple *rows;
	int			nrows;
	int			next;			/* row to return next */
	int			target;			/* rows the next refill may take */
	int			wanted;			/* rows the nodes above will ask for, INT_MAX: all, 0: unknown */
	int			given;			/* rows buffered so far since the (re)scan, at most INT_MAX */
	int			ceiling;		/* rows any refill may take, lowered when results are large */
	bool		done;			/* the child has no more rows */
	TupleTableSlot *row_slot;	/* reads one buffered row */

	BatchCounts counts;			/* of this process and of the workers collected so far */
	List	   *models;			/* of char *, what EXPLAIN ANALYZE shows */
	SharedCounts *shared;		/* while the workers may add; in a worker: where to add */
	bool		is_worker;
} DistilBatchState;

static Node *create_state(CustomScan *node);

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

/* Size of the next refill: what is still wanted, or growing; less when the last results took over work_mem. */
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
	else if (state->wanted > state->given - state->nrows)
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

static void
begin_scan(CustomScanState *node, EState *estate, int eflags)
{
	DistilBatchState *state = (DistilBatchState *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	ListCell   *cell;
	int			ncolumns = list_length(plan->custom_scan_tlist);

	Assert(!(eflags & (EXEC_FLAG_BACKWARD | EXEC_FLAG_MARK)));
	outerPlanState(node) = ExecInitNode(outerPlan(plan), estate, eflags);

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

	state->buffer = AllocSetContextCreate(estate->es_query_cxt, "DistilBatch rows", ALLOCSET_DEFAULT_SIZES);
	state->row_slot = ExecInitExtraTupleSlot(estate, ExecGetResultType(outerPlanState(node)), &TTSOpsMinimalTuple);
	state->wanted = linitial_int(plan->custom_private);
	/* A Limit cannot tell a Sort below this node that it may keep the first rows only. */
	if (state->wanted > 0 && state->wanted < INT_MAX)
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

/* Read up to target rows, fewer when they get long. */
static void
read_rows(DistilBatchState *state, int target)
{
	const Size	limit = (Size) work_mem * 1024 / 4;
	PlanState  *child = outerPlanState(&state->css);
	Size		bytes = 0;
	int			i;

	state->rows = MemoryContextAlloc(state->buffer, sizeof(MinimalTuple) * target);
	for (i = 0; i < state->ncolumns; i++)
	{
		state->columns[i].values = MemoryContextAlloc(state->buffer, sizeof(Datum) * target);
		state->columns[i].nulls = MemoryContextAlloc(state->buffer, sizeof(bool) * target);
	}
	while (state->nrows < target && bytes < limit)
	{
		TupleTableSlot *slot = ExecProcNode(child);
		MemoryContext old_context;
		MinimalTuple row;

		CHECK_FOR_INTERRUPTS();
		if (TupIsNull(slot))
		{
			state->done = true;
			break;
		}
		old_context = MemoryContextSwitchTo(state->buffer);
		row = ExecCopySlotMinimalTuple(slot);
		ExecForceStoreMinimalTuple(row, state->row_slot, false);
		bytes += row->t_len + read_arguments(state, state->nrows);
		state->rows[state->nrows++] = row;
		MemoryContextSwitchTo(old_context);
	}
	ExecClearTuple(state->row_slot);
}

/* Run one call on the rows that need it: all, or for a strict function those without a NULL. */
static void
run_call(DistilBatchState *state, BatchFunctionCall *call)
{
	DistilBatchArgs args = {0};
	Datum	   *results = palloc0(sizeof(Datum) * state->nrows);
	bool	   *nulls = palloc0(sizeof(bool) * state->nrows);
	int		   *wanted = palloc(sizeof(int) * state->nrows);
	int			row;
	int			i;

	call->results = palloc0(sizeof(Datum) * state->nrows);
	call->nulls = palloc(sizeof(bool) * state->nrows);
	args.nargs = call->nargs;
	args.results = results;
	args.result_nulls = nulls;
	for (i = 0; i < call->nargs; i++)
	{
		args.values[i] = palloc(sizeof(Datum) * state->nrows);
		args.nulls[i] = palloc(sizeof(bool) * state->nrows);
	}
	for (row = 0; row < state->nrows; row++)
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

/* Count a refill; before and after are the totals of this backend round the runs. */
static void
count_refill(DistilBatchState *state, const DistilBatchTotals *before, const DistilBatchTotals *after)
{
	BatchCounts *counts = &state->counts;
	double		tokenizer_seconds = after->tokenizer_seconds - before->tokenizer_seconds;
	double		model_seconds = after->model_seconds - before->model_seconds;

	counts->batches++;
	counts->rows += state->nrows;
	counts->tokens += after->tokens - before->tokens;
	counts->tokenizer_seconds += tokenizer_seconds;
	counts->model_seconds += model_seconds;
	if (state->is_worker && state->shared != NULL)
	{
		pg_atomic_fetch_add_u64(&state->shared->batches, 1);
		pg_atomic_fetch_add_u64(&state->shared->rows, state->nrows);
		pg_atomic_fetch_add_u64(&state->shared->tokens, after->tokens - before->tokens);
		pg_atomic_fetch_add_u64(&state->shared->tokenizer_us, (int64) (tokenizer_seconds * 1e6));
		pg_atomic_fetch_add_u64(&state->shared->model_us, (int64) (model_seconds * 1e6));
	}
}

/* "name (dtype)" of the model that a call has run, NULL when it differs from row to row. */
static char *
model_label(DistilBatchState *state, BatchFunctionCall *call)
{
	int			arg = call->callee.function->model_arg;
	char	   *name = NULL;
	DistilOpenModel *open;

	if (arg < call->nargs)
	{
		BatchColumn *column = &state->columns[call->args[arg]];
		Datum		value;
		bool		isnull;

		if (column->constant == NULL)
			return NULL;
		value = ExecEvalExpr(column->constant, state->css.ss.ps.ps_ExprContext, &isnull);
		if (!isnull)
			name = TextDatumGetCString(value);
		else if (call->callee.strict)
			return NULL;
	}
	if (call->callee.function->is_head && name != NULL)
		name = distil_args_head_model(name);
	open = distil_cache_get_tokenizer(name);
	return psprintf("%s (%s)", open->name, open->info->dtype);
}

/*
 * For EXPLAIN ANALYZE, once there was a run: the models exist and may be used.  Looked up
 * here, where a snapshot is active; plans are also shown at the end of the executor (auto_explain).
 */
static void
note_models(DistilBatchState *state)
{
	EState	   *estate = state->css.ss.ps.state;
	MemoryContext old_context;
	int			i;

	if (estate->es_instrument == 0 || state->models != NIL || state->counts.tokens == 0)
		return;
	old_context = MemoryContextSwitchTo(estate->es_query_cxt);
	for (i = 0; i < state->ncalls; i++)
	{
		char	   *label = model_label(state, &state->calls[i]);
		ListCell   *cell;

		foreach(cell, state->models)
		{
			if (label != NULL && strcmp(lfirst(cell), label) == 0)
				label = NULL;
		}
		if (label != NULL)
			state->models = lappend(state->models, label);
	}
	MemoryContextSwitchTo(old_context);
}

/* The next rows with their results; false at the end. */
static bool
refill(DistilBatchState *state)
{
	DistilBatchTotals before;
	DistilBatchTotals after;
	MemoryContext old_context;
	int			i;

	if (state->done)
		return false;
	forget_rows(state);
	read_rows(state, Min(state->target, most_rows(state)));
	if (state->nrows == 0)
		return false;

	distil_batch_totals(&before);
	old_context = MemoryContextSwitchTo(state->buffer);
	read_constants(state);
	for (i = 0; i < state->ncalls; i++)
		run_call(state, &state->calls[i]);
	MemoryContextSwitchTo(old_context);
	distil_batch_totals(&after);
	count_refill(state, &before, &after);
	note_models(state);
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
}

static TupleTableSlot *
exec_scan(CustomScanState *node)
{
	DistilBatchState *state = (DistilBatchState *) node;
	ProjectionInfo *projection = node->ss.ps.ps_ProjInfo;
	ExprContext *econtext = node->ss.ps.ps_ExprContext;

	ResetExprContext(econtext);
	if (state->next >= state->nrows && !refill(state))
		return projection ? ExecClearTuple(projection->pi_state.resultslot) :
			ExecClearTuple(node->ss.ss_ScanTupleSlot);
	store_row(state);
	if (projection == NULL)
		return node->ss.ss_ScanTupleSlot;
	econtext->ecxt_scantuple = node->ss.ss_ScanTupleSlot;
	return ExecProject(projection);
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

/* ---------- parallel query ---------- */

static Size
estimate_shared(CustomScanState *node, ParallelContext *context)
{
	return sizeof(SharedCounts);
}

static void
initialize_shared(CustomScanState *node, ParallelContext *context, void *coordinate)
{
	DistilBatchState *state = (DistilBatchState *) node;

	state->shared = coordinate;
	pg_atomic_init_u64(&state->shared->batches, 0);
	pg_atomic_init_u64(&state->shared->rows, 0);
	pg_atomic_init_u64(&state->shared->tokens, 0);
	pg_atomic_init_u64(&state->shared->tokenizer_us, 0);
	pg_atomic_init_u64(&state->shared->model_us, 0);
}

static void
initialize_worker(CustomScanState *node, shm_toc *toc, void *coordinate)
{
	DistilBatchState *state = (DistilBatchState *) node;

	state->shared = coordinate;
	state->is_worker = true;
}

/* Called before the Gather above frees the shared memory, possibly more than once. */
static void
shutdown_scan(CustomScanState *node)
{
	DistilBatchState *state = (DistilBatchState *) node;
	SharedCounts *shared = state->shared;

	if (shared == NULL || state->is_worker)
		return;
	state->counts.batches += pg_atomic_read_u64(&shared->batches);
	state->counts.rows += pg_atomic_read_u64(&shared->rows);
	state->counts.tokens += pg_atomic_read_u64(&shared->tokens);
	state->counts.tokenizer_seconds += pg_atomic_read_u64(&shared->tokenizer_us) / 1e6;
	state->counts.model_seconds += pg_atomic_read_u64(&shared->model_us) / 1e6;
	state->shared = NULL;
	note_models(state);
}

/* ---------- EXPLAIN ---------- */

static void
explain_scan(CustomScanState *node, List *ancestors, ExplainState *es)
{
	DistilBatchState *state = (DistilBatchState *) node;
	List	   *names = NIL;
	int			i;

	for (i = 0; i < state->ncalls; i++)
		names = lappend(names, get_func_name(state->calls[i].callee.funcid));
	ExplainPropertyList("Functions", names, es);
	ExplainPropertyInteger("Batch Rows", NULL, distil_batch ? distil_batch_rows : 1, es);
	if (!es->analyze)
		return;
	if (state->models != NIL)
		ExplainPropertyList("Models", state->models, es);
	ExplainPropertyInteger("Batches", NULL, state->counts.batches, es);
	ExplainPropertyInteger("Batched Rows", NULL, state->counts.rows, es);
	ExplainPropertyInteger("Tokens", NULL, state->counts.tokens, es);
	if (es->timing)
	{
		ExplainPropertyFloat("Tokenizer Time", "ms", state->counts.tokenizer_seconds * 1e3, 3, es);
		ExplainPropertyFloat("Model Time", "ms", state->counts.model_seconds * 1e3, 3, es);
	}
}

static const CustomExecMethods exec_methods = {
	.CustomName = "DistilBatch",
	.BeginCustomScan = begin_scan,
	.ExecCustomScan = exec_scan,
	.EndCustomScan = end_scan,
	.ReScanCustomScan = rescan,
	.EstimateDSMCustomScan = estimate_shared,
	.InitializeDSMCustomScan = initialize_shared,
	.InitializeWorkerCustomScan = initialize_worker,
	.ShutdownCustomScan = shutdown_scan,
	.ExplainCustomScan = explain_scan
};

static Node *
create_state(CustomScan *node)
{
	DistilBatchState *state = palloc0(sizeof(DistilBatchState));

	NodeSetTag(state, T_CustomScanState);
	state->css.methods = &exec_methods;
	return (Node *) state;
}

void
distil_batch_node_init(void)
{
	RegisterCustomScanMethods(&distil_batch_methods);
	distil_batch_plan_init();
}
