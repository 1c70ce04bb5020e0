/*
 * config.c
 *		From a folder's configuration files to a DistilSpec.
 *
 * The rule a newcomer would break: a field of config.json that changes the result is
 * either honoured or refused by its name; it is never passed over.  Fields that only
 * steer training scripts, generation or memory (use_cache, chunk_size_feed_forward,
 * output_attentions, dtype, ...) change no result and are not looked at.
 */
#include "config.h"

#include "checkpoint.h"
#include "folder.h"
#include "head.h"
#include "layers.h"
#include "status.h"
#include "tokenizer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------- values ---------- */

DistilStatus
distil_config_size(int *out, const DistilJsonDoc *doc, const char *key, int def, int limit,
				   DistilError *err)
{
	int64_t		value;

	DISTIL_FORWARD(distil_json_get_int(doc, distil_json_root(doc), key, def, 1, INT64_MAX, &value, err));
	if (value > limit)
	{
		distil_fail(err, DISTIL_ERR_LIMIT, "\"%s\" of file \"config.json\" is too large", key);
		return distil_fail_detail(err, DISTIL_ERR_LIMIT, "It is %lld; the limit is %d.", (long long) value,
								  limit);
	}
	*out = (int) value;
	return DISTIL_OK;
}

DistilStatus
distil_config_aliased(int *out, const DistilJsonDoc *doc, const char *key, const char *other, int def,
					  int limit, DistilError *err)
{
	DISTIL_FORWARD(distil_config_size(out, doc, key, def, limit, err));
	return distil_config_size(out, doc, other, *out, limit, err);
}

DistilStatus
distil_config_float(float *out, const DistilJsonDoc *doc, const char *key, double def,
					double min, double max, DistilError *err)
{
	double		value;

	DISTIL_FORWARD(distil_json_get_number(doc, distil_json_root(doc), key, def, min, max, &value, err));
	*out = (float) value;
	return DISTIL_OK;
}

static const struct
{
	const char *name;
	DistilActivation activation;
}			activations[] = {	/* the first name of each is the one written */
	{"gelu", DISTIL_ACT_GELU}, {"gelu_python", DISTIL_ACT_GELU},
	{"gelu_new", DISTIL_ACT_GELU_TANH}, {"gelu_pytorch_tanh", DISTIL_ACT_GELU_TANH},
	{"gelu_fast", DISTIL_ACT_GELU_TANH}, {"gelu_accurate", DISTIL_ACT_GELU_TANH},
	{"gelu_python_tanh", DISTIL_ACT_GELU_TANH}, {"quick_gelu", DISTIL_ACT_QUICK_GELU},
	{"relu", DISTIL_ACT_RELU}, {"silu", DISTIL_ACT_SILU}, {"swish", DISTIL_ACT_SILU},
	{"tanh", DISTIL_ACT_TANH}, {"sigmoid", DISTIL_ACT_SIGMOID}
};

#define ACTIVATIONS (sizeof(activations) / sizeof(activations[0]))

DistilStatus
distil_config_activation(DistilActivation *out, const DistilJsonDoc *doc, const char *key,
						 const char *def, DistilError *err)
{
	const char *name;
	char		shown[80];

	DISTIL_FORWARD(distil_json_get_string(doc, distil_json_root(doc), key, def, &name, err));
	for (size_t i = 0; i < ACTIVATIONS; i++)
		if (strcmp(activations[i].name, name) == 0)
		{
			*out = activations[i].activation;
			return DISTIL_OK;
		}
	distil_fail(err, DISTIL_ERR_UNSUPPORTED, "activation \"%s\" is not supported",
				distil_printable(shown, sizeof(shown), name, strlen(name)));
	return distil_fail_detail(err, DISTIL_ERR_UNSUPPORTED, "It is \"%s\" of file \"config.json\".", key);
}

const char *
distil_activation_name(DistilActivation activation)
{
	for (size_t i = 0; i < ACTIVATIONS; i++)
		if (activations[i].activation == activation)
			return activations[i].name;
	return "linear";
}

DistilStatus
distil_config_check(DistilConfig *config, const char *width_key, const char *heads_key, DistilError *err)
{
	if (config->width % config->heads != 0)
	{
		distil_fail(err, DISTIL_ERR_TEXT_FILE, "\"%s\" of file \"config.json\" is not a multiple of \"%s\"",
					width_key, heads_key);
		return distil_fail_detail(err, DISTIL_ERR_TEXT_FILE, "They are %d and %d.", config->width,
								  config->heads);
	}
	config->head_dim = config->width / config->heads;
	return DISTIL_OK;
}

/* ---------- writing ---------- */

bool
distil_config_printf(DistilBuffer *out, const char *format, ...)
{
	char		text[500];
	va_list		args;
	int			length;

	va_start(args, format);
	length = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return length >= 0 && (size_t) length < sizeof(text) && distil_buffer_append(out, text,
																				 (size_t) length);
}

bool
distil_config_number(DistilBuffer *out, const char *key, float value)
{
	char		text[40];

	for (int digits = 6; digits <= 9; digits++)
	{
		snprintf(text, sizeof(text), "%.*g", digits, (double) value);
		if (strtof(text, NULL) == value)
			break;
	}
	return distil_config_printf(out, "  \"%s\": %s,\n", key, text);
}

bool
distil_config_write_common(const DistilConfig *config, const char *class_name, DistilBuffer *out)
{
	bool		ok;

	ok = distil_config_printf(out, "{\n  \"architectures\": [\n    \"%s\"\n  ],\n", class_name) &&
		distil_config_number(out, "initializer_range", config->initializer_range) &&
		distil_config_printf(out, "  \"max_position_embeddings\": %d,\n", config->positions) &&
		distil_config_printf(out, "  \"model_type\": \"%s\",\n", config->arch->model_type);
	if (ok && config->pad_id >= 0)
		ok = distil_config_printf(out, "  \"pad_token_id\": %d,\n", config->pad_id);
	return ok &&
		distil_config_printf(out, "  \"tie_word_embeddings\": %s,\n",
							 config->tie_word_embeddings ? "true" : "false") &&
		distil_config_printf(out, "  \"vocab_size\": %d,\n", config->vocabulary);
}

/* ---------- reading what all architectures share ---------- */

static DistilStatus
refuse_field(const char *key, const char *what, DistilError *err)
{
	distil_fail(err, DISTIL_ERR_UNSUPPORTED, "models with %s are not supported", what);
	return distil_fail_detail(err, DISTIL_ERR_UNSUPPORTED, "\"%s\" is set in file \"config.json\".", key);
}

/* Fields of config.json that would make it another model. */
static DistilStatus
check_refused(const DistilJsonDoc *doc, bool causal, DistilError *err)
{
	static const struct
	{
		const char *key;
		const char *what;
	}			flags[] = {
		{"add_cross_attention", "cross-attention"},
		{"is_encoder_decoder", "an encoder and a decoder"}
	},			objects[] = {
		{"quantization_config", "quantised weights"}, {"compression_config", "compressed weights"},
		{"pruned_heads", "pruned attention heads"}, {"auto_map", "code of their own"},
		{"rope_scaling", "rotary positions"}, {"rope_parameters", "rotary positions"},
		{"adapters", "adapters"}
	};
	const DistilJson *root = distil_json_root(doc);
	const char *kind;
	bool		decoder;
	char		shown[80];

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
	{
		bool		set;

		DISTIL_FORWARD(distil_json_get_bool(doc, root, flags[i].key, false, &set, err));
		if (set)
			return refuse_field(flags[i].key, flags[i].what, err);
	}
	DISTIL_FORWARD(distil_json_get_bool(doc, root, "is_decoder", false, &decoder, err));
	if (decoder && !causal)
		return refuse_field("is_decoder", "causal attention (decoders)", err);
	for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++)
	{
		const DistilJson *value = distil_json_member(root, objects[i].key);

		if (value == NULL || distil_json_type(value) == DISTIL_JSON_NULL)
			continue;
		if ((distil_json_type(value) == DISTIL_JSON_OBJECT ||
			 distil_json_type(value) == DISTIL_JSON_ARRAY) &&
			distil_json_count(value) == 0)
			continue;
		return refuse_field(objects[i].key, objects[i].what, err);
	}
	DISTIL_FORWARD(distil_json_get_string(doc, root, "position_embedding_type", "absolute", &kind, err));
	if (strcmp(kind, "absolute") == 0)
		return DISTIL_OK;
	distil_fail(err, DISTIL_ERR_UNSUPPORTED, "position embeddings of type \"%s\" are not supported",
				distil_printable(shown, sizeof(shown), kind, strlen(kind)));
	return distil_fail_detail(err, DISTIL_ERR_UNSUPPORTED,
							  "It is \"position_embedding_type\" of file \"config.json\"; "
							  "supported: absolute.");
}

/* "LABEL_0", ...: as many as num_labels says, two without it */
static DistilStatus
default_labels(DistilConfig *config, const DistilJsonDoc *doc, DistilArena *arena, DistilError *err)
{
	const char **labels;
	int			n = 0;

	DISTIL_FORWARD(distil_config_size(&n, doc, "num_labels", 2, DISTIL_MAX_LABELS, err));
	labels = distil_arena_alloc(arena, (size_t) n, sizeof(*labels));
	if (labels == NULL)
		return distil_fail_memory(err, (size_t) n * sizeof(*labels));
	for (int i = 0; i < n; i++)
	{
		labels[i] = distil_arena_printf(arena, "LABEL_%d", i);
		if (labels[i] == NULL)
			return distil_fail_memory(err, 16);
	}
	config->labels = labels;
	config->nlabels = n;
	return DISTIL_OK;
}

static DistilStatus
read_problem(DistilProblem *problem, const DistilJsonDoc *doc, DistilError *err)
{
	static const struct
	{
		const char *name;
		DistilProblem problem;
	}			known[] = {
		{"regression", DISTIL_PROBLEM_REGRESSION},
		{"single_label_classification", DISTIL_PROBLEM_SINGLE_LABEL},
		{"multi_label_classification", DISTIL_PROBLEM_MULTI_LABEL}
	};
	const char *name;
	char		shown[80];

	DISTIL_FORWARD(distil_json_get_string(doc, distil_json_root(doc), "problem_type", NULL, &name, err));
	*problem = DISTIL_PROBLEM_UNSET;
	if (name == NULL)
		return DISTIL_OK;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(name, known[i].name) == 0)
		{
			*problem = known[i].problem;
			return DISTIL_OK;
		}
	return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "problem type \"%s\" is not supported",
					   distil_printable(shown, sizeof(shown), name, strlen(name)));
}

/* The number that Python's int() makes of a key; -1: none that a label can have. */
static int
label_number(const char *key)
{
	static const char blanks[] = " \t\n\v\f\r";
	size_t		length;
	int			number = 0;

	key += strspn(key, blanks);
	key += *key == '+';
	length = strcspn(key, blanks);
	if (length == 0 || key[length + strspn(key + length, blanks)] != '\0')
		return -1;
	for (size_t i = 0; i < length; i++)
	{
		if (key[i] == '_' && i > 0 && key[i - 1] != '_' && i + 1 < length)
			continue;
		if (key[i] < '0' || key[i] > '9' || number > DISTIL_MAX_LABELS)
			return -1;
		number = 10 * number + key[i] - '0';
	}
	return number;
}

/* id2label {"0": "...", ...} or num_labels */
static DistilStatus
read_labels(DistilConfig *config, const DistilJsonDoc *doc, DistilArena *arena, DistilError *err)
{
	const DistilJson *map = distil_json_member(distil_json_root(doc), "id2label");
	const DistilJson *label;
	const char **labels;
	const void *at = NULL;
	const char *key;
	size_t		length;
	size_t		n;
	int			largest = -1;

	if (map == NULL || distil_json_type(map) == DISTIL_JSON_NULL)
		return default_labels(config, doc, arena, err);
	if (distil_json_type(map) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE,
						   "\"id2label\" of file \"config.json\" must be an object");
	n = distil_json_count(map);
	if (n > DISTIL_MAX_LABELS)
		return distil_fail(err, DISTIL_ERR_LIMIT,
						   "\"id2label\" of file \"config.json\" has more than %d labels",
						   DISTIL_MAX_LABELS);
	labels = distil_arena_alloc(arena, n + 1, sizeof(*labels));
	if (labels == NULL)
		return distil_fail_memory(err, n * sizeof(*labels));
	memset(labels, 0, (n + 1) * sizeof(*labels));
	config->nlabels = 0;
	while ((at = distil_json_next(map, at, &key, &length, &label)) != NULL)
	{
		int			number = strlen(key) == length ? label_number(key) : -1;
		const char *text;
		char		shown[64];

		if (number < 0 || distil_json_type(label) != DISTIL_JSON_STRING)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE,
							   "\"id2label\" of file \"config.json\" has no label with a number for \"%s\"",
							   distil_printable(shown, sizeof(shown), key, length));
		largest = number > largest ? number : largest;
		if ((size_t) number >= n)
			break;				/* a number below it is missing */
		text = distil_json_string(label, &length);
		config->nlabels += labels[number] == NULL;
		labels[number] = distil_arena_string(arena, text, length);
		if (labels[number] == NULL)
			return distil_fail_memory(err, length);
	}
	for (int i = 0; i < largest; i++)
		if (labels[i] == NULL)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE,
							   "\"id2label\" of file \"config.json\" has no label for \"%d\"", i);
	config->labels = labels;
	return DISTIL_OK;
}

/* architectures[0], "" when there is none; borrowed from doc */
static DistilStatus
read_class(const char **name, const DistilJsonDoc *doc, DistilError *err)
{
	const DistilJson *list = distil_json_member(distil_json_root(doc), "architectures");
	const DistilJson *first;

	*name = "";
	if (list == NULL || distil_json_type(list) == DISTIL_JSON_NULL)
		return DISTIL_OK;
	if (distil_json_type(list) != DISTIL_JSON_ARRAY)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE,
						   "\"architectures\" of file \"config.json\" must be an array");
	first = distil_json_item(list, 0);
	if (first != NULL && distil_json_type(first) == DISTIL_JSON_STRING)
		*name = distil_json_string(first, NULL);
	return DISTIL_OK;
}

bool
distil_config_torch_activation(DistilActivation *out, const char *name)
{
	static const struct
	{
		const char *name;
		DistilActivation activation;
	}			known[] = {
		{"Sigmoid", DISTIL_ACT_SIGMOID}, {"Identity", DISTIL_ACT_NONE}, {"Tanh", DISTIL_ACT_TANH},
		{"ReLU", DISTIL_ACT_RELU}, {"GELU", DISTIL_ACT_GELU}, {"SiLU", DISTIL_ACT_SILU}
	};
	static const char *const modules[] = {
		"torch.nn.modules.activation.", "torch.nn.modules.linear.", "torch.nn."
	};
	size_t		skip = 0;

	for (size_t i = 0; i < sizeof(modules) / sizeof(modules[0]) && skip == 0; i++)
		if (strncmp(name, modules[i], strlen(modules[i])) == 0)
			skip = strlen(modules[i]);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && skip > 0; i++)
		if (strcmp(name + skip, known[i].name) == 0)
		{
			*out = known[i].activation;
			return true;
		}
	return false;
}

DistilStatus
distil_config_rank_activation(DistilActivation *out, const char *name, const char *file, DistilError *err)
{
	char		shown[80];

	if (distil_config_torch_activation(out, name))
		return DISTIL_OK;
	distil_fail(err, DISTIL_ERR_UNSUPPORTED, "activation \"%s\" is not supported",
				distil_printable(shown, sizeof(shown), name, strlen(name)));
	return distil_fail_detail(err, DISTIL_ERR_UNSUPPORTED,
							  "File \"%s\" names it for the scores of a cross-encoder.", file);
}

/* The activation sentence-transformers puts on a cross-encoder's score; sigmoid without one. */
static DistilStatus
read_rank_activation(DistilConfig *config, const DistilJsonDoc *doc, DistilError *err)
{
	const DistilJson *root = distil_json_root(doc);
	const DistilJson *object = distil_json_member(root, "sentence_transformers");
	const char *name = NULL;

	config->rank_activation = DISTIL_ACT_SIGMOID;
	if (object != NULL && distil_json_type(object) == DISTIL_JSON_OBJECT)
		DISTIL_FORWARD(distil_json_get_string(doc, object, "activation_fn", NULL, &name, err));
	if (name == NULL)
		DISTIL_FORWARD(distil_json_get_string(doc, root, "sbert_ce_default_activation_function", NULL, &name,
											  err));
	config->ranks = name != NULL;
	return name == NULL ? DISTIL_OK
		: distil_config_rank_activation(&config->rank_activation, name, "config.json", err);
}

/* model_type and its architecture; *type borrowed from doc */
static DistilStatus
read_arch(const DistilArch **arch, const char **type, const DistilJsonDoc *doc, DistilError *err)
{
	char		shown[80];

	if (distil_json_type(distil_json_root(doc)) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "file \"config.json\" must hold a JSON object");
	DISTIL_FORWARD(distil_json_get_string(doc, distil_json_root(doc), "model_type", NULL, type, err));
	if (*type == NULL)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "file \"config.json\" has no \"model_type\"");
	*arch = distil_arch_find(*type);
	if (*arch != NULL)
		return DISTIL_OK;
	distil_fail(err, DISTIL_ERR_UNSUPPORTED, "models of type \"%s\" are not supported",
				distil_printable(shown, sizeof(shown), *type, strlen(*type)));
	return distil_fail_detail(err, DISTIL_ERR_UNSUPPORTED, "Supported: %s.", distil_arch_list());
}

/* config.json -> config; doc is freed by the caller, so strings are copied */
static DistilStatus
read_config(DistilConfig *config, const DistilJsonDoc *doc, DistilArena *arena, DistilError *err)
{
	const char *type;
	const char *name;
	int64_t		pad;

	DISTIL_FORWARD(read_arch(&config->arch, &type, doc, err));
	config->model_type = config->arch->model_type;
	DISTIL_FORWARD(check_refused(doc, config->arch->family == &distil_family_pre_norm, err));
	DISTIL_FORWARD(read_class(&name, doc, err));
	config->class_name = distil_arena_string(arena, name, strlen(name));
	if (config->class_name == NULL)
		return distil_fail_memory(err, strlen(name));
	DISTIL_FORWARD(distil_json_get_bool(doc, distil_json_root(doc), "tie_word_embeddings", true,
										&config->tie_word_embeddings, err));
	DISTIL_FORWARD(distil_json_get_int(doc, distil_json_root(doc), "pad_token_id", config->arch->pad_id,
									   -1,
									   DISTIL_MAX_VOCABULARY, &pad, err));
	config->pad_id = (int) pad;
	DISTIL_FORWARD(distil_config_generation(config, doc, err));
	DISTIL_FORWARD(read_problem(&config->problem, doc, err));
	DISTIL_FORWARD(read_rank_activation(config, doc, err));
	DISTIL_FORWARD(read_labels(config, doc, arena, err));
	return config->arch->parse(config, doc, arena, err);
}

/* ---------- facts ---------- */

/* Class names that have a masked-LM head: the architecture's own, and the pre-training one. */
static bool
class_has_lm(const DistilArch *arch, const char *class_name)
{
	return strcmp(class_name, arch->lm_class) == 0 ||
		(strcmp(arch->model_type, "bert") == 0 && strcmp(class_name, "BertForPreTraining") == 0);
}

/* Floating values of all tensors, aliases of a stored source left out. */
static int64_t
count_parameters(const DistilTensorSet *set, const DistilArch *arch, bool tied)
{
	int64_t		count = 0;

	for (int i = 0; i < set->n; i++)
		if (distil_tensor_is_weight(&set->tensors[i]) && !distil_tensor_is_factor(&set->tensors[i]) &&
			!distil_tensor_is_buffer(&set->tensors[i]))
			count += (int64_t) set->tensors[i].count;
	for (const struct DistilAlias *alias = arch->aliases; alias != NULL && alias->source != NULL; alias++)
	{
		const DistilTensor *source = distil_checkpoint_find_exact(set, arch, alias->source);
		const DistilTensor *other = distil_checkpoint_find_exact(set, arch, alias->other);

		if (source != NULL && other != NULL && tied && distil_tensor_is_weight(other))
			count -= (int64_t) other->count;
	}
	return count;
}

/* Facts of the tensors: head, parameters, dtype. */
static DistilStatus
tensor_facts(DistilSpecFacts *facts, const DistilFolder *folder, const DistilTensorSet *set,
			 const DistilJsonDoc *doc, DistilError *err)
{
	const DistilArch *arch;
	const char *text;
	const DistilTensor *word;
	bool		tied;

	DISTIL_FORWARD(read_arch(&arch, &text, doc, err));
	DISTIL_FORWARD(read_class(&text, doc, err));
	facts->with_lm = class_has_lm(arch, text);
	distil_head_detect(facts, arch, text, set);
	facts->dtype = "float32";
	if (set == NULL)
		return DISTIL_OK;
	DISTIL_FORWARD(distil_json_get_bool(doc, distil_json_root(doc), "tie_word_embeddings", true, &tied,
										err));
	if (distil_checkpoint_find(set, arch, arch->lm_tensor) != NULL)
		facts->with_lm = true;
	else if (distil_folder_find(folder, "modules.json") != NULL)
		facts->with_lm = false; /* a sentence model made from a masked-LM one keeps its class name */
	word = distil_checkpoint_find(set, arch, arch->word_tensor);
	if (word != NULL)
		facts->dtype = distil_dtype_long_name(word->dtype);
	facts->parameters = count_parameters(set, arch, tied);
	return DISTIL_OK;
}

DistilStatus
distil_spec_facts(DistilSpecFacts *facts, const DistilFolder *folder, const DistilTensorSet *tensors,
				  const DistilAllocator *alloc, DistilError *err)
{
	DistilJsonDoc *doc;
	DistilStatus status;

	memset(facts, 0, sizeof(*facts));
	DISTIL_FORWARD(distil_folder_json(folder, "config.json", true, &doc, alloc, err));
	status = tensor_facts(facts, folder, tensors, doc, err);
	distil_json_free(doc);
	if (status != DISTIL_OK)
		return status;
	return distil_tokenizer_max_length(&facts->model_max_length, folder, alloc, err);
}

/* ---------- the spec ---------- */

static DistilStatus
fill_heads(DistilSpec *spec, const DistilSpecFacts *facts, DistilError *err)
{
	const DistilConfig *config = &spec->config;
	DistilModelInfo *info = &spec->info;
	DistilHeadInfo *head = distil_arena_alloc(spec->arena, 2, sizeof(*head));

	if (head == NULL)
		return distil_fail_memory(err, 2 * sizeof(*head));
	info->heads = head;
	if (spec->has_lm)
	{
		head[0].name = "lm";
		head[0].task = config->causal ? "text-generation" : "fill-mask";
		info->nheads++;
	}
	if (spec->head.head != NULL)
		distil_head_info(&head[info->nheads++], spec);
	if (facts->head_missing)
		info->missing_head = config->class_name;
	return DISTIL_OK;
}

static DistilStatus
fill_info(DistilSpec *spec, const DistilSpecFacts *facts, DistilError *err)
{
	const DistilConfig *config = &spec->config;
	const DistilPipeline *pipeline = &spec->pipeline;
	DistilModelInfo *info = &spec->info;
	const char **tasks = distil_arena_alloc(spec->arena, 4, sizeof(*tasks));
	int			room = config->positions - config->position_offset;
	int64_t		length = pipeline->max_seq_length > 0 ? pipeline->max_seq_length : facts->model_max_length;

	if (tasks == NULL)
		return distil_fail_memory(err, 4 * sizeof(*tasks));
	DISTIL_FORWARD(fill_heads(spec, facts, err));
	tasks[info->ntasks++] = "feature-extraction";
	if (pipeline->present)
		tasks[info->ntasks++] = "sentence-similarity";
	for (int i = 0; i < info->nheads; i++)
		tasks[info->ntasks++] = info->heads[i].task;
	info->tasks = tasks;
	info->architecture = config->model_type;
	info->parameters = facts->parameters;
	info->layers = config->layers;
	info->width = config->width;
	info->dimensions = pipeline->ndense > 0 ? pipeline->dense[pipeline->ndense - 1].out
		: config->width * pipeline->npoolings;
	info->max_tokens = length > 0 && length < room ? (int) length : room;
	info->vocabulary = config->vocabulary;
	info->dtype = facts->dtype;
	info->sentence_model = pipeline->present;
	info->has_lm_head = spec->has_lm;
	info->causal = config->causal;
	info->nprompts = pipeline->nprompts;
	info->prompts = pipeline->prompt_names;
	return DISTIL_OK;
}

DistilStatus
distil_spec_build(DistilSpec *spec, const DistilFolder *folder, const DistilSpecFacts *facts,
				  DistilArena *arena, const DistilAllocator *alloc, DistilError *err)
{
	DistilJsonDoc *doc;
	DistilStatus status;

	memset(spec, 0, sizeof(*spec));
	spec->arena = arena;
	distil_spec_clear(spec);
	DISTIL_FORWARD(distil_folder_json(folder, "config.json", true, &doc, alloc, err));
	status = read_config(&spec->config, doc, arena, err);
	distil_json_free(doc);
	if (status != DISTIL_OK)
		return status;
	if (spec->config.causal)
		DISTIL_FORWARD(distil_config_generation_file(&spec->config, folder, alloc, err));
	DISTIL_FORWARD(spec->config.arch->params(spec, facts->with_lm, err));
	DISTIL_FORWARD(distil_head_params(spec, facts->head, err));
	DISTIL_FORWARD(distil_pipeline_parse(spec, folder, alloc, err));
	return fill_info(spec, facts, err);
}

DistilStatus
distil_spec_parse(DistilSpec *spec, const DistilFolder *folder, const DistilTensorSet *tensors,
				  DistilArena *arena, DistilError *err)
{
	DistilSpecFacts facts;
	const DistilAllocator *alloc = distil_arena_allocator(arena);

	DISTIL_FORWARD(distil_spec_facts(&facts, folder, tensors, alloc, err));
	return distil_spec_build(spec, folder, &facts, arena, alloc, err);
}
