/*
 * int8_half.h
 *		Template: rows of BF16 to eight bits in half floats (AVX512-FP16), 32 values to a vector.
 *
 * A half has 11 bits of a value, eight are wanted.  It has 5 bits of exponent: values are taken HALF_SCALE
 * times as large and factors relative to a power of two above the largest, so that what is too small for a
 * half is a 64th of a step at most.  A row that leaves this range, by an infinity or a NaN too, is done in
 * float32.
 */

#define HALF_LANES		((size_t) 32)
#define HALF_COLUMNS	32768	/* wider rows are done in float32: scratch has room for all of these */
#define HALF_SCALE		256.0f
/* Of bfloat16's bits: exponents are 127 - 15 - 8 larger than those of halves HALF_SCALE times as large. */
#define HALF_BIAS		((127 - 15 - 8) << 7)
/* A row's least: 2^-15, by which small halves are wrong, is then a 64th of its 254 steps after GELU too. */
#define HALF_RANGE		2.0f
#define HALF_BYTE		1024.0f /* added to 0 .. 255, it leaves them in a half's lowest bits */

#define HALF_ROWS		2		/* side by side: their chains of operations overlap */

static inline __attribute__((always_inline)) __m512h
half_set(float x)
{
	return _mm512_set1_ph((_Float16) x);
}

/* HALF_SCALE times 32 values without their signs; an infinity or a NaN if one is too large or not finite. */
static inline __attribute__((always_inline)) __m512i
half_magnitude(__m512i x)
{
	__m512i		size = _mm512_subs_epu16(_mm512_and_si512(x, _mm512_set1_epi16(0x7fff)),
										 _mm512_set1_epi16(HALF_BIAS));

	return _mm512_slli_epi16(_mm512_min_epu16(size, _mm512_set1_epi16(0xfff)), 3);
}

/* With the signs of x. */
static inline __attribute__((always_inline)) __m512h
half_sign(__m512i magnitude, __m512i x)
{
	return (__m512h) _mm512_ternarylogic_epi32(magnitude, x, _mm512_set1_epi16((short) 0x8000), 0xf8);
}

#define HALF_GELU_END	0x3b15	/* 0.885 */
#define HALF_GELU_SCALE	(10 << 10)	/* exponents of HALF_SCALE times a value are above those of its quarter */

/*
 * 2 x Phi(x) = x + |x| w(|x|): w = u Q(u^2), u = |x| / 4 up to 0.885, Q fitted with the roundings of halves,
 * for the least error of x Phi(x).
 */
static inline __attribute__((always_inline)) void
half_gelu(__m512h *value, const __m512i *magnitude, const __m512i *x, int rows)
{
	__m512h		u[HALF_ROWS];
	__m512h		t[HALF_ROWS];
	__m512h		w[HALF_ROWS];
	int			r;

	for (r = 0; r < rows; r++)
		u[r] = (__m512h) _mm512_subs_epu16(_mm512_min_epu16(magnitude[r],
															_mm512_set1_epi16(HALF_GELU_END +
																			  HALF_GELU_SCALE)),
										   _mm512_set1_epi16(HALF_GELU_SCALE));
	for (r = 0; r < rows; r++)
		t[r] = _mm512_fmadd_ph(u[r], u[r], half_set(-0.420166015625f));
	for (r = 0; r < rows; r++)
		w[r] = _mm512_fmadd_ph(t[r], half_set(-5.0625f), half_set(5.6484375f));
	for (r = 0; r < rows; r++)
		w[r] = _mm512_fmadd_ph(w[r], t[r], half_set(-3.654296875f));
	for (r = 0; r < rows; r++)
		w[r] = _mm512_fmadd_ph(w[r], t[r], half_set(2.435546875f));
	for (r = 0; r < rows; r++)
		w[r] = _mm512_fmadd_ph(w[r], t[r], half_set(-1.681640625f));
	for (r = 0; r < rows; r++)
		w[r] = _mm512_fmadd_ph(w[r], t[r], half_set(1.5283203125f));
	for (r = 0; r < rows; r++)
		w[r] = _mm512_mul_ph(w[r], u[r]);
	for (r = 0; r < rows; r++)
		value[r] = _mm512_fmadd_ph((__m512h) magnitude[r], w[r], half_sign(magnitude[r], x[r]));
}

/* The smallest and the largest of a row so far; sum is finite as long as all values are. */
typedef struct HalfRange
{
	__m512h		low;
	__m512h		high;
	__m512h		sum;
} HalfRange;

/* 32 values at i of each row, `length` apart in `to`. */
static inline __attribute__((always_inline)) void
half_stage(HalfRange *range, _Float16 *to, size_t length, const __m512i *x, const _Float16 *factor, size_t i,
		   DistilActivation act, int rows)
{
	__m512h		times = factor != NULL ? _mm512_loadu_ph(factor + i) : _mm512_setzero_ph();
	__m512i		magnitude[HALF_ROWS];
	__m512h		value[HALF_ROWS];
	int			r;

	__asm__ ("" : "+v" (times));	/* in a register, see int8_stage_row */
	for (r = 0; r < rows; r++)
		magnitude[r] = half_magnitude(x[r]);
	if (act == DISTIL_ACT_GELU)
		half_gelu(value, magnitude, x, rows);
	else
		for (r = 0; r < rows; r++)
			value[r] = half_sign(magnitude[r], x[r]);
	if (factor != NULL)
		for (r = 0; r < rows; r++)
			value[r] = _mm512_mul_ph(value[r], times);
	for (r = 0; r < rows; r++)
	{
		_mm512_storeu_ph(to + r * length + i, value[r]);
		range[r].low = _mm512_min_ph(value[r], range[r].low);
		range[r].high = _mm512_max_ph(value[r], range[r].high);
		range[r].sum = _mm512_fmadd_ph(value[r], half_set(1.0f / 64.0f), range[r].sum);
	}
}

static inline vf
half_widen(__m512h x, int part)
{
	return (vf) _mm512_cvtxph_ps((__m256h) (part == 0 ? _mm512_castsi512_si256((__m512i) x)
											: _mm512_extracti64x4_epi64((__m512i) x, 1)));
}

/* As int8_step, but its inverse is a half; scale: of HALF_SCALE's values. */
static inline Int8Step
half_step(const HalfRange *range)
{
	float		low = int8_lowest(int8_min(half_widen(range->low, 0), half_widen(range->low, 1)));
	float		high = int8_highest(int8_max(half_widen(range->high, 0), half_widen(range->high, 1)));
	float		sum = int8_total(half_widen(range->sum, 0) + half_widen(range->sum, 1));
	float		inverse = (float) (_Float16) (254.0f / (high - low));

	if (!isfinite(sum) || !(high - low >= HALF_RANGE))
		return (Int8Step) {NAN, 0.0f, 0};
	return (Int8Step) {1.0f / inverse, inverse, (int32_t) floorf(fmaf(-low, inverse, 0.875f))};
}

/* to [rows][length] = act(x) times its factors, with zeros behind n of them; how they are cut into steps */
static inline __attribute__((always_inline)) void
half_stage_rows(Int8Step *step, _Float16 *to, size_t length, const uint16_t *x, size_t ldx, size_t n,
				const _Float16 *factor, DistilActivation act, int rows)
{
	HalfRange	range[HALF_ROWS];
	__m512i		source[HALF_ROWS];
	size_t		i;
	int			r;

	for (r = 0; r < rows; r++)
		range[r].low = range[r].high = range[r].sum = _mm512_setzero_ph();
	for (i = 0; i + HALF_LANES <= n; i += HALF_LANES)
	{
		for (r = 0; r < rows; r++)
			source[r] = _mm512_loadu_si512(x + r * ldx + i);
		half_stage(range, to, length, source, factor, i, act, rows);
	}
	if (i < n)
	{
		for (r = 0; r < rows; r++)
			source[r] = _mm512_maskz_loadu_epi16((UINT32_C(1) << (n - i)) - 1, x + r * ldx + i);
		half_stage(range, to, length, source, factor, i, act, rows);
	}
	for (r = 0; r < rows; r++)
		step[r] = half_step(&range[r]);
}

/* to [n] = the steps of a row, zeros' behind it */
static inline __attribute__((always_inline)) void
half_put_row(uint8_t *to, const _Float16 *row, Int8Step step, size_t n)
{
	__m512h		inverse = half_set(step.inverse);
	__m512h		shift = half_set(HALF_BYTE + (float) step.zero);
	size_t		i;

	for (i = 0; i < n; i += HALF_LANES)
	{
		__m512h		q = _mm512_fmadd_ph(_mm512_loadu_ph(row + i), inverse, shift);

		_mm256_storeu_si256((__m256i *) (void *) (to + i), _mm512_cvtepi16_epi8((__m512i) q));
	}
	for (; i < distil_row_length(DISTIL_TYPE_INT8, n); i += HALF_LANES)
		_mm256_storeu_si256((__m256i *) (void *) (to + i), _mm256_set1_epi8((char) step.zero));
}

/*
 * to [n] = factors relative to a power of two, zeros up to whole vectors; that power is returned, 0 when they
 * differ by more than halves can tell.
 */
static inline float
half_factors(_Float16 *to, const float *factor, size_t n)
{
	vf			least = v_set(INFINITY);
	vf			most = {0};
	float		unit;
	int			exponent;
	size_t		i;

	for (i = 0; i < n; i += LANES)
	{
		vf			size = v_abs(v_get_fill(factor + i, v_part(i, n), factor[0]));

		least = int8_min(least, size);
		most = int8_max(most, size);
	}
	frexpf(int8_highest(most), &exponent);
	unit = ldexpf(1.0f, exponent);
	if (!(exponent < 100 && exponent > -100 && int8_lowest(least) >= unit / 16384.0f))
		return 0.0f;
	for (i = 0; i < n; i += LANES)
		_mm256_storeu_ph(to + i, _mm512_cvtxps_ph((__m512) (v_get(factor + i, v_part(i, n)) / unit)));
	for (; i % HALF_LANES != 0; i += LANES)
		_mm256_storeu_ph(to + i, _mm256_setzero_ph());
	return unit;
}

/* One row in float32. */
static __attribute__((noinline)) void
half_quantize_wide(CpuDevice *cpu, const DistilRows *y, const DistilRows *x, int row, size_t n,
				   DistilActivation act)
{
	DistilRows	from = {.type = x->type,.data = (uint16_t *) x->data + row * x->ld,.ld = x->ld};
	DistilRows	to = {.type = y->type,.data = (uint8_t *) y->data + row * y->ld,.ld = y->ld,
	.scale = y->scale + row,.zero = y->zero + row,.factor = y->factor};

	int8_quantize(cpu, &to, &from, 1, n, act, DISTIL_TYPE_BF16);
}

static inline __attribute__((always_inline)) void
half_put(CpuDevice *cpu, const DistilRows *y, const DistilRows *x, int row, size_t n, DistilActivation act,
		 const _Float16 *stage, Int8Step step, float unit)
{
	if (isnan(step.scale))
	{
		half_quantize_wide(cpu, y, x, row, n, act);
		return;
	}
	y->scale[row] = step.scale * unit;
	y->zero[row] = step.zero;
	half_put_row((uint8_t *) y->data + (size_t) row * y->ld, stage, step, n);
}

static inline __attribute__((always_inline)) void
half_quantize(CpuDevice *cpu, const DistilRows *y, const DistilRows *x, int m, size_t n,
			  DistilActivation act, const _Float16 *factor, _Float16 *stage, float unit)
{
	size_t		length = (n + HALF_LANES - 1) / HALF_LANES * HALF_LANES;
	Int8Step	step[INT8_STAGE_ROWS];
	int			row,
				r;

	for (row = 0; row < m; row += INT8_STAGE_ROWS)
	{
		const uint16_t *from = (const uint16_t *) x->data + row * x->ld;
		int			rows = m - row < INT8_STAGE_ROWS ? m - row : INT8_STAGE_ROWS;

		for (r = 0; r + HALF_ROWS <= rows; r += HALF_ROWS)
			half_stage_rows(step + r, stage + r * length, length, from + r * x->ld, x->ld, n, factor, act,
							HALF_ROWS);
		for (; r < rows; r++)
			half_stage_rows(step + r, stage + r * length, length, from + r * x->ld, x->ld, n, factor, act, 1);
		for (r = 0; r < rows; r++)
			half_put(cpu, y, x, row + r, n, act, stage + r * length, step[r], unit);
	}
}

/* area[0] is for the row in float32, area[1] for factors, from area[2] on are the rows. */
_Static_assert(HALF_COLUMNS <= CPU_AREA_FLOATS &&
			   INT8_STAGE_ROWS * HALF_COLUMNS <= (CPU_AREAS - 2) * 2 * CPU_AREA_FLOATS,
			   "scratch is too small");

/* false: not by halves */
static bool
int8_quantize_half(CpuDevice *cpu, const DistilRows *y, const DistilRows *x, DistilActivation act, int m,
				   size_t n)
{
	_Float16   *factor = (_Float16 *) (void *) cpu->area[1];
	_Float16   *stage = (_Float16 *) (void *) cpu->area[2];
	float		unit = 1.0f;

	if (x->type != DISTIL_TYPE_BF16 || n > HALF_COLUMNS)
		return false;
	if (y->factor != NULL)
	{
		unit = half_factors(factor, y->factor, n);
		if (unit == 0.0f)
			return false;
	}
	else
		factor = NULL;
	if (act == DISTIL_ACT_GELU)
		half_quantize(cpu, y, x, m, n, DISTIL_ACT_GELU, factor, stage, unit / (2.0f * HALF_SCALE));
	else if (act == DISTIL_ACT_NONE)
		half_quantize(cpu, y, x, m, n, DISTIL_ACT_NONE, factor, stage, unit / HALF_SCALE);
	else
		return false;
	return true;
}
