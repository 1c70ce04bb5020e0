/*
 * fuzz_tokenizer_file.c
 *		Hostile tokenizer files.  An input that begins with '{' or '[' is tokenizer.json, any
 *		other is vocab.txt, with tokenizer_config.json behind a line "---" if there is one.
 *		What compiles must open and encode.
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

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const DistilAllocator *alloc = distil_alloc_system();
	const uint8_t *cut = size > 0 ? memmem(data, size, "\n---\n", 5) : NULL;
	Part		first = {data, cut != NULL ? (size_t) (cut - data) + 1 : size};
	Part		second = {cut != NULL ? cut + 5 : NULL, cut != NULL ? size - (size_t) (cut - data) - 5 : 0};
	DistilFile	files[2] = {
		{size > 0 && (data[0] == '{' || data[0] == '[') ? "tokenizer.json" : "vocab.txt", {read_part, &first,
																						   first.length}},
		{"tokenizer_config.json", {read_part, &second, second.length}}
	};
	DistilFolder folder = {files, cut != NULL ? 2 : 1};
	DistilBuffer blob;
	DistilTokenizer *tokenizer;
	DistilError err;
	DistilText	text = {"Hello a b [SEP] \xc3\xa9\xe4\xb8\xad x", 21};
	int64_t		max_length;

	distil_buffer_init(&blob, alloc);
	(void) distil_tokenizer_max_length(&max_length, &folder, alloc, &err);
	if (distil_tokenizer_compile(&blob, &folder, true, alloc, NULL, &err) == DISTIL_OK)
	{
		DistilEncodeOptions options;
		DistilEncoding e;

		if (distil_tokenizer_open(&tokenizer, blob.data, blob.length, alloc, &err) != DISTIL_OK)
			abort();
		options = distil_tokenizer_defaults(tokenizer);
		options.offsets = true;
		distil_encoding_init(&e, alloc);
		if (distil_tokenizer_encode(tokenizer, &e, &text, &text, &options, NULL, &err) != DISTIL_OK)
			abort();
		for (int i = 0; i < e.n; i++)
			if (e.ids[i] < 0 || e.ids[i] >= distil_tokenizer_vocabulary(tokenizer))
				abort();
		distil_encoding_reset(&e);
		distil_tokenizer_free(tokenizer);
	}
	distil_buffer_free(&blob);
	return 0;
}
