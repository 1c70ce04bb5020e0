/*
 * ops_amx.c
 *		Low-precision operations with AMX.  Nothing here may run unless CPUID says so and the system
 *		allows tiles.
 */
#if defined(__x86_64__)
#define CPU_LANES 16
#define AMX_ROWS distil_cpu_rows_amx
#define AMX_LINEAR_INT8 distil_cpu_linear_int8_amx
#define AMX_QUANTIZE_INT8 distil_cpu_quantize_int8_amx
#define AMX_NORM_INT8 distil_cpu_norm_int8_amx
#include "rows_amx.h"
#endif
