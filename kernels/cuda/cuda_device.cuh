/*
 * cuda_device.cuh
 *		What the operations of the CUDA backend share: the device, launches, sums over threads.
 *
 * The rule a newcomer would break: results are the same bits each time, so no sum is made with
 * atomics.  Sums over rows are made in two steps: parts of fixed size, then the parts in order.
 * Shuffles and barriers stand where all threads of the warp or block come by.
 */
#ifndef DISTIL_CUDA_DEVICE_CUH
#define DISTIL_CUDA_DEVICE_CUH

#include <cuda_runtime.h>

extern "C"
{
#include "kernels.h"
}

#define CUDA_THREADS 256		/* of a block, element-wise */
#define CUDA_ROW_WARPS 4		/* rows of a block with one warp each */
#define CUDA_SUM_BLOCKS 256		/* parts of a sum over a vector */
#define CUDA_SUM_ROWS 64		/* rows of a part of a sum over rows */
#define CUDA_GRID_ROWS 32768	/* blocks of a grid's second dimension, at most */
#define CUDA_BLOCKS 512			/* memory blocks that alloc may have given out */
#define CUDA_SCRATCH ((size_t) 64 << 20)	/* bytes for parts of sums */
#define CUDA_RESERVE ((size_t) 512 << 20)	/* bytes left to the driver, on small GPUs a 16th of all */

typedef enum CudaPrecision
{
	CUDA_FLOAT32,				/* products in float32 */
	CUDA_TF32,					/* of numbers rounded to 10 bits, by cuBLASLt */
	CUDA_BF16					/* of numbers rounded to bfloat16; sums are float32 always */
} CudaPrecision;

typedef struct CudaBlock
{
	void	   *address;
	size_t		bytes;
} CudaBlock;

typedef struct CudaDevice
{
	DistilDevice base;
	int			number;			/* of the GPU */
	cudaStream_t stream;
	CudaPrecision precision;
	bool		reads_host;		/* copies may read the host's own memory when they have returned */
	bool		rounds;			/* opened for bfloat16: round_products may choose it */
	char	   *scratch;		/* CUDA_SCRATCH bytes */
	char		failure[200];	/* "" while all is well */
	bool		noting;			/* between graph_begin and graph_end */
	bool		unrepeatable;	/* what was noted since */
	size_t		used;
	size_t		limit;
	int			nblocks;
	CudaBlock	blocks[CUDA_BLOCKS];
	struct CudaBlas *blas;		/* NULL: own products only */
	struct CudaGroup *group;	/* NULL: opened alone */
} CudaDevice;

static inline CudaDevice *
cuda_device(DistilDevice *dev)
{
	return (CudaDevice *) dev;
}

/* What follows is for this GPU: threads that have several choose before each launch. */
static inline void
cuda_use(CudaDevice *cuda)
{
	(void) cudaSetDevice(cuda->number);
}

/* Keep the first failure. */
static void cuda_note(CudaDevice *cuda, cudaError_t error, const char *what);

/* A grid of x times y blocks on the device's stream; nothing when there are no blocks. */
#define CUDA_RUN_GRID(dev, kernel, columns, lines, threads, ...) \
	do { \
		dim3		grid_((unsigned) (columns), (unsigned) (lines)); \
		if (grid_.x > 0 && grid_.y > 0) \
		{ \
			cuda_use(cuda_device(dev)); \
			CUDA_LAUNCH(kernel, grid_, threads, cuda_device(dev)->stream, __VA_ARGS__); \
			cuda_note(cuda_device(dev), cudaPeekAtLastError(), #kernel); \
		} \
	} while (0)
#define CUDA_RUN(dev, kernel, blocks, threads, ...) \
	CUDA_RUN_GRID(dev, kernel, blocks, 1, threads, __VA_ARGS__)

#ifndef CUDA_LAUNCH				/* the tests on a CPU have their own */
#define CUDA_LAUNCH(kernel, grid, threads, stream, ...) \
	kernel<<<(grid), (threads), 0, (stream)>>>(__VA_ARGS__)
#endif

/* Blocks of CUDA_THREADS threads for n elements; loops take the rest beyond the limit of a grid. */
static inline unsigned
cuda_blocks(size_t n)
{
	size_t		blocks = (n + CUDA_THREADS - 1) / CUDA_THREADS;

	return (unsigned) (blocks < 65536 ? blocks : 65536);
}

/* The same for rows with a warp each. */
static inline unsigned
cuda_row_blocks(size_t rows)
{
	return (unsigned) ((rows + CUDA_ROW_WARPS - 1) / CUDA_ROW_WARPS);
}

/* for (size_t i ...) over n elements, all threads of the grid together */
#define CUDA_EACH(i, n) \
	for (size_t i = (size_t) blockIdx.x * blockDim.x + threadIdx.x; i < (n); \
		 i += (size_t) gridDim.x * blockDim.x)

static __device__ inline int
cuda_lane(void)
{
	return (int) (threadIdx.x & 31);
}

/* The row of this warp. */
static __device__ inline size_t
cuda_row(void)
{
	return (size_t) blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
}

/* Sum over the warp, in every lane, always in the same order. */
template <typename T>
static __device__ inline T
cuda_warp_sum(T x)
{
	for (int step = 16; step > 0; step /= 2)
		x += __shfl_xor_sync(0xffffffffu, x, step);
	return x;
}

static __device__ inline float
cuda_warp_max(float x)
{
	for (int step = 16; step > 0; step /= 2)
	{
		float		other = __shfl_xor_sync(0xffffffffu, x, step);

		/* a NaN wins */
		x = !(other <= x) ? other : x;
	}
	return x;
}

/* Sum over a block of at most 1024 threads, in every thread.  parts [33] is shared memory. */
template <typename T>
static __device__ inline T
cuda_block_sum(T x, T *parts)
{
	int			warps = (int) (blockDim.x / 32);

	x = cuda_warp_sum(x);
	__syncthreads();			/* parts may still be read from the sum before */
	if (cuda_lane() == 0)
		parts[threadIdx.x / 32] = x;
	__syncthreads();
	if (threadIdx.x == 0)
	{
		T			total = parts[0];

		for (int i = 1; i < warps; i++)
			total += parts[i];
		parts[32] = total;
	}
	__syncthreads();
	return parts[32];
}

#endif							/* DISTIL_CUDA_DEVICE_CUH */
