/*
 * pipeline.c
 *		From token vectors to a sentence embedding: pool, dense layers, normalise; and backward.
 *
 * As the modules Pooling, Dense and Normalize of sentence-transformers.  Several
 * poolings are put side by side.  When the prompt is left out of pooling, positions
 * keep their weights: the first token after a prompt of s tokens weighs s + 1 in the
 * weighted mean.
 * scratch: two stages [nseq, W], one pooled vector [nseq, C], integers [nseq, C].
 * saved: argmax [nseq, C] of each max pooling; per dense layer its input, and its
 * output before the activation; the normalised embedding and its norms.
 */
#include "layers.h"

typedef struct PipelinePass
{
	const DistilSpec *spec;
	const DistilBatch *batch;
	float	   *stage[2];		/* [nseq, W] in turn input and output of a stage */
	float	   *pooled;			/* [nseq, C] */
	int32_t    *rows;			/* [nseq, C] argmax of inference, or row numbers [nseq] */
	DistilDevice *device;
	const DistilPoll *poll;
} PipelinePass;

/* Widest stage. */
static size_t
stage_width(const DistilSpec *spec)
{
	const DistilPipeline *pipeline = &spec->pipeline;
	size_t		width = (size_t) spec->config.width * (size_t) pipeline->npoolings;
	int			i;

	for (i = 0; i < pipeline->ndense; i++)
		if ((size_t) pipeline->dense[i].out > width)
			width = (size_t) pipeline->dense[i].out;
	return width;
}

static int
output_width(const DistilSpec *spec)
{
	const DistilPipeline *pipeline = &spec->pipeline;

	return pipeline->ndense > 0 ? pipeline->dense[pipeline->ndense - 1].out
		: spec->config.width * pipeline->npoolings;
}

/* Width of one of the two scratch rows per sequence. */
size_t
distil_pipeline_scratch_width(const DistilSpec *spec)
{
	return stage_width(spec) + (size_t) spec->config.width;
}

size_t
distil_pipeline_saved_floats(const DistilSpec *spec, int nseq)
{
	const DistilPipeline *pipeline = &spec->pipeline;
	size_t		row = (size_t) output_width(spec) + 1;
	int			i;

	for (i = 0; i < pipeline->npoolings; i++)
		if (pipeline->pooling[i] == DISTIL_POOL_MAX)
			row += (size_t) spec->config.width;
	for (i = 0; i < pipeline->ndense; i++)
		row += (size_t) pipeline->dense[i].in + (size_t) pipeline->dense[i].out;
	return row * (size_t) nseq;
}

static PipelinePass
make_pass(const DistilSpec *spec, const DistilBatch *batch, float *scratch,
		  DistilDevice *device, const DistilPoll *poll)
{
	size_t		nseq = (size_t) batch->nseq;
	PipelinePass pass = {0};

	pass.spec = spec;
	pass.batch = batch;
	pass.stage[0] = scratch;
	pass.stage[1] = pass.stage[0] + nseq * stage_width(spec);
	pass.pooled = pass.stage[1] + nseq * stage_width(spec);
	pass.rows = (int32_t *) (pass.pooled + nseq * (size_t) spec->config.width);
	pass.device = device;
	pass.poll = poll;
	return pass;
}

static void
copy_floats(DistilDevice *device, float *y, const float *x, size_t n)
{
	device->ops->zero(device, y, n);
	device->ops->axpy(device, y, x, 1.0f, n);
}

/* rows[i] = i * npoolings + index: rows of one pooling in [nseq, npoolings * C] seen as [.., C] */
static void
set_concat_rows(const PipelinePass *pass, int index)
{
	int32_t		part[64];
	int			nseq = pass->batch->nseq;
	int			i;
	int			j;

	for (i = 0; i < nseq; i += 64)
	{
		int			count = nseq - i < 64 ? nseq - i : 64;

		for (j = 0; j < count; j++)
			part[j] = (int32_t) ((i + j) * pass->spec->pipeline.npoolings + index);
		pass->device->ops->copy_in(pass->device, pass->rows + i, part, sizeof(int32_t) * (size_t) count);
	}
}

/* Sequences from `first` on that make one unit of pooling. */
static int
unit_sequences(const PipelinePass *pass, int first)
{
	const int32_t *host = pass->batch->host_offsets;
	int32_t		most = (int32_t) (DISTIL_UNIT_ELEMENTS(pass->device) / (size_t) pass->spec->config.width);
	int			count = 1;

	while (first + count < pass->batch->nseq && host[first + count + 1] - host[first] <= most)
		count++;
	return count;
}

/* Sequence b without its first pool_skip rows: y [C]. */
static void
pool_without_prompt(const PipelinePass *pass, DistilPooling pooling, float *y, int32_t *argmax,
					const float *hidden, int b)
{
	const DistilKernels *ops = pass->device->ops;
	const int32_t *range = pass->batch->pool_ranges + 2 * (size_t) b;
	int			c = pass->spec->config.width;

	if (pooling == DISTIL_POOL_WEIGHTED_MEAN)
	{
		/* weights s+1 .. s+n: a mixture of the plain mean (s n) and the mean weighted 1 .. n */
		const int32_t *host = pass->batch->host_offsets;
		double		n = host[b + 1] - host[b] - pass->batch->pool_skip;
		double		plain = pass->batch->pool_skip * n;
		double		weighted = n * (n + 1) / 2;
		float	   *part = pass->stage[1];	/* not in use before the dense layers */

		ops->zero(pass->device, y, (size_t) c);
		ops->pool_forward(pass->device, DISTIL_POOL_MEAN, part, NULL, hidden, range, 1, c);
		ops->axpy(pass->device, y, part, (float) (plain / (plain + weighted)), (size_t) c);
		ops->pool_forward(pass->device, pooling, part, NULL, hidden, range, 1, c);
		ops->axpy(pass->device, y, part, (float) (weighted / (plain + weighted)), (size_t) c);
	}
	else
		ops->pool_forward(pass->device, pooling, y, argmax, hidden, range, 1, c);
}

/* One pooling of all sequences: y [nseq, C]; argmax [nseq, C] of a max pooling. */
static DistilStatus
pool(const PipelinePass *pass, DistilPooling pooling, float *y, int32_t *argmax, const float *hidden,
	 DistilError *err)
{
	size_t		c = (size_t) pass->spec->config.width;
	int			i;
	int			count;

	for (i = 0; i < pass->batch->nseq; i += count)
	{
		int32_t    *rows = argmax != NULL ? argmax + i * c : NULL;

		DISTIL_POLL(pass->poll, err);
		count = pass->batch->pool_skip > 0 ? 1 : unit_sequences(pass, i);
		if (pass->batch->pool_skip > 0)
			pool_without_prompt(pass, pooling, y + i * c, rows, hidden, i);
		else
			pass->device->ops->pool_forward(pass->device, pooling, y + i * c, rows, hidden,
											pass->batch->offsets + i, count, (int) c);
	}
	return DISTIL_OK;
}

/* All poolings, into stage[0] [nseq, npoolings * C]; *saved moves behind the argmaxes. */
static DistilStatus
pool_all(const PipelinePass *pass, const float *hidden, float **saved, DistilError *err)
{
	const DistilPipeline *pipeline = &pass->spec->pipeline;
	size_t		nc = (size_t) pass->batch->nseq * (size_t) pass->spec->config.width;
	int			i;

	if (pipeline->npoolings > 1)
		pass->device->ops->zero(pass->device, pass->stage[0], nc * (size_t) pipeline->npoolings);
	for (i = 0; i < pipeline->npoolings; i++)
	{
		float	   *y = pipeline->npoolings > 1 ? pass->pooled : pass->stage[0];
		int32_t    *argmax = NULL;

		if (pipeline->pooling[i] == DISTIL_POOL_MAX)
		{
			argmax = pass->rows;
			if (*saved != NULL)
			{
				argmax = (int32_t *) *saved;
				*saved += nc;
			}
		}
		DISTIL_FORWARD(pool(pass, pipeline->pooling[i], y, argmax, hidden, err));
		if (pipeline->npoolings > 1)
		{
			set_concat_rows(pass, i);
			pass->device->ops->scatter_add_rows(pass->device, pass->stage[0], y, pass->rows,
												pass->batch->nseq, pass->spec->config.width);
		}
	}
	return DISTIL_OK;
}

/*
 * out [nseq, D'] from hidden [T, C].  saved (distil_pipeline_saved_floats) is kept for
 * backward, or NULL; scratch [2, nseq, distil_pipeline_scratch_width].
 */
DistilStatus
distil_pipeline_forward(const DistilSpec *spec, const float *weights, float *out, const float *hidden,
						const DistilBatch *batch, float *saved, float *scratch,
						DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	const DistilPipeline *pipeline = &spec->pipeline;
	PipelinePass pass = make_pass(spec, batch, scratch, device, poll);
	size_t		nseq = (size_t) batch->nseq;
	float	   *x = pass.stage[0];
	int			width = output_width(spec);
	int			i;

	DISTIL_FORWARD(pool_all(&pass, hidden, &saved, err));
	for (i = 0; i < pipeline->ndense; i++)
	{
		const DistilDenseModule *dense = &pipeline->dense[i];
		float	   *y = pass.stage[(i + 1) % 2];

		DISTIL_FORWARD(distil_param_forward(y, (size_t) dense->out, x, (size_t) dense->in, spec, weights,
											dense->weight, dense->bias, DISTIL_ACT_NONE, batch->nseq,
											device, poll, err));
		if (saved != NULL)
		{
			copy_floats(device, saved, x, nseq * dense->in);
			copy_floats(device, saved + nseq * dense->in, y, nseq * dense->out);
			saved += nseq * ((size_t) dense->in + (size_t) dense->out);
		}
		if (dense->activation != DISTIL_ACT_NONE)
			DISTIL_FORWARD(distil_activation_rows(dense->activation, y, y, nseq * dense->out, device, poll,
												  err));
		x = y;
	}
	if (!pipeline->normalize)
	{
		copy_floats(device, out, x, nseq * width);
		return DISTIL_OK;
	}
	DISTIL_POLL(poll, err);
	device->ops->normalize_forward(device, out, saved != NULL ? saved + nseq * width : NULL, x, batch->nseq,
								   width);
	if (saved != NULL)
		copy_floats(device, saved, out, nseq * width);
	return DISTIL_OK;
}

/* Gradient of one pooling: dx [T, C] overwritten. */
static DistilStatus
pool_backward(const PipelinePass *pass, DistilPooling pooling, float *dx, const float *dy,
			  const int32_t *argmax, DistilError *err)
{
	const DistilKernels *ops = pass->device->ops;
	const DistilBatch *batch = pass->batch;
	size_t		c = (size_t) pass->spec->config.width;
	bool		skip = batch->pool_skip > 0;
	int			i;
	int			count;

	if (skip && pooling == DISTIL_POOL_WEIGHTED_MEAN)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "training with pooling \"weightedmean\" without the prompt is not supported");
	if (skip)
		ops->zero(pass->device, dx, (size_t) batch->ntokens * c);
	for (i = 0; i < batch->nseq; i += count)
	{
		DISTIL_POLL(pass->poll, err);
		count = skip ? 1 : unit_sequences(pass, i);
		ops->pool_backward(pass->device, pooling, dx, dy + i * c, argmax != NULL ? argmax + i * c : NULL,
						   skip ? batch->pool_ranges + 2 * (size_t) i : batch->offsets + i, count, (int) c);
	}
	return DISTIL_OK;
}

/* dhidden [T, C] from the gradient d [nseq, npoolings * C] of the pooled vectors. */
static DistilStatus
pool_all_backward(const PipelinePass *pass, float *dhidden, const float *d, const int32_t *argmax,
				  DistilError *err)
{
	const DistilPipeline *pipeline = &pass->spec->pipeline;
	const DistilBatch *batch = pass->batch;
	size_t		c = (size_t) pass->spec->config.width;
	int			i;

	if (pipeline->npoolings > 1 && batch->pool_gradient == NULL)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "training with several poolings is not supported");
	for (i = 0; i < pipeline->npoolings; i++)
	{
		const float *dy = d;
		float	   *dx = i == 0 ? dhidden : batch->pool_gradient;

		if (pipeline->npoolings > 1)
		{
			set_concat_rows(pass, i);
			pass->device->ops->gather_rows(pass->device, pass->pooled, d, pass->rows, batch->nseq, (int) c);
			dy = pass->pooled;
		}
		DISTIL_FORWARD(pool_backward(pass, pipeline->pooling[i], dx, dy,
									 pipeline->pooling[i] == DISTIL_POOL_MAX ? argmax : NULL, err));
		if (pipeline->pooling[i] == DISTIL_POOL_MAX)
			argmax += (size_t) batch->nseq * c;
		if (i > 0)
			pass->device->ops->axpy(pass->device, dhidden, dx, 1.0f, (size_t) batch->ntokens * c);
	}
	return DISTIL_OK;
}

/* dhidden [T, C] overwritten, from dout [nseq, D']; gradients of the dense layers +=. */
DistilStatus
distil_pipeline_backward(const DistilSpec *spec, const float *weights, float *gradients, float *dhidden,
						 const float *dout, const DistilBatch *batch, const float *saved, float *scratch,
						 DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	const DistilPipeline *pipeline = &spec->pipeline;
	PipelinePass pass = make_pass(spec, batch, scratch, device, poll);
	DistilPass	owner = {spec, weights, gradients, batch, NULL, 0, NULL, device, poll};
	size_t		nseq = (size_t) batch->nseq;
	int			width = output_width(spec);
	const float *at = saved + distil_pipeline_saved_floats(spec, batch->nseq) - nseq * ((size_t) width + 1);
	float	   *d = pass.stage[0];
	int			turn = 0;
	int			i;

	DISTIL_POLL(poll, err);
	if (pipeline->normalize)
		device->ops->normalize_backward(device, d, dout, at, at + nseq * width, batch->nseq, width);
	else
		copy_floats(device, d, dout, nseq * width);
	for (i = pipeline->ndense - 1; i >= 0; i--)
	{
		const DistilDenseModule *dense = &pipeline->dense[i];
		const float *in;
		const float *before;

		at -= nseq * ((size_t) dense->in + (size_t) dense->out);
		in = at;
		before = at + nseq * dense->in;
		if (dense->activation != DISTIL_ACT_NONE)
			DISTIL_FORWARD(distil_activation_backward_rows(dense->activation, d, d, before, nseq * dense->out,
														   device, poll, err));
		turn = 1 - turn;
		DISTIL_FORWARD(distil_linear_backward(pass.stage[turn], (size_t) dense->in, false,
											  distil_pass_gradient(&owner, dense->weight),
											  distil_pass_gradient(&owner, dense->bias),
											  d, (size_t) dense->out, in, (size_t) dense->in,
											  distil_weight(spec, weights, dense->weight),
											  batch->nseq, dense->out, dense->in, device, poll, err));
		d = pass.stage[turn];
	}
	return pool_all_backward(&pass, dhidden, d, (const int32_t *) saved, err);
}
