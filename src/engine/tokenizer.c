/*
 * tokenizer.c
 *		The tables of parts, opening a blob, facts of a tokenizer, decoding.
 *
 * A new normalizer, pre-tokenizer, model, post-processor or decoder is one file and one
 * line in a table here.  The rule a newcomer would break: a blob lies in a file of the
 * server, so every number read from it is checked, here (sections) or at its use (ids,
 * offsets).
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <string.h>

/* ---------- tables ---------- */

static const DistilNormalizerPart *const normalizers[] = {
	&distil_normalizer_bert,
	&distil_normalizer_lowercase,
	&distil_normalizer_nfd,
	&distil_normalizer_accents,
	&distil_normalizer_strip,
	&distil_normalizer_nfkd,
	&distil_normalizer_nfc,
	&distil_normalizer_nfkc,
	&distil_normalizer_nmt,
	&distil_normalizer_replace,
	&distil_normalizer_prepend,
	&distil_normalizer_charsmap,
};

static const DistilPreTokenizerPart *const pre_tokenizers[] = {
	&distil_pre_bert,
	&distil_pre_whitespace,
	&distil_pre_split,
	&distil_pre_punctuation,
	&distil_pre_digits,
	&distil_pre_bytes,
	&distil_pre_metaspace,
	&distil_pre_pattern,
};

static const DistilModelPart *const models[] = {
	&distil_model_wordpiece,
	&distil_model_bpe,
	&distil_model_unigram,
};

static const DistilPostPart *const posts[] = {
	&distil_post_template,
	&distil_post_bert,
	&distil_post_roberta,
	&distil_post_bytes,
	&distil_post_sequence,
};

static const DistilDecoderPart *const decoders[] = {
	&distil_decoder_plain,
	&distil_decoder_wordpiece,
	&distil_decoder_bytes,
	&distil_decoder_metaspace,
	&distil_decoder_sequence,
	&distil_decoder_replace,
	&distil_decoder_strip,
	&distil_decoder_fallback,
	&distil_decoder_fuse,
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

#define FIND_TYPE(table, name) \
	do { \
		for (size_t i = 0; (name) != NULL && i < COUNT(table); i++) \
			if ((table)[i]->type != NULL && strcmp((table)[i]->type, name) == 0) \
				return (table)[i]; \
		return NULL; \
	} while (0)

#define FIND_KIND(table, number) \
	do { \
		for (size_t i = 0; i < COUNT(table); i++) \
			if ((table)[i]->kind == (number)) \
				return (table)[i]; \
		return NULL; \
	} while (0)

const DistilNormalizerPart *
distil_normalizer_find(const char *type)
{
	FIND_TYPE(normalizers, type);
}

const DistilPreTokenizerPart *
distil_pre_tokenizer_find(const char *type)
{
	FIND_TYPE(pre_tokenizers, type);
}

const DistilModelPart *
distil_model_part_find(const char *type)
{
	FIND_TYPE(models, type);
}

const DistilPostPart *
distil_post_find(const char *type)
{
	FIND_TYPE(posts, type);
}

const DistilDecoderPart *
distil_decoder_find(const char *type)
{
	FIND_TYPE(decoders, type);
}

const DistilNormalizerPart *
distil_normalizer_kind(uint32_t kind)
{
	FIND_KIND(normalizers, kind);
}

const DistilPreTokenizerPart *
distil_pre_tokenizer_kind(uint32_t kind)
{
	FIND_KIND(pre_tokenizers, kind);
}

const DistilModelPart *
distil_model_part_kind(uint32_t kind)
{
	FIND_KIND(models, kind);
}

const DistilDecoderPart *
distil_decoder_kind(uint32_t kind)
{
	FIND_KIND(decoders, kind);
}

/* ---------- open ---------- */

/* The section as an array of items of `size` bytes; false when it does not lie inside. */
static bool
section(const DistilTokenizerBlob *blob, DistilBlobSectionId id, size_t size, const void **data, size_t *n)
{
	const DistilBlobSection *s = &blob->sections[id];

	if (s->offset % 8 != 0 || s->offset < sizeof(*blob) || s->offset > blob->size ||
		s->size > blob->size - s->offset || s->size % size != 0)
		return false;
	*data = (const char *) blob + s->offset;
	*n = s->size / size;
	return true;
}

static bool
open_trie(const DistilTokenizerBlob *blob, DistilBlobSectionId id, DistilTrie *trie)
{
	const void *data;
	size_t		n;

	if (!section(blob, id, sizeof(DistilTrieUnit), &data, &n) || n < 256 || n > UINT32_MAX)
		return false;
	trie->units = data;
	trie->n = (uint32_t) n;
	return true;
}

static bool
open_small(const DistilTokenizerBlob *blob, DistilBlobSectionId id, size_t size, size_t max,
		   const void **data, int *n)
{
	size_t		count;

	if (!section(blob, id, size, data, &count) || count > max)
		return false;
	*n = (int) count;
	return true;
}

static bool
check_template(const DistilTokenizerBlob *blob, const DistilBlobPiece *pieces, int n, int nsequences)
{
	int			counts[3] = {0, 0, 0};

	for (int i = 0; i < n; i++)
	{
		if (pieces[i].what > DISTIL_PIECE_SECOND ||
			(pieces[i].what == DISTIL_PIECE_SPECIAL && (uint32_t) pieces[i].id >= blob->vocabulary))
			return false;
		counts[pieces[i].what]++;
	}
	return counts[DISTIL_PIECE_FIRST] == 1 && counts[DISTIL_PIECE_SECOND] == nsequences - 1;
}

/* What the model needs beyond its trie. */
static bool
open_model(DistilTokenizer *t, const DistilTokenizerBlob *blob)
{
	const void *data;
	size_t		n;

	if (!section(blob, DISTIL_BLOB_DATA, 1, &data, &n))
		return false;
	t->data = data;
	t->data_size = n;
	if (!open_small(blob, DISTIL_BLOB_DECODER, sizeof(DistilBlobStep), DISTIL_MAX_STEPS, &data, &t->ndecoder))
		return false;
	t->decoder = data;
	if (blob->model == DISTIL_MODEL_UNIGRAM)
	{
		if (!section(blob, DISTIL_BLOB_SCORES, sizeof(double), &data, &n) || n > blob->vocabulary)
			return false;
		t->scores = data;
		t->nscores = (uint32_t) n;
	}
	if (blob->model == DISTIL_MODEL_BPE)
	{
		if (!section(blob, DISTIL_BLOB_MERGES, sizeof(DistilBlobMerge), &data, &n) || n == 0 ||
			n > UINT32_MAX || (n & (n - 1)) != 0)
			return false;
		t->merges = data;
		t->merge_mask = (uint32_t) n - 1;
		if (!section(blob, DISTIL_BLOB_BYTES, sizeof(uint32_t), &data, &n) || n != 256)
			return false;
		t->bytes = data;
		return open_trie(blob, DISTIL_BLOB_WORDS, &t->words);
	}
	return true;
}

static bool
open_sections(DistilTokenizer *t, const DistilTokenizerBlob *blob)
{
	const void *data;
	size_t		n;
	int			small;

	if (!section(blob, DISTIL_BLOB_TOKENS, sizeof(uint32_t), &data, &n) || n != (size_t) blob->vocabulary + 1)
		return false;
	t->tokens = data;
	if (!section(blob, DISTIL_BLOB_STRINGS, 1, &data, &n))
		return false;
	t->strings = data;
	t->strings_size = n;
	if (!open_trie(blob, DISTIL_BLOB_MODEL_TRIE, &t->model) ||
		!open_trie(blob, DISTIL_BLOB_RAW_TRIE, &t->raw) ||
		!open_trie(blob, DISTIL_BLOB_NORM_TRIE, &t->norm))
		return false;
	if (!open_small(blob, DISTIL_BLOB_ADDED, sizeof(DistilBlobAdded), DISTIL_MAX_ADDED, &data, &small))
		return false;
	t->added = data;
	t->nadded = (uint32_t) small;
	for (uint32_t i = 0; i < t->nadded; i++)
	{
		bool		outside = (t->added[i].flags & DISTIL_ADDED_OUTSIDE) != 0;

		/* without the blob's flag nobody would look for such a token in an encoding */
		if (outside != (t->added[i].id >= blob->vocabulary) || t->added[i].id > INT32_MAX ||
			(outside && (blob->flags & DISTIL_BLOB_OUTSIDE) == 0))
			return false;
	}
	if (!open_small(blob, DISTIL_BLOB_NORMALIZER, sizeof(DistilBlobStep), DISTIL_MAX_STEPS, &data,
					&t->nnormalizer))
		return false;
	t->normalizer = data;
	if (!open_small(blob, DISTIL_BLOB_PRE_TOKENIZER, sizeof(DistilBlobStep), DISTIL_MAX_STEPS, &data,
					&t->npre))
		return false;
	t->pre = data;
	if (!open_small(blob, DISTIL_BLOB_SINGLE, sizeof(DistilBlobPiece), DISTIL_MAX_PIECES, &data, &t->nsingle))
		return false;
	t->single = data;
	if (!open_small(blob, DISTIL_BLOB_PAIR, sizeof(DistilBlobPiece), DISTIL_MAX_PIECES, &data, &t->npair))
		return false;
	t->pair = data;
	return open_model(t, blob) && check_template(blob, t->single, t->nsingle, 1) &&
		check_template(blob, t->pair, t->npair, 2);
}

static bool
check_numbers(const DistilTokenizerBlob *blob)
{
	if (blob->vocabulary == 0 || blob->vocabulary > DISTIL_MAX_VOCABULARY ||
		(blob->unk < 0 ? blob->model != DISTIL_MODEL_BPE : (uint32_t) blob->unk >= blob->vocabulary) ||
		blob->max_chars > DISTIL_MAX_WORD_CHARS ||
		blob->prefix_length > DISTIL_PREFIX_BYTES || blob->decoder_prefix_length > DISTIL_PREFIX_BYTES)
		return false;
	for (int i = 0; i < 8; i++)
		if (blob->special[i] < -1 || blob->special[i] >= (int32_t) blob->vocabulary)
			return false;
	return true;
}

static void
derive(DistilTokenizer *t)
{
	const DistilTokenizerBlob *blob = t->blob;
	uint32_t	state = 0;
	uint32_t	i = 0;

	while (i < blob->prefix_length && distil_trie_step(&t->model, &state, (uint8_t) blob->prefix[i]))
		i++;
	t->continuation = i == blob->prefix_length ? state : 0;
	for (int c = 0; c < 256; c++)
	{
		state = 0;
		t->raw_first[c] = distil_trie_step(&t->raw, &state, (uint8_t) c);
		state = 0;
		t->norm_first[c] = distil_trie_step(&t->norm, &state, (uint8_t) c);
		t->has_norm |= t->norm_first[c];
	}
	t->fused = t->nnormalizer == 1 && t->normalizer[0].kind == DISTIL_NORMALIZER_BERT &&
		t->npre == 1 && t->pre[0].kind == DISTIL_PRE_BERT && !t->has_norm && t->model_part->span == NULL;
	t->plain_bytes = t->nnormalizer == 0 && t->npre == 1 && t->pre[0].kind == DISTIL_PRE_BYTES &&
		t->bytes != NULL;
	t->special.unk = blob->special[0];
	t->special.cls = blob->special[1];
	t->special.sep = blob->special[2];
	t->special.pad = blob->special[3];
	t->special.mask = blob->special[4];
	t->special.bos = blob->special[5];
	t->special.eos = blob->special[6];
	t->special.added_single = t->nsingle - 1;
	t->special.added_pair = t->npair - 2;
}

DistilStatus
distil_tokenizer_open(DistilTokenizer **tokenizer, const void *blob, size_t size,
					  const DistilAllocator *alloc, DistilError *err)
{
	const DistilTokenizerBlob *header = blob;
	DistilTokenizer *t;

	*tokenizer = NULL;
	if ((uintptr_t) blob % 8 != 0)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "compiled tokenizer is not aligned to 8 bytes");
	if (size < sizeof(*header) || memcmp(header->magic, DISTIL_BLOB_MAGIC, 8) != 0)
		return distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has no valid header");
	if (header->version != DISTIL_BLOB_VERSION || header->header != sizeof(*header))
		return distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has version %u instead of %d",
						   header->version, DISTIL_BLOB_VERSION);
	if (header->size > size || !check_numbers(header))
		return distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has numbers out of range");
	t = distil_alloc_array(alloc, 1, sizeof(*t));
	if (t == NULL)
		return distil_fail_memory(err, sizeof(*t));
	t->blob = header;
	t->alloc = alloc;
	t->model_part = distil_model_part_kind(header->model);
	t->decoder_part = distil_decoder_kind(header->decoder);
	if (t->model_part == NULL || t->decoder_part == NULL || !open_sections(t, header))
	{
		distil_release(alloc, t);
		return distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has sections out of range");
	}
	derive(t);
	*tokenizer = t;
	return DISTIL_OK;
}

void
distil_tokenizer_free(DistilTokenizer *tokenizer)
{
	if (tokenizer != NULL)
		distil_release(tokenizer->alloc, tokenizer);
}

/* ---------- facts ---------- */

DistilEncodeOptions
distil_tokenizer_defaults(const DistilTokenizer *tokenizer)
{
	DistilEncodeOptions options = {
		.add_special = true,
		.parse_special = (tokenizer->blob->flags & DISTIL_BLOB_PARSE_SPECIAL) != 0
	};

	return options;
}

int
distil_tokenizer_vocabulary(const DistilTokenizer *tokenizer)
{
	return (int) tokenizer->blob->vocabulary;
}

const char *
distil_tokenizer_token(const DistilTokenizer *tokenizer, int32_t id, size_t *length)
{
	uint32_t	start;
	uint32_t	end;

	*length = 0;
	if (id < 0 || (uint32_t) id >= tokenizer->blob->vocabulary ||
		(tokenizer->tokens[id] & DISTIL_TOKEN_HOLE) != 0)
		return NULL;
	start = tokenizer->tokens[id] & DISTIL_TOKEN_OFFSET;
	end = tokenizer->tokens[id + 1] & DISTIL_TOKEN_OFFSET;
	if (start > end || end > tokenizer->strings_size)
		return NULL;
	*length = end - start;
	return tokenizer->strings + start;
}

int32_t
distil_tokenizer_id(const DistilTokenizer *tokenizer, const char *token, size_t length)
{
	uint32_t	state = 0;
	size_t		i = 0;
	int32_t		id;

	while (i < length && distil_trie_step(&tokenizer->model, &state, (uint8_t) token[i]))
		i++;
	id = length > 0 && i == length ? distil_trie_value(&tokenizer->model, state) : -1;
	if (id >= 0 && (uint32_t) id < tokenizer->blob->vocabulary)
		return id;
	for (uint32_t k = 0; k < tokenizer->nadded; k++)
	{
		const DistilBlobAdded *added = &tokenizer->added[k];

		if (added->length == length && added->id < tokenizer->blob->vocabulary &&
			added->text <= tokenizer->strings_size && length <= tokenizer->strings_size - added->text &&
			memcmp(tokenizer->strings + added->text, token, length) == 0)
			return (int32_t) added->id;
	}
	return -1;
}

const DistilSpecialIds *
distil_tokenizer_special(const DistilTokenizer *tokenizer)
{
	return &tokenizer->special;
}

int32_t
distil_tokenizer_single_type(const DistilTokenizer *tokenizer)
{
	int32_t		type = (tokenizer->blob->flags & DISTIL_BLOB_TYPES) != 0 ? 0 : -1;

	for (int i = 0; type >= 0 && i < tokenizer->nsingle; i++)
		if (tokenizer->single[i].type > type)
			type = tokenizer->single[i].type;
	return type;
}

bool
distil_tokenizer_is_special(const DistilTokenizer *tokenizer, int32_t id)
{
	return id >= 0 && (uint32_t) id < tokenizer->blob->vocabulary &&
		(tokenizer->tokens[id] & DISTIL_TOKEN_SPECIAL) != 0;
}

/* ---------- decode ---------- */

/* Ids without a token are left out, as the reference does. */
DistilStatus
distil_tokenizer_decode(const DistilTokenizer *tokenizer, char **text, size_t *length,
						const int32_t *ids, int n, bool skip_special,
						const DistilAllocator *alloc, DistilError *err)
{
	DistilBuffer out;
	DistilStatus status = DISTIL_OK;
	bool		first = true;

	*text = NULL;
	*length = 0;
	distil_buffer_init(&out, alloc);
	for (int i = 0; i < n && status == DISTIL_OK; i++)
	{
		size_t		bytes;
		const char *token = distil_tokenizer_token(tokenizer, ids[i], &bytes);

		if (token == NULL || (skip_special && distil_tokenizer_is_special(tokenizer, ids[i])))
			continue;
		status = tokenizer->decoder_part->token(tokenizer, &out, token, bytes, first, err);
		first = false;
	}
	if (status == DISTIL_OK && tokenizer->decoder_part->finish != NULL)
		status = tokenizer->decoder_part->finish(tokenizer, &out, err);
	if ((tokenizer->blob->flags & DISTIL_BLOB_CLEAN) != 0)
		distil_clean_text(&out);
	if (status == DISTIL_OK)
	{
		*text = distil_alloc_string(alloc, out.data != NULL ? out.data : "", out.length);
		*length = out.length;
		if (*text == NULL)
			status = distil_fail_memory(err, out.length + 1);
	}
	distil_buffer_free(&out);
	return status;
}
