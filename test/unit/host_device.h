/*
 * host_device.h
 *		A device whose operations take host memory, over one that has memory of its own.
 *
 * Each call copies its arguments to the device, with guard bytes behind every one, runs the
 * operation and copies back what it may write.  So the tests of the kernels, written for plain
 * memory, run on any backend.  Writing behind an output or into an input fails.
 */
#ifndef DISTIL_HOST_DEVICE_H
#define DISTIL_HOST_DEVICE_H

#include "check.h"
#include "kernels.h"

#define HOST_SLOTS 16
#define HOST_GUARD 64

typedef struct HostSlot
{
	char	   *host;
	char	   *device;
	size_t		bytes;
	bool		written;
} HostSlot;

typedef struct HostDevice
{
	DistilDevice base;
	DistilKernels ops;
	DistilDevice *real;
	HostSlot	slots[HOST_SLOTS];
	int			nslots;
} HostDevice;

/* The device's copy of `bytes` bytes at host; an alias gets the same copy. */
static inline void *
host_map(DistilDevice *dev, const void *host, size_t bytes, bool written)
{
	HostDevice *adapter = (HostDevice *) dev;
	DistilDevice *real = adapter->real;
	char		guard[HOST_GUARD];
	HostSlot   *slot;
	int			i;

	if (host == NULL)
		return NULL;
	for (i = 0; i < adapter->nslots; i++)
		if (adapter->slots[i].host == host)
		{
			CHECK(adapter->slots[i].bytes == bytes);
			adapter->slots[i].written |= written;
			return adapter->slots[i].device;
		}
	slot = &adapter->slots[adapter->nslots++];
	slot->host = (char *) (uintptr_t) host;
	slot->bytes = bytes;
	slot->written = written;
	slot->device = real->ops->alloc(real, bytes + HOST_GUARD);
	CHECK(slot->device != NULL);
	memset(guard, 0x5a, sizeof(guard));
	real->ops->copy_in(real, slot->device, host, bytes);
	real->ops->copy_in(real, slot->device + bytes, guard, sizeof(guard));
	return slot->device;
}

static inline void
host_finish(DistilDevice *dev, const char *operation)
{
	HostDevice *adapter = (HostDevice *) dev;
	DistilDevice *real = adapter->real;
	int			i;
	int			j;

	for (i = 0; i < adapter->nslots; i++)
	{
		HostSlot   *slot = &adapter->slots[i];
		char	   *back = malloc(slot->bytes + HOST_GUARD);
		bool		intact = true;

		real->ops->copy_out(real, back, slot->device, slot->bytes + HOST_GUARD);
		for (j = 0; j < HOST_GUARD; j++)
			intact &= back[slot->bytes + (size_t) j] == 0x5a;
		CHECK_MSG(intact, "%s wrote behind argument %d\n", operation, i + 1);
		if (slot->written)
			memcpy(slot->host, back, slot->bytes);
		else
			CHECK_MSG(memcmp(slot->host, back, slot->bytes) == 0, "%s wrote into input %d\n", operation,
					  i + 1);
		free(back);
		real->ops->release(real, slot->device);
	}
	adapter->nslots = 0;
	if (real->ops->failure != NULL)
		CHECK_MSG(real->ops->failure(real) == NULL, "%s: %s\n", operation, real->ops->failure(real));
}

#define HOST_IN(pointer, count) \
	((pointer) = host_map(dev, pointer, (size_t) (count) * sizeof(*(pointer)), false))
#define HOST_OUT(pointer, count) \
	((pointer) = host_map(dev, pointer, (size_t) (count) * sizeof(*(pointer)), true))
#define HOST_RUN(operation, ...) \
	do { \
		((HostDevice *) dev)->real->ops->operation(((HostDevice *) dev)->real, __VA_ARGS__); \
		host_finish(dev, #operation); \
	} while (0)

/* Elements from the first to the last of `rows` rows of n, ld apart. */
static inline size_t
host_span(int rows, size_t ld, int n)
{
	return rows > 0 ? (size_t) (rows - 1) * ld + (size_t) n : 0;
}

/* Rows of a table that indices reach. */
static inline size_t
host_reach(const int32_t *rows, int n)
{
	int32_t		most = -1;
	int			i;

	for (i = 0; rows != NULL && i < n; i++)
		most = rows[i] > most ? rows[i] : most;
	return (size_t) (most + 1);
}

static void
host_zero(DistilDevice *dev, float *y, size_t n)
{
	HOST_OUT(y, n);
	HOST_RUN(zero, y, n);
}

static void
host_axpy(DistilDevice *dev, float *y, const float *x, float scale, size_t n)
{
	HOST_OUT(y, n);
	HOST_IN(x, n);
	HOST_RUN(axpy, y, x, scale, n);
}

static void
host_sum_squares(DistilDevice *dev, double *sum, const float *x, size_t n)
{
	HOST_OUT(sum, 1);
	HOST_IN(x, n);
	HOST_RUN(sum_squares, sum, x, n);
}

static void
host_count_nonfinite(DistilDevice *dev, int64_t *bad, const float *x, size_t n)
{
	HOST_OUT(bad, 1);
	HOST_IN(x, n);
	HOST_RUN(count_nonfinite, bad, x, n);
}

static void
host_linear_forward(DistilDevice *dev, float *y, size_t ldy, const float *x, size_t ldx, const float *w,
					const float *b, DistilActivation act, int m, int n, int k)
{
	HOST_OUT(y, host_span(m, ldy, n));
	HOST_IN(x, host_span(m, ldx, k));
	HOST_IN(w, (size_t) n * k);
	HOST_IN(b, n);
	HOST_RUN(linear_forward, y, ldy, x, ldx, w, b, act, m, n, k);
}

static void
host_linear_backward_input(DistilDevice *dev, float *dx, size_t lddx, const float *dy, size_t lddy,
						   const float *w, bool accumulate, int m, int n, int k)
{
	HOST_OUT(dx, host_span(m, lddx, k));
	HOST_IN(dy, host_span(m, lddy, n));
	HOST_IN(w, (size_t) n * k);
	HOST_RUN(linear_backward_input, dx, lddx, dy, lddy, w, accumulate, m, n, k);
}

static void
host_linear_backward_weight(DistilDevice *dev, float *dw, float *db, const float *dy, size_t lddy,
							const float *x, size_t ldx, int m, int n, int k)
{
	HOST_OUT(dw, (size_t) n * k);
	HOST_OUT(db, n);
	HOST_IN(dy, host_span(m, lddy, n));
	HOST_IN(x, host_span(m, ldx, k));
	HOST_RUN(linear_backward_weight, dw, db, dy, lddy, x, ldx, m, n, k);
}

static void
host_activation_forward(DistilDevice *dev, DistilActivation act, float *y, const float *x, size_t n)
{
	HOST_OUT(y, n);
	HOST_IN(x, n);
	HOST_RUN(activation_forward, act, y, x, n);
}

static void
host_activation_backward(DistilDevice *dev, DistilActivation act, float *dx, const float *dy, const float *x,
						 size_t n)
{
	HOST_OUT(dx, n);
	HOST_IN(dy, n);
	HOST_IN(x, n);
	HOST_RUN(activation_backward, act, dx, dy, x, n);
}

static void
host_dropout(DistilDevice *dev, float *y, const float *x, DistilDropout dropout, uint64_t first, size_t n)
{
	HOST_OUT(y, n);
	HOST_IN(x, n);
	HOST_RUN(dropout, y, x, dropout, first, n);
}

static void
host_layernorm_forward(DistilDevice *dev, float *y, float *sum, float *mean, float *rstd, const float *x,
					   const float *residual, const float *gamma, const float *beta, float eps, int rows,
					   int c)
{
	size_t		n = (size_t) rows * c;

	HOST_OUT(y, n);
	HOST_OUT(sum, n);
	HOST_OUT(mean, rows);
	HOST_OUT(rstd, rows);
	HOST_IN(x, n);
	HOST_IN(residual, n);
	HOST_IN(gamma, c);
	HOST_IN(beta, c);
	HOST_RUN(layernorm_forward, y, sum, mean, rstd, x, residual, gamma, beta, eps, rows, c);
}

static void
host_layernorm_backward(DistilDevice *dev, float *dx, float *dgamma, float *dbeta, const float *dy,
						const float *sum, const float *mean, const float *rstd, const float *gamma,
						int rows, int c)
{
	size_t		n = (size_t) rows * c;

	HOST_OUT(dx, n);
	HOST_OUT(dgamma, c);
	HOST_OUT(dbeta, c);
	HOST_IN(dy, n);
	HOST_IN(sum, n);
	HOST_IN(mean, rows);
	HOST_IN(rstd, rows);
	HOST_IN(gamma, c);
	HOST_RUN(layernorm_backward, dx, dgamma, dbeta, dy, sum, mean, rstd, gamma, rows, c);
}

static void
host_embedding_forward(DistilDevice *dev, float *y, const int32_t *ids, const int32_t *positions,
					   const int32_t *types, const float *word, const float *position, const float *type,
					   int t, int c)
{
	HOST_OUT(y, (size_t) t * c);
	HOST_IN(word, host_reach(ids, t) * c);
	HOST_IN(position, host_reach(positions, t) * c);
	HOST_IN(type, host_reach(types, t) * c);
	HOST_IN(ids, t);
	HOST_IN(positions, t);
	HOST_IN(types, t);
	HOST_RUN(embedding_forward, y, ids, positions, types, word, position, type, t, c);
}

static void
host_embedding_backward(DistilDevice *dev, float *dword, float *dposition, float *dtype, const float *dy,
						const int32_t *ids, const int32_t *positions, const int32_t *types, int t, int c)
{
	HOST_OUT(dword, host_reach(ids, t) * c);
	HOST_OUT(dposition, host_reach(positions, t) * c);
	HOST_OUT(dtype, host_reach(types, t) * c);
	HOST_IN(dy, (size_t) t * c);
	HOST_IN(ids, t);
	HOST_IN(positions, t);
	HOST_IN(types, t);
	HOST_RUN(embedding_backward, dword, dposition, dtype, dy, ids, positions, types, t, c);
}

static void
host_attention_forward(DistilDevice *dev, float *out, float *lse, const float *qkv, const int32_t *offsets,
					   const DistilAttention *attention)
{
	DistilAttention a = *attention;
	size_t		t = (size_t) offsets[a.nseq];
	size_t		c = (size_t) a.heads * a.head_dim;

	HOST_OUT(out, t * c);
	HOST_OUT(lse, t * a.heads);
	HOST_IN(qkv, 3 * t * c);
	HOST_IN(offsets, a.nseq + 1);
	HOST_IN(a.relative, (size_t) (2 * a.relative_limit - 1) * a.heads);
	HOST_RUN(attention_forward, out, lse, qkv, offsets, &a);
}

static void
host_attention_backward(DistilDevice *dev, float *dqkv, const float *dout, const float *qkv, const float *out,
						const float *lse, const int32_t *offsets, const DistilAttention *attention)
{
	DistilAttention a = *attention;
	size_t		t = (size_t) offsets[a.nseq];
	size_t		c = (size_t) a.heads * a.head_dim;

	HOST_OUT(dqkv, 3 * t * c);
	HOST_IN(dout, t * c);
	HOST_IN(qkv, 3 * t * c);
	HOST_IN(out, t * c);
	HOST_IN(lse, t * a.heads);
	HOST_IN(offsets, a.nseq + 1);
	HOST_IN(a.relative, (size_t) (2 * a.relative_limit - 1) * a.heads);
	HOST_OUT(a.drelative, (size_t) (2 * a.relative_limit - 1) * a.heads);
	HOST_RUN(attention_backward, dqkv, dout, qkv, out, lse, offsets, &a);
}

static void
host_pool_forward(DistilDevice *dev, DistilPooling pooling, float *y, int32_t *argmax, const float *x,
				  const int32_t *offsets, int nseq, int c)
{
	size_t		rows = (size_t) offsets[nseq];

	HOST_OUT(y, (size_t) nseq * c);
	HOST_OUT(argmax, (size_t) nseq * c);
	HOST_IN(x, rows * c);
	HOST_IN(offsets, nseq + 1);
	HOST_RUN(pool_forward, pooling, y, argmax, x, offsets, nseq, c);
}

static void
host_pool_backward(DistilDevice *dev, DistilPooling pooling, float *dx, const float *dy,
				   const int32_t *argmax, const int32_t *offsets, int nseq, int c)
{
	size_t		rows = (size_t) offsets[nseq];

	HOST_OUT(dx, rows * c);
	HOST_IN(dy, (size_t) nseq * c);
	HOST_IN(argmax, (size_t) nseq * c);
	HOST_IN(offsets, nseq + 1);
	HOST_RUN(pool_backward, pooling, dx, dy, argmax, offsets, nseq, c);
}

static void
host_normalize_forward(DistilDevice *dev, float *y, float *norm, const float *x, int rows, int c)
{
	HOST_OUT(y, (size_t) rows * c);
	HOST_OUT(norm, rows);
	HOST_IN(x, (size_t) rows * c);
	HOST_RUN(normalize_forward, y, norm, x, rows, c);
}

static void
host_normalize_backward(DistilDevice *dev, float *dx, const float *dy, const float *y, const float *norm,
						int rows, int c)
{
	HOST_OUT(dx, (size_t) rows * c);
	HOST_IN(dy, (size_t) rows * c);
	HOST_IN(y, (size_t) rows * c);
	HOST_IN(norm, rows);
	HOST_RUN(normalize_backward, dx, dy, y, norm, rows, c);
}

static void
host_gather_rows(DistilDevice *dev, float *y, const float *x, const int32_t *rows, int n, int c)
{
	HOST_OUT(y, (size_t) n * c);
	HOST_IN(x, host_reach(rows, n) * c);
	HOST_IN(rows, n);
	HOST_RUN(gather_rows, y, x, rows, n, c);
}

static void
host_scatter_add_rows(DistilDevice *dev, float *dx, const float *dy, const int32_t *rows, int n, int c)
{
	HOST_OUT(dx, host_reach(rows, n) * c);
	HOST_IN(dy, (size_t) n * c);
	HOST_IN(rows, n);
	HOST_RUN(scatter_add_rows, dx, dy, rows, n, c);
}

static void
host_mse_loss(DistilDevice *dev, double *loss, float *ds, const float *s, const float *t, float scale,
			  int rows, int c)
{
	HOST_OUT(loss, 1);
	HOST_OUT(ds, (size_t) rows * c);
	HOST_IN(s, (size_t) rows * c);
	HOST_IN(t, (size_t) rows * c);
	HOST_RUN(mse_loss, loss, ds, s, t, scale, rows, c);
}

static void
host_cosine_loss(DistilDevice *dev, double *loss, float *ds, const float *s, const float *t, float scale,
				 int rows, int c)
{
	HOST_OUT(loss, 1);
	HOST_OUT(ds, (size_t) rows * c);
	HOST_IN(s, (size_t) rows * c);
	HOST_IN(t, (size_t) rows * c);
	HOST_RUN(cosine_loss, loss, ds, s, t, scale, rows, c);
}

static void
host_logits_loss(DistilDevice *dev, double *losses, float *s, const float *t, const int32_t *labels,
				 const DistilLogitsLoss *loss, int rows, int v)
{
	HOST_OUT(losses, 3);
	HOST_OUT(s, (size_t) rows * v);
	HOST_IN(t, (size_t) rows * v);
	HOST_IN(labels, rows);
	HOST_RUN(logits_loss, losses, s, t, labels, loss, rows, v);
}

static void
host_adamw(DistilDevice *dev, float *w, float *m, float *v, const float *g, const DistilAdamW *step, size_t n)
{
	HOST_OUT(w, n);
	HOST_OUT(m, n);
	HOST_OUT(v, n);
	HOST_IN(g, n);
	HOST_RUN(adamw, w, m, v, g, step, n);
}

/* Closes the device below too. */
static void
host_close(DistilDevice *dev)
{
	HostDevice *adapter = (HostDevice *) dev;

	adapter->real->ops->close(adapter->real);
	free(adapter);
}

/* An adapter over `real`, which it owns.  Memory functions are those of `plain`, a device of plain memory. */
static inline DistilDevice *
host_device(DistilDevice *real, const DistilDevice *plain)
{
	HostDevice *adapter = calloc(1, sizeof(*adapter));

	adapter->ops = (DistilKernels)
	{
		.name = real->ops->name,
		.alloc = plain->ops->alloc,
		.release = plain->ops->release,
		.copy_in = plain->ops->copy_in,
		.copy_out = plain->ops->copy_out,
		.close = host_close,
		.zero = host_zero,
		.axpy = host_axpy,
		.sum_squares = host_sum_squares,
		.count_nonfinite = host_count_nonfinite,
		.linear_forward = host_linear_forward,
		.linear_backward_input = host_linear_backward_input,
		.linear_backward_weight = host_linear_backward_weight,
		.activation_forward = host_activation_forward,
		.activation_backward = host_activation_backward,
		.dropout = host_dropout,
		.layernorm_forward = host_layernorm_forward,
		.layernorm_backward = host_layernorm_backward,
		.embedding_forward = host_embedding_forward,
		.embedding_backward = host_embedding_backward,
		.attention_forward = host_attention_forward,
		.attention_backward = host_attention_backward,
		.pool_forward = host_pool_forward,
		.pool_backward = host_pool_backward,
		.normalize_forward = host_normalize_forward,
		.normalize_backward = host_normalize_backward,
		.gather_rows = host_gather_rows,
		.scatter_add_rows = host_scatter_add_rows,
		.mse_loss = host_mse_loss,
		.cosine_loss = host_cosine_loss,
		.logits_loss = host_logits_loss,
		.adamw = host_adamw,
	};
	adapter->base.ops = &adapter->ops;
	adapter->real = real;
	return &adapter->base;
}

#endif							/* DISTIL_HOST_DEVICE_H */
