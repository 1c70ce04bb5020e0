/*
 * arch_albert.c
 *		ALBERT (Lan et al. 2019): BERT's layer, one set of weights for all layers, narrow embeddings.
 *
 * The rules a newcomer would break: the projection is there even where the widths are the same; the
 * language-model head works at the embeddings' width; the order head (AlbertForPreTraining) is no head of
 * ours.
 */
#include "config.h"

#include "layers.h"
#include "status.h"

extern const DistilArch distil_arch_albert;

/* More than one set of weights: no published model has that. */
static DistilStatus
check_groups(const DistilJsonDoc *doc, DistilError *err)
{
	static const char *const keys[] = {"num_hidden_groups", "inner_group_num"};

	for (int i = 0; i < 2; i++)
	{
		int64_t		n;

		DISTIL_FORWARD(distil_json_get_int(doc, distil_json_root(doc), keys[i], 1, 0, 65536, &n, err));
		if (n == 1)
			continue;
		distil_fail(err, DISTIL_ERR_UNSUPPORTED, "models with \"%s\" other than 1 are not supported",
					keys[i]);
		return distil_fail_detail(err, DISTIL_ERR_UNSUPPORTED, "It is %d.", (int) n);
	}
	return DISTIL_OK;
}

static DistilStatus
albert_parse(DistilConfig *config, const DistilJsonDoc *doc, DistilArena *arena, DistilError *err)
{
	int64_t		types;

	(void) arena;
	DISTIL_FORWARD(check_groups(doc, err));
	DISTIL_FORWARD(distil_config_size(&config->vocabulary, doc, "vocab_size", 30000, DISTIL_MAX_VOCABULARY,
									  err));
	DISTIL_FORWARD(distil_json_get_int(doc, distil_json_root(doc), "type_vocab_size", 2, 1, 65536, &types,
									   err));
	config->types = (int) types;
	DISTIL_FORWARD(distil_config_encoder(config, doc, err));
	/* where the defaults are not BERT's */
	DISTIL_FORWARD(distil_config_size(&config->width, doc, "hidden_size", 4096, DISTIL_MAX_WIDTH, err));
	DISTIL_FORWARD(distil_config_size(&config->heads, doc, "num_attention_heads", 64, DISTIL_MAX_WIDTH, err));
	DISTIL_FORWARD(distil_config_size(&config->mlp, doc, "intermediate_size", 16384, DISTIL_MAX_MLP, err));
	DISTIL_FORWARD(distil_config_size(&config->table_width, doc, "embedding_size", 128, DISTIL_MAX_WIDTH,
									  err));
	DISTIL_FORWARD(distil_config_activation(&config->activation, doc, "hidden_act", "gelu_new", err));
	DISTIL_FORWARD(distil_config_float(&config->hidden_dropout, doc, "hidden_dropout_prob", 0, 0, 0.999,
									   err));
	config->embedding_dropout = config->hidden_dropout;
	DISTIL_FORWARD(distil_config_float(&config->attention_dropout, doc, "attention_probs_dropout_prob", 0, 0,
									   0.999, err));
	config->no_mlp_dropout = true;
	config->shared_layers = true;
	return distil_config_check(config, "hidden_size", "num_attention_heads", err);
}

static const DistilLmNames albert_lm_names = {
	"predictions.dense", "predictions.LayerNorm", "predictions.decoder.weight",
	"predictions.bias", "predictions.decoder.bias"
};

static DistilStatus
albert_params(DistilSpec *spec, bool with_lm, DistilError *err)
{
#define LAYER "encoder.albert_layer_groups.0.albert_layers.0."
	static const char *const names[DISTIL_LAYER_NAMES] = {
		LAYER "attention.query", LAYER "attention.key", LAYER "attention.value", LAYER "attention.dense",
		LAYER "attention.LayerNorm", LAYER "ffn", LAYER "ffn_output", LAYER "full_layer_layer_norm"
	};

	DISTIL_FORWARD(distil_embedding_params(spec, 0, err));
	DISTIL_FORWARD(distil_projection_params(spec, "encoder.embedding_hidden_mapping_in", err));
	DISTIL_FORWARD(distil_layer_params(spec, names, err));
	spec->has_lm = with_lm;
	return with_lm ? distil_lm_head_params(spec, &albert_lm_names, err) : DISTIL_OK;
}

static const DistilHeadForm albert_heads[] = {
	{DISTIL_HEAD_SEQUENCE, "pooler", DISTIL_ACT_TANH, "classifier", false, false},
	{DISTIL_HEAD_TOKEN, NULL, DISTIL_ACT_NONE, "classifier", false, false},
	{DISTIL_HEAD_QUESTION, NULL, DISTIL_ACT_NONE, "qa_outputs", false, false},
	{DISTIL_HEAD_CHOICE, "pooler", DISTIL_ACT_TANH, "classifier", false, false},
	{0, NULL, DISTIL_ACT_NONE, NULL, false, false}
};

static const struct DistilAlias albert_aliases[] = {
	{"embeddings.word_embeddings.weight", "predictions.decoder.weight", false},
	{"predictions.bias", "predictions.decoder.bias", true},
	{NULL, NULL, false}
};

const DistilArch distil_arch_albert = {
	.model_type = "albert",
	.family = &distil_family_post_norm,
	.parse = albert_parse,
	.params = albert_params,
	.prefix = "albert.",
	.class_stem = "Albert",
	.lm_class = "AlbertForMaskedLM",
	.lm_tensor = "predictions.dense.weight",
	.word_tensor = "embeddings.word_embeddings.weight",
	.heads = albert_heads,
	.write_config = distil_config_write_encoder,
	.student_type = "albert",
	.aliases = albert_aliases
};
