/*
 * int8.h
 *		Linear layers in eight bits: three functions per instruction set, for CpuRows, and their attention.
 *
 * What kernels.h says of linear_rows, quantize_rows, norm_rows and attention_rows for DISTIL_TYPE_INT8.
 * Where a set has no dot products of bytes, those of a smaller one serve it.
 */
#ifndef DISTIL_INT8_H
#define DISTIL_INT8_H

#include "cpu.h"

#include <math.h>

#define INT8_NORM_FUNCTION(name) \
	extern void name(DistilDevice *dev, float *y, const DistilRows *low, const float *x, \
					 const float *residual, const float *gamma, const float *beta, float eps, int rows, int c)

#define INT8_SET(set) \
	extern void distil_cpu_linear_int8_##set(DistilDevice *dev, const DistilRows *y, const DistilRows *x, \
											 const DistilWeight *w, DistilActivation act, int m); \
	extern void distil_cpu_quantize_int8_##set(DistilDevice *dev, const DistilRows *y, const DistilRows *x, \
											   DistilActivation act, int m, int c); \
	INT8_NORM_FUNCTION(distil_cpu_norm_int8_##set)

INT8_SET(amx);
INT8_SET(amx_plain);
INT8_SET(avx512_bf16);
INT8_SET(avx512_vnni);
INT8_SET(avx_vnni);
INT8_SET(avx2);
INT8_SET(portable);
/* The norm of the device's set, then its quantize_rows, row by row: for any width. */
INT8_NORM_FUNCTION(distil_cpu_norm_int8);

/* Attention over rows of BF16 in whole numbers, see attention_words.h. */
extern void distil_cpu_attention_words_avx512_vnni(DistilDevice *dev, const DistilRows *out,
												   const DistilRows *qkv, const int32_t *offsets,
												   const DistilAttention *a);
extern void distil_cpu_attention_words_avx_vnni(DistilDevice *dev, const DistilRows *out,
												const DistilRows *qkv, const int32_t *offsets,
												const DistilAttention *a);
extern void distil_cpu_attention_words_avx2(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv,
											const int32_t *offsets, const DistilAttention *a);
/* In float32, for heads that words do not do (ops_avx2.c). */
extern void distil_cpu_attention_floats_avx2(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv,
											 const int32_t *offsets, const DistilAttention *a);
/* In bytes, see attention_bytes.h. */
extern void distil_cpu_attention_bytes_avx512_bf16(DistilDevice *dev, const DistilRows *out,
												   const DistilRows *qkv, const int32_t *offsets,
												   const DistilAttention *a);
extern void distil_cpu_attention_bytes_avx512_vnni(DistilDevice *dev, const DistilRows *out,
												   const DistilRows *qkv, const int32_t *offsets,
												   const DistilAttention *a);
extern void distil_cpu_attention_bytes_avx_vnni(DistilDevice *dev, const DistilRows *out,
												const DistilRows *qkv, const int32_t *offsets,
												const DistilAttention *a);

/* How a row is cut into steps: q = round(value * inverse) + zero. */
typedef struct Int8Step
{
	float		scale;			/* NaN when the row holds a NaN or an infinity */
	float		inverse;
	int32_t		zero;
} Int8Step;

/*
 * Of a row whose smallest value (at most 0) is low and whose largest (at least 0) is high; sum is
 * any sum of its values and only tells whether one is not finite.
 */
static inline Int8Step
int8_step(float low, float high, float sum)
{
	float		range = high - low;

	if (!isfinite(sum) || !isfinite(range))
		return (Int8Step) {NAN, 0.0f, 0};
	if (range < 1e-30f)
		return (Int8Step) {1.0f, 0.0f, 0};
	return (Int8Step) {range / 254.0f, 254.0f / range, (int32_t) floorf(-low * (254.0f / range) + 0.75f)};
}

#endif							/* DISTIL_INT8_H */
