/*
 * tensor.h
 *		Data types of stored tensors and their conversion to float32.
 */
#ifndef DISTIL_TENSOR_H
#define DISTIL_TENSOR_H

#include "distil_engine.h"

/* Order of the table in tensor.c. */
typedef enum DistilDtype
{
	DISTIL_DTYPE_F32, DISTIL_DTYPE_F16, DISTIL_DTYPE_BF16, DISTIL_DTYPE_F64,
	DISTIL_DTYPE_I64, DISTIL_DTYPE_U64, DISTIL_DTYPE_I32, DISTIL_DTYPE_U32,
	DISTIL_DTYPE_I16, DISTIL_DTYPE_U16, DISTIL_DTYPE_I8, DISTIL_DTYPE_U8, DISTIL_DTYPE_BOOL,
	DISTIL_DTYPE_COUNT
} DistilDtype;

/* false when the name is not one of safetensors' ("F32", "BF16", ...). */
extern bool distil_dtype_find(DistilDtype *dtype, const char *name);
extern const char *distil_dtype_name(DistilDtype dtype);	/* "F32" */
extern const char *distil_dtype_long_name(DistilDtype dtype);	/* "float32" */
extern size_t distil_dtype_size(DistilDtype dtype); /* bytes */
/* F32, F16 and BF16: what weights may be stored as. */
extern bool distil_dtype_is_weight(DistilDtype dtype);

extern float distil_float_from_half(uint16_t half);
extern float distil_float_from_bfloat16(uint16_t half);
/* y[n] = x[n] of a weight dtype; x need not be aligned. */
extern void distil_convert_to_float(float *y, const void *x, DistilDtype dtype, size_t n);
/* How many of x[n] (weight dtype, unaligned) are NaN or infinite. */
extern uint64_t distil_count_nonfinite(const void *x, DistilDtype dtype, size_t n);

#endif							/* DISTIL_TENSOR_H */
