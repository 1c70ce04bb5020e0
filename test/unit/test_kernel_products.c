/*
 * test_kernel_products.c
 *		Products of operands rounded to bfloat16 against the reference on operands rounded beforehand.
 *
 * With the rounding done on both sides only the order of float32 sums differs: tolerances are those
 * of kernel_samples.h.  A product that is too small to be rounded must be exact instead.
 */
#include "kernel_samples.h"

typedef struct Shape
{
	int			m;
	int			n;
	int			k;
} Shape;

/* whole tiles, odd edges, several blocks of rows, of columns and of steps; the last ones stay exact */
static const Shape shapes[] = {
	{64, 64, 64}, {61, 77, 95}, {48, 48, 48}, {129, 515, 130}, {1090, 70, 65}, {70, 66, 1601}, {47, 64, 64},
	{64, 64, 33},
};

#define LEAST 48

static float *
rounded(const float *x, size_t n, bool round)
{
	float	   *y = copy_floats(x, n);
	size_t		i;

	for (i = 0; round && i < n; i++)
		y[i] = distil_bf16_float(distil_bf16(x[i]));
	return y;
}

static void
test_forward(DistilDevice *dev, const Shape *s, bool round)
{
	size_t		out = (size_t) s->m * s->n;
	size_t		panels = distil_packed_floats(s->n, s->k);
	float	   *x = random_floats((size_t) s->m * s->k, 1.0);
	float	   *w = random_floats((size_t) s->n * s->k, 1.0);
	float	   *b = random_floats(s->n, 1.0);
	float	   *rx = rounded(x, (size_t) s->m * s->k, round);
	float	   *rw = rounded(w, (size_t) s->n * s->k, round);
	float	   *packed = unset_floats(panels);
	float	   *y = unset_floats(out);
	float	   *want = unset_floats(out);
	double		tolerance = 2e-6 * sqrt(s->k);
	int			i;

	for (i = 0; i < s->n; i += DISTIL_PANEL)
		distil_pack_panel(packed + (size_t) i * s->k, w + (size_t) i * s->k, (size_t) s->k,
						  s->n - i < DISTIL_PANEL ? s->n - i : DISTIL_PANEL, s->k);
	ref->ops->linear_forward(ref, want, s->n, rx, s->k, rw, b, DISTIL_ACT_NONE, s->m, s->n, s->k);
	dev->ops->linear_forward(dev, y, s->n, x, s->k, w, b, DISTIL_ACT_NONE, s->m, s->n, s->k);
	same("rounded forward", y, want, out, tolerance);
	dev->ops->linear_forward_packed(dev, y, s->n, x, s->k, packed, b, DISTIL_ACT_NONE, s->m, s->n, s->k);
	same("rounded forward, packed", y, want, out, tolerance);
	ref->ops->linear_forward(ref, want, s->n, rx, s->k, rw, NULL, DISTIL_ACT_TANH, s->m, s->n, s->k);
	dev->ops->linear_forward(dev, y, s->n, x, s->k, w, NULL, DISTIL_ACT_TANH, s->m, s->n, s->k);
	same("rounded forward, activation", y, want, out, tolerance);
	drop(x);
	drop(w);
	drop(b);
	drop(rx);
	drop(rw);
	drop(packed);
	drop(y);
	drop(want);
}

static void
test_backward(DistilDevice *dev, const Shape *s, bool round)
{
	size_t		in = (size_t) s->m * s->k;
	size_t		out = (size_t) s->m * s->n;
	size_t		weights = (size_t) s->n * s->k;
	float	   *x = random_floats(in, 1.0);
	float	   *w = random_floats(weights, 1.0);
	float	   *dy = random_floats(out, 1.0);
	float	   *rx = rounded(x, in, round);
	float	   *rw = rounded(w, weights, round);
	float	   *rdy = rounded(dy, out, round);
	float	   *dx = random_floats(in, 1.0);
	float	   *want_dx = copy_floats(dx, in);
	float	   *dw = random_floats(weights, 1.0);
	float	   *want_dw = copy_floats(dw, weights);
	float	   *db = random_floats(s->n, 1.0);
	float	   *want_db = copy_floats(db, s->n);
	float	   *unused = copy_floats(db, s->n);
	int			i;

	for (i = 1; i >= 0; i--)
	{
		ref->ops->linear_backward_input(ref, want_dx, s->k, rdy, s->n, rw, i, s->m, s->n, s->k);
		dev->ops->linear_backward_input(dev, dx, s->k, dy, s->n, w, i, s->m, s->n, s->k);
		same(i ? "rounded dx +=" : "rounded dx", dx, want_dx, in, 2e-6 * sqrt(s->n));
	}
	ref->ops->linear_backward_weight(ref, want_dw, unused, rdy, s->n, rx, s->k, s->m, s->n, s->k);
	dev->ops->linear_backward_weight(dev, dw, db, dy, s->n, x, s->k, s->m, s->n, s->k);
	same("rounded dw", dw, want_dw, weights, 2e-6 * sqrt(s->m));
	/* biases' gradients are sums, not products; one after the other, they reach sqrt(m) themselves */
	ref->ops->linear_backward_weight(ref, want_dw, want_db, dy, s->n, x, s->k, s->m, s->n, s->k);
	same("db of rounded products", db, want_db, s->n, 2e-7 * s->m + 2e-6);
	drop(x);
	drop(w);
	drop(dy);
	drop(rx);
	drop(rw);
	drop(rdy);
	drop(dx);
	drop(want_dx);
	drop(dw);
	drop(want_dw);
	drop(db);
	drop(want_db);
	drop(unused);
}

static void
test_products(DistilDevice *dev)
{
	const DistilKernels *exact = dev->ops;
	bool		fast = exact->fast_type != NULL && exact->fast_type(dev) == DISTIL_TYPE_BF16;
	size_t		i;

	if (exact->round_products == NULL)
	{
		CHECK(!fast || strcmp(exact->name, "cpu") != 0);
		return;
	}
	CHECK(exact->round_products(dev, DISTIL_TYPE_BF16) == fast);
	CHECK(!exact->round_products(dev, DISTIL_TYPE_INT8) && dev->ops == exact);
	for (i = 0; fast && i < sizeof(shapes) / sizeof(shapes[0]); i++)
	{
		bool		large = shapes[i].m >= LEAST && shapes[i].n >= LEAST && shapes[i].k >= LEAST;

		CHECK(exact->round_products(dev, DISTIL_TYPE_BF16));
		if (shapes[i].k <= 1536)
			test_forward(dev, &shapes[i], large);
		test_backward(dev, &shapes[i], large);
	}
	CHECK(exact->round_products(dev, DISTIL_TYPE_F32) && dev->ops == exact);
}

int
main(void)
{
	char		message[200];

	ref = distil_device_open("reference", NULL, message, sizeof(message));
	on_every_rows_device(test_products);
	ref->ops->close(ref);
	return check_report("kernel_products");
}
