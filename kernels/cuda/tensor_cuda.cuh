/*
 * tensor_cuda.cuh
 *		bfloat16 and the tensor cores: rounding, pairs, one product of 16 x 8 x 16.
 *
 * Fragments are those of the PTX manual, mma.m16n8k16: with group = lane / 4 and pair = lane % 4 * 2,
 *	a[0] = A (group, pair), a[1] = A (group + 8, pair),
 *	a[2] = A (group, pair + 8), a[3] = A (group + 8, pair + 8);
 *	b[0] = B (pair, group), b[1] = B (pair + 8, group), two neighbours along l in each word;
 *	c[0], c[1] = C (group, pair), (group, pair + 1), c[2], c[3] = the same of row group + 8.
 */
#ifndef DISTIL_TENSOR_CUDA_CUH
#define DISTIL_TENSOR_CUDA_CUH

#include "cuda_device.cuh"

/* Rounded to nearest even; a NaN stays one. */
static __device__ inline uint16_t
cuda_to_bf16(float x)
{
	uint32_t	bits = __float_as_uint(x);

	if ((bits & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t) (bits >> 16 | 0x40u);
	return (uint16_t) ((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static __device__ inline float
cuda_from_bf16(uint16_t x)
{
	return __uint_as_float((uint32_t) x << 16);
}

/* Two neighbours, the first in the lower half. */
static __device__ inline uint32_t
cuda_pack_bf16(float low, float high)
{
#if defined(__CUDA_ARCH__)
	uint32_t	two;

	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(high), "f"(low));
	return two;
#else
	return (uint32_t) cuda_to_bf16(low) | (uint32_t) cuda_to_bf16(high) << 16;
#endif
}

/* An element in memory as a number, and back; bfloat16 is uint16_t. */
static __device__ inline float
cuda_number(float x)
{
	return x;
}

static __device__ inline float
cuda_number(uint16_t x)
{
	return cuda_from_bf16(x);
}

static __device__ inline void
cuda_put(float *to, float x)
{
	*to = x;
}

static __device__ inline void
cuda_put(uint16_t *to, float x)
{
	*to = cuda_to_bf16(x);
}

/* Eight numbers in a row, aligned to 16 bytes. */
struct __align__(16) CudaRun
{
	uint32_t	pair[4];
};

/* N numbers in a row: 8, or any one. */
template <int N>
static __device__ inline void
cuda_load(float (&to)[N], const uint16_t *from)
{
	if (N == 1)
		to[0] = cuda_from_bf16(*from);
	else
	{
		CudaRun		run = *(const CudaRun *) from;

#pragma unroll
		for (int e = 0; e < N; e++)
			to[e] = __uint_as_float(e % 2 == 0 ? run.pair[e / 2] << 16 : run.pair[e / 2] & 0xffff0000u);
	}
}

template <int N>
static __device__ inline void
cuda_store(uint16_t *to, const float (&from)[N])
{
	if (N == 1)
		*to = cuda_to_bf16(from[0]);
	else
	{
		CudaRun		run;

#pragma unroll
		for (int e = 0; e + 1 < N; e += 2)
			run.pair[e / 2] = cuda_pack_bf16(from[e], from[e + 1]);
		*(CudaRun *) to = run;
	}
}

/* Two neighbours in memory, 4-byte aligned; float32 is rounded. */
static __device__ inline uint32_t
cuda_pair(const uint16_t *at)
{
	return *(const uint32_t *) at;
}

static __device__ inline uint32_t
cuda_pair(const float *at)
{
	return cuda_pack_bf16(at[0], at[1]);
}

/*
 * The right operand B [16 x 8] from shared memory where B lies by rows, ld apart, each 16-byte aligned: lane
 * i < 16 gives the address of row i, and gets two neighbours down a column (PTX manual, ldmatrix with
 * .trans).
 */
static __device__ inline void
cuda_load_turned(uint32_t (&to)[2], const uint16_t *at, int ld)
{
#if defined(__CUDA_ARCH__)
	uint32_t	address = (uint32_t) __cvta_generic_to_shared(at + (threadIdx.x & 15) * ld);

	asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(to[0]),
				 "=r"(to[1]) : "r"(address));
#else
	int			column = (int) (threadIdx.x & 31) / 4;
	int			row = (int) (threadIdx.x & 3) * 2;

	for (int half = 0; half < 2; half++, row += 8)
		to[half] = at[row * ld + column] | (uint32_t) at[(row + 1) * ld + column] << 16;
#endif
}

#ifndef CUDA_MMA				/* the tests on a CPU have their own */
#define CUDA_MMA(c, a, b) \
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, " \
				 "{%8,%9}, {%0,%1,%2,%3};" : "+f"((c)[0]), "+f"((c)[1]), "+f"((c)[2]), "+f"((c)[3]) \
				 : "r"((a)[0]), "r"((a)[1]), "r"((a)[2]), "r"((a)[3]), "r"((b)[0]), "r"((b)[1]))
#endif

/* c += a b */
static __device__ inline void
cuda_mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
	CUDA_MMA(c, a, b);
}

#endif							/* DISTIL_TENSOR_CUDA_CUH */
