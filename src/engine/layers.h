/*
 * layers.h
 *		Inside of the encoder: what forward saves, the layers, units of work.
 *
 * A layer is a pair x_forward / x_backward in a file of its own.  All of them get a
 * DistilPass, and all data they touch is device memory made before the pass: nothing
 * is allocated in forward or backward.  The rule a newcomer would break: no call of a
 * device operation may take longer than about 10 ms, so long arrays go through the
 * *_rows helpers and distil_linear_*, which poll between units.
 */
#ifndef DISTIL_LAYERS_H
#define DISTIL_LAYERS_H

#include "model.h"
#include "status.h"

/* Elements of one element-wise call: 512K values of an erf or a norm are below 10 ms. */
#define DISTIL_UNIT_ELEMENTS(device) (((size_t) 1 << 19) * (size_t) distil_device_units(device))
/* Work of one attention call: its small products run far below GEMM speed. */
#define DISTIL_UNIT_ATTENTION(device) (DISTIL_UNIT_FLOPS / 5 * distil_device_units(device))
/* Rows of the F-wide buffers, per unit: enough for a good GEMM, small enough to stay in L2. */
#define DISTIL_MLP_ROWS 256
/* The same in low precision, at most: chain_rows of the device may be less. */
#define DISTIL_LOW_MLP_ROWS 512
/* The most tokens of one pass. */
#define DISTIL_MAX_PASS_TOKENS (1 << 24)

/* What one layer keeps for backward; every array is written by forward, read by backward. */
typedef struct DistilSavedLayer
{
	float	   *qkv;			/* [T, 3C] */
	float	   *lse;			/* [T, H] */
	float	   *context;		/* [T, C] attention's output before the output projection */
	float	   *sum1;			/* [T, C] input of norm 1 */
	float	   *mean1, *rstd1;	/* [T] */
	float	   *middle;			/* [T, C] output of norm 1 */
	float	   *up;				/* [T, F] before the activation */
	float	   *sum2;			/* [T, C] input of norm 2 */
	float	   *mean2, *rstd2;	/* [T] */
	float	   *output;			/* [T, C] */
} DistilSavedLayer;

/*
 * The same with activations in bfloat16, for post-norm layers (see
 * block_pre_half.c); the statistics are float32.
 */
typedef struct DistilHalfLayer
{
	uint16_t   *qkv;			/* [T, 3C] */
	float	   *lse;			/* [T, H] */
	uint16_t   *context;		/* [T, C] */
	uint16_t   *sum1;			/* [T, C] */
	float	   *mean1, *rstd1;	/* [T] */
	uint16_t   *middle;			/* [T, C] */
	uint16_t   *up;				/* [T, F] before the activation */
	uint16_t   *activated;		/* [T, F] */
	uint16_t   *sum2;			/* [T, C] */
	float	   *mean2, *rstd2;	/* [T] */
	uint16_t   *output;			/* [T, C] */
} DistilHalfLayer;

/* Which linear layer of an encoder layer. */
typedef enum DistilPlace
{
	DISTIL_PLACE_QKV,
	DISTIL_PLACE_OUT,
	DISTIL_PLACE_UP,
	DISTIL_PLACE_DOWN,
	DISTIL_PLACES
} DistilPlace;

/* Sees the inputs x [rows, cols] of the linear layers in float32 forward and gives what takes their place. */
typedef struct DistilTap
{
	const float *(*input) (void *ctx, int layer, DistilPlace place, const float *x, int rows, int cols);
	void	   *ctx;
} DistilTap;

struct DistilActivations
{
	int			max_tokens;
	bool		saved;
	float	   *memory;			/* the one device block all arrays lie in */
	size_t		floats;			/* of it */
	float	   *hidden;			/* [T, C] output of the embeddings; without `saved`, of every layer in turn */
	float	   *scratch;		/* see distil_scratch_floats() */
	int			mlp_rows;		/* rows of F-wide values that fit the scratch */
	float	   *embedding;		/* [T, E] what the projection takes, where there is one */
	float	   *embedding_sum;	/* [T, E], saved only, as all below */
	float	   *embedding_mean, *embedding_rstd;	/* [T] */
	float	   *da, *db;		/* [T, max(C, E)] gradients on their way */
	float	   *final;			/* [T, C] output of the final norm, where there is one */
	float	   *final_mean, *final_rstd;	/* [T] */
	int			relative_limit; /* longest sequence with position biases */
	int32_t    *relative_rows;	/* [2 * relative_limit - 1] the bucket of each distance */
	float	   *relative;		/* [2 * relative_limit - 1, H] their biases, made by each forward */
	float	   *drelative;		/* the same shape, saved only */
	DistilSavedLayer *layer;	/* [layers], host memory; NULL without `saved` */

	/* layers with activations in bfloat16, instead of scratch, db and layer */
	const uint16_t *half;		/* the weights rounded, a flat block; NULL: float32 */
	uint16_t   *half_input;		/* [T, C] output of the embeddings */
	uint16_t   *half_out;		/* [T, C] what is added to the residual stream */
	uint16_t   *half_dx, *half_da, *half_db;	/* [T, C] gradients, saved only, as all below */
	uint16_t   *half_dqkv;		/* [T, 3C] */
	uint16_t   *half_dup;		/* [T, F] */
	DistilHalfLayer *half_layer;	/* [layers + 1], or one without `saved` */

	/* forward in low precision (spec->low), instead of scratch */
	DistilRows	attention_in;	/* [T, C] the layer's input once more, see distil_low_input(); or of kinds */
	DistilRows	mlp_in;			/* [T, C] the same for its second half */
	DistilRows	qkv;			/* [T, 3C] BF16 */
	DistilRows	context;		/* [T, C] BF16 */
	DistilRows	up;				/* [mlp_rows, F] BF16 */
	DistilRows	context_copy;	/* the same in INT8, where the layer's weights are */
	DistilRows	up_copy;
	float	   *out;			/* [T, C] what is added to the layer's input */
	const DistilTap *tap;		/* NULL: none; on devices without memory of their own only */
	DistilDevice *device;
	const DistilAllocator *alloc;
};

/* One forward or backward pass. */
typedef struct DistilPass
{
	const DistilSpec *spec;
	const float *weights;
	float	   *gradients;		/* NULL in forward */
	const DistilBatch *batch;
	DistilActivations *activations;
	uint64_t	seed;			/* 0: no dropout */
	const DistilKeyCache *cache;	/* NULL: the batch holds whole sequences */
	DistilDevice *device;
	const DistilPoll *poll;
} DistilPass;

static inline const float *
distil_tap(const DistilPass *pass, int layer, DistilPlace place, const float *x, int rows, int cols)
{
	const DistilTap *tap = pass->activations->tap;

	return tap == NULL ? x : tap->input(tap->ctx, layer, place, x, rows, cols);
}

typedef enum DistilDropoutPlace
{
	DISTIL_DROP_EMBEDDINGS,
	DISTIL_DROP_PROBABILITIES,
	DISTIL_DROP_ATTENTION_OUTPUT,
	DISTIL_DROP_MLP_OUTPUT,
	DISTIL_DROP_PLACES
} DistilDropoutPlace;

/* Dropout of one place; layer -1 for the embeddings.  p = 0 without a seed. */
extern DistilDropout distil_pass_dropout(const DistilPass *pass, float p, int layer,
										 DistilDropoutPlace place);
/* Gradient of a parameter, or NULL when it is absent or frozen. */
extern float *distil_pass_gradient(const DistilPass *pass, int param);

/* hidden = dropout(norm(word + position + type)), of the batch's kinds if it has them */
extern DistilStatus distil_embedding_layer_forward(const DistilPass *pass, DistilError *err);
/* dhidden [T, C] is destroyed */
extern DistilStatus distil_embedding_layer_backward(const DistilPass *pass, float *dhidden, DistilError *err);

/*
 * The arithmetic of one layer, for a family of architectures.  What the members of
 * DistilSavedLayer hold is up to the family (see the table in each block_*.c).
 */
struct DistilFamily
{
	/* x [T, C] -> the layer's output: layer[index].output when saved, otherwise x */
	DistilStatus (*forward) (const DistilPass *pass, int index, float *x, DistilError *err);
	/* The same in low precision, without anything saved. */
	DistilStatus (*forward_low) (const DistilPass *pass, int index, float *x, DistilError *err);
	/* dx [T, C]: in the gradient of the output, out that of x, the layer's input.  da and db are scratch. */
	DistilStatus (*backward) (const DistilPass *pass, int index, float *dx, const float *x, DistilError *err);
	/*
	 * All layers and the final norm with activations in bfloat16: *y
	 * [T, C] from half_input, which may change.
	 */
	DistilStatus (*forward_half) (const DistilPass *pass, const uint16_t **y, DistilError *err);
	/* half_dx [T, C]: in the gradient of *y, out that of half_input */
	DistilStatus (*backward_half) (const DistilPass *pass, DistilError *err);
};

extern DistilStatus distil_post_norm_forward_half(const DistilPass *pass, const uint16_t **y,
												  DistilError *err);
extern DistilStatus distil_post_norm_backward_half(const DistilPass *pass, DistilError *err);
extern DistilStatus distil_pre_norm_forward_half(const DistilPass *pass, const uint16_t **y,
												 DistilError *err);
extern DistilStatus distil_pre_norm_backward_half(const DistilPass *pass, DistilError *err);

/* All layers and the final norm with activations in bfloat16 (activations->half), from and to float32. */
extern DistilStatus distil_layers_forward_half(const DistilPass *pass, float *hidden, DistilError *err);
extern DistilStatus distil_layers_backward_half(const DistilPass *pass, float *dhidden, DistilError *err);
/* Their parts, by parameter numbers; otherwise as the operations of DistilHalfKernels. */
extern DistilStatus distil_half_linear(const DistilPass *pass, uint16_t *y, uint16_t *before,
									   const uint16_t *x, int w, int b, DistilActivation act,
									   DistilError *err);
/* dx = (or +=) dy w, times act'(before) where that is given; dw += dy^T x, db += sums of dy, unless frozen */
extern DistilStatus distil_half_linear_backward(const DistilPass *pass, uint16_t *dx, const uint16_t *before,
												bool accumulate, const uint16_t *dy, const uint16_t *x, int w,
												int b, DistilError *err);
extern DistilStatus distil_half_norm(const DistilPass *pass, uint16_t *y, uint16_t *sum, float *mean,
									 float *rstd, const uint16_t *x, const uint16_t *residual,
									 DistilDropout dropout, int w, int b, DistilError *err);
/* dx is written only where there is a dropout, otherwise dsum is that gradient */
extern DistilStatus distil_half_norm_backward(const DistilPass *pass, uint16_t *dsum, uint16_t *dx,
											  const uint16_t *dy, const uint16_t *dresidual,
											  const uint16_t *sum, const float *mean, const float *rstd,
											  DistilDropout dropout, int w, int b, DistilError *err);
/* A layer's arrays: without saved activations those of all layers. */
extern DistilHalfLayer *distil_half_layer(const DistilPass *pass, int index);
/* Its attention; with dcontext backward. */
extern DistilStatus distil_attend_half(const DistilPass *pass, int index, uint16_t *dqkv,
									   const uint16_t *dcontext, DistilError *err);

extern const DistilFamily distil_family_post_norm;
extern const DistilFamily distil_family_pre_norm;

/* out [T, C] = dropout(W_o attention(W_qkv x)); x may lie where the context goes (scratch + 3TC). */
extern DistilStatus distil_attention_forward(const DistilPass *pass, int index, float *out, const float *x,
											 DistilError *err);
/*
 * dx [T, C] = (or +=) the gradient of x, from dout [T, C] (after dropout's own backward).
 * dcontext [T, C] is scratch; it may be dx unless accumulate.
 */
extern DistilStatus distil_attention_backward(const DistilPass *pass, int index, float *dx, bool accumulate,
											  const float *dout, const float *x, float *dcontext,
											  DistilError *err);
/* The dropout after attention's output projection. */
extern DistilDropout distil_attention_dropout(const DistilPass *pass, int index);

/* down [rows, C] = dropout(W_2 act(W_1 x)) for rows from `first` on; at most mlp_rows. */
extern DistilStatus distil_mlp_forward(const DistilPass *pass, int index, float *down, const float *x,
									   int first, int rows, DistilError *err);
/*
 * dx [rows, C] = (or +=) the gradient of x; from ddown [rows, C], after dropout's backward; dx may be
 * ddown.
 */
extern DistilStatus distil_mlp_backward(const DistilPass *pass, int index, float *dx, bool accumulate,
										const float *ddown, const float *x, int first, int rows,
										DistilError *err);
extern DistilDropout distil_mlp_dropout(const DistilPass *pass, int index);
/* Rows of the next part of the mlp; of a post-norm layer in low precision, of all that follows attention. */
extern int	distil_mlp_rows(const DistilPass *pass, int first);

/*
 * In low precision: context [T, C] = attention(W_qkv attention_in), the activations' or the key cache's.
 * kinds: attention_in has one row for each of them; NULL: one for each token.
 */
extern DistilStatus distil_attention_forward_low(const DistilPass *pass, int index, const DistilKinds *kinds,
												 DistilError *err);
/* activations->out [rows, C] = W_o context, whose rows count from `first` on. */
extern DistilStatus distil_attention_output_low(const DistilPass *pass, int index, int first, int rows,
												DistilError *err);
/* activations->out [rows, C] = W_2 act(W_1 mlp_in), whose rows count from `first` on. */
extern DistilStatus distil_mlp_forward_low(const DistilPass *pass, int index, int first, int rows,
										   DistilError *err);
/* y = act(x w^T + b) by parameter numbers, as distil_param_forward; w of x's type */
extern DistilStatus distil_param_rows(const DistilPass *pass, const DistilRows *y, const DistilRows *x,
									  int weight, int bias, DistilActivation act, int m, DistilError *err);
/* May a batch of this model have kinds here?  The family's first layer has to spread their rows. */
extern bool distil_takes_kinds(const DistilSpec *spec, const DistilDevice *device);
/* rows [T, c]: from a row for each kind to one for each token, in place. */
extern DistilStatus distil_spread_kinds(const DistilPass *pass, const DistilKinds *kinds,
										const DistilRows *rows, int c, DistilError *err);
/* Rows as the input of a weight: of its type, with its factors. */
extern DistilRows distil_low_input(const DistilPass *pass, const DistilRows *rows, int weight);
/* *operand [m]: rows of BF16 as the input of a weight, which are activated copies where it is INT8. */
extern DistilStatus distil_low_operand(const DistilPass *pass, DistilRows *operand, const DistilRows *rows,
									   const DistilRows *copy, int weight, DistilActivation act, int m,
									   DistilError *err);
/* Rows from `first` on; those of a plain float32 array. */
extern DistilRows distil_rows_from(const DistilRows *rows, int first);
extern DistilRows distil_float_rows(float *data, size_t ld);

/* The table of position biases of this pass; backward adds its gradient to the parameter's. */
extern DistilStatus distil_relative_forward(const DistilPass *pass, DistilError *err);
extern DistilStatus distil_relative_backward(const DistilPass *pass, DistilError *err);
/* Fills relative_rows of new activations. */
extern DistilStatus distil_relative_create(DistilActivations *activations, const DistilConfig *config,
										   DistilError *err);

/* Element-wise operations over many rows, cut into units with a poll before each. */
/* y[n] += x[n] */
extern DistilStatus distil_add_rows(float *y, const float *x, size_t n,
									DistilDevice *device, const DistilPoll *poll, DistilError *err);
extern DistilStatus distil_dropout_rows(float *y, const float *x, DistilDropout dropout, size_t first,
										size_t n,
										DistilDevice *device, const DistilPoll *poll, DistilError *err);
extern DistilStatus distil_activation_rows(DistilActivation act, float *y, const float *x, size_t n,
										   DistilDevice *device, const DistilPoll *poll, DistilError *err);
extern DistilStatus distil_activation_backward_rows(DistilActivation act, float *dx, const float *dy,
													const float *x,
													size_t n, DistilDevice *device, const DistilPoll *poll,
													DistilError *err);
/* As the operations of kernels.h, including which arguments may be the same or NULL. */
extern DistilStatus distil_norm_rows(float *y, float *sum, float *mean, float *rstd, const float *x,
									 const float *residual, const float *gamma, const float *beta, float eps,
									 int rows, int c, DistilDevice *device, const DistilPoll *poll,
									 DistilError *err);
/* As norm_rows of kernels.h. */
extern DistilStatus distil_norm_low_rows(float *y, const DistilRows *low, const float *x,
										 const float *residual, const float *gamma, const float *beta,
										 float eps, int rows, int c, DistilDevice *device,
										 const DistilPoll *poll, DistilError *err);
extern DistilStatus distil_quantize_rows(const DistilRows *y, const DistilRows *x, DistilActivation act,
										 int rows, int c, DistilDevice *device, const DistilPoll *poll,
										 DistilError *err);
extern DistilStatus distil_norm_backward_rows(float *dx, float *dgamma, float *dbeta, const float *dy,
											  const float *sum, const float *mean, const float *rstd,
											  const float *gamma, int rows, int c,
											  DistilDevice *device, const DistilPoll *poll, DistilError *err);

#endif							/* DISTIL_LAYERS_H */
