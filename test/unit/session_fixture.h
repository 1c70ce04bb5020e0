/*
 * session_fixture.h
 *		What the tests of sessions share: the golden texts and tensors, a device, a session.
 */
#ifndef DISTIL_SESSION_FIXTURE_H
#define DISTIL_SESSION_FIXTURE_H

#include "check.h"
#include "load_model.h"
#include "safetensors.h"

#define MODELS "test/golden/models/"
#define NTEXTS 7

static DistilDevice *device;
static DistilText texts[NTEXTS];
static DistilText pair[2];

/* ---------- goldens ---------- */

typedef struct Goldens
{
	DistilFolder *folder;
	DistilTensorSet *set;
} Goldens;

static inline bool
goldens_open(Goldens *g, const char *file)
{
	DistilError err;
	const DistilFile *found;

	CHECK(distil_folder_open_disk(&g->folder, "test/golden", distil_alloc_system(), &err) == DISTIL_OK);
	found = distil_folder_find(g->folder, file);
	CHECK_MSG(found != NULL, "%s", file);
	return found != NULL &&
		distil_tensor_set_create(&g->set, distil_alloc_system(), &err) == DISTIL_OK &&
		distil_tensor_set_add(g->set, &found->reader, file, "", &err) == DISTIL_OK &&
		distil_tensor_set_finish(g->set, &err) == DISTIL_OK;
}

static inline void
goldens_close(Goldens *g)
{
	distil_tensor_set_free(g->set);
	distil_folder_close_disk(g->folder, distil_alloc_system());
}

/* Floats of a golden, to be freed; *rows of its first dimension. */
static inline float *
golden(const Goldens *g, const char *name, int *rows)
{
	const DistilTensor *tensor = distil_tensor_set_find(g->set, name);
	float	   *data;
	DistilError err;

	CHECK_MSG(tensor != NULL, "%s", name);
	if (tensor == NULL)
		return NULL;
	data = malloc((size_t) tensor->bytes + 4);
	CHECK(distil_tensor_read(tensor, 0, data, (size_t) tensor->bytes, &err) == DISTIL_OK);
	*rows = tensor->rank > 0 ? (int) tensor->shape[0] : 0;
	return data;
}

static inline double
largest_difference(const float *a, const float *b, size_t n)
{
	double		worst = 0;
	size_t		i;

	for (i = 0; i < n; i++)
		worst = check_worse(worst, fabs((double) a[i] - b[i]));
	return worst;
}

/* A text's numbers in two batches: the same bits, but where OpenBLAS multiplies (to rounding there). */
static inline bool
same_in_batches(const float *a, const float *b, size_t n)
{
	if (distil_cpu_has("avx2"))
		return memcmp(a, b, n * sizeof(float)) == 0;
	return largest_difference(a, b, n) <= 1e-5;
}

static inline void
read_texts(void)
{
	static const char *const words[NTEXTS] = {
		"the cat sat on the mat .",
		"a database stores rows and columns; queries read them",
		"hello",
		"A QUICK brown fox, 42 lazy dogs & the river?",
		"training a small model to do the work of a large one takes time and data",
		"",
		"the [MASK] sat on the river ."
	};
	int			i;

	for (i = 0; i < NTEXTS; i++)
	{
		texts[i].data = words[i];
		texts[i].length = strlen(words[i]);
	}
	pair[0].data = "where is the cat";
	pair[0].length = strlen(pair[0].data);
	pair[1].data = "the cat is on the mat";
	pair[1].length = strlen(pair[1].data);
}

static inline DistilSession *
open_session(const DistilModel *model, size_t memory)
{
	DistilSession *session = NULL;
	DistilError err = {"", "", ""};
	DistilStatus status = distil_session_create(&session, model, device, memory, distil_alloc_system(),
												NULL, &err);

	CHECK_MSG(status == DISTIL_OK, "%s %s", err.message, err.detail);
	return session;
}

#endif							/* DISTIL_SESSION_FIXTURE_H */
