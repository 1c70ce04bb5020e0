/*
 * linear_cuda.cuh
 *		The linear layer: its three products, by cuBLASLt where that can, by own kernels elsewhere.
 */
#ifndef DISTIL_LINEAR_CUDA_CUH
#define DISTIL_LINEAR_CUDA_CUH

#include "blas_cuda.cuh"
#include "gemm_cuda.cuh"
#include "norm_cuda.cuh"

static void
cuda_multiply(DistilDevice *dev, const CudaProduct *p)
{
	if (p->m > 0 && p->n > 0 && !cuda_blas_product(dev, p))
		cuda_product(dev, p);
}

static void
cuda_linear_forward(DistilDevice *dev, float *y, size_t ldy, const float *x, size_t ldx, const float *w,
					const float *b, DistilActivation act, int m, int n, int k)
{
	CudaProduct p = {y, ldy, x, ldx, 1, w, 1, (size_t) k, m, n, k, b, act, false, false, false, NULL};

	cuda_multiply(dev, &p);
}

static void
cuda_linear_backward_input(DistilDevice *dev, float *dx, size_t lddx, const float *dy, size_t lddy,
						   const float *w, bool accumulate, int m, int n, int k)
{
	CudaProduct p = {dx, lddx, dy, lddy, 1, w, (size_t) k, 1, m, k, n, NULL, DISTIL_ACT_NONE, accumulate,
	false, false, NULL};

	cuda_multiply(dev, &p);
}

static void
cuda_linear_backward_weight(DistilDevice *dev, float *dw, float *db, const float *dy, size_t lddy,
							const float *x, size_t ldx, int m, int n, int k)
{
	CudaProduct p = {dw, (size_t) k, dy, 1, lddy, x, ldx, 1, n, k, m, NULL, DISTIL_ACT_NONE, true, false,
	false, NULL};

	cuda_multiply(dev, &p);
	if (db != NULL)
		cuda_column_sums(dev, db, dy, lddy, m, n);
}

#endif							/* DISTIL_LINEAR_CUDA_CUH */
