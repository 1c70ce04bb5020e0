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

/* Worker sessions of roles that may not log in exist from 17 on. */
#if PG_VERSION_NUM >= 170000
#define DISTIL_BYPASS_ROLELOGIN BGWORKER_BYPASS_ROLELOGINCHECK
#define DISTIL_CAN_BYPASS_ROLELOGIN true
#else
#define DISTIL_BYPASS_ROLELOGIN 0
#define DISTIL_CAN_BYPASS_ROLELOGIN false
#endif

#endif							/* DISTIL_COMPAT_H */
