/*
 * test_low.c
 *		Forward in BF16 and in INT8 against float32, of every family of layers, on every backend.
 *
 * Operands lose 2^-9 of their size, in INT8 1/508 of a row's range; over a few layers with norms a token's
 * vector stays within a cosine of 0.999 of float32's (measured: 0.9999 and 0.9997).  What must be exact: a
 * sequence alone and in any batch, also where equal tokens go through the first product as one.
 */
#include "kernel_samples.h"
#include "layers.h"
#include "product_rows.h"
#include "session.h"
#include "synthetic.h"

#define SEQUENCES 6

/* one of them is so long that attention of INT8 layers is cut into bytes */
static const int lengths_of[SEQUENCES] = {1, 7, 130, 16, 33, 2};

typedef enum ModelKind
{
	MODEL_BERT,
	MODEL_ODD,					/* widths that fill neither panels nor cache lines */
	MODEL_MPNET,
	MODEL_ALBERT,				/* narrow tables, one set of weights for all layers */
	MODEL_GPT2,
	MODEL_KINDS
} ModelKind;

static void
make_model(Synthetic *model, ModelKind kind)
{
	DistilConfig *config = &model->spec.config;

	memset(model, 0, sizeof(*model));
	config->layers = 3;
	config->width = kind == MODEL_ODD ? 60 : 128;
	config->heads = kind == MODEL_ODD ? 3 : kind == MODEL_GPT2 ? 2 : 4;
	config->mlp = kind == MODEL_ODD ? 100 : 512;
	config->vocabulary = 301;
	config->positions = 200;
	config->types = kind == MODEL_BERT ? 2 : 0;
	config->activation = kind == MODEL_GPT2 ? DISTIL_ACT_GELU_TANH : DISTIL_ACT_GELU;
	if (kind == MODEL_GPT2)
	{
		config->arch = distil_arch_find("gpt2");
		config->causal = true;
	}
	if (kind == MODEL_MPNET)
	{
		config->arch = distil_arch_find("mpnet");
		config->relative_buckets = 32;
	}
	if (kind == MODEL_ALBERT)
	{
		config->arch = distil_arch_find("albert");
		config->table_width = 40;
		config->shared_layers = true;
	}
	model->spec.pipeline.npoolings = 1;
	synthetic_create(model, false, 0.15f, 7);
}

static double
cosine(const float *a, const float *b, int n)
{
	double		dot = 0;
	double		aa = 0;
	double		bb = 0;
	int			i;

	for (i = 0; i < n; i++)
	{
		dot += (double) a[i] * b[i];
		aa += (double) a[i] * a[i];
		bb += (double) b[i] * b[i];
	}
	return dot / sqrt(aa * bb);
}

/* Last hidden state of the batch, to be freed. */
static float *
run(const Synthetic *model, const DistilBatch *batch, DistilDevice *device)
{
	size_t		bytes = sizeof(float) * (size_t) batch->ntokens * (size_t) model->spec.config.width;
	DistilActivations *activations;
	const float *hidden;
	float	   *copy = malloc(bytes);
	DistilError err = {"", "", ""};

	CHECK(distil_activations_create(&activations, &model->spec, batch->ntokens, false, device,
									distil_alloc_system(), &err) == DISTIL_OK);
	CHECK_MSG(distil_encoder_forward(&model->spec, model->weights, batch, activations, 0, &hidden, device,
									 NULL, &err) == DISTIL_OK, "%s\n", err.message);
	memcpy(copy, hidden, bytes);
	distil_activations_free(activations);
	return copy;
}

static void
check_refused(const Synthetic *model, const DistilBatch *batch, DistilDevice *device)
{
	DistilActivations *activations;
	const float *hidden;
	DistilError err = {"", "", ""};

	CHECK(distil_activations_create(&activations, &model->spec, batch->ntokens, false, device,
									distil_alloc_system(), &err) == DISTIL_OK);
	CHECK(distil_encoder_forward(&model->spec, model->weights, batch, activations, 0, &hidden, device, NULL,
								 &err) == DISTIL_ERR_STATE);
	distil_activations_free(activations);
}

/* A causal sequence token by token, over the memory of earlier ones. */
static void
check_cached(const Synthetic *model, const DistilBatch *batch, const float *want, DistilDevice *device)
{
	const DistilSpec *spec = &model->spec;
	size_t		width = (size_t) spec->config.width;
	size_t		bytes = distil_key_cache_bytes(spec, batch->ntokens);
	DistilKeyCache cache = {batch->ntokens, 0, NULL, NULL};
	DistilActivations *activations;
	DistilError err = {"", "", ""};
	double		worst = 1;
	int			step;

	cache.qkv = device->ops->alloc(device, 3 * bytes * (size_t) spec->config.layers);
	cache.context = device->ops->alloc(device, bytes);
	CHECK(distil_activations_create(&activations, spec, batch->ntokens, false, device, distil_alloc_system(),
									&err) == DISTIL_OK);
	while (cache.past < batch->ntokens)
	{
		int32_t		offsets[2] = {0, 0};
		DistilBatch part = *batch;
		const float *hidden;

		step = cache.past == 0 ? 5 : 1;
		offsets[1] = cache.past + step;
		part.ntokens = step;
		part.ids += cache.past;
		part.positions += cache.past;
		part.offsets = offsets;
		part.host_offsets = offsets;
		CHECK_MSG(distil_encoder_forward_cached(spec, model->weights, &part, activations, &cache, &hidden,
												device, NULL, &err) == DISTIL_OK, "%s\n", err.message);
		cache.past += step;
		worst = fmin(worst, cosine(hidden + (size_t) (step - 1) * width,
								   want + (size_t) (cache.past - 1) * width, (int) width));
	}
	/* the same products in the same order, but a backend may take few queries another way */
	CHECK_MSG(worst > 0.9999, "%s: token by token the cosine is %.7f\n", under_test, worst);
	device->ops->release(device, cache.qkv);
	device->ops->release(device, cache.context);
	distil_activations_free(activations);
}

static const DistilKernels *recorded;
static int	calls_in_bytes;
static int	calls;

static void
record_attention(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv, const int32_t *offsets,
				 const DistilAttention *a)
{
	calls++;
	calls_in_bytes += a->bytes;
	recorded->attention_rows(dev, out, qkv, offsets, a);
}

/* run(), which lets attention be cut into bytes in INT8 layers and nowhere else. */
static float *
run_recorded(const Synthetic *model, const DistilBatch *batch, DistilDevice *device)
{
	DistilKernels ops = *device->ops;
	float	   *hidden;

	recorded = device->ops;
	ops.attention_rows = record_attention;
	device->ops = &ops;
	calls = calls_in_bytes = 0;
	hidden = run(model, batch, device);
	device->ops = recorded;
	CHECK(calls > 0 && calls_in_bytes == (model->spec.low == DISTIL_TYPE_INT8 ? calls : 0));
	return hidden;
}

static void
test_model(DistilDevice *device, ModelKind kind, const char *layout)
{
	Synthetic	model;
	SyntheticBatch batch;
	float	   *want;
	float	   *got;
	size_t		width;
	double		worst = 1;
	int			b;
	int			i;

	make_model(&model, kind);
	width = (size_t) model.spec.config.width;
	synthetic_batch(&batch, &model.spec, lengths_of, SEQUENCES, 8);
	want = run(&model, &batch.batch, ref);
	synthetic_pack(&model, layout);
	got = run_recorded(&model, &batch.batch, device);
	for (i = 0; i < batch.batch.ntokens; i++)
		worst = fmin(worst, cosine(got + (size_t) i * width, want + (size_t) i * width, (int) width));
	CHECK_MSG(worst >= 0.999, "%s, model %d, %s: a token's cosine to float32 is %.6f\n", under_test,
			  (int) kind, layout, worst);
	for (b = 0; b < SEQUENCES; b++)
	{
		DistilBatch one = batch.batch;
		int32_t		offsets[2] = {0, lengths_of[b]};
		int			start = batch.offsets[b];
		float	   *alone;

		one.nseq = 1;
		one.ntokens = lengths_of[b];
		one.ids += start;
		one.positions += start;
		one.types += start;
		one.offsets = offsets;
		one.host_offsets = offsets;
		alone = run(&model, &one, device);
		CHECK_MSG(memcmp(alone, got + (size_t) start * width,
						 sizeof(float) * (size_t) one.ntokens * width) == 0,
				  "%s, model %d, %s: sequence %d alone differs\n", under_test, (int) kind, layout, b);
		if (kind == MODEL_GPT2 && b == 4)
			check_cached(&model, &one, alone, device);
		free(alone);
	}
	free(want);
	free(got);
	synthetic_batch_free(&batch);
	synthetic_free(&model);
}

static int	embedded;

static void
count_embedded(DistilDevice *dev, float *y, const int32_t *ids, const int32_t *positions,
			   const int32_t *types, const float *word, const float *position, const float *type, int t,
			   int c)
{
	embedded += t;
	counted->embedding_forward(dev, y, ids, positions, types, word, position, type, t, c);
}

/*
 * Sequences that begin with the same ids, some of them of other types: with the batch's kinds the same bits,
 * from fewer embeddings and fewer rows of the first layer's q, k and v.  Layers whose norms come first have
 * no use for them.
 */
static void
test_kinds(DistilDevice *device, ModelKind kind, const char *layout)
{
	static const int sizes[SEQUENCES] = {1, 7, 40, 16, 33, 2};
	const int	longest = 2;
	DistilKinds kinds;
	Synthetic	model;
	SyntheticBatch batch;
	int32_t    *memory;
	float	   *want;
	int			t;
	int			b;

	make_model(&model, kind);
	synthetic_pack(&model, layout);
	synthetic_batch(&batch, &model.spec, sizes, SEQUENCES, 8);
	t = batch.batch.ntokens;
	for (b = 0; b < SEQUENCES; b++)
		if (b != longest)
			memcpy(batch.ids + batch.offsets[b], batch.ids + batch.offsets[longest],
				   sizeof(int32_t) * (size_t) (sizes[b] - 1));
	memory = malloc(sizeof(int32_t) * distil_kinds_count(t));
	CHECK(distil_kinds_find(&kinds, memory, batch.ids, batch.positions, batch.types, t));
	/* beside the longest one's there are the last tokens, and those of another type: 2, 6 and 4 */
	CHECK(kinds.n == sizes[longest] + SEQUENCES - 1 + (model.spec.config.types > 0 ? 12 : 0));
	want = run(&model, &batch.batch, device);
	count_products(device, 3 * model.spec.config.width);
	counting.embedding_forward = count_embedded;
	embedded = 0;
	batch.batch.kinds = &kinds;
	if (kind == MODEL_GPT2)
		check_refused(&model, &batch.batch, device);
	else
	{
		float	   *got = run(&model, &batch.batch, device);

		CHECK(embedded == kinds.n);
		CHECK(product_rows == (model.spec.config.layers - 1) * t + kinds.n);
		CHECK_MSG(memcmp(want, got, sizeof(float) * (size_t) t * (size_t) model.spec.config.width) == 0,
				  "%s, model %d, %s: as kinds of tokens it differs\n", under_test, (int) kind, layout);
		free(got);
	}
	device->ops = counted;
	free(want);
	free(memory);
	synthetic_batch_free(&batch);
	synthetic_free(&model);
}

/* Rows that go through several products in turn: no fewer of a narrower model, and never none. */
static void
test_chain(DistilDevice *device)
{
	int			(*chain_rows) (DistilDevice *, int, int) = device->ops->chain_rows;
	const int	widths[] = {1, 100, 1536, 3072, 4096, 1 << 20};
	int			rows;
	size_t		i;

	if (chain_rows == NULL)
		return;
	for (rows = 1; rows <= 4096; rows *= 4)
		for (i = 1; i < sizeof(widths) / sizeof(widths[0]); i++)
			CHECK_MSG(chain_rows(device, rows, widths[i]) > 0 &&
					  chain_rows(device, rows, widths[i]) <= chain_rows(device, rows, widths[i - 1]),
					  "%s: %d rows of %d\n", under_test, rows, widths[i]);
	CHECK(chain_rows(device, 4096, 1) == chain_rows(device, 1, 1));
}

static void
test_models(DistilDevice *device)
{
	static const char *const layouts[] = {DISTIL_LAYOUT_BF16P16, DISTIL_LAYOUT_INT8P16,
	DISTIL_LAYOUT_INT8P16_ORDERED};
	bool		ordered = device->ops->orders_lines != NULL && device->ops->orders_lines(device);
	size_t		n = sizeof(layouts) / sizeof(layouts[0]) - (ordered ? 0 : 1);
	int			kind;

	for (kind = 0; kind < MODEL_KINDS; kind++)
	{
		for (size_t i = 0; i < n; i++)
		{
			test_model(device, (ModelKind) kind, layouts[i]);
			test_kinds(device, (ModelKind) kind, layouts[i]);
		}
	}
}

/* Low precision is for inference: a pass that saves for backward is refused. */
static void
test_refused(void)
{
	Synthetic	model;
	SyntheticBatch batch;
	DistilActivations *activations;
	const float *hidden;
	DistilError err = {"", "", ""};

	make_model(&model, MODEL_BERT);
	synthetic_pack(&model, DISTIL_LAYOUT_BF16P16);
	synthetic_batch(&batch, &model.spec, lengths_of, SEQUENCES, 8);
	CHECK(distil_activations_create(&activations, &model.spec, batch.batch.ntokens, true, ref,
									distil_alloc_system(), &err) == DISTIL_OK);
	CHECK(distil_encoder_forward(&model.spec, model.weights, &batch.batch, activations, 0, &hidden, ref, NULL,
								 &err) == DISTIL_ERR_STATE);
	distil_activations_free(activations);
	synthetic_batch_free(&batch);
	synthetic_free(&model);
}

/* Of those that have no dot products of four bytes. */
static void
test_quantized_choice(DistilDevice *device)
{
	bool		ordered = strcmp(under_test, "cpu/avx2") == 0 || strcmp(under_test, "cpu/avx512") == 0;
	const char *layout = distil_quantized_layout(DISTIL_PRECISION_AUTO, device);

	if (strncmp(under_test, "cpu/", 4) == 0 && strcmp(distil_cpu_isa(), "reference") != 0)
		CHECK_MSG(strcmp(layout, ordered ? DISTIL_LAYOUT_INT8P16_ORDERED : DISTIL_LAYOUT_INT8P16) == 0,
				  "%s: %s\n", under_test, layout);
}

static void
test_choice(void)
{
	CHECK(strncmp(distil_image_layout(DISTIL_PRECISION_AUTO, NULL), "f32", 3) == 0);
	CHECK(strcmp(distil_image_layout(DISTIL_PRECISION_BFLOAT16, ref), DISTIL_LAYOUT_BF16P16) == 0);
	CHECK(strncmp(distil_image_layout(DISTIL_PRECISION_AUTO, ref), "f32", 3) == 0);
	CHECK(strncmp(distil_image_layout(DISTIL_PRECISION_FLOAT32, ref), "f32", 3) == 0);
	on_every_rows_device(test_quantized_choice);
}

int
main(void)
{
	if (!open_reference())
		return check_report("low");
	on_every_rows_device(test_chain);
	on_every_rows_device(test_models);
	test_refused();
	test_choice();
	ref->ops->close(ref);
	return check_report("low");
}
