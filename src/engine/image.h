/*
 * image.h
 *		Layout of an image: the flat, read-only form of a model that processes map.
 *
 * header (256 bytes) | files | tokenizer blob | weights | trailer (64 bytes)
 * Every section starts at a multiple of 64.  Numbers are in the machine's own byte
 * order: an image is a cache, made where it is used; the byte order mark refuses others.
 */
#ifndef DISTIL_IMAGE_H
#define DISTIL_IMAGE_H

#include "model.h"

#define DISTIL_IMAGE_MAGIC "distilIM"
#define DISTIL_IMAGE_VERSION 4
#define DISTIL_IMAGE_BYTE_ORDER 0x01020304u
#define DISTIL_IMAGE_ALIGN 64

typedef struct DistilImageHeader
{
	char		magic[8];
	uint32_t	version;
	uint32_t	byte_order;
	char		layout[16];		/* DISTIL_LAYOUT_..., terminated */
	uint8_t		sha256[32];		/* of the container */
	uint64_t	size;			/* of the image */
	uint64_t	files_offset;
	uint64_t	files_size;
	uint64_t	tokenizer_offset;
	uint64_t	tokenizer_size;
	uint64_t	weights_offset;
	uint64_t	weights_count;	/* floats */
	uint64_t	trailer_offset;
	int64_t		parameters;
	int64_t		model_max_length;
	uint32_t	nfiles;
	uint32_t	dtype;			/* DistilDtype of the stored weights */
	uint32_t	with_lm;
	uint32_t	head;			/* DistilHeadKind + 1; 0: none */
	/* bit 4 * layer + DistilPlace: that weight is INT8 in this image (DISTIL_LAYOUT_INT8P16...) */
	uint64_t	quantized[DISTIL_QUANTIZED_WORDS];
	uint64_t	padding[3];
	uint64_t	checksum;		/* of the bytes before it */
} DistilImageHeader;

/* The files section starts with one entry per file; offsets count from the section. */
typedef struct DistilImageFile
{
	uint64_t	name_offset;	/* terminated */
	uint64_t	name_length;
	uint64_t	data_offset;	/* terminated too */
	uint64_t	data_size;
} DistilImageFile;

typedef struct DistilImageTrailer
{
	uint64_t	content_hash;	/* of everything before the trailer */
	uint64_t	padding[7];
} DistilImageTrailer;

_Static_assert(sizeof(DistilImageHeader) == 320, "image header is 320 bytes");
_Static_assert(sizeof(DistilImageTrailer) == 64, "image trailer is 64 bytes");

/* Fast 64-bit hash of whole 8-byte words (bytes is a multiple of 8); finds damage, not malice. */
extern uint64_t distil_image_hash(uint64_t hash, const void *data, size_t bytes);
#define DISTIL_IMAGE_HASH_START UINT64_C(0x9E3779B97F4A7C15)

/* Which weights of layers can be INT8; bound: as of distil_checkpoint_bind. */
struct DistilTensor;
extern void distil_image_find_quantized(uint64_t quantized[DISTIL_QUANTIZED_WORDS], const DistilSpec *spec,
										const struct DistilTensor *const *bound);
/*
 * An INT8 parameter as it lies in an image: *bytes
 * [distil_param_bytes], to be released also after a failure.
 */
extern DistilStatus distil_image_int8(char **bytes, const DistilParam *param,
									  const struct DistilTensor *const *sources, const DistilAllocator *alloc,
									  const DistilPoll *poll, DistilError *err);

/* Magic, version, byte order, checksum, sections inside `size`; sha256 NULL: any. */
extern DistilStatus distil_image_check(const void *image, size_t size, const uint8_t sha256[32],
									   DistilError *err);

#endif							/* DISTIL_IMAGE_H */
