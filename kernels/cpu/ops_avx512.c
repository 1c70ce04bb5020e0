/*
 * ops_avx512.c
 *		The operations with AVX-512 (F, BW, VL, DQ).  Nothing here may run unless CPUID says so.
 */
#if defined(__x86_64__)
#define CPU_LANES 16
#define CPU_TABLE distil_cpu_kernels_avx512
#include "table_cpu.h"
#include "pack_bf16_avx512.h"

CPU_ROWS_TABLE(distil_cpu_rows_avx512, avx2, true, attention_rows, NULL)
CPU_ROWS_TABLE(distil_cpu_rows_avx512_vnni, avx512_vnni, false, distil_cpu_attention_words_avx512_vnni,
			   distil_cpu_attention_bytes_avx512_vnni)
#endif
