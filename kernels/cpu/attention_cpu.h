/*
 * attention_cpu.h
 *		Template: attention over ragged rows, one sequence and head at a time.
 *
 * The scores of a block of queries against all keys go to the device's scratch
 * memory; a block has as many queries as fit there, so memory is bounded and the
 * operation cannot fail.  Keys (and, backward, values) are transposed once per head when
 * they fit, so that scores come from register tiles; else as any other product.
 * Backward recomputes probabilities from lse and uses
 * sum_j p_j dp_j = dout . out, which holds with dropout too
 * (Dao et al. 2022, "FlashAttention", appendix B).
 * Key numbers of the dropout mask count from the sequence's first row.
 */

/* Up to so many queries the keys and values are read where they are. */
#define FEW_QUERIES 2

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

/*
 * Stride of scores and transposed keys: an odd number of cache lines, so that a column of
 * them does not fall into few sets of the cache.
 */
static inline size_t
padded_keys(int keys)
{
	size_t		lines = ((size_t) keys + 15) / 16;

	return (lines | 1) * 16;
}

/* Queries whose scores fit into scratch; a multiple of the tiles' rows where that is possible. */
static inline int
block_rows(const Head *h)
{
	size_t		rows = CPU_AREA_FLOATS / padded_keys(h->length > 0 ? h->length : 1);

	if (rows >= (size_t) h->length)
		return h->length;
	return rows > TILE_MAX_ROWS ? (int) (rows - rows % TILE_MAX_ROWS) : rows < 1 ? 1 : (int) rows;
}

/* Columns of one head (keys or values), transposed into `to` if they fit there, else NULL. */
static const float *
transpose_head(const Head *h, float *to, const float *from)
{
	size_t		ld = padded_keys(h->length);

	if (ld * h->a->head_dim > CPU_AREA_FLOATS)
		return NULL;
	transpose(to, ld, from, h->ld, h->length, h->a->head_dim);
	return to;
}

/* A head's rows side by side: where they lie (ld apart) or copied into an area of scratch. */
typedef struct Rows
{
	const float *data;
	size_t		ld;
} Rows;

static Rows
gather_head(const Head *h, float *to, const float *from, size_t ld)
{
	size_t		dim = h->a->head_dim;
	int			i;

	if (h->length * dim > CPU_AREA_FLOATS)
		return (Rows) {from, ld};
	for (i = 0; i < h->length; i++)
		memcpy(to + i * dim, from + i * ld, dim * sizeof(float));
	return (Rows) {to, dim};
}

static void
scale_row(float *s, float scale, int n)
{
	int			i;

	for (i = 0; i < n; i++)
		s[i] *= scale;
}

/* s[rows, keys] = scale * a[rows, D] b[keys, D]^T; bt: b transposed, or NULL */
static void
head_scores(CpuDevice *cpu, const Head *h, float *s, const float *a, size_t lda, const float *b, const float *bt,
			float scale, int rows, int keys)
{
	size_t		ld = padded_keys(h->length);

	if (bt != NULL)
	{
		Tile		t = {a, lda, 1, bt, ld, s, ld, h->a->head_dim, scale, false, false};

		tile_multiply(&t, rows, (keys + 15) / 16 * 16);
	}
	else
	{
		int			i;

		gemm(cpu, &(Gemm) {.a = a,.lda = lda,.b = b,.ldb = h->ld,.tb = true,.c = s,.ldc = ld,
			 .m = rows,.n = keys,.k = h->a->head_dim});
		for (i = 0; i < rows; i++)
			scale_row(s + i * ld, scale, keys);
	}
}

/* p[n] *= dropout factors of query `row` */
static void
drop_row(const Head *h, float *p, size_t row, size_t n)
{
	uint64_t	element = ((uint64_t) row * h->a->heads + h->head) * 65536;

	dropout(NULL, p, p, h->a->dropout, element, n);
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

/* p[n] += the position bias of one query's keys */
static void
add_relative(const Head *h, float *p, int query, size_t n)
{
	const float *bias = h->a->relative + h->head +
		(size_t) (h->a->relative_limit - 1 - query) * h->a->heads;
	size_t		j;

	for (j = 0; j < n; j++)
		p[j] += bias[j * h->a->heads];
}

/* the gradient of one query's scores to the position bias's */
static void
add_relative_gradient(const Head *h, const float *ds, int query, size_t n)
{
	float	   *bias = h->a->drelative + h->head + (size_t) (h->a->relative_limit - 1 - query) * h->a->heads;
	size_t		j;

	for (j = 0; j < n; j++)
		bias[j * h->a->heads] += ds[j];
}

static void
head_forward(CpuDevice *cpu, const Head *h, float *out, float *lse, const float *qkv)
{
	const float *q = qkv + h->first * h->ld + h->column;
	const float *k = q + h->width;
	const float *v = k + h->width;
	/* for a few queries it does not pay to copy the keys and values first */
	bool		few = h->a->query_first > 0 && h->length - h->a->query_first <= FEW_QUERIES;
	const float *kt = few ? NULL : transpose_head(h, cpu->area[1], k);
	Rows		values = few ? (Rows) {v, h->ld} : gather_head(h, cpu->area[2], v, h->ld);
	size_t		ld = padded_keys(h->length);
	float	   *p = cpu->area[0];
	int			block = block_rows(h);
	int			start,
				i;

	for (start = h->a->query_first; start < h->length; start += block)
	{
		int			rows = h->length - start < block ? h->length - start : block;
		int			keys = h->a->causal ? start + rows : h->length;
		float	   *to = out + (h->first + start) * h->width + h->column;
		Tile		mix = {p, ld, 1, values.data, values.ld, to, h->width, keys, 1.0f, false, false};

		head_scores(cpu, h, p, q + start * h->ld, h->ld, k, kt, h->a->scale, rows, keys);
		for (i = 0; i < rows; i++)
		{
			size_t		row = h->first + start + i;
			float	   *pi = p + i * ld;
			int			seen = h->a->causal ? start + i + 1 : keys;
			float		log_sum;

			if (h->a->relative != NULL)
				add_relative(h, pi, start + i, seen);
			log_sum = softmax_row(pi, seen);
			memset(pi + seen, 0, (keys - seen) * sizeof(float));
			if (h->a->dropout.p > 0.0f)
				drop_row(h, pi, row, seen);
			if (lse != NULL)
				lse[row * h->a->heads + h->head] = log_sum;
		}
		tile_multiply(&mix, rows, h->a->head_dim);
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
		drop_row(h, dp, row, n);
	for (i = 0; i < n; i += LANES)
	{
		size_t		part = v_part(i, n);
		vf			e = v_exp(v_get(p + i, part) - log_sum);

		v_put(dp + i, e * (v_get(dp + i, part) - delta), part);
		v_put(p + i, e, part);
	}
	if (h->a->dropout.p > 0.0f)
		drop_row(h, p, row, n);
}

/* dq: where the gradient of the head's first q row goes; dout, out: the head's first row */
static void
head_backward(CpuDevice *cpu, const Head *h, float *dq, const float *dout, const float *q,
			  const float *out, const float *lse)
{
	int			dim = h->a->head_dim;
	float		scale = h->a->scale;
	float	   *p = cpu->area[0];
	float	   *dp = cpu->area[1];
	const float *k = q + h->width;
	const float *v = k + h->width;
	float	   *dk = dq + h->width;
	float	   *dv = dk + h->width;
	const float *kt = transpose_head(h, cpu->area[2], k);
	const float *vt = transpose_head(h, cpu->area[3], v);
	Rows		key_rows = gather_head(h, cpu->area[4], k, h->ld);
	Rows		queries = gather_head(h, cpu->area[5], q, h->ld);
	Rows		gradients = gather_head(h, cpu->area[6], dout, h->width);
	size_t		ld = padded_keys(h->length);
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
		const float *qb = queries.data + start * queries.ld;
		const float *db = gradients.data + start * gradients.ld;
		Tile		to_q = {dp, ld, 1, key_rows.data, key_rows.ld, dq + start * h->ld, h->ld,
		keys, scale, false, false};
		Tile		to_k = {dp, 1, ld, qb, queries.ld, dk, h->ld, rows, scale, true, false};
		Tile		to_v = {p, 1, ld, db, gradients.ld, dv, h->ld, rows, 1.0f, true, false};

		head_scores(cpu, h, p, qb, queries.ld, k, kt, scale, rows, keys);
		head_scores(cpu, h, dp, db, gradients.ld, v, vt, 1.0f, rows, keys);
		for (i = 0; i < rows; i++)
		{
			size_t		row = h->first + start + i;
			int			seen = h->a->causal ? start + i + 1 : keys;
			float		delta = (float) dot_double(db + i * gradients.ld, out + (start + i) * h->width, dim);
			size_t		at = i * ld;

			if (h->a->relative != NULL)
				add_relative(h, p + at, start + i, seen);
			softmax_backward_row(h, p + at, dp + at, lse[row * h->a->heads + h->head], delta, row, seen);
			if (h->a->drelative != NULL)
				add_relative_gradient(h, dp + at, start + i, seen);
			memset(p + at + seen, 0, (keys - seen) * sizeof(float));
			memset(dp + at + seen, 0, (keys - seen) * sizeof(float));
		}
		tile_multiply(&to_q, rows, dim);
		tile_multiply(&to_k, keys, dim);
		tile_multiply(&to_v, keys, dim);
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
