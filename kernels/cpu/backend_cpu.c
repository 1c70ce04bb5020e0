/*
 * backend_cpu.c
 *		The "cpu" backend: picks the instruction set, opens OpenBLAS, makes the device.
 */
#include "cpu.h"

#include <stdio.h>
#include <string.h>

/* Best first; what `isa` may name. */
static const struct
{
	const char *name;
	CpuBlasCore core;
	const DistilKernels *ops;
}			instruction_sets[] = {
	{"reference", CPU_BLAS_ANY, NULL},
};

void
distil_cpu_close(DistilDevice *dev)
{
	if (dev == NULL)
		return;
	distil_host_release(dev, ((CpuDevice *) dev)->scratch);
	distil_host_release(dev, dev);
}

DistilDevice *
distil_cpu_open(const char *isa, char *message, size_t message_size)
{
	(void) instruction_sets;
	snprintf(message, message_size, "instruction set \"%.40s\" is not compiled in", isa);
	return NULL;
}
