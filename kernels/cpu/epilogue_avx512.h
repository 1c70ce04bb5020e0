/*
 * epilogue_avx512.h
 *		What becomes of finished sums in low-precision products: bias, activation, rounding.
 *
 * GELU is approximated far below what rounding to BF16 loses: within 3e-6.
 */
#include <immintrin.h>

/*
 * Phi(-a) of the normal distribution in 16 intervals of width 1/3: cubics through the Chebyshev nodes of
 * each.  a Phi(-a), all that GELU takes from it, is then within 3e-6 everywhere.
 */
static const float phi_table[4][16] __attribute__((aligned(64))) = {
	{0.500000656f, 0.369443208f, 0.252494723f, 0.158656895f, 0.0912119001f, 0.0477902219f, 0.0227495916f,
		0.00981474854f, 0.00382994977f, 0.00134964462f, 0.000428936502f, 0.000122814934f, 3.16528094e-05f,
	7.33768502e-06f, 1.52906443e-06f, 2.8627818e-07f},
	{-0.133000538f, -0.125853613f, -0.106552683f, -0.0807094052f, -0.0546920709f, -0.0331549533f,
		-0.0179797336f, -0.00872205291f, -0.00378483743f, -0.00146914076f, -0.00051010988f,
	-0.000158433206f, -4.40159492e-05f, -1.09384491e-05f, -2.4315575e-06f, -4.8350222e-07f},
	{9.05289708e-05f, 0.0072797318f, 0.0121819777f, 0.0137097472f, 0.012264356f, 0.00919394754f,
		0.00591394724f, 0.00330585148f, 0.00161818939f, 0.000697050185f, 0.000265133363f, 8.92671233e-05f,
	2.6652322e-05f, 7.06641686e-06f, 1.66555003e-06f, 3.49292208e-07f},
	{0.00235164515f, 0.00162522402f, 0.000533367915f, -0.000444553094f, -0.000993340276f, -0.00107932964f,
		-0.000869049458f, -0.000568725867f, -0.000313797646f, -0.00014871631f, -6.11987707e-05f,
	-2.20200145e-05f, -6.9605212e-06f, -1.93949904e-06f, -4.77591698e-07f, -1.04131544e-07f}
};

/* x Phi(x) = max(x, 0) - |x| Phi(-|x|); a NaN stays one. */
static inline __m512
fast_gelu(__m512 x)
{
	__m512		a = _mm512_min_ps(_mm512_set1_ps(5.333f), _mm512_abs_ps(x));
	__m512		u = _mm512_mul_ps(a, _mm512_set1_ps(3.0f));
	__m512i		i = _mm512_cvttps_epi32(u);
	__m512		t = _mm512_sub_ps(u, _mm512_cvtepi32_ps(i));
	__m512		p = _mm512_permutexvar_ps(i, _mm512_load_ps(phi_table[3]));

	p = _mm512_fmadd_ps(p, t, _mm512_permutexvar_ps(i, _mm512_load_ps(phi_table[2])));
	p = _mm512_fmadd_ps(p, t, _mm512_permutexvar_ps(i, _mm512_load_ps(phi_table[1])));
	p = _mm512_fmadd_ps(p, t, _mm512_permutexvar_ps(i, _mm512_load_ps(phi_table[0])));
	return _mm512_fnmadd_ps(a, p, _mm512_max_ps(x, _mm512_setzero_ps()));
}

/* 32 floats to BF16. */
static inline __m512i
narrow_pair(__m512 low, __m512 high)
{
#ifdef __AVX512BF16__
	return (__m512i) _mm512_cvtne2ps_pbh(high, low);
#else
	__m512i		v;

	v_narrow((uint16_t *) &v, low);
	v_narrow((uint16_t *) &v + 16, high);
	return v;
#endif
}

static __m512
apply_activation(DistilActivation act, __m512 x)
{
#define APPLY_CASE(value, name) \
		case value: \
			return act_##name(x);
	switch (act)
	{
		case DISTIL_ACT_NONE:
			return x;
		case DISTIL_ACT_GELU:
			return fast_gelu(x);
			EACH_SLOW_ACTIVATION(APPLY_CASE)
	}
#undef APPLY_CASE
	return x;
}

/* Where results go: 32 columns of y at a time. */
typedef struct Epilogue
{
	const DistilRows *y;
	const float *bias;			/* [n] or NULL */
	DistilActivation act;
	int			n;
} Epilogue;

/* The lanes of 16 columns from `column` on that are below n. */
static inline __mmask16
column_mask(int column, int n)
{
	int			left = n - column;

	return left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16) ((1u << left) - 1);
}

/* y[row, column .. column + 31] = act(low, high + bias); behind n zeros in BF16, nothing in F32. */
static __attribute__((noinline)) void
finish_any(const Epilogue *e, size_t row, int column, __m512 low, __m512 high)
{
	__mmask16	mask0 = column_mask(column, e->n);
	__mmask16	mask1 = column_mask(column + 16, e->n);
	size_t		at = row * e->y->ld + column;

	if (e->bias != NULL)
	{
		low = _mm512_add_ps(low, _mm512_maskz_loadu_ps(mask0, e->bias + column));
		high = _mm512_add_ps(high, _mm512_maskz_loadu_ps(mask1, e->bias + column + 16));
	}
	low = apply_activation(e->act, low);
	high = apply_activation(e->act, high);
	if (e->y->type == DISTIL_TYPE_F32)
	{
		_mm512_mask_storeu_ps((float *) e->y->data + at, mask0, low);
		_mm512_mask_storeu_ps((float *) e->y->data + at + 16, mask1, high);
	}
	else
		_mm512_storeu_si512((uint16_t *) e->y->data + at,
							narrow_pair(_mm512_maskz_mov_ps(mask0, low), _mm512_maskz_mov_ps(mask1, high)));
}

/* act of 32 sums with their bias, to where they belong; act is none or GELU. */
static inline __attribute__((always_inline)) void
finish_pair(void *to, __m512 low, __m512 high, DistilActivation act, DistilType type)
{
	if (act == DISTIL_ACT_GELU)
	{
		low = fast_gelu(low);
		high = fast_gelu(high);
	}
	if (type == DISTIL_TYPE_F32)
	{
		_mm512_storeu_ps(to, low);
		_mm512_storeu_ps((float *) to + 16, high);
	}
	else
		_mm512_storeu_si512(to, narrow_pair(low, high));
}

/* finish_any() of columns and an activation for which finish_is_whole(). */
static inline __attribute__((always_inline)) void
finish_whole(const Epilogue *e, size_t row, int column, __m512 low, __m512 high)
{
	if (e->bias != NULL)
	{
		low = _mm512_add_ps(low, _mm512_loadu_ps(e->bias + column));
		high = _mm512_add_ps(high, _mm512_loadu_ps(e->bias + column + 16));
	}
	finish_pair((char *) e->y->data + (row * e->y->ld + column) * distil_type_size(e->y->type), low, high,
				e->act, e->y->type);
}

/* Whether finish_whole() is enough for columns before `end`. */
static inline bool
finish_is_whole(const Epilogue *e, int end)
{
	return end <= e->n && (e->act == DISTIL_ACT_NONE || e->act == DISTIL_ACT_GELU);
}
