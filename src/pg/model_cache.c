/*
 * model_cache.c
 *		This backend's open models: a mapped image, the model over it and a session.
 *
 * An open model outlives transactions, so that the next statement starts at once; it is
 * closed only between transactions (see at_transaction_end), when more than OPEN_MODELS
 * are open.  Everything of it lives in its own context below TopMemoryContext.
 *
 * Every use looks the name up and asks for the right again, unless nothing can have
 * changed since the last use: same name, user, transaction and snapshot (see Memo).
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "bridge.h"
#include "cache_file.h"
#include "compat.h"
#include "guc.h"
#include "model_cache.h"

/* Models a backend keeps open between transactions. */
#define OPEN_MODELS 8
/* Bytes of scratch memory a session may keep for itself between transactions. */
#define KEPT_SCRATCH ((size_t) 4 << 20)

typedef struct CacheEntry
{
	DistilOpenModel open;		/* first: what callers see */
	DistilMapping mapping;
	MemoryContext context;
	DistilAllocator *alloc;
	int			isa;			/* settings the session was made with */
	int			memory;
	uint64		last_used;
	struct CacheEntry *next;
} CacheEntry;

/* The layouts that a session computes with; static strings. */
typedef struct Layouts
{
	const char *plain;
	const char *quantized;		/* of models of dtype int8 */
} Layouts;

/* When all of this is the same, the lookup has the same result. */
typedef struct Memo
{
	CacheEntry *entry;			/* NULL: nothing remembered */
	bool		is_default;		/* looked up with name NULL */
	char		name[NAMEDATALEN];
	char		setting[NAMEDATALEN];
	Layouts		layouts;		/* NULL: any will do */
	Oid			user;
	LocalTransactionId transaction;
	SubTransactionId subtransaction;
	TransactionId xmin;
	TransactionId xmax;
	uint32		xcnt;
	int32		subxcnt;
	CommandId	command;
	CommandId	now;			/* a model is also looked for under a later snapshot */
} Memo;

static CacheEntry *entries = NULL;
static uint64 use_counter = 0;
static Memo memo;
/* Work of sessions that are closed. */
static DistilSessionStats closed_stats;

/* ---------- opening and closing ---------- */

static void
add_stats(DistilSessionStats *total, const DistilSession *session)
{
	const DistilSessionStats *stats = distil_session_stats(session);

	total->texts += stats->texts;
	total->tokens += stats->tokens;
	total->batches += stats->batches;
	total->truncated += stats->truncated;
	total->tokenizer_seconds += stats->tokenizer_seconds;
	total->model_seconds += stats->model_seconds;
}

static void
close_session(CacheEntry *entry)
{
	if (entry->open.session == NULL)
		return;
	add_stats(&closed_stats, entry->open.session);
	distil_session_free(entry->open.session);
	entry->open.session = NULL;
	entry->open.shared = false;
}

static void
close_entry(CacheEntry *entry)
{
	close_session(entry);
	distil_model_free(entry->open.model);
	distil_cache_file_unmap(&entry->mapping);
	MemoryContextDelete(entry->context);	/* the entry itself is in it */
}

void
distil_cache_unshare(void)
{
	CacheEntry *entry;

	for (entry = entries; entry != NULL; entry = entry->next)
	{
		if (entry->open.shared)
			distil_session_share(entry->open.session, NULL, NULL, NULL);
		entry->open.shared = false;
	}
}

/*
 * Between transactions nobody borrows a model: keep the last used
 * ones, offer large scratch memory to others.
 */
static void
at_transaction_end(XactEvent event, void *arg)
{
	CacheEntry *entry;
	int			n = 0;

	(void) arg;
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE &&
		event != XACT_EVENT_PARALLEL_COMMIT && event != XACT_EVENT_PARALLEL_ABORT)
		return;
	memo.entry = NULL;
	distil_cache_unshare();
	for (entry = entries; entry != NULL; entry = entry->next)
	{
		n++;
		if (entry->open.session == NULL)
			continue;
		if (entry->memory > DISTIL_DEFAULT_MEMORY_KB)
			close_session(entry);
		else if (distil_session_used(entry->open.session) > KEPT_SCRATCH)
			distil_session_rest(entry->open.session);
	}
	while (n > OPEN_MODELS)
	{
		CacheEntry **oldest = &entries;
		CacheEntry **link;

		for (link = &entries; *link != NULL; link = &(*link)->next)
			if ((*link)->last_used < (*oldest)->last_used)
				oldest = link;
		entry = *oldest;
		*oldest = entry->next;
		close_entry(entry);
		n--;
	}
}

static Layouts
session_layouts(void)
{
	DistilDevice *device = distil_precision == DISTIL_PRECISION_FLOAT32 ? NULL : distil_bridge_device();
	Layouts		layouts;

	layouts.plain = distil_image_layout(distil_precision, device);
	layouts.quantized = distil_quantized_layout(distil_precision, device);
	return layouts;
}

/* Not yet on the list of this backend's open models. */
static CacheEntry *
open_entry(const DistilModelRow *row, const char *layout)
{
	static bool registered = false;
	MemoryContext context;
	CacheEntry *entry;
	DistilStatus status;
	DistilError err;

	if (!registered)
		RegisterXactCallback(at_transaction_end, NULL);
	registered = true;
	context = AllocSetContextCreate(TopMemoryContext, "distil model", ALLOCSET_DEFAULT_SIZES);
	PG_TRY();
	{
		entry = MemoryContextAllocZero(context, sizeof(CacheEntry));
		entry->context = context;
		entry->mapping.fd = -1;
		entry->alloc = distil_bridge_allocator(context);
		strlcpy(entry->open.name, row->name, NAMEDATALEN);
		memcpy(entry->open.sha256, row->sha256, 32);
		entry->open.layout = layout;
		distil_cache_file_map(&entry->mapping, row, layout);
	}
	PG_CATCH();
	{
		MemoryContextDelete(context);
		PG_RE_THROW();
	}
	PG_END_TRY();
	status = distil_model_open(&entry->open.model, entry->mapping.image, entry->mapping.size, row->sha256,
							   entry->alloc, &err);
	if (status != DISTIL_OK)
	{
		distil_cache_file_unmap(&entry->mapping);
		MemoryContextDelete(context);
		distil_bridge_check(status, &err);
	}
	entry->open.info = distil_model_info(entry->open.model);
	return entry;
}

static void
need_session(CacheEntry *entry)
{
	DistilDevice *device;
	DistilSession *session = NULL;
	DistilError err;

	if (entry->open.session != NULL && entry->isa == distil_isa && entry->memory == distil_memory)
		return;
	close_session(entry);
	device = distil_bridge_device();
	distil_bridge_check(distil_session_create(&session, entry->open.model, device,
											  (size_t) distil_memory * 1024, entry->alloc,
											  distil_bridge_poll(), &err), &err);
	entry->open.session = session;
	entry->isa = distil_isa;
	entry->memory = distil_memory;
}

/* ---------- looking up ---------- */

/* What the result of a lookup depends on. */
static void
fill_memo(Memo *key, const char *name, Layouts layouts)
{
	Snapshot	snapshot = GetActiveSnapshot();

	memset(key, 0, sizeof(*key));
	key->is_default = name == NULL;
	if (name != NULL)
		strlcpy(key->name, name, NAMEDATALEN);
	else if (distil_default_model != NULL)
		strlcpy(key->setting, distil_default_model, NAMEDATALEN);
	key->layouts = layouts;
	key->user = GetUserId();
	key->transaction = DISTIL_LXID;
	key->subtransaction = GetCurrentSubTransactionId();
	key->xmin = snapshot->xmin;
	key->xmax = snapshot->xmax;
	key->xcnt = snapshot->xcnt;
	key->subxcnt = snapshot->subxcnt;
	key->command = snapshot->curcid;
	key->now = GetCurrentCommandId(false);
}

/* Is the last lookup the one of key? */
static bool
is_remembered(Memo key)
{
	key.entry = memo.entry;
	if (key.layouts.plain == NULL)
		key.layouts = memo.layouts;
	return memo.entry != NULL && memcmp(&key, &memo, sizeof(Memo)) == 0;
}

static bool
is_of(const CacheEntry *entry, const DistilModelRow *row)
{
	return strcmp(entry->open.name, row->name) == 0 && memcmp(entry->open.sha256, row->sha256, 32) == 0;
}

/* layouts of NULL: any, that of the session when it has to be opened */
static CacheEntry *
get_entry(const char *name, Layouts layouts)
{
	CacheEntry *entry = memo.entry;
	DistilModelRow row;
	Memo		key;

	if (name != NULL && strlen(name) >= NAMEDATALEN)
		distil_store_unknown(name);
	fill_memo(&key, name, layouts);
	if (!is_remembered(key))
	{
		const char *layout;

		distil_store_lookup(&row, name);
		layout = row.quantized ? layouts.quantized : layouts.plain;
		for (entry = entries; entry != NULL; entry = entry->next)
			if (is_of(entry, &row) && (layout == NULL || strcmp(entry->open.layout, layout) == 0))
				break;
		if (entry == NULL)
		{
			if (layout == NULL)
				layout = row.quantized ? session_layouts().quantized : session_layouts().plain;
			entry = open_entry(&row, layout);
			entry->next = entries;
			entries = entry;
		}
		key.entry = entry;
		memo = key;
	}
	entry->last_used = ++use_counter;
	return entry;
}

DistilOpenModel *
distil_cache_get(const char *name)
{
	CacheEntry *entry = get_entry(name, session_layouts());

	need_session(entry);
	return &entry->open;
}

DistilOpenModel *
distil_cache_get_float32(const char *name)
{
	Layouts		layouts;
	CacheEntry *entry;

	layouts.plain = distil_image_layout(DISTIL_PRECISION_FLOAT32, NULL);
	layouts.quantized = distil_quantized_layout(DISTIL_PRECISION_FLOAT32, NULL);
	entry = get_entry(name, layouts);
	need_session(entry);
	return &entry->open;
}

DistilOpenModel *
distil_cache_get_tokenizer(const char *name)
{
	Layouts		any = {NULL, NULL};

	return &get_entry(name, any)->open;
}

DistilOpenModel *
distil_cache_open(const char *name)
{
	DistilModelRow row;

	distil_store_lookup(&row, name);
	return &open_entry(&row, distil_image_layout(DISTIL_PRECISION_FLOAT32, NULL))->open;
}

void
distil_cache_close(DistilOpenModel *open)
{
	if (open != NULL)
		close_entry((CacheEntry *) open);
}

const char *
distil_cache_layout(const DistilModelRow *row, bool used)
{
	const CacheEntry *last = NULL;
	const CacheEntry *entry;

	for (entry = entries; used && entry != NULL; entry = entry->next)
		if (is_of(entry, row) && (last == NULL || entry->last_used > last->last_used))
			last = entry;
	if (last != NULL)
		return last->open.layout;
	return row->quantized ? session_layouts().quantized : session_layouts().plain;
}

const void *
distil_cache_image(const DistilOpenModel *open, size_t *size)
{
	const CacheEntry *entry = (const CacheEntry *) open;

	*size = entry->mapping.size;
	return entry->mapping.image;
}

void
distil_cache_stats(DistilSessionStats *total)
{
	CacheEntry *entry;

	*total = closed_stats;
	for (entry = entries; entry != NULL; entry = entry->next)
		if (entry->open.session != NULL)
			add_stats(total, entry->open.session);
}
