/*
 * arch_electra.c
 *		ELECTRA (Clark et al. 2020): BERT's encoder, learnt by telling replaced words from real ones.
 *
 * The small ones' embeddings are narrower than their layers, with a projection between.  The rules a
 * newcomer would break: heads and the generator's language model have their own gelu, whatever hidden_act
 * says; the discriminator's own head (ElectraForPreTraining) is no head of ours.
 */
#include "config.h"

#include "layers.h"
#include "status.h"

#include <string.h>

extern const DistilArch distil_arch_electra;

/* The vector that multiple choice starts from; other heads do not look at these fields. */
static DistilStatus
check_summary(const DistilConfig *config, const DistilJsonDoc *doc, DistilError *err)
{
	const DistilJson *root = distil_json_root(doc);
	const char *type;
	const char *activation;
	bool		projected;

	if (strcmp(config->class_name, "ElectraForMultipleChoice") != 0)
		return DISTIL_OK;
	DISTIL_FORWARD(distil_json_get_string(doc, root, "summary_type", "first", &type, err));
	DISTIL_FORWARD(distil_json_get_string(doc, root, "summary_activation", "gelu", &activation, err));
	DISTIL_FORWARD(distil_json_get_bool(doc, root, "summary_use_proj", true, &projected, err));
	if (strcmp(type, "first") == 0 && strcmp(activation, "gelu") == 0 && projected)
		return DISTIL_OK;
	return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
					   "\"summary_type\" other than \"first\", \"summary_activation\" "
					   "other than \"gelu\" and no \"summary_use_proj\" are not supported");
}

static DistilStatus
electra_parse(DistilConfig *config, const DistilJsonDoc *doc, DistilArena *arena, DistilError *err)
{
	int64_t		types;

	(void) arena;
	DISTIL_FORWARD(distil_config_size(&config->vocabulary, doc, "vocab_size", 30522, DISTIL_MAX_VOCABULARY,
									  err));
	DISTIL_FORWARD(distil_json_get_int(doc, distil_json_root(doc), "type_vocab_size", 2, 1, 65536, &types,
									   err));
	config->types = (int) types;
	DISTIL_FORWARD(distil_config_encoder(config, doc, err));
	/* where the defaults are not BERT's */
	DISTIL_FORWARD(distil_config_size(&config->width, doc, "hidden_size", 256, DISTIL_MAX_WIDTH, err));
	DISTIL_FORWARD(distil_config_size(&config->heads, doc, "num_attention_heads", 4, DISTIL_MAX_WIDTH, err));
	DISTIL_FORWARD(distil_config_size(&config->mlp, doc, "intermediate_size", 1024, DISTIL_MAX_MLP, err));
	DISTIL_FORWARD(distil_config_size(&config->table_width, doc, "embedding_size", 128, DISTIL_MAX_WIDTH,
									  err));
	DISTIL_FORWARD(check_summary(config, doc, err));
	return distil_config_check(config, "hidden_size", "num_attention_heads", err);
}

static const DistilLmNames electra_lm_names = {
	"generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.weight",
	"generator_lm_head.bias", "generator_lm_head.bias"
};

static DistilStatus
electra_params(DistilSpec *spec, bool with_lm, DistilError *err)
{
	DISTIL_FORWARD(distil_embedding_params(spec, 0, err));
	if (spec->config.table_width != spec->config.width)
		DISTIL_FORWARD(distil_projection_params(spec, "embeddings_project", err));
	DISTIL_FORWARD(distil_layer_params(spec, distil_bert_layer_names, err));
	spec->has_lm = with_lm;
	if (with_lm && spec->config.activation != DISTIL_ACT_GELU)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "language models of this type with another \"hidden_act\" than \"gelu\" are not "
						   "supported");
	return with_lm ? distil_lm_head_params(spec, &electra_lm_names, err) : DISTIL_OK;
}

static const DistilHeadForm electra_heads[] = {
	{DISTIL_HEAD_SEQUENCE, "classifier.dense", DISTIL_ACT_GELU, "classifier.out_proj", false, false},
	{DISTIL_HEAD_TOKEN, NULL, DISTIL_ACT_NONE, "classifier", false, false},
	{DISTIL_HEAD_QUESTION, NULL, DISTIL_ACT_NONE, "qa_outputs", false, false},
	{DISTIL_HEAD_CHOICE, "sequence_summary.summary", DISTIL_ACT_GELU, "classifier", false, false},
	{0, NULL, DISTIL_ACT_NONE, NULL, false, false}
};

static const struct DistilAlias electra_aliases[] = {
	{"embeddings.word_embeddings.weight", "generator_lm_head.weight", false},
	{NULL, NULL, false}
};

const DistilArch distil_arch_electra = {
	.model_type = "electra",
	.family = &distil_family_post_norm,
	.parse = electra_parse,
	.params = electra_params,
	.prefix = "electra.",
	.class_stem = "Electra",
	.lm_class = "ElectraForMaskedLM",
	.lm_tensor = "generator_predictions.dense.weight",
	.word_tensor = "embeddings.word_embeddings.weight",
	.heads = electra_heads,
	.write_config = distil_config_write_encoder,
	.student_type = "electra",
	.aliases = electra_aliases
};
