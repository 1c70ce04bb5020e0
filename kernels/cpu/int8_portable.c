/*
 * int8_portable.c
 *		8-bit linear layers in plain C.
 */
#define CPU_LANES 4
#define INT8_LINEAR distil_cpu_linear_int8_portable
#define INT8_QUANTIZE distil_cpu_quantize_int8_portable
#define INT8_NORM distil_cpu_norm_int8_portable
#include "int8_cpu.h"

#define INT8_TILE_ROWS 2
#define INT8_TILE_PANELS 1

static inline __attribute__((always_inline)) void
int8_tile(int32_t *sums, const uint8_t *x, size_t ld, const int8_t *w, size_t panel, int steps, int rows,
		  Int8Fetch *fetch)
{
	int			step,
				r,
				i;

	(void) panel;
	for (r = 0; r < rows; r++)
		memset(sums + r * INT8_PAIR, 0, DISTIL_PANEL * sizeof(int32_t));
	for (step = 0; step < steps; step++)
	{
		for (r = 0; r < rows; r++)
		{
			for (i = 0; i < 4 * DISTIL_PANEL; i++)
				sums[r * INT8_PAIR + i / 4] += x[r * ld + step * 4 + i % 4] * w[(size_t) step * 64 + i];
		}
		int8_ask(fetch);
	}
}

#include "int8_vectors.h"
#include "int8_functions.h"
#include "int8_norm.h"
