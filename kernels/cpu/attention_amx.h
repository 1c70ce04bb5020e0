/*
 * attention_amx.h
 *		Attention in BF16 by tiles, one sequence and head at a time.
 *
 * A block of keys and values is put into the form of tiles once for many queries; 16 queries at a time get
 * all scores against it, then probabilities and the sum of values.  Queries, probabilities and results
 * are rows of tiles as they lie in memory.  With more keys than a block has, sums so far are scaled down
 * when a larger score appears (Milakov and Gimelshein 2018; Dao et al. 2022, "FlashAttention").  The
 * blocks depend on the sequence alone, so a text has the same bits in any batch.
 *
 * Probabilities are made as BF16 at once, 32 to a vector, in fixed point: 2^x has the bits of x itself but
 * for what 2^f differs from 1 + f, which a table of bytes holds (Schraudolph 1999, "A fast, compact
 * approximation of the exponential function").  They are within 0.76 % of exact ones times a constant, 0.23 %
 * in the root of the mean square, where rounding alone has 0.39 % and 0.17 %; what they are divided by
 * is the sum of these same numbers.
 *
 * The rule a newcomer would break: rows of queries and lanes of keys behind the last one hold anything, NaNs
 * too.  They may be computed with but never mixed with others, so values behind the last key are zeros
 * and so are probabilities.  Fixed point has no NaN: a query's leaves nothing of its sum, a key's is looked
 * for.
 */

#define ATTENTION_KEYS		128
#define ATTENTION_QUERIES	256
#define ATTENTION_DIM		128		/* widest head; a multiple of 32 */

typedef float AmxTile[16][16];	/* of results */

/* Lies in the device's scratch.  Tiles of words are pairs of BF16. */
typedef struct AmxAttention
{
	/* [key / 16][dim / 32]: [dim / 2][key]; [key / 32][dim / 16]: [key / 2][dim], see pair_key */
	uint32_t	keys[ATTENTION_KEYS / 16 * ATTENTION_DIM / 32][256];
	uint32_t	values[ATTENTION_KEYS / 32 * ATTENTION_DIM / 16][256];
	AmxTile		scores[ATTENTION_KEYS / 16];	/* [query][key] */
	uint32_t	probabilities[ATTENTION_KEYS / 32][256];	/* [query][pair of keys] */
	AmxTile		part[ATTENTION_DIM / 16];	/* of the sums, by this block of keys */
	AmxTile		part_total;		/* of probabilities; all columns are the same */
	AmxTile		sums[ATTENTION_QUERIES / 16][ATTENTION_DIM / 16];
	float		top[ATTENTION_QUERIES]; /* largest score so far */
	float		total[ATTENTION_QUERIES];
	float		row_bias[16];	/* numbers of these queries, to be read one by one */
	float		row_factor[16];
	float		bias[ATTENTION_KEYS + ATTENTION_QUERIES + 16];	/* see gather_biases */
} AmxAttention;

_Static_assert(sizeof(AmxAttention) <= CPU_AREAS * CPU_AREA_FLOATS * sizeof(float), "scratch is too small");

/* One sequence and head. */
typedef struct AmxHead
{
	const DistilAttention *a;
	const uint16_t *q, *k, *v;	/* its first row */
	size_t		ld;
	uint16_t   *out;
	size_t		ld_out;
	int			length;
	int			dim;
	int			head;
	float		factor;			/* of scores, for powers of two */
} AmxHead;

/* 16 queries and a block of keys. */
typedef struct AmxBlock
{
	int			query;			/* the first one */
	int			first;			/* key of the block */
	int			keys;			/* that any of the queries sees */
	int			seen;			/* that all of them see, at most keys */
	bool		nan;			/* among the block's keys */
	const float *bias;			/* of the first query and key, see gather_biases */
} AmxBlock;

/* r[16][16] = r transposed */
static inline __attribute__((always_inline)) void
transpose_words(__m512i *r)
{
	__m512i		t[16];
	int			i;

#pragma GCC unroll 8
	for (i = 0; i < 16; i += 2)
	{
		t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
		t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
	}
#pragma GCC unroll 4
	for (i = 0; i < 16; i += 4)
	{
		r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
		r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
		r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
		r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
#pragma GCC unroll 4
	for (i = 0; i < 4; i++)
	{
		t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
		t[4 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
		t[8 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
		t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
	}
#pragma GCC unroll 4
	for (i = 0; i < 4; i++)
	{
		r[i] = _mm512_shuffle_i32x4(t[i], t[4 + i], 0x88);
		r[4 + i] = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0x88);
		r[8 + i] = _mm512_shuffle_i32x4(t[i], t[4 + i], 0xdd);
		r[12 + i] = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0xdd);
	}
}

/* The largest of words, signs left out, over several vectors: is it infinite or NaN? */
static inline __m512i
larger_words(__m512i top, __m512i words)
{
	return _mm512_max_epu16(top, _mm512_and_si512(words, _mm512_set1_epi16(0x7fff)));
}

static inline bool
not_finite(__m512i top)
{
	return _mm512_cmpgt_epu16_mask(top, _mm512_set1_epi16(0x7f7f)) != 0;
}

/*
 * The first key of row r of a tile of probabilities turned, which is a tile of values: packing (pack_scores)
 * leaves 4 keys of the first 16 and 4 of the others side by side.
 */
static inline int
pair_key(int r)
{
	return r / 4 * 4 + r % 4 / 2 * 16 + r % 2 * 2;
}

/* 16 keys of which `there` exist, as tiles; true when one is not finite. */
static inline bool
arrange_key_tile(uint32_t (*to)[256], const AmxHead *h, const uint16_t *key, int there)
{
	__m512i		top = _mm512_setzero_si512();
	__m512i		r[16];
	int			d,
				k;

	for (d = 0; d < h->dim; d += 32)
	{
#pragma GCC unroll 16
		for (k = 0; k < 16; k++)
		{
			r[k] = k < there ? _mm512_loadu_si512(key + k * h->ld + d) : _mm512_setzero_si512();
			top = larger_words(top, r[k]);
		}
		transpose_words(r);
#pragma GCC unroll 16
		for (k = 0; k < 16; k++)
			_mm512_store_si512(to[d / 32] + 16 * k, r[k]);
	}
	return not_finite(top);
}

/*
 * 32 values of which `there` exist, as tiles: of 32 dims, every other 4 are in the first tile, the others in
 * the second one.
 */
static inline void
arrange_value_tile(uint32_t (*to)[256], const AmxHead *h, const uint16_t *value, int there)
{
	int			d,
				r;

	for (d = 0; d < h->dim; d += 32)
	{
#pragma GCC unroll 16
		for (r = 0; r < 16; r++)
		{
			const uint16_t *even = value + pair_key(r) * h->ld + d;
			__m512i		low = _mm512_setzero_si512();
			__m512i		high = low;

			if (pair_key(r) < there)
				low = _mm512_loadu_si512(even);
			if (pair_key(r) + 1 < there)
				high = _mm512_loadu_si512(even + h->ld);
			_mm512_store_si512(to[d / 16] + 16 * r, _mm512_unpacklo_epi16(low, high));
			_mm512_store_si512(to[d / 16 + 1] + 16 * r, _mm512_unpackhi_epi16(low, high));
		}
	}
}

/* Keys and values [first, first + count) as tiles, zeros behind them; true when a key is not finite. */
static bool
arrange_keys(AmxAttention *s, const AmxHead *h, int first, int count)
{
	const uint16_t *key = h->k + first * h->ld;
	const uint16_t *value = h->v + first * h->ld;
	bool		nan = false;
	int			i;

	for (i = 0; i < count; i += 16)
	{
		uint32_t	(*to)[256] = s->keys + i / 16 * (h->dim / 32);

		if (count - i >= 16)
			nan |= arrange_key_tile(to, h, key + i * h->ld, 16);
		else
			nan |= arrange_key_tile(to, h, key + i * h->ld, count - i);
	}
	for (i = 0; i < count; i += 32)
	{
		uint32_t	(*to)[256] = s->values + i / 32 * (h->dim / 16);

		if (count - i >= 32)
			arrange_value_tile(to, h, value + i * h->ld, 32);
		else
			arrange_value_tile(to, h, value + i * h->ld, count - i);
	}
	return nan;
}

/*
 * The position biases, times log2 e, of keys [first, first + keys) with `queries` queries, a multiple of 16,
 * from begin on: bias[i] is that of the distance first - begin - (queries - 1) + i, so that 16 keys find
 * theirs with a query side by side.  None for queries from end on.
 */
static void
gather_biases(AmxAttention *s, const AmxHead *h, int begin, int end, int queries, int first, int keys)
{
	const float *relative = h->a->relative;
	int			distance = first - begin - (queries - 1);
	int			i;

	for (i = queries - (end - begin); i < keys + queries - 1; i++)
		s->bias[i] = LOG2_E *
			relative[(size_t) (distance + i + h->a->relative_limit - 1) * h->a->heads + h->head];
}

/* Scores of keys [key, key + 32) in tiles t and t + 1. */
#define SCORE_KEYS(t, u) \
	do \
	{ \
		const uint32_t (*k)[256] = (const uint32_t (*)[256]) s->keys + key / 16 * parts; \
		int			d; \
		TILE_ZERO(t); \
		TILE_ZERO(u); \
		for (d = 0; d < parts; d++) \
		{ \
			if (parts > 1) \
				TILE_LOAD(4, q + 32 * d, h->ld * sizeof(uint16_t)); \
			TILE_LOAD(5, k[d], 64); \
			TILE_DOT_BF16(t, 4, 5); \
			TILE_LOAD(6, k[parts + d], 64); \
			TILE_DOT_BF16(u, 4, 6); \
		} \
	} while (0)

/* All scores of a block; stores trail products by 32 keys. */
static inline __attribute__((always_inline)) void
score_keys(AmxAttention *s, const AmxHead *h, const AmxBlock *b, int parts)
{
	const uint16_t *q = h->q + b->query * h->ld;
	int			key = 0;

	TILE_LOAD(4, q, h->ld * sizeof(uint16_t));
	SCORE_KEYS(0, 1);
	for (;;)
	{
		float	   *to = s->scores[key / 16][0];

		key += 32;
		if (key < b->keys)
			SCORE_KEYS(2, 3);
		TILE_STORE(0, to, 64);
		TILE_STORE(1, to + 256, 64);
		if (key >= b->keys)
			break;
		key += 32;
		if (key < b->keys)
			SCORE_KEYS(0, 1);
		TILE_STORE(2, to + 512, 64);
		TILE_STORE(3, to + 768, 64);
		if (key >= b->keys)
			break;
	}
}

/* How many of `keys` keys from `key` of the block on the query of row r sees. */
static inline int
visible_keys(const AmxHead *h, const AmxBlock *b, int r, int key, int keys)
{
	int			limit = b->keys - key;

	if (h->a->causal && b->query + r + 1 - b->first < b->keys)
		limit = b->query + r + 1 - b->first - key;
	return limit < 0 ? 0 : limit < keys ? limit : keys;
}

/* scores of a tile scaled and with position biases, times log2 e */
static __attribute__((noinline)) void
add_biases(AmxAttention *s, const AmxHead *h, const AmxBlock *b, int tile)
{
	__m512		factor = _mm512_set1_ps(h->a->scale * LOG2_E);
	int			r;

	for (r = 0; r < 16; r++)
	{
		float	   *score = s->scores[tile][r];

		_mm512_store_ps(score, _mm512_fmadd_ps(_mm512_load_ps(score), factor,
											   _mm512_loadu_ps(b->bias + 16 * tile - r)));
	}
}

/* top[row] = the larger of it and what the row sees of a tile; NaNs are passed over */
static inline __attribute__((always_inline)) void
larger_scores(__m512 *top, const AmxAttention *s, const AmxHead *h, const AmxBlock *b, int tile)
{
	int			r;

	if (16 * tile + 16 <= b->seen)
	{
#pragma GCC unroll 16
		for (r = 0; r < 16; r++)
			top[r] = _mm512_max_ps(_mm512_load_ps(s->scores[tile][r]), top[r]);
		return;
	}
#pragma GCC unroll 16
	for (r = 0; r < 16; r++)
	{
		__mmask16	mask = (1u << visible_keys(h, b, r, 16 * tile, 16)) - 1;

		top[r] = _mm512_mask_max_ps(top[r], mask, _mm512_load_ps(s->scores[tile][r]), top[r]);
	}
}

/* Lane r: the largest of row r. */
static inline __attribute__((always_inline)) __m512
largest_lanes(__m512 *row)
{
	int			r;

#pragma GCC unroll 8
	for (r = 0; r < 8; r++)
		row[r] = _mm512_max_ps(_mm512_unpacklo_ps(row[2 * r], row[2 * r + 1]),
							   _mm512_unpackhi_ps(row[2 * r], row[2 * r + 1]));
#pragma GCC unroll 4
	for (r = 0; r < 4; r++)
	{
		__m512d		even = (__m512d) row[2 * r];
		__m512d		odd = (__m512d) row[2 * r + 1];

		row[r] = _mm512_max_ps((__m512) _mm512_unpacklo_pd(even, odd),
							   (__m512) _mm512_unpackhi_pd(even, odd));
	}
#pragma GCC unroll 3
	for (r = 0; r < 3; r++)
	{
		__m512	   *from = r < 2 ? row + 2 * r : row;
		__m512		low = _mm512_shuffle_f32x4(from[0], from[1], 0x88);

		row[r % 2] = _mm512_max_ps(low, _mm512_shuffle_f32x4(from[0], from[1], 0xdd));
	}
	return row[0];
}

/* All scores of a block; the largest of each query, -inf where it sees none. */
static __m512
score_block(AmxAttention *s, const AmxHead *h, const AmxBlock *b)
{
	__m512		top[16];
	int			i;

	TILE_FENCE();
	if (h->dim == 32)
		score_keys(s, h, b, 1);
	else
		score_keys(s, h, b, h->dim / 32);
#pragma GCC unroll 16
	for (i = 0; i < 16; i++)
		top[i] = _mm512_set1_ps(-INFINITY);
	for (i = 0; 16 * i < b->keys; i++)
	{
		if (h->a->relative != NULL)
			add_biases(s, h, b, i);
		larger_scores(top, s, h, b, i);
	}
	return largest_lanes(top);
}

/* 2^x for x <= 0, within 8e-5 of itself; 0 for -inf, NaN for NaN. */
static inline __m512
power_of_two(__m512 x)
{
	__m512		f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
	__m512		p = _mm512_fmadd_ps(f, _mm512_set1_ps(0.0780245289f), _mm512_set1_ps(0.226067141f));

	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.695833564f));
	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.999925196f));
	return _mm512_scalef_ps(p, x);
}

/* 128 (1 + f - 2^f) of f = (2 i + 1/2) / 128, rounded */
static const uint8_t power_table[64] __attribute__((aligned(64))) = {
	0, 1, 1, 2, 2, 3, 4, 4, 5, 5, 5, 6, 6, 7, 7, 8, 8, 8, 9, 9, 9, 9, 10, 10, 10, 10,
	10, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 10, 10, 10, 10, 10,
	9, 9, 9, 8, 8, 8, 7, 7, 6, 6, 5, 5, 4, 3, 3, 2, 1, 1
};

/* Words of factor score + bias, from 0 to 65535, the last 7 bits a fraction.  Their order: pair_key. */
static inline __m512i
pack_scores(const float *low, const float *high, __m512 factor, __m512 bias)
{
	__m512		a = _mm512_fmadd_ps(_mm512_load_ps(low), factor, bias);
	__m512		b = _mm512_fmadd_ps(_mm512_load_ps(high), factor, bias);

	return _mm512_packus_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
}

/*
 * BF16 of 2^(w / 128 - 511): less the table's number, and the exponent less 384, so that 65535 is almost 2
 * and what is 2^128 times smaller is 0.
 */
static inline __m512i
power_words(__m512i w, __m512i table)
{
	__m512i		bits = _mm512_set1_epi64(0x3131212111110101);	/* each word's from the second on */
	__m512i		less = _mm512_mask_permutexvar_epi8(_mm512_set1_epi16((short) 0xc000), 0x5555555555555555,
													_mm512_multishift_epi64_epi8(bits, w), table);

	return _mm512_subs_epu16(w, less);
}

/* p = 2^(factor (score - top)) of keys [key, key + 32), 0 where one is not seen; -128 top in row_bias */
static inline __attribute__((always_inline)) void
soften_keys(AmxAttention *s, const AmxHead *h, const AmxBlock *b, int key, bool all)
{
	static const uint16_t place[32] __attribute__((aligned(64))) = {
		0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23,
		8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31
	};
	__m512		factor = _mm512_set1_ps(h->factor * 128.0f);
	__m512i		table = _mm512_load_si512(power_table);
	int			r;

#pragma GCC unroll 4
	for (r = 0; r < 16; r++)
	{
		__m512i		w = pack_scores(s->scores[key / 16][r], s->scores[key / 16 + 1][r],
									factor, _mm512_set1_ps(s->row_bias[r]));
		__m512i		p = power_words(w, table);

		if (!all)
		{
			__m512i		limit = _mm512_set1_epi16((short) visible_keys(h, b, r, key, 32));

			p = _mm512_maskz_mov_epi16(_mm512_cmplt_epu16_mask(_mm512_load_si512(place), limit), p);
		}
		_mm512_store_si512(s->probabilities[key / 32] + 16 * r, p);
	}
}

/* Sums of values [dim .. dim + 63] or 32 of them in tiles 0 to 3 += those of 32 keys; tile 5 has these' p. */
static inline __attribute__((always_inline)) void
mix_values(const AmxAttention *s, int dims, int key, int dim, bool four)
{
	const uint32_t (*v)[256] = (const uint32_t (*)[256]) s->values + key / 32 * (dims / 16) + dim / 16;

	TILE_LOAD(5, s->probabilities[key / 32], 64);
	TILE_LOAD(6, v[0], 64);
	TILE_DOT_BF16(0, 5, 6);
	TILE_LOAD(6, v[1], 64);
	TILE_DOT_BF16(1, 5, 6);
	if (four)
	{
		TILE_LOAD(6, v[2], 64);
		TILE_DOT_BF16(2, 5, 6);
		TILE_LOAD(6, v[3], 64);
		TILE_DOT_BF16(3, 5, 6);
	}
}

static inline __attribute__((always_inline)) void
store_parts(AmxAttention *s, int dim, bool four)
{
	TILE_STORE(0, s->part[dim / 16], 64);
	TILE_STORE(1, s->part[dim / 16 + 1], 64);
	if (four)
	{
		TILE_STORE(2, s->part[dim / 16 + 2], 64);
		TILE_STORE(3, s->part[dim / 16 + 3], 64);
	}
}

/* p of all keys; their sums and the first values' parts: products trail by 32 keys.  Tile 7 has ones. */
static inline __attribute__((always_inline)) void
soften_block(AmxAttention *s, const AmxHead *h, const AmxBlock *b, bool four)
{
	int			i;

	TILE_ZERO(0);
	TILE_ZERO(1);
	TILE_ZERO(2);
	TILE_ZERO(3);
	TILE_ZERO(4);
	for (i = 0; i < b->keys + 32; i += 32)
	{
		if (i + 32 <= b->seen)
			soften_keys(s, h, b, i, true);
		else if (i < b->keys)
			soften_keys(s, h, b, i, false);
		TILE_FENCE();
		if (i == 0)
			continue;
		mix_values(s, h->dim, i - 32, 0, four);
		TILE_DOT_BF16(4, 5, 7);
	}
	store_parts(s, 0, four);
	TILE_STORE(4, s->part_total, 64);
}

/* The other values' parts. */
static void
mix_block(AmxAttention *s, const AmxHead *h, int keys, int dim)
{
	int			i;

	TILE_ZERO(0);
	TILE_ZERO(1);
	for (i = 0; i < keys; i += 32)
		mix_values(s, h->dim, i, dim, false);
	store_parts(s, dim, false);
}

/* The parts of a block as sums so far, added to those scaled down. */
static void
keep_parts(AmxAttention *s, const AmxHead *h, int slot, bool first, __m512 rescale)
{
	int			t,
				r;

	_mm512_store_ps(s->row_factor, rescale);
	for (t = 0; t < h->dim / 16; t++)
	{
		for (r = 0; r < 16; r++)
		{
			float	   *sum = s->sums[slot / 16][t][r];
			__m512		part = _mm512_load_ps(s->part[t][r]);

			if (!first)
				part = _mm512_fmadd_ps(_mm512_load_ps(sum), _mm512_set1_ps(s->row_factor[r]), part);
			_mm512_store_ps(sum, part);
		}
	}
}

/* Up to 16 rows of results: sums divided by totals. */
static void
finish_queries(AmxAttention *s, const AmxHead *h, const AmxTile *sums, __m512 total, int query, int count)
{
	__m512i		quads = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
	int			d,
				r;

	_mm512_store_ps(s->row_factor, _mm512_div_ps(_mm512_set1_ps(1.0f), total));
	for (d = 0; d < h->dim; d += 32, sums += 2)
	{
		uint16_t   *out = h->out + query * h->ld_out + d;

		for (r = 0; r < count; r++, out += h->ld_out)
		{
			__m512		inverse = _mm512_set1_ps(s->row_factor[r]);
			__m512i		both = narrow_pair(_mm512_mul_ps(_mm512_load_ps(sums[0][r]), inverse),
										   _mm512_mul_ps(_mm512_load_ps(sums[1][r]), inverse));

			_mm512_storeu_si512(out, _mm512_permutexvar_epi64(quads, both));
		}
	}
}

/* The sums of a block's probabilities; NaN when a key is not finite. */
static __m512
sum_rows(const AmxAttention *s, const AmxBlock *b)
{
	__m512i		row = _mm512_setr_epi32(0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224,
										240);

	return b->nan ? _mm512_set1_ps(NAN) : _mm512_i32gather_ps(row, s->part_total, 4);
}

/* Queries from b->query on, their `slot` in the group, against a block of keys. */
static void
attend_block(AmxAttention *s, const AmxHead *h, const AmxBlock *b, int slot, int count, bool last)
{
	bool		first = b->first == 0;
	__m512		top = score_block(s, h, b);
	__m512		rescale = _mm512_setzero_ps();
	__m512		total;
	int			dim;

	if (!first)
	{
		__m512		old = _mm512_load_ps(s->top + slot);

		top = _mm512_max_ps(top, old);
		rescale = power_of_two(_mm512_mul_ps(_mm512_sub_ps(old, top), _mm512_set1_ps(h->factor)));
	}
	_mm512_store_ps(s->row_bias, _mm512_fnmadd_ps(top, _mm512_set1_ps(h->factor * 128.0f),
												  _mm512_set1_ps(65535.0f)));
	if (h->dim >= 64)
		soften_block(s, h, b, true);
	else
		soften_block(s, h, b, false);
	for (dim = 64; dim < h->dim; dim += 32)
		mix_block(s, h, b->keys, dim);
	total = sum_rows(s, b);
	if (!first)
		total = _mm512_fmadd_ps(_mm512_load_ps(s->total + slot), rescale, total);
	if (!first || !last)
		keep_parts(s, h, slot, first, rescale);
	_mm512_store_ps(s->top + slot, top);
	_mm512_store_ps(s->total + slot, total);
	if (last)
		finish_queries(s, h, first ? s->part : s->sums[slot / 16], total, b->query, count);
}

/* Queries [begin, end), at most ATTENTION_QUERIES. */
static void
attend_queries(AmxAttention *s, const AmxHead *h, int begin, int end)
{
	int			limit = h->a->causal ? end : h->length;
	int			queries = (end - begin + 15) / 16 * 16;
	int			first,
				slot;

	for (first = 0; first < limit; first += ATTENTION_KEYS)
	{
		int			keys = limit - first < ATTENTION_KEYS ? limit - first : ATTENTION_KEYS;
		bool		nan = arrange_keys(s, h, first, keys);

		if (h->a->relative != NULL)
			gather_biases(s, h, begin, end, queries, first, keys);
		for (slot = 0; slot < end - begin; slot += 16)
		{
			int			query = begin + slot;
			int			count = end - query < 16 ? end - query : 16;
			int			visible = (h->a->causal ? query + count : h->length) - first;
			AmxBlock	b = {.query = query,.first = first,.keys = visible < keys ? visible : keys,.nan = nan,
			.bias = s->bias + queries - 1 - slot};

			b.seen = h->a->causal && query + 1 - first < b.keys ? query + 1 - first : b.keys;
			if (b.keys > 0)
				attend_block(s, h, &b, slot, count, visible <= keys);
		}
	}
}

static void
attention_amx(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv, const int32_t *offsets,
			  const DistilAttention *a)
{
	static const uint32_t ones[256] = {[0 ... 255] = 0x3f803f80};
	CpuDevice  *cpu = (CpuDevice *) dev;
	size_t		width = (size_t) a->heads * a->head_dim;
	unsigned int mode = _mm_getcsr();
	int			seq,
				head,
				begin;

	if (a->head_dim % 32 != 0 || a->head_dim > ATTENTION_DIM)
	{
		distil_cpu_rows_avx512.attention(dev, out, qkv, offsets, a);
		return;
	}
	tile_begin();
	TILE_LOAD(7, ones, 64);
	/* Numbers below 2^-126 are zeros: as subnormal ones each would take a hundred times as long. */
	_mm_setcsr(mode | _MM_FLUSH_ZERO_ON);
	for (seq = 0; seq < a->nseq; seq++)
	{
		size_t		row = offsets[seq];
		AmxHead		h = {.a = a,.ld = qkv->ld,.ld_out = out->ld,.dim = a->head_dim,
			.factor = a->relative != NULL ? 1.0f : a->scale * LOG2_E,
		.length = offsets[seq + 1] - offsets[seq]};
		int			end = DISTIL_QUERY_END(a, h.length);

		for (head = a->head_first; head < a->head_first + a->head_count; head++)
		{
			h.head = head;
			h.q = (const uint16_t *) qkv->data + row * qkv->ld + (size_t) head * a->head_dim;
			h.k = h.q + width;
			h.v = h.k + width;
			h.out = (uint16_t *) out->data + row * out->ld + (size_t) head * a->head_dim;
			for (begin = a->query_first; begin < end; begin += ATTENTION_QUERIES)
				attend_queries((AmxAttention *) cpu->scratch, &h, begin,
							   end - begin < ATTENTION_QUERIES ? end : begin + ATTENTION_QUERIES);
		}
	}
	_mm_setcsr(mode);
	tile_end();
}
