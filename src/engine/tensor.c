/*
 * tensor.c
 *		Data types of stored tensors and their conversion to float32.
 *
 * The rule a newcomer would break: a tensor's bytes in a file have no alignment;
 * they are copied into a variable, never cast to float or uint16_t pointers.
 * All formats are little-endian IEEE (binary32, binary16) or bfloat16.
 */
#include "tensor.h"

#include <string.h>

static const struct
{
	const char *name;
	const char *long_name;
	size_t		size;
}			dtypes[DISTIL_DTYPE_COUNT] = {
	{"F32", "float32", 4}, {"F16", "float16", 2}, {"BF16", "bfloat16", 2}, {"F64", "float64", 8},
	{"I64", "int64", 8}, {"U64", "uint64", 8}, {"I32", "int32", 4}, {"U32", "uint32", 4},
	{"I16", "int16", 2}, {"U16", "uint16", 2}, {"I8", "int8", 1}, {"U8", "uint8", 1}, {"BOOL", "bool", 1}
};

bool
distil_dtype_find(DistilDtype *dtype, const char *name)
{
	for (int i = 0; i < DISTIL_DTYPE_COUNT; i++)
		if (strcmp(dtypes[i].name, name) == 0)
		{
			*dtype = (DistilDtype) i;
			return true;
		}
	return false;
}

const char *
distil_dtype_name(DistilDtype dtype)
{
	return dtypes[dtype].name;
}

const char *
distil_dtype_long_name(DistilDtype dtype)
{
	return dtypes[dtype].long_name;
}

size_t
distil_dtype_size(DistilDtype dtype)
{
	return dtypes[dtype].size;
}

bool
distil_dtype_is_weight(DistilDtype dtype)
{
	return dtype == DISTIL_DTYPE_F32 || dtype == DISTIL_DTYPE_F16 || dtype == DISTIL_DTYPE_BF16;
}

static float
float_from_bits(uint32_t bits)
{
	float		value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

float
distil_float_from_half(uint16_t half)
{
	uint32_t	sign = (uint32_t) (half & 0x8000) << 16;
	uint32_t	exponent = (half >> 10) & 0x1f;
	uint32_t	mantissa = half & 0x3ff;

	if (exponent == 0x1f)		/* infinity, NaN */
		return float_from_bits(sign | 0x7f800000 | mantissa << 13);
	if (exponent == 0)			/* zero and subnormals: mantissa * 2^-24, exact */
	{
		float		value = (float) mantissa * (1.0f / 16777216.0f);

		return sign != 0 ? -value : value;
	}
	return float_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

float
distil_float_from_bfloat16(uint16_t half)
{
	return float_from_bits((uint32_t) half << 16);
}

void
distil_convert_to_float(float *y, const void *x, DistilDtype dtype, size_t n)
{
	const char *bytes = x;
	uint16_t	half;

	if (dtype == DISTIL_DTYPE_F32)
		memcpy(y, x, n * sizeof(float));
	else if (dtype == DISTIL_DTYPE_F16)
		for (size_t i = 0; i < n; i++)
		{
			memcpy(&half, bytes + 2 * i, sizeof(half));
			y[i] = distil_float_from_half(half);
		}
	else
		for (size_t i = 0; i < n; i++)
		{
			memcpy(&half, bytes + 2 * i, sizeof(half));
			y[i] = distil_float_from_bfloat16(half);
		}
}

uint64_t
distil_count_nonfinite(const void *x, DistilDtype dtype, size_t n)
{
	const char *bytes = x;
	uint64_t	bad = 0;

	/* not finite = all exponent bits set */
	if (dtype == DISTIL_DTYPE_F32)
		for (size_t i = 0; i < n; i++)
		{
			uint32_t	bits;

			memcpy(&bits, bytes + 4 * i, sizeof(bits));
			bad += (bits & 0x7f800000) == 0x7f800000;
		}
	else
	{
		uint16_t	mask = dtype == DISTIL_DTYPE_F16 ? 0x7c00 : 0x7f80;

		for (size_t i = 0; i < n; i++)
		{
			uint16_t	bits;

			memcpy(&bits, bytes + 2 * i, sizeof(bits));
			bad += (bits & mask) == mask;
		}
	}
	return bad;
}
