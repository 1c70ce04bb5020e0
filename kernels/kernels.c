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
	{"cpu", distil_cpu_open, NULL},
	{"reference", distil_ref_open, NULL},
	{"cuda", distil_cuda_open, distil_cuda_open_group},
	{"standin", distil_standin_open, distil_standin_open_group},
};

static const DistilBackend *
find_backend(const char *name, char *message, size_t message_size)
{
	size_t		i;

	for (i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
		if (strcmp(name, backends[i].name) == 0)
			return &backends[i];
	snprintf(message, message_size, "backend \"%.40s\" is not known", name);
	return NULL;
}

DistilDevice *
distil_device_open(const char *backend, const char *isa, char *message, size_t message_size)
{
	const DistilBackend *found = find_backend(backend, message, message_size);

	if (found == NULL)
		return NULL;
	if (message_size > 0)
		message[0] = '\0';
	return found->open(isa != NULL ? isa : "auto", message, message_size);
}

bool
distil_device_open_group(const char *backend, const char *isa, DistilDevice **devices, int n, char *message,
						 size_t message_size)
{
	const DistilBackend *found = find_backend(backend, message, message_size);

	if (found == NULL)
		return false;
	if (found->open_group == NULL || n < 1 || n > DISTIL_MAX_GROUP)
	{
		snprintf(message, message_size, "backend \"%s\" has no groups of %d devices", backend, n);
		return false;
	}
	if (message_size > 0)
		message[0] = '\0';
	return found->open_group(isa != NULL ? isa : "auto", devices, n, message, message_size);
}

const char *
distil_device_isa(const DistilDevice *dev)
{
	return strcmp(dev->ops->name, "cpu") == 0 ? distil_cpu_device_isa(dev) : "";
}
