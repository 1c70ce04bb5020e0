/*
 * half_standin.c
 *		The stand-in's layers with activations in bfloat16; see backend_standin.c.
 */
#include "standin.h"

static void
half_round(DistilDevice *dev, uint16_t *y, const float *x, size_t n)
{
	AT(y);
	AT(x);
	STANDIN_RUN(inner->ops->half->round, y, x, n);
}

static void
half_widen(DistilDevice *dev, float *y, const uint16_t *x, size_t n)
{
	AT(y);
	AT(x);
	STANDIN_RUN(inner->ops->half->widen, y, x, n);
}

static void
half_linear_forward(DistilDevice *dev, uint16_t *y, size_t ldy, uint16_t *before, const uint16_t *x,
					const uint16_t *w, const uint16_t *b, DistilActivation act, int m, int n, int k)
{
	AT(y);
	AT(before);
	AT(x);
	AT(w);
	AT(b);
	STANDIN_RUN(inner->ops->half->linear_forward, y, ldy, before, x, w, b, act, m, n, k);
}

static void
half_linear_backward_input(DistilDevice *dev, uint16_t *dx, const uint16_t *dy, size_t lddy,
						   const uint16_t *w, const uint16_t *before, DistilActivation act, bool accumulate,
						   int m, int n, int k)
{
	AT(dx);
	AT(dy);
	AT(w);
	AT(before);
	STANDIN_RUN(inner->ops->half->linear_backward_input, dx, dy, lddy, w, before, act, accumulate, m, n, k);
}

static void
half_linear_backward_weight(DistilDevice *dev, float *dw, float *db, const uint16_t *dy, size_t lddy,
							const uint16_t *x, int m, int n, int k)
{
	AT(dw);
	AT(db);
	AT(dy);
	AT(x);
	STANDIN_RUN(inner->ops->half->linear_backward_weight, dw, db, dy, lddy, x, m, n, k);
}

static void
half_norm_forward(DistilDevice *dev, uint16_t *y, uint16_t *sum, float *mean, float *rstd, const uint16_t *x,
				  const uint16_t *residual, DistilDropout dropout, const float *gamma, const float *beta,
				  float eps, int rows, int c)
{
	AT(y);
	AT(sum);
	AT(mean);
	AT(rstd);
	AT(x);
	AT(residual);
	AT(gamma);
	AT(beta);
	STANDIN_RUN(inner->ops->half->norm_forward, y, sum, mean, rstd, x, residual, dropout, gamma, beta, eps,
				rows, c);
}

static void
half_norm_backward(DistilDevice *dev, uint16_t *dsum, uint16_t *dx, float *dgamma, float *dbeta,
				   const uint16_t *dy, const uint16_t *dresidual, const uint16_t *sum, const float *mean,
				   const float *rstd, DistilDropout dropout, const float *gamma, int rows, int c)
{
	AT(dsum);
	AT(dx);
	AT(dgamma);
	AT(dbeta);
	AT(dy);
	AT(dresidual);
	AT(sum);
	AT(mean);
	AT(rstd);
	AT(gamma);
	STANDIN_RUN(inner->ops->half->norm_backward, dsum, dx, dgamma, dbeta, dy, dresidual, sum, mean, rstd,
				dropout, gamma, rows, c);
}

static void
half_attention_forward(DistilDevice *dev, uint16_t *out, float *lse, const uint16_t *qkv,
					   const int32_t *offsets, const DistilAttention *attention)
{
	DistilAttention a = *attention;

	AT(out);
	AT(lse);
	AT(qkv);
	AT(offsets);
	AT(a.relative);
	STANDIN_RUN(inner->ops->half->attention_forward, out, lse, qkv, offsets, &a);
}

static void
half_attention_backward(DistilDevice *dev, uint16_t *dqkv, const uint16_t *dout, const uint16_t *qkv,
						const uint16_t *out, const float *lse, const int32_t *offsets,
						const DistilAttention *attention)
{
	DistilAttention a = *attention;

	AT(dqkv);
	AT(dout);
	AT(qkv);
	AT(out);
	AT(lse);
	AT(offsets);
	AT(a.relative);
	AT(a.drelative);
	STANDIN_RUN(inner->ops->half->attention_backward, dqkv, dout, qkv, out, lse, offsets, &a);
}

static void
half_logits_loss(DistilDevice *dev, double *losses, uint16_t *s, const uint16_t *t, size_t ld,
				 const int32_t *labels, const DistilLogitsLoss *loss, int rows, int v)
{
	AT(losses);
	AT(s);
	AT(t);
	AT(labels);
	STANDIN_RUN(inner->ops->half->logits_loss, losses, s, t, ld, labels, loss, rows, v);
}

static void
half_adamw(DistilDevice *dev, float *w, float *m, float *v, const float *g, const DistilAdamW *step,
		   uint16_t *copy, size_t n)
{
	AT(w);
	AT(m);
	AT(v);
	AT(g);
	AT(copy);
	STANDIN_RUN(inner->ops->half->adamw, w, m, v, g, step, copy, n);
}

const DistilHalfKernels distil_standin_half = {
	.round = half_round,
	.widen = half_widen,
	.linear_forward = half_linear_forward,
	.linear_backward_input = half_linear_backward_input,
	.linear_backward_weight = half_linear_backward_weight,
	.norm_forward = half_norm_forward,
	.norm_backward = half_norm_backward,
	.attention_forward = half_attention_forward,
	.attention_backward = half_attention_backward,
	.logits_loss = half_logits_loss,
	.adamw = half_adamw,
};
