/*
 * int8_amx_plain.c
 *		8-bit linear layers of AMX with tiles in plain C, over AVX-512: for tests.
 *		Not in the extension.
 */
#if defined(__x86_64__) && defined(DISTIL_TEST_AMX_PLAIN)
#define AMX_PLAIN
#define CPU_LANES 16
#define INT8_LINEAR distil_cpu_linear_int8_amx_plain
#define INT8_QUANTIZE distil_cpu_quantize_int8_amx_plain
#define INT8_NORM distil_cpu_norm_int8_amx_plain
#include "int8_cpu.h"
#include "int8_tiles.h"
#include "int8_functions.h"
#include "int8_norm.h"
#endif
