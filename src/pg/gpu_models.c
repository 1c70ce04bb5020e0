/*
 * gpu_models.c
 *		The GPU service's device and the models on it.
 *
 * A model is mapped from the server's shared copy, which the asking backend has made sure of, uploaded, and
 * stays until its memory is wanted: the least recently used goes first.
 *
 * The rule a newcomer would break: this runs in the process that has the device, which has no shared memory,
 * no catalogs and no transaction.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "bridge.h"
#include "cache_file.h"
#include "gpu_worker.h"
#include "guc.h"

/* Bytes of scratch memory of a model that has no room for more. */
#define SMALL_PASSES ((size_t) 4 << 20)
/* Milliseconds that a model which did not fit is refused without a try. */
#define REFUSED_MS 60000

typedef struct GpuModel
{
	uint8		sha256[32];
	bool		rounded;		/* made for products of rounded operands: a session keeps to that */
	MemoryContext context;		/* of all of it */
	DistilMapping mapping;
	DistilModel *model;
	DistilSession *session;
	struct GpuModel *next;		/* the one used before it */
} GpuModel;

static DistilDevice *device = NULL;
static bool unusable = false;
static int64 limit = 0;
static GpuModel *models = NULL; /* last used first */
static int64 evictions = 0;

/*
 * The last model that did not fit even alone.  Asking again must not cost the others their place: it is tried
 * anew when one of them had to go anyway, and after a while, as other processes use the GPU's memory too.
 * Only the last: two such models in turn send the others away each time.
 */
static uint8 refused[32];
static int64 refused_until = 0;

/* ---------- the device ---------- */

static DistilStatus
need_device(DistilError *err)
{
	const char *backend = distil_standin_device ? "standin" : "cuda";
	char		message[400] = "";

	if (device == NULL)
		device = distil_device_open(backend, distil_standin_device ? distil_standin_isa : NULL, message,
									sizeof(message));
	unusable = device == NULL || device->ops->failure(device) != NULL;
	if (!unusable)
	{
		device->ops->limit_memory(device, (size_t) limit);
		return DISTIL_OK;
	}
	if (device != NULL)
		strlcpy(message, device->ops->failure(device), sizeof(message));
	snprintf(err->message, sizeof(err->message), "device \"cuda\" %s",
			 device == NULL ? "is not available" : "has failed");
	snprintf(err->detail, sizeof(err->detail), "%s", message);
	snprintf(err->hint, sizeof(err->hint), "Set distil.device to \"auto\" or \"cpu\".");
	return DISTIL_ERR_DEVICE;
}

bool
distil_gpu_lost(void)
{
	return unusable || (device != NULL && device->ops->failure(device) != NULL);
}

/* Are operands of products rounded from now on?  As who asks wants it, if the device has the choice. */
static bool
set_precision(int precision)
{
	if (device->ops->round_products == NULL)
		return false;
	if (precision != DISTIL_PRECISION_FLOAT32 && device->ops->round_products(device, DISTIL_TYPE_BF16))
		return true;
	(void) device->ops->round_products(device, DISTIL_TYPE_F32);
	return false;
}

/* ---------- models ---------- */

static void
close_model(GpuModel *model)
{
	distil_session_free(model->session);
	distil_model_free(model->model);
	distil_cache_file_unmap(&model->mapping);
	MemoryContextDelete(model->context);	/* with the model itself */
}

/* The least recently used one; false: there is none. */
static bool
evict_one(void)
{
	GpuModel  **link = &models;
	GpuModel   *oldest;

	if (models == NULL)
		return false;
	while ((*link)->next != NULL)
		link = &(*link)->next;
	oldest = *link;
	*link = NULL;
	close_model(oldest);
	refused_until = 0;
	return true;
}

void
distil_gpu_limit(int64 bytes)
{
	if (bytes == limit)
		return;
	limit = bytes;
	refused_until = 0;
	while (evict_one())
		;
}

static DistilStatus
open_model(GpuModel **opened, const DistilGpuKey *key, DistilError *err)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "distil model on the GPU",
												  ALLOCSET_DEFAULT_SIZES);
	GpuModel   *model = MemoryContextAllocZero(context, sizeof(GpuModel));
	DistilStatus status;

	model->context = context;
	memcpy(model->sha256, key->sha256, 32);
	if (!distil_cache_file_find(&model->mapping, key->sha256, key->layout))
	{
		snprintf(err->message, sizeof(err->message),
				 "the GPU service cannot map the shared copy of the model");
		snprintf(err->detail, sizeof(err->detail), "%s.", strerror(errno));
		snprintf(err->hint, sizeof(err->hint),
				 "The server must be able to write to directory \"%s\" in the data directory, and find room.",
				 DISTIL_CACHE_DIR);
		MemoryContextDelete(context);
		return DISTIL_ERR_NO_FILE;
	}
	status = distil_model_open(&model->model, model->mapping.image, model->mapping.size, key->sha256,
							   distil_bridge_allocator(context), err);
	if (status != DISTIL_OK)
		close_model(model);
	else
		*opened = model;
	return status;
}

static DistilStatus
refuse(DistilError *err)
{
	snprintf(err->message, sizeof(err->message), "out of memory on device \"cuda\"");
	snprintf(err->detail, sizeof(err->detail), "The model does not fit, though no other one is there.");
	snprintf(err->hint, sizeof(err->hint),
			 "Increase distil.gpu_memory, or set distil.device to \"auto\" or \"cpu\".");
	return DISTIL_ERR_MEMORY;
}

/* Upload it, at the cost of others, and in the end of large passes. */
static DistilStatus
make_session(GpuModel *model, const DistilPoll *poll, DistilError *err)
{
	DistilAllocator *alloc = distil_bridge_allocator(model->context);
	DistilStatus status;

	for (;;)
	{
		status = distil_session_create(&model->session, model->model, device, 0, alloc, poll, err);
		if (status != DISTIL_ERR_MEMORY || !evict_one())
			break;
		evictions++;
	}
	if (status == DISTIL_ERR_MEMORY)
		status = distil_session_create(&model->session, model->model, device, SMALL_PASSES, alloc, poll, err);
	if (status != DISTIL_ERR_MEMORY)
		return status;
	memcpy(refused, model->sha256, 32);
	refused_until = distil_gpu_clock() + REFUSED_MS;
	return refuse(err);
}

/* Taken off the list, or new. */
static DistilStatus
take_model(GpuModel **taken, const DistilGpuKey *key, bool rounded, const DistilPoll *poll, DistilError *err)
{
	GpuModel  **link;
	GpuModel   *model = NULL;
	DistilStatus status;

	for (link = &models; *link != NULL; link = &(*link)->next)
		if (memcmp((*link)->sha256, key->sha256, 32) == 0 && (*link)->rounded == rounded)
		{
			*taken = *link;
			*link = (*link)->next;
			return DISTIL_OK;
		}
	if (distil_gpu_clock() < refused_until && memcmp(refused, key->sha256, 32) == 0)
		return refuse(err);
	status = open_model(&model, key, err);
	if (status != DISTIL_OK)
		return status;
	model->rounded = rounded;
	status = make_session(model, poll, err);
	if (status != DISTIL_OK)
		close_model(model);
	else
		*taken = model;
	return status;
}

DistilStatus
distil_gpu_session(DistilSession **session, int *dimensions, const DistilGpuKey *key, const DistilPoll *poll,
				   DistilError *err)
{
	GpuModel   *model;
	DistilStatus status = need_device(err);

	if (status == DISTIL_OK)
		status = take_model(&model, key, set_precision(key->precision), poll, err);
	if (status != DISTIL_OK)
		return status;
	model->next = models;
	models = model;
	*session = model->session;
	*dimensions = distil_model_info(model->model)->dimensions;
	return DISTIL_OK;
}

void
distil_gpu_models_status(DistilGpuStatus *status)
{
	const GpuModel *model;

	strlcpy(status->device, device != NULL ? device->ops->name : "none yet", sizeof(status->device));
	for (model = models; model != NULL; model = model->next)
		status->models++;
	status->evictions = evictions;
}
