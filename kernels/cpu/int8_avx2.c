/*
 * int8_avx2.c
 *		8-bit linear layers with AVX2, whose products of bytes saturate.
 *
 * vpmaddubsw adds two products in 16 bits, and the order of a weight's lines (distil_order_half) says which
 * never leave those.  Lines in pairs are added to each other before vpmaddwd makes 32 bits of them: three
 * multiplications instead of four.  Lines alone take two each, and the rest, which is little, two for each of
 * two lines it is the sum of; so do all lines of a weight without an order.  Rows are copied into strips that
 * hold a line's inputs of all their rows side by side, once for each turn.
 *
 * The rule a newcomer would break: an order comes from a file that may be damaged, so none of its numbers may
 * lead out of the panel or the strip.
 */
#if defined(__x86_64__)
#define CPU_LANES 8
#define INT8_LINEAR distil_cpu_linear_int8_avx2
#define INT8_QUANTIZE distil_cpu_quantize_int8_avx2
#define INT8_NORM distil_cpu_norm_int8_avx2
#include <immintrin.h>
#include "int8_cpu.h"

#define TILE_ROWS	11
#define BLOCK_BYTES	98304		/* of rows at a time: their three turns fit a cache of 512 KB */
#define MOST_INPUTS 131072		/* as quantize_rows() of kernels.h; of half as many any sums are exact */
#define MOST_BYTES	(4 * MOST_INPUTS)	/* of a strip */
#define LINE		(4 * DISTIL_PANEL)	/* bytes of a panel, to the next line */
#define TURNS		4			/* what two bits of an order can say: the last one is the first again */

_Static_assert(TURNS > DISTIL_LINE_TURNS, "one turn more");
_Static_assert(DISTIL_LINE_TURNS * MOST_BYTES <= sizeof(float) * CPU_AREAS * CPU_AREA_FLOATS &&
			   BLOCK_BYTES <= MOST_BYTES, "scratch is too small");

/* Half a panel, and a strip of rows. */
typedef struct Int8Half
{
	const int8_t *panel;
	const uint16_t *line;		/* [lines], as in the order; NULL: as they lie */
	const __m256i *turns;		/* [TURNS], shuffles of a line's bytes */
	int			pairs;			/* so many lines are in pairs, */
	int			safe;			/* and so many in pairs or alone */
	int			lines;
} Int8Half;

typedef struct Int8Strip
{
	const uint8_t *turn[TURNS]; /* [lines][rows][4] each */
	int			rows;
} Int8Strip;

/* A row's four inputs, eight times. */
static inline __attribute__((always_inline)) __m256i
repeat_bytes(const uint8_t *x)
{
	int32_t		four;

	memcpy(&four, x, sizeof(four));
	return _mm256_set1_epi32(four);
}

/* *sum += products of four bytes, those of a unsigned; in one piece: compilers spill the sums otherwise */
static inline __attribute__((always_inline)) void
add_bytes(__m256i *sum, __m256i a, __m256i w, __m256i ones)
{
	__asm__ ("vpmaddubsw %2, %1, %1\n\tvpmaddwd %3, %1, %1\n\tvpaddd %1, %0, %0"
			 : "+x" (*sum), "+x" (a) : "x" (w), "x" (ones));
}

/* The same of eight bytes, whose products meet in 16 bits. */
static inline __attribute__((always_inline)) void
add_pairs(__m256i *sum, __m256i a, __m256i b, __m256i v, __m256i w, __m256i ones)
{
	__asm__ ("vpmaddubsw %3, %1, %1\n\tvpmaddubsw %4, %2, %2\n\tvpaddw %2, %1, %1\n\t"
			 "vpmaddwd %5, %1, %1\n\tvpaddd %1, %0, %0"
			 : "+x" (*sum), "+x" (a), "+x" (b) : "x" (v), "x" (w), "x" (ones));
}

/* ---------- tiles; rows is a constant after inlining ---------- */

/* A line in its turn: the weights, and where the inputs of a strip's rows are. */
static inline __attribute__((always_inline)) __m256i
turned_line(const uint8_t **x, const Int8Strip *s, const Int8Half *h, int line, int rows)
{
	size_t		number = line / 4 < h->lines ? line / 4 : 0;
	__m256i		w = _mm256_loadu_si256((const __m256i *) (const void *) (h->panel + number * LINE));

	*x = s->turn[line % TURNS] + number * rows * 4;
	/* one address, and what each row adds to it: compilers add up each row's own otherwise */
	__asm__ ("" : "+r" (*x));
	return _mm256_shuffle_epi8(w, h->turns[line % TURNS]);
}

/* Of all rows of a strip with half a panel; those of a row are INT8_PAIR behind those of the one before. */
static inline __attribute__((always_inline)) void
half_sums(int32_t *sums, const Int8Strip *s, const Int8Half *h, Int8Fetch *fetch, int rows)
{
	__m256i		ones = _mm256_set1_epi16(1);
	__m256i		sum[TILE_ROWS];
	const uint8_t *x;
	const uint8_t *y;
	int			i,
				r;

#pragma GCC unroll 11
	for (r = 0; r < rows; r++)
		sum[r] = _mm256_setzero_si256();
	for (i = 0; i < h->pairs; i += 2)
	{
		__m256i		v = turned_line(&x, s, h, h->line[i], rows);
		__m256i		w = turned_line(&y, s, h, h->line[i + 1], rows);

#pragma GCC unroll 11
		for (r = 0; r < rows; r++)
			add_pairs(&sum[r], repeat_bytes(x + r * 4), repeat_bytes(y + r * 4), v, w, ones);
		int8_ask(fetch);
		int8_ask(fetch);
	}
	for (; i < h->safe; i++)
	{
		__m256i		w = turned_line(&x, s, h, h->line[i], rows);

#pragma GCC unroll 11
		for (r = 0; r < rows; r++)
			add_bytes(&sum[r], repeat_bytes(x + r * 4), w, ones);
		int8_ask(fetch);
	}
	for (; i < h->lines; i++)
	{
		__m256i		w = turned_line(&x, s, h, h->line != NULL ? h->line[i] : DISTIL_LINE(i, 0), rows);
		/* both within 64, so that either could be alone */
		__m256i		near = _mm256_max_epi8(_mm256_min_epi8(w, _mm256_set1_epi8(64)), _mm256_set1_epi8(-64));
		__m256i		far = _mm256_sub_epi8(w, near);

#pragma GCC unroll 11
		for (r = 0; r < rows; r++)
		{
			add_bytes(&sum[r], repeat_bytes(x + r * 4), near, ones);
			add_bytes(&sum[r], repeat_bytes(x + r * 4), far, ones);
		}
		int8_ask(fetch);
	}
#pragma GCC unroll 11
	for (r = 0; r < rows; r++)
		*(__m256i *) (void *) (sums + r * INT8_PAIR) = sum[r];
}

#define ROWS_CASE(rows) \
		case rows: \
			half_sums(sums, s, h, fetch, rows); \
			break;

static __attribute__((noinline)) void
half_sums_any(int32_t *sums, const Int8Strip *s, const Int8Half *h, Int8Fetch *fetch)
{
	switch (s->rows)
	{
		ROWS_CASE(1) ROWS_CASE(2) ROWS_CASE(3) ROWS_CASE(4) ROWS_CASE(5) ROWS_CASE(6)
		ROWS_CASE(7) ROWS_CASE(8) ROWS_CASE(9) ROWS_CASE(10) ROWS_CASE(11)
	}
}

/* ---------- panels and rows ---------- */

/* Shuffles that bring groups of four bytes into their turns. */
static inline void
make_turns(__m256i turns[TURNS])
{
	__m256i		first = _mm256_broadcastsi128_si256(_mm_set_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0));
	int			i;

	for (i = 0; i < TURNS; i++)
		turns[i] = _mm256_add_epi8(first, repeat_bytes(distil_line_turns[i % DISTIL_LINE_TURNS]));
}

static inline Int8Half
find_half(const DistilWeight *w, int number, size_t length, const __m256i turns[TURNS])
{
	const int8_t *panel = (const int8_t *) w->data + (size_t) (number / 2) * DISTIL_PANEL * length;
	int			lines = (int) (length / 4);
	Int8Half	half = {panel + number % 2 * 4 * DISTIL_HALF, NULL, turns, 0, 0, lines};

	if (w->order != NULL)
	{
		const uint16_t *order = w->order + (size_t) number * (DISTIL_ORDER_HEAD + lines);
		int			safe = order[0] + order[1];

		half.line = order + DISTIL_ORDER_HEAD;
		half.pairs = (order[0] < lines ? order[0] : lines) & ~1;
		half.safe = safe < lines ? safe : lines;
	}
	return half;
}

/* A strip of rows, to `to` [DISTIL_LINE_TURNS][length / 4][rows][4] */
static void
lay_strip(Int8Strip *s, uint8_t *to, const __m256i turns[TURNS], const uint8_t *x, size_t ld,
		  size_t length, int rows)
{
	size_t		size = length * rows;
	uint8_t    *at = to;
	size_t		i;
	int			r;

	*s = (Int8Strip) {{to, to + size, to + 2 * size, to}, rows};
	for (i = 0; i < length; i += 4)
		for (r = 0; r < rows; r++, at += 4)
			memcpy(at, x + r * ld + i, 4);
	for (i = 0; i < size; i += 32)
	{
		__m256i		bytes = *(const __m256i *) (const void *) (to + i);

		for (r = 1; r < DISTIL_LINE_TURNS; r++)
			*(__m256i *) (void *) (to + r * size + i) = _mm256_shuffle_epi8(bytes, turns[r]);
	}
}

/* Strips of rows, one behind the other, against all columns. */
static inline __attribute__((always_inline)) void
int8_block(const Int8Linear *l, const __m256i turns[TURNS], const Int8Strip *strip, int strips,
		   int first, size_t length, DistilActivation act, DistilType type)
{
	int32_t		sums[TILE_ROWS * INT8_PAIR] __attribute__((aligned(64)));
	/* all strips together ask for what comes next; one of them reads as fast as memory gives weights */
	Int8Fetch	fetch = {0, strips > 1 ? (size_t) (32 + strips - 1) / strips : 0};
	Int8Columns columns;
	int			column,
				i,
				j;

	for (column = 0; column < l->w->n; column += INT8_PAIR)
	{
		const int8_t *panel = (const int8_t *) l->w->data + column * length;
		int			row = first;
		Int8Half	half[4];
		int			halves;

		int8_columns(&columns, l->w, column);
		halves = columns.count > DISTIL_PANEL ? 4 : 2;
		for (j = 0; j < halves; j++)
			half[j] = find_half(l->w, column / DISTIL_HALF + j, length, turns);
		fetch.next = (uintptr_t) panel + halves / 2 * DISTIL_PANEL * length;
		for (i = 0; i < strips; row += strip[i++].rows)
		{
			for (j = 0; j < halves; j++)
				half_sums_any(sums + j * DISTIL_HALF, &strip[i], &half[j], &fetch);
			int8_finish_rows(l, &columns, sums, row, strip[i].rows, act, type);
		}
	}
}

static inline __attribute__((always_inline)) void
int8_multiply(const Int8Linear *l, DistilActivation act, DistilType type)
{
	uint8_t    *scratch = (uint8_t *) (void *) l->scratch;
	size_t		length = distil_row_length(DISTIL_TYPE_INT8, l->w->k);
	int			height = MOST_BYTES / length < TILE_ROWS ? (int) (MOST_BYTES / length) : TILE_ROWS;
	int			strips = (l->m + height - 1) / height;
	int			fit = (int) (BLOCK_BYTES / length / height);
	int			blocks = fit > 0 ? (strips + fit - 1) / fit : strips;
	Int8Strip	strip[BLOCK_BYTES / 64 / TILE_ROWS];
	int			first = 0;
	__m256i		turns[TURNS];

	make_turns(turns);
	for (; blocks > 0; blocks--)
	{
		int			part = (strips + blocks - 1) / blocks;
		size_t		used = 0;
		int			row = first;
		int			i;

		/* strips as alike as can be */
		for (i = 0; i < part; i++, strips--)
		{
			int			rows = (l->m - row + strips - 1) / strips;

			const uint8_t *x = (const uint8_t *) l->x->data + (size_t) row * l->x->ld;

			lay_strip(&strip[i], scratch + used, turns, x, l->x->ld, length, rows);
			used += DISTIL_LINE_TURNS * length * rows;
			row += rows;
		}
		int8_block(l, turns, strip, part, first, length, act, type);
		first = row;
	}
}

#include "int8_functions.h"
#include "int8_norm.h"

#define ATTENTION_WORDS distil_cpu_attention_words_avx2
#define ATTENTION_ELSE distil_cpu_attention_floats_avx2
#define WORDS_ROWS 4			/* with a register for products, which dot products of words do not need */

/* In one piece: compilers make all products first and spill the sums. */
static inline vi
words_dot(vi sum, vi a, vi b)
{
	vi			products;

	__asm__ ("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x" (sum), "=&x" (products) : "x" (a), "x" (b));
	return sum;
}

#include "attention_words.h"
#endif
