/*
 * low.c
 *		What the low-precision forward of all layers shares: rows, products, norms with a copy.
 *
 * The rule a newcomer would break: rows differ from a float32 array in their stride and in what must be
 * readable behind them, so an offset into them goes through distil_rows_from().
 */
#include <string.h>

#include "layers.h"

DistilRows
distil_rows_from(const DistilRows *rows, int first)
{
	DistilRows	from = *rows;

	from.data = (char *) rows->data + (size_t) first * rows->ld * distil_type_size(rows->type);
	if (rows->scale != NULL)
	{
		from.scale += first;
		from.zero += first;
	}
	return from;
}

DistilRows
distil_float_rows(float *data, size_t ld)
{
	DistilRows	rows = {.type = DISTIL_TYPE_F32,.data = data,.ld = ld};

	return rows;
}

DistilRows
distil_low_input(const DistilPass *pass, const DistilRows *rows, int weight)
{
	const DistilParam *param = &pass->spec->table.params[weight];
	DistilRows	input = *rows;

	input.type = param->type;
	input.ld = distil_row_stride(param->type, (size_t) param->cols);
	input.factor = distil_param_factor(pass->spec, pass->weights, weight);
	return input;
}

/* Rows of one unit, at least one. */
static int
unit_rows(const DistilDevice *device, int c)
{
	int			rows = (int) (DISTIL_UNIT_ELEMENTS(device) / (size_t) c);

	return rows > 0 ? rows : 1;
}

bool
distil_takes_kinds(const DistilSpec *spec, const DistilDevice *device)
{
	return spec->low != DISTIL_TYPE_F32 && spec->config.arch->family == &distil_family_post_norm &&
		!device->ops->own_memory;
}

/* From the last token on, as no kind's row lies behind one of its tokens'. */
DistilStatus
distil_spread_kinds(const DistilPass *pass, const DistilKinds *kinds, const DistilRows *rows, int c,
					DistilError *err)
{
	size_t		length = distil_row_length(rows->type, (size_t) c);
	size_t		bytes = (length < rows->ld ? length : rows->ld) * distil_type_size(rows->type);
	int			step = unit_rows(pass->device, c);
	int			i;

	for (i = pass->batch->ntokens - 1; i >= 0; i--)
	{
		if (i % step == 0)
			DISTIL_POLL(pass->poll, err);
		if (kinds->kind[i] < i)
			memcpy(distil_rows_from(rows, i).data, distil_rows_from(rows, kinds->kind[i]).data, bytes);
	}
	return DISTIL_OK;
}

DistilStatus
distil_low_operand(const DistilPass *pass, DistilRows *operand, const DistilRows *rows,
				   const DistilRows *copy, int weight, DistilActivation act, int m, DistilError *err)
{
	*operand = *rows;
	if (pass->spec->table.params[weight].type != DISTIL_TYPE_INT8)
		return DISTIL_OK;
	*operand = distil_low_input(pass, copy, weight);
	return distil_quantize_rows(operand, rows, act, m, pass->spec->table.params[weight].cols, pass->device,
								pass->poll, err);
}

DistilStatus
distil_param_rows(const DistilPass *pass, const DistilRows *y, const DistilRows *x, int weight, int bias,
				  DistilActivation act, int m, DistilError *err)
{
	DistilWeight w;

	distil_param_weight(&w, pass->spec, pass->weights, weight, bias);
	return distil_linear_rows(y, x, &w, act, m, pass->device, pass->poll, err);
}

DistilStatus
distil_norm_low_rows(float *y, const DistilRows *low, const float *x, const float *residual,
					 const float *gamma, const float *beta, float eps, int rows, int c,
					 DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	int			step = unit_rows(device, c);
	int			i;

	for (i = 0; i < rows; i += step)
	{
		size_t		at = (size_t) i * c;
		DistilRows	to = distil_rows_from(low, i);

		DISTIL_POLL(poll, err);
		device->ops->norm_rows(device, y + at, &to, x + at, residual != NULL ? residual + at : NULL, gamma,
							   beta, eps, rows - i < step ? rows - i : step, c);
	}
	return DISTIL_OK;
}

DistilStatus
distil_quantize_rows(const DistilRows *y, const DistilRows *x, DistilActivation act, int rows, int c,
					 DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	int			step = unit_rows(device, c);
	int			i;

	for (i = 0; i < rows; i += step)
	{
		DistilRows	to = distil_rows_from(y, i);
		DistilRows	from = distil_rows_from(x, i);

		DISTIL_POLL(poll, err);
		device->ops->quantize_rows(device, &to, &from, act, rows - i < step ? rows - i : step, c);
	}
	return DISTIL_OK;
}
