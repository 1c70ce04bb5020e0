/*
 * quantize_weights.c
 *		The numbers of a quantised matrix: factors, scales, eight bits, and back.
 *
 * The rule a newcomer would break: what is simulated here must be what the kernels compute
 * (kernels.h, DistilRows), or the report of a quantisation would be about another model.
 */
#include "quantize.h"

#include "tensor.h"

#include <math.h>
#include <string.h>

/* Scales tried for a row: its largest value as 127, and smaller ones that cut off the largest. */
static const float clips[] = {1.0f, 0.96f, 0.92f, 0.88f, 0.84f, 0.80f, 0.75f, 0.70f};

#define CLIPS (sizeof(clips) / sizeof(clips[0]))
/* Rows between polls: 8 passes of this many values are some milliseconds. */
#define POLL_VALUES ((size_t) 1 << 16)
#define TINY 1e-6f

void
distil_quantize_smooth(DistilQuantizer *q, DistilQuantMatrix *matrix)
{
	const DistilParam *param = &q->model->spec.table.params[matrix->param];
	const float *w = q->model->weights + param->offset;
	double		part = q->options->smoothing;

	memset(matrix->factor, 0, (size_t) matrix->cols * sizeof(float));
	for (int i = 0; i < matrix->rows; i++)
		for (int j = 0; j < matrix->cols; j++)
			matrix->factor[j] = fmaxf(matrix->factor[j],
									  fabsf(w[(size_t) i * (size_t) matrix->cols + (size_t) j]));
	for (int j = 0; j < matrix->cols; j++)
	{
		double		most = matrix->factor[j];

		matrix->factor[j] = most > TINY && matrix->most[j] > TINY
			? (float) (pow(most, 1.0 - part) / pow(matrix->most[j], part)) : 1.0f;
	}
}

/* Weighted squared error of one row in steps of `scale`; to [cols] gets the steps unless it is NULL. */
static double
round_row(int8_t *to, const float *row, const double *weight, int cols, float scale)
{
	float		inverse = 1.0f / scale;
	double		error = 0.0;

	for (int j = 0; j < cols; j++)
	{
		float		step = fminf(fmaxf(rintf(row[j] * inverse), -127.0f), 127.0f);
		float		off = row[j] - step * scale;

		error += (double) (off * off) * weight[j];
		if (to != NULL)
			to[j] = (int8_t) step;
	}
	return error;
}

static float
best_scale(const float *row, const double *weight, int cols)
{
	float		most = 0.0f;
	float		best = 1.0f;
	double		least = INFINITY;

	for (int j = 0; j < cols; j++)
		most = fmaxf(most, fabsf(row[j]));
	if (!(most > 1e-30f))
		return best;
	for (size_t i = 0; i < CLIPS; i++)
	{
		double		error = round_row(NULL, row, weight, cols, most * clips[i] / 127.0f);

		if (error < least)
		{
			least = error;
			best = most * clips[i] / 127.0f;
		}
	}
	return best;
}

DistilStatus
distil_quantize_matrix(DistilQuantizer *q, DistilQuantMatrix *matrix, DistilError *err)
{
	const DistilParam *param = &q->model->spec.table.params[matrix->param];
	const float *w = q->model->weights + param->offset;
	size_t		cols = (size_t) matrix->cols;
	float	   *row = distil_alloc_array(q->alloc, cols, sizeof(float));
	double	   *weight = distil_alloc_array(q->alloc, cols, sizeof(double));
	DistilStatus status = DISTIL_OK;
	size_t		poll_rows = POLL_VALUES / cols + 1;

	if (row == NULL || weight == NULL)
		status = distil_fail_memory(err, cols * sizeof(double));
	for (size_t j = 0; status == DISTIL_OK && j < cols; j++)
		weight[j] = matrix->linear ? matrix->power[j] * matrix->factor[j] * matrix->factor[j] : 1.0;
	for (size_t i = 0; status == DISTIL_OK && i < (size_t) matrix->rows; i++)
	{
		if (i % poll_rows == 0 && q->poll != NULL && q->poll->stop != NULL && q->poll->stop(q->poll->ctx))
			status = distil_fail_cancelled(err);
		for (size_t j = 0; j < cols; j++)
			row[j] = w[i * cols + j] / matrix->factor[j];
		matrix->scale[i] = best_scale(row, weight, matrix->cols);
		round_row(matrix->values + i * cols, row, weight, matrix->cols, matrix->scale[i]);
	}
	distil_release(q->alloc, row);
	distil_release(q->alloc, weight);
	return status;
}

DistilStatus
distil_quantize_apply(DistilQuantizer *q, const DistilQuantMatrix *matrix, DistilType type, DistilError *err)
{
	const DistilParam *param = &q->model->spec.table.params[matrix->param];
	const float *from = q->model->weights + param->offset;
	float	   *to = q->weights + param->offset;
	size_t		cols = (size_t) matrix->cols;
	size_t		poll_rows = 16 * POLL_VALUES / cols + 1;

	for (size_t i = 0; i < (size_t) matrix->rows; i++)
	{
		if (i % poll_rows == 0)
			DISTIL_POLL(q->poll, err);
		for (size_t j = 0; j < cols; j++)
		{
			size_t		at = i * cols + j;

			to[at] = type == DISTIL_TYPE_INT8 ? (float) matrix->values[at] * matrix->scale[i] *
				matrix->factor[j]
				: type == DISTIL_TYPE_BF16 ? distil_bf16_float(distil_bf16(from[at])) : from[at];
		}
	}
	return DISTIL_OK;
}

void
distil_quantize_input(float *to, const float *from, const float *factor, int cols)
{
	float		low = 0.0f;
	float		high = 0.0f;
	float		scale;
	float		zero;

	for (int j = 0; j < cols; j++)
	{
		to[j] = from[j] * factor[j];
		low = fminf(low, to[j]);
		high = fmaxf(high, to[j]);
	}
	if (!(high - low > 1e-30f))
		return;
	scale = (high - low) / 254.0f;
	zero = floorf(-low / scale + 0.75f);
	for (int j = 0; j < cols; j++)
		to[j] = (rintf(to[j] / scale + zero) - zero) * scale / factor[j];
}
