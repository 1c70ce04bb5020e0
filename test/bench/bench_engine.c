/*
 * bench_engine.c
 *		Milliseconds of one forward pass, one thread, on random weights of known shapes.
 *
 *	bench_engine [isa [precision]]	prints shape, tokens, best and median of many runs; precision auto,
 *									float32 or bfloat16; BENCH_SHAPES=1 in the environment: the
 *									first shape only
 *
 * A figure of one machine: nothing is asserted.
 */
#include <time.h>

#include "layers.h"
#include "synthetic.h"

#define RUNS 40

typedef struct Shape
{
	const char *name;
	int			layers, width, heads, mlp;
} Shape;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec * 1e3 + (double) t.tv_nsec * 1e-6;
}

static int
compare_times(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return x < y ? -1 : x > y;
}

static void
bench(DistilDevice *device, const char *layout, const Shape *shape, int nseq, int tokens)
{
	Synthetic	model;
	SyntheticBatch batch;
	DistilActivations *activations;
	double		times[RUNS];
	int			lengths[64];
	const float *hidden;
	DistilError err;
	double		spent = 0;
	int			n = 0;
	int			i;

	memset(&model, 0, sizeof(model));
	model.spec.config.layers = shape->layers;
	model.spec.config.width = shape->width;
	model.spec.config.heads = shape->heads;
	model.spec.config.mlp = shape->mlp;
	model.spec.config.vocabulary = 1000;
	model.spec.config.positions = 512;
	model.spec.config.types = 2;
	model.spec.config.activation = DISTIL_ACT_GELU;
	model.spec.pipeline.npoolings = 1;
	synthetic_create(&model, false, 0.05f, 1);
	synthetic_pack(&model, layout);
	for (i = 0; i < nseq; i++)
		lengths[i] = tokens;
	synthetic_batch(&batch, &model.spec, lengths, nseq, 2);
	if (distil_activations_create(&activations, &model.spec, nseq * tokens, false, device,
								  distil_alloc_system(), &err) != DISTIL_OK)
	{
		printf("%s\n", err.message);
		return;
	}
	while (n < RUNS && (n < 5 || spent < 1500))
	{
		double		start = now();

		if (distil_encoder_forward(&model.spec, model.weights, &batch.batch, activations, 0, &hidden, device,
								   NULL, &err) != DISTIL_OK)
			printf("%s\n", err.message);
		times[n] = now() - start;
		spent += times[n++];
	}
	qsort(times, (size_t) n, sizeof(double), compare_times);
	printf("%-10s %2d x %3d tokens: best %7.2f ms, median %7.2f ms\n", shape->name, nseq, tokens, times[0],
		   times[n / 2]);
	distil_activations_free(activations);
	synthetic_batch_free(&batch);
	synthetic_free(&model);
}

int
main(int argc, char **argv)
{
	static const Shape shapes[] = {
		{"MiniLM-L6", 6, 384, 12, 1536},
		{"distilbert", 6, 768, 12, 3072},
		{"bert-base", 12, 768, 12, 3072}
	};
	static const int tokens[] = {6, 16, 128, 512};
	char		message[256] = "";
	DistilDevice *device = distil_device_open("cpu", argc > 1 ? argv[1] : NULL, message, sizeof(message));
	const char *limit = getenv("BENCH_SHAPES");
	DistilPrecision precision = DISTIL_PRECISION_AUTO;
	const char *layout;
	size_t		nshapes = limit != NULL && atoi(limit) == 1 ? 1 : sizeof(shapes) / sizeof(shapes[0]);
	size_t		i;
	size_t		j;

	if (device == NULL)
	{
		fprintf(stderr, "%s\n", message);
		return 1;
	}
	if (argc > 2 && strcmp(argv[2], "float32") == 0)
		precision = DISTIL_PRECISION_FLOAT32;
	else if (argc > 2 && strcmp(argv[2], "bfloat16") == 0)
		precision = DISTIL_PRECISION_BFLOAT16;
	layout = distil_image_layout(precision, device);
	printf("%s, %s, layout %s, %s\n", distil_cpu_name(), argc > 1 ? argv[1] : "auto", layout,
		   distil_blas_version());
	for (i = 0; i < nshapes; i++)
	{
		for (j = 0; j < sizeof(tokens) / sizeof(tokens[0]); j++)
			bench(device, layout, &shapes[i], 1, tokens[j]);
		bench(device, layout, &shapes[i], 32, 16);
	}
	device->ops->close(device);
	return 0;
}
