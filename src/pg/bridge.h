/*
 * bridge.h
 *		The ways the engine meets the server: memory, cancelling, errors, text.
 */
#ifndef DISTIL_BRIDGE_H
#define DISTIL_BRIDGE_H

#include "postgres.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "compat.h"
#include "distil_engine.h"

/* Allocator over a memory context: failure is NULL, never an ereport. Lives in that context. */
extern DistilAllocator *distil_bridge_allocator(MemoryContext context);

/*
 * Poll that stops the engine when an interrupt is pending (it must not throw inside
 * the engine); the caller runs CHECK_FOR_INTERRUPTS() after DISTIL_ERR_CANCELLED, which
 * distil_bridge_check does.
 */
extern const DistilPoll *distil_bridge_poll(void);

/*
 * ereport(ERROR) with the SQLSTATE of the contract unless status is DISTIL_OK.  Texts are
 * converted to the server encoding.
 */
extern void distil_bridge_check(DistilStatus status, const DistilError *err);
/* The same with the name of the model in messages that speak of "the model". */
extern void distil_bridge_check_model(DistilStatus status, DistilError *err, const char *model);
/*
 * For callbacks of the engine that call the server: in PG_CATCH() keep the error here and
 * return a status; distil_bridge_check() throws it again after the engine has returned.
 */
extern void distil_bridge_save_error(void);
/* SQLSTATE of a status (for jobs that store their error). */
extern int	distil_bridge_sqlstate(DistilStatus status);

/*
 * Text of a Datum as UTF-8 for the engine (borrowed from the Datum or from the current
 * memory context); SQL_ASCII must hold valid UTF-8 (22021).
 */
extern DistilText distil_bridge_text(Datum text_datum);
/* UTF-8 from the engine to a text Datum in the server encoding; what it cannot hold is 22P05. */
extern Datum distil_bridge_datum(const char *utf8, size_t length);
/* A name or message of others for an error: text, or its first 1,000 bytes or so, by whole characters. */
extern const char *distil_bridge_clip(const char *text);
/* real[] Datum of n floats, no NULLs, in the current context. */
extern Datum distil_bridge_array(const float *values, int n);
/* real[rows][columns] with room for the values, zero; empty without rows or columns; too large is 54000. */
extern ArrayType *distil_bridge_matrix(int rows, int columns);
/* JSON text of a jsonb value as UTF-8, in the current context. */
extern DistilText distil_bridge_jsonb(Jsonb *jsonb);

/* Data of an array; ARR_DATA_PTR mixes signed and unsigned, which strict warnings refuse. */
static inline void *
distil_bridge_array_data(ArrayType *array)
{
	return (char *) array +
		(ARR_HASNULL(array) ? (Size) array->dataoffset : (Size) ARR_OVERHEAD_NONULLS(ARR_NDIM(array)));
}

/* Throws 53200 if that is what distil_device_open() said of the CPU. */
extern void distil_bridge_check_memory(const char *message);
/* Throws what it said: 53200 for want of memory, otherwise 58000. */
pg_noreturn extern void distil_bridge_refuse_cpu(const char *isa, const char *message);
/* This backend's device (opened lazily, never in the postmaster); errors as those. */
extern DistilDevice *distil_bridge_device(void);
/* Those of workers 1 .. workers - 1, which share batches with it. */
extern DistilDevice *const *distil_bridge_thread_devices(int workers);

#endif							/* DISTIL_BRIDGE_H */
