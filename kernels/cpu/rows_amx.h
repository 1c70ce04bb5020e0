/*
 * rows_amx.h
 *		All operations over tiles and the table they end in.
 *
 * Included by ops_amx.c and ops_amx_plain.c after AMX_ROWS (name of the table), AMX_LINEAR_INT8,
 * AMX_QUANTIZE_INT8 and AMX_NORM_INT8 are defined.
 */
#include "simd_cpu.h"
#include "bf16_cpu.h"
#include "act_cpu.h"
#include "tile_amx.h"
#include "epilogue_avx512.h"
#include "norm_avx512.h"
#include "linear_amx.h"
#include "attention_amx.h"
#include "int8.h"

const CpuRows AMX_ROWS = {
	.fast = DISTIL_TYPE_BF16,
	.chain = CPU_CHAIN_ROWS_AMX,
	.part = CPU_CHAIN_ROWS_AMX,
	.linear = {NULL, linear_bf16_amx, AMX_LINEAR_INT8},
	.quantize = {NULL, quantize_bf16_avx512, AMX_QUANTIZE_INT8},
	.norm = {NULL, norm_bf16_avx512, AMX_NORM_INT8},
	.attention = attention_amx,
};
