/*
 * test_quantize.c
 *		Quantised models: what is stored, what it stands for, how near the embeddings stay.
 *
 * The test models are random and narrow (no weight is redundant), so that eight bits turn their embeddings
 * further than a trained model's: within a cosine of 0.99 (measured: 0.998).
 */
#include "session_fixture.h"

#include "kernels.h"
#include "quantize.h"

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
	CHECK(pair.report.cosine_mean < 1.0 - 1e-9);	/* measured with what is stored, not with float32 */
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
		check_folder(path, "int8", DISTIL_LAYOUT_INT8P16_ORDERED, COSINE);
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

/* The order in the image is that of the panels beside it. */
static bool
order_is_right(const DistilModel *model, int param)
{
	DistilWeight w;
	uint8_t    *scratch;
	uint16_t   *want;
	size_t		length;
	bool		right;
	int			half;

	distil_param_weight(&w, &model->spec, model->weights, param, model->spec.layer[0].norm1_bias);
	length = distil_order_length(w.n, w.k);
	scratch = malloc(DISTIL_ORDER_SCRATCH(w.k));
	want = malloc(length * sizeof(uint16_t));
	for (half = 0; half < distil_order_halves(w.n); half++)
		distil_order_half(want, scratch, w.data, half, w.k);
	right = w.order != NULL && memcmp(want, w.order, length * sizeof(uint16_t)) == 0;
	free(scratch);
	free(want);
	return right;
}

/* A quantised weight read one by one, from panels, is that of the plain image. */
static void
check_layout(const char *layout)
{
	bool		ordered = strcmp(layout, DISTIL_LAYOUT_INT8P16_ORDERED) == 0;
	Pair		plain;
	Pair		packed;
	int			differ = 0;
	int			eight = 0;

	if (!open_pair(&plain, MODELS "bert-mlm", "int8", DISTIL_LAYOUT_F32) ||
		!open_pair(&packed, MODELS "bert-mlm", "int8", layout))
		return;
	for (int i = 0; i < plain.small.model->spec.table.n; i++)
	{
		const DistilParam *p = &plain.small.model->spec.table.params[i];
		const DistilParam *q = &packed.small.model->spec.table.params[i];

		eight += q->type == DISTIL_TYPE_INT8;
		CHECK(q->type != DISTIL_TYPE_INT8 || !ordered || order_is_right(packed.small.model, i));
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
test_layouts(void)
{
	check_layout(DISTIL_LAYOUT_INT8P16);
	check_layout(DISTIL_LAYOUT_INT8P16_ORDERED);
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

/* ---------- rounding that makes up for errors ---------- */

#define INPUTS 400
#define MAX_COLS 150
#define MAX_ROWS 300

/* A layer, its inputs, and what quantising made of it. */
typedef struct Layer
{
	DistilQuantMatrix matrix;
	float		x[INPUTS * MAX_COLS];
	float		w[MAX_ROWS * MAX_COLS];
	int8_t		values[MAX_ROWS * MAX_COLS];
	int8_t		plain[MAX_ROWS * MAX_COLS]; /* each weight to the next step */
	float		scale[MAX_ROWS];
	float		factor[MAX_COLS];
	float		gram[MAX_COLS * MAX_COLS + DISTIL_GRAM_ROWS * DISTIL_GRAM_ROWS];
} Layer;

static Layer layer;

static float
uniform(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return (float) (*seed >> 8) / 8388608.0f - 1.0f;
}

/* Inputs are mixtures of `parts` hidden ones and a little noise; 0: they are all 0. */
static void
make_layer(int rows, int cols, int parts, float noise)
{
	static float mix[MAX_COLS * MAX_COLS];
	uint32_t	seed = 7;
	DistilError err;

	layer.matrix = (DistilQuantMatrix) {.rows = rows,.cols = cols,.values = layer.values,.scale = layer.scale,
	.factor = layer.factor,.gram = layer.gram};
	memset(layer.x, 0, sizeof(layer.x));
	memset(layer.gram, 0, sizeof(layer.gram));
	for (int i = 0; i < parts * cols; i++)
		mix[i] = uniform(&seed);
	for (int t = 0; t < INPUTS && parts > 0; t++)
	{
		float	   *x = layer.x + t * cols;

		for (int j = 0; j < cols; j++)
			x[j] = noise * uniform(&seed);
		for (int k = 0; k < parts; k++)
		{
			float		hidden = uniform(&seed);

			for (int j = 0; j < cols; j++)
				x[j] += hidden * mix[k * cols + j];
		}
	}
	for (int j = 0; j < cols; j++)
		layer.factor[j] = 1.5f + uniform(&seed);
	for (int i = 0; i < rows; i++)
	{
		layer.scale[i] = 0.01f * (1.5f + uniform(&seed));
		for (int j = 0; j < cols; j++)
		{
			float		steps = 1.3f * 127.0f * uniform(&seed); /* some are beyond 127 */
			int			at = i * cols + j;

			layer.w[at] = steps * layer.factor[j] * layer.scale[i];
			layer.values[at] = layer.plain[at] = (int8_t) fminf(fmaxf(rintf(steps), -127.0f), 127.0f);
		}
	}
	/* in two parts, as batches come */
	CHECK(distil_quantize_correlate(&layer.matrix, layer.x, 150, device, NULL, &err) == DISTIL_OK);
	CHECK(distil_quantize_correlate(&layer.matrix, layer.x + 150 * cols, INPUTS - 150, device, NULL, &err) ==
		  DISTIL_OK);
}

static bool
round_again(void)
{
	DistilError err;

	return distil_quantize_compensate(&layer.matrix, layer.w, device, distil_alloc_system(), NULL, &err) ==
		DISTIL_OK;
}

/* Squares of what the outputs of the layer are off by. */
static double
output_error(const int8_t *values)
{
	const DistilQuantMatrix *m = &layer.matrix;
	double		sum = 0.0;

	for (int i = 0; i < m->rows; i++)
		for (int t = 0; t < INPUTS; t++)
		{
			double		off = 0.0;

			for (int j = 0; j < m->cols; j++)
			{
				int			at = i * m->cols + j;

				off += layer.x[t * m->cols + j] *
					((double) values[at] * m->scale[i] * m->factor[j] - layer.w[at]);
			}
			sum += off * off;
		}
	return sum;
}

static void
check_gram(double *h)
{
	int			n = layer.matrix.cols;
	double		mean = 0.0;
	double		worst = 0.0;

	CHECK(distil_gram_size((size_t) n) <= sizeof(layer.gram) / sizeof(float));
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++)
		{
			float		got = distil_gram_value(layer.gram, (size_t) n, (size_t) i, (size_t) j);
			double		sum = 0.0;

			for (int t = 0; t < INPUTS; t++)
				sum += (double) layer.x[t * n + i] * layer.x[t * n + j];
			worst = check_worse(worst, fabs(sum - got));
			h[i * n + j] = sum * layer.factor[i] * layer.factor[j];
			mean += i == j ? h[i * n + j] / n : 0.0;
		}
	/* sums of 400 products of about 10 in float32 */
	CHECK_MSG(worst < 1e-2, "sum of products off by %g", worst);
	for (int i = 0; i < n; i++)
		h[i * n + i] += 0.1 * mean;
}

/* z [left] with H z = (1, 0, ...) for the left x left part of h that the columns in order[] name. */
static void
solve_first(double *z, const double *h, const int *order, int left, int n)
{
	static double a[MAX_COLS][MAX_COLS + 1];

	for (int i = 0; i < left; i++)
	{
		for (int j = 0; j < left; j++)
			a[i][j] = h[order[i] * n + order[j]];
		a[i][left] = i == 0;
	}
	for (int k = 0; k < left; k++)
		for (int i = k + 1; i < left; i++)
			for (int j = left; j >= k; j--)
				a[i][j] -= a[i][k] / a[k][k] * a[k][j];
	for (int i = left - 1; i >= 0; i--)
	{
		z[i] = a[i][left];
		for (int j = i + 1; j < left; j++)
			z[i] -= a[i][j] * z[j];
		z[i] /= a[i][i];
	}
}

/*
 * The definition: with the columns before it rounded, the others, were they free, would make the output's
 * error least at w_F + H_FF^-1 H_FS (w_S - q_S); the next column is rounded from there.
 */
static void
check_rounding(int rows, int cols)
{
	static double h[MAX_COLS * MAX_COLS];
	int			order[MAX_COLS];
	double		z[MAX_COLS];
	double		worst = 0.0;

	make_layer(rows, cols, 12, 0.1f);
	check_gram(h);
	CHECK(round_again());
	for (int j = 0; j < cols; j++)
		order[j] = j;
	for (int j = 0; j < cols; j++)
		for (int k = j + 1; k < cols; k++)
			if (h[order[k] * cols + order[k]] > h[order[j] * cols + order[j]])
			{
				int			swap = order[j];

				order[j] = order[k];
				order[k] = swap;
			}
	for (int k = 0; k < cols; k++)
	{
		solve_first(z, h, order + k, cols - k, cols);
		for (int i = 0; i < rows; i++)
		{
			const float *w = layer.w + i * cols;
			const int8_t *q = layer.values + i * cols;
			int			at = order[k];
			double		want = w[at] / layer.factor[at];

			for (int s = 0; s < k; s++)
			{
				int			from = order[s];
				double		share = 0.0;

				for (int j = k; j < cols; j++)
					share += z[j - k] * h[order[j] * cols + from];
				want += share * (w[from] / layer.factor[from] - q[from] * (double) layer.scale[i]);
			}
			want = fmin(fmax(want / layer.scale[i], -127.0), 127.0);
			worst = check_worse(worst, fabs(q[at] - want));
		}
	}
	/* half a step, and float32's part in a sum over all columns */
	CHECK_MSG(worst <= 0.5 + 0.02, "[%d, %d] rounded %.4f steps away", rows, cols, worst);
}

/* values stay as they are */
static void
check_kept(const char *what)
{
	size_t		count = (size_t) layer.matrix.rows * (size_t) layer.matrix.cols;

	CHECK_MSG(round_again() && memcmp(layer.values, layer.plain, count) == 0, "%s", what);
}

static bool
stop_after(void *ctx)
{
	return --*(int *) ctx < 0;
}

static void
test_rounding(void)
{
	int			cancelled = 0;
	double		plain;

	check_rounding(1, 1);
	check_rounding(300, 9);
	check_rounding(20, 33);
	check_rounding(2, 150);
	/* inputs that hang together: most of the error goes away (measured: to a twentieth) */
	make_layer(40, 100, 12, 0.1f);
	plain = output_error(layer.plain);
	CHECK(round_again());
	CHECK_MSG(output_error(layer.values) < 0.3 * plain, "%g of %g", output_error(layer.values), plain);
	/* all columns say the same, or nothing, or nonsense */
	make_layer(40, 100, 1, 0.0f);
	plain = output_error(layer.plain);
	CHECK(round_again());
	CHECK_MSG(output_error(layer.values) < 0.3 * plain, "%g of %g", output_error(layer.values), plain);
	make_layer(5, 40, 0, 0.0f);
	check_kept("no inputs");
	make_layer(5, 40, 12, 0.1f);
	layer.gram[40 * 7 + 7] = NAN;
	check_kept("not a number on the diagonal");
	make_layer(5, 40, 12, 0.1f);
	layer.gram[40 * 7 + 5] = NAN;
	check_kept("not a number beside it");
	make_layer(5, 40, 12, 0.1f);
	layer.gram[40 * 7 + 5] = 1e6f;
	check_kept("not positive definite");
	for (int polls = 0; polls < 40; polls++)
	{
		int			left = polls;
		DistilPoll	poll = {stop_after, &left};
		DistilError err;
		DistilStatus status;

		make_layer(5, 100, 12, 0.1f);
		status = distil_quantize_compensate(&layer.matrix, layer.w, device, distil_alloc_system(), &poll,
											&err);
		CHECK(status == DISTIL_OK || status == DISTIL_ERR_CANCELLED);
		cancelled += status == DISTIL_ERR_CANCELLED;
	}
	/* each of the blocks of columns is polled, twice */
	CHECK_MSG(cancelled >= 8 && cancelled < 40, "%d", cancelled);
}

/* ---------- what may fail ---------- */

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
	test_rounding();
	test_cancel();
	test_memory();
	test_files();
	device->ops->close(device);
	return check_report("quantize");
}
