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
#define DOT_PAIRS	(DOT_PANELS / 2)	/* of vectors, which the epilogue takes together */

/*
 * Panels against all rows, tile after tile.  A tile's sums are finished while the next one is multiplied, a
 * pair of vectors at a time: done at once that would leave nothing for the dot products' units to do.
 */
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
	size_t		stretch;		/* bytes of a panel from one pair to the next */
	bool		at_once;		/* these columns cannot wait */
	int			waiting;		/* pairs of the tile before */
	size_t		waiting_row;	/* its place in y */
	int			waiting_column;
	float		sums[DOT_ROWS * DOT_WIDE] __attribute__((aligned(64)));
} DotGroup;

/* Where pair p of the tile before belongs. */
#define PAIR_ROW(g, p)	((g)->waiting_row + (p) / DOT_PAIRS)
#define PAIR_COLUMN(g, p)	((g)->waiting_column + (p) % DOT_PAIRS * 2 * DISTIL_PANEL)
#define PAIR_SUMS(g, p, half)	_mm512_load_ps((g)->sums + (2 * (p) + (half)) * DISTIL_PANEL)

/* All at once, for what finish_whole() does not do and behind the last tile. */
static __attribute__((noinline)) void
finish_waiting(DotGroup *g)
{
	int			p;

	for (p = 0; p < g->waiting; p++)
	{
		if (PAIR_COLUMN(g, p) < g->epilogue.n)
			finish_any(&g->epilogue, PAIR_ROW(g, p), PAIR_COLUMN(g, p), PAIR_SUMS(g, p, 0),
					   PAIR_SUMS(g, p, 1));
	}
	g->waiting = 0;
}

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
	int			pair = 0;		/* of the tile before: the next to be finished */
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
	while (w < end)
	{
		const char *stop = pair < g->waiting && end - w > (ptrdiff_t) g->stretch ? w + g->stretch : end;

#pragma GCC unroll 1
		for (; w < stop; w += 64, x += 4, half += 4, next += each)
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
				int32_t		two;
				__m512bh	xv;

				memcpy(&two, (r < DOT_ROWS / 2 ? x : half) + r % (DOT_ROWS / 2) * ldx, sizeof(two));
				xv = (__m512bh) _mm512_set1_epi32(two);
#pragma GCC unroll 4
				for (v = 0; v < DOT_PANELS; v++)
					sum[r][v] = _mm512_dpbf16_ps(sum[r][v], wv[v], xv);
			}
		}
		if (pair < g->waiting)
		{
			finish_whole(&g->epilogue, PAIR_ROW(g, pair), PAIR_COLUMN(g, pair), PAIR_SUMS(g, pair, 0),
						 PAIR_SUMS(g, pair, 1));
			pair++;
		}
	}
	g->next = next;
	g->waiting = rows * DOT_PAIRS;
	g->waiting_row = row;
	g->waiting_column = g->column;
#pragma GCC unroll 6
	for (r = 0; r < rows; r++)
	{
#pragma GCC unroll 4
		for (v = 0; v < DOT_PANELS; v++)
			_mm512_store_ps(g->sums + (r * DOT_PANELS + v) * DISTIL_PANEL, sum[r][v]);
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
	if (g->at_once)
		finish_waiting(g);
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
	g.stretch = g.panel / 64 / DOT_PAIRS / DOT_ROWS * 64;
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
		g.at_once = g.stretch == 0 || !finish_is_whole(&g.epilogue, g.column + DOT_WIDE);
		for (; left > 0; left--)
		{
			int			rows = (m - row + left - 1) / left;

			dot_rows(&g, row, rows);
			row += rows;
		}
	}
	finish_waiting(&g);
}
