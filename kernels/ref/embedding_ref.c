/*
 * embedding_ref.c
 *		Reference: table look-ups by row and their gradients.
 */
#include "ref.h"

void
distil_ref_embedding_forward(DistilDevice *dev, float *y, const int32_t *ids,
							 const int32_t *positions, const int32_t *types,
							 const float *word, const float *position, const float *type,
							 int t, int c)
{
	int			i,
				j;

	(void) dev;
	for (i = 0; i < t; i++)
	{
		for (j = 0; j < c; j++)
		{
			double		sum = word[(size_t) ids[i] * c + j];

			if (position != NULL)
				sum += position[(size_t) positions[i] * c + j];
			if (type != NULL)
				sum += type[(size_t) types[i] * c + j];
			y[(size_t) i * c + j] = (float) sum;
		}
	}
}

void
distil_ref_embedding_backward(DistilDevice *dev, float *dword, float *dposition, float *dtype,
							  const float *dy, const int32_t *ids, const int32_t *positions,
							  const int32_t *types, int t, int c)
{
	if (dword != NULL)
		distil_ref_scatter_add_rows(dev, dword, dy, ids, t, c);
	if (dposition != NULL)
		distil_ref_scatter_add_rows(dev, dposition, dy, positions, t, c);
	if (dtype != NULL)
		distil_ref_scatter_add_rows(dev, dtype, dy, types, t, c);
}

void
distil_ref_gather_rows(DistilDevice *dev, float *y, const float *x, const int32_t *rows, int n, int c)
{
	int			i,
				j;

	(void) dev;
	for (i = 0; i < n; i++)
	{
		for (j = 0; j < c; j++)
			y[(size_t) i * c + j] = x[(size_t) rows[i] * c + j];
	}
}

void
distil_ref_scatter_add_rows(DistilDevice *dev, float *dx, const float *dy, const int32_t *rows, int n, int c)
{
	int			i,
				j;

	(void) dev;
	for (i = 0; i < n; i++)
	{
		for (j = 0; j < c; j++)
			dx[(size_t) rows[i] * c + j] += dy[(size_t) i * c + j];
	}
}
