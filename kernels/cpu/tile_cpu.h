/*
 * tile_cpu.h
 *		Template: multiplication of small matrices in register tiles.
 *
 * The heads' matrices are small (32 to 64 columns), where a general GEMM spends its
 * time on packing.  Here b is used where it lies: rows of b must be contiguous, a may
 * have any strides (so that a transposed a costs nothing).
 */

#if CPU_LANES == 16
#define TILE_WIDE	4			/* vectors across, of 32 registers 6 * 4 hold sums */
#else
#define TILE_WIDE	2			/* of 16 registers 6 * 2 hold sums */
#endif
#define TILE_MAX_ROWS 12

typedef struct Tile
{
	const float *a;
	size_t		row;			/* a: from one row to the next */
	size_t		step;			/* a: from one column to the next */
	const float *b;
	size_t		ldb;
	float	   *c;
	size_t		ldc;
	int			k;
	float		alpha;
	bool		accumulate;
	bool		stream;			/* a comes from far away and its rows are long: fetch the next ones early */
} Tile;

/*
 * c[rows, wide vectors] at (i, j); rows and wide are constants after inlining.  part: how
 * many lanes of the last vector count, all of them except at the right edge.
 */
static inline __attribute__((always_inline)) void
tile_block(const Tile *t, int i, size_t j, int rows, int wide, size_t part)
{
	vf			sum[TILE_MAX_ROWS][TILE_WIDE];
	const float *a = t->a + i * t->row;
	const float *b = t->b + j;
	float	   *c = t->c + i * t->ldc + j;
	int			r,
				v,
				l;

#pragma GCC unroll 12
	for (r = 0; r < rows; r++)
	{
#pragma GCC unroll 4
		for (v = 0; v < wide; v++)
			sum[r][v] = (vf) {0};
	}
	for (l = 0; l < t->k; l++)
	{
		vf			bv[TILE_WIDE];

		if (t->stream && l % 16 == 0)
		{
			for (r = 0; r < rows; r++)
				__builtin_prefetch(a + (rows + r) * t->row);
		}
#pragma GCC unroll 4
		for (v = 0; v < wide; v++)
			bv[v] = v == wide - 1 ? v_get(b + v * LANES, part) : v_load(b + v * LANES);
#pragma GCC unroll 12
		for (r = 0; r < rows; r++)
		{
			vf			av = v_set(a[r * t->row]);

#pragma GCC unroll 4
			for (v = 0; v < wide; v++)
				sum[r][v] = v_fma(bv[v], av, sum[r][v]);
		}
		a += t->step;
		b += t->ldb;
	}
#pragma GCC unroll 12
	for (r = 0; r < rows; r++)
	{
#pragma GCC unroll 4
		for (v = 0; v < wide; v++)
		{
			float	   *at = c + r * t->ldc + v * LANES;
			size_t		lanes = v == wide - 1 ? part : LANES;
			vf			result = sum[r][v] * t->alpha;

			v_put(at, t->accumulate ? v_get(at, lanes) + result : result, lanes);
		}
	}
}

/* All rows of one strip of columns. */
#define TILE_STRIP(name, wide, most, part_of_last) \
	static void \
	name(const Tile *t, int m, size_t j, size_t part) \
	{ \
		int			i = 0; \
		(void) part; \
		for (; i + (most) <= m; i += (most)) \
			tile_block(t, i, j, most, wide, part_of_last); \
		for (; i + 3 <= m; i += 3) \
			tile_block(t, i, j, 3, wide, part_of_last); \
		for (; i < m; i++) \
			tile_block(t, i, j, 1, wide, part_of_last); \
	}

#if CPU_LANES == 16
TILE_STRIP(tile_strip4, 4, 6, LANES)
TILE_STRIP(tile_strip2, 2, 12, LANES)
#else
TILE_STRIP(tile_strip2, 2, 6, LANES)
#endif
TILE_STRIP(tile_strip1, 1, 12, LANES)
TILE_STRIP(tile_edge, 1, 6, part)

/* c[m, n] = alpha * a[m, k] b[k, n], or += when t->accumulate; sizes of c as given. */
static void
tile_multiply(const Tile *t, int m, int n)
{
	size_t		columns = n;
	size_t		j = 0;

#if CPU_LANES == 16
	for (; j + 4 * LANES <= columns; j += 4 * LANES)
		tile_strip4(t, m, j, LANES);
#endif
	for (; j + 2 * LANES <= columns; j += 2 * LANES)
		tile_strip2(t, m, j, LANES);
	for (; j + LANES <= columns; j += LANES)
		tile_strip1(t, m, j, LANES);
	if (j < columns)
		tile_edge(t, m, j, columns - j);
}

/* to[c][r] = from[r][c]; to has rows of ldt floats, zero behind the first `rows` */
static void
transpose(float *to, size_t ldt, const float *from, size_t ld, int rows, int columns)
{
	int			r,
				c;

	for (c = 0; c < columns; c++)
	{
		float	   *line = to + c * ldt;

		for (r = 0; r < rows; r++)
			line[r] = from[r * ld + c];
		memset(line + rows, 0, (ldt - rows) * sizeof(float));
	}
}
