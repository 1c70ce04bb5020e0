/*
 * test_line_order.c
 *		The order of an 8-bit weight's lines, and products by it.
 */
#include "kernel_int8.h"
#include "model.h"

/* The furthest that sums of these lines' products can get, each of two inputs a line; inputs are 0 to 255. */
static int
furthest_sum(const DistilWeight *w, int half, const uint16_t *lines, int n)
{
	int			furthest = 0;
	int			sum,
				i;

	for (sum = 0; sum < 16; sum++)
	{
		int			ends[2] = {0, 0};

		for (i = 0; i < 2 * n; i++)
		{
			const uint8_t *turn = distil_line_turns[lines[i / 2] % 4];
			int			input = lines[i / 2] / 4 * 4 + turn[sum % 2 * 2 + i % 2];
			size_t		at = distil_weight_index(DISTIL_TYPE_INT8, half * DISTIL_HALF + sum / 2, input, w->k);
			int			q = ((const int8_t *) w->data)[at];

			ends[q > 0] += 255 * q;
		}
		furthest = ends[1] > furthest ? ends[1] : furthest;
		furthest = -ends[0] - 1 > furthest ? -ends[0] - 1 : furthest;
	}
	return furthest;
}

/* Has it all three, lines in pairs, lines alone and others? */
static bool
check_half(const DistilWeight *w, int half, bool small)
{
	int			lines = (int) distil_row_length(DISTIL_TYPE_INT8, w->k) / 4;
	const uint16_t *order = w->order + half * (DISTIL_ORDER_HEAD + lines);
	const uint16_t *line = order + DISTIL_ORDER_HEAD;
	int			alone = order[0] + order[1];
	bool	   *seen = calloc(lines, sizeof(bool));
	bool		right = order[0] % 2 == 0 && alone <= lines;
	int			i,
				turn;

	for (i = 0; i < lines && right; i++)
	{
		right = line[i] % 4 < DISTIL_LINE_TURNS && line[i] / 4 < lines && !seen[line[i] / 4];
		if (right)
			seen[line[i] / 4] = true;
	}
	CHECK_MSG(right, "%d inputs: not an order of all lines\n", w->k);
	for (i = 0; i < lines && right; i++)
	{
		if (i < order[0])
			right = i % 2 != 0 || furthest_sum(w, half, line + i, 2) <= INT16_MAX;
		else if (i < alone)
			right = furthest_sum(w, half, line + i, 1) <= INT16_MAX;
		for (turn = 0; turn < DISTIL_LINE_TURNS && i >= alone; turn++)
		{
			uint16_t	turned = (uint16_t) DISTIL_LINE(line[i] / 4, turn);

			right = right && furthest_sum(w, half, &turned, 1) > INT16_MAX;
		}
	}
	CHECK_MSG(right, "%d inputs: a line is not where it belongs\n", w->k);
	CHECK_MSG(!small || order[0] == lines, "%d inputs: %d of %d lines in pairs\n", w->k, order[0], lines);
	free(seen);
	return order[0] > 0 && order[1] > 0 && alone < lines;
}

/* Every line once, where its sums allow; small weights all in pairs; -128 too. */
static void
test_order(void)
{
	static const int shapes[][2] = {{1, 1}, {16, 64}, {17, 130}, {8, 384}, {40, 768}, {9, 4160}, {3, 65536}};

	int			all = 0;

	for (size_t i = 0; i < 3 * sizeof(shapes) / sizeof(shapes[0]); i++)
	{
		int			kind = (int) i % 3;	/* of all sizes, small ones, the largest */
		DistilWeight w = random_weight(shapes[i / 3][0], shapes[i / 3][1], false);
		size_t		bytes = distil_weight_bytes(DISTIL_TYPE_INT8, w.n, w.k);

		for (size_t at = 0; at < bytes; at++)
		{
			int8_t	   *q = (int8_t *) w.data + at;

			*q = kind == 1 ? (int8_t) (*q / 4) : kind == 2 && *q % 2 != 0 ? INT8_MIN : *q;
		}
		order_weight(&w);
		for (int half = 0; half < distil_order_halves(w.n); half++)
			all += check_half(&w, half, kind == 1);
		drop_weight(&w);
	}
	CHECK(all > 10);
}

/* An order that is damaged leads nowhere but to wrong sums. */
static void
test_damaged_order(DistilDevice *dev)
{
	static const int shapes[][3] = {{1, 16, 64}, {13, 40, 384}, {35, 17, 1540}};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
	{
		int			m = shapes[i][0];
		int			n = shapes[i][1];
		int			k = shapes[i][2];
		DistilWeight w = random_weight(n, k, true);
		DistilRows	source = random_rows(DISTIL_TYPE_F32, m, k);
		DistilRows	x = make_rows(DISTIL_TYPE_INT8, m, k);
		DistilRows	y = make_rows(DISTIL_TYPE_F32, m, n);

		ref->ops->quantize_rows(ref, &x, &source, DISTIL_ACT_NONE, m, k);
		order_weight(&w);
		for (int round = 0; round < 20; round++)
		{
			for (size_t at = 0; at < distil_order_length(n, k); at++)
				if (round == 0 || uniform() < 0.1)
					((uint16_t *) w.order)[at] = (uint16_t) (65536.0 * uniform());
			dev->ops->linear_rows(dev, &y, &x, &w, DISTIL_ACT_NONE, m);
			CHECK(isfinite(row_value(&y, m - 1, n - 1)));
		}
		drop_rows(&x);
		drop_rows(&y);
		drop_rows(&source);
		drop_weight(&w);
	}
}

/* A layer that is cut into units by its columns has the sums of the whole. */
static void
test_columns(DistilDevice *dev)
{
	const DistilPoll poll = {NULL, NULL};
	const int	n = 4720;
	const int	k = 2048;
	DistilWeight w = random_weight(n, k, true);
	DistilRows	source = random_rows(DISTIL_TYPE_F32, 3, k);
	DistilRows	x = make_rows(DISTIL_TYPE_INT8, 3, k);
	DistilRows	whole = make_rows(DISTIL_TYPE_F32, 3, n);
	DistilRows	cut = make_rows(DISTIL_TYPE_F32, 3, n);
	DistilError err;

	ref->ops->quantize_rows(ref, &x, &source, DISTIL_ACT_NONE, 3, k);
	order_weight(&w);
	dev->ops->linear_rows(dev, &whole, &x, &w, DISTIL_ACT_NONE, 3);
	CHECK(distil_linear_rows(&cut, &x, &w, DISTIL_ACT_NONE, 3, dev, &poll, &err) == DISTIL_OK);
	for (int i = 0; i < 3; i++)
		CHECK(memcmp((float *) whole.data + (size_t) i * whole.ld, (float *) cut.data + (size_t) i * cut.ld,
					 n * sizeof(float)) == 0);
	drop_rows(&x);
	drop_rows(&source);
	drop_rows(&whole);
	drop_rows(&cut);
	drop_weight(&w);
}

static void
test_products(DistilDevice *dev)
{
	test_damaged_order(dev);
	test_columns(dev);
}

int
main(void)
{
	if (!open_reference())
		return check_report("test_line_order");
	test_order();
	on_every_rows_device(test_products);
	ref->ops->close(ref);
	return check_report("test_line_order");
}
