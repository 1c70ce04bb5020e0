/*
 * encoder.c
 *		The post-norm encoder that BERT and DistilBERT share: forward and backward.
 *
 * The configuration alone tells the two apart: no segment table and no dropout after
 * the attention's output projection in DistilBERT.  Sequences are ragged: rows of all
 * sequences are concatenated, nothing is padded, so no attention mask exists.
 * The rule a newcomer would break: backward must be given the batch, the seed and the
 * activations of its forward pass, unchanged; dropout masks are computed again from
 * the seed, not stored.
 * Devlin et al. 2019 (arXiv:1810.04805), Sanh et al. 2019 (arXiv:1910.01108).
 */
#include "layers.h"

static uint64_t
mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

DistilDropout
distil_pass_dropout(const DistilPass *pass, float p, int layer, DistilDropoutPlace place)
{
	DistilDropout dropout = {0};
	uint64_t	stream = (uint64_t) (layer + 1) * DISTIL_DROP_PLACES + (uint64_t) place + 1;

	if (pass->seed != 0)
	{
		dropout.p = p;
		dropout.seed = mix(pass->seed + stream * UINT64_C(0x9E3779B97F4A7C15));
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
			DistilError *err)
{
	if (batch->ntokens < 1 || batch->nseq < 1 || batch->ntokens > activations->max_tokens)
		return distil_fail(err, DISTIL_ERR_LIMIT,
						   "a batch of %d tokens does not fit activations of %d tokens",
						   batch->ntokens, activations->max_tokens);
	if (spec->type >= 0 && batch->types == NULL)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "the model needs segment ids");
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
	DistilPass	pass = {spec, weights, NULL, batch, activations, dropout_seed, device, poll};
	float	   *x = activations->hidden;
	int			i;

	DISTIL_FORWARD(check_batch(spec, batch, activations, err));
	DISTIL_FORWARD(distil_embedding_layer_forward(&pass, err));
	for (i = 0; i < spec->config.layers; i++)
	{
		DISTIL_FORWARD(distil_attention_layer_forward(&pass, i, x, err));
		DISTIL_FORWARD(distil_mlp_layer_forward(&pass, i, x, err));
		if (activations->saved)
			x = activations->layer[i].output;
	}
	*hidden = x;
	return DISTIL_OK;
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
	DistilPass	pass = {spec, weights, gradients, batch, activations, dropout_seed, device, poll};
	int			i;

	DISTIL_FORWARD(check_batch(spec, batch, activations, err));
	if (!activations->saved)
		return distil_fail(err, DISTIL_ERR_STATE, "the activations of this pass were not saved");
	for (i = spec->config.layers - 1; i >= 0; i--)
	{
		const float *x = i == 0 ? activations->hidden : activations->layer[i - 1].output;

		DISTIL_FORWARD(distil_mlp_layer_backward(&pass, i, dhidden, err));
		DISTIL_FORWARD(distil_attention_layer_backward(&pass, i, dhidden, x, err));
	}
	return distil_embedding_layer_backward(&pass, dhidden, err);
}
