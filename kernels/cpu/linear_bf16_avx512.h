/*
 * linear_bf16_avx512.h
 *		y = act(x w^T + bias) in BF16 by vdpbf16ps: tiles of 6 rows by 4 panels.
 *
 * The form of gemm_cpu.h with pairs of k instead of single ones: a broadcast pair of x against a vector of
 * pairs of w.  Every output is one chain in the order of k.
 */

#define DOT_ROWS	6
#define DOT_PANELS	4
#define DOT_WIDE	(DOT_PANELS * DISTIL_PANEL)

/* Panels against all rows. */
typedef struct DotGroup
{
	Epilogue	epilogue;
	const char *x;
	size_t		ldx;			/* bytes */
	const char *w;
	size_t		off[DOT_PANELS];	/* of each panel, from w on; behind the last one: the last one again */
	size_t		panel;			/* bytes of one */
	int			column;
	uintptr_t	next;			/* asked for from memory meanwhile; addresses only */
	size_t		each;			/* bytes further for each step */
} DotGroup;

/* rows is a constant after inlining */
static inline __attribute__((always_inline)) void
dot_tile(DotGroup *g, size_t row, int rows)
{
	__m512		sum[DOT_ROWS][DOT_PANELS];
	const char *x = g->x + row * g->ldx;
	const char *half = x + DOT_ROWS / 2 * g->ldx;
	size_t		ldx = g->ldx;
	const char *w = g->w;
	const char *end = w + g->panel;
	size_t		off1 = g->off[1];
	size_t		off2 = g->off[2];
	size_t		off3 = g->off[3];
	uintptr_t	next = g->next;
	size_t		each = g->each;
	int			r,
				v;

	/*
	 * A row is found from one of two addresses and a multiple of ldx: an
	 * address for each would not fit the registers.
	 */
	__asm__ ("" : "+r" (half), "+r" (ldx), "+r" (off1), "+r" (off2), "+r" (off3));

#pragma GCC unroll 6
	for (r = 0; r < rows; r++)
	{
#pragma GCC unroll 4
		for (v = 0; v < DOT_PANELS; v++)
			sum[r][v] = _mm512_setzero_ps();
	}
#pragma GCC unroll 1
	for (; w < end; w += 64, x += 4, half += 4, next += each)
	{
		__m512bh	wv[DOT_PANELS] = {
			(__m512bh) _mm512_loadu_si512(w), (__m512bh) _mm512_loadu_si512(w + off1),
			(__m512bh) _mm512_loadu_si512(w + off2), (__m512bh) _mm512_loadu_si512(w + off3)
		};

		__builtin_prefetch((const void *) next, 0, 2);
		__builtin_prefetch((const void *) (next + each / 2), 0, 2);
#pragma GCC unroll 6
		for (r = 0; r < rows; r++)
		{
			int32_t		pair;
			__m512bh	xv;

			memcpy(&pair, (r < DOT_ROWS / 2 ? x : half) + r % (DOT_ROWS / 2) * ldx, sizeof(pair));
			xv = (__m512bh) _mm512_set1_epi32(pair);
#pragma GCC unroll 4
			for (v = 0; v < DOT_PANELS; v++)
				sum[r][v] = _mm512_dpbf16_ps(sum[r][v], wv[v], xv);
		}
	}
	g->next = next;
#pragma GCC unroll 6
	for (r = 0; r < rows; r++)
	{
#pragma GCC unroll 2
		for (v = 0; v < DOT_PANELS; v += 2)
		{
			if (g->column + v * DISTIL_PANEL < g->epilogue.n)
				finish_columns(&g->epilogue, row + r, g->column + v * DISTIL_PANEL, sum[r][v], sum[r][v + 1]);
		}
	}
}

static void
dot_rows(DotGroup *g, size_t row, int rows)
{
#define DOT_HEIGHT(height) \
		case height: \
			dot_tile(g, row, height); \
			break;
	switch (rows)
	{
		DOT_HEIGHT(1) DOT_HEIGHT(2) DOT_HEIGHT(3) DOT_HEIGHT(4) DOT_HEIGHT(5) DOT_HEIGHT(DOT_ROWS)
	}
#undef DOT_HEIGHT
}

static void
linear_bf16_avx512(DistilDevice *dev, const DistilRows *y, const DistilRows *x, const DistilWeight *w,
				   DistilActivation act, int m)
{
	DotGroup	g = {.epilogue = {y, w->bias, act, w->n}};
	int			tiles = (m + DOT_ROWS - 1) / DOT_ROWS;
	int			v;

	(void) dev;
	g.x = x->data;
	g.ldx = x->ld * sizeof(uint16_t);
	g.panel = distil_row_length(DISTIL_TYPE_BF16, w->k) * DISTIL_PANEL * sizeof(uint16_t);
	/*
	 * so that all tiles together ask for a group; with one of them
	 * weights are read as fast as memory gives them
	 */
	g.each = tiles > 1 ? (size_t) (DOT_PANELS * 64 + tiles - 1) / tiles : 0;
	for (g.column = 0; g.column < w->n; g.column += DOT_WIDE)
	{
		int			row = 0;
		int			left = tiles;

		g.w = (const char *) w->data + (size_t) (g.column / DISTIL_PANEL) * g.panel;
		for (v = 1; v < DOT_PANELS; v++)
			g.off[v] = g.column + v * DISTIL_PANEL < w->n ? v * g.panel : g.off[v - 1];
		g.next = (uintptr_t) g.w + DOT_PANELS * g.panel;
		for (; left > 0; left--)
		{
			int			rows = (m - row + left - 1) / left;

			dot_rows(&g, row, rows);
			row += rows;
		}
	}
}
