/*
 * products_bf16.h
 *		Products of float32 matrices with operands rounded to bfloat16, for training.
 */
#ifndef DISTIL_PRODUCTS_BF16_H
#define DISTIL_PRODUCTS_BF16_H

#include "cpu.h"

/* Scratch of one device, made when it is asked for such products. */
typedef struct CpuRounded
{
	uint16_t   *rows;			/* [PRODUCT_ROWS + DISTIL_ROW_BLOCK, stride of PRODUCT_STEPS] */
	uint16_t   *panels;			/* [PRODUCT_COLUMNS, PRODUCT_STEPS] */
	float	   *sums;			/* [PRODUCT_BLOCK, PRODUCT_COLUMNS] */
	DistilKernels ops;			/* the device's table with the operations of this file */
} CpuRounded;

/* The op `round_products` of devices that multiply rows of bfloat16. */
extern bool distil_cpu_round_products(DistilDevice *dev, DistilType type);
extern void distil_cpu_rounded_free(CpuRounded *rounded);

/*
 * Rows [m, k] and panels [n, k] of bfloat16 from float32.  along: a line's k numbers lie side by side and
 * lines are ld apart; otherwise from is [k, lines].  Filled up as kernels.h says; rows are
 * written in blocks of 16.
 */
extern void distil_pack_rows_avx512(uint16_t *to, size_t stride, const float *from, size_t ld, bool along,
									int m, int k);
extern void distil_pack_panels_avx512(uint16_t *to, const float *from, size_t ld, bool along, int n, int k);

#endif							/* DISTIL_PRODUCTS_BF16_H */
