/*
 * test_masking.c
 *		Statistics of dynamic masking over more than 1e5 tokens.
 */
#include "check.h"
#include "masking.h"

#define V 1000
#define T 2500
#define ROUNDS 100

static const DistilSpecialIds special = {.unk = 1,.cls = 2,.sep = 3,.pad = 0,.mask = 4,.bos = -1,.eos = -1};

static int64_t counts[V];
static double weights[V];

/* Two kinds of tokens: rare ones (count 10) and frequent ones (count 1000), half of the text each. */
static void
make_ids(int32_t *ids, DistilRng *rng)
{
	int			i;

	for (i = 0; i < T; i++)
	{
		ids[i] = 5 + (int32_t) distil_rng_below(rng, V - 5);
		if (i % 50 == 0)
			ids[i] = special.cls;
		if (i % 50 == 49)
			ids[i] = special.sep;
	}
}

static void
test_statistics(void)
{
	static int32_t ids[T], original[T], labels[T];
	static DistilMaskKey heap[T];
	DistilMasking masking = {.weights = weights,
	.vocabulary = V,.mask_id = 4,.proportion = 0.15,.word_mask = 0.8,.word_keep = 0.1};
	DistilRng	rng;
	int64_t		chosen = 0, masked = 0, kept = 0, rare = 0, frequent = 0;
	int			round;
	int			v;

	for (v = 0; v < V; v++)
		counts[v] = v % 2 ? 1000 : 10;
	distil_masking_weights(weights, counts, V, 0.7, &special);
	CHECK(weights[0] == 0 && weights[1] == 0 && weights[2] == 0 && weights[3] == 0 && weights[4] == 0);
	CHECK_NEAR(weights[6] / weights[7], pow(100, 0.7), 1e-9);
	counts[9] = 0;
	distil_masking_weights(weights, counts, V, 0.7, &special);
	CHECK(weights[9] == 1);		/* counts below one weigh as one */
	counts[9] = 1000;
	distil_masking_weights(weights, counts, V, 0.7, &special);

	masking.proportion = 0.01;	/* few draws: the ratio of frequencies is the ratio of weights */
	for (round = 0; round < ROUNDS * 4; round++)
	{
		int			n;
		int			i;

		distil_rng_open(&rng, 7, DISTIL_RNG_MASK, (uint64_t) round);
		make_ids(ids, &rng);
		memcpy(original, ids, sizeof(ids));
		n = distil_masking_apply(&masking, ids, labels, T, heap, &rng);
		CHECK(n == 25);			/* ceil(0.01 * 2500) */
		for (i = 0; i < T; i++)
		{
			if (labels[i] == DISTIL_NO_LABEL)
				continue;
			rare += original[i] % 2 == 0;
			frequent += original[i] % 2 == 1;
		}
	}
	/* 10000 draws, frequent share 1 / (1 + 25.1) = 3.8 %: 5 standard deviations are 0.96 points */
	CHECK_NEAR((double) frequent / (double) (rare + frequent), 1 / (1 + pow(100, 0.7)), 0.0096);

	masking.proportion = 0.15;
	for (round = 0; round < ROUNDS; round++)
	{
		int			n;
		int			labelled = 0;
		int			i;

		distil_rng_open(&rng, 8, DISTIL_RNG_MASK, (uint64_t) round);
		make_ids(ids, &rng);
		memcpy(original, ids, sizeof(ids));
		n = distil_masking_apply(&masking, ids, labels, T, heap, &rng);
		CHECK(n == 375);		/* 0.15 * 2500, special tokens counted */
		for (i = 0; i < T; i++)
		{
			if (labels[i] == DISTIL_NO_LABEL)
			{
				CHECK(ids[i] == original[i]);
				continue;
			}
			labelled++;
			CHECK(labels[i] == original[i]);
			CHECK(original[i] >= 5);	/* never a special token */
			masked += ids[i] == 4;
			kept += ids[i] == original[i];
		}
		CHECK(labelled == n);
		chosen += n;
	}
	/* 37500 choices: five standard deviations of 80 % are 1.03 points, of 10 % 0.78 */
	CHECK_NEAR((double) masked / (double) chosen, 0.8, 0.0103);
	CHECK_NEAR((double) kept / (double) chosen, 0.1, 0.0078);
}

/* The same generator state gives the same masks; fewer weighted positions than wanted. */
static void
test_edges(void)
{
	static DistilMaskKey heap[16];
	DistilMasking masking = {.weights = weights,
	.vocabulary = V,.mask_id = 4,.proportion = 0.5,.word_mask = 1,.word_keep = 0};
	int32_t		a[10] = {2, 10, 3, 2, 1, 3, 2, 20, 3, 0};
	int32_t		b[10] = {2, 10, 3, 2, 1, 3, 2, 20, 3, 0};
	int32_t		labels[10];
	DistilRng	rng;

	distil_rng_open(&rng, 1, DISTIL_RNG_MASK, 1);
	CHECK(distil_masking_apply(&masking, a, labels, 10, heap, &rng) == 2);
	CHECK(a[1] == 4 && a[7] == 4 && labels[1] == 10 && labels[7] == 20 && labels[0] == DISTIL_NO_LABEL);
	distil_rng_open(&rng, 1, DISTIL_RNG_MASK, 1);
	distil_masking_apply(&masking, b, labels, 10, heap, &rng);
	CHECK(memcmp(a, b, sizeof(a)) == 0);
	masking.proportion = 0;
	CHECK(distil_masking_apply(&masking, b, labels, 10, heap, &rng) == 0);
	CHECK(labels[1] == DISTIL_NO_LABEL);
}

/*
 * Weighted drawing without replacement against the exact probabilities of sequential
 * drawing: 3 positions of weights 4, 2, 1, two drawn.
 */
static void
test_without_replacement(void)
{
	double		w[8] = {0, 0, 0, 0, 0, 4, 2, 1};
	DistilMasking masking = {.weights = w,
	.vocabulary = 8,.mask_id = 4,.proportion = 0.6,.word_mask = 1,.word_keep = 0};
	DistilMaskKey heap[3];
	int			pair[3] = {0};	/* by the position left out */
	int			rounds = 40000;
	int			round;
	DistilRng	rng;

	distil_rng_open(&rng, 3, DISTIL_RNG_MASK, 0);
	for (round = 0; round < rounds; round++)
	{
		int32_t		ids[3] = {5, 6, 7};
		int32_t		labels[3];
		int			i;

		CHECK(distil_masking_apply(&masking, ids, labels, 3, heap, &rng) == 2);
		for (i = 0; i < 3; i++)
			pair[i] += labels[i] == DISTIL_NO_LABEL;
	}
	/* P(left out 7) = 4/7 * 2/3 + 2/7 * 4/5, and so on; five standard deviations are below 0.0125 */
	CHECK_NEAR((double) pair[2] / rounds, 4.0 / 7 * 2 / 3 + 2.0 / 7 * 4 / 5, 0.0125);
	CHECK_NEAR((double) pair[1] / rounds, 4.0 / 7 * 1 / 3 + 1.0 / 7 * 4 / 6, 0.0125);
	CHECK_NEAR((double) pair[0] / rounds, 2.0 / 7 * 1 / 5 + 1.0 / 7 * 2 / 6, 0.0125);
}

int
main(void)
{
	test_statistics();
	test_edges();
	test_without_replacement();
	return check_report("masking");
}
