/*
 * safetensors.c
 *		Strict reader of safetensors files over a DistilReader; a set merges several.
 *
 * Format: u64 little-endian length of the header, the header as JSON
 * { name: {"dtype", "shape", "data_offsets": [begin, end)}, "__metadata__": {...} },
 * then the data.  The rule a newcomer would break: nothing of the header is believed;
 * every number has its range and every product is checked before it is used.
 */
#include "safetensors.h"

#include "json.h"
#include "status.h"

#include <stdio.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One file while it is read. */
typedef struct HeaderReader
{
	DistilTensorSet *set;
	const DistilReader *reader;
	char		file[100];		/* printable */
	const char *prefix;
	uint64_t	data_start;
	uint64_t	data_size;
	DistilError *err;
} HeaderReader;

DistilStatus
distil_tensor_set_create(DistilTensorSet **set, const DistilAllocator *alloc, DistilError *err)
{
	DistilTensorSet *made = distil_alloc_array(alloc, 1, sizeof(DistilTensorSet));

	*set = NULL;
	if (made == NULL)
		return distil_fail_memory(err, sizeof(DistilTensorSet));
	made->alloc = alloc;
	made->parse_special = true;
	made->arena = distil_arena_create(alloc);
	if (made->arena == NULL)
	{
		distil_release(alloc, made);
		return distil_fail_memory(err, 0);
	}
	*set = made;
	return DISTIL_OK;
}

void
distil_tensor_set_free(DistilTensorSet *set)
{
	if (set == NULL)
		return;
	distil_arena_free(set->arena);
	distil_release(set->alloc, set->tensors);
	distil_release(set->alloc, set);
}

/* "file is not valid": the detail says why. */
static DistilStatus
fail_file(const HeaderReader *header)
{
	return distil_fail(header->err, DISTIL_ERR_MODEL_FILE, "file \"%s\" is not a valid safetensors file",
					   header->file);
}

static DistilStatus
fail_tensor(const HeaderReader *header, const char *name, const char *problem)
{
	char		shown[120];

	fail_file(header);
	return distil_fail_detail(header->err, DISTIL_ERR_MODEL_FILE, "Tensor \"%s\" %s.",
							  distil_printable(shown, sizeof(shown), name, strlen(name)), problem);
}

static DistilTensor *
set_append(DistilTensorSet *set)
{
	if (set->n == set->capacity)
	{
		int			capacity = set->capacity == 0 ? 64 : set->capacity * 2;
		DistilTensor *tensors = distil_alloc_array(set->alloc, (size_t) capacity, sizeof(DistilTensor));

		if (tensors == NULL)
			return NULL;
		if (set->n > 0)
			memcpy(tensors, set->tensors, (size_t) set->n * sizeof(DistilTensor));
		distil_release(set->alloc, set->tensors);
		set->tensors = tensors;
		set->capacity = capacity;
	}
	return &set->tensors[set->n++];
}

/* shape and dtype -> rank, shape, count, bytes */
static DistilStatus
read_shape(const HeaderReader *header, DistilTensor *tensor, const char *name, const DistilJson *shape)
{
	size_t		count = 1;
	size_t		bytes;

	if (shape == NULL || distil_json_type(shape) != DISTIL_JSON_ARRAY)
		return fail_tensor(header, name, "has no \"shape\"");
	if (distil_json_count(shape) > DISTIL_MAX_RANK)
		return fail_tensor(header, name, "has too many dimensions");
	tensor->rank = (int) distil_json_count(shape);
	for (int i = 0; i < tensor->rank; i++)
	{
		const DistilJson *size = distil_json_item(shape, (size_t) i);

		if (distil_json_type(size) != DISTIL_JSON_INTEGER || distil_json_integer(size) < 0)
			return fail_tensor(header, name, "has a \"shape\" that is not a list of sizes");
		tensor->shape[i] = distil_json_integer(size);
		if (!distil_size_mul(&count, count, (size_t) tensor->shape[i]))
			return fail_tensor(header, name, "has a \"shape\" whose product overflows");
	}
	if (!distil_size_mul(&bytes, count, distil_dtype_size(tensor->dtype)))
		return fail_tensor(header, name, "has a \"shape\" whose product overflows");
	tensor->count = count;
	tensor->bytes = bytes;
	return DISTIL_OK;
}

static DistilStatus
read_offsets(const HeaderReader *header, DistilTensor *tensor, const char *name, const DistilJson *offsets)
{
	int64_t		range[2];

	if (offsets == NULL || distil_json_type(offsets) != DISTIL_JSON_ARRAY ||
		distil_json_count(offsets) != 2)
		return fail_tensor(header, name, "has no \"data_offsets\"");
	for (int i = 0; i < 2; i++)
	{
		const DistilJson *offset = distil_json_item(offsets, (size_t) i);

		if (distil_json_type(offset) != DISTIL_JSON_INTEGER || distil_json_integer(offset) < 0)
			return fail_tensor(header, name, "has \"data_offsets\" that are not offsets");
		range[i] = distil_json_integer(offset);
	}
	if (range[1] < range[0] || (uint64_t) range[1] > header->data_size)
		return fail_tensor(header, name, "lies outside the file");
	if ((uint64_t) (range[1] - range[0]) != tensor->bytes)
		return fail_tensor(header, name, "has a length that does not fit its shape");
	tensor->offset = header->data_start + (uint64_t) range[0];
	return DISTIL_OK;
}

static DistilStatus
read_tensor(const HeaderReader *header, const char *name, size_t length, const DistilJson *value)
{
	DistilTensorSet *set = header->set;
	DistilTensor tensor = {0};
	DistilTensor *added;
	const DistilJson *dtype;

	if (length == 0 || length + strlen(header->prefix) > DISTIL_MAX_NAME)
		return fail_tensor(header, name, "has an empty or overlong name");
	if (distil_json_type(value) != DISTIL_JSON_OBJECT || distil_json_count(value) != 3)
		return fail_tensor(header, name, "is not described by dtype, shape and data_offsets");
	dtype = distil_json_member(value, "dtype");
	if (dtype == NULL || distil_json_type(dtype) != DISTIL_JSON_STRING)
		return fail_tensor(header, name, "has no \"dtype\"");
	if (!distil_dtype_find(&tensor.dtype, distil_json_string(dtype, NULL)))
	{
		char		shown[120];
		char		kind[40];

		distil_printable(shown, sizeof(shown), name, length);
		distil_printable(kind, sizeof(kind), distil_json_string(dtype, NULL),
						 strlen(distil_json_string(dtype, NULL)));
		return distil_fail(header->err, DISTIL_ERR_UNSUPPORTED,
						   "tensor \"%s\" of file \"%s\" has data type \"%s\", "
						   "which is not supported", shown, header->file, kind);
	}
	DISTIL_FORWARD(read_shape(header, &tensor, name, distil_json_member(value, "shape")));
	DISTIL_FORWARD(read_offsets(header, &tensor, name, distil_json_member(value, "data_offsets")));
	if (set->n >= DISTIL_MAX_TENSORS)
		return distil_fail(header->err, DISTIL_ERR_LIMIT, "model has more than %d tensors",
						   DISTIL_MAX_TENSORS);
	tensor.reader = header->reader;
	tensor.name = distil_arena_printf(set->arena, "%s%s", header->prefix, name);
	added = tensor.name == NULL ? NULL : set_append(set);
	if (added == NULL)
		return distil_fail_memory(header->err, 0);
	*added = tensor;
	return DISTIL_OK;
}

static DistilStatus
read_metadata(const HeaderReader *header, const DistilJson *metadata)
{
	const void *at = NULL;
	const char *key;
	const DistilJson *value;

	if (distil_json_type(metadata) != DISTIL_JSON_OBJECT)
	{
		fail_file(header);
		return distil_fail_detail(header->err, DISTIL_ERR_MODEL_FILE,
								  "Its \"__metadata__\" is not an object.");
	}
	while ((at = distil_json_next(metadata, at, &key, NULL, &value)) != NULL)
	{
		if (distil_json_type(value) != DISTIL_JSON_STRING)
		{
			fail_file(header);
			return distil_fail_detail(header->err, DISTIL_ERR_MODEL_FILE,
									  "Its \"__metadata__\" holds something that is not a string.");
		}
		if (strcmp(key, "distil.container") == 0)
			header->set->is_container = true;
		else if (strcmp(key, "distil.parse_special") == 0)
			header->set->parse_special = strcmp(distil_json_string(value, NULL), "false") != 0;
	}
	return DISTIL_OK;
}

static int
compare_offsets(const void *a, const void *b)
{
	const DistilTensor *x = *(const DistilTensor *const *) a;
	const DistilTensor *y = *(const DistilTensor *const *) b;

	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* The tensors from `first` on must tile the data. */
static DistilStatus
check_tiling(const HeaderReader *header, int first)
{
	DistilTensorSet *set = header->set;
	int			n = set->n - first;
	const DistilTensor **order = distil_alloc_array(set->alloc, (size_t) n + 1, sizeof(*order));
	uint64_t	at = header->data_start;
	DistilStatus status = DISTIL_OK;

	if (order == NULL)
		return distil_fail_memory(header->err, (size_t) n * sizeof(*order));
	for (int i = 0; i < n; i++)
		order[i] = &set->tensors[first + i];
	qsort(order, (size_t) n, sizeof(*order), compare_offsets);
	for (int i = 0; i < n && status == DISTIL_OK; i++)
	{
		const char *name = order[i]->name + strlen(header->prefix);

		if (order[i]->offset < at)
			status = fail_tensor(header, name, "overlaps another one");
		else if (order[i]->offset > at)
			status = fail_tensor(header, name, "comes after a gap");
		at = order[i]->offset + order[i]->bytes;
	}
	distil_release(set->alloc, order);
	if (status == DISTIL_OK && at != header->data_start + header->data_size)
	{
		fail_file(header);
		return distil_fail_detail(header->err, DISTIL_ERR_MODEL_FILE,
								  "Its tensors end at byte %llu, the file at byte %llu.",
								  (unsigned long long) at,
								  (unsigned long long) (header->data_start + header->data_size));
	}
	return status;
}

/* The JSON text of the header: allocated, *length bytes. */
static DistilStatus
read_header(HeaderReader *header, char **text, size_t *length)
{
	unsigned char word[8];
	uint64_t	size = 0;

	*text = NULL;
	if (header->reader->size < 8)
	{
		fail_file(header);
		return distil_fail_detail(header->err, DISTIL_ERR_MODEL_FILE, "It has only %llu bytes.",
								  (unsigned long long) header->reader->size);
	}
	DISTIL_FORWARD(header->reader->read(header->reader->ctx, 0, word, 8, header->err));
	for (int i = 7; i >= 0; i--)
		size = size << 8 | word[i];
	if (size < 2 || size > header->reader->size - 8)
	{
		fail_file(header);
		return distil_fail_detail(header->err, DISTIL_ERR_MODEL_FILE,
								  "Its header is said to have %llu bytes; the file has %llu.",
								  (unsigned long long) size, (unsigned long long) header->reader->size);
	}
	if (size > DISTIL_MAX_JSON_BYTES)
	{
		distil_fail(header->err, DISTIL_ERR_LIMIT, "header of file \"%s\" is too large", header->file);
		return distil_fail_detail(header->err, DISTIL_ERR_LIMIT, "It has %llu bytes; the limit is %zu.",
								  (unsigned long long) size, DISTIL_MAX_JSON_BYTES);
	}
	*length = (size_t) size;
	*text = distil_alloc_array(header->set->alloc, *length, 1);
	if (*text == NULL)
		return distil_fail_memory(header->err, *length);
	header->data_start = 8 + size;
	header->data_size = header->reader->size - header->data_start;
	return header->reader->read(header->reader->ctx, 8, *text, *length, header->err);
}

static DistilStatus
read_members(const HeaderReader *header, const DistilJson *root)
{
	const void *at = NULL;
	const char *key;
	size_t		length;
	const DistilJson *value;
	int			first = header->set->n;

	if (distil_json_type(root) != DISTIL_JSON_OBJECT)
	{
		fail_file(header);
		return distil_fail_detail(header->err, DISTIL_ERR_MODEL_FILE, "Its header is not a JSON object.");
	}
	while ((at = distil_json_next(root, at, &key, &length, &value)) != NULL)
	{
		if (strcmp(key, "__metadata__") == 0)
			DISTIL_FORWARD(read_metadata(header, value));
		else
			DISTIL_FORWARD(read_tensor(header, key, length, value));
	}
	return check_tiling(header, first);
}

DistilStatus
distil_tensor_set_add(DistilTensorSet *set, const DistilReader *reader, const char *file,
					  const char *prefix,
					  DistilError *err)
{
	HeaderReader header = {.set = set,.reader = reader,.prefix = prefix,.err = err};
	DistilJsonDoc *doc = NULL;
	char	   *text = NULL;
	size_t		length = 0;
	char		what[128];
	DistilStatus status;

	distil_printable(header.file, sizeof(header.file), file, strlen(file));
	snprintf(what, sizeof(what), "header of file \"%s\"", header.file);
	status = read_header(&header, &text, &length);
	if (status == DISTIL_OK)
	{
		status = distil_json_parse(&doc, text, length, what, set->alloc, err);
		if (status == DISTIL_ERR_TEXT_FILE)
			status = DISTIL_ERR_MODEL_FILE;
	}
	distil_release(set->alloc, text);
	if (status == DISTIL_OK)
		status = read_members(&header, distil_json_root(doc));
	distil_json_free(doc);
	return status;
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(((const DistilTensor *) a)->name, ((const DistilTensor *) b)->name);
}

#define ROW_FACTORS ":rows"
#define COLUMN_FACTORS ":columns"
#define FACTORS_PIECE ((size_t) 1 << 17)	/* read at a time */

/* The n factors of a quantised tensor, in the set's arena; ones when it has none. */
static DistilStatus
read_factors(DistilTensorSet *set, const float **factors, const DistilTensor *tensor, const char *suffix,
			 int64_t n, DistilError *err)
{
	char		name[2 * DISTIL_MAX_NAME];
	float	   *values;
	const DistilTensor *stored;

	snprintf(name, sizeof(name), "%s%s", tensor->name, suffix);
	stored = distil_tensor_set_find(set, name);
	if (stored != NULL && (stored->dtype != DISTIL_DTYPE_F32 || stored->rank != 1 || stored->shape[0] != n))
	{
		char		shown[DISTIL_MAX_NAME + 1];

		return distil_fail(err, DISTIL_ERR_MODEL_FILE, "tensor \"%s\" does not fit the one it belongs to",
						   distil_printable(shown, sizeof(shown), name, strlen(name)));
	}
	values = distil_arena_alloc(set->arena, (size_t) n + 1, sizeof(float));
	if (values == NULL)
		return distil_fail_memory(err, (size_t) n * sizeof(float));
	for (size_t i = 0; i < (size_t) n; i += FACTORS_PIECE)
	{
		size_t		count = (size_t) n - i < FACTORS_PIECE ? (size_t) n - i : FACTORS_PIECE;

		if (stored != NULL)
			DISTIL_FORWARD(distil_tensor_read(stored, i * 4, values + i, count * 4, err));
		for (size_t k = i; stored == NULL && k < i + count; k++)
			values[k] = 1.0f;
	}
	*factors = values;
	return DISTIL_OK;
}

/* Of the absolute values; infinite when one is not finite. */
static float
largest(const float *values, int64_t n)
{
	float		most = 0.0f;

	for (int64_t i = 0; i < n; i++)
		most = !isfinite(values[i]) ? INFINITY : fmaxf(most, fabsf(values[i]));
	return most;
}

/* A matrix of I8 with factors is a quantised weight; any other I8 is none. */
static DistilStatus
find_quantized(DistilTensorSet *set, DistilTensor *tensor, DistilError *err)
{
	const float *rows;
	const float *columns;
	bool		found;
	char		name[2 * DISTIL_MAX_NAME];

	/* without numbers its shape bounds nothing: factors are made for as many rows as it says */
	if (tensor->dtype != DISTIL_DTYPE_I8 || tensor->rank != 2 || tensor->count == 0)
		return DISTIL_OK;
	snprintf(name, sizeof(name), "%s" ROW_FACTORS, tensor->name);
	found = distil_tensor_set_find(set, name) != NULL;
	snprintf(name, sizeof(name), "%s" COLUMN_FACTORS, tensor->name);
	if (!found && distil_tensor_set_find(set, name) == NULL)
		return DISTIL_OK;
	DISTIL_FORWARD(read_factors(set, &rows, tensor, ROW_FACTORS, tensor->shape[0], err));
	DISTIL_FORWARD(read_factors(set, &columns, tensor, COLUMN_FACTORS, tensor->shape[1], err));
	if (!isfinite(128.0f * largest(rows, tensor->shape[0]) * largest(columns, tensor->shape[1])))
		return distil_fail(err, DISTIL_ERR_MODEL_FILE, "tensor \"%s\" has factors that are not finite",
						   distil_printable(name, sizeof(name), tensor->name, strlen(tensor->name)));
	tensor->row_factors = rows;
	tensor->column_factors = columns;
	return DISTIL_OK;
}

bool
distil_tensor_is_weight(const DistilTensor *tensor)
{
	return distil_dtype_is_weight(tensor->dtype) || tensor->row_factors != NULL;
}

bool
distil_tensor_is_factor(const DistilTensor *tensor)
{
	const char *colon = strrchr(tensor->name, ':');

	return colon != NULL && (strcmp(colon, ROW_FACTORS) == 0 || strcmp(colon, COLUMN_FACTORS) == 0);
}

DistilStatus
distil_tensor_floats(const DistilTensor *tensor, uint64_t first, float *to, size_t n, void *scratch,
					 DistilError *err)
{
	size_t		size = distil_dtype_size(tensor->dtype);
	const int8_t *stored = scratch;
	uint64_t	row;
	uint64_t	column;

	if (tensor->dtype == DISTIL_DTYPE_F32)
		return distil_tensor_read(tensor, first * size, to, n * size, err);
	DISTIL_FORWARD(distil_tensor_read(tensor, first * size, scratch, n * size, err));
	if (tensor->row_factors == NULL)
	{
		distil_convert_to_float(to, scratch, tensor->dtype, n);
		return DISTIL_OK;
	}
	row = first / (uint64_t) tensor->shape[1];
	column = first % (uint64_t) tensor->shape[1];
	for (size_t i = 0; i < n; i++)
	{
		to[i] = (float) stored[i] * tensor->row_factors[row] * tensor->column_factors[column];
		if (++column == (uint64_t) tensor->shape[1])
		{
			column = 0;
			row++;
		}
	}
	return DISTIL_OK;
}

DistilStatus
distil_tensor_set_finish(DistilTensorSet *set, DistilError *err)
{
	if (set->n > 1)
		qsort(set->tensors, (size_t) set->n, sizeof(DistilTensor), compare_names);
	for (int i = 1; i < set->n; i++)
	{
		const char *name = set->tensors[i].name;
		char		shown[120];

		if (strcmp(set->tensors[i - 1].name, name) == 0)
			return distil_fail(err, DISTIL_ERR_MODEL_FILE, "tensor \"%s\" is in two files of the model",
							   distil_printable(shown, sizeof(shown), name, strlen(name)));
	}
	for (int i = 0; i < set->n; i++)
		DISTIL_FORWARD(find_quantized(set, &set->tensors[i], err));
	return DISTIL_OK;
}

const DistilTensor *
distil_tensor_set_find(const DistilTensorSet *set, const char *name)
{
	DistilTensor key = {.name = name};

	if (set->n == 0)
		return NULL;
	return bsearch(&key, set->tensors, (size_t) set->n, sizeof(DistilTensor), compare_names);
}

DistilStatus
distil_tensor_read(const DistilTensor *tensor, uint64_t first, void *buffer, size_t bytes, DistilError *err)
{
	if (first > tensor->bytes || bytes > tensor->bytes - first)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "read beyond the end of a tensor");
	if (bytes == 0)
		return DISTIL_OK;
	return tensor->reader->read(tensor->reader->ctx, tensor->offset + first, buffer, bytes, err);
}

/* ---------- writing ---------- */

static bool
append_text(DistilBuffer *out, const char *text)
{
	return distil_buffer_append(out, text, strlen(text));
}

static bool
append_entry(DistilBuffer *out, const DistilTensor *tensor, size_t skip, uint64_t begin)
{
	const char *name = tensor->name + skip;
	char		text[128];

	if (!distil_json_quote(out, name, strlen(name)))
		return false;
	snprintf(text, sizeof(text), ":{\"dtype\":\"%s\",\"shape\":[", distil_dtype_name(tensor->dtype));
	if (!append_text(out, text))
		return false;
	for (int i = 0; i < tensor->rank; i++)
	{
		snprintf(text, sizeof(text), "%s%lld", i > 0 ? "," : "", (long long) tensor->shape[i]);
		if (!append_text(out, text))
			return false;
	}
	snprintf(text, sizeof(text), "],\"data_offsets\":[%llu,%llu]}", (unsigned long long) begin,
			 (unsigned long long) (begin + tensor->bytes));
	return append_text(out, text);
}

DistilStatus
distil_safetensors_header(DistilBuffer *out, const DistilTensor *const *tensors, int n, size_t skip,
						  const char *metadata, DistilError *err)
{
	size_t		start = out->length;
	uint64_t	at = 0;
	uint64_t	size;
	bool		ok;

	ok = distil_buffer_append(out, "\0\0\0\0\0\0\0\0", 8) && append_text(out, "{\"__metadata__\":") &&
		append_text(out, metadata);
	for (int i = 0; i < n && ok; i++)
	{
		ok = append_text(out, ",") && append_entry(out, tensors[i], skip, at);
		if (__builtin_add_overflow(at, tensors[i]->bytes, &at))
			return distil_fail(err, DISTIL_ERR_LIMIT, "model is too large");
	}
	ok = ok && append_text(out, "}");
	while (ok && (out->length - start) % 8 != 0)
		ok = append_text(out, " ");
	if (!ok)
		return distil_fail_memory(err, out->length);
	size = out->length - start - 8;
	for (int i = 0; i < 8; i++)
		out->data[start + (size_t) i] = (char) (size >> (8 * i) & 0xff);
	return DISTIL_OK;
}
