/*
 * guc.c
 *		Definition of the settings distil.*.
 *
 * Nothing here may start threads, open libraries or touch a device: it also runs in
 * the postmaster when the library is preloaded.
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "guc.h"

char	   *distil_default_model;
int			distil_precision = DISTIL_PRECISION_AUTO;
int			distil_device = DISTIL_DEVICE_AUTO;
bool		distil_batch = true;
int			distil_batch_rows = DISTIL_DEFAULT_BATCH_ROWS;
int			distil_truncation = DISTIL_TRUNCATION_WARN;
int			distil_memory = DISTIL_DEFAULT_MEMORY_KB;
int			distil_cache_size = DISTIL_DEFAULT_CACHE_MB;
int			distil_max_model_size = DISTIL_DEFAULT_MODEL_MB;
int			distil_max_jobs = 1;
int			distil_threads = 0;
int			distil_max_threads = 0;
int			distil_isa = DISTIL_ISA_AUTO;
int			distil_gpu_memory = 0;
int			distil_gpu_idle_timeout = DISTIL_DEFAULT_GPU_IDLE_S;
bool		distil_standin_device = false;
char	   *distil_standin_isa = NULL;
char	   *distil_databases = NULL;

static const struct config_enum_entry precision_values[] = {
	{"auto", DISTIL_PRECISION_AUTO, false},
	{"float32", DISTIL_PRECISION_FLOAT32, false},
	{"bfloat16", DISTIL_PRECISION_BFLOAT16, false},
	{NULL, 0, false}
};

static const struct config_enum_entry device_values[] = {
	{"auto", DISTIL_DEVICE_AUTO, false},
	{"cpu", DISTIL_DEVICE_CPU, false},
	{"cuda", DISTIL_DEVICE_CUDA, false},
	{NULL, 0, false}
};

static const struct config_enum_entry truncation_values[] = {
	{"warn", DISTIL_TRUNCATION_WARN, false},
	{"silent", DISTIL_TRUNCATION_SILENT, false},
	{"error", DISTIL_TRUNCATION_ERROR, false},
	{NULL, 0, false}
};

static const struct config_enum_entry isa_values[] = {
	{"auto", DISTIL_ISA_AUTO, false},
	{"amx", DISTIL_ISA_AMX, false},
	{"avx512_bf16", DISTIL_ISA_AVX512_BF16, false},
	{"avx512_vnni", DISTIL_ISA_AVX512_VNNI, false},
	{"avx512", DISTIL_ISA_AVX512, false},
	{"avx_vnni", DISTIL_ISA_AVX_VNNI, false},
	{"avx2", DISTIL_ISA_AVX2, false},
	{"reference", DISTIL_ISA_REFERENCE, false},
	{NULL, 0, false}
};

const char *
distil_guc_isa_name(int isa)
{
	const struct config_enum_entry *entry;

	for (entry = isa_values; entry->name != NULL; entry++)
		if (entry->val == isa)
			return entry->name;
	return "auto";
}

static void
define_inference(void)
{
	DefineCustomStringVariable("distil.default_model",
							   "Model used where a call names none; empty: the database's default.",
							   NULL, &distil_default_model, "",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("distil.precision",
							 "Arithmetic of inference.",
							 "auto: bfloat16 products where this machine is faster in them, else float32. "
							 "Sums and results are always float32.",
							 &distil_precision, DISTIL_PRECISION_AUTO, precision_values,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("distil.device",
							 "Device that runs the models.",
							 "auto: embeddings by the GPU where there is one; cuda: by it or not at all. All "
							 "else by the CPU.",
							 &distil_device, DISTIL_DEVICE_AUTO, device_values,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("distil.batch",
							 "Runs a model over many rows at once where a plan allows it.",
							 NULL, &distil_batch, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("distil.batch_rows",
							"Rows that one DistilBatch node collects before it runs the model.",
							NULL, &distil_batch_rows, DISTIL_DEFAULT_BATCH_ROWS,
							DISTIL_MIN_BATCH_ROWS, DISTIL_MAX_BATCH_ROWS,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("distil.truncation",
							 "What happens to a text that is longer than the model's limit.",
							 "warn: cut it and warn once per statement; silent: cut it; error: refuse it.",
							 &distil_truncation, DISTIL_TRUNCATION_WARN, truncation_values,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("distil.memory",
							"Scratch memory a session may use for one model.",
							NULL, &distil_memory, DISTIL_DEFAULT_MEMORY_KB,
							DISTIL_MIN_MEMORY_KB, MAX_KILOBYTES,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomEnumVariable("distil.isa",
							 "Instruction set of the CPU kernels, for tests.",
							 NULL, &distil_isa, DISTIL_ISA_AUTO, isa_values,
							 PGC_USERSET, 0, NULL, NULL, NULL);
}

static void
define_limits(void)
{
	DefineCustomIntVariable("distil.cache_size",
							"Disk space for the mapped copies of models; the least recently used go first.",
							NULL, &distil_cache_size, DISTIL_DEFAULT_CACHE_MB, 0, MAX_KILOBYTES,
							PGC_SUSET, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomIntVariable("distil.max_model_size",
							"Largest model that can be imported.",
							NULL, &distil_max_model_size, DISTIL_DEFAULT_MODEL_MB, 1, MAX_KILOBYTES,
							PGC_SUSET, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomIntVariable("distil.max_jobs",
							"Training jobs that run at the same time in a database.",
							NULL, &distil_max_jobs, 1, 1, DISTIL_MAX_JOBS,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("distil.threads",
							"Threads of a batch or a training job.",
							"0: all cores; of a batch those that no other process of the server uses.",
							&distil_threads, 0, 0, DISTIL_MAX_THREADS, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("distil.max_threads",
							"Upper bound of the threads of a batch or a training job; 0: all cores.",
							NULL, &distil_max_threads, 0, 0, DISTIL_MAX_THREADS,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("distil.gpu_memory",
							"Memory of a GPU that a training job or the GPU service may use; 0: all of it.",
							NULL, &distil_gpu_memory, 0, 0, MAX_KILOBYTES,
							PGC_SUSET, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomIntVariable("distil.gpu_idle_timeout",
							"Time without work after which the GPU service ends; 0: never.",
							NULL, &distil_gpu_idle_timeout, DISTIL_DEFAULT_GPU_IDLE_S, 0,
							DISTIL_MAX_GPU_IDLE_S, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomBoolVariable("distil.standin_device",
							 "Plays a GPU on the CPU, for tests of distil.",
							 NULL, &distil_standin_device, false,
							 PGC_SUSET, GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
	DefineCustomStringVariable("distil.standin_isa",
							   "What that GPU has when it trains, for tests of distil.",
							   NULL, &distil_standin_isa, "",
							   PGC_SUSET, GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
	DefineCustomStringVariable("distil.databases",
							   "Databases whose training jobs go on by themselves after a start of the "
							   "server.",
							   "A comma-separated list, read at the start; needs shared_preload_libraries = "
							   "'distil'.",
							   &distil_databases, "",
							   PGC_SIGHUP, GUC_LIST_INPUT, NULL, NULL, NULL);
}

void
distil_guc_init(void)
{
	define_inference();
	define_limits();
	MarkGUCPrefixReserved("distil");
}
