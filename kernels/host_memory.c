/*
 * host_memory.c
 *		Device memory of the backends that compute on plain memory.
 *
 * The only place of the kernels that asks for memory.  Large blocks are mappings of their own: malloc
 * keeps what is freed, and in each thread's heap, but a server has hundreds of processes.
 */
#include "backends.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HOST_ALIGNMENT 64

/* Blocks from this size on are mapped; none under AddressSanitizer, which watches malloc only. */
#ifdef __SANITIZE_ADDRESS__
#define HOST_MAPPED SIZE_MAX
#else
#define HOST_MAPPED ((size_t) 1 << 18)
#endif

/* Lies HOST_ALIGNMENT bytes before a block. */
typedef struct HostHeader
{
	size_t		mapped;			/* bytes of the mapping, 0: from malloc */
} HostHeader;

void *
distil_host_alloc(DistilDevice *dev, size_t bytes)
{
	void	   *memory;
	size_t		mapped = 0;

	(void) dev;
	if (bytes > PTRDIFF_MAX - HOST_ALIGNMENT)
		return NULL;
	bytes += HOST_ALIGNMENT;
	if (bytes >= HOST_MAPPED)
	{
		mapped = bytes;
		memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED)
			return NULL;
	}
	else if (posix_memalign(&memory, HOST_ALIGNMENT, bytes) != 0)
		return NULL;
	((HostHeader *) memory)->mapped = mapped;
	return (char *) memory + HOST_ALIGNMENT;
}

void
distil_host_release(DistilDevice *dev, void *memory)
{
	HostHeader *header;

	(void) dev;
	if (memory == NULL)
		return;
	header = (HostHeader *) ((char *) memory - HOST_ALIGNMENT);
	if (header->mapped > 0)
		munmap(header, header->mapped);
	else
		free(header);
}

/* The system takes these pages when it wants memory; until then writing to them again costs no page fault. */
void
distil_host_forget(DistilDevice *dev, void *memory, size_t bytes)
{
	uintptr_t	page = (uintptr_t) sysconf(_SC_PAGESIZE);
	uintptr_t	first = ((uintptr_t) memory + page - 1) / page * page;
	uintptr_t	end = ((uintptr_t) memory + bytes) / page * page;

	(void) dev;
	if (first < end)
		(void) madvise((void *) first, end - first, MADV_FREE);
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
