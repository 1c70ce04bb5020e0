/*
 * rng.c
 *		xoshiro256**, see rng.h.
 */
#include <math.h>

#include "rng.h"

static uint64_t
splitmix(uint64_t *state)
{
	return distil_mix(*state += UINT64_C(0x9E3779B97F4A7C15));
}

static uint64_t
rotate(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

void
distil_rng_open(DistilRng *rng, int64_t seed, DistilRngPurpose purpose, uint64_t counter)
{
	uint64_t	state = (uint64_t) seed;
	int			i;

	/* Each input passes the mixer before the next joins, so that neighbours differ in all bits. */
	state = splitmix(&state) ^ (uint64_t) purpose;
	state = splitmix(&state) ^ counter;
	for (i = 0; i < 4; i++)
		rng->s[i] = splitmix(&state);
}

uint64_t
distil_rng_next(DistilRng *rng)
{
	uint64_t	result = rotate(rng->s[1] * 5, 7) * 9;
	uint64_t	t = rng->s[1] << 17;

	rng->s[2] ^= rng->s[0];
	rng->s[3] ^= rng->s[1];
	rng->s[1] ^= rng->s[2];
	rng->s[0] ^= rng->s[3];
	rng->s[2] ^= t;
	rng->s[3] = rotate(rng->s[3], 45);
	return result;
}

double
distil_rng_uniform(DistilRng *rng)
{
	return ((double) (distil_rng_next(rng) >> 11) + 1.0) * 0x1.0p-53;
}

uint64_t
distil_rng_below(DistilRng *rng, uint64_t n)
{
	uint64_t	limit = UINT64_MAX - UINT64_MAX % n;
	uint64_t	x;

	do
		x = distil_rng_next(rng);
	while (x >= limit);
	return x % n;
}

double
distil_rng_normal(DistilRng *rng)
{
	double		radius = sqrt(-2.0 * log(distil_rng_uniform(rng)));

	return radius * cos(6.283185307179586 * distil_rng_uniform(rng));
}

uint64_t
distil_rng_value(int64_t seed, DistilRngPurpose purpose, uint64_t counter)
{
	DistilRng	rng;
	uint64_t	value;

	distil_rng_open(&rng, seed, purpose, counter);
	do
		value = distil_rng_next(&rng);
	while (value == 0);
	return value;
}
