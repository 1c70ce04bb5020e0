/*
 * test_tokenizer.c
 *		The tokenizer against goldens of the Rust library (test/golden/tokenizer, see
 *		make_tokenizer.py and make_tokenizer_models.py beside it), and its promises: truncation, chunks,
 *		errors, hostile blobs.  Hostile files: test_tokenizer_file.c.
 */
#include "check.h"

#include "folder.h"
#include "status.h"
#include "tokenizer.h"
#include "tokenizer_blob.h"
#include "tokenizer_memory.h"
#include "unicode.h"

#include <ctype.h>

typedef struct Variant
{
	const char *name;
	const char *config;			/* of vocab.txt or of a SentencePiece model; NULL: name.json */
	const char *file;			/* legacy file, stored as name.file; NULL: as said above */
	char	   *blob;
	size_t		size;
	DistilTokenizer *tokenizer;
} Variant;

/* The goldens have segment ids. */
#define TYPES "\"model_input_names\": [\"token_type_ids\"]"

static Variant variants[] = {
	{.name = "uncased", .config = "{\"do_lower_case\": true}"},
	{.name = "cased", .config = "{\"do_lower_case\": false, \"tokenizer_class\": \"BertTokenizer\"}"},
	{.name = "accents", .config = "{\"strip_accents\": false}"},
	{.name = "added"},
	{.name = "sequence"},
	{.name = "split"},
	{.name = "bare"},
	{.name = "nopre"},
	{.name = "whitespace"},
	{.name = "bpe"},
	{.name = "bpe-prefix"},
	{.name = "bpe-sequence"},
	{.name = "bpe-split"},
	{.name = "bpe-split-short"},
	{.name = "unigram-split"},
	{.name = "unigram"},
	{.name = "unigram-strip"},
	{.name = "unigram-first"},
	{.name = "unigram-bytes"},
	{.name = "gpt2", .file = "vocab.json"},
	{.name = "roberta", .file = "vocab.json"},
	{.name = "albert", .file = "spiece.model", .config = "{\"tokenizer_class\": \"AlbertTokenizerFast\", "
		TYPES "}"},
	{.name = "xlnet", .file = "spiece.model", .config = "{\"tokenizer_class\": \"XLNetTokenizer\", "
		TYPES "}"},
	{.name = "xlmr", .file = "sentencepiece.bpe.model",
		.config = "{\"tokenizer_class\": \"XLMRobertaTokenizer\"}"},
	{.name = "camembert", .file = "sentencepiece.bpe.model",
		.config = "{\"tokenizer_class\": \"CamembertTokenizer\"}"},
};

#define NVARIANTS (sizeof(variants) / sizeof(variants[0]))

static void
open_variant(Variant *v)
{
	DistilError err = {{0}, {0}, {0}};
	char		name[64];
	const char *settings = v->config != NULL ? v->config : "{" TYPES "}";
	const char *file = v->file != NULL ? v->file : v->config != NULL ? "vocab.txt" : "tokenizer.json";
	bool		merged = v->file != NULL && v->config == NULL;
	char	   *text[3] = {NULL, NULL, NULL};
	Memory		data[3] = {{NULL, 0}, {settings, strlen(settings)}, {NULL, 0}};
	DistilFile	files[3] = {{.name = file}, {.name = "tokenizer_config.json"}, {.name = "merges.txt"}};
	DistilFolder folder = {files, merged ? 3 : strcmp(file, "tokenizer.json") != 0 ? 2 : 1};
	DistilStatus status;

	snprintf(name, sizeof(name), "%s.%s", v->name, v->file != NULL ? v->file : "json");
	data[0].data = text[0] = read_file(strcmp(file, "vocab.txt") == 0 ? file : name, &data[0].length);
	snprintf(name, sizeof(name), "%s.merges.txt", v->name);
	if (merged)
		data[2].data = text[2] = read_file(name, &data[2].length);
	for (int i = 0; i < folder.nfiles; i++)
		files[i].reader = (DistilReader) {read_memory, &data[i], data[i].length};
	status = compile_folder(&v->blob, &v->size, &folder, &counting, &err);
	CHECK_MSG(status == DISTIL_OK, "%s: %s", v->name, err.message);
	status = distil_tokenizer_open(&v->tokenizer, v->blob, v->size, &counting, &err);
	CHECK_MSG(status == DISTIL_OK, "%s: %s", v->name, err.message);
	free(text[0]);
	free(text[2]);
}

static const DistilTokenizer *
find_variant(const char *name)
{
	for (size_t i = 0; i < NVARIANTS; i++)
		if (strcmp(variants[i].name, name) == 0)
			return variants[i].tokenizer;
	fprintf(stderr, "unknown variant %s\n", name);
	exit(1);
}

/* ---------- goldens ---------- */

static size_t
unhex(char *out, const char *hex)
{
	size_t		n = 0;
	unsigned	byte;

	while (sscanf(hex + 2 * n, "%2x", &byte) == 1)
		out[n++] = (char) byte;
	out[n] = '\0';
	return n;
}

static void
show_encoding(char *out, size_t size, const DistilTokenizer *tokenizer, const DistilEncoding *e)
{
	size_t		at = 0;
	char	   *text;
	size_t		length;
	DistilError err;

	for (int i = 0; i < e->n; i++)
		at += (size_t) snprintf(out + at, size - at, "%s%d:%d:%d:%d:%d", i > 0 ? " " : "", e->ids[i],
								e->types[i],
								e->starts[i], e->ends[i], e->words[i]);
	at += (size_t) snprintf(out + at, size - at, "\t");
	CHECK(distil_tokenizer_decode(tokenizer, &text, &length, e->ids, e->n, true, &counting,
								  &err) == DISTIL_OK);
	for (size_t i = 0; i < length; i++)
		at += (size_t) snprintf(out + at, size - at, "%02x", (unsigned char) text[i]);
	count_release(NULL, text);
}

/* Without its arrays an encoding has as many tokens. */
static void
check_count(const DistilTokenizer *tokenizer, const DistilText *text, const DistilText *pair,
			const DistilEncodeOptions *asked)
{
	DistilEncodeOptions options = *asked;
	DistilEncoding whole;
	DistilEncoding counted;
	DistilError err = {{0}, {0}, {0}};

	options.truncation = DISTIL_TRUNCATE_NONE;
	distil_encoding_init(&whole, &counting);
	distil_encoding_init(&counted, &counting);
	CHECK(distil_tokenizer_encode(tokenizer, &whole, text, pair, &options, NULL, &err) == DISTIL_OK);
	options.count_only = true;
	options.offsets = false;
	CHECK(distil_tokenizer_encode(tokenizer, &counted, text, pair, &options, NULL, &err) == DISTIL_OK);
	CHECK_MSG(counted.n == whole.n && counted.capacity == 0 && counted.ids == NULL, "%d tokens, expected %d",
			  counted.n, whole.n);
	distil_encoding_reset(&whole);
}

static void
test_goldens(const char *file)
{
	static char texts[2][65536];
	static char got[262144];
	size_t		length;
	char	   *data = read_file(file, &length);
	DistilText	text = {texts[0], 0};
	DistilText	pair = {texts[1], 0};
	bool		has_pair = false;
	DistilEncoding encoding;
	DistilError err = {{0}, {0}, {0}};
	int			results = 0;

	distil_encoding_init(&encoding, &counting);
	for (char *line = strtok(data, "\n"); line != NULL; line = strtok(NULL, "\n"))
	{
		char		name[32];
		char		mode;
		int			max;
		int			at;
		DistilEncodeOptions options;

		if (line[0] == 'T')
		{
			text.length = unhex(texts[0], line + 2);
			has_pair = false;
		}
		else if (line[0] == 'U')
		{
			pair.length = unhex(texts[1], line + 2);
			has_pair = true;
		}
		else if (sscanf(line, "R %31s %c %d%n", name, &mode, &max, &at) == 3)
		{
			const DistilTokenizer *tokenizer = find_variant(name);
			DistilStatus status;

			options = distil_tokenizer_defaults(tokenizer);
			options.offsets = true;
			options.parse_special = mode != 'p';
			options.add_special = mode != 'b';
			options.max_tokens = max;
			options.truncation = max > 0 ? DISTIL_TRUNCATE_LONGEST_FIRST : DISTIL_TRUNCATE_NONE;
			status = distil_tokenizer_encode(tokenizer, &encoding, &text, has_pair ? &pair : NULL, &options,
											 NULL, &err);
			CHECK_MSG(status == DISTIL_OK, "%s: %s", name, err.message);
			show_encoding(got, sizeof(got), tokenizer, &encoding);
			CHECK_MSG(strcmp(got, line + at + 1) == 0, "%s %c %d of %s\nwant %s\ngot  %s", name, mode, max,
					  texts[0],
					  line + at + 1, got);
			check_count(tokenizer, &text, has_pair ? &pair : NULL, &options);
			results++;
		}
	}
	CHECK(results > 1300);
	distil_encoding_reset(&encoding);
	free(data);
}

/* ---------- facts ---------- */

static void
test_facts(void)
{
	const DistilTokenizer *t = find_variant("uncased");
	const DistilTokenizer *added = find_variant("added");
	const DistilSpecialIds *special = distil_tokenizer_special(t);
	size_t		length;
	const char *token = distil_tokenizer_token(t, 2, &length);
	int			n = distil_tokenizer_vocabulary(t);

	CHECK(special->pad == 0 && special->unk == 1 && special->cls == 2 && special->sep == 3 &&
		  special->mask == 4);
	CHECK(special->bos == -1 && special->eos == -1);
	CHECK(special->added_single == 2 && special->added_pair == 3);
	CHECK(length == 5 && memcmp(token, "[CLS]", 5) == 0);
	CHECK(distil_tokenizer_token(t, -1, &length) == NULL);
	CHECK(distil_tokenizer_token(t, n, &length) == NULL);
	CHECK(distil_tokenizer_is_special(t, 3) && !distil_tokenizer_is_special(t, 6) &&
		  !distil_tokenizer_is_special(t, -5));
	CHECK(distil_tokenizer_id(t, "nosuchtoken", 11) == -1 && distil_tokenizer_id(t, "", 0) == -1);
	for (int id = 0; id < n; id++)
	{
		token = distil_tokenizer_token(t, id, &length);
		CHECK(token != NULL && distil_tokenizer_id(t, token, length) == id);
	}
	/* an added token beyond the model's vocabulary is found by its own text */
	CHECK(distil_tokenizer_id(added, "New York", 8) >= distil_tokenizer_vocabulary(added) - 10);
	CHECK(distil_tokenizer_defaults(t).parse_special && distil_tokenizer_defaults(t).add_special);
}

static void
test_decode(void)
{
	const DistilTokenizer *t = find_variant("uncased");
	int32_t		ids[] = {2, distil_tokenizer_id(t, ".", 1), distil_tokenizer_id(t, ",", 1), -7, 1 << 30, 3};
	char	   *text;
	size_t		length;
	DistilError err;

	CHECK(distil_tokenizer_decode(t, &text, &length, ids, 6, false, &counting, &err) == DISTIL_OK);
	CHECK_MSG(strcmp(text, "[CLS].,"
					 " [SEP]") == 0, "%s", text);
	count_release(NULL, text);
	CHECK(distil_tokenizer_decode(t, &text, &length, ids, 0, true, &counting, &err) == DISTIL_OK);
	CHECK(length == 0 && text[0] == '\0');
	count_release(NULL, text);
}

/* ---------- errors of texts and options ---------- */

static bool
stop_now(void *ctx)
{
	return --*(int *) ctx < 0;
}

static void
test_encode_errors(void)
{
	static const char *const bad[] = {"\xff", "a\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
									  "x\x80y", "\xe2\x82", "\xf0\x9f\x98"};
	static char long_text[300000];
	const DistilTokenizer *t = find_variant("uncased");
	DistilEncodeOptions options = distil_tokenizer_defaults(t);
	DistilEncoding e;
	DistilError err;
	DistilText	a = {"cute dog", 8};
	DistilText	b = {"the quick brown fox", 19};
	DistilText	empty = {NULL, 0};
	int			calls = 3;
	DistilPoll	poll = {stop_now, &calls};

	distil_encoding_init(&e, &counting);
	for (size_t v = 0; v < NVARIANTS; v++)
		for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		{
			DistilText	text = {bad[i], strlen(bad[i])};

			CHECK(distil_tokenizer_encode(variants[v].tokenizer, &e, &text, NULL, &options, NULL,
										  &err) == DISTIL_ERR_ENCODING);
		}
	CHECK(distil_tokenizer_encode(t, &e, &empty, &empty, &options, NULL, &err) == DISTIL_OK && e.n == 3);
	options.max_tokens = 1;
	options.truncation = DISTIL_TRUNCATE_LONGEST_FIRST;
	CHECK(distil_tokenizer_encode(t, &e, &a, NULL, &options, NULL, &err) == DISTIL_ERR_ARGUMENT);
	options.max_tokens = 2;
	CHECK(distil_tokenizer_encode(t, &e, &a, NULL, &options, NULL, &err) == DISTIL_OK && e.n == 2 &&
		  e.truncated);
	options.truncation = DISTIL_TRUNCATE_ONLY_SECOND;
	CHECK(distil_tokenizer_encode(t, &e, &a, NULL, &options, NULL, &err) == DISTIL_OK && e.n == 2);
	options.max_tokens = 5;
	CHECK(distil_tokenizer_encode(t, &e, &b, &a, &options, NULL, &err) == DISTIL_ERR_ARGUMENT);
	options.max_tokens = -1;
	CHECK(distil_tokenizer_encode(t, &e, &a, NULL, &options, NULL, &err) == DISTIL_ERR_ARGUMENT);
	options.max_tokens = 0;
	memset(long_text, 'x', sizeof(long_text));
	a.data = long_text;
	a.length = sizeof(long_text);
	CHECK(distil_tokenizer_encode(t, &e, &a, NULL, &options, &poll, &err) == DISTIL_ERR_CANCELLED);
	/* in one long word, and among many words */
	for (size_t v = 0; v < 2 * NVARIANTS; v++)
	{
		calls = 3;
		for (size_t i = 0; v == NVARIANTS && i < sizeof(long_text); i += 4)
			memcpy(long_text + i, "dog ", 4);
		CHECK_MSG(distil_tokenizer_encode(variants[v % NVARIANTS].tokenizer, &e, &a, NULL, &options, &poll,
										  &err) ==
				  DISTIL_ERR_CANCELLED, "%s", variants[v % NVARIANTS].name);
	}
	distil_encoding_reset(&e);
}

/* ---------- truncation ---------- */

/* What cutting the complete encoding gives, at every limit. */
static void
test_truncation(void)
{
	static char big[1000000];
	const DistilTokenizer *t = find_variant("uncased");
	DistilEncodeOptions options = distil_tokenizer_defaults(t);
	DistilEncoding full;
	DistilEncoding cut;
	DistilError err;
	DistilText	text = {big, sizeof(big)};
	static const char words[] = "unaffable [SEP] Größe \xcc\x81 dog, 中文. ";

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = i < sizeof(big) / (sizeof(words) - 1) * (sizeof(words) - 1) ? words[i % (sizeof(words) - 1)]
			: ' ';
	distil_encoding_init(&full, &counting);
	distil_encoding_init(&cut, &counting);
	options.offsets = true;
	CHECK(distil_tokenizer_encode(t, &full, &text, NULL, &options, NULL, &err) == DISTIL_OK);
	CHECK(!full.truncated && full.n > 100000);
	options.truncation = DISTIL_TRUNCATE_LONGEST_FIRST;
	for (int max = 2; max < 20000; max = max * 5 / 4 + 1)
	{
		bool		same;

		options.max_tokens = max;
		CHECK(distil_tokenizer_encode(t, &cut, &text, NULL, &options, NULL, &err) == DISTIL_OK);
		same = cut.n == max && cut.truncated && cut.ids[max - 1] == 3;
		for (int i = 0; i < max - 1 && same; i++)
			same = cut.ids[i] == full.ids[i] && cut.starts[i] == full.starts[i] && cut.ends[i] ==
				full.ends[i] &&
				cut.words[i] == full.words[i] && cut.types[i] == 0;
		CHECK_MSG(same, "max_tokens %d", max);
	}
	/* stopping early: the end of the text is not read, so it may even be invalid */
	big[sizeof(big) - 1] = '\xff';
	options.max_tokens = 128;
	CHECK(distil_tokenizer_encode(t, &cut, &text, NULL, &options, NULL, &err) == DISTIL_OK && cut.n == 128);
	distil_encoding_reset(&full);
	distil_encoding_reset(&cut);
}

/* Three and four tokens, three special ones: what the reference keeps, or its error (-1). */
static void
test_truncation_of_one(void)
{
	static const int kept[2][11] = {
		{0, 0, 0, 0, -1, -1, -1, -1, 1, 2, 3},
		{0, 0, 0, 0, -1, -1, -1, 1, 2, 3, 4}
	};
	const DistilTokenizer *t = find_variant("uncased");
	DistilEncodeOptions options = distil_tokenizer_defaults(t);
	DistilEncoding e;
	DistilError err;
	DistilText	a = {". . .", 5};
	DistilText	b = {", , , ,", 7};

	distil_encoding_init(&e, &counting);
	for (int second = 0; second < 2; second++)
		for (int max = 3; max < 11; max++)
		{
			int			want = kept[second][max];
			DistilStatus status;

			options.max_tokens = max;
			options.truncation = second ? DISTIL_TRUNCATE_ONLY_SECOND : DISTIL_TRUNCATE_ONLY_FIRST;
			status = distil_tokenizer_encode(t, &e, &a, &b, &options, NULL, &err);
			if (want < 0)
				CHECK(status == DISTIL_ERR_ARGUMENT);
			else
				CHECK_MSG(status == DISTIL_OK && e.n == 3 + (max == 3 ? 0 : want + (second ? 3 : 4)),
						  "%d %d: %d tokens", second, max, e.n);
		}
	distil_encoding_reset(&e);
}

/* A long text is read in windows, none of which ends inside a character: each begins elsewhere here. */
static void
test_windows(void)
{
	static char data[3 * 4000 + 4];
	const DistilTokenizer *t = find_variant("uncased");
	DistilEncodeOptions options = distil_tokenizer_defaults(t);
	DistilEncoding e;
	DistilError err = {{0}, {0}, {0}};

	distil_encoding_init(&e, &counting);
	for (size_t shift = 0; shift < 3; shift++)
	{
		DistilText	text = {data, shift + 3 * 4000};
		int			other = 0;

		memset(data, ' ', shift);
		for (size_t at = shift; at < text.length; at += 3)
			memcpy(data + at, "\xe6\x88\x91", 3);
		CHECK_MSG(distil_tokenizer_encode(t, &e, &text, NULL, &options, NULL, &err) == DISTIL_OK, "%s",
				  err.message);
		CHECK_MSG(e.n == 4000 + 2, "%zu: %d tokens", shift, e.n);
		for (int i = 2; i < e.n - 1; i++)
			other += e.ids[i] != e.ids[1];
		CHECK_MSG(other == 0, "%zu: %d tokens are others", shift, other);
	}
	distil_encoding_reset(&e);
}

/* A token's own text is that one token, in byte-level BPE by a table of whole words. */
static void
test_own_text(void)
{
	const DistilTokenizer *t = find_variant("bpe");
	DistilEncodeOptions options = distil_tokenizer_defaults(t);
	DistilEncoding e;
	DistilError err = {{0}, {0}, {0}};
	int			whole = 0;

	distil_encoding_init(&e, &counting);
	options.add_special = false;
	for (int32_t id = 0; id < distil_tokenizer_vocabulary(t); id++)
	{
		DistilText	text = {NULL, 0};
		char	   *data = NULL;

		CHECK(distil_tokenizer_decode(t, &data, &text.length, &id, 1, true, &counting, &err) == DISTIL_OK);
		text.data = data;
		/* bytes of a part of a character are U+FFFD */
		if (text.length > 0 && memchr(data, '\xef', text.length) == NULL)
		{
			CHECK(distil_tokenizer_encode(t, &e, &text, NULL, &options, NULL, &err) == DISTIL_OK);
			CHECK_MSG(e.n == 1 && e.ids[0] == id, "\"%s\": %d tokens", data, e.n);
			whole++;
		}
		count_release(NULL, data);
	}
	CHECK_MSG(whole > 200, "%d tokens", whole);
	/* what is no token is not taken for one: the vocabulary begins with these */
	for (size_t n = 1; n < 16; n++)
	{
		DistilText	text = {"!\"#$%&'()*+,-./", n};
		char	   *data = NULL;
		size_t		length = 0;

		CHECK(distil_tokenizer_encode(t, &e, &text, NULL, &options, NULL, &err) == DISTIL_OK);
		CHECK(distil_tokenizer_decode(t, &data, &length, e.ids, e.n, true, &counting, &err) == DISTIL_OK);
		CHECK_MSG(length == n && memcmp(data, text.data, n) == 0, "%zu bytes came back as \"%s\"", n, data);
		count_release(NULL, data);
	}
	distil_encoding_reset(&e);
}

/* ---------- chunks ---------- */

static bool
is_blank(const char *p, const char *end, int *bytes)
{
	uint32_t	cp = 0;

	*bytes = distil_utf8_decode(&cp, (const uint8_t *) p, (const uint8_t *) end);
	return (distil_char_props(cp).flags & DISTIL_CHAR_SPACE) != 0;
}

static int
token_count(const DistilTokenizer *t, const char *data, size_t length)
{
	DistilEncodeOptions options = distil_tokenizer_defaults(t);
	DistilEncoding e;
	DistilError err;
	DistilText	text = {data, length};
	int			n;

	distil_encoding_init(&e, &counting);
	n = distil_tokenizer_encode(t, &e, &text, NULL, &options, NULL, &err) == DISTIL_OK ? e.n : -1;
	distil_encoding_reset(&e);
	return n;
}

static void
check_chunks(const DistilTokenizer *t, const char *data, int max_tokens, int overlap)
{
	DistilText	text = {data, strlen(data)};
	DistilChunk *chunks;
	int			n;
	DistilError err = {{0}, {0}, {0}};
	size_t		covered = 0;
	DistilStatus status = distil_tokenizer_chunk(t, &chunks, &n, &text, max_tokens, overlap, &counting, NULL,
												 &err);
	int			bytes;

	/* a Korean syllable becomes three letters of three bytes, each byte a token */
	if (status == DISTIL_ERR_ARGUMENT && max_tokens < 11)
	{
		CHECK_MSG(t == find_variant("unigram-bytes") && strstr(err.message, "one character") != NULL, "%s",
				  err.message);
		return;
	}
	CHECK_MSG(status == DISTIL_OK, "%s", err.message);
	for (int i = 0; status == DISTIL_OK && i < n; i++)
	{
		const DistilChunk *c = &chunks[i];
		int32_t		pos = 0;

		CHECK(c->byte_start < c->byte_end && c->byte_end <= text.length);
		CHECK_MSG(c->tokens <= max_tokens && c->tokens == token_count(t, data + c->byte_start,
																	  c->byte_end - c->byte_start),
				  "chunk %d: %d tokens", i, c->tokens);
		for (size_t k = 0; k < c->byte_start; k++)
			pos += ((uint8_t) data[k] & 0xC0) != 0x80;
		CHECK(pos == c->start_pos);
		for (size_t k = c->byte_start; k < c->byte_end; k++)
			pos += ((uint8_t) data[k] & 0xC0) != 0x80;
		CHECK(pos == c->end_pos);
		/* what lies between two chunks is blank; each chunk goes further than the last */
		for (size_t k = covered; k < c->byte_start; k += (size_t) bytes)
			CHECK(is_blank(data + k, data + text.length, &bytes));
		CHECK(c->byte_end > covered);
		if (i > 0 && c->byte_start < covered)
			CHECK_MSG(token_count(t, data + c->byte_start, covered - c->byte_start) - 2 <= overlap,
					  "overlap of chunk %d", i);
		/* an overlap begins with a whole word, never inside one that was cut */
		CHECK_MSG(c->byte_start >= covered || c->byte_start == 0 || !isalpha((uint8_t) data[c->byte_start]) ||
				  !isalpha((uint8_t) data[c->byte_start - 1]), "overlap of chunk %d begins inside a word", i);
		/* no cut inside a word that fits (ideographs are words) */
		if (c->byte_end < text.length && (uint8_t) data[c->byte_end] < 0x80 && !is_blank(data + c->byte_end,
																						 data + text.length,
																							&bytes) &&
			(uint8_t) data[c->byte_end - 1] < 0x80)
		{
			size_t		start = c->byte_end;
			size_t		end = c->byte_end;

			while (start > 0 && !is_blank(data + start - 1, data + text.length, &bytes))
				start--;
			while (end < text.length && !is_blank(data + end, data + text.length, &bytes))
				end++;
			CHECK_MSG(token_count(t, data + start, end - start) > max_tokens, "cut inside \"%.*s\"",
					  (int) (end - start), data + start);
		}
		covered = c->byte_end;
	}
	for (size_t k = covered; status == DISTIL_OK && k < text.length; k += (size_t) bytes)
		CHECK(is_blank(data + k, data + text.length, &bytes));
	count_release(NULL, status == DISTIL_OK ? chunks : NULL);
}

static bool
count_polls(void *ctx)
{
	++*(size_t *) ctx;
	return false;
}

/* A run of letters that byte-level BPE merges as a whole is not merged anew to its end for each chunk. */
static void
test_long_word(char *run, size_t length)
{
	size_t		polls = 0;
	DistilPoll	poll = {count_polls, &polls};
	DistilText	text = {run, length};
	DistilChunk *chunks = NULL;
	DistilError err = {{0}, {0}, {0}};
	int			n = 0;

	for (size_t i = 0; i < length; i++)
		run[i] = (char) ('a' + i * i % 23);
	CHECK_MSG(distil_tokenizer_chunk(find_variant("bpe"), &chunks, &n, &text, 100, 0, &counting, &poll,
									 &err) == DISTIL_OK, "%s", err.message);
	CHECK_MSG(n > 500 && polls < 8 * (size_t) n, "%d chunks, looked %zu times for a cancel", n, polls);
	for (int i = 0; i < n; i++)
		CHECK(chunks[i].tokens <= 100 && chunks[i].byte_start == (i > 0 ? chunks[i - 1].byte_end : 0));
	CHECK(n > 0 && chunks[n - 1].byte_end == length);
	count_release(NULL, chunks);
}

static void
test_chunks(void)
{
	static const char *const texts[] = {
		"", "   \n ", "dog",
			"Hello, my dog is cute.  The quick brown fox\njumps over the lazy dog; it's 3.14 miles away!",
		"unaffable-unbelievably-re-estimated-unaffable-unbelievably,re.estimated dog dog",
		"我爱北京天安门中文分词很有趣。dog 我爱北京",
			"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa a b",
		"안녕하세요 세계 한국어 문장입니다.", "a\xe3\x80\x80" "b\xc2\xa0" "c d e f g h i j k l m n o p",
			"[SEP] a [SEP]b[SEP] \xc2\xad \xc2\xad dog",
		"New York New York  New York foo a b b b  b b b", "e\xcc\x81\xcc\x81 \xcc\x81 dog"
	};
	static char run[200001];
	DistilChunk *chunks;
	int			n;
	DistilText	text = {"한국어", 9};
	DistilError err;

	for (size_t v = 0; v < NVARIANTS; v++)
		for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
			for (int max = 8; max < 24; max += 3)
				for (int overlap = 0; overlap < 6; overlap += 2)
					check_chunks(variants[v].tokenizer, texts[i], max, overlap);
	/* one word without blanks, far beyond a chunk */
	for (size_t i = 0; i < sizeof(run) - 1; i++)
		run[i] = "dog,cute.x-"[i % 11];
	check_chunks(variants[0].tokenizer, run, 1000, 0);
	test_long_word(run, sizeof(run) - 1);
	CHECK(distil_tokenizer_chunk(variants[0].tokenizer, &chunks, &n, &text, 2, 0, &counting, NULL,
								 &err) == DISTIL_ERR_ARGUMENT);
	CHECK(distil_tokenizer_chunk(variants[0].tokenizer, &chunks, &n, &text, 9, 7, &counting, NULL,
								 &err) == DISTIL_ERR_ARGUMENT);
	CHECK(distil_tokenizer_chunk(variants[0].tokenizer, &chunks, &n, &text, 9, -1, &counting, NULL,
								 &err) == DISTIL_ERR_ARGUMENT);
}

/* ---------- memory and hostile blobs ---------- */

/* Every allocation fails once: an error each time, and nothing is left. */
static void
test_no_memory(const char *file)
{
	static const char text_data[] = "Hello [SEP] x\xcc\x81\xcc\xa3 New York b b";
	size_t		length;
	char	   *data = read_file(file, &length);
	Memory		memory = {data, length};
	DistilError err;
	DistilText	text = {text_data, sizeof(text_data) - 1};
	bool		done = false;
	long		before = live_blocks;

	for (long n = 0; !done; n++)
	{
		char	   *blob;
		size_t		size;
		DistilTokenizer *t = NULL;
		DistilEncoding e;
		DistilStatus status;

		allocations = 0;
		fail_at = n;
		distil_encoding_init(&e, &counting);
		status = compile_files(&blob, &size, "tokenizer.json", &memory, NULL, NULL, &counting, &err);
		if (status == DISTIL_OK)
			status = distil_tokenizer_open(&t, blob, size, &counting, &err);
		if (status == DISTIL_OK)
		{
			DistilEncodeOptions options = distil_tokenizer_defaults(t);

			status = distil_tokenizer_encode(t, &e, &text, &text, &options, NULL, &err);
		}
		CHECK(status == DISTIL_OK || status == DISTIL_ERR_MEMORY);
		done = status == DISTIL_OK;
		distil_encoding_reset(&e);
		distil_tokenizer_free(t);
		free(blob);
		CHECK_MSG(live_blocks == before, "%ld blocks left when allocation %ld fails", live_blocks - before,
				  n);
	}
	fail_at = -1;
	free(data);
}

/* A damaged blob gives an error or wrong tokens, never a crash (run under sanitizers). */
static void
test_damaged(void)
{
	uint32_t	seed = 1;
	DistilError err;
	DistilText	text = {"Hello, unaffable dog [SEP] New York \xe4\xb8\xad", 39};

	for (size_t v = 0; v < 16; v += 3)
	{
		char	   *copy = malloc(variants[v].size);

		for (int round = 0; round < 3000; round++)
		{
			DistilTokenizer *t;
			size_t		size = variants[v].size;

			memcpy(copy, variants[v].blob, size);
			for (int k = 0; k < 1 + round % 40; k++)
			{
				size_t		where;

				seed = seed * 1664525u + 1013904223u;
				where = (seed >> 4) % (round % 2 == 0 ? sizeof(DistilTokenizerBlob) : size);
				copy[where] = (char) (copy[where] ^ 1 << (seed >> 28 & 7));
			}
			if (round % 5 == 0)
				size = (seed >> 3) % size;
			if (distil_tokenizer_open(&t, copy, size, &counting, &err) == DISTIL_OK)
			{
				DistilEncodeOptions options = distil_tokenizer_defaults(t);
				DistilEncoding e;
				char	   *decoded;
				size_t		length;

				distil_encoding_init(&e, &counting);
				options.offsets = true;
				if (distil_tokenizer_encode(t, &e, &text, &text, &options, NULL, &err) == DISTIL_OK &&
					distil_tokenizer_decode(t, &decoded, &length, e.ids, e.n, false, &counting, &err) ==
						DISTIL_OK)
					count_release(NULL, decoded);
				(void) distil_tokenizer_id(t, "New York", 8);
				distil_encoding_reset(&e);
				distil_tokenizer_free(t);
			}
		}
		free(copy);
	}
	CHECK(true);
}

/* ---------- characters ---------- */

static void
test_unicode(void)
{
	uint32_t	out[DISTIL_MAX_DECOMPOSITION];
	uint8_t		bytes[4];
	uint32_t	cp;

	CHECK(distil_char_nfd(out, 0xAC01) == 3 && out[0] == 0x1100 && out[1] == 0x1161 && out[2] == 0x11A8);
	CHECK(distil_char_nfd(out, 0x1EA5) == 3 && out[0] == 'a' && out[1] == 0x302 && out[2] == 0x301);
	CHECK(distil_char_nfd(out, 0x10FFFF) == 1 && out[0] == 0x10FFFF);
	CHECK(distil_char_lower(out, 0x130) == 2 && out[0] == 'i' && out[1] == 0x307);
	CHECK(distil_char_lower(out, 0x3A3) == 1 && out[0] == 0x3C3);
	CHECK((distil_char_props(0x2B820).flags & DISTIL_CHAR_CJK) == 0);
	CHECK((distil_char_props(0x2B920).flags & DISTIL_CHAR_CJK) != 0);
	for (uint32_t c = 0; c < 0x110000; c += 7)
		if (c < 0xD800 || c >= 0xE000)
		{
			int			n = distil_utf8_encode(bytes, c);

			CHECK(distil_utf8_decode(&cp, bytes, bytes + n) == n && cp == c);
			CHECK(n == 1 || distil_utf8_decode(&cp, bytes, bytes + n - 1) == 0);
		}
}

int
main(void)
{
	test_unicode();
	for (size_t i = 0; i < NVARIANTS; i++)
		open_variant(&variants[i]);
	test_goldens("tokens.txt");
	test_goldens("models.txt");
	test_facts();
	test_decode();
	test_encode_errors();
	test_truncation();
	test_truncation_of_one();
	test_windows();
	test_own_text();
	test_chunks();
	test_no_memory("added.json");
	test_no_memory("bpe-prefix.json");
	test_no_memory("unigram-strip.json");
	test_no_memory("unigram-first.json");
	test_damaged();
	for (size_t i = 0; i < NVARIANTS; i++)
	{
		distil_tokenizer_free(variants[i].tokenizer);
		free(variants[i].blob);
	}
	CHECK_MSG(live_blocks == 0, "%ld blocks left", live_blocks);
	return check_report("tokenizer");
}
