/*
 * test_kernel_rows.c
 *		BF16 rows and weights: every backend against the reference, and each row alone.
 *
 * Operands are the same BF16 numbers on both sides, so a product of k terms of size 1 differs by the order
 * of its float32 sums only: 2e-6 sqrt(k).  A result in BF16 is rounded on both sides: 1/128 of its size.
 * Probabilities of attention are rounded to BF16 by the matrix units: 1/256 of the mean of |v|.  Where all is
 * cut into bytes, results are off by BYTES_OFF of their size in root mean square: scores by 0.1 at most where
 * a head's numbers allow bytes at all, probabilities by 1 % and a step, 1/255, of their block's largest at
 * most, values by 3 % at most.
 */
#include "kernel_samples.h"

#define HALF_STEP (1.0 / 256)	/* of BF16, relative */
#define BYTES_OFF 0.02

/* m rows of c random values; what lies behind them is NaN, which must not matter. */
static DistilRows
random_rows(int m, int c, double size)
{
	size_t		n = distil_rows_elements(DISTIL_TYPE_BF16, m, c);
	DistilRows	rows = {DISTIL_TYPE_BF16, NULL, distil_row_stride(DISTIL_TYPE_BF16, c), NULL, NULL, NULL};
	uint16_t   *data = ref->ops->alloc(ref, n * sizeof(uint16_t));
	size_t		i;

	for (i = 0; i < n; i++)
	{
		size_t		column = i % rows.ld;

		data[i] = i / rows.ld >= (size_t) m ? 0x7fc0 : column >= (size_t) c ? 0
			: distil_bf16((float) ((2 * uniform() - 1) * size));
	}
	rows.data = data;
	return rows;
}

/* Rows to be written, all NaN. */
static DistilRows
unset_rows(DistilType type, int m, int c)
{
	size_t		n = distil_rows_elements(type, m, c);
	DistilRows	rows = {type, NULL, distil_row_stride(type, c), NULL, NULL, NULL};

	rows.data = ref->ops->alloc(ref, n * distil_type_size(type));
	memset(rows.data, 0xff, n * distil_type_size(type));
	return rows;
}

static DistilWeight
random_weight(int n, int k, bool bias)
{
	DistilWeight w = {DISTIL_TYPE_BF16, n, k, NULL, NULL, NULL, NULL};
	float	   *values = random_floats((size_t) n * k, 1.0);
	size_t		length = distil_row_length(DISTIL_TYPE_BF16, k);
	uint16_t   *data = ref->ops->alloc(ref, distil_weight_bytes(DISTIL_TYPE_BF16, n, k));
	int			j;

	for (j = 0; j < n; j += DISTIL_PANEL)
		distil_pack_panel_bf16(data + j * length, values + (size_t) j * k, k,
							   n - j < DISTIL_PANEL ? n - j : DISTIL_PANEL, k);
	for (j = 0; j < n * k; j += 7)
		CHECK(data[distil_weight_index(DISTIL_TYPE_BF16, j / k, j % k, k)] == distil_bf16(values[j]));
	drop(values);
	w.data = data;
	w.bias = bias ? random_floats(n, 1.0) : NULL;
	return w;
}

static double
get(const DistilRows *rows, int row, int column)
{
	size_t		at = row * rows->ld + column;

	return rows->type == DISTIL_TYPE_F32 ? ((const float *) rows->data)[at]
		: distil_bf16_float(((const uint16_t *) rows->data)[at]);
}

/* Rows [from, m) of c columns; behind them zeros (BF16) or what was there before. */
static void
same_rows(const char *what, const DistilRows *got, const DistilRows *want, int from, int m, int c,
		  double absolute, double relative)
{
	int			end = (int) distil_row_length(got->type, c);
	double		worst = 0.0;
	int			stray = 0;
	int			i,
				j;

	for (i = from; i < m; i++)
	{
		for (j = 0; j < c; j++)
		{
			double		error = fabs(get(got, i, j) - get(want, i, j));
			double		excess = error - relative * fabs(get(want, i, j));

			if (!(excess <= worst))
				worst = isnan(excess) ? INFINITY : excess;
		}
		for (; j < (int) got->ld; j++)
			stray += got->type == DISTIL_TYPE_BF16 && j < end ? get(got, i, j) != 0 : !isnan(get(got, i, j));
	}
	CHECK_MSG(worst <= absolute, "%s %s, %d rows of %d: off by %g, allowed %g\n", under_test, what, m, c,
			  worst, absolute);
	CHECK_MSG(stray == 0, "%s %s, %d rows of %d: %d numbers beside the result\n", under_test, what, m, c,
			  stray);
}

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

/* ---------- linear ---------- */

static void
try_linear(DistilDevice *dev, int m, int n, int k, DistilActivation act, DistilType type, bool bias)
{
	DistilRows	x = random_rows(m, k, 1.0);
	DistilWeight w = random_weight(n, k, bias);
	DistilRows	got = unset_rows(type, m, n);
	DistilRows	want = unset_rows(type, m, n);
	DistilRows	one = unset_rows(type, 1, n);
	size_t		row = x.ld * sizeof(uint16_t);
	size_t		bytes = n * distil_type_size(type);
	int			differ = 0;
	int			i;

	dev->ops->linear_rows(dev, &got, &x, &w, act, m);
	ref->ops->linear_rows(ref, &want, &x, &w, act, m);
	same_rows("linear_rows", &got, &want, 0, m, n, 4e-6 * sqrt(k) + 4e-6,
			  type == DISTIL_TYPE_BF16 ? 2 * HALF_STEP : 1e-6);
	for (i = 0; i < m; i++)
	{
		DistilRows	xi = {x.type, (char *) x.data + i * row, x.ld, NULL, NULL, NULL};

		dev->ops->linear_rows(dev, &one, &xi, &w, act, 1);
		differ += memcmp(one.data, (char *) got.data + i * got.ld * distil_type_size(type), bytes) != 0;
	}
	CHECK_MSG(differ == 0, "%s linear_rows %d x %d x %d: %d rows differ alone\n", under_test, m, n, k,
			  differ);
	drop(x.data);
	drop((void *) w.data);
	drop((void *) w.bias);
	drop(got.data);
	drop(want.data);
	drop(one.data);
}

static void
test_linear(DistilDevice *dev)
{
	static const int shapes[][3] = {
		{1, 1, 1}, {2, 16, 32}, {5, 17, 33}, {7, 80, 31}, {16, 48, 64}, {17, 64, 96}, {31, 33, 100},
		{33, 112, 384}, {40, 130, 1536}, {65, 32, 40}, {70, 192, 16}
	};
	size_t		i;
	int			round;

	for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
	{
		try_linear(dev, shapes[i][0], shapes[i][1], shapes[i][2], DISTIL_ACT_NONE, DISTIL_TYPE_F32, true);
		try_linear(dev, shapes[i][0], shapes[i][1], shapes[i][2], DISTIL_ACT_GELU, DISTIL_TYPE_BF16, i % 2);
	}
	for (i = DISTIL_ACT_NONE; i <= DISTIL_ACT_SIGMOID; i++)
	{
		try_linear(dev, 18, 50, 40, (DistilActivation) i, i % 2 ? DISTIL_TYPE_F32 : DISTIL_TYPE_BF16, true);
		try_linear(dev, 7, 130, 40, (DistilActivation) i, i % 2 ? DISTIL_TYPE_F32 : DISTIL_TYPE_BF16, true);
	}
	for (round = 0; round < 40; round++)
	{
		int			m = 1 + (int) (uniform() * 70);
		int			n = 1 + (int) (uniform() * 150);
		int			k = 1 + (int) (uniform() * 200);

		try_linear(dev, m, n, k, round % 3 ? DISTIL_ACT_NONE : DISTIL_ACT_GELU,
				   round % 2 ? DISTIL_TYPE_F32 : DISTIL_TYPE_BF16, round % 5 > 0);
	}
}

/* Over its whole range, and far out. */
static void
test_gelu(DistilDevice *dev)
{
	uint16_t	one[32] = {0};
	DistilWeight w = {DISTIL_TYPE_BF16, 16, 1, NULL, NULL, NULL, NULL};
	DistilRows	x = random_rows(1, 1, 1.0);
	DistilRows	y = unset_rows(DISTIL_TYPE_F32, 1, 16);
	uint16_t   *data = ref->ops->alloc(ref, distil_weight_bytes(DISTIL_TYPE_BF16, 16, 1));
	double		worst = 0.0;
	int			i,
				j;

	memset(data, 0, distil_weight_bytes(DISTIL_TYPE_BF16, 16, 1));
	one[0] = distil_bf16(1.0f);
	memcpy(x.data, one, sizeof(one));
	w.data = data;
	for (i = -1400; i < 1400; i += 16)
	{
		for (j = 0; j < 16; j++)
			data[distil_weight_index(DISTIL_TYPE_BF16, j, 0, 1)] =
				distil_bf16(i < -1300 ? -1e30f : i >= 1300 ? 1e6f : (float) (i + j) / 200.0f);
		dev->ops->linear_rows(dev, &y, &x, &w, DISTIL_ACT_GELU, 1);
		for (j = 0; j < 16; j++)
		{
			double		v = distil_bf16_float(data[distil_weight_index(DISTIL_TYPE_BF16, j, 0, 1)]);
			double		want = 0.5 * v * erfc(-v * 0.70710678118654752440);

			worst = fmax(worst, fabs(get(&y, 0, j) - want) / fmax(1.0, fabs(want)));
		}
	}
	CHECK_MSG(worst < 4e-6, "%s: gelu is off by %g\n", under_test, worst);
	/* a NaN comes out */
	((uint16_t *) x.data)[0] = 0x7fc0;
	dev->ops->linear_rows(dev, &y, &x, &w, DISTIL_ACT_GELU, 1);
	CHECK(isnan(get(&y, 0, 0)) && isnan(get(&y, 0, 15)));
	drop(data);
	drop(x.data);
	drop(y.data);
}

/* ---------- rounding and norms ---------- */

static void
test_quantize(DistilDevice *dev)
{
	size_t		i;

	for (i = 0; i < LENGTHS; i++)
	{
		int			c = (int) lengths[i];
		float	   *values = random_floats(3 * (size_t) c, 100.0);
		DistilRows	x = {DISTIL_TYPE_F32, values, (size_t) c, NULL, NULL, NULL};
		DistilRows	got = unset_rows(DISTIL_TYPE_BF16, 3, c);
		int			j;

		dev->ops->quantize_rows(dev, &got, &x, DISTIL_ACT_NONE, 3, c);
		same_rows("quantize_rows", &got, &x, 0, 3, c, 0.0, HALF_STEP);
		for (j = 0; j < 3 * c; j++)
			CHECK(((uint16_t *) got.data)[j / c * got.ld + j % c] == distil_bf16(values[j]));
		drop(values);
		drop(got.data);
	}
}

static void
try_norm(DistilDevice *dev, int c, bool residual)
{
	int			m = 5;
	size_t		n = (size_t) m * c;
	float	   *x = random_floats(n, 2.0);
	float	   *r = residual ? random_floats(n, 2.0) : NULL;
	float	   *gamma = random_floats(c, 1.0);
	float	   *beta = random_floats(c, 1.0);
	float	   *got = unset_floats(n);
	float	   *want = unset_floats(n);
	DistilRows	low = unset_rows(DISTIL_TYPE_BF16, m, c);
	DistilRows	low_want = unset_rows(DISTIL_TYPE_BF16, m, c);
	float	   *place = residual ? r : x;
	int			i;

	ref->ops->norm_rows(ref, want, &low_want, x, r, gamma, beta, 1e-5f, m, c);
	dev->ops->norm_rows(dev, got, &low, x, r, gamma, beta, 1e-5f, m, c);
	same("norm_rows", got, want, n, 1e-5);
	same_rows("norm_rows", &low, &low_want, 0, m, c, 1e-5, 2 * HALF_STEP);
	for (i = 0; i < m * c; i++)
		CHECK(((uint16_t *) low.data)[i / c * low.ld + i % c] == distil_bf16(got[i]));
	/* in place */
	dev->ops->norm_rows(dev, place, &low, x, r, gamma, beta, 1e-5f, m, c);
	CHECK(memcmp(place, got, n * sizeof(float)) == 0);
	drop(x);
	drop(r);
	drop(gamma);
	drop(beta);
	drop(got);
	drop(want);
	drop(low.data);
	drop(low_want.data);
}

static void
test_norm(DistilDevice *dev)
{
	size_t		i;

	for (i = 1; i < LENGTHS; i++)	/* one column has no variance */
	{
		try_norm(dev, (int) lengths[i], false);
		try_norm(dev, (int) lengths[i], true);
	}
}

/* ---------- attention ---------- */

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
		return check_report("kernel_rows");
	on_every_rows_device(test_linear);
	on_every_rows_device(test_gelu);
	on_every_rows_device(test_quantize);
	on_every_rows_device(test_norm);
	on_every_rows_device(test_attention);
	on_every_rows_device(test_attention_sizes);
	on_every_rows_device(test_attention_neighbour);
	on_every_rows_device(test_attention_tail);
	on_every_rows_device(test_attention_sink);
	on_every_rows_device(test_attention_stairs);
	on_every_rows_device(test_attention_bytes);
	on_every_rows_device(test_attention_nan);
	ref->ops->close(ref);
	return check_report("kernel_rows");
}
