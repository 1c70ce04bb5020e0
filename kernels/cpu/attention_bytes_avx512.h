/*
 * attention_bytes_avx512.h
 *		Template: attention in bytes with AVX-512 VNNI; the including file gives the two names.
 */
#define BYTES_ROWS 8

static inline vi
bytes_dot(vi sum, vi a, vi b)
{
	return (vi) _mm512_dpbusd_epi32((__m512i) sum, (__m512i) a, (__m512i) b);
}

#include "attention_bytes.h"
