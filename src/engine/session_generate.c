/*
 * session_generate.c
 *		A causal model writes on: one token at a time, with what it computed of the earlier ones kept.
 *
 * Sampling is temperature, then the k likeliest, then the likeliest that together reach p,
 * as in transformers; the rule a newcomer would break: the token that passes p stays in.
 */
#include "session.h"

#include "head.h"
#include "rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Candidate
{
	int32_t		id;
	double		value;			/* logit / temperature, then probability */
} Candidate;

typedef struct Generation
{
	DistilSession *session;
	DistilGenerateOptions options;
	DistilKeyCache cache;
	DistilRng	rng;
	Candidate  *candidates;		/* [V], sampling only */
	int32_t    *ids;			/* prompt, then what was written */
	int			n;
	int			limit;			/* tokens there is room for */
} Generation;

/* ---------- the next token ---------- */

static int32_t
likeliest(const float *logits, int v)
{
	int32_t		best = 0;
	int			i;

	for (i = 1; i < v; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

static int
compare(const void *a, const void *b)
{
	const Candidate *x = a;
	const Candidate *y = b;

	if (x->value != y->value)
		return x->value < y->value ? 1 : -1;
	return (x->id > y->id) - (x->id < y->id);
}

static int32_t
sample(Generation *g, const float *logits, int v)
{
	Candidate  *c = g->candidates;
	bool		sorted = g->options.top_k > 0 || g->options.top_p < 1;
	int			n = v;
	double		top = -INFINITY;
	double		sum = 0;
	double		point;
	int			i;

	for (i = 0; i < v; i++)
	{
		c[i].id = i;
		c[i].value = logits[i] / g->options.temperature;
		top = fmax(top, c[i].value);
	}
	if (sorted)
		qsort(c, (size_t) v, sizeof(Candidate), compare);
	if (g->options.top_k > 0 && g->options.top_k < n)
		n = g->options.top_k;
	for (i = 0; i < n; i++)
		sum += c[i].value = exp(c[i].value - top);
	if (g->options.top_p < 1)
	{
		double		reached = c[0].value;

		for (i = 1; i < n && reached < g->options.top_p * sum; i++)
			reached += c[i].value;
		n = i;
		sum = reached;
	}
	point = distil_rng_uniform(&g->rng) * sum;
	for (i = 0; i < n - 1 && point > c[i].value; i++)
		point -= c[i].value;
	return c[i].id;
}

/* Tokens ids[past .. n) through the model; the logits of the last one into lm.host. */
static DistilStatus
run_tokens(Generation *g, DistilError *err)
{
	DistilSession *session = g->session;
	const DistilSpec *spec = &session->model->spec;
	int			past = g->cache.past;
	int			count = g->n - past;
	DistilBatch batch;
	const float *hidden;

	memcpy(session->ids, g->ids + past, sizeof(int32_t) * (size_t) count);
	for (int i = 0; i < count; i++)
		session->positions[i] = past + i;
	memset(session->types, 0, sizeof(int32_t) * (size_t) count);
	session->offsets[0] = 0;
	session->offsets[1] = g->n;
	distil_session_stage(session, &batch, 1, count);
	session->stats.batches++;
	session->stats.tokens += count;
	DISTIL_FORWARD(distil_encoder_forward_cached(spec, session->weights, &batch, session->activations,
												 &g->cache,
												 &hidden, session->device, &session->poll, err));
	g->cache.past = g->n;
	return distil_session_lm_row(session, hidden, count - 1, err);
}

static bool
is_end(const DistilSession *session, int32_t id)
{
	const DistilConfig *config = &session->model->spec.config;

	for (int i = 0; i < config->nend; i++)
		if (config->end_ids[i] == id)
			return true;
	return !config->ends_known && session->model->tokenizer != NULL &&
		distil_tokenizer_special(session->model->tokenizer)->eos == id;
}

static DistilStatus
write_on(Generation *g, int *written, DistilError *err)
{
	int			v = g->session->model->spec.config.vocabulary;

	*written = 0;
	while (*written < g->options.max_tokens && g->n < g->limit)
	{
		int32_t		id;

		DISTIL_FORWARD(run_tokens(g, err));
		id = g->options.temperature > 0 ? sample(g, g->session->lm.host, v)
			: likeliest(g->session->lm.host, v);
		g->ids[g->n++] = id;
		(*written)++;
		if (is_end(g->session, id))
			break;
	}
	return DISTIL_OK;
}

/* ---------- memory ---------- */

static DistilStatus
check_options(const DistilGenerateOptions *options, const DistilConfig *config, DistilError *err)
{
	const char *setting = config->writing_setting;

	if (options->max_tokens < 1)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "max_tokens must be at least 1");
	if (!(options->temperature >= 0) || isinf(options->temperature))
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "temperature must be at least 0");
	if (options->top_k < 0)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "top_k must be at least 0");
	if (!(options->top_p > 0 && options->top_p <= 1))
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "top_p must be above 0 and at most 1");
	if (setting == NULL && options->temperature > 0)
		setting = config->sampling_setting;
	if (setting != NULL)
		return distil_fail_hint(err, distil_fail(err, DISTIL_ERR_UNSUPPORTED,
												 "the model generates with \"%s\", which is not supported",
												 setting),
								"Without it in generation_config.json (config.json where there is none) "
								"the model can be imported anew.");
	return DISTIL_OK;
}

/* The end of the prompt, and memory for what will be written. */
static DistilStatus
begin(Generation *g, const int32_t *prompt, int nprompt, DistilError *err)
{
	DistilSession *session = g->session;
	const DistilConfig *config = &session->model->spec.config;
	int			context = session->max_tokens;
	int			keep = nprompt;
	size_t		bytes;

	if (nprompt >= context)
	{
		/* leave the room that was asked for, but at most half of the context */
		int			room = g->options.max_tokens < context / 2 ? g->options.max_tokens : context / 2;

		keep = context - (room > 0 ? room : 1);
		session->stats.truncated++;
	}
	if (keep < 1)
		return distil_fail(err, DISTIL_ERR_LIMIT, "the model's context of %d tokens has no room", context);
	g->limit = g->options.max_tokens < context - keep ? keep + g->options.max_tokens : context;
	g->cache.limit = g->limit;
	bytes = distil_key_cache_bytes(&session->model->spec, g->limit);
	g->ids = distil_alloc_array(session->alloc, (size_t) g->limit, sizeof(int32_t));
	g->cache.qkv = session->device->ops->alloc(session->device, 3 * bytes * (size_t) config->layers);
	g->cache.context = session->device->ops->alloc(session->device, bytes);
	if (g->options.temperature > 0)
		g->candidates = distil_alloc_array(session->alloc, (size_t) config->vocabulary, sizeof(Candidate));
	if (g->ids == NULL || g->cache.qkv == NULL || g->cache.context == NULL ||
		(g->options.temperature > 0 && g->candidates == NULL))
		return distil_fail_memory(err, (3 * (size_t) config->layers + 1) * bytes);
	memcpy(g->ids, prompt + (nprompt - keep), sizeof(int32_t) * (size_t) keep);
	g->n = keep;
	distil_rng_open(&g->rng, g->options.seed, DISTIL_RNG_GENERATE, 0);
	return DISTIL_OK;
}

DistilStatus
distil_session_generate_ids(DistilSession *session, int32_t **ids, int *n, const int32_t *prompt, int nprompt,
							const DistilGenerateOptions *options, DistilError *err)
{
	Generation	g = {.session = session,.options = *options};
	double		start = distil_session_clock();
	DistilStatus status;
	int			written = 0;

	*ids = NULL;
	*n = 0;
	DISTIL_FORWARD(distil_session_lm_prepare(session, true, err));
	DISTIL_FORWARD(check_options(options, &session->model->spec.config, err));
	DISTIL_FORWARD(distil_session_check_ids(session, prompt, NULL, nprompt, err));
	if (nprompt < 1)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "there is no token to go on from");
	status = begin(&g, prompt, nprompt, err);
	if (status == DISTIL_OK)
		status = write_on(&g, &written, err);
	if (status == DISTIL_OK)
	{
		memmove(g.ids, g.ids + (g.n - written), sizeof(int32_t) * (size_t) written);
		*ids = g.ids;
		*n = written;
		g.ids = NULL;
	}
	distil_release(session->alloc, g.ids);
	distil_release(session->alloc, g.candidates);
	session->device->ops->release(session->device, g.cache.qkv);
	session->device->ops->release(session->device, g.cache.context);
	session->stats.model_seconds += distil_session_clock() - start;
	return status;
}

/* Tokens of the whole prompt; of an empty one the token that begins a text. */
static DistilStatus
encode_prompt(DistilSession *session, const DistilText *prompt, int32_t *begin_id, const int32_t **ids,
			  int *n,
			  DistilError *err)
{
	const DistilTokenizer *tokenizer = session->model->tokenizer;
	const DistilSpecialIds *special = distil_tokenizer_special(tokenizer);
	DistilEncodeOptions options = distil_tokenizer_defaults(tokenizer);

	options.truncation = DISTIL_TRUNCATE_NONE;
	options.max_tokens = 0;
	DISTIL_FORWARD(distil_tokenizer_encode(tokenizer, &session->encoding, prompt, NULL, &options,
										   &session->poll, err));
	session->stats.texts++;
	*ids = session->encoding.ids;
	*n = session->encoding.n;
	if (*n > 0)
		return DISTIL_OK;
	*begin_id = special->bos >= 0 ? special->bos : special->eos;
	*ids = begin_id;
	*n = *begin_id >= 0 ? 1 : 0;
	return DISTIL_OK;
}

DistilStatus
distil_session_generate(DistilSession *session, char **text, size_t *length, const DistilText *prompt,
						const DistilGenerateOptions *options, DistilError *err)
{
	const int32_t *prompt_ids;
	int32_t		begin_id;
	int32_t    *ids;
	int			nprompt;
	int			n;
	DistilStatus status;

	*text = NULL;
	*length = 0;
	DISTIL_FORWARD(distil_session_lm_prepare(session, true, err));
	DISTIL_FORWARD(encode_prompt(session, prompt, &begin_id, &prompt_ids, &nprompt, err));
	DISTIL_FORWARD(distil_session_generate_ids(session, &ids, &n, prompt_ids, nprompt, options, err));
	status = distil_tokenizer_decode(session->model->tokenizer, text, length, ids, n, true, session->alloc,
									 err);
	distil_release(session->alloc, ids);
	return status;
}

/* ---------- perplexity ---------- */

typedef struct Surprise
{
	const int32_t *ids;
	double		sum;
} Surprise;

/* A DistilRowFn: the token that follows. */
static DistilStatus
add_surprise(void *ctx, int t, const float *logits, int v, DistilError *err)
{
	Surprise   *surprises = ctx;

	(void) err;
	surprises->sum += distil_cross_entropy(NULL, logits, 1, v, surprises->ids[t + 1], 1);
	return DISTIL_OK;
}

/* Texts of one call; each has a place of its own, whichever thread's session computes it. */
typedef struct PerplexityRun
{
	const DistilText *texts;
	double	   *perplexity;
	bool	   *has;
} PerplexityRun;

/* A DistilSessionFn */
static DistilStatus
perplexity_of(void *ctx, DistilSession *session, int item, DistilError *err)
{
	const PerplexityRun *run = ctx;
	DistilEncodeOptions options = distil_tokenizer_defaults(session->model->tokenizer);
	DistilEncoding *encoding = &session->encoding;
	const float *hidden;
	Surprise	surprises = {0};

	run->has[item] = false;
	DISTIL_FORWARD(distil_session_lm_prepare(session, true, err));
	options.add_special = false;
	options.max_tokens = session->max_tokens;
	options.truncation = DISTIL_TRUNCATE_LONGEST_FIRST;
	DISTIL_FORWARD(distil_tokenizer_encode(session->model->tokenizer, encoding, &run->texts[item], NULL,
										   &options, &session->poll, err));
	DISTIL_FORWARD(distil_session_check_ids(session, encoding->ids, NULL, encoding->n, err));
	session->stats.texts++;
	if (encoding->truncated)
		session->stats.truncated++;
	if (encoding->n < 2)
		return DISTIL_OK;
	DISTIL_FORWARD(distil_session_single(session, encoding->ids, encoding->types, encoding->n, &hidden, err));
	surprises.ids = encoding->ids;
	DISTIL_FORWARD(distil_session_lm_rows(session, hidden, 0, encoding->n - 1, add_surprise, &surprises,
										  err));
	run->perplexity[item] = exp(surprises.sum / (encoding->n - 1));
	run->has[item] = true;
	return DISTIL_OK;
}

DistilStatus
distil_session_perplexity(DistilSession *session, double *perplexity, bool *has, const DistilText *texts,
						  int n, DistilError *err)
{
	PerplexityRun run = {texts, perplexity, has};

	DISTIL_FORWARD(distil_session_lm_prepare(session, true, err));
	return distil_session_run(session, perplexity_of, &run, n, err);
}
