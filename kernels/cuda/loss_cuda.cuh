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

#include "tensor_cuda.cuh"
#include "vector_cuda.cuh"

#include <float.h>

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
		ds[at + j] = (float) (-(double) scale * ((double) t[at + j] / tt - cosine * (double) s[at + j] / ss) /
							  ss);
}

/*
 * Of a row x [n]: *softer becomes the log of the sum of exp(x factor), *sharper (NULL: not wanted) that of
 * exp(x), in all threads of the block.  Each thread keeps a maximum and sums relative to it; a NaN in x gives
 * NaN.
 */
template <typename T>
static __device__ inline void
cuda_log_sums_exp(const T *x, float factor, int n, double *softer, double *sharper, double *shared)
{
	__shared__ float tops[33];
	float		top = -FLT_MAX;
	float		all;
	float		soft = 0.0f;
	float		sharp = 0.0f;

	for (int j = (int) threadIdx.x; j < n; j += (int) blockDim.x)
	{
		float		value = cuda_number(x[j]);

		if (value > top)
		{
			soft *= expf((top - value) * factor);
			sharp *= expf(top - value);
			top = value;
		}
		soft += expf((value - top) * factor);
		if (sharper != NULL)
			sharp += expf(value - top);
	}
	all = cuda_warp_max(top);
	__syncthreads();
	if (cuda_lane() == 0)
		tops[threadIdx.x / 32] = all;
	__syncthreads();
	all = tops[0];
	for (int i = 1; i < (int) (blockDim.x / 32); i++)
		all = tops[i] > all ? tops[i] : all;
	*softer = (double) all * factor + log(cuda_block_sum((double) soft * exp(((double) top - all) * factor),
														 shared));
	if (sharper != NULL)
		*sharper = (double) all + log(cuda_block_sum((double) sharp * exp((double) top - all), shared));
}

/*
 * A block for a row of s (which becomes the gradient) and t, ld apart; parts [rows][3].  Real is double where
 * elements are float, else float, which is much faster.
 */
template <typename T, typename Real>
__global__ void
logits_loss_rows(double *parts, T *s, const T *t, size_t ld, const int32_t *labels, DistilLogitsLoss loss,
				 int v)
{
	__shared__ double shared[33];
	T		   *sr = s + (size_t) blockIdx.x * ld;
	const T    *tr = t != NULL ? t + (size_t) blockIdx.x * ld : NULL;
	bool		soft = loss.scale_ce != 0.0f;
	bool		squared = loss.scale_mse != 0.0f;
	int			label = labels != NULL && loss.scale_label != 0.0f ? labels[blockIdx.x] : -100;
	Real		inverse = (Real) 1.0 / (Real) loss.temperature;
	double		lse_q = 0.0;
	double		lse_p = 0.0;
	double		lse_s = 0.0;
	double		at_label = label >= 0 ? (double) cuda_number(sr[label]) : 0.0;
	Real		ce = 0;
	Real		mse = 0;

	if (soft || label >= 0)
		cuda_log_sums_exp(sr, (float) inverse, v, &lse_q, label >= 0 ? &lse_s : NULL, shared);
	if (soft)
		cuda_log_sums_exp(tr, (float) inverse, v, &lse_p, NULL, shared);
	__syncthreads();			/* at_label is read before its gradient is written */
	for (int j = (int) threadIdx.x; j < v; j += (int) blockDim.x)
	{
		Real		sv = (Real) cuda_number(sr[j]);
		Real		tv = tr != NULL ? (Real) cuda_number(tr[j]) : (Real) 0;
		float		gradient = 0.0f;

		if (soft)
		{
			float		log_p = (float) (tv * inverse - (Real) lse_p);
			float		log_q = (float) (sv * inverse - (Real) lse_q);
			float		p = expf(log_p);

			if (p != 0.0f)
				ce += (Real) (p * (log_p - log_q));
			gradient += loss.scale_ce * (expf(log_q) - p) * (float) inverse;
		}
		if (label >= 0)
			gradient += loss.scale_label * (expf((float) (sv - (Real) lse_s)) - (j == label ? 1.0f : 0.0f));
		if (squared)
		{
			mse += (sv - tv) * (sv - tv);
			gradient += 2.0f * loss.scale_mse * (float) (sv - tv);
		}
		cuda_put(sr + j, gradient);
	}
	double		ce_sum = cuda_block_sum((double) ce, shared);
	double		mse_sum = cuda_block_sum((double) mse, shared);

	if (threadIdx.x == 0)
	{
		parts[(size_t) blockIdx.x * 3] = (double) loss.scale_ce * ce_sum;
		parts[(size_t) blockIdx.x * 3 + 1] = label >= 0 ? (double) loss.scale_label * (lse_s - at_label)
			: 0.0;
		parts[(size_t) blockIdx.x * 3 + 2] = (double) loss.scale_mse * mse_sum;
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
	CUDA_RUN(dev, add_loss_parts, 1, CUDA_THREADS, loss, (const double *) parts, CUDA_SUM_BLOCKS,
			 (double) scale);
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

		CUDA_RUN(dev, cosine_rows, cuda_row_blocks(n), 32 * CUDA_ROW_WARPS, parts, ds + at, s + at, t + at,
				 scale, n, c);
		CUDA_RUN(dev, add_loss_parts, 1, CUDA_THREADS, loss, (const double *) parts, n, (double) scale);
	}
}

template <typename T, typename Real>
static void
cuda_logits_loss_rows(DistilDevice *dev, double *losses, T *s, const T *t, size_t ld, const int32_t *labels,
					  const DistilLogitsLoss *loss, int rows, int v)
{
	double	   *parts = (double *) cuda_device(dev)->scratch;
	auto		kernel = logits_loss_rows<T, Real>;

	for (int i = 0; i < rows; i += CUDA_LOSS_ROWS)
	{
		int			n = rows - i < CUDA_LOSS_ROWS ? rows - i : CUDA_LOSS_ROWS;
		size_t		at = (size_t) i * ld;

		CUDA_RUN(dev, kernel, n, 512, parts, s + at, t != NULL ? t + at : NULL, ld,
				 labels != NULL ? labels + i : NULL, *loss, v);
		CUDA_RUN(dev, add_loss_parts, 3, CUDA_THREADS, losses, (const double *) parts, n, 1.0);
	}
}

static void
cuda_logits_loss(DistilDevice *dev, double *losses, float *s, const float *t, const int32_t *labels,
				 const DistilLogitsLoss *loss, int rows, int v)
{
	cuda_logits_loss_rows<float, double>(dev, losses, s, t, (size_t) v, labels, loss, rows, v);
}

#endif							/* DISTIL_LOSS_CUDA_CUH */
