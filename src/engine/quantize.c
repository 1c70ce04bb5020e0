/*
 * quantize.c
 *		A model in a smaller form: calibration, choice of the form of each matrix, report.
 *
 * The model is run in float32 over some texts, which shows what the inputs of its linear layers are
 * like and how they hang together (quantize_round.c).  Then it is run again with weights and inputs as
 * they will be in eight bits; where the embeddings suffer too much, the matrices that do most harm stay
 * in bfloat16.  All of it is float32 arithmetic, so that the result does not depend on the CPU's
 * instructions for small numbers.
 */
#include "quantize.h"

#include "config.h"
#include "image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Good enough: no matrix is kept in bfloat16.  The least is that of an exclamation of two words. */
#define WANTED_MEAN 0.9993
#define WANTED_MIN 0.997
/* Texts that tell which matrices do most harm. */
#define HARM_TEXTS 24
/* At most this part of the matrices is kept. */
#define MAX_KEPT 4
/* Sentences of a longer text for calibration: the one itself and those so many places behind it. */
static const size_t joined[] = {0, 37, 71, 13};

#define MAX_JOINED 64
#define JOINED_BYTES ((size_t) 16 << 10)
/* Sums of products of inputs that are kept at once; a layer with more inputs goes without. */
#define GRAM_BYTES ((size_t) 320 << 20)
#define GRAM_COLS 4096
/* Copied between polls. */
#define COPY_BYTES ((size_t) 8 << 20)

struct DistilQuantized
{
	DistilQuantizer q;
	DistilQuantStore *store;
	DistilBundle *bundle;
};

/* ---------- options ---------- */

/* Copies of a string and of the texts, in one arena that is the options' memory. */
static DistilStatus
read_texts(DistilQuantizeOptions *options, const DistilJson *value, DistilError *err)
{
	size_t		n = distil_json_count(value);
	DistilText *texts;

	if (distil_json_type(value) != DISTIL_JSON_ARRAY || n < 1 || n > INT32_MAX - MAX_JOINED)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "option \"texts\" must be a list of texts");
	texts = distil_arena_alloc(options->memory, n, sizeof(DistilText));
	if (texts == NULL)
		return distil_fail_memory(err, n * sizeof(DistilText));
	for (size_t i = 0; i < n; i++)
	{
		const DistilJson *item = distil_json_item(value, i);
		size_t		length;
		const char *text;

		if (distil_json_type(item) != DISTIL_JSON_STRING)
			return distil_fail(err, DISTIL_ERR_ARGUMENT, "option \"texts\" must be a list of texts");
		text = distil_json_string(item, &length);
		texts[i].data = distil_arena_string(options->memory, text, length);
		texts[i].length = length;
		if (texts[i].data == NULL)
			return distil_fail_memory(err, length);
	}
	options->texts = texts;
	options->ntexts = (int) n;
	return DISTIL_OK;
}

static DistilStatus
read_option(DistilQuantizeOptions *options, const char *key, const DistilJson *value, DistilError *err)
{
	DistilJsonType type = distil_json_type(value);
	char		shown[80];
	size_t		length;
	const char *text;

	if (strcmp(key, "texts") == 0)
		return read_texts(options, value, err);
	if (strcmp(key, "smoothing") == 0)
	{
		options->smoothing = type == DISTIL_JSON_REAL || type == DISTIL_JSON_INTEGER
			? distil_json_number(value) : -1;
		if (options->smoothing >= 0 && options->smoothing <= 1)
			return DISTIL_OK;
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "option \"smoothing\" must be a number from 0 to 1");
	}
	if (strcmp(key, "query") == 0)
	{
		if (type != DISTIL_JSON_STRING)
			return distil_fail(err, DISTIL_ERR_ARGUMENT, "option \"query\" must be a text");
		text = distil_json_string(value, &length);
		options->query = distil_arena_string(options->memory, text, length);
		return options->query != NULL ? DISTIL_OK : distil_fail_memory(err, length);
	}
	distil_fail(err, DISTIL_ERR_ARGUMENT, "unknown quantization option \"%s\"",
				distil_printable(shown, sizeof(shown), key, strlen(key)));
	return distil_fail_hint(err, DISTIL_ERR_ARGUMENT, "Known options: query, smoothing, texts.");
}

static DistilStatus
read_options(DistilQuantizeOptions *options, const DistilJsonDoc *doc, DistilError *err)
{
	const DistilJson *root = distil_json_root(doc);
	const void *at = NULL;
	const char *key;
	const DistilJson *value;

	if (distil_json_type(root) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "quantization options must be a JSON object");
	while ((at = distil_json_next(root, at, &key, NULL, &value)) != NULL)
		DISTIL_FORWARD(read_option(options, key, value, err));
	if (options->query != NULL && options->texts != NULL)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "options \"texts\" and \"query\" exclude each other");
	return DISTIL_OK;
}

DistilStatus
distil_quantize_options_parse(DistilQuantizeOptions *options, const char *dtype, const char *json,
							  size_t length, const DistilAllocator *alloc, DistilError *err)
{
	DistilJsonDoc *doc;
	DistilStatus status;
	char		shown[80];

	memset(options, 0, sizeof(*options));
	options->smoothing = 0.6;
	if (strcmp(dtype, "int8") == 0)
		options->type = DISTIL_TYPE_INT8;
	else if (strcmp(dtype, "bfloat16") == 0)
		options->type = DISTIL_TYPE_BF16;
	else
	{
		distil_fail(err, DISTIL_ERR_ARGUMENT, "data type \"%s\" is not supported",
					distil_printable(shown, sizeof(shown), dtype, strlen(dtype)));
		return distil_fail_hint(err, DISTIL_ERR_ARGUMENT, "A model can be quantized to bfloat16 or int8.");
	}
	options->memory = distil_arena_create(alloc);
	if (options->memory == NULL)
		return distil_fail_memory(err, 0);
	status = distil_json_parse_value(&doc, json, length, "the quantization options", alloc, err);
	if (status == DISTIL_OK)
	{
		status = read_options(options, doc, err);
		distil_json_free(doc);
	}
	if (status != DISTIL_OK)
		distil_quantize_options_reset(options, alloc);
	return status == DISTIL_ERR_TEXT_FILE ? DISTIL_ERR_ARGUMENT : status;
}

void
distil_quantize_options_reset(DistilQuantizeOptions *options, const DistilAllocator *alloc)
{
	(void) alloc;
	distil_arena_free(options->memory);
	memset(options, 0, sizeof(*options));
}

/* ---------- the model in float32 ---------- */

typedef struct MemorySink
{
	DistilQuantizer *q;
	size_t		capacity;
} MemorySink;

/* Large copies are polled. */
static DistilStatus
copy_block(void *to, const void *from, size_t bytes, const DistilPoll *poll, DistilError *err)
{
	for (size_t at = 0; at < bytes; at += COPY_BYTES)
	{
		DISTIL_POLL(poll, err);
		memcpy((char *) to + at, (const char *) from + at, bytes - at < COPY_BYTES ? bytes - at : COPY_BYTES);
	}
	return DISTIL_OK;
}

/* Room for an image of so many bytes, which takes over what there is of it. */
static DistilStatus
grow_image(MemorySink *sink, size_t capacity, DistilError *err)
{
	DistilQuantizer *q = sink->q;
	char	   *memory = q->alloc->alloc(q->alloc->ctx, capacity + DISTIL_IMAGE_ALIGN);
	char	   *image;

	if (memory == NULL)
		return distil_fail_memory(err, capacity);
	image = (char *) (((uintptr_t) memory + DISTIL_IMAGE_ALIGN - 1) / DISTIL_IMAGE_ALIGN *
					  DISTIL_IMAGE_ALIGN);
	if (q->image_size > 0)
	{
		DistilStatus status = copy_block(image, q->image, q->image_size, q->poll, err);

		if (status != DISTIL_OK)
		{
			distil_release(q->alloc, memory);
			return status;
		}
	}
	distil_release(q->alloc, q->memory);
	q->memory = memory;
	q->image = image;
	sink->capacity = capacity;
	return DISTIL_OK;
}

static DistilStatus
memory_write(void *ctx, const void *data, size_t bytes, DistilError *err)
{
	MemorySink *sink = ctx;
	DistilQuantizer *q = sink->q;

	if (bytes > sink->capacity - q->image_size)
		DISTIL_FORWARD(grow_image(sink, sink->capacity + sink->capacity / 2 + bytes, err));
	memcpy(q->image + q->image_size, data, bytes);
	q->image_size += bytes;
	return DISTIL_OK;
}

static DistilStatus
open_model(DistilQuantizer *q, const DistilReader *reader, DistilDevice *device, DistilError *err)
{
	const uint8_t none[32] = {0};
	MemorySink	memory = {q, 0};
	DistilSink	sink = {memory_write, &memory};
	size_t		block;

	if (device->ops->own_memory)
		return distil_fail(err, DISTIL_ERR_DEVICE, "quantization needs a device in the host's memory");
	DISTIL_FORWARD(distil_container_open(&q->container, reader, q->alloc, err));
	DISTIL_FORWARD(grow_image(&memory, (size_t) (reader->size + reader->size / 8), err));
	DISTIL_FORWARD(distil_image_write(DISTIL_LAYOUT_F32, reader, none, &sink, q->alloc, q->poll, err));
	DISTIL_FORWARD(distil_model_open(&q->model, q->image, q->image_size, NULL, q->alloc, err));
	if (strcmp(distil_model_info(q->model)->dtype, "int8") == 0)
		return distil_fail(err, DISTIL_ERR_STATE, "the model is quantized already");
	DISTIL_FORWARD(distil_session_create(&q->session, q->model, device, 0, q->alloc, q->poll, err));
	block = q->model->spec.table.total * sizeof(float);
	q->weights = q->alloc->alloc(q->alloc->ctx, block);
	if (q->weights == NULL)
		return distil_fail_memory(err, block);
	return copy_block(q->weights, q->model->weights, block, q->poll, err);
}

/* ---------- matrices ---------- */

static DistilStatus
add_matrix(DistilQuantizer *q, int param, bool linear, DistilError *err)
{
	const DistilParam *p = &q->model->spec.table.params[param];
	DistilQuantMatrix *matrix = &q->matrices[q->n++];
	size_t		cols = (size_t) p->cols;

	*matrix = (DistilQuantMatrix) {.param = param,.linear = linear,.type = q->options->type};
	matrix->rows = p->rows;
	matrix->cols = p->cols;
	if (q->options->type != DISTIL_TYPE_INT8)
		return DISTIL_OK;
	matrix->values = q->alloc->alloc(q->alloc->ctx, p->count);	/* not set to 0: that would take long */
	matrix->scale = distil_arena_alloc(q->arena, (size_t) p->rows, sizeof(float));
	matrix->factor = distil_arena_alloc(q->arena, cols, sizeof(float));
	matrix->most = distil_arena_alloc(q->arena, cols, sizeof(float));
	matrix->power = distil_arena_alloc(q->arena, cols, sizeof(double));
	if (matrix->values == NULL || matrix->scale == NULL || matrix->factor == NULL || matrix->most == NULL ||
		matrix->power == NULL)
		return distil_fail_memory(err, p->count);
	for (size_t j = 0; j < cols; j++)
		matrix->factor[j] = 1.0f;
	return DISTIL_OK;
}

/* Layers and tables for INT8, every matrix for BF16. */
static DistilStatus
list_matrices(DistilQuantizer *q, DistilError *err)
{
	const DistilSpec *spec = &q->model->spec;
	const int	tables[] = {spec->word, spec->position, spec->has_lm ? spec->lm.decoder_weight : -1};

	q->matrices = distil_arena_alloc(q->arena, (size_t) spec->table.n + 1, sizeof(DistilQuantMatrix));
	if (q->matrices == NULL)
		return distil_fail_memory(err, 0);
	if (q->options->type == DISTIL_TYPE_BF16)
	{
		for (int i = 0; i < spec->table.n; i++)
			if (!spec->table.params[i].vector)
				DISTIL_FORWARD(add_matrix(q, i, false, err));
		return DISTIL_OK;
	}
	for (int i = 0; i < (spec->config.shared_layers ? 1 : spec->config.layers); i++)
	{
		const DistilLayerParams *layer = &spec->layer[i];

		DISTIL_FORWARD(add_matrix(q, layer->qkv_weight, true, err));
		DISTIL_FORWARD(add_matrix(q, layer->out_weight, true, err));
		DISTIL_FORWARD(add_matrix(q, layer->up_weight, true, err));
		DISTIL_FORWARD(add_matrix(q, layer->down_weight, true, err));
	}
	q->nlinear = q->n;
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		if (tables[i] >= 0 && (i < 2 || tables[i] != spec->word))
			DISTIL_FORWARD(add_matrix(q, tables[i], false, err));
	return DISTIL_OK;
}

/* ---------- runs ---------- */

/* Layers that share their parameters see their inputs as one. */
static DistilQuantMatrix *
matrix_of(DistilQuantizer *q, int layer, DistilPlace place)
{
	return &q->matrices[(q->model->spec.config.shared_layers ? 0 : layer) * DISTIL_PLACES + (int) place];
}

/* Tap of the runs that calibrate: what inputs are like. */
static const float *
observe(void *ctx, int layer, DistilPlace place, const float *x, int rows, int cols)
{
	DistilQuantizer *q = ctx;
	DistilQuantMatrix *matrix = matrix_of(q, layer, place);

	if (matrix < q->matrices + q->first || matrix >= q->matrices + q->end || q->tap_status != DISTIL_OK)
		return x;
	for (int i = 0; i < rows; i++)
		for (int j = 0; j < cols; j++)
		{
			float		value = x[(size_t) i * (size_t) cols + (size_t) j];

			matrix->most[j] = fmaxf(matrix->most[j], fabsf(value));
			matrix->power[j] += (double) (value * value);
		}
	if (matrix->gram != NULL)
		q->tap_status = distil_quantize_correlate(matrix, x, rows, q->session->device, q->poll,
												  &q->tap_error);
	return x;
}

/* Tap of the others: inputs as they are after eight bits. */
static const float *
simulate(void *ctx, int layer, DistilPlace place, const float *x, int rows, int cols)
{
	DistilQuantizer *q = ctx;
	const DistilQuantMatrix *matrix = matrix_of(q, layer, place);

	if (matrix->type != DISTIL_TYPE_INT8 || (size_t) rows * (size_t) cols > q->scratch_floats)
		return x;
	for (int i = 0; i < rows; i++)
	{
		size_t		at = (size_t) i * (size_t) cols;

		distil_quantize_input(q->scratch + at, x + at, matrix->factor, cols);
	}
	return q->scratch;
}

typedef const float *(*TapFn) (void *ctx, int layer, DistilPlace place, const float *x, int rows, int cols);

/* Embeddings of n texts with the block of weights and the tap (NULL: none). */
static DistilStatus
run(DistilQuantizer *q, float *out, const DistilText *texts, int n, const float *weights,
	TapFn tap, DistilError *err)
{
	DistilStatus status;

	q->tap = (DistilTap) {tap, q};
	q->session->weights = weights;
	q->session->activations->tap = tap != NULL ? &q->tap : NULL;
	status = distil_session_embed(q->session, out, q->has, texts, n, -1, err);
	q->session->activations->tap = NULL;
	q->session->weights = q->model->weights;
	if (q->tap_status == DISTIL_OK)
		return status;
	*err = q->tap_error;
	return q->tap_status;
}

/* Of the first n texts in the chosen form. */
static DistilStatus
measure(DistilQuantizer *q, int n, double *mean, double *least, DistilError *err)
{
	size_t		d = (size_t) q->model->spec.info.dimensions;
	double		sum = 0.0;
	int			count = 0;

	DISTIL_FORWARD(run(q, q->embeddings, q->options->texts, n, q->weights,
					   q->options->type == DISTIL_TYPE_INT8 ? simulate : NULL, err));
	*least = 1.0;
	for (int i = 0; i < n; i++)
	{
		double		cosine = distil_vector_cosine(q->original + (size_t) i * d,
												  q->embeddings + (size_t) i * d, d);

		if (!q->has[i])
			continue;
		if (isnan(cosine))
			cosine = 0.0;
		sum += cosine;
		*least = fmin(*least, cosine);
		count++;
	}
	if (count == 0)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "none of the texts has a token");
	*mean = sum / count;
	return DISTIL_OK;
}

static DistilStatus
set_type(DistilQuantizer *q, DistilQuantMatrix *matrix, DistilType type, DistilError *err)
{
	matrix->type = type;
	return distil_quantize_apply(q, matrix, type, err);
}

typedef struct Harm
{
	int			matrix;
	double		harm;
} Harm;

static int
compare_harm(const void *a, const void *b)
{
	const Harm *x = a;
	const Harm *y = b;

	if (x->harm != y->harm)
		return x->harm > y->harm ? -1 : 1;
	return x->matrix - y->matrix;
}

/* How far each matrix alone turns the embeddings; all are of type F32 before and INT8 after. */
static DistilStatus
measure_harm(DistilQuantizer *q, Harm *harm, DistilError *err)
{
	int			n = q->options->ntexts < HARM_TEXTS ? q->options->ntexts : HARM_TEXTS;
	double		mean;
	double		least;

	for (int i = 0; i < q->nlinear; i++)
		DISTIL_FORWARD(set_type(q, &q->matrices[i], DISTIL_TYPE_F32, err));
	for (int i = 0; i < q->nlinear; i++)
	{
		DISTIL_FORWARD(set_type(q, &q->matrices[i], DISTIL_TYPE_INT8, err));
		DISTIL_FORWARD(measure(q, n, &mean, &least, err));
		DISTIL_FORWARD(set_type(q, &q->matrices[i], DISTIL_TYPE_F32, err));
		harm[i] = (Harm) {i, 1.0 - mean};
	}
	for (int i = 0; i < q->nlinear; i++)
		DISTIL_FORWARD(set_type(q, &q->matrices[i], DISTIL_TYPE_INT8, err));
	qsort(harm, (size_t) q->nlinear, sizeof(Harm), compare_harm);
	return DISTIL_OK;
}

/* Keep the most harmful matrices in bfloat16 until the embeddings are near enough. */
static DistilStatus
choose_types(DistilQuantizer *q, DistilQuantizeReport *report, DistilError *err)
{
	int			n = q->options->ntexts;
	Harm	   *harm;

	report->texts = n;
	report->linear = q->nlinear;
	DISTIL_FORWARD(measure(q, n, &report->cosine_mean, &report->cosine_min, err));
	if (q->options->type != DISTIL_TYPE_INT8 ||
		(report->cosine_mean >= WANTED_MEAN && report->cosine_min >= WANTED_MIN))
		return DISTIL_OK;
	harm = distil_arena_alloc(q->arena, (size_t) q->nlinear + 1, sizeof(Harm));
	if (harm == NULL)
		return distil_fail_memory(err, 0);
	DISTIL_FORWARD(measure_harm(q, harm, err));
	while (report->fallback < q->nlinear / MAX_KEPT &&
		   (report->cosine_mean < WANTED_MEAN || report->cosine_min < WANTED_MIN))
	{
		DISTIL_FORWARD(set_type(q, &q->matrices[harm[report->fallback].matrix], DISTIL_TYPE_BF16, err));
		report->fallback++;
		DISTIL_FORWARD(measure(q, n, &report->cosine_mean, &report->cosine_min, err));
	}
	return DISTIL_OK;
}

static DistilStatus
create_buffers(DistilQuantizer *q, DistilError *err)
{
	const DistilActivations *a = q->session->activations;
	const DistilConfig *config = &q->model->spec.config;
	size_t		d = (size_t) q->model->spec.info.dimensions;
	size_t		n = (size_t) q->options->ntexts;
	size_t		in = (size_t) a->max_tokens * (size_t) config->width;
	size_t		middle = (size_t) a->mlp_rows * (size_t) config->mlp;

	q->scratch_floats = in > middle ? in : middle;
	q->scratch = distil_alloc_array(q->alloc, q->scratch_floats, sizeof(float));
	q->original = distil_alloc_array(q->alloc, (2 * n + MAX_JOINED) * d, sizeof(float));
	q->has = distil_alloc_array(q->alloc, n + MAX_JOINED, sizeof(bool));
	if (q->scratch == NULL || q->original == NULL || q->has == NULL)
		return distil_fail_memory(err, q->scratch_floats * sizeof(float));
	q->embeddings = q->original + n * d;
	return DISTIL_OK;
}

/* Text number i of the longer ones: it begins at text `first`, and misses what would make it huge. */
static DistilStatus
join_text(DistilQuantizer *q, int i, size_t first, DistilError *err)
{
	const DistilText *texts = q->options->texts;
	size_t		n = (size_t) q->options->ntexts;
	char	   *to = distil_arena_alloc(q->arena, JOINED_BYTES, 1);
	DistilText *made = &q->calibration[n + (size_t) i];

	if (to == NULL)
		return distil_fail_memory(err, JOINED_BYTES);
	made->data = to;
	for (size_t k = 0; k < sizeof(joined) / sizeof(joined[0]); k++)
	{
		const DistilText *text = &texts[(first + joined[k]) % n];

		if (text->length >= JOINED_BYTES - made->length)
			continue;
		memcpy(to + made->length, text->data, text->length);
		made->length += text->length;
		to[made->length++] = ' ';
	}
	return DISTIL_OK;
}

/* The texts and, behind them, half as many longer ones: words in other company, at later positions. */
static DistilStatus
join_texts(DistilQuantizer *q, DistilError *err)
{
	int			n = q->options->ntexts;
	int			longer = n / 2 < MAX_JOINED ? (n + 1) / 2 : MAX_JOINED;

	q->ncalibration = n + longer;
	q->calibration = distil_arena_alloc(q->arena, (size_t) q->ncalibration, sizeof(DistilText));
	if (q->calibration == NULL)
		return distil_fail_memory(err, (size_t) q->ncalibration * sizeof(DistilText));
	memcpy(q->calibration, q->options->texts, (size_t) n * sizeof(DistilText));
	for (int i = 0; i < longer; i++)
		DISTIL_FORWARD(join_text(q, i, (size_t) i * (size_t) n / (size_t) longer, err));
	return DISTIL_OK;
}

/* Linear layers from `first` on, as many as there may be sums of products for, but one at least. */
static DistilStatus
open_group(DistilQuantizer *q, int first, DistilError *err)
{
	size_t		bytes = 0;

	for (q->first = q->end = first; q->end < q->nlinear; q->end++)
	{
		DistilQuantMatrix *matrix = &q->matrices[q->end];
		size_t		size = distil_gram_size((size_t) matrix->cols);

		DISTIL_POLL(q->poll, err);
		if (matrix->cols > GRAM_COLS)
			continue;
		bytes += size * sizeof(float);
		if (bytes > GRAM_BYTES && q->end > first)
			break;
		matrix->gram = distil_alloc_array(q->alloc, size, sizeof(float));
		if (matrix->gram == NULL)
			return distil_fail_memory(err, size * sizeof(float));
	}
	return DISTIL_OK;
}

static DistilStatus
round_matrix(DistilQuantizer *q, DistilQuantMatrix *matrix, DistilError *err)
{
	DISTIL_POLL(q->poll, err);
	if (matrix->linear)
		distil_quantize_smooth(q, matrix);
	DISTIL_FORWARD(distil_quantize_matrix(q, matrix, err));
	if (matrix->gram != NULL)
		DISTIL_FORWARD(distil_quantize_compensate(matrix, q->model->weights +
												  q->model->spec.table.params[matrix->param].offset,
												  q->session->device, q->alloc, q->poll, err));
	distil_release(q->alloc, matrix->gram);
	matrix->gram = NULL;
	return DISTIL_OK;
}

/* Values, scales and factors of all matrices. */
static DistilStatus
calibrate(DistilQuantizer *q, DistilError *err)
{
	DISTIL_FORWARD(join_texts(q, err));
	for (int first = 0; first < q->nlinear; first = q->end)
	{
		DISTIL_FORWARD(open_group(q, first, err));
		DISTIL_FORWARD(run(q, q->embeddings, q->calibration, q->ncalibration, q->model->weights, observe,
						   err));
		for (int i = q->first; i < q->end; i++)
			DISTIL_FORWARD(round_matrix(q, &q->matrices[i], err));
	}
	for (int i = q->nlinear; i < q->n; i++)
		DISTIL_FORWARD(round_matrix(q, &q->matrices[i], err));
	return DISTIL_OK;
}

static DistilStatus
quantize(DistilQuantizer *q, DistilQuantizeReport *report, DistilError *err)
{
	DISTIL_FORWARD(list_matrices(q, err));
	DISTIL_FORWARD(create_buffers(q, err));
	DISTIL_FORWARD(run(q, q->original, q->options->texts, q->options->ntexts, q->model->weights, NULL, err));
	if (q->options->type == DISTIL_TYPE_INT8)
		DISTIL_FORWARD(calibrate(q, err));
	for (int i = 0; i < q->n; i++)
		DISTIL_FORWARD(distil_quantize_apply(q, &q->matrices[i], q->options->type, err));
	return choose_types(q, report, err);
}

/* ---------- the call ---------- */

/* What only the calibration needs. */
static void
free_work(DistilQuantizer *q)
{
	distil_session_free(q->session);
	q->session = NULL;
	distil_release(q->alloc, q->weights);
	distil_release(q->alloc, q->scratch);
	distil_release(q->alloc, q->original);
	distil_release(q->alloc, q->has);
	q->weights = q->scratch = q->original = NULL;
	q->has = NULL;
}

/* The list that is built in, as texts. */
static DistilStatus
default_texts(DistilQuantizer *q, DistilQuantizeOptions *options, DistilError *err)
{
	DistilText *texts;

	if (options->ntexts > 0)
		return DISTIL_OK;
	texts = distil_arena_alloc(q->arena, (size_t) distil_quantize_ntexts, sizeof(DistilText));
	if (texts == NULL)
		return distil_fail_memory(err, 0);
	for (int i = 0; i < distil_quantize_ntexts; i++)
		texts[i] = (DistilText) {distil_quantize_texts[i], strlen(distil_quantize_texts[i])};
	options->texts = texts;
	options->ntexts = distil_quantize_ntexts;
	return DISTIL_OK;
}

static DistilStatus
make_quantized(DistilQuantized *made, DistilQuantizeReport *report, const DistilReader *container,
			   const DistilQuantizeOptions *options, DistilDevice *device, DistilError *err)
{
	DistilQuantizer *q = &made->q;
	DistilQuantizeOptions effective = *options;
	DistilStatus status;

	memset(report, 0, sizeof(*report));
	q->arena = distil_arena_create(q->alloc);
	if (q->arena == NULL)
		return distil_fail_memory(err, 0);
	DISTIL_FORWARD(default_texts(q, &effective, err));
	q->options = &effective;
	status = open_model(q, container, device, err);
	if (status == DISTIL_OK)
		status = quantize(q, report, err);
	if (status == DISTIL_OK)
		status = distil_quant_store_create(&made->store, q, err);
	if (status == DISTIL_OK)
		status = distil_bundle_open_stored(&made->bundle, distil_quant_store_reader(made->store), q->alloc,
										   err);
	if (q->session != NULL)
		free_work(q);
	q->options = NULL;
	return status;
}

DistilStatus
distil_quantize(DistilQuantized **quantized, DistilQuantizeReport *report, const DistilReader *container,
				const DistilQuantizeOptions *options, DistilDevice *device, const DistilAllocator *alloc,
				const DistilPoll *poll, DistilError *err)
{
	DistilQuantized *made = distil_alloc_array(alloc, 1, sizeof(DistilQuantized));
	DistilStatus status;

	*quantized = NULL;
	if (made == NULL)
		return distil_fail_memory(err, sizeof(DistilQuantized));
	made->q.alloc = alloc;
	made->q.poll = poll;
	status = make_quantized(made, report, container, options, device, err);
	if (status != DISTIL_OK)
	{
		distil_quantized_free(made);
		return status;
	}
	*quantized = made;
	return DISTIL_OK;
}

const DistilFolder *
distil_quantized_folder(const DistilQuantized *quantized)
{
	return distil_bundle_folder(quantized->bundle);
}

DistilImportOptions
distil_quantized_options(const DistilQuantized *quantized)
{
	return (DistilImportOptions) {.parse_special = quantized->q.container->parse_special};
}

void
distil_quantized_free(DistilQuantized *quantized)
{
	DistilQuantizer *q;

	if (quantized == NULL)
		return;
	q = &quantized->q;
	distil_bundle_free(quantized->bundle);
	distil_quant_store_free(quantized->store);
	free_work(q);
	for (int i = 0; i < q->n; i++)
	{
		distil_release(q->alloc, q->matrices[i].values);
		distil_release(q->alloc, q->matrices[i].gram);
	}
	distil_model_free(q->model);
	distil_release(q->alloc, q->memory);
	distil_container_free(q->container);
	distil_arena_free(q->arena);
	distil_release(q->alloc, quantized);
}
