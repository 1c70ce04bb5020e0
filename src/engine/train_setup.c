/*
 * train_setup.c
 *		Making a trainer ready: checks, held-out part, memory, fingerprints.
 *
 * All memory of a training is taken here; steps allocate nothing.
 */
#include <string.h>

#include "alloc.h"
#include "train.h"

/* What the backward pass of the sentence pipeline does not have. */
static DistilStatus
check_pipeline(const DistilModel *teacher, const DistilTrainOptions *options, DistilError *err)
{
	const DistilPipeline *pipeline = &teacher->spec.pipeline;
	int			prompt;

	if (options->method != DISTIL_METHOD_EMBEDDING || options->max_steps == 0)
		return DISTIL_OK;
	if (pipeline->npoolings > 1)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "training with several poolings is not supported");
	DISTIL_FORWARD(distil_model_prompt(teacher, &prompt, NULL, err));
	if (pipeline->pooling[0] == DISTIL_POOL_WEIGHTED_MEAN && !pipeline->include_prompt && prompt >= 0 &&
		pipeline->prompts[prompt][0] != '\0')
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "training with pooling \"weightedmean\" without the prompt is not supported");
	return DISTIL_OK;
}

DistilStatus
distil_train_check(const DistilModel *teacher, const DistilTrainOptions *options,
				   const DistilAllocator *alloc, DistilError *err)
{
	DistilArena *arena;
	DistilSpec	student;
	DistilStatus status;

	DISTIL_FORWARD(distil_spool_check(teacher, options, err));
	DISTIL_FORWARD(check_pipeline(teacher, options, err));
	arena = distil_arena_create(alloc);
	if (arena == NULL)
		return distil_fail_memory(err, 0);
	status = distil_student_spec(&student, teacher, options, arena, err);
	distil_arena_free(arena);
	return status;
}

DistilStatus
distil_trainer_check(const DistilModel *teacher, const DistilTrainOptions *options,
					 DistilDevice *const *devices, int ndevices, DistilError *err)
{
	if (ndevices < 1)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "training needs at least one device");
	/* without it each would learn from its share alone */
	if (ndevices > 1 && devices[0]->ops->own_memory && devices[0]->ops->all_sum == NULL)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "training on several \"%s\" devices is not supported",
						   devices[0]->ops->name);
	if (options->nlayers < 1 || options->nlayers > DISTIL_MAX_LAYERS || options->batch_size < 1 ||
		options->gradient_accumulation_steps < 1 || options->max_tokens < 1)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "training options are out of range");
	if (options->method != DISTIL_METHOD_TRIPLE)
		return DISTIL_OK;
	if (!teacher->spec.has_lm)
		return distil_fail(err, DISTIL_ERR_STATE,
						   "method \"triple\" needs a teacher with a language-model head");
	if (!options->causal && distil_tokenizer_special(teacher->tokenizer)->mask < 0)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "method \"triple\" needs a tokenizer with a [MASK] token");
	return DISTIL_OK;
}

/*
 * What the operands of products are rounded to, by the option dtype.  auto: bfloat16 where that is
 * faster, on all devices or on none.
 */
DistilStatus
distil_trainer_products(DistilTrainer *trainer, DistilError *err)
{
	const char *dtype = trainer->options.dtype;
	bool		rounded = strcmp(dtype, "float32") != 0;
	int			i;

	for (i = 0; rounded && i < trainer->nworkers; i++)
	{
		DistilDevice *device = trainer->workers[i].device;

		rounded = device->ops->round_products != NULL &&
			device->ops->round_products(device, DISTIL_TYPE_BF16);
	}
	if (rounded)
		return DISTIL_OK;
	if (strcmp(dtype, "bfloat16") == 0)
	{
		distil_fail(err, DISTIL_ERR_UNSUPPORTED,
					"option \"dtype\" is \"bfloat16\", which this device does not multiply");
		return distil_fail_hint(err, DISTIL_ERR_UNSUPPORTED, "Leave it out, or say \"float32\".");
	}
	for (i = 0; i < trainer->nworkers; i++)
	{
		DistilDevice *device = trainer->workers[i].device;

		if (device->ops->round_products != NULL)
			device->ops->round_products(device, DISTIL_TYPE_F32);
	}
	return DISTIL_OK;
}

/* A sequence is held out by a hash of its number: the same ones for every seed. */
static bool
held_out(int64_t sequence, double fraction)
{
	uint64_t	value = distil_rng_value(0, DISTIL_RNG_HOLDOUT, (uint64_t) sequence);

	return (double) (value >> 11) * 0x1.0p-53 < fraction;
}

DistilStatus
distil_trainer_split(DistilTrainer *trainer, DistilError *err)
{
	double		fraction = trainer->options.eval_fraction;
	int32_t		n = (int32_t) trainer->spool.info.sequences;
	int32_t		i;

	trainer->train_items = distil_alloc_array(trainer->alloc, (size_t) n + 1, sizeof(int32_t));
	if (trainer->train_items == NULL)
		return distil_fail_memory(err, ((size_t) n + 1) * sizeof(int32_t));
	for (i = 0; i < n; i++)
	{
		if (held_out(i, fraction))
			trainer->train_items[n - ++trainer->neval] = i;
		else
			trainer->train_items[trainer->ntrain++] = i;
	}
	if (trainer->neval == 0 && fraction > 0 && n > 1)
	{
		trainer->neval = 1;
		trainer->ntrain--;
	}
	/* Held-out sequences were written from the back: into their natural order. */
	for (i = 0; i < trainer->neval / 2; i++)
	{
		int32_t		swap = trainer->train_items[trainer->ntrain + i];

		trainer->train_items[trainer->ntrain + i] = trainer->train_items[n - 1 - i];
		trainer->train_items[n - 1 - i] = swap;
	}
	if (trainer->ntrain == 0 && trainer->options.max_steps != 0)
	{
		distil_fail(err, DISTIL_ERR_ARGUMENT, "the corpus holds nothing to learn from");
		return distil_fail_detail(err, DISTIL_ERR_ARGUMENT, "Of %lld texts, %d sequences were kept.",
								  (long long) trainer->spool.info.texts, (int) n);
	}
	return DISTIL_OK;
}

static DistilStatus
round_memory(DistilTrainer *trainer, DistilError *err)
{
	const DistilAllocator *alloc = trainer->alloc;
	DistilRound *round = &trainer->round;
	size_t		micro;
	size_t		tokens;
	size_t		sequences;

	if (!distil_size_mul(&micro, (size_t) trainer->options.batch_size, (size_t) trainer->spool.longest) ||
		micro > INT32_MAX / 2)
		return distil_fail(err, DISTIL_ERR_LIMIT, "option \"batch_size\" is too large for texts of %d tokens",
						   trainer->spool.longest);
	tokens = DISTIL_ROUND_TOKENS * (size_t) trainer->ncopies;
	tokens = micro > tokens ? micro : tokens;
	sequences = tokens;
	round->max_tokens = (int) tokens;
	round->max_sequences = (int) sequences;
	round->micro = distil_alloc_array(alloc, sequences, sizeof(DistilMicroBatch));
	round->sequences = distil_alloc_array(alloc, sequences, sizeof(int32_t));
	round->starts = distil_alloc_array(alloc, sequences + 1, sizeof(int32_t));
	round->ids = distil_alloc_array(alloc, tokens, sizeof(int32_t));
	round->labels = distil_alloc_array(alloc, tokens, sizeof(int32_t));
	round->heap = distil_alloc_array(alloc, tokens, sizeof(DistilMaskKey));
	round->pieces = distil_alloc_array(alloc, sequences, sizeof(DistilPiece));
	round->owner = distil_alloc_array(alloc, sequences, sizeof(int));
	round->blocks = distil_alloc_array(alloc, sequences, sizeof(int32_t));
	if (round->micro == NULL || round->sequences == NULL || round->starts == NULL || round->ids == NULL ||
		round->labels == NULL || round->heap == NULL || round->pieces == NULL || round->owner == NULL ||
		round->blocks == NULL)
		return distil_fail_memory(err, tokens * sizeof(DistilMaskKey));
	return DISTIL_OK;
}

static DistilStatus
device_block(void **memory, DistilDevice *device, size_t count, size_t size, DistilError *err)
{
	size_t		bytes;

	*memory = NULL;
	if (!distil_size_mul(&bytes, count > 0 ? count : 1, size))
		return distil_fail_memory(err, SIZE_MAX);
	*memory = device->ops->alloc(device, bytes);
	return *memory != NULL ? DISTIL_OK : distil_fail_memory(err, bytes);
}

static DistilStatus
worker_memory(DistilTrainer *trainer, DistilTrainWorker *worker, DistilError *err)
{
	DistilDevice *device = worker->device;
	const DistilAllocator *alloc = trainer->alloc;
	size_t		t = (size_t) trainer->piece_tokens + 1;
	int32_t   **integers[] = {&worker->ids, &worker->positions, &worker->types, &worker->offsets,
	&worker->rows, &worker->labels, &worker->ranges};
	int32_t   **host[] = {&worker->host, &worker->host_offsets, &worker->host_starts};
	size_t		i;

	for (i = 0; i < sizeof(host) / sizeof(host[0]); i++)
		if ((*host[i] = distil_alloc_array(alloc, t, sizeof(int32_t))) == NULL)
			return distil_fail_memory(err, t * sizeof(int32_t));
	for (i = 0; i < sizeof(integers) / sizeof(integers[0]); i++)
		DISTIL_FORWARD(device_block((void **) integers[i], device, t, sizeof(int32_t), err));
	/* one text each: all segments 0 */
	device->ops->copy_in(device, worker->types, worker->host, t * sizeof(int32_t));
	DISTIL_FORWARD(device_block((void **) &worker->device_losses, device, DISTIL_LOSS_TERMS,
								sizeof(double), err));
	DISTIL_FORWARD(device_block((void **) &worker->gradients, device, trainer->student.table.total,
								sizeof(float), err));
	DISTIL_FORWARD(device_block((void **) &worker->dhidden, device,
								t * (size_t) trainer->student.config.width,
								sizeof(float), err));
	DISTIL_FORWARD(device_block((void **) &worker->buffers, device, trainer->method->buffer_floats(trainer),
								sizeof(float), err));
	DISTIL_FORWARD(distil_activations_create_half(&worker->teacher, &trainer->teacher->spec,
												  trainer->piece_tokens, false, worker->copy->teacher_half,
												  device, alloc, err));
	return distil_activations_create_half(&worker->student, &trainer->student, trainer->piece_tokens, true,
										  worker->copy->half, device, alloc, err);
}

static DistilStatus
masking_memory(DistilTrainer *trainer, DistilError *err)
{
	const DistilSpecialIds *special = distil_tokenizer_special(trainer->teacher->tokenizer);
	int			v = trainer->student.config.vocabulary;

	trainer->mask_weights = distil_alloc_array(trainer->alloc, (size_t) v, sizeof(double));
	if (trainer->mask_weights == NULL)
		return distil_fail_memory(err, (size_t) v * sizeof(double));
	distil_masking_weights(trainer->mask_weights, trainer->spool.counts, v, trainer->options.mlm_smoothing,
						   special);
	trainer->masking.weights = trainer->mask_weights;
	trainer->masking.vocabulary = v;
	trainer->masking.mask_id = special->mask;
	trainer->masking.proportion = trainer->options.mlm_mask_prop;
	trainer->masking.word_mask = trainer->options.word_mask;
	trainer->masking.word_keep = trainer->options.word_keep;
	return DISTIL_OK;
}

static DistilStatus
zero_block(float *y, size_t n, DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	size_t		at;

	for (at = 0; at < n; at += DISTIL_COPY_FLOATS)
	{
		size_t		count = n - at < DISTIL_COPY_FLOATS ? n - at : DISTIL_COPY_FLOATS;

		DISTIL_POLL(poll, err);
		device->ops->zero(device, y + at, count);
	}
	return DISTIL_OK;
}

/* One device's copy of everything that learns, or is learnt from, at the beginning of the training. */
static DistilStatus
copy_memory(DistilTrainer *trainer, DistilTrainCopy *copy, DistilDevice *device, const DistilPoll *poll,
			DistilError *err)
{
	size_t		total = trainer->student.table.total;

	DISTIL_FORWARD(distil_model_upload(&copy->uploaded, trainer->teacher, device, trainer->alloc, poll, err));
	copy->teacher_weights = copy->uploaded != NULL ? copy->uploaded : trainer->teacher->weights;
	DISTIL_FORWARD(device_block((void **) &copy->weights, device, total, sizeof(float), err));
	DISTIL_FORWARD(device_block((void **) &copy->moment1, device, total, sizeof(float), err));
	DISTIL_FORWARD(device_block((void **) &copy->moment2, device, total, sizeof(float), err));
	DISTIL_FORWARD(zero_block(copy->moment1, total, device, poll, err));
	DISTIL_FORWARD(zero_block(copy->moment2, total, device, poll, err));
	DISTIL_FORWARD(distil_student_weights(copy->weights, &trainer->student, trainer->teacher,
										  &trainer->options, trainer->host_block, DISTIL_COPY_FLOATS,
										  device, poll, err));
	if (!distil_has_half(&trainer->student, device) || !distil_has_half(&trainer->teacher->spec, device))
		return DISTIL_OK;
	DISTIL_FORWARD(distil_half_weights(&copy->teacher_half, copy->uploaded,
									   trainer->teacher->spec.table.total, device, err));
	return distil_half_weights(&copy->half, copy->weights, total, device, err);
}

/* The segments of an update, their sums, and where there are several copies, who updates which. */
static DistilStatus
segment_memory(DistilTrainer *trainer, DistilDevice *first, DistilError *err)
{
	const DistilAllocator *alloc = trainer->alloc;
	size_t		n;
	size_t		items;
	size_t		i;

	DISTIL_FORWARD(distil_optimizer_segments(&trainer->segments, &trainer->nsegments, &trainer->student.table,
											 first, alloc, err));
	n = (size_t) trainer->nsegments;
	trainer->segment_sums = distil_alloc_array(alloc, n + 1, sizeof(double));
	if (trainer->segment_sums == NULL)
		return distil_fail_memory(err, n * sizeof(double));
	DISTIL_FORWARD(device_block((void **) &trainer->device_sums, first, n, sizeof(double), err));
	if (trainer->ncopies == 1)
		return DISTIL_OK;
	items = n * (size_t) trainer->ncopies;
	trainer->segment_owner = distil_alloc_array(alloc, items + 1, sizeof(int));
	if (trainer->segment_owner == NULL)
		return distil_fail_memory(err, items * sizeof(int));
	for (i = 0; i < items; i++)
		trainer->segment_owner[i] = (int) (i / n);
	return DISTIL_OK;
}

DistilStatus
distil_trainer_memory(DistilTrainer *trainer, DistilDevice *const *devices, const DistilPoll *poll,
					  DistilError *err)
{
	size_t		row = 2 * sizeof(float) * (size_t) trainer->student.config.vocabulary;
	size_t		logits = DISTIL_LOGITS_BYTES;
	bool		learns = trainer->schedule.updates > 0;
	int			i;

	/* on the CPU for any piece the same */
	if (trainer->piece_limit > DISTIL_PIECE_TOKENS)
		logits *= (size_t) (trainer->piece_limit / DISTIL_PIECE_TOKENS);
	trainer->logits_rows = (int) (logits / row);
	if (trainer->logits_rows < 1)
		trainer->logits_rows = 1;
	if (trainer->logits_rows > trainer->piece_tokens)
		trainer->logits_rows = trainer->piece_tokens;
	trainer->host_block = distil_alloc_array(trainer->alloc, DISTIL_COPY_FLOATS, sizeof(float));
	if (trainer->host_block == NULL)
		return distil_fail_memory(err, DISTIL_COPY_FLOATS * sizeof(float));
	for (i = 0; i < trainer->ncopies; i++)
		DISTIL_FORWARD(copy_memory(trainer, &trainer->copies[i], devices[i], poll, err));
	DISTIL_FORWARD(segment_memory(trainer, devices[0], err));
	if (trainer->method->labelling == DISTIL_LABELS_MASKED)
		DISTIL_FORWARD(masking_memory(trainer, err));
	DISTIL_FORWARD(distil_cache_create(trainer, err));
	if (!learns)
		return DISTIL_OK;
	DISTIL_FORWARD(round_memory(trainer, err));
	for (i = 0; i < trainer->nworkers; i++)
	{
		DISTIL_POLL(poll, err);
		DISTIL_FORWARD(worker_memory(trainer, &trainer->workers[i], err));
	}
	return DISTIL_OK;
}

/* Fingerprints of the effective options and of the teacher. */
DistilStatus
distil_trainer_prints(DistilTrainer *trainer, const DistilPoll *poll, DistilError *err)
{
	const DistilModel *teacher = trainer->teacher;
	DistilFingerprint print;
	DistilTrainOptions options = trainer->options;
	char	   *json;
	float		values[2048];
	size_t		done = 0;
	size_t		part;
	int			i;

	/* a job may go on on other devices */
	strcpy(options.device, "auto");
	options.gpus = 1;
	DISTIL_FORWARD(distil_train_options_write(&json, &options, trainer->alloc, err));
	distil_fingerprint_init(&print);
	distil_fingerprint_update(&print, trainer->method->name, strlen(trainer->method->name) + 1);
	distil_fingerprint_update(&print, json, strlen(json));
	distil_fingerprint_value(&print, trainer->options_print);
	distil_release(trainer->alloc, json);
	distil_fingerprint_init(&print);
	distil_fingerprint_update(&print, teacher->config_text, strlen(teacher->config_text));
	/* the values in their order, not as they lie in this machine's image */
	for (i = 0; i < teacher->spec.table.n; i++)
	{
		const DistilParam *param = &teacher->spec.table.params[i];

		DISTIL_POLL(poll, err);
		for (done = 0; done < param->count; done += part)
		{
			part = param->count - done < 2048 ? param->count - done : 2048;
			if (done % ((size_t) 1 << 20) == 0)
				DISTIL_POLL(poll, err);
			distil_param_read(values, teacher->weights, param, done, part);
			distil_fingerprint_update(&print, values, part * sizeof(float));
		}
	}
	distil_fingerprint_value(&print, trainer->teacher_print);
	return DISTIL_OK;
}
