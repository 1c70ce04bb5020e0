/*
 * rows_cpu.c
 *		Low-precision operations: each call goes to the device's instruction set.
 *
 * They are apart from the float32 tables because sets share those: "amx" is the float32 of
 * "avx512" with other products of low precision.
 */
#include "int8.h"

#include <unistd.h>
#if defined(__x86_64__)
#include <sys/syscall.h>
#endif

static const CpuRows *
rows_of(DistilDevice *dev)
{
	return ((CpuDevice *) dev)->rows;
}

bool
distil_cpu_has_type(DistilDevice *dev, DistilType type)
{
	return rows_of(dev)->linear[type] != NULL;
}

DistilType
distil_cpu_fast_type(DistilDevice *dev)
{
	return rows_of(dev)->fast;
}

bool
distil_cpu_orders_lines(DistilDevice *dev)
{
	return rows_of(dev)->orders_lines;
}

int
distil_cpu_chain_rows(DistilDevice *dev, int rows, int width)
{
	const CpuRows *set = rows_of(dev);
	int			part = width < CPU_CHAIN_WIDTH ? set->part * CPU_CHAIN_WIDTH / width : set->part;

	return rows <= set->chain || part > set->chain ? set->chain : part;
}

void
distil_cpu_linear_rows(DistilDevice *dev, const DistilRows *y, const DistilRows *x,
					   const DistilWeight *w, DistilActivation act, int m)
{
	if (m > 0)
		rows_of(dev)->linear[w->type] (dev, y, x, w, act, m);
}

void
distil_cpu_quantize_rows(DistilDevice *dev, const DistilRows *y, const DistilRows *x, DistilActivation act,
						 int m, int c)
{
	rows_of(dev)->quantize[y->type] (dev, y, x, act, m, c);
}

void
distil_cpu_norm_rows(DistilDevice *dev, float *y, const DistilRows *low, const float *x,
					 const float *residual, const float *gamma, const float *beta, float eps,
					 int rows, int c)
{
	rows_of(dev)->norm[low->type] (dev, y, low, x, residual, gamma, beta, eps, rows, c);
}

/* Row by row, so that the copy finds the row in the cache. */
void
distil_cpu_norm_int8(DistilDevice *dev, float *y, const DistilRows *low, const float *x,
					 const float *residual, const float *gamma, const float *beta, float eps, int rows, int c)
{
	int			row;

	for (row = 0; row < rows; row++)
	{
		size_t		at = (size_t) row * c;
		DistilRows	from = {DISTIL_TYPE_F32, y + at, c, NULL, NULL, NULL};
		DistilRows	to = {DISTIL_TYPE_INT8, (uint8_t *) low->data + row * low->ld, low->ld, low->scale + row,
		low->zero + row, low->factor};

		dev->ops->layernorm_forward(dev, y + at, NULL, NULL, NULL, x + at,
									residual != NULL ? residual + at : NULL, gamma, beta, eps, 1, c);
		rows_of(dev)->quantize[DISTIL_TYPE_INT8] (dev, &to, &from, DISTIL_ACT_NONE, 1, c);
	}
}

void
distil_cpu_attention_rows(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv,
						  const int32_t *offsets, const DistilAttention *attention)
{
	const CpuRows *rows = rows_of(dev);

	if (attention->bytes && rows->attention_bytes != NULL)
		rows->attention_bytes(dev, out, qkv, offsets, attention);
	else
		rows->attention(dev, out, qkv, offsets, attention);
}

/* Linux kernel, Documentation/arch/x86/xstate.rst: ARCH_REQ_XCOMP_PERM of the tile data. */
#define REQUEST_PERMISSION 0x1023
#define TILE_DATA 18

bool
distil_cpu_permit_amx(void)
{
#if defined(__x86_64__) && defined(SYS_arch_prctl)
	return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
	return false;
#endif
}
