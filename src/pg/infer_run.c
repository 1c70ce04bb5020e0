/*
 * infer_run.c
 *		Helpers of functions that run a model over rows.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bridge.h"
#include "compat.h"
#include "gpu_client.h"
#include "guc.h"
#include "infer_run.h"
#include "threads.h"

/* Do two rows have the same value of an optional text argument? */
static bool
same_value(const DistilBatchArgs *args, int arg, int a, int b)
{
	text	   *x;
	text	   *y;

	if (!distil_run_has(args, arg, a) || !distil_run_has(args, arg, b))
		return distil_run_has(args, arg, a) == distil_run_has(args, arg, b);
	if (args->values[arg][a] == args->values[arg][b])
		return true;
	x = DatumGetTextPP(args->values[arg][a]);
	y = DatumGetTextPP(args->values[arg][b]);
	return VARSIZE_ANY_EXHDR(x) == VARSIZE_ANY_EXHDR(y) &&
		memcmp(VARDATA_ANY(x), VARDATA_ANY(y), VARSIZE_ANY_EXHDR(x)) == 0;
}

int
distil_run_group(const DistilBatchArgs *args, int first, int model, int prompt,
				 char **model_name, char **prompt_name)
{
	int			end = first + 1;

	while (end < args->nrows && same_value(args, model, first, end) && same_value(args, prompt, first, end))
		end++;
	*model_name = distil_run_has(args, model, first) ? TextDatumGetCString(args->values[model][first]) : NULL;
	if (prompt_name != NULL)
		*prompt_name = distil_run_has(args, prompt, first) ? TextDatumGetCString(args->values[prompt][first])
			: NULL;
	return end;
}

void
distil_run_check(DistilStatus status, DistilError *err, const DistilOpenModel *open)
{
	distil_bridge_check_model(status, err, open->name);
}

int64
distil_run_truncations(const DistilOpenModel *open)
{
	return distil_session_stats(open->session)->truncated;
}

void
distil_run_truncated(const DistilOpenModel *open, int64 before)
{
	static TimestampTz warned = 0;
	int64		cut = distil_run_truncations(open) - before;

	if (cut <= 0 || distil_truncation == DISTIL_TRUNCATION_SILENT)
		return;
	if (distil_truncation == DISTIL_TRUNCATION_ERROR)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("text is longer than the limit of model \"%s\"", open->name),
				 errdetail("The limit is %d tokens, special tokens included.", open->info->max_tokens),
				 errhint("Cut the text with distil_chunk(), or set distil.truncation to \"warn\" or "
						 "\"silent\".")));
	if (warned == GetCurrentStatementStartTimestamp())
		return;
	warned = GetCurrentStatementStartTimestamp();
	ereport(WARNING,
			(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
			 errmsg("text is longer than the limit of model \"%s\" and was cut", open->name),
			 errdetail("The limit is %d tokens, special tokens included.", open->info->max_tokens),
			 errhint("Cut long texts with distil_chunk(), or set distil.truncation to \"silent\" or "
					 "\"error\".")));
}

DistilOpenModel *
distil_run_embedder(const char *name)
{
	return distil_gpu_wanted() ? distil_cache_get_float32(name) : distil_cache_get(name);
}

float *
distil_run_embeddings(bool **has, DistilOpenModel *open, const DistilText *texts, int n,
					  const char *prompt, bool query)
{
	int			width = open->info->dimensions;
	float	   *out = MemoryContextAllocHuge(CurrentMemoryContext, (Size) Max(n, 1) * width * sizeof(float));
	int64		before = distil_run_truncations(open);
	int			prompt_index = -1;
	DistilStatus status;
	DistilError err;

	*has = palloc0(Max(n, 1) * sizeof(bool));
	if (query)
		prompt_index = distil_model_query_prompt(open->model);
	else
		distil_run_check(distil_model_prompt(open->model, &prompt_index, prompt, &err), &err, open);
	if (n > 0)
	{
		bool		remote = distil_gpu_begin(open);

		distil_threads_begin(open, remote ? 1 : n);
		status = distil_session_embed(open->session, out, *has, texts, n, prompt_index, &err);
		distil_threads_end();
		if (remote)
			distil_gpu_end(open);
		distil_run_check(status, &err, open);
	}
	distil_run_truncated(open, before);
	return out;
}

/* ---------- many texts ---------- */

void
distil_run_texts(DistilRunTexts *texts, DistilBatchArgs *args, int first, int end, int nargs, int arg,
				 int pair)
{
	int			i;
	int			j;

	texts->n = 0;
	texts->rows = palloc((end - first) * sizeof(int));
	texts->texts = palloc((end - first) * sizeof(DistilText));
	texts->pairs = pair < 0 ? NULL : palloc((end - first) * sizeof(DistilText));
	texts->has = palloc0((end - first) * sizeof(bool));
	for (i = first; i < end; i++)
	{
		args->result_nulls[i] = false;
		for (j = 0; j < nargs; j++)
			args->result_nulls[i] |= args->nulls[j][i];
		if (args->result_nulls[i])
			continue;
		texts->texts[texts->n] = distil_bridge_text(args->values[arg][i]);
		if (pair >= 0)
			texts->pairs[texts->n] = distil_bridge_text(args->values[pair][i]);
		texts->rows[texts->n++] = i;
	}
}

void
distil_run_texts_free(DistilRunTexts *texts)
{
	pfree(texts->rows);
	pfree(texts->texts);
	if (texts->pairs != NULL)
		pfree(texts->pairs);
	pfree(texts->has);
}

/* Callbacks of the engine: must not throw. */
static DistilStatus
sink_rows(void *ctx, int index, const float *rows, int n, int width, DistilError *err)
{
	DistilRunSink *sink = ctx;
	MemoryContext context = CurrentMemoryContext;
	volatile DistilStatus status = DISTIL_OK;

	PG_TRY();
	{
		ArrayType  *array;

		if (sink->matrix)
		{
			array = distil_bridge_matrix(n, width);
			memcpy(distil_bridge_array_data(array), rows, (Size) n * width * sizeof(float4));
		}
		else
			array = DatumGetArrayTypeP(distil_bridge_array(rows, width));
		sink->args->results[sink->texts->rows[index]] = PointerGetDatum(array);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		distil_bridge_save_error();
		status = DISTIL_ERR_CANCELLED;
	}
	PG_END_TRY();
	return status;
}

static DistilStatus
sink_same(void *ctx, int index, int first, DistilError *err)
{
	DistilRunSink *sink = ctx;

	sink->args->results[sink->texts->rows[index]] = sink->args->results[sink->texts->rows[first]];
	return DISTIL_OK;
}

void
distil_run_sink(DistilRunSink *sink, DistilBatchArgs *args, const DistilRunTexts *texts, bool matrix)
{
	sink->rows.rows = sink_rows;
	sink->rows.same = sink_same;
	sink->rows.ctx = sink;
	sink->args = args;
	sink->texts = texts;
	sink->matrix = matrix;
}

void
distil_run_sink_finish(DistilRunSink *sink)
{
	int			i;

	for (i = 0; i < sink->texts->n; i++)
	{
		if (!sink->texts->has[i])
			sink->args->results[sink->texts->rows[i]] = PointerGetDatum(distil_bridge_matrix(0, 0));
	}
}
