/*
 * encoder.c
 *		Embeddings, layers, final norm: forward and backward of every architecture.
 *
 * The architecture's family does the arithmetic of a layer; the spec says whether there
 * are segments, norms of the embeddings and after the last layer, position biases.
 * Sequences are ragged: rows of all sequences are concatenated, nothing is padded, so no
 * attention mask exists.
 * The rule a newcomer would break: backward must be given the batch, the seed and the
 * activations of its forward pass, unchanged; dropout masks are computed again from
 * the seed, not stored.
 */
#include "layers.h"
#include "rng.h"

DistilDropout
distil_pass_dropout(const DistilPass *pass, float p, int layer, DistilDropoutPlace place)
{
	DistilDropout dropout = {0};
	uint64_t	stream = (uint64_t) (layer + 1) * DISTIL_DROP_PLACES + (uint64_t) place + 1;

	if (pass->seed != 0)
	{
		dropout.p = p;
		dropout.seed = distil_mix(pass->seed + stream * UINT64_C(0x9E3779B97F4A7C15));
	}
	return dropout;
}

float *
distil_pass_gradient(const DistilPass *pass, int param)
{
	const DistilParamTable *table = &pass->spec->table;

	if (param < 0 || (table->params[param].flags & DISTIL_PARAM_FROZEN) != 0)
		return NULL;
	return pass->gradients + table->params[param].offset;
}

static DistilStatus
check_batch(const DistilSpec *spec, const DistilBatch *batch, const DistilActivations *activations,
			const DistilDevice *device, DistilError *err)
{
	if (batch->ntokens < 1 || batch->nseq < 1 || batch->ntokens > activations->max_tokens)
		return distil_fail(err, DISTIL_ERR_LIMIT,
						   "a batch of %d tokens does not fit activations of %d tokens",
						   batch->ntokens, activations->max_tokens);
	if (spec->type >= 0 && batch->types == NULL)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "the model needs segment ids");
	if (batch->kinds != NULL && !distil_takes_kinds(spec, device))
		return distil_fail(err, DISTIL_ERR_STATE,
						   "kinds of tokens are for models of low precision whose norms come last");
	return DISTIL_OK;
}

/* The norm after the last layer, where there is one: *hidden becomes its output. */
static DistilStatus
final_norm_forward(const DistilPass *pass, float **hidden, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	DistilActivations *a = pass->activations;
	float	   *x = *hidden;

	if (spec->final_norm_weight < 0)
		return DISTIL_OK;
	if (a->saved)
		*hidden = a->final;
	return distil_norm_rows(*hidden, a->saved ? x : NULL, a->final_mean, a->final_rstd, x, NULL,
							distil_weight(spec, pass->weights, spec->final_norm_weight),
							distil_weight(spec, pass->weights, spec->final_norm_bias), spec->config.norm_eps,
							pass->batch->ntokens, spec->config.width, pass->device, pass->poll, err);
}

static DistilStatus
run_forward(const DistilPass *pass, const float **hidden, DistilError *err)
{
	const DistilSpec *spec = pass->spec;
	DistilActivations *a = pass->activations;
	float	   *x = a->hidden;
	bool		low = spec->low != DISTIL_TYPE_F32;
	int			i;

	if (low && (a->saved || pass->device->ops->has_type == NULL ||
				!pass->device->ops->has_type(pass->device, spec->low)))
		return distil_fail(err, DISTIL_ERR_STATE,
						   "weights of low precision are for inference on devices that have it");
	DISTIL_FORWARD(check_batch(spec, pass->batch, a, pass->device, err));
	DISTIL_FORWARD(distil_relative_forward(pass, err));
	DISTIL_FORWARD(distil_embedding_layer_forward(pass, err));
	*hidden = x;
	if (a->half != NULL)
		return distil_layers_forward_half(pass, x, err);
	for (i = 0; i < spec->config.layers; i++)
	{
		DISTIL_FORWARD(low ? spec->config.arch->family->forward_low(pass, i, x, err)
					   : spec->config.arch->family->forward(pass, i, x, err));
		if (a->saved)
			x = a->layer[i].output;
	}
	DISTIL_FORWARD(final_norm_forward(pass, &x, err));
	*hidden = x;
	return DISTIL_OK;
}

/*
 * Last hidden state of a batch: *hidden [T, C], borrowed from the activations until
 * the next pass.  dropout_seed 0 = evaluation.
 */
DistilStatus
distil_encoder_forward(const DistilSpec *spec, const float *weights, const DistilBatch *batch,
					   DistilActivations *activations, uint64_t dropout_seed, const float **hidden,
					   DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	DistilPass	pass = {spec, weights, NULL, batch, activations, dropout_seed, NULL, device, poll};

	return run_forward(&pass, hidden, err);
}

DistilStatus
distil_encoder_forward_cached(const DistilSpec *spec, const float *weights, const DistilBatch *batch,
							  DistilActivations *activations, const DistilKeyCache *cache,
							  const float **hidden, DistilDevice *device, const DistilPoll *poll,
							  DistilError *err)
{
	DistilPass	pass = {spec, weights, NULL, batch, activations, 0, cache, device, poll};

	if (!spec->config.causal || activations->saved)
		return distil_fail(err, DISTIL_ERR_STATE, "only causal models can go on from earlier tokens");
	if (activations->half != NULL)
		return distil_fail(err, DISTIL_ERR_STATE, "activations in bfloat16 cannot go on from earlier tokens");
	if (batch->nseq != 1 || cache->past + batch->ntokens > cache->limit)
		return distil_fail(err, DISTIL_ERR_LIMIT, "the tokens do not fit the memory of earlier ones");
	return run_forward(&pass, hidden, err);
}

/*
 * Gradients of all parameters of the encoder from dhidden [T, C], the gradient of the
 * last hidden state, which is destroyed.  gradients is a flat block as the weights,
 * accumulated.  Of the frozen parameters only tables and linear layers may be frozen.
 */
DistilStatus
distil_encoder_backward(const DistilSpec *spec, const float *weights, float *gradients,
						const DistilBatch *batch, DistilActivations *activations,
						uint64_t dropout_seed, float *dhidden,
						DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	DistilPass	pass = {spec, weights, gradients, batch, activations, dropout_seed, NULL, device, poll};
	DistilActivations *a = activations;
	int			n = spec->config.layers;
	int			i;

	DISTIL_FORWARD(check_batch(spec, batch, activations, device, err));
	if (!activations->saved)
		return distil_fail(err, DISTIL_ERR_STATE, "the activations of this pass were not saved");
	if (spec->final_norm_weight >= 0 && a->half == NULL)
	{
		size_t		count = (size_t) batch->ntokens * (size_t) spec->config.width;

		DISTIL_FORWARD(distil_norm_backward_rows(a->da, distil_pass_gradient(&pass, spec->final_norm_weight),
												 distil_pass_gradient(&pass, spec->final_norm_bias), dhidden,
												 n > 0 ? a->layer[n - 1].output : a->hidden,
												 a->final_mean, a->final_rstd,
												 distil_weight(spec, weights, spec->final_norm_weight),
												 batch->ntokens, spec->config.width, device, poll, err));
		device->ops->zero(device, dhidden, count);
		DISTIL_FORWARD(distil_add_rows(dhidden, a->da, count, device, poll, err));
	}
	if (a->half != NULL)
		DISTIL_FORWARD(distil_layers_backward_half(&pass, dhidden, err));
	for (i = n - 1; i >= 0 && a->half == NULL; i--)
		DISTIL_FORWARD(spec->config.arch->family->backward(&pass, i, dhidden,
														   i == 0 ? a->hidden : a->layer[i - 1].output, err));
	DISTIL_FORWARD(distil_relative_backward(&pass, err));
	return distil_embedding_layer_backward(&pass, dhidden, err);
}

/*
 * RoBERTa numbers its tokens from padding_idx + 1; a padding token within a text gets padding_idx
 * itself and is not counted.  The others count all tokens from 0.
 */
void
distil_positions(int32_t *positions, const int32_t *ids, int n, const DistilConfig *config)
{
	int32_t		next = config->position_offset;
	int			i;

	for (i = 0; i < n; i++)
		if (config->position_offset > 0 && ids[i] == config->position_offset - 1)
			positions[i] = ids[i];
		else
			positions[i] = next++;
}
