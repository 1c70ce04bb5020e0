/*
 * train_checkpoint.c
 *		Saving and restoring a training so that it goes on with the same bits.
 *
 * Layout: header (magic, version, fingerprints of options, teacher and spool, counters,
 * last report), the blocks of weights and of both moments (float32), and a 32-byte
 * checksum of all before it.  Random numbers need no state: they derive from the
 * counters.  A checkpoint stays on its machine and may be cut short by a crash, so
 * nothing in it is used before the checksum has been verified.
 */
#include <math.h>
#include <string.h>

#include "train.h"

#define CHECKPOINT_MAGIC "dstlckp1"
#define CHECKPOINT_VERSION 1

typedef struct CheckpointHeader
{
	char		magic[8];
	uint64_t	version;
	uint8_t		options[32];
	uint8_t		teacher[32];
	uint8_t		spool[32];
	uint64_t	floats;			/* of one block */
	DistilTrainState state;
	DistilTrainReport report;
} CheckpointHeader;

#define BLOCKS 3

typedef struct SaveState
{
	const DistilSink *sink;
	DistilFingerprint print;
} SaveState;

static DistilStatus
put(SaveState *save, const void *data, size_t bytes, DistilError *err)
{
	distil_fingerprint_update(&save->print, data, bytes);
	return save->sink->write(save->sink->ctx, data, bytes, err);
}

DistilStatus
distil_trainer_save(DistilTrainer *trainer, const DistilSink *sink, DistilError *err)
{
	const DistilTrainCopy *copy = &trainer->copies[0];
	const float *blocks[BLOCKS] = {copy->weights, copy->moment1, copy->moment2};
	DistilDevice *device = trainer->workers[0].device;
	const DistilPoll *poll = trainer->workers[0].poll;
	size_t		total = trainer->student.table.total;
	SaveState	save = {.sink = sink};
	CheckpointHeader header;
	uint8_t		value[32];
	size_t		done;
	int			i;

	memset(&header, 0, sizeof(header));
	memcpy(header.magic, CHECKPOINT_MAGIC, 8);
	header.version = CHECKPOINT_VERSION;
	memcpy(header.options, trainer->options_print, 32);
	memcpy(header.teacher, trainer->teacher_print, 32);
	memcpy(header.spool, trainer->spool.info.fingerprint, 32);
	header.floats = total;
	header.state = trainer->state;
	header.report = trainer->report;
	distil_fingerprint_init(&save.print);
	DISTIL_FORWARD(put(&save, &header, sizeof(header), err));
	for (i = 0; i < BLOCKS; i++)
	{
		for (done = 0; done < total; done += DISTIL_COPY_FLOATS)
		{
			size_t		count = total - done < DISTIL_COPY_FLOATS ? total - done : DISTIL_COPY_FLOATS;

			DISTIL_POLL(poll, err);
			device->ops->copy_out(device, trainer->host_block, blocks[i] + done, count * sizeof(float));
			DISTIL_FORWARD(put(&save, trainer->host_block, count * sizeof(float), err));
		}
	}
	/* What a failed device gave is not sealed with a checksum. */
	DISTIL_FORWARD(distil_device_check(device, err));
	distil_fingerprint_value(&save.print, value);
	return sink->write(sink->ctx, value, sizeof(value), err);
}

static DistilStatus
corrupt(DistilError *err, const char *what)
{
	distil_fail(err, DISTIL_ERR_CORRUPT, "the checkpoint of the job is damaged");
	return distil_fail_detail(err, DISTIL_ERR_CORRUPT, "Found: %s.", what);
}

static DistilStatus
other_job(DistilError *err, const char *what)
{
	distil_fail(err, DISTIL_ERR_STATE, "the checkpoint belongs to another job");
	return distil_fail_detail(err, DISTIL_ERR_STATE, "It was made with other %s.", what);
}

static DistilStatus
check_header(const DistilTrainer *trainer, const CheckpointHeader *header, DistilError *err)
{
	const DistilTrainState *state = &header->state;

	if (memcmp(header->options, trainer->options_print, 32) != 0)
		return other_job(err, "options");
	if (memcmp(header->teacher, trainer->teacher_print, 32) != 0)
		return other_job(err, "teacher weights");
	if (memcmp(header->spool, trainer->spool.info.fingerprint, 32) != 0)
		return other_job(err, "texts");
	if (header->floats != trainer->student.table.total)
		return corrupt(err, "another number of weights");
	if (state->step < 0 || state->step > trainer->schedule.updates || state->micro < 0 || state->pieces < 0 ||
		state->tokens < 0 || state->skipped < 0 || state->adam_step < 0 || state->adam_step > state->step ||
		state->micro / trainer->options.gradient_accumulation_steps != state->step)
		return corrupt(err, "counters that contradict each other");
	return DISTIL_OK;
}

static void
fill_copy(const DistilTrainCopy *copy, DistilDevice *device, const char *floats, size_t total)
{
	float	   *blocks[BLOCKS] = {copy->weights, copy->moment1, copy->moment2};
	size_t		bytes = total * sizeof(float);
	int			i;

	for (i = 0; i < BLOCKS; i++)
		device->ops->copy_in(device, blocks[i], floats + (size_t) i * bytes, bytes);
	if (copy->half != NULL)
		device->ops->half->round(device, copy->half, copy->weights, total);
}

DistilStatus
distil_trainer_restore(DistilTrainer *trainer, const void *data, size_t size, DistilTrainReport *report,
					   DistilError *err)
{
	const char *bytes = data;
	const DistilPoll *poll = trainer->workers[0].poll;
	size_t		total = trainer->student.table.total;
	size_t		unit = DISTIL_COPY_FLOATS * sizeof(float);
	DistilFingerprint print;
	CheckpointHeader header;
	uint8_t		value[32];
	size_t		body;
	size_t		done;
	int			i;

	if (size < sizeof(header) + sizeof(value))
		return corrupt(err, "a file that is too short");
	memcpy(&header, bytes, sizeof(header));
	if (memcmp(header.magic, CHECKPOINT_MAGIC, 8) != 0 || header.version != CHECKPOINT_VERSION)
		return corrupt(err, "another kind of file");
	body = size - sizeof(value);
	distil_fingerprint_init(&print);
	for (done = 0; done < body; done += unit)
	{
		DISTIL_POLL(poll, err);
		distil_fingerprint_update(&print, bytes + done, body - done < unit ? body - done : unit);
	}
	distil_fingerprint_value(&print, value);
	if (memcmp(value, bytes + body, sizeof(value)) != 0)
		return corrupt(err, "a wrong checksum");
	DISTIL_FORWARD(check_header(trainer, &header, err));
	if (body != sizeof(header) + BLOCKS * total * sizeof(float))
		return corrupt(err, "a wrong size");
	/* Nothing can fail from here on. */
	for (i = 0; i < trainer->ncopies; i++)
		fill_copy(&trainer->copies[i], trainer->workers[i].device, bytes + sizeof(header), total);
	trainer->state = header.state;
	trainer->report = header.report;
	if (report != NULL)
		*report = header.report;
	return DISTIL_OK;
}
