/*
 * module_cuda.cu
 *		The CUDA backend as a module: its table of operations, its device, its one entry.
 *
 * distil_cuda.so is opened by kernels/cuda_module.c when the first device "cuda" is asked for, in a process
 * that will not fork.  It shows distil_cuda_check, distil_cuda_open and distil_cuda_open_group, and needs the
 * driver, nothing else.
 * Operations are queued on one stream; copy_out waits for it, and a failure shows there.
 */
#include "embedding_cuda.cuh"
#include "graph_cuda.cuh"
#include "half_cuda.cuh"
#include "nccl_cuda.cuh"
#include "pool_cuda.cuh"

#include <dlfcn.h>
#include <time.h>

/* Work of a call, see DISTIL_UNIT_FLOPS: under a millisecond. */
#define CUDA_UNITS 512
#define CUDA_SPIN 0.0005		/* seconds of waiting at full speed */
#define CUDA_PAUSE 20000		/* nanoseconds between looks afterwards */

static void
cuda_note(CudaDevice *cuda, cudaError_t error, const char *what)
{
	if (error != cudaSuccess && cuda->noting)
		cuda->unrepeatable = true;
	else if (error != cudaSuccess && cuda->failure[0] == '\0')
		snprintf(cuda->failure, sizeof(cuda->failure), "%s: %s", what, cudaGetErrorString(error));
}

static const char *
cuda_failure(DistilDevice *dev)
{
	return cuda_device(dev)->failure[0] != '\0' ? cuda_device(dev)->failure : NULL;
}

/* ---------- memory ---------- */

/*
 * Memory that is left to the driver: the code of a kernel is loaded when it first runs, and graphs need some.
 * Without it a launch would fail where an allocation can still be refused.
 */
static bool
cuda_leaves_reserve(void)
{
	size_t		left = 0;
	size_t		all = 0;

	return cudaMemGetInfo(&left, &all) == cudaSuccess &&
		left >= (all / 16 < CUDA_RESERVE ? all / 16 : CUDA_RESERVE);
}

static void *
cuda_alloc(DistilDevice *dev, size_t bytes)
{
	CudaDevice *cuda = cuda_device(dev);
	CudaBlock  *block = &cuda->blocks[cuda->nblocks];
	cudaError_t error;

	if (cuda->nblocks == CUDA_BLOCKS || bytes > SIZE_MAX / 2 ||
		(cuda->limit > 0 && cuda->used + bytes > cuda->limit))
		return NULL;
	cuda_use(cuda);
	error = cudaMalloc(&block->address, bytes > 0 ? bytes : 1);
	if (error == cudaSuccess && !cuda_leaves_reserve())
	{
		cuda_note(cuda, cudaFree(block->address), "cudaFree");
		error = cudaErrorMemoryAllocation;
	}
	if (error != cudaSuccess)
	{
		(void) cudaGetLastError();
		if (error != cudaErrorMemoryAllocation)
			cuda_note(cuda, error, "cudaMalloc");
		return NULL;
	}
	block->bytes = bytes;
	cuda->used += bytes;
	cuda->nblocks++;
	return block->address;
}

static void
cuda_release(DistilDevice *dev, void *memory)
{
	CudaDevice *cuda = cuda_device(dev);

	for (int i = 0; i < cuda->nblocks && memory != NULL; i++)
		if (cuda->blocks[i].address == memory)
		{
			cuda_note(cuda, cudaFree(memory), "cudaFree");
			cuda->used -= cuda->blocks[i].bytes;
			cuda->blocks[i] = cuda->blocks[--cuda->nblocks];
			return;
		}
}

static void
cuda_limit_memory(DistilDevice *dev, size_t bytes)
{
	cuda_device(dev)->limit = bytes;
}

/* Returns when `host` may be used again. */
static void
cuda_copy_in(DistilDevice *dev, void *device, const void *host, size_t bytes)
{
	CudaDevice *cuda = cuda_device(dev);

	if (bytes > 0 && cuda_may_copy(cuda))
	{
		cuda_note(cuda, cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, cuda->stream),
				  "copy in");
		if (cuda->reads_host)
			cuda_note(cuda, cudaStreamSynchronize(cuda->stream), "copy in");
	}
}

static double
cuda_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
}

/* Waits for all that is queued; after a while without a core of its own, which the runtime would keep. */
static void
cuda_wait(CudaDevice *cuda)
{
	static const struct timespec pause = {0, CUDA_PAUSE};
	double		start = cuda_clock();

	while (cudaStreamQuery(cuda->stream) == cudaErrorNotReady)
		if (cuda_clock() - start > CUDA_SPIN)
			nanosleep(&pause, NULL);
	(void) cudaGetLastError();
}

static void
cuda_copy_out(DistilDevice *dev, void *host, const void *device, size_t bytes)
{
	CudaDevice *cuda = cuda_device(dev);

	if (bytes == 0 || !cuda_may_copy(cuda))
		return;
	cuda_wait(cuda);
	cuda_note(cuda, cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, cuda->stream), "copy out");
	cuda_note(cuda, cudaStreamSynchronize(cuda->stream), "the work before a copy");
}

/* ---------- the device ---------- */

static void
cuda_close(DistilDevice *dev)
{
	CudaDevice *cuda = cuda_device(dev);

	if (dev == NULL)
		return;
	cuda_use(cuda);
	cudaStreamSynchronize(cuda->stream);
	cuda_group_leave(cuda);
	cuda_blas_close(cuda);
	while (cuda->nblocks > 0)
		cudaFree(cuda->blocks[--cuda->nblocks].address);
	cudaFree(cuda->scratch);
	cudaStreamDestroy(cuda->stream);
	cudaFreeHost(cuda);
}

static bool cuda_round_products(DistilDevice *dev, DistilType type);

static DistilKernels
cuda_table(const DistilHalfKernels *half, bool group)
{
	DistilKernels ops = {};

	ops.name = "cuda";
	ops.own_memory = true;
	ops.units = CUDA_UNITS;
	ops.failure = cuda_failure;
	ops.alloc = cuda_alloc;
	ops.release = cuda_release;
	ops.limit_memory = cuda_limit_memory;
	ops.copy_in = cuda_copy_in;
	ops.copy_out = cuda_copy_out;
	ops.close = cuda_close;
	ops.all_sum = group ? cuda_all_sum : NULL;
	ops.graph_begin = cuda_graph_begin;
	ops.graph_end = cuda_graph_end;
	ops.graph_run = cuda_graph_run;
	ops.graph_free = cuda_graph_free;
	ops.zero = cuda_zero;
	ops.axpy = cuda_axpy;
	ops.sum_squares = cuda_sum_squares;
	ops.count_nonfinite = cuda_count_nonfinite;
	ops.linear_forward = cuda_linear_forward;
	ops.linear_backward_input = cuda_linear_backward_input;
	ops.linear_backward_weight = cuda_linear_backward_weight;
	ops.round_products = cuda_round_products;
	ops.activation_forward = cuda_activation_forward;
	ops.activation_backward = cuda_activation_backward;
	ops.dropout = cuda_dropout;
	ops.layernorm_forward = cuda_layernorm_forward;
	ops.layernorm_backward = cuda_layernorm_backward;
	ops.embedding_forward = cuda_embedding_forward;
	ops.embedding_backward = cuda_embedding_backward;
	ops.attention_forward = cuda_attention_forward<float>;
	ops.attention_backward = cuda_attention_backward<float>;
	ops.pool_forward = cuda_pool_forward;
	ops.pool_backward = cuda_pool_backward;
	ops.normalize_forward = cuda_normalize_forward;
	ops.normalize_backward = cuda_normalize_backward;
	ops.gather_rows = cuda_gather_rows;
	ops.scatter_add_rows = cuda_scatter_add_rows;
	ops.mse_loss = cuda_mse_loss;
	ops.cosine_loss = cuda_cosine_loss;
	ops.logits_loss = cuda_logits_loss;
	ops.adamw = cuda_adamw;
	ops.half = half;
	return ops;
}

/*
 * Its operations by precision, and by whether it has company: activations in
 * bfloat16 belong to products of bfloat16.
 */
static void
cuda_set_precision(CudaDevice *cuda, CudaPrecision precision)
{
	static const DistilHalfKernels half = cuda_half_table();
	static const DistilKernels ops[2][2] = {{cuda_table(NULL, false), cuda_table(&half, false)},
	{cuda_table(NULL, true), cuda_table(&half, true)}};

	cuda->precision = precision;
	cuda->base.ops = &ops[cuda->group != NULL][precision == CUDA_BF16];
}

/* A device that was opened with another precision keeps it. */
static bool
cuda_round_products(DistilDevice *dev, DistilType type)
{
	CudaDevice *cuda = cuda_device(dev);

	if (type == DISTIL_TYPE_INT8 || (type == DISTIL_TYPE_BF16 && !cuda->rounds))
		return false;
	if (cuda->rounds)
		cuda_set_precision(cuda, type == DISTIL_TYPE_BF16 ? CUDA_BF16 : CUDA_FLOAT32);
	return true;
}

static bool
cuda_choose_precision(CudaPrecision *precision, const char *name)
{
	static const struct
	{
		const char *name;
		CudaPrecision precision;
	}			names[] = {{"auto", CUDA_BF16}, {"bf16", CUDA_BF16}, {"tf32", CUDA_TF32},
	{"float32", CUDA_FLOAT32}};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i].name) == 0)
		{
			*precision = names[i].precision;
			return true;
		}
	return false;
}

/* distil_cuda_check: is this module made for who asks, and is there a driver? */
extern "C" __attribute__((visibility("default"))) bool
distil_cuda_check(size_t table_size, char *message, size_t message_size)
{
	if (table_size != sizeof(DistilKernels))
	{
		snprintf(message, message_size, "distil_cuda.so belongs to another version of distil");
		return false;
	}
#ifndef CUDA_EMULATED
	if (dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) == NULL)
	{
		snprintf(message, message_size, "the NVIDIA driver is missing: %s", dlerror());
		return false;
	}
#endif
	return true;
}

/* A device of the driver, if it is there and one this module has code for. */
static cudaError_t
cuda_choose_device(int number, char *message, size_t message_size)
{
	int			major = 0;
	int			count = 0;
	cudaError_t error = cudaGetDeviceCount(&count);

	if (error == cudaSuccess && count > 0 && number >= count)
	{
		snprintf(message, message_size, "there are not so many GPUs: only %d", count);
		return cudaErrorNoDevice;
	}
	if (error == cudaSuccess && count == 0)
		error = cudaErrorNoDevice;
	if (error == cudaSuccess)
		error = cudaSetDevice(number);
	if (error == cudaSuccess)
		error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, number);
	if (error == cudaSuccess && major < 8)
	{
		snprintf(message, message_size, "the GPU has compute capability %d, 8 or more is needed", major);
		return cudaErrorNoDevice;
	}
	if (error != cudaSuccess)
		snprintf(message, message_size, "no CUDA device can be used: %s", cudaGetErrorString(error));
	return error;
}

static DistilDevice *
cuda_try_open(int number, size_t table_size, const char *precision, char *message, size_t message_size)
{
	CudaPrecision chosen;
	CudaDevice *cuda;
	void	   *memory;
	int			reads_host = 0;

	if (!distil_cuda_check(table_size, message, message_size))
		return NULL;
	if (!cuda_choose_precision(&chosen, precision))
	{
		snprintf(message, message_size, "the cuda backend has no precision \"%.40s\"", precision);
		return NULL;
	}
	if (cuda_choose_device(number, message, message_size) != cudaSuccess)
		return NULL;
	if (cudaDeviceGetAttribute(&reads_host, cudaDevAttrPageableMemoryAccessUsesHostPageTables,
							   number) != cudaSuccess)
		reads_host = 1;
	if (cudaMallocHost(&memory, sizeof(CudaDevice)) != cudaSuccess)
	{
		snprintf(message, message_size, DISTIL_NO_MEMORY " opening the cuda backend");
		return NULL;
	}
	memset(memory, 0, sizeof(CudaDevice));
	cuda = (CudaDevice *) memory;
	cuda->number = number;
	cuda->reads_host = reads_host != 0;
	cuda_set_precision(cuda, chosen);
	cuda->rounds = chosen == CUDA_BF16;
	if (cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking) != cudaSuccess ||
		cudaMalloc((void **) &cuda->scratch, CUDA_SCRATCH) != cudaSuccess)
	{
		snprintf(message, message_size, DISTIL_NO_MEMORY " opening the cuda backend");
		cuda_close(&cuda->base);
		return NULL;
	}
	cuda_blas_open(cuda);
	if (chosen == CUDA_TF32 && cuda->blas == NULL)
	{
		snprintf(message, message_size, "precision \"tf32\" needs libcublasLt.so.13 or .12");
		cuda_close(&cuda->base);
		return NULL;
	}
	return &cuda->base;
}

/* What went wrong is told here: the runtime's own note of it would meet the next launch. */
static DistilDevice *
cuda_open(int number, size_t table_size, const char *precision, char *message, size_t message_size)
{
	DistilDevice *dev = cuda_try_open(number, table_size, precision, message, message_size);

	if (dev == NULL)
		(void) cudaGetLastError();
	return dev;
}

/*
 * The module's entries: table_size is sizeof(DistilKernels) of who asks, precision "auto" (bf16), "bf16",
 * "tf32" or "float32".  NULL on failure, with a message.
 */
extern "C" __attribute__((visibility("default"))) DistilDevice *
distil_cuda_open(size_t table_size, const char *precision, char *message, size_t message_size)
{
	return cuda_open(0, table_size, precision, message, message_size);
}

/* The first n GPUs together, see distil_device_open_group.  false with none of them open. */
extern "C" __attribute__((visibility("default"))) bool
distil_cuda_open_group(size_t table_size, const char *precision, DistilDevice **devices, int n, char *message,
					   size_t message_size)
{
	int			open = 0;

	while (open < n &&
		   (devices[open] = cuda_open(open, table_size, precision, message, message_size)) != NULL)
		open++;
	if (open == n && cuda_group_open(devices, n, message, message_size))
	{
		for (int i = 0; i < n; i++)
			cuda_set_precision(cuda_device(devices[i]), cuda_device(devices[i])->precision);
		return true;
	}
	while (open > 0)
		cuda_close(devices[--open]);
	(void) cudaGetLastError();
	return false;
}
