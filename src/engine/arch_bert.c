/*
 * arch_bert.c
 *		BERT (Devlin et al. 2018): post-norm encoder with learned positions and segments.
 *
 * Also MiniLM, bge, e5 and gte models, whose config.json says "bert".  The rule a
 * newcomer would break: what the pooler and the next-sentence head need is stored with
 * the model but not in the parameter table; nothing here computes with it.
 */
#include "config.h"

#include "status.h"

extern const DistilArch distil_arch_bert;

static DistilStatus
bert_parse(DistilConfig *config, const DistilJsonDoc *doc, DistilArena *arena, DistilError *err)
{
	int64_t		types;

	(void) arena;
	DISTIL_FORWARD(distil_config_size(&config->layers, doc, "num_hidden_layers", 12, DISTIL_MAX_LAYERS,
									  err));
	DISTIL_FORWARD(distil_config_size(&config->width, doc, "hidden_size", 768, DISTIL_MAX_WIDTH, err));
	DISTIL_FORWARD(distil_config_size(&config->heads, doc, "num_attention_heads", 12, DISTIL_MAX_WIDTH,
									  err));
	DISTIL_FORWARD(distil_config_size(&config->mlp, doc, "intermediate_size", 3072, DISTIL_MAX_MLP, err));
	DISTIL_FORWARD(distil_config_size(&config->vocabulary, doc, "vocab_size", 30522, DISTIL_MAX_VOCABULARY,
									  err));
	DISTIL_FORWARD(distil_config_size(&config->positions, doc, "max_position_embeddings", 512,
									  DISTIL_MAX_POSITIONS, err));
	DISTIL_FORWARD(distil_json_get_int(doc, distil_json_root(doc), "type_vocab_size", 2, 1, 65536, &types,
									   err));
	config->types = (int) types;
	DISTIL_FORWARD(distil_config_activation(&config->activation, doc, "hidden_act", "gelu", err));
	DISTIL_FORWARD(distil_config_float(&config->norm_eps, doc, "layer_norm_eps", 1e-12, 0, 1, err));
	DISTIL_FORWARD(distil_config_float(&config->hidden_dropout, doc, "hidden_dropout_prob", 0.1, 0, 0.999,
									   err));
	DISTIL_FORWARD(distil_config_float(&config->attention_dropout, doc, "attention_probs_dropout_prob", 0.1,
									   0, 0.999, err));
	DISTIL_FORWARD(distil_config_float(&config->initializer_range, doc, "initializer_range", 0.02, 0, 100,
									   err));
	config->attention_output_dropout = true;
	return distil_config_check(config, "hidden_size", "num_attention_heads", err);
}

static DistilStatus
bert_lm_params(DistilSpec *spec, DistilError *err)
{
	const DistilConfig *config = &spec->config;
	DistilLmParams *lm = &spec->lm;

	DISTIL_FORWARD(distil_pair_params(spec, &lm->dense_weight, &lm->dense_bias, "lm.dense",
									  "cls.predictions.transform.dense", config->width, config->width,
										  err));
	DISTIL_FORWARD(distil_pair_params(spec, &lm->norm_weight, &lm->norm_bias, "lm.norm",
									  "cls.predictions.transform.LayerNorm", config->width, 0, err));
	if (config->tie_word_embeddings)
		lm->decoder_weight = spec->word;
	else
		DISTIL_FORWARD(distil_single_param(spec, &lm->decoder_weight, "lm.decoder.weight",
										   "cls.predictions.decoder.weight", config->vocabulary,
											   config->width,
										   DISTIL_PARAM_NORMAL, err));
	return distil_single_param(spec, &lm->decoder_bias, "lm.decoder.bias", "cls.predictions.bias",
							   config->vocabulary, 0, DISTIL_PARAM_NO_DECAY, err);
}

static DistilStatus
bert_params(DistilSpec *spec, bool with_lm, DistilError *err)
{
	static const char *const layer[DISTIL_LAYER_NAMES] = {
		"encoder.layer.%d.attention.self.query", "encoder.layer.%d.attention.self.key",
		"encoder.layer.%d.attention.self.value", "encoder.layer.%d.attention.output.dense",
		"encoder.layer.%d.attention.output.LayerNorm", "encoder.layer.%d.intermediate.dense",
		"encoder.layer.%d.output.dense", "encoder.layer.%d.output.LayerNorm"
	};
	const DistilConfig *config = &spec->config;

	DISTIL_FORWARD(distil_single_param(spec, &spec->word, "embeddings.word",
									   "embeddings.word_embeddings.weight",
									   config->vocabulary, config->width, DISTIL_PARAM_NORMAL, err));
	DISTIL_FORWARD(distil_single_param(spec, &spec->position, "embeddings.position",
									   "embeddings.position_embeddings.weight",
									   config->positions, config->width, DISTIL_PARAM_NORMAL, err));
	DISTIL_FORWARD(distil_single_param(spec, &spec->type, "embeddings.type",
									   "embeddings.token_type_embeddings.weight",
									   config->types, config->width, DISTIL_PARAM_NORMAL, err));
	DISTIL_FORWARD(distil_pair_params(spec, &spec->embedding_norm_weight, &spec->embedding_norm_bias,
									  "embeddings.norm", "embeddings.LayerNorm", config->width, 0, err));
	DISTIL_FORWARD(distil_layer_params(spec, layer, err));
	spec->has_lm = with_lm;
	spec->lm = (DistilLmParams) {-1, -1, -1, -1, -1, -1};
	return with_lm ? bert_lm_params(spec, err) : DISTIL_OK;
}

static DistilStatus
bert_write_config(const DistilConfig *config, const char *class_name, DistilBuffer *out, DistilError *err)
{
	bool		ok;

	ok = distil_config_write_common(config, class_name, out) &&
		distil_config_number(out, "attention_probs_dropout_prob", config->attention_dropout) &&
		distil_config_printf(out, "  \"hidden_act\": \"%s\",\n",
							 distil_activation_name(config->activation)) &&
		distil_config_number(out, "hidden_dropout_prob", config->hidden_dropout) &&
		distil_config_printf(out, "  \"hidden_size\": %d,\n", config->width) &&
		distil_config_printf(out, "  \"intermediate_size\": %d,\n", config->mlp) &&
		distil_config_number(out, "layer_norm_eps", config->norm_eps) &&
		distil_config_printf(out, "  \"num_attention_heads\": %d,\n", config->heads) &&
		distil_config_printf(out, "  \"num_hidden_layers\": %d,\n", config->layers) &&
		distil_config_printf(out, "  \"type_vocab_size\": %d\n}\n", config->types);
	return ok ? DISTIL_OK : distil_fail_memory(err, out->length);
}

static const struct DistilAlias bert_aliases[] = {
	{"embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"},
	{"cls.predictions.bias", "cls.predictions.decoder.bias"},
	{NULL, NULL}
};

const DistilArch distil_arch_bert = {
	.model_type = "bert",
	.parse = bert_parse,
	.params = bert_params,
	.prefix = "bert.",
	.lm_class = "BertForMaskedLM",
	.write_config = bert_write_config,
	.student_type = "distilbert",
	.aliases = bert_aliases
};
