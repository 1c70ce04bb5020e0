/*
 * attention_amx.h
 *		Attention in BF16 by tiles, one sequence and head at a time, with an online softmax.
 *
 * A block of keys and values is put into the form of tiles once for many queries; 16 queries at a time
 * get their scores against it, then probabilities, then the sum of values.  With more keys than a
 * block has, sums so far are scaled down when a larger score appears
 * (Milakov and Gimelshein 2018; Dao et al. 2022, "FlashAttention").
 * The blocks depend on the sequence alone, so a text has the same bits in any batch.
 */

#define ATTENTION_KEYS		256
#define ATTENTION_QUERIES	256
#define ATTENTION_DIM		128		/* widest head; a multiple of 32 */
#define SCORE_STRIDE		(ATTENTION_KEYS + 16)	/* odd numbers of cache lines */
#define PROBABILITY_STRIDE	(ATTENTION_KEYS + 32)

/* Lies in the device's scratch. */
typedef struct AmxAttention
{
	uint32_t	keys[ATTENTION_KEYS / 16 * ATTENTION_DIM / 32][256];	/* tiles [key / 16][dim / 32] */
	uint32_t	values[ATTENTION_KEYS / 32 * ATTENTION_DIM / 16][256];	/* tiles [key / 32][dim / 16] */
	float		scores[16 * SCORE_STRIDE];
	uint16_t	probabilities[16 * PROBABILITY_STRIDE];
	float		part[16 * ATTENTION_DIM];	/* of the sums, by this block of keys */
	float		sums[ATTENTION_QUERIES * ATTENTION_DIM];
	float		top[ATTENTION_QUERIES]; /* largest score so far, times log2 e */
	float		total[ATTENTION_QUERIES];
	float		rescale[16];
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

/* to[16][16] = from[16][16] transposed; rows of `from` ld bytes apart, those from `rows` on count as zeros */
static inline void
transpose_words(uint32_t *to, const char *from, size_t ld, int rows)
{
	__m512i		r[16];
	__m512i		t[16];
	int			i;

#pragma GCC unroll 16
	for (i = 0; i < 16; i++)
		r[i] = i < rows ? _mm512_loadu_si512(from + i * ld) : _mm512_setzero_si512();
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
		__m512i		even0 = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
		__m512i		even1 = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
		__m512i		odd0 = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
		__m512i		odd1 = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);

		_mm512_store_si512(to + 16 * i, _mm512_shuffle_i32x4(even0, even1, 0x88));
		_mm512_store_si512(to + 16 * (4 + i), _mm512_shuffle_i32x4(odd0, odd1, 0x88));
		_mm512_store_si512(to + 16 * (8 + i), _mm512_shuffle_i32x4(even0, even1, 0xdd));
		_mm512_store_si512(to + 16 * (12 + i), _mm512_shuffle_i32x4(odd0, odd1, 0xdd));
	}
}

/* Keys and values [first, first + count) as tiles, zeros behind them. */
static void
arrange_keys(AmxAttention *s, const AmxHead *h, int first, int count)
{
	int			parts = h->dim / 32;
	int			i,
				d;

	for (i = 0; i < count; i += 16)
	{
		for (d = 0; d < parts; d++)
			transpose_words(s->keys[i / 16 * parts + d],
							(const char *) (h->k + (first + i) * h->ld + 32 * d), h->ld * sizeof(uint16_t),
							count - i);
	}
	parts = h->dim / 16;
	for (i = 0; i < count || i % 32 != 0; i += 2)
	{
		const uint16_t *even = h->v + (first + i) * h->ld;

		for (d = 0; d < parts; d++)
		{
			__m512i		low = _mm512_setzero_si512();
			__m512i		high = low;

			if (i < count)
				low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) (even + 16 * d)));
			if (i + 1 < count)
				high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) (even + h->ld + 16 * d)));
			_mm512_store_si512(s->values[i / 32 * parts + d] + i % 32 * 8,
							   _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
		}
	}
}

/* scores[16][keys] = q k^T, whole tiles */
static void
score_keys(AmxAttention *s, const AmxHead *h, int query, int keys)
{
	const uint16_t *q = h->q + query * h->ld;
	size_t		ld = h->ld * sizeof(uint16_t);
	int			parts = h->dim / 32;
	int			i,
				d;

	for (i = 0; i < keys; i += 64)
	{
		const uint32_t (*k)[256] = (const uint32_t (*)[256]) s->keys + i / 16 * parts;
		float	   *to = s->scores + i;
		int			tiles = (keys - i + 15) / 16;

		TILE_ZERO(0);
		TILE_ZERO(1);
		TILE_ZERO(2);
		TILE_ZERO(3);
		for (d = 0; d < parts; d++)
		{
			TILE_LOAD(4, q + 32 * d, ld);
			TILE_LOAD(6, k[d], 64);
			TILE_DOT_BF16(0, 4, 6);
			if (tiles > 1)
			{
				TILE_LOAD(7, k[parts + d], 64);
				TILE_DOT_BF16(1, 4, 7);
			}
			if (tiles > 2)
			{
				TILE_LOAD(6, k[2 * parts + d], 64);
				TILE_DOT_BF16(2, 4, 6);
			}
			if (tiles > 3)
			{
				TILE_LOAD(7, k[3 * parts + d], 64);
				TILE_DOT_BF16(3, 4, 7);
			}
		}
		TILE_STORE(0, to, SCORE_STRIDE * sizeof(float));
		if (tiles > 1)
			TILE_STORE(1, to + 16, SCORE_STRIDE * sizeof(float));
		if (tiles > 2)
			TILE_STORE(2, to + 32, SCORE_STRIDE * sizeof(float));
		if (tiles > 3)
			TILE_STORE(3, to + 48, SCORE_STRIDE * sizeof(float));
	}
}

/* part[16][dim] = probabilities times values */
static void
mix_values(AmxAttention *s, const AmxHead *h, int keys)
{
	int			parts = h->dim / 16;
	size_t		ld = h->dim * sizeof(float);
	int			i,
				d;

	for (d = 0; d < parts; d += 2)
	{
		const uint32_t (*v)[256] = (const uint32_t (*)[256]) s->values + d;
		const uint16_t *p = s->probabilities;

		TILE_ZERO(0);
		TILE_ZERO(1);
		for (i = 0; i < keys; i += 32, p += 32, v += parts)
		{
			TILE_LOAD(4, p, PROBABILITY_STRIDE * sizeof(uint16_t));
			TILE_LOAD(6, v[0], 64);
			TILE_LOAD(7, v[1], 64);
			TILE_DOT_BF16(0, 4, 6);
			TILE_DOT_BF16(1, 4, 7);
		}
		TILE_STORE(0, s->part + 16 * d, ld);
		TILE_STORE(1, s->part + 16 * d + 16, ld);
	}
}

/*
 * score[keys] *= scale, += position biases; those behind `seen` up to whole 32 become -inf.  Returns
 * the largest.
 */
static inline float
prepare_scores(const AmxHead *h, float *score, int query, int first, int seen, int keys)
{
	const float log2e = 1.44269504f;
	__m512		scale = _mm512_set1_ps(h->a->scale * log2e);
	__m512		none = _mm512_set1_ps(-INFINITY);
	__m512		top = none;
	int			i;

	for (i = 0; i < keys || i % 32 != 0; i += 16)
	{
		__m512		x = _mm512_mul_ps(_mm512_load_ps(score + i), scale);

		if (h->a->relative != NULL && i < seen)
		{
			const float *bias = h->a->relative + h->head +
				(size_t) (first + i - query + h->a->relative_limit - 1) * h->a->heads;
			int			j;

			for (j = 0; j < 16 && i + j < seen; j++)
				x[j] += bias[j * h->a->heads] * log2e;
		}
		x = _mm512_mask_mov_ps(none, column_mask(i, seen), x);
		/* a NaN is kept */
		top = _mm512_mask_mov_ps(_mm512_max_ps(top, x), _mm512_cmp_ps_mask(top, top, _CMP_UNORD_Q), top);
		_mm512_store_ps(score + i, x);
	}
	return _mm512_reduce_max_ps(top);
}

/*
 * Row r of the scores becomes probabilities relative to the largest score so far; what earlier sums have
 * to be multiplied with goes to rescale.
 */
static inline void
soften_row(AmxAttention *s, const AmxHead *h, int r, int query, int slot, int first, int keys)
{
	float	   *score = s->scores + r * SCORE_STRIDE;
	uint16_t   *p = s->probabilities + r * PROBABILITY_STRIDE;
	int			seen = h->a->causal && query + 1 - first < keys ? query + 1 - first : keys;
	float		old = first > 0 ? s->top[slot] : -INFINITY;
	float		top = fmaxf(old, prepare_scores(h, score, query, first, seen, keys));
	__m512		tops = _mm512_set1_ps(top > -INFINITY ? top : 0.0f);
	__m512		total = _mm512_setzero_ps();
	int			i;

	for (i = 0; i < keys; i += 32)
	{
		__m512		low = fast_exp2(_mm512_sub_ps(_mm512_load_ps(score + i), tops));
		__m512		high = fast_exp2(_mm512_sub_ps(_mm512_load_ps(score + i + 16), tops));

		total = _mm512_add_ps(total, _mm512_add_ps(low, high));
		_mm512_store_si512(p + i, narrow_pair(low, high));
	}
	s->rescale[r] = old > -INFINITY ? exp2f(old - top) : 0.0f;
	s->total[slot] = _mm512_reduce_add_ps(total) + (first > 0 ? s->total[slot] * s->rescale[r] : 0.0f);
	s->top[slot] = top;
}

/* sums of the queries += part, or the result when these are the last keys */
static inline void
gather_row(AmxAttention *s, const AmxHead *h, int r, int query, int slot, bool first, bool last)
{
	float	   *sums = s->sums + (size_t) slot * h->dim;
	const float *part = s->part + r * h->dim;
	__m512		rescale = _mm512_set1_ps(s->rescale[r]);
	__m512		inverse = _mm512_set1_ps(1.0f / s->total[slot]);
	int			d;

	for (d = 0; d < h->dim; d += 32)
	{
		__m512		low = _mm512_load_ps(part + d);
		__m512		high = _mm512_load_ps(part + d + 16);

		if (!first)
		{
			low = _mm512_fmadd_ps(_mm512_load_ps(sums + d), rescale, low);
			high = _mm512_fmadd_ps(_mm512_load_ps(sums + d + 16), rescale, high);
		}
		if (last)
			_mm512_storeu_si512(h->out + query * h->ld_out + d,
								narrow_pair(_mm512_mul_ps(low, inverse), _mm512_mul_ps(high, inverse)));
		else
		{
			_mm512_store_ps(sums + d, low);
			_mm512_store_ps(sums + d + 16, high);
		}
	}
}

/* Queries [begin, end), at most ATTENTION_QUERIES. */
static void
attend_queries(AmxAttention *s, const AmxHead *h, int begin, int end)
{
	int			limit = h->a->causal ? end : h->length;
	int			first,
				query,
				r;

	for (first = 0; first < limit; first += ATTENTION_KEYS)
	{
		int			keys = limit - first < ATTENTION_KEYS ? limit - first : ATTENTION_KEYS;
		bool		last = first + keys == limit;

		arrange_keys(s, h, first, keys);
		TILE_FENCE();
		for (query = begin; query < end; query += 16)
		{
			int			rows = end - query < 16 ? end - query : 16;

			score_keys(s, h, query, keys);
			for (r = 0; r < rows; r++)
				soften_row(s, h, r, query + r, query + r - begin, first, keys);
			TILE_FENCE();
			mix_values(s, h, keys);
			for (r = 0; r < rows; r++)
				gather_row(s, h, r, query + r, query + r - begin, first == 0, last);
		}
	}
}

static void
attention_amx(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv, const int32_t *offsets,
			  const DistilAttention *a)
{
	CpuDevice  *cpu = (CpuDevice *) dev;
	size_t		width = (size_t) a->heads * a->head_dim;
	int			seq,
				head,
				begin;

	if (a->head_dim % 32 != 0 || a->head_dim > ATTENTION_DIM)
	{
		distil_cpu_rows_avx512.attention(dev, out, qkv, offsets, a);
		return;
	}
	tile_begin();
	for (seq = 0; seq < a->nseq; seq++)
	{
		size_t		row = offsets[seq];
		AmxHead		h = {.a = a,.ld = qkv->ld,.ld_out = out->ld,.dim = a->head_dim,
		.length = offsets[seq + 1] - offsets[seq]};

		for (head = a->head_first; head < a->head_first + a->head_count; head++)
		{
			h.head = head;
			h.q = (const uint16_t *) qkv->data + row * qkv->ld + (size_t) head * a->head_dim;
			h.k = h.q + width;
			h.v = h.k + width;
			h.out = (uint16_t *) out->data + row * out->ld + (size_t) head * a->head_dim;
			for (begin = a->query_first; begin < h.length; begin += ATTENTION_QUERIES)
				attend_queries((AmxAttention *) cpu->scratch, &h, begin,
							   h.length - begin < ATTENTION_QUERIES ? h.length : begin + ATTENTION_QUERIES);
		}
	}
	tile_end();
}
