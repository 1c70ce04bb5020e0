/*
 * arch_distilbert.c
 *		DistilBERT (Sanh et al. 2019): BERT without segments and pooler.
 *
 * The rules a newcomer would break: the epsilon of its norms is 1e-12 in the code of
 * transformers and not in config.json; there is no dropout after the attention's output;
 * the file's position table is used even when sinusoidal_pos_embds is true (it is then
 * only frozen in training).
 */
#include "config.h"

#include "layers.h"
#include "status.h"

extern const DistilArch distil_arch_distilbert;

static DistilStatus
distilbert_parse(DistilConfig *config, const DistilJsonDoc *doc, DistilArena *arena, DistilError *err)
{
	(void) arena;
	DISTIL_FORWARD(distil_config_aliased(&config->layers, doc, "n_layers", "num_hidden_layers", 6,
										 DISTIL_MAX_LAYERS, err));
	DISTIL_FORWARD(distil_config_aliased(&config->width, doc, "dim", "hidden_size", 768, DISTIL_MAX_WIDTH,
										 err));
	DISTIL_FORWARD(distil_config_aliased(&config->heads, doc, "n_heads", "num_attention_heads", 12,
										 DISTIL_MAX_WIDTH, err));
	DISTIL_FORWARD(distil_config_size(&config->mlp, doc, "hidden_dim", 4 * 768, DISTIL_MAX_MLP, err));
	DISTIL_FORWARD(distil_config_size(&config->vocabulary, doc, "vocab_size", 30522, DISTIL_MAX_VOCABULARY,
									  err));
	DISTIL_FORWARD(distil_config_size(&config->positions, doc, "max_position_embeddings", 512,
									  DISTIL_MAX_POSITIONS, err));
	DISTIL_FORWARD(distil_config_activation(&config->activation, doc, "activation", "gelu", err));
	DISTIL_FORWARD(distil_config_float(&config->hidden_dropout, doc, "dropout", 0.1, 0, 0.999, err));
	DISTIL_FORWARD(distil_config_float(&config->attention_dropout, doc, "attention_dropout", 0.1, 0, 0.999,
									   err));
	DISTIL_FORWARD(distil_config_float(&config->initializer_range, doc, "initializer_range", 0.02, 0, 100,
									   err));
	DISTIL_FORWARD(distil_json_get_bool(doc, distil_json_root(doc), "sinusoidal_pos_embds", false,
										&config->sinusoidal_positions, err));
	config->embedding_dropout = config->hidden_dropout;
	config->types = 0;
	config->norm_eps = 1e-12f;
	config->attention_output_dropout = false;
	return distil_config_check(config, "dim", "n_heads", err);
}

static const DistilLmNames distilbert_lm_names = {
	"vocab_transform", "vocab_layer_norm", "vocab_projector.weight",
	"vocab_projector.bias", "vocab_projector.bias"
};

static DistilStatus
distilbert_params(DistilSpec *spec, bool with_lm, DistilError *err)
{
	static const char *const layer[DISTIL_LAYER_NAMES] = {
		"transformer.layer.%d.attention.q_lin", "transformer.layer.%d.attention.k_lin",
		"transformer.layer.%d.attention.v_lin", "transformer.layer.%d.attention.out_lin",
		"transformer.layer.%d.sa_layer_norm", "transformer.layer.%d.ffn.lin1",
		"transformer.layer.%d.ffn.lin2", "transformer.layer.%d.output_layer_norm"
	};

	DISTIL_FORWARD(distil_embedding_params(spec, spec->config.sinusoidal_positions ? DISTIL_PARAM_FROZEN : 0,
										   err));
	DISTIL_FORWARD(distil_layer_params(spec, layer, err));
	spec->has_lm = with_lm;
	return with_lm ? distil_lm_head_params(spec, &distilbert_lm_names, err) : DISTIL_OK;
}

static const DistilHeadForm distilbert_heads[] = {
	{DISTIL_HEAD_SEQUENCE, "pre_classifier", DISTIL_ACT_RELU, "classifier", false, false},
	{DISTIL_HEAD_TOKEN, NULL, DISTIL_ACT_NONE, "classifier", false, false},
	{DISTIL_HEAD_QUESTION, NULL, DISTIL_ACT_NONE, "qa_outputs", false, false},
	{DISTIL_HEAD_CHOICE, "pre_classifier", DISTIL_ACT_RELU, "classifier", false, false},
	{0, NULL, DISTIL_ACT_NONE, NULL, false, false}
};

static DistilStatus
distilbert_write_config(const DistilConfig *config, const char *class_name, DistilBuffer *out,
						DistilError *err)
{
	bool		ok;

	ok = distil_config_write_common(config, class_name, out) &&
		distil_config_printf(out, "  \"activation\": \"%s\",\n",
							 distil_activation_name(config->activation)) &&
		distil_config_number(out, "attention_dropout", config->attention_dropout) &&
		distil_config_printf(out, "  \"dim\": %d,\n", config->width) &&
		distil_config_number(out, "dropout", config->hidden_dropout) &&
		distil_config_printf(out, "  \"hidden_dim\": %d,\n", config->mlp) &&
		distil_config_printf(out, "  \"n_heads\": %d,\n", config->heads) &&
		distil_config_printf(out, "  \"n_layers\": %d,\n", config->layers) &&
		distil_config_printf(out, "  \"sinusoidal_pos_embds\": %s\n}\n",
							 config->sinusoidal_positions ? "true" : "false");
	return ok ? DISTIL_OK : distil_fail_memory(err, out->length);
}

static const struct DistilAlias distilbert_aliases[] = {
	{"embeddings.word_embeddings.weight", "vocab_projector.weight", false},
	{NULL, NULL, false}
};

const DistilArch distil_arch_distilbert = {
	.model_type = "distilbert",
	.family = &distil_family_post_norm,
	.parse = distilbert_parse,
	.params = distilbert_params,
	.prefix = "distilbert.",
	.class_stem = "DistilBert",
	.lm_class = "DistilBertForMaskedLM",
	.lm_tensor = "vocab_transform.weight",
	.word_tensor = "embeddings.word_embeddings.weight",
	.heads = distilbert_heads,
	.write_config = distilbert_write_config,
	.student_type = "distilbert",
	.aliases = distilbert_aliases
};
