/*
 * act_cpu.h
 *		Template: activation functions and their slopes, each one vector expression.
 */

#define GELU_FACTOR		1.59576912f /* 2 sqrt(2/pi) */
#define GELU_CUBIC		0.044715f

static inline vf
act_none(vf x)
{
	return x;
}

#if CPU_LANES >= 8
#include "gelu_cpu.h"
#else
static inline vf
act_gelu(vf x)
{
	return x * v_phi(x);
}
#endif

/* 0.5 (1 + tanh u) = sigmoid(2 u) */
static inline vf
act_gelu_tanh(vf x)
{
	return x * v_sigmoid(GELU_FACTOR * (x + GELU_CUBIC * x * x * x));
}

static inline vf
act_quick_gelu(vf x)
{
	return x * v_sigmoid(1.702f * x);
}

static inline vf
act_relu(vf x)
{
	return v_select(x < v_set(0.0f), v_set(0.0f), x);
}

static inline vf
act_silu(vf x)
{
	return x * v_sigmoid(x);
}

static inline vf
act_tanh(vf x)
{
	return 1.0f - 2.0f / (v_exp(2.0f * x) + 1.0f);
}

static inline vf
act_sigmoid(vf x)
{
	return v_sigmoid(x);
}

static inline vf
slope_none(vf x)
{
	return v_set(1.0f) + 0.0f * x;
}

static inline vf
slope_gelu(vf x)
{
	return v_phi(x) + x * (0.398942280f * v_exp(-0.5f * x * x));
}

static inline vf
slope_gelu_tanh(vf x)
{
	vf			s = act_sigmoid(GELU_FACTOR * (x + GELU_CUBIC * x * x * x));

	return s + x * s * (1.0f - s) * (GELU_FACTOR * (1.0f + 3.0f * GELU_CUBIC * x * x));
}

static inline vf
slope_quick_gelu(vf x)
{
	vf			s = v_sigmoid(1.702f * x);

	return s + 1.702f * x * s * (1.0f - s);
}

static inline vf
slope_relu(vf x)
{
	return v_select(x > v_set(0.0f), v_set(1.0f), v_set(0.0f));
}

static inline vf
slope_silu(vf x)
{
	vf			s = v_sigmoid(x);

	return s + x * s * (1.0f - s);
}

static inline vf
slope_tanh(vf x)
{
	vf			s = act_tanh(x);

	return 1.0f - s * s;
}

static inline vf
slope_sigmoid(vf x)
{
	vf			s = v_sigmoid(x);

	return s * (1.0f - s);
}

#define EACH_ACTIVATION(X) X(DISTIL_ACT_NONE, none) X(DISTIL_ACT_GELU, gelu) EACH_SLOW_ACTIVATION(X)
/* Those that low-precision products have no form of their own for. */
#define EACH_SLOW_ACTIVATION(X) X(DISTIL_ACT_GELU_TANH, gelu_tanh) \
	X(DISTIL_ACT_QUICK_GELU, quick_gelu) X(DISTIL_ACT_RELU, relu) X(DISTIL_ACT_SILU, silu) \
	X(DISTIL_ACT_TANH, tanh) X(DISTIL_ACT_SIGMOID, sigmoid)
