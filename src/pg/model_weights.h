/*
 * model_weights.h
 *		Which large object holds the weights of a model, and who may command it.
 */
#ifndef DISTIL_MODEL_WEIGHTS_H
#define DISTIL_MODEL_WEIGHTS_H

#include "nodes/pg_list.h"

#include "model_store.h"

/* Whether the large object has the size and sha256 of its row; XX001 unless it has. */
extern bool distil_weights_fit(const DistilModelRow *row);
extern void distil_weights_check(const DistilModelRow *row);

/* DROP EXTENSION removes the object from now on. */
extern void distil_weights_link(Oid weights);
/*
 * Whether the object of that number is the model's: it is linked or, where the links were
 * lost with a dump, it has the hash.  Anybody can make an object under a number that is free.
 */
extern bool distil_weights_ours(const DistilModelRow *row);
/* 55000: the object is gone, or another one has its number. */
pg_noreturn extern void distil_weights_lost(const DistilModelRow *row);
/* 42501 unless GetUserId() is a superuser or owns the model's own large object. */
extern void distil_weights_check_owner(const DistilModelRow *row);

/*
 * Link what lost its link (record; only counted otherwise); returns how many.  *strangers:
 * rows (DistilModelRow *) of models whose number stands for another object now.
 */
extern int	distil_weights_relink(bool record, List **strangers);

#endif							/* DISTIL_MODEL_WEIGHTS_H */
