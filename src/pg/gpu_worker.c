/*
 * gpu_worker.c
 *		The GPU service's background worker: takes the place, starts the process that has the device,
 *		and ends with it.
 *
 * The device is in a child process without shared memory, because a driver may crash, and the kernel prefers
 * to kill what has much memory: the end of a process with shared memory, as a background worker has, ends all
 * sessions of the server, the end of this child only its requests.  The worker itself touches no device.
 *
 * The rule a newcomer would break: between fork() and the detaching of shared memory the child must not use
 * anything of the server that is shared: locks, latches, wait events, statistics.
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/dsm.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/pg_shmem.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/ps_status.h"
#include "utils/wait_event.h"

#include "gpu_worker.h"
#include "guc.h"

/* Milliseconds that the place of a service that ends may still be taken. */
#define PLACE_MS 2000
#define LOOK_MS 10
#define BACKLOG 128

/* Held until this process and its child have ended; false: another service has it. */
static bool
take_place(void)
{
	int			fd;
	int			waited;

	distil_cache_directory();
	fd = BasicOpenFile(DISTIL_GPU_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | PG_BINARY);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", DISTIL_GPU_LOCK)));
	for (waited = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; waited += LOOK_MS)
	{
		if (waited >= PLACE_MS)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		if (ShutdownRequestPending)
			return false;
	}
	return true;
}

static int
open_listener(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int			listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strlcpy(address.sun_path, DISTIL_GPU_SOCKET, sizeof(address.sun_path));
	(void) unlink(DISTIL_GPU_SOCKET);
	if (listener < 0 || bind(listener, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		chmod(DISTIL_GPU_SOCKET, S_IRUSR | S_IWUSR) != 0 || listen(listener, BACKLOG) != 0)
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("could not listen on socket \"%s\": %m", DISTIL_GPU_SOCKET)));
	return listener;
}

/* ---------- the child ---------- */

/* A descriptor for each connection of the server. */
static void
allow_descriptors(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
	{
		files.rlim_cur = files.rlim_max;
		(void) setrlimit(RLIMIT_NOFILE, &files);
	}
}

static void
become_device_process(pid_t parent, int listener, int control)
{
	/* Killed with the worker, also where that cannot say so. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(1);
	MyProcPid = getpid();
	pqsignal(SIGHUP, SIG_IGN);
	pqsignal(SIGINT, SIG_IGN);
	pqsignal(SIGUSR1, SIG_IGN);
	pqsignal(SIGUSR2, SIG_IGN);
	pqsignal(SIGALRM, SIG_IGN);
	pqsignal(SIGPIPE, SIG_IGN);
	pqsignal(SIGTERM, SIG_DFL);
	pqsignal(SIGQUIT, SIG_DFL);

	on_exit_reset();
	pgstat_reset_wait_event_storage();
	MyProc = NULL;
	dsm_detach_all();
	PGSharedMemoryDetach();
	set_ps_display("device");
	allow_descriptors();
	distil_gpu_serve(listener, control);
}

/* ---------- the worker ---------- */

static void
send_settings(int control)
{
	DistilGpuSettings settings;

	settings.memory = (int64) distil_gpu_memory * 1024 * 1024;
	settings.idle_ms = (int64) distil_gpu_idle_timeout * 1000;
	(void) send(control, &settings, sizeof(settings), MSG_NOSIGNAL);
}

/* Until the child has ended, or shall. */
static void
supervise(pid_t child, int control)
{
	for (;;)
	{
		int			events = WaitLatchOrSocket(MyLatch,
											   WL_LATCH_SET | WL_SOCKET_READABLE | WL_EXIT_ON_PM_DEATH,
											   control, -1, PG_WAIT_EXTENSION);

		if (events & WL_SOCKET_READABLE)
			return;				/* the child says nothing: this is its end */
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ShutdownRequestPending)
		{
			kill(child, SIGKILL);
			return;
		}
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			send_settings(control);
		}
	}
}

static void
log_end(pid_t child)
{
	int			status = 0;

	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (ShutdownRequestPending || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return;
	if (WIFSIGNALED(status))
		ereport(LOG,
				(errmsg("the process of the GPU service was terminated by signal %d", WTERMSIG(status))));
	else
		ereport(LOG, (errmsg("the process of the GPU service exited with code %d", WEXITSTATUS(status))));
}

void
distil_gpu_main(Datum arg)
{
	int			control[2];
	int			listener;
	pid_t		parent = getpid();
	pid_t		child;

	(void) arg;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	if (!take_place())
		proc_exit(0);
	listener = open_listener();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, control) != 0)
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("could not create a socket pair: %m")));
	send_settings(control[0]);
	fflush(NULL);
	child = fork();
	if (child < 0)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not fork the process of the GPU service: %m")));
	if (child == 0)
	{
		close(control[0]);
		become_device_process(parent, listener, control[1]);
	}
	close(control[1]);
	close(listener);
	supervise(child, control[0]);
	log_end(child);
	proc_exit(0);
}
