/*
 * tokenizer_encode.c
 *		Encoding of a text or pair: the template, truncation, the arrays of tokens.
 *
 * The rule a newcomer would break: truncation must give the ids that cutting the
 * complete encoding would give; a single text stops early only because what follows
 * cannot change its first tokens.
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <string.h>

void
distil_encoding_init(DistilEncoding *encoding, const DistilAllocator *alloc)
{
	memset(encoding, 0, sizeof(*encoding));
	encoding->alloc = alloc;
}

void
distil_encoding_reset(DistilEncoding *encoding)
{
	const DistilAllocator *alloc = encoding->alloc;

	distil_release(alloc, encoding->ids);	/* one block holds all arrays */
	distil_encoding_init(encoding, alloc);
}

static DistilStatus
grow(DistilEncoding *encoding, DistilError *err)
{
	size_t		capacity = encoding->capacity == 0 ? 256 : (size_t) encoding->capacity * 2;
	size_t		n = (size_t) encoding->n;
	int32_t    *block;
	int32_t    *old[5] = {encoding->ids, encoding->types, encoding->starts, encoding->ends, encoding->words};
	uint8_t    *special;

	if (capacity > INT32_MAX)
		return distil_fail(err, DISTIL_ERR_LIMIT, "text has too many tokens");
	block = distil_alloc_array(encoding->alloc, capacity, 5 * sizeof(int32_t) + 1);
	if (block == NULL)
		return distil_fail_memory(err, capacity * (5 * sizeof(int32_t) + 1));
	special = (uint8_t *) (block + 5 * capacity);
	if (n > 0)
	{
		for (size_t i = 0; i < 5; i++)
			memcpy(block + i * capacity, old[i], n * sizeof(int32_t));
		memcpy(special, encoding->special, n);
	}
	distil_release(encoding->alloc, encoding->ids);
	encoding->ids = block;
	encoding->types = block + capacity;
	encoding->starts = block + 2 * capacity;
	encoding->ends = block + 3 * capacity;
	encoding->words = block + 4 * capacity;
	encoding->special = special;
	encoding->capacity = (int) capacity;
	return DISTIL_OK;
}

static inline DistilStatus
put_token(DistilWords *words, int32_t id, int32_t type, uint32_t start, uint32_t end, int32_t word,
		  bool special, DistilError *err)
{
	DistilEncoding *encoding = words->out;
	int			n = encoding->n;

	if ((uint32_t) id >= words->tokenizer->blob->vocabulary && words->outside < 0)
		words->outside = id;
	if (words->count_only)
	{
		if (n == INT32_MAX)
			return distil_fail(err, DISTIL_ERR_LIMIT, "text has too many tokens");
		encoding->n = n + 1;
		return DISTIL_OK;
	}
	if (n == encoding->capacity)
		DISTIL_FORWARD(grow(encoding, err));
	encoding->ids[n] = id;
	encoding->types[n] = type;
	encoding->starts[n] = (int32_t) start;
	encoding->ends[n] = (int32_t) end;
	encoding->words[n] = word;
	encoding->special[n] = special;
	encoding->n = n + 1;
	return DISTIL_OK;
}

/* Ids of a corrupt blob may be anything: the model's tables have as many rows as the vocabulary. */
DistilStatus
distil_words_text(DistilWords *words, int32_t id, const char *text, size_t length, uint32_t start,
				  uint32_t end, DistilError *err)
{
	if ((uint32_t) id >= words->tokenizer->blob->vocabulary)
		return distil_fail(err, DISTIL_ERR_CORRUPT, "compiled tokenizer holds id %d, beyond its vocabulary",
						   id);
	if (words->trim && text != NULL)
		distil_words_trim(words, text, length, &start, &end);
	return put_token(words, id, words->type, start, end, words->word, false, err);
}

DistilStatus
distil_words_token(DistilWords *words, int32_t id, uint32_t start, uint32_t end, DistilError *err)
{
	size_t		length = 0;
	const char *text = words->trim ? distil_tokenizer_token(words->tokenizer, id, &length) : NULL;

	return distil_words_text(words, id, text, length, start, end, err);
}

DistilStatus
distil_words_added(DistilWords *words, const DistilBlobAdded *added, const uint8_t *text, size_t length,
				   uint32_t start, uint32_t end, DistilError *err)
{
	if (words->trim)
		distil_words_trim(words, (const char *) text, length, &start, &end);
	DISTIL_FORWARD(put_token(words, (int32_t) added->id, words->type, start, end, words->word, false, err));
	words->word++;
	return DISTIL_OK;
}

/* Tokens of one text, at most `limit` (or a few more); INT32_MAX: all. */
static DistilStatus
encode_text(DistilWords *words, const DistilText *text, int limit, int32_t type, DistilError *err)
{
	DistilStatus status;

	words->limit = limit > INT32_MAX - words->out->n ? INT32_MAX : words->out->n + limit;
	words->type = type;
	words->word = 0;
	words->begin = words->out->n;
	words->nchars = 0;
	words->length = 0;
	words->marks.items = NULL;
	words->marks.n = 0;
	words->marks.last_source = 0;
	status = distil_words_sequence(words, text, err);
	if (words->marks.items != words->marks.stack_items)
		distil_release(words->out->alloc, words->marks.items);
	words->marks.items = NULL;
	return status;
}

/* Remove tokens [from, to). */
static void
remove_tokens(DistilEncoding *encoding, int from, int to)
{
	size_t		tail = (size_t) (encoding->n - to);
	int32_t    *arrays[5] = {encoding->ids, encoding->types, encoding->starts, encoding->ends,
							 encoding->words};

	if (from >= to)
		return;
	for (int i = 0; i < 5; i++)
		memmove(arrays[i] + from, arrays[i] + to, tail * sizeof(int32_t));
	memmove(encoding->special + from, encoding->special + to, tail);
	encoding->n -= to - from;
	encoding->truncated = true;
}

/*
 * Lengths to keep of a pair of n[0] and n[1] tokens for a budget of b: closed form of
 * taking tokens from the longer one until it fits.
 */
static DistilStatus
truncate_lengths(int n[2], bool pair, int b, DistilTruncation truncation, DistilError *err)
{
	int64_t		total = (int64_t) n[0] + (pair ? n[1] : 0);
	int			target = truncation == DISTIL_TRUNCATE_ONLY_SECOND;

	if (total <= b)
		return DISTIL_OK;
	if (b == 0)
	{
		n[0] = n[1] = 0;
		return DISTIL_OK;
	}
	if (truncation == DISTIL_TRUNCATE_LONGEST_FIRST)
	{
		int			longer = pair && n[1] >= n[0];
		int			shorter = 1 - longer;

		if (!pair)
		{
			n[0] = b;
			return DISTIL_OK;
		}
		n[longer] = n[shorter] > b ? n[shorter] : n[shorter] > b - n[shorter] ? n[shorter] : b - n[shorter];
		if ((int64_t) n[0] + n[1] > b)
		{
			n[shorter] = b / 2;
			n[longer] = n[shorter] + b % 2;
		}
		return DISTIL_OK;
	}
	if (target == 1 && !pair)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "truncation of the second text needs a second text");
	if ((int64_t) n[target] <= total - b)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "the %s text is too short to be truncated to %d tokens",
						   target == 1 ? "second" : "first", b);
	n[target] = (int) (n[target] - (total - b));
	return DISTIL_OK;
}

typedef struct Job
{
	const DistilText *texts[2]; /* second NULL: single */
	const DistilEncodeOptions *options;
	const DistilBlobPiece *pieces;
	int			npieces;
	int			budget;			/* tokens of the texts; -1: no limit */
	int			starts[2];		/* where each text's tokens begin, and their number */
	int			counts[2];
} Job;

static DistilStatus
check_job(Job *job, const DistilTokenizer *tokenizer, DistilError *err)
{
	const DistilEncodeOptions *options = job->options;
	bool		pair = job->texts[1] != NULL;
	int			added = options->add_special ? (pair ? tokenizer->npair - 2 : tokenizer->nsingle - 1) : 0;

	job->pieces = pair ? tokenizer->pair : tokenizer->single;
	job->npieces = pair ? tokenizer->npair : tokenizer->nsingle;
	job->budget = -1;
	if (options->count_only)
		return DISTIL_OK;
	if (options->max_tokens < 0)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "max_tokens %d is negative", options->max_tokens);
	if (options->max_tokens == 0 || options->truncation == DISTIL_TRUNCATE_NONE)
		return DISTIL_OK;
	if (options->max_tokens < added)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "max_tokens %d leaves no room for the %d special tokens",
						   options->max_tokens, added);
	job->budget = options->max_tokens - added;
	return DISTIL_OK;
}

/* One more token than fits shows that the text is too long. */
static int
text_limit(const Job *job, int which)
{
	if (job->budget < 0)
		return INT32_MAX;
	if (job->texts[1] == NULL)
		return job->budget + 1;
	if (which == 1 && job->options->truncation == DISTIL_TRUNCATE_ONLY_SECOND && job->counts[0] < job->budget)
		return job->budget - job->counts[0] + 1;
	return INT32_MAX;
}

static DistilStatus
encode_pieces(DistilWords *words, Job *job, DistilError *err)
{
	DistilEncoding *out = words->out;

	for (int i = 0; i < job->npieces; i++)
	{
		const DistilBlobPiece *piece = &job->pieces[i];
		int			which = piece->what == DISTIL_PIECE_SECOND;

		if (piece->what == DISTIL_PIECE_SPECIAL)
		{
			if (job->options->add_special)
				DISTIL_FORWARD(put_token(words, piece->id, piece->type, 0, 0, -1, true, err));
			continue;
		}
		job->starts[which] = out->n;
		DISTIL_FORWARD(encode_text(words, job->texts[which], text_limit(job, which),
								   job->options->add_special ? piece->type : piece->plain_type, err));
		job->counts[which] = out->n - job->starts[which];
	}
	return DISTIL_OK;
}

static DistilStatus
truncate_pieces(DistilEncoding *out, Job *job, DistilError *err)
{
	int			keep[2] = {job->counts[0], job->counts[1]};
	int			last = job->texts[1] != NULL && job->starts[1] > job->starts[0];

	if (job->budget < 0)
		return DISTIL_OK;
	DISTIL_FORWARD(truncate_lengths(keep, job->texts[1] != NULL, job->budget, job->options->truncation, err));
	/* from the back, so that the other's position stays */
	for (int k = 0; k < 2; k++)
	{
		int			which = k == 0 ? last : 1 - last;

		if (which == 0 || job->texts[1] != NULL)
			remove_tokens(out, job->starts[which] + keep[which], job->starts[which] + job->counts[which]);
	}
	return DISTIL_OK;
}

static DistilStatus
fail_outside(const DistilTokenizer *tokenizer, int32_t id, DistilError *err)
{
	char		printable[64] = "";
	bool		special = false;

	for (uint32_t k = 0; k < tokenizer->nadded; k++)
	{
		const DistilBlobAdded *added = &tokenizer->added[k];

		if (added->id == (uint32_t) id && added->text <= tokenizer->strings_size &&
			added->length <= tokenizer->strings_size - added->text)
		{
			distil_printable(printable, sizeof(printable), tokenizer->strings + added->text, added->length);
			special = (added->flags & DISTIL_ADDED_SPECIAL) != 0;
		}
	}
	return distil_fail_hint(err, distil_fail(err, DISTIL_ERR_ARGUMENT,
											 "the text has the token \"%s\", for which the model has no"
											 " weights", printable),
							"Its id is %d, and the model's word table ends before.  Take it out of the "
							"text%s.", (int) id,
							special ? ", or import the model with the option parse_special false" : "");
}

/* After truncation: a token that is cut off is in nobody's way. */
static DistilStatus
check_inside(const DistilWords *words, DistilError *err)
{
	const DistilEncoding *encoding = words->out;

	if (words->outside < 0)
		return DISTIL_OK;
	if (words->count_only)
		return fail_outside(words->tokenizer, words->outside, err);
	for (int i = 0; i < encoding->n; i++)
		if ((uint32_t) encoding->ids[i] >= words->tokenizer->blob->vocabulary)
			return fail_outside(words->tokenizer, encoding->ids[i], err);
	return DISTIL_OK;
}

DistilStatus
distil_tokenizer_encode(const DistilTokenizer *tokenizer, DistilEncoding *encoding,
						const DistilText *text, const DistilText *pair,
						const DistilEncodeOptions *options,
						const DistilPoll *poll, DistilError *err)
{
	DistilWords words;			/* not cleared: 20 kB */
	Job			job = {.texts = {text, pair}, .options = options};
	DistilStatus status;

	encoding->n = 0;
	encoding->truncated = false;
	DISTIL_FORWARD(check_job(&job, tokenizer, err));
	words.tokenizer = tokenizer;
	words.out = encoding;
	words.poll = poll;
	words.offsets = options->offsets;
	words.count_only = options->count_only;
	words.outside = -1;
	words.parse_special = options->parse_special;
	words.max_chars = (int) tokenizer->blob->max_chars;
	words.trim = options->offsets && (tokenizer->blob->flags & DISTIL_BLOB_TRIM) != 0;
	words.scratch = (DistilChars) {.alloc = encoding->alloc};
	distil_buffer_init(&words.span, encoding->alloc);
	status = encode_pieces(&words, &job, err);
	distil_release(encoding->alloc, words.scratch.items);
	distil_buffer_free(&words.span);
	DISTIL_FORWARD(status);
	DISTIL_FORWARD(truncate_pieces(encoding, &job, err));
	return (tokenizer->blob->flags & DISTIL_BLOB_OUTSIDE) != 0 ? check_inside(&words, err) : DISTIL_OK;
}
