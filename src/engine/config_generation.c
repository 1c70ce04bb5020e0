/*
 * config_generation.c
 *		What a folder says of generation: the tokens that end it, and settings we do not implement.
 *
 * The rule a newcomer would break: generation_config.json, where there is one, stands for all of it; without
 * one the same members of config.json count (GenerationConfig.from_model_config of transformers).
 */
#include "config.h"

#include "folder.h"
#include "status.h"

/* Members that change which tokens are written, with the number at which they do not. */
static const struct
{
	const char *key;
	double		neutral;		/* only for a number: any other, and what is no number, counts */
	bool		sampling;		/* matters when tokens are drawn, not when the likeliest is taken */
}			settings[] = {
	{"bad_words_ids", 0, false},
	{"begin_suppress_tokens", 0, false},
	{"constraints", 0, false},
	{"diversity_penalty", 0, false},
	{"dola_layers", 0, false},
	{"encoder_no_repeat_ngram_size", 0, false},
	{"encoder_repetition_penalty", 1, false},
	{"exponential_decay_length_penalty", 0, false},
	{"force_words_ids", 0, false},
	{"forced_bos_token_id", -1, false},
	{"forced_eos_token_id", -1, false},
	{"guidance_scale", 1, false},
	{"min_length", 0, false},
	{"min_new_tokens", 0, false},
	{"no_repeat_ngram_size", 0, false},
	{"num_beam_groups", 1, false},
	{"num_beams", 1, false},
	{"penalty_alpha", 0, false},
	{"repetition_penalty", 1, false},
	{"sequence_bias", 0, false},
	{"stop_strings", 0, false},
	{"suppress_tokens", 0, false},
	{"token_healing", 0, false},
	{"watermarking_config", 0, false},
	{"epsilon_cutoff", 0, true},
	{"eta_cutoff", 0, true},
	{"min_p", 0, true},
	{"top_h", 1, true},
	{"typical_p", 1, true}
};

static bool
is_neutral(const DistilJson *value, double neutral)
{
	switch (distil_json_type(value))
	{
		case DISTIL_JSON_NULL:
			return true;
		case DISTIL_JSON_BOOL:
			return !distil_json_bool(value);
		case DISTIL_JSON_INTEGER:
		case DISTIL_JSON_REAL:
			return distil_json_number(value) == neutral;
		case DISTIL_JSON_ARRAY:
		case DISTIL_JSON_OBJECT:
			return distil_json_count(value) == 0;
		default:
			return false;
	}
}

static void
read_settings(DistilConfig *config, const DistilJson *root)
{
	config->writing_setting = NULL;
	config->sampling_setting = NULL;
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
	{
		const DistilJson *value = distil_json_member(root, settings[i].key);
		const char **named = settings[i].sampling ? &config->sampling_setting : &config->writing_setting;

		if (value != NULL && *named == NULL && !is_neutral(value, settings[i].neutral))
			*named = settings[i].key;
	}
}

/* eos_token_id: a number or a list; null: nothing ends a text. */
static DistilStatus
read_end_ids(DistilConfig *config, const DistilJson *root, DistilError *err)
{
	const DistilJson *value = distil_json_member(root, "eos_token_id");
	bool		list;
	size_t		n;

	config->nend = 0;
	config->ends_known = value != NULL;
	if (value == NULL || distil_json_type(value) == DISTIL_JSON_NULL)
		return DISTIL_OK;
	list = distil_json_type(value) == DISTIL_JSON_ARRAY;
	n = list ? distil_json_count(value) : 1;
	if (n > DISTIL_MAX_END_IDS)
		return distil_fail(err, DISTIL_ERR_LIMIT, "\"eos_token_id\" has more than %d tokens",
						   DISTIL_MAX_END_IDS);
	for (size_t i = 0; i < n; i++)
	{
		const DistilJson *id = list ? distil_json_item(value, i) : value;

		if (distil_json_type(id) != DISTIL_JSON_INTEGER || distil_json_integer(id) < -1 ||
			distil_json_integer(id) > DISTIL_MAX_VOCABULARY)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE,
							   "\"eos_token_id\" must be a token or a list of tokens");
		config->end_ids[config->nend++] = (int) distil_json_integer(id);
	}
	return DISTIL_OK;
}

DistilStatus
distil_config_generation(DistilConfig *config, const DistilJsonDoc *doc, DistilError *err)
{
	read_settings(config, distil_json_root(doc));
	return read_end_ids(config, distil_json_root(doc), err);
}

DistilStatus
distil_config_generation_file(DistilConfig *config, const DistilFolder *folder, const DistilAllocator *alloc,
							  DistilError *err)
{
	DistilJsonDoc *doc;
	DistilStatus status;

	DISTIL_FORWARD(distil_folder_json(folder, "generation_config.json", false, &doc, alloc, err));
	if (doc == NULL)
		return DISTIL_OK;
	if (distil_json_type(distil_json_root(doc)) == DISTIL_JSON_OBJECT)
		status = distil_config_generation(config, doc, err);
	else
		status = distil_fail(err, DISTIL_ERR_TEXT_FILE, "file \"generation_config.json\" is not an object");
	config->ends_known = true;
	distil_json_free(doc);
	return status;
}

bool
distil_config_write_ends(const DistilConfig *config, DistilBuffer *out)
{
	if (!config->ends_known)
		return true;
	if (config->nend == 0)
		return distil_config_printf(out, "  \"eos_token_id\": null,\n");
	if (config->nend == 1)
		return distil_config_printf(out, "  \"eos_token_id\": %d,\n", config->end_ids[0]);
	for (int i = 0; i < config->nend; i++)
		if (!distil_config_printf(out, i == 0 ? "  \"eos_token_id\": [%d" : ", %d", config->end_ids[i]))
			return false;
	return distil_config_printf(out, "],\n");
}
