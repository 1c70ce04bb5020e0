/*
 * container.h
 *		The stored form of a model: one safetensors file with tensors and small files.
 *
 * Model tensors keep their names, dtypes and bytes.  A small file NAME of the folder is
 * the U8 tensor "file:NAME"; a Dense module's tensors have their folder as prefix.
 */
#ifndef DISTIL_CONTAINER_H
#define DISTIL_CONTAINER_H

#include "safetensors.h"

#define DISTIL_FILE_PREFIX "file:"

typedef struct DistilContainer
{
	DistilTensorSet *set;		/* everything, files too */
	DistilFolder folder;		/* the small files, readers over the container's reader */
	DistilFile *files;
	struct DistilFileView *views;
	bool		parse_special;
	const DistilAllocator *alloc;
} DistilContainer;

/* The reader must stay valid until the container is freed; *container is NULL after a failure. */
extern DistilStatus distil_container_open(DistilContainer **container, const DistilReader *reader,
										  const DistilAllocator *alloc, DistilError *err);
extern void distil_container_free(DistilContainer *container);	/* takes NULL */

/* Is this a small file (of the folder of a tensor set), not a model tensor? */
extern bool distil_container_is_file(const DistilTensor *tensor);
/* Does a folder's file belong in the container?  Weights, logs and other formats do not. */
extern bool distil_container_keeps(const DistilFile *file);
/* The order of tensors in a container: larger elements first, then by name. */
extern void distil_container_sort(const DistilTensor **tensors, int n);

#endif							/* DISTIL_CONTAINER_H */
