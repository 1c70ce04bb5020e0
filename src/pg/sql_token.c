/*
 * sql_token.c
 *		Token functions: they never truncate and never run a model.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
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

PG_FUNCTION_INFO_V1(distil_tokenize);
PG_FUNCTION_INFO_V1(distil_token_ids);
PG_FUNCTION_INFO_V1(distil_token_count);
PG_FUNCTION_INFO_V1(distil_decode);
PG_FUNCTION_INFO_V1(distil_chunk);

typedef enum Wanted
{
	WANT_IDS,
	WANT_OFFSETS,				/* and ids */
	WANT_COUNT					/* only: a long text needs no memory for its tokens */
} Wanted;

/*
 * The encoding of token functions: its arrays are kept for the next call, in memory of
 * the backend.  One user at a time: they are read before the next call of encode().
 */
static DistilEncoding *
encode(const DistilTokenizer *tokenizer, const DistilText *input, const DistilText *pair, Wanted wanted)
{
	static DistilEncoding *encoding = NULL;
	DistilEncodeOptions options = distil_tokenizer_defaults(tokenizer);
	DistilError err;

	if (encoding == NULL)
	{
		DistilEncoding *made = MemoryContextAllocZero(TopMemoryContext, sizeof(DistilEncoding));

		distil_encoding_init(made, distil_bridge_allocator(TopMemoryContext));
		encoding = made;
	}
	else if (encoding->capacity > 1024 * 1024)
		distil_encoding_reset(encoding);
	options.offsets = wanted == WANT_OFFSETS;
	options.count_only = wanted == WANT_COUNT;
	options.max_tokens = 0;
	options.truncation = DISTIL_TRUNCATE_NONE;
	distil_bridge_check(distil_tokenizer_encode(tokenizer, encoding, input, pair, &options,
												distil_bridge_poll(), &err), &err);
	return encoding;
}

static Datum
int_array(const int32_t *values, int n)
{
	Size		bytes;
	ArrayType  *array;

	if (n == 0)
		return PointerGetDatum(construct_empty_array(INT4OID));
	bytes = ARR_OVERHEAD_NONULLS(1) + (Size) n * sizeof(int32);
	if (!AllocSizeIsValid(bytes))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("an array of %d token ids is too large", n)));
	array = palloc0(bytes);
	SET_VARSIZE(array, bytes);
	array->ndim = 1;
	array->elemtype = INT4OID;
	ARR_DIMS(array)[0] = n;
	ARR_LBOUND(array)[0] = 1;
	memcpy(distil_bridge_array_data(array), values, (Size) n * sizeof(int32));
	return PointerGetDatum(array);
}

/* ---------- ids and counts ---------- */

/* args: input, model (NULL: default), pair (may be NULL) */
void
distil_run_token_ids(DistilBatchArgs *args)
{
	int			first;
	int			end;
	int			i;

	for (first = 0; first < args->nrows; first = end)
	{
		const DistilTokenizer *tokenizer = NULL;
		char	   *model;

		end = distil_run_group(args, first, 1, -1, &model, NULL);
		for (i = first; i < end; i++)
		{
			bool		has_pair = distil_run_has(args, 2, i);
			DistilEncoding *encoding;
			DistilText	input;
			DistilText	pair;

			args->result_nulls[i] = args->nulls[0][i];
			if (args->nulls[0][i])
				continue;
			if (tokenizer == NULL)
				tokenizer = distil_model_tokenizer(distil_cache_get_tokenizer(model)->model);
			input = distil_bridge_text(args->values[0][i]);
			if (has_pair)
				pair = distil_bridge_text(args->values[2][i]);
			encoding = encode(tokenizer, &input, has_pair ? &pair : NULL, WANT_IDS);
			args->results[i] = int_array(encoding->ids, encoding->n);
		}
	}
}

Datum
distil_token_ids(PG_FUNCTION_ARGS)
{
	return distil_batch_scalar(fcinfo, "distil_token_ids");
}

/* args: input[, model] (a NULL name gives NULL) */
void
distil_run_token_count(DistilBatchArgs *args)
{
	bool		named = args->nargs > 1;
	int			first;
	int			end;
	int			i;

	for (first = 0; first < args->nrows; first = end)
	{
		const DistilTokenizer *tokenizer = NULL;
		char	   *model;

		end = distil_run_group(args, first, named ? 1 : -1, -1, &model, NULL);
		for (i = first; i < end; i++)
		{
			DistilText	input;

			args->result_nulls[i] = args->nulls[0][i] || (named && model == NULL);
			if (args->result_nulls[i])
				continue;
			if (tokenizer == NULL)
				tokenizer = distil_model_tokenizer(distil_cache_get_tokenizer(model)->model);
			input = distil_bridge_text(args->values[0][i]);
			args->results[i] = Int32GetDatum(encode(tokenizer, &input, NULL, WANT_COUNT)->n);
		}
	}
}

/* distil_token_count(input), distil_token_count(input, model) */
Datum
distil_token_count(PG_FUNCTION_ARGS)
{
	return distil_batch_scalar(fcinfo, "distil_token_count");
}

/* distil_tokenize(input, model) */
Datum
distil_tokenize(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const DistilTokenizer *tokenizer;
	DistilEncoding *encoding;
	DistilText	input;
	int			i;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	tokenizer = distil_model_tokenizer(distil_cache_get_tokenizer(distil_args_optional(fcinfo, 1))->model);
	input = distil_bridge_text(PG_GETARG_DATUM(0));
	encoding = encode(tokenizer, &input, NULL, WANT_OFFSETS);
	for (i = 0; i < encoding->n; i++)
	{
		size_t		length = 0;
		const char *token = distil_tokenizer_token(tokenizer, encoding->ids[i], &length);
		Datum		values[5];
		bool		nulls[5] = {false};

		CHECK_FOR_INTERRUPTS();
		values[0] = Int32GetDatum(i);
		values[1] = Int32GetDatum(encoding->ids[i]);
		nulls[2] = token == NULL;
		values[2] = token != NULL ? distil_bridge_datum(token, length) : (Datum) 0;
		values[3] = Int32GetDatum(encoding->starts[i]);
		values[4] = Int32GetDatum(encoding->ends[i]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* ---------- decoding ---------- */

static Datum
decode_ids(const DistilTokenizer *tokenizer, Datum ids, bool skip_special)
{
	ArrayType  *array = DatumGetArrayTypeP(ids);
	int			n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	DistilAllocator *alloc = distil_bridge_allocator(CurrentMemoryContext);
	char	   *decoded;
	size_t		length;
	DistilError err;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"ids\" must have one dimension, not %d", ARR_NDIM(array))));
	if (ARR_HASNULL(array) && array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"ids\" must not hold nulls")));
	distil_bridge_check(distil_tokenizer_decode(tokenizer, &decoded, &length,
												(const int32_t *) distil_bridge_array_data(array),
												n, skip_special, alloc, &err), &err);
	return distil_bridge_datum(decoded, length);
}

/* args: ids, model (NULL: default), skip_special */
void
distil_run_decode(DistilBatchArgs *args)
{
	int			i;

	for (i = 0; i < args->nrows; i++)
	{
		DistilOpenModel *open;

		args->result_nulls[i] = args->nulls[0][i];
		if (args->nulls[0][i])
			continue;
		if (args->nulls[2][i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null", "skip_special")));
		open = distil_cache_get_tokenizer(distil_run_has(args, 1, i) ? TextDatumGetCString(args->values[1][i])
										  : NULL);
		args->results[i] = decode_ids(distil_model_tokenizer(open->model), args->values[0][i],
									  DatumGetBool(args->values[2][i]));
	}
}

Datum
distil_decode(PG_FUNCTION_ARGS)
{
	return distil_batch_scalar(fcinfo, "distil_decode");
}

/* ---------- chunks ---------- */

/* distil_chunk(input, model, max_tokens, overlap) */
Datum
distil_chunk(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	DistilOpenModel *open;
	DistilChunk *chunks;
	DistilText	input;
	DistilError err;
	int			max_tokens;
	int			overlap;
	int			nchunks;
	int			i;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	open = distil_cache_get_tokenizer(distil_args_optional(fcinfo, 1));
	max_tokens = PG_ARGISNULL(2) ? open->info->max_tokens : distil_args_int(fcinfo, 2, "max_tokens", 1);
	overlap = distil_args_int(fcinfo, 3, "overlap", 0);
	input = distil_bridge_text(PG_GETARG_DATUM(0));
	distil_bridge_check(distil_tokenizer_chunk(distil_model_tokenizer(open->model), &chunks, &nchunks, &input,
											   max_tokens, overlap,
											   distil_bridge_allocator(CurrentMemoryContext),
											   distil_bridge_poll(), &err), &err);
	for (i = 0; i < nchunks; i++)
	{
		const DistilChunk *chunk = &chunks[i];
		Datum		values[5];
		bool		nulls[5] = {false};

		CHECK_FOR_INTERRUPTS();
		values[0] = Int32GetDatum(i + 1);
		values[1] = distil_bridge_datum(pnstrdup(input.data + chunk->byte_start,
												 chunk->byte_end - chunk->byte_start),
										chunk->byte_end - chunk->byte_start);
		values[2] = Int32GetDatum(chunk->start_pos);
		values[3] = Int32GetDatum(chunk->end_pos);
		values[4] = Int32GetDatum(chunk->tokens);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
