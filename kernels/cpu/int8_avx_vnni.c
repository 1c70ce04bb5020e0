/*
 * int8_avx_vnni.c
 *		8-bit linear layers (six rows by half a panel twice in 12 registers), attention in words and in bytes
 *		with AVX-VNNI.
 */
#if defined(__x86_64__)
#define CPU_LANES 8
#define INT8_LINEAR distil_cpu_linear_int8_avx_vnni
#define INT8_QUANTIZE distil_cpu_quantize_int8_avx_vnni
#define INT8_NORM distil_cpu_norm_int8_avx_vnni
#include <immintrin.h>
#include "int8_cpu.h"

#define INT8_TILE_ROWS 6
#define INT8_TILE_PANELS 1

static inline __attribute__((always_inline)) void
int8_tile(int32_t *sums, const uint8_t *x, size_t ld, const int8_t *w, size_t panel, int steps, int rows,
		  Int8Fetch *fetch)
{
	__m256i		sum[INT8_TILE_ROWS][2];
	int			step,
				r;

	(void) panel;
#pragma GCC unroll 6
	for (r = 0; r < rows; r++)
		sum[r][0] = sum[r][1] = _mm256_setzero_si256();
	for (step = 0; step < steps; step++)
	{
		__m256i		w0 = _mm256_loadu_si256((const __m256i *) (const void *) (w + (size_t) step * 64));
		__m256i		w1 = _mm256_loadu_si256((const __m256i *) (const void *) (w + (size_t) step * 64 + 32));

#pragma GCC unroll 6
		for (r = 0; r < rows; r++)
		{
			int32_t		word;
			__m256i		a;

			memcpy(&word, x + r * ld + (size_t) step * 4, sizeof(word));
			a = _mm256_set1_epi32(word);
			sum[r][0] = _mm256_dpbusd_avx_epi32(sum[r][0], a, w0);
			sum[r][1] = _mm256_dpbusd_avx_epi32(sum[r][1], a, w1);
		}
		int8_ask(fetch);
	}
#pragma GCC unroll 6
	for (r = 0; r < rows; r++)
	{
		_mm256_store_si256((__m256i *) (void *) (sums + r * INT8_PAIR), sum[r][0]);
		_mm256_store_si256((__m256i *) (void *) (sums + r * INT8_PAIR + 8), sum[r][1]);
	}
}

#include "int8_vectors.h"
#include "int8_functions.h"
#include "int8_norm.h"

#define ATTENTION_WORDS distil_cpu_attention_words_avx_vnni
#define ATTENTION_ELSE distil_cpu_attention_floats_avx2
#define WORDS_ROWS 6

static inline vi
words_dot(vi sum, vi a, vi b)
{
	return (vi) _mm256_dpwssd_avx_epi32((__m256i) sum, (__m256i) a, (__m256i) b);
}

#include "attention_words.h"

#undef ATTENTION_ELSE
#define ATTENTION_BYTES distil_cpu_attention_bytes_avx_vnni
#define ATTENTION_ELSE distil_cpu_attention_words_avx_vnni
#define BYTES_ROWS 6

static inline vi
bytes_dot(vi sum, vi a, vi b)
{
	return (vi) _mm256_dpbusd_avx_epi32((__m256i) sum, (__m256i) a, (__m256i) b);
}

#include "attention_bytes.h"
#endif
