/*
 * cache_file.c
 *		Shared copies of models: content-addressed files that all processes map read-only.
 *
 * $PGDATA/pgsql_tmp_distil/<sha256 of the container>.<layout>, a file for each layout
 * that a session needed: names that begin with
 * pgsql_tmp are left out of base backups, and the server empties only base/pgsql_tmp at
 * start, so the copies survive a restart.  A file is written as tmp.<pid>, synced and
 * renamed; it is never changed afterwards, and anyone may remove it at any time: who has
 * it mapped keeps it, who needs it builds it again.
 *
 * Locks.  An advisory lock of no database (see lock_build) lets one process build while
 * others wait; two builders would be harmless.  flock(LOCK_SH) on the open file says
 * that a process has it mapped, so that cleaning leaves it alone.
 *
 * The rule a newcomer would break: nothing may throw between opening a file and
 * handing its descriptor to the mapping.
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/lock.h"
#include "utils/memutils.h"

#include "bridge.h"
#include "cache_file.h"
#include "guc.h"
#include "model_cache.h"
#include "model_weights.h"

/* The image is written in pieces of this size. */
#define FILE_CHUNK (256 * 1024)
#define HEX_LENGTH 64
/* 4th field of the advisory lock's tag, which users' own locks (1 and 2) never have. */
#define LOCK_CLASS_BUILD 0x6469

static int64 builds = 0;

int64
distil_cache_builds(void)
{
	return builds;
}

void
distil_cache_directory(void)
{
	if (MakePGDirectory(DISTIL_CACHE_DIR) < 0 && errno != EEXIST)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", DISTIL_CACHE_DIR)));
}

static void
make_hex(char hex[HEX_LENGTH + 1], const uint8 sha256[32])
{
	int			i;

	for (i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", sha256[i]);
}

/* ---------- mapping ---------- */

/* How a copy is opened: a link or pipe that has its name is neither followed nor waited for. */
#define COPY_FLAGS (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | PG_BINARY)

/* Map a file as it is; false (with errno) when it is not there or cannot be mapped.  Never throws. */
static bool
map_file(DistilMapping *mapping, const char *path)
{
	struct stat info;
	int			saved;

	mapping->fd = BasicOpenFile(path, COPY_FLAGS);
	if (mapping->fd < 0)
		return false;
	if (fstat(mapping->fd, &info) == 0 && S_ISREG(info.st_mode))
	{
		mapping->size = (size_t) info.st_size;
		(void) flock(mapping->fd, LOCK_SH | LOCK_NB);
		(void) futimens(mapping->fd, NULL); /* newest use, for the order of removal */
		mapping->image = info.st_size == 0 ? MAP_FAILED
			: mmap(NULL, mapping->size, PROT_READ, MAP_SHARED, mapping->fd, 0);
		if (mapping->image != MAP_FAILED)
		{
			ReserveExternalFD();
			return true;
		}
		if (info.st_size == 0)
			errno = EINVAL;
	}
	else
		errno = EINVAL;
	saved = errno;
	close(mapping->fd);
	mapping->fd = -1;
	errno = saved;
	return false;
}

void
distil_cache_file_unmap(DistilMapping *mapping)
{
	if (mapping->image != NULL)
		munmap(mapping->image, mapping->size);
	if (mapping->fd >= 0)
	{
		close(mapping->fd);
		ReleaseExternalFD();
	}
	mapping->image = NULL;
	mapping->fd = -1;
}

/* Is the mapping the image of this model?  Header only: no weight is touched. */
static bool
mapping_is_good(const DistilMapping *mapping, const DistilModelRow *row)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "distil image check",
												  ALLOCSET_DEFAULT_SIZES);
	DistilModel *model = NULL;
	DistilError err;
	bool		good;

	good = distil_model_open(&model, mapping->image, mapping->size, row->sha256,
							 distil_bridge_allocator(context), &err) == DISTIL_OK;
	if (good)
		distil_model_free(model);
	else
		elog(DEBUG1, "mapped copy of model \"%s\" is not usable: %s", row->name, err.message);
	MemoryContextDelete(context);
	return good;
}

/* ---------- building ---------- */

typedef struct FileSink
{
	int			fd;
	int			error;			/* errno of the write that failed, 0: none */
	size_t		used;
	char	   *buffer;			/* [FILE_CHUNK] */
} FileSink;

static bool
file_flush(FileSink *sink)
{
	size_t		done = 0;

	while (done < sink->used)
	{
		ssize_t		n;

		errno = 0;
		n = write(sink->fd, sink->buffer + done, sink->used - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			sink->error = errno != 0 ? errno : ENOSPC;
			return false;
		}
		done += n;
	}
	sink->used = 0;
	return true;
}

static DistilStatus
file_write(void *ctx, const void *data, size_t bytes, DistilError *err)
{
	FileSink   *sink = ctx;

	while (bytes > 0)
	{
		size_t		part = Min(bytes, FILE_CHUNK - sink->used);

		memcpy(sink->buffer + sink->used, data, part);
		sink->used += part;
		data = (const char *) data + part;
		bytes -= part;
		if (sink->used == FILE_CHUNK && !file_flush(sink))
		{
			snprintf(err->message, sizeof(err->message), "the shared copy of the model cannot be written");
			err->detail[0] = err->hint[0] = '\0';
			return sink->error == ENOSPC ? DISTIL_ERR_DISK_FULL : DISTIL_ERR_IO;
		}
	}
	return DISTIL_OK;
}

/* Stream the image of a model; what fails for another reason than the sink throws. */
static bool
write_image(const DistilModelRow *row, const char *layout, const DistilSink *sink, const int *sink_error)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "distil image",
												  ALLOCSET_DEFAULT_SIZES);
	DistilReader *reader = distil_store_open(row->weights, row->bytes);
	DistilStatus status;
	DistilError err;

	status = distil_image_write(layout, reader, row->sha256, sink, distil_bridge_allocator(context),
								distil_bridge_poll(), &err);
	if (status != DISTIL_OK && *sink_error == 0)
		distil_bridge_check(status, &err);
	distil_store_close(reader);
	MemoryContextDelete(context);
	return status == DISTIL_OK;
}

/* Write the shared copy; false with errno when the disk does not take it. */
static bool
build_file(const DistilModelRow *row, const char *layout, const char *path)
{
	char		temporary[MAXPGPATH];
	FileSink	sink = {-1, 0, 0, NULL};
	DistilSink	target = {file_write, &sink};
	volatile bool done = false;

	if (MakePGDirectory(DISTIL_CACHE_DIR) < 0 && errno != EEXIST)
		return false;
	snprintf(temporary, sizeof(temporary), "%s/tmp.%d", DISTIL_CACHE_DIR, MyProcPid);
	(void) unlink(temporary);
	sink.fd = OpenTransientFile(temporary, O_CREAT | O_EXCL | O_WRONLY | PG_BINARY);
	if (sink.fd < 0)
		return false;
	PG_TRY();
	{
		sink.buffer = palloc(FILE_CHUNK);
		done = write_image(row, layout, &target, &sink.error) && file_flush(&sink);
		if (done && pg_fsync(sink.fd) != 0)
		{
			sink.error = errno;
			done = false;
		}
		pfree(sink.buffer);
	}
	PG_CATCH();
	{
		unlink(temporary);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (CloseTransientFile(sink.fd) != 0 && done)
	{
		sink.error = errno;
		done = false;
	}
	if (done && durable_rename(temporary, path, LOG) != 0)
	{
		sink.error = errno;
		done = false;
	}
	if (!done)
	{
		unlink(temporary);
		errno = sink.error;
		return false;
	}
	builds++;
	return true;
}

/* A sink into memory: without memory it only counts. */
typedef struct MemorySink
{
	char	   *memory;
	size_t		size;
	size_t		used;
	int			error;			/* never set: whatever fails is thrown */
} MemorySink;

static DistilStatus
memory_write(void *ctx, const void *data, size_t bytes, DistilError *err)
{
	MemorySink *sink = ctx;

	if (sink->memory != NULL)
	{
		if (bytes > sink->size - sink->used)
		{
			snprintf(err->message, sizeof(err->message), "the image of the model changed its size");
			err->detail[0] = err->hint[0] = '\0';
			return DISTIL_ERR_CORRUPT;
		}
		memcpy(sink->memory + sink->used, data, bytes);
	}
	sink->used += bytes;
	return DISTIL_OK;
}

/* The image in memory of this process alone: one pass counts, one writes. */
static void
build_private(DistilMapping *mapping, const DistilModelRow *row, const char *layout)
{
	MemorySink	sink = {NULL, 0, 0, 0};
	DistilSink	target = {memory_write, &sink};

	write_image(row, layout, &target, &sink.error);
	sink.size = sink.used;
	sink.used = 0;
	sink.memory = mmap(NULL, sink.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sink.memory == MAP_FAILED)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("A private copy of model \"%s\" needs %zu bytes.", row->name, sink.size)));
	PG_TRY();
	{
		write_image(row, layout, &target, &sink.error);
	}
	PG_CATCH();
	{
		munmap(sink.memory, sink.size);
		PG_RE_THROW();
	}
	PG_END_TRY();
	(void) mprotect(sink.memory, sink.size, PROT_READ);
	mapping->image = sink.memory;
	mapping->size = sink.size;
	mapping->fd = -1;
}

/* One process builds a copy at a time; waiting is interruptible, and allowed on a standby. */
static void
lock_build(LOCKTAG *tag, const DistilModelRow *row)
{
	uint32		key[2];

	memcpy(key, row->sha256, sizeof(key));
	SET_LOCKTAG_ADVISORY(*tag, InvalidOid, key[0], key[1], LOCK_CLASS_BUILD);
	(void) LockAcquire(tag, ExclusiveLock, false, false);
}

static bool
map_good_file(DistilMapping *mapping, const DistilModelRow *row, const char *path)
{
	bool		good = false;

	if (!map_file(mapping, path))
		return false;
	PG_TRY();
	{
		good = mapping_is_good(mapping, row);
	}
	PG_CATCH();
	{
		distil_cache_file_unmap(mapping);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (!good)
		distil_cache_file_unmap(mapping);
	return good;
}

static void
make_path(char path[MAXPGPATH], const uint8 sha256[32], const char *layout)
{
	char		hex[HEX_LENGTH + 1];

	make_hex(hex, sha256);
	snprintf(path, MAXPGPATH, "%s/%s.%s", DISTIL_CACHE_DIR, hex, layout);
}

bool
distil_cache_file_find(DistilMapping *mapping, const uint8 sha256[32], const char *layout)
{
	char		path[MAXPGPATH];

	mapping->image = NULL;
	make_path(path, sha256, layout);
	return map_file(mapping, path);
}

void
distil_cache_file_map(DistilMapping *mapping, const DistilModelRow *row, const char *layout)
{
	static bool warned = false;
	char		path[MAXPGPATH];
	LOCKTAG		tag;

	mapping->image = NULL;
	mapping->fd = -1;
	make_path(path, row->sha256, layout);
	if (map_good_file(mapping, row, path))
		return;
	lock_build(&tag, row);
	if (!map_good_file(mapping, row, path))
	{
		distil_weights_check(row);
		(void) unlink(path);
		if (!build_file(row, layout, path) || !map_file(mapping, path))
		{
			int			error = errno;

			if (!warned)
			{
				errno = error;
				ereport(WARNING,
						(errcode_for_file_access(),
						 errmsg("could not write the shared copy of model \"%s\": %m", row->name),
						 errdetail("This session uses a private copy."),
						 error == ENOSPC || error == EDQUOT
						 ? errhint("Make room for directory \"%s\" in the data directory.", DISTIL_CACHE_DIR)
						 : errhint("The server must be able to write to directory \"%s\" in the data "
								   "directory.", DISTIL_CACHE_DIR)));
			}
			warned = true;
			build_private(mapping, row, layout);
		}
		else
			distil_cache_trim();
	}
	LockRelease(&tag, ExclusiveLock, false);
}

/* ---------- listing and removing ---------- */

typedef struct CacheFile
{
	char		path[MAXPGPATH];
	char		hex[HEX_LENGTH + 1];
	int64		bytes;
	struct timespec used;
} CacheFile;

static bool
is_copy(const char *name)
{
	return strspn(name, "0123456789abcdef") == HEX_LENGTH && name[HEX_LENGTH] == '.';
}

/* A file of a builder that is gone. */
static bool
is_leftover(const char *name)
{
	int			pid;

	if (strncmp(name, "tmp.", 4) != 0 || strspn(name + 4, "0123456789") != strlen(name + 4))
		return false;
	pid = atoi(name + 4);
	return pid > 0 && pid != MyProcPid && kill(pid, 0) != 0 && errno == ESRCH;
}

static int
compare_use(const void *a, const void *b)
{
	const struct timespec *x = &((const CacheFile *) a)->used;
	const struct timespec *y = &((const CacheFile *) b)->used;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return x->tv_nsec < y->tv_nsec ? -1 : x->tv_nsec > y->tv_nsec ? 1 : 0;
}

/* All shared copies, the least recently used first; files of dead builders are removed on the way. */
static CacheFile *
list_files(int *nfiles)
{
	int			capacity = 16;
	CacheFile  *files = palloc(capacity * sizeof(CacheFile));
	DIR		   *dir = AllocateDir(DISTIL_CACHE_DIR);
	struct dirent *entry;

	*nfiles = 0;
	if (dir == NULL)
		return files;
	while ((entry = ReadDirExtended(dir, DISTIL_CACHE_DIR, LOG)) != NULL)
	{
		CacheFile  *file;
		struct stat info;

		if (*nfiles == capacity)
		{
			capacity *= 2;
			files = repalloc(files, capacity * sizeof(CacheFile));
		}
		file = &files[*nfiles];
		snprintf(file->path, MAXPGPATH, "%s/%s", DISTIL_CACHE_DIR, entry->d_name);
		if (is_leftover(entry->d_name))
			(void) unlink(file->path);
		else if (is_copy(entry->d_name) && lstat(file->path, &info) == 0 && S_ISREG(info.st_mode))
		{
			strlcpy(file->hex, entry->d_name, sizeof(file->hex));
			file->bytes = info.st_size;
			file->used = info.st_mtim;
			(*nfiles)++;
		}
	}
	FreeDir(dir);
	qsort(files, *nfiles, sizeof(CacheFile), compare_use);
	return files;
}

/* Remove a copy nobody has open. */
static bool
remove_unused(const CacheFile *file)
{
	int			fd = OpenTransientFile(file->path, COPY_FLAGS);
	bool		removed = false;

	if (fd < 0)
		return false;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		removed = unlink(file->path) == 0;
	CloseTransientFile(fd);
	return removed;
}

void
distil_cache_trim(void)
{
	int			nfiles;
	CacheFile  *files = list_files(&nfiles);
	int64		limit = (int64) distil_cache_size * 1024 * 1024;
	int64		total = 0;
	int			i;

	for (i = 0; i < nfiles; i++)
		total += files[i].bytes;
	for (i = 0; i < nfiles && total > limit; i++)
		if (remove_unused(&files[i]))
			total -= files[i].bytes;
	pfree(files);
}

int64
distil_cache_clear_files(void)
{
	int			nfiles;
	CacheFile  *files = list_files(&nfiles);
	int64		freed = 0;
	int			i;

	for (i = 0; i < nfiles; i++)
		if (remove_unused(&files[i]))
			freed += files[i].bytes;
	pfree(files);
	return freed;
}

/* Bytes of a file that are in memory. */
static int64
resident_bytes(const char *path)
{
	const size_t page = (size_t) sysconf(_SC_PAGESIZE);
	struct stat info;
	unsigned char *pages;
	size_t		npages;
	size_t		i;
	void	   *image;
	int64		resident = 0;
	int			fd;

	fd = OpenTransientFile(path, COPY_FLAGS);
	if (fd < 0)
		return 0;
	if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0)
	{
		npages = ((size_t) info.st_size + page - 1) / page;
		pages = MemoryContextAllocHuge(CurrentMemoryContext, npages);
		image = mmap(NULL, (size_t) info.st_size, PROT_READ, MAP_SHARED, fd, 0);
		if (image != MAP_FAILED)
		{
			if (mincore(image, (size_t) info.st_size, pages) == 0)
				for (i = 0; i < npages; i++)
					if (pages[i] & 1)
						resident += (int64) page;
			munmap(image, (size_t) info.st_size);
		}
		pfree(pages);
		resident = Min(resident, (int64) info.st_size);
	}
	CloseTransientFile(fd);
	return resident;
}

int64
distil_cache_resident(const uint8 sha256[32])
{
	char		hex[HEX_LENGTH + 1];
	int			nfiles;
	CacheFile  *files = list_files(&nfiles);
	int64		resident = 0;
	int			i;

	make_hex(hex, sha256);
	for (i = 0; i < nfiles; i++)
		if (strcmp(files[i].hex, hex) == 0)
			resident += resident_bytes(files[i].path);
	pfree(files);
	return resident;
}
