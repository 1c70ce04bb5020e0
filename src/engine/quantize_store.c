/*
 * quantize_store.c
 *		The container of a quantised model, put together from memory and the original's container.
 *
 * Tensors keep their names: a quantised one has the shape it had, in I8, and two more of float32 beside it,
 * "NAME:rows" and "NAME:columns" (safetensors.h).  The rule a newcomer would break: tensors that an
 * architecture stores transposed have their outputs in columns.
 */
#include "quantize.h"

#include <string.h>

#define ROUND_VALUES ((size_t) 1 << 20) /* rounded to bfloat16 between polls */

/* A tensor of the new container: its bytes in memory, or (NULL) those of `from`. */
typedef struct StoredTensor
{
	DistilTensor tensor;		/* first: pointers to it are sorted */
	const void *data;
	const DistilTensor *from;
} StoredTensor;

struct DistilQuantStore
{
	DistilReader reader;
	DistilBuffer header;
	StoredTensor *tensors;		/* [capacity] */
	int			n;
	const DistilTensor **order; /* [n] */
	uint64_t   *starts;			/* [n + 1] */
	DistilArena *arena;
	const DistilAllocator *alloc;
};

/* ---------- reading ---------- */

static DistilStatus
read_stored(const StoredTensor *stored, uint64_t first, char *to, size_t bytes, DistilError *err)
{
	if (stored->data == NULL)
		return distil_tensor_read(stored->from, first, to, bytes, err);
	memcpy(to, (const char *) stored->data + first, bytes);
	return DISTIL_OK;
}

static DistilStatus
store_read(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	const DistilQuantStore *store = ctx;
	char	   *to = buffer;
	int			low = 0;
	int			high = store->n;

	if (offset > store->reader.size || bytes > store->reader.size - offset)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "read beyond the end of a file");
	if (offset < store->header.length)
	{
		size_t		part = store->header.length - (size_t) offset;

		part = part < bytes ? part : bytes;
		memcpy(to, store->header.data + offset, part);
		to += part;
		offset += part;
		bytes -= part;
	}
	/* the last tensor that starts at or before offset */
	while (high - low > 1)
	{
		int			middle = low + (high - low) / 2;

		if (store->starts[middle] <= offset)
			low = middle;
		else
			high = middle;
	}
	for (; bytes > 0; low++)
	{
		uint64_t	first = offset - store->starts[low];
		uint64_t	left = store->order[low]->bytes - first;
		size_t		part = left < bytes ? (size_t) left : bytes;

		DISTIL_FORWARD(read_stored((const StoredTensor *) store->order[low], first, to, part, err));
		to += part;
		offset += part;
		bytes -= part;
	}
	return DISTIL_OK;
}

/* ---------- tensors ---------- */

static StoredTensor *
add_tensor(DistilQuantStore *store, const DistilTensor *like)
{
	StoredTensor *stored = &store->tensors[store->n++];

	stored->tensor = *like;
	stored->tensor.row_factors = stored->tensor.column_factors = NULL;
	stored->from = like;
	return stored;
}

static void
set_form(StoredTensor *stored, DistilDtype dtype, const void *data)
{
	stored->tensor.dtype = dtype;
	stored->tensor.bytes = stored->tensor.count * distil_dtype_size(dtype);
	stored->data = data;
}

static DistilStatus
add_factors(DistilQuantStore *store, const DistilTensor *tensor, const char *suffix, const float *values,
			int n, DistilError *err)
{
	DistilTensor factors = {.dtype = DISTIL_DTYPE_F32,.rank = 1,.shape = {n},.count = (uint64_t) n};

	factors.name = distil_arena_printf(store->arena, "%s:%s", tensor->name, suffix);
	if (factors.name == NULL)
		return distil_fail_memory(err, strlen(tensor->name));
	if (strlen(factors.name) > DISTIL_MAX_NAME)
		return distil_fail(err, DISTIL_ERR_LIMIT, "the name of a tensor is too long");
	set_form(add_tensor(store, &factors), DISTIL_DTYPE_F32, values);
	return DISTIL_OK;
}

/* Source k of a matrix, in its own orientation. */
static DistilStatus
add_int8(DistilQuantStore *store, const DistilTensor *tensor, const DistilQuantMatrix *matrix,
		 const DistilParam *param, int k, DistilError *err)
{
	int			rows = param->rows / param->nsources;
	size_t		cols = (size_t) param->cols;
	const int8_t *values = matrix->values + (size_t) k * (size_t) rows * cols;
	const float *scale = matrix->scale + (size_t) k * (size_t) rows;
	bool		turned = (param->flags & DISTIL_PARAM_TRANSPOSED) != 0;
	StoredTensor *stored = add_tensor(store, tensor);

	if (turned)
	{
		int8_t	   *copy = distil_arena_alloc(store->arena, (size_t) rows * cols, 1);

		if (copy == NULL)
			return distil_fail_memory(err, (size_t) rows * cols);
		for (size_t i = 0; i < (size_t) rows; i++)
			for (size_t j = 0; j < cols; j++)
				copy[j * (size_t) rows + i] = values[i * cols + j];
		values = copy;
	}
	set_form(stored, DISTIL_DTYPE_I8, values);
	DISTIL_FORWARD(add_factors(store, tensor, turned ? "columns" : "rows", scale, rows, err));
	return !matrix->linear ? DISTIL_OK
		: add_factors(store, tensor, turned ? "rows" : "columns", matrix->factor, param->cols, err);
}

static DistilStatus
add_bf16(DistilQuantStore *store, const DistilTensor *tensor, const DistilQuantizer *q, DistilError *err)
{
	size_t		n = (size_t) tensor->count;
	size_t		piece = n < ROUND_VALUES ? n : ROUND_VALUES;
	uint16_t   *to = distil_arena_alloc(store->arena, n + 1, sizeof(uint16_t));
	float	   *values = distil_alloc_array(q->alloc, piece + 1, sizeof(float));
	void	   *scratch = distil_alloc_array(q->alloc, piece + 1, 2);
	DistilStatus status = to != NULL && values != NULL && scratch != NULL ? DISTIL_OK
		: distil_fail_memory(err, n * sizeof(uint16_t));

	for (size_t at = 0; status == DISTIL_OK && at < n; at += piece)
	{
		size_t		part = n - at < piece ? n - at : piece;

		if (q->poll != NULL && q->poll->stop != NULL && q->poll->stop(q->poll->ctx))
			status = distil_fail_cancelled(err);
		else
			status = distil_tensor_floats(tensor, at, values, part, scratch, err);
		for (size_t i = 0; status == DISTIL_OK && i < part; i++)
			to[at + i] = distil_bf16(values[i]);
	}
	distil_release(q->alloc, values);
	distil_release(q->alloc, scratch);
	if (status == DISTIL_OK)
		set_form(add_tensor(store, tensor), DISTIL_DTYPE_BF16, to);
	return status;
}

/* The second of two names of one matrix is left out: the first has it. */
static bool
is_copy(const DistilTensor *tensor, const DistilQuantizer *q)
{
	const DistilSpec *spec = &q->model->spec;

	for (const struct DistilAlias *alias = spec->config.arch->aliases; alias != NULL &&
		 alias->source != NULL; alias++)
		if (tensor->rank == 2 && spec->has_lm && spec->config.tie_word_embeddings &&
			distil_checkpoint_find_exact(q->container->set, spec->config.arch, alias->other) == tensor &&
			distil_checkpoint_find_exact(q->container->set, spec->config.arch, alias->source) != NULL)
			return true;
	return false;
}

static DistilStatus
add_one(DistilQuantStore *store, const DistilTensor *tensor, const DistilTensor *const *bound,
		const DistilQuantizer *q, DistilError *err)
{
	for (int i = 0; i < q->n; i++)
	{
		const DistilQuantMatrix *matrix = &q->matrices[i];
		const DistilParam *param = &q->model->spec.table.params[matrix->param];

		for (int k = 0; k < param->nsources; k++)
			if (bound[matrix->param * DISTIL_PARAM_MAX_SOURCES + k] == tensor)
				return matrix->type == DISTIL_TYPE_INT8 ? add_int8(store, tensor, matrix, param, k, err)
					: add_bf16(store, tensor, q, err);
	}
	if (!is_copy(tensor, q))
		(void) add_tensor(store, tensor);
	return DISTIL_OK;
}

static DistilStatus
lay_out(DistilQuantStore *store, const DistilQuantizer *q, DistilError *err)
{
	const char *metadata = q->container->parse_special
		? "{\"distil.container\":\"1\",\"distil.parse_special\":\"true\"}"
		: "{\"distil.container\":\"1\",\"distil.parse_special\":\"false\"}";
	uint64_t	at;

	store->order = distil_arena_alloc(store->arena, (size_t) store->n + 1, sizeof(*store->order));
	store->starts = distil_arena_alloc(store->arena, (size_t) store->n + 1, sizeof(*store->starts));
	if (store->order == NULL || store->starts == NULL)
		return distil_fail_memory(err, (size_t) store->n * sizeof(*store->starts));
	for (int i = 0; i < store->n; i++)
		store->order[i] = &store->tensors[i].tensor;
	distil_container_sort(store->order, store->n);
	DISTIL_FORWARD(distil_safetensors_header(&store->header, store->order, store->n, 0, metadata, err));
	at = store->header.length;
	for (int i = 0; i < store->n; i++)
	{
		store->starts[i] = at;
		at += store->order[i]->bytes;
	}
	store->reader = (DistilReader) {store_read, store, at};
	return DISTIL_OK;
}

static DistilStatus
fill_store(DistilQuantStore *store, const DistilQuantizer *q, DistilError *err)
{
	const DistilTensorSet *set = q->container->set;
	const DistilTensor *const *bound;

	store->arena = distil_arena_create(store->alloc);
	if (store->arena == NULL)
		return distil_fail_memory(err, 0);
	/* a matrix of eight bits takes three */
	store->tensors = distil_arena_alloc(store->arena, 3 * (size_t) set->n + 1, sizeof(StoredTensor));
	if (store->tensors == NULL)
		return distil_fail_memory(err, 3 * (size_t) set->n * sizeof(StoredTensor));
	DISTIL_FORWARD(distil_checkpoint_bind(&bound, &q->model->spec, set, store->arena, err));
	for (int i = 0; i < set->n; i++)
		DISTIL_FORWARD(add_one(store, &set->tensors[i], bound, q, err));
	return lay_out(store, q, err);
}

DistilStatus
distil_quant_store_create(DistilQuantStore **store, const DistilQuantizer *q, DistilError *err)
{
	DistilQuantStore *made = distil_alloc_array(q->alloc, 1, sizeof(DistilQuantStore));
	DistilStatus status;

	*store = NULL;
	if (made == NULL)
		return distil_fail_memory(err, sizeof(DistilQuantStore));
	made->alloc = q->alloc;
	distil_buffer_init(&made->header, q->alloc);
	status = fill_store(made, q, err);
	if (status != DISTIL_OK)
	{
		distil_quant_store_free(made);
		return status;
	}
	*store = made;
	return DISTIL_OK;
}

const DistilReader *
distil_quant_store_reader(const DistilQuantStore *store)
{
	return &store->reader;
}

void
distil_quant_store_free(DistilQuantStore *store)
{
	if (store == NULL)
		return;
	distil_buffer_free(&store->header);
	distil_arena_free(store->arena);
	distil_release(store->alloc, store);
}
