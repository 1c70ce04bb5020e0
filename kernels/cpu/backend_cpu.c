/*
 * backend_cpu.c
 *		The "cpu" backend: picks the instruction set, makes the device.
 *
 * Adding an instruction set is one row of the table and one ops_<isa>.c.
 */
#include "products_bf16.h"

#include <stdio.h>
#include <string.h>

typedef struct InstructionSet
{
	const char *name;			/* as distil_cpu_has knows it */
	const char *needs;			/* what of distil_cpu_has it needs; mostly its name */
	bool		blas;			/* has no multiplication of its own: needs OpenBLAS */
	bool		(*permit) (void);	/* NULL: needs no permission of the system */
	const DistilKernels *ops;
	const CpuRows *rows;
} InstructionSet;

/* Best first; behind the last one of "auto" are those that are only taken by name. */
static const InstructionSet instruction_sets[] = {
#if defined(__x86_64__)
	{"amx", "amx", false, distil_cpu_permit_amx, &distil_cpu_kernels_avx512, &distil_cpu_rows_amx},
	{"avx512_bf16", "avx512_bf16", false, NULL, &distil_cpu_kernels_avx512, &distil_cpu_rows_avx512_bf16},
	{"avx512_vnni", "avx512_vnni", false, NULL, &distil_cpu_kernels_avx512, &distil_cpu_rows_avx512_vnni},
	{"avx512", "avx512", false, NULL, &distil_cpu_kernels_avx512, &distil_cpu_rows_avx512},
	{"avx_vnni", "avx_vnni", false, NULL, &distil_cpu_kernels_avx2, &distil_cpu_rows_avx_vnni},
	{"avx2", "avx2", false, NULL, &distil_cpu_kernels_avx2, &distil_cpu_rows_avx2},
#endif
	{"reference", "reference", true, NULL, &distil_cpu_kernels_portable, &distil_cpu_rows_portable},
#if defined(__x86_64__) && defined(DISTIL_TEST_AMX_PLAIN)
	/* the code of "amx" over tiles in plain C */
	{"amx_plain", "avx512_vbmi", false, NULL, &distil_cpu_kernels_avx512, &distil_cpu_rows_amx_plain},
#endif
};

#define SETS (sizeof(instruction_sets) / sizeof(instruction_sets[0]))

/* vdpbf16ps has the speed of four float32 vectors on AMD's CPUs and of half a one on Intel's. */
static bool
worthwhile(const InstructionSet *set)
{
	return strcmp(set->name, "avx512_bf16") != 0 || distil_cpu_is_amd();
}

static const InstructionSet *
find_set(const char *isa, char *message, size_t message_size)
{
	size_t		i;

	for (i = 0; i < SETS; i++)
	{
		const InstructionSet *set = &instruction_sets[i];
		bool		any = strcmp(isa, "auto") == 0;

		if (any ? !worthwhile(set) : strcmp(isa, set->name) != 0)
			continue;
		if (distil_cpu_has(set->needs) && (set->permit == NULL || set->permit()))
			return set;
		if (!any)
		{
			snprintf(message, message_size, "this CPU (%s) or system does not have instruction set \"%s\"",
					 distil_cpu_name(), isa);
			return NULL;
		}
	}
	snprintf(message, message_size, "the cpu backend has no operations for instruction set \"%.40s\"", isa);
	return NULL;
}

const char *
distil_cpu_device_isa(const DistilDevice *dev)
{
	return ((const CpuDevice *) dev)->isa;
}

void
distil_cpu_close(DistilDevice *dev)
{
	if (dev == NULL)
		return;
	distil_cpu_rounded_free(((CpuDevice *) dev)->rounded);
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
		cpu->base.ops = cpu->exact = set->ops;
		cpu->rounded = NULL;
		cpu->rows = set->rows;
		cpu->isa = set->name;
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
	snprintf(message, message_size, DISTIL_NO_MEMORY " opening the cpu backend");
	return NULL;
}
