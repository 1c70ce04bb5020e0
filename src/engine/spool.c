/*
 * spool.c
 *		Writing and checking spool files, see spool.h.
 *
 * The rule a newcomer would break: special tokens written in a user's text must not
 * become special here, so texts are encoded with parse_special off.  Apart from that method embedding
 * reads a text as distil_session_embed() does, the model's default prompt before it.
 */
#include <inttypes.h>
#include <string.h>

#include "alloc.h"
#include "fingerprint.h"
#include "model.h"
#include "spool.h"
#include "status.h"

#define SPOOL_MAGIC "dstlspl1"
#define SPOOL_DONE "dstldone"
#define SPOOL_VERSION 1
#define SPOOL_BUFFER 65536		/* bytes collected before a write */

_Static_assert(sizeof(DistilSpoolHeader) == 64, "spool header");
_Static_assert(sizeof(DistilSpoolFooter) == 128, "spool footer");

struct DistilSpool
{
	const DistilAllocator *alloc;
	const DistilPoll *poll;
	const DistilSink *sink;
	const DistilTokenizer *tokenizer;
	DistilMethod method;
	bool		causal;
	DistilSpoolEnds ends;
	int			max_tokens;
	int			vocabulary;
	int32_t    *scratch;		/* [max_tokens] */
	DistilBuffer whole;			/* a causal model's text with its ends, int32 each */
	const char *prompt;			/* put before each text, "" = none */
	DistilBuffer text;			/* prompt and text */
	DistilBuffer prompt_ids;	/* of the prompt alone, int32 each */
	int			skip;			/* tokens of the prompt that are not pooled */
	int64_t    *counts;			/* [vocabulary] of all texts */
	DistilBuffer starts;		/* uint64 each */
	DistilBuffer pending;
	DistilEncoding encoding;
	DistilFingerprint fingerprint;
	DistilSpoolInfo info;
	bool		broken;			/* a write failed: the file cannot be finished */
	bool		finished;
};

static DistilStatus
flush_pending(DistilSpool *spool, DistilError *err)
{
	DistilStatus status = DISTIL_OK;

	if (spool->pending.length > 0)
	{
		distil_fingerprint_update(&spool->fingerprint, spool->pending.data, spool->pending.length);
		status = spool->sink->write(spool->sink->ctx, spool->pending.data, spool->pending.length, err);
	}
	spool->pending.length = 0;
	return status;
}

static DistilStatus
put_bytes(DistilSpool *spool, const void *data, size_t bytes, DistilError *err)
{
	const char *p = data;

	while (bytes > 0)
	{
		size_t		take = SPOOL_BUFFER - spool->pending.length;

		if (take > bytes)
			take = bytes;
		if (!distil_buffer_append(&spool->pending, p, take))
			return distil_fail_memory(err, SPOOL_BUFFER);
		p += take;
		bytes -= take;
		if (spool->pending.length == SPOOL_BUFFER)
		{
			DISTIL_POLL(spool->poll, err);
			DISTIL_FORWARD(flush_pending(spool, err));
		}
	}
	return DISTIL_OK;
}

/* What each sequence of method triple begins and ends with. */
static DistilStatus
choose_ends(DistilSpoolEnds *ends, const DistilTrainOptions *options, const DistilSpecialIds *special,
			DistilError *err)
{
	ends->unk = special->unk;
	ends->first = special->cls;
	ends->last = special->sep;
	if (options->causal)
	{
		ends->first = special->bos >= 0 ? special->bos : special->eos;
		ends->last = special->eos >= 0 ? special->eos : special->bos;
		if (ends->last < 0)
			return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
							   "method \"triple\" needs a tokenizer with a begin or end token");
	}
	else if (options->method == DISTIL_METHOD_TRIPLE &&
			 (ends->first < 0 || ends->last < 0 || special->mask < 0))
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "method \"triple\" needs a tokenizer with [CLS], [SEP] and [MASK] tokens");
	return DISTIL_OK;
}

DistilStatus
distil_spool_check(const DistilModel *teacher, const DistilTrainOptions *options, DistilError *err)
{
	DistilSpoolEnds ends;

	return choose_ends(&ends, options, distil_tokenizer_special(distil_model_tokenizer(teacher)), err);
}

/* prompt + text, as the method reads it, into spool->encoding. */
static DistilStatus
encode_text(DistilSpool *spool, const DistilText *text, DistilError *err)
{
	DistilEncodeOptions encode = {.add_special = !spool->causal, .truncation = DISTIL_TRUNCATE_NONE};
	DistilText	joined = *text;
	size_t		length = strlen(spool->prompt);

	if (spool->method == DISTIL_METHOD_EMBEDDING)
	{
		encode.max_tokens = spool->max_tokens;
		encode.truncation = DISTIL_TRUNCATE_LONGEST_FIRST;
	}
	if (length > 0)
	{
		spool->text.length = 0;
		if (!distil_buffer_append(&spool->text, spool->prompt, length) ||
			(text->length > 0 && !distil_buffer_append(&spool->text, text->data, text->length)))
			return distil_fail_memory(err, length + text->length);
		joined.data = spool->text.data;
		joined.length = spool->text.length;
	}
	return distil_tokenizer_encode(spool->tokenizer, &spool->encoding, &joined, NULL, &encode, spool->poll,
								   err);
}

/* The prompt of a sentence model that distil_session_embed() puts before a text when no other is named. */
static DistilStatus
choose_prompt(DistilSpool *spool, const DistilModel *teacher, DistilError *err)
{
	const DistilText none = {"", 0};
	int			prompt;
	int			n;

	spool->prompt = "";
	if (spool->method != DISTIL_METHOD_EMBEDDING)
		return DISTIL_OK;
	DISTIL_FORWARD(distil_model_prompt(teacher, &prompt, NULL, err));
	if (prompt < 0 || teacher->spec.pipeline.prompts[prompt][0] == '\0')
		return DISTIL_OK;
	spool->prompt = teacher->spec.pipeline.prompts[prompt];
	DISTIL_FORWARD(encode_text(spool, &none, err));
	n = spool->encoding.n;
	if (n > 0 && !distil_buffer_append(&spool->prompt_ids, spool->encoding.ids, (size_t) n * sizeof(int32_t)))
		return distil_fail_memory(err, (size_t) n * sizeof(int32_t));
	if (!teacher->spec.pipeline.include_prompt)
		spool->skip = n > 0 && distil_tokenizer_is_special(spool->tokenizer, spool->encoding.ids[n - 1])
			? n - 1 : n;
	return DISTIL_OK;
}

static DistilStatus
put_header(DistilSpool *spool, DistilError *err)
{
	DistilSpoolHeader header;

	memset(&header, 0, sizeof(header));
	memcpy(header.magic, SPOOL_MAGIC, 8);
	header.version = SPOOL_VERSION;
	header.method = (uint32_t) spool->method;
	header.vocabulary = (uint32_t) spool->vocabulary;
	header.max_tokens = (uint32_t) spool->max_tokens;
	header.skip = (uint32_t) spool->skip;
	return put_bytes(spool, &header, sizeof(header), err);
}

DistilStatus
distil_spool_create(DistilSpool **result, const DistilModel *teacher, const DistilTrainOptions *options,
					const DistilSink *sink, const DistilAllocator *alloc, const DistilPoll *poll,
					DistilError *err)
{
	const DistilTokenizer *tokenizer = distil_model_tokenizer(teacher);
	DistilSpoolEnds ends;
	DistilSpool *spool;
	uint64_t	zero = 0;
	DistilStatus status;

	*result = NULL;
	DISTIL_FORWARD(choose_ends(&ends, options, distil_tokenizer_special(tokenizer), err));
	spool = distil_alloc_array(alloc, 1, sizeof(DistilSpool));
	if (spool == NULL)
		return distil_fail_memory(err, sizeof(DistilSpool));
	spool->alloc = alloc;
	spool->poll = poll;
	spool->sink = sink;
	spool->tokenizer = tokenizer;
	spool->method = options->method;
	spool->causal = options->causal;
	spool->ends = ends;
	spool->max_tokens = options->max_tokens;
	spool->vocabulary = distil_model_info(teacher)->vocabulary;
	distil_buffer_init(&spool->starts, alloc);
	distil_buffer_init(&spool->pending, alloc);
	distil_buffer_init(&spool->whole, alloc);
	distil_buffer_init(&spool->text, alloc);
	distil_buffer_init(&spool->prompt_ids, alloc);
	distil_encoding_init(&spool->encoding, alloc);
	distil_fingerprint_init(&spool->fingerprint);
	spool->scratch = distil_alloc_array(alloc, (size_t) spool->max_tokens, sizeof(int32_t));
	spool->counts = distil_alloc_array(alloc, (size_t) spool->vocabulary, sizeof(int64_t));
	if (spool->scratch == NULL || spool->counts == NULL || !distil_buffer_append(&spool->starts, &zero, 8))
		status = distil_fail_memory(err, (size_t) spool->vocabulary * sizeof(int64_t));
	else
		status = choose_prompt(spool, teacher, err);
	if (status == DISTIL_OK)
		status = put_header(spool, err);
	if (status != DISTIL_OK)
	{
		distil_spool_free(spool);
		return status;
	}
	*result = spool;
	return DISTIL_OK;
}

/* Of the whole corpus, as the scripts count: of texts, too, that are then dropped. */
static void
count_tokens(DistilSpool *spool, const int32_t *ids, int n)
{
	int			i;

	for (i = 0; i < n; i++)
		if (ids[i] >= 0 && ids[i] < spool->vocabulary)
			spool->counts[ids[i]]++;
}

/* A DistilSequenceFn: one sequence goes to the file. */
static DistilStatus
keep_sequence(void *ctx, const int32_t *ids, int n, DistilError *err)
{
	DistilSpool *spool = ctx;
	uint64_t	end = (uint64_t) (spool->info.tokens + n);
	int			i;

	for (i = 0; i < n; i++)
	{
		if (ids[i] < 0 || ids[i] >= spool->vocabulary)
		{
			distil_fail(err, DISTIL_ERR_MODEL_FILE, "the tokenizer gives ids the model has no embedding for");
			return distil_fail_detail(err, DISTIL_ERR_MODEL_FILE, "Id %d, vocabulary %d.", ids[i],
									  spool->vocabulary);
		}
	}
	DISTIL_FORWARD(put_bytes(spool, ids, (size_t) n * sizeof(int32_t), err));
	if (!distil_buffer_append(&spool->starts, &end, sizeof(end)))
		return distil_fail_memory(err, spool->starts.length * 2);
	spool->info.sequences++;
	spool->info.tokens += n;
	return DISTIL_OK;
}

static DistilStatus
filter_sequence(const int32_t *ids, int n, const DistilSpoolEnds *ends,
				DistilSequenceFn take, void *ctx, DistilError *err)
{
	int			unknown = 0;
	int			i;

	if (n <= DISTIL_SPOOL_SHORT)
		return DISTIL_OK;
	for (i = 0; i < n; i++)
		unknown += ids[i] == ends->unk;
	if ((double) unknown / n >= DISTIL_SPOOL_UNKNOWN)
		return DISTIL_OK;
	return take(ctx, ids, n, err);
}

DistilStatus
distil_spool_split(const int32_t *ids, int n, int max_len, const DistilSpoolEnds *ends,
				   int32_t *scratch, DistilSequenceFn take, void *ctx, DistilError *err)
{
	int			first;

	if (n <= max_len)
		return filter_sequence(ids, n, ends, take, ctx, err);
	for (first = 0; first < n; first += max_len - 2)
	{
		int			count = n - first < max_len - 2 ? n - first : max_len - 2;
		int			used = 0;

		if (ids[first] != ends->first)
			scratch[used++] = ends->first;
		memcpy(scratch + used, ids + first, (size_t) count * sizeof(int32_t));
		used += count;
		if (scratch[used - 1] != ends->last)
			scratch[used++] = ends->last;
		DISTIL_FORWARD(filter_sequence(scratch, used, ends, take, ctx, err));
	}
	return DISTIL_OK;
}

/* A text without a token of its own: only special ones, or no more than the prompt. */
static bool
is_blank(const DistilSpool *spool)
{
	const DistilEncoding *encoding = &spool->encoding;
	size_t		bytes = (size_t) encoding->n * sizeof(int32_t);
	int			i;

	if (encoding->n <= spool->skip)
		return true;
	if (bytes == spool->prompt_ids.length && bytes > 0)
		return memcmp(encoding->ids, spool->prompt_ids.data, bytes) == 0;
	for (i = 0; i < encoding->n; i++)
		if (!encoding->special[i])
			return false;
	return true;
}

/* The encoded text's sequences go to the file. */
static DistilStatus
add_sequences(DistilSpool *spool, DistilError *err)
{
	const int32_t *ids = spool->encoding.ids;
	int			n = spool->encoding.n;

	if (spool->causal)
	{
		/* The tokenizers of causal models add no special tokens of their own. */
		spool->whole.length = 0;
		if (!distil_buffer_append(&spool->whole, &spool->ends.first, sizeof(int32_t)) ||
			(n > 0 && !distil_buffer_append(&spool->whole, ids, (size_t) n * sizeof(int32_t))) ||
			!distil_buffer_append(&spool->whole, &spool->ends.last, sizeof(int32_t)))
			return distil_fail_memory(err, ((size_t) n + 2) * sizeof(int32_t));
		ids = (const int32_t *) spool->whole.data;
		n += 2;
	}
	count_tokens(spool, ids, n);
	return distil_spool_split(ids, n, spool->max_tokens, &spool->ends, spool->scratch, keep_sequence, spool,
							  err);
}

DistilStatus
distil_spool_add(DistilSpool *spool, const DistilText *text, DistilError *err)
{
	DistilStatus status;

	if (spool->broken || spool->finished)
		return distil_fail(err, DISTIL_ERR_STATE, "the spool cannot take more texts");
	DISTIL_FORWARD(encode_text(spool, text, err));
	if (spool->method == DISTIL_METHOD_TRIPLE)
		status = add_sequences(spool, err);
	else if (is_blank(spool))
		status = DISTIL_OK;
	else
	{
		count_tokens(spool, spool->encoding.ids, spool->encoding.n);
		status = keep_sequence(spool, spool->encoding.ids, spool->encoding.n, err);
	}
	if (status != DISTIL_OK)
		spool->broken = true;
	else
		spool->info.texts++;
	return status;
}

DistilStatus
distil_spool_finish(DistilSpool *spool, DistilError *err)
{
	static const char zeros[8] = {0};
	DistilSpoolFooter footer;
	uint64_t	end;

	if (spool->broken || spool->finished)
		return distil_fail(err, DISTIL_ERR_STATE, "the spool cannot be finished");
	spool->broken = true;		/* until all of it has been written */
	memset(&footer, 0, sizeof(footer));
	end = sizeof(DistilSpoolHeader) + (uint64_t) spool->info.tokens * sizeof(int32_t);
	DISTIL_FORWARD(put_bytes(spool, zeros, (size_t) (-end % 8), err));
	footer.texts = spool->info.texts;
	footer.sequences = spool->info.sequences;
	footer.tokens = spool->info.tokens;
	footer.starts_offset = (end + 7) / 8 * 8;
	footer.counts_offset = footer.starts_offset + spool->starts.length;
	DISTIL_FORWARD(put_bytes(spool, spool->starts.data, spool->starts.length, err));
	DISTIL_FORWARD(put_bytes(spool, spool->counts, (size_t) spool->vocabulary * sizeof(int64_t), err));
	DISTIL_FORWARD(flush_pending(spool, err));
	distil_fingerprint_update(&spool->fingerprint, &footer, offsetof(DistilSpoolFooter, fingerprint));
	distil_fingerprint_value(&spool->fingerprint, footer.fingerprint);
	memcpy(spool->info.fingerprint, footer.fingerprint, sizeof(footer.fingerprint));
	memcpy(footer.magic, SPOOL_DONE, 8);
	DISTIL_FORWARD(spool->sink->write(spool->sink->ctx, &footer, sizeof(footer), err));
	spool->broken = false;
	spool->finished = true;
	return DISTIL_OK;
}

const DistilSpoolInfo *
distil_spool_info(const DistilSpool *spool)
{
	return &spool->info;
}

void
distil_spool_free(DistilSpool *spool)
{
	const DistilAllocator *alloc;

	if (spool == NULL)
		return;
	alloc = spool->alloc;
	distil_encoding_reset(&spool->encoding);
	distil_buffer_free(&spool->starts);
	distil_buffer_free(&spool->pending);
	distil_buffer_free(&spool->whole);
	distil_buffer_free(&spool->text);
	distil_buffer_free(&spool->prompt_ids);
	distil_release(alloc, spool->scratch);
	distil_release(alloc, spool->counts);
	distil_release(alloc, spool);
}

/* ---------- reading ---------- */

static DistilStatus
corrupt(DistilError *err, const char *what)
{
	distil_fail(err, DISTIL_ERR_CORRUPT, "the tokenised corpus of the job is damaged");
	return distil_fail_detail(err, DISTIL_ERR_CORRUPT, "Found: %s.", what);
}

static DistilStatus
check_layout(const DistilSpoolHeader *header, const DistilSpoolFooter *footer, size_t size, DistilError *err)
{
	uint64_t	tokens = (uint64_t) footer->tokens;
	uint64_t	sequences = (uint64_t) footer->sequences;
	uint64_t	starts;
	uint64_t	counts;

	/* Bounded by the file's size first, so that nothing below can overflow. */
	if (footer->texts < 0 || tokens > size / sizeof(int32_t) || sequences > size / sizeof(uint64_t) ||
		sequences > INT32_MAX || header->vocabulary > size / sizeof(int64_t))
		return corrupt(err, "numbers larger than the file");
	starts = (sizeof(DistilSpoolHeader) + tokens * sizeof(int32_t) + 7) / 8 * 8;
	counts = starts + (sequences + 1) * sizeof(uint64_t);
	if (footer->starts_offset != starts || footer->counts_offset != counts ||
		counts + (uint64_t) header->vocabulary * sizeof(int64_t) + sizeof(DistilSpoolFooter) != size)
		return corrupt(err, "parts that do not fit the file's size");
	return DISTIL_OK;
}

static DistilStatus
check_content(DistilSpoolView *view, int vocabulary, int max_tokens, const DistilPoll *poll, DistilError *err)
{
	uint64_t	tokens = (uint64_t) view->info.tokens;
	int64_t		i;
	uint64_t	t;

	if (view->starts[0] != 0 || view->starts[view->info.sequences] != tokens)
		return corrupt(err, "an index that does not cover the tokens");
	for (i = 0; i < view->info.sequences; i++)
	{
		uint64_t	from = view->starts[i];
		uint64_t	to = view->starts[i + 1];

		if (i % 1000000 == 0)
			DISTIL_POLL(poll, err);
		if (to <= from || to > tokens || to - from <= (uint64_t) view->skip ||
			to - from > (uint64_t) max_tokens)
			return corrupt(err, "a sequence of impossible length");
		if ((int) (to - from) > view->longest)
			view->longest = (int) (to - from);
	}
	for (t = 0; t < tokens; t++)
	{
		if (t % 4000000 == 0)
			DISTIL_POLL(poll, err);
		if (view->ids[t] < 0 || view->ids[t] >= vocabulary)
			return corrupt(err, "a token id outside the vocabulary");
	}
	for (i = 0; i < vocabulary; i++)
		if (view->counts[i] < 0)
			return corrupt(err, "a negative token count");
	return DISTIL_OK;
}

DistilStatus
distil_spool_view(DistilSpoolView *view, const void *spool, size_t size, DistilMethod method, int vocabulary,
				  int max_tokens, const DistilPoll *poll, DistilError *err)
{
	const char *base = spool;
	DistilSpoolHeader header;
	DistilSpoolFooter footer;
	DistilFingerprint fingerprint;
	uint8_t		value[32];
	size_t		body;
	size_t		done;

	memset(view, 0, sizeof(*view));
	if (spool == NULL || size < sizeof(header) + sizeof(footer) || (uintptr_t) spool % 8 != 0)
		return corrupt(err, "a file that is too short");
	body = size - sizeof(footer);
	memcpy(&header, base, sizeof(header));
	memcpy(&footer, base + body, sizeof(footer));
	if (memcmp(header.magic, SPOOL_MAGIC, 8) != 0 || header.version != SPOOL_VERSION)
		return corrupt(err, "another kind of file");
	if (memcmp(footer.magic, SPOOL_DONE, 8) != 0)
		return corrupt(err, "no finish marker");
	if (header.method != (uint32_t) method || header.vocabulary != (uint32_t) vocabulary ||
		header.max_tokens != (uint32_t) max_tokens)
		return distil_fail(err, DISTIL_ERR_STATE, "the tokenised corpus was made for another job");
	DISTIL_FORWARD(check_layout(&header, &footer, size, err));
	distil_fingerprint_init(&fingerprint);
	for (done = 0; done < body; done += (size_t) 1 << 22)
	{
		DISTIL_POLL(poll, err);
		distil_fingerprint_update(&fingerprint, base + done,
								  body - done < ((size_t) 1 << 22) ? body - done : (size_t) 1 << 22);
	}
	distil_fingerprint_update(&fingerprint, &footer, offsetof(DistilSpoolFooter, fingerprint));
	distil_fingerprint_value(&fingerprint, value);
	if (memcmp(value, footer.fingerprint, sizeof(value)) != 0)
		return corrupt(err, "a wrong checksum");
	if (header.skip >= header.max_tokens)
		return corrupt(err, "a prompt of impossible length");
	view->skip = (int) header.skip;
	view->info.texts = footer.texts;
	view->info.sequences = footer.sequences;
	view->info.tokens = footer.tokens;
	memcpy(view->info.fingerprint, footer.fingerprint, sizeof(value));
	view->ids = (const int32_t *) (base + sizeof(header));
	view->starts = (const uint64_t *) (base + footer.starts_offset);
	view->counts = (const int64_t *) (base + footer.counts_offset);
	return check_content(view, vocabulary, max_tokens, poll, err);
}
