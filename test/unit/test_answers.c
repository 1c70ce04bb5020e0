/*
 * test_answers.c
 *		Answers in long texts: each place by its byte; a question that is cut is said to be.  The loss of an
 *		answer that is given by its text is that of its tokens.
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
	CHECK_MSG(strncmp(err.message, "the model ", 10) == 0 && strstr(err.detail, "has 67 tokens") != NULL,
			  "%s %s", err.message, err.detail);
}

/* Windows overlap: what is found in two of them is given once. */
static void
test_twice(DistilSession *session)
{
	const DistilText question = text_of("dog");
	char		words[400] = "";
	DistilText	text = {words, 0};
	DistilSpan *spans = NULL;
	DistilError err = {"", "", ""};
	int			n = 0;

	for (size_t i = 0; i < 80; i++)
		text.length += (size_t) sprintf(words + text.length, "%s ", i % 7 == 0 ? "cat" : "sat");
	CHECK_MSG(distil_session_answer(session, &spans, &n, &question, &text, ANSWERS, &err) == DISTIL_OK, "%s",
			  err.message);
	CHECK(n == ANSWERS);
	for (int i = 1; i < n; i++)
	{
		bool		twice = false;

		for (int j = 0; j < i; j++)
			twice = twice || (spans[j].start_pos == spans[i].start_pos &&
							  spans[j].end_pos == spans[i].end_pos);
		CHECK_MSG(!twice && spans[i].score <= spans[i - 1].score, "answer %d", i);
	}
	free(spans);
}

static DistilStatus
loss_of(DistilSession *session, double *loss, const char *key, const char *value, DistilError *err)
{
	char		example[300];

	snprintf(example, sizeof(example), "{\"question\": \"where is the cat\", "
			 "\"context\": \"the \xc3\xa9t\xc3\xa9 cat is on the mat\", \"%s\": %s}", key, value);
	return distil_session_loss(session, loss, example, strlen(example), err);
}

/* The answer's place is counted in characters, two of which have two bytes here. */
static void
test_loss(DistilSession *session)
{
	const DistilText question = text_of("where is the cat");
	const DistilText context = text_of("the \xc3\xa9t\xc3\xa9 cat is on the mat");
	const DistilTokenizer *tokenizer = distil_model_tokenizer(session->model);
	DistilEncodeOptions options = distil_tokenizer_defaults(tokenizer);
	DistilEncoding e;
	DistilError err = {"", "", ""};
	char		place[60] = "";
	double		by_text = 0;
	double		by_place = 1;
	int			start = -1;
	int			end = -1;

	distil_encoding_init(&e, distil_alloc_system());
	options.offsets = true;
	CHECK(distil_tokenizer_encode(tokenizer, &e, &question, &context, &options, NULL, &err) == DISTIL_OK);
	for (int i = 0; i < e.n; i++)
	{
		if (e.special[i] || e.types[i] == 0)
			continue;
		start = e.starts[i] == 8 ? i : start;	/* "cat is on" */
		end = e.ends[i] == 17 ? i : end;
	}
	distil_encoding_reset(&e);
	snprintf(place, sizeof(place), "%d, \"end\": %d", start, end);
	CHECK_MSG(end > start && loss_of(session, &by_place, "start", place, &err) == DISTIL_OK, "%s %s", place,
			  err.message);
	CHECK_MSG(loss_of(session, &by_text, "answer", "\"cat is on\"", &err) == DISTIL_OK, "%s", err.message);
	CHECK_MSG(by_text == by_place, "%g by its text, %g by its place", by_text, by_place);
	CHECK(loss_of(session, &by_text, "answer", "\"a dog\"", &err) == DISTIL_ERR_ARGUMENT);
	CHECK(loss_of(session, &by_text, "answer", "\"\"", &err) == DISTIL_ERR_ARGUMENT);
	CHECK(loss_of(session, &by_text, "answer", "7", &err) == DISTIL_ERR_ARGUMENT);
	CHECK(loss_of(session, &by_text, "start", "1, \"end\": 1000", &err) == DISTIL_ERR_ARGUMENT);
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
		test_twice(session);
		test_loss(session);
		distil_session_free(session);
	}
	load_free(&loaded);
	device->ops->close(device);
	return check_report("answers");
}
