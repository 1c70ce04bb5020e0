/*
 * ops_avx512_bf16.c
 *		Low-precision operations with AVX-512's BF16 products.  Nothing here may run unless CPUID says so.
 */
#if defined(__x86_64__)
#define CPU_LANES 16
#include "simd_cpu.h"
#include "bf16_cpu.h"
#include "act_cpu.h"
#include "epilogue_avx512.h"
#include "norm_avx512.h"
#include "linear_bf16_avx512.h"
#include "attention_bf16_avx512.h"
#include "int8.h"

const CpuRows distil_cpu_rows_avx512_bf16 = {
	.fast = DISTIL_TYPE_BF16,
	.chain = CPU_CHAIN_ROWS,
	.part = CPU_CHAIN_PART,
	.linear = {NULL, linear_bf16_avx512, distil_cpu_linear_int8_avx512_bf16},
	.quantize = {NULL, quantize_bf16_avx512, distil_cpu_quantize_int8_avx512_bf16},
	.norm = {NULL, norm_bf16_avx512, distil_cpu_norm_int8_avx512_bf16},
	.attention = attention_bf16_avx512,
	.attention_bytes = distil_cpu_attention_bytes_avx512_bf16,
};
#endif
