/*
 * pack.c
 *		The packed form of a linear layer's weight, see DISTIL_PANEL in kernels.h.
 *
 * Plain C for any CPU: whoever writes packed weights does it once.
 */
#include "kernels.h"

#include <string.h>

void
distil_pack_panel(float *to, const float *from, size_t ld, int rows, int k)
{
	int			r,
				l;

	for (l = 0; l < k; l++)
	{
		float	   *line = to + (size_t) l * DISTIL_PANEL;

		for (r = 0; r < DISTIL_PANEL; r++)
			line[r] = r < rows ? from[(size_t) r * ld + l] : 0.0f;
	}
}

void
distil_pack_panel_bf16(uint16_t *to, const float *from, size_t ld, int rows, int k)
{
	size_t		length = distil_row_length(DISTIL_TYPE_BF16, (size_t) k);
	int			r;
	size_t		l;

	for (l = 0; l < length; l++)
	{
		uint16_t   *line = to + l / 2 * 2 * DISTIL_PANEL + l % 2;

		for (r = 0; r < DISTIL_PANEL; r++)
			line[2 * r] = r < rows && l < (size_t) k ? distil_bf16(from[(size_t) r * ld + l]) : 0;
	}
}

void
distil_pack_panel_int8(int8_t *to, int32_t *sum, const int8_t *from, size_t ld, int rows, int k)
{
	int			r,
				l;

	memset(to, 0, distil_weight_bytes(DISTIL_TYPE_INT8, DISTIL_PANEL, k));
	for (r = 0; r < rows; r++)
	{
		sum[r] = 0;
		for (l = 0; l < k; l++)
		{
			to[distil_weight_index(DISTIL_TYPE_INT8, r, l, k)] = from[(size_t) r * ld + l];
			sum[r] += from[(size_t) r * ld + l];
		}
	}
}
