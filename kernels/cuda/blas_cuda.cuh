/*
 * blas_cuda.cuh
 *		Products by cuBLASLt, a library that is opened at run time and may be missing.
 *
 * Row-major C = A B is given to it as the column-major product of the transposes.  Each shape asks once
 * for an algorithm; what it refuses is left to the own kernels.  For bfloat16 operands that are float32
 * in memory are rounded into scratch memory first; sums are float32.
 */
#ifndef DISTIL_BLAS_CUDA_CUH
#define DISTIL_BLAS_CUDA_CUH

#include "gemm_cuda.cuh"

#include <stdio.h>
#include <string.h>

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#include <dlfcn.h>

#define CUDA_BLAS_SHAPES 256	/* remembered; the oldest is forgotten */
#define CUDA_BLAS_WORKSPACE ((size_t) 32 << 20)
#define CUDA_BLAS_OPERAND ((size_t) 160 << 20)	/* bytes of one rounded operand */

/* What an algorithm is chosen by. */
typedef struct CudaShape
{
	CudaPrecision precision;
	int			m,
				n,
				k;
	size_t		c_row,
				a_ld,
				b_ld;
	bool		a_plain;		/* a_col == 1 */
	bool		b_plain;		/* b_col == 1 */
	bool		bias;
	bool		sums;
	bool		half_c;			/* the result (and the bias) is bfloat16 */
	int			alignment;		/* of all addresses together */
} CudaShape;

typedef struct CudaPlan
{
	CudaShape	shape;
	bool		used;
	bool		possible;
	cublasLtMatmulDesc_t desc;
	cublasLtMatrixLayout_t a,
				b,
				c;
	cublasLtMatmulAlgo_t algo;
} CudaPlan;

struct CudaBlas
{
	cublasLtHandle_t handle;
	void	   *workspace;
	uint16_t   *operands[2];	/* bfloat16 only */
	CudaPlan	plans[CUDA_BLAS_SHAPES];
	int			next;
#define CUDA_BLAS_FUNCTIONS(F) \
	F(cublasLtCreate) F(cublasLtDestroy) F(cublasLtMatmul) F(cublasLtMatmulAlgoGetHeuristic) \
	F(cublasLtMatmulDescCreate) F(cublasLtMatmulDescDestroy) F(cublasLtMatmulDescSetAttribute) \
	F(cublasLtMatrixLayoutCreate) F(cublasLtMatrixLayoutDestroy) \
	F(cublasLtMatmulPreferenceCreate) F(cublasLtMatmulPreferenceDestroy) \
	F(cublasLtMatmulPreferenceSetAttribute)
#define CUDA_BLAS_MEMBER(name) decltype(&::name) name;
	CUDA_BLAS_FUNCTIONS(CUDA_BLAS_MEMBER)
#undef CUDA_BLAS_MEMBER
};

/* ---------- opening ---------- */

static void
cuda_blas_close(CudaDevice *cuda)
{
	CudaBlas   *blas = cuda->blas;

	if (blas == NULL)
		return;
	for (int i = 0; i < CUDA_BLAS_SHAPES; i++)
		if (blas->plans[i].used)
		{
			blas->cublasLtMatmulDescDestroy(blas->plans[i].desc);
			blas->cublasLtMatrixLayoutDestroy(blas->plans[i].a);
			blas->cublasLtMatrixLayoutDestroy(blas->plans[i].b);
			blas->cublasLtMatrixLayoutDestroy(blas->plans[i].c);
		}
	if (blas->handle != NULL)
		blas->cublasLtDestroy(blas->handle);
	cudaFree(blas->workspace);
	cudaFree(blas->operands[0]);
	cudaFree(blas->operands[1]);
	cudaFreeHost(blas);
	cuda->blas = NULL;
}

/* One library; it may be there and not work with this driver. */
static bool
cuda_blas_try(CudaBlas *blas, const char *name)
{
	void	   *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);

	if (library == NULL)
		return false;
#define CUDA_BLAS_LOAD(name) \
	*(void **) &blas->name = dlsym(library, #name); \
	if (blas->name == NULL) \
		return false;
	CUDA_BLAS_FUNCTIONS(CUDA_BLAS_LOAD)
#undef CUDA_BLAS_LOAD
	return blas->cublasLtCreate(&blas->handle) == CUBLAS_STATUS_SUCCESS;
}

static bool
cuda_blas_load(CudaBlas *blas)
{
	static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (cuda_blas_try(blas, names[i]))
			return true;
	blas->handle = NULL;
	return false;
}

/* Leaves cuda->blas NULL where the library or the memory for it is not to be had. */
static void
cuda_blas_open(CudaDevice *cuda)
{
	bool		round = cuda->precision == CUDA_BF16;
	void	   *memory;

	if (cudaMallocHost(&memory, sizeof(CudaBlas)) != cudaSuccess)
		return;
	memset(memory, 0, sizeof(CudaBlas));
	cuda->blas = (CudaBlas *) memory;
	if (cuda_blas_load(cuda->blas) &&
		cudaMalloc(&cuda->blas->workspace, CUDA_BLAS_WORKSPACE) == cudaSuccess &&
		(!round || (cudaMalloc((void **) &cuda->blas->operands[0], CUDA_BLAS_OPERAND) == cudaSuccess &&
					cudaMalloc((void **) &cuda->blas->operands[1], CUDA_BLAS_OPERAND) == cudaSuccess)))
		return;
	cuda_blas_close(cuda);
	(void) cudaGetLastError();
}

/* ---------- plans ---------- */

static int
cuda_alignment(const void *const *addresses, int n)
{
	uintptr_t	bits = 256;

	for (int i = 0; i < n; i++)
		bits |= (uintptr_t) addresses[i];
	return (int) (bits & (~bits + 1));
}

/* vector: the bias or the sums, whose address the algorithm depends on too */
static bool
cuda_plan_create(CudaDevice *cuda, CudaPlan *plan, const void *vector)
{
	CudaBlas   *blas = cuda->blas;
	const CudaShape *s = &plan->shape;
	cudaDataType_t type = s->precision == CUDA_BF16 ? CUDA_R_16BF : CUDA_R_32F;
	cublasComputeType_t compute = s->precision == CUDA_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32
		: CUBLAS_COMPUTE_32F;
	cudaDataType_t result_type = s->half_c ? CUDA_R_16BF : CUDA_R_32F;
	cublasOperation_t first = s->b_plain ? CUBLAS_OP_N : CUBLAS_OP_T;
	cublasOperation_t second = s->a_plain ? CUBLAS_OP_N : CUBLAS_OP_T;
	cublasLtEpilogue_t epilogue = s->bias ? CUBLASLT_EPILOGUE_BIAS : s->sums ? CUBLASLT_EPILOGUE_BGRADB
		: CUBLASLT_EPILOGUE_DEFAULT;
	cublasLtMatmulPreference_t preference = NULL;
	cublasLtMatmulHeuristicResult_t result;
	size_t		workspace = CUDA_BLAS_WORKSPACE;
	uint32_t	alignment = (uint32_t) s->alignment;
	uint32_t	in_float = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
	uint32_t	reduction = s->half_c ? in_float : in_float | (uint32_t) CUBLASLT_REDUCTION_SCHEME_INPLACE;
	int			found = 0;

	if (blas->cublasLtMatmulDescCreate(&plan->desc, compute, CUDA_R_32F) != CUBLAS_STATUS_SUCCESS)
		return false;
	blas->cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof(first));
	blas->cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof(second));
	blas->cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
										 sizeof(epilogue));
	if (vector != NULL)
		blas->cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &vector,
											 sizeof(vector));
	if (blas->cublasLtMatrixLayoutCreate(&plan->a, type, (uint64_t) (s->b_plain ? s->n : s->k),
										 (uint64_t) (s->b_plain ? s->k : s->n),
										 (int64_t) s->b_ld) != CUBLAS_STATUS_SUCCESS ||
		blas->cublasLtMatrixLayoutCreate(&plan->b, type, (uint64_t) (s->a_plain ? s->k : s->m),
										 (uint64_t) (s->a_plain ? s->m : s->k),
										 (int64_t) s->a_ld) != CUBLAS_STATUS_SUCCESS ||
		blas->cublasLtMatrixLayoutCreate(&plan->c, result_type, (uint64_t) s->n, (uint64_t) s->m,
										 (int64_t) s->c_row) != CUBLAS_STATUS_SUCCESS ||
		blas->cublasLtMatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS)
		return false;
	blas->cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
											   &workspace, sizeof(workspace));
	for (int i = 0; i < 4; i++)
		blas->cublasLtMatmulPreferenceSetAttribute(preference, (cublasLtMatmulPreferenceAttributes_t)
												   (CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i),
												   &alignment, sizeof(alignment));
	/* parts of a sum are added in float32, and a result is rounded once */
	blas->cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
											   &reduction, sizeof(reduction));
	if (blas->cublasLtMatmulAlgoGetHeuristic(blas->handle, plan->desc, plan->a, plan->b, plan->c, plan->c,
											 preference, 1, &result, &found) != CUBLAS_STATUS_SUCCESS)
		found = 0;
	blas->cublasLtMatmulPreferenceDestroy(preference);
	plan->algo = result.algo;
	return found == 1 && result.state == CUBLAS_STATUS_SUCCESS;
}

static CudaPlan *
cuda_plan(CudaDevice *cuda, const CudaShape *shape, const void *vector)
{
	CudaBlas   *blas = cuda->blas;
	CudaPlan   *plan;

	for (int i = 0; i < CUDA_BLAS_SHAPES; i++)
		if (blas->plans[i].used && memcmp(&blas->plans[i].shape, shape, sizeof(*shape)) == 0)
			return &blas->plans[i];
	plan = &blas->plans[blas->next];
	blas->next = (blas->next + 1) % CUDA_BLAS_SHAPES;
	if (plan->used)
	{
		blas->cublasLtMatmulDescDestroy(plan->desc);
		blas->cublasLtMatrixLayoutDestroy(plan->a);
		blas->cublasLtMatrixLayoutDestroy(plan->b);
		blas->cublasLtMatrixLayoutDestroy(plan->c);
	}
	memset(plan, 0, sizeof(*plan));
	memcpy(&plan->shape, shape, sizeof(*shape));
	plan->used = true;
	plan->possible = cuda_plan_create(cuda, plan, vector);
	return plan;
}

/* ---------- rounding ---------- */

/* to [rows][ld] in bfloat16 from rows of `cols` numbers; behind them zeros. */
__global__ void
round_rows(uint16_t *to, size_t ld, const float *from, size_t from_ld, size_t rows, size_t cols)
{
	CUDA_EACH(pair, rows * ld / 2)
	{
		size_t		row = 2 * pair / ld;
		size_t		col = 2 * pair % ld;
		float		low = col < cols ? from[row * from_ld + col] : 0.0f;
		float		high = col + 1 < cols ? from[row * from_ld + col + 1] : 0.0f;

		((uint32_t *) to)[pair] = cuda_pack_bf16(low, high);
	}
}

/* An operand rounded into scratch: *ld is its new stride.  NULL when it does not fit. */
static const void *
cuda_round_operand(DistilDevice *dev, int which, const float *from, size_t from_ld, int rows, int cols,
				   size_t *ld)
{
	uint16_t   *to = cuda_device(dev)->blas->operands[which];

	*ld = ((size_t) cols + 7) / 8 * 8;
	if ((size_t) rows * *ld * sizeof(uint16_t) > CUDA_BLAS_OPERAND)
		return NULL;
	CUDA_RUN(dev, round_rows, cuda_blocks((size_t) rows * *ld / 2), CUDA_THREADS, to, *ld, from, from_ld,
			 (size_t) rows, (size_t) cols);
	return to;
}

/* ---------- products ---------- */

/* false: not by this library. */
static bool
cuda_blas_product(DistilDevice *dev, const CudaProduct *p)
{
	CudaDevice *cuda = cuda_device(dev);
	const void *a = p->a;
	const void *b = p->b;
	const void *vector = p->bias != NULL ? p->bias : p->sums;
	float		one = 1.0f;
	float		beta = p->accumulate ? 1.0f : 0.0f;
	CudaShape	shape;
	CudaPlan   *plan;

	if (cuda->blas == NULL || p->k == 0)
		return false;
	cuda_use(cuda);
	memset(&shape, 0, sizeof(shape));	/* it is compared as bytes */
	shape.precision = cuda->precision;
	shape.m = p->m;
	shape.n = p->n;
	shape.k = p->k;
	shape.c_row = p->c_row;
	shape.a_plain = p->a_col == 1;
	shape.b_plain = p->b_col == 1;
	shape.a_ld = shape.a_plain ? p->a_row : p->a_col;
	shape.b_ld = shape.b_plain ? p->b_row : p->b_col;
	shape.bias = p->bias != NULL;
	shape.sums = p->sums != NULL;
	shape.half_c = p->half_c;
	if (cuda->precision == CUDA_BF16 && !p->half)
	{
		a = cuda_round_operand(dev, 0, (const float *) p->a, shape.a_ld, shape.a_plain ? p->m : p->k,
							   shape.a_plain ? p->k : p->m, &shape.a_ld);
		b = cuda_round_operand(dev, 1, (const float *) p->b, shape.b_ld, shape.b_plain ? p->k : p->n,
							   shape.b_plain ? p->n : p->k, &shape.b_ld);
		if (a == NULL || b == NULL)
			return false;
	}
	{
		const void *addresses[] = {a, b, p->c, vector};

		shape.alignment = cuda_alignment(addresses, 4);
	}
	plan = cuda_plan(cuda, &shape, vector);
	if (!plan->possible)
		return false;
	if (vector != NULL)
		cuda->blas->cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &vector,
												   sizeof(vector));
	if (cuda->blas->cublasLtMatmul(cuda->blas->handle, plan->desc, &one, b, plan->a, a, plan->b, &beta, p->c,
								   plan->c, p->c, plan->c, &plan->algo, cuda->blas->workspace,
								   CUDA_BLAS_WORKSPACE, cuda->stream) != CUBLAS_STATUS_SUCCESS)
	{
		/* while operations are noted the shape is not to blame */
		plan->possible = cuda->noting;
		cuda->unrepeatable = cuda->noting;
		return false;
	}
	if (p->act != DISTIL_ACT_NONE)
		CUDA_RUN(dev, activation_rows_kernel, cuda_blocks((size_t) p->m * p->n), CUDA_THREADS, p->act,
				 (float *) p->c, p->c_row, p->m, p->n);
	return true;
}

#else							/* without the library's header: own kernels only */

static void
cuda_blas_open(CudaDevice *cuda)
{
	(void) cuda;
}

static void
cuda_blas_close(CudaDevice *cuda)
{
	(void) cuda;
}

static bool
cuda_blas_product(DistilDevice *dev, const CudaProduct *p)
{
	(void) dev;
	(void) p;
	return false;
}

#endif

#endif							/* DISTIL_BLAS_CUDA_CUH */
