/*
 * tokenizer_chunk.c
 *		Cuts a text into chunks of at most so many tokens.
 *
 * The text is first cut into units that a chunk never splits: runs without blanks,
 * and each ideograph by itself.  A unit with more tokens than a chunk may hold is cut
 * into pieces first.  The rule a newcomer would break: tokens of a chunk are counted
 * on the chunk itself, since tokens of parts do not always add up (added tokens with
 * blanks inside); a chunk that turns out too long gives its last unit back.
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <limits.h>
#include <string.h>

#define WINDOW_BYTES	16		/* of a long unit are looked at first, for each token of the budget */

typedef struct Unit
{
	size_t		byte_start, byte_end;
	int32_t		start_pos, end_pos;
	int			tokens;
	bool		piece;			/* of a unit that did not fit: never in an overlap */
} Unit;

typedef struct Chunker
{
	const DistilTokenizer *tokenizer;
	const DistilText *text;
	const DistilAllocator *alloc;
	const DistilPoll *poll;
	int			max_tokens;
	int			budget;			/* without special tokens */
	int			overlap;
	DistilBuffer units;
	DistilBuffer chunks;
	DistilEncoding encoding;
} Chunker;

/* Tokens of bytes [start, end), special ones not counted; never more than one beyond `most`. */
static DistilStatus
count_to(Chunker *c, size_t start, size_t end, int most, bool offsets, int *tokens, DistilError *err)
{
	DistilText	part = {c->text->data + start, end - start};
	DistilEncodeOptions options = distil_tokenizer_defaults(c->tokenizer);

	options.add_special = false;
	options.offsets = offsets;
	options.max_tokens = most + 1;
	options.truncation = DISTIL_TRUNCATE_LONGEST_FIRST;
	DISTIL_FORWARD(distil_tokenizer_encode(c->tokenizer, &c->encoding, &part, NULL, &options, c->poll, err));
	*tokens = c->encoding.n;
	return DISTIL_OK;
}

static DistilStatus
count_tokens(Chunker *c, size_t start, size_t end, int *tokens, DistilError *err)
{
	return count_to(c, start, end, c->budget, false, tokens, err);
}

/*
 * Tokens of a unit; of more than the budget no more is said than that.  A byte-level BPE merges a run of
 * letters as a whole before its first token is known, so of a long unit only a beginning is encoded if that
 * has twice the budget's tokens: then the first ones do not hang on what is behind.
 */
static DistilStatus
count_unit(Chunker *c, Unit *unit, bool offsets, DistilError *err)
{
	size_t		length = unit->byte_end - unit->byte_start;
	size_t		window = (size_t) WINDOW_BYTES * (size_t) c->budget;
	int			most = c->budget < INT_MAX / 2 ? 2 * c->budget : c->budget;

	for (; window < length / 2; window *= 4)
	{
		size_t		end = unit->byte_start + window;

		while (((uint8_t) c->text->data[end] & 0xC0) == 0x80)
			end++;
		DISTIL_FORWARD(count_to(c, unit->byte_start, end, most, offsets, &unit->tokens, err));
		if (unit->tokens > most)
			return DISTIL_OK;
	}
	return count_to(c, unit->byte_start, unit->byte_end, c->budget, offsets, &unit->tokens, err);
}

static size_t
skip_chars(const DistilText *text, size_t at, int32_t n)
{
	while (n-- > 0 && at < text->length)
		do
			at++;
		while (at < text->length && ((uint8_t) text->data[at] & 0xC0) == 0x80);
	return at;
}

static DistilStatus
push_unit(Chunker *c, const Unit *unit, DistilError *err)
{
	return distil_buffer_append(&c->units, unit, sizeof(*unit)) ? DISTIL_OK
		: distil_fail_memory(err, c->units.length + sizeof(*unit));
}

/*
 * Where to cut a unit so that its beginning fits: behind the last word that fits, or
 * inside the first word when not even that fits.  c->encoding holds the unit's tokens.
 */
static int32_t
cut_position(const Chunker *c)
{
	const DistilEncoding *e = &c->encoding;
	int			n = c->budget;
	int			whole = n;

	if (n >= e->n)
		n = whole = e->n - 1;
	while (whole > 0 && e->words[whole - 1] == e->words[whole])
		whole--;
	return e->ends[(whole > 0 ? whole : n) - 1];
}

/* A unit that has more tokens than fit becomes pieces. */
static DistilStatus
split_unit(Chunker *c, Unit unit, DistilError *err)
{
	for (;;)
	{
		Unit		head;
		int32_t		chars;

		DISTIL_FORWARD(count_unit(c, &unit, true, err));
		if (unit.tokens <= c->budget)
			return push_unit(c, &unit, err);
		head = unit;
		chars = cut_position(c);
		if (chars >= unit.end_pos - unit.start_pos)
			chars = unit.end_pos - unit.start_pos - 1;
		for (;; chars--)
		{
			if (chars < 1)
				chars = 1;
			head.byte_end = skip_chars(c->text, unit.byte_start, chars);
			head.end_pos = unit.start_pos + chars;
			DISTIL_FORWARD(count_tokens(c, head.byte_start, head.byte_end, &head.tokens, err));
			if (head.tokens <= c->budget)
				break;
			if (chars == 1)
				return distil_fail(err, DISTIL_ERR_ARGUMENT,
								   "max_tokens %d is too small: one character has %d tokens",
								   c->max_tokens, head.tokens);
		}
		head.piece = true;
		DISTIL_FORWARD(push_unit(c, &head, err));
		unit.byte_start = head.byte_end;
		unit.start_pos = head.end_pos;
		unit.piece = true;
		if (unit.byte_start == unit.byte_end)
			return DISTIL_OK;
		DISTIL_POLL(c->poll, err);
	}
}

static DistilStatus
finish_unit(Chunker *c, Unit *unit, size_t byte, int32_t pos, DistilError *err)
{
	if (unit->byte_start == byte)
		return DISTIL_OK;
	unit->byte_end = byte;
	unit->end_pos = pos;
	DISTIL_FORWARD(count_unit(c, unit, false, err));
	return unit->tokens <= c->budget ? push_unit(c, unit, err) : split_unit(c, *unit, err);
}

static DistilStatus
find_units(Chunker *c, DistilError *err)
{
	const uint8_t *bytes = (const uint8_t *) c->text->data;
	size_t		length = c->text->length;
	Unit		unit = {0};
	int32_t		pos = 0;
	size_t		at = 0;

	if (length >= INT32_MAX)
		return distil_fail(err, DISTIL_ERR_LIMIT, "text of %zu bytes is too long for a tokenizer", length);
	while (at < length)
	{
		uint32_t	cp;
		int			n = distil_utf8_decode(&cp, bytes + at, bytes + length);
		unsigned	flags;

		if (n == 0)
			return distil_fail(err, DISTIL_ERR_ENCODING, "text is not valid UTF-8 at character %d", pos);
		flags = distil_char_props(cp).flags;
		if ((flags & (DISTIL_CHAR_SPACE | DISTIL_CHAR_CJK)) != 0)
		{
			DISTIL_FORWARD(finish_unit(c, &unit, at, pos, err));
			unit.byte_start = at + ((flags & DISTIL_CHAR_SPACE) != 0 ? (size_t) n : 0);
			unit.start_pos = pos + ((flags & DISTIL_CHAR_SPACE) != 0);
		}
		at += (size_t) n;
		pos++;
		if ((flags & DISTIL_CHAR_CJK) != 0)
		{
			DISTIL_FORWARD(finish_unit(c, &unit, at, pos, err));
			unit.byte_start = at;
			unit.start_pos = pos;
		}
	}
	return finish_unit(c, &unit, length, pos, err);
}

/* Units [from, to) as one chunk, if it fits; *fits says so. */
static DistilStatus
try_chunk(Chunker *c, const Unit *units, size_t from, size_t to, bool *fits, DistilError *err)
{
	DistilChunk chunk = {
		units[from].byte_start, units[to - 1].byte_end, units[from].start_pos, units[to - 1].end_pos, 0
	};

	DISTIL_FORWARD(count_tokens(c, chunk.byte_start, chunk.byte_end, &chunk.tokens, err));
	chunk.tokens += c->max_tokens - c->budget;
	*fits = chunk.tokens <= c->max_tokens;
	if (*fits && !distil_buffer_append(&c->chunks, &chunk, sizeof(chunk)))
		return distil_fail_memory(err, c->chunks.length + sizeof(chunk));
	return DISTIL_OK;
}

/*
 * First unit of the next chunk: words before `to` with at most `overlap` tokens, and
 * room for one more.  Blanks between words may be tokens, so what is found is counted.
 */
static DistilStatus
overlap_start(Chunker *c, const Unit *units, size_t from, size_t to, size_t n, size_t *next, DistilError *err)
{
	size_t		start = to;
	int			tokens = 0;

	*next = to;
	if (to == n)
		return DISTIL_OK;
	while (start > from + 1 && !units[start - 1].piece && tokens + units[start - 1].tokens <= c->overlap &&
		   tokens + units[start - 1].tokens + units[to].tokens <= c->budget)
		tokens += units[--start].tokens;
	for (; start < to; start++)
	{
		DISTIL_FORWARD(count_tokens(c, units[start].byte_start, units[to - 1].byte_end, &tokens, err));
		if (tokens <= c->overlap)
			break;
	}
	*next = start;
	return DISTIL_OK;
}

static DistilStatus
make_chunks(Chunker *c, DistilError *err)
{
	const Unit *units = (const Unit *) (const void *) c->units.data;
	size_t		n = c->units.length / sizeof(Unit);
	size_t		from = 0;
	size_t		covered = 0;	/* units that are in a chunk */

	while (covered < n)
	{
		size_t		to = from;
		int			tokens = 0;
		bool		fits = false;

		while (to < n && (to <= covered || tokens + units[to].tokens <= c->budget))
			tokens += units[to++].tokens;
		for (;;)
		{
			DISTIL_FORWARD(try_chunk(c, units, from, to, &fits, err));
			if (fits)
				break;
			if (to > covered + 1)
				to--;
			else if (from < covered)
				from++;
			else
				return distil_fail(err, DISTIL_ERR_ARGUMENT,
								   "max_tokens %d is too small for a word of the text", c->max_tokens);
		}
		covered = to;
		DISTIL_FORWARD(overlap_start(c, units, from, to, n, &from, err));
		DISTIL_POLL(c->poll, err);
	}
	return DISTIL_OK;
}

DistilStatus
distil_tokenizer_chunk(const DistilTokenizer *tokenizer, DistilChunk **chunks, int *nchunks,
					   const DistilText *text, int max_tokens, int overlap,
					   const DistilAllocator *alloc, const DistilPoll *poll, DistilError *err)
{
	Chunker		c = {
		.tokenizer = tokenizer, .text = text, .alloc = alloc, .poll = poll, .max_tokens = max_tokens,
		.budget = max_tokens - tokenizer->special.added_single, .overlap = overlap
	};
	DistilStatus status;

	*chunks = NULL;
	*nchunks = 0;
	if (max_tokens < 0 || c.budget < 1)
		return distil_fail(err, DISTIL_ERR_ARGUMENT,
						   "max_tokens %d leaves no room beside the %d special tokens",
						   max_tokens, tokenizer->special.added_single);
	if (overlap < 0 || overlap >= c.budget)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "overlap %d is not between 0 and %d", overlap,
						   c.budget - 1);
	distil_buffer_init(&c.units, alloc);
	distil_buffer_init(&c.chunks, alloc);
	distil_encoding_init(&c.encoding, alloc);
	status = find_units(&c, err);
	if (status == DISTIL_OK)
		status = make_chunks(&c, err);
	if (status == DISTIL_OK && c.chunks.length > 0)
	{
		size_t		n = c.chunks.length / sizeof(DistilChunk);

		*chunks = distil_alloc_array(alloc, n, sizeof(DistilChunk));
		if (*chunks == NULL)
			status = distil_fail_memory(err, c.chunks.length);
		else
		{
			memcpy(*chunks, c.chunks.data, c.chunks.length);
			*nchunks = (int) n;
		}
	}
	distil_buffer_free(&c.units);
	distil_buffer_free(&c.chunks);
	distil_encoding_reset(&c.encoding);
	return status;
}
