/*
 * sql_vector.c
 *		Distances between arrays: cosine, dot product, Euclidean.
 *
 * real[] pairs go to the engine as they are; the other element types are read as double.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "compat.h"
#include "bridge.h"

PG_FUNCTION_INFO_V1(distil_cosine);
PG_FUNCTION_INFO_V1(distil_dot);
PG_FUNCTION_INFO_V1(distil_l2);

/* A checked pair of arrays of one element type and length n. */
typedef struct VectorPair
{
	ArrayType  *a;
	ArrayType  *b;
	int			n;
	bool		is_float4;
} VectorPair;

static int
vector_length(ArrayType *array)
{
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a vector must have one dimension, not %d", ARR_NDIM(array))));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a vector must not hold nulls")));
	return ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
}

static VectorPair
get_pair(FunctionCallInfo fcinfo)
{
	VectorPair	pair;
	int			length;

	pair.a = PG_GETARG_ARRAYTYPE_P(0);
	pair.b = PG_GETARG_ARRAYTYPE_P(1);
	pair.n = vector_length(pair.a);
	length = vector_length(pair.b);
	if (pair.n != length)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("vectors have different lengths, %d and %d", pair.n, length)));
	pair.is_float4 = ARR_ELEMTYPE(pair.a) == FLOAT4OID;
	return pair;
}

/* Elements as double; the element type is one of those the SQL functions are declared for. */
static double *
get_doubles(ArrayType *array, int n)
{
	double	   *values = palloc(Max(n, 1) * sizeof(double));
	Datum	   *items;
	int			i;

	switch (ARR_ELEMTYPE(array))
	{
		case FLOAT8OID:
			memcpy(values, distil_bridge_array_data(array), n * sizeof(double));
			break;
		case INT4OID:
			for (i = 0; i < n; i++)
				values[i] = ((const int32 *) distil_bridge_array_data(array))[i];
			break;
		case NUMERICOID:
			deconstruct_array(array, NUMERICOID, -1, false, TYPALIGN_INT, &items, NULL, &n);
			for (i = 0; i < n; i++)
				values[i] = DatumGetFloat8(DirectFunctionCall1(numeric_float8, items[i]));
			break;
		default:
			elog(ERROR, "unexpected element type %u of a vector", ARR_ELEMTYPE(array));
	}
	return values;
}

/* A power of two near the largest magnitude: what is divided by it has squares that are numbers. */
static double
get_scale(const double *x, int n)
{
	double		largest = 0;
	int			exponent;
	int			i;

	for (i = 0; i < n; i++)
		largest = Max(largest, fabs(x[i]));
	if (largest == 0 || !isfinite(largest))
		return 1;
	(void) frexp(largest, &exponent);
	return ldexp(1, exponent - 1);
}

/* Of float8 and others; NaN where one is zero or not finite. */
static double
get_cosine(const VectorPair *pair)
{
	const double *a = get_doubles(pair->a, pair->n);
	const double *b = get_doubles(pair->b, pair->n);
	double		a_scale = get_scale(a, pair->n);
	double		b_scale = get_scale(b, pair->n);
	double		ab = 0;
	double		aa = 0;
	double		bb = 0;
	int			i;

	for (i = 0; i < pair->n; i++)
	{
		double		x = a[i] / a_scale;
		double		y = b[i] / b_scale;

		ab += x * y;
		aa += x * x;
		bb += y * y;
	}
	return aa == 0 || bb == 0 ? NAN : ab / (sqrt(aa) * sqrt(bb));
}

Datum
distil_cosine(PG_FUNCTION_ARGS)
{
	VectorPair	pair = get_pair(fcinfo);
	double		cosine;

	if (pair.is_float4)
		cosine = distil_vector_cosine((const float *) distil_bridge_array_data(pair.a),
									  (const float *) distil_bridge_array_data(pair.b), pair.n);
	else
		cosine = get_cosine(&pair);
	if (isnan(cosine))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(Max(-1.0, Min(1.0, cosine)));
}

Datum
distil_dot(PG_FUNCTION_ARGS)
{
	VectorPair	pair = get_pair(fcinfo);
	const double *a;
	const double *b;
	double		sum = 0;
	int			i;

	if (pair.is_float4)
		PG_RETURN_FLOAT8(distil_vector_dot((const float *) distil_bridge_array_data(pair.a),
										   (const float *) distil_bridge_array_data(pair.b), pair.n));
	a = get_doubles(pair.a, pair.n);
	b = get_doubles(pair.b, pair.n);
	for (i = 0; i < pair.n; i++)
		sum += a[i] * b[i];
	PG_RETURN_FLOAT8(sum);
}

Datum
distil_l2(PG_FUNCTION_ARGS)
{
	VectorPair	pair = get_pair(fcinfo);
	const double *a;
	const double *b;
	double		sum = 0;
	int			i;

	if (pair.is_float4)
		PG_RETURN_FLOAT8(distil_vector_l2((const float *) distil_bridge_array_data(pair.a),
										  (const float *) distil_bridge_array_data(pair.b), pair.n));
	a = get_doubles(pair.a, pair.n);
	b = get_doubles(pair.b, pair.n);
	for (i = 0; i < pair.n; i++)
		sum += (a[i] - b[i]) * (a[i] - b[i]);
	PG_RETURN_FLOAT8(sqrt(sum));
}
