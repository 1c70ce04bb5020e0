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
#include "guc.h"
#include "infer_run.h"

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
		*prompt_name = distil_run_has(args, prompt, first) ? TextDatumGetCString(args->values[prompt][first]) : NULL;
	return end;
}

void
distil_run_check(DistilStatus status, DistilError *err, const DistilOpenModel *open)
{
	static const char subject[] = "the model ";
	DistilText	name;
	char	   *rest;

	if (status != DISTIL_OK && strncmp(err->message, subject, strlen(subject)) == 0)
	{
		name = distil_bridge_text(CStringGetTextDatum(open->name));
		rest = pstrdup(err->message + strlen(subject));
		snprintf(err->message, sizeof(err->message), "model \"%.*s\" %s", (int) name.length, name.data, rest);
	}
	distil_bridge_check(status, err);
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
				 errhint("Cut the text with distil_chunk(), or set distil.truncation to \"warn\" or \"silent\".")));
	if (warned == GetCurrentStatementStartTimestamp())
		return;
	warned = GetCurrentStatementStartTimestamp();
	ereport(WARNING,
			(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
			 errmsg("text is longer than the limit of model \"%s\" and was cut", open->name),
			 errdetail("The limit is %d tokens, special tokens included.", open->info->max_tokens),
			 errhint("Cut long texts with distil_chunk(), or set distil.truncation to \"silent\" or \"error\".")));
}

float *
distil_run_embeddings(bool **has, DistilOpenModel *open, const DistilText *texts, int n,
					  const char *prompt, bool query)
{
	int			width = open->info->dimensions;
	float	   *out = MemoryContextAllocHuge(CurrentMemoryContext, (Size) Max(n, 1) * width * sizeof(float));
	int64		before = distil_run_truncations(open);
	int			prompt_index = -1;
	DistilError err;

	*has = palloc0(Max(n, 1) * sizeof(bool));
	if (query)
		prompt_index = distil_model_query_prompt(open->model);
	else
		distil_run_check(distil_model_prompt(open->model, &prompt_index, prompt, &err), &err, open);
	if (n > 0)
		distil_run_check(distil_session_embed(open->session, out, *has, texts, n, prompt_index, &err), &err, open);
	distil_run_truncated(open, before);
	return out;
}
