/*
 * int8_avx512_bf16.c
 *		8-bit linear layers and attention with AVX-512 VNNI, whose results the CPU rounds to BF16.
 */
#if defined(__x86_64__)
#define INT8_LINEAR distil_cpu_linear_int8_avx512_bf16
#define INT8_QUANTIZE distil_cpu_quantize_int8_avx512_bf16
#define INT8_NORM distil_cpu_norm_int8_avx512_bf16
#include "int8_avx512.h"

#define ATTENTION_BYTES distil_cpu_attention_bytes_avx512_bf16
#define ATTENTION_ELSE distil_cpu_rows_avx512_bf16.attention
#include "attention_bytes_avx512.h"
#endif
