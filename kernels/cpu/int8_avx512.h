/*
 * int8_avx512.h
 *		Template: 8-bit linear layers with AVX-512 VNNI: twelve rows by two panels in 24 registers.
 *
 * The including file gives what int8_cpu.h asks for; the compiler's flags decide how results become BF16.
 */
#define CPU_LANES 16
#include "int8_cpu.h"

#define INT8_TILE_ROWS 12
#define INT8_TILE_PANELS 2

/* Four values of a row in every lane. */
static inline __m512i
spread(const uint8_t *x)
{
	int32_t		word;

	memcpy(&word, x, sizeof(word));
	return _mm512_set1_epi32(word);
}

static inline __attribute__((always_inline)) void
int8_tile(int32_t *sums, const uint8_t *x, size_t ld, const int8_t *w, size_t panel, int steps, int rows,
		  Int8Fetch *fetch)
{
	__m512i		sum[INT8_TILE_ROWS][2];
	const uint8_t *half = x + 6 * ld;
	size_t		three = 3 * ld;
	size_t		five = 5 * ld;
	int			step,
				r,
				p;

	/*
	 * A row is found from one of two addresses and a multiple of ld: an
	 * address for each would not fit the registers.
	 */
	__asm__ ("" : "+r" (half), "+r" (three), "+r" (five));

#pragma GCC unroll 12
	for (r = 0; r < rows; r++)
		sum[r][0] = sum[r][1] = _mm512_setzero_si512();
	for (step = 0; step < steps; step++)
	{
		__m512i		w0 = _mm512_loadu_si512(w + (size_t) step * 64);
		__m512i		w1 = _mm512_loadu_si512(w + panel + (size_t) step * 64);

#pragma GCC unroll 12
		for (r = 0; r < rows; r++)
		{
			int			other = r % 6;
			__m512i		a = spread((r < 6 ? x : half) +
								   (other == 3 ? three : other == 5 ? five : other * ld));

			sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], a, w0);
			sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], a, w1);
		}
		x += 4;
		half += 4;
		int8_ask(fetch);
	}
#pragma GCC unroll 12
	for (r = 0; r < rows; r++)
	{
#pragma GCC unroll 2
		for (p = 0; p < 2; p++)
			_mm512_store_si512(sums + r * INT8_PAIR + p * DISTIL_PANEL, sum[r][p]);
	}
}

#include "int8_vectors.h"
#include "int8_functions.h"
#include "int8_norm.h"
