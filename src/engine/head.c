/*
 * head.c
 *		The table of task heads and the arithmetic they share.
 *
 * A new head is a row here, its forms in the architectures' files, and a loss in a file
 * of its own.  The rule a newcomer would break: a class name in config.json does not
 * prove that the folder has the head's weights; sentence models are made from other models
 * and keep their class.
 */
#include "head.h"

#include "checkpoint.h"
#include "layers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const DistilHead heads[DISTIL_HEAD_KINDS] = {
	[DISTIL_HEAD_SEQUENCE] = {DISTIL_HEAD_SEQUENCE, "classify", "text-classification",
	"ForSequenceClassification", false},
	[DISTIL_HEAD_TOKEN] = {DISTIL_HEAD_TOKEN, "entities", "token-classification",
	"ForTokenClassification", true},
	[DISTIL_HEAD_QUESTION] = {DISTIL_HEAD_QUESTION, "answer", "question-answering",
	"ForQuestionAnswering", true},
	[DISTIL_HEAD_CHOICE] = {DISTIL_HEAD_CHOICE, "choose", "multiple-choice", "ForMultipleChoice", false}
};

/* ---------- which head a model has ---------- */

static bool
has_tensor(const DistilTensorSet *set, const DistilArch *arch, const char *stem)
{
	char		name[DISTIL_MAX_NAME + 1];

	snprintf(name, sizeof(name), "%s.weight", stem);
	return distil_checkpoint_find(set, arch, name) != NULL;
}

void
distil_head_detect(DistilSpecFacts *facts, const DistilArch *arch, const char *class_name,
				   const DistilTensorSet *tensors)
{
	facts->head = -1;
	facts->head_missing = false;
	for (const DistilHeadForm *form = arch->heads; form->out != NULL; form++)
	{
		char		name[120];

		snprintf(name, sizeof(name), "%s%s", arch->class_stem, heads[form->kind].class_suffix);
		if (strcmp(name, class_name) == 0)
		{
			if (tensors == NULL || has_tensor(tensors, arch, form->out))
				facts->head = (int) form->kind;
			else
				facts->head_missing = true;
			return;
		}
		/* without a class only this head's tensors speak for themselves */
		if (class_name[0] == '\0' && form->kind == DISTIL_HEAD_QUESTION && tensors != NULL &&
			has_tensor(tensors, arch, form->out))
			facts->head = (int) form->kind;
	}
	/* a class of this architecture with a head that is not among them */
	if (strncmp(class_name, arch->class_stem, strlen(arch->class_stem)) == 0)
		facts->head_missing = !facts->with_lm && strcmp(class_name + strlen(arch->class_stem), "Model") != 0;
}

static int
head_outputs(const DistilConfig *config, DistilHeadKind kind)
{
	switch (kind)
	{
		case DISTIL_HEAD_QUESTION:
			return 2;
		case DISTIL_HEAD_CHOICE:
			return 1;
		default:
			return config->nlabels;
	}
}

DistilStatus
distil_head_params(DistilSpec *spec, int kind, DistilError *err)
{
	DistilHeadParams *head = &spec->head;
	const DistilHeadForm *form = spec->config.arch->heads;
	int			c = spec->config.width;
	char		source[DISTIL_MAX_NAME + 1];

	if (kind < 0)
		return DISTIL_OK;
	while (form->out != NULL && (int) form->kind != kind)
		form++;
	if (form->out == NULL)
		return distil_fail(err, DISTIL_ERR_CORRUPT, "the architecture has no such head");
	head->head = &heads[form->kind];
	head->form = form;
	head->outputs = head_outputs(&spec->config, form->kind);
	if (head->outputs < 1)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "\"id2label\" of file \"config.json\" is empty");
	if (form->kind == DISTIL_HEAD_QUESTION && spec->config.nlabels != 2)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "a head for questions whose \"num_labels\" is %d instead of 2 is not supported",
						   spec->config.nlabels);
	if (form->dense != NULL)
		DISTIL_FORWARD(distil_pair_params(spec, &head->dense_weight, &head->dense_bias, "head.dense",
										  form->dense, c, c, err));
	snprintf(source, sizeof(source), "%s.weight", form->out);
	DISTIL_FORWARD(distil_single_param(spec, &head->out_weight, "head.out.weight", source, head->outputs, c,
									   DISTIL_PARAM_NORMAL, err));
	if (form->no_bias)
		return DISTIL_OK;
	snprintf(source, sizeof(source), "%s.bias", form->out);
	return distil_single_param(spec, &head->out_bias, "head.out.bias", source, head->outputs, 0,
							   DISTIL_PARAM_NO_DECAY, err);
}

bool
distil_head_ranks(const DistilSpec *spec)
{
	return spec->head.head != NULL && spec->head.head->kind == DISTIL_HEAD_SEQUENCE &&
		spec->head.outputs == 1 && (spec->config.ranks || spec->config.problem != DISTIL_PROBLEM_REGRESSION);
}

DistilProblem
distil_head_problem(const DistilSpec *spec)
{
	if (spec->config.problem != DISTIL_PROBLEM_UNSET)
		return spec->config.problem;
	return spec->head.outputs == 1 ? DISTIL_PROBLEM_REGRESSION : DISTIL_PROBLEM_SINGLE_LABEL;
}

void
distil_head_info(DistilHeadInfo *info, const DistilSpec *spec)
{
	const DistilHead *head = spec->head.head;
	bool		labelled = head->kind == DISTIL_HEAD_SEQUENCE || head->kind == DISTIL_HEAD_TOKEN;

	info->name = distil_head_ranks(spec) ? "rerank" : head->name;
	info->task = distil_head_ranks(spec) ? "text-ranking" : head->task;
	info->nlabels = labelled ? spec->head.outputs : 0;
	info->labels = labelled ? spec->config.labels : NULL;
}

/* ---------- forward and backward ---------- */

void
distil_head_rows(int32_t *rows, const DistilSpec *spec, const int32_t *ids, const int32_t *offsets, int nseq)
{
	int			b;

	for (b = 0; b < nseq; b++)
	{
		int32_t		row = offsets[b];

		if (spec->head.form->last)
		{
			/* the last token that is no padding, as where sequences are padded */
			row = offsets[b + 1] - 1;
			while (row > offsets[b] && ids[row] == spec->config.pad_id)
				row--;
		}
		rows[b] = row;
	}
}

DistilStatus
distil_head_forward(const DistilSpec *spec, const float *weights, float *logits, const float *x, int n,
					float *work, DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	const DistilHeadParams *head = &spec->head;
	int			c = spec->config.width;
	size_t		nc = (size_t) n * (size_t) c;
	const float *h = x;

	if (head->dense_weight >= 0)
	{
		DISTIL_FORWARD(distil_linear_forward(work, (size_t) c, x, (size_t) c,
											 distil_weight(spec, weights, head->dense_weight),
											 distil_weight(spec, weights, head->dense_bias),
											 DISTIL_ACT_NONE, n, c, c, device, poll, err));
		DISTIL_FORWARD(distil_activation_rows(head->form->activation, work + nc, work, nc, device, poll,
											  err));
		h = work + nc;
	}
	return distil_linear_forward(logits, (size_t) head->outputs, h, (size_t) c,
								 distil_weight(spec, weights, head->out_weight),
								 distil_weight(spec, weights, head->out_bias),
								 DISTIL_ACT_NONE, n, head->outputs, c, device, poll, err);
}

/* Gradient of a parameter, NULL when absent or frozen. */
static float *
gradient_of(const DistilSpec *spec, float *gradients, int param)
{
	DistilPass	pass = {0};

	pass.spec = spec;
	pass.gradients = gradients;
	return distil_pass_gradient(&pass, param);
}

DistilStatus
distil_head_backward(const DistilSpec *spec, const float *weights, float *gradients, float *dx,
					 const float *dlogits, const float *x, int n, const float *work, float *scratch,
					 DistilDevice *device, const DistilPoll *poll, DistilError *err)
{
	const DistilHeadParams *head = &spec->head;
	int			c = spec->config.width;
	size_t		nc = (size_t) n * (size_t) c;
	bool		dense = head->dense_weight >= 0;

	DISTIL_FORWARD(distil_linear_backward(dense ? scratch : dx, (size_t) c, false,
										  gradient_of(spec, gradients, head->out_weight),
										  gradient_of(spec, gradients, head->out_bias),
										  dlogits, (size_t) head->outputs, dense ? work + nc : x, (size_t) c,
										  distil_weight(spec, weights, head->out_weight),
										  n, head->outputs, c, device, poll, err));
	if (!dense)
		return DISTIL_OK;
	DISTIL_FORWARD(distil_activation_backward_rows(head->form->activation, scratch, scratch, work, nc, device,
												   poll, err));
	return distil_linear_backward(dx, (size_t) c, false, gradient_of(spec, gradients, head->dense_weight),
								  gradient_of(spec, gradients, head->dense_bias), scratch, (size_t) c,
								  x, (size_t) c, distil_weight(spec, weights, head->dense_weight),
								  n, c, c, device, poll, err);
}

/* ---------- the loss they share ---------- */

/* No fmax: in a loop over floats it is an internal error of GCC 12 for ARM. */
double
distil_largest(const float *x, int n, size_t step)
{
	float		top = -INFINITY;
	int			i;

	for (i = 0; i < n; i++)
	{
		float		value = x[(size_t) i * step];

		top = value > top ? value : top;
	}
	return top;
}

double
distil_cross_entropy(float *dlogits, const float *logits, size_t step, int k, int label, double weight)
{
	double		top = distil_largest(logits, k, step);
	double		sum = 0;
	int			i;

	for (i = 0; i < k; i++)
		sum += exp(logits[(size_t) i * step] - top);
	for (i = 0; dlogits != NULL && i < k; i++)
	{
		double		p = exp(logits[(size_t) i * step] - top) / sum;

		dlogits[(size_t) i * step] += (float) (weight * (p - (i == label)));
	}
	return weight * (log(sum) + top - logits[(size_t) label * step]);
}
