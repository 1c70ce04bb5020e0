/*
 * attention_cpu.h
 *		Template: attention over ragged rows, one sequence and head at a time.
 *
 * The scores of a block of queries against all keys go to the device's scratch
 * memory; a block has as many queries as fit there, so memory is bounded and the
 * operation cannot fail.
 * Forward, queries lie in columns: scores [keys][16 queries], so that softmax needs no sum
 * across a vector and both products are those of gemm_cpu.h.  What needs a row of scores
 * (masks, dropout, position biases) has queries in rows: keys are transposed once per head
 * when they fit, so that scores come from register tiles; else as any other product.
 * The rule a newcomer would break: both ways give a query the same bits.  Scores and mixtures
 * are chains of additions over the head and over the keys; a sum of probabilities is
 * CPU_LANES sums, each of every CPU_LANES-th key, added up as v_sum does.
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
head_scores(CpuDevice *cpu, const Head *h, float *s, const float *a, size_t lda, const float *b,
			const float *bt, float scale, int rows, int keys)
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

/* Out of line, so that products and sums are fused alike wherever it is called. */
static __attribute__((noinline)) float
log_of_sum(float top, float scale, float total)
{
	return top * scale + logf(total);
}

/*
 * s[n] = exp(scale * (s[n] - largest)); returns the natural logarithm of the sum of exp(scale * s),
 * and in *norm what makes the numbers probabilities.
 */
static float
softmax_row(float *s, size_t n, float scale, float *norm)
{
	vf			factor = v_set(scale * LOG2_E);
	vf			least = v_exp2_least(factor);
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
		vf			p = v_exp2(v_get(s + i, part) - top, factor, least);

		sums += v_first(p, part);
		v_put(s + i, p, part);
	}
	total = v_sum(sums);
	*norm = 1.0f / total;
	return log_of_sum(top, scale, total);
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

/* Queries start ... of a head in rows, all of whose scores fit into scratch. */
static void
attend_rows(CpuDevice *cpu, const Head *h, float *out, float *lse, const float *q, const float *k,
			const float *kt, Rows values, int start, int rows)
{
	size_t		ld = padded_keys(h->length);
	float	   *p = cpu->area[0];
	float	   *norms = cpu->pack_a;
	int			keys = h->a->causal ? start + rows : h->length;
	float	   *to = out + (h->first + start) * h->width + h->column;
	Tile		mix = {p, ld, 1, values.data, values.ld, to, h->width, keys, 1.0f, false, false};
	/* biases are added to scaled scores */
	bool		scaled = h->a->relative != NULL;
	int			i;

	head_scores(cpu, h, p, q + start * h->ld, h->ld, k, kt, scaled ? h->a->scale : 1.0f, rows, keys);
	for (i = 0; i < rows; i++)
	{
		size_t		row = h->first + start + i;
		float	   *pi = p + i * ld;
		int			seen = h->a->causal ? start + i + 1 : keys;
		float		log_sum;

		if (h->a->relative != NULL)
			add_relative(h, pi, start + i, seen);
		log_sum = softmax_row(pi, seen, scaled ? 1.0f : h->a->scale, &norms[i]);
		memset(pi + seen, 0, (keys - seen) * sizeof(float));
		if (h->a->dropout.p > 0.0f)
			drop_row(h, pi, row, seen);
		if (lse != NULL)
			lse[row * h->a->heads + h->head] = log_sum;
	}
	tile_multiply(&mix, rows, h->a->head_dim);
	for (i = 0; i < rows; i++)
		scale_row(to + i * h->width, norms[i], h->a->head_dim);
}

/* Rows of the head's columns, n <= DISTIL_PANEL of them, as a panel [D][16] filled up with zeros. */
static void
pack_queries(float *to, const float *from, size_t ld, int n, int dim)
{
	int			c = 0;
	int			r;
#if CPU_LANES >= 8
	int			half,
				i;

	for (; c + CPU_LANES <= dim; c += CPU_LANES)
	{
		for (half = 0; half < GEMM_SPLIT; half++)
		{
			vf			square[CPU_LANES];

			for (i = 0; i < CPU_LANES; i++)
				square[i] = half * CPU_LANES + i < n ? v_load(from + (half * LANES + i) * ld + c) : (vf) {0};
			transpose_square(square);
			for (i = 0; i < CPU_LANES; i++)
				v_store(to + (c + i) * DISTIL_PANEL + half * LANES, square[i]);
		}
	}
#endif
	for (; c < dim; c++)
	{
		for (r = 0; r < DISTIL_PANEL; r++)
			to[c * DISTIL_PANEL + r] = r < n ? from[r * ld + c] : 0.0f;
	}
}

/* Back: rows of `to` are columns of the panel [D][16], times norm[16]. */
static void
unpack_queries(float *to, size_t ld, const float *from, const float *norm, int n, int dim)
{
	int			c = 0;
	int			r;
#if CPU_LANES >= 8
	int			half,
				i;

	for (; c + CPU_LANES <= dim; c += CPU_LANES)
	{
		for (half = 0; half * CPU_LANES < n; half++)
		{
			vf			factor = v_load(norm + half * LANES);
			vf			square[CPU_LANES];

			for (i = 0; i < CPU_LANES; i++)
				square[i] = v_load(from + (c + i) * DISTIL_PANEL + half * LANES) * factor;
			transpose_square(square);
			for (i = 0; i < CPU_LANES && half * CPU_LANES + i < n; i++)
				v_store(to + (half * LANES + i) * ld + c, square[i]);
		}
	}
#endif
	for (; c < dim; c++)
	{
		for (r = 0; r < n; r++)
			to[r * ld + c] = from[c * DISTIL_PANEL + r] * norm[r];
	}
}

/* The first `count` of LANES keys; count is a constant after inlining but for the last ones. */
static inline __attribute__((always_inline)) void
add_probabilities(vf sums[CPU_LANES], float *s, vf top, vf factor, vf least, int count)
{
	int			l;

#pragma GCC unroll 16
	for (l = 0; l < CPU_LANES; l++)
	{
		if (l < count)
		{
			vf			p = v_exp2(v_load(s + l * DISTIL_PANEL) - top, factor, least);

			sums[l] += p;
			v_store(s + l * DISTIL_PANEL, p);
		}
	}
}

/*
 * softmax_row for LANES queries side by side, s [keys][16], whose largest scores are known: *norm, *log_sum.
 */
static void
softmax_columns(float *s, int keys, vf top, float scale, float *norm, float *log_sum)
{
	vf			factor = v_set(scale * LOG2_E);
	vf			least = v_exp2_least(factor);
	vf			sums[CPU_LANES] = {{0}};
	int			step,
				j,
				l;

	for (j = 0; j + CPU_LANES <= keys; j += CPU_LANES)
		add_probabilities(sums, s + (size_t) j * DISTIL_PANEL, top, factor, least, CPU_LANES);
	if (j < keys)
		add_probabilities(sums, s + (size_t) j * DISTIL_PANEL, top, factor, least, keys - j);
#pragma GCC unroll 4
	for (step = CPU_LANES / 2; step > 0; step /= 2)
	{
#pragma GCC unroll 8
		for (l = 0; l < step; l++)
			sums[l] += sums[l + step];
	}
	v_store(norm, 1.0f / sums[0]);
	for (l = 0; l < CPU_LANES && log_sum != NULL; l++)
		log_sum[l] = log_of_sum(top[l], scale, sums[0][l]);
}

/* Up to GEMM_WIDE queries of a head in columns, from row `start` of it on. */
static void
attend_columns(CpuDevice *cpu, const Head *h, float *out, float *lse, const float *q, Rows keys, Rows values,
			   int start, int count)
{
	int			dim = h->a->head_dim;
	int			panels = (count + DISTIL_PANEL - 1) / DISTIL_PANEL;
	size_t		panel = (size_t) h->length * DISTIL_PANEL;
	float	   *p = cpu->area[0];
	float	   *packed = cpu->pack_b;
	float	   *mixed = cpu->pack_a;
	GemmGroup	scores = {.a = keys.data,.row = keys.ld,.step = 1,.tile = keys.ld,.b = packed,.c = p,
		.ldc = DISTIL_PANEL,.across = panel,.m = h->length,.k = dim,.columns = panels * DISTIL_PANEL,
		.even = true,
	.every = dim};
	GemmGroup	mix = {.a = values.data,.row = 1,.step = values.ld,.tile = 1,.b = p,.c = mixed,
		.ldc = DISTIL_PANEL,.across = (size_t) dim * DISTIL_PANEL,.m = dim,.k = h->length,
	.columns = panels * DISTIL_PANEL,.even = true,.every = h->length};
	float		norm[GEMM_WIDE];
	float		log_sum[GEMM_WIDE];
	float		top[GEMM_WIDE];
	int			i;

	for (i = 0; i < GEMM_WIDE; i++)
		top[i] = -INFINITY;
	scores.top = top;
	for (i = 0; i < panels; i++)
		pack_queries(packed + (size_t) i * dim * DISTIL_PANEL,
					 q + (start + (size_t) i * DISTIL_PANEL) * h->ld,
					 h->ld, count - i * DISTIL_PANEL < DISTIL_PANEL ? count - i * DISTIL_PANEL : DISTIL_PANEL,
					 dim);
	gemm_group(&scores);
	for (i = 0; i < panels * GEMM_SPLIT; i++)
		softmax_columns(p + i / GEMM_SPLIT * panel + i % GEMM_SPLIT * LANES, h->length,
						v_load(top + i * LANES), h->a->scale, norm + i * LANES,
						lse != NULL ? log_sum + i * LANES : NULL);
	gemm_group(&mix);
	for (i = 0; i < panels; i++)
		unpack_queries(out + (h->first + start + (size_t) i * DISTIL_PANEL) * h->width + h->column, h->width,
					   mixed + (size_t) i * dim * DISTIL_PANEL, norm + i * DISTIL_PANEL,
					   count - i * DISTIL_PANEL < DISTIL_PANEL ? count - i * DISTIL_PANEL : DISTIL_PANEL,
					   dim);
	for (i = 0; i < count && lse != NULL; i++)
		lse[(h->first + start + i) * h->a->heads + h->head] = log_sum[i];
}

/* Queries in columns at a time; 0: they have to lie in rows. */
static int
column_queries(const Head *h)
{
	size_t		most = CPU_AREA_FLOATS / ((size_t) h->length * DISTIL_PANEL);

	if (h->a->causal || h->a->relative != NULL || h->a->dropout.p > 0.0f || h->a->head_dim > CPU_PACK_STEPS)
		return 0;
	return (int) (most < GEMM_PANELS ? most : GEMM_PANELS) * DISTIL_PANEL;
}

static void
head_forward(CpuDevice *cpu, const Head *h, float *out, float *lse, const float *qkv)
{
	const float *q = qkv + h->first * h->ld + h->column;
	const float *k = q + h->width;
	const float *v = k + h->width;
	/* for a few queries it does not pay to copy the keys and values first */
	bool		few = h->a->query_first > 0 && h->length - h->a->query_first <= FEW_QUERIES;
	Rows		values = few || h->length == 0 ? (Rows) {v, h->ld} : gather_head(h, cpu->area[2], v, h->ld);
	int			block = h->length > 0 ? column_queries(h) : 0;
	int			end = DISTIL_QUERY_END(h->a, h->length);
	int			start;

	if (block > 0)
	{
		Rows		keys = gather_head(h, cpu->area[1], k, h->ld);

		for (start = h->a->query_first; start < end; start += block)
			attend_columns(cpu, h, out, lse, q, keys, values, start,
						   end - start < block ? end - start : block);
	}
	else
	{
		const float *kt = few ? NULL : transpose_head(h, cpu->area[1], k);

		block = block_rows(h);
		for (start = h->a->query_first; start < end; start += block)
			attend_rows(cpu, h, out, lse, q, k, kt, values, start,
						end - start < block ? end - start : block);
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
