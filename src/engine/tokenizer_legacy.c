/*
 * tokenizer_legacy.c
 *		vocab.txt with tokenizer_config.json and special_tokens_map.json into a draft; names
 *		of special tokens; model_max_length.
 *
 * The defaults are those of the BertTokenizer class: lower-casing is ON unless
 * tokenizer_config.json says otherwise.  In vocab.txt the number of a line is the id,
 * blanks at its end do not count, and of equal lines the last one does.
 */
#include "tokenizer_parts.h"

#include "folder.h"
#include "status.h"

#include <string.h>

#define MAX_VOCAB_TXT DISTIL_MAX_JSON_BYTES

static const char *const name_keys[6] = {
	"cls_token", "sep_token", "pad_token", "mask_token", "bos_token", "eos_token"
};

/* "[CLS]", or {"content": "[CLS]", ...}, or null: no such token. */
static DistilStatus
token_name(DistilDraft *draft, const DistilJson *object, const char *key, const char **name, uint32_t *flags,
		   DistilError *err)
{
	static const char *const names[4] = {"lstrip", "rstrip", "single_word", "normalized"};
	static const uint32_t bits[4] = {
		DISTIL_ADDED_LSTRIP, DISTIL_ADDED_RSTRIP, DISTIL_ADDED_SINGLE_WORD, DISTIL_ADDED_NORMALIZED
	};
	const DistilJson *value = distil_json_member(object, key);
	size_t		length;

	if (value == NULL)
		return DISTIL_OK;
	*flags = 0;
	if (distil_json_type(value) == DISTIL_JSON_OBJECT)
	{
		*flags = DISTIL_ADDED_SPECIAL;
		for (int i = 0; i < 4; i++)
		{
			const DistilJson *flag = distil_json_member(value, names[i]);

			if (flag != NULL && distil_json_type(flag) == DISTIL_JSON_BOOL && distil_json_bool(flag))
				*flags |= bits[i];
		}
		value = distil_json_member(value, "content");
	}
	if (value == NULL || distil_json_type(value) == DISTIL_JSON_NULL)
	{
		*name = "";
		return DISTIL_OK;
	}
	if (distil_json_type(value) != DISTIL_JSON_STRING)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "%s of the tokenizer's configuration is not a string",
						   key);
	*name = distil_json_string(value, &length);
	*name = distil_arena_string(draft->arena, *name, length);
	return *name != NULL ? DISTIL_OK : distil_fail_memory(err, length);
}

static DistilStatus
read_names(DistilDraft *draft, const DistilJson *root, const char **unk, DistilError *err)
{
	if (distil_json_type(root) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "the tokenizer's configuration is not an object");
	for (int i = 0; i < 6; i++)
		DISTIL_FORWARD(token_name(draft, root, name_keys[i], &draft->names[i], &draft->name_flags[i], err));
	return token_name(draft, root, "unk_token", unk, &draft->unk_flags, err);
}

/* *decoder: the file has added_tokens_decoder. */
static DistilStatus
read_names_file(DistilDraft *draft, const DistilFolder *folder, const char *file, const char **unk,
				bool *decoder, DistilError *err)
{
	DistilJsonDoc *doc;
	DistilStatus status = DISTIL_OK;

	*decoder = false;
	DISTIL_FORWARD(distil_folder_json(folder, file, false, &doc, draft->alloc, err));
	if (doc != NULL)
		status = read_names(draft, distil_json_root(doc), unk, err);
	if (doc != NULL && status == DISTIL_OK)
		*decoder = distil_json_member(distil_json_root(doc), "added_tokens_decoder") != NULL;
	distil_json_free(doc);
	return status;
}

DistilStatus
distil_draft_read_names(DistilDraft *draft, const DistilFolder *folder, DistilError *err)
{
	const char *unk = NULL;
	bool		decoder;

	DISTIL_FORWARD(read_names_file(draft, folder, "tokenizer_config.json", &unk, &decoder, err));
	/* of older folders, whose word it was; beside added_tokens_decoder it does not count */
	if (!decoder)
		DISTIL_FORWARD(read_names_file(draft, folder, "special_tokens_map.json", &unk, &decoder, err));
	draft->unk = draft->named_unk = unk;
	return DISTIL_OK;
}

/* ---------- vocab.txt ---------- */

/* Where the blanks at the end of the text begin. */
static size_t
without_blanks(const char *text, size_t start, size_t end)
{
	while (end > start)
	{
		size_t		at = end - 1;
		uint32_t	cp;

		while (at > start && (text[at] & 0xC0) == 0x80)
			at--;
		if (distil_utf8_decode(&cp, (const uint8_t *) text + at, (const uint8_t *) text + end) == 0 ||
			(distil_char_props(cp).flags & DISTIL_CHAR_SPACE) == 0)
			break;
		end = at;
	}
	return end;
}

static DistilStatus
read_lines(DistilDraft *draft, const char *text, size_t length, DistilError *err)
{
	size_t		count = 0;
	size_t		start = 0;

	for (size_t i = 0; i < length; i++)
		count += text[i] == '\n';
	if (count >= DISTIL_MAX_VOCABULARY)
		return distil_fail(err, DISTIL_ERR_LIMIT, "vocabulary of %zu tokens is too large, the limit "
						   "is %d", count, DISTIL_MAX_VOCABULARY - 1);
	if (!distil_utf8_valid(text, length))
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "file \"vocab.txt\" is not valid UTF-8");
	draft->tokens = distil_arena_alloc(draft->arena, count + 1, sizeof(*draft->tokens));
	if (draft->tokens == NULL)
		return distil_fail_memory(err, (count + 1) * sizeof(*draft->tokens));
	while (start < length)
	{
		const char *newline = memchr(text + start, '\n', length - start);
		size_t		end = newline != NULL ? (size_t) (newline - text) : length;
		DistilDraftToken *token = &draft->tokens[draft->ntokens];
		size_t		next = end + 1;

		end = without_blanks(text, start, end);
		if (end - start > DISTIL_MAX_TOKEN_BYTES)
			return distil_fail(err, DISTIL_ERR_LIMIT, "line %zu of file \"vocab.txt\" is too long, the "
							   "limit is %d bytes", draft->ntokens + 1, DISTIL_MAX_TOKEN_BYTES);
		token->text = text + start;
		token->length = (uint32_t) (end - start);
		token->id = (int32_t) draft->ntokens++;
		start = next;
	}
	return DISTIL_OK;
}

/* Marks the tokens that a later equal line replaces: they leave a hole. */
static DistilStatus
drop_replaced(DistilDraft *draft, DistilError *err)
{
	DistilTrieKey *keys = distil_alloc_array(draft->alloc, draft->ntokens + 1, sizeof(*keys));
	DistilBuffer trie_bytes;
	DistilTrie	trie;
	DistilStatus status;
	size_t		n = 0;
	size_t		kept = 0;
	uint32_t	empty = UINT32_MAX;

	if (keys == NULL)
		return distil_fail_memory(err, draft->ntokens * sizeof(*keys));
	distil_buffer_init(&trie_bytes, draft->alloc);
	for (size_t i = 0; i < draft->ntokens; i++)
	{
		DistilDraftToken *token = &draft->tokens[i];

		/* the lowest value of equal keys wins, the last line must */
		if (token->length > 0)
			keys[n++] = (DistilTrieKey) {token->text, token->length,
										 (uint32_t) (DISTIL_MAX_VOCABULARY - 1 - i)};
		else
			empty = (uint32_t) i;
	}
	status = distil_trie_build(&trie_bytes, keys, n, draft->alloc, draft->poll, err);
	trie.units = (const DistilTrieUnit *) (const void *) trie_bytes.data;
	trie.n = (uint32_t) (trie_bytes.length / sizeof(DistilTrieUnit));
	for (size_t i = 0; status == DISTIL_OK && i < draft->ntokens; i++)
	{
		const DistilDraftToken *token = &draft->tokens[i];
		uint32_t	state = 0;

		for (uint32_t k = 0; k < token->length; k++)
			(void) distil_trie_step(&trie, &state, (uint8_t) token->text[k]);
		if (token->length > 0 ? (size_t) (DISTIL_MAX_VOCABULARY - 1 - distil_trie_value(&trie, state)) == i
			: i == empty)
			draft->tokens[kept++] = *token;
	}
	draft->ntokens = kept;
	distil_buffer_free(&trie_bytes);
	distil_release(draft->alloc, keys);
	return status;
}

/* ---------- configuration ---------- */

DistilStatus
distil_draft_read_legacy(DistilDraft *draft, const DistilFolder *folder, DistilError *err)
{
	const DistilTokenizerClass *class;
	DistilClassSettings settings;
	DistilJsonDoc *doc;
	DistilStatus status;
	char	   *text;
	size_t		length;

	DISTIL_FORWARD(distil_draft_class(draft, folder, "bert", &class, err));
	if (class->template != DISTIL_TEMPLATE_BERT || class->kind != DISTIL_CLASS_BERT)
		return distil_fail_hint(err, distil_fail(err, DISTIL_ERR_UNSUPPORTED,
												 "file \"vocab.txt\" with a tokenizer of class %s is not "
												 "supported", class->name),
								"With \"tokenizer_class\": \"BertTokenizer\" in tokenizer_config.json it is "
								"read as BERT's.");
	DISTIL_FORWARD(distil_folder_json(folder, "tokenizer_config.json", false, &doc, draft->alloc, err));
	status = distil_draft_class_settings(&settings, class, doc, err);
	distil_json_free(doc);
	DISTIL_FORWARD(status);

	DISTIL_FORWARD(distil_folder_read(folder, "vocab.txt", MAX_VOCAB_TXT, &text, &length, draft->alloc, err));
	draft->tokens = NULL;
	{
		/* the tokens point into the text: it moves to the arena */
		char	   *copy = distil_arena_string(draft->arena, text, length);

		distil_release(draft->alloc, text);
		if (copy == NULL)
			return distil_fail_memory(err, length);
		DISTIL_FORWARD(read_lines(draft, copy, length, err));
	}
	DISTIL_FORWARD(drop_replaced(draft, err));

	draft->header.model = DISTIL_MODEL_WORDPIECE;
	draft->header.max_chars = 100;
	draft->header.prefix_length = 2;
	memcpy(draft->header.prefix, "##", 2);
	if (draft->unk == NULL)
		draft->unk = "[UNK]";
	DISTIL_FORWARD(distil_draft_apply_added(draft, folder, class, err));
	return distil_draft_class_parts(draft, class, &settings, err);
}

DistilStatus
distil_tokenizer_max_length(int64_t *max_length, const DistilFolder *folder,
							const DistilAllocator *alloc, DistilError *err)
{
	DistilJsonDoc *doc;
	double		value = 0;
	DistilStatus status;

	*max_length = 0;
	DISTIL_FORWARD(distil_folder_json(folder, "tokenizer_config.json", false, &doc, alloc, err));
	if (doc == NULL)
		return DISTIL_OK;
	if (distil_json_type(distil_json_root(doc)) != DISTIL_JSON_OBJECT)
		status = distil_fail(err, DISTIL_ERR_TEXT_FILE, "file \"tokenizer_config.json\" is not an object");
	else
	{
		const DistilJson *root = distil_json_root(doc);

		/* older files call it max_len */
		status = distil_json_get_number(doc, root, "max_len", 0, 0, 1e300, &value, err);
		if (status == DISTIL_OK)
			status = distil_json_get_number(doc, root, "model_max_length", value, 0, 1e300, &value, err);
	}
	distil_json_free(doc);
	/* "no limit" is written as 1e30 */
	if (status == DISTIL_OK && value < 1e9)
		*max_length = (int64_t) value;
	return status;
}
