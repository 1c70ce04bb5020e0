/*
 * ops_avx2.c
 *		The operations with AVX2 and FMA.  Nothing here may run unless CPUID says so.
 */
#if defined(__x86_64__)
#define CPU_LANES 8
#define CPU_TABLE distil_cpu_kernels_avx2
#include "table_cpu.h"

void
distil_cpu_attention_floats_avx2(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv,
								 const int32_t *offsets, const DistilAttention *a)
{
	attention_rows(dev, out, qkv, offsets, a);
}

CPU_ROWS_TABLE(distil_cpu_rows_avx2, avx2, true, distil_cpu_attention_words_avx2, NULL)
CPU_ROWS_TABLE(distil_cpu_rows_avx_vnni, avx_vnni, false, distil_cpu_attention_words_avx_vnni,
			   distil_cpu_attention_bytes_avx_vnni)
#endif
