/*
 * corpus.c
 *		The texts a job learns from: a relation or a SELECT, read as the current user.
 *
 * The rule a newcomer would break: nothing here may run as anyone but the current user,
 * who must be the caller of distil_train; policies, view rights and functions inside of
 * the query are then checked by the executor like those of any query of that role.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "parser/scansup.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

#include "bridge.h"
#include "compat.h"
#include "corpus.h"

#define ROWS_PER_FETCH 1000

/* ---------- what the argument is ---------- */

/* First letter of the statement behind blanks, comments and parentheses. */
static const char *
skip_to_word(const char *p)
{
	for (;;)
	{
		if (scanner_isspace(*p) || *p == '(')
			p++;
		else if (p[0] == '-' && p[1] == '-')
			p += strcspn(p, "\r\n");
		else if (p[0] == '/' && p[1] == '*')
		{
			int			depth = 0;

			do
			{
				if (p[0] == '/' && p[1] == '*')
				{
					depth++;
					p += 2;
				}
				else if (p[0] == '*' && p[1] == '/')
				{
					depth--;
					p += 2;
				}
				else if (*p != '\0')
					p++;
			} while (depth > 0 && *p != '\0');
		}
		else
			return p;
	}
}

static bool
is_query(const char *text)
{
	static const char *const words[] = {"select", "with", "values", "table"};
	const char *word = skip_to_word(text);
	size_t		i;

	for (i = 0; i < lengthof(words); i++)
	{
		size_t		length = strlen(words[i]);

		if (pg_strncasecmp(word, words[i], length) == 0 &&
			(scanner_isspace(word[length]) || strchr("(*'\"$-+/", word[length]) != NULL) &&
			word[length] != '\0')
			return true;
	}
	return false;
}

static bool
is_text_like(Oid type)
{
	Oid			base = getBaseType(type);

	return base == NAMEOID || base == BPCHAROID || IsBinaryCoercible(base, TEXTOID);
}

static void
refuse_temporary(Oid relation)
{
	if (get_rel_persistence(relation) == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("temporary table \"%s\" cannot be a corpus", get_rel_name(relation)),
				 errdetail("The job runs in another process, which cannot read it."),
				 errhint("Use a table, if need be an unlogged one.")));
}

/* ---------- which column ---------- */

/*
 * Index of the text column among the columns of `desc`: the named one, or the only one
 * of a text type.
 */
static int
choose_column(TupleDesc desc, const char *what, const char *column_name)
{
	StringInfoData names;
	int			ntext = 0;
	int			found = -1;
	int			i;

	initStringInfo(&names);
	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped)
			continue;
		if (column_name != NULL && strcmp(NameStr(att->attname), column_name) == 0)
		{
			if (!is_text_like(att->atttypid))
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("column \"%s\" of %s is of type %s, not text", column_name, what,
								format_type_be(att->atttypid)),
						 errhint("Give a SELECT with a cast to text as corpus.")));
			return i;
		}
		if (!is_text_like(att->atttypid))
			continue;
		appendStringInfo(&names, "%s%s", ntext == 0 ? "" : ", ", NameStr(att->attname));
		ntext++;
		found = i;
	}
	if (column_name != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has no column \"%s\"", what, distil_bridge_clip(column_name)),
				 ntext > 0 ? errdetail("Its text columns: %s.", distil_bridge_clip(names.data)) : 0));
	if (ntext == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has no text column", what)));
	if (ntext > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has several text columns: %s", what, distil_bridge_clip(names.data)),
				 errhint("Choose one with column_name => '...'.")));
	return found;
}

static void
refuse_corpus(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("corpus must be one SELECT or the name of a table or view")));
}

/* The parts of a relation's name; what is no name is another statement than a SELECT. */
static List *
relation_names(const char *text)
{
	List	   *parts;

	if (!SplitIdentifierString(pstrdup(text), '.', &parts) || parts == NIL)
		refuse_corpus();
	return textToQualifiedNameList(cstring_to_text(text));
}

/* The relation's SELECT; fills name and column. */
static char *
relation_query(DistilCorpus *corpus, const char *text, const char *column_name)
{
	List	   *names = relation_names(text);
	Oid			oid = RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, false);
	char		kind = get_rel_relkind(oid);
	Relation	relation;
	Form_pg_attribute att;
	char	   *query;

	if (kind != RELKIND_RELATION && kind != RELKIND_VIEW && kind != RELKIND_MATVIEW &&
		kind != RELKIND_FOREIGN_TABLE && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table or view", get_rel_name(oid))));
	refuse_temporary(oid);

	relation = relation_open(oid, AccessShareLock);
	corpus->name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
											  RelationGetRelationName(relation));
	att = TupleDescAttr(RelationGetDescr(relation),
						choose_column(RelationGetDescr(relation),
									  psprintf("relation \"%s\"", RelationGetRelationName(relation)),
									  column_name));
	corpus->column = pstrdup(NameStr(att->attname));
	query = psprintf("SELECT %s FROM %s", quote_identifier(corpus->column), corpus->name);
	relation_close(relation, NoLock);
	return query;
}

/* Exactly one statement that returns rows and changes nothing. */
static CachedPlanSource *
plan_source(SPIPlanPtr plan)
{
	List	   *sources = SPI_plan_get_plan_sources(plan);
	CachedPlanSource *source;
	ListCell   *cell;

	if (list_length(sources) != 1 || !SPI_is_cursor_plan(plan))
		refuse_corpus();
	source = linitial(sources);
	foreach(cell, source->query_list)
	{
		Query	   *query = lfirst_node(Query, cell);

		if (query->commandType != CMD_SELECT || query->hasModifyingCTE || query->rowMarks != NIL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a corpus query must only read")));
	}
	return source;
}

void
distil_corpus_open(DistilCorpus *corpus, const char *text, const char *column_name)
{
	bool		query = is_query(text);
	CachedPlanSource *source;
	ListCell   *cell;
	Portal		portal;
	const char *sql;

	memset(corpus, 0, sizeof(*corpus));
	if (*skip_to_word(text) == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("corpus is empty"),
				 errhint("Give the name of a table or view, or a SELECT.")));
	if (query)
		corpus->name = pstrdup(text);
	sql = query ? text : relation_query(corpus, text, column_name);
	corpus->plan = SPI_prepare(sql, 0, NULL);
	if (corpus->plan == NULL)
		refuse_corpus();
	source = plan_source(corpus->plan);
	foreach(cell, source->relationOids)
		refuse_temporary(lfirst_oid(cell));
	if (query)
	{
		int			i = choose_column(source->resultDesc, "the corpus query", column_name);

		corpus->attno = i + 1;
		corpus->column = pstrdup(NameStr(TupleDescAttr(source->resultDesc, i)->attname));
	}
	else
		corpus->attno = 1;
	corpus->type = getBaseType(TupleDescAttr(source->resultDesc, corpus->attno - 1)->atttypid);

	/* The executor's start checks every right that reading will need. */
	portal = SPI_cursor_open(NULL, corpus->plan, NULL, NULL, true);
	SPI_cursor_close(portal);
}

int64
distil_corpus_read(const DistilCorpus *corpus, int64 most, DistilCorpusFn fn, void *ctx)
{
	MemoryContext rows = AllocSetContextCreate(CurrentMemoryContext, "distil corpus rows",
											   ALLOCSET_DEFAULT_SIZES);
	Portal		portal = SPI_cursor_open(NULL, corpus->plan, NULL, NULL, true);
	int64		texts = 0;

	while (texts < most)
	{
		uint64		i;

		SPI_cursor_fetch(portal, true, (long) Min(ROWS_PER_FETCH, most - texts));
		if (SPI_processed == 0)
			break;
		for (i = 0; i < SPI_processed; i++)
		{
			MemoryContext old = MemoryContextSwitchTo(rows);
			bool		isnull;
			Datum		value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
											  corpus->attno, &isnull);

			if (!isnull)
			{
				if (corpus->type == NAMEOID)
					value = CStringGetTextDatum(NameStr(*DatumGetName(value)));
				fn(ctx, value);
				texts++;
			}
			MemoryContextSwitchTo(old);
			MemoryContextReset(rows);
			CHECK_FOR_INTERRUPTS();
		}
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_freetuptable(SPI_tuptable);
	SPI_cursor_close(portal);
	MemoryContextDelete(rows);
	return texts;
}
