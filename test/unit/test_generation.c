/*
 * test_generation.c
 *		What a folder's generation settings do: the tokens that end a text, as transformers reads them, and
 *		settings we do not implement, which are refused by name when something is to be written.
 */
#include "config.h"
#include "heads_fixture.h"

#define MAX_TOKENS 20

static const int32_t prompt[3] = {10, 20, 30};

/*
 * Tokens that GPT-2's golden writes behind the prompt with one member replaced in config.json and with
 * this generation_config.json (NULL: none); *first is the first of them.
 */
static DistilStatus
generate(const char *member, const char *file, float temperature, int *n, int32_t *first, DistilError *err)
{
	static const DistilImportOptions options = {true};
	const DistilGenerateOptions how = {MAX_TOKENS, temperature, 0, 1, 7};
	DistilSession *session;
	TestFolder	folder;
	LoadedModel loaded;
	int32_t    *ids = NULL;
	DistilStatus status;

	*n = -1;
	memset(&loaded, 0, sizeof(loaded));
	if (!compose(&folder, "gpt2", "lm"))
		return DISTIL_ERR_NO_FILE;
	test_folder_replace(&folder, "config.json", "\"eos_token_id\": 0", member);
	if (file != NULL)
		test_folder_set_text(&folder, "generation_config.json", file);
	status = load_folder(&loaded, &folder.folder, &options, err);
	if (status == DISTIL_OK)
	{
		session = open_session(loaded.model, 0);
		status = distil_session_generate_ids(session, &ids, n, prompt, 3, &how, err);
		/* each token goes through the model once, the last one not at all */
		CHECK(status != DISTIL_OK || distil_session_stats(session)->tokens == 3 + *n - 1);
		if (status == DISTIL_OK && *n > 0 && first != NULL)
			*first = ids[0];
		free(ids);
		distil_session_free(session);
	}
	load_free(&loaded);
	test_folder_free(&folder);
	return status;
}

static void
check_length(const char *member, const char *file, int expected)
{
	DistilError err = {"", "", ""};
	int			n;

	CHECK_MSG(generate(member, file, 0, &n, NULL, &err) == DISTIL_OK && n == expected,
			  "%s, %s: %d tokens, expected %d (%s)", member, file == NULL ? "no file" : file, n, expected,
			  err.message);
}

/*
 * generation_config.json stands for all of it where there is one; null and an empty file end nothing.  The
 * token that ends is kept.
 */
static void
test_ends(void)
{
	DistilError err = {"", "", ""};
	char		here[80];
	char		both[80];
	int32_t		first = -1;
	int			n;

	CHECK_MSG(generate("\"eos_token_id\": null", NULL, 0, &n, &first, &err) == DISTIL_OK && n == MAX_TOKENS,
			  "%d tokens (%s)", n, err.message);
	snprintf(here, sizeof(here), "\"eos_token_id\": %d", first);
	snprintf(both, sizeof(both), "{\"eos_token_id\": [0, %d]}", first);
	check_length(here, NULL, 1);
	check_length(here, "{}", MAX_TOKENS);
	check_length(here, "{\"eos_token_id\": null}", MAX_TOKENS);
	check_length("\"eos_token_id\": null", both, 1);
	CHECK(generate(here, "[]", 0, &n, NULL, &err) == DISTIL_ERR_TEXT_FILE);
	CHECK_MSG(strstr(err.message, "generation_config.json") != NULL, "%s", err.message);
}

static const struct
{
	const char *setting;
	const char *neutral;
	const char *other;
	bool		sampling;		/* refused for drawn tokens only */
}			settings[] = {
	{"repetition_penalty", "1.0", "1.2", false},
	{"encoder_repetition_penalty", "1", "2", false},
	{"no_repeat_ngram_size", "0", "3", false},
	{"min_length", "0", "5", false},
	{"min_new_tokens", "null", "5", false},
	{"num_beams", "1", "4", false},
	{"guidance_scale", "1", "1.5", false},
	{"suppress_tokens", "[]", "[7]", false},
	{"begin_suppress_tokens", "null", "[7]", false},
	{"bad_words_ids", "null", "[[7]]", false},
	{"sequence_bias", "null", "[[[7], -5.0]]", false},
	{"forced_eos_token_id", "null", "0", false},
	{"exponential_decay_length_penalty", "null", "[5, 1.1]", false},
	{"stop_strings", "null", "\"end\"", false},
	{"token_healing", "false", "true", false},
	{"typical_p", "1.0", "0.9", true},
	{"min_p", "0", "0.1", true},
	{"epsilon_cutoff", "0.0", "0.001", true}
};

static void
check_setting(const char *setting, const char *value, float temperature, DistilStatus expected)
{
	DistilError err = {"", "", ""};
	char		file[120];
	char		member[120];
	int			n;

	snprintf(file, sizeof(file), "{\"%s\": %s}", setting, value);
	CHECK_MSG(generate("\"eos_token_id\": 0", file, temperature, &n, NULL, &err) == expected,
			  "%s: %s", file, err.message);
	CHECK_MSG(expected == DISTIL_OK || strstr(err.message, setting) != NULL, "%s: %s", file, err.message);
	/* without the file config.json's count, with it they do not */
	snprintf(member, sizeof(member), "\"eos_token_id\": 0, \"%s\": %s", setting, value);
	CHECK_MSG(generate(member, NULL, temperature, &n, NULL, &err) == expected, "config.json, %s", file);
	CHECK_MSG(generate(member, "{\"eos_token_id\": 0}", temperature, &n, NULL, &err) == DISTIL_OK,
			  "%s: %s", file, err.message);
}

static void
test_settings(void)
{
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
	{
		DistilStatus greedy = settings[i].sampling ? DISTIL_OK : DISTIL_ERR_UNSUPPORTED;

		check_setting(settings[i].setting, settings[i].neutral, 0, DISTIL_OK);
		check_setting(settings[i].setting, settings[i].neutral, 1, DISTIL_OK);
		check_setting(settings[i].setting, settings[i].other, 0, greedy);
		check_setting(settings[i].setting, settings[i].other, 1, DISTIL_ERR_UNSUPPORTED);
	}
}

/* What is said of the end survives in a student's config.json. */
static void
test_written(void)
{
	static const char *const members[] = {"\"eos_token_id\": null", "\"eos_token_id\": 7",
	"\"eos_token_id\": [7, 9, 11]"};

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
	{
		static const DistilImportOptions options = {true};
		TestFolder	folder;
		LoadedModel loaded;
		DistilBuffer text;
		DistilError err = {"", "", ""};

		memset(&loaded, 0, sizeof(loaded));
		if (!compose(&folder, "gpt2", "lm"))
			return;
		test_folder_replace(&folder, "config.json", "\"eos_token_id\": 0", members[i]);
		distil_buffer_init(&text, distil_alloc_system());
		CHECK_MSG(load_folder(&loaded, &folder.folder, &options, &err) == DISTIL_OK, "%s", err.message);
		if (loaded.model != NULL)
		{
			const DistilConfig *config = &loaded.model->spec.config;

			CHECK(config->arch->write_config(config, "GPT2LMHeadModel", &text, &err) == DISTIL_OK);
			CHECK_MSG(strstr(text.data, members[i]) != NULL, "%s not in %s", members[i], text.data);
		}
		distil_buffer_free(&text);
		load_free(&loaded);
		test_folder_free(&folder);
	}
}

int
main(void)
{
	char		message[256] = "";

	device = distil_device_open("cpu", NULL, message, sizeof(message));
	CHECK_MSG(device != NULL, "%s", message);
	if (device == NULL)
		return check_report("generation");
	test_ends();
	test_settings();
	test_written();
	device->ops->close(device);
	return check_report("generation");
}
