/*
 * fuzz_tokenizer.c
 *		Any bytes as text: encoded, cut into chunks and decoded by a small tokenizer with
 *		every kind of added token.  The first byte chooses options.
 */
#include <stdlib.h>
#include <string.h>

#include "folder.h"
#include "tokenizer.h"
#include "unicode.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ADDED(id, text, flags) "{\"id\":" #id ",\"content\":\"" text "\"" flags "}"
#define FILE_TEXT(normalizer, pre) \
	"{\"added_tokens\":[" ADDED(0, "[UNK]", ",\"special\":true") "," ADDED(1, "[CLS]", ",\"special\":true") "," \
	ADDED(2, "[SEP]", ",\"special\":true,\"lstrip\":true,\"rstrip\":true") "," ADDED(13, "b b", ",\"normalized\":true,\"rstrip\":true") "," \
	ADDED(14, "<x>", ",\"single_word\":true") "," ADDED(15, " y ", ",\"lstrip\":true") "]," \
	"\"normalizer\":" normalizer ",\"pre_tokenizer\":{\"type\":\"" pre "\"}," \
	"\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"[CLS]\",1],\"sep\":[\"[SEP]\",2]},\"decoder\":{\"type\":\"WordPiece\"}," \
	"\"model\":{\"type\":\"WordPiece\",\"max_input_chars_per_word\":8,\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"a\":3,\"##a\":4,\"ab\":5,\"##b\":6," \
	"\"b\":7,\"e\":8,\"##\\u0301\":9,\".\":10,\"\\u4e2d\":11,\"##abc\":12}}}"

static const char *const files[] = {
	FILE_TEXT("{\"type\":\"BertNormalizer\"}", "BertPreTokenizer"),
	FILE_TEXT("{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},{\"type\":\"Strip\"}]}",
			  "Whitespace"),
	("{\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
	 "\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"a\":1,\"##a\":2,\"##\\u1bab\":3}}}")
};

#define NFILES (sizeof(files) / sizeof(files[0]))

static DistilStatus
read_text(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	(void) err;
	memcpy(buffer, (const char *) ctx + offset, bytes);
	return DISTIL_OK;
}

static DistilTokenizer *
open_one(DistilBuffer *blob, const char *text)
{
	DistilFile	file = {"tokenizer.json", {read_text, (void *) (uintptr_t) text, strlen(text)}};
	DistilFolder folder = {&file, 1};
	DistilTokenizer *tokenizer;
	DistilError err;

	distil_buffer_init(blob, distil_alloc_system());
	if (distil_tokenizer_compile(blob, &folder, true, distil_alloc_system(), NULL, &err) != DISTIL_OK ||
		distil_tokenizer_open(&tokenizer, blob->data, blob->length, distil_alloc_system(), &err) != DISTIL_OK)
		abort();
	return tokenizer;
}

static void
check_encoding(const DistilEncoding *e, const DistilText *text, int vocabulary)
{
	for (int i = 0; i < e->n; i++)
		if (e->ids[i] < 0 || e->ids[i] >= vocabulary || e->starts[i] > e->ends[i] || e->starts[i] < 0 ||
			(size_t) e->ends[i] > text->length)
			abort();
}

/* Chunks fit, go forward, and leave out only blanks. */
static void
check_chunks(const DistilTokenizer *tokenizer, const DistilText *text, int max_tokens, int overlap)
{
	DistilChunk *chunks;
	int			n;
	DistilError err;
	size_t		covered = 0;

	if (distil_tokenizer_chunk(tokenizer, &chunks, &n, text, max_tokens, overlap, distil_alloc_system(), NULL,
							   &err) != DISTIL_OK)
		return;
	for (int i = 0; i <= n; i++)
	{
		size_t		start = i < n ? chunks[i].byte_start : text->length;

		for (size_t k = covered; k < start;)
		{
			uint32_t	cp;
			int			bytes = distil_utf8_decode(&cp, (const uint8_t *) text->data + k,
												   (const uint8_t *) text->data + text->length);

			if (bytes == 0 || (distil_char_props(cp).flags & DISTIL_CHAR_SPACE) == 0)
				abort();
			k += (size_t) bytes;
		}
		if (i < n && (chunks[i].tokens > max_tokens || chunks[i].byte_end <= covered))
			abort();
		covered = i < n ? chunks[i].byte_end : covered;
	}
	distil_release(distil_alloc_system(), chunks);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static DistilTokenizer *tokenizers[NFILES];
	static DistilBuffer blobs[NFILES];
	unsigned	how;
	const DistilAllocator *alloc = distil_alloc_system();
	const DistilTokenizer *tokenizer;
	DistilText	text;
	DistilEncodeOptions options;
	DistilEncoding e;
	DistilError err;
	char	   *decoded;
	size_t		length;

	if (size == 0)
		return 0;
	for (size_t i = 0; i < NFILES; i++)
		if (tokenizers[i] == NULL)
			tokenizers[i] = open_one(&blobs[i], files[i]);
	how = data[0];
	text.data = (const char *) data + 1;
	text.length = size - 1;
	tokenizer = tokenizers[how % NFILES];
	options = distil_tokenizer_defaults(tokenizer);
	options.offsets = true;
	options.parse_special = (how & 16) != 0;
	options.max_tokens = (how & 32) != 0 ? 7 : 0;
	options.truncation = DISTIL_TRUNCATE_LONGEST_FIRST;
	distil_encoding_init(&e, alloc);
	if (distil_tokenizer_encode(tokenizer, &e, &text, (how & 64) != 0 ? &text : NULL, &options, NULL,
								&err) == DISTIL_OK)
	{
		check_encoding(&e, &text, distil_tokenizer_vocabulary(tokenizer));
		if (distil_tokenizer_decode(tokenizer, &decoded, &length, e.ids, e.n, true, alloc, &err) == DISTIL_OK)
			distil_release(alloc, decoded);
	}
	distil_encoding_reset(&e);
	if (size < 2000)
		check_chunks(tokenizer, &text, 4 + (int) (how % 5), (int) (how % 2));
	return 0;
}
