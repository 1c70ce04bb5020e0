/*
 * tokenizer_class.c
 *		What the tokenizer classes of transformers 5 make of a vocabulary.
 *
 * A class takes from tokenizer.json, as from legacy files, little more than the vocabulary: normalizer,
 * pre-tokenizer, decoder and (but for `keeps`) post-processor are its own, built from tokenizer_config.json
 * and its defaults.  The rule a newcomer would break: a member that is absent has the default of the class,
 * whatever tokenizer.json does.
 */
#include "tokenizer_parts.h"

#include "folder.h"
#include "status.h"
#include "tokenizer.h"

#include <stdio.h>
#include <string.h>

#define MARK	0x2581u

#define BERT_NAMES		{"[CLS]", "[SEP]", "[PAD]", "[MASK]", NULL, NULL}
#define ALBERT_NAMES	{"[CLS]", "[SEP]", "<pad>", "[MASK]", "[CLS]", "[SEP]"}
#define ROBERTA_NAMES	{"<s>", "</s>", "<pad>", "<mask>", "<s>", "</s>"}
#define XLNET_NAMES		{"<cls>", "<sep>", "<pad>", "<mask>", "<s>", "</s>"}
#define GPT2_NAMES		{NULL, NULL, NULL, NULL, "<|endoftext|>", "<|endoftext|>"}

static const DistilTokenizerClass classes[] = {
	{"BertTokenizer", {"bert", "distilbert", "electra"}, DISTIL_CLASS_BERT, DISTIL_TEMPLATE_BERT, {0, 1},
	BERT_NAMES,
	.lower = true, .types = true},
	{"DistilBertTokenizer", {NULL}, DISTIL_CLASS_BERT, DISTIL_TEMPLATE_BERT, {0, 1}, BERT_NAMES,
	.lower = true},
	{"ElectraTokenizer", {NULL}, DISTIL_CLASS_BERT, DISTIL_TEMPLATE_BERT, {0, 1}, BERT_NAMES,
	.lower = true, .types = true},
	{"MobileBertTokenizer", {NULL}, DISTIL_CLASS_BERT, DISTIL_TEMPLATE_BERT, {0, 1}, BERT_NAMES,
	.lower = true, .types = true},
	{"MPNetTokenizer", {"mpnet"}, DISTIL_CLASS_BERT, DISTIL_TEMPLATE_ROBERTA, {0, 1}, ROBERTA_NAMES,
	.lower = true, .mask_strips = true},
	{"GPT2Tokenizer", {"gpt2"}, DISTIL_CLASS_BYTES, DISTIL_TEMPLATE_NONE, {4, 5}, GPT2_NAMES,
	.keeps = true},
	{"RobertaTokenizer", {"roberta"}, DISTIL_CLASS_BYTES, DISTIL_TEMPLATE_ROBERTA, {0, 1}, ROBERTA_NAMES,
	.unk_id = -1},
	{"AlbertTokenizer", {"albert"}, DISTIL_CLASS_PIECES, DISTIL_TEMPLATE_BERT, {0, 1}, ALBERT_NAMES,
	.unk_id = 1, .keeps = true, .lower = true, .prefix = true, .quotes = true},
	{"XLNetTokenizer", {"xlnet"}, DISTIL_CLASS_PIECES, DISTIL_TEMPLATE_XLNET, {0, 1}, XLNET_NAMES,
	.unk_id = 0, .prefix = true, .quotes = true, .fixed = true, .mask_strips = true,
	.more = {"<eop>", "<eod>"}},
	{"XLMRobertaTokenizer", {"xlm-roberta"}, DISTIL_CLASS_PIECES, DISTIL_TEMPLATE_ROBERTA, {4, 5},
	ROBERTA_NAMES,
	.unk_id = 3, .prefix = true, .own_ids = true},
	{"CamembertTokenizer", {"camembert"}, DISTIL_CLASS_PIECES, DISTIL_TEMPLATE_ROBERTA, {4, 5}, ROBERTA_NAMES,
	.unk_id = -1, .prefix = true, .own_ids = true, .mask_strips = true,
	.more = {"<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"}}
};

/* ---------- which class ---------- */

static DistilStatus
read_string(DistilDraft *draft, const DistilFolder *folder, const char *file, const char *key,
			const char **text, DistilError *err)
{
	DistilJsonDoc *doc;
	const char *value = NULL;
	DistilStatus status = DISTIL_OK;

	if (*text != NULL)
		return DISTIL_OK;
	DISTIL_FORWARD(distil_folder_json(folder, file, false, &doc, draft->alloc, err));
	if (doc != NULL && distil_json_type(distil_json_root(doc)) == DISTIL_JSON_OBJECT)
		status = distil_json_get_string(doc, distil_json_root(doc), key, NULL, &value, err);
	if (status == DISTIL_OK && value != NULL)
	{
		*text = distil_arena_string(draft->arena, value, strlen(value));
		if (*text == NULL)
			status = distil_fail_memory(err, strlen(value));
	}
	distil_json_free(doc);
	return status;
}

static const DistilTokenizerClass *
class_named(const char *name, const char *model_type)
{
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
	{
		const DistilTokenizerClass *class = &classes[i];
		size_t		n = strlen(class->name);

		if (name != NULL && strncmp(name, class->name, n) == 0 &&
			(name[n] == '\0' || strcmp(name + n, "Fast") == 0))
			return class;
		for (int k = 0; name == NULL && k < 3 && class->model_types[k] != NULL; k++)
			if (strcmp(class->model_types[k], model_type) == 0)
				return class;
	}
	return NULL;
}

/* A class that takes tokenizer.json as it is. */
static bool
is_general(const char *name)
{
	static const char *const general[] = {"TokenizersBackend", "PreTrainedTokenizerFast",
	"PreTrainedTokenizer", "PythonBackend"};

	for (size_t i = 0; i < sizeof(general) / sizeof(general[0]); i++)
		if (strcmp(name, general[i]) == 0)
			return true;
	return false;
}

DistilStatus
distil_draft_class(DistilDraft *draft, const DistilFolder *folder, const char *otherwise,
				   const DistilTokenizerClass **class, DistilError *err)
{
	const char *name = NULL;
	const char *model_type = NULL;
	char		printable[64];

	*class = NULL;
	DISTIL_FORWARD(read_string(draft, folder, "tokenizer_config.json", "tokenizer_class", &name, err));
	DISTIL_FORWARD(read_string(draft, folder, "config.json", "tokenizer_class", &name, err));
	DISTIL_FORWARD(read_string(draft, folder, "config.json", "model_type", &model_type, err));
	draft->types = name == NULL;
	if (name != NULL && draft->doc != NULL && is_general(name))
		return DISTIL_OK;
	if (name != NULL || model_type != NULL)
		*class = class_named(name, model_type);
	if (name == NULL && *class == NULL && otherwise != NULL)
		*class = class_named(NULL, otherwise);
	if (*class != NULL)
		draft->types = (*class)->types;
	if (name == NULL || *class != NULL)
		return DISTIL_OK;
	distil_printable(printable, sizeof(printable), name, strlen(name));
	if (draft->doc == NULL)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "tokenizer_class \"%s\" without tokenizer.json is not supported", printable);
	return distil_fail_hint(err, distil_fail(err, DISTIL_ERR_UNSUPPORTED,
											 "tokenizer_class \"%s\" is not supported", printable),
							DISTIL_HINT_AS_IT_IS);
}

DistilStatus
distil_tokenizer_config(const char **config, size_t *length, const DistilFolder *folder, DistilArena *arena,
						const DistilAllocator *alloc, DistilError *err)
{
	DistilDraft draft = {.arena = arena,.alloc = alloc};
	const DistilTokenizerClass *class = NULL;
	const char *brace = memchr(*config, '{', *length);
	const char *name = NULL;
	const char *model_type = NULL;
	DistilJsonDoc *doc;
	bool		named;
	char	   *text;
	size_t		head;
	size_t		size;

	DISTIL_FORWARD(read_string(&draft, folder, "tokenizer_config.json", "tokenizer_class", &name, err));
	if (name != NULL || brace == NULL)
		return DISTIL_OK;
	DISTIL_FORWARD(distil_json_parse(&doc, *config, *length, "file \"config.json\"", alloc, err));
	named = distil_json_type(distil_json_root(doc)) != DISTIL_JSON_OBJECT ||
		distil_json_member(distil_json_root(doc), "model_type") == NULL ||
		distil_json_member(distil_json_root(doc), "tokenizer_class") != NULL;
	distil_json_free(doc);
	DISTIL_FORWARD(read_string(&draft, folder, "config.json", "tokenizer_class", &name, err));
	DISTIL_FORWARD(read_string(&draft, folder, "config.json", "model_type", &model_type, err));
	if (name == NULL && model_type != NULL)
		class = class_named(NULL, model_type);
	name = class != NULL ? class->name : name;
	if (named || name == NULL || (!is_general(name) && class_named(name, NULL) == NULL))
		return DISTIL_OK;
	head = (size_t) (brace - *config) + 1;
	size = *length + strlen(name) + 32;
	text = distil_arena_alloc(arena, size, 1);
	if (text == NULL)
		return distil_fail_memory(err, size);
	*length = (size_t) snprintf(text, size, "%.*s\n  \"tokenizer_class\": \"%s\",%.*s", (int) head, *config,
								name, (int) (*length - head), *config + head);
	*config = text;
	return DISTIL_OK;
}

/* ---------- settings ---------- */

const char *
distil_class_unk(const DistilTokenizerClass *class)
{
	return class->kind == DISTIL_CLASS_BERT ? "[UNK]" : class->template == DISTIL_TEMPLATE_NONE
		? "<|endoftext|>" : "<unk>";
}

DistilStatus
distil_draft_class_settings(DistilClassSettings *settings, const DistilTokenizerClass *class,
							const DistilJsonDoc *doc, DistilError *err)
{
	const DistilJson *root = doc != NULL ? distil_json_root(doc) : NULL;

	*settings = (DistilClassSettings) {.prefix = class->prefix, .trim = true, .lower = class->lower,
	.strip = class->lower, .cjk = true};
	if (doc == NULL)
		return DISTIL_OK;
	if (distil_json_type(root) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "file \"tokenizer_config.json\" is not an object");
	DISTIL_FORWARD(distil_json_get_bool(doc, root, "do_lower_case", settings->lower, &settings->lower, err));
	DISTIL_FORWARD(distil_json_get_bool(doc, root, "strip_accents", settings->lower, &settings->strip, err));
	DISTIL_FORWARD(distil_json_get_bool(doc, root, "tokenize_chinese_chars", true, &settings->cjk, err));
	DISTIL_FORWARD(distil_json_get_bool(doc, root, "keep_accents", false, &settings->accents, err));
	DISTIL_FORWARD(distil_json_get_bool(doc, root, "trim_offsets", true, &settings->trim, err));
	if (!class->fixed)
		DISTIL_FORWARD(distil_json_get_bool(doc, root, "add_prefix_space", settings->prefix,
											&settings->prefix, err));
	else
		settings->accents = false;
	return DISTIL_OK;
}

/* ---------- parts ---------- */

static DistilStatus
put_pieces(DistilDraft *draft, const DistilTokenizerClass *class, const DistilClassSettings *settings,
		   const DistilBlobStep *charsmap, DistilError *err)
{
	const struct
	{
		uint32_t	kind;
		bool		on;
	}			steps[] = {
		{DISTIL_NORMALIZER_NFKD, class->quotes && !settings->accents},
		{DISTIL_NORMALIZER_ACCENTS, class->quotes && !settings->accents},
		{DISTIL_NORMALIZER_LOWERCASE, class->quotes && settings->lower}
	};
	uint32_t	meta = MARK << DISTIL_META_SHIFT | DISTIL_META_SPLIT |
		(settings->prefix ? DISTIL_META_ALWAYS : 0u);

	if (class->quotes)
	{
		DISTIL_FORWARD(distil_draft_replace(draft, DISTIL_NORMALIZER_REPLACE, 0, "``", "\"", err));
		DISTIL_FORWARD(distil_draft_replace(draft, DISTIL_NORMALIZER_REPLACE, 0, "''", "\"", err));
	}
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		if (steps[i].on)
			DISTIL_FORWARD(distil_draft_step(draft->normalizer, &draft->nnormalizer, steps[i].kind, 0, err));
	if (charsmap->kind == DISTIL_NORMALIZER_CHARSMAP)
		draft->normalizer[draft->nnormalizer++] = *charsmap;
	DISTIL_FORWARD(distil_draft_step(draft->pre, &draft->npre, DISTIL_PRE_SPLIT, 0, err));
	DISTIL_FORWARD(distil_draft_step(draft->pre, &draft->npre, DISTIL_PRE_METASPACE, meta, err));
	draft->header.decoder = DISTIL_DECODER_METASPACE;
	draft->header.decoder_flags = meta;
	return DISTIL_OK;
}

static DistilStatus
put_bert(DistilDraft *draft, const DistilClassSettings *settings, DistilError *err)
{
	DISTIL_FORWARD(distil_draft_step(draft->normalizer, &draft->nnormalizer, DISTIL_NORMALIZER_BERT,
									 distil_class_bert_flags(settings), err));
	draft->header.decoder = DISTIL_DECODER_WORDPIECE;
	draft->header.decoder_flags = 1;
	draft->header.decoder_prefix_length = 2;
	memcpy(draft->header.decoder_prefix, "##", 2);
	return distil_draft_step(draft->pre, &draft->npre, DISTIL_PRE_BERT, 0, err);
}

static DistilStatus
put_bytes(DistilDraft *draft, const DistilClassSettings *settings, DistilError *err)
{
	draft->header.decoder = DISTIL_DECODER_BYTES;
	return distil_draft_step(draft->pre, &draft->npre, DISTIL_PRE_BYTES,
							 DISTIL_BYTES_SPLIT | (settings->prefix ? DISTIL_BYTES_PREFIX : 0u), err);
}

static DistilStatus
put_template(DistilDraft *draft, const DistilTokenizerClass *class, const DistilClassSettings *settings,
			 DistilError *err)
{
	static const char *const keys[6] = {"cls_token", "sep_token", "pad_token", "mask_token", "bos_token",
	"eos_token"};
	const uint32_t trim = DISTIL_BLOB_TRIM | DISTIL_BLOB_TRIM_PREFIX;
	const DistilJson *post = draft->doc != NULL ? distil_json_member(distil_json_root(draft->doc),
																	 "post_processor") : NULL;
	int32_t		ids[2];

	if (class->template == DISTIL_TEMPLATE_NONE ||
		(class->keeps && post != NULL && distil_json_type(post) != DISTIL_JSON_NULL))
		return DISTIL_OK;
	for (int i = 0; i < 2; i++)
	{
		int			k = class->ends[i];
		const char *name = draft->names[k] != NULL ? draft->names[k] : class->names[k];

		ids[i] = name[0] != '\0' ? distil_draft_id(draft, name, strlen(name)) : -1;
		if (ids[i] < 0)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE, "the vocabulary has no token for %s", keys[k]);
	}
	draft->header.flags &= ~trim;
	if (class->kind == DISTIL_CLASS_BERT && class->template == DISTIL_TEMPLATE_ROBERTA)
		draft->header.flags |= DISTIL_BLOB_TRIM;
	else if (class->kind == DISTIL_CLASS_BYTES)
		draft->header.flags |= (settings->trim ? DISTIL_BLOB_TRIM : 0u) |
			(settings->prefix ? DISTIL_BLOB_TRIM_PREFIX : 0u);
	if (class->template == DISTIL_TEMPLATE_BERT)
		distil_template_bert(draft, ids[0], ids[1]);
	else if (class->template == DISTIL_TEMPLATE_ROBERTA)
		distil_template_roberta(draft, ids[0], ids[1]);
	else
		distil_template_xlnet(draft, ids[0], ids[1]);
	return DISTIL_OK;
}

uint32_t
distil_class_bert_flags(const DistilClassSettings *settings)
{
	return DISTIL_BERT_CLEAN | (settings->cjk ? DISTIL_BERT_CJK : 0u) |
		(settings->strip ? DISTIL_BERT_STRIP : 0u) |
		(settings->lower ? DISTIL_BERT_LOWER : 0u);
}

DistilStatus
distil_draft_class_parts(DistilDraft *draft, const DistilTokenizerClass *class,
						 const DistilClassSettings *settings, DistilError *err)
{
	DistilBlobStep charsmap = {0};

	for (int i = 0; i < draft->nnormalizer; i++)
		if (draft->normalizer[i].kind == DISTIL_NORMALIZER_CHARSMAP && charsmap.kind == 0)
			charsmap = draft->normalizer[i];
	draft->nnormalizer = draft->npre = draft->ndecoder = 0;
	if (class->kind == DISTIL_CLASS_BERT)
		DISTIL_FORWARD(put_bert(draft, settings, err));
	else if (class->kind == DISTIL_CLASS_BYTES)
		DISTIL_FORWARD(put_bytes(draft, settings, err));
	else
		DISTIL_FORWARD(put_pieces(draft, class, settings, &charsmap, err));
	return put_template(draft, class, settings, err);
}
