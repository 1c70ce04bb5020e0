/*
 * batch_values.c
 *		Calls in the rows of VALUES: INSERT ... VALUES (distil_embed('a')), (distil_embed('b')).
 *
 * A column in which each row calls the same function on constants becomes columns of its
 * arguments; who reads the column calls the function on these, as on those of a table.
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"

#include "batch_plan.h"

/* What the planner makes of a call of a strict function on NULL: each of ours gives NULL for a NULL input. */
static bool
is_null(Node *node)
{
	return IsA(node, Const) && ((Const *) node)->constisnull;
}

/* The first of the calls that rows have in a column (from 0); NULL: they are no calls of one function. */
static FuncExpr *
common_call(List *rows, int column)
{
	FuncExpr   *first = NULL;
	DistilBatchCallee callee;
	ListCell   *row;
	ListCell   *cell;

	foreach(row, rows)
	{
		FuncExpr   *call = list_nth((List *) lfirst(row), column);

		if (is_null((Node *) call))
			continue;
		if (!IsA(call, FuncExpr) || call->funcretset || !distil_batch_callee(call->funcid, &callee) ||
			callee.is_volatile)
			return NULL;
		if (first == NULL)
			first = call;
		if (call->funcid != first->funcid || list_length(call->args) != list_length(first->args))
			return NULL;
		foreach(cell, call->args)
		{
			Node	   *arg = lfirst(cell);

			if (!IsA(arg, Const) && !(IsA(arg, Param) && ((Param *) arg)->paramkind == PARAM_EXTERN))
				return NULL;
		}
	}
	return first;
}

/* A row as a whole has columns that must not change. */
static bool
whole_row_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return ((Var *) node)->varattno <= 0;
	return expression_tree_walker(node, whole_row_walker, context);
}

bool
distil_batch_has_values_call(const ValuesScan *scan)
{
	int			column;

	if (whole_row_walker((Node *) scan->scan.plan.targetlist, NULL) ||
		whole_row_walker((Node *) scan->scan.plan.qual, NULL))
		return false;
	for (column = 0; column < list_length(linitial(scan->values_lists)); column++)
	{
		if (common_call(scan->values_lists, column) != NULL)
			return true;
	}
	return false;
}

/* Calls instead of columns. */
typedef struct Replaced
{
	Index		varno;
	FuncExpr  **calls;			/* by column from 0; NULL: stays */
} Replaced;

static Node *
replace_mutator(Node *node, void *context)
{
	const Replaced *replaced = context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == replaced->varno && ((Var *) node)->varattno > 0 &&
		replaced->calls[((Var *) node)->varattno - 1] != NULL)
		return copyObject((Node *) replaced->calls[((Var *) node)->varattno - 1]);
	return expression_tree_mutator(node, replace_mutator, context);
}

static List *
null_arguments(const FuncExpr *call)
{
	List	   *args = NIL;
	ListCell   *cell;

	foreach(cell, call->args)
		args = lappend(args, makeNullConst(exprType(lfirst(cell)), exprTypmod(lfirst(cell)),
										   exprCollation(lfirst(cell))));
	return args;
}

/* Arguments of the calls in a column as further columns; the call on these. */
static FuncExpr *
move_arguments(ValuesScan *scan, int column, FuncExpr *first, Alias *names)
{
	FuncExpr   *call = makeNode(FuncExpr);
	List	   *rows = NIL;
	ListCell   *cell;

	*call = *first;
	call->args = NIL;
	foreach(cell, first->args)
	{
		Node	   *arg = lfirst(cell);

		names->colnames = lappend(names->colnames, makeString(pstrdup("argument")));
		call->args = lappend(call->args, makeVar(scan->scan.scanrelid, list_length(names->colnames),
												 exprType(arg), exprTypmod(arg), exprCollation(arg), 0));
	}
	foreach(cell, scan->values_lists)
	{
		List	   *row = list_copy(lfirst(cell));
		Node	   *moved = list_nth(row, column);

		row = list_concat(row, is_null(moved) ? null_arguments(first) : ((FuncExpr *) moved)->args);
		lfirst(list_nth_cell(row, column)) = makeNullConst(exprType((Node *) first), -1,
														   exprCollation((Node *) first));
		rows = lappend(rows, row);
	}
	scan->values_lists = rows;
	return call;
}

void
distil_batch_expand_values(ValuesScan *scan, List *rtable)
{
	RangeTblEntry *rte = rt_fetch(scan->scan.scanrelid, rtable);
	int			ncolumns = list_length(linitial(scan->values_lists));
	Replaced	replaced = {scan->scan.scanrelid, palloc0(sizeof(FuncExpr *) * ncolumns)};
	int			column;

	/* EXPLAIN names columns by the range table. */
	rte->eref = copyObject(rte->eref);
	for (column = 0; column < ncolumns; column++)
	{
		FuncExpr   *first = common_call(scan->values_lists, column);

		if (first != NULL && list_length(rte->eref->colnames) == list_length(linitial(scan->values_lists)))
			replaced.calls[column] = move_arguments(scan, column, first, rte->eref);
	}
	scan->scan.plan.targetlist = (List *) replace_mutator((Node *) scan->scan.plan.targetlist, &replaced);
	scan->scan.plan.qual = (List *) replace_mutator((Node *) scan->scan.plan.qual, &replaced);
}
