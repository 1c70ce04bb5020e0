/*
 * train_options.c
 *		Options of a training job: one table gives name, type, range and defaults.
 *
 * The table is the reference: an option that is not in it is an error that lists the
 * ones the method knows; an option of another method is refused too, since it would
 * silently do nothing.  Names and defaults of method triple are those of the
 * DistilBERT scripts, with the loss weights of the published model (5, 2, 1).
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "json.h"
#include "status.h"
#include "student.h"

typedef enum OptionKind
{
	OPTION_REAL,
	OPTION_INT,
	OPTION_INT64,
	OPTION_BOOL,
	OPTION_LAYERS,
	OPTION_DEVICE,				/* a word of its list in `choices`; the first is the default */
	OPTION_DTYPE,
	OPTION_REFUSED,				/* planned, not there yet: refused by name */
	OPTION_KINDS
} OptionKind;

/* Method triple has two sets: a causal teacher has nothing to mask. */
typedef enum OptionSet
{
	SET_MASKED = DISTIL_METHOD_TRIPLE,
	SET_EMBEDDING = DISTIL_METHOD_EMBEDDING,
	SET_CAUSAL,
	OPTION_SETS
} OptionSet;

#define FOR_MASKED (1u << SET_MASKED)
#define FOR_EMBEDDING (1u << SET_EMBEDDING)
#define FOR_CAUSAL (1u << SET_CAUSAL)
#define FOR_TRIPLE (FOR_MASKED | FOR_CAUSAL)
#define FOR_ALL (FOR_TRIPLE | FOR_EMBEDDING)

typedef struct Option
{
	const char *name;
	OptionKind	kind;
	unsigned	sets;
	size_t		offset;
	double		min;
	double		max;
	double		defaults[OPTION_SETS];
} Option;

static const char *const choices[OPTION_KINDS][4] = {
	[OPTION_DEVICE] = {"auto", "cpu", "cuda"},
	[OPTION_DTYPE] = {"auto", "float32", "bfloat16"},
};

#define FIELD(name) offsetof(DistilTrainOptions, name)

static const char *const method_names[] = {"triple", "embedding"};
static const char *const set_names[] = {"method \"triple\"", "method \"embedding\"", "a causal teacher"};

static OptionSet
set_of(const DistilTrainOptions *options)
{
	return options->causal ? SET_CAUSAL : (OptionSet) options->method;
}

/*
 * Defaults of embedding were found by trial on a 6-layer sentence model cut to 3 layers:
 * rate 5e-4 with linear decay; sequences of 64 texts; clipping at 1 as is usual there.
 * DistilGPT2's loss weights were not published: alpha_clm has the weight of alpha_mlm.
 */
static const Option options_table[] = {
	{"alpha_ce", OPTION_REAL, FOR_TRIPLE, FIELD(alpha_ce), 0, 1e6, {5, 0, 5}},
	{"alpha_mlm", OPTION_REAL, FOR_TRIPLE, FIELD(alpha_mlm), 0, 1e6, {2, 0, 0}},
	{"alpha_clm", OPTION_REAL, FOR_TRIPLE, FIELD(alpha_clm), 0, 1e6, {0, 0, 2}},
	{"alpha_cos", OPTION_REAL, FOR_TRIPLE, FIELD(alpha_cos), 0, 1e6, {1, 0, 1}},
	{"alpha_mse", OPTION_REAL, FOR_TRIPLE, FIELD(alpha_mse), 0, 1e6, {0, 0, 0}},
	{"temperature", OPTION_REAL, FOR_TRIPLE, FIELD(temperature), 1e-3, 1e3, {2, 2, 2}},
	{"mlm_mask_prop", OPTION_REAL, FOR_MASKED, FIELD(mlm_mask_prop), 0, 1, {0.15, 0.15, 0}},
	{"word_mask", OPTION_REAL, FOR_MASKED, FIELD(word_mask), 0, 1, {0.8, 0.8, 0}},
	{"word_keep", OPTION_REAL, FOR_MASKED, FIELD(word_keep), 0, 1, {0.1, 0.1, 0}},
	{"word_rand", OPTION_REAL, FOR_MASKED, FIELD(word_rand), 0, 1, {0.1, 0.1, 0}},
	{"mlm_smoothing", OPTION_REAL, FOR_MASKED, FIELD(mlm_smoothing), 0, 10, {0.7, 0.7, 0}},
	{"restrict_ce_to_mask", OPTION_BOOL, FOR_MASKED, FIELD(restrict_ce_to_mask), 0, 1, {0, 0, 0}},
	{"layers", OPTION_LAYERS, FOR_ALL, 0, 1, DISTIL_MAX_LAYERS, {0, 0, 0}},
	{"dimensions", OPTION_REFUSED, FOR_ALL, 0, 0, 0, {0, 0, 0}},
	{"dtype", OPTION_DTYPE, FOR_ALL, FIELD(dtype), 0, 0, {0, 0, 0}},
	/* The published DistilBERT kept BERT's position table as it was. */
	{"freeze_pos_embs", OPTION_BOOL, FOR_ALL, FIELD(freeze_pos_embs), 0, 1, {1, 0, 0}},
	{"freeze_token_type_embds", OPTION_BOOL, FOR_MASKED | FOR_EMBEDDING, FIELD(freeze_token_type_embds), 0, 1,
	{0, 0, 0}},
	{"group_by_size", OPTION_BOOL, FOR_TRIPLE, FIELD(group_by_size), 0, 1, {1, 0, 1}},
	{"learning_rate", OPTION_REAL, FOR_ALL, FIELD(learning_rate), 0, 10, {5e-4, 5e-4, 5e-4}},
	{"warmup_prop", OPTION_REAL, FOR_ALL, FIELD(warmup_prop), 0, 1, {0.05, 0.05, 0.05}},
	{"weight_decay", OPTION_REAL, FOR_ALL, FIELD(weight_decay), 0, 10, {0, 0.01, 0}},
	{"adam_beta1", OPTION_REAL, FOR_ALL, FIELD(adam_beta1), 0, 0.9999999, {0.9, 0.9, 0.9}},
	{"adam_beta2", OPTION_REAL, FOR_ALL, FIELD(adam_beta2), 0, 0.9999999, {0.98, 0.999, 0.98}},
	{"adam_epsilon", OPTION_REAL, FOR_ALL, FIELD(adam_epsilon), 1e-12, 1, {1e-6, 1e-8, 1e-6}},
	{"max_grad_norm", OPTION_REAL, FOR_ALL, FIELD(max_grad_norm), 0, 1e9, {5, 1, 5}},
	{"batch_size", OPTION_INT, FOR_ALL, FIELD(batch_size), 1, 65536, {5, 64, 5}},
	{"gradient_accumulation_steps", OPTION_INT, FOR_ALL, FIELD(gradient_accumulation_steps),
	1, 65536, {50, 1, 50}},
	{"epochs", OPTION_REAL, FOR_ALL, FIELD(epochs), 0, 1e6, {3, 1, 3}},
	{"max_steps", OPTION_INT64, FOR_ALL, FIELD(max_steps), -1, 1e12, {-1, -1, -1}},
	{"max_tokens", OPTION_INT, FOR_ALL, FIELD(max_tokens), 4, DISTIL_MAX_POSITIONS, {0, 0, 0}},
	{"threads", OPTION_INT, FOR_ALL, FIELD(threads), 0, 1024, {0, 0, 0}},
	{"seed", OPTION_INT64, FOR_ALL, FIELD(seed), -9e15, 9e15, {56, 56, 56}},
	{"deterministic", OPTION_BOOL, FOR_ALL, FIELD(deterministic), 0, 1, {1, 1, 1}},
	{"eval_fraction", OPTION_REAL, FOR_ALL, FIELD(eval_fraction), 0, 0.5, {0, 0, 0}},
	{"checkpoint_seconds", OPTION_INT, FOR_ALL, FIELD(checkpoint_seconds), 1, 86400, {60, 60, 60}},
	{"device", OPTION_DEVICE, FOR_ALL, FIELD(device), 0, 0, {0, 0, 0}},
	{"gpus", OPTION_INT, FOR_ALL, FIELD(gpus), 1, DISTIL_MAX_GROUP, {1, 1, 1}},
};

#define NOPTIONS (sizeof(options_table) / sizeof(options_table[0]))

static void
list_options(char *buffer, size_t size, OptionSet set)
{
	size_t		used = 0;
	size_t		i;

	buffer[0] = '\0';
	for (i = 0; i < NOPTIONS; i++)
	{
		int			n;

		if (options_table[i].kind == OPTION_REFUSED || !(options_table[i].sets & (1u << set)))
			continue;
		n = snprintf(buffer + used, size - used, "%s%s", used > 0 ? ", " : "", options_table[i].name);
		if (n < 0 || (size_t) n >= size - used)
			return;
		used += (size_t) n;
	}
}

/* The name of the original script for an option that has another one here. */
static const char other_name[] = "n_epoch";
static const char its_name[] = "epochs";

static const Option *
find_option(const char *name, size_t length)
{
	size_t		i;

	if (length == strlen(other_name) && memcmp(name, other_name, length) == 0)
	{
		name = its_name;
		length = strlen(its_name);
	}
	for (i = 0; i < NOPTIONS; i++)
		if (strlen(options_table[i].name) == length && memcmp(options_table[i].name, name, length) == 0)
			return &options_table[i];
	return NULL;
}

static DistilStatus
choose_method(DistilMethod *method, const char *name, const DistilModelInfo *info, DistilError *err)
{
	static const char *const planned[] = {"task", "minilm", "static"};
	size_t		i;

	if (name == NULL)
	{
		*method = info->sentence_model || !info->has_lm_head ? DISTIL_METHOD_EMBEDDING : DISTIL_METHOD_TRIPLE;
		return DISTIL_OK;
	}
	for (i = 0; i < sizeof(planned) / sizeof(planned[0]); i++)
		if (strcmp(name, planned[i]) == 0)
			return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "training method \"%s\" is not supported", name);
	for (i = 0; i < sizeof(method_names) / sizeof(method_names[0]); i++)
	{
		if (strcmp(name, method_names[i]) != 0)
			continue;
		*method = (DistilMethod) i;
		if (*method == DISTIL_METHOD_TRIPLE && !info->has_lm_head)
		{
			distil_fail(err, DISTIL_ERR_STATE,
						"method \"triple\" needs a teacher with a language-model head");
			return distil_fail_hint(err, DISTIL_ERR_STATE, "Use method \"embedding\", or import "
									"the model's file for language modelling.");
		}
		return DISTIL_OK;
	}
	{
		char		shown[80];

		distil_printable(shown, sizeof(shown), name, strlen(name));
		distil_fail(err, DISTIL_ERR_ARGUMENT, "unknown training method \"%s\"", shown);
		return distil_fail_detail(err, DISTIL_ERR_ARGUMENT, "Known methods: triple, embedding.");
	}
}

static void
store_number(DistilTrainOptions *options, const Option *option, double value, int64_t integer)
{
	char	   *field = (char *) options + option->offset;

	switch (option->kind)
	{
		case OPTION_REAL:
			*(double *) field = value;
			break;
		case OPTION_INT:
			*(int *) field = (int) integer;
			break;
		case OPTION_INT64:
			*(int64_t *) field = integer;
			break;
		case OPTION_BOOL:
			*(bool *) field = integer != 0;
			break;
		default:
			break;
	}
}

static void
set_defaults(DistilTrainOptions *options, DistilMethod method, const DistilModelInfo *info)
{
	size_t		i;

	memset(options, 0, sizeof(*options));
	options->method = method;
	options->causal = method == DISTIL_METHOD_TRIPLE && info->causal;
	for (i = 0; i < NOPTIONS; i++)
	{
		double		value = options_table[i].defaults[set_of(options)];

		if (choices[options_table[i].kind][0] != NULL)
			strcpy((char *) options + options_table[i].offset, choices[options_table[i].kind][0]);
		else
			store_number(options, &options_table[i], value, (int64_t) value);
	}
	options->max_tokens = info->max_tokens;
	options->nlayers = info->layers / 2 > 0 ? info->layers / 2 : 1;
	distil_student_layers(options->layers, options->nlayers, info->layers, method);
}

static DistilStatus
wrong_type(const Option *option, const char *wanted, DistilError *err)
{
	distil_fail(err, DISTIL_ERR_ARGUMENT, "option \"%s\" has the wrong type", option->name);
	return distil_fail_detail(err, DISTIL_ERR_ARGUMENT, "It must be %s.", wanted);
}

static DistilStatus
out_of_range(const Option *option, double value, double max, DistilError *err)
{
	distil_fail(err, DISTIL_ERR_ARGUMENT, "option \"%s\" is out of range", option->name);
	return distil_fail_detail(err, DISTIL_ERR_ARGUMENT, "The value is %.15g, allowed is %.15g to %.15g.",
							  value, option->min, max);
}

/* 2.0 is an integer too: jsonb keeps the way a number was written. */
static bool
is_integer(const DistilJson *value)
{
	DistilJsonType type = distil_json_type(value);

	if (type != DISTIL_JSON_REAL)
		return type == DISTIL_JSON_INTEGER;
	return distil_json_number(value) == floor(distil_json_number(value));
}

static DistilStatus
parse_layers(DistilTrainOptions *options, const Option *option, const DistilJson *value,
			 const DistilModelInfo *info, DistilError *err)
{
	size_t		n;
	size_t		i;

	if (is_integer(value))
	{
		double		count = distil_json_number(value);

		if (!(count >= 1 && count <= info->layers))
			return out_of_range(option, count, info->layers, err);
		options->nlayers = (int) count;
		distil_student_layers(options->layers, options->nlayers, info->layers, options->method);
		return DISTIL_OK;
	}
	if (distil_json_type(value) != DISTIL_JSON_ARRAY)
		return wrong_type(option, "a number of layers or the list of teacher layers to copy", err);
	n = distil_json_count(value);
	if (n < 1 || n > DISTIL_MAX_LAYERS)
		return out_of_range(option, (double) n, DISTIL_MAX_LAYERS, err);
	for (i = 0; i < n; i++)
	{
		const DistilJson *item = distil_json_item(value, i);
		double		layer;

		if (!is_integer(item))
			return wrong_type(option, "a number of layers or the list of teacher layers to copy", err);
		layer = distil_json_number(item);
		if (!(layer >= 0 && layer < info->layers))
		{
			distil_fail(err, DISTIL_ERR_ARGUMENT,
						"option \"layers\" names a layer the teacher does not have");
			return distil_fail_detail(err, DISTIL_ERR_ARGUMENT,
									  "Layer %.15g was given; the teacher has layers 0 to %d.",
									  layer, info->layers - 1);
		}
		options->layers[i] = (int) layer;
	}
	options->nlayers = (int) n;
	memset(options->layers + n, 0, (DISTIL_MAX_LAYERS - n) * sizeof(int));
	return DISTIL_OK;
}

static DistilStatus
parse_choice(DistilTrainOptions *options, const Option *option, const DistilJson *value, DistilError *err)
{
	const char *const *words = choices[option->kind];
	char		known[80] = "";
	const char *text;
	size_t		length;
	int			i;

	if (distil_json_type(value) != DISTIL_JSON_STRING)
		return wrong_type(option, "a string", err);
	text = distil_json_string(value, &length);
	for (i = 0; words[i] != NULL; i++)
	{
		if (strlen(words[i]) == length && memcmp(words[i], text, length) == 0)
		{
			strcpy((char *) options + option->offset, words[i]);
			return DISTIL_OK;
		}
		snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", i > 0 ? ", " : "",
				 words[i]);
	}
	distil_fail(err, DISTIL_ERR_ARGUMENT, "option \"%s\" has an unknown value", option->name);
	return distil_fail_detail(err, DISTIL_ERR_ARGUMENT, "Known values: %s.", known);
}

static DistilStatus
parse_number(DistilTrainOptions *options, const Option *option, const DistilJson *value,
			 const DistilModelInfo *info, DistilError *err)
{
	DistilJsonType type = distil_json_type(value);
	double		max = option->max;
	double		number;

	if (!is_integer(value) && (type != DISTIL_JSON_REAL || option->kind != OPTION_REAL))
		return wrong_type(option, option->kind == OPTION_REAL ? "a number" : "an integer", err);
	number = distil_json_number(value);
	if (option->offset == FIELD(max_tokens))
		max = info->max_tokens;
	if (!(number >= option->min && number <= max))
		return out_of_range(option, number, max, err);
	store_number(options, option, number,
				 type == DISTIL_JSON_INTEGER ? distil_json_integer(value) : (int64_t) number);
	return DISTIL_OK;
}

static DistilStatus
parse_option(DistilTrainOptions *options, const char *key, size_t key_length, const DistilJson *value,
			 const DistilModelInfo *info, DistilError *err)
{
	const Option *option = find_option(key, key_length);
	char		known[560];

	if (option == NULL || !(option->sets & (1u << set_of(options))))
	{
		char		shown[80];

		list_options(known, sizeof(known), set_of(options));
		distil_printable(shown, sizeof(shown), key, key_length);
		if (option == NULL)
			distil_fail(err, DISTIL_ERR_ARGUMENT, "unknown option \"%s\"", shown);
		else
			distil_fail(err, DISTIL_ERR_ARGUMENT, "option \"%s\" does not apply to %s", shown,
						set_names[set_of(options)]);
		distil_fail_hint(err, DISTIL_ERR_ARGUMENT, "Known options: %s.", known);
		return DISTIL_ERR_ARGUMENT;
	}
	switch (option->kind)
	{
		case OPTION_REFUSED:
			return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "option \"%s\" is not supported", option->name);
		case OPTION_LAYERS:
			return parse_layers(options, option, value, info, err);
		case OPTION_DEVICE:
		case OPTION_DTYPE:
			return parse_choice(options, option, value, err);
		case OPTION_BOOL:
			if (distil_json_type(value) != DISTIL_JSON_BOOL)
				return wrong_type(option, "true or false", err);
			store_number(options, option, 0, distil_json_bool(value));
			return DISTIL_OK;
		default:
			return parse_number(options, option, value, info, err);
	}
}

/* Rules between options. */
static DistilStatus
check_options(const DistilTrainOptions *options, DistilError *err)
{
	double		sum;

	if (options->epochs <= 0 && options->max_steps < 0)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "option \"epochs\" must be greater than zero");
	if (options->gpus > 1 && strcmp(options->device, "cpu") == 0)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "option \"gpus\" does not apply to device \"cpu\"");
	if (options->method != DISTIL_METHOD_TRIPLE)
		return DISTIL_OK;
	if ((options->causal ? options->alpha_mlm : options->alpha_clm) > 0)
		return distil_fail(err, DISTIL_ERR_ARGUMENT, "option \"%s\" does not apply to a %s teacher",
						   options->causal ? "alpha_mlm" : "alpha_clm",
						   options->causal ? "causal" : "masked-LM");
	if (options->alpha_ce + options->alpha_mlm + options->alpha_clm + options->alpha_cos +
		options->alpha_mse <= 0)
		return distil_fail(err, DISTIL_ERR_ARGUMENT,
						   "at least one of the loss weights must be greater than zero");
	if (options->causal)
		return DISTIL_OK;
	sum = options->word_mask + options->word_keep + options->word_rand;
	if (fabs(sum - 1) > 1e-6)
	{
		distil_fail(err, DISTIL_ERR_ARGUMENT,
					"options \"word_mask\", \"word_keep\" and \"word_rand\" must sum to 1");
		return distil_fail_detail(err, DISTIL_ERR_ARGUMENT, "Their sum is %.9g.", sum);
	}
	if ((options->alpha_mlm > 0 || options->restrict_ce_to_mask) && options->mlm_mask_prop <= 0)
		return distil_fail(err, DISTIL_ERR_ARGUMENT,
						   "option \"mlm_mask_prop\" must be greater than zero "
						   "when masked tokens are predicted");
	return DISTIL_OK;
}

DistilStatus
distil_train_options_parse(DistilTrainOptions *options, const char *method, const char *json, size_t length,
						   const DistilModel *teacher, const DistilAllocator *alloc, DistilError *err)
{
	const DistilModelInfo *info = distil_model_info(teacher);
	DistilMethod chosen;
	DistilJsonDoc *doc = NULL;
	DistilStatus status;
	const void *position = NULL;
	const char *key;
	size_t		key_length;
	const DistilJson *root;
	const DistilJson *value;

	DISTIL_FORWARD(choose_method(&chosen, method, info, err));
	set_defaults(options, chosen, info);
	if (json == NULL || length == 0)
		return check_options(options, err);
	DISTIL_FORWARD(distil_json_parse_value(&doc, json, length, "training options", alloc, err));
	root = distil_json_root(doc);
	if (distil_json_type(root) != DISTIL_JSON_OBJECT)
		status = distil_fail(err, DISTIL_ERR_ARGUMENT, "training options must be a JSON object");
	else if (distil_json_member(root, other_name) != NULL && distil_json_member(root, its_name) != NULL)
		status = distil_fail(err, DISTIL_ERR_ARGUMENT,
							 "options \"%s\" and \"%s\" are the same: give one of them", other_name,
							 its_name);
	else
	{
		status = DISTIL_OK;
		while (status == DISTIL_OK &&
			   (position = distil_json_next(root, position, &key, &key_length, &value)) != NULL)
			status = parse_option(options, key, key_length, value, info, err);
		if (status == DISTIL_OK)
			status = check_options(options, err);
	}
	distil_json_free(doc);
	return status;
}

static bool
write_option(DistilBuffer *out, const DistilTrainOptions *options, const Option *option)
{
	const char *field = (const char *) options + option->offset;
	char		text[64];
	int			i;

	switch (option->kind)
	{
		case OPTION_REAL:
			/* the fewest digits that read back as the same number */
			for (i = 6; i <= 17; i++)
			{
				snprintf(text, sizeof(text), "%.*g", i, *(const double *) field);
				if (strtod(text, NULL) == *(const double *) field)
					break;
			}
			break;
		case OPTION_INT:
			snprintf(text, sizeof(text), "%d", *(const int *) field);
			break;
		case OPTION_INT64:
			snprintf(text, sizeof(text), "%" PRId64, *(const int64_t *) field);
			break;
		case OPTION_BOOL:
			snprintf(text, sizeof(text), "%s", *(const bool *) field ? "true" : "false");
			break;
		case OPTION_DEVICE:
		case OPTION_DTYPE:
			snprintf(text, sizeof(text), "\"%s\"", field);
			break;
		default:
			for (i = 0; i < options->nlayers; i++)
			{
				int			n = snprintf(text, sizeof(text), "%s%d", i > 0 ? ", " : "[", options->layers[i]);

				if (!distil_buffer_append(out, text, (size_t) n))
					return false;
			}
			return distil_buffer_append(out, "]", 1);
	}
	return distil_buffer_append(out, text, strlen(text));
}

DistilStatus
distil_train_options_write(char **json, const DistilTrainOptions *options,
						   const DistilAllocator *alloc, DistilError *err)
{
	DistilBuffer out;
	bool		ok = true;
	bool		first = true;
	size_t		i;

	*json = NULL;
	distil_buffer_init(&out, alloc);
	for (i = 0; i < NOPTIONS && ok; i++)
	{
		const Option *option = &options_table[i];

		if (option->kind == OPTION_REFUSED || !(option->sets & (1u << set_of(options))))
			continue;
		ok = distil_buffer_append(&out, first ? "{\"" : ", \"", first ? 2 : 3) &&
			distil_buffer_append(&out, option->name, strlen(option->name)) &&
			distil_buffer_append(&out, "\": ", 3) &&
			write_option(&out, options, option);
		first = false;
	}
	ok = ok && distil_buffer_append(&out, "}", 2);	/* with the terminator */
	if (ok)
		*json = distil_alloc_string(alloc, out.data, out.length - 1);
	distil_buffer_free(&out);
	return *json != NULL ? DISTIL_OK : distil_fail_memory(err, 4096);
}
