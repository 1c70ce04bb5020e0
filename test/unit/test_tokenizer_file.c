/*
 * test_tokenizer_file.c
 *		What the readers of tokenizer.json and vocab.txt accept, and what they refuse by name.
 */
#include "check.h"

#include "folder.h"
#include "tokenizer.h"
#include "tokenizer_memory.h"
#include "tokenizer_parts.h"

#define VOCAB "\"vocab\":{\"[UNK]\":0,\"a\":1}"
#define MODEL "\"model\":{\"type\":\"WordPiece\"," VOCAB "}"
#define GPT2_PATTERN \
	"\"'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|\\\\s+\""
#define SPLIT_LEVEL(more) \
	"\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\"," \
	"\"behavior\":\"Isolated\"," \
	"\"pattern\":{\"Regex\":" GPT2_PATTERN "}},{\"type\":\"ByteLevel\"" more "}]}"
#define PRE "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}"

static void
check_file(const char *name, const char *json, DistilStatus want, const char *message)
{
	Memory		data = {json, strlen(json)};
	char	   *blob;
	size_t		size;
	DistilError err = {{0}, {0}, {0}};
	DistilStatus got = compile_files(&blob, &size, name, &data, NULL, NULL, &counting, &err);

	CHECK_MSG(got == want, "%s: status %d, %s", json, got, err.message);
	if (want != DISTIL_OK)
		CHECK_MSG(strstr(err.message, message) != NULL, "%s: %s", json, err.message);
	free(blob);
}

static void
test_files(void)
{
	static const struct
	{
		DistilStatus status;
		const char *json;
		const char *message;
	}			cases[] = {
		{DISTIL_OK, "{" PRE "," MODEL "}", ""},
		{DISTIL_OK, "{\"model\":{\"max_input_chars_per_word\":5," VOCAB "}," PRE "}", ""},
		{DISTIL_ERR_TEXT_FILE, "[]", "not an object"},
		{DISTIL_ERR_TEXT_FILE, "{", ""},
		{DISTIL_ERR_TEXT_FILE, "{" PRE "}", "no model"},
		{DISTIL_OK, "{" MODEL "}", ""},
		{DISTIL_ERR_TEXT_FILE, "{\"model\":{\"type\":\"BPE\"}," PRE "}", "no list \"merges\""},
		{DISTIL_ERR_TEXT_FILE, "{\"model\":{\"merges\":[]}," PRE "}", "no object of tokens"},
		{DISTIL_ERR_UNSUPPORTED, "{\"model\":{\"vocab\":[]}," PRE "}", "unk_id"},
		{DISTIL_ERR_UNSUPPORTED, "{\"model\":{\"type\":\"WordLevel\"," VOCAB "}," PRE "}",
		 "model \"WordLevel\""},
		{DISTIL_ERR_UNSUPPORTED, "{\"model\":{\"type\":\"WordPiece\",\"dropout\":1," VOCAB "}," PRE "}",
		 "\"dropout\""},
		{DISTIL_ERR_UNSUPPORTED, "{\"surprise\":1," PRE "," MODEL "}", "\"surprise\""},
		{DISTIL_ERR_UNSUPPORTED, "{\"version\":\"2.0\"," PRE "," MODEL "}", "\"2.0\""},
		{DISTIL_ERR_UNSUPPORTED, "{\"normalizer\":{\"type\":\"BadOne\"}," PRE "," MODEL "}",
		 "normalizer \"BadOne\""},
		{DISTIL_ERR_UNSUPPORTED, "{\"pre_tokenizer\":{\"type\":\"ByteLevel\"}," MODEL "}",
		 "pre_tokenizer \"ByteLevel\""},
		{DISTIL_ERR_UNSUPPORTED, "{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}," MODEL "}",
		 "pre_tokenizer \"UnicodeScripts\""},
		{DISTIL_ERR_TEXT_FILE, "{\"post_processor\":{\"type\":\"RobertaProcessing\"}," PRE "," MODEL "}",
		 "no pair"},
		{DISTIL_ERR_UNSUPPORTED, "{\"post_processor\":{\"type\":\"OtherProcessing\"}," PRE "," MODEL "}",
		 "\"OtherProcessing\""},
		{DISTIL_ERR_UNSUPPORTED, "{\"decoder\":{\"type\":\"CTC\"}," PRE "," MODEL "}", "decoder \"CTC\""},
		{DISTIL_ERR_UNSUPPORTED,
		 "{\"pre_tokenizer\":{\"type\":\"Punctuation\",\"behavior\":\"Removed\"}," MODEL "}", "\"Removed\""},
		{DISTIL_ERR_TEXT_FILE, "{\"pre_tokenizer\":{\"typo\":1}," MODEL "}", "no type"},
		{DISTIL_ERR_TEXT_FILE, "{\"pre_tokenizer\":7," MODEL "}", "not an object"},
		{DISTIL_ERR_TEXT_FILE, "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":1}}," PRE "}",
		 "no unknown token"},
		{DISTIL_ERR_TEXT_FILE, "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}," PRE "}",
		 "empty vocabulary"},
		{DISTIL_ERR_TEXT_FILE,
		 "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"a\":-1}}," PRE "}", "has no id"},
		{DISTIL_ERR_TEXT_FILE,
		 "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"a\":4000000}}," PRE "}", "has no id"},
		{DISTIL_ERR_TEXT_FILE,
		 "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"a\":\"b\"}}," PRE "}", "has no id"},
		{DISTIL_ERR_TEXT_FILE,
		 "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"a\":1,\"b\":1}}," PRE "}",
			"more than one token"},
		{DISTIL_OK, "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"a\":7,\"\":2}}," PRE "}",
		 ""},
		{DISTIL_ERR_TEXT_FILE, "{\"added_tokens\":[{\"id\":5,\"content\":\"x\"}]," PRE "," MODEL "}",
		 "has id 5"},
		{DISTIL_OK, "{\"added_tokens\":[{\"id\":2,\"content\":\"x\"}]," PRE "," MODEL "}", ""},
		{DISTIL_ERR_TEXT_FILE, "{\"added_tokens\":[{\"id\":2,\"content\":\"\"}]," PRE "," MODEL "}",
		 "0 bytes"},
		{DISTIL_ERR_TEXT_FILE, "{\"added_tokens\":[{\"id\":2}]," PRE "," MODEL "}", "no content"},
		{DISTIL_ERR_TEXT_FILE, "{\"added_tokens\":[5]," PRE "," MODEL "}", "no content"},
		{DISTIL_ERR_TEXT_FILE,
		 "{\"added_tokens\":[{\"id\":2,\"content\":\"x\",\"special\":3}]," PRE "," MODEL "}", "special"},
		{DISTIL_ERR_UNSUPPORTED,
		 "{\"added_tokens\":[{\"id\":2,\"content\":\"x\",\"odd\":3}]," PRE "," MODEL "}", "\"odd\""},
		{DISTIL_ERR_UNSUPPORTED,
		 "{\"added_tokens\":[{\"id\":2,\"content\":\" \",\"normalized\":true}],\"normalizer\":"
		"{\"type\":\"Strip\"}," PRE "," MODEL "}", "leaves nothing"},
		{DISTIL_ERR_TEXT_FILE,
		 "{\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"x\",9],\"cls\":[\"x\",1]}," PRE
		 "," MODEL "}", "id 9"},
		{DISTIL_ERR_TEXT_FILE,
		 "{\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"x\"],\"cls\":[\"x\",1]}," PRE "," MODEL
		 "}", "\"sep\""},
		{DISTIL_ERR_UNSUPPORTED,
		 "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[],\"pair\":[]}," PRE "," MODEL "}",
			"\"single\""},
		{DISTIL_ERR_UNSUPPORTED, "{\"model\":{\"max_input_chars_per_word\":5000," VOCAB "}," PRE "}", "5000"},
	};
	Memory		vocab = {"[PAD]\n[UNK]\n[CLS]\r\n[SEP]\n[MASK]\na\n\na\nb c\nd \t\r\ne\u3000\n  k\nf\x1c\n"
		" \u00a0\nlast ", 0};
	Memory		config = {"{\"tokenizer_class\":\"RobertaTokenizer\"}", 0};
	DistilError err = {{0}, {0}, {0}};
	char	   *blob;
	size_t		size;
	DistilTokenizer *t;

	vocab.length = strlen(vocab.data);
	config.length = strlen(config.data);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check_file("tokenizer.json", cases[i].json, cases[i].status, cases[i].message);
	check_file("other.json", "{}", DISTIL_ERR_NO_FILE, "tokenizer.json");
	check_file("vocab.txt", "a\nb\n", DISTIL_ERR_TEXT_FILE, "cls_token");
	check_file("vocab.txt", "[UNK]\n[CLS]\n[SEP]\n\xff\n", DISTIL_ERR_TEXT_FILE, "UTF-8");
	CHECK(compile_files(&blob, &size, "vocab.txt", &vocab, "tokenizer_config.json", &config, &counting,
						&err) == DISTIL_ERR_UNSUPPORTED);
	CHECK(strstr(err.message, "RobertaTokenizer") != NULL);

	/* of equal lines the last one counts; empty lines and all blanks but those at the end are kept */
	config.data = "{\"model_max_length\": 512}";
	config.length = strlen(config.data);
	CHECK(compile_files(&blob, &size, "vocab.txt", &vocab, "tokenizer_config.json", &config, &counting,
						&err) == DISTIL_OK);
	CHECK(distil_tokenizer_open(&t, blob, size, &counting, &err) == DISTIL_OK);
	CHECK(distil_tokenizer_id(t, "a", 1) == 7 && distil_tokenizer_token(t, 5, &size) == NULL);
	CHECK(distil_tokenizer_id(t, "b c", 3) == 8 && distil_tokenizer_id(t, "[CLS]", 5) == 2);
	CHECK(distil_tokenizer_id(t, "d", 1) == 9 && distil_tokenizer_id(t, "e", 1) == 10);
	CHECK(distil_tokenizer_id(t, "  k", 3) == 11 && distil_tokenizer_id(t, "f\x1c", 2) == 12);
	CHECK(distil_tokenizer_token(t, 6, &size) == NULL && distil_tokenizer_token(t, 13, &size) != NULL &&
		  size == 0);
	CHECK(distil_tokenizer_id(t, "last", 4) == 14);
	distil_tokenizer_free(t);
	free(blob);
}

/* ---------- BPE and Unigram ---------- */

#define LEVEL "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}"
#define META "\"pre_tokenizer\":{\"type\":\"Metaspace\"}"
#define UNIGRAM(vocab) "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[" vocab "]}"

/* model BPE with all bytes, "ab" and more fields */
static const char *
bpe_file(const char *more, const char *pre)
{
	static char text[16384];
	size_t      at =
		(size_t) snprintf(text, sizeof(text), "{%s,\"model\":{\"type\":\"BPE\",%s,\"vocab\":{", pre, more);

	for (int byte = 0; byte < 256; byte++)
	{
		bool		plain = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
		int			other = byte <= 32 ? byte : byte <= 160 ? byte - 94 : 67;

		at += (size_t) snprintf(text + at, sizeof(text) - at, "\"\\u%04x\":%d,", plain ? byte
								: 0x100 + other, byte);
	}
	snprintf(text + at, sizeof(text) - at, "\"ab\":256,\"abc\":257}}}");
	return text;
}

static void
test_models(void)
{
	static const struct
	{
		DistilStatus status;
		const char *more;
		const char *pre;
		const char *message;
	}			bpe[] = {
		{DISTIL_OK, "\"merges\":[]", LEVEL, ""},
		{DISTIL_OK, "\"merges\":[\"a b\",\"ab c\",\"a b\"]", LEVEL, ""},
		{DISTIL_OK, "\"merges\":[[\"a\",\"b\"]],\"ignore_merges\":true,\"dropout\":null,\"unk_token\":\"\"",
		 LEVEL, ""},
		{DISTIL_ERR_UNSUPPORTED, "\"merges\":[]", PRE, "ByteLevel"},
		{DISTIL_OK, "\"merges\":[]", SPLIT_LEVEL(",\"use_regex\":false,\"add_prefix_space\":false"), ""},
		{DISTIL_ERR_UNSUPPORTED, "\"merges\":[]", SPLIT_LEVEL(",\"use_regex\":false"),
		"Split before ByteLevel"},
		{DISTIL_ERR_UNSUPPORTED, "\"merges\":[]", SPLIT_LEVEL(",\"add_prefix_space\":false"),
		"Split before ByteLevel"},
		{DISTIL_ERR_UNSUPPORTED, "\"merges\":[]", "\"normalizer\":null", "ByteLevel"},
		{DISTIL_ERR_TEXT_FILE, "\"merges\":[\"a bc\"]", LEVEL, "merge 0 uses \"bc\""},
		{DISTIL_ERR_TEXT_FILE, "\"merges\":[\"b a\"]", LEVEL, "makes a token"},
		{DISTIL_ERR_TEXT_FILE, "\"merges\":[\"a  b\"]", LEVEL, "not a pair"},
		{DISTIL_ERR_TEXT_FILE, "\"merges\":[\"ab\"]", LEVEL, "not a pair"},
		{DISTIL_ERR_TEXT_FILE, "\"merges\":[[\"a\"]]", LEVEL, "not a pair"},
		{DISTIL_ERR_TEXT_FILE, "\"merges\":[7]", LEVEL, "not a pair"},
		{DISTIL_ERR_TEXT_FILE, "\"merges\":{}", LEVEL, "no list"},
		{DISTIL_ERR_UNSUPPORTED, "\"merges\":[],\"dropout\":0.5", LEVEL, "dropout"},
		{DISTIL_ERR_UNSUPPORTED, "\"merges\":[],\"byte_fallback\":true", LEVEL, "byte_fallback"},
		{DISTIL_ERR_UNSUPPORTED, "\"merges\":[],\"end_of_word_suffix\":\"</w>\"", LEVEL, "</w>"},
		{DISTIL_ERR_UNSUPPORTED, "\"merges\":[],\"continuing_subword_prefix\":\"##\"", LEVEL, "##"},
		{DISTIL_ERR_UNSUPPORTED, "\"merges\":[],\"odd\":1", LEVEL, "\"odd\""},
	};
	static const struct
	{
		DistilStatus status;
		const char *json;
		const char *message;
	}			unigram[] = {
		{DISTIL_OK, "{" META "," UNIGRAM("[\"u\",0],[\"a\",-1.5]") "}", ""},
		{DISTIL_ERR_UNSUPPORTED, "{" META "," UNIGRAM("[\"u\",0],[\"u\",-1]") "}", "more than once"},
		{DISTIL_ERR_TEXT_FILE, "{" META "," UNIGRAM("[\"u\",\"x\"]") "}", "piece 0"},
		{DISTIL_ERR_TEXT_FILE, "{" META "," UNIGRAM("[\"u\"]") "}", "piece 0"},
		{DISTIL_ERR_TEXT_FILE, "{" META "," UNIGRAM("[\"u\",1e999]") "}", ""},
		{DISTIL_ERR_TEXT_FILE, "{" META "," UNIGRAM("") "}", "empty vocabulary"},
		{DISTIL_ERR_TEXT_FILE,
		 "{" META ",\"model\":{\"type\":\"Unigram\",\"unk_id\":5,\"vocab\":[[\"u\",0]]}}",
		 "unk_id 5"},
		{DISTIL_ERR_UNSUPPORTED,
		 "{" META ",\"model\":{\"type\":\"Unigram\",\"unk_id\":null,\"vocab\":[[\"u\",0]]}}",
		 "without unk_id"},
		{DISTIL_ERR_UNSUPPORTED, "{" LEVEL "," UNIGRAM("[\"u\",0]") "}", "ByteLevel"},
		{DISTIL_ERR_UNSUPPORTED, "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"prepend_scheme\":\"odd\"},"
		 UNIGRAM("[\"u\",0]") "}", "\"odd\""},
		{DISTIL_ERR_TEXT_FILE, "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"},"
		 UNIGRAM("[\"u\",0]") "}", "one character"},
		{DISTIL_ERR_UNSUPPORTED,
		 "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a+\"},\"content\":\"\"},"
		 META "," UNIGRAM("[\"u\",0]") "}", "\"a+\""},
		{DISTIL_ERR_TEXT_FILE, "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA=\"},"
		 META "," UNIGRAM("[\"u\",0]") "}", "not valid"},
		{DISTIL_ERR_TEXT_FILE, "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"A?==\"},"
		 META "," UNIGRAM("[\"u\",0]") "}", "base64"},
		{DISTIL_ERR_UNSUPPORTED,
		 "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Metaspace\"},"
		 "{\"type\":\"Metaspace\"}]}," UNIGRAM("[\"u\",0]") "}", "more than one"},
		{DISTIL_ERR_UNSUPPORTED,
		 "{\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"Sequence\"}]},"
		 META "," UNIGRAM("[\"u\",0]") "}", "\"Sequence\""},
	};

	check_file("tokenizer.json",
			   "{\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"CTC\"}]}," META ","
			   UNIGRAM("[\"u\",0]") "}", DISTIL_ERR_UNSUPPORTED, "\"CTC\"");
	check_file("tokenizer.json",
			   "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":"
			   "\"a\"}}," UNIGRAM("[\"u\",0]") "}", DISTIL_ERR_UNSUPPORTED, "pattern \"a\"");
	check_file("tokenizer.json",
			   "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":"
			   "\"\\\\s+\"}}," UNIGRAM("[\"u\",0]") "}", DISTIL_ERR_UNSUPPORTED, "pattern \"\\s+\"");
	check_file("tokenizer.json",
			   "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Removed\",\"invert\":true,"
			   "\"pattern\":{\"Regex\":\"\\\\s+\"}}," UNIGRAM("[\"u\",0]") "}", DISTIL_ERR_UNSUPPORTED,
			   "pattern \"\\s+\"");
	check_file("tokenizer.json",
			   "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":"
			   GPT2_PATTERN "}}," UNIGRAM("[\"u\",0]") "}", DISTIL_ERR_UNSUPPORTED,
			   "except before ByteLevel");
	check_file("tokenizer.json",
			   "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Contiguous\",\"pattern\":{\"String\":"
			   "\"a\"}}," UNIGRAM("[\"u\",0]") "}", DISTIL_ERR_UNSUPPORTED, "Contiguous");
	check_file("tokenizer.json", "{\"decoder\":{\"type\":\"Strip\",\"content\":\"ab\"}," META ","
			   UNIGRAM("[\"u\",0]") "}", DISTIL_ERR_TEXT_FILE, "one character");
	check_file("tokenizer.json", "{\"decoder\":{\"type\":\"Fuse\"}," META "," UNIGRAM("[\"u\",0]") "}",
			   DISTIL_OK, "");
	for (size_t i = 0; i < sizeof(bpe) / sizeof(bpe[0]); i++)
		check_file("tokenizer.json", bpe_file(bpe[i].more, bpe[i].pre), bpe[i].status, bpe[i].message);
	for (size_t i = 0; i < sizeof(unigram) / sizeof(unigram[0]); i++)
		check_file("tokenizer.json", unigram[i].json, unigram[i].status, unigram[i].message);
	check_file("vocab.json", "{\"a\":0}", DISTIL_ERR_NO_FILE, "merges.txt");
	check_file("vocab.json", "[]", DISTIL_ERR_TEXT_FILE, "no object");
}

/* ---------- every part of the tables ---------- */

/* A member that no part has is refused by its name, whatever the part. */
static void
test_unknown_members(void)
{
	static const char *const posts[] = {"TemplateProcessing", "BertProcessing", "RobertaProcessing",
	"ByteLevel", "Sequence"};
	static const char *const decoders[] = {"WordPiece", "ByteLevel", "Metaspace", "Sequence", "Replace",
	"Strip", "ByteFallback", "Fuse"};
	static const char *const names[] = {"normalizer", "pre_tokenizer", "decoder", "post_processor", "model"};
	int			parts = 0;

	for (int table = 0; table < 5; table++)
		for (uint32_t kind = 0; kind < 64; kind++)
		{
			char		json[512];
			const char *type = NULL;

			if (table == 0 && distil_normalizer_kind(kind) != NULL)
				type = distil_normalizer_kind(kind)->type;
			else if (table == 1 && distil_pre_tokenizer_kind(kind) != NULL)
				type = distil_pre_tokenizer_kind(kind)->type;
			else if (table == 2 && kind < 8 && distil_decoder_find(decoders[kind]) != NULL)
				type = decoders[kind];
			else if (table == 3 && kind < 5 && distil_post_find(posts[kind]) != NULL)
				type = posts[kind];
			else if (table == 4 && distil_model_part_kind(kind) != NULL)
				type = distil_model_part_kind(kind)->type;
			if (type == NULL || type[0] == '\0')
				continue;
			if (table == 4)
				snprintf(json, sizeof(json), "{" PRE ",\"model\":{\"type\":\"%s\",\"surprise\":1," VOCAB "}}",
						 type);
			else
				snprintf(json, sizeof(json), "{\"%s\":{\"type\":\"%s\",\"surprise\":1}," MODEL "}",
						 names[table], type);
			check_file("tokenizer.json", json, DISTIL_ERR_UNSUPPORTED, "\"surprise\"");
			parts++;
		}
	/* 12 normalizers, 8 pre-tokenizers, 8 named decoders, 5 post-processors, 3 models */
	CHECK_MSG(parts == 36, "%d parts", parts);
}

/* ---------- SentencePiece models ---------- */

static void
check_model(const char *config, const char *bytes, size_t length, DistilStatus want, const char *message)
{
	Memory		data = {bytes, length};
	Memory		settings = {config, strlen(config)};
	char	   *blob;
	size_t		size;
	DistilError err = {{0}, {0}, {0}};
	DistilStatus got = compile_files(&blob, &size, "spiece.model", &data, "tokenizer_config.json", &settings,
									 &counting, &err);

	CHECK_MSG(got == want && (want == DISTIL_OK || strstr(err.message, message) != NULL), "status %d, %s",
			  got,
			  err.message);
	free(blob);
}

/* Fields as they lie in a file; a piece: 0A length, 0A length text, 15 score, 18 type. */
static void
test_pieces(void)
{
	static const char albert[] = "{\"tokenizer_class\":\"AlbertTokenizer\"}";
	static const char good[] = "\x0a\x0c\x0a\x05<pad>\x15\0\0\0\0" "\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02"
		"\x0a\x0e\x0a\x05[CLS]\x15\0\0\0\0\x18\x03" "\x0a\x0e\x0a\x05[SEP]\x15\0\0\0\0\x18\x03"
		"\x12\x02\x18\x01" "\x1a\x00";
	char		bad[sizeof(good)];
	size_t		n = sizeof(good) - 1;

	check_model(albert, good, n, DISTIL_OK, "");
	check_model("{}", good, n, DISTIL_ERR_UNSUPPORTED, "without tokenizer_class");
	check_model("{\"tokenizer_class\":\"T5Tokenizer\"}", good, n, DISTIL_ERR_UNSUPPORTED, "T5Tokenizer");
	check_model("{\"tokenizer_class\":\"AlbertTokenizer\",\"add_bos_token\":true}", good, n,
				DISTIL_ERR_UNSUPPORTED, "add_bos_token");
	check_model("{\"tokenizer_class\":\"XLNetTokenizer\"}", good, n, DISTIL_ERR_TEXT_FILE, "cls_token");
	check_model(albert, "", 0, DISTIL_ERR_TEXT_FILE, "cls_token");
	memcpy(bad, good, sizeof(good));
	bad[n - 3] = 2;				/* BPE */
	check_model(albert, bad, n, DISTIL_ERR_UNSUPPORTED, "BPE");
	memcpy(bad, good, sizeof(good));
	memcpy(bad + 10, "\0\0\xc0\x7f", 4);	/* not a number */
	check_model(albert, bad, n, DISTIL_ERR_TEXT_FILE, "piece 0");
	memcpy(bad, good, sizeof(good));
	bad[4] = '\xff';
	check_model(albert, bad, n, DISTIL_ERR_TEXT_FILE, "piece 0");
	/* every prefix and every changed byte: an error or a tokenizer, never a crash */
	for (size_t i = 0; i < n; i++)
		for (int byte = 0; byte < 256; byte += i % 4 == 0 ? 1 : 17)
		{
			Memory		data = {bad, n};
			Memory		settings = {albert, sizeof(albert) - 1};
			char	   *blob;
			size_t		size;
			DistilError err;

			memcpy(bad, good, sizeof(good));
			bad[i] = (char) byte;
			data.length = byte == 0 ? i : n;
			(void) compile_files(&blob, &size, "spiece.model", &data, "tokenizer_config.json", &settings,
								 &counting,
								 &err);
			free(blob);
		}
}

static void
test_max_length(void)
{
	static const struct
	{
		const char *json;
		int64_t		want;
	}			cases[] = {
		{"{\"model_max_length\": 512}", 512}, {"{}", 0}, {"{\"model_max_length\": null}", 0},
		{"{\"model_max_length\": 1000000000000000019884624838656}", 0}, {"{\"model_max_length\": 1e30}", 0},
		{"{\"max_len\": 10}", 10}, {"{\"max_len\": 10, \"model_max_length\": 512}", 512}
	};
	DistilError err = {{0}, {0}, {0}};
	int64_t		got;
	DistilFolder none = {NULL, 0};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Memory		data = {cases[i].json, strlen(cases[i].json)};
		DistilFile	file = {"tokenizer_config.json", {read_memory, &data, data.length}};
		DistilFolder folder = {&file, 1};

		CHECK_MSG(distil_tokenizer_max_length(&got, &folder, &counting, &err) == DISTIL_OK &&
				  got == cases[i].want,
				  "%s: %lld, %s", cases[i].json, (long long) got, err.message);
	}
	CHECK(distil_tokenizer_max_length(&got, &none, &counting, &err) == DISTIL_OK && got == 0);
}

int
main(void)
{
	test_files();
	test_models();
	test_pieces();
	test_unknown_members();
	test_max_length();
	CHECK_MSG(live_blocks == 0, "%ld blocks left", live_blocks);
	return check_report("tokenizer_file");
}
