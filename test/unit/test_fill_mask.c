/*
 * test_fill_mask.c
 *		Fill-mask against the Hugging Face pipeline, with special tokens recognised in texts
 *		and without, and its errors.
 */
#include "session_fixture.h"

/* ---------- fill-mask ---------- */

static void
check_fills(DistilSession *session, const DistilJson *cases, const char *what)
{
	size_t		i;
	size_t		j;

	for (i = 0; i < distil_json_count(cases); i++)
	{
		const DistilJson *item = distil_json_item(cases, i);
		const DistilJson *expected = distil_json_member(item, "fills");
		DistilText	text;
		DistilFill *fills = NULL;
		DistilError err = {"", "", ""};
		int			n = 0;

		text.data = distil_json_string(distil_json_member(item, "text"), &text.length);
		CHECK_MSG(distil_session_fill_mask(session, &fills, &n, &text, (int) distil_json_count(expected),
										   &err)
				  == DISTIL_OK, "%s: %s", text.data, err.message);
		CHECK(n == (int) distil_json_count(expected));
		for (j = 0; fills != NULL && j < distil_json_count(expected); j++)
		{
			const DistilJson *fill = distil_json_item(expected, j);
			size_t		length;

			CHECK_MSG(fills[j].id == distil_json_integer(distil_json_member(fill, "id")), "%s, %s, %zu: %d",
					  what,
					  text.data, j, (int) fills[j].id);
			CHECK_NEAR(fills[j].score, distil_json_number(distil_json_member(fill, "score")), 1e-6);
			CHECK_MSG(strcmp(fills[j].token, distil_json_string(distil_json_member(fill, "token"),
																&length)) == 0,
					  "%s", fills[j].token);
			CHECK_MSG(strcmp(fills[j].sequence,
							 distil_json_string(distil_json_member(fill, "sequence"), &length)) == 0,
					  "%s, %s: \"%s\"", what, text.data, fills[j].sequence);
		}
		distil_release(distil_alloc_system(), fills);
	}
}

static void
check_fill_errors(DistilSession *session, int vocabulary)
{
	static const struct
	{
		const char *text;
		int			top_k;
	}           bad[] = {{"no mask here", 5}, {"[MASK] and [MASK]", 5}, {"", 5}, {"the [MASK]", 0},
						 {"the [MASK]", -1}};
	DistilText	text = {"the [MASK]", 10};
	DistilFill *fills = NULL;
	DistilError err;
	double		sum = 0;
	int			n;
	size_t		i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		DistilText	wrong = {bad[i].text, strlen(bad[i].text)};

		CHECK(distil_session_fill_mask(session, &fills, &n, &wrong, bad[i].top_k,
									   &err) == DISTIL_ERR_ARGUMENT);
		CHECK(fills == NULL);
		CHECK_MSG(strstr(err.message, i < 3 ? "\"[MASK]\"" : "top_k") != NULL, "%s", err.message);
	}
	CHECK(distil_session_fill_mask(session, &fills, &n, &text, vocabulary + 1, &err) == DISTIL_ERR_ARGUMENT);
	CHECK(distil_session_fill_mask(session, &fills, &n, &text, vocabulary,
								   &err) == DISTIL_OK && n == vocabulary);
	for (i = 0; i < (size_t) n; i++)
	{
		sum += fills[i].score;
		CHECK(i == 0 || fills[i].score <= fills[i - 1].score);
	}
	CHECK_NEAR(sum, 1.0, 1e-5);
	distil_release(distil_alloc_system(), fills);
}

static void
test_fill_mask(void)
{
	static const char *const folders[] = {"bert-mlm", "distilbert-mlm"};
	DistilJsonDoc *doc = NULL;
	DistilFolder *folder = NULL;
	DistilError err;
	size_t		i;
	int			parse;

	CHECK(distil_folder_open_disk(&folder, "test/golden", distil_alloc_system(), &err) == DISTIL_OK);
	CHECK(distil_folder_json(folder, "fill_mask.json", true, &doc, distil_alloc_system(), &err) == DISTIL_OK);
	for (i = 0; i < 2; i++)
		for (parse = 0; parse < 2; parse++)
		{
			LoadedModel loaded;
			DistilSession *session;
			char		path[128];

			snprintf(path, sizeof(path), MODELS "%s", folders[i]);
			if (!load_model(&loaded, path, parse != 0))
				continue;
			session = open_session(loaded.model, 0);
			check_fills(session, distil_json_member(distil_json_root(doc), folders[i]), folders[i]);
			check_fill_errors(session, distil_model_info(loaded.model)->vocabulary);
			distil_session_free(session);
			load_free(&loaded);
		}
	distil_json_free(doc);
	distil_folder_close_disk(folder, distil_alloc_system());
}

/* With parse_special off only the mask is a special token of a fill-mask text. */
static void
test_fill_special(void)
{
	LoadedModel loaded;
	DistilSession *session;
	DistilText	text = {"hello [SEP] [MASK]", 18};
	DistilFill *fills;
	DistilError err;
	double		perplexity;
	bool		has;
	int			n;

	if (!load_model(&loaded, MODELS "bert-mlm", false))
		return;
	session = open_session(loaded.model, 0);
	CHECK(distil_session_fill_mask(session, &fills, &n, &text, 1, &err) == DISTIL_OK);
	CHECK_MSG(strstr(fills[0].sequence, "sep") != NULL, "%s", fills[0].sequence);
	distil_release(distil_alloc_system(), fills);
	distil_session_free(session);
	load_free(&loaded);
	if (!load_model(&loaded, MODELS "bert-bf16", true))
		return;
	session = open_session(loaded.model, 0);
	CHECK(distil_session_fill_mask(session, &fills, &n, &text, 1, &err) == DISTIL_ERR_STATE);
	CHECK(strstr(err.message, "no masked-language-model head") != NULL);
	CHECK(distil_session_perplexity(session, &perplexity, &has, &text, 1, &err) == DISTIL_ERR_STATE);
	CHECK(strstr(err.message, "no causal-language-model head") != NULL && strstr(err.detail, "mask") == NULL);
	CHECK(distil_session_lm_logits(session, &text, NULL, NULL, NULL, &n, &err) == DISTIL_ERR_STATE);
	distil_session_free(session);
	load_free(&loaded);
}

int
main(void)
{
	static const char *const devices[][2] = {
		{"reference", NULL}, {"standin", NULL}, {"cpu", "avx2"}, {"cpu", "avx512"}
	};
	char		message[256];
	int			i;

	for (i = 0; i < 4; i++)
	{
		if (devices[i][1] != NULL && !distil_cpu_has(devices[i][1]))
			continue;
		device = distil_device_open(devices[i][0], devices[i][1], message, sizeof(message));
		CHECK_MSG(device != NULL, "%s", message);
		if (device == NULL)
			continue;
		test_fill_mask();
		test_fill_special();
		device->ops->close(device);
	}
	return check_report("fill_mask");
}
