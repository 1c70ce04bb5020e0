/*
 * norm_avx512.h
 *		Norm of rows and their copy in BF16.
 *
 * As norm_cpu.h the variance is taken around the mean, the row staying in the first cache.
 */

/* The first lanes of 16 columns from i on of c. */
static inline __m512
load_columns(const float *p, int i, int c)
{
	return _mm512_maskz_loadu_ps(column_mask(i, c), p + i);
}

static inline void
norm_row(float *y, uint16_t *low, const float *x, const float *residual, const float *gamma,
		 const float *beta, float eps, int c)
{
	__m512		total = _mm512_setzero_ps();
	__m512		squares = _mm512_setzero_ps();
	__m512		mean;
	__m512		scale;
	int			i;

	for (i = 0; i < c; i += 16)
	{
		__m512		v = load_columns(x, i, c);

		if (residual != NULL)
			v = _mm512_add_ps(v, load_columns(residual, i, c));
		total = _mm512_add_ps(total, v);
		_mm512_mask_storeu_ps(y + i, column_mask(i, c), v);
	}
	mean = _mm512_set1_ps(_mm512_reduce_add_ps(total) / c);
	for (i = 0; i < c; i += 16)
	{
		__m512		d = _mm512_maskz_sub_ps(column_mask(i, c), load_columns(y, i, c), mean);

		squares = _mm512_fmadd_ps(d, d, squares);
	}
	scale = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / c + eps));
	for (i = 0; i < c; i += 32)
	{
		__m512		v[2];
		int			k;

		for (k = 0; k < 2; k++)
		{
			int			at = i + 16 * k;
			__m512		d = _mm512_mul_ps(_mm512_sub_ps(load_columns(y, at, c), mean), scale);

			v[k] = _mm512_maskz_mov_ps(column_mask(at, c), _mm512_fmadd_ps(d, load_columns(gamma, at, c),
																			load_columns(beta, at, c)));
			_mm512_mask_storeu_ps(y + at, column_mask(at, c), v[k]);
		}
		_mm512_storeu_si512(low + i, narrow_pair(v[0], v[1]));
	}
}

static void
norm_bf16_avx512(DistilDevice *dev, float *y, const DistilRows *low, const float *x, const float *residual,
				 const float *gamma, const float *beta, float eps, int rows, int c)
{
	int			row;

	(void) dev;
	for (row = 0; row < rows; row++)
	{
		size_t		at = (size_t) row * c;

		norm_row(y + at, (uint16_t *) low->data + row * low->ld, x + at,
				 residual != NULL ? residual + at : NULL, gamma, beta, eps, c);
	}
}

static void
quantize_bf16_avx512(DistilDevice *dev, const DistilRows *y, const DistilRows *x, int m, int c)
{
	int			row,
				i;

	(void) dev;
	for (row = 0; row < m; row++)
	{
		const float *from = (const float *) x->data + row * x->ld;

		for (i = 0; i < c; i += 32)
			_mm512_storeu_si512((uint16_t *) y->data + row * y->ld + i,
								narrow_pair(load_columns(from, i, c), load_columns(from, i + 16, c)));
	}
}
