/*
 * cpu_features.c
 *		What this CPU can do, by CPUID.
 *
 * A feature counts only when the system saves its registers too (XCR0): a CPU with
 * AVX-512 under a system without it must look like one without.
 * Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, 13 and 14.
 */
#include "cpu.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

typedef struct CpuFeatures
{
	bool		avx2;			/* with FMA and F16C */
	bool		avx512;			/* F, BW, VL, DQ */
	bool		avx512_vbmi;
	bool		avx512_bf16;	/* with VNNI and VBMI, as AMD's have: Cooper Lake counts as VNNI */
	bool		avx512_vnni;
	bool		avx_vnni;
	bool		amx;			/* tiles and half floats; use needs the system's permission besides */
	bool		amd;
	char		name[64];
} CpuFeatures;

static CpuFeatures features;
static pthread_once_t features_once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__) || defined(__i386__)

#define XCR0_AVX	0x06u		/* SSE and AVX state */
#define XCR0_AVX512	0xe0u		/* opmask and both ZMM parts */
#define XCR0_AMX	0x60000u	/* tile configuration and data */

static unsigned
bit(unsigned word, int number)
{
	return (word >> number) & 1u;
}

static unsigned
read_xcr0(void)
{
	unsigned	low,
				high;

	__asm__ volatile ("xgetbv" : "=a" (low), "=d" (high) : "c" (0));
	(void) high;
	return low;
}

static void
find_name(void)
{
	unsigned	words[12];
	unsigned	leaf,
				a,
				b,
				c,
				d;
	char	   *start = (char *) words;
	size_t		length;

	if (!__get_cpuid(0x80000000u, &a, &b, &c, &d) || a < 0x80000004u)
		return;
	for (leaf = 0; leaf < 3; leaf++)
	{
		if (!__get_cpuid(0x80000002u + leaf, &a, &b, &c, &d))
			return;
		words[4 * leaf] = a;
		words[4 * leaf + 1] = b;
		words[4 * leaf + 2] = c;
		words[4 * leaf + 3] = d;
	}
	length = strnlen(start, sizeof(words));
	while (length > 0 && *start == ' ')
		start++, length--;
	while (length > 0 && start[length - 1] == ' ')
		length--;
	if (length > 0)
		snprintf(features.name, sizeof(features.name), "%.*s", (int) length, start);
}

static void
find_features(void)
{
	unsigned	a,
				b,
				c,
				d,
				fma,
				f16c,
				xcr0;

	strcpy(features.name, "x86 processor");
	find_name();
	if (__get_cpuid(0, &a, &b, &c, &d))
		features.amd = b == 0x68747541;	/* "Auth" of "AuthenticAMD" */
	if (!__get_cpuid(1, &a, &b, &c, &d) || !bit(c, 27))
		return;					/* the system does not manage extended state */
	fma = bit(c, 12);
	f16c = bit(c, 29);
	xcr0 = read_xcr0();
	if (!bit(c, 28) || (xcr0 & XCR0_AVX) != XCR0_AVX || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
		return;
	features.avx2 = bit(b, 5) && fma && f16c;
	if (features.avx2 && (xcr0 & XCR0_AVX512) == XCR0_AVX512)
		features.avx512 = bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31);
	features.avx512_vbmi = features.avx512 && bit(c, 1);
	features.avx512_vnni = features.avx512 && bit(c, 11);
	if (features.avx512 && (xcr0 & XCR0_AMX) == XCR0_AMX)
		features.amx = bit(d, 22) && bit(d, 23) && bit(d, 24) && bit(d, 25);
	if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
	{
		features.avx_vnni = features.avx2 && bit(a, 4);
		features.avx512_bf16 = features.avx512_vnni && features.avx512_vbmi && bit(a, 5);
	}
	features.amx = features.amx && features.avx512_bf16;
}

#else

static void
find_features(void)
{
#if defined(__aarch64__)
	strcpy(features.name, "ARM 64-bit processor");
#elif defined(__powerpc64__)
	strcpy(features.name, "POWER processor");
#else
	strcpy(features.name, "unknown processor");
#endif
}

#endif

static const CpuFeatures *
get_features(void)
{
	pthread_once(&features_once, find_features);
	return &features;
}

bool
distil_cpu_has(const char *isa)
{
	const CpuFeatures *f = get_features();
	const struct
	{
		const char *name;
		bool		present;
	}			known[] = {
		{"amx", f->amx},
		{"avx512_bf16", f->avx512_bf16},
		{"avx512_vnni", f->avx512_vnni},
		{"avx512_vbmi", f->avx512_vbmi},
		{"avx512", f->avx512},
		{"avx_vnni", f->avx_vnni},
		{"avx2", f->avx2},
		{"reference", true},
	};
	size_t		i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
	{
		if (strcmp(isa, known[i].name) == 0)
			return known[i].present;
	}
	return false;
}

/* Of the sets that the float32 operations are compiled for. */
const char *
distil_cpu_isa(void)
{
	if (distil_cpu_has("avx512"))
		return "avx512";
	if (distil_cpu_has("avx2"))
		return "avx2";
	return "reference";
}

bool
distil_cpu_is_amd(void)
{
	return get_features()->amd;
}

const char *
distil_cpu_name(void)
{
	return get_features()->name;
}
