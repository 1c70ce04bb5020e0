/*
 * tokenizer_unigram.c
 *		SentencePiece Unigram: the pieces whose scores add up to the most.
 *
 * One pass from the left over the bytes of a word; best[i] is the best way to reach
 * byte i.  A character that no piece covers alone costs the lowest score less 10, and
 * unknown neighbours are one token.  The rule a newcomer would break: sums are taken
 * in double precision from the left and a later way replaces an earlier one only if it
 * is strictly better, as the reference does; ties are common.
 * Kudo, "Subword regularization", 2018.
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <math.h>
#include <string.h>

#define UNKNOWN_PENALTY	10.0
#define POLL_STARTS		512
#define NOWHERE			UINT32_MAX

typedef struct Way
{
	double		score;
	uint32_t	start;			/* NOWHERE: not reached */
	int32_t		id;
} Way;

typedef struct Lattice
{
	const uint8_t *bytes;
	const uint32_t *sources;	/* per byte */
	size_t		n;
	Way		   *best;			/* [n + 1] */
} Lattice;

DistilStatus
distil_span_reserve(DistilWords *words, size_t bytes, DistilError *err)
{
	if (words->span.capacity < bytes)
	{
		distil_buffer_free(&words->span);
		distil_buffer_init(&words->span, words->out->alloc);
		words->span.data = distil_alloc_array(words->out->alloc, bytes + bytes / 2, 1);
		if (words->span.data == NULL)
			return distil_fail_memory(err, bytes + bytes / 2);
		words->span.capacity = bytes + bytes / 2;
	}
	return DISTIL_OK;
}

static inline void
offer(Way *way, double score, uint32_t start, int32_t id)
{
	if (way->start == NOWHERE || score > way->score)
	{
		way->score = score;
		way->start = start;
		way->id = id;
	}
}

static DistilStatus
find_best(DistilWords *words, Lattice *lattice, DistilError *err)
{
	const DistilTokenizer *tokenizer = words->tokenizer;
	const DistilTrie *trie = &tokenizer->model;
	const uint8_t *bytes = lattice->bytes;
	Way		   *best = lattice->best;
	size_t		n = lattice->n;
	double		unknown = tokenizer->blob->unknown_score;
	size_t		starts = 0;

	best[0].score = 0;
	for (size_t i = 1; i <= n; i++)
		best[i].start = NOWHERE;
	for (size_t start = 0; start < n;)
	{
		double		score = best[start].score;
		uint32_t	state = 0;
		size_t		next = start + 1;
		bool		single = false;

		while (next < n && (bytes[next] & 0xC0) == 0x80)
			next++;
		for (size_t i = start; i < n && distil_trie_step(trie, &state, bytes[i]); i++)
		{
			int32_t		id = distil_trie_value(trie, state);

			if (id >= 0 && (uint32_t) id < tokenizer->nscores)
			{
				offer(&best[i + 1], score + tokenizer->scores[id], (uint32_t) start, id);
				single |= i + 1 == next;
			}
		}
		if (!single)
			offer(&best[next], score + unknown, (uint32_t) start, tokenizer->blob->unk);
		start = next;
		if (++starts % POLL_STARTS == 0)
			DISTIL_POLL(words->poll, err);
	}
	return DISTIL_OK;
}

/* Tokens <0x00> ... of the bytes, if the vocabulary has all of them. */
static DistilStatus
put_bytes(DistilWords *words, const Lattice *lattice, size_t start, size_t end, bool *done, DistilError *err)
{
	static const char digits[] = "0123456789ABCDEF";
	uint32_t	from = words->offsets ? lattice->sources[start] : 0;
	uint32_t	to = words->offsets ? lattice->sources[end - 1] + 1 : 0;

	for (int pass = 0; pass < 2; pass++)
		for (size_t i = start; i < end; i++)
		{
			uint8_t		byte = lattice->bytes[i];
			char		name[6] = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
			uint32_t	state = 0;
			int32_t		id = -1;
			size_t		k = 0;

			while (k < 6 && distil_trie_step(&words->tokenizer->model, &state, (uint8_t) name[k]))
				k++;
			if (k == 6)
				id = distil_trie_value(&words->tokenizer->model, state);
			if (id < 0)
				return DISTIL_OK;
			if (pass == 1)
				DISTIL_FORWARD(distil_words_token(words, id, from, to, err));
		}
	*done = true;
	return DISTIL_OK;
}

/* Unknown characters together: a piece of that text, bytes, or the unknown token. */
static DistilStatus
put_unknown(DistilWords *words, const Lattice *lattice, size_t start, size_t end, DistilError *err)
{
	const DistilTrie *trie = &words->tokenizer->model;
	uint32_t	state = 0;
	size_t		i = start;
	int32_t		id;
	bool		done = false;

	while (i < end && distil_trie_step(trie, &state, lattice->bytes[i]))
		i++;
	id = i == end ? distil_trie_value(trie, state) : -1;
	if (id < 0 && (words->tokenizer->blob->flags & DISTIL_BLOB_FALLBACK) != 0)
		DISTIL_FORWARD(put_bytes(words, lattice, start, end, &done, err));
	if (done)
		return DISTIL_OK;
	return distil_words_text(words, id >= 0 ? id : words->tokenizer->blob->unk,
							 (const char *) lattice->bytes + start, end - start,
							 words->offsets ? lattice->sources[start] : 0,
							 words->offsets ? lattice->sources[end - 1] + 1 : 0, err);
}

/* Turns the links round, so that they lead from the left to the right, then follows them. */
static DistilStatus
put_best(DistilWords *words, const Lattice *lattice, DistilError *err)
{
	Way		   *best = lattice->best;
	int32_t		unknown = words->tokenizer->blob->unk;
	size_t		end = lattice->n;
	uint32_t	behind = (uint32_t) lattice->n;
	int32_t		id = -1;

	while (end > 0)
	{
		uint32_t	start = best[end].start;
		int32_t		swap = best[end].id;

		best[end].start = behind;
		best[end].id = id;
		behind = (uint32_t) end;
		id = swap;
		end = start;
	}
	/* best[i].start is now the end of the token behind i, with its id; token of i = 0 is (behind, id) */
	best[0].start = behind;
	best[0].id = id;
	for (size_t start = 0; start < lattice->n && !distil_words_full(words);)
	{
		size_t		stop = best[start].start;

		if (best[start].id != unknown)
			DISTIL_FORWARD(distil_words_token(words, best[start].id, words->offsets ? lattice->sources[start]
											  : 0,
											  words->offsets ? lattice->sources[stop - 1] + 1 : 0, err));
		else
		{
			while (stop < lattice->n && best[stop].id == unknown)
				stop = best[stop].start;
			DISTIL_FORWARD(put_unknown(words, lattice, start, stop, err));
		}
		start = stop;
	}
	return DISTIL_OK;
}

static DistilStatus
encode_span(DistilWords *words, const DistilChar *chars, size_t n, DistilError *err)
{
	Lattice		lattice = {.n = 0};
	size_t		room = 4 * n;
	uint8_t    *bytes;
	uint32_t   *sources;

	if (n > UINT32_MAX / 8)
		return distil_fail(err, DISTIL_ERR_LIMIT, "word of %zu characters is too long for a tokenizer", n);
	DISTIL_FORWARD(distil_span_reserve(words, (room + 1) * (sizeof(Way) + sizeof(uint32_t) + 1), err));
	lattice.best = (Way *) (void *) words->span.data;
	lattice.sources = sources = (uint32_t *) (void *) (lattice.best + room + 1);
	lattice.bytes = bytes = (uint8_t *) (sources + room + 1);
	for (size_t i = 0; i < n; i++)
	{
		size_t		at = lattice.n;

		lattice.n += (size_t) distil_utf8_encode(bytes + at, chars[i].cp);
		if (words->offsets)
			for (; at < lattice.n; at++)
				sources[at] = chars[i].source;
	}
	DISTIL_FORWARD(find_best(words, &lattice, err));
	return put_best(words, &lattice, err);
}

/* ---------- compile ---------- */

static DistilStatus
compile_unigram(DistilModelSections *out, DistilDraft *draft, const DistilTrie *model, DistilError *err)
{
	char		printable[64];
	double		lowest = HUGE_VAL;

	for (size_t i = 0; i < draft->ntokens; i++)
	{
		const DistilDraftToken *token = &draft->tokens[i];
		uint32_t	state = 0;
		uint32_t	k = 0;

		lowest = draft->scores[i] < lowest ? draft->scores[i] : lowest;
		while (k < token->length && distil_trie_step(model, &state, (uint8_t) token->text[k]))
			k++;
		if (token->length > 0 && distil_trie_value(model, state) != token->id)
			return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
							   "model Unigram with piece \"%s\" more than once is not supported",
							   distil_printable(printable, sizeof(printable), token->text, token->length));
	}
	if (draft->unk_id < 0 || (uint64_t) draft->unk_id >= draft->ntokens)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "unk_id %lld of model Unigram is not in the vocabulary",
						   (long long) draft->unk_id);
	draft->header.unknown_score = lowest - UNKNOWN_PENALTY;
	draft->header.unk = (int32_t) draft->unk_id;
	if (!distil_buffer_append(&out->scores, draft->scores, draft->ntokens * sizeof(double)))
		return distil_fail_memory(err, draft->ntokens * sizeof(double));
	return DISTIL_OK;
}

/* ---------- files ---------- */

static DistilStatus
read_piece(DistilDraftToken *token, double *score, const DistilJson *item, size_t i, DistilError *err)
{
	const DistilJson *number = distil_json_type(item) == DISTIL_JSON_ARRAY && distil_json_count(item) == 2
		? distil_json_item(item, 1) : NULL;
	size_t		length;

	if (number == NULL || distil_json_type(distil_json_item(item, 0)) != DISTIL_JSON_STRING ||
		(distil_json_type(number) != DISTIL_JSON_REAL && distil_json_type(number) != DISTIL_JSON_INTEGER))
		return distil_fail(err, DISTIL_ERR_TEXT_FILE,
						   "piece %zu of model Unigram is not a text with a score", i);
	token->text = distil_json_string(distil_json_item(item, 0), &length);
	if (length > DISTIL_MAX_TOKEN_BYTES)
		return distil_fail(err, DISTIL_ERR_LIMIT, "piece %zu of model Unigram has %zu bytes", i, length);
	token->length = (uint32_t) length;
	token->id = (int32_t) i;
	*score = distil_json_number(number);
	return DISTIL_OK;
}

static DistilStatus
parse_unigram(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", "vocab", "unk_id", "byte_fallback", NULL};
	const DistilJson *list = distil_json_member(value, "vocab");
	double	   *scores;
	bool		fallback;
	size_t		n;

	DISTIL_FORWARD(distil_draft_known(value, known, "model Unigram", err));
	DISTIL_FORWARD(distil_json_get_int(draft->doc, value, "unk_id", -1, 0, DISTIL_MAX_VOCABULARY - 1,
									   &draft->unk_id, err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "byte_fallback", false, &fallback, err));
	if (draft->unk_id < 0)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "model Unigram without unk_id is not supported");
	if (list == NULL || distil_json_type(list) != DISTIL_JSON_ARRAY)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "model Unigram has no list \"vocab\"");
	n = distil_json_count(list);
	if (n > DISTIL_MAX_VOCABULARY)
		return distil_fail(err, DISTIL_ERR_LIMIT, "vocabulary of %zu tokens is too large, the limit "
						   "is %d", n, DISTIL_MAX_VOCABULARY);
	draft->tokens = distil_arena_alloc(draft->arena, n + 1, sizeof(*draft->tokens));
	scores = distil_arena_alloc(draft->arena, n + 1, sizeof(*scores));
	if (draft->tokens == NULL || scores == NULL)
		return distil_fail_memory(err, (n + 1) * (sizeof(*draft->tokens) + sizeof(*scores)));
	for (size_t i = 0; i < n; i++)
		DISTIL_FORWARD(read_piece(&draft->tokens[i], &scores[i], distil_json_item(list, i), i, err));
	draft->ntokens = n;
	draft->scores = scores;
	draft->no_unk = true;
	draft->header.model = DISTIL_MODEL_UNIGRAM;
	draft->header.flags |= fallback ? DISTIL_BLOB_FALLBACK : 0;
	return DISTIL_OK;
}

const DistilModelPart distil_model_unigram = {
	"Unigram", DISTIL_MODEL_UNIGRAM, parse_unigram, NULL, encode_span, compile_unigram
};
