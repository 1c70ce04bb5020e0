/*
 * pool_cuda.cuh
 *		One vector per sequence out of its token rows, one thread per element of it.
 *
 * A sequence without rows pools to zeros and has argmax -1.
 */
#ifndef DISTIL_POOL_CUDA_CUH
#define DISTIL_POOL_CUDA_CUH

#include "cuda_device.cuh"

/* Weight of row i of `length` rows; not for MAX. */
static __device__ inline float
cuda_pool_weight(DistilPooling pooling, int i, int length)
{
	switch (pooling)
	{
		case DISTIL_POOL_CLS:
			return i == 0 ? 1.0f : 0.0f;
		case DISTIL_POOL_MEAN:
			return 1.0f / (float) length;
		case DISTIL_POOL_MEAN_SQRT:
			return 1.0f / sqrtf((float) length);
		case DISTIL_POOL_WEIGHTED_MEAN:
			return (float) (i + 1) / (0.5f * (float) length * ((float) length + 1.0f));
		case DISTIL_POOL_LAST:
			return i == length - 1 ? 1.0f : 0.0f;
		default:
			return 0.0f;
	}
}

__global__ void
pool_forward_kernel(DistilPooling pooling, float *y, int32_t *argmax, const float *x, const int32_t *offsets,
					int nseq, int c)
{
	CUDA_EACH(at, (size_t) nseq * c)
	{
		int			b = (int) (at / c);
		int			first = offsets[b];
		int			length = offsets[b + 1] - first;
		const float *column = x + (size_t) first * c + at % c;
		float		sum = 0.0f;
		int			best = -1;

		for (int i = 0; i < length; i++)
		{
			float		value = column[(size_t) i * c];

			if (pooling != DISTIL_POOL_MAX)
				sum += cuda_pool_weight(pooling, i, length) * value;
			else if (best < 0 || value > column[(size_t) best * c])
				best = i;
		}
		y[at] = best >= 0 ? column[(size_t) best * c] : sum;
		if (argmax != NULL && pooling == DISTIL_POOL_MAX)
			argmax[at] = best < 0 ? -1 : first + best;
	}
}

/* A block for each sequence. */
__global__ void
pool_backward_kernel(DistilPooling pooling, float *dx, const float *dy, const int32_t *argmax,
					 const int32_t *offsets, int c)
{
	int			b = (int) blockIdx.x;
	int			first = offsets[b];
	int			length = offsets[b + 1] - first;

	for (size_t e = threadIdx.x; e < (size_t) length * c; e += blockDim.x)
	{
		int			i = (int) (e / c);
		size_t		at = (size_t) b * c + e % c;
		float		weight = pooling == DISTIL_POOL_MAX ? (argmax[at] == first + i ? 1.0f : 0.0f)
			: cuda_pool_weight(pooling, i, length);

		dx[(size_t) first * c + e] = weight * dy[at];
	}
}

static void
cuda_pool_forward(DistilDevice *dev, DistilPooling pooling, float *y, int32_t *argmax, const float *x,
				  const int32_t *offsets, int nseq, int c)
{
	CUDA_RUN(dev, pool_forward_kernel, cuda_blocks((size_t) nseq * c), CUDA_THREADS, pooling, y, argmax, x,
			 offsets, nseq, c);
}

static void
cuda_pool_backward(DistilDevice *dev, DistilPooling pooling, float *dx, const float *dy,
				   const int32_t *argmax, const int32_t *offsets, int nseq, int c)
{
	CUDA_RUN(dev, pool_backward_kernel, nseq, CUDA_THREADS, pooling, dx, dy, argmax, offsets, c);
}

#endif							/* DISTIL_POOL_CUDA_CUH */
