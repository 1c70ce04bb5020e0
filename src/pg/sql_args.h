/*
 * sql_args.h
 *		Decoding of SQL arguments, shared by the sql_*.c files.
 */
#ifndef DISTIL_SQL_ARGS_H
#define DISTIL_SQL_ARGS_H

#include "postgres.h"
#include "fmgr.h"
#include "distil_engine.h"

/* 22004 naming the argument when it is NULL. */
extern void distil_args_require(FunctionCallInfo fcinfo, int arg, const char *name);
/* Required text argument as a C string. */
extern char *distil_args_string(FunctionCallInfo fcinfo, int arg, const char *name);
/* Optional text argument; NULL when it is NULL or not given. */
extern char *distil_args_optional(FunctionCallInfo fcinfo, int arg);
/* Required integer of at least `least` (22023). */
extern int	distil_args_int(FunctionCallInfo fcinfo, int arg, const char *name, int least);

/*
 * Required name of a model to be made: well-formed and free, also of jobs; 25006 where `command` may not
 * write.
 */
extern char *distil_args_new_model(FunctionCallInfo fcinfo, int arg, const char *argument,
								   const char *command);

/* 22023 unless it is a relative file name that stays in its folder. */
extern void distil_args_check_file_name(const char *name);

/*
 * The model of a head, given as model/head or as a head name that is unique in the
 * database (42704 otherwise, listing what there is); palloc'd.
 */
extern char *distil_args_head_model(const char *head);
/* The head's own name: what follows the slash. */
extern const char *distil_args_head_name(const char *head);

#endif							/* DISTIL_SQL_ARGS_H */
