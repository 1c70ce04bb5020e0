/*
 * layer_relative.c
 *		Biases of attention scores by the distance of query and key, one table for all layers.
 *
 * Near distances have a bucket each, far ones share logarithmic ones, to both sides
 * (Raffel et al. 2020, arXiv:1910.10683, section 2.1).  The table's rows are laid out
 * by distance once per pass, so that attention only adds.
 */
#include <math.h>

#include "layers.h"

#define MAX_DISTANCE 128		/* farther ones share the last bucket of their side */

/* The bucket of key - query.  In float, as the library whose models these are: borders then agree. */
static int
bucket_of(int distance, int buckets)
{
	int			side = buckets / 2;
	int			exact = side / 2;
	int			first = distance > 0 ? side : 0;
	int			n = distance > 0 ? distance : -distance;
	int			far;

	if (n < exact)
		return first + n;
	far = exact + (int) (logf((float) n / (float) exact) / (float) log((double) MAX_DISTANCE / exact) *
						 (float) (side - exact));
	return first + (far < side - 1 ? far : side - 1);
}

DistilStatus
distil_relative_create(DistilActivations *activations, const DistilConfig *config, DistilError *err)
{
	int			n = 2 * activations->relative_limit - 1;
	int32_t    *rows;
	int			i;

	if (config->relative_buckets == 0)
		return DISTIL_OK;
	rows = distil_alloc_array(activations->alloc, (size_t) n, sizeof(int32_t));
	if (rows == NULL)
		return distil_fail_memory(err, (size_t) n * sizeof(int32_t));
	for (i = 0; i < n; i++)
		rows[i] = bucket_of(i - activations->relative_limit + 1, config->relative_buckets);
	activations->device->ops->copy_in(activations->device, activations->relative_rows, rows,
									  (size_t) n * sizeof(int32_t));
	distil_release(activations->alloc, rows);
	return DISTIL_OK;
}

DistilStatus
distil_relative_forward(const DistilPass *pass, DistilError *err)
{
	DistilActivations *a = pass->activations;
	int			n = 2 * a->relative_limit - 1;
	int			heads = pass->spec->config.heads;

	if (pass->spec->config.relative_buckets == 0)
		return DISTIL_OK;
	for (int i = 0; i < pass->batch->nseq; i++)
		if (pass->batch->host_offsets[i + 1] - pass->batch->host_offsets[i] > a->relative_limit)
			return distil_fail(err, DISTIL_ERR_LIMIT, "a sequence is longer than %d tokens",
							   a->relative_limit);
	DISTIL_POLL(pass->poll, err);
	pass->device->ops->gather_rows(pass->device, a->relative,
								   distil_weight(pass->spec, pass->weights, pass->spec->relative),
								   a->relative_rows, n, heads);
	if (a->saved)
		pass->device->ops->zero(pass->device, a->drelative, (size_t) n * (size_t) heads);
	return DISTIL_OK;
}

DistilStatus
distil_relative_backward(const DistilPass *pass, DistilError *err)
{
	DistilActivations *a = pass->activations;
	float	   *gradient;

	if (pass->spec->config.relative_buckets == 0)
		return DISTIL_OK;
	gradient = distil_pass_gradient(pass, pass->spec->relative);
	if (gradient == NULL)
		return DISTIL_OK;
	DISTIL_POLL(pass->poll, err);
	pass->device->ops->scatter_add_rows(pass->device, gradient, a->drelative, a->relative_rows,
										2 * a->relative_limit - 1, pass->spec->config.heads);
	return DISTIL_OK;
}
