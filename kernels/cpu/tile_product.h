/*
 * tile_product.h
 *		Template: products on a matrix unit in blocks of 32 rows by 32 columns, four tiles of sums.
 *
 * The including file defines TILE_DOT (of its type), ProductColumns (what a block's columns contribute),
 * product_columns(), which fills it, product_finish(), which takes the sums of one row to their place where
 * all columns exist, and product_finish_part() for any other block.
 *
 * Weights are cut into chunks that stay in the second cache while all rows pass, a block's rows stay in the
 * first one while the chunk passes.  While a block is multiplied, the rows of the one before it are finished,
 * some for each step: the matrix unit and the vector units work at the same time.  Every output is one
 * chain in the order of k, whatever rows are beside it.  The inner loop has hardly a register to spare.
 */
#define BLOCK 32				/* rows and columns */
#define SUMS_BYTES (BLOCK * sizeof(float))	/* of a row of a block; sums are floats or int32 */
#define CHUNK_BYTES ((size_t) 256 << 10)

typedef struct TileProduct
{
	const void *context;		/* the including file's */
	const char *x;				/* rows ldx bytes apart */
	size_t		ldx;
	const float (*factors)[2];	/* of the rows, for product_finish() */
	char	   *y;
	size_t		ldy;
	size_t		size;			/* of an element of y */
	const char *w;				/* panels of `panel` bytes */
	size_t		panel;
	int			steps;			/* tiles of a panel */
	int			share;			/* rows to be finished in a step, a power of 2; first the least, from 2 on */
	int			m;
	int			n;
	const char *next;			/* weights asked for from memory meanwhile; addresses only */
	int			lines;			/* of them for each step */
} TileProduct;

/* A block whose sums wait to be finished. */
typedef struct TileBlock
{
	const ProductColumns *columns;
	const char *sums;
	char	   *to;
	int			row;
	int			column;
	int			rows;			/* 0: there is no such block */
} TileBlock;

static inline void
finish_part(const TileProduct *p, const TileBlock *b)
{
	product_finish_part(p->context, b->columns, b->sums, b->to, b->row, b->column, b->rows, p->ldy);
}

static inline __attribute__((always_inline)) void
multiply_step(const char *a, size_t ldx, const char *b0, const char *b1, bool two)
{
	TILE_LOAD(4, a, ldx);
	TILE_LOAD_ONCE(6, b0, 64);
	TILE_LOAD_ONCE(7, b1, 64);
	TILE_DOT(0, 4, 6);
	TILE_DOT(1, 4, 7);
	if (two)
	{
		TILE_LOAD(5, a + TILE_ROWS * ldx, ldx);
		TILE_DOT(2, 5, 6);
		TILE_DOT(3, 5, 7);
	}
}

static inline __attribute__((always_inline)) const char *
ask_for(const char *next, int lines)
{
	for (; lines > 0; lines--, next += 64)
		__builtin_prefetch(next, 0, 2);
	return next;
}

/*
 * sums = those of a block; in between `before` is finished.  two: it has more than 16 rows.  b0, b1: its
 * panels.
 */
static inline __attribute__((always_inline)) void
multiply_block(TileProduct *p, const TileBlock *before, char *sums, const char *a, const char *b0,
			   const char *b1, bool two, DistilActivation act, DistilType type)
{
	const char *from = before->sums;
	char	   *to = before->to;
	const float (*factors)[2] = p->factors + before->row;
	const char *next = p->next;
	size_t		ldx = p->ldx;
	size_t		ldy = p->ldy;
	int			lines = p->lines;
	int			steps = p->steps;
	int			l;

	TILE_ZERO(0);
	TILE_ZERO(1);
	if (two)
	{
		TILE_ZERO(2);
		TILE_ZERO(3);
	}
	if (act == DISTIL_ACT_SIGMOID || before->column + BLOCK > p->n)
		finish_part(p, before);
	else
	{
		int			busy = before->rows / p->share;

		steps -= busy;
		for (l = before->rows % p->share; l > 0; l--, from += SUMS_BYTES, to += ldy, factors++)
			product_finish(before->columns, from, to, factors[0], act, type);
		for (; busy > 0; busy--, a += 64, b0 += TILE_BYTES, b1 += TILE_BYTES)
		{
			multiply_step(a, ldx, b0, b1, two);
			for (l = p->share; l > 0; l -= 2, from += 2 * SUMS_BYTES, to += 2 * ldy, factors += 2)
			{
				product_finish(before->columns, from, to, factors[0], act, type);
				product_finish(before->columns, from + SUMS_BYTES, to + ldy, factors[1], act, type);
			}
			next = ask_for(next, lines);
		}
	}
	for (; steps > 0; steps--, a += 64, b0 += TILE_BYTES, b1 += TILE_BYTES)
	{
		multiply_step(a, ldx, b0, b1, two);
		next = ask_for(next, lines);
	}
	p->next = next;
	TILE_STORE(0, sums, SUMS_BYTES);
	TILE_STORE(1, sums + 64, SUMS_BYTES);
	if (two)
	{
		TILE_STORE(2, sums + TILE_ROWS * SUMS_BYTES, SUMS_BYTES);
		TILE_STORE(3, sums + TILE_ROWS * SUMS_BYTES + 64, SUMS_BYTES);
	}
}

/* act and type are constants after inlining; DISTIL_ACT_SIGMOID: any that has no code of its own */
static inline __attribute__((always_inline)) void
multiply_tiles(TileProduct *p, DistilActivation act, DistilType type)
{
	char		sums[2][BLOCK * SUMS_BYTES] __attribute__((aligned(64)));
	ProductColumns columns[2];
	TileBlock	before = {0};
	int			width = 2 * p->panel < CHUNK_BYTES ? (int) (CHUNK_BYTES / (2 * p->panel)) * BLOCK : BLOCK;
	int			turn = 0;
	int			first,
				i,
				j;

	p->steps = (int) (p->panel / TILE_BYTES);
	while (p->share * p->steps < BLOCK)
		p->share *= 2;
	/* with one row of blocks the weights are read as fast as memory gives them */
	p->lines = p->m <= BLOCK ? 0 : 2 * TILE_ROWS / ((p->m + BLOCK - 1) / BLOCK);
	tile_begin();
	for (first = 0; first < p->n; first += width)
	{
		int			end = p->n - first < width ? p->n : first + width;

		p->next = (const char *) ((uintptr_t) p->w + (size_t) end / DISTIL_PANEL * p->panel);
		for (i = 0; i < p->m; i += BLOCK)
		{
			const char *a = p->x + i * p->ldx;

			for (j = first; j < end; j += BLOCK, turn ^= 1)
			{
				const char *b0 = p->w + j / DISTIL_PANEL * p->panel;
				const char *b1 = j + DISTIL_PANEL < p->n ? b0 + p->panel : b0;

				product_columns(&columns[turn], p->context, j);
				if (p->m - i > TILE_ROWS)
					multiply_block(p, &before, sums[turn], a, b0, b1, true, act, type);
				else
					multiply_block(p, &before, sums[turn], a, b0, b1, false, act, type);
				before = (TileBlock) {&columns[turn], sums[turn], p->y + i * p->ldy + j * p->size, i, j,
				p->m - i < BLOCK ? p->m - i : BLOCK};
			}
		}
	}
	finish_part(p, &before);
	tile_end();
}
