/*
 * image_int8.c
 *		Quantised weights of a container in the form an image has them: panels, scales, sums, factors.
 *
 * The rule a newcomer would break: the sources of a parameter (q, k and v) share their input, so a parameter
 * is INT8 only when they are quantised for the same factors; otherwise the image gets what they stand for.
 */
#include "image.h"

#include "safetensors.h"
#include "status.h"

#include <string.h>

#define PIECE ((size_t) 1 << 20)	/* read between polls */

static bool
turned(const DistilParam *param)
{
	return (param->flags & DISTIL_PARAM_TRANSPOSED) != 0;
}

/* Of a tensor: what the columns of the parameter, its inputs, are multiplied by. */
static const float *
input_factors(const DistilTensor *tensor, const DistilParam *param)
{
	return turned(param) ? tensor->row_factors : tensor->column_factors;
}

static const float *
output_scales(const DistilTensor *tensor, const DistilParam *param)
{
	return turned(param) ? tensor->column_factors : tensor->row_factors;
}

/* Sums of 8-bit products are 32 bits: 255 * 128 * 65793 is beyond them.  Wider ones run in bfloat16. */
#define MAX_INPUTS 65536
_Static_assert(MAX_INPUTS <= DISTIL_ORDER_INPUTS, "too many for an order of lines");

static bool
is_quantized(const DistilParam *param, const DistilTensor *const *sources)
{
	if (param->vector || param->cols > MAX_INPUTS)
		return false;
	for (int k = 0; k < param->nsources; k++)
		if (sources[k]->row_factors == NULL ||
			memcmp(input_factors(sources[k], param), input_factors(sources[0], param),
				   (size_t) param->cols * sizeof(float)) != 0)
			return false;
	return true;
}

void
distil_image_find_quantized(uint64_t quantized[DISTIL_QUANTIZED_WORDS], const DistilSpec *spec,
							const DistilTensor *const *bound)
{
	memset(quantized, 0, DISTIL_QUANTIZED_WORDS * sizeof(uint64_t));
	for (int bit = 0; bit < 4 * spec->config.layers; bit++)
	{
		int			weights[4];

		distil_layer_weights(weights, &spec->layer[bit / 4]);
		if (is_quantized(&spec->table.params[weights[bit % 4]],
						 bound + (size_t) weights[bit % 4] * DISTIL_PARAM_MAX_SOURCES))
			quantized[bit / 64] |= UINT64_C(1) << (bit % 64);
	}
}

/* The stored numbers of a tensor, as they lie. */
static DistilStatus
read_numbers(int8_t *to, const DistilTensor *tensor, const DistilPoll *poll, DistilError *err)
{
	for (uint64_t at = 0; at < tensor->bytes; at += PIECE)
	{
		DISTIL_POLL(poll, err);
		DISTIL_FORWARD(distil_tensor_read(tensor, at, to + at,
										  tensor->bytes - at < PIECE ? (size_t) (tensor->bytes - at) : PIECE,
										  err));
	}
	return DISTIL_OK;
}

/* numbers [rows, cols] of the parameter; spare has room for one source. */
static DistilStatus
gather(int8_t *numbers, int8_t *spare, const DistilParam *param, const DistilTensor *const *sources,
	   const DistilPoll *poll, DistilError *err)
{
	size_t		rows = (size_t) (param->rows / param->nsources);
	size_t		cols = (size_t) param->cols;

	for (int k = 0; k < param->nsources; k++, numbers += rows * cols)
	{
		DISTIL_FORWARD(read_numbers(turned(param) ? spare : numbers, sources[k], poll, err));
		if (!turned(param))
			continue;
		for (size_t i = 0; i < rows; i++)
		{
			DISTIL_POLL(poll, err);
			for (size_t j = 0; j < cols; j++)
				numbers[i * cols + j] = spare[j * rows + i];
		}
	}
	return DISTIL_OK;
}

/* All of it into `to`, which is zero; scratch [DISTIL_ORDER_SCRATCH]. */
static DistilStatus
pack(char *to, uint8_t *scratch, const int8_t *numbers, const DistilParam *param,
	 const DistilTensor *const *sources, const DistilPoll *poll, DistilError *err)
{
	DistilBeside beside = distil_param_beside(param, to);
	int			rows = param->rows / param->nsources;

	for (int row = 0; row < param->rows; row += DISTIL_PANEL)
	{
		DISTIL_POLL(poll, err);
		distil_pack_panel_int8((int8_t *) to + distil_weight_bytes(DISTIL_TYPE_INT8, row, param->cols),
							   beside.sum + row, numbers + (size_t) row * (size_t) param->cols,
							   (size_t) param->cols,
							   param->rows - row < DISTIL_PANEL ? param->rows - row : DISTIL_PANEL,
							   param->cols);
	}
	for (int half = 0; half < distil_order_halves(param->rows) && beside.order != NULL; half++)
	{
		DISTIL_POLL(poll, err);
		distil_order_half(beside.order, scratch, (const int8_t *) to, half, param->cols);
	}
	for (int k = 0; k < param->nsources; k++)
		memcpy(beside.scale + (size_t) k * (size_t) rows, output_scales(sources[k], param),
			   (size_t) rows * sizeof(float));
	memcpy(beside.factor, input_factors(sources[0], param), (size_t) param->cols * sizeof(float));
	return DISTIL_OK;
}

DistilStatus
distil_image_int8(char **bytes, const DistilParam *param, const DistilTensor *const *sources,
				  const DistilAllocator *alloc, const DistilPoll *poll, DistilError *err)
{
	int8_t	   *numbers = distil_alloc_array(alloc, param->count, 2);
	uint8_t    *scratch = distil_alloc_array(alloc, DISTIL_ORDER_SCRATCH(param->cols), 1);
	DistilStatus status = DISTIL_OK;

	*bytes = distil_alloc_array(alloc, distil_param_bytes(param), 1);
	if (numbers == NULL || scratch == NULL || *bytes == NULL)
		status = distil_fail_memory(err, distil_param_bytes(param));
	if (status == DISTIL_OK)
		status = gather(numbers, numbers + param->count, param, sources, poll, err);
	if (status == DISTIL_OK)
		status = pack(*bytes, scratch, numbers, param, sources, poll, err);
	distil_release(alloc, scratch);
	distil_release(alloc, numbers);
	return status;
}
