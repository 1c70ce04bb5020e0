/*
 * rows_cpu.h
 *		Template: rows and weights of BF16 on CPUs without products of BF16.
 *
 * Operands are widened to float32 as they are read: half the memory traffic of float32, at the cost of
 * the widening.  Every output is one chain of additions in the order of k.
 */

#define ROWS_TILE 4				/* rows of x at a time, for one panel */

/* sums [rows][DISTIL_PANEL] of one panel; rows is a constant after inlining */
static inline __attribute__((always_inline)) void
panel_products(float *to, const float *x, size_t ldx, const uint16_t *w, int rows, size_t k)
{
	vf			sum[ROWS_TILE][GEMM_SPLIT];
	size_t		l;
	size_t		v;
	int			r;

	for (r = 0; r < rows; r++)
	{
		for (v = 0; v < GEMM_SPLIT; v++)
			sum[r][v] = (vf) {0};
	}
	for (l = 0; l < k; l += 2, w += 2 * DISTIL_PANEL)
	{
		for (v = 0; v < GEMM_SPLIT; v++)
		{
			vw			pairs = *(const vw_memory *) (w + v * 2 * LANES);

			for (r = 0; r < rows; r++)
			{
				sum[r][v] = v_fma((vf) (pairs << 16), v_set(x[r * ldx + l]), sum[r][v]);
				sum[r][v] = v_fma((vf) (pairs & 0xffff0000u), v_set(x[r * ldx + l + 1]), sum[r][v]);
			}
		}
	}
	for (r = 0; r < rows; r++)
	{
		for (v = 0; v < GEMM_SPLIT; v++)
			v_store(to + r * DISTIL_PANEL + v * LANES, sum[r][v]);
	}
}

/* All panels of w against a few rows of x, widened; y: from `row` on. */
static void
linear_few(const DistilRows *y, size_t row, const float *x, size_t ldx, const DistilWeight *w,
		   DistilActivation act, int rows)
{
	size_t		k = distil_row_length(DISTIL_TYPE_BF16, w->k);
	float		sums[ROWS_TILE * DISTIL_PANEL];
	size_t		n = w->n;
	size_t		j;
	int			r;

	for (j = 0; j < n; j += DISTIL_PANEL)
	{
		size_t		columns = n - j < DISTIL_PANEL ? n - j : DISTIL_PANEL;
		const uint16_t *panel = (const uint16_t *) w->data + j * k;

		if (rows == ROWS_TILE)
			panel_products(sums, x, ldx, panel, ROWS_TILE, k);
		else
		{
			for (r = 0; r < rows; r++)
				panel_products(sums + r * DISTIL_PANEL, x + r * ldx, ldx, panel, 1, k);
		}
		for (r = 0; r < rows; r++)
		{
			float	   *s = sums + r * DISTIL_PANEL;

			finish_rows(s, DISTIL_PANEL, w->bias != NULL ? w->bias + j : NULL, act, 1, columns);
			if (y->type == DISTIL_TYPE_F32)
				memcpy((float *) y->data + (row + r) * y->ld + j, s, columns * sizeof(float));
			else
				narrow_some((uint16_t *) y->data + (row + r) * y->ld + j, s, columns);
		}
	}
	for (r = 0; r < rows && y->type == DISTIL_TYPE_BF16; r++)
		fill_row((uint16_t *) y->data + (row + r) * y->ld, n);
}

static void
linear_bf16(DistilDevice *dev, const DistilRows *y, const DistilRows *x, const DistilWeight *w,
			DistilActivation act, int m)
{
	size_t		k = distil_row_length(DISTIL_TYPE_BF16, w->k);
	float	   *wide = ((CpuDevice *) dev)->scratch;
	int			most = (size_t) CPU_AREAS * CPU_AREA_FLOATS / k < ROWS_TILE ? 1 : ROWS_TILE;
	int			i,
				r;

	for (i = 0; i < m; i += most)
	{
		int			rows = m - i < most ? m - i : most;

		for (r = 0; r < rows; r++)
			widen_row(wide + r * k, (const uint16_t *) x->data + (i + r) * x->ld, k);
		linear_few(y, i, wide, k, w, act, rows);
	}
}

static void
quantize_bf16(DistilDevice *dev, const DistilRows *y, const DistilRows *x, DistilActivation act, int m, int c)
{
	int			i;

	(void) dev;
	(void) act;
	for (i = 0; i < m; i++)
		narrow_row((uint16_t *) y->data + i * y->ld, (const float *) x->data + i * x->ld, c);
}

/* Row by row, so that the copy finds the row in the cache. */
static void
norm_bf16(DistilDevice *dev, float *y, const DistilRows *low, const float *x, const float *residual,
		  const float *gamma, const float *beta, float eps, int rows, int c)
{
	int			row;

	for (row = 0; row < rows; row++)
	{
		size_t		at = (size_t) row * c;

		layernorm_forward(dev, y + at, NULL, NULL, NULL, x + at, residual != NULL ? residual + at : NULL,
						  gamma, beta, eps, 1, c);
		narrow_row((uint16_t *) low->data + row * low->ld, y + at, c);
	}
}

/* One head of one sequence in float32: widened q | k | v, then the result, in scratch. */
static void
attend_head(CpuDevice *cpu, const DistilRows *out, const DistilRows *qkv, const int32_t *offsets,
			const DistilAttention *a, int seq, int head)
{
	Head		h = find_head(offsets, a, seq, head);
	size_t		dim = a->head_dim;
	const uint16_t *from = (const uint16_t *) qkv->data + h.first * qkv->ld + h.column;
	uint16_t   *to = (uint16_t *) out->data + h.first * out->ld + h.column;
	float	   *wide = cpu->area[3];
	float	   *result = wide + 3 * dim * h.length;
	int			i,
				part;

	for (i = 0; i < h.length; i++)
	{
		for (part = 0; part < 3; part++)
			widen_row(wide + (3 * i + part) * dim, from + i * qkv->ld + part * h.width, dim);
	}
	h.first = 0;
	h.column = 0;
	h.width = dim;
	h.ld = 3 * dim;
	head_forward(cpu, &h, result, NULL, wide);
	for (i = a->query_first; i < DISTIL_QUERY_END(a, h.length); i++)
		narrow_some(to + i * out->ld, result + i * dim, dim);
}

/* The same for a head that scratch is too small for: query by query. */
static void
attend_long_head(CpuDevice *cpu, const DistilRows *out, const DistilRows *qkv, const int32_t *offsets,
				 const DistilAttention *a, int seq, int head)
{
	Head		h = find_head(offsets, a, seq, head);
	size_t		dim = a->head_dim;
	const uint16_t *from = (const uint16_t *) qkv->data + h.first * qkv->ld + h.column;
	float	   *p = cpu->area[0];
	float	   *q = cpu->area[1];
	float	   *k = q + DISTIL_KERNEL_MAX_HEAD;
	float	   *sum = k + DISTIL_KERNEL_MAX_HEAD;
	float		norm;
	int			i,
				j;

	for (i = a->query_first; i < DISTIL_QUERY_END(a, h.length); i++)
	{
		int			keys = a->causal ? i + 1 : h.length;
		uint16_t   *to = (uint16_t *) out->data + (h.first + i) * out->ld + h.column;

		widen_row(q, from + i * qkv->ld, dim);
		for (j = 0; j < keys; j++)
		{
			widen_row(k, from + j * qkv->ld + h.width, dim);
			p[j] = (float) dot_double(q, k, dim) * a->scale;
		}
		if (a->relative != NULL)
			add_relative(&h, p, i, keys);
		softmax_row(p, keys, 1.0f, &norm);
		memset(sum, 0, dim * sizeof(float));
		for (j = 0; j < keys; j++)
		{
			widen_row(k, from + j * qkv->ld + 2 * h.width, dim);
			add_scaled(sum, k, p[j], dim);
		}
		scale_row(sum, norm, dim);
		narrow_some(to, sum, dim);
	}
}

static void
attention_rows(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv, const int32_t *offsets,
			   const DistilAttention *a)
{
	size_t		width = (size_t) a->heads * a->head_dim;
	int			seq,
				head,
				i;

	for (seq = 0; seq < a->nseq; seq++)
	{
		size_t		length = offsets[seq + 1] - offsets[seq];
		bool		fits = 4 * a->head_dim * length <= (CPU_AREAS - 3) * (size_t) CPU_AREA_FLOATS;

		for (head = a->head_first; head < a->head_first + a->head_count; head++)
		{
			if (fits)
				attend_head((CpuDevice *) dev, out, qkv, offsets, a, seq, head);
			else
				attend_long_head((CpuDevice *) dev, out, qkv, offsets, a, seq, head);
		}
		for (i = offsets[seq] + a->query_first; i < offsets[seq] + DISTIL_QUERY_END(a, (int) length); i++)
			fill_row((uint16_t *) out->data + i * out->ld, width);
	}
}
