/*
 * launcher.h
 *		Training jobs go on by themselves after a start of the server.
 */
#ifndef DISTIL_LAUNCHER_H
#define DISTIL_LAUNCHER_H

#include "postgres.h"

/* Registers one short-lived worker per database of distil.databases; only while preloading. */
extern void distil_launcher_init(void);

/* Entry point of that worker. */
extern PGDLLEXPORT void distil_launcher_main(Datum arg);

#endif							/* DISTIL_LAUNCHER_H */
