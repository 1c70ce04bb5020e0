/*
 * tensor_cuda.cuh
 *		bfloat16 and the tensor cores: rounding, pairs, one product of 16 x 8 x 16.
 *
 * Fragments are those of the PTX manual, mma.m16n8k16: with group = lane / 4 and pair = lane % 4 * 2,
 *	a[0] = A (group, pair), a[1] = A (group + 8, pair), a[2] = A (group, pair + 8), a[3] = A (group + 8, pair + 8)
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
	return (uint32_t) cuda_to_bf16(low) | (uint32_t) cuda_to_bf16(high) << 16;
}

/* Two neighbours in memory, 4-byte aligned. */
static __device__ inline uint32_t
cuda_pair(const uint16_t *at)
{
	return *(const uint32_t *) at;
}

#ifndef CUDA_MMA				/* the tests on a CPU have their own */
#define CUDA_MMA(c, a, b) \
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
				 : "+f"((c)[0]), "+f"((c)[1]), "+f"((c)[2]), "+f"((c)[3]) \
				 : "r"((a)[0]), "r"((a)[1]), "r"((a)[2]), "r"((a)[3]), "r"((b)[0]), "r"((b)[1]))
#endif

/* c += a b */
static __device__ inline void
cuda_mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
	CUDA_MMA(c, a, b);
}

#endif							/* DISTIL_TENSOR_CUDA_CUH */
