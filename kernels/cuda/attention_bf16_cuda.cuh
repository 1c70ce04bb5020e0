/*
 * attention_bf16_cuda.cuh
 *		Attention on the tensor cores, for heads of 32 and 64 columns: operands are rounded to
 *		bfloat16, sums, softmax and results are float32.
 *
 * A block has 64 rows (queries, or for the gradients of k and v keys), a warp 16 of them, and goes over the
 * other side in tiles of 64 that lie in shared memory by rows; where the sum runs over rows they are read
 * turned.  The sums of one product are the left operand of the next without leaving the registers.
 * No gradient is added by two blocks: scores are computed once for dq and once for dk and dv.
 */
#ifndef DISTIL_ATTENTION_BF16_CUDA_CUH
#define DISTIL_ATTENTION_BF16_CUDA_CUH

#include "attention_cuda.cuh"
#include "tensor_cuda.cuh"

#define CUDA_KEYS 64			/* rows of a tile */
#define CUDA_TILE_THREADS 128
#define CUDA_TILE_SHARE 8		/* blocks of a sequence and head */

/* ---------- tiles and fragments ---------- */

/* Neighbours a thread copies at a time: 16 bytes of bfloat16. */
static __device__ inline void
cuda_copy_run(uint16_t *to, const uint16_t *from)
{
	*(CudaRun *) to = *(const CudaRun *) from;
}

static __device__ inline void
cuda_copy_run(uint16_t *to, const float *from)
{
#pragma unroll
	for (int e = 0; e < 8; e += 2)
		*(uint32_t *) (to + e) = cuda_pair(from + e);
}

/*
 * Rows [first, first + 64) into shared memory, zeros behind the last.
 * Rows of a fragment lie in different banks.
 */
template <int D, typename T>
static __device__ inline void
cuda_load_rows(uint16_t (*tile)[D + 8], const T *from, size_t ld, int first, int length)
{
	for (int e = (int) threadIdx.x; e < CUDA_KEYS * D / 8; e += CUDA_TILE_THREADS)
	{
		int			row = e / (D / 8);
		int			column = e % (D / 8) * 8;

		if (first + row < length)
			cuda_copy_run(&tile[row][column], from + (size_t) (first + row) * ld + column);
		else
			*(CudaRun *) &tile[row][column] = CudaRun {{0, 0, 0, 0}};
	}
}

/* The left operand of a warp's 16 rows from `first` on, all D columns; zeros behind the last row. */
template <int D, typename T>
static __device__ inline void
cuda_load_left(uint32_t (&to)[D / 16][4], const T *from, size_t ld, int first, int length)
{
	int			group = cuda_lane() / 4;
	int			pair = cuda_lane() % 4 * 2;

#pragma unroll
	for (int l = 0; l < D / 16; l++)
#pragma unroll
		for (int e = 0; e < 4; e++)
		{
			int			row = first + group + e % 2 * 8;

			to[l][e] = row < length ? cuda_pair(from + (size_t) row * ld + 16 * l + e / 2 * 8 + pair) : 0;
		}
}

/* c [16 x 64] = the rows of `left` times the 64 rows of the tile */
template <int D>
static __device__ inline void
cuda_scores(float (&c)[8][4], const uint32_t (&left)[D / 16][4], const uint16_t (*tile)[D + 8])
{
	int			group = cuda_lane() / 4;
	int			pair = cuda_lane() % 4 * 2;

#pragma unroll
	for (int j = 0; j < 8; j++)
	{
#pragma unroll
		for (int e = 0; e < 4; e++)
			c[j][e] = 0.0f;
#pragma unroll
		for (int l = 0; l < D / 16; l++)
		{
			uint32_t	right[2] = {cuda_pair(&tile[8 * j + group][16 * l + pair]),
			cuda_pair(&tile[8 * j + group][16 * l + pair + 8])};

			cuda_mma(c[j], left[l], right);
		}
	}
}

/* c [16 x D] += p [16 x 64] times the 64 rows of a tile */
template <int D>
static __device__ inline void
cuda_weigh(float (&c)[D / 8][4], const float (&p)[8][4], const uint16_t (*tile)[D + 8])
{
#pragma unroll
	for (int l = 0; l < 4; l++)
	{
		uint32_t	left[4] = {cuda_pack_bf16(p[2 * l][0], p[2 * l][1]),
		cuda_pack_bf16(p[2 * l][2], p[2 * l][3]), cuda_pack_bf16(p[2 * l + 1][0], p[2 * l + 1][1]),
		cuda_pack_bf16(p[2 * l + 1][2], p[2 * l + 1][3])};

#pragma unroll
		for (int j = 0; j < D / 8; j++)
		{
			uint32_t	right[2];

			cuda_load_turned(right, &tile[16 * l][8 * j], D + 8);
			cuda_mma(c[j], left, right);
		}
	}
}

/* A scaled product becomes a score: with the place's bias, or minus infinity where nothing is. */
template <typename T>
static __device__ inline float
cuda_place_score(const CudaHead<T> *h, const DistilAttention *a, float product, int query, int key)
{
	if (key >= h->length || (a->causal && key > query))
		return -INFINITY;
	product *= a->scale;
	if (a->relative != NULL && query < h->length)
		product += a->relative[(size_t) (key - query + a->relative_limit - 1) * a->heads + h->head];
	return product;
}

/* Over the four lanes that share rows. */
static __device__ inline float
cuda_quad_sum(float x)
{
	x += __shfl_xor_sync(0xffffffffu, x, 1);
	return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

static __device__ inline float
cuda_quad_max(float x)
{
	for (int step = 1; step < 4; step *= 2)
	{
		float		other = __shfl_xor_sync(0xffffffffu, x, step);

		x = !(other <= x) ? other : x;
	}
	return x;
}

static __device__ inline void
cuda_put_pair(float *to, float low, float high)
{
	to[0] = low;
	to[1] = high;
}

static __device__ inline void
cuda_put_pair(uint16_t *to, float low, float high)
{
	*(uint32_t *) to = cuda_pack_bf16(low, high);
}

/* A row's two neighbours of each tile to memory. */
template <int D, typename T>
static __device__ inline void
cuda_store_row(T *to, const float (&c)[D / 8][4], int half, float factor)
{
	int			pair = cuda_lane() % 4 * 2;

#pragma unroll
	for (int j = 0; j < D / 8; j++)
		cuda_put_pair(to + 8 * j + pair, c[j][2 * half] * factor, c[j][2 * half + 1] * factor);
}

/* ---------- forward ---------- */

template <int D, typename T>
__global__ void
__launch_bounds__(CUDA_TILE_THREADS, 2)
attention_forward_bf16(T *out, float *lse, const T *qkv, const int32_t *offsets, DistilAttention a)
{
	__shared__ __align__(16) uint16_t keys[CUDA_KEYS][D + 8];
	__shared__ __align__(16) uint16_t values[CUDA_KEYS][D + 8];
	CudaHead<T>	h = cuda_head(qkv, offsets, &a);
	int			group = cuda_lane() / 4;
	int			pair = cuda_lane() % 4 * 2;
	int			last = DISTIL_QUERY_END(&a, h.length);

	for (int block = a.query_first / CUDA_KEYS + (int) blockIdx.y; block * CUDA_KEYS < last;
		 block += (int) gridDim.y)
	{
		int			first = block * CUDA_KEYS + (int) threadIdx.x / 32 * 16;
		int			end = a.causal && (block + 1) * CUDA_KEYS < h.length ? (block + 1) * CUDA_KEYS : h.length;
		uint32_t	q[D / 16][4];
		float		sum[D / 8][4] = {{0}};
		float		top[2] = {-INFINITY, -INFINITY};
		float		total[2] = {0.0f, 0.0f};

		cuda_load_left<D>(q, h.q, h.ld, first, h.length);
		for (int start = 0; start < end; start += CUDA_KEYS)
		{
			float		p[8][4];

			__syncthreads();
			cuda_load_rows<D>(keys, h.k, h.ld, start, h.length);
			cuda_load_rows<D>(values, h.v, h.ld, start, h.length);
			__syncthreads();
			cuda_scores<D>(p, q, keys);
#pragma unroll
			for (int half = 0; half < 2; half++)
			{
				int			query = first + group + 8 * half;
				float		all = top[half];
				float		part = 0.0f;
				float		shrink;

#pragma unroll
				for (int j = 0; j < 8; j++)
#pragma unroll
					for (int e = 2 * half; e < 2 * half + 2; e++)
					{
						p[j][e] = cuda_place_score(&h, &a, p[j][e], query, start + 8 * j + pair + e % 2);
						all = !(p[j][e] <= all) ? p[j][e] : all;
					}
				all = cuda_quad_max(all);
				shrink = expf(top[half] - all);
				top[half] = all;
#pragma unroll
				for (int j = 0; j < 8; j++)
#pragma unroll
					for (int e = 2 * half; e < 2 * half + 2; e++)
					{
						p[j][e] = expf(p[j][e] - all);
						part += p[j][e];
						p[j][e] *= cuda_keep(&h, &a, query, start + 8 * j + pair + e % 2);
					}
				total[half] = total[half] * shrink + cuda_quad_sum(part);
#pragma unroll
				for (int j = 0; j < D / 8; j++)
				{
					sum[j][2 * half] *= shrink;
					sum[j][2 * half + 1] *= shrink;
				}
			}
			cuda_weigh<D>(sum, p, values);
		}
#pragma unroll
		for (int half = 0; half < 2; half++)
		{
			int			query = first + group + 8 * half;
			size_t		row = (size_t) h.first + query;

			if (query >= last || query < a.query_first)
				continue;
			cuda_store_row<D>(out + row * h.width + (size_t) h.head * D, sum, half, 1.0f / total[half]);
			if (lse != NULL && pair == 0)
				lse[row * a.heads + h.head] = top[half] + logf(total[half]);
		}
	}
}

/* ---------- backward ---------- */

/*
 * From a score's product and dp: *p becomes the probability after dropout, *dp the gradient of the score.
 */
template <typename T>
static __device__ inline void
cuda_place_gradient(const CudaHead<T> *h, const DistilAttention *a, float *p, float *dp, float lse,
					float delta, int query, int key)
{
	float		score = query < h->length ? cuda_place_score(h, a, *p, query, key) : -INFINITY;
	float		probability = expf(score - lse);
	float		keep = cuda_keep(h, a, query, key);

	*dp = probability * (*dp * keep - delta);
	*p = probability * keep;
}

/* dq of 64 queries. */
template <int D, typename T>
__global__ void
__launch_bounds__(CUDA_TILE_THREADS, 2)
attention_backward_queries(T *dqkv, CudaGradient<T> g, const T *qkv, const int32_t *offsets,
						   DistilAttention a)
{
	__shared__ __align__(16) uint16_t keys[CUDA_KEYS][D + 8];
	__shared__ __align__(16) uint16_t values[CUDA_KEYS][D + 8];
	CudaHead<T>	h = cuda_head(qkv, offsets, &a);
	size_t		column = (size_t) h.head * D;
	int			group = cuda_lane() / 4;
	int			pair = cuda_lane() % 4 * 2;

	for (int block = (int) blockIdx.y; block * CUDA_KEYS < h.length; block += (int) gridDim.y)
	{
		int			first = block * CUDA_KEYS + (int) threadIdx.x / 32 * 16;
		int			end = a.causal && (block + 1) * CUDA_KEYS < h.length ? (block + 1) * CUDA_KEYS : h.length;
		uint32_t	q[D / 16][4];
		uint32_t	dout[D / 16][4];
		float		sum[D / 8][4] = {{0}};
		float		lse[2] = {0.0f, 0.0f};
		float		delta[2] = {0.0f, 0.0f};

		cuda_load_left<D>(q, h.q, h.ld, first, h.length);
		cuda_load_left<D>(dout, g.dout + (size_t) h.first * h.width + column, h.width, first, h.length);
#pragma unroll
		for (int half = 0; half < 2; half++)
			if (first + group + 8 * half < h.length)
			{
				lse[half] = g.lse[((size_t) h.first + first + group + 8 * half) * a.heads + h.head];
				delta[half] = cuda_delta(&h, &a, &g, first + group + 8 * half);
			}
		for (int start = 0; start < end; start += CUDA_KEYS)
		{
			float		p[8][4];
			float		ds[8][4];

			__syncthreads();
			cuda_load_rows<D>(keys, h.k, h.ld, start, h.length);
			cuda_load_rows<D>(values, h.v, h.ld, start, h.length);
			__syncthreads();
			cuda_scores<D>(p, q, keys);
			cuda_scores<D>(ds, dout, values);
#pragma unroll
			for (int j = 0; j < 8; j++)
#pragma unroll
				for (int e = 0; e < 4; e++)
					cuda_place_gradient(&h, &a, &p[j][e], &ds[j][e], lse[e / 2], delta[e / 2],
										first + group + e / 2 * 8, start + 8 * j + pair + e % 2);
			cuda_weigh<D>(sum, ds, keys);
		}
#pragma unroll
		for (int half = 0; half < 2; half++)
			if (first + group + 8 * half < h.length)
				cuda_store_row<D>(dqkv + ((size_t) h.first + first + group + 8 * half) * h.ld + column, sum,
								  half, a.scale);
	}
}

/* dk and dv of 64 keys: rows are keys here, the tile's are queries. */
template <int D, typename T>
__global__ void
__launch_bounds__(CUDA_TILE_THREADS, 2)
attention_backward_keys(T *dqkv, CudaGradient<T> g, const T *qkv, const int32_t *offsets, DistilAttention a)
{
	__shared__ __align__(16) uint16_t queries[CUDA_KEYS][D + 8];
	__shared__ __align__(16) uint16_t douts[CUDA_KEYS][D + 8];
	__shared__ float lse[CUDA_KEYS];
	__shared__ float delta[CUDA_KEYS];
	CudaHead<T>	h = cuda_head(qkv, offsets, &a);
	size_t		column = (size_t) h.head * D;
	const T    *dout = g.dout + (size_t) h.first * h.width + column;
	int			group = cuda_lane() / 4;
	int			pair = cuda_lane() % 4 * 2;

	for (int block = (int) blockIdx.y; block * CUDA_KEYS < h.length; block += (int) gridDim.y)
	{
		int			first = block * CUDA_KEYS + (int) threadIdx.x / 32 * 16;
		uint32_t	k[D / 16][4];
		uint32_t	v[D / 16][4];
		float		dk[D / 8][4] = {{0}};
		float		dv[D / 8][4] = {{0}};

		cuda_load_left<D>(k, h.k, h.ld, first, h.length);
		cuda_load_left<D>(v, h.v, h.ld, first, h.length);
		for (int start = a.causal ? block * CUDA_KEYS : 0; start < h.length; start += CUDA_KEYS)
		{
			float		p[8][4];
			float		ds[8][4];

			__syncthreads();
			cuda_load_rows<D>(queries, h.q, h.ld, start, h.length);
			cuda_load_rows<D>(douts, dout, h.width, start, h.length);
			for (int i = (int) threadIdx.x; i < CUDA_KEYS; i += CUDA_TILE_THREADS)
			{
				bool		inside = start + i < h.length;

				lse[i] = inside ? g.lse[((size_t) h.first + start + i) * a.heads + h.head] : 0.0f;
				delta[i] = inside ? cuda_delta(&h, &a, &g, start + i) : 0.0f;
			}
			__syncthreads();
			cuda_scores<D>(p, k, queries);
			cuda_scores<D>(ds, v, douts);
#pragma unroll
			for (int j = 0; j < 8; j++)
#pragma unroll
				for (int e = 0; e < 4; e++)
				{
					int			i = 8 * j + pair + e % 2;

					cuda_place_gradient(&h, &a, &p[j][e], &ds[j][e], lse[i], delta[i], start + i,
										first + group + e / 2 * 8);
				}
			cuda_weigh<D>(dv, p, douts);
			cuda_weigh<D>(dk, ds, queries);
		}
#pragma unroll
		for (int half = 0; half < 2; half++)
			if (first + group + 8 * half < h.length)
			{
				T		   *to = dqkv + ((size_t) h.first + first + group + 8 * half) * h.ld + column;

				cuda_store_row<D>(to + h.width, dk, half, a.scale);
				cuda_store_row<D>(to + 2 * h.width, dv, half, 1.0f);
			}
	}
}

/* ---------- operations ---------- */

template <int D, typename T>
static void
cuda_forward_bf16(DistilDevice *dev, T *out, float *lse, const T *qkv, const int32_t *offsets,
				  const DistilAttention *a)
{
	auto		kernel = attention_forward_bf16<D, T>;

	CUDA_RUN_GRID(dev, kernel, a->nseq * a->head_count, cuda_share(dev, a, CUDA_KEYS, CUDA_TILE_SHARE),
				  CUDA_TILE_THREADS, out, lse, qkv, offsets, *a);
}

template <int D, typename T>
static void
cuda_backward_bf16(DistilDevice *dev, T *dqkv, CudaGradient<T> g, const T *qkv, const int32_t *offsets,
				   const DistilAttention *a)
{
	auto		queries = attention_backward_queries<D, T>;
	auto		keys = attention_backward_keys<D, T>;

	int			share = cuda_share(dev, a, CUDA_KEYS, CUDA_TILE_SHARE);

	CUDA_RUN_GRID(dev, queries, a->nseq * a->head_count, share, CUDA_TILE_THREADS, dqkv, g, qkv, offsets,
				  *a);
	CUDA_RUN_GRID(dev, keys, a->nseq * a->head_count, share, CUDA_TILE_THREADS, dqkv, g, qkv, offsets, *a);
}

template <typename T>
static void
cuda_attention_forward(DistilDevice *dev, T *out, float *lse, const T *qkv, const int32_t *offsets,
					   const DistilAttention *attention)
{
	bool		round = cuda_device(dev)->precision == CUDA_BF16;

	if (round && attention->head_dim == 64)
		cuda_forward_bf16<64>(dev, out, lse, qkv, offsets, attention);
	else if (round && attention->head_dim == 32)
		cuda_forward_bf16<32>(dev, out, lse, qkv, offsets, attention);
	else
		cuda_forward_float32(dev, out, lse, qkv, offsets, attention);
}

template <typename T>
static void
cuda_attention_backward(DistilDevice *dev, T *dqkv, const T *dout, const T *qkv, const T *out,
						const float *lse, const int32_t *offsets, const DistilAttention *attention)
{
	bool		round = cuda_device(dev)->precision == CUDA_BF16;
	CudaGradient<T> g = {dout, out, lse};

	if (round && attention->head_dim == 64)
		cuda_backward_bf16<64>(dev, dqkv, g, qkv, offsets, attention);
	else if (round && attention->head_dim == 32)
		cuda_backward_bf16<32>(dev, dqkv, g, qkv, offsets, attention);
	else
		cuda_backward_float32(dev, dqkv, g, qkv, offsets, attention);
	if (attention->drelative != NULL)
		CUDA_RUN_GRID(dev, relative_backward_kernel<T>, 2 * attention->relative_limit - 1,
					  attention->head_count, CUDA_THREADS, g, qkv, offsets, *attention);
}

#endif							/* DISTIL_ATTENTION_BF16_CUDA_CUH */
