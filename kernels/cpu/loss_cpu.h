/*
 * loss_cpu.h
 *		Template: losses and their gradients.
 *
 * logits_loss (Hinton et al. 2015) reads each row three times: maxima, sums, gradient.
 * The gradient replaces the student's logits: nothing may read s[i] after it was written.
 */

#define SQUARED_NORM_FLOOR 1e-12
#define SUM_BLOCK 512			/* elements summed in float before a double takes over */

static double
squared_distance(const float *s, const float *t, size_t n)
{
	vd			sum = {0};
	double		total;
	size_t		i;

	for (i = 0; i + HALF <= n; i += HALF)
	{
		vd			d = d_load(s + i) - d_load(t + i);

		sum += d * d;
	}
	total = d_sum(sum);
	for (; i < n; i++)
		total += ((double) s[i] - t[i]) * ((double) s[i] - t[i]);
	return total;
}

static void
mse_loss(DistilDevice *dev, double *loss, float *ds, const float *s, const float *t,
		 float scale, int rows, int c)
{
	size_t		n = (size_t) rows * c;
	size_t		i;

	(void) dev;
	*loss += scale * squared_distance(s, t, n);
	for (i = 0; i < n; i += LANES)
	{
		size_t		part = v_part(i, n);

		v_put(ds + i, (v_get(s + i, part) - v_get(t + i, part)) * (2.0f * scale), part);
	}
}

static void
cosine_loss(DistilDevice *dev, double *loss, float *ds, const float *s, const float *t,
			float scale, int rows, int c)
{
	int			row;

	(void) dev;
	for (row = 0; row < rows; row++)
	{
		const float *sr = s + (size_t) row * c;
		const float *tr = t + (size_t) row * c;
		float	   *dr = ds + (size_t) row * c;
		size_t		n = c;
		double		ss = dot_double(sr, sr, n);
		double		tt = dot_double(tr, tr, n);
		double		st = dot_double(sr, tr, n);
		double		cosine;
		float		of_t,
					of_s;
		size_t		i;

		ss = sqrt(ss < SQUARED_NORM_FLOOR ? SQUARED_NORM_FLOOR : ss);
		tt = sqrt(tt < SQUARED_NORM_FLOOR ? SQUARED_NORM_FLOOR : tt);
		cosine = st / (ss * tt);
		*loss += scale * (1.0 - cosine);
		of_t = (float) (-scale / (ss * tt));
		of_s = (float) (scale * cosine / (ss * ss));
		for (i = 0; i < n; i += LANES)
		{
			size_t		part = v_part(i, n);

			v_put(dr + i, v_get(tr + i, part) * of_t + v_get(sr + i, part) * of_s, part);
		}
	}
}

static float
row_top(const float *x, size_t n)
{
	vf			tops = v_set(-INFINITY);
	size_t		i;

	for (i = 0; i < n; i += LANES)
		tops = v_max(v_get_fill(x + i, v_part(i, n), -INFINITY), tops);
	return v_top(tops);
}

/* Sum of exp((x - top) * factor); factor > 0. */
static double
sum_exp(const float *x, float top, float factor, size_t n)
{
	double		total = 0.0;
	size_t		start,
				i;

	for (start = 0; start < n; start += SUM_BLOCK)
	{
		size_t		end = n - start < SUM_BLOCK ? n : start + SUM_BLOCK;
		vf			sum = {0};

		for (i = start; i < end; i += LANES)
			sum += v_exp((v_get_fill(x + i, v_part(i, end), -INFINITY) - top) * factor);
		total += v_sum(sum);
	}
	return total;
}

/* Sum of exp((t - top) * factor) * (t - s), that is the cross term of the divergence. */
static double
sum_cross(const float *s, const float *t, float top, float factor, size_t n)
{
	double		total = 0.0;
	size_t		start,
				i;

	for (start = 0; start < n; start += SUM_BLOCK)
	{
		size_t		end = n - start < SUM_BLOCK ? n : start + SUM_BLOCK;
		vf			sum = {0};

		for (i = start; i < end; i += LANES)
		{
			size_t		part = v_part(i, end);
			vf			tv = v_get(t + i, part);
			vf			e = v_exp((tv - top) * factor);

			/* a teacher's -infinity has probability 0 and adds nothing */
			sum += v_first(v_select(e != v_set(0.0f), e * (tv - v_get(s + i, part)), e), part);
		}
		total += v_sum(sum);
	}
	return total;
}

/* What the gradient pass over one row needs; a term that is off has scale 0. */
typedef struct RowLoss
{
	float		inverse;		/* 1/T */
	float		top_s;
	float		top_t;
	float		student;		/* scale_ce / T / sum of exp of the student at T */
	float		teacher;		/* the same of the teacher */
	float		plain;			/* scale_label / sum of exp of the student at 1 */
	float		squared;		/* 2 scale_mse */
} RowLoss;

static void
logits_gradient(float *s, const float *t, const RowLoss *r, size_t n)
{
	size_t		i;

	for (i = 0; i < n; i += LANES)
	{
		size_t		part = v_part(i, n);
		vf			sv = v_get(s + i, part);
		vf			tv = t != NULL ? v_get(t + i, part) : sv;
		vf			g = {0};

		if (r->student != 0.0f)
			g += v_exp((sv - r->top_s) * r->inverse) * r->student -
				v_exp((tv - r->top_t) * r->inverse) * r->teacher;
		if (r->plain != 0.0f)
			g += v_exp(sv - r->top_s) * r->plain;
		if (r->squared != 0.0f)
			g += (sv - tv) * r->squared;
		v_put(s + i, g, part);
	}
}

static void
logits_loss(DistilDevice *dev, double *losses, float *s, const float *t,
			const int32_t *labels, const DistilLogitsLoss *loss, int rows, int v)
{
	int			row;

	(void) dev;
	for (row = 0; row < rows; row++)
	{
		float	   *sr = s + (size_t) row * v;
		const float *tr = t != NULL ? t + (size_t) row * v : NULL;
		int			label = labels != NULL && loss->scale_label != 0.0f ? labels[row] : -100;
		RowLoss		r = {.inverse = 1.0f / loss->temperature, .squared = 2.0f * loss->scale_mse};

		r.top_s = row_top(sr, v);
		if (loss->scale_ce != 0.0f)
		{
			double		sum_s = sum_exp(sr, r.top_s, r.inverse, v);
			double		sum_t;

			r.top_t = row_top(tr, v);
			sum_t = sum_exp(tr, r.top_t, r.inverse, v);
			losses[0] += loss->scale_ce *
				((sum_cross(sr, tr, r.top_t, r.inverse, v) / sum_t - ((double) r.top_t - r.top_s)) /
				 loss->temperature + log(sum_s) - log(sum_t));
			r.student = (float) (loss->scale_ce * r.inverse / sum_s);
			r.teacher = (float) (loss->scale_ce * r.inverse / sum_t);
		}
		if (label >= 0)
		{
			double		sum = sum_exp(sr, r.top_s, 1.0f, v);

			losses[1] += loss->scale_label * (r.top_s + log(sum) - sr[label]);
			r.plain = (float) (loss->scale_label / sum);
		}
		if (loss->scale_mse != 0.0f)
			losses[2] += loss->scale_mse * squared_distance(sr, tr, v);
		logits_gradient(sr, tr, &r, v);
		if (label >= 0)
			sr[label] -= loss->scale_label;
	}
}
