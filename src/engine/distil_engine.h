/*
 * distil_engine.h
 *		Everything the engine offers to its host (the server's glue, tests, benches).
 *
 * The engine is plain C: it knows no server, prints nothing, never exits, and
 * allocates only through the DistilAllocator it is given.  Every function that
 * can fail returns a DistilStatus and describes the failure in *err.
 *
 * Life of a model:
 *	 folder (files of a Hugging Face model, from disk or from large objects)
 *	 -> distil_import_open()  checks everything and gives facts
 *	 -> distil_import_write() streams the container: one safetensors file that
 *		holds the tensors as stored and every small file as a tensor "file:NAME"
 *	 -> distil_image_write()  turns a container into an image: a flat, read-only,
 *		position-independent block ready for use (float32 weights 64-byte aligned,
 *		compiled tokenizer), shared by all processes through mmap
 *	 -> distil_model_open()	  a view over an image; immutable, cheap (no copy)
 *	 -> distil_session_create() the mutable part: scratch memory and a device
 *
 * Letters: B texts, T tokens, C width, D' embedding width, V vocabulary.
 */
#ifndef DISTIL_ENGINE_H
#define DISTIL_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels.h"

/* ---------- status, allocation, cancelling, bytes ---------- */

/* Each maps to one SQLSTATE in src/pg/bridge.c. */
typedef enum DistilStatus
{
	DISTIL_OK = 0,
	DISTIL_ERR_ARGUMENT,		/* 22023 bad argument or option value */
	DISTIL_ERR_NULL,			/* 22004 NULL where none may be */
	DISTIL_ERR_ENCODING,		/* 22021 text is not valid UTF-8 */
	DISTIL_ERR_MODEL_FILE,		/* 22P03 malformed model file */
	DISTIL_ERR_TEXT_FILE,		/* 22P02 malformed JSON, config or tokenizer file */
	DISTIL_ERR_NO_FILE,			/* 58P01 a file of the model is missing */
	DISTIL_ERR_UNSUPPORTED,		/* 0A000 a feature we do not implement, by its name */
	DISTIL_ERR_LIMIT,			/* 54000 beyond a limit */
	DISTIL_ERR_UNKNOWN,			/* 42704 unknown head, prompt, label */
	DISTIL_ERR_CORRUPT,			/* XX001 stored data fails its check */
	DISTIL_ERR_MEMORY,			/* 53200 */
	DISTIL_ERR_IO,				/* 58030 the host's read or write failed */
	DISTIL_ERR_DISK_FULL,		/* 53100 */
	DISTIL_ERR_CANCELLED,		/* 57014 the poll function said stop */
	DISTIL_ERR_DEVICE,			/* 58000 backend lost or not usable */
	DISTIL_ERR_STATE			/* 55000 the object cannot do this, e.g. the model has no such head */
} DistilStatus;

/*
 * Message: lower case, no period, object named and quoted.  Detail (numbers found
 * and expected) and hint (what to do): whole sentences, or empty.  UTF-8, always
 * terminated, never holds raw control characters of a hostile file.
 */
typedef struct DistilError
{
	char		message[512];
	char		detail[512];
	char		hint[512];
} DistilError;

/* alloc returns NULL when there is no memory; release takes NULL.  Used by one thread at a time. */
typedef struct DistilAllocator
{
	void	   *(*alloc) (void *ctx, size_t bytes);
	void		(*release) (void *ctx, void *memory);
	void	   *ctx;
} DistilAllocator;

/* Called at least every 10 ms of work; true = stop (the call returns DISTIL_ERR_CANCELLED). */
typedef struct DistilPoll
{
	bool		(*stop) (void *ctx);	/* NULL: never */
	void	   *ctx;
} DistilPoll;

/* Random-access bytes given by the host. */
typedef struct DistilReader
{
	DistilStatus (*read) (void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err);
	void	   *ctx;
	uint64_t	size;
} DistilReader;

/* Sequential bytes taken by the host. */
typedef struct DistilSink
{
	DistilStatus (*write) (void *ctx, const void *data, size_t bytes, DistilError *err);
	void	   *ctx;
} DistilSink;

/* A model folder: relative file names ("1_Pooling/config.json") and their bytes. */
typedef struct DistilFile
{
	const char *name;
	DistilReader reader;
} DistilFile;

typedef struct DistilFolder
{
	const DistilFile *files;
	int			nfiles;
} DistilFolder;

/* A text: UTF-8, need not be terminated, may hold any valid code point. */
typedef struct DistilText
{
	const char *data;
	size_t		length;			/* bytes */
} DistilText;

/* ---------- limits (over a limit is an error, never a truncation) ---------- */

#define DISTIL_MAX_JSON_BYTES		((size_t) 64 << 20)
#define DISTIL_MAX_JSON_DEPTH		64
#define DISTIL_MAX_TENSORS			100000
#define DISTIL_MAX_NAME				255
#define DISTIL_MAX_LAYERS			256
#define DISTIL_MAX_WIDTH			16384
#define DISTIL_MAX_MLP				131072
#define DISTIL_MAX_VOCABULARY		4000000
#define DISTIL_MAX_POSITIONS		65536
#define DISTIL_MAX_LABELS			65536
#define DISTIL_MAX_FILES			256

/* ---------- facts of a model ---------- */

typedef struct DistilHeadInfo
{
	const char *name;			/* "lm", "classify", ... */
	const char *task;			/* "fill-mask", "text-classification", ... as the Hugging Face pipelines */
	int			nlabels;
	const char *const *labels;	/* in id order */
} DistilHeadInfo;

/* Strings and arrays live as long as the object they came from. */
typedef struct DistilModelInfo
{
	const char *architecture;	/* model_type of config.json: "bert", "distilbert" */
	const char *const *tasks;	/* "feature-extraction", "sentence-similarity", "fill-mask", ... */
	int			ntasks;
	int64_t		parameters;		/* tied ones once */
	int			layers;
	int			width;			/* C */
	int			dimensions;		/* D': length of an embedding */
	int			max_tokens;		/* special tokens included */
	int			vocabulary;
	const char *dtype;			/* of the stored weights: "float32", "float16", "bfloat16" */
	bool		sentence_model; /* has modules.json */
	bool		has_lm_head;	/* masked or causal */
	bool		causal;			/* its language model writes on: it generates and fills no masks */
	const char *missing_head;	/* class of config.json whose head is unknown or has no weights; NULL: none */
	int			nheads;
	const DistilHeadInfo *heads;
	int			nprompts;
	const char *const *prompts; /* names of the sentence model's prompts */
} DistilModelInfo;

/* ---------- import: folder -> container ---------- */

typedef struct DistilImportOptions
{
	bool		parse_special;	/* special tokens written in a text are recognised; default true */
} DistilImportOptions;

typedef struct DistilImport DistilImport;

/* {"parse_special": true}; unknown keys are errors that list the known ones. */
extern DistilStatus distil_import_options_parse(DistilImportOptions *options, const char *json, size_t length,
												const DistilAllocator *alloc, DistilError *err);

/*
 * Read and check a folder completely: configuration, tokenizer (compiled once for
 * the check), sentence pipeline, every tensor of the architecture present with its
 * shape and dtype, all weights finite.  Nothing has been stored when it fails.
 * The folder (and its readers) must stay valid until distil_import_free().
 */
extern DistilStatus distil_import_open(DistilImport **import, const DistilFolder *folder,
									   const DistilImportOptions *options, const DistilAllocator *alloc,
									   const DistilPoll *poll, DistilError *err);
extern const DistilModelInfo *distil_import_info(const DistilImport *import);
/* config.json of the model, borrowed, terminated. */
extern const char *distil_import_config(const DistilImport *import);
/* Bytes the container will have. */
extern uint64_t distil_import_size(const DistilImport *import);
/* Stream the container (deterministic: same folder, same options, same bytes). */
extern DistilStatus distil_import_write(DistilImport *import, const DistilSink *sink, DistilError *err);
extern void distil_import_free(DistilImport *import);	/* takes NULL */

/*
 * The files of a container again (distil_export): *files gets n names and readers
 * over the container's own reader: model.safetensors is synthesised, small files
 * are verbatim.  Quantised weights are float32 in it.  Owned by *bundle.
 */
typedef struct DistilBundle DistilBundle;
extern DistilStatus distil_bundle_open(DistilBundle **bundle, const DistilReader *container,
									   const DistilAllocator *alloc, DistilError *err);
extern const DistilFolder *distil_bundle_folder(const DistilBundle *bundle);
/* The same with weights as they are stored, quantised ones with their factors. */
extern DistilStatus distil_bundle_open_stored(DistilBundle **bundle, const DistilReader *container,
											  const DistilAllocator *alloc, DistilError *err);
extern void distil_bundle_free(DistilBundle *bundle);

/*
 * A new model: config.json's text, random weights by its initializer range, and the
 * tokenizer of another model (borrowed until free).  The folder in memory is to be
 * imported like any other, which checks it completely.  The same seed gives the same bytes.
 */
typedef struct DistilModel DistilModel;
typedef struct DistilCreated DistilCreated;
extern DistilStatus distil_create(DistilCreated **created, const char *config, size_t length,
								  const DistilModel *tokenizer_of, int64_t seed,
								  const DistilAllocator *alloc, const DistilPoll *poll, DistilError *err);
extern const DistilFolder *distil_created_folder(const DistilCreated *created);
extern void distil_created_free(DistilCreated *created);	/* takes NULL */

/* ---------- quantisation: container -> container of a quarter or half the size ---------- */

typedef struct DistilQuantizeOptions
{
	DistilType	type;			/* DISTIL_TYPE_BF16 or DISTIL_TYPE_INT8 */
	double		smoothing;		/* 0 .. 1: how much of the outliers of inputs goes into the weights */
	const char *query;			/* NULL, or what gives the texts: the caller reads it */
	const DistilText *texts;	/* for calibration; none: a built-in list */
	int			ntexts;
	void	   *memory;			/* of the parsed texts and query */
} DistilQuantizeOptions;

/*
 * dtype "bfloat16" or "int8"; {"smoothing": 0.5, "texts": [...], "query": "..."}; unknown keys are errors
 * that list the known ones.  What is parsed is released by distil_quantize_options_reset.
 */
extern DistilStatus distil_quantize_options_parse(DistilQuantizeOptions *options, const char *dtype,
												  const char *json, size_t length,
												  const DistilAllocator *alloc, DistilError *err);
extern void distil_quantize_options_reset(DistilQuantizeOptions *options, const DistilAllocator *alloc);

typedef struct DistilQuantizeReport
{
	double		cosine_mean;	/* of the embeddings of the texts, to those of the original */
	double		cosine_min;
	int			texts;
	int			linear;			/* matrices of linear layers */
	int			fallback;		/* of them kept in bfloat16 */
} DistilQuantizeReport;

/*
 * The model in a smaller form, as a folder in memory to be imported.  The container's reader must stay valid
 * until free.  device: one that shares the host's memory.  INT8: weights of transformer layers and tables,
 * with scales; a matrix that costs too much stays in bfloat16.  BF16: all matrices.  Takes memory for the
 * model in float32 twice.  DISTIL_ERR_STATE: the model is quantised already.
 */
typedef struct DistilQuantized DistilQuantized;
extern DistilStatus distil_quantize(DistilQuantized **quantized, DistilQuantizeReport *report,
									const DistilReader *container, const DistilQuantizeOptions *options,
									DistilDevice *device, const DistilAllocator *alloc,
									const DistilPoll *poll, DistilError *err);
extern const DistilFolder *distil_quantized_folder(const DistilQuantized *quantized);
/* What the folder is to be imported with. */
extern DistilImportOptions distil_quantized_options(const DistilQuantized *quantized);
extern void distil_quantized_free(DistilQuantized *quantized);	/* takes NULL */

/* ---------- image: container -> mapped copy ---------- */

/*
 * Identifies the packing of an image; part of the cache file's name.  Every backend reads the float32 ones.
 */
#define DISTIL_LAYOUT_F32 "f32"
#define DISTIL_LAYOUT_F32P16 "f32p16"	/* weights of linear layers in panels of 16 rows */
#define DISTIL_LAYOUT_BF16P16 "bf16p16" /* those of transformer layers in BF16 besides */
#define DISTIL_LAYOUT_INT8P16 "int8p16" /* those that are quantised in INT8 instead */
#define DISTIL_LAYOUT_INT8P16_ORDERED "int8p16order"	/* with an order of their lines, see kernels.h */

/* Arithmetic of inference.  Whatever is chosen, sums, norms, softmax and results are float32. */
typedef enum DistilPrecision
{
	DISTIL_PRECISION_AUTO,		/* bfloat16 where the device is faster in it */
	DISTIL_PRECISION_FLOAT32,
	DISTIL_PRECISION_BFLOAT16	/* operands of products; where the device has it */
} DistilPrecision;

/* The layout that is best for this precision on this CPU and device (NULL: any); static storage. */
extern const char *distil_image_layout(DistilPrecision precision, DistilDevice *device);

/* The same for a quantised model: one of INT8, unless float32 is asked for or all that is there. */
extern const char *distil_quantized_layout(DistilPrecision precision, DistilDevice *device);

extern DistilStatus distil_image_write(const char *layout, const DistilReader *container,
									   const uint8_t sha256[32], const DistilSink *sink,
									   const DistilAllocator *alloc, const DistilPoll *poll,
									   DistilError *err);
/* Full check of an image's content hash (distil_verify); distil_model_open checks only header and bounds. */
extern DistilStatus distil_image_verify(const void *image, size_t size, const DistilPoll *poll,
										DistilError *err);

/*
 * A model over an image of `size` bytes (64-byte aligned, borrowed until free).
 * Header, sizes and the sha256 of its container (NULL: any) are checked; no weight
 * is touched.  Immutable: may be used by several sessions and threads.
 */
extern DistilStatus distil_model_open(DistilModel **model, const void *image, size_t size,
									  const uint8_t sha256[32], const DistilAllocator *alloc,
									  DistilError *err);
extern const DistilModelInfo *distil_model_info(const DistilModel *model);
/* Layout of its image; lives as long as that. */
extern const char *distil_model_layout(const DistilModel *model);
extern const char *distil_model_config(const DistilModel *model);	/* config.json, terminated */
extern void distil_model_free(DistilModel *model);

/* ---------- tokens ---------- */

typedef struct DistilTokenizer DistilTokenizer;

/* Borrowed from the model. */
extern const DistilTokenizer *distil_model_tokenizer(const DistilModel *model);

typedef enum DistilTruncation
{
	DISTIL_TRUNCATE_NONE,
	DISTIL_TRUNCATE_LONGEST_FIRST,
	DISTIL_TRUNCATE_ONLY_FIRST,
	DISTIL_TRUNCATE_ONLY_SECOND
} DistilTruncation;

typedef struct DistilEncodeOptions
{
	bool		add_special;	/* [CLS] ... [SEP] */
	bool		parse_special;	/* special tokens written in the text become their ids */
	bool		offsets;		/* fill start and end (slower) */
	bool		count_only;		/* of the whole text: n, and none of the arrays */
	int			max_tokens;		/* special tokens included; 0 = no limit */
	DistilTruncation truncation;
} DistilEncodeOptions;

/*
 * Tokens of one text or pair.  Arrays are owned by the encoding, grow as needed and
 * are reused by the next encode call.  start/end: 0-based code-point offsets into
 * the token's own text, end exclusive; special tokens added by the template (0, 0).
 */
typedef struct DistilEncoding
{
	int			n;
	int32_t    *ids;			/* [n] */
	int32_t    *types;			/* [n] segment */
	int32_t    *starts;			/* [n] when offsets were asked for */
	int32_t    *ends;
	int32_t    *words;			/* [n] index of the pre-token ("word"), -1 for special tokens; with offsets */
	uint8_t    *special;		/* [n] added by the template */
	bool		truncated;
	int			capacity;
	const DistilAllocator *alloc;
} DistilEncoding;

extern void distil_encoding_init(DistilEncoding *encoding, const DistilAllocator *alloc);
extern void distil_encoding_reset(DistilEncoding *encoding);	/* frees the arrays */

/* As `tokenizer(text, pair)` of Hugging Face; pair may be NULL.  Appends nothing, overwrites. */
extern DistilStatus distil_tokenizer_encode(const DistilTokenizer *tokenizer, DistilEncoding *encoding,
											const DistilText *text, const DistilText *pair,
											const DistilEncodeOptions *options,
											const DistilPoll *poll, DistilError *err);
/* What the model was imported with: add_special true, parse_special as chosen, no truncation, no offsets. */
extern DistilEncodeOptions distil_tokenizer_defaults(const DistilTokenizer *tokenizer);
extern int	distil_tokenizer_vocabulary(const DistilTokenizer *tokenizer);
/* Token text as in the vocabulary ("##ing", "[CLS]"), borrowed, not terminated; NULL for an unknown id. */
extern const char *distil_tokenizer_token(const DistilTokenizer *tokenizer, int32_t id, size_t *length);
/* -1: none */
extern int32_t distil_tokenizer_id(const DistilTokenizer *tokenizer, const char *token, size_t length);

typedef struct DistilSpecialIds		/* -1: the tokenizer has none */
{
	int32_t		unk, cls, sep, pad, mask, bos, eos;
	int			added_single;	/* special tokens added round one text */
	int			added_pair;
} DistilSpecialIds;
extern const DistilSpecialIds *distil_tokenizer_special(const DistilTokenizer *tokenizer);
extern bool distil_tokenizer_is_special(const DistilTokenizer *tokenizer, int32_t id);

/* Text of ids by the tokenizer's decoder; *text is allocated (length given, also terminated). */
extern DistilStatus distil_tokenizer_decode(const DistilTokenizer *tokenizer, char **text, size_t *length,
											const int32_t *ids, int n, bool skip_special,
											const DistilAllocator *alloc, DistilError *err);

/* One chunk of distil_chunk: byte and code-point range of the input and its token count. */
typedef struct DistilChunk
{
	size_t		byte_start, byte_end;
	int32_t		start_pos, end_pos;
	int			tokens;			/* special tokens included, as distil_token_count(chunk) */
} DistilChunk;
/* *chunks is allocated; rules as for distil_chunk in the manual. */
extern DistilStatus distil_tokenizer_chunk(const DistilTokenizer *tokenizer, DistilChunk **chunks,
										   int *nchunks, const DistilText *text, int max_tokens, int overlap,
										   const DistilAllocator *alloc, const DistilPoll *poll,
										   DistilError *err);

/* ---------- threads ---------- */

/*
 * nworkers >= 1: the calling thread and up to nworkers - 1 threads, which start when a run
 * first wants them and end idle_ms milliseconds (0: never) after the last one.  poll (borrowed,
 * may be NULL) is called by the calling thread only.
 */
typedef struct DistilPool DistilPool;
extern DistilStatus distil_pool_create(DistilPool **pool, int nworkers, int idle_ms, const DistilPoll *poll,
									   const DistilAllocator *alloc, DistilError *err);
/*
 * Use the first `workers` workers only, 1 to nworkers.  May be called from the poll: the
 * others take no more work then; more workers than before join at the next run.
 */
extern void distil_pool_limit(DistilPool *pool, int workers);
/* Ends its threads, in the middle of a run too, which must not go on then; takes NULL. */
extern void distil_pool_stop(DistilPool *pool);
extern void distil_pool_free(DistilPool *pool); /* the same, and the pool; takes NULL */

/* ---------- sessions: inference ---------- */

typedef struct DistilSession DistilSession;

typedef struct DistilSessionStats	/* since the session was created */
{
	int64_t		texts;
	int64_t		tokens;
	int64_t		batches;		/* forward passes */
	int64_t		truncated;		/* texts cut to max_tokens */
	double		tokenizer_seconds;	/* all threads together, as model_seconds */
	double		model_seconds;
} DistilSessionStats;

/*
 * The device is borrowed.  memory_limit bounds the scratch memory in bytes (0: 16 MB, or what makes large
 * passes where the device has memory of its own).
 */
extern DistilStatus distil_session_create(DistilSession **session, const DistilModel *model,
										  DistilDevice *device, size_t memory_limit,
										  const DistilAllocator *alloc, const DistilPoll *poll,
										  DistilError *err);
extern const DistilSessionStats *distil_session_stats(const DistilSession *session);
/* Bytes of the host's memory that the largest pass since the last rest has used. */
extern size_t distil_session_used(const DistilSession *session);
/* Until the next call the system may use that memory elsewhere; cheaper than making a session again. */
extern void distil_session_rest(DistilSession *session);
extern void distil_session_free(DistilSession *session);

/*
 * Let the pool's workers share this session's batches from now on; pool NULL: no longer.  devices are
 * those of workers 1, 2, ...; alloc gives memory to their threads and must be safe for that.  All are
 * borrowed.  Each worker has a session of its own, made when a batch first wants it (memory_limit is
 * for each) and freed by the next call.  Results are the same to the bit, whoever computes them.
 */
extern void distil_session_share(DistilSession *session, DistilPool *pool, DistilDevice *const *devices,
								 const DistilAllocator *alloc);

/*
 * Index of the prompt to put before texts: by name; name NULL = the model's default
 * prompt, "query" semantics by distil_model_query_prompt().  *prompt = -1: none.
 * DISTIL_ERR_UNKNOWN lists the names the model has.
 */
extern DistilStatus distil_model_prompt(const DistilModel *model, int *prompt, const char *name,
										DistilError *err);
/* As encode_query: "query" if it is there, else -1. */
extern int	distil_model_query_prompt(const DistilModel *model);

/*
 * Sentence embeddings, as sentence-transformers encode: out [n, D'] in input order,
 * has[i] = false where text i has no token.  Texts longer than the model's limit are
 * truncated and counted.  Equal texts are computed once; texts are sorted by length
 * inside and cut into micro-batches that fit the scratch memory.
 */
extern DistilStatus distil_session_embed(DistilSession *session, float *out, bool *has,
										 const DistilText *texts, int n, int prompt, DistilError *err);

/*
 * Somebody who computes embeddings for a session, say a process with a GPU: embed fills out [n, D'] for n
 * sequences, sequence i being ids [offsets[i] .. offsets[i + 1]), whose first `skip` tokens are not pooled.
 * *done false: not this time, the session computes them itself.
 */
typedef struct DistilRemote
{
	DistilStatus (*embed) (void *ctx, float *out, const int32_t *ids, const int32_t *offsets, int n, int skip,
						   bool *done, DistilError *err);
	void	   *ctx;
} DistilRemote;
/*
 * From now on distil_session_embed asks it first (borrowed); NULL: nobody.  No other workers may share the
 * session's batches then.
 */
extern void distil_session_remote(DistilSession *session, const DistilRemote *remote);
/*
 * The other side: the arguments of DistilRemote's embed.  offsets [n + 1] are ascending and inside ids;
 * lengths and ids that the model does not take are DISTIL_ERR_LIMIT.
 */
extern DistilStatus distil_session_embed_tokens(DistilSession *session, float *out, const int32_t *ids,
												const int32_t *offsets, int n, int skip, DistilError *err);

/* Last hidden state of one text: *states [T, C] borrowed until the next call. */
extern DistilStatus distil_session_hidden(DistilSession *session, const float **states, int *tokens,
										  const DistilText *text, DistilError *err);

/*
 * Rows of each of many texts, texts in any order: rows [n, width] are borrowed for the call.
 * same is called instead for a text that equals text `first`, which has been there.
 */
typedef struct DistilTextRows
{
	DistilStatus (*rows) (void *ctx, int index, const float *rows, int n, int width, DistilError *err);
	DistilStatus (*same) (void *ctx, int index, int first, DistilError *err);
	void	   *ctx;
} DistilTextRows;

/* Last hidden states of n texts; has [n] is false for a text without a token, which gets no call. */
extern DistilStatus distil_session_hidden_many(DistilSession *session, const DistilText *texts, int n,
											   const DistilTextRows *rows, bool *has, DistilError *err);

/*
 * Masked-LM logits of one text (and pair, may be NULL): calls row(ctx, t, logits [V]) for
 * each token t in order; nothing of size T x V is held unless the host holds it.
 */
typedef DistilStatus (*DistilRowFn) (void *ctx, int t, const float *row, int n, DistilError *err);
extern DistilStatus distil_session_lm_logits(DistilSession *session, const DistilText *text,
											 const DistilText *pair, DistilRowFn row, void *ctx, int *tokens,
											 DistilError *err);

/*
 * The top_k candidates for the one mask token of the text, best first;
 * strings owned by the array's one allocation.
 */
typedef struct DistilFill
{
	int32_t		id;
	float		score;			/* softmax */
	const char *token;			/* trimmed */
	const char *sequence;		/* decoded without special tokens */
} DistilFill;
extern DistilStatus distil_session_fill_mask(DistilSession *session, DistilFill **fills, int *nfills,
											 const DistilText *text, int top_k, DistilError *err);

/* ---------- sessions: task heads ---------- */

/*
 * What these return as arrays is one allocation of the session's allocator that the
 * caller releases; labels are borrowed from the model.  A model without the head asked
 * for is DISTIL_ERR_STATE.  Longer texts are cut to the model's limit and counted.
 */

/*
 * Raw scores of the model's task head: *logits [*rows, *n] borrowed until the next call;
 * one row for a text (and pair, may be NULL), or one for each token.
 */
extern DistilStatus distil_session_head_logits(DistilSession *session, const float **logits, int *rows,
											   int *n, const DistilText *text, const DistilText *pair,
											   DistilError *err);

/* The same of n texts (and pairs, NULL: none); has as for distil_session_hidden_many. */
extern DistilStatus distil_session_head_many(DistilSession *session, const DistilText *texts,
											 const DistilText *pairs, int n, const DistilTextRows *rows,
											 bool *has, DistilError *err);

typedef struct DistilScore
{
	const char *label;
	float		score;
} DistilScore;
/*
 * Of a text (and pair, may be NULL), best first: softmax, sigmoids of a multi-label head, or the one value of
 * a regression (*regression true).
 */
extern DistilStatus distil_session_classify(DistilSession *session, DistilScore **scores, int *nscores,
											bool *regression, const DistilText *text, const DistilText *pair,
											DistilError *err);
/* The best label of each of n texts (pairs: NULL for none); labels [n] are filled unless a regression. */
extern DistilStatus distil_session_labels(DistilSession *session, const char **labels, bool *regression,
										  const DistilText *texts, const DistilText *pairs, int n,
										  DistilError *err);
/* scores [n]: of n pairs, as sentence-transformers' CrossEncoder.predict. */
extern DistilStatus distil_session_rerank(DistilSession *session, float *scores, const DistilText *queries,
										  const DistilText *documents, int n, DistilError *err);
/* scores [n]: softmax over the choices, in their order. */
extern DistilStatus distil_session_choose(DistilSession *session, float *scores, const DistilText *prompt,
										  const DistilText *choices, int n, DistilError *err);

typedef enum DistilAggregation	/* of the token-classification pipeline */
{
	DISTIL_AGGREGATE_NONE,
	DISTIL_AGGREGATE_SIMPLE,
	DISTIL_AGGREGATE_FIRST,
	DISTIL_AGGREGATE_AVERAGE,
	DISTIL_AGGREGATE_MAX
} DistilAggregation;

/* "none", "simple", ...; anything else is an error that lists them. */
extern DistilStatus distil_aggregation_parse(DistilAggregation *aggregation, const char *name,
											 DistilError *err);

typedef struct DistilSpan
{
	const char *label;			/* of entities: with B- or I- when they are not grouped; NULL for answers */
	float		score;
	int32_t		start_pos, end_pos; /* code points of the text, end exclusive */
	size_t		byte_start, byte_end;
} DistilSpan;
/* In the order of the text, "O" left out. */
extern DistilStatus distil_session_entities(DistilSession *session, DistilSpan **spans, int *nspans,
											const DistilText *text, DistilAggregation aggregation,
											DistilError *err);
/* Spans of the context, best first, at most top_k; long contexts by overlapping windows. */
extern DistilStatus distil_session_answer(DistilSession *session, DistilSpan **spans, int *nspans,
										  const DistilText *question, const DistilText *context, int top_k,
										  DistilError *err);

typedef struct DistilGenerateOptions
{
	int			max_tokens;		/* new ones, at least 1 */
	double		temperature;	/* 0: the likeliest token each time */
	int			top_k;			/* 0: all */
	double		top_p;			/* 1: all */
	int64_t		seed;
} DistilGenerateOptions;
/*
 * Tokens that a causal model writes after prompt [nprompt]: *ids [*n] is allocated.  Ends at an end
 * token (left out) or when the context is full; of a prompt that fills it the beginning is left out.
 */
extern DistilStatus distil_session_generate_ids(DistilSession *session, int32_t **ids, int *n,
												const int32_t *prompt, int nprompt,
												const DistilGenerateOptions *options, DistilError *err);
/* The same for texts; *text is terminated and allocated. */
extern DistilStatus distil_session_generate(DistilSession *session, char **text, size_t *length,
											const DistilText *prompt, const DistilGenerateOptions *options,
											DistilError *err);
/* [n] exp of the mean cross-entropy of a text's tokens from the second on; has [n] false under two tokens. */
extern DistilStatus distil_session_perplexity(DistilSession *session, double *perplexity, bool *has,
											  const DistilText *texts, int n, DistilError *err);

/*
 * The training loss of one labelled example, a JSON object, by the model's head:
 * {"text"[, "pair"], "label"}; {"text", "target"[, "masked_only"]}; {"text"} for causal models;
 * {"words", "tags"}; {"question", "context", "start", "end"} or {..., "answer"};
 * {"prompt", "choices", "label"}.
 */
extern DistilStatus distil_session_loss(DistilSession *session, double *loss, const char *json, size_t length,
										DistilError *err);

/*
 * Weights all finite, tokenizer round trip, reference outputs if the folder carried them: one call per item.
 */
typedef void (*DistilVerifyFn) (void *ctx, const char *item, bool ok, const char *detail);
extern DistilStatus distil_session_verify(DistilSession *session, DistilVerifyFn report, void *ctx,
										  DistilError *err);

/* ---------- training ---------- */

typedef enum DistilMethod
{
	DISTIL_METHOD_TRIPLE,
	DISTIL_METHOD_EMBEDDING
} DistilMethod;

typedef struct DistilTrainOptions
{
	DistilMethod method;
	bool		causal;			/* method triple: the teacher is a causal language model */
	double		alpha_ce, alpha_mlm, alpha_clm, alpha_cos, alpha_mse;
	double		temperature;
	double		mlm_mask_prop, word_mask, word_keep, word_rand, mlm_smoothing;
	bool		restrict_ce_to_mask;
	int			nlayers;		/* of the student */
	int			layers[DISTIL_MAX_LAYERS];	/* teacher layers copied */
	bool		freeze_pos_embs, freeze_token_type_embds;
	bool		group_by_size;	/* micro-batches hold sequences of like length */
	double		learning_rate, warmup_prop, weight_decay, adam_beta1, adam_beta2, adam_epsilon, max_grad_norm;
	int			batch_size, gradient_accumulation_steps;
	double		epochs;
	int64_t		max_steps;		/* -1 = by epochs; 0 = the initialised student, untrained */
	int			max_tokens;
	int			threads;		/* 0 = all cores */
	int64_t		seed;
	bool		deterministic;
	double		eval_fraction;
	int			checkpoint_seconds;
	char		device[16];		/* auto, cpu, cuda */
	int			gpus;			/* of them, where the device is cuda */
	char		dtype[16];		/* of the products' operands: auto, float32, bfloat16 */
} DistilTrainOptions;

/*
 * Options of a job: defaults by teacher and method (method NULL: embedding for a
 * sentence model or one without LM head, otherwise triple), overridden by the jsonb
 * text.  Unknown keys, wrong types and values out of range are errors that name the
 * key and what is known.  distil_train_options_write gives the effective ones as
 * JSON (allocated, terminated), which parse back to the same.
 */
extern DistilStatus distil_train_options_parse(DistilTrainOptions *options, const char *method,
											   const char *json, size_t length, const DistilModel *teacher,
											   const DistilAllocator *alloc, DistilError *err);
extern DistilStatus distil_train_options_write(char **json, const DistilTrainOptions *options,
											   const DistilAllocator *alloc, DistilError *err);

/* Whether this teacher can be distilled so: what spool and trainer refuse whatever the corpus holds. */
extern DistilStatus distil_train_check(const DistilModel *teacher, const DistilTrainOptions *options,
									   const DistilAllocator *alloc, DistilError *err);

/*
 * The spool: the corpus tokenised once, in one file.  Texts are added in the order
 * of the query; special tokens written in a text are not recognised.  finish writes
 * the index and the token counts; a spool without it is refused by the trainer.
 */
typedef struct DistilSpool DistilSpool;
extern DistilStatus distil_spool_create(DistilSpool **spool, const DistilModel *teacher,
										const DistilTrainOptions *options, const DistilSink *sink,
										const DistilAllocator *alloc, const DistilPoll *poll,
										DistilError *err);
extern DistilStatus distil_spool_add(DistilSpool *spool, const DistilText *text, DistilError *err);
extern DistilStatus distil_spool_finish(DistilSpool *spool, DistilError *err);
typedef struct DistilSpoolInfo
{
	int64_t		texts;			/* added */
	int64_t		sequences;		/* kept after splitting and filtering */
	int64_t		tokens;
	uint8_t		fingerprint[32];	/* of the content; in every checkpoint */
} DistilSpoolInfo;
extern const DistilSpoolInfo *distil_spool_info(const DistilSpool *spool);
extern void distil_spool_free(DistilSpool *spool);

typedef struct DistilTrainer DistilTrainer;

typedef struct DistilTrainReport
{
	int64_t		step;			/* optimiser updates done */
	int64_t		steps;			/* in all */
	double		epoch;
	double		loss, loss_ce, loss_mlm, loss_clm, loss_mse, loss_cos;	/* of the last step; NAN when not
																		 * computed */
	double		learning_rate;
	double		gradient_norm;
	int64_t		tokens;			/* student tokens seen since the job began */
	double		eval_loss;		/* on the held-out part, NAN when not evaluated at this step */
	int64_t		skipped;		/* updates skipped because loss or gradient was not finite */
} DistilTrainReport;

/*
 * A trainer over a teacher image and a finished spool (both borrowed).  devices: one
 * per thread, borrowed; ndevices decides the thread count and so the exact bits.  Several devices with memory
 * of their own are a group (distil_device_open_group): each takes its share of every update's texts, and the
 * result is that of one but for the order in which gradients are added.
 */
extern DistilStatus distil_trainer_create(DistilTrainer **trainer, const DistilModel *teacher,
										  const DistilTrainOptions *options,
										  const void *spool, size_t spool_size,
										  DistilDevice *const *devices, int ndevices,
										  const DistilAllocator *alloc, const DistilPoll *poll,
										  DistilError *err);
/*
 * One optimiser update (batch_size * gradient_accumulation_steps texts).
 * DISTIL_ERR_CANCELLED leaves the state of the last full step.
 */
extern DistilStatus distil_trainer_step(DistilTrainer *trainer, DistilTrainReport *report, DistilError *err);
/*
 * Called now and then in the middle of an update, by the thread that takes the step.  done: the part of it
 * that is done; tokens: seen since the job began.  Must not throw; an error ends the step and loses its work.
 */
typedef DistilStatus (*DistilTrainWatchFn) (void *ctx, double done, int64_t tokens, DistilError *err);
extern void distil_trainer_watch(DistilTrainer *trainer, DistilTrainWatchFn watch, void *ctx);
extern bool distil_trainer_done(const DistilTrainer *trainer);
/* Of the last step, or of none: nothing but the number of steps. */
extern const DistilTrainReport *distil_trainer_report(const DistilTrainer *trainer);
/*
 * Everything needed to go on with the same bits; restore refuses other
 * options, teacher or spool (DISTIL_ERR_STATE).
 */
extern DistilStatus distil_trainer_save(DistilTrainer *trainer, const DistilSink *sink, DistilError *err);
extern DistilStatus distil_trainer_restore(DistilTrainer *trainer, const void *data, size_t size,
										   DistilTrainReport *report, DistilError *err);
/*
 * The student as a model folder in memory, to be imported like any other (its own
 * config.json, model.safetensors, the teacher's tokenizer and sentence files).
 * Owned by the trainer.
 */
extern DistilStatus distil_trainer_student(DistilTrainer *trainer, const DistilFolder **folder,
										   DistilError *err);
extern void distil_trainer_free(DistilTrainer *trainer);

/* ---------- vectors ---------- */

/* Of n values; distil_vector_cosine gives NAN for a zero vector. */
extern double distil_vector_cosine(const float *a, const float *b, size_t n);
extern double distil_vector_dot(const float *a, const float *b, size_t n);
extern double distil_vector_l2(const float *a, const float *b, size_t n);

#endif							/* DISTIL_ENGINE_H */
