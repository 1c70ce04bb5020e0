/*
 * test_json.c
 *		Strict JSON: what is refused, limits, typed members, quoting, memory failures.
 */
#include "json.h"
#include "status.h"
#include "test_folder.h"

/* jansson's process-wide hooks: json.c must leave them as they were. */
extern void json_get_alloc_funcs(void *(**malloc_fn) (size_t), void (**free_fn) (void *));

static DistilStatus
parse(const char *text, size_t length, DistilError *err)
{
	DistilJsonDoc *doc;
	DistilStatus status = distil_json_parse(&doc, text, length, "file \"x.json\"", distil_alloc_system(),
											err);

	CHECK((status == DISTIL_OK) == (doc != NULL));
	distil_json_free(doc);
	return status;
}

static void
test_refused(void)
{
	static const struct
	{
		const char *text;
		DistilStatus status;
	}			cases[] = {
		{"{}", DISTIL_OK}, {"[]", DISTIL_OK}, {" {\"a\": [1, 2.5, null, true, \"x\"]} \n", DISTIL_OK},
		{"", DISTIL_ERR_TEXT_FILE}, {"   ", DISTIL_ERR_TEXT_FILE}, {"nul", DISTIL_ERR_TEXT_FILE},
		{"{\"a\":1,\"a\":2}", DISTIL_ERR_TEXT_FILE},	/* duplicate key */
		{"{\"a\":{\"b\":1,\"b\":1}}", DISTIL_ERR_TEXT_FILE},
		{"{\"a\":NaN}", DISTIL_ERR_TEXT_FILE}, {"{\"a\":Infinity}", DISTIL_ERR_TEXT_FILE},
		{"{\"a\":1e999}", DISTIL_ERR_TEXT_FILE},	/* not finite */
		{"{\"a\":01}", DISTIL_ERR_TEXT_FILE}, {"{\"a\":+1}", DISTIL_ERR_TEXT_FILE},
		{"{\"a\":.5}", DISTIL_ERR_TEXT_FILE}, {"{'a':1}", DISTIL_ERR_TEXT_FILE},
		{"{\"a\":1,}", DISTIL_ERR_TEXT_FILE}, {"[1,]", DISTIL_ERR_TEXT_FILE},
		{"{\"a\":\"\\u0000\"}", DISTIL_ERR_TEXT_FILE},	/* no NUL in strings */
		{"{\"\\u0000\":1}", DISTIL_ERR_TEXT_FILE},
		{"{\"a\":\"\\ud800\"}", DISTIL_ERR_TEXT_FILE},	/* half a surrogate pair */
		{"{\"a\":\"\xff\"}", DISTIL_ERR_TEXT_FILE}, {"{\"a\":\"\xc0\xaf\"}", DISTIL_ERR_TEXT_FILE},
		{"{\"a\":\"\x01\"}", DISTIL_ERR_TEXT_FILE}, {"{} {}", DISTIL_ERR_TEXT_FILE},
		{"{\"a\":1} x", DISTIL_ERR_TEXT_FILE}, {"// c\n{}", DISTIL_ERR_TEXT_FILE},
		{"\xef\xbb\xbf{}", DISTIL_ERR_TEXT_FILE}, {"[9223372036854775808]", DISTIL_ERR_TEXT_FILE}
	};
	DistilError err;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK_MSG(parse(cases[i].text, strlen(cases[i].text), &err) == cases[i].status, "%s",
				  cases[i].text);
	CHECK(parse("[\0]", 3, &err) == DISTIL_ERR_TEXT_FILE);
	CHECK(parse("1", 1, &err) == DISTIL_ERR_TEXT_FILE);
	/* the message names the file and holds no raw control character of it */
	CHECK(parse("{\"a\": \x02\x1b[31m", 12, &err) == DISTIL_ERR_TEXT_FILE);
	CHECK(strstr(err.message, "file \"x.json\"") != NULL);
	for (const char *at = err.detail; *at != '\0'; at++)
		CHECK((unsigned char) *at >= 0x20);
}

static void
test_truncated(void)
{
	static const char text[] = "{\"a\": [1, 2.5e3, null, true, {\"b\": \"x\\n\\u00e9\xc3\xa9\"}], \"c\": -7}";
	DistilError err;

	for (size_t n = 0; n < sizeof(text) - 1; n++)
	{
		char	   *copy = malloc(n + 1);	/* exact size: reading on is found by ASan */

		memcpy(copy, text, n);
		CHECK_MSG(parse(copy, n, &err) == DISTIL_ERR_TEXT_FILE, "length %zu", n);
		free(copy);
	}
	CHECK(parse(text, sizeof(text) - 1, &err) == DISTIL_OK);
}

/* depth brackets open and closed */
static DistilStatus
parse_depth(int depth, const char *open, const char *close, DistilError *err)
{
	char	   *text = malloc((size_t) depth * 16 + 16);
	size_t		at = 0;
	DistilStatus status;

	for (int i = 0; i < depth; i++)
		at += (size_t) sprintf(text + at, "%s", open);
	at += (size_t) sprintf(text + at, "0");
	for (int i = 0; i < depth; i++)
		at += (size_t) sprintf(text + at, "%s", close);
	status = parse(text, at, err);
	free(text);
	return status;
}

static void
test_limits(void)
{
	DistilError err;
	char		text[1000];
	size_t		at;

	CHECK(parse_depth(DISTIL_MAX_JSON_DEPTH, "[", "]", &err) == DISTIL_OK);
	CHECK(parse_depth(DISTIL_MAX_JSON_DEPTH + 1, "[", "]", &err) == DISTIL_ERR_LIMIT);
	CHECK(parse_depth(DISTIL_MAX_JSON_DEPTH, "{\"a\":", "}", &err) == DISTIL_OK);
	CHECK(parse_depth(DISTIL_MAX_JSON_DEPTH + 1, "{\"a\":", "}", &err) == DISTIL_ERR_LIMIT);
	CHECK(parse_depth(1000000, "[", "]", &err) == DISTIL_ERR_LIMIT);
	/* brackets in strings do not count, escaped quotes do not end a string */
	at = (size_t) sprintf(text, "[\"\\\"");
	for (int i = 0; i < 200; i++)
		text[at++] = '[';
	at += (size_t) sprintf(text + at, "\\\\\"]");
	CHECK(parse(text, at, &err) == DISTIL_OK);
	/* the size is looked at before the text */
	CHECK(parse("{}", DISTIL_MAX_JSON_BYTES + 1, &err) == DISTIL_ERR_LIMIT);
}

static void
test_members(void)
{
	static const char text[] =
		"{\"i\": 42, \"r\": 2.5, \"s\": \"text\", \"t\": true, \"n\": null, \"w\": 3.0, "
		"\"big\": 1000000000000000019884624838656, \"neg\": -100000000000000000000, "
		"\"f\": 0.10000000000000000000001, "
		"\"in\": \"12345678901234567890123\"}";
	DistilJsonDoc *doc;
	DistilError err;
	int64_t		i;
	double		d;
	bool		b;
	const char *s;
	const DistilJson *root;

	CHECK(distil_json_parse(&doc, text, strlen(text), "it", distil_alloc_system(), &err) == DISTIL_OK);
	root = distil_json_root(doc);
	CHECK(distil_json_get_int(doc, root, "i", 1, 0, 100, &i, &err) == DISTIL_OK && i == 42);
	CHECK(distil_json_get_int(doc, root, "w", 1, 0, 100, &i, &err) == DISTIL_OK && i == 3);
	CHECK(distil_json_get_int(doc, root, "none", 7, 0, 1, &i, &err) == DISTIL_OK && i == 7);
	CHECK(distil_json_get_int(doc, root, "n", 7, 0, 1, &i, &err) == DISTIL_OK && i == 7);
	CHECK(distil_json_get_int(doc, root, "i", 1, 0, 41, &i, &err) == DISTIL_ERR_TEXT_FILE);
	CHECK(strcmp(err.message, "\"i\" of it must be within its range") == 0);
	CHECK(strcmp(err.detail, "It is 42; the range is 0 to 41.") == 0);
	CHECK(distil_json_get_int(doc, root, "r", 1, 0, 41, &i, &err) == DISTIL_ERR_TEXT_FILE);
	CHECK(distil_json_get_int(doc, root, "big", 1, 0, INT64_MAX, &i, &err) == DISTIL_ERR_TEXT_FILE);
	CHECK(distil_json_get_number(doc, root, "big", 1, 0, 1e40, &d, &err) == DISTIL_OK);
	CHECK_NEAR(d / 1e30, 1.0, 1e-15);
	CHECK(distil_json_get_number(doc, root, "neg", 1, -1e40, 0, &d, &err) == DISTIL_OK && d == -1e20);
	CHECK(distil_json_get_number(doc, root, "f", 1, 0, 1, &d, &err) == DISTIL_OK && d == 0.1);
	CHECK(distil_json_get_number(doc, root, "s", 1, 0, 1, &d, &err) == DISTIL_ERR_TEXT_FILE);
	CHECK(distil_json_get_bool(doc, root, "t", false, &b, &err) == DISTIL_OK && b);
	CHECK(distil_json_get_bool(doc, root, "i", false, &b, &err) == DISTIL_ERR_TEXT_FILE);
	CHECK(distil_json_get_string(doc, root, "s", NULL, &s, &err) == DISTIL_OK && strcmp(s, "text") == 0);
	CHECK(distil_json_get_string(doc, root, "n", NULL, &s, &err) == DISTIL_OK && s == NULL);
	CHECK(distil_json_get_string(doc, root, "t", NULL, &s, &err) == DISTIL_ERR_TEXT_FILE);
	/* digits in a string are not a number to be widened */
	CHECK(distil_json_get_string(doc, root, "in", NULL, &s, &err) == DISTIL_OK &&
		  strcmp(s, "12345678901234567890123") == 0);
	CHECK(distil_json_count(root) == 10);
	distil_json_free(doc);
}

static void
test_iteration(void)
{
	static const char text[] = "{\"z\": 1, \"a\": [10, 20], \"m\": {}}";
	static const char *const order[] = {"z", "a", "m"};
	DistilJsonDoc *doc;
	DistilError err;
	const void *at = NULL;
	const char *key;
	size_t		length;
	const DistilJson *value;
	int			n = 0;

	CHECK(distil_json_parse(&doc, text, strlen(text), "it", distil_alloc_system(), &err) == DISTIL_OK);
	while ((at = distil_json_next(distil_json_root(doc), at, &key, &length, &value)) != NULL)
	{
		CHECK(n < 3 && strcmp(key, order[n]) == 0 && length == 1);	/* order of the file */
		n++;
	}
	CHECK(n == 3);
	value = distil_json_member(distil_json_root(doc), "a");
	CHECK(distil_json_type(value) == DISTIL_JSON_ARRAY && distil_json_count(value) == 2);
	CHECK(distil_json_integer(distil_json_item(value, 1)) == 20);
	CHECK(distil_json_item(value, 2) == NULL);
	CHECK(distil_json_member(distil_json_root(doc), "x") == NULL);
	distil_json_free(doc);
}

static void
test_quote(void)
{
	static const char text[] = "a\"b\\c\n\t\x01\x1f/\xc3\xa9\xf0\x9f\x98\x80";
	DistilBuffer buffer;
	DistilJsonDoc *doc;
	DistilError err;
	size_t		length;
	const char *back;

	distil_buffer_init(&buffer, distil_alloc_system());
	CHECK(distil_buffer_append(&buffer, "[", 1));
	CHECK(distil_json_quote(&buffer, text, strlen(text)));
	CHECK(distil_buffer_append(&buffer, ",", 1));
	CHECK(distil_json_quote(&buffer, "", 0));
	CHECK(distil_buffer_append(&buffer, "]", 1));
	CHECK(distil_json_parse(&doc, buffer.data, buffer.length, "it", distil_alloc_system(),
							&err) == DISTIL_OK);
	back = distil_json_string(distil_json_item(distil_json_root(doc), 0), &length);
	CHECK(length == strlen(text) && memcmp(back, text, length) == 0);
	CHECK(distil_json_string(distil_json_item(distil_json_root(doc), 1), &length)[0] == '\0' &&
		  length == 0);
	distil_json_free(doc);
	distil_buffer_free(&buffer);
}

/* ---------- the Nth allocation fails ---------- */

static void
test_memory(void)
{
	char		text[40000];
	size_t		length;
	void	   *(*malloc_fn) (size_t);
	void		(*free_fn) (void *);
	long		n;

	/* long enough for several blocks of the arena and for a string of its own block */
	length = (size_t) sprintf(text, "{\"w\": 1000000000000000019884624838656, \"a\": [\"%020000d\"", 1);
	for (int i = 0; i < 300; i++)
		length += (size_t) sprintf(text + length, ", {\"k%d\": [1, 2.5, null]}", i);
	length += (size_t) sprintf(text + length, "]}");

	for (n = 1; n < 10000; n++)
	{
		TestAllocator test;
		DistilJsonDoc *doc;
		DistilError err;
		DistilStatus status;

		test_allocator_init(&test, n);
		status = distil_json_parse(&doc, text, length, "it", &test.alloc, &err);
		distil_json_free(doc);
		CHECK(test.live == 0);
		if (status == DISTIL_OK && test.requests < n)
			break;
		CHECK_MSG(status == DISTIL_ERR_MEMORY, "request %ld: status %d, %s", n, (int) status, err.message);
	}
	CHECK(n > 3 && n < 10000);
	json_get_alloc_funcs(&malloc_fn, &free_fn);
	CHECK(malloc_fn == malloc && free_fn == free);
}

/* Where any value will do, a scalar does; what is no JSON still does not. */
static void
test_values(void)
{
	static const struct
	{
		const char *text;
		DistilStatus status;
		DistilJsonType type;
	}			cases[] = {
		{"1", DISTIL_OK, DISTIL_JSON_INTEGER}, {"true", DISTIL_OK, DISTIL_JSON_BOOL},
		{"null", DISTIL_OK, DISTIL_JSON_NULL}, {" \"{\" ", DISTIL_OK, DISTIL_JSON_STRING},
		{"1000000000000000019884624838656", DISTIL_OK, DISTIL_JSON_REAL},
		{"[1]", DISTIL_OK, DISTIL_JSON_ARRAY}, {"{}", DISTIL_OK, DISTIL_JSON_OBJECT},
		{"", DISTIL_ERR_TEXT_FILE, DISTIL_JSON_NULL}, {"1 2", DISTIL_ERR_TEXT_FILE, DISTIL_JSON_NULL},
		{"nul", DISTIL_ERR_TEXT_FILE, DISTIL_JSON_NULL}, {"{}}", DISTIL_ERR_TEXT_FILE, DISTIL_JSON_NULL}
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		DistilJsonDoc *doc;
		DistilError err;

		CHECK_MSG(distil_json_parse_value(&doc, cases[i].text, strlen(cases[i].text), "it",
										  distil_alloc_system(), &err) == cases[i].status, "%s",
				  cases[i].text);
		CHECK(cases[i].status != DISTIL_OK || distil_json_type(distil_json_root(doc)) == cases[i].type);
		distil_json_free(doc);
	}
}

int
main(void)
{
	test_refused();
	test_values();
	test_truncated();
	test_limits();
	test_members();
	test_iteration();
	test_quote();
	test_memory();
	return check_report("json");
}
