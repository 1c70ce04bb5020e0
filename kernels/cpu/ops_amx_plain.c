/*
 * ops_amx_plain.c
 *		Low-precision operations of AMX with tiles in plain C, over AVX-512: for tests.
 *		Not in the extension.
 */
#if defined(__x86_64__) && defined(DISTIL_TEST_AMX_PLAIN)
#define AMX_PLAIN
#define CPU_LANES 16
#define AMX_ROWS distil_cpu_rows_amx_plain
#define AMX_LINEAR_INT8 distil_cpu_linear_int8_amx_plain
#define AMX_QUANTIZE_INT8 distil_cpu_quantize_int8_amx_plain
#define AMX_NORM_INT8 distil_cpu_norm_int8_amx_plain
#include "rows_amx.h"
#endif
