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

#define NORM_ROWS 4				/* at a time, so that their sums across lanes overlap */

/*
 * y = x + residual, whose mean and 1 / deviation are returned; the last vector has part of its lanes.  As
 * many rows that come next are asked for meanwhile (addresses only): a row is too short for the CPU to see
 * what follows.
 */
static inline __attribute__((always_inline)) void
norm_moments(float *mean, float *scale, float *y, const float *x, const float *residual, float eps, size_t c,
			 int rows)
{
	__mmask16	part = column_mask((int) ((c - 1) / 16 * 16), (int) c);
	uintptr_t	next = (uintptr_t) x + sizeof(float) * rows * c;
	uintptr_t	other = (uintptr_t) residual + sizeof(float) * rows * c;
	__m512		sum[NORM_ROWS];
	size_t		i;
	int			r;

#pragma GCC unroll 4
	for (r = 0; r < rows; r++)
		sum[r] = _mm512_setzero_ps();
	for (i = 0; i < c; i += 16)
	{
		__mmask16	mask = i + 16 <= c ? 0xffff : part;

#pragma GCC unroll 4
		for (r = 0; r < rows; r++)
		{
			__m512		v = _mm512_maskz_loadu_ps(mask, x + r * c + i);

			__builtin_prefetch((const void *) (next + sizeof(float) * (r * c + i)), 0, 3);
			if (residual != NULL)	/* usually y */
			{
				__builtin_prefetch((const void *) (other + sizeof(float) * (r * c + i)), 0, 3);
				v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, residual + r * c + i));
			}
			sum[r] = _mm512_add_ps(sum[r], v);
			_mm512_mask_storeu_ps(y + r * c + i, mask, v);
		}
	}
#pragma GCC unroll 4
	for (r = 0; r < rows; r++)
	{
		mean[r] = _mm512_reduce_add_ps(sum[r]) / c;
		sum[r] = _mm512_setzero_ps();
	}
	for (i = 0; i < c; i += 16)
	{
		__mmask16	mask = i + 16 <= c ? 0xffff : part;

#pragma GCC unroll 4
		for (r = 0; r < rows; r++)
		{
			__m512		d = _mm512_maskz_sub_ps(mask, _mm512_maskz_loadu_ps(mask, y + r * c + i),
												_mm512_set1_ps(mean[r]));

			sum[r] = _mm512_fmadd_ps(d, d, sum[r]);
		}
	}
#pragma GCC unroll 4
	for (r = 0; r < rows; r++)
		scale[r] = 1.0f / sqrtf(_mm512_reduce_add_ps(sum[r]) / c + eps);
}

/* Rows of y and of low, ld apart. */
static inline __attribute__((always_inline)) void
norm_some(float *y, uint16_t *low, size_t ld, const float *x, const float *residual, const float *gamma,
		  const float *beta, float eps, size_t c, int rows)
{
	float		mean[NORM_ROWS];
	float		scale[NORM_ROWS];
	size_t		i;
	int			r,
				k;

	norm_moments(mean, scale, y, x, residual, eps, c, rows);
	for (i = 0; i < c; i += 32)
	{
		__mmask16	mask[2] = {0xffff, 0xffff};
		__m512		slope[2];
		__m512		shift[2];

		for (k = 0; k < 2; k++)
		{
			if (i + 32 > c)
				mask[k] = column_mask((int) i + 16 * k, (int) c);
			slope[k] = _mm512_maskz_loadu_ps(mask[k], gamma + i + 16 * k);
			shift[k] = _mm512_maskz_loadu_ps(mask[k], beta + i + 16 * k);
		}
#pragma GCC unroll 4
		for (r = 0; r < rows; r++)
		{
			__m512		v[2];

			for (k = 0; k < 2; k++)
			{
				float	   *at = y + r * c + i + 16 * k;
				__m512		d = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask[k], at), _mm512_set1_ps(mean[r]));

				d = _mm512_mul_ps(d, _mm512_set1_ps(scale[r]));
				v[k] = _mm512_maskz_mov_ps(mask[k], _mm512_fmadd_ps(d, slope[k], shift[k]));
				_mm512_mask_storeu_ps(at, mask[k], v[k]);
			}
			_mm512_storeu_si512(low + r * ld + i, narrow_pair(v[0], v[1]));
		}
	}
}

static void
norm_bf16_avx512(DistilDevice *dev, float *y, const DistilRows *low, const float *x, const float *residual,
				 const float *gamma, const float *beta, float eps, int rows, int c)
{
	int			most;
	int			row;

	(void) dev;
	for (row = 0; row < rows; row += most)
	{
		size_t		at = (size_t) row * c;
		uint16_t   *to = (uint16_t *) low->data + row * low->ld;
		const float *other = residual != NULL ? residual + at : NULL;

		most = rows - row < NORM_ROWS ? 1 : NORM_ROWS;
		if (most == 1)
			norm_some(y + at, to, low->ld, x + at, other, gamma, beta, eps, c, 1);
		else
			norm_some(y + at, to, low->ld, x + at, other, gamma, beta, eps, c, NORM_ROWS);
	}
}

static void
quantize_bf16_avx512(DistilDevice *dev, const DistilRows *y, const DistilRows *x, DistilActivation act, int m,
					 int c)
{
	int			row,
				i;

	(void) dev;
	(void) act;
	for (row = 0; row < m; row++)
	{
		const float *from = (const float *) x->data + row * x->ld;

		for (i = 0; i < c; i += 32)
			_mm512_storeu_si512((uint16_t *) y->data + row * y->ld + i,
								narrow_pair(load_columns(from, i, c), load_columns(from, i + 16, c)));
	}
}
