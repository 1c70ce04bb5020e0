/*
 * sql_export.c
 *		distil_export: the model's folder again, on the server's disk or as large objects.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "libpq/be-fsstubs.h"
#include "libpq/libpq-fs.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "bridge.h"
#include "model_store.h"
#include "model_weights.h"
#include "sql_args.h"

#define EXPORT_CHUNK (1024 * 1024)
/* Exported folders and files may be read by everyone, as those of COPY TO. */
#define FOLDER_MODE (S_IRWXU | S_IRGRP | S_IXGRP | S_IROTH | S_IXOTH)
#define FILE_MODE (S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH)

PG_FUNCTION_INFO_V1(distil_export);
PG_FUNCTION_INFO_V1(distil_export_objects);

/* A stored model opened as a folder. */
typedef struct Export
{
	DistilReader *container;
	DistilBundle *bundle;
	const DistilFolder *folder;
} Export;

static void
open_export(Export *export, const char *name)
{
	DistilModelRow row;
	DistilError err;

	distil_store_lookup(&row, name);
	distil_weights_check(&row);
	export->container = distil_store_open(row.weights, row.bytes);
	distil_bridge_check(distil_bundle_open(&export->bundle, export->container,
										   distil_bridge_allocator(CurrentMemoryContext), &err), &err);
	export->folder = distil_bundle_folder(export->bundle);
}

static void
close_export(Export *export)
{
	distil_bundle_free(export->bundle);
	distil_store_close(export->container);
}

/* Next piece of a file. */
static size_t
read_piece(const DistilFile *file, uint64 offset, char *buffer)
{
	size_t		bytes = Min(file->reader.size - offset, (uint64_t) EXPORT_CHUNK);
	DistilError err;

	CHECK_FOR_INTERRUPTS();
	distil_bridge_check(file->reader.read(file->reader.ctx, offset, buffer, bytes, &err), &err);
	return bytes;
}

/* ---------- on the server's disk ---------- */

static void
write_piece(int fd, const char *path, const char *buffer, size_t bytes)
{
	while (bytes > 0)
	{
		ssize_t		n;

		errno = 0;
		n = write(fd, buffer, bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (errno == 0)
				errno = ENOSPC;
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not write file \"%s\": %m", path)));
		}
		buffer += n;
		bytes -= n;
	}
}

/* An existing folder will do. */
static void
make_folder(const char *path)
{
	mode_t		mask = umask(S_IWGRP | S_IWOTH);
	int			result = mkdir(path, FOLDER_MODE);
	int			error = errno;

	umask(mask);
	errno = error;
	if (result != 0 && errno != EEXIST)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", path)));
}

/* A new file, open for writing. */
static int
create_file(const char *path)
{
	mode_t		mask = umask(S_IWGRP | S_IWOTH);
	volatile int fd = -1;

	PG_TRY();
	{
		fd = OpenTransientFilePerm(path, O_CREAT | O_EXCL | O_WRONLY | PG_BINARY, FILE_MODE);
	}
	PG_FINALLY();
	{
		int			error = errno;

		umask(mask);
		errno = error;
	}
	PG_END_TRY();
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", path)));
	return fd;
}

/* Folders that lead to the file, below `path`. */
static void
make_parents(const char *path, const char *name)
{
	const char *slash = name;

	while ((slash = strchr(slash, '/')) != NULL)
	{
		make_folder(psprintf("%s/%.*s", path, (int) (slash - name), name));
		slash++;
	}
}

/* The name of the new file is appended to *created. */
static void
write_file(const char *path, const DistilFile *file, List **created)
{
	char	   *full = psprintf("%s/%s", path, file->name);
	char	   *buffer = palloc(EXPORT_CHUNK);
	uint64		offset;
	int			fd;

	distil_args_check_file_name(file->name);
	make_parents(path, file->name);
	fd = create_file(full);
	*created = lappend(*created, full);
	for (offset = 0; offset < file->reader.size;)
	{
		size_t		bytes = read_piece(file, offset, buffer);

		write_piece(fd, full, buffer, bytes);
		offset += bytes;
	}
	if (pg_fsync(fd) != 0 || CloseTransientFile(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", full)));
	pfree(buffer);
}

/* distil_export(name, path): an existing file is never overwritten; an error leaves no new file. */
Datum
distil_export(PG_FUNCTION_ARGS)
{
	char	   *name = distil_args_string(fcinfo, 0, "name");
	char	   *path = distil_args_string(fcinfo, 1, "path");
	Export		export;
	List	  **created = palloc0(sizeof(List *));
	ListCell   *cell;
	int			i;

	if (!has_privs_of_role(GetUserId(), ROLE_PG_WRITE_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to export model \"%s\" to a folder of the server",
						distil_bridge_clip(name)),
				 errdetail("Only roles with privileges of role \"pg_write_server_files\" may do so."),
				 errhint("distil_export(%s) gives large objects for \\lo_export.",
						 quote_literal_cstr(distil_bridge_clip(name)))));
	if (!is_absolute_path(path))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("path \"%s\" for model \"%s\" is not absolute", distil_bridge_clip(path),
						distil_bridge_clip(name))));
	open_export(&export, name);
	make_folder(path);
	PG_TRY();
	{
		for (i = 0; i < export.folder->nfiles; i++)
			write_file(path, &export.folder->files[i], created);
	}
	PG_CATCH();
	{
		foreach(cell, *created)
			unlink(lfirst(cell));
		PG_RE_THROW();
	}
	PG_END_TRY();
	close_export(&export);
	PG_RETURN_VOID();
}

/* ---------- as large objects ---------- */

static Oid
write_object(const DistilFile *file)
{
	Oid			object = DatumGetObjectId(DirectFunctionCall1(be_lo_create, ObjectIdGetDatum(InvalidOid)));
	int			fd = DatumGetInt32(DirectFunctionCall2(be_lo_open, ObjectIdGetDatum(object),
													   Int32GetDatum(INV_WRITE)));
	char	   *buffer = palloc(EXPORT_CHUNK);
	uint64		offset;

	for (offset = 0; offset < file->reader.size;)
	{
		size_t		bytes = read_piece(file, offset, buffer);

		if (lo_write(fd, buffer, (int) bytes) != (int) bytes)
			elog(ERROR, "could not write large object %u", object);
		offset += bytes;
	}
	DirectFunctionCall1(be_lo_close, Int32GetDatum(fd));
	pfree(buffer);
	return object;
}

/* distil_export(name) */
Datum
distil_export_objects(PG_FUNCTION_ARGS)
{
	char	   *name = distil_args_string(fcinfo, 0, "name");
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Export		export;
	int			i;

	PreventCommandIfReadOnly("distil_export()");
	InitMaterializedSRF(fcinfo, 0);
	open_export(&export, name);
	for (i = 0; i < export.folder->nfiles; i++)
	{
		const DistilFile *file = &export.folder->files[i];
		Datum		values[2];
		bool		nulls[2] = {false};

		distil_args_check_file_name(file->name);
		values[0] = distil_bridge_datum(file->name, strlen(file->name));
		values[1] = ObjectIdGetDatum(write_object(file));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	close_export(&export);
	return (Datum) 0;
}
