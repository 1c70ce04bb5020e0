/*
 * fuzz_json.c
 *		Any bytes as JSON: parse, then visit every value and quote every string.
 */
#include "alloc.h"
#include "json.h"
#include "status.h"

#include <stdlib.h>
#include <string.h>

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
visit(const DistilJsonDoc *doc, const DistilJson *value, int depth, DistilBuffer *out)
{
	const void *at = NULL;
	const char *key;
	const DistilJson *member;
	size_t		length;
	DistilError err;
	int64_t		integer;

	if (depth > DISTIL_MAX_JSON_DEPTH)
		abort();
	switch (distil_json_type(value))
	{
		case DISTIL_JSON_STRING:
			{
				const char *text = distil_json_string(value, &length);

				if (strlen(text) != length || !distil_json_quote(out, text, length))
					abort();
				break;
			}
		case DISTIL_JSON_ARRAY:
			for (size_t i = 0; i < distil_json_count(value); i++)
				visit(doc, distil_json_item(value, i), depth + 1, out);
			break;
		case DISTIL_JSON_OBJECT:
			while ((at = distil_json_next(value, at, &key, &length, &member)) != NULL)
			{
				if (distil_json_member(value, key) != member)
					abort();
				(void) distil_json_get_int(doc, value, key, 0, -5, 5, &integer, &err);
				visit(doc, member, depth + 1, out);
			}
			break;
		case DISTIL_JSON_REAL:
			{
				double		number = distil_json_number(value);

				if (!(number - number == 0))	/* finite */
					abort();
				break;
			}
		default:
			break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	DistilJsonDoc *doc;
	DistilError err;
	DistilBuffer out;

	if (distil_json_parse(&doc, (const char *) data, size, "input", distil_alloc_system(), &err) != DISTIL_OK)
		return 0;
	distil_buffer_init(&out, distil_alloc_system());
	visit(doc, distil_json_root(doc), 1, &out);
	distil_buffer_free(&out);
	distil_json_free(doc);
	return 0;
}
