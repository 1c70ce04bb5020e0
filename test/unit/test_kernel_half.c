/*
 * test_kernel_half.c
 *		Layers with activations in bfloat16: every device that has them against the float32 operations of the
 *		reference (double sums) on the same numbers, at odd sizes and at those that vectors take.
 *
 * Tolerances: a stored result is the nearest number of 8 bits, which is within 2^-9 of it; UNIT allows twice
 * that.  What else a device rounds on the way is said at each test.
 */
#include "kernel_samples.h"

#define UNIT (1.0 / 256)

static DistilDevice *dev;

/* ---------- arrays: host float32 that bfloat16 holds, and the device's copy ---------- */

static float *
samples(size_t n, double size)
{
	float	   *x = random_floats(n, size);
	size_t		i;

	for (i = 0; i < n; i++)
		x[i] = distil_bf16_float(distil_bf16(x[i]));
	return x;
}

static void *
on_device(const void *x, size_t bytes)
{
	void	   *memory = dev->ops->alloc(dev, bytes);

	CHECK(memory != NULL);
	if (memory == NULL)
		exit(1);
	dev->ops->copy_in(dev, memory, x, bytes);
	return memory;
}

static uint16_t *
half(const float *x, size_t n)
{
	uint16_t   *host = malloc((n + 1) * sizeof(uint16_t));
	uint16_t   *memory;
	size_t		i;

	for (i = 0; i < n; i++)
		host[i] = distil_bf16(x[i]);
	host[n] = 0x1234;			/* guard */
	memory = on_device(host, (n + 1) * sizeof(uint16_t));
	free(host);
	return memory;
}

static float *
full(const float *x, size_t n)
{
	return on_device(x, n * sizeof(float));
}

/* Results as float32, back from the device, whose memory is given back. */
static float *
take_half(uint16_t *from, size_t n)
{
	uint16_t   *host = malloc((n + 1) * sizeof(uint16_t));
	float	   *x = random_floats(n, 0.0);
	size_t		i;

	dev->ops->copy_out(dev, host, from, (n + 1) * sizeof(uint16_t));
	for (i = 0; i < n; i++)
		x[i] = distil_bf16_float(host[i]);
	CHECK_MSG(host[n] == 0x1234, "%s wrote beyond its results\n", under_test);
	free(host);
	dev->ops->release(dev, from);
	return x;
}

static float *
take_full(float *from, size_t n)
{
	float	   *x = random_floats(n, 0.0);

	dev->ops->copy_out(dev, x, from, n * sizeof(float));
	dev->ops->release(dev, from);
	return x;
}

/* |got - want| <= relative |want| + absolute; frees both. */
static void
near(const char *what, float *got, float *want, size_t n, double relative, double absolute)
{
	size_t		i;

	for (i = 0; i < n && fabs((double) got[i] - want[i]) <= relative * fabs((double) want[i]) + absolute; i++)
		;
	CHECK_MSG(i == n, "%s %s: element %zu of %zu is %.9g, expected %.9g\n", under_test, what, i, n, got[i],
			  want[i]);
	drop(got), drop(want);
}

/* ---------- products ---------- */

/*
 * Sums of k products of size 1/4: float32 in any order loses k 2^-22 at most.  An activation may be that of
 * the rounded number: 2^-9 of it, times a slope of at most 1.13.
 */
static void
test_forward(int m, int n, int k, int pad, DistilActivation act, bool with_before)
{
	size_t		ldy = (size_t) (n + pad);
	size_t		mn = (size_t) m * n;
	float	   *x = samples((size_t) m * k, 1.0);
	float	   *w = samples((size_t) n * k, 1.0);
	float	   *b = samples(n, 1.0);
	float	   *old = samples((size_t) m * ldy, 1.0);
	float	   *want = unset_floats(mn);
	float	   *want_y = copy_floats(old, (size_t) m * ldy);
	uint16_t   *dx = half(x, (size_t) m * k);
	uint16_t   *dw = half(w, (size_t) n * k);
	uint16_t   *db = half(b, n);
	uint16_t   *y = half(old, (size_t) m * ldy);
	uint16_t   *before = with_before ? half(old, mn) : NULL;
	double		most = 0;
	size_t		i;

	ref->ops->linear_forward(ref, want, n, x, k, w, b, DISTIL_ACT_NONE, m, n, k);
	for (i = 0; i < mn; i++)
	{
		float	   *to = want_y + i / n * ldy + i % n;

		ref->ops->activation_forward(ref, act, to, want + i, 1);
		most = check_worse(most, fabs((double) want[i]));
	}
	dev->ops->half->linear_forward(dev, y, ldy, before, dx, dw, db, act, m, n, k);
	near("output", take_half(y, (size_t) m * ldy), want_y, (size_t) m * ldy, UNIT,
		 k * 3e-7 + (act != DISTIL_ACT_NONE ? most * UNIT : 0.0));
	if (with_before)
		near("before the activation", take_half(before, mn), want, mn, UNIT, k * 3e-7);
	else
		drop(want);
	dev->ops->release(dev, dx), dev->ops->release(dev, dw), dev->ops->release(dev, db);
	drop(x), drop(w), drop(b), drop(old);
}

static void
test_backward(int m, int n, int k, int pad, DistilActivation act, bool accumulate)
{
	size_t		lddy = (size_t) (n + pad);
	size_t		mk = (size_t) m * k;
	float	   *x = samples(mk, 1.0);
	float	   *w = samples((size_t) n * k, 1.0);
	float	   *dy = samples((size_t) m * lddy, 1.0);
	float	   *want_dx = samples(mk, 1.0);
	float	   *want_dw = samples((size_t) n * k, 1.0);
	float	   *want_db = samples(n, 1.0);
	uint16_t   *hx = half(x, mk);
	uint16_t   *hw = half(w, (size_t) n * k);
	uint16_t   *hdy = half(dy, (size_t) m * lddy);
	uint16_t   *dx = half(want_dx, mk);
	float	   *dw = full(want_dw, (size_t) n * k);
	float	   *db = full(want_db, n);
	double		most = 0;
	size_t		i;

	dev->ops->half->linear_backward_input(dev, dx, hdy, lddy, hw, act != DISTIL_ACT_NONE ? hx : NULL, act,
										  accumulate, m, n, k);
	dev->ops->half->linear_backward_weight(dev, dw, db, hdy, lddy, hx, m, n, k);
	ref->ops->linear_backward_input(ref, want_dx, k, dy, lddy, w, accumulate, m, n, k);
	for (i = 0; i < mk; i++)
		most = check_worse(most, fabs((double) want_dx[i]));
	if (act != DISTIL_ACT_NONE)
		ref->ops->activation_backward(ref, act, want_dx, want_dx, x, mk);
	ref->ops->linear_backward_weight(ref, want_dw, want_db, dy, lddy, x, k, m, n, k);
	near("gradient of the input", take_half(dx, mk), want_dx, mk, UNIT,
		 n * 3e-7 + (act != DISTIL_ACT_NONE ? most * UNIT : 0.0));
	near("gradient of the weight", take_full(dw, (size_t) n * k), want_dw, (size_t) n * k, 0.0, m * 3e-7);
	near("gradient of the bias", take_full(db, n), want_db, n, 0.0, m * 3e-7);
	dev->ops->release(dev, hx), dev->ops->release(dev, hw), dev->ops->release(dev, hdy);
	drop(x), drop(w), drop(dy);
}

static void
test_products(void)
{
	static const int shapes[][4] = {
		{1, 1, 1, 0}, {3, 17, 31, 3}, {33, 129, 17, 1}, {130, 65, 40, 0}, {16, 64, 32, 8}, {72, 40, 136, 0}
	};
	static const DistilActivation acts[] = {DISTIL_ACT_NONE, DISTIL_ACT_GELU, DISTIL_ACT_GELU_TANH,
	DISTIL_ACT_RELU};
	size_t		i;

	for (i = 0; i < 6 * 4; i++)
	{
		const int  *s = shapes[i / 4];

		test_forward(s[0], s[1], s[2], s[3], acts[i % 4], i % 3 == 0);
		test_backward(s[0], s[1], s[2], s[3], acts[i % 4], acts[i % 4] == DISTIL_ACT_NONE);
	}
}

/* ---------- norms ---------- */

/*
 * Sums of c numbers below 2 in float32; a norm divides by what is about 1.
 * in_place: the sum takes the residual's place.
 */
static void
test_norm(int rows, int c, bool saved, bool residual, bool in_place, float p)
{
	size_t		n = (size_t) rows * c;
	DistilDropout drop_out = {p, 11};
	float	   *x = samples(n, 1.0);
	float	   *r = samples(n, 1.0);
	float	   *gamma = samples(c, 1.0);
	float	   *beta = samples(c, 1.0);
	float	   *s = copy_floats(x, n);
	float	   *want_y = unset_floats(n);
	float	   *want_mean = unset_floats(rows);
	float	   *want_rstd = unset_floats(rows);
	float	   *sum_copy = unset_floats(n);
	float	   *sum;
	uint16_t   *hx = half(x, n);
	uint16_t   *hr = half(r, n);
	uint16_t   *hs = in_place ? hr : half(want_y, n);
	uint16_t   *y = half(want_y, n);
	float	   *g = full(gamma, c);
	float	   *b = full(beta, c);
	float	   *mean = full(want_mean, rows);
	float	   *rstd = full(want_rstd, rows);
	size_t		i;

	dev->ops->half->norm_forward(dev, y, saved ? hs : NULL, saved ? mean : NULL, saved ? rstd : NULL, hx,
								 residual ? hr : NULL, drop_out, g, b, 1e-5f, rows, c);
	ref->ops->dropout(ref, s, s, drop_out, 0, n);
	for (i = 0; i < n; i++)
		s[i] = distil_bf16_float(distil_bf16(s[i] + (residual ? r[i] : 0.0f)));
	sum = saved ? take_half(hs, n) : copy_floats(s, n);
	ref->ops->layernorm_forward(ref, want_y, sum_copy, want_mean, want_rstd, sum, NULL, gamma, beta, 1e-5f,
								rows, c);
	near("sum", sum, s, n, UNIT, 0.0);
	/* a row of one number is all rounding */
	near("norm", take_half(y, n), want_y, n, UNIT, c > 1 && saved ? 1e-4 : 3 * UNIT);
	if (saved)
	{
		near("mean", take_full(mean, rows), want_mean, rows, 0.0, 1e-5);
		near("rstd", take_full(rstd, rows), want_rstd, rows, 1e-4, 1e-5);
	}
	else
	{
		drop(want_mean), drop(want_rstd);
		dev->ops->release(dev, hs), dev->ops->release(dev, mean), dev->ops->release(dev, rstd);
	}
	if (!in_place)
		dev->ops->release(dev, hr);
	dev->ops->release(dev, hx), dev->ops->release(dev, g), dev->ops->release(dev, b);
	drop(x), drop(r), drop(gamma), drop(beta), drop(sum_copy);
}

/* With a residual's gradient it takes that one's place, without one dy's. */
static void
test_norm_backward(int rows, int c, bool residual, float p)
{
	size_t		n = (size_t) rows * c;
	DistilDropout drop_out = {p, 12};
	float	   *dy = samples(n, 1.0);
	float	   *s = samples(n, 1.0);
	float	   *mean = random_floats(rows, 0.1);
	float	   *rstd = random_floats(rows, 1.0);
	float	   *gamma = samples(c, 1.0);
	float	   *from = samples(n, 1.0);
	float	   *want = unset_floats(n);
	float	   *want_dx = unset_floats(n);
	float	   *want_dg = samples(c, 1.0);
	float	   *want_db = samples(c, 1.0);
	uint16_t   *hdy = half(dy, n);
	uint16_t   *hs = half(s, n);
	uint16_t   *dx = half(want, n);
	uint16_t   *dsum = residual ? half(from, n) : hdy;
	float	   *fixed[3] = {full(mean, rows), full(rstd, rows), full(gamma, c)};
	float	   *dg = full(want_dg, c);
	float	   *db = full(want_db, c);
	int			i;

	dev->ops->half->norm_backward(dev, dsum, dx, dg, db, hdy, residual ? dsum : NULL, hs, fixed[0], fixed[1],
								  drop_out, fixed[2], rows, c);
	ref->ops->layernorm_backward(ref, want, want_dg, want_db, dy, s, mean, rstd, gamma, rows, c);
	for (i = 0; residual && i < (int) n; i++)
		want[i] += from[i];
	ref->ops->dropout(ref, want_dx, want, drop_out, 0, n);
	near("gradient behind dropout", take_half(dx, n), want_dx, n, UNIT, 1e-5);
	near("gradient of the sum", take_half(dsum, n), want, n, UNIT, 1e-5);
	near("gradient of gamma", take_full(dg, c), want_dg, c, 0.0, rows * 1e-6);
	near("gradient of beta", take_full(db, c), want_db, c, 0.0, rows * 1e-6);
	if (residual)
		dev->ops->release(dev, hdy);
	dev->ops->release(dev, hs);
	for (i = 0; i < 3; i++)
		dev->ops->release(dev, fixed[i]);
	drop(dy), drop(s), drop(mean), drop(rstd), drop(gamma), drop(from);
}

static void
test_norms(void)
{
	static const int shapes[][2] = {{1, 1}, {3, 17}, {70, 33}, {5, 264}, {130, 8}, {9, 768}};
	size_t		i;

	for (i = 0; i < 6; i++)
	{
		test_norm(shapes[i][0], shapes[i][1], true, true, false, 0.25f);
		test_norm(shapes[i][0], shapes[i][1], true, true, true, 0.25f);
		test_norm(shapes[i][0], shapes[i][1], false, true, false, 0.0f);
		test_norm(shapes[i][0], shapes[i][1], true, false, false, 0.0f);
		test_norm_backward(shapes[i][0], shapes[i][1], false, i % 2 == 0 ? 0.25f : 0.0f);
		test_norm_backward(shapes[i][0], shapes[i][1], true, i % 2 == 0 ? 0.0f : 0.25f);
	}
}

/* ---------- attention ---------- */

/* Probabilities and their gradients may be rounded too: see test_attention of test_cuda_products.c. */
static void
test_attention(int dim, bool causal, float drop_share, bool relative)
{
	static const int32_t offsets[] = {3, 4, 20, 85, 213};
	int			t = 213;
	int			heads = 3;
	size_t		n = (size_t) t * (size_t) (heads * dim);
	size_t		nr = (size_t) 255 * heads;
	size_t		nl = (size_t) t * heads;
	float	   *bias = random_floats(nr, 1.0);
	float	   *device_bias = full(bias, nr);
	DistilAttention a = {.nseq = 4,.heads = heads,.head_dim = dim,.head_first = 1,.head_count = 2,
	.scale = 1.0f / sqrtf((float) dim),.causal = causal,.dropout = {drop_share, 7},
	.relative = relative ? bias : NULL,.relative_limit = 128};
	DistilAttention b = a;
	float	   *qkv = samples(3 * n, 2.0);
	float	   *dout = samples(n, 1.0);
	float	   *out = samples(n, 0.0);
	float	   *lse = random_floats(nl, 0.0);
	float	   *dqkv = samples(3 * n, 0.0);
	float	   *drelative = random_floats(nr, 0.0);
	int32_t    *device_offsets = on_device(offsets, sizeof(offsets));
	uint16_t   *hqkv = half(qkv, 3 * n);
	uint16_t   *hdout = half(dout, n);
	uint16_t   *hout = half(out, n);
	float	   *flse = full(lse, nl);
	uint16_t   *hdqkv = half(dqkv, 3 * n);
	float	   *fdrelative = full(drelative, nr);
	double		grow = 1.0 / (1.0 - drop_share);
	size_t		i;

	b.relative = relative ? device_bias : NULL;
	dev->ops->half->attention_forward(dev, hout, flse, hqkv, device_offsets, &b);
	ref->ops->attention_forward(ref, out, lse, qkv, offsets, &a);
	near("attention", take_half(hout, n), copy_floats(out, n), n, UNIT, grow * 2 * UNIT);
	near("lse", take_full(flse, nl), copy_floats(lse, nl), nl, 0.0, 2e-5);
	/* backward of both from the same output */
	for (i = 0; i < n; i++)
		out[i] = distil_bf16_float(distil_bf16(out[i]));
	hout = half(out, n);
	flse = full(lse, nl);
	a.drelative = relative ? drelative : NULL;
	b.drelative = relative ? fdrelative : NULL;
	dev->ops->half->attention_backward(dev, hdqkv, hdout, hqkv, hout, flse, device_offsets, &b);
	ref->ops->attention_backward(ref, dqkv, dout, qkv, out, lse, offsets, &a);
	near("gradients", take_half(hdqkv, 3 * n), dqkv, 3 * n, UNIT, grow * 0.04);
	near("gradient of the bias", take_full(fdrelative, nr), drelative, nr, 0.0, 1e-4);
	dev->ops->release(dev, hqkv), dev->ops->release(dev, hdout), dev->ops->release(dev, hout),
	dev->ops->release(dev, flse), dev->ops->release(dev, device_offsets);
	dev->ops->release(dev, device_bias);
	drop(bias), drop(qkv), drop(dout), drop(out), drop(lse);
}

static void
test_attentions(void)
{
	test_attention(5, false, 0.0f, true);
	test_attention(8, true, 0.25f, false);
	test_attention(32, true, 0.25f, true);
	test_attention(32, false, 0.0f, false);
	test_attention(64, false, 0.25f, true);
	test_attention(64, true, 0.0f, false);
}

/* ---------- losses, the update, conversions ---------- */

static void
test_loss(int rows, int v, int pad, DistilLogitsLoss loss, bool labelled)
{
	size_t		ld = (size_t) (v + pad);
	size_t		n = (size_t) rows * ld;
	float	   *s = samples(n, 4.0);
	float	   *t = samples(n, 4.0);
	float	   *want = copy_floats(s, n);
	int32_t    *labels = random_ints(rows, v);
	double		sums[3] = {0.5, 0.25, 0.125};
	double		want_sums[3] = {0.5, 0.25, 0.125};
	uint16_t   *hs = half(s, n);
	uint16_t   *ht = half(t, n);
	int32_t    *device_labels = on_device(labels, (size_t) rows * sizeof(int32_t));
	double	   *device_sums = on_device(sums, sizeof(sums));
	int			i;

	dev->ops->half->logits_loss(dev, device_sums, hs, ht, ld, labelled ? device_labels : NULL, &loss, rows,
								v);
	for (i = 0; i < rows; i++)
		ref->ops->logits_loss(ref, want_sums, want + i * ld, t + i * ld, labelled ? labels + i : NULL, &loss,
							  1, v);
	dev->ops->copy_out(dev, sums, device_sums, sizeof(sums));
	for (i = 0; i < 3; i++)
		CHECK_NEAR(sums[i], want_sums[i], 1e-5 * want_sums[i]);
	near("gradient of the logits", take_half(hs, n), want, n, UNIT, 1e-6);
	dev->ops->release(dev, ht), dev->ops->release(dev, device_labels), dev->ops->release(dev, device_sums);
	drop(s), drop(t), drop(labels);
}

static void
test_losses(void)
{
	static const DistilLogitsLoss losses[] = {{2.0f, 1.0f, 0, 0}, {1.0f, 0, 1.0f, 0},
	{0.5f, 0.5f, 0.25f, 0.125f}};
	size_t		i;

	for (i = 0; i < 9; i++)
		test_loss(5, i / 3 == 0 ? 3 : i / 3 == 1 ? 257 : 1500, i % 2 == 0 ? 0 : 7, losses[i % 3], i % 3 > 0);
}

static void
test_update(void)
{
	DistilAdamW step = {0.01f, 0.9f, 0.999f, 1e-8f, 0.1f, 0.1f, 0.001f, 0.5f};
	size_t		n = 1001;
	float	   *w = random_floats(n, 1.0);
	float	   *m = random_floats(n, 0.1);
	float	   *v = copy_floats(w, n);
	float	   *g = random_floats(n, 1.0);
	float	   *rounded;
	float	   *got[3];
	float	   *fw;
	float	   *fm;
	float	   *fv;
	float	   *fg = full(g, n);
	uint16_t   *copy = half(w, n);
	size_t		i;

	for (i = 0; i < n; i++)
		v[i] = fabsf(v[i]);
	fw = full(w, n), fm = full(m, n), fv = full(v, n);
	dev->ops->half->adamw(dev, fw, fm, fv, fg, &step, copy, n);
	ref->ops->adamw(ref, w, m, v, g, &step, n);
	got[0] = take_full(fw, n), got[1] = take_full(fm, n), got[2] = take_full(fv, n);
	rounded = copy_floats(got[0], n);
	for (i = 0; i < n; i++)
		rounded[i] = distil_bf16_float(distil_bf16(rounded[i]));
	near("copy of the weights", take_half(copy, n), rounded, n, 0.0, 0.0);
	near("weights", got[0], w, n, 1e-6, 1e-6);
	near("first moment", got[1], m, n, 1e-6, 1e-6);
	near("second moment", got[2], v, n, 1e-6, 1e-6);
	dev->ops->release(dev, fg);
	drop(g);
}

static void
test_conversion(void)
{
	size_t		n = 1003;
	float	   *x = random_floats(n, 1e6);
	float	   *want = copy_floats(x, n);
	uint16_t   *y = half(want, n);
	float	   *from;
	float	   *back;
	float	   *got;
	size_t		i;

	x[0] = 1.00390625f;			/* a tie: to even */
	x[1] = 1.01171875f;
	x[2] = -INFINITY;
	x[3] = 3.4e38f;				/* rounds up to infinity */
	x[4] = 1e-40f;
	for (i = 0; i < n; i++)
		want[i] = distil_bf16_float(distil_bf16(x[i]));
	from = full(x, n);
	back = full(x, n);
	dev->ops->half->round(dev, y, from, n);
	dev->ops->half->widen(dev, back, y, n);
	got = take_full(back, n);
	CHECK(memcmp(got, want, n * sizeof(float)) == 0);
	dev->ops->release(dev, y), dev->ops->release(dev, from);
	drop(x), drop(want), drop(got);
}

int
main(void)
{
#ifdef DISTIL_TEST_CUDA
	static const DeviceName devices[] = {{"cuda", "bf16"}};
#else
	static const DeviceName devices[] = {{"reference", "auto"}, {"standin", "bf16"}};
#endif
	char		message[400];
	size_t		i;

	if (!open_reference())
		return check_report("kernel_half");
	for (i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
	{
		under_test = devices[i][0];
		random_state = 1;
		dev = distil_device_open(devices[i][0], devices[i][1], message, sizeof(message));
		CHECK_MSG(dev != NULL, "%s\n", message);
		if (dev == NULL)
			continue;
		CHECK(dev->ops->half != NULL);
		test_conversion();
		test_products();
		test_norms();
		test_attentions();
		test_losses();
		test_update();
		CHECK(dev->ops->failure == NULL || dev->ops->failure(dev) == NULL);
		dev->ops->close(dev);
	}
	ref->ops->close(ref);
	return check_report("kernel_half");
}
