/*
 * simd_cpu.h
 *		Vectors of CPU_LANES floats for the operation templates, by compiler extensions.
 *
 * Included once by each ops_<isa>.c after CPU_LANES is defined.  Everything is static:
 * the same source becomes different code per instruction set.  Masks are integer
 * vectors, all ones = true.  A NaN must come out of every function as a NaN, because
 * callers look for broken numbers in the results.
 */
#include "cpu.h"

#include <math.h>
#include <string.h>
#if CPU_LANES >= 8
#include <immintrin.h>
#endif

#define LANES	((size_t) CPU_LANES)
#define HALF	(LANES / 2)

typedef float vf __attribute__((vector_size(CPU_LANES * 4)));
typedef int32_t vi __attribute__((vector_size(CPU_LANES * 4)));
typedef double vd __attribute__((vector_size(CPU_LANES * 4)));	/* half as many */
typedef float vh __attribute__((vector_size(CPU_LANES * 2)));
typedef float vf_memory __attribute__((vector_size(CPU_LANES * 4), aligned(4), may_alias));
typedef float vh_memory __attribute__((vector_size(CPU_LANES * 2), aligned(4), may_alias));

static inline vf
v_set(float x)
{
	return x - (vf) {0};
}

static inline vf
v_load(const float *p)
{
	return *(const vf_memory *) p;
}

static inline void
v_store(float *p, vf x)
{
	*(vf_memory *) p = x;
}

/* Half a vector, widened. */
static inline vd
d_load(const float *p)
{
	return __builtin_convertvector(*(const vh_memory *) p, vd);
}

/* How many lanes are left at i of n. */
static inline size_t
v_part(size_t i, size_t n)
{
	return n - i < LANES ? n - i : LANES;
}

/* The first `part` lanes from memory, the others `fill`. */
static inline vf
v_get_fill(const float *p, size_t part, float fill)
{
	vf			x;

	if (part == LANES)
		return v_load(p);
	x = v_set(fill);
	memcpy(&x, p, part * sizeof(float));
	return x;
}

static inline vf
v_get(const float *p, size_t part)
{
	return v_get_fill(p, part, 0.0f);
}

static inline void
v_put(float *p, vf x, size_t part)
{
	if (part == LANES)
		v_store(p, x);
	else
		memcpy(p, &x, part * sizeof(float));
}

static inline vf
v_select(vi mask, vf yes, vf no)
{
	return (vf) (((vi) yes & mask) | ((vi) no & ~mask));
}

/* The first `part` lanes of x, zero in the others. */
static inline vf
v_first(vf x, size_t part)
{
	vf			y = {0};

	if (part == LANES)
		return x;
	memcpy(&y, &x, part * sizeof(float));
	return y;
}

static inline vf
v_abs(vf x)
{
	return (vf) ((vi) x & 0x7fffffff);
}

/* The larger; NaN in either comes out. */
static inline vf
v_max(vf x, vf y)
{
	return v_select((x > y) | (x != x), x, y);
}

/*
 * x y + z, rounded once where the instruction set can.  Chains of sums are written with it: a compiler may
 * fuse them in one copy of a template and not in another, and the same row would have other bits in another
 * batch.
 */
static inline vf
v_fma(vf x, vf y, vf z)
{
#if CPU_LANES == 16
	return (vf) _mm512_fmadd_ps((__m512) x, (__m512) y, (__m512) z);
#elif CPU_LANES == 8
	return (vf) _mm256_fmadd_ps((__m256) x, (__m256) y, (__m256) z);
#else
	return x * y + z;
#endif
}

#if CPU_LANES >= 8
/* The smaller; a NaN in y comes out, one in x may be lost. */
static inline vf
v_smaller(vf x, vf y)
{
#if CPU_LANES == 16
	return (vf) _mm512_min_ps((__m512) x, (__m512) y);
#else
	return (vf) _mm256_min_ps((__m256) x, (__m256) y);
#endif
}
#endif

/* The larger; a NaN in y comes out, one in x may be lost. */
static inline vf
v_larger(vf x, vf y)
{
#if CPU_LANES == 16
	return (vf) _mm512_max_ps((__m512) x, (__m512) y);
#elif CPU_LANES == 8
	return (vf) _mm256_max_ps((__m256) x, (__m256) y);
#else
	return v_select(x > y, x, y);
#endif
}

/* NaN in x stays. */
static inline vf
v_clamp(vf x, float low, float high)
{
	x = v_larger(v_set(low), x);
#if CPU_LANES >= 8
	return v_smaller(v_set(high), x);
#else
	return v_select(x > v_set(high), v_set(high), x);
#endif
}

/* Sum and maximum over the lanes, in a fixed order. */
static inline float
v_sum(vf x)
{
	float		lane[CPU_LANES];
	size_t		step,
				l;

	memcpy(lane, &x, sizeof(lane));
	for (step = HALF; step > 0; step /= 2)
	{
		for (l = 0; l < step; l++)
			lane[l] += lane[l + step];
	}
	return lane[0];
}

static inline float
v_top(vf x)
{
	float		lane[CPU_LANES];
	size_t		step,
				l;

	memcpy(lane, &x, sizeof(lane));
	for (step = HALF; step > 0; step /= 2)
	{
		for (l = 0; l < step; l++)
		{
			float		other = lane[l + step];

			lane[l] = lane[l] > other || lane[l] != lane[l] ? lane[l] : other;
		}
	}
	return lane[0];
}

#if CPU_LANES >= 8

/* Squares of 2 D by 2 D lanes trade their corners, for each pair of vectors D apart. */
#if CPU_LANES == 16
#define CORNERS_1(f)	f(0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
#define CORNERS_2(f)	f(0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define CORNERS_4(f)	f(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
#define CORNERS_8(f)	f(0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
#define PLUS(d, i0, i1, i2, i3, i4, i5, i6, i7, i8, i9, iA, iB, iC, iD, iE, iF) \
	i0 + d, i1 + d, i2 + d, i3 + d, i4 + d, i5 + d, i6 + d, i7 + d, \
	i8 + d, i9 + d, iA + d, iB + d, iC + d, iD + d, iE + d, iF + d
#else
#define CORNERS_1(f)	f(0, 8, 2, 10, 4, 12, 6, 14)
#define CORNERS_2(f)	f(0, 1, 8, 9, 4, 5, 12, 13)
#define CORNERS_4(f)	f(0, 1, 2, 3, 8, 9, 10, 11)
#define PLUS(d, i0, i1, i2, i3, i4, i5, i6, i7) \
	i0 + d, i1 + d, i2 + d, i3 + d, i4 + d, i5 + d, i6 + d, i7 + d
#endif

#define TRADE(D) \
	for (i = 0; i < CPU_LANES; i++) \
		if ((i & D) == 0) \
		{ \
			vf			a = r[i]; \
			vf			b = r[i + D]; \
			\
			r[i] = CORNERS_##D(PICK); \
			r[i + D] = CORNERS_##D(PICK_##D); \
		}
#define PICK(...)	__builtin_shufflevector(a, b, __VA_ARGS__)
#define PICK_1(...)	__builtin_shufflevector(a, b, PLUS(1, __VA_ARGS__))
#define PICK_2(...)	__builtin_shufflevector(a, b, PLUS(2, __VA_ARGS__))
#define PICK_4(...)	__builtin_shufflevector(a, b, PLUS(4, __VA_ARGS__))
#define PICK_8(...)	__builtin_shufflevector(a, b, PLUS(8, __VA_ARGS__))

/* r[i][j] = r[j][i] */
static inline void
transpose_square(vf r[CPU_LANES])
{
	int			i;

	TRADE(1)
	TRADE(2)
	TRADE(4)
#if CPU_LANES == 16
	TRADE(8)
#endif
}
#endif

static inline double
d_sum(vd x)
{
	double		lane[CPU_LANES / 2];
	double		sum = 0.0;
	size_t		l;

	memcpy(lane, &x, sizeof(lane));
	for (l = 0; l < HALF; l++)
		sum += lane[l];
	return sum;
}

#define LOG2_E		1.44269504f
#define EXP_LOW		(-87.3365f)	/* smaller: 0, the result would be subnormal */
#define EXP_HIGH	88.376f		/* larger: as this, about 2.4e38 */
#define ROUND_BIAS	12582912.0f /* 1.5 * 2^23: adding it rounds to an integer */

/*
 * exp(x), relative error below 2e-7: 2^n exp(r) with |r| <= ln(2)/2, ln 2 in two parts,
 * exp(r) = 1 + r + r^2 P(r), P minimax (relative error 3e-9 before rounding).
 */
static inline vf
v_exp(vf x)
{
	vi			normal = ~(x < v_set(EXP_LOW));
	vf			y = v_clamp(x, EXP_LOW, EXP_HIGH);
	vf			n = y * LOG2_E + ROUND_BIAS;
	vi			power = (vi) n - (vi) v_set(ROUND_BIAS);
	vf			r;
	vf			p;

	n = n - ROUND_BIAS;
	r = y - n * 0.693359375f;
	r = r + n * 2.12194440e-4f;
	p = r * 0.0013814467f + 0.00836878066f;
	p = p * r + 0.0416683942f;
	p = p * r + 0.166665201f;
	p = p * r + 0.499999934f;
	p = p * (r * r) + r + 1.0f;
	p = p * (vf) ((power + 127) << 23);
	return (vf) ((vi) p & normal);
}

/*
 * 2^(x * scale) for x * scale <= 64 and scale > 0, relative error below 2e-7: 2^n 2^f with |f| <= 1/2, 2^f
 * minimax (relative error 8e-8 before rounding).  Nothing is smaller than 2^-64, which is lost beside the
 * largest probability: products with smaller numbers could be subnormal, and each of those takes a hundred
 * times as long.  Products and sums are fused, so that f has one rounding however large x is.  2^n is a
 * factor, not added to the exponent's bits: a NaN stays one whatever its bits are.
 */
static inline vf
v_exp2(vf x, vf scale, vf least)
{
	vf			y = v_larger(least, x);
	vf			n = y * scale + (ROUND_BIAS + 127.0f);
	vf			f = y * scale - (n - (ROUND_BIAS + 127.0f));
	vf			p = f * 0.001327648705f + 0.009675540399f;

	p = p * f + 0.05550713226f;
	p = p * f + 0.2402211976f;
	p = p * f + 0.6931469671f;
	p = p * f + 1.000000072f;
	return p * (vf) ((vi) n << 23);
}

/* The least x of v_exp2. */
static inline vf
v_exp2_least(vf scale)
{
	return -64.0f / scale;
}

#define ERFC_END 4.0f			/* erfc is below 1.6e-8 from here */

/*
 * erfc(x) for x >= 0, absolute error below 2e-7: exp(-x Q(x)), Q fitted so that the error of
 * erfc itself is minimax on [0, ERFC_END]; 0 beyond.
 */
static inline vf
v_erfc(vf x)
{
	vi			inside = x < v_set(ERFC_END);
	vf			y = v_select(inside, x, v_set(ERFC_END));
	vf			q = y * -8.04382034e-06f + 0.00010602663f;

	q = q * y - 0.000587950577f;
	q = q * y + 0.00157675997f;
	q = q * y - 5.8781312e-05f;
	q = q * y - 0.0192171428f;
	q = q * y + 0.102799207f;
	q = q * y + 0.636616111f;
	q = q * y + 1.12837934f;
	return (vf) ((vi) v_exp(-(q * y)) & inside);
}

/* Distribution function of the standard normal. */
static inline vf
v_phi(vf x)
{
	vf			tail = v_erfc(v_abs(x) * 0.707106781f) * 0.5f;

	return v_select(x < v_set(0.0f), tail, 1.0f - tail);
}

static inline vf
v_sigmoid(vf x)
{
	return 1.0f / (1.0f + v_exp(-x));
}

/* Sum of a[i] * b[i] with double accumulators, in a fixed order. */
static inline double
dot_double(const float *a, const float *b, size_t n)
{
	vd			sum0 = {0};
	vd			sum1 = {0};
	double		total;
	size_t		i;

	for (i = 0; i + LANES <= n; i += LANES)
	{
		sum0 += d_load(a + i) * d_load(b + i);
		sum1 += d_load(a + i + HALF) * d_load(b + i + HALF);
	}
	total = d_sum(sum0 + sum1);
	for (; i < n; i++)
		total += (double) a[i] * b[i];
	return total;
}
