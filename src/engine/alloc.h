/*
 * alloc.h
 *		Memory through the host's allocator, checked sizes, growing buffers, an arena.
 *
 * No malloc in the engine.  All size products go through distil_size_mul.
 */
#ifndef DISTIL_ALLOC_H
#define DISTIL_ALLOC_H

#include "distil_engine.h"

/* false on overflow */
extern bool distil_size_mul(size_t *product, size_t a, size_t b);
extern bool distil_size_add(size_t *sum, size_t a, size_t b);

/* Zeroed array of count elements; NULL when there is no memory or the product overflows. */
extern void *distil_alloc_array(const DistilAllocator *alloc, size_t count, size_t size);
extern void distil_release(const DistilAllocator *alloc, void *memory);	/* takes NULL */
/* Copy of a string of given length, terminated; NULL when there is no memory. */
extern char *distil_alloc_string(const DistilAllocator *alloc, const char *data, size_t length);

/* Growing byte buffer.  append returns false when there is no memory; data stays valid and owned. */
typedef struct DistilBuffer
{
	char	   *data;
	size_t		length;
	size_t		capacity;
	const DistilAllocator *alloc;
} DistilBuffer;
extern void distil_buffer_init(DistilBuffer *buffer, const DistilAllocator *alloc);
extern bool distil_buffer_append(DistilBuffer *buffer, const void *data, size_t length);
extern bool distil_buffer_align(DistilBuffer *buffer, size_t alignment);	/* pads with zeros */
extern void distil_buffer_free(DistilBuffer *buffer);

/*
 * Arena: many small allocations with one end.  Everything parsed from a file
 * (configs, parameter tables, names) lives in the arena of its model or import.
 */
typedef struct DistilArena DistilArena;
extern DistilArena *distil_arena_create(const DistilAllocator *alloc);	/* NULL: no memory */
extern void *distil_arena_alloc(DistilArena *arena, size_t count, size_t size);	/* zeroed, 16-byte aligned */
extern char *distil_arena_string(DistilArena *arena, const char *data, size_t length);
extern char *distil_arena_printf(DistilArena *arena, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
extern const DistilAllocator *distil_arena_allocator(const DistilArena *arena);
extern void distil_arena_free(DistilArena *arena);	/* takes NULL */

/* malloc/free, for tests and tools only (the glue has its own). */
extern const DistilAllocator *distil_alloc_system(void);

#endif							/* DISTIL_ALLOC_H */
