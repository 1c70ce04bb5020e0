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

#define ATTENTION_KEYS		512
#define ATTENTION_QUERIES	256
#define ATTENTION_DIM		128		/* widest head; a multiple of 32 */
#define LOG2_E				1.44269504f
#define SCORE_STRIDE		(ATTENTION_KEYS + 16)	/* odd numbers of cache lines */
#define PROBABILITY_STRIDE	(ATTENTION_KEYS + 32)

/* Lies in the device's scratch. */
typedef struct AmxAttention
{
	uint32_t	keys[ATTENTION_KEYS / 16 * ATTENTION_DIM / 32][256];	/* tiles [key / 16][dim / 32] */
	uint32_t	values[ATTENTION_KEYS / 32 * ATTENTION_DIM / 16][256];	/* tiles [key / 32][dim / 16] */
	float		scores[2][16 * SCORE_STRIDE];	/* of the blocks of queries under way */
	uint16_t	probabilities[2][16 * PROBABILITY_STRIDE];
	float		part[16 * ATTENTION_DIM];	/* of the sums, by this block of keys */
	float		sums[ATTENTION_QUERIES * ATTENTION_DIM];
	float		top[ATTENTION_QUERIES]; /* largest score so far, times log2 e */
	float		total[ATTENTION_QUERIES];
	float		rescale[ATTENTION_QUERIES];
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
static inline __attribute__((always_inline)) void
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
		{
			uint32_t   *to = s->keys[i / 16 * parts + d];
			const char *from = (const char *) (h->k + (first + i) * h->ld + 32 * d);

			if (count - i >= 16)
				transpose_words(to, from, h->ld * sizeof(uint16_t), 16);
			else
				transpose_words(to, from, h->ld * sizeof(uint16_t), count - i);
		}
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

/* scores [16][keys] = q k^T, whole tiles */
static void
score_keys(AmxAttention *s, const AmxHead *h, float *scores, int query, int keys)
{
	const uint16_t *q = h->q + query * h->ld;
	size_t		ld = h->ld * sizeof(uint16_t);
	int			parts = h->dim / 32;
	int			i,
				d;

	for (i = 0; i < keys; i += 64)
	{
		const uint32_t (*k)[256] = (const uint32_t (*)[256]) s->keys + i / 16 * parts;
		float	   *to = scores + i;
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
mix_values(AmxAttention *s, const AmxHead *h, const uint16_t *probabilities, int keys)
{
	int			parts = h->dim / 16;
	size_t		ld = h->dim * sizeof(float);
	int			i,
				d;

	for (d = 0; d < parts; d += 2)
	{
		const uint32_t (*v)[256] = (const uint32_t (*)[256]) s->values + d;
		const uint16_t *p = probabilities;

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

/* score[seen] = scaled and with position biases, times log2 e */
static __attribute__((noinline)) void
add_biases(const AmxHead *h, float *score, int query, int first, int seen)
{
	const float *bias = h->a->relative + h->head +
		(size_t) (first - query + h->a->relative_limit - 1) * h->a->heads;
	int			i;

	for (i = 0; i < seen; i++)
		score[i] = (score[i] * h->a->scale + bias[i * h->a->heads]) * LOG2_E;
}

/* The largest of score[seen]; NaNs are passed over, they come out of the exponentials. */
static inline float
largest_score(const float *score, int seen)
{
	__m512		top0 = _mm512_set1_ps(-INFINITY);
	__m512		top1 = top0;
	int			i;

	for (i = 0; i + 32 <= seen; i += 32)
	{
		top0 = _mm512_max_ps(_mm512_load_ps(score + i), top0);
		top1 = _mm512_max_ps(_mm512_load_ps(score + i + 16), top1);
	}
	top0 = _mm512_mask_max_ps(top0, column_mask(i, seen), _mm512_load_ps(score + i), top0);
	top1 = _mm512_mask_max_ps(top1, column_mask(i + 16, seen), _mm512_load_ps(score + i + 16), top1);
	return _mm512_reduce_max_ps(_mm512_max_ps(top0, top1));
}

/* p[seen] = 2^(factor score - top), zeros behind them up to whole 32 of keys; returns sums of them */
static inline __m512
exponentials(uint16_t *p, const float *score, float factor, float top, int seen, int keys)
{
	__m512		factors = _mm512_set1_ps(factor);
	__m512		tops = _mm512_set1_ps(top);
	__m512		total0 = _mm512_setzero_ps();
	__m512		total1 = total0;
	int			i;

	for (i = 0; i + 32 <= seen; i += 32)
	{
		__m512		low = fast_exp2(_mm512_fmsub_ps(_mm512_load_ps(score + i), factors, tops));
		__m512		high = fast_exp2(_mm512_fmsub_ps(_mm512_load_ps(score + i + 16), factors, tops));

		total0 = _mm512_add_ps(total0, low);
		total1 = _mm512_add_ps(total1, high);
		_mm512_store_si512(p + i, narrow_pair(low, high));
	}
	if (i < seen)
	{
		__m512		low = fast_exp2(_mm512_fmsub_ps(_mm512_load_ps(score + i), factors, tops));
		__m512		high = fast_exp2(_mm512_fmsub_ps(_mm512_load_ps(score + i + 16), factors, tops));

		low = _mm512_maskz_mov_ps(column_mask(i, seen), low);
		high = _mm512_maskz_mov_ps(column_mask(i + 16, seen), high);
		total0 = _mm512_add_ps(total0, low);
		total1 = _mm512_add_ps(total1, high);
		_mm512_store_si512(p + i, narrow_pair(low, high));
		i += 32;
	}
	for (; i < keys; i += 32)
		_mm512_store_si512(p + i, _mm512_setzero_si512());
	return _mm512_add_ps(total0, total1);
}

/*
 * Scores of 16 queries become probabilities relative to each one's largest score so far; what earlier sums have
 * to be multiplied with goes to rescale.  Step by step for all queries, so that sums across
 * vectors, which take long, overlap.
 */
static void
soften_scores(AmxAttention *s, const AmxHead *h, float *score, uint16_t *p, int query, int slot, int rows,
			  int first, int keys)
{
	float		factor = h->a->relative != NULL ? 1.0f : h->a->scale * LOG2_E;
	__m512		sums[16];
	int			seen[16];
	int			r;

	for (r = 0; r < rows; r++)
	{
		float	   *row = score + r * SCORE_STRIDE;
		float		top = -INFINITY;

		seen[r] = h->a->causal && query + r + 1 - first < keys ? query + r + 1 - first : keys;
		if (h->a->relative != NULL && seen[r] > 0)
			add_biases(h, row, query + r, first, seen[r]);
		if (seen[r] > 0)
			top = largest_score(row, seen[r]) * factor;
		if (first > 0)
		{
			float		old = s->top[slot + r];

			top = old > top ? old : top;
			s->rescale[slot + r] = exp2f(old - top);
		}
		s->top[slot + r] = top;
	}
	for (r = 0; r < rows; r++)
		sums[r] = exponentials(p + r * PROBABILITY_STRIDE, score + r * SCORE_STRIDE, factor, s->top[slot + r],
							   seen[r], keys);
	for (r = 0; r < rows; r++)
	{
		float		total = _mm512_reduce_add_ps(sums[r]);

		s->total[slot + r] = first > 0 ? total + s->total[slot + r] * s->rescale[slot + r] : total;
	}
}

/* sums of the queries += part, or the result when these are the last keys */
static inline void
gather_row(AmxAttention *s, const AmxHead *h, int r, int query, int slot, bool first, bool last)
{
	float	   *sums = s->sums + (size_t) slot * h->dim;
	const float *part = s->part + r * h->dim;
	__m512		rescale = _mm512_set1_ps(first ? 0.0f : s->rescale[slot]);
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

/*
 * Queries [begin, end), at most ATTENTION_QUERIES.  Three blocks of queries are under way: scores of one are
 * computed while those of the one before become probabilities and values are summed for the one
 * before that, so that the tiles and the vectors need not wait for each other.
 */
static void
attend_queries(AmxAttention *s, const AmxHead *h, int begin, int end)
{
	int			limit = h->a->causal ? end : h->length;
	int			blocks = (end - begin + 15) / 16;
	int			first,
				b,
				slot;

	for (first = 0; first < limit; first += ATTENTION_KEYS)
	{
		int			keys = limit - first < ATTENTION_KEYS ? limit - first : ATTENTION_KEYS;
		bool		last = first + keys == limit;

		arrange_keys(s, h, first, keys);
		TILE_FENCE();
		for (b = 0; b < blocks + 2; b++)
		{
			if (b < blocks)
				score_keys(s, h, s->scores[b % 2], begin + 16 * b, keys);
			if (b > 0 && b <= blocks)
			{
				slot = 16 * (b - 1);
				soften_scores(s, h, s->scores[(b - 1) % 2], s->probabilities[(b - 1) % 2], begin + slot, slot,
							  end - begin - slot < 16 ? end - begin - slot : 16, first, keys);
			}
			TILE_FENCE();
			if (b > 1)
			{
				mix_values(s, h, s->probabilities[b % 2], keys);
				for (slot = 16 * (b - 2); slot < 16 * (b - 1) && begin + slot < end; slot++)
					gather_row(s, h, slot % 16, begin + slot, slot, first == 0, last);
			}
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
