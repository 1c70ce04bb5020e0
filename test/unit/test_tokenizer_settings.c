/*
 * test_tokenizer_settings.c
 *		tokenizer.json with config.json and tokenizer_config.json beside it: the tokens that AutoTokenizer
 *		gives, or a refusal by name.
 *
 * The records of test/golden/tokenizer/settings.txt are described in test/golden/make_settings.py.
 */
#include "check.h"

#include "folder.h"
#include "tokenizer.h"
#include "tokenizer_blob.h"
#include "tokenizer_memory.h"

#define MAX_LINE 65536

/* The folder of the records being read, and what came of it. */
static char file[MAX_LINE];
static char config[MAX_LINE];
static const char *settings;	/* "-": there is none */
static char map[MAX_LINE];		/* special_tokens_map.json and added_tokens.json; empty: there is none */
static char added[MAX_LINE];
static bool lower_case;			/* of the next folder */
static DistilTokenizer *tokenizer;
static char *blob;
static int	folders;

static void
close_folder(void)
{
	distil_tokenizer_free(tokenizer);
	free(blob);
	tokenizer = NULL;
	blob = NULL;
}

static DistilStatus
compile_all(size_t *size, const char *json, const char *model, const char *beside, DistilError *err)
{
	static const char *const names[5] = {
		"tokenizer.json", "config.json", "tokenizer_config.json", "special_tokens_map.json",
		"added_tokens.json"
	};
	const char *texts[5] = {json, model, strcmp(beside, "-") != 0 ? beside : "", map, added};
	Memory		data[5];
	DistilFile	files[5];
	DistilFolder folder = {files, 0};

	for (int i = 0; i < 5; i++)
	{
		data[i] = (Memory) {texts[i], strlen(texts[i])};
		if (data[i].length > 0)
			files[folder.nfiles++] = (DistilFile) {names[i], {read_memory, &data[i], data[i].length}};
	}
	return compile_lower(&blob, size, &folder, lower_case, &counting, err);
}

/* config.json TAB tokenizer_config.json TAB refusal */
static void
open_folder(char *line)
{
	DistilError err = {{0}, {0}, {0}};
	char	   *why;
	size_t		size;
	DistilStatus status;

	strcpy(config, line);
	settings = strchr(config, '\t') + 1;
	config[settings - config - 1] = '\0';
	why = strchr(settings, '\t') + 1;
	why[-1] = '\0';
	folders++;
	close_folder();
	status = compile_all(&size, file, config, settings, &err);
	if (strcmp(why, "-") == 0)
		CHECK_MSG(status == DISTIL_OK && distil_tokenizer_open(&tokenizer, blob, size, &counting,
															   &err) == DISTIL_OK, "%s %s: %s",
				  config, settings, err.message);
	else
		CHECK_MSG(status != DISTIL_OK && strstr(err.message, why) != NULL, "%s %s: \"%s\", expected \"%s\"",
				  config, settings, err.message, why);
	map[0] = added[0] = '\0';
	lower_case = false;
}

static void
compare(const DistilText *text, const DistilText *pair, const char *want)
{
	char		shown[2048] = "";
	DistilEncodeOptions options;
	DistilEncoding e;
	DistilError err = {{0}, {0}, {0}};

	if (tokenizer == NULL)
		return;					/* said already */
	options = distil_tokenizer_defaults(tokenizer);
	options.offsets = true;
	distil_encoding_init(&e, &counting);
	CHECK(distil_tokenizer_encode(tokenizer, &e, text, pair, &options, NULL, &err) == DISTIL_OK);
	for (int i = 0; i < e.n; i++)
		sprintf(shown + strlen(shown), "%s%d:%d:%u:%u", i > 0 ? " " : "", e.ids[i], e.types[i], e.starts[i],
				e.ends[i]);
	CHECK_MSG(strcmp(shown, want) == 0, "%s %s, \"%.*s\": %s, expected %s", config, settings,
			  (int) text->length, text->data, shown, want);
	distil_encoding_reset(&e);
}

/* text in hexadecimal TAB tokens */
static void
compare_tokens(char *line)
{
	char		text[256];
	char	   *want = strchr(line, '\t') + 1;
	DistilText	input = {text, (size_t) (want - line - 1) / 2};
	unsigned	byte;

	for (size_t i = 0; i < input.length && sscanf(line + 2 * i, "%2x", &byte) == 1; i++)
		text[i] = (char) byte;
	compare(&input, NULL, want);
}

/* what all ids decode to, in hexadecimal */
static void
compare_decoded(const char *want)
{
	static int32_t ids[4096];
	static char shown[MAX_LINE];
	DistilError err = {{0}, {0}, {0}};
	char	   *text;
	size_t		length;
	int			n = tokenizer != NULL ? distil_tokenizer_vocabulary(tokenizer) : 0;

	CHECK(n > 0 && n <= 4096);
	for (int i = 0; i < n; i++)
		ids[i] = i;
	CHECK(distil_tokenizer_decode(tokenizer, &text, &length, ids, n, true, &counting, &err) == DISTIL_OK);
	for (size_t i = 0; i < length; i++)
		sprintf(shown + 2 * i, "%02x", (unsigned char) text[i]);
	CHECK_MSG(strcmp(shown, want) == 0, "%s %s: %s, expected %s", config, settings, shown, want);
	count_release(NULL, text);
}

static void
test_goldens(void)
{
	static char line[MAX_LINE];
	static const DistilText pair[2] = {{"a b", 3}, {"b", 1}};
	FILE	   *goldens = fopen("test/golden/tokenizer/settings.txt", "r");

	CHECK(goldens != NULL);
	while (goldens != NULL && fgets(line, sizeof(line), goldens) != NULL)
	{
		line[strcspn(line, "\n")] = '\0';
		if (line[0] == 'F')
			strcpy(file, line + 2);
		else if (line[0] == 'S')
			strcpy(map, line + 2);
		else if (line[0] == 'A')
			strcpy(added, line + 2);
		else if (line[0] == 'C')
			open_folder(line + 2);
		else if (line[0] == 'L')
			lower_case = true;
		else if (line[0] == 'D')
			compare_decoded(line + 2);
		else if (line[0] == 'P')
			compare(&pair[0], &pair[1], line + 2);
		else
			compare_tokens(line + 2);
	}
	close_folder();
	if (goldens != NULL)
		fclose(goldens);
	CHECK(folders > 200);
}

/* What no tokenizer of transformers can be made of, and sides that we do not cut. */
static void
test_refused(void)
{
#define BERT_FILE(more) \
	"{" more "\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"a\":3}}}"
	static const struct
	{
		const char *json;
		const char *settings;
		const char *message;	/* NULL: it is taken */
	}			cases[] = {
		{BERT_FILE(""), "{\"truncation_side\":\"right\"}", NULL},
		{BERT_FILE(""), "{\"truncation_side\":\"left\"}", "truncation_side \"left\""},
		{BERT_FILE("\"truncation\":{\"direction\":\"Right\",\"max_length\":1},"), "{}", NULL},
		{BERT_FILE("\"truncation\":{\"direction\":\"Left\",\"max_length\":1},"), "{}", "direction \"Left\""},
		{BERT_FILE(""), "[]", "not an object"},
		{BERT_FILE(""), "{\"do_lower_case\":\"no\"}", "do_lower_case"},
		{BERT_FILE(""), "{\"tokenizer_class\":1}", "tokenizer_class"},
		{BERT_FILE(""), "{\"tokenizer_class\":\"BertTokenizerFaster\"}",
		"tokenizer_class \"BertTokenizerFaster\""},
		{BERT_FILE(""), "{\"sep_token\":\"[END]\"}", "no token for sep_token"}
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		DistilError err = {{0}, {0}, {0}};
		size_t		size;
		DistilStatus status = compile_all(&size, cases[i].json, "{\"model_type\":\"bert\"}",
										  cases[i].settings, &err);

		CHECK_MSG(cases[i].message == NULL ? status == DISTIL_OK : status != DISTIL_OK &&
				  strstr(err.message, cases[i].message) != NULL,
				  "%zu %s: %s", i, cases[i].settings, err.message);
		close_folder();
	}
}

/* A token that settings add behind the model's word table is known, and refused where a text has it. */
static void
test_outside(void)
{
	static const char json[] = BERT_FILE("");
	static const char beside[] = "{\"tokenizer_class\":\"BertTokenizer\",\"pad_token\":\"[CLS]\","
								 "\"mask_token\":\"<m>\",\"eos_token\":\"<e>\"}";
	static const DistilText texts[] = {{"a", 1}, {"a <e>", 5}, {"a <m>", 5}};
	static const int tables[] = {0, 4, 5, 6};	/* the model has 4 tokens; <e> is the next, then <m> */

	for (int i = 0; i < 4; i++)
	{
		Memory		data[2] = {{json, strlen(json)}, {beside, strlen(beside)}};
		DistilFile	files[2] = {
			{"tokenizer.json", {read_memory, &data[0], data[0].length}},
			{"tokenizer_config.json", {read_memory, &data[1], data[1].length}}
		};
		DistilFolder folder = {files, 2};
		DistilBuffer out;
		DistilTokenizer *made = NULL;
		DistilEncodeOptions options;
		DistilEncoding e;
		DistilError err = {{0}, {0}, {0}};

		distil_buffer_init(&out, &counting);
		CHECK_MSG(distil_tokenizer_compile(&out, &folder, true, false, tables[i], &counting, NULL,
										   &err) == DISTIL_OK &&
				  distil_tokenizer_open(&made, out.data, out.length, &counting, &err) == DISTIL_OK, "%s",
				  err.message);
		for (int k = 0; made != NULL && k < 3; k++)
		{
			bool		known = k == 0 || tables[i] == 0 || tables[i] > 3 + k;

			options = distil_tokenizer_defaults(made);
			distil_encoding_init(&e, &counting);
			CHECK((distil_tokenizer_encode(made, &e, &texts[k], NULL, &options, NULL, &err) == DISTIL_OK) ==
				  known);
			CHECK(known ? k == 0 || e.ids[2] == 3 + k : strstr(err.message, k == 1 ? "<e>" : "<m>") != NULL);
			err.message[0] = '\0';
			options.count_only = true;
			CHECK((distil_tokenizer_encode(made, &e, &texts[k], NULL, &options, NULL, &err) == DISTIL_OK) ==
				  known);
			CHECK(known || strstr(err.message, k == 1 ? "<e>" : "<m>") != NULL);
			options.count_only = false;
			options.max_tokens = 3;
			options.truncation = DISTIL_TRUNCATE_LONGEST_FIRST;
			CHECK(distil_tokenizer_encode(made, &e, &texts[k], NULL, &options, NULL, &err) == DISTIL_OK &&
				  e.n == 3);
			options.max_tokens = 0;
			options.parse_special = false;
			CHECK(distil_tokenizer_encode(made, &e, &texts[k], NULL, &options, NULL, &err) == DISTIL_OK);
			distil_encoding_reset(&e);
		}
		if (made != NULL)
		{
			CHECK(distil_tokenizer_vocabulary(made) == (tables[i] == 0 ? 6 : tables[i]));
			CHECK(distil_tokenizer_id(made, "<m>", 3) == (tables[i] == 0 || tables[i] > 5 ? 5 : -1));
			CHECK(distil_tokenizer_special(made)->eos == (tables[i] == 0 || tables[i] > 4 ? 4 : -1));
		}
		distil_tokenizer_free(made);
		distil_buffer_free(&out);
	}
}

/*
 * One that is not special is found without parse_special, too; and no blob may hide that it has such tokens.
 */
static void
test_outside_plain(void)
{
	static const char json[] = BERT_FILE("");
	static const char more[] = "{\"<z>\":4}";
	Memory		data[2] = {{json, strlen(json)}, {more, strlen(more)}};
	DistilFile	files[2] = {
		{"tokenizer.json", {read_memory, &data[0], data[0].length}},
		{"added_tokens.json", {read_memory, &data[1], data[1].length}}
	};
	DistilFolder folder = {files, 2};
	DistilText	text = {"a <z>", 5};
	DistilEncodeOptions options;
	DistilEncoding e;
	DistilBuffer out;
	DistilTokenizer *made = NULL;
	DistilError err = {{0}, {0}, {0}};

	distil_buffer_init(&out, &counting);
	distil_encoding_init(&e, &counting);
	CHECK_MSG(distil_tokenizer_compile(&out, &folder, false, false, 4, &counting, NULL, &err) == DISTIL_OK &&
			  distil_tokenizer_open(&made, out.data, out.length, &counting, &err) == DISTIL_OK, "%s",
			  err.message);
	if (made != NULL)
	{
		options = distil_tokenizer_defaults(made);
		CHECK(distil_tokenizer_encode(made, &e, &text, NULL, &options, NULL, &err) == DISTIL_ERR_ARGUMENT);
		CHECK_MSG(strstr(err.message, "<z>") != NULL && strstr(err.hint, "parse_special") == NULL, "%s: %s",
				  err.message, err.hint);
		distil_tokenizer_free(made);
		made = NULL;
		((DistilTokenizerBlob *) (void *) out.data)->flags &= ~(uint32_t) DISTIL_BLOB_OUTSIDE;
		CHECK(distil_tokenizer_open(&made, out.data, out.length, &counting, &err) == DISTIL_ERR_CORRUPT &&
			  made == NULL);
	}
	distil_encoding_reset(&e);
	distil_buffer_free(&out);
}

/* Special tokens of a SentencePiece model alone: its control pieces, where no list says others. */
static void
test_listed(void)
{
	static const struct
	{
		const char *stored;
		const char *file;
		const char *config;
		const char *want;		/* by transformers 5.23 */
	}			cases[] = {
		{"camembert.sentencepiece.bpe.model", "sentencepiece.bpe.model",
			"{\"tokenizer_class\": \"CamembertTokenizer\"}",
		"5 15 5 507 3 553 3 507 3 7 20 16 3 60 6 "},
		{"camembert.sentencepiece.bpe.model", "sentencepiece.bpe.model",
			"{\"tokenizer_class\": \"CamembertTokenizer\", \"additional_special_tokens\": [\"<s>NOTUSED\"]}",
		"5 15 0 507 3 7 20 16 3 60 6 "},
		{"xlnet.spiece.model", "spiece.model", "{\"tokenizer_class\": \"XLNetTokenizer\"}",
		"16 1 508 0 554 0 7 61 4 3 "},
		{"xlnet.spiece.model", "spiece.model",
			"{\"tokenizer_class\": \"XLNetTokenizer\", \"extra_special_tokens\": [\"the\"]}",
		"12 1 508 0 554 0 508 7 61 4 3 "}
	};
	static const DistilText text = {"the <s>NOTUSED <eod> b", 22};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Memory		data;
		Memory		beside = {cases[i].config, strlen(cases[i].config)};
		char	   *bytes = read_file(cases[i].stored, &data.length);
		char	   *compiled = NULL;
		char		shown[256] = "";
		size_t		size;
		DistilTokenizer *made = NULL;
		DistilEncodeOptions options;
		DistilEncoding e;
		DistilError err = {{0}, {0}, {0}};

		data.data = bytes;
		CHECK_MSG(compile_files(&compiled, &size, cases[i].file, &data, "tokenizer_config.json", &beside,
								&counting, &err) == DISTIL_OK &&
				  distil_tokenizer_open(&made, compiled, size, &counting, &err) == DISTIL_OK, "%s",
				  err.message);
		distil_encoding_init(&e, &counting);
		if (made != NULL)
		{
			options = distil_tokenizer_defaults(made);
			CHECK(distil_tokenizer_encode(made, &e, &text, NULL, &options, NULL, &err) == DISTIL_OK);
		}
		for (int k = 0; k < e.n && k < 32; k++)
			sprintf(shown + strlen(shown), "%d ", e.ids[k]);
		CHECK_MSG(strcmp(shown, cases[i].want) == 0, "%s: %s", cases[i].config, shown);
		distil_encoding_reset(&e);
		distil_tokenizer_free(made);
		free(compiled);
		free(bytes);
	}
}

int
main(void)
{
	test_goldens();
	test_refused();
	test_outside();
	test_outside_plain();
	test_listed();
	CHECK_MSG(live_blocks == 0, "%ld blocks left", live_blocks);
	return check_report("tokenizer_settings");
}
