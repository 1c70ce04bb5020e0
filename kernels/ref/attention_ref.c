/*
 * attention_ref.c
 *		Reference: scaled dot product attention (Vaswani et al. 2017) over ragged rows.
 *
 * backward recomputes the probabilities from lse and uses
 * sum_j p_j dp_j = dout . out, which holds with dropout too
 * (Dao et al. 2022, "FlashAttention", appendix B).
 * Key numbers of the dropout mask count from the sequence's first row.
 */
#include "ref.h"

#include <math.h>

/* One sequence and head: where its rows lie. */
typedef struct RefHead
{
	bool		half;			/* rows are bfloat16, otherwise float32 */
	const void *qkv;
	size_t		q,				/* places in qkv of its first row */
				k,
				v;
	size_t		ld;				/* stride of qkv rows */
	size_t		width;			/* stride of out rows */
	int			first;			/* absolute first row */
	int			length;
	int			head;
	const DistilAttention *a;
} RefHead;

static double
ref_get(const RefHead *h, const void *x, size_t at)
{
	return h->half ? distil_bf16_float(((const uint16_t *) x)[at]) : ((const float *) x)[at];
}

static void
ref_put(const RefHead *h, void *y, size_t at, double value)
{
	if (h->half)
		((uint16_t *) y)[at] = distil_bf16((float) value);
	else
		((float *) y)[at] = (float) value;
}

static RefHead
ref_head(const void *qkv, bool half, const int32_t *offsets, const DistilAttention *a, int seq, int head)
{
	RefHead		h;

	h.half = half;
	h.qkv = qkv;
	h.width = (size_t) a->heads * a->head_dim;
	h.ld = 3 * h.width;
	h.first = offsets[seq];
	h.length = offsets[seq + 1] - offsets[seq];
	h.head = head;
	h.a = a;
	h.q = h.first * h.ld + (size_t) head * a->head_dim;
	h.k = h.q + h.width;
	h.v = h.k + h.width;
	return h;
}

/* Place of a pair's position bias. */
static size_t
ref_relative(const RefHead *h, int query, int key)
{
	return (size_t) (key - query + h->a->relative_limit - 1) * h->a->heads + h->head;
}

static double
ref_score(const RefHead *h, int query, int key)
{
	double		sum = 0.0;
	int			d;

	for (d = 0; d < h->a->head_dim; d++)
		sum += ref_get(h, h->qkv, h->q + query * h->ld + d) * ref_get(h, h->qkv, h->k + key * h->ld + d);
	sum *= h->a->scale;
	if (h->a->relative != NULL)
		sum += h->a->relative[ref_relative(h, query, key)];
	return sum;
}

/* 0 for a dropped probability, 1/(1-p) for a kept one. */
static double
ref_keep(const RefHead *h, int query, int key)
{
	const DistilDropout *drop = &h->a->dropout;
	uint64_t	row = (uint64_t) h->first + query;

	if (!(drop->p > 0.0f))
		return 1.0;
	if (!distil_dropout_keep(drop->seed, (row * h->a->heads + h->head) * 65536 + key, drop->p))
		return 0.0;
	return 1.0 / (1.0 - (double) drop->p);
}

static void
ref_head_forward(RefDevice *ref, const RefHead *h, void *out, float *lse)
{
	int			dim = h->a->head_dim;
	int			i,
				j,
				d;

	for (i = h->a->query_first; i < DISTIL_QUERY_END(h->a, h->length); i++)
	{
		int			keys = h->a->causal ? i + 1 : h->length;
		double		top = -INFINITY;
		double		total = 0.0;

		for (j = 0; j < keys; j++)
		{
			ref->keys[j] = ref_score(h, i, j);
			if (!(ref->keys[j] <= top))
				top = ref->keys[j];
		}
		for (j = 0; j < keys; j++)
			total += exp(ref->keys[j] - top);
		for (j = 0; j < keys; j++)
			ref->keys[j] = exp(ref->keys[j] - top) / total * ref_keep(h, i, j);
		for (d = 0; d < dim; d++)
		{
			double		sum = 0.0;

			for (j = 0; j < keys; j++)
				sum += ref->keys[j] * ref_get(h, h->qkv, h->v + j * h->ld + d);
			ref_put(h, out, (h->first + i) * h->width + (size_t) h->head * dim + d, sum);
		}
		if (lse != NULL)
			lse[(size_t) (h->first + i) * h->a->heads + h->head] = (float) (top + log(total));
	}
}

static void
ref_forward(DistilDevice *dev, void *out, float *lse, const void *qkv, bool half, const int32_t *offsets,
			const DistilAttention *attention)
{
	int			seq,
				head;

	for (seq = 0; seq < attention->nseq; seq++)
	{
		for (head = attention->head_first; head < attention->head_first + attention->head_count; head++)
		{
			RefHead		h = ref_head(qkv, half, offsets, attention, seq, head);

			ref_head_forward((RefDevice *) dev, &h, out, lse);
		}
	}
}

void
distil_ref_attention_forward(DistilDevice *dev, float *out, float *lse, const float *qkv,
							 const int32_t *offsets, const DistilAttention *attention)
{
	ref_forward(dev, out, lse, qkv, false, offsets, attention);
}

void
distil_ref_half_attention_forward(DistilDevice *dev, uint16_t *out, float *lse, const uint16_t *qkv,
								  const int32_t *offsets, const DistilAttention *attention)
{
	ref_forward(dev, out, lse, qkv, true, offsets, attention);
}

/* dout, out: [T, C]; a row's place of this head. */
static size_t
ref_row(const RefHead *h, int row)
{
	return (size_t) (h->first + row) * h->width + (size_t) h->head * h->a->head_dim;
}

/* Gradient of one product q k (the score's times scale); *kept gets the probability after dropout. */
static double
ref_score_gradient(const RefHead *h, const void *dout, const float *lse, double delta,
				   int query, int key, double *kept)
{
	double		p = exp(ref_score(h, query, key) - lse[(size_t) (h->first + query) * h->a->heads + h->head]);
	double		keep = ref_keep(h, query, key);
	double		dp = 0.0;
	int			d;

	for (d = 0; d < h->a->head_dim; d++)
		dp += ref_get(h, dout, ref_row(h, query) + d) * ref_get(h, h->qkv, h->v + key * h->ld + d);
	*kept = p * keep;
	return p * (dp * keep - delta) * h->a->scale;
}

static void
ref_head_backward(RefDevice *ref, const RefHead *h, void *dqkv, const void *dout, const void *out,
				  const float *lse)
{
	double	   *delta = ref->keys;
	double		kept;
	int			dim = h->a->head_dim;
	int			i,
				j,
				d;

	for (i = 0; i < h->length; i++)
	{
		delta[i] = 0.0;
		for (d = 0; d < dim; d++)
			delta[i] += ref_get(h, dout, ref_row(h, i) + d) * ref_get(h, out, ref_row(h, i) + d);
	}
	for (i = 0; i < h->length; i++)
	{
		int			keys = h->a->causal ? i + 1 : h->length;

		for (d = 0; d < dim; d++)
			ref->head1[d] = 0.0;
		for (j = 0; j < keys; j++)
		{
			double		ds = ref_score_gradient(h, dout, lse, delta[i], i, j, &kept);

			for (d = 0; d < dim; d++)
				ref->head1[d] += ds * ref_get(h, h->qkv, h->k + j * h->ld + d);
			if (h->a->drelative != NULL)
				h->a->drelative[ref_relative(h, i, j)] += (float) (ds / h->a->scale);
		}
		for (d = 0; d < dim; d++)
			ref_put(h, dqkv, h->q + i * h->ld + d, ref->head1[d]);
	}
	for (j = 0; j < h->length; j++)
	{
		for (d = 0; d < dim; d++)
			ref->head1[d] = ref->head2[d] = 0.0;
		for (i = h->a->causal ? j : 0; i < h->length; i++)
		{
			double		ds = ref_score_gradient(h, dout, lse, delta[i], i, j, &kept);

			for (d = 0; d < dim; d++)
			{
				ref->head1[d] += ds * ref_get(h, h->qkv, h->q + i * h->ld + d);
				ref->head2[d] += kept * ref_get(h, dout, ref_row(h, i) + d);
			}
		}
		for (d = 0; d < dim; d++)
		{
			ref_put(h, dqkv, h->k + j * h->ld + d, ref->head1[d]);
			ref_put(h, dqkv, h->v + j * h->ld + d, ref->head2[d]);
		}
	}
}

static void
ref_backward(DistilDevice *dev, void *dqkv, const void *dout, const void *qkv, const void *out,
			 const float *lse, bool half, const int32_t *offsets, const DistilAttention *attention)
{
	int			seq,
				head;

	for (seq = 0; seq < attention->nseq; seq++)
	{
		for (head = attention->head_first; head < attention->head_first + attention->head_count; head++)
		{
			RefHead		h = ref_head(qkv, half, offsets, attention, seq, head);

			ref_head_backward((RefDevice *) dev, &h, dqkv, dout, out, lse);
		}
	}
}

void
distil_ref_attention_backward(DistilDevice *dev, float *dqkv, const float *dout,
							  const float *qkv, const float *out, const float *lse,
							  const int32_t *offsets, const DistilAttention *attention)
{
	ref_backward(dev, dqkv, dout, qkv, out, lse, false, offsets, attention);
}

void
distil_ref_half_attention_backward(DistilDevice *dev, uint16_t *dqkv, const uint16_t *dout,
								   const uint16_t *qkv, const uint16_t *out, const float *lse,
								   const int32_t *offsets, const DistilAttention *attention)
{
	ref_backward(dev, dqkv, dout, qkv, out, lse, true, offsets, attention);
}
