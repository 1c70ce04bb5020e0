/*
 * unicode.c
 *		Character tables and UTF-8.
 *
 * Everything here is our own table: ICU's answers change with its version, while ids
 * of tokens must be the same on every machine and equal to those of Hugging Face
 * tokenizers, whose tables are older than any ICU in use.  Whoever adds a property measures it in
 * make_unicode_tables.py instead of asking a newer Unicode.
 */
#include "unicode.h"

#include "unicode_tables.h"

#define HANGUL_BASE		0xAC00u
#define HANGUL_COUNT	11172u
#define HANGUL_L		0x1100u
#define HANGUL_V		0x1161u
#define HANGUL_T		0x11A7u
#define HANGUL_NV		21u
#define HANGUL_NT		28u
#define MAP_LIMIT		0x30000u

static int
copy_sequence(uint32_t *out, const uint32_t *sequence)
{
	int			n = (int) sequence[0];
	int			i;

	for (i = 0; i < n; i++)
		out[i] = sequence[1 + i];
	return n;
}

int
distil_char_nfd(uint32_t out[DISTIL_MAX_DECOMPOSITION], uint32_t cp)
{
	uint32_t	hangul = cp - HANGUL_BASE;

	if (hangul < HANGUL_COUNT)
	{
		out[0] = HANGUL_L + hangul / (HANGUL_NV * HANGUL_NT);
		out[1] = HANGUL_V + hangul % (HANGUL_NV * HANGUL_NT) / HANGUL_NT;
		out[2] = HANGUL_T + hangul % HANGUL_NT;
		return hangul % HANGUL_NT != 0 ? 3 : 2;
	}
	if (cp < MAP_LIMIT)
	{
		unsigned	at = distil_nfd_blocks[(size_t) distil_nfd_index[cp >> 8] * 256 + (cp & 255)];

		if (at != 0)
			return copy_sequence(out, distil_nfd_pool + at);
	}
	out[0] = cp;
	return 1;
}

int
distil_char_lower(uint32_t out[DISTIL_MAX_DECOMPOSITION], uint32_t cp)
{
	if (cp < MAP_LIMIT)
	{
		unsigned	at = distil_lower_blocks[(size_t) distil_lower_index[cp >> 8] * 256 + (cp & 255)];

		if (at != 0)
			return copy_sequence(out, distil_lower_pool + at);
	}
	out[0] = cp;
	return 1;
}

int
distil_utf8_decode(uint32_t *cp, const uint8_t *p, const uint8_t *end)
{
	size_t		left = (size_t) (end - p);
	uint32_t	c;

	if (left == 0)
		return 0;
	c = p[0];
	if (c < 0x80)
	{
		*cp = c;
		return 1;
	}
	if (c >= 0xC2 && c < 0xE0 && left >= 2 && (p[1] & 0xC0) == 0x80)
	{
		*cp = (c & 0x1F) << 6 | (p[1] & 0x3Fu);
		return 2;
	}
	if ((c & 0xF0) == 0xE0 && left >= 3 && (p[1] & 0xC0) == 0x80 && (p[2] & 0xC0) == 0x80)
	{
		*cp = (c & 0x0F) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
		return *cp >= 0x800 && (*cp < 0xD800 || *cp >= 0xE000) ? 3 : 0;
	}
	if (c >= 0xF0 && c < 0xF5 && left >= 4 && (p[1] & 0xC0) == 0x80 && (p[2] & 0xC0) == 0x80 &&
		(p[3] & 0xC0) == 0x80)
	{
		*cp = (c & 0x07) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
		return *cp >= 0x10000 && *cp < 0x110000 ? 4 : 0;
	}
	return 0;
}

int
distil_utf8_encode(uint8_t out[4], uint32_t cp)
{
	if (cp < 0x80)
	{
		out[0] = (uint8_t) cp;
		return 1;
	}
	if (cp < 0x800)
	{
		out[0] = (uint8_t) (0xC0 | cp >> 6);
		out[1] = (uint8_t) (0x80 | (cp & 0x3F));
		return 2;
	}
	if (cp < 0x10000)
	{
		out[0] = (uint8_t) (0xE0 | cp >> 12);
		out[1] = (uint8_t) (0x80 | (cp >> 6 & 0x3F));
		out[2] = (uint8_t) (0x80 | (cp & 0x3F));
		return 3;
	}
	out[0] = (uint8_t) (0xF0 | cp >> 18);
	out[1] = (uint8_t) (0x80 | (cp >> 12 & 0x3F));
	out[2] = (uint8_t) (0x80 | (cp >> 6 & 0x3F));
	out[3] = (uint8_t) (0x80 | (cp & 0x3F));
	return 4;
}

bool
distil_utf8_valid(const char *text, size_t length)
{
	const uint8_t *p = (const uint8_t *) text;
	const uint8_t *end = p + length;
	uint32_t	cp;

	while (p < end)
	{
		int			n = distil_utf8_decode(&cp, p, end);

		if (n == 0)
			return false;
		p += n;
	}
	return true;
}
