/*
 * tokenize_lines.c
 *		Prints the tokens of texts read from standard input; used by compare_tokenizers.py.
 *
 *		tokenize_lines FOLDER [plain] [pair] [bare] [max N]
 *
 * Input: records "LENGTH\nBYTES".  Output per record, one line: id:type:start:end:word for
 * each token, a tab, and the text that decode gives without special tokens, in
 * hexadecimal; or "error STATUS MESSAGE".  plain: special tokens in texts are not recognised;
 * pair: two records make a pair; bare: no special tokens added; max: longest_first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "folder.h"
#include "tokenizer.h"

static const DistilAllocator *alloc;

static char *
read_record(size_t *length)
{
	unsigned long n;
	char	   *data;

	if (scanf("%lu", &n) != 1 || getchar() != '\n' || n > 100000000)
		return NULL;
	data = malloc(n + 1);
	if (data == NULL || fread(data, 1, n, stdin) != n)
		exit(2);
	*length = n;
	return data;
}

static void
print_encoding(const DistilTokenizer *tokenizer, const DistilEncoding *e)
{
	char	   *text;
	size_t		length;
	DistilError err;

	for (int i = 0; i < e->n; i++)
		printf("%s%d:%d:%d:%d:%d", i > 0 ? " " : "", e->ids[i], e->types[i], e->starts[i], e->ends[i],
			   e->words[i]);
	putchar('\t');
	if (distil_tokenizer_decode(tokenizer, &text, &length, e->ids, e->n, true, alloc, &err) != DISTIL_OK)
		exit(2);
	for (size_t i = 0; i < length; i++)
		printf("%02x", (unsigned char) text[i]);
	putchar('\n');
	distil_release(alloc, text);
}

int
main(int argc, char **argv)
{
	DistilFolder *folder;
	DistilBuffer blob;
	DistilTokenizer *tokenizer;
	DistilEncoding encoding;
	DistilEncodeOptions options;
	DistilError err;
	DistilText	texts[2];
	char	   *data[2] = {NULL, NULL};
	bool		pair = false;

	alloc = distil_alloc_system();
	if (argc < 2)
		return 2;
	distil_buffer_init(&blob, alloc);
	if (distil_folder_open_disk(&folder, argv[1], alloc, &err) != DISTIL_OK ||
		distil_tokenizer_compile(&blob, folder, true, false, 0, alloc, NULL, &err) != DISTIL_OK ||
		distil_tokenizer_open(&tokenizer, blob.data, blob.length, alloc, &err) != DISTIL_OK)
	{
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	options = distil_tokenizer_defaults(tokenizer);
	options.offsets = true;
	for (int i = 2; i < argc; i++)
	{
		if (strcmp(argv[i], "plain") == 0)
			options.parse_special = false;
		else if (strcmp(argv[i], "pair") == 0)
			pair = true;
		else if (strcmp(argv[i], "bare") == 0)
			options.add_special = false;
		else if (strcmp(argv[i], "max") == 0 && i + 1 < argc)
		{
			options.max_tokens = atoi(argv[++i]);
			options.truncation = DISTIL_TRUNCATE_LONGEST_FIRST;
		}
	}
	distil_encoding_init(&encoding, alloc);
	while ((data[0] = read_record(&texts[0].length)) != NULL)
	{
		DistilStatus status;

		texts[0].data = data[0];
		if (pair)
		{
			texts[1].data = data[1] = read_record(&texts[1].length);
			if (data[1] == NULL)
				return 2;
		}
		status = distil_tokenizer_encode(tokenizer, &encoding, &texts[0], pair ? &texts[1] : NULL, &options,
										 NULL, &err);
		if (status == DISTIL_OK)
			print_encoding(tokenizer, &encoding);
		else
			printf("error %d %s\n", status, err.message);
		free(data[0]);
		free(data[1]);
		data[1] = NULL;
	}
	distil_encoding_reset(&encoding);
	distil_tokenizer_free(tokenizer);
	distil_buffer_free(&blob);
	distil_folder_close_disk(folder, alloc);
	return 0;
}
