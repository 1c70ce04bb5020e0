/*
 * pipeline_config.c
 *		The sentence pipeline of a folder: modules.json and the files it names.
 *
 * Layouts of sentence-transformers 2 to 6: Transformer, Pooling, then Dense modules and a
 * Normalize; or the Transformer of a cross-encoder alone.  The rule a newcomer would break:
 * module types, pooling modes and keys of a module's config.json that are not known are
 * refused by name, because each of them may change the embedding.
 */
#include "config.h"

#include "folder.h"
#include "status.h"

#include <stdio.h>
#include <string.h>

#define MODULES_FILE "modules.json"
#define PROMPTS_FILE "config_sentence_transformers.json"
#define MAX_MODULES 64
#define MAX_MODULE_NAME 60
#define MAX_PROMPTS 1000

/* One parse: the file at hand is `doc`, named `file` in messages. */
typedef struct PipelineParser
{
	DistilSpec *spec;
	const DistilFolder *folder;
	const DistilAllocator *alloc;
	DistilError *err;
	bool		ranks;			/* the Transformer is a cross-encoder, with its head */
} PipelineParser;

typedef DistilStatus (*FileFn) (PipelineParser *parser, const DistilJsonDoc *doc, const char *file);

/* Parse a JSON object file, hand it to fn, free it.  A missing file is skipped unless required. */
static DistilStatus
with_file(PipelineParser *parser, const char *name, bool required, FileFn fn)
{
	DistilJsonDoc *doc;
	DistilStatus status;
	char		shown[120];

	DISTIL_FORWARD(distil_folder_json(parser->folder, name, required, &doc, parser->alloc, parser->err));
	if (doc == NULL)
		return DISTIL_OK;
	distil_printable(shown, sizeof(shown), name, strlen(name));
	if (distil_json_type(distil_json_root(doc)) != DISTIL_JSON_OBJECT)
		status = distil_fail(parser->err, DISTIL_ERR_TEXT_FILE, "file \"%s\" must hold a JSON object",
							 shown);
	else
		status = fn(parser, doc, shown);
	distil_json_free(doc);
	return status;
}

/* Every key of the object must be in `known` (ends with NULL); null values are as absent. */
static DistilStatus
check_keys(PipelineParser *parser, const DistilJsonDoc *doc, const char *file, const char *const *known)
{
	const void *at = NULL;
	const char *key;
	const DistilJson *value;

	while ((at = distil_json_next(distil_json_root(doc), at, &key, NULL, &value)) != NULL)
	{
		int			i = 0;
		char		shown[80];

		while (known[i] != NULL && strcmp(known[i], key) != 0)
			i++;
		if (known[i] == NULL && distil_json_type(value) != DISTIL_JSON_NULL)
			return distil_fail(parser->err, DISTIL_ERR_UNSUPPORTED,
							   "\"%s\" of file \"%s\" is not supported",
							   distil_printable(shown, sizeof(shown), key, strlen(key)), file);
	}
	return DISTIL_OK;
}

/* A string member that must have this value when it is there. */
static DistilStatus
check_fixed(PipelineParser *parser, const DistilJsonDoc *doc, const DistilJson *object, const char *file,
			const char *key, const char *value)
{
	const char *found;
	char		shown[80];

	DISTIL_FORWARD(distil_json_get_string(doc, object, key, value, &found, parser->err));
	if (strcmp(found, value) == 0)
		return DISTIL_OK;
	distil_fail(parser->err, DISTIL_ERR_UNSUPPORTED, "\"%s\": \"%s\" of file \"%s\" is not supported", key,
				distil_printable(shown, sizeof(shown), found, strlen(found)), file);
	return distil_fail_detail(parser->err, DISTIL_ERR_UNSUPPORTED, "Supported: \"%s\".", value);
}

/* ---------- Pooling ---------- */

/* In the order in which sentence-transformers concatenates the old flags. */
static const struct
{
	const char *name;
	const char *flag;
	DistilPooling pooling;
}			poolings[] = {
	{"cls", "pooling_mode_cls_token", DISTIL_POOL_CLS},
	{"max", "pooling_mode_max_tokens", DISTIL_POOL_MAX},
	{"mean", "pooling_mode_mean_tokens", DISTIL_POOL_MEAN},
	{"mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", DISTIL_POOL_MEAN_SQRT},
	{"weightedmean", "pooling_mode_weightedmean_tokens", DISTIL_POOL_WEIGHTED_MEAN},
	{"lasttoken", "pooling_mode_lasttoken", DISTIL_POOL_LAST}
};

#define POOLINGS (sizeof(poolings) / sizeof(poolings[0]))
#define MAX_POOLINGS ((int) (sizeof(((DistilPipeline *) 0)->pooling) / sizeof(DistilPooling)))

static DistilStatus
add_pooling(PipelineParser *parser, DistilPooling pooling, const char *file)
{
	DistilPipeline *pipeline = &parser->spec->pipeline;

	if (pipeline->npoolings == MAX_POOLINGS)
		return distil_fail(parser->err, DISTIL_ERR_LIMIT, "file \"%s\" has more than %d pooling modes",
						   file, MAX_POOLINGS);
	pipeline->pooling[pipeline->npoolings++] = pooling;
	return DISTIL_OK;
}

static DistilStatus
add_pooling_name(PipelineParser *parser, const DistilJson *value, const char *file)
{
	const char *name;
	char		shown[80];

	if (distil_json_type(value) != DISTIL_JSON_STRING)
		return distil_fail(parser->err, DISTIL_ERR_TEXT_FILE,
						   "\"pooling_mode\" of file \"%s\" must be a string or an array of strings", file);
	name = distil_json_string(value, NULL);
	for (size_t i = 0; i < POOLINGS; i++)
		if (strcmp(poolings[i].name, name) == 0)
			return add_pooling(parser, poolings[i].pooling, file);
	return distil_fail(parser->err, DISTIL_ERR_UNSUPPORTED,
					   "pooling mode \"%s\" of file \"%s\" is not supported",
					   distil_printable(shown, sizeof(shown), name, strlen(name)), file);
}

static DistilStatus
check_pooling_width(PipelineParser *parser, const DistilJsonDoc *doc, const char *file, const char *key)
{
	int			width = parser->spec->config.width;
	int64_t		given;

	DISTIL_FORWARD(distil_json_get_int(doc, distil_json_root(doc), key, width, 1, INT32_MAX, &given,
									   parser->err));
	if (given == width)
		return DISTIL_OK;
	distil_fail(parser->err, DISTIL_ERR_TEXT_FILE, "\"%s\" of file \"%s\" does not fit the model", key,
				file);
	return distil_fail_detail(parser->err, DISTIL_ERR_TEXT_FILE, "It is %lld; the model's width is %d.",
							  (long long) given, width);
}

static DistilStatus
read_pooling(PipelineParser *parser, const DistilJsonDoc *doc, const char *file)
{
	static const char *const known[] = {
		"word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt",
		"pooling_mode_cls_token", "pooling_mode_max_tokens", "pooling_mode_mean_tokens",
		"pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken",
		NULL
	};
	const DistilJson *root = distil_json_root(doc);
	const DistilJson *mode = distil_json_member(root, "pooling_mode");
	DistilPipeline *pipeline = &parser->spec->pipeline;

	DISTIL_FORWARD(check_keys(parser, doc, file, known));
	DISTIL_FORWARD(check_pooling_width(parser, doc, file, "word_embedding_dimension"));
	DISTIL_FORWARD(check_pooling_width(parser, doc, file, "embedding_dimension"));
	DISTIL_FORWARD(distil_json_get_bool(doc, root, "include_prompt", true, &pipeline->include_prompt,
										parser->err));
	if (mode != NULL && distil_json_type(mode) == DISTIL_JSON_ARRAY)
	{
		for (size_t i = 0; i < distil_json_count(mode); i++)
			DISTIL_FORWARD(add_pooling_name(parser, distil_json_item(mode, i), file));
	}
	else if (mode != NULL && distil_json_type(mode) != DISTIL_JSON_NULL)
		DISTIL_FORWARD(add_pooling_name(parser, mode, file));
	else
		for (size_t i = 0; i < POOLINGS; i++)
		{
			bool		set;

			DISTIL_FORWARD(distil_json_get_bool(doc, root, poolings[i].flag, false, &set, parser->err));
			if (set)
				DISTIL_FORWARD(add_pooling(parser, poolings[i].pooling, file));
		}
	if (pipeline->npoolings == 0)
		DISTIL_FORWARD(add_pooling(parser, DISTIL_POOL_MEAN, file));
	return DISTIL_OK;
}

/* ---------- Dense, Normalize ---------- */

static DistilStatus
read_dense_activation(PipelineParser *parser, const DistilJsonDoc *doc, const char *file,
					  DistilActivation *out)
{
	const char *name;
	char		shown[100];

	DISTIL_FORWARD(distil_json_get_string(doc, distil_json_root(doc), "activation_function",
										  "torch.nn.modules.activation.Tanh", &name, parser->err));
	if (distil_config_torch_activation(out, name))
		return DISTIL_OK;
	return distil_fail(parser->err, DISTIL_ERR_UNSUPPORTED,
					   "activation \"%s\" of file \"%s\" is not supported",
					   distil_printable(shown, sizeof(shown), name, strlen(name)), file);
}

/* The file is "DIR/config.json"; the parameters are named after DIR. */
static DistilStatus
add_dense_params(PipelineParser *parser, DistilDenseModule *dense, const char *dir, bool bias)
{
	DistilSpec *spec = parser->spec;
	char		name[40];
	char		source[DISTIL_MAX_NAME + 32];

	snprintf(name, sizeof(name), "dense.%d.weight", spec->pipeline.ndense);
	snprintf(source, sizeof(source), "%s/linear.weight", dir);
	DISTIL_FORWARD(distil_single_param(spec, &dense->weight, name, source, dense->out, dense->in,
									   DISTIL_PARAM_NORMAL, parser->err));
	dense->bias = -1;
	if (!bias)
		return DISTIL_OK;
	snprintf(name, sizeof(name), "dense.%d.bias", spec->pipeline.ndense);
	snprintf(source, sizeof(source), "%s/linear.bias", dir);
	return distil_single_param(spec, &dense->bias, name, source, dense->out, 0, DISTIL_PARAM_NO_DECAY,
							   parser->err);
}

static DistilStatus
read_dense(PipelineParser *parser, const DistilJsonDoc *doc, const char *file)
{
	static const char *const known[] = {
		"in_features", "out_features", "bias", "activation_function", "module_input_name",
		"module_output_name", "use_residual", NULL
	};
	const DistilJson *root = distil_json_root(doc);
	DistilPipeline *pipeline = &parser->spec->pipeline;
	DistilDenseModule *dense = &pipeline->dense[pipeline->ndense];
	int			width = pipeline->ndense > 0 ? pipeline->dense[pipeline->ndense - 1].out
		: parser->spec->config.width * pipeline->npoolings;
	int64_t		in,
				out;
	bool		flag;
	char		dir[DISTIL_MAX_NAME + 1];

	if (pipeline->ndense == DISTIL_MAX_DENSE)
		return distil_fail(parser->err, DISTIL_ERR_LIMIT,
						   "file \"" MODULES_FILE "\" has more than %d Dense modules",
						   DISTIL_MAX_DENSE);
	DISTIL_FORWARD(check_keys(parser, doc, file, known));
	DISTIL_FORWARD(check_fixed(parser, doc, root, file, "module_input_name", "sentence_embedding"));
	DISTIL_FORWARD(check_fixed(parser, doc, root, file, "module_output_name", "sentence_embedding"));
	DISTIL_FORWARD(distil_json_get_bool(doc, root, "use_residual", false, &flag, parser->err));
	if (flag)
		return distil_fail(parser->err, DISTIL_ERR_UNSUPPORTED,
						   "\"use_residual\" of file \"%s\" is not supported",
						   file);
	DISTIL_FORWARD(distil_json_get_int(doc, root, "in_features", 0, 0, INT32_MAX, &in, parser->err));
	DISTIL_FORWARD(distil_json_get_int(doc, root, "out_features", 0, 1, DISTIL_MAX_WIDTH, &out,
									   parser->err));
	if (in != width || out == 0)
	{
		distil_fail(parser->err, DISTIL_ERR_TEXT_FILE, "file \"%s\" does not fit the module before it",
					file);
		return distil_fail_detail(parser->err, DISTIL_ERR_TEXT_FILE,
								  "\"in_features\" is %lld, \"out_features\" is %lld; "
								  "the input has %d values.",
								  (long long) in, (long long) out, width);
	}
	dense->in = (int) in;
	dense->out = (int) out;
	DISTIL_FORWARD(read_dense_activation(parser, doc, file, &dense->activation));
	DISTIL_FORWARD(distil_json_get_bool(doc, root, "bias", true, &flag, parser->err));
	snprintf(dir, sizeof(dir), "%.*s", (int) (strlen(file) - strlen("/config.json")), file);
	DISTIL_FORWARD(add_dense_params(parser, dense, dir, flag));
	pipeline->ndense++;
	return DISTIL_OK;
}

static DistilStatus
read_normalize(PipelineParser *parser, const DistilJsonDoc *doc, const char *file)
{
	static const char *const known[] = {"module_input_name", "module_output_name", NULL};
	const DistilJson *root = distil_json_root(doc);

	DISTIL_FORWARD(check_keys(parser, doc, file, known));
	DISTIL_FORWARD(check_fixed(parser, doc, root, file, "module_input_name", "sentence_embedding"));
	return check_fixed(parser, doc, root, file, "module_output_name", "sentence_embedding");
}

/* ---------- sentence_bert_config.json ---------- */

static DistilStatus
check_modality(PipelineParser *parser, const DistilJsonDoc *doc, const char *file)
{
	const DistilJson *modality = distil_json_member(distil_json_root(doc), "modality_config");
	const DistilJson *text;

	if (modality == NULL || distil_json_type(modality) == DISTIL_JSON_NULL)
		return DISTIL_OK;
	text = distil_json_type(modality) == DISTIL_JSON_OBJECT ? distil_json_member(modality, "text") : NULL;
	if (text == NULL || distil_json_type(text) != DISTIL_JSON_OBJECT)
		return distil_fail(parser->err, DISTIL_ERR_UNSUPPORTED,
						   "\"modality_config\" of file \"%s\" has no \"text\"",
						   file);
	DISTIL_FORWARD(check_fixed(parser, doc, text, file, "method", "forward"));
	return check_fixed(parser, doc, text, file, "method_output_name",
					   parser->ranks ? "logits" : "last_hidden_state");
}

static DistilStatus
read_transformer(PipelineParser *parser, const DistilJsonDoc *doc, const char *file)
{
	static const char *const known[] = {
		"max_seq_length", "do_lower_case", "transformer_task", "modality_config", "module_output_name",
		"unpad_inputs", "model_args", "tokenizer_args", "config_args", "model_kwargs", "processor_kwargs",
		"config_kwargs", "processing_kwargs", NULL
	};
	static const char *const empty[] = {
		"model_args", "tokenizer_args", "config_args", "model_kwargs", "processor_kwargs", "config_kwargs",
		"processing_kwargs"
	};
	const DistilJson *root = distil_json_root(doc);
	DistilPipeline *pipeline = &parser->spec->pipeline;
	const char *task;
	int64_t		length;

	DISTIL_FORWARD(check_keys(parser, doc, file, known));
	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++)
	{
		const DistilJson *value = distil_json_member(root, empty[i]);

		if (value != NULL && distil_json_type(value) != DISTIL_JSON_NULL &&
			(distil_json_type(value) != DISTIL_JSON_OBJECT || distil_json_count(value) > 0))
			return distil_fail(parser->err, DISTIL_ERR_UNSUPPORTED,
							   "\"%s\" of file \"%s\" is not supported",
							   empty[i], file);
	}
	DISTIL_FORWARD(distil_json_get_string(doc, root, "transformer_task", NULL, &task, parser->err));
	parser->ranks = task != NULL && strcmp(task, "sequence-classification") == 0;
	if (!parser->ranks)
		DISTIL_FORWARD(check_fixed(parser, doc, root, file, "transformer_task", "feature-extraction"));
	DISTIL_FORWARD(check_fixed(parser, doc, root, file, "module_output_name",
							   parser->ranks ? "scores" : "token_embeddings"));
	DISTIL_FORWARD(check_modality(parser, doc, file));
	DISTIL_FORWARD(distil_json_get_int(doc, root, "max_seq_length", 0, 1, INT32_MAX, &length, parser->err));
	pipeline->max_seq_length = (int) length;
	return distil_json_get_bool(doc, root, "do_lower_case", false, &pipeline->lower_case, parser->err);
}

/* Older releases named the file after the model; the first one that is there counts. */
static DistilStatus
read_transformer_file(PipelineParser *parser)
{
	static const char *const names[] = {
		"sentence_bert_config.json", "sentence_roberta_config.json", "sentence_distilbert_config.json",
		"sentence_camembert_config.json", "sentence_albert_config.json", "sentence_xlm-roberta_config.json",
		"sentence_xlnet_config.json"
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (distil_folder_find(parser->folder, names[i]) != NULL)
			return with_file(parser, names[i], true, read_transformer);
	return DISTIL_OK;
}

/* ---------- prompts ---------- */

static DistilStatus
read_prompts(PipelineParser *parser, const DistilJsonDoc *doc, const char *file)
{
	static const char *const known[] = {
		"__version__", "model_type", "prompts", "default_prompt_name", "similarity_fn_name", "requirements",
		NULL
	};
	DistilPipeline *pipeline = &parser->spec->pipeline;
	DistilArena *arena = parser->spec->arena;
	const DistilJson *root = distil_json_root(doc);
	const DistilJson *map = distil_json_member(root, "prompts");
	const char *default_name;
	const char **names;
	const char **prompts;
	const void *at = NULL;
	const char *key;
	const DistilJson *value;
	size_t		n = map == NULL ? 0 : distil_json_count(map);

	DISTIL_FORWARD(check_fixed(parser, doc, root, file, "model_type", "SentenceTransformer"));
	DISTIL_FORWARD(check_keys(parser, doc, file, known));
	if (map != NULL && distil_json_type(map) != DISTIL_JSON_OBJECT &&
		distil_json_type(map) != DISTIL_JSON_NULL)
		return distil_fail(parser->err, DISTIL_ERR_TEXT_FILE,
						   "\"prompts\" of file \"%s\" must be an object", file);
	if (n > MAX_PROMPTS)
		return distil_fail(parser->err, DISTIL_ERR_LIMIT, "file \"%s\" has more than %d prompts", file,
						   MAX_PROMPTS);
	DISTIL_FORWARD(distil_json_get_string(doc, root, "default_prompt_name", NULL, &default_name,
										  parser->err));
	names = distil_arena_alloc(arena, n + 1, sizeof(*names));
	prompts = distil_arena_alloc(arena, n + 1, sizeof(*prompts));
	if (names == NULL || prompts == NULL)
		return distil_fail_memory(parser->err, n * sizeof(*names));
	pipeline->prompt_names = names;
	pipeline->prompts = prompts;
	while (n > 0 && (at = distil_json_next(map, at, &key, NULL, &value)) != NULL)
	{
		int			i = pipeline->nprompts;
		const char *text = "";
		size_t		length = 0;

		if (distil_json_type(value) == DISTIL_JSON_STRING)
			text = distil_json_string(value, &length);
		else if (distil_json_type(value) != DISTIL_JSON_NULL)
			return distil_fail(parser->err, DISTIL_ERR_TEXT_FILE, "a prompt of file \"%s\" is not a string",
							   file);
		names[i] = distil_arena_string(arena, key, strlen(key));
		prompts[i] = distil_arena_string(arena, text, length);
		if (names[i] == NULL || prompts[i] == NULL)
			return distil_fail_memory(parser->err, length);
		if (default_name != NULL && strcmp(default_name, key) == 0)
			pipeline->default_prompt = i;
		pipeline->nprompts++;
	}
	/* these two are there without being said, and empty */
	if (default_name != NULL && pipeline->default_prompt < 0 && strcmp(default_name, "query") != 0 &&
		strcmp(default_name, "document") != 0)
		return distil_fail(parser->err, DISTIL_ERR_TEXT_FILE,
						   "\"default_prompt_name\" of file \"%s\" is not one of its prompts", file);
	return DISTIL_OK;
}

/* The same file of a cross-encoder. */
static DistilStatus
read_cross_encoder(PipelineParser *parser, const DistilJsonDoc *doc, const char *file)
{
	static const char *const known[] = {
		"__version__", "model_type", "activation_fn", "prompts", "default_prompt_name", NULL
	};
	const DistilJson *root = distil_json_root(doc);
	const DistilJson *prompts = distil_json_member(root, "prompts");
	const char *name;

	DISTIL_FORWARD(check_keys(parser, doc, file, known));
	DISTIL_FORWARD(check_fixed(parser, doc, root, file, "model_type", "CrossEncoder"));
	if (prompts != NULL && distil_json_count(prompts) > 0)
		return distil_fail(parser->err, DISTIL_ERR_UNSUPPORTED,
						   "\"prompts\" of file \"%s\" are not supported for a cross-encoder", file);
	DISTIL_FORWARD(distil_json_get_string(doc, root, "activation_fn", NULL, &name, parser->err));
	return name == NULL ? DISTIL_OK
		: distil_config_rank_activation(&parser->spec->config.rank_activation, name, file, parser->err);
}

/* ---------- modules.json ---------- */

/* "Pooling" of "sentence_transformers.models.Pooling"; NULL for types of other packages. */
static const char *
module_type(const char *type)
{
	static const char *const packages[] = {
		"sentence_transformers.models.", "sentence_transformers.base.modules.",
		"sentence_transformers.sentence_transformer.modules."
	};
	const char *last = strrchr(type, '.');

	for (size_t i = 0; i < sizeof(packages) / sizeof(packages[0]); i++)
		if (strncmp(type, packages[i], strlen(packages[i])) == 0)
			return last + 1;
	return NULL;
}

static DistilStatus
read_module(PipelineParser *parser, int index, const char *kind, const char *path)
{
	DistilPipeline *pipeline = &parser->spec->pipeline;
	char		file[DISTIL_MAX_NAME + 32];
	char		shown[80];

	snprintf(file, sizeof(file), "%s/config.json", path);
	if (index == 0 && strcmp(kind, "Transformer") == 0)
	{
		if (path[0] == '\0')
			return read_transformer_file(parser);
		return distil_fail(parser->err, DISTIL_ERR_UNSUPPORTED,
						   "a Transformer module in folder \"%s\" is not supported",
						   distil_printable(shown, sizeof(shown), path, strlen(path)));
	}
	if (index == 1 && strcmp(kind, "Pooling") == 0)
		return with_file(parser, file, true, read_pooling);
	if (index > 1 && strcmp(kind, "Dense") == 0 && !pipeline->normalize)
		return with_file(parser, file, true, read_dense);
	if (index > 1 && strcmp(kind, "Normalize") == 0)
	{
		pipeline->normalize = true;
		return with_file(parser, file, false, read_normalize);
	}
	distil_fail(parser->err, DISTIL_ERR_UNSUPPORTED,
				"module \"%s\" is not supported as number %d of a sentence model",
				kind, index);
	return distil_fail_detail(parser->err, DISTIL_ERR_UNSUPPORTED,
							  "Supported: Transformer, Pooling, then Dense modules, then Normalize.");
}

/* type and path of one entry of modules.json; borrowed from doc */
static DistilStatus
module_entry(PipelineParser *parser, const DistilJsonDoc *doc, const DistilJson *module,
			 const char **kind, const char **path)
{
	const char *type;
	const DistilJson *kwargs;
	char		shown[100];

	if (distil_json_type(module) != DISTIL_JSON_OBJECT)
		return distil_fail(parser->err, DISTIL_ERR_TEXT_FILE,
						   "a module of file \"" MODULES_FILE "\" is not an object");
	DISTIL_FORWARD(distil_json_get_string(doc, module, "type", "", &type, parser->err));
	DISTIL_FORWARD(distil_json_get_string(doc, module, "path", "", path, parser->err));
	kwargs = distil_json_member(module, "kwargs");
	if (kwargs != NULL && distil_json_count(kwargs) > 0)
		return distil_fail(parser->err, DISTIL_ERR_UNSUPPORTED, "\"kwargs\" of file \"" MODULES_FILE
						   "\" is not supported");
	*kind = module_type(type);
	if (*kind == NULL)
		return distil_fail(parser->err, DISTIL_ERR_UNSUPPORTED, "modules of type \"%s\" are not supported",
						   distil_printable(shown, sizeof(shown), type, strlen(type)));
	if (strlen(*path) > MAX_MODULE_NAME || strlen(*kind) > MAX_MODULE_NAME)
		return distil_fail(parser->err, DISTIL_ERR_LIMIT,
						   "a name in file \"" MODULES_FILE "\" is too long, the limit is %d bytes",
						   MAX_MODULE_NAME);
	/* "1_Pooling": containers tell a module's files by the number */
	if ((*path)[0] != '\0' && ((*path)[0] < '0' || (*path)[0] > '9' || strchr(*path, '/') != NULL))
		return distil_fail(parser->err, DISTIL_ERR_UNSUPPORTED,
						   "a module in folder \"%s\" is not supported",
						   distil_printable(shown, sizeof(shown), *path, strlen(*path)));
	return DISTIL_OK;
}

static DistilStatus
check_modules(const DistilJsonDoc *doc, DistilError *err)
{
	const DistilJson *root = distil_json_root(doc);

	if (distil_json_type(root) != DISTIL_JSON_ARRAY)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "file \"" MODULES_FILE "\" must hold a JSON array");
	if (distil_json_count(root) > MAX_MODULES)
		return distil_fail(err, DISTIL_ERR_LIMIT, "file \"" MODULES_FILE "\" has more than %d modules",
						   MAX_MODULES);
	return DISTIL_OK;
}

/* A cross-encoder's one module has its head; as a sentence model it is a folder without modules. */
static DistilStatus
rank_pipeline(PipelineParser *parser, size_t modules)
{
	if (modules != 1)
		return distil_fail(parser->err, DISTIL_ERR_UNSUPPORTED,
						   "a cross-encoder of %zu modules in file \"" MODULES_FILE "\" is not supported",
						   modules);
	parser->spec->pipeline.present = false;
	parser->spec->pipeline.npoolings = 1;
	parser->spec->config.ranks = true;
	return with_file(parser, PROMPTS_FILE, false, read_cross_encoder);
}

static DistilStatus
read_modules(PipelineParser *parser, const DistilJsonDoc *doc)
{
	const DistilJson *root = distil_json_root(doc);
	DistilPipeline *pipeline = &parser->spec->pipeline;

	DISTIL_FORWARD(check_modules(doc, parser->err));
	pipeline->present = true;
	pipeline->npoolings = 0;
	for (size_t i = 0; i < distil_json_count(root); i++)
	{
		const char *kind;
		const char *path;

		DISTIL_FORWARD(module_entry(parser, doc, distil_json_item(root, i), &kind, &path));
		DISTIL_FORWARD(read_module(parser, (int) i, kind, path));
	}
	if (parser->ranks)
		return rank_pipeline(parser, distil_json_count(root));
	if (pipeline->npoolings == 0)
		return distil_fail(parser->err, DISTIL_ERR_UNSUPPORTED,
						   "sentence models without Pooling are not supported");
	return with_file(parser, PROMPTS_FILE, false, read_prompts);
}

DistilStatus
distil_pipeline_parse(DistilSpec *spec, const DistilFolder *folder, const DistilAllocator *alloc,
					  DistilError *err)
{
	PipelineParser parser = {spec, folder, alloc, err, false};
	DistilPipeline *pipeline = &spec->pipeline;
	DistilJsonDoc *doc;
	DistilStatus status;

	memset(pipeline, 0, sizeof(*pipeline));
	pipeline->pooling[0] = DISTIL_POOL_MEAN;
	pipeline->npoolings = 1;
	pipeline->include_prompt = true;
	pipeline->default_prompt = -1;
	DISTIL_FORWARD(distil_folder_json(folder, MODULES_FILE, false, &doc, alloc, err));
	if (doc == NULL)
		return DISTIL_OK;
	status = read_modules(&parser, doc);
	distil_json_free(doc);
	return status;
}

static DistilStatus
collect_dense(PipelineParser *parser, const DistilJsonDoc *doc, const char **dirs, int *n,
			  DistilArena *arena)
{
	const DistilJson *root = distil_json_root(doc);

	for (size_t i = 0; i < distil_json_count(root); i++)
	{
		const char *kind;
		const char *path;

		DISTIL_FORWARD(module_entry(parser, doc, distil_json_item(root, i), &kind, &path));
		if (strcmp(kind, "Dense") != 0)
			continue;
		dirs[*n] = distil_arena_string(arena, path, strlen(path));
		if (dirs[*n] == NULL)
			return distil_fail_memory(parser->err, strlen(path));
		(*n)++;
	}
	return DISTIL_OK;
}

DistilStatus
distil_pipeline_dense_dirs(const char *const **dirs, int *n, const DistilFolder *folder,
						   DistilArena *arena, const DistilAllocator *alloc, DistilError *err)
{
	PipelineParser parser = {NULL, folder, alloc, err, false};
	const char **found;
	DistilJsonDoc *doc;
	DistilStatus status;

	*dirs = NULL;
	*n = 0;
	DISTIL_FORWARD(distil_folder_json(folder, MODULES_FILE, false, &doc, alloc, err));
	if (doc == NULL)
		return DISTIL_OK;
	found = distil_arena_alloc(arena, MAX_MODULES, sizeof(*found));
	status = found == NULL ? distil_fail_memory(err, 0) : check_modules(doc, err);
	if (status == DISTIL_OK)
		status = collect_dense(&parser, doc, found, n, arena);
	distil_json_free(doc);
	*dirs = found;
	return status;
}
