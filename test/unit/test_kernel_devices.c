/*
 * test_kernel_devices.c
 *		Devices: how OpenBLAS is opened, what is refused, memory, empty work, and several
 *		devices computing at the same time.
 */
#include "kernel_samples.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

/* ---------- opening OpenBLAS ---------- */

static int
count_threads(void)
{
	DIR		   *folder = opendir("/proc/self/task");
	struct dirent *entry;
	int			n = 0;

	if (folder == NULL)
		return -1;
	while ((entry = readdir(folder)) != NULL)
		n += entry->d_name[0] != '.';
	closedir(folder);
	return n;
}

/* Must run before anything else opens a device that needs it. */
static void
test_blas_open(void)
{
	struct rlimit old,
				none;
	sigset_t	before,
				after;
	char		message[400];
	int			threads = count_threads();
	DistilDevice *dev;
	int			i;

	/* The environment asks for what must not happen: an old core and seven threads. */
	setenv("OPENBLAS_CORETYPE", "Prescott", 1);
	setenv("OPENBLAS_NUM_THREADS", "7", 1);
	sigemptyset(&before);
	sigaddset(&before, SIGUSR2);
	pthread_sigmask(SIG_SETMASK, &before, NULL);

	/* Sets with their own multiplication need no library. */
	if (distil_cpu_has("avx2"))
	{
		dev = distil_device_open("cpu", NULL, message, sizeof(message));
		CHECK_MSG(dev != NULL, "%s\n", message);
		if (dev != NULL)
			dev->ops->close(dev);
		CHECK(distil_blas_version()[0] == '\0');
	}

	/* No file can be opened: as if the library were not there. */
	getrlimit(RLIMIT_NOFILE, &old);
	none = old;
	none.rlim_cur = 0;
	setrlimit(RLIMIT_NOFILE, &none);
	dev = distil_device_open("cpu", "reference", message, sizeof(message));
	setrlimit(RLIMIT_NOFILE, &old);
	CHECK(dev == NULL);
	CHECK_MSG(strstr(message, "libopenblas.so.0") != NULL && strstr(message, "libopenblas0-pthread") != NULL,
			  "%s\n", message);
	CHECK(distil_blas_version()[0] == '\0');

	/* It was no lasting failure. */
	dev = distil_device_open("cpu", "reference", message, sizeof(message));
	CHECK_MSG(dev != NULL, "%s\n", message);
	if (dev != NULL)
		dev->ops->close(dev);
	CHECK(count_threads() == threads);
	CHECK(strcmp(getenv("OPENBLAS_CORETYPE"), "Prescott") == 0);
	CHECK(strcmp(getenv("OPENBLAS_NUM_THREADS"), "7") == 0);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (i = 1; i < 32; i++)
		CHECK(sigismember(&after, i) == (i == SIGUSR2));
	if (distil_cpu_has("avx512"))
		CHECK_MSG(strstr(distil_blas_version(), "SkylakeX") != NULL, "%s\n", distil_blas_version());
	else if (distil_cpu_has("avx2"))
		CHECK_MSG(strstr(distil_blas_version(), "Haswell") != NULL, "%s\n", distil_blas_version());
}

/* ---------- devices ---------- */

static void
test_open(void)
{
	char		message[200];
	char		small[8];
	DistilDevice *dev;

	CHECK(distil_device_open("tpu", NULL, message, sizeof(message)) == NULL);
	CHECK(strstr(message, "tpu") != NULL);
	CHECK(distil_device_open("cpu", "sse9", message, sizeof(message)) == NULL);
	CHECK(strstr(message, "sse9") != NULL);
	/* the module is not beside this program */
	CHECK(distil_device_open("cuda", NULL, message, sizeof(message)) == NULL);
	CHECK(strstr(message, "distil_cuda.so") != NULL);
	CHECK(!distil_cuda_available(message, sizeof(message)));
	CHECK(distil_device_open("tpu", NULL, small, sizeof(small)) == NULL && strlen(small) == 7);
	CHECK(!distil_cpu_has("sse9") && distil_cpu_has("reference") && distil_cpu_has(distil_cpu_isa()));
	CHECK(strlen(distil_cpu_name()) > 0);
	dev = distil_device_open("cpu", "auto", message, sizeof(message));
	CHECK_MSG(dev != NULL, "%s\n", message);
	if (dev == NULL)
		return;
	CHECK(strncmp(distil_blas_version(), "OpenBLAS ", 9) == 0);
	CHECK(strcmp(dev->ops->name, "cpu") == 0);
	CHECK(dev->ops->alloc(dev, SIZE_MAX) == NULL && dev->ops->alloc(dev, SIZE_MAX / 2) == NULL);
	dev->ops->release(dev, NULL);
	dev->ops->close(dev);
}

static void
test_memory(DistilDevice *dev)
{
	static const char text[] = "twelve bytes";
	char		back[sizeof(text)] = "";
	void	   *memory = dev->ops->alloc(dev, sizeof(text));
	void	   *empty = dev->ops->alloc(dev, 0);

	CHECK(memory != NULL && (uintptr_t) memory % 64 == 0);
	dev->ops->copy_in(dev, memory, text, sizeof(text));
	dev->ops->copy_out(dev, back, memory, sizeof(text));
	CHECK(memcmp(back, text, sizeof(text)) == 0);
	dev->ops->copy_in(dev, NULL, NULL, 0);
	dev->ops->release(dev, memory);
	dev->ops->release(dev, empty);
}

/* Only what is forgotten may be lost, and its memory can be used on. */
static void
test_forget(DistilDevice *dev)
{
	enum
	{
		SIZE = 1 << 20, FIRST = 100, END = SIZE - 5000
	};
	unsigned char *memory = dev->ops->forget != NULL ? dev->ops->alloc(dev, SIZE) : NULL;
	int			same = 0;
	int			i;

	if (memory == NULL)
		return;
	memset(memory, 7, SIZE);
	dev->ops->forget(dev, memory + FIRST, END - FIRST);
	dev->ops->forget(dev, memory + FIRST, 0);
	for (i = 0; i < SIZE; i++)
		same += (i < FIRST || i >= END) && memory[i] == 7;
	CHECK(same == FIRST + SIZE - END);
	memset(memory, 9, SIZE);
	for (same = 0, i = 0; i < SIZE; i++)
		same += memory[i] == 9;
	CHECK(same == SIZE);
	dev->ops->release(dev, memory);
}

/* No operation may fail or write where there is nothing to do. */
static void
test_empty(DistilDevice *dev)
{
	static const int32_t none[] = {0, 0};
	DistilAttention a = {.nseq = 1,.heads = 2,.head_dim = 4,.head_count = 2,.scale = 0.5f};
	DistilLogitsLoss setting = {1.0f, 1.0f, 1.0f, 1.0f};
	double		sums[3] = {0.0, 0.0, 0.0};
	float		y[1] = {GUARD};
	int64_t		bad = 5;

	dev->ops->zero(dev, y, 0);
	dev->ops->axpy(dev, y, y, 1.0f, 0);
	dev->ops->sum_squares(dev, sums, y, 0);
	dev->ops->count_nonfinite(dev, &bad, y, 0);
	dev->ops->linear_forward(dev, y, 4, y, 4, y, y, DISTIL_ACT_GELU, 0, 4, 4);
	dev->ops->linear_backward_input(dev, y, 4, y, 4, y, false, 0, 4, 4);
	dev->ops->linear_backward_weight(dev, y, NULL, y, 1, y, 1, 0, 1, 1);
	dev->ops->attention_forward(dev, y, y, y, none, &a);
	dev->ops->attention_backward(dev, y, y, y, y, y, none, &a);
	dev->ops->layernorm_forward(dev, y, NULL, NULL, NULL, y, NULL, y, y, 1e-5f, 0, 4);
	dev->ops->embedding_forward(dev, y, none, NULL, NULL, y, NULL, NULL, 0, 4);
	dev->ops->logits_loss(dev, sums, y, y, NULL, &setting, 0, 4);
	CHECK(y[0] == GUARD && bad == 0 && sums[0] == 0.0 && sums[1] == 0.0 && sums[2] == 0.0);
}

/* ---------- threads: each with its own device, all with the same arguments ---------- */

#define WORKERS 4
#define ROUNDS	40
#define WM		129
#define WN		257
#define WK		192

typedef struct Worker
{
	const float *x;
	const float *w;
	const float *qkv;
	float	   *y;				/* [WM, WN] */
	float	   *dw;				/* [WN, WK] */
	float	   *out;			/* [WM, 64] */
	const char *isa;
	bool		failed;
} Worker;

static void *
work(void *argument)
{
	static const int32_t offsets[] = {0, WM};
	DistilAttention a = {.nseq = 1,.heads = 2,.head_dim = 32,.head_count = 2,.scale = 0.2f,
	.dropout = {0.1f, 3}};
	Worker	   *job = argument;
	char		message[200];
	DistilDevice *dev = distil_device_open("cpu", job->isa, message, sizeof(message));
	int			round;

	job->failed = dev == NULL;
	for (round = 0; round < ROUNDS && dev != NULL; round++)
	{
		memset(job->dw, 0, sizeof(float) * WN * WK);
		dev->ops->linear_forward(dev, job->y, WN, job->x, WK, job->w, NULL, DISTIL_ACT_GELU, WM, WN, WK);
		dev->ops->linear_backward_weight(dev, job->dw, NULL, job->y, WN, job->x, WK, WM, WN, WK);
		dev->ops->attention_forward(dev, job->out, NULL, job->qkv, offsets, &a);
	}
	if (dev != NULL)
		dev->ops->close(dev);
	return NULL;
}

static void
test_threads(const char *isa)
{
	Worker		jobs[WORKERS + 1];	/* the last one runs alone */
	pthread_t	threads[WORKERS];
	float	   *x = random_floats((size_t) WM * WK, 1.0);
	float	   *w = random_floats((size_t) WN * WK, 0.1);
	float	   *qkv = random_floats((size_t) WM * 192, 1.0);
	int			i;

	for (i = 0; i <= WORKERS; i++)
	{
		jobs[i] = (Worker) {x, w, qkv, unset_floats((size_t) WM * WN), unset_floats((size_t) WN * WK),
			unset_floats((size_t) WM * 64), isa, true};
	}
	for (i = 0; i < WORKERS; i++)
		CHECK(pthread_create(&threads[i], NULL, work, &jobs[i]) == 0);
	for (i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	work(&jobs[WORKERS]);
	for (i = 0; i < WORKERS; i++)
	{
		CHECK(!jobs[i].failed);
		same("thread linear", jobs[i].y, jobs[WORKERS].y, (size_t) WM * WN, 0.0);
		same("thread gradient", jobs[i].dw, jobs[WORKERS].dw, (size_t) WN * WK, 0.0);
		same("thread attention", jobs[i].out, jobs[WORKERS].out, (size_t) WM * 64, 0.0);
	}
	for (i = 0; i <= WORKERS; i++)
		drop(jobs[i].y), drop(jobs[i].dw), drop(jobs[i].out);
	drop(x), drop(w), drop(qkv);
}

static void
test_device(DistilDevice *dev)
{
	test_memory(dev);
	test_forget(dev);
	test_empty(dev);
}

int
main(void)
{
	if (!open_reference())
		return check_report("kernel_devices");
	CHECK(distil_blas_version()[0] == '\0');	/* the reference opens no library */
	test_blas_open();
	test_threads("reference");
	test_threads("auto");
	test_open();
	on_every_device(test_device);
	ref->ops->close(ref);
	return check_report("kernel_devices");
}
