/*
 * train.c
 *		The trainer: one call, one optimiser update.
 *
 * The rule a newcomer would break: weights, moments and DistilTrainState change together
 * and only at the end of a step.  Everything before may be cancelled and is then as if it
 * had not been; the update itself runs to its end.
 */
#include <math.h>
#include <string.h>

#include "alloc.h"
#include "train.h"

static const DistilTrainMethod *const methods[] = {
	[DISTIL_METHOD_TRIPLE] = &distil_train_triple,
	[DISTIL_METHOD_EMBEDDING] = &distil_train_embedding,
};

/* ---------- life ---------- */

static void
empty_report(DistilTrainReport *report)
{
	memset(report, 0, sizeof(*report));
	report->loss = report->loss_ce = report->loss_mlm = report->loss_clm = NAN;
	report->loss_mse = report->loss_cos = report->eval_loss = NAN;
	report->learning_rate = report->gradient_norm = NAN;
}

static DistilStatus
trainer_setup(DistilTrainer *trainer, const void *spool, size_t spool_size, DistilDevice *const *devices,
			  const DistilPoll *poll, DistilError *err)
{
	const DistilModelInfo *info = &trainer->teacher->spec.info;
	const DistilTrainOptions *options = &trainer->options;
	int			i;

	trainer->arena = distil_arena_create(trainer->alloc);
	if (trainer->arena == NULL)
		return distil_fail_memory(err, 0);
	DISTIL_FORWARD(distil_student_spec(&trainer->student, trainer->teacher, options, trainer->arena, err));
	DISTIL_FORWARD(distil_spool_view(&trainer->spool, spool, spool_size, options->method, info->vocabulary,
									 options->max_tokens, poll, err));
	if (trainer->spool.longest > trainer->student.config.positions -
		trainer->student.config.position_offset ||
		trainer->spool.longest > trainer->teacher->spec.config.positions -
		trainer->teacher->spec.config.position_offset)
		return distil_fail(err, DISTIL_ERR_LIMIT,
						   "the corpus has sequences longer than the model's positions");
	DISTIL_FORWARD(distil_trainer_split(trainer, err));
	if (trainer->ntrain > 0)
		DISTIL_FORWARD(distil_sampler_create(&trainer->sampler, trainer->train_items, trainer->ntrain,
											 trainer->spool.starts, options->batch_size,
											 options->group_by_size ? options->max_tokens : 0,
											 options->seed, trainer->alloc, err));
	distil_schedule_init(&trainer->schedule, options->learning_rate, options->warmup_prop,
						 distil_schedule_updates(trainer->sampler != NULL ? trainer->sampler->batches : 0,
												 options->gradient_accumulation_steps, options->epochs,
												 options->max_steps));
	trainer->piece_tokens = trainer->spool.longest > trainer->piece_limit
		? trainer->spool.longest : trainer->piece_limit;
	trainer->workers = distil_alloc_array(trainer->alloc, (size_t) trainer->nworkers,
										  sizeof(DistilTrainWorker));
	if (trainer->workers == NULL)
		return distil_fail_memory(err, (size_t) trainer->nworkers * sizeof(DistilTrainWorker));
	for (i = 0; i < trainer->nworkers; i++)
		trainer->workers[i].device = devices[i];
	trainer->ncopies = devices[0]->ops->own_memory ? trainer->nworkers : 1;
	trainer->copies = distil_alloc_array(trainer->alloc, (size_t) trainer->ncopies, sizeof(DistilTrainCopy));
	if (trainer->copies == NULL)
		return distil_fail_memory(err, (size_t) trainer->ncopies * sizeof(DistilTrainCopy));
	for (i = 0; i < trainer->nworkers; i++)
		trainer->workers[i].copy = &trainer->copies[trainer->ncopies > 1 ? i : 0];
	DISTIL_FORWARD(distil_trainer_products(trainer, err));
	DISTIL_FORWARD(distil_trainer_memory(trainer, devices, poll, err));
	DISTIL_FORWARD(distil_trainer_prints(trainer, poll, err));
	DISTIL_FORWARD(distil_pool_create(&trainer->pool, trainer->nworkers, 0, poll, trainer->alloc, err));
	for (i = 0; i < trainer->nworkers; i++)
	{
		trainer->workers[i].poll = distil_pool_poll(trainer->pool, i);
		trainer->workers[i].config = &trainer->student.config;
		trainer->workers[i].skip = trainer->spool.skip;
	}
	empty_report(&trainer->report);
	trainer->report.steps = trainer->schedule.updates;
	return DISTIL_OK;
}

static DistilStatus
create(DistilTrainer **result, const DistilModel *teacher, const DistilTrainOptions *options,
	   const void *spool, size_t spool_size, DistilDevice *const *devices, int ndevices, int piece_limit,
	   const DistilAllocator *alloc, const DistilPoll *poll, DistilError *err)
{
	DistilTrainer *trainer;
	DistilStatus status;

	trainer = distil_alloc_array(alloc, 1, sizeof(DistilTrainer));
	if (trainer == NULL)
		return distil_fail_memory(err, sizeof(DistilTrainer));
	trainer->alloc = alloc;
	trainer->teacher = teacher;
	trainer->options = *options;
	trainer->method = options->causal ? &distil_train_causal : methods[options->method];
	trainer->nworkers = ndevices;
	trainer->piece_limit = piece_limit;
	status = trainer_setup(trainer, spool, spool_size, devices, poll, err);
	if (status != DISTIL_OK)
	{
		distil_trainer_free(trainer);
		return status;
	}
	*result = trainer;
	return DISTIL_OK;
}

DistilStatus
distil_trainer_create(DistilTrainer **result, const DistilModel *teacher, const DistilTrainOptions *options,
					  const void *spool, size_t spool_size, DistilDevice *const *devices, int ndevices,
					  const DistilAllocator *alloc, const DistilPoll *poll, DistilError *err)
{
	int			limit = DISTIL_PIECE_TOKENS;
	DistilStatus status;

	*result = NULL;
	DISTIL_FORWARD(distil_trainer_check(teacher, options, devices, ndevices, err));
	if (devices[0]->ops->own_memory)
		limit = DISTIL_DEVICE_PIECE_TOKENS;
	do
	{
		status = create(result, teacher, options, spool, spool_size, devices, ndevices, limit, alloc, poll,
						err);
		limit /= 2;
	}
	while (status == DISTIL_ERR_MEMORY && limit >= DISTIL_PIECE_TOKENS);
	return status;
}

static void
free_worker(DistilTrainer *trainer, DistilTrainWorker *worker)
{
	DistilDevice *device = worker->device;
	void	   *on_device[] = {worker->gradients, worker->ids, worker->positions, worker->types,
		worker->offsets, worker->rows, worker->labels, worker->ranges, worker->device_losses,
		worker->dhidden, worker->buffers
	};
	size_t		i;

	if (device->ops->round_products != NULL)
		device->ops->round_products(device, DISTIL_TYPE_F32);
	for (i = 0; i < sizeof(on_device) / sizeof(on_device[0]); i++)
		device->ops->release(device, on_device[i]);
	distil_activations_free(worker->teacher);
	distil_activations_free(worker->student);
	distil_release(trainer->alloc, worker->host);
	distil_release(trainer->alloc, worker->host_offsets);
	distil_release(trainer->alloc, worker->host_starts);
}

static void
free_copy(DistilTrainCopy *copy, DistilDevice *device)
{
	device->ops->release(device, copy->weights);
	device->ops->release(device, copy->moment1);
	device->ops->release(device, copy->moment2);
	device->ops->release(device, copy->uploaded);
	device->ops->release(device, copy->teacher_half);
	device->ops->release(device, copy->half);
}

void
distil_trainer_free(DistilTrainer *trainer)
{
	const DistilAllocator *alloc;
	int			i;

	if (trainer == NULL)
		return;
	alloc = trainer->alloc;
	distil_pool_free(trainer->pool);
	if (trainer->workers != NULL)
	{
		DistilDevice *device = trainer->workers[0].device;

		device->ops->release(device, trainer->device_sums);
		for (i = 0; trainer->copies != NULL && i < trainer->ncopies; i++)
			free_copy(&trainer->copies[i], trainer->workers[i].device);
		for (i = 0; i < trainer->nworkers; i++)
			free_worker(trainer, &trainer->workers[i]);
	}
	{
		void	   *memory[] = {trainer->workers, trainer->copies, trainer->segments, trainer->segment_owner,
			trainer->segment_sums, trainer->train_items, trainer->mask_weights, trainer->host_block,
			trainer->student_weights,
			trainer->round.micro, trainer->round.sequences, trainer->round.starts, trainer->round.ids,
			trainer->round.labels, trainer->round.heap, trainer->round.pieces, trainer->round.owner,
			trainer->round.blocks, trainer->cache.block_starts, trainer->cache.block_of,
			trainer->cache.filled, trainer->cache.vectors
		};
		size_t		k;

		for (k = 0; k < sizeof(memory) / sizeof(memory[0]); k++)
			distil_release(alloc, memory[k]);
	}
	distil_sampler_free(trainer->sampler);
	distil_student_folder_free(trainer->student_folder);
	distil_arena_free(trainer->arena);
	distil_release(alloc, trainer);
}

/* ---------- one step ---------- */

/*
 * Items of the runs below are the segments of the first copy, then those of the second, and so on, where
 * there are several: each device does its own.
 */
static const DistilSegment *
segment_of(const DistilTrainer *trainer, int item)
{
	return &trainer->segments[item % trainer->nsegments];
}

/* Workers that share a copy: all, or one. */
static int
workers_of_copy(const DistilTrainer *trainer)
{
	return trainer->nworkers / trainer->ncopies;
}

/* A DistilPoolFn: gradients of one segment become 0 in the blocks of all workers that share a copy. */
static DistilStatus
zero_segment(void *ctx, int number, int item, DistilError *err)
{
	DistilTrainer *trainer = ctx;
	const DistilSegment *segment = segment_of(trainer, item);
	DistilDevice *device = trainer->workers[number].device;
	int			first = item / trainer->nsegments;
	int			w;

	(void) err;
	for (w = first; w < first + workers_of_copy(trainer); w++)
		device->ops->zero(device, trainer->workers[w].gradients + segment->offset, segment->count);
	return DISTIL_OK;
}

/*
 * A DistilPoolFn: the first worker's block becomes the sum of those who share its copy, in order of workers;
 * its squares are summed.
 */
static DistilStatus
sum_segment(void *ctx, int number, int item, DistilError *err)
{
	DistilTrainer *trainer = ctx;
	const DistilSegment *segment = &trainer->segments[item];
	DistilDevice *device = trainer->workers[number].device;
	float	   *sum = trainer->workers[0].gradients + segment->offset;
	int			w;

	(void) err;
	for (w = 1; w < workers_of_copy(trainer); w++)
		device->ops->axpy(device, sum, trainer->workers[w].gradients + segment->offset, 1.0f, segment->count);
	device->ops->sum_squares(device, &trainer->device_sums[item], sum, segment->count);
	return DISTIL_OK;
}

/* A DistilPoolFn */
static DistilStatus
update_segment(void *ctx, int number, int item, DistilError *err)
{
	DistilTrainer *trainer = ctx;
	const DistilSegment *segment = segment_of(trainer, item);
	DistilDevice *device = trainer->workers[number].device;
	int			first = item / trainer->nsegments;
	const DistilTrainCopy *copy = &trainer->copies[first];
	float	   *w = copy->weights + segment->offset;
	float	   *m = copy->moment1 + segment->offset;
	float	   *v = copy->moment2 + segment->offset;
	const float *g = trainer->workers[first].gradients + segment->offset;
	DistilAdamW adamw = trainer->adamw;

	(void) err;
	if (!segment->decay)
		adamw.weight_decay = 0;
	if (copy->half != NULL)
		device->ops->half->adamw(device, w, m, v, g, &adamw, copy->half + segment->offset, segment->count);
	else
		device->ops->adamw(device, w, m, v, g, &adamw, segment->count);
	return DISTIL_OK;
}

/* Every device's gradients become the sum of all; the same bits on each. */
static DistilStatus
sum_devices(DistilTrainer *trainer, DistilError *err)
{
	DistilDevice *device = trainer->workers[0].device;
	size_t		total = trainer->student.table.total;
	float	   *blocks[DISTIL_MAX_GROUP];
	size_t		at;
	int			w;

	if (device->ops->all_sum == NULL)
		return DISTIL_OK;
	for (at = 0; at < total; at += DISTIL_SUM_FLOATS)
	{
		DISTIL_POLL(trainer->workers[0].poll, err);
		for (w = 0; w < trainer->nworkers; w++)
			blocks[w] = trainer->workers[w].gradients + at;
		device->ops->all_sum(device, blocks, trainer->nworkers,
							 total - at < DISTIL_SUM_FLOATS ? total - at : DISTIL_SUM_FLOATS);
		for (w = 0; w < trainer->nworkers; w++)
			DISTIL_FORWARD(distil_device_check(trainer->workers[w].device, err));
	}
	return DISTIL_OK;
}

static void
clear_losses(DistilTrainer *trainer)
{
	int			w;

	for (w = 0; w < trainer->nworkers; w++)
	{
		memset(trainer->workers[w].losses, 0, sizeof(trainer->workers[w].losses));
		trainer->workers[w].load = 0;
	}
}

static void
sum_losses(const DistilTrainer *trainer, double losses[DISTIL_LOSS_TERMS], double *total)
{
	int			i;
	int			w;

	*total = 0;
	for (i = 0; i < DISTIL_LOSS_TERMS; i++)
	{
		losses[i] = 0;
		for (w = 0; w < trainer->nworkers; w++)
			losses[i] += trainer->workers[w].losses[i];
		*total += losses[i];
	}
}

/* Gradients of one update into the workers' blocks. */
static DistilStatus
accumulate(DistilTrainer *trainer, DistilError *err)
{
	int			accumulation = trainer->options.gradient_accumulation_steps;
	int			i;

	DISTIL_FORWARD(distil_pool_run(trainer->pool, zero_segment, trainer,
								   trainer->ncopies * trainer->nsegments, trainer->segment_owner, err));
	distil_round_begin(trainer, true);
	for (i = 0; i < accumulation; i++)
	{
		const int32_t *sequences;
		int			n;

		distil_sampler_batch(trainer->sampler, trainer->state.micro, &sequences, &n);
		if (!distil_round_add(trainer, sequences, n, trainer->state.micro, 1.0 / accumulation))
		{
			DISTIL_FORWARD(distil_round_run(trainer, err));
			if (trainer->watch != NULL)
				DISTIL_FORWARD(trainer->watch(trainer->watch_ctx, (double) i / accumulation,
											  trainer->state.tokens, err));
			distil_round_begin(trainer, true);
			distil_round_add(trainer, sequences, n, trainer->state.micro, 1.0 / accumulation);
		}
		trainer->state.micro++;
	}
	return distil_round_run(trainer, err);
}

/* Loss of the held-out part: no dropout, always the same masks. */
static DistilStatus
evaluate(DistilTrainer *trainer, double *loss, DistilError *err)
{
	const int32_t *items = trainer->train_items + trainer->ntrain;
	double		losses[DISTIL_LOSS_TERMS];
	int64_t		batch = 0;
	int32_t		first;

	clear_losses(trainer);
	distil_round_begin(trainer, false);
	for (first = 0; first < trainer->neval; first += trainer->options.batch_size)
	{
		int			n = trainer->neval - first < trainer->options.batch_size
			? trainer->neval - first : trainer->options.batch_size;
		double		share = (double) n / trainer->neval;

		if (!distil_round_add(trainer, items + first, n, batch, share))
		{
			DISTIL_FORWARD(distil_round_run(trainer, err));
			distil_round_begin(trainer, false);
			distil_round_add(trainer, items + first, n, batch, share);
		}
		batch++;
	}
	DISTIL_FORWARD(distil_round_run(trainer, err));
	sum_losses(trainer, losses, loss);
	return DISTIL_OK;
}

static double
unweighted(double loss, double alpha)
{
	return alpha > 0 ? loss / alpha : NAN;
}

static void
fill_report(DistilTrainer *trainer, const double losses[DISTIL_LOSS_TERMS], double total, double norm)
{
	const DistilTrainOptions *options = &trainer->options;
	DistilTrainReport *report = &trainer->report;

	empty_report(report);
	report->step = trainer->state.step;
	report->steps = trainer->schedule.updates;
	report->epoch = (double) trainer->state.micro / (double) trainer->sampler->batches;
	report->loss = total;
	if (options->method == DISTIL_METHOD_TRIPLE)
	{
		report->loss_ce = unweighted(losses[DISTIL_LOSS_CE], options->alpha_ce);
		report->loss_mlm = unweighted(losses[DISTIL_LOSS_LABEL], options->alpha_mlm);
		report->loss_clm = unweighted(losses[DISTIL_LOSS_LABEL], options->alpha_clm);
		report->loss_mse = unweighted(losses[DISTIL_LOSS_MSE], options->alpha_mse);
		report->loss_cos = unweighted(losses[DISTIL_LOSS_COS], options->alpha_cos);
	}
	report->learning_rate = distil_schedule_rate(&trainer->schedule, trainer->state.step - 1);
	report->gradient_norm = norm;
	report->tokens = trainer->state.tokens;
	report->skipped = trainer->state.skipped;
}

/*
 * The update proper.  A loss or a norm that is not finite leaves the weights alone and is
 * counted; the schedule goes on.
 */
static DistilStatus
apply_update(DistilTrainer *trainer, double total, double norm, DistilError *err)
{
	double		rate = distil_schedule_rate(&trainer->schedule, trainer->state.step);
	DistilStatus status;

	if (!isfinite(total) || !isfinite(norm))
	{
		trainer->state.skipped++;
		trainer->state.step++;
		return DISTIL_OK;
	}
	distil_optimizer_settings(&trainer->adamw, &trainer->options, rate,
							  distil_optimizer_clip(norm, trainer->options.max_grad_norm),
							  trainer->state.adam_step + 1);
	distil_pool_finishing(trainer->pool);
	status = distil_pool_run(trainer->pool, update_segment, trainer, trainer->ncopies * trainer->nsegments,
							 trainer->segment_owner, err);
	trainer->state.adam_step++;
	trainer->state.step++;
	if (distil_pool_finished(trainer->pool) && status == DISTIL_OK)
		status = distil_fail_cancelled(err);
	return status;
}

static DistilStatus
take_step(DistilTrainer *trainer, DistilTrainState *before, DistilError *err)
{
	DistilDevice *device = trainer->workers[0].device;
	double		losses[DISTIL_LOSS_TERMS];
	double		total;
	double		norm = 0;
	int64_t		epoch = before->micro / trainer->sampler->batches;
	DistilStatus status;
	int			i;

	clear_losses(trainer);
	DISTIL_FORWARD(accumulate(trainer, err));
	DISTIL_FORWARD(sum_devices(trainer, err));
	DISTIL_FORWARD(distil_pool_run(trainer->pool, sum_segment, trainer, trainer->nsegments,
								   trainer->segment_owner, err));
	device->ops->copy_out(device, trainer->segment_sums, trainer->device_sums,
						  (size_t) trainer->nsegments * sizeof(double));
	DISTIL_FORWARD(distil_device_check(device, err));
	for (i = 0; i < trainer->nsegments; i++)
		norm += trainer->segment_sums[i];
	norm = sqrt(norm);
	sum_losses(trainer, losses, &total);
	status = apply_update(trainer, total, norm, err);
	*before = trainer->state;	/* from here on the step counts */
	fill_report(trainer, losses, total, norm);
	DISTIL_FORWARD(status);
	if (trainer->neval > 0 &&
		(trainer->state.micro / trainer->sampler->batches > epoch || distil_trainer_done(trainer)))
		DISTIL_FORWARD(evaluate(trainer, &trainer->report.eval_loss, err));
	return DISTIL_OK;
}

DistilStatus
distil_trainer_step(DistilTrainer *trainer, DistilTrainReport *report, DistilError *err)
{
	DistilTrainState kept = trainer->state;
	DistilStatus status;

	if (distil_trainer_done(trainer))
		return distil_fail(err, DISTIL_ERR_STATE, "the training has reached its last step");
	status = take_step(trainer, &kept, err);
	trainer->state = kept;
	if (report != NULL)
		*report = trainer->report;
	return status;
}

bool
distil_trainer_done(const DistilTrainer *trainer)
{
	return trainer->state.step >= trainer->schedule.updates;
}

void
distil_trainer_watch(DistilTrainer *trainer, DistilTrainWatchFn watch, void *ctx)
{
	trainer->watch = watch;
	trainer->watch_ctx = ctx;
}

const DistilTrainReport *
distil_trainer_report(const DistilTrainer *trainer)
{
	return &trainer->report;
}

DistilStatus
distil_trainer_student(DistilTrainer *trainer, const DistilFolder **folder, DistilError *err)
{
	DistilDevice *device = trainer->workers[0].device;
	size_t		total = trainer->student.table.total;
	size_t		at;

	if (trainer->student_weights == NULL)
		trainer->student_weights = distil_alloc_array(trainer->alloc, total, sizeof(float));
	if (trainer->student_weights == NULL)
		return distil_fail_memory(err, total * sizeof(float));
	for (at = 0; at < total; at += DISTIL_COPY_FLOATS)
	{
		size_t		count = total - at < DISTIL_COPY_FLOATS ? total - at : DISTIL_COPY_FLOATS;

		DISTIL_POLL(trainer->workers[0].poll, err);
		device->ops->copy_out(device, trainer->student_weights + at, trainer->copies[0].weights + at,
							  count * sizeof(float));
	}
	DISTIL_FORWARD(distil_device_check(device, err));
	if (trainer->student_folder == NULL)
		DISTIL_FORWARD(distil_student_folder_create(&trainer->student_folder, &trainer->student,
													trainer->teacher,
													trainer->student_weights, trainer->alloc, err));
	*folder = distil_student_folder(trainer->student_folder);
	return DISTIL_OK;
}
