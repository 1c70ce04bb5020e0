/*
 * bridge.c
 *		Memory, cancelling, errors, text and devices between the engine and the server.
 *
 * The rule a newcomer would break: nothing that can ereport may run inside a callback
 * of the engine, or the engine's frames are jumped over.  A callback catches the error,
 * keeps it with distil_bridge_save_error() and returns a status; the error is thrown
 * again by distil_bridge_check() once the engine has returned.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "bridge.h"
#include "compat.h"
#include "guc.h"

/* Bytes of a text of others in an error. */
#define CLIP_BYTES 1000

/*
 * The last error caught inside a callback of the engine (in TopMemoryContext), NULL: there was no memory to
 * keep it; is it still to be thrown?
 */
static ErrorData *saved_error = NULL;
static bool saved_pending = false;

/* ---------- memory ---------- */

static void *
bridge_alloc(void *ctx, size_t bytes)
{
	if (bytes > MaxAllocHugeSize)
		return NULL;
	return MemoryContextAllocExtended((MemoryContext) ctx, bytes, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
}

static void
bridge_release(void *ctx, void *memory)
{
	(void) ctx;
	if (memory != NULL)
		pfree(memory);
}

DistilAllocator *
distil_bridge_allocator(MemoryContext context)
{
	DistilAllocator *alloc = MemoryContextAlloc(context, sizeof(DistilAllocator));

	alloc->alloc = bridge_alloc;
	alloc->release = bridge_release;
	alloc->ctx = context;
	return alloc;
}

/* ---------- errors and cancelling ---------- */

void
distil_bridge_save_error(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	if (saved_error != NULL)
		FreeErrorData(saved_error);
	saved_error = NULL;
	saved_pending = true;
	PG_TRY();
	{
		saved_error = CopyErrorData();
	}
	PG_CATCH();
	{
		/* The engine's frames are still below. */
	}
	PG_END_TRY();
	FlushErrorState();
	MemoryContextSwitchTo(old);
}

/*
 * A cancel stays pending for CHECK_FOR_INTERRUPTS(); everything else that may be
 * pending (barriers, notifies, recovery conflicts) is served here, so that it does not
 * end a statement it has nothing to say about.
 */
static bool
bridge_stop(void *ctx)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool stop = false;

	(void) ctx;
	if (!InterruptPending || InterruptHoldoffCount != 0 || CritSectionCount != 0)
		return false;
	if (QueryCancelPending || ProcDiePending)
		return true;
	PG_TRY();
	{
		CHECK_FOR_INTERRUPTS();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		distil_bridge_save_error();
		stop = true;
	}
	PG_END_TRY();
	return stop;
}

const DistilPoll *
distil_bridge_poll(void)
{
	static const DistilPoll poll = {bridge_stop, NULL};

	return &poll;
}

int
distil_bridge_sqlstate(DistilStatus status)
{
	switch (status)
	{
		case DISTIL_OK:
			return ERRCODE_SUCCESSFUL_COMPLETION;
		case DISTIL_ERR_ARGUMENT:
			return ERRCODE_INVALID_PARAMETER_VALUE;
		case DISTIL_ERR_NULL:
			return ERRCODE_NULL_VALUE_NOT_ALLOWED;
		case DISTIL_ERR_ENCODING:
			return ERRCODE_CHARACTER_NOT_IN_REPERTOIRE;
		case DISTIL_ERR_MODEL_FILE:
			return ERRCODE_INVALID_BINARY_REPRESENTATION;
		case DISTIL_ERR_TEXT_FILE:
			return ERRCODE_INVALID_TEXT_REPRESENTATION;
		case DISTIL_ERR_NO_FILE:
			return ERRCODE_UNDEFINED_FILE;
		case DISTIL_ERR_UNSUPPORTED:
			return ERRCODE_FEATURE_NOT_SUPPORTED;
		case DISTIL_ERR_LIMIT:
			return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		case DISTIL_ERR_UNKNOWN:
			return ERRCODE_UNDEFINED_OBJECT;
		case DISTIL_ERR_CORRUPT:
			return ERRCODE_DATA_CORRUPTED;
		case DISTIL_ERR_MEMORY:
			return ERRCODE_OUT_OF_MEMORY;
		case DISTIL_ERR_IO:
			return ERRCODE_IO_ERROR;
		case DISTIL_ERR_DISK_FULL:
			return ERRCODE_DISK_FULL;
		case DISTIL_ERR_CANCELLED:
			return ERRCODE_QUERY_CANCELED;
		case DISTIL_ERR_DEVICE:
			return ERRCODE_SYSTEM_ERROR;
		case DISTIL_ERR_STATE:
			return ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
	}
	return ERRCODE_INTERNAL_ERROR;
}

/* Message text in the server encoding; characters it does not have become '?'. */
static char *
error_text(const char *utf8)
{
	size_t		length = strlen(utf8);
	Oid			proc;
	unsigned char *text;
	char	   *copy;
	char	   *p;

	if (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII)
		return pstrdup(utf8);
	proc = IsTransactionState() ? FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding()) : InvalidOid;
	if (OidIsValid(proc))
	{
		int			size = (int) length * MAX_CONVERSION_GROWTH + 1;

		text = palloc0(size);
		if (pg_do_encoding_conversion_buf(proc, PG_UTF8, GetDatabaseEncoding(),
										  (unsigned char *) utf8, (int) length, text, size,
										  true) == (int) length)
			return (char *) text;
	}
	copy = pstrdup(utf8);
	for (p = copy; *p != '\0'; p++)
		if (IS_HIGHBIT_SET(*p))
			*p = '?';
	return copy;
}

void
distil_bridge_check(DistilStatus status, const DistilError *err)
{
	if (status == DISTIL_OK)
	{
		saved_pending = false;
		return;
	}
	if (saved_pending)
	{
		saved_pending = false;
		if (saved_error == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory")));
		ReThrowError(saved_error);
	}
	if (status == DISTIL_ERR_CANCELLED)
		CHECK_FOR_INTERRUPTS();
	ereport(ERROR,
			(errcode(distil_bridge_sqlstate(status)),
			 errmsg_internal("%s", error_text(err->message)),
			 err->detail[0] != '\0' ? errdetail_internal("%s", error_text(err->detail)) : 0,
			 err->hint[0] != '\0' ? errhint("%s", error_text(err->hint)) : 0));
}

void
distil_bridge_check_model(DistilStatus status, DistilError *err, const char *model)
{
	static const char subject[] = "the model ";
	DistilText	name;
	char	   *rest;

	if (status != DISTIL_OK && strncmp(err->message, subject, strlen(subject)) == 0)
	{
		name = distil_bridge_text(CStringGetTextDatum(model));
		rest = pstrdup(err->message + strlen(subject));
		snprintf(err->message, sizeof(err->message), "model \"%.*s\" %s", (int) name.length, name.data, rest);
	}
	distil_bridge_check(status, err);
}

/* ---------- text and arrays ---------- */

DistilText
distil_bridge_text(Datum text_datum)
{
	text	   *value = DatumGetTextPP(text_datum);
	DistilText	result;

	result.data = VARDATA_ANY(value);
	result.length = VARSIZE_ANY_EXHDR(value);
	if (GetDatabaseEncoding() == PG_UTF8)
		return result;
	if (GetDatabaseEncoding() == PG_SQL_ASCII)
	{
		if (!pg_verify_mbstr(PG_UTF8, result.data, (int) result.length, true))
			ereport(ERROR,
					(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
					 errmsg("text is not valid UTF-8"),
					 errhint("In a database of encoding SQL_ASCII texts for a model must be UTF-8.")));
		return result;
	}
	result.data = pg_server_to_any(result.data, (int) result.length, PG_UTF8);
	if (result.data != VARDATA_ANY(value))
		result.length = strlen(result.data);
	return result;
}

/* No text holds a zero byte, but a byte-level vocabulary has a token for it: it reads as U+FFFD. */
static const char *
replace_zeros(const char *utf8, size_t *length)
{
	StringInfoData clean;

	initStringInfo(&clean);
	for (size_t i = 0; i < *length; i++)
		appendBinaryStringInfo(&clean, utf8[i] == '\0' ? "\xEF\xBF\xBD" : utf8 + i, utf8[i] == '\0' ? 3 : 1);
	*length = (size_t) clean.len;
	return clean.data;
}

Datum
distil_bridge_datum(const char *utf8, size_t length)
{
	char	   *converted;

	if (length > MaxAllocSize / MAX_CONVERSION_GROWTH)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("result text of %zu bytes is too long", length)));
	if (memchr(utf8, '\0', length) != NULL)
		utf8 = replace_zeros(utf8, &length);
	converted = pg_any_to_server(utf8, (int) length, PG_UTF8);
	if (converted == utf8)
		return PointerGetDatum(cstring_to_text_with_len(utf8, (int) length));
	return PointerGetDatum(cstring_to_text(converted));
}

const char *
distil_bridge_clip(const char *text)
{
	size_t		length = text != NULL ? strnlen(text, CLIP_BYTES + MAX_MULTIBYTE_CHAR_LEN) : 0;

	if (length <= CLIP_BYTES)
		return text;
	return psprintf("%.*s...", pg_mbcliplen(text, (int) length, CLIP_BYTES), text);
}

Datum
distil_bridge_array(const float *values, int n)
{
	Size		bytes;
	ArrayType  *array;

	if (n == 0)
		return PointerGetDatum(construct_empty_array(FLOAT4OID));
	bytes = ARR_OVERHEAD_NONULLS(1) + (Size) n * sizeof(float4);
	array = palloc(bytes);
	SET_VARSIZE(array, bytes);
	array->ndim = 1;
	array->dataoffset = 0;
	array->elemtype = FLOAT4OID;
	ARR_DIMS(array)[0] = n;
	ARR_LBOUND(array)[0] = 1;
	memcpy(distil_bridge_array_data(array), values, (Size) n * sizeof(float4));
	return PointerGetDatum(array);
}

ArrayType *
distil_bridge_matrix(int rows, int columns)
{
	Size		bytes;
	ArrayType  *array;

	if (rows == 0 || columns == 0)
		return construct_empty_array(FLOAT4OID);
	bytes = ARR_OVERHEAD_NONULLS(2) + (Size) rows * columns * sizeof(float4);
	if (!AllocSizeIsValid(bytes))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("an array of %d x %d values is too large", rows, columns)));
	array = palloc0(bytes);
	SET_VARSIZE(array, bytes);
	array->ndim = 2;
	array->elemtype = FLOAT4OID;
	ARR_DIMS(array)[0] = rows;
	ARR_DIMS(array)[1] = columns;
	ARR_LBOUND(array)[0] = 1;
	ARR_LBOUND(array)[1] = 1;
	return array;
}

DistilText
distil_bridge_jsonb(Jsonb *jsonb)
{
	char	   *json = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));

	return distil_bridge_text(PointerGetDatum(cstring_to_text(json)));
}

/* ---------- device ---------- */

/* Per value of distil.isa and worker: opened at first use and kept for the life of the process. */
static DistilDevice *devices[DISTIL_ISA_SETTINGS][DISTIL_MAX_THREADS];

void
distil_bridge_check_memory(const char *message)
{
	if (strncmp(message, DISTIL_NO_MEMORY, strlen(DISTIL_NO_MEMORY)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg_internal("%s", message)));
}

void
distil_bridge_refuse_cpu(const char *isa, const char *message)
{
	distil_bridge_check_memory(message);
	ereport(ERROR,
			(errcode(ERRCODE_SYSTEM_ERROR),
			 errmsg("the CPU backend cannot be opened with instruction set \"%s\"", isa),
			 message[0] != '\0' ? errdetail_internal("%s", message) : 0,
			 strcmp(isa, "auto") != 0 ? errhint("Set distil.isa to \"auto\".") : 0));
}

static DistilDevice *
open_device(int worker)
{
	DistilDevice **device = &devices[distil_isa][worker];
	char		message[256] = "";

	if (!IsUnderPostmaster && IsPostmasterEnvironment)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("no device can be opened in the postmaster")));
	if (*device == NULL)
		*device = distil_isa == DISTIL_ISA_REFERENCE
			? distil_device_open("reference", NULL, message, sizeof(message))
			: distil_device_open("cpu", distil_guc_isa_name(distil_isa), message, sizeof(message));
	if (*device == NULL)
		distil_bridge_refuse_cpu(distil_guc_isa_name(distil_isa), message);
	return *device;
}

DistilDevice *
distil_bridge_device(void)
{
	return open_device(0);
}

DistilDevice *const *
distil_bridge_thread_devices(int workers)
{
	int			i;

	for (i = 1; i < workers; i++)
		(void) open_device(i);
	return &devices[distil_isa][1];
}
