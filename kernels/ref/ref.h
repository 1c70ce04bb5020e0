/*
 * ref.h
 *		The reference backend's operations, one file per subject.
 *
 * Plain loops, double accumulators, never optimised: it is the oracle every other
 * backend is compared with.  Semantics: kernels.h.
 */
#ifndef DISTIL_REF_H
#define DISTIL_REF_H

#include "../backends.h"

/* Scratch: one double per key of the longest sequence, and two per column of a head. */
typedef struct RefDevice
{
	DistilDevice base;
	double	   *keys;			/* [DISTIL_KERNEL_MAX_KEYS] */
	double	   *head1;			/* [DISTIL_KERNEL_MAX_HEAD] */
	double	   *head2;
} RefDevice;

extern double distil_ref_activate(DistilActivation act, double x);
extern double distil_ref_activate_slope(DistilActivation act, double x);

extern void distil_ref_zero(DistilDevice *dev, float *y, size_t n);
extern void distil_ref_axpy(DistilDevice *dev, float *y, const float *x, float scale, size_t n);
extern void distil_ref_sum_squares(DistilDevice *dev, double *sum, const float *x, size_t n);
extern void distil_ref_count_nonfinite(DistilDevice *dev, int64_t *bad, const float *x, size_t n);
extern void distil_ref_dropout(DistilDevice *dev, float *y, const float *x,
							   DistilDropout dropout, uint64_t first, size_t n);
extern void distil_ref_adamw(DistilDevice *dev, float *w, float *m, float *v, const float *g,
							 const DistilAdamW *step, size_t n);
extern void distil_ref_linear_forward(DistilDevice *dev, float *y, size_t ldy,
									  const float *x, size_t ldx, const float *w, const float *b,
									  DistilActivation act, int m, int n, int k);
extern void distil_ref_linear_forward_packed(DistilDevice *dev, float *y, size_t ldy,
											 const float *x, size_t ldx, const float *w, const float *b,
											 DistilActivation act, int m, int n, int k);
extern void distil_ref_linear_backward_input(DistilDevice *dev, float *dx, size_t lddx,
											 const float *dy, size_t lddy, const float *w,
											 bool accumulate, int m, int n, int k);
extern void distil_ref_linear_backward_weight(DistilDevice *dev, float *dw, float *db,
											  const float *dy, size_t lddy,
											  const float *x, size_t ldx, int m, int n, int k);
extern void distil_ref_activation_forward(DistilDevice *dev, DistilActivation act,
										  float *y, const float *x, size_t n);
extern void distil_ref_activation_backward(DistilDevice *dev, DistilActivation act,
										   float *dx, const float *dy, const float *x, size_t n);
extern void distil_ref_layernorm_forward(DistilDevice *dev, float *y, float *sum, float *mean, float *rstd,
										 const float *x, const float *residual,
										 const float *gamma, const float *beta, float eps,
										 int rows, int c);
extern void distil_ref_layernorm_backward(DistilDevice *dev, float *dx, float *dgamma, float *dbeta,
										  const float *dy, const float *sum, const float *mean,
										  const float *rstd, const float *gamma, int rows, int c);
extern void distil_ref_normalize_forward(DistilDevice *dev, float *y, float *norm, const float *x,
										 int rows, int c);
extern void distil_ref_normalize_backward(DistilDevice *dev, float *dx, const float *dy, const float *y,
										  const float *norm, int rows, int c);
extern void distil_ref_embedding_forward(DistilDevice *dev, float *y, const int32_t *ids,
										 const int32_t *positions, const int32_t *types,
										 const float *word, const float *position, const float *type,
										 int t, int c);
extern void distil_ref_embedding_backward(DistilDevice *dev, float *dword, float *dposition, float *dtype,
										  const float *dy, const int32_t *ids, const int32_t *positions,
										  const int32_t *types, int t, int c);
extern void distil_ref_gather_rows(DistilDevice *dev, float *y, const float *x, const int32_t *rows,
								   int n, int c);
extern void distil_ref_scatter_add_rows(DistilDevice *dev, float *dx, const float *dy, const int32_t *rows,
										int n, int c);
extern void distil_ref_attention_forward(DistilDevice *dev, float *out, float *lse, const float *qkv,
										 const int32_t *offsets, const DistilAttention *attention);
extern void distil_ref_attention_backward(DistilDevice *dev, float *dqkv, const float *dout,
										  const float *qkv, const float *out, const float *lse,
										  const int32_t *offsets, const DistilAttention *attention);
extern void distil_ref_pool_forward(DistilDevice *dev, DistilPooling pooling, float *y, int32_t *argmax,
									const float *x, const int32_t *offsets, int nseq, int c);
extern void distil_ref_pool_backward(DistilDevice *dev, DistilPooling pooling, float *dx, const float *dy,
									 const int32_t *argmax, const int32_t *offsets, int nseq, int c);
extern void distil_ref_mse_loss(DistilDevice *dev, double *loss, float *ds, const float *s, const float *t,
								float scale, int rows, int c);
extern void distil_ref_cosine_loss(DistilDevice *dev, double *loss, float *ds, const float *s,
								   const float *t, float scale, int rows, int c);
extern void distil_ref_logits_loss(DistilDevice *dev, double *losses, float *s, const float *t,
								   const int32_t *labels, const DistilLogitsLoss *loss, int rows, int v);
extern bool distil_ref_has_type(DistilDevice *dev, DistilType type);
extern DistilType distil_ref_fast_type(DistilDevice *dev);
extern void distil_ref_linear_rows(DistilDevice *dev, const DistilRows *y, const DistilRows *x,
								   const DistilWeight *w, DistilActivation act, int m);
extern void distil_ref_quantize_rows(DistilDevice *dev, const DistilRows *y, const DistilRows *x,
									 DistilActivation act, int m, int c);
extern void distil_ref_norm_rows(DistilDevice *dev, float *y, const DistilRows *low, const float *x,
								 const float *residual, const float *gamma, const float *beta, float eps,
								 int rows, int c);
extern void distil_ref_attention_rows(DistilDevice *dev, const DistilRows *out, const DistilRows *qkv,
									  const int32_t *offsets, const DistilAttention *a);

extern void distil_ref_half_attention_forward(DistilDevice *dev, uint16_t *out, float *lse,
											  const uint16_t *qkv, const int32_t *offsets,
											  const DistilAttention *attention);
extern void distil_ref_half_attention_backward(DistilDevice *dev, uint16_t *dqkv, const uint16_t *dout,
											   const uint16_t *qkv, const uint16_t *out, const float *lse,
											   const int32_t *offsets, const DistilAttention *attention);
extern const DistilHalfKernels distil_ref_half;

#endif							/* DISTIL_REF_H */
