/*
 * test_kernel_sequences.c
 *		Every backend and instruction set against the reference: attention, pooling, losses.
 *
 * Tolerances: kernel_samples.h.
 */
#include "kernel_samples.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* ---------- attention ---------- */

/* Ragged rows that start at row 2: lengths 1, 3, 17, 33, 129. */
static const int32_t ragged[] = {2, 3, 6, 23, 56, 185};

#define RAGGED_SEQUENCES 5
#define RAGGED_ROWS 185

/* Columns of heads [first, first + count) of rows of 1 or 3 parts; the others must keep their bits. */
static void
same_heads(const char *what, const float *got, const float *want, const float *before,
		   const DistilAttention *a, int parts, double tolerance)
{
	size_t		width = (size_t) a->heads * a->head_dim;
	size_t		n = RAGGED_ROWS * width * parts;
	float	   *filtered = copy_floats(want, n);
	size_t		i;

	for (i = 0; i < n; i++)
	{
		int			head = (int) (i % width / a->head_dim);

		if (i / (width * parts) < 2 || head < a->head_first || head >= a->head_first + a->head_count)
		{
			if (memcmp(got + i, before + i, sizeof(float)) != 0)
			{
				CHECK_MSG(false, "%s %s wrote element %zu of another head or sequence\n",
						  under_test, what, i);
				break;
			}
			filtered[i] = got[i];
		}
	}
	same(what, got, filtered, n, tolerance);
	drop(filtered);
}

static void
test_attention_case(DistilDevice *dev, const DistilAttention *a)
{
	size_t		width = (size_t) a->heads * a->head_dim;
	size_t		n = RAGGED_ROWS * width;
	size_t		nl = RAGGED_ROWS * (size_t) a->heads;
	float	   *qkv = random_floats(3 * n, 1.5);
	float	   *dout = random_floats(n, 1.0);
	float	   *before = random_floats(3 * n, 1.0);
	float	   *out = copy_floats(before, n);
	float	   *lse = copy_floats(before, nl);
	float	   *want_out = copy_floats(before, n);
	float	   *want_lse = copy_floats(before, nl);
	float	   *dqkv = copy_floats(before, 3 * n);
	float	   *want_dqkv = copy_floats(before, 3 * n);
	double		grow = a->dropout.p > 0.0f ? 2.0 : 1.0;

	dev->ops->attention_forward(dev, out, lse, qkv, ragged, a);
	ref->ops->attention_forward(ref, want_out, want_lse, qkv, ragged, a);
	same_heads("attention", out, want_out, before, a, 1, 2e-6 * grow);
	same("attention lse", lse, want_lse, nl, 5e-6);
	dev->ops->attention_backward(dev, dqkv, dout, qkv, want_out, want_lse, ragged, a);
	ref->ops->attention_backward(ref, want_dqkv, dout, qkv, want_out, want_lse, ragged, a);
	same_heads("attention backward", dqkv, want_dqkv, before, a, 3, 1e-5 * grow * sqrt(a->head_dim));
	memcpy(out, before, n * sizeof(float));
	dev->ops->attention_forward(dev, out, NULL, qkv, ragged, a);
	same_heads("attention without lse", out, want_out, before, a, 1, 2e-6 * grow);
	drop(qkv), drop(dout), drop(before), drop(out), drop(lse), drop(want_out), drop(want_lse);
	drop(dqkv), drop(want_dqkv);
}

static void
test_attention(DistilDevice *dev)
{
	static const int dims[] = {1, 8, 31, 64};
	size_t		d;
	int			causal;
	int			p;

	for (d = 0; d < sizeof(dims) / sizeof(dims[0]); d++)
	{
		for (causal = 0; causal < 2; causal++)
		{
			for (p = 0; p < 2; p++)
			{
				DistilAttention a = {.nseq = RAGGED_SEQUENCES,.heads = 3,.head_dim = dims[d],.head_count = 3,
				.scale = 1.0f / sqrtf(dims[d]),.causal = causal == 1,.dropout = {p * 0.4f, 99}};

				test_attention_case(dev, &a);
				a.head_first = 1;
				a.head_count = 1;
				test_attention_case(dev, &a);
			}
		}
	}
}

/*
 * A NaN in a query is in its output, one in a key in the output of all queries: whatever
 * its bits, all queries or the last alone.
 */
static void
test_attention_nan(DistilDevice *dev)
{
	static const int32_t offsets[] = {0, 40};
	float	   *qkv = random_floats((size_t) 40 * 48, 1.0);
	float	   *out = random_floats((size_t) 40 * 16, 1.0);

	for (int kind = 0; kind < NAN_KINDS; kind++)
	{
		for (int key = 0; key < 2; key++)
		{
			float	   *at = qkv + 39 * 48 + 16 * key + 3;
			float		kept = *at;

			memcpy(at, &nan_bits[kind], sizeof(float));
			for (int last = 0; last < 2; last++)
			{
				DistilAttention a = {.nseq = 1,.heads = 1,.head_dim = 16,.head_count = 1,.scale = 0.25f,
				.query_first = last * 39};

				memset(out, 0, (size_t) 40 * 16 * sizeof(float));
				dev->ops->attention_forward(dev, out, NULL, qkv, offsets, &a);
				for (int row = key && !last ? 0 : 39; row < 40; row++)
					CHECK_MSG(isnan(out[row * 16]) && isnan(out[row * 16 + 15]),
							  "%s attention loses NaN %x of %s %d in row %d\n",
							  under_test, nan_bits[kind], key ? "key" : "query", 39, row);
			}
			*at = kept;
		}
	}
	drop(qkv), drop(out);
}

/*
 * Scores far apart make no subnormal numbers, which a CPU computes with
 * a hundred times slower; it tells of them.
 */
static void
test_attention_subnormal(DistilDevice *dev)
{
#if defined(__x86_64__)
	static const int32_t offsets[] = {0, 150};
	static const int dims[] = {32, 20};
	int			way;

	for (way = 0; way < 4 && strncmp(under_test, "cpu/", 4) == 0; way++)
	{
		int			dim = dims[way / 2];
		size_t		n = (size_t) 150 * 2 * dim;
		DistilAttention a = {.nseq = 1,.heads = 2,.head_dim = dim,.head_count = 2,.scale = 200.0f,
		.causal = way % 2 == 1};
		float	   *qkv = random_floats(3 * n, 0.5);
		float	   *out = random_floats(n, 0.0);
		unsigned	state;

		dev->ops->attention_forward(dev, out, NULL, qkv, offsets, &a);	/* what is done once may come first */
		_mm_setcsr(_mm_getcsr() & ~(unsigned) (_MM_EXCEPT_DENORM | _MM_EXCEPT_UNDERFLOW));
		dev->ops->attention_forward(dev, out, NULL, qkv, offsets, &a);
		state = _mm_getcsr();
		CHECK_MSG((state & (_MM_EXCEPT_DENORM | _MM_EXCEPT_UNDERFLOW)) == 0,
				  "%s attention met subnormal numbers: %x, way %d\n", under_test, state, way);
		drop(qkv);
		drop(out);
	}
#else
	(void) dev;
#endif
}

/* Position biases, and the last queries alone as in generation, against the reference. */
static void
test_attention_parts(DistilDevice *dev)
{
	static const int32_t offsets[] = {0, 150};
	float	   *relative = random_floats(299 * 2, 1.0);
	int			first;

	for (first = 0; first < 150; first += first == 0 ? 100 : 24)
	{
		int			last = first == 148;
		DistilAttention a = {.nseq = 1,.heads = 2,.head_dim = 16,.head_count = 2,.scale = 0.25f,
		.causal = true,.query_first = last ? 149 : first,.relative = relative,.relative_limit = 150};
		size_t		n = (size_t) 150 * 32;
		float	   *qkv = random_floats(3 * n, 2.0);
		float	   *unset = unset_floats(n);
		float	   *out = copy_floats(unset, n);
		float	   *want = copy_floats(unset, n);

		a.relative = first % 48 == 4 ? NULL : relative;
		dev->ops->attention_forward(dev, out, NULL, qkv, offsets, &a);
		ref->ops->attention_forward(ref, want, NULL, qkv, offsets, &a);
		CHECK(memcmp(out, want, sizeof(float) * (size_t) a.query_first * 32) == 0);
		same("attention of the last queries", out + (size_t) a.query_first * 32,
			 want + (size_t) a.query_first * 32, n - (size_t) a.query_first * 32, 3e-6);
		/* the queries of a long sequence in parts: the same numbers, and none behind the end */
		if (a.query_first < 140)
		{
			float	   *parts = copy_floats(want, n);

			memcpy(parts + (size_t) a.query_first * 32, unset,
				   (n - (size_t) a.query_first * 32) * sizeof(float));
			a.query_end = a.query_first + 7;
			dev->ops->attention_forward(dev, parts, NULL, qkv, offsets, &a);
			CHECK(memcmp(parts + (size_t) a.query_end * 32, unset,
						 (n - (size_t) a.query_end * 32) * sizeof(float)) == 0);
			a.query_first = a.query_end;
			a.query_end = 150;
			dev->ops->attention_forward(dev, parts, NULL, qkv, offsets, &a);
			CHECK(memcmp(parts, out, n * sizeof(float)) == 0);
			drop(parts);
		}
		drop(qkv);
		drop(out);
		drop(want);
		drop(unset);
	}
	{
		DistilAttention a = {.nseq = 1,.heads = 2,.head_dim = 16,.head_count = 2,.scale = 0.25f,
		.dropout = {0.2f, 5},.relative = relative,.relative_limit = 150};
		size_t		n = (size_t) 150 * 32;
		float	   *qkv = random_floats(3 * n, 2.0);
		float	   *dout = random_floats(n, 1.0);
		float	   *out = unset_floats(n);
		float	   *lse = unset_floats(300);
		float	   *dqkv = unset_floats(3 * n);
		float	   *want = unset_floats(3 * n);
		float	   *got_bias = random_floats(299 * 2, 0.0);
		float	   *want_bias = random_floats(299 * 2, 0.0);

		ref->ops->attention_forward(ref, out, lse, qkv, offsets, &a);
		a.drelative = got_bias;
		dev->ops->attention_backward(dev, dqkv, dout, qkv, out, lse, offsets, &a);
		a.drelative = want_bias;
		ref->ops->attention_backward(ref, want, dout, qkv, out, lse, offsets, &a);
		same("backward of relative attention", dqkv, want, 3 * n, 2e-5);
		same("gradient of position biases", got_bias, want_bias, 299 * 2, 2e-5);
		drop(qkv);
		drop(dout);
		drop(out);
		drop(lse);
		drop(dqkv);
		drop(want);
		drop(got_bias);
		drop(want_bias);
	}
	drop(relative);
}

/*
 * Queries in columns and in rows of the scores, which dropout and masks need: the same bits.
 * Dropout that drops nothing multiplies by 1; a mask hides nothing from the last query.  The
 * long one has fewer queries at a time.
 */
static void
test_attention_ways(DistilDevice *dev)
{
	static const int lengths[] = {1, 5, 16, 47, 50, 129, 1500};
	static const int dims[] = {7, 32, 64};
	size_t		i;
	size_t		d;

	for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
	{
		for (d = 0; d < sizeof(dims) / sizeof(dims[0]) && lengths[i] * dims[d] <= 65536; d++)
		{
			int			length = lengths[i];
			int32_t		offsets[] = {0, length};
			size_t		width = (size_t) dims[d];
			size_t		n = length * width;
			size_t		last = n - width;
			DistilAttention a = {.nseq = 1,.heads = 1,.head_dim = dims[d],.head_count = 1,
			.scale = 1.0f / sqrtf(dims[d])};
			float	   *qkv = random_floats(3 * n, 3.0);
			float	   *columns = unset_floats(n);
			float	   *rows = unset_floats(n);
			float	   *lse = unset_floats(2 * (size_t) length);

			dev->ops->attention_forward(dev, columns, lse, qkv, offsets, &a);
			a.dropout.p = 1e-12f;
			dev->ops->attention_forward(dev, rows, lse + length, qkv, offsets, &a);
			CHECK_MSG(memcmp(columns, rows, n * sizeof(float)) == 0 &&
					  memcmp(lse, lse + length, length * sizeof(float)) == 0,
					  "%s attention of %d, width %d: rows differ from columns\n", under_test, length,
					  dims[d]);
			a.dropout.p = 0.0f;
			a.causal = true;
			dev->ops->attention_forward(dev, rows, NULL, qkv, offsets, &a);
			CHECK_MSG(memcmp(columns + last, rows + last, width * sizeof(float)) == 0,
					  "%s attention of %d, width %d: masked rows differ\n", under_test, length, dims[d]);
			drop(qkv), drop(columns), drop(rows), drop(lse);
		}
	}
}

/* Longer than a block of queries, with heads narrow and too wide for the scratch memory. */
static void
test_attention_long(DistilDevice *dev)
{
	static const int32_t offsets[] = {0, 300};
	static const int dims[] = {8, 256};
	int			i;

	for (i = 0; i < 4; i++)
	{
		int			dim = dims[i / 2];
		DistilAttention a = {.nseq = 1,.heads = 1,.head_dim = dim,.head_count = 1,
		.scale = 1.0f / sqrtf(dim),.causal = i % 2 == 1,.dropout = {0.1f, 5}};
		size_t		n = (size_t) 300 * dim;
		float	   *qkv = random_floats(3 * n, 2.0);
		float	   *dout = random_floats(n, 1.0);
		float	   *out = unset_floats(n);
		float	   *lse = unset_floats(300);
		float	   *want_out = unset_floats(n);
		float	   *want_lse = unset_floats(300);
		float	   *dqkv = unset_floats(3 * n);
		float	   *want_dqkv = unset_floats(3 * n);

		dev->ops->attention_forward(dev, out, lse, qkv, offsets, &a);
		ref->ops->attention_forward(ref, want_out, want_lse, qkv, offsets, &a);
		same("long attention", out, want_out, n, 3e-6);
		same("long attention lse", lse, want_lse, 300, 5e-6);
		dev->ops->attention_backward(dev, dqkv, dout, qkv, out, lse, offsets, &a);
		ref->ops->attention_backward(ref, want_dqkv, dout, qkv, want_out, want_lse, offsets, &a);
		same("long attention backward", dqkv, want_dqkv, 3 * n, 1e-5 * sqrt(dim));
		drop(qkv), drop(dout), drop(out), drop(lse), drop(want_out), drop(want_lse);
		drop(dqkv), drop(want_dqkv);
	}
}

/* ---------- pooling ---------- */

static void
test_pool(DistilDevice *dev)
{
	static const int32_t offsets[] = {1, 2, 2, 5, 22, 55, 56};	/* the second is empty */
	int			nseq = 6,
				nrows = 56;
	int			pooling;
	size_t		l;

	for (pooling = DISTIL_POOL_CLS; pooling <= DISTIL_POOL_LAST; pooling++)
	{
		for (l = 0; l < LENGTHS - 1; l++)
		{
			int			c = (int) lengths[l];
			size_t		n = (size_t) nseq * c;
			float	   *x = random_floats((size_t) nrows * c, 1.0);
			float	   *y = unset_floats(n);
			float	   *want = unset_floats(n);
			float	   *dx = unset_floats((size_t) nrows * c);
			float	   *want_dx = unset_floats((size_t) nrows * c);
			int32_t    *top = random_ints(n, 1);
			int32_t    *want_top = random_ints(n, 1);

			dev->ops->pool_forward(dev, pooling, y, top, x, offsets, nseq, c);
			ref->ops->pool_forward(ref, pooling, want, want_top, x, offsets, nseq, c);
			same("pool", y, want, n, 2e-6);
			CHECK(memcmp(top, want_top, n * sizeof(int32_t)) == 0);
			if (pooling != DISTIL_POOL_MAX)
			{
				dev->ops->pool_forward(dev, pooling, y, NULL, x, offsets, nseq, c);
				same("pool without argmax", y, want, n, 2e-6);
			}
			dev->ops->pool_backward(dev, pooling, dx, y, top, offsets, nseq, c);
			ref->ops->pool_backward(ref, pooling, want_dx, want, want_top, offsets, nseq, c);
			CHECK(isnan(dx[0]));	/* row 0 is no sequence's */
			same("pool backward", dx + c, want_dx + c, (size_t) (nrows - 1) * c, 2e-6);
			drop(x), drop(y), drop(want), drop(dx), drop(want_dx), drop(top), drop(want_top);
		}
	}
}

/* ---------- losses ---------- */

static void
test_losses(DistilDevice *dev)
{
	size_t		l;
	int			rows = 3;

	for (l = 0; l < LENGTHS; l++)
	{
		int			c = (int) lengths[l];
		size_t		n = (size_t) rows * c;
		float	   *s = random_floats(n, 1.0);
		float	   *t = random_floats(n, 1.0);
		float	   *ds = unset_floats(n);
		float	   *want = unset_floats(n);
		double		loss = 0.5,
					want_loss = 0.5;

		dev->ops->mse_loss(dev, &loss, ds, s, t, 0.25f, rows, c);
		ref->ops->mse_loss(ref, &want_loss, want, s, t, 0.25f, rows, c);
		CHECK_NEAR(loss, want_loss, 1e-12 * want_loss);
		same("mse", ds, want, n, 3e-7);
		memcpy(ds, s, n * sizeof(float));
		dev->ops->mse_loss(dev, &loss, ds, ds, t, 0.25f, rows, c);
		same("mse in place", ds, want, n, 3e-7);
		if (c > 1)
			memset(s, 0, c * sizeof(float));	/* a zero row: the floor */
		ref->ops->cosine_loss(ref, &want_loss, want, s, t, 1e-6f, rows, c);
		loss = want_loss = 0.0;
		dev->ops->cosine_loss(dev, &loss, ds, s, t, 1e-6f, rows, c);
		ref->ops->cosine_loss(ref, &want_loss, want, s, t, 1e-6f, rows, c);
		CHECK_NEAR(loss, want_loss, 1e-14);
		same("cosine", ds, want, n, 1e-6);
		memcpy(ds, s, n * sizeof(float));
		dev->ops->cosine_loss(dev, &loss, ds, ds, t, 1e-6f, rows, c);
		same("cosine in place", ds, want, n, 1e-6);
		drop(s), drop(t), drop(ds), drop(want);
	}
}

static void
test_logits_loss(DistilDevice *dev)
{
	static const DistilLogitsLoss settings[] = {
		{2.0f, 0.7f, 0.0f, 0.0f}, {1.0f, 0.0f, 0.9f, 0.0f}, {1.0f, 0.0f, 0.0f, 0.3f},
		{2.0f, 1.3f, 0.4f, 0.01f}, {1.0f, 0.5f, 0.5f, 0.0f}, {5.0f, 0.0f, 0.4f, 0.1f},
	};
	static const int32_t labels[] = {0, -100, 2, 1};
	size_t		i,
				l;
	int			rows = 4;

	for (i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
	{
		for (l = 1; l < LENGTHS; l++)
		{
			int			v = (int) lengths[l];
			size_t		n = (size_t) rows * v;
			float	   *s = random_floats(n, 6.0);
			float	   *t = random_floats(n, 6.0);
			bool		teacher = settings[i].scale_ce != 0.0f || settings[i].scale_mse != 0.0f;
			const int32_t *given = i == 2 ? NULL : labels;
			float	   *want = copy_floats(s, n);
			double		loss[3] = {1.0, 2.0, 3.0};
			double		want_loss[3] = {1.0, 2.0, 3.0};
			int			j;

			s[5] += 40.0f;		/* one row is nearly certain */
			want[5] = s[5];
			dev->ops->logits_loss(dev, loss, s, teacher ? t : NULL, given, &settings[i], rows, v);
			ref->ops->logits_loss(ref, want_loss, want, teacher ? t : NULL, given, &settings[i], rows, v);
			for (j = 0; j < 3; j++)
				CHECK_NEAR(loss[j], want_loss[j], 2e-6 * fmax(1.0, fabs(want_loss[j])));
			same("logits loss", s, want, n, 3e-6);
			drop(s), drop(t), drop(want);
		}
	}
}

static void
test_device(DistilDevice *dev)
{
	test_attention(dev);
	test_attention_nan(dev);
	test_attention_parts(dev);
	test_attention_long(dev);
	test_pool(dev);
	test_losses(dev);
	test_logits_loss(dev);
}

int
main(void)
{
	if (!open_reference())
		return check_report("kernel_sequences");
	on_every_device(test_device);
	on_every_device(test_attention_ways);
	on_every_device(test_attention_subnormal);
	on_every_accelerator(test_device);
	ref->ops->close(ref);
	return check_report("kernel_sequences");
}
