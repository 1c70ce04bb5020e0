/*
 * product_rows.h
 *		Counts the rows that a device multiplies by weights of so many outputs.
 */
#ifndef DISTIL_PRODUCT_ROWS_H
#define DISTIL_PRODUCT_ROWS_H

#include "kernels.h"

static const DistilKernels *counted;	/* the device's own operations meanwhile */
static DistilKernels counting;
static int	product_outputs;
static int	product_rows;

static void
count_product(DistilDevice *dev, const DistilRows *y, const DistilRows *x, const DistilWeight *w,
			  DistilActivation act, int m)
{
	if (w->n == product_outputs)
		product_rows += m;
	counted->linear_rows(dev, y, x, w, act, m);
}

/* Until device->ops = counted again. */
static inline void
count_products(DistilDevice *device, int outputs)
{
	counted = device->ops;
	counting = *device->ops;
	counting.linear_rows = count_product;
	device->ops = &counting;
	product_outputs = outputs;
	product_rows = 0;
}

#endif							/* DISTIL_PRODUCT_ROWS_H */
