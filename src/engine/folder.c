/*
 * folder.c
 *		Small helpers over a DistilFolder, and a folder on disk for tests and tools.
 *
 * The rule a newcomer would break: names inside model files (index.json,
 * modules.json) are only ever looked up in the folder's list, never opened as
 * paths, so "../../etc/passwd" is simply a file that is not there.
 */
#include "folder.h"

#include "status.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const DistilFile *
distil_folder_find(const DistilFolder *folder, const char *name)
{
	for (int i = 0; i < folder->nfiles; i++)
		if (strcmp(folder->files[i].name, name) == 0)
			return &folder->files[i];
	return NULL;
}

DistilStatus
distil_folder_read(const DistilFolder *folder, const char *name, size_t limit,
				   char **data, size_t *length, const DistilAllocator *alloc, DistilError *err)
{
	const DistilFile *file = distil_folder_find(folder, name);
	char		shown[100];
	char	   *bytes;
	size_t		size;
	DistilStatus status;

	*data = NULL;
	*length = 0;
	distil_printable(shown, sizeof(shown), name, strlen(name));
	if (file == NULL)
		return distil_fail(err, DISTIL_ERR_NO_FILE, "model file \"%s\" is missing", shown);
	if (file->reader.size > limit)
	{
		distil_fail(err, DISTIL_ERR_LIMIT, "model file \"%s\" is too large", shown);
		return distil_fail_detail(err, DISTIL_ERR_LIMIT, "It has %llu bytes; the limit is %zu.",
								  (unsigned long long) file->reader.size, limit);
	}
	size = (size_t) file->reader.size;
	bytes = distil_alloc_array(alloc, size + 1, 1);
	if (bytes == NULL)
		return distil_fail_memory(err, size + 1);
	if (size > 0)
	{
		status = file->reader.read(file->reader.ctx, 0, bytes, size, err);
		if (status != DISTIL_OK)
		{
			distil_release(alloc, bytes);
			return status;
		}
	}
	*data = bytes;
	*length = size;
	return DISTIL_OK;
}

DistilStatus
distil_folder_json(const DistilFolder *folder, const char *name, bool required,
				   DistilJsonDoc **doc, const DistilAllocator *alloc, DistilError *err)
{
	char		shown[100];
	char		what[120];
	char	   *text;
	size_t		length;
	DistilStatus status;

	*doc = NULL;
	if (!required && distil_folder_find(folder, name) == NULL)
		return DISTIL_OK;
	DISTIL_FORWARD(distil_folder_read(folder, name, DISTIL_MAX_JSON_BYTES, &text, &length, alloc, err));
	distil_printable(shown, sizeof(shown), name, strlen(name));
	snprintf(what, sizeof(what), "file \"%s\"", shown);
	status = distil_json_parse(doc, text, length, what, alloc, err);
	distil_release(alloc, text);
	return status;
}

/* ---------- a folder on disk ---------- */

/* Allocation of distil_folder_open_disk: the folder comes first so that it is freed as one. */
typedef struct DiskFolder
{
	DistilFolder folder;
	DistilFile	files[DISTIL_MAX_FILES];
	char	   *names[DISTIL_MAX_FILES];
	int			descriptors[DISTIL_MAX_FILES];
	int			n;
} DiskFolder;

static DistilStatus
disk_read(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	int			fd = *(const int *) ctx;
	char	   *at = buffer;

	while (bytes > 0)
	{
		ssize_t		got = pread(fd, at, bytes, (off_t) offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return distil_fail(err, DISTIL_ERR_IO, "could not read a model file: %s",
							   got < 0 ? strerror(errno) : "it became shorter");
		at += got;
		offset += (uint64_t) got;
		bytes -= (size_t) got;
	}
	return DISTIL_OK;
}

static DistilStatus
disk_add(DiskFolder *disk, const char *path, const char *name, const DistilAllocator *alloc,
		 DistilError *err)
{
	struct stat info;
	int			i = disk->n;

	if (i == DISTIL_MAX_FILES)
		return distil_fail(err, DISTIL_ERR_LIMIT, "folder has more than %d files", DISTIL_MAX_FILES);
	disk->names[i] = distil_alloc_string(alloc, name, strlen(name));
	if (disk->names[i] == NULL)
		return distil_fail_memory(err, strlen(name) + 1);
	disk->descriptors[i] = open(path, O_RDONLY | O_CLOEXEC);
	disk->n++;
	if (disk->descriptors[i] < 0 || fstat(disk->descriptors[i], &info) != 0)
		return distil_fail(err, DISTIL_ERR_IO, "could not open file \"%s\": %s", path, strerror(errno));
	disk->files[i].name = disk->names[i];
	disk->files[i].reader.read = disk_read;
	disk->files[i].reader.ctx = &disk->descriptors[i];
	disk->files[i].reader.size = (uint64_t) info.st_size;
	return DISTIL_OK;
}

/* The files of one directory; `prefix` is "" at the top and "1_Pooling/" one level down. */
static DistilStatus
disk_scan(DiskFolder *disk, const char *path, const char *prefix, const DistilAllocator *alloc,
		  DistilError *err)
{
	DistilStatus status = DISTIL_OK;
	DIR		   *directory = opendir(path);
	struct dirent *entry;

	if (directory == NULL)
		return distil_fail(err, errno == ENOENT ? DISTIL_ERR_NO_FILE : DISTIL_ERR_IO,
						   "could not open folder \"%s\": %s", path, strerror(errno));
	while (status == DISTIL_OK && (entry = readdir(directory)) != NULL)
	{
		char		full[4096];
		char		name[512];
		struct stat info;

		if (entry->d_name[0] == '.')
			continue;
		if (snprintf(full, sizeof(full), "%s/%s", path, entry->d_name) >= (int) sizeof(full) ||
			snprintf(name, sizeof(name), "%s%s", prefix, entry->d_name) > DISTIL_MAX_NAME)
			status = distil_fail(err, DISTIL_ERR_LIMIT, "a file name in folder \"%s\" is too long, "
								 "the limit is %d bytes", path, DISTIL_MAX_NAME);
		else if (stat(full, &info) != 0)
			status = distil_fail(err, DISTIL_ERR_IO, "could not examine file \"%s\": %s", full,
								 strerror(errno));
		else if (S_ISREG(info.st_mode))
			status = disk_add(disk, full, name, alloc, err);
		else if (S_ISDIR(info.st_mode) && prefix[0] == '\0')
		{
			snprintf(name, sizeof(name), "%s/", entry->d_name);
			status = disk_scan(disk, full, name, alloc, err);
		}
	}
	closedir(directory);
	return status;
}

DistilStatus
distil_folder_open_disk(DistilFolder **folder, const char *path, const DistilAllocator *alloc,
						DistilError *err)
{
	DiskFolder *disk = distil_alloc_array(alloc, 1, sizeof(DiskFolder));
	DistilStatus status;

	*folder = NULL;
	if (disk == NULL)
		return distil_fail_memory(err, sizeof(DiskFolder));
	disk->folder.files = disk->files;
	status = disk_scan(disk, path, "", alloc, err);
	disk->folder.nfiles = disk->n;
	if (status != DISTIL_OK)
	{
		distil_folder_close_disk(&disk->folder, alloc);
		return status;
	}
	*folder = &disk->folder;
	return DISTIL_OK;
}

void
distil_folder_close_disk(DistilFolder *folder, const DistilAllocator *alloc)
{
	DiskFolder *disk = (DiskFolder *) folder;

	if (disk == NULL)
		return;
	for (int i = 0; i < disk->n; i++)
	{
		if (disk->descriptors[i] >= 0)
			close(disk->descriptors[i]);
		distil_release(alloc, disk->names[i]);
	}
	distil_release(alloc, disk);
}
