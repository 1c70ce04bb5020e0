/*
 * cuda_module.c
 *		Opens the CUDA backend, a module of its own that need not be there.
 *
 * distil_cuda.so lies in the folder of the object this code is part of (distil.so, or a test program).
 * The rule a newcomer would break: it is opened when the first device "cuda" is asked for and not
 * before, because a process that has talked to the driver must not fork.  The driver starts
 * threads: all signals are blocked meanwhile, so that they stay with the host's threads.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE				/* dladdr */
#endif
#include "backends.h"

#include <dlfcn.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define MODULE "distil_cuda.so"

typedef bool (*CudaCheck) (size_t table_size, char *message, size_t message_size);
typedef DistilDevice *(*CudaOpen) (size_t table_size, const char *precision, char *message,
								   size_t message_size);
typedef bool (*CudaOpenGroup) (size_t table_size, const char *precision, DistilDevice **devices, int n,
							   char *message, size_t message_size);

typedef struct CudaModule
{
	CudaCheck	check;
	CudaOpen	open;
	CudaOpenGroup open_group;
} CudaModule;

static bool
module_path(char *path, size_t size)
{
	Dl_info		info;
	const char *slash;
	int			length;

	if (dladdr((void *) &distil_cuda_open, &info) == 0 || info.dli_fname == NULL)
		return false;
	slash = strrchr(info.dli_fname, '/');
	length = slash != NULL ? (int) (slash - info.dli_fname) : 1;
	return snprintf(path, size, "%.*s/" MODULE, length, slash != NULL ? info.dli_fname : ".") < (int) size;
}

/* The module stays open: a second opening finds it again. */
static bool
open_module(CudaModule *module, char *message, size_t message_size)
{
	char		path[PATH_MAX];
	void	   *library;

	if (!module_path(path, sizeof(path)))
	{
		snprintf(message, message_size, "the folder of " MODULE " cannot be found");
		return false;
	}
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (library == NULL)
	{
		snprintf(message, message_size, "could not open the CUDA module: %s", dlerror());
		return false;
	}
	module->check = (CudaCheck) dlsym(library, "distil_cuda_check");
	module->open = (CudaOpen) dlsym(library, "distil_cuda_open");
	module->open_group = (CudaOpenGroup) dlsym(library, "distil_cuda_open_group");
	if (module->check == NULL || module->open == NULL || module->open_group == NULL)
	{
		snprintf(message, message_size, "\"%.200s\" is not a module of distil", path);
		return false;
	}
	return true;
}

bool
distil_cuda_available(char *message, size_t message_size)
{
	CudaModule	module;
	sigset_t	all;
	sigset_t	old;
	bool		available;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	available = open_module(&module, message, message_size) &&
		module.check(sizeof(DistilKernels), message, message_size);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return available;
}

DistilDevice *
distil_cuda_open(const char *isa, char *message, size_t message_size)
{
	DistilDevice *device = NULL;
	CudaModule	module;
	sigset_t	all;
	sigset_t	old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (open_module(&module, message, message_size) &&
		module.check(sizeof(DistilKernels), message, message_size))
		device = module.open(sizeof(DistilKernels), isa, message, message_size);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return device;
}

bool
distil_cuda_open_group(const char *isa, DistilDevice **devices, int n, char *message, size_t message_size)
{
	CudaModule	module;
	sigset_t	all;
	sigset_t	old;
	bool		opened;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	opened = open_module(&module, message, message_size) &&
		module.check(sizeof(DistilKernels), message, message_size) &&
		module.open_group(sizeof(DistilKernels), isa, devices, n, message, message_size);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return opened;
}
