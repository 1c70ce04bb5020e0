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

#if defined(__AVX2__)
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

/*
 * Weights asked for from memory while those before are multiplied;
 * addresses only, they may lie behind the last.
 */
typedef struct Int8Fetch
{
	uintptr_t	next;
	size_t		each;			/* bytes further for each step of a tile */
} Int8Fetch;

static inline __attribute__((always_inline)) void
int8_ask(Int8Fetch *fetch)
{
	__builtin_prefetch((const void *) fetch->next, 0, 3);
	fetch->next += fetch->each;
}

typedef struct Int8Linear
{
	const DistilRows *y;
	const DistilRows *x;
	const DistilWeight *w;
	DistilActivation act;
	float	   *scratch;		/* the device's */
	int			m;				/* at most INT8_ROWS */
	float		factors[INT8_ROWS][2];	/* of each row: scale and -scale zero */
} Int8Linear;

/* ---- from sums to results ---- */

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
			return act_##name(x);
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

/* One row of a whole block without activation, to where its first column goes. */
static inline __attribute__((always_inline)) void
int8_finish_whole(const Int8Columns *columns, const int32_t *sums, char *to, float scale, float shift,
				  DistilType type)
{
	vf			value[INT8_PAIR / CPU_LANES];
	int			v;

#pragma GCC unroll 8
	for (v = 0; v < INT8_PAIR / CPU_LANES; v++)
		value[v] = int8_finish_vector(sums + v * CPU_LANES, columns, v * CPU_LANES, scale, shift);
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
 * Rows of any block from `row` on, their sums INT8_PAIR apart; act and type are constants after inlining:
 * DISTIL_ACT_NONE, or any other for a block that needs int8_finish_part.
 */
static inline __attribute__((always_inline)) void
int8_finish_rows(const Int8Linear *l, const Int8Columns *columns, const int32_t *sums, int row, int rows,
				 DistilActivation act, DistilType type)
{
	bool		part = act != DISTIL_ACT_NONE || columns->count < INT8_PAIR;
	size_t		size = distil_type_size(act == DISTIL_ACT_NONE ? type : l->y->type);
	size_t		step = l->y->ld * size;
	char	   *to = (char *) l->y->data + row * step + columns->first * size;
	const float (*factors)[2] = l->factors + row;

	for (; rows > 0; rows--, sums += INT8_PAIR, to += step, factors++)
	{
		if (part)
			int8_finish_part(l, columns, sums, to, *factors);
		else
			int8_finish_whole(columns, sums, to, (*factors)[0], (*factors)[1], type);
	}
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
	X(DISTIL_ACT_SIGMOID, DISTIL_TYPE_F32, any)

/* ---- rows to eight bits ---- */

#if defined(__AVX512F__) && CPU_LANES == 16
#include "gelu_lines.h"

/*
 * x Phi(x), absolute error below 3e-4 and below 0.0128 |x|, by lines whose table stays in four registers: the
 * polynomial below keeps the units that multiply busy twice as long.  0 gives 0; no NaN and no infinity is
 * lost, as x and a are not clamped where the line is taken.
 */
static inline vf
act_gelu_short(vf x)
{
	__m512		a = _mm512_abs_ps((__m512) x);
	__m512		clamped = _mm512_min_ps(a, _mm512_set1_ps(GELU_LINES_TOP));
	__m512i		lane = (__m512i) _mm512_fmadd_ps(clamped, _mm512_set1_ps(GELU_LINES_SCALE),
												 _mm512_set1_ps(GELU_LINES_START));
	__m512		slope = _mm512_permutex2var_ps(_mm512_load_ps(gelu_line_slope), lane,
											   _mm512_load_ps(gelu_line_slope + 16));
	__m512		offset = _mm512_permutex2var_ps(_mm512_load_ps(gelu_line_offset), lane,
												_mm512_load_ps(gelu_line_offset + 16));

	return (vf) _mm512_fmadd_ps((__m512) x, _mm512_set1_ps(0.5f), _mm512_fmadd_ps(a, slope, offset));
}

#else

#define GELU_END 3.4f

/*
 * x Phi(x), absolute error below 1.2e-3, which is below the rounding of the eight bits that follow.  Phi(x) =
 * 1/2 + c Q(c^2), c = x clamped to +-GELU_END; Q minimax for x Phi(x), and such that nothing is left of it
 * beyond.
 */
static inline vf
act_gelu_short(vf x)
{
	vf			c = v_clamp(x, -GELU_END, GELU_END);
	vf			t = c * c;
	vf			q = t * 1.00155985e-05f - 4.00921941e-04f;

	q = q * t + 6.58669602e-03f;
	q = q * t - 5.93871474e-02f;
	q = q * t + 3.93858433e-01f;
	return x * (c * q + 0.5f);
}
#endif

/* LANES values of a row; its last ones, zeros behind them. */
static inline __attribute__((always_inline)) vf
int8_source(const void *x, size_t at, DistilType type)
{
	return type == DISTIL_TYPE_F32 ? v_load((const float *) x + at) : v_widen((const uint16_t *) x + at);
}

static __attribute__((noinline)) vf
int8_source_end(const void *x, size_t at, size_t part, DistilType type)
{
	uint16_t	low[CPU_LANES] = {0};

	if (type == DISTIL_TYPE_F32)
		return v_get((const float *) x + at, part);
	memcpy(low, (const uint16_t *) x + at, part * sizeof(uint16_t));
	return v_widen(low);
}

/* Smaller and larger of two, NaN of the new value in either. */
static inline vf
int8_min(vf x, vf y)
{
#if defined(__AVX512F__) && CPU_LANES == 16
	return (vf) _mm512_min_ps((__m512) y, (__m512) x);
#elif defined(__AVX2__) && CPU_LANES == 8
	return (vf) _mm256_min_ps((__m256) y, (__m256) x);
#else
	return v_select(y < x, y, x);
#endif
}

static inline vf
int8_max(vf x, vf y)
{
#if defined(__AVX512F__) && CPU_LANES == 16
	return (vf) _mm512_max_ps((__m512) y, (__m512) x);
#elif defined(__AVX2__) && CPU_LANES == 8
	return (vf) _mm256_max_ps((__m256) y, (__m256) x);
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
#elif defined(__AVX2__) && CPU_LANES == 8
	/* the lowest bytes of each half to its start, then the halves together */
	__m256i		lowest = _mm256_shuffle_epi8((__m256i) (x * inverse + shift), _mm256_set1_epi64x(0x0c080400));
	__m128i		bytes = _mm_unpacklo_epi32(_mm256_castsi256_si128(lowest),
										   _mm256_extracti128_si256(lowest, 1));

	_mm_storel_epi64((__m128i *) (void *) to, bytes);
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

	if (factor != NULL)
	{
#pragma GCC unroll 8
		for (i = 0; i < c; i += LANES)
			int8_put(to + i, v_load(row + i) * v_load(factor + i), inverse, shift);
	}
	else
	{
#pragma GCC unroll 8
		for (i = 0; i < c; i += LANES)
			int8_put(to + i, v_load(row + i), inverse, shift);
	}
	for (; i < distil_row_length(DISTIL_TYPE_INT8, c); i += LANES)
		int8_put(to + i, (vf) {0}, inverse, shift);
}

/* The same of 2 LANES values, those of even columns and those of odd ones. */
static inline void
int8_put_pairs(uint8_t *to, vf even, vf odd, vf inverse, vf shift)
{
	vi			words = ((vi) (even * inverse + shift) & 0xff) | ((vi) (odd * inverse + shift) << 8);

#if defined(__AVX512F__) && CPU_LANES == 16
	_mm256_storeu_si256((__m256i *) (void *) to, _mm512_cvtepi32_epi16((__m512i) words));
#else
	*(vb_memory *) (void *) to = __builtin_convertvector((vw) words, vb);
#endif
}

#define INT8_STAGE_ROWS 4		/* at a time: what is found across a row's lanes overlaps with others' */

static inline __attribute__((always_inline)) vf
int8_stage_activate(DistilActivation act, vf x)
{
	return act == DISTIL_ACT_GELU ? act_gelu_short(x) : int8_activate(act, x);
}

/* to [n] = act(x) times its factors, zeros behind them; how that is cut into steps */
static inline __attribute__((always_inline)) Int8Step
int8_stage_row(float *to, const void *x, size_t n, const float *factor, DistilActivation act, DistilType type)
{
	vf			low = {0};
	vf			high = {0};
	vf			sum = {0};
	size_t		i;

	for (i = 0; i + LANES <= n; i += LANES)
	{
		vf			source = int8_source(x, i, type);
		vf			times = factor != NULL ? v_load(factor + i) : (vf) {0};
		vf			value;

#if defined(__AVX512F__)
		/*
		 * in a register: as the operand of a product at the end of the
		 * chain it would wait for the store before
		 */
		__asm__ ("" : "+v" (times));
#endif
		value = int8_stage_activate(act, source);
		if (factor != NULL)
			value *= times;
		v_store(to + i, value);
		low = int8_min(low, value);
		high = int8_max(high, value);
		sum += value;
	}
	if (i < n)
	{
		vf			value = int8_stage_activate(act, int8_source_end(x, i, n - i, type));

		if (factor != NULL)
			value *= v_get(factor + i, n - i);
		value = v_first(value, n - i);
		v_store(to + i, value);
		low = int8_min(low, value);
		high = int8_max(high, value);
		sum += value;
	}
	return int8_step(int8_lowest(low), int8_highest(high), int8_total(sum));
}

/*
 * The same of a row of BF16 whose length is a multiple of 2 LANES: of each 2 LANES columns those of even
 * places come first in `to`, then the odd ones, as the factors do.
 */
static inline __attribute__((always_inline)) Int8Step
int8_stage_pairs(float *to, const uint16_t *x, size_t n, const float *factor, DistilActivation act)
{
	vf			low[2] = {{0}};
	vf			high[2] = {{0}};
	vf			sum[2] = {{0}};
	size_t		i;
	int			k;

	for (i = 0; i < n; i += 2 * LANES)
	{
		vw			pairs = *(const vw_memory *) (x + i);
		vf			value[2] = {(vf) (pairs << 16), (vf) (pairs & 0xffff0000u)};

#pragma GCC unroll 2
		for (k = 0; k < 2; k++)
		{
			vf			times = factor != NULL ? v_load(factor + i + k * LANES) : (vf) {0};

#if defined(__AVX512F__)
			/* see int8_stage_row */
			__asm__ ("" : "+v" (times));
#endif
			value[k] = int8_stage_activate(act, value[k]);
			if (factor != NULL)
				value[k] *= times;
			v_store(to + i + k * LANES, value[k]);
			low[k] = int8_min(low[k], value[k]);
			high[k] = int8_max(high[k], value[k]);
			sum[k] += value[k];
		}
	}
	return int8_step(int8_lowest(int8_min(low[0], low[1])), int8_highest(int8_max(high[0], high[1])),
					 int8_total(sum[0] + sum[1]));
}

/* What int8_stage_pairs has left to bytes in the order of columns, and zeros' steps behind them. */
static inline __attribute__((always_inline)) void
int8_put_staged_pairs(uint8_t *to, const float *row, Int8Step step, size_t n)
{
	size_t		end = distil_row_length(DISTIL_TYPE_INT8, n);
	vf			inverse = v_set(step.inverse);
	vf			shift = v_set(ROUND_BIAS + (float) step.zero);
	size_t		i;

#pragma GCC unroll 4
	for (i = 0; i < n; i += 2 * LANES)
		int8_put_pairs(to + i, v_load(row + i), v_load(row + i + LANES), inverse, shift);
	if (n < end)
		memset(to + n, step.zero, end - n);
}

/* Factors in the order of int8_stage_pairs. */
static void
int8_order_pairs(float *to, const float *factor, size_t n)
{
	size_t		i,
				j;

	for (i = 0; i < n; i += 2 * LANES)
	{
		for (j = 0; j < LANES; j++)
		{
			to[i + j] = factor[i + 2 * j];
			to[i + LANES + j] = factor[i + 2 * j + 1];
		}
	}
}

/* act and type are constants after inlining where that pays */
static inline __attribute__((always_inline)) void
int8_quantize(CpuDevice *cpu, const DistilRows *y, const DistilRows *x, int m, size_t n, DistilActivation act,
			  DistilType type)
{
	size_t		length = (n + LANES - 1) / LANES * LANES;
	size_t		fit = CPU_AREAS * CPU_AREA_FLOATS / length - 1;
	int			most = fit < INT8_STAGE_ROWS ? (int) fit : INT8_STAGE_ROWS;
	bool		pairs = type == DISTIL_TYPE_BF16 && n % (2 * LANES) == 0;
	const float *factor = y->factor;
	Int8Step	step[INT8_STAGE_ROWS];
	float	   *staged = cpu->scratch + length;
	int			row,
				r;

	if (pairs && factor != NULL)
	{
		int8_order_pairs(cpu->scratch, factor, n);
		factor = cpu->scratch;
	}
	for (row = 0; row < m; row += most)
	{
		int			rows = m - row < most ? m - row : most;

		for (r = 0; r < rows; r++)
		{
			const void *from = (const char *) x->data + (row + r) * x->ld * distil_type_size(type);

			step[r] = pairs ? int8_stage_pairs(staged + r * length, from, n, factor, act)
				: int8_stage_row(staged + r * length, from, n, factor, act, type);
		}
		for (r = 0; r < rows; r++)
		{
			uint8_t    *to = (uint8_t *) y->data + (size_t) (row + r) * y->ld;

			y->scale[row + r] = step[r].scale;
			y->zero[row + r] = step[r].zero;
			if (pairs)
				int8_put_staged_pairs(to, staged + r * length, step[r], n);
			else
				int8_put_row(to, staged + r * length, NULL, step[r], length);
		}
	}
}

#if defined(__AVX512FP16__)
#include "int8_half.h"
#endif

void
INT8_QUANTIZE(DistilDevice *dev, const DistilRows *y, const DistilRows *x, DistilActivation act, int m, int c)
{
	CpuDevice  *cpu = (CpuDevice *) dev;

#if defined(__AVX512FP16__)
	if (int8_quantize_half(cpu, y, x, act, m, c))
		return;
#endif
	if (act == DISTIL_ACT_GELU && x->type == DISTIL_TYPE_BF16)
		int8_quantize(cpu, y, x, m, c, DISTIL_ACT_GELU, DISTIL_TYPE_BF16);
	else if (act == DISTIL_ACT_NONE && x->type == DISTIL_TYPE_BF16)
		int8_quantize(cpu, y, x, m, c, DISTIL_ACT_NONE, DISTIL_TYPE_BF16);
	else
		int8_quantize(cpu, y, x, m, c, act, x->type);
}
