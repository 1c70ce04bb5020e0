/*
 * schedule.h
 *		Learning rate by step: linear warm-up, linear decay.
 *
 * As in the DistilBERT scripts: the total is one more than the number of updates,
 * and the k-th update (k from 0) uses  k < w: lr k / w,  else lr (total - k) / (total - w).
 * So with a warm-up the first update has rate 0, and the last one never has.
 */
#ifndef DISTIL_SCHEDULE_H
#define DISTIL_SCHEDULE_H

#include <stdint.h>

typedef struct DistilSchedule
{
	double		learning_rate;
	int64_t		updates;		/* optimiser updates in all */
	int64_t		total;			/* where the line reaches 0: updates + 1 */
	int64_t		warmup;			/* ceil(total * warmup_prop) */
} DistilSchedule;

/* Updates of a training: floor(batches * epochs / accumulation), at least 1; max_steps >= 0 wins. */
extern int64_t distil_schedule_updates(int64_t batches, int accumulation, double epochs, int64_t max_steps);
extern void distil_schedule_init(DistilSchedule *schedule, double learning_rate, double warmup_prop,
								 int64_t updates);
extern double distil_schedule_rate(const DistilSchedule *schedule, int64_t k);

#endif							/* DISTIL_SCHEDULE_H */
