/*
 * ops_avx2.c
 *		The operations with AVX2 and FMA.  Nothing here may run unless CPUID says so.
 */
#if defined(__x86_64__)
#define CPU_LANES 8
#define CPU_TABLE distil_cpu_kernels_avx2
#include "table_cpu.h"

CPU_ROWS_TABLE(distil_cpu_rows_avx2, avx2, attention_rows)
CPU_ROWS_TABLE(distil_cpu_rows_avx_vnni, avx_vnni, distil_cpu_attention_words_avx_vnni)
#endif
