/*
 * test_answers.c
 *		Answers in long texts: each place by its byte; a question that is cut is said to be.
 */
#include "heads_fixture.h"

#define LETTERS 1000			/* of two bytes, with a blank behind each */
#define ANSWERS 200

/* Where code point `at` of "e-acute blank e-acute blank ..." begins. */
static size_t
byte_of(int32_t at)
{
	return 3 * (size_t) (at / 2) + 2 * (size_t) (at % 2);
}

static void
test_long(DistilSession *session)
{
	static char words[3 * LETTERS];
	const DistilText word = text_of("dog");
	const DistilText text = {words, sizeof(words)};
	DistilSpan *spans = NULL;
	DistilError err = {"", "", ""};
	int			n = 0;

	for (size_t i = 0; i < sizeof(words); i += 3)
		memcpy(words + i, "\xc3\xa9 ", 3);
	CHECK_MSG(distil_session_answer(session, &spans, &n, &word, &text, ANSWERS, &err) == DISTIL_OK, "%s",
			  err.message);
	CHECK(n == ANSWERS && distil_session_stats(session)->truncated == 0);
	for (int i = 0; i < n; i++)
		CHECK_MSG(spans[i].byte_start == byte_of(spans[i].start_pos) &&
				  spans[i].byte_end == byte_of(spans[i].end_pos), "%d to %d: bytes %zu to %zu",
				  spans[i].start_pos, spans[i].end_pos, spans[i].byte_start, spans[i].byte_end);
	free(spans);
	/* what is left of it fills this model */
	CHECK(distil_session_answer(session, &spans, &n, &text, &word, 1, &err) == DISTIL_ERR_LIMIT);
	CHECK(distil_session_stats(session)->truncated == 1);
}

int
main(void)
{
	char		message[256] = "";
	LoadedModel loaded;
	DistilError err = {"", "", ""};

	device = distil_device_open("cpu", NULL, message, sizeof(message));
	CHECK_MSG(device != NULL, "%s", message);
	if (device == NULL)
		return check_report("answers");
	CHECK_MSG(load_head(&loaded, "bert", "question", &err) == DISTIL_OK, "%s", err.message);
	if (loaded.model != NULL)
	{
		DistilSession *session = open_session(loaded.model, 0);

		test_long(session);
		distil_session_free(session);
	}
	load_free(&loaded);
	device->ops->close(device);
	return check_report("answers");
}
