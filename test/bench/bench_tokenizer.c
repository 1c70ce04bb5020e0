/*
 * bench_tokenizer.c
 *		Speed of the tokenizer on one core: every line of a file, special tokens added.
 *
 *		bench_tokenizer FOLDER FILE [offsets] [max N]
 *
 * Prints MB/s (10^6 bytes of UTF-8, processor time) of the best of five rounds; tokenizer_rival.py does the
 * same with the Rust library.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "folder.h"
#include "tokenizer.h"

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static char *
read_all(const char *path, size_t *length)
{
	FILE	   *file = fopen(path, "rb");
	char	   *data;

	if (file == NULL)
		return NULL;
	fseek(file, 0, SEEK_END);
	*length = (size_t) ftell(file);
	rewind(file);
	data = malloc(*length + 1);
	if (data == NULL || fread(data, 1, *length, file) != *length)
		exit(2);
	fclose(file);
	return data;
}

int
main(int argc, char **argv)
{
	const DistilAllocator *alloc = distil_alloc_system();
	DistilFolder *folder;
	DistilBuffer blob;
	DistilTokenizer *tokenizer;
	DistilEncoding encoding;
	DistilEncodeOptions options;
	DistilError err;
	size_t		length;
	char	   *data;
	double		best = 1e9;
	double		start = now();
	double		opened;
	long		tokens = 0;
	long		lines = 0;

	if (argc < 3)
		return 2;
	distil_buffer_init(&blob, alloc);
	if (distil_folder_open_disk(&folder, argv[1], alloc, &err) != DISTIL_OK ||
		distil_tokenizer_compile(&blob, folder, true, false, 0, alloc, NULL, &err) != DISTIL_OK)
	{
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	printf("compiled in %.1f ms, %zu bytes\n", (now() - start) * 1e3, blob.length);
	start = now();
	if (distil_tokenizer_open(&tokenizer, blob.data, blob.length, alloc, &err) != DISTIL_OK)
		return 1;
	opened = now() - start;
	printf("opened in %.3f ms\n", opened * 1e3);
	data = read_all(argv[2], &length);
	if (data == NULL)
		return 1;
	options = distil_tokenizer_defaults(tokenizer);
	for (int i = 3; i < argc; i++)
		if (strcmp(argv[i], "offsets") == 0)
			options.offsets = true;
		else if (strcmp(argv[i], "max") == 0 && i + 1 < argc)
		{
			options.max_tokens = atoi(argv[++i]);
			options.truncation = DISTIL_TRUNCATE_LONGEST_FIRST;
		}
	distil_encoding_init(&encoding, alloc);
	for (int round = 0; round < 5; round++)
	{
		double		seconds;

		tokens = lines = 0;
		start = now();
		for (char *p = data; p < data + length;)
		{
			char	   *end = memchr(p, '\n', (size_t) (data + length - p));
			DistilText	text = {p, (size_t) ((end != NULL ? end : data + length) - p)};

			if (distil_tokenizer_encode(tokenizer, &encoding, &text, NULL, &options, NULL, &err) != DISTIL_OK)
			{
				fprintf(stderr, "%s\n", err.message);
				return 1;
			}
			tokens += encoding.n;
			lines++;
			p += text.length + 1;
		}
		seconds = now() - start;
		best = seconds < best ? seconds : best;
	}
	printf("%zu bytes, %ld lines, %ld tokens: %.1f MB/s, %.2f million tokens/s\n", length, lines, tokens,
		   (double) length / best * 1e-6, (double) tokens / best * 1e-6);
	distil_encoding_reset(&encoding);
	distil_tokenizer_free(tokenizer);
	distil_buffer_free(&blob);
	distil_folder_close_disk(folder, alloc);
	free(data);
	return 0;
}
