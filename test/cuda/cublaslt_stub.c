/*
 * cublaslt_stub.c
 *		cuBLASLt played by plain C over the emulated devices of cuda_runtime.h: products of column-major
 *		matrices with the epilogues that the CUDA backend uses, and refusals where the real library may
 *		refuse.
 *
 * An algorithm is good for the addresses' alignment that was promised when it was asked for, and for nothing
 * less.  bfloat16 is refused where strides or addresses are not multiples of 16 bytes, as tensor cores want
 * it, so that such shapes go to the own kernels.  What the real one can do, and how fast, this does not show.
 */
#include "cublasLt.h"
#include "emulated_stream.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct StubDesc
{
	cublasComputeType_t compute;
	uint32_t	transposed[2];
	uint32_t	epilogue;
	void	   *vector;
} StubDesc;

typedef struct StubLayout
{
	cudaDataType_t type;
	size_t		rows;
	size_t		cols;
	size_t		ld;
} StubLayout;

typedef struct StubPreference
{
	uint64_t	workspace;
	uint32_t	alignment[4];
	uint32_t	reduction;
} StubPreference;

typedef struct StubProduct
{
	StubDesc	desc;
	StubLayout	layout[3];		/* A, B, D */
	const void *a;
	const void *b;
	void	   *d;
	float		alpha;
	float		beta;
} StubProduct;

#pragma GCC visibility push(default)

/*
 * What the tests look at: products done, and those with sums beside them; and whether the next are to fail.
 */
extern int	cublaslt_stub_products;
extern int	cublaslt_stub_sums;
extern int	cublaslt_stub_failing;
int			cublaslt_stub_products = 0;
int			cublaslt_stub_sums = 0;
int			cublaslt_stub_failing = 0;

cublasStatus_t
cublasLtCreate(cublasLtHandle_t *handle)
{
	*handle = calloc(1, 1);
	return *handle != NULL ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t
cublasLtDestroy(cublasLtHandle_t handle)
{
	free(handle);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute, cudaDataType_t scale)
{
	*desc = calloc(1, sizeof(**desc));
	if (*desc == NULL || scale != CUDA_R_32F)
		return CUBLAS_STATUS_INVALID_VALUE;
	(*desc)->compute = compute;
	(*desc)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
	free(desc);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
							   const void *value, size_t bytes)
{
	void	   *to = attribute == CUBLASLT_MATMUL_DESC_TRANSA ? (void *) &desc->transposed[0]
		: attribute == CUBLASLT_MATMUL_DESC_TRANSB ? (void *) &desc->transposed[1]
		: attribute == CUBLASLT_MATMUL_DESC_EPILOGUE ? (void *) &desc->epilogue : (void *) &desc->vector;

	if (bytes != (attribute == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? sizeof(void *) : sizeof(uint32_t)))
		return CUBLAS_STATUS_INVALID_VALUE;
	memcpy(to, value, bytes);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type, uint64_t rows, uint64_t cols,
						   int64_t ld)
{
	*layout = NULL;
	if (ld < (int64_t) rows)
		return CUBLAS_STATUS_INVALID_VALUE;
	*layout = calloc(1, sizeof(**layout));
	(*layout)->type = type;
	(*layout)->rows = rows;
	(*layout)->cols = cols;
	(*layout)->ld = (size_t) ld;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
	free(layout);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
	int			i;

	*preference = calloc(1, sizeof(**preference));
	for (i = 0; i < 4; i++)
		(*preference)->alignment[i] = 256;
	(*preference)->reduction = CUBLASLT_REDUCTION_SCHEME_MASK;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
	free(preference);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
									 cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
									 size_t bytes)
{
	if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && bytes == sizeof(uint64_t))
		memcpy(&preference->workspace, value, bytes);
	else if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK && bytes == sizeof(uint32_t))
		memcpy(&preference->reduction, value, bytes);
	else if ((int) attribute >= 5 && (int) attribute <= 8 && bytes == sizeof(uint32_t))
		memcpy(&preference->alignment[(int) attribute - 5], value, bytes);
	else
		return CUBLAS_STATUS_INVALID_VALUE;
	return CUBLAS_STATUS_SUCCESS;
}

/* Rows and columns of op(A) or op(B). */
static size_t
rows_of(const StubLayout *layout, uint32_t transposed)
{
	return transposed ? layout->cols : layout->rows;
}

static bool
fits(const StubDesc *desc, const StubLayout *a, const StubLayout *b, const StubLayout *d)
{
	return rows_of(a, desc->transposed[0]) == d->rows && rows_of(b, !desc->transposed[1]) == d->cols &&
		rows_of(a, !desc->transposed[0]) == rows_of(b, desc->transposed[1]) && a->type == b->type &&
		(d->type == CUDA_R_32F || a->type == CUDA_R_16BF) &&
		(desc->compute != CUBLAS_COMPUTE_32F_FAST_TF32 || a->type == CUDA_R_32F) &&
		(desc->epilogue == CUBLASLT_EPILOGUE_DEFAULT || desc->vector != NULL);
}

cublasStatus_t
cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
							   cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
							   cublasLtMatmulPreference_t preference, int wanted,
							   cublasLtMatmulHeuristicResult_t results[], int *found)
{
	uint32_t	alignment = 256;
	int			i;

	*found = 0;
	/* parts of a sum would be added in the type of the result */
	if (d->type == CUDA_R_16BF && preference->reduction != CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)
		return CUBLAS_STATUS_INVALID_VALUE;
	if (handle == NULL || wanted != 1 || c != d || !fits(desc, a, b, d))
		return CUBLAS_STATUS_INVALID_VALUE;
	for (i = 0; i < 4; i++)
		alignment = preference->alignment[i] < alignment ? preference->alignment[i] : alignment;
	if (a->type == CUDA_R_16BF && (alignment % 16 != 0 || a->ld % 8 != 0 || b->ld % 8 != 0))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	memset(results, 0, sizeof(*results));
	results->algo.data[0] = alignment;
	results->state = CUBLAS_STATUS_SUCCESS;
	*found = 1;
	return CUBLAS_STATUS_SUCCESS;
}

static float
load(const void *from, cudaDataType_t type, size_t at)
{
	union
	{
		uint32_t	bits;
		float		value;
	}			wide;

	if (type == CUDA_R_32F)
		return ((const float *) from)[at];
	wide.bits = (uint32_t) ((const uint16_t *) from)[at] << 16;
	return wide.value;
}

/* To nearest, ties to even. */
static void
store(void *to, cudaDataType_t type, size_t at, float value)
{
	union
	{
		float		value;
		uint32_t	bits;
	}			wide = {value};

	if (type == CUDA_R_32F)
		((float *) to)[at] = value;
	else
		((uint16_t *) to)[at] = (uint16_t) ((wide.bits + 0x7fff + (wide.bits >> 16 & 1)) >> 16);
}

/* Element (row, col) of op(x). */
static double
element(const void *x, const StubLayout *layout, uint32_t transposed, size_t row, size_t col)
{
	return load(x, layout->type, transposed ? col + row * layout->ld : row + col * layout->ld);
}

static void
multiply(const void *arguments)
{
	const StubProduct *p = arguments;
	const StubLayout *d = &p->layout[2];
	size_t		k = rows_of(&p->layout[1], p->desc.transposed[1]);
	size_t		i;
	size_t		j;
	size_t		l;

	for (j = 0; j < d->cols; j++)
	{
		double		total = 0;

		for (i = 0; i < d->rows; i++)
		{
			double		sum = 0;

			for (l = 0; l < k; l++)
				sum += element(p->a, &p->layout[0], p->desc.transposed[0], i, l) *
					element(p->b, &p->layout[1], p->desc.transposed[1], l, j);
			sum *= p->alpha;
			if (p->beta != 0)
				sum += p->beta * load(p->d, d->type, i + j * d->ld);
			if (p->desc.epilogue == CUBLASLT_EPILOGUE_BIAS)
				sum += load(p->desc.vector, d->type, i);
			store(p->d, d->type, i + j * d->ld, (float) sum);
		}
		for (l = 0; l < k; l++)
			total += element(p->b, &p->layout[1], p->desc.transposed[1], l, j);
		if (p->desc.epilogue == CUBLASLT_EPILOGUE_BGRADB)
			store(p->desc.vector, d->type, j, (float) total);
	}
}

cublasStatus_t
cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
			   cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
			   const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
			   cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo, void *workspace,
			   size_t workspace_bytes, void *stream)
{
	uintptr_t	addresses = (uintptr_t) a | (uintptr_t) b | (uintptr_t) d | (uintptr_t) desc->vector;
	StubProduct p = {*desc, {*a_layout, *b_layout, *d_layout}, a, b, d, *(const float *) alpha,
	*(const float *) beta};

	(void) workspace_bytes;
	if (handle == NULL || workspace == NULL || c != d || c_layout != d_layout ||
		!fits(desc, a_layout, b_layout, d_layout) || addresses % algo->data[0] != 0)
		return CUBLAS_STATUS_INVALID_VALUE;
	if (cublaslt_stub_failing > 0)
	{
		cublaslt_stub_failing--;
		return CUBLAS_STATUS_NOT_SUPPORTED;
	}
	cublaslt_stub_products++;
	cublaslt_stub_sums += desc->epilogue == CUBLASLT_EPILOGUE_BGRADB;
	((const EmulatedStream *) stream)->enqueue(multiply, &p, sizeof(p));
	return CUBLAS_STATUS_SUCCESS;
}
