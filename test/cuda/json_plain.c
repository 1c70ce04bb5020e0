/*
 * json_plain.c
 *		json.h without jansson, for a GPU machine that has no such library: what this repository's own
 *		test models hold, nothing of a hostile file.
 *
 * Takes the place of src/engine/json.c in programs of test/; the product never has it.
 */
#include "alloc.h"
#include "json.h"
#include "status.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct DistilJson
{
	DistilJsonType type;
	int64_t		integer;		/* also of BOOL */
	double		number;
	char	   *text;			/* of STRING */
	size_t		length;
	char	   *key;			/* of a member */
	size_t		key_length;
	size_t		count;
	DistilJson **children;
	DistilJson *next;			/* while it is parsed */
};

struct DistilJsonDoc
{
	DistilArena *arena;
	const DistilAllocator *alloc;
	DistilJson *root;
	char		what[80];
};

typedef struct Parser
{
	DistilArena *arena;
	const char *at;
	const char *end;
} Parser;

static DistilJson *parse_value(Parser *p);

static void
skip_blanks(Parser *p)
{
	while (p->at < p->end && strchr(" \t\r\n", *p->at) != NULL)
		p->at++;
}

static bool
take(Parser *p, char c)
{
	skip_blanks(p);
	if (p->at == p->end || *p->at != c)
		return false;
	p->at++;
	return true;
}

static size_t
write_utf8(char *to, unsigned code)
{
	if (code < 0x80)
		return (size_t) (to[0] = (char) code, 1);
	if (code < 0x800)
		return (size_t) (to[0] = (char) (0xc0 | code >> 6), to[1] = (char) (0x80 | (code & 63)), 2);
	if (code < 0x10000)
		return (size_t) (to[0] = (char) (0xe0 | code >> 12), to[1] = (char) (0x80 | (code >> 6 & 63)),
						 to[2] = (char) (0x80 | (code & 63)), 3);
	return (size_t) (to[0] = (char) (0xf0 | code >> 18), to[1] = (char) (0x80 | (code >> 12 & 63)),
					 to[2] = (char) (0x80 | (code >> 6 & 63)), to[3] = (char) (0x80 | (code & 63)), 4);
}

static unsigned
parse_hex(Parser *p)
{
	char		digits[5] = "";

	if (p->end - p->at < 4)
		return 0;
	memcpy(digits, p->at, 4);
	p->at += 4;
	return (unsigned) strtoul(digits, NULL, 16);
}

/* Behind the opening quote; NULL when it does not end. */
static char *
parse_string(Parser *p, size_t *length)
{
	static const char escapes[] = "b\bf\fn\nr\rt\t";
	const char *end = p->at;
	char	   *text;
	size_t		used = 0;

	while (end < p->end && *end != '"')
		end += *end == '\\' ? 2 : 1;
	if (end >= p->end)
		return NULL;
	text = distil_arena_alloc(p->arena, (size_t) (end - p->at) + 4, 1);
	while (text != NULL && p->at < end)
	{
		unsigned	code;
		const char *escape;

		if (*p->at != '\\')
		{
			text[used++] = *p->at++;
			continue;
		}
		p->at += 2;
		if (p->at[-1] != 'u')
		{
			escape = strchr(escapes, p->at[-1]);
			text[used++] = escape != NULL ? escape[1] : p->at[-1];
			continue;
		}
		code = parse_hex(p);
		if (code >= 0xd800 && code < 0xdc00)
		{
			p->at += 2;
			code = 0x10000 + ((code - 0xd800) << 10) + (parse_hex(p) - 0xdc00);
		}
		used += write_utf8(text + used, code);
	}
	p->at = end + 1;
	*length = used;
	return text;
}

/* Elements or members up to the closing bracket. */
static bool
parse_children(Parser *p, DistilJson *parent, char closing)
{
	DistilJson *first = NULL;
	DistilJson **last = &first;
	size_t		i;

	if (take(p, closing))
		return true;
	do
	{
		char	   *key = NULL;
		size_t		key_length = 0;

		if (closing == '}' && (!take(p, '"') || (key = parse_string(p, &key_length)) == NULL ||
							   !take(p, ':')))
			return false;
		*last = parse_value(p);
		if (*last == NULL)
			return false;
		(*last)->key = key;
		(*last)->key_length = key_length;
		last = &(*last)->next;
		parent->count++;
	}
	while (take(p, ','));
	parent->children = distil_arena_alloc(p->arena, parent->count, sizeof(DistilJson *));
	if (parent->children == NULL)
		return false;
	for (i = 0; i < parent->count; i++, first = first->next)
		parent->children[i] = first;
	return take(p, closing);
}

static bool
parse_number(Parser *p, DistilJson *value)
{
	char		text[64] = "";
	size_t		length = strspn(p->at, "+-0123456789.eE");
	char	   *end;

	if (length == 0 || length >= sizeof(text))
		return false;
	memcpy(text, p->at, length);
	p->at += length;
	errno = 0;
	value->integer = strtoll(text, &end, 10);
	value->number = strtod(text, NULL);
	value->type = *end == '\0' && errno == 0 ? DISTIL_JSON_INTEGER : DISTIL_JSON_REAL;
	return isfinite(value->number);
}

static bool
parse_word(Parser *p, const char *word)
{
	size_t		length = strlen(word);

	if ((size_t) (p->end - p->at) < length || memcmp(p->at, word, length) != 0)
		return false;
	p->at += length;
	return true;
}

static DistilJson *
parse_value(Parser *p)
{
	DistilJson *value = distil_arena_alloc(p->arena, 1, sizeof(DistilJson));
	bool		ok = true;

	if (value == NULL)
		return NULL;
	skip_blanks(p);
	if (take(p, '{'))
	{
		value->type = DISTIL_JSON_OBJECT;
		ok = parse_children(p, value, '}');
	}
	else if (take(p, '['))
	{
		value->type = DISTIL_JSON_ARRAY;
		ok = parse_children(p, value, ']');
	}
	else if (take(p, '"'))
	{
		value->type = DISTIL_JSON_STRING;
		value->text = parse_string(p, &value->length);
		ok = value->text != NULL;
	}
	else if (parse_word(p, "true") || parse_word(p, "false"))
	{
		value->type = DISTIL_JSON_BOOL;
		value->integer = p->at[-2] == 'u';
	}
	else if (parse_word(p, "null"))
		value->type = DISTIL_JSON_NULL;
	else
		ok = parse_number(p, value);
	return ok ? value : NULL;
}

DistilStatus
distil_json_parse(DistilJsonDoc **doc, const char *text, size_t length, const char *what,
				  const DistilAllocator *alloc, DistilError *err)
{
	DistilArena *arena = distil_arena_create(alloc);
	DistilJsonDoc *made = arena != NULL ? distil_arena_alloc(arena, 1, sizeof(*made)) : NULL;
	char	   *copy = arena != NULL ? distil_arena_string(arena, text, length) : NULL;	/* terminated */
	Parser		p = {arena, copy, copy + length};

	*doc = NULL;
	if (made == NULL || copy == NULL || (made->root = parse_value(&p)) == NULL)
	{
		distil_arena_free(arena);
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "%s is not valid JSON", what);
	}
	made->arena = arena;
	made->alloc = alloc;
	snprintf(made->what, sizeof(made->what), "%s", what);
	*doc = made;
	return DISTIL_OK;
}

DistilStatus
distil_json_parse_value(DistilJsonDoc **doc, const char *text, size_t length, const char *what,
						const DistilAllocator *alloc, DistilError *err)
{
	return distil_json_parse(doc, text, length, what, alloc, err);
}

const DistilJson *
distil_json_root(const DistilJsonDoc *doc)
{
	return doc->root;
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
	return value->type;
}

size_t
distil_json_count(const DistilJson *value)
{
	return value->count;
}

const DistilJson *
distil_json_item(const DistilJson *array, size_t index)
{
	return array->type == DISTIL_JSON_ARRAY && index < array->count ? array->children[index] : NULL;
}

const DistilJson *
distil_json_member(const DistilJson *object, const char *key)
{
	size_t		i;

	for (i = 0; object->type == DISTIL_JSON_OBJECT && i < object->count; i++)
		if (strcmp(object->children[i]->key, key) == 0)
			return object->children[i];
	return NULL;
}

const void *
distil_json_next(const DistilJson *object, const void *position, const char **key, size_t *key_length,
				 const DistilJson **value)
{
	DistilJson *const *next = position != NULL ? (DistilJson *const *) position + 1 : object->children;

	if (object->type != DISTIL_JSON_OBJECT || object->count == 0 || next == object->children + object->count)
		return NULL;
	if (key != NULL)
		*key = (*next)->key;
	if (key_length != NULL)
		*key_length = (*next)->key_length;
	if (value != NULL)
		*value = *next;
	return next;
}

bool
distil_json_bool(const DistilJson *value)
{
	return value->integer != 0;
}

int64_t
distil_json_integer(const DistilJson *value)
{
	return value->integer;
}

double
distil_json_number(const DistilJson *value)
{
	return value->number;
}

const char *
distil_json_string(const DistilJson *value, size_t *length)
{
	if (length != NULL)
		*length = value->length;
	return value->text;
}

/* The member of one of two types; NULL: absent or null.  false: another type. */
static bool
typed_member(const DistilJson **value, const DistilJsonDoc *doc, const DistilJson *object, const char *key,
			 DistilJsonType type, DistilJsonType other, DistilError *err)
{
	*value = distil_json_member(object, key);
	if (*value != NULL && (*value)->type == DISTIL_JSON_NULL)
		*value = NULL;
	if (*value == NULL || (*value)->type == type || (*value)->type == other)
		return true;
	distil_fail(err, DISTIL_ERR_TEXT_FILE, "%s: \"%s\" has the wrong type", doc->what, key);
	return false;
}

DistilStatus
distil_json_get_int(const DistilJsonDoc *doc, const DistilJson *object, const char *key, int64_t def,
					int64_t min, int64_t max, int64_t *out, DistilError *err)
{
	const DistilJson *value;

	if (!typed_member(&value, doc, object, key, DISTIL_JSON_INTEGER, DISTIL_JSON_INTEGER, err))
		return DISTIL_ERR_TEXT_FILE;
	*out = value != NULL ? value->integer : def;
	if (value != NULL && (*out < min || *out > max))
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "%s: \"%s\" is out of range", doc->what, key);
	return DISTIL_OK;
}

DistilStatus
distil_json_get_number(const DistilJsonDoc *doc, const DistilJson *object, const char *key, double def,
					   double min, double max, double *out, DistilError *err)
{
	const DistilJson *value;

	if (!typed_member(&value, doc, object, key, DISTIL_JSON_INTEGER, DISTIL_JSON_REAL, err))
		return DISTIL_ERR_TEXT_FILE;
	*out = value != NULL ? value->number : def;
	if (value != NULL && !(*out >= min && *out <= max))
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "%s: \"%s\" is out of range", doc->what, key);
	return DISTIL_OK;
}

DistilStatus
distil_json_get_bool(const DistilJsonDoc *doc, const DistilJson *object, const char *key, bool def, bool *out,
					 DistilError *err)
{
	const DistilJson *value;

	if (!typed_member(&value, doc, object, key, DISTIL_JSON_BOOL, DISTIL_JSON_BOOL, err))
		return DISTIL_ERR_TEXT_FILE;
	*out = value != NULL ? value->integer != 0 : def;
	return DISTIL_OK;
}

DistilStatus
distil_json_get_string(const DistilJsonDoc *doc, const DistilJson *object, const char *key, const char *def,
					   const char **out, DistilError *err)
{
	const DistilJson *value;

	if (!typed_member(&value, doc, object, key, DISTIL_JSON_STRING, DISTIL_JSON_STRING, err))
		return DISTIL_ERR_TEXT_FILE;
	*out = value != NULL ? value->text : def;
	return DISTIL_OK;
}

bool
distil_json_quote(struct DistilBuffer *buffer, const char *text, size_t length)
{
	bool		ok = distil_buffer_append(buffer, "\"", 1);
	size_t		i;

	for (i = 0; i < length && ok; i++)
	{
		char		escaped[8];

		if (text[i] == '"' || text[i] == '\\')
			snprintf(escaped, sizeof(escaped), "\\%c", text[i]);
		else if ((unsigned char) text[i] < 0x20)
			snprintf(escaped, sizeof(escaped), "\\u%04x", (unsigned) (unsigned char) text[i]);
		else
			snprintf(escaped, sizeof(escaped), "%c", text[i]);
		ok = distil_buffer_append(buffer, escaped, strlen(escaped));
	}
	return ok && distil_buffer_append(buffer, "\"", 1);
}
