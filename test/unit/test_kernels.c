/*
 * test_kernels.c
 *		Every backend and instruction set against the reference: flat vectors,
 *		activations, the linear layer, norms and tables, with all aliases kernels.h allows.
 *
 * Sequences and losses: test_kernel_sequences.c.  Tolerances: kernel_samples.h.
 */
#include "kernel_samples.h"

/* ---------- flat vectors ---------- */

static void
test_flat(DistilDevice *dev)
{
	size_t		l;

	for (l = 0; l < LENGTHS; l++)
	{
		size_t		n = lengths[l];
		float	   *x = random_floats(n, 3.0);
		float	   *y = random_floats(n, 3.0);
		float	   *want = copy_floats(y, n);
		double		sum = -1.0,
					want_sum = -1.0;
		int64_t		bad = -1;

		dev->ops->axpy(dev, y, x, 0.37f, n);
		ref->ops->axpy(ref, want, x, 0.37f, n);
		same("axpy", y, want, n, 1e-6);
		dev->ops->sum_squares(dev, &sum, x, n);
		ref->ops->sum_squares(ref, &want_sum, x, n);
		CHECK_NEAR(sum, want_sum, 1e-12 * want_sum);
		dev->ops->count_nonfinite(dev, &bad, x, n);
		CHECK(bad == 0);
		x[0] = NAN;
		x[n / 2] = n > 1 ? -INFINITY : NAN;
		x[n - 1] = n > 2 ? INFINITY : x[n - 1];
		dev->ops->count_nonfinite(dev, &bad, x, n);
		CHECK_MSG(bad == (n == 1 ? 1 : 3), "%s counts %d\n", under_test, (int) bad);
		dev->ops->zero(dev, y, n);
		memset(want, 0, n * sizeof(float));
		same("zero", y, want, n, 0.0);
		drop(x);
		drop(y);
		drop(want);
	}
}

static void
test_dropout(DistilDevice *dev)
{
	size_t		l;

	for (l = 0; l < LENGTHS; l++)
	{
		size_t		n = lengths[l];
		DistilDropout half = {0.5f, 77},
					off = {0.0f, 77};
		float	   *x = random_floats(n, 2.0);
		float	   *y = unset_floats(n);
		float	   *want = unset_floats(n);
		size_t		kept = 0;
		size_t		i;

		half.p = 0.3f;
		dev->ops->dropout(dev, y, x, half, 1000, n);
		ref->ops->dropout(ref, want, x, half, 1000, n);
		same("dropout", y, want, n, 1e-6);
		for (i = 0; i < n; i++)
			kept += y[i] != 0.0f;
		/* five standard deviations of a binomial */
		CHECK(fabs(kept - 0.7 * n) <= 5.0 * sqrt(0.21 * n) + 0.5);
		memcpy(y, x, n * sizeof(float));
		dev->ops->dropout(dev, y, y, half, 1000, n);
		same("dropout in place", y, want, n, 1e-6);
		/* the mask belongs to the element's number, not to the call */
		dev->ops->dropout(dev, y, x, half, 1000, n / 2);
		dev->ops->dropout(dev, y + n / 2, x + n / 2, half, 1000 + n / 2, n - n / 2);
		same("dropout in two calls", y, want, n, 1e-6);
		dev->ops->dropout(dev, y, x, off, 0, n);
		same("dropout off", y, x, n, 0.0);
		drop(x);
		drop(y);
		drop(want);
	}
}

static void
test_adamw(DistilDevice *dev)
{
	DistilAdamW step = {.learning_rate = 1e-2f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f,
	.weight_decay = 0.1f, .gradient_scale = 0.5f};
	double		formula_w = 0.7,
				formula_m = 0.0,
				formula_v = 0.0;
	float		w1 = 0.7f,
				m1 = 0.0f,
				v1 = 0.0f;
	size_t		l;
	int			t;

	/* one weight by the formula of the paper, three steps */
	for (t = 1; t <= 3; t++)
	{
		float		g = 0.3f * t - 0.5f;
		double		scaled = 0.5 * g;

		step.correction1 = (float) (1.0 - pow(0.9, t));
		step.correction2 = (float) (1.0 - pow(0.999, t));
		dev->ops->adamw(dev, &w1, &m1, &v1, &g, &step, 1);
		formula_m = 0.9 * formula_m + 0.1 * scaled;
		formula_v = 0.999 * formula_v + 0.001 * scaled * scaled;
		formula_w -= 1e-2 * 0.1 * formula_w;
		formula_w -= 1e-2 * (formula_m / (1.0 - pow(0.9, t))) /
			(sqrt(formula_v / (1.0 - pow(0.999, t))) + 1e-8);
		CHECK_NEAR(w1, formula_w, 1e-6);
		CHECK_NEAR(m1, formula_m, 1e-7);
		CHECK_NEAR(v1, formula_v, 1e-8);
	}
	for (l = 0; l < LENGTHS; l++)
	{
		size_t		n = lengths[l];
		float	   *w = random_floats(n, 1.0);
		float	   *m = random_floats(n, 0.1);
		float	   *v = random_floats(n, 0.1);
		float	   *g = random_floats(n, 1.0);
		float	   *want_w = copy_floats(w, n);
		float	   *want_m,
				   *want_v;
		size_t		i;

		for (i = 0; i < n; i++)
			v[i] = fabsf(v[i]);
		want_m = copy_floats(m, n);
		want_v = copy_floats(v, n);
		dev->ops->adamw(dev, w, m, v, g, &step, n);
		ref->ops->adamw(ref, want_w, want_m, want_v, g, &step, n);
		same("adamw weights", w, want_w, n, 2e-6);
		same("adamw first moment", m, want_m, n, 1e-6);
		same("adamw second moment", v, want_v, n, 1e-6);
		drop(w), drop(m), drop(v), drop(g), drop(want_w), drop(want_m), drop(want_v);
	}
}

/* ---------- activations ---------- */

static void
test_activation(DistilDevice *dev)
{
	size_t		n = 4001;
	float	   *x = random_floats(n, 1.0);
	float	   *dy = random_floats(n, 1.0);
	float	   *got = unset_floats(n);
	float	   *want = unset_floats(n);
	size_t		i;
	int			act;

	for (i = 0; i < n; i++)
		x[i] = ((float) i - 2000.0f) * 0.006f;	/* -12 .. 12 */
	x[0] = -90.0f, x[1] = -200.0f, x[2] = 90.0f, x[3] = 1000.0f, x[4] = -1000.0f;
	for (act = DISTIL_ACT_NONE; act <= DISTIL_ACT_SIGMOID; act++)
	{
		double		tolerance = 3e-7;	/* erf, and half a unit in the last place of a result of 2 */

		dev->ops->activation_forward(dev, act, got, x, n);
		ref->ops->activation_forward(ref, act, want, x, n);
		for (i = 0; i < n; i++)
		{
			double		allowed = tolerance * fmax(1.0, fabs(x[i]));

			CHECK_MSG(fabs(got[i] - want[i]) <= allowed, "%s activation %d of %.9g is %.9g, expected %.9g\n",
					  under_test, act, x[i], got[i], want[i]);
		}
		memcpy(got, x, n * sizeof(float));
		dev->ops->activation_forward(dev, act, got, got, n);
		same("activation in place", got, want, n, 3e-4);	/* 1000 * 3e-7 */
		dev->ops->activation_backward(dev, act, got, dy, x, n);
		ref->ops->activation_backward(ref, act, want, dy, x, n);
		same("activation backward", got, want, n, 3e-6);
		memcpy(got, dy, n * sizeof(float));
		dev->ops->activation_backward(dev, act, got, got, x, n);
		same("activation backward in place", got, want, n, 3e-6);
		memcpy(got, nan_bits, sizeof(nan_bits));
		dev->ops->activation_forward(dev, act, got, got, NAN_KINDS + 3);
		for (i = 0; i < NAN_KINDS; i++)
			CHECK_MSG(isnan(got[i]), "%s activation %d loses NaN %x\n", under_test, act, nan_bits[i]);
	}
	drop(x), drop(dy), drop(got), drop(want);
}

/* ---------- linear ---------- */

static void
test_linear_shape(DistilDevice *dev, int m, int n, int k, int pad)
{
	size_t		ldx = k + pad,
				ldy = n + pad;
	size_t		nx = m * ldx,
				ny = m * ldy,
				nw = (size_t) n * k;
	float	   *x = random_floats(nx, 1.0);
	float	   *w = random_floats(nw, 1.0);
	float	   *b = random_floats(n, 1.0);
	float	   *y = random_floats(ny, 1.0);
	float	   *want = copy_floats(y, ny);
	float	   *dx = random_floats(nx, 1.0);
	float	   *want_dx = copy_floats(dx, nx);
	float	   *dw = random_floats(nw, 1.0);
	float	   *want_dw = copy_floats(dw, nw);
	float	   *db = copy_floats(b, n);
	float	   *want_db = copy_floats(b, n);
	int			act;

	for (act = DISTIL_ACT_NONE; act <= DISTIL_ACT_SIGMOID; act += 1)
	{
		const float *bias = (act + m) % 3 == 0 ? NULL : b;

		dev->ops->linear_forward(dev, y, ldy, x, ldx, w, bias, act, m, n, k);
		ref->ops->linear_forward(ref, want, ldy, x, ldx, w, bias, act, m, n, k);
		same("linear forward", y, want, ny, 2e-6 * sqrt(k) + 1e-6);
	}
	dev->ops->linear_backward_input(dev, dx, ldx, y, ldy, w, false, m, n, k);
	ref->ops->linear_backward_input(ref, want_dx, ldx, y, ldy, w, false, m, n, k);
	same("linear backward input", dx, want_dx, nx, 2e-6 * sqrt(n) + 1e-6);
	dev->ops->linear_backward_input(dev, dx, ldx, y, ldy, w, true, m, n, k);
	ref->ops->linear_backward_input(ref, want_dx, ldx, y, ldy, w, true, m, n, k);
	same("linear backward input +=", dx, want_dx, nx, 4e-6 * sqrt(n) + 1e-6);
	dev->ops->linear_backward_weight(dev, dw, db, y, ldy, x, ldx, m, n, k);
	ref->ops->linear_backward_weight(ref, want_dw, want_db, y, ldy, x, ldx, m, n, k);
	same("linear backward weight", dw, want_dw, nw, 2e-6 * sqrt(m) + 1e-6);
	/* a running sum of up to m values of one sign */
	same("linear backward bias", db, want_db, n, 1e-7 * m * sqrt(m) + 1e-6);
	dev->ops->linear_backward_weight(dev, dw, NULL, y, ldy, x, ldx, m, n, k);
	ref->ops->linear_backward_weight(ref, want_dw, NULL, y, ldy, x, ldx, m, n, k);
	same("linear backward weight again", dw, want_dw, nw, 4e-6 * sqrt(m) + 1e-6);
	drop(x), drop(w), drop(b), drop(y), drop(want), drop(dx), drop(want_dx);
	drop(dw), drop(want_dw), drop(db), drop(want_db);
}

static void
test_linear(DistilDevice *dev)
{
	static const int shapes[][3] = {
		{1, 1, 1}, {3, 17, 31}, {17, 33, 129}, {33, 129, 17}, {129, 31, 3}, {1, 129, 33}, {7, 400, 65}
	};
	size_t		i;

	for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
	{
		test_linear_shape(dev, shapes[i][0], shapes[i][1], shapes[i][2], 0);
		test_linear_shape(dev, shapes[i][0], shapes[i][1], shapes[i][2], 5);
	}
	/* more rows, columns and steps than one block of copies */
	test_linear_shape(dev, 530, 250, 37, 0);
	test_linear_shape(dev, 40, 70, 2060, 0);
	test_linear_shape(dev, 40, 2060, 70, 0);
	/* wide enough that rows are cut into blocks */
	test_linear_shape(dev, 150, 2100, 3, 0);
}

static float *
pack(const float *w, int n, int k)
{
	size_t		size = distil_packed_floats(n, k);
	float	   *packed = unset_floats(size);
	int			i;
	int			l;

	for (i = 0; i < n; i += DISTIL_PANEL)
		distil_pack_panel(packed + (size_t) i * k, w + (size_t) i * k, k,
						  n - i < DISTIL_PANEL ? n - i : DISTIL_PANEL, k);
	CHECK(packed[size] == GUARD);
	for (i = 0; i < n; i++)
		for (l = 0; l < k; l++)
			if (packed[distil_packed_index(i, l, k)] != w[(size_t) i * k + l])
				CHECK_MSG(false, "w[%d][%d] is not where it should be\n", i, l);
	for (i = n; i % DISTIL_PANEL != 0; i++)
		CHECK(packed[distil_packed_index(i, 0, k)] == 0.0f);
	return packed;
}

/* Packed weights against the reference with plain ones; the results' gaps stay as they were. */
static void
test_packed_shape(DistilDevice *dev, int m, int n, int k, int pad)
{
	size_t		ldx = k + pad,
				ldy = n + pad;
	size_t		ny = m * ldy;
	float	   *x = random_floats(m * ldx, 1.0);
	float	   *w = random_floats((size_t) n * k, 1.0);
	float	   *b = random_floats(n, 1.0);
	float	   *y = random_floats(ny, 1.0);
	float	   *want = copy_floats(y, ny);
	float	   *packed = pack(w, n, k);
	int			act;

	for (act = DISTIL_ACT_NONE; act <= DISTIL_ACT_SIGMOID; act += 1)
	{
		const float *bias = (act + m) % 3 == 0 ? NULL : b;

		dev->ops->linear_forward_packed(dev, y, ldy, x, ldx, packed, bias, act, m, n, k);
		ref->ops->linear_forward(ref, want, ldy, x, ldx, w, bias, act, m, n, k);
		same("packed linear", y, want, ny, 2e-6 * sqrt(k) + 1e-6);
	}
	drop(x), drop(w), drop(b), drop(y), drop(want), drop(packed);
}

/*
 * A row's result is the same bits whatever rows are computed with it and wherever it lies.
 * With own multiplication (all sets but the plain one) plain weights give the same bits too.
 */
static void
test_row_alone(DistilDevice *dev, int rows, int n, int k)
{
	bool		own = strcmp(dev->ops->name, "reference") == 0 || strstr(under_test, "avx") != NULL;
	float	   *x = random_floats((size_t) rows * k, 1.0);
	float	   *w = random_floats((size_t) n * k, 0.3);
	float	   *b = random_floats(n, 1.0);
	float	   *all = unset_floats((size_t) rows * n);
	float	   *part = unset_floats((size_t) rows * n);
	float	   *packed = pack(w, n, k);
	int			first;
	int			m;

	dev->ops->linear_forward_packed(dev, all, n, x, k, packed, b, DISTIL_ACT_GELU, rows, n, k);
	for (first = 0; first < rows; first += 1 + first / 3)
		for (m = 1; first + m <= rows; m += 1 + m / 4)
		{
			const float *from = x + (size_t) first * k;
			size_t		bytes = sizeof(float) * m * n;

			dev->ops->linear_forward_packed(dev, part, n, from, k, packed, b, DISTIL_ACT_GELU, m, n, k);
			CHECK_MSG(memcmp(part, all + (size_t) first * n, bytes) == 0,
					  "%s packed: rows %d .. %d alone differ\n", under_test, first, first + m);
			dev->ops->linear_forward(dev, part, n, from, k, w, b, DISTIL_ACT_GELU, m, n, k);
			CHECK_MSG(!own || memcmp(part, all + (size_t) first * n, bytes) == 0,
					  "%s plain: rows %d .. %d differ\n", under_test, first, first + m);
		}
	drop(x), drop(w), drop(b), drop(all), drop(part), drop(packed);
}

static void
test_packed(DistilDevice *dev)
{
	static const int shapes[][3] = {
		{1, 1, 1}, {3, 17, 31}, {17, 33, 129}, {33, 129, 17}, {12, 48, 5}, {9, 95, 33}, {7, 400, 65},
		{1, 300, 65}
	};
	size_t		i;

	if (dev->ops->linear_forward_packed == NULL)
		return;
	for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
	{
		test_packed_shape(dev, shapes[i][0], shapes[i][1], shapes[i][2], 0);
		test_packed_shape(dev, shapes[i][0], shapes[i][1], shapes[i][2], 5);
	}
	test_row_alone(dev, 70, 112, 96);
	test_row_alone(dev, 41, 77, 67);
	test_row_alone(dev, 5, 270, 40);
	/* longer than one block of copied steps: the parts of a sum meet in memory */
	if (strcmp(dev->ops->name, "reference") != 0)
		test_row_alone(dev, 35, 50, 2100);
}

/* ---------- norms ---------- */

/* Each row alone has the bits it has among others. */
static void
layernorm_alone(DistilDevice *dev, const float *all, const float *x, const float *residual,
				const float *gamma, const float *beta, float eps, int rows, int c)
{
	float	   *y = unset_floats(c);
	int			row;

	for (row = 0; row < rows; row++)
	{
		size_t		at = (size_t) row * c;

		dev->ops->layernorm_forward(dev, y, NULL, NULL, NULL, x + at, residual + at, gamma, beta, eps, 1, c);
		CHECK_MSG(memcmp(y, all + at, sizeof(float) * c) == 0,
				  "%s layernorm: row %d of %d of %d differs alone\n", under_test, row, rows, c);
	}
	drop(y);
}

static void
test_layernorm(DistilDevice *dev)
{
	size_t		l;
	int			rows = 5;

	for (l = 0; l < LENGTHS; l++)
	{
		int			c = (int) lengths[l];
		size_t		n = (size_t) rows * c;
		float	   *x = random_floats(n, 1.0);
		float	   *residual = random_floats(n, 1.0);
		float	   *gamma = random_floats(c, 2.0);
		float	   *beta = random_floats(c, 1.0);
		float	   *got[4] = {unset_floats(n), unset_floats(n), unset_floats(rows), unset_floats(rows)};
		float	   *want[4] = {unset_floats(n), unset_floats(n), unset_floats(rows), unset_floats(rows)};
		float	   *dg = random_floats(c, 1.0);
		float	   *want_dg = copy_floats(dg, c);
		float	   *db = random_floats(c, 1.0);
		float	   *want_db = copy_floats(db, c);
		float	   *dx = unset_floats(n);
		float	   *want_dx = unset_floats(n);
		float		eps = 1e-3f;	/* with c = 1 the variance is 0: then all rests on this */
		double		t = 3e-6;
		int			i;

		dev->ops->layernorm_forward(dev, got[0], got[1], got[2], got[3], x, residual, gamma, beta,
									eps, rows, c);
		ref->ops->layernorm_forward(ref, want[0], want[1], want[2], want[3], x, residual, gamma, beta,
									eps, rows, c);
		layernorm_alone(dev, got[0], x, residual, gamma, beta, eps, rows, c);
		same("layernorm", got[0], want[0], n, c == 1 ? 1e-5 : t);
		same("layernorm sum", got[1], want[1], n, 0.0);
		same("layernorm mean", got[2], want[2], rows, 3e-7);
		same("layernorm rstd", got[3], want[3], rows, 1e-5 * want[3][0]);
		dev->ops->layernorm_backward(dev, dx, dg, db, want[0], want[1], want[2], want[3], gamma, rows, c);
		ref->ops->layernorm_backward(ref, want_dx, want_dg, want_db, want[0], want[1], want[2], want[3],
									 gamma, rows, c);
		same("layernorm dx", dx, want_dx, n, 1e-5 * want[3][0]);
		same("layernorm dgamma", dg, want_dg, c, 2e-5);
		same("layernorm dbeta", db, want_db, c, 1e-5);
		/* without saved values, without residual, and all allowed aliases */
		for (i = 0; i < 2; i++)
		{
			const float *r = i == 0 ? residual : NULL;

			ref->ops->layernorm_forward(ref, want[0], want[1], NULL, NULL, x, r, gamma, beta, eps, rows, c);
			dev->ops->layernorm_forward(dev, dx, NULL, NULL, NULL, x, r, gamma, beta, eps, rows, c);
			same("layernorm unsaved", dx, want[0], n, c == 1 ? 1e-5 : t);
			memcpy(dx, x, n * sizeof(float));
			dev->ops->layernorm_forward(dev, dx, NULL, NULL, NULL, dx, r, gamma, beta, eps, rows, c);
			same("layernorm y = x", dx, want[0], n, c == 1 ? 1e-5 : t);
			memcpy(dx, x, n * sizeof(float));
			dev->ops->layernorm_forward(dev, got[0], dx, got[2], got[3], dx, r, gamma, beta, eps, rows, c);
			same("layernorm sum = x", got[0], want[0], n, c == 1 ? 1e-5 : t);
			same("layernorm sum = x, sum", dx, want[1], n, 0.0);
			memcpy(dx, residual, n * sizeof(float));
			dev->ops->layernorm_forward(dev, dx, got[1], got[2], got[3], x, i == 0 ? dx : NULL,
										gamma, beta, eps, rows, c);
			same("layernorm y = residual", dx, want[0], n, c == 1 ? 1e-5 : t);
		}
		for (i = 0; i < 4; i++)
			drop(got[i]), drop(want[i]);
		drop(x), drop(residual), drop(gamma), drop(beta), drop(dg), drop(want_dg), drop(db), drop(want_db);
		drop(dx), drop(want_dx);
	}
}

static void
test_normalize(DistilDevice *dev)
{
	size_t		l;
	int			rows = 4;

	for (l = 0; l < LENGTHS; l++)
	{
		int			c = (int) lengths[l];
		size_t		n = (size_t) rows * c;
		float	   *x = random_floats(n, 1.0);
		float	   *dy = random_floats(n, 1.0);
		float	   *y = unset_floats(n);
		float	   *want = unset_floats(n);
		float	   *norm = unset_floats(rows);
		float	   *want_norm = unset_floats(rows);
		double		t;
		int			i;

		memset(x, 0, c * sizeof(float));	/* a zero row stays zero */
		dev->ops->normalize_forward(dev, y, norm, x, rows, c);
		ref->ops->normalize_forward(ref, want, want_norm, x, rows, c);
		same("normalize", y, want, n, 3e-7);
		same("normalize norm", norm, want_norm, rows, 3e-7 * sqrt(c));
		memcpy(y, x, n * sizeof(float));
		dev->ops->normalize_forward(dev, y, NULL, y, rows, c);
		same("normalize in place", y, want, n, 3e-7);
		for (i = 0; i < c; i++)
			dy[i] *= 1e-12f;	/* divided by the floor */
		dev->ops->normalize_backward(dev, y, dy, want, want_norm, rows, c);
		t = 3e-6;
		for (i = 1; i < rows; i++)
			t = fmax(t, 3e-6 / want_norm[i]);
		ref->ops->normalize_backward(ref, x, dy, want, want_norm, rows, c);
		same("normalize backward", y, x, n, t);
		drop(x), drop(dy), drop(y), drop(want), drop(norm), drop(want_norm);
	}
}

/* ---------- tables ---------- */

static void
test_tables(DistilDevice *dev)
{
	size_t		l;
	int			t = 37,
				nwords = 11,
				npositions = 40,
				ntypes = 2;

	for (l = 0; l < LENGTHS; l++)
	{
		int			c = (int) lengths[l];
		size_t		n = (size_t) t * c;
		int32_t    *ids = random_ints(t, nwords);
		int32_t    *positions = random_ints(t, npositions);
		int32_t    *types = random_ints(t, ntypes);
		size_t		sizes[3] = {(size_t) nwords * c, (size_t) npositions * c, (size_t) ntypes * c};
		float	   *table[3] = {random_floats(sizes[0], 1.0), random_floats(sizes[1], 1.0),
		random_floats(sizes[2], 1.0)};
		float	   *mine[3] = {copy_floats(table[0], sizes[0]), copy_floats(table[1], sizes[1]),
		copy_floats(table[2], sizes[2])};
		float	   *y = unset_floats(n);
		float	   *want = unset_floats(n);
		int			i;

		dev->ops->embedding_forward(dev, y, ids, positions, types, table[0], table[1], table[2], t, c);
		ref->ops->embedding_forward(ref, want, ids, positions, types, table[0], table[1], table[2], t, c);
		same("embedding", y, want, n, 5e-7);
		dev->ops->embedding_forward(dev, y, ids, NULL, NULL, table[0], NULL, NULL, t, c);
		ref->ops->embedding_forward(ref, want, ids, NULL, NULL, table[0], NULL, NULL, t, c);
		same("embedding, words only", y, want, n, 0.0);
		dev->ops->embedding_forward(dev, y, ids, positions, NULL, table[0], table[1], NULL, t, c);
		ref->ops->embedding_forward(ref, want, ids, positions, NULL, table[0], table[1], NULL, t, c);
		same("embedding, no types", y, want, n, 3e-7);
		dev->ops->gather_rows(dev, y, table[0], ids, t, c);
		ref->ops->gather_rows(ref, want, table[0], ids, t, c);
		same("gather", y, want, n, 0.0);
		dev->ops->embedding_backward(dev, mine[0], mine[1], mine[2], y, ids, positions, types, t, c);
		ref->ops->embedding_backward(ref, table[0], table[1], table[2], y, ids, positions, types, t, c);
		dev->ops->embedding_backward(dev, mine[0], NULL, NULL, y, ids, NULL, NULL, t, c);
		ref->ops->embedding_backward(ref, table[0], NULL, NULL, y, ids, NULL, NULL, t, c);
		dev->ops->scatter_add_rows(dev, mine[1], y, positions, t, c);
		ref->ops->scatter_add_rows(ref, table[1], y, positions, t, c);
		/* the same additions in the same order */
		same("embedding words", mine[0], table[0], sizes[0], 0.0);
		same("embedding positions", mine[1], table[1], sizes[1], 0.0);
		same("embedding types", mine[2], table[2], sizes[2], 0.0);
		for (i = 0; i < 3; i++)
			drop(table[i]), drop(mine[i]);
		drop(ids), drop(positions), drop(types), drop(y), drop(want);
	}
}

static void
test_device(DistilDevice *dev)
{
	test_flat(dev);
	test_dropout(dev);
	test_adamw(dev);
	test_activation(dev);
	test_linear(dev);
	test_packed(dev);
	test_layernorm(dev);
	test_normalize(dev);
	test_tables(dev);
}

int
main(void)
{
	if (!open_reference())
		return check_report("kernels");
	on_every_device(test_device);
	on_every_accelerator(test_device);
	ref->ops->close(ref);
	return check_report("kernels");
}
