/*
 * bundle.c
 *		The files of a container again, as Hugging Face libraries load them.
 *
 * The rule a newcomer would break: weight files are not copied anywhere; their readers
 * put a small header and pieces of the container's reader together.  Quantised weights have no standard
 * form: they are shown as the float32 values they stand for.
 */
#include "container.h"

#include "status.h"

#include <stdio.h>
#include <string.h>

/* A weight file: its header in memory, then tensors of the container one after the other. */
typedef struct WeightFile
{
	DistilBuffer header;
	const DistilTensor **tensors;
	uint64_t   *starts;			/* [n] offset in the file */
	int			n;
} WeightFile;

struct DistilBundle
{
	DistilContainer *container;
	DistilFolder folder;
	DistilFile *files;
	WeightFile *weights;
	int			nweights;
	bool		stored;			/* weights are shown as they are stored */
	DistilArena *arena;
	const DistilAllocator *alloc;
};

#define FLOATS 2048				/* converted at a time */

/* Bytes of a tensor as it is shown: F32 with factors is stored as I8. */
static DistilStatus
read_shown(const DistilTensor *tensor, uint64_t first, char *to, size_t bytes, DistilError *err)
{
	DistilTensor stored = *tensor;
	float		values[FLOATS];
	uint8_t		scratch[2 * FLOATS];

	if (tensor->row_factors == NULL || tensor->dtype == DISTIL_DTYPE_I8)
		return distil_tensor_read(tensor, first, to, bytes, err);
	stored.dtype = DISTIL_DTYPE_I8;
	stored.bytes = stored.count;
	while (bytes > 0)
	{
		uint64_t	element = first / sizeof(float);
		size_t		skip = (size_t) (first % sizeof(float));
		size_t		n = stored.count - element < FLOATS ? (size_t) (stored.count - element) : FLOATS;
		size_t		part = n * sizeof(float) - skip < bytes ? n * sizeof(float) - skip : bytes;

		DISTIL_FORWARD(distil_tensor_floats(&stored, element, values, n, scratch, err));
		memcpy(to, (const char *) values + skip, part);
		to += part;
		first += part;
		bytes -= part;
	}
	return DISTIL_OK;
}

static DistilStatus
weight_read(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	const WeightFile *file = ctx;
	char	   *at = buffer;
	int			low = 0;
	int			high = file->n;

	if (bytes > 0 && offset < file->header.length)
	{
		size_t		part = file->header.length - (size_t) offset;

		part = part < bytes ? part : bytes;
		memcpy(at, file->header.data + offset, part);
		at += part;
		offset += part;
		bytes -= part;
	}
	if (bytes == 0)
		return DISTIL_OK;
	/* the last tensor that starts at or before offset */
	while (high - low > 1)
	{
		int			middle = low + (high - low) / 2;

		if (file->starts[middle] <= offset)
			low = middle;
		else
			high = middle;
	}
	for (int i = low; i < file->n && bytes > 0; i++)
	{
		uint64_t	first = offset - file->starts[i];
		size_t		part;

		if (first >= file->tensors[i]->bytes)
			continue;
		part = file->tensors[i]->bytes - first < bytes ? (size_t) (file->tensors[i]->bytes - first) : bytes;
		DISTIL_FORWARD(read_shown(file->tensors[i], first, at, part, err));
		at += part;
		offset += part;
		bytes -= part;
	}
	return bytes == 0 ? DISTIL_OK : distil_fail(err, DISTIL_ERR_ARGUMENT, "read beyond the end of a file");
}

/* Length of the folder prefix ("2_Dense/") of a module's tensor; 0 for the model's own. */
static size_t
module_prefix(const DistilFolder *folder, const char *name)
{
	const char *slash = strchr(name, '/');
	char		config[DISTIL_MAX_NAME + 32];

	if (slash == NULL)
		return 0;
	snprintf(config, sizeof(config), "%.*s/config.json", (int) (slash - name), name);
	for (int i = 0; i < folder->nfiles; i++)
		if (strcmp(folder->files[i].name, config) == 0)
			return (size_t) (slash - name) + 1;
	return 0;
}

/* Lay out one weight file of the tensors taken[first .. n) with this prefix. */
static DistilStatus
add_weight_file(DistilBundle *bundle, const DistilTensor **tensors, int n, size_t prefix, DistilError *err)
{
	WeightFile *file = &bundle->weights[bundle->nweights];
	DistilFile *entry = &bundle->files[bundle->folder.nfiles];
	uint64_t	at;

	distil_buffer_init(&file->header, bundle->alloc);
	bundle->nweights++;
	file->tensors = distil_arena_alloc(bundle->arena, (size_t) n + 1, sizeof(*file->tensors));
	file->starts = distil_arena_alloc(bundle->arena, (size_t) n + 1, sizeof(*file->starts));
	entry->name = distil_arena_printf(bundle->arena, "%.*smodel.safetensors", (int) prefix,
									  tensors[0]->name);
	if (file->tensors == NULL || file->starts == NULL || entry->name == NULL)
		return distil_fail_memory(err, 0);
	file->n = n;
	memcpy(file->tensors, tensors, (size_t) n * sizeof(*tensors));
	DISTIL_FORWARD(distil_safetensors_header(&file->header, tensors, n, prefix, "{\"format\":\"pt\"}",
											 err));
	at = file->header.length;
	for (int i = 0; i < n; i++)
	{
		file->starts[i] = at;
		at += tensors[i]->bytes;
	}
	entry->reader.read = weight_read;
	entry->reader.ctx = file;
	entry->reader.size = at;
	bundle->folder.nfiles++;
	return DISTIL_OK;
}

/* Tensors of one file lie together: taken in container order, by prefix. */
static DistilStatus
add_weights(DistilBundle *bundle, const DistilTensor **left, int n, DistilError *err)
{
	const DistilTensor **taken = distil_arena_alloc(bundle->arena, (size_t) n + 1, sizeof(*taken));

	if (taken == NULL)
		return distil_fail_memory(err, 0);
	while (n > 0)
	{
		size_t		prefix = module_prefix(&bundle->container->folder, left[0]->name);
		const char *name = left[0]->name;
		int			ntaken = 0;
		int			kept = 0;

		if (bundle->nweights == DISTIL_MAX_FILES)
			return distil_fail(err, DISTIL_ERR_LIMIT, "model has more than %d files", DISTIL_MAX_FILES);
		for (int i = 0; i < n; i++)
			if (module_prefix(&bundle->container->folder, left[i]->name) == prefix &&
				strncmp(left[i]->name, name, prefix) == 0)
				taken[ntaken++] = left[i];
			else
				left[kept++] = left[i];
		n = kept;
		DISTIL_FORWARD(add_weight_file(bundle, taken, ntaken, prefix, err));
	}
	return DISTIL_OK;
}

/* A tensor of the container as it is shown; NULL without memory. */
static const DistilTensor *
show_tensor(DistilBundle *bundle, const DistilTensor *tensor)
{
	DistilTensor *shown;

	if (tensor->row_factors == NULL || bundle->stored)
		return tensor;
	shown = distil_arena_alloc(bundle->arena, 1, sizeof(*shown));
	if (shown == NULL)
		return NULL;
	*shown = *tensor;
	shown->dtype = DISTIL_DTYPE_F32;
	shown->bytes = tensor->count * sizeof(float);
	return shown;
}

static DistilStatus
open_bundle(DistilBundle *bundle, const DistilReader *reader, DistilError *err)
{
	const DistilTensorSet *set;
	const DistilTensor **tensors;
	int			n = 0;

	bundle->arena = distil_arena_create(bundle->alloc);
	if (bundle->arena == NULL)
		return distil_fail_memory(err, 0);
	DISTIL_FORWARD(distil_container_open(&bundle->container, reader, bundle->alloc, err));
	set = bundle->container->set;
	bundle->files = distil_arena_alloc(bundle->arena, 2 * DISTIL_MAX_FILES, sizeof(DistilFile));
	bundle->weights = distil_arena_alloc(bundle->arena, DISTIL_MAX_FILES, sizeof(WeightFile));
	tensors = distil_arena_alloc(bundle->arena, (size_t) set->n + 1, sizeof(*tensors));
	if (bundle->files == NULL || bundle->weights == NULL || tensors == NULL)
		return distil_fail_memory(err, 0);
	bundle->folder.files = bundle->files;
	for (int i = 0; i < set->n; i++)
		if (!distil_container_is_file(&set->tensors[i]) &&
			(bundle->stored || !distil_tensor_is_factor(&set->tensors[i])) &&
			(tensors[n++] = show_tensor(bundle, &set->tensors[i])) == NULL)
			return distil_fail_memory(err, sizeof(DistilTensor));
	distil_container_sort(tensors, n);
	DISTIL_FORWARD(add_weights(bundle, tensors, n, err));
	for (int i = 0; i < bundle->container->folder.nfiles; i++)
		bundle->files[bundle->folder.nfiles++] = bundle->container->files[i];
	return DISTIL_OK;
}

static DistilStatus
create_bundle(DistilBundle **bundle, const DistilReader *container, bool stored, const DistilAllocator *alloc,
			  DistilError *err)
{
	DistilBundle *made = distil_alloc_array(alloc, 1, sizeof(DistilBundle));
	DistilStatus status;

	*bundle = NULL;
	if (made == NULL)
		return distil_fail_memory(err, sizeof(DistilBundle));
	made->alloc = alloc;
	made->stored = stored;
	status = open_bundle(made, container, err);
	if (status != DISTIL_OK)
	{
		distil_bundle_free(made);
		return status;
	}
	*bundle = made;
	return DISTIL_OK;
}

DistilStatus
distil_bundle_open(DistilBundle **bundle, const DistilReader *container, const DistilAllocator *alloc,
				   DistilError *err)
{
	return create_bundle(bundle, container, false, alloc, err);
}

DistilStatus
distil_bundle_open_stored(DistilBundle **bundle, const DistilReader *container, const DistilAllocator *alloc,
						  DistilError *err)
{
	return create_bundle(bundle, container, true, alloc, err);
}

const DistilFolder *
distil_bundle_folder(const DistilBundle *bundle)
{
	return &bundle->folder;
}

void
distil_bundle_free(DistilBundle *bundle)
{
	if (bundle == NULL)
		return;
	for (int i = 0; i < bundle->nweights; i++)
		distil_buffer_free(&bundle->weights[i].header);
	distil_container_free(bundle->container);
	distil_arena_free(bundle->arena);
	distil_release(bundle->alloc, bundle);
}
