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
#define DISTIL_UNIT_ELEMENTS ((size_t) 1 << 19)
/* Work of one attention call: its small products run far below GEMM speed. */
#define DISTIL_UNIT_ATTENTION (DISTIL_UNIT_FLOPS / 5)
/* Rows of the F-wide buffers: enough for a good GEMM, small enough to stay in L2. */
#define DISTIL_MLP_ROWS 256
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

struct DistilActivations
{
	int			max_tokens;
	bool		saved;
	float	   *memory;			/* the one device block all arrays lie in */
	float	   *hidden;			/* [T, C] output of the embeddings; without `saved`, of every layer in turn */
	float	   *scratch;		/* see distil_scratch_floats() */
	int			mlp_rows;		/* rows of F-wide values that fit the scratch */
	float	   *embedding_sum;	/* [T, C], saved only, as all below */
	float	   *embedding_mean, *embedding_rstd;	/* [T] */
	float	   *da, *db;		/* [T, C] gradients on their way */
	DistilSavedLayer *layer;	/* [layers], host memory; NULL without `saved` */
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
	DistilDevice *device;
	const DistilPoll *poll;
} DistilPass;

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

/* hidden = dropout(norm(word + position + type)) */
extern DistilStatus distil_embedding_layer_forward(const DistilPass *pass, DistilError *err);
/* dhidden [T, C] is destroyed */
extern DistilStatus distil_embedding_layer_backward(const DistilPass *pass, float *dhidden, DistilError *err);

/*
 * x = norm(x + dropout(attention(x))).  With saved activations the result is
 * layer[index].middle, otherwise x is overwritten.
 */
extern DistilStatus distil_attention_layer_forward(const DistilPass *pass, int index, float *x,
												   DistilError *err);
/* in: da = gradient of `middle`; out: dx [T, C], the gradient of the layer's input x.  da is destroyed. */
extern DistilStatus distil_attention_layer_backward(const DistilPass *pass, int index, float *dx,
													const float *x,
													DistilError *err);

/* x = norm(x + dropout(down(act(up(x))))); saved: from layer[index].middle to layer[index].output. */
extern DistilStatus distil_mlp_layer_forward(const DistilPass *pass, int index, float *x, DistilError *err);
/* in: dy [T, C], the gradient of `output`; out: da = gradient of `middle` */
extern DistilStatus distil_mlp_layer_backward(const DistilPass *pass, int index, const float *dy,
											  DistilError *err);

/* Element-wise operations over many rows, cut into units with a poll before each. */
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
extern DistilStatus distil_norm_backward_rows(float *dx, float *dgamma, float *dbeta, const float *dy,
											  const float *sum, const float *mean, const float *rstd,
											  const float *gamma, int rows, int c,
											  DistilDevice *device, const DistilPoll *poll, DistilError *err);

#endif							/* DISTIL_LAYERS_H */
