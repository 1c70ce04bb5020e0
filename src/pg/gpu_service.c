/*
 * gpu_service.c
 *		The process that has the GPU: connections of backends, and their requests in batches.
 *
 * One thread.  While the device computes, the engine's poll looks after the connections: it reads further
 * requests, which make the next batch together, and sees who has gone away.  Requests of the same model,
 * precision and prompt length are computed at once, the oldest first.
 *
 * The rule a newcomer would break: there is no shared memory here (gpu_worker.c), so no latch, lock or
 * interrupt; and the poll runs below the engine, so that no client of the batch at work may be freed there.
 */
#include "postgres.h"

#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "gpu_worker.h"

/* Texts and tokens of the requests that are put together; one alone may be larger. */
#define BATCH_TEXTS 16384
#define BATCH_TOKENS (1 << 18)
/* The connections are looked after so often while the device computes. */
#define LOOK_MS 1

typedef struct Client
{
	int			fd;				/* -1: gone */
	bool		at_work;		/* part of the batch that is being computed */
	bool		alone;			/* to be computed without others, as one of those could not be */
	uint64		queued;			/* when its request was complete; 0: it has none */
	DistilGpuHeader header;
	DistilGpuEmbed request;
	char	   *body;			/* of the request, header.length bytes */
	size_t		have;			/* bytes read of header and body */
	const int32_t *offsets;		/* [request.n + 1], in body */
	const int32_t *ids;
	char	   *answer;
	size_t		answer_size;
	size_t		answered;		/* bytes of it sent */
} Client;

static Client **clients;
static int	nclients;
static int	max_clients;		/* places in clients and polls */
static struct pollfd *polls;	/* control, listener, clients */
static uint64 counter;			/* of requests */
static DistilGpuStatus figures;
static DistilGpuSettings settings;
static int	listener;
static int	control;
static int64 idle_since;

int64
distil_gpu_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---------- answers ---------- */

static void
drop(Client *client)
{
	if (client->fd < 0)
		return;
	close(client->fd);
	client->fd = -1;
	if (client->queued != 0)
		figures.dropped++;
	client->queued = 0;
}

/* Send what the socket takes. */
static void
flush_answer(Client *client)
{
	while (client->fd >= 0 && client->answered < client->answer_size)
	{
		ssize_t		n = send(client->fd, client->answer + client->answered,
							 client->answer_size - client->answered, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n < 0 && errno != EINTR)
			drop(client);
		else if (n > 0)
			client->answered += (size_t) n;
	}
	if (client->answer != NULL)
		pfree(client->answer);
	client->answer = NULL;
	client->answer_size = client->answered = 0;
}

/* The answer to the request at hand, which is done with. */
static void
answer(Client *client, DistilGpuKind kind, const void *data, size_t bytes)
{
	DistilGpuHeader header = {DISTIL_GPU_MAGIC, kind, bytes};

	client->queued = 0;
	client->alone = false;
	client->have = 0;
	if (client->body != NULL)
		pfree(client->body);
	client->body = NULL;
	client->answer_size = sizeof(header) + bytes;
	client->answer = MemoryContextAllocHuge(TopMemoryContext, client->answer_size);
	memcpy(client->answer, &header, sizeof(header));
	if (bytes > 0)
		memcpy(client->answer + sizeof(header), data, bytes);
	flush_answer(client);
}

static void
answer_error(Client *client, DistilStatus status, const DistilError *err)
{
	DistilGpuError error = {status, *err};

	answer(client, DISTIL_GPU_ERROR, &error, sizeof(error));
}

static void
answer_status(Client *client)
{
	DistilGpuStatus status = figures;

	status.pid = MyProcPid;
	status.memory = settings.memory;
	distil_gpu_models_status(&status);
	answer(client, DISTIL_GPU_STATUS, &status, sizeof(status));
}

/* ---------- requests ---------- */

/* Lengths and offsets; false: this is no request.  What the tokens may be is the engine's to check. */
static bool
check_request(Client *client)
{
	uint64		numbers;
	int			i;

	memcpy(&client->request, client->body, sizeof(client->request));
	numbers = (client->header.length - sizeof(client->request)) / sizeof(int32_t);
	client->offsets = (const int32_t *) (client->body + sizeof(client->request));
	if (client->header.length % sizeof(int32_t) != 0 || client->request.n < 1 ||
		(uint64) client->request.n + 1 > numbers || client->offsets[0] != 0 ||
		memchr(client->request.key.layout, '\0', sizeof(client->request.key.layout)) == NULL)
		return false;
	for (i = 0; i < client->request.n; i++)
		if (client->offsets[i + 1] < client->offsets[i])
			return false;
	client->ids = client->offsets + (client->request.n + 1);
	return (uint64) client->request.n + 1 + (uint64) client->offsets[client->request.n] == numbers;
}

/* A header, or a header and its body, are there.  false: the client talks nonsense. */
static bool
take_input(Client *client)
{
	DistilGpuHeader *header = &client->header;

	if (client->body == NULL)
	{
		if (header->magic != DISTIL_GPU_MAGIC)
			return false;
		if (header->kind == DISTIL_GPU_STATUS && header->length == 0)
		{
			answer_status(client);
			return true;
		}
		if (header->kind != DISTIL_GPU_EMBED ||
			header->length < sizeof(DistilGpuEmbed) + 2 * sizeof(int32_t) ||
			header->length > DISTIL_GPU_MAX_REQUEST)
			return false;
		client->body = MemoryContextAllocHuge(TopMemoryContext, header->length);
		return true;
	}
	if (!check_request(client))
		return false;
	client->queued = ++counter;
	return true;
}

/* Read what is there. */
static void
read_client(Client *client)
{
	while (client->fd >= 0)
	{
		size_t		head = sizeof(client->header);
		size_t		want = client->body != NULL ? head + client->header.length : head;
		char		extra;
		char	   *to = &extra;
		ssize_t		n;

		if (client->queued != 0 || client->answer != NULL)
			want = client->have + 1;	/* nothing may come now but the end */
		else
			to = client->have < head ? (char *) &client->header + client->have
				: client->body + (client->have - head);
		n = recv(client->fd, to, want - client->have, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || to == &extra)
		{
			drop(client);
			return;
		}
		client->have += (size_t) n;
		if (client->have == want && !take_input(client))
			drop(client);
	}
}

/* ---------- connections ---------- */

static void
accept_clients(void)
{
	DistilGpuHeader hello = {DISTIL_GPU_MAGIC, DISTIL_GPU_HELLO, 0};
	int			fd;

	while ((fd = accept(listener, NULL, NULL)) >= 0)
	{
		Client	   *client;

		if (send(fd, &hello, sizeof(hello), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(hello))
		{
			close(fd);
			continue;
		}
		if (nclients == max_clients)
		{
			max_clients *= 2;
			clients = repalloc(clients, sizeof(Client *) * max_clients);
			polls = repalloc(polls, sizeof(struct pollfd) * (2 + max_clients));
		}
		client = palloc0(sizeof(Client));
		client->fd = fd;
		clients[nclients++] = client;
	}
}

static void
free_client(Client *client)
{
	if (client->body != NULL)
		pfree(client->body);
	if (client->answer != NULL)
		pfree(client->answer);
	pfree(client);
}

/* Those that are gone, unless the batch at work still needs what they sent. */
static void
forget_gone(void)
{
	int			kept = 0;
	int			i;

	if (nclients > 0)
		idle_since = distil_gpu_clock();
	for (i = 0; i < nclients; i++)
	{
		if (clients[i]->fd < 0 && !clients[i]->at_work)
			free_client(clients[i]);
		else
			clients[kept++] = clients[i];
	}
	nclients = kept;
}

/* Settings; the end of the worker is the end of this process. */
static void
read_control(void)
{
	ssize_t		n = recv(control, &settings, sizeof(settings), MSG_DONTWAIT);

	if (n == 0)
		_exit(0);
}

/* Look after all connections, waiting up to so many milliseconds (-1: for ever) for something to do. */
static void
look_after(int64 timeout)
{
	int			n = nclients;
	int			i;

	polls[0].fd = control;
	polls[1].fd = listener;
	polls[0].events = polls[1].events = POLLIN;
	for (i = 0; i < n; i++)
	{
		polls[2 + i].fd = clients[i]->fd;
		polls[2 + i].events = clients[i]->answer != NULL ? POLLIN | POLLOUT : POLLIN;
	}
	if (poll(polls, (nfds_t) n + 2, (int) Min(timeout, INT_MAX)) <= 0)
		return;
	for (i = 0; i < n; i++)
	{
		if (polls[2 + i].revents & POLLOUT)
			flush_answer(clients[i]);
		if (polls[2 + i].revents & ~POLLOUT)
			read_client(clients[i]);
	}
	if (polls[0].revents != 0)
		read_control();
	if (polls[1].revents != 0)
		accept_clients();
	forget_gone();
}

/* ---------- batches ---------- */

/* The engine's poll: nobody waits for the batch any more? */
static bool
nobody_waits(void *ctx)
{
	static int64 looked = 0;
	int64		now = distil_gpu_clock();
	bool		anybody = false;
	int			i;

	(void) ctx;
	if (now - looked >= LOOK_MS)
	{
		look_after(0);
		looked = now;
	}
	for (i = 0; i < nclients; i++)
		anybody |= clients[i]->at_work && clients[i]->fd >= 0;
	return !anybody;
}

static const DistilPoll service_poll = {nobody_waits, NULL};

typedef struct Work
{
	Client	  **clients;		/* whose requests it is, oldest first */
	int			nclients;
	int			texts;
	int			tokens;
} Work;

static Client *
oldest_like(const DistilGpuKey *key, uint64 after)
{
	Client	   *oldest = NULL;
	int			i;

	for (i = 0; i < nclients; i++)
		if (clients[i]->queued > after && (oldest == NULL || clients[i]->queued < oldest->queued) &&
			(key == NULL || (!clients[i]->alone && memcmp(&clients[i]->request.key, key, sizeof(*key)) == 0)))
			oldest = clients[i];
	return oldest;
}

/* The oldest request and others like it. */
static void
gather(Work *work)
{
	Client	   *client = oldest_like(NULL, 0);

	memset(work, 0, sizeof(*work));
	work->clients = palloc(sizeof(Client *) * Max(nclients, 1));
	while (client != NULL)
	{
		int			tokens = client->offsets[client->request.n];

		if (work->nclients > 0 &&
			((int64) work->texts + client->request.n > BATCH_TEXTS ||
			 (int64) work->tokens + tokens > BATCH_TOKENS))
			break;
		work->clients[work->nclients++] = client;
		work->texts += client->request.n;
		work->tokens += tokens;
		client->at_work = true;
		client = client->alone ? NULL : oldest_like(&work->clients[0]->request.key, client->queued);
	}
}

/* All sequences of the batch as one request: offsets [texts + 1], then ids. */
static int32_t *
join(const Work *work)
{
	int32_t    *offsets = MemoryContextAllocHuge(CurrentMemoryContext,
												 sizeof(int32_t) *
												 ((Size) work->texts + 1 + (Size) work->tokens));
	int32_t    *ids = offsets + work->texts + 1;
	int			text = 0;
	int			token = 0;
	int			i;
	int			j;

	for (i = 0; i < work->nclients; i++)
	{
		const Client *client = work->clients[i];
		int			n = client->request.n;

		for (j = 0; j < n; j++)
			offsets[text++] = token + client->offsets[j];
		memcpy(ids + token, client->ids, sizeof(int32_t) * (Size) client->offsets[n]);
		token += client->offsets[n];
	}
	offsets[text] = token;
	return offsets;
}

/* *out [texts, D'], palloc'd */
static DistilStatus
compute(const Work *work, float **out, int *dimensions, DistilError *err)
{
	DistilSession *session;
	DistilStatus status = distil_gpu_session(&session, dimensions, &work->clients[0]->request.key,
											 &service_poll, err);
	int32_t    *offsets;

	*out = NULL;
	if (status != DISTIL_OK)
		return status;
	offsets = join(work);
	*out = MemoryContextAllocHuge(CurrentMemoryContext,
								  sizeof(float) * (Size) work->texts * (Size) *dimensions);
	status = distil_session_embed_tokens(session, *out, offsets + work->texts + 1, offsets, work->texts,
										 work->clients[0]->request.key.skip, err);
	pfree(offsets);
	return status;
}

/* One request's tokens are bad: all of them again, each alone. */
static void
separate(const Work *work)
{
	int			i;

	for (i = 0; i < work->nclients; i++)
	{
		work->clients[i]->at_work = false;
		work->clients[i]->alone = true;
	}
}

/* Each client its part, or the error. */
static void
distribute(const Work *work, const float *out, int dimensions, DistilStatus status, const DistilError *err)
{
	Size		at = 0;
	int			i;

	for (i = 0; i < work->nclients; i++)
	{
		Client	   *client = work->clients[i];
		Size		count = (Size) client->request.n * (Size) dimensions;

		client->at_work = false;
		if (client->fd >= 0 && status == DISTIL_OK && client->request.dimensions != dimensions)
			drop(client);
		else if (client->fd >= 0 && status == DISTIL_OK)
		{
			figures.requests++;
			answer(client, DISTIL_GPU_VECTORS, out + at, sizeof(float) * count);
		}
		else if (client->fd >= 0)
			answer_error(client, status, err);
		at += count;
	}
}

/* One batch; false: there is nothing to do. */
static bool
run_batch(void)
{
	DistilError err = {"", "", ""};
	DistilStatus status;
	float	   *out = NULL;
	int			dimensions = 0;
	Work		work;

	gather(&work);
	if (work.nclients > 0)
	{
		distil_gpu_limit(settings.memory);
		status = compute(&work, &out, &dimensions, &err);
		figures.batches += status == DISTIL_OK;
		elog(DEBUG1, "GPU batch of %d requests, %d texts, %d tokens", work.nclients, work.texts, work.tokens);
		if (status == DISTIL_ERR_LIMIT && work.nclients > 1)
			separate(&work);
		else
			distribute(&work, out, dimensions, status, &err);
		if (out != NULL)
			pfree(out);
		forget_gone();
	}
	pfree(work.clients);
	return work.nclients > 0;
}

/* ---------- the process ---------- */

/* Answers that are not sent yet. */
static bool
any_answer(void)
{
	int			i;

	for (i = 0; i < nclients; i++)
		if (clients[i]->answer != NULL)
			return true;
	return false;
}

void
distil_gpu_serve(int listening, int controlling)
{
	listener = listening;
	control = controlling;
	MemoryContextSwitchTo(AllocSetContextCreate(TopMemoryContext, "distil GPU service",
												ALLOCSET_DEFAULT_SIZES));
	max_clients = 64;
	clients = palloc(sizeof(Client *) * max_clients);
	polls = palloc(sizeof(struct pollfd) * (2 + max_clients));
	idle_since = distil_gpu_clock();
	read_control();
	for (;;)
	{
		int64		idle = distil_gpu_clock() - idle_since;

		if (run_batch())
			continue;
		/* A lost device is taken up again by another process only. */
		if (distil_gpu_lost() && !any_answer())
			break;
		if (nclients == 0 && settings.idle_ms > 0 && idle >= settings.idle_ms)
			break;
		look_after(nclients > 0 || settings.idle_ms == 0 ? -1 : settings.idle_ms - idle);
	}
	(void) unlink(DISTIL_GPU_SOCKET);
	_exit(0);
}
