/*
 * norm_cuda.cuh
 *		Layer normalisation (Ba et al. 2016), rows of unit length, sums over columns.
 *
 * One warp has a row.  Every thread reads the elements that it writes itself, so that an output
 * may be the input it is allowed to be.
 */
#ifndef DISTIL_NORM_CUDA_CUH
#define DISTIL_NORM_CUDA_CUH

#include "tensor_cuda.cuh"

#define CUDA_NORM_FLOOR 1e-12f

/* ---------- kernels ---------- */

__global__ void
layernorm_forward_kernel(float *y, float *sum, float *mean, float *rstd, const float *x,
						 const float *residual, const float *gamma, const float *beta, float eps, int rows,
						 int c)
{
	size_t		row = cuda_row();
	size_t		at = row * c;
	float		total = 0.0f;
	float		squares = 0.0f;
	float		mu;
	float		scale;

	if (row >= (size_t) rows)
		return;
	for (int j = cuda_lane(); j < c; j += 32)
	{
		float		s = residual != NULL ? x[at + j] + residual[at + j] : x[at + j];

		if (sum != NULL)
			sum[at + j] = s;
		total += s;
	}
	mu = cuda_warp_sum(total) / (float) c;
	for (int j = cuda_lane(); j < c; j += 32)
	{
		float		s = sum != NULL ? sum[at + j]
			: residual != NULL ? x[at + j] + residual[at + j] : x[at + j];

		squares += (s - mu) * (s - mu);
	}
	scale = 1.0f / sqrtf(cuda_warp_sum(squares) / (float) c + eps);
	for (int j = cuda_lane(); j < c; j += 32)
	{
		float		s = sum != NULL ? sum[at + j]
			: residual != NULL ? x[at + j] + residual[at + j] : x[at + j];

		y[at + j] = (s - mu) * scale * gamma[j] + beta[j];
	}
	if (cuda_lane() == 0 && mean != NULL)
	{
		mean[row] = mu;
		rstd[row] = scale;
	}
}

__global__ void
layernorm_backward_kernel(float *dx, const float *dy, const float *sum, const float *mean, const float *rstd,
						  const float *gamma, int rows, int c)
{
	size_t		row = cuda_row();
	size_t		at = row * c;
	float		sum1 = 0.0f;
	float		sum2 = 0.0f;

	if (row >= (size_t) rows)
		return;
	for (int j = cuda_lane(); j < c; j += 32)
	{
		float		d = dy[at + j] * gamma[j];

		sum1 += d;
		sum2 += d * (sum[at + j] - mean[row]) * rstd[row];
	}
	sum1 = cuda_warp_sum(sum1) / (float) c;
	sum2 = cuda_warp_sum(sum2) / (float) c;
	for (int j = cuda_lane(); j < c; j += 32)
	{
		float		normal = (sum[at + j] - mean[row]) * rstd[row];

		dx[at + j] = rstd[row] * (dy[at + j] * gamma[j] - sum1 - normal * sum2);
	}
}

/*
 * Sums over rows, a part for each CUDA_SUM_ROWS of them: parts [blockIdx.y][2][c] = column sums of dy
 * and of dy times the normalised sum (sum NULL: of dy alone, [blockIdx.y][c]).  32 columns a block.
 */
template <typename T>
__global__ void
column_parts(float *parts, const T *dy, size_t lddy, const T *sum, const float *mean, const float *rstd,
			 int rows, int c)
{
	__shared__ float shared[2][8][33];
	int			lane = cuda_lane();
	int			warp = (int) (threadIdx.x / 32);
	int			j = (int) blockIdx.x * 32 + lane;
	int			first = (int) blockIdx.y * CUDA_SUM_ROWS;
	int			end = first + CUDA_SUM_ROWS < rows ? first + CUDA_SUM_ROWS : rows;
	float		plain = 0.0f;
	float		normal = 0.0f;

	for (int i = first + warp; i < end && j < c; i += 8)
	{
		float		d = cuda_number(dy[(size_t) i * lddy + j]);

		plain += d;
		if (sum != NULL)
			normal += d * (cuda_number(sum[(size_t) i * c + j]) - mean[i]) * rstd[i];
	}
	shared[0][warp][lane] = plain;
	shared[1][warp][lane] = normal;
	__syncthreads();
	if (warp < (sum != NULL ? 2 : 1) && j < c)
	{
		float		total = 0.0f;

		for (int i = 0; i < 8; i++)
			total += shared[warp][i][lane];
		parts[((size_t) blockIdx.y * (sum != NULL ? 2 : 1) + warp) * c + j] = total;
	}
}

/* y[c] += the parts in order, `stride` floats apart. */
__global__ void
add_column_parts(float *y, const float *parts, size_t stride, int n, int c)
{
	CUDA_EACH(j, (size_t) c)
	{
		float		total = 0.0f;

		for (int i = 0; i < n; i++)
			total += parts[i * stride + j];
		y[j] += total;
	}
}

__global__ void
normalize_forward_kernel(float *y, float *norm, const float *x, int rows, int c)
{
	size_t		row = cuda_row();
	size_t		at = row * c;
	float		squares = 0.0f;
	float		length;

	if (row >= (size_t) rows)
		return;
	for (int j = cuda_lane(); j < c; j += 32)
		squares += x[at + j] * x[at + j];
	length = sqrtf(cuda_warp_sum(squares));
	if (norm != NULL && cuda_lane() == 0)
		norm[row] = length;
	length = length < CUDA_NORM_FLOOR ? CUDA_NORM_FLOOR : length;
	for (int j = cuda_lane(); j < c; j += 32)
		y[at + j] = x[at + j] / length;
}

__global__ void
normalize_backward_kernel(float *dx, const float *dy, const float *y, const float *norm, int rows, int c)
{
	size_t		row = cuda_row();
	size_t		at = row * c;
	float		dot = 0.0f;
	float		length;

	if (row >= (size_t) rows)
		return;
	length = norm[row];
	for (int j = cuda_lane(); j < c; j += 32)
		dot += dy[at + j] * y[at + j];
	dot = cuda_warp_sum(dot);
	/* below the floor the length is a constant */
	if (length < CUDA_NORM_FLOOR)
	{
		length = CUDA_NORM_FLOOR;
		dot = 0.0f;
	}
	for (int j = cuda_lane(); j < c; j += 32)
		dx[at + j] = (dy[at + j] - dot * y[at + j]) / length;
}

/* ---------- operations ---------- */

static void
cuda_layernorm_forward(DistilDevice *dev, float *y, float *sum, float *mean, float *rstd, const float *x,
					   const float *residual, const float *gamma, const float *beta, float eps, int rows,
					   int c)
{
	CUDA_RUN(dev, layernorm_forward_kernel, cuda_row_blocks(rows), 32 * CUDA_ROW_WARPS, y, sum, mean, rstd, x,
			 residual, gamma, beta, eps, rows, c);
}

/* Rows whose parts of `columns` columns fit the scratch. */
static inline int
cuda_part_rows(int rows, size_t columns)
{
	size_t		parts = CUDA_SCRATCH / sizeof(float) / columns;
	size_t		most = (parts < CUDA_GRID_ROWS ? parts : CUDA_GRID_ROWS) * CUDA_SUM_ROWS;

	return (size_t) rows < most ? rows : (int) most;
}

/* dbeta += column sums of dy, dgamma += those of dy times the normalised sum */
template <typename T>
static void
cuda_norm_sums(DistilDevice *dev, float *dgamma, float *dbeta, const T *dy, const T *sum, const float *mean,
			   const float *rstd, int rows, int c)
{
	float	   *parts = (float *) cuda_device(dev)->scratch;
	int			step = cuda_part_rows(rows, 2 * (size_t) c);

	for (int i = 0; i < rows; i += step)
	{
		int			count = rows - i < step ? rows - i : step;
		int			n = (count + CUDA_SUM_ROWS - 1) / CUDA_SUM_ROWS;
		size_t		at = (size_t) i * c;

		CUDA_RUN_GRID(dev, column_parts<T>, (c + 31) / 32, n, 256, parts, dy + at, (size_t) c, sum + at,
					  mean + i, rstd + i, count, c);
		CUDA_RUN(dev, add_column_parts, cuda_blocks(c), CUDA_THREADS, dbeta, (const float *) parts,
				 2 * (size_t) c, n, c);
		CUDA_RUN(dev, add_column_parts, cuda_blocks(c), CUDA_THREADS, dgamma, (const float *) parts + c,
				 2 * (size_t) c, n, c);
	}
}

static void
cuda_layernorm_backward(DistilDevice *dev, float *dx, float *dgamma, float *dbeta, const float *dy,
						const float *sum, const float *mean, const float *rstd, const float *gamma,
						int rows, int c)
{
	cuda_norm_sums(dev, dgamma, dbeta, dy, sum, mean, rstd, rows, c);
	CUDA_RUN(dev, layernorm_backward_kernel, cuda_row_blocks(rows), 32 * CUDA_ROW_WARPS, dx, dy, sum, mean,
			 rstd, gamma, rows, c);
}

/* y[c] += column sums of dy [rows, c] */
template <typename T>
static void
cuda_column_sums(DistilDevice *dev, float *y, const T *dy, size_t lddy, int rows, int c)
{
	float	   *parts = (float *) cuda_device(dev)->scratch;
	int			step = cuda_part_rows(rows, (size_t) c);

	for (int i = 0; i < rows; i += step)
	{
		int			count = rows - i < step ? rows - i : step;
		int			n = (count + CUDA_SUM_ROWS - 1) / CUDA_SUM_ROWS;

		CUDA_RUN_GRID(dev, column_parts<T>, (c + 31) / 32, n, 256, parts, dy + (size_t) i * lddy, lddy,
				 (const T *) NULL, (const float *) NULL, (const float *) NULL, count, c);
		CUDA_RUN(dev, add_column_parts, cuda_blocks(c), CUDA_THREADS, y, (const float *) parts, (size_t) c, n,
				 c);
	}
}

static void
cuda_normalize_forward(DistilDevice *dev, float *y, float *norm, const float *x, int rows, int c)
{
	CUDA_RUN(dev, normalize_forward_kernel, cuda_row_blocks(rows), 32 * CUDA_ROW_WARPS, y, norm, x, rows, c);
}

static void
cuda_normalize_backward(DistilDevice *dev, float *dx, const float *dy, const float *y, const float *norm,
						int rows, int c)
{
	CUDA_RUN(dev, normalize_backward_kernel, cuda_row_blocks(rows), 32 * CUDA_ROW_WARPS, dx, dy, y, norm,
			 rows, c);
}

#endif							/* DISTIL_NORM_CUDA_CUH */
