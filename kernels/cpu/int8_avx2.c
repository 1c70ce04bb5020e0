/*
 * int8_avx2.c
 *		8-bit linear layers with AVX2, whose products of bytes would saturate: they are widened to words.
 *
 * Rows are widened once for all columns, two panels at a time once for a block of rows; then pairs of
 * words are multiplied, six rows by eight columns in 12 registers.  For a few rows panels are widened in
 * the tiles.
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

#define TILE_ROWS	6
#define TILE_FEW	18			/* rows up to which panels are widened in tiles */
#define ROWS_WORDS	98304		/* of rows at a time: they stay in the second-level cache beside the panels */
#define PANEL_WORDS	(2 * DISTIL_PANEL * 4096)	/* two panels of up to 4096 inputs */

/* What is multiplied: rows and panels of words. */
typedef struct Int8Words
{
	const int16_t *x;
	size_t		ld;				/* of x */
	const int8_t *panel;		/* the first of two, as it lies */
	const int16_t *wide;		/* both of them widened, or NULL */
	size_t		length;			/* inputs, in whole lines */
	int			panels;
} Int8Words;

/* A quarter of a panel's line: four columns of four inputs. */
static inline __m256i
widen(const int8_t *w)
{
	return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *) (const void *) w));
}

/* *sum += products of pairs of words, in one piece: compilers make all products first and spill the sums */
static inline __attribute__((always_inline)) void
add_products(__m256i *sum, __m256i a, __m256i b)
{
	__m256i		products;

	__asm__ ("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x" (*sum), "=&x" (products) : "x" (a), "x" (b));
}

/* sums [rows][8] of half a panel; rows and wide are constants after inlining */
static inline __attribute__((always_inline)) void
int8_tile(int32_t *sums, const Int8Words *b, const int16_t *x, size_t at, int rows, bool wide,
		  Int8Fetch *fetch)
{
	const __m256i *words = (const __m256i *) (const void *) (b->wide + at);
	const int8_t *bytes = b->panel + at;
	__m256i		sum[TILE_ROWS][2];
	size_t		step;
	int			r;

#pragma GCC unroll 6
	for (r = 0; r < rows; r++)
		sum[r][0] = sum[r][1] = _mm256_setzero_si256();
	for (step = 0; step < b->length; step += 4)
	{
		__m256i		w0 = wide ? words[step] : widen(bytes + 16 * step);
		__m256i		w1 = wide ? words[step + 1] : widen(bytes + 16 * step + 16);

#pragma GCC unroll 6
		for (r = 0; r < rows; r++)
		{
			long long	four;
			__m256i		all;

			memcpy(&four, x + r * b->ld + step, sizeof(four));
			all = _mm256_set1_epi64x(four);
			add_products(&sum[r][0], all, w0);
			add_products(&sum[r][1], all, w1);
		}
		int8_ask(fetch);
	}
#pragma GCC unroll 6
	for (r = 0; r < rows; r++)
		*(__m256i *) (void *) (sums + r * INT8_PAIR) =
			_mm256_permute4x64_epi64(_mm256_hadd_epi32(sum[r][0], sum[r][1]), 0xd8);
}

typedef void (*Int8Tile) (int32_t *sums, const Int8Words *b, const int16_t *x, size_t at, Int8Fetch *fetch);

#define EACH_HEIGHT(X) X(1) X(2) X(3) X(4) X(5) X(6)
#define TILE_FUNCTIONS(rows) \
	static void \
	tile_words_##rows(int32_t *sums, const Int8Words *b, const int16_t *x, size_t at, Int8Fetch *fetch) \
	{ \
		int8_tile(sums, b, x, at, rows, true, fetch); \
	} \
	static void \
	tile_bytes_##rows(int32_t *sums, const Int8Words *b, const int16_t *x, size_t at, Int8Fetch *fetch) \
	{ \
		int8_tile(sums, b, x, at, rows, false, fetch); \
	}
EACH_HEIGHT(TILE_FUNCTIONS)
#undef TILE_FUNCTIONS

#define TILE_OF_WORDS(rows) tile_words_##rows,
#define TILE_OF_BYTES(rows) tile_bytes_##rows,
static const Int8Tile tiles_of_words[] = {EACH_HEIGHT(TILE_OF_WORDS)};
static const Int8Tile tiles_of_bytes[] = {EACH_HEIGHT(TILE_OF_BYTES)};
#undef TILE_OF_WORDS
#undef TILE_OF_BYTES

/* m rows from `first` on against the columns of a block, in tiles as alike as can be */
static inline __attribute__((always_inline)) void
int8_strips(const Int8Linear *l, const Int8Columns *columns, const Int8Words *b, int first, int m,
			DistilActivation act, DistilType type)
{
	int32_t		sums[TILE_ROWS * INT8_PAIR] __attribute__((aligned(64)));
	const Int8Tile *tiles = b->wide != NULL ? tiles_of_words : tiles_of_bytes;
	int			strips = (m + TILE_ROWS - 1) / TILE_ROWS;
	/* all strips together ask for what comes next; one of them reads as fast as memory gives weights */
	Int8Fetch	fetch = {(uintptr_t) b->panel + b->panels * DISTIL_PANEL * b->length,
	strips > 1 ? (size_t) (32 + strips - 1) / strips : 0};
	int			row = 0;
	int			rows,
				half,
				i;

	for (; strips > 0; strips--, row += rows)
	{
		rows = (m - row + strips - 1) / strips;
		for (half = 0; half < 2 * b->panels; half++)
			tiles[rows - 1](sums + 8 * half, b, b->x + row * b->ld,
							half / 2 * DISTIL_PANEL * b->length + half % 2 * 32, &fetch);
		for (i = 0; i < rows; i++)
			int8_finish_row(l, columns, sums + i * INT8_PAIR, int8_place(l, first + row + i, columns->first),
							l->factors[first + row + i], act, type);
	}
}

/* m rows from `first` on, widened in b->x, against all columns; wide: room for two panels, or NULL */
static inline __attribute__((always_inline)) void
int8_block(const Int8Linear *l, Int8Words *b, int16_t *wide, int first, int m, DistilActivation act,
		   DistilType type)
{
	size_t		panel = DISTIL_PANEL * b->length;
	Int8Columns columns;
	size_t		i;
	int			column;

	b->wide = wide;
	for (column = 0; column < l->w->n; column += INT8_PAIR)
	{
		int8_columns(&columns, l->w, column);
		b->panel = (const int8_t *) l->w->data + (size_t) column / DISTIL_PANEL * panel;
		b->panels = columns.count > DISTIL_PANEL ? 2 : 1;
		for (i = 0; i < b->panels * panel && wide != NULL; i += 16)
			*(__m256i *) (void *) (wide + i) = widen(b->panel + i);
		int8_strips(l, &columns, b, first, m, act, type);
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
	size_t		length = distil_row_length(DISTIL_TYPE_INT8, l->w->k);
	int16_t    *wide = (int16_t *) (void *) l->scratch;
	int16_t    *rows = wide + PANEL_WORDS;
	size_t		fit = ROWS_WORDS / length / TILE_ROWS;
	int			most = fit > 0 ? (int) fit * TILE_ROWS : TILE_ROWS;
	int			blocks = (l->m + most - 1) / most;
	bool		fits = 2 * DISTIL_PANEL * length <= PANEL_WORDS;
	Int8Words	b = {.x = rows,.ld = length + 16,.length = length};
	const uint8_t *x = l->x->data;
	int			first,
				m,
				i;

	for (first = 0; blocks > 0; blocks--, first += m)
	{
		m = (l->m - first + blocks - 1) / blocks;
		for (i = 0; i < m; i++)
			row_words(rows + i * b.ld, x + (size_t) (first + i) * l->x->ld, length);
		int8_block(l, &b, m > TILE_FEW && fits ? wide : NULL, first, m, act, type);
	}
}

/* The longest rows that have exact sums. */
#define MOST_INPUTS 65536

_Static_assert(sizeof(int16_t) * (PANEL_WORDS + ROWS_WORDS + TILE_ROWS * (MOST_INPUTS + 16)) <=
			   sizeof(float) * CPU_AREAS * CPU_AREA_FLOATS, "scratch is too small");

#include "int8_functions.h"
#include "int8_norm.h"

#define ATTENTION_WORDS distil_cpu_attention_words_avx2
#define ATTENTION_ELSE distil_cpu_attention_floats_avx2
#define WORDS_ROWS 4			/* with a register for products, which dot products of words do not need */

static inline vi
words_dot(vi sum, vi a, vi b)
{
	__m256i		all = (__m256i) sum;

	add_products(&all, (__m256i) a, (__m256i) b);
	return (vi) all;
}

#include "attention_words.h"
#endif
