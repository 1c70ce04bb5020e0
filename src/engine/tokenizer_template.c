/*
 * tokenizer_template.c
 *		Post-processors TemplateProcessing and BertProcessing: which special tokens go round a text.
 *
 * Every post-processor becomes two lists of pieces, for one text and for a pair.  A
 * list holds each of its texts exactly once.
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <string.h>

static DistilStatus
add_piece(DistilBlobPiece *pieces, int *n, uint32_t what, int32_t id, int32_t type, int32_t plain_type,
		  DistilError *err)
{
	if (*n == DISTIL_MAX_PIECES)
		return distil_fail(err, DISTIL_ERR_LIMIT, "template of the post_processor has more than %d pieces",
						   DISTIL_MAX_PIECES);
	pieces[*n].what = what;
	pieces[*n].id = id;
	pieces[*n].type = type;
	pieces[*n].plain_type = plain_type;
	(*n)++;
	return DISTIL_OK;
}

/* ids of special token `name` in the template's own table */
static DistilStatus
special_pieces(const DistilJson *table, const char *name, int32_t type,
			   DistilBlobPiece *pieces, int *n, DistilError *err)
{
	const DistilJson *entry = NULL;
	const DistilJson *ids;
	char		printable[64];

	if (table != NULL && distil_json_type(table) == DISTIL_JSON_OBJECT)
		entry = distil_json_member(table, name);
	ids = entry != NULL && distil_json_type(entry) == DISTIL_JSON_OBJECT ? distil_json_member(entry, "ids")
		: NULL;
	distil_printable(printable, sizeof(printable), name, strlen(name));
	if (ids == NULL || distil_json_type(ids) != DISTIL_JSON_ARRAY)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "post_processor has no ids for special token \"%s\"",
						   printable);
	for (size_t i = 0; i < distil_json_count(ids); i++)
	{
		const DistilJson *item = distil_json_item(ids, i);

		if (distil_json_type(item) != DISTIL_JSON_INTEGER || distil_json_integer(item) < 0 ||
			distil_json_integer(item) >= DISTIL_MAX_VOCABULARY)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE,
							   "post_processor has a bad id for special token \"%s\"", printable);
		DISTIL_FORWARD(add_piece(pieces, n, DISTIL_PIECE_SPECIAL, (int32_t) distil_json_integer(item), type,
								 type, err));
	}
	return DISTIL_OK;
}

static DistilStatus
template_item(DistilDraft *draft, const DistilJson *item, const DistilJson *table,
			  DistilBlobPiece *pieces, int *n, DistilError *err)
{
	const DistilJson *special = NULL;
	const DistilJson *sequence = NULL;
	const DistilJson *inner;
	const char *id;
	int64_t		type;

	if (distil_json_type(item) == DISTIL_JSON_OBJECT && distil_json_count(item) == 1)
	{
		special = distil_json_member(item, "SpecialToken");
		sequence = distil_json_member(item, "Sequence");
	}
	inner = special != NULL ? special : sequence;
	if (inner == NULL || distil_json_type(inner) != DISTIL_JSON_OBJECT)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE,
						   "template of the post_processor has a piece that is neither text nor special "
						   "token");
	DISTIL_FORWARD(distil_json_get_string(draft->doc, inner, "id", "", &id, err));
	DISTIL_FORWARD(distil_json_get_int(draft->doc, inner, "type_id", 0, 0, INT32_MAX, &type, err));
	if (special != NULL)
		return special_pieces(table, id, (int32_t) type, pieces, n, err);
	if (strcmp(id, "A") != 0 && strcmp(id, "B") != 0)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE,
						   "template of the post_processor has a sequence that is neither A nor B");
	return add_piece(pieces, n, id[0] == 'A' ? DISTIL_PIECE_FIRST : DISTIL_PIECE_SECOND, -1,
					 (int32_t) type, (int32_t) type, err);
}

static DistilStatus
template_list(DistilDraft *draft, const DistilJson *value, const char *key, int nsequences,
			  DistilBlobPiece *pieces, int *n, DistilError *err)
{
	const DistilJson *list = distil_json_member(value, key);
	int			counts[3] = {0, 0, 0};

	*n = 0;
	if (list == NULL || distil_json_type(list) != DISTIL_JSON_ARRAY)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "post_processor TemplateProcessing without a list \"%s\" is not supported", key);
	for (size_t i = 0; i < distil_json_count(list); i++)
		DISTIL_FORWARD(template_item(draft, distil_json_item(list, i), distil_json_member(value,
																						  "special_tokens"),
									 pieces, n, err));
	for (int i = 0; i < *n; i++)
		counts[pieces[i].what]++;
	if (counts[DISTIL_PIECE_FIRST] != 1 || counts[DISTIL_PIECE_SECOND] != nsequences - 1)
		return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
						   "post_processor TemplateProcessing whose \"%s\" does not hold each text once"
						   " is not supported", key);
	return DISTIL_OK;
}

static DistilStatus
parse_template(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", "single", "pair", "special_tokens", NULL};

	DISTIL_FORWARD(distil_draft_known(value, known, "post_processor TemplateProcessing", err));
	DISTIL_FORWARD(template_list(draft, value, "single", 1, draft->single, &draft->nsingle, err));
	return template_list(draft, value, "pair", 2, draft->pair, &draft->npair, err);
}

void
distil_template_none(DistilDraft *draft)
{
	static const DistilBlobPiece pieces[2] = {{DISTIL_PIECE_FIRST, -1, 0, 0}, {DISTIL_PIECE_SECOND, -1, 1,
																			   1}};

	memcpy(draft->single, pieces, sizeof(pieces[0]));
	draft->nsingle = 1;
	memcpy(draft->pair, pieces, sizeof(pieces));
	draft->npair = 2;
}

void
distil_template_bert(DistilDraft *draft, int32_t cls, int32_t sep)
{
	const DistilBlobPiece pieces[5] = {
		{DISTIL_PIECE_SPECIAL, cls, 0, 0}, {DISTIL_PIECE_FIRST, -1, 0, 0}, {DISTIL_PIECE_SPECIAL, sep, 0, 0},
		{DISTIL_PIECE_SECOND, -1, 1, 1}, {DISTIL_PIECE_SPECIAL, sep, 1, 1}
	};

	memcpy(draft->single, pieces, 3 * sizeof(pieces[0]));
	draft->nsingle = 3;
	memcpy(draft->pair, pieces, 5 * sizeof(pieces[0]));
	draft->npair = 5;
}

void
distil_template_roberta(DistilDraft *draft, int32_t cls, int32_t sep)
{
	const DistilBlobPiece pieces[6] = {
		{DISTIL_PIECE_SPECIAL, cls, 0, 0}, {DISTIL_PIECE_FIRST, -1, 0, 0}, {DISTIL_PIECE_SPECIAL, sep, 0, 0},
		{DISTIL_PIECE_SPECIAL, sep, 0, 0}, {DISTIL_PIECE_SECOND, -1, 0, 0}, {DISTIL_PIECE_SPECIAL, sep, 0, 0}
	};

	memcpy(draft->single, pieces, 3 * sizeof(pieces[0]));
	draft->nsingle = 3;
	memcpy(draft->pair, pieces, sizeof(pieces));
	draft->npair = 6;
}

void
distil_template_xlnet(DistilDraft *draft, int32_t cls, int32_t sep)
{
	const DistilBlobPiece pieces[5] = {
		{DISTIL_PIECE_FIRST, -1, 0, 0}, {DISTIL_PIECE_SPECIAL, sep, 0, 0}, {DISTIL_PIECE_SECOND, -1, 1, 1},
		{DISTIL_PIECE_SPECIAL, sep, 1, 1}, {DISTIL_PIECE_SPECIAL, cls, 2, 2}
	};

	memcpy(draft->single, pieces, 2 * sizeof(pieces[0]));
	draft->single[2] = pieces[4];
	draft->nsingle = 3;
	memcpy(draft->pair, pieces, sizeof(pieces));
	draft->npair = 5;
}

void
distil_template_untyped(DistilDraft *draft)
{
	for (int i = 0; i < draft->nsingle; i++)
		draft->single[i].type = draft->single[i].plain_type = 0;
	for (int i = 0; i < draft->npair; i++)
		draft->pair[i].type = draft->pair[i].plain_type = 0;
}

/* "sep": ["[SEP]", 102] */
static DistilStatus
token_pair(const DistilJson *value, const char *key, int32_t *id, DistilError *err)
{
	const DistilJson *pair = distil_json_member(value, key);
	const DistilJson *number = pair != NULL && distil_json_type(pair) == DISTIL_JSON_ARRAY &&
		distil_json_count(pair) == 2 ? distil_json_item(pair, 1) : NULL;

	if (number == NULL || distil_json_type(number) != DISTIL_JSON_INTEGER ||
		distil_json_integer(number) < 0 ||
		distil_json_integer(number) >= DISTIL_MAX_VOCABULARY)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE,
						   "post_processor has no pair of token and id \"%s\"", key);
	*id = (int32_t) distil_json_integer(number);
	return DISTIL_OK;
}

static DistilStatus
parse_bert(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", "sep", "cls", NULL};
	int32_t		cls;
	int32_t		sep;

	DISTIL_FORWARD(distil_draft_known(value, known, "post_processor BertProcessing", err));
	DISTIL_FORWARD(token_pair(value, "cls", &cls, err));
	DISTIL_FORWARD(token_pair(value, "sep", &sep, err));
	distil_template_bert(draft, cls, sep);
	return DISTIL_OK;
}

static DistilStatus
parse_roberta(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", "sep", "cls", "trim_offsets", "add_prefix_space", NULL};
	int32_t		cls;
	int32_t		sep;
	bool		trim;
	bool		prefix;

	DISTIL_FORWARD(distil_draft_known(value, known, "post_processor RobertaProcessing", err));
	DISTIL_FORWARD(token_pair(value, "cls", &cls, err));
	DISTIL_FORWARD(token_pair(value, "sep", &sep, err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "trim_offsets", true, &trim, err));
	DISTIL_FORWARD(distil_json_get_bool(draft->doc, value, "add_prefix_space", true, &prefix, err));
	draft->header.flags |= (trim ? DISTIL_BLOB_TRIM : 0u) | (prefix ? DISTIL_BLOB_TRIM_PREFIX : 0u);
	distil_template_roberta(draft, cls, sep);
	return DISTIL_OK;
}

/* ByteLevel and one other: what more of them would do together is not defined here. */
static DistilStatus
parse_sequence(DistilDraft *draft, const DistilJson *value, DistilError *err)
{
	static const char *const known[] = {"type", "processors", NULL};
	const DistilJson *list = distil_json_member(value, "processors");
	int			templates = 0;
	char		printable[64];

	DISTIL_FORWARD(distil_draft_known(value, known, "post_processor Sequence", err));
	if (list == NULL || distil_json_type(list) != DISTIL_JSON_ARRAY)
		return distil_fail(err, DISTIL_ERR_TEXT_FILE, "post_processor Sequence has no list \"processors\"");
	for (size_t i = 0; i < distil_json_count(list); i++)
	{
		const DistilJson *item = distil_json_item(list, i);
		const char *type;
		const DistilPostPart *part;

		if (distil_json_type(item) != DISTIL_JSON_OBJECT)
			return distil_fail(err, DISTIL_ERR_TEXT_FILE, "post_processor Sequence holds no object");
		DISTIL_FORWARD(distil_json_get_string(draft->doc, item, "type", "", &type, err));
		part = distil_post_find(type);
		templates += part != &distil_post_bytes;
		if (part == NULL || part == &distil_post_sequence || templates > 1 || distil_json_count(list) > 2)
			return distil_fail(err, DISTIL_ERR_UNSUPPORTED,
							   "post_processor Sequence with \"%s\" is not supported",
							   distil_printable(printable, sizeof(printable), type, strlen(type)));
		DISTIL_FORWARD(part->parse(draft, item, err));
	}
	return DISTIL_OK;
}

const DistilPostPart distil_post_roberta = {"RobertaProcessing", parse_roberta};
const DistilPostPart distil_post_sequence = {"Sequence", parse_sequence};
const DistilPostPart distil_post_template = {"TemplateProcessing", parse_template};
const DistilPostPart distil_post_bert = {"BertProcessing", parse_bert};
