/*
 * embedding_cuda.cuh
 *		Rows of tables: looked up, gathered, and their gradients added in a fixed order.
 *
 * Many rows may be added to one.  Rows are taken in groups; the first row of a group with some target
 * adds up the group's others with that target, in order, and the first of all groups adds those
 * sums, in order of groups.  So no two blocks write one row, and the order is always the same.
 */
#ifndef DISTIL_EMBEDDING_CUDA_CUH
#define DISTIL_EMBEDDING_CUDA_CUH

#include "cuda_device.cuh"

#define CUDA_GROUP 256			/* rows of a group */

/* ---------- kernels ---------- */

__global__ void
embedding_forward_kernel(float *y, const int32_t *ids, const int32_t *positions, const int32_t *types,
						 const float *word, const float *position, const float *type, int t, int c)
{
	CUDA_EACH(at, (size_t) t * c)
	{
		size_t		i = at / c;
		size_t		j = at % c;
		float		sum = word[(size_t) ids[i] * c + j];

		if (position != NULL)
			sum += position[(size_t) positions[i] * c + j];
		if (type != NULL)
			sum += type[(size_t) types[i] * c + j];
		y[at] = sum;
	}
}

__global__ void
gather_kernel(float *y, const float *x, const int32_t *rows, int n, int c)
{
	CUDA_EACH(at, (size_t) n * c)
		y[at] = x[(size_t) rows[at / c] * c + at % c];
}

/* Has one of rows [first, i) the target of row i?  leaders NULL: any row, otherwise only rows that lead. */
static __device__ inline bool
cuda_seen_before(const int32_t *rows, const int32_t *leaders, int first, int i)
{
	int			seen = 0;

	for (int j = first + (int) threadIdx.x; j < i; j += (int) blockDim.x)
		seen |= rows[j] == rows[i] && (leaders == NULL || leaders[j]);
	return __syncthreads_or(seen) != 0;
}

/*
 * to [c] = from [c] + dy[j] for the rows j in [first, end) that have the target (and lead, unless leaders is
 * NULL), in order, by all threads of a block.  A warp looks at 32 rows at once: most are of other targets.
 */
static __device__ inline void
cuda_add_rows(float *to, const float *from, const float *dy, const int32_t *rows, const int32_t *leaders,
			  int32_t target, int first, int end, int c)
{
	for (int start = 0; start < c; start += (int) blockDim.x)
	{
		int			column = start + (int) threadIdx.x;
		float		sum = column < c ? from[column] : 0.0f;

		for (int base = first; base < end; base += 32)
		{
			int			j = base + cuda_lane();
			unsigned	found = __ballot_sync(0xffffffffu, j < end && rows[j] == target &&
											  (leaders == NULL || leaders[j]));

			for (; found != 0 && column < c; found &= found - 1)
				sum += dy[(size_t) (base + __ffs((int) found) - 1) * c + column];
		}
		if (column < c)
			to[column] = sum;
	}
}

/* All rows are one group: dx[rows[i]] += dy[i] in order of i.  A block for each row. */
__global__ void
scatter_one_group(float *dx, const float *dy, const int32_t *rows, int n, int c)
{
	int			i = (int) blockIdx.x;
	int32_t		target = rows[i];

	if (cuda_seen_before(rows, NULL, 0, i))
		return;
	cuda_add_rows(dx + (size_t) target * c, dx + (size_t) target * c, dy, rows, NULL, target, i, n, c);
}

/* parts[i] = the sum of the rows of i's group with its target, where i is the first of them (leaders[i]). */
__global__ void
scatter_groups(float *parts, int32_t *leaders, const float *dy, const int32_t *rows, int n, int c)
{
	int			i = (int) blockIdx.x;
	int			first = i / CUDA_GROUP * CUDA_GROUP;
	int			end = first + CUDA_GROUP < n ? first + CUDA_GROUP : n;
	int32_t		target = rows[i];
	bool		seen = cuda_seen_before(rows, NULL, first, i);

	if (threadIdx.x == 0)
		leaders[i] = !seen;
	if (seen)
		return;
	cuda_add_rows(parts + (size_t) i * c, dy + (size_t) i * c, dy, rows, NULL, target, i + 1, end, c);
}

/* dx += the parts of all groups. */
__global__ void
scatter_leaders(float *dx, const float *parts, const int32_t *leaders, const int32_t *rows, int n, int c)
{
	int			i = (int) blockIdx.x;
	int32_t		target = rows[i];

	if (!leaders[i] || cuda_seen_before(rows, leaders, 0, i))
		return;
	cuda_add_rows(dx + (size_t) target * c, dx + (size_t) target * c, parts, rows, leaders, target, i, n, c);
}

/* ---------- operations ---------- */

static void
cuda_embedding_forward(DistilDevice *dev, float *y, const int32_t *ids, const int32_t *positions,
					   const int32_t *types, const float *word, const float *position, const float *type,
					   int t, int c)
{
	CUDA_RUN(dev, embedding_forward_kernel, cuda_blocks((size_t) t * c), CUDA_THREADS, y, ids, positions,
			 types, word, position, type, t, c);
}

static void
cuda_gather_rows(DistilDevice *dev, float *y, const float *x, const int32_t *rows, int n, int c)
{
	CUDA_RUN(dev, gather_kernel, cuda_blocks((size_t) n * c), CUDA_THREADS, y, x, rows, n, c);
}

static void
cuda_scatter_add_rows(DistilDevice *dev, float *dx, const float *dy, const int32_t *rows, int n, int c)
{
	/* rows whose parts and marks fit the scratch, in whole groups */
	size_t		fit = CUDA_SCRATCH / (((size_t) c + 1) * sizeof(float)) / CUDA_GROUP * CUDA_GROUP;
	int			most = fit > 32768 ? 32768 : fit < CUDA_GROUP ? CUDA_GROUP : (int) fit;

	for (int i = 0; i < n; i += most)
	{
		int			count = n - i < most ? n - i : most;
		int32_t    *leaders = (int32_t *) cuda_device(dev)->scratch;
		float	   *parts = (float *) (leaders + most);

		if (count <= CUDA_GROUP)
		{
			CUDA_RUN(dev, scatter_one_group, count, CUDA_THREADS, dx, dy + (size_t) i * c, rows + i, count,
					 c);
			continue;
		}
		CUDA_RUN(dev, scatter_groups, count, CUDA_THREADS, parts, leaders, dy + (size_t) i * c, rows + i,
				 count, c);
		CUDA_RUN(dev, scatter_leaders, count, CUDA_THREADS, dx, (const float *) parts,
				 (const int32_t *) leaders, rows + i, count, c);
	}
}

static void
cuda_embedding_backward(DistilDevice *dev, float *dword, float *dposition, float *dtype, const float *dy,
						const int32_t *ids, const int32_t *positions, const int32_t *types, int t, int c)
{
	if (dword != NULL)
		cuda_scatter_add_rows(dev, dword, dy, ids, t, c);
	if (dposition != NULL)
		cuda_scatter_add_rows(dev, dposition, dy, positions, t, c);
	if (dtype != NULL)
		cuda_scatter_add_rows(dev, dtype, dy, types, t, c);
}

#endif							/* DISTIL_EMBEDDING_CUDA_CUH */
