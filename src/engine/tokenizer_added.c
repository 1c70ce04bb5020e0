/*
 * tokenizer_added.c
 *		Added tokens of a tokenizer.json as the configuration beside it changes them.
 *
 * added_tokens_decoder of tokenizer_config.json has the last word on the flags of a token, and may add some; what is named there as
 * cls_token, mask_token and so on, or is in additional_special_tokens, is a special token also where tokenizer.json does not say so.
 * The rule a newcomer would break: tokens that the vocabulary does not have are added only by added_tokens_decoder, which says their ids.
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <string.h>

#define MAX_DECODER	4096		/* entries of added_tokens_decoder */
#define NAMED 7				/* tokens that have a setting of their own */

typedef struct Entry
{
	int64_t		id;
	const DistilJson *token;
} Entry;

static DistilDraftAdded *
find_added(const DistilDraft *draft, const char *text, size_t length)
{
	for (size_t i = 0; i < draft->nadded; i++)
		if (draft->added[i].length == length && memcmp(draft->added[i].text, text, length) == 0)
			return &draft->added[i];
	return NULL;
}

/* As AddedToken of the library takes them: what is not special is found in normalised text when nothing else is said. */
static DistilStatus
token_flags(uint32_t *flags, const DistilJsonDoc *doc, const DistilJson *token, DistilError *err)
{
	DISTIL_FORWARD(distil_draft_added_flags(flags, doc, token, err));
	if (distil_json_member(token, "normalized") == NULL && (*flags & DISTIL_ADDED_SPECIAL) == 0)
		*flags |= DISTIL_ADDED_NORMALIZED;
	return DISTIL_OK;
}

/* A special token of the vocabulary that is not added yet; others are left alone. */
static DistilStatus
add_special(DistilDraft *draft, const char *text, size_t length, uint32_t flags, DistilError *err)
{
	char	   *copy;

	if (length == 0 || length > DISTIL_MAX_TOKEN_BYTES || find_added(draft, text, length) != NULL ||
		distil_draft_id(draft, text, length) < 0)
		return DISTIL_OK;
	copy = distil_arena_string(draft->arena, text, length);
	if (copy == NULL)
		return distil_fail_memory(err, length);
	draft->added[draft->nadded++] = (DistilDraftAdded) {
		.text = copy, .length = (uint32_t) length, .flags = DISTIL_ADDED_SPECIAL | flags, .id = -1
	};
	return DISTIL_OK;
}

/* A token that a setting names is special, whatever else is said of it. */
static DistilStatus
add_named(DistilDraft *draft, const char *name, uint32_t flags, DistilError *err)
{
	DistilDraftAdded *found = find_added(draft, name, strlen(name));

	if (found == NULL)
		return add_special(draft, name, strlen(name), flags, err);
	found->flags |= DISTIL_ADDED_SPECIAL;
	return DISTIL_OK;
}

/* "ID": {"content": ..., flags}, ordered by id */
static DistilStatus
read_entries(Entry *entries, size_t *n, const DistilJson *decoder, DistilError *err)
{
	const void *position = NULL;
	const char *key;
	size_t		length;
	const DistilJson *value;
	char		printable[64];

	while ((position = distil_json_next(decoder, position, &key, &length, &value)) != NULL)
	{
		int64_t		id = 0;
		size_t		at = *n;

		for (size_t i = 0; i < length && id < DISTIL_MAX_VOCABULARY; i++)
			id = key[i] >= '0' && key[i] <= '9' ? id * 10 + key[i] - '0' : DISTIL_MAX_VOCABULARY;
		if (length == 0 || id >= DISTIL_MAX_VOCABULARY || distil_json_type(value) != DISTIL_JSON_OBJECT)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE, "entry \"%s\" of added_tokens_decoder is not a token with its id",
							   distil_printable(printable, sizeof(printable), key, length));
		for (; at > 0 && entries[at - 1].id > id; at--)
			entries[at] = entries[at - 1];
		entries[at] = (Entry) {id, value};
		(*n)++;
	}
	return DISTIL_OK;
}

static DistilStatus
apply_entry(DistilDraft *draft, const DistilJsonDoc *doc, const Entry *entry, DistilError *err)
{
	const DistilJson *content = distil_json_member(entry->token, "content");
	const char *text = NULL;
	size_t		length = 0;
	uint32_t	flags = 0;
	DistilDraftAdded *added;

	if (content != NULL && distil_json_type(content) == DISTIL_JSON_STRING)
		text = distil_json_string(content, &length);
	if (length == 0 || length > DISTIL_MAX_TOKEN_BYTES)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "token %lld of added_tokens_decoder has %zu bytes", (long long) entry->id,
						   length);
	DISTIL_FORWARD(token_flags(&flags, doc, entry->token, err));
	added = find_added(draft, text, length);
	if (added == NULL)
	{
		added = &draft->added[draft->nadded++];
		*added = (DistilDraftAdded) {.text = distil_arena_string(draft->arena, text, length), .length = (uint32_t) length};
		if (added->text == NULL)
			return distil_fail_memory(err, length);
		added->id = entry->id;
	}
	added->flags = flags;
	return DISTIL_OK;
}

static size_t
member_count(const DistilJson *value)
{
	DistilJsonType type = value != NULL ? distil_json_type(value) : DISTIL_JSON_NULL;

	return type == DISTIL_JSON_ARRAY || type == DISTIL_JSON_OBJECT ? distil_json_count(value) : 0;
}

/* A list of texts or of {"content": text, flags}, or an object of texts. */
static DistilStatus
add_listed(DistilDraft *draft, const DistilJsonDoc *doc, const DistilJson *list, DistilError *err)
{
	bool		array = distil_json_type(list) == DISTIL_JSON_ARRAY;
	const void *position = NULL;
	const char *text;
	size_t		length;
	const DistilJson *value;

	for (size_t i = 0; i < member_count(list); i++)
	{
		uint32_t	flags = 0;

		if (array)
			value = distil_json_item(list, i);
		else
			position = distil_json_next(list, position, &text, &length, &value);
		if (distil_json_type(value) == DISTIL_JSON_OBJECT)
		{
			DISTIL_FORWARD(token_flags(&flags, doc, value, err));
			value = distil_json_member(value, "content");
		}
		if (value == NULL || distil_json_type(value) != DISTIL_JSON_STRING)
			continue;
		text = distil_json_string(value, &length);
		DISTIL_FORWARD(add_special(draft, text, length, flags, err));
		DISTIL_POLL(draft->poll, err);
	}
	return DISTIL_OK;
}

DistilStatus
distil_draft_apply_added(DistilDraft *draft, const DistilTokenizerClass *class, const DistilJsonDoc *doc, DistilError *err)
{
	const DistilJson *root = doc != NULL ? distil_json_root(doc) : NULL;
	const DistilJson *decoder = root != NULL ? distil_json_member(root, "added_tokens_decoder") : NULL;
	const DistilJson *lists[2] = {
		root != NULL ? distil_json_member(root, "additional_special_tokens") : NULL,
		root != NULL ? distil_json_member(root, "extra_special_tokens") : NULL
	};
	size_t		more = member_count(decoder) + member_count(lists[0]) + member_count(lists[1]);
	DistilDraftAdded *added;
	Entry	   *entries;
	size_t		n = 0;

	if (member_count(decoder) > MAX_DECODER || more + NAMED > DISTIL_MAX_ADDED - draft->nadded)
		return distil_fail(err, DISTIL_ERR_LIMIT, "%zu added tokens are too many, %zu of them in file \"tokenizer_config.json\"",
						   draft->nadded + more, more);
	more += NAMED;
	added = distil_arena_alloc(draft->arena, draft->nadded + more, sizeof(*added));
	entries = distil_arena_alloc(draft->arena, more, sizeof(*entries));
	if (added == NULL || entries == NULL)
		return distil_fail_memory(err, (draft->nadded + more) * sizeof(*added));
	if (draft->nadded > 0)
		memcpy(added, draft->added, draft->nadded * sizeof(*added));
	draft->added = added;
	if (decoder != NULL && distil_json_type(decoder) == DISTIL_JSON_OBJECT)
		DISTIL_FORWARD(read_entries(entries, &n, decoder, err));
	for (size_t i = 0; i < n; i++)
	{
		DISTIL_FORWARD(apply_entry(draft, doc, &entries[i], err));
		DISTIL_POLL(draft->poll, err);
	}
	for (int i = 0; i < 6; i++)
	{
		const char *name = draft->names[i] != NULL ? draft->names[i] : class != NULL ? class->names[i] : NULL;

		if (name != NULL)
			DISTIL_FORWARD(add_named(draft, name, draft->name_flags[i], err));
	}
	if (draft->named_unk != NULL)
		DISTIL_FORWARD(add_named(draft, draft->named_unk, 0, err));
	for (int i = 0; i < 2; i++)
		if (lists[i] != NULL)
			DISTIL_FORWARD(add_listed(draft, doc, lists[i], err));
	return DISTIL_OK;
}
