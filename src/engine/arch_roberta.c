/*
 * arch_roberta.c
 *		RoBERTa (Liu et al. 2019), and XLM-R and CamemBERT, which are the same with other vocabularies.
 *
 * BERT with one segment.  The rule a newcomer would break: positions are numbered from
 * padding_idx + 1, so a table of 514 rows holds 512 tokens, and the padding index of
 * config.json changes every result.
 */
#include "config.h"

#include "layers.h"
#include "status.h"

extern const DistilArch distil_arch_roberta;
extern const DistilArch distil_arch_xlm_roberta;
extern const DistilArch distil_arch_camembert;

static DistilStatus
parse(DistilConfig *config, const DistilJsonDoc *doc, int vocabulary, DistilError *err)
{
	int64_t		types;

	DISTIL_FORWARD(distil_config_size(&config->vocabulary, doc, "vocab_size", vocabulary,
									  DISTIL_MAX_VOCABULARY, err));
	DISTIL_FORWARD(distil_json_get_int(doc, distil_json_root(doc), "type_vocab_size", 2, 1, 65536, &types,
									   err));
	config->types = (int) types;
	DISTIL_FORWARD(distil_config_encoder(config, doc, err));
	DISTIL_FORWARD(distil_config_check(config, "hidden_size", "num_attention_heads", err));
	return distil_config_padding(config, config->pad_id, err);
}

static DistilStatus
roberta_parse(DistilConfig *config, const DistilJsonDoc *doc, DistilArena *arena, DistilError *err)
{
	(void) arena;
	return parse(config, doc, 50265, err);
}

static DistilStatus
other_parse(DistilConfig *config, const DistilJsonDoc *doc, DistilArena *arena, DistilError *err)
{
	(void) arena;
	return parse(config, doc, 30522, err);
}

static DistilStatus
roberta_params(DistilSpec *spec, bool with_lm, DistilError *err)
{
	DISTIL_FORWARD(distil_embedding_params(spec, 0, err));
	DISTIL_FORWARD(distil_layer_params(spec, distil_bert_layer_names, err));
	spec->has_lm = with_lm;
	return with_lm ? distil_lm_head_params(spec, &distil_roberta_lm_names, err) : DISTIL_OK;
}

static const struct DistilAlias roberta_aliases[] = {
	{"embeddings.word_embeddings.weight", "lm_head.decoder.weight", false},
	{"lm_head.bias", "lm_head.decoder.bias", true},
	{NULL, NULL, false}
};

static const DistilHeadForm roberta_heads[] = {
	{DISTIL_HEAD_SEQUENCE, "classifier.dense", DISTIL_ACT_TANH, "classifier.out_proj", false, false},
	{DISTIL_HEAD_TOKEN, NULL, DISTIL_ACT_NONE, "classifier", false, false},
	{DISTIL_HEAD_QUESTION, NULL, DISTIL_ACT_NONE, "qa_outputs", false, false},
	{DISTIL_HEAD_CHOICE, "pooler.dense", DISTIL_ACT_TANH, "classifier", false, false},
	{0, NULL, DISTIL_ACT_NONE, NULL, false, false}
};

/* The three differ in names and in the default vocabulary. */
#define ROBERTA(type, stem, parser) { \
	.model_type = type, \
	.family = &distil_family_post_norm, \
	.parse = parser, \
	.params = roberta_params, \
	.prefix = "roberta.", \
	.class_stem = stem, \
	.lm_class = stem "ForMaskedLM", \
	.lm_tensor = "lm_head.dense.weight", \
	.word_tensor = "embeddings.word_embeddings.weight", \
	.pad_id = 1, \
	.heads = roberta_heads, \
	.write_config = distil_config_write_encoder, \
	.student_type = type, \
	.aliases = roberta_aliases \
}

const DistilArch distil_arch_roberta = ROBERTA("roberta", "Roberta", roberta_parse);
const DistilArch distil_arch_xlm_roberta = ROBERTA("xlm-roberta", "XLMRoberta", other_parse);
const DistilArch distil_arch_camembert = ROBERTA("camembert", "Camembert", other_parse);
