/*
 * kernels.h
 *		The seam between models and hardware: one table of operations per backend.
 *
 * A backend (reference, cpu, cuda, standin) is one DistilKernels: memory functions and one
 * function pointer per operation.  Every data pointer an operation takes is
 * device memory of that backend; on the CPU backends that is plain memory.  The
 * rule a newcomer would break: code above this header never dereferences such a
 * pointer, it copies (copy_in, copy_out).  Small host-side arguments are passed
 * by value.  Integer index arrays (ids, offsets, rows, labels) are device memory too.
 *
 * Conventions: float32, row-major.  Outputs come first.  Letters: B sequences,
 * T tokens of all sequences together (ragged: rows are concatenated, nothing is
 * padded), C width, H heads, D head width (C = H * D), F mlp width, V vocabulary.
 * Sequence b owns rows offsets[b] .. offsets[b+1]-1; offsets has B+1 entries.
 * Outputs may not alias inputs unless the operation says so.
 * "+=" marks gradients that are accumulated; all other outputs are overwritten.
 *
 * No operation allocates beyond the device's own workspace, starts threads,
 * prints, exits or fails: arguments are checked by the caller.  A device belongs
 * to one thread at a time; different devices may work at the same time.
 * The caller cuts work into units (see DISTIL_UNIT_FLOPS) so that one call takes
 * at most about 10 ms.
 * Results are deterministic: same device kind, same arguments, same bits.
 */
#ifndef DISTIL_KERNELS_H
#define DISTIL_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Work of one call is kept below this, times the device's units (about 5 ms at 100 GF/s, 10 ms at 50). */
#define DISTIL_UNIT_FLOPS 500000000.0

typedef enum DistilActivation
{
	DISTIL_ACT_NONE,
	DISTIL_ACT_GELU,			/* x * Phi(x), by erf: "gelu" */
	DISTIL_ACT_GELU_TANH,		/* "gelu_new", "gelu_pytorch_tanh", "gelu_fast" */
	DISTIL_ACT_QUICK_GELU,		/* x * sigmoid(1.702 x) */
	DISTIL_ACT_RELU,
	DISTIL_ACT_SILU,
	DISTIL_ACT_TANH,
	DISTIL_ACT_SIGMOID
} DistilActivation;

typedef enum DistilPooling
{
	DISTIL_POOL_CLS,			/* first token */
	DISTIL_POOL_MEAN,
	DISTIL_POOL_MEAN_SQRT,		/* sum / sqrt(length) */
	DISTIL_POOL_MAX,
	DISTIL_POOL_WEIGHTED_MEAN,	/* weights 1 .. length */
	DISTIL_POOL_LAST			/* last token */
} DistilPooling;

/*
 * Dropout without a stored mask: element e of stream `seed` is kept when
 * distil_dropout_keep() says so, in forward and backward alike.  p = 0: off.
 * Kept values are scaled by 1/(1-p).
 */
typedef struct DistilDropout
{
	float		p;
	uint64_t	seed;			/* names step, layer and place; same in backward */
} DistilDropout;

#ifdef __CUDACC__
#define DISTIL_DEVICE_INLINE static inline __host__ __device__
#else
#define DISTIL_DEVICE_INLINE static inline
#endif

/* The one definition of the mask, for every backend (splitmix64 finaliser). */
DISTIL_DEVICE_INLINE bool
distil_dropout_keep(uint64_t seed, uint64_t element, float p)
{
	uint64_t	z = seed + (element + 1) * UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	z ^= z >> 31;
	return (float) (z >> 40) * (1.0f / 16777216.0f) >= p;
}

/* Attention over ragged rows; heads [head_first, head_first + head_count) only. */
typedef struct DistilAttention
{
	int			nseq;			/* B: sequences this call covers */
	int			heads;			/* H of the whole layer */
	int			head_dim;		/* D */
	int			head_first;
	int			head_count;
	int			longest;		/* rows of the longest sequence, 0: not known; results do not hang on it */
	float		scale;			/* usually 1/sqrt(D) */
	bool		causal;
	DistilDropout dropout;		/* on probabilities; element = (row * H + head) * 65536 + key */
	/*
	 * Queries before row query_first of each sequence are left out (forward only): when tokens
	 * are generated one by one, the rows of the earlier ones are kept and only serve as keys.
	 */
	int			query_first;
	/*
	 * relative [2 * relative_limit - 1, H] (NULL: none): row j - i + relative_limit - 1 is added
	 * to the scaled score of query i and key j.  backward: drelative += (NULL: not wanted).
	 */
	const float *relative;
	float	   *drelative;
	int			relative_limit; /* no sequence is longer */
	/*
	 * Queries from row query_end on are left out too (0: none; forward
	 * only): a long sequence is done in parts.
	 */
	int			query_end;
	/* attention_rows: the layer's weights have 8 bits, what is multiplied here may be cut into as many. */
	bool		bytes;
} DistilAttention;

/* The row behind the last query of a sequence that is done. */
#define DISTIL_QUERY_END(attention, length) \
	((attention)->query_end > 0 && (attention)->query_end < (length) ? (attention)->query_end : (length))

/* Scales and temperature of the fused loss on logits rows, see logits_loss. */
typedef struct DistilLogitsLoss
{
	float		temperature;	/* T > 0 */
	float		scale_ce;		/* T^2 * alpha_ce / N already multiplied, 0 = off */
	float		scale_label;	/* alpha_mlm (or clm) / number of labels, 0 = off */
	float		scale_mse;		/* alpha_mse / N, 0 = off */
} DistilLogitsLoss;

typedef struct DistilAdamW
{
	float		learning_rate;
	float		beta1;
	float		beta2;
	float		epsilon;
	float		weight_decay;	/* decoupled; the caller passes 0 for biases and norms */
	float		correction1;	/* 1 - beta1^step */
	float		correction2;	/* 1 - beta2^step */
	float		gradient_scale; /* multiplies every gradient first (clipping, accumulation) */
} DistilAdamW;

/* How numbers of a low-precision product are stored; its sums and everything else are float32. */
typedef enum DistilType
{
	DISTIL_TYPE_F32,
	DISTIL_TYPE_BF16,			/* the upper half of a float32, rounded to nearest even */
	DISTIL_TYPE_INT8
} DistilType;
#define DISTIL_TYPES 3

/*
 * m rows of activations.  INT8: unsigned, value = scale[row] * (q - zero[row]).
 * Behind its columns a row is filled up to whole cache lines with what stands for 0 (whoever writes rows
 * writes that too; see distil_row_length).  ld is in elements, see distil_row_stride.  Behind the last
 * row there is readable memory of DISTIL_ROW_BLOCK more, whatever lies there (distil_rows_elements).
 */
typedef struct DistilRows
{
	DistilType	type;
	void	   *data;
	size_t		ld;
	float	   *scale;			/* [m], INT8 only */
	int32_t    *zero;			/* [m], INT8 only */
	const float *factor;		/* columns are multiplied by it when INT8 rows are written; NULL: by 1 */
} DistilRows;

#define DISTIL_ROW_BLOCK 32

/*
 * A linear layer's packed weight [n, k]: panels of DISTIL_PANEL outputs, n filled up with zeros to whole
 * panels and k to distil_row_length.  F32 [k][16], BF16 [k/2][16][2], INT8 [k/4][16][4].  A cache line of a
 * panel is one vector of a dot product, 16 lines are one operand of a matrix unit.
 * INT8: signed, value = scale[output] * q; sum[output] is that of its k numbers q.
 */
typedef struct DistilWeight
{
	DistilType	type;
	int			n;
	int			k;
	const void *data;
	const float *scale;			/* [n], INT8 only */
	const int32_t *sum;			/* [n], INT8 only */
	const float *bias;			/* [n] or NULL */
	const uint16_t *order;		/* INT8 only, or NULL: see distil_order_half */
} DistilWeight;

typedef struct DistilDevice DistilDevice;
typedef struct DistilKernels DistilKernels;
typedef struct DistilHalfKernels DistilHalfKernels;
typedef struct DistilGraph DistilGraph;

/* First member of every backend's device. */
struct DistilDevice
{
	const DistilKernels *ops;
};

struct DistilKernels
{
	const char *name;			/* "reference", "cpu", "cuda", "standin" */
	bool		own_memory;		/* its memory is not the host's: reading such a pointer on the host is an
								 * error */
	int			units;			/* of work that one call may take (distil_device_units) */
	/*
	 * What went wrong in any earlier call (the device is lost), or NULL; static storage or the device's.
	 * Results copied out since are worthless.  A NULL member: operations cannot fail.
	 */
	const char *(*failure) (DistilDevice *dev);

	/* Memory.  alloc returns NULL when there is none; 64-byte aligned. */
	void	   *(*alloc) (DistilDevice *dev, size_t bytes);
	void		(*release) (DistilDevice *dev, void *memory);	/* takes NULL */
	/* alloc fails beyond so many bytes in all, 0: no limit.  NULL with own_memory false. */
	void		(*limit_memory) (DistilDevice *dev, size_t bytes);
	/*
	 * What lies there is not needed any more: it may be lost, and the
	 * memory used elsewhere, until it is written.
	 */
	void		(*forget) (DistilDevice *dev, void *memory, size_t bytes);	/* NULL: nothing to gain */
	void		(*copy_in) (DistilDevice *dev, void *device, const void *host, size_t bytes);
	void		(*copy_out) (DistilDevice *dev, void *host, const void *device, size_t bytes);
	void		(*close) (DistilDevice *dev);	/* frees dev; takes NULL */

	/*
	 * x[i] [count] of the group's device number i, for all n of them, becomes the sum over the devices, the
	 * same bits on each.  dev: any of the group (distil_device_open_group); no other thread uses one
	 * meanwhile.  Returns when it is done, or has failed, on all.  NULL: the device was opened alone.
	 */
	void		(*all_sum) (DistilDevice *dev, float *const *x, int n, size_t count);

	/*
	 * Many small operations as one.  From graph_begin on operations are noted and not done, up to graph_end,
	 * which gives what graph_run does again and again, with the same arguments, among other operations.
	 * graph_begin false: not now.  graph_end NULL: it cannot be repeated (as copies cannot), and nothing was
	 * done.  graph_free takes NULL; graphs are freed before their device.  All four NULL: not on this device.
	 */
	bool		(*graph_begin) (DistilDevice *dev);
	DistilGraph *(*graph_end) (DistilDevice *dev);
	void		(*graph_run) (DistilDevice *dev, DistilGraph *graph);
	void		(*graph_free) (DistilDevice *dev, DistilGraph *graph);

	/* y[n] = 0 */
	void		(*zero) (DistilDevice *dev, float *y, size_t n);
	/* y[n] += scale * x[n] */
	void		(*axpy) (DistilDevice *dev, float *y, const float *x, float scale, size_t n);
	/* *sum = sum of x[n]^2 (device double) */
	void		(*sum_squares) (DistilDevice *dev, double *sum, const float *x, size_t n);
	/* *bad = number of values in x[n] that are not finite (device int64) */
	void		(*count_nonfinite) (DistilDevice *dev, int64_t *bad, const float *x, size_t n);

	/*
	 * Linear layer, weight [n, k] as PyTorch stores it; ld = row strides.
	 *	forward:  y[m, n] = act(x[m, k] w^T + b), b may be NULL
	 *	input:	  dx[m, k] = dy[m, n] w, or += when accumulate
	 *	weight:   dw[n, k] += dy^T x,  db[n] += column sums of dy (NULL: not wanted)
	 */
	void		(*linear_forward) (DistilDevice *dev, float *y, size_t ldy,
								   const float *x, size_t ldx, const float *w, const float *b,
								   DistilActivation act, int m, int n, int k);
	/* The same from a packed weight (distil_pack_panel).  NULL: the backend reads plain weights only. */
	void		(*linear_forward_packed) (DistilDevice *dev, float *y, size_t ldy,
										  const float *x, size_t ldx, const float *w, const float *b,
										  DistilActivation act, int m, int n, int k);
	void		(*linear_backward_input) (DistilDevice *dev, float *dx, size_t lddx,
										  const float *dy, size_t lddy, const float *w,
										  bool accumulate, int m, int n, int k);
	void		(*linear_backward_weight) (DistilDevice *dev, float *dw, float *db,
										   const float *dy, size_t lddy,
										   const float *x, size_t ldx, int m, int n, int k);

	/*
	 * From now on the operands of linear_* are rounded to this type before they are multiplied (F32: they are
	 * not); sums stay float32, and small products may stay exact.  false: not on this device, then nothing
	 * is rounded.  The call replaces dev->ops.  NULL: F32 only.
	 */
	bool		(*round_products) (DistilDevice *dev, DistilType type);

	/* y[n] = act(x[n]); may be in place.  dx[n] = dy[n] * act'(x[n]); dx may be dy. */
	void		(*activation_forward) (DistilDevice *dev, DistilActivation act,
									   float *y, const float *x, size_t n);
	void		(*activation_backward) (DistilDevice *dev, DistilActivation act,
										float *dx, const float *dy, const float *x, size_t n);

	/* y[n] = x[n] * mask / (1-p); in place allowed; its own backward.  element = first + i */
	void		(*dropout) (DistilDevice *dev, float *y, const float *x,
							DistilDropout dropout, uint64_t first, size_t n);

	/*
	 * s = x + residual (residual NULL: s = x);  y = (s - mean) * rstd * gamma + beta,
	 * biased variance, rstd = 1/sqrt(var + eps).  sum [rows, C], mean and rstd [rows]
	 * are saved for backward, or NULL (all three).  y may be x or residual; sum may be x.
	 */
	void		(*layernorm_forward) (DistilDevice *dev, float *y, float *sum, float *mean, float *rstd,
									  const float *x, const float *residual,
									  const float *gamma, const float *beta, float eps,
									  int rows, int c);
	/* dx [rows, C] is the gradient of s (of x and residual alike); dgamma, dbeta [C] += */
	void		(*layernorm_backward) (DistilDevice *dev, float *dx, float *dgamma, float *dbeta,
									   const float *dy, const float *sum, const float *mean,
									   const float *rstd, const float *gamma, int rows, int c);

	/* y[t] = word[ids[t]] + position[positions[t]] (+ type[types[t]]); tables may be NULL but word */
	void		(*embedding_forward) (DistilDevice *dev, float *y, const int32_t *ids,
									  const int32_t *positions, const int32_t *types,
									  const float *word, const float *position, const float *type,
									  int t, int c);
	/* table rows += dy; a NULL table gets no gradient */
	void		(*embedding_backward) (DistilDevice *dev, float *dword, float *dposition, float *dtype,
									   const float *dy, const int32_t *ids, const int32_t *positions,
									   const int32_t *types, int t, int c);

	/*
	 * out[T, C] = dropout(softmax(scale * q k^T + relative)) v per sequence and head; qkv [T, 3C] holds
	 * q | k | v side by side, head h in columns h*D ...  lse [T, H] (log-sum-exp of each row
	 * of scores) is saved for backward, or NULL.  Rows are absolute: offsets[0] need not be 0.
	 */
	void		(*attention_forward) (DistilDevice *dev, float *out, float *lse, const float *qkv,
									  const int32_t *offsets, const DistilAttention *attention);
	/* dqkv [T, 3C]: the columns of the given heads are overwritten */
	void		(*attention_backward) (DistilDevice *dev, float *dqkv, const float *dout,
									   const float *qkv, const float *out, const float *lse,
									   const int32_t *offsets, const DistilAttention *attention);

	/* y[B, C] = one vector per sequence.  argmax [B, C] (rows) is written for MAX, may be NULL otherwise. */
	void		(*pool_forward) (DistilDevice *dev, DistilPooling pooling, float *y, int32_t *argmax,
								 const float *x, const int32_t *offsets, int nseq, int c);
	/* dx[T, C] overwritten for the rows of the sequences */
	void		(*pool_backward) (DistilDevice *dev, DistilPooling pooling, float *dx, const float *dy,
								  const int32_t *argmax, const int32_t *offsets, int nseq, int c);

	/* y = x / max(||x||, 1e-12) per row; norm [rows] saved or NULL; in place allowed */
	void		(*normalize_forward) (DistilDevice *dev, float *y, float *norm, const float *x, int rows,
									  int c);
	void		(*normalize_backward) (DistilDevice *dev, float *dx, const float *dy, const float *y,
									   const float *norm, int rows, int c);

	/* y[i] = x[rows[i]];  dx[rows[i]] += dy[i] (in order of i) */
	void		(*gather_rows) (DistilDevice *dev, float *y, const float *x, const int32_t *rows, int n,
								int c);
	void		(*scatter_add_rows) (DistilDevice *dev, float *dx, const float *dy, const int32_t *rows,
									 int n, int c);

	/*
	 * Losses: *loss (device double) += scale * ..., gradient overwritten (ds may be s).
	 *	mse_loss:	 sum of (s - t)^2 over [rows, C];  ds = 2 scale (s - t)
	 *	cosine_loss: sum over rows of 1 - cos(s, t), squared norms guarded by 1e-12;
	 *				 ds = -scale (t^ - cos s^) / ||s||
	 */
	void		(*mse_loss) (DistilDevice *dev, double *loss, float *ds, const float *s, const float *t,
							 float scale, int rows, int c);
	void		(*cosine_loss) (DistilDevice *dev, double *loss, float *ds, const float *s, const float *t,
								float scale, int rows, int c);

	/*
	 * Fused losses on student logits s [rows, V] (gradient replaces s) against teacher
	 * logits t [rows, V] (NULL if neither scale_ce nor scale_mse) and labels [rows]
	 * (-100: no label; NULL: none at all):
	 *	losses[0] += scale_ce	 * sum_rows sum_v p (log p - log q),  p = softmax(t/T), q = softmax(s/T)
	 *	losses[1] += scale_label * sum over labelled rows of -log softmax(s)[label]
	 *	losses[2] += scale_mse	 * sum (s - t)^2
	 * ds = scale_ce (q - p) / T + scale_label (softmax(s) - onehot) + 2 scale_mse (s - t).
	 */
	void		(*logits_loss) (DistilDevice *dev, double *losses, float *s, const float *t,
								const int32_t *labels, const DistilLogitsLoss *loss, int rows, int v);

	/*
	 * Low precision, forward only.  has_type NULL: none of it.  Otherwise the operations below take rows and
	 * weights of the types it names; fast_type is the one of F32 and BF16 whose products are
	 * fastest here.  A row has the same bits whatever rows are computed with it.
	 */
	bool		(*has_type) (DistilDevice *dev, DistilType type);
	DistilType	(*fast_type) (DistilDevice *dev);
	/* Are INT8 weights with an order of their lines faster here?  NULL: no. */
	bool		(*orders_lines) (DistilDevice *dev);
	/*
	 * The most of so many rows to take through several products in turn: what lies between, at most `width`
	 * numbers for each, stays cached.  NULL: any.
	 */
	int			(*chain_rows) (DistilDevice *dev, int rows, int width);
	/* y[m, n] = act(x[m, k] w^T + bias), x and w of one type, BF16 or INT8; y F32 or BF16 */
	void		(*linear_rows) (DistilDevice *dev, const DistilRows *y, const DistilRows *x,
								const DistilWeight *w, DistilActivation act, int m);
	/*
	 * y[m, c] = act(x[m, c]): F32 to BF16 (without activation) or INT8, BF16 to INT8; c at most 131072.
	 * Activations in front of INT8 belong here: they need not be as exact as those of linear_rows.
	 */
	void		(*quantize_rows) (DistilDevice *dev, const DistilRows *y, const DistilRows *x,
								  DistilActivation act, int m, int c);
	/*
	 * As layernorm_forward without what backward needs; low (BF16 or INT8) is y once more.  y may be x or
	 * residual.
	 */
	void		(*norm_rows) (DistilDevice *dev, float *y, const DistilRows *low, const float *x,
							  const float *residual, const float *gamma, const float *beta, float eps,
							  int rows, int c);
	/*
	 * As attention_forward without dropout: out [T, C] and qkv [T, 3C] are BF16, products of BF16 numbers
	 * (probabilities too) are summed in float32; or of whole numbers of at least 10 bits, cut evenly, in
	 * integers; of 8 bits where attention->bytes allows it.
	 */
	void		(*attention_rows) (DistilDevice *dev, const DistilRows *out, const DistilRows *qkv,
								   const int32_t *offsets, const DistilAttention *attention);

	/* One AdamW update (decoupled decay, bias correction) of w, m, v [n] from gradients g [n]. */
	void		(*adamw) (DistilDevice *dev, float *w, float *m, float *v, const float *g,
						  const DistilAdamW *step, size_t n);

	/* The layers with activations in bfloat16; NULL: not on this device, or not at its precision. */
	const DistilHalfKernels *half;
};

/*
 * Layers whose activations and their gradients lie in memory in bfloat16 (uint16_t, arrays aligned to 16
 * bytes), rows without gaps unless a stride is given; w and b are the weights rounded to it.  A result is
 * rounded once, when it is stored; sums, statistics and gradients of parameters are float32.  For training,
 * and for inference on a GPU.
 */
struct DistilHalfKernels
{
	/* y[n] = x[n] */
	void		(*round) (DistilDevice *dev, uint16_t *y, const float *x, size_t n);
	void		(*widen) (DistilDevice *dev, float *y, const uint16_t *x, size_t n);
	/*
	 * before[m, n] = x[m, k] w^T + b (before NULL: not wanted, b may be
	 * NULL);  y[m, n] = act(before), rows ldy apart
	 */
	void		(*linear_forward) (DistilDevice *dev, uint16_t *y, size_t ldy, uint16_t *before,
								   const uint16_t *x, const uint16_t *w, const uint16_t *b,
								   DistilActivation act, int m, int n, int k);
	/* dx[m, k] = (or +=) dy[m, n] w, then, where before [m, k] is given, times act'(before) */
	void		(*linear_backward_input) (DistilDevice *dev, uint16_t *dx, const uint16_t *dy, size_t lddy,
										  const uint16_t *w, const uint16_t *before, DistilActivation act,
										  bool accumulate, int m, int n, int k);
	/* dw[n, k] += dy^T x[m, k], db[n] += column sums of dy (NULL: not wanted) */
	void		(*linear_backward_weight) (DistilDevice *dev, float *dw, float *db, const uint16_t *dy,
										   size_t lddy, const uint16_t *x, int m, int n, int k);
	/*
	 * sum = dropout(x) + residual, rounded, of which y is the norm (as layernorm_forward; sum, mean and rstd
	 * may be NULL, the last two together).  Dropout's element is the place in x.  y or sum may be x or
	 * residual.
	 */
	void		(*norm_forward) (DistilDevice *dev, uint16_t *y, uint16_t *sum, float *mean, float *rstd,
								 const uint16_t *x, const uint16_t *residual, DistilDropout dropout,
								 const float *gamma, const float *beta, float eps, int rows, int c);
	/*
	 * dsum [rows, c], which is the residual's gradient, with dresidual added, what comes from elsewhere
	 * (NULL: nothing), and dx = dropout(dsum) (NULL: not wanted).  dsum may be dy or dresidual.
	 */
	void		(*norm_backward) (DistilDevice *dev, uint16_t *dsum, uint16_t *dx, float *dgamma,
								  float *dbeta, const uint16_t *dy, const uint16_t *dresidual,
								  const uint16_t *sum, const float *mean, const float *rstd,
								  DistilDropout dropout, const float *gamma, int rows, int c);
	/* As the operations without half; drelative and lse are float32. */
	void		(*attention_forward) (DistilDevice *dev, uint16_t *out, float *lse, const uint16_t *qkv,
									  const int32_t *offsets, const DistilAttention *attention);
	void		(*attention_backward) (DistilDevice *dev, uint16_t *dqkv, const uint16_t *dout,
									   const uint16_t *qkv, const uint16_t *out, const float *lse,
									   const int32_t *offsets, const DistilAttention *attention);
	/* rows of s and t are ld apart */
	void		(*logits_loss) (DistilDevice *dev, double *losses, uint16_t *s, const uint16_t *t, size_t ld,
								const int32_t *labels, const DistilLogitsLoss *loss, int rows, int v);
	/* copy[n] = the new w, rounded */
	void		(*adamw) (DistilDevice *dev, float *w, float *m, float *v, const float *g,
						  const DistilAdamW *step, uint16_t *copy, size_t n);
};

/* Units of work (DISTIL_UNIT_FLOPS and the like) that one call to this device may take, at least 1. */
static inline int
distil_device_units(const DistilDevice *device)
{
	return device->ops->units > 1 ? device->ops->units : 1;
}

/*
 * A packed weight: panels of DISTIL_PANEL rows of w [n, k], each panel [k][DISTIL_PANEL], so
 * that a multiplication reads it front to back.  The last panel is filled up with zeros.
 * One form serves every instruction set; a panel's rows start at index (row / 16) * 16 * k.
 */
#define DISTIL_PANEL 16

static inline size_t
distil_packed_floats(int n, int k)
{
	return ((size_t) n + DISTIL_PANEL - 1) / DISTIL_PANEL * DISTIL_PANEL * (size_t) k;
}

/* Where w[row][column] lies in a packed weight of k columns. */
static inline size_t
distil_packed_index(size_t row, size_t column, size_t k)
{
	return (row / DISTIL_PANEL * k + column) * DISTIL_PANEL + row % DISTIL_PANEL;
}

/* ---------- low precision: sizes and packing ---------- */

static inline size_t
distil_type_size(DistilType type)
{
	return type == DISTIL_TYPE_F32 ? 4 : type == DISTIL_TYPE_BF16 ? 2 : 1;
}

/* Elements of a row of c columns, filled up to whole cache lines. */
static inline size_t
distil_row_length(DistilType type, size_t c)
{
	size_t		line = 64 / distil_type_size(type);

	return (c + line - 1) / line * line;
}

/* Their stride: an odd number of cache lines, so that a column does not fall into few sets of the cache. */
static inline size_t
distil_row_stride(DistilType type, size_t c)
{
	size_t		line = 64 / distil_type_size(type);

	return (distil_row_length(type, c) / line | 1) * line;
}

/* Elements of m rows, what must be readable behind them included. */
static inline size_t
distil_rows_elements(DistilType type, size_t m, size_t c)
{
	return (m + DISTIL_ROW_BLOCK) * distil_row_stride(type, c);
}

/* Bytes of a packed weight's data. */
static inline size_t
distil_weight_bytes(DistilType type, int n, int k)
{
	size_t		rows = ((size_t) n + DISTIL_PANEL - 1) / DISTIL_PANEL * DISTIL_PANEL;

	return rows * (type == DISTIL_TYPE_F32 ? (size_t) k : distil_row_length(type, (size_t) k)) *
		distil_type_size(type);
}

/* Where element [row][column] lies in a packed weight of k columns, in elements. */
static inline size_t
distil_weight_index(DistilType type, size_t row, size_t column, size_t k)
{
	size_t		group = 4 / distil_type_size(type);
	size_t		length = type == DISTIL_TYPE_F32 ? k : distil_row_length(type, k);

	return row / DISTIL_PANEL * DISTIL_PANEL * length + column / group * DISTIL_PANEL * group +
		row % DISTIL_PANEL * group + column % group;
}

static inline float
distil_bf16_float(uint16_t x)
{
	union
	{
		uint32_t	bits;
		float		value;
	}			u = {(uint32_t) x << 16};

	return u.value;
}

/* To nearest, ties to even; a NaN stays one. */
static inline uint16_t
distil_bf16(float x)
{
	union
	{
		float		value;
		uint32_t	bits;
	}			u = {x};

	if ((u.bits & 0x7fffffff) > 0x7f800000)
		return (uint16_t) (u.bits >> 16 | 0x40);
	return (uint16_t) ((u.bits + 0x7fff + (u.bits >> 16 & 1)) >> 16);
}

/* One panel of BF16 from `rows` <= DISTIL_PANEL rows of k values, ld apart.  Host memory. */
extern void distil_pack_panel_bf16(uint16_t *to, const float *from, size_t ld, int rows, int k);
/* The same of INT8; sum [rows]: those of the rows. */
extern void distil_pack_panel_int8(int8_t *to, int32_t *sum, const int8_t *from, size_t ld, int rows, int k);

/*
 * An order of the lines of a panel's halves (eight outputs by four inputs each) for instruction sets whose
 * products of unsigned and signed bytes are added by twos in 16 bits, which saturate.  For each half, order
 * [distil_order_length(n, k)] has DISTIL_ORDER_HEAD numbers, how many lines are multiplied in pairs and how
 * many alone, and then all lines: pairs, those alone, the rest.  Each comes with
 * the turn its four inputs take (DISTIL_LINE), the first two of which are added, and the last two.  Of a pair
 * no sum of four products, two of each line, leaves 16 bits whatever the inputs are; of a line alone no sum
 * of two; of the rest some may.  k at most DISTIL_ORDER_INPUTS.
 */
#define DISTIL_HALF (DISTIL_PANEL / 2)
#define DISTIL_ORDER_HEAD 2
#define DISTIL_ORDER_INPUTS 65536
#define DISTIL_LINE_TURNS 3
#define DISTIL_LINE(line, turn) ((line) * 4 + (turn))
/* The inputs of a line in the order each turn gives them. */
extern const uint8_t distil_line_turns[DISTIL_LINE_TURNS][4];

/* Halves of a weight of n outputs. */
static inline int
distil_order_halves(int n)
{
	return (n + DISTIL_PANEL - 1) / DISTIL_PANEL * 2;
}

static inline size_t
distil_order_length(int n, int k)
{
	return distil_order_halves(n) * (DISTIL_ORDER_HEAD + distil_row_length(DISTIL_TYPE_INT8, (size_t) k) / 4);
}

/*
 * Writes one half's part of `order`, which is that of the whole packed weight `data`; scratch
 * [DISTIL_ORDER_SCRATCH(k)] bytes.  Host memory.
 */
#define DISTIL_ORDER_LINE 128
#define DISTIL_ORDER_SCRATCH(k) (DISTIL_ORDER_LINE * distil_row_length(DISTIL_TYPE_INT8, (size_t) (k)) / 4)
extern void distil_order_half(uint16_t *order, uint8_t *scratch, const int8_t *data, int half, int k);
/* One panel: to [k][DISTIL_PANEL] from `rows` <= DISTIL_PANEL rows of k values, ld apart.  Host memory. */
extern void distil_pack_panel(float *to, const float *from, size_t ld, int rows, int k);

/*
 * What the CPU at hand has, in the order of preference; `isa` names as in the
 * setting distil.isa.  distil_cpu_isa() returns the best for float32 that this build supports here.
 */
extern const char *distil_cpu_isa(void);
extern bool distil_cpu_has(const char *isa);
/* Human-readable CPU name, e.g. "Intel(R) Xeon(R) Processor"; static storage. */
extern const char *distil_cpu_name(void);
/*
 * "OpenBLAS 0.3.21 SkylakeX (libopenblas.so.0)", or "" when it has not been opened (which is
 * so where the cpu backend multiplies by itself: on x86-64 with AVX2); static storage.
 */
extern const char *distil_blas_version(void);

/* The instruction set that a device of the CPU was opened with, e.g. "amx"; "" for others; static storage. */
extern const char *distil_device_isa(const DistilDevice *dev);
/*
 * Are the module of backend "cuda" and the driver there?  Talks to no device, so that it is cheap; opening
 * may still fail.  false with a message.
 */
extern bool distil_cuda_available(char *message, size_t message_size);

/*
 * Open a device: backend "reference", "cpu", "cuda" or "standin"; isa NULL or "auto" = best, for "cuda" the
 * precision of products ("bf16", which is best, "tf32", "float32").  The first
 * "cpu" device without AVX2 opens OpenBLAS (all signals blocked, one thread, core
 * type by CPUID); must not be called in a process that will fork servers.
 * NULL on failure, with a message in `message`, which begins with DISTIL_NO_MEMORY where that is the cause.
 */
#define DISTIL_NO_MEMORY "out of memory"
extern DistilDevice *distil_device_open(const char *backend, const char *isa,
										char *message, size_t message_size);
/*
 * Open n (1 .. DISTIL_MAX_GROUP) devices of one backend that have all_sum: for "cuda" the first n GPUs, over
 * NCCL.  false with none of them open, with a message.  They are closed one by one, none used after the
 * first.
 */
#define DISTIL_MAX_GROUP 16
extern bool distil_device_open_group(const char *backend, const char *isa, DistilDevice **devices, int n,
									 char *message, size_t message_size);

#endif							/* DISTIL_KERNELS_H */
