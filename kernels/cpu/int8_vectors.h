/*
 * int8_vectors.h
 *		Template: 8-bit products with dot products of vectors.
 *
 * The including file gives INT8_TILE_ROWS, INT8_TILE_PANELS (1 or 2) and int8_tile(), which makes the sums of
 * `rows` rows (a constant after inlining) and so many panels, and calls int8_ask() once for each step.
 */

_Static_assert(INT8_TILE_ROWS <= 6 || INT8_TILE_ROWS == 12, "heights of tiles are missing");

/* One tile of any height. */
static __attribute__((noinline)) void
int8_tile_rows(int32_t *sums, const uint8_t *x, size_t ld, const int8_t *w, size_t panel, int steps, int rows,
			   Int8Fetch *fetch)
{
#define INT8_HEIGHT(height) \
		case height: \
			int8_tile(sums, x, ld, w, panel, steps, height, fetch); \
			break;
	switch (rows)
	{
		INT8_HEIGHT(1) INT8_HEIGHT(2) INT8_HEIGHT(3) INT8_HEIGHT(4) INT8_HEIGHT(5) INT8_HEIGHT(6)
#if INT8_TILE_ROWS == 12
		INT8_HEIGHT(7) INT8_HEIGHT(8) INT8_HEIGHT(9) INT8_HEIGHT(10) INT8_HEIGHT(11) INT8_HEIGHT(12)
#endif
	}
#undef INT8_HEIGHT
}

static inline __attribute__((always_inline)) void
int8_strip(const Int8Linear *l, const Int8Columns *columns, const char *panel, Int8Fetch *fetch, int row,
		   int rows, DistilActivation act, DistilType type)
{
	int32_t		sums[INT8_TILE_ROWS * INT8_PAIR] __attribute__((aligned(64)));
	size_t		length = distil_row_length(DISTIL_TYPE_INT8, l->w->k);
	const uint8_t *x = (const uint8_t *) l->x->data + (size_t) row * l->x->ld;
	int			steps = (l->w->k + 3) / 4;
	int			panels = columns->count > DISTIL_PANEL ? 2 : 1;
	int			i;

	/* A second panel that is not there is the first one again: nobody looks at its sums. */
	for (i = 0; i < panels; i += INT8_TILE_PANELS)
		int8_tile_rows(sums + i * DISTIL_PANEL, x, l->x->ld,
					   (const int8_t *) panel + (size_t) i * 16 * length, panels == 2 ? 16 * length : 0,
					   steps, rows, fetch);
	int8_finish_rows(l, columns, sums, row, rows, act, type);
}

static inline __attribute__((always_inline)) void
int8_multiply(const Int8Linear *l, DistilActivation act, DistilType type)
{
	size_t		panel = 16 * distil_row_length(DISTIL_TYPE_INT8, l->w->k);
	int			strips = (l->m + INT8_TILE_ROWS - 1) / INT8_TILE_ROWS;
	/*
	 * so that all strips together ask for a block; with one of them
	 * weights are read as fast as memory gives them
	 */
	Int8Fetch	fetch = {0, strips > 1 ? (size_t) (INT8_TILE_PANELS * 64 + strips - 1) / strips : 0};
	Int8Columns columns;
	int			column;

	for (column = 0; column < l->w->n; column += INT8_PAIR)
	{
		const char *at = (const char *) l->w->data + (size_t) column / DISTIL_PANEL * panel;
		int			row = 0;
		int			left = strips;

		fetch.next = (uintptr_t) at + 2 * panel;
		int8_columns(&columns, l->w, column);
		/* strips alike: a few rows alone would wait for their own sums */
		for (; left > 0; left--)
		{
			int			rows = (l->m - row + left - 1) / left;

			int8_strip(l, &columns, at, &fetch, row, rows, act, type);
			row += rows;
		}
	}
}
