/*
 * sql_heads.c
 *		Task heads: classify, tag, answer, choose, rerank, raw scores, losses.
 *
 * A head is named model/head and is asked only for what it was made for: a head of another
 * task is refused by name.  What the engine returns as an array belongs to the session and is
 * copied at once, so that an error while rows are made leaves nothing behind.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "bridge.h"
#include "compat.h"
#include "infer_run.h"
#include "model_cache.h"
#include "sql_args.h"
#include "sql_infer.h"
#include "threads.h"

PG_FUNCTION_INFO_V1(distil_classify);
PG_FUNCTION_INFO_V1(distil_classify_scores);
PG_FUNCTION_INFO_V1(distil_entities);
PG_FUNCTION_INFO_V1(distil_answer);
PG_FUNCTION_INFO_V1(distil_choose);
PG_FUNCTION_INFO_V1(distil_rerank);
PG_FUNCTION_INFO_V1(distil_logits);
PG_FUNCTION_INFO_V1(distil_loss);

/* ---------- heads ---------- */

typedef struct HeadUse
{
	const char *task;
	const char *function;
} HeadUse;

static const HeadUse uses[] = {
	{"fill-mask", "distil_fill_mask"},
	{"text-generation", "distil_generate"},
	{"text-classification", "distil_classify"},
	{"token-classification", "distil_entities"},
	{"question-answering", "distil_answer"},
	{"multiple-choice", "distil_choose"},
	{"text-ranking", "distil_rerank"},
};

/* The model of a head and the head itself, of a task (NULL: any): 22023 for another, 42704 for none. */
static DistilOpenModel *
open_head(const char *head, const char *task, const DistilHeadInfo **info)
{
	DistilOpenModel *open = distil_cache_get(distil_args_head_model(head));
	const char *name = distil_args_head_name(head);
	const char *function = NULL;
	StringInfoData known;
	int			i;

	initStringInfo(&known);
	*info = NULL;
	for (i = 0; i < open->info->nheads && *info == NULL; i++)
	{
		if (strcmp(open->info->heads[i].name, name) == 0)
			*info = &open->info->heads[i];
		appendStringInfo(&known, "%s%s/%s", i > 0 ? ", " : "", open->name, open->info->heads[i].name);
	}
	if (*info == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("head \"%s\" does not exist", distil_bridge_clip(head)),
				 known.len > 0 ? errhint("Heads of this model: %s.", known.data)
				 : errhint("Model \"%s\" has no head.", open->name)));
	pfree(known.data);
	if (task == NULL || strcmp((*info)->task, task) == 0)
		return open;
	for (i = 0; i < lengthof(uses); i++)
		if (strcmp(uses[i].task, (*info)->task) == 0)
			function = uses[i].function;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("head \"%s\" is for %s, not for %s", head, (*info)->task, task),
			 function != NULL ? errhint("Use %s() with it.", function) : 0));
}

static char *
text_argument(const DistilBatchArgs *args, int arg, int row)
{
	return TextDatumGetCString(args->values[arg][row]);
}

/* Any of the first n arguments is NULL in this row: functions called by DistilBatch see NULLs. */
static bool
has_null(const DistilBatchArgs *args, int n, int row)
{
	int			i;

	for (i = 0; i < n; i++)
		if (args->nulls[i][row])
			return true;
	return false;
}

/* An array of the session's allocator, moved into the current context. */
static void *
take_array(void *array, int n, Size size)
{
	void	   *copy;

	if (array == NULL)
		return NULL;
	copy = MemoryContextAllocExtended(CurrentMemoryContext, Max(n, 1) * size,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (copy != NULL && n > 0)
		memcpy(copy, array, n * size);
	pfree(array);
	if (copy == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory for %d results", n)));
	return copy;
}

/* The rows from first on with one head (argument 1) and all with or all without a pair (argument 2). */
static int
pair_group(const DistilBatchArgs *args, int first, char **name, bool *has_pair)
{
	int			same_head = distil_run_group(args, first, 1, -1, name, NULL);
	int			end = first + 1;

	*has_pair = distil_run_has(args, 2, first);
	while (end < same_head && distil_run_has(args, 2, end) == *has_pair)
		end++;
	return end;
}

/* ---------- classification ---------- */

static DistilScore *
classify(const DistilOpenModel *open, const DistilText *input, const DistilText *pair, int *nscores,
		 bool *regression)
{
	int64		before = distil_run_truncations(open);
	DistilScore *scores;
	DistilError err;

	distil_run_check(distil_session_classify(open->session, &scores, nscores, regression, input, pair, &err),
					 &err, open);
	scores = take_array(scores, *nscores, sizeof(DistilScore));
	distil_run_truncated(open, before);
	return scores;
}

/* args: input, head, pair (may be NULL) */
void
distil_run_classify(DistilBatchArgs *args)
{
	int			first;
	int			end;

	for (first = 0; first < args->nrows; first = end)
	{
		const DistilHeadInfo *head;
		const char **labels;
		DistilOpenModel *open;
		DistilRunTexts texts;
		DistilStatus status;
		DistilError err;
		char	   *name;
		int64		before;
		bool		has_pair;
		bool		regression;
		int			i;

		end = pair_group(args, first, &name, &has_pair);
		distil_run_texts(&texts, args, first, end, 2, 0, has_pair ? 2 : -1);
		if (texts.n == 0)
			continue;
		open = open_head(name, "text-classification", &head);
		labels = palloc(texts.n * sizeof(char *));
		before = distil_run_truncations(open);
		distil_threads_begin(open, texts.n);
		status = distil_session_labels(open->session, labels, &regression, texts.texts, texts.pairs, texts.n,
									   &err);
		distil_threads_end();
		distil_run_check(status, &err, open);
		distil_run_truncated(open, before);
		if (regression)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("head \"%s\" is a regression and gives no label", name),
					 errhint("Use distil_classify_scores() for its value.")));
		for (i = 0; i < texts.n; i++)
			args->results[texts.rows[i]] = distil_bridge_datum(labels[i], strlen(labels[i]));
		pfree(labels);
		distil_run_texts_free(&texts);
	}
}

/* distil_classify(input, head, pair) */
Datum
distil_classify(PG_FUNCTION_ARGS)
{
	return distil_batch_scalar(fcinfo, "distil_classify");
}

/* distil_classify_scores(input, head, pair) */
Datum
distil_classify_scores(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const DistilHeadInfo *head;
	DistilOpenModel *open;
	DistilScore *scores;
	DistilText	input;
	DistilText	pair;
	bool		has_pair = !PG_ARGISNULL(2);
	bool		regression;
	int			nscores;
	int			i;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return (Datum) 0;
	open = open_head(text_to_cstring(PG_GETARG_TEXT_PP(1)), "text-classification", &head);
	input = distil_bridge_text(PG_GETARG_DATUM(0));
	if (has_pair)
		pair = distil_bridge_text(PG_GETARG_DATUM(2));
	scores = classify(open, &input, has_pair ? &pair : NULL, &nscores, &regression);
	for (i = 0; i < nscores; i++)
	{
		Datum		values[2];
		bool		nulls[2] = {false};

		values[0] = distil_bridge_datum(scores[i].label, strlen(scores[i].label));
		values[1] = Float4GetDatum(scores[i].score);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* args: query, document, head */
void
distil_run_rerank(DistilBatchArgs *args)
{
	int			first;
	int			end;

	for (first = 0; first < args->nrows; first = end)
	{
		const DistilHeadInfo *head;
		DistilOpenModel *open;
		DistilRunTexts texts;
		DistilStatus status;
		DistilError err;
		char	   *name;
		float	   *scores;
		int64		before;
		int			i;

		end = distil_run_group(args, first, 2, -1, &name, NULL);
		distil_run_texts(&texts, args, first, end, 3, 0, 1);
		if (texts.n == 0)
			continue;
		open = open_head(name, "text-ranking", &head);
		scores = palloc(texts.n * sizeof(float));
		before = distil_run_truncations(open);
		distil_threads_begin(open, texts.n);
		status = distil_session_rerank(open->session, scores, texts.texts, texts.pairs, texts.n, &err);
		distil_threads_end();
		distil_run_check(status, &err, open);
		distil_run_truncated(open, before);
		for (i = 0; i < texts.n; i++)
			args->results[texts.rows[i]] = Float4GetDatum(scores[i]);
		pfree(scores);
		distil_run_texts_free(&texts);
	}
}

/* distil_rerank(query, document, head) */
Datum
distil_rerank(PG_FUNCTION_ARGS)
{
	return distil_batch_scalar(fcinfo, "distil_rerank");
}

/* ---------- spans ---------- */

/* The part of a text that a span covers, as a datum. */
static Datum
span_text(const DistilText *text, const DistilSpan *span)
{
	return distil_bridge_datum(text->data + span->byte_start, span->byte_end - span->byte_start);
}

/* distil_entities(input, head, aggregate) */
Datum
distil_entities(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	DistilAggregation aggregation;
	const DistilHeadInfo *head;
	DistilOpenModel *open;
	DistilSpan *spans;
	DistilText	input;
	DistilText	aggregate;
	DistilError err;
	char	   *name;
	int64		before;
	int			nspans;
	int			i;

	InitMaterializedSRF(fcinfo, 0);
	aggregate = distil_bridge_text(PG_GETARG_DATUM(2));
	name = pnstrdup(aggregate.data, aggregate.length);
	distil_bridge_check(distil_aggregation_parse(&aggregation, name, &err), &err);
	open = open_head(text_to_cstring(PG_GETARG_TEXT_PP(1)), "token-classification", &head);
	input = distil_bridge_text(PG_GETARG_DATUM(0));
	before = distil_run_truncations(open);
	distil_run_check(distil_session_entities(open->session, &spans, &nspans, &input, aggregation, &err),
					 &err, open);
	spans = take_array(spans, nspans, sizeof(DistilSpan));
	distil_run_truncated(open, before);
	for (i = 0; i < nspans; i++)
	{
		Datum		values[5];
		bool		nulls[5] = {false};

		values[0] = distil_bridge_datum(spans[i].label, strlen(spans[i].label));
		values[1] = Float4GetDatum(spans[i].score);
		values[2] = span_text(&input, &spans[i]);
		values[3] = Int32GetDatum(spans[i].start_pos);
		values[4] = Int32GetDatum(spans[i].end_pos);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* distil_answer(question, context, head, top_k) */
Datum
distil_answer(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const DistilHeadInfo *head;
	DistilOpenModel *open;
	DistilSpan *spans;
	DistilText	question;
	DistilText	context;
	DistilError err;
	int64		before;
	int			top_k;
	int			nspans;
	int			i;

	InitMaterializedSRF(fcinfo, 0);
	top_k = distil_args_int(fcinfo, 3, "top_k", 1);
	open = open_head(text_to_cstring(PG_GETARG_TEXT_PP(2)), "question-answering", &head);
	question = distil_bridge_text(PG_GETARG_DATUM(0));
	context = distil_bridge_text(PG_GETARG_DATUM(1));
	before = distil_run_truncations(open);
	distil_run_check(distil_session_answer(open->session, &spans, &nspans, &question, &context, top_k, &err),
					 &err, open);
	spans = take_array(spans, nspans, sizeof(DistilSpan));
	distil_run_truncated(open, before);
	for (i = 0; i < nspans; i++)
	{
		Datum		values[4];
		bool		nulls[4] = {false};

		values[0] = span_text(&context, &spans[i]);
		values[1] = Float4GetDatum(spans[i].score);
		values[2] = Int32GetDatum(spans[i].start_pos);
		values[3] = Int32GetDatum(spans[i].end_pos);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* ---------- multiple choice ---------- */

typedef struct Choice
{
	int			index;
	float		score;
} Choice;

/* Best first; of equal ones the earlier. */
static int
compare_choices(const void *a, const void *b)
{
	const Choice *x = a;
	const Choice *y = b;

	if (x->score != y->score)
		return x->score < y->score ? 1 : -1;
	return x->index - y->index;
}

/* distil_choose(prompt, choices, head) */
Datum
distil_choose(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(1);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const DistilHeadInfo *head;
	DistilOpenModel *open;
	DistilText	prompt;
	DistilText *choices;
	DistilStatus status;
	DistilError err;
	Choice	   *order;
	Datum	   *elements;
	bool	   *element_nulls;
	float	   *scores;
	int64		before;
	int			n;
	int			i;

	InitMaterializedSRF(fcinfo, 0);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"choices\" must have one dimension, not %d", ARR_NDIM(array))));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &element_nulls, &n);
	choices = palloc(Max(n, 1) * sizeof(DistilText));
	for (i = 0; i < n; i++)
	{
		if (element_nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"choices\" must not hold nulls")));
		choices[i] = distil_bridge_text(elements[i]);
	}
	open = open_head(text_to_cstring(PG_GETARG_TEXT_PP(2)), "multiple-choice", &head);
	if (n == 0)
		return (Datum) 0;
	prompt = distil_bridge_text(PG_GETARG_DATUM(0));
	scores = palloc(n * sizeof(float));
	before = distil_run_truncations(open);
	distil_threads_begin(open, n);
	status = distil_session_choose(open->session, scores, &prompt, choices, n, &err);
	distil_threads_end();
	distil_run_check(status, &err, open);
	distil_run_truncated(open, before);
	order = palloc(n * sizeof(Choice));
	for (i = 0; i < n; i++)
		order[i] = (Choice) {i, scores[i]};
	qsort(order, n, sizeof(Choice), compare_choices);
	for (i = 0; i < n; i++)
	{
		Datum		values[2];
		bool		nulls[2] = {false};

		values[0] = elements[order[i].index];
		values[1] = Float4GetDatum(order[i].score);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* ---------- raw scores ---------- */

/* Rows of a language model's logits as they come from the engine. */
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

static Datum
lm_logits(const DistilOpenModel *open, const DistilText *input, const DistilText *pair)
{
	LogitRows	rows = {CurrentMemoryContext, NULL, 0, 0, 0};
	ArrayType  *array;
	DistilError err;
	int			tokens;

	distil_run_check(distil_session_lm_logits(open->session, input, pair, collect_row, &rows, &tokens, &err),
					 &err, open);
	array = distil_bridge_matrix(tokens, rows.columns);
	if (rows.values != NULL)
	{
		memcpy(distil_bridge_array_data(array), rows.values, (Size) tokens * rows.columns * sizeof(float4));
		pfree(rows.values);
	}
	return PointerGetDatum(array);
}

/* One row for a text, or one for each token. */
static void
head_logits(DistilBatchArgs *args, const DistilOpenModel *open, const DistilHeadInfo *head,
			DistilRunTexts *texts)
{
	bool		per_token = strcmp(head->task, "token-classification") == 0 ||
		strcmp(head->task, "question-answering") == 0;
	DistilRunSink sink;
	DistilError err;

	distil_run_sink(&sink, args, texts, per_token);
	distil_run_check(distil_session_head_many(open->session, texts->texts, texts->pairs, texts->n, &sink.rows,
											  texts->has, &err), &err, open);
	distil_run_sink_finish(&sink);
}

/* args: input, head, pair (may be NULL) */
void
distil_run_logits(DistilBatchArgs *args)
{
	int			first;
	int			end;
	int			i;

	for (first = 0; first < args->nrows; first = end)
	{
		const DistilHeadInfo *head;
		DistilOpenModel *open;
		DistilRunTexts texts;
		char	   *name;
		bool		has_pair;
		int64		before;

		end = pair_group(args, first, &name, &has_pair);
		distil_run_texts(&texts, args, first, end, 2, 0, has_pair ? 2 : -1);
		if (texts.n == 0)
			continue;
		open = open_head(name, NULL, &head);
		before = distil_run_truncations(open);
		if (strcmp(head->name, "lm") != 0)
			head_logits(args, open, head, &texts);
		else
			for (i = 0; i < texts.n; i++)
				args->results[texts.rows[i]] = lm_logits(open, &texts.texts[i],
														 has_pair ? &texts.pairs[i] : NULL);
		distil_run_truncated(open, before);
		distil_run_texts_free(&texts);
	}
}

/* distil_logits(input, head, pair) */
Datum
distil_logits(PG_FUNCTION_ARGS)
{
	return distil_batch_scalar(fcinfo, "distil_logits");
}

/* ---------- losses ---------- */

/* args: example, head */
void
distil_run_loss(DistilBatchArgs *args)
{
	int			i;

	for (i = 0; i < args->nrows; i++)
	{
		const DistilHeadInfo *head;
		DistilOpenModel *open;
		DistilText	json;
		DistilError err;
		int64		before;
		double		loss;

		args->result_nulls[i] = has_null(args, 2, i);
		if (args->result_nulls[i])
			continue;
		open = open_head(text_argument(args, 1, i), NULL, &head);
		json = distil_bridge_jsonb(DatumGetJsonbP(args->values[0][i]));
		before = distil_run_truncations(open);
		distil_run_check(distil_session_loss(open->session, &loss, json.data, json.length, &err), &err, open);
		distil_run_truncated(open, before);
		args->results[i] = Float4GetDatum((float4) loss);
	}
}

/* distil_loss(example, head) */
Datum
distil_loss(PG_FUNCTION_ARGS)
{
	return distil_batch_scalar(fcinfo, "distil_loss");
}
