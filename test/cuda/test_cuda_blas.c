/*
 * test_cuda_blas.c
 *		Which products go to cuBLASLt: aligned ones, with bias or sums beside them; what it refuses or fails
 *		at is done by the own kernels, with the same result.
 *
 * Over the stub all of it, on a GPU only the results.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE				/* RTLD_NOLOAD */
#endif
#include "check.h"
#include "kernels.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define M 40
#define N 48
#define K 64

static DistilDevice *dev;
static int *stub_products;
static int *stub_sums;
static int *stub_failing;
static float x[M * K];
static float w[N * K];
static float bias[N];

static int *
stub_number(const char *name)
{
	static int	none[3];
	static int	used = 0;
	void	   *library = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_NOLOAD);
	void	   *found = library != NULL ? dlsym(library, name) : NULL;

	return found != NULL ? found : &none[used++];
}

static void
open_device(const char *precision)
{
	char		message[256];

	dev = distil_device_open("cuda", precision, message, sizeof(message));
	CHECK_MSG(dev != NULL, "%s\n", message);
	if (dev == NULL)
		exit(1);
	stub_products = stub_number("cublaslt_stub_products");
	stub_sums = stub_number("cublaslt_stub_sums");
	stub_failing = stub_number("cublaslt_stub_failing");
}

static bool
has_stub(void)
{
	void	   *library = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_NOLOAD);

	return library != NULL && dlsym(library, "cublaslt_stub_products") != NULL;
}

/* n numbers of 8 bits on the device, `skip` elements behind where memory begins. */
static uint16_t *
half(const float *from, size_t n, size_t skip)
{
	uint16_t   *host = calloc(n + skip, sizeof(uint16_t));
	uint16_t   *memory = dev->ops->alloc(dev, (n + skip) * sizeof(uint16_t));
	size_t		i;

	for (i = 0; i < n; i++)
		host[skip + i] = distil_bf16(from[i]);
	dev->ops->copy_in(dev, memory, host, (n + skip) * sizeof(uint16_t));
	free(host);
	return memory;
}

/*
 * y = x w^T + b with so many columns, and the bias so far from where it
 * should be: products done by the library.
 */
static int
forward(int m, int n, int k, size_t skip)
{
	uint16_t   *hx = half(x, (size_t) m * k, 0);
	uint16_t   *hw = half(w, (size_t) n * k, 0);
	uint16_t   *hb = half(bias, (size_t) n, skip);
	uint16_t   *hy = half(x, (size_t) m * n, 0);
	uint16_t   *y = calloc((size_t) m * n, sizeof(uint16_t));
	int			before = *stub_products;
	int			i;
	int			j;
	int			l;

	dev->ops->half->linear_forward(dev, hy, (size_t) n, NULL, hx, hw, hb + skip, DISTIL_ACT_NONE, m, n, k);
	dev->ops->copy_out(dev, y, hy, (size_t) m * n * sizeof(uint16_t));
	for (i = 0; i < m; i++)
		for (j = 0; j < n; j++)
		{
			double		sum = bias[j];

			for (l = 0; l < k; l++)
				sum += (double) x[i * k + l] * w[j * k + l];
			/* all numbers are small multiples of 1/8: sums are exact, but rounded to 8 bits at the end */
			CHECK(distil_bf16_float(y[i * n + j]) == distil_bf16_float(distil_bf16((float) sum)));
		}
	dev->ops->release(dev, hx), dev->ops->release(dev, hw), dev->ops->release(dev, hb),
	dev->ops->release(dev, hy);
	free(y);
	return *stub_products - before;
}

/* dw += dy^T x, db += sums of dy, dy [m, n] being what w begins with: db by the library. */
static int
backward(int m, int n, int k)
{
	uint16_t   *hx = half(x, (size_t) m * k, 0);
	uint16_t   *hdy = half(w, (size_t) m * n, 0);
	float	   *dw = dev->ops->alloc(dev, (size_t) n * k * sizeof(float));
	float	   *db = dev->ops->alloc(dev, (size_t) n * sizeof(float));
	float	   *host = calloc((size_t) n * k + (size_t) n, sizeof(float));
	int			before = *stub_sums;
	int			i;
	int			j;
	int			l;

	dev->ops->zero(dev, dw, (size_t) n * k);
	dev->ops->zero(dev, db, (size_t) n);
	/* twice: both are added to */
	for (i = 0; i < 2; i++)
		dev->ops->half->linear_backward_weight(dev, dw, db, hdy, (size_t) n, hx, m, n, k);
	dev->ops->copy_out(dev, host, dw, (size_t) n * k * sizeof(float));
	dev->ops->copy_out(dev, host + n * k, db, (size_t) n * sizeof(float));
	for (j = 0; j < n; j++)
	{
		double		sums = 0;

		for (i = 0; i < m; i++)
			sums += 2 * w[i * n + j];
		CHECK(host[n * k + j] == (float) sums);
		for (l = 0; l < k; l++)
		{
			double		sum = 0;

			for (i = 0; i < m; i++)
				sum += 2.0 * w[i * n + j] * x[i * k + l];
			CHECK(host[j * k + l] == (float) sum);
		}
	}
	dev->ops->release(dev, hx), dev->ops->release(dev, hdy), dev->ops->release(dev, dw),
	dev->ops->release(dev, db);
	free(host);
	return *stub_sums - before;
}

static void
test_choice(void)
{
	bool		stub = has_stub();
	int			i;

#ifdef DISTIL_TEST_EMULATED
	CHECK(stub);
#endif
	CHECK(forward(M, N, K, 0) == stub && forward(M, N, K, 0) == stub);
	CHECK(backward(M, N, K) == 2 * stub);
	/* the same shape with a bias at an odd address, and odd shapes: refused */
	CHECK(forward(M, N, K, 1) == 0);
	CHECK(forward(M, N, K, 8) == stub);
	CHECK(forward(M, N, K - 1, 0) == 0);
	CHECK(backward(M, N - 1, K) == 0);
	CHECK(backward(M - 1, N, K) == 2 * stub);	/* rows are no stride */
	/* a failure: by the own kernels from then on */
	*stub_failing = 1;
	CHECK(forward(M - 2, N, K, 0) == 0 && forward(M - 2, N, K, 0) == 0);
	*stub_failing = 1;
	CHECK(backward(M - 2, N, K) == 0);
	CHECK(*stub_failing == (stub ? 0 : 1));
	/* more shapes than are remembered, then the first again */
	*stub_failing = 0;
	for (i = 0; i < 300; i++)
		CHECK(forward(1 + i % 30, 8 + i / 30 % 5 * 8, 8 + i / 150 * 8, 0) == stub);
	CHECK(forward(M, N, K, 0) == stub);
}

int
main(void)
{
	int			i;

	for (i = 0; i < M * K; i++)
		x[i] = (float) (i * 5 % 17 - 8) / 8;
	for (i = 0; i < N * K; i++)
		w[i] = (float) (i * 7 % 13 - 6) / 8;
	for (i = 0; i < N; i++)
		bias[i] = (float) (i % 9) / 8;
	open_device("bf16");
	test_choice();
	CHECK_MSG(dev->ops->failure(dev) == NULL, "%s\n", dev->ops->failure(dev));
	dev->ops->close(dev);
	return check_report("cuda_blas");
}
