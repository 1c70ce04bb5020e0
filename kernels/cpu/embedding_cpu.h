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

#define EMBEDDING_AHEAD 2		/* rows of the large table are fetched so many tokens early */

/* y = word (+ position) (+ type); ahead: a row of the large table that is fetched meanwhile */
static inline void
embedding_row(float *y, const float *word, const float *position, const float *type, const float *ahead,
			  size_t c)
{
	size_t		i;

	for (i = 0; i + LANES <= c; i += LANES)
	{
		vf			sum = v_load(word + i);

		__builtin_prefetch(ahead + i);
		if (position != NULL)
			sum += v_load(position + i);
		if (type != NULL)
			sum += v_load(type + i);
		v_store(y + i, sum);
	}
	for (; i < c; i++)
	{
		y[i] = word[i];
		if (position != NULL)
			y[i] += position[i];
		if (type != NULL)
			y[i] += type[i];
	}
}

static void
embedding_forward(DistilDevice *dev, float *y, const int32_t *ids, const int32_t *positions,
				  const int32_t *types, const float *word, const float *position, const float *type,
				  int t, int c)
{
	size_t		width = (size_t) c;
	int			i;

	(void) dev;
	for (i = 0; i < t; i++)
	{
		int			later = i + EMBEDDING_AHEAD < t ? i + EMBEDDING_AHEAD : i;

		embedding_row(y + i * width, word + ids[i] * width,
					  position != NULL ? position + positions[i] * width : NULL,
					  type != NULL ? type + types[i] * width : NULL, word + ids[later] * width, width);
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
