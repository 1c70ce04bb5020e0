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

typedef struct DistilDraftMerge
{
	const char *left;
	const char *right;
	uint32_t	nleft;
	uint32_t	nright;
} DistilDraftMerge;

/* What a model adds to a blob. */
typedef struct DistilModelSections
{
	DistilBuffer scores;
	DistilBuffer merges;
	DistilBuffer words;
	DistilBuffer bytes;
} DistilModelSections;

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
	const DistilDraftAdded *listed; /* of a SentencePiece model: instead of additional special tokens that no
									 * list of extra ones replaces; NULL: there is no such model */
	size_t		nlisted;
	DistilBlobStep normalizer[DISTIL_MAX_STEPS];
	int			nnormalizer;
	DistilBlobStep pre[DISTIL_MAX_STEPS];
	int			npre;
	DistilBlobStep decoder[DISTIL_MAX_STEPS];
	int			ndecoder;
	DistilBlobPiece single[DISTIL_MAX_PIECES];
	int			nsingle;
	DistilBlobPiece pair[DISTIL_MAX_PIECES];
	int			npair;
	const char *unk;			/* NULL: none */
	bool		parse_special;	/* of the import: special tokens in texts are recognised */
	const char *named_unk;		/* unk_token of tokenizer_config.json or special_tokens_map.json, NULL: not
								 * said, "": none */
	bool		no_unk;			/* the model works without an unknown token */
	int64_t		unk_id;			/* of Unigram; -1: by name */
	const double *scores;		/* [ntokens] of Unigram; ids are their places */
	const DistilDraftMerge *merges;
	size_t		nmerges;
	bool		whole_words;	/* ignore_merges: a word that is a token is not merged */
	DistilBuffer data;			/* of steps */
	/*
	 * named in tokenizer_config.json or special_tokens_map.json: cls, sep, pad,
	 * mask, bos, eos; NULL: not said, "": none
	 */
	const char *names[6];
	uint32_t	name_flags[6];	/* DISTIL_ADDED_... of them; with DISTIL_ADDED_SPECIAL where the file says
								 * flags */
	uint32_t	unk_flags;		/* of named_unk */
	int			table;			/* rows of the model's word table; 0: not known */
	bool		lower_case;		/* the pipeline's: before all, where no normalizer does it */
	bool		types;			/* the class passes segment ids to the model where nothing else is said */
	DistilTokenizerBlob header;
} DistilDraft;

/* Append a step; too many are refused. */
extern DistilStatus distil_draft_step(DistilBlobStep *steps, int *n, uint32_t kind, uint32_t flags,
									  DistilError *err);
/* A normalizer without fields but its type; `what` names it in messages. */
extern DistilStatus distil_draft_normalizer(DistilDraft *draft, const DistilJson *value, uint32_t kind,
											const char *what, DistilError *err);
/* The same with data, which is copied. */
extern DistilStatus distil_draft_step_data(DistilDraft *draft, DistilBlobStep *steps, int *n, uint32_t kind,
										   uint32_t flags, const void *data, size_t length, DistilError *err);
/* Object token -> id. */
extern DistilStatus distil_draft_vocabulary(DistilDraft *draft, const DistilJson *vocab, const char *what,
											DistilError *err);
/* Members of `value` must be among `known` (NULL-terminated); another is refused by name. */
extern DistilStatus distil_draft_known(const DistilJson *value, const char *const *known, const char *what,
									   DistilError *err);
/* tokenizer.json and legacy files into a draft. */
extern DistilStatus distil_draft_read_json(DistilDraft *draft, DistilError *err);
extern DistilStatus distil_draft_read_legacy(DistilDraft *draft, const DistilFolder *folder,
											 DistilError *err);
/* What tokenizer_config.json overrules or forbids, after the files have been read. */
extern DistilStatus distil_draft_apply_settings(DistilDraft *draft, const DistilFolder *folder,
												DistilError *err);
/* vocab.json and merges.txt */
extern DistilStatus distil_draft_read_bpe(DistilDraft *draft, const DistilFolder *folder, DistilError *err);
/* A SentencePiece model; distil_pieces_file is its name, NULL when the folder has none. */
extern DistilStatus distil_draft_read_pieces(DistilDraft *draft, const DistilFolder *folder,
											 DistilError *err);
extern const char *distil_pieces_file(const DistilFolder *folder);
/* Names of special tokens from tokenizer_config.json and special_tokens_map.json. */
extern DistilStatus distil_draft_read_names(DistilDraft *draft, const DistilFolder *folder, DistilError *err);
/* Check the draft as a whole and append the blob. */
extern DistilStatus distil_draft_write(DistilBuffer *out, DistilDraft *draft, bool parse_special,
									   DistilError *err);

/* ---------- classes of transformers ---------- */

typedef enum DistilClassKind
{
	DISTIL_CLASS_BERT,			/* WordPiece */
	DISTIL_CLASS_BYTES,			/* byte-level BPE */
	DISTIL_CLASS_PIECES			/* Unigram */
} DistilClassKind;

typedef enum DistilClassTemplate
{
	DISTIL_TEMPLATE_NONE,
	DISTIL_TEMPLATE_BERT,
	DISTIL_TEMPLATE_ROBERTA,
	DISTIL_TEMPLATE_XLNET
} DistilClassTemplate;

typedef struct DistilTokenizerClass
{
	const char *name;			/* without "Fast" */
	const char *model_types[3]; /* that have this class when none is named */
	DistilClassKind kind;
	DistilClassTemplate template;
	int			ends[2];		/* which names stand round a text */
	const char *names[6];		/* defaults: cls, sep, pad, mask, bos, eos; NULL: none */
	int			unk_id;			/* of Unigram; -1: by name */
	bool		keeps;			/* tokenizer.json's post-processor, when it has one */
	bool		lower;			/* default of do_lower_case */
	bool		types;			/* segment ids are passed to the model */
	bool		prefix;			/* default of add_prefix_space */
	bool		quotes;			/* normalizers of ALBERT and XLNet */
	bool		fixed;			/* add_prefix_space and keep_accents are not asked */
	bool		own_ids;		/* special tokens in front of the pieces of a SentencePiece model */
	bool		mask_strips;	/* the mask takes the blanks before it */
	const char *more[3];		/* additional special tokens, where no list says others */
} DistilTokenizerClass;

/* Of tokenizer_config.json. */
typedef struct DistilClassSettings
{
	bool		prefix;			/* add_prefix_space */
	bool		trim;			/* trim_offsets */
	bool		lower;			/* do_lower_case */
	bool		strip;			/* strip_accents */
	bool		cjk;			/* tokenize_chinese_chars */
	bool		accents;		/* keep_accents */
} DistilClassSettings;

#define DISTIL_HINT_AS_IT_IS \
	"With \"tokenizer_class\": \"PreTrainedTokenizerFast\" in tokenizer_config.json, tokenizer.json is " \
	"taken as it is."

/*
 * The class that tokenizer_config.json or config.json names, or that its model_type has, or the model_type
 * `otherwise` (NULL: none).  *class is NULL when there is none or tokenizer.json is taken as it is.  One that
 * we do not know is DISTIL_ERR_UNSUPPORTED.
 */
extern DistilStatus distil_draft_class(DistilDraft *draft, const DistilFolder *folder, const char *otherwise,
									   const DistilTokenizerClass **class, DistilError *err);
/* doc: tokenizer_config.json, or NULL for the defaults. */
extern DistilStatus distil_draft_class_settings(DistilClassSettings *settings,
												const DistilTokenizerClass *class, const DistilJsonDoc *doc,
												DistilError *err);
/*
 * Replace normalizer, pre-tokenizer, decoder and post-processor by
 * those of the class; a character map stays.
 */
extern DistilStatus distil_draft_class_parts(DistilDraft *draft, const DistilTokenizerClass *class,
											 const DistilClassSettings *settings, DistilError *err);
/* Added tokens as the files beside tokenizer.json and the class (NULL: it is taken as it is) make them. */
extern DistilStatus distil_draft_apply_added(DistilDraft *draft, const DistilFolder *folder,
											 const DistilTokenizerClass *class, DistilError *err);
/* The class's unk_token. */
extern const char *distil_class_unk(const DistilTokenizerClass *class);
/* DISTIL_ADDED_... of a token's members. */
extern DistilStatus distil_draft_added_flags(uint32_t *flags, const DistilJsonDoc *doc,
											 const DistilJson *token, DistilError *err);
/* Flags of BertNormalizer. */
extern uint32_t distil_class_bert_flags(const DistilClassSettings *settings);

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
	const DistilBlobStep *decoder;
	int			ndecoder;
	const uint8_t *data;		/* of steps */
	size_t		data_size;
	const double *scores;		/* [nscores], Unigram */
	uint32_t	nscores;
	const DistilBlobMerge *merges;	/* [merge_mask + 1], BPE */
	uint32_t	merge_mask;
	const uint32_t *bytes;		/* [256], BPE */
	DistilTrie	words;			/* BPE */
	bool		plain_bytes;	/* exactly ByteLevel, nothing else */
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

/* Growing array of characters, for normalizers that are not fused. */
typedef struct DistilChars
{
	struct DistilChar *items;
	size_t		n;
	size_t		capacity;
	const DistilAllocator *alloc;
} DistilChars;

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
	bool		count_only;
	int32_t		outside;		/* first id beyond the vocabulary, -1: none */
	bool		parse_special;
	bool		trim;			/* offsets leave out blanks */
	int			limit;			/* out->n at which to stop */
	int32_t		type;
	int32_t		word;			/* index of the next pre-token */
	int			max_chars;
	int			nchars;			/* may go over max_chars: then the rest is not stored */
	uint32_t	first_source;
	uint32_t	last_source;
	size_t		length;
	int			begin;			/* out->n where the sequence begins */
	DistilChars scratch;		/* of the span being cut */
	DistilBuffer span;			/* bytes of a span, then sources, then what the model needs */
	DistilMarks marks;
	uint8_t		bytes[DISTIL_WORD_BYTES];
	uint32_t	sources[DISTIL_WORD_BYTES]; /* per byte; only with offsets */
} DistilWords;

/* Append a token to words->out. */
extern DistilStatus distil_words_token(DistilWords *words, int32_t id, uint32_t start, uint32_t end,
									   DistilError *err);
/* The same of a token that stands for another text than its own, which offsets are trimmed by. */
extern DistilStatus distil_words_text(DistilWords *words, int32_t id, const char *text, size_t length,
									  uint32_t start, uint32_t end, DistilError *err);
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

extern DistilStatus distil_chars_push(DistilChars *chars, uint32_t cp, uint32_t source, DistilError *err);
/* All normalizer steps on the characters, in place. */
extern DistilStatus distil_chars_normalize(DistilChars *chars, const DistilBlobStep *steps, int n,
										   const uint8_t *data, size_t data_size, const DistilPoll *poll,
										   DistilError *err);
/*
 * New characters of a normalizer with what they did to the old ones: 0 replaces the
 * next one, 1 was added behind the last one, -n replaces one and removes n behind it.
 */
typedef struct DistilChange
{
	uint32_t	cp;
	int32_t		change;
} DistilChange;

typedef struct DistilChanges
{
	DistilChange *items;
	size_t		n;
	size_t		capacity;
	const DistilAllocator *alloc;
} DistilChanges;

extern DistilStatus distil_changes_push(DistilChanges *changes, uint32_t cp, int32_t change,
										DistilError *err);
/* The new characters with the sources that the reference's alignment gives them. */
extern DistilStatus distil_changes_align(DistilChars *chars, const DistilChanges *changes, DistilError *err);
/* Code points of a string; their number is returned. */
extern uint32_t distil_decode_string(uint32_t *out, const char *text, size_t length);
/* Steps Precompiled, and Replace (of a string) or Prepend, for readers of other files. */
extern DistilStatus distil_draft_charsmap(DistilDraft *draft, const void *data, size_t length,
										  DistilError *err);
extern DistilStatus distil_draft_replace(DistilDraft *draft, uint32_t kind, uint32_t flags,
										 const char *pattern, const char *content, DistilError *err);
/* A normalizer that makes `now` characters of `before` is refused when it blows a text up. */
extern DistilStatus distil_chars_bound(size_t now, size_t before, DistilError *err);
/* Replace the characters by `to`, which becomes empty. */
extern void distil_chars_take(DistilChars *chars, DistilChars *to);

/*
 * Characters [from, to) of a segment through pre-tokenizers that are not classes of
 * single characters, and through models that take whole spans.
 */
extern DistilStatus distil_spans_put(DistilWords *words, const DistilChars *chars, size_t from, size_t to,
									 DistilError *err);
/* Make room for `bytes` in words->span. */
extern DistilStatus distil_span_reserve(DistilWords *words, size_t bytes, DistilError *err);

/* Byte-level words of a segment of text, without any other step. */
extern DistilStatus distil_bytes_run(DistilWords *words, uint32_t *source, const uint8_t *p,
									 const uint8_t *end, DistilError *err);
/* The same for a span; sources hold the character of each byte. */
extern DistilStatus distil_bytes_span(DistilWords *words, uint32_t flags, const DistilChar *chars, size_t n,
									  DistilError *err);
/* Tokens of one byte-level word; first: character of its first byte.  sources may be NULL. */
extern DistilStatus distil_bpe_word(DistilWords *words, const uint8_t *bytes, size_t n,
									const uint32_t *sources, uint32_t first, DistilError *err);
/* The byte that a character of a byte-level token stands for, or -1; and the other way. */
extern int	distil_byte_of(uint32_t cp);
extern uint32_t distil_char_of(uint8_t byte);

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
/*
 * Take the blanks of a token's text out of its offsets, if the tokenizer says so.
 * Byte-level blanks count too.
 */
extern void distil_words_trim(const DistilWords *words, const char *text, size_t length, uint32_t *start,
							  uint32_t *end);
/* Append an added token; text is what it matched. */
extern DistilStatus distil_words_added(DistilWords *words, const DistilBlobAdded *added, const uint8_t *text,
									   size_t length, uint32_t start, uint32_t end, DistilError *err);
/* Append that of a match in `text`; *source: characters before `done`, then before match->stop. */
extern DistilStatus distil_words_match(DistilWords *words, const DistilMatch *match, const uint8_t *text,
									   size_t done, uint32_t *source, DistilError *err);
extern bool distil_match_find(const DistilTokenizer *tokenizer, bool normalized, bool parse_special,
							  const uint8_t *text, size_t length, size_t from, size_t to, size_t taken,
							  DistilMatch *match);

/* ---------- parts ---------- */

typedef DistilStatus (*DistilPartParse) (DistilDraft *draft, const DistilJson *value, DistilError *err);

typedef struct DistilStepArgs
{
	uint32_t	flags;
	const uint8_t *data;		/* aligned to 8 bytes */
	size_t		length;
} DistilStepArgs;

typedef struct DistilNormalizerPart
{
	const char *type;
	uint32_t	kind;
	DistilPartParse parse;
	DistilStatus (*run) (DistilChars *chars, const DistilStepArgs *args, const DistilPoll *poll,
						 DistilError *err);
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
	int			(*classify) (uint32_t cp);	/* NULL: see tokenizer_spans.c */
} DistilPreTokenizerPart;

typedef struct DistilModelPart
{
	const char *type;
	uint32_t	kind;
	DistilPartParse parse;
	/* tokens of words->bytes */
	DistilStatus (*word) (DistilWords *words, DistilError *err);
	/* tokens of a word of any length; NULL: `word` is used */
	DistilStatus (*span) (DistilWords *words, const DistilChar *chars, size_t n, DistilError *err);
	/* sections of a blob; model finds its tokens.  NULL: nothing to add */
	DistilStatus (*compile) (DistilModelSections *out, DistilDraft *draft, const DistilTrie *model,
							 DistilError *err);
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
	/* Rewrite the whole text; NULL: it stays */
	DistilStatus (*finish) (const DistilTokenizer *tokenizer, DistilBuffer *out, DistilError *err);
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
#define DISTIL_NORMALIZER_NFKD		6
#define DISTIL_NORMALIZER_NFC		7
#define DISTIL_NORMALIZER_NFKC		8
#define DISTIL_NORMALIZER_NMT		9
#define DISTIL_NORMALIZER_REPLACE	10
#define DISTIL_NORMALIZER_PREPEND	11
#define DISTIL_NORMALIZER_CHARSMAP	12
#define DISTIL_PRE_BERT				1
#define DISTIL_PRE_WHITESPACE		2
#define DISTIL_PRE_SPLIT			3
#define DISTIL_PRE_PUNCTUATION		4
#define DISTIL_PRE_DIGITS			5
#define DISTIL_PRE_BYTES			6
#define DISTIL_PRE_METASPACE		7
#define DISTIL_PRE_PATTERN			8
#define DISTIL_MODEL_WORDPIECE		1
#define DISTIL_MODEL_BPE			2
#define DISTIL_MODEL_UNIGRAM		3
#define DISTIL_DECODER_NONE			0
#define DISTIL_DECODER_WORDPIECE	1
#define DISTIL_DECODER_BYTES		2
#define DISTIL_DECODER_METASPACE	3
#define DISTIL_DECODER_STEPS		4

/* Flags of the ByteLevel step. */
#define DISTIL_BYTES_PREFIX			1	/* add a blank in front */
#define DISTIL_BYTES_SPLIT			2	/* by the pattern of GPT-2 */
#define DISTIL_BYTES_OPEN			4	/* while parsing: a Split that waits for its ByteLevel */
/* Flags of the Metaspace step; the character itself is above them. */
#define DISTIL_META_ALWAYS			1
#define DISTIL_META_FIRST			2
#define DISTIL_META_SPLIT			4
#define DISTIL_META_SHIFT			8

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
extern const DistilNormalizerPart distil_normalizer_nfkd;
extern const DistilNormalizerPart distil_normalizer_nfc;
extern const DistilNormalizerPart distil_normalizer_nfkc;
extern const DistilNormalizerPart distil_normalizer_nmt;
extern const DistilNormalizerPart distil_normalizer_replace;
extern const DistilNormalizerPart distil_normalizer_prepend;
extern const DistilNormalizerPart distil_normalizer_charsmap;
extern const DistilPreTokenizerPart distil_pre_digits;
extern const DistilPreTokenizerPart distil_pre_bytes;
extern const DistilPreTokenizerPart distil_pre_metaspace;
extern const DistilPreTokenizerPart distil_pre_pattern;
extern const DistilModelPart distil_model_bpe;
extern const DistilModelPart distil_model_unigram;
extern const DistilPostPart distil_post_bytes;
extern const DistilPostPart distil_post_roberta;
extern const DistilPostPart distil_post_sequence;
extern const DistilDecoderPart distil_decoder_bytes;
extern const DistilDecoderPart distil_decoder_metaspace;
extern const DistilDecoderPart distil_decoder_sequence;
extern const DistilDecoderPart distil_decoder_replace;
extern const DistilDecoderPart distil_decoder_strip;
extern const DistilDecoderPart distil_decoder_fallback;
extern const DistilDecoderPart distil_decoder_fuse;
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
/* The same with a second separator between two texts, all types 0. */
extern void distil_template_roberta(DistilDraft *draft, int32_t cls, int32_t sep);
/* A [SEP] [CLS] of type 2, as XLNet has it. */
extern void distil_template_xlnet(DistilDraft *draft, int32_t cls, int32_t sep);
/* [CLS] A [SEP] and [CLS] A [SEP] B [SEP]; types of the second half as given. */
extern void distil_template_bert(DistilDraft *draft, int32_t cls, int32_t sep);
/* Of a decoded text: no blanks before punctuation and English endings. */
extern void distil_clean_text(DistilBuffer *text);
/* All segment ids 0, as a model takes them to be that is given none. */
extern void distil_template_untyped(DistilDraft *draft);
/* Id of a token's text among model and added tokens of a draft, or -1. */
extern int32_t distil_draft_id(const DistilDraft *draft, const char *text, size_t length);

#endif							/* DISTIL_TOKENIZER_PARTS_H */
