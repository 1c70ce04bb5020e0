/*
 * arch_gpt2.c
 *		GPT-2 (Radford et al. 2019): pre-norm decoder, causal attention, word table as output layer.
 *
 * The rules a newcomer would break: checkpoints hold linear weights as [in, out]
 * ("Conv1D"), images as [out, in]; "h.0.attn.bias" is a mask of 0 and 1 that old files
 * carry, not a bias, and is ignored.
 */
#include "config.h"

#include "layers.h"
#include "status.h"

#include <stdio.h>

extern const DistilArch distil_arch_gpt2;

static DistilStatus
gpt2_parse(DistilConfig *config, const DistilJsonDoc *doc, DistilArena *arena, DistilError *err)
{
	const DistilJson *root = distil_json_root(doc);
	bool		scale;

	(void) arena;
	DISTIL_FORWARD(distil_config_aliased(&config->layers, doc, "n_layer", "num_hidden_layers", 12,
										 DISTIL_MAX_LAYERS, err));
	DISTIL_FORWARD(distil_config_aliased(&config->width, doc, "n_embd", "hidden_size", 768, DISTIL_MAX_WIDTH,
										 err));
	DISTIL_FORWARD(distil_config_aliased(&config->heads, doc, "n_head", "num_attention_heads", 12,
										 DISTIL_MAX_WIDTH, err));
	DISTIL_FORWARD(distil_config_size(&config->mlp, doc, "n_inner", 4 * config->width, DISTIL_MAX_MLP, err));
	DISTIL_FORWARD(distil_config_size(&config->vocabulary, doc, "vocab_size", 50257, DISTIL_MAX_VOCABULARY,
									  err));
	DISTIL_FORWARD(distil_config_aliased(&config->positions, doc, "n_positions", "max_position_embeddings",
										 1024, DISTIL_MAX_POSITIONS, err));
	DISTIL_FORWARD(distil_config_activation(&config->activation, doc, "activation_function", "gelu_new",
											err));
	DISTIL_FORWARD(distil_config_float(&config->norm_eps, doc, "layer_norm_epsilon", 1e-5, 0, 1, err));
	DISTIL_FORWARD(distil_config_float(&config->embedding_dropout, doc, "embd_pdrop", 0.1, 0, 0.999, err));
	DISTIL_FORWARD(distil_config_float(&config->hidden_dropout, doc, "resid_pdrop", 0.1, 0, 0.999, err));
	DISTIL_FORWARD(distil_config_float(&config->attention_dropout, doc, "attn_pdrop", 0.1, 0, 0.999, err));
	DISTIL_FORWARD(distil_config_float(&config->initializer_range, doc, "initializer_range", 0.02, 0, 100,
									   err));
	/* "reorder_and_upcast_attn" changes the order of float16 roundings only: nothing in float32 */
	DISTIL_FORWARD(distil_json_get_bool(doc, root, "scale_attn_weights", true, &scale, err));
	config->unscaled_attention = !scale;
	DISTIL_FORWARD(distil_json_get_bool(doc, root, "scale_attn_by_inverse_layer_idx", false,
										&config->layer_scaled_attention, err));
	config->types = 0;
	config->causal = true;
	config->attention_output_dropout = true;
	return distil_config_check(config, "n_embd", "n_head", err);
}

/* weight [rows, cols], stored as [cols, rows], and bias [rows] */
static DistilStatus
conv_params(DistilSpec *spec, int *weight, int *bias, int layer, const char *name, const char *source,
			int rows, int cols, DistilError *err)
{
	char		full[80];
	char		from[80];

	snprintf(full, sizeof(full), "layer.%d.%s.weight", layer, name);
	snprintf(from, sizeof(from), "h.%d.%s.weight", layer, source);
	DISTIL_FORWARD(distil_single_param(spec, weight, full, from, rows, cols,
									   DISTIL_PARAM_NORMAL | DISTIL_PARAM_TRANSPOSED, err));
	snprintf(full, sizeof(full), "layer.%d.%s.bias", layer, name);
	snprintf(from, sizeof(from), "h.%d.%s.bias", layer, source);
	return distil_single_param(spec, bias, full, from, rows, 0, DISTIL_PARAM_NO_DECAY, err);
}

static DistilStatus
norm_params(DistilSpec *spec, int *weight, int *bias, int layer, const char *name, const char *source,
			DistilError *err)
{
	char		full[80];
	char		from[80];

	snprintf(full, sizeof(full), "layer.%d.%s", layer, name);
	snprintf(from, sizeof(from), "h.%d.%s", layer, source);
	return distil_pair_params(spec, weight, bias, full, from, spec->config.width, 0, err);
}

static DistilStatus
gpt2_params(DistilSpec *spec, bool with_lm, DistilError *err)
{
	const DistilConfig *config = &spec->config;
	int			c = config->width;

	DISTIL_FORWARD(distil_single_param(spec, &spec->word, "embeddings.word", "wte.weight", config->vocabulary,
									   c, DISTIL_PARAM_NORMAL, err));
	DISTIL_FORWARD(distil_single_param(spec, &spec->position, "embeddings.position", "wpe.weight",
									   config->positions, c, DISTIL_PARAM_NORMAL, err));
	spec->layer = distil_arena_alloc(spec->arena, (size_t) config->layers, sizeof(DistilLayerParams));
	if (spec->layer == NULL)
		return distil_fail_memory(err, 0);
	for (int i = 0; i < config->layers; i++)
	{
		DistilLayerParams *p = &spec->layer[i];

		DISTIL_FORWARD(conv_params(spec, &p->qkv_weight, &p->qkv_bias, i, "qkv", "attn.c_attn", 3 * c, c,
								   err));
		DISTIL_FORWARD(conv_params(spec, &p->out_weight, &p->out_bias, i, "out", "attn.c_proj", c, c, err));
		DISTIL_FORWARD(norm_params(spec, &p->norm1_weight, &p->norm1_bias, i, "norm1", "ln_1", err));
		DISTIL_FORWARD(conv_params(spec, &p->up_weight, &p->up_bias, i, "up", "mlp.c_fc", config->mlp, c,
								   err));
		DISTIL_FORWARD(conv_params(spec, &p->down_weight, &p->down_bias, i, "down", "mlp.c_proj", c,
								   config->mlp,
								   err));
		DISTIL_FORWARD(norm_params(spec, &p->norm2_weight, &p->norm2_bias, i, "norm2", "ln_2", err));
	}
	DISTIL_FORWARD(distil_pair_params(spec, &spec->final_norm_weight, &spec->final_norm_bias, "final_norm",
									  "ln_f", c, 0, err));
	spec->has_lm = with_lm;
	if (!with_lm)
		return DISTIL_OK;
	spec->lm.decoder_weight = spec->word;
	if (config->tie_word_embeddings)
		return DISTIL_OK;
	return distil_single_param(spec, &spec->lm.decoder_weight, "lm.decoder.weight", "lm_head.weight",
							   config->vocabulary, c, DISTIL_PARAM_NORMAL, err);
}

static DistilStatus
gpt2_write_config(const DistilConfig *config, const char *class_name, DistilBuffer *out, DistilError *err)
{
	bool		ok;

	ok = distil_config_write_common(config, class_name, out) &&
		distil_config_printf(out, "  \"activation_function\": \"%s\",\n",
							 distil_activation_name(config->activation)) &&
		distil_config_number(out, "attn_pdrop", config->attention_dropout) &&
		distil_config_number(out, "embd_pdrop", config->embedding_dropout) &&
		distil_config_number(out, "layer_norm_epsilon", config->norm_eps) &&
		distil_config_printf(out, "  \"n_embd\": %d,\n  \"n_head\": %d,\n  \"n_inner\": %d,\n",
							 config->width, config->heads, config->mlp) &&
		distil_config_printf(out, "  \"n_layer\": %d,\n  \"n_positions\": %d,\n", config->layers,
							 config->positions);
	ok = ok && distil_config_write_ends(config, out) &&
		distil_config_printf(out, "  \"scale_attn_by_inverse_layer_idx\": %s,\n",
							 config->layer_scaled_attention ? "true" : "false") &&
		distil_config_printf(out, "  \"scale_attn_weights\": %s,\n",
							 config->unscaled_attention ? "false" : "true") &&
		distil_config_number(out, "resid_pdrop", config->hidden_dropout) &&
		distil_config_printf(out, "  \"use_cache\": true\n}\n");
	return ok ? DISTIL_OK : distil_fail_memory(err, out->length);
}

static const struct DistilAlias gpt2_aliases[] = {
	{"wte.weight", "lm_head.weight", false},
	{NULL, NULL, false}
};

static const DistilHeadForm gpt2_heads[] = {
	{DISTIL_HEAD_SEQUENCE, NULL, DISTIL_ACT_NONE, "score", true, true},
	{DISTIL_HEAD_TOKEN, NULL, DISTIL_ACT_NONE, "classifier", false, false},
	{DISTIL_HEAD_QUESTION, NULL, DISTIL_ACT_NONE, "qa_outputs", false, false},
	{0, NULL, DISTIL_ACT_NONE, NULL, false, false}
};

const DistilArch distil_arch_gpt2 = {
	.model_type = "gpt2",
	.family = &distil_family_pre_norm,
	.parse = gpt2_parse,
	.params = gpt2_params,
	.prefix = "transformer.",
	.class_stem = "GPT2",
	.lm_class = "GPT2LMHeadModel",
	.lm_tensor = "lm_head.weight",
	.word_tensor = "wte.weight",
	.pad_id = -1,
	.heads = gpt2_heads,
	.write_config = gpt2_write_config,
	.student_type = "gpt2",
	.aliases = gpt2_aliases
};
