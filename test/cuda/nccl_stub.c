/*
 * nccl_stub.c
 *		NCCL played by plain C over the emulated devices of cuda_runtime.h: the functions that the CUDA
 *		backend uses, as strict as the real ones must not be relied upon to be.
 *
 * A sum is asked for inside a group call, once by each communicator, all with the same length, type and
 * operation, on a stream of the communicator's device; anything else is a result the caller has to handle.
 */
#include "emulated_stream.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum
{
	SUCCESS = 0,
	INVALID_ARGUMENT = 4,
	INVALID_USAGE = 5,
	REMOTE_ERROR = 6,
	FLOAT32 = 7,
	SUM = 0,
	RANKS = 16
};

typedef struct Comm
{
	int			device;
	int			rank;
	bool		live;
	const float *from;
	float	   *to;
	size_t		count;
} Comm;

static Comm comms[RANKS];
static int	ranks;
static int	depth;				/* of group calls */
static int	asked;

#pragma GCC visibility push(default)

/* What the test looks at, and the function that is to fail from now on. */
int			nccl_stub_live = 0;
int			nccl_stub_sums = 0;
const char *nccl_stub_failing = "";

extern int	ncclCommInitAll(Comm **comm, int n, const int *devices);
extern int	ncclCommDestroy(Comm *comm);
extern int	ncclCommAbort(Comm *comm);
extern int	ncclCommGetAsyncError(const Comm *comm, int *result);
extern int	ncclAllReduce(const void *from, void *to, size_t count, int type, int operation, Comm *comm,
						  void *stream);
extern int	ncclGroupStart(void);
extern int	ncclGroupEnd(void);
extern const char *ncclGetErrorString(int result);

#pragma GCC visibility pop

static bool
fails(const char *function)
{
	return strcmp(nccl_stub_failing, function) == 0;
}

int
ncclCommInitAll(Comm **comm, int n, const int *devices)
{
	int			i;

	if (n < 1 || n > RANKS || nccl_stub_live != 0)
		return INVALID_ARGUMENT;
	if (fails("ncclCommInitAll"))
		return REMOTE_ERROR;
	memset(comms, 0, sizeof(comms));
	for (i = 0; i < n; i++)
	{
		comms[i].device = devices[i];
		comms[i].rank = i;
		comms[i].live = true;
		comm[i] = &comms[i];
	}
	ranks = nccl_stub_live = n;
	return SUCCESS;
}

static int
leave(Comm *comm)
{
	if (depth == 0)
		return INVALID_USAGE;
	if (comm == NULL || !comm->live)
		return INVALID_ARGUMENT;
	comm->live = false;
	nccl_stub_live--;
	return SUCCESS;
}

int
ncclCommDestroy(Comm *comm)
{
	return leave(comm);
}

int
ncclCommAbort(Comm *comm)
{
	return leave(comm);
}

int
ncclCommGetAsyncError(const Comm *comm, int *result)
{
	if (!comm->live)
		return INVALID_ARGUMENT;
	*result = fails("ncclCommGetAsyncError") && comm->rank == ranks - 1 ? REMOTE_ERROR : SUCCESS;
	return SUCCESS;
}

int
ncclAllReduce(const void *from, void *to, size_t count, int type, int operation, Comm *comm, void *stream)
{
	if (fails("ncclAllReduce"))
		return REMOTE_ERROR;
	if (depth == 0 || comm->to != NULL)
		return INVALID_USAGE;
	if (!comm->live || type != FLOAT32 || operation != SUM ||
		((const EmulatedStream *) stream)->device != comm->device || (asked > 0 && count != comms[0].count))
		return INVALID_ARGUMENT;
	comm->from = from;
	comm->to = to;
	comm->count = count;
	asked++;
	return SUCCESS;
}

int
ncclGroupStart(void)
{
	depth++;
	return SUCCESS;
}

/* The real one would wait for whoever was not asked. */
int
ncclGroupEnd(void)
{
	int			wanted = asked;
	size_t		i;
	int			r;

	if (--depth != 0)
		return INVALID_USAGE;
	asked = 0;
	for (i = 0; wanted == ranks && i < comms[0].count; i++)
	{
		float		sum = comms[0].from[i];

		for (r = 1; r < ranks; r++)
			sum += comms[r].from[i];
		for (r = 0; r < ranks; r++)
			comms[r].to[i] = sum;
	}
	for (r = 0; r < ranks; r++)
		comms[r].to = NULL;
	nccl_stub_sums += wanted == ranks;
	return wanted == ranks || wanted == 0 ? SUCCESS : INVALID_USAGE;
}

const char *
ncclGetErrorString(int result)
{
	return result == REMOTE_ERROR ? "remote process exited or there was a network error" :
		result == INVALID_USAGE ? "invalid usage" : result == INVALID_ARGUMENT ? "invalid argument"
			: "no error";
}
