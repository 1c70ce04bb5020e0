/*
 * gpu_client.c
 *		A backend's side of the GPU service: finding or starting it, asking it, doing without it.
 *
 * The connection is kept to the end of the transaction.  The service is not asked whether the user may use
 * the model: that was done when the model was looked up, in this backend.
 *
 * The rule a newcomer would break: ask_service() is called by the engine, so it must not throw, nor give the
 * warning that the CPU has to do the work: that waits for distil_gpu_end().
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "bridge.h"
#include "gpu_client.h"
#include "gpu_protocol.h"
#include "guc.h"

/* Milliseconds that a service may take to answer for the first time. */
#define START_MS 30000
/* Between two looks whether it is there. */
#define LOOK_MS 10
/* Workers registered before giving up. */
#define STARTS 3
/* Milliseconds that a session under auto stays on the CPU after a failure. */
#define REST_MS 60000

static pgsocket connection = PGINVALID_SOCKET;

/* Why the GPU cannot be used; message empty: it can. */
static DistilError failure;
static TimestampTz rest_until = 0;

/* ---------- the connection ---------- */

static void
disconnect(void)
{
	if (connection == PGINVALID_SOCKET)
		return;
	close(connection);
	ReleaseExternalFD();
	connection = PGINVALID_SOCKET;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	(void) arg;
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE ||
		event == XACT_EVENT_PARALLEL_COMMIT || event == XACT_EVENT_PARALLEL_ABORT)
		disconnect();
}

/* false with errno; the service may still be busy with its start. */
static bool
connect_socket(void)
{
	static bool registered = false;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int			saved;

	if (!registered)
		RegisterXactCallback(at_transaction_end, NULL);
	registered = true;
	strlcpy(address.sun_path, DISTIL_GPU_SOCKET, sizeof(address.sun_path));
	connection = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connection == PGINVALID_SOCKET)
		return false;
	ReserveExternalFD();
	if (connect(connection, (struct sockaddr *) &address, sizeof(address)) == 0)
		return true;
	saved = errno;
	disconnect();
	errno = saved;
	return false;
}

/* Has a connection of before been closed by the other side? */
static bool
still_connected(void)
{
	char		byte;

	return recv(connection, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
		(errno == EAGAIN || errno == EWOULDBLOCK);
}

typedef enum Talk
{
	TALK_DONE,
	TALK_CLOSED,				/* by the other side */
	TALK_LATE,					/* the time is over */
	TALK_STOPPED				/* a cancel */
} Talk;

/* Wait for the socket, an interrupt, or with WL_TIMEOUT for so many milliseconds; never throws. */
static Talk
wait_socket(const int events, const long timeout)
{
	MemoryContext context = CurrentMemoryContext;
	volatile Talk talk = TALK_DONE;

	PG_TRY();
	{
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | events, connection, timeout,
								 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		distil_bridge_save_error();
		talk = TALK_STOPPED;
	}
	PG_END_TRY();
	if (distil_bridge_poll()->stop(distil_bridge_poll()->ctx))
		talk = TALK_STOPPED;
	return talk;
}

/* Send or receive all of it; deadline 0: none. */
static Talk
transfer(void *data, size_t bytes, bool sending, TimestampTz deadline)
{
	char	   *at = data;

	while (bytes > 0)
	{
		ssize_t		n = sending ? send(connection, at, bytes, MSG_NOSIGNAL) : recv(connection, at, bytes, 0);
		int			events = sending ? WL_SOCKET_WRITEABLE : WL_SOCKET_READABLE;
		long		timeout = -1;
		Talk		talk;

		if (n > 0)
		{
			at += n;
			bytes -= (size_t) n;
			continue;
		}
		if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
			return TALK_CLOSED;
		if (deadline != 0)
		{
			events |= WL_TIMEOUT;
			timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
			if (timeout == 0)
				return TALK_LATE;
		}
		talk = wait_socket(events, timeout);
		if (talk != TALK_DONE)
			return talk;
	}
	return TALK_DONE;
}

static Talk
send_header(DistilGpuKind kind, uint64 length)
{
	DistilGpuHeader header = {DISTIL_GPU_MAGIC, kind, length};

	return transfer(&header, sizeof(header), true, 0);
}

/* An answer's header; a kind and a length that nobody expects are as good as a closed connection. */
static Talk
read_header(DistilGpuHeader *header, DistilGpuKind kind, uint64 length, TimestampTz deadline)
{
	Talk		talk = transfer(header, sizeof(*header), false, deadline);

	if (talk != TALK_DONE)
		return talk;
	if (header->magic == DISTIL_GPU_MAGIC &&
		((header->kind == kind && header->length == length) ||
		 (header->kind == DISTIL_GPU_ERROR && header->length == sizeof(DistilGpuError))))
		return TALK_DONE;
	return TALK_CLOSED;
}

/* ---------- failures ---------- */

static void
set_failure(const char *what, const char *detail, const char *hint)
{
	snprintf(failure.message, sizeof(failure.message), "device \"cuda\" %s", what);
	strlcpy(failure.detail, detail, sizeof(failure.detail));
	strlcpy(failure.hint, hint, sizeof(failure.hint));
}

/* Under auto: the CPU does it, for a while, with a warning to be given later. */
static bool
may_go_on(void)
{
	if (distil_device == DISTIL_DEVICE_CUDA)
		return false;
	rest_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), REST_MS);
	return true;
}

static void
warn_once(void)
{
	static bool warned = false;

	if (!warned)
	{
		warned = true;			/* first: the warning itself may be cancelled */
		ereport(WARNING,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("%s: embeddings are computed on the CPU", failure.message),
				 failure.detail[0] != '\0' ? errdetail_internal("%s", failure.detail) : 0,
				 failure.hint[0] != '\0' ? errhint("%s", failure.hint) : 0));
	}
	failure.message[0] = '\0';
}

bool
distil_gpu_wanted(void)
{
	static int	available = -1;
	char		message[400];

	if (distil_device != DISTIL_DEVICE_AUTO)
		return distil_device == DISTIL_DEVICE_CUDA;
	if (rest_until != 0 && GetCurrentTimestamp() < rest_until)
		return false;
	if (distil_standin_device)
		return true;
	if (available < 0)
		available = distil_cuda_available(message, sizeof(message)) ? 1 : 0;
	return available == 1;
}

/* ---------- finding and starting ---------- */

static BackgroundWorkerHandle *
start_worker(void)
{
	BackgroundWorkerHandle *handle = NULL;
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "distil");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "distil_gpu_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "distil GPU service");
	snprintf(worker.bgw_type, BGW_MAXLEN, "distil GPU service");
	worker.bgw_notify_pid = MyProcPid;
	return RegisterDynamicBackgroundWorker(&worker, &handle) ? handle : NULL;
}

static void
pause_to_look(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Outside of the engine a wait that was stopped is an error at once. */
static void
throw_stopped(Talk talk)
{
	static const DistilError err = {"the wait for the GPU service was cancelled", "", ""};

	if (talk == TALK_STOPPED)
		distil_bridge_check(DISTIL_ERR_CANCELLED, &err);
}

/* Is the service there, and says hello?  Where others are waiting to be let in, so does this backend. */
static bool
greet(TimestampTz deadline)
{
	DistilGpuHeader header;
	Talk		talk;

	while (!connect_socket())
	{
		if ((errno != EAGAIN && errno != EWOULDBLOCK) || GetCurrentTimestamp() >= deadline)
			return false;
		pause_to_look();
	}
	talk = read_header(&header, DISTIL_GPU_HELLO, 0, deadline);
	if (talk != TALK_DONE)
		disconnect();
	throw_stopped(talk);
	return talk == TALK_DONE;
}

/* A search for the service. */
typedef struct Search
{
	TimestampTz deadline;
	int			file;			/* who has locked it may start a worker, one backend at a time */
	bool		may_start;
	BackgroundWorkerHandle *handle;
	int			starts;
} Search;

/* After a moment, with a worker on its way if this backend is to start it; false: failure says why not. */
static bool
look_again(Search *search)
{
	pid_t		pid;

	if (GetCurrentTimestamp() >= search->deadline)
	{
		set_failure("is not available", "The GPU service does not answer.",
					"The server log may tell why; distil.device may be set to \"auto\" or \"cpu\".");
		return false;
	}
	if (!search->may_start)
		search->may_start = flock(search->file, LOCK_EX | LOCK_NB) == 0;
	if (search->may_start &&
		(search->handle == NULL || GetBackgroundWorkerPid(search->handle, &pid) == BGWH_STOPPED))
	{
		if (search->starts++ == STARTS)
		{
			set_failure("is not available", "The GPU service does not start.",
						"The server log tells why; distil.device may be set to \"auto\" or \"cpu\".");
			return false;
		}
		search->handle = start_worker();
		if (search->handle == NULL)
		{
			set_failure("is not available", "There is no free worker slot for the GPU service.",
						"Consider increasing max_worker_processes, or set distil.device to \"cpu\".");
			return false;
		}
	}
	pause_to_look();
	return true;
}

/* true: connected; otherwise failure says why not. */
static bool
find_service(void)
{
	Search		search = {0};
	bool		found = false;

	if (connection != PGINVALID_SOCKET && still_connected())
		return true;
	disconnect();
	search.deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), START_MS);
	if (greet(search.deadline))
		return true;
	distil_cache_directory();
	search.file = OpenTransientFile(DISTIL_GPU_START, O_RDWR | O_CREAT | O_NOFOLLOW | PG_BINARY);
	if (search.file < 0)
	{
		set_failure("is not available", "A file in the data directory cannot be opened.",
					"Look after directory \"" DISTIL_CACHE_DIR "\".");
		return false;
	}
	while (!found && look_again(&search))
		found = greet(search.deadline);
	CloseTransientFile(search.file);	/* an error closes it too */
	return found;
}

/* ---------- requests ---------- */

static DistilStatus
copy_failure(DistilStatus status, DistilError *err)
{
	*err = failure;
	failure.message[0] = '\0';
	return status;
}

/* The service has ended, or says things that it cannot say. */
static DistilStatus
service_failed(bool *done, DistilError *err)
{
	disconnect();
	set_failure("has failed", "The GPU service ended before it answered.",
				"The server log may tell why; try again, or set distil.device to \"auto\" or \"cpu\".");
	*done = false;
	return may_go_on() ? DISTIL_OK : copy_failure(DISTIL_ERR_DEVICE, err);
}

static DistilStatus
read_error(bool *done, DistilError *err)
{
	DistilGpuError answer;
	Talk		talk = transfer(&answer, sizeof(answer), false, 0);

	if (talk == TALK_STOPPED)
	{
		disconnect();
		return DISTIL_ERR_CANCELLED;
	}
	if (talk != TALK_DONE || answer.status <= DISTIL_OK || answer.status > DISTIL_ERR_STATE)
		return service_failed(done, err);
	answer.err.message[sizeof(answer.err.message) - 1] = '\0';
	answer.err.detail[sizeof(answer.err.detail) - 1] = '\0';
	answer.err.hint[sizeof(answer.err.hint) - 1] = '\0';
	failure = answer.err;
	*done = false;
	if ((answer.status == DISTIL_ERR_DEVICE || answer.status == DISTIL_ERR_MEMORY ||
		 answer.status == DISTIL_ERR_NO_FILE) && may_go_on())
		return DISTIL_OK;
	return copy_failure(answer.status, err);
}

/* A DistilRemote's embed; ctx is the open model. */
static DistilStatus
ask_service(void *ctx, float *out, const int32_t *ids, const int32_t *offsets, int n, int skip, bool *done,
			DistilError *err)
{
	const DistilOpenModel *open = ctx;
	DistilGpuEmbed request = {.n = n, .dimensions = open->info->dimensions};
	uint64		length = sizeof(request) + sizeof(int32_t) * ((uint64) n + 1 + (uint64) offsets[n]);
	uint64		bytes = sizeof(float) * (uint64) n * (uint64) open->info->dimensions;
	DistilGpuHeader header;
	Talk		talk;

	*done = false;
	if (connection == PGINVALID_SOCKET || length > DISTIL_GPU_MAX_REQUEST)
		return DISTIL_OK;		/* it has failed in this call already */
	memcpy(request.key.sha256, open->sha256, sizeof(request.key.sha256));
	strlcpy(request.key.layout, open->layout, sizeof(request.key.layout));
	request.key.precision = distil_precision;
	request.key.skip = skip;
	talk = send_header(DISTIL_GPU_EMBED, length);
	if (talk == TALK_DONE)
		talk = transfer(&request, sizeof(request), true, 0);
	if (talk == TALK_DONE)
		talk = transfer((void *) offsets, sizeof(int32_t) * ((size_t) n + 1), true, 0);
	if (talk == TALK_DONE)
		talk = transfer((void *) ids, sizeof(int32_t) * (size_t) offsets[n], true, 0);
	if (talk == TALK_DONE)
		talk = read_header(&header, DISTIL_GPU_VECTORS, bytes, 0);
	if (talk == TALK_DONE && header.kind == DISTIL_GPU_ERROR)
		return read_error(done, err);
	if (talk == TALK_DONE)
		talk = transfer(out, bytes, false, 0);
	if (talk == TALK_STOPPED)
	{
		disconnect();			/* which tells the service */
		return DISTIL_ERR_CANCELLED;
	}
	if (talk != TALK_DONE)
		return service_failed(done, err);
	*done = true;
	return DISTIL_OK;
}

/* One session at a time asks. */
static DistilRemote remote = {ask_service, NULL};

bool
distil_gpu_begin(DistilOpenModel *open)
{
	if (!distil_gpu_wanted())
		return false;
	/* Opened for the CPU while the GPU had its rest. */
	if (distil_device == DISTIL_DEVICE_AUTO &&
		strcmp(open->layout, distil_image_layout(DISTIL_PRECISION_FLOAT32, NULL)) != 0 &&
		strcmp(open->layout, distil_quantized_layout(DISTIL_PRECISION_FLOAT32, NULL)) != 0)
		return false;
	failure.message[0] = '\0';	/* of a call that ended in an error */
	if (!find_service())
	{
		if (may_go_on())
		{
			warn_once();
			return false;
		}
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg_internal("%s", failure.message),
				 errdetail_internal("%s", failure.detail),
				 errhint("%s", failure.hint)));
	}
	remote.ctx = open;
	distil_session_remote(open->session, &remote);
	return true;
}

void
distil_gpu_end(DistilOpenModel *open)
{
	distil_session_remote(open->session, NULL);
	if (failure.message[0] != '\0')
		warn_once();
}

/* ---------- what it does ---------- */

char *
distil_gpu_describe(void)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), START_MS);
	DistilGpuHeader header;
	DistilGpuStatus status;
	Talk		talk;

	disconnect();
	if (!greet(deadline))
		return NULL;
	talk = send_header(DISTIL_GPU_STATUS, 0);
	if (talk == TALK_DONE)
		talk = read_header(&header, DISTIL_GPU_STATUS, sizeof(status), deadline);
	if (talk == TALK_DONE && header.kind == DISTIL_GPU_STATUS)
		talk = transfer(&status, sizeof(status), false, deadline);
	disconnect();
	throw_stopped(talk);
	if (talk != TALK_DONE || header.kind != DISTIL_GPU_STATUS)
		return NULL;
	status.device[sizeof(status.device) - 1] = '\0';
	return psprintf("%s: process %d, memory limit " INT64_FORMAT " MB, models %d, requests " INT64_FORMAT
					", batches " INT64_FORMAT ", evictions " INT64_FORMAT ", dropped " INT64_FORMAT,
					status.device, (int) status.pid, status.memory / (1024 * 1024), (int) status.models,
					status.requests, status.batches, status.evictions, status.dropped);
}
