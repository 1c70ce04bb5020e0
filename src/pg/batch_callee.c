/*
 * batch_callee.c
 *		Which SQL functions DistilBatch may run many rows at once.
 *
 * A function is ours when its support function is distil_support of this very library
 * and the table of batch_call.c knows its C symbol.  A function that someone altered to
 * SECURITY DEFINER or gave settings is left to the ordinary executor, which honours them.
 *
 * The answers are kept per function until pg_proc changes.  Looking one up reads
 * catalogs, which may bring an invalidation: hence the flag, never a delete in the callback.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "batch_plan.h"

PG_FUNCTION_INFO_V1(distil_support);

static HTAB *callees = NULL;
static bool callees_stale = false;
static Oid	support_function = InvalidOid;	/* of the last function found to be ours */

/*
 * Planner support function of the batchable functions.  It answers no request: calling
 * it makes the planner load this library while it plans the first statement of a session.
 */
Datum
distil_support(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(NULL);
}

static void
forget_callees(Datum arg, int cacheid, uint32 hashvalue)
{
	callees_stale = true;
}

/* An empty table; the callback is registered once per process, in the process that plans. */
static void
prepare_callees(void)
{
	HASHCTL		ctl = {0};

	if (callees != NULL && !callees_stale)
		return;
	if (callees == NULL)
		CacheRegisterSyscacheCallback(PROCOID, forget_callees, (Datum) 0);
	else
		hash_destroy(callees);
	callees = NULL;
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(DistilBatchCallee);
	ctl.hcxt = CacheMemoryContext;
	callees = hash_create("distil batch functions", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	callees_stale = false;
}

/* prosrc or probin of a pg_proc row, NULL if it has none; palloc'd */
static char *
proc_text(HeapTuple tuple, AttrNumber attribute)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(PROCOID, tuple, attribute, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/* Whether funcid is distil_support of this library, loaded from the same file name as probin says. */
static bool
is_our_support(Oid funcid, const char *probin)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	char	   *source;
	char	   *library;
	bool		ours;

	if (!HeapTupleIsValid(tuple))
		return false;
	source = proc_text(tuple, Anum_pg_proc_prosrc);
	library = proc_text(tuple, Anum_pg_proc_probin);
	ours = ((Form_pg_proc) GETSTRUCT(tuple))->prolang == ClanguageId &&
		source != NULL && strcmp(source, "distil_support") == 0 &&
		library != NULL && probin != NULL && strcmp(library, probin) == 0;
	ReleaseSysCache(tuple);

	if (ours)
	{
		FmgrInfo	support;

		fmgr_info(funcid, &support);
		ours = support.fn_addr == distil_support;
	}
	return ours;
}

/* Fill callee from pg_proc; callee->function stays NULL when the function is none of ours. */
static void
read_callee(DistilBatchCallee *callee, Oid funcid)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	const DistilBatchFunction *function = NULL;
	Form_pg_proc form;
	Oid			support;
	char	   *source;
	char	   *library;

	memset(callee, 0, sizeof(*callee));
	callee->funcid = funcid;
	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	support = form->prosupport;
	callee->strict = form->proisstrict;
	callee->is_volatile = form->provolatile == PROVOLATILE_VOLATILE;
	if (OidIsValid(support) && form->prolang == ClanguageId && form->prokind == PROKIND_FUNCTION &&
		!form->proretset && !form->prosecdef && form->pronargs <= DISTIL_BATCH_MAX_ARGS &&
		heap_attisnull(tuple, Anum_pg_proc_proconfig, NULL) && !FmgrHookIsNeeded(funcid))
	{
		source = proc_text(tuple, Anum_pg_proc_prosrc);
		library = proc_text(tuple, Anum_pg_proc_probin);
		if (source != NULL)
			function = distil_batch_function(source);
		if (function != NULL && !is_our_support(support, library))
			function = NULL;
		if (function != NULL)
			support_function = support;
	}
	ReleaseSysCache(tuple);
	callee->function = function;
}

bool
distil_batch_callee(Oid funcid, DistilBatchCallee *callee)
{
	DistilBatchCallee *entry;

	if (funcid < FirstNormalObjectId)
		return false;
	prepare_callees();
	entry = hash_search(callees, &funcid, HASH_FIND, NULL);
	if (entry != NULL)
		*callee = *entry;
	else
	{
		read_callee(callee, funcid);
		entry = hash_search(callees, &funcid, HASH_ENTER, NULL);
		*entry = *callee;
	}
	return callee->function != NULL;
}

Oid
distil_batch_support(void)
{
	return support_function;
}
