/*
 * int8_tiles.h
 *		Template: 8-bit products on a matrix unit: blocks of 32 rows and 32 columns, four tiles of sums.
 *
 * While one block is multiplied, the rows of the block before it are finished (bias, activation,
 * rounding): the vector units would otherwise wait for the matrix unit and the other way round.
 * The outer loop goes over pairs of panels, so that weights come from memory once; the next pair is asked
 * for while this one is multiplied.
 */
#include "tile_amx.h"

#define BLOCK_ROWS (2 * TILE_ROWS)

/* Rows of a block whose sums wait to be finished. */
typedef struct Int8Block
{
	const Int8Columns *columns;
	const int32_t *sums;		/* of the next row, INT8_PAIR of them */
	const float *scale;
	const float *shift;
	char	   *to;
	int			rows;
} Int8Block;

static inline __attribute__((always_inline)) void
int8_finish_some(const Int8Linear *l, Int8Block *block, int rows, DistilActivation act, DistilType type)
{
	size_t		step = l->y->ld * distil_type_size(l->y->type);

	rows = rows < block->rows ? rows : block->rows;
	block->rows -= rows;
	for (; rows > 0; rows--)
	{
		int8_finish_row(l, block->columns, block->sums, block->to, *block->scale++, *block->shift++, act, type);
		block->sums += INT8_PAIR;
		block->to += step;
	}
}

/* sums = the products of one block; in between, `before` is finished.  two: it has more than 16 rows. */
static inline __attribute__((always_inline)) void
int8_multiply_block(const Int8Linear *l, Int8Block *before, int32_t *sums, const char *a, const char *b0,
					const char *b1, const char *next, int lines, int steps, bool two, DistilActivation act,
					DistilType type)
{
	size_t		lda = l->x->ld;
	const char *a1 = a + TILE_ROWS * lda;
	int			share = (BLOCK_ROWS + steps - 1) / steps;
	int			step;
	int			line;

	TILE_ZERO(0);
	TILE_ZERO(1);
	if (two)
	{
		TILE_ZERO(2);
		TILE_ZERO(3);
	}
	for (step = 0; step < steps; step++)
	{
		TILE_LOAD(4, a, lda);
		TILE_LOAD(6, b0, 64);
		TILE_LOAD(7, b1, 64);
		TILE_DOT_INT8(0, 4, 6);
		TILE_DOT_INT8(1, 4, 7);
		if (two)
		{
			TILE_LOAD(5, a1, lda);
			TILE_DOT_INT8(2, 5, 6);
			TILE_DOT_INT8(3, 5, 7);
		}
		for (line = 0; line < lines; line++, next += 64)
			__builtin_prefetch(next, 0, 2);
		int8_finish_some(l, before, share, act, type);
		a += 64;
		a1 += 64;
		b0 += TILE_BYTES;
		b1 += TILE_BYTES;
	}
	int8_finish_some(l, before, BLOCK_ROWS, act, type);
	TILE_STORE(0, sums, INT8_PAIR * sizeof(int32_t));
	TILE_STORE(1, sums + DISTIL_PANEL, INT8_PAIR * sizeof(int32_t));
	if (two)
	{
		TILE_STORE(2, sums + TILE_ROWS * INT8_PAIR, INT8_PAIR * sizeof(int32_t));
		TILE_STORE(3, sums + TILE_ROWS * INT8_PAIR + DISTIL_PANEL, INT8_PAIR * sizeof(int32_t));
	}
}

static inline __attribute__((always_inline)) void
int8_multiply(const Int8Linear *l, DistilActivation act, DistilType type)
{
	int32_t		sums[2][BLOCK_ROWS * INT8_PAIR] __attribute__((aligned(64)));
	Int8Columns columns[2];
	Int8Block	before = {0};
	size_t		panel = DISTIL_PANEL * distil_row_length(DISTIL_TYPE_INT8, l->w->k);
	int			steps = (int) (panel / TILE_BYTES);
	int			turn = 0;
	int			strip = 0;
	int			blocks = (l->m + BLOCK_ROWS - 1) / BLOCK_ROWS;
	int			lines = (2 * TILE_ROWS + blocks - 1) / blocks;
	int			column,
				row;

	tile_begin();
	for (column = 0; column < l->w->n; column += INT8_PAIR, strip ^= 1)
	{
		const char *b0 = (const char *) l->w->data + column / DISTIL_PANEL * panel;
		const char *b1 = column + DISTIL_PANEL < l->w->n ? b0 + panel : b0;
		const char *next = b0 + 2 * panel;

		int8_columns(&columns[strip], l->w, column);
		for (row = 0; row < l->m; row += BLOCK_ROWS, turn ^= 1, next += (size_t) lines * steps * 64)
		{
			const char *a = (const char *) l->x->data + row * l->x->ld;

			if (l->m - row > TILE_ROWS)
				int8_multiply_block(l, &before, sums[turn], a, b0, b1, next, lines, steps, true, act,
									type);
			else
				int8_multiply_block(l, &before, sums[turn], a, b0, b1, next, lines, steps, false, act,
									type);
			before = (Int8Block) {&columns[strip], sums[turn], l->x->scale + row, l->shift + row,
			int8_place(l, row, column), l->m - row < BLOCK_ROWS ? l->m - row : BLOCK_ROWS};
		}
	}
	int8_finish_some(l, &before, BLOCK_ROWS, act, type);
	tile_end();
}
