/*
 * attention_bytes.h
 *		Template: attention over rows of BF16 in whole numbers of 8 bits, one sequence and head at a time.
 *
 * For layers whose weights have 8 bits, on sets that multiply four pairs of bytes at once (twice as many
 * products as BF16) and have no matrix unit.  The including file defines bytes_dot(sum, a, b) (a without
 * sign), ATTENTION_BYTES (the function's name), ATTENTION_ELSE (what does heads that do not fit here) and
 * BYTES_ROWS (of a tile).
 *
 * Everything is turned over, as in attention_cpu.h: a vector holds one key's scores with LANES queries.  Each
 * key and each query is cut into steps of its own (keys less their mean, which takes the same from all
 * scores of a query); each dimension of the values into steps from its smallest to its largest; probabilities
 * into steps of the largest among BYTES_BLOCK keys.  Over the whole sequence those steps would be too coarse:
 * one key of large probability would round all the others to nothing, however much they are together.  In
 * its own block it would still: keys take turns at being rounded up and down, so that what many alike add up
 * to is kept.
 *
 * What has a vector of columns (ranges, means, values and their sums) has them in the order in which BF16
 * unfolds: of each 2 LANES the even ones, then the odd ones.  Groups of four columns of queries and keys are
 * as they come.
 *
 * The rule a newcomer would break: steps depend on the sequence and on the query, not on the queries of a
 * call, so a query has the same bits in any part.
 */
#include "attention_head.h"

#define BYTES_SHORT 96			/* up to this length cutting takes longer than it saves */
#define BYTES_KEYS	1024		/* longest sequence */
#define BYTES_DIM	128			/* widest head */
#define BYTES_WIDE	(2 * CPU_LANES) /* queries at a time */
#define BYTES_BLOCK 64			/* keys */
#define BYTES_TURNS 4			/* groups of four keys until roundings begin again */
#define BYTES_FAR	32.0f		/* binary digits that scores may grow by before sums take another unit */
#define BYTES_AHEAD 12			/* rows that are asked for before they are read */
/* The most that steps may be off, root mean square: of a score, and of a dimension's values on average. */
#define BYTES_SCORE 0.1f
#define BYTES_VALUE 0.03f

/* Lies in the device's scratch; groups are four bytes. */
typedef struct BytesAttention
{
	int32_t		keys[BYTES_KEYS * BYTES_DIM / 4];	/* [key / BYTES_BLOCK][dim / 4][BYTES_BLOCK] */
	int32_t		values[BYTES_KEYS / 4 * BYTES_DIM]; /* [key / 4][dim] */
	int32_t		queries[BYTES_DIM / 4][BYTES_WIDE] __attribute__((aligned(64)));	/* plus 128 */
	float		scores[BYTES_BLOCK][BYTES_WIDE] __attribute__((aligned(64)));
	int32_t		probabilities[BYTES_BLOCK / 4][BYTES_WIDE] __attribute__((aligned(64)));
	float		sums[BYTES_DIM][BYTES_WIDE] __attribute__((aligned(64)));
	float		key_step[BYTES_KEYS];
	float		key_start[BYTES_KEYS];	/* what scores are too much for 128 in each of a query's bytes */
	float		value_step[BYTES_DIM];
	float		value_middle[BYTES_DIM];
} BytesAttention;

_Static_assert(BYTES_ROWS % 4 != 0 || BYTES_WIDE / 4 % (BYTES_ROWS / 2) == 0, "tiles have no equal parts");
_Static_assert(sizeof(BytesAttention) <= CPU_AREAS * CPU_AREA_FLOATS * sizeof(float), "scratch is too small");

static inline vi
bytes_round(vf x)
{
#if CPU_LANES == 16
	return (vi) _mm512_cvtps_epi32((__m512) x);
#else
	return (vi) _mm256_cvtps_epi32((__m256) x);
#endif
}

/* Of a comparison's lanes. */
static inline bool
bytes_any(vi lanes)
{
#if CPU_LANES == 16
	return _mm512_test_epi32_mask((__m512i) lanes, (__m512i) lanes) != 0;
#else
	return !_mm256_testz_si256((__m256i) lanes, (__m256i) lanes);
#endif
}

/* Four whole numbers of each lane in a group; cut off at the ends of bytes with or without a sign. */
static inline __attribute__((always_inline)) vi
bytes_group(const vi x[4], bool sign)
{
#if CPU_LANES == 16
	__m512i		order = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
	__m512i		low = _mm512_packs_epi32((__m512i) x[0], (__m512i) x[1]);
	__m512i		high = _mm512_packs_epi32((__m512i) x[2], (__m512i) x[3]);

	low = sign ? _mm512_packs_epi16(low, high) : _mm512_packus_epi16(low, high);
	return (vi) _mm512_shuffle_epi8(low, order);
#else
	__m256i		order = _mm256_set_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400,
										 0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
	__m256i		low = _mm256_packs_epi32((__m256i) x[0], (__m256i) x[1]);
	__m256i		high = _mm256_packs_epi32((__m256i) x[2], (__m256i) x[3]);

	low = sign ? _mm256_packs_epi16(low, high) : _mm256_packus_epi16(low, high);
	return (vi) _mm256_shuffle_epi8(low, order);
#endif
}

/* Of a head's columns. */
typedef struct BytesRange
{
	vf			keys[BYTES_DIM / CPU_LANES];	/* sums */
	vf			low[BYTES_DIM / CPU_LANES]; /* of values */
	vf			high[BYTES_DIM / CPU_LANES];
	vf			sizes[BYTES_DIM / CPU_LANES];	/* their sums */
	vf			query;			/* the largest size */
	vf			square;			/* the largest lengths'; NaN may be lost, not infinity */
	vf			broken;			/* NaN when some query is not finite, else 0 */
} BytesRange;

/*
 * The rows of a head are too far apart for the CPU to ask for the next ones by itself.  An address only, it
 * may lie behind the rows.
 */
static inline __attribute__((always_inline)) void
bytes_ask(uintptr_t row, int dim)
{
	int			d;

#pragma GCC unroll 4
	for (d = 0; d < dim; d += 32)
		__builtin_prefetch((const void *) (row + sizeof(uint16_t) * (size_t) d), 0, 3);
}

/* Up to LANES rows into a range. */
static inline __attribute__((always_inline)) void
bytes_range_rows(BytesRange *range, const RowsHead *h, const uint16_t *at, int count, int dim)
{
	vf			squares[CPU_LANES];
	vf			sum = {0};
	int			i,
				d;

	for (i = 0; i < CPU_LANES; i++, at += h->ld)
	{
		squares[i] = (vf) {0};
		if (i >= count)
			continue;
		for (d = 0; d < 3; d++)
			bytes_ask((uintptr_t) at + sizeof(uint16_t) * (BYTES_AHEAD * h->ld + d * h->width), dim);
#pragma GCC unroll 4
		for (d = 0; d < dim; d += 2 * CPU_LANES)
		{
			vf			pairs[3] = {
				rows_pairs(at + d), rows_pairs(at + h->width + d), rows_pairs(at + 2 * h->width + d)
			};
			vf			q[2] = {rows_low(pairs[0]), rows_high(pairs[0])};
			vf			k[2] = {rows_low(pairs[1]), rows_high(pairs[1])};
			vf			v[2] = {rows_low(pairs[2]), rows_high(pairs[2])};
			int			j;

#pragma GCC unroll 2
			for (j = 0; j < 2; j++)
			{
				int			to = d / CPU_LANES + j;

				range->keys[to] += k[j];
				range->low[to] = v_smaller(range->low[to], v[j]);
				range->high[to] = v_larger(range->high[to], v[j]);
				range->query = v_larger(range->query, v_abs(q[j]));
				range->sizes[to] += v_abs(v[j]);
				squares[i] = v_fma(q[j], q[j], squares[i]);
			}
		}
	}
	transpose_square(squares);
	for (i = 0; i < CPU_LANES; i++)
		sum += squares[i];
	range->square = v_larger(range->square, sum);
	/* nought times a number is nought, times others it is none */
	range->broken += sum * 0.0f;
}

static inline __attribute__((always_inline)) void
bytes_range(BytesRange *to, const RowsHead *h, int dim)
{
	BytesRange	range;
	int			row,
				d;

	range.query = range.square = range.broken = (vf) {0};
#pragma GCC unroll 8
	for (d = 0; d < dim; d += CPU_LANES)
	{
		int			j = d / CPU_LANES;

		range.keys[j] = range.sizes[j] = (vf) {0};
		range.low[j] = v_set(INFINITY);
		range.high[j] = v_set(-INFINITY);
	}
	for (row = 0; row < h->length; row += CPU_LANES)
		bytes_range_rows(&range, h, h->q + (size_t) row * h->ld, h->length - row, dim);
	*to = range;
}

/* What is known of a head's keys, each lane of some of them. */
typedef struct BytesLengths
{
	vf			square;			/* the largest length's; NaN may be lost */
	vf			all;			/* sum of all: not finite where one is not */
	vf			step;			/* the largest */
} BytesLengths;

/* LANES keys from `first` on, less their mean (of each column). */
static inline __attribute__((always_inline)) void
bytes_keys(BytesAttention *s, const RowsHead *h, const float *mean, int first, BytesLengths *lengths, int dim)
{
	int32_t    *to = s->keys + (size_t) first / BYTES_BLOCK * BYTES_BLOCK * dim / 4 + first % BYTES_BLOCK;
	const uint16_t *from = h->q + h->width + (size_t) first * h->ld;
	size_t		count = v_part(first, h->length);
	vf			pairs[BYTES_DIM / 2];
	vf			top = {0};
	vf			squares[2] = {{0}};
	vf			inverse;
	vi			ones = 0x01010101 - (vi) {0};
	vi			sum = {0};
	int			d,
				i;

	for (d = 0; d < dim; d += 2 * CPU_LANES)
	{
		vf		   *square = pairs + d / 2;

		rows_turn(square, from + d, h->ld, (int) count);
		for (i = 0; i < CPU_LANES; i++)
		{
			vf			even = rows_low(square[i]) - mean[d + i];
			vf			odd = rows_high(square[i]) - mean[d + CPU_LANES + i];

			squares[0] = v_fma(even, even, squares[0]);
			squares[1] = v_fma(odd, odd, squares[1]);
			top = v_larger(top, v_larger(v_abs(even), v_abs(odd)));
		}
	}
	top = v_first(top, count);
	squares[0] = v_first(squares[0] + squares[1], count);
	lengths->square = v_larger(lengths->square, squares[0]);
	lengths->all += squares[0];
	inverse = rows_inverse(top, 127.0f);
	top *= 1.0f / 127.0f;
	lengths->step = v_larger(lengths->step, top);
	v_store(s->key_step + first, top);
	for (d = 0; d < dim; d += 2 * CPU_LANES, mean += 2 * CPU_LANES)
	{
		for (i = 0; i < CPU_LANES; i += 2, to += BYTES_BLOCK)
		{
			const vf   *two = pairs + d / 2 + i;
			vi			four[4] = {
				bytes_round((rows_low(two[0]) - mean[i]) * inverse),
				bytes_round((rows_high(two[0]) - mean[CPU_LANES + i]) * inverse),
				bytes_round((rows_low(two[1]) - mean[i + 1]) * inverse),
				bytes_round((rows_high(two[1]) - mean[CPU_LANES + i + 1]) * inverse)
			};
			vi			group = bytes_group(four, true);

			sum = bytes_dot(sum, ones, group);
			*(vi_memory *) to = group;
		}
	}
	v_store(s->key_start + first, __builtin_convertvector(sum, vf) * (top * -128.0f));
}

/* Four keys' values from `first` on; middle, inverse: of each column. */
static inline __attribute__((always_inline)) void
bytes_values(BytesAttention *s, const RowsHead *h, const vf *middle, const vf *inverse, int first, int dim)
{
	const uint16_t *v = h->q + 2 * h->width + (size_t) first * h->ld;
	int			d,
				i;

#pragma GCC unroll 4
	for (d = 0; d < dim; d += 2 * CPU_LANES, middle += 2, inverse += 2)
	{
		int32_t    *to = s->values + (size_t) first / 4 * dim + d;
		vi			even[4] = {{0}};
		vi			odd[4] = {{0}};

		for (i = 0; i < 4 && first + i < h->length; i++)
		{
			vf			pairs = rows_pairs(v + i * h->ld + d);

			even[i] = bytes_round((rows_low(pairs) - middle[0]) * inverse[0]);
			odd[i] = bytes_round((rows_high(pairs) - middle[1]) * inverse[1]);
		}
		*(vi_memory *) to = bytes_group(even, true);
		*(vi_memory *) (to + CPU_LANES) = bytes_group(odd, true);
	}
}

/*
 * A head's keys and values.  false: some numbers are none, or differ so much that steps would be too coarse.
 */
static inline __attribute__((always_inline)) bool
bytes_head_dim(BytesAttention *s, const RowsHead *h, int dim)
{
	BytesRange	range;
	BytesLengths lengths = {0};
	float		mean[BYTES_DIM] __attribute__((aligned(64)));
	vf			middle[BYTES_DIM / CPU_LANES];
	vf			inverse[BYTES_DIM / CPU_LANES];
	vf			sizes = {0};
	vf			beyond = {0};
	float		query_step;
	float		key_step;
	float		square;
	float		count = (float) h->length;
	int			row,
				i;

	bytes_range(&range, h, dim);
	for (i = 0; i < dim / CPU_LANES; i++)
	{
		vf			half = range.high[i] * 0.5f - range.low[i] * 0.5f;

		v_store(mean + i * CPU_LANES, range.keys[i] * (1.0f / count));
		middle[i] = range.high[i] * 0.5f + range.low[i] * 0.5f;
		inverse[i] = rows_inverse(half, 127.0f);
		half *= 1.0f / 127.0f;
		sizes += range.sizes[i];
		beyond = v_larger(beyond, half * (STEP_OFF * count) - range.sizes[i] * BYTES_VALUE);
		v_store(s->value_step + i * CPU_LANES, half);
		v_store(s->value_middle + i * CPU_LANES, middle[i]);
	}
	if (!(int8_total(range.broken) == 0.0f && int8_total(sizes) < INFINITY && int8_highest(beyond) <= 0.0f))
		return false;
	for (row = 0; row < h->length; row += CPU_LANES)
		bytes_keys(s, h, mean, row, &lengths, dim);
	key_step = int8_highest(lengths.step);
	query_step = int8_highest(range.query) / 127.0f;
	/* a score is off by what each of its rows is, times the other's length */
	square = key_step * key_step * int8_highest(range.square) +
		query_step * query_step * int8_highest(lengths.square);
	if (!(int8_total(lengths.all) < INFINITY && h->scale * STEP_OFF * sqrtf(square) <= BYTES_SCORE))
		return false;
	for (row = 0; row < h->length; row += 4)
		bytes_values(s, h, middle, inverse, row, dim);
	return true;
}

static bool
bytes_head(void *scratch, const RowsHead *h)
{
	return ROWS_OF_DIM(h, bytes_head_dim, scratch, h);
}

/*
 * Up to LANES queries from `query` of the call's on in columns, zeros where there are none: turned over, then
 * cut into the steps that are returned.
 */
static inline __attribute__((always_inline)) vf
bytes_queries(BytesAttention *s, const RowsHead *h, int first, int count, int query, int dim)
{
	vf			pairs[BYTES_DIM / 2];
	vf			top = {0};
	vf			inverse;
	int			d,
				i;

	for (d = 0; d < dim; d += 2 * CPU_LANES)
	{
		vf		   *square = pairs + d / 2;

		rows_turn(square, h->q + (size_t) (first + query) * h->ld + d, h->ld, count - query);
		for (i = 0; i < CPU_LANES; i++)
			top = v_larger(top, v_larger(v_abs(rows_low(square[i])), v_abs(rows_high(square[i]))));
	}
	inverse = rows_inverse(top, 127.0f);
	for (d = 0; d < dim / 2; d += 2)
	{
		vi			four[4] = {
			bytes_round(v_fma(rows_low(pairs[d]), inverse, v_set(128.0f))),
			bytes_round(v_fma(rows_high(pairs[d]), inverse, v_set(128.0f))),
			bytes_round(v_fma(rows_low(pairs[d + 1]), inverse, v_set(128.0f))),
			bytes_round(v_fma(rows_high(pairs[d + 1]), inverse, v_set(128.0f)))
		};

		*(vi_memory *) (s->queries[d / 2] + query) = bytes_group(four, false);
	}
	return top * (1.0f / 127.0f);
}

/*
 * sum[rows][BYTES_WIDE] += of `steps` groups; a row's groups are `step` apart, rows `row`; rows is a constant
 * after inlining.
 */
static inline __attribute__((always_inline)) void
bytes_tile(vi sum[BYTES_ROWS][2], const int32_t *a, size_t row, size_t step, const int32_t (*b)[BYTES_WIDE],
		   int steps, int rows)
{
	int			i,
				r;

	for (i = 0; i < steps; i++, a += step, b++)
	{
		vi			b0 = *(const vi_memory *) *b;
		vi			b1 = *(const vi_memory *) (*b + CPU_LANES);

#pragma GCC unroll 8
		for (r = 0; r < rows; r++)
		{
			vi			all = a[r * row] - (vi) {0};

			sum[r][0] = bytes_dot(sum[r][0], b0, all);
			sum[r][1] = bytes_dot(sum[r][1], b1, all);
		}
	}
}

/* What the queries of a call know of the keys so far, by halves of BYTES_WIDE. */
typedef struct BytesState
{
	vf			factor[2];		/* of scores, to binary logarithms */
	vf			unit[2];		/* of those, where probabilities are 255 in sums */
	vf			total[2];		/* of probabilities */
	/* of the last block */
	vf			slope[2];		/* scores to what bytes_powers wants */
	vf			start[2];
	vi			sum[2];			/* of its probabilities, 255 for its largest */
	vf			old[2];			/* what the sums so far are worth, and the block's */
	vf			new[2];
	bool		same;			/* the sums so far are worth what they were, for all queries */
} BytesState;

#ifdef __AVX512VBMI__
#define BYTES_OCTAVE 21			/* entries of this table for each power of two */
#define BYTES_SLOPE (-BYTES_OCTAVE)
#define BYTES_START 0.0f
#define BYTES_FINE	5			/* binary digits behind the point in its second half */

/* 255 * 2^(-i / BYTES_OCTAVE); the last one stands for all that is smaller. */
static const uint8_t bytes_table[256] __attribute__((aligned(64))) = {
	255, 247, 239, 231, 223, 216, 209, 202, 196, 189, 183, 177, 172, 166, 161, 155, 150, 145, 141,
	136, 132, 128, 123, 119, 115, 112, 108, 105, 101, 98, 95, 92, 89, 86, 83, 80, 78, 75, 73, 70,
	68, 66, 64, 62, 60, 58, 56, 54, 52, 51, 49, 47, 46, 44, 43, 42, 40, 39, 38, 36, 35, 34, 33, 32,
	31, 30, 29, 28, 27, 26, 25, 24, 24, 23, 22, 21, 21, 20, 19, 19, 18, 18, 17, 16, 16, 15, 15, 14,
	14, 14, 13, 13, 12, 12, 11, 11, 11, 10, 10, 10, 9, 9, 9, 9, 8, 8, 8, 7, 7, 7, 7, 7, 6, 6, 6, 6,
	6, 5, 5, 5, 5, 5, 5, 4, 4, 4, 4, 4, 119, 115, 112, 108, 105, 101, 98, 95, 92, 89, 86, 83, 80,
	78, 75, 73, 70, 68, 66, 64, 62, 60, 58, 56, 54, 52, 51, 49, 47, 46, 44, 43, 42, 40, 39, 38, 36,
	35, 34, 33, 32, 31, 30, 29, 28, 27, 26, 25, 24, 24, 23, 22, 21, 21, 20, 19, 19, 18, 18, 17, 16,
	16, 15, 15, 14, 14, 14, 13, 13, 12, 12, 11, 11, 11, 10, 10, 10, 9, 9, 9, 9, 8, 8, 8, 7, 7, 7,
	7, 7, 6, 6, 6, 6, 6, 5, 5, 5, 5, 5, 5, 4, 4, 4, 4, 4, 4, 4, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2,
	2, 2, 2, 2, 2, 2, 2, 2, 0
};

/* What is added to four keys of it, the first in the lowest byte, before those digits are cut off. */
static const int32_t bytes_up[BYTES_TURNS] = {0x19091101, 0x1d0d1505, 0x1b0b1303, 0x1f0f1707};

/*
 * 255 * 2^(x factor - block) of four keys' scores x in groups, within 1.5 % of themselves before they are
 * rounded.  BYTES_SCORE keeps scores below 500, so that places fit 32 bits: beyond, they would be the first.
 */
static inline __attribute__((always_inline)) vi
bytes_powers(const float *x, vf slope, vf start, int turn)
{
	__m512i		up = _mm512_set1_epi32(bytes_up[turn]);
	vi			four[4];
	__m512i		at,
				low,
				high;
	int			i;

#pragma GCC unroll 4
	for (i = 0; i < 4; i++)
		four[i] = bytes_round(v_fma(v_load(x + i * BYTES_WIDE), slope, start));
	at = (__m512i) bytes_group(four, false);
	low = _mm512_permutex2var_epi8(_mm512_load_si512(bytes_table), at, _mm512_load_si512(bytes_table + 64));
	high = _mm512_permutex2var_epi8(_mm512_load_si512(bytes_table + 128), at,
									_mm512_load_si512(bytes_table + 192));
	high = _mm512_and_si512(_mm512_srli_epi16(_mm512_add_epi8(high, up), BYTES_FINE),
							_mm512_set1_epi8(255 >> BYTES_FINE));
	return (vi) _mm512_mask_blend_epi8(_mm512_movepi8_mask(at), low, high);
}
#else
#define BYTES_SLOPE 1
#define BYTES_START 7.99435344f /* log2(255): the largest probability of a block */
#define BYTES_NOUGHT -7.0f		/* 2^-7 + 15 / 32 is rounded to 0 */

/* What is added to four keys' probabilities before they are rounded to the nearest whole number. */
static const float bytes_up[BYTES_TURNS][4] = {
	{-15 / 32.0f, 1 / 32.0f, -7 / 32.0f, 9 / 32.0f}, {-11 / 32.0f, 5 / 32.0f, -3 / 32.0f, 13 / 32.0f},
	{-13 / 32.0f, 3 / 32.0f, -5 / 32.0f, 11 / 32.0f}, {-9 / 32.0f, 7 / 32.0f, -1 / 32.0f, 15 / 32.0f}
};

/* 2^y + up to the nearest whole number; within 0.0018 of itself before that. */
static inline vi
bytes_power(vf y, vf up)
{
#if CPU_LANES == 16
	vf			f;
	vf			p;

	y = v_larger(v_set(BYTES_NOUGHT), y);
	f = (vf) _mm512_reduce_ps((__m512) y, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
	p = v_fma(f, v_set(0.33718972f), v_set(0.65763656f));

	p = v_fma(p, f, v_set(1.00172457f));
	return bytes_round((vf) _mm512_scalef_ps((__m512) p, (__m512) y) + up);
#else
	vf			n;
	vf			f;
	vf			p;

	y = v_larger(v_set(BYTES_NOUGHT), y);
	n = (vf) _mm256_floor_ps((__m256) y);
	f = y - n;
	p = v_fma(f, v_set(0.33718972f), v_set(0.65763656f));
	p = v_fma(p, f, v_set(1.00172457f));
	return bytes_round((vf) ((vi) p + (bytes_round(n) << 23)) + up);
#endif
}

/* 255 * 2^(x factor - block) of four keys' scores x in groups. */
static inline __attribute__((always_inline)) vi
bytes_powers(const float *x, vf slope, vf start, int turn)
{
	vi			four[4];
	int			i;

#pragma GCC unroll 4
	for (i = 0; i < 4; i++)
		four[i] = bytes_power(v_fma(v_load(x + i * BYTES_WIDE), slope, start),
							  v_set(bytes_up[turn][i]));
	return bytes_group(four, false);
}

#endif

/* Four of the block's `keys` keys: scores to probabilities of LANES queries. */
static inline __attribute__((always_inline)) void
bytes_soften_group(BytesAttention *s, BytesState *state, int key, int keys, int half)
{
	vi			ones = 0x01010101 - (vi) {0};
	const float *scores = s->scores[key] + half * CPU_LANES;
	vi			group = bytes_powers(scores, state->slope[half], state->start[half], key / 4 % BYTES_TURNS);

	if (keys - key < 4)			/* the last key's bytes are the lowest */
		group &= (1 << 8 * (keys - key)) - 1;
	*(vi_memory *) (s->probabilities[key / 4] + half * CPU_LANES) = group;
	state->sum[half] = bytes_dot(state->sum[half], group, ones);
}

/* Those from the key `from` on. */
static inline __attribute__((always_inline)) void
bytes_soften(BytesAttention *s, BytesState *state, int from, int keys)
{
	int			half,
				key;

#pragma GCC unroll 2
	for (half = 0; half < 2; half++)
	{
		for (key = from; key < keys; key += 4)
			bytes_soften_group(s, state, key, keys, half);
	}
}

/*
 * The scores of `rows` keys of a block; top: the largest so far.  soften: those of the block before, still in
 * their place, become probabilities, a group at a time among the products: those use other units.
 */
static inline __attribute__((always_inline)) void
bytes_score(BytesAttention *s, BytesState *state, vf top[2], int first, int key, int dim, int rows,
			bool soften)
{
	vi			sum[BYTES_ROWS][2];
	const int32_t *keys = s->keys + (size_t) first * dim / 4 + key;
	const int32_t (*queries)[BYTES_WIDE] = (const int32_t (*)[BYTES_WIDE]) s->queries;
	int			parts = soften ? rows / 2 : 1;
	int			steps = dim / 4 / parts;
	int			part,
				r;

#pragma GCC unroll 8
	for (r = 0; r < rows; r++)
		sum[r][0] = sum[r][1] = (vi) {0};
	for (part = 0; part < parts; part++, keys += steps * BYTES_BLOCK, queries += steps)
	{
		bytes_tile(sum, keys, 1, BYTES_BLOCK, queries, steps, rows);
		if (soften)
			bytes_soften_group(s, state, key + part / 2 * 4, BYTES_BLOCK, part % 2);
	}
#pragma GCC unroll 8
	for (r = 0; r < rows; r++)
	{
		vf			step = v_set(s->key_step[first + key + r]);
		vf			start = v_set(s->key_start[first + key + r]);
		int			v;

#pragma GCC unroll 2
		for (v = 0; v < 2; v++)
		{
			vf			score = v_fma(__builtin_convertvector(sum[r][v], vf), step, start);

			v_store(s->scores[key + r] + v * CPU_LANES, score);
			top[v] = v_larger(top[v], score);
		}
	}
}

/* The scores of a block; soften: in place of those of the one before it, which become probabilities. */
static inline __attribute__((always_inline)) void
bytes_scores(BytesAttention *s, BytesState *state, vf top[2], int first, int keys, int dim, bool soften)
{
	int			whole = keys / BYTES_ROWS * BYTES_ROWS;
	bool		between = soften && BYTES_ROWS % 4 == 0;
	int			key;

	if (soften)
		bytes_soften(s, state, between ? whole : 0, BYTES_BLOCK);
	for (key = 0; key < whole; key += BYTES_ROWS)
		bytes_score(s, state, top, first, key, dim, BYTES_ROWS, between);
	if (keys - key >= 4)
	{
		bytes_score(s, state, top, first, key, dim, 4, false);
		key += 4;
	}
	for (; key < keys; key++)
		bytes_score(s, state, top, first, key, dim, 1, false);
}

/* A block, with its largest scores, against what went before. */
static inline __attribute__((always_inline)) void
bytes_weigh(BytesState *state, const vf largest[2])
{
	vf			one = v_set(1.0f);
	vf			least = v_exp2_least(one);
	int			half;

	state->same = true;
#pragma GCC unroll 2
	for (half = 0; half < 2; half++)
	{
		vf			block = largest[half] * state->factor[half];
		vi			far = block > state->unit[half] + BYTES_FAR;
		vf			unit = v_select(far, block, state->unit[half]);

		state->slope[half] = state->factor[half] * BYTES_SLOPE;
		state->start[half] = BYTES_START - block * BYTES_SLOPE;
		state->sum[half] = (vi) {0};
		state->old[half] = v_select(far, v_exp2(state->unit[half] - unit, one, least), one);
		state->new[half] = v_exp2(block - unit, one, least);
		state->same &= !bytes_any(far);
		state->unit[half] = unit;
	}
}

/* The results' sums of `rows` dimensions with a block of keys */
static inline __attribute__((always_inline)) void
bytes_mix(BytesAttention *s, const BytesState *state, int first, int groups, int d, int dim, int rows)
{
	vi			sum[BYTES_ROWS][2];
	int			r,
				v;

#pragma GCC unroll 8
	for (r = 0; r < rows; r++)
		sum[r][0] = sum[r][1] = (vi) {0};
	bytes_tile(sum, s->values + (size_t) first / 4 * dim + d, 1, dim,
			   (const int32_t (*)[BYTES_WIDE]) s->probabilities, groups, rows);
#pragma GCC unroll 8
	for (r = 0; r < rows; r++)
	{
#pragma GCC unroll 2
		for (v = 0; v < 2; v++)
		{
			float	   *to = s->sums[d + r] + v * CPU_LANES;
			vf			part = __builtin_convertvector(sum[r][v], vf);

			if (first > 0)
				part = v_fma(part, state->new[v], state->same ? v_load(to) : v_load(to) * state->old[v]);
			v_store(to, part);
		}
	}
}

/* All of them. */
static inline __attribute__((always_inline)) void
bytes_mixture(BytesAttention *s, BytesState *state, int first, int keys, int dim)
{
	int			groups = (keys + 3) / 4;
	int			d;

	for (d = 0; d < 2; d++)
		state->total[d] = v_fma(__builtin_convertvector(state->sum[d], vf), state->new[d],
								state->total[d] * state->old[d]);
	/* multiples of 4 are some times BYTES_ROWS and some times 4 */
	for (d = 0; (dim - d) % BYTES_ROWS != 0; d += 4)
		bytes_mix(s, state, first, groups, d, dim, 4);
	for (; d < dim; d += BYTES_ROWS)
		bytes_mix(s, state, first, groups, d, dim, BYTES_ROWS);
}

/* Sums of columns to rows, times what makes them results: in pairs of dimensions. */
static inline __attribute__((always_inline)) void
bytes_finish(const BytesAttention *s, const RowsHead *h, vf total, int lane, int first, int count, int dim)
{
	vf			norm = 1.0f / total;
	vf			square[CPU_LANES];
	int			d,
				i;

	for (d = 0; d < dim; d += 2 * CPU_LANES)
	{
		for (i = 0; i < CPU_LANES; i++)
		{
			const float *step = s->value_step + d + i;
			const float *middle = s->value_middle + d + i;
			vf			even = v_load(s->sums[d + i] + lane) * norm;
			vf			odd = v_load(s->sums[d + CPU_LANES + i] + lane) * norm;

			square[i] = rows_narrow(v_fma(even, v_set(step[0]), v_set(middle[0])),
									v_fma(odd, v_set(step[CPU_LANES]), v_set(middle[CPU_LANES])));
		}
		transpose_square(square);
		for (i = 0; i < CPU_LANES && lane + i < count; i++)
			v_store((float *) (void *) (h->out + (size_t) (first + lane + i) * h->ld_out + d), square[i]);
	}
}

/* Of a query: where its result goes, and what the next head has there. */
static inline __attribute__((always_inline)) void
bytes_ask_ahead(const RowsHead *h, int query, int dim)
{
	uintptr_t	next = (uintptr_t) h->q + sizeof(uint16_t) * ((size_t) query * h->ld + (size_t) dim);
	int			i;

	bytes_ask((uintptr_t) (h->out + (size_t) query * h->ld_out), dim);
	for (i = 0; i < 3; i++)
		bytes_ask(next + sizeof(uint16_t) * i * h->width, dim);
}

/* dim is h->dim, where it pays a constant after inlining */
static inline __attribute__((always_inline)) void
bytes_attend_dim(BytesAttention *s, const RowsHead *h, int first, int count, int dim)
{
	BytesState	state = {.unit = {v_set(-INFINITY), v_set(-INFINITY)}};
	int			asked = 0;
	int			keys = 0;
	int			block,
				d;

	for (d = 0; d < 2; d++)
		state.factor[d] = bytes_queries(s, h, first, count, d * CPU_LANES, dim) * (h->scale * LOG2_E);
	for (block = 0; block < h->length; block += BYTES_BLOCK)
	{
		vf			top[2] = {v_set(-INFINITY), v_set(-INFINITY)};

		keys = h->length - block < BYTES_BLOCK ? h->length - block : BYTES_BLOCK;
		for (; asked < count && asked * h->length < (block + BYTES_BLOCK) * count; asked++)
			bytes_ask_ahead(h, first + asked, dim);
		if (block == 0)
			bytes_scores(s, &state, top, block, keys, dim, false);
		else
		{
			bytes_scores(s, &state, top, block, keys, dim, true);
			bytes_mixture(s, &state, block - BYTES_BLOCK, BYTES_BLOCK, dim);
		}
		bytes_weigh(&state, top);
	}
	bytes_soften(s, &state, 0, keys);
	bytes_mixture(s, &state, block - BYTES_BLOCK, keys, dim);
	for (d = 0; d < 2; d++)
		bytes_finish(s, h, state.total[d], d * CPU_LANES, first, count, dim);
}

static void
bytes_attend(void *scratch, const RowsHead *h, int first, int count)
{
	ROWS_OF_DIM(h, bytes_attend_dim, scratch, h, first, count);
}

void
ATTENTION_BYTES(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv, const int32_t *offsets,
				const DistilAttention *a)
{
	const RowsWay way = {.shortest = BYTES_SHORT + 1,.longest = BYTES_KEYS,.dim = BYTES_DIM,
		.multiple = BYTES_WIDE,.queries = BYTES_WIDE,.prepare = bytes_head,.attend = bytes_attend,
	.otherwise = ATTENTION_ELSE};

	rows_attend(dev, out, qkv, offsets, a, &way);
}
