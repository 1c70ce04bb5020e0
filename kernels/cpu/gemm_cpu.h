/*
 * gemm_cpu.h
 *		Template: multiplication of matrices in register tiles over packed columns.
 *
 * c[m, n] = a[m, k] b[k, n], with b in panels of DISTIL_PANEL columns ([k][16] each): as a
 * packed weight lies in memory, or copied into the device's scratch, a block at a time.
 * a is read where it lies, one broadcast value per row and step.  The vectors of a tile
 * stay in registers for all of k.
 *
 * The rule a newcomer would break: forward, every output is one chain of additions in the order
 * of k, whatever the tile, the block or the number of rows.  So a row's result does not depend
 * on which other rows are multiplied with it, to the last bit.
 * Blocking: Goto and van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication".
 */

#if CPU_LANES == 16
#define GEMM_ROWS	8			/* of 32 registers 8 * 3 hold sums */
#define GEMM_PANELS 3
#define GEMM_ALONE	8			/* panels of a single row: memory gives several streams faster than one */
#elif CPU_LANES == 8
#define GEMM_ROWS	6			/* of 16 registers 6 * 2 hold sums */
#define GEMM_PANELS 1
#define GEMM_ALONE	4
#else
#define GEMM_ROWS	2			/* of 16 registers 2 * 4 hold sums */
#define GEMM_PANELS 1
#define GEMM_ALONE	1
#endif
#define GEMM_WIDE	(GEMM_PANELS * DISTIL_PANEL)
#define GEMM_LONG	(GEMM_ALONE * DISTIL_PANEL)
#define GEMM_SPLIT	(DISTIL_PANEL / CPU_LANES)	/* vectors across a panel */
#define CACHED_FLOATS 196608	/* of x: a part of the second-level cache */
#define CACHED_ROWS 128			/* but with fewer rows than this weights are read too often */

/* A group of up to GEMM_PANELS panels, or GEMM_ALONE, against all rows of a. */
typedef struct GemmGroup
{
	const float *a;
	size_t		row;			/* a: from one row to the next */
	size_t		step;			/* a: from one column to the next */
	size_t		tile;			/* a: a tile's place is its first row times this */
	const float *b;
	float	   *c;
	size_t		ldc;
	size_t		across;			/* c: from one panel to the next */
	int			m;
	int			k;
	int			columns;		/* 1 .. GEMM_WIDE, or GEMM_LONG of a single row */
	bool		resume;			/* sums start from c */
	bool		add;			/* sums are added to c */
	bool		even;			/* tiles may have any number of rows: make them alike */
	const float *bias;			/* added to finished sums, or NULL */
	float	   *top;			/* the largest sum of each column, updated, or NULL; whole panels only */
	DistilActivation act;		/* then applied to them */
	const char *next;			/* what is multiplied after this group, fetched while it is: */
	const char *next_end;		/* addresses only, they may lie behind the weights */
	int			every;			/* steps of k between two requests; the fewer requests, the faster */
	int			fetch;			/* cache lines per request */
	bool		ask;			/* as well lines of c, which is too large to stay cached */
} GemmGroup;

/* How many lanes of vector v are inside the group's columns. */
static inline size_t
gemm_part(const GemmGroup *g, int v)
{
	size_t		begin = v * LANES;

	return begin >= (size_t) g->columns ? 0 : v_part(begin, g->columns);
}

/* Out of line: only the right edge has such vectors. */
static __attribute__((noinline)) void
copy_part(float *to, const float *from, size_t part)
{
	memcpy(to, from, part * sizeof(float));
}

/* Vector v of a row of c, or of the bias. */
static inline __attribute__((always_inline)) vf
gemm_get(const GemmGroup *g, const float *at, int v, bool whole)
{
	size_t		part = whole ? LANES : gemm_part(g, v);
	float		lane[CPU_LANES] = {0};

	if (part == LANES)
		return v_load(at);
	copy_part(lane, at, part);
	return v_load(lane);
}

static inline __attribute__((always_inline)) void
gemm_put(const GemmGroup *g, float *at, int v, vf x, bool whole)
{
	size_t		part = whole ? LANES : gemm_part(g, v);
	float		lane[CPU_LANES];

	if (part == LANES)
	{
		v_store(at, x);
		return;
	}
	v_store(lane, x);
	copy_part(at, lane, part);
}

/* Finished sums of a tile to c; whole: all of its columns are there. */
static inline __attribute__((always_inline)) void
gemm_finish(const GemmGroup *g, float *c, vf sum[GEMM_ROWS][GEMM_ALONE * GEMM_SPLIT], int rows, int wide,
			bool whole)
{
	int			r,
				v;

#pragma GCC unroll 8
	for (v = 0; v < wide; v++)
	{
		float	   *at = c + v / GEMM_SPLIT * g->across + v % GEMM_SPLIT * LANES;
		vf			bias = g->bias != NULL ? gemm_get(g, g->bias + v * LANES, v, whole) : (vf) {0};

#pragma GCC unroll 8
		for (r = 0; r < rows; r++, at += g->ldc)
		{
			vf			x = sum[r][v];

			if (g->add)
				x += gemm_get(g, at, v, whole);
			if (g->bias != NULL)
				x += bias;
			gemm_put(g, at, v, x, whole);
		}
		if (whole && g->top != NULL)
		{
			vf			top = v_load(g->top + v * LANES);

#pragma GCC unroll 8
			for (r = 0; r < rows; r++)
				top = v_larger(top, sum[r][v]);
			v_store(g->top + v * LANES, top);
		}
	}
}

/* rows and panels are constants after inlining. */
static inline __attribute__((always_inline)) void
gemm_tile(GemmGroup *g, const float *a, float *c, int rows, int panels)
{
	vf			sum[GEMM_ROWS][GEMM_ALONE * GEMM_SPLIT];
	const float *b = g->b;
	size_t		panel = (size_t) g->k * DISTIL_PANEL;
	size_t		row = g->row;
	size_t		step = g->step;
	int			wide = panels * GEMM_SPLIT;
	int			left = g->k;
	float	   *to = c;			/* of c, asked for row by row */
	float	   *to_end = g->ask ? c + rows * g->ldc : c;
	int			r,
				v,
				s;

#pragma GCC unroll 8
	for (r = 0; r < rows; r++)
	{
#pragma GCC unroll 8
		for (v = 0; v < wide; v++)
			sum[r][v] = g->resume ? gemm_get(g, c + r * g->ldc + v * LANES, v, false) : (vf) {0};
	}
	while (left > 0)
	{
		int			steps = left < g->every ? left : g->every;

		for (s = 0; s < g->fetch && g->next < g->next_end; s++, g->next += 64)
			__builtin_prefetch(g->next, 0, 2);
		if (to < to_end)
		{
#pragma GCC unroll 8
			for (v = 0; v < panels; v++)
				__builtin_prefetch(to + v * DISTIL_PANEL, 1);
			to += g->ldc;
		}
		left -= steps;
		/* more steps at once need more addresses than there are registers for them */
#pragma GCC unroll 1
		for (s = 0; s < steps; s++)
		{
			vf			bv[GEMM_ALONE * GEMM_SPLIT];

#pragma GCC unroll 8
			for (v = 0; v < wide; v++)
				bv[v] = v_load(b + v / GEMM_SPLIT * panel + v % GEMM_SPLIT * LANES);
#pragma GCC unroll 8
			for (r = 0; r < rows; r++)
			{
				vf			av = v_set(a[r * row]);

#pragma GCC unroll 8
				for (v = 0; v < wide; v++)
					sum[r][v] = v_fma(bv[v], av, sum[r][v]);
			}
			a += step;
			b += DISTIL_PANEL;
		}
	}
	if (g->columns == panels * DISTIL_PANEL)
		gemm_finish(g, c, sum, rows, wide, true);
	else
		gemm_finish(g, c, sum, rows, wide, false);
}

/* One tile of any height up to GEMM_ROWS. */
#define GEMM_HEIGHT(height, panels) \
		case height: \
			gemm_tile(g, a, c, height, panels); \
			break;
#if CPU_LANES == 16
#define GEMM_TALL(panels) GEMM_HEIGHT(7, panels) GEMM_HEIGHT(6, panels) GEMM_HEIGHT(5, panels) \
	GEMM_HEIGHT(4, panels) GEMM_HEIGHT(3, panels) GEMM_HEIGHT(2, panels) GEMM_HEIGHT(1, panels)
#elif CPU_LANES == 8
#define GEMM_TALL(panels) GEMM_HEIGHT(5, panels) GEMM_HEIGHT(4, panels) GEMM_HEIGHT(3, panels) \
	GEMM_HEIGHT(2, panels) GEMM_HEIGHT(1, panels)
#else
#define GEMM_TALL(panels) GEMM_HEIGHT(1, panels)
#endif

#define GEMM_TILES(name, panels) \
	static void \
	name(GemmGroup *g, const float *a, float *c, int rows) \
	{ \
		switch (rows) \
		{ \
			GEMM_HEIGHT(GEMM_ROWS, panels) \
			GEMM_TALL(panels) \
		} \
	}

#if CPU_LANES == 16
GEMM_TILES(gemm_tiles3, 3)
GEMM_TILES(gemm_tiles2, 2)
#endif
GEMM_TILES(gemm_tiles1, 1)

/* y = act(y) of m rows */
static void
activate_rows(float *y, size_t ldy, DistilActivation act, int m, int n)
{
	int			i;

	for (i = 0; i < m && act != DISTIL_ACT_NONE; i++)
		activation_forward(NULL, act, y + i * ldy, y + i * ldy, n);
}

/* y += b, then act; b may be NULL */
static void
finish_rows(float *y, size_t ldy, const float *b, DistilActivation act, int m, int n)
{
	int			i;

	for (i = 0; i < m && b != NULL; i++)
		activate_biased(act, y + i * ldy, b, n);
	if (b == NULL)
		activate_rows(y, ldy, act, m, n);
}

static void
gemm_group(GemmGroup *g)
{
	int			count = (g->m + GEMM_ROWS - 1) / GEMM_ROWS;
	int			panels = (g->columns + DISTIL_PANEL - 1) / DISTIL_PANEL;
	int			i = 0;

	for (; count > 0; count--)
	{
		int			left = g->m - i;
		int			rows = g->even ? (left + count - 1) / count : left < GEMM_ROWS ? left : GEMM_ROWS;
		const float *a = g->a + i * g->tile;
		float	   *c = g->c + i * g->ldc;

		if (panels > GEMM_PANELS)
			gemm_tile(g, a, c, 1, GEMM_ALONE);
		else
#if CPU_LANES == 16
		if (panels == 3)
			gemm_tiles3(g, a, c, rows);
		else if (panels == 2)
			gemm_tiles2(g, a, c, rows);
		else
#endif
			gemm_tiles1(g, a, c, rows);
		(void) panels;
		activate_rows(c, g->ldc, g->act, rows, g->columns);
		i += rows;
	}
}

/* Rows of x multiplied at a time: all groups of columns read them again, so they should stay cached. */
static int
cached_rows(int m, int k)
{
	int			most = CACHED_FLOATS / k > CACHED_ROWS ? CACHED_FLOATS / k : CACHED_ROWS;
	int			blocks = (m + most - 1) / most;

	return ((m + blocks - 1) / blocks + GEMM_ROWS - 1) / GEMM_ROWS * GEMM_ROWS;
}

/* y[m, n] = act(x w^T + b) with w packed */
static void
linear_forward_packed(DistilDevice *dev, float *y, size_t ldy, const float *x, size_t ldx,
					  const float *w, const float *b, DistilActivation act, int m, int n, int k)
{
	int			block = m > 0 && k > 0 ? cached_rows(m, k) : 1;
	GemmGroup	g = {.row = ldx,.step = 1,.tile = ldx,.ldc = ldy,.across = DISTIL_PANEL,.k = k,.even = true,
	.act = act};
	int			i,
				j;

	(void) dev;
	for (i = 0; i < m; i += block)
	{
		int			tiles;

		g.a = x + (size_t) i * ldx;
		g.m = m - i < block ? m - i : block;
		g.ask = (size_t) g.m * n >= CACHED_FLOATS / 2;
		tiles = (g.m + GEMM_ROWS - 1) / GEMM_ROWS;
		g.every = tiles < 4 ? 8 : 32;
		/*
		 * with one row of tiles the weights are read as fast as memory
		 * gives them: requests only get in the way
		 */
		g.fetch = tiles == 1 ? 0 : (g.every * GEMM_PANELS + tiles - 1) / tiles;
		for (j = 0; j < n; j += g.columns)
		{
			int			wide = g.m == 1 && n - j >= GEMM_LONG ? GEMM_LONG : GEMM_WIDE;
			size_t		bytes = sizeof(float) * (size_t) wide * (size_t) k;

			g.columns = n - j < wide ? n - j : wide;
			g.b = w + (size_t) j * k;
			g.c = y + (size_t) i * ldy + j;
			g.bias = b != NULL ? b + j : NULL;
			g.next = (const char *) ((uintptr_t) g.b + bytes);
			g.next_end = (const char *) ((uintptr_t) g.next + bytes);
			gemm_group(&g);
		}
	}
}

/* ---------- matrices as they are: copied into panels ---------- */

typedef struct Gemm
{
	const float *a;
	size_t		lda;
	bool		ta;				/* a is [k, m] */
	const float *b;
	size_t		ldb;
	bool		tb;				/* b is [n, k] */
	float	   *c;
	size_t		ldc;
	int			m;
	int			n;
	int			k;
	bool		accumulate;
	bool		chain;			/* one chain of additions; else blocks of k are summed apart: nearer the
								 * truth */
	const float *bias;			/* [n] or NULL */
	DistilActivation act;
} Gemm;

#if CPU_LANES > 4

typedef float v4 __attribute__((vector_size(16)));
typedef float v4_memory __attribute__((vector_size(16), aligned(4), may_alias));

/* to[l][0 .. 3] = from[0 .. 3][l] for l < k; rows of `to` are DISTIL_PANEL apart */
static void
pack_four_rows(float *to, const float *from, size_t ld, int k)
{
	int			l = 0;

	for (; l + 4 <= k; l += 4, to += 4 * DISTIL_PANEL)
	{
		v4			x0 = *(const v4_memory *) (from + l);
		v4			x1 = *(const v4_memory *) (from + ld + l);
		v4			x2 = *(const v4_memory *) (from + 2 * ld + l);
		v4			x3 = *(const v4_memory *) (from + 3 * ld + l);
		v4			a = __builtin_shufflevector(x0, x1, 0, 4, 1, 5);
		v4			b = __builtin_shufflevector(x2, x3, 0, 4, 1, 5);
		v4			c = __builtin_shufflevector(x0, x1, 2, 6, 3, 7);
		v4			d = __builtin_shufflevector(x2, x3, 2, 6, 3, 7);

		*(v4_memory *) to = __builtin_shufflevector(a, b, 0, 1, 4, 5);
		*(v4_memory *) (to + DISTIL_PANEL) = __builtin_shufflevector(a, b, 2, 3, 6, 7);
		*(v4_memory *) (to + 2 * DISTIL_PANEL) = __builtin_shufflevector(c, d, 0, 1, 4, 5);
		*(v4_memory *) (to + 3 * DISTIL_PANEL) = __builtin_shufflevector(c, d, 2, 3, 6, 7);
	}
	for (; l < k; l++, to += DISTIL_PANEL)
	{
		to[0] = from[l];
		to[1] = from[ld + l];
		to[2] = from[2 * ld + l];
		to[3] = from[3 * ld + l];
	}
}

/* Columns j .. j + columns of b, rows l .. l + k, as panels. */
static void
gemm_pack_b(float *to, const Gemm *g, int j, int columns, int l, int k)
{
	int			at,
				r;

	for (; columns > 0; columns -= DISTIL_PANEL, j += DISTIL_PANEL, to += (size_t) DISTIL_PANEL * k)
	{
		int			count = columns < DISTIL_PANEL ? columns : DISTIL_PANEL;
		const float *from = g->tb ? g->b + j * g->ldb + l : g->b + l * g->ldb + j;

		if (g->tb && count == DISTIL_PANEL)
		{
			for (r = 0; r < DISTIL_PANEL; r += 4)
				pack_four_rows(to + r, from + r * g->ldb, g->ldb, k);
		}
		else if (g->tb)
			distil_pack_panel(to, from, g->ldb, count, k);
		else if (count == DISTIL_PANEL)
		{
			for (at = 0; at < k; at++)
				memcpy(to + (size_t) at * DISTIL_PANEL, from + at * g->ldb, DISTIL_PANEL * sizeof(float));
		}
		else
		{
			memset(to, 0, (size_t) DISTIL_PANEL * k * sizeof(float));
			for (at = 0; at < k; at++)
				memcpy(to + (size_t) at * DISTIL_PANEL, from + at * g->ldb, count * sizeof(float));
		}
	}
}

/* Rows i .. i + m of a transposed a, steps l .. l + k, tile by tile: [m / GEMM_ROWS][k][GEMM_ROWS]. */
static void
gemm_pack_a(float *to, const Gemm *g, int i, int m, int l, int k)
{
	int			at;

	for (; m > 0; m -= GEMM_ROWS, i += GEMM_ROWS, to += (size_t) GEMM_ROWS * k)
	{
		const float *from = g->a + l * g->lda + i;

		if (m >= GEMM_ROWS)
		{
			for (at = 0; at < k; at++)
				memcpy(to + (size_t) at * GEMM_ROWS, from + at * g->lda, GEMM_ROWS * sizeof(float));
		}
		else
		{
			for (at = 0; at < k; at++)
				memcpy(to + (size_t) at * GEMM_ROWS, from + at * g->lda, m * sizeof(float));
		}
	}
}

/* One block of rows and steps of k against all columns. */
static void
gemm_block(CpuDevice *cpu, const Gemm *g, int i, int m, int l, int k)
{
	bool		last = l + k == g->k;
	GemmGroup	group = {.ldc = g->ldc,.across = DISTIL_PANEL,.m = m,.k = k,.every = k};
	int			j;

	if (g->ta)
	{
		gemm_pack_a(cpu->pack_a, g, i, m, l, k);
		group.a = cpu->pack_a;
		group.row = 1;
		group.step = GEMM_ROWS;
		group.tile = k;
	}
	else
	{
		group.a = g->a + i * g->lda + l;
		group.row = group.tile = g->lda;
		group.step = 1;
		group.even = true;
	}
	group.resume = g->chain && l > 0;
	group.add = g->accumulate || (!g->chain && l > 0);
	group.act = last ? g->act : DISTIL_ACT_NONE;
	group.b = cpu->pack_b;
	for (j = 0; j < g->n; j += GEMM_WIDE)
	{
		group.columns = g->n - j < GEMM_WIDE ? g->n - j : GEMM_WIDE;
		group.c = g->c + i * g->ldc + j;
		group.bias = last && g->bias != NULL ? g->bias + j : NULL;
		gemm_pack_b(cpu->pack_b, g, j, group.columns, l, k);
		gemm_group(&group);
	}
}

static void
gemm(CpuDevice *cpu, const Gemm *g)
{
	int			row_block = g->ta ? CPU_PACK_ROWS : g->m;
	int			l,
				i;

	if (g->k == 0)
	{
		for (i = 0; i < g->m && !g->accumulate; i++)
			memset(g->c + i * g->ldc, 0, g->n * sizeof(float));
		finish_rows(g->c, g->ldc, g->bias, g->act, g->m, g->n);
		return;
	}
	for (l = 0; l < g->k; l += CPU_PACK_STEPS)
	{
		for (i = 0; i < g->m; i += row_block)
			gemm_block(cpu, g, i, g->m - i < row_block ? g->m - i : row_block,
					   l, g->k - l < CPU_PACK_STEPS ? g->k - l : CPU_PACK_STEPS);
	}
}

#else

/* Four lanes are no match for a library: OpenBLAS multiplies, in blocks still cached for the epilogue. */
static void
gemm(CpuDevice *cpu, const Gemm *g)
{
	int			block = g->bias == NULL && g->act == DISTIL_ACT_NONE ? g->m : CPU_BLAS_ROWS;
	int			i;

	(void) cpu;
	for (i = 0; i < g->m; i += block)
	{
		int			rows = g->m - i < block ? g->m - i : block;
		float	   *c = g->c + i * g->ldc;

		distil_blas_gemm(g->ta, g->tb, rows, g->n, g->k, 1.0f, g->ta ? g->a + i : g->a + i * g->lda, g->lda,
						 g->b, g->ldb, g->accumulate ? 1.0f : 0.0f, c, g->ldc);
		finish_rows(c, g->ldc, g->bias, g->act, rows, g->n);
	}
}

#endif
