/*
 * blas_cpu.c
 *		The only file that knows OpenBLAS: opened at the first device that needs it, never linked.
 *
 * The library starts no thread (OPENBLAS_NUM_THREADS=1) and sees no signal: whatever
 * it creates while it is opened or first used inherits a fully blocked mask, so that
 * a server's signal handlers never run on a foreign thread.  The core type is chosen
 * here because release 0.3.21 takes newer AVX-512 processors for a Haswell.
 */
#include "cpu.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLAS_LIBRARY "libopenblas.so.0"
#define BLAS_PACKAGE "libopenblas0-pthread"

/* Values of the CBLAS interface. */
#define BLAS_ROW_MAJOR	101
#define BLAS_NO_TRANS	111
#define BLAS_TRANS		112

typedef void (*BlasSgemm) (int order, int transa, int transb, int m, int n, int k, float alpha,
						   const float *a, int lda, const float *b, int ldb,
						   float beta, float *c, int ldc);
typedef void (*BlasSetThreads) (int n);
typedef char *(*BlasText) (void);

static pthread_mutex_t blas_lock = PTHREAD_MUTEX_INITIALIZER;
static BlasSgemm blas_sgemm;	/* set last: not NULL = open */
static char blas_version[128];

/* An environment variable replaced for a while. */
typedef struct SavedVariable
{
	const char *name;
	char	   *old;			/* NULL: was not set */
} SavedVariable;

/* value NULL removes it.  false when memory ran out. */
static bool
replace_variable(SavedVariable *saved, const char *name, const char *value)
{
	const char *old = getenv(name);

	saved->name = name;
	saved->old = NULL;
	if (old != NULL)
	{
		saved->old = strdup(old);
		if (saved->old == NULL)
			return false;
	}
	return (value != NULL ? setenv(name, value, 1) : unsetenv(name)) == 0;
}

static void
restore_variable(SavedVariable *saved)
{
	if (saved->old != NULL)
		setenv(saved->name, saved->old, 1);
	else
		unsetenv(saved->name);
	free(saved->old);
}

/* dlopen with the environment that decides threads and kernels. */
static void *
open_library(char *message, size_t message_size)
{
	const char *core = distil_cpu_has("avx512") ? "SkylakeX" : distil_cpu_has("avx2") ? "Haswell" : NULL;
	SavedVariable threads,
				type;
	void	   *library = NULL;

	if (!replace_variable(&threads, "OPENBLAS_NUM_THREADS", "1"))
	{
		snprintf(message, message_size, DISTIL_NO_MEMORY " opening %s", BLAS_LIBRARY);
		return NULL;
	}
	if (!replace_variable(&type, "OPENBLAS_CORETYPE", core))
		snprintf(message, message_size, DISTIL_NO_MEMORY " opening %s", BLAS_LIBRARY);
	else
	{
		library = dlopen(BLAS_LIBRARY, RTLD_NOW | RTLD_LOCAL);
		if (library == NULL)
			snprintf(message, message_size, "could not open %s (package %s): %s",
					 BLAS_LIBRARY, BLAS_PACKAGE, dlerror());
		restore_variable(&type);
	}
	restore_variable(&threads);
	return library;
}

/* "OpenBLAS 0.3.21 NO_AFFINITY ..." -> "OpenBLAS 0.3.21 SkylakeX (libopenblas.so.0)" */
static void
note_version(void *library)
{
	BlasText	config = (BlasText) dlsym(library, "openblas_get_config");
	BlasText	core = (BlasText) dlsym(library, "openblas_get_corename");
	const char *text = config != NULL ? config() : "OpenBLAS";
	const char *space = strchr(text, ' ');
	int			length = (int) strlen(text);

	if (space != NULL)
		length = (int) (space + 1 - text) + (int) strcspn(space + 1, " ");
	snprintf(blas_version, sizeof(blas_version), "%.*s%s%s (%s)", length, text,
			 core != NULL ? " " : "", core != NULL ? core() : "", BLAS_LIBRARY);
}

/* The library takes its buffers at the first multiplication: let it happen now. */
static void
warm_up(BlasSgemm sgemm)
{
	static float a[128 * 128];
	static float c[128 * 128];

	sgemm(BLAS_ROW_MAJOR, BLAS_NO_TRANS, BLAS_TRANS, 128, 128, 128, 1.0f, a, 128, a, 128, 0.0f, c, 128);
}

static bool
open_blocked(char *message, size_t message_size)
{
	void	   *library = open_library(message, message_size);
	BlasSgemm	sgemm;
	BlasSetThreads set_threads;

	if (library == NULL)
		return false;
	sgemm = (BlasSgemm) dlsym(library, "cblas_sgemm");
	set_threads = (BlasSetThreads) dlsym(library, "openblas_set_num_threads");
	if (sgemm == NULL || set_threads == NULL)
	{
		snprintf(message, message_size, "%s has no %s (package %s is needed)", BLAS_LIBRARY,
				 sgemm == NULL ? "cblas_sgemm" : "openblas_set_num_threads", BLAS_PACKAGE);
		dlclose(library);
		return false;
	}
	set_threads(1);
	warm_up(sgemm);
	note_version(library);
	__atomic_store_n(&blas_sgemm, sgemm, __ATOMIC_RELEASE);
	return true;
}

bool
distil_blas_open(char *message, size_t message_size)
{
	sigset_t	all,
				old;
	bool		opened = true;

	if (__atomic_load_n(&blas_sgemm, __ATOMIC_ACQUIRE) != NULL)
		return true;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_mutex_lock(&blas_lock);
	if (blas_sgemm == NULL)
		opened = open_blocked(message, message_size);
	pthread_mutex_unlock(&blas_lock);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return opened;
}

const char *
distil_blas_version(void)
{
	return __atomic_load_n(&blas_sgemm, __ATOMIC_ACQUIRE) != NULL ? blas_version : "";
}

void
distil_blas_gemm(bool ta, bool tb, int m, int n, int k, float alpha,
				 const float *a, size_t lda, const float *b, size_t ldb,
				 float beta, float *c, size_t ldc)
{
	if (m == 0 || n == 0)
		return;
	blas_sgemm(BLAS_ROW_MAJOR, ta ? BLAS_TRANS : BLAS_NO_TRANS, tb ? BLAS_TRANS : BLAS_NO_TRANS,
			   m, n, k, alpha, a, (int) lda, b, (int) ldb, beta, c, (int) ldc);
}
