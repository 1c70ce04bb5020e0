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
#define HANGUL_NL		19u
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
distil_char_nfkd(uint32_t out[DISTIL_MAX_COMPATIBILITY], uint32_t cp)
{
	if (cp < MAP_LIMIT)
	{
		unsigned	at = distil_nfkd_blocks[(size_t) distil_nfkd_index[cp >> 8] * 256 + (cp & 255)];

		if (at != 0)
			return copy_sequence(out, distil_nfkd_pool + at);
	}
	return distil_char_nfd(out, cp);
}

uint32_t
distil_char_compose(uint32_t first, uint32_t second)
{
	uint32_t	l = first - HANGUL_L;
	uint32_t	syllable = first - HANGUL_BASE;
	size_t		low = 0;
	size_t		high = sizeof(distil_pairs) / sizeof(distil_pairs[0]) / 3;

	if (l < HANGUL_NL && second - HANGUL_V < HANGUL_NV)
		return HANGUL_BASE + (l * HANGUL_NV + (second - HANGUL_V)) * HANGUL_NT;
	if (syllable < HANGUL_COUNT && syllable % HANGUL_NT == 0 && second > HANGUL_T &&
		second < HANGUL_T + HANGUL_NT)
		return first + (second - HANGUL_T);
	while (low < high)
	{
		size_t		middle = (low + high) / 2;
		const uint32_t *row = distil_pairs + 3 * middle;

		if (row[0] == first && row[1] == second)
			return row[2];
		if (row[0] < first || (row[0] == first && row[1] < second))
			low = middle + 1;
		else
			high = middle;
	}
	return 0;
}

/* ---------- grapheme clusters ---------- */

#define ZWJ 0x200Du

/* Hangul: 1 L, 2 V, 3 T, 4 LV, 5 LVT, 0 none */
static int
hangul_kind(uint32_t cp)
{
	if ((cp >= 0x1100 && cp <= 0x115F) || (cp >= 0xA960 && cp <= 0xA97C))
		return 1;
	if ((cp >= 0x1160 && cp <= 0x11A7) || (cp >= 0xD7B0 && cp <= 0xD7C6))
		return 2;
	if ((cp >= 0x11A8 && cp <= 0x11FF) || (cp >= 0xD7CB && cp <= 0xD7FB))
		return 3;
	if (cp - HANGUL_BASE < HANGUL_COUNT)
		return (cp - HANGUL_BASE) % HANGUL_NT == 0 ? 4 : 5;
	return 0;
}

bool
distil_cluster_joins(uint32_t a, uint32_t b, bool pictograph)
{
	unsigned	before = distil_char_props(a).flags;
	unsigned	after = distil_char_props(b).flags;
	int			ha;
	int			hb;

	if (a == '\r' && b == '\n')
		return true;
	if (((before | after) & DISTIL_CHAR_CONTROL) != 0)
		return false;
	if ((after & DISTIL_CHAR_EXTEND) != 0 || (before & DISTIL_CHAR_PREPEND) != 0)
		return true;
	if (pictograph && a == ZWJ && (after & DISTIL_CHAR_PICTOGRAPH) != 0)
		return true;
	if (a - 0x1F1E6 < 26 && b - 0x1F1E6 < 26)
		return true;			/* the cluster has eight bytes, however flags pair up */
	ha = hangul_kind(a);
	hb = hangul_kind(b);
	return (ha == 1 && (hb == 1 || hb == 2 || hb >= 4)) || ((ha == 2 || ha == 4) && (hb == 2 || hb == 3)) ||
		((ha == 3 || ha == 5) && hb == 3);
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
