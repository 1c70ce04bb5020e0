/*
 * norm_cpu.h
 *		Template: layer normalisation (Ba et al. 2016) and unit length rows.
 *
 * The variance is taken around the mean in a second pass, never as E[x^2] - E[x]^2:
 * rows with a large common offset would lose all digits.
 */

#define NORM_FLOOR 1e-12f

/* s = x (+ residual), returns the mean; s may be x or residual */
static inline float
sum_row(float *s, const float *x, const float *residual, size_t c)
{
	vf			total = {0};
	size_t		i;

	for (i = 0; i < c; i += LANES)
	{
		size_t		part = v_part(i, c);
		vf			v = v_get(x + i, part);

		if (residual != NULL)
			v += v_get(residual + i, part);
		total += v;
		v_put(s + i, v, part);
	}
	return v_sum(total) / c;
}

static void
layernorm_forward(DistilDevice *dev, float *y, float *sum, float *mean, float *rstd,
				  const float *x, const float *residual, const float *gamma, const float *beta,
				  float eps, int rows, int c)
{
	int			row;

	(void) dev;
	for (row = 0; row < rows; row++)
	{
		size_t		at = (size_t) row * c;
		size_t		n = c;
		float	   *s = sum != NULL ? sum + at : y + at;
		float		mu = sum_row(s, x + at, residual != NULL ? residual + at : NULL, n);
		vf			squares = {0};
		float		scale;
		size_t		i;

		for (i = 0; i < n; i += LANES)
		{
			size_t		part = v_part(i, n);
			vf			d = v_get_fill(s + i, part, mu) - mu;

			squares += d * d;
		}
		scale = 1.0f / sqrtf(v_sum(squares) / c + eps);
		for (i = 0; i < n; i += LANES)
		{
			size_t		part = v_part(i, n);
			vf			d = (v_get(s + i, part) - mu) * scale;

			v_put(y + at + i, d * v_get(gamma + i, part) + v_get(beta + i, part), part);
		}
		if (mean != NULL)
			mean[row] = mu;
		if (rstd != NULL)
			rstd[row] = scale;
	}
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
