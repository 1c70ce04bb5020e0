/*
 * attention_short_avx512.h
 *		Attention of short sequences over rows of BF16 by vdpbf16ps, a few heads of one at a time.
 *
 * The arithmetic is that of attention_bf16_avx512.h.  But a head of so few rows is over before its steps,
 * each of which needs the one before, could overlap: so each step is done for all of a few heads before the
 * next.  And a sequence is taken for one of 8, 10, 12 or 16 rows, so that hardly a branch depends on its
 * length: keys and values behind its last row are made nothing, results behind it are not written.
 */
#define SHORT_ROWS	16			/* longest sequence */
#define SHORT_DIM	64			/* widest head; heads are of half of it or all */
#define SHORT_HEADS 4			/* at a time */

typedef struct ShortHead
{
	int32_t		queries[SHORT_DIM / 2][CPU_LANES] __attribute__((aligned(64)));
	int32_t		values[SHORT_ROWS / 2][SHORT_DIM] __attribute__((aligned(64)));	/* in pairs of keys */
	/* Key by key; then, from the start on, probabilities of pairs of keys. */
	float		scores[SHORT_ROWS][CPU_LANES] __attribute__((aligned(64)));
	float		norms[CPU_LANES] __attribute__((aligned(64)));	/* what results are multiplied by */
} ShortHead;

_Static_assert(SHORT_HEADS * sizeof(ShortHead) <= CPU_AREAS * CPU_AREA_FLOATS * sizeof(float),
			   "scratch is too small");
_Static_assert(SHORT_HEADS % 2 == 0, "some steps are done for two heads");

/*
 * By how many keys there are from one on, which may be less than none: what is left of it and the next one,
 * in bits, and what its scores are lowered by.
 */
#define SHORT_NONE	(SHORT_ROWS - 1)
static const int32_t short_pair[2 * SHORT_ROWS] = {[SHORT_NONE + 1] = 0xffff, -1, -1, -1, -1, -1, -1, -1, -1,
-1, -1, -1, -1, -1, -1, -1};
static const float short_lower[2 * SHORT_ROWS] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY,
	-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY,
-INFINITY, [SHORT_NONE] = -INFINITY};

/* Queries turned over, values in pairs of keys. */
static inline __attribute__((always_inline)) void
short_prepare(ShortHead *s, const RowsHead *h, const uint16_t *q, int dim, int rows)
{
	const uint16_t *v = q + 2 * h->width;
	const int32_t *left = short_pair + SHORT_NONE + h->length;
	__m512i		first = _mm512_load_si512(pair_first);
	__m512i		last = _mm512_load_si512(pair_last);
	int			d,
				i;

	for (d = 0; d < dim; d += 2 * CPU_LANES)
	{
		vf			square[CPU_LANES];

		rows_turn(square, q + d, h->ld, CPU_LANES);
#pragma GCC unroll 16
		for (i = 0; i < CPU_LANES; i++)
			_mm512_store_ps(s->queries[d / 2 + i], (__m512) square[i]);
#pragma GCC unroll 8
		for (i = 0; i < rows / 2; i++)
		{
			__m512i		mask = _mm512_set1_epi32(left[-2 * i]);
			__m512i		low = _mm512_loadu_si512(v + 2 * i * h->ld + d);
			__m512i		high = _mm512_loadu_si512(v + (2 * i + 1) * h->ld + d);

			_mm512_store_si512(s->values[i] + d,
							   _mm512_permutex2var_epi16(low, first, high) & mask);
			_mm512_store_si512(s->values[i] + d + CPU_LANES,
							   _mm512_permutex2var_epi16(low, last, high) & mask);
		}
	}
}

/* Scores of one head or of two side by side, as one has too few sums to keep the CPU busy. */
static inline __attribute__((always_inline)) void
short_score(ShortHead *s, const RowsHead *h, const uint16_t *q, int dim, int rows, int heads)
{
	const char *key = (const char *) (q + h->width);
	size_t		ld = h->ld * sizeof(uint16_t);
	size_t		three = 3 * ld;
	size_t		five = 5 * ld;
	const char *other = key + 6 * ld;
	const char *third = other + 6 * ld;
	__m512		sum[2][SHORT_ROWS];
	int			i,
				r,
				g;

	/* addresses from few registers, see int8_avx512.h */
	__asm__ ("" : "+r" (other), "+r" (third), "+r" (three), "+r" (five));
#pragma GCC unroll 16
	for (r = 0; r < rows; r++)
		sum[0][r] = sum[1][r] = _mm512_setzero_ps();
	for (i = 0; i < dim / 2; i++, key += 4, other += 4, third += 4)
	{
#pragma GCC unroll 2
		for (g = 0; g < heads; g++)
		{
			__m512bh	b = (__m512bh) _mm512_load_si512(s[g].queries[i]);

#pragma GCC unroll 16
			for (r = 0; r < rows; r++)
			{
				size_t		at = r % 6 == 3 ? three : r % 6 == 5 ? five : r % 6 * ld;
				int32_t		pair;

				memcpy(&pair, (r < 6 ? key : r < 12 ? other : third) + at + g * dim * sizeof(uint16_t),
					   sizeof(pair));
				sum[g][r] = _mm512_dpbf16_ps(sum[g][r], (__m512bh) _mm512_set1_epi32(pair), b);
			}
		}
	}
#pragma GCC unroll 2
	for (g = 0; g < heads; g++)
	{
#pragma GCC unroll 16
		for (r = 0; r < rows; r++)
			_mm512_store_ps(s[g].scores[r], sum[g][r]);
	}
}

/* Scores of two heads to probabilities, two keys to a lane. */
static inline __attribute__((always_inline)) void
short_soften(ShortHead *s, const RowsHead *h, int rows)
{
	const int32_t *left = short_pair + SHORT_NONE + h->length;
	const float *lower = short_lower + SHORT_NONE + h->length;
	__m512		factor = _mm512_set1_ps(h->scale * LOG2_E);
	__m512bh	ones = (__m512bh) _mm512_set1_epi32(0x3f803f80);
	__m512		top[2];
	__m512		total[2];
	__m512		shift[2];
	int			i,
				g;

#pragma GCC unroll 2
	for (g = 0; g < 2; g++)
	{
		top[g] = _mm512_load_ps(s[g].scores[0]);
		total[g] = _mm512_setzero_ps();
	}
	/* a NaN is not the larger one: behind the last key there may be anything */
#pragma GCC unroll 16
	for (i = 1; i < rows; i++)
	{
#pragma GCC unroll 2
		for (g = 0; g < 2; g++)
			top[g] = _mm512_max_ps(_mm512_load_ps(s[g].scores[i]) + _mm512_set1_ps(lower[-i]), top[g]);
	}
#pragma GCC unroll 2
	for (g = 0; g < 2; g++)
		shift[g] = _mm512_fnmadd_ps(top[g], factor, _mm512_setzero_ps());
#pragma GCC unroll 8
	for (i = 0; i < rows / 2; i++)
	{
#pragma GCC unroll 2
		for (g = 0; g < 2; g++)
		{
			__m512		low = pair_power(_mm512_load_ps(s[g].scores[2 * i]), factor, shift[g]);
			__m512		high = pair_power(_mm512_load_ps(s[g].scores[2 * i + 1]), factor, shift[g]);
			__m512i		p = pair_join(low, high) & _mm512_set1_epi32(left[-2 * i]);

			_mm512_store_si512(s[g].scores[i], p);
			total[g] = _mm512_dpbf16_ps(total[g], (__m512bh) p, ones);
		}
	}
#pragma GCC unroll 2
	for (g = 0; g < 2; g++)
		_mm512_store_ps(s[g].norms, 1.0f / total[g]);
}

/* The results of `count` queries from `query` on that lie in first .. end. */
static inline __attribute__((always_inline)) void
short_mix(const ShortHead *s, const RowsHead *h, uint16_t *to, int query, int count, int first, int end,
		  int dim, int rows)
{
	int			d,
				r;

	for (d = 0; d < dim; d += 2 * CPU_LANES)
	{
		__m512		sum[SHORT_ROWS][2];

		pair_tile(sum, (const char *) &s->scores[0][query], sizeof(int32_t), sizeof(s->scores[0]),
				  (const char *) (s->values[0] + d), sizeof(s->values[0]), rows / 2, count, 2);
#pragma GCC unroll 16
		for (r = 0; r < count; r++)
		{
			__m512		norm = _mm512_set1_ps(s->norms[query + r]);

			if (query + r >= first && query + r < end)
				_mm512_storeu_si512(to + (query + r) * h->ld_out + d,
									(__m512i) _mm512_cvtne2ps_pbh(sum[r][1] * norm, sum[r][0] * norm));
		}
	}
}

/*
 * `heads` heads of a sequence that is taken for `rows` rows.  Of an odd number the last has what scratch
 * holds at its side, of which nothing is written.
 */
static inline __attribute__((always_inline)) void
short_heads(ShortHead *s, const RowsHead *h, int heads, int first, int end, int dim, int rows)
{
	int			side = rows == SHORT_ROWS ? 1 : 2;
	int			i;

	for (i = 0; i < heads; i++)
		short_prepare(s + i, h, h->q + i * dim, dim, rows);
	for (i = 0; i < heads; i += side)
		short_score(s + i, h, h->q + i * dim, dim, rows, side);
	for (i = 0; i < heads; i += 2)
		short_soften(s + i, h, rows);
	for (i = 0; i < heads; i++)
	{
		if (rows < SHORT_ROWS)
			short_mix(s + i, h, h->out + i * dim, 0, rows, first, end, dim, rows);
		else
		{
			short_mix(s + i, h, h->out + i * dim, 0, 8, first, end, dim, rows);
			short_mix(s + i, h, h->out + i * dim, 8, 8, first, end, dim, rows);
		}
	}
}

static inline __attribute__((always_inline)) void
short_rows(ShortHead *s, const RowsHead *h, int heads, int first, int end, int dim)
{
	if (h->length <= 8)
		short_heads(s, h, heads, first, end, dim, 8);
	else if (h->length <= 10)
		short_heads(s, h, heads, first, end, dim, 10);
	else if (h->length <= 12)
		short_heads(s, h, heads, first, end, dim, 12);
	else
		short_heads(s, h, heads, first, end, dim, 16);
}

static void
short_attend(void *scratch, const RowsHead *h, int heads, int first, int end)
{
	if (h->dim == SHORT_DIM)
		short_rows(scratch, h, heads, first, end, SHORT_DIM);
	else
		short_rows(scratch, h, heads, first, end, SHORT_DIM / 2);
}
