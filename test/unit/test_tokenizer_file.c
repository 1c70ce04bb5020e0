/*
 * test_tokenizer_file.c
 *		What the readers of tokenizer.json and vocab.txt accept, and what they refuse by name.
 */
#include "check.h"

#include "folder.h"
#include "tokenizer.h"
#include "tokenizer_memory.h"

#define VOCAB "\"vocab\":{\"[UNK]\":0,\"a\":1}"
#define MODEL "\"model\":{\"type\":\"WordPiece\"," VOCAB "}"
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
		{DISTIL_ERR_UNSUPPORTED, "{\"model\":{\"type\":\"WordLevel\"," VOCAB "}," PRE "}", "model \"WordLevel\""},
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
		 "{\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"x\",9],\"cls\":[\"x\",1]}," PRE "," MODEL "}", "id 9"},
		{DISTIL_ERR_TEXT_FILE,
		 "{\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"x\"],\"cls\":[\"x\",1]}," PRE "," MODEL "}", "\"sep\""},
		{DISTIL_ERR_UNSUPPORTED,
		 "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[],\"pair\":[]}," PRE "," MODEL "}",
			"\"single\""},
		{DISTIL_ERR_UNSUPPORTED, "{\"model\":{\"max_input_chars_per_word\":5000," VOCAB "}," PRE "}", "5000"},
	};
	Memory		vocab = {"[PAD]\n[UNK]\n[CLS]\r\n[SEP]\n[MASK]\na\n\na\nb c\n", 0};
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

	/* of equal lines the last one counts; empty lines and inner blanks are kept */
	config.data = "{\"model_max_length\": 512}";
	config.length = strlen(config.data);
	CHECK(compile_files(&blob, &size, "vocab.txt", &vocab, "tokenizer_config.json", &config, &counting,
						&err) == DISTIL_OK);
	CHECK(distil_tokenizer_open(&t, blob, size, &counting, &err) == DISTIL_OK);
	CHECK(distil_tokenizer_id(t, "a", 1) == 7 && distil_tokenizer_token(t, 5, &size) == NULL);
	CHECK(distil_tokenizer_id(t, "b c", 3) == 8 && distil_tokenizer_id(t, "[CLS]", 5) == 2);
	CHECK(distil_tokenizer_token(t, 6, &size) != NULL && size == 0);
	distil_tokenizer_free(t);
	free(blob);
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
		{"{\"model_max_length\": 1000000000000000019884624838656}", 0}, {"{\"model_max_length\": 1e30}", 0}
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
	test_max_length();
	CHECK_MSG(live_blocks == 0, "%ld blocks left", live_blocks);
	return check_report("tokenizer_file");
}
