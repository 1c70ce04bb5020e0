/*
 * tokenizer_file.c
 *		tokenizer.json into a draft.
 *
 * Sections "truncation" and "padding" are not read: published files carry the values
 * of some training run there, and honouring them would silently cut texts.  The rule
 * a newcomer would break: what is not known is refused by its name, at every level.
 * File format of the Hugging Face `tokenizers` library, version "1.0".
 */
#include "tokenizer_parts.h"

#include "folder.h"
#include "status.h"

#include <string.h>

DistilStatus
distil_draft_step(DistilBlobStep *steps, int *n, uint32_t kind, uint32_t flags, DistilError *err)
{
	if (*n == DISTIL_MAX_STEPS)
		return distil_fail(err, DISTIL_ERR_LIMIT, "tokenizer has more than %d steps in a sequence",
						   DISTIL_MAX_STEPS);
	steps[*n].kind = kind;
	steps[*n].flags = flags;
	steps[*n].data = steps[*n].length = 0;
	(*n)++;
	return DISTIL_OK;
}

DistilStatus
distil_draft_step_data(DistilDraft *draft, DistilBlobStep *steps, int *n, uint32_t kind, uint32_t flags,
					   const void *data, size_t length, DistilError *err)
{
	if (length > DISTIL_MAX_JSON_BYTES || draft->data.length > DISTIL_MAX_JSON_BYTES)
		return distil_fail(err, DISTIL_ERR_LIMIT, "step of a tokenizer with %zu bytes of data", length);
	DISTIL_FORWARD(distil_draft_step(steps, n, kind, flags, err));
	if (!distil_buffer_align(&draft->data, 8))
		return distil_fail_memory(err, draft->data.length + 8);
	steps[*n - 1].data = (uint32_t) draft->data.length;
	steps[*n - 1].length = (uint32_t) length;
	return distil_buffer_append(&draft->data, data, length) ? DISTIL_OK : distil_fail_memory(err, length);
}

DistilStatus
distil_draft_known(const DistilJson *value, const char *const *known, const char *what, DistilError *err)
{
	const void *position = NULL;
	const char *key;
	size_t		length;
	const DistilJson *member;
	char		printable[64];

	while ((position = distil_json_next(value, position, &key, &length, &member)) != NULL)
	{
		int			i = 0;

		while (known[i] != NULL && strcmp(known[i], key) != 0)
			i++;
		if (known[i] == NULL)
			return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "field \"%s\" of %s is not supported",
							   distil_printable(printable, sizeof(printable), key, length), what);
	}
	return DISTIL_OK;
}

/* The type of a component; NULL when it has none. */
static DistilStatus
component_type(const DistilJson *value, const char *what, const char **type, DistilError *err)
{
	const DistilJson *member;
	size_t		length;

	*type = NULL;
	if (distil_json_type(value) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "%s of tokenizer.json is not an object", what);
	member = distil_json_member(value, "type");
	if (member == NULL)
		return DISTIL_OK;
	if (distil_json_type(member) != DISTIL_JSON_STRING)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "type of the %s of tokenizer.json is not a string",
						   what);
	*type = distil_json_string(member, &length);
	return DISTIL_OK;
}

static DistilStatus
not_supported(const char *what, const char *type, DistilError *err)
{
	char		printable[64];

	if (type == NULL)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "%s of tokenizer.json has no type", what);
	return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "%s \"%s\" is not supported", what,
					   distil_printable(printable, sizeof(printable), type, strlen(type)));
}

/*
 * One normalizer or pre-tokenizer, or a Sequence of them; depth is capped by the JSON
 * reader.  `list` names the member of a Sequence.
 */
static DistilStatus
read_steps(DistilDraft *draft, const DistilJson *value, bool pre, DistilError *err)
{
	static const char *const known[2][3] = {{"type", "normalizers", NULL}, {"type", "pretokenizers", NULL}};
	const char *what = pre ? "pre_tokenizer" : "normalizer";
	const char *type;
	const DistilJson *list;
	DistilPartParse parse = NULL;

	if (value == NULL || distil_json_type(value) == DISTIL_JSON_NULL)
		return DISTIL_OK;
	DISTIL_FORWARD(component_type(value, what, &type, err));
	if (type != NULL && strcmp(type, "Sequence") == 0)
	{
		DISTIL_FORWARD(distil_draft_known(value, known[pre], pre ? "pre_tokenizer Sequence"
										  : "normalizer Sequence", err));
		list = distil_json_member(value, known[pre][1]);
		if (list == NULL || distil_json_type(list) != DISTIL_JSON_ARRAY)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE, "%s Sequence of tokenizer.json has no list", what);
		for (size_t i = 0; i < distil_json_count(list); i++)
			DISTIL_FORWARD(read_steps(draft, distil_json_item(list, i), pre, err));
		return DISTIL_OK;
	}
	if (pre && distil_pre_tokenizer_find(type) != NULL)
		parse = distil_pre_tokenizer_find(type)->parse;
	else if (!pre && distil_normalizer_find(type) != NULL)
		parse = distil_normalizer_find(type)->parse;
	if (parse == NULL)
		return not_supported(what, type, err);
	return parse(draft, value, err);
}

DistilStatus
distil_draft_vocabulary(DistilDraft *draft, const DistilJson *vocab, const char *what, DistilError *err)
{
	const void *position = NULL;
	const char *key;
	size_t		length;
	const DistilJson *value;
	size_t		count;
	char		printable[64];

	if (vocab == NULL || distil_json_type(vocab) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "%s has no object of tokens", what);
	count = distil_json_count(vocab);
	if (count > DISTIL_MAX_VOCABULARY)
		return distil_fail(err, DISTIL_ERR_LIMIT, "vocabulary of %zu tokens is too large, the limit "
						   "is %d", count, DISTIL_MAX_VOCABULARY);
	draft->tokens = distil_arena_alloc(draft->arena, count + 1, sizeof(*draft->tokens));
	if (draft->tokens == NULL)
		return distil_fail_memory(err, (count + 1) * sizeof(*draft->tokens));
	while ((position = distil_json_next(vocab, position, &key, &length, &value)) != NULL)
	{
		DistilDraftToken *token = &draft->tokens[draft->ntokens++];

		if (distil_json_type(value) != DISTIL_JSON_INTEGER || distil_json_integer(value) < 0 ||
			distil_json_integer(value) >= DISTIL_MAX_VOCABULARY)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE,
							   "token \"%s\" of %s has no id from 0 to %d",
							   distil_printable(printable, sizeof(printable), key, length), what,
							   DISTIL_MAX_VOCABULARY - 1);
		if (length > DISTIL_MAX_TOKEN_BYTES)
			return distil_fail(err, DISTIL_ERR_LIMIT, "token \"%s\" of %zu bytes is too long, the limit "
							   "is %d", distil_printable(printable, sizeof(printable), key, length), length,
							   DISTIL_MAX_TOKEN_BYTES);
		token->text = key;
		token->length = (uint32_t) length;
		token->id = (int32_t) distil_json_integer(value);
	}
	return DISTIL_OK;
}

DistilStatus
distil_draft_added_flags(uint32_t *flags, const DistilJsonDoc *doc, const DistilJson *token, DistilError *err)
{
	static const struct
	{
		const char *name;
		uint32_t	flag;
	}			members[] = {
		{"single_word", DISTIL_ADDED_SINGLE_WORD}, {"lstrip", DISTIL_ADDED_LSTRIP},
		{"rstrip", DISTIL_ADDED_RSTRIP},
		{"normalized", DISTIL_ADDED_NORMALIZED}, {"special", DISTIL_ADDED_SPECIAL}
	};

	*flags = 0;
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
	{
		bool		on;

		DISTIL_FORWARD(distil_json_get_bool(doc, token, members[i].name, false, &on, err));
		*flags |= on ? members[i].flag : 0;
	}
	return DISTIL_OK;
}

static DistilStatus
read_added(DistilDraft *draft, const DistilJson *list, DistilError *err)
{
	static const char *const known[] = {
		"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special", NULL
	};
	size_t		count;

	if (list == NULL || distil_json_type(list) == DISTIL_JSON_NULL)
		return DISTIL_OK;
	if (distil_json_type(list) != DISTIL_JSON_ARRAY)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "added_tokens of tokenizer.json is not a list");
	count = distil_json_count(list);
	if (count > DISTIL_MAX_ADDED)
		return distil_fail(err, DISTIL_ERR_LIMIT, "tokenizer.json has %zu added tokens, more than %d", count,
						   DISTIL_MAX_ADDED);
	draft->added = distil_arena_alloc(draft->arena, count + 1, sizeof(*draft->added));
	if (draft->added == NULL)
		return distil_fail_memory(err, (count + 1) * sizeof(*draft->added));
	for (size_t i = 0; i < count; i++)
	{
		const DistilJson *item = distil_json_item(list, i);
		DistilDraftAdded *added = &draft->added[draft->nadded++];
		const DistilJson *content = NULL;
		size_t		length = 0;
		int64_t		id;

		if (distil_json_type(item) == DISTIL_JSON_OBJECT)
			content = distil_json_member(item, "content");
		if (content == NULL || distil_json_type(content) != DISTIL_JSON_STRING)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE, "added token %zu of tokenizer.json has no content",
							   i);
		DISTIL_FORWARD(distil_draft_known(item, known, "added token", err));
		added->text = distil_json_string(content, &length);
		if (length == 0 || length > DISTIL_MAX_TOKEN_BYTES)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE, "added token %zu of tokenizer.json has %zu bytes",
							   i, length);
		added->length = (uint32_t) length;
		DISTIL_FORWARD(distil_json_get_int(draft->doc, item, "id", -1, 0, DISTIL_MAX_VOCABULARY - 1, &id,
										   err));
		if (id < 0)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE, "added token %zu of tokenizer.json has no id", i);
		added->id = id;
		DISTIL_FORWARD(distil_draft_added_flags(&added->flags, draft->doc, item, err));
	}
	return DISTIL_OK;
}

/* A model without a type is recognised by its fields, as old files are. */
static DistilStatus
read_model(DistilDraft *draft, const DistilJson *model, DistilError *err)
{
	const char *type;
	const DistilModelPart *part;

	if (model == NULL)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "tokenizer.json has no model");
	DISTIL_FORWARD(component_type(model, "model", &type, err));
	if (type == NULL)
		type = distil_json_member(model, "merges") != NULL ? "BPE"
			: distil_json_member(model, "max_input_chars_per_word") != NULL ? "WordPiece"
			: distil_json_type(distil_json_member(model, "vocab") != NULL ? distil_json_member(model, "vocab")
							   : model)
			== DISTIL_JSON_ARRAY ? "Unigram" : "WordLevel";
	part = distil_model_part_find(type);
	if (part == NULL)
		return not_supported("model", type, err);
	DISTIL_FORWARD(part->parse(draft, model, err));
	if (draft->scores != NULL)
		return DISTIL_OK;		/* read by the part */
	return distil_draft_vocabulary(draft, distil_json_member(model, "vocab"), "model of tokenizer.json", err);
}

static DistilStatus
read_post(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	const char *type;
	const DistilPostPart *part;

	distil_template_none(draft);
	if (value == NULL || distil_json_type(value) == DISTIL_JSON_NULL)
		return DISTIL_OK;
	DISTIL_FORWARD(component_type(value, "post_processor", &type, err));
	part = distil_post_find(type);
	return part != NULL ? part->parse(draft, value, err) : not_supported("post_processor", type, err);
}

static DistilStatus
read_decoder(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	const char *type;
	const DistilDecoderPart *part;

	draft->header.decoder = DISTIL_DECODER_NONE;
	if (value == NULL || distil_json_type(value) == DISTIL_JSON_NULL)
		return DISTIL_OK;
	DISTIL_FORWARD(component_type(value, "decoder", &type, err));
	part = distil_decoder_find(type);
	return part != NULL ? part->parse(draft, value, err) : not_supported("decoder", type, err);
}

DistilStatus
distil_draft_read_json(DistilDraft *draft, DistilError *err)
{
	static const char *const known[] = {
		"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
		"decoder", "model", NULL
	};
	const DistilJson *root = distil_json_root(draft->doc);
	const char *version;
	char		printable[64];

	if (distil_json_type(root) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "tokenizer.json is not an object");
	DISTIL_FORWARD(distil_draft_known(root, known, "tokenizer.json", err));
	DISTIL_FORWARD(distil_json_get_string(draft->doc, root, "version", "1.0", &version, err));
	if (strcmp(version, "1.0") != 0)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "version \"%s\" of tokenizer.json is not supported",
						   distil_printable(printable, sizeof(printable), version, strlen(version)));
	DISTIL_FORWARD(read_model(draft, distil_json_member(root, "model"), err));
	DISTIL_FORWARD(read_added(draft, distil_json_member(root, "added_tokens"), err));
	DISTIL_FORWARD(read_steps(draft, distil_json_member(root, "normalizer"), false, err));
	DISTIL_FORWARD(read_steps(draft, distil_json_member(root, "pre_tokenizer"), true, err));
	DISTIL_FORWARD(read_post(draft, distil_json_member(root, "post_processor"), err));
	return read_decoder(draft, distil_json_member(root, "decoder"), err);
}
