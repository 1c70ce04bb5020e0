/*
 * test_encoder.c
 *		Forward and backward of encoder, masked-LM head and pipeline, on synthetic models:
 *		gradients by finite differences, ragged batches, units of work, cancelling, backends.
 */
#include "encoder_fixture.h"

static void
test_gradients(DistilDevice *device)
{
	static const char *const names[] = {"encoder", "lm head", "pipeline"};
	int			bert;
	int			part;
	int			dropout;

	for (bert = 0; bert < 2; bert++)
		for (part = PART_ENCODER; part <= PART_PIPELINE; part++)
			for (dropout = 0; dropout < 2; dropout++)
			{
				Synthetic	model;
				SyntheticBatch batch;
				Problem		problem;
				char		what[64];

				small_config(&model, bert != 0);
				model.spec.config.activation = bert ? DISTIL_ACT_GELU : DISTIL_ACT_GELU_TANH;
				synthetic_create(&model, true, 0.4f, 1);
				synthetic_batch(&batch, &model.spec, lengths, LENGTHS, 2);
				problem_create(&problem, &model, &batch, device, (TestPart) part, dropout ? 99 : 0);
				snprintf(what, sizeof(what), "%s, %s, dropout %s", names[part], bert ? "bert" : "distilbert",
						 dropout ? "on" : "off");
				check_gradients(&problem, what);
				problem_free(&problem);
				synthetic_batch_free(&batch);
				synthetic_free(&model);
			}
}

/* skip: rows at the beginning of each sequence that are not pooled */
static void
check_pipeline(DistilDevice *device, const DistilPipeline *pipeline, int skip, const char *what)
{
	static const int longer[LENGTHS] = {5, 3, 9, 3};	/* where no maximum changes its row within a step */
	int32_t		ranges[2 * LENGTHS];
	Synthetic	model;
	SyntheticBatch batch;
	Problem		problem;

	small_config(&model, true);
	model.spec.config.layers = 1;
	model.spec.pipeline = *pipeline;
	synthetic_create(&model, false, 0.4f, 3);
	synthetic_batch(&batch, &model.spec, skip > 0 ? longer : lengths, LENGTHS, 4);
	for (int i = 0; i < LENGTHS; i++)
	{
		ranges[2 * i] = batch.offsets[i] + skip;
		ranges[2 * i + 1] = batch.offsets[i + 1];
	}
	batch.batch.pool_skip = skip;
	batch.batch.pool_ranges = ranges;
	problem_create(&problem, &model, &batch, device, PART_PIPELINE, 0);
	check_gradients(&problem, what);
	problem_free(&problem);
	synthetic_batch_free(&batch);
	synthetic_free(&model);
}

static void
test_pipelines(DistilDevice *device)
{
	int			mode;

	for (mode = DISTIL_POOL_CLS; mode <= DISTIL_POOL_LAST; mode++)
	{
		DistilPipeline pipeline = {0};
		char		what[64];

		pipeline.npoolings = 1;
		pipeline.pooling[0] = (DistilPooling) mode;
		pipeline.normalize = mode % 2 == 0;
		snprintf(what, sizeof(what), "pooling %d", mode);
		check_pipeline(device, &pipeline, 0, what);
		if (mode != DISTIL_POOL_WEIGHTED_MEAN)	/* without a prompt refused */
		{
			snprintf(what, sizeof(what), "pooling %d, without the prompt", mode);
			check_pipeline(device, &pipeline, 1, what);
		}
		/* two dense layers: with tanh and bias, then plain without bias */
		pipeline.ndense = 2;
		pipeline.dense[0].in = 12;
		pipeline.dense[0].out = 15;
		pipeline.dense[0].activation = DISTIL_ACT_TANH;
		pipeline.dense[1].in = 15;
		pipeline.dense[1].out = 7;
		pipeline.normalize = true;
		snprintf(what, sizeof(what), "pooling %d, dense, normalise", mode);
		check_pipeline(device, &pipeline, 0, what);
	}
	{
		DistilPipeline pipeline = {0};

		pipeline.npoolings = 3;
		pipeline.pooling[0] = DISTIL_POOL_CLS;
		pipeline.pooling[1] = DISTIL_POOL_MAX;
		pipeline.pooling[2] = DISTIL_POOL_MEAN;
		pipeline.normalize = true;
		check_pipeline(device, &pipeline, 0, "cls + max + mean");
		check_pipeline(device, &pipeline, 1, "cls + max + mean, without the prompt");
		pipeline.ndense = 1;
		pipeline.dense[0].in = 36;
		pipeline.dense[0].out = 5;
		pipeline.dense[0].activation = DISTIL_ACT_TANH;
		check_pipeline(device, &pipeline, 0, "cls + max + mean, dense");
	}
}

/* Pooling without the prompt: the same as pooling the other rows with their own weights. */
static void
test_pool_skip(DistilDevice *device)
{
	static const int part_lengths[2] = {5, 4};
	int			mode;

	for (mode = DISTIL_POOL_CLS; mode <= DISTIL_POOL_LAST; mode++)
	{
		Synthetic	model;
		SyntheticBatch batch;
		float		hidden[9 * 12];
		float		out[24];
		float		scratch[512];
		int32_t		ranges[4] = {2, 5, 7, 9};
		uint64_t	state = 8;
		DistilError err;
		int			b;
		int			i;
		int			j;

		small_config(&model, true);
		model.spec.pipeline.pooling[0] = (DistilPooling) mode;
		synthetic_create(&model, false, 0.4f, 3);
		synthetic_batch(&batch, &model.spec, part_lengths, 2, 4);
		for (i = 0; i < 9 * 12; i++)
			hidden[i] = synthetic_uniform(&state);
		batch.batch.pool_skip = 2;
		batch.batch.pool_ranges = ranges;
		CHECK(2 * 2 * distil_pipeline_scratch_width(&model.spec) <= 512);
		CHECK(distil_pipeline_forward(&model.spec, model.weights, out, hidden, &batch.batch, NULL, scratch,
									  device, NULL, &err) == DISTIL_OK);
		for (b = 0; b < 2; b++)
			for (j = 0; j < 12; j++)
			{
				double		sum = 0;
				double		weights = 0;
				double		largest = -1e9;
				double		expected = 0;
				int			n = ranges[2 * b + 1] - ranges[2 * b];

				for (i = ranges[2 * b]; i < ranges[2 * b + 1]; i++)
				{
					double		x = hidden[i * 12 + j];
					double		w = mode == DISTIL_POOL_WEIGHTED_MEAN ? i - batch.offsets[b] + 1 : 1;

					sum += w * x;
					weights += w;
					largest = check_worse(largest, x);
				}
				if (mode == DISTIL_POOL_CLS)
					expected = hidden[ranges[2 * b] * 12 + j];
				else if (mode == DISTIL_POOL_LAST)
					expected = hidden[(ranges[2 * b + 1] - 1) * 12 + j];
				else if (mode == DISTIL_POOL_MAX)
					expected = largest;
				else
					expected = sum / (mode == DISTIL_POOL_MEAN_SQRT ? sqrt(n) : weights);
				/* a handful of float additions of values below 1 */
				CHECK_NEAR(out[b * 12 + j], expected, 1e-6);
			}
		synthetic_batch_free(&batch);
		synthetic_free(&model);
	}
}

/* Saved and unsaved forward agree, and a sequence alone gives its rows of the batch. */
static void
test_ragged(DistilDevice *device, const char *name)
{
	Synthetic	model;
	SyntheticBatch batch;
	DistilActivations *saved;
	DistilActivations *small;
	const float *all;
	const float *hidden;
	double		worst = 0;
	double		worst_alone = 0;
	DistilError err;
	int			i;
	int			b;

	small_config(&model, true);
	model.spec.config.width = 48;
	model.spec.config.mlp = 130;
	synthetic_create(&model, true, 0.3f, 5);
	synthetic_batch(&batch, &model.spec, lengths, LENGTHS, 6);
	CHECK(distil_activations_create(&saved, &model.spec, 18, true, device, distil_alloc_system(),
									&err) == DISTIL_OK);
	CHECK(distil_activations_create(&small, &model.spec, 18, false, device, distil_alloc_system(),
									&err) == DISTIL_OK);
	CHECK(distil_encoder_forward(&model.spec, model.weights, &batch.batch, saved, 0, &all, device, NULL, &err)
		  == DISTIL_OK);
	CHECK(distil_encoder_forward(&model.spec, model.weights, &batch.batch, small, 0, &hidden, device, NULL,
								 &err)
		  == DISTIL_OK);
	for (i = 0; i < 18 * 48; i++)
		worst = check_worse(worst, fabs((double) all[i] - hidden[i]));
	for (b = 0; b < LENGTHS; b++)
	{
		DistilBatch one = batch.batch;
		int32_t		offsets[2] = {0, lengths[b]};
		int			start = batch.offsets[b];

		one.nseq = 1;
		one.ntokens = lengths[b];
		one.ids += start;
		one.positions += start;
		one.types += start;
		one.offsets = offsets;
		one.host_offsets = offsets;
		CHECK(distil_encoder_forward(&model.spec, model.weights, &one, small, 0, &hidden, device, NULL, &err)
			  == DISTIL_OK);
		for (i = 0; i < lengths[b] * 48; i++)
			worst_alone = check_worse(worst_alone, fabs((double) hidden[i] - all[start * 48 + i]));
	}
	/* values are of size 1; a product's order of additions may depend on its shape */
	CHECK_MSG(worst <= 1e-6 * 4, "%s: saved and unsaved differ by %g", name, worst);
	CHECK_MSG(worst_alone <= 1e-6 * 4, "%s: alone and in a batch differ by %g", name, worst_alone);
	distil_activations_free(saved);
	distil_activations_free(small);
	synthetic_batch_free(&batch);
	synthetic_free(&model);
}

/* Forward, and the gradients of the sum of r * hidden added to the model's; hidden states into out. */
static void
both_ways(Synthetic *model, const DistilBatch *batch, const float *r, float *out, DistilDevice *device)
{
	size_t		bytes = sizeof(float) * (size_t) batch->ntokens * (size_t) model->spec.config.width;
	float	   *dhidden = malloc(bytes);
	DistilActivations *activations;
	const float *hidden;
	DistilError err;

	CHECK(distil_activations_create(&activations, &model->spec, batch->ntokens, true, device,
									distil_alloc_system(), &err) == DISTIL_OK);
	CHECK(distil_encoder_forward(&model->spec, model->weights, batch, activations, 0, &hidden, device, NULL,
								 &err) == DISTIL_OK);
	memcpy(out, hidden, bytes);
	memcpy(dhidden, r, bytes);
	CHECK(distil_encoder_backward(&model->spec, model->weights, model->gradients, batch, activations, 0,
								  dhidden, device, NULL, &err) == DISTIL_OK);
	distil_activations_free(activations);
	free(dhidden);
}

/* A batch so large that each step is done in several units of work: as its sequences alone, in one each. */
static void
test_large_batch(DistilDevice *device)
{
	enum {SEQUENCES = 4, LENGTH = 400, WIDTH = 768, TOKENS = SEQUENCES * LENGTH};
	static const int same[SEQUENCES] = {LENGTH, LENGTH, LENGTH, LENGTH};
	float	   *all = malloc(sizeof(float) * TOKENS * WIDTH);
	float	   *alone = malloc(sizeof(float) * TOKENS * WIDTH);
	float	   *r = malloc(sizeof(float) * TOKENS * WIDTH);
	float	   *whole;
	Synthetic	model;
	SyntheticBatch batch;
	uint64_t	state = 5;
	double		worst = 0;
	double		differ = 0;
	double		norm = 0;

	small_config(&model, true);
	model.spec.config.layers = 1;
	model.spec.config.width = WIDTH;
	model.spec.config.heads = 12;
	model.spec.config.mlp = 1024;
	model.spec.config.positions = LENGTH;
	synthetic_create(&model, false, 0.05f, 5);
	synthetic_batch(&batch, &model.spec, same, SEQUENCES, 6);
	for (int i = 0; i < TOKENS * WIDTH; i++)
		r[i] = synthetic_uniform(&state);
	both_ways(&model, &batch.batch, r, all, device);
	whole = model.gradients;
	model.gradients = calloc(model.spec.table.total, sizeof(float));
	for (int b = 0; b < SEQUENCES; b++)
	{
		DistilBatch one = batch.batch;
		int32_t		offsets[2] = {0, LENGTH};

		one.nseq = 1;
		one.ntokens = LENGTH;
		one.ids += b * LENGTH;
		one.positions += b * LENGTH;
		one.types += b * LENGTH;
		one.offsets = one.host_offsets = offsets;
		both_ways(&model, &one, r + b * LENGTH * WIDTH, alone + b * LENGTH * WIDTH, device);
	}
	for (int i = 0; i < TOKENS * WIDTH; i++)
		worst = check_worse(worst, fabs((double) all[i] - alone[i]));
	for (size_t i = 0; i < model.spec.table.total; i++)
	{
		differ += pow((double) whole[i] - model.gradients[i], 2);
		norm += pow(whole[i], 2);
	}
	/* values of size 1, and sums of 1600 products in another order */
	CHECK_MSG(worst <= 1e-5, "hidden states differ by %g", worst);
	CHECK_MSG(sqrt(differ) <= 1e-4 * sqrt(norm), "gradients differ by %g of %g", sqrt(differ), sqrt(norm));
	free(whole);
	free(all);
	free(alone);
	free(r);
	synthetic_batch_free(&batch);
	synthetic_free(&model);
}

/*
 * MiniLM's shapes: a sequence's hidden states are the same bits alone and in any batch, with
 * packed and with plain weights.
 */
static void
test_alone(DistilDevice *device, const char *name)
{
	static const int many[] = {1, 7, 130, 16, 33, 2, 64, 8};
	enum {SEQUENCES = 8, TOKENS = 261, WIDTH = 384};
	size_t		bytes = sizeof(float) * TOKENS * WIDTH;
	float	   *all = malloc(bytes);
	Synthetic	model;
	SyntheticBatch batch;
	DistilActivations *activations;
	const float *hidden;
	DistilError err;
	int			packed;
	int			b;

	small_config(&model, true);
	model.spec.config.width = WIDTH;
	model.spec.config.heads = 12;
	model.spec.config.mlp = 1536;
	model.spec.config.layers = 2;
	model.spec.config.positions = 130;
	synthetic_create(&model, false, 0.05f, 7);
	synthetic_batch(&batch, &model.spec, many, SEQUENCES, 8);
	CHECK(distil_activations_create(&activations, &model.spec, TOKENS, false, device, distil_alloc_system(),
									&err) == DISTIL_OK);
	CHECK(distil_encoder_forward(&model.spec, model.weights, &batch.batch, activations, 0, &hidden, device,
								 NULL, &err) == DISTIL_OK);
	memcpy(all, hidden, bytes);
	for (packed = 0; packed < 2; packed++)
	{
		if (packed)
			synthetic_pack(&model, DISTIL_LAYOUT_F32P16);
		for (b = 0; b < SEQUENCES; b++)
		{
			DistilBatch one = batch.batch;
			int32_t		offsets[2] = {0, many[b]};
			int			start = batch.offsets[b];

			one.nseq = 1;
			one.ntokens = many[b];
			one.ids += start;
			one.positions += start;
			one.types += start;
			one.offsets = offsets;
			one.host_offsets = offsets;
			CHECK(distil_encoder_forward(&model.spec, model.weights, &one, activations, 0, &hidden, device,
										 NULL, &err) == DISTIL_OK);
			CHECK_MSG(memcmp(hidden, all + start * WIDTH, sizeof(float) * (size_t) many[b] * WIDTH) == 0,
					  "%s, %s: sequence %d alone differs", name, packed ? "packed" : "plain", b);
		}
		CHECK(distil_encoder_forward(&model.spec, model.weights, &batch.batch, activations, 0, &hidden,
									 device, NULL, &err) == DISTIL_OK);
		CHECK_MSG(memcmp(all, hidden, bytes) == 0, "%s: packed weights give other bits", name);
	}
	free(all);
	distil_activations_free(activations);
	synthetic_batch_free(&batch);
	synthetic_free(&model);
}

/* Another backend gives the reference's outputs and gradients. */
static void
test_backend(DistilDevice *reference, DistilDevice *other, const char *name)
{
	int			part;

	for (part = PART_ENCODER; part <= PART_PIPELINE; part++)
	{
		Synthetic	model;
		SyntheticBatch batch;
		Problem		problem;
		DistilDevice *devices[2];
		float	   *outputs[2];
		float	   *gradients[2];
		double		worst = 0;
		double		worst_gradient = 0;
		double		size = 0;
		DistilError err;
		size_t		i;
		int			d;

		devices[0] = reference;
		devices[1] = other;
		small_config(&model, true);
		model.spec.config.width = 96;
		model.spec.config.mlp = 200;
		model.spec.config.vocabulary = 301;
		model.spec.pipeline.normalize = true;
		synthetic_create(&model, true, 0.1f, 7);
		synthetic_batch(&batch, &model.spec, lengths, LENGTHS, 8);
		for (d = 0; d < 2; d++)
		{
			problem_create(&problem, &model, &batch, devices[d], (TestPart) part, 5);
			CHECK(problem_forward(&problem, &err) == DISTIL_OK);
			CHECK(problem_backward(&problem, &err) == DISTIL_OK);
			outputs[d] = malloc(sizeof(float) * (size_t) problem.rows * (size_t) problem.width);
			memcpy(outputs[d], problem.output,
				   sizeof(float) * (size_t) problem.rows * (size_t) problem.width);
			gradients[d] = malloc(sizeof(float) * model.spec.table.total);
			memcpy(gradients[d], model.gradients, sizeof(float) * model.spec.table.total);
			if (d == 1)
				for (i = 0; i < (size_t) problem.rows * (size_t) problem.width; i++)
					worst = check_worse(worst, fabs((double) outputs[0][i] - outputs[1][i]));
			problem_free(&problem);
		}
		for (i = 0; i < model.spec.table.total; i++)
		{
			worst_gradient = check_worse(worst_gradient, fabs((double) gradients[0][i] - gradients[1][i]));
			size = check_worse(size, fabs((double) gradients[0][i]));
		}
		/* float sums of up to 300 terms of size 1: 300 * 2^-24, and the same relative in gradients */
		CHECK_MSG(worst <= 2e-5, "%s, part %d: outputs differ by %g", name, part, worst);
		CHECK_MSG(worst_gradient <= 2e-5 * (1 + size), "%s, part %d: gradients differ by %g of %g", name,
				  part,
				  worst_gradient, size);
		for (d = 0; d < 2; d++)
		{
			free(outputs[d]);
			free(gradients[d]);
		}
		synthetic_batch_free(&batch);
		synthetic_free(&model);
	}
}

/* ---------- cancelling ---------- */

typedef struct Countdown
{
	int			calls;
	int			stop_at;		/* 0: never */
} Countdown;

static bool
countdown_stop(void *ctx)
{
	Countdown  *countdown = ctx;

	countdown->calls++;
	return countdown->stop_at > 0 && countdown->calls >= countdown->stop_at;
}

static void
test_cancel(DistilDevice *device)
{
	Synthetic	model;
	SyntheticBatch batch;
	Problem		problem;
	Countdown	countdown = {0, 0};
	DistilPoll	poll = {countdown_stop, &countdown};
	DistilError err;
	double		before;
	int			total;
	int			k;

	small_config(&model, true);
	synthetic_create(&model, true, 0.4f, 1);
	synthetic_batch(&batch, &model.spec, lengths, LENGTHS, 2);
	problem_create(&problem, &model, &batch, device, PART_LM, 3);
	problem.poll = &poll;
	before = problem_loss(&problem);
	CHECK(problem_backward(&problem, &err) == DISTIL_OK);
	total = countdown.calls;
	CHECK(total > 20);
	for (k = 1; k <= total; k++)
	{
		DistilStatus status;

		countdown.calls = 0;
		countdown.stop_at = k;
		status = problem_forward(&problem, &err);
		if (status == DISTIL_OK)
			status = problem_backward(&problem, &err);
		CHECK_MSG(status == DISTIL_ERR_CANCELLED && countdown.calls == k,
				  "stop at %d: status %d after %d polls",
				  k, status, countdown.calls);
	}
	countdown.stop_at = 0;
	CHECK(problem_loss(&problem) == before);
	problem_free(&problem);
	synthetic_batch_free(&batch);
	synthetic_free(&model);
}

/* A frozen table and a frozen linear layer get no gradient; the others get theirs. */
static void
test_frozen(DistilDevice *device)
{
	Synthetic	model;
	SyntheticBatch batch;
	Problem		problem;
	DistilError err;
	int			frozen[2];
	int			i;
	size_t		j;

	small_config(&model, true);
	synthetic_create(&model, false, 0.4f, 1);
	frozen[0] = model.spec.position;
	frozen[1] = model.layers[0].up_weight;
	for (i = 0; i < 2; i++)
		model.params[frozen[i]].flags |= DISTIL_PARAM_FROZEN;
	synthetic_batch(&batch, &model.spec, lengths, LENGTHS, 2);
	problem_create(&problem, &model, &batch, device, PART_ENCODER, 0);
	problem_loss(&problem);
	CHECK(problem_backward(&problem, &err) == DISTIL_OK);
	for (i = 0; i < model.spec.table.n; i++)
	{
		double		size = 0;

		for (j = 0; j < model.params[i].count; j++)
			size += fabs((double) model.gradients[model.params[i].offset + j]);
		if (i == frozen[0] || i == frozen[1])
			CHECK_MSG(size == 0, "frozen parameter %d has a gradient", i);
		else if (i != model.layers[0].up_bias)
			CHECK_MSG(size > 0, "parameter %d has no gradient", i);
	}
	problem_free(&problem);
	synthetic_batch_free(&batch);
	synthetic_free(&model);
}

/* ---------- units of work ---------- */

static double largest_unit;
static int	units;

static void
count_unit(int m, int n, int k)
{
	largest_unit = fmax(largest_unit, 2.0 * m * n * k);
	units++;
}

/* Stand-ins that count how often each output is written. */
static void
fake_forward(DistilDevice *dev, float *y, size_t ldy, const float *x, size_t ldx, const float *w,
			 const float *b,
			 DistilActivation act, int m, int n, int k)
{
	int			i;
	int			j;

	(void) dev; (void) x; (void) ldx; (void) w; (void) b; (void) act;
	for (i = 0; i < m; i++)
		for (j = 0; j < n; j++)
			y[(size_t) i * ldy + j] += 1;
	count_unit(m, n, k);
}

static void
fake_backward_input(DistilDevice *dev, float *dx, size_t lddx, const float *dy, size_t lddy, const float *w,
					bool accumulate, int m, int n, int k)
{
	int			i;

	(void) dev; (void) dy; (void) lddy; (void) w; (void) k;
	for (i = 0; i < m; i++)
		dx[(size_t) i * lddx] = (accumulate ? dx[(size_t) i * lddx] : 0) + (float) n;
	count_unit(m, n, k);
}

static void
fake_backward_weight(DistilDevice *dev, float *dw, float *db, const float *dy, size_t lddy, const float *x,
					 size_t ldx, int m, int n, int k)
{
	int			j;

	(void) dev; (void) dy; (void) lddy; (void) x; (void) ldx;
	for (j = 0; j < n; j++)
	{
		dw[(size_t) j * k] += (float) m;
		db[j] += (float) m;
	}
	count_unit(m, n, k);
}

static void
check_units(int m, int n, int k)
{
	DistilKernels ops = {0};
	DistilDevice device = {&ops};
	Countdown	countdown = {0, 0};
	DistilPoll	poll = {countdown_stop, &countdown};
	float	   *y = calloc((size_t) m * n, sizeof(float));
	float	   *w = calloc((size_t) n * k, sizeof(float));
	float	   *x = calloc((size_t) m * k, sizeof(float));
	float	   *b = calloc((size_t) n, sizeof(float));
	DistilError err;
	size_t		i;
	size_t		wrong = 0;

	ops.linear_forward = fake_forward;
	ops.linear_backward_input = fake_backward_input;
	ops.linear_backward_weight = fake_backward_weight;
	largest_unit = 0;
	units = 0;
	CHECK(distil_linear_forward(y, (size_t) n, x, (size_t) k, w, b, DISTIL_ACT_NONE, m, n, k, &device,
								&poll, &err)
		  == DISTIL_OK);
	for (i = 0; i < (size_t) m * n; i++)
		wrong += y[i] != 1;
	CHECK_MSG(wrong == 0, "%d x %d x %d: %zu outputs not written once", m, n, k, wrong);
	x[0] = 99;					/* not accumulated: overwritten by the first block */
	CHECK(distil_linear_backward(x, (size_t) k, false, w, b, y, (size_t) n, x, (size_t) k, w, m, n, k,
								 &device, &poll, &err) == DISTIL_OK);
	for (i = 0; i < (size_t) m; i++)
		wrong += x[i * (size_t) k] != (float) n;
	for (i = 0; i < (size_t) n; i++)
		wrong += w[i * (size_t) k] != (float) m || b[i] != (float) m;
	CHECK_MSG(wrong == 0, "%d x %d x %d: %zu gradients not summed once", m, n, k, wrong);
	/* rounding a block to a multiple of 16 may add a little to a unit */
	CHECK_MSG(largest_unit <= 1.3 * DISTIL_UNIT_FLOPS, "%d x %d x %d: a unit of %g flops", m, n, k,
			  largest_unit);
	CHECK_MSG(countdown.calls >= units, "%d units, %d polls", units, countdown.calls);
	/* no more units than the work and the weights read need, about twice */
	CHECK_MSG(units <= 3 + 12.0 * m * n * k / DISTIL_UNIT_FLOPS + 8.0 * n * k / (8 << 20),
			  "%d x %d x %d: %d units", m, n, k, units);
	free(y);
	free(w);
	free(x);
	free(b);
}

/* ---------- units of attention ---------- */

static const DistilKernels *inner_ops;
static double largest_attention;

static void
measured_attention(DistilDevice *device, float *out, float *lse, const float *qkv, const int32_t *offsets,
				   const DistilAttention *a)
{
	double		length = offsets[1] - offsets[0];
	double		work = 4.0 * length * (DISTIL_QUERY_END(a, length) - a->query_first) * a->head_dim *
		a->head_count;

	largest_attention = work > largest_attention ? work : largest_attention;
	inner_ops->attention_forward(device, out, lse, qkv, offsets, a);
}

/* One head of a long text is more than a unit: its queries are done in parts, with the same bits. */
static void
test_attention_units(DistilDevice *device)
{
	static const int long_text[] = {5000};
	DistilKernels ops = *device->ops;
	int			polls[2];
	double		loss[2];
	int			i;

	inner_ops = device->ops;
	ops.attention_forward = measured_attention;
	device->ops = &ops;
	for (i = 0; i < 2; i++)
	{
		Synthetic	model;
		SyntheticBatch batch;
		Problem		problem;
		Countdown	countdown = {0, 0};
		DistilPoll	poll = {countdown_stop, &countdown};

		small_config(&model, true);
		model.spec.config.positions = long_text[0];
		model.spec.config.layers = 1;
		synthetic_create(&model, true, 0.4f, 1);
		synthetic_batch(&batch, &model.spec, long_text, 1, 2);
		problem_create(&problem, &model, &batch, device, PART_ENCODER, 0);
		problem.poll = &poll;
		ops.units = i == 0 ? 1 : 1000;
		largest_attention = 0;
		loss[i] = problem_loss(&problem);
		polls[i] = countdown.calls;
		/* parts are rounded to whole queries */
		if (i == 0)
			CHECK_MSG(largest_attention <= 1.01 * DISTIL_UNIT_ATTENTION(device), "a unit of %g flops\n",
					  largest_attention);
		problem_free(&problem);
		synthetic_batch_free(&batch);
		synthetic_free(&model);
	}
	CHECK(largest_attention > 3 * (DISTIL_UNIT_FLOPS / 5));
	CHECK_MSG(polls[0] >= polls[1] + 3, "%d polls in parts, %d in one\n", polls[0], polls[1]);
	CHECK(loss[0] == loss[1]);
	device->ops = inner_ops;
}

static void
test_units(void)
{
	check_units(7, 5, 3);
	check_units(4096, 768, 768);
	check_units(1024, 3072, 768);
	check_units(512, 768, 3072);
	check_units(60, 30522, 768);
	check_units(1, 119547, 768);
	check_units(20000, 384, 384);
}

/* The bucket of each distance, to both ends and far beyond the border of the last bucket. */
static void
test_relative_buckets(DistilDevice *device)
{
	/* first distances of buckets 9 to 15, whose widths grow by sqrt(2) from 8 to 128 */
	static const int borders[] = {12, 16, 23, 32, 46, 64, 91};
	enum {LIMIT = 600, ROWS = 2 * LIMIT - 1};
	static int32_t rows[ROWS];
	DistilActivations a = {
		.relative_limit = LIMIT,.relative_rows = rows,.device = device,.alloc = distil_alloc_system()
	};
	DistilConfig config = {.relative_buckets = 32};
	DistilError err;
	int			wrong = 0;

	memset(rows, -1, sizeof(rows));
	CHECK(distil_relative_create(&a, &config, &err) == DISTIL_OK);
	for (int distance = 1 - LIMIT; distance < LIMIT; distance++)
	{
		int			n = abs(distance);
		int			bucket = n < 8 ? n : 8;

		for (int i = 0; i < 7; i++)
			bucket += n >= borders[i];
		wrong += rows[distance + LIMIT - 1] != bucket + (distance > 0 ? 16 : 0);
	}
	CHECK_MSG(wrong == 0, "%d distances", wrong);
}

int
main(void)
{
	static const char *const isas[] = {"avx2", "avx512"};
	DistilDevice *reference = open_device("reference", NULL);
	int			i;

	if (reference == NULL)
		return check_report("encoder");
	test_units();
	test_relative_buckets(reference);
	test_gradients(reference);
	test_pipelines(reference);
	test_pool_skip(reference);
	test_ragged(reference, "reference");
	test_cancel(reference);
	test_frozen(reference);
	for (i = 0; i < 2; i++)
		if (distil_cpu_has(isas[i]))
		{
			DistilDevice *device = open_device("cpu", isas[i]);

			if (device != NULL)
			{
				test_ragged(device, isas[i]);
				test_alone(device, isas[i]);
				if (i == 0)
					test_large_batch(device);
				test_attention_units(device);
				test_backend(reference, device, isas[i]);
				device->ops->close(device);
			}
		}
	reference->ops->close(reference);
	return check_report("encoder");
}
