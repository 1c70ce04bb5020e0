/*
 * attention_amx.h
 *		Attention in BF16 by tiles, one sequence and head at a time.
 *
 * Everything is turned over: scores are k q^T and results v^T p^T, so that a vector holds one key's scores
 * with 16 queries, and largest scores, exponentials and their sums need nothing across lanes.  A block of
 * keys and values is put into the form of tiles once for many queries; 16 queries at a time get all scores
 * against it, then probabilities and the sum of values.  With more keys than a block has, sums so
 * far are scaled down when a larger score appears (Milakov and Gimelshein 2018; Dao et al. 2022,
 * "FlashAttention").  The blocks depend on the sequence alone, so a text has the same bits in any batch.
 *
 * The rule a newcomer would break: lanes of queries and rows of keys behind the last one hold anything, NaNs
 * too.  They may be computed with but never mixed with others, so values behind the last key are zeros.
 */

#define ATTENTION_KEYS		512
#define ATTENTION_QUERIES	256
#define ATTENTION_DIM		128		/* widest head; a multiple of 32 */
#define LOG2_E				1.44269504f

/* Lies in the device's scratch.  Tiles of words are pairs of BF16. */
typedef struct AmxAttention
{
	uint32_t	keys[ATTENTION_KEYS / 16 * ATTENTION_DIM / 32][256];	/* [key / 16][dim / 32]: 16 x 32 */
	uint32_t	values[ATTENTION_KEYS / 32 * ATTENTION_DIM / 16][256];	/* [key / 32][dim / 16], turned */
	uint32_t	query[ATTENTION_DIM / 32][256]; /* 16 of them, turned: [dim / 2][query] */
	float		scores[ATTENTION_KEYS][16];
	uint32_t	probabilities[ATTENTION_KEYS / 32][256];	/* [key / 2][query] */
	float		part[ATTENTION_DIM][16];	/* of the sums, by this block of keys */
	float		sums[ATTENTION_QUERIES / 16][ATTENTION_DIM][16];
	float		top[ATTENTION_QUERIES]; /* largest score so far, times log2 e */
	float		total[ATTENTION_QUERIES];
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
} AmxHead;

/* 16 queries and a block of keys. */
typedef struct AmxBlock
{
	int			query;			/* the first one */
	int			first;			/* key of the block */
	int			keys;			/* that any of the queries sees */
	int			seen;			/* that all of them see, at most keys */
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

/* Pairs (even[d], odd[d]) of 16 dims; the rows of a value and of the next one, of which `there` exist. */
static inline __m512i
pair_values(const uint16_t *even, size_t ld, int there)
{
	__m512i		low = _mm512_setzero_si512();
	__m512i		high = low;

	if (there > 0)
		low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) even));
	if (there > 1)
		high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) (even + ld)));
	return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

/* Keys and values [first, first + count) as tiles; values behind them are zeros. */
static void
arrange_keys(AmxAttention *s, const AmxHead *h, int first, int count)
{
	const uint16_t *key = h->k + first * h->ld;
	const uint16_t *value = h->v + first * h->ld;
	__m512i		r[16];
	int			parts = h->dim / 32;
	int			i,
				d,
				k;

	for (i = 0; i < count; i++, key += h->ld)
	{
		for (d = 0; d < parts; d++)
			_mm512_store_si512(s->keys[i / 16 * parts + d] + i % 16 * 16, _mm512_loadu_si512(key + 32 * d));
	}
	for (i = 0; i < count; i += 32, value += 32 * h->ld)
	{
		for (d = 0; d < h->dim; d += 16)
		{
			uint32_t   *to = s->values[(i * h->dim / 32 + d) / 16];

			if (count - i >= 32)
			{
#pragma GCC unroll 16
				for (k = 0; k < 16; k++)
					r[k] = pair_values(value + 2 * k * h->ld + d, h->ld, 2);
			}
			else
			{
#pragma GCC unroll 16
				for (k = 0; k < 16; k++)
					r[k] = pair_values(value + 2 * k * h->ld + d, h->ld, count - i - 2 * k);
			}
			transpose_words(r);
#pragma GCC unroll 16
			for (k = 0; k < 16; k++)
				_mm512_store_si512(to + 16 * k, r[k]);
		}
	}
}

static void
arrange_queries(AmxAttention *s, const AmxHead *h, int query)
{
	const uint16_t *q = h->q + query * h->ld;
	__m512i		r[16];
	int			d,
				k;

	for (d = 0; d < h->dim; d += 32)
	{
#pragma GCC unroll 16
		for (k = 0; k < 16; k++)
			r[k] = _mm512_loadu_si512(q + k * h->ld + d);
		transpose_words(r);
#pragma GCC unroll 16
		for (k = 0; k < 16; k++)
			_mm512_store_si512(s->query[d / 32] + 16 * k, r[k]);
	}
}

/*
 * The position biases, times log2 e, of keys [first, first + keys) with queries [begin, end): bias[i] is that
 * of the distance first + keys - 1 - begin - i, so that 16 queries find theirs with a key side by side.
 */
static void
gather_biases(AmxAttention *s, const AmxHead *h, int begin, int end, int first, int keys)
{
	int			distance = first + keys - 1 - begin;
	int			count = keys + end - begin - 1;
	int			i;

	for (i = 0; i < count; i++)
		s->bias[i] = LOG2_E *
			h->a->relative[(size_t) (distance - i + h->a->relative_limit - 1) * h->a->heads + h->head];
}

/* scores[key .. key + 63] of up to four tiles */
static inline __attribute__((always_inline)) void
score_keys(AmxAttention *s, int parts, int key, int tiles)
{
	const uint32_t (*k)[256] = (const uint32_t (*)[256]) s->keys + key / 16 * parts;
	float	   *to = s->scores[key];
	int			d;

	TILE_ZERO(0);
	TILE_ZERO(1);
	TILE_ZERO(2);
	TILE_ZERO(3);
	for (d = 0; d < parts; d++)
	{
		TILE_LOAD(4, s->query[d], 64);
		TILE_LOAD(5, k[d], 64);
		TILE_DOT_BF16(0, 5, 4);
		if (tiles > 1)
		{
			TILE_LOAD(6, k[parts + d], 64);
			TILE_DOT_BF16(1, 6, 4);
		}
		if (tiles > 2)
		{
			TILE_LOAD(5, k[2 * parts + d], 64);
			TILE_DOT_BF16(2, 5, 4);
		}
		if (tiles > 3)
		{
			TILE_LOAD(6, k[3 * parts + d], 64);
			TILE_DOT_BF16(3, 6, 4);
		}
	}
	TILE_STORE(0, to, 64);
	if (tiles > 1)
		TILE_STORE(1, to + 256, 64);
	if (tiles > 2)
		TILE_STORE(2, to + 512, 64);
	if (tiles > 3)
		TILE_STORE(3, to + 768, 64);
}

/* The queries that see a key of the block. */
static inline __mmask16
key_mask(const AmxHead *h, const AmxBlock *b, int key)
{
	int			late = h->a->causal ? b->first + key - b->query : 0;

	return key >= b->keys || late > 15 ? 0 : late > 0 ? (__mmask16) (0xffff << late) : 0xffff;
}

/* Larger of both; a NaN of the score is passed over, it comes out of the exponentials. */
static inline __m512
larger_score(__m512 top, __m512 score)
{
	return _mm512_max_ps(score, top);
}

/* The largest of scores [begin, end), at most 64 of which are seen by all. */
static inline __attribute__((always_inline)) __m512
largest_scores(const AmxAttention *s, const AmxHead *h, const AmxBlock *b, __m512 top, int begin, int end)
{
	__m512		part[4] = {top, top, top, top};
	int			i = begin;
	int			k;

	for (; i + 4 <= end && i + 4 <= b->seen; i += 4)
	{
#pragma GCC unroll 4
		for (k = 0; k < 4; k++)
			part[k] = larger_score(part[k], _mm512_load_ps(s->scores[i + k]));
	}
	for (; i < end; i++)
		part[0] = _mm512_mask_max_ps(part[0], key_mask(h, b, i), _mm512_load_ps(s->scores[i]), part[0]);
	return larger_score(larger_score(part[0], part[1]), larger_score(part[2], part[3]));
}

/* scores [begin, end) scaled and with position biases, times log2 e */
static __attribute__((noinline)) void
add_biases(AmxAttention *s, const AmxHead *h, const AmxBlock *b, int begin, int end)
{
	__m512		factor = _mm512_set1_ps(h->a->scale * LOG2_E);
	int			i;

	for (i = begin; i < end; i++)
		_mm512_store_ps(s->scores[i], _mm512_fmadd_ps(_mm512_load_ps(s->scores[i]), factor,
													  _mm512_loadu_ps(b->bias - i)));
}

/* All scores of a block; the largest of each query, -inf where it sees none.  Vectors trail tiles by 64. */
static __m512
score_block(AmxAttention *s, const AmxHead *h, const AmxBlock *b)
{
	__m512		top = _mm512_set1_ps(-INFINITY);
	int			parts = h->dim / 32;
	int			i;

	arrange_queries(s, h, b->query);
	TILE_FENCE();
	for (i = 0; i < b->keys + 64; i += 64)
	{
		if (i + 64 <= b->keys)
			score_keys(s, parts, i, 4);
		else if (i < b->keys)
			score_keys(s, parts, i, (b->keys - i + 15) / 16);
		if (i == 0)
			continue;
		if (h->a->relative != NULL)
			add_biases(s, h, b, i - 64, i < b->keys ? i : b->keys);
		top = largest_scores(s, h, b, top, i - 64, i < b->keys ? i : b->keys);
	}
	return top;
}

/*
 * 2^x for x <= 0, within 8e-5 of itself; 0 for -inf, NaN for NaN.  x - floor(x) by one instruction, the
 * other one takes the floor by itself.
 */
static inline __m512
probability(__m512 x)
{
	__m512		f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
	__m512		p = _mm512_fmadd_ps(f, _mm512_set1_ps(0.0780245289f), _mm512_set1_ps(0.226067141f));

	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.695833564f));
	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.999925196f));
	return _mm512_scalef_ps(p, x);
}

/* Both rounded to BF16 (ties up), lane by lane in pairs. */
static inline __m512i
pair_probabilities(__m512 even, __m512 odd)
{
	__m512i		half = _mm512_set1_epi32(0x8000);
	__m512i		low = _mm512_srli_epi32(_mm512_add_epi32((__m512i) even, half), 16);

	return _mm512_mask_blend_epi16(0xaaaaaaaa, low, _mm512_add_epi32((__m512i) odd, half));
}

/* p = 2^(factor score - top) of keys [key, key + 32), 0 where one is not seen; total[2] += them */
static inline __attribute__((always_inline)) void
soften_keys(AmxAttention *s, const AmxHead *h, const AmxBlock *b, int key, __m512 factor, __m512 top,
			__m512 *total, bool all)
{
	uint32_t   *p = s->probabilities[key / 32];
	int			i;

#pragma GCC unroll 4
	for (i = 0; i < 32; i += 2)
	{
		const float *score = s->scores[key + i];
		__m512		even = probability(_mm512_fmsub_ps(_mm512_load_ps(score), factor, top));
		__m512		odd = probability(_mm512_fmsub_ps(_mm512_load_ps(score + 16), factor, top));

		if (!all)
		{
			even = _mm512_maskz_mov_ps(key_mask(h, b, key + i), even);
			odd = _mm512_maskz_mov_ps(key_mask(h, b, key + i + 1), odd);
		}
		total[0] = _mm512_add_ps(total[0], even);
		total[1] = _mm512_add_ps(total[1], odd);
		_mm512_store_si512(p + 8 * i, pair_probabilities(even, odd));
	}
}

/* Sums of values [dim .. dim + 63] or 32 of them in tiles 0 to 3 += those of 32 keys. */
static inline __attribute__((always_inline)) void
mix_values(const AmxAttention *s, int parts, int key, int dim, bool four)
{
	const uint32_t (*v)[256] = (const uint32_t (*)[256]) s->values + key / 32 * parts + dim / 16;

	TILE_LOAD(4, s->probabilities[key / 32], 64);
	TILE_LOAD(5, v[0], 64);
	TILE_DOT_BF16(0, 5, 4);
	TILE_LOAD(6, v[1], 64);
	TILE_DOT_BF16(1, 6, 4);
	if (four)
	{
		TILE_LOAD(5, v[2], 64);
		TILE_DOT_BF16(2, 5, 4);
		TILE_LOAD(6, v[3], 64);
		TILE_DOT_BF16(3, 6, 4);
	}
}

static inline __attribute__((always_inline)) void
store_parts(AmxAttention *s, int dim, bool four)
{
	TILE_STORE(0, s->part[dim], 64);
	TILE_STORE(1, s->part[dim + 16], 64);
	if (four)
	{
		TILE_STORE(2, s->part[dim + 32], 64);
		TILE_STORE(3, s->part[dim + 48], 64);
	}
}

/* Of all keys, and the first values' parts, whose products trail the exponentials by 32 keys; sums of p. */
static inline __attribute__((always_inline)) __m512
soften_block(AmxAttention *s, const AmxHead *h, const AmxBlock *b, __m512 factor, __m512 top, bool four)
{
	__m512		total[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
	int			i;

	TILE_ZERO(0);
	TILE_ZERO(1);
	TILE_ZERO(2);
	TILE_ZERO(3);
	for (i = 0; i < b->keys; i += 32)
	{
		if (i + 32 <= b->seen)
			soften_keys(s, h, b, i, factor, top, total, true);
		else
			soften_keys(s, h, b, i, factor, top, total, false);
		TILE_FENCE();
		if (i > 0)
			mix_values(s, h->dim / 16, i - 32, 0, four);
	}
	mix_values(s, h->dim / 16, i - 32, 0, four);
	store_parts(s, 0, four);
	return _mm512_add_ps(total[0], total[1]);
}

/* The other values' parts. */
static void
mix_block(AmxAttention *s, const AmxHead *h, int keys, int dim)
{
	int			i;

	TILE_ZERO(0);
	TILE_ZERO(1);
	for (i = 0; i < keys; i += 32)
		mix_values(s, h->dim / 16, i, dim, false);
	store_parts(s, dim, false);
}

/* The parts of a block as sums so far, added to those scaled down. */
static void
keep_parts(AmxAttention *s, const AmxHead *h, int slot, bool first, __m512 rescale)
{
	int			d;

	for (d = 0; d < h->dim; d++)
	{
		float	   *sum = s->sums[slot / 16][d];
		__m512		part = _mm512_load_ps(s->part[d]);

		_mm512_store_ps(sum, first ? part : _mm512_fmadd_ps(_mm512_load_ps(sum), rescale, part));
	}
}

/* Up to 16 rows of results: sums divided by totals, turned back. */
static void
finish_queries(const AmxHead *h, const float (*sums)[16], __m512 total, int query, int count)
{
	static const uint16_t pairs[32] __attribute__((aligned(64))) = {
		0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
		8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
	};
	__m512		inverse = _mm512_div_ps(_mm512_set1_ps(1.0f), total);
	__m512i		r[16];
	int			d,
				k;

	for (d = 0; d < h->dim; d += 32, sums += 32)
	{
#pragma GCC unroll 16
		for (k = 0; k < 16; k++)
		{
			__m512		even = _mm512_mul_ps(_mm512_load_ps(sums[2 * k]), inverse);
			__m512		odd = _mm512_mul_ps(_mm512_load_ps(sums[2 * k + 1]), inverse);

			r[k] = _mm512_permutexvar_epi16(_mm512_load_si512(pairs), narrow_pair(even, odd));
		}
		transpose_words(r);
#pragma GCC unroll 16
		for (k = 0; k < 16; k++)
		{
			if (k < count)
				_mm512_storeu_si512(h->out + (query + k) * h->ld_out + d, r[k]);
		}
	}
}

/* Queries from b->query on, their `slot` in the group, against a block of keys. */
static void
attend_block(AmxAttention *s, const AmxHead *h, const AmxBlock *b, int slot, int count, bool last)
{
	bool		first = b->first == 0;
	__m512		factor = _mm512_set1_ps(h->a->relative != NULL ? 1.0f : h->a->scale * LOG2_E);
	__m512		top = _mm512_mul_ps(score_block(s, h, b), factor);
	__m512		rescale = _mm512_setzero_ps();
	__m512		total;
	int			dim;

	if (!first)
	{
		__m512		old = _mm512_load_ps(s->top + slot);

		top = _mm512_max_ps(top, old);
		rescale = probability(_mm512_sub_ps(old, top));
	}
	if (h->dim >= 64)
		total = soften_block(s, h, b, factor, top, true);
	else
		total = soften_block(s, h, b, factor, top, false);
	for (dim = 64; dim < h->dim; dim += 32)
		mix_block(s, h, b->keys, dim);
	if (!first)
		total = _mm512_fmadd_ps(_mm512_load_ps(s->total + slot), rescale, total);
	if (!first || !last)
		keep_parts(s, h, slot, first, rescale);
	_mm512_store_ps(s->top + slot, top);
	_mm512_store_ps(s->total + slot, total);
	if (last)
		finish_queries(h, (const float (*)[16]) (first ? s->part : s->sums[slot / 16]), total, b->query,
					   count);
}

/* Queries [begin, end), at most ATTENTION_QUERIES. */
static void
attend_queries(AmxAttention *s, const AmxHead *h, int begin, int end)
{
	int			limit = h->a->causal ? end : h->length;
	int			first,
				slot;

	for (first = 0; first < limit; first += ATTENTION_KEYS)
	{
		int			keys = limit - first < ATTENTION_KEYS ? limit - first : ATTENTION_KEYS;

		arrange_keys(s, h, first, keys);
		if (h->a->relative != NULL)
			gather_biases(s, h, begin, end, first, keys);
		for (slot = 0; slot < end - begin; slot += 16)
		{
			int			query = begin + slot;
			int			count = end - query < 16 ? end - query : 16;
			int			visible = (h->a->causal ? query + count : h->length) - first;
			AmxBlock	b = {.query = query,.first = first,.keys = visible < keys ? visible : keys,
			.bias = s->bias + keys - 1 + slot};

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
	/* Probabilities below 2^-126 are zeros: as subnormal numbers each would take a hundred times as long. */
	_mm_setcsr(mode | _MM_FLUSH_ZERO_ON);
	for (seq = 0; seq < a->nseq; seq++)
	{
		size_t		row = offsets[seq];
		AmxHead		h = {.a = a,.ld = qkv->ld,.ld_out = out->ld,.dim = a->head_dim,
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
