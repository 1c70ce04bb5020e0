/*
 * tokenizer_added.c
 *		Added tokens: those of the files, then those that settings name.
 *
 * In this order: added_tokens_decoder of tokenizer_config.json or, without one, added_tokens.json and the
 * added tokens of tokenizer.json, by id; the tokens that have a name (cls_token, ..., any other member
 * "..._token"); additional and extra special tokens.  What the vocabulary does not have gets the next id
 * behind it.  The rule a newcomer would break: a class of transformers that builds a tokenizer anew takes no
 * added token of tokenizer.json that added_tokens_decoder leaves out.
 */
#include "tokenizer_parts.h"

#include "folder.h"
#include "status.h"

#include <string.h>

#define NAMED 7				/* tokens that have a setting of their own */

/* Flags of added tokens while they are put together. */
#define ADDED_TOUCHED	0x80000000u /* by a setting; the others of tokenizer.json stay as they are */
#define ADDED_DEFAULT	0x40000000u /* found in normalised text, as it is not special and nothing else is
									 * said */
#define ADDED_LATE		0x20000000u /* by a name or a list: the next one replaces it, */
#define ADDED_TEXT		0x10000000u /* but a mere text only once */

static const char *const name_keys[NAMED] = {
	"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"
};

typedef struct Entry
{
	int64_t		id;
	const char *text;
	size_t		length;
	uint32_t	flags;
	bool		normalized;		/* said by the file */
} Entry;

typedef struct Adding
{
	DistilDraft *draft;
	const DistilTokenizerClass *class;	/* NULL: tokenizer.json is taken as it is */
	DistilJsonDoc *config;		/* tokenizer_config.json, or NULL */
	DistilJsonDoc *map;			/* special_tokens_map.json, where it counts */
	DistilJsonDoc *added;		/* added_tokens.json, where it counts */
	Entry	   *entries;
	size_t		n;
} Adding;

static const DistilJson *
member(const DistilJsonDoc *doc, const char *key)
{
	return doc != NULL ? distil_json_member(distil_json_root(doc), key) : NULL;
}

static size_t
count(const DistilJson *value)
{
	DistilJsonType type = value != NULL ? distil_json_type(value) : DISTIL_JSON_NULL;

	return type == DISTIL_JSON_ARRAY || type == DISTIL_JSON_OBJECT ? distil_json_count(value) : 0;
}

static bool
is_object(const DistilJson *value)
{
	return value != NULL && distil_json_type(value) == DISTIL_JSON_OBJECT;
}

/*
 * extra_special_tokens of tokenizer_config.json (0) and of special_tokens_map.json (1), where it is a list,
 * or null: that counts as an empty one.  In the first, additional_special_tokens is another name of it; in
 * the second an object or null replaces the list of the first.
 */
static const DistilJson *
extra_list(const Adding *adding, int which)
{
	const DistilJsonDoc *doc = which == 0 ? adding->config : adding->map;
	const DistilJson *extra = member(doc, "extra_special_tokens");
	const DistilJson *additional = member(doc, "additional_special_tokens");
	const DistilJson *behind = which == 0 ? member(adding->map, "extra_special_tokens") : NULL;

	if (behind != NULL && distil_json_type(behind) != DISTIL_JSON_ARRAY)
		return NULL;
	if (which == 0 && count(extra) == 0 && additional != NULL)
		return additional;
	return is_object(extra) ? NULL : extra;
}

/* ---------- one token ---------- */

static DistilDraftAdded *
find_added(const DistilDraft *draft, const char *text, size_t length)
{
	for (size_t i = 0; i < draft->nadded; i++)
		if (draft->added[i].length == length && memcmp(draft->added[i].text, text, length) == 0)
			return &draft->added[i];
	return NULL;
}

/*
 * The room is there: allocated by begin().  What was special stays so.  kept:
 * what is there already is of tokenizer.json.
 */
static DistilStatus
put(DistilDraft *draft, const char *text, size_t length, uint32_t flags, int64_t id, bool kept,
	DistilError *err)
{
	DistilDraftAdded *added = find_added(draft, text, length);
	char		printable[64];

	if (length > DISTIL_MAX_TOKEN_BYTES)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE,
						   "added token of %zu bytes in the tokenizer's configuration", length);
	if (length == 0)
		return DISTIL_OK;
	flags |= ADDED_TOUCHED;
	if (added != NULL)
	{
		if (((added->flags ^ flags) & DISTIL_ADDED_NORMALIZED) != 0 &&
			((added->flags & ADDED_TOUCHED) != 0 || kept))
			return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
							   "added token \"%s\" that is \"normalized\" in one place and not in another is "
							   "not"
							   " supported", distil_printable(printable, sizeof(printable), text, length));
		added->flags = flags | (added->flags & (DISTIL_ADDED_SPECIAL | ADDED_TEXT));
		return DISTIL_OK;
	}
	added = &draft->added[draft->nadded++];
	*added = (DistilDraftAdded) {
		.text = distil_arena_string(draft->arena, text, length), .length = (uint32_t) length, .flags = flags,
		.id = id
	};
	return added->text != NULL ? DISTIL_OK : distil_fail_memory(err, length);
}

static void
make_special(DistilDraftAdded *added)
{
	if ((added->flags & ADDED_DEFAULT) != 0)
		added->flags &= ~(uint32_t) (ADDED_DEFAULT | DISTIL_ADDED_NORMALIZED);
	added->flags |= DISTIL_ADDED_SPECIAL;
}

/*
 * By a name or a list.  A token of the files stays as it is, but that a name
 * makes it special where a setting touched it.
 */
static DistilStatus
put_late(DistilDraft *draft, const char *text, size_t length, uint32_t flags, bool named, DistilError *err)
{
	DistilDraftAdded *added = find_added(draft, text, length);

	if (named)
		flags |= DISTIL_ADDED_SPECIAL;
	if (added == NULL || ((added->flags & ADDED_LATE) != 0 && (added->flags & flags & ADDED_TEXT) == 0))
		return put(draft, text, length, flags | ADDED_LATE, -1, false, err);
	if (named && (added->flags & ADDED_TOUCHED) != 0)
		make_special(added);
	return DISTIL_OK;
}

/* ---------- tokens with an id ---------- */

static DistilStatus
insert_entry(Adding *adding, Entry entry, bool replace, DistilError *err)
{
	size_t		at = adding->n;

	DISTIL_POLL(adding->draft->poll, err);
	if (entry.length == 0 || entry.length > DISTIL_MAX_TOKEN_BYTES)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "added token %lld has %zu bytes", (long long) entry.id,
						   entry.length);
	while (at > 0 && adding->entries[at - 1].id > entry.id)
		at--;
	if (replace && at > 0 && adding->entries[at - 1].id == entry.id)
	{
		adding->entries[at - 1] = entry;
		return DISTIL_OK;
	}
	memmove(&adding->entries[at + 1], &adding->entries[at], (adding->n - at) * sizeof(Entry));
	adding->entries[at] = entry;
	adding->n++;
	return DISTIL_OK;
}

/* "ID": {"content": ..., flags} */
static DistilStatus
read_decoder(Adding *adding, const DistilJson *decoder, DistilError *err)
{
	const void *position = NULL;
	const char *key;
	size_t		length;
	const DistilJson *value;
	char		printable[64];

	while ((position = distil_json_next(decoder, position, &key, &length, &value)) != NULL)
	{
		Entry		entry = {0};
		const DistilJson *content = NULL;

		for (size_t i = 0; i < length && entry.id < DISTIL_MAX_VOCABULARY; i++)
			entry.id = key[i] >= '0' && key[i] <= '9' ? entry.id * 10 + key[i] - '0' : DISTIL_MAX_VOCABULARY;
		if (length == 0 || entry.id >= DISTIL_MAX_VOCABULARY || distil_json_type(value) != DISTIL_JSON_OBJECT)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE,
							   "entry \"%s\" of added_tokens_decoder is not a token with its id",
							   distil_printable(printable, sizeof(printable), key, length));
		content = distil_json_member(value, "content");
		if (content != NULL && distil_json_type(content) == DISTIL_JSON_STRING)
			entry.text = distil_json_string(content, &entry.length);
		DISTIL_FORWARD(distil_draft_added_flags(&entry.flags, adding->config, value, err));
		entry.normalized = distil_json_member(value, "normalized") != NULL;
		DISTIL_FORWARD(insert_entry(adding, entry, false, err));
	}
	return DISTIL_OK;
}

/* objects: a token with flags is one, too */
static bool
is_text(const DistilJson *value, bool objects, const char *text, size_t length)
{
	const char *mine;
	size_t		n;

	if (objects && value != NULL && distil_json_type(value) == DISTIL_JSON_OBJECT)
		value = distil_json_member(value, "content");
	if (value == NULL || distil_json_type(value) != DISTIL_JSON_STRING)
		return false;
	mine = distil_json_string(value, &n);
	return n == length && memcmp(mine, text, n) == 0;
}

/*
 * added_tokens.json has no flags: what the other files name or list is special,
 * as a mere text in tokenizer_config.json.
 */
static bool
is_said_special(const Adding *adding, const char *text, size_t length)
{
	for (int i = 0; i < NAMED; i++)
	{
		const DistilJson *value = member(adding->map, name_keys[i]);

		if (is_text(value != NULL ? value : member(adding->config, name_keys[i]), value != NULL, text,
					length))
			return true;
	}
	for (int i = 0; i < 2; i++)
	{
		const DistilJson *list = extra_list(adding, i);
		size_t		n = count(list);

		for (size_t k = 0; k < n; k++)
			if (is_text(distil_json_item(list, k), i == 1, text, length))
				return true;
	}
	return false;
}

/* added_tokens.json: token -> id */
static DistilStatus
read_added_file(Adding *adding, DistilError *err)
{
	const void *position = NULL;
	Entry		entry = {0};
	const DistilJson *value;
	char		printable[64];

	while ((position = distil_json_next(distil_json_root(adding->added), position, &entry.text, &entry.length,
										&value)) != NULL)
	{
		if (distil_json_type(value) != DISTIL_JSON_INTEGER || distil_json_integer(value) < 0 ||
			distil_json_integer(value) >= DISTIL_MAX_VOCABULARY)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE,
							   "token \"%s\" of file \"added_tokens.json\" has no id from 0 to %d",
							   distil_printable(printable, sizeof(printable), entry.text, entry.length),
							   DISTIL_MAX_VOCABULARY - 1);
		entry.id = distil_json_integer(value);
		entry.normalized = true;
		entry.flags = is_said_special(adding, entry.text, entry.length) ? DISTIL_ADDED_SPECIAL
			: DISTIL_ADDED_NORMALIZED;
		DISTIL_FORWARD(insert_entry(adding, entry, true, err));
	}
	return DISTIL_OK;
}

/* Of tokenizer.json. */
static DistilStatus
take_added(Adding *adding, const DistilDraftAdded *added, size_t n, DistilError *err)
{
	for (size_t i = 0; i < n; i++)
	{
		Entry		entry = {added[i].id, added[i].text, added[i].length, added[i].flags, true};

		DISTIL_FORWARD(insert_entry(adding, entry, true, err));
	}
	return DISTIL_OK;
}

/* What is not special is found in normalised text when nothing else is said. */
static DistilStatus
put_entries(Adding *adding, DistilError *err)
{
	for (size_t i = 0; i < adding->n; i++)
	{
		const Entry *entry = &adding->entries[i];
		uint32_t	flags = entry->flags;

		DISTIL_POLL(adding->draft->poll, err);
		if (!entry->normalized && (flags & DISTIL_ADDED_SPECIAL) == 0)
			flags |= DISTIL_ADDED_NORMALIZED | ADDED_DEFAULT;
		DISTIL_FORWARD(put(adding->draft, entry->text, entry->length, flags, entry->id, adding->class == NULL,
						   err));
	}
	return DISTIL_OK;
}

/* ---------- tokens with a name ---------- */

/* bos, eos, unk, sep, pad, cls, mask: new ids are given in this order. */
static DistilStatus
put_names(Adding *adding, DistilError *err)
{
	static const int order[NAMED] = {4, 5, -1, 1, 2, 0, 3};
	DistilDraft *draft = adding->draft;
	const DistilTokenizerClass *class = adding->class;

	for (int i = 0; i < NAMED; i++)
	{
		int			k = order[i];
		const char **name = k < 0 ? &draft->named_unk : &draft->names[k];
		uint32_t	flags = k < 0 ? draft->unk_flags : draft->name_flags[k];

		if (*name == NULL && class != NULL)
			*name = k < 0 ? distil_class_unk(class) : class->names[k];
		if (k == 3 && class != NULL && class->mask_strips && (flags & DISTIL_ADDED_SPECIAL) == 0)
			flags |= DISTIL_ADDED_LSTRIP;
		if (*name != NULL)
			DISTIL_FORWARD(put_late(draft, *name, strlen(*name),
									flags |
									((flags & (DISTIL_ADDED_SPECIAL | DISTIL_ADDED_LSTRIP)) == 0 ? ADDED_TEXT
									 : 0u),
									true, err));
	}
	return DISTIL_OK;
}

/* A text, or {"content": text, flags}; others name no token.  special: whatever the flags say. */
static DistilStatus
put_value(Adding *adding, const DistilJsonDoc *doc, const DistilJson *value, bool named, bool special,
		  DistilError *err)
{
	uint32_t	flags = DISTIL_ADDED_SPECIAL | ADDED_TEXT;
	size_t		length;
	const char *text;

	if (distil_json_type(value) == DISTIL_JSON_OBJECT)
	{
		DISTIL_FORWARD(distil_draft_added_flags(&flags, doc, value, err));
		if (named || special)
			flags |= DISTIL_ADDED_SPECIAL;
		if (distil_json_member(value, "normalized") == NULL && (flags & DISTIL_ADDED_SPECIAL) == 0)
			flags |= DISTIL_ADDED_NORMALIZED;
		value = distil_json_member(value, "content");
	}
	if (value == NULL || distil_json_type(value) != DISTIL_JSON_STRING)
		return DISTIL_OK;
	text = distil_json_string(value, &length);
	return put_late(adding->draft, text, length, flags, named, err);
}

/* Members "..._token" that are not among the seven. */
static DistilStatus
put_other_names(Adding *adding, const DistilJsonDoc *doc, DistilError *err)
{
	const void *position = NULL;
	const char *key;
	size_t		length;
	const DistilJson *value;

	if (doc == NULL)
		return DISTIL_OK;
	while ((position = distil_json_next(distil_json_root(doc), position, &key, &length, &value)) != NULL)
	{
		const DistilJson *twice = member(doc == adding->map ? adding->config : adding->map, key);
		bool		other = length >= 6 && memcmp(key + length - 6, "_token", 6) == 0;

		for (int i = 0; other && i < NAMED; i++)
			other = strcmp(key, name_keys[i]) != 0;
		/* of both files' a text in tokenizer_config.json counts, else the other file */
		if (other && twice != NULL)
			other = (distil_json_type(doc == adding->map ? twice : value) == DISTIL_JSON_STRING) ==
				(doc == adding->config);
		if (other)
			DISTIL_FORWARD(put_value(adding, doc, value, true, true, err));
	}
	return DISTIL_OK;
}

static DistilStatus
put_list(Adding *adding, const DistilJsonDoc *doc, const DistilJson *list, bool special, DistilError *err)
{
	bool		array = list != NULL && distil_json_type(list) == DISTIL_JSON_ARRAY;
	const DistilJson *behind = doc == adding->config ? member(adding->map, "extra_special_tokens") : NULL;
	const void *position = NULL;
	const char *key;
	size_t		length;
	const DistilJson *value;

	for (size_t i = 0; i < count(list); i++)
	{
		if (array)
			value = distil_json_item(list, i);
		else
			position = distil_json_next(list, position, &key, &length, &value);
		if (array || !is_object(behind) || distil_json_member(behind, key) == NULL)
			DISTIL_FORWARD(put_value(adding, doc, value, !array, special, err));
		DISTIL_POLL(adding->draft->poll, err);
	}
	return DISTIL_OK;
}

/*
 * additional_special_tokens counts where there is no extra_special_tokens; an
 * object of them has names and is no list.  A SentencePiece model has additional ones of its own.
 */
static DistilStatus
put_extra(Adding *adding, DistilError *err)
{
	DistilJsonDoc *docs[2] = {adding->config, adding->map};
	const char *const *own = adding->class != NULL ? adding->class->more : NULL;
	DistilDraft *draft = adding->draft;
	const DistilJson *older = NULL;
	const DistilJsonDoc *from = NULL;
	bool		listed = false;

	for (int i = 0; i < 2; i++)
	{
		const DistilJson *extra = member(docs[i], "extra_special_tokens");
		const DistilJson *additional = member(docs[i], "additional_special_tokens");

		if (is_object(extra))
			DISTIL_FORWARD(put_list(adding, docs[i], extra, false, err));
		if (extra_list(adding, i) != NULL)
		{
			DISTIL_FORWARD(put_list(adding, docs[i], extra_list(adding, i), i == 1, err));
			listed = true;
		}
		if (additional != NULL && (i == 1 || count(extra) > 0))
		{
			older = additional;
			from = docs[i];
		}
	}
	if (listed)
		return DISTIL_OK;
	for (size_t i = 0; i < draft->nlisted; i++)
		DISTIL_FORWARD(put_late(draft, draft->listed[i].text, draft->listed[i].length,
								draft->listed[i].flags, false, err));
	if (draft->listed != NULL)
		return DISTIL_OK;
	if (older != NULL && distil_json_type(older) != DISTIL_JSON_NULL)
		return put_list(adding, from, older, false, err);
	for (int i = 0; i < 3 && own != NULL && own[i] != NULL; i++)
		DISTIL_FORWARD(put_late(draft, own[i], strlen(own[i]), DISTIL_ADDED_SPECIAL | ADDED_TEXT, false,
								err));
	return DISTIL_OK;
}

/* ---------- all ---------- */

/* Memory for all that may come. */
static DistilStatus
begin(Adding *adding, DistilError *err)
{
	static const char *const lists[] = {"added_tokens_decoder", "additional_special_tokens",
	"extra_special_tokens"};
	const DistilJsonDoc *docs[3] = {adding->config, adding->map, adding->added};
	DistilDraft *draft = adding->draft;
	DistilDraftAdded *added;
	size_t		more = NAMED + 3 + draft->nlisted;

	for (int i = 0; i < 3; i++)
	{
		more += docs[i] != NULL ? count(distil_json_root(docs[i])) : 0;
		for (int k = 0; k < 3; k++)
			more += count(member(docs[i], lists[k]));
	}
	if (more > DISTIL_MAX_ADDED - draft->nadded)
		return distil_fail(err, DISTIL_ERR_LIMIT,
						   "%zu added tokens are too many, %zu of them in file \"tokenizer_config.json\"; "
						   "the limit is %d", draft->nadded + more, more, DISTIL_MAX_ADDED);
	more += draft->nadded;
	added = distil_arena_alloc(draft->arena, more, sizeof(*added));
	adding->entries = distil_arena_alloc(draft->arena, more, sizeof(*adding->entries));
	if (added == NULL || adding->entries == NULL)
		return distil_fail_memory(err, more * sizeof(*added));
	if (draft->nadded > 0)
		memcpy(added, draft->added, draft->nadded * sizeof(*added));
	draft->added = added;
	return DISTIL_OK;
}

static DistilStatus
apply(Adding *adding, DistilError *err)
{
	DistilDraft *draft = adding->draft;
	const DistilJson *decoder = member(adding->config, "added_tokens_decoder");
	const DistilDraftAdded *before = draft->added;
	size_t		nbefore = draft->nadded;

	DISTIL_FORWARD(begin(adding, err));
	if (adding->class != NULL && draft->doc != NULL)
		draft->nadded = 0;		/* built anew */
	if (decoder != NULL && distil_json_type(decoder) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE,
						   "added_tokens_decoder of file \"tokenizer_config.json\" is not an object");
	if (decoder != NULL)
		DISTIL_FORWARD(read_decoder(adding, decoder, err));
	if (adding->added != NULL)
		DISTIL_FORWARD(read_added_file(adding, err));
	if (decoder == NULL && draft->doc != NULL)
		DISTIL_FORWARD(take_added(adding, before, nbefore, err));
	DISTIL_FORWARD(put_entries(adding, err));
	DISTIL_FORWARD(put_names(adding, err));
	DISTIL_FORWARD(put_other_names(adding, adding->map, err));
	DISTIL_FORWARD(put_other_names(adding, adding->config, err));
	DISTIL_FORWARD(put_extra(adding, err));
	for (size_t i = 0; i < draft->nadded; i++)
		draft->added[i].flags &= ~(ADDED_TOUCHED | ADDED_DEFAULT | ADDED_LATE | ADDED_TEXT);
	return DISTIL_OK;
}

/* Only tokens: as a setting, any member would overrule tokenizer_config.json. */
static DistilStatus
check_map(const DistilJsonDoc *map, DistilError *err)
{
	const void *position = NULL;
	const char *key;
	size_t		length;
	const DistilJson *value;
	char		printable[64];

	if (distil_json_type(distil_json_root(map)) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "file \"special_tokens_map.json\" is not an object");
	while ((position = distil_json_next(distil_json_root(map), position, &key, &length, &value)) != NULL)
		if ((length < 6 || memcmp(key + length - 6, "_token", 6) != 0 ||
			 distil_json_type(value) == DISTIL_JSON_BOOL) &&
			strcmp(key, "additional_special_tokens") != 0 && strcmp(key, "extra_special_tokens") != 0)
			return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
							   "field \"%s\" of file \"special_tokens_map.json\" is not supported",
							   distil_printable(printable, sizeof(printable), key, length));
	return DISTIL_OK;
}

static DistilStatus
read_beside(Adding *adding, const DistilFolder *folder, DistilError *err)
{
	const DistilAllocator *alloc = adding->draft->alloc;

	DISTIL_FORWARD(distil_folder_json(folder, "tokenizer_config.json", false, &adding->config, alloc, err));
	if (adding->config != NULL && distil_json_type(distil_json_root(adding->config)) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "file \"tokenizer_config.json\" is not an object");
	if (member(adding->config, "added_tokens_decoder") != NULL)
		return DISTIL_OK;
	DISTIL_FORWARD(distil_folder_json(folder, "special_tokens_map.json", false, &adding->map, alloc, err));
	if (adding->map != NULL)
		DISTIL_FORWARD(check_map(adding->map, err));
	DISTIL_FORWARD(distil_folder_json(folder, "added_tokens.json", false, &adding->added, alloc, err));
	if (adding->added != NULL && distil_json_type(distil_json_root(adding->added)) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "file \"added_tokens.json\" is not an object");
	return DISTIL_OK;
}

DistilStatus
distil_draft_apply_added(DistilDraft *draft, const DistilFolder *folder, const DistilTokenizerClass *class,
						 DistilError *err)
{
	Adding		adding = {.draft = draft, .class = class};
	DistilStatus status = read_beside(&adding, folder, err);

	if (status == DISTIL_OK)
		status = apply(&adding, err);
	distil_json_free(adding.config);
	distil_json_free(adding.map);
	distil_json_free(adding.added);
	return status;
}
