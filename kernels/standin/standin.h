/*
 * standin.h
 *		Inside of the stand-in: an accelerator played by the reference kernels, for tests.
 *
 * It has what makes an accelerator different for the code above: memory of its own, large
 * units of work, no packed weights, a limit of memory, and operations that may fail.
 */
#ifndef DISTIL_STANDIN_H
#define DISTIL_STANDIN_H

#include "../backends.h"

#define STANDIN_BLOCKS 256		/* blocks allocated at a time */

typedef struct StandinBlock
{
	char	   *address;		/* what the code above sees */
	char	   *memory;			/* where the bytes are */
	size_t		bytes;
	size_t		reserved;		/* of address, no access */
} StandinBlock;

/* Devices opened together; freed with the last of them. */
typedef struct StandinGroup
{
	struct StandinDevice *members[DISTIL_MAX_GROUP];
	int			n;
	int			open;
} StandinGroup;

typedef struct StandinDevice
{
	DistilDevice base;
	DistilKernels ops;
	DistilDevice *inner;		/* reference */
	StandinBlock blocks[STANDIN_BLOCKS];
	size_t		nblocks;
	size_t		used;			/* bytes allocated */
	size_t		limit;			/* of them, 0: none */
	long		lost_after;		/* operations; -1: never */
	long		crowded;		/* allocations that still find no memory */
	const char *failure;
	StandinGroup *group;		/* NULL: opened alone */
} StandinDevice;

/* An argument becomes the address of its bytes. */
#define AT(pointer) ((pointer) = distil_standin_at(dev, pointer))
/* An operation of the device inside, if it may still run. */
#define STANDIN_RUN(operation, ...) \
	do { \
		if (distil_standin_ready(dev)) \
			((StandinDevice *) dev)->operation(((StandinDevice *) dev)->inner, __VA_ARGS__); \
	} while (0)

extern const DistilHalfKernels distil_standin_half;

/* May one more operation run? */
extern bool distil_standin_ready(DistilDevice *dev);
extern void distil_standin_fail(StandinDevice *dev, const char *what);
/* Where the bytes of a device address are; NULL for NULL, and for a foreign address, which is a failure. */
extern void *distil_standin_at(DistilDevice *base, const void *address);

extern void *distil_standin_alloc(DistilDevice *base, size_t bytes);
extern void distil_standin_release(DistilDevice *base, void *memory);
extern void distil_standin_limit_memory(DistilDevice *base, size_t bytes);
extern void distil_standin_copy_in(DistilDevice *base, void *device, const void *host, size_t bytes);
extern void distil_standin_copy_out(DistilDevice *base, void *host, const void *device, size_t bytes);
extern void distil_standin_close(DistilDevice *base);
/* The group loses a device that is closed. */
extern void distil_standin_leave(StandinDevice *dev);

#endif							/* DISTIL_STANDIN_H */
