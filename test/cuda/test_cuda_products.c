/*
 * test_cuda_products.c
 *		The CUDA backend in bfloat16 and at its edges: products of rounded numbers against the same in
 *		double, odd shapes and strides, sums over many rows, results that never change, refusals.
 *
 * Runs on a GPU, and on the CPU over test/cuda/cuda_runtime.h.
 */
#include "kernel_samples.h"

static DistilDevice *
open_cuda(const char *precision)
{
	char		message[400];
	DistilDevice *real = distil_device_open("cuda", precision, message, sizeof(message));

	CHECK_MSG(real != NULL, "%s\n", message);
	if (real == NULL)
		exit(1);
	return host_device(real, ref);
}

/* The nearest number of 8 bits, ties to even. */
static double
rounded(float x)
{
	int			exponent;
	double		fraction = frexp(x, &exponent);

	return ldexp(nearbyint(ldexp(fraction, 8)), exponent - 8);
}

/*
 * Sums of n products of size 1/4 on average in float32, whatever their order: n 2^-24 of them at
 * most, times what the tensor cores lose by cutting instead of rounding (a factor of 2).
 */
static double
allowed(int n)
{
	return 2.0 * n * 6e-8 + 1e-6;
}

static void
test_shape(DistilDevice *dev, int m, int n, int k, int pad)
{
	size_t		ldx = (size_t) (k + pad);
	size_t		ldy = (size_t) (n + pad);
	float	   *x = random_floats((size_t) m * ldx, 1.0);
	float	   *w = random_floats((size_t) n * k, 1.0);
	float	   *b = random_floats(n, 1.0);
	float	   *y = random_floats((size_t) m * ldy, 1.0);
	float	   *dy = copy_floats(y, (size_t) m * ldy);
	float	   *dx = random_floats((size_t) m * ldx, 1.0);
	float	   *old_dx = copy_floats(dx, (size_t) m * ldx);
	float	   *dw = random_floats((size_t) n * k, 1.0);
	float	   *old_dw = copy_floats(dw, (size_t) n * k);
	double		worst[3] = {0, 0, 0};
	int			i;
	int			j;
	int			l;

	dev->ops->linear_forward(dev, y, ldy, x, ldx, w, b, DISTIL_ACT_NONE, m, n, k);
	dev->ops->linear_backward_input(dev, dx, ldx, dy, ldy, w, true, m, n, k);
	dev->ops->linear_backward_weight(dev, dw, NULL, dy, ldy, x, ldx, m, n, k);
	for (i = 0; i < m; i++)
		for (j = 0; j < n; j++)
		{
			double		sum = b[j];

			for (l = 0; l < k; l++)
				sum += rounded(x[i * ldx + l]) * rounded(w[(size_t) j * k + l]);
			worst[0] = check_worse(worst[0], fabs(sum - y[i * ldy + j]));
		}
	for (i = 0; i < m; i++)
		for (l = 0; l < k; l++)
		{
			double		sum = old_dx[i * ldx + l];

			for (j = 0; j < n; j++)
				sum += rounded(dy[i * ldy + j]) * rounded(w[(size_t) j * k + l]);
			worst[1] = check_worse(worst[1], fabs(sum - dx[i * ldx + l]));
		}
	for (j = 0; j < n; j++)
		for (l = 0; l < k; l++)
		{
			double		sum = old_dw[(size_t) j * k + l];

			for (i = 0; i < m; i++)
				sum += rounded(dy[i * ldy + j]) * rounded(x[i * ldx + l]);
			worst[2] = check_worse(worst[2], fabs(sum - dw[(size_t) j * k + l]));
		}
	CHECK_MSG(worst[0] <= allowed(k), "forward %d %d %d +%d: %g\n", m, n, k, pad, worst[0]);
	CHECK_MSG(worst[1] <= allowed(n), "input %d %d %d +%d: %g\n", m, n, k, pad, worst[1]);
	CHECK_MSG(worst[2] <= allowed(m), "weight %d %d %d +%d: %g\n", m, n, k, pad, worst[2]);
	/* columns between rows keep their values */
	for (i = 0; i < m - 1; i++)
		for (l = 0; l < pad; l++)
			CHECK(dx[i * ldx + (size_t) (k + l)] == old_dx[i * ldx + (size_t) (k + l)]);
	drop(x), drop(w), drop(b), drop(y), drop(dy), drop(dx), drop(old_dx), drop(dw), drop(old_dw);
}

static void
test_products(void)
{
	static const int shapes[][3] = {
		{1, 1, 1}, {3, 17, 31}, {17, 33, 129}, {129, 130, 40}, {130, 65, 257}, {16, 8, 16}, {128, 128, 64}
	};
	DistilDevice *dev = open_cuda("bf16");
	size_t		i;

	for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
	{
		test_shape(dev, shapes[i][0], shapes[i][1], shapes[i][2], 0);
		test_shape(dev, shapes[i][0], shapes[i][1], shapes[i][2], 3);
	}
	dev->ops->close(dev);
}

/* Many more rows than one part of a sum, several groups of repeated targets. */
static void
test_sums(void)
{
	DistilDevice *dev = open_cuda("float32");
	int			t = 1100;
	int			c = 37;
	int			table = 19;
	size_t		n = (size_t) t * c;
	float	   *x = random_floats(n, 1.0);
	float	   *dy = random_floats(n, 1.0);
	int32_t    *rows = random_ints(t, table);
	float	   *sums = random_floats((size_t) table * c, 1.0);
	float	   *want = copy_floats(sums, (size_t) table * c);
	float	   *gamma = random_floats(c, 1.0);
	float	   *mean = random_floats(t, 0.1);
	float	   *rstd = random_floats(t, 1.0);
	float	   *dg[2] = {random_floats(c, 1.0), NULL};
	float	   *db[2] = {random_floats(c, 1.0), NULL};
	float	   *dx = unset_floats(n);

	dev->ops->scatter_add_rows(dev, sums, dy, rows, t, c);
	ref->ops->scatter_add_rows(ref, want, dy, rows, t, c);
	/* about 60 terms of size 1 in another order */
	same("scatter over groups", sums, want, (size_t) table * c, 2e-5);
	dg[1] = copy_floats(dg[0], c);
	db[1] = copy_floats(db[0], c);
	dev->ops->layernorm_backward(dev, dx, dg[0], db[0], dy, x, mean, rstd, gamma, t, c);
	ref->ops->layernorm_backward(ref, dx, dg[1], db[1], dy, x, mean, rstd, gamma, t, c);
	same("gamma over parts", dg[0], dg[1], c, 1e-4);
	same("beta over parts", db[0], db[1], c, 1e-4);
	dev->ops->close(dev);
	drop(x), drop(dy), drop(rows), drop(sums), drop(want), drop(gamma), drop(mean), drop(rstd);
	drop(dg[0]), drop(dg[1]), drop(db[0]), drop(db[1]), drop(dx);
}

/* The same bits each time, whatever order blocks and threads run in. */
static void
test_same_bits(void)
{
	DistilDevice *dev = open_cuda("bf16");
	int			m = 300;
	int			n = 140;
	int			k = 70;
	float	   *x = random_floats((size_t) m * k, 1.0);
	float	   *dy = random_floats((size_t) m * n, 1.0);
	float	   *dw[2];
	float	   *db[2];
	double		sum[2];
	int			i;

	for (i = 0; i < 2; i++)
	{
		dw[i] = random_floats((size_t) n * k, 0.0);
		db[i] = random_floats(n, 0.0);
		dev->ops->linear_backward_weight(dev, dw[i], db[i], dy, n, x, k, m, n, k);
		dev->ops->sum_squares(dev, &sum[i], dy, (size_t) m * n);
	}
	same("weights again", dw[0], dw[1], (size_t) n * k, 0.0);
	same("bias again", db[0], db[1], n, 0.0);
	CHECK(sum[0] == sum[1]);
	for (i = 0; i < 2; i++)
		drop(dw[i]), drop(db[i]);
	drop(x), drop(dy);
	dev->ops->close(dev);
}

/* Numbers that bfloat16 holds, so that only probabilities and their gradients are rounded. */
static float *
rounded_floats(size_t n, double size)
{
	float	   *x = random_floats(n, size);
	size_t		i;

	for (i = 0; i < n; i++)
		x[i] = (float) rounded(x[i]);
	return x;
}

/*
 * Attention of a head width on the tensor cores.  Probabilities are at most 1 and lose 2^-9 of themselves,
 * values are below 2: an output loses at most 2^-8.  Gradients of scores lose 2^-9 of themselves; up to 200
 * of them meet numbers below 2, half of the worst case being allowed.  A wrong fragment costs as much as a
 * result is large.
 */
static void
test_attention(DistilDevice *dev, int dim, bool causal, float drop_share, bool relative)
{
	static const int32_t offsets[] = {3, 4, 20, 85, 213};
	int			t = 213;
	int			heads = 3;
	size_t		n = (size_t) t * (size_t) (heads * dim);
	float	   *bias = random_floats((size_t) 255 * heads, 1.0);
	DistilAttention a = {.nseq = 4,.heads = heads,.head_dim = dim,.head_first = 1,.head_count = 2,
	.scale = 1.0f / sqrtf((float) dim),.causal = causal,.dropout = {drop_share, 7},
	.relative = relative ? bias : NULL,.relative_limit = 128};
	float	   *qkv = rounded_floats(3 * n, 2.0);
	float	   *dout = rounded_floats(n, 1.0);
	float	   *got[4] = {random_floats(n, 0.0), random_floats((size_t) t * heads, 0.0),
	random_floats(3 * n, 0.0), random_floats((size_t) 255 * heads, 0.0)};
	float	   *want[4] = {copy_floats(got[0], n), copy_floats(got[1], (size_t) t * heads),
	copy_floats(got[2], 3 * n), copy_floats(got[3], (size_t) 255 * heads)};
	double		grow = 1.0 / (1.0 - drop_share);
	int			i;

	dev->ops->attention_forward(dev, got[0], got[1], qkv, offsets, &a);
	ref->ops->attention_forward(ref, want[0], want[1], qkv, offsets, &a);
	same("rounded attention", got[0], want[0], n, grow / 256 * 2);
	same("its lse", got[1], want[1], (size_t) t * heads, 2e-5);
	a.drelative = relative ? got[3] : NULL;
	dev->ops->attention_backward(dev, got[2], dout, qkv, want[0], want[1], offsets, &a);
	a.drelative = relative ? want[3] : NULL;
	ref->ops->attention_backward(ref, want[2], dout, qkv, want[0], want[1], offsets, &a);
	same("its gradients", got[2], want[2], 3 * n, grow * 0.04);
	same("its bias", got[3], want[3], (size_t) 255 * heads, 1e-4);
	a.query_first = 100;
	a.nseq = 1;
	if (causal)
	{
		static const int32_t one[] = {0, 150};

		dev->ops->attention_forward(dev, got[0], NULL, qkv, one, &a);
		ref->ops->attention_forward(ref, want[0], NULL, qkv, one, &a);
		same("its last queries", got[0], want[0], n, grow / 256 * 2);
	}
	for (i = 0; i < 4; i++)
		drop(got[i]), drop(want[i]);
	drop(bias), drop(qkv), drop(dout);
}

static void
test_attentions(void)
{
	DistilDevice *dev = open_cuda("bf16");

	test_attention(dev, 32, false, 0.0f, false);
	test_attention(dev, 32, true, 0.25f, false);
	test_attention(dev, 64, false, 0.25f, true);
	test_attention(dev, 64, true, 0.0f, false);
	dev->ops->close(dev);
}

static void
test_device(void)
{
	char		message[400] = "";
	DistilDevice *dev;
	void	   *first;

	CHECK(distil_device_open("cuda", "float64", message, sizeof(message)) == NULL);
	CHECK(strstr(message, "float64") != NULL);
	dev = distil_device_open("cuda", NULL, message, sizeof(message));
	CHECK_MSG(dev != NULL && strcmp(dev->ops->name, "cuda") == 0 && dev->ops->own_memory, "%s\n", message);
	if (dev == NULL)
		return;
	dev->ops->limit_memory(dev, 1000);
	first = dev->ops->alloc(dev, 600);
	CHECK(first != NULL && dev->ops->alloc(dev, 401) == NULL && dev->ops->alloc(dev, SIZE_MAX) == NULL);
	dev->ops->release(dev, first);
	dev->ops->release(dev, NULL);
	CHECK(dev->ops->alloc(dev, 1000) != NULL && dev->ops->failure(dev) == NULL);
	dev->ops->close(dev);
	CHECK(distil_cuda_available(message, sizeof(message)));
}

#ifdef DISTIL_TEST_EMULATED
/*
 * What a real GPU cannot be asked for: memory is refused while the driver still has some for itself, and a
 * GPU that is lost has failed, it is not full.
 */
static void
test_emulated_memory(void)
{
	char		message[400] = "";
	DistilDevice *dev = distil_device_open("cuda", NULL, message, sizeof(message));
	void	   *block;

	CHECK_MSG(dev != NULL, "%s\n", message);
	if (dev == NULL)
		return;
	setenv("EMULATED_FREE", "536870911", 1);
	CHECK(dev->ops->alloc(dev, 1000) == NULL && dev->ops->failure(dev) == NULL);
	setenv("EMULATED_FREE", "536870912", 1);
	block = dev->ops->alloc(dev, 1000);
	CHECK(block != NULL);
	dev->ops->release(dev, block);
	unsetenv("EMULATED_FREE");
	setenv("EMULATED_LOST", "1", 1);
	CHECK(dev->ops->alloc(dev, 1000) == NULL && dev->ops->failure(dev) != NULL);
	CHECK(distil_device_open("cuda", NULL, message, sizeof(message)) == NULL);
	unsetenv("EMULATED_LOST");
	dev->ops->close(dev);
}
#endif

int
main(void)
{
	if (!open_reference())
		return check_report("cuda_products");
	test_device();
#ifdef DISTIL_TEST_EMULATED
	test_emulated_memory();
#endif
	test_products();
	test_attentions();
	test_sums();
	test_same_bits();
	ref->ops->close(ref);
	return check_report("cuda_products");
}
