/*
 * attention_cuda.cuh
 *		Scaled dot product attention (Vaswani et al. 2017) over ragged rows, in float32.
 *
 * T is the type of the rows in memory: float, or uint16_t for bfloat16.
 * One warp has a query (or, for the gradients of k and v, a key) and takes the other side 32 at a
 * time: a lane computes one score, then the lanes share the columns.  Scores are never stored; softmax
 * is taken online and recomputed in backward from lse (Dao et al. 2022, "FlashAttention"), where
 * sum_j p_j dp_j = dout . out.  The lengths of the sequences are known on the device only: a grid has a
 * fixed number of blocks for each sequence and head, which share its rows.
 */
#ifndef DISTIL_ATTENTION_CUDA_CUH
#define DISTIL_ATTENTION_CUDA_CUH

#include "tensor_cuda.cuh"

#define CUDA_ATTENTION_SHARE 16	/* blocks of a sequence and head */
#define CUDA_ATTENTION_COLUMNS 8	/* columns of a lane; wider heads take several passes */
#define CUDA_ATTENTION_PASS (32 * CUDA_ATTENTION_COLUMNS)

/* One sequence and head. */
template <typename T>
struct CudaHead
{
	const T    *q;				/* its first row; k and v beside it */
	const T    *k;
	const T    *v;
	size_t		ld;				/* stride of qkv rows */
	size_t		width;			/* stride of out rows */
	int			first;			/* absolute first row */
	int			length;
	int			head;
};

template <typename T>
static __device__ inline CudaHead<T>
cuda_head(const T *qkv, const int32_t *offsets, const DistilAttention *a)
{
	CudaHead<T>	h;
	int			b = (int) blockIdx.x / a->head_count;

	h.head = a->head_first + (int) blockIdx.x % a->head_count;
	h.width = (size_t) a->heads * a->head_dim;
	h.ld = 3 * h.width;
	h.first = offsets[b];
	h.length = offsets[b + 1] - h.first;
	h.q = qkv + (size_t) h.first * h.ld + (size_t) h.head * a->head_dim;
	h.k = h.q + h.width;
	h.v = h.k + h.width;
	return h;
}

template <typename T>
static __device__ inline float
cuda_dot(const T *a, const T *b, int n)
{
	float		sum = 0.0f;

	for (int d = 0; d < n; d++)
		sum += cuda_number(a[d]) * cuda_number(b[d]);
	return sum;
}

/* The same sum; runs of eight are read at once where both begin at 16 bytes. */
static __device__ inline float
cuda_dot(const uint16_t *a, const uint16_t *b, int n)
{
	float		sum = 0.0f;
	int			d = 0;

	if ((((uintptr_t) a | (uintptr_t) b) & 15) == 0)
		for (; d + 8 <= n; d += 8)
		{
			float		x[8];
			float		y[8];

			cuda_load<8>(x, a + d);
			cuda_load<8>(y, b + d);
#pragma unroll
			for (int e = 0; e < 8; e++)
				sum += x[e] * y[e];
		}
	for (; d < n; d++)
		sum += cuda_number(a[d]) * cuda_number(b[d]);
	return sum;
}

/*
 * Blocks that share a sequence and head, at most `most`: no more than have work, if each does `rows` rows at
 * once.  What is noted will be repeated with sequences of other lengths.
 */
static inline int
cuda_share(DistilDevice *dev, const DistilAttention *a, int rows, int most)
{
	int			parts = (a->longest + rows - 1) / rows;

	return a->longest == 0 || cuda_device(dev)->noting || parts > most ? most : parts;
}

template <typename T>
static __device__ inline float
cuda_score(const CudaHead<T> *h, const DistilAttention *a, int query, int key)
{
	float		score = a->scale * cuda_dot(h->q + query * h->ld, h->k + key * h->ld, a->head_dim);

	if (a->relative != NULL)
		score += a->relative[(size_t) (key - query + a->relative_limit - 1) * a->heads + h->head];
	return score;
}

/* 0 for a dropped probability, 1/(1-p) for a kept one. */
template <typename T>
static __device__ inline float
cuda_keep(const CudaHead<T> *h, const DistilAttention *a, int query, int key)
{
	uint64_t	row = (uint64_t) h->first + query;

	if (!(a->dropout.p > 0.0f))
		return 1.0f;
	if (!distil_dropout_keep(a->dropout.seed, (row * a->heads + h->head) * 65536 + key, a->dropout.p))
		return 0.0f;
	return 1.0f / (1.0f - a->dropout.p);
}

/* ---------- forward ---------- */

/* Columns [first, first + CUDA_ATTENTION_PASS) of a query's output. */
template <typename T>
static __device__ inline void
cuda_attend(const CudaHead<T> *h, const DistilAttention *a, int query, int first, T *out, float *lse)
{
	int			keys = a->causal ? query + 1 : h->length;
	float		top = -INFINITY;
	float		total = 0.0f;
	float		sum[CUDA_ATTENTION_COLUMNS] = {0};

	for (int start = 0; start < keys; start += 32)
	{
		int			key = start + cuda_lane();
		float		score = key < keys ? cuda_score(h, a, query, key) : -INFINITY;
		float		all = cuda_warp_max(score);
		float		shrink;
		float		p;

		all = !(all <= top) ? all : top;
		shrink = expf(top - all);
		p = key < keys ? expf(score - all) : 0.0f;
		total = total * shrink + cuda_warp_sum(p);
		top = all;
		if (key < keys)
			p *= cuda_keep(h, a, query, key);
		for (int e = 0; e < CUDA_ATTENTION_COLUMNS; e++)
			sum[e] *= shrink;
		for (int j = 0; j < 32 && start + j < keys; j++)
		{
			float		one = __shfl_sync(0xffffffffu, p, j);
			const T    *v = h->v + (size_t) (start + j) * h->ld + first;

			for (int e = 0; e < CUDA_ATTENTION_COLUMNS; e++)
				if (first + 32 * e + cuda_lane() < a->head_dim)
					sum[e] += one * cuda_number(v[32 * e + cuda_lane()]);
		}
	}
	for (int e = 0; e < CUDA_ATTENTION_COLUMNS; e++)
		if (first + 32 * e + cuda_lane() < a->head_dim)
			cuda_put(out + first + 32 * e + cuda_lane(), sum[e] / total);
	if (lse != NULL && first == 0 && cuda_lane() == 0)
		*lse = top + logf(total);
}

template <typename T>
__global__ void
attention_forward_kernel(T *out, float *lse, const T *qkv, const int32_t *offsets, DistilAttention a)
{
	CudaHead<T>	h = cuda_head(qkv, offsets, &a);
	int			warps = (int) (blockDim.x / 32);
	int			step = (int) gridDim.y * warps;
	int			last = DISTIL_QUERY_END(&a, h.length);

	for (int i = a.query_first + (int) blockIdx.y * warps + (int) threadIdx.x / 32; i < last; i += step)
	{
		size_t		row = (size_t) h.first + i;

		for (int first = 0; first < a.head_dim; first += CUDA_ATTENTION_PASS)
			cuda_attend(&h, &a, i, first, out + row * h.width + (size_t) h.head * a.head_dim,
						lse != NULL ? lse + row * a.heads + h.head : NULL);
	}
}

/* ---------- backward ---------- */

/* What backward reads of a row besides qkv. */
template <typename T>
struct CudaGradient
{
	const T    *dout;
	const T    *out;
	const float *lse;
};

/* Gradient of one score; *kept gets the probability after dropout.  delta is dout . out of the query. */
template <typename T>
static __device__ inline float
cuda_score_gradient(const CudaHead<T> *h, const DistilAttention *a, const CudaGradient<T> *g, float delta,
					int query, int key, float *kept)
{
	size_t		row = (size_t) h->first + query;
	float		p = expf(cuda_score(h, a, query, key) - g->lse[row * a->heads + h->head]);
	float		keep = cuda_keep(h, a, query, key);
	float		dp = cuda_dot(g->dout + row * h->width + (size_t) h->head * a->head_dim, h->v + key * h->ld,
							  a->head_dim);

	*kept = p * keep;
	return p * (dp * keep - delta);
}

template <typename T>
static __device__ inline float
cuda_delta(const CudaHead<T> *h, const DistilAttention *a, const CudaGradient<T> *g, int query)
{
	size_t		at = ((size_t) h->first + query) * h->width + (size_t) h->head * a->head_dim;

	return cuda_dot(g->dout + at, g->out + at, a->head_dim);
}

/* Columns of the gradient of one query. */
template <typename T>
static __device__ inline void
cuda_query_gradient(const CudaHead<T> *h, const DistilAttention *a, const CudaGradient<T> *g, int query,
					int first, T *dq)
{
	int			keys = a->causal ? query + 1 : h->length;
	float		delta = cuda_delta(h, a, g, query);
	float		sum[CUDA_ATTENTION_COLUMNS] = {0};

	for (int start = 0; start < keys; start += 32)
	{
		int			key = start + cuda_lane();
		float		kept;
		float		ds = key < keys ? a->scale * cuda_score_gradient(h, a, g, delta, query, key, &kept)
			: 0.0f;

		for (int j = 0; j < 32 && start + j < keys; j++)
		{
			float		one = __shfl_sync(0xffffffffu, ds, j);
			const T    *k = h->k + (size_t) (start + j) * h->ld + first;

			for (int e = 0; e < CUDA_ATTENTION_COLUMNS; e++)
				if (first + 32 * e + cuda_lane() < a->head_dim)
					sum[e] += one * cuda_number(k[32 * e + cuda_lane()]);
		}
	}
	for (int e = 0; e < CUDA_ATTENTION_COLUMNS; e++)
		if (first + 32 * e + cuda_lane() < a->head_dim)
			cuda_put(dq + first + 32 * e + cuda_lane(), sum[e]);
}

/* Columns of the gradients of one key and its value. */
template <typename T>
static __device__ inline void
cuda_key_gradient(const CudaHead<T> *h, const DistilAttention *a, const CudaGradient<T> *g, int key,
				  int first, T *dk, T *dv)
{
	float		sum_k[CUDA_ATTENTION_COLUMNS] = {0};
	float		sum_v[CUDA_ATTENTION_COLUMNS] = {0};

	for (int start = a->causal ? key : 0; start < h->length; start += 32)
	{
		int			query = start + cuda_lane();
		float		kept = 0.0f;
		float		ds = 0.0f;

		if (query < h->length)
			ds = a->scale * cuda_score_gradient(h, a, g, cuda_delta(h, a, g, query), query, key, &kept);
		for (int j = 0; j < 32 && start + j < h->length; j++)
		{
			float		one_k = __shfl_sync(0xffffffffu, ds, j);
			float		one_v = __shfl_sync(0xffffffffu, kept, j);
			size_t		row = (size_t) (start + j);
			const T    *q = h->q + row * h->ld + first;
			const T    *dout = g->dout + (h->first + row) * h->width + (size_t) h->head * a->head_dim + first;

			for (int e = 0; e < CUDA_ATTENTION_COLUMNS; e++)
				if (first + 32 * e + cuda_lane() < a->head_dim)
				{
					sum_k[e] += one_k * cuda_number(q[32 * e + cuda_lane()]);
					sum_v[e] += one_v * cuda_number(dout[32 * e + cuda_lane()]);
				}
		}
	}
	for (int e = 0; e < CUDA_ATTENTION_COLUMNS; e++)
		if (first + 32 * e + cuda_lane() < a->head_dim)
		{
			cuda_put(dk + first + 32 * e + cuda_lane(), sum_k[e]);
			cuda_put(dv + first + 32 * e + cuda_lane(), sum_v[e]);
		}
}

template <typename T>
__global__ void
attention_backward_kernel(T *dqkv, CudaGradient<T> g, const T *qkv, const int32_t *offsets,
						  DistilAttention a)
{
	CudaHead<T>	h = cuda_head(qkv, offsets, &a);
	int			warps = (int) (blockDim.x / 32);
	int			step = (int) gridDim.y * warps;

	for (int i = (int) blockIdx.y * warps + (int) threadIdx.x / 32; i < h.length; i += step)
	{
		T		   *dq = dqkv + ((size_t) h.first + i) * h.ld + (size_t) h.head * a.head_dim;

		for (int first = 0; first < a.head_dim; first += CUDA_ATTENTION_PASS)
		{
			cuda_query_gradient(&h, &a, &g, i, first, dq);
			cuda_key_gradient(&h, &a, &g, i, first, dq + h.width, dq + 2 * h.width);
		}
	}
}

/*
 * drelative [distance, head] += the gradients of all scores of that distance.  A block for each distance
 * and head; a thread has queries of its own, sequence after sequence.
 */
template <typename T>
__global__ void
relative_backward_kernel(CudaGradient<T> g, const T *qkv, const int32_t *offsets, DistilAttention a)
{
	__shared__ float shared[33];
	int			distance = (int) blockIdx.x - (a.relative_limit - 1);
	size_t		width = (size_t) a.heads * a.head_dim;
	float		sum = 0.0f;
	CudaHead<T>	h;

	h.head = a.head_first + (int) blockIdx.y;
	h.width = width;
	h.ld = 3 * width;
	for (int b = 0; b < a.nseq; b++)
	{
		h.first = offsets[b];
		h.length = offsets[b + 1] - h.first;
		h.q = qkv + (size_t) h.first * h.ld + (size_t) h.head * a.head_dim;
		h.k = h.q + width;
		h.v = h.k + width;
		for (int i = (int) threadIdx.x; i < h.length; i += (int) blockDim.x)
		{
			int			key = i + distance;
			float		kept;

			if (key >= 0 && key < h.length && (!a.causal || key <= i))
				sum += cuda_score_gradient(&h, &a, &g, cuda_delta(&h, &a, &g, i), i, key, &kept);
		}
	}
	sum = cuda_block_sum(sum, shared);
	if (threadIdx.x == 0)
		a.drelative[(size_t) blockIdx.x * a.heads + h.head] += sum;
}

/* ---------- launches, in float32 ---------- */

template <typename T>
static void
cuda_forward_float32(DistilDevice *dev, T *out, float *lse, const T *qkv, const int32_t *offsets,
					 const DistilAttention *a)
{
	CUDA_RUN_GRID(dev, attention_forward_kernel<T>, a->nseq * a->head_count,
				  cuda_share(dev, a, CUDA_ROW_WARPS, CUDA_ATTENTION_SHARE),
				  32 * CUDA_ROW_WARPS, out, lse, qkv, offsets, *a);
}

template <typename T>
static void
cuda_backward_float32(DistilDevice *dev, T *dqkv, CudaGradient<T> g, const T *qkv, const int32_t *offsets,
					  const DistilAttention *a)
{
	CUDA_RUN_GRID(dev, attention_backward_kernel<T>, a->nseq * a->head_count,
				  cuda_share(dev, a, CUDA_ROW_WARPS, CUDA_ATTENTION_SHARE),
				  32 * CUDA_ROW_WARPS, dqkv, g, qkv, offsets, *a);
}

#endif							/* DISTIL_ATTENTION_CUDA_CUH */
