/*
 * attention_words.h
 *		Template: attention over rows of BF16 in whole numbers of 16 bits, one sequence and head at a time.
 *
 * For sets that multiply pairs of words (twice as many products as float32) and have no matrix unit.  The
 * including file defines words_dot(sum, a, b), ATTENTION_WORDS (the function's name), ATTENTION_ELSE (what
 * does heads that do not fit here) and WORDS_ROWS (of a tile).
 *
 * Everything is turned over, as in attention_cpu.h: a vector holds one key's scores with LANES queries.  A
 * head's keys are cut into steps of one size, its values into steps of a size for each dimension, queries
 * into steps of their own; probabilities, of the largest score's, have 15 bits and are summed as they are
 * multiplied.
 *
 * The rule a newcomer would break: no sum may leave 32 bits.  Differences of scores: 2 * 2895 * 2895 *
 * WORDS_DIM; results: 32767 * 1023 * WORDS_FLUSH keys, then they go to floats.  And steps depend on the whole
 * sequence, not on the queries of a call: so a query has the same bits in any part.
 */
#include "attention_head.h"

#define WORDS_KEYS	1024		/* longest sequence */
#define WORDS_DIM	128			/* widest head */
#define WORDS_WIDE	(2 * CPU_LANES) /* queries at a time */
#define WORDS_FLUSH 64			/* keys */
#define WORDS_SCORE 2895.0f		/* largest step of queries and keys, of values, of probabilities */
#define WORDS_VALUE 1023.0f
#define WORDS_ONE	14.9999f	/* binary logarithm; 15 would round beyond 16 bits with a sign */
#define WORDS_ERROR 0.02f		/* of scores; BF16's is about half of it */
#define WORDS_COARSE 0.004f		/* of values, of their size on average; BF16's is about a quarter of it */
#define WORDS_LARGE 1e15f		/* of queries and keys; larger ones could have scores that are no numbers */

/* Lies in the device's scratch; words are pairs of 16-bit numbers. */
typedef struct WordsAttention
{
	int32_t		keys[WORDS_KEYS * WORDS_DIM / 2];	/* [key][dim / 2] */
	int32_t		values[WORDS_KEYS / 2 * WORDS_DIM]; /* [key / 2][dim] */
	int32_t		queries[WORDS_DIM / 2][WORDS_WIDE] __attribute__((aligned(64)));
	int32_t		scores[WORDS_KEYS][WORDS_WIDE] __attribute__((aligned(64)));
	int32_t		probabilities[WORDS_KEYS / 2][WORDS_WIDE] __attribute__((aligned(64)));
	float		sums[WORDS_DIM][WORDS_WIDE] __attribute__((aligned(64)));
	float		query_step[WORDS_WIDE];
	float		value_step[WORDS_DIM];
	float		key_step;
} WordsAttention;

_Static_assert(sizeof(WordsAttention) <= CPU_AREAS * CPU_AREA_FLOATS * sizeof(float), "scratch is too small");

/* Whole numbers in the lower 16 bits of each lane. */
static inline vi
words_round(vf x, vf inverse)
{
	return (vi) v_fma(x, inverse, v_set(ROUND_BIAS));
}

/* The lower words of two vectors, lane by lane in pairs. */
static inline vi
words_pair(vi low, vi high)
{
#if CPU_LANES == 16
	return (vi) _mm512_mask_blend_epi16(0xaaaaaaaa, (__m512i) low, _mm512_slli_epi32((__m512i) high, 16));
#else
	return (vi) _mm256_blend_epi16((__m256i) low, _mm256_slli_epi32((__m256i) high, 16), 0xaa);
#endif
}

static inline vi
words_larger(vi x, vi y)
{
#if CPU_LANES == 16
	return (vi) _mm512_max_epi32((__m512i) x, (__m512i) y);
#else
	return (vi) _mm256_max_epi32((__m256i) x, (__m256i) y);
#endif
}

/* Of a head's columns. */
typedef struct WordsRange
{
	vf			low[WORDS_DIM / CPU_LANES];	/* of keys */
	vf			high[WORDS_DIM / CPU_LANES];
	vf			value[WORDS_DIM / CPU_LANES];	/* largest sizes */
	vf			sizes[WORDS_DIM / CPU_LANES];	/* of values, their sums */
	vf			query;
	vf			squares;		/* sums of the queries' */
	vf			sum;			/* 0 unless some number is not finite */
} WordsRange;

static void
words_range(WordsRange *range, const RowsHead *h)
{
	int			row,
				d;

	memset(range, 0, sizeof(*range));
	for (d = 0; d < h->dim && h->length > 0; d += CPU_LANES)
		range->low[d / CPU_LANES] = range->high[d / CPU_LANES] = v_widen(h->q + h->width + d);
	for (row = 0; row < h->length; row++)
	{
		for (d = 0; d < h->dim; d += CPU_LANES)
		{
			const uint16_t *at = h->q + (size_t) row * h->ld + d;
			int			i = d / CPU_LANES;
			vf			q = v_widen(at);
			vf			k = v_widen(at + h->width);
			vf			v = v_widen(at + 2 * h->width);

			range->low[i] = v_smaller(range->low[i], k);
			range->high[i] = v_larger(range->high[i], k);
			range->value[i] = v_larger(range->value[i], v_abs(v));
			range->sizes[i] += v_abs(v);
			range->query = v_larger(range->query, v_abs(q));
			range->squares = v_fma(q, q, range->squares);
			/* nought times a number is nought, times others it is none */
			range->sum = v_fma(k, (vf) {0}, v_fma(v, (vf) {0}, v_fma(q, (vf) {0}, range->sum)));
		}
	}
}

/*
 * Keys, less the middle of each dimension, and values in steps.  A query's scores all lose the same by that,
 * so its probabilities lose nothing, and a dimension where all keys are large does not make the others
 * coarse.  false: some numbers are too large, or none, or differ so much that scores would be off by more
 * than WORDS_ERROR, or values by more than WORDS_COARSE.
 */
static bool
words_head(void *scratch, const RowsHead *h)
{
	WordsAttention *s = scratch;
	WordsRange	range;
	vf			middle[WORDS_DIM / CPU_LANES];
	vf			inverse[WORDS_DIM / CPU_LANES];
	vf			widest = {0};
	vf			squares = {0};
	vf			beyond = {0};
	vf			key_inverse;
	float		query_step;
	int			row,
				d;

	words_range(&range, h);
	for (d = 0; d < h->dim; d += CPU_LANES)
	{
		int			i = d / CPU_LANES;

		middle[i] = range.low[i] * 0.5f + range.high[i] * 0.5f;
		widest = v_larger(widest, range.high[i] * 0.5f - range.low[i] * 0.5f);
		inverse[i] = rows_inverse(range.value[i], WORDS_VALUE);
		range.value[i] *= 1.0f / WORDS_VALUE;
		beyond = v_larger(beyond, range.value[i] * (STEP_OFF * (float) h->length) -
						  range.sizes[i] * WORDS_COARSE);
		v_store(s->value_step + d, range.value[i]);
	}
	s->key_step = v_top(widest) / WORDS_SCORE;
	query_step = v_top(range.query) / WORDS_SCORE;
	if (!(v_sum(range.sum) == 0.0f && v_top(beyond) <= 0.0f && v_top(widest) < WORDS_LARGE &&
		  v_top(range.query) < WORDS_LARGE))
		return false;
	key_inverse = rows_inverse(v_set(v_top(widest)), WORDS_SCORE);
	for (row = 0; row < h->length; row++)
	{
		const uint16_t *k = h->q + h->width + (size_t) row * h->ld;
		uint16_t   *to = (uint16_t *) (s->keys + (size_t) row * h->dim / 2);

		for (d = 0; d < h->dim; d += CPU_LANES)
		{
			vf			off = v_widen(k + d) - middle[d / CPU_LANES];

			squares = v_fma(off, off, squares);
			*(vb_memory *) (to + d) = __builtin_convertvector((vw) words_round(off, key_inverse), vb);
		}
	}
	for (row = 0; row < h->length; row += 2)
	{
		const uint16_t *v = h->q + 2 * h->width + (size_t) row * h->ld;

		for (d = 0; d < h->dim; d += CPU_LANES)
		{
			vi			low = words_round(v_widen(v + d), inverse[d / CPU_LANES]);
			vi			high = {0};

			if (row + 1 < h->length)
				high = words_round(v_widen(v + h->ld + d), inverse[d / CPU_LANES]);
			*(vi_memory *) (s->values + (size_t) row / 2 * h->dim + d) = words_pair(low, high);
		}
	}
	/* a number is off by STEP_OFF of its step, a score by that times the length of the other's row */
	return h->scale * STEP_OFF * (s->key_step * sqrtf(v_sum(range.squares) / (float) h->length) +
								query_step * sqrtf(v_sum(squares) / (float) h->length)) <= WORDS_ERROR;
}

/* Up to WORDS_WIDE queries in columns, zeros where there are none: turned over, then cut into steps. */
static void
words_queries(WordsAttention *s, const RowsHead *h, int first, int count)
{
	int			query,
				d,
				i;

	for (query = 0; query < WORDS_WIDE; query += CPU_LANES)
	{
		vf			top = {0};
		vf			inverse;

		for (d = 0; d < h->dim; d += 2 * CPU_LANES)
		{
			vf			square[CPU_LANES];

			rows_turn(square, h->q + (size_t) (first + query) * h->ld + d, h->ld, count - query);
			for (i = 0; i < CPU_LANES; i++)
			{
				v_store((float *) (void *) (s->queries[d / 2 + i] + query), square[i]);
				top = v_larger(top, v_larger(v_abs(rows_low(square[i])), v_abs(rows_high(square[i]))));
			}
		}
		v_store(s->query_step + query, top * (1.0f / WORDS_SCORE));
		inverse = rows_inverse(top, WORDS_SCORE);
		for (d = 0; d < h->dim / 2; d++)
		{
			vf			pair = v_load((const float *) (const void *) (s->queries[d] + query));

			*(vi_memory *) (s->queries[d] + query) = words_pair(words_round(rows_low(pair), inverse),
																words_round(rows_high(pair), inverse));
		}
	}
}

/*
 * sum[rows][WORDS_WIDE] = of `steps` words; a row's words are `step` apart, rows `row`; rows is a constant
 * after inlining.
 */
static inline __attribute__((always_inline)) void
words_tile(vi sum[WORDS_ROWS][2], const int32_t *a, size_t row, size_t step, const int32_t (*b)[WORDS_WIDE],
		   int steps, int rows)
{
	int			i,
				r;

#pragma GCC unroll 8
	for (r = 0; r < rows; r++)
		sum[r][0] = sum[r][1] = (vi) {0};
	for (i = 0; i < steps; i++, a += step, b++)
	{
		vi			b0 = *(const vi_memory *) *b;
		vi			b1 = *(const vi_memory *) (*b + CPU_LANES);

#pragma GCC unroll 8
		for (r = 0; r < rows; r++)
		{
			vi			all = a[r * row] - (vi) {0};

			sum[r][0] = words_dot(sum[r][0], all, b0);
			sum[r][1] = words_dot(sum[r][1], all, b1);
		}
	}
}

/* The scores of `rows` keys; top: the largest so far */
static inline __attribute__((always_inline)) void
words_score(WordsAttention *s, const RowsHead *h, vi top[2], int key, int rows)
{
	vi			sum[WORDS_ROWS][2];
	int			r;

	words_tile(sum, s->keys + (size_t) key * h->dim / 2, h->dim / 2, 1,
			   (const int32_t (*)[WORDS_WIDE]) s->queries, h->dim / 2, rows);
#pragma GCC unroll 8
	for (r = 0; r < rows; r++)
	{
		*(vi_memory *) s->scores[key + r] = sum[r][0];
		*(vi_memory *) (s->scores[key + r] + CPU_LANES) = sum[r][1];
		top[0] = words_larger(top[0], sum[r][0]);
		top[1] = words_larger(top[1], sum[r][1]);
	}
}

/* 2^(x factor + WORDS_ONE) for x <= 0 as a whole number; within 7.5e-5 of itself before it is rounded. */
static inline vi
words_power(vi x, vf factor)
{
	vf			y = v_larger(v_set(-2.0f), v_fma(__builtin_convertvector(x, vf), factor, v_set(WORDS_ONE)));
	vf			n = y + ROUND_BIAS;
	vf			f = y - (n - ROUND_BIAS);
	vf			p = v_fma(f, v_set(0.0551713231f), v_set(0.242611331f));

	p = v_fma(p, f, v_set(0.693261089f));
	p = v_fma(p, f, v_set(0.999928047f));
	return (vi) ((vf) ((vi) p + ((vi) n << 23)) + ROUND_BIAS);
}

/* LANES queries from `lane` on: their probabilities in steps; the sums of them */
static vf
words_soften(WordsAttention *s, const RowsHead *h, vi top, int lane)
{
	vf			factor = v_load(s->query_step + lane) * (s->key_step * h->scale * LOG2_E);
	vi			ones = 0x00010001 - (vi) {0};
	vi			total = {0};
	int			key;

	for (key = 0; key < h->length; key += 2)
	{
		vi			low = words_power(*(const vi_memory *) (s->scores[key] + lane) - top, factor);
		vi			high = {0};
		vi			pair;

		if (key + 1 < h->length)
			high = words_power(*(const vi_memory *) (s->scores[key + 1] + lane) - top, factor);
		pair = words_pair(low, high);
		*(vi_memory *) (s->probabilities[key / 2] + lane) = pair;
		total = words_dot(total, pair, ones);
	}
	return __builtin_convertvector(total, vf);
}

/* The results' sums of `rows` dimensions over keys [first, first + WORDS_FLUSH) */
static inline __attribute__((always_inline)) void
words_mix(WordsAttention *s, const RowsHead *h, int first, int pairs, int d, int rows)
{
	vi			sum[WORDS_ROWS][2];
	int			r,
				v;

	words_tile(sum, s->values + (size_t) first / 2 * h->dim + d, 1, h->dim,
			   (const int32_t (*)[WORDS_WIDE]) s->probabilities + first / 2, pairs, rows);
#pragma GCC unroll 8
	for (r = 0; r < rows; r++)
	{
#pragma GCC unroll 2
		for (v = 0; v < 2; v++)
		{
			float	   *to = s->sums[d + r] + v * CPU_LANES;
			vf			part = __builtin_convertvector(sum[r][v], vf);

			v_store(to, first == 0 ? part : v_load(to) + part);
		}
	}
}

/* Sums of columns to rows, times what makes them results. */
static void
words_finish(const WordsAttention *s, const RowsHead *h, vf total, int lane, int first, int count)
{
	vf			square[CPU_LANES];
	vf			norm = 1.0f / total;
	int			d,
				i;

	for (d = 0; d < h->dim; d += CPU_LANES)
	{
		for (i = 0; i < CPU_LANES; i++)
			square[i] = v_load(s->sums[d + i] + lane) * norm;
		transpose_square(square);
		for (i = 0; i < CPU_LANES && lane + i < count; i++)
			v_narrow(h->out + (size_t) (first + lane + i) * h->ld_out + d,
					 square[i] * v_load(s->value_step + d));
	}
}

static void
words_attend(void *scratch, const RowsHead *h, int first, int count)
{
	WordsAttention *s = scratch;
	vi			top[2] = {INT32_MIN - (vi) {0}, INT32_MIN - (vi) {0}};
	vf			total[2];
	int			key,
				d;

	words_queries(s, h, first, count);
	for (key = 0; key + WORDS_ROWS <= h->length; key += WORDS_ROWS)
		words_score(s, h, top, key, WORDS_ROWS);
	for (; key < h->length; key++)
		words_score(s, h, top, key, 1);
	for (d = 0; d < 2; d++)
		total[d] = words_soften(s, h, top[d], d * CPU_LANES);
	for (key = 0; key < h->length; key += WORDS_FLUSH)
	{
		int			pairs = (h->length - key < WORDS_FLUSH ? h->length - key + 1 : WORDS_FLUSH) / 2;

		/* multiples of 4 are some times WORDS_ROWS and some times 4 */
		for (d = 0; (h->dim - d) % WORDS_ROWS != 0; d += 4)
			words_mix(s, h, key, pairs, d, 4);
		for (; d < h->dim; d += WORDS_ROWS)
			words_mix(s, h, key, pairs, d, WORDS_ROWS);
	}
	for (d = 0; d < 2; d++)
		words_finish(s, h, total[d], d * CPU_LANES, first, count);
}

void
ATTENTION_WORDS(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv, const int32_t *offsets,
				const DistilAttention *a)
{
	const RowsWay way = {.longest = WORDS_KEYS,.dim = WORDS_DIM,.multiple = WORDS_WIDE,
		.queries = WORDS_WIDE,.prepare = words_head,.attend = words_attend,
	.otherwise = ATTENTION_ELSE};

	rows_attend(dev, out, qkv, offsets, a, &way);
}
