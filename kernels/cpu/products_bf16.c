/*
 * products_bf16.c
 *		linear_* with operands rounded to bfloat16 on the way: what training with dtype bfloat16 uses.
 *
 * Weights, gradients and activations stay float32 in memory.  A product's operands are packed, block by
 * block, into the rows and panels that linear_rows takes; sums are float32, so only the operands'
 * rounding (2^-9 relative) is lost.  Packing costs as much as about 200 rows' products, which is
 * why products with few rows stay as they were.
 * Micikevicius et al. 2018, "Mixed Precision Training" (arXiv:1710.03740); with bfloat16 no loss scaling
 * is needed: Kalamkar et al. 2019 (arXiv:1905.12322).
 */
#include "products_bf16.h"

#include <string.h>

#if defined(__x86_64__)

#define PRODUCT_ROWS	1024
#define PRODUCT_COLUMNS 512
#define PRODUCT_STEPS	1536	/* of the inner dimension */
#define PRODUCT_BLOCK	64		/* rows whose sums are added at a time */
#define PRODUCT_LEAST	48		/* rows, columns and steps of a product that is worth it */

/* How a matrix [lines, k] lies in memory. */
typedef enum OperandForm
{
	OPERAND_LINES,				/* line by line, ld apart */
	OPERAND_COLUMNS,			/* transposed: [k, lines] */
	OPERAND_PANELS				/* packed float32 weight of ld columns */
} OperandForm;

typedef struct Operand
{
	const float *data;
	size_t		ld;
	OperandForm form;
} Operand;

/* c[m, n] = (or +=) act(a b^T + bias) */
typedef struct Product
{
	Operand		a;
	Operand		b;
	float	   *c;
	size_t		ldc;
	const float *bias;
	DistilActivation act;
	bool		accumulate;
	int			m;
	int			n;
	int			k;
} Product;

static const float *
operand_at(const Operand *operand, size_t line, size_t step)
{
	switch (operand->form)
	{
		case OPERAND_LINES:
			return operand->data + line * operand->ld + step;
		case OPERAND_COLUMNS:
			return operand->data + step * operand->ld + line;
		default:
			return operand->data + distil_packed_index(line, step, operand->ld);
	}
}

static void
pack_panels(uint16_t *to, const Operand *operand, int line, int n, int step, int k)
{
	size_t		length = distil_row_length(DISTIL_TYPE_BF16, (size_t) k);
	int			j;

	if (operand->form != OPERAND_PANELS)
	{
		distil_pack_panels_avx512(to, operand_at(operand, line, step), operand->ld,
								  operand->form == OPERAND_LINES, n, k);
		return;
	}
	for (j = 0; j < n; j += DISTIL_PANEL)
		distil_pack_panels_avx512(to + j * length, operand_at(operand, line + j, step), DISTIL_PANEL, false,
								  n - j < DISTIL_PANEL ? n - j : DISTIL_PANEL, k);
}

/* One block of packed rows against one of packed panels, into c at (i, j). */
static void
multiply_block(DistilDevice *dev, const CpuRounded *rounded, const Product *p, const DistilRows *x,
			   DistilWeight *w, int i, int j, int m, bool first)
{
	float	   *c = p->c + i * p->ldc + j;
	DistilRows	y = {.type = DISTIL_TYPE_F32,.data = c,.ld = p->ldc};
	DistilRows	part = *x;
	int			at,
				r,
				l;

	if (first && !p->accumulate)
	{
		dev->ops->linear_rows(dev, &y, x, w, p->act, m);
		return;
	}
	y.data = rounded->sums;
	y.ld = PRODUCT_COLUMNS;
	for (at = 0; at < m; at += PRODUCT_BLOCK)
	{
		int			count = m - at < PRODUCT_BLOCK ? m - at : PRODUCT_BLOCK;

		part.data = (uint16_t *) x->data + at * x->ld;
		dev->ops->linear_rows(dev, &y, &part, w, DISTIL_ACT_NONE, count);
		for (r = 0; r < count; r++)
		{
			float	   *to = c + (at + r) * p->ldc;
			const float *from = rounded->sums + (size_t) r * PRODUCT_COLUMNS;

			for (l = 0; l < w->n; l++)
				to[l] += from[l];
		}
	}
}

static void
multiply(DistilDevice *dev, const Product *p)
{
	CpuRounded *rounded = ((CpuDevice *) dev)->rounded;
	int			step,
				i,
				j;

	for (step = 0; step < p->k; step += PRODUCT_STEPS)
	{
		int			k = p->k - step < PRODUCT_STEPS ? p->k - step : PRODUCT_STEPS;
		DistilRows	x = {.type = DISTIL_TYPE_BF16,.data = rounded->rows,
			.ld = distil_row_stride(DISTIL_TYPE_BF16, (size_t) k)};
		DistilWeight w = {.type = DISTIL_TYPE_BF16,.k = k,.data = rounded->panels};

		for (i = 0; i < p->m; i += PRODUCT_ROWS)
		{
			int			m = p->m - i < PRODUCT_ROWS ? p->m - i : PRODUCT_ROWS;

			distil_pack_rows_avx512(rounded->rows, x.ld, operand_at(&p->a, i, step), p->a.ld,
									p->a.form == OPERAND_LINES, m, k);
			for (j = 0; j < p->n; j += PRODUCT_COLUMNS)
			{
				w.n = p->n - j < PRODUCT_COLUMNS ? p->n - j : PRODUCT_COLUMNS;
				w.bias = p->bias != NULL ? p->bias + j : NULL;
				pack_panels(rounded->panels, &p->b, j, w.n, step, k);
				multiply_block(dev, rounded, p, &x, &w, i, j, m, step == 0);
			}
		}
	}
}

static bool
worth_it(int m, int n, int k)
{
	return m >= PRODUCT_LEAST && n >= PRODUCT_LEAST && k >= PRODUCT_LEAST;
}

/* The operation of the set itself. */
static const DistilKernels *
exact(DistilDevice *dev)
{
	return ((CpuDevice *) dev)->exact;
}

static void
linear_forward(DistilDevice *dev, float *y, size_t ldy, const float *x, size_t ldx,
			   const float *w, const float *b, DistilActivation act, int m, int n, int k)
{
	if (!worth_it(m, n, k) || k > PRODUCT_STEPS)
		exact(dev)->linear_forward(dev, y, ldy, x, ldx, w, b, act, m, n, k);
	else
		multiply(dev, &(Product) {.a = {x, ldx, OPERAND_LINES},.b = {w, (size_t) k, OPERAND_LINES},
				 .c = y,.ldc = ldy,.bias = b,.act = act,.m = m,.n = n,.k = k});
}

static void
linear_forward_packed(DistilDevice *dev, float *y, size_t ldy, const float *x, size_t ldx,
					  const float *w, const float *b, DistilActivation act, int m, int n, int k)
{
	if (!worth_it(m, n, k) || k > PRODUCT_STEPS)
		exact(dev)->linear_forward_packed(dev, y, ldy, x, ldx, w, b, act, m, n, k);
	else
		multiply(dev, &(Product) {.a = {x, ldx, OPERAND_LINES},.b = {w, (size_t) k, OPERAND_PANELS},
				 .c = y,.ldc = ldy,.bias = b,.act = act,.m = m,.n = n,.k = k});
}

static void
linear_backward_input(DistilDevice *dev, float *dx, size_t lddx, const float *dy, size_t lddy,
					  const float *w, bool accumulate, int m, int n, int k)
{
	if (!worth_it(m, n, k))
		exact(dev)->linear_backward_input(dev, dx, lddx, dy, lddy, w, accumulate, m, n, k);
	else
		multiply(dev, &(Product) {.a = {dy, lddy, OPERAND_LINES},.b = {w, (size_t) k, OPERAND_COLUMNS},
				 .c = dx,.ldc = lddx,.accumulate = accumulate,.m = m,.n = k,.k = n});
}

static void
linear_backward_weight(DistilDevice *dev, float *dw, float *db, const float *dy, size_t lddy,
					   const float *x, size_t ldx, int m, int n, int k)
{
	if (!worth_it(m, n, k))
	{
		exact(dev)->linear_backward_weight(dev, dw, db, dy, lddy, x, ldx, m, n, k);
		return;
	}
	multiply(dev, &(Product) {.a = {dy, lddy, OPERAND_COLUMNS},.b = {x, ldx, OPERAND_COLUMNS},
			 .c = dw,.ldc = (size_t) k,.accumulate = true,.m = n,.n = k,.k = m});
	/* sums of columns, by the set's own order: a product without columns adds them only */
	if (db != NULL)
		exact(dev)->linear_backward_weight(dev, dw, db, dy, lddy, x, ldx, m, n, 0);
}

bool
distil_cpu_round_products(DistilDevice *dev, DistilType type)
{
	CpuDevice  *cpu = (CpuDevice *) dev;
	const DistilKernels *ops = cpu->exact;
	CpuRounded *rounded = cpu->rounded;

	dev->ops = ops;
	if (type == DISTIL_TYPE_F32)
		return true;
	if (type != DISTIL_TYPE_BF16 || ops->fast_type == NULL || ops->fast_type(dev) != DISTIL_TYPE_BF16)
		return false;
	if (rounded == NULL)
	{
		rounded = distil_host_alloc(NULL, sizeof(*rounded));
		if (rounded == NULL)
			return false;
		rounded->rows = distil_host_alloc(NULL, sizeof(uint16_t) *
										  distil_rows_elements(DISTIL_TYPE_BF16, PRODUCT_ROWS,
															   PRODUCT_STEPS));
		rounded->panels = distil_host_alloc(NULL, sizeof(uint16_t) * PRODUCT_COLUMNS * PRODUCT_STEPS);
		rounded->sums = distil_host_alloc(NULL, sizeof(float) * PRODUCT_BLOCK * PRODUCT_COLUMNS);
		if (rounded->rows == NULL || rounded->panels == NULL || rounded->sums == NULL)
		{
			distil_cpu_rounded_free(rounded);
			return false;
		}
		cpu->rounded = rounded;
	}
	rounded->ops = *ops;
	rounded->ops.linear_forward = linear_forward;
	rounded->ops.linear_forward_packed = linear_forward_packed;
	rounded->ops.linear_backward_input = linear_backward_input;
	rounded->ops.linear_backward_weight = linear_backward_weight;
	dev->ops = &rounded->ops;
	return true;
}

#else

bool
distil_cpu_round_products(DistilDevice *dev, DistilType type)
{
	(void) dev;
	return type == DISTIL_TYPE_F32;
}

#endif

void
distil_cpu_rounded_free(CpuRounded *rounded)
{
	if (rounded == NULL)
		return;
	distil_host_release(NULL, rounded->rows);
	distil_host_release(NULL, rounded->panels);
	distil_host_release(NULL, rounded->sums);
	distil_host_release(NULL, rounded);
}
