/*
 * test_quantize_matrices.c
 *		What quantising does to single matrices: one that eight bits spoil stays in bfloat16, factors take in
 *		inputs of unlike size, and matrices that are stored transposed are no others.
 */
#include "session_fixture.h"
#include "test_folder.h"

#include "quantize.h"

#include <stdint.h>

#define COLUMN 5
#define LAYER "encoder.layer.1."

static const DistilText samples[] = {
	{"the cat sat on the mat", 22}, {"hello world", 11}, {"a quick brown fox", 17}, {"rows of a table", 15},
	{"one two three four five six seven", 33}
};

#define SAMPLES ((int) (sizeof(samples) / sizeof(samples[0])))

/* A tensor of the folder's weights, to be changed in place. */
static float *
tensor_of(TestFolder *folder, const char *name, size_t *count)
{
	TestBytes  *file = &folder->bytes[test_folder_index(folder, "model.safetensors")];
	char		quoted[200];
	const char *at;
	uint64_t	header;
	size_t		begin = 0;
	size_t		end = 0;

	memcpy(&header, file->data, sizeof(header));
	snprintf(quoted, sizeof(quoted), "\"%s\"", name);
	at = strstr(file->data + 8, quoted);
	at = at != NULL ? strstr(at, "data_offsets") : NULL;
	CHECK_MSG(at != NULL && sscanf(at, "data_offsets\":[%zu,%zu]", &begin, &end) == 2, "%s", name);
	*count = (end - begin) / sizeof(float);
	return (float *) (void *) (file->data + 8 + header + begin);
}

/*
 * Quantises the folder with this smoothing; *small is the result as an image of that layout, without a model
 * when something failed.
 */
static void
quantize(LoadedModel *small, DistilQuantizeReport *report, const TestFolder *folder, double smoothing,
		 const char *layout)
{
	static const DistilImportOptions import_options = {true};
	const DistilQuantizeOptions options = {.type = DISTIL_TYPE_INT8,.smoothing = smoothing,
	.texts = samples,.ntexts = SAMPLES};
	DistilReader reader = {load_read, NULL, 0};
	DistilQuantized *made = NULL;
	LoadedModel loaded;
	DistilError err = {"", "", ""};

	memset(small, 0, sizeof(*small));
	memset(report, 0, sizeof(*report));
	CHECK_MSG(load_folder(&loaded, &folder->folder, &import_options, &err) == DISTIL_OK, "%s", err.message);
	reader.ctx = &loaded.container;
	reader.size = loaded.container.length;
	CHECK_MSG(distil_quantize(&made, report, &reader, &options, device, distil_alloc_system(), NULL,
							  &err) == DISTIL_OK, "%s", err.message);
	if (made != NULL)
	{
		DistilImportOptions again = distil_quantized_options(made);

		load_layout = layout;
		CHECK_MSG(load_folder(small, distil_quantized_folder(made), &again, &err) == DISTIL_OK, "%s",
				  err.message);
		load_layout = NULL;
	}
	distil_quantized_free(made);
	load_free(&loaded);
}

/*
 * In one matrix each row gets a value thousands of times its others, at a column whose input is zero: the
 * model computes what it did, but all other values of the row round to nothing.
 */
static void
test_kept(void)
{
	TestFolder	folder;
	LoadedModel small;
	DistilQuantizeReport report;
	float	   *weight;
	float	   *bias;
	float	   *up;
	size_t		width;
	size_t		count;
	int			eight = 0;

	if (!test_folder_load(&folder, MODELS "bert-sentence"))
		return;
	weight = tensor_of(&folder, LAYER "attention.output.LayerNorm.weight", &width);
	bias = tensor_of(&folder, LAYER "attention.output.LayerNorm.bias", &count);
	weight[COLUMN] = bias[COLUMN] = 0.0f;
	up = tensor_of(&folder, LAYER "intermediate.dense.weight", &count);
	for (size_t row = 0; row < count / width; row++)
		up[row * width + COLUMN] = 1000.0f;
	quantize(&small, &report, &folder, 0, DISTIL_LAYOUT_INT8P16);
	CHECK_MSG(report.fallback == 1 && report.cosine_mean >= 0.9993 && report.cosine_min >= 0.997,
			  "%d matrices of %d kept, %.6f, %.6f", report.fallback, report.linear, report.cosine_mean,
			  report.cosine_min);
	if (small.model != NULL)
	{
		const DistilSpec *spec = &small.model->spec;

		for (int i = 0; i < spec->table.n; i++)
			eight += spec->table.params[i].type == DISTIL_TYPE_INT8;
		CHECK(spec->table.params[spec->layer[1].up_weight].type == DISTIL_TYPE_BF16);
		CHECK(eight == report.linear - 1);
	}
	load_free(&small);
	test_folder_free(&folder);
}

/* One input of a matrix is a hundred times the others, its column of weights a hundredth. */
static void
test_smoothing(void)
{
	TestFolder	folder;
	LoadedModel small;
	DistilQuantizeReport rough;
	DistilQuantizeReport smooth;
	float	   *up;
	float	   *bias;
	float	   *down;
	size_t		count;
	size_t		mlp;
	size_t		width;

	if (!test_folder_load(&folder, MODELS "bert-sentence"))
		return;
	bias = tensor_of(&folder, LAYER "intermediate.dense.bias", &mlp);
	up = tensor_of(&folder, LAYER "intermediate.dense.weight", &count);
	width = count / mlp;
	down = tensor_of(&folder, LAYER "output.dense.weight", &count);
	bias[COLUMN] *= 100.0f;
	for (size_t i = 0; i < width; i++)
	{
		up[COLUMN * width + i] *= 100.0f;
		down[i * mlp + COLUMN] /= 100.0f;
	}
	quantize(&small, &rough, &folder, 0, DISTIL_LAYOUT_INT8P16);
	load_free(&small);
	quantize(&small, &smooth, &folder, 0.5, DISTIL_LAYOUT_INT8P16);
	load_free(&small);
	/* measured: a tenth */
	CHECK_MSG(smooth.fallback == 0 && 1 - smooth.cosine_mean < (1 - rough.cosine_mean) / 4,
			  "without smoothing %.6f, with it %.6f", rough.cosine_mean, smooth.cosine_mean);
	test_folder_free(&folder);
}

/*
 * GPT-2's matrices, packed and plain: the same numbers but for the order of two products, and near to the
 * original: all are within a few of 127 steps, as one error makes up for another.
 */
static void
test_transposed(void)
{
	static const DistilImportOptions options = {true};
	TestFolder	folder;
	LoadedModel packed;
	LoadedModel plain;
	LoadedModel original;
	DistilQuantizeReport report;
	DistilError err = {"", "", ""};

	if (!compose(&folder, "gpt2", "lm"))
		return;
	load_layout = DISTIL_LAYOUT_F32;
	CHECK(load_folder(&original, &folder.folder, &options, &err) == DISTIL_OK);
	load_layout = NULL;
	quantize(&plain, &report, &folder, 0.5, DISTIL_LAYOUT_F32);
	quantize(&packed, &report, &folder, 0.5, DISTIL_LAYOUT_INT8P16);
	for (int i = 0; packed.model != NULL && plain.model != NULL && i < packed.model->spec.table.n; i++)
	{
		const DistilParam *p = &packed.model->spec.table.params[i];
		int			differ = 0;
		double		worst = 0;
		double		largest = 0;

		for (size_t at = 0; p->type == DISTIL_TYPE_INT8 && at < p->count; at++)
		{
			float		x;
			float		y;
			float		z;

			distil_param_read(&x, packed.model->weights, p, at, 1);
			distil_param_read(&y, plain.model->weights, &plain.model->spec.table.params[i], at, 1);
			distil_param_read(&z, original.model->weights, &original.model->spec.table.params[i], at, 1);
			differ += fabsf(x - y) > 1e-6f * fabsf(y);
			worst = check_worse(worst, fabs(x - z));
			largest = check_worse(largest, fabs(z));
		}
		CHECK_MSG(differ == 0 && worst <= largest / 16, "%s: %d differ, by %g of %g", p->name, differ, worst,
				  largest);
	}
	CHECK_MSG(report.linear > 0 && report.cosine_min > 0.99, "%.6f", report.cosine_min);
	load_free(&packed);
	load_free(&plain);
	load_free(&original);
	test_folder_free(&folder);
}

int
main(void)
{
	char		message[256] = "";

	device = distil_device_open("cpu", NULL, message, sizeof(message));
	CHECK_MSG(device != NULL, "%s", message);
	if (device == NULL)
		return check_report("quantize_matrices");
	test_kept();
	test_smoothing();
	test_transposed();
	device->ops->close(device);
	return check_report("quantize_matrices");
}
