/*
 * backend_cpu.c
 *		The "cpu" backend: picks the instruction set, makes the device.
 *
 * Adding an instruction set is one row of the table and one ops_<isa>.c.
 */
#include "cpu.h"

#include <stdio.h>
#include <string.h>

typedef struct InstructionSet
{
	const char *name;			/* as distil_cpu_has knows it */
	bool		blas;			/* has no multiplication of its own: needs OpenBLAS */
	const DistilKernels *ops;
} InstructionSet;

/* Best first. */
static const InstructionSet instruction_sets[] = {
#if defined(__x86_64__)
	{"avx512", false, &distil_cpu_kernels_avx512},
	{"avx2", false, &distil_cpu_kernels_avx2},
#endif
	{"reference", true, &distil_cpu_kernels_portable},
};

#define SETS (sizeof(instruction_sets) / sizeof(instruction_sets[0]))

static const InstructionSet *
find_set(const char *isa, char *message, size_t message_size)
{
	size_t		i;

	for (i = 0; i < SETS; i++)
	{
		const InstructionSet *set = &instruction_sets[i];

		if (strcmp(isa, "auto") != 0 && strcmp(isa, set->name) != 0)
			continue;
		if (distil_cpu_has(set->name))
			return set;
		if (strcmp(isa, "auto") != 0)
		{
			snprintf(message, message_size, "this CPU (%s) does not have instruction set \"%s\"",
					 distil_cpu_name(), isa);
			return NULL;
		}
	}
	snprintf(message, message_size, "the cpu backend has no operations for instruction set \"%.40s\"", isa);
	return NULL;
}

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
	const InstructionSet *set = find_set(isa, message, message_size);
	size_t		areas = (size_t) CPU_AREAS * CPU_AREA_FLOATS;
	size_t		pack_b = (size_t) CPU_PACK_STEPS * CPU_PACK_COLUMNS;
	size_t		pack_a = (size_t) CPU_PACK_STEPS * CPU_PACK_ROWS;
	CpuDevice  *cpu;
	int			i;

	if (set == NULL || (set->blas && !distil_blas_open(message, message_size)))
		return NULL;
	cpu = distil_host_alloc(NULL, sizeof(CpuDevice));
	if (cpu != NULL)
	{
		cpu->base.ops = set->ops;
		cpu->scratch = distil_host_alloc(NULL, sizeof(float) * (areas + pack_b + pack_a));
		if (cpu->scratch != NULL)
		{
			for (i = 0; i < CPU_AREAS; i++)
				cpu->area[i] = cpu->scratch + (size_t) i * CPU_AREA_FLOATS;
			cpu->pack_b = cpu->scratch + areas;
			cpu->pack_a = cpu->pack_b + pack_b;
			return &cpu->base;
		}
		distil_host_release(NULL, cpu);
	}
	snprintf(message, message_size, "out of memory opening the cpu backend");
	return NULL;
}
