/*
 * corpus.h
 *		The texts a job learns from: a relation or a SELECT, read as the current user.
 */
#ifndef DISTIL_CORPUS_H
#define DISTIL_CORPUS_H

#include "postgres.h"
#include "executor/spi.h"

typedef struct DistilCorpus
{
	char	   *name;			/* schema.table, or the query as it was given */
	char	   *column;			/* name of its text column */
	SPIPlanPtr	plan;
	int			attno;			/* of the text column in the result */
	Oid			type;			/* of that column, domains resolved */
} DistilCorpus;

/*
 * Find out what `corpus` means, SPI being connected: the relation or query exists, is
 * read only, has one text column (or the one called column_name), and the current user
 * may read it.  Everything else is an error.  Strings are in the current context; the
 * plan lives as long as the SPI connection.
 */
extern void distil_corpus_open(DistilCorpus *corpus, const char *text, const char *column_name);

/* Gets every text that is not NULL, as a text Datum in a short-lived context. */
typedef void (*DistilCorpusFn) (void *ctx, Datum text_datum);

/* Read at most so many texts in the current snapshot with row security on; returns their number. */
extern int64 distil_corpus_read(const DistilCorpus *corpus, int64 most, DistilCorpusFn fn, void *ctx);

#endif							/* DISTIL_CORPUS_H */
