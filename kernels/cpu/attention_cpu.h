/*
 * attention_cpu.h
 *		Template: attention over ragged rows, one sequence and head at a time.
 *
 * The scores of a block of queries against all keys go to the device's scratch
 * memory; a block has as many queries as fit there, so memory is bounded and the
 * operation cannot fail.  Backward recomputes probabilities from lse and uses
 * sum_j p_j dp_j = dout . out, which holds with dropout too
 * (Dao et al. 2022, "FlashAttention", appendix B).
 * Key numbers of the dropout mask count from the sequence's first row.
 */

/* One sequence and head; q is its first row, k and v lie `width` floats further each. */
typedef struct Head
{
	const DistilAttention *a;
	size_t		width;			/* C, stride of out */
	size_t		ld;				/* stride of qkv */
	size_t		first;			/* absolute row of the sequence */
	int			length;
	int			head;
	size_t		column;			/* of the head in out */
} Head;

static Head
find_head(const int32_t *offsets, const DistilAttention *a, int seq, int head)
{
	Head		h;

	h.a = a;
	h.width = (size_t) a->heads * a->head_dim;
	h.ld = 3 * h.width;
	h.first = offsets[seq];
	h.length = offsets[seq + 1] - offsets[seq];
	h.head = head;
	h.column = (size_t) head * a->head_dim;
	return h;
}

/* Queries whose scores fit into scratch. */
static inline int
block_rows(const Head *h)
{
	size_t		rows = h->length > 0 ? CPU_SCRATCH_FLOATS / (size_t) h->length : 1;

	return rows < 1 ? 1 : rows > (size_t) h->length ? h->length : (int) rows;
}

/* p[n] *= dropout factors of query `row`; `copy` gets the result (copy may be p) */
static void
drop_row(const Head *h, float *copy, const float *p, size_t row, size_t n)
{
	uint64_t	element = ((uint64_t) row * h->a->heads + h->head) * 65536;

	dropout(NULL, copy, p, h->a->dropout, element, n);
}

/* s[n] = softmax(s[n]); returns log-sum-exp */
static float
softmax_row(float *s, size_t n)
{
	vf			tops = v_set(-INFINITY);
	vf			sums = {0};
	float		top,
				total;
	size_t		i;

	for (i = 0; i < n; i += LANES)
		tops = v_max(v_get_fill(s + i, v_part(i, n), -INFINITY), tops);
	top = v_top(tops);
	for (i = 0; i < n; i += LANES)
	{
		size_t		part = v_part(i, n);
		vf			p = v_exp(v_get_fill(s + i, part, -INFINITY) - top);

		sums += p;
		v_put(s + i, p, part);
	}
	total = v_sum(sums);
	for (i = 0; i < n; i += LANES)
	{
		size_t		part = v_part(i, n);

		v_put(s + i, v_get(s + i, part) * (1.0f / total), part);
	}
	return top + logf(total);
}

static void
head_forward(CpuDevice *cpu, const Head *h, float *out, float *lse, const float *qkv)
{
	const float *q = qkv + h->first * h->ld + h->column;
	int			block = block_rows(h);
	int			start,
				i;

	for (start = 0; start < h->length; start += block)
	{
		int			rows = h->length - start < block ? h->length - start : block;
		int			keys = h->a->causal ? start + rows : h->length;
		float	   *p = cpu->scratch;

		distil_blas_gemm(false, true, rows, keys, h->a->head_dim, h->a->scale, q + start * h->ld, h->ld,
						 q + h->width, h->ld, 0.0f, p, keys);
		for (i = 0; i < rows; i++)
		{
			size_t		row = h->first + start + i;
			float	   *pi = p + (size_t) i * keys;
			int			seen = h->a->causal ? start + i + 1 : keys;
			float		log_sum = softmax_row(pi, seen);

			if (seen < keys)
				memset(pi + seen, 0, (keys - seen) * sizeof(float));
			if (h->a->dropout.p > 0.0f)
				drop_row(h, pi, pi, row, seen);
			if (lse != NULL)
				lse[row * h->a->heads + h->head] = log_sum;
		}
		distil_blas_gemm(false, false, rows, h->a->head_dim, keys, 1.0f, p, keys, q + 2 * h->width, h->ld,
						 0.0f, out + (h->first + start) * h->width + h->column, h->width);
	}
}

static void
attention_forward(DistilDevice *dev, float *out, float *lse, const float *qkv,
				  const int32_t *offsets, const DistilAttention *attention)
{
	int			seq,
				head;

	for (seq = 0; seq < attention->nseq; seq++)
	{
		for (head = attention->head_first; head < attention->head_first + attention->head_count; head++)
		{
			Head		h = find_head(offsets, attention, seq, head);

			head_forward((CpuDevice *) dev, &h, out, lse, qkv);
		}
	}
}

/*
 * One query: p holds its scores, dp the gradient of its probabilities after dropout.
 * Afterwards dp is the gradient of the scores and p the probabilities after dropout.
 */
static void
softmax_backward_row(const Head *h, float *p, float *dp, float log_sum, float delta, size_t row, size_t n)
{
	size_t		i;

	if (h->a->dropout.p > 0.0f)
		drop_row(h, dp, dp, row, n);
	for (i = 0; i < n; i += LANES)
	{
		size_t		part = v_part(i, n);
		vf			e = v_exp(v_get(p + i, part) - log_sum);

		v_put(dp + i, e * (v_get(dp + i, part) - delta), part);
		v_put(p + i, e, part);
	}
	if (h->a->dropout.p > 0.0f)
		drop_row(h, p, p, row, n);
}

/* dq: where the gradient of the head's first q row goes; dout, out: the head's first row */
static void
head_backward(CpuDevice *cpu, const Head *h, float *dq, const float *dout, const float *q,
			  const float *out, const float *lse)
{
	int			dim = h->a->head_dim;
	float		scale = h->a->scale;
	float	   *p = cpu->scratch;
	float	   *dp = cpu->scratch + CPU_SCRATCH_FLOATS;
	const float *k = q + h->width;
	const float *v = k + h->width;
	float	   *dk = dq + h->width;
	float	   *dv = dk + h->width;
	int			block = block_rows(h);
	int			start,
				i;

	for (i = 0; i < h->length; i++)
	{
		memset(dk + i * h->ld, 0, dim * sizeof(float));
		memset(dv + i * h->ld, 0, dim * sizeof(float));
	}
	for (start = 0; start < h->length; start += block)
	{
		int			rows = h->length - start < block ? h->length - start : block;
		int			keys = h->a->causal ? start + rows : h->length;
		const float *qb = q + start * h->ld;
		const float *db = dout + start * h->width;

		distil_blas_gemm(false, true, rows, keys, dim, scale, qb, h->ld, k, h->ld, 0.0f, p, keys);
		distil_blas_gemm(false, true, rows, keys, dim, 1.0f, db, h->width, v, h->ld, 0.0f, dp, keys);
		for (i = 0; i < rows; i++)
		{
			size_t		row = h->first + start + i;
			int			seen = h->a->causal ? start + i + 1 : keys;
			float		delta = (float) dot_double(db + i * h->width, out + (start + i) * h->width, dim);
			size_t		at = (size_t) i * keys;

			softmax_backward_row(h, p + at, dp + at, lse[row * h->a->heads + h->head], delta, row, seen);
			memset(p + at + seen, 0, (keys - seen) * sizeof(float));
			memset(dp + at + seen, 0, (keys - seen) * sizeof(float));
		}
		distil_blas_gemm(false, false, rows, dim, keys, scale, dp, keys, k, h->ld,
						 0.0f, dq + start * h->ld, h->ld);
		distil_blas_gemm(true, false, keys, dim, rows, scale, dp, keys, qb, h->ld, 1.0f, dk, h->ld);
		distil_blas_gemm(true, false, keys, dim, rows, 1.0f, p, keys, db, h->width, 1.0f, dv, h->ld);
	}
}

static void
attention_backward(DistilDevice *dev, float *dqkv, const float *dout, const float *qkv, const float *out,
				   const float *lse, const int32_t *offsets, const DistilAttention *attention)
{
	int			seq,
				head;

	for (seq = 0; seq < attention->nseq; seq++)
	{
		for (head = attention->head_first; head < attention->head_first + attention->head_count; head++)
		{
			Head		h = find_head(offsets, attention, seq, head);
			size_t		at = h.first * h.ld + h.column;
			size_t		at_out = h.first * h.width + h.column;

			head_backward((CpuDevice *) dev, &h, dqkv + at, dout + at_out, qkv + at, out + at_out, lse);
		}
	}
}
