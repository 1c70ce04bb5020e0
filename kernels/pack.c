/*
 * pack.c
 *		The packed form of a linear layer's weight, see DISTIL_PANEL in kernels.h.
 *
 * Plain C for any CPU: whoever writes packed weights does it once.
 */
#include "kernels.h"

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
