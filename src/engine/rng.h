/*
 * rng.h
 *		Seeded random numbers: the only source of randomness in the engine.
 *
 * A generator is opened for (seed, purpose, counter) and used for one thing: one
 * epoch's order, one micro-batch's mask.  Nothing has to be saved in a checkpoint
 * but the counters.  The rule a newcomer would break: never keep a generator over
 * two optimiser updates, derive a fresh one, or resuming changes the result.
 * Generator: xoshiro256** of Blackman and Vigna, state filled by splitmix64.
 */
#ifndef DISTIL_RNG_H
#define DISTIL_RNG_H

#include <stdint.h>

typedef enum DistilRngPurpose
{
	DISTIL_RNG_ORDER = 1,		/* counter: epoch */
	DISTIL_RNG_MASK,			/* counter: micro-batch since the start */
	DISTIL_RNG_EVAL_MASK,		/* counter: batch of the held-out part */
	DISTIL_RNG_DROPOUT,			/* counter: piece of work since the start */
	DISTIL_RNG_INIT,			/* counter: parameter */
	DISTIL_RNG_HOLDOUT,			/* counter: sequence */
	DISTIL_RNG_GENERATE			/* counter: 0 */
} DistilRngPurpose;

/* The finaliser of splitmix64: every bit of z counts in each of the result's. */
static inline uint64_t
distil_mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

typedef struct DistilRng
{
	uint64_t	s[4];
} DistilRng;

extern void distil_rng_open(DistilRng *rng, int64_t seed, DistilRngPurpose purpose, uint64_t counter);
extern uint64_t distil_rng_next(DistilRng *rng);
/* Uniform in (0, 1]: its logarithm is finite. */
extern double distil_rng_uniform(DistilRng *rng);
/* Uniform integer in [0, n), without bias; n > 0 */
extern uint64_t distil_rng_below(DistilRng *rng, uint64_t n);
/* Standard normal (Box-Muller, one value per call). */
extern double distil_rng_normal(DistilRng *rng);
/* One 64-bit value for (seed, purpose, counter); never 0. */
extern uint64_t distil_rng_value(int64_t seed, DistilRngPurpose purpose, uint64_t counter);

#endif							/* DISTIL_RNG_H */
