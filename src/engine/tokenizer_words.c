/*
 * tokenizer_words.c
 *		From characters to words: the word under construction, canonical ordering, the
 *		added tokens found in a text, and the walk over one sequence.
 *
 * The rule a newcomer would break: `source` is the index of a character of the
 * caller's text, counted in code points, also where the normaliser deleted or
 * inserted characters before it.
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <string.h>

/* Bytes of text handled between two polls and two looks at the token limit. */
#define WINDOW 4096

void
distil_words_char(DistilWords *words, uint32_t cp, uint32_t source)
{
	if (words->nchars == 0)
		words->first_source = source;
	words->last_source = source;
	if (words->nchars++ < words->max_chars)
	{
		int			n = distil_utf8_encode(words->bytes + words->length, cp);

		if (words->offsets)
			for (int i = 0; i < n; i++)
				words->sources[words->length + (size_t) i] = source;
		words->length += (size_t) n;
	}
	else if (words->nchars == INT32_MAX)
		words->nchars--;
}

DistilStatus
distil_words_end(DistilWords *words, DistilError *err)
{
	DistilStatus status = DISTIL_OK;

	if (words->nchars > 0)
	{
		status = words->tokenizer->model_part->word(words, err);
		words->word++;
		words->nchars = 0;
		words->length = 0;
	}
	return status;
}

/* ---------- canonical ordering ---------- */

DistilStatus
distil_marks_add(DistilMarks *marks, uint32_t cp, uint32_t source, uint8_t combining, bool added,
				 const DistilAllocator *alloc, DistilError *err)
{
	DistilMark *mark;

	if (marks->items == NULL)
	{
		marks->items = marks->stack_items;
		marks->capacity = DISTIL_STACK_MARKS;
	}
	if (marks->n == marks->capacity)
	{
		DistilMark *items = distil_alloc_array(alloc, marks->capacity * 2, sizeof(*items));

		if (items == NULL)
			return distil_fail_memory(err, marks->capacity * 2 * sizeof(*items));
		memcpy(items, marks->items, marks->n * sizeof(*items));
		if (marks->items != marks->stack_items)
			distil_release(alloc, marks->items);
		marks->items = items;
		marks->capacity *= 2;
	}
	mark = &marks->items[marks->n++];
	mark->cp = cp;
	mark->source = source;
	mark->combining = combining;
	mark->added = added;
	return DISTIL_OK;
}

/* Stable sort by class: insertion for short runs, counting for the others. */
static DistilStatus
sort_marks(DistilMarks *marks, const DistilAllocator *alloc, DistilError *err)
{
	DistilMark *items = marks->items;

	if (marks->n <= DISTIL_STACK_MARKS)
	{
		for (size_t i = 1; i < marks->n; i++)
		{
			DistilMark	mark = items[i];
			size_t		j = i;

			for (; j > 0 && items[j - 1].combining > mark.combining; j--)
				items[j] = items[j - 1];
			items[j] = mark;
		}
	}
	else
	{
		size_t		starts[257] = {0};
		DistilMark *sorted = distil_alloc_array(alloc, marks->n, sizeof(*sorted));

		if (sorted == NULL)
			return distil_fail_memory(err, marks->n * sizeof(*sorted));
		for (size_t i = 0; i < marks->n; i++)
			starts[items[i].combining + 1]++;
		for (int c = 1; c < 257; c++)
			starts[c] += starts[c - 1];
		for (size_t i = 0; i < marks->n; i++)
			sorted[starts[items[i].combining]++] = items[i];
		memcpy(items, sorted, marks->n * sizeof(*sorted));
		distil_release(alloc, sorted);
	}
	return DISTIL_OK;
}

/*
 * The reference aligns the sorted characters one after the other: those that are not
 * `added` take the sources of the run in text order, an added one that of its
 * predecessor, whatever character each once belonged to.
 */
DistilStatus
distil_marks_sort(DistilMarks *marks, const DistilAllocator *alloc, DistilError *err)
{
	bool		sorted = true;
	uint32_t	last = marks->last_source;
	size_t		k = 0;
	uint32_t   *sources = NULL;
	uint32_t	stack_sources[DISTIL_STACK_MARKS];
	DistilStatus status;

	for (size_t i = 1; i < marks->n; i++)
		if (marks->items[i - 1].combining > marks->items[i].combining)
			sorted = false;
	if (sorted)
		return DISTIL_OK;
	sources = stack_sources;
	if (marks->n > DISTIL_STACK_MARKS)
	{
		sources = distil_alloc_array(alloc, marks->n, sizeof(*sources));
		if (sources == NULL)
			return distil_fail_memory(err, marks->n * sizeof(*sources));
	}
	for (size_t i = 0; i < marks->n; i++)
		if (!marks->items[i].added)
			sources[k++] = marks->items[i].source;
	status = sort_marks(marks, alloc, err);
	k = 0;
	for (size_t i = 0; status == DISTIL_OK && i < marks->n; i++)
	{
		if (!marks->items[i].added)
			last = sources[k++];
		marks->items[i].source = last;
	}
	if (sources != stack_sources)
		distil_release(alloc, sources);
	return status;
}

/* ---------- added tokens ---------- */

static bool
word_before(const uint8_t *text, size_t at)
{
	size_t		start = at;
	uint32_t	cp;

	if (at == 0)
		return false;
	do
		start--;
	while (start > 0 && (text[start] & 0xC0) == 0x80 && at - start < 4);
	return distil_utf8_decode(&cp, text + start, text + at) != 0 &&
		(distil_char_props(cp).flags & DISTIL_CHAR_WORD) != 0;
}

static bool
word_after(const uint8_t *text, size_t at, size_t length)
{
	uint32_t	cp;

	return distil_utf8_decode(&cp, text + at, text + length) != 0 &&
		(distil_char_props(cp).flags & DISTIL_CHAR_WORD) != 0;
}

static size_t
swallow_before(const uint8_t *text, size_t at, size_t taken)
{
	while (at > taken)
	{
		size_t		start = at;
		uint32_t	cp;

		do
			start--;
		while (start > taken && (text[start] & 0xC0) == 0x80 && at - start < 4);
		if (distil_utf8_decode(&cp, text + start, text + at) == 0 ||
			(distil_char_props(cp).flags & DISTIL_CHAR_SPACE) == 0)
			break;
		at = start;
	}
	return at;
}

static size_t
swallow_after(const uint8_t *text, size_t at, size_t length)
{
	uint32_t	cp;
	int			n;

	while ((n = distil_utf8_decode(&cp, text + at, text + length)) != 0 &&
		   (distil_char_props(cp).flags & DISTIL_CHAR_SPACE) != 0)
		at += (size_t) n;
	return at;
}

bool
distil_match_find(const DistilTokenizer *tokenizer, bool normalized, bool parse_special,
				  const uint8_t *text, size_t length, size_t from, size_t to, size_t taken,
				  DistilMatch *match)
{
	const DistilTrie *trie = normalized ? &tokenizer->norm : &tokenizer->raw;
	const bool *first = normalized ? tokenizer->norm_first : tokenizer->raw_first;

	for (size_t at = from; at < to; at++)
	{
		uint32_t	state = 0;
		int32_t		value = -1;
		size_t		end = at;
		const DistilBlobAdded *added;

		if (!first[text[at]])
			continue;
		for (size_t i = at; i < length && distil_trie_step(trie, &state, text[i]); i++)
			if (distil_trie_value(trie, state) >= 0)
			{
				value = distil_trie_value(trie, state);
				end = i + 1;
			}
		if (value < 0 || (uint32_t) value >= tokenizer->nadded)
			continue;
		added = &tokenizer->added[value];
		if (((added->flags & DISTIL_ADDED_SPECIAL) != 0 && !parse_special) ||
			((added->flags & DISTIL_ADDED_SINGLE_WORD) != 0 &&
			 (word_before(text, at) || word_after(text, end, length))))
		{
			/* like the reference: what it covers is not searched again */
			at = end - 1;
			continue;
		}
		match->added = added;
		match->start = at;
		match->stop = match->after = end;
		if ((added->flags & DISTIL_ADDED_LSTRIP) != 0)
			match->start = swallow_before(text, at, taken);
		if ((added->flags & DISTIL_ADDED_RSTRIP) != 0)
			match->stop = swallow_after(text, end, length);
		/* a token of blanks may lie in what another one swallowed */
		if ((added->flags & DISTIL_ADDED_LSTRIP) != 0 && match->start < taken)
			match->start = taken < match->stop ? taken : match->stop;
		return true;
	}
	return false;
}

/* ---------- a sequence ---------- */

static uint32_t
count_chars(const uint8_t *p, const uint8_t *end)
{
	uint32_t	n = 0;

	for (; p < end; p++)
		n += (*p & 0xC0) != 0x80;
	return n;
}

/* Cut after `at` + WINDOW, but not inside a character. */
static size_t
window_end(const uint8_t *text, size_t length, size_t at)
{
	size_t		end = length - at > WINDOW ? at + WINDOW : length;

	while (end < length && (text[end] & 0xC0) == 0x80)
		end++;
	return end;
}

/*
 * One piece of text between added tokens.  The fused pass works window by window and
 * keeps its state; other pipelines need the whole segment at once.
 */
static DistilStatus
run_piece(DistilWords *words, uint32_t *source, const uint8_t *p, const uint8_t *end, DistilError *err)
{
	if (words->tokenizer->fused)
		return distil_bert_run(words, source, p, end, err);
	return words->tokenizer->plain_bytes ? distil_bytes_run(words, source, p, end, err)
		: distil_pipeline_run(words, source, p, end, err);
}

DistilStatus
distil_words_match(DistilWords *words, const DistilMatch *match, const uint8_t *text, size_t done,
				   uint32_t *source, DistilError *err)
{
	uint32_t	start = *source;

	if (match->start >= done)
		start += count_chars(text + done, text + match->start);
	else
		start -= count_chars(text + match->start, text + done);
	*source = start + count_chars(text + match->start, text + match->stop);
	if (match->start == match->stop)
		return DISTIL_OK;
	return distil_words_added(words, match->added, text + match->start, match->stop - match->start, start,
							  *source, err);
}

DistilStatus
distil_words_sequence(DistilWords *words, const DistilText *text, DistilError *err)
{
	const uint8_t *bytes = (const uint8_t *) text->data;
	const DistilTokenizer *tokenizer = words->tokenizer;
	bool		fused = tokenizer->fused;
	size_t		done = 0;		/* bytes handled */
	size_t		search = 0;		/* where the next added token may begin */
	size_t		taken = 0;		/* end of the last added token */
	uint32_t	source = 0;		/* characters before `done` */

	if (text->length >= INT32_MAX)
		return distil_fail(err, DISTIL_ERR_LIMIT, "text of %zu bytes is too long for a tokenizer",
						   text->length);
	while ((done < text->length || search < text->length) && !distil_words_full(words))
	{
		size_t		end = fused ? window_end(bytes, text->length, done) : text->length;
		DistilMatch match;
		bool		found;

		DISTIL_POLL(words->poll, err);
		found = distil_match_find(tokenizer, false, words->parse_special, bytes, text->length,
								  search, end, taken, &match);
		if (found)
			end = match.start;
		if (end > done)
		{
			DISTIL_FORWARD(run_piece(words, &source, bytes + done, bytes + end, err));
			done = end;
		}
		if (!found)
		{
			search = end > search ? end : search;
			continue;
		}
		if (fused)
			DISTIL_FORWARD(distil_bert_finish(words, err));
		if (distil_words_full(words))
			return DISTIL_OK;
		DISTIL_FORWARD(distil_words_match(words, &match, bytes, done, &source, err));
		done = taken = match.stop;
		search = match.after;
	}
	return fused ? distil_bert_finish(words, err) : DISTIL_OK;
}
