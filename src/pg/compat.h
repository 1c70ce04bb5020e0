/*
 * compat.h
 *		Every PG_VERSION_NUM test of the project (PostgreSQL 15 to 18).
 */
#ifndef DISTIL_COMPAT_H
#define DISTIL_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000
#error "distil needs PostgreSQL 15 or later"
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* Number of the current local transaction. */
#if PG_VERSION_NUM >= 170000
#define DISTIL_LXID (MyProc->vxid.lxid)
#else
#define DISTIL_LXID (MyProc->lxid)
#endif

/* Ownership of objects that have no check of their own any more. */
#if PG_VERSION_NUM >= 160000
#define distil_compat_owns_largeobject(oid, role) object_ownercheck(LargeObjectMetadataRelationId, oid, role)
#define distil_compat_owns_database(oid, role) object_ownercheck(DatabaseRelationId, oid, role)
#else
#define distil_compat_owns_largeobject(oid, role) pg_largeobject_ownercheck(oid, role)
#define distil_compat_owns_database(oid, role) pg_database_ownercheck(oid, role)
#endif

/* Worker sessions of roles that may not log in exist from 17 on. */
#if PG_VERSION_NUM >= 170000
#define DISTIL_BYPASS_ROLELOGIN BGWORKER_BYPASS_ROLELOGINCHECK
#define DISTIL_CAN_BYPASS_ROLELOGIN true
#else
#define DISTIL_BYPASS_ROLELOGIN 0
#define DISTIL_CAN_BYPASS_ROLELOGIN false
#endif

/* All settings of this process; *n: how many (needs utils/guc.h and utils/guc_tables.h). */
#if PG_VERSION_NUM >= 160000
#define distil_compat_settings(n) get_guc_variables(n)
#else
#define distil_compat_settings(n) (*(n) = GetNumConfigOptions(), get_guc_variables())
#endif

/* A limit to the length of transactions, which reading a corpus may exceed. */
#if PG_VERSION_NUM >= 170000
#define DISTIL_HAS_TRANSACTION_TIMEOUT
#endif

/* Locks of a process in one partition: first (after NULL), next, NULL at the end (needs storage/proc.h). */
#if PG_VERSION_NUM >= 160000
#define DistilProcLockList dlist_head
#define distil_compat_proclock_next(list, entry) \
	((entry) == NULL \
	 ? (dlist_is_empty(list) ? NULL : dlist_head_element(PROCLOCK, procLink, list)) \
	 : (dlist_has_next(list, &(entry)->procLink) \
		? dlist_container(PROCLOCK, procLink, dlist_next_node(list, &(entry)->procLink)) : NULL))
#else
#define DistilProcLockList SHM_QUEUE
#define distil_compat_proclock_next(list, entry) \
	((PROCLOCK *) SHMQueueNext(list, (entry) == NULL ? (list) : &(entry)->procLink, \
							   offsetof(PROCLOCK, procLink)))
#endif

/* EXPLAIN's helpers moved in 18. */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

/* Right of a role to execute a function: an AclResult (needs utils/acl.h and catalog/pg_proc.h). */
#if PG_VERSION_NUM >= 160000
#define DISTIL_FUNCTION_ACLCHECK(function, role) \
	object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE)
#else
#define DISTIL_FUNCTION_ACLCHECK(function, role) pg_proc_aclcheck(function, role, ACL_EXECUTE)
#endif

/* reverse(bytea) came in 18, until when reverse(text) was the only one (needs utils/fmgroids.h). */
#if PG_VERSION_NUM < 180000
#define F_REVERSE_TEXT F_REVERSE
#endif

/* In front of a function that does not come back: a keyword from 18 on. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* Nodes that only RETURNING of a statement that writes can evaluate. */
#if PG_VERSION_NUM >= 180000
#define DISTIL_IS_RETURNING_NODE(node) (IsA(node, MergeSupportFunc) || IsA(node, ReturningExpr))
#elif PG_VERSION_NUM >= 170000
#define DISTIL_IS_RETURNING_NODE(node) IsA(node, MergeSupportFunc)
#else
#define DISTIL_IS_RETURNING_NODE(node) false
#endif

/* Which rows an action of MERGE is for. */
#if PG_VERSION_NUM >= 170000
#define DISTIL_MERGE_MATCHED(action) ((action)->matchKind == MERGE_WHEN_MATCHED)
#define DISTIL_MERGE_BY_SOURCE(action) ((action)->matchKind == MERGE_WHEN_NOT_MATCHED_BY_SOURCE)
#else
#define DISTIL_MERGE_MATCHED(action) ((action)->matched)
#define DISTIL_MERGE_BY_SOURCE(action) ((void) (action), false)
#endif

/* The executor's hook to run lost an argument in 18. */
#if PG_VERSION_NUM >= 180000
#define DISTIL_EXECUTOR_RUN_PARAMETERS QueryDesc *query, ScanDirection direction, uint64 count
#define DISTIL_EXECUTOR_RUN_ARGUMENTS query, direction, count
#else
#define DISTIL_EXECUTOR_RUN_PARAMETERS QueryDesc *query, ScanDirection direction, uint64 count, bool once
#define DISTIL_EXECUTOR_RUN_ARGUMENTS query, direction, count, once
#endif

/* A text and its length into a message to the client (needs libpq/pqformat.h). */
#if PG_VERSION_NUM >= 170000
#define distil_compat_sendcountedtext(message, text, length) pq_sendcountedtext(message, text, length)
#else
#define distil_compat_sendcountedtext(message, text, length) pq_sendcountedtext(message, text, length, false)
#endif

#endif							/* DISTIL_COMPAT_H */
