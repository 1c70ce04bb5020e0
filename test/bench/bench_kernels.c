/*
 * bench_kernels.c
 *		Speed of the kernels on one thread: the linear layers of MiniLM-L6 and BERT-base,
 *		the operations between them, the CPU's measured float32 peak, and OpenBLAS beside it
 *		(through the cpu backend without vectors, which has no multiplication of its own).
 *
 *	usage: bench_kernels [ISA]       (a name that distil.isa takes; default auto)
 *
 * Build after `make unit`:
 *	cc -O2 -std=gnu11 -Ikernels -o build/bench_kernels test/bench/bench_kernels.c \
 *		build/unit/libengine.a -ljansson -lm -ldl -lpthread
 *
 * Times are the minimum of many runs; a busy machine still shows.  Warm caches: the
 * weights of one layer are used again and again, a whole model streams them.
 */
#include "kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* ---------- peak: independent fused multiply-adds in registers ---------- */

#define CHAINS	10				/* covers the latency of two units */
#define STEPS	2000000

static volatile float sink;		/* keeps the results alive */

#if defined(__x86_64__)

__attribute__((target("avx512f")))
static double
peak_avx512(void)
{
	__m512		acc[CHAINS];
	__m512		factor = _mm512_set1_ps(0.999f);
	double		start;
	int			i,
				j;

	for (j = 0; j < CHAINS; j++)
		acc[j] = _mm512_set1_ps((float) j);
	start = now();
	for (i = 0; i < STEPS; i++)
	{
#pragma GCC unroll 10
		for (j = 0; j < CHAINS; j++)
			acc[j] = _mm512_fmadd_ps(acc[j], factor, factor);
	}
	start = now() - start;
	for (j = 1; j < CHAINS; j++)
		acc[0] = _mm512_add_ps(acc[0], acc[j]);
	sink = _mm512_cvtss_f32(acc[0]);
	return 2.0 * 16 * CHAINS * STEPS / start * 1e-9;
}

__attribute__((target("avx2,fma")))
static double
peak_avx2(void)
{
	__m256		acc[CHAINS];
	__m256		factor = _mm256_set1_ps(0.999f);
	double		start;
	int			i,
				j;

	for (j = 0; j < CHAINS; j++)
		acc[j] = _mm256_set1_ps((float) j);
	start = now();
	for (i = 0; i < STEPS; i++)
	{
#pragma GCC unroll 10
		for (j = 0; j < CHAINS; j++)
			acc[j] = _mm256_fmadd_ps(acc[j], factor, factor);
	}
	start = now() - start;
	for (j = 1; j < CHAINS; j++)
		acc[0] = _mm256_add_ps(acc[0], acc[j]);
	sink = _mm256_cvtss_f32(acc[0]);
	return 2.0 * 8 * CHAINS * STEPS / start * 1e-9;
}

#endif

static double
peak(const char *isa)
{
	double		best = 0.0;
	int			i;

	for (i = 0; i < 5; i++)
	{
		double		speed = 0.0;

#if defined(__x86_64__)
		if (strncmp(isa, "avx512", 6) == 0 || strncmp(isa, "amx", 3) == 0)
			speed = peak_avx512();
		else if (strncmp(isa, "avx", 3) == 0)
			speed = peak_avx2();
#else
		(void) isa;
#endif
		best = speed > best ? speed : best;
	}
	return best;
}

/* ---------- operations ---------- */

static DistilDevice *dev;
static DistilDevice *blas;	/* a device that multiplies with OpenBLAS */

static float *
floats(size_t n)
{
	float	   *x = dev->ops->alloc(dev, n * sizeof(float));
	uint32_t	state = 1;
	size_t		i;

	if (x == NULL)
	{
		fprintf(stderr, "out of memory\n");
		exit(1);
	}
	for (i = 0; i < n; i++)
	{
		state = state * 1664525u + 1013904223u;
		x[i] = ((float) (state >> 8) / 8388608.0f - 1.0f) * 0.1f;
	}
	return x;
}

/* Minimum time of one execution of `statement`, over at least 0.1 s. */
#define MEASURE(best, statement) \
	do { \
		double measure_end_ = now() + 0.1; \
		(best) = 1e9; \
		do \
		{ \
			double measure_start_ = now(); \
			statement; \
			measure_start_ = now() - measure_start_; \
			if (measure_start_ < (best)) (best) = measure_start_; \
		} while (now() < measure_end_); \
	} while (0)

static void
bench_linear(int m, int n, int k)
{
	float	   *x = floats((size_t) m * k);
	float	   *w = floats((size_t) n * k);
	float	   *b = floats(n);
	float	   *y = floats((size_t) m * n);
	double		flops = 2.0 * m * n * k * 1e-9;
	float	   *packed = floats(distil_packed_floats(n, k));
	double		plain,
				gelu,
				full,
				input,
				weight,
				blas_plain,
				blas_input,
				blas_weight;
	int			i;

	for (i = 0; i < n; i += DISTIL_PANEL)
		distil_pack_panel(packed + (size_t) i * k, w + (size_t) i * k, k,
						  n - i < DISTIL_PANEL ? n - i : DISTIL_PANEL, k);
	MEASURE(plain, dev->ops->linear_forward_packed(dev, y, n, x, k, packed, b, DISTIL_ACT_NONE, m, n, k));
	MEASURE(gelu, dev->ops->linear_forward_packed(dev, y, n, x, k, packed, b, DISTIL_ACT_GELU, m, n, k));
	MEASURE(full, dev->ops->linear_forward(dev, y, n, x, k, w, NULL, DISTIL_ACT_NONE, m, n, k));
	MEASURE(blas_plain, blas->ops->linear_forward(blas, y, n, x, k, w, NULL, DISTIL_ACT_NONE, m, n, k));
	MEASURE(input, dev->ops->linear_backward_input(dev, x, k, y, n, w, false, m, n, k));
	MEASURE(blas_input, blas->ops->linear_backward_input(blas, x, k, y, n, w, false, m, n, k));
	MEASURE(weight, dev->ops->linear_backward_weight(dev, w, NULL, y, n, x, k, m, n, k));
	MEASURE(blas_weight, blas->ops->linear_backward_weight(blas, w, NULL, y, n, x, k, m, n, k));
	printf("%4d x %5d x %4d %8.1f %8.1f %8.1f %8.1f %8.1f %8.1f %8.1f %8.1f\n", m, n, k,
		   flops / plain, flops / gelu, flops / full, flops / blas_plain, flops / input, flops / blas_input,
		   flops / weight, flops / blas_weight);
	dev->ops->release(dev, packed);
	dev->ops->release(dev, x);
	dev->ops->release(dev, w);
	dev->ops->release(dev, b);
	dev->ops->release(dev, y);
}

/* m rows of c random numbers in BF16. */
static DistilRows
low_rows(int m, int c)
{
	DistilRows	rows = {.type = DISTIL_TYPE_BF16,.ld = distil_row_stride(DISTIL_TYPE_BF16, (size_t) c)};
	size_t		n = distil_rows_elements(DISTIL_TYPE_BF16, m, (size_t) c);
	float	   *values = floats(n);
	uint16_t   *data = dev->ops->alloc(dev, n * sizeof(uint16_t));
	size_t		i;

	for (i = 0; i < n; i++)
		data[i] = distil_bf16(values[i]);
	dev->ops->release(dev, values);
	rows.data = data;
	return rows;
}

static void
bench_between(int t, int heads, int dim)
{
	int			c = heads * dim;
	int32_t		offsets[2] = {0, t};
	DistilAttention a = {.nseq = 1,.heads = heads,.head_dim = dim,.head_count = heads,
	.scale = 1.0f / sqrtf((float) dim)};
	float	   *qkv = floats((size_t) t * 3 * c);
	float	   *out = floats((size_t) t * c);
	float	   *lse = floats((size_t) t * heads);
	float	   *dqkv = floats((size_t) t * 3 * c);
	float	   *gamma = floats(c);
	DistilRows	low = low_rows(t, 3 * c);
	DistilRows	low_out = low_rows(t, c);
	double		forward,
				backward,
				norm,
				rows,
				bytes;

	MEASURE(forward, dev->ops->attention_forward(dev, out, lse, qkv, offsets, &a));
	MEASURE(backward, dev->ops->attention_backward(dev, dqkv, out, qkv, out, lse, offsets, &a));
	MEASURE(norm, dev->ops->layernorm_forward(dev, out, NULL, NULL, NULL, qkv, dqkv, gamma, gamma, 1e-5f, t,
											  c));
	MEASURE(rows, dev->ops->attention_rows(dev, &low_out, &low, offsets, &a));
	a.bytes = true;
	MEASURE(bytes, dev->ops->attention_rows(dev, &low_out, &low, offsets, &a));
	printf("%5d %5d %5d %10.1f %10.1f %10.1f %10.1f %10.1f\n", t, heads, dim, forward * 1e6, backward * 1e6,
		   norm * 1e6, rows * 1e6, bytes * 1e6);
	dev->ops->release(dev, low.data);
	dev->ops->release(dev, low_out.data);
	dev->ops->release(dev, qkv);
	dev->ops->release(dev, out);
	dev->ops->release(dev, lse);
	dev->ops->release(dev, dqkv);
	dev->ops->release(dev, gamma);
}

int
main(int argc, char **argv)
{
	static const int shapes[][3] = {
		{1, 1536, 384}, {6, 1536, 384}, {16, 1536, 384}, {128, 1152, 384}, {128, 1536, 384}, {128, 384, 1536},
		{16, 3072, 768}, {128, 768, 768}, {128, 3072, 768}, {512, 3072, 768}, {1024, 1536, 384},
	};
	const char *isa = argc > 1 ? argv[1] : "auto";
	char		message[400];
	size_t		i;

	dev = distil_device_open("cpu", isa, message, sizeof(message));
	if (dev == NULL)
	{
		fprintf(stderr, "%s\n", message);
		return 1;
	}
	blas = distil_device_open("cpu", "reference", message, sizeof(message));
	if (blas == NULL)
	{
		fprintf(stderr, "%s\n", message);
		return 1;
	}
	printf("%s, %s, %s\n", distil_cpu_name(), isa, distil_blas_version());
	printf("float32 peak, one thread: %.0f GF/s\n\n", peak(argc > 1 ? isa : distil_cpu_isa()));
	printf("   m x     n x    k   packed    +gelu    plain  (BLAS)   dinput  (BLAS)  dweight  (BLAS)   "
		   "GF/s\n");
	for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		bench_linear(shapes[i][0], shapes[i][1], shapes[i][2]);
	printf("\n rows heads   dim  attention   backward  layernorm    in bf16   in bytes   us\n");
	bench_between(16, 12, 32);
	bench_between(128, 12, 32);
	bench_between(512, 12, 32);
	bench_between(128, 12, 64);
	bench_between(512, 12, 64);
	dev->ops->close(dev);
	blas->ops->close(blas);
	return 0;
}
