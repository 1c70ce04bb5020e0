/*
 * train_files.c
 *		Files of a training job: written once through a sink, read by mapping.
 *
 * The rule a newcomer would break: no ereport(ERROR), not even by way of fd.c's checked
 * calls; the frames of the engine are between here and whoever would catch it.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "storage/fd.h"

#include "train_files.h"

static DistilStatus
fail(DistilError *err, const char *what, const char *path)
{
	int			code = errno;
	bool		full = code == ENOSPC || code == EDQUOT;

	snprintf(err->message, sizeof(err->message), "could not %s file \"%s\": %s", what, path, strerror(code));
	err->detail[0] = '\0';
	snprintf(err->hint, sizeof(err->hint), "%s",
			 full ? "Free space on the file system of the data directory, then call distil_resume()." : "");
	return full ? DISTIL_ERR_DISK_FULL : DISTIL_ERR_IO;
}

static DistilStatus
write_all(DistilFileSink *file, const char *data, size_t bytes, DistilError *err)
{
	while (bytes > 0)
	{
		ssize_t		written;

		errno = 0;
		written = write(file->fd, data, Min(bytes, (size_t) 1 << 30));
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
		{
			if (errno == 0)
				errno = ENOSPC;
			return fail(err, "write", file->path);
		}
		data += written;
		bytes -= written;
	}
	return DISTIL_OK;
}

static DistilStatus
flush(DistilFileSink *file, DistilError *err)
{
	size_t		used = file->used;

	file->used = 0;
	return write_all(file, file->buffer, used, err);
}

static DistilStatus
sink_write(void *ctx, const void *data, size_t bytes, DistilError *err)
{
	DistilFileSink *file = ctx;
	DistilStatus status;

	if (file->used + bytes > sizeof(file->buffer))
	{
		status = flush(file, err);
		if (status != DISTIL_OK)
			return status;
	}
	if (bytes > sizeof(file->buffer))
		return write_all(file, data, bytes, err);
	memcpy(file->buffer + file->used, data, bytes);
	file->used += bytes;
	return DISTIL_OK;
}

DistilStatus
distil_file_sink_open(DistilFileSink *file, const char *path, DistilError *err)
{
	file->sink.write = sink_write;
	file->sink.ctx = file;
	file->used = 0;
	strlcpy(file->path, path, sizeof(file->path));
	(void) unlink(path);
	file->fd = BasicOpenFilePerm(path, O_WRONLY | O_CREAT | O_EXCL | PG_BINARY, pg_file_create_mode);
	return file->fd < 0 ? fail(err, "create", path) : DISTIL_OK;
}

DistilStatus
distil_file_sink_finish(DistilFileSink *file, const char *final_path, DistilError *err)
{
	DistilStatus status = flush(file, err);

	if (status == DISTIL_OK && pg_fsync(file->fd) != 0)
		status = fail(err, "fsync", file->path);
	if (status == DISTIL_OK)
	{
		int			fd = file->fd;

		file->fd = -1;
		if (close(fd) != 0 || durable_rename(file->path, final_path, LOG) != 0)
			status = fail(err, "rename", file->path);
		if (status != DISTIL_OK)
			unlink(file->path);
	}
	else
		distil_file_sink_discard(file);
	return status;
}

void
distil_file_sink_discard(DistilFileSink *file)
{
	if (file->fd < 0)
		return;
	close(file->fd);
	file->fd = -1;
	unlink(file->path);
}

const void *
distil_file_map(const char *path, size_t *size)
{
	int			fd = BasicOpenFilePerm(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | PG_BINARY, 0);
	struct stat info;
	void	   *data = MAP_FAILED;
	int			saved;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0)
		data = mmap(NULL, info.st_size, PROT_READ, MAP_SHARED, fd, 0);
	else
		errno = EINVAL;
	saved = errno;
	close(fd);
	errno = saved;
	if (data == MAP_FAILED)
		return NULL;
	*size = info.st_size;
	return data;
}

void
distil_file_unmap(const void *data, size_t size)
{
	if (data != NULL)
		munmap((void *) data, size);
}
