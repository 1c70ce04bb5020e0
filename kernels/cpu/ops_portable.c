/*
 * ops_portable.c
 *		The operations for any CPU: four lanes, which every supported compiler can lower.
 */
#define CPU_LANES 4
#define CPU_TABLE distil_cpu_kernels_portable
#include "table_cpu.h"

CPU_ROWS_TABLE(distil_cpu_rows_portable, portable, false, attention_rows, NULL)
