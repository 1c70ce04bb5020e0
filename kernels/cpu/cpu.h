/*
 * cpu.h
 *		The CPU backend: its device, its operation tables, OpenBLAS.
 *
 * One DistilKernels per instruction set, each made by compiling the same template
 * headers (*_cpu.h) with that set's flags (ops_<isa>.c).  Nothing compiled with
 * such flags may run before CPUID has been asked: keep shared code out of ops_*.c.
 */
#ifndef DISTIL_CPU_H
#define DISTIL_CPU_H

#include "../backends.h"

/*
 * Scratch memory comes in areas of this size.  Scores of a block of queries fill one: as
 * many queries as fit, and at least one of the longest sequence (its stride is padded).
 */
#define CPU_AREA_FLOATS	(DISTIL_KERNEL_MAX_KEYS + 64)
#define CPU_AREAS		7

/* Copies of matrices in panels: steps of k by columns of a group, steps by rows; see gemm_cpu.h. */
#define CPU_PACK_STEPS	 768
#define CPU_PACK_COLUMNS 48
#define CPU_PACK_ROWS	 240	/* a multiple of every set's tiles */
#define CPU_BLAS_ROWS	 128

/*
 * Vectors are as fast with few rows; tiles would wait for weights, which each part reads again.  Up to
 * CPU_CHAIN_ROWS are a part of their own; of more, CPU_CHAIN_PART with CPU_CHAIN_WIDTH numbers between two
 * products, more of narrower ones.
 */
#define CPU_CHAIN_ROWS	 128
#define CPU_CHAIN_PART	 48
#define CPU_CHAIN_WIDTH	 3072
#define CPU_CHAIN_ROWS_AMX 512

/*
 * Low-precision operations of an instruction set, by the type of weights or of results; NULL: not here.
 */
typedef struct CpuRows
{
	DistilType	fast;			/* fast_type of kernels.h */
	bool		orders_lines;	/* as of kernels.h */
	int			chain;			/* chain_rows of kernels.h, of up to so many rows */
	int			part;			/* and of more, at least */
	void		(*linear[DISTIL_TYPES]) (DistilDevice *dev, const DistilRows *y, const DistilRows *x,
										 const DistilWeight *w, DistilActivation act, int m);
	void		(*quantize[DISTIL_TYPES]) (DistilDevice *dev, const DistilRows *y, const DistilRows *x,
										   DistilActivation act, int m, int c);
	void		(*norm[DISTIL_TYPES]) (DistilDevice *dev, float *y, const DistilRows *low, const float *x,
									   const float *residual, const float *gamma, const float *beta,
									   float eps, int rows, int c);
	void		(*attention) (DistilDevice *dev, const DistilRows *out, const DistilRows *qkv,
							  const int32_t *offsets, const DistilAttention *attention);
	/* of layers in 8 bits, NULL: as of others */
	void		(*attention_bytes) (DistilDevice *dev, const DistilRows *out, const DistilRows *qkv,
									const int32_t *offsets, const DistilAttention *attention);
} CpuRows;

typedef struct CpuDevice
{
	DistilDevice base;
	const CpuRows *rows;
	const DistilKernels *exact; /* the set's table; base.ops may be rounded->ops */
	struct CpuRounded *rounded; /* NULL until products are rounded, see products_bf16.h */
	const char *isa;
	float	   *scratch;
	float	   *area[CPU_AREAS];	/* of scratch, see attention_cpu.h */
	float	   *pack_b;			/* of scratch: [CPU_PACK_STEPS * CPU_PACK_COLUMNS] */
	float	   *pack_a;			/* of scratch: [CPU_PACK_STEPS * CPU_PACK_ROWS] */
} CpuDevice;

/* Operation tables by instruction set; the AVX ones exist on x86-64 only. */
extern const DistilKernels distil_cpu_kernels_avx512;
extern const DistilKernels distil_cpu_kernels_avx2;
extern const DistilKernels distil_cpu_kernels_portable;

extern const CpuRows distil_cpu_rows_amx;
extern const CpuRows distil_cpu_rows_amx_plain;
extern const CpuRows distil_cpu_rows_avx512_bf16;
extern const CpuRows distil_cpu_rows_avx512_vnni;
extern const CpuRows distil_cpu_rows_avx512;
extern const CpuRows distil_cpu_rows_avx_vnni;
extern const CpuRows distil_cpu_rows_avx2;
extern const CpuRows distil_cpu_rows_portable;

/* ---------- rows_cpu.c: the entries of the operation tables that go by the device's CpuRows ---------- */

extern bool distil_cpu_has_type(DistilDevice *dev, DistilType type);
extern DistilType distil_cpu_fast_type(DistilDevice *dev);
extern bool distil_cpu_orders_lines(DistilDevice *dev);
extern int	distil_cpu_chain_rows(DistilDevice *dev, int rows, int width);
extern void distil_cpu_linear_rows(DistilDevice *dev, const DistilRows *y, const DistilRows *x,
								   const DistilWeight *w, DistilActivation act, int m);
extern void distil_cpu_quantize_rows(DistilDevice *dev, const DistilRows *y, const DistilRows *x,
									 DistilActivation act, int m, int c);
extern void distil_cpu_norm_rows(DistilDevice *dev, float *y, const DistilRows *low, const float *x,
								 const float *residual, const float *gamma, const float *beta, float eps,
								 int rows, int c);
extern void distil_cpu_attention_rows(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv,
									  const int32_t *offsets, const DistilAttention *attention);

/* Ask the system for the tile registers of this process: false when it does not give them. */
extern bool distil_cpu_permit_amx(void);

/* Made by AMD, by CPUID. */
extern bool distil_cpu_is_amd(void);

extern void distil_cpu_close(DistilDevice *dev);

/* ---------- blas_cpu.c ---------- */

/*
 * Open OpenBLAS once per process; later calls return at once.  Thread safe.
 * false with a message on failure; the next call tries again.
 */
extern bool distil_blas_open(char *message, size_t message_size);

/*
 * c[m, n] = alpha op(a) op(b) + beta c, row-major; a is [m, k] ([k, m] when ta), b is
 * [k, n] ([n, k] when tb); single-threaded, any number of threads may call at once.
 * Sizes of 0 are allowed: then k = 0 still applies beta.
 */
extern void distil_blas_gemm(bool ta, bool tb, int m, int n, int k, float alpha,
							 const float *a, size_t lda, const float *b, size_t ldb,
							 float beta, float *c, size_t ldc);

#endif							/* DISTIL_CPU_H */
