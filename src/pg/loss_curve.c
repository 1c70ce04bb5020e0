/*
 * loss_curve.c
 *		distil_loss_curve(job): the logged loss of a job as an SVG picture.
 *
 * The rule a newcomer would break: nothing but numbers goes into the picture, so it can
 * be put into a page as it is.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "job.h"

#define WIDTH 720
#define HEIGHT 360
#define LEFT 70
#define RIGHT 20
#define TOP 20
#define BOTTOM 40
#define GRID_LINES 4

PG_FUNCTION_INFO_V1(distil_loss_curve);

typedef struct Curve
{
	int			n;
	double	   *steps;
	double	   *losses;
	double	   *evals;			/* NAN where there was no evaluation */
	double		last_step;
	double		lowest;
	double		highest;
} Curve;

static double
column_number(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, column, &isnull);

	return isnull ? NAN : DatumGetFloat8(value);
}

static void
include(Curve *curve, double value)
{
	if (!isfinite(value))
		return;
	curve->lowest = fmin(curve->lowest, value);
	curve->highest = fmax(curve->highest, value);
}

static void
read_curve(Curve *curve, int64 job)
{
	MemoryContext context = CurrentMemoryContext;
	Oid			type = INT8OID;
	Datum		value = Int64GetDatum(job);
	int			i;

	SPI_connect();
	distil_job_sql("SELECT step::pg_catalog.float8, loss, eval_loss FROM distil.job_log"
				   " WHERE job OPERATOR(pg_catalog.=) $1 ORDER BY distil.job_log.step",
				   1, &type, &value, NULL);
	curve->n = (int) SPI_processed;
	curve->steps = MemoryContextAlloc(context, (curve->n + 1) * sizeof(double));
	curve->losses = MemoryContextAlloc(context, (curve->n + 1) * sizeof(double));
	curve->evals = MemoryContextAlloc(context, (curve->n + 1) * sizeof(double));
	curve->last_step = 1;
	curve->lowest = INFINITY;
	curve->highest = -INFINITY;
	for (i = 0; i < curve->n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];

		curve->steps[i] = column_number(tuple, SPI_tuptable->tupdesc, 1);
		curve->losses[i] = column_number(tuple, SPI_tuptable->tupdesc, 2);
		curve->evals[i] = column_number(tuple, SPI_tuptable->tupdesc, 3);
		curve->last_step = fmax(curve->last_step, curve->steps[i]);
		include(curve, curve->losses[i]);
		include(curve, curve->evals[i]);
	}
	SPI_finish();
	if (curve->lowest > curve->highest)
		curve->lowest = curve->highest = 0;
	if (curve->lowest == curve->highest)
		curve->highest = curve->lowest + 1;
}

static double
x_of(const Curve *curve, double step)
{
	return LEFT + step / curve->last_step * (WIDTH - LEFT - RIGHT);
}

static double
y_of(const Curve *curve, double loss)
{
	return TOP + (curve->highest - loss) / (curve->highest - curve->lowest) * (HEIGHT - TOP - BOTTOM);
}

static void
draw_line(StringInfo svg, const Curve *curve, const double *values, const char *colour)
{
	int			i;

	appendStringInfo(svg, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" points=\"", colour);
	for (i = 0; i < curve->n; i++)
		if (isfinite(values[i]))
			appendStringInfo(svg, "%.1f,%.1f ", x_of(curve, curve->steps[i]), y_of(curve, values[i]));
	appendStringInfoString(svg, "\"/>\n");
}

static void
draw_grid(StringInfo svg, const Curve *curve)
{
	int			i;

	for (i = 0; i <= GRID_LINES; i++)
	{
		double		loss = curve->lowest + (curve->highest - curve->lowest) * i / GRID_LINES;
		double		step = curve->last_step * i / GRID_LINES;

		appendStringInfo(svg, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#ddd\"/>\n",
						 LEFT, y_of(curve, loss), WIDTH - RIGHT, y_of(curve, loss));
		appendStringInfo(svg, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n",
						 LEFT - 6, y_of(curve, loss) + 4, loss);
		appendStringInfo(svg, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n",
						 x_of(curve, step), HEIGHT - BOTTOM + 18, step);
	}
	appendStringInfo(svg, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">step</text>\n",
					 (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6);
}

Datum
distil_loss_curve(PG_FUNCTION_ARGS)
{
	DistilJob	row;
	Curve		curve;
	StringInfoData svg;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"job\" must not be null")));
	distil_job_get(PG_GETARG_INT64(0), &row, false);
	read_curve(&curve, row.job);

	initStringInfo(&svg);
	appendStringInfo(&svg, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\""
					 " width=\"%d\" height=\"%d\""
					 " font-family=\"sans-serif\" font-size=\"12\">\n"
					 "<title>loss of job " INT64_FORMAT "</title>\n"
					 "<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n",
					 WIDTH, HEIGHT, WIDTH, HEIGHT, row.job, WIDTH, HEIGHT);
	draw_grid(&svg, &curve);
	draw_line(&svg, &curve, curve.losses, "#0b62a4");
	draw_line(&svg, &curve, curve.evals, "#d9534f");
	appendStringInfoString(&svg, "</svg>\n");
	PG_RETURN_TEXT_P(cstring_to_text_with_len(svg.data, svg.len));
}
