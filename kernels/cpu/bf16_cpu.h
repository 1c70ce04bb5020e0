/*
 * bf16_cpu.h
 *		Template: conversion between BF16 and vectors of floats.
 */

typedef uint32_t vw __attribute__((vector_size(CPU_LANES * 4)));
typedef uint16_t vb __attribute__((vector_size(CPU_LANES * 2)));
typedef uint16_t vb_memory __attribute__((vector_size(CPU_LANES * 2), aligned(2), may_alias));
typedef uint32_t vw_memory __attribute__((vector_size(CPU_LANES * 4), aligned(2), may_alias));

static inline vf
v_widen(const uint16_t *p)
{
#if CPU_LANES == 16
	return (vf) _mm512_slli_epi32(
		_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) (const void *) p)), 16);
#else
	return (vf) (__builtin_convertvector(*(const vb_memory *) p, vw) << 16);
#endif
}

/* To nearest, ties to even; a NaN stays one. */
static inline void
v_narrow(uint16_t *p, vf x)
{
	vw			bits = (vw) x;
	vw			nan = (vw) (x != x);
	vw			rounded = bits + 0x7fff + (bits >> 16 & 1);

	rounded = (rounded & ~nan) | ((bits | 0x400000) & nan);
	*(vb_memory *) p = __builtin_convertvector(rounded >> 16, vb);
}

/* y[c] = x[c] */
static inline void
narrow_some(uint16_t *y, const float *x, size_t c)
{
	uint16_t	lane[CPU_LANES];
	size_t		i;

	for (i = 0; i + LANES <= c; i += LANES)
		v_narrow(y + i, v_load(x + i));
	if (i == c)
		return;
	v_narrow(lane, v_get(x + i, c - i));
	memcpy(y + i, lane, (c - i) * sizeof(uint16_t));
}

/* Zeros behind the c columns of a row, up to the end of its last cache line. */
static inline void
fill_row(uint16_t *y, size_t c)
{
	size_t		end = distil_row_length(DISTIL_TYPE_BF16, c);

	if (c < end)
		memset(y + c, 0, (end - c) * sizeof(uint16_t));
}

/* Both. */
static inline void
narrow_row(uint16_t *y, const float *x, size_t c)
{
	narrow_some(y, x, c);
	fill_row(y, c);
}

/* y[c] = x[c] */
static inline void
widen_row(float *y, const uint16_t *x, size_t c)
{
	size_t		i;

	for (i = 0; i + LANES <= c; i += LANES)
		v_store(y + i, v_widen(x + i));
	for (; i < c; i++)
		y[i] = distil_bf16_float(x[i]);
}
