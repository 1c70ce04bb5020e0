/*
 * backends.h
 *		What kernels.c and the backends share: how a backend is opened, and the
 *		memory functions of every backend whose device memory is plain memory.
 *
 * This header is private to kernels/.  Backends do not include each other.
 */
#ifndef DISTIL_BACKENDS_H
#define DISTIL_BACKENDS_H

#include "kernels.h"

/*
 * One row of the table in kernels.c.  open, open_group (or NULL): as
 * distil_device_open, distil_device_open_group.
 */
typedef struct DistilBackend
{
	const char *name;
	DistilDevice *(*open) (const char *isa, char *message, size_t message_size);
	bool		(*open_group) (const char *isa, DistilDevice **devices, int n, char *message,
							   size_t message_size);
} DistilBackend;

extern DistilDevice *distil_ref_open(const char *isa, char *message, size_t message_size);
extern DistilDevice *distil_cpu_open(const char *isa, char *message, size_t message_size);
extern DistilDevice *distil_cuda_open(const char *isa, char *message, size_t message_size);
extern DistilDevice *distil_standin_open(const char *isa, char *message, size_t message_size);
extern bool distil_cuda_open_group(const char *isa, DistilDevice **devices, int n, char *message,
								   size_t message_size);
extern bool distil_standin_open_group(const char *isa, DistilDevice **devices, int n, char *message,
									  size_t message_size);

extern const char *distil_cpu_device_isa(const DistilDevice *dev);

/* Longest sequence an attention call may see: bounded by the dropout element numbering. */
#define DISTIL_KERNEL_MAX_KEYS	65536
/* Widest head: the reference's accumulators. */
#define DISTIL_KERNEL_MAX_HEAD	16384

/* Plain memory, 64-byte aligned; NULL when there is none or bytes overflows. */
extern void *distil_host_alloc(DistilDevice *dev, size_t bytes);
extern void distil_host_release(DistilDevice *dev, void *memory);
extern void distil_host_forget(DistilDevice *dev, void *memory, size_t bytes);
extern void distil_host_copy_in(DistilDevice *dev, void *device, const void *host, size_t bytes);
extern void distil_host_copy_out(DistilDevice *dev, void *host, const void *device, size_t bytes);

#endif							/* DISTIL_BACKENDS_H */
