/*
 * int8_amx.c
 *		8-bit linear layers with AMX (int8) and AVX-512.
 */
#if defined(__x86_64__)
#define CPU_LANES 16
#define INT8_LINEAR distil_cpu_linear_int8_amx
#define INT8_QUANTIZE distil_cpu_quantize_int8_amx
#define INT8_NORM distil_cpu_norm_int8_amx
#include "int8_cpu.h"
#include "int8_tiles.h"
#include "int8_functions.h"
#include "int8_norm.h"
#endif
