/*
 * test_safetensors.c
 *		The strict reader: what it accepts, and every way a file can lie.
 *
 * Headers are written as text here; the data is zeros unless a test needs values.
 */
#include "safetensors.h"
#include "status.h"
#include "test_folder.h"

#include <stdint.h>

/* A file of this header text and this many data bytes. */
static TestBytes
make_file(const char *header, size_t data)
{
	TestBytes	file = {0};
	uint64_t	length = strlen(header);

	file.length = 8 + strlen(header) + data;
	file.data = calloc(file.length + 1, 1);
	for (int i = 0; i < 8; i++)
		file.data[i] = (char) (length >> (8 * i) & 0xff);
	memcpy(file.data + 8, header, strlen(header));
	return file;
}

static DistilStatus
open_with(TestBytes *file, const DistilAllocator *alloc, DistilError *err)
{
	DistilReader reader = test_bytes_reader(file);
	DistilTensorSet *set;
	DistilStatus status = distil_tensor_set_create(&set, alloc, err);

	if (status == DISTIL_OK)
		status = distil_tensor_set_add(set, &reader, "m.safetensors", "", err);
	if (status == DISTIL_OK)
		status = distil_tensor_set_finish(set, err);
	distil_tensor_set_free(set);
	return status;
}

static DistilStatus
open_text(const char *header, size_t data, DistilError *err)
{
	TestBytes	file = make_file(header, data);
	DistilStatus status = open_with(&file, distil_alloc_system(), err);

	test_bytes_free(&file);
	return status;
}

#define A_2x3 "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"
#define B_4 "\"b\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[24,32]}"

static void
test_accepted(void)
{
	TestBytes	file = make_file("{\"__metadata__\":{\"format\":\"pt\"}," B_4 "," A_2x3 "}   ", 32);
	DistilReader reader = test_bytes_reader(&file);
	DistilTensorSet *set;
	const DistilTensor *tensor;
	DistilError err;
	float		value = 1.5f;
	float		back = 0;

	memcpy(file.data + file.length - 32 + 20, &value, 4);
	CHECK(distil_tensor_set_create(&set, distil_alloc_system(), &err) == DISTIL_OK);
	CHECK(distil_tensor_set_add(set, &reader, "m", "2_Dense/", &err) == DISTIL_OK);
	CHECK(distil_tensor_set_finish(set, &err) == DISTIL_OK);
	CHECK(set->n == 2 && !set->is_container && set->parse_special);
	tensor = distil_tensor_set_find(set, "2_Dense/a");
	CHECK(tensor != NULL && tensor->rank == 2 && tensor->shape[0] == 2 && tensor->shape[1] == 3);
	CHECK(tensor != NULL && tensor->dtype == DISTIL_DTYPE_F32 && tensor->count == 6 && tensor->bytes == 24);
	CHECK(tensor != NULL && distil_tensor_read(tensor, 20, &back, 4, &err) == DISTIL_OK && back == 1.5f);
	CHECK(tensor != NULL && distil_tensor_read(tensor, 21, &back, 4, &err) == DISTIL_ERR_ARGUMENT);
	CHECK(tensor != NULL && distil_tensor_read(tensor, UINT64_MAX, &back, 4, &err) == DISTIL_ERR_ARGUMENT);
	CHECK(distil_tensor_set_find(set, "a") == NULL);
	/* the same file again: every name twice */
	CHECK(distil_tensor_set_add(set, &reader, "n", "2_Dense/", &err) == DISTIL_OK);
	CHECK(distil_tensor_set_finish(set, &err) == DISTIL_ERR_MODEL_FILE);
	distil_tensor_set_free(set);
	test_bytes_free(&file);

	CHECK(open_text("{}", 0, &err) == DISTIL_OK);
	CHECK(open_text("{\"s\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}}", 8,
					&err) == DISTIL_OK);
	/* empty tensors, also in the middle */
	CHECK(open_text("{\"e\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[24,24]}," A_2x3 "," B_4 "}",
					32, &err) == DISTIL_OK);
}

static void
test_refused(void)
{
#define T(dtype, shape, offsets) \
	"{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
	static const struct
	{
		const char *header;
		size_t		data;
		DistilStatus status;
		const char *detail;
	}			cases[] = {
		{"[]", 0, DISTIL_ERR_MODEL_FILE, "not a JSON object"},
		{"{\"a\":1}", 0, DISTIL_ERR_MODEL_FILE, "is not described"},
		{"{" A_2x3 "}", 23, DISTIL_ERR_MODEL_FILE, "outside the file"},
		{"{" A_2x3 "}", 25, DISTIL_ERR_MODEL_FILE, "end at byte"},
		{"{}", 1, DISTIL_ERR_MODEL_FILE, "end at byte"},
		{"{" B_4 "}", 32, DISTIL_ERR_MODEL_FILE, "after a gap"},
		{"{" A_2x3 ",\"c\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0,24]}}", 24,
			DISTIL_ERR_MODEL_FILE, "overlaps"},
		{"{" A_2x3 ",\"c\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[20,28]}}", 28,
			DISTIL_ERR_MODEL_FILE, "overlaps"},
		{"{" A_2x3 "," A_2x3 "}", 24, DISTIL_ERR_MODEL_FILE, "duplicate"},
		{T("\"F32\"", "[2,3]", "[0,20]"), 20, DISTIL_ERR_MODEL_FILE, "does not fit its shape"},
		{T("\"F32\"", "[2,3]", "[24,0]"), 24, DISTIL_ERR_MODEL_FILE, "outside the file"},
		{T("\"F32\"", "[2,3]", "[-4,20]"), 24, DISTIL_ERR_MODEL_FILE, "not offsets"},
		{T("\"F32\"", "[2,3]", "[0,24,48]"), 24, DISTIL_ERR_MODEL_FILE, "data_offsets"},
		{T("\"F32\"", "[2,3]", "[0.0,24.0]"), 24, DISTIL_ERR_MODEL_FILE, "not offsets"},
		{T("\"F32\"", "[2,3]", "\"0\""), 24, DISTIL_ERR_MODEL_FILE, "data_offsets"},
		{T("\"F32\"", "[-2,-3]", "[0,24]"), 24, DISTIL_ERR_MODEL_FILE, "list of sizes"},
		{T("\"F32\"", "[2.5]", "[0,24]"), 24, DISTIL_ERR_MODEL_FILE, "list of sizes"},
		{T("\"F32\"", "6", "[0,24]"), 24, DISTIL_ERR_MODEL_FILE, "shape"},
		{T("\"F32\"", "[1,1,1,1,1,1,1,1,6]", "[0,24]"), 24, DISTIL_ERR_MODEL_FILE, "too many"},
		/* products that wrap to 24 bytes or to 0 */
		{T("\"F32\"", "[4611686018427387910]", "[0,24]"), 24, DISTIL_ERR_MODEL_FILE, "overflows"},
		{T("\"F32\"", "[4294967296,4294967296]", "[0,0]"), 0, DISTIL_ERR_MODEL_FILE, "overflows"},
		{T("\"F32\"", "[9223372036854775807,3]", "[0,24]"), 24, DISTIL_ERR_MODEL_FILE, "overflows"},
		{T("\"F32\"", "[2,3]", "[0,9223372036854775807]"), 24, DISTIL_ERR_MODEL_FILE, "outside"},
		{T("\"F31\"", "[2,3]", "[0,24]"), 24, DISTIL_ERR_UNSUPPORTED, NULL},
		{T("\"F8_E4M3\"", "[24]", "[0,24]"), 24, DISTIL_ERR_UNSUPPORTED, NULL},
		{T("32", "[2,3]", "[0,24]"), 24, DISTIL_ERR_MODEL_FILE, "dtype"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[6]}}", 24, DISTIL_ERR_MODEL_FILE, "is not described"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0,24],\"x\":1}}", 24,
			DISTIL_ERR_MODEL_FILE, "is not described"},
		{"{\"\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0,24]}}", 24, DISTIL_ERR_MODEL_FILE,
		 "name"},
		{"{\"__metadata__\":[]}", 0, DISTIL_ERR_MODEL_FILE, "__metadata__"},
		{"{\"__metadata__\":{\"a\":1}}", 0, DISTIL_ERR_MODEL_FILE, "__metadata__"},
		{"{\"a\":", 24, DISTIL_ERR_MODEL_FILE, NULL},
		{"x", 24, DISTIL_ERR_MODEL_FILE, NULL}
	};
#undef T
	DistilError err;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		DistilStatus status = open_text(cases[i].header, cases[i].data, &err);

		CHECK_MSG(status == cases[i].status, "%s: %d %s (%s)", cases[i].header, (int) status, err.message,
				  err.detail);
		CHECK_MSG(cases[i].detail == NULL || strstr(err.detail, cases[i].detail) != NULL, "%s: %s",
				  cases[i].header,
				  err.detail);
	}
}

static void
test_truncated(void)
{
	TestBytes	file = make_file("{" A_2x3 "," B_4 "}", 32);
	DistilError err;

	CHECK(open_with(&file, distil_alloc_system(), &err) == DISTIL_OK);
	for (size_t n = 0; n < file.length; n++)
	{
		TestBytes	cut = {malloc(n + 1), n, n};

		memcpy(cut.data, file.data, n);
		CHECK_MSG(open_with(&cut, distil_alloc_system(), &err) == DISTIL_ERR_MODEL_FILE, "length %zu", n);
		test_bytes_free(&cut);
	}
	test_bytes_free(&file);
}

/* The length word alone: too small, beyond the file, beyond the limit, wrapping. */
static void
test_header_length(void)
{
	static const uint64_t lengths[] = {0, 1, 1000, UINT64_MAX, UINT64_MAX - 7, INT64_MAX,
									   (uint64_t) 1 << 32};
	DistilError err;

	for (size_t k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++)
	{
		TestBytes	file = make_file("{" A_2x3 "}", 24);

		for (int i = 0; i < 8; i++)
			file.data[i] = (char) (lengths[k] >> (8 * i) & 0xff);
		CHECK_MSG(open_with(&file, distil_alloc_system(), &err) == DISTIL_ERR_MODEL_FILE, "length %llu",
				  (unsigned long long) lengths[k]);
		test_bytes_free(&file);
	}
}

static DistilStatus
no_read(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	(void) ctx;
	(void) offset;
	memset(buffer, 0, bytes);
	if (bytes == 8)
		((unsigned char *) buffer)[4] = 1;	/* a header of 4 GB */
	return distil_fail(err, bytes == 8 ? DISTIL_OK : DISTIL_ERR_IO, "read");
}

static void
test_header_limit(void)
{
	DistilReader reader = {no_read, NULL, (uint64_t) 1 << 40};
	DistilTensorSet *set;
	DistilError err;

	CHECK(distil_tensor_set_create(&set, distil_alloc_system(), &err) == DISTIL_OK);
	CHECK(distil_tensor_set_add(set, &reader, "big", "", &err) == DISTIL_ERR_LIMIT);
	CHECK(strcmp(err.message, "header of file \"big\" is too large") == 0);
	distil_tensor_set_free(set);
}

/* A hostile name is cleaned before it is shown. */
static void
test_names(void)
{
	char		header[1000];
	char		name[400];
	DistilError err;

	CHECK(open_text("{\"a\\u001b[31m\\u202e\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0,28]}}",
					28, &err)
		  == DISTIL_ERR_MODEL_FILE);
	CHECK(strstr(err.detail, "\x1b") == NULL && strstr(err.detail, "\xe2\x80\xae") == NULL);
	memset(name, 'n', DISTIL_MAX_NAME);
	name[DISTIL_MAX_NAME] = '\0';
	snprintf(header, sizeof(header), "{\"%s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
			 name);
	CHECK(open_text(header, 1, &err) == DISTIL_OK);
	snprintf(header, sizeof(header), "{\"%sn\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
			 name);
	CHECK(open_text(header, 1, &err) == DISTIL_ERR_MODEL_FILE);
}

/* A header written by us is read back by the strict reader. */
static void
test_written(void)
{
	DistilTensor x = {
		.name = "p/x\"\n",.dtype = DISTIL_DTYPE_F32,.rank = 2,.shape = {2, 3},.count = 6,.bytes = 24
	};
	DistilTensor y = {.name = "p/y",.dtype = DISTIL_DTYPE_U8,.rank = 1,.shape = {5},.count = 5,.bytes = 5};
	const DistilTensor *order[] = {&x, &y};
	DistilBuffer buffer;
	TestBytes	file = {0};
	DistilError err;

	distil_buffer_init(&buffer, distil_alloc_system());
	CHECK(distil_safetensors_header(&buffer, order, 2, 2, "{\"format\":\"pt\"}", &err) == DISTIL_OK);
	CHECK(buffer.length % 8 == 0);
	file.length = buffer.length + 29;
	file.data = calloc(file.length, 1);
	memcpy(file.data, buffer.data, buffer.length);
	CHECK(open_with(&file, distil_alloc_system(), &err) == DISTIL_OK);
	test_bytes_free(&file);
	distil_buffer_free(&buffer);
}

static void
test_memory(void)
{
	TestBytes	file = make_file("{" A_2x3 "," B_4 "}", 32);
	long		n;

	for (n = 1; n < 1000; n++)
	{
		TestAllocator test;
		DistilError err;
		DistilStatus status;

		test_allocator_init(&test, n);
		status = open_with(&file, &test.alloc, &err);
		CHECK(test.live == 0);
		if (test.requests < n)
			break;
		CHECK_MSG(status == DISTIL_ERR_MEMORY, "request %ld: %d", n, (int) status);
	}
	CHECK(n > 5 && n < 1000);
	test_bytes_free(&file);
}

/* float16 against its definition, bfloat16 against the upper half of a float */
static void
test_halves(void)
{
	static const struct
	{
		uint16_t	half;
		float		value;
	}			cases[] = {
		{0x0000, 0.0f}, {0x3c00, 1.0f}, {0xc000, -2.0f}, {0x7bff, 65504.0f}, {0x0400, 0x1p-14f},
		{0x03ff, 0x1.ff8p-15f}, {0x0001, 0x1p-24f}, {0x8001, -0x1p-24f}, {0x3555, 0x1.554p-2f}
	};
	uint16_t	specials[] = {0x7c00, 0xfc00, 0x7e00, 0x7c01, 0x3c00, 0x7bff};
	float		converted[6];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK(distil_float_from_half(cases[i].half) == cases[i].value);
	for (uint32_t h = 0; h < 0x10000; h++)
	{
		int			exponent = (int) (h >> 10 & 31);
		double		mantissa = h & 1023;
		double		expected = exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);

		if (exponent == 31)
			continue;
		if ((double) distil_float_from_half((uint16_t) h) != (h & 0x8000 ? -expected : expected))
			CHECK_MSG(false, "half %04x", (unsigned) h);
	}
	CHECK(signbit(distil_float_from_half(0x8000)) && distil_float_from_half(0x8000) == 0.0f);
	CHECK(isinf(distil_float_from_half(0x7c00)) && isnan(distil_float_from_half(0x7e00)));
	CHECK(distil_float_from_bfloat16(0x3f80) == 1.0f && distil_float_from_bfloat16(0xc049) == -3.140625f);
	CHECK(distil_count_nonfinite(specials, DISTIL_DTYPE_F16, 6) == 4);
	CHECK(distil_count_nonfinite(specials, DISTIL_DTYPE_BF16, 6) == 0);
	distil_convert_to_float(converted, specials, DISTIL_DTYPE_F16, 6);
	CHECK(distil_count_nonfinite(converted, DISTIL_DTYPE_F32, 6) == 4);
}

int
main(void)
{
	test_accepted();
	test_refused();
	test_truncated();
	test_header_length();
	test_header_limit();
	test_names();
	test_written();
	test_memory();
	test_halves();
	return check_report("safetensors");
}
