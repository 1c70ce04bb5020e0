/*
 * int8_vectors.h
 *		Template: 8-bit products with dot products of vectors.
 *
 * The including file gives INT8_TILE_ROWS, INT8_TILE_REST (for the last rows), INT8_TILE_PANELS (1 or 2)
 * and int8_tile(), which makes the sums of `rows` rows (a constant after inlining) and so many panels, and
 * calls int8_ask() once for each step.
 */

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
		int8_tile(sums + i * DISTIL_PANEL, x, l->x->ld, (const int8_t *) panel + (size_t) i * 16 * length,
				  panels == 2 ? 16 * length : 0, steps, rows, fetch);
	for (i = 0; i < rows; i++)
		int8_finish_row(l, columns, sums + i * INT8_PAIR, int8_place(l, row + i, columns->first),
						l->factors[row + i], act, type);
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
	int			column,
				row;

	for (column = 0; column < l->w->n; column += INT8_PAIR)
	{
		const char *at = (const char *) l->w->data + (size_t) column / DISTIL_PANEL * panel;

		fetch.next = (uintptr_t) at + 2 * panel;
		int8_columns(&columns, l->w, column);
		for (row = 0; row + INT8_TILE_ROWS <= l->m; row += INT8_TILE_ROWS)
			int8_strip(l, &columns, at, &fetch, row, INT8_TILE_ROWS, act, type);
		for (; row + INT8_TILE_REST <= l->m; row += INT8_TILE_REST)
			int8_strip(l, &columns, at, &fetch, row, INT8_TILE_REST, act, type);
		for (; row < l->m; row++)
			int8_strip(l, &columns, at, &fetch, row, 1, act, type);
	}
}
