/*
 * fuzz_tokenizer_file.c
 *		Hostile tokenizer files.  An input that begins with '{' or '[' is tokenizer.json, with
 *		'J' vocab.json behind that byte, with 'A', 'X', 'M' or 'C' a SentencePiece model of
 *		ALBERT, XLNet, XLM-R or CamemBERT, any other vocab.txt.  Behind a line "---" lies a
 *		second file: merges.txt with vocab.json, otherwise tokenizer_config.json; behind two
 *		more of them lie special_tokens_map.json and added_tokens.json.  The word table has as
 *		many rows as the input has bytes, modulo 32.  What compiles must open and encode.
 */
#define _GNU_SOURCE 1
#include <stdlib.h>
#include <string.h>

#include "folder.h"
#include "tokenizer.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Part
{
	const uint8_t *data;
	size_t		length;
} Part;

static DistilStatus
read_part(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	(void) err;
	memcpy(buffer, ((const Part *) ctx)->data + offset, bytes);
	return DISTIL_OK;
}

/* Up to the line "---", which is taken away; the newline before it stays with the part. */
static Part
next_part(const uint8_t **data, size_t *size)
{
	const uint8_t *cut = *size > 0 ? memmem(*data, *size, "\n---\n", 5) : NULL;
	Part		part = {*data, cut != NULL ? (size_t) (cut - *data) + 1 : *size};

	*size = cut != NULL ? *size - (size_t) (cut + 5 - *data) : 0;
	*data = cut != NULL ? cut + 5 : NULL;
	return part;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const DistilAllocator *alloc = distil_alloc_system();
	int			table = (int) (size % 32);
	char		kind = size > 0 ? (char) data[0] : '\0';
	const char *config = kind == 'A' ? "{\"tokenizer_class\":\"AlbertTokenizer\"}" :
		kind == 'X' ? "{\"tokenizer_class\":\"XLNetTokenizer\"}" :
		kind == 'M' ? "{\"tokenizer_class\":\"XLMRobertaTokenizer\"}" :
		kind == 'C' ? "{\"tokenizer_class\":\"CamembertTokenizer\"}" : NULL;
	Part		first = next_part(&data, &size);
	const uint8_t *cut = data;
	Part		second = next_part(&data, &size);
	Part		more[2];
	DistilFile	files[4] = {
		{kind == '{' || kind == '[' ? "tokenizer.json" : kind == 'J' ? "vocab.json" :
			config != NULL ? "spiece.model" : "vocab.txt", {read_part, &first, first.length}},
		{kind == 'J' ? "merges.txt" : "tokenizer_config.json", {read_part, &second, second.length}}
	};
	DistilFolder folder = {files, cut != NULL || config != NULL ? 2 : 1};
	DistilBuffer blob;
	DistilTokenizer *tokenizer;
	DistilError err;
	DistilText	text = {"Hello a b [SEP] \xc3\xa9\xe4\xb8\xad x", 21};
	int64_t		max_length;

	for (int i = 0; i < 2 && data != NULL; i++)
	{
		more[i] = next_part(&data, &size);
		if (more[i].length > 0)
			files[folder.nfiles++] = (DistilFile) {i == 0 ? "special_tokens_map.json" : "added_tokens.json",
			{read_part, &more[i], more[i].length}};
	}
	if (kind == 'J' || config != NULL)
	{
		first.data++;
		files[0].reader.size = --first.length;
	}
	if (config != NULL && cut == NULL)
	{
		second.data = (const uint8_t *) config;
		files[1].reader.size = second.length = strlen(config);
	}
	distil_buffer_init(&blob, alloc);
	(void) distil_tokenizer_max_length(&max_length, &folder, alloc, &err);
	if (distil_tokenizer_compile(&blob, &folder, true, false, table, alloc, NULL, &err) == DISTIL_OK)
	{
		DistilEncodeOptions options;
		DistilEncoding e;
		DistilStatus status;

		if (distil_tokenizer_open(&tokenizer, blob.data, blob.length, alloc, &err) != DISTIL_OK)
			abort();
		options = distil_tokenizer_defaults(tokenizer);
		options.offsets = true;
		distil_encoding_init(&e, alloc);
		/* a normalizer that blows texts up is seen when a text comes */
		status = distil_tokenizer_encode(tokenizer, &e, &text, &text, &options, NULL, &err);
		if (status != DISTIL_OK && status != DISTIL_ERR_LIMIT &&
			(status != DISTIL_ERR_ARGUMENT || table == 0))
			abort();
		for (int i = 0; status == DISTIL_OK && i < e.n; i++)
			if (e.ids[i] < 0 || e.ids[i] >= distil_tokenizer_vocabulary(tokenizer))
				abort();
		distil_encoding_reset(&e);
		distil_tokenizer_free(tokenizer);
	}
	distil_buffer_free(&blob);
	return 0;
}
