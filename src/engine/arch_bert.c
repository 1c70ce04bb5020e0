/*
 * arch_bert.c
 *		BERT (Devlin et al. 2018): post-norm encoder with learned positions and segments.
 *
 * Also MiniLM, bge, e5 and gte models, whose config.json says "bert".  The rule a
 * newcomer would break: the pooler belongs to the heads that use it; what no head uses
 * (the pooler of a sentence model, the next-sentence head) is stored with the model but
 * not in the parameter table.
 */
#include "config.h"

#include "layers.h"
#include "status.h"

extern const DistilArch distil_arch_bert;

static DistilStatus
bert_parse(DistilConfig *config, const DistilJsonDoc *doc, DistilArena *arena, DistilError *err)
{
	int64_t		types;

	(void) arena;
	DISTIL_FORWARD(distil_config_size(&config->vocabulary, doc, "vocab_size", 30522, DISTIL_MAX_VOCABULARY,
									  err));
	DISTIL_FORWARD(distil_json_get_int(doc, distil_json_root(doc), "type_vocab_size", 2, 1, 65536, &types,
									   err));
	config->types = (int) types;
	DISTIL_FORWARD(distil_config_encoder(config, doc, err));
	return distil_config_check(config, "hidden_size", "num_attention_heads", err);
}

static const DistilLmNames bert_lm_names = {
	"cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm",
	"cls.predictions.decoder.weight", "cls.predictions.bias", "cls.predictions.decoder.bias"
};

static DistilStatus
bert_params(DistilSpec *spec, bool with_lm, DistilError *err)
{
	DISTIL_FORWARD(distil_embedding_params(spec, 0, err));
	DISTIL_FORWARD(distil_layer_params(spec, distil_bert_layer_names, err));
	spec->has_lm = with_lm;
	return with_lm ? distil_lm_head_params(spec, &bert_lm_names, err) : DISTIL_OK;
}

static const DistilHeadForm bert_heads[] = {
	{DISTIL_HEAD_SEQUENCE, "pooler.dense", DISTIL_ACT_TANH, "classifier", false, false},
	{DISTIL_HEAD_TOKEN, NULL, DISTIL_ACT_NONE, "classifier", false, false},
	{DISTIL_HEAD_QUESTION, NULL, DISTIL_ACT_NONE, "qa_outputs", false, false},
	{DISTIL_HEAD_CHOICE, "pooler.dense", DISTIL_ACT_TANH, "classifier", false, false},
	{0, NULL, DISTIL_ACT_NONE, NULL, false, false}
};

static const struct DistilAlias bert_aliases[] = {
	{"embeddings.word_embeddings.weight", "cls.predictions.decoder.weight", false},
	{"cls.predictions.bias", "cls.predictions.decoder.bias", true},
	{NULL, NULL, false}
};

const DistilArch distil_arch_bert = {
	.model_type = "bert",
	.family = &distil_family_post_norm,
	.parse = bert_parse,
	.params = bert_params,
	.prefix = "bert.",
	.class_stem = "Bert",
	.lm_class = "BertForMaskedLM",
	.lm_tensor = "cls.predictions.transform.dense.weight",
	.word_tensor = "embeddings.word_embeddings.weight",
	.heads = bert_heads,
	.write_config = distil_config_write_encoder,
	.student_type = "distilbert",
	.aliases = bert_aliases
};
