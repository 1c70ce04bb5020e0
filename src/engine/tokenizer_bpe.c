/*
 * tokenizer_bpe.c
 *		Byte-level byte-pair encoding.
 *
 * A word begins as its bytes; the neighbours whose merge has the lowest rank merge
 * (the leftmost ones first) until none is left.  Most words are one token: compiling
 * tries which tokens the merges really build, and a trie finds those at once.  The rule
 * a newcomer would break: a token that is in the vocabulary but that no merges lead to
 * is never found, so only those that were tried are in the trie.
 * Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword
 * units", 2016.
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <string.h>

#define SHORT_WORD		96		/* bytes; longer ones are merged through a heap */
#define MAX_MERGES		4000000
#define POLL_MERGES		16384
#define NO_RANK			UINT32_MAX
#define NONE			UINT32_MAX

typedef struct Merges
{
	const DistilBlobMerge *table;
	uint32_t	mask;
	const uint32_t *bytes;		/* [256] */
} Merges;

static inline uint32_t
hash_pair(uint32_t left, uint32_t right)
{
	uint64_t	h = ((uint64_t) left << 32 | right) * 0x9E3779B97F4A7C15u;

	return (uint32_t) (h >> 32 ^ h >> 47);
}

static inline const DistilBlobMerge *
find_merge(const Merges *merges, uint32_t left, uint32_t right)
{
	uint32_t	at = hash_pair(left, right) & merges->mask;

	for (int i = 0; i < DISTIL_MERGE_PROBES; i++)
	{
		const DistilBlobMerge *merge = &merges->table[at];

		if (merge->left == left && merge->right == right)
			return merge;
		if (merge->left == DISTIL_MERGE_FREE)
			return NULL;
		at = (at + 1) & merges->mask;
	}
	return NULL;
}

typedef struct Symbol
{
	uint32_t	id;
	uint32_t	end;			/* byte behind it */
	uint32_t	rank;			/* of merging it with the next one */
	uint32_t	merged;			/* what that makes */
} Symbol;

static inline void
set_rank(const Merges *merges, Symbol *symbols, size_t i, size_t n)
{
	const DistilBlobMerge *merge = i + 1 < n ? find_merge(merges, symbols[i].id, symbols[i + 1].id) : NULL;

	symbols[i].rank = merge != NULL ? merge->rank : NO_RANK;
	symbols[i].merged = merge != NULL ? merge->id : NONE;
}

/* Symbols of a short word; their number is returned. */
static size_t
merge_short(const Merges *merges, Symbol *symbols, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		symbols[i].id = merges->bytes[bytes[i]];
		symbols[i].end = (uint32_t) i + 1;
	}
	for (size_t i = 0; i < n; i++)
		set_rank(merges, symbols, i, n);
	for (;;)
	{
		size_t		best = 0;

		for (size_t i = 1; i < n; i++)
			if (symbols[i].rank < symbols[best].rank)
				best = i;
		if (symbols[best].rank == NO_RANK)
			return n;
		symbols[best].id = symbols[best].merged;
		symbols[best].end = symbols[best + 1].end;
		memmove(symbols + best + 1, symbols + best + 2, (n - best - 2) * sizeof(*symbols));
		n--;
		set_rank(merges, symbols, best, n);
		if (best > 0)
			set_rank(merges, symbols, best - 1, n);
	}
}

/* ---------- long words ---------- */

typedef struct Node
{
	uint32_t	id;
	uint32_t	end;
	uint32_t	prev;
	uint32_t	next;			/* NONE: the last one */
	bool		dead;
} Node;

typedef struct Entry
{
	uint32_t	rank;
	uint32_t	at;
} Entry;

typedef struct Heap
{
	Entry	   *entries;		/* [3 * bytes]: each merge adds two at most */
	size_t		n;
} Heap;

static inline bool
before(Entry a, Entry b)
{
	return a.rank < b.rank || (a.rank == b.rank && a.at < b.at);
}

static void
heap_push(Heap *heap, Entry entry)
{
	size_t		i = heap->n++;

	while (i > 0 && before(entry, heap->entries[(i - 1) / 2]))
	{
		heap->entries[i] = heap->entries[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	heap->entries[i] = entry;
}

static Entry
heap_pop(Heap *heap)
{
	Entry		top = heap->entries[0];
	Entry		last = heap->entries[--heap->n];
	size_t		i = 0;

	for (;;)
	{
		size_t		child = 2 * i + 1;

		if (child >= heap->n)
			break;
		if (child + 1 < heap->n && before(heap->entries[child + 1], heap->entries[child]))
			child++;
		if (!before(heap->entries[child], last))
			break;
		heap->entries[i] = heap->entries[child];
		i = child;
	}
	heap->entries[i] = last;
	return top;
}

static void
push_pair(const Merges *merges, Heap *heap, const Node *nodes, uint32_t at)
{
	const DistilBlobMerge *merge = nodes[at].next == NONE ? NULL
		: find_merge(merges, nodes[at].id, nodes[nodes[at].next].id);

	if (merge != NULL)
		heap_push(heap, (Entry) {merge->rank, at});
}

static DistilStatus
merge_long(const Merges *merges, Node *nodes, Heap *heap, const uint8_t *bytes, size_t n,
		   const DistilPoll *poll, DistilError *err)
{
	size_t		done = 0;

	for (uint32_t i = 0; i < n; i++)
		nodes[i] = (Node) {merges->bytes[bytes[i]], i + 1, i - 1, i + 1 < n ? i + 1 : NONE, false};
	for (uint32_t i = 0; i < n; i++)
	{
		push_pair(merges, heap, nodes, i);
		if (i % POLL_MERGES == POLL_MERGES - 1)
			DISTIL_POLL(poll, err);
	}
	while (heap->n > 0)
	{
		Entry		top = heap_pop(heap);
		Node	   *node = &nodes[top.at];
		const DistilBlobMerge *merge;
		uint32_t	next = node->next;

		if (++done % POLL_MERGES == 0)
			DISTIL_POLL(poll, err);
		if (node->dead || next == NONE)
			continue;
		/* an entry whose neighbours have changed since is out of date */
		merge = find_merge(merges, node->id, nodes[next].id);
		if (merge == NULL || merge->rank != top.rank)
			continue;
		node->id = merge->id;
		node->end = nodes[next].end;
		node->next = nodes[next].next;
		nodes[next].dead = true;
		if (node->next != NONE)
			nodes[node->next].prev = top.at;
		if (top.at > 0)
			push_pair(merges, heap, nodes, node->prev);
		push_pair(merges, heap, nodes, top.at);
	}
	return DISTIL_OK;
}

/* ---------- tokens of a word ---------- */

typedef struct Word
{
	const uint8_t *bytes;
	size_t		n;
	const uint32_t *sources;
	uint32_t	first;			/* character of the first byte, without sources */
	uint32_t	chars;			/* characters that begin before `at` */
	size_t		at;
} Word;

/* Bytes [start, end) of the word are one token; called from left to right. */
static DistilStatus
put_token(DistilWords *words, Word *word, size_t start, size_t end, uint32_t id, DistilError *err)
{
	uint32_t	from;
	uint32_t	to;

	if (!words->offsets)
		return distil_words_token(words, (int32_t) id, 0, 0, err);
	if (word->sources != NULL)
		return distil_words_token(words, (int32_t) id, word->sources[start], word->sources[end - 1] + 1, err);
	for (; word->at <= start; word->at++)
		word->chars += (word->bytes[word->at] & 0xC0) != 0x80;
	from = word->first + word->chars - 1;
	for (; word->at < end; word->at++)
		word->chars += (word->bytes[word->at] & 0xC0) != 0x80;
	to = word->first + word->chars;
	return distil_words_token(words, (int32_t) id, from, to, err);
}

static DistilStatus
encode_long(DistilWords *words, const Merges *merges, Word *word, DistilError *err)
{
	const DistilAllocator *alloc = words->out->alloc;
	Node	   *nodes = distil_alloc_array(alloc, word->n, sizeof(*nodes));
	Heap		heap = {distil_alloc_array(alloc, word->n, 3 * sizeof(Entry)), 0};
	DistilStatus status;
	size_t		start = 0;

	if (nodes == NULL || heap.entries == NULL)
		status = distil_fail_memory(err, word->n * (sizeof(*nodes) + 3 * sizeof(Entry)));
	else
		status = merge_long(merges, nodes, &heap, word->bytes, word->n, words->poll, err);
	for (uint32_t i = 0; status == DISTIL_OK && i != NONE && !distil_words_full(words); i = nodes[i].next)
	{
		status = put_token(words, word, start, nodes[i].end, nodes[i].id, err);
		start = nodes[i].end;
	}
	distil_release(alloc, nodes);
	distil_release(alloc, heap.entries);
	return status;
}

DistilStatus
distil_bpe_word(DistilWords *words, const uint8_t *bytes, size_t n, const uint32_t *sources, uint32_t first,
				DistilError *err)
{
	const DistilTokenizer *tokenizer = words->tokenizer;
	const Merges merges = {tokenizer->merges, tokenizer->merge_mask, tokenizer->bytes};
	Word		word = {bytes, n, sources, first, 0, 0};
	Symbol		symbols[SHORT_WORD];
	uint32_t	state = 0;
	size_t		i = 0;
	size_t		start = 0;

	while (i < n && distil_trie_step(&tokenizer->words, &state, bytes[i]))
		i++;
	if (i == n && distil_trie_value(&tokenizer->words, state) >= 0)
		return put_token(words, &word, 0, n, (uint32_t) distil_trie_value(&tokenizer->words, state), err);
	if (n > SHORT_WORD)
		return encode_long(words, &merges, &word, err);
	n = merge_short(&merges, symbols, bytes, n);
	for (i = 0; i < n; i++)
	{
		DISTIL_FORWARD(put_token(words, &word, start, symbols[i].end, symbols[i].id, err));
		start = symbols[i].end;
	}
	return DISTIL_OK;
}

/* ---------- compile ---------- */

static int32_t
lookup(const DistilTrie *trie, const char *text, size_t length)
{
	uint32_t	state = 0;

	for (size_t i = 0; i < length; i++)
		if (!distil_trie_step(trie, &state, (uint8_t) text[i]))
			return -1;
	return length > 0 ? distil_trie_value(trie, state) : -1;
}

/* Insert; a pair that is there already takes the later rank.  false: too many probes. */
static bool
insert_merge(DistilBlobMerge *table, uint32_t mask, const DistilBlobMerge *merge)
{
	uint32_t	at = hash_pair(merge->left, merge->right) & mask;

	for (int i = 0; i < DISTIL_MERGE_PROBES; i++)
	{
		if (table[at].left == DISTIL_MERGE_FREE ||
			(table[at].left == merge->left && table[at].right == merge->right))
		{
			table[at] = *merge;
			return true;
		}
		at = (at + 1) & mask;
	}
	return false;
}

static DistilStatus
resolve_merge(const DistilDraftMerge *merge, const DistilTrie *model, uint32_t rank, DistilBlobMerge *out,
			  DistilError *err)
{
	char		joined[2 * DISTIL_MAX_TOKEN_BYTES];
	char		printable[64];
	int32_t		left = lookup(model, merge->left, merge->nleft);
	int32_t		right = lookup(model, merge->right, merge->nright);
	int32_t		id = -1;

	if (left >= 0 && right >= 0 && merge->nleft + merge->nright <= sizeof(joined))
	{
		memcpy(joined, merge->left, merge->nleft);
		memcpy(joined + merge->nleft, merge->right, merge->nright);
		id = lookup(model, joined, (size_t) merge->nleft + merge->nright);
	}
	if (id < 0)
	{
		const char *text = left < 0 ? merge->left : right < 0 ? merge->right : merge->left;

		return distil_fail(err, DISTIL_ERR_TEXT_FILE,
						   left < 0 || right < 0 ? "merge %u uses \"%s\", which the vocabulary does not have"
						   : "merge %u of \"%s\" makes a token that the vocabulary does not have", rank,
						   distil_printable(printable, sizeof(printable), text,
											left < 0 || right >= 0 ? merge->nleft : merge->nright));
	}
	*out = (DistilBlobMerge) {(uint32_t) left, (uint32_t) right, rank, (uint32_t) id};
	return DISTIL_OK;
}

static DistilStatus
fill_table(DistilBlobMerge *table, uint32_t mask, const DistilDraft *draft, const DistilTrie *model,
		   bool *full,
		   DistilError *err)
{
	*full = false;
	for (uint32_t i = 0; i <= mask; i++)
		table[i].left = DISTIL_MERGE_FREE;
	for (size_t i = 0; i < draft->nmerges && !*full; i++)
	{
		DistilBlobMerge merge;

		DISTIL_FORWARD(resolve_merge(&draft->merges[i], model, (uint32_t) i, &merge, err));
		*full = !insert_merge(table, mask, &merge);
		if (i % POLL_MERGES == 0)
			DISTIL_POLL(draft->poll, err);
	}
	return DISTIL_OK;
}

static DistilStatus
compile_merges(DistilBuffer *out, const DistilDraft *draft, const DistilTrie *model, DistilError *err)
{
	uint32_t	size = 64;
	bool		full = true;

	while (size < 2 * draft->nmerges)
		size *= 2;
	for (int round = 0; round < 4 && full; round++, size *= 2)
	{
		DistilBlobMerge *table = distil_alloc_array(draft->alloc, size, sizeof(*table));
		DistilStatus status;

		if (table == NULL)
			return distil_fail_memory(err, (size_t) size * sizeof(*table));
		status = fill_table(table, size - 1, draft, model, &full, err);
		if (status == DISTIL_OK && !full && !distil_buffer_append(out, table, (size_t) size * sizeof(*table)))
			status = distil_fail_memory(err, (size_t) size * sizeof(*table));
		distil_release(draft->alloc, table);
		DISTIL_FORWARD(status);
	}
	return full ? distil_fail(err, DISTIL_ERR_LIMIT, "merges do not fit into a table") : DISTIL_OK;
}

static DistilStatus
compile_bytes(uint32_t ids[256], const DistilTrie *model, DistilError *err)
{
	for (int byte = 0; byte < 256; byte++)
	{
		uint8_t		text[4];
		int			n = distil_utf8_encode(text, distil_char_of((uint8_t) byte));
		int32_t		id = lookup(model, (const char *) text, (size_t) n);

		if (id < 0)
			return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
							   "a BPE vocabulary without a token for byte 0x%02X is not supported", byte);
		ids[byte] = (uint32_t) id;
	}
	return DISTIL_OK;
}

/* Bytes of a byte-level token; 0: it is none, or long. */
static size_t
token_bytes(uint8_t *out, const DistilDraftToken *token)
{
	const uint8_t *p = (const uint8_t *) token->text;
	const uint8_t *end = p + token->length;
	size_t		n = 0;

	while (p < end)
	{
		uint32_t	cp;
		int			k = distil_utf8_decode(&cp, p, end);
		int			byte = k > 0 ? distil_byte_of(cp) : -1;

		if (byte < 0 || n == SHORT_WORD)
			return 0;
		out[n++] = (uint8_t) byte;
		p += k;
	}
	return n;
}

/* The tokens that their own bytes merge into. */
static DistilStatus
compile_words(DistilBuffer *out, DistilDraft *draft, const Merges *merges, DistilError *err)
{
	DistilTrieKey *keys = distil_alloc_array(draft->alloc, draft->ntokens + 1, sizeof(*keys));
	DistilBuffer text;
	DistilStatus status = DISTIL_OK;
	size_t		n = 0;
	size_t		at = 0;

	if (keys == NULL)
		return distil_fail_memory(err, (draft->ntokens + 1) * sizeof(*keys));
	distil_buffer_init(&text, draft->alloc);
	for (size_t i = 0; i < draft->ntokens && status == DISTIL_OK; i++)
	{
		uint8_t		bytes[SHORT_WORD];
		Symbol		symbols[SHORT_WORD];
		size_t		length = token_bytes(bytes, &draft->tokens[i]);

		if (length == 0)
			continue;
		if (!draft->whole_words &&
			(merge_short(merges, symbols, bytes, length) != 1 ||
			 symbols[0].id != (uint32_t) draft->tokens[i].id))
			continue;
		if (!distil_buffer_append(&text, bytes, length))
			status = distil_fail_memory(err, text.length + length);
		keys[n++] = (DistilTrieKey) {NULL, (uint32_t) length, (uint32_t) draft->tokens[i].id};
		if (i % 1024 == 0 && draft->poll != NULL && draft->poll->stop != NULL &&
			draft->poll->stop(draft->poll->ctx))
			status = distil_fail_cancelled(err);
	}
	for (size_t i = 0; i < n; i++)
	{
		keys[i].text = text.data + at;
		at += keys[i].length;
	}
	if (status == DISTIL_OK)
		status = distil_trie_build(out, keys, n, draft->alloc, draft->poll, err);
	distil_buffer_free(&text);
	distil_release(draft->alloc, keys);
	return status;
}

static DistilStatus
compile_bpe(DistilModelSections *out, DistilDraft *draft, const DistilTrie *model, DistilError *err)
{
	uint32_t	ids[256];
	Merges		merges;

	if (draft->npre == 0 || draft->pre[draft->npre - 1].kind != DISTIL_PRE_BYTES)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "model BPE whose last pre_tokenizer is not ByteLevel is not supported");
	DISTIL_FORWARD(compile_bytes(ids, model, err));
	DISTIL_FORWARD(compile_merges(&out->merges, draft, model, err));
	if (!distil_buffer_append(&out->bytes, ids, sizeof(ids)))
		return distil_fail_memory(err, sizeof(ids));
	merges.table = (const DistilBlobMerge *) (const void *) out->merges.data;
	merges.mask = (uint32_t) (out->merges.length / sizeof(DistilBlobMerge)) - 1;
	merges.bytes = ids;
	return compile_words(&out->words, draft, &merges, err);
}

/* ---------- files ---------- */

/* "a b", or ["a", "b"] */
static DistilStatus
read_merge(DistilDraftMerge *merge, const DistilJson *item, size_t rank, DistilError *err)
{
	size_t		length;

	if (distil_json_type(item) == DISTIL_JSON_STRING)
	{
		const char *text = distil_json_string(item, &length);
		const char *blank = memchr(text, ' ', length);

		if (blank != NULL && memchr(blank + 1, ' ', length - (size_t) (blank + 1 - text)) == NULL)
		{
			merge->left = text;
			merge->nleft = (uint32_t) (blank - text);
			merge->right = blank + 1;
			merge->nright = (uint32_t) (length - merge->nleft - 1);
			return DISTIL_OK;
		}
	}
	else if (distil_json_type(item) == DISTIL_JSON_ARRAY && distil_json_count(item) == 2 &&
			 distil_json_type(distil_json_item(item, 0)) == DISTIL_JSON_STRING &&
			 distil_json_type(distil_json_item(item, 1)) == DISTIL_JSON_STRING)
	{
		merge->left = distil_json_string(distil_json_item(item, 0), &length);
		merge->nleft = (uint32_t) length;
		merge->right = distil_json_string(distil_json_item(item, 1), &length);
		merge->nright = (uint32_t) length;
		return DISTIL_OK;
	}
	return distil_fail(err, DISTIL_ERR_TEXT_FILE, "merge %zu of model BPE is not a pair of tokens", rank);
}

static DistilStatus
read_merges(DistilDraft *draft, const DistilJson *list, DistilError *err)
{
	DistilDraftMerge *merges;
	size_t		n;
	size_t		length;

	if (list == NULL || distil_json_type(list) != DISTIL_JSON_ARRAY)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "model BPE has no list \"merges\"");
	n = distil_json_count(list);
	if (n > MAX_MERGES)
		return distil_fail(err, DISTIL_ERR_LIMIT, "%zu merges are too many, the limit is %d", n,
						   MAX_MERGES);
	merges = distil_arena_alloc(draft->arena, n + 1, sizeof(*merges));
	if (merges == NULL)
		return distil_fail_memory(err, (n + 1) * sizeof(*merges));
	for (size_t i = 0; i < n; i++)
	{
		const DistilJson *item = distil_json_item(list, i);
		const char *text = distil_json_type(item) == DISTIL_JSON_STRING ? distil_json_string(item, &length)
			: "";

		if (strncmp(text, "#version", 8) != 0)
			DISTIL_FORWARD(read_merge(&merges[draft->nmerges++], item, i, err));
	}
	draft->merges = merges;
	return DISTIL_OK;
}

/* Absent, null or empty. */
static DistilStatus
refuse_text(DistilDraft *draft, const DistilJson *value, const char *key, DistilError *err)
{
	const char *text;
	char		printable[64];

	DISTIL_FORWARD(distil_json_get_string(draft->doc, value, key, "", &text, err));
	return text[0] == '\0' ? DISTIL_OK
		: distil_fail(err, DISTIL_ERR_UNSUPPORTED, "%s \"%s\" of model BPE is not supported", key,
					  distil_printable(printable, sizeof(printable), text, strlen(text)));
}

static DistilStatus
parse_bpe(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {
		"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
		"byte_fallback", "ignore_merges", "vocab", "merges", NULL
	};
	double		dropout;
	bool		fallback;
	bool		ignore;
	bool		fuse;
	const char *unk;

	DISTIL_FORWARD(distil_draft_known(value, known, "model BPE", err));
	DISTIL_FORWARD(distil_json_get_number(draft->doc, value, "dropout", 0, 0, 1, &dropout, err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "byte_fallback", false, &fallback, err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "ignore_merges", false, &ignore, err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "fuse_unk", false, &fuse, err));
	DISTIL_FORWARD(distil_json_get_string(draft->doc, value, "unk_token", NULL, &unk, err));
	DISTIL_FORWARD(refuse_text(draft, value, "continuing_subword_prefix", err));
	DISTIL_FORWARD(refuse_text(draft, value, "end_of_word_suffix", err));
	if (dropout != 0)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "dropout %g of model BPE is not supported", dropout);
	if (fallback)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "byte_fallback of model BPE is not supported");
	if (unk != NULL && unk[0] != '\0')
		draft->unk = unk;
	draft->no_unk = true;
	draft->header.model = DISTIL_MODEL_BPE;
	draft->whole_words = ignore;
	return read_merges(draft, distil_json_member(value, "merges"), err);
}

/* ByteLevel hands its words to distil_bpe_word; compile_bpe made sure that it is there. */
static DistilStatus
encode_span(DistilWords *words, const DistilChar *chars, size_t n, DistilError *err)
{
	(void) words;
	(void) chars;
	(void) n;
	return distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has model BPE without ByteLevel");
}

const DistilModelPart distil_model_bpe = {
	"BPE", DISTIL_MODEL_BPE, parse_bpe, NULL, encode_span, compile_bpe
};
