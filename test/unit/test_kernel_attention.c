/*
 * test_kernel_attention.c
 *		Attention of BF16 rows: every backend against the reference, and each row alone.
 *
 * Tolerances are those of kernel_rows.h.
 * Probabilities of attention are rounded to BF16 by the matrix units: 1/256 of the mean of |v|.  Where all is
 * cut into bytes, results are off by BYTES_OFF of their size in root mean square: scores by 0.1 at most where
 * a head's numbers allow bytes at all, probabilities by 1 % and a step, 1/255, of their block's largest at
 * most, values by 3 % at most.
 */
#include "kernel_rows.h"

#define BYTES_OFF 0.02

/* Rows [from, m), columns [first, end): their difference has at most `part` of the length of `want`. */
static void
near_rows(const char *what, const DistilRows *got, const DistilRows *want, int from, int m, int first,
		  int end, double part)
{
	double		off = 0.0;
	double		size = 0.0;
	int			i,
				j;

	for (i = from; i < m; i++)
	{
		for (j = first; j < end; j++)
		{
			double		difference = get(got, i, j) - get(want, i, j);

			off += difference * difference;
			size += get(want, i, j) * get(want, i, j);
		}
	}
	CHECK_MSG(off <= part * part * size, "%s %s, columns %d to %d: off by %g of their size, allowed %g\n",
			  under_test, what, first, end, sqrt(off / size), part);
}

typedef struct AttentionCase
{
	int			heads;
	int			dim;
	bool		causal;
	int			query_first;	/* one sequence only */
	bool		relative;
	int			head_first;
	int			head_count;		/* 0: all */
	int			lengths[4];		/* ends with 0 */
} AttentionCase;

static void
try_attention(DistilDevice *dev, const AttentionCase *c, bool bytes)
{
	int32_t		offsets[6] = {0};
	int			width = c->heads * c->dim;
	int			longest = 0;
	int			nseq;
	int			t;
	int			differ = 0;
	DistilAttention a = {.heads = c->heads,.head_dim = c->dim,.scale = 1.0f / sqrtf(c->dim),
		.causal = c->causal,.query_first = c->query_first,.head_first = c->head_first,
	.head_count = c->head_count > 0 ? c->head_count : c->heads,.bytes = bytes};
	DistilRows	qkv,
				got,
				want,
				alone;
	float	   *relative = NULL;
	int			i;

	for (nseq = 0; nseq < 4 && c->lengths[nseq] > 0; nseq++)
	{
		offsets[nseq + 1] = offsets[nseq] + c->lengths[nseq];
		longest = longest > c->lengths[nseq] ? longest : c->lengths[nseq];
	}
	t = offsets[nseq];
	qkv = random_rows(t, 3 * width, 2.0);
	got = unset_rows(DISTIL_TYPE_BF16, t, width);
	want = unset_rows(DISTIL_TYPE_BF16, t, width);
	alone = unset_rows(DISTIL_TYPE_BF16, t, width);
	if (c->relative)
	{
		relative = random_floats((2 * (size_t) longest - 1) * c->heads, 1.0);
		a.relative = relative;
		a.relative_limit = longest;
	}
	a.nseq = nseq;
	dev->ops->attention_rows(dev, &got, &qkv, offsets, &a);
	ref->ops->attention_rows(ref, &want, &qkv, offsets, &a);
	CHECK(c->query_first == 0 || isnan(get(&got, c->query_first - 1, 0)));	/* left out */
	if (c->head_count > 0)		/* the other heads are not written */
	{
		for (i = 0; i < t * width; i++)
		{
			int			head = i % width / c->dim;

			if (head < c->head_first || head >= c->head_first + c->head_count)
			{
				CHECK(isnan(get(&got, i / width, i % width)));
				((uint16_t *) got.data)[i / width * got.ld + i % width] = 0;
				((uint16_t *) want.data)[i / width * got.ld + i % width] = 0;
			}
		}
	}
	if (bytes)
		near_rows("attention_rows in bytes", &got, &want, c->query_first, t, 0, width, BYTES_OFF);
	same_rows("attention_rows", &got, &want, c->query_first, t, width, bytes ? 0.5 : HALF_STEP,
			  2 * HALF_STEP);
	a.nseq = 1;
	for (i = 0; i < nseq && c->head_count == 0; i++)
	{
		size_t		skip = (size_t) offsets[i] + c->query_first;

		dev->ops->attention_rows(dev, &alone, &qkv, offsets + i, &a);
		differ += memcmp((uint16_t *) alone.data + skip * got.ld, (uint16_t *) got.data + skip * got.ld,
						 ((size_t) offsets[i + 1] - skip - 1) * got.ld * 2 + (size_t) width * 2) != 0;
	}
	CHECK_MSG(differ == 0, "%s attention_rows: %d sequences differ alone\n", under_test, differ);
	/* the queries of a long sequence in parts: the same bits */
	if (nseq == 1 && c->head_count == 0 && t - c->query_first > 3)
	{
		size_t		skip = (size_t) c->query_first;
		DistilRows	parts = unset_rows(DISTIL_TYPE_BF16, t, width);

		a.query_end = c->query_first + 3;
		dev->ops->attention_rows(dev, &parts, &qkv, offsets, &a);
		CHECK(isnan(get(&parts, a.query_end, 0)) && isnan(get(&parts, t - 1, width - 1)));
		a.query_first = a.query_end;
		a.query_end = t;
		dev->ops->attention_rows(dev, &parts, &qkv, offsets, &a);
		CHECK_MSG(memcmp((uint16_t *) parts.data + skip * got.ld, (uint16_t *) got.data + skip * got.ld,
						 ((size_t) t - skip - 1) * got.ld * 2 + (size_t) width * 2) == 0,
				  "%s attention_rows: %d queries differ in parts\n", under_test, t);
		drop(parts.data);
	}
	drop(relative);
	drop(qkv.data);
	drop(got.data);
	drop(want.data);
	drop(alone.data);
}

static void
test_attention(DistilDevice *dev)
{
	static const AttentionCase cases[] = {
		{2, 32, false, 0, false, 0, 0, {1, 17, 33, 5}},
		/* every length of attention_short_avx512.h, heads that fill its groups and that do not */
		{4, 32, false, 0, false, 0, 0, {1, 2, 3, 4}},
		{3, 64, false, 0, false, 0, 0, {5, 6, 7, 8}},
		{5, 32, false, 0, false, 0, 0, {9, 10, 11, 12}},
		{8, 64, false, 0, false, 0, 0, {13, 14, 15, 16}},
		{1, 32, false, 0, false, 0, 0, {16, 13, 8, 7}},
		{6, 64, false, 0, false, 0, 0, {12, 11, 10, 9}},
		{2, 32, false, 5, false, 0, 0, {12}},
		{2, 64, false, 0, false, 0, 0, {15}},
		{6, 32, false, 0, false, 1, 3, {11, 6}},
		{1, 64, false, 0, false, 0, 0, {128, 1, 16}},
		{2, 96, false, 0, false, 0, 0, {40, 31}},
		{1, 128, true, 0, false, 0, 0, {50}},
		{3, 20, false, 0, false, 0, 0, {7, 30}},
		{1, 160, false, 0, false, 0, 0, {19}},
		{2, 32, true, 0, false, 0, 0, {1, 70, 17}},
		{1, 32, false, 0, false, 0, 0, {255, 256, 257}},
		{1, 32, true, 0, false, 0, 0, {300, 530}},
		{1, 64, true, 299, false, 0, 0, {300}},
		{2, 32, true, 20, false, 0, 0, {41}},
		{2, 32, false, 0, true, 0, 0, {29, 290}},
		{2, 24, false, 0, true, 0, 0, {29, 30}},
		{3, 32, false, 0, false, 1, 1, {20, 18}},
		{1, 32, false, 0, false, 0, 0, {63, 65, 129}},
		{1, 32, false, 0, false, 0, 0, {1024, 1025}},	/* as long as attention_words.h takes, and longer */
		{1, 32, false, 0, false, 0, 0, {2700}},	/* beyond the float32 kernels' scratch */
	};
	static const AttentionCase of_bytes[] = {
		{2, 32, false, 0, false, 0, 0, {130, 5, 97, 96}},
		{2, 64, false, 0, false, 0, 0, {127, 128, 129}},
		{1, 96, false, 0, false, 0, 0, {101, 191}},
		{1, 128, false, 0, false, 0, 0, {195}},
		{1, 64, false, 299, false, 0, 0, {303}},
		{3, 32, false, 0, false, 1, 1, {120, 103}},
		{2, 24, false, 0, false, 0, 0, {140}},
		{2, 48, false, 0, false, 0, 0, {140}},	/* AVX-VNNI only, as the next two */
		{3, 16, false, 0, false, 0, 0, {99}},
		{1, 112, false, 0, false, 0, 0, {150}},
		{1, 32, false, 0, false, 0, 0, {5, 96, 130, 7}},
		{1, 32, false, 0, false, 0, 0, {1024, 1025}},
		{1, 64, false, 0, false, 0, 0, {513}},
		{1, 32, true, 0, false, 0, 0, {150}},
	};
	size_t		i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		try_attention(dev, &cases[i], false);
	for (i = 0; i < sizeof(of_bytes) / sizeof(of_bytes[0]); i++)
		try_attention(dev, &of_bytes[i], true);
}

static void
put(const DistilRows *rows, int row, int column, float value)
{
	((uint16_t *) rows->data)[(size_t) row * rows->ld + column] = distil_bf16(value);
}

/*
 * Heads of numbers that are hard to cut into steps: one dimension of queries and keys much larger than the
 * others (as in trained models), all nought, keys so large that scores are infinite, a value that is no
 * number, scores so far apart that most probabilities are nought, one key and then one value that is a
 * hundred times as large as the others.
 */
static void
try_attention_sizes(DistilDevice *dev, int rows, bool bytes)
{
	enum
	{
		HEADS = 7, DIM = 32, WIDTH = HEADS * DIM
	};
	int32_t		offsets[] = {0, rows};
	DistilAttention a = {.nseq = 1,.heads = HEADS,.head_dim = DIM,.scale = 1.0f / sqrtf(DIM),
	.head_count = HEADS,.bytes = bytes};
	DistilRows	qkv = random_rows(rows, 3 * WIDTH, 2.0);
	DistilRows	got = unset_rows(DISTIL_TYPE_BF16, rows, WIDTH);
	DistilRows	want = unset_rows(DISTIL_TYPE_BF16, rows, WIDTH);
	bool		lost = true;
	int			i,
				d;

	for (i = 0; i < rows; i++)
	{
		put(&qkv, i, 3, 5.0f * (float) get(&qkv, i, 3));
		put(&qkv, i, WIDTH + 3, 800.0f + (float) get(&qkv, i, WIDTH + 3));
		for (d = 5 * DIM; d < 6 * DIM && i == 20 % rows; d++)
			put(&qkv, i, WIDTH + d, 100.0f * (float) get(&qkv, i, WIDTH + d));
		for (d = 4 * DIM; d < 5 * DIM; d++)
			put(&qkv, i, d, 4.0f * (float) get(&qkv, i, d));
		for (d = DIM; d < 2 * DIM; d++)
		{
			put(&qkv, i, d, 0.0f);
			put(&qkv, i, WIDTH + d, 0.0f);
			put(&qkv, i, 2 * WIDTH + d, i % 2 == 0 ? 0.0f : (float) get(&qkv, i, 2 * WIDTH + d));
		}
		for (d = 2 * DIM; d < 3 * DIM; d++)
		{
			put(&qkv, i, d, 1e20f);
			put(&qkv, i, WIDTH + d, 1e20f);
		}
	}
	put(&qkv, 9, 2 * WIDTH + 3 * DIM + 7, NAN);
	put(&qkv, 40 % rows, 2 * WIDTH + 6 * DIM + 9, 200.0f);
	dev->ops->attention_rows(dev, &got, &qkv, offsets, &a);
	ref->ops->attention_rows(ref, &want, &qkv, offsets, &a);
	for (i = 0; i < rows; i++)
	{
		lost = lost && isnan(get(&got, i, 3 * DIM + 7));
		/* what infinite scores give is not laid down */
		for (d = 2 * DIM; d < 3 * DIM; d++)
		{
			put(&got, i, d, 0.0f);
			put(&want, i, d, 0.0f);
		}
		put(&got, i, 3 * DIM + 7, 0.0f);
		put(&want, i, 3 * DIM + 7, 0.0f);
	}
	CHECK(lost);
	/*
	 * the second head's values: each other one is nought and all those are off alike; the fifth's
	 * probabilities: few are not nought, and what scores are off by does not cancel
	 */
	for (i = 0; i < HEADS && bytes; i++)
		near_rows("attention_rows of sizes in bytes", &got, &want, 0, rows, i * DIM, (i + 1) * DIM,
				  i == 1 || i == 4 ? 2 * BYTES_OFF : BYTES_OFF);
	/* the last head: a probability's roundings count as much as the value a hundred times as large */
	same_rows("attention_rows of sizes", &got, &want, 0, rows, WIDTH, bytes ? 0.5 : 2 * HALF_STEP,
			  2 * HALF_STEP);
	drop(qkv.data);
	drop(got.data);
	drop(want.data);
}

static void
test_attention_sizes(DistilDevice *dev)
{
	try_attention_sizes(dev, 110, false);
	try_attention_sizes(dev, 14, false);
	try_attention_sizes(dev, 110, true);
}

/* Sequences of a few rows before one whose keys are a thousand times as large: nothing of it is seen. */
static void
test_attention_neighbour(DistilDevice *dev)
{
	enum
	{
		HEADS = 2, DIM = 32, WIDTH = HEADS * DIM, MOST = 20, NEXT = 16
	};
	int			rows;

	for (rows = 1; rows <= MOST; rows++)
	{
		int32_t		offsets[] = {0, rows, rows + NEXT};
		DistilAttention a = {.nseq = 2,.heads = HEADS,.head_dim = DIM,.scale = 1.0f / sqrtf(DIM),
		.head_count = HEADS};
		DistilRows	qkv = random_rows(rows + NEXT, 3 * WIDTH, 1.0);
		DistilRows	got = unset_rows(DISTIL_TYPE_BF16, rows + NEXT, WIDTH);
		DistilRows	want = unset_rows(DISTIL_TYPE_BF16, rows + NEXT, WIDTH);
		int			i,
					d;

		for (i = rows; i < rows + NEXT; i++)
		{
			for (d = WIDTH; d < 2 * WIDTH; d++)
				put(&qkv, i, d, 1000.0f * (float) get(&qkv, i, d));
		}
		dev->ops->attention_rows(dev, &got, &qkv, offsets, &a);
		ref->ops->attention_rows(ref, &want, &qkv, offsets, &a);
		same_rows("attention_rows beside large keys", &got, &want, 0, rows, WIDTH, HALF_STEP, 2 * HALF_STEP);
		drop(qkv.data);
		drop(got.data);
		drop(want.data);
	}
}

#define ONE_DIM 32

/* A sequence of one head for attention in bytes. */
typedef struct OneHead
{
	int32_t		offsets[2];
	DistilAttention a;
	DistilRows	qkv;
	DistilRows	got;
	DistilRows	want;
} OneHead;

static OneHead
one_head(int rows)
{
	OneHead		h = {.offsets = {0, rows},.a = {.nseq = 1,.heads = 1,.head_dim = ONE_DIM,
	.scale = 1.0f / sqrtf(ONE_DIM),.head_count = 1,.bytes = true}};

	h.qkv = random_rows(rows, 3 * ONE_DIM, 1.0);
	h.got = unset_rows(DISTIL_TYPE_BF16, rows, ONE_DIM);
	h.want = unset_rows(DISTIL_TYPE_BF16, rows, ONE_DIM);
	return h;
}

static void
try_head(DistilDevice *dev, OneHead *h, const char *what, double off)
{
	dev->ops->attention_rows(dev, &h->got, &h->qkv, h->offsets, &h->a);
	ref->ops->attention_rows(ref, &h->want, &h->qkv, h->offsets, &h->a);
	near_rows(what, &h->got, &h->want, 0, h->offsets[1], 0, ONE_DIM, off);
}

static void
drop_head(OneHead *h)
{
	drop(h->qkv.data);
	drop(h->got.data);
	drop(h->want.data);
}

/*
 * One key in the last part of a sequence whose probability is as large as that of all the others together:
 * what those add up to must not be rounded away.
 */
static void
test_attention_tail(DistilDevice *dev)
{
	enum
	{
		ROWS = 500, KEY = 470
	};
	OneHead		h = one_head(ROWS);
	int			i;

	for (i = 0; i < ROWS; i++)
	{
		put(&h.qkv, i, 0, 3.0f);
		put(&h.qkv, i, ONE_DIM, i == KEY ? 12.0f : 0.0f);
	}
	try_head(dev, &h, "attention_rows of a tail", 2 * BYTES_OFF);
	drop_head(&h);
}

/*
 * One key whose probability is many times that of each other, which are alike: what those add up to must not
 * be rounded away, nor up.  From 2 times as likely to 4,000 times.
 */
static void
test_attention_sink(DistilDevice *dev)
{
	enum
	{
		ROWS = 128, KEY = 10
	};
	OneHead		h = one_head(ROWS);
	int			i,
				d;

	for (i = 0; i < ROWS; i++)
	{
		for (d = 0; d < ONE_DIM; d++)
		{
			put(&h.qkv, i, d, d == 0 ? 3.0f : 0.0f);
			put(&h.qkv, i, ONE_DIM + d, 0.0f);
		}
	}
	for (d = 2; d <= 24; d++)
	{
		put(&h.qkv, KEY, ONE_DIM, (float) d * logf(2.0f) / 2.0f * sqrtf(ONE_DIM) / 3.0f);
		/* what is rounded is the same for all those keys: nothing cancels */
		try_head(dev, &h, "attention_rows of a sink", 1.5 * BYTES_OFF);
	}
	drop_head(&h);
}

/*
 * Keys whose scores rise and fall by many binary digits from one 64 to the next, for half of the queries the
 * other way: what sums are counted in has to follow, for each query by itself.
 */
static void
test_attention_stairs(DistilDevice *dev)
{
	enum
	{
		STEP = 64, ROWS = 4 * STEP
	};
	static const float stairs[][ROWS / STEP] = {
		{0, 1, 0, 2}, {0, 31, 1, 31}, {0, 33, 0, 34}, {0, 20, 40, 39}, {45, 44, 0, 45}, {0, 1, 2, 45}
	};
	OneHead		h = one_head(ROWS);
	size_t		n;
	int			i,
				d;

	for (n = 0; n < sizeof(stairs) / sizeof(stairs[0]); n++)
	{
		for (i = 0; i < ROWS; i++)
		{
			for (d = 0; d < 2 * ONE_DIM; d++)
				put(&h.qkv, i, d, 0.0f);
			put(&h.qkv, i, 0, i % 2 == 0 ? 3.0f : -3.0f);
			put(&h.qkv, i, ONE_DIM, stairs[n][i / STEP] * logf(2.0f) * sqrtf(ONE_DIM) / 3.0f);
		}
		try_head(dev, &h, "attention_rows of stairs", 1.5 * BYTES_OFF);
	}
	drop_head(&h);
}

/* The sets that cut attention into bytes do it where `bytes` says so, from 97 keys on: other bits. */
static void
test_attention_bytes(DistilDevice *dev)
{
	static const char *const sets[] = {"cpu/avx512_bf16", "cpu/avx512_vnni", "cpu/avx_vnni"};
	static const int lengths[] = {96, 97};
	bool		cuts = false;
	size_t		i;

	for (i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		cuts = cuts || strcmp(under_test, sets[i]) == 0;
	for (i = 0; i < 2; i++)
	{
		int32_t		offsets[] = {0, lengths[i]};
		DistilAttention a = {.nseq = 1,.heads = 1,.head_dim = 32,.scale = 1.0f / sqrtf(32),.head_count = 1};
		DistilRows	qkv = random_rows(lengths[i], 96, 2.0);
		DistilRows	plain = unset_rows(DISTIL_TYPE_BF16, lengths[i], 32);
		DistilRows	got = unset_rows(DISTIL_TYPE_BF16, lengths[i], 32);

		dev->ops->attention_rows(dev, &plain, &qkv, offsets, &a);
		a.bytes = true;
		dev->ops->attention_rows(dev, &got, &qkv, offsets, &a);
		CHECK_MSG((memcmp(plain.data, got.data, (size_t) lengths[i] * got.ld * 2) != 0) == (cuts && i == 1),
				  "%s attention_rows of %d keys in bytes\n", under_test, lengths[i]);
		drop(qkv.data);
		drop(plain.data);
		drop(got.data);
	}
}

/*
 * A NaN of a query is one of its results, one of a key of all results of its head and sequence; other
 * sequences and heads know nothing of them.
 */
static void
try_attention_nan(DistilDevice *dev, bool bytes)
{
	enum
	{
		HEADS = 3, DIM = 32, WIDTH = HEADS * DIM, LENGTH = 150, ROWS = 2 * LENGTH, QUERY = 20, KEY = 140,
		PART = 50
	};
	int32_t		offsets[] = {0, LENGTH, ROWS};
	DistilAttention a = {.nseq = 2,.heads = HEADS,.head_dim = DIM,.scale = 1.0f / sqrtf(DIM),
	.head_count = HEADS,.bytes = bytes};
	DistilRows	qkv = random_rows(ROWS, 3 * WIDTH, 2.0);
	DistilRows	got = unset_rows(DISTIL_TYPE_BF16, ROWS, WIDTH);
	DistilRows	parts = unset_rows(DISTIL_TYPE_BF16, ROWS, WIDTH);
	int			wrong = 0;
	int			i,
				d;

	put(&qkv, LENGTH + QUERY, 5, NAN);	/* second sequence, first head */
	put(&qkv, LENGTH + KEY, WIDTH + DIM + 31, NAN); /* second head */
	dev->ops->attention_rows(dev, &got, &qkv, offsets, &a);
	for (i = 0; i < ROWS; i++)
	{
		for (d = 0; d < WIDTH; d++)
		{
			bool		expected = d < DIM ? i == LENGTH + QUERY : d < 2 * DIM && i >= LENGTH;

			wrong += expected != (isnan(get(&got, i, d)) != 0);
		}
	}
	CHECK_MSG(wrong == 0, "%s attention_rows: %d numbers or NaNs too many\n", under_test, wrong);
	/* the sequence alone, whose heads bytes cannot do, in parts: the same bits */
	a.nseq = 1;
	for (i = 0; i < LENGTH; i += PART)
	{
		a.query_first = i;
		a.query_end = i + PART;
		dev->ops->attention_rows(dev, &parts, &qkv, offsets + 1, &a);
	}
	CHECK_MSG(memcmp((uint16_t *) parts.data + LENGTH * parts.ld, (uint16_t *) got.data + LENGTH * got.ld,
					 ((LENGTH - 1) * got.ld + WIDTH) * sizeof(uint16_t)) == 0,
			  "%s attention_rows: a sequence with NaNs differs alone and in parts\n", under_test);
	drop(qkv.data);
	drop(got.data);
	drop(parts.data);
}

static void
test_attention_nan(DistilDevice *dev)
{
	try_attention_nan(dev, false);
	try_attention_nan(dev, true);
}

int
main(void)
{
	if (!open_reference())
		return check_report("kernel_attention");
	on_every_rows_device(test_attention);
	on_every_rows_device(test_attention_sizes);
	on_every_rows_device(test_attention_neighbour);
	on_every_rows_device(test_attention_tail);
	on_every_rows_device(test_attention_sink);
	on_every_rows_device(test_attention_stairs);
	on_every_rows_device(test_attention_bytes);
	on_every_rows_device(test_attention_nan);
	ref->ops->close(ref);
	return check_report("kernel_attention");
}
