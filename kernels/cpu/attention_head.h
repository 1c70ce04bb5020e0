/*
 * attention_head.h
 *		One head of one sequence in rows of BF16, for attention that takes them one by one.
 */
#ifndef DISTIL_ATTENTION_HEAD_H
#define DISTIL_ATTENTION_HEAD_H

#define LOG2_E		1.44269504f

typedef struct RowsHead
{
	const uint16_t *q;			/* the first row; keys and values lie `width` further each */
	size_t		width;
	size_t		ld;
	uint16_t   *out;
	size_t		ld_out;
	float		scale;
	int			length;
	int			dim;
} RowsHead;

static inline RowsHead
rows_head(const DistilRows *out, const DistilRows *qkv, const int32_t *offsets, const DistilAttention *a,
		  int seq, int head)
{
	size_t		row = offsets[seq];
	size_t		column = (size_t) head * a->head_dim;
	RowsHead	h = {.width = (size_t) a->heads * a->head_dim,.ld = qkv->ld,.ld_out = out->ld,
		.scale = a->scale,.length = offsets[seq + 1] - offsets[seq],.dim = a->head_dim};

	h.q = (const uint16_t *) qkv->data + row * qkv->ld + column;
	h.out = (uint16_t *) out->data + row * out->ld + column;
	return h;
}

/* Neither causal nor with relative positions; at most so many keys and dimensions, multiples of `step`. */
static inline bool
rows_head_is_plain(const RowsHead *h, const DistilAttention *a, int keys, int dim, int step)
{
	return !a->causal && a->relative == NULL && a->scale > 0.0f && h->length <= keys && h->dim <= dim &&
		h->dim % step == 0;
}

#endif							/* DISTIL_ATTENTION_HEAD_H */
