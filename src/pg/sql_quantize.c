/*
 * sql_quantize.c
 *		distil_quantize: a model once more, with weights of fewer bits.
 *
 * The rule a newcomer would break: the query that gives the texts runs as the current user, like the corpus
 * of a training.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "bridge.h"
#include "corpus.h"
#include "model_store.h"
#include "model_weights.h"
#include "sql_args.h"

/* Of a query; more would only take longer. */
#define MAX_TEXTS 1000

PG_FUNCTION_INFO_V1(distil_quantize_model);

typedef struct TextList
{
	MemoryContext context;
	DistilText *texts;			/* [MAX_TEXTS] */
	int			n;
} TextList;

static void
add_text(void *ctx, Datum text_datum)
{
	TextList   *list = ctx;
	MemoryContext old;
	DistilText	text;
	char	   *copy;

	old = MemoryContextSwitchTo(list->context);
	text = distil_bridge_text(text_datum);
	copy = palloc(text.length + 1);
	memcpy(copy, text.data, text.length);
	list->texts[list->n].data = copy;
	list->texts[list->n].length = text.length;
	list->n++;
	MemoryContextSwitchTo(old);
}

static void
read_query(DistilQuantizeOptions *options)
{
	TextList	list = {CurrentMemoryContext, palloc(sizeof(DistilText) * MAX_TEXTS), 0};
	DistilCorpus corpus;

	SPI_connect();
	distil_corpus_open(&corpus, pg_any_to_server(options->query, strlen(options->query), PG_UTF8), NULL);
	distil_corpus_read(&corpus, MAX_TEXTS, add_text, &list);
	SPI_finish();
	if (list.n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"query\" gives no texts")));
	options->texts = list.texts;
	options->ntexts = list.n;
}

static void
report_result(const char *name, const char *dtype, const DistilQuantizeReport *report)
{
	ereport(NOTICE,
			(errmsg("model \"%s\" has weights in %s: cosine to the original %.6f on average, %.6f at least",
					name, dtype, report->cosine_mean, report->cosine_min),
			 report->fallback == 0 ? errdetail("Measured with %d texts.", report->texts)
			 : errdetail("Measured with %d texts; %d of %d matrices of its layers stay in bfloat16.",
						 report->texts, report->fallback, report->linear),
			 report->linear == 0 ? 0
			 : errhint("distil_export() writes it as a float32 model: there is no standard file for these "
					   "weights.")));
}

/* distil_quantize(model, new_name, dtype, options); the engine has a function of that name */
Datum
distil_quantize_model(PG_FUNCTION_ARGS)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "distil quantize",
												  ALLOCSET_DEFAULT_SIZES);
	DistilAllocator *alloc = distil_bridge_allocator(context);
	char	   *model = distil_args_string(fcinfo, 0, "model");
	char	   *name = distil_args_new_model(fcinfo, 1, "new_name", "distil_quantize()");
	char	   *dtype = distil_args_string(fcinfo, 2, "dtype");
	DistilQuantizeOptions options;
	DistilQuantizeReport report;
	DistilImportOptions import_options;
	DistilQuantized *quantized;
	DistilImport *import;
	DistilModelRow row;
	DistilReader *reader;
	DistilText	json;
	DistilError err;

	distil_args_require(fcinfo, 3, "options");
	json = distil_bridge_jsonb(PG_GETARG_JSONB_P(3));
	distil_bridge_check(distil_quantize_options_parse(&options, dtype, json.data, json.length, alloc, &err),
						&err);
	distil_store_lookup(&row, model);
	distil_weights_check(&row);
	if (options.query != NULL)
		read_query(&options);
	reader = distil_store_open(row.weights, row.bytes);
	distil_bridge_check_model(distil_quantize(&quantized, &report, reader, &options, distil_bridge_device(),
											  alloc, distil_bridge_poll(), &err), &err, row.name);
	import_options = distil_quantized_options(quantized);
	distil_bridge_check(distil_import_open(&import, distil_quantized_folder(quantized), &import_options,
										   alloc, distil_bridge_poll(), &err), &err);
	distil_store_import(name, import, NULL);
	distil_store_set_cosine(name, report.cosine_mean, report.cosine_min);
	distil_import_free(import);
	distil_quantized_free(quantized);
	distil_store_close(reader);
	report_result(name, dtype, &report);
	MemoryContextDelete(context);
	PG_RETURN_TEXT_P(cstring_to_text(name));
}
