/*
 * attention_head.h
 *		Heads of sequences in rows of BF16, for attention that takes them one by one.
 */
#ifndef DISTIL_ATTENTION_HEAD_H
#define DISTIL_ATTENTION_HEAD_H

typedef struct RowsHead
{
	const uint16_t *q;			/* the first row; keys and values lie `width` further each */
	size_t		width;			/* numbers, as ld and ld_out */
	size_t		ld;				/* from one row of qkv to the next */
	uint16_t   *out;
	size_t		ld_out;
	float		scale;			/* of scores */
	int			length;			/* rows of the sequence: queries and keys */
	int			dim;			/* columns of the head */
} RowsHead;

/* What rounding to steps is off, in steps, root mean square: 1 / sqrt(12). */
#define STEP_OFF	0.288675135f

/* A copy of what is inlined for each usual size of heads; its last argument is the size. */
#define ROWS_OF_DIM(h, function, ...) \
	((h)->dim == 32 ? function(__VA_ARGS__, 32) : (h)->dim == 64 ? function(__VA_ARGS__, 64) \
	 : function(__VA_ARGS__, (h)->dim))

/* Of the first sequence. */
static inline RowsHead
rows_head(const DistilRows *out, const DistilRows *qkv, const int32_t *offsets, const DistilAttention *a,
		  int head)
{
	size_t		row = offsets[0];
	size_t		column = (size_t) head * a->head_dim;
	RowsHead	h = {.width = (size_t) a->heads * a->head_dim,.ld = qkv->ld,.ld_out = out->ld,
		.scale = a->scale,.length = offsets[1] - offsets[0],.dim = a->head_dim};

	h.q = (const uint16_t *) qkv->data + row * qkv->ld + column;
	h.out = (uint16_t *) out->data + row * out->ld + column;
	return h;
}

/* 2 * LANES numbers of BF16, two in a lane. */
static inline vf
rows_pairs(const uint16_t *from)
{
	return v_load((const float *) (const void *) from);
}

/* The two in each lane. */
static inline vf
rows_low(vf pairs)
{
	return (vf) ((vi) pairs << 16);
}

static inline vf
rows_high(vf pairs)
{
	return (vf) ((vi) pairs & (int32_t) 0xffff0000);
}

#if defined(__AVX512BF16__) && CPU_LANES == 16
/* The first 16 words of a vector and its last 16, in turn. */
static const uint16_t rows_halves[32] __attribute__((aligned(64))) = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5,
	21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
#endif

/* The way back: to nearest, ties to even; nothing is promised of what is not finite. */
static inline vf
rows_narrow(vf low, vf high)
{
#if defined(__AVX512BF16__) && CPU_LANES == 16
	return (vf) _mm512_permutexvar_epi16(_mm512_load_si512(rows_halves),
										 (__m512i) _mm512_cvtne2ps_pbh((__m512) high, (__m512) low));
#else
	vi			l = (vi) low + 0x7fff + ((vi) low >> 16 & 1);
	vi			h = (vi) high + 0x7fff + ((vi) high >> 16 & 1);

	return (vf) ((l >> 16 & 0xffff) | (h & (int32_t) 0xffff0000));
#endif
}

/*
 * 2 * LANES columns of up to LANES rows, ld apart, turned over: a lane has two numbers of one row; zeros
 * behind `count`.
 */
static inline __attribute__((always_inline)) void
rows_turn(vf square[CPU_LANES], const uint16_t *from, size_t ld, int count)
{
	int			i;

	for (i = 0; i < CPU_LANES; i++)
		square[i] = i < count ? rows_pairs(from + (size_t) i * ld) : (vf) {0};
	transpose_square(square);
}

/* How many steps are in 1 where so many are in the largest size, none where all are zeros. */
static inline vf
rows_inverse(vf largest, float steps)
{
	return v_select(largest < v_set(1e-30f), (vf) {0}, steps / largest);
}

/* How a set does the heads that fit it. */
typedef struct RowsWay
{
	int			shortest;		/* sequences */
	int			longest;
	int			dim;			/* the widest head */
	int			multiple;		/* heads' widths are multiples of this */
	int			queries;		/* at a time */
	bool		(*prepare) (void *scratch, const RowsHead *h);	/* keys and values; false: they do not fit */
	void		(*attend) (void *scratch, const RowsHead *h, int first, int count);
	/* sequences of up to so many rows, whose heads are no wider, go so many heads at a time; 0: none */
	int			brief;
	int			brief_dim;
	int			heads;
	/* queries first .. end, h: the first of the heads */
	void		(*attend_heads) (void *scratch, const RowsHead *h, int heads, int first, int end);
	/* other heads, which it may do with scratch */
	void		(*otherwise) (DistilDevice *dev, const DistilRows *out, const DistilRows *qkv,
							  const int32_t *offsets, const DistilAttention *a);
} RowsWay;

static inline bool
rows_fit(const RowsWay *way, const DistilAttention *a, int length)
{
	return !a->causal && a->relative == NULL && a->scale > 0.0f && length >= way->shortest &&
		length <= way->longest && a->head_dim <= way->dim && a->head_dim % way->multiple == 0;
}

/* One head after the other of a sequence whose heads fit, offsets from its own on. */
static inline void
rows_attend_each(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv, const int32_t *offsets,
				 const DistilAttention *a, const RowsWay *way)
{
	void	   *scratch = ((CpuDevice *) dev)->scratch;
	int			end = DISTIL_QUERY_END(a, offsets[1] - offsets[0]);
	int			head,
				i;

	for (head = a->head_first; head < a->head_first + a->head_count; head++)
	{
		RowsHead	h = rows_head(out, qkv, offsets, a, head);

		if (!way->prepare(scratch, &h))
		{
			DistilAttention one = *a;

			one.nseq = 1;
			one.head_first = head;
			one.head_count = 1;
			way->otherwise(dev, out, qkv, offsets, &one);
			continue;
		}
		for (i = a->query_first; i < end; i += way->queries)
			way->attend(scratch, &h, i, end - i < way->queries ? end - i : way->queries);
	}
}

/* The same for a few rows: some heads after the others. */
static inline void
rows_attend_brief(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv, const int32_t *offsets,
				  const DistilAttention *a, const RowsWay *way)
{
	void	   *scratch = ((CpuDevice *) dev)->scratch;
	int			end = DISTIL_QUERY_END(a, offsets[1] - offsets[0]);
	int			last = a->head_first + a->head_count;
	int			head;

	for (head = a->head_first; head < last; head += way->heads)
	{
		RowsHead	h = rows_head(out, qkv, offsets, a, head);

		way->attend_heads(scratch, &h, last - head < way->heads ? last - head : way->heads, a->query_first,
						  end);
	}
}

static inline void
rows_attend_heads(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv, const int32_t *offsets,
				  const DistilAttention *a, const RowsWay *way)
{
	int			i;

	if (offsets[1] - offsets[0] <= way->brief && a->head_dim <= way->brief_dim)
		rows_attend_brief(dev, out, qkv, offsets, a, way);
	else
		rows_attend_each(dev, out, qkv, offsets, a, way);
	for (i = a->query_first; i < DISTIL_QUERY_END(a, offsets[1] - offsets[0]); i++)
		fill_row((uint16_t *) out->data + (size_t) (offsets[0] + i) * out->ld,
				 (size_t) a->heads * a->head_dim);
}

/* attention_rows of kernels.h. */
static inline void
rows_attend(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv, const int32_t *offsets,
			const DistilAttention *a, const RowsWay *way)
{
	int			seq,
				count;

	for (seq = 0; seq < a->nseq; seq += count)
	{
		count = 0;
		while (seq + count < a->nseq && !rows_fit(way, a, offsets[seq + count + 1] - offsets[seq + count]))
			count++;
		if (count > 0)			/* together: a call costs as much as a short text's head */
		{
			DistilAttention some = *a;

			some.nseq = count;
			way->otherwise(dev, out, qkv, offsets + seq, &some);
		}
		else
		{
			rows_attend_heads(dev, out, qkv, offsets + seq, a, way);
			count = 1;
		}
	}
}

#endif							/* DISTIL_ATTENTION_HEAD_H */
