/*
 * batch_ahead.c
 *		What may be computed for rows that nobody may ask for.
 *
 * Under a LIMIT, in a cursor or below EXISTS a node that reads ahead runs its child for rows
 * that would not have been reached.  That must not show: no volatile function, and no error.
 * So in such places everything below is made of functions that are known not to fail: those
 * marked LEAKPROOF, which by definition never do, and a few of the server's own.
 *
 * Nodes that read all of their input for their first row hide what is below them, unless they are run
 * again for each row of another.
 */
#include "postgres.h"

#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "batch_plan.h"
#include "compat.h"

/* Functions of the server that fail for no value (beyond want of memory), though not marked leakproof. */
static const Oid harmless[] = {
	F_TEXTCAT, F_ANYTEXTCAT, F_TEXTANYCAT, F_CONCAT, F_CONCAT_WS,
	F_LOWER_TEXT, F_UPPER_TEXT, F_INITCAP, F_MD5_TEXT, F_LEFT, F_RIGHT, F_REPLACE, F_REVERSE_TEXT,
	F_BTRIM_TEXT, F_BTRIM_TEXT_TEXT, F_LTRIM_TEXT, F_LTRIM_TEXT_TEXT, F_RTRIM_TEXT, F_RTRIM_TEXT_TEXT,
	F_LENGTH_TEXT, F_CHAR_LENGTH_TEXT, F_OCTET_LENGTH_TEXT, F_STARTS_WITH, F_STRPOS, F_POSITION_TEXT_TEXT,
	F_TEXTIN, F_TEXTOUT, F_VARCHARIN, F_VARCHAROUT, F_BPCHAROUT, F_BOOLOUT, F_INT2OUT, F_INT4OUT, F_INT8OUT,
	F_FLOAT4OUT, F_FLOAT8OUT, F_NUMERIC_OUT, F_NAMEOUT, F_UUID_OUT, F_DATE_OUT,
	F_TIMESTAMP_OUT, F_TIMESTAMPTZ_OUT,
	F_NUMERIC_EQ, F_NUMERIC_NE, F_NUMERIC_LT, F_NUMERIC_LE, F_NUMERIC_GT, F_NUMERIC_GE, F_NOW,
	F_SUBSTR_TEXT_INT4, F_SUBSTRING_TEXT_INT4, F_TRANSLATE,
	F_ARRAY_EQ, F_ARRAY_NE, F_CARDINALITY, F_ARRAY_LENGTH, F_JSONB_OBJECT_FIELD, F_JSONB_OBJECT_FIELD_TEXT,
};

static bool
is_in(Oid funcid, const Oid *list, int n)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		if (list[i] == funcid)
			return true;
	}
	return false;
}

static bool
function_shows(Oid funcid, void *context)
{
	if (func_volatile(funcid) == PROVOLATILE_VOLATILE)
		return true;
	return !is_in(funcid, harmless, lengthof(harmless)) && !get_func_leakproof(funcid);
}

static bool
has_no_escape(const Const *pattern)
{
	const struct varlena *text = (const struct varlena *) DatumGetPointer(pattern->constvalue);

	return memchr(VARDATA_ANY(text), '\\', VARSIZE_ANY_EXHDR(text)) == NULL;
}

static bool
is_not_negative(const Const *number)
{
	return DatumGetInt32(number->constvalue) >= 0;
}

static bool
is_positive(const Const *number)
{
	return DatumGetInt32(number->constvalue) > 0;
}

/* Functions that fail for some values of one argument only: harmless where that is a constant that passes. */
static const struct
{
	Oid			funcid;
	int			arg;
	bool		(*passes) (const Const *value);
} constrained[] = {
	{F_TEXTLIKE, 1, has_no_escape}, {F_TEXTNLIKE, 1, has_no_escape},
	{F_TEXTICLIKE, 1, has_no_escape}, {F_TEXTICNLIKE, 1, has_no_escape},
	{F_SUBSTR_TEXT_INT4_INT4, 2, is_not_negative}, {F_SUBSTRING_TEXT_INT4_INT4, 2, is_not_negative},
	{F_SPLIT_PART, 2, is_positive},
};

static bool
is_constrained_call(Node *node)
{
	Oid			funcid;
	List	   *args;
	int			i;

	if (IsA(node, OpExpr))
	{
		funcid = ((OpExpr *) node)->opfuncid;
		args = ((OpExpr *) node)->args;
	}
	else if (IsA(node, FuncExpr))
	{
		funcid = ((FuncExpr *) node)->funcid;
		args = ((FuncExpr *) node)->args;
	}
	else
		return false;
	for (i = 0; i < lengthof(constrained); i++)
	{
		if (constrained[i].funcid == funcid)
		{
			const Const *value = list_nth(args, constrained[i].arg);

			return IsA(value, Const) && !value->constisnull && constrained[i].passes(value);
		}
	}
	return false;
}

/* context: whether aggregates may be in it, which are finished for all rows before the first. */
static bool
shows_walker(Node *node, void *context)
{
	const bool *aggregates = context;

	if (node == NULL || (*aggregates && IsA(node, Aggref)))
		return false;
	/* Most functions of texts fail for a nondeterministic collation, but not for texts that are empty. */
	if (OidIsValid(exprInputCollation(node)) && !get_collation_isdeterministic(exprInputCollation(node)))
		return true;
	if (!is_constrained_call(node) && check_functions_in_node(node, function_shows, NULL))
		return true;
	switch (nodeTag(node))
	{
		case T_NextValueExpr:
		case T_SubPlan:
		case T_AlternativeSubPlan:
		case T_CoerceToDomain:
		case T_CurrentOfExpr:
		case T_XmlExpr:
			return true;
			/* Its parts must be of one size. */
		case T_ArrayExpr:
			return ((ArrayExpr *) node)->multidims || expression_tree_walker(node, shows_walker, context);
		default:
			return expression_tree_walker(node, shows_walker, context);
	}
}

bool
distil_batch_evaluates_ahead(Node *node)
{
	bool		aggregates = false;

	return !shows_walker(node, &aggregates);
}

/* ---------- plans ---------- */

/* again: the plan is run again for each row of another, and what it computes for its first row counts too. */
static bool reads_ahead(Plan *plan, bool again);

/* The inner side of a nested loop is run again for each row of the outer. */
static bool
join_reads_ahead(Plan *plan, bool again)
{
	return distil_batch_evaluates_ahead((Node *) ((Join *) plan)->joinqual) &&
		reads_ahead(outerPlan(plan), again) && reads_ahead(innerPlan(plan), again || IsA(plan, NestLoop));
}

static bool
all_read_ahead(List *plans, bool again)
{
	ListCell   *cell;

	foreach(cell, plans)
	{
		if (!reads_ahead(lfirst(cell), again))
			return false;
	}
	return true;
}

/* Does it aggregate all rows for its first one? */
static bool
is_whole_aggregate(Plan *plan)
{
	return IsA(plan, Agg) &&
		(((Agg *) plan)->aggstrategy == AGG_PLAIN || ((Agg *) plan)->aggstrategy == AGG_HASHED);
}

/* Nodes that are not listed may do anything for a row. */
static bool
reads_ahead(Plan *plan, bool again)
{
	bool		aggregates = is_whole_aggregate(plan) && !again;

	if (shows_walker((Node *) plan->targetlist, &aggregates) ||
		shows_walker((Node *) plan->qual, &aggregates))
		return false;
	check_stack_depth();
	switch (nodeTag(plan))
	{
			/* Their first row has cost all of the rows below. */
		case T_Sort:
		case T_Hash:
			return !again || reads_ahead(outerPlan(plan), again);
		case T_FunctionScan:
			return !again || distil_batch_evaluates_ahead((Node *) ((FunctionScan *) plan)->functions);
		case T_Agg:
			return (is_whole_aggregate(plan) && !again) || reads_ahead(outerPlan(plan), again);
		case T_SampleScan:
			return !again || distil_batch_evaluates_ahead((Node *) ((SampleScan *) plan)->tablesample);
		case T_TidScan:
			return !again || distil_batch_evaluates_ahead((Node *) ((TidScan *) plan)->tidquals);
		case T_TidRangeScan:
			return !again || distil_batch_evaluates_ahead((Node *) ((TidRangeScan *) plan)->tidrangequals);
		case T_SeqScan:
		case T_WorkTableScan:
		case T_NamedTuplestoreScan:
			return true;
		case T_IndexScan:
			return distil_batch_evaluates_ahead((Node *) ((IndexScan *) plan)->indexqualorig) &&
				distil_batch_evaluates_ahead((Node *) ((IndexScan *) plan)->indexorderbyorig);
		case T_IndexOnlyScan:
			return distil_batch_evaluates_ahead((Node *) ((IndexOnlyScan *) plan)->indexqual) &&
				distil_batch_evaluates_ahead((Node *) ((IndexOnlyScan *) plan)->indexorderby);
		case T_BitmapHeapScan:
			return distil_batch_evaluates_ahead((Node *) ((BitmapHeapScan *) plan)->bitmapqualorig);
		case T_ValuesScan:
			return distil_batch_evaluates_ahead((Node *) ((ValuesScan *) plan)->values_lists);
		case T_SubqueryScan:
			return reads_ahead(((SubqueryScan *) plan)->subplan, again);
		case T_NestLoop:
			return join_reads_ahead(plan, again);
		case T_MergeJoin:
			return distil_batch_evaluates_ahead((Node *) ((MergeJoin *) plan)->mergeclauses) &&
				join_reads_ahead(plan, again);
		case T_HashJoin:
			return distil_batch_evaluates_ahead((Node *) ((HashJoin *) plan)->hashclauses) &&
				join_reads_ahead(plan, again);
		case T_Append:
			return all_read_ahead(((Append *) plan)->appendplans, again);
		case T_MergeAppend:
			return all_read_ahead(((MergeAppend *) plan)->mergeplans, again);
		case T_Result:
			return (!again || distil_batch_evaluates_ahead(((Result *) plan)->resconstantqual)) &&
				(outerPlan(plan) == NULL || reads_ahead(outerPlan(plan), again));
		case T_Limit:
			return (!again || (distil_batch_evaluates_ahead(((Limit *) plan)->limitCount) &&
							   distil_batch_evaluates_ahead(((Limit *) plan)->limitOffset))) &&
				reads_ahead(outerPlan(plan), again);
		case T_WindowAgg:
			return (!again || (distil_batch_evaluates_ahead(((WindowAgg *) plan)->startOffset) &&
							   distil_batch_evaluates_ahead(((WindowAgg *) plan)->endOffset))) &&
				reads_ahead(outerPlan(plan), again);
		case T_Gather:
		case T_GatherMerge:
		case T_Group:
		case T_IncrementalSort:
		case T_Material:
		case T_Memoize:
		case T_Unique:
			return reads_ahead(outerPlan(plan), again);
		default:
			return false;
	}
}

/* Directly below another, a node of ours keeps an error until its row is due. */
bool
distil_batch_reads_ahead(Plan *plan)
{
	for (; IsA(plan, CustomScan); plan = outerPlan(plan))
	{
		if (((CustomScan *) plan)->methods != &distil_batch_methods ||
			!distil_batch_evaluates_ahead((Node *) plan->targetlist) ||
			!distil_batch_evaluates_ahead((Node *) plan->qual))
			return false;
	}
	return reads_ahead(plan, false);
}

bool
distil_batch_runs_unasked(Plan *plan)
{
	return reads_ahead(plan, true);
}
