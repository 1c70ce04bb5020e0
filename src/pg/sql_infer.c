/*
 * sql_infer.c
 *		Inference: embeddings, similarity, hidden states, fill-mask.
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

/* ---------- embeddings ---------- */

/* Rows [first, end) use one model and prompt. */
static void
embed_group(DistilBatchArgs *args, int first, int end, const char *model, const char *prompt, bool query)
{
	DistilOpenModel *open;
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
	if (n == 0)					/* nothing asks for the model: it need not exist */
		return;
	open = distil_run_embedder(model);
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
	open = distil_run_embedder(distil_args_optional(fcinfo, 1));
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
		open = distil_run_embedder(model);
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

/* ---------- hidden states ---------- */

/* args: input, model */
void
distil_run_hidden_states(DistilBatchArgs *args)
{
	int			first;
	int			end;

	for (first = 0; first < args->nrows; first = end)
	{
		DistilOpenModel *open;
		DistilRunTexts texts;
		DistilRunSink sink;
		DistilError err;
		char	   *model;
		int64		before;

		end = distil_run_group(args, first, 1, -1, &model, NULL);
		distil_run_texts(&texts, args, first, end, 1, 0, -1);
		if (texts.n == 0)
			continue;
		open = distil_cache_get(model);
		before = distil_run_truncations(open);
		distil_run_sink(&sink, args, &texts, true);
		distil_run_check(distil_session_hidden_many(open->session, texts.texts, texts.n, &sink.rows,
													texts.has, &err), &err, open);
		distil_run_sink_finish(&sink);
		distil_run_truncated(open, before);
		distil_run_texts_free(&texts);
	}
}

Datum
distil_hidden_states(PG_FUNCTION_ARGS)
{
	return distil_batch_scalar(fcinfo, "distil_hidden_states");
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
	distil_run_check(distil_session_fill_mask(open->session, &fills, &nfills, &input, top_k, &err), &err,
					 open);
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
