/*
 * bench_peak.c
 *		What one core can do at most: products of independent registers, nothing read from memory.
 *
 *	bench_peak		prints one line per kind of product this CPU has: NAME PRECISION GFLOP/s FED
 *
 * A product and its sum are two operations.  The best of many short runs, in processor time.  The kinds of
 * one precision are alternatives: the largest of them is the peak.  FED is the same with operands read from
 * the first cache, as fast as a product of matrices has to; some CPUs lower their clock for that.  Operands
 * are random numbers: on zeros AMX keeps a clock a third higher, which no real product reaches.  Written in
 * assembly so that it needs no flag of the compiler; nothing here may be run before the CPU was asked.
 */
#include <cpuid.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RUNS 25
#define REQUEST_PERMISSION 0x1023	/* arch_prctl: ARCH_REQ_XCOMP_PERM */
#define TILE_DATA 18

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

/* Four tiles or sixteen registers: floats or BF16 of 0.5 to 2 and either sign, or any bytes. */
static uint8_t operands[4096] __attribute__((aligned(64)));

static void
fill_operands(const char *precision)
{
	uint32_t	state = 1;
	size_t		i;

	for (i = 0; i < sizeof(operands); i++)
	{
		state = state * 1664525u + 1013904223u;
		operands[i] = (uint8_t) (state >> 24);
	}
	if (strcmp(precision, "int8") == 0)
		return;
	/* the high half of a float is a BF16 number */
	for (i = strcmp(precision, "float32") == 0 ? 2 : 0; i < sizeof(operands);
		 i += strcmp(precision, "float32") == 0 ? 4 : 2)
	{
		uint16_t	half;

		memcpy(&half, operands + i, 2);
		half = (uint16_t) ((half & 0x80ff) | 0x3f00);
		memcpy(operands + i, &half, 2);
	}
}

/*
 * 12 sums hide a latency of four cycles; 24, where there are registers for them, the six of AMD's vdpbf16ps,
 * two of which start in each.
 */
#define TWELVE(insn, r) \
	insn(r, 0, 12, 14) insn(r, 1, 13, 14) insn(r, 2, 12, 15) insn(r, 3, 13, 15) \
	insn(r, 4, 12, 14) insn(r, 5, 13, 14) insn(r, 6, 12, 15) insn(r, 7, 13, 15) \
	insn(r, 8, 12, 14) insn(r, 9, 13, 14) insn(r, 10, 12, 15) insn(r, 11, 13, 15)
#define OTHER_TWELVE(insn, r) \
	insn(r, 16, 12, 14) insn(r, 17, 13, 14) insn(r, 18, 12, 15) insn(r, 19, 13, 15) \
	insn(r, 20, 12, 14) insn(r, 21, 13, 14) insn(r, 22, 12, 15) insn(r, 23, 13, 15) \
	insn(r, 24, 12, 14) insn(r, 25, 13, 14) insn(r, 26, 12, 15) insn(r, 27, 13, 15)
#define ZERO(r, i, a, b) "vxorps %%" r #i ", %%" r #i ", %%" r #i "\n\t"
#define FMA(r, i, a, b) "vfmadd231ps %%" r #a ", %%" r #b ", %%" r #i "\n\t"
#define DPBF16(r, i, a, b) "vdpbf16ps %%" r #a ", %%" r #b ", %%" r #i "\n\t"
#define DPBUSD(r, i, a, b) "vpdpbusd %%" r #a ", %%" r #b ", %%" r #i "\n\t"
#define DPBUSD_VEX(r, i, a, b) "%{vex%} vpdpbusd %%" r #a ", %%" r #b ", %%" r #i "\n\t"
/* Five vectors for each twelve products: less than a tile of sums of 8 rows by 3 vectors reads. */
#define LOAD(r) "vmovups (%1), %%" r "12\n\tvmovups 64(%1), %%" r "13\n\t" \
	"vbroadcastss 128(%1), %%" r "14\n\tvbroadcastss 132(%1), %%" r "15\n\t" \
	"vbroadcastss 136(%1), %%" r "15\n\t"
#define CLOBBERS "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", \
	"xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

/* A loop over registers alone and one that reads operands; each does n times 24 products. */
#define VECTOR_LOOP(name, insn, r, OTHER) \
	static void name(long n) \
	{ \
		__asm__ volatile(TWELVE(ZERO, r) OTHER(ZERO, r) \
						 LOAD(r) "1:\n\t" TWELVE(insn, r) OTHER(insn, r) \
						 "dec %0\n\tjnz 1b\n\tvzeroupper\n\t" \
						 : "+r" (n) : "r" (operands) : CLOBBERS); \
	} \
	static void name##_fed(long n) \
	{ \
		__asm__ volatile(TWELVE(ZERO, r) OTHER(ZERO, r) \
						 "1:\n\t" LOAD(r) TWELVE(insn, r) LOAD(r) OTHER(insn, r) \
						 "dec %0\n\tjnz 1b\n\tvzeroupper\n\t" \
						 : "+r" (n) : "r" (operands) : CLOBBERS); \
	}
VECTOR_LOOP(fma_ymm, FMA, "ymm", TWELVE)
VECTOR_LOOP(fma_zmm, FMA, "zmm", OTHER_TWELVE)
VECTOR_LOOP(bf16_zmm, DPBF16, "zmm", OTHER_TWELVE)
VECTOR_LOOP(vnni_zmm, DPBUSD, "zmm", OTHER_TWELVE)
VECTOR_LOOP(vnni_ymm, DPBUSD_VEX, "ymm", TWELVE)

/* Four accumulators, two and two operands: the tiles of a real product. */
#define FOUR(insn) \
	insn " %%tmm6, %%tmm4, %%tmm0\n\t" insn " %%tmm7, %%tmm4, %%tmm1\n\t" \
	insn " %%tmm6, %%tmm5, %%tmm2\n\t" insn " %%tmm7, %%tmm5, %%tmm3\n\t"
#define LOAD_TILES "tileloadd (%1,%2,1), %%tmm4\n\ttileloadd 1024(%1,%2,1), %%tmm6\n\t" \
	"tileloadd 2048(%1,%2,1), %%tmm7\n\ttileloadd 3072(%1,%2,1), %%tmm5\n\t"
#define TILE_LOOP(name, insn) \
	static void name(long n) \
	{ \
		__asm__ volatile(LOAD_TILES "1:\n\t" FOUR(insn) FOUR(insn) "dec %0\n\tjnz 1b\n\t" \
						 : "+r" (n) : "r" (operands), "r" (64L) : "memory", "cc"); \
	} \
	static void name##_fed(long n) \
	{ \
		__asm__ volatile("1:\n\t" LOAD_TILES FOUR(insn) LOAD_TILES FOUR(insn) "dec %0\n\tjnz 1b\n\t" \
						 : "+r" (n) : "r" (operands), "r" (64L) : "memory", "cc"); \
	}
TILE_LOOP(tiles_bf16, "tdpbf16ps")
TILE_LOOP(tiles_int8, "tdpbusd")

/* Eight tiles of 16 rows of 64 bytes, the sums zero; 0 when the system grants them. */
static int
configure_tiles(void)
{
	struct
	{
		uint8_t		palette, start, reserved[14];
		uint16_t	bytes[16];
		uint8_t		rows[16];
	}			config;

	if (syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) != 0)
		return -1;
	memset(&config, 0, sizeof(config));
	config.palette = 1;
	for (int i = 0; i < 8; i++)
	{
		config.bytes[i] = 64;
		config.rows[i] = 16;
	}
	__asm__ volatile("ldtilecfg %0\n\t"
					 "tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero "
					 "%%tmm3\n\t" : : "m" (config));
	return 0;
}

/* GFLOP/s; loop(n) does n * operations. */
static double
fastest(void (*loop) (long), double operations)
{
	long		n = 1000;
	double		best = 1e9;

	loop(n);
	for (int run = 0; run < RUNS; run++)
	{
		double		start = now();
		double		seconds;

		loop(n);
		seconds = now() - start;
		if (seconds / (double) n < best)
			best = seconds / (double) n;
		if (seconds < 2e-3)
			n *= 2;
	}
	return operations / best * 1e-9;
}

#define SHOW(name, precision, loop, operations) \
	do { \
		fill_operands(precision); \
		printf("%s %s %.1f", name, precision, fastest(loop, operations)); \
		printf(" %.1f\n", fastest(loop##_fed, operations)); \
	} while (0)

int
main(void)
{
	unsigned	a = 0, b = 0, c = 0, d = 0;
	unsigned	a1 = 0, b1 = 0, c1 = 0, d1 = 0;

	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
		return 0;
	__get_cpuid_count(7, 0, &a, &b, &c, &d);
	__get_cpuid_count(7, 1, &a1, &b1, &c1, &d1);
	SHOW("AVX2", "float32", fma_ymm, 24 * 8 * 2);
	if (a1 & (1u << 4))
		SHOW("AVX-VNNI", "int8", vnni_ymm, 24 * 32 * 2);
	if (__builtin_cpu_supports("avx512f"))
	{
		SHOW("AVX-512", "float32", fma_zmm, 24 * 16 * 2);
		if (a1 & (1u << 5))
			SHOW("AVX512-BF16", "bfloat16", bf16_zmm, 24 * 32 * 2);
		if (c & (1u << 11))
			SHOW("AVX512-VNNI", "int8", vnni_zmm, 24 * 64 * 2);
	}
	if ((d & (1u << 24)) && configure_tiles() == 0)
	{
		if (d & (1u << 22))
			SHOW("AMX", "bfloat16", tiles_bf16, 8 * 16 * 16 * 32 * 2);
		if (d & (1u << 25))
			SHOW("AMX", "int8", tiles_int8, 8 * 16 * 16 * 64 * 2);
		__asm__ volatile("tilerelease");
	}
	return 0;
}
