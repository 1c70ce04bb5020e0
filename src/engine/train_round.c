/*
 * train_round.c
 *		Rounds: micro-batches made ready (masked, cut into pieces) and run on the workers.
 */
#include <string.h>

#include "train.h"

void
distil_round_begin(DistilTrainer *trainer, bool learn)
{
	DistilRound *round = &trainer->round;

	round->nmicro = round->nsequences = round->ntokens = round->npieces = 0;
	round->learn = learn;
}

/* Returns the number of labels. */
static int
label_next(int32_t *labels, const int32_t *ids, const int32_t *starts, int n)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		memcpy(labels + starts[i], ids + starts[i] + 1,
			   (size_t) (starts[i + 1] - starts[i] - 1) * sizeof(int32_t));
		labels[starts[i + 1] - 1] = DISTIL_NO_LABEL;
	}
	return starts[n] - starts[0] - n;
}

bool
distil_round_add(DistilTrainer *trainer, const int32_t *sequences, int n, int64_t micro, double share)
{
	DistilRound *round = &trainer->round;
	DistilMicroBatch *added = &round->micro[round->nmicro];
	const DistilSpoolView *spool = &trainer->spool;
	int			first = round->ntokens;
	int			total = 0;
	int			i;

	for (i = 0; i < n; i++)
		total += (int) (spool->starts[sequences[i] + 1] - spool->starts[sequences[i]]);
	if (n > round->max_sequences - round->nsequences || total > round->max_tokens - round->ntokens)
		return false;
	for (i = 0; i < n; i++)
	{
		uint64_t	start = spool->starts[sequences[i]];
		int			length = (int) (spool->starts[sequences[i] + 1] - start);

		round->sequences[round->nsequences] = sequences[i];
		round->starts[round->nsequences++] = round->ntokens;
		memcpy(round->ids + round->ntokens, spool->ids + start, (size_t) length * sizeof(int32_t));
		round->ntokens += length;
	}
	round->starts[round->nsequences] = round->ntokens;
	added->sequences = n;
	added->tokens = total;
	added->share = share;
	added->labels = 0;
	if (trainer->method->labelling == DISTIL_LABELS_MASKED)
	{
		DistilRng	rng;

		distil_rng_open(&rng, trainer->options.seed, round->learn ? DISTIL_RNG_MASK : DISTIL_RNG_EVAL_MASK,
						(uint64_t) micro);
		added->labels = distil_masking_apply(&trainer->masking, round->ids + first, round->labels + first,
											 total, round->heap, &rng);
	}
	else if (trainer->method->labelling == DISTIL_LABELS_NEXT)
		added->labels = label_next(round->labels, round->ids, round->starts + round->nsequences - n, n);
	round->nmicro++;
	return true;
}

/*
 * Tokens of a piece: at most the limit, and so many pieces that all workers get as many.  With several
 * accelerators it is the limit, so that pieces, and with them dropout, are those of one.
 */
static int
piece_size(const DistilTrainer *trainer)
{
	const DistilRound *round = &trainer->round;
	int			limit = trainer->piece_limit;
	int			workers = trainer->nworkers;
	int			pieces = (round->ntokens + limit - 1) / limit;
	int			size;

	if (workers == 1 || trainer->ncopies > 1)
		return limit;
	/* Many threads share a small round in smaller pieces. */
	if (workers > 4 && pieces < 4 * workers)
		pieces = 4 * workers;
	pieces = (pieces + workers - 1) / workers * workers;
	size = (round->ntokens + pieces - 1) / pieces;
	if (size < DISTIL_PIECE_TOKENS / 4)
		size = DISTIL_PIECE_TOKENS / 4;
	return size < limit ? size : limit;
}

/* End of a piece that begins at `first`: the end nearest to `size` tokens, but not over the limit. */
static int
piece_end(const DistilTrainer *trainer, int first, int end, int size)
{
	const int32_t *starts = trainer->round.starts;
	int			last = first + 1;

	while (last < end && starts[last + 1] - starts[first] <= trainer->piece_limit &&
		   starts[last + 1] - starts[first] - size <= size - (starts[last] - starts[first]))
		last++;
	return last;
}

/* Consecutive sequences of one micro-batch, about `size` tokens together, which is cut evenly. */
static void
cut_pieces(DistilTrainer *trainer, int size)
{
	DistilRound *round = &trainer->round;
	int			sequence = 0;
	int			m;

	for (m = 0; m < round->nmicro; m++)
	{
		int			end = sequence + round->micro[m].sequences;
		int			left = (round->micro[m].tokens + size / 2) / size;

		for (; sequence < end; left--)
		{
			DistilPiece *piece = &round->pieces[round->npieces++];
			int			tokens = round->starts[end] - round->starts[sequence];

			piece->micro = m;
			piece->sequence = sequence;
			piece->token = round->starts[sequence];
			sequence = piece_end(trainer, sequence, end, left > 1 ? tokens / left : tokens);
			piece->nseq = sequence - piece->sequence;
			piece->ntokens = round->starts[sequence] - piece->token;
			piece->dropout_seed = 0;
			if (round->learn && trainer->method->dropout)
				piece->dropout_seed = distil_rng_value(trainer->options.seed, DISTIL_RNG_DROPOUT,
													   (uint64_t) trainer->state.pieces);
			if (round->learn)
				trainer->state.pieces++;
		}
	}
}

/* Each piece to the worker with the least to do so far. */
static void
assign_pieces(DistilTrainer *trainer)
{
	DistilRound *round = &trainer->round;
	int64_t		least;
	int			i;
	int			w;

	for (i = 0; i < round->npieces; i++)
	{
		int			chosen = 0;

		least = INT64_MAX;
		for (w = 0; w < trainer->nworkers; w++)
		{
			if (trainer->workers[w].load < least)
			{
				least = trainer->workers[w].load;
				chosen = w;
			}
		}
		round->owner[i] = chosen;
		trainer->workers[chosen].load += round->pieces[i].ntokens;
	}
}

void
distil_worker_batch(DistilTrainWorker *worker, const int32_t *ids, const int32_t *starts, int n)
{
	DistilDevice *device = worker->device;
	DistilBatch *batch = &worker->batch;
	int			t = starts[n] - starts[0];
	int			i;

	for (i = 0; i < n; i++)
		distil_positions(worker->host + (starts[i] - starts[0]), ids + starts[i], starts[i + 1] - starts[i],
						 worker->config);
	for (i = 0; i <= n; i++)
		worker->host_offsets[i] = starts[i] - starts[0];
	device->ops->copy_in(device, worker->positions, worker->host, (size_t) t * sizeof(int32_t));
	device->ops->copy_in(device, worker->ids, ids + starts[0], (size_t) t * sizeof(int32_t));
	device->ops->copy_in(device, worker->offsets, worker->host_offsets, ((size_t) n + 1) * sizeof(int32_t));
	if (worker->skip > 0)
	{
		/* each sequence is longer than its prompt, so they fit */
		for (i = 0; i < n; i++)
		{
			worker->host[2 * i] = worker->host_offsets[i] + worker->skip;
			worker->host[2 * i + 1] = worker->host_offsets[i + 1];
		}
		device->ops->copy_in(device, worker->ranges, worker->host, 2 * (size_t) n * sizeof(int32_t));
	}
	batch->pool_skip = worker->skip;
	batch->pool_ranges = worker->ranges;
	batch->nseq = n;
	batch->ntokens = t;
	batch->ids = worker->ids;
	batch->positions = worker->positions;
	batch->types = worker->types;
	batch->offsets = worker->offsets;
	batch->host_offsets = worker->host_offsets;
}

/* A DistilPoolFn. */
static DistilStatus
run_piece(void *ctx, int number, int item, DistilError *err)
{
	static const double zeros[DISTIL_LOSS_TERMS] = {0};
	DistilTrainer *trainer = ctx;
	DistilTrainWorker *worker = &trainer->workers[number];
	const DistilPiece *piece = &trainer->round.pieces[item];
	DistilDevice *device = worker->device;
	double		losses[DISTIL_LOSS_TERMS];
	int			i;

	distil_worker_batch(worker, trainer->round.ids, trainer->round.starts + piece->sequence, piece->nseq);
	device->ops->copy_in(device, worker->device_losses, zeros, sizeof(zeros));
	DISTIL_FORWARD(trainer->method->piece(trainer, worker, piece, err));
	device->ops->copy_out(device, losses, worker->device_losses, sizeof(losses));
	DISTIL_FORWARD(distil_device_check(device, err));
	for (i = 0; i < DISTIL_LOSS_TERMS; i++)
		worker->losses[i] += losses[i];
	return DISTIL_OK;
}

DistilStatus
distil_round_run(DistilTrainer *trainer, DistilError *err)
{
	DistilRound *round = &trainer->round;

	if (trainer->cache.enabled)
		DISTIL_FORWARD(distil_cache_fill(trainer, err));
	cut_pieces(trainer, piece_size(trainer));
	assign_pieces(trainer);
	if (round->learn)
		trainer->state.tokens += round->ntokens;
	return distil_pool_run(trainer->pool, run_piece, trainer, round->npieces, round->owner, err);
}
