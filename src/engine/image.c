/*
 * image.c
 *		Turn a container into an image, and check an image.
 *
 * An image is written front to back in one pass: all sizes are known from the
 * configuration before the first weight is read, and the content hash comes last.
 * The rule a newcomer would break: an image is read by processes that trust nothing but
 * its header's checksum, so whatever they follow (offsets, counts) must be checked in
 * distil_image_check or in distil_model_open, and an order of lines by the kernel that uses it.
 */
#include "image.h"

#include "checkpoint.h"
#include "config.h"
#include "container.h"
#include "folder.h"
#include "status.h"
#include "tokenizer.h"

#include <string.h>

/* The sink gets pieces of this size. */
#define PIECE ((size_t) 1 << 20)
/* Half-precision values converted at a time. */
#define HALVES ((size_t) 1 << 17)

typedef struct ImageWriter
{
	const DistilSink *sink;
	const DistilPoll *poll;
	DistilError *err;
	char	   *piece;			/* PIECE bytes, used of them filled */
	size_t		used;
	char	   *halves;			/* 2 * HALVES bytes */
	float	   *rows;			/* of the largest panel */
	float	   *panel;			/* they, packed; behind them in the same memory */
	const DistilAllocator *alloc;
	uint64_t	written;		/* put so far, staged bytes included */
	uint64_t	hash;
} ImageWriter;

/* What one distil_image_write works with. */
typedef struct ImageSource
{
	const char *layout;
	DistilContainer *container;
	DistilArena *arena;
	DistilSpec	spec;
	DistilSpecFacts facts;
	const DistilTensor *const *bound;
	DistilBuffer files;
	DistilBuffer tokenizer;
	DistilImageHeader header;
	const DistilAllocator *alloc;
} ImageSource;

uint64_t
distil_image_hash(uint64_t hash, const void *data, size_t bytes)
{
	const char *at = data;

	for (size_t i = 0; i < bytes; i += 8)
	{
		uint64_t	word;

		memcpy(&word, at + i, sizeof(word));
		hash = (hash ^ word) * UINT64_C(0xFF51AFD7ED558CCD);
		hash ^= hash >> 32;
	}
	return hash;
}

/* ---------- writing ---------- */

/* All pieces but the last are full, so the hash sees whole words. */
static DistilStatus
writer_flush(ImageWriter *writer)
{
	if (writer->used == 0)
		return DISTIL_OK;
	DISTIL_POLL(writer->poll, writer->err);
	writer->hash = distil_image_hash(writer->hash, writer->piece, writer->used);
	DISTIL_FORWARD(writer->sink->write(writer->sink->ctx, writer->piece, writer->used, writer->err));
	writer->used = 0;
	return DISTIL_OK;
}

/* Data, or zeros when it is NULL. */
static DistilStatus
writer_put(ImageWriter *writer, const void *data, uint64_t bytes)
{
	const char *at = data;

	while (bytes > 0)
	{
		size_t		room = PIECE - writer->used;
		size_t		part = bytes < room ? (size_t) bytes : room;

		if (at != NULL)
		{
			memcpy(writer->piece + writer->used, at, part);
			at += part;
		}
		else
			memset(writer->piece + writer->used, 0, part);
		writer->used += part;
		writer->written += part;
		bytes -= part;
		if (writer->used == PIECE)
			DISTIL_FORWARD(writer_flush(writer));
	}
	return DISTIL_OK;
}

static DistilStatus
writer_pad(ImageWriter *writer, uint64_t offset)
{
	return writer_put(writer, NULL, offset - writer->written);
}

/* A tensor as float32, straight into the piece. */
static DistilStatus
writer_tensor(ImageWriter *writer, const DistilTensor *tensor)
{
	uint64_t	done = 0;

	while (done < tensor->count)
	{
		size_t		room = (PIECE - writer->used) / sizeof(float);
		size_t		n = tensor->count - done < room ? (size_t) (tensor->count - done) : room;
		char	   *to = writer->piece + writer->used;

		n = n < HALVES ? n : HALVES;
		DISTIL_FORWARD(distil_tensor_floats(tensor, done, (float *) (void *) to, n, writer->halves,
											writer->err));
		done += n;
		writer->used += n * sizeof(float);
		writer->written += n * sizeof(float);
		if (writer->used == PIECE)
			DISTIL_FORWARD(writer_flush(writer));
	}
	return DISTIL_OK;
}

/* `count` values of stacked sources, from value `first` on, as float32. */
static DistilStatus
read_values(ImageWriter *writer, float *to, const DistilTensor *const *sources, int nsources,
			uint64_t first, size_t count)
{
	for (int k = 0; k < nsources && count > 0; first -= sources[k]->count, k++)
		while (count > 0 && first < sources[k]->count)
		{
			uint64_t	left = sources[k]->count - first;
			size_t		n = count < HALVES ? count : HALVES;

			n = n < left ? n : (size_t) left;
			DISTIL_FORWARD(distil_tensor_floats(sources[k], first, to, n, writer->halves, writer->err));
			to += n;
			first += n;
			count -= n;
		}
	return DISTIL_OK;
}

/* Tensors [cols, rows] of a parameter [rows, cols], one behind the other: *whole is to be released. */
static DistilStatus
read_transposed(ImageWriter *writer, float **whole, const DistilParam *param,
				const DistilTensor *const *sources)
{
	*whole = distil_alloc_array(writer->alloc, param->count, sizeof(float));
	if (*whole == NULL)
		return distil_fail_memory(writer->err, param->count * sizeof(float));
	for (size_t at = 0; at < param->count; at += HALVES)
	{
		DISTIL_POLL(writer->poll, writer->err);
		DISTIL_FORWARD(read_values(writer, *whole + at, sources, param->nsources, at,
								   param->count - at < HALVES ? param->count - at : HALVES));
	}
	return DISTIL_OK;
}

/* Rows first .. first + count of a parameter out of its transposed tensors. */
static void
gather_rows(float *to, const float *whole, const DistilParam *param, int first, int count)
{
	size_t		rows = (size_t) (param->rows / param->nsources);
	size_t		cols = (size_t) param->cols;

	for (int r = 0; r < count; r++)
	{
		size_t		row = (size_t) (first + r);
		const float *from = whole + row / rows * rows * cols + row % rows;

		for (size_t j = 0; j < cols; j++)
			*to++ = from[j * rows];
	}
}

/*
 * A parameter that is packed or has transposed tensors, a panel of rows at a time; whole NULL: they are not.
 */
static DistilStatus
writer_panels(ImageWriter *writer, const DistilParam *param, const DistilTensor *const *sources,
			  const float *whole)
{
	size_t		cols = (size_t) param->cols;

	for (int row = 0; row < param->rows; row += DISTIL_PANEL)
	{
		int			count = param->rows - row < DISTIL_PANEL ? param->rows - row : DISTIL_PANEL;
		size_t		bytes = (size_t) count * cols * sizeof(float);

		if (whole != NULL)
			gather_rows(writer->rows, whole, param, row, count);
		else
			DISTIL_FORWARD(read_values(writer, writer->rows, sources, param->nsources, (uint64_t) row * cols,
									   (size_t) count * cols));
		if ((param->flags & DISTIL_PARAM_PACKED) != 0)
		{
			bytes = distil_weight_bytes(param->type, DISTIL_PANEL, param->cols);
			if (param->type == DISTIL_TYPE_F32)
				distil_pack_panel(writer->panel, writer->rows, cols, count, param->cols);
			else
				distil_pack_panel_bf16((uint16_t *) (void *) writer->panel, writer->rows, cols, count,
									   param->cols);
		}
		DISTIL_FORWARD(writer_put(writer, (param->flags & DISTIL_PARAM_PACKED) != 0 ? writer->panel
								  : writer->rows, bytes));
	}
	return DISTIL_OK;
}

static DistilStatus
writer_int8(ImageWriter *writer, const DistilParam *param, const DistilTensor *const *sources)
{
	char	   *bytes;
	DistilStatus status = distil_image_int8(&bytes, param, sources, writer->alloc, writer->poll, writer->err);

	if (status == DISTIL_OK)
		status = writer_put(writer, bytes, distil_param_bytes(param));
	distil_release(writer->alloc, bytes);
	return status;
}

static DistilStatus
writer_param(ImageWriter *writer, const DistilParam *param, const DistilTensor *const *sources)
{
	float	   *whole = NULL;
	DistilStatus status = DISTIL_OK;

	if ((param->flags & (DISTIL_PARAM_PACKED | DISTIL_PARAM_TRANSPOSED)) == 0)
	{
		for (int k = 0; k < param->nsources; k++)
			DISTIL_FORWARD(writer_tensor(writer, sources[k]));
		return DISTIL_OK;
	}
	if (param->type == DISTIL_TYPE_INT8)
		return writer_int8(writer, param, sources);
	if ((param->flags & DISTIL_PARAM_TRANSPOSED) != 0)
		status = read_transposed(writer, &whole, param, sources);
	if (status == DISTIL_OK)
		status = writer_panels(writer, param, sources, whole);
	distil_release(writer->alloc, whole);
	return status;
}

static DistilStatus
write_weights(ImageWriter *writer, const ImageSource *source)
{
	const DistilParamTable *table = &source->spec.table;
	uint64_t	base = source->header.weights_offset;

	for (int i = 0; i < table->n; i++)
	{
		const DistilParam *param = &table->params[i];
		int			bound = i == source->spec.lm.low_weight ? source->spec.lm.decoder_weight : i;
		const DistilTensor *const *sources = source->bound + (size_t) bound * DISTIL_PARAM_MAX_SOURCES;

		DISTIL_FORWARD(writer_pad(writer, base + param->offset * sizeof(float)));
		DISTIL_FORWARD(writer_param(writer, param, sources));
	}
	return writer_pad(writer, base + table->total * sizeof(float));
}

/* ---------- sections ---------- */

static DistilStatus
append_file(DistilBuffer *out, DistilImageFile *entry, const DistilFolder *folder, const DistilFile *file,
			DistilError *err)
{
	char	   *data;
	size_t		length;
	bool		ok;

	entry->name_offset = out->length;
	entry->name_length = strlen(file->name);
	if (!distil_buffer_append(out, file->name, strlen(file->name) + 1))
		return distil_fail_memory(err, out->length);
	DISTIL_FORWARD(distil_folder_read(folder, file->name, DISTIL_MAX_JSON_BYTES, &data, &length, out->alloc,
									  err));
	entry->data_offset = out->length;
	entry->data_size = length;
	ok = distil_buffer_append(out, data, length + 1);
	distil_release(out->alloc, data);
	return ok ? DISTIL_OK : distil_fail_memory(err, length);
}

static DistilStatus
make_files(ImageSource *source, DistilError *err)
{
	const DistilFolder *folder = &source->container->folder;
	size_t		table = (size_t) folder->nfiles * sizeof(DistilImageFile);
	DistilImageFile *entries = distil_arena_alloc(source->arena, (size_t) folder->nfiles + 1,
												  sizeof(*entries));

	if (entries == NULL || !distil_buffer_append(&source->files, entries, table))
		return distil_fail_memory(err, table);
	for (int i = 0; i < folder->nfiles; i++)
		DISTIL_FORWARD(append_file(&source->files, &entries[i], folder, &folder->files[i], err));
	if (table > 0)
		memcpy(source->files.data, entries, table);
	return DISTIL_OK;
}

static uint64_t
aligned(uint64_t offset)
{
	return (offset + DISTIL_IMAGE_ALIGN - 1) / DISTIL_IMAGE_ALIGN * DISTIL_IMAGE_ALIGN;
}

static void
make_header(ImageSource *source, const uint8_t sha256[32])
{
	DistilImageHeader *header = &source->header;

	memcpy(header->magic, DISTIL_IMAGE_MAGIC, sizeof(header->magic));
	header->version = DISTIL_IMAGE_VERSION;
	header->byte_order = DISTIL_IMAGE_BYTE_ORDER;
	memcpy(header->layout, source->layout, strlen(source->layout));
	memcpy(header->sha256, sha256, sizeof(header->sha256));
	header->files_offset = sizeof(*header);
	header->files_size = source->files.length;
	header->tokenizer_offset = aligned(header->files_offset + header->files_size);
	header->tokenizer_size = source->tokenizer.length;
	header->weights_offset = aligned(header->tokenizer_offset + header->tokenizer_size);
	header->weights_count = source->spec.table.total;
	header->trailer_offset = aligned(header->weights_offset + header->weights_count * sizeof(float));
	header->size = header->trailer_offset + sizeof(DistilImageTrailer);
	header->parameters = source->facts.parameters;
	header->model_max_length = source->facts.model_max_length;
	header->nfiles = (uint32_t) source->container->folder.nfiles;
	header->with_lm = source->facts.with_lm;
	header->head = (uint32_t) (source->facts.head + 1);
	for (int i = 0; i < DISTIL_DTYPE_COUNT; i++)
		if (strcmp(distil_dtype_long_name((DistilDtype) i), source->facts.dtype) == 0)
			header->dtype = (uint32_t) i;
	header->checksum = distil_image_hash(DISTIL_IMAGE_HASH_START, header,
										 offsetof(DistilImageHeader, checksum));
}

static DistilStatus
open_source(ImageSource *source, const DistilReader *reader, const DistilPoll *poll, DistilError *err)
{
	const DistilFolder *folder;

	source->arena = distil_arena_create(source->alloc);
	if (source->arena == NULL)
		return distil_fail_memory(err, 0);
	DISTIL_FORWARD(distil_container_open(&source->container, reader, source->alloc, err));
	folder = &source->container->folder;
	DISTIL_FORWARD(distil_spec_facts(&source->facts, folder, source->container->set, source->alloc, err));
	DISTIL_FORWARD(distil_spec_build(&source->spec, folder, &source->facts, source->arena, source->alloc,
									 err));
	DISTIL_FORWARD(distil_checkpoint_bind(&source->bound, &source->spec, source->container->set,
										  source->arena, err));
	distil_image_find_quantized(source->header.quantized, &source->spec, source->bound);
	if (!distil_spec_pack(&source->spec, source->layout, source->header.quantized))
		return distil_fail_memory(err, 0);
	DISTIL_POLL(poll, err);
	DISTIL_FORWARD(make_files(source, err));
	return distil_tokenizer_compile(&source->tokenizer, folder, source->container->parse_special,
									source->spec.pipeline.lower_case, source->spec.config.vocabulary,
									source->alloc, poll, err);
}

static DistilStatus
write_source(ImageSource *source, ImageWriter *writer)
{
	const DistilImageHeader *header = &source->header;
	DistilImageTrailer trailer = {0};

	DISTIL_FORWARD(writer_put(writer, header, sizeof(*header)));
	DISTIL_FORWARD(writer_put(writer, source->files.data, source->files.length));
	DISTIL_FORWARD(writer_pad(writer, header->tokenizer_offset));
	DISTIL_FORWARD(writer_put(writer, source->tokenizer.data, source->tokenizer.length));
	DISTIL_FORWARD(writer_pad(writer, header->weights_offset));
	DISTIL_FORWARD(write_weights(writer, source));
	DISTIL_FORWARD(writer_pad(writer, header->trailer_offset));
	DISTIL_FORWARD(writer_flush(writer));
	trailer.content_hash = writer->hash;
	DISTIL_FORWARD(writer_put(writer, &trailer, sizeof(trailer)));
	return writer_flush(writer);
}

/* Floats of the largest panel, filled up. */
static size_t
largest_panel(const DistilParamTable *table)
{
	size_t		largest = 0;

	for (int i = 0; i < table->n; i++)
		if ((table->params[i].flags & (DISTIL_PARAM_PACKED | DISTIL_PARAM_TRANSPOSED)) != 0)
			largest = (size_t) table->params[i].cols > largest ? (size_t) table->params[i].cols : largest;
	return (largest + 32) * DISTIL_PANEL;
}

DistilStatus
distil_image_write(const char *layout, const DistilReader *container, const uint8_t sha256[32],
				   const DistilSink *sink, const DistilAllocator *alloc, const DistilPoll *poll,
				   DistilError *err)
{
	ImageSource source = {.layout = layout,.alloc = alloc};
	ImageWriter writer = {.sink = sink,.poll = poll,.err = err,.alloc = alloc,
	.hash = DISTIL_IMAGE_HASH_START};
	DistilStatus status;
	size_t		panel;

	distil_buffer_init(&source.files, alloc);
	distil_buffer_init(&source.tokenizer, alloc);
	status = open_source(&source, container, poll, err);
	if (status == DISTIL_OK)
	{
		writer.piece = distil_alloc_array(alloc, PIECE, 1);
		writer.halves = distil_alloc_array(alloc, HALVES, 2);
		panel = largest_panel(&source.spec.table);
		writer.rows = distil_alloc_array(alloc, panel, 2 * sizeof(float));
		writer.panel = writer.rows != NULL ? writer.rows + panel : NULL;
		if (writer.piece == NULL || writer.halves == NULL || writer.rows == NULL)
			status = distil_fail_memory(err, PIECE);
	}
	if (status == DISTIL_OK)
	{
		make_header(&source, sha256);
		status = write_source(&source, &writer);
	}
	distil_release(alloc, writer.piece);
	distil_release(alloc, writer.halves);
	distil_release(alloc, writer.rows);
	distil_buffer_free(&source.files);
	distil_buffer_free(&source.tokenizer);
	distil_container_free(source.container);
	distil_arena_free(source.arena);
	return status;
}

/* ---------- checking ---------- */

static DistilStatus
fail_image(DistilError *err, const char *detail)
{
	distil_fail(err, DISTIL_ERR_CORRUPT, "the prepared copy of the model is damaged or of another version");
	return distil_fail_detail(err, DISTIL_ERR_CORRUPT, "%s", detail);
}

/* A section must follow the one before it and end before the trailer. */
static bool
section_ok(uint64_t offset, uint64_t size, uint64_t *end, uint64_t limit)
{
	if (offset % DISTIL_IMAGE_ALIGN != 0 || offset < *end || offset > limit || size > limit - offset)
		return false;
	*end = offset + size;
	return true;
}

DistilStatus
distil_image_check(const void *image, size_t size, const uint8_t sha256[32], DistilError *err)
{
	DistilImageHeader header;
	uint64_t	end = sizeof(header);

	if (size < sizeof(header) + sizeof(DistilImageTrailer))
		return fail_image(err, "It is too short.");
	memcpy(&header, image, sizeof(header));
	if (memcmp(header.magic, DISTIL_IMAGE_MAGIC, sizeof(header.magic)) != 0 ||
		header.version != DISTIL_IMAGE_VERSION || header.byte_order != DISTIL_IMAGE_BYTE_ORDER ||
		memchr(header.layout, '\0', sizeof(header.layout)) == NULL || !distil_layout_known(header.layout))
		return fail_image(err, "Its header has another format.");
	if (header.checksum != distil_image_hash(DISTIL_IMAGE_HASH_START, &header,
											 offsetof(DistilImageHeader, checksum)))
		return fail_image(err, "The checksum of its header does not fit.");
	if (sha256 != NULL && memcmp(header.sha256, sha256, sizeof(header.sha256)) != 0)
		return fail_image(err, "It was made from another model.");
	if (header.size != size || header.trailer_offset != size - sizeof(DistilImageTrailer) ||
		header.trailer_offset % DISTIL_IMAGE_ALIGN != 0)
		return fail_image(err, "Its size does not fit its header.");
	if (header.weights_count > size / sizeof(float) || header.nfiles > DISTIL_MAX_FILES ||
		header.dtype >= DISTIL_DTYPE_COUNT || header.head > DISTIL_HEAD_KINDS ||
		!section_ok(header.files_offset, header.files_size, &end, header.trailer_offset) ||
		!section_ok(header.tokenizer_offset, header.tokenizer_size, &end, header.trailer_offset) ||
		!section_ok(header.weights_offset, header.weights_count * sizeof(float), &end,
					header.trailer_offset) ||
		header.nfiles * sizeof(DistilImageFile) > header.files_size)
		return fail_image(err, "Its sections do not fit.");
	return DISTIL_OK;
}

DistilStatus
distil_image_verify(const void *image, size_t size, const DistilPoll *poll, DistilError *err)
{
	const char *bytes = image;
	DistilImageTrailer trailer;
	uint64_t	hash = DISTIL_IMAGE_HASH_START;
	size_t		end;

	DISTIL_FORWARD(distil_image_check(image, size, NULL, err));
	end = size - sizeof(trailer);
	for (size_t at = 0; at < end; at += PIECE)
	{
		DISTIL_POLL(poll, err);
		hash = distil_image_hash(hash, bytes + at, end - at < PIECE ? end - at : PIECE);
	}
	memcpy(&trailer, bytes + end, sizeof(trailer));
	if (trailer.content_hash != hash)
		return fail_image(err, "The hash of its content does not fit.");
	return DISTIL_OK;
}
