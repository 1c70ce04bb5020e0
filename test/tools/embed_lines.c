/*
 * embed_lines.c
 *		Run a model folder over the lines of standard input; raw float32 to standard output.
 *
 *	embed_lines FOLDER [embed | hidden | logits | time] [backend [isa]]
 *
 * embed: D' floats per line; hidden and logits: per line an int32 T, then [T, C] or
 * [T, V] floats; time: nothing but the figures on standard error (texts and tokens per
 * second, time of tokenizer and model).  For the comparisons of test/golden/compare_*.py.
 */
#include "load_model.h"

static DistilStatus
write_row(void *ctx, int t, const float *row, int n, DistilError *err)
{
	(void) t;
	(void) err;
	fwrite(row, sizeof(float), (size_t) n, ctx);
	return DISTIL_OK;
}

/* Lines of stdin; each owned by *texts. */
static int
read_lines(DistilText **texts)
{
	char	   *line = NULL;
	size_t		capacity = 0;
	ssize_t		length;
	int			n = 0;
	int			room = 0;

	*texts = NULL;
	while ((length = getline(&line, &capacity, stdin)) >= 0)
	{
		if (length > 0 && line[length - 1] == '\n')
			length--;
		if (n == room)
		{
			room = room * 2 + 64;
			*texts = realloc(*texts, sizeof(DistilText) * (size_t) room);
		}
		(*texts)[n].data = memcpy(malloc((size_t) length + 1), line, (size_t) length);
		(*texts)[n++].length = (size_t) length;
	}
	free(line);
	return n;
}

/* T of lm_logits is known only at its end: collect first. */
static DistilStatus
write_logits(DistilSession *session, const DistilText *text, DistilError *err)
{
	char	   *data = NULL;
	size_t		size = 0;
	FILE	   *memory = open_memstream(&data, &size);
	int32_t		tokens;
	DistilStatus status = distil_session_lm_logits(session, text, NULL, write_row, memory, &tokens, err);

	fclose(memory);
	fwrite(&tokens, sizeof(tokens), 1, stdout);
	fwrite(data, 1, size, stdout);
	free(data);
	return status;
}

static DistilStatus
run(DistilSession *session, const LoadedModel *loaded, const char *mode, const DistilText *texts, int n,
	DistilError *err)
{
	const DistilModelInfo *info = distil_model_info(loaded->model);
	DistilStatus status = DISTIL_OK;
	int			i;

	if (strcmp(mode, "embed") == 0 || strcmp(mode, "time") == 0)
	{
		float	   *out = calloc((size_t) n * (size_t) info->dimensions + 1, sizeof(float));
		bool	   *has = calloc((size_t) n + 1, sizeof(bool));

		status = distil_session_embed(session, out, has, texts, n, -1, err);
		if (strcmp(mode, "embed") == 0)
			fwrite(out, sizeof(float) * (size_t) info->dimensions, (size_t) n, stdout);
		free(out);
		free(has);
		return status;
	}
	for (i = 0; i < n && status == DISTIL_OK; i++)
		if (strcmp(mode, "hidden") == 0)
		{
			const float *states;
			int32_t		tokens = 0;

			status = distil_session_hidden(session, &states, &tokens, &texts[i], err);
			fwrite(&tokens, sizeof(tokens), 1, stdout);
			if (status == DISTIL_OK)
				fwrite(states, sizeof(float) * (size_t) info->width, (size_t) tokens, stdout);
		}
		else
			status = write_logits(session, &texts[i], err);
	return status;
}

int
main(int argc, char **argv)
{
	const char *mode = argc > 2 ? argv[2] : "embed";
	char		message[256] = "";
	LoadedModel loaded;
	DistilSession *session;
	DistilDevice *device;
	DistilText *texts;
	DistilError err;
	int			n;
	int			i;

	if (argc < 2 || !load_model(&loaded, argv[1], true))
		return 1;
	device = distil_device_open(argc > 3 ? argv[3] : "cpu", argc > 4 ? argv[4] : NULL, message,
								sizeof(message));
	if (device == NULL)
	{
		fprintf(stderr, "%s\n", message);
		return 1;
	}
	n = read_lines(&texts);
	if (distil_session_create(&session, loaded.model, device, 0, distil_alloc_system(), NULL,
							  &err) != DISTIL_OK ||
		run(session, &loaded, mode, texts, n, &err) != DISTIL_OK)
	{
		fprintf(stderr, "%s: %s\n", err.message, err.detail);
		return 1;
	}
	if (strcmp(mode, "time") == 0)
	{
		const DistilSessionStats *stats = distil_session_stats(session);
		double		seconds = stats->tokenizer_seconds + stats->model_seconds;

		fprintf(stderr,
				"%lld texts, %lld tokens, %lld passes, %lld truncated: %.3f s tokenizer, %.3f s model, "
				"%.0f texts/s, %.0f tokens/s\n", (long long) stats->texts, (long long) stats->tokens,
				(long long) stats->batches, (long long) stats->truncated, stats->tokenizer_seconds,
				stats->model_seconds, (double) stats->texts / seconds, (double) stats->tokens / seconds);
	}
	for (i = 0; i < n; i++)
		free((char *) texts[i].data);
	free(texts);
	distil_session_free(session);
	device->ops->close(device);
	load_free(&loaded);
	return 0;
}
