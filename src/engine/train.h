/*
 * train.h
 *		Inside of the trainer: rounds, pieces, workers and the table of methods.
 *
 * One optimiser update is made of gradient_accumulation_steps micro-batches of
 * batch_size sequences.  Micro-batches are prepared in rounds (as many as fit some
 * thousand tokens), rounds are cut into pieces of a few hundred tokens, and pieces go
 * to workers by a fixed rule.  A loss is a mean over its micro-batch, whose sizes are
 * known before, so cutting changes nothing but the order of float sums.
 * Everything random derives from (seed, a counter of DistilTrainState): restoring the
 * state restores the rest.
 */
#ifndef DISTIL_TRAIN_H
#define DISTIL_TRAIN_H

#include "fingerprint.h"
#include "masking.h"
#include "model.h"
#include "optimizer.h"
#include "rng.h"
#include "sampler.h"
#include "schedule.h"
#include "spool.h"
#include "status.h"
#include "student.h"
#include "thread_pool.h"

/* Tokens of a piece on processors: enough for a good GEMM, small enough for the cache. */
#define DISTIL_PIECE_TOKENS 512
#define DISTIL_ROUND_TOKENS 16384
/* Bytes of a worker's two blocks of logits, for a piece of DISTIL_PIECE_TOKENS. */
#define DISTIL_LOGITS_BYTES ((size_t) 32 << 20)
/* Tokens of a piece on an accelerator; halved, down to the above, while its memory is too small. */
#define DISTIL_DEVICE_PIECE_TOKENS 16384

typedef enum DistilLossTerm
{
	DISTIL_LOSS_CE,				/* order of the kernel logits_loss */
	DISTIL_LOSS_LABEL,			/* of masked or of next tokens */
	DISTIL_LOSS_MSE,
	DISTIL_LOSS_COS,
	DISTIL_LOSS_EMBEDDING,
	DISTIL_LOSS_TERMS
} DistilLossTerm;

/* What a checkpoint keeps besides the three blocks of floats. */
typedef struct DistilTrainState
{
	int64_t		step;			/* updates done */
	int64_t		micro;			/* micro-batches done: gives epoch and place in it */
	int64_t		pieces;			/* pieces done: dropout streams */
	int64_t		tokens;
	int64_t		skipped;
	int64_t		adam_step;		/* updates that were applied */
} DistilTrainState;

typedef struct DistilMicroBatch
{
	int			sequences;
	int			tokens;
	int			labels;
	double		share;			/* of the loss: 1 / accumulation */
} DistilMicroBatch;

typedef struct DistilPiece
{
	int			micro;			/* in the round */
	int			sequence;		/* first, in the round */
	int			nseq;
	int			token;			/* first, in the round */
	int			ntokens;
	uint64_t	dropout_seed;	/* 0: none */
} DistilPiece;

/* Micro-batches prepared together; all arrays are host memory made once. */
typedef struct DistilRound
{
	int			max_sequences;
	int			max_tokens;
	int			nmicro, nsequences, ntokens, npieces;
	DistilMicroBatch *micro;	/* [max_sequences] */
	int32_t    *sequences;		/* [max_sequences] numbers in the spool */
	int32_t    *starts;			/* [max_sequences + 1] first token of each */
	int32_t    *ids;			/* [max_tokens] masked where the method masks */
	int32_t    *labels;			/* [max_tokens] */
	DistilMaskKey *heap;		/* [max_tokens] */
	DistilPiece *pieces;		/* [max_sequences] */
	int		   *owner;			/* [max_sequences] worker of each piece */
	int32_t    *blocks;			/* [max_sequences] teacher blocks to compute first */
	int			nblocks;
	bool		learn;			/* false: evaluation */
} DistilRound;

/*
 * What a device keeps of a training: the weights of teacher and student, and the moments.  Devices that share
 * the host's memory share one copy; others have one each, and the same update makes the same bits of each.
 */
typedef struct DistilTrainCopy
{
	const float *teacher_weights;	/* of the device */
	float	   *uploaded;		/* the device's own copy of them, NULL where it reads the host's */
	uint16_t   *teacher_half;	/* device: the same in bfloat16, where activations are; NULL: float32 */
	uint16_t   *half;			/* those of the student */
	float	   *weights;		/* device, as moments */
	float	   *moment1;
	float	   *moment2;
} DistilTrainCopy;

/* One thread's share of everything; `f` pointers are device memory. */
typedef struct DistilTrainWorker
{
	DistilDevice *device;
	const DistilTrainCopy *copy;	/* the one its device reads */
	const DistilPoll *poll;
	const DistilConfig *config; /* the student's: how positions are numbered */
	float	   *gradients;		/* flat block */
	DistilActivations *teacher;
	DistilActivations *student;
	int32_t    *ids, *positions, *types, *offsets, *rows, *labels, *ranges; /* device, [piece tokens + 1] */
	int			skip;			/* tokens of each sequence's prompt that are not pooled */
	int32_t    *host;			/* [piece tokens + 1] host scratch of integers */
	int32_t    *host_offsets;	/* [piece tokens + 1], as host_starts */
	int32_t    *host_starts;
	double	   *device_losses;	/* [DISTIL_LOSS_TERMS] */
	double		losses[DISTIL_LOSS_TERMS];
	int64_t		load;			/* tokens given to it in this update */
	float	   *dhidden;		/* [piece tokens, C] */
	float	   *buffers;		/* the method's own, see its layout */
	DistilBatch batch;			/* of the piece at work */
} DistilTrainWorker;

typedef enum DistilLabelling
{
	DISTIL_LABELS_NONE,
	DISTIL_LABELS_MASKED,		/* inputs are masked; labels are the tokens that were there */
	DISTIL_LABELS_NEXT			/* each token's label is the next one of its sequence */
} DistilLabelling;

typedef struct DistilTrainMethod
{
	const char *name;
	DistilLabelling labelling;
	bool		dropout;		/* the student learns with dropout */
	/* floats of DistilTrainWorker.buffers */
	size_t		(*buffer_floats) (const DistilTrainer *trainer);
	/* Forward, losses, and (round.learn) backward of one piece. */
	DistilStatus (*piece) (DistilTrainer *trainer, DistilTrainWorker *worker, const DistilPiece *piece,
						   DistilError *err);
} DistilTrainMethod;

extern const DistilTrainMethod distil_train_triple;
extern const DistilTrainMethod distil_train_causal; /* triple with a causal teacher */
extern const DistilTrainMethod distil_train_embedding;

/* Teacher embeddings kept over epochs, computed in fixed blocks of neighbours in the spool. */
typedef struct DistilTeacherCache
{
	bool		enabled;
	int			dimensions;
	int32_t		nblocks;
	int32_t    *block_starts;	/* [nblocks + 1] sequence numbers */
	int32_t    *block_of;		/* [sequences] */
	uint8_t    *filled;			/* [nblocks]; 2: wanted by the round at work */
	float	   *vectors;		/* [sequences, dimensions] host memory */
} DistilTeacherCache;

struct DistilTrainer
{
	const DistilAllocator *alloc;
	DistilArena *arena;
	const DistilModel *teacher;
	DistilTrainOptions options;
	const DistilTrainMethod *method;
	DistilSpec	student;
	DistilSpoolView spool;
	DistilPool *pool;
	DistilTrainWorker *workers;
	int			nworkers;
	int			piece_limit;	/* tokens of a piece of several sequences */
	int			piece_tokens;	/* the most of any piece: one long sequence may exceed the limit */
	int			logits_rows;	/* rows of logits made at a time */
	DistilTrainCopy *copies;	/* [ncopies] that of worker i is copies[i], or the only one */
	int			ncopies;
	DistilSegment *segments;
	int			nsegments;
	int		   *segment_owner;	/* [ncopies * nsegments] the worker of each copy's; NULL: any, there is one
								 * copy */
	double	   *segment_sums;	/* [nsegments] host */
	double	   *device_sums;	/* the same on the first device */
	DistilAdamW adamw;			/* of the update at work */
	int32_t    *train_items;	/* sequences learnt from, then those held out */
	int32_t		ntrain, neval;
	DistilSampler *sampler;
	DistilSchedule schedule;
	double	   *mask_weights;	/* [V] */
	DistilMasking masking;
	DistilRound round;
	DistilTeacherCache cache;
	DistilTrainState state;
	DistilTrainReport report;
	DistilTrainWatchFn watch;	/* NULL: nobody looks */
	void	   *watch_ctx;
	uint8_t		options_print[32];
	uint8_t		teacher_print[32];
	float	   *host_block;		/* copy buffer of a checkpoint, student weights; [DISTIL_COPY_FLOATS] */
	float	   *student_weights;	/* host copy behind student_folder */
	DistilStudentFolder *student_folder;
};

#define DISTIL_COPY_FLOATS ((size_t) 1 << 18)
/* Of gradients summed over devices between two polls: a few milliseconds, over PCI Express too. */
#define DISTIL_SUM_FLOATS ((size_t) 1 << 24)

/* train_setup.c */
extern DistilStatus distil_trainer_check(const DistilModel *teacher, const DistilTrainOptions *options,
										 DistilDevice *const *devices, int ndevices, DistilError *err);
extern DistilStatus distil_trainer_split(DistilTrainer *trainer, DistilError *err);
extern DistilStatus distil_trainer_products(DistilTrainer *trainer, DistilError *err);
extern DistilStatus distil_trainer_memory(DistilTrainer *trainer, DistilDevice *const *devices,
										  const DistilPoll *poll, DistilError *err);
extern DistilStatus distil_trainer_prints(DistilTrainer *trainer, const DistilPoll *poll, DistilError *err);

/* train_round.c */
extern void distil_round_begin(DistilTrainer *trainer, bool learn);
/* Add micro-batch: false when the round has no room for it. */
extern bool distil_round_add(DistilTrainer *trainer, const int32_t *sequences, int n, int64_t micro,
							 double share);
/* Cut into pieces and run them; losses are added to the workers'. */
extern DistilStatus distil_round_run(DistilTrainer *trainer, DistilError *err);
/* Fill worker->batch from `n` sequences whose tokens are ids [starts[0] .. starts[n] - 1]. */
extern void distil_worker_batch(DistilTrainWorker *worker, const int32_t *ids, const int32_t *starts, int n);

/* train_embedding.c */
extern DistilStatus distil_cache_create(DistilTrainer *trainer, DistilError *err);
extern DistilStatus distil_cache_fill(DistilTrainer *trainer, DistilError *err);

#endif							/* DISTIL_TRAIN_H */
