/*
 * fuzz_tokenizer.c
 *		Any bytes as text: encoded, cut into chunks and decoded by small tokenizers of all
 *		models with every kind of added token.  The first byte chooses options.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "folder.h"
#include "tokenizer.h"
#include "unicode.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ADDED(id, text, flags) "{\"id\":" #id ",\"content\":\"" text "\"" flags "}"
#define FILE_TEXT(normalizer, pre) \
	"{\"added_tokens\":[" ADDED(0, "[UNK]", ",\"special\":true") "," ADDED(1, "[CLS]", ",\"special\":true") \
		"," \
	ADDED(2, "[SEP]", ",\"special\":true,\"lstrip\":true,\"rstrip\":true") \
		"," ADDED(13, "b b", ",\"normalized\":true,\"rstrip\":true") "," \
	ADDED(14, "<x>", ",\"single_word\":true") "," ADDED(15, " y ", ",\"lstrip\":true") "]," \
	"\"normalizer\":" normalizer ",\"pre_tokenizer\":{\"type\":\"" pre "\"}," \
	"\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"[CLS]\",1],\"sep\":[\"[SEP]\",2]}," \
	"\"decoder\":{\"type\":\"WordPiece\"}," \
	"\"model\":{\"type\":\"WordPiece\",\"max_input_chars_per_word\":8,\"vocab\":{\"[UNK]\":0,\"[CLS]\":1," \
	"\"[SEP]\":2,\"a\":3,\"##a\":4,\"ab\":5,\"##b\":6," \
	"\"b\":7,\"e\":8,\"##\\u0301\":9,\".\":10,\"\\u4e2d\":11,\"##abc\":12}}}"

/* Maps "\r" to a blank, "e" and "e\u0301" to "\u00e9", U+00AD to nothing. */
#define CHARSMAP \
	"AAQAAAAEAAAAAACAAgAAgAUAAIAIAACAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA01AAAAAAAAAAAAAAAAAAAAAAAA" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABlmQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
	"AAAAAAAAAAAAAAAAgQ0CAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACtoQIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAMIIAwAAAAAA" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAzDwDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAgAMOpAMOpAAA="
#define META "{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\"}"
#define UNIGRAM(normalizer, pre) \
	"{\"added_tokens\":[" ADDED(0, "<unk>", ",\"special\":true") \
		"," ADDED(1, "<s>", ",\"special\":true,\"lstrip\":true,\"rstrip\":true") "," \
	ADDED(10, "b b", ",\"normalized\":true") "]," \
	"\"normalizer\":" normalizer ",\"pre_tokenizer\":" pre ",\"decoder\":" META "," \
	"\"post_processor\":{\"type\":\"RobertaProcessing\",\"cls\":[\"<s>\",1],\"sep\":[\"<s>\",1]}," \
	"\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"byte_fallback\":true," \
	"\"vocab\":[[\"<unk>\",0],[\"<s>\",0],[\"\\u2581\",-2],[\"a\",-3]," \
	"[\"\\u2581a\",-4],[\"aa\",-5],[\"b\",-3.5],[\"\\u00e9\",-6],[\"\\u4e2d\",-7],[\"ab\\u2581\",-8]]}}"

static const char *const files[] = {
	FILE_TEXT("{\"type\":\"BertNormalizer\"}", "BertPreTokenizer"),
	FILE_TEXT("{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},{\"type\":\"Strip\"}]}",
			  "Whitespace"),
	("{\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
	 "\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"a\":1,\"##a\":2,\"##\\u1bab\":3}}}"),
	UNIGRAM("{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"" CHARSMAP "\"}",
			"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"}," META "]}"),
	UNIGRAM("{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Nmt\"},{\"type\":\"NFKC\"},"
			"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"bb\"}]}", META),
	UNIGRAM("{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Prepend\","
			"\"prepend\":\"ab\"}]}",
			"{\"type\":\"Digits\"}"),
	"\"add_prefix_space\":true", "\"add_prefix_space\":false,\"use_regex\":false"
};

#define NFILES (sizeof(files) / sizeof(files[0]))
#define NWHOLE (NFILES - 2)		/* the last two are fields of ByteLevel in a file of model BPE */

/* A byte-level vocabulary: all bytes, and some merges. */
static char *
bpe_file(char *text, size_t size, const char *level)
{
	size_t      at = (size_t) snprintf(text, size, "{\"added_tokens\":[" ADDED(261, "<s>",
			",\"special\":true,\"lstrip\":true") ","
									   ADDED(262, "b b", ",\"normalized\":true") "],"
									   "\"pre_tokenizer\":{\"type\":\"ByteLevel\",%s},"
									   "\"decoder\":{\"type\":\"ByteLevel\"},"
									   "\"post_processor\":{\"type\":\"RobertaProcessing\","
									   "\"cls\":[\"<s>\",261],\"sep\":[\"<s>\",261]},"
									   "\"model\":{\"type\":\"BPE\",\"merges\":[\"a b\",\"ab c\",\"a "
									   "a\",\"\\u0120 a\",\"aa aa\"],\"vocab\":{",
									   level);

	for (int byte = 0; byte < 256; byte++)
	{
		bool		plain = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
		int			other = byte <= 32 ? byte : byte <= 160 ? byte - 94 : 67;

		at += (size_t) snprintf(text + at, size - at, "\"\\u%04x\":%d,", plain ? byte : 0x100 + other, byte);
	}
	snprintf(text + at, size - at, "\"ab\":256,\"abc\":257,\"aa\":258,\"\\u0120a\":259,\"aaaa\":260}}}");
	return text;
}

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
	if (distil_tokenizer_compile(blob, &folder, true, false, 0, distil_alloc_system(), NULL,
								 &err) != DISTIL_OK ||
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
	static char text_of_bpe[16384];
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
			tokenizers[i] = open_one(&blobs[i], i < NWHOLE ? files[i]
									 : bpe_file(text_of_bpe, sizeof(text_of_bpe), files[i]));
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
