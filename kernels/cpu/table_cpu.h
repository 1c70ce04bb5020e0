/*
 * table_cpu.h
 *		All operation templates and the table they end in.
 *
 * Included by each ops_<isa>.c after CPU_LANES (floats per vector), CPU_TABLE
 * (name of the table) are defined; it ends in one CPU_ROWS_TABLE for each set with these operations.
 */
#include "products_bf16.h"
#include "simd_cpu.h"
#include "vector_cpu.h"
#include "act_cpu.h"
#include "activation_cpu.h"
#include "tile_cpu.h"
#include "gemm_cpu.h"
#include "linear_cpu.h"
#include "norm_cpu.h"
#include "embedding_cpu.h"
#include "attention_cpu.h"
#include "pool_cpu.h"
#include "loss_cpu.h"
#include "bf16_cpu.h"
#include "rows_cpu.h"
#include "int8.h"

const DistilKernels CPU_TABLE = {
	.name = "cpu",
	.alloc = distil_host_alloc,
	.release = distil_host_release,
	.forget = distil_host_forget,
	.copy_in = distil_host_copy_in,
	.copy_out = distil_host_copy_out,
	.close = distil_cpu_close,
	.zero = zero,
	.axpy = axpy,
	.sum_squares = sum_squares,
	.count_nonfinite = count_nonfinite,
	.linear_forward = linear_forward,
	.linear_forward_packed = linear_forward_packed,
	.linear_backward_input = linear_backward_input,
	.linear_backward_weight = linear_backward_weight,
	.round_products = distil_cpu_round_products,
	.activation_forward = activation_forward,
	.activation_backward = activation_backward,
	.dropout = dropout,
	.layernorm_forward = layernorm_forward,
	.layernorm_backward = layernorm_backward,
	.embedding_forward = embedding_forward,
	.embedding_backward = embedding_backward,
	.attention_forward = attention_forward,
	.attention_backward = attention_backward,
	.pool_forward = pool_forward,
	.pool_backward = pool_backward,
	.normalize_forward = normalize_forward,
	.normalize_backward = normalize_backward,
	.gather_rows = gather_rows,
	.scatter_add_rows = scatter_add_rows,
	.mse_loss = mse_loss,
	.cosine_loss = cosine_loss,
	.logits_loss = logits_loss,
	.has_type = distil_cpu_has_type,
	.fast_type = distil_cpu_fast_type,
	.orders_lines = distil_cpu_orders_lines,
	.chain_rows = distil_cpu_chain_rows,
	.linear_rows = distil_cpu_linear_rows,
	.quantize_rows = distil_cpu_quantize_rows,
	.norm_rows = distil_cpu_norm_rows,
	.attention_rows = distil_cpu_attention_rows,
	.adamw = adamw,
};

/* The low-precision operations of a set; int8_set: whose products of bytes it uses; orders: orders_lines. */
#define CPU_ROWS_TABLE(name, int8_set, orders, attention_function, attention_bytes_function) \
const CpuRows name = { \
	.orders_lines = orders, \
	.chain = CPU_CHAIN_ROWS, \
	.part = CPU_CHAIN_PART, \
	.linear = {NULL, linear_bf16, distil_cpu_linear_int8_##int8_set}, \
	.quantize = {NULL, quantize_bf16, distil_cpu_quantize_int8_##int8_set}, \
	.norm = {NULL, norm_bf16, distil_cpu_norm_int8_##int8_set}, \
	.attention = attention_function, \
	.attention_bytes = attention_bytes_function, \
};
