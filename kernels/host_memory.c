/*
 * host_memory.c
 *		Device memory of the backends that compute on plain memory.
 *
 * The only place of the kernels that asks the C library for memory.
 */
#include "backends.h"

#include <stdlib.h>
#include <string.h>

#define HOST_ALIGNMENT 64

void *
distil_host_alloc(DistilDevice *dev, size_t bytes)
{
	void	   *memory;

	(void) dev;
	if (bytes > PTRDIFF_MAX - HOST_ALIGNMENT)
		return NULL;
	if (posix_memalign(&memory, HOST_ALIGNMENT, bytes > 0 ? bytes : 1) != 0)
		return NULL;
	return memory;
}

void
distil_host_release(DistilDevice *dev, void *memory)
{
	(void) dev;
	free(memory);
}

void
distil_host_copy_in(DistilDevice *dev, void *device, const void *host, size_t bytes)
{
	(void) dev;
	if (bytes > 0)
		memcpy(device, host, bytes);
}

void
distil_host_copy_out(DistilDevice *dev, void *host, const void *device, size_t bytes)
{
	(void) dev;
	if (bytes > 0)
		memcpy(host, device, bytes);
}
