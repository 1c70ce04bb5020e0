/*
 * session_graph.c
 *		Small passes as graphs: all their operations by one call to the device.
 *
 * A pass of a few texts is some hundred operations of a few microseconds each, which a GPU does faster than
 * the host asks for them.  Their arguments follow from the pass's size: rows and texts.  So small passes are
 * filled up to sizes that come again; the second one of a size is noted by the device, those after it are
 * repeated.  What fills them up are rows of token 0, which together are one more text, and texts without
 * rows; nobody reads what becomes of them.
 *
 * The rule a newcomer would break: what is noted must not depend on anything but that size.  Prompts that are
 * not pooled do, and so does attention in several units; they are left out here.
 */
#include "layers.h"
#include "session.h"

#include <string.h>

/* With more rows a device is busy longer than the host. */
#define GRAPH_TOKENS 2048

/* Rows are filled up to a multiple of that, which is at most a quarter for all but the smallest passes. */
static int
step_of(int ntokens)
{
	return ntokens <= 64 ? 16 : ntokens <= 256 ? 32 : 64;
}

/* The size that a pass is filled up to; false: it is computed as it is. */
static bool
choose_size(const DistilSession *session, const DistilWindowRun *run, int *nseq, int *ntokens)
{
	const DistilDevice *device = session->device;
	int			step = step_of(*ntokens);
	int			tokens = (*ntokens + step - 1) / step * step;
	int			texts = 2;
	double		work;

	if (device->ops->graph_begin == NULL || run->compute == NULL || run->typed || run->skip > 0 ||
		tokens > GRAPH_TOKENS || tokens > session->batch_tokens || tokens - *ntokens > session->max_tokens)
		return false;
	while (texts <= *nseq)
		texts *= 2;
	work = 4.0 * tokens * tokens * session->model->spec.config.width;	/* as attend() counts it, at most */
	if (texts > session->batch_texts || work > DISTIL_UNIT_ATTENTION(device))
		return false;
	*nseq = texts;
	*ntokens = tokens;
	return true;
}

static void
fill_up(DistilSession *session, int nseq, int ntokens, int all_seq, int all_tokens)
{
	int			i;

	for (i = ntokens; i < all_tokens; i++)
	{
		session->ids[i] = 0;
		session->positions[i] = session->model->spec.config.position_offset;
	}
	for (i = nseq; i < all_seq; i++)
		session->offsets[i + 1] = all_tokens;
}

/* What is known of a size; the place of the least recently used one for a new one. */
static DistilSessionGraph *
find_graph(DistilSession *session, int nseq, int ntokens, bool *seen)
{
	DistilSessionGraph *found = &session->graphs[0];
	int			i;

	*seen = true;
	for (i = 0; i < DISTIL_SESSION_GRAPHS; i++)
	{
		DistilSessionGraph *graph = &session->graphs[i];

		if (graph->tokens == ntokens && graph->nseq == nseq)
		{
			graph->used = ++session->graph_uses;
			return graph;
		}
		if (graph->used < found->used)
			found = graph;
	}
	*seen = false;
	session->device->ops->graph_free(session->device, found->graph);
	memset(found, 0, sizeof(*found));
	found->tokens = ntokens;
	found->nseq = nseq;
	found->used = ++session->graph_uses;
	return found;
}

static DistilStatus
compute(DistilSession *session, const DistilWindowRun *run, const DistilBatch *batch, const float **hidden,
		DistilError *err)
{
	DISTIL_FORWARD(distil_encoder_forward(&session->model->spec, session->weights, batch,
										  session->activations, 0, hidden, session->device, &session->poll,
										  err));
	return run->compute != NULL ? run->compute(session, batch, *hidden, err) : DISTIL_OK;
}

/* graph->graph, unless the device cannot. */
static DistilStatus
note(DistilSession *session, const DistilWindowRun *run, const DistilBatch *batch, DistilSessionGraph *graph,
	 DistilError *err)
{
	DistilDevice *device = session->device;
	const float *hidden;
	DistilStatus status;

	if (!device->ops->graph_begin(device))
		return DISTIL_OK;
	status = compute(session, run, batch, &hidden, err);
	graph->graph = device->ops->graph_end(device);
	graph->unrepeatable = status == DISTIL_OK && graph->graph == NULL;
	if (status != DISTIL_OK)
	{
		device->ops->graph_free(device, graph->graph);
		graph->graph = NULL;
	}
	return status;
}

DistilStatus
distil_session_pass(DistilSession *session, const DistilWindowRun *run, DistilBatch *batch, int nseq,
					int ntokens, const float **hidden, DistilError *err)
{
	DistilSessionGraph *graph = NULL;
	int			all_seq = nseq;
	int			all_tokens = ntokens;
	bool		seen = false;

	if (choose_size(session, run, &all_seq, &all_tokens))
	{
		fill_up(session, nseq, ntokens, all_seq, all_tokens);
		graph = find_graph(session, all_seq, all_tokens, &seen);
	}
	distil_session_stage(session, batch, all_seq, all_tokens);
	batch->pool_skip = run->skip;
	/* a graph goes by the pass's size alone */
	batch->kinds = graph == NULL ? distil_session_kinds(session, nseq, ntokens) : NULL;
	distil_session_count(session, ntokens);
	if (seen && graph->graph == NULL && !graph->unrepeatable)
		DISTIL_FORWARD(note(session, run, batch, graph, err));
	if (graph == NULL || graph->graph == NULL)
		return compute(session, run, batch, hidden, err);
	DISTIL_POLL(&session->poll, err);
	session->device->ops->graph_run(session->device, graph->graph);
	*hidden = NULL;
	return DISTIL_OK;
}

void
distil_session_graphs_free(DistilSession *session)
{
	int			i;

	for (i = 0; i < DISTIL_SESSION_GRAPHS; i++)
		if (session->graphs[i].graph != NULL)
			session->device->ops->graph_free(session->device, session->graphs[i].graph);
}
