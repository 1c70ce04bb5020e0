/*
 * sql_generate.c
 *		Causal language models: writing on, and how surprising a text is.
 *
 * distil_generate is volatile: without a seed each call draws its own.  With one, the same
 * prompt, options and weights give the same text.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "bridge.h"
#include "infer_run.h"
#include "model_cache.h"
#include "sql_args.h"
#include "sql_infer.h"
#include "threads.h"

PG_FUNCTION_INFO_V1(distil_generate);
PG_FUNCTION_INFO_V1(distil_perplexity);

static double
real_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	distil_args_require(fcinfo, arg, name);
	return PG_GETARG_FLOAT4(arg);
}

static DistilGenerateOptions
generate_options(FunctionCallInfo fcinfo)
{
	DistilGenerateOptions options;
	int64		seed;

	options.max_tokens = distil_args_int(fcinfo, 2, "max_tokens", 1);
	options.temperature = real_argument(fcinfo, 3, "temperature");
	options.top_k = distil_args_int(fcinfo, 4, "top_k", 0);
	options.top_p = real_argument(fcinfo, 5, "top_p");
	if (!(options.temperature >= 0) || options.temperature > 1e6)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"temperature\" must be between 0 and 1e6, not %g", options.temperature)));
	if (!(options.top_p > 0 && options.top_p <= 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"top_p\" must be above 0 and at most 1, not %g", options.top_p)));
	if (!PG_ARGISNULL(6))
		options.seed = PG_GETARG_INT64(6);
	else if (pg_strong_random(&seed, sizeof(seed)))
		options.seed = seed;
	else
		elog(ERROR, "could not draw a random seed");
	return options;
}

/* distil_generate(prompt, model, max_tokens, temperature, top_k, top_p, seed) */
Datum
distil_generate(PG_FUNCTION_ARGS)
{
	DistilGenerateOptions options;
	DistilOpenModel *open;
	DistilText	prompt;
	DistilError err;
	char	   *written;
	char	   *copy;
	size_t		length;
	int64		before;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	options = generate_options(fcinfo);
	open = distil_cache_get(distil_args_optional(fcinfo, 1));
	prompt = distil_bridge_text(PG_GETARG_DATUM(0));
	before = distil_run_truncations(open);
	distil_run_check(distil_session_generate(open->session, &written, &length, &prompt, &options, &err),
					 &err, open);
	/* the text is the session's: moved before anything can fail over it */
	copy = MemoryContextAllocExtended(CurrentMemoryContext, length + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (copy != NULL)
		memcpy(copy, written, length + 1);
	pfree(written);
	if (copy == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory for a text of %zu bytes", length)));
	distil_run_truncated(open, before);
	PG_RETURN_DATUM(distil_bridge_datum(copy, length));
}

/* args: input, model */
void
distil_run_perplexity(DistilBatchArgs *args)
{
	int			first;
	int			end;

	for (first = 0; first < args->nrows; first = end)
	{
		DistilOpenModel *open;
		DistilRunTexts texts;
		DistilStatus status;
		DistilError err;
		char	   *model;
		double	   *perplexity;
		int64		before;
		int			i;

		end = distil_run_group(args, first, 1, -1, &model, NULL);
		distil_run_texts(&texts, args, first, end, 1, 0, -1);
		if (texts.n == 0)
			continue;
		open = distil_cache_get(model);
		perplexity = palloc(texts.n * sizeof(double));
		before = distil_run_truncations(open);
		distil_threads_begin(open, texts.n);
		status = distil_session_perplexity(open->session, perplexity, texts.has, texts.texts, texts.n, &err);
		distil_threads_end();
		distil_run_check(status, &err, open);
		distil_run_truncated(open, before);
		for (i = 0; i < texts.n; i++)
		{
			args->result_nulls[texts.rows[i]] = !texts.has[i];
			args->results[texts.rows[i]] = Float8GetDatum(perplexity[i]);
		}
		pfree(perplexity);
		distil_run_texts_free(&texts);
	}
}

/* distil_perplexity(input, model) */
Datum
distil_perplexity(PG_FUNCTION_ARGS)
{
	return distil_batch_scalar(fcinfo, "distil_perplexity");
}
