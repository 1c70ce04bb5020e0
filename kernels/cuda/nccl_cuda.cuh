/*
 * nccl_cuda.cuh
 *		Sums over several GPUs by NCCL, a library that is opened at run time and may be missing.
 *
 * One process, a communicator for each GPU, one thread that asks them all in a group call.  The rule a
 * newcomer would break: where one GPU is lost the others wait for it forever.  So nothing waits for a stream
 * with a sum in it; streams and communicators are asked, and all are aborted when one has failed.
 */
#ifndef DISTIL_NCCL_CUDA_CUH
#define DISTIL_NCCL_CUDA_CUH

#include "cuda_device.cuh"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CUDA_NCCL "libnccl.so.2"
#define CUDA_NCCL_WAIT 20000	/* nanoseconds between two questions */

/* Numbers of the library's binary interface, the same in all releases of version 2. */
#define NCCL_SUCCESS 0
#define NCCL_IN_PROGRESS 7		/* a result */
#define NCCL_FLOAT32 7			/* a type */
#define NCCL_SUM 0				/* an operation */

#if !defined(CUDA_EMULATED) && __has_include(<nccl.h>)
#include <nccl.h>
static_assert((int) ncclSuccess == NCCL_SUCCESS && (int) ncclInProgress == NCCL_IN_PROGRESS &&
			  (int) ncclFloat32 == NCCL_FLOAT32 && (int) ncclSum == NCCL_SUM, "NCCL's interface");
#endif

/* Name, result and arguments; enumerations are int there, a communicator is a pointer. */
#define CUDA_NCCL_FUNCTIONS(F) \
	F(ncclCommInitAll, int, (void **comms, int n, const int *devices)) \
	F(ncclCommDestroy, int, (void *comm)) \
	F(ncclCommAbort, int, (void *comm)) \
	F(ncclCommGetAsyncError, int, (void *comm, int *result)) \
	F(ncclAllReduce, int, (const void *from, void *to, size_t count, int type, int operation, void *comm, \
						   cudaStream_t stream)) \
	F(ncclGroupStart, int, (void)) \
	F(ncclGroupEnd, int, (void)) \
	F(ncclGetErrorString, const char *, (int result))

/* GPUs opened together; freed with the last of them. */
struct CudaGroup
{
	int			n;
	int			open;			/* devices that are not closed */
	CudaDevice *members[DISTIL_MAX_GROUP];
	void	   *comms[DISTIL_MAX_GROUP];	/* NULL: none any more */
#define CUDA_NCCL_MEMBER(name, result, arguments) result (*call_##name) arguments;
	CUDA_NCCL_FUNCTIONS(CUDA_NCCL_MEMBER)
#undef CUDA_NCCL_MEMBER
};

/* All communicators go together: each one's end may wait for the others'. */
static void
cuda_group_end(CudaGroup *group, int (*end) (void *comm))
{
	group->call_ncclGroupStart();
	for (int i = 0; i < group->n; i++)
	{
		if (group->comms[i] != NULL)
			end(group->comms[i]);
		group->comms[i] = NULL;
	}
	group->call_ncclGroupEnd();
}

/* All devices have failed, whatever is running. */
static void
cuda_group_fail(CudaGroup *group, const char *what, const char *reason)
{
	for (int i = 0; i < group->n; i++)
	{
		CudaDevice *member = group->members[i];

		if (member->failure[0] == '\0')
			snprintf(member->failure, sizeof(member->failure), "%s: %s", what, reason);
	}
	cuda_group_end(group, group->call_ncclCommAbort);
}

/* Returns when the sum is there on all devices, or has failed. */
static void
cuda_group_wait(CudaGroup *group)
{
	static const struct timespec pause = {0, CUDA_NCCL_WAIT};
	bool		waiting = true;

	while (waiting)
	{
		waiting = false;
		for (int i = 0; i < group->n; i++)
		{
			int			state = NCCL_SUCCESS;
			cudaError_t error = cudaStreamQuery(group->members[i]->stream);

			if (error == cudaErrorNotReady)
			{
				waiting = true;
				(void) cudaGetLastError();
			}
			else if (error != cudaSuccess)
			{
				cuda_group_fail(group, "a GPU of the group was lost", cudaGetErrorString(error));
				return;
			}
			if (group->call_ncclCommGetAsyncError(group->comms[i], &state) != NCCL_SUCCESS ||
				(state != NCCL_SUCCESS && state != NCCL_IN_PROGRESS))
			{
				cuda_group_fail(group, "NCCL", group->call_ncclGetErrorString(state));
				return;
			}
		}
		if (waiting)
			nanosleep(&pause, NULL);
	}
}

/* May all of them take part? */
static bool
cuda_group_ready(CudaGroup *group, int n)
{
	if (n != group->n)
	{
		cuda_group_fail(group, "NCCL", "a sum over the GPUs of a group was not given all of them");
		return false;
	}
	for (int i = 0; i < group->n; i++)
		if (group->members[i]->failure[0] != '\0' || group->comms[i] == NULL)
		{
			cuda_group_fail(group, "NCCL", "another GPU of the group has failed");
			return false;
		}
	return true;
}

/* The library may start threads: signals stay with the host's. */
static void
cuda_all_sum(DistilDevice *dev, float *const *x, int n, size_t count)
{
	CudaGroup  *group = cuda_device(dev)->group;
	sigset_t	all;
	sigset_t	old;
	int			result;

	if (!cuda_group_ready(group, n))
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	result = group->call_ncclGroupStart();
	if (result == NCCL_SUCCESS)
	{
		int			end;

		for (int i = 0; i < n && result == NCCL_SUCCESS; i++)
			result = group->call_ncclAllReduce(x[i], x[i], count, NCCL_FLOAT32, NCCL_SUM, group->comms[i],
											   group->members[i]->stream);
		end = group->call_ncclGroupEnd();
		result = result != NCCL_SUCCESS ? result : end;
	}
	if (result == NCCL_SUCCESS)
		cuda_group_wait(group);
	else
		cuda_group_fail(group, "ncclAllReduce", group->call_ncclGetErrorString(result));
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* ---------- opening ---------- */

static bool
cuda_group_load(CudaGroup *group, char *message, size_t message_size)
{
	void	   *library = dlopen(CUDA_NCCL, RTLD_NOW | RTLD_LOCAL);

	if (library == NULL)
	{
		snprintf(message, message_size, "several GPUs need NCCL: %s", dlerror());
		return false;
	}
#define CUDA_NCCL_LOAD(name, result, arguments) \
	*(void **) &group->call_##name = dlsym(library, #name); \
	if (group->call_##name == NULL) \
	{ \
		snprintf(message, message_size, CUDA_NCCL " has no function " #name); \
		return false; \
	}
	CUDA_NCCL_FUNCTIONS(CUDA_NCCL_LOAD)
#undef CUDA_NCCL_LOAD
	return true;
}

/* The devices are numbered 0 .. n - 1 and opened; false with none of them in a group. */
static bool
cuda_group_open(DistilDevice *const *devices, int n, char *message, size_t message_size)
{
	int			numbers[DISTIL_MAX_GROUP];
	CudaGroup  *group;
	void	   *memory;
	int			result;

	if (cudaMallocHost(&memory, sizeof(CudaGroup)) != cudaSuccess)
	{
		snprintf(message, message_size, "out of memory opening the cuda backend");
		return false;
	}
	memset(memory, 0, sizeof(CudaGroup));
	group = (CudaGroup *) memory;
	group->n = group->open = n;
	for (int i = 0; i < n; i++)
	{
		group->members[i] = cuda_device(devices[i]);
		numbers[i] = group->members[i]->number;
	}
	if (cuda_group_load(group, message, message_size))
	{
		result = group->call_ncclCommInitAll(group->comms, n, numbers);
		if (result == NCCL_SUCCESS)
		{
			for (int i = 0; i < n; i++)
				group->members[i]->group = group;
			return true;
		}
		snprintf(message, message_size, "ncclCommInitAll: %s", group->call_ncclGetErrorString(result));
	}
	cudaFreeHost(group);
	return false;
}

/* The first device that is closed takes all communicators with it. */
static void
cuda_group_leave(CudaDevice *cuda)
{
	CudaGroup  *group = cuda->group;

	if (group != NULL)
		cuda_group_end(group, group->call_ncclCommDestroy);
	if (group != NULL && --group->open == 0)
		cudaFreeHost(group);
	cuda->group = NULL;
}

#endif							/* DISTIL_NCCL_CUDA_CUH */
