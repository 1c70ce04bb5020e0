/*
 * gemm_cuda.cuh
 *		Own matrix products, for any shape: float32 with FMA, bfloat16 with tensor cores.
 *
 * C [m, n] = A B, where A (i, l) = a[i * a_row + l * a_col] and B (l, j) = b[l * b_row + j * b_col], so that
 * the three products of a linear layer are one kernel.  An element's sum is one chain over l, whatever
 * rows are computed with it.  They serve where cuBLASLt is missing or refuses a shape.
 * In memory operands are float32, or bfloat16 (uint16_t), then C may be it too.
 */
#ifndef DISTIL_GEMM_CUDA_CUH
#define DISTIL_GEMM_CUDA_CUH

#include "tensor_cuda.cuh"
#include "vector_cuda.cuh"

typedef struct CudaProduct
{
	void	   *c;
	size_t		c_row;
	const void *a;
	size_t		a_row,
				a_col;
	const void *b;
	size_t		b_row,
				b_col;
	int			m,
				n,
				k;
	const void *bias;			/* [n] or NULL */
	DistilActivation act;
	bool		accumulate;		/* C += */
	bool		half;			/* A, B and bias are bfloat16 */
	bool		half_c;			/* C too */
	float	   *sums;			/* [m] = the sums of A's rows, by cuBLASLt only; NULL: not wanted */
} CudaProduct;

template <typename In, typename Out>
static __device__ inline void
cuda_product_store(const CudaProduct *p, int i, int j, float sum)
{
	Out		   *c = (Out *) p->c + (size_t) i * p->c_row + j;

	if (i >= p->m || j >= p->n)
		return;
	if (p->bias != NULL)
		sum += cuda_number(((const In *) p->bias)[j]);
	sum = cuda_activate(p->act, sum);
	cuda_put(c, p->accumulate ? cuda_number(*c) + sum : sum);
}

/* ---------- float32: blocks of 64 x 64, 16 steps of l at a time ---------- */

#define CUDA_TILE 64
#define CUDA_TILE_STEPS 16
#define CUDA_TILE_PART 128

/*
 * [CUDA_TILE_STEPS][CUDA_TILE] of an operand into shared memory; neighbours in memory go to neighbouring
 * threads.  `row` and `col` are its strides along the tile's rows and along l.
 */
static __device__ inline void
cuda_load_tile(float (*tile)[CUDA_TILE + 4], const float *from, size_t row, size_t col, int first, int rows,
			   int step, int steps)
{
	for (int e = (int) threadIdx.x; e < CUDA_TILE * CUDA_TILE_STEPS; e += 256)
	{
		int			l = col == 1 ? e % CUDA_TILE_STEPS : e / CUDA_TILE;
		int			i = col == 1 ? e / CUDA_TILE_STEPS : e % CUDA_TILE;
		bool		inside = first + i < rows && step + l < steps;

		tile[l][i] = inside ? from[(size_t) (first + i) * row + (size_t) (step + l) * col] : 0.0f;
	}
}

__global__ void
__launch_bounds__(256)
product_float32(const __grid_constant__ CudaProduct p)
{
	__shared__ float a[CUDA_TILE_STEPS][CUDA_TILE + 4];
	__shared__ float b[CUDA_TILE_STEPS][CUDA_TILE + 4];
	int			first = (int) blockIdx.x * CUDA_TILE;
	int			column = (int) blockIdx.y * CUDA_TILE;
	int			ty = (int) threadIdx.x / 16 * 4;
	int			tx = (int) threadIdx.x % 16 * 4;
	float		sum[4][4] = {{0}};
	float		total[4][4] = {{0}};

	for (int step = 0; step < p.k; step += CUDA_TILE_STEPS)
	{
		cuda_load_tile(a, (const float *) p.a, p.a_row, p.a_col, first, p.m, step, p.k);
		cuda_load_tile(b, (const float *) p.b, p.b_col, p.b_row, column, p.n, step, p.k);
		__syncthreads();
#pragma unroll
		for (int l = 0; l < CUDA_TILE_STEPS; l++)
#pragma unroll
			for (int i = 0; i < 4; i++)
#pragma unroll
				for (int j = 0; j < 4; j++)
					sum[i][j] += a[l][ty + i] * b[l][tx + j];
		__syncthreads();
		/* long sums are made of shorter ones, which loses less */
		if (step % CUDA_TILE_PART != CUDA_TILE_PART - CUDA_TILE_STEPS)
			continue;
#pragma unroll
		for (int i = 0; i < 4; i++)
#pragma unroll
			for (int j = 0; j < 4; j++)
			{
				total[i][j] += sum[i][j];
				sum[i][j] = 0.0f;
			}
	}
#pragma unroll
	for (int i = 0; i < 4; i++)
#pragma unroll
		for (int j = 0; j < 4; j++)
			cuda_product_store<float, float>(&p, first + ty + i, column + tx + j, total[i][j] + sum[i][j]);
}

/* ---------- bfloat16: blocks of 128 x 128, 32 steps of l at a time, eight warps of 64 x 32 ---------- */

#define CUDA_HALF_TILE 128
#define CUDA_HALF_STEPS 32
/* 20 words a row: the eight rows of a fragment lie in different banks. */
#define CUDA_HALF_STRIDE (CUDA_HALF_STEPS + 8)

/* Elements a thread loads for one tile. */
#define CUDA_HALF_LOADS (CUDA_HALF_TILE * CUDA_HALF_STEPS / 256)

/* The next tile of an operand into registers, so that memory works while the tensor cores do. */
template <typename In, typename Raw>
static __device__ inline void
cuda_fetch_half(Raw (&to)[CUDA_HALF_LOADS], const In *from, size_t row, size_t col, int first, int rows,
				int step, int steps)
{
#pragma unroll
	for (int r = 0; r < CUDA_HALF_LOADS; r++)
	{
		int			e = (int) threadIdx.x + 256 * r;
		int			l = col == 1 ? e % CUDA_HALF_STEPS : e / CUDA_HALF_TILE;
		int			i = col == 1 ? e / CUDA_HALF_STEPS : e % CUDA_HALF_TILE;
		bool		inside = first + i < rows && step + l < steps;

		to[r] = inside ? from[(size_t) (first + i) * row + (size_t) (step + l) * col] : (Raw) 0;
	}
}

static __device__ inline uint16_t
cuda_round(float x)
{
	return cuda_to_bf16(x);
}

static __device__ inline uint16_t
cuda_round(uint32_t x)
{
	return (uint16_t) x;
}

/* What a register holds of an element: narrow ones would lie in memory. */
template <typename In>
struct CudaRaw
{
	typedef In	type;
};

template <>
struct CudaRaw<uint16_t>
{
	typedef uint32_t type;
};

template <typename Raw>
static __device__ inline void
cuda_store_half(uint16_t (*tile)[CUDA_HALF_STRIDE], const Raw (&from)[CUDA_HALF_LOADS], size_t col)
{
#pragma unroll
	for (int r = 0; r < CUDA_HALF_LOADS; r++)
	{
		int			e = (int) threadIdx.x + 256 * r;
		int			l = col == 1 ? e % CUDA_HALF_STEPS : e / CUDA_HALF_TILE;
		int			i = col == 1 ? e / CUDA_HALF_STEPS : e % CUDA_HALF_TILE;

		tile[i][l] = cuda_round(from[r]);
	}
}

template <typename In, typename Out>
__global__ void
__launch_bounds__(256, 1)
product_bf16(const __grid_constant__ CudaProduct p)
{
	__shared__ __align__(16) uint16_t a[CUDA_HALF_TILE][CUDA_HALF_STRIDE];
	__shared__ __align__(16) uint16_t b[CUDA_HALF_TILE][CUDA_HALF_STRIDE];
	int			first = (int) blockIdx.x * CUDA_HALF_TILE;
	int			column = (int) blockIdx.y * CUDA_HALF_TILE;
	int			warp = (int) threadIdx.x / 32;
	int			row = warp / 4 * 64;	/* of the warp in the tile */
	int			col = warp % 4 * 32;
	int			group = cuda_lane() / 4;
	int			pair = cuda_lane() % 4 * 2;
	const In   *from_a = (const In *) p.a;
	const In   *from_b = (const In *) p.b;
	typename CudaRaw<In>::type next_a[CUDA_HALF_LOADS];
	typename CudaRaw<In>::type next_b[CUDA_HALF_LOADS];
	float		sum[4][4][4] = {{{0}}};

	cuda_fetch_half(next_a, from_a, p.a_row, p.a_col, first, p.m, 0, p.k);
	cuda_fetch_half(next_b, from_b, p.b_col, p.b_row, column, p.n, 0, p.k);
	for (int step = 0; step < p.k; step += CUDA_HALF_STEPS)
	{
		cuda_store_half(a, next_a, p.a_col);
		cuda_store_half(b, next_b, p.b_row);
		__syncthreads();
		cuda_fetch_half(next_a, from_a, p.a_row, p.a_col, first, p.m, step + CUDA_HALF_STEPS, p.k);
		cuda_fetch_half(next_b, from_b, p.b_col, p.b_row, column, p.n, step + CUDA_HALF_STEPS, p.k);
#pragma unroll
		for (int l = 0; l < CUDA_HALF_STEPS; l += 16)
		{
			uint32_t	fa[4][4];
			uint32_t	fb[4][2];

#pragma unroll
			for (int i = 0; i < 4; i++)
			{
				fa[i][0] = cuda_pair(&a[row + 16 * i + group][l + pair]);
				fa[i][1] = cuda_pair(&a[row + 16 * i + group + 8][l + pair]);
				fa[i][2] = cuda_pair(&a[row + 16 * i + group][l + pair + 8]);
				fa[i][3] = cuda_pair(&a[row + 16 * i + group + 8][l + pair + 8]);
			}
#pragma unroll
			for (int j = 0; j < 4; j++)
			{
				fb[j][0] = cuda_pair(&b[col + 8 * j + group][l + pair]);
				fb[j][1] = cuda_pair(&b[col + 8 * j + group][l + pair + 8]);
			}
#pragma unroll
			for (int i = 0; i < 4; i++)
#pragma unroll
				for (int j = 0; j < 4; j++)
					cuda_mma(sum[i][j], fa[i], fb[j]);
		}
		__syncthreads();
	}
#pragma unroll
	for (int i = 0; i < 4; i++)
#pragma unroll
		for (int j = 0; j < 4; j++)
#pragma unroll
			for (int e = 0; e < 4; e++)
				cuda_product_store<In, Out>(&p, first + row + 16 * i + group + e / 2 * 8,
								   column + col + 8 * j + pair + e % 2, sum[i][j][e]);
}

/* y [m, n] = act(y), rows ldy apart. */
__global__ void
activation_rows_kernel(DistilActivation act, float *y, size_t ldy, int m, int n)
{
	CUDA_EACH(at, (size_t) m * n)
	{
		float	   *value = y + at / n * ldy + at % n;

		*value = cuda_activate(act, *value);
	}
}

static void
cuda_product(DistilDevice *dev, const CudaProduct *p)
{
	if (cuda_device(dev)->precision == CUDA_FLOAT32)
		CUDA_RUN_GRID(dev, product_float32, (p->m + CUDA_TILE - 1) / CUDA_TILE,
					  (p->n + CUDA_TILE - 1) / CUDA_TILE, 256, *p);
	else
	{
		auto		kernel = !p->half ? product_bf16<float, float>
			: p->half_c ? product_bf16<uint16_t, uint16_t> : product_bf16<uint16_t, float>;

		CUDA_RUN_GRID(dev, kernel, (p->m + CUDA_HALF_TILE - 1) / CUDA_HALF_TILE,
					  (p->n + CUDA_HALF_TILE - 1) / CUDA_HALF_TILE, 256, *p);
	}
}

#endif							/* DISTIL_GEMM_CUDA_CUH */
