/*
 * session.c
 *		A session over a model: its memory, one pass, hidden states.
 *
 * The pass's size follows from memory_limit, but one text of the model's limit always
 * fits.  A session may be used again after any error, also after a cancelled call.
 */
#include "session.h"

#include <string.h>
#include <time.h>

double
distil_session_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
}

DistilStatus
distil_session_fetch(DistilSession *session, void *host, const void *device, size_t bytes, DistilError *err)
{
	session->device->ops->copy_out(session->device, host, device, bytes);
	return distil_device_check(session->device, err);
}

/* Bytes of everything that grows with a pass of so many tokens and texts. */
static size_t
pass_bytes(const DistilSession *session, int tokens, int texts)
{
	const DistilSpec *spec = &session->model->spec;
	size_t		staging = 3 * (size_t) tokens + 3 * (size_t) texts + 1;
	size_t		row = 2 * distil_pipeline_scratch_width(spec) + 2 * (size_t) spec->info.dimensions;

	return distil_activations_bytes(spec, tokens, false) + 2 * sizeof(int32_t) * staging
		+ sizeof(float) * row * (size_t) texts
		+ sizeof(int32_t) * distil_session_kinds_count(session, tokens)
		+ (sizeof(int32_t) + sizeof(DistilWindowText) / 4) * DISTIL_SESSION_WINDOW * (size_t) tokens;
}

/*
 * Tokens of a pass in low precision.  Long ones push activations out of the second cache, short ones read a
 * layer's weights again too often: with 2/3 of the width both take about the same bytes (18 a number of
 * width and token, 12 width^2 in INT8).  Never so few that the device's products
 * would wait for weights: as many as it takes at once when there are few.
 */
static int
low_tokens(const DistilSession *session)
{
	int			(*chain_rows) (DistilDevice *, int, int) = session->device->ops->chain_rows;
	int			tokens = session->model->spec.config.width / 3 * 2;
	int			least = chain_rows != NULL ? chain_rows(session->device, 1, 1) : DISTIL_SESSION_LOW_TOKENS;

	tokens = tokens > least ? tokens : least;
	return tokens < DISTIL_SESSION_LOW_TOKENS ? tokens : DISTIL_SESSION_LOW_TOKENS;
}

/* Tokens and texts of one pass, within the limit. */
static void
choose_pass(DistilSession *session, size_t limit)
{
	const DistilSpec *spec = &session->model->spec;
	size_t		lm = spec->has_lm ? DISTIL_SESSION_LOGITS_BYTES : 0;
	int			least = session->max_tokens;
	int			most = spec->low != DISTIL_TYPE_F32 ? low_tokens(session) : DISTIL_SESSION_TOKENS;
	int			tokens = most > least ? most : least;
	int			texts = DISTIL_SESSION_TEXTS;

	/* A device with memory of its own wants large passes, unless the memory is short. */
	if (session->device->ops->own_memory && limit == 0)
	{
		int			units = distil_device_units(session->device);

		session->batch_tokens = tokens * (units < DISTIL_SESSION_UNITS ? units : DISTIL_SESSION_UNITS);
		session->batch_texts = texts * (units < DISTIL_SESSION_UNITS ? units : DISTIL_SESSION_UNITS);
		return;
	}
	if (limit == 0)
		limit = DISTIL_SESSION_MEMORY;
	while (tokens > least && pass_bytes(session, tokens, texts) + lm > limit)
		tokens = tokens - 64 > least ? tokens - 64 : least;
	while (texts > 1 && pass_bytes(session, tokens, texts) + lm > limit)
		texts /= 2;
	session->batch_tokens = tokens;
	session->batch_texts = texts;
}

/* Arrays of one staging block; also where they are on the device. */
static size_t
staging_count(const DistilSession *session)
{
	return 3 * (size_t) session->batch_tokens + 3 * (size_t) session->batch_texts + 1;
}

static DistilStatus
create_buffers(DistilSession *session, DistilError *err)
{
	const DistilSpec *spec = &session->model->spec;
	size_t		texts = (size_t) session->batch_texts;
	size_t		tokens = (size_t) session->batch_tokens;
	size_t		scratch = 2 * texts * distil_pipeline_scratch_width(spec);
	size_t		pooled = texts * (size_t) spec->info.dimensions;
	size_t		kinds = distil_session_kinds_count(session, session->batch_tokens);

	session->window_tokens = DISTIL_SESSION_WINDOW * session->batch_tokens;
	session->window_capacity = session->window_tokens / 4;
	session->staging = distil_alloc_array(session->alloc, staging_count(session), sizeof(int32_t));
	session->window_ids = distil_alloc_array(session->alloc, (size_t) session->window_tokens,
											 sizeof(int32_t));
	session->window = distil_alloc_array(session->alloc, (size_t) session->window_capacity,
										 sizeof(DistilWindowText));
	session->host_pooled = distil_alloc_array(session->alloc, pooled, sizeof(float));
	if (kinds > 0)
		session->kinds_memory = distil_alloc_array(session->alloc, kinds, sizeof(int32_t));
	session->device_staging = session->device->ops->alloc(session->device,
														  staging_count(session) * sizeof(int32_t));
	session->pipeline = session->device->ops->alloc(session->device, (scratch + pooled) * sizeof(float));
	if (session->staging == NULL || session->window_ids == NULL || session->window == NULL ||
		session->host_pooled == NULL || session->device_staging == NULL || session->pipeline == NULL ||
		(kinds > 0 && session->kinds_memory == NULL))
		return distil_fail_memory(err, pass_bytes(session, session->batch_tokens, session->batch_texts));
	session->pooled = session->pipeline + scratch;
	session->ids = session->staging;
	session->positions = session->ids + tokens;
	session->types = session->positions + tokens;
	session->offsets = session->types + tokens;
	session->ranges = session->offsets + texts + 1;
	return distil_activations_create_half(&session->activations, spec, session->batch_tokens, false,
										  session->half, session->device, session->alloc, err);
}

/*
 * A session over a model (borrowed, like the device and the allocator, until free).
 * *session NULL on failure.
 */
DistilStatus
distil_session_create(DistilSession **session, const DistilModel *model, DistilDevice *device,
					  size_t memory_limit, const DistilAllocator *alloc, const DistilPoll *poll,
					  DistilError *err)
{
	DistilSession *s = distil_alloc_array(alloc, 1, sizeof(*s));
	DistilStatus status;

	*session = NULL;
	if (s == NULL)
		return distil_fail_memory(err, sizeof(*s));
	s->model = model;
	s->device = device;
	s->alloc = alloc;
	if (poll != NULL)
		s->poll = *poll;
	s->memory_limit = memory_limit;
	s->max_tokens = model->spec.info.max_tokens;
	s->prompt = -1;
	distil_encoding_init(&s->encoding, alloc);
	distil_buffer_init(&s->text, alloc);
	if (s->max_tokens < 1 ||
		s->max_tokens > model->spec.config.positions - model->spec.config.position_offset)
	{
		int			max_tokens = s->max_tokens;

		distil_release(alloc, s);
		return distil_fail(err, DISTIL_ERR_CORRUPT, "the model's limit of %d tokens is outside 1 .. %d",
						   max_tokens, model->spec.config.positions - model->spec.config.position_offset);
	}
	choose_pass(s, memory_limit);
	status = distil_model_upload(&s->uploaded, model, device, alloc, &s->poll, err);
	s->weights = s->uploaded != NULL ? s->uploaded : model->weights;
	/* it costs memory */
	if (status == DISTIL_OK && memory_limit == 0 && distil_has_half(&model->spec, device))
		status = distil_half_weights(&s->half, s->uploaded, model->spec.table.total, device, err);
	if (status == DISTIL_OK)
		status = create_buffers(s, err);
	if (status != DISTIL_OK)
	{
		distil_session_free(s);
		return status;
	}
	*session = s;
	return DISTIL_OK;
}

const DistilSessionStats *
distil_session_stats(const DistilSession *session)
{
	return &session->stats;
}

size_t
distil_session_used(const DistilSession *session)
{
	if (session->largest_pass == 0 || session->device->ops->own_memory)
		return 0;
	return distil_activations_bytes(&session->model->spec, session->largest_pass, false);
}

void
distil_session_rest(DistilSession *session)
{
	distil_activations_forget(session->activations);
	session->largest_pass = 0;
}

/* Takes NULL. */
void
distil_session_free(DistilSession *session)
{
	const DistilKernels *ops;

	if (session == NULL)
		return;
	distil_session_share(session, NULL, NULL, NULL);
	ops = session->device->ops;
	distil_session_graphs_free(session);
	distil_activations_free(session->activations);
	ops->release(session->device, session->uploaded);
	ops->release(session->device, session->half);
	ops->release(session->device, session->device_staging);
	ops->release(session->device, session->pipeline);
	ops->release(session->device, session->lm.memory);
	ops->release(session->device, session->head.memory);
	distil_release(session->alloc, session->staging);
	distil_release(session->alloc, session->window_ids);
	distil_release(session->alloc, session->window_types);
	distil_release(session->alloc, session->window);
	distil_release(session->alloc, session->host_pooled);
	distil_release(session->alloc, session->kinds_memory);
	distil_release(session->alloc, session->host_hidden);
	distil_release(session->alloc, session->lm.host);
	distil_release(session->alloc, session->head.host);
	distil_encoding_reset(&session->encoding);
	distil_buffer_free(&session->text);
	distil_release(session->alloc, session);
}

/* n numbers of the staging block to their place on the device. */
static void
stage(const DistilSession *session, const int32_t *from, int n)
{
	session->device->ops->copy_in(session->device, session->device_staging + (from - session->staging), from,
								  sizeof(int32_t) * (size_t) n);
}

void
distil_session_stage(DistilSession *session, DistilBatch *batch, int nseq, int ntokens)
{
	int32_t    *device = session->device_staging;

	/* no more than is there: a large block costs a GPU as much as a small pass */
	stage(session, session->ids, ntokens);
	stage(session, session->positions, ntokens);
	stage(session, session->types, ntokens);
	stage(session, session->offsets, nseq + 1);
	stage(session, session->ranges, 2 * nseq);
	memset(batch, 0, sizeof(*batch));
	batch->nseq = nseq;
	batch->ntokens = ntokens;
	batch->ids = device + (session->ids - session->staging);
	batch->positions = device + (session->positions - session->staging);
	batch->types = device + (session->types - session->staging);
	batch->offsets = device + (session->offsets - session->staging);
	batch->host_offsets = session->offsets;
	batch->pool_ranges = device + (session->ranges - session->staging);
}

void
distil_session_count(DistilSession *session, int ntokens)
{
	session->stats.batches++;
	session->stats.tokens += ntokens;
	if (ntokens > session->largest_pass)
		session->largest_pass = ntokens;
}

DistilStatus
distil_session_forward(DistilSession *session, DistilBatch *batch, int nseq, int ntokens,
					   const float **hidden, DistilError *err)
{
	distil_session_stage(session, batch, nseq, ntokens);
	distil_session_count(session, ntokens);
	return distil_encoder_forward(&session->model->spec, session->weights, batch, session->activations, 0,
								  hidden, session->device, &session->poll, err);
}

DistilStatus
distil_session_single(DistilSession *session, const int32_t *ids, const int32_t *types, int n,
					  const float **hidden, DistilError *err)
{
	DistilBatch batch;
	DistilStatus status;
	double		start = distil_session_clock();
	int			i;

	for (i = 0; i < n; i++)
	{
		session->ids[i] = ids[i];
		session->types[i] = types[i];
	}
	distil_positions(session->positions, ids, n, &session->model->spec.config);
	session->offsets[0] = 0;
	session->offsets[1] = n;
	status = distil_session_forward(session, &batch, 1, n, hidden, err);
	memset(session->types, 0, sizeof(int32_t) * (size_t) n);
	session->stats.model_seconds += distil_session_clock() - start;
	return status;
}

/* Hidden states of n tokens from the device to host_hidden. */
static DistilStatus
fetch_hidden(DistilSession *session, const float *hidden, int n, DistilError *err)
{
	size_t		c = (size_t) session->model->spec.config.width;

	if (n > session->host_hidden_rows)
	{
		distil_release(session->alloc, session->host_hidden);
		session->host_hidden_rows = 0;
		session->host_hidden = distil_alloc_array(session->alloc, (size_t) n * c, sizeof(float));
		if (session->host_hidden == NULL)
			return distil_fail_memory(err, (size_t) n * c * sizeof(float));
		session->host_hidden_rows = n;
	}
	return distil_session_fetch(session, session->host_hidden, hidden, sizeof(float) * (size_t) n * c, err);
}

/* Last hidden state of one text: *states [*tokens, C] on the host, borrowed until the next call. */
DistilStatus
distil_session_hidden(DistilSession *session, const float **states, int *tokens,
					  const DistilText *text, DistilError *err)
{
	const float *hidden;
	int			n;

	DISTIL_FORWARD(distil_session_encode(session, text, NULL, -1, err));
	n = session->encoding.n;
	*tokens = n;
	*states = session->host_hidden;
	if (n == 0)
		return DISTIL_OK;
	DISTIL_FORWARD(distil_session_single(session, session->encoding.ids, session->encoding.types, n,
										 &hidden, err));
	DISTIL_FORWARD(fetch_hidden(session, hidden, n, err));
	*states = session->host_hidden;
	return DISTIL_OK;
}

static DistilStatus
hidden_pass(DistilSession *session, void *ctx, const DistilBatch *batch, const float *hidden,
			const DistilWindowText *texts, int count, DistilError *err)
{
	const DistilTextRows *rows = ctx;
	int			c = session->model->spec.config.width;
	int			i;

	for (i = 0; i < count; i++)
	{
		const float *first = hidden + (size_t) batch->host_offsets[i] * (size_t) c;

		DISTIL_FORWARD(fetch_hidden(session, first, texts[i].length, err));
		DISTIL_FORWARD(rows->rows(rows->ctx, texts[i].index, session->host_hidden, texts[i].length, c, err));
	}
	return DISTIL_OK;
}

static DistilStatus
hidden_copy(DistilSession *session, void *ctx, int to, int from, DistilError *err)
{
	const DistilTextRows *rows = ctx;

	(void) session;
	return rows->same(rows->ctx, to, from, err);
}

DistilStatus
distil_session_hidden_many(DistilSession *session, const DistilText *texts, int n, const DistilTextRows *rows,
						   bool *has, DistilError *err)
{
	DistilWindowRun run = {
		.texts = texts, .n = n, .prompt = -1, .typed = true,
		.pass = hidden_pass, .copy = hidden_copy, .ctx = (void *) rows
	};

	return distil_session_run_texts(session, &run, has, err);
}
