/*
 * train_device.c
 *		The devices of a training job: accelerators, or a CPU device for each thread.
 *
 * Option device: "cuda" takes the GPU or fails, "auto" takes it if it can be had and is large enough,
 * "cpu" never asks for it.  Option gpus takes so many or none.  The rule a newcomer would break: the driver
 * is talked to here, in the process that trains, and nowhere before.
 */
#include "postgres.h"

#include "bridge.h"
#include "guc.h"
#include "threads.h"
#include "train_run.h"

static void
open_cpu(DistilRun *run)
{
	bool		reference = strcmp(run->row.isa, "reference") == 0;
	const char *isa = run->row.isa;
	char		message[256] = "";

	if (!reference && !distil_cpu_has(isa))
	{
		ereport(LOG,
				(errmsg("distil job " INT64_FORMAT ": this CPU has no %s, going on with %s",
						run->job, isa, distil_cpu_isa())));
		isa = NULL;
	}
	while (run->ndevices < Min(run->row.threads, DISTIL_MAX_THREADS))
	{
		DistilDevice *device = distil_device_open(reference ? "reference" : "cpu", reference ? NULL : isa,
												  message, sizeof(message));

		if (device == NULL)
			distil_bridge_check_memory(message);
		/* The system may refuse a set the CPU has. */
		if (device == NULL && isa != NULL && !reference)
		{
			isa = NULL;
			continue;
		}
		if (device == NULL)
			distil_bridge_refuse_cpu("auto", message);
		run->devices[run->ndevices++] = device;
	}
	run->figures.device = NULL;
	distil_threads_announce(run->ndevices);
}

static void
log_cpu(const DistilRun *run, const char *reason)
{
	ereport(LOG,
			(errmsg("distil job " INT64_FORMAT " trains on the CPU", run->job),
			 errdetail_internal("%s", reason)));
}

/* false: there is none, and the job goes without. */
static bool
open_accelerator(DistilRun *run)
{
	const char *backend = distil_standin_device ? "standin" : "cuda";
	const char *isa = distil_standin_device ? distil_standin_isa : NULL;
	char		message[400] = "";
	int			n = run->options.gpus;
	bool		opened;

	if (strcmp(run->options.device, "cpu") == 0)
		return false;
	if (n > 1)
		opened = distil_device_open_group(backend, isa, run->devices, n, message, sizeof(message));
	else
		opened = (run->devices[0] = distil_device_open(backend, isa, message, sizeof(message))) != NULL;
	if (!opened && strcmp(run->options.device, "auto") == 0)
	{
		log_cpu(run, message);
		return false;
	}
	if (!opened)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("device \"%s\" is not available", run->options.device),
				 errdetail_internal("%s", message),
				 errhint("Use \"auto\" or \"cpu\".")));
	for (run->ndevices = 0; run->ndevices < n; run->ndevices++)
		run->devices[run->ndevices]->ops->limit_memory(run->devices[run->ndevices],
													   (size_t) distil_gpu_memory * 1024 * 1024);
	run->figures.device = backend;
	if (n > 1)
	{
		run->figures.device = MemoryContextStrdup(run->context, psprintf("%s (%d devices)", backend, n));
		ereport(LOG,
				(errmsg("distil job " INT64_FORMAT " trains on %d devices \"%s\"", run->job, n, backend)));
	}
	else
		ereport(LOG,
				(errmsg("distil job " INT64_FORMAT " trains on device \"%s\"", run->job, backend)));
	return true;
}

void
distil_run_open_devices(DistilRun *run)
{
	if (!open_accelerator(run))
		open_cpu(run);
}

bool
distil_run_leave_accelerator(DistilRun *run, DistilStatus status)
{
	if (status != DISTIL_ERR_MEMORY || !run->devices[0]->ops->own_memory ||
		strcmp(run->options.device, "auto") != 0)
		return false;
	log_cpu(run, run->err.message);
	distil_run_close_devices(run);
	open_cpu(run);
	return true;
}

void
distil_run_close_devices(DistilRun *run)
{
	distil_threads_announce(0);
	while (run->ndevices > 0)
	{
		DistilDevice *device = run->devices[--run->ndevices];

		device->ops->close(device);
	}
}

void
distil_train_device_check(const DistilTrainOptions *options)
{
	bool		cuda = strcmp(options->device, "cuda") == 0;
	char		message[400] = "";

	if ((!cuda && options->gpus < 2) || distil_standin_device ||
		distil_cuda_available(message, sizeof(message)))
		return;
	if (!cuda)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("option \"gpus\" is %d, but this server can use no GPU", options->gpus),
				 errdetail_internal("%s", message),
				 errhint("Leave it out.")));
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("device \"cuda\" is not available"),
			 errdetail_internal("%s", message),
			 errhint("Use \"auto\" or \"cpu\".")));
}
