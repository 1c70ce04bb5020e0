/*
 * device.c
 *		Devices with memory of their own: a model's weights on them, and their failures.
 *
 * The rule a newcomer would break: an operation of such a device may fail without saying so.
 * Whoever copies results out asks distil_device_check() before using them.
 */
#include "layers.h"

#define PART ((size_t) 1 << 14)	/* floats read at a time */

DistilStatus
distil_device_check(DistilDevice *device, DistilError *err)
{
	const char *failure = device->ops->failure != NULL ? device->ops->failure(device) : NULL;

	if (failure == NULL)
		return DISTIL_OK;
	distil_fail(err, DISTIL_ERR_DEVICE, "device \"%s\" has failed", device->ops->name);
	return distil_fail_detail(err, DISTIL_ERR_DEVICE, "%s.", failure);
}

/* Every parameter as rows, wherever and however it lies in the image. */
static DistilStatus
upload(float *to, const DistilModel *model, float *part, DistilDevice *device, const DistilPoll *poll,
	   DistilError *err)
{
	const DistilParamTable *table = &model->spec.table;
	size_t		at;
	int			i;

	for (i = 0; i < table->n; i++)
	{
		const DistilParam *param = &table->params[i];

		for (at = 0; at < param->count; at += PART)
		{
			size_t		count = param->count - at < PART ? param->count - at : PART;

			DISTIL_POLL(poll, err);
			distil_param_read(part, model->weights, param, at, count);
			device->ops->copy_in(device, to + param->offset + at, part, count * sizeof(float));
		}
	}
	return distil_device_check(device, err);
}

DistilStatus
distil_model_upload(float **uploaded, const DistilModel *model, DistilDevice *device,
					const DistilAllocator *alloc, const DistilPoll *poll, DistilError *err)
{
	size_t		bytes = model->spec.table.total * sizeof(float);
	float	   *part;
	DistilStatus status;

	*uploaded = NULL;
	if (!device->ops->own_memory)
		return DISTIL_OK;
	if (model->spec.low != DISTIL_TYPE_F32)
		return distil_fail(err, DISTIL_ERR_STATE, "device \"%s\" needs an image with float32 weights",
						   device->ops->name);
	part = distil_alloc_array(alloc, PART, sizeof(float));
	if (part == NULL)
		return distil_fail_memory(err, PART * sizeof(float));
	*uploaded = device->ops->alloc(device, bytes);
	status = *uploaded != NULL ? upload(*uploaded, model, part, device, poll, err)
		: distil_fail_memory(err, bytes);
	distil_release(alloc, part);
	if (status != DISTIL_OK)
	{
		device->ops->release(device, *uploaded);
		*uploaded = NULL;
	}
	return status;
}

bool
distil_has_half(const DistilSpec *spec, const DistilDevice *device)
{
	return device->ops->half != NULL && device->ops->own_memory && spec->low == DISTIL_TYPE_F32;
}

DistilStatus
distil_half_weights(uint16_t **half, const float *weights, size_t total, DistilDevice *device,
					DistilError *err)
{
	*half = device->ops->alloc(device, total * sizeof(uint16_t));
	if (*half == NULL)
		return distil_fail_memory(err, total * sizeof(uint16_t));
	device->ops->half->round(device, *half, weights, total);
	return DISTIL_OK;
}
