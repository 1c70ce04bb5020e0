/*
 * alloc.c
 *		Memory through the host's allocator, checked sizes, growing buffers, an arena.
 *
 * The rule a newcomer would break: no malloc here but in distil_alloc_system, and
 * no size product that has not gone through distil_size_mul.
 */
#include "alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_BLOCK 8192
#define ARENA_ALIGN 16

typedef struct ArenaBlock
{
	struct ArenaBlock *next;
	size_t		used;
	size_t		size;			/* bytes of data after this header */
} ArenaBlock;

/* Header sizes rounded up so that data stays 16-byte aligned. */
#define BLOCK_HEADER ((sizeof(ArenaBlock) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN)

struct DistilArena
{
	const DistilAllocator *alloc;
	ArenaBlock *blocks;			/* the newest ordinary block first */
};

bool
distil_size_mul(size_t *product, size_t a, size_t b)
{
	return !__builtin_mul_overflow(a, b, product);
}

bool
distil_size_add(size_t *sum, size_t a, size_t b)
{
	return !__builtin_add_overflow(a, b, sum);
}

void *
distil_alloc_array(const DistilAllocator *alloc, size_t count, size_t size)
{
	size_t		bytes;
	void	   *memory;

	if (!distil_size_mul(&bytes, count, size))
		return NULL;
	if (bytes == 0)
		bytes = 1;
	memory = alloc->alloc(alloc->ctx, bytes);
	if (memory != NULL)
		memset(memory, 0, bytes);
	return memory;
}

void
distil_release(const DistilAllocator *alloc, void *memory)
{
	if (memory != NULL)
		alloc->release(alloc->ctx, memory);
}

char *
distil_alloc_string(const DistilAllocator *alloc, const char *data, size_t length)
{
	size_t		bytes;
	char	   *copy;

	if (!distil_size_add(&bytes, length, 1))
		return NULL;
	copy = distil_alloc_array(alloc, bytes, 1);
	if (copy != NULL && length > 0)
		memcpy(copy, data, length);
	return copy;
}

/* ---------- growing buffer ---------- */

void
distil_buffer_init(DistilBuffer *buffer, const DistilAllocator *alloc)
{
	buffer->data = NULL;
	buffer->length = 0;
	buffer->capacity = 0;
	buffer->alloc = alloc;
}

/* Room for `more` bytes after length. */
static bool
buffer_reserve(DistilBuffer *buffer, size_t more)
{
	size_t		need;
	size_t		capacity;
	char	   *data;

	if (!distil_size_add(&need, buffer->length, more))
		return false;
	if (need <= buffer->capacity)
		return true;
	capacity = buffer->capacity < 128 ? 256 : buffer->capacity;
	if (capacity < need && !distil_size_mul(&capacity, capacity, 2))
		return false;
	if (capacity < need)
		capacity = need;
	data = buffer->alloc->alloc(buffer->alloc->ctx, capacity);
	if (data == NULL)
		return false;
	if (buffer->length > 0)
		memcpy(data, buffer->data, buffer->length);
	distil_release(buffer->alloc, buffer->data);
	buffer->data = data;
	buffer->capacity = capacity;
	return true;
}

bool
distil_buffer_append(DistilBuffer *buffer, const void *data, size_t length)
{
	if (length == 0)
		return true;
	if (!buffer_reserve(buffer, length))
		return false;
	memcpy(buffer->data + buffer->length, data, length);
	buffer->length += length;
	return true;
}

bool
distil_buffer_align(DistilBuffer *buffer, size_t alignment)
{
	size_t		rest = buffer->length % alignment;
	size_t		pad = rest == 0 ? 0 : alignment - rest;

	if (pad == 0)
		return true;
	if (!buffer_reserve(buffer, pad))
		return false;
	memset(buffer->data + buffer->length, 0, pad);
	buffer->length += pad;
	return true;
}

void
distil_buffer_free(DistilBuffer *buffer)
{
	if (buffer->alloc != NULL)
		distil_release(buffer->alloc, buffer->data);
	buffer->data = NULL;
	buffer->length = 0;
	buffer->capacity = 0;
}

/* ---------- arena ---------- */

DistilArena *
distil_arena_create(const DistilAllocator *alloc)
{
	DistilArena *arena = distil_alloc_array(alloc, 1, sizeof(DistilArena));

	if (arena != NULL)
		arena->alloc = alloc;
	return arena;
}

static ArenaBlock *
arena_block(DistilArena *arena, size_t size)
{
	size_t		bytes;
	ArenaBlock *block;

	if (!distil_size_add(&bytes, size, BLOCK_HEADER))
		return NULL;
	block = arena->alloc->alloc(arena->alloc->ctx, bytes);
	if (block == NULL)
		return NULL;
	block->next = NULL;
	block->used = 0;
	block->size = size;
	return block;
}

void *
distil_arena_alloc(DistilArena *arena, size_t count, size_t size)
{
	size_t		bytes;
	ArenaBlock *block = arena->blocks;
	char	   *memory;

	if (!distil_size_mul(&bytes, count, size) || !distil_size_add(&bytes, bytes, ARENA_ALIGN - 1))
		return NULL;
	bytes -= bytes % ARENA_ALIGN;
	if (bytes == 0)
		bytes = ARENA_ALIGN;
	if (bytes > ARENA_BLOCK / 4)
	{
		/* a block of its own, behind the one being filled */
		ArenaBlock *own = arena_block(arena, bytes);

		if (own == NULL)
			return NULL;
		own->used = bytes;
		if (block == NULL)
			arena->blocks = own;
		else
		{
			own->next = block->next;
			block->next = own;
		}
		block = own;
		memory = (char *) block + BLOCK_HEADER;
	}
	else
	{
		if (block == NULL || block->size - block->used < bytes)
		{
			block = arena_block(arena, ARENA_BLOCK);
			if (block == NULL)
				return NULL;
			block->next = arena->blocks;
			arena->blocks = block;
		}
		memory = (char *) block + BLOCK_HEADER + block->used;
		block->used += bytes;
	}
	memset(memory, 0, bytes);
	return memory;
}

char *
distil_arena_string(DistilArena *arena, const char *data, size_t length)
{
	size_t		bytes;
	char	   *copy;

	if (!distil_size_add(&bytes, length, 1))
		return NULL;
	copy = distil_arena_alloc(arena, bytes, 1);
	if (copy != NULL && length > 0)
		memcpy(copy, data, length);
	return copy;
}

char *
distil_arena_printf(DistilArena *arena, const char *format, ...)
{
	va_list		args;
	int			length;
	char	   *text;

	va_start(args, format);
	length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (length < 0)
		return NULL;
	text = distil_arena_alloc(arena, (size_t) length + 1, 1);
	if (text == NULL)
		return NULL;
	va_start(args, format);
	vsnprintf(text, (size_t) length + 1, format, args);
	va_end(args);
	return text;
}

const DistilAllocator *
distil_arena_allocator(const DistilArena *arena)
{
	return arena->alloc;
}

void
distil_arena_free(DistilArena *arena)
{
	ArenaBlock *block;

	if (arena == NULL)
		return;
	block = arena->blocks;
	while (block != NULL)
	{
		ArenaBlock *next = block->next;

		arena->alloc->release(arena->alloc->ctx, block);
		block = next;
	}
	arena->alloc->release(arena->alloc->ctx, arena);
}

/* ---------- the C library's, for tests and tools ---------- */

static void *
system_alloc(void *ctx, size_t bytes)
{
	(void) ctx;
	return malloc(bytes);
}

static void
system_release(void *ctx, void *memory)
{
	(void) ctx;
	free(memory);
}

const DistilAllocator *
distil_alloc_system(void)
{
	static const DistilAllocator system_allocator = {system_alloc, system_release, NULL};

	return &system_allocator;
}
