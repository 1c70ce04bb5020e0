/*
 * batch_report.c
 *		What EXPLAIN shows of a DistilBatch node, also of what it did in parallel workers.
 *
 * Workers add their counts in shared memory; the leader collects them before the Gather above
 * lets go of it.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "batch_node.h"
#include "compat.h"
#include "guc.h"
#include "model_cache.h"
#include "sql_args.h"
#include "threads.h"

void
distil_batch_count(DistilBatchState *state, int nrows, const DistilBatchTotals *before,
				   const DistilBatchTotals *after)
{
	BatchCounts *counts = &state->counts;
	double		tokenizer_seconds = after->tokenizer_seconds - before->tokenizer_seconds;
	double		model_seconds = after->model_seconds - before->model_seconds;

	counts->batches++;
	counts->rows += nrows;
	counts->tokens += after->tokens - before->tokens;
	counts->tokenizer_seconds += tokenizer_seconds;
	counts->model_seconds += model_seconds;
	counts->threads = Max(counts->threads, distil_threads_most());
	if (state->is_worker && state->shared != NULL)
	{
		pg_atomic_fetch_add_u64(&state->shared->batches, 1);
		pg_atomic_fetch_add_u64(&state->shared->rows, nrows);
		pg_atomic_fetch_add_u64(&state->shared->tokens, after->tokens - before->tokens);
		pg_atomic_fetch_add_u64(&state->shared->tokenizer_us, (int64) (tokenizer_seconds * 1e6));
		pg_atomic_fetch_add_u64(&state->shared->model_us, (int64) (model_seconds * 1e6));
	}
}

/* What a copy of a model of this layout computes in. */
static const char *
layout_dtype(const char *layout)
{
	static const char *const dtypes[][2] = {
		{DISTIL_LAYOUT_BF16P16, "bfloat16"},
		{DISTIL_LAYOUT_INT8P16, "int8"},
		{DISTIL_LAYOUT_INT8P16_ORDERED, "int8"},
	};
	int			i;

	for (i = 0; i < lengthof(dtypes); i++)
	{
		if (strcmp(layout, dtypes[i][0]) == 0)
			return dtypes[i][1];
	}
	return "float32";
}

/* "name (dtype)" of the model that a call has run, here or only in workers; NULL when it differs by row. */
static char *
model_label(DistilBatchState *state, BatchFunctionCall *call, bool here)
{
	int			arg = call->callee.function->model_arg;
	char	   *name = NULL;
	DistilModelRow row;

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
	distil_store_lookup(&row, name);
	return psprintf("%s (%s)", row.name, layout_dtype(distil_cache_layout(&row, here)));
}

/*
 * For EXPLAIN ANALYZE, once there was a run: the models exist and may be used.  Looked up
 * here, where a snapshot is active; plans are also shown at the end of the executor (auto_explain).
 */
void
distil_batch_note_models(DistilBatchState *state, bool here)
{
	EState	   *estate = state->css.ss.ps.state;
	MemoryContext old_context;
	int			i;

	if (estate->es_instrument == 0 || state->models != NIL || state->counts.tokens == 0)
		return;
	old_context = MemoryContextSwitchTo(estate->es_query_cxt);
	for (i = 0; i < state->ncalls; i++)
	{
		char	   *label = model_label(state, &state->calls[i], here);
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

/* ---------- parallel query ---------- */

Size
distil_batch_estimate_shared(CustomScanState *node, ParallelContext *context)
{
	return sizeof(SharedCounts);
}

void
distil_batch_initialize_shared(CustomScanState *node, ParallelContext *context, void *coordinate)
{
	DistilBatchState *state = (DistilBatchState *) node;

	state->shared = coordinate;
	pg_atomic_init_u64(&state->shared->batches, 0);
	pg_atomic_init_u64(&state->shared->rows, 0);
	pg_atomic_init_u64(&state->shared->tokens, 0);
	pg_atomic_init_u64(&state->shared->tokenizer_us, 0);
	pg_atomic_init_u64(&state->shared->model_us, 0);
}

void
distil_batch_initialize_worker(CustomScanState *node, shm_toc *toc, void *coordinate)
{
	DistilBatchState *state = (DistilBatchState *) node;

	state->shared = coordinate;
	state->is_worker = true;
}

/* Called before the Gather above frees the shared memory, possibly more than once. */
void
distil_batch_shutdown(CustomScanState *node)
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
	/* A worker has no others. */
	if (pg_atomic_read_u64(&shared->model_us) > 0)
		state->counts.threads = Max(state->counts.threads, 1);
	state->shared = NULL;
	distil_batch_note_models(state, false);
}

/* ---------- EXPLAIN ---------- */

void
distil_batch_explain(CustomScanState *node, List *ancestors, ExplainState *es)
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
	if (state->counts.threads > 0)
		ExplainPropertyInteger("Threads", NULL, state->counts.threads, es);
	if (es->timing)
	{
		ExplainPropertyFloat("Tokenizer Time", "ms", state->counts.tokenizer_seconds * 1e3, 3, es);
		ExplainPropertyFloat("Model Time", "ms", state->counts.model_seconds * 1e3, 3, es);
	}
}
