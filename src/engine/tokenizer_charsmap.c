/*
 * tokenizer_charsmap.c
 *		Normalizer Precompiled: the character map of a SentencePiece model.
 *
 * A map is a length, a double array in units of 32 bits, and the replacements, each
 * ended by a zero byte.  The rule a newcomer would break: a grapheme cluster of less
 * than six bytes is looked up as a whole, the SHORTEST key that begins it decides, and
 * its replacement stands for the whole cluster; any other cluster is looked up
 * character by character.  Alignment follows the reference, where a character deleted
 * at the very beginning shifts the sources of all that follow.
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <string.h>

#define CLUSTER_BYTES	6
#define POLL_CHARS		16384

typedef struct Map
{
	const uint8_t *units;
	uint32_t	nunits;
	const uint8_t *strings;
	size_t		nstrings;
} Map;

static uint32_t
read_word(const uint8_t *p)
{
	return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

static bool
open_map(Map *map, const uint8_t *data, size_t length)
{
	uint32_t	bytes;

	if (length < 4)
		return false;
	bytes = read_word(data);
	if (bytes > length - 4 || bytes % 4 != 0 || bytes == 0)
		return false;
	map->units = data + 4;
	map->nunits = bytes / 4;
	map->strings = data + 4 + bytes;
	map->nstrings = length - 4 - bytes;
	return true;
}

static uint32_t
unit_offset(uint32_t unit)
{
	return (unit >> 10) << ((unit & 0x200) >> 6);
}

/* Replacement of the shortest key that begins the bytes; false: none. */
static bool
find(const Map *map, const uint8_t *bytes, size_t n, const uint8_t **text, size_t *length)
{
	uint32_t	at = unit_offset(read_word(map->units));

	for (size_t i = 0; i < n && bytes[i] != 0; i++)
	{
		uint32_t	unit;

		at ^= bytes[i];
		if (at >= map->nunits)
			return false;
		unit = read_word(map->units + (size_t) at * 4);
		if ((unit & 0x800000FFu) != bytes[i])
			return false;
		at ^= unit_offset(unit);
		if ((unit & 0x100) != 0)
		{
			size_t		start;
			const uint8_t *end;

			if (at >= map->nunits)
				return false;
			start = read_word(map->units + (size_t) at * 4) & 0x7FFFFFFFu;
			if (start > map->nstrings)
				return false;
			*text = map->strings + start;
			end = start < map->nstrings ? memchr(*text, 0, map->nstrings - start) : NULL;
			*length = end != NULL ? (size_t) (end - *text) : map->nstrings - start;
			return true;
		}
	}
	return false;
}

DistilStatus
distil_changes_push(DistilChanges *changes, uint32_t cp, int32_t change, DistilError *err)
{
	if (changes->n == changes->capacity)
	{
		size_t		capacity = changes->capacity * 2 + 16;
		DistilChange *items = distil_alloc_array(changes->alloc, capacity, sizeof(*items));

		if (items == NULL)
			return distil_fail_memory(err, capacity * sizeof(*items));
		if (changes->n > 0)
			memcpy(items, changes->items, changes->n * sizeof(*items));
		distil_release(changes->alloc, changes->items);
		changes->items = items;
		changes->capacity = capacity;
	}
	changes->items[changes->n].cp = cp;
	changes->items[changes->n++].change = change;
	return DISTIL_OK;
}

/* `old` of all nchars characters become the text. */
static DistilStatus
replace(DistilChanges *changes, size_t nchars, int32_t old, const uint8_t *text, size_t length,
		DistilError *err)
{
	const uint8_t *end = text + length;
	size_t		start = changes->n;
	int32_t		diff;

	while (text < end)
	{
		uint32_t	cp;
		int			n = distil_utf8_decode(&cp, text, end);

		if (n == 0)				/* a key that points into a character */
		{
			cp = 0xFFFD;
			n = 1;
		}
		DISTIL_FORWARD(distil_changes_push(changes, cp, 0, err));
		text += n;
		if (changes->n % 4096 == 0)
			DISTIL_FORWARD(distil_chars_bound(changes->n, nchars, err));
	}
	diff = (int32_t) (changes->n - start) - old;
	if (diff > 0)
		for (int32_t i = 0; i < diff; i++)
			changes->items[changes->n - 1 - (size_t) i].change = 1;
	else if (diff < 0 && changes->n > 0)
		changes->items[changes->n - 1].change += diff;
	return DISTIL_OK;
}

/* Characters of the cluster that begins at i, and its bytes if they are few. */
static size_t
cluster(const DistilChar *chars, size_t n, size_t i, uint8_t bytes[32], size_t *nbytes)
{
	size_t		end = i + 1;
	bool		pictograph = (distil_char_props(chars[i].cp).flags & DISTIL_CHAR_PICTOGRAPH) != 0;
	size_t		length = (size_t) distil_utf8_encode(bytes, chars[i].cp);

	while (end < n && distil_cluster_joins(chars[end - 1].cp, chars[end].cp, pictograph))
	{
		unsigned	flags = distil_char_props(chars[end].cp).flags;

		if ((flags & DISTIL_CHAR_EXTEND) == 0)
			pictograph = (flags & DISTIL_CHAR_PICTOGRAPH) != 0;
		if (length < CLUSTER_BYTES)
			length += (size_t) distil_utf8_encode(bytes + length, chars[end].cp);
		end++;
	}
	*nbytes = length;
	return end;
}

static DistilStatus
map_chars(DistilChanges *changes, const Map *map, const DistilChars *chars, bool *modified,
		  const DistilPoll *poll,
		  DistilError *err)
{
	bool		ascii_known[128] = {false};
	size_t		i = 0;
	size_t		steps = 0;
	const uint8_t *text;
	size_t		length;

	while (i < chars->n)
	{
		uint8_t		bytes[32];
		size_t		n;
		size_t		end;
		uint32_t	cp = chars->items[i].cp;

		if (++steps % POLL_CHARS == 0)
			DISTIL_POLL(poll, err);
		/* a letter with ASCII behind it is a cluster by itself */
		if (cp - 32 < 96 && (i + 1 == chars->n || chars->items[i + 1].cp < 128))
		{
			bytes[0] = (uint8_t) cp;
			if (ascii_known[cp] || !find(map, bytes, 1, &text, &length))
			{
				ascii_known[cp] = true;
				DISTIL_FORWARD(distil_changes_push(changes, cp, 0, err));
			}
			else
			{
				*modified = true;
				DISTIL_FORWARD(replace(changes, chars->n, 1, text, length, err));
			}
			i++;
			continue;
		}
		end = cluster(chars->items, chars->n, i, bytes, &n);
		if (n < CLUSTER_BYTES && find(map, bytes, n, &text, &length))
		{
			*modified = true;
			DISTIL_FORWARD(replace(changes, chars->n, (int32_t) (end - i), text, length, err));
			i = end;
			continue;
		}
		for (; i < end; i++)
		{
			n = (size_t) distil_utf8_encode(bytes, chars->items[i].cp);
			if (find(map, bytes, n, &text, &length))
			{
				*modified = true;
				DISTIL_FORWARD(replace(changes, chars->n, 1, text, length, err));
			}
			else
				DISTIL_FORWARD(distil_changes_push(changes, chars->items[i].cp, 0, err));
			if (i % POLL_CHARS == 0)
				DISTIL_POLL(poll, err);
		}
	}
	return DISTIL_OK;
}

DistilStatus
distil_changes_align(DistilChars *chars, const DistilChanges *changes, DistilError *err)
{
	DistilChars out = {.alloc = chars->alloc};
	size_t		k = 0;

	if (changes->n > 0)
	{
		out.items = distil_alloc_array(chars->alloc, changes->n, sizeof(*out.items));
		if (out.items == NULL)
			return distil_fail_memory(err, changes->n * sizeof(*out.items));
		out.capacity = changes->n;
	}
	for (size_t i = 0; i < changes->n; i++)
	{
		int32_t		change = changes->items[i].change;
		size_t		from = change > 0 ? (k > 0 ? k - 1 : 0) : k;

		out.items[out.n].cp = changes->items[i].cp;
		out.items[out.n++].source = chars->items[from < chars->n ? from : chars->n - 1].source;
		if (change <= 0)
			k += 1 + (size_t) -change;
	}
	distil_chars_take(chars, &out);
	return DISTIL_OK;
}

/* Does the text hold nothing but printable ASCII that the map leaves alone? */
static bool
untouched(const Map *map, const DistilChars *chars)
{
	uint8_t		known[128] = {0};	/* 1: stays */

	for (size_t i = 0; i < chars->n; i++)
	{
		uint32_t	cp = chars->items[i].cp;
		uint8_t		byte = (uint8_t) cp;
		const uint8_t *text;
		size_t		length;

		if (cp < 32 || cp >= 128)
			return false;
		if (known[cp] == 0 && find(map, &byte, 1, &text, &length))
			return false;
		known[cp] = 1;
	}
	return true;
}

static DistilStatus
run_charsmap(DistilChars *chars, const DistilStepArgs *args, const DistilPoll *poll, DistilError *err)
{
	DistilChanges		changes = {.alloc = chars->alloc};
	Map			map;
	bool		modified = false;
	DistilStatus status;

	if (args->data == NULL || !open_map(&map, args->data, args->length))
		return distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer has no valid character map");
	if (untouched(&map, chars))
		return DISTIL_OK;
	changes.capacity = chars->n + chars->n / 8 + 16;
	changes.items = distil_alloc_array(chars->alloc, changes.capacity, sizeof(*changes.items));
	if (changes.items == NULL)
		return distil_fail_memory(err, changes.capacity * sizeof(*changes.items));
	status = map_chars(&changes, &map, chars, &modified, poll, err);
	if (status == DISTIL_OK && modified)
		status = distil_changes_align(chars, &changes, err);
	distil_release(chars->alloc, changes.items);
	return status;
}

/* ---------- files ---------- */

static int
base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool
decode_base64(uint8_t *out, size_t *n, const char *text, size_t length)
{
	uint32_t	bits = 0;

	*n = 0;
	if (length % 4 != 0)
		return false;
	while (length > 0 && text[length - 1] == '=')
		length--;
	for (size_t i = 0; i < length; i++)
	{
		int			value = base64_value(text[i]);

		if (value < 0)
			return false;
		bits = bits << 6 | (uint32_t) value;
		if (i % 4 == 3)
		{
			out[(*n)++] = (uint8_t) (bits >> 16);
			out[(*n)++] = (uint8_t) (bits >> 8);
			out[(*n)++] = (uint8_t) bits;
		}
	}
	if (length % 4 == 2)
		out[(*n)++] = (uint8_t) (bits >> 4);
	else if (length % 4 == 3)
	{
		out[(*n)++] = (uint8_t) (bits >> 10);
		out[(*n)++] = (uint8_t) (bits >> 2);
	}
	return length % 4 != 1;
}

DistilStatus
distil_draft_charsmap(DistilDraft *draft, const void *data, size_t length, DistilError *err)
{
	Map			map;

	if (!open_map(&map, data, length) || !distil_utf8_valid((const char *) map.strings, map.nstrings))
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "precompiled_charsmap of %zu bytes is not valid",
						   length);
	return distil_draft_step_data(draft, draft->normalizer, &draft->nnormalizer, DISTIL_NORMALIZER_CHARSMAP,
								  0,
								  data, length, err);
}

static DistilStatus
parse_charsmap(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", "precompiled_charsmap", NULL};
	const char *text;
	uint8_t    *data;
	size_t		length;

	DISTIL_FORWARD(distil_draft_known(value, known, "normalizer Precompiled", err));
	DISTIL_FORWARD(distil_json_get_string(draft->doc, value, "precompiled_charsmap", "", &text, err));
	data = distil_arena_alloc(draft->arena, strlen(text) + 1, 1);
	if (data == NULL)
		return distil_fail_memory(err, strlen(text));
	if (!decode_base64(data, &length, text, strlen(text)))
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "precompiled_charsmap is not base64");
	return distil_draft_charsmap(draft, data, length, err);
}

const DistilNormalizerPart distil_normalizer_charsmap = {
	"Precompiled", DISTIL_NORMALIZER_CHARSMAP, parse_charsmap, run_charsmap
};
