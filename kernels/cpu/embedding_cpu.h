/*
 * embedding_cpu.h
 *		Template: table look-ups by row and their gradients.
 *
 * Gradients are added in the order of the rows, so that repeated rows give the same bits each time.
 */

static void
gather_rows(DistilDevice *dev, float *y, const float *x, const int32_t *rows, int n, int c)
{
	int			i;

	(void) dev;
	for (i = 0; i < n; i++)
		memcpy(y + (size_t) i * c, x + (size_t) rows[i] * c, c * sizeof(float));
}

static void
scatter_add_rows(DistilDevice *dev, float *dx, const float *dy, const int32_t *rows, int n, int c)
{
	int			i;

	(void) dev;
	for (i = 0; i < n; i++)
		add_scaled(dx + (size_t) rows[i] * c, dy + (size_t) i * c, 1.0f, c);
}

static void
embedding_forward(DistilDevice *dev, float *y, const int32_t *ids, const int32_t *positions,
				  const int32_t *types, const float *word, const float *position, const float *type,
				  int t, int c)
{
	int			i;

	gather_rows(dev, y, word, ids, t, c);
	for (i = 0; i < t; i++)
	{
		if (position != NULL)
			add_scaled(y + (size_t) i * c, position + (size_t) positions[i] * c, 1.0f, c);
		if (type != NULL)
			add_scaled(y + (size_t) i * c, type + (size_t) types[i] * c, 1.0f, c);
	}
}

static void
embedding_backward(DistilDevice *dev, float *dword, float *dposition, float *dtype,
				   const float *dy, const int32_t *ids, const int32_t *positions,
				   const int32_t *types, int t, int c)
{
	if (dword != NULL)
		scatter_add_rows(dev, dword, dy, ids, t, c);
	if (dposition != NULL)
		scatter_add_rows(dev, dposition, dy, positions, t, c);
	if (dtype != NULL)
		scatter_add_rows(dev, dtype, dy, types, t, c);
}
