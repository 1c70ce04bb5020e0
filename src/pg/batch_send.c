/*
 * batch_send.c
 *		Rows with arrays of real on their way to a client that reads them in binary form.
 *
 * array_send() calls float4send() for each number: for a vector a thirtieth of the time that a model takes
 * for a short text.  Statements with a DistilBatch node whose client asked for such arrays in binary form get
 * a receiver round the client's: what it sends is what printtup.c would.
 */
#include "postgres.h"

#include "access/printtup.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "libpq/pqformat.h"
#include "nodes/nodeFuncs.h"
#include "tcop/pquery.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "batch_plan.h"
#include "bridge.h"
#include "compat.h"

typedef struct SendColumn
{
	bool		binary;
	bool		vector;			/* real[] in binary form */
	FmgrInfo	function;		/* typsend or typoutput */
} SendColumn;

typedef struct SendReceiver
{
	DestReceiver pub;			/* must be first */
	DestReceiver *client;
	const int16 *formats;		/* the portal's, 0 or 1 for each column */
	MemoryContext context;		/* of all below, made by startup */
	MemoryContext row;			/* reset for each row */
	StringInfoData message;
	TupleDesc	described;		/* whose columns these are, NULL at first */
	SendColumn *columns;
} SendReceiver;

/* Numbers of one dimension without NULL, as array_send() has them; false: another array. */
static bool
send_vector(StringInfo message, ArrayType *array)
{
	uint32		n;
	Size		bytes;
	char	   *to;
	const uint32 *from;
	uint32		i;

	if (ARR_NDIM(array) != 1 || ARR_HASNULL(array) || ARR_ELEMTYPE(array) != FLOAT4OID)
		return false;
	n = ARR_DIMS(array)[0];
	bytes = (Size) n * 2 * sizeof(uint32);
	pq_sendint32(message, (uint32) (5 * sizeof(uint32) + bytes));
	pq_sendint32(message, 1);	/* dimensions */
	pq_sendint32(message, 0);	/* no NULL */
	pq_sendint32(message, FLOAT4OID);
	pq_sendint32(message, n);
	pq_sendint32(message, (uint32) ARR_LBOUND(array)[0]);
	enlargeStringInfo(message, (int) bytes);
	from = (const uint32 *) distil_bridge_array_data(array);
	to = message->data + message->len;
	for (i = 0; i < n; i++)
	{
		uint32		pair[2] = {pg_hton32(sizeof(uint32)), pg_hton32(from[i])};

		memcpy(to + i * sizeof(pair), pair, sizeof(pair));
	}
	message->len += bytes;
	message->data[message->len] = '\0';
	return true;
}

static void
send_value(StringInfo message, SendColumn *column, Datum value)
{
	if (column->vector && send_vector(message, DatumGetArrayTypeP(value)))
		return;
	if (column->binary)
	{
		bytea	   *bytes = SendFunctionCall(&column->function, value);

		pq_sendint32(message, VARSIZE(bytes) - VARHDRSZ);
		pq_sendbytes(message, VARDATA(bytes), VARSIZE(bytes) - VARHDRSZ);
	}
	else
	{
		char	   *text = OutputFunctionCall(&column->function, value);

		distil_compat_sendcountedtext(message, text, strlen(text));
	}
}

/* At the first row, as PostgreSQL does: a statement without rows may have columns that cannot be sent. */
static void
describe(SendReceiver *receiver, TupleDesc columns)
{
	MemoryContext old_context = MemoryContextSwitchTo(receiver->context);
	int			i;

	receiver->columns = palloc0(columns->natts * sizeof(SendColumn));
	for (i = 0; i < columns->natts; i++)
	{
		SendColumn *column = &receiver->columns[i];
		Oid			type = TupleDescAttr(columns, i)->atttypid;
		Oid			function;
		bool		is_varlena;

		column->binary = receiver->formats[i] == 1;
		column->vector = column->binary && type == FLOAT4ARRAYOID;
		if (column->binary)
			getTypeBinaryOutputInfo(type, &function, &is_varlena);
		else
			getTypeOutputInfo(type, &function, &is_varlena);
		fmgr_info(function, &column->function);
	}
	receiver->described = columns;
	MemoryContextSwitchTo(old_context);
}

static bool
send_row(TupleTableSlot *slot, DestReceiver *self)
{
	SendReceiver *receiver = (SendReceiver *) self;
	MemoryContext old_context;
	int			n = slot->tts_tupleDescriptor->natts;
	int			i;

	if (receiver->described != slot->tts_tupleDescriptor)
		describe(receiver, slot->tts_tupleDescriptor);
	slot_getallattrs(slot);
	old_context = MemoryContextSwitchTo(receiver->row);
	pq_beginmessage_reuse(&receiver->message, 'D');
	pq_sendint16(&receiver->message, n);
	for (i = 0; i < n; i++)
	{
		if (slot->tts_isnull[i])
			pq_sendint32(&receiver->message, (uint32) -1);
		else
			send_value(&receiver->message, &receiver->columns[i], slot->tts_values[i]);
	}
	pq_endmessage_reuse(&receiver->message);
	MemoryContextSwitchTo(old_context);
	MemoryContextReset(receiver->row);
	return true;
}

static void
send_startup(DestReceiver *self, int operation, TupleDesc columns)
{
	SendReceiver *receiver = (SendReceiver *) self;
	MemoryContext old_context;

	receiver->client->rStartup(receiver->client, operation, columns);
	receiver->context = AllocSetContextCreate(CurrentMemoryContext, "distil rows", ALLOCSET_DEFAULT_SIZES);
	receiver->row = AllocSetContextCreate(receiver->context, "distil row", ALLOCSET_DEFAULT_SIZES);
	old_context = MemoryContextSwitchTo(receiver->context);
	initStringInfo(&receiver->message);
	MemoryContextSwitchTo(old_context);
}

static void
send_shutdown(DestReceiver *self)
{
	SendReceiver *receiver = (SendReceiver *) self;

	MemoryContextDelete(receiver->context);
	receiver->client->rShutdown(receiver->client);
}

static void
send_destroy(DestReceiver *self)
{
	pfree(self);
}

static bool
has_batch(PlanState *state, void *context)
{
	if (IsA(state, CustomScanState) && ((CustomScan *) state->plan)->methods == &distil_batch_methods)
		return true;
	return planstate_tree_walker(state, has_batch, context);
}

/* The client's receiver is PostgreSQL's own: another extension's may have to see the rows. */
static bool
is_plain(const DestReceiver *client)
{
	static bool (*printtup) (TupleTableSlot *slot, DestReceiver *self) = NULL;

	if (printtup == NULL)
	{
		DestReceiver *receiver = printtup_create_DR(DestRemote);

		printtup = receiver->receiveSlot;
		receiver->rDestroy(receiver);
	}
	return client->receiveSlot == printtup;
}

/* One of the columns is real[] in binary form, and no format is unknown, which PostgreSQL is to say. */
static bool
asks_for_vectors(const int16 *formats, TupleDesc columns)
{
	bool		vectors = false;
	int			i;

	for (i = 0; i < columns->natts; i++)
	{
		if (formats[i] != 0 && formats[i] != 1)
			return false;
		vectors = vectors || (formats[i] == 1 && TupleDescAttr(columns, i)->atttypid == FLOAT4ARRAYOID);
	}
	return vectors;
}

DestReceiver *
distil_batch_receiver(QueryDesc *query)
{
	SendReceiver *receiver;

	if (query->operation != CMD_SELECT ||
		(query->dest->mydest != DestRemote && query->dest->mydest != DestRemoteExecute) ||
		ActivePortal == NULL || ActivePortal->queryDesc != query || ActivePortal->formats == NULL ||
		!asks_for_vectors(ActivePortal->formats, query->tupDesc) || !is_plain(query->dest) ||
		!has_batch(query->planstate, NULL))
		return NULL;
	elog(DEBUG1, "arrays of real are sent to the client by distil");
	receiver = palloc0(sizeof(SendReceiver));
	receiver->pub.receiveSlot = send_row;
	receiver->pub.rStartup = send_startup;
	receiver->pub.rShutdown = send_shutdown;
	receiver->pub.rDestroy = send_destroy;
	receiver->pub.mydest = query->dest->mydest;
	receiver->client = query->dest;
	receiver->formats = ActivePortal->formats;
	return &receiver->pub;
}
