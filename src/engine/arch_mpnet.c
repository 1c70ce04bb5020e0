/*
 * arch_mpnet.c
 *		MPNet (Song et al. 2020): BERT with position biases in attention and RoBERTa's positions.
 *
 * The rule a newcomer would break: the biases are one table for all layers, looked up by
 * the distance of two tokens (layer_relative.c); there are no segments.
 */
#include "config.h"

#include "layers.h"
#include "status.h"

/* Positions begin behind 1 whatever pad_token_id is: so transformers has it in its code. */
#define PADDING 1

extern const DistilArch distil_arch_mpnet;

static DistilStatus
mpnet_parse(DistilConfig *config, const DistilJsonDoc *doc, DistilArena *arena, DistilError *err)
{
	(void) arena;
	DISTIL_FORWARD(distil_config_size(&config->vocabulary, doc, "vocab_size", 30527, DISTIL_MAX_VOCABULARY,
									  err));
	DISTIL_FORWARD(distil_config_size(&config->relative_buckets, doc, "relative_attention_num_buckets", 32,
									  65536, err));
	if (config->relative_buckets != 32) /* transformers computes with 32 whatever it says */
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "\"relative_attention_num_buckets\" must be 32, not %d", config->relative_buckets);
	config->types = 0;
	DISTIL_FORWARD(distil_config_encoder(config, doc, err));
	DISTIL_FORWARD(distil_config_check(config, "hidden_size", "num_attention_heads", err));
	return distil_config_padding(config, PADDING, err);
}

static DistilStatus
mpnet_params(DistilSpec *spec, bool with_lm, DistilError *err)
{
	static const char *const layer[DISTIL_LAYER_NAMES] = {
		"encoder.layer.%d.attention.attn.q", "encoder.layer.%d.attention.attn.k",
		"encoder.layer.%d.attention.attn.v", "encoder.layer.%d.attention.attn.o",
		"encoder.layer.%d.attention.LayerNorm", "encoder.layer.%d.intermediate.dense",
		"encoder.layer.%d.output.dense", "encoder.layer.%d.output.LayerNorm"
	};

	DISTIL_FORWARD(distil_embedding_params(spec, 0, err));
	DISTIL_FORWARD(distil_single_param(spec, &spec->relative, "relative",
									   "encoder.relative_attention_bias.weight",
									   spec->config.relative_buckets, spec->config.heads,
									   DISTIL_PARAM_NORMAL, err));
	DISTIL_FORWARD(distil_layer_params(spec, layer, err));
	spec->has_lm = with_lm;
	return with_lm ? distil_lm_head_params(spec, &distil_roberta_lm_names, err) : DISTIL_OK;
}

static const struct DistilAlias mpnet_aliases[] = {
	{"embeddings.word_embeddings.weight", "lm_head.decoder.weight", false},
	{"lm_head.bias", "lm_head.decoder.bias", true},
	{NULL, NULL, false}
};

static const DistilHeadForm mpnet_heads[] = {
	{DISTIL_HEAD_SEQUENCE, "classifier.dense", DISTIL_ACT_TANH, "classifier.out_proj", false, false},
	{DISTIL_HEAD_TOKEN, NULL, DISTIL_ACT_NONE, "classifier", false, false},
	{DISTIL_HEAD_QUESTION, NULL, DISTIL_ACT_NONE, "qa_outputs", false, false},
	{DISTIL_HEAD_CHOICE, "pooler.dense", DISTIL_ACT_TANH, "classifier", false, false},
	{0, NULL, DISTIL_ACT_NONE, NULL, false, false}
};

const DistilArch distil_arch_mpnet = {
	.model_type = "mpnet",
	.family = &distil_family_post_norm,
	.parse = mpnet_parse,
	.params = mpnet_params,
	.prefix = "mpnet.",
	.class_stem = "MPNet",
	.lm_class = "MPNetForMaskedLM",
	.lm_tensor = "lm_head.dense.weight",
	.word_tensor = "embeddings.word_embeddings.weight",
	.pad_id = 1,
	.heads = mpnet_heads,
	.write_config = distil_config_write_encoder,
	.student_type = "mpnet",
	.aliases = mpnet_aliases
};
