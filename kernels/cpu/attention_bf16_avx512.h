/*
 * attention_bf16_avx512.h
 *		Attention over rows of BF16 by vdpbf16ps, one sequence and head at a time.
 *
 * Everything is turned over, as in attention_cpu.h: a vector holds one key's scores with 16 queries.  Keys
 * are read where they lie, a broadcast pair of dimensions at a time; values are put in pairs of keys, as are
 * probabilities (of the largest score's), which are rounded to BF16 and summed as they are multiplied.  Each
 * output is one chain in the order of keys, so a query has the same bits in any part of a call.  Up to 16
 * queries, which is most of short texts, are one vector instead of two.
 */
#include "attention_head.h"

#define PAIR_QUERIES 32			/* at a time */
#define PAIR_KEYS	1024		/* longest sequence */
#define PAIR_DIM	128			/* widest head */
#define PAIR_TILE	8			/* keys, or dimensions */

/* Lies in the device's scratch. */
typedef struct PairAttention
{
	int32_t		queries[PAIR_DIM / 2][PAIR_QUERIES] __attribute__((aligned(64)));
	int32_t		values[PAIR_KEYS / 2 * PAIR_DIM] __attribute__((aligned(64)));	/* [key / 2][dim] */
	/* Key by key; then, from the start on, probabilities of pairs of keys. */
	float		scores[PAIR_KEYS][PAIR_QUERIES] __attribute__((aligned(64)));
	float		sums[PAIR_DIM][PAIR_QUERIES] __attribute__((aligned(64)));
} PairAttention;

_Static_assert(sizeof(PairAttention) <= CPU_AREAS * CPU_AREA_FLOATS * sizeof(float), "scratch is too small");

/* Words of two vectors, the first 16 or the last 16 of each, in turn. */
static const uint16_t pair_first[32] __attribute__((aligned(64))) = {0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5,
	37, 6, 38, 7, 39, 8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
static const uint16_t pair_last[32] __attribute__((aligned(64))) = {16, 48, 17, 49, 18, 50, 19, 51, 20, 52,
	21, 53, 22, 54, 23, 55, 24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63};

static bool
pair_head(void *scratch, const RowsHead *h)
{
	PairAttention *s = scratch;
	const uint16_t *v = h->q + 2 * h->width;
	__m512i		first = _mm512_load_si512(pair_first);
	__m512i		last = _mm512_load_si512(pair_last);
	int			key,
				d;

	for (key = 0; key < h->length; key += 2, v += 2 * h->ld)
	{
		int32_t    *to = s->values + (size_t) key / 2 * h->dim;

		for (d = 0; d < h->dim; d += 32)
		{
			__m512i		low = _mm512_loadu_si512(v + d);
			/* the last key may be alone: nothing that is no number may stand beside it */
			__m512i		high = _mm512_maskz_loadu_epi16(key + 1 < h->length ? -1 : 0, v + h->ld + d);

			_mm512_store_si512(to + d, _mm512_permutex2var_epi16(low, first, high));
			_mm512_store_si512(to + d + 16, _mm512_permutex2var_epi16(low, last, high));
		}
	}
	return true;
}

/* Up to PAIR_QUERIES queries in columns, zeros behind them to the end of a vector. */
static void
pair_queries(PairAttention *s, const RowsHead *h, int first, int count)
{
	vf			square[CPU_LANES];
	int			query,
				d,
				i;

	for (query = 0; query < count; query += CPU_LANES)
	{
		for (d = 0; d < h->dim; d += 2 * CPU_LANES)
		{
			rows_turn(square, h->q + (size_t) (first + query) * h->ld + d, h->ld, count - query);
			for (i = 0; i < CPU_LANES; i++)
				_mm512_store_ps(&s->queries[d / 2 + i][query], (__m512) square[i]);
		}
	}
}

/*
 * sum[rows][vectors of queries] = of `steps` pairs; a row's pairs are `step` apart, rows `row`; rows and
 * vectors are constants after inlining.
 */
static inline __attribute__((always_inline)) void
pair_tile(__m512 sum[PAIR_TILE][2], const char *a, size_t row, size_t step, const char *b, int steps,
		  int rows, int vectors)
{
	int			i,
				r;

#pragma GCC unroll 8
	for (r = 0; r < rows; r++)
		sum[r][0] = sum[r][1] = _mm512_setzero_ps();
	for (i = 0; i < steps; i++, a += step, b += PAIR_QUERIES * sizeof(int32_t))
	{
		__m512bh	b0 = (__m512bh) _mm512_load_si512(b);
		__m512bh	b1 = vectors == 2 ? (__m512bh) _mm512_load_si512(b + 64) : b0;

#pragma GCC unroll 8
		for (r = 0; r < rows; r++)
		{
			int32_t		pair;
			__m512bh	all;

			memcpy(&pair, a + r * row, sizeof(pair));
			all = (__m512bh) _mm512_set1_epi32(pair);
			sum[r][0] = _mm512_dpbf16_ps(sum[r][0], all, b0);
			if (vectors == 2)
				sum[r][1] = _mm512_dpbf16_ps(sum[r][1], all, b1);
		}
	}
}

/* The scores of `rows` keys; top: the largest so far */
static inline __attribute__((always_inline)) void
pair_score(PairAttention *s, const RowsHead *h, __m512 top[2], int key, int dim, int rows, int vectors)
{
	__m512		sum[PAIR_TILE][2];
	int			r,
				v;

	pair_tile(sum, (const char *) (h->q + h->width + (size_t) key * h->ld), h->ld * sizeof(uint16_t),
			  sizeof(int32_t), (const char *) s->queries, dim / 2, rows, vectors);
#pragma GCC unroll 8
	for (r = 0; r < rows; r++)
	{
#pragma GCC unroll 2
		for (v = 0; v < vectors; v++)
		{
			_mm512_store_ps(s->scores[key + r] + v * CPU_LANES, sum[r][v]);
			top[v] = _mm512_max_ps(top[v], sum[r][v]);
		}
	}
}

/*
 * 2^(x factor + shift) by a minimax cubic, error below 7.5e-5 of it, and half of what BF16 cannot hold of
 * it, which is cut off next: the upper half of the result is rounded to nearest.
 */
static inline __m512
pair_power(__m512 x, __m512 factor, __m512 shift)
{
	__m512		y = _mm512_fmadd_ps(x, factor, shift);
	__m512		f = _mm512_reduce_ps(y, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
	__m512		p = _mm512_fmadd_ps(f, _mm512_set1_ps(0.0780245215f), _mm512_set1_ps(0.226067156f));

	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.695833564f));
	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.999925196f + 0.00390625f));
	return _mm512_scalef_ps(p, y);
}

/* Of 16 queries: the scores of two keys, or of the last one, to a pair of probabilities. */
static inline __attribute__((always_inline)) __m512bh
pair_probabilities(const float *scores, __m512 factor, __m512 shift, int keys)
{
	__m512i		low = (__m512i) pair_power(_mm512_load_ps(scores), factor, shift);
	__m512i		high = _mm512_setzero_si512();

	if (keys >= 2)
		high = (__m512i) pair_power(_mm512_load_ps(scores + PAIR_QUERIES), factor, shift);
	return (__m512bh) _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(low, 16), high);
}

/* Scores to probabilities of queries, two keys to a lane; total: the sums of them. */
static inline __attribute__((always_inline)) void
pair_soften(PairAttention *s, const RowsHead *h, const __m512 top[2], __m512 total[2], int vectors)
{
	__m512		factor = _mm512_set1_ps(h->scale * LOG2_E);
	__m512bh	ones = (__m512bh) _mm512_set1_epi32(0x3f803f80);
	__m512		shift[2];
	int			key,
				v;

#pragma GCC unroll 2
	for (v = 0; v < vectors; v++)
	{
		shift[v] = _mm512_fnmadd_ps(top[v], factor, _mm512_setzero_ps());
		total[v] = _mm512_setzero_ps();
	}
#pragma GCC unroll 2
	for (key = 0; key < h->length; key += 2)
	{
#pragma GCC unroll 2
		for (v = 0; v < vectors; v++)
		{
			__m512bh	p = pair_probabilities(s->scores[key] + v * CPU_LANES, factor, shift[v],
											   h->length - key);

			_mm512_store_si512(s->scores[key / 2] + v * CPU_LANES, (__m512i) p);
			total[v] = _mm512_dpbf16_ps(total[v], p, ones);
		}
	}
}

/* The results' sums of PAIR_TILE dimensions. */
static inline __attribute__((always_inline)) void
pair_mix(PairAttention *s, const RowsHead *h, int d, int dim, int vectors)
{
	__m512		sum[PAIR_TILE][2];
	int			r,
				v;

	pair_tile(sum, (const char *) (s->values + d), sizeof(int32_t), dim * sizeof(int32_t),
			  (const char *) s->scores, (h->length + 1) / 2, PAIR_TILE, vectors);
#pragma GCC unroll 8
	for (r = 0; r < PAIR_TILE; r++)
	{
#pragma GCC unroll 2
		for (v = 0; v < vectors; v++)
			_mm512_store_ps(s->sums[d + r] + v * CPU_LANES, sum[r][v]);
	}
}

/* Sums of columns to rows, divided by those of the probabilities: in pairs of dimensions. */
static void
pair_finish(const PairAttention *s, const RowsHead *h, const __m512 total[2], int first, int count)
{
	int			lane,
				d,
				i;

	for (lane = 0; lane < count; lane += CPU_LANES)
	{
		vf			norm = 1.0f / (vf) total[lane / CPU_LANES];
		uint16_t   *to = h->out + (size_t) (first + lane) * h->ld_out;

		for (d = 0; d < h->dim; d += 2 * CPU_LANES)
		{
			vf			square[CPU_LANES];

			for (i = 0; i < CPU_LANES; i++)
			{
				vf			even = v_load(s->sums[d + 2 * i] + lane) * norm;
				vf			odd = v_load(s->sums[d + 2 * i + 1] + lane) * norm;

				square[i] = rows_narrow(even, odd);
			}
			transpose_square(square);
			for (i = 0; i < CPU_LANES && lane + i < count; i++)
				_mm512_storeu_ps(to + i * h->ld_out + d, (__m512) square[i]);
		}
	}
}

/* Of queries in so many vectors. */
static inline __attribute__((always_inline)) void
pair_attend_vectors(PairAttention *s, const RowsHead *h, __m512 total[2], int dim, int vectors)
{
	__m512		top[2] = {_mm512_set1_ps(-INFINITY), _mm512_set1_ps(-INFINITY)};
	int			key,
				d;

	for (key = 0; key + PAIR_TILE <= h->length; key += PAIR_TILE)
		pair_score(s, h, top, key, dim, PAIR_TILE, vectors);
	/* the last tile may begin among keys that are done: what it finds is the same */
	if (h->length - key > PAIR_TILE / 2 && h->length > PAIR_TILE)
	{
		pair_score(s, h, top, h->length - PAIR_TILE, dim, PAIR_TILE, vectors);
		key = h->length;
	}
	for (; key < h->length && h->length >= PAIR_TILE / 2; key += PAIR_TILE / 2)
		pair_score(s, h, top, key + PAIR_TILE / 2 <= h->length ? key : h->length - PAIR_TILE / 2, dim,
				   PAIR_TILE / 2, vectors);
	for (; key < h->length; key++)
		pair_score(s, h, top, key, dim, 1, vectors);
	pair_soften(s, h, top, total, vectors);
	for (d = 0; d < dim; d += PAIR_TILE)
		pair_mix(s, h, d, dim, vectors);
}

/* dim is h->dim, where it pays a constant after inlining */
static inline __attribute__((always_inline)) void
pair_attend_dim(PairAttention *s, const RowsHead *h, int first, int count, int dim)
{
	__m512		total[2];

	pair_queries(s, h, first, count);
	if (count <= CPU_LANES)
		pair_attend_vectors(s, h, total, dim, 1);
	else
		pair_attend_vectors(s, h, total, dim, 2);
	pair_finish(s, h, total, first, count);
}

static void
pair_attend(void *scratch, const RowsHead *h, int first, int count)
{
	ROWS_OF_DIM(h, pair_attend_dim, scratch, h, first, count);
}

static void
attention_bf16_avx512(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv, const int32_t *offsets,
					  const DistilAttention *a)
{
	const RowsWay way = {.longest = PAIR_KEYS,.dim = PAIR_DIM,.multiple = 2 * CPU_LANES,
		.queries = PAIR_QUERIES,.prepare = pair_head,.attend = pair_attend,
	.otherwise = distil_cpu_rows_avx512.attention};

	rows_attend(dev, out, qkv, offsets, a, &way);
}
