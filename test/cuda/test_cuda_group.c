/*
 * test_cuda_group.c
 *		Several GPUs opened together: their sums, and what NCCL may refuse.
 *
 * On the emulated devices NCCL is nccl_stub.c; on real GPUs it is the real one, with as many as there are.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE				/* the handle RTLD_DEFAULT, mkdtemp */
#endif
#include "check.h"
#include "kernels.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT 1001

/* 0: not so many GPUs, or no NCCL, for which `message` has the reason. */
static int
open_group(DistilDevice **devices, int n, char *message, size_t size)
{
	return distil_device_open_group("cuda", NULL, devices, n, message, size) ? n : 0;
}

static void
close_group(DistilDevice **devices, int n)
{
	while (n > 0)
	{
		n--;
		devices[n]->ops->close(devices[n]);
	}
}

/* Sums of small integers are exact in any order. */
static void
test_sum(DistilDevice **devices, int n)
{
	float		host[COUNT];
	float	   *x[DISTIL_MAX_GROUP];
	int			d;
	int			i;

	for (d = 0; d < n; d++)
	{
		CHECK(devices[d]->ops->all_sum != NULL);
		x[d] = devices[d]->ops->alloc(devices[d], sizeof(host));
		for (i = 0; i < COUNT; i++)
			host[i] = (float) (i * (d + 1) % 127);
		devices[d]->ops->copy_in(devices[d], x[d], host, sizeof(host));
	}
	/* the first is left as it is */
	for (d = 0; d < n; d++)
		x[d]++;
	devices[0]->ops->all_sum(devices[0], x, n, COUNT - 1);
	for (d = 0; d < n; d++)
	{
		int			wrong = 0;

		devices[d]->ops->copy_out(devices[d], host, x[d] - 1, sizeof(host));
		for (i = 0; i < COUNT; i++)
		{
			float		want = 0;
			int			e;

			for (e = 0; e < n; e++)
				want += i > 0 ? (float) (i * (e + 1) % 127) : 0;
			wrong += host[i] != want;
		}
		CHECK_MSG(wrong == 0 && devices[d]->ops->failure(devices[d]) == NULL, "%d of %d: %d wrong\n", d, n,
				  wrong);
	}
	/* each device's own operations, by one thread in turn */
	for (d = 0; d < n; d++)
	{
		devices[d]->ops->axpy(devices[d], x[d], x[d], (float) d, COUNT - 1);
		devices[d]->ops->copy_out(devices[d], host, x[d], sizeof(float));
		CHECK(host[0] == (float) (n * (n + 1) / 2 * (d + 1)) && devices[d]->ops->failure(devices[d]) == NULL);
	}
}

static void
test_groups(void)
{
	DistilDevice *devices[DISTIL_MAX_GROUP];
	char		message[400] = "";
	int			n;

	for (n = 1; n <= DISTIL_MAX_GROUP && open_group(devices, n, message, sizeof(message)) == n; n++)
	{
		test_sum(devices, n);
		close_group(devices, n);
	}
	printf("groups of up to %d devices%s%s\n", n - 1, message[0] != '\0' ? ": " : "", message);
	CHECK_MSG(strstr(message, "not so many GPUs") != NULL || strstr(message, "NCCL") != NULL, "%s\n",
			  message);
#ifdef DISTIL_TEST_EMULATED
	CHECK(n == 4 && strstr(message, "only 3") != NULL);
#endif
	CHECK(!distil_device_open_group("cuda", NULL, devices, DISTIL_MAX_GROUP + 1, message, sizeof(message)));
	CHECK(!distil_device_open_group("cpu", NULL, devices, 2, message, sizeof(message)));
	CHECK_MSG(strstr(message, "\"cpu\" has no groups") != NULL, "%s\n", message);
	CHECK(!distil_device_open_group("cuda", "float64", devices, 1, message, sizeof(message)));
	devices[0] = distil_device_open("cuda", NULL, message, sizeof(message));
	CHECK_MSG(devices[0] != NULL && devices[0]->ops->all_sum == NULL, "%s\n", message);
	if (devices[0] != NULL)
		devices[0]->ops->close(devices[0]);
}

#ifdef DISTIL_TEST_EMULATED

/* A symbol of the stub, which has been opened. */
static void *
stub(const char *name)
{
	void	   *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_NOLOAD);

	CHECK(library != NULL);
	return dlsym(library, name);
}

/* One function fails: no group, or all its devices fail by name, and no communicator stays. */
static void
test_failing(const char *function, bool opens)
{
	DistilDevice *devices[3];
	char		message[400] = "";
	int		   *live = stub("nccl_stub_live");
	float	   *x[3];
	int			d;

	*(const char **) stub("nccl_stub_failing") = function;
	CHECK((open_group(devices, 3, message, sizeof(message)) == 3) == opens);
	if (!opens)
		CHECK_MSG(strstr(message, function) != NULL && strstr(message, "remote process") != NULL, "%s\n",
				  message);
	for (d = 0; d < 3 && opens; d++)
	{
		x[d] = devices[d]->ops->alloc(devices[d], 64);
		devices[d]->ops->zero(devices[d], x[d], 16);
	}
	if (opens)
	{
		CHECK(*live == 3);
		devices[1]->ops->all_sum(devices[1], x, 3, 16);
		for (d = 0; d < 3; d++)
		{
			const char *failure = devices[d]->ops->failure(devices[d]);

			CHECK_MSG(failure != NULL && strstr(failure, "remote process") != NULL, "%s: %s\n", function,
					  failure);
		}
		*(const char **) stub("nccl_stub_failing") = "";
		CHECK(*live == 0);
		/* it stays failed, and asks nobody */
		devices[0]->ops->all_sum(devices[0], x, 3, 16);
		close_group(devices, 3);
	}
	*(const char **) stub("nccl_stub_failing") = "";
	CHECK(*live == 0);
}

/* Not all devices of the group: all fail, and the library is not asked. */
static void
test_company(void)
{
	DistilDevice *devices[3];
	char		message[400] = "";
	int		   *sums = stub("nccl_stub_sums");
	int			before = *sums;
	float	   *x[3] = {NULL, NULL, NULL};
	int			d;

	CHECK(open_group(devices, 3, message, sizeof(message)) == 3);
	devices[2]->ops->all_sum(devices[2], x, 2, 0);
	for (d = 0; d < 3; d++)
		CHECK(strstr(devices[d]->ops->failure(devices[d]), "not given all") != NULL);
	close_group(devices, 3);
	CHECK(*sums == before && *(int *) stub("nccl_stub_live") == 0);
}

/* What a process ends with for which the library is an empty file: 0 when it was refused by name. */
static void
test_missing(const char *program)
{
	char		folder[] = "/tmp/distil-nccl-XXXXXX";
	char		path[100];
	FILE	   *file;
	pid_t		child;
	int			status = -1;

	CHECK(mkdtemp(folder) != NULL);
	snprintf(path, sizeof(path), "%s/libnccl.so.2", folder);
	file = fopen(path, "w");
	CHECK(file != NULL && fclose(file) == 0);
	fflush(NULL);
	child = fork();
	if (child == 0)
	{
		setenv("LD_LIBRARY_PATH", folder, 1);
		execl(program, program, "missing", NULL);
		_exit(99);
	}
	CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
	unlink(path);
	rmdir(folder);
}

static int
refuse_missing(void)
{
	DistilDevice *devices[2];
	char		message[400] = "";

	if (open_group(devices, 2, message, sizeof(message)) != 0 || strstr(message, "NCCL") == NULL ||
		strstr(message, "libnccl.so.2") == NULL)
	{
		fprintf(stderr, "not refused: %s\n", message);
		return 1;
	}
	/* one GPU needs none of it */
	devices[0] = distil_device_open("cuda", NULL, message, sizeof(message));
	if (devices[0] == NULL)
		return 2;
	devices[0]->ops->close(devices[0]);
	return 0;
}

#endif

int
main(int argc, char **argv)
{
#ifdef DISTIL_TEST_EMULATED
	if (argc > 1 && strcmp(argv[1], "missing") == 0)
		return refuse_missing();
#endif
	(void) argc;
	(void) argv;
	test_groups();
#ifdef DISTIL_TEST_EMULATED
	test_failing("ncclCommInitAll", false);
	test_failing("ncclAllReduce", true);
	test_failing("ncclCommGetAsyncError", true);
	test_company();
	test_missing(argv[0]);
#endif
	return check_report("cuda_group");
}
