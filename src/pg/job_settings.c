/*
 * job_settings.c
 *		Custom settings of the session that called distil_train, for its corpus.
 *
 * Policies, views and functions of a corpus may ask for them: current_setting('app.tenant', true).  A worker
 * has none of them, so it would read other rows than the caller.  The rule a newcomer would break: a setting
 * the caller did not have must not have a value either, and to have an empty one is not to have none.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"

#include "compat.h"
#include "job.h"

/* A setting that no extension has defined. */
static bool
is_custom(const struct config_generic *setting)
{
	return (setting->flags & GUC_CUSTOM_PLACEHOLDER) != 0;
}

ArrayType *
distil_job_settings_take(void)
{
	int			n;
	struct config_generic **settings = distil_compat_settings(&n);
	Datum	   *items = palloc(Max(1, n) * 2 * sizeof(Datum));
	int			used = 0;
	int			i;

	for (i = 0; i < n; i++)
	{
		const char *value;

		if (!is_custom(settings[i]))
			continue;
		value = GetConfigOption(settings[i]->name, true, false);
		items[used++] = CStringGetTextDatum(settings[i]->name);
		items[used++] = CStringGetTextDatum(value != NULL ? value : "");
	}
	return construct_array(items, used, TEXTOID, -1, false, TYPALIGN_INT);
}

/* Until the end of the nest level.  What this process does not take is logged. */
static void
apply(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, LOG, false);
}

void
distil_job_settings_apply(ArrayType *taken)
{
	int			n;
	struct config_generic **settings = distil_compat_settings(&n);
	List	   *names = NIL;
	ListCell   *cell;
	Datum	   *items;
	bool	   *nulls;
	int			i;

	/* Settings move in memory when one is added. */
	for (i = 0; i < n; i++)
	{
		const char *value = is_custom(settings[i]) ? GetConfigOption(settings[i]->name, true, false) : NULL;

		if (value != NULL && value[0] != '\0')
			names = lappend(names, pstrdup(settings[i]->name));
	}
	foreach(cell, names)
		apply(lfirst(cell), "");
	if (taken == NULL)
		return;
	deconstruct_array(taken, TEXTOID, -1, false, TYPALIGN_INT, &items, &nulls, &n);
	for (i = 0; i + 1 < n; i += 2)
		if (!nulls[i] && !nulls[i + 1])
			apply(TextDatumGetCString(items[i]), TextDatumGetCString(items[i + 1]));
}
