/*
 * vector_cuda.cuh
 *		Element-wise operations, sums over vectors, activations, dropout, AdamW.
 */
#ifndef DISTIL_VECTOR_CUDA_CUH
#define DISTIL_VECTOR_CUDA_CUH

#include "cuda_device.cuh"

/* ---------- kernels ---------- */

__global__ void
zero_kernel(float *y, size_t n)
{
	CUDA_EACH(i, n)
		y[i] = 0.0f;
}

__global__ void
axpy_kernel(float *y, const float *x, float scale, size_t n)
{
	CUDA_EACH(i, n)
		y[i] += scale * x[i];
}

/* One part for each block: squares or the count of numbers that are not finite. */
__global__ void
sum_squares_parts(double *parts, const float *x, size_t n)
{
	__shared__ double shared[33];
	double		sum = 0.0;

	CUDA_EACH(i, n)
		sum += (double) x[i] * (double) x[i];
	sum = cuda_block_sum(sum, shared);
	if (threadIdx.x == 0)
		parts[blockIdx.x] = sum;
}

__global__ void
count_nonfinite_parts(int64_t *parts, const float *x, size_t n)
{
	__shared__ int64_t shared[33];
	int64_t		count = 0;

	CUDA_EACH(i, n)
		count += !isfinite(x[i]);
	count = cuda_block_sum(count, shared);
	if (threadIdx.x == 0)
		parts[blockIdx.x] = count;
}

/* *sum = or += scale * the parts in order; one thread. */
template <typename T>
__global__ void
add_parts(T *sum, const T *parts, int n, T scale, bool accumulate)
{
	T			total = 0;

	for (int i = 0; i < n; i++)
		total += parts[i];
	*sum = (accumulate ? *sum : (T) 0) + scale * total;
}

static __device__ inline float
cuda_sigmoid(float x)
{
	return 1.0f / (1.0f + expf(-x));
}

/* GELU: Hendrycks and Gimpel 2016, the exact form and the tanh approximation. */
static __device__ inline float
cuda_activate(DistilActivation act, float x)
{
	switch (act)
	{
		case DISTIL_ACT_GELU:
			return 0.5f * x * (1.0f + erff(x * 0.70710678f));
		case DISTIL_ACT_GELU_TANH:
			return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
		case DISTIL_ACT_QUICK_GELU:
			return x * cuda_sigmoid(1.702f * x);
		case DISTIL_ACT_RELU:
			return x < 0.0f ? 0.0f : x;
		case DISTIL_ACT_SILU:
			return x * cuda_sigmoid(x);
		case DISTIL_ACT_TANH:
			return tanhf(x);
		case DISTIL_ACT_SIGMOID:
			return cuda_sigmoid(x);
		default:
			return x;
	}
}

static __device__ inline float
cuda_activate_slope(DistilActivation act, float x)
{
	float		s;

	switch (act)
	{
		case DISTIL_ACT_GELU:
			return 0.5f * (1.0f + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
		case DISTIL_ACT_GELU_TANH:
			s = tanhf(0.79788456f * (x + 0.044715f * x * x * x));
			return 0.5f * (1.0f + s) +
				0.5f * x * (1.0f - s * s) * 0.79788456f * (1.0f + 3.0f * 0.044715f * x * x);
		case DISTIL_ACT_QUICK_GELU:
			s = cuda_sigmoid(1.702f * x);
			return s + 1.702f * x * s * (1.0f - s);
		case DISTIL_ACT_RELU:
			return x > 0.0f ? 1.0f : 0.0f;
		case DISTIL_ACT_SILU:
			s = cuda_sigmoid(x);
			return s + x * s * (1.0f - s);
		case DISTIL_ACT_TANH:
			s = tanhf(x);
			return 1.0f - s * s;
		case DISTIL_ACT_SIGMOID:
			s = cuda_sigmoid(x);
			return s * (1.0f - s);
		default:
			return 1.0f;
	}
}

__global__ void
activation_forward_kernel(DistilActivation act, float *y, const float *x, size_t n)
{
	CUDA_EACH(i, n)
		y[i] = cuda_activate(act, x[i]);
}

__global__ void
activation_backward_kernel(DistilActivation act, float *dx, const float *dy, const float *x, size_t n)
{
	CUDA_EACH(i, n)
		dx[i] = dy[i] * cuda_activate_slope(act, x[i]);
}

__global__ void
dropout_kernel(float *y, const float *x, DistilDropout dropout, float scale, uint64_t first, size_t n)
{
	CUDA_EACH(i, n)
	{
		bool		keep = !(dropout.p > 0.0f) || distil_dropout_keep(dropout.seed, first + i, dropout.p);

		y[i] = keep ? x[i] * scale : 0.0f;
	}
}

/*
 * Loshchilov and Hutter 2019, "Decoupled weight decay regularization", algorithm 2; returns the new weight.
 */
static __device__ inline float
cuda_adamw_element(float *w, float *m, float *v, float g, const DistilAdamW *step)
{
	float		gradient = g * step->gradient_scale;
	float		first = step->beta1 * *m + (1.0f - step->beta1) * gradient;
	float		second = step->beta2 * *v + (1.0f - step->beta2) * gradient * gradient;
	float		weight = *w * (1.0f - step->learning_rate * step->weight_decay);

	*m = first;
	*v = second;
	*w = weight - step->learning_rate * (first / step->correction1) /
		(sqrtf(second / step->correction2) + step->epsilon);
	return *w;
}

__global__ void
adamw_kernel(float *w, float *m, float *v, const float *g, DistilAdamW step, size_t n)
{
	CUDA_EACH(i, n)
		cuda_adamw_element(w + i, m + i, v + i, g[i], &step);
}

/* ---------- operations ---------- */

static void
cuda_zero(DistilDevice *dev, float *y, size_t n)
{
	CUDA_RUN(dev, zero_kernel, cuda_blocks(n), CUDA_THREADS, y, n);
}

static void
cuda_axpy(DistilDevice *dev, float *y, const float *x, float scale, size_t n)
{
	CUDA_RUN(dev, axpy_kernel, cuda_blocks(n), CUDA_THREADS, y, x, scale, n);
}

static void
cuda_sum_squares(DistilDevice *dev, double *sum, const float *x, size_t n)
{
	double	   *parts = (double *) cuda_device(dev)->scratch;

	CUDA_RUN(dev, sum_squares_parts, CUDA_SUM_BLOCKS, CUDA_THREADS, parts, x, n);
	CUDA_RUN(dev, add_parts<double>, 1, 1, sum, (const double *) parts, CUDA_SUM_BLOCKS, 1.0, false);
}

static void
cuda_count_nonfinite(DistilDevice *dev, int64_t *bad, const float *x, size_t n)
{
	int64_t    *parts = (int64_t *) cuda_device(dev)->scratch;

	CUDA_RUN(dev, count_nonfinite_parts, CUDA_SUM_BLOCKS, CUDA_THREADS, parts, x, n);
	CUDA_RUN(dev, add_parts<int64_t>, 1, 1, bad, (const int64_t *) parts, CUDA_SUM_BLOCKS, (int64_t) 1,
			 false);
}

static void
cuda_activation_forward(DistilDevice *dev, DistilActivation act, float *y, const float *x, size_t n)
{
	CUDA_RUN(dev, activation_forward_kernel, cuda_blocks(n), CUDA_THREADS, act, y, x, n);
}

static void
cuda_activation_backward(DistilDevice *dev, DistilActivation act, float *dx, const float *dy, const float *x,
						 size_t n)
{
	CUDA_RUN(dev, activation_backward_kernel, cuda_blocks(n), CUDA_THREADS, act, dx, dy, x, n);
}

static void
cuda_dropout(DistilDevice *dev, float *y, const float *x, DistilDropout dropout, uint64_t first, size_t n)
{
	float		scale = dropout.p > 0.0f ? 1.0f / (1.0f - dropout.p) : 1.0f;

	CUDA_RUN(dev, dropout_kernel, cuda_blocks(n), CUDA_THREADS, y, x, dropout, scale, first, n);
}

static void
cuda_adamw(DistilDevice *dev, float *w, float *m, float *v, const float *g, const DistilAdamW *step, size_t n)
{
	CUDA_RUN(dev, adamw_kernel, cuda_blocks(n), CUDA_THREADS, w, m, v, g, *step, n);
}

#endif							/* DISTIL_VECTOR_CUDA_CUH */
