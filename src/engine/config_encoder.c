/*
 * config_encoder.c
 *		What BERT, RoBERTa and MPNet share: the names in config.json and of their tensors.
 *
 * The rule a newcomer would break: defaults are those of transformers' configuration
 * classes, not those of published models.
 */
#include "config.h"

#include "status.h"

const char *const distil_bert_layer_names[DISTIL_LAYER_NAMES] = {
	"encoder.layer.%d.attention.self.query", "encoder.layer.%d.attention.self.key",
	"encoder.layer.%d.attention.self.value", "encoder.layer.%d.attention.output.dense",
	"encoder.layer.%d.attention.output.LayerNorm", "encoder.layer.%d.intermediate.dense",
	"encoder.layer.%d.output.dense", "encoder.layer.%d.output.LayerNorm"
};

void
distil_spec_clear(DistilSpec *spec)
{
	spec->word = spec->position = spec->type = -1;
	spec->embedding_norm_weight = spec->embedding_norm_bias = -1;
	spec->projection_weight = spec->projection_bias = -1;
	spec->final_norm_weight = spec->final_norm_bias = -1;
	spec->relative = -1;
	spec->lm = (DistilLmParams) {-1, -1, -1, -1, -1, -1, -1, false};
	spec->head.dense_weight = spec->head.dense_bias = -1;
	spec->head.out_weight = spec->head.out_bias = -1;
}

DistilStatus
distil_config_encoder(DistilConfig *config, const DistilJsonDoc *doc, DistilError *err)
{
	DISTIL_FORWARD(distil_config_size(&config->layers, doc, "num_hidden_layers", 12, DISTIL_MAX_LAYERS,
									  err));
	DISTIL_FORWARD(distil_config_size(&config->width, doc, "hidden_size", 768, DISTIL_MAX_WIDTH, err));
	DISTIL_FORWARD(distil_config_size(&config->heads, doc, "num_attention_heads", 12, DISTIL_MAX_WIDTH,
									  err));
	DISTIL_FORWARD(distil_config_size(&config->mlp, doc, "intermediate_size", 3072, DISTIL_MAX_MLP, err));
	DISTIL_FORWARD(distil_config_size(&config->positions, doc, "max_position_embeddings", 512,
									  DISTIL_MAX_POSITIONS, err));
	DISTIL_FORWARD(distil_config_activation(&config->activation, doc, "hidden_act", "gelu", err));
	DISTIL_FORWARD(distil_config_float(&config->norm_eps, doc, "layer_norm_eps", 1e-12, 0, 1, err));
	DISTIL_FORWARD(distil_config_float(&config->hidden_dropout, doc, "hidden_dropout_prob", 0.1, 0, 0.999,
									   err));
	config->embedding_dropout = config->hidden_dropout;
	DISTIL_FORWARD(distil_config_float(&config->attention_dropout, doc, "attention_probs_dropout_prob", 0.1,
									   0, 0.999, err));
	DISTIL_FORWARD(distil_config_float(&config->initializer_range, doc, "initializer_range", 0.02, 0, 100,
									   err));
	config->attention_output_dropout = true;
	return DISTIL_OK;
}

DistilStatus
distil_config_padding(DistilConfig *config, int padding, DistilError *err)
{
	if (padding < 0)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "models of this type without \"pad_token_id\" are not supported");
	if (padding + 2 > config->positions)
	{
		distil_fail(err, DISTIL_ERR_TEXT_FILE,
					"\"max_position_embeddings\" of file \"config.json\" leaves no room for a token");
		return distil_fail_detail(err, DISTIL_ERR_TEXT_FILE,
								  "It is %d; positions begin behind padding id %d.",
								  config->positions, padding);
	}
	config->position_offset = padding + 1;
	return DISTIL_OK;
}

DistilStatus
distil_config_write_encoder(const DistilConfig *config, const char *class_name, DistilBuffer *out,
							DistilError *err)
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
		distil_config_printf(out, "  \"num_attention_heads\": %d,\n", config->heads);
	if (ok && config->relative_buckets > 0)
		ok = distil_config_printf(out, "  \"relative_attention_num_buckets\": %d,\n",
								  config->relative_buckets);
	if (ok && config->table_width > 0)
		ok = distil_config_printf(out, "  \"embedding_size\": %d,\n", config->table_width);
	if (ok && config->types > 0)
		ok = distil_config_printf(out, "  \"type_vocab_size\": %d,\n", config->types);
	ok = ok && distil_config_printf(out, "  \"num_hidden_layers\": %d\n}\n", config->layers);
	return ok ? DISTIL_OK : distil_fail_memory(err, out->length);
}

DistilStatus
distil_embedding_params(DistilSpec *spec, unsigned position_flags, DistilError *err)
{
	const DistilConfig *config = &spec->config;
	int			e = distil_table_width(config);

	DISTIL_FORWARD(distil_single_param(spec, &spec->word, "embeddings.word",
									   "embeddings.word_embeddings.weight",
									   config->vocabulary, e, DISTIL_PARAM_NORMAL, err));
	DISTIL_FORWARD(distil_single_param(spec, &spec->position, "embeddings.position",
									   "embeddings.position_embeddings.weight",
									   config->positions, e,
									   DISTIL_PARAM_NORMAL | position_flags, err));
	if (config->types > 0)
		DISTIL_FORWARD(distil_single_param(spec, &spec->type, "embeddings.type",
										   "embeddings.token_type_embeddings.weight",
										   config->types, e, DISTIL_PARAM_NORMAL, err));
	return distil_pair_params(spec, &spec->embedding_norm_weight, &spec->embedding_norm_bias,
							  "embeddings.norm", "embeddings.LayerNorm", e, 0, err);
}

DistilStatus
distil_projection_params(DistilSpec *spec, const char *source, DistilError *err)
{
	const DistilConfig *config = &spec->config;

	return distil_pair_params(spec, &spec->projection_weight, &spec->projection_bias, "embeddings.projection",
							  source, config->width, distil_table_width(config), err);
}

const DistilLmNames distil_roberta_lm_names = {
	"lm_head.dense", "lm_head.layer_norm", "lm_head.decoder.weight", "lm_head.bias", "lm_head.decoder.bias"
};

DistilStatus
distil_lm_head_params(DistilSpec *spec, const DistilLmNames *names, DistilError *err)
{
	const DistilConfig *config = &spec->config;
	DistilLmParams *lm = &spec->lm;
	int			width = distil_table_width(config);

	/* RobertaLMHead and MPNetLMHead do not look at hidden_act */
	lm->gelu = names == &distil_roberta_lm_names;
	DISTIL_FORWARD(distil_pair_params(spec, &lm->dense_weight, &lm->dense_bias, "lm.dense", names->dense,
									  width, config->width, err));
	DISTIL_FORWARD(distil_pair_params(spec, &lm->norm_weight, &lm->norm_bias, "lm.norm", names->norm, width,
									  0, err));
	if (config->tie_word_embeddings)
		lm->decoder_weight = spec->word;
	else
		DISTIL_FORWARD(distil_single_param(spec, &lm->decoder_weight, "lm.decoder.weight", names->weight,
										   config->vocabulary, width, DISTIL_PARAM_NORMAL, err));
	return distil_single_param(spec, &lm->decoder_bias, "lm.decoder.bias",
							   config->tie_word_embeddings ? names->tied_bias : names->bias,
							   config->vocabulary, 0, DISTIL_PARAM_NO_DECAY, err);
}
