/*
 * kernel_samples.h
 *		What the tests of the kernels share: seeded inputs with guards, comparison, and
 *		the walk over every backend and instruction set of this machine.
 *
 * Tolerances.  A float32 operation that adds n products of size about 1 differs from
 * the double result by at most about n * 6e-8 (usually its square root); comparisons
 * use 2e-6 * scale with scale = sqrt(n) * size of the terms, far below any real
 * mistake.
 */
#ifndef DISTIL_KERNEL_SAMPLES_H
#define DISTIL_KERNEL_SAMPLES_H

#include "check.h"
#include "host_device.h"
#include "kernels.h"

#include <stdint.h>

static DistilDevice *ref;
static const char *under_test = "";	/* for messages */
static uint64_t random_state = 1;

static inline double
uniform(void)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (double) (random_state >> 11) / 9007199254740992.0;
}

/* n floats in [-size, size), one guard value behind them */
#define GUARD 12345.0f

static inline float *
random_floats(size_t n, double size)
{
	float	   *x = ref->ops->alloc(ref, (n + 1) * sizeof(float));
	size_t		i;

	for (i = 0; i < n; i++)
		x[i] = (float) ((2.0 * uniform() - 1.0) * size);
	x[n] = GUARD;
	return x;
}

static inline float *
copy_floats(const float *x, size_t n)
{
	float	   *y = ref->ops->alloc(ref, (n + 1) * sizeof(float));

	memcpy(y, x, n * sizeof(float));
	y[n] = GUARD;
	return y;
}

/* Results start as NaN: an element that is not written shows. */
static inline float *
unset_floats(size_t n)
{
	float	   *x = random_floats(n, 1.0);
	size_t		i;

	for (i = 0; i < n; i++)
		x[i] = NAN;
	return x;
}

static inline int32_t *
random_ints(size_t n, int below)
{
	int32_t    *x = ref->ops->alloc(ref, (n + 1) * sizeof(int32_t));
	size_t		i;

	for (i = 0; i < n; i++)
		x[i] = (int32_t) (uniform() * below);
	return x;
}

static inline void
drop(void *memory)
{
	ref->ops->release(ref, memory);
}

/* All of got[n] within tolerance of want[n], and the guard untouched. */
static inline void
same(const char *what, const float *got, const float *want, size_t n, double tolerance)
{
	double		worst = 0.0;
	size_t		at = 0;
	size_t		i;

	for (i = 0; i < n; i++)
	{
		double		difference = fabs((double) got[i] - want[i]);

		if (!(difference <= worst))
		{
			worst = difference;
			at = i;
			if (isnan(difference))
				break;
		}
	}
	CHECK_MSG(worst <= tolerance, "%s %s: element %zu of %zu is %.9g, expected %.9g\n",
			  under_test, what, at, n, n > 0 ? got[at] : 0.0, n > 0 ? want[at] : 0.0);
	CHECK_MSG(got[n] == GUARD, "%s %s wrote beyond its %zu results\n", under_test, what, n);
}

static const size_t lengths[] = {1, 3, 17, 31, 33, 129, 1000};

#define LENGTHS (sizeof(lengths) / sizeof(lengths[0]))

/* Backend and instruction set. */
typedef const char *DeviceName[2];

/* Run test(dev) on each of these devices this machine can open; the others must be refused by name. */
static inline void
on_devices(const DeviceName *devices, size_t n, void (*test) (DistilDevice *dev))
{
	char		message[400];
	char		name[64];
	size_t		i;

#ifdef DISTIL_TEST_CUDA
	n = 0;						/* only the CUDA backend is tested */
#endif
	for (i = 0; i < n; i++)
	{
		const char *isa = devices[i][1];
		DistilDevice *dev = distil_device_open(devices[i][0], isa, message, sizeof(message));

		if (dev == NULL && strcmp(isa, "auto") != 0 && !distil_cpu_has(isa))
		{
			CHECK(strstr(message, isa) != NULL);
			continue;
		}
		CHECK_MSG(dev != NULL, "%s\n", message);
		if (dev == NULL)
			continue;
		snprintf(name, sizeof(name), "%s/%s", devices[i][0], isa);
		under_test = name;
		random_state = 1;
		test(dev);
		under_test = "";
		dev->ops->close(dev);
	}
}

/* All devices with float32 operations of their own. */
static inline void
on_every_device(void (*test) (DistilDevice *dev))
{
	static const DeviceName devices[] = {
		{"cpu", "avx512"}, {"cpu", "avx2"}, {"cpu", "reference"}, {"reference", "auto"},
	};

	on_devices(devices, sizeof(devices) / sizeof(devices[0]), test);
}

/* All devices with low-precision operations of their own. */
static inline void
on_every_rows_device(void (*test) (DistilDevice *dev))
{
	static const DeviceName devices[] = {
		{"cpu", "amx"}, {"cpu", "amx_plain"}, {"cpu", "avx512_bf16"}, {"cpu", "avx512_vnni"},
		{"cpu", "avx512"}, {"cpu", "avx_vnni"}, {"cpu", "avx2"},
		{"cpu", "reference"}, {"reference", "auto"},
	};

	on_devices(devices, sizeof(devices) / sizeof(devices[0]), test);
}

/* The same on devices with memory of their own, where the operations take copies of the arguments. */
static inline void
on_every_accelerator(void (*test) (DistilDevice *dev))
{
	static const char *const devices[][2] = {
#ifdef DISTIL_TEST_CUDA
		{"cuda", "float32"},
#else
		{"standin", "auto"},
#endif
	};
	char		message[400];
	char		name[64];
	size_t		i;

	for (i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
	{
		DistilDevice *real = distil_device_open(devices[i][0], devices[i][1], message, sizeof(message));
		DistilDevice *dev;

		CHECK_MSG(real != NULL, "%s: %s\n", devices[i][0], message);
		if (real == NULL)
			continue;
		snprintf(name, sizeof(name), "%s/%s", devices[i][0], devices[i][1]);
		under_test = name;
		random_state = 1;
		dev = host_device(real, ref);
		test(dev);
		under_test = "";
		dev->ops->close(dev);
	}
}

/* Open the oracle; false (and a failed check) when that is not possible. */
static inline bool
open_reference(void)
{
	char		message[400];

	ref = distil_device_open("reference", NULL, message, sizeof(message));
	CHECK_MSG(ref != NULL, "%s\n", message);
	return ref != NULL;
}

/* NaNs of every kind: quiet and signalling, of both signs, payloads of few and of many bits. */
static const uint32_t nan_bits[] = {
	0x7FC00000, 0xFFC00000, 0x7FC00001, 0xFFC00001, 0x7FC000FF, 0x7FC00100, 0xFFC001FF, 0x7FE12345,
	0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFF800001, 0x7F8000FF, 0x7FA00000, 0x7FBFFFFF, 0xFFBFFFFF
};

#define NAN_KINDS ((int) (sizeof(nan_bits) / sizeof(nan_bits[0])))

#endif							/* DISTIL_KERNEL_SAMPLES_H */
