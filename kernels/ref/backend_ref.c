/*
 * backend_ref.c
 *		The reference backend: its operation table and its device.
 */
#include "ref.h"

#include <stdio.h>
#include <string.h>

static void
ref_close(DistilDevice *dev)
{
	RefDevice  *ref = (RefDevice *) dev;

	if (ref == NULL)
		return;
	distil_host_release(dev, ref->keys);
	distil_host_release(dev, ref->head1);
	distil_host_release(dev, ref->head2);
	distil_host_release(dev, ref);
}

static const DistilKernels reference = {
	.name = "reference",
	.alloc = distil_host_alloc,
	.release = distil_host_release,
	.forget = distil_host_forget,
	.copy_in = distil_host_copy_in,
	.copy_out = distil_host_copy_out,
	.close = ref_close,
	.zero = distil_ref_zero,
	.axpy = distil_ref_axpy,
	.sum_squares = distil_ref_sum_squares,
	.count_nonfinite = distil_ref_count_nonfinite,
	.linear_forward = distil_ref_linear_forward,
	.linear_forward_packed = distil_ref_linear_forward_packed,
	.linear_backward_input = distil_ref_linear_backward_input,
	.linear_backward_weight = distil_ref_linear_backward_weight,
	.activation_forward = distil_ref_activation_forward,
	.activation_backward = distil_ref_activation_backward,
	.dropout = distil_ref_dropout,
	.layernorm_forward = distil_ref_layernorm_forward,
	.layernorm_backward = distil_ref_layernorm_backward,
	.embedding_forward = distil_ref_embedding_forward,
	.embedding_backward = distil_ref_embedding_backward,
	.attention_forward = distil_ref_attention_forward,
	.attention_backward = distil_ref_attention_backward,
	.pool_forward = distil_ref_pool_forward,
	.pool_backward = distil_ref_pool_backward,
	.normalize_forward = distil_ref_normalize_forward,
	.normalize_backward = distil_ref_normalize_backward,
	.gather_rows = distil_ref_gather_rows,
	.scatter_add_rows = distil_ref_scatter_add_rows,
	.mse_loss = distil_ref_mse_loss,
	.cosine_loss = distil_ref_cosine_loss,
	.logits_loss = distil_ref_logits_loss,
	.has_type = distil_ref_has_type,
	.fast_type = distil_ref_fast_type,
	.linear_rows = distil_ref_linear_rows,
	.quantize_rows = distil_ref_quantize_rows,
	.norm_rows = distil_ref_norm_rows,
	.attention_rows = distil_ref_attention_rows,
	.adamw = distil_ref_adamw,
	.half = &distil_ref_half,
};

DistilDevice *
distil_ref_open(const char *isa, char *message, size_t message_size)
{
	RefDevice  *ref = distil_host_alloc(NULL, sizeof(RefDevice));

	(void) isa;					/* plain C is the same everywhere */
	if (ref != NULL)
	{
		ref->base.ops = &reference;
		ref->keys = distil_host_alloc(NULL, DISTIL_KERNEL_MAX_KEYS * sizeof(double));
		ref->head1 = distil_host_alloc(NULL, DISTIL_KERNEL_MAX_HEAD * sizeof(double));
		ref->head2 = distil_host_alloc(NULL, DISTIL_KERNEL_MAX_HEAD * sizeof(double));
		if (ref->keys != NULL && ref->head1 != NULL && ref->head2 != NULL)
			return &ref->base;
		ref_close(&ref->base);
	}
	snprintf(message, message_size, DISTIL_NO_MEMORY " opening the reference backend");
	return NULL;
}
