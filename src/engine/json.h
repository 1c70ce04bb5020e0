/*
 * json.h
 *		Strict JSON: bytes and depth are capped before parsing, duplicate keys are
 *		rejected, numbers must be finite.  json.c is the only file that includes jansson.
 *
 * Values are borrowed from their document, which is freed as a whole.
 */
#ifndef DISTIL_JSON_H
#define DISTIL_JSON_H

#include "distil_engine.h"

typedef struct DistilJsonDoc DistilJsonDoc;
typedef struct DistilJson DistilJson;	/* a value, opaque */

typedef enum DistilJsonType
{
	DISTIL_JSON_NULL, DISTIL_JSON_BOOL, DISTIL_JSON_INTEGER, DISTIL_JSON_REAL,
	DISTIL_JSON_STRING, DISTIL_JSON_ARRAY, DISTIL_JSON_OBJECT
} DistilJsonType;

/* An object or an array; `what` names it in messages: file "config.json". */
extern DistilStatus distil_json_parse(DistilJsonDoc **doc, const char *text, size_t length, const char *what,
									  const DistilAllocator *alloc, DistilError *err);
/* Any value, for arguments of SQL: the caller says which it wants. */
extern DistilStatus distil_json_parse_value(DistilJsonDoc **doc, const char *text, size_t length,
											const char *what, const DistilAllocator *alloc, DistilError *err);
extern const DistilJson *distil_json_root(const DistilJsonDoc *doc);
extern void distil_json_free(DistilJsonDoc *doc);	/* takes NULL */

extern DistilJsonType distil_json_type(const DistilJson *value);
extern size_t distil_json_count(const DistilJson *value);	/* elements or members, 0 for others */
extern const DistilJson *distil_json_item(const DistilJson *array, size_t index);
/* NULL when absent; an explicit null gives a value of type NULL. */
extern const DistilJson *distil_json_member(const DistilJson *object, const char *key);
/*
 * Iterate over members: *key (terminated, length given; may hold no
 * NUL) and the value; position starts NULL.
 */
extern const void *distil_json_next(const DistilJson *object, const void *position,
									const char **key, size_t *key_length, const DistilJson **value);
extern bool distil_json_bool(const DistilJson *value);
extern int64_t distil_json_integer(const DistilJson *value);
extern double distil_json_number(const DistilJson *value);	/* of INTEGER and REAL */
extern const char *distil_json_string(const DistilJson *value, size_t *length);

/*
 * Typed members with defaults: absent or null gives the default; another type or a
 * value outside [min, max] is DISTIL_ERR_TEXT_FILE naming the document and the key.
 */
extern DistilStatus distil_json_get_int(const DistilJsonDoc *doc, const DistilJson *object, const char *key,
										int64_t def, int64_t min, int64_t max, int64_t *out,
										DistilError *err);
extern DistilStatus distil_json_get_number(const DistilJsonDoc *doc, const DistilJson *object,
										   const char *key, double def, double min, double max, double *out,
										   DistilError *err);
extern DistilStatus distil_json_get_bool(const DistilJsonDoc *doc, const DistilJson *object, const char *key,
										 bool def, bool *out, DistilError *err);
/* *out borrowed; def may be NULL */
extern DistilStatus distil_json_get_string(const DistilJsonDoc *doc, const DistilJson *object,
										   const char *key, const char *def, const char **out,
										   DistilError *err);

/* Append a JSON string literal (quotes, escapes) of UTF-8 text to a buffer-like writer. */
struct DistilBuffer;
extern bool distil_json_quote(struct DistilBuffer *buffer, const char *text, size_t length);

#endif							/* DISTIL_JSON_H */
