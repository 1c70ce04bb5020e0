/*
 * int8_avx2.c
 *		8-bit linear layers with AVX2, whose products of bytes saturate.
 *
 * vpmaddubsw adds two products in 16 bits.  Whatever the row has, two weights whose sum is within +-128 are
 * exact there, as 255 * 128 fits; larger ones are rare.  So the lines of half a panel (eight columns of four
 * inputs) are sorted once for a block of rows: those that are safe are multiplied as bytes, twelve rows at a
 * time, the others as pairs of words, which is exact always.  For a few rows sorting does not pay: all words.
 *
 * The rule a newcomer would break: four columns of four inputs make one vector of words, so each column has
 * two sums side by side, which meet only at the end of a tile.
 */
#if defined(__x86_64__)
#define CPU_LANES 8
#define INT8_LINEAR distil_cpu_linear_int8_avx2
#define INT8_QUANTIZE distil_cpu_quantize_int8_avx2
#define INT8_NORM distil_cpu_norm_int8_avx2
#include <immintrin.h>
#include "int8_cpu.h"

#define TILE_WORDS	6			/* rows of a tile of words */
#define TILE_BYTES	12			/* and of bytes */
#define FEW_ROWS	30			/* not worth sorting for */
#define SAFE_SUM	128			/* of two weights */
#define ROWS_WORDS	98304		/* of rows at a time: they stay in the second-level cache beside the panels */
#define SORTED_INPUTS 4096		/* most inputs of a panel that is sorted */
#define MOST_INPUTS 131072		/* as quantize_rows() of kernels.h; of half as many any sums are exact */

/* Half a panel: lines that are multiplied as bytes, and lines that are multiplied as words. */
typedef struct Int8Half
{
	int8_t		bytes[SORTED_INPUTS / 4][32] __attribute__((aligned(64)));	/* [8][4] */
	int16_t		words[SORTED_INPUTS / 4][32] __attribute__((aligned(64)));
	int32_t		bytes_at[SORTED_INPUTS / 4];	/* a line's first input */
	int32_t		words_at[SORTED_INPUTS / 4];
	int			nbytes;
	int			nwords;
} Int8Half;

/* Lies in the device's scratch. */
typedef struct Int8Scratch
{
	Int8Half	half[4];
	int16_t		rows[ROWS_WORDS + TILE_WORDS / 2 * (MOST_INPUTS + 16)] __attribute__((aligned(64)));
} Int8Scratch;

_Static_assert(sizeof(Int8Scratch) <= sizeof(float) * CPU_AREAS * CPU_AREA_FLOATS, "scratch is too small");

/* A block of rows. */
typedef struct Int8Rows
{
	const uint8_t *bytes;
	const int16_t *words;
	size_t		bytes_ld;
	size_t		words_ld;
	size_t		length;			/* inputs, in whole lines */
	int			first;			/* of all rows */
	int			m;
} Int8Rows;

static inline __m256i
widen(const int8_t *w)
{
	return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *) (const void *) w));
}

/* *sum += products of pairs of words, in one piece: compilers make all products first and spill the sums */
static inline __attribute__((always_inline)) void
add_words(__m256i *sum, __m256i a, __m256i b)
{
	__m256i		products;

	__asm__ ("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x" (*sum), "=&x" (products) : "x" (a), "x" (b));
}

/* The same of four bytes, of which a is unsigned. */
static inline __attribute__((always_inline)) void
add_bytes(__m256i *sum, __m256i a, __m256i b, __m256i ones)
{
	__asm__ ("vpmaddubsw %2, %1, %1\n\tvpmaddwd %3, %1, %1\n\tvpaddd %1, %0, %0"
			 : "+x" (*sum), "+x" (a) : "x" (b), "x" (ones));
}

/* ---------- tiles; rows is a constant after inlining ---------- */

/* sum[] += a line of words times one row's inputs at x */
static inline __attribute__((always_inline)) void
words_step(__m256i sum[2], const int16_t *x, __m256i w0, __m256i w1)
{
	long long	four;
	__m256i		all;

	memcpy(&four, x, sizeof(four));
	all = _mm256_set1_epi64x(four);
	add_words(&sum[0], all, w0);
	add_words(&sum[1], all, w1);
}

/* sums [rows][8] = those of words */
static inline __attribute__((always_inline)) void
words_put(int32_t *sums, __m256i sum[TILE_WORDS][2], int rows)
{
	int			r;

#pragma GCC unroll 6
	for (r = 0; r < rows; r++)
		*(__m256i *) (void *) (sums + r * INT8_PAIR) =
			_mm256_permute4x64_epi64(_mm256_hadd_epi32(sum[r][0], sum[r][1]), 0xd8);
}

/* sums [rows][8] = all products with half a panel as it lies */
static inline __attribute__((always_inline)) void
plain_words(int32_t *sums, const int16_t *x, const Int8Rows *b, const int8_t *panel, Int8Fetch *fetch,
			int rows)
{
	__m256i		sum[TILE_WORDS][2];
	size_t		at;
	int			r;

#pragma GCC unroll 6
	for (r = 0; r < rows; r++)
		sum[r][0] = sum[r][1] = _mm256_setzero_si256();
	for (at = 0; at < b->length; at += 4, panel += 64)
	{
		__m256i		w0 = widen(panel);
		__m256i		w1 = widen(panel + 16);

#pragma GCC unroll 6
		for (r = 0; r < rows; r++)
			words_step(sum[r], x + r * b->words_ld + at, w0, w1);
		int8_ask(fetch);
	}
	words_put(sums, sum, rows);
}

/* sums [rows][8] = products with the lines that are words */
static inline __attribute__((always_inline)) void
sorted_words(int32_t *sums, const int16_t *x, const Int8Rows *b, const Int8Half *h, int rows)
{
	__m256i		sum[TILE_WORDS][2];
	int			i,
				r;

#pragma GCC unroll 6
	for (r = 0; r < rows; r++)
		sum[r][0] = sum[r][1] = _mm256_setzero_si256();
	for (i = 0; i < h->nwords; i++)
	{
		const __m256i *w = (const __m256i *) (const void *) h->words[i];

#pragma GCC unroll 6
		for (r = 0; r < rows; r++)
			words_step(sum[r], x + r * b->words_ld + h->words_at[i], w[0], w[1]);
	}
	words_put(sums, sum, rows);
}

/* sums [rows][8] += products with the lines that are bytes */
static inline __attribute__((always_inline)) void
sorted_bytes(int32_t *sums, const uint8_t *x, const Int8Rows *b, const Int8Half *h, Int8Fetch *fetch,
			 int rows)
{
	__m256i		ones = _mm256_set1_epi16(1);
	__m256i		sum[TILE_BYTES];
	size_t		ld = b->bytes_ld;
	const uint8_t *x3 = x + 3 * ld;
	const uint8_t *x6 = x + 6 * ld;
	const uint8_t *x9 = x + 9 * ld;
	int			i,
				r;

#pragma GCC unroll 12
	for (r = 0; r < rows; r++)
		sum[r] = *(const __m256i *) (const void *) (sums + r * INT8_PAIR);
	for (i = 0; i < h->nbytes; i++)
	{
		size_t		at = (size_t) h->bytes_at[i];
		/* so many that each row's address is one of them and up to two strides */
		const uint8_t *const rows3[] = {x + at, x3 + at, x6 + at, x9 + at};
		__m256i		w = *(const __m256i *) (const void *) h->bytes[i];

#pragma GCC unroll 12
		for (r = 0; r < rows; r++)
		{
			int32_t		four;

			memcpy(&four, rows3[r / 3] + r % 3 * ld, sizeof(four));
			add_bytes(&sum[r], _mm256_set1_epi32(four), w, ones);
		}
		int8_ask(fetch);
	}
#pragma GCC unroll 12
	for (r = 0; r < rows; r++)
		*(__m256i *) (void *) (sums + r * INT8_PAIR) = sum[r];
}

#define PLAIN_CASE(rows) \
		case rows: \
			plain_words(sums, x, b, panel, fetch, rows); \
			break;
#define WORDS_CASE(rows) \
		case rows: \
			sorted_words(sums, x, b, h, rows); \
			break;
#define BYTES_CASE(rows) \
		case rows: \
			sorted_bytes(sums, x, b, h, fetch, rows); \
			break;

static __attribute__((noinline)) void
plain_any(int32_t *sums, const int16_t *x, const Int8Rows *b, const int8_t *panel, Int8Fetch *fetch,
		  int rows)
{
	switch (rows)
	{
		PLAIN_CASE(1) PLAIN_CASE(2) PLAIN_CASE(3) PLAIN_CASE(4) PLAIN_CASE(5) PLAIN_CASE(6)
	}
}

/* More than FEW_ROWS rows make tiles of 9 to 12, and halves of them. */
static __attribute__((noinline)) void
sorted_words_any(int32_t *sums, const int16_t *x, const Int8Rows *b, const Int8Half *h, int rows)
{
	switch (rows)
	{
		WORDS_CASE(4) WORDS_CASE(5) WORDS_CASE(6)
	}
}

static __attribute__((noinline)) void
sorted_bytes_any(int32_t *sums, const uint8_t *x, const Int8Rows *b, const Int8Half *h, Int8Fetch *fetch,
				 int rows)
{
	switch (rows)
	{
		BYTES_CASE(9) BYTES_CASE(10) BYTES_CASE(11) BYTES_CASE(12)
	}
}

/* ---------- panels and rows ---------- */

static void
sort_half(Int8Half *h, const int8_t *panel, size_t length)
{
	__m256i		most = _mm256_set1_epi16(SAFE_SUM);
	int			nbytes = 0;
	int			nwords = 0;
	size_t		at;

	for (at = 0; at < length; at += 4, panel += 64)
	{
		__m256i		line = _mm256_loadu_si256((const __m256i *) (const void *) panel);
		__m256i		pairs = _mm256_abs_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), line));
		__m256i		unsafe = _mm256_cmpgt_epi16(pairs, most);
		int			safe = _mm256_testz_si256(unsafe, unsafe);

		/* both are written, one of them again by the next line */
		*(__m256i *) (void *) h->bytes[nbytes] = line;
		h->bytes_at[nbytes] = (int32_t) at;
		nbytes += safe;
		*(__m256i *) (void *) h->words[nwords] = widen(panel);
		*(__m256i *) (void *) (h->words[nwords] + 16) = widen(panel + 16);
		h->words_at[nwords] = (int32_t) at;
		nwords += 1 - safe;
	}
	h->nbytes = nbytes;
	h->nwords = nwords;
}

/* sums [rows][INT8_PAIR] of a block's rows from `row` on */
static inline void
int8_sums(int32_t *sums, const Int8Rows *b, const Int8Half *half, const int8_t *panel, Int8Fetch *fetch,
		  int row, int rows, int halves)
{
	const int16_t *words = b->words + row * b->words_ld;
	int			upper = (rows + 1) / 2;
	int			i;

	for (i = 0; i < halves; i++, sums += 8)
	{
		if (half == NULL)
		{
			plain_any(sums, words, b, panel + i / 2 * DISTIL_PANEL * b->length + i % 2 * 32, fetch, rows);
			continue;
		}
		sorted_words_any(sums, words, b, &half[i], upper);
		sorted_words_any(sums + upper * INT8_PAIR, words + upper * b->words_ld, b, &half[i], rows - upper);
		sorted_bytes_any(sums, b->bytes + row * b->bytes_ld, b, &half[i], fetch, rows);
	}
}

/* A block of rows against all columns, in tiles as alike as can be; half: room for sorted panels, or NULL */
static inline __attribute__((always_inline)) void
int8_block(const Int8Linear *l, const Int8Rows *b, Int8Half *half, DistilActivation act, DistilType type)
{
	int32_t		sums[TILE_BYTES * INT8_PAIR] __attribute__((aligned(64)));
	size_t		panel = DISTIL_PANEL * b->length;
	int			most = half != NULL ? TILE_BYTES : TILE_WORDS;
	int			strips = (b->m + most - 1) / most;
	/* all strips together ask for what comes next; one of them reads as fast as memory gives weights */
	Int8Fetch	fetch = {0, strips > 1 ? (size_t) (32 + strips - 1) / strips : 0};
	Int8Columns columns;
	int			column,
				i;

	for (column = 0; column < l->w->n; column += INT8_PAIR)
	{
		const int8_t *at = (const int8_t *) l->w->data + (size_t) column / DISTIL_PANEL * panel;
		int			left = strips;
		int			row = 0;
		int			halves;
		int			rows;

		int8_columns(&columns, l->w, column);
		halves = columns.count > DISTIL_PANEL ? 4 : 2;
		for (i = 0; i < halves && half != NULL; i++)
			sort_half(&half[i], at + i / 2 * panel + i % 2 * 32, b->length);
		fetch.next = (uintptr_t) at + halves / 2 * panel;
		for (; left > 0; left--, row += rows)
		{
			rows = (b->m - row + left - 1) / left;
			int8_sums(sums, b, half, at, &fetch, row, rows, halves);
			int8_finish_rows(l, &columns, sums, b->first + row, rows, act, type);
		}
	}
}

static void
row_words(int16_t *to, const uint8_t *from, size_t length)
{
	size_t		i;

	for (i = 0; i < length; i += 16)
		*(__m256i *) (void *) (to + i) =
			_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *) (const void *) (from + i)));
}

static inline __attribute__((always_inline)) void
int8_multiply(const Int8Linear *l, DistilActivation act, DistilType type)
{
	Int8Scratch *scratch = (Int8Scratch *) (void *) l->scratch;
	size_t		length = distil_row_length(DISTIL_TYPE_INT8, l->w->k);
	size_t		fit = ROWS_WORDS / length / TILE_BYTES * TILE_BYTES;
	size_t		room = sizeof(scratch->rows) / sizeof(scratch->rows[0]) / (length + 16);
	int			most = fit > 0 ? (int) fit : room < TILE_WORDS ? (int) room : TILE_WORDS;
	int			blocks = (l->m + most - 1) / most;
	Int8Rows	b = {.words = scratch->rows,.bytes_ld = l->x->ld,.words_ld = length + 16,.length = length};
	int			i;

	for (; blocks > 0; blocks--, b.first += b.m)
	{
		b.m = (l->m - b.first + blocks - 1) / blocks;
		b.bytes = (const uint8_t *) l->x->data + (size_t) b.first * l->x->ld;
		for (i = 0; i < b.m; i++)
			row_words(scratch->rows + i * b.words_ld, b.bytes + i * b.bytes_ld, length);
		int8_block(l, &b, b.m > FEW_ROWS && length <= SORTED_INPUTS ? scratch->half : NULL, act, type);
	}
}

#include "int8_functions.h"
#include "int8_norm.h"

#define ATTENTION_WORDS distil_cpu_attention_words_avx2
#define ATTENTION_ELSE distil_cpu_attention_floats_avx2
#define WORDS_ROWS 4			/* with a register for products, which dot products of words do not need */

static inline vi
words_dot(vi sum, vi a, vi b)
{
	__m256i		all = (__m256i) sum;

	add_words(&all, (__m256i) a, (__m256i) b);
	return (vi) all;
}

#include "attention_words.h"
#endif
