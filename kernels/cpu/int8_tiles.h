/*
 * int8_tiles.h
 *		Template: 8-bit products on a matrix unit.
 */
#include "tile_amx.h"

#define TILE_DOT TILE_DOT_INT8

typedef Int8Columns ProductColumns;

static inline void
product_columns(ProductColumns *columns, const void *context, int column)
{
	int8_columns(columns, ((const Int8Linear *) context)->w, column);
}

static inline __attribute__((always_inline)) void
product_finish(const ProductColumns *columns, const char *sums, char *to, const float *factors,
			   DistilActivation act, DistilType type)
{
	(void) act;
	int8_finish_whole(columns, (const int32_t *) (const void *) sums, to, factors[0], factors[1], type);
}

static __attribute__((noinline)) void
product_finish_part(const void *context, const ProductColumns *columns, const char *sums, char *to, int row,
					int column, int rows, size_t ldy)
{
	const Int8Linear *l = context;

	(void) column;
	for (; rows > 0; rows--, row++, sums += INT8_PAIR * sizeof(int32_t), to += ldy)
		int8_finish_part(l, columns, (const int32_t *) (const void *) sums, to, l->factors[row]);
}

#include "tile_product.h"

static inline __attribute__((always_inline)) void
int8_multiply(const Int8Linear *l, DistilActivation act, DistilType type)
{
	TileProduct p = {.context = l,.x = l->x->data,.ldx = l->x->ld,.factors = l->factors,.y = l->y->data,
		.size = distil_type_size(l->y->type),.w = l->w->data,
	.panel = distil_weight_bytes(DISTIL_TYPE_INT8, DISTIL_PANEL, l->w->k),.share = 2,.m = l->m,.n = l->w->n};

	p.ldy = l->y->ld * p.size;
	multiply_tiles(&p, act, type);
}
