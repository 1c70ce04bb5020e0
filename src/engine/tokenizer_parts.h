/*
 * tokenizer_parts.h
 *		What the files of the tokenizer share: the draft while compiling, the view over a
 *		blob, the words being encoded, and the tables of parts.
 *
 * A part (normalizer, pre-tokenizer, model, post-processor, decoder) is one file with
 * its functions and one line in the tables of tokenizer.c.  A kind is written into
 * blobs: never renumber one.
 */
#ifndef DISTIL_TOKENIZER_PARTS_H
#define DISTIL_TOKENIZER_PARTS_H

#include "alloc.h"
#include "json.h"
#include "tokenizer.h"
#include "tokenizer_blob.h"
#include "unicode.h"

/* ---------- double-array trie ---------- */

typedef struct DistilTrie
{
	const DistilTrieUnit *units;
	uint32_t	n;
} DistilTrie;

typedef struct DistilTrieKey
{
	const char *text;
	uint32_t	length;			/* at least 1 */
	uint32_t	value;			/* below DISTIL_TRIE_MAX_VALUE */
} DistilTrieKey;

#define DISTIL_TRIE_MAX_VALUE 0x7FFFFEu

/*
 * Append the trie of keys (sorted here, in place) to out; of equal keys the one with
 * the lowest value stays.
 */
extern DistilStatus distil_trie_build(DistilBuffer *out, DistilTrieKey *keys, size_t n,
									  const DistilAllocator *alloc, const DistilPoll *poll, DistilError *err);

/* Step from *state by byte c. */
static inline bool
distil_trie_step(const DistilTrie *trie, uint32_t *state, uint8_t c)
{
	uint32_t	next = trie->units[*state].base ^ c;

	if (next >= trie->n || (trie->units[next].check & 0x1FF) != (DISTIL_TRIE_USED | c))
		return false;
	*state = next;
	return true;
}

/* Value of the key that ends at state, or -1. */
static inline int32_t
distil_trie_value(const DistilTrie *trie, uint32_t state)
{
	return (int32_t) (trie->units[state].check >> 9) - 1;
}

/* ---------- draft: what the files say, before the blob ---------- */

#define DISTIL_MAX_STEPS	16
#define DISTIL_MAX_PIECES	64
#define DISTIL_MAX_ADDED	65536
#define DISTIL_MAX_TOKEN_BYTES 4096
#define DISTIL_MAX_WORD_CHARS 1024	/* largest max_input_chars_per_word we take */

typedef struct DistilDraftToken
{
	const char *text;
	uint32_t	length;
	int32_t		id;
} DistilDraftToken;

typedef struct DistilDraftAdded
{
	const char *text;
	uint32_t	length;
	uint32_t	flags;
	int64_t		id;				/* as the file says; -1: not said */
	const char *shown;			/* what its id decodes to: the text, normalised if it is to be */
	uint32_t	nshown;
} DistilDraftAdded;

typedef struct DistilDraft
{
	const DistilAllocator *alloc;
	DistilArena *arena;
	const DistilPoll *poll;
	const DistilJsonDoc *doc;	/* tokenizer.json, NULL for legacy files */
	DistilDraftToken *tokens;	/* of the model */
	size_t		ntokens;
	DistilDraftAdded *added;
	size_t		nadded;
	DistilBlobStep normalizer[DISTIL_MAX_STEPS];
	int			nnormalizer;
	DistilBlobStep pre[DISTIL_MAX_STEPS];
	int			npre;
	DistilBlobPiece single[DISTIL_MAX_PIECES];
	int			nsingle;
	DistilBlobPiece pair[DISTIL_MAX_PIECES];
	int			npair;
	const char *unk;			/* NULL: none */
	/* named in tokenizer_config.json or special_tokens_map.json: cls, sep, pad, mask, bos, eos */
	const char *names[6];
	DistilTokenizerBlob header;
} DistilDraft;

/* Append a step; too many are refused. */
extern DistilStatus distil_draft_step(DistilBlobStep *steps, int *n, uint32_t kind, uint32_t flags,
									  DistilError *err);
/* Members of `value` must be among `known` (NULL-terminated); another is refused by name. */
extern DistilStatus distil_draft_known(const DistilJson *value, const char *const *known, const char *what,
									   DistilError *err);
/* tokenizer.json and legacy files into a draft. */
extern DistilStatus distil_draft_read_json(DistilDraft *draft, DistilError *err);
extern DistilStatus distil_draft_read_legacy(DistilDraft *draft, const DistilFolder *folder,
											 DistilError *err);
/* Names of special tokens from tokenizer_config.json and special_tokens_map.json. */
extern DistilStatus distil_draft_read_names(DistilDraft *draft, const DistilFolder *folder, DistilError *err);
/* Check the draft as a whole and append the blob. */
extern DistilStatus distil_draft_write(DistilBuffer *out, DistilDraft *draft, bool parse_special,
									   DistilError *err);

/* ---------- view over a blob ---------- */

struct DistilTokenizer
{
	const DistilTokenizerBlob *blob;
	const uint32_t *tokens;		/* [vocabulary + 1] */
	const char *strings;
	size_t		strings_size;
	DistilTrie	model;
	DistilTrie	raw;
	DistilTrie	norm;
	const DistilBlobAdded *added;
	uint32_t	nadded;
	const DistilBlobStep *normalizer;
	int			nnormalizer;
	const DistilBlobStep *pre;
	int			npre;
	const DistilBlobPiece *single;
	int			nsingle;
	const DistilBlobPiece *pair;
	int			npair;
	uint32_t	continuation;	/* state of the model's trie after the prefix; 0: no such token */
	bool		fused;			/* exactly BertNormalizer and BertPreTokenizer, nothing else */
	bool		raw_first[256]; /* bytes that begin an added token */
	bool		norm_first[256];
	bool		has_norm;
	const struct DistilModelPart *model_part;
	const struct DistilDecoderPart *decoder_part;
	DistilSpecialIds special;
	const DistilAllocator *alloc;
};

/* ---------- words on their way to tokens ---------- */

#define DISTIL_WORD_BYTES ((DISTIL_MAX_WORD_CHARS + 1) * 4)

/* A character with the index of the character of the text it came from. */
typedef struct DistilChar
{
	uint32_t	cp;
	uint32_t	source;
} DistilChar;

/* A combining character that waits for canonical ordering; added: not the first of its decomposition. */
typedef struct DistilMark
{
	uint32_t	cp;
	uint32_t	source;
	uint8_t		combining;
	bool		added;
} DistilMark;

#define DISTIL_STACK_MARKS 32

typedef struct DistilMarks
{
	DistilMark *items;			/* stack_items, or allocated */
	size_t		n;
	size_t		capacity;
	uint32_t	last_source;	/* of the last character before the run */
	DistilMark	stack_items[DISTIL_STACK_MARKS];
} DistilMarks;

/* One sequence being encoded.  bytes/sources hold the word under construction. */
typedef struct DistilWords
{
	const DistilTokenizer *tokenizer;
	DistilEncoding *out;
	const DistilPoll *poll;
	bool		offsets;
	bool		parse_special;
	int			limit;			/* out->n at which to stop */
	int32_t		type;
	int32_t		word;			/* index of the next pre-token */
	int			max_chars;
	int			nchars;			/* may go over max_chars: then the rest is not stored */
	uint32_t	first_source;
	uint32_t	last_source;
	size_t		length;
	DistilMarks marks;
	uint8_t		bytes[DISTIL_WORD_BYTES];
	uint32_t	sources[DISTIL_WORD_BYTES]; /* per byte; only with offsets */
} DistilWords;

/* Append a token to words->out. */
extern DistilStatus distil_words_token(DistilWords *words, int32_t id, uint32_t start, uint32_t end,
									   DistilError *err);
/* Append a character to the word. */
extern void distil_words_char(DistilWords *words, uint32_t cp, uint32_t source);
/* End the word: its tokens are appended; nothing for an empty word. */
extern DistilStatus distil_words_end(DistilWords *words, DistilError *err);
static inline bool
distil_words_full(const DistilWords *words)
{
	return words->out->n >= words->limit;
}

/* The sequence's tokens are appended to words->out. */
extern DistilStatus distil_words_sequence(DistilWords *words, const DistilText *text, DistilError *err);

/* BertNormalizer and BertPreTokenizer in one pass; state is kept between calls until _finish. */
extern DistilStatus distil_bert_run(DistilWords *words, uint32_t *source, const uint8_t *p,
									const uint8_t *end,
									DistilError *err);
extern DistilStatus distil_bert_finish(DistilWords *words, DistilError *err);

/* Any other pipeline: one segment of the text, with the added tokens of the normalised text. */
extern DistilStatus distil_pipeline_run(DistilWords *words, uint32_t *source, const uint8_t *p,
										const uint8_t *end,
										DistilError *err);

/* Growing array of characters, for normalizers that are not fused. */
typedef struct DistilChars
{
	DistilChar *items;
	size_t		n;
	size_t		capacity;
	const DistilAllocator *alloc;
} DistilChars;

extern DistilStatus distil_chars_push(DistilChars *chars, uint32_t cp, uint32_t source, DistilError *err);
/* All normalizer steps on the characters, in place. */
extern DistilStatus distil_chars_normalize(DistilChars *chars, const DistilBlobStep *steps, int n,
										   const DistilPoll *poll, DistilError *err);

/* Canonical ordering, shared by the fused pass and the NFD normalizer. */
extern DistilStatus distil_marks_add(DistilMarks *marks, uint32_t cp, uint32_t source, uint8_t combining,
									 bool added,
									 const DistilAllocator *alloc, DistilError *err);
/* Sort the run and give each mark the source that the reference's alignment gives it. */
extern DistilStatus distil_marks_sort(DistilMarks *marks, const DistilAllocator *alloc, DistilError *err);

/* An added token found in text: bytes [start, stop) with swallowed blanks, next search at `after`. */
typedef struct DistilMatch
{
	const DistilBlobAdded *added;
	size_t		start, stop, after;
} DistilMatch;
/*
 * Leftmost-longest match that begins in [from, to); start is never below `taken`.
 * normalized chooses the trie.  false: none.
 */
extern bool distil_match_find(const DistilTokenizer *tokenizer, bool normalized, bool parse_special,
							  const uint8_t *text, size_t length, size_t from, size_t to, size_t taken,
							  DistilMatch *match);

/* ---------- parts ---------- */

typedef DistilStatus (*DistilPartParse) (DistilDraft *draft, const DistilJson *value, DistilError *err);

typedef struct DistilNormalizerPart
{
	const char *type;
	uint32_t	kind;
	DistilPartParse parse;
	DistilStatus (*run) (DistilChars *chars, uint32_t flags, const DistilPoll *poll, DistilError *err);
} DistilNormalizerPart;

/*
 * A pre-tokenizer says of each character: 0 part of a word, 1 blank (dropped), 2 a word
 * of its own, 3 part of a word of the other class.
 */
typedef struct DistilPreTokenizerPart
{
	const char *type;
	uint32_t	kind;
	DistilPartParse parse;
	int			(*classify) (uint32_t cp);
} DistilPreTokenizerPart;

typedef struct DistilModelPart
{
	const char *type;
	uint32_t	kind;
	DistilPartParse parse;
	DistilStatus (*word) (DistilWords *words, DistilError *err);
} DistilModelPart;

typedef struct DistilPostPart
{
	const char *type;
	DistilPartParse parse;
} DistilPostPart;

typedef struct DistilDecoderPart
{
	const char *type;
	uint32_t	kind;
	DistilPartParse parse;
	/* Append one token's text; first: it is the first one. */
	DistilStatus (*token) (const DistilTokenizer *tokenizer, DistilBuffer *out, const char *text,
						   size_t length,
						   bool first, DistilError *err);
} DistilDecoderPart;

/* By type name; NULL when there is none. */
extern const DistilNormalizerPart *distil_normalizer_find(const char *type);
extern const DistilPreTokenizerPart *distil_pre_tokenizer_find(const char *type);
extern const DistilModelPart *distil_model_part_find(const char *type);
extern const DistilPostPart *distil_post_find(const char *type);
extern const DistilDecoderPart *distil_decoder_find(const char *type);
/* By kind. */
extern const DistilNormalizerPart *distil_normalizer_kind(uint32_t kind);
extern const DistilPreTokenizerPart *distil_pre_tokenizer_kind(uint32_t kind);
extern const DistilModelPart *distil_model_part_kind(uint32_t kind);
extern const DistilDecoderPart *distil_decoder_kind(uint32_t kind);

#define DISTIL_NORMALIZER_BERT		1
#define DISTIL_NORMALIZER_LOWERCASE 2
#define DISTIL_NORMALIZER_NFD		3
#define DISTIL_NORMALIZER_ACCENTS	4
#define DISTIL_NORMALIZER_STRIP		5
#define DISTIL_PRE_BERT				1
#define DISTIL_PRE_WHITESPACE		2
#define DISTIL_PRE_SPLIT			3
#define DISTIL_PRE_PUNCTUATION		4
#define DISTIL_MODEL_WORDPIECE		1
#define DISTIL_DECODER_NONE			0
#define DISTIL_DECODER_WORDPIECE	1

/* Flags of the BertNormalizer step; strip_accents already resolved. */
#define DISTIL_BERT_CLEAN			1
#define DISTIL_BERT_CJK				2
#define DISTIL_BERT_STRIP			4
#define DISTIL_BERT_LOWER			8

/* the parts themselves: the tables in tokenizer.c point to them */
extern const DistilNormalizerPart distil_normalizer_bert;
extern const DistilNormalizerPart distil_normalizer_lowercase;
extern const DistilNormalizerPart distil_normalizer_nfd;
extern const DistilNormalizerPart distil_normalizer_accents;
extern const DistilNormalizerPart distil_normalizer_strip;
extern const DistilPreTokenizerPart distil_pre_bert;
extern const DistilPreTokenizerPart distil_pre_whitespace;
extern const DistilPreTokenizerPart distil_pre_split;
extern const DistilPreTokenizerPart distil_pre_punctuation;
extern const DistilModelPart distil_model_wordpiece;
extern const DistilPostPart distil_post_template;
extern const DistilPostPart distil_post_bert;
extern const DistilDecoderPart distil_decoder_plain;
extern const DistilDecoderPart distil_decoder_wordpiece;

/* The template without special tokens: first text type 0, second type 1. */
extern void distil_template_none(DistilDraft *draft);
/* [CLS] A [SEP] and [CLS] A [SEP] B [SEP]; types of the second half as given. */
extern void distil_template_bert(DistilDraft *draft, int32_t cls, int32_t sep);
/* Id of a token's text among model and added tokens of a draft, or -1. */
extern int32_t distil_draft_id(const DistilDraft *draft, const char *text, size_t length);

#endif							/* DISTIL_TOKENIZER_PARTS_H */
