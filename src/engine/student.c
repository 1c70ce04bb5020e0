/*
 * student.c
 *		The structure and the first weights of a student.
 *
 * Its config.json is written first and read back by the same code that reads any
 * model's: what the student trains as is what its folder says.  Parameters are matched
 * by canonical name, which is the same in all architectures.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "folder.h"
#include "status.h"
#include "student.h"
#include "student_files.h"

void
distil_student_layers(int *layers, int n, int teacher_layers, DistilMethod method)
{
	static const int six_of_twelve[] = {0, 2, 4, 7, 9, 11};
	int			i;

	memset(layers, 0, DISTIL_MAX_LAYERS * sizeof(int));
	if (method == DISTIL_METHOD_TRIPLE && n == 6 && teacher_layers == 12)
	{
		memcpy(layers, six_of_twelve, sizeof(six_of_twelve));
		return;
	}
	if (n == 1)
		layers[0] = teacher_layers - 1;
	for (i = 0; n > 1 && i < n; i++)
		layers[i] = i * (teacher_layers - 1) / (n - 1);
}

static DistilStatus
student_config(DistilConfig *config, const DistilModel *teacher, const DistilTrainOptions *options,
			   DistilError *err)
{
	*config = teacher->spec.config;
	config->layers = options->nlayers;
	if (options->method != DISTIL_METHOD_TRIPLE)
		return DISTIL_OK;
	config->arch = distil_arch_find(config->arch->student_type);
	if (config->arch == NULL)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "method \"triple\" has no student for architecture \"%s\"",
						   teacher->spec.info.architecture);
	if (config->arch == teacher->spec.config.arch)
		return DISTIL_OK;
	/* DistilBERT keeps these in its code, not in its configuration. */
	if (config->norm_eps != 1e-12f)
	{
		distil_fail(err, DISTIL_ERR_UNSUPPORTED,
					"method \"triple\" does not support this teacher's \"layer_norm_eps\"");
		return distil_fail_detail(err, DISTIL_ERR_UNSUPPORTED,
								  "It is %g; the student's architecture has 1e-12.",
								  (double) config->norm_eps);
	}
	config->model_type = config->arch->model_type;
	config->types = 0;
	config->attention_output_dropout = false;
	/* The table is the teacher's, not sinusoids; whether it learns is up to the job. */
	config->sinusoidal_positions = false;
	return DISTIL_OK;
}

/* "BertForMaskedLM", or the class of a backbone without a head: "BertModel". */
static void
class_of(char *name, size_t size, const DistilArch *arch, bool with_lm)
{
	if (with_lm)
		snprintf(name, size, "%s", arch->lm_class);
	else
		snprintf(name, size, "%sModel", arch->class_stem);
}

DistilStatus
distil_student_spec(DistilSpec *spec, const DistilModel *teacher, const DistilTrainOptions *options,
					DistilArena *arena, DistilError *err)
{
	bool		with_lm = options->method == DISTIL_METHOD_TRIPLE;
	DistilConfig config;
	DistilBuffer text;
	DistilFolder folder;
	DistilSpecFacts facts = {0};
	DistilStatus status;
	char		class_name[80];
	int			i;

	DISTIL_FORWARD(student_config(&config, teacher, options, err));
	class_of(class_name, sizeof(class_name), config.arch, with_lm);
	distil_buffer_init(&text, teacher->alloc);
	status = config.arch->write_config(&config, class_name, &text, err);
	if (status == DISTIL_OK)
		status = distil_student_small_files(&folder, teacher, text.data, text.length, arena, err);
	distil_buffer_free(&text);
	DISTIL_FORWARD(status);
	DISTIL_FORWARD(distil_spec_facts(&facts, &folder, NULL, teacher->alloc, err));
	facts.with_lm = with_lm;
	facts.dtype = "float32";
	DISTIL_FORWARD(distil_spec_build(spec, &folder, &facts, arena, teacher->alloc, err));
	if (options->freeze_pos_embs)
		spec->table.params[spec->position].flags |= DISTIL_PARAM_FROZEN;
	if (options->freeze_token_type_embds)
	{
		if (spec->type < 0)
			return distil_fail(err, DISTIL_ERR_ARGUMENT,
							   "option \"freeze_token_type_embds\" does not apply "
							   "to a student without token types");
		spec->table.params[spec->type].flags |= DISTIL_PARAM_FROZEN;
	}
	spec->info.parameters = 0;
	for (i = 0; i < spec->table.n; i++)
		spec->info.parameters += (int64_t) spec->table.params[i].count;
	return DISTIL_OK;
}

/*
 * The teacher's parameter for a student's: "layer.2.qkv.weight" of layers {0, 2, 5} is "layer.5.qkv.weight".
 * Where layers share one set of parameters it is that, and the student passes through it less often.
 */
static const DistilParam *
teacher_param(const DistilParam *param, const DistilModel *teacher, const DistilTrainOptions *options)
{
	const DistilParamTable *table = &teacher->spec.table;
	char		name[DISTIL_MAX_NAME + 1];
	int			i;

	snprintf(name, sizeof(name), "%s", param->name);
	if (strncmp(param->name, "layer.", 6) == 0 && !teacher->spec.config.shared_layers)
	{
		char	   *rest;
		long		layer = strtol(param->name + 6, &rest, 10);

		if (layer >= 0 && layer < options->nlayers)
			snprintf(name, sizeof(name), "layer.%d%s", options->layers[layer], rest);
	}
	for (i = 0; i < table->n; i++)
		if (strcmp(table->params[i].name, name) == 0)
			return &table->params[i];
	return NULL;
}

/*
 * One parameter of the teacher, through the scratch.  row [cols] is added to each of its rows; NULL: nothing.
 */
static DistilStatus
copy_param(float *to, const float *weights, const DistilParam *param, const float *row, float *scratch,
		   size_t n, DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	size_t		at;
	size_t		i;

	for (at = 0; at < param->count; at += n)
	{
		size_t		count = param->count - at < n ? param->count - at : n;

		DISTIL_POLL(poll, err);
		distil_param_read(scratch, weights, param, at, count);
		for (i = 0; row != NULL && i < count; i++)
			scratch[i] += row[(at + i) % (size_t) param->cols];
		device->ops->copy_in(device, to + at, scratch, count * sizeof(float));
	}
	return DISTIL_OK;
}

DistilStatus
distil_student_weights(float *weights, const DistilSpec *spec, const DistilModel *teacher,
					   const DistilTrainOptions *options, float *scratch, size_t n,
					   DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	size_t		end = 0;
	int			i;

	for (i = 0; i < spec->table.n; i++)
	{
		const DistilParam *param = &spec->table.params[i];
		const DistilParam *from = teacher_param(param, teacher, options);
		const float *row = NULL;

		if (from == NULL || from->rows != param->rows || from->cols != param->cols)
			return distil_fail(err, DISTIL_ERR_STATE, "the teacher has no parameter \"%s\" for its student",
							   param->name);
		/* Segment row 0 goes into the positions, not into the word table: the decoder shares that one. */
		if (i == spec->position && spec->type < 0)
			row = distil_weight(&teacher->spec, teacher->weights, teacher->spec.type);
		device->ops->zero(device, weights + end, param->offset - end);	/* padding */
		DISTIL_FORWARD(copy_param(weights + param->offset, teacher->weights, from, row,
								  scratch, n, device, poll, err));
		end = param->offset + param->count;
	}
	device->ops->zero(device, weights + end, spec->table.total - end);
	return DISTIL_OK;
}
