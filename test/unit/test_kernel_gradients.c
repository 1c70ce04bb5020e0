/*
 * test_kernel_gradients.c
 *		Every backward operation of the reference backend against central finite
 *		differences of its forward operation; other backends are compared with the
 *		reference (test_kernels.c).
 *
 * The scalar is L = sum of weights * outputs, in double.  Outputs are float32: with a
 * step of 2^-7 the rounding of N outputs of size 1 puts 6e-8 * sqrt(N) / 2^-6 into the
 * difference, below 1e-4 here, and the truncation h^2/6 * L''' is below 1e-4 for the
 * curvatures at hand; the tolerance 1e-3 * max(1, |gradient|) covers both, and a wrong
 * formula is off by far more.
 */
#include "check.h"
#include "kernels.h"

#include <stdint.h>

#define STEP		0.0078125f
#define TOLERANCE	1e-3
#define MAX			4096

static DistilDevice *dev;
static const DistilKernels *ops;
static uint64_t random_state = 42;
static float weights[MAX];		/* of the outputs in L */

static void
fill(float *x, size_t n, double size)
{
	size_t		i;

	for (i = 0; i < n; i++)
	{
		random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		x[i] = (float) (((double) (random_state >> 11) / 4503599627370496.0 - 1.0) * size);
	}
}

static double
weighted(const float *y, size_t n)
{
	double		sum = 0.0;
	size_t		i;

	for (i = 0; i < n; i++)
		sum += (double) weights[i] * y[i];
	return sum;
}

/* gradient[n] of forward() for the values x[n] it reads */
static void
check_gradient(const char *what, double (*forward) (void *ctx), void *ctx,
			   float *x, const float *gradient, size_t n)
{
	double		worst = 0.0;
	size_t		at = 0;
	size_t		i;

	for (i = 0; i < n; i++)
	{
		float		old = x[i];
		float		up = old + STEP;
		float		down = old - STEP;
		double		difference;

		x[i] = up;
		difference = forward(ctx);
		x[i] = down;
		difference = (difference - forward(ctx)) / ((double) up - down);
		x[i] = old;
		difference = fabs(difference - gradient[i]) / fmax(1.0, fabs(gradient[i]));
		if (!(difference <= worst))
		{
			worst = difference;
			at = i;
			if (isnan(difference))
				break;
		}
	}
	CHECK_MSG(worst <= TOLERANCE, "%s: element %zu of %zu: gradient %.6g is off by %.3g\n",
			  what, at, n, gradient[at], worst);
}

/* ---------- linear ---------- */

typedef struct Linear
{
	float		x[7 * 9];
	float		w[5 * 6];
	float		b[5];
	float		y[7 * 8];
} Linear;

static double
linear_loss(void *ctx)
{
	Linear	   *l = ctx;

	ops->linear_forward(dev, l->y, 8, l->x, 9, l->w, l->b, DISTIL_ACT_NONE, 7, 5, 6);
	return weighted(l->y, 7 * 8);
}

static void
test_linear(void)
{
	Linear		l;
	float		dx[7 * 9] = {0};
	float		more[7 * 9];
	float		dw[5 * 6] = {0};
	float		db[5] = {0};
	int			i;

	fill(l.x, 7 * 9, 1.0);
	fill(l.w, 5 * 6, 1.0);
	fill(l.b, 5, 1.0);
	fill(l.y, 7 * 8, 1.0);
	ops->linear_backward_input(dev, dx, 9, weights, 8, l.w, false, 7, 5, 6);
	ops->linear_backward_weight(dev, dw, db, weights, 8, l.x, 9, 7, 5, 6);
	check_gradient("linear input", linear_loss, &l, l.x, dx, 7 * 9);
	check_gradient("linear weight", linear_loss, &l, l.w, dw, 5 * 6);
	check_gradient("linear bias", linear_loss, &l, l.b, db, 5);
	memcpy(more, dx, sizeof(more));
	ops->linear_backward_input(dev, more, 9, weights, 8, l.w, true, 7, 5, 6);
	ops->linear_backward_weight(dev, dw, db, weights, 8, l.x, 9, 7, 5, 6);
	for (i = 0; i < 7 * 9; i++)
		CHECK_NEAR(more[i], 2.0 * dx[i], 1e-6);
	for (i = 0; i < 5 * 6; i++)
		dw[i] *= 0.5f;
	check_gradient("linear weight accumulated", linear_loss, &l, l.w, dw, 5 * 6);
}

/* ---------- activations, dropout ---------- */

typedef struct Flat
{
	int			act;
	float		x[65];
	float		y[65];
} Flat;

static double
activation_loss(void *ctx)
{
	Flat	   *f = ctx;

	ops->activation_forward(dev, f->act, f->y, f->x, 65);
	return weighted(f->y, 65);
}

static const DistilDropout some = {0.4f, 11};

static double
dropout_loss(void *ctx)
{
	Flat	   *f = ctx;

	ops->dropout(dev, f->y, f->x, some, 100, 65);
	return weighted(f->y, 65);
}

static void
test_flat(void)
{
	Flat		f;
	float		dx[65];
	int			i;

	for (i = 0; i < 65; i++)
		f.x[i] = (i - 32) * 0.15f + 0.01f;	/* the kink of relu lies further than a step away */
	for (f.act = DISTIL_ACT_NONE; f.act <= DISTIL_ACT_SIGMOID; f.act++)
	{
		char		what[32];

		snprintf(what, sizeof(what), "activation %d", f.act);
		ops->activation_backward(dev, f.act, dx, weights, f.x, 65);
		check_gradient(what, activation_loss, &f, f.x, dx, 65);
	}
	ops->dropout(dev, dx, weights, some, 100, 65);
	check_gradient("dropout", dropout_loss, &f, f.x, dx, 65);
}

/* ---------- norms ---------- */

typedef struct Norm
{
	float		x[5 * 11];
	float		residual[5 * 11];
	float		gamma[11];
	float		beta[11];
	float		y[5 * 11];
	float		sum[5 * 11];
	float		mean[5];
	float		rstd[5];
} Norm;

static double
layernorm_loss(void *ctx)
{
	Norm	   *n = ctx;

	ops->layernorm_forward(dev, n->y, n->sum, n->mean, n->rstd, n->x, n->residual, n->gamma, n->beta,
						   1e-5f, 5, 11);
	return weighted(n->y, 5 * 11);
}

static double
normalize_loss(void *ctx)
{
	Norm	   *n = ctx;

	ops->normalize_forward(dev, n->y, n->mean, n->x, 5, 11);
	return weighted(n->y, 5 * 11);
}

static void
test_norms(void)
{
	Norm		n;
	float		dx[5 * 11];
	float		dgamma[11] = {0};
	float		dbeta[11] = {0};

	fill(n.x, 5 * 11, 2.0);
	fill(n.residual, 5 * 11, 2.0);
	fill(n.gamma, 11, 1.5);
	fill(n.beta, 11, 1.0);
	layernorm_loss(&n);
	ops->layernorm_backward(dev, dx, dgamma, dbeta, weights, n.sum, n.mean, n.rstd, n.gamma, 5, 11);
	check_gradient("layernorm x", layernorm_loss, &n, n.x, dx, 5 * 11);
	check_gradient("layernorm residual", layernorm_loss, &n, n.residual, dx, 5 * 11);
	check_gradient("layernorm gamma", layernorm_loss, &n, n.gamma, dgamma, 11);
	check_gradient("layernorm beta", layernorm_loss, &n, n.beta, dbeta, 11);
	normalize_loss(&n);
	ops->normalize_backward(dev, dx, weights, n.y, n.mean, 5, 11);
	check_gradient("normalize", normalize_loss, &n, n.x, dx, 5 * 11);
}

/* ---------- tables ---------- */

typedef struct Tables
{
	float		word[7 * 6];
	float		position[9 * 6];
	float		type[2 * 6];
	float		y[9 * 6];
} Tables;

static const int32_t ids[9] = {0, 3, 3, 6, 1, 0, 3, 5, 5};
static const int32_t positions[9] = {0, 1, 2, 3, 4, 0, 1, 2, 3};
static const int32_t types[9] = {0, 0, 1, 1, 1, 0, 0, 0, 1};

static double
embedding_loss(void *ctx)
{
	Tables	   *t = ctx;

	ops->embedding_forward(dev, t->y, ids, positions, types, t->word, t->position, t->type, 9, 6);
	return weighted(t->y, 9 * 6);
}

static double
gather_loss(void *ctx)
{
	Tables	   *t = ctx;

	ops->gather_rows(dev, t->y, t->word, ids, 9, 6);
	return weighted(t->y, 9 * 6);
}

static void
test_tables(void)
{
	Tables		t;
	float		dword[7 * 6] = {0};
	float		dposition[9 * 6] = {0};
	float		dtype[2 * 6] = {0};
	float		dx[7 * 6] = {0};

	fill(t.word, 7 * 6, 1.0);
	fill(t.position, 9 * 6, 1.0);
	fill(t.type, 2 * 6, 1.0);
	ops->embedding_backward(dev, dword, dposition, dtype, weights, ids, positions, types, 9, 6);
	check_gradient("embedding words", embedding_loss, &t, t.word, dword, 7 * 6);
	check_gradient("embedding positions", embedding_loss, &t, t.position, dposition, 9 * 6);
	check_gradient("embedding types", embedding_loss, &t, t.type, dtype, 2 * 6);
	ops->scatter_add_rows(dev, dx, weights, ids, 9, 6);
	check_gradient("gather", gather_loss, &t, t.word, dx, 7 * 6);
}

/* ---------- attention ---------- */

#define AT	13					/* rows */
#define AW	(3 * 4)				/* heads * width */

typedef struct Attend
{
	DistilAttention a;
	float		qkv[AT * 3 * AW];
	float		out[AT * AW];
	float		lse[AT * 3];
} Attend;

static const int32_t offsets[] = {1, 2, 7, 13};

static double
attention_loss(void *ctx)
{
	Attend	   *t = ctx;

	ops->attention_forward(dev, t->out, t->lse, t->qkv, offsets, &t->a);
	return weighted(t->out, AT * AW);
}

static void
test_attention(void)
{
	static Attend t;
	float		dqkv[AT * 3 * AW] = {0};
	int			causal,
				p;

	fill(t.qkv, AT * 3 * AW, 1.0);
	for (causal = 0; causal < 2; causal++)
	{
		for (p = 0; p < 2; p++)
		{
			t.a = (DistilAttention) {.nseq = 3,.heads = 3,.head_dim = 4,.head_count = 3,.scale = 0.6f,
				.causal = causal == 1,.dropout = {p * 0.3f, 7}};
			attention_loss(&t);
			ops->attention_backward(dev, dqkv, weights, t.qkv, t.out, t.lse, offsets, &t.a);
			check_gradient(causal ? "causal attention" : "attention", attention_loss, &t,
						   t.qkv, dqkv, AT * 3 * AW);
		}
	}
}

/* Attention with a bias by the distance of query and key: the bias's gradient and the others. */
static void
test_relative_attention(void)
{
	static Attend t;
	float		dqkv[AT * 3 * AW] = {0};
	float		relative[11 * 3];	/* distances -5 .. 5 */
	float		drelative[11 * 3];
	int			causal;

	fill(t.qkv, AT * 3 * AW, 1.0);
	fill(relative, 11 * 3, 1.0);
	for (causal = 0; causal < 2; causal++)
	{
		t.a = (DistilAttention) {.nseq = 3,.heads = 3,.head_dim = 4,.head_count = 3,.scale = 0.6f,
			.causal = causal == 1,.dropout = {0.3f, 7},.relative = relative,.drelative = drelative,
			.relative_limit = 6};
		memset(drelative, 0, sizeof(drelative));
		attention_loss(&t);
		ops->attention_backward(dev, dqkv, weights, t.qkv, t.out, t.lse, offsets, &t.a);
		check_gradient("relative attention", attention_loss, &t, t.qkv, dqkv, AT * 3 * AW);
		check_gradient("relative bias", attention_loss, &t, relative, drelative, 11 * 3);
	}
}

/* ---------- pooling ---------- */

typedef struct Pool
{
	int			pooling;
	float		x[AT * 5];
	float		y[3 * 5];
	int32_t		top[3 * 5];
} Pool;

static double
pool_loss(void *ctx)
{
	Pool	   *p = ctx;

	ops->pool_forward(dev, p->pooling, p->y, p->top, p->x, offsets, 3, 5);
	return weighted(p->y, 3 * 5);
}

static void
test_pool(void)
{
	Pool		p;
	float		dx[AT * 5] = {0};
	int			i;

	for (i = 0; i < AT * 5; i++)
		p.x[i] = (float) (i * 37 % (AT * 5)) * 0.05f;	/* no two nearer than two steps: one maximum */
	for (p.pooling = DISTIL_POOL_CLS; p.pooling <= DISTIL_POOL_LAST; p.pooling++)
	{
		char		what[32];

		snprintf(what, sizeof(what), "pooling %d", p.pooling);
		pool_loss(&p);
		ops->pool_backward(dev, p.pooling, dx, weights, p.top, offsets, 3, 5);
		check_gradient(what, pool_loss, &p, p.x, dx, AT * 5);
	}
}

/* ---------- losses ---------- */

typedef struct Losses
{
	DistilLogitsLoss setting;
	float		s[4 * 9];
	float		t[4 * 9];
	float		scratch[4 * 9];
} Losses;

static const int32_t labels[4] = {8, -100, 0, 4};

static double
mse_value(void *ctx)
{
	Losses	   *l = ctx;
	double		loss = 0.0;

	ops->mse_loss(dev, &loss, l->scratch, l->s, l->t, 0.3f, 4, 9);
	return loss;
}

static double
cosine_value(void *ctx)
{
	Losses	   *l = ctx;
	double		loss = 0.0;

	ops->cosine_loss(dev, &loss, l->scratch, l->s, l->t, 0.7f, 4, 9);
	return loss;
}

static double
logits_value(void *ctx)
{
	Losses	   *l = ctx;
	double		loss[3] = {0.0, 0.0, 0.0};

	memcpy(l->scratch, l->s, sizeof(l->s));
	ops->logits_loss(dev, loss, l->scratch, l->t, labels, &l->setting, 4, 9);
	return loss[0] + loss[1] + loss[2];
}

static void
test_losses(void)
{
	static const DistilLogitsLoss settings[] = {
		{2.0f, 3.0f, 0.0f, 0.0f}, {1.0f, 0.0f, 0.5f, 0.0f},
		{1.0f, 0.0f, 0.0f, 0.25f}, {3.0f, 1.0f, 0.7f, 0.1f},
	};
	Losses		l;
	float		ds[4 * 9];
	size_t		i;

	fill(l.s, 4 * 9, 1.5);
	fill(l.t, 4 * 9, 1.5);
	mse_value(&l);
	memcpy(ds, l.scratch, sizeof(ds));
	check_gradient("mse", mse_value, &l, l.s, ds, 4 * 9);
	cosine_value(&l);
	memcpy(ds, l.scratch, sizeof(ds));
	check_gradient("cosine", cosine_value, &l, l.s, ds, 4 * 9);
	for (i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
	{
		char		what[32];

		snprintf(what, sizeof(what), "logits loss %zu", i);
		l.setting = settings[i];
		logits_value(&l);
		memcpy(ds, l.scratch, sizeof(ds));
		check_gradient(what, logits_value, &l, l.s, ds, 4 * 9);
	}
}

int
main(void)
{
	char		message[200];

	dev = distil_device_open("reference", NULL, message, sizeof(message));
	CHECK_MSG(dev != NULL, "%s\n", message);
	if (dev == NULL)
		return check_report("kernel_gradients");
	ops = dev->ops;
	fill(weights, MAX, 1.0);
	test_linear();
	test_flat();
	test_norms();
	test_tables();
	test_attention();
	test_relative_attention();
	test_pool();
	test_losses();
	ops->close(dev);
	return check_report("kernel_gradients");
}
