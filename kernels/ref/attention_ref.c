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
	const float *q;
	const float *k;
	const float *v;
	size_t		ld;				/* stride of qkv rows */
	size_t		width;			/* stride of out rows */
	int			first;			/* absolute first row */
	int			length;
	int			head;
	const DistilAttention *a;
} RefHead;

static RefHead
ref_head(const float *qkv, const int32_t *offsets, const DistilAttention *a, int seq, int head)
{
	RefHead		h;

	h.width = (size_t) a->heads * a->head_dim;
	h.ld = 3 * h.width;
	h.first = offsets[seq];
	h.length = offsets[seq + 1] - offsets[seq];
	h.head = head;
	h.a = a;
	h.q = qkv + h.first * h.ld + (size_t) head * a->head_dim;
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
		sum += (double) h->q[query * h->ld + d] * h->k[key * h->ld + d];
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
ref_head_forward(RefDevice *ref, const RefHead *h, float *out, float *lse)
{
	int			dim = h->a->head_dim;
	int			i,
				j,
				d;

	for (i = h->a->query_first; i < h->length; i++)
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
				sum += ref->keys[j] * h->v[j * h->ld + d];
			out[(h->first + i) * h->width + (size_t) h->head * dim + d] = (float) sum;
		}
		if (lse != NULL)
			lse[(size_t) (h->first + i) * h->a->heads + h->head] = (float) (top + log(total));
	}
}

void
distil_ref_attention_forward(DistilDevice *dev, float *out, float *lse, const float *qkv,
							 const int32_t *offsets, const DistilAttention *attention)
{
	int			seq,
				head;

	for (seq = 0; seq < attention->nseq; seq++)
	{
		for (head = attention->head_first; head < attention->head_first + attention->head_count; head++)
		{
			RefHead		h = ref_head(qkv, offsets, attention, seq, head);

			ref_head_forward((RefDevice *) dev, &h, out, lse);
		}
	}
}

/* Gradient of one product q k (the score's times scale); *kept gets the probability after dropout. */
static double
ref_score_gradient(const RefHead *h, const float *dout, const float *lse, double delta,
				   int query, int key, double *kept)
{
	double		p = exp(ref_score(h, query, key) - lse[(size_t) (h->first + query) * h->a->heads + h->head]);
	double		keep = ref_keep(h, query, key);
	double		dp = 0.0;
	int			d;

	for (d = 0; d < h->a->head_dim; d++)
		dp += (double) dout[query * h->width + d] * h->v[key * h->ld + d];
	*kept = p * keep;
	return p * (dp * keep - delta) * h->a->scale;
}

/* dout, out: the head's first row; dq: where the gradient of q goes, k and v beside it. */
static void
ref_head_backward(RefDevice *ref, const RefHead *h, float *dq, const float *dout,
				  const float *out, const float *lse)
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
			delta[i] += (double) dout[i * h->width + d] * out[i * h->width + d];
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
				ref->head1[d] += ds * h->k[j * h->ld + d];
			if (h->a->drelative != NULL)
				h->a->drelative[ref_relative(h, i, j)] += (float) (ds / h->a->scale);
		}
		for (d = 0; d < dim; d++)
			dq[i * h->ld + d] = (float) ref->head1[d];
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
				ref->head1[d] += ds * h->q[i * h->ld + d];
				ref->head2[d] += kept * dout[i * h->width + d];
			}
		}
		for (d = 0; d < dim; d++)
		{
			dq[j * h->ld + h->width + d] = (float) ref->head1[d];
			dq[j * h->ld + 2 * h->width + d] = (float) ref->head2[d];
		}
	}
}

void
distil_ref_attention_backward(DistilDevice *dev, float *dqkv, const float *dout,
							  const float *qkv, const float *out, const float *lse,
							  const int32_t *offsets, const DistilAttention *attention)
{
	int			seq,
				head;

	for (seq = 0; seq < attention->nseq; seq++)
	{
		for (head = attention->head_first; head < attention->head_first + attention->head_count; head++)
		{
			RefHead		h = ref_head(qkv, offsets, attention, seq, head);
			size_t		column = (size_t) head * attention->head_dim;

			ref_head_backward((RefDevice *) dev, &h, dqkv + h.first * h.ld + column,
							  dout + h.first * h.width + column, out + h.first * h.width + column, lse);
		}
	}
}
