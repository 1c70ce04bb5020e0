/*
 * tokenizer_pieces.c
 *		Folders without tokenizer.json: vocab.json with merges.txt, and SentencePiece models.
 *
 * What the classes GPT2Tokenizer, RobertaTokenizer, AlbertTokenizer, XLNetTokenizer,
 * XLMRobertaTokenizer and CamembertTokenizer of transformers 5 make of such files: which
 * steps, which special tokens, which ids.  The rule a newcomer would break: XLM-R and
 * CamemBERT do not use the ids of their SentencePiece model; they put their own special
 * tokens in front, and <mask> behind.
 * A SentencePiece model is a protocol buffer: pieces are field 1 (text 1, score 2,
 * type 3), the trainer's settings field 2 (kind of model 3, id of unknown 40), the
 * normalizer's field 3 (character map 2).
 */
#include "tokenizer_parts.h"

#include "folder.h"
#include "status.h"

#include <math.h>
#include <string.h>

#define MAX_PIECES_FILE	(64u << 20)
#define MAX_CONTROL		4096	/* control pieces and those of the user */

const char *
distil_pieces_file(const DistilFolder *folder)
{
	static const char *const names[] = {"spiece.model", "sentencepiece.bpe.model"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (distil_folder_find(folder, names[i]) != NULL)
			return names[i];
	return NULL;
}

static DistilStatus
refuse_more(const DistilJsonDoc *doc, DistilError *err)
{
	const DistilJson *root = distil_json_root(doc);
	static const char *const refused[] = {"add_bos_token", "add_eos_token"};
	bool		on;

	for (int i = 0; i < 2; i++)
	{
		DISTIL_FORWARD(distil_json_get_bool(doc, root, refused[i], false, &on, err));
		if (on)
			return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
							   "%s of file \"tokenizer_config.json\" is not supported without tokenizer.json",
							   refused[i]);
	}
	return DISTIL_OK;
}

static DistilStatus
read_config(DistilDraft *draft, DistilClassSettings *settings, const DistilTokenizerClass *class,
			const DistilFolder *folder, DistilError *err)
{
	DistilJsonDoc *doc;
	DistilStatus status;

	DISTIL_FORWARD(distil_folder_json(folder, "tokenizer_config.json", false, &doc, draft->alloc, err));
	status = distil_draft_class_settings(settings, class, doc, err);
	if (status == DISTIL_OK && doc != NULL)
		status = refuse_more(doc, err);
	distil_json_free(doc);
	return status;
}

/* ---------- vocab.json and merges.txt ---------- */

/* Whole file in the arena. */
static DistilStatus
read_file(DistilDraft *draft, const DistilFolder *folder, const char *name, char **text, size_t *length,
		  DistilError *err)
{
	char	   *data;

	DISTIL_FORWARD(distil_folder_read(folder, name, MAX_PIECES_FILE, &data, length, draft->alloc, err));
	*text = distil_arena_alloc(draft->arena, *length + 1, 1);
	if (*text != NULL)
		memcpy(*text, data, *length);
	distil_release(draft->alloc, data);
	return *text != NULL ? DISTIL_OK : distil_fail_memory(err, *length);
}

static DistilStatus
read_merge_lines(DistilDraft *draft, const char *text, size_t length, DistilError *err)
{
	size_t		lines = 1;
	size_t		number = 0;
	DistilDraftMerge *merges;

	for (size_t i = 0; i < length; i++)
		lines += text[i] == '\n';
	merges = distil_arena_alloc(draft->arena, lines, sizeof(*merges));
	if (merges == NULL)
		return distil_fail_memory(err, lines * sizeof(*merges));
	for (size_t start = 0; start < length;)
	{
		const char *newline = memchr(text + start, '\n', length - start);
		size_t		end = newline != NULL ? (size_t) (newline - text) : length;
		size_t		next = end + 1;
		const char *blank;
		DistilDraftMerge *merge = &merges[draft->nmerges];

		number++;
		if (end > start && text[end - 1] == '\r')
			end--;
		if (end > start && strncmp(text + start, "#version", 8) != 0)
		{
			blank = memchr(text + start, ' ', end - start);
			if (blank == NULL || end - start > 2 * DISTIL_MAX_TOKEN_BYTES ||
				memchr(blank + 1, ' ', (size_t) (text + end - blank) - 1) != NULL)
				return distil_fail(err, DISTIL_ERR_TEXT_FILE,
								   "line %zu of file \"merges.txt\" is not a pair of tokens", number);
			merge->left = text + start;
			merge->nleft = (uint32_t) (blank - merge->left);
			merge->right = blank + 1;
			merge->nright = (uint32_t) (text + end - merge->right);
			draft->nmerges++;
		}
		start = next;
	}
	draft->merges = merges;
	return DISTIL_OK;
}

/* The tokens' texts go to the arena: the document is freed. */
static DistilStatus
read_vocabulary(DistilDraft *draft, const DistilFolder *folder, DistilError *err)
{
	DistilJsonDoc *doc;
	DistilStatus status;

	DISTIL_FORWARD(distil_folder_json(folder, "vocab.json", true, &doc, draft->alloc, err));
	status = distil_draft_vocabulary(draft, distil_json_root(doc), "file \"vocab.json\"", err);
	for (size_t i = 0; status == DISTIL_OK && i < draft->ntokens; i++)
	{
		DistilDraftToken *token = &draft->tokens[i];

		token->text = distil_arena_string(draft->arena, token->text, token->length);
		if (token->text == NULL)
			status = distil_fail_memory(err, token->length);
	}
	distil_json_free(doc);
	return status;
}

DistilStatus
distil_draft_read_bpe(DistilDraft *draft, const DistilFolder *folder, DistilError *err)
{
	const DistilTokenizerClass *class;
	DistilClassSettings settings;
	char	   *text;
	size_t		length;

	DISTIL_FORWARD(read_vocabulary(draft, folder, err));
	DISTIL_FORWARD(distil_draft_class(draft, folder,
									  distil_draft_id(draft, "<|endoftext|>", 13) >= 0 ? "gpt2" : "roberta",
									  &class, err));
	if (class->kind != DISTIL_CLASS_BYTES)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "file \"vocab.json\" with a tokenizer of class %s is not supported", class->name);
	DISTIL_FORWARD(read_config(draft, &settings, class, folder, err));
	DISTIL_FORWARD(read_file(draft, folder, "merges.txt", &text, &length, err));
	DISTIL_FORWARD(read_merge_lines(draft, text, length, err));
	draft->no_unk = true;
	draft->header.model = DISTIL_MODEL_BPE;
	if (draft->unk == NULL)
		draft->unk = distil_class_unk(class);
	DISTIL_FORWARD(distil_draft_apply_added(draft, folder, class, err));
	distil_template_none(draft);
	return distil_draft_class_parts(draft, class, &settings, err);
}

/* ---------- protocol buffers ---------- */

typedef struct Field
{
	uint32_t	number;
	uint32_t	wire;			/* 0 number, 1 eight bytes, 2 bytes, 5 four bytes */
	uint64_t	value;
	const uint8_t *data;
	size_t		length;
} Field;

static bool
read_varint(const uint8_t **p, const uint8_t *end, uint64_t *value)
{
	*value = 0;
	for (int shift = 0; shift < 64; shift += 7)
	{
		uint8_t		byte;

		if (*p == end)
			return false;
		byte = *(*p)++;
		*value |= (uint64_t) (byte & 0x7F) << shift;
		if (byte < 0x80)
			return true;
	}
	return false;
}

/* Next field of a message; *ok false: not valid; false is returned at the end. */
static bool
next_field(const uint8_t **p, const uint8_t *end, Field *field, bool *ok)
{
	uint64_t	tag;
	uint64_t	length = 0;

	*ok = true;
	if (*p == end)
		return false;
	*ok = read_varint(p, end, &tag) && tag >> 3 <= UINT32_MAX;
	if (!*ok)
		return false;
	field->number = (uint32_t) (tag >> 3);
	field->wire = tag & 7;
	field->value = 0;
	if (field->wire == 0)
		return *ok = read_varint(p, end, &field->value);
	if (field->wire == 1)
		length = 8;
	else if (field->wire == 5)
		length = 4;
	else if (field->wire != 2 || !read_varint(p, end, &length))
		return *ok = false;
	if (length > (uint64_t) (end - *p))
		return *ok = false;
	field->data = *p;
	field->length = (size_t) length;
	*p += length;
	return true;
}

typedef struct Piece
{
	const char *text;
	size_t		length;
	float		score;
	uint64_t	type;			/* 1 normal, 2 unknown, 3 control, 4 of the user, 5 unused, 6 byte */
} Piece;

typedef struct Model
{
	Piece	   *pieces;
	size_t		n;
	uint64_t	kind;			/* 1 unigram, 2 BPE */
	uint64_t	unk_id;
	const uint8_t *charsmap;
	size_t		ncharsmap;
} Model;

static bool
read_piece(Piece *piece, const uint8_t *p, size_t length)
{
	const uint8_t *end = p + length;
	Field		field;
	bool		ok;

	*piece = (Piece) {.text = "", .type = 1};
	while (next_field(&p, end, &field, &ok))
	{
		if (field.number == 1 && field.wire == 2)
		{
			piece->text = (const char *) field.data;
			piece->length = field.length;
		}
		else if (field.number == 2 && field.wire == 5)
			memcpy(&piece->score, field.data, 4);
		else if (field.number == 3 && field.wire == 0)
			piece->type = field.value;
	}
	return ok && piece->length <= DISTIL_MAX_TOKEN_BYTES && isfinite(piece->score) &&
		distil_utf8_valid(piece->text, piece->length);
}

static bool
read_spec(Model *model, uint32_t number, const uint8_t *p, size_t length)
{
	const uint8_t *end = p + length;
	Field		field;
	bool		ok;

	while (next_field(&p, end, &field, &ok))
	{
		if (number == 2 && field.number == 3 && field.wire == 0)
			model->kind = field.value;
		else if (number == 2 && field.number == 40 && field.wire == 0)
			model->unk_id = field.value;
		else if (number == 3 && field.number == 2 && field.wire == 2)
		{
			model->charsmap = field.data;
			model->ncharsmap = field.length;
		}
	}
	return ok;
}

static DistilStatus
read_model(DistilDraft *draft, Model *model, const char *name, const uint8_t *data, size_t length,
		   DistilError *err)
{
	const uint8_t *p = data;
	const uint8_t *end = data + length;
	Field		field;
	bool		ok;
	size_t		n = 0;

	while (next_field(&p, end, &field, &ok))
		n += field.number == 1 && field.wire == 2;
	if (!ok)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "file \"%s\" is not a SentencePiece model", name);
	if (n > DISTIL_MAX_VOCABULARY - 16)
		return distil_fail(err, DISTIL_ERR_LIMIT, "vocabulary of %zu pieces is too large, the limit "
						   "is %d", n, DISTIL_MAX_VOCABULARY - 16);
	*model = (Model) {.kind = 1};
	model->pieces = distil_arena_alloc(draft->arena, n + 1, sizeof(*model->pieces));
	if (model->pieces == NULL)
		return distil_fail_memory(err, (n + 1) * sizeof(*model->pieces));
	p = data;
	while (next_field(&p, end, &field, &ok))
	{
		if (field.wire != 2)
			continue;
		if (field.number == 1 && !read_piece(&model->pieces[model->n++], field.data, field.length))
			return distil_fail(err, DISTIL_ERR_TEXT_FILE, "piece %zu of file \"%s\" is not valid",
							   model->n - 1,
							   name);
		if ((field.number == 2 || field.number == 3) &&
			!read_spec(model, field.number, field.data, field.length))
			return distil_fail(err, DISTIL_ERR_TEXT_FILE, "settings of file \"%s\" are not valid", name);
	}
	if (model->kind != 1)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED, "model of kind %s in file \"%s\" is not supported",
						   model->kind == 2 ? "BPE" : model->kind == 3 ? "word" : model->kind == 4 ? "char"
						   : "unknown to us", name);
	return DISTIL_OK;
}

/* ---------- classes over SentencePiece ---------- */

static void
put_piece(DistilDraft *draft, double *scores, const char *text, size_t length, double score)
{
	DistilDraftToken *token = &draft->tokens[draft->ntokens];

	token->text = text;
	token->length = (uint32_t) length;
	token->id = (int32_t) draft->ntokens;
	scores[draft->ntokens++] = score;
}

/* Tokens in front, pieces from `skip` on, <mask> behind. */
static DistilStatus
put_pieces(DistilDraft *draft, const Model *model, const char *const *front, int nfront, size_t skip,
		   const char *mask, DistilError *err)
{
	double	   *scores = distil_arena_alloc(draft->arena, model->n + 16, sizeof(*scores));

	draft->tokens = distil_arena_alloc(draft->arena, model->n + 16, sizeof(*draft->tokens));
	if (scores == NULL || draft->tokens == NULL)
		return distil_fail_memory(err, (model->n + 16) * sizeof(*draft->tokens));
	for (int i = 0; i < nfront; i++)
		put_piece(draft, scores, front[i], strlen(front[i]), strcmp(front[i], "<unk>NOTUSED") == 0 ? -100.0
				  : 0.0);
	for (size_t i = skip; i < model->n; i++)
		put_piece(draft, scores, model->pieces[i].text, model->pieces[i].length, model->pieces[i].score);
	if (mask != NULL)
		put_piece(draft, scores, mask, strlen(mask), 0.0);
	draft->scores = scores;
	return DISTIL_OK;
}

/* Control pieces are special tokens; those of the user are found in texts, too. */
static DistilStatus
list_pieces(DistilDraft *draft, const Model *model, DistilError *err)
{
	DistilDraftAdded *listed = distil_arena_alloc(draft->arena, MAX_CONTROL, sizeof(*listed));
	size_t		n = 0;

	if (listed == NULL)
		return distil_fail_memory(err, MAX_CONTROL * sizeof(*listed));
	draft->listed = listed;
	for (size_t i = 0; i < model->n; i++)
	{
		const Piece *piece = &model->pieces[i];
		const char *text;

		if ((piece->type != 3 && piece->type != 4) || piece->length == 0)
			continue;
		if (n == MAX_CONTROL)
			return distil_fail(err, DISTIL_ERR_LIMIT, "more than %d control pieces are not supported",
							   MAX_CONTROL);
		text = distil_arena_string(draft->arena, piece->text, piece->length);
		if (text == NULL)
			return distil_fail_memory(err, piece->length);
		if (piece->length > DISTIL_MAX_TOKEN_BYTES)
			return distil_fail(err, DISTIL_ERR_LIMIT, "control piece of %zu bytes is too long, the limit "
							   "is %d", piece->length, DISTIL_MAX_TOKEN_BYTES);
		listed[n++] = (DistilDraftAdded) {
			.text = text, .length = (uint32_t) piece->length,
			.flags = piece->type == 3 ? DISTIL_ADDED_SPECIAL : 0, .id = -1
		};
	}
	draft->nlisted = n;
	return DISTIL_OK;
}

static DistilStatus
put_vocabulary(DistilDraft *draft, const Model *model, const DistilTokenizerClass *class, DistilError *err)
{
	const char *unk = draft->unk != NULL ? draft->unk : "<unk>";
	const char *names[6];
	const char *xlm[4];
	const char *camembert[5];

	for (int i = 0; i < 6; i++)
		names[i] = draft->names[i] != NULL ? draft->names[i] : class->names[i];
	if (class->own_ids && (unk[0] == '\0' || names[2][0] == '\0' || names[3][0] == '\0' ||
						   names[4][0] == '\0' || names[5][0] == '\0'))
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "bos_token, eos_token, unk_token, pad_token and mask_token null are not supported"
						   " without tokenizer.json");
	xlm[0] = names[4];
	xlm[1] = camembert[1] = names[2];
	xlm[2] = names[5];
	xlm[3] = camembert[3] = unk;
	camembert[0] = "<s>NOTUSED";
	camembert[2] = "</s>NOTUSED";
	camembert[4] = "<unk>NOTUSED";
	if (class->own_ids)
	{
		draft->unk_id = 3;
		if (class->mask_strips)
			return put_pieces(draft, model, camembert, 5, 1, names[3], err);
		return put_pieces(draft, model, xlm, 4, 3, names[3], err);
	}
	draft->unk_id = class->template == DISTIL_TEMPLATE_BERT ? 1 : (int64_t) (model->unk_id & INT32_MAX);
	return put_pieces(draft, model, NULL, 0, 0, NULL, err);
}

DistilStatus
distil_draft_read_pieces(DistilDraft *draft, const DistilFolder *folder, DistilError *err)
{
	const char *file = distil_pieces_file(folder);
	const DistilTokenizerClass *class;
	DistilClassSettings settings;
	Model		model = {0};
	char	   *data;
	size_t		length;

	DISTIL_FORWARD(distil_draft_class(draft, folder,
									  strcmp(file, "sentencepiece.bpe.model") == 0 ? "xlm-roberta" : NULL,
									  &class, err));
	if (class == NULL || class->kind != DISTIL_CLASS_PIECES)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "file \"%s\" without tokenizer_class or model_type of ALBERT, XLNet, XLM-R or"
						   " CamemBERT is not supported", file);
	DISTIL_FORWARD(read_config(draft, &settings, class, folder, err));
	DISTIL_FORWARD(read_file(draft, folder, file, &data, &length, err));
	DISTIL_FORWARD(read_model(draft, &model, file, (const uint8_t *) data, length, err));
	DISTIL_FORWARD(put_vocabulary(draft, &model, class, err));
	if (model.ncharsmap > 0)
		DISTIL_FORWARD(distil_draft_charsmap(draft, model.charsmap, model.ncharsmap, err));
	draft->no_unk = true;
	draft->header.model = DISTIL_MODEL_UNIGRAM;
	if (draft->unk == NULL)
		draft->unk = "<unk>";
	DISTIL_FORWARD(list_pieces(draft, &model, err));
	DISTIL_FORWARD(distil_draft_apply_added(draft, folder, class, err));
	return distil_draft_class_parts(draft, class, &settings, err);
}
