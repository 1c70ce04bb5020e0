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
 * lower_case: of the pipeline (do_lower_case of sentence_bert_config.json).
 * table: rows of the model's word table.  An added token beyond it is known, but a text that has it is
 * refused, as the model has nothing for it; 0: all have rows.
 */
extern DistilStatus distil_tokenizer_compile(DistilBuffer *out, const DistilFolder *folder,
											 bool parse_special, bool lower_case, int table,
											 const DistilAllocator *alloc, const DistilPoll *poll,
											 DistilError *err);
/*
 * *config, the text of a config.json that is to lie beside the tokenizer's files of `folder`, names the class
 * that `folder`'s own config.json gives them, if tokenizer_config.json names none and it does not either.
 * The new text is the arena's.
 */
extern DistilStatus distil_tokenizer_config(const char **config, size_t *length, const DistilFolder *folder,
											DistilArena *arena, const DistilAllocator *alloc,
											DistilError *err);
/* model_max_length of tokenizer_config.json, or 0. */
extern DistilStatus distil_tokenizer_max_length(int64_t *max_length, const DistilFolder *folder,
												const DistilAllocator *alloc, DistilError *err);
/* The blob is borrowed; all its offsets are checked here, once. */
extern DistilStatus distil_tokenizer_open(DistilTokenizer **tokenizer, const void *blob, size_t size,
										  const DistilAllocator *alloc, DistilError *err);
/* Largest segment id of a single text; -1: the model is given none. */
extern int32_t distil_tokenizer_single_type(const DistilTokenizer *tokenizer);
extern void distil_tokenizer_free(DistilTokenizer *tokenizer);	/* takes NULL */

#endif							/* DISTIL_TOKENIZER_H */
