/*
 * linear.c
 *		Linear layers cut into units of DISTIL_UNIT_FLOPS, with a poll before each.
 *
 * A product is cut into blocks of rows x columns of its output.  Which side is cut
 * decides the speed: every block reads its part of x and of w again, so a tall
 * output (many tokens) is cut into rows, a wide one (the vocabulary) into columns,
 * and only what is big both ways into squares.  The sum over the inner dimension is
 * cut only where the operation accumulates anyway.
 */
#include <math.h>

#include "layers.h"

/*
 * Keeps blocks aligned for the kernels; a multiple of what they take at
 * a time (48), and of a cache line's BF16.
 */
#define BLOCK_MULTIPLE 96
/* Weights one unit reads: with few rows memory sets the time, not the flops (32 MB, about 5 ms). */
#define UNIT_WEIGHTS ((double) (8 << 20))

/* Size of a block: `total` cut into equal parts of at most `limit`. */
static int
even_block(int total, double limit)
{
	int			parts;
	int			block;

	if (limit >= total)
		return total;
	if (limit < BLOCK_MULTIPLE)
		limit = BLOCK_MULTIPLE;
	parts = (int) ((total + limit - 1) / limit);
	block = (total + parts - 1) / parts;
	block = (block + BLOCK_MULTIPLE - 1) / BLOCK_MULTIPLE * BLOCK_MULTIPLE;
	return block < total ? block : total;
}

/* Blocks of an output [rows, cols] whose every element costs 2 * inner flops. */
static void
choose_blocks(int *row_block, int *col_block, int rows, int cols, int inner, const DistilDevice *device)
{
	double		units = distil_device_units(device);
	double		area = DISTIL_UNIT_FLOPS * units / (2.0 * inner);
	double		side = sqrt(area);

	if (rows <= side)
	{
		*row_block = rows;
		*col_block = even_block(cols, area / rows);
	}
	else if (cols <= side)
	{
		*col_block = cols;
		*row_block = even_block(rows, area / cols);
	}
	else
	{
		*row_block = even_block(rows, side);
		*col_block = even_block(cols, area / *row_block);
	}
	if ((double) *col_block * inner > UNIT_WEIGHTS * units)
		*col_block = even_block(cols, UNIT_WEIGHTS * units / inner);
}

static int
min_int(int a, int b)
{
	return a < b ? a : b;
}

/* w plain or packed; a block's columns start at a panel either way. */
static DistilStatus
forward(float *y, size_t ldy, const float *x, size_t ldx, const float *w, bool packed, const float *b,
		DistilActivation act, int m, int n, int k,
		DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	int			mb;
	int			nb;
	int			i;
	int			j;

	choose_blocks(&mb, &nb, m, n, k, device);
	for (i = 0; i < m; i += mb)
		for (j = 0; j < n; j += nb)
		{
			DISTIL_POLL(poll, err);
			(packed ? device->ops->linear_forward_packed : device->ops->linear_forward)
				(device, y + (size_t) i * ldy + j, ldy, x + (size_t) i * ldx, ldx,
				 w + (size_t) j * k, b != NULL ? b + j : NULL, act,
				 min_int(mb, m - i), min_int(nb, n - j), k);
		}
	return DISTIL_OK;
}

/* y[m, n] = act(x[m, k] w^T + b), w plain; b may be NULL */
DistilStatus
distil_linear_forward(float *y, size_t ldy, const float *x, size_t ldx, const float *w, const float *b,
					  DistilActivation act, int m, int n, int k,
					  DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	return forward(y, ldy, x, ldx, w, false, b, act, m, n, k, device, poll, err);
}

DistilStatus
distil_param_forward(float *y, size_t ldy, const float *x, size_t ldx, const DistilSpec *spec,
					 const float *weights, int weight, int bias, DistilActivation act, int m,
					 DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	const DistilParam *param = &spec->table.params[weight];
	bool		packed = (param->flags & DISTIL_PARAM_PACKED) != 0 &&
		device->ops->linear_forward_packed != NULL;

	return forward(y, ldy, x, ldx, weights + param->offset, packed, distil_weight(spec, weights, bias), act,
				   m, param->rows, param->cols, device, poll, err);
}

/* Columns from `first` on, `count` of them. */
static DistilWeight
weight_columns(const DistilWeight *w, int first, int count)
{
	DistilWeight part = *w;

	part.n = count;
	part.data = (const char *) w->data + distil_weight_bytes(w->type, first, w->k);
	part.bias = w->bias != NULL ? w->bias + first : NULL;
	part.scale = w->scale != NULL ? w->scale + first : NULL;
	part.sum = w->sum != NULL ? w->sum + first : NULL;
	part.order = w->order != NULL ? w->order + distil_order_length(first, w->k) : NULL;
	return part;
}

DistilStatus
distil_linear_rows(const DistilRows *y, const DistilRows *x, const DistilWeight *w, DistilActivation act,
				   int m, DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	int			mb;
	int			nb;
	int			i;
	int			j;

	choose_blocks(&mb, &nb, m, w->n, w->k, device);
	for (i = 0; i < m; i += mb)
		for (j = 0; j < w->n; j += nb)
		{
			DistilWeight part = weight_columns(w, j, min_int(nb, w->n - j));
			DistilRows	from = distil_rows_from(x, i);
			DistilRows	to = distil_rows_from(y, i);

			to.data = (char *) to.data + (size_t) j * distil_type_size(y->type);
			DISTIL_POLL(poll, err);
			device->ops->linear_rows(device, &to, &from, &part, act, min_int(mb, m - i));
		}
	return DISTIL_OK;
}

/* dx[m, k] = dy[m, n] w, cut into rows, and along n when that is the long side */
static DistilStatus
backward_input(float *dx, size_t lddx, bool accumulate, const float *dy, size_t lddy, const float *w,
			   int m, int n, int k, DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	int			mb;
	int			nb;
	int			i;
	int			j;

	choose_blocks(&mb, &nb, m, n, k, device);
	for (i = 0; i < m; i += mb)
		for (j = 0; j < n; j += nb)
		{
			DISTIL_POLL(poll, err);
			device->ops->linear_backward_input(device, dx + (size_t) i * lddx, lddx,
											   dy + (size_t) i * lddy + j, lddy, w + (size_t) j * k,
											   accumulate || j > 0,
											   min_int(mb, m - i), min_int(nb, n - j), k);
		}
	return DISTIL_OK;
}

/* dw[n, k] += dy^T x, db[n] += column sums of dy */
static DistilStatus
backward_weight(float *dw, float *db, const float *dy, size_t lddy, const float *x, size_t ldx,
				int m, int n, int k, DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	double		units = distil_device_units(device);
	double		area = DISTIL_UNIT_FLOPS * units / (2.0 * k);
	int			nb = even_block(n, fmin(fmax(area / m, 128.0), fmax(UNIT_WEIGHTS * units / 2 / k, 128.0)));
	int			mb = even_block(m, area / nb);
	int			i;
	int			j;

	for (j = 0; j < n; j += nb)
		for (i = 0; i < m; i += mb)
		{
			DISTIL_POLL(poll, err);
			device->ops->linear_backward_weight(device, dw + (size_t) j * k, db != NULL ? db + j : NULL,
												dy + (size_t) i * lddy + j, lddy, x + (size_t) i * ldx, ldx,
												min_int(mb, m - i), min_int(nb, n - j), k);
		}
	return DISTIL_OK;
}

/*
 * dx[m, k] = (or +=) dy w;  dw += dy^T x;  db += sums of dy.  dx NULL: not wanted;
 * dw NULL: the layer is frozen, then db is not touched either.
 */
DistilStatus
distil_linear_backward(float *dx, size_t lddx, bool accumulate, float *dw, float *db,
					   const float *dy, size_t lddy, const float *x, size_t ldx, const float *w,
					   int m, int n, int k,
					   DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	if (dw != NULL)
		DISTIL_FORWARD(backward_weight(dw, db, dy, lddy, x, ldx, m, n, k, device, poll, err));
	if (dx != NULL)
		DISTIL_FORWARD(backward_input(dx, lddx, accumulate, dy, lddy, w, m, n, k, device, poll, err));
	return DISTIL_OK;
}
