/*
 * test_segments.c
 *		Segment ids of a pair: which tokenizers give them to the model, against transformers; what is refused.
 */
#include "heads_fixture.h"

#define CLASS(name) "{\"tokenizer_class\": \"" name "\""
#define TYPES ", \"model_input_names\": [\"input_ids\", \"token_type_ids\"]}"

/* Where model_input_names is missing the class says whether the model is given segment ids. */
static void
test_segments(const char *arch)
{
	static const DistilImportOptions options = {true};
	static const char *const settings[] = {
		CLASS("TokenizersBackend") "}",
		CLASS("BertTokenizer") ", \"model_input_names\": [\"input_ids\"]}",
		CLASS("BertTokenizer") "}"
	};
	DistilText	pair[2] = {text_of("where is the cat"), text_of("the cat is on the mat")};
	char		name[64];
	Goldens		g;

	snprintf(name, sizeof(name), "heads-%s.goldens.safetensors", arch);
	if (!goldens_open(&g, name))
		return;
	for (int i = 0; i < (strcmp(arch, "bert") == 0 ? 3 : 1); i++)
	{
		TestFolder	folder;
		LoadedModel loaded;
		DistilSession *session;
		DistilError err = {"", "", ""};
		const float *logits;
		int			rows;
		int			n;

		if (!compose(&folder, arch, "sequence"))
			break;
		test_folder_set_text(&folder, "tokenizer_config.json", settings[i]);
		CHECK_MSG(load_folder(&loaded, &folder.folder, &options, &err) == DISTIL_OK, "%s", err.message);
		session = open_session(loaded.model, 0);
		CHECK(distil_session_head_logits(session, &logits, &rows, &n, &pair[0], &pair[1], &err) == DISTIL_OK);
		check_rows(&g, i < 2 ? "sequence.untyped" : "sequence.pair", logits, rows, n, TOLERANCE);
		distil_session_free(session);
		load_free(&loaded);
		test_folder_free(&folder);
	}
	goldens_close(&g);
}

/* What a model would do with segment ids that we do not: GPT-2, and other ones than 0 of a single text. */
static void
test_segments_refused(void)
{
	static const struct
	{
		const char *arch;
		const char *settings;
		const char *from;
		const char *to;
		const char *message;
	}			cases[] = {
		{"gpt2", CLASS("TokenizersBackend") "}", NULL, NULL, NULL},
		{"gpt2", CLASS("TokenizersBackend") TYPES, NULL, NULL, "token_type_ids"},
		{"albert", CLASS("TokenizersBackend") "}", "\"type_id\": 0", "\"type_id\": 1", NULL},
		{"albert", CLASS("TokenizersBackend") TYPES, "\"type_id\": 0", "\"type_id\": 1", "type_id 1"}
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		static const DistilImportOptions options = {true};
		TestFolder	folder;
		LoadedModel loaded;
		DistilError err = {"", "", ""};
		DistilStatus status;

		if (!compose(&folder, cases[i].arch, "lm"))
			return;
		test_folder_set_text(&folder, "tokenizer_config.json", cases[i].settings);
		if (cases[i].from != NULL)
			test_folder_replace(&folder, "tokenizer.json", cases[i].from, cases[i].to);
		memset(&loaded, 0, sizeof(loaded));
		status = load_folder(&loaded, &folder.folder, &options, &err);
		CHECK_MSG(status == (cases[i].message == NULL ? DISTIL_OK : DISTIL_ERR_UNSUPPORTED), "%zu: %s", i,
				  err.message);
		CHECK(cases[i].message == NULL || (strstr(err.message, cases[i].message) != NULL &&
										   strstr(err.hint, "model_input_names") != NULL));
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
		return check_report("segments");
	test_segments("albert");
	test_segments("bert");
	test_segments_refused();
	device->ops->close(device);
	return check_report("segments");
}
