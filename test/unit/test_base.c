/*
 * test_base.c
 *		Errors, memory and vectors: the small things everything else stands on.
 */
#include "status.h"
#include "test_folder.h"

static void
test_printable(void)
{
	static const struct
	{
		const char *name;
		const char *shown;
	}			cases[] = {
		{"encoder.layer.0", "encoder.layer.0"}, {"", ""}, {"a\nb\x1b[31m\x7f", "a?b?[31m?"},
		{"caf\xc3\xa9 \xf0\x9f\x98\x80", "caf\xc3\xa9 \xf0\x9f\x98\x80"},
		{"\xff\xc3_\xe2\x82", "??_??"},	/* broken UTF-8 */
		{"\xc0\xaf\xed\xa0\x80", "?????"},	/* overlong, surrogate */
		{"\xc2\x85" "a\xe2\x80\xae" "b\xef\xbb\xbf", "??a???b???"}	/* C1, right-to-left mark, BOM */
	};
	char		buffer[64];
	char		small[9];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK_MSG(strcmp(distil_printable(buffer, sizeof(buffer), cases[i].name, strlen(cases[i].name)),
						 cases[i].shown) == 0, "case %zu: %s", i, buffer);
	/* cut between characters, marked, terminated */
	CHECK(strcmp(distil_printable(small, sizeof(small), "abcdefghij", 10), "abcde...") == 0);
	CHECK(strcmp(distil_printable(small, sizeof(small), "abcd\xc3\xa9" "fghij", 11), "abcd...") == 0);
	CHECK(strcmp(distil_printable(buffer, sizeof(buffer), "a\0b", 3), "a?b") == 0);
	for (size_t size = 1; size < 12; size++)
	{
		memset(buffer, 'x', sizeof(buffer));
		distil_printable(buffer, size, "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 8);
		CHECK(strlen(buffer) < size && buffer[size] == 'x');
	}
}

static void
test_fail(void)
{
	DistilError err;
	char		text[2000];

	CHECK(distil_fail(&err, DISTIL_ERR_LIMIT, "a %d", 7) == DISTIL_ERR_LIMIT);
	CHECK(strcmp(err.message, "a 7") == 0 && err.detail[0] == '\0' && err.hint[0] == '\0');
	CHECK(distil_fail_detail(&err, DISTIL_ERR_LIMIT, "D.") == DISTIL_ERR_LIMIT &&
		  strcmp(err.detail, "D.") == 0);
	CHECK(distil_fail_hint(&err, DISTIL_ERR_LIMIT, "H.") == DISTIL_ERR_LIMIT && strcmp(err.hint, "H.") == 0);
	CHECK(distil_fail(&err, DISTIL_ERR_IO, "b") == DISTIL_ERR_IO && err.detail[0] == '\0');
	/* too long: cut, but never inside a character */
	for (size_t lead = 0; lead < 3; lead++)
	{
		memset(text, 'a', lead);
		for (size_t i = lead; i + 3 < sizeof(text); i += 3)
			memcpy(text + i, "\xe2\x82\xac", 4);
		distil_fail(&err, DISTIL_ERR_IO, "%s", text);
		CHECK(strlen(err.message) < sizeof(err.message) && (strlen(err.message) - lead) % 3 == 0);
	}
	CHECK(distil_fail_memory(&err, 12) == DISTIL_ERR_MEMORY && strstr(err.detail, "12") != NULL);
	CHECK(distil_fail(NULL, DISTIL_ERR_IO, "no place for it") == DISTIL_ERR_IO);
}

static void
test_sizes(void)
{
	size_t		out;

	CHECK(distil_size_mul(&out, 6, 7) && out == 42);
	CHECK(!distil_size_mul(&out, SIZE_MAX / 2 + 1, 2));
	CHECK(distil_size_add(&out, SIZE_MAX - 1, 1) && out == SIZE_MAX);
	CHECK(!distil_size_add(&out, SIZE_MAX, 1));
	CHECK(distil_alloc_array(distil_alloc_system(), SIZE_MAX / 2, 4) == NULL);
	CHECK(distil_alloc_string(distil_alloc_system(), "", SIZE_MAX) == NULL);
}

static void
test_buffer(void)
{
	TestAllocator test;
	DistilBuffer buffer;

	test_allocator_init(&test, 0);
	distil_buffer_init(&buffer, &test.alloc);
	CHECK(distil_buffer_align(&buffer, 64) && buffer.length == 0);
	for (int i = 0; i < 1000; i++)
		CHECK(distil_buffer_append(&buffer, "abc", 3));
	CHECK(buffer.length == 3000 && memcmp(buffer.data + 2997, "abc", 3) == 0);
	CHECK(distil_buffer_align(&buffer, 64) && buffer.length == 3008 && buffer.data[3007] == '\0');
	/* without memory the buffer stays as it was */
	test.fail_at = test.requests + 1;
	while (distil_buffer_append(&buffer, "x", 1))
		continue;
	CHECK(buffer.length == buffer.capacity && memcmp(buffer.data, "abc", 3) == 0);
	CHECK(!distil_buffer_append(&buffer, "x", SIZE_MAX));
	distil_buffer_free(&buffer);
	distil_buffer_free(&buffer);
	CHECK(test.live == 0);
}

static void
test_arena(void)
{
	for (long n = 1; n < 100; n++)
	{
		TestAllocator test;
		DistilArena *arena;
		bool		ok;

		test_allocator_init(&test, n);
		arena = distil_arena_create(&test.alloc);
		ok = arena != NULL;
		for (size_t i = 0; ok && i < 300; i++)
		{
			size_t		size = i % 50 == 49 ? 5000 : i;
			unsigned char *memory = distil_arena_alloc(arena, size, 1);

			ok = memory != NULL;
			if (!ok)
				break;
			CHECK((uintptr_t) memory % 16 == 0);
			for (size_t k = 0; k < size; k++)
				ok = ok && memory[k] == 0;
			CHECK(ok);
			memset(memory, 0xee, size);
		}
		if (ok)
		{
			CHECK(distil_arena_alloc(arena, SIZE_MAX, 1) == NULL);
			CHECK(distil_arena_alloc(arena, SIZE_MAX / 2, 3) == NULL);
			CHECK(strcmp(distil_arena_printf(arena, "%s-%d", "x", 5), "x-5") == 0);
			CHECK(strcmp(distil_arena_string(arena, "abcd", 2), "ab") == 0);
		}
		distil_arena_free(arena);
		CHECK(test.live == 0);
		if (ok && test.requests < n)
			return;
	}
	CHECK(false);				/* never enough memory? */
}

static void
test_vectors(void)
{
	const float a[] = {3, 4, 0};
	const float b[] = {4, 3, 0};
	const float zero[] = {0, 0, 0};
	const float tiny[] = {1e-30f, 0, 0};
	const float huge[] = {3e38f, 3e38f, 3e38f};
	const float steep[] = {0.7f, 0.8f, 0.1f};	/* whose cosine with itself would be rounded to more than 1 */
	const float back[] = {-0.7f, -0.8f, -0.1f};

	/* exact in double */
	CHECK(distil_vector_dot(a, b, 3) == 24 && distil_vector_dot(a, b, 0) == 0);
	CHECK_NEAR(distil_vector_cosine(a, b, 3), 24.0 / 25, 1e-15);	/* one rounding each of sqrt and / */
	CHECK_NEAR(distil_vector_l2(a, b, 3), sqrt(2), 1e-15);
	CHECK(isnan(distil_vector_cosine(a, zero, 3)));
	CHECK(distil_vector_cosine(tiny, tiny, 3) == 1 && distil_vector_cosine(huge, huge, 3) <= 1);
	CHECK(distil_vector_cosine(steep, steep, 3) == 1 && distil_vector_cosine(steep, back, 3) == -1);
	CHECK(isnan(distil_vector_cosine(zero, a, 3)));
	CHECK(isfinite(distil_vector_dot(huge, huge, 3)) && distil_vector_l2(huge, huge, 3) == 0);
}

int
main(void)
{
	test_printable();
	test_fail();
	test_sizes();
	test_buffer();
	test_arena();
	test_vectors();
	return check_report("base");
}
