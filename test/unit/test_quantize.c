/*
 * test_quantize.c
 *		Quantised models: what is stored, what it stands for, how near the embeddings stay.
 *
 * The test models are random and narrow (no weight is redundant), so that eight bits turn their embeddings
 * further than a trained model's: within a cosine of 0.99 (measured: 0.998).
 */
#include "session_fixture.h"

#include "kernels.h"

#include <math.h>

#define COSINE 0.99

static const DistilText samples[] = {
	{"the cat sat on the mat", 22}, {"hello world", 11}, {"a quick brown fox", 17}, {"rows of a table", 15},
	{"one two three four five six seven", 33}, {"unaffable", 9}
};

#define SAMPLES ((int) (sizeof(samples) / sizeof(samples[0])))

/* A model and its quantised form, both loaded. */
typedef struct Pair
{
	LoadedModel original;
	LoadedModel small;
	DistilQuantizeReport report;
} Pair;

static bool
quantize(DistilQuantized **made, DistilQuantizeReport *report, LoadedModel *model, const char *dtype,
		 DistilError *err)
{
	static DistilReader reader; /* outlives the call: tensors that stay are read from it */
	const DistilAllocator *alloc = distil_alloc_system();
	DistilQuantizeOptions options;
	DistilStatus status;

	reader = (DistilReader) {load_read, &model->container, model->container.length};
	status = distil_quantize_options_parse(&options, dtype, "{}", 2, alloc, err);
	CHECK_MSG(status == DISTIL_OK, "%s", err->message);
	options.texts = samples;
	options.ntexts = SAMPLES;
	status = distil_quantize(made, report, &reader, &options, device, alloc, NULL, err);
	distil_quantize_options_reset(&options, alloc);
	return status == DISTIL_OK;
}

/* layout: of the quantised model's image */
static bool
open_pair(Pair *pair, const char *folder, const char *dtype, const char *layout)
{
	DistilQuantized *made = NULL;
	DistilImportOptions options;
	DistilError err = {"", "", ""};
	bool		ok;

	load_layout = NULL;
	if (!load_model(&pair->original, folder, true))
		return false;
	ok = quantize(&made, &pair->report, &pair->original, dtype, &err);
	CHECK_MSG(ok, "%s %s: %s %s", folder, dtype, err.message, err.detail);
	if (!ok)
		return false;
	load_layout = layout;
	options = distil_quantized_options(made);
	ok = load_folder(&pair->small, distil_quantized_folder(made), &options, &err) == DISTIL_OK;
	CHECK_MSG(ok, "%s %s: %s %s", folder, dtype, err.message, err.detail);
	distil_quantized_free(made);
	load_layout = NULL;
	return ok;
}

static void
close_pair(Pair *pair)
{
	load_free(&pair->original);
	load_free(&pair->small);
}

/* Embeddings of the samples, to be freed. */
static float *
embed(const LoadedModel *loaded)
{
	int			d = distil_model_info(loaded->model)->dimensions;
	float	   *out = malloc(sizeof(float) * (size_t) d * SAMPLES);
	bool		has[SAMPLES];
	DistilSession *session;
	DistilError err = {"", "", ""};

	CHECK(distil_session_create(&session, loaded->model, device, 0, distil_alloc_system(), NULL,
								&err) == DISTIL_OK);
	CHECK_MSG(distil_session_embed(session, out, has, samples, SAMPLES, -1, &err) == DISTIL_OK, "%s",
			  err.message);
	distil_session_free(session);
	return out;
}

static double
least_cosine(const float *a, const float *b, int d)
{
	double		least = 1.0;

	for (int i = 0; i < SAMPLES; i++)
		least = fmin(least, distil_vector_cosine(a + (size_t) i * d, b + (size_t) i * d, d));
	return least;
}

static void
check_folder(const char *folder, const char *dtype, const char *layout, double bound)
{
	Pair		pair;
	float	   *want;
	float	   *got;
	double		least;

	if (!open_pair(&pair, folder, dtype, layout))
		return;
	want = embed(&pair.original);
	got = embed(&pair.small);
	least = least_cosine(want, got, distil_model_info(pair.original.model)->dimensions);
	CHECK_MSG(least >= bound && pair.report.cosine_min >= bound &&
			  pair.report.cosine_mean >= pair.report.cosine_min &&
			  pair.report.texts == SAMPLES, "%s as %s in %s: %.6f, reported %.6f %.6f", folder, dtype, layout,
			  least, pair.report.cosine_min, pair.report.cosine_mean);
	/* what was simulated is what is computed, but for bfloat16 in attention */
	CHECK_MSG(fabs(least - pair.report.cosine_min) <= (1.0 - bound) / 2,
			  "%s as %s in %s: %.6f, reported %.6f", folder, dtype, layout, least, pair.report.cosine_min);
	CHECK(strcmp(distil_model_info(pair.small.model)->dtype, dtype) == 0);
	CHECK(strcmp(distil_model_layout(pair.small.model), layout) == 0);
	CHECK(distil_model_info(pair.small.model)->parameters ==
		  distil_model_info(pair.original.model)->parameters);
	CHECK(pair.small.container.length < pair.original.container.length ||
		  strcmp(distil_model_info(pair.original.model)->dtype, "float32") != 0);
	free(want);
	free(got);
	close_pair(&pair);
}

static void
test_models(void)
{
	static const char *const folders[] = {"bert-sentence", "bert-mlm", "bert-f16-sharded", "distilbert-mlm"};
	char		path[200];

	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
	{
		snprintf(path, sizeof(path), MODELS "%s", folders[i]);
		check_folder(path, "int8", DISTIL_LAYOUT_INT8P16, COSINE);
		check_folder(path, "int8", DISTIL_LAYOUT_F32, COSINE);
		check_folder(path, "int8", DISTIL_LAYOUT_BF16P16, COSINE);
		check_folder(path, "bfloat16", DISTIL_LAYOUT_BF16P16, 0.999);
	}
}

/* The files of the quantised model are those of a float32 model that gives the same vectors to the bit. */
static void
test_export(void)
{
	Pair		pair;
	LoadedModel again;
	DistilImportOptions options = {true};
	DistilBundle *bundle;
	DistilError err = {"", "", ""};
	float	   *a;
	float	   *b;
	int			d;

	if (!open_pair(&pair, MODELS "bert-sentence", "int8", DISTIL_LAYOUT_F32))
		return;
	{
		DistilReader reader = {load_read, &pair.small.container, pair.small.container.length};

		CHECK(distil_bundle_open(&bundle, &reader, distil_alloc_system(), &err) == DISTIL_OK);
		load_layout = DISTIL_LAYOUT_F32;
		CHECK_MSG(load_folder(&again, distil_bundle_folder(bundle), &options, &err) == DISTIL_OK, "%s",
				  err.message);
		load_layout = NULL;
	}
	CHECK(strcmp(distil_model_info(again.model)->dtype, "float32") == 0);
	a = embed(&pair.small);
	b = embed(&again);
	d = distil_model_info(again.model)->dimensions;
	CHECK(memcmp(a, b, sizeof(float) * (size_t) d * SAMPLES) == 0);
	free(a);
	free(b);
	load_free(&again);
	distil_bundle_free(bundle);
	close_pair(&pair);
}

/* A quantised weight read one by one, from panels, is that of the plain image. */
static void
test_layouts(void)
{
	Pair		plain;
	Pair		packed;
	int			differ = 0;
	int			eight = 0;

	if (!open_pair(&plain, MODELS "bert-mlm", "int8", DISTIL_LAYOUT_F32) ||
		!open_pair(&packed, MODELS "bert-mlm", "int8", DISTIL_LAYOUT_INT8P16))
		return;
	for (int i = 0; i < plain.small.model->spec.table.n; i++)
	{
		const DistilParam *p = &plain.small.model->spec.table.params[i];
		const DistilParam *q = &packed.small.model->spec.table.params[i];

		eight += q->type == DISTIL_TYPE_INT8;
		for (size_t at = 0; q->type == DISTIL_TYPE_INT8 && at < p->count; at++)
		{
			float		x;
			float		y;

			distil_param_read(&x, plain.small.model->weights, p, at, 1);
			distil_param_read(&y, packed.small.model->weights, q, at, 1);
			differ += x != y;
		}
	}
	CHECK(eight > 0 && differ == 0);
	CHECK(eight == plain.report.linear - plain.report.fallback);
	/* a second time is refused */
	{
		DistilQuantized *made;
		DistilQuantizeReport report;
		DistilError err;

		CHECK(!quantize(&made, &report, &plain.small, "int8", &err) && made == NULL);
		CHECK(strcmp(err.message, "the model is quantized already") == 0);
	}
	close_pair(&plain);
	close_pair(&packed);
}

static void
check_option(const char *dtype, const char *json, const char *message)
{
	DistilQuantizeOptions options;
	DistilError err = {"", "", ""};

	CHECK(distil_quantize_options_parse(&options, dtype, json, strlen(json), distil_alloc_system(), &err) ==
		  DISTIL_ERR_ARGUMENT);
	CHECK_MSG(strcmp(err.message, message) == 0, "%s", err.message);
}

static void
test_options(void)
{
	const DistilAllocator *alloc = distil_alloc_system();
	const char *good = "{\"texts\": [\"a\", \"bc\"], \"smoothing\": 0.25}";
	DistilQuantizeOptions options;
	DistilError err;

	CHECK(distil_quantize_options_parse(&options, "int8", good, strlen(good), alloc, &err) == DISTIL_OK);
	CHECK(options.type == DISTIL_TYPE_INT8 && options.smoothing == 0.25 && options.ntexts == 2 &&
		  options.texts[1].length == 2 && memcmp(options.texts[1].data, "bc", 2) == 0);
	distil_quantize_options_reset(&options, alloc);
	check_option("int4", "{}", "data type \"int4\" is not supported");
	check_option("int8", "[]", "quantization options must be a JSON object");
	check_option("int8", "{\"bits\": 8}", "unknown quantization option \"bits\"");
	check_option("int8", "{\"smoothing\": 2}", "option \"smoothing\" must be a number from 0 to 1");
	check_option("int8", "{\"texts\": [1]}", "option \"texts\" must be a list of texts");
	check_option("int8", "{\"texts\": []}", "option \"texts\" must be a list of texts");
	check_option("int8", "{\"query\": 1}", "option \"query\" must be a text");
	check_option("int8", "{\"query\": \"t\", \"texts\": [\"a\"]}",
				 "options \"texts\" and \"query\" exclude each other");
}

static bool
stop_after(void *ctx)
{
	return --*(int *) ctx < 0;
}

/* Every poll may be the last one. */
static void
test_cancel(void)
{
	LoadedModel model;
	DistilQuantizeOptions options = {.type = DISTIL_TYPE_INT8,.smoothing = 0.5,.texts = samples,
	.ntexts = SAMPLES};
	DistilQuantizeReport report;
	DistilQuantized *made = NULL;
	DistilError err;
	int			polls = 0;

	if (!load_model(&model, MODELS "bert-sentence", true))
		return;
	for (; polls < 400; polls += 1 + polls / 8)
	{
		int			left = polls;
		DistilPoll	poll = {stop_after, &left};
		DistilReader reader = {load_read, &model.container, model.container.length};
		DistilStatus status = distil_quantize(&made, &report, &reader, &options, device,
											  distil_alloc_system(), &poll, &err);

		CHECK(status == DISTIL_OK || (status == DISTIL_ERR_CANCELLED && made == NULL));
		distil_quantized_free(made);
	}
	load_free(&model);
}

typedef struct Counted
{
	int			left;			/* requests before one fails */
	int			live;
} Counted;

static void *
counted_alloc(void *ctx, size_t bytes)
{
	Counted    *counted = ctx;
	void	   *memory = --counted->left < 0 ? NULL : malloc(bytes);

	counted->live += memory != NULL;
	return memory;
}

static void
counted_release(void *ctx, void *memory)
{
	((Counted *) ctx)->live -= memory != NULL;
	free(memory);
}

/* Whichever request for memory fails, the call says so and keeps none. */
static void
test_memory(void)
{
	LoadedModel model;
	DistilQuantizeOptions options = {.type = DISTIL_TYPE_INT8,.smoothing = 0.5,.texts = samples,
	.ntexts = SAMPLES};
	DistilQuantizeReport report;
	DistilQuantized *made = NULL;
	DistilError err;
	DistilStatus status = DISTIL_ERR_MEMORY;
	int			n = 0;

	if (!load_model(&model, MODELS "bert-sentence", true))
		return;
	for (; status == DISTIL_ERR_MEMORY; n += 1 + n / 16)
	{
		Counted		counted = {n, 0};
		DistilAllocator alloc = {counted_alloc, counted_release, &counted};
		DistilReader reader = {load_read, &model.container, model.container.length};

		status = distil_quantize(&made, &report, &reader, &options, device, &alloc, NULL, &err);
		CHECK(status == DISTIL_OK || (status == DISTIL_ERR_MEMORY && made == NULL));
		distil_quantized_free(made);
		CHECK_MSG(counted.live == 0, "%d blocks left after request %d", counted.live, n);
	}
	CHECK(status == DISTIL_OK && n > 100);
	load_free(&model);
}

/* ---------- what a file may say ---------- */

/* The set of a file with this header and these numbers; *set is NULL after a failure. */
static DistilStatus
read_file(DistilTensorSet **set, const DistilReader **reader, const char *json, const void *data,
		  size_t bytes, DistilError *err)
{
	static DistilBuffer file;
	static DistilReader over;
	uint64_t	length = strlen(json);
	DistilStatus status;

	distil_buffer_free(&file);
	distil_buffer_init(&file, distil_alloc_system());
	distil_buffer_append(&file, &length, sizeof(length));
	distil_buffer_append(&file, json, length);
	distil_buffer_append(&file, data, bytes);
	over = (DistilReader) {load_read, &file, file.length};
	*reader = &over;
	CHECK(distil_tensor_set_create(set, distil_alloc_system(), err) == DISTIL_OK);
	status = distil_tensor_set_add(*set, &over, "f", "", err);
	if (status == DISTIL_OK)
		status = distil_tensor_set_finish(*set, err);
	if (status != DISTIL_OK)
	{
		distil_tensor_set_free(*set);
		*set = NULL;
	}
	return status;
}

static void
refuse_file(const char *json, const void *data, size_t bytes, const char *message)
{
	DistilTensorSet *set;
	const DistilReader *reader;
	DistilError err = {"", "", ""};

	CHECK(read_file(&set, &reader, json, data, bytes, &err) == DISTIL_ERR_MODEL_FILE);
	CHECK_MSG(strcmp(err.message, message) == 0, "%s", err.message);
}

/* Values of a quantised tensor; factors that do not fit, or are not finite. */
static void
test_files(void)
{
	struct
	{
		float		rows[2];
		float		columns[3];
		int8_t		numbers[6];
	}			data = {{0.5f, 2.0f}, {1.0f, 10.0f, 100.0f}, {1, -2, 3, 127, -128, 0}};
	const char *both = "{\"w:rows\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
		"\"w:columns\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[8,20]},"
		"\"w\":{\"dtype\":\"I8\",\"shape\":[2,3],\"data_offsets\":[20,26]}}";
	const char *wrong = "{\"w:rows\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[0,20]},"
		"\"w\":{\"dtype\":\"I8\",\"shape\":[2,3],\"data_offsets\":[20,26]}}";
	const char *plain = "{\"x\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[0,20]},"
		"\"w\":{\"dtype\":\"I8\",\"shape\":[2,3],\"data_offsets\":[20,26]}}";
	/* claims four billion rows, of no numbers: no factors are made for them */
	const char *hollow = "{\"w:columns\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"
		"\"w\":{\"dtype\":\"I8\",\"shape\":[4294967296,0],\"data_offsets\":[0,0]}}";
	const float want[6] = {0.5f, -10.0f, 150.0f, 254.0f, -2560.0f, 0.0f};
	float		got[6];
	char		scratch[12];
	DistilTensorSet *set;
	const DistilReader *reader;
	const DistilTensor *w;
	DistilError err;

	CHECK(read_file(&set, &reader, both, &data, 26, &err) == DISTIL_OK);
	w = distil_tensor_set_find(set, "w");
	CHECK(distil_tensor_is_weight(w) && !distil_tensor_is_factor(w));
	CHECK(distil_tensor_is_factor(distil_tensor_set_find(set, "w:rows")));
	CHECK(distil_tensor_floats(w, 0, got, 6, scratch, &err) == DISTIL_OK &&
		  memcmp(got, want, sizeof(want)) == 0);
	CHECK(distil_tensor_floats(w, 2, got, 3, scratch, &err) == DISTIL_OK && memcmp(got, want + 2, 12) == 0);
	distil_tensor_set_free(set);
	CHECK(read_file(&set, &reader, plain, &data, 26, &err) == DISTIL_OK);
	CHECK(!distil_tensor_is_weight(distil_tensor_set_find(set, "w")));
	distil_tensor_set_free(set);
	CHECK(read_file(&set, &reader, hollow, &data, 0, &err) == DISTIL_OK);
	CHECK(!distil_tensor_is_weight(distil_tensor_set_find(set, "w")));
	distil_tensor_set_free(set);
	refuse_file(wrong, &data, 26, "tensor \"w:rows\" does not fit the one it belongs to");
	data.columns[1] = NAN;
	refuse_file(both, &data, 26, "tensor \"w\" has factors that are not finite");
	data.columns[1] = 1e38f;
	refuse_file(both, &data, 26, "tensor \"w\" has factors that are not finite");
}

int
main(void)
{
	char		message[400];

	device = distil_device_open("cpu", "auto", message, sizeof(message));
	CHECK_MSG(device != NULL, "%s", message);
	if (device == NULL)
		return check_report("quantize");
	test_options();
	test_models();
	test_export();
	test_layouts();
	test_cancel();
	test_memory();
	test_files();
	device->ops->close(device);
	return check_report("quantize");
}
