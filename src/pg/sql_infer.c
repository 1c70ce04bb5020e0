/*
 * sql_infer.c
 *		Inference: embeddings, similarity, hidden states, fill-mask, logits.
 *
 * The scalar functions are run functions over n rows (see batch_call.h); NULL rules are
 * those of the manual: a NULL input or model name gives NULL, except that functions with
 * model DEFAULT NULL take the default model for it.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "bridge.h"
#include "compat.h"
#include "infer_run.h"
#include "model_cache.h"
#include "sql_args.h"
#include "sql_infer.h"

/* Texts of distil_embed_many given to the engine at once. */
#define MANY_SLICE 4096

PG_FUNCTION_INFO_V1(distil_embed);
PG_FUNCTION_INFO_V1(distil_embed_query);
PG_FUNCTION_INFO_V1(distil_embed_many);
PG_FUNCTION_INFO_V1(distil_similarity);
PG_FUNCTION_INFO_V1(distil_hidden_states);
PG_FUNCTION_INFO_V1(distil_fill_mask);
PG_FUNCTION_INFO_V1(distil_logits);

/* ---------- embeddings ---------- */

/* Rows [first, end) use one model and prompt. */
static void
embed_group(DistilBatchArgs *args, int first, int end, const char *model, const char *prompt, bool query)
{
	DistilOpenModel *open = distil_cache_get(model);
	DistilText *texts = palloc((end - first) * sizeof(DistilText));
	int		   *rows = palloc((end - first) * sizeof(int));
	int			n = 0;
	float	   *vectors;
	bool	   *has;
	int			i;

	for (i = first; i < end; i++)
	{
		if (args->nulls[0][i])
			continue;
		texts[n] = distil_bridge_text(args->values[0][i]);
		rows[n++] = i;
	}
	vectors = distil_run_embeddings(&has, open, texts, n, prompt, query);
	for (i = 0; i < n; i++)
	{
		if (!has[i])
			continue;
		args->results[rows[i]] = distil_bridge_array(vectors + (Size) i * open->info->dimensions,
													 open->info->dimensions);
		args->result_nulls[rows[i]] = false;
	}
	pfree(vectors);
	pfree(has);
	pfree(texts);
	pfree(rows);
}

static void
run_embed(DistilBatchArgs *args, bool query)
{
	bool		named = args->nargs > 1;
	int			first;
	int			end;

	memset(args->result_nulls, true, args->nrows * sizeof(bool));
	for (first = 0; first < args->nrows; first = end)
	{
		char	   *model;
		char	   *prompt;

		end = distil_run_group(args, first, named ? 1 : -1, query ? -1 : 2, &model, &prompt);
		if (named && model == NULL)
			continue;
		if (end == first + 1 && args->nulls[0][first])
			continue;
		embed_group(args, first, end, model, prompt, query);
	}
}

void
distil_run_embed(DistilBatchArgs *args)
{
	run_embed(args, false);
}

void
distil_run_embed_query(DistilBatchArgs *args)
{
	run_embed(args, true);
}

/* distil_embed(input), distil_embed(input, model, prompt) */
Datum
distil_embed(PG_FUNCTION_ARGS)
{
	return distil_batch_scalar(fcinfo, "distil_embed");
}

/* distil_embed_query(input), distil_embed_query(input, model) */
Datum
distil_embed_query(PG_FUNCTION_ARGS)
{
	return distil_batch_scalar(fcinfo, "distil_embed_query");
}

/* distil_embed_many(inputs), distil_embed_many(inputs, model) */
Datum
distil_embed_many(PG_FUNCTION_ARGS)
{
	ArrayType  *inputs = PG_GETARG_ARRAYTYPE_P(0);
	DistilOpenModel *open;
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext slice_context;
	Datum	   *values;
	bool	   *nulls;
	int			n;
	int			first;

	if (ARR_NDIM(inputs) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"inputs\" must have one dimension, not %d", ARR_NDIM(inputs))));
	open = distil_cache_get(distil_args_optional(fcinfo, 1));
	deconstruct_array(inputs, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	slice_context = AllocSetContextCreate(CurrentMemoryContext, "distil_embed_many", ALLOCSET_DEFAULT_SIZES);
	for (first = 0; first < n; first += MANY_SLICE)
	{
		MemoryContext old = MemoryContextSwitchTo(slice_context);
		int			count = Min(n - first, MANY_SLICE);
		DistilText *texts = palloc(count * sizeof(DistilText));
		float	   *vectors;
		bool	   *has;
		int			used = 0;
		int			i;

		for (i = 0; i < count; i++)
			if (!nulls[first + i])
				texts[used++] = distil_bridge_text(values[first + i]);
		vectors = distil_run_embeddings(&has, open, texts, used, NULL, false);
		used = 0;
		for (i = 0; i < count; i++)
		{
			bool		isnull = nulls[first + i] || !has[used];
			Datum		row = isnull ? (Datum) 0
				: distil_bridge_array(vectors + (Size) used * open->info->dimensions, open->info->dimensions);

			if (!nulls[first + i])
				used++;
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &row, &isnull);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(slice_context);
	}
	return (Datum) 0;
}

/* ---------- similarity ---------- */

/* args: a, b, model */
void
distil_run_similarity(DistilBatchArgs *args)
{
	int			first;
	int			end;

	memset(args->result_nulls, true, args->nrows * sizeof(bool));
	for (first = 0; first < args->nrows; first = end)
	{
		DistilOpenModel *open;
		DistilText *texts;
		float	   *vectors;
		bool	   *has;
		int		   *rows;
		char	   *model;
		int			n = 0;
		int			i;

		end = distil_run_group(args, first, 2, -1, &model, NULL);
		texts = palloc(2 * (end - first) * sizeof(DistilText));
		rows = palloc((end - first) * sizeof(int));
		for (i = first; i < end; i++)
		{
			if (args->nulls[0][i] || args->nulls[1][i])
				continue;
			texts[2 * n] = distil_bridge_text(args->values[0][i]);
			texts[2 * n + 1] = distil_bridge_text(args->values[1][i]);
			rows[n++] = i;
		}
		if (n == 0)
			continue;
		open = distil_cache_get(model);
		vectors = distil_run_embeddings(&has, open, texts, 2 * n, NULL, false);
		for (i = 0; i < n; i++)
		{
			Size		width = open->info->dimensions;
			double		cosine;

			if (!has[2 * i] || !has[2 * i + 1])
				continue;
			cosine = distil_vector_cosine(vectors + 2 * i * width, vectors + (2 * i + 1) * width, width);
			if (isnan(cosine))
				continue;
			args->results[rows[i]] = Float4GetDatum((float4) cosine);
			args->result_nulls[rows[i]] = false;
		}
		pfree(vectors);
	}
}

Datum
distil_similarity(PG_FUNCTION_ARGS)
{
	return distil_batch_scalar(fcinfo, "distil_similarity");
}

/* ---------- hidden states and logits ---------- */

/* real[rows][columns] with room for the values, to be filled by the caller. */
static ArrayType *
make_matrix(int rows, int columns)
{
	Size		bytes;
	ArrayType  *array;

	if (rows == 0 || columns == 0)
		return construct_empty_array(FLOAT4OID);
	bytes = ARR_OVERHEAD_NONULLS(2) + (Size) rows * columns * sizeof(float4);
	if (!AllocSizeIsValid(bytes))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("an array of %d x %d values is too large", rows, columns)));
	array = palloc0(bytes);
	SET_VARSIZE(array, bytes);
	array->ndim = 2;
	array->elemtype = FLOAT4OID;
	ARR_DIMS(array)[0] = rows;
	ARR_DIMS(array)[1] = columns;
	ARR_LBOUND(array)[0] = 1;
	ARR_LBOUND(array)[1] = 1;
	return array;
}

/* args: input, model */
void
distil_run_hidden_states(DistilBatchArgs *args)
{
	int			i;

	for (i = 0; i < args->nrows; i++)
	{
		DistilOpenModel *open;
		DistilText	input;
		const float *states;
		ArrayType  *array;
		DistilError err;
		int64		before;
		int			tokens;

		args->result_nulls[i] = args->nulls[0][i];
		if (args->nulls[0][i])
			continue;
		open = distil_cache_get(distil_run_has(args, 1, i) ? TextDatumGetCString(args->values[1][i]) : NULL);
		input = distil_bridge_text(args->values[0][i]);
		before = distil_run_truncations(open);
		distil_run_check(distil_session_hidden(open->session, &states, &tokens, &input, &err), &err, open);
		array = make_matrix(tokens, open->info->width);
		memcpy(distil_bridge_array_data(array), states, (Size) tokens * open->info->width * sizeof(float4));
		distil_run_truncated(open, before);
		args->results[i] = PointerGetDatum(array);
	}
}

Datum
distil_hidden_states(PG_FUNCTION_ARGS)
{
	return distil_batch_scalar(fcinfo, "distil_hidden_states");
}

/* Rows of logits as they come from the engine. */
typedef struct LogitRows
{
	MemoryContext context;
	float	   *values;
	Size		used;
	Size		capacity;
	int			columns;
} LogitRows;

/* Callback of the engine: must not throw. */
static DistilStatus
collect_row(void *ctx, int t, const float *row, int n, DistilError *err)
{
	LogitRows  *rows = ctx;

	(void) t;
	rows->columns = n;
	if (rows->used + n > rows->capacity)
	{
		Size		capacity = Max(rows->capacity * 2, (Size) n * 16);
		float	   *values = NULL;

		if (capacity * sizeof(float) <= MaxAllocHugeSize / 2)
			values = MemoryContextAllocExtended(rows->context, capacity * sizeof(float),
												MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
		if (values == NULL)
		{
			snprintf(err->message, sizeof(err->message), "out of memory for the logits of %d tokens", t);
			err->detail[0] = err->hint[0] = '\0';
			return DISTIL_ERR_MEMORY;
		}
		if (rows->values != NULL)
		{
			memcpy(values, rows->values, rows->used * sizeof(float));
			pfree(rows->values);
		}
		rows->values = values;
		rows->capacity = capacity;
	}
	memcpy(rows->values + rows->used, row, n * sizeof(float));
	rows->used += n;
	return DISTIL_OK;
}

/* The model whose head `name` is, checked to be the language-model head. */
static DistilOpenModel *
open_lm_head(const char *head)
{
	DistilOpenModel *open = distil_cache_get(distil_args_head_model(head));
	const char *name = distil_args_head_name(head);
	StringInfoData known;
	int			i;

	initStringInfo(&known);
	for (i = 0; i < open->info->nheads; i++)
	{
		if (strcmp(open->info->heads[i].name, name) == 0)
		{
			if (strcmp(name, "lm") == 0)
				return open;
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("logits of head \"%s\" are not implemented", head),
					 errhint("Only language-model heads (model/lm) give logits.")));
		}
		appendStringInfo(&known, "%s%s/%s", i > 0 ? ", " : "", open->name, open->info->heads[i].name);
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("head \"%s\" does not exist", head),
			 known.len > 0 ? errhint("Heads of this model: %s.", known.data)
			 : errhint("Model \"%s\" has no head.", open->name)));
}

/* args: input, head, pair (may be NULL) */
void
distil_run_logits(DistilBatchArgs *args)
{
	int			i;

	for (i = 0; i < args->nrows; i++)
	{
		LogitRows	rows = {CurrentMemoryContext, NULL, 0, 0, 0};
		DistilOpenModel *open;
		DistilText	input;
		DistilText	pair;
		bool		has_pair = distil_run_has(args, 2, i);
		ArrayType  *array;
		DistilError err;
		int64		before;
		int			tokens;

		args->result_nulls[i] = args->nulls[0][i] || args->nulls[1][i];
		if (args->result_nulls[i])
			continue;
		open = open_lm_head(TextDatumGetCString(args->values[1][i]));
		input = distil_bridge_text(args->values[0][i]);
		if (has_pair)
			pair = distil_bridge_text(args->values[2][i]);
		before = distil_run_truncations(open);
		distil_run_check(distil_session_lm_logits(open->session, &input, has_pair ? &pair : NULL,
													 collect_row, &rows, &tokens, &err), &err, open);
		array = make_matrix(tokens, rows.columns);
		if (rows.values != NULL)
		{
			memcpy(distil_bridge_array_data(array), rows.values, (Size) tokens * rows.columns * sizeof(float4));
			pfree(rows.values);
		}
		distil_run_truncated(open, before);
		args->results[i] = PointerGetDatum(array);
	}
}

Datum
distil_logits(PG_FUNCTION_ARGS)
{
	return distil_batch_scalar(fcinfo, "distil_logits");
}

/* ---------- fill-mask ---------- */

/* distil_fill_mask(input, model, top_k) */
Datum
distil_fill_mask(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	DistilOpenModel *open;
	DistilFill *fills;
	DistilText	input;
	DistilError err;
	int64		before;
	int			nfills;
	int			top_k;
	int			i;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	top_k = distil_args_int(fcinfo, 2, "top_k", 1);
	open = distil_cache_get(distil_args_optional(fcinfo, 1));
	input = distil_bridge_text(PG_GETARG_DATUM(0));
	before = distil_run_truncations(open);
	distil_run_check(distil_session_fill_mask(open->session, &fills, &nfills, &input, top_k, &err), &err, open);
	distil_run_truncated(open, before);
	for (i = 0; i < nfills; i++)
	{
		Datum		values[3];
		bool		nulls[3] = {false};

		values[0] = distil_bridge_datum(fills[i].token, strlen(fills[i].token));
		values[1] = Float4GetDatum(fills[i].score);
		values[2] = distil_bridge_datum(fills[i].sequence, strlen(fills[i].sequence));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	pfree(fills);
	return (Datum) 0;
}
