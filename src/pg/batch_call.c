/*
 * batch_call.c
 *		The table of batchable functions, and their scalar form.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "batch_call.h"
#include "guc.h"
#include "model_cache.h"
#include "sql_args.h"
#include "sql_infer.h"

static const DistilBatchFunction functions[] = {
	{"distil_embed", distil_run_embed, 1, false},
	{"distil_embed_query", distil_run_embed_query, 1, false},
	{"distil_similarity", distil_run_similarity, 2, false},
	{"distil_hidden_states", distil_run_hidden_states, 1, false},
	{"distil_classify", distil_run_classify, 1, true},
	{"distil_rerank", distil_run_rerank, 2, true},
	{"distil_logits", distil_run_logits, 1, true},
	{"distil_loss", distil_run_loss, 1, true},
	{"distil_perplexity", distil_run_perplexity, 1, false},
	{"distil_token_ids", distil_run_token_ids, 1, false},
	{"distil_token_count", distil_run_token_count, 1, false},
	{"distil_decode", distil_run_decode, 1, false},
};

const DistilBatchFunction *
distil_batch_function(const char *prosrc)
{
	size_t		i;

	for (i = 0; i < lengthof(functions); i++)
		if (strcmp(functions[i].prosrc, prosrc) == 0)
			return &functions[i];
	return NULL;
}

void
distil_batch_totals(DistilBatchTotals *totals)
{
	DistilSessionStats stats;

	distil_cache_stats(&stats);
	totals->tokens = stats.tokens;
	totals->batches = stats.batches;
	totals->tokenizer_seconds = stats.tokenizer_seconds;
	totals->model_seconds = stats.model_seconds;
}

/* ---------- the scalar form ---------- */

/*
 * The last call of one call site whose arguments are constant in the statement.  It is
 * used again for the same arguments and the same weights only: a call site may live for
 * many statements (PL/pgSQL), with other parameters or another default model.
 */
typedef struct ScalarMemo
{
	const DistilBatchFunction *function;
	bool		constant;		/* arguments are: worth remembering */
	bool		filled;
	MemoryContext context;		/* of all below, reset for each call remembered */
	Datum		values[DISTIL_BATCH_MAX_ARGS];
	bool		nulls[DISTIL_BATCH_MAX_ARGS];
	uint8		sha256[32];
	int			precision;		/* settings the result depends on */
	int			isa;
	int			device;
	Datum		result;
	bool		result_null;
} ScalarMemo;

static ScalarMemo *
scalar_memo(FunctionCallInfo fcinfo, const char *prosrc)
{
	ScalarMemo *memo = fcinfo->flinfo->fn_extra;
	int			i;

	if (memo != NULL)
		return memo;
	Assert(PG_NARGS() <= DISTIL_BATCH_MAX_ARGS);
	memo = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(ScalarMemo));
	memo->function = distil_batch_function(prosrc);
	memo->constant = true;
	for (i = 0; i < PG_NARGS(); i++)
		memo->constant &= get_fn_expr_arg_stable(fcinfo->flinfo, i);
	if (memo->constant)
		memo->context = AllocSetContextCreate(fcinfo->flinfo->fn_mcxt, "distil constant call",
											  ALLOCSET_SMALL_SIZES);
	fcinfo->flinfo->fn_extra = memo;
	return memo;
}

/* Length of argument and result types: all are variable-length or passed by value. */
static int
type_length(FunctionCallInfo fcinfo, int arg)
{
	Oid			type = arg < 0 ? get_fn_expr_rettype(fcinfo->flinfo)
		: get_fn_expr_argtype(fcinfo->flinfo, arg);

	return OidIsValid(type) ? get_typlen(type) : -1;
}

/* The weights the call would use now; asks for the right to use them. */
static void
call_weights(uint8 sha256[32], const ScalarMemo *memo, FunctionCallInfo fcinfo)
{
	int			arg = memo->function->model_arg;
	char	   *name = NULL;

	if (arg < PG_NARGS() && !PG_ARGISNULL(arg))
		name = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	if (memo->function->is_head && name != NULL)
		name = distil_args_head_model(name);
	memcpy(sha256, distil_cache_get_tokenizer(name)->sha256, 32);
}

static bool
same_call(const ScalarMemo *memo, FunctionCallInfo fcinfo)
{
	uint8		sha256[32];
	int			i;

	if (!memo->filled || memo->precision != distil_precision || memo->isa != distil_isa ||
		memo->device != distil_device)
		return false;
	for (i = 0; i < PG_NARGS(); i++)
	{
		int			length = type_length(fcinfo, i);

		if (memo->nulls[i] != PG_ARGISNULL(i))
			return false;
		if (!memo->nulls[i] && !datum_image_eq(memo->values[i], PG_GETARG_DATUM(i), length > 0, length))
			return false;
	}
	call_weights(sha256, memo, fcinfo);
	return memcmp(sha256, memo->sha256, 32) == 0;
}

static void
remember(ScalarMemo *memo, FunctionCallInfo fcinfo, Datum result, bool isnull)
{
	MemoryContext old;
	int			i;

	memo->filled = false;
	MemoryContextReset(memo->context);
	call_weights(memo->sha256, memo, fcinfo);
	memo->precision = distil_precision;
	memo->isa = distil_isa;
	memo->device = distil_device;
	old = MemoryContextSwitchTo(memo->context);
	for (i = 0; i < PG_NARGS(); i++)
	{
		int			length = type_length(fcinfo, i);

		memo->nulls[i] = PG_ARGISNULL(i);
		if (!memo->nulls[i])
			memo->values[i] = datumCopy(PG_GETARG_DATUM(i), length > 0, length);
	}
	memo->result_null = isnull;
	if (!isnull)
	{
		int			length = type_length(fcinfo, -1);

		memo->result = datumCopy(result, length > 0, length);
	}
	MemoryContextSwitchTo(old);
	memo->filled = true;
}

Datum
distil_batch_scalar(FunctionCallInfo fcinfo, const char *prosrc)
{
	ScalarMemo *memo = scalar_memo(fcinfo, prosrc);
	DistilBatchArgs args;
	Datum		values[DISTIL_BATCH_MAX_ARGS];
	bool		nulls[DISTIL_BATCH_MAX_ARGS];
	Datum		result = (Datum) 0;
	bool		result_null = true;
	int			i;

	/* pg_upgrade makes indexes before models have rows; what is folded of their expressions is not kept */
	if (IsBinaryUpgrade)
		PG_RETURN_NULL();
	if (memo->constant && same_call(memo, fcinfo))
	{
		fcinfo->isnull = memo->result_null;
		return memo->result_null ? (Datum) 0 : memo->result;
	}
	args.nrows = 1;
	args.nargs = PG_NARGS();
	for (i = 0; i < PG_NARGS(); i++)
	{
		values[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i);
		args.values[i] = &values[i];
		args.nulls[i] = &nulls[i];
	}
	args.results = &result;
	args.result_nulls = &result_null;
	memo->function->run(&args);
	if (memo->constant && !result_null)
		remember(memo, fcinfo, result, result_null);
	fcinfo->isnull = result_null;
	return result;
}
