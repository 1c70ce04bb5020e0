/*
 * test_kernel_rows.c
 *		BF16 rows and weights: every backend against the reference, and each row alone.
 *
 * Attention of such rows: test_kernel_attention.c.  Tolerances: kernel_rows.h.
 */
#include "kernel_rows.h"

static DistilWeight
random_weight(int n, int k, bool bias)
{
	DistilWeight w = {.type = DISTIL_TYPE_BF16,.n = n,.k = k};
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

/*
 * Over its whole range, and far out.  In front of BF16 it is taken within 1e-5, a 400th of a rounding at 2,
 * where it is worst; small results are within half of a step of their own.
 */
static void
test_gelu(DistilDevice *dev)
{
	uint16_t	one[32] = {0};
	DistilWeight w = {.type = DISTIL_TYPE_BF16,.n = 16,.k = 1};
	DistilRows	x = random_rows(1, 1, 1.0);
	DistilRows	y = unset_rows(DISTIL_TYPE_F32, 1, 16);
	uint16_t   *data = ref->ops->alloc(ref, distil_weight_bytes(DISTIL_TYPE_BF16, 16, 1));
	double		worst = 0.0;
	double		relative = 0.0;
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

			worst = check_worse(worst, fabs(get(&y, 0, j) - want) / fmax(1.0, fabs(want)));
			if (v >= -4.0 && v != 0.0)
				relative = check_worse(relative, fabs(get(&y, 0, j) - want) / fabs(want));
		}
	}
	CHECK_MSG(worst < 1e-5, "%s: gelu is off by %g\n", under_test, worst);
	CHECK_MSG(relative < HALF_STEP / 2, "%s: gelu is off by %g of itself\n", under_test, relative);
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

int
main(void)
{
	if (!open_reference())
		return check_report("kernel_rows");
	on_every_rows_device(test_linear);
	on_every_rows_device(test_gelu);
	on_every_rows_device(test_quantize);
	on_every_rows_device(test_norm);
	ref->ops->close(ref);
	return check_report("kernel_rows");
}
