/*
 * tokenizer_compile.c
 *		Folder to draft to blob: checks of the whole vocabulary, added tokens, sections.
 *
 * The rule a newcomer would break: an added token takes the id that the reference
 * would give it (the model's if its text is there, else the next free one), and a
 * file that says otherwise is refused instead of being believed.
 */
#include "tokenizer_parts.h"

#include "folder.h"
#include "status.h"

#include <string.h>

typedef struct Compiler
{
	DistilDraft *draft;
	DistilBuffer blob;
	uint32_t   *owners;			/* per id: index of the draft's token + 1, added ones after the model's */
	size_t		nowners;
	uint32_t	vocabulary;
	DistilTrieKey *keys;
	DistilTrie	model;			/* points into blob */
	DistilTokenizerBlob header;
} Compiler;

static DistilStatus
append(Compiler *c, const void *data, size_t length, DistilError *err)
{
	return distil_buffer_append(&c->blob, data, length) ? DISTIL_OK
		: distil_fail_memory(err, c->blob.length + length);
}

static DistilStatus
begin_section(Compiler *c, DistilBlobSectionId id, DistilError *err)
{
	if (!distil_buffer_align(&c->blob, 8))
		return distil_fail_memory(err, c->blob.length + 8);
	c->header.sections[id].offset = c->blob.length;
	return DISTIL_OK;
}

static void
end_section(Compiler *c, DistilBlobSectionId id)
{
	c->header.sections[id].size = c->blob.length - c->header.sections[id].offset;
}

static DistilStatus
array_section(Compiler *c, DistilBlobSectionId id, const void *data, size_t bytes, DistilError *err)
{
	DISTIL_FORWARD(begin_section(c, id, err));
	if (bytes > 0)
		DISTIL_FORWARD(append(c, data, bytes, err));
	end_section(c, id);
	return DISTIL_OK;
}

static DistilStatus
trie_section(Compiler *c, DistilBlobSectionId id, size_t nkeys, DistilError *err)
{
	DISTIL_FORWARD(begin_section(c, id, err));
	DISTIL_FORWARD(distil_trie_build(&c->blob, c->keys, nkeys, c->draft->alloc, c->draft->poll, err));
	end_section(c, id);
	return DISTIL_OK;
}

static int32_t
lookup(const DistilTrie *trie, const char *text, size_t length)
{
	uint32_t	state = 0;

	for (size_t i = 0; i < length; i++)
		if (!distil_trie_step(trie, &state, (uint8_t) text[i]))
			return -1;
	return length > 0 ? distil_trie_value(trie, state) : -1;
}

int32_t
distil_draft_id(const DistilDraft *draft, const char *text, size_t length)
{
	for (size_t i = draft->ntokens; i-- > 0;)
		if (draft->tokens[i].length == length && memcmp(draft->tokens[i].text, text, length) == 0)
			return draft->tokens[i].id;
	for (size_t i = 0; i < draft->nadded; i++)
		if (draft->added[i].length == length && memcmp(draft->added[i].text, text, length) == 0)
			return (int32_t) draft->added[i].id;
	return -1;
}

/* The model's tokens: ids unique, the trie. */
static DistilStatus
compile_model(Compiler *c, DistilError *err)
{
	DistilDraft *draft = c->draft;
	size_t		n = 0;
	size_t		bytes = 0;
	char		printable[64];

	for (size_t i = 0; i < draft->ntokens; i++)
	{
		const DistilDraftToken *token = &draft->tokens[i];

		if (c->owners[token->id] != 0)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE,
							   "id %d belongs to more than one token, one is \"%s\"", token->id,
							   distil_printable(printable, sizeof(printable), token->text, token->length));
		c->owners[token->id] = (uint32_t) i + 1;
		bytes += token->length;
		if (token->length > 0)
			c->keys[n++] = (DistilTrieKey) {token->text, token->length, (uint32_t) token->id};
		if ((uint32_t) token->id >= c->vocabulary)
			c->vocabulary = (uint32_t) token->id + 1;
	}
	if (n == 0)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "tokenizer has an empty vocabulary");
	if (bytes > DISTIL_TOKEN_OFFSET / 2)
		return distil_fail(err, DISTIL_ERR_LIMIT, "vocabulary has %zu bytes of text, the limit is %u",
						   bytes, DISTIL_TOKEN_OFFSET / 2);
	DISTIL_FORWARD(trie_section(c, DISTIL_BLOB_MODEL_TRIE, n, err));
	return DISTIL_OK;
}

static const DistilTrie *model_trie(Compiler *c);

/* Sections of the model's own. */
static DistilStatus
compile_part(Compiler *c, DistilError *err)
{
	const DistilModelPart *part = distil_model_part_kind(c->draft->header.model);
	const DistilAllocator *alloc = c->draft->alloc;
	DistilModelSections s;
	DistilStatus status = DISTIL_OK;

	distil_buffer_init(&s.scores, alloc);
	distil_buffer_init(&s.merges, alloc);
	distil_buffer_init(&s.words, alloc);
	distil_buffer_init(&s.bytes, alloc);
	if (part != NULL && part->compile != NULL)
		status = part->compile(&s, c->draft, model_trie(c), err);
	c->header.unknown_score = c->draft->header.unknown_score;
	if (status == DISTIL_OK)
		status = array_section(c, DISTIL_BLOB_SCORES, s.scores.data, s.scores.length, err);
	if (status == DISTIL_OK)
		status = array_section(c, DISTIL_BLOB_MERGES, s.merges.data, s.merges.length, err);
	if (status == DISTIL_OK)
		status = array_section(c, DISTIL_BLOB_WORDS, s.words.data, s.words.length, err);
	if (status == DISTIL_OK)
		status = array_section(c, DISTIL_BLOB_BYTES, s.bytes.data, s.bytes.length, err);
	if (status == DISTIL_OK)
		status = array_section(c, DISTIL_BLOB_DATA, c->draft->data.data, c->draft->data.length, err);
	distil_buffer_free(&s.scores);
	distil_buffer_free(&s.merges);
	distil_buffer_free(&s.words);
	distil_buffer_free(&s.bytes);
	return status;
}

static const DistilTrie *
model_trie(Compiler *c)
{
	const DistilBlobSection *section = &c->header.sections[DISTIL_BLOB_MODEL_TRIE];

	c->model.units = (const DistilTrieUnit *) (const void *) (c->blob.data + section->offset);
	c->model.n = (uint32_t) (section->size / sizeof(DistilTrieUnit));
	return &c->model;
}

/* Special tokens first: of equal texts the first one counts. */
static void
order_added(DistilDraft *draft, DistilDraftAdded *ordered)
{
	size_t		n = 0;

	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < draft->nadded; i++)
			if (((draft->added[i].flags & DISTIL_ADDED_SPECIAL) != 0) == (pass == 0))
				ordered[n++] = draft->added[i];
	if (n > 0)
		memcpy(draft->added, ordered, n * sizeof(*ordered));
}

/* Ids as the reference assigns them, in the file's order. */
static DistilStatus
assign_added(Compiler *c, DistilError *err)
{
	DistilDraft *draft = c->draft;
	const DistilTrie *model = model_trie(c);
	int64_t		last = -1;
	char		printable[64];

	for (size_t i = 0; i < draft->nadded; i++)
	{
		DistilDraftAdded *added = &draft->added[i];
		int64_t		id = lookup(model, added->text, added->length);

		distil_printable(printable, sizeof(printable), added->text, added->length);
		if (id < 0)
		{
			id = last >= (int64_t) draft->ntokens ? last + 1 : (int64_t) draft->ntokens;
			if (id >= DISTIL_MAX_VOCABULARY || (size_t) id >= c->nowners || c->owners[id] != 0)
				return distil_fail(err, DISTIL_ERR_TEXT_FILE, "added token \"%s\" has no free id", printable);
			c->owners[id] = (uint32_t) (draft->ntokens + i) + 1;
		}
		if (added->id >= 0 && added->id != id)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE,
							   "added token \"%s\" has id %lld, but its place in the vocabulary is %lld",
							   printable, (long long) added->id, (long long) id);
		added->id = id;
		last = id > last ? id : last;
		if (draft->table > 0 && id >= draft->table && (uint32_t) id >= c->vocabulary)
		{
			added->flags |= DISTIL_ADDED_OUTSIDE;
			draft->header.flags |= DISTIL_BLOB_OUTSIDE;
		}
		else if ((uint32_t) id >= c->vocabulary)
			c->vocabulary = (uint32_t) id + 1;
	}
	return DISTIL_OK;
}

/* Text of an added token as the normalizer leaves it, in the arena. */
static DistilStatus
normalize_text(DistilDraft *draft, DistilDraftAdded *added, DistilError *err)
{
	DistilChars chars = {.alloc = draft->alloc};
	const uint8_t *p = (const uint8_t *) added->text;
	const uint8_t *end = p + added->length;
	DistilStatus status = DISTIL_OK;
	uint8_t    *out;
	char		printable[64];

	added->nshown = 0;
	while (p < end && status == DISTIL_OK)
	{
		uint32_t	cp;
		int			n = distil_utf8_decode(&cp, p, end);

		status = n > 0 ? distil_chars_push(&chars, cp, 0, err)
			: distil_fail(err, DISTIL_ERR_TEXT_FILE, "added token is not valid UTF-8");
		p += n;
	}
	if (status == DISTIL_OK)
		status = distil_chars_normalize(&chars, draft->normalizer, draft->nnormalizer,
										(const uint8_t *) draft->data.data, draft->data.length, draft->poll,
										err);
	out = distil_arena_alloc(draft->arena, chars.n + 1, 4);
	if (status == DISTIL_OK && out == NULL)
		status = distil_fail_memory(err, chars.n * 4);
	for (size_t i = 0; status == DISTIL_OK && i < chars.n; i++)
		added->nshown += (uint32_t) distil_utf8_encode(out + added->nshown, chars.items[i].cp);
	added->shown = (const char *) out;
	distil_release(draft->alloc, chars.items);
	if (status == DISTIL_OK && added->nshown == 0)
		status = distil_fail(err, DISTIL_ERR_UNSUPPORTED,
							 "added token \"%s\" of which the normalizer leaves nothing is not supported",
							 distil_printable(printable, sizeof(printable), added->text, added->length));
	return status;
}

static DistilStatus
compile_added(Compiler *c, DistilError *err)
{
	DistilDraft *draft = c->draft;
	size_t		n = 0;
	DistilDraftAdded *ordered = distil_arena_alloc(draft->arena, draft->nadded + 1, sizeof(*ordered));

	if (ordered == NULL)
		return distil_fail_memory(err, (draft->nadded + 1) * sizeof(*ordered));
	DISTIL_FORWARD(assign_added(c, err));
	order_added(draft, ordered);
	for (size_t i = 0; i < draft->nadded; i++)
	{
		draft->added[i].shown = draft->added[i].text;
		draft->added[i].nshown = draft->added[i].length;
		if ((draft->added[i].flags & DISTIL_ADDED_NORMALIZED) == 0)
			c->keys[n++] = (DistilTrieKey) {draft->added[i].text, draft->added[i].length, (uint32_t) i};
	}
	DISTIL_FORWARD(trie_section(c, DISTIL_BLOB_RAW_TRIE, n, err));
	n = 0;
	for (size_t i = 0; i < draft->nadded; i++)
		if ((draft->added[i].flags & DISTIL_ADDED_NORMALIZED) != 0)
		{
			DISTIL_FORWARD(normalize_text(draft, &draft->added[i], err));
			c->keys[n++] = (DistilTrieKey) {draft->added[i].shown, draft->added[i].nshown, (uint32_t) i};
		}
	return trie_section(c, DISTIL_BLOB_NORM_TRIE, n, err);
}

/* Texts of added tokens behind the strings, and the records that point to them. */
static DistilStatus
added_texts(Compiler *c, size_t at, DistilError *err)
{
	DistilDraft *draft = c->draft;

	for (size_t i = 0; i < draft->nadded; i++)
		DISTIL_FORWARD(append(c, draft->added[i].text, draft->added[i].length, err));
	end_section(c, DISTIL_BLOB_STRINGS);
	DISTIL_FORWARD(begin_section(c, DISTIL_BLOB_ADDED, err));
	for (size_t i = 0; i < draft->nadded; i++)
	{
		const DistilDraftAdded *added = &draft->added[i];
		DistilBlobAdded record = {(uint32_t) added->id, added->flags, (uint32_t) at, added->length};

		DISTIL_FORWARD(append(c, &record, sizeof(record), err));
		at += added->length;
	}
	end_section(c, DISTIL_BLOB_ADDED);
	return DISTIL_OK;
}

/* id -> text, with the flag of special tokens */
static DistilStatus
compile_strings(Compiler *c, DistilError *err)
{
	DistilDraft *draft = c->draft;
	size_t		at = 0;
	uint32_t   *entries = distil_arena_alloc(draft->arena, (size_t) c->vocabulary + 1, sizeof(*entries));

	if (entries == NULL)
		return distil_fail_memory(err, ((size_t) c->vocabulary + 1) * sizeof(*entries));
	/* an id decodes to the added token, also where the model has it */
	for (size_t i = 0; i < draft->nadded; i++)
		c->owners[draft->added[i].id] = (uint32_t) (draft->ntokens + i) + 1;
	DISTIL_FORWARD(begin_section(c, DISTIL_BLOB_STRINGS, err));
	for (uint32_t id = 0; id < c->vocabulary; id++)
	{
		uint32_t	owner = c->owners[id];
		const char *text = NULL;
		size_t		length = 0;

		entries[id] = (uint32_t) at;
		if (owner == 0)
			entries[id] |= DISTIL_TOKEN_HOLE;
		else if (owner <= draft->ntokens)
		{
			text = draft->tokens[owner - 1].text;
			length = draft->tokens[owner - 1].length;
		}
		else
		{
			text = draft->added[owner - 1 - draft->ntokens].shown;
			length = draft->added[owner - 1 - draft->ntokens].nshown;
		}
		if (length > 0)
			DISTIL_FORWARD(append(c, text, length, err));
		at += length;
		if (at > DISTIL_TOKEN_OFFSET)
			return distil_fail(err, DISTIL_ERR_LIMIT, "vocabulary has too many bytes of text, the limit "
							   "is %u", DISTIL_TOKEN_OFFSET);
	}
	entries[c->vocabulary] = (uint32_t) at;
	DISTIL_FORWARD(added_texts(c, at, err));
	/* the reference knows special tokens by what they decode to: what the normalizer changes is none */
	for (size_t i = 0; i < draft->nadded; i++)
		if ((draft->added[i].flags & (DISTIL_ADDED_SPECIAL | DISTIL_ADDED_OUTSIDE)) == DISTIL_ADDED_SPECIAL &&
			draft->added[i].nshown == draft->added[i].length &&
			memcmp(draft->added[i].shown, draft->added[i].text, draft->added[i].length) == 0)
			entries[draft->added[i].id] |= DISTIL_TOKEN_SPECIAL;
	return array_section(c, DISTIL_BLOB_TOKENS, entries, ((size_t) c->vocabulary + 1) * sizeof(*entries),
						 err);
}

static DistilStatus
check_pieces(const Compiler *c, const DistilBlobPiece *pieces, int n, DistilError *err)
{
	for (int i = 0; i < n; i++)
		if (pieces[i].what == DISTIL_PIECE_SPECIAL &&
			((uint32_t) pieces[i].id >= c->vocabulary || c->owners[pieces[i].id] == 0))
			return distil_fail(err, DISTIL_ERR_TEXT_FILE,
							   "post_processor uses id %d, which the vocabulary does not have", pieces[i].id);
	return DISTIL_OK;
}

static int32_t
id_of(Compiler *c, const char *text)
{
	const DistilDraft *draft = c->draft;
	int32_t		id = text != NULL ? lookup(model_trie(c), text, strlen(text)) : -1;

	for (size_t i = 0; id < 0 && text != NULL && i < draft->nadded; i++)
		if (draft->added[i].length == strlen(text) && (draft->added[i].flags & DISTIL_ADDED_OUTSIDE) == 0 &&
			memcmp(draft->added[i].text, text, draft->added[i].length) == 0)
			id = (int32_t) draft->added[i].id;
	return id;
}

/* Ids of [UNK], [CLS] ...: as configured, otherwise by their usual names. */
static DistilStatus
compile_special(Compiler *c, DistilError *err)
{
	static const char *const usual[6][4] = {
		{"[CLS]", "<s>", "<cls>"}, {"[SEP]", "</s>", "<sep>"}, {"[PAD]", "<pad>"}, {"[MASK]", "<mask>"},
		{"<s>", "<|endoftext|>"}, {"</s>", "<|endoftext|>"}
	};
	const DistilDraft *draft = c->draft;
	char		printable[64];

	if (draft->header.model == DISTIL_MODEL_UNIGRAM)
		c->header.unk = draft->header.unk;
	else if (draft->unk != NULL)
		c->header.unk = lookup(model_trie(c), draft->unk, strlen(draft->unk));
	else
		c->header.unk = -1;
	if (c->header.unk < 0 && !draft->no_unk)
	{
		const char *unk = draft->unk != NULL ? draft->unk : "";

		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "vocabulary has no unknown token \"%s\"",
						   distil_printable(printable, sizeof(printable), unk, strlen(unk)));
	}
	c->header.special[0] = c->header.unk;
	for (int i = 0; i < 6; i++)
	{
		c->header.special[1 + i] = id_of(c, draft->names[i]);
		for (int k = 0; draft->names[i] == NULL && c->header.special[1 + i] < 0 && k < 4; k++)
			c->header.special[1 + i] = id_of(c, usual[i][k]);
	}
	c->header.special[7] = -1;
	return DISTIL_OK;
}

/* ByteLevel makes bytes, which only BPE takes. */
static DistilStatus
check_steps(const DistilDraft *draft, DistilError *err)
{
	for (int i = 0; i < draft->npre; i++)
		if (draft->pre[i].kind == DISTIL_PRE_BYTES && (draft->pre[i].flags & DISTIL_BYTES_OPEN) != 0)
			return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
							   "pre_tokenizer Split by the pattern of GPT-2 is not supported except before "
							   "ByteLevel");
		else if (draft->pre[i].kind == DISTIL_PRE_BYTES &&
			(draft->header.model != DISTIL_MODEL_BPE || i + 1 < draft->npre))
			return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
							   "pre_tokenizer \"ByteLevel\" is not supported except as the last one"
							   " of model BPE");
	return DISTIL_OK;
}

static DistilStatus
compile(Compiler *c, bool parse_special, DistilError *err)
{
	DistilDraft *draft = c->draft;

	DISTIL_FORWARD(check_steps(draft, err));
	DISTIL_FORWARD(append(c, &c->header, sizeof(c->header), err));
	DISTIL_FORWARD(compile_model(c, err));
	DISTIL_FORWARD(compile_part(c, err));
	DISTIL_FORWARD(compile_added(c, err));
	DISTIL_FORWARD(compile_special(c, err));
	DISTIL_FORWARD(compile_strings(c, err));
	DISTIL_FORWARD(check_pieces(c, draft->single, draft->nsingle, err));
	DISTIL_FORWARD(check_pieces(c, draft->pair, draft->npair, err));
	DISTIL_FORWARD(array_section(c, DISTIL_BLOB_NORMALIZER, draft->normalizer,
								 (size_t) draft->nnormalizer * sizeof(DistilBlobStep), err));
	DISTIL_FORWARD(array_section(c, DISTIL_BLOB_PRE_TOKENIZER, draft->pre,
								 (size_t) draft->npre * sizeof(DistilBlobStep), err));
	DISTIL_FORWARD(array_section(c, DISTIL_BLOB_DECODER, draft->decoder,
								 (size_t) draft->ndecoder * sizeof(DistilBlobStep), err));
	DISTIL_FORWARD(array_section(c, DISTIL_BLOB_SINGLE, draft->single,
								 (size_t) draft->nsingle * sizeof(DistilBlobPiece), err));
	DISTIL_FORWARD(array_section(c, DISTIL_BLOB_PAIR, draft->pair,
								 (size_t) draft->npair * sizeof(DistilBlobPiece), err));
	if (!distil_buffer_align(&c->blob, 8))
		return distil_fail_memory(err, c->blob.length + 8);
	memcpy(c->header.magic, DISTIL_BLOB_MAGIC, 8);
	c->header.version = DISTIL_BLOB_VERSION;
	c->header.header = sizeof(c->header);
	c->header.size = c->blob.length;
	c->header.vocabulary = c->vocabulary;
	c->header.flags = c->draft->header.flags | (parse_special ? DISTIL_BLOB_PARSE_SPECIAL : 0u);
	memcpy(c->blob.data, &c->header, sizeof(c->header));
	return DISTIL_OK;
}

DistilStatus
distil_draft_write(DistilBuffer *out, DistilDraft *draft, bool parse_special, DistilError *err)
{
	Compiler	c = {.draft = draft, .header = draft->header};
	DistilStatus status;
	size_t		nkeys = (draft->ntokens > draft->nadded ? draft->ntokens : draft->nadded) + 1;
	size_t		nowners = draft->ntokens;

	/* largest id of the model, then one for each added token */
	for (size_t i = 0; i < draft->ntokens; i++)
		if ((size_t) draft->tokens[i].id >= nowners)
			nowners = (size_t) draft->tokens[i].id + 1;
	c.nowners = nowners + draft->nadded;
	distil_buffer_init(&c.blob, draft->alloc);
	c.owners = distil_alloc_array(draft->alloc, c.nowners + 1, sizeof(*c.owners));
	c.keys = distil_alloc_array(draft->alloc, nkeys, sizeof(*c.keys));
	if (c.owners == NULL || c.keys == NULL)
		status = distil_fail_memory(err, (c.nowners + 1) * sizeof(*c.owners) + nkeys * sizeof(*c.keys));
	else
		status = compile(&c, parse_special, err);
	if (status == DISTIL_OK && !distil_buffer_append(out, c.blob.data, c.blob.length))
		status = distil_fail_memory(err, c.blob.length);
	distil_buffer_free(&c.blob);
	distil_release(draft->alloc, c.owners);
	distil_release(draft->alloc, c.keys);
	return status;
}

static DistilStatus
compile_folder(DistilBuffer *out, DistilDraft *draft, const DistilFolder *folder, bool parse_special,
			   DistilError *err)
{
	DistilJsonDoc *doc = NULL;
	DistilStatus status;

	DISTIL_FORWARD(distil_draft_read_names(draft, folder, err));
	if (distil_folder_find(folder, "tokenizer.json") == NULL)
	{
		if (distil_folder_find(folder, "vocab.txt") != NULL)
			DISTIL_FORWARD(distil_draft_read_legacy(draft, folder, err));
		else if (distil_pieces_file(folder) != NULL)
			DISTIL_FORWARD(distil_draft_read_pieces(draft, folder, err));
		else if (distil_folder_find(folder, "vocab.json") != NULL)
			DISTIL_FORWARD(distil_draft_read_bpe(draft, folder, err));
		else
			return distil_fail(err, DISTIL_ERR_NO_FILE,
							   "model has none of \"tokenizer.json\", \"vocab.txt\", \"vocab.json\","
							   " \"spiece.model\" and \"sentencepiece.bpe.model\"");
		DISTIL_FORWARD(distil_draft_apply_settings(draft, folder, err));
		return distil_draft_write(out, draft, parse_special, err);
	}
	DISTIL_FORWARD(distil_folder_json(folder, "tokenizer.json", true, &doc, draft->alloc, err));
	draft->doc = doc;
	status = distil_draft_read_json(draft, err);
	if (status == DISTIL_OK)
		status = distil_draft_apply_settings(draft, folder, err);
	if (status == DISTIL_OK)
		status = distil_draft_write(out, draft, parse_special, err);
	distil_json_free(doc);
	return status;
}

DistilStatus
distil_tokenizer_compile(DistilBuffer *out, const DistilFolder *folder, bool parse_special, bool lower_case,
						 int table, const DistilAllocator *alloc, const DistilPoll *poll, DistilError *err)
{
	DistilDraft *draft = distil_alloc_array(alloc, 1, sizeof(*draft));
	DistilStatus status;

	if (draft == NULL)
		return distil_fail_memory(err, sizeof(*draft));
	draft->alloc = alloc;
	draft->poll = poll;
	draft->unk_id = -1;
	draft->parse_special = parse_special;
	draft->lower_case = lower_case;
	draft->table = table;
	distil_buffer_init(&draft->data, alloc);
	draft->arena = distil_arena_create(alloc);
	status = draft->arena != NULL ? compile_folder(out, draft, folder, parse_special, err)
		: distil_fail_memory(err, sizeof(*draft));
	distil_arena_free(draft->arena);
	distil_buffer_free(&draft->data);
	distil_release(alloc, draft);
	return status;
}
