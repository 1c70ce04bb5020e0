/*
 * activation_cpu.h
 *		Template: activation functions over arrays, and the epilogue of the linear layer.
 *
 * The switches over DistilActivation stand outside the loops.
 */

/* y[n] = act(x[n]); y may be x */
static void
activation_forward(DistilDevice *dev, DistilActivation act, float *y, const float *x, size_t n)
{
	size_t		i;

	(void) dev;
#define FORWARD_CASE(value, name) \
		case value: \
			for (i = 0; i < n; i += LANES) \
			{ \
				size_t		part = v_part(i, n); \
				v_put(y + i, act_##name(v_get(x + i, part)), part); \
			} \
			break;
	switch (act)
	{
		EACH_ACTIVATION(FORWARD_CASE)
	}
#undef FORWARD_CASE
}

/* y[n] = act(y[n] + b[n]) */
static void
activate_biased(DistilActivation act, float *y, const float *b, size_t n)
{
	size_t		i;

#define BIASED_CASE(value, name) \
		case value: \
			for (i = 0; i < n; i += LANES) \
			{ \
				size_t		part = v_part(i, n); \
				v_put(y + i, act_##name(v_get(y + i, part) + v_get(b + i, part)), part); \
			} \
			break;
	switch (act)
	{
		EACH_ACTIVATION(BIASED_CASE)
	}
#undef BIASED_CASE
}

static void
activation_backward(DistilDevice *dev, DistilActivation act,
					float *dx, const float *dy, const float *x, size_t n)
{
	size_t		i;

	(void) dev;
#define BACKWARD_CASE(value, name) \
		case value: \
			for (i = 0; i < n; i += LANES) \
			{ \
				size_t		part = v_part(i, n); \
				v_put(dx + i, v_get(dy + i, part) * slope_##name(v_get(x + i, part)), part); \
			} \
			break;
	switch (act)
	{
		EACH_ACTIVATION(BACKWARD_CASE)
	}
#undef BACKWARD_CASE
}
