/*
 * attention_bf16_avx512.h
 *		Attention over rows of BF16 by vdpbf16ps, of longer sequences one head at a time.
 *
 * Scores are turned over, as in attention_cpu.h: a vector holds one key's with 16 queries.  Keys are read
 * where they lie, a broadcast pair of dimensions at a time; values are put in pairs of keys, as are
 * probabilities (of the largest score's), which are rounded to BF16 and summed as they are multiplied.  For
 * results a vector holds 16 dimensions of one query, which are rows at once.  Each output is one chain in the
 * order of keys, so a query has the same bits in any part of a call.  Up to 16 queries are one vector of
 * scores instead of two; sequences of no more rows are attention_short_avx512.h's.
 */
#include "attention_head.h"

#define PAIR_QUERIES 32			/* at a time */
#define PAIR_KEYS	1024		/* longest sequence */
#define PAIR_DIM	128			/* widest head */
#define PAIR_TILE	8			/* keys, or queries */

/* Lies in the device's scratch. */
typedef struct PairAttention
{
	int32_t		queries[PAIR_DIM / 2][PAIR_QUERIES] __attribute__((aligned(64)));
	int32_t		values[PAIR_KEYS / 2 * PAIR_DIM] __attribute__((aligned(64)));	/* [key / 2][dim] */
	/* Key by key; then, from the start on, probabilities of pairs of keys. */
	float		scores[PAIR_KEYS][PAIR_QUERIES] __attribute__((aligned(64)));
	float		norms[PAIR_QUERIES] __attribute__((aligned(64)));	/* what results are multiplied by */
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
 * sum[rows][vectors] = of `steps` pairs of a, broadcast, and of b; a row's pairs in a are `step` apart, rows
 * `row`, vectors in b 64, and those of the next pair step_b; rows (up to 12) and vectors are constants after
 * inlining.
 */
static inline __attribute__((always_inline)) void
pair_tile(__m512 sum[][2], const char *a, size_t row, size_t step, const char *b, size_t step_b, int steps,
		  int rows, int vectors)
{
	int			i,
				r;

#pragma GCC unroll 12
	for (r = 0; r < rows; r++)
		sum[r][0] = sum[r][1] = _mm512_setzero_ps();
	for (i = 0; i < steps; i++, a += step, b += step_b)
	{
		__m512bh	b0 = (__m512bh) _mm512_load_si512(b);
		__m512bh	b1 = vectors == 2 ? (__m512bh) _mm512_load_si512(b + 64) : b0;

#pragma GCC unroll 12
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
			  sizeof(int32_t), (const char *) s->queries, sizeof(s->queries[0]), dim / 2, rows, vectors);
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

/* Two keys' probabilities in each lane. */
static inline __m512i
pair_join(__m512 low, __m512 high)
{
	return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32((__m512i) low, 16), (__m512i) high);
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
			const float *from = s->scores[key] + v * CPU_LANES;
			__m512		low = pair_power(_mm512_load_ps(from), factor, shift[v]);
			__m512		high = _mm512_setzero_ps();
			__m512i		p;

			if (key + 1 < h->length)	/* the last one may be alone */
				high = pair_power(_mm512_load_ps(from + PAIR_QUERIES), factor, shift[v]);
			p = pair_join(low, high);
			_mm512_store_si512(s->scores[key / 2] + v * CPU_LANES, p);
			total[v] = _mm512_dpbf16_ps(total[v], (__m512bh) p, ones);
		}
	}
}

/* The results of `rows` queries from `query` on; to: that of the first query. */
static inline __attribute__((always_inline)) void
pair_mix(const PairAttention *s, const RowsHead *h, uint16_t *to, int query, int dim, int rows)
{
	int			d,
				r;

	to += (size_t) query * h->ld_out;
	for (d = 0; d < dim; d += 2 * CPU_LANES)
	{
		__m512		sum[PAIR_TILE][2];

		pair_tile(sum, (const char *) &s->scores[0][query], sizeof(int32_t), sizeof(s->scores[0]),
				  (const char *) (s->values + d), dim * sizeof(int32_t), (h->length + 1) / 2, rows, 2);
#pragma GCC unroll 8
		for (r = 0; r < rows; r++)
		{
			__m512		norm = _mm512_set1_ps(s->norms[query + r]);

			_mm512_storeu_si512(to + r * h->ld_out + d,
								(__m512i) _mm512_cvtne2ps_pbh(sum[r][1] * norm, sum[r][0] * norm));
		}
	}
}

/*
 * tile(first, how many) for all of n: PAIR_TILE at a time, then as many, or half of them, that begin among
 * those that are done, as what is found is the same; where there are not so many one by one.
 */
#define EACH_PAIR_TILE(n, at, tile) \
	do { \
		for (at = 0; at + PAIR_TILE <= (n); at += PAIR_TILE) \
			tile(at, PAIR_TILE); \
		if ((n) - at > PAIR_TILE / 2 && (n) > PAIR_TILE) \
		{ \
			tile((n) - PAIR_TILE, PAIR_TILE); \
			at = (n); \
		} \
		for (; at < (n) && (n) >= PAIR_TILE / 2; at += PAIR_TILE / 2) \
			tile(at + PAIR_TILE / 2 <= (n) ? at : (n) - PAIR_TILE / 2, PAIR_TILE / 2); \
		for (; at < (n); at++) \
			tile(at, 1); \
	} while (0)

/* Of queries in so many vectors. */
static inline __attribute__((always_inline)) void
pair_attend_vectors(PairAttention *s, const RowsHead *h, int first, int count, int dim, int vectors)
{
	__m512		top[2] = {_mm512_set1_ps(-INFINITY), _mm512_set1_ps(-INFINITY)};
	__m512		total[2];
	uint16_t   *to = h->out + (size_t) first * h->ld_out;
	int			i;

#define SCORE_TILE(key, rows)	pair_score(s, h, top, key, dim, rows, vectors)
	EACH_PAIR_TILE(h->length, i, SCORE_TILE);
#undef SCORE_TILE
	pair_soften(s, h, top, total, vectors);
	for (i = 0; i < vectors; i++)
		_mm512_store_ps(s->norms + i * CPU_LANES, 1.0f / total[i]);
#define MIX_TILE(query, rows)	pair_mix(s, h, to, query, dim, rows)
	EACH_PAIR_TILE(count, i, MIX_TILE);
#undef MIX_TILE
}

/* dim is h->dim, where it pays a constant after inlining */
static inline __attribute__((always_inline)) void
pair_attend_dim(PairAttention *s, const RowsHead *h, int first, int count, int dim)
{
	pair_queries(s, h, first, count);
	if (count <= CPU_LANES)
		pair_attend_vectors(s, h, first, count, dim, 1);
	else
		pair_attend_vectors(s, h, first, count, dim, 2);
}

static void
pair_attend(void *scratch, const RowsHead *h, int first, int count)
{
	ROWS_OF_DIM(h, pair_attend_dim, scratch, h, first, count);
}

#include "attention_short_avx512.h"

static void
attention_bf16_avx512(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv, const int32_t *offsets,
					  const DistilAttention *a)
{
	const RowsWay way = {.longest = PAIR_KEYS,.dim = PAIR_DIM,.multiple = 2 * CPU_LANES,
		.queries = PAIR_QUERIES,.prepare = pair_head,.attend = pair_attend,
		.brief = SHORT_ROWS,.brief_dim = SHORT_DIM,.heads = SHORT_HEADS,.attend_heads = short_attend,
	.otherwise = distil_cpu_rows_avx512.attention};

	rows_attend(dev, out, qkv, offsets, a, &way);
}
