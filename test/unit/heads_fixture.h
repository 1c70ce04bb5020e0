/*
 * heads_fixture.h
 *		The folders test/golden/models/heads-ARCH, put together head by head, and their goldens.
 */
#ifndef DISTIL_HEADS_FIXTURE_H
#define DISTIL_HEADS_FIXTURE_H

#include "head.h"
#include "json.h"
#include "layers.h"
#include "session.h"
#include "session_fixture.h"
#include "test_folder.h"

/*
 * Goldens are computed in float64; ours are float32 sums of 32 to 48 terms of size 1 over
 * two layers.  1e-4 is the manual's bound, 2e-5 what such sums can lose.
 */
#define TOLERANCE 2e-5

static const char *const architectures[] = {"albert", "bert", "distilbert", "roberta", "mpnet", "electra",
"electra-small", "gpt2"};
static const char *const kinds[] = {"lm", "sequence", "token", "question", "choice"};

#define ARCHITECTURES 8
#define KINDS 5

static inline DistilStatus
load_head(LoadedModel *loaded, const char *arch, const char *kind, DistilError *err)
{
	static const DistilImportOptions options = {true};
	TestFolder	folder;
	DistilStatus status = DISTIL_ERR_NO_FILE;

	memset(loaded, 0, sizeof(*loaded));
	if (compose(&folder, arch, kind))
		status = load_folder(loaded, &folder.folder, &options, err);
	test_folder_free(&folder);
	return status;
}

static inline bool
has_kind(const char *arch, const char *kind)
{
	return strcmp(arch, "gpt2") != 0 || strcmp(kind, "choice") != 0;
}

static const char *const head_texts[3] = {
	"the cat sat on the mat .",
	"A QUICK brown fox, 42 lazy dogs & the river?",
	"training a small model to do the work of a large one takes time and data; the king and the queries of a "
	"city come "
	"from the east, where the red fox runs fast in the dark night and the dogs see it"
};

static inline DistilText
text_of(const char *string)
{
	DistilText	text = {string, strlen(string)};

	return text;
}

static inline void
check_rows(const Goldens *g, const char *name, const float *got, int rows, int k, double tolerance)
{
	int			expected_rows = 0;
	float	   *expected = golden(g, name, &expected_rows);

	CHECK_MSG(rows == expected_rows, "%s: %d rows, expected %d", name, rows, expected_rows);
	if (expected != NULL && rows == expected_rows)
		CHECK_MSG(largest_difference(got, expected, (size_t) rows * (size_t) k) <= tolerance, "%s: %g", name,
				  largest_difference(got, expected, (size_t) rows * (size_t) k));
	free(expected);
}

static inline const DistilJson *
member(const DistilJson *object, const char *key)
{
	const DistilJson *value = distil_json_member(object, key);

	CHECK_MSG(value != NULL, "%s", key);
	return value;
}

static inline DistilJsonDoc *
facts_of(const char *arch)
{
	char		path[128];
	char		text[65536];
	FILE	   *file;
	size_t		n;
	DistilJsonDoc *doc = NULL;
	DistilError err = {"", "", ""};

	snprintf(path, sizeof(path), "test/golden/heads-%s.json", arch);
	file = fopen(path, "r");
	CHECK_MSG(file != NULL, "%s", path);
	if (file == NULL)
		return NULL;
	n = fread(text, 1, sizeof(text), file);
	fclose(file);
	CHECK_MSG(distil_json_parse(&doc, text, n, path, distil_alloc_system(), &err) == DISTIL_OK, "%s",
			  err.message);
	return doc;
}

#endif							/* DISTIL_HEADS_FIXTURE_H */
