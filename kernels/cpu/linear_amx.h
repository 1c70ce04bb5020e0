/*
 * linear_amx.h
 *		y = act(x w^T + bias) in BF16 by tiles.
 */

#define TILE_DOT TILE_DOT_BF16

typedef struct ProductColumns
{
	__m512		bias[2];
} ProductColumns;

static inline void
product_columns(ProductColumns *columns, const void *context, int column)
{
	const Epilogue *e = context;
	int			i;

	for (i = 0; i < 2; i++, column += DISTIL_PANEL)
		columns->bias[i] = e->bias == NULL ? _mm512_setzero_ps()
			: _mm512_maskz_loadu_ps(column_mask(column, e->n), e->bias + column);
}

static inline __attribute__((always_inline)) void
product_finish(const ProductColumns *columns, const char *sums, char *to, const float *factors,
			   DistilActivation act, DistilType type)
{
	__m512		low = _mm512_add_ps(_mm512_load_ps(sums), columns->bias[0]);
	__m512		high = _mm512_add_ps(_mm512_load_ps(sums + 64), columns->bias[1]);

	(void) factors;
	finish_pair(to, low, high, act, type);
}

static __attribute__((noinline)) void
product_finish_part(const void *context, const ProductColumns *columns, const char *sums, char *to, int row,
					int column, int rows, size_t ldy)
{
	(void) columns;
	(void) to;
	(void) ldy;
	for (; rows > 0; rows--, row++, sums += 2 * DISTIL_PANEL * sizeof(float))
		finish_any(context, row, column, _mm512_load_ps(sums), _mm512_load_ps(sums + 64));
}

#include "tile_product.h"

/* The activations and types of results that have code of their own. */
#define PRODUCT_FUNCTION(name, act, type) \
	static __attribute__((noinline)) void \
	name(TileProduct *p) \
	{ \
		multiply_tiles(p, act, type); \
	}
PRODUCT_FUNCTION(multiply_none_f32, DISTIL_ACT_NONE, DISTIL_TYPE_F32)
PRODUCT_FUNCTION(multiply_none_bf16, DISTIL_ACT_NONE, DISTIL_TYPE_BF16)
PRODUCT_FUNCTION(multiply_gelu_bf16, DISTIL_ACT_GELU, DISTIL_TYPE_BF16)
PRODUCT_FUNCTION(multiply_any, DISTIL_ACT_SIGMOID, DISTIL_TYPE_F32)

static void
linear_bf16_amx(DistilDevice *dev, const DistilRows *y, const DistilRows *x, const DistilWeight *w,
				DistilActivation act, int m)
{
	Epilogue	e = {y, w->bias, act, w->n};
	TileProduct p = {.context = &e,.x = x->data,.ldx = x->ld * sizeof(uint16_t),.y = y->data,
		.size = distil_type_size(y->type),.w = w->data,
	.panel = distil_weight_bytes(DISTIL_TYPE_BF16, DISTIL_PANEL, w->k),.share = 2,.m = m,.n = w->n};

	(void) dev;
	p.ldy = y->ld * p.size;
	if (act == DISTIL_ACT_NONE && y->type == DISTIL_TYPE_F32)
		multiply_none_f32(&p);
	else if (act == DISTIL_ACT_NONE)
		multiply_none_bf16(&p);
	else if (act == DISTIL_ACT_GELU && y->type == DISTIL_TYPE_BF16)
		multiply_gelu_bf16(&p);
	else
		multiply_any(&p);
}
