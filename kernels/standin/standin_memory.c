/*
 * standin_memory.c
 *		Memory of the stand-in device: addresses that nobody on the host can use.
 *
 * What alloc gives out is the address of a reserved range without any right of access; the
 * bytes lie elsewhere.  The host that reads or writes such an address gets SIGSEGV, as with
 * an accelerator.  The operations translate it, and one that is given anything else, host
 * memory or a freed block, does nothing and the device has failed.  New memory is NaN.
 */
#include "standin.h"

#include <string.h>
#include <sys/mman.h>

void
distil_standin_fail(StandinDevice *dev, const char *what)
{
	if (dev->failure == NULL)
		dev->failure = what;
}

/* The block that holds an address, or NULL. */
static StandinBlock *
find_block(StandinDevice *dev, const void *address)
{
	size_t		i;

	for (i = 0; i < dev->nblocks; i++)
	{
		StandinBlock *block = &dev->blocks[i];

		if ((uintptr_t) address >= (uintptr_t) block->address &&
			(uintptr_t) address < (uintptr_t) block->address + block->reserved)
			return block;
	}
	return NULL;
}

void *
distil_standin_at(DistilDevice *base, const void *address)
{
	StandinDevice *dev = (StandinDevice *) base;
	StandinBlock *block;

	if (address == NULL)
		return NULL;
	block = find_block(dev, address);
	if (block == NULL)
	{
		distil_standin_fail(dev, "An operation was given memory that is not the device's");
		return NULL;
	}
	return block->memory + ((uintptr_t) address - (uintptr_t) block->address);
}

void *
distil_standin_alloc(DistilDevice *base, size_t bytes)
{
	StandinDevice *dev = (StandinDevice *) base;
	StandinBlock block = {NULL, NULL, 0, 0};

	if (bytes > PTRDIFF_MAX / 2 || dev->nblocks == STANDIN_BLOCKS ||
		(dev->limit > 0 && dev->used + bytes > dev->limit))
		return NULL;
	if (dev->crowded > 0)
	{
		dev->crowded--;
		return NULL;
	}
	block.bytes = bytes;
	/* one more, so that the address behind the last byte belongs to the block too */
	block.reserved = bytes + 1;
	block.memory = distil_host_alloc(base, bytes);
	if (block.memory == NULL)
		return NULL;
	block.address = mmap(NULL, block.reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (block.address == MAP_FAILED)
	{
		distil_host_release(base, block.memory);
		return NULL;
	}
	memset(block.memory, 0xff, bytes);
	dev->blocks[dev->nblocks++] = block;
	dev->used += bytes;
	return block.address;
}

void
distil_standin_release(DistilDevice *base, void *memory)
{
	StandinDevice *dev = (StandinDevice *) base;
	StandinBlock *block;

	if (memory == NULL)
		return;
	block = find_block(dev, memory);
	if (block == NULL || block->address != memory)
	{
		distil_standin_fail(dev, "Memory was given back that is not the device's");
		return;
	}
	munmap(block->address, block->reserved);
	distil_host_release(base, block->memory);
	dev->used -= block->bytes;
	*block = dev->blocks[--dev->nblocks];
}

void
distil_standin_limit_memory(DistilDevice *base, size_t bytes)
{
	((StandinDevice *) base)->limit = bytes;
}

/* Is all of [address, address + bytes) one block's? */
static bool
check_range(StandinDevice *dev, const void *address, size_t bytes)
{
	StandinBlock *block = find_block(dev, address);

	if (block != NULL && bytes <= block->bytes - ((uintptr_t) address - (uintptr_t) block->address))
		return true;
	distil_standin_fail(dev, "A copy goes beyond the device's memory");
	return false;
}

void
distil_standin_copy_in(DistilDevice *base, void *device, const void *host, size_t bytes)
{
	StandinDevice *dev = (StandinDevice *) base;

	if (bytes == 0 || !check_range(dev, device, bytes))
		return;
	if (find_block(dev, host) != NULL)
		distil_standin_fail(dev, "A copy from the host was given the device's memory");
	else
		memcpy(distil_standin_at(base, device), host, bytes);
}

void
distil_standin_copy_out(DistilDevice *base, void *host, const void *device, size_t bytes)
{
	StandinDevice *dev = (StandinDevice *) base;

	if (bytes == 0)
		return;
	if (find_block(dev, host) != NULL)
		distil_standin_fail(dev, "A copy to the host was given the device's memory");
	else if (check_range(dev, device, bytes))
		memcpy(host, distil_standin_at(base, device), bytes);
}

void
distil_standin_close(DistilDevice *base)
{
	StandinDevice *dev = (StandinDevice *) base;

	if (base == NULL)
		return;
	distil_standin_leave(dev);
	while (dev->nblocks > 0)
		distil_standin_release(base, dev->blocks[0].address);
	if (dev->inner != NULL)
		dev->inner->ops->close(dev->inner);
	distil_host_release(base, dev);
}
