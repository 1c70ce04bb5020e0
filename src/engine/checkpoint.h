/*
 * checkpoint.h
 *		The tensors of a model folder, and which of them each parameter is made of.
 */
#ifndef DISTIL_CHECKPOINT_H
#define DISTIL_CHECKPOINT_H

#include "model.h"
#include "safetensors.h"

/*
 * All tensors of a folder: model.safetensors, or model.safetensors.index.json and its
 * shards; Dense modules with their folder as prefix ("2_Dense/linear.weight").
 */
extern DistilStatus distil_checkpoint_open(DistilTensorSet **set, const DistilFolder *folder,
										   const DistilAllocator *alloc, DistilError *err);

/*
 * The tensor a source name stands for, by the loader's rules: with the architecture's
 * prefix or without, old LayerNorm names, the architecture's aliases.  NULL: none.
 */
extern const DistilTensor *distil_checkpoint_find(const DistilTensorSet *set, const DistilArch *arch,
												  const char *source);
/* As distil_checkpoint_find without the aliases: this very tensor. */
extern const DistilTensor *distil_checkpoint_find_exact(const DistilTensorSet *set, const DistilArch *arch,
														const char *source);

/* Masks and position numbers that old files carry: no weights of the model. */
extern bool distil_tensor_is_buffer(const DistilTensor *tensor);

/*
 * tensors [table.n * DISTIL_PARAM_MAX_SOURCES] of each parameter's sources, in `arena`;
 * NULL for an optional one that is missing.  Shapes and dtypes are checked.
 */
extern DistilStatus distil_checkpoint_bind(const DistilTensor *const **tensors, const DistilSpec *spec,
										   const DistilTensorSet *set, DistilArena *arena, DistilError *err);

#endif							/* DISTIL_CHECKPOINT_H */
