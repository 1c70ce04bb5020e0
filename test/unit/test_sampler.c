/*
 * test_sampler.c
 *		Epoch order and length grouping; the generator behind them.
 */
#include "alloc.h"
#include "check.h"
#include "rng.h"
#include "sampler.h"

#define N 1003
#define BATCH 8

static uint64_t starts[N + 1];
static int32_t items[N];

static void
make_lengths(void)
{
	DistilRng	rng;
	int			i;

	distil_rng_open(&rng, 1, DISTIL_RNG_INIT, 0);
	for (i = 0; i < N; i++)
	{
		items[i] = i;
		starts[i + 1] = starts[i] + 12 + distil_rng_below(&rng, 90);
	}
}

static int
bin_of(int item)
{
	int			length = (int) (starts[item + 1] - starts[item]);
	int			bin;
	int			groups = 0;

	for (bin = 3; bin < 128; bin += 4)
		groups += bin <= length;
	return groups;
}

/* Every sequence once per epoch; full batches of one bin; left-overs by ascending bin. */
static void
check_epoch(DistilSampler *sampler, int64_t epoch, int32_t *order)
{
	static int	seen[N];
	int64_t		b;
	int			total = 0;
	int			last_bin = -1;
	bool		leftover = false;

	memset(seen, 0, sizeof(seen));
	for (b = 0; b < sampler->batches; b++)
	{
		const int32_t *batch;
		int			n;
		int			i;
		bool		one_bin = true;

		distil_sampler_batch(sampler, epoch * sampler->batches + b, &batch, &n);
		CHECK(n == (b + 1 < sampler->batches ? BATCH : N - BATCH * (int) b));
		for (i = 0; i < n; i++)
		{
			seen[batch[i]]++;
			order[total++] = batch[i];
			one_bin = one_bin && bin_of(batch[i]) == bin_of(batch[0]);
		}
		leftover = leftover || !one_bin;
		for (i = 0; leftover && i < n; i++)
		{
			CHECK(bin_of(batch[i]) >= last_bin);
			last_bin = bin_of(batch[i]);
		}
	}
	CHECK(total == N);
	for (b = 0; b < N; b++)
		CHECK(seen[b] == 1);
}

static void
test_grouping(void)
{
	static int32_t first[N];
	static int32_t second[N];
	static int32_t again[N];
	DistilSampler *sampler;
	DistilSampler *other;
	DistilError err;

	CHECK(distil_sampler_create(&sampler, items, N, starts, BATCH, 128, 56, distil_alloc_system(),
								&err) == DISTIL_OK);
	CHECK(sampler->batches == (N + BATCH - 1) / BATCH);
	check_epoch(sampler, 0, first);
	check_epoch(sampler, 1, second);
	CHECK(memcmp(first, second, sizeof(first)) != 0);
	check_epoch(sampler, 0, again);
	CHECK(memcmp(first, again, sizeof(first)) == 0);
	CHECK(distil_sampler_create(&other, items, N, starts, BATCH, 128, 57, distil_alloc_system(),
								&err) == DISTIL_OK);
	check_epoch(other, 0, again);
	CHECK(memcmp(first, again, sizeof(first)) != 0);
	distil_sampler_free(other);
	distil_sampler_free(sampler);
}

static void
test_plain(void)
{
	DistilSampler *sampler;
	DistilError err;
	const int32_t *batch;
	int			n;
	int			moved = 0;
	int64_t		b;
	int			i;

	CHECK(distil_sampler_create(&sampler, items, N, starts, BATCH, 0, 56, distil_alloc_system(),
								&err) == DISTIL_OK);
	for (b = 0; b < sampler->batches; b++)
	{
		distil_sampler_batch(sampler, b, &batch, &n);
		for (i = 0; i < n; i++)
			moved += batch[i] != b * BATCH + i;
	}
	CHECK(moved > N - 20);		/* a permutation has one fixed point on average */
	distil_sampler_free(sampler);

	/* fewer sequences than a batch */
	CHECK(distil_sampler_create(&sampler, items, 3, starts, BATCH, 128, 56, distil_alloc_system(),
								&err) == DISTIL_OK);
	CHECK(sampler->batches == 1);
	distil_sampler_batch(sampler, 5, &batch, &n);
	CHECK(n == 3);
	distil_sampler_free(sampler);
}

static void
test_rng(void)
{
	DistilRng	rng;
	double		sum = 0;
	double		squares = 0;
	int			counts[7] = {0};
	int			i;
	int			n = 70000;

	distil_rng_open(&rng, 56, DISTIL_RNG_MASK, 12);
	for (i = 0; i < n; i++)
	{
		double		x = distil_rng_normal(&rng);

		sum += x;
		squares += x * x;
		counts[distil_rng_below(&rng, 7)]++;
	}
	/* five standard deviations of the mean and of the variance, and of a binomial */
	CHECK(fabs(sum / n) < 5 / sqrt(n));
	CHECK(fabs(squares / n - 1) < 5 * sqrt(2.0 / n));
	for (i = 0; i < 7; i++)
		CHECK(fabs(counts[i] - n / 7.0) < 5 * sqrt(n / 7.0));
	/* xoshiro256** over splitmix64, computed elsewhere: what a seed gives is the same in every release */
	distil_rng_open(&rng, 7, DISTIL_RNG_ORDER, 3);
	CHECK(distil_rng_next(&rng) == UINT64_C(0xe1797241f7162608));
	CHECK(distil_rng_next(&rng) == UINT64_C(0x1e83e5493111d21c));
	CHECK(distil_rng_value(1, DISTIL_RNG_MASK, 1) != distil_rng_value(1, DISTIL_RNG_ORDER, 1));
	CHECK(distil_rng_value(1, DISTIL_RNG_MASK, 1) != distil_rng_value(2, DISTIL_RNG_MASK, 1));
	CHECK(distil_rng_value(1, DISTIL_RNG_MASK, 1) == distil_rng_value(1, DISTIL_RNG_MASK, 1));
}

int
main(void)
{
	make_lengths();
	test_grouping();
	test_plain();
	test_rng();
	return check_report("sampler");
}
