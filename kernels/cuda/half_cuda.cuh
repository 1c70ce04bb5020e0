/*
 * half_cuda.cuh
 *		Layers with activations in bfloat16: products, dropout + residual + norm, activations, AdamW with a
 *		copy.
 *
 * These kernels are bounded by memory: a thread takes 8 neighbours (16 bytes) at a time where the width
 * allows (N = 8), else one.  A result is rounded where it is stored; what is computed from it in the same
 * kernel is computed from the rounded number, so that backward sees what forward saw.
 */
#ifndef DISTIL_HALF_CUDA_CUH
#define DISTIL_HALF_CUDA_CUH

#include "attention_bf16_cuda.cuh"
#include "linear_cuda.cuh"
#include "loss_cuda.cuh"

/* A launch of kernel<8> or kernel<1>, by whether 8 divides all widths and strides (given or-ed together). */
#define HALF_RUN(dev, kernel, widths, blocks, threads, ...) \
	do { \
		auto		wide_ = ((widths) & 7) == 0 ? kernel<8> : kernel<1>; \
		CUDA_RUN(dev, wide_, blocks, threads, __VA_ARGS__); \
	} while (0)

/* ---------- conversion ---------- */

__global__ void
half_round_kernel(uint16_t *y, const float *x, size_t n)
{
	CUDA_EACH(i, n)
		y[i] = cuda_to_bf16(x[i]);
}

__global__ void
half_widen_kernel(float *y, const uint16_t *x, size_t n)
{
	CUDA_EACH(i, n)
		y[i] = cuda_from_bf16(x[i]);
}

static void
cuda_half_round(DistilDevice *dev, uint16_t *y, const float *x, size_t n)
{
	CUDA_RUN(dev, half_round_kernel, cuda_blocks(n), CUDA_THREADS, y, x, n);
}

static void
cuda_half_widen(DistilDevice *dev, float *y, const uint16_t *x, size_t n)
{
	CUDA_RUN(dev, half_widen_kernel, cuda_blocks(n), CUDA_THREADS, y, x, n);
}

/* ---------- activations ---------- */

/*
 * GELU and its slope with erf of Abramowitz and Stegun 1964, 7.1.26: within 2e-7 of erf, far below what
 * rounding costs, and one exponential serves both.
 */
static __device__ inline float
cuda_gelu_half(float x, bool slope)
{
	float		z = fabsf(x) * 0.70710678f;
	float		t = __fdividef(1.0f, 1.0f + 0.3275911f * z);
	float		e = __expf(-z * z);
	float		erf = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t +
					   0.254829592f) * t * e;
	float		phi = x < 0.0f ? 0.5f * erf : 1.0f - 0.5f * erf;

	return slope ? phi + x * 0.39894228f * e : x * phi;
}

/* y [m, n] = act(x), rows ldy and ldx apart; y may be x */
template <int N>
__global__ void
half_activation_kernel(uint16_t *y, size_t ldy, const uint16_t *x, size_t ldx, DistilActivation act, size_t m,
					   size_t n)
{
	CUDA_EACH(run, m * n / N)
	{
		size_t		row = run * N / n;
		size_t		column = run * N % n;
		float		value[N];

		cuda_load<N>(value, x + row * ldx + column);
#pragma unroll
		for (int e = 0; e < N; e++)
			value[e] = act == DISTIL_ACT_GELU ? cuda_gelu_half(value[e], false)
				: cuda_activate(act, value[e]);
		cuda_store<N>(y + row * ldy + column, value);
	}
}

/* dx [n] *= act'(before) */
template <int N>
__global__ void
half_slope_kernel(uint16_t *dx, const uint16_t *before, DistilActivation act, size_t n)
{
	CUDA_EACH(run, n / N)
	{
		float		value[N];
		float		x[N];

		cuda_load<N>(value, dx + run * N);
		cuda_load<N>(x, before + run * N);
#pragma unroll
		for (int e = 0; e < N; e++)
			value[e] *= act == DISTIL_ACT_GELU ? cuda_gelu_half(x[e], true) : cuda_activate_slope(act, x[e]);
		cuda_store<N>(dx + run * N, value);
	}
}

/* ---------- products ---------- */

static void
cuda_half_linear_forward(DistilDevice *dev, uint16_t *y, size_t ldy, uint16_t *before, const uint16_t *x,
						 const uint16_t *w, const uint16_t *b, DistilActivation act, int m, int n, int k)
{
	uint16_t   *to = before != NULL ? before : y;
	size_t		ld = before != NULL ? (size_t) n : ldy;
	CudaProduct p = {to, ld, x, (size_t) k, 1, w, 1, (size_t) k, m, n, k, b, DISTIL_ACT_NONE, false, true,
	true, NULL};

	cuda_multiply(dev, &p);
	if (before != NULL || act != DISTIL_ACT_NONE)
		HALF_RUN(dev, half_activation_kernel, n | (int) ld | (int) ldy, cuda_blocks((size_t) m * n / 8 + 1),
				 CUDA_THREADS, y, ldy, to, ld, act, (size_t) m, (size_t) n);
}

static void
cuda_half_linear_backward_input(DistilDevice *dev, uint16_t *dx, const uint16_t *dy, size_t lddy,
								const uint16_t *w, const uint16_t *before, DistilActivation act,
								bool accumulate, int m, int n, int k)
{
	size_t		count = (size_t) m * k;
	CudaProduct p = {dx, (size_t) k, dy, lddy, 1, w, (size_t) k, 1, m, k, n, NULL, DISTIL_ACT_NONE,
	accumulate, true, true, NULL};

	cuda_multiply(dev, &p);
	if (before != NULL)
		HALF_RUN(dev, half_slope_kernel, k, cuda_blocks(count / 8 + 1), CUDA_THREADS, dx, before, act, count);
}

static void
cuda_half_linear_backward_weight(DistilDevice *dev, float *dw, float *db, const uint16_t *dy, size_t lddy,
								 const uint16_t *x, int m, int n, int k)
{
	CudaProduct p = {dw, (size_t) k, dy, 1, lddy, x, (size_t) k, 1, n, k, m, NULL, DISTIL_ACT_NONE, true,
	true, false, NULL};

	/* the sums beside the product, which reads dy anyway */
	if (db != NULL)
	{
		p.sums = (float *) cuda_device(dev)->scratch;
		if (cuda_blas_product(dev, &p))
		{
			CUDA_RUN(dev, add_column_parts, cuda_blocks(n), CUDA_THREADS, db, (const float *) p.sums,
					 (size_t) n, 1, n);
			return;
		}
		p.sums = NULL;
	}
	cuda_multiply(dev, &p);
	if (db != NULL)
		cuda_column_sums(dev, db, dy, lddy, m, n);
}

/* ---------- dropout, residual and norm ---------- */

static __device__ inline float
cuda_dropped(float x, const DistilDropout *dropout, size_t element)
{
	if (!(dropout->p > 0.0f))
		return x;
	return distil_dropout_keep(dropout->seed, element, dropout->p) ? x / (1.0f - dropout->p) : 0.0f;
}

/* s = dropout(x) + residual at `at`, rounded */
template <int N>
static __device__ inline void
cuda_norm_input(float (&s)[N], const uint16_t *x, const uint16_t *residual, const DistilDropout *dropout,
				size_t at)
{
	float		add[N];

	cuda_load<N>(s, x + at);
	if (residual != NULL)
		cuda_load<N>(add, residual + at);
#pragma unroll
	for (int e = 0; e < N; e++)
		s[e] = cuda_from_bf16(cuda_to_bf16(cuda_dropped(s[e], dropout, at + e) +
											 (residual != NULL ? add[e] : 0.0f)));
}

template <int N>
__global__ void
half_norm_forward_kernel(uint16_t *y, uint16_t *sum, float *mean, float *rstd, const uint16_t *x,
						 const uint16_t *residual, DistilDropout dropout, const float *gamma,
						 const float *beta, float eps, int rows, int c)
{
	size_t		row = cuda_row();
	size_t		at = row * c;
	float		total = 0.0f;
	float		squares = 0.0f;
	float		s[N];
	float		scale;

	if (row >= (size_t) rows)
		return;
	for (int j = cuda_lane() * N; j < c; j += 32 * N)
	{
		cuda_norm_input<N>(s, x, residual, &dropout, at + j);
		if (sum != NULL)
			cuda_store<N>(sum + at + j, s);
#pragma unroll
		for (int e = 0; e < N; e++)
			total += s[e];
	}
	total = cuda_warp_sum(total) / (float) c;
	for (int pass = 0; pass < 2; pass++)
	{
		scale = pass == 0 ? 0.0f : 1.0f / sqrtf(cuda_warp_sum(squares) / (float) c + eps);
		for (int j = cuda_lane() * N; j < c; j += 32 * N)
		{
			if (sum != NULL)
				cuda_load<N>(s, sum + at + j);
			else
				cuda_norm_input<N>(s, x, residual, &dropout, at + j);
#pragma unroll
			for (int e = 0; e < N; e++)
			{
				squares += (s[e] - total) * (s[e] - total);
				s[e] = (s[e] - total) * scale * gamma[j + e] + beta[j + e];
			}
			if (pass == 1)
				cuda_store<N>(y + at + j, s);
		}
	}
	if (cuda_lane() == 0 && mean != NULL)
	{
		mean[row] = total;
		rstd[row] = scale;
	}
}

template <int N>
__global__ void
half_norm_backward_kernel(uint16_t *dsum, uint16_t *dx, const uint16_t *dy, const uint16_t *dresidual,
						  const uint16_t *sum, const float *mean, const float *rstd, DistilDropout dropout,
						  const float *gamma, int rows, int c)
{
	size_t		row = cuda_row();
	size_t		at = row * c;
	float		sum1 = 0.0f;
	float		sum2 = 0.0f;
	float		d[N];
	float		s[N];
	float		add[N] = {0};

	if (row >= (size_t) rows)
		return;
	for (int j = cuda_lane() * N; j < c; j += 32 * N)
	{
		cuda_load<N>(d, dy + at + j);
		cuda_load<N>(s, sum + at + j);
#pragma unroll
		for (int e = 0; e < N; e++)
		{
			sum1 += d[e] * gamma[j + e];
			sum2 += d[e] * gamma[j + e] * (s[e] - mean[row]) * rstd[row];
		}
	}
	sum1 = cuda_warp_sum(sum1) / (float) c;
	sum2 = cuda_warp_sum(sum2) / (float) c;
	for (int j = cuda_lane() * N; j < c; j += 32 * N)
	{
		cuda_load<N>(d, dy + at + j);
		cuda_load<N>(s, sum + at + j);
		if (dresidual != NULL)
			cuda_load<N>(add, dresidual + at + j);
#pragma unroll
		for (int e = 0; e < N; e++)
		{
			d[e] = rstd[row] * (d[e] * gamma[j + e] - sum1 - (s[e] - mean[row]) * rstd[row] * sum2) + add[e];
			s[e] = cuda_dropped(d[e], &dropout, at + j + e);
		}
		cuda_store<N>(dsum + at + j, d);
		if (dx != NULL)
			cuda_store<N>(dx + at + j, s);
	}
}

static void
cuda_half_norm_forward(DistilDevice *dev, uint16_t *y, uint16_t *sum, float *mean, float *rstd,
					   const uint16_t *x, const uint16_t *residual, DistilDropout dropout, const float *gamma,
					   const float *beta, float eps, int rows, int c)
{
	HALF_RUN(dev, half_norm_forward_kernel, c, cuda_row_blocks(rows), 32 * CUDA_ROW_WARPS, y, sum, mean, rstd,
			 x, residual, dropout, gamma, beta, eps, rows, c);
}

static void
cuda_half_norm_backward(DistilDevice *dev, uint16_t *dsum, uint16_t *dx, float *dgamma, float *dbeta,
						const uint16_t *dy, const uint16_t *dresidual, const uint16_t *sum, const float *mean,
						const float *rstd, DistilDropout dropout, const float *gamma, int rows, int c)
{
	cuda_norm_sums(dev, dgamma, dbeta, dy, sum, mean, rstd, rows, c);
	HALF_RUN(dev, half_norm_backward_kernel, c, cuda_row_blocks(rows), 32 * CUDA_ROW_WARPS, dsum, dx, dy,
			 dresidual, sum, mean, rstd, dropout, gamma, rows, c);
}

/* ---------- the update ---------- */

__global__ void
half_adamw_kernel(float *w, float *m, float *v, const float *g, DistilAdamW step, uint16_t *copy, size_t n)
{
	CUDA_EACH(i, n)
		copy[i] = cuda_to_bf16(cuda_adamw_element(w + i, m + i, v + i, g[i], &step));
}

static void
cuda_half_adamw(DistilDevice *dev, float *w, float *m, float *v, const float *g, const DistilAdamW *step,
				uint16_t *copy, size_t n)
{
	CUDA_RUN(dev, half_adamw_kernel, cuda_blocks(n), CUDA_THREADS, w, m, v, g, *step, copy, n);
}

static DistilHalfKernels
cuda_half_table(void)
{
	DistilHalfKernels half = {};

	half.round = cuda_half_round;
	half.widen = cuda_half_widen;
	half.linear_forward = cuda_half_linear_forward;
	half.linear_backward_input = cuda_half_linear_backward_input;
	half.linear_backward_weight = cuda_half_linear_backward_weight;
	half.norm_forward = cuda_half_norm_forward;
	half.norm_backward = cuda_half_norm_backward;
	half.attention_forward = cuda_attention_forward<uint16_t>;
	half.attention_backward = cuda_attention_backward<uint16_t>;
	half.logits_loss = cuda_logits_loss_rows<uint16_t, float>;
	half.adamw = cuda_half_adamw;
	return half;
}

#endif							/* DISTIL_HALF_CUDA_CUH */
