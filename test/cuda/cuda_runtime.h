/*
 * cuda_runtime.h
 *		CUDA played by the CPU, so that kernels can be tested without a GPU: stands in for the
 *		toolkit's header when kernels/cuda is compiled by a C++ compiler.
 *
 * The threads of a block are fibers of one thread, run in an order that changes with each block; they go
 * on to the next barrier, shuffle or tensor-core product, where they wait for the others.  So a
 * missing barrier, a wrong fragment or a sum in the wrong lane shows as a wrong result.  There are as many
 * devices as EMULATED_DEVICES says (1), whose threads run their kernels in turn; a launch on a device that
 * the thread has not chosen fails.  What cannot
 * show: speed, memory of a real device, and races inside one warp's lock step.
 */
#ifndef DISTIL_EMULATED_CUDA_RUNTIME_H
#define DISTIL_EMULATED_CUDA_RUNTIME_H

#include <math.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulated_stream.h"

#include <functional>
#include <tuple>
#include <vector>

#define CUDA_EMULATED
#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3
{
	unsigned	x, y, z;

	dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

static dim3 threadIdx, blockIdx, blockDim, gridDim;
static thread_local int emulated_device;	/* the thread's, as emulated_error */
static thread_local int emulated_error;
static pthread_mutex_t emulated_turn = PTHREAD_MUTEX_INITIALIZER;

/* ---------- fibers ---------- */

#define EMULATED_THREADS 1024
#define EMULATED_STACK ((size_t) 128 << 10)

typedef struct EmulatedBarrier
{
	unsigned	arrived;
	unsigned	generation;
} EmulatedBarrier;

typedef struct EmulatedFiber
{
	void	   *stack_pointer;
	bool		done;
} EmulatedFiber;

typedef struct EmulatedWarp
{
	EmulatedBarrier barrier;
	unsigned	live;
	/* What lanes show each other, in turn in two places: nobody can be more than one exchange ahead. */
	uint64_t	value[2][32];
	uint32_t	a[2][32][4];
	uint32_t	b[2][32][2];
} EmulatedWarp;

static EmulatedFiber emulated_fibers[EMULATED_THREADS];
static EmulatedWarp emulated_warps[EMULATED_THREADS / 32];
static EmulatedBarrier emulated_block;
static unsigned emulated_live;
static int	emulated_votes[EMULATED_THREADS];
static void *emulated_scheduler;
static void (*emulated_kernel) (void *arguments);
static void *emulated_arguments;

extern "C" void emulated_switch(void **from, void *to);
__asm__(".text\n"
		".type emulated_switch, @function\n"
		"emulated_switch:\n"
		"	pushq %rbp\n	pushq %rbx\n	pushq %r12\n	pushq %r13\n	pushq %r14\n	pushq %r15\n"
		"	movq %rsp, (%rdi)\n"
		"	movq %rsi, %rsp\n"
		"	popq %r15\n	popq %r14\n	popq %r13\n	popq %r12\n	popq %rbx\n	popq %rbp\n"
		"	ret\n");

static void
emulated_yield(void)
{
	unsigned	me = threadIdx.x;

	emulated_switch(&emulated_fibers[me].stack_pointer, emulated_scheduler);
}

static void
emulated_wait(EmulatedBarrier *barrier, const unsigned *live)
{
	unsigned	generation = barrier->generation;

	barrier->arrived++;
	while (barrier->generation == generation)
	{
		if (barrier->arrived >= *live)
		{
			barrier->arrived = 0;
			barrier->generation++;
			return;
		}
		emulated_yield();
	}
}

static void
emulated_fiber_main(void)
{
	unsigned	me = threadIdx.x;

	emulated_kernel(emulated_arguments);
	emulated_fibers[me].done = true;
	emulated_live--;
	emulated_warps[me / 32].live--;
	emulated_yield();
	abort();
}

static void
emulated_start(unsigned thread)
{
	static char *stacks = NULL;
	void	  **top;

	if (stacks == NULL)
		stacks = (char *) aligned_alloc(64, EMULATED_STACK * EMULATED_THREADS);
	top = (void **) (stacks + EMULATED_STACK * (thread + 1));
	*--top = NULL;
	*--top = (void *) emulated_fiber_main;
	for (int i = 0; i < 6; i++)
		*--top = NULL;
	emulated_fibers[thread].stack_pointer = top;
	emulated_fibers[thread].done = false;
}

static void
emulated_run_block(unsigned threads)
{
	static unsigned turn = 0;
	unsigned	running = threads;
	unsigned	step = threads > 1 ? 2 * (turn++ % 8) + 1 : 1;

	while (threads % step == 0 && step > 1)
		step -= 2;
	memset(emulated_warps, 0, sizeof(emulated_warps));
	memset(&emulated_block, 0, sizeof(emulated_block));
	emulated_live = threads;
	for (unsigned t = 0; t < threads; t++)
	{
		emulated_start(t);
		emulated_warps[t / 32].live++;
	}
	while (running > 0)
		for (unsigned i = 0; i < threads; i++)
		{
			unsigned	t = turn % 2 ? i * step % threads : threads - 1 - i * step % threads;

			if (emulated_fibers[t].done)
				continue;
			threadIdx = dim3(t);
			emulated_switch(&emulated_scheduler, emulated_fibers[t].stack_pointer);
			running -= emulated_fibers[t].done;
		}
}

typedef std::function<void()> EmulatedWork;
typedef struct EmulatedGraph
{
	int			device;
	std::vector<EmulatedWork> work;
} EmulatedGraph;

/* What comes to the thread's stream is noted here instead of done. */
static thread_local EmulatedGraph *emulated_graph;

static void
emulated_run(dim3 grid, unsigned threads, EmulatedWork kernel)
{
	pthread_mutex_lock(&emulated_turn);
	gridDim = grid;
	blockDim = dim3(threads);
	emulated_arguments = &kernel;
	emulated_kernel = [](void *arguments) { (*(EmulatedWork *) arguments)(); };
	for (unsigned y = 0; y < grid.y; y++)
		for (unsigned x = 0; x < grid.x; x++)
		{
			blockIdx = dim3(x, y);
			emulated_run_block(threads);
		}
	emulated_arguments = NULL;
	pthread_mutex_unlock(&emulated_turn);
}

/* Arguments are those of now, whenever the kernel runs. */
template <typename... Parameters, typename... Arguments>
static void
emulated_launch(void (*kernel) (Parameters...), dim3 grid, unsigned threads, void *stream, Arguments... given)
{
	std::tuple<std::decay_t<Parameters>...> arguments(given...);
	EmulatedWork work = [kernel, arguments]() { std::apply(kernel, arguments); };

	if (((const EmulatedStream *) stream)->device != emulated_device)
		emulated_error = 400;	/* cudaErrorInvalidResourceHandle */
	else if (emulated_graph != NULL)
		emulated_graph->work.push_back([=]() { emulated_run(grid, threads, work); });
	else
		emulated_run(grid, threads, work);
}

/* An EmulatedStream's: what a library does on a stream. */
static void
emulated_enqueue(void (*work) (const void *arguments), const void *arguments, size_t bytes)
{
	std::vector<char> copy((const char *) arguments, (const char *) arguments + bytes);

	if (emulated_graph != NULL)
		emulated_graph->work.push_back([=]() { work(copy.data()); });
	else
		work(arguments);
}

#define CUDA_LAUNCH(kernel, grid, threads, stream, ...) \
	emulated_launch(kernel, grid, threads, stream, __VA_ARGS__)

/* ---------- what threads do together ---------- */

static inline void
__syncthreads(void)
{
	emulated_wait(&emulated_block, &emulated_live);
}

static inline int
__syncthreads_or(int vote)
{
	int			any = 0;

	emulated_votes[threadIdx.x] = vote;
	__syncthreads();
	for (unsigned t = 0; t < blockDim.x; t++)
		any |= emulated_votes[t];
	__syncthreads();
	return any;
}

static inline void
emulated_warp_wait(void)
{
	EmulatedWarp *warp = &emulated_warps[threadIdx.x / 32];

	emulated_wait(&warp->barrier, &warp->live);
}

static inline void
__syncwarp(void)
{
	emulated_warp_wait();
}

template <typename T>
static inline T
__shfl_sync(unsigned mask, T value, int lane)
{
	EmulatedWarp *warp = &emulated_warps[threadIdx.x / 32];
	unsigned	place = warp->barrier.generation % 2;
	T			result;

	(void) mask;
	memcpy(&warp->value[place][threadIdx.x % 32], &value, sizeof(T));
	emulated_warp_wait();
	memcpy(&result, &warp->value[place][lane & 31], sizeof(T));
	return result;
}

template <typename T>
static inline T
__shfl_xor_sync(unsigned mask, T value, int lanes)
{
	return __shfl_sync(mask, value, (int) (threadIdx.x % 32) ^ lanes);
}

static inline unsigned
__ballot_sync(unsigned mask, int vote)
{
	unsigned	votes = 0;

	for (int lane = 0; lane < 32; lane++)
		votes |= (unsigned) (__shfl_sync(mask, vote, lane) != 0) << lane;
	return votes;
}

static inline int
__ffs(int bits)
{
	return __builtin_ffs(bits);
}

static inline uint32_t
__float_as_uint(float x)
{
	uint32_t	bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

static inline float
__uint_as_float(uint32_t bits)
{
	float		x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

static inline float
__fdividef(float x, float y)
{
	return x / y;
}

#define __expf(x) expf(x)

/* One of the two bfloat16 numbers in a word. */
static inline float
emulated_half(uint32_t word, int which)
{
	return __uint_as_float(which ? word & 0xffff0000u : word << 16);
}

/* mma.m16n8k16 with the fragments of the PTX manual. */
static inline void
emulated_mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
	EmulatedWarp *warp = &emulated_warps[threadIdx.x / 32];
	int			lane = (int) (threadIdx.x % 32);
	unsigned	place = warp->barrier.generation % 2;

	memcpy(warp->a[place][lane], a, sizeof(a));
	memcpy(warp->b[place][lane], b, sizeof(b));
	emulated_warp_wait();
	for (int e = 0; e < 4; e++)
	{
		int			row = lane / 4 + e / 2 * 8;
		int			column = lane % 4 * 2 + e % 2;

		for (int l = 0; l < 16; l++)
		{
			int			holder = l % 8 / 2;
			uint32_t	left = warp->a[place][row % 8 * 4 + holder][l / 8 * 2 + row / 8];
			uint32_t	right = warp->b[place][column * 4 + holder][l / 8];

			c[e] += emulated_half(left, l % 2) * emulated_half(right, l % 2);
		}
	}
}

#define CUDA_MMA(c, a, b) emulated_mma(c, a, b)

/* ---------- the runtime ---------- */

typedef int cudaError_t;
typedef void *cudaStream_t;

enum
{
	cudaSuccess = 0,
	cudaErrorMemoryAllocation = 2,
	cudaErrorNoDevice = 100,
	cudaErrorInvalidDevice = 101,
	cudaErrorInvalidResourceHandle = 400,
	cudaErrorIllegalState = 401,
	cudaErrorNotReady = 600,
	cudaErrorIllegalAddress = 700,
	cudaErrorStreamCaptureUnsupported = 900
};

enum cudaMemcpyKind
{
	cudaMemcpyHostToDevice,
	cudaMemcpyDeviceToHost
};

enum
{
	cudaDevAttrComputeCapabilityMajor,
	cudaDevAttrPageableMemoryAccessUsesHostPageTables,
	cudaStreamNonBlocking
};

static inline cudaError_t
cudaMalloc(void **memory, size_t bytes)
{
	if (emulated_graph != NULL)
		return cudaErrorStreamCaptureUnsupported;
	if (getenv("EMULATED_LOST") != NULL)
		return cudaErrorIllegalAddress;
	*memory = bytes < (size_t) 1 << 40 ? aligned_alloc(256, (bytes + 255) / 256 * 256) : NULL;
	if (*memory != NULL)
		memset(*memory, 0xff, bytes);
	return *memory != NULL ? cudaSuccess : cudaErrorMemoryAllocation;
}

/* EMULATED_FREE: bytes that are left on the device. */
static inline cudaError_t
cudaMemGetInfo(size_t *left, size_t *all)
{
	const char *bytes = getenv("EMULATED_FREE");

	*all = (size_t) 16 << 30;
	*left = bytes != NULL ? strtoull(bytes, NULL, 10) : *all;
	return cudaSuccess;
}

static inline cudaError_t
cudaMallocHost(void **memory, size_t bytes)
{
	*memory = malloc(bytes);
	return *memory != NULL ? cudaSuccess : cudaErrorMemoryAllocation;
}

static inline cudaError_t
cudaFree(void *memory)
{
	free(memory);
	return cudaSuccess;
}

static inline cudaError_t
cudaFreeHost(void *memory)
{
	free(memory);
	return cudaSuccess;
}

static inline cudaError_t
cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
	(void) kind;
	(void) stream;
	if (emulated_graph != NULL)
		return cudaErrorStreamCaptureUnsupported;
	memcpy(to, from, bytes);
	return cudaSuccess;
}

static inline cudaError_t
cudaStreamSynchronize(cudaStream_t stream)
{
	(void) stream;
	return cudaSuccess;
}

static inline cudaError_t
cudaStreamCreateWithFlags(cudaStream_t *stream, int flags)
{
	static EmulatedStream streams[EMULATED_DEVICES_MOST];

	(void) flags;
	streams[emulated_device].device = emulated_device;
	streams[emulated_device].enqueue = emulated_enqueue;
	*stream = &streams[emulated_device];
	return cudaSuccess;
}

static inline cudaError_t
cudaStreamQuery(cudaStream_t stream)
{
	(void) stream;
	return cudaSuccess;
}

static inline cudaError_t
cudaStreamDestroy(cudaStream_t stream)
{
	(void) stream;
	return cudaSuccess;
}

/* ---------- graphs ---------- */

typedef EmulatedGraph *cudaGraph_t;
typedef EmulatedGraph *cudaGraphExec_t;

enum
{
	cudaStreamCaptureModeThreadLocal
};

static inline cudaError_t
cudaStreamBeginCapture(cudaStream_t stream, int mode)
{
	(void) mode;
	if (((const EmulatedStream *) stream)->device != emulated_device || emulated_graph != NULL)
		return cudaErrorIllegalState;
	emulated_graph = new EmulatedGraph();
	emulated_graph->device = emulated_device;
	return cudaSuccess;
}

static inline cudaError_t
cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
	*graph = emulated_graph;
	emulated_graph = NULL;
	return ((const EmulatedStream *) stream)->device == emulated_device && *graph != NULL ? cudaSuccess
		: cudaErrorIllegalState;
}

static inline cudaError_t
cudaGraphInstantiate(cudaGraphExec_t *repeated, cudaGraph_t graph, unsigned long long flags)
{
	(void) flags;
	*repeated = new EmulatedGraph(*graph);
	return cudaSuccess;
}

static inline cudaError_t
cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
	if (((const EmulatedStream *) stream)->device != graph->device || emulated_graph != NULL)
		return cudaErrorInvalidResourceHandle;
	for (const EmulatedWork &work : graph->work)
		work();
	return cudaSuccess;
}

static inline cudaError_t
cudaGraphDestroy(cudaGraph_t graph)
{
	delete graph;
	return cudaSuccess;
}

static inline cudaError_t
cudaGraphExecDestroy(cudaGraphExec_t graph)
{
	delete graph;
	return cudaSuccess;
}

static inline cudaError_t
cudaGetLastError(void)
{
	cudaError_t error = emulated_error;

	emulated_error = cudaSuccess;
	return error;
}

static inline cudaError_t
cudaPeekAtLastError(void)
{
	return emulated_error;
}

static inline const char *
cudaGetErrorString(cudaError_t error)
{
	return error == cudaErrorMemoryAllocation ? "out of memory" : error == cudaErrorNoDevice ? "no device" :
		error == cudaErrorInvalidResourceHandle ? "a stream of another device" : "";
}

static inline cudaError_t
cudaGetDeviceCount(int *count)
{
	const char *devices = getenv("EMULATED_DEVICES");

	*count = devices != NULL ? atoi(devices) : 1;
	return cudaSuccess;
}

static inline cudaError_t
cudaSetDevice(int device)
{
	int			count;

	cudaGetDeviceCount(&count);
	if (device < 0 || device >= count || device >= EMULATED_DEVICES_MOST)
		return cudaErrorInvalidDevice;
	emulated_device = device;
	return cudaSuccess;
}

static inline cudaError_t
cudaDeviceGetAttribute(int *value, int attribute, int device)
{
	(void) device;
	*value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : 0;
	return cudaSuccess;
}

#endif							/* DISTIL_EMULATED_CUDA_RUNTIME_H */
