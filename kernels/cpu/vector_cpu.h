/*
 * vector_cpu.h
 *		Template: elementwise operations on flat vectors, and the optimizer.
 *
 * Reductions run in a fixed order, whatever the length: results are deterministic.
 */

#define KEEP_BLOCK 64			/* elements whose dropout factors are made at once */

static void
zero(DistilDevice *dev, float *y, size_t n)
{
	(void) dev;
	if (n > 0)
		memset(y, 0, n * sizeof(float));
}

/* y += scale * x */
static inline void
add_scaled(float *y, const float *x, float scale, size_t n)
{
	size_t		i;

	for (i = 0; i < n; i += LANES)
	{
		size_t		part = v_part(i, n);

		v_put(y + i, v_get(y + i, part) + v_get(x + i, part) * scale, part);
	}
}

static void
axpy(DistilDevice *dev, float *y, const float *x, float scale, size_t n)
{
	(void) dev;
	add_scaled(y, x, scale, n);
}

static void
sum_squares(DistilDevice *dev, double *sum, const float *x, size_t n)
{
	(void) dev;
	*sum = dot_double(x, x, n);
}

static void
count_nonfinite(DistilDevice *dev, int64_t *bad, const float *x, size_t n)
{
	int64_t		total = 0;
	size_t		start,
				i;

	(void) dev;
	for (start = 0; start < n; start += 4096)
	{
		size_t		end = n - start < 4096 ? n : start + 4096;
		int32_t		count = 0;

		for (i = start; i < end; i++)
		{
			uint32_t	bits;

			memcpy(&bits, x + i, sizeof(bits));
			count += (bits & 0x7f800000u) == 0x7f800000u;
		}
		total += count;
	}
	*bad = total;
}

/* Factors 0 or 1/(1-p) of elements first .. first + count - 1. */
static void
keep_factors(float *keep, DistilDropout drop, uint64_t first, size_t count)
{
	float		scale = 1.0f / (1.0f - drop.p);
	size_t		i;

	for (i = 0; i < count; i++)
		keep[i] = distil_dropout_keep(drop.seed, first + i, drop.p) ? scale : 0.0f;
}

static void
dropout(DistilDevice *dev, float *y, const float *x, DistilDropout drop, uint64_t first, size_t n)
{
	float		keep[KEEP_BLOCK];
	size_t		start,
				i;

	(void) dev;
	if (!(drop.p > 0.0f))
	{
		if (y != x && n > 0)
			memcpy(y, x, n * sizeof(float));
		return;
	}
	for (start = 0; start < n; start += KEEP_BLOCK)
	{
		size_t		count = n - start < KEEP_BLOCK ? n - start : KEEP_BLOCK;

		keep_factors(keep, drop, first + start, count);
		for (i = 0; i < count; i += LANES)
		{
			size_t		part = v_part(i, count);
			vf			k = v_get(keep + i, part);

			/* a dropped value is 0 even if it was not finite */
			v_put(y + start + i, v_select(k != v_set(0.0f), v_get(x + start + i, part) * k, k), part);
		}
	}
}

/* Loshchilov and Hutter 2019; the loop is left to the compiler, which knows vector square roots. */
static void
adamw(DistilDevice *dev, float *restrict w, float *restrict m, float *restrict v,
	  const float *restrict g, const DistilAdamW *step, size_t n)
{
	float		scale = step->gradient_scale;
	float		beta1 = step->beta1;
	float		beta2 = step->beta2;
	float		rest1 = (float) (1.0 - beta1);
	float		rest2 = (float) (1.0 - beta2);
	float		rate = step->learning_rate / step->correction1;
	float		root = (float) (1.0 / sqrt(step->correction2));
	float		decay = step->learning_rate * step->weight_decay;
	float		epsilon = step->epsilon;
	size_t		i;

	(void) dev;
	for (i = 0; i < n; i++)
	{
		float		gradient = g[i] * scale;
		float		first = beta1 * m[i] + rest1 * gradient;
		float		second = beta2 * v[i] + rest2 * (gradient * gradient);

		m[i] = first;
		v[i] = second;
		w[i] = (w[i] - decay * w[i]) - rate * first / (sqrtf(second) * root + epsilon);
	}
}
