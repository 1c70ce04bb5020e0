/*
 * train_embedding.c
 *		Method embedding: the student's sentence vector follows the teacher's.
 *
 *	L = mean over the micro-batch of || e_s - e_t ||^2
 * after the whole sentence pipeline, so of normalised vectors where the model normalises.
 * No dropout: the target is exact, and noise in the student costs accuracy here.
 *
 * Teacher vectors are kept when sequences will be seen again.  The rule a newcomer would
 * break: they are computed in fixed blocks of neighbours in the spool, never with the
 * batch at hand, because a vector's last bits depend on its company, and a resumed job
 * must find the same ones.
 * Reimers and Gurevych 2020 (arXiv:2004.09813), applied to a student with fewer layers.
 */
#include <string.h>

#include "train.h"

#define CACHE_BYTES ((size_t) 256 << 20)
#define COPY_FLOATS 8192		/* of vectors that go to the device by one copy */

typedef struct EmbeddingBuffers
{
	float	   *es;				/* [P, D'] */
	float	   *et;				/* [P, D'] */
	float	   *scratch;		/* [P, W] x 2 */
	float	   *saved;
} EmbeddingBuffers;

static size_t
round_up(size_t n)
{
	return (n + 15) / 16 * 16;
}

static size_t
layout(const DistilTrainer *trainer, float *memory, EmbeddingBuffers *buffers)
{
	size_t		p = (size_t) trainer->piece_tokens;
	size_t		vectors = round_up(p * (size_t) trainer->cache.dimensions);
	size_t		width = distil_pipeline_scratch_width(&trainer->student);
	size_t		teacher_width = distil_pipeline_scratch_width(&trainer->teacher->spec);
	size_t		scratch = round_up(2 * p * (width > teacher_width ? width : teacher_width));

	buffers->es = memory;
	buffers->et = memory != NULL ? memory + vectors : NULL;
	buffers->scratch = memory != NULL ? memory + 2 * vectors : NULL;
	buffers->saved = memory != NULL ? memory + 2 * vectors + scratch : NULL;
	return 2 * vectors + scratch + distil_pipeline_saved_floats(&trainer->student, trainer->piece_tokens);
}

static size_t
embedding_buffer_floats(const DistilTrainer *trainer)
{
	EmbeddingBuffers buffers;

	return layout(trainer, NULL, &buffers);
}

/* buffers->et from the batch of the worker */
static DistilStatus
teacher_vectors(DistilTrainer *trainer, DistilTrainWorker *worker, const EmbeddingBuffers *buffers,
				DistilError *err)
{
	const DistilModel *teacher = trainer->teacher;
	DistilBatch batch = worker->batch;
	const float *hidden;

	batch.types = teacher->spec.type >= 0 ? worker->types : NULL;
	DISTIL_FORWARD(distil_encoder_forward(&teacher->spec, worker->copy->teacher_weights, &batch,
										  worker->teacher, 0, &hidden,
										  worker->device, worker->poll, err));
	return distil_pipeline_forward(&teacher->spec, worker->copy->teacher_weights, buffers->et, hidden, &batch,
								   NULL, buffers->scratch, worker->device, worker->poll, err);
}

/* The piece's vectors of the cache to buffers->et, several with a copy. */
static void
cached_vectors(const DistilTrainer *trainer, const DistilTrainWorker *worker, const DistilPiece *piece,
			   float *et)
{
	const DistilDevice *device = worker->device;
	size_t		d = (size_t) trainer->cache.dimensions;
	float		block[COPY_FLOATS];
	int			most = d < COPY_FLOATS ? (int) (COPY_FLOATS / d) : 1;
	int			count;

	for (int first = 0; first < piece->nseq; first += count)
	{
		const float *from = NULL;

		count = piece->nseq - first < most ? piece->nseq - first : most;
		for (int i = 0; i < count; i++)
		{
			size_t		sequence = (size_t) trainer->round.sequences[piece->sequence + first + i];

			from = trainer->cache.vectors + sequence * d;
			if (count > 1)
				memcpy(block + (size_t) i * d, from, d * sizeof(float));
		}
		device->ops->copy_in(worker->device, et + (size_t) first * d, count > 1 ? block : from,
							 (size_t) count * d * sizeof(float));
	}
}

static DistilStatus
embedding_piece(DistilTrainer *trainer, DistilTrainWorker *worker, const DistilPiece *piece, DistilError *err)
{
	const DistilMicroBatch *micro = &trainer->round.micro[piece->micro];
	const DistilSpec *student = &trainer->student;
	DistilDevice *device = worker->device;
	DistilBatch batch = worker->batch;
	size_t		d = (size_t) trainer->cache.dimensions;
	const float *hidden;
	EmbeddingBuffers buffers;

	layout(trainer, worker->buffers, &buffers);
	if (!trainer->cache.enabled)
		DISTIL_FORWARD(teacher_vectors(trainer, worker, &buffers, err));
	else
		cached_vectors(trainer, worker, piece, buffers.et);
	batch.types = student->type >= 0 ? worker->types : NULL;
	DISTIL_FORWARD(distil_encoder_forward(student, worker->copy->weights, &batch, worker->student,
										  piece->dropout_seed,
										  &hidden, device, worker->poll, err));
	DISTIL_FORWARD(distil_pipeline_forward(student, worker->copy->weights, buffers.es, hidden, &batch,
										   buffers.saved,
										   buffers.scratch, device, worker->poll, err));
	device->ops->mse_loss(device, worker->device_losses + DISTIL_LOSS_EMBEDDING, buffers.es, buffers.es,
						  buffers.et,
						  (float) (micro->share / micro->sequences), piece->nseq, (int) d);
	if (!trainer->round.learn)
		return DISTIL_OK;
	DISTIL_FORWARD(distil_pipeline_backward(student, worker->copy->weights, worker->gradients,
											worker->dhidden, buffers.es, &batch, buffers.saved,
											buffers.scratch, device, worker->poll, err));
	return distil_encoder_backward(student, worker->copy->weights, worker->gradients, &batch, worker->student,
								   piece->dropout_seed, worker->dhidden, device, worker->poll, err);
}

/* ---------- teacher vectors kept over epochs ---------- */

DistilStatus
distil_cache_create(DistilTrainer *trainer, DistilError *err)
{
	DistilTeacherCache *cache = &trainer->cache;
	const DistilSpoolView *spool = &trainer->spool;
	size_t		n = (size_t) spool->info.sequences;
	double		visits = (double) trainer->schedule.updates * trainer->options.batch_size *
		trainer->options.gradient_accumulation_steps;
	size_t		i;

	cache->dimensions = trainer->teacher->spec.info.dimensions;
	if (trainer->method != &distil_train_embedding || visits < 1.5 * (double) n ||
		n > CACHE_BYTES / sizeof(float) / (size_t) cache->dimensions)
		return DISTIL_OK;
	cache->block_starts = distil_alloc_array(trainer->alloc, n + 1, sizeof(int32_t));
	cache->block_of = distil_alloc_array(trainer->alloc, n, sizeof(int32_t));
	cache->filled = distil_alloc_array(trainer->alloc, n, sizeof(uint8_t));
	cache->vectors = distil_alloc_array(trainer->alloc, n, (size_t) cache->dimensions * sizeof(float));
	if (cache->block_starts == NULL || cache->block_of == NULL || cache->filled == NULL ||
		cache->vectors == NULL)
		return distil_fail_memory(err, n * (size_t) cache->dimensions * sizeof(float));
	for (i = 0; i < n; i++)
	{
		uint64_t	first = spool->starts[cache->block_starts[cache->nblocks]];

		if (i > 0 && spool->starts[i + 1] - first > (uint64_t) trainer->piece_limit)
			cache->block_starts[++cache->nblocks] = (int32_t) i;
		cache->block_of[i] = cache->nblocks;
	}
	cache->block_starts[++cache->nblocks] = (int32_t) n;
	cache->enabled = true;
	return DISTIL_OK;
}

/* A DistilPoolFn: one block. */
static DistilStatus
fill_block(void *ctx, int number, int item, DistilError *err)
{
	DistilTrainer *trainer = ctx;
	DistilTrainWorker *worker = &trainer->workers[number];
	DistilTeacherCache *cache = &trainer->cache;
	const DistilSpoolView *spool = &trainer->spool;
	int32_t		block = trainer->round.blocks[item];
	int32_t		first = cache->block_starts[block];
	int32_t		n = cache->block_starts[block + 1] - first;
	const int32_t *ids = spool->ids + spool->starts[first];
	EmbeddingBuffers buffers;
	int32_t		i;

	for (i = 0; i <= n; i++)
		worker->host_starts[i] = (int32_t) (spool->starts[first + i] - spool->starts[first]);
	distil_worker_batch(worker, ids, worker->host_starts, n);
	layout(trainer, worker->buffers, &buffers);
	DISTIL_FORWARD(teacher_vectors(trainer, worker, &buffers, err));
	worker->device->ops->copy_out(worker->device,
								  cache->vectors + (size_t) first * (size_t) cache->dimensions,
								  buffers.et, (size_t) n * (size_t) cache->dimensions * sizeof(float));
	return distil_device_check(worker->device, err);
}

DistilStatus
distil_cache_fill(DistilTrainer *trainer, DistilError *err)
{
	DistilTeacherCache *cache = &trainer->cache;
	DistilRound *round = &trainer->round;
	DistilStatus status;
	int			i;

	round->nblocks = 0;
	for (i = 0; i < round->nsequences; i++)
	{
		int32_t		block = cache->block_of[round->sequences[i]];

		if (cache->filled[block] != 0)
			continue;
		cache->filled[block] = 2;
		round->blocks[round->nblocks++] = block;
	}
	if (round->nblocks == 0)
		return DISTIL_OK;
	status = distil_pool_run(trainer->pool, fill_block, trainer, round->nblocks, NULL, err);
	for (i = 0; i < round->nblocks; i++)
		cache->filled[round->blocks[i]] = status == DISTIL_OK;
	return status;
}

const DistilTrainMethod distil_train_embedding = {
	.name = "embedding",
	.dropout = false,
	.buffer_floats = embedding_buffer_floats,
	.piece = embedding_piece,
};
