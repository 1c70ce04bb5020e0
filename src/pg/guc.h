/*
 * guc.h
 *		The settings distil.*: their C variables, limits and defaults.
 *
 * A setting exists only when something obeys it.
 */
#ifndef DISTIL_GUC_H
#define DISTIL_GUC_H

#include "postgres.h"
#include "distil_engine.h"

typedef enum DistilDeviceSetting
{
	DISTIL_DEVICE_AUTO,
	DISTIL_DEVICE_CPU,
	DISTIL_DEVICE_CUDA
} DistilDeviceSetting;

typedef enum DistilTruncationSetting
{
	DISTIL_TRUNCATION_WARN,
	DISTIL_TRUNCATION_SILENT,
	DISTIL_TRUNCATION_ERROR
} DistilTruncationSetting;

typedef enum DistilIsaSetting
{
	DISTIL_ISA_AUTO,
	DISTIL_ISA_AMX,
	DISTIL_ISA_AVX512_BF16,
	DISTIL_ISA_AVX512_VNNI,
	DISTIL_ISA_AVX512,
	DISTIL_ISA_AVX_VNNI,
	DISTIL_ISA_AVX2,
	DISTIL_ISA_REFERENCE
} DistilIsaSetting;
#define DISTIL_ISA_SETTINGS 8

#define DISTIL_MIN_BATCH_ROWS 1
#define DISTIL_MAX_BATCH_ROWS 65536
#define DISTIL_DEFAULT_BATCH_ROWS 256
#define DISTIL_MIN_MEMORY_KB 1024
#define DISTIL_DEFAULT_MEMORY_KB (16 * 1024)
#define DISTIL_DEFAULT_CACHE_MB (16 * 1024)
#define DISTIL_DEFAULT_MODEL_MB (8 * 1024)
#define DISTIL_DEFAULT_GPU_IDLE_S 300
#define DISTIL_MAX_GPU_IDLE_S 86400
#define DISTIL_MAX_JOBS 64
#define DISTIL_MAX_THREADS 256

extern char *distil_default_model;	/* "" = the catalog's default */
extern int	distil_precision;		/* DistilPrecision */
extern int	distil_device;			/* DistilDeviceSetting */
extern bool distil_batch;			/* DistilBatch plan nodes are made */
extern int	distil_batch_rows;		/* rows one DistilBatch node collects */
extern int	distil_truncation;		/* DistilTruncationSetting */
extern int	distil_memory;			/* kB of scratch per session of a model */
extern int	distil_cache_size;		/* MB of shared copies kept on disk */
extern int	distil_max_model_size;	/* MB a model to be imported may have */
extern int	distil_max_jobs;		/* training jobs running at a time per database */
extern int	distil_threads;			/* of a batch or a training job; 0 = all (free) cores */
extern int	distil_max_threads;		/* upper bound of distil_threads and of the job option; 0 = all cores */
extern int	distil_isa;				/* DistilIsaSetting */
extern int	distil_gpu_memory;		/* MB of a GPU's memory that a job or the GPU service may use; 0: all of
									 * it */
extern int	distil_gpu_idle_timeout;	/* seconds without a connection until the GPU service ends; 0:
										 * never */
extern bool distil_standin_device;	/* for tests: device "cuda" is the stand-in */
extern char *distil_standin_isa;	/* what that device has: "bf16", "lost N", "crowded N"; see
									 * kernels/standin */
extern char *distil_databases;		/* where the launcher resumes training jobs after a start of the server */

/* Name of a value of distil.isa, e.g. "avx2". */
extern const char *distil_guc_isa_name(int isa);

/* Define all settings; called once by _PG_init. */
extern void distil_guc_init(void);

#endif							/* DISTIL_GUC_H */
