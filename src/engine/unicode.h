/*
 * unicode.h
 *		Characters as the tokenizers see them: UTF-8, classes, decomposition, lower case.
 *
 * The tables say what the Rust `tokenizers` library does (it mixes several Unicode
 * versions), not what the newest Unicode says: see make_unicode_tables.py.
 */
#ifndef DISTIL_UNICODE_H
#define DISTIL_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DISTIL_CHAR_REMOVED		1	/* deleted by BERT's clean_text: controls, formats, private use */
#define DISTIL_CHAR_SPACE		2	/* White_Space */
#define DISTIL_CHAR_PUNCTUATION	4	/* stands alone: ASCII symbols and P* of Unicode 8.0 */
#define DISTIL_CHAR_MN			8	/* nonspacing mark of Unicode 8.0 */
#define DISTIL_CHAR_CJK			16	/* ideograph: gets a space either side */
#define DISTIL_CHAR_WORD		32	/* \w of a regular expression */
#define DISTIL_CHAR_ACCENT		64	/* deleted by the StripAccents normalizer (Mn, Mc, Me) */
#define DISTIL_CHAR_MAPPED		128 /* has a table decomposition or a lower case */
#define DISTIL_CHAR_LETTER		256 /* \p{L} of a regular expression */
#define DISTIL_CHAR_NUMBER		512 /* \p{N} of a regular expression */
/* grapheme clusters */
#define DISTIL_CHAR_EXTEND		1024	/* joins the character before it */
#define DISTIL_CHAR_CONTROL		2048	/* joins nothing */
#define DISTIL_CHAR_PREPEND		4096	/* joins the character behind it */
#define DISTIL_CHAR_PICTOGRAPH	8192
#define DISTIL_CHAR_NUMERIC		16384	/* cut by the Digits pre-tokenizer */

typedef struct DistilCharProps
{
	uint16_t	flags;
	uint8_t		combining;		/* canonical combining class */
} DistilCharProps;

#define DISTIL_MAX_DECOMPOSITION 4
#define DISTIL_MAX_COMPATIBILITY 18

extern const DistilCharProps distil_char_records[];
extern const uint8_t distil_char_index[];
extern const uint8_t distil_char_blocks[];

/* cp must be below 0x110000. */
static inline DistilCharProps
distil_char_props(uint32_t cp)
{
	return distil_char_records[distil_char_blocks[(size_t) distil_char_index[cp >> 8] * 256 + (cp & 255)]];
}

/* Code points of the full canonical decomposition (unordered), or cp itself: 1 to 4. */
extern int	distil_char_nfd(uint32_t out[DISTIL_MAX_DECOMPOSITION], uint32_t cp);
/* The same with compatibility mappings: 1 to 18. */
extern int	distil_char_nfkd(uint32_t out[DISTIL_MAX_COMPATIBILITY], uint32_t cp);
/* The character that NFC makes of two, or 0. */
extern uint32_t distil_char_compose(uint32_t first, uint32_t second);
/* Does no grapheme cluster end between a and b?  pictograph: a follows one, with marks between. */
extern bool distil_cluster_joins(uint32_t a, uint32_t b, bool pictograph);
/* Lower case without context: 1 to 4 code points. */
extern int	distil_char_lower(uint32_t out[DISTIL_MAX_DECOMPOSITION], uint32_t cp);

/*
 * Bytes of the character at p (1 to 4) and its code point; 0 when the bytes up to
 * end do not begin with valid UTF-8 (also overlong forms and surrogates).
 */
extern int	distil_utf8_decode(uint32_t *cp, const uint8_t *p, const uint8_t *end);
/* Bytes written (1 to 4). */
extern int	distil_utf8_encode(uint8_t out[4], uint32_t cp);
extern bool distil_utf8_valid(const char *text, size_t length);

#endif							/* DISTIL_UNICODE_H */
