/*
 * norm_cpu.h
 *		Template: layer normalisation (Ba et al. 2016) and unit length rows.
 *
 * The variance is taken around the mean in a second pass, never as E[x^2] - E[x]^2:
 * rows with a large common offset would lose all digits.
 */

#define NORM_FLOOR 1e-12f

#define NORM_TOGETHER 4			/* rows: their sums across lanes overlap */

/* Some rows, whose number is a constant after inlining; s [rows, c] may be x, residual or y. */
static inline __attribute__((always_inline)) void
layernorm_rows(float *y, float *s, float *mean, float *rstd, const float *x, const float *residual,
			   const float *gamma, const float *beta, float eps, size_t c, int rows)
{
	vf			sums[NORM_TOGETHER] = {{0}};
	vf			squares[NORM_TOGETHER] = {{0}};
	float		mu[NORM_TOGETHER];
	float		scale[NORM_TOGETHER];
	size_t		i;
	int			r;

	for (i = 0; i < c; i += LANES)
	{
		size_t		part = v_part(i, c);

#pragma GCC unroll 4
		for (r = 0; r < rows; r++)
		{
			vf			v = v_get(x + r * c + i, part);

			if (residual != NULL)
				v += v_get(residual + r * c + i, part);
			sums[r] += v;
			v_put(s + r * c + i, v, part);
		}
	}
#pragma GCC unroll 4
	for (r = 0; r < rows; r++)
		mu[r] = v_sum(sums[r]) / c;
	for (i = 0; i < c; i += LANES)
	{
		size_t		part = v_part(i, c);

#pragma GCC unroll 4
		for (r = 0; r < rows; r++)
		{
			vf			d = v_get_fill(s + r * c + i, part, mu[r]) - mu[r];

			squares[r] = v_fma(d, d, squares[r]);
		}
	}
#pragma GCC unroll 4
	for (r = 0; r < rows; r++)
		scale[r] = 1.0f / sqrtf(v_sum(squares[r]) / c + eps);
	for (i = 0; i < c; i += LANES)
	{
		size_t		part = v_part(i, c);
		vf			slope = v_get(gamma + i, part);
		vf			shift = v_get(beta + i, part);

#pragma GCC unroll 4
		for (r = 0; r < rows; r++)
			v_put(y + r * c + i, v_fma((v_get(s + r * c + i, part) - mu[r]) * scale[r], slope, shift), part);
	}
	for (r = 0; r < rows && mean != NULL; r++)
		mean[r] = mu[r];
	for (r = 0; r < rows && rstd != NULL; r++)
		rstd[r] = scale[r];
}

static void
layernorm_forward(DistilDevice *dev, float *y, float *sum, float *mean, float *rstd,
				  const float *x, const float *residual, const float *gamma, const float *beta,
				  float eps, int rows, int c)
{
	int			row = 0;

	(void) dev;
#define LAYERNORM_ROWS(count) \
	layernorm_rows(y + (size_t) row * c, (sum != NULL ? sum : y) + (size_t) row * c, \
				   mean != NULL ? mean + row : NULL, rstd != NULL ? rstd + row : NULL, x + (size_t) row * c, \
				   residual != NULL ? residual + (size_t) row * c : NULL, gamma, beta, eps, c, count)
	for (; row + NORM_TOGETHER <= rows; row += NORM_TOGETHER)
		LAYERNORM_ROWS(NORM_TOGETHER);
	for (; row < rows; row++)
		LAYERNORM_ROWS(1);
#undef LAYERNORM_ROWS
}

static void
layernorm_backward(DistilDevice *dev, float *dx, float *dgamma, float *dbeta,
				   const float *dy, const float *sum, const float *mean, const float *rstd,
				   const float *gamma, int rows, int c)
{
	int			row;

	(void) dev;
	for (row = 0; row < rows; row++)
	{
		size_t		at = (size_t) row * c;
		size_t		n = c;
		float		mu = mean[row];
		float		scale = rstd[row];
		vf			sum1 = {0};
		vf			sum2 = {0};
		float		mean1,
					mean2;
		size_t		i;

		for (i = 0; i < n; i += LANES)
		{
			size_t		part = v_part(i, n);
			vf			g = v_get(dy + at + i, part);
			vf			normal = (v_get(sum + at + i, part) - mu) * scale;
			vf			d = g * v_get(gamma + i, part);

			sum1 += d;
			sum2 += d * normal;
			v_put(dgamma + i, v_get(dgamma + i, part) + g * normal, part);
			v_put(dbeta + i, v_get(dbeta + i, part) + g, part);
		}
		mean1 = v_sum(sum1) / c;
		mean2 = v_sum(sum2) / c;
		for (i = 0; i < n; i += LANES)
		{
			size_t		part = v_part(i, n);
			vf			normal = (v_get(sum + at + i, part) - mu) * scale;
			vf			d = v_get(dy + at + i, part) * v_get(gamma + i, part);

			v_put(dx + at + i, (d - mean1 - normal * mean2) * scale, part);
		}
	}
}

static void
normalize_forward(DistilDevice *dev, float *y, float *norm, const float *x, int rows, int c)
{
	int			row;

	(void) dev;
	for (row = 0; row < rows; row++)
	{
		size_t		at = (size_t) row * c;
		size_t		n = c;
		float		length = (float) sqrt(dot_double(x + at, x + at, n));
		float		divisor = length < NORM_FLOOR ? NORM_FLOOR : length;
		size_t		i;

		for (i = 0; i < n; i += LANES)
		{
			size_t		part = v_part(i, n);

			v_put(y + at + i, v_get(x + at + i, part) / divisor, part);
		}
		if (norm != NULL)
			norm[row] = length;
	}
}

/* Below the floor the length is a constant, so the projection term falls away. */
static void
normalize_backward(DistilDevice *dev, float *dx, const float *dy, const float *y,
				   const float *norm, int rows, int c)
{
	int			row;

	(void) dev;
	for (row = 0; row < rows; row++)
	{
		size_t		at = (size_t) row * c;
		size_t		n = c;
		float		dot = (float) dot_double(dy + at, y + at, n);
		float		length = norm[row];
		size_t		i;

		if (length < NORM_FLOOR)
		{
			length = NORM_FLOOR;
			dot = 0.0f;
		}
		for (i = 0; i < n; i += LANES)
		{
			size_t		part = v_part(i, n);

			v_put(dx + at + i, (v_get(dy + at + i, part) - v_get(y + at + i, part) * dot) / length, part);
		}
	}
}
