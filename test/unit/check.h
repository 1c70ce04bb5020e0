/*
 * check.h
 *		The unit tests' few macros.  A test program ends with `return check_report("name");`:
 *		one line "name: N passed, N failed", exit status 1 when anything failed.
 */
#ifndef DISTIL_CHECK_H
#define DISTIL_CHECK_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int	check_passed;
static int	check_failed;

#define CHECK(condition) \
	do { \
		if (condition) check_passed++; \
		else { check_failed++; fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); } \
	} while (0)

/* With a printf-style explanation. */
#define CHECK_MSG(condition, ...) \
	do { \
		if (condition) check_passed++; \
		else { check_failed++; fprintf(stderr, "%s:%d: failed: %s: ", __FILE__, __LINE__, #condition); \
			   fprintf(stderr, __VA_ARGS__); fputc('\n', stderr); } \
	} while (0)

/* |a - b| <= tolerance; NaN fails. */
#define CHECK_NEAR(a, b, tolerance) \
	do { \
		double check_a_ = (a), check_b_ = (b), check_t_ = (tolerance); \
		if (fabs(check_a_ - check_b_) <= check_t_) check_passed++; \
		else { check_failed++; \
		fprintf(stderr, "%s:%d: failed: %s = %.9g, %s = %.9g, differ by %.3g > %.3g\n", \
			   __FILE__, __LINE__, #a, check_a_, #b, check_b_, fabs(check_a_ - check_b_), check_t_); } \
	} while (0)

/* The larger of two numbers, as fmax(); but that passes over a NaN, and here it stays. */
static inline double
check_worse(double worst, double difference)
{
	return worst >= difference || isnan(worst) ? worst : difference;
}

static inline int
check_report(const char *name)
{
	printf("%s: %d passed, %d failed\n", name, check_passed, check_failed);
	return check_failed > 0 || check_passed == 0 ? 1 : 0;
}

#endif							/* DISTIL_CHECK_H */
