/*
 * int8_avx512_vnni.c
 *		8-bit linear layers, attention in words and in bytes with AVX-512 VNNI.
 */
#if defined(__x86_64__)
#define INT8_LINEAR distil_cpu_linear_int8_avx512_vnni
#define INT8_QUANTIZE distil_cpu_quantize_int8_avx512_vnni
#define INT8_NORM distil_cpu_norm_int8_avx512_vnni
#include "int8_avx512.h"

#define ATTENTION_WORDS distil_cpu_attention_words_avx512_vnni
#define ATTENTION_ELSE distil_cpu_rows_avx512.attention
#define WORDS_ROWS 8

static inline vi
words_dot(vi sum, vi a, vi b)
{
	return (vi) _mm512_dpwssd_epi32((__m512i) sum, (__m512i) a, (__m512i) b);
}

#include "attention_words.h"

#undef ATTENTION_ELSE
#define ATTENTION_BYTES distil_cpu_attention_bytes_avx512_vnni
#define ATTENTION_ELSE distil_cpu_attention_words_avx512_vnni
#include "attention_bytes_avx512.h"
#endif
