/*
 * module.c
 *		The magic block and _PG_init, and nothing else.
 *
 * _PG_init may run in the postmaster (shared_preload_libraries): it starts no thread,
 * opens no library, device or file.
 */
#include "postgres.h"

#include "fmgr.h"

#include "batch_call.h"
#include "guc.h"
#include "launcher.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	distil_guc_init();
	distil_batch_node_init();
	distil_launcher_init();
}
