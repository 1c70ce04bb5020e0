/*
 * test_spool.c
 *		Splitting and filtering, the spool file, hostile and truncated spool files.
 */
#include "check.h"
#include "fingerprint.h"
#include "train_fixture.h"

static const DistilSpoolEnds ends = {.first = 2,.last = 3,.unk = 1};

typedef struct Kept
{
	int			n;
	int			lengths[64];
	int32_t		first[64];
	int32_t		last[64];
	int64_t		sum;
} Kept;

static DistilStatus
keep(void *ctx, const int32_t *ids, int n, DistilError *err)
{
	Kept	   *kept = ctx;
	int			i;

	(void) err;
	kept->lengths[kept->n] = n;
	kept->first[kept->n] = ids[0];
	kept->last[kept->n++] = ids[n - 1];
	for (i = 1; i < n - 1; i++)
		kept->sum += ids[i];
	return DISTIL_OK;
}

/* One text of `length` ids, [CLS] and [SEP] included, `unknown` of them unknown. */
static Kept
split(int length, int unknown)
{
	int32_t    *ids = malloc((size_t) length * sizeof(int32_t));
	int32_t		scratch[512];
	Kept		kept = {0};
	DistilError err;
	int			i;

	for (i = 0; i < length; i++)
		ids[i] = i <= unknown ? ends.unk : 10 + i;
	ids[0] = ends.first;
	ids[length - 1] = ends.last;
	CHECK(distil_spool_split(ids, length, 512, &ends, scratch, keep, &kept, &err) == DISTIL_OK);
	free(ids);
	return kept;
}

static void
test_split(void)
{
	Kept		k;

	CHECK(split(11, 0).n == 0);
	CHECK(split(12, 0).n == 1);
	k = split(512, 0);
	CHECK(k.n == 1 && k.lengths[0] == 512);
	/* 513 = 510 + 3: the second piece is too short with its [CLS] */
	k = split(513, 0);
	CHECK(k.n == 1 && k.lengths[0] == 511 && k.first[0] == ends.first && k.last[0] == ends.last);
	/* 1021 = 510 + 510 + 1: the last piece is only [SEP] */
	k = split(1021, 0);
	CHECK(k.n == 2 && k.lengths[0] == 511 && k.lengths[1] == 512);
	CHECK(k.first[1] == ends.first && k.last[1] == ends.last);
	/* 530 = 510 + 20 */
	k = split(530, 0);
	CHECK(k.n == 2 && k.lengths[1] == 21);
	/* no token is lost or doubled but the special ones */
	CHECK(k.sum == 528 * 10 + 528 * 529 / 2);
	/* unknown share 49 of 100 stays, 50 of 100 goes */
	CHECK(split(100, 49).n == 1);
	CHECK(split(100, 50).n == 0);
}

static void
patch(char *spool, size_t size, size_t at, uint64_t value)
{
	DistilFingerprint print;
	size_t		body = size - sizeof(DistilSpoolFooter);

	/* with a right checksum, so that the checks behind it are reached */
	memcpy(spool + at, &value, sizeof(value));
	distil_fingerprint_init(&print);
	distil_fingerprint_update(&print, spool, body + offsetof(DistilSpoolFooter, fingerprint));
	distil_fingerprint_value(&print, (uint8_t *) spool + body + offsetof(DistilSpoolFooter, fingerprint));
}

static void
test_hostile(const DistilModel *model, const DistilTrainOptions *options)
{
	DistilSpoolView view;
	DistilError err;
	void	   *spool;
	char	   *copy;
	size_t		size;
	size_t		footer;
	size_t		at;
	int			v = distil_model_info(model)->vocabulary;
	static const uint64_t values[] = {0, 1, UINT64_MAX, INT64_MAX,
	(uint64_t) 1 << 62, (uint64_t) 1 << 32, 300};
	size_t		k;
	int64_t		tokens;

	fixture_spool(&spool, &size, model, options, 40);
	footer = size - sizeof(DistilSpoolFooter);
	copy = aligned_alloc(64, (size + 63) / 64 * 64);
	CHECK(distil_spool_view(&view, spool, size, options->method, v, options->max_tokens, NULL,
							&err) == DISTIL_OK);
	CHECK(view.info.texts == 40 && view.info.sequences > 0 && view.info.tokens > 12 * view.info.sequences);
	CHECK(view.longest <= options->max_tokens);
	tokens = view.info.tokens;
	/* every truncation */
	for (at = 0; at < size; at += at < 300 || at > size - 300 ? 1 : 37)
	{
		memcpy(copy, spool, at);
		CHECK(distil_spool_view(&view, copy, at, options->method, v, options->max_tokens, NULL,
								&err) != DISTIL_OK);
	}
	/* every flipped byte is noticed, reserved ones of the footer excepted */
	for (at = 0; at < size; at += 11)
	{
		if (at >= footer + offsetof(DistilSpoolFooter, reserved) && at < footer + offsetof(DistilSpoolFooter,
																						   magic))
			continue;
		memcpy(copy, spool, size);
		copy[at] ^= 0x40;
		CHECK(distil_spool_view(&view, copy, size, options->method, v, options->max_tokens, NULL,
								&err) != DISTIL_OK);
	}
	/* numbers of the footer, the index and the ids, with the checksum made right */
	for (k = 0; k < sizeof(values) / sizeof(values[0]); k++)
	{
		DistilSpoolFooter real;
		uint64_t	now;

		memcpy(&real, (char *) spool + footer, sizeof(real));
		for (at = footer + 8; at < footer + 40; at += 8)
		{
			memcpy(&now, (char *) spool + at, 8);
			memcpy(copy, spool, size);
			patch(copy, size, at, values[k]);
			if (now != values[k])
				CHECK(distil_spool_view(&view, copy, size, options->method, v, options->max_tokens, NULL,
										&err) == DISTIL_ERR_CORRUPT);
		}
		memcpy(copy, spool, size);
		patch(copy, size, real.starts_offset + 16, values[k]);
		CHECK(distil_spool_view(&view, copy, size, options->method, v, options->max_tokens, NULL,
								&err) == DISTIL_ERR_CORRUPT);
		memcpy(copy, spool, size);
		patch(copy, size, sizeof(DistilSpoolHeader) + 64, values[k] == 0 || values[k] == 1 ||
			  values[k] == (uint64_t) 1 << 32 || values[k] == (uint64_t) 1 << 62 ? 277 : values[k]);
		CHECK(distil_spool_view(&view, copy, size, options->method, v, options->max_tokens, NULL,
								&err) == DISTIL_ERR_CORRUPT);
	}
	/* of the ids the first and the last, too */
	for (k = 0; k < 2; k++)
	{
		int32_t		id = k == 0 ? v : -1;

		memcpy(copy, spool, size);
		at = sizeof(DistilSpoolHeader) + (k == 0 ? 0 : (size_t) (tokens - 1) * sizeof(id));
		memcpy(copy + at, &id, sizeof(id));
		patch(copy, size, offsetof(DistilSpoolHeader, magic), *(const uint64_t *) spool);
		CHECK(distil_spool_view(&view, copy, size, options->method, v, options->max_tokens, NULL,
								&err) == DISTIL_ERR_CORRUPT);
	}
	/* another job's */
	CHECK(distil_spool_view(&view, spool, size, options->method, v + 1, options->max_tokens, NULL,
							&err) == DISTIL_ERR_STATE);
	CHECK(distil_spool_view(&view, spool, size, options->method, v, options->max_tokens - 1, NULL,
							&err) == DISTIL_ERR_STATE);
	free(copy);
	free(spool);
}

static void
add(DistilSpool *spool, const char *text)
{
	DistilText	view = {text, strlen(text)};
	DistilError err = {{0}, {0}, {0}};

	MUST(distil_spool_add(spool, &view, &err));
}

static void
test_writing(const DistilModel *model)
{
	DistilTrainOptions triple = fixture_options(model, "triple", "{}");
	DistilTrainOptions embedding = fixture_options(model, "embedding", "{\"max_tokens\": 8}");
	DistilBuffer buffer;
	DistilSink	sink = {fixture_write, &buffer};
	DistilError err = {{0}, {0}, {0}};
	DistilSpool *spool;
	DistilSpoolView view;
	int			v = distil_model_info(model)->vocabulary;
	int64_t		total = 0;
	int			i;

	distil_buffer_init(&buffer, distil_alloc_system());
	MUST(distil_spool_create(&spool, model, &triple, &sink, distil_alloc_system(), NULL, &err));
	add(spool, "");
	add(spool, "the cat sat");
	/* special tokens in a text stay text: no [MASK], no [SEP] inside */
	add(spool, "the cat sat on the mat [MASK] and [SEP] the dog");
	MUST(distil_spool_finish(spool, &err));
	CHECK(distil_spool_info(spool)->texts == 3 && distil_spool_info(spool)->sequences == 1);
	CHECK(distil_spool_add(spool, &(DistilText) {"a", 1}, &err) == DISTIL_ERR_STATE);
	CHECK(distil_spool_finish(spool, &err) == DISTIL_ERR_STATE);
	MUST(distil_spool_view(&view, buffer.data, buffer.length, DISTIL_METHOD_TRIPLE, v, 64, NULL, &err));
	CHECK(memcmp(view.info.fingerprint, distil_spool_info(spool)->fingerprint, 32) == 0);
	for (i = 0; i < v; i++)
		total += view.counts[i];
	/* the two texts that were dropped are counted too: [CLS] [SEP], and [CLS] the cat sat [SEP] */
	CHECK(total == view.info.tokens + 2 + 5);
	CHECK(view.counts[2] == 3 && view.counts[3] == 3 && view.counts[4] == 0);
	distil_spool_free(spool);
	distil_buffer_free(&buffer);

	/* embedding: one sequence per text, truncated; texts without tokens dropped */
	distil_buffer_init(&buffer, distil_alloc_system());
	MUST(distil_spool_create(&spool, model, &embedding, &sink, distil_alloc_system(), NULL, &err));
	add(spool, "");
	add(spool, "  \n ");
	add(spool, "cat");
	add(spool, "the cat sat on the mat and the dog and the fox");
	MUST(distil_spool_finish(spool, &err));
	MUST(distil_spool_view(&view, buffer.data, buffer.length, DISTIL_METHOD_EMBEDDING, v, 8, NULL, &err));
	CHECK(view.info.sequences == 2 && view.starts[1] == 3 && view.starts[2] == 11 && view.longest == 8);
	CHECK(view.ids[10] == 3);	/* [SEP] kept */
	distil_spool_free(spool);
	distil_buffer_free(&buffer);
}

/* A causal model's sequences begin and end with its end token; a long text is cut. */
static void
test_causal(void)
{
	Fixture		gpt2;
	DistilTrainOptions options;
	DistilBuffer buffer;
	DistilSink	sink = {fixture_write, &buffer};
	DistilError err = {{0}, {0}, {0}};
	DistilSpool *spool;
	DistilSpoolView view;
	int			i;

	fixture_open_head(&gpt2, "gpt2", "lm");
	options = fixture_options(gpt2.model, "triple", "{\"max_tokens\": 16}");
	distil_buffer_init(&buffer, distil_alloc_system());
	MUST(distil_spool_create(&spool, gpt2.model, &options, &sink, distil_alloc_system(), NULL, &err));
	add(spool, "");
	add(spool, "the cat sat on the mat");	/* 8 with its ends */
	add(spool, "the cat sat on the mat and the dog and the fox");	/* 14 */
	/* 27 = 14 + 13: the first piece without an end, the second without a beginning */
	add(spool,
		"the cat sat on the mat and the dog and the fox and the cat and the dog and the fox and the mat on");
	MUST(distil_spool_finish(spool, &err));
	MUST(distil_spool_view(&view, buffer.data, buffer.length, DISTIL_METHOD_TRIPLE,
						   distil_model_info(gpt2.model)->vocabulary, 16, NULL, &err));
	CHECK(view.info.texts == 4 && view.info.sequences == 3 && view.longest == 15);
	CHECK(view.starts[1] == 14 && view.starts[2] == 29);
	CHECK(view.counts[0] == 8); /* two of each text, cut or dropped */
	for (i = 0; i < 3; i++)
		CHECK(view.ids[view.starts[i]] == 0 && view.ids[view.starts[i + 1] - 1] == 0);
	distil_spool_free(spool);
	distil_buffer_free(&buffer);
	fixture_close(&gpt2);
}

static DistilStatus
write_nothing(void *ctx, const void *data, size_t bytes, DistilError *err)
{
	(void) ctx;
	(void) data;
	(void) bytes;
	return distil_fail(err, DISTIL_ERR_DISK_FULL, "no space");
}

/* A failed write cannot be finished into something that looks whole. */
static void
test_full_disk(const DistilModel *model)
{
	DistilTrainOptions options = fixture_options(model, "triple", "{}");
	DistilSink	sink = {write_nothing, NULL};
	DistilError err = {{0}, {0}, {0}};
	DistilSpool *spool;

	MUST(distil_spool_create(&spool, model, &options, &sink, distil_alloc_system(), NULL, &err));
	CHECK(distil_spool_finish(spool, &err) == DISTIL_ERR_DISK_FULL);
	CHECK(distil_spool_finish(spool, &err) == DISTIL_ERR_STATE);
	distil_spool_free(spool);
}

static void
test_fingerprint(void)
{
	uint8_t		data[1000];
	uint8_t		whole[32];
	uint8_t		parts[32];
	DistilFingerprint print;
	size_t		i;
	size_t		step;

	for (i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t) (i * 7 + i / 256);
	distil_fingerprint_init(&print);
	distil_fingerprint_update(&print, data, sizeof(data));
	distil_fingerprint_value(&print, whole);
	/* as releases before computed it: it is in the files of jobs that are resumed */
	CHECK(memcmp(whole, "\x92\x92\x32\x47\x76\xfe\x47\xa4\x81\xf2\xf6\x2f\xf8\x27\x79\x52", 16) == 0);
	for (step = 1; step < 100; step++)
	{
		distil_fingerprint_init(&print);
		for (i = 0; i < sizeof(data); i += step)
			distil_fingerprint_update(&print, data + i, sizeof(data) - i < step ? sizeof(data) - i : step);
		distil_fingerprint_value(&print, parts);
		CHECK(memcmp(whole, parts, 32) == 0);
	}
	/* trailing zeros count */
	distil_fingerprint_init(&print);
	distil_fingerprint_value(&print, whole);
	distil_fingerprint_update(&print, "\0", 1);
	distil_fingerprint_value(&print, parts);
	CHECK(memcmp(whole, parts, 32) != 0);
}

int
main(void)
{
	Fixture		model;
	DistilTrainOptions options;

	test_split();
	test_fingerprint();
	test_causal();
	fixture_open(&model, "test/golden/models/bert-mlm");
	test_writing(model.model);
	test_full_disk(model.model);
	options = fixture_options(model.model, "triple", "{\"max_tokens\": 40}");
	test_hostile(model.model, &options);
	fixture_close(&model);
	return check_report("spool");
}
