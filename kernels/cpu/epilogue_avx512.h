/*
 * epilogue_avx512.h
 *		What becomes of finished sums in low-precision products: bias, activation, rounding.
 *
 * GELU is approximated below what rounding to BF16 loses: within 1e-5, and down to -4 within half a step of
 * its result.
 */
#include <immintrin.h>

/*
 * Phi(-a) of the normal distribution in 32 intervals around the multiples of 1 / PHI_SCALE: in each the
 * quadratic in a whose largest relative error is least.
 */
#define PHI_END		5.333f		/* near the end of the last interval */
#define PHI_SCALE	5.90474405f

static const float phi_table[3][32] __attribute__((aligned(64))) = {
	{0.500001311f, 0.500259995f, 0.502231896f, 0.506723046f, 0.513069391f, 0.519061387f, 0.521401167f,
		0.516500771f, 0.501464248f, 0.474783212f, 0.4367356f, 0.389303952f, 0.335721552f, 0.279803663f,
		0.225257397f, 0.17513065f, 0.131492049f, 0.0953554139f, 0.066801928f, 0.0452209152f,
		0.0295879506f, 0.0187170375f, 0.0114505524f, 0.00677640876f, 0.00388032501f, 0.00215049065f,
		0.00115373812f, 0.000599335588f, 0.000301517633f, 0.000146931881f, 6.93673646e-05f,
		3.18665552e-05f},
	{-0.399214f, -0.404244512f, -0.419665664f, -0.440909952f, -0.462433249f, -0.478316396f,
		-0.483521163f, -0.474797785f, -0.45128718f, -0.414357901f, -0.367170244f, -0.313902378f,
		-0.258930117f, -0.206131712f, -0.158430561f, -0.117609181f, -0.0843589678f, -0.0584903061f,
		-0.0392161235f, -0.0254347771f, -0.0159630552f, -0.00969749223f, -0.00570397312f,
		-0.00324921845f, -0.00179292809f, -0.00095856085f, -0.000496628694f, -0.000249387318f,
		-0.00012139928f, -5.72954305e-05f, -2.62206613e-05f, -1.16882875e-05f},
	{0.00848210324f, 0.0334337689f, 0.0638630912f, 0.0890690461f, 0.107347846f, 0.117882915f,
		0.120775498f, 0.116892844f, 0.107699685f, 0.0949176028f, 0.0802834108f, 0.0653250217f,
		0.0512232557f, 0.0387583449f, 0.0283283908f, 0.0200167056f, 0.0136824464f, 0.00905252434f,
		0.00579968793f, 0.00359940808f, 0.00216464512f, 0.00126179529f, 0.000713080808f, 0.000390772329f,
		0.000207692312f, 0.000107076863f, 5.35560575e-05f, 2.59903263e-05f, 1.22391639e-05f,
		5.59333057e-06f, 2.48087849e-06f, 1.0729467e-06f}
};

/* Coefficient j of each lane's interval. */
static inline __m512
phi_pick(__m512i interval, int j)
{
	return _mm512_permutex2var_ps(_mm512_load_ps(phi_table[j]), interval, _mm512_load_ps(phi_table[j] + 16));
}

/* x Phi(x) = max(x, 0) - |x| Phi(-|x|); a NaN stays one. */
static inline __m512
fast_gelu(__m512 x)
{
	/* the smaller of both without their signs */
	__m512		a = _mm512_range_ps(_mm512_set1_ps(PHI_END), x, 0xa);
	/* from 2^23 on the nearest float is a whole number, in its lowest bits */
	__m512i		interval = (__m512i) _mm512_fmadd_ps(a, _mm512_set1_ps(PHI_SCALE),
													 _mm512_set1_ps(8388608.0f));
	__m512		p = _mm512_fmadd_ps(phi_pick(interval, 2), a, phi_pick(interval, 1));

	p = _mm512_fmadd_ps(p, a, phi_pick(interval, 0));
	return _mm512_fnmadd_ps(a, p, _mm512_max_ps(_mm512_setzero_ps(), x));
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
