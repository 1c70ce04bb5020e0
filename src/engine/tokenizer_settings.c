/*
 * tokenizer_settings.c
 *		What tokenizer_config.json says beside a tokenizer.json.
 *
 * The classes of transformers let some of its members overrule tokenizer.json: BERT's do_lower_case, strip_accents and
 * tokenize_chinese_chars, the byte-level classes' add_prefix_space.  Others that contradict tokenizer.json are refused.
 * The rule a newcomer would break: only a member that is there counts, and only for the classes that know it; the
 * general class PreTrainedTokenizerFast takes tokenizer.json as it is.  Without a class the parts of the tokenizer say whose it is.
 * Where a member is absent, transformers takes the default of the class (do_lower_case true) even against tokenizer.json; here
 * tokenizer.json holds.
 */
#include "tokenizer_parts.h"

#include "folder.h"
#include "status.h"

#include <string.h>

typedef enum Family
{
	FAMILY_GENERAL,
	FAMILY_UNNAMED,
	FAMILY_BERT,
	FAMILY_BYTES,
	FAMILY_GPT2,
	FAMILY_PIECES
} Family;

static Family
family_of(const char *name)
{
	static const struct
	{
		const char *name;
		Family		family;
	}			classes[] = {
		{"BertTokenizer", FAMILY_BERT}, {"DistilBertTokenizer", FAMILY_BERT}, {"ElectraTokenizer", FAMILY_BERT},
		{"MobileBertTokenizer", FAMILY_BERT}, {"MPNetTokenizer", FAMILY_BERT}, {"GPT2Tokenizer", FAMILY_GPT2},
		{"RobertaTokenizer", FAMILY_BYTES}, {"AlbertTokenizer", FAMILY_PIECES}, {"XLNetTokenizer", FAMILY_PIECES}
	};

	if (name[0] == '\0')
		return FAMILY_UNNAMED;
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
	{
		size_t		n = strlen(classes[i].name);

		if (strncmp(name, classes[i].name, n) == 0 && (name[n] == '\0' || strcmp(name + n, "Fast") == 0))
			return classes[i].family;
	}
	return FAMILY_GENERAL;
}

static DistilBlobStep *
find_step(DistilBlobStep *steps, int n, uint32_t kind)
{
	for (int i = 0; i < n; i++)
		if (steps[i].kind == kind)
			return &steps[i];
	return NULL;
}

/* *flags with `flag` as the member says; unchanged without it.  *given: it is there and no null. */
static DistilStatus
overrule(uint32_t *flags, uint32_t flag, bool *given, const DistilJsonDoc *doc, const char *key, DistilError *err)
{
	const DistilJson *root = distil_json_root(doc);
	const DistilJson *value = distil_json_member(root, key);
	bool		on = (*flags & flag) != 0;

	*given = value != NULL && distil_json_type(value) != DISTIL_JSON_NULL;
	DISTIL_FORWARD(distil_json_get_bool(doc, root, key, on, &on, err));
	*flags = on ? *flags | flag : *flags & ~flag;
	return DISTIL_OK;
}

static DistilStatus
bert_settings(DistilDraft *draft, const DistilJsonDoc *doc, DistilError *err)
{
	DistilBlobStep *step = find_step(draft->normalizer, draft->nnormalizer, DISTIL_NORMALIZER_BERT);
	uint32_t	before;
	bool		given;

	if (step == NULL)
		return DISTIL_OK;
	before = step->flags;
	DISTIL_FORWARD(overrule(&step->flags, DISTIL_BERT_LOWER, &given, doc, "do_lower_case", err));
	/* accents go with capitals unless they are spoken of */
	if (((step->flags ^ before) & DISTIL_BERT_LOWER) != 0)
		step->flags = (step->flags & DISTIL_BERT_LOWER) != 0 ? step->flags | DISTIL_BERT_STRIP
			: step->flags & ~(uint32_t) DISTIL_BERT_STRIP;
	DISTIL_FORWARD(overrule(&step->flags, DISTIL_BERT_STRIP, &given, doc, "strip_accents", err));
	return overrule(&step->flags, DISTIL_BERT_CJK, &given, doc, "tokenize_chinese_chars", err);
}

static DistilStatus
contradiction(const char *key, DistilError *err)
{
	return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
					   "%s of file \"tokenizer_config.json\" that contradicts tokenizer.json is not supported", key);
}

static DistilStatus
bytes_settings(DistilDraft *draft, const DistilJsonDoc *doc, DistilError *err)
{
	DistilBlobStep *step = find_step(draft->pre, draft->npre, DISTIL_PRE_BYTES);
	bool		trims = (draft->header.flags & DISTIL_BLOB_TRIM) != 0;
	bool		given,
				wanted;

	if (step == NULL)
		return DISTIL_OK;
	DISTIL_FORWARD(overrule(&step->flags, DISTIL_BYTES_PREFIX, &given, doc, "add_prefix_space", err));
	if (given && trims)
		draft->header.flags = (step->flags & DISTIL_BYTES_PREFIX) != 0 ? draft->header.flags | DISTIL_BLOB_TRIM_PREFIX
			: draft->header.flags & ~(uint32_t) DISTIL_BLOB_TRIM_PREFIX;
	DISTIL_FORWARD(distil_json_get_bool(doc, distil_json_root(doc), "trim_offsets", trims, &wanted, err));
	return wanted == trims ? DISTIL_OK : contradiction("trim_offsets", err);
}

/* GPT-2's class makes a template of them, which tokenizer.json does not have. */
static DistilStatus
gpt2_settings(const DistilJsonDoc *doc, DistilError *err)
{
	static const char *const keys[] = {"add_bos_token", "add_eos_token"};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
	{
		bool		wanted;

		DISTIL_FORWARD(distil_json_get_bool(doc, distil_json_root(doc), keys[i], false, &wanted, err));
		if (wanted)
			return contradiction(keys[i], err);
	}
	return DISTIL_OK;
}

/* The normalizers of these classes are several steps: that they are others than the class would make is refused. */
static DistilStatus
pieces_settings(DistilDraft *draft, const DistilJsonDoc *doc, DistilError *err)
{
	const DistilBlobStep *meta = find_step(draft->pre, draft->npre, DISTIL_PRE_METASPACE);
	const struct
	{
		const char *key;
		bool		is;
	}			members[] = {
		{"do_lower_case", find_step(draft->normalizer, draft->nnormalizer, DISTIL_NORMALIZER_LOWERCASE) != NULL},
		{"keep_accents", find_step(draft->normalizer, draft->nnormalizer, DISTIL_NORMALIZER_ACCENTS) == NULL},
		{"add_prefix_space", meta != NULL && (meta->flags & DISTIL_META_ALWAYS) != 0}
	};

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
	{
		bool		wanted;

		DISTIL_FORWARD(distil_json_get_bool(doc, distil_json_root(doc), members[i].key, members[i].is, &wanted, err));
		if (wanted != members[i].is)
			return contradiction(members[i].key, err);
	}
	return DISTIL_OK;
}

/* Texts are cut at their end. */
static DistilStatus
check_direction(const DistilJsonDoc *doc, const DistilJson *object, const char *key, const char *left, const char *file,
				DistilError *err)
{
	const char *side;

	DISTIL_FORWARD(distil_json_get_string(doc, object, key, "", &side, err));
	if (strcmp(side, left) != 0)
		return DISTIL_OK;
	return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "%s \"%s\" of file \"%s\" is not supported", key, left, file);
}

static DistilStatus
apply(DistilDraft *draft, const DistilJsonDoc *doc, DistilError *err)
{
	const DistilJson *root = distil_json_root(doc);
	const char *name;

	if (distil_json_type(root) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "file \"tokenizer_config.json\" is not an object");
	DISTIL_FORWARD(check_direction(doc, root, "truncation_side", "left", "tokenizer_config.json", err));
	if (draft->doc == NULL)
		return DISTIL_OK;		/* the readers of legacy files know their members */
	DISTIL_FORWARD(distil_json_get_string(doc, root, "tokenizer_class", "", &name, err));
	switch (family_of(name))
	{
		case FAMILY_UNNAMED:
			DISTIL_FORWARD(bert_settings(draft, doc, err));
			return bytes_settings(draft, doc, err);
		case FAMILY_BERT:
			return bert_settings(draft, doc, err);
		case FAMILY_GPT2:
			DISTIL_FORWARD(gpt2_settings(doc, err));
			return bytes_settings(draft, doc, err);
		case FAMILY_BYTES:
			return bytes_settings(draft, doc, err);
		case FAMILY_PIECES:
			return pieces_settings(draft, doc, err);
		default:
			return DISTIL_OK;
	}
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
			DISTIL_FORWARD(check_direction(draft->doc, truncation, "direction", "Left", "tokenizer.json", err));
	}
	DISTIL_FORWARD(distil_folder_json(folder, "tokenizer_config.json", false, &doc, draft->alloc, err));
	if (doc == NULL)
		return DISTIL_OK;
	status = apply(draft, doc, err);
	distil_json_free(doc);
	return status;
}
