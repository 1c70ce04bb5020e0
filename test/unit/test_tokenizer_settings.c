/*
 * test_tokenizer_settings.c
 *		tokenizer.json with config.json and tokenizer_config.json beside it: the tokens that AutoTokenizer gives, or a refusal by name.
 *
 * The records of test/golden/tokenizer/settings.txt are described in test/golden/make_settings.py.
 */
#include "check.h"

#include "folder.h"
#include "tokenizer.h"
#include "tokenizer_memory.h"

#define MAX_LINE 65536

/* The folder of the records being read, and what came of it. */
static char file[MAX_LINE];
static char config[MAX_LINE];
static const char *settings;	/* "-": there is none */
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
compile_three(size_t *size, const char *json, const char *model, const char *beside, DistilError *err)
{
	Memory		data[3] = {{json, strlen(json)}, {model, strlen(model)}, {beside, strlen(beside)}};
	DistilFile	files[3] = {
		{"tokenizer.json", {read_memory, &data[0], data[0].length}}, {"config.json", {read_memory, &data[1], data[1].length}},
		{"tokenizer_config.json", {read_memory, &data[2], data[2].length}}
	};
	DistilFolder folder = {files, strcmp(beside, "-") != 0 ? 3 : 2};

	return compile_folder(&blob, size, &folder, &counting, err);
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
	status = compile_three(&size, file, config, settings, &err);
	if (strcmp(why, "-") == 0)
		CHECK_MSG(status == DISTIL_OK && distil_tokenizer_open(&tokenizer, blob, size, &counting, &err) == DISTIL_OK, "%s %s: %s",
				  config, settings, err.message);
	else
		CHECK_MSG(status != DISTIL_OK && strstr(err.message, why) != NULL, "%s %s: \"%s\", expected \"%s\"", config,
				  settings, err.message, why);
}

/* text in hexadecimal TAB tokens */
static void
compare_tokens(char *line)
{
	char		text[256];
	char		shown[1024] = "";
	char	   *want = strchr(line, '\t') + 1;
	DistilText	input = {text, (size_t) (want - line - 1) / 2};
	DistilEncodeOptions options;
	DistilEncoding e;
	DistilError err = {{0}, {0}, {0}};
	unsigned	byte;

	if (tokenizer == NULL)
		return;					/* said already */
	for (size_t i = 0; i < input.length && sscanf(line + 2 * i, "%2x", &byte) == 1; i++)
		text[i] = (char) byte;
	options = distil_tokenizer_defaults(tokenizer);
	options.offsets = true;
	distil_encoding_init(&e, &counting);
	CHECK(distil_tokenizer_encode(tokenizer, &e, &input, NULL, &options, NULL, &err) == DISTIL_OK);
	for (int i = 0; i < e.n; i++)
		sprintf(shown + strlen(shown), "%s%d:%d:%u:%u", i > 0 ? " " : "", e.ids[i], e.types[i], e.starts[i], e.ends[i]);
	CHECK_MSG(strcmp(shown, want) == 0, "%s %s, \"%.*s\": %s, expected %s", config, settings, (int) input.length, text, shown, want);
	distil_encoding_reset(&e);
}

static void
test_goldens(void)
{
	static char line[MAX_LINE];
	FILE	   *goldens = fopen("test/golden/tokenizer/settings.txt", "r");

	CHECK(goldens != NULL);
	while (goldens != NULL && fgets(line, sizeof(line), goldens) != NULL)
	{
		line[strcspn(line, "\n")] = '\0';
		if (line[0] == 'F')
			strcpy(file, line + 2);
		else if (line[0] == 'C')
			open_folder(line + 2);
		else
			compare_tokens(line + 2);
	}
	close_folder();
	if (goldens != NULL)
		fclose(goldens);
	CHECK(folders > 150);
}

/* What no tokenizer of transformers can be made of, and sides that we do not cut. */
static void
test_refused(void)
{
#define BERT_FILE(more) "{" more "\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"a\":3}}}"
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
		{BERT_FILE(""), "{\"tokenizer_class\":\"BertTokenizerFaster\"}", "tokenizer_class \"BertTokenizerFaster\""},
		{BERT_FILE(""), "{\"sep_token\":\"[END]\"}", "no token for sep_token"}
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		DistilError err = {{0}, {0}, {0}};
		size_t		size;
		DistilStatus status = compile_three(&size, cases[i].json, "{\"model_type\":\"bert\"}", cases[i].settings, &err);

		CHECK_MSG(cases[i].message == NULL ? status == DISTIL_OK : status != DISTIL_OK && strstr(err.message, cases[i].message) != NULL,
				  "%zu %s: %s", i, cases[i].settings, err.message);
		close_folder();
	}
}

int
main(void)
{
	test_goldens();
	test_refused();
	CHECK_MSG(live_blocks == 0, "%ld blocks left", live_blocks);
	return check_report("tokenizer_settings");
}
