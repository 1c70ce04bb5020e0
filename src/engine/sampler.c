/*
 * sampler.c
 *		See sampler.h.
 *
 * The order of epoch e depends on (seed, e) only, so a resumed job finds it again.
 */
#include <string.h>

#include "alloc.h"
#include "rng.h"
#include "sampler.h"
#include "status.h"

#define FIRST_BIN 3
#define BIN_STEP 4

/* Number of bins that are not above the length. */
static int
length_group(uint64_t length, int groups)
{
	uint64_t	group = length < FIRST_BIN ? 0 : (length - FIRST_BIN) / BIN_STEP + 1;

	return group < (uint64_t) groups ? (int) group : groups - 1;
}

DistilStatus
distil_sampler_create(DistilSampler **result, const int32_t *items, int32_t n, const uint64_t *starts,
					  int batch_size, int max_len, int64_t seed,
					  const DistilAllocator *alloc, DistilError *err)
{
	DistilSampler *sampler = distil_alloc_array(alloc, 1, sizeof(DistilSampler));
	size_t		slots;

	*result = NULL;
	if (sampler == NULL)
		return distil_fail_memory(err, sizeof(DistilSampler));
	sampler->alloc = alloc;
	sampler->items = items;
	sampler->n = n;
	sampler->starts = starts;
	sampler->batch_size = batch_size;
	sampler->batches = ((int64_t) n + batch_size - 1) / batch_size;
	sampler->seed = seed;
	sampler->epoch = -1;
	/* The bins below max_len and the group below the first bin. */
	sampler->groups = max_len > 0 ? (max_len > FIRST_BIN ? (max_len - 1 - FIRST_BIN) / BIN_STEP + 2 : 1) : 0;
	sampler->order = distil_alloc_array(alloc, (size_t) n, sizeof(int32_t));
	if (sampler->groups > 0 && distil_size_mul(&slots, (size_t) sampler->groups, (size_t) batch_size))
	{
		sampler->buffers = distil_alloc_array(alloc, slots, sizeof(int32_t));
		sampler->filled = distil_alloc_array(alloc, (size_t) sampler->groups, sizeof(int));
	}
	if (sampler->order == NULL || (sampler->groups > 0 && (sampler->buffers == NULL ||
														   sampler->filled == NULL)))
	{
		distil_sampler_free(sampler);
		return distil_fail_memory(err, (size_t) n * sizeof(int32_t));
	}
	*result = sampler;
	return DISTIL_OK;
}

/* In place: what has been emitted never overtakes what has been read. */
static void
group_order(DistilSampler *sampler)
{
	int32_t    *order = sampler->order;
	size_t		size = (size_t) sampler->batch_size;
	int32_t		out = 0;
	int32_t		i;
	int			g;

	memset(sampler->filled, 0, (size_t) sampler->groups * sizeof(int));
	for (i = 0; i < sampler->n; i++)
	{
		int32_t		item = order[i];

		g = length_group(sampler->starts[item + 1] - sampler->starts[item], sampler->groups);
		sampler->buffers[(size_t) g * size + (size_t) sampler->filled[g]++] = item;
		if (sampler->filled[g] == sampler->batch_size)
		{
			memcpy(order + out, sampler->buffers + (size_t) g * size, size * sizeof(int32_t));
			out += sampler->batch_size;
			sampler->filled[g] = 0;
		}
	}
	for (g = 0; g < sampler->groups; g++)
	{
		memcpy(order + out, sampler->buffers + (size_t) g * size,
			   (size_t) sampler->filled[g] * sizeof(int32_t));
		out += sampler->filled[g];
	}
}

static void
order_epoch(DistilSampler *sampler, int64_t epoch)
{
	DistilRng	rng;
	int32_t		i;

	distil_rng_open(&rng, sampler->seed, DISTIL_RNG_ORDER, (uint64_t) epoch);
	memcpy(sampler->order, sampler->items, (size_t) sampler->n * sizeof(int32_t));
	for (i = sampler->n - 1; i > 0; i--)
	{
		int32_t		j = (int32_t) distil_rng_below(&rng, (uint64_t) i + 1);
		int32_t		swap = sampler->order[i];

		sampler->order[i] = sampler->order[j];
		sampler->order[j] = swap;
	}
	if (sampler->groups > 0)
		group_order(sampler);
	sampler->epoch = epoch;
}

void
distil_sampler_batch(DistilSampler *sampler, int64_t batch, const int32_t **sequences, int *n)
{
	int64_t		epoch = batch / sampler->batches;
	int64_t		first = batch % sampler->batches * sampler->batch_size;

	if (sampler->epoch != epoch)
		order_epoch(sampler, epoch);
	*sequences = sampler->order + first;
	*n = sampler->n - first < sampler->batch_size ? (int) (sampler->n - first) : sampler->batch_size;
}

void
distil_sampler_free(DistilSampler *sampler)
{
	if (sampler == NULL)
		return;
	distil_release(sampler->alloc, sampler->order);
	distil_release(sampler->alloc, sampler->buffers);
	distil_release(sampler->alloc, sampler->filled);
	distil_release(sampler->alloc, sampler);
}
