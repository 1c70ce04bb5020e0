/*
 * int8_avx2.c
 *		8-bit linear layers with AVX2, whose products of bytes would saturate: they are widened to 16 bits.
 */
#if defined(__x86_64__)
#define CPU_LANES 8
#define INT8_LINEAR distil_cpu_linear_int8_avx2
#define INT8_QUANTIZE distil_cpu_quantize_int8_avx2
#define INT8_NORM distil_cpu_norm_int8_avx2
#include <immintrin.h>
#include "int8_cpu.h"

#define INT8_TILE_ROWS 2
#define INT8_TILE_REST 1
#define INT8_TILE_PANELS 1

/* A quarter of a panel's line: four columns of four values, as 16 bits. */
static inline __m256i
widen(const int8_t *w)
{
	return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *) (const void *) w));
}

static inline __attribute__((always_inline)) void
int8_tile(int32_t *sums, const uint8_t *x, size_t ld, const int8_t *w, size_t panel, int steps, int rows,
		  Int8Fetch *fetch)
{
	__m256i		sum[INT8_TILE_ROWS][4];
	int			step,
				r,
				q;

	(void) panel;
#pragma GCC unroll 2
	for (r = 0; r < rows; r++)
	{
#pragma GCC unroll 4
		for (q = 0; q < 4; q++)
			sum[r][q] = _mm256_setzero_si256();
	}
	for (step = 0; step < steps; step++)
	{
		__m256i		a[INT8_TILE_ROWS];

#pragma GCC unroll 2
		for (r = 0; r < rows; r++)
		{
			int32_t		word;

			memcpy(&word, x + r * ld + (size_t) step * 4, sizeof(word));
			a[r] = _mm256_cvtepu8_epi16(_mm_set1_epi32(word));
		}
#pragma GCC unroll 4
		for (q = 0; q < 4; q++)
		{
			__m256i		line = widen(w + (size_t) step * 64 + q * 16);

#pragma GCC unroll 2
			for (r = 0; r < rows; r++)
				sum[r][q] = _mm256_add_epi32(sum[r][q], _mm256_madd_epi16(a[r], line));
		}
		int8_ask(fetch);
	}
	/* Each column's sum lies in two neighbours. */
#pragma GCC unroll 2
	for (r = 0; r < rows; r++)
	{
#pragma GCC unroll 2
		for (q = 0; q < 2; q++)
		{
			__m256i		both = _mm256_hadd_epi32(sum[r][2 * q], sum[r][2 * q + 1]);

			_mm256_store_si256((__m256i *) (void *) (sums + r * INT8_PAIR + 8 * q),
							   _mm256_permute4x64_epi64(both, 0xd8));
		}
	}
}

#include "int8_vectors.h"
#include "int8_functions.h"
#include "int8_norm.h"
#endif
