/*
 * model.h
 *		Inside of a model: configuration, parameter table, architecture, forward and backward.
 *
 * All parameters of a model (backbone, heads, sentence pipeline) lie in one flat
 * float32 block; the parameter table, made from the configuration alone, gives each
 * its offset.  An image's weights, a student's weights, its gradients and its AdamW
 * moments are blocks of the same shape, so optimiser and checkpoints see one array.
 */
#ifndef DISTIL_MODEL_H
#define DISTIL_MODEL_H

#include "alloc.h"
#include "distil_engine.h"
#include "json.h"

typedef struct DistilArch DistilArch;
typedef struct DistilHead DistilHead;
typedef struct DistilFamily DistilFamily;

#define DISTIL_MAX_END_IDS 8

typedef enum DistilProblem
{
	DISTIL_PROBLEM_UNSET,
	DISTIL_PROBLEM_REGRESSION,
	DISTIL_PROBLEM_SINGLE_LABEL,
	DISTIL_PROBLEM_MULTI_LABEL
} DistilProblem;

/* config.json in one form for all architectures. */
typedef struct DistilConfig
{
	const DistilArch *arch;
	const char *model_type;		/* as in config.json */
	int			layers;
	int			width;			/* C */
	int			table_width;	/* E: of the embedding tables and the LM head's rows; 0: C */
	int			heads;			/* H */
	int			head_dim;		/* D = C / H */
	int			mlp;			/* F */
	int			vocabulary;		/* V */
	int			positions;		/* rows of the position table */
	int			position_offset;	/* of the first token: RoBERTa's counting starts behind its padding id */
	int			types;			/* 0: no segment table */
	float		norm_eps;
	DistilActivation activation;
	float		embedding_dropout;
	float		hidden_dropout;
	float		attention_dropout;
	float		initializer_range;
	bool		causal;			/* a token sees those before it only */
	bool		unscaled_attention; /* scores are not divided by sqrt(D) */
	bool		layer_scaled_attention; /* scores of layer i are divided by i + 1 */
	int			relative_buckets;	/* rows of the table of position biases; 0: none */
	bool		attention_output_dropout;	/* BERT yes, DistilBERT no */
	bool		no_mlp_dropout; /* ALBERT: none behind the second half of a layer */
	bool		shared_layers;	/* all layers are one set of parameters */
	int			pad_id;			/* -1: none */
	int			end_ids[DISTIL_MAX_END_IDS];	/* generation stops at these */
	int			nend;
	bool		ends_known;		/* by a file; otherwise the tokenizer's end token is the only one */
	const char *writing_setting;	/* of generation, refused when a text is written; NULL: none */
	const char *sampling_setting;	/* the same, refused when tokens are drawn */
	DistilActivation rank_activation;	/* of a cross-encoder's score */
	bool		ranks;			/* a file says that it is a cross-encoder */
	DistilProblem problem;		/* problem_type; what it means when absent is up to the head */
	int			nlabels;
	const char *const *labels;	/* id2label */
	const char *class_name;		/* architectures[0], "" when absent */
	bool		tie_word_embeddings;
	bool		sinusoidal_positions;	/* DistilBERT: the position table is not trained */
} DistilConfig;

typedef enum DistilParamFlags
{
	DISTIL_PARAM_NO_DECAY = 1,	/* bias or norm */
	DISTIL_PARAM_FROZEN = 2,	/* never trained (frozen positions) */
	DISTIL_PARAM_NORMAL = 4,	/* init N(0, initializer_range) */
	DISTIL_PARAM_ONES = 8,		/* init 1 (norm weight); otherwise 0 */
	DISTIL_PARAM_PACKED = 32,	/* lies packed in this image, see packed.c; never in a student */
	DISTIL_PARAM_TRANSPOSED = 64,	/* the checkpoint's tensor is [cols, rows] (GPT-2's Conv1D) */
	DISTIL_PARAM_ORDERED = 128	/* packed in INT8 with an order of its lines */
} DistilParamFlags;

#define DISTIL_PARAM_MAX_SOURCES 3

/*
 * One parameter.  `sources` are the checkpoint's tensor names (without prefix), stacked
 * along the first dimension: q, k, v become one [3C, C] parameter.
 */
typedef struct DistilParam
{
	const char *name;			/* canonical: "layer.0.qkv.weight" */
	const char *sources[DISTIL_PARAM_MAX_SOURCES];
	int			nsources;
	int			rows;			/* first dimension, all sources together */
	int			cols;			/* second dimension, 1 for vectors */
	bool		vector;			/* stored with one dimension */
	unsigned	flags;
	size_t		offset;			/* in floats, multiple of 16 */
	size_t		count;			/* rows * cols */
	DistilType	type;			/* of the numbers in this image; other than F32 only when packed */
} DistilParam;

typedef struct DistilParamTable
{
	DistilParam *params;
	int			n;
	int			capacity;
	size_t		total;			/* floats of the flat block, padding included */
} DistilParamTable;

/* Parameter indices of one transformer layer and of the embeddings, filled by the architecture. */
typedef struct DistilLayerParams
{
	int			qkv_weight, qkv_bias, out_weight, out_bias, norm1_weight, norm1_bias;
	int			up_weight, up_bias, down_weight, down_bias, norm2_weight, norm2_bias;
} DistilLayerParams;

/*
 * Parameter indices of a language-model head; -1 when absent: a causal model has the decoder's weight only.
 */
typedef struct DistilLmParams
{
	int			dense_weight, dense_bias, norm_weight, norm_bias;
	int			decoder_weight; /* the word table when tied */
	int			decoder_bias;
	int			low_weight;		/* the decoder's once more, packed in BF16, in images of low precision */
	bool		gelu;			/* its activation, whatever the layers have */
} DistilLmParams;

/* What a head answers; the kinds have their names and arithmetic in head.c. */
typedef enum DistilHeadKind
{
	DISTIL_HEAD_SEQUENCE,		/* one vector of scores for a text */
	DISTIL_HEAD_TOKEN,			/* one for each token */
	DISTIL_HEAD_QUESTION,		/* begin and end of a span: two scores for each token */
	DISTIL_HEAD_CHOICE,			/* one score for each (prompt, choice) */
	DISTIL_HEAD_KINDS
} DistilHeadKind;

/* How an architecture builds a head: out(dropout(act(dense(row)))); tensor names without ".weight". */
typedef struct DistilHeadForm
{
	DistilHeadKind kind;
	const char *dense;			/* NULL: none */
	DistilActivation activation;	/* of dense */
	const char *out;
	bool		no_bias;		/* of out */
	bool		last;			/* a text's row is that of its last token, not of its first */
} DistilHeadForm;

/* A task head of a model: parameter indices, -1 when absent. */
typedef struct DistilHeadParams
{
	const DistilHead *head;		/* NULL: the model has none */
	const DistilHeadForm *form;
	int			outputs;		/* K */
	int			dense_weight, dense_bias, out_weight, out_bias;
} DistilHeadParams;

typedef struct DistilDenseModule	/* sentence-transformers Dense */
{
	int			weight, bias;	/* parameter indices, bias -1 when absent */
	int			in, out;
	DistilActivation activation;
} DistilDenseModule;

#define DISTIL_MAX_DENSE 8

/* modules.json and its folders; for plain models mean pooling, no normalisation. */
typedef struct DistilPipeline
{
	bool		present;		/* has modules.json */
	DistilPooling pooling[4];	/* concatenated when several are set */
	int			npoolings;
	bool		include_prompt; /* prompt tokens take part in pooling */
	DistilDenseModule dense[DISTIL_MAX_DENSE];
	int			ndense;
	bool		normalize;
	bool		lower_case;		/* do_lower_case of sentence_bert_config.json */
	int			max_seq_length; /* 0: not given */
	int			nprompts;
	const char *const *prompt_names;
	const char *const *prompts;
	int			default_prompt; /* -1 */
} DistilPipeline;

/* The structure of a model, without weights: shared by imports, images and students. */
typedef struct DistilSpec
{
	DistilConfig config;
	DistilParamTable table;
	int			word, position, type;	/* embedding tables; -1 when absent */
	int			embedding_norm_weight, embedding_norm_bias; /* -1: the embeddings have no norm */
	int			projection_weight, projection_bias; /* [C, E] from the embeddings to the layers; -1: none */
	int			final_norm_weight, final_norm_bias; /* after the last layer; -1: none */
	int			relative;		/* position biases [relative_buckets, H]; -1: none */
	DistilLayerParams *layer;	/* [config.layers] */
	bool		has_lm;
	DistilLmParams lm;
	DistilHeadParams head;
	DistilPipeline pipeline;
	DistilModelInfo info;
	DistilType	low;			/* type of the layers' weights: other than F32, forward is in low precision */
	DistilArena *arena;			/* owns all of it; borrowed */
} DistilSpec;

/* One architecture family: one file, one line in the table of arch.c. */
struct DistilArch
{
	const char *model_type;		/* "bert" */
	const DistilFamily *family; /* the arithmetic of its layers */
	/* Parse config.json; every field that changes the result is honoured or refused by name. */
	DistilStatus (*parse) (DistilConfig *config, const DistilJsonDoc *doc, DistilArena *arena,
						   DistilError *err);
	/* Add the backbone's parameters (and LM head's when with_lm) to spec->table and fill the indices. */
	DistilStatus (*params) (DistilSpec *spec, bool with_lm, DistilError *err);
	const char *prefix;			/* "bert." : stripped from checkpoint names when any tensor has it */
	const char *class_stem;		/* "Bert" of "BertForSequenceClassification" */
	const char *lm_class;		/* "BertForMaskedLM" */
	const char *lm_tensor;		/* one that only a model with a language-model head has */
	const char *word_tensor;	/* source of the word table */
	int			pad_id;			/* default of config.json's pad_token_id */
	const DistilHeadForm *heads;	/* task heads, ends with out NULL */
	/* Append the config.json of a (student) model of this architecture. */
	DistilStatus (*write_config) (const DistilConfig *config, const char *class_name,
								  DistilBuffer *out, DistilError *err);
	/* Architecture of students trained by method triple ("distilbert" for bert). */
	const char *student_type;
	/*
	 * Other names a checkpoint may use for a source of a model with tied
	 * tables, tried in order; ends with source NULL.
	 */
	const struct DistilAlias
	{
		const char *source;
		const char *other;
		bool		first;		/* counts more than the source where both are stored */
	}		   *aliases;
};

extern const DistilArch *distil_arch_find(const char *model_type);
/* "bert, distilbert", for messages. */
extern const char *distil_arch_list(void);

/*
 * Parameter table building.  Names are copied.  cols 0: a vector of `rows` values, stored
 * with one dimension.  index >= 0, or -1 without memory.
 */
extern int	distil_param_add(DistilSpec *spec, const char *name, const char *const *sources, int nsources,
							 int rows, int cols, unsigned flags);

/*
 * Parse a folder's configuration files into a spec (config.json, modules.json, ...).
 * tensors: which checkpoint tensors exist decides whether there is an LM head.
 */
struct DistilTensorSet;
extern DistilStatus distil_spec_parse(DistilSpec *spec, const DistilFolder *folder,
									  const struct DistilTensorSet *tensors, DistilArena *arena,
									  DistilError *err);

struct DistilModel
{
	DistilSpec	spec;
	const float *weights;		/* flat block of spec.table.total floats */
	DistilTokenizer *tokenizer;
	const char *config_text;
	DistilArena *arena;
	const DistilAllocator *alloc;
	/* small files of the folder, for students and exports */
	const DistilFile *files;
	int			nfiles;
	const void *image;
	size_t		image_size;
};

static inline const float *
distil_weight(const DistilSpec *spec, const float *weights, int param)
{
	return param < 0 ? NULL : weights + spec->table.params[param].offset;
}

/* E, and the wider of it and C. */
static inline int
distil_table_width(const DistilConfig *config)
{
	return config->table_width > 0 ? config->table_width : config->width;
}

static inline int
distil_widest(const DistilConfig *config)
{
	return config->table_width > config->width ? config->table_width : config->width;
}

/*
 * The parameters as they lie in an image of this layout (DISTIL_LAYOUT_...); quantized: which weights of
 * layers are INT8 where the layout has that type, see image.h; NULL: none.
 */
#define DISTIL_QUANTIZED_WORDS (4 * DISTIL_MAX_LAYERS / 64)
extern bool distil_spec_pack(DistilSpec *spec, const char *layout,
							 const uint64_t quantized[DISTIL_QUANTIZED_WORDS]);
/* Parameters of a layer's linear weights, by DistilPlace. */
extern void distil_layer_weights(int weights[4], const DistilLayerParams *layer);
/* Is it the name of a layout? */
extern bool distil_layout_known(const char *layout);
/* The operand of a product: a packed parameter and its bias (-1: none). */
extern void distil_param_weight(DistilWeight *weight, const DistilSpec *spec, const float *weights,
								int param, int bias);
/* [cols] what the columns of its input are multiplied by; NULL unless the parameter is INT8. */
extern const float *distil_param_factor(const DistilSpec *spec, const float *weights, int param);
/*
 * Bytes of a packed parameter.  INT8: its panels, then what DistilBeside has, each from a cache line on.
 */
extern size_t distil_param_bytes(const DistilParam *param);

/* What lies beside the panels of an INT8 parameter at `data`. */
typedef struct DistilBeside
{
	float	   *scale;			/* [rows] */
	int32_t    *sum;			/* [rows] */
	float	   *factor;			/* [cols] */
	uint16_t   *order;			/* see distil_order_length; NULL without DISTIL_PARAM_ORDERED */
} DistilBeside;

extern DistilBeside distil_param_beside(const DistilParam *param, void *data);
/* Values first .. first + count of a parameter, row by row, wherever they lie; host memory. */
extern void distil_param_read(float *to, const float *weights, const DistilParam *param, size_t first,
							  size_t count);

/* DISTIL_ERR_DEVICE when an operation of the device has failed; asked after results were copied out. */
extern DistilStatus distil_device_check(DistilDevice *device, DistilError *err);
/*
 * The model's weights in the memory of a device that has its own, one flat block of plain rows: *uploaded,
 * to be given back with device->ops->release.  NULL where the device reads the host's memory.
 */
extern DistilStatus distil_model_upload(float **uploaded, const DistilModel *model, DistilDevice *device,
										const DistilAllocator *alloc, const DistilPoll *poll,
										DistilError *err);

/* Can this model's layers run with activations in bfloat16 on this device, as it is now? */
extern bool distil_has_half(const DistilSpec *spec, const DistilDevice *device);
/*
 * All weights (device memory, spec->table.total) once more in
 * bfloat16: *half, to be given back with release.
 */
extern DistilStatus distil_half_weights(uint16_t **half, const float *weights, size_t total,
										DistilDevice *device, DistilError *err);

/* ---------- forward and backward on ragged batches ---------- */

/*
 * The kinds of tokens in a batch, which differ in id, position or type: up to the first attention one stands
 * for all tokens of its kind.  Host memory.
 */
typedef struct DistilKinds
{
	int			n;
	const int32_t *ids, *positions, *types; /* [n] in the order in which they first appear */
	const int32_t *kind;		/* [T] of each token: kind[i] <= i */
} DistilKinds;

/* All arrays are device memory of the device in use; offsets [nseq + 1] also on the host. */
typedef struct DistilBatch
{
	int			nseq;
	int			ntokens;		/* T */
	const int32_t *ids;
	const int32_t *positions;
	const int32_t *types;		/* NULL only when the model has no segment table */
	const int32_t *offsets;
	const int32_t *host_offsets;
	int			pool_skip;		/* leading rows of each sequence (its prompt) that are not pooled */
	const int32_t *pool_ranges; /* [2 * nseq] device: first row pooled and end; only read when pool_skip >
								 * 0 */
	float	   *pool_gradient;	/* [T, C] device scratch, for backward of concatenated poolings only */
	const DistilKinds *kinds;	/* NULL: not known; only where distil_takes_kinds() */
} DistilBatch;

/*
 * What forward saves for backward.  Created for at most max_tokens tokens; every
 * buffer is device memory.  Also used for inference with saved = false (two layers'
 * worth of scratch only).
 */
typedef struct DistilActivations DistilActivations;
extern DistilStatus distil_activations_create(DistilActivations **activations, const DistilSpec *spec,
											  int max_tokens, bool saved, DistilDevice *device,
											  const DistilAllocator *alloc, DistilError *err);
/*
 * The same for layers with activations in bfloat16: half is what distil_half_weights gave, borrowed until
 * free.
 */
extern DistilStatus distil_activations_create_half(DistilActivations **activations, const DistilSpec *spec,
												   int max_tokens, bool saved, const uint16_t *half,
												   DistilDevice *device, const DistilAllocator *alloc,
												   DistilError *err);
extern size_t distil_activations_bytes(const DistilSpec *spec, int max_tokens, bool saved);
/* What passes have left in them is not needed any more: the device may use most of their memory elsewhere. */
extern void distil_activations_forget(DistilActivations *activations);
extern void distil_activations_free(DistilActivations *activations);

/* dropout_seed 0 = evaluation (no dropout); otherwise training with the config's probabilities. */
extern DistilStatus distil_encoder_forward(const DistilSpec *spec, const float *weights,
										   const DistilBatch *batch, DistilActivations *activations,
										   uint64_t dropout_seed,
										   const float **hidden /* [T, C], borrowed */ ,
										   DistilDevice *device, const DistilPoll *poll, DistilError *err);
/* dhidden [T, C] is destroyed.  gradients: flat block, += (frozen parameters get none). */
extern DistilStatus distil_encoder_backward(const DistilSpec *spec, const float *weights, float *gradients,
											const DistilBatch *batch, DistilActivations *activations,
											uint64_t dropout_seed, float *dhidden,
											DistilDevice *device, const DistilPoll *poll, DistilError *err);

/*
 * positions [n] of a sequence ids [n]: counted from the model's first;
 * padding tokens in a text as it counts them.
 */
extern void distil_positions(int32_t *positions, const int32_t *ids, int n, const DistilConfig *config);

/*
 * What a causal model keeps of the tokens it has seen, so that one more costs one row: q, k and v of
 * each layer.  The rows of a pass come after the first `past` rows.
 */
typedef struct DistilKeyCache
{
	int			limit;			/* rows there is memory for */
	int			past;
	void	   *qkv;			/* [layers, limit, 3C] device; low precision: rows of BF16 */
	void	   *context;		/* [limit, C] device; the same */
} DistilKeyCache;
/* Bytes of `context` for so many rows; of qkv it is three times as much for each layer. */
extern size_t distil_key_cache_bytes(const DistilSpec *spec, int limit);
/*
 * As distil_encoder_forward in evaluation; the batch holds one sequence's new
 * rows, its offsets are 0 and past + ntokens.
 */
extern DistilStatus distil_encoder_forward_cached(const DistilSpec *spec, const float *weights,
												  const DistilBatch *batch, DistilActivations *activations,
												  const DistilKeyCache *cache, const float **hidden,
												  DistilDevice *device, const DistilPoll *poll,
												  DistilError *err);

/*
 * Masked-LM head on gathered rows x [n, C]: h = norm(act(dense(x))) [n, E] then decoder.
 * transform keeps pre-activation and norm statistics in `saved` (device, see head_lm.c for
 * its size per row) when it is not NULL.
 */
extern size_t distil_lm_saved_floats(const DistilSpec *spec, int n);
extern DistilStatus distil_lm_transform(const DistilSpec *spec, const float *weights, float *h,
										const float *x, int n, float *saved, float *scratch /* [n, E] */ ,
										DistilDevice *device, const DistilPoll *poll, DistilError *err);
extern DistilStatus distil_lm_transform_backward(const DistilSpec *spec, const float *weights,
												 float *gradients, float *dx, const float *dh, const float *x,
												 int n, const float *saved, float *scratch,
												 DistilDevice *device, const DistilPoll *poll,
												 DistilError *err);
extern DistilStatus distil_lm_decode(const DistilSpec *spec, const float *weights,
									 float *logits /* [n, V] */ ,
									 const float *h, int n, DistilDevice *device, const DistilPoll *poll,
									 DistilError *err);
/*
 * The same with the decoder in low precision (lm.low_weight): rows [n, E] of BF16 are device scratch.
 */
extern DistilStatus distil_lm_decode_low(const DistilSpec *spec, const float *weights, float *logits,
										 const float *h, int n, const DistilRows *rows,
										 DistilDevice *device, const DistilPoll *poll, DistilError *err);
/*
 * The decoder with h [n, C], logits (rows ld apart) and dh [n, C] in bfloat16, from the weights rounded
 * (half).
 */
extern void distil_lm_decode_half(const DistilSpec *spec, const uint16_t *half, uint16_t *logits, size_t ld,
								  const uint16_t *h, int n, DistilDevice *device);
extern void distil_lm_decode_backward_half(const DistilSpec *spec, const uint16_t *half, float *gradients,
										   uint16_t *dh, const uint16_t *dlogits, size_t ld,
										   const uint16_t *h, int n, DistilDevice *device);
extern DistilStatus distil_lm_decode_backward(const DistilSpec *spec, const float *weights, float *gradients,
											  float *dh, const float *dlogits, const float *h, int n,
											  DistilDevice *device, const DistilPoll *poll, DistilError *err);

/*
 * Sentence pipeline: pool, dense, normalise: out [nseq, D'].  saved (device,
 * distil_pipeline_saved_floats) keeps what backward needs, or NULL.
 */
extern size_t distil_pipeline_saved_floats(const DistilSpec *spec, int nseq);
extern DistilStatus distil_pipeline_forward(const DistilSpec *spec, const float *weights, float *out,
											const float *hidden, const DistilBatch *batch, float *saved,
											float *scratch /* [nseq, distil_pipeline_scratch_width] x 2 */ ,
											DistilDevice *device, const DistilPoll *poll, DistilError *err);
extern size_t distil_pipeline_scratch_width(const DistilSpec *spec);
/* dhidden [T, C] overwritten */
extern DistilStatus distil_pipeline_backward(const DistilSpec *spec, const float *weights, float *gradients,
											 float *dhidden, const float *dout, const DistilBatch *batch,
											 const float *saved, float *scratch,
											 DistilDevice *device, const DistilPoll *poll, DistilError *err);

/* Linear layers cut into units of DISTIL_UNIT_FLOPS with a poll between them. */
extern DistilStatus distil_linear_forward(float *y, size_t ldy, const float *x, size_t ldx, const float *w,
										  const float *b, DistilActivation act, int m, int n, int k,
										  DistilDevice *device, const DistilPoll *poll, DistilError *err);
/*
 * y[m, rows] = act(x[m, cols] w^T + b) by parameter numbers, bias -1: none.  The one way to use
 * a weight that may be packed; a device without linear_forward_packed has all of them plain.
 */
extern DistilStatus distil_param_forward(float *y, size_t ldy, const float *x, size_t ldx,
										 const DistilSpec *spec, const float *weights, int weight, int bias,
										 DistilActivation act, int m, DistilDevice *device,
										 const DistilPoll *poll, DistilError *err);
/* The same for rows and weights of low precision; y in rows of its own type. */
extern DistilStatus distil_linear_rows(const DistilRows *y, const DistilRows *x, const DistilWeight *w,
									   DistilActivation act, int m,
									   DistilDevice *device, const DistilPoll *poll, DistilError *err);
/* dx may be NULL (not wanted); dw/db may be NULL (frozen) */
extern DistilStatus distil_linear_backward(float *dx, size_t lddx, bool accumulate, float *dw, float *db,
										   const float *dy, size_t lddy, const float *x, size_t ldx,
										   const float *w, int m, int n, int k,
										   DistilDevice *device, const DistilPoll *poll, DistilError *err);

#endif							/* DISTIL_MODEL_H */
