/*
 * pack_bf16_avx512.h
 *		Part of ops_avx512.c: matrices of float32 to rows or panels of bfloat16 (kernels.h), as operands of a
 *		product.
 *
 * A matrix is taken in tiles of 16 lines by 32 numbers along the inner dimension.  A tile that lies
 * in memory as it is wanted is only rounded; the other two cases are a transposition of 16 x 16 pairs.
 */
#include "products_bf16.h"

#include <immintrin.h>

#define TILE_LINES	16
#define TILE_INNER	32

/* float32 to bfloat16 in the upper half of each lane, to nearest even; a NaN stays one. */
static inline __m512i
round_bf16(__m512 x)
{
	__m512i		bits = _mm512_castps_si512(x);
	__m512i		odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
	__m512i		up = _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff));
	__mmask16	nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);

	return _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x400000));
}

/* Lane i: the pair (low[i], high[i]). */
static inline __m512i
pair_bf16(__m512 low, __m512 high)
{
	__m512i		upper = _mm512_and_si512(round_bf16(high), _mm512_set1_epi32((int) 0xffff0000));

	return _mm512_or_si512(_mm512_srli_epi32(round_bf16(low), 16), upper);
}

static inline __mmask16
lanes(int count)
{
	return count >= 16 ? 0xffff : count <= 0 ? 0 : (__mmask16) ((1u << count) - 1);
}

/* The inner dimension lies along memory: lines[i] = 32 numbers of line i. */
static inline void
load_along(__m512i *to, const float *from, size_t ld, int outer, int inner)
{
	__mmask16	first = lanes(inner);
	__mmask16	second = lanes(inner - 16);
	int			i;

	for (i = 0; i < TILE_LINES; i++)
	{
		__m512i		low,
					high;

		to[i] = _mm512_setzero_si512();
		if (i >= outer)
			continue;
		low = _mm512_srli_epi32(round_bf16(_mm512_maskz_loadu_ps(first, from + i * ld)), 16);
		high = _mm512_srli_epi32(round_bf16(_mm512_maskz_loadu_ps(second, from + i * ld + 16)), 16);
		to[i] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(low)),
								   _mm512_cvtepi32_epi16(high), 1);
	}
}

/* The lines lie along memory: to[p] = the pairs (2p, 2p + 1) of 16 lines. */
static inline void
load_across(__m512i *to, const float *from, size_t ld, int outer, int inner)
{
	__mmask16	mask = lanes(outer);
	int			p;

	for (p = 0; p < TILE_LINES; p++)
	{
		const float *at = from + (size_t) (2 * p) * ld;

		to[p] = _mm512_setzero_si512();
		if (2 * p < inner)
			to[p] = pair_bf16(_mm512_maskz_loadu_ps(mask, at),
							  2 * p + 1 < inner ? _mm512_maskz_loadu_ps(mask, at + ld) : _mm512_setzero_ps());
	}
}

/* 16 x 16 lanes of 32 bits, in place. */
static inline void
transpose_pairs(__m512i *r)
{
	__m512i		t[16];
	int			i;

	for (i = 0; i < 16; i += 2)
	{
		t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
		t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
	}
	for (i = 0; i < 16; i += 4)
	{
		r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
		r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
		r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
		r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
	for (i = 0; i < 4; i++)
	{
		t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
		t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
		t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
		t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
	}
	for (i = 0; i < 4; i++)
	{
		r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
		r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
		r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
		r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
	}
}

/* Tiles go `outer_step` and `inner_step` elements apart, their 16 lines `line` apart. */
static void
pack(uint16_t *to, size_t outer_step, size_t inner_step, size_t line, bool rows,
	 const float *from, size_t ld, bool along, int outer, int inner)
{
	int			o,
				l,
				i;

	for (o = 0; o < outer; o += TILE_LINES)
	{
		for (l = 0; l < inner; l += TILE_INNER)
		{
			uint16_t   *tile = to + o / TILE_LINES * outer_step + l / TILE_INNER * inner_step;
			__m512i		lines[TILE_LINES];

			if (along)
				load_along(lines, from + o * ld + l, ld, outer - o, inner - l);
			else
				load_across(lines, from + l * ld + o, ld, outer - o, inner - l);
			if (along != rows)
				transpose_pairs(lines);
			for (i = 0; i < TILE_LINES; i++)
				_mm512_storeu_si512(tile + i * line, lines[i]);
		}
	}
}

void
distil_pack_rows_avx512(uint16_t *to, size_t stride, const float *from, size_t ld, bool along, int m, int k)
{
	pack(to, TILE_LINES * stride, TILE_INNER, stride, true, from, ld, along, m, k);
}

void
distil_pack_panels_avx512(uint16_t *to, const float *from, size_t ld, bool along, int n, int k)
{
	size_t		length = distil_row_length(DISTIL_TYPE_BF16, (size_t) k);

	pack(to, DISTIL_PANEL * length, TILE_INNER * DISTIL_PANEL, TILE_INNER, false, from, ld, along, n, k);
}
