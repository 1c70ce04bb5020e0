/*
 * int8_cpu.h
 *		Template: linear layers whose activations and weights have 8 bits.
 *
 * A file int8_<isa>.c defines CPU_LANES, INT8_LINEAR and INT8_QUANTIZE (names of its
 * two functions) and includes this header, then a file that multiplies.  Sums of products are
 * exact integers on every instruction set, so how they are cut into tiles does not show in
 * the result; the rule a newcomer would break is that what follows them (int8_finish_vector)
 * must be one expression for all columns and rows.
 *
 * Quantised rows: value = scale (q - zero), q in 0 .. 255, 254 steps from the row's smallest to its
 * largest value; both are rounded into the range whatever the rounding of the last bit does.
 */
#include "int8.h"
#include "simd_cpu.h"
#include "act_cpu.h"
#include "bf16_cpu.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define INT8_PAIR	(2 * DISTIL_PANEL)	/* columns of a block: two panels */
#define INT8_ROWS	512			/* multiplied at a time: they stay in the second-level cache */

typedef uint8_t vu8 __attribute__((vector_size(CPU_LANES)));
typedef uint8_t vu8_memory __attribute__((vector_size(CPU_LANES), aligned(1), may_alias));
typedef int32_t vi_memory __attribute__((vector_size(CPU_LANES * 4), aligned(4), may_alias));

/* What the columns of a block contribute, zero behind the last one. */
typedef struct Int8Columns
{
	float		scale[INT8_PAIR] __attribute__((aligned(64)));
	float		sum[INT8_PAIR] __attribute__((aligned(64)));	/* scale times the sum of the weights */
	float		bias[INT8_PAIR] __attribute__((aligned(64)));
	int			first;
	int			count;
} Int8Columns;

typedef struct Int8Linear
{
	const DistilRows *y;
	const DistilRows *x;
	const DistilWeight *w;
	DistilActivation act;
	int			m;				/* at most INT8_ROWS */
	float		factors[INT8_ROWS][2];	/* of each row: scale and -scale zero */
} Int8Linear;

/* ---- from sums to results ---- */

#define GELU_END 3.4f

/*
 * x Phi(x), absolute error below 1.2e-3, which is below the rounding of the eight bits that the
 * next layer sees.  Phi(x) = 1/2 + c Q(c^2), c = x clamped to +-GELU_END; Q minimax for x Phi(x), and
 * such that nothing is left of it beyond.
 */
static inline vf
act_gelu_short(vf x)
{
#if defined(__AVX512DQ__) && CPU_LANES == 16
	vf			c = (vf) _mm512_range_ps((__m512) x, _mm512_set1_ps(GELU_END), 2);
#else
	vf			c = v_clamp(x, -GELU_END, GELU_END);
#endif
	vf			t = c * c;
	vf			q = t * 1.00155985e-05f - 4.00921941e-04f;

	q = q * t + 6.58669602e-03f;
	q = q * t - 5.93871474e-02f;
	q = q * t + 3.93858433e-01f;
	return x * (c * q + 0.5f);
}

static inline __attribute__((always_inline)) vf
int8_finish_vector(const int32_t *sums, const Int8Columns *columns, int at, float scale, float shift)
{
	vf			value = __builtin_convertvector((vi) *(const vi_memory *) sums, vf);

	return value * (v_load(columns->scale + at) * scale) +
		(v_load(columns->sum + at) * shift + v_load(columns->bias + at));
}

static inline vf
int8_activate(DistilActivation act, vf x)
{
#define ACTIVATE_CASE(value, name) \
		case value: \
			return value == DISTIL_ACT_GELU ? act_gelu_short(x) : act_##name(x);
	switch (act)
	{
		EACH_ACTIVATION(ACTIVATE_CASE)
	}
#undef ACTIVATE_CASE
	return x;
}

/* One row of the last columns, or with an activation that has no code of its own. */
static __attribute__((noinline)) void
int8_finish_part(const Int8Linear *l, const Int8Columns *columns, const int32_t *sums, char *to,
				 const float *factors)
{
	size_t		size = distil_type_size(l->y->type);
	int			at;

	for (at = 0; at < columns->count; at += CPU_LANES)
	{
		size_t		part = v_part(at, columns->count);
		vf			value = int8_activate(l->act, int8_finish_vector(sums + at, columns, at, factors[0],
																	 factors[1]));
		uint16_t	low[CPU_LANES];

		v_narrow(low, value);
		if (l->y->type == DISTIL_TYPE_F32)
			v_put((float *) (void *) (to + at * size), value, part);
		else
			memcpy(to + at * size, low, part * size);
	}
}

/* One row of a whole block, to where its first column goes; act is DISTIL_ACT_NONE or DISTIL_ACT_GELU. */
static inline __attribute__((always_inline)) void
int8_finish_whole(const Int8Columns *columns, const int32_t *sums, char *to, float scale, float shift,
				  DistilActivation act, DistilType type)
{
	vf			value[INT8_PAIR / CPU_LANES];
	int			v;

#pragma GCC unroll 8
	for (v = 0; v < INT8_PAIR / CPU_LANES; v++)
	{
		value[v] = int8_finish_vector(sums + v * CPU_LANES, columns, v * CPU_LANES, scale, shift);
		if (act == DISTIL_ACT_GELU)
			value[v] = act_gelu_short(value[v]);
	}
#if defined(__AVX512BF16__) && CPU_LANES == 16
	if (type == DISTIL_TYPE_BF16)
	{
		_mm512_storeu_si512(to, (__m512i) _mm512_cvtne2ps_pbh((__m512) value[1], (__m512) value[0]));
		return;
	}
#endif
#pragma GCC unroll 8
	for (v = 0; v < INT8_PAIR / CPU_LANES; v++)
	{
		if (type == DISTIL_TYPE_F32)
			v_store((float *) (void *) to + v * CPU_LANES, value[v]);
		else
			v_narrow((uint16_t *) (void *) to + v * CPU_LANES, value[v]);
	}
}

/*
 * One row of any block; act and type are constants after inlining: DISTIL_ACT_NONE, DISTIL_ACT_GELU, or any
 * other for a block that needs int8_finish_part.
 */
static inline __attribute__((always_inline)) void
int8_finish_row(const Int8Linear *l, const Int8Columns *columns, const int32_t *sums, char *to,
				const float *factors, DistilActivation act, DistilType type)
{
	if ((act != DISTIL_ACT_NONE && act != DISTIL_ACT_GELU) || columns->count < INT8_PAIR)
		int8_finish_part(l, columns, sums, to, factors);
	else
		int8_finish_whole(columns, sums, to, factors[0], factors[1], act, type);
}

static inline char *
int8_place(const Int8Linear *l, int row, int column)
{
	return (char *) l->y->data + ((size_t) row * l->y->ld + column) * distil_type_size(l->y->type);
}

/* n values behind p as floats, zeros behind them */
static inline vf
int8_widen(const int32_t *p, size_t n)
{
	int32_t		x[CPU_LANES] = {0};

	memcpy(x, p, n * sizeof(int32_t));
	return __builtin_convertvector(*(const vi_memory *) x, vf);
}

static inline void
int8_columns(Int8Columns *columns, const DistilWeight *w, int first)
{
	int			i;

	columns->first = first;
	columns->count = w->n - first < INT8_PAIR ? w->n - first : INT8_PAIR;
	for (i = 0; i < INT8_PAIR; i += CPU_LANES)
	{
		size_t		part = i < columns->count ? v_part(i, columns->count) : 0;
		vf			scale = part > 0 ? v_get(w->scale + first + i, part) : (vf) {0};
		vf			sum = part == CPU_LANES
			? __builtin_convertvector(*(const vi_memory *) (w->sum + first + i), vf)
			: int8_widen(w->sum + first + i, part);

		v_store(columns->scale + i, scale);
		v_store(columns->sum + i, scale * sum);
		v_store(columns->bias + i, w->bias != NULL && part > 0 ? v_get(w->bias + first + i, part) : (vf) {0});
	}
}

/* The activations and types that have code of their own: X(act, type, name). */
#define EACH_INT8_FINISH(X) \
	X(DISTIL_ACT_NONE, DISTIL_TYPE_F32, none_f32) X(DISTIL_ACT_NONE, DISTIL_TYPE_BF16, none_bf16) \
	X(DISTIL_ACT_GELU, DISTIL_TYPE_BF16, gelu_bf16) X(DISTIL_ACT_SIGMOID, DISTIL_TYPE_F32, any)

/* ---- rows to eight bits ---- */

/* LANES values of a row, times the columns' factors. */
static inline __attribute__((always_inline)) vf
int8_source(const DistilRows *x, size_t row, size_t i, DistilType type, const float *factor)
{
	vf			value = type == DISTIL_TYPE_F32 ? v_load((const float *) x->data + row + i) :
		v_widen((const uint16_t *) x->data + row + i);

	return factor != NULL ? value * v_load(factor + i) : value;
}

/* The last values of a row, zeros behind them. */
static inline vf
int8_source_end(const DistilRows *x, size_t row, size_t i, size_t part, const float *factor)
{
	uint16_t	low[CPU_LANES] = {0};
	vf			value;

	if (x->type == DISTIL_TYPE_F32)
		value = v_get((const float *) x->data + row + i, part);
	else
	{
		memcpy(low, (const uint16_t *) x->data + row + i, part * sizeof(uint16_t));
		value = v_widen(low);
	}
	return factor != NULL ? value * v_get(factor + i, part) : value;
}

/* Smaller and larger of two, NaN of the new value in either. */
static inline vf
int8_min(vf x, vf y)
{
#if defined(__AVX512F__) && CPU_LANES == 16
	return (vf) _mm512_min_ps((__m512) y, (__m512) x);
#else
	return v_select(y < x, y, x);
#endif
}

static inline vf
int8_max(vf x, vf y)
{
#if defined(__AVX512F__) && CPU_LANES == 16
	return (vf) _mm512_max_ps((__m512) y, (__m512) x);
#else
	return v_select(y > x, y, x);
#endif
}

/* Over the lanes. */
static inline float
int8_lowest(vf x)
{
#if defined(__AVX512F__) && CPU_LANES == 16
	return _mm512_reduce_min_ps((__m512) x);
#else
	return -v_top(-x);
#endif
}

static inline float
int8_highest(vf x)
{
#if defined(__AVX512F__) && CPU_LANES == 16
	return _mm512_reduce_max_ps((__m512) x);
#else
	return v_top(x);
#endif
}

static inline float
int8_total(vf x)
{
#if defined(__AVX512F__) && CPU_LANES == 16
	return _mm512_reduce_add_ps((__m512) x);
#else
	return v_sum(x);
#endif
}

static inline void
int8_put(uint8_t *to, vf x, vf inverse, vf shift)
{
#if defined(__AVX512F__) && CPU_LANES == 16
	_mm_storeu_si128((__m128i *) (void *) to, _mm512_cvtepi32_epi8((__m512i) (x * inverse + shift)));
#else
	*(vu8_memory *) to = __builtin_convertvector((vi) (x * inverse + shift), vu8);
#endif
}

/* to [c] = the row, times its factors, in steps; zeros' steps behind it; c is a multiple of LANES */
static inline __attribute__((always_inline)) void
int8_put_row(uint8_t *to, const float *row, const float *factor, Int8Step step, size_t c)
{
	vf			inverse = v_set(step.inverse);
	vf			shift = v_set(ROUND_BIAS + (float) step.zero);
	size_t		i;

	for (i = 0; i < c; i += LANES)
		int8_put(to + i, factor != NULL ? v_load(row + i) * v_load(factor + i) : v_load(row + i), inverse, shift);
	for (; i < distil_row_length(DISTIL_TYPE_INT8, c); i += LANES)
		int8_put(to + i, (vf) {0}, inverse, shift);
}

static inline __attribute__((always_inline)) void
int8_quantize_row(const DistilRows *y, const DistilRows *x, int row, size_t n, DistilType type,
				  const float *factor)
{
	uint8_t    *to = (uint8_t *) y->data + (size_t) row * y->ld;
	size_t		from = (size_t) row * x->ld;
	size_t		whole = n / LANES * LANES;
	vf			low[2] = {{0}};
	vf			high[2] = {{0}};
	vf			sum[2] = {{0}};
	vf			inverse;
	vf			shift;
	vf			end = {0};
	Int8Step	step;
	size_t		i;

	for (i = 0; i + 2 * LANES <= whole; i += 2 * LANES)
	{
		vf			value = int8_source(x, from, i, type, factor);
		vf			other = int8_source(x, from, i + LANES, type, factor);

		low[0] = int8_min(low[0], value);
		high[0] = int8_max(high[0], value);
		sum[0] += value;
		low[1] = int8_min(low[1], other);
		high[1] = int8_max(high[1], other);
		sum[1] += other;
	}
	for (; i < n; i += LANES)
	{
		vf			value = i < whole ? int8_source(x, from, i, type, factor)
			: int8_source_end(x, from, i, n - i, factor);

		low[0] = int8_min(low[0], value);
		high[0] = int8_max(high[0], value);
		sum[0] += value;
		end = i < whole ? end : value;
	}
	step = int8_step(int8_lowest(int8_min(low[0], low[1])), int8_highest(int8_max(high[0], high[1])),
					 int8_total(sum[0] + sum[1]));
	y->scale[row] = step.scale;
	y->zero[row] = step.zero;
	inverse = v_set(step.inverse);
	shift = v_set(ROUND_BIAS + (float) step.zero);
	for (i = 0; i < whole; i += LANES)
		int8_put(to + i, int8_source(x, from, i, type, factor), inverse, shift);
	for (; i < distil_row_length(DISTIL_TYPE_INT8, n); i += LANES, end = (vf) {0})
		int8_put(to + i, end, inverse, shift);
}

#if defined(__AVX512BW__) && CPU_LANES == 16
#define INT8_QUANTIZE_ROWS 4

/* 32 columns from i on of a row, even ones and odd ones apart. */
typedef struct Int8Halves
{
	vf			even;
	vf			odd;
} Int8Halves;

static inline __attribute__((always_inline)) Int8Halves
int8_halves(__m512i pairs, const Int8Halves *factor)
{
	vf			even = (vf) _mm512_slli_epi32(pairs, 16);
	vf			odd = (vf) _mm512_and_si512(pairs, _mm512_set1_epi32(-65536));

	return (Int8Halves) {even * factor->even, odd * factor->odd};
}

static inline __attribute__((always_inline)) Int8Halves
int8_factor_halves(const float *factor, size_t i, size_t n)
{
	const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
	__m512		low = _mm512_set1_ps(1.0f);
	__m512		high = low;

	if (factor != NULL)
	{
		uint32_t	mask = n - i >= 32 ? 0xffffffff : (UINT32_C(1) << (n - i)) - 1;

		low = _mm512_maskz_loadu_ps((__mmask16) mask, factor + i);
		high = _mm512_maskz_loadu_ps((__mmask16) (mask >> 16), factor + i + 16);
	}
	return (Int8Halves) {(vf) _mm512_permutex2var_ps(low, even, high),
		(vf) _mm512_permutex2var_ps(low, _mm512_add_epi32(even, _mm512_set1_epi32(1)), high)};
}

static inline __attribute__((always_inline)) __m512i
int8_pairs(const DistilRows *x, int row, size_t i, size_t n)
{
	const uint16_t *from = (const uint16_t *) x->data + (size_t) row * x->ld + i;

	return n - i >= 32 ? _mm512_loadu_si512(from)
		: _mm512_maskz_loadu_epi16((UINT32_C(1) << (n - i)) - 1, from);
}

/* Rows of BF16, a pair of numbers as one word. */
static inline __attribute__((always_inline)) void
int8_quantize_pairs(const DistilRows *y, const DistilRows *x, int row, size_t n, int rows)
{
	vf			low[INT8_QUANTIZE_ROWS] = {{0}};
	vf			high[INT8_QUANTIZE_ROWS] = {{0}};
	__m512i		size[INT8_QUANTIZE_ROWS] = {{0}};
	Int8Step	step[INT8_QUANTIZE_ROWS];
	size_t		i;
	int			r;

	for (i = 0; i < n; i += 32)
	{
		Int8Halves	factor = int8_factor_halves(y->factor, i, n);

#pragma GCC unroll 4
		for (r = 0; r < rows; r++)
		{
			__m512i		pairs = int8_pairs(x, row + r, i, n);
			Int8Halves	h = int8_halves(pairs, &factor);

			low[r] = int8_min(int8_min(low[r], h.even), h.odd);
			high[r] = int8_max(int8_max(high[r], h.even), h.odd);
			size[r] = _mm512_max_epu16(size[r], _mm512_and_si512(pairs, _mm512_set1_epi16(0x7fff)));
		}
	}
#pragma GCC unroll 4
	for (r = 0; r < rows; r++)
	{
		bool		finite = _mm512_cmpge_epu16_mask(size[r], _mm512_set1_epi16(0x7f80)) == 0;

		step[r] = int8_step(int8_lowest(low[r]), int8_highest(high[r]), finite ? 0.0f : NAN);
		y->scale[row + r] = step[r].scale;
		y->zero[row + r] = step[r].zero;
	}
	for (i = 0; i < distil_row_length(DISTIL_TYPE_INT8, n); i += 32)
	{
		Int8Halves	factor = i < n ? int8_factor_halves(y->factor, i, n) : (Int8Halves) {{0}, {0}};

#pragma GCC unroll 4
		for (r = 0; r < rows; r++)
		{
			__m512i		pairs = i < n ? int8_pairs(x, row + r, i, n) : _mm512_setzero_si512();
			Int8Halves	h = int8_halves(pairs, &factor);
			vf			shift = v_set(ROUND_BIAS + (float) step[r].zero);
			__m512i		even = (__m512i) (h.even * step[r].inverse + shift);
			__m512i		odd = _mm512_slli_epi32((__m512i) (h.odd * step[r].inverse + shift), 8);
			__m512i		both = _mm512_ternarylogic_epi32(_mm512_set1_epi32(0xff), even, odd, 0xca);

			_mm256_storeu_si256((__m256i *) (void *) ((uint8_t *) y->data + (size_t) (row + r) * y->ld + i),
								_mm512_cvtepi32_epi16(both));
		}
	}
}
#endif

void
INT8_QUANTIZE(DistilDevice *dev, const DistilRows *y, const DistilRows *x, int m, int c)
{
	int			row = 0;

	(void) dev;
#if defined(__AVX512BW__) && CPU_LANES == 16
	if (x->type == DISTIL_TYPE_BF16)
	{
		for (; row + INT8_QUANTIZE_ROWS <= m; row += INT8_QUANTIZE_ROWS)
			int8_quantize_pairs(y, x, row, c, INT8_QUANTIZE_ROWS);
		for (; row < m; row++)
			int8_quantize_pairs(y, x, row, c, 1);
	}
#endif
	for (; row < m; row++)
	{
		if (x->type == DISTIL_TYPE_F32 && y->factor == NULL)
			int8_quantize_row(y, x, row, c, DISTIL_TYPE_F32, NULL);
		else if (x->type == DISTIL_TYPE_F32)
			int8_quantize_row(y, x, row, c, DISTIL_TYPE_F32, y->factor);
		else if (y->factor == NULL)
			int8_quantize_row(y, x, row, c, DISTIL_TYPE_BF16, NULL);
		else
			int8_quantize_row(y, x, row, c, DISTIL_TYPE_BF16, y->factor);
	}
}
