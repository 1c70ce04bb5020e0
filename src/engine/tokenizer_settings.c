/*
 * tokenizer_settings.c
 *		What the configuration beside a tokenizer.json makes of it.
 *
 * A class of transformers that knows its parts builds them anew (tokenizer_class.c): what tokenizer.json has
 * instead does not count.  Only PreTrainedTokenizerFast and TokenizersBackend take tokenizer.json as it is.
 * add_bos_token and add_eos_token count for none of them: the post-processor says what is added.  The rule a
 * newcomer would break: without tokenizer_config.json the class goes by the model, with all its defaults;
 * when tokenizer.json says something else the file was rather forgotten, and that is refused.
 */
#include "tokenizer_parts.h"

#include "folder.h"
#include "status.h"

#include <string.h>

static const DistilBlobStep *
find_step(const DistilBlobStep *steps, int n, uint32_t kind)
{
	for (int i = 0; i < n; i++)
		if (steps[i].kind == kind)
			return &steps[i];
	return NULL;
}

/* The member of tokenizer_config.json by which tokenizer.json differs from the defaults; NULL: by none. */
static const char *
missing_setting(const DistilDraft *draft, const DistilTokenizerClass *class,
				const DistilClassSettings *settings)
{
	const DistilBlobStep *bert = find_step(draft->normalizer, draft->nnormalizer, DISTIL_NORMALIZER_BERT);
	const DistilBlobStep *bytes = find_step(draft->pre, draft->npre, DISTIL_PRE_BYTES);
	const DistilBlobStep *meta = find_step(draft->pre, draft->npre, DISTIL_PRE_METASPACE);
	bool		lower = find_step(draft->normalizer, draft->nnormalizer, DISTIL_NORMALIZER_LOWERCASE) != NULL;
	bool		strips = find_step(draft->normalizer, draft->nnormalizer, DISTIL_NORMALIZER_ACCENTS) != NULL;
	uint32_t	flags = bert != NULL ? bert->flags ^ distil_class_bert_flags(settings) : 0;
	const struct
	{
		const char *key;
		bool		differs;
	}			members[] = {
		{"do_lower_case", (flags & DISTIL_BERT_LOWER) != 0 || (class->quotes && lower != settings->lower)},
		{"strip_accents", (flags & DISTIL_BERT_STRIP) != 0},
		{"tokenize_chinese_chars", (flags & DISTIL_BERT_CJK) != 0},
		{"keep_accents", class->quotes && strips == settings->accents},
		{"add_prefix_space",
		(bytes != NULL && ((bytes->flags & DISTIL_BYTES_PREFIX) != 0) != settings->prefix) ||
		(meta != NULL && (meta->flags & DISTIL_META_ALWAYS) == 0)}
	};

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		if (members[i].differs)
			return members[i].key;
	return NULL;
}

/* What a class does not take over from the model of tokenizer.json. */
static DistilStatus
check_model(const DistilDraft *draft, const DistilTokenizerClass *class, DistilError *err)
{
	static const uint32_t models[] = {
		[DISTIL_CLASS_BERT] = DISTIL_MODEL_WORDPIECE, [DISTIL_CLASS_BYTES] = DISTIL_MODEL_BPE,
		[DISTIL_CLASS_PIECES] = DISTIL_MODEL_UNIGRAM
	};
	const char *unk = draft->named_unk != NULL ? draft->named_unk : distil_class_unk(class);
	int64_t		unk_id = class->unk_id >= 0 ? class->unk_id : distil_draft_id(draft, unk, strlen(unk));
	const char *what = NULL;

	if (draft->header.model != models[class->kind])
		what = "type";
	else if (class->kind == DISTIL_CLASS_BERT &&
			 (draft->header.prefix_length != 2 || memcmp(draft->header.prefix, "##", 2) != 0))
		what = "continuing_subword_prefix";
	else if (class->kind == DISTIL_CLASS_BERT && draft->header.max_chars != 100)
		what = "max_input_chars_per_word";
	else if (class->kind == DISTIL_CLASS_BERT && strcmp(draft->unk, unk) != 0)
		what = "unk_token";
	else if (class->kind == DISTIL_CLASS_BYTES && draft->whole_words)
		what = "ignore_merges";
	else if (class->kind == DISTIL_CLASS_PIECES && draft->unk_id != unk_id)
		what = "unk_id";
	else if (class->kind == DISTIL_CLASS_PIECES && (draft->header.flags & DISTIL_BLOB_FALLBACK) != 0)
		what = "byte_fallback";
	if (what == NULL)
		return DISTIL_OK;
	return distil_fail_hint(err, distil_fail(err, DISTIL_ERR_UNSUPPORTED,
											 "%s of the model of tokenizer.json that contradicts "
											 "tokenizer_class \"%s\" is not supported",
											 what, class->name),
							DISTIL_HINT_AS_IT_IS);
}

static DistilStatus
apply_class(DistilDraft *draft, const DistilFolder *folder, const DistilJsonDoc *doc, DistilError *err)
{
	const DistilTokenizerClass *class;
	DistilClassSettings settings;
	const char *key;

	DISTIL_FORWARD(distil_draft_class(draft, folder, NULL, &class, err));
	DISTIL_FORWARD(distil_draft_apply_added(draft, folder, class, err));
	if (class == NULL)
		return DISTIL_OK;
	DISTIL_FORWARD(check_model(draft, class, err));
	DISTIL_FORWARD(distil_draft_class_settings(&settings, class, doc, err));
	if (class->fixed && doc != NULL)
	{
		int64_t		unk_id;

		DISTIL_FORWARD(distil_json_get_int(doc, distil_json_root(doc), "unk_id", class->unk_id, 0, INT32_MAX,
										   &unk_id, err));
		if (unk_id != class->unk_id)
			return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
							   "unk_id %lld of file \"tokenizer_config.json\" is not supported",
							   (long long) unk_id);
	}
	key = doc == NULL ? missing_setting(draft, class, &settings) : NULL;
	if (key == NULL)
		return distil_draft_class_parts(draft, class, &settings, err);
	return distil_fail_hint(err, distil_fail(err, DISTIL_ERR_UNSUPPORTED,
											 "%s of tokenizer.json that contradicts the default of "
											 "tokenizer_class \"%s\" is not supported"
											 " without file \"tokenizer_config.json\"", key, class->name),
							"Add the model's tokenizer_config.json, which says what %s is.", key);
}

/* Texts are cut at their end. */
static DistilStatus
check_direction(const DistilJsonDoc *doc, const DistilJson *object, const char *key, const char *left,
				const char *file, DistilError *err)
{
	const char *side;

	DISTIL_FORWARD(distil_json_get_string(doc, object, key, "", &side, err));
	if (strcmp(side, left) != 0)
		return DISTIL_OK;
	return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "%s \"%s\" of file \"%s\" is not supported", key, left,
					   file);
}

/* model_input_names says what the model is given of an encoding. */
static DistilStatus
apply_inputs(DistilDraft *draft, const DistilJsonDoc *doc, DistilError *err)
{
	const DistilJson *names = doc != NULL ? distil_json_member(distil_json_root(doc), "model_input_names")
		: NULL;
	bool		types = draft->types && names == NULL;

	if (names != NULL && distil_json_type(names) != DISTIL_JSON_ARRAY)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE,
						   "model_input_names of file \"tokenizer_config.json\" is not a list");
	for (size_t i = 0; names != NULL && i < distil_json_count(names); i++)
	{
		const DistilJson *name = distil_json_item(names, i);

		if (distil_json_type(name) == DISTIL_JSON_STRING)
			types |= strcmp(distil_json_string(name, NULL), "token_type_ids") == 0;
	}
	if (types)
		draft->header.flags |= DISTIL_BLOB_TYPES;
	else
		distil_template_untyped(draft);
	return DISTIL_OK;
}

/* Byte-level texts have their own blanks: it takes a setting of its own to spoil them. */
static DistilStatus
apply_decoding(DistilDraft *draft, const DistilJsonDoc *doc, DistilError *err)
{
	const DistilJson *root = distil_json_root(doc);
	bool		clean;
	bool		always;

	DISTIL_FORWARD(distil_json_get_bool(doc, root, "clean_up_tokenization_spaces", false, &clean, err));
	DISTIL_FORWARD(distil_json_get_bool(doc, root,
										"clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_"
										"output", false, &always, err));
	if (clean && (always || draft->header.model != DISTIL_MODEL_BPE))
		draft->header.flags |= DISTIL_BLOB_CLEAN;
	return DISTIL_OK;
}

static DistilStatus
apply(DistilDraft *draft, const DistilFolder *folder, const DistilJsonDoc *doc, DistilError *err)
{
	if (doc != NULL && distil_json_type(distil_json_root(doc)) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "file \"tokenizer_config.json\" is not an object");
	if (doc != NULL)
	{
		bool		split;

		DISTIL_FORWARD(check_direction(doc, distil_json_root(doc), "truncation_side", "left",
									   "tokenizer_config.json", err));
		DISTIL_FORWARD(distil_json_get_bool(doc, distil_json_root(doc), "split_special_tokens", false, &split,
											err));
		if (split && draft->parse_special)
			return distil_fail_hint(err, distil_fail(err, DISTIL_ERR_UNSUPPORTED,
													 "split_special_tokens of file \"tokenizer_config.json\""
													 " is not supported"),
									"Import the model with the option parse_special false, which does the "
									"same.");
		DISTIL_FORWARD(apply_decoding(draft, doc, err));
	}
	/* the readers of legacy files ask their class */
	if (draft->doc != NULL)
		DISTIL_FORWARD(apply_class(draft, folder, doc, err));
	return apply_inputs(draft, doc, err);
}

/* Lower case first; BertNormalizer in lower case does the same. */
static DistilStatus
apply_lower_case(DistilDraft *draft, DistilError *err)
{
	DistilBlobStep *steps = draft->normalizer;

	if (!draft->lower_case || find_step(steps, draft->nnormalizer, DISTIL_NORMALIZER_LOWERCASE) != NULL)
		return DISTIL_OK;
	if (draft->nnormalizer > 0 && steps[0].kind == DISTIL_NORMALIZER_BERT)
	{
		steps[0].flags |= DISTIL_BERT_LOWER;
		return DISTIL_OK;
	}
	DISTIL_FORWARD(distil_draft_step(steps, &draft->nnormalizer, DISTIL_NORMALIZER_LOWERCASE, 0, err));
	memmove(steps + 1, steps, (size_t) (draft->nnormalizer - 1) * sizeof(*steps));
	steps[0] = (DistilBlobStep) {.kind = DISTIL_NORMALIZER_LOWERCASE};
	return DISTIL_OK;
}

DistilStatus
distil_draft_apply_settings(DistilDraft *draft, const DistilFolder *folder, DistilError *err)
{
	DistilJsonDoc *doc;
	DistilStatus status;

	if (draft->doc != NULL)
	{
		const DistilJson *truncation = distil_json_member(distil_json_root(draft->doc), "truncation");

		if (truncation != NULL && distil_json_type(truncation) == DISTIL_JSON_OBJECT)
			DISTIL_FORWARD(check_direction(draft->doc, truncation, "direction", "Left", "tokenizer.json",
										   err));
	}
	DISTIL_FORWARD(distil_folder_json(folder, "tokenizer_config.json", false, &doc, draft->alloc, err));
	status = apply(draft, folder, doc, err);
	distil_json_free(doc);
	DISTIL_FORWARD(status);
	return apply_lower_case(draft, err);
}
