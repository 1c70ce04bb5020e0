/*
 * loss_cuda.cuh
 *		Losses and their gradients in one pass over the rows.
 *
 * A row's loss is a part of the sum, in double; the parts are added in order by one thread.  The gradient
 * may replace its input: a thread writes an element after it has read it for the last time.
 * logits_loss: Hinton et al. 2015, beside cross entropy and the squared error of logits.
 */
#ifndef DISTIL_LOSS_CUDA_CUH
#define DISTIL_LOSS_CUDA_CUH

#include "vector_cuda.cuh"

#define CUDA_SQUARED_NORM_FLOOR 1e-12
/* Rows of one call of a kernel, whose parts fit the scratch. */
#define CUDA_LOSS_ROWS 65536

/* ---------- kernels ---------- */

__global__ void
mse_parts(double *parts, float *ds, const float *s, const float *t, float scale, size_t n)
{
	__shared__ double shared[33];
	double		sum = 0.0;

	CUDA_EACH(i, n)
	{
		double		difference = (double) s[i] - (double) t[i];

		sum += difference * difference;
		ds[i] = (float) (2.0 * (double) scale * difference);
	}
	sum = cuda_block_sum(sum, shared);
	if (threadIdx.x == 0)
		parts[blockIdx.x] = sum;
}

/* One warp for a row. */
__global__ void
cosine_rows(double *parts, float *ds, const float *s, const float *t, float scale, int rows, int c)
{
	size_t		row = cuda_row();
	size_t		at = row * c;
	double		ss = 0.0;
	double		tt = 0.0;
	double		st = 0.0;
	double		cosine;

	if (row >= (size_t) rows)
		return;
	for (int j = cuda_lane(); j < c; j += 32)
	{
		ss += (double) s[at + j] * (double) s[at + j];
		tt += (double) t[at + j] * (double) t[at + j];
		st += (double) s[at + j] * (double) t[at + j];
	}
	ss = cuda_warp_sum(ss);
	tt = cuda_warp_sum(tt);
	st = cuda_warp_sum(st);
	ss = sqrt(ss < CUDA_SQUARED_NORM_FLOOR ? CUDA_SQUARED_NORM_FLOOR : ss);
	tt = sqrt(tt < CUDA_SQUARED_NORM_FLOOR ? CUDA_SQUARED_NORM_FLOOR : tt);
	cosine = st / (ss * tt);
	if (cuda_lane() == 0)
		parts[row] = 1.0 - cosine;
	for (int j = cuda_lane(); j < c; j += 32)
		ds[at + j] = (float) (-(double) scale * ((double) t[at + j] / tt - cosine * (double) s[at + j] / ss) / ss);
}

/*
 * log of the sum of exp(x factor), in all threads of the block.  Each thread keeps a maximum and a sum
 * relative to it; a NaN in x gives NaN.
 */
static __device__ inline double
cuda_log_sum_exp(const float *x, double factor, int n, double *shared)
{
	__shared__ float tops[33];
	float		top = -INFINITY;
	float		all;
	float		sum = 0.0f;

	for (int j = (int) threadIdx.x; j < n; j += (int) blockDim.x)
	{
		float		value = (float) ((double) x[j] * factor);

		top = !(value <= top) ? value : top;
	}
	all = cuda_warp_max(top);
	__syncthreads();
	if (cuda_lane() == 0)
		tops[threadIdx.x / 32] = all;
	__syncthreads();
	all = tops[0];
	for (int i = 1; i < (int) (blockDim.x / 32); i++)
		all = !(tops[i] <= all) ? tops[i] : all;
	for (int j = (int) threadIdx.x; j < n; j += (int) blockDim.x)
		sum += expf((float) ((double) x[j] * factor - (double) all));
	return (double) all + log(cuda_block_sum((double) sum, shared));
}

/* A block for a row of s (which becomes the gradient) and t; parts [rows][3]. */
__global__ void
logits_loss_rows(double *parts, float *s, const float *t, const int32_t *labels, DistilLogitsLoss loss, int v)
{
	__shared__ double shared[33];
	float	   *sr = s + (size_t) blockIdx.x * v;
	const float *tr = t != NULL ? t + (size_t) blockIdx.x * v : NULL;
	bool		soft = loss.scale_ce != 0.0f;
	bool		squared = loss.scale_mse != 0.0f;
	int			label = labels != NULL && loss.scale_label != 0.0f ? labels[blockIdx.x] : -100;
	double		inverse = 1.0 / (double) loss.temperature;
	double		lse_q = soft ? cuda_log_sum_exp(sr, inverse, v, shared) : 0.0;
	double		lse_p = soft ? cuda_log_sum_exp(tr, inverse, v, shared) : 0.0;
	double		lse_s = label >= 0 ? cuda_log_sum_exp(sr, 1.0, v, shared) : 0.0;
	double		at_label = label >= 0 ? (double) sr[label] : 0.0;
	double		ce = 0.0;
	double		mse = 0.0;

	__syncthreads();			/* at_label is read before its gradient is written */
	for (int j = (int) threadIdx.x; j < v; j += (int) blockDim.x)
	{
		double		sv = (double) sr[j];
		float		gradient = 0.0f;

		if (soft)
		{
			double		tv = (double) tr[j];
			float		log_p = (float) (tv * inverse - lse_p);
			float		log_q = (float) (sv * inverse - lse_q);
			float		p = expf(log_p);

			if (p != 0.0f)
				ce += (double) (p * (log_p - log_q));
			gradient += loss.scale_ce * (expf(log_q) - p) * (float) inverse;
		}
		if (label >= 0)
			gradient += loss.scale_label * (expf((float) (sv - lse_s)) - (j == label ? 1.0f : 0.0f));
		if (squared)
		{
			double		difference = sv - (double) tr[j];

			mse += difference * difference;
			gradient += 2.0f * loss.scale_mse * (float) difference;
		}
		sr[j] = gradient;
	}
	ce = cuda_block_sum(ce, shared);
	mse = cuda_block_sum(mse, shared);
	if (threadIdx.x == 0)
	{
		parts[(size_t) blockIdx.x * 3] = (double) loss.scale_ce * ce;
		parts[(size_t) blockIdx.x * 3 + 1] = label >= 0 ? (double) loss.scale_label * (lse_s - at_label) : 0.0;
		parts[(size_t) blockIdx.x * 3 + 2] = (double) loss.scale_mse * mse;
	}
}

/* losses[b] += column b of parts [n][blocks], in order of rows up to the order of a block's sum. */
__global__ void
add_loss_parts(double *losses, const double *parts, int n, double scale)
{
	__shared__ double shared[33];
	double		sum = 0.0;

	for (int i = (int) threadIdx.x; i < n; i += (int) blockDim.x)
		sum += parts[(size_t) i * gridDim.x + blockIdx.x];
	sum = cuda_block_sum(sum, shared);
	if (threadIdx.x == 0)
		losses[blockIdx.x] += scale * sum;
}

/* ---------- operations ---------- */

static void
cuda_mse_loss(DistilDevice *dev, double *loss, float *ds, const float *s, const float *t, float scale,
			  int rows, int c)
{
	double	   *parts = (double *) cuda_device(dev)->scratch;

	CUDA_RUN(dev, mse_parts, CUDA_SUM_BLOCKS, CUDA_THREADS, parts, ds, s, t, scale, (size_t) rows * c);
	CUDA_RUN(dev, add_loss_parts, 1, CUDA_THREADS, loss, (const double *) parts, CUDA_SUM_BLOCKS, (double) scale);
}

static void
cuda_cosine_loss(DistilDevice *dev, double *loss, float *ds, const float *s, const float *t, float scale,
				 int rows, int c)
{
	double	   *parts = (double *) cuda_device(dev)->scratch;

	for (int i = 0; i < rows; i += CUDA_LOSS_ROWS)
	{
		int			n = rows - i < CUDA_LOSS_ROWS ? rows - i : CUDA_LOSS_ROWS;
		size_t		at = (size_t) i * c;

		CUDA_RUN(dev, cosine_rows, cuda_row_blocks(n), 32 * CUDA_ROW_WARPS, parts, ds + at, s + at, t + at, scale,
				 n, c);
		CUDA_RUN(dev, add_loss_parts, 1, CUDA_THREADS, loss, (const double *) parts, n, (double) scale);
	}
}

static void
cuda_logits_loss(DistilDevice *dev, double *losses, float *s, const float *t, const int32_t *labels,
				 const DistilLogitsLoss *loss, int rows, int v)
{
	double	   *parts = (double *) cuda_device(dev)->scratch;

	for (int i = 0; i < rows; i += CUDA_LOSS_ROWS)
	{
		int			n = rows - i < CUDA_LOSS_ROWS ? rows - i : CUDA_LOSS_ROWS;
		size_t		at = (size_t) i * v;

		CUDA_RUN(dev, logits_loss_rows, n, 512, parts, s + at, t != NULL ? t + at : NULL,
				 labels != NULL ? labels + i : NULL, *loss, v);
		CUDA_RUN(dev, add_loss_parts, 3, CUDA_THREADS, losses, (const double *) parts, n, 1.0);
	}
}

#endif							/* DISTIL_LOSS_CUDA_CUH */
