/*
 * tokenizer_blob.h
 *		Layout of a compiled tokenizer: flat, position-independent, native byte order.
 *
 * Header, then sections at multiples of 8 bytes from its start.  Opening checks the
 * header and that sections lie inside; single entries (ids, offsets, trie bases) are
 * checked where they are used, so that opening touches no vocabulary.  Any change of
 * this file, of a part's flags or of the tables behind them raises DISTIL_BLOB_VERSION.
 */
#ifndef DISTIL_TOKENIZER_BLOB_H
#define DISTIL_TOKENIZER_BLOB_H

#include <stdint.h>

#define DISTIL_BLOB_MAGIC	"distoken"
#define DISTIL_BLOB_VERSION 7

typedef enum DistilBlobSectionId
{
	DISTIL_BLOB_TOKENS,			/* uint32_t [vocabulary + 1], see below */
	DISTIL_BLOB_STRINGS,		/* bytes of all tokens in id order, then texts of added tokens */
	DISTIL_BLOB_MODEL_TRIE,		/* DistilTrieUnit: tokens of the model -> id */
	DISTIL_BLOB_RAW_TRIE,		/* added tokens found in raw text -> index of DistilBlobAdded */
	DISTIL_BLOB_NORM_TRIE,		/* added tokens found in normalised text -> index */
	DISTIL_BLOB_ADDED,			/* DistilBlobAdded */
	DISTIL_BLOB_NORMALIZER,		/* DistilBlobStep */
	DISTIL_BLOB_PRE_TOKENIZER,	/* DistilBlobStep */
	DISTIL_BLOB_SINGLE,			/* DistilBlobPiece: template of one text */
	DISTIL_BLOB_PAIR,			/* DistilBlobPiece: template of two texts */
	DISTIL_BLOB_DECODER,		/* DistilBlobStep, of decoder Sequence */
	DISTIL_BLOB_DATA,			/* bytes that steps point to: patterns, character maps */
	DISTIL_BLOB_SCORES,			/* Unigram: double [vocabulary] */
	DISTIL_BLOB_MERGES,			/* BPE: DistilBlobMerge, a hash table of a power of two */
	DISTIL_BLOB_WORDS,			/* BPE: DistilTrieUnit, bytes of words that are one token -> id */
	DISTIL_BLOB_BYTES,			/* BPE: uint32_t [256], id of each byte */
	DISTIL_BLOB_SECTIONS
} DistilBlobSectionId;

/* An entry of DISTIL_BLOB_TOKENS: where the token begins, and two flags. */
#define DISTIL_TOKEN_OFFSET		0x3FFFFFFFu
#define DISTIL_TOKEN_SPECIAL	0x40000000u
#define DISTIL_TOKEN_HOLE		0x80000000u /* no token has this id */

typedef struct DistilBlobSection
{
	uint64_t	offset;			/* from the blob's start */
	uint64_t	size;			/* bytes */
} DistilBlobSection;

/*
 * Double array.  The child of state s by byte c is i = base[s] ^ c, if the low nine
 * bits of check[i] are 0x100 | c.  No two states share a base.  check >> 9 is the
 * value of the key that ends here plus 1, or 0.  State 0 is the root.
 */
typedef struct DistilTrieUnit
{
	uint32_t	base;			/* 0xFFFFFFFF: no children */
	uint32_t	check;
} DistilTrieUnit;

#define DISTIL_TRIE_LEAF	0xFFFFFFFFu
#define DISTIL_TRIE_USED	0x100u

#define DISTIL_ADDED_SPECIAL		1
#define DISTIL_ADDED_SINGLE_WORD	2
#define DISTIL_ADDED_LSTRIP			4
#define DISTIL_ADDED_RSTRIP			8
#define DISTIL_ADDED_NORMALIZED		16
#define DISTIL_ADDED_OUTSIDE		32	/* the id is beyond the vocabulary: the model's word table has no row
										 * for it */

/* The text lies in the strings behind those of the tokens; the id's own string is the normalised one. */
typedef struct DistilBlobAdded
{
	uint32_t	id;
	uint32_t	flags;
	uint32_t	text;			/* offset in the strings */
	uint32_t	length;
} DistilBlobAdded;

/* One normalizer, pre-tokenizer or decoder; `flags` and the data are the part's own. */
typedef struct DistilBlobStep
{
	uint32_t	kind;
	uint32_t	flags;
	uint32_t	data;			/* offset in DISTIL_BLOB_DATA, a multiple of 8 */
	uint32_t	length;			/* bytes */
} DistilBlobStep;

/* The pair of tokens that merges into `id`; left is DISTIL_MERGE_FREE in a free slot. */
typedef struct DistilBlobMerge
{
	uint32_t	left;
	uint32_t	right;
	uint32_t	rank;
	uint32_t	id;
} DistilBlobMerge;

#define DISTIL_MERGE_FREE	0xFFFFFFFFu
#define DISTIL_MERGE_PROBES	64	/* a pair lies at most so many slots behind its first one */

#define DISTIL_PIECE_SPECIAL	0
#define DISTIL_PIECE_FIRST		1	/* the text */
#define DISTIL_PIECE_SECOND		2	/* the pair */

typedef struct DistilBlobPiece
{
	uint32_t	what;
	int32_t		id;				/* of a special token */
	int32_t		type;
	int32_t		plain_type;		/* when special tokens are not added */
} DistilBlobPiece;

#define DISTIL_PREFIX_BYTES 32

#define DISTIL_BLOB_PARSE_SPECIAL	1	/* flags of the header */
#define DISTIL_BLOB_TRIM			2	/* offsets leave out the blanks of a token */
#define DISTIL_BLOB_TRIM_PREFIX		4	/* ... but not one at the beginning, which was added */
#define DISTIL_BLOB_FALLBACK		8	/* unknown characters become tokens of bytes */
#define DISTIL_BLOB_OUTSIDE			16	/* some added tokens are outside */
#define DISTIL_BLOB_TYPES			32	/* segment ids are passed to the model */
#define DISTIL_BLOB_CLEAN			64	/* decoding takes blanks before punctuation out */

typedef struct DistilTokenizerBlob
{
	char		magic[8];
	uint32_t	version;
	uint32_t	header;			/* sizeof(DistilTokenizerBlob) */
	uint64_t	size;			/* of the whole blob */
	uint32_t	vocabulary;		/* largest id + 1 */
	uint32_t	flags;
	uint32_t	model;			/* kind of the model */
	uint32_t	max_chars;		/* of a word; longer ones are unknown */
	int32_t		unk;
	uint32_t	prefix_length;
	char		prefix[DISTIL_PREFIX_BYTES];	/* of continuing pieces */
	uint32_t	decoder;
	uint32_t	decoder_flags;
	uint32_t	decoder_prefix_length;
	uint32_t	reserved;
	char		decoder_prefix[DISTIL_PREFIX_BYTES];
	double		unknown_score;	/* Unigram: of a character that no piece covers */
	int32_t		special[8];		/* unk, cls, sep, pad, mask, bos, eos, unused */
	DistilBlobSection sections[DISTIL_BLOB_SECTIONS];
} DistilTokenizerBlob;

#endif							/* DISTIL_TOKENIZER_BLOB_H */
