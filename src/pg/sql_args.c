/*
 * sql_args.c
 *		Decoding of SQL arguments.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "bridge.h"
#include "job.h"
#include "model_store.h"
#include "sql_args.h"

void
distil_args_require(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
}

char *
distil_args_string(FunctionCallInfo fcinfo, int arg, const char *name)
{
	distil_args_require(fcinfo, arg, name);
	return text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

char *
distil_args_optional(FunctionCallInfo fcinfo, int arg)
{
	if (arg >= PG_NARGS() || PG_ARGISNULL(arg))
		return NULL;
	return text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

int
distil_args_int(FunctionCallInfo fcinfo, int arg, const char *name, int least)
{
	int			value;

	distil_args_require(fcinfo, arg, name);
	value = PG_GETARG_INT32(arg);
	if (value < least)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be at least %d, not %d", name, least, value)));
	return value;
}

char *
distil_args_new_model(FunctionCallInfo fcinfo, int arg, const char *argument, const char *command)
{
	char	   *name = distil_args_string(fcinfo, arg, argument);
	int64		job;

	distil_store_check_name(name);
	PreventCommandIfReadOnly(command);
	PreventCommandIfParallelMode(command);
	distil_job_name_lock(name);
	distil_store_check_free(name);
	/* Otherwise hours of training would end with a name that is taken. */
	job = distil_job_for_student(name, 0);
	if (job != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("job " INT64_FORMAT " is making a model \"%s\"", job, name),
				 errhint("Choose another name.")));
	return name;
}

void
distil_args_check_file_name(const char *name)
{
	const char *part = name;
	bool		good = name[0] != '\0' && strlen(name) <= DISTIL_MAX_NAME && strchr(name, '\\') == NULL;

	while (good)
	{
		size_t		length = strcspn(part, "/");
		size_t		i;

		good = length > 0 && !(length == 1 && part[0] == '.') &&
			!(length == 2 && part[0] == '.' && part[1] == '.');
		for (i = 0; i < length; i++)
			good = good && (unsigned char) part[i] >= 0x20 && part[i] != 0x7f;
		if (part[length] == '\0')
			break;
		part += length + 1;
	}
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not the name of a file inside a model folder", distil_bridge_clip(name)),
				 errhint("Use relative names such as \"config.json\" or \"1_Pooling/config.json\".")));
}

/* ---------- heads ---------- */

/* Full names of heads; a model without one comes as "model/".  $1 is a text. */
#define HEADS_NAMED \
	"SELECT pg_catalog.concat(h.model, '/', h.name) FROM distil.head h " \
	"WHERE h.name OPERATOR(pg_catalog.=) $1 ORDER BY 1"
#define HEADS_OF_MODEL \
	"SELECT pg_catalog.concat(m.name, '/', h.name) FROM distil.model m " \
	"LEFT JOIN distil.head h ON h.model OPERATOR(pg_catalog.=) m.name " \
	"WHERE m.name OPERATOR(pg_catalog.=) $1 ORDER BY 1"
#define ALL_HEADS "SELECT pg_catalog.concat(h.model, '/', h.name) FROM distil.head h ORDER BY 1"

const char *
distil_args_head_name(const char *head)
{
	const char *slash = strrchr(head, '/');

	return slash != NULL ? slash + 1 : head;
}

/*
 * Names of heads for a hint: those that `sql` gives with name as $1, at most ten and "...".  *n counts them,
 * with the eleventh.
 */
static char *
head_list(const char *sql, const char *name, uint64 *n)
{
	MemoryContext context = CurrentMemoryContext;
	StringInfoData list;
	Oid			types[1] = {TEXTOID};
	Datum		values[1];
	uint64		i;

	initStringInfo(&list);
	values[0] = CStringGetTextDatum(name);
	SPI_connect();
	if (SPI_execute_with_args(sql, 1, types, values, NULL, true, 11) < 0)
		elog(ERROR, "could not read the catalog of heads");
	*n = SPI_processed;
	for (i = 0; i < SPI_processed; i++)
	{
		char	   *full = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		MemoryContext old = MemoryContextSwitchTo(context);

		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", i == 10 ? "..." : full);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return list.data;
}

/* 42704 for a name that no head has: the heads of the model of that name, or those there are. */
pg_noreturn static void
refuse_head(const char *head)
{
	uint64		n;
	char	   *list = head_list(HEADS_OF_MODEL, head, &n);
	char	   *hint;

	if (n == 0)
	{
		list = head_list(ALL_HEADS, head, &n);
		hint = n > 0 ? psprintf("Known heads: %s.", list) : pstrdup("No model in this database has a head.");
	}
	else if (list[strlen(list) - 1] == '/')
		hint = psprintf("Model \"%s\" has no head.", head);
	else
		hint = psprintf("\"%s\" is a model.  Heads of this model: %s.", head, list);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("head \"%s\" does not exist", distil_bridge_clip(head)),
			 errhint("%s", hint)));
}

char *
distil_args_head_model(const char *head)
{
	const char *slash = strrchr(head, '/');
	uint64		n;
	char	   *list;

	if (slash != NULL)
		return pnstrdup(head, slash - head);
	list = head_list(HEADS_NAMED, head, &n);
	if (n == 1)
		return pnstrdup(list, strrchr(list, '/') - list);
	if (n > 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("head \"%s\" is not unique", head),
				 errhint("Use one of the full names: %s.", list)));
	refuse_head(head);
}
