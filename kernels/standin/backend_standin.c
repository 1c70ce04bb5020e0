/*
 * backend_standin.c
 *		The stand-in's operations: those of the reference on translated addresses.
 *
 * The rule a newcomer would break: every pointer of an operation goes through AT() first;
 * one that is forgotten reads a range nobody may read.
 */
#include "standin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN(operation, ...) STANDIN_RUN(inner->ops->operation, __VA_ARGS__)

bool
distil_standin_ready(DistilDevice *dev)
{
	StandinDevice *standin = (StandinDevice *) dev;

	if (standin->lost_after == 0)
		distil_standin_fail(standin, "The device was lost");
	else if (standin->lost_after > 0)
		standin->lost_after--;
	return standin->failure == NULL;
}

static const char *
standin_failure(DistilDevice *dev)
{
	return ((StandinDevice *) dev)->failure;
}

static void
zero(DistilDevice *dev, float *y, size_t n)
{
	AT(y);
	RUN(zero, y, n);
}

static void
axpy(DistilDevice *dev, float *y, const float *x, float scale, size_t n)
{
	AT(y);
	AT(x);
	RUN(axpy, y, x, scale, n);
}

static void
sum_squares(DistilDevice *dev, double *sum, const float *x, size_t n)
{
	AT(sum);
	AT(x);
	RUN(sum_squares, sum, x, n);
}

static void
count_nonfinite(DistilDevice *dev, int64_t *bad, const float *x, size_t n)
{
	AT(bad);
	AT(x);
	RUN(count_nonfinite, bad, x, n);
}

static void
linear_forward(DistilDevice *dev, float *y, size_t ldy, const float *x, size_t ldx, const float *w,
			   const float *b, DistilActivation act, int m, int n, int k)
{
	AT(y);
	AT(x);
	AT(w);
	AT(b);
	RUN(linear_forward, y, ldy, x, ldx, w, b, act, m, n, k);
}

static void
linear_backward_input(DistilDevice *dev, float *dx, size_t lddx, const float *dy, size_t lddy,
					  const float *w, bool accumulate, int m, int n, int k)
{
	AT(dx);
	AT(dy);
	AT(w);
	RUN(linear_backward_input, dx, lddx, dy, lddy, w, accumulate, m, n, k);
}

static void
linear_backward_weight(DistilDevice *dev, float *dw, float *db, const float *dy, size_t lddy,
					   const float *x, size_t ldx, int m, int n, int k)
{
	AT(dw);
	AT(db);
	AT(dy);
	AT(x);
	RUN(linear_backward_weight, dw, db, dy, lddy, x, ldx, m, n, k);
}

static void
activation_forward(DistilDevice *dev, DistilActivation act, float *y, const float *x, size_t n)
{
	AT(y);
	AT(x);
	RUN(activation_forward, act, y, x, n);
}

static void
activation_backward(DistilDevice *dev, DistilActivation act, float *dx, const float *dy,
					const float *x, size_t n)
{
	AT(dx);
	AT(dy);
	AT(x);
	RUN(activation_backward, act, dx, dy, x, n);
}

static void
dropout(DistilDevice *dev, float *y, const float *x, DistilDropout dropout, uint64_t first, size_t n)
{
	AT(y);
	AT(x);
	RUN(dropout, y, x, dropout, first, n);
}

static void
layernorm_forward(DistilDevice *dev, float *y, float *sum, float *mean, float *rstd, const float *x,
				  const float *residual, const float *gamma, const float *beta, float eps, int rows,
				  int c)
{
	AT(y);
	AT(sum);
	AT(mean);
	AT(rstd);
	AT(x);
	AT(residual);
	AT(gamma);
	AT(beta);
	RUN(layernorm_forward, y, sum, mean, rstd, x, residual, gamma, beta, eps, rows, c);
}

static void
layernorm_backward(DistilDevice *dev, float *dx, float *dgamma, float *dbeta, const float *dy,
				   const float *sum, const float *mean, const float *rstd, const float *gamma,
				   int rows, int c)
{
	AT(dx);
	AT(dgamma);
	AT(dbeta);
	AT(dy);
	AT(sum);
	AT(mean);
	AT(rstd);
	AT(gamma);
	RUN(layernorm_backward, dx, dgamma, dbeta, dy, sum, mean, rstd, gamma, rows, c);
}

static void
embedding_forward(DistilDevice *dev, float *y, const int32_t *ids, const int32_t *positions,
				  const int32_t *types, const float *word, const float *position, const float *type,
				  int t, int c)
{
	AT(y);
	AT(ids);
	AT(positions);
	AT(types);
	AT(word);
	AT(position);
	AT(type);
	RUN(embedding_forward, y, ids, positions, types, word, position, type, t, c);
}

static void
embedding_backward(DistilDevice *dev, float *dword, float *dposition, float *dtype, const float *dy,
				   const int32_t *ids, const int32_t *positions, const int32_t *types, int t, int c)
{
	AT(dword);
	AT(dposition);
	AT(dtype);
	AT(dy);
	AT(ids);
	AT(positions);
	AT(types);
	RUN(embedding_backward, dword, dposition, dtype, dy, ids, positions, types, t, c);
}

static void
attention_forward(DistilDevice *dev, float *out, float *lse, const float *qkv,
				  const int32_t *offsets, const DistilAttention *attention)
{
	DistilAttention inside = *attention;

	AT(inside.relative);
	AT(inside.drelative);
	AT(out);
	AT(lse);
	AT(qkv);
	AT(offsets);
	RUN(attention_forward, out, lse, qkv, offsets, &inside);
}

static void
attention_backward(DistilDevice *dev, float *dqkv, const float *dout, const float *qkv,
				   const float *out, const float *lse, const int32_t *offsets,
				   const DistilAttention *attention)
{
	DistilAttention inside = *attention;

	AT(inside.relative);
	AT(inside.drelative);
	AT(dqkv);
	AT(dout);
	AT(qkv);
	AT(out);
	AT(lse);
	AT(offsets);
	RUN(attention_backward, dqkv, dout, qkv, out, lse, offsets, &inside);
}

static void
pool_forward(DistilDevice *dev, DistilPooling pooling, float *y, int32_t *argmax, const float *x,
			 const int32_t *offsets, int nseq, int c)
{
	AT(y);
	AT(argmax);
	AT(x);
	AT(offsets);
	RUN(pool_forward, pooling, y, argmax, x, offsets, nseq, c);
}

static void
pool_backward(DistilDevice *dev, DistilPooling pooling, float *dx, const float *dy,
			  const int32_t *argmax, const int32_t *offsets, int nseq, int c)
{
	AT(dx);
	AT(dy);
	AT(argmax);
	AT(offsets);
	RUN(pool_backward, pooling, dx, dy, argmax, offsets, nseq, c);
}

static void
normalize_forward(DistilDevice *dev, float *y, float *norm, const float *x, int rows, int c)
{
	AT(y);
	AT(norm);
	AT(x);
	RUN(normalize_forward, y, norm, x, rows, c);
}

static void
normalize_backward(DistilDevice *dev, float *dx, const float *dy, const float *y, const float *norm,
				   int rows, int c)
{
	AT(dx);
	AT(dy);
	AT(y);
	AT(norm);
	RUN(normalize_backward, dx, dy, y, norm, rows, c);
}

static void
gather_rows(DistilDevice *dev, float *y, const float *x, const int32_t *rows, int n, int c)
{
	AT(y);
	AT(x);
	AT(rows);
	RUN(gather_rows, y, x, rows, n, c);
}

static void
scatter_add_rows(DistilDevice *dev, float *dx, const float *dy, const int32_t *rows, int n, int c)
{
	AT(dx);
	AT(dy);
	AT(rows);
	RUN(scatter_add_rows, dx, dy, rows, n, c);
}

static void
mse_loss(DistilDevice *dev, double *loss, float *ds, const float *s, const float *t, float scale,
		 int rows, int c)
{
	AT(loss);
	AT(ds);
	AT(s);
	AT(t);
	RUN(mse_loss, loss, ds, s, t, scale, rows, c);
}

static void
cosine_loss(DistilDevice *dev, double *loss, float *ds, const float *s, const float *t, float scale,
			int rows, int c)
{
	AT(loss);
	AT(ds);
	AT(s);
	AT(t);
	RUN(cosine_loss, loss, ds, s, t, scale, rows, c);
}

static void
logits_loss(DistilDevice *dev, double *losses, float *s, const float *t, const int32_t *labels,
			const DistilLogitsLoss *loss, int rows, int v)
{
	AT(losses);
	AT(s);
	AT(t);
	AT(labels);
	RUN(logits_loss, losses, s, t, labels, loss, rows, v);
}

static void
adamw(DistilDevice *dev, float *w, float *m, float *v, const float *g, const DistilAdamW *step,
	  size_t n)
{
	AT(w);
	AT(m);
	AT(v);
	AT(g);
	RUN(adamw, w, m, v, g, step, n);
}

static const DistilKernels standin = {
	.name = "standin",
	.own_memory = true,
	.units = 8,
	.failure = standin_failure,
	.alloc = distil_standin_alloc,
	.release = distil_standin_release,
	.limit_memory = distil_standin_limit_memory,
	.copy_in = distil_standin_copy_in,
	.copy_out = distil_standin_copy_out,
	.close = distil_standin_close,
	.zero = zero,
	.axpy = axpy,
	.sum_squares = sum_squares,
	.count_nonfinite = count_nonfinite,
	.linear_forward = linear_forward,
	.linear_backward_input = linear_backward_input,
	.linear_backward_weight = linear_backward_weight,
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
	.adamw = adamw,
};

/* Only of devices opened for it. */
static bool
round_products(DistilDevice *dev, DistilType type)
{
	((StandinDevice *) dev)->ops.half = type == DISTIL_TYPE_BF16 ? &distil_standin_half : NULL;
	return type != DISTIL_TYPE_INT8;
}

/*
 * isa "lost N": the device is lost at its operation number N + 1; "crowded N": others have its memory at its
 * first N allocations; "bf16": it has activations in bfloat16.
 */
DistilDevice *
distil_standin_open(const char *isa, char *message, size_t message_size)
{
	StandinDevice *dev = distil_host_alloc(NULL, sizeof(StandinDevice));

	if (dev == NULL)
	{
		snprintf(message, message_size, DISTIL_NO_MEMORY " opening the standin backend");
		return NULL;
	}
	memset(dev, 0, sizeof(*dev));
	dev->ops = standin;
	dev->base.ops = &dev->ops;
	if (strcmp(isa, "bf16") == 0)
	{
		dev->ops.round_products = round_products;
		dev->ops.half = &distil_standin_half;
	}
	dev->lost_after = strncmp(isa, "lost ", 5) == 0 ? strtol(isa + 5, NULL, 10) : -1;
	dev->crowded = strncmp(isa, "crowded ", 8) == 0 ? strtol(isa + 8, NULL, 10) : 0;
	dev->inner = distil_ref_open("auto", message, message_size);
	if (dev->inner == NULL)
	{
		distil_standin_close(&dev->base);
		return NULL;
	}
	return &dev->base;
}
