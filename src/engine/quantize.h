/*
 * quantize.h
 *		Inside of distil_quantize: what is known of each matrix, and the form it gets.
 *
 * A matrix [rows, cols] of eight bits stands for stored * scale[row] * factor[column]; the inputs of a
 * linear layer are multiplied by the same factors before they are quantised, row by row.  The
 * factors take the sting out of columns with outliers (SmoothQuant, arXiv 2211.10438): they are
 * part of the weight, nothing before the layer changes.
 */
#ifndef DISTIL_QUANTIZE_H
#define DISTIL_QUANTIZE_H

#include "checkpoint.h"
#include "container.h"
#include "layers.h"
#include "session.h"

typedef struct DistilQuantMatrix
{
	int			param;
	bool		linear;			/* its input is quantised too; otherwise a table, whose rows are looked up */
	DistilType	type;			/* it is to have: INT8, or BF16 where that was not good enough */
	int			rows, cols;
	int8_t	   *values;			/* [rows, cols] */
	float	   *scale;			/* [rows] */
	float	   *factor;			/* [cols] 1 for tables */
	float	   *most;			/* [cols] largest input seen; linear only, as the next */
	double	   *power;			/* [cols] sum of the squares of the inputs */
	float	   *gram;			/* sum of their products (below); NULL: not wanted, or given back */
} DistilQuantMatrix;

/*
 * Sums of products of n columns, of which each pair is there once: strips of DISTIL_GRAM_ROWS rows, one
 * behind the other, each as wide as to the end of its square on the diagonal.  Strip s begins at
 * distil_gram_offset(s), its rows are min(n, (s + 1) * DISTIL_GRAM_ROWS) long.
 */
#define DISTIL_GRAM_ROWS 128

static inline size_t
distil_gram_offset(size_t strip)
{
	return strip * (strip + 1) / 2 * DISTIL_GRAM_ROWS * DISTIL_GRAM_ROWS;
}

static inline size_t
distil_gram_size(size_t n)
{
	size_t		whole = n / DISTIL_GRAM_ROWS;

	return distil_gram_offset(whole) + n % DISTIL_GRAM_ROWS * n;
}

static inline float
distil_gram_value(const float *gram, size_t n, size_t i, size_t j)
{
	size_t		row = i > j ? i : j;
	size_t		strip = row / DISTIL_GRAM_ROWS;
	size_t		end = (strip + 1) * DISTIL_GRAM_ROWS;
	size_t		length = end < n ? end : n;

	return gram[distil_gram_offset(strip) + row % DISTIL_GRAM_ROWS * length + (i > j ? j : i)];
}

typedef struct DistilQuantizer
{
	const DistilQuantizeOptions *options;
	DistilContainer *container;
	char	   *memory;			/* in which lies: */
	char	   *image;			/* of layout DISTIL_LAYOUT_F32 */
	size_t		image_size;
	DistilModel *model;			/* over it */
	DistilSession *session;
	float	   *weights;		/* a block like the model's: what the chosen form stands for */
	DistilQuantMatrix *matrices;	/* the linear ones first: four for each layer, in order */
	int			nlinear;
	int			n;
	int			first, end;		/* whose inputs are observed at present */
	DistilText *calibration;	/* the texts, then some that are several of them in a row */
	int			ncalibration;
	float	   *scratch;		/* the inputs of a layer, quantised and back */
	size_t		scratch_floats;
	float	   *original;		/* [ntexts, D'] embeddings; NULL before they are made */
	float	   *embeddings;
	bool	   *has;
	DistilTap	tap;
	DistilStatus tap_status;	/* of what the tap did, and why */
	DistilError tap_error;
	DistilArena *arena;
	const DistilAllocator *alloc;
	const DistilPoll *poll;
} DistilQuantizer;

/* factor [cols] of the linear layers from what their inputs were. */
extern void distil_quantize_smooth(DistilQuantizer *q, DistilQuantMatrix *matrix);
/* values and scale: for each row the scale with the least expected error of the output. */
extern DistilStatus distil_quantize_matrix(DistilQuantizer *q, DistilQuantMatrix *matrix, DistilError *err);
/* += the products of the columns of x [rows, matrix->cols]. */
extern DistilStatus distil_quantize_correlate(DistilQuantMatrix *matrix, const float *x, int rows,
											  DistilDevice *device, const DistilPoll *poll, DistilError *err);
/*
 * Rounds w [rows, cols] again, with the scales and factors there are, so that columns make up for each
 * other's errors (quantize_round.c).  values stay what they are if gram is no use: not finite, or nothing.
 */
extern DistilStatus distil_quantize_compensate(DistilQuantMatrix *matrix, const float *w,
											   DistilDevice *device, const DistilAllocator *alloc,
											   const DistilPoll *poll, DistilError *err);
/* What the matrix stands for in this type, into q->weights. */
extern DistilStatus distil_quantize_apply(DistilQuantizer *q, const DistilQuantMatrix *matrix,
										  DistilType type, DistilError *err);
/* to [cols] = the row from [cols] after it has been eight bits. */
extern void distil_quantize_input(float *to, const float *from, const float *factor, int cols);

/* The container of the quantised model: a reader over memory and the source's container. */
typedef struct DistilQuantStore DistilQuantStore;
extern DistilStatus distil_quant_store_create(DistilQuantStore **store, const DistilQuantizer *q,
											  DistilError *err);
extern const DistilReader *distil_quant_store_reader(const DistilQuantStore *store);
extern void distil_quant_store_free(DistilQuantStore *store);	/* takes NULL */

/* Varied sentences for calibration, when the caller has none. */
extern const char *const distil_quantize_texts[];
extern const int distil_quantize_ntexts;

#endif							/* DISTIL_QUANTIZE_H */
