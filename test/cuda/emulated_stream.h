/*
 * emulated_stream.h
 *		What a stream of the emulated devices is to the libraries that are stubs.
 */
#ifndef DISTIL_EMULATED_STREAM_H
#define DISTIL_EMULATED_STREAM_H

#include <stddef.h>

#define EMULATED_DEVICES_MOST 16

typedef struct EmulatedStream
{
	int			device;
	/* work(arguments [bytes], which are copied) now, or each time a graph is run */
	void		(*enqueue) (void (*work) (const void *arguments), const void *arguments, size_t bytes);
} EmulatedStream;

#endif							/* DISTIL_EMULATED_STREAM_H */
