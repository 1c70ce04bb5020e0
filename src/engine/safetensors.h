/*
 * safetensors.h
 *		Strict reader of safetensors files over a DistilReader; a set merges several.
 */
#ifndef DISTIL_SAFETENSORS_H
#define DISTIL_SAFETENSORS_H

#include "alloc.h"
#include "distil_engine.h"
#include "tensor.h"

#define DISTIL_MAX_RANK 8

typedef struct DistilTensor DistilTensor;
struct DistilTensor
{
	const char *name;			/* with the file's prefix, terminated */
	DistilDtype dtype;
	int			rank;
	int64_t		shape[DISTIL_MAX_RANK];
	uint64_t	count;			/* elements */
	uint64_t	bytes;
	uint64_t	offset;			/* of the first byte in the reader */
	const DistilReader *reader; /* borrowed from the folder */
	/*
	 * Quantised weights (I8, [rows, columns]): value = stored * row_factors[i] * column_factors[j].  NULL,
	 * NULL: not quantised; otherwise both, from "NAME:rows" and "NAME:columns" (1 where there is none).
	 */
	const float *row_factors;
	const float *column_factors;
};

typedef struct DistilTensorSet
{
	DistilTensor *tensors;		/* sorted by name once distil_tensor_set_finish has run */
	int			n;
	int			capacity;
	bool		parse_special;	/* of a container's metadata; true in other files */
	bool		is_container;	/* metadata says a container of ours */
	DistilArena *arena;			/* names */
	const DistilAllocator *alloc;
} DistilTensorSet;

/* *set is NULL after a failure. */
extern DistilStatus distil_tensor_set_create(DistilTensorSet **set, const DistilAllocator *alloc,
											 DistilError *err);
extern void distil_tensor_set_free(DistilTensorSet *set);	/* takes NULL */

/*
 * Add the tensors of one file, each name preceded by `prefix` ("" or "2_Dense/").
 * `file` names the file in messages.  Checked: header length and JSON, names, dtypes,
 * shape products, and that the tensors cover the data exactly, without overlap or gap.
 */
extern DistilStatus distil_tensor_set_add(DistilTensorSet *set, const DistilReader *reader,
										  const char *file, const char *prefix, DistilError *err);
/* Sort; a name that two files have is an error.  Reads the factors of quantised weights. */
extern DistilStatus distil_tensor_set_finish(DistilTensorSet *set, DistilError *err);
/* NULL: there is none */
extern const DistilTensor *distil_tensor_set_find(const DistilTensorSet *set, const char *name);
/* Bytes [first, first + bytes) of a tensor. */
extern DistilStatus distil_tensor_read(const DistilTensor *tensor, uint64_t first, void *buffer,
									   size_t bytes,
									   DistilError *err);

/* F32, F16, BF16 or quantised: what a parameter may be made of. */
extern bool distil_tensor_is_weight(const DistilTensor *tensor);
/* Belongs to a quantised tensor. */
extern bool distil_tensor_is_factor(const DistilTensor *tensor);
/* to [n] = elements first .. first + n of a weight as float32; scratch [2 * n] bytes. */
extern DistilStatus distil_tensor_floats(const DistilTensor *tensor, uint64_t first, float *to, size_t n,
										 void *scratch, DistilError *err);

/*
 * Append a complete safetensors header (length word, JSON, padding to 8 bytes) for the
 * tensors in the given order with their data one after the other.  metadata: JSON text
 * of the __metadata__ object.  skip: characters of each name to leave out (a prefix).
 */
extern DistilStatus distil_safetensors_header(DistilBuffer *out, const DistilTensor *const *tensors, int n,
											  size_t skip, const char *metadata, DistilError *err);

#endif							/* DISTIL_SAFETENSORS_H */
