/*
 * linear_amx.h
 *		y = act(x w^T + bias) in BF16 by tiles: blocks of 32 rows by 32 columns, four tiles of sums.
 *
 * The outer loop goes over pairs of panels, so that weights come from memory once and, for usual widths,
 * stay in the first cache while all rows pass.  While a block is multiplied, the rows of the one
 * before it are finished, a few for each step: the matrix unit and the vector units work at the
 * same time.  Every output is one chain in the order of k, whatever rows are beside it.
 */

#define BLOCK 32				/* rows and columns */
#define CHUNK_BYTES ((size_t) 256 << 10)	/* of weights that stay in the second cache for all rows */

/* A product under way. */
typedef struct AmxProduct
{
	Epilogue	epilogue;
	const float *sums;			/* [BLOCK][BLOCK] of the block to be finished */
	size_t		row;			/* its first row not yet finished */
	size_t		end;
	int			column;
	const char *next;			/* weights asked for from memory meanwhile; addresses only */
	int			lines;			/* of them for each step */
	int			turn;			/* where the next block's sums go */
} AmxProduct;

/* Finish at most `count` rows. */
static inline __attribute__((always_inline)) void
finish_some(AmxProduct *p, int count)
{
	for (; count > 0 && p->row < p->end; count--, p->row++, p->sums += BLOCK)
		finish_columns(&p->epilogue, p->row, p->column, _mm512_load_ps(p->sums),
					   _mm512_load_ps(p->sums + 16));
}

/* The sums of a block; two: it has more than 16 rows.  b0, b1: its panels. */
static inline __attribute__((always_inline)) void
multiply_block(AmxProduct *p, float *sums, const char *a, size_t lda, const char *b0, const char *b1,
			   int steps, bool two)
{
	const char *a1 = a + TILE_ROWS * lda;
	int			share = (BLOCK + steps - 1) / steps;
	int			s,
				l;

	TILE_ZERO(0);
	TILE_ZERO(1);
	if (two)
	{
		TILE_ZERO(2);
		TILE_ZERO(3);
	}
	for (s = 0; s < steps; s++)
	{
		TILE_LOAD(4, a, lda);
		TILE_LOAD(6, b0, 64);
		TILE_LOAD(7, b1, 64);
		TILE_DOT_BF16(0, 4, 6);
		TILE_DOT_BF16(1, 4, 7);
		if (two)
		{
			TILE_LOAD(5, a1, lda);
			TILE_DOT_BF16(2, 5, 6);
			TILE_DOT_BF16(3, 5, 7);
		}
		finish_some(p, share);
		for (l = 0; l < p->lines; l++, p->next += 64)
			__builtin_prefetch(p->next, 0, 2);
		a += 64;
		a1 += 64;
		b0 += TILE_BYTES;
		b1 += TILE_BYTES;
	}
	finish_some(p, BLOCK);
	TILE_STORE(0, sums, BLOCK * sizeof(float));
	TILE_STORE(1, sums + 16, BLOCK * sizeof(float));
	if (two)
	{
		TILE_STORE(2, sums + 16 * BLOCK, BLOCK * sizeof(float));
		TILE_STORE(3, sums + 16 * BLOCK + 16, BLOCK * sizeof(float));
	}
}

/* Blocks of one row of blocks (rows from i on) and of the columns [first, end). */
static void
multiply_rows(AmxProduct *p, float (*sums)[BLOCK * BLOCK], const DistilRows *x, const DistilWeight *w, int i,
			  int m, int first, int end)
{
	size_t		lda = x->ld * sizeof(uint16_t);
	size_t		panel = distil_row_length(DISTIL_TYPE_BF16, w->k) * DISTIL_PANEL * sizeof(uint16_t);
	const char *a = (const char *) x->data + i * lda;
	int			steps = (int) (panel / TILE_BYTES);
	int			j;

	for (j = first; j < end; j += BLOCK)
	{
		const char *b0 = (const char *) w->data + j / DISTIL_PANEL * panel;
		const char *b1 = j + DISTIL_PANEL < w->n ? b0 + panel : b0;
		float	   *to = sums[p->turn];


		if (m - i > TILE_ROWS)
			multiply_block(p, to, a, lda, b0, b1, steps, true);
		else
			multiply_block(p, to, a, lda, b0, b1, steps, false);
		p->sums = to;
		p->row = i;
		p->end = m - i < BLOCK ? m : i + BLOCK;
		p->column = j;
		p->turn ^= 1;
	}
}

static void
linear_bf16_amx(DistilDevice *dev, const DistilRows *y, const DistilRows *x, const DistilWeight *w,
				DistilActivation act, int m)
{
	float		sums[2][BLOCK * BLOCK] __attribute__((aligned(64)));
	AmxProduct	p = {.epilogue = {y, w->bias, act, w->n}};
	size_t		pair = distil_row_length(DISTIL_TYPE_BF16, w->k) * BLOCK * sizeof(uint16_t);
	int			columns = pair < CHUNK_BYTES ? (int) (CHUNK_BYTES / pair) * BLOCK : BLOCK;
	int			first,
				i;

	(void) dev;
	/* with one row of blocks the weights are read as fast as memory gives them */
	p.lines = m <= BLOCK ? 0 : 2 * TILE_ROWS / ((m + BLOCK - 1) / BLOCK);
	tile_begin();
	for (first = 0; first < w->n; first += columns)
	{
		int			end = w->n - first < columns ? w->n : first + columns;

		p.next = (const char *) ((uintptr_t) w->data + (size_t) end / BLOCK * pair);
		for (i = 0; i < m; i += BLOCK)
			multiply_rows(&p, sums, x, w, i, m, first, end);
	}
	finish_some(&p, BLOCK);
	tile_end();
}
