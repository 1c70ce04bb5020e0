/*
 * model_folder.c
 *		Model folders for an import: on the server's disk, or in large objects.
 *
 * A folder may be hostile: no file outside the list of known names is opened, opening
 * never blocks (pipes, devices), sizes are bounded by distil.max_model_size before a byte
 * is read, and names given by the user cannot leave the folder.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "bridge.h"
#include "guc.h"
#include "model_folder.h"
#include "model_store.h"
#include "sql_args.h"

/* modules.json is read before the engine sees it, to learn the module folders. */
#define MODULES_MAX_BYTES (1024 * 1024)
#define GIVE_FOLDER "Give the folder that holds config.json."

/* Files of a Hugging Face model.  pytorch_model.bin is named so that the engine can say how to convert it. */
static const char *const known_files[] = {
	"config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json",
	"pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack",
	"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
	"vocab.txt", "vocab.json", "merges.txt",
	"sentencepiece.bpe.model", "spiece.model", "tokenizer.model",
	"modules.json", "config_sentence_transformers.json", "sentence_bert_config.json",
	"sentence_roberta_config.json", "sentence_distilbert_config.json", "sentence_mpnet_config.json",
	"sentence_xlnet_config.json", "sentence_albert_config.json", "sentence_camembert_config.json",
	"sentence_xlm-roberta_config.json", "reference.json"
};

/* One open file, or one open large object. */
typedef struct FolderFile
{
	int			fd;				/* -1: a large object */
	DistilReader *object;
} FolderFile;

typedef struct OpenFolder
{
	DistilFolder folder;		/* first: what the caller sees */
	DistilFile	files[DISTIL_MAX_FILES];
	FolderFile	state[DISTIL_MAX_FILES];
	int64		bytes;
} OpenFolder;

/* ---------- common ---------- */

/* The slot for one more file of the given size. */
static int
add_file(OpenFolder *open, const char *name, int64 bytes)
{
	int64		limit = (int64) distil_max_model_size * 1024 * 1024;
	int			slot = open->folder.nfiles;

	if (slot == DISTIL_MAX_FILES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a model folder must not have more than %d files", DISTIL_MAX_FILES)));
	if (bytes > limit - open->bytes)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the model is larger than distil.max_model_size"),
				 errdetail("With file \"%s\" of " INT64_FORMAT " bytes it exceeds %d MB.",
						   name, bytes, distil_max_model_size)));
	open->bytes += bytes;
	open->files[slot].name = pstrdup(name);
	open->folder.nfiles++;
	return slot;
}

static OpenFolder *
make_folder(void)
{
	OpenFolder *open = palloc0(sizeof(OpenFolder));

	open->folder.files = open->files;
	return open;
}

/* The engine would say so too, but not where it is missing. */
static void
require_config(const OpenFolder *open, const char *detail, const char *hint)
{
	int			i;

	for (i = 0; i < open->folder.nfiles; i++)
		if (strcmp(open->files[i].name, "config.json") == 0)
			return;
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_FILE),
			 errmsg("model file \"config.json\" is missing"),
			 errdetail("%s", detail),
			 errhint("%s", hint)));
}

void
distil_folder_close(DistilFolder *folder)
{
	OpenFolder *open = (OpenFolder *) folder;
	int			i;

	if (open == NULL)
		return;
	for (i = 0; i < open->folder.nfiles; i++)
	{
		if (open->state[i].object != NULL)
			distil_store_close(open->state[i].object);
		else
			CloseTransientFile(open->state[i].fd);
	}
	pfree(open);
}

/* ---------- on the server's disk ---------- */

static DistilStatus
read_file(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	const FolderFile *file = ctx;

	err->message[0] = err->detail[0] = err->hint[0] = '\0';
	while (bytes > 0)
	{
		ssize_t		n = pread(file->fd, buffer, Min(bytes, (size_t) 1 << 24), (off_t) offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			snprintf(err->message, sizeof(err->message), "could not read a file of the model");
			snprintf(err->detail, sizeof(err->detail), "%s",
					 n < 0 ? strerror(errno) : "The file became shorter while it was read.");
			return DISTIL_ERR_IO;
		}
		buffer = (char *) buffer + n;
		offset += n;
		bytes -= n;
	}
	return DISTIL_OK;
}

/* Open path/name if it is there. */
static void
open_file(OpenFolder *open, const char *path, const char *name)
{
	char		full[MAXPGPATH];
	struct stat info;
	int			slot;
	int			fd;

	if (snprintf(full, sizeof(full), "%s/%s", path, name) >= (int) sizeof(full))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("path \"%s/%s\" is too long", distil_bridge_clip(path), name)));
	fd = OpenTransientFile(full, O_RDONLY | O_NONBLOCK | O_NOCTTY | PG_BINARY);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return;
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", full)));
	if (fstat(fd, &info) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", full)));
	if (!S_ISREG(info.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a regular file", full),
				 errhint("A model folder holds plain files, or links to them.")));
	slot = add_file(open, name, info.st_size);
	open->state[slot].fd = fd;
	open->files[slot].reader.read = read_file;
	open->files[slot].reader.ctx = &open->state[slot];
	open->files[slot].reader.size = (uint64_t) info.st_size;
}

/* Known names in `path`/`folder` (folder "" = the top). */
static void
open_known(OpenFolder *open, const char *path, const char *folder)
{
	size_t		i;

	for (i = 0; i < lengthof(known_files); i++)
		open_file(open, path, folder[0] == '\0' ? known_files[i] : psprintf("%s/%s", folder, known_files[i]));
}

/* Shards: model-00001-of-00005.safetensors. */
static void
open_shards(OpenFolder *open, const char *path)
{
	DIR		   *dir = AllocateDir(path);
	struct dirent *entry;

	while ((entry = ReadDir(dir, path)) != NULL)
	{
		size_t		length = strlen(entry->d_name);

		CHECK_FOR_INTERRUPTS();
		if (strncmp(entry->d_name, "model-", 6) == 0 && length > 18 &&
			strcmp(entry->d_name + length - 12, ".safetensors") == 0)
			open_file(open, path, entry->d_name);
	}
	FreeDir(dir);
}

/* The folders named in the text of a modules.json; throws what the server has to say about bad JSON. */
static List *
folders_of(const char *json)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *folders = NIL;
	Oid			types[1] = {TEXTOID};
	Datum		values[1];
	uint64		row;

	values[0] = distil_bridge_datum(json, strlen(json));
	SPI_connect();
	if (SPI_execute_with_args("SELECT DISTINCT p OPERATOR(pg_catalog.#>>) '{}' FROM "
							  "pg_catalog.jsonb_path_query($1::pg_catalog.jsonb, '$[*].path') p "
							  "WHERE pg_catalog.jsonb_typeof(p) OPERATOR(pg_catalog.=) 'string' ORDER BY 1",
							  1, types, values, NULL, true, DISTIL_MAX_FILES) < 0)
		elog(ERROR, "could not read modules.json");
	for (row = 0; row < SPI_processed; row++)
	{
		char	   *folder = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1);
		MemoryContext old = MemoryContextSwitchTo(context);

		if (folder[0] != '\0')
			folders = lappend(folders, pstrdup(folder));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return folders;
}

/* The folders that modules.json names. */
static List *
module_folders(const OpenFolder *open)
{
	const DistilReader *reader = NULL;
	MemoryContext context = CurrentMemoryContext;
	List	   *volatile folders = NIL;
	DistilError err;
	char	   *json;
	int			i;

	for (i = 0; i < open->folder.nfiles; i++)
		if (strcmp(open->files[i].name, "modules.json") == 0)
			reader = &open->files[i].reader;
	if (reader == NULL || reader->size > MODULES_MAX_BYTES)
		return NIL;
	json = palloc0(reader->size + 1);
	distil_bridge_check(reader->read(reader->ctx, 0, json, reader->size, &err), &err);
	PG_TRY();
	{
		folders = folders_of(json);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		/* The server's words about JSON and encodings do not say which file it is. */
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_DATA_EXCEPTION)
		{
			FlushErrorState();
			error->message = psprintf("file \"modules.json\" cannot be read: %s", error->message);
			ReThrowError(error);
		}
		PG_RE_THROW();
	}
	PG_END_TRY();
	return folders;
}

DistilFolder *
distil_folder_open_server(const char *path)
{
	OpenFolder *open = make_folder();
	struct stat info;
	ListCell   *cell;

	if (stat(path, &info) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open model folder \"%s\": %m", distil_bridge_clip(path)),
				 errhint("The path is one of the server, not of the client; see distil_import_objects() for "
						 "files of the client.")));
	if (!S_ISDIR(info.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a folder", path),
				 errhint(GIVE_FOLDER)));
	open_known(open, path, "");
	open_shards(open, path);
	foreach(cell, module_folders(open))
	{
		distil_args_check_file_name(lfirst(cell));
		open_known(open, path, lfirst(cell));
	}
	require_config(open, psprintf("The folder is \"%s\".", distil_bridge_clip(path)), GIVE_FOLDER);
	return &open->folder;
}

/* ---------- in large objects ---------- */

static void
add_object(OpenFolder *open, const char *name, Datum number)
{
	int64		oid = 0;
	DistilReader *reader;
	int			slot;

	distil_args_check_file_name(name);
	oid = DatumGetInt64(DirectFunctionCall1(numeric_int8, number));
	if (oid <= 0 || oid > (int64) PG_UINT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("file \"%s\" has no large object " INT64_FORMAT, name, oid)));
	reader = distil_store_open((Oid) oid, -1);
	slot = add_file(open, name, (int64) reader->size);
	open->state[slot].fd = -1;
	open->state[slot].object = reader;
	open->files[slot].reader = *reader;
}

static char *
given_names(const OpenFolder *open)
{
	StringInfoData names;
	int			i;

	if (open->folder.nfiles == 0)
		return pstrdup("No file is given.");
	initStringInfo(&names);
	for (i = 0; i < open->folder.nfiles; i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", open->files[i].name);
	return psprintf("Files given: %s.", distil_bridge_clip(names.data));
}

DistilFolder *
distil_folder_open_objects(Jsonb *objects)
{
	OpenFolder *open = make_folder();
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;

	if (!JB_ROOT_IS_OBJECT(objects))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"objects\" must be a JSON object of file names and large-object numbers"),
				 errhint("For example {\"config.json\": 16401, \"1_Pooling/config.json\": 16402}.")));
	iterator = JsonbIteratorInit(&objects->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE)
		{
			if (value.type != jbvNumeric)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("the value of file \"%s\" must be the number of a large object", name)));
			add_object(open, name, NumericGetDatum(value.val.numeric));
		}
	}
	require_config(open, given_names(open),
				   "Name the files as in the model's folder: {\"config.json\": 16401, ...}.");
	return &open->folder;
}
