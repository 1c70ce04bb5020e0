/*
 * json.c
 *		Strict JSON over jansson; the only file that includes it.
 *
 * Bytes and nesting are capped before the parser sees the text, because the parser
 * recurses.  While it runs, jansson allocates from the document's arena, and a failing
 * request leaves it by longjmp: jansson itself may abort the process when memory runs
 * out in the middle of a token.  Its own free is a no-op then; the arena goes as a whole.
 * jansson's hooks are process-wide, so they are put back after each parse, and for other
 * threads they do what they did before.  The thread is known by its number: where storage of a thread cannot
 * be had the C library ends the process.
 *
 * The rules a newcomer would break: nothing that jansson allocates or frees may be called
 * outside parse_text; and integers wider than 64 bits are legal in files
 * (model_max_length 1000000000000000019884624838656) and arrive as REAL.
 */
#include "json.h"

#include "alloc.h"
#include "status.h"

#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <string.h>

struct DistilJsonDoc
{
	json_t	   *root;
	char	   *what;
	DistilArena *arena;			/* owns everything, this struct too */
};

/* The parse that runs. */
static struct
{
	_Atomic pthread_t thread;
	DistilArena *arena;			/* NULL: there is none */
	jmp_buf		no_memory;
}			parse;
static json_malloc_t other_malloc;
static json_free_t other_free;

static bool
is_parsing(void)
{
	return pthread_equal(parse.thread, pthread_self()) && parse.arena != NULL;
}

static void *
parse_malloc(size_t bytes)
{
	void	   *memory;

	if (!is_parsing())
		return other_malloc(bytes);
	memory = distil_arena_alloc(parse.arena, bytes, 1);
	if (memory == NULL)
		longjmp(parse.no_memory, 1);
	return memory;
}

static void
parse_free(void *memory)
{
	if (!is_parsing())
		other_free(memory);
}

/* json_loadb with all memory from the arena; NULL with a blank error when there is none left. */
static json_t *
load_into_arena(DistilArena *arena, const char *text, size_t length, size_t flags, json_error_t *error)
{
	json_t	   *volatile root = NULL;	/* across longjmp */

	parse.thread = pthread_self();
	parse.arena = arena;
	memset(error, 0, sizeof(*error));
	json_get_alloc_funcs(&other_malloc, &other_free);
	json_set_alloc_funcs(parse_malloc, parse_free);
	if (setjmp(parse.no_memory) == 0)
		root = json_loadb(text, length, JSON_REJECT_DUPLICATES | flags, error);
	else
		memset(error, 0, sizeof(*error));
	parse.arena = NULL;
	json_set_alloc_funcs(other_malloc, other_free);
	return root;
}

/* Where the text is too deep, and whether some integer needs widening. */
typedef struct JsonScan
{
	size_t		deepest;
	bool		wide;			/* an integer of 20 digits or more */
} JsonScan;

/*
 * One pass over the text that knows strings.  With `edit` (a writable copy of text)
 * the last two digits of each overlong integer become "e2": the parser then reads
 * a real number that differs by less than a double's precision.
 */
static void
scan_text(JsonScan *scan, const char *text, size_t length, char *edit)
{
	size_t		depth = 0;
	bool		in_string = false;

	scan->deepest = 0;
	scan->wide = false;
	for (size_t i = 0; i < length; i++)
	{
		char		c = text[i];

		if (in_string)
		{
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		}
		else if (c == '"')
			in_string = true;
		else if (c == '[' || c == '{')
		{
			if (++depth > scan->deepest)
				scan->deepest = depth;
		}
		else if (c == ']' || c == '}')
			depth -= depth > 0;
		else if (c >= '0' && c <= '9')
		{
			size_t		end = i;

			while (end < length && text[end] >= '0' && text[end] <= '9')
				end++;
			if (end - i >= 20 && (end == length || (text[end] != '.' && text[end] != 'e' &&
													text[end] != 'E')))
			{
				scan->wide = true;
				if (edit != NULL)
				{
					edit[end - 2] = 'e';
					edit[end - 1] = '2';
				}
			}
			/* a fraction or exponent is not an integer of its own */
			while (end < length && ((text[end] >= '0' && text[end] <= '9') || text[end] == '.' ||
									text[end] == 'e' || text[end] == 'E' || text[end] == '+' ||
										text[end] == '-'))
				end++;
			i = end - 1;
		}
	}
}

static DistilStatus
fail_parse(const json_error_t *error, const char *what, DistilError *err)
{
	char		text[200];

	/* blank: memory ran out */
	if (error->text[0] == '\0' || json_error_code(error) == json_error_out_of_memory)
		return distil_fail_memory(err, 0);
	distil_fail(err, DISTIL_ERR_TEXT_FILE, "%s is not valid JSON", what);
	return distil_fail_detail(err, DISTIL_ERR_TEXT_FILE, "Line %d, column %d: %s.", error->line,
							  error->column,
							  distil_printable(text, sizeof(text), error->text, strlen(error->text)));
}

/* The arena and the document in it; copy is the text to edit when integers must be widened. */
static DistilStatus
make_doc(DistilJsonDoc **doc, char **copy, const char *text, size_t length, const char *what, bool wide,
		 const DistilAllocator *alloc, DistilError *err)
{
	DistilArena *arena = distil_arena_create(alloc);
	DistilJsonDoc *made = arena == NULL ? NULL : distil_arena_alloc(arena, 1, sizeof(DistilJsonDoc));

	*copy = NULL;
	if (made != NULL)
	{
		made->arena = arena;
		made->what = distil_arena_string(arena, what, strlen(what));
		if (wide)
			*copy = distil_alloc_string(alloc, text, length);
	}
	if (made == NULL || made->what == NULL || (wide && *copy == NULL))
	{
		distil_release(alloc, *copy);
		distil_arena_free(arena);
		return distil_fail_memory(err, wide ? length : sizeof(DistilJsonDoc));
	}
	*doc = made;
	return DISTIL_OK;
}

/* flags of jansson */
static DistilStatus
parse_text(DistilJsonDoc **doc, const char *text, size_t length, const char *what, size_t flags,
		   const DistilAllocator *alloc, DistilError *err)
{
	DistilJsonDoc *made = NULL;
	JsonScan	scan;
	json_error_t error;
	char	   *copy;

	*doc = NULL;
	if (length > DISTIL_MAX_JSON_BYTES)
	{
		distil_fail(err, DISTIL_ERR_LIMIT, "%s is too large", what);
		return distil_fail_detail(err, DISTIL_ERR_LIMIT, "It has %zu bytes; the limit is %zu.",
								  length, DISTIL_MAX_JSON_BYTES);
	}
	scan_text(&scan, text, length, NULL);
	if (scan.deepest > DISTIL_MAX_JSON_DEPTH)
	{
		distil_fail(err, DISTIL_ERR_LIMIT, "%s is nested too deeply", what);
		return distil_fail_detail(err, DISTIL_ERR_LIMIT, "Its depth is %zu; the limit is %d.",
								  scan.deepest, DISTIL_MAX_JSON_DEPTH);
	}
	DISTIL_FORWARD(make_doc(&made, &copy, text, length, what, scan.wide, alloc, err));
	if (copy != NULL)
		scan_text(&scan, text, length, copy);
	made->root = load_into_arena(made->arena, copy != NULL ? copy : text, length, flags, &error);
	distil_release(alloc, copy);
	if (made->root == NULL)
	{
		distil_json_free(made);
		return fail_parse(&error, what, err);
	}
	*doc = made;
	return DISTIL_OK;
}

DistilStatus
distil_json_parse(DistilJsonDoc **doc, const char *text, size_t length, const char *what,
				  const DistilAllocator *alloc, DistilError *err)
{
	return parse_text(doc, text, length, what, 0, alloc, err);
}

DistilStatus
distil_json_parse_value(DistilJsonDoc **doc, const char *text, size_t length, const char *what,
						const DistilAllocator *alloc, DistilError *err)
{
	return parse_text(doc, text, length, what, JSON_DECODE_ANY, alloc, err);
}

const DistilJson *
distil_json_root(const DistilJsonDoc *doc)
{
	return (const DistilJson *) doc->root;
}

void
distil_json_free(DistilJsonDoc *doc)
{
	if (doc != NULL)
		distil_arena_free(doc->arena);
}

DistilJsonType
distil_json_type(const DistilJson *value)
{
	switch (json_typeof((const json_t *) value))
	{
		case JSON_OBJECT:
			return DISTIL_JSON_OBJECT;
		case JSON_ARRAY:
			return DISTIL_JSON_ARRAY;
		case JSON_STRING:
			return DISTIL_JSON_STRING;
		case JSON_INTEGER:
			return DISTIL_JSON_INTEGER;
		case JSON_REAL:
			return DISTIL_JSON_REAL;
		case JSON_TRUE:
		case JSON_FALSE:
			return DISTIL_JSON_BOOL;
		default:
			return DISTIL_JSON_NULL;
	}
}

size_t
distil_json_count(const DistilJson *value)
{
	const json_t *json = (const json_t *) value;

	if (json_is_array(json))
		return json_array_size(json);
	return json_object_size(json);	/* 0 unless an object */
}

const DistilJson *
distil_json_item(const DistilJson *array, size_t index)
{
	return (const DistilJson *) json_array_get((const json_t *) array, index);
}

const DistilJson *
distil_json_member(const DistilJson *object, const char *key)
{
	return (const DistilJson *) json_object_get((const json_t *) object, key);
}

const void *
distil_json_next(const DistilJson *object, const void *position,
				 const char **key, size_t *key_length, const DistilJson **value)
{
	json_t	   *json = (json_t *) (uintptr_t) object;
	void	   *at = (void *) (uintptr_t) position;

	at = at == NULL ? json_object_iter(json) : json_object_iter_next(json, at);
	if (at == NULL)
		return NULL;
	*key = json_object_iter_key(at);
	if (key_length != NULL)
		*key_length = strlen(*key);
	*value = (const DistilJson *) json_object_iter_value(at);
	return at;
}

bool
distil_json_bool(const DistilJson *value)
{
	return json_is_true((const json_t *) value);
}

int64_t
distil_json_integer(const DistilJson *value)
{
	return json_integer_value((const json_t *) value);
}

double
distil_json_number(const DistilJson *value)
{
	return json_number_value((const json_t *) value);
}

const char *
distil_json_string(const DistilJson *value, size_t *length)
{
	if (length != NULL)
		*length = json_string_length((const json_t *) value);
	return json_string_value((const json_t *) value);
}

/* ---------- typed members ---------- */

/* The member, or NULL when it is absent or null. */
static const json_t *
present_member(const DistilJson *object, const char *key)
{
	const json_t *value = json_object_get((const json_t *) object, key);

	return value == NULL || json_is_null(value) ? NULL : value;
}

static DistilStatus
fail_member(const DistilJsonDoc *doc, const char *key, const char *expected, DistilError *err)
{
	return distil_fail(err, DISTIL_ERR_TEXT_FILE, "\"%s\" of %s must be %s", key, doc->what, expected);
}

DistilStatus
distil_json_get_int(const DistilJsonDoc *doc, const DistilJson *object, const char *key,
					int64_t def, int64_t min, int64_t max, int64_t *out, DistilError *err)
{
	const json_t *value = present_member(object, key);

	*out = def;
	if (value == NULL)
		return DISTIL_OK;
	if (json_is_real(value) && json_real_value(value) == floor(json_real_value(value)) &&
		fabs(json_real_value(value)) < 9007199254740992.0)
		*out = (int64_t) json_real_value(value);
	else if (json_is_integer(value))
		*out = json_integer_value(value);
	else
		return fail_member(doc, key, "an integer", err);
	if (*out < min || *out > max)
	{
		fail_member(doc, key, "within its range", err);
		return distil_fail_detail(err, DISTIL_ERR_TEXT_FILE, "It is %lld; the range is %lld to %lld.",
								  (long long) *out, (long long) min, (long long) max);
	}
	return DISTIL_OK;
}

DistilStatus
distil_json_get_number(const DistilJsonDoc *doc, const DistilJson *object, const char *key,
					   double def, double min, double max, double *out, DistilError *err)
{
	const json_t *value = present_member(object, key);

	*out = def;
	if (value == NULL)
		return DISTIL_OK;
	if (!json_is_number(value))
		return fail_member(doc, key, "a number", err);
	*out = json_number_value(value);
	if (!(*out >= min && *out <= max))
	{
		fail_member(doc, key, "within its range", err);
		return distil_fail_detail(err, DISTIL_ERR_TEXT_FILE, "It is %g; the range is %g to %g.", *out, min,
								  max);
	}
	return DISTIL_OK;
}

DistilStatus
distil_json_get_bool(const DistilJsonDoc *doc, const DistilJson *object, const char *key,
					 bool def, bool *out, DistilError *err)
{
	const json_t *value = present_member(object, key);

	*out = def;
	if (value == NULL)
		return DISTIL_OK;
	if (!json_is_boolean(value))
		return fail_member(doc, key, "true or false", err);
	*out = json_is_true(value);
	return DISTIL_OK;
}

DistilStatus
distil_json_get_string(const DistilJsonDoc *doc, const DistilJson *object, const char *key,
					   const char *def, const char **out, DistilError *err)
{
	const json_t *value = present_member(object, key);

	*out = def;
	if (value == NULL)
		return DISTIL_OK;
	if (!json_is_string(value))
		return fail_member(doc, key, "a string", err);
	*out = json_string_value(value);
	return DISTIL_OK;
}

bool
distil_json_quote(DistilBuffer *buffer, const char *text, size_t length)
{
	static const char hex[] = "0123456789abcdef";
	size_t		plain = 0;

	if (!distil_buffer_append(buffer, "\"", 1))
		return false;
	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) text[i];
		char		escape[6] = "\\u00";
		size_t		width = 2;

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		if (c == '"' || c == '\\')
			escape[1] = (char) c;
		else if (c == '\n')
			escape[1] = 'n';
		else
		{
			escape[4] = hex[c >> 4];
			escape[5] = hex[c & 15];
			width = 6;
		}
		if (!distil_buffer_append(buffer, text + plain, i - plain) ||
			!distil_buffer_append(buffer, escape, width))
			return false;
		plain = i + 1;
	}
	return distil_buffer_append(buffer, text + plain, length - plain) &&
		distil_buffer_append(buffer, "\"", 1);
}
