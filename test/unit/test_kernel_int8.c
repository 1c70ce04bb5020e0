/*
 * test_kernel_int8.c
 *		8-bit linear layers of every instruction set of this machine against the reference.
 *
 * Sums of products are exact, so that only what follows them differs: scale * sum + bias in
 * float32, at most four roundings of terms no larger than |scale sum| + |scale zero sum(w)|
 * + |bias|, 3e-7 of that; bfloat16 rounds twice by 2^-8.  In front of eight bits GELU is within 1.2e-3,
 * where it is made of lines within 3e-4.  The instruction sets must agree with themselves to the bit,
 * whatever rows are multiplied together.
 */
#include "kernel_int8.h"

/* The largest of the terms that make element (i, j). */
static double
term_size(const DistilRows *x, const DistilWeight *w, int i, int j)
{
	double		sum = 0.0;
	int			l;

	for (l = 0; l < w->k; l++)
		sum += row_value(x, i, l) * w->scale[j] *
			((const int8_t *) w->data)[distil_weight_index(DISTIL_TYPE_INT8, j, l, w->k)];
	return fabs(sum) + 2.0 * fabs((double) x->scale[i] * x->zero[i] * w->scale[j] * w->sum[j]) +
		(w->bias != NULL ? fabs(w->bias[j]) : 0.0);
}

static void
check_linear(DistilDevice *dev, const DistilRows *x, const DistilWeight *w, DistilType type,
			 DistilActivation act, int m)
{
	DistilRows	got = make_rows(type, m, w->n);
	DistilRows	want = make_rows(type, m, w->n);
	size_t		size = distil_type_size(type);
	size_t		filled = type == DISTIL_TYPE_BF16 ? distil_row_length(type, w->n) : (size_t) w->n;
	double		worst = 0.0;
	bool		kept = true;
	int			i,
				j;

	dev->ops->linear_rows(dev, &got, x, w, act, m);
	ref->ops->linear_rows(ref, &want, x, w, act, m);
	for (i = 0; i < m; i++)
	{
		const uint8_t *row = (const uint8_t *) got.data + (size_t) i * got.ld * size;

		for (j = 0; j < w->n; j++)
		{
			double		expected = row_value(&want, i, j);
			double		error = fabs(row_value(&got, i, j) - expected);
			double		bound = 3e-7 * term_size(x, w, i, j) + 1e-6;

			if (type == DISTIL_TYPE_BF16)
				bound += fabs(expected) / 128.0;
			if (!(error / bound <= worst))
				worst = error / bound;
		}
		for (j = w->n; (size_t) j < filled; j++)
			kept = kept && row_value(&got, i, j) == 0.0;
		for (size_t byte = filled * size; byte < got.ld * size; byte++)
			kept = kept && row[byte] == POISON;
	}
	CHECK_MSG(worst <= 1.0, "%s, %d x %d x %d, activation %d: %.3g of the allowed error\n", under_test, m,
			  w->n, w->k, act, worst);
	CHECK_MSG(kept, "%s, %d x %d x %d wrote beside its columns\n", under_test, m, w->n, w->k);
	drop_rows(&got);
	drop_rows(&want);
}

/* Row i alone has the bits it has among others. */
static void
check_alone(DistilDevice *dev, const DistilRows *x, const DistilWeight *w, int m)
{
	DistilRows	all = make_rows(DISTIL_TYPE_BF16, m, w->n);
	DistilRows	one = make_rows(DISTIL_TYPE_BF16, 1, w->n);
	int			i;
	bool		equal = true;

	dev->ops->linear_rows(dev, &all, x, w, DISTIL_ACT_GELU, m);
	for (i = 0; i < m; i++)
	{
		DistilRows	row = {DISTIL_TYPE_INT8, (uint8_t *) x->data + (size_t) i * x->ld, x->ld, x->scale + i,
		x->zero + i, NULL};

		dev->ops->linear_rows(dev, &one, &row, w, DISTIL_ACT_GELU, 1);
		equal = equal && memcmp(one.data, (uint16_t *) all.data + (size_t) i * all.ld,
								w->n * sizeof(uint16_t)) == 0;
	}
	CHECK_MSG(equal, "%s, %d x %d x %d: a row depends on the others\n", under_test, m, w->n, w->k);
	drop_rows(&all);
	drop_rows(&one);
}

static void
test_linear(DistilDevice *dev)
{
	static const int shapes[][3] = {
		{1, 1, 1}, {1, 16, 64}, {2, 17, 3}, {3, 33, 65}, {5, 48, 130}, {15, 31, 63}, {16, 32, 64},
		{17, 64, 384},
		{31, 96, 100}, {32, 40, 128}, {33, 70, 1}, {47, 16, 200}, {48, 100, 257}, {65, 33, 96}, {35, 96, 384},
		{515, 17, 64}, {70, 18, 1540}, {20, 16, 4200}, {35, 9, 9000}, {5, 17, 65536}, {7, 16, 70000},
		{13, 3, 131072},
	};
	static const DistilActivation acts[] = {DISTIL_ACT_NONE, DISTIL_ACT_GELU, DISTIL_ACT_RELU,
	DISTIL_ACT_TANH};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
	{
		int			m = shapes[i][0];
		int			k = shapes[i][2];
		DistilWeight w = random_weight(shapes[i][1], k, i % 3 != 0);
		DistilRows	source = random_rows(i % 2 == 0 ? DISTIL_TYPE_F32 : DISTIL_TYPE_BF16, m, k);
		DistilRows	x = make_rows(DISTIL_TYPE_INT8, m, k);

		dev->ops->quantize_rows(dev, &x, &source, DISTIL_ACT_NONE, m, k);
		for (int ordered = 0; ordered < (k <= DISTIL_ORDER_INPUTS ? 2 : 1); ordered++)
		{
			for (size_t a = 0; a < (i < 8 ? sizeof(acts) / sizeof(acts[0]) : 2); a++)
			{
				check_linear(dev, &x, &w, DISTIL_TYPE_F32, acts[a], m);
				check_linear(dev, &x, &w, DISTIL_TYPE_BF16, acts[a], m);
			}
			check_alone(dev, &x, &w, m);
			if (ordered == 0)
				order_weight(&w);
		}
		drop_rows(&x);
		drop_rows(&source);
		drop_weight(&w);
	}
}

/*
 * Products whose sums leave 16 bits soonest: rows of 255 and of 255 and 0 in turn, alone and in pairs; two
 * weights that do not stay within, two that just do and four that just do, for eight columns each, their
 * signs the same or in turn.
 */
static void
test_largest(DistilDevice *dev)
{
	static const int shapes[][3] = {{1, 16, 64}, {7, 33, 130}, {40, 49, 1536}, {70, 17, 384}, {31, 16, 4160}};
	static const int within[][2] = {
		{64, 64}, {-64, -64}, {127, 1}, {-1, -127}, {127, -128}, {-128, 127}, {0, 127}
	};
	static const int beyond[][2] = {
		{127, 127}, {-128, -128}, {65, 64}, {-64, -65}, {127, 2}, {-2, -127}, {64, 64}
	};
	static const int paired[][2] = {{32, 32}, {-32, -32}, {64, 0}, {0, -64}, {63, 1}, {-1, -63}, {64, -64}};
	static const int (*const kinds[])[2] = {beyond, within, paired};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
	{
		int			m = shapes[i][0];
		int			n = shapes[i][1];
		int			k = shapes[i][2];
		DistilWeight w = random_weight(n, k, true);
		DistilRows	x = make_rows(DISTIL_TYPE_INT8, m, k);

		for (int row = 0; row < m; row++)
		{
			uint8_t    *to = (uint8_t *) x.data + (size_t) row * x.ld;

			memset(to, 0, distil_row_length(DISTIL_TYPE_INT8, k));
			x.scale[row] = 0.01f;
			for (int l = 0; l < k; l++)
				to[l] = row % 3 == 0 || l / (row % 3) % 2 == 0 ? 255 : 0;
		}
		for (int j = 0; j < n; j++)
		{
			((int32_t *) w.sum)[j] = 0;
			for (int l = 0; l < k; l++)
			{
				int			sign = j % 5 == 0 && l / 2 % 2 == 0 ? -1 : 1;
				int			q = sign * kinds[j / 8 % 3][j % 7][l % 2];

				q = q > INT8_MAX ? INT8_MAX : q;
				((int8_t *) w.data)[distil_weight_index(DISTIL_TYPE_INT8, j, l, k)] = (int8_t) q;
				((int32_t *) w.sum)[j] += q;
			}
		}
		check_linear(dev, &x, &w, DISTIL_TYPE_F32, DISTIL_ACT_NONE, m);
		check_alone(dev, &x, &w, m);
		order_weight(&w);
		check_linear(dev, &x, &w, DISTIL_TYPE_F32, DISTIL_ACT_NONE, m);
		check_alone(dev, &x, &w, m);
		drop_rows(&x);
		drop_weight(&w);
	}
}

/*
 * With AMX, rows of bfloat16 become half floats first: the value, its factor and their product are each
 * rounded by 2^-12, GELU's polynomial somewhat more; what is too small for a half is less than a 64th of a
 * step.
 */
static bool
through_halves(const DistilRows *source, DistilActivation act)
{
	return strcmp(under_test, "cpu/amx") == 0 && source->type == DISTIL_TYPE_BF16 &&
		(act == DISTIL_ACT_NONE || act == DISTIL_ACT_GELU);
}

/* GELU is a table of lines in the sets that quantise with AVX-512. */
static bool
has_lines(void)
{
	return strncmp(under_test, "cpu/avx512_", 11) == 0 || strncmp(under_test, "cpu/amx", 7) == 0;
}

/*
 * How far from GELU(x) what is quantised may be.  The first line goes through 0, where GELU(x) is
 * x/2 + 0.4 x^2: small values are off by a 78th.
 */
static double
gelu_allowed(const DistilRows *source, double x)
{
	if (!has_lines() || through_halves(source, DISTIL_ACT_GELU))
		return 1.2e-3;
	return fmin(3e-4, 0.0128 * fabs(x));
}

/* Each activated value (times its column's factor) within half a step, nought exactly nought. */
static void
check_steps(const DistilRows *rows, const DistilRows *source, DistilActivation act, int m, int c)
{
	const float *factor = rows->factor;
	float	   *want = random_floats(c, 1.0);
	double		relative = through_halves(source, act) ? 1.0 / 512.0 : 0.0;
	double		worst = 0.0;
	bool		nought = true;
	int			i,
				j;

	for (i = 0; i < m; i++)
	{
		for (j = 0; j < c; j++)
			want[j] = (float) row_value(source, i, j);
		ref->ops->activation_forward(ref, act, want, want, c);
		for (j = 0; j < c; j++)
		{
			float		times = factor != NULL ? factor[j] : 1.0f;
			double		allowed = (relative + 1e-6) * fabs(want[j] * times);
			double		error;

			if (act != DISTIL_ACT_NONE)
				allowed += act == DISTIL_ACT_GELU
					? gelu_allowed(source, row_value(source, i, j)) * fabs(times) : 1e-6;
			error = (fabs(row_value(rows, i, j) - want[j] * times) - allowed) / rows->scale[i];

			if (!(error <= worst))
				worst = error;
		}
		for (; (size_t) j < distil_row_length(DISTIL_TYPE_INT8, c); j++)
			nought = nought && row_value(rows, i, j) == 0.0;
	}
	worst -= relative > 0.0 ? 1.0 / 64.0 : 0.0;
	CHECK_MSG(worst <= 0.5001, "%s, %d columns, activation %d: %.6f steps\n", under_test, c, act, worst);
	CHECK(nought);
	drop(want);
}

/* A row alone has the bits it has among others. */
static void
check_staged_alone(DistilDevice *dev, const DistilRows *rows, const DistilRows *source, DistilActivation act,
				   int m, int c)
{
	size_t		size = distil_type_size(source->type);
	DistilRows	one = make_rows(DISTIL_TYPE_INT8, 1, c);
	bool		equal = true;
	int			i;

	one.factor = rows->factor;
	for (i = 0; i < m; i++)
	{
		DistilRows	row = {.type = source->type,
		.data = (char *) source->data + (size_t) i * source->ld * size,
		.ld = source->ld};

		dev->ops->quantize_rows(dev, &one, &row, act, 1, c);
		equal = equal && one.scale[0] == rows->scale[i] && one.zero[0] == rows->zero[i] &&
			memcmp(one.data, (uint8_t *) rows->data + (size_t) i * rows->ld, c) == 0;
	}
	CHECK(equal);
	drop_rows(&one);
}

static void
test_quantize(DistilDevice *dev)
{
	static const int widths[] = {1, 3, 15, 16, 17, 64, 65, 384, 1000, 131072};
	static const DistilActivation acts[] = {DISTIL_ACT_NONE, DISTIL_ACT_GELU, DISTIL_ACT_SIGMOID,
	DISTIL_ACT_SILU};

	for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++)
	{
		int			m = widths[i] > 1000 ? 4 : 9;
		int			c = widths[i];
		DistilRows	source = random_rows(i % 2 == 0 ? DISTIL_TYPE_F32 : DISTIL_TYPE_BF16, m, c);
		DistilRows	rows = make_rows(DISTIL_TYPE_INT8, m, c);
		float	   *factor = random_floats(c, 2.0);

		if (source.type == DISTIL_TYPE_F32)
			memset((float *) source.data + 2 * source.ld, 0, c * sizeof(float));
		for (size_t a = 0; a < 2 * sizeof(acts) / sizeof(acts[0]); a++)
		{
			rows.factor = a % 2 == 0 ? NULL : factor;
			dev->ops->quantize_rows(dev, &rows, &source, acts[a / 2], m, c);
			check_steps(&rows, &source, acts[a / 2], m, c);
			check_staged_alone(dev, &rows, &source, acts[a / 2], m, c);
		}
		if (source.type == DISTIL_TYPE_F32)
		{
			((float *) source.data)[source.ld + c / 2] = i % 4 == 0 ? NAN : INFINITY;
			dev->ops->quantize_rows(dev, &rows, &source, DISTIL_ACT_NONE, m, c);
			CHECK(isnan(rows.scale[1]) && isfinite(rows.scale[0]) && isfinite(rows.scale[2]));
		}
		else
		{
			((uint16_t *) source.data)[source.ld + c / 2] = distil_bf16(i % 4 == 1 ? NAN : INFINITY);
			dev->ops->quantize_rows(dev, &rows, &source, DISTIL_ACT_GELU, m, c);
			CHECK(isnan(rows.scale[1]) && isfinite(rows.scale[0]) && isfinite(rows.scale[2]));
		}
		drop(factor);
		drop_rows(&rows);
		drop_rows(&source);
	}
}

/* Rows of one sign (GELU's own range is small for negative ones), of any size; factors of any size. */
static void
test_range(DistilDevice *dev)
{
	static const double sizes[] = {
		4.0, -4.0, -1.0, -60.0, 1e-29, 2.5e-5, 3e-3, 0.02, 200.0, -300.0, 7e4, 1e20
	};
	static const double spread[] = {0.0, 3.0, 8.0, 12.0, 30.0};
	static const DistilActivation acts[] = {DISTIL_ACT_NONE, DISTIL_ACT_GELU};
	int			m = (int) (sizeof(sizes) / sizeof(sizes[0]));
	int			c = 200;
	DistilRows	source = make_rows(DISTIL_TYPE_BF16, m, c);
	DistilRows	rows = make_rows(DISTIL_TYPE_INT8, m, c);
	float	   *factor = unset_floats(c);

	for (int i = 0; i < m; i++)
		for (int j = 0; j < c; j++)
		{
			double		part = j % 2 == 0 ? uniform() : exp(-12.0 * uniform());

			((uint16_t *) source.data)[(size_t) i * source.ld + j] = distil_bf16((float) (sizes[i] * part));
		}
	for (size_t i = 0; i < 2 * sizeof(spread) / sizeof(spread[0]); i++)
	{
		for (int j = 0; j < c; j++)
			factor[j] = (float) exp(spread[i / 2] * (2.0 * uniform() - 1.0));
		rows.factor = i / 2 == 0 ? NULL : factor;
		dev->ops->quantize_rows(dev, &rows, &source, acts[i % 2], m, c);
		check_steps(&rows, &source, acts[i % 2], m, c);
		check_staged_alone(dev, &rows, &source, acts[i % 2], m, c);
	}
	drop(factor);
	drop_rows(&rows);
	drop_rows(&source);
}

/* Row i has value [i] in one column, another one from row to row, and zeros. */
static DistilRows
single_values(DistilType type, const float *value, int m, int c)
{
	DistilRows	rows = make_rows(type, m, c);
	int			i;

	memset(rows.data, 0, distil_rows_elements(type, m, c) * distil_type_size(type));
	for (i = 0; i < m; i++)
	{
		if (type == DISTIL_TYPE_F32)
			((float *) rows.data)[i * rows.ld + i % c] = value[i];
		else
			((uint16_t *) rows.data)[i * rows.ld + i % c] = distil_bf16(value[i]);
	}
	return rows;
}

/*
 * GELU of single values: each is then 254 of its row's steps, so that nothing of it is lost in eight bits.
 * Where `exact`, it has to be x or 0 itself.
 */
static void
check_single_gelu(DistilDevice *dev, DistilType type, const float *value, int m, int c, bool exact)
{
	DistilRows	source = single_values(type, value, m, c);
	DistilRows	rows = make_rows(DISTIL_TYPE_INT8, m, c);
	double		bound = has_lines() ? 3e-4 : 1.2e-3;
	double		worst = 0.0;
	double		where = 0.0;
	int			wrong = 0;
	int			i;

	dev->ops->quantize_rows(dev, &rows, &source, DISTIL_ACT_GELU, m, c);
	for (i = 0; i < m; i++)
	{
		double		x = row_value(&source, i, i % c);
		double		want = 0.5 * x * erfc(-x * sqrt(0.5));
		double		got = row_value(&rows, i, i % c);
		double		error = fabs(got - want) - 1e-6 * fabs(want);

		if (!(error <= worst) && !isnan(worst))
		{
			worst = error;
			where = x;
		}
		if (exact && (x > 0.0 ? !(fabs(got - x) <= 2e-7 * x) : got != 0.0 || rows.scale[i] != 1.0f))
			wrong++;
	}
	CHECK_MSG(worst <= bound, "%s, %d columns of type %d: gelu(%g) is off by %g\n", under_test, c, (int) type,
			  where, worst);
	CHECK_MSG(wrong == 0, "%s, %d columns of type %d: gelu is not exact in %d rows\n", under_test, c,
			  (int) type, wrong);
	drop_rows(&source);
	drop_rows(&rows);
}

/* A value that is not finite is found in every column, and in its row only. */
static void
check_broken_gelu(DistilDevice *dev, DistilType type, int c)
{
	static const float broken[] = {NAN, INFINITY, -INFINITY, -NAN};
	int			m = 8 * c;
	float	   *value = unset_floats(m);
	DistilRows	source;
	DistilRows	rows = make_rows(DISTIL_TYPE_INT8, m, c);
	int			missed = 0;
	int			i;

	for (i = 0; i < m; i++)
		value[i] = (i / c + i % c) % 2 == 0 ? broken[i / c / 2] : (float) i;
	source = single_values(type, value, m, c);
	dev->ops->quantize_rows(dev, &rows, &source, DISTIL_ACT_GELU, m, c);
	for (i = 0; i < m; i++)
		missed += !isnan(rows.scale[i]) != !isnan(value[i] - value[i]);
	CHECK_MSG(missed == 0, "%s, %d columns of type %d: %d of %d rows are wrong\n", under_test, c, (int) type,
			  missed, m);
	drop(value);
	drop_rows(&source);
	drop_rows(&rows);
}

/* Densely where GELU is neither 0 nor x, and far beyond; whole vectors, parts of one, and pairs. */
static void
test_gelu(DistilDevice *dev)
{
	static const struct
	{
		DistilType	type;
		int			c;
	}			shapes[] = {
		{DISTIL_TYPE_F32, 48}, {DISTIL_TYPE_F32, 1}, {DISTIL_TYPE_F32, 17}, {DISTIL_TYPE_BF16, 64},
		{DISTIL_TYPE_BF16, 19}
	};
	static const float beyond[] = {
		0.0f, -0.0f, 4.0f, -4.0f, 6.5f, -6.5f, 100.0f, -100.0f, 3e4f, -3e4f, 1e9f, -1e9f, 1e30f, -1e30f
	};
	int			m = 12 * 2048 + 1;
	float	   *value = unset_floats(m);

	for (int i = 0; i < m; i++)
		value[i] = -6.0f + (float) i / 2048.0f;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
	{
		DistilRows	source = {.type = shapes[i].type};

		if (through_halves(&source, DISTIL_ACT_GELU))
			continue;			/* a polynomial of halves: see check_steps */
		check_single_gelu(dev, shapes[i].type, value, m, shapes[i].c, false);
		if (has_lines())
			check_single_gelu(dev, shapes[i].type, beyond, (int) (sizeof(beyond) / sizeof(beyond[0])),
							  shapes[i].c, true);
		check_broken_gelu(dev, shapes[i].type, shapes[i].c);
	}
	drop(value);
}

/* The float32 rows are those of layernorm_forward, the others are they in steps. */
static void
test_norm(DistilDevice *dev)
{
	static const int widths[] = {1, 17, 64, 100, 384};

	for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++)
	{
		int			m = 5;
		int			c = widths[i];
		float	   *x = random_floats((size_t) m * c, 3.0);
		float	   *residual = random_floats((size_t) m * c, 1.0);
		float	   *gamma = random_floats(c, 1.0);
		float	   *beta = random_floats(c, 1.0);
		float	   *factor = random_floats(c, 2.0);
		float	   *y = unset_floats((size_t) m * c);
		float	   *want = unset_floats((size_t) m * c);
		DistilRows	low = make_rows(DISTIL_TYPE_INT8, m, c);
		DistilRows	full = {DISTIL_TYPE_F32, y, c, NULL, NULL, NULL};

		low.factor = i % 2 == 0 ? factor : NULL;
		dev->ops->norm_rows(dev, y, &low, x, i % 2 == 0 ? residual : NULL, gamma, beta, 1e-5f, m, c);
		ref->ops->layernorm_forward(ref, want, NULL, NULL, NULL, x, i % 2 == 0 ? residual : NULL, gamma, beta,
									1e-5f, m, c);
		same("norm_rows", y, want, (size_t) m * c, 1e-4);	/* few columns: 1 / sqrt(variance) is large */
		check_steps(&low, &full, DISTIL_ACT_NONE, m, c);
		drop(x);
		drop(residual);
		drop(gamma);
		drop(beta);
		drop(factor);
		drop(y);
		drop(want);
		drop_rows(&low);
	}
}

static void
test_int8(DistilDevice *dev)
{
	CHECK(dev->ops->has_type(dev, DISTIL_TYPE_INT8));
	test_quantize(dev);
	test_range(dev);
	test_gelu(dev);
	test_norm(dev);
	test_linear(dev);
	test_largest(dev);
}

int
main(void)
{
	if (!open_reference())
		return check_report("test_kernel_int8");
	on_every_rows_device(test_int8);
	ref->ops->close(ref);
	return check_report("test_kernel_int8");
}
