/*
 * tokenizer.h
 *		Inside of the tokenizers: compile files into a blob, open a blob.
 *
 * A blob is flat, position-independent and read-only; it is part of a model's image
 * and shared by all processes.  Opening one allocates only the small view.
 */
#ifndef DISTIL_TOKENIZER_H
#define DISTIL_TOKENIZER_H

#include "alloc.h"
#include "distil_engine.h"

/*
 * From tokenizer.json if it is there, otherwise from the legacy files (vocab.txt with
 * tokenizer_config.json and special_tokens_map.json).  Truncation and padding sections
 * of tokenizer.json are ignored on purpose; an unknown component is refused by name.
 * Appends the blob to `out`.
 */
extern DistilStatus distil_tokenizer_compile(DistilBuffer *out, const DistilFolder *folder,
											 bool parse_special, const DistilAllocator *alloc,
											 const DistilPoll *poll, DistilError *err);
/* model_max_length of tokenizer_config.json, or 0. */
extern DistilStatus distil_tokenizer_max_length(int64_t *max_length, const DistilFolder *folder,
												const DistilAllocator *alloc, DistilError *err);
/* The blob is borrowed; all its offsets are checked here, once. */
extern DistilStatus distil_tokenizer_open(DistilTokenizer **tokenizer, const void *blob, size_t size,
										  const DistilAllocator *alloc, DistilError *err);
extern void distil_tokenizer_free(DistilTokenizer *tokenizer);	/* takes NULL */

#endif							/* DISTIL_TOKENIZER_H */
