/*
 * encoder_fixture.h
 *		A loss on a synthetic model and the check of its gradients by finite differences.
 */
#ifndef DISTIL_ENCODER_FIXTURE_H
#define DISTIL_ENCODER_FIXTURE_H

#include "layers.h"
#include "synthetic.h"

#define LENGTHS 4

static const int lengths[LENGTHS] = {5, 1, 9, 3};

typedef enum TestPart
{
	PART_ENCODER,
	PART_LM,
	PART_PIPELINE
} TestPart;

/* Everything one loss needs: loss = sum of r * output in double, r fixed. */
typedef struct Problem
{
	Synthetic  *model;
	SyntheticBatch *batch;
	DistilDevice *device;
	DistilActivations *activations;
	TestPart	part;
	uint64_t	seed;			/* of dropout */
	int			rows;			/* of the output */
	int			width;
	float	   *r;				/* [rows, width] */
	float	   *output;
	float	   *dhidden;
	float	   *h;
	float	   *saved;
	float	   *scratch;
	const DistilPoll *poll;
} Problem;

static inline DistilDevice *
open_device(const char *backend, const char *isa)
{
	char		message[256] = "";
	DistilDevice *device = distil_device_open(backend, isa, message, sizeof(message));

	CHECK_MSG(device != NULL, "%s %s: %s", backend, isa != NULL ? isa : "", message);
	return device;
}

static inline float *
floats(DistilDevice *device, size_t n)
{
	float	   *memory = device->ops->alloc(device, (n + 16) * sizeof(float));

	memset(memory, 0, (n + 16) * sizeof(float));
	return memory;
}

static inline void
problem_create(Problem *p, Synthetic *model, SyntheticBatch *batch, DistilDevice *device, TestPart part,
			   uint64_t seed)
{
	DistilSpec *spec = &model->spec;
	int			t = batch->batch.ntokens;
	size_t		c = (size_t) spec->config.width;
	uint64_t	state = 77;
	size_t		n;
	size_t		i;
	DistilError err;

	memset(p, 0, sizeof(*p));
	p->model = model;
	p->batch = batch;
	p->device = device;
	p->part = part;
	p->seed = seed;
	CHECK(distil_activations_create(&p->activations, spec, t, true, device, distil_alloc_system(),
									&err) == DISTIL_OK);
	p->rows = part == PART_PIPELINE ? batch->batch.nseq : t;
	p->width = part == PART_PIPELINE ? spec->info.dimensions
		: part == PART_LM ? spec->config.vocabulary : (int) c;
	n = (size_t) p->rows * (size_t) p->width;
	p->r = floats(device, n);
	for (i = 0; i < n; i++)
		p->r[i] = synthetic_uniform(&state);
	p->output = floats(device, n);
	p->dhidden = floats(device, (size_t) t * c);
	p->h = floats(device, 2 * (size_t) t * (size_t) distil_widest(&spec->config));
	p->saved = floats(device, part == PART_LM ? distil_lm_saved_floats(spec, t)
					  : distil_pipeline_saved_floats(spec, batch->batch.nseq));
	n = 2 * (size_t) batch->batch.nseq * distil_pipeline_scratch_width(spec);
	c = (size_t) distil_widest(&spec->config);
	p->scratch = floats(device, n > (size_t) t * c ? n : (size_t) t * c);
	batch->batch.pool_gradient = floats(device, (size_t) t * c);
}

static inline void
problem_free(Problem *p)
{
	const DistilKernels *ops = p->device->ops;

	ops->release(p->device, p->r);
	ops->release(p->device, p->output);
	ops->release(p->device, p->dhidden);
	ops->release(p->device, p->h);
	ops->release(p->device, p->saved);
	ops->release(p->device, p->scratch);
	ops->release(p->device, p->batch->batch.pool_gradient);
	p->batch->batch.pool_gradient = NULL;
	distil_activations_free(p->activations);
}

static inline DistilStatus
problem_forward(Problem *p, DistilError *err)
{
	const DistilSpec *spec = &p->model->spec;
	const DistilBatch *batch = &p->batch->batch;
	const float *weights = p->model->weights;
	const float *hidden;

	DISTIL_FORWARD(distil_encoder_forward(spec, weights, batch, p->activations, p->seed, &hidden,
										  p->device, p->poll, err));
	if (p->part == PART_ENCODER)
		memcpy(p->output, hidden, sizeof(float) * (size_t) p->rows * (size_t) p->width);
	else if (p->part == PART_PIPELINE)
		return distil_pipeline_forward(spec, weights, p->output, hidden, batch, p->saved, p->scratch,
									   p->device, p->poll, err);
	else
	{
		DISTIL_FORWARD(distil_lm_transform(spec, weights, p->h, hidden, batch->ntokens, p->saved, p->scratch,
										   p->device, p->poll, err));
		return distil_lm_decode(spec, weights, p->output, p->h, batch->ntokens, p->device, p->poll, err);
	}
	return DISTIL_OK;
}

static inline double
problem_loss(Problem *p)
{
	double		sum = 0;
	int			i;
	DistilError err;

	CHECK(problem_forward(p, &err) == DISTIL_OK);
	for (i = 0; i < p->rows * p->width; i++)
		sum += (double) p->r[i] * p->output[i];
	return sum;
}

/* Gradient of the loss into model->gradients (after forward). */
static inline DistilStatus
problem_backward(Problem *p, DistilError *err)
{
	const DistilSpec *spec = &p->model->spec;
	const DistilBatch *batch = &p->batch->batch;
	const float *weights = p->model->weights;
	float	   *gradients = p->model->gradients;
	int			t = batch->ntokens;
	const float *hidden = spec->final_norm_weight >= 0 ? p->activations->final
		: p->activations->layer[spec->config.layers - 1].output;
	float	   *dh = p->h + (size_t) t * spec->config.width;

	memset(gradients, 0, spec->table.total * sizeof(float));
	if (p->part == PART_ENCODER)
		memcpy(p->dhidden, p->r, sizeof(float) * (size_t) t * spec->config.width);
	else if (p->part == PART_PIPELINE)
	{
		/* what an earlier pass left there is not added to: NaN */
		memset(p->dhidden, 0xff, sizeof(float) * (size_t) t * spec->config.width);
		memset(batch->pool_gradient, 0xff, sizeof(float) * (size_t) t * spec->config.width);
		DISTIL_FORWARD(distil_pipeline_backward(spec, weights, gradients, p->dhidden, p->r, batch, p->saved,
												p->scratch, p->device, p->poll, err));
	}
	else
	{
		DISTIL_FORWARD(distil_lm_decode_backward(spec, weights, gradients, dh, p->r, p->h, t,
												 p->device, p->poll, err));
		DISTIL_FORWARD(distil_lm_transform_backward(spec, weights, gradients, p->dhidden, dh, hidden, t,
													p->saved, p->scratch, p->device, p->poll, err));
	}
	return distil_encoder_backward(spec, weights, gradients, batch, p->activations, p->seed, p->dhidden,
								   p->device, p->poll, err);
}

/*
 * Each parameter: the derivative along a random direction, by central differences and
 * from the gradient.  The reference sums in double but stores float: the loss is good
 * to about 1e-6 of its size and the step is 1e-2, so 1e-4 of noise; the third-order
 * term of the step is of the same size.  Tolerance 1e-3 relative to the norms.
 */
static inline void
check_gradients(Problem *p, const char *what)
{
	DistilParamTable *table = &p->model->spec.table;
	uint64_t	state = 4242;
	DistilError err;
	int			i;

	problem_loss(p);
	CHECK(problem_backward(p, &err) == DISTIL_OK);
	for (i = 0; i < table->n; i++)
	{
		DistilParam *param = &table->params[i];
		float	   *w = p->model->weights + param->offset;
		const float *g = p->model->gradients + param->offset;
		float	   *old = malloc(param->count * sizeof(float));
		float	   *v = malloc(param->count * sizeof(float));
		double		step = 0.01;
		double		along = 0;
		double		norm = 0;
		double		plus;
		double		minus;
		double		numeric;
		size_t		j;

		memcpy(old, w, param->count * sizeof(float));
		for (j = 0; j < param->count; j++)
		{
			v[j] = synthetic_uniform(&state);
			norm += (double) v[j] * v[j];
		}
		step /= sqrt(norm);
		norm = 0;
		for (j = 0; j < param->count; j++)
		{
			along += (double) v[j] * g[j];
			norm += (double) g[j] * g[j];
		}
		for (j = 0; j < param->count; j++)
			w[j] = (float) (old[j] + step * v[j]);
		plus = problem_loss(p);
		for (j = 0; j < param->count; j++)
			w[j] = (float) (old[j] - step * v[j]);
		minus = problem_loss(p);
		memcpy(w, old, param->count * sizeof(float));
		numeric = (plus - minus) / (2 * step);
		CHECK_MSG(fabs(numeric - along) <= 1e-3 * (0.05 + sqrt(norm) + fabs(along)),
				  "%s, parameter %d [%d, %d]: by differences %g, by backward %g, norm %g", what, i,
				  param->rows, param->cols, numeric, along, sqrt(norm));
		free(old);
		free(v);
	}
}

static inline void
small_config(Synthetic *s, bool bert)
{
	DistilConfig *config = &s->spec.config;

	memset(s, 0, sizeof(*s));
	config->layers = 2;
	config->width = 12;
	config->heads = 3;
	config->mlp = 20;
	config->vocabulary = 17;
	config->positions = 16;
	config->types = bert ? 2 : 0;
	config->activation = DISTIL_ACT_GELU;
	config->hidden_dropout = 0.2f;
	config->attention_dropout = 0.25f;
	config->attention_output_dropout = bert;
	s->spec.pipeline.npoolings = 1;
	s->spec.pipeline.pooling[0] = DISTIL_POOL_MEAN;
}

#endif							/* DISTIL_ENCODER_FIXTURE_H */
