/*
 * gpu_protocol.h
 *		What backends and the GPU service say to each other over a Unix socket of the data directory.
 *
 * A connection begins with the service's HELLO.  Then the backend sends EMBED or STATUS, one at a time, and
 * reads one answer.  A backend that does not want its answer any more closes the connection.  A service that
 * ends closes them all: in the middle of a request that means it has failed.
 *
 * Both sides are the same library of the same server, started by the same postmaster; lengths, counts and
 * offsets are checked all the same.
 */
#ifndef DISTIL_GPU_PROTOCOL_H
#define DISTIL_GPU_PROTOCOL_H

#include "postgres.h"
#include "distil_engine.h"
#include "model_cache.h"

/* Relative to the data directory, which is every process's working directory: sun_path is short. */
#define DISTIL_GPU_SOCKET DISTIL_CACHE_DIR "/gpu.socket"
/* Locked by a backend that starts the worker. */
#define DISTIL_GPU_START DISTIL_CACHE_DIR "/gpu.start"
/* Locked by the worker that serves. */
#define DISTIL_GPU_LOCK DISTIL_CACHE_DIR "/gpu.lock"

#define DISTIL_GPU_MAGIC 0x64674701
/* Of a request: bytes behind its header. */
#define DISTIL_GPU_MAX_REQUEST ((uint64) 64 << 20)

typedef enum DistilGpuKind
{
	DISTIL_GPU_HELLO = 1,		/* service: nothing follows */
	DISTIL_GPU_EMBED,			/* backend: DistilGpuEmbed, offsets [n + 1], ids [offsets[n]] (int32) */
	DISTIL_GPU_VECTORS,			/* service: float [n, D'] */
	DISTIL_GPU_ERROR,			/* service: DistilGpuError */
	DISTIL_GPU_STATUS,			/* backend: nothing follows; service: DistilGpuStatus */
} DistilGpuKind;

typedef struct DistilGpuHeader
{
	uint32		magic;
	uint32		kind;
	uint64		length;			/* bytes that follow */
} DistilGpuHeader;

/* What requests must have in common to be computed together. */
typedef struct DistilGpuKey
{
	uint8		sha256[32];
	char		layout[16];		/* of the shared copy, in float32 */
	int32		precision;		/* DistilPrecision */
	int32		skip;			/* tokens at the beginning of each sequence that are not pooled */
} DistilGpuKey;

typedef struct DistilGpuEmbed
{
	DistilGpuKey key;
	int32		n;
	int32		dimensions;		/* as the backend knows them */
} DistilGpuEmbed;

typedef struct DistilGpuError
{
	int32		status;			/* DistilStatus */
	DistilError err;
} DistilGpuError;

typedef struct DistilGpuStatus
{
	char		device[32];
	int32		pid;			/* of the process that has the device */
	int32		models;			/* on the device now */
	int64		memory;			/* bytes that they may have, 0: all */
	int64		requests;		/* answered with vectors */
	int64		batches;		/* they were computed in */
	int64		evictions;		/* models that had to go for others */
	int64		dropped;		/* requests whose backend went away */
} DistilGpuStatus;

/* What the worker tells the process that has the device, at its start and after each reload. */
typedef struct DistilGpuSettings
{
	int64		memory;			/* bytes, 0: all of it */
	int64		idle_ms;		/* without a connection until it ends; 0: never */
} DistilGpuSettings;

#endif							/* DISTIL_GPU_PROTOCOL_H */
