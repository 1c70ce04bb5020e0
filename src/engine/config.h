/*
 * config.h
 *		From a folder's configuration files to a DistilSpec; helpers for architectures.
 */
#ifndef DISTIL_CONFIG_H
#define DISTIL_CONFIG_H

#include "model.h"

/* What a spec needs to know of the weights and of large files; an image stores it. */
typedef struct DistilSpecFacts
{
	bool		with_lm;
	int			head;			/* DistilHeadKind of the task head, -1: none */
	bool		head_missing;	/* the class names a head whose tensors are not there */
	int64_t		parameters;		/* tied ones once */
	const char *dtype;			/* static string: "float32", ... */
	int64_t		model_max_length;	/* of tokenizer_config.json, 0 = none */
} DistilSpecFacts;

/* Facts of a folder and its tensors (NULL: by the class name alone, parameters 0). */
struct DistilTensorSet;
extern DistilStatus distil_spec_facts(DistilSpecFacts *facts, const DistilFolder *folder,
									  const struct DistilTensorSet *tensors,
									  const DistilAllocator *alloc, DistilError *err);
/* As distil_spec_parse, with the facts given.  Temporary memory comes from alloc. */
extern DistilStatus distil_spec_build(DistilSpec *spec, const DistilFolder *folder,
									  const DistilSpecFacts *facts,
									  DistilArena *arena, const DistilAllocator *alloc, DistilError *err);

/*
 * Pipeline files (modules.json and what it names); adds the Dense parameters.  Without
 * modules.json: mean pooling.  pipeline_config.c
 */
extern DistilStatus distil_pipeline_parse(DistilSpec *spec, const DistilFolder *folder,
										  const DistilAllocator *alloc, DistilError *err);
/* Folders of modules.json whose type is Dense: *dirs [*n] in arena; none without modules.json. */
extern DistilStatus distil_pipeline_dense_dirs(const char *const **dirs, int *n, const DistilFolder *folder,
											   DistilArena *arena, const DistilAllocator *alloc,
												   DistilError *err);

/* "torch.nn.Tanh", or where the class really is: "torch.nn.modules.activation.Tanh"; false: no known one. */
extern bool distil_config_torch_activation(DistilActivation *out, const char *name);
/* The same, named by a file as what a cross-encoder's score goes through. */
extern DistilStatus distil_config_rank_activation(DistilActivation *out, const char *name, const char *file,
												  DistilError *err);

/*
 * Which tokens end a text, and a setting of generation that we do not implement, of config.json's document;
 * the second takes both from generation_config.json if the folder has one.  config_generation.c
 */
extern DistilStatus distil_config_generation(DistilConfig *config, const DistilJsonDoc *doc,
											 DistilError *err);
extern DistilStatus distil_config_generation_file(DistilConfig *config, const DistilFolder *folder,
												  const DistilAllocator *alloc, DistilError *err);

/* ---------- for architectures ---------- */

/* A size in [1, limit]: below is DISTIL_ERR_TEXT_FILE, above DISTIL_ERR_LIMIT. */
extern DistilStatus distil_config_size(int *out, const DistilJsonDoc *doc, const char *key, int def,
									   int limit,
									   DistilError *err);
/* A size that has two names; as in transformers the general one, `other`, wins. */
extern DistilStatus distil_config_aliased(int *out, const DistilJsonDoc *doc, const char *key,
										  const char *other, int def, int limit, DistilError *err);
extern DistilStatus distil_config_float(float *out, const DistilJsonDoc *doc, const char *key, double def,
										double min, double max, DistilError *err);
/* "gelu", "relu", ...; anything else is refused by name. */
extern DistilStatus distil_config_activation(DistilActivation *out, const DistilJsonDoc *doc,
											 const char *key,
											 const char *def, DistilError *err);
/* "eos_token_id" of a config.json that is written; false: no memory. */
extern bool distil_config_write_ends(const DistilConfig *config, DistilBuffer *out);
/* The name a configuration uses for an activation. */
extern const char *distil_activation_name(DistilActivation activation);
/* Checks that hold for every architecture (H divides C, ...); fills head_dim. */
extern DistilStatus distil_config_check(DistilConfig *config, const char *width_key, const char *heads_key,
										DistilError *err);

/*
 * The fields of config.json that BERT, RoBERTa and MPNet name alike; all but vocabulary, types and padding.
 */
extern DistilStatus distil_config_encoder(DistilConfig *config, const DistilJsonDoc *doc, DistilError *err);
/* Positions are counted from behind `padding`, as RoBERTa's; there must be room for one. */
extern DistilStatus distil_config_padding(DistilConfig *config, int padding, DistilError *err);
/* DistilArch.write_config of the same. */
extern DistilStatus distil_config_write_encoder(const DistilConfig *config, const char *class_name,
												DistilBuffer *out, DistilError *err);
/* Names for distil_layer_params of BERT and RoBERTa. */
extern const char *const distil_bert_layer_names[];
/* Tensors of a masked language-model head; dense and norm without ".weight" and ".bias". */
typedef struct DistilLmNames
{
	const char *dense;
	const char *norm;
	const char *weight;
	const char *tied_bias;		/* with tied tables, see DistilArch.aliases */
	const char *bias;
} DistilLmNames;

extern const DistilLmNames distil_roberta_lm_names;
/* Fills spec->lm. */
extern DistilStatus distil_lm_head_params(DistilSpec *spec, const DistilLmNames *names, DistilError *err);
/* The embeddings' tables and norm under BERT's names (types 0: no segment table). */
extern DistilStatus distil_embedding_params(DistilSpec *spec, unsigned position_flags, DistilError *err);
/* The linear layer from embeddings of width E to layers of width C; source without ".weight". */
extern DistilStatus distil_projection_params(DistilSpec *spec, const char *source, DistilError *err);
/* Before arch->params: every index -1. */
extern void distil_spec_clear(DistilSpec *spec);

/* Append one formatted piece (up to 500 characters) of a config.json; false without memory. */
extern bool distil_config_printf(DistilBuffer *out, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* `  "KEY": VALUE,` and a line end, with as few digits as give the same float again */
extern bool distil_config_number(DistilBuffer *out, const char *key, float value);
/* The members all architectures share (class, vocabulary, ...), each ending with ",\n". */
extern bool distil_config_write_common(const DistilConfig *config, const char *class_name,
									   DistilBuffer *out);

/*
 * A layer's parameters under canonical names; the architecture gives its tensor names,
 * each with one %d for the layer.  Order of names: q, k, v, out, norm1, up, down, norm2
 * (".weight" and ".bias" are appended).
 */
#define DISTIL_LAYER_NAMES 8
extern DistilStatus distil_layer_params(DistilSpec *spec, const char *const names[DISTIL_LAYER_NAMES],
										DistilError *err);
/*
 * weight [rows, cols] and bias [rows] of a linear layer or (cols 0) norm; sources "NAME.weight",
 * "NAME.bias"
 */
extern DistilStatus distil_pair_params(DistilSpec *spec, int *weight, int *bias, const char *name,
									   const char *source, int rows, int cols, DistilError *err);
/* One parameter with one source. */
extern DistilStatus distil_single_param(DistilSpec *spec, int *index, const char *name, const char *source,
										int rows, int cols, unsigned flags, DistilError *err);

#endif							/* DISTIL_CONFIG_H */
