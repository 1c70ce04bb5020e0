/*
 * student_files.c
 *		A student as a model folder in memory.
 *
 * Weight files are safetensors whose data is read straight from the flat block; nothing
 * is copied.  Tensors have the names the architecture gives them, with its prefix when
 * the model has a masked-LM head, as transformers writes them.  Dense modules of a
 * sentence model go to files of their own ("2_Dense/model.safetensors").
 */
#include <string.h>

#include "checkpoint.h"
#include "status.h"
#include "student_files.h"
#include "tokenizer.h"

#define WEIGHTS_FILE "model.safetensors"

typedef struct TextFile
{
	const char *data;
	size_t		length;
} TextFile;

/* One weight file: a header, then tensors that lie in the flat block. */
typedef struct WeightFile
{
	const char *directory;		/* "" or "2_Dense/" */
	DistilBuffer header;
	int			n;
	const float **data;			/* [n] */
	const DistilParam **turned; /* [n] the parameter when the file's tensor is its transpose, else NULL */
	uint64_t   *starts;			/* [n + 1] in the file */
} WeightFile;

struct DistilStudentFolder
{
	const DistilAllocator *alloc;
	DistilArena *arena;
	DistilFolder folder;
	WeightFile *weights;
	int			nweights;
};

static DistilStatus
read_text(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	const TextFile *file = ctx;

	if (offset > file->length || bytes > file->length - offset)
		return distil_fail(err, DISTIL_ERR_IO, "read beyond the end of a student's file");
	memcpy(buffer, file->data + offset, bytes);
	return DISTIL_OK;
}

/* Bytes [skip, skip + take) of the transpose [cols, rows] of w [rows, cols]. */
static void
read_turned(char *out, const float *w, const DistilParam *param, uint64_t skip, size_t take)
{
	size_t		rows = (size_t) param->rows;
	size_t		cols = (size_t) param->cols;
	uint64_t	at = skip;

	while (at < skip + take)
	{
		uint64_t	element = at / sizeof(float);
		size_t		within = (size_t) (at % sizeof(float));
		size_t		left = (size_t) (skip + take - at);
		size_t		n = sizeof(float) - within < left ? sizeof(float) - within : left;
		const float *value = w + (size_t) (element % rows) * cols + (size_t) (element / rows);

		memcpy(out, (const char *) value + within, n);
		out += n;
		at += n;
	}
}

static DistilStatus
read_weights(void *ctx, uint64_t offset, void *buffer, size_t bytes, DistilError *err)
{
	const WeightFile *file = ctx;
	char	   *out = buffer;
	int			low = 0;
	int			high = file->n;

	if (offset > file->starts[file->n] || bytes > file->starts[file->n] - offset)
		return distil_fail(err, DISTIL_ERR_IO, "read beyond the end of a student's file");
	if (offset < file->header.length)
	{
		size_t		left = file->header.length - (size_t) offset;
		size_t		take = left < bytes ? left : bytes;

		memcpy(out, file->header.data + offset, take);
		out += take;
		offset += take;
		bytes -= take;
	}
	/* the last tensor that does not start behind the offset */
	while (high - low > 1)
	{
		int			middle = (low + high) / 2;

		if (file->starts[middle] <= offset)
			low = middle;
		else
			high = middle;
	}
	for (; bytes > 0; low++)
	{
		uint64_t	skip = offset - file->starts[low];
		uint64_t	left = file->starts[low + 1] - offset;
		size_t		take = left < bytes ? (size_t) left : bytes;

		if (file->turned[low] != NULL)
			read_turned(out, file->data[low], file->turned[low], skip, take);
		else
			memcpy(out, (const char *) file->data[low] + skip, take);
		out += take;
		offset += take;
		bytes -= take;
	}
	return DISTIL_OK;
}

static bool
has_suffix(const char *name, const char *suffix)
{
	size_t		n = strlen(name);
	size_t		m = strlen(suffix);

	return n >= m && strcmp(name + n - m, suffix) == 0;
}

DistilStatus
distil_student_small_files(DistilFolder *folder, const DistilModel *teacher, const char *config,
						   size_t length,
						   DistilArena *arena, DistilError *err)
{
	DistilFile *files = distil_arena_alloc(arena, (size_t) teacher->nfiles + 1, sizeof(DistilFile));
	TextFile   *text = distil_arena_alloc(arena, 1, sizeof(TextFile));
	const DistilFolder source = {teacher->files, teacher->nfiles};
	char	   *copy;
	int			i;

	DISTIL_FORWARD(distil_tokenizer_config(&config, &length, &source, arena, teacher->alloc, err));
	copy = distil_arena_string(arena, config, length);
	folder->files = files;
	folder->nfiles = 0;
	if (files == NULL || text == NULL || copy == NULL)
		return distil_fail_memory(err, length);
	text->data = copy;
	text->length = length;
	files[folder->nfiles++] = (DistilFile) {
		"config.json", {read_text, text, length}
	};
	/* The teacher's model card does not describe the student. */
	for (i = 0; i < teacher->nfiles; i++)
		if (strcmp(teacher->files[i].name, "README.md") != 0 &&
			strcmp(teacher->files[i].name, "config.json") != 0 &&
			!has_suffix(teacher->files[i].name, ".safetensors") &&
			!has_suffix(teacher->files[i].name, ".safetensors.index.json"))
			files[folder->nfiles++] = teacher->files[i];
	return DISTIL_OK;
}

/* Tensor of one source of a parameter, named as in its file. */
static DistilStatus
fill_tensor(DistilTensor *tensor, const DistilSpec *spec, const DistilParam *param, int source,
			size_t directory, DistilArena *arena, DistilError *err)
{
	const char *name = param->sources[source] + directory;
	bool		backbone = strncmp(param->name, "lm.", 3) != 0 &&
		(strncmp(param->name, "head.", 5) != 0 || strncmp(name, "pooler.", 7) == 0);
	const char *prefix = (spec->has_lm || spec->head.head != NULL) && directory == 0 && backbone
		? spec->config.arch->prefix : "";
	int			rows = param->rows / param->nsources;

	memset(tensor, 0, sizeof(*tensor));
	tensor->name = distil_arena_printf(arena, "%s%s", prefix, name);
	if (tensor->name == NULL)
		return distil_fail_memory(err, DISTIL_MAX_NAME);
	tensor->dtype = DISTIL_DTYPE_F32;
	tensor->rank = param->vector ? 1 : 2;
	tensor->shape[0] = rows;
	tensor->shape[1] = param->cols;
	if ((param->flags & DISTIL_PARAM_TRANSPOSED) != 0)
	{
		tensor->shape[0] = param->cols;
		tensor->shape[1] = rows;
	}
	tensor->count = (uint64_t) rows * (uint64_t) param->cols;
	tensor->bytes = tensor->count * sizeof(float);
	return DISTIL_OK;
}

/* Characters of the source's folder, 0 when it is in the main file. */
static size_t
directory_length(const char *source)
{
	const char *slash = strrchr(source, '/');

	return slash != NULL ? (size_t) (slash - source) + 1 : 0;
}

static DistilStatus
fill_weight_file(DistilStudentFolder *made, WeightFile *file, const DistilSpec *spec, const float *weights,
				 DistilError *err)
{
	size_t		most = (size_t) spec->table.n * DISTIL_PARAM_MAX_SOURCES;
	DistilTensor *tensors = distil_arena_alloc(made->arena, most, sizeof(DistilTensor));
	const DistilTensor **order = distil_arena_alloc(made->arena, most, sizeof(DistilTensor *));
	size_t		directory = strlen(file->directory);
	int			i;
	int			s;

	file->data = distil_arena_alloc(made->arena, most, sizeof(float *));
	file->turned = distil_arena_alloc(made->arena, most, sizeof(DistilParam *));
	file->starts = distil_arena_alloc(made->arena, most + 1, sizeof(uint64_t));
	if (tensors == NULL || order == NULL || file->data == NULL || file->turned == NULL ||
		file->starts == NULL)
		return distil_fail_memory(err, most * sizeof(DistilTensor));
	for (i = 0; i < spec->table.n; i++)
	{
		const DistilParam *param = &spec->table.params[i];

		for (s = 0; s < param->nsources; s++)
		{
			if (directory_length(param->sources[s]) != directory ||
				strncmp(param->sources[s], file->directory, directory) != 0)
				continue;
			DISTIL_FORWARD(fill_tensor(&tensors[file->n], spec, param, s, directory, made->arena, err));
			order[file->n] = &tensors[file->n];
			file->turned[file->n] = (param->flags & DISTIL_PARAM_TRANSPOSED) != 0 ? param : NULL;
			file->data[file->n] = weights + param->offset +
				(size_t) s * (param->count / (size_t) param->nsources);
			file->n++;
		}
	}
	DISTIL_FORWARD(distil_safetensors_header(&file->header, order, file->n, 0, "{\"format\": \"pt\"}", err));
	file->starts[0] = file->header.length;
	for (i = 0; i < file->n; i++)
		file->starts[i + 1] = file->starts[i] + tensors[i].bytes;
	return DISTIL_OK;
}

static DistilStatus
make_weight_files(DistilStudentFolder *made, const DistilSpec *spec, const float *weights, DistilError *err)
{
	int			i;
	int			j;

	made->weights = distil_arena_alloc(made->arena, DISTIL_MAX_DENSE + 1, sizeof(WeightFile));
	if (made->weights == NULL)
		return distil_fail_memory(err, (DISTIL_MAX_DENSE + 1) * sizeof(WeightFile));
	for (i = 0; i < spec->table.n; i++)
	{
		const char *source = spec->table.params[i].sources[0];
		size_t		length = directory_length(source);

		for (j = 0; j < made->nweights; j++)
			if (strlen(made->weights[j].directory) == length &&
				strncmp(made->weights[j].directory, source, length) == 0)
				break;
		if (j < made->nweights)
			continue;
		if (made->nweights > DISTIL_MAX_DENSE)
			return distil_fail(err, DISTIL_ERR_LIMIT, "the student has too many weight files");
		distil_buffer_init(&made->weights[j].header, made->alloc);
		made->nweights++;
		made->weights[j].directory = distil_arena_string(made->arena, source, length);
		if (made->weights[j].directory == NULL)
			return distil_fail_memory(err, length);
		DISTIL_FORWARD(fill_weight_file(made, &made->weights[j], spec, weights, err));
	}
	return DISTIL_OK;
}

/* The small files, then the weight files. */
static DistilStatus
make_folder(DistilStudentFolder *made, const DistilSpec *spec, const DistilFolder *small,
			const float *weights,
			DistilError *err)
{
	DistilFile *files;
	int			i;

	DISTIL_FORWARD(make_weight_files(made, spec, weights, err));
	files = distil_arena_alloc(made->arena, (size_t) (small->nfiles + made->nweights), sizeof(DistilFile));
	if (files == NULL)
		return distil_fail_memory(err, sizeof(DistilFile));
	memcpy(files, small->files, (size_t) small->nfiles * sizeof(DistilFile));
	for (i = 0; i < made->nweights; i++)
	{
		WeightFile *file = &made->weights[i];
		DistilFile *out = &files[small->nfiles + i];

		out->name = distil_arena_printf(made->arena, "%s%s", file->directory, WEIGHTS_FILE);
		if (out->name == NULL)
			return distil_fail_memory(err, DISTIL_MAX_NAME);
		out->reader.read = read_weights;
		out->reader.ctx = file;
		out->reader.size = file->starts[file->n];
	}
	made->folder.files = files;
	made->folder.nfiles = small->nfiles + made->nweights;
	return DISTIL_OK;
}

/* The student's own config.json and the teacher's small files. */
static DistilStatus
make_student(DistilStudentFolder *made, const DistilSpec *spec, const DistilModel *teacher,
			 const float *weights,
			 DistilError *err)
{
	DistilFolder small;
	DistilBuffer config;
	DistilStatus status;

	distil_buffer_init(&config, made->alloc);
	status = spec->config.arch->write_config(&spec->config, spec->config.class_name, &config, err);
	if (status == DISTIL_OK)
		status = distil_student_small_files(&small, teacher, config.data, config.length, made->arena, err);
	distil_buffer_free(&config);
	DISTIL_FORWARD(status);
	return make_folder(made, spec, &small, weights, err);
}

/* small: files to put beside the weights, NULL: those of a student of the teacher */
static DistilStatus
create_folder(DistilStudentFolder **folder, const DistilSpec *spec, const DistilFolder *small,
			  const DistilModel *teacher, const float *weights, const DistilAllocator *alloc,
				  DistilError *err)
{
	DistilStudentFolder *made = distil_alloc_array(alloc, 1, sizeof(DistilStudentFolder));
	DistilStatus status;

	*folder = NULL;
	if (made == NULL)
		return distil_fail_memory(err, sizeof(DistilStudentFolder));
	made->alloc = alloc;
	made->arena = distil_arena_create(alloc);
	if (made->arena == NULL)
		status = distil_fail_memory(err, sizeof(DistilStudentFolder));
	else
		status = small != NULL ? make_folder(made, spec, small, weights, err)
			: make_student(made, spec, teacher, weights, err);
	if (status != DISTIL_OK)
	{
		distil_student_folder_free(made);
		return status;
	}
	*folder = made;
	return DISTIL_OK;
}

DistilStatus
distil_student_folder_create(DistilStudentFolder **folder, const DistilSpec *spec, const DistilModel *teacher,
							 const float *weights, const DistilAllocator *alloc, DistilError *err)
{
	return create_folder(folder, spec, NULL, teacher, weights, alloc, err);
}

DistilStatus
distil_weight_folder_create(DistilStudentFolder **folder, const DistilSpec *spec, const DistilFolder *small,
							const float *weights, const DistilAllocator *alloc, DistilError *err)
{
	return create_folder(folder, spec, small, NULL, weights, alloc, err);
}

const DistilFolder *
distil_student_folder(const DistilStudentFolder *folder)
{
	return &folder->folder;
}

void
distil_student_folder_free(DistilStudentFolder *folder)
{
	const DistilAllocator *alloc;
	int			i;

	if (folder == NULL)
		return;
	alloc = folder->alloc;
	for (i = 0; i < folder->nweights; i++)
		distil_buffer_free(&folder->weights[i].header);
	distil_arena_free(folder->arena);
	distil_release(alloc, folder);
}
