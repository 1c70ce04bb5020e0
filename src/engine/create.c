/*
 * create.c
 *		A model from a configuration alone: random weights as transformers initialises them.
 *
 * The rules a newcomer would break: the rows of padding tokens are zero; GPT-2 divides the
 * spread of what is added to the residual stream by sqrt(2 layers).
 */
#include "config.h"

#include "rng.h"
#include "status.h"
#include "student.h"
#include "tokenizer.h"

#include <math.h>
#include <string.h>

#define VALUES 65536			/* random numbers between polls */

typedef struct TextFile
{
	const char *data;
	size_t		length;
} TextFile;

struct DistilCreated
{
	DistilArena *arena;
	DistilSpec	spec;
	float	   *weights;
	TextFile	config;
	DistilFolder small;
	DistilStudentFolder *folder;
	const DistilAllocator *alloc;
};

static DistilStatus
read_text(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	const TextFile *file = ctx;

	if (offset > file->length || bytes > file->length - offset)
		return distil_fail(err, DISTIL_ERR_IO, "read beyond the end of a configuration");
	memcpy(buffer, file->data + offset, bytes);
	return DISTIL_OK;
}

/* Files a tokenizer is made of; a sentence model's modules are no part of it. */
static bool
is_tokenizer_file(const char *name)
{
	static const char *const names[] = {
		"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
			"vocab.txt",
		"vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model"
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static DistilStatus
make_small_files(DistilCreated *made, const char *config, size_t length, const DistilModel *from,
				 DistilError *err)
{
	DistilFile *files = distil_arena_alloc(made->arena, (size_t) from->nfiles + 1, sizeof(DistilFile));
	const DistilFolder source = {from->files, from->nfiles};

	DISTIL_FORWARD(distil_tokenizer_config(&config, &length, &source, made->arena, made->alloc, err));
	made->config.data = distil_arena_string(made->arena, config, length);
	made->config.length = length;
	if (files == NULL || made->config.data == NULL)
		return distil_fail_memory(err, length);
	files[0] = (DistilFile) {
		"config.json", {read_text, &made->config, length}
	};
	made->small.files = files;
	made->small.nfiles = 1;
	for (int i = 0; i < from->nfiles; i++)
		if (is_tokenizer_file(from->files[i].name))
			files[made->small.nfiles++] = from->files[i];
	return DISTIL_OK;
}

/* Standard deviation of a parameter's values. */
static double
spread_of(const DistilSpec *spec, int param)
{
	const DistilConfig *config = &spec->config;

	for (int i = 0; config->causal && i < config->layers; i++)
		if (param == spec->layer[i].out_weight || param == spec->layer[i].down_weight)
			return config->initializer_range / sqrt(2.0 * config->layers);
	return config->initializer_range;
}

static DistilStatus
fill_param(DistilCreated *made, int index, int64_t seed, const DistilPoll *poll, DistilError *err)
{
	const DistilParam *param = &made->spec.table.params[index];
	float	   *w = made->weights + param->offset;
	double		spread = spread_of(&made->spec, index);
	DistilRng	rng;

	if ((param->flags & DISTIL_PARAM_NORMAL) == 0)
	{
		for (size_t i = 0; i < param->count; i++)
			w[i] = (param->flags & DISTIL_PARAM_ONES) != 0 ? 1.0f : 0.0f;
		return DISTIL_OK;
	}
	distil_rng_open(&rng, seed, DISTIL_RNG_INIT, (uint64_t) index);
	for (size_t i = 0; i < param->count; i++)
	{
		if (i % VALUES == 0)
			DISTIL_POLL(poll, err);
		w[i] = (float) (spread * distil_rng_normal(&rng));
	}
	return DISTIL_OK;
}

/* Row p of the sinusoidal table: sin and cos of p / 10000^(2i / C) in turn. */
static void
fill_sinusoids(DistilCreated *made)
{
	const DistilParam *param = &made->spec.table.params[made->spec.position];
	int			c = param->cols;

	for (int p = 0; p < param->rows; p++)
		for (int i = 0; i < c; i++)
		{
			double		angle = p / pow(10000.0, 2.0 * (i / 2) / c);

			made->weights[param->offset + (size_t) p * (size_t) c + (size_t) i] =
				(float) (i % 2 == 0 ? sin(angle) : cos(angle));
		}
}

static void
zero_row(DistilCreated *made, int param, int row)
{
	const DistilParam *table = &made->spec.table.params[param];

	if (row >= 0 && row < table->rows)
		memset(made->weights + table->offset + (size_t) row * (size_t) table->cols, 0,
			   (size_t) table->cols * sizeof(float));
}

static DistilStatus
fill_weights(DistilCreated *made, int64_t seed, const DistilPoll *poll, DistilError *err)
{
	const DistilConfig *config = &made->spec.config;

	made->weights = distil_alloc_array(made->alloc, made->spec.table.total, sizeof(float));
	if (made->weights == NULL)
		return distil_fail_memory(err, made->spec.table.total * sizeof(float));
	for (int i = 0; i < made->spec.table.n; i++)
		DISTIL_FORWARD(fill_param(made, i, seed, poll, err));
	if (config->sinusoidal_positions)
		fill_sinusoids(made);
	if (!config->causal)
		zero_row(made, made->spec.word, config->pad_id);
	if (config->position_offset > 0)
		zero_row(made, made->spec.position, config->position_offset - 1);
	return DISTIL_OK;
}

static DistilStatus
create(DistilCreated *made, const char *config, size_t length, const DistilModel *tokenizer_of, int64_t seed,
	   const DistilPoll *poll, DistilError *err)
{
	DistilSpecFacts facts;

	made->arena = distil_arena_create(made->alloc);
	if (made->arena == NULL)
		return distil_fail_memory(err, 0);
	DISTIL_FORWARD(make_small_files(made, config, length, tokenizer_of, err));
	DISTIL_FORWARD(distil_spec_facts(&facts, &made->small, NULL, made->alloc, err));
	DISTIL_FORWARD(distil_spec_build(&made->spec, &made->small, &facts, made->arena, made->alloc, err));
	if (distil_tokenizer_vocabulary(tokenizer_of->tokenizer) > made->spec.config.vocabulary)
	{
		distil_fail(err, DISTIL_ERR_ARGUMENT, "the tokenizer has more tokens than the configuration");
		return distil_fail_detail(err, DISTIL_ERR_ARGUMENT, "It has %d; \"vocab_size\" is %d.",
								  distil_tokenizer_vocabulary(tokenizer_of->tokenizer),
								  made->spec.config.vocabulary);
	}
	DISTIL_FORWARD(fill_weights(made, seed, poll, err));
	return distil_weight_folder_create(&made->folder, &made->spec, &made->small, made->weights, made->alloc,
									   err);
}

DistilStatus
distil_create(DistilCreated **created, const char *config, size_t length, const DistilModel *tokenizer_of,
			  int64_t seed, const DistilAllocator *alloc, const DistilPoll *poll, DistilError *err)
{
	DistilCreated *made = distil_alloc_array(alloc, 1, sizeof(DistilCreated));
	DistilStatus status;

	*created = NULL;
	if (made == NULL)
		return distil_fail_memory(err, sizeof(DistilCreated));
	made->alloc = alloc;
	status = create(made, config, length, tokenizer_of, seed, poll, err);
	if (status != DISTIL_OK)
	{
		distil_created_free(made);
		return status;
	}
	*created = made;
	return DISTIL_OK;
}

const DistilFolder *
distil_created_folder(const DistilCreated *created)
{
	return distil_student_folder(created->folder);
}

void
distil_created_free(DistilCreated *created)
{
	if (created == NULL)
		return;
	distil_student_folder_free(created->folder);
	distil_release(created->alloc, created->weights);
	distil_arena_free(created->arena);
	distil_release(created->alloc, created);
}
