/*
 * train_triple.c
 *		Method triple: the losses of DistilBERT and DistilGPT2, teacher and student on the same input.
 *
 *	L_ce  = T^2 / N sum over M of KL(softmax(t/T), softmax(s/T))
 *	L_mlm = mean over labelled positions of -log softmax(s)[label]; L_clm the same of the next token
 *	L_mse = 1 / N sum over M of sum over v of (s - t)^2
 *	L_cos = mean over all tokens of 1 - cos(h_s, h_t), last hidden states
 * M: all N tokens, special ones, those not masked and the last included, or with
 * restrict_ce_to_mask the labelled ones.  The total is the weighted sum; each micro-batch
 * counts 1 / accumulation.  A term of weight 0 is not computed.
 *
 * The rule a newcomer would break: never hold logits of all tokens.  They are made some
 * rows at a time, turned into their gradient in place and taken back through the decoder.
 * Sanh et al. 2019 (arXiv:1910.01108) and the training scripts published with it.
 */
#include "train.h"

/* Logits of one call of the fused loss: about three exponentials each. */
#define LOSS_UNIT (256 * 1024)
/* Elements of a row of logits in bfloat16: whole cache lines of a GPU. */
#define HALF_STRIDE(v) (((size_t) (v) + 63) / 64 * 64)

typedef struct TripleBuffers
{
	float	   *hs;				/* [P, max(C, E)] student's transformed rows, as wide as the tables */
	float	   *ht;				/* [P, E] teacher's */
	float	   *dh;				/* [P, E] */
	float	   *gathered;		/* [P, C] student rows when only some are wanted */
	float	   *scratch;		/* [P, E] */
	float	   *logits_s;		/* [R, V]; in bfloat16 rows are HALF_STRIDE apart */
	float	   *logits_t;		/* [R, V] */
	uint16_t   *half_hs;		/* [P, E] rounded, only where activations are bfloat16, as the next two */
	uint16_t   *half_ht;		/* [P, E] */
	uint16_t   *half_dh;		/* [P, E] */
	float	   *saved;			/* of the student's transform */
} TripleBuffers;

static size_t
layout(const DistilTrainer *trainer, float *memory, TripleBuffers *buffers)
{
	size_t		pc = (size_t) trainer->piece_tokens * (size_t) distil_widest(&trainer->student.config);
	size_t		v = (size_t) trainer->student.config.vocabulary;
	size_t		rv = (size_t) trainer->logits_rows *
		(trainer->copies[0].half != NULL ? HALF_STRIDE(v) / 2 : v);
	uint16_t  **halves[] = {&buffers->half_hs, &buffers->half_ht, &buffers->half_dh};
	float	  **slots[] = {&buffers->hs, &buffers->ht, &buffers->dh, &buffers->gathered, &buffers->scratch,
	&buffers->logits_s, &buffers->logits_t};
	size_t		used = 0;
	size_t		i;

	for (i = 0; i < sizeof(slots) / sizeof(slots[0]); i++)
	{
		*slots[i] = memory != NULL ? memory + used : NULL;
		used += ((i < 5 ? pc : rv) + 15) / 16 * 16;
	}
	for (i = 0; trainer->copies[0].half != NULL && i < sizeof(halves) / sizeof(halves[0]); i++)
	{
		*halves[i] = memory != NULL ? (uint16_t *) (void *) (memory + used) : NULL;
		used += ((pc + 1) / 2 + 15) / 16 * 16;
	}
	buffers->saved = memory != NULL ? memory + used : NULL;
	return used + distil_lm_saved_floats(&trainer->student, trainer->piece_tokens);
}

static size_t
triple_buffer_floats(const DistilTrainer *trainer)
{
	TripleBuffers buffers;

	return layout(trainer, NULL, &buffers);
}

/* Which rows the logits are made for: all tokens, or those with a label.  Returns their number. */
static int
choose_rows(const DistilTrainer *trainer, DistilTrainWorker *worker, const DistilPiece *piece, bool all)
{
	const int32_t *labels = trainer->round.labels + piece->token;
	DistilDevice *device = worker->device;
	int			n = 0;
	int			i;

	if (all)
	{
		device->ops->copy_in(device, worker->labels, labels, (size_t) piece->ntokens * sizeof(int32_t));
		return piece->ntokens;
	}
	for (i = 0; i < piece->ntokens; i++)
		if (labels[i] != DISTIL_NO_LABEL)
			worker->host[n++] = i;
	if (n == 0)
		return 0;
	device->ops->copy_in(device, worker->rows, worker->host, (size_t) n * sizeof(int32_t));
	for (i = 0; i < n; i++)
		worker->host[i] = labels[worker->host[i]];
	device->ops->copy_in(device, worker->labels, worker->host, (size_t) n * sizeof(int32_t));
	return n;
}

static DistilStatus
fused_loss(DistilTrainWorker *worker, const TripleBuffers *buffers, const DistilLogitsLoss *loss,
		   bool with_teacher, int first, int rows, int v, DistilError *err)
{
	DistilDevice *device = worker->device;
	int			unit = LOSS_UNIT * distil_device_units(device);
	int			step = unit / v > 0 ? unit / v : 1;
	int			i;

	for (i = 0; i < rows; i += step)
	{
		DISTIL_POLL(worker->poll, err);
		device->ops->logits_loss(device, worker->device_losses, buffers->logits_s + (size_t) i * v,
								 with_teacher ? buffers->logits_t + (size_t) i * v : NULL,
								 worker->labels + first + i, loss, rows - i < step ? rows - i : step, v);
	}
	return DISTIL_OK;
}

/* From transformed rows to losses and dh, some rows of logits at a time. */
static DistilStatus
decode_losses(DistilTrainer *trainer, DistilTrainWorker *worker, const TripleBuffers *buffers,
			  const DistilLogitsLoss *loss, bool with_teacher, int n, DistilError *err)
{
	const DistilSpec *student = &trainer->student;
	const DistilSpec *teacher = &trainer->teacher->spec;
	size_t		e = (size_t) distil_table_width(&student->config);
	int			first;

	for (first = 0; first < n; first += trainer->logits_rows)
	{
		int			rows = n - first < trainer->logits_rows ? n - first : trainer->logits_rows;

		if (with_teacher)
			DISTIL_FORWARD(distil_lm_decode(teacher, worker->copy->teacher_weights, buffers->logits_t,
											buffers->ht + (size_t) first * e, rows,
											worker->device, worker->poll, err));
		DISTIL_FORWARD(distil_lm_decode(student, worker->copy->weights, buffers->logits_s,
										buffers->hs + (size_t) first * e, rows,
										worker->device, worker->poll, err));
		DISTIL_FORWARD(fused_loss(worker, buffers, loss, with_teacher, first, rows,
								  student->config.vocabulary, err));
		if (trainer->round.learn)
			DISTIL_FORWARD(distil_lm_decode_backward(student, worker->copy->weights, worker->gradients,
													 buffers->dh + (size_t) first * e, buffers->logits_s,
													 buffers->hs + (size_t) first * e, rows,
													 worker->device, worker->poll, err));
	}
	return DISTIL_OK;
}

/* The same with logits in bfloat16. */
static DistilStatus
decode_losses_half(DistilTrainer *trainer, DistilTrainWorker *worker, const TripleBuffers *buffers,
				   const DistilLogitsLoss *loss, bool with_teacher, int n, DistilError *err)
{
	const DistilSpec *student = &trainer->student;
	const DistilSpec *teacher = &trainer->teacher->spec;
	DistilDevice *device = worker->device;
	const DistilHalfKernels *half = device->ops->half;
	uint16_t   *s = (uint16_t *) (void *) buffers->logits_s;
	uint16_t   *t = with_teacher ? (uint16_t *) (void *) buffers->logits_t : NULL;
	int			v = student->config.vocabulary;
	size_t		ld = HALF_STRIDE(v);
	size_t		e = (size_t) distil_table_width(&student->config);
	int			first;

	half->round(device, buffers->half_hs, buffers->hs, (size_t) n * e);
	if (with_teacher)
		half->round(device, buffers->half_ht, buffers->ht, (size_t) n * e);
	for (first = 0; first < n; first += trainer->logits_rows)
	{
		int			rows = n - first < trainer->logits_rows ? n - first : trainer->logits_rows;
		const uint16_t *hs = buffers->half_hs + (size_t) first * e;

		DISTIL_POLL(worker->poll, err);
		if (with_teacher)
			distil_lm_decode_half(teacher, worker->copy->teacher_half, t, ld,
								  buffers->half_ht + (size_t) first * e, rows, device);
		distil_lm_decode_half(student, worker->copy->half, s, ld, hs, rows, device);
		half->logits_loss(device, worker->device_losses, s, t, ld, worker->labels + first, loss, rows, v);
		if (trainer->round.learn)
			distil_lm_decode_backward_half(student, worker->copy->half, worker->gradients,
										   buffers->half_dh + (size_t) first * e, s, ld, hs, rows, device);
	}
	if (trainer->round.learn)
		half->widen(device, buffers->dh, buffers->half_dh, (size_t) n * e);
	return DISTIL_OK;
}

/* The losses on logits; adds their gradient to worker->dhidden. */
static DistilStatus
logits_losses(DistilTrainer *trainer, DistilTrainWorker *worker, const DistilPiece *piece,
			  const TripleBuffers *buffers, const float *hidden_s, const float *hidden_t, DistilError *err)
{
	const DistilTrainOptions *options = &trainer->options;
	const DistilMicroBatch *micro = &trainer->round.micro[piece->micro];
	const DistilSpec *student = &trainer->student;
	DistilDevice *device = worker->device;
	bool		soft = options->alpha_ce > 0 || options->alpha_mse > 0;
	bool		all = soft && !options->restrict_ce_to_mask;
	double		n_soft = all ? micro->tokens : micro->labels;
	double		t = options->temperature;
	DistilLogitsLoss loss = {.temperature = (float) t};
	int			c = student->config.width;
	int			n = choose_rows(trainer, worker, piece, all);

	if (n == 0)
		return DISTIL_OK;
	loss.scale_ce = (float) (t * t * options->alpha_ce / n_soft * micro->share);
	loss.scale_mse = (float) (options->alpha_mse / n_soft * micro->share);
	if (micro->labels > 0)
		loss.scale_label = (float) ((options->alpha_mlm + options->alpha_clm) / micro->labels * micro->share);
	if (soft)
	{
		if (!all)
			device->ops->gather_rows(device, buffers->gathered, hidden_t, worker->rows, n, c);
		DISTIL_FORWARD(distil_lm_transform(&trainer->teacher->spec, worker->copy->teacher_weights,
										   buffers->ht, all ? hidden_t : buffers->gathered, n, NULL,
										   buffers->scratch, device, worker->poll, err));
	}
	if (!all)
	{
		device->ops->gather_rows(device, buffers->gathered, hidden_s, worker->rows, n, c);
		hidden_s = buffers->gathered;
	}
	DISTIL_FORWARD(distil_lm_transform(student, worker->copy->weights, buffers->hs, hidden_s, n,
									   buffers->saved, buffers->scratch, device, worker->poll, err));
	DISTIL_FORWARD((worker->copy->half != NULL ? decode_losses_half : decode_losses)
				   (trainer, worker, buffers, &loss, soft, n, err));
	if (!trainer->round.learn)
		return DISTIL_OK;
	/* hs has served: it takes the gradient of the rows */
	DISTIL_FORWARD(distil_lm_transform_backward(student, worker->copy->weights, worker->gradients,
												buffers->hs, buffers->dh, hidden_s, n, buffers->saved,
												buffers->scratch, device, worker->poll, err));
	if (all)
		device->ops->axpy(device, worker->dhidden, buffers->hs, 1.0f, (size_t) n * (size_t) c);
	else
		device->ops->scatter_add_rows(device, worker->dhidden, buffers->hs, worker->rows, n, c);
	return DISTIL_OK;
}

static DistilStatus
triple_piece(DistilTrainer *trainer, DistilTrainWorker *worker, const DistilPiece *piece, DistilError *err)
{
	const DistilTrainOptions *options = &trainer->options;
	const DistilMicroBatch *micro = &trainer->round.micro[piece->micro];
	const DistilSpec *student = &trainer->student;
	const DistilSpec *teacher = &trainer->teacher->spec;
	DistilDevice *device = worker->device;
	DistilBatch batch = worker->batch;
	int			c = student->config.width;
	size_t		tc = (size_t) piece->ntokens * (size_t) c;
	const float *hidden_s;
	const float *hidden_t = NULL;
	TripleBuffers buffers;

	layout(trainer, worker->buffers, &buffers);
	if (options->alpha_ce > 0 || options->alpha_mse > 0 || options->alpha_cos > 0)
	{
		batch.types = teacher->type >= 0 ? worker->types : NULL;
		DISTIL_FORWARD(distil_encoder_forward(teacher, worker->copy->teacher_weights, &batch, worker->teacher,
											  0, &hidden_t, device, worker->poll, err));
	}
	batch.types = student->type >= 0 ? worker->types : NULL;
	DISTIL_FORWARD(distil_encoder_forward(student, worker->copy->weights, &batch, worker->student,
										  piece->dropout_seed,
										  &hidden_s, device, worker->poll, err));
	if (options->alpha_cos > 0)
		device->ops->cosine_loss(device, worker->device_losses + DISTIL_LOSS_COS, worker->dhidden, hidden_s,
								 hidden_t, (float) (options->alpha_cos / micro->tokens * micro->share),
								 piece->ntokens, c);
	else
		device->ops->zero(device, worker->dhidden, tc);
	if (options->alpha_ce > 0 || options->alpha_mlm > 0 || options->alpha_clm > 0 || options->alpha_mse > 0)
		DISTIL_FORWARD(logits_losses(trainer, worker, piece, &buffers, hidden_s, hidden_t, err));
	if (!trainer->round.learn)
		return DISTIL_OK;
	return distil_encoder_backward(student, worker->copy->weights, worker->gradients, &batch, worker->student,
								   piece->dropout_seed, worker->dhidden, device, worker->poll, err);
}

const DistilTrainMethod distil_train_triple = {
	.name = "triple",
	.labelling = DISTIL_LABELS_MASKED,
	.dropout = true,
	.buffer_floats = triple_buffer_floats,
	.piece = triple_piece,
};

const DistilTrainMethod distil_train_causal = {
	.name = "triple",
	.labelling = DISTIL_LABELS_NEXT,
	.dropout = true,
	.buffer_floats = triple_buffer_floats,
	.piece = triple_piece,
};
