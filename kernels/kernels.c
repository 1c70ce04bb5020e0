/*
 * kernels.c
 *		Opens a device by the name of its backend, through one table.
 *
 * A new backend is one row here.  Nothing is opened before the first device is
 * asked for: a process that forks servers must stay free of numeric libraries.
 */
#include "backends.h"

#include <stdio.h>
#include <string.h>

static const DistilBackend backends[] = {
	{"cpu", distil_cpu_open},
	{"reference", distil_ref_open},
	{"cuda", distil_cuda_open},
	{"standin", distil_standin_open},
};

DistilDevice *
distil_device_open(const char *backend, const char *isa, char *message, size_t message_size)
{
	size_t		i;

	if (message_size > 0)
		message[0] = '\0';
	if (isa == NULL)
		isa = "auto";
	for (i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
	{
		if (strcmp(backend, backends[i].name) == 0)
			return backends[i].open(isa, message, message_size);
	}
	snprintf(message, message_size, "backend \"%.40s\" is not known", backend);
	return NULL;
}

const char *
distil_device_isa(const DistilDevice *dev)
{
	return strcmp(dev->ops->name, "cpu") == 0 ? distil_cpu_device_isa(dev) : "";
}
