/*
 * schedule.c
 *		See schedule.h.
 */
#include <math.h>

#include "schedule.h"

int64_t
distil_schedule_updates(int64_t batches, int accumulation, double epochs, int64_t max_steps)
{
	double		updates;

	if (max_steps >= 0)
		return max_steps;
	updates = floor((double) batches * epochs / accumulation);
	if (updates < 1)
		return 1;
	return updates < 1e15 ? (int64_t) updates : INT64_C(1000000000000000);
}

void
distil_schedule_init(DistilSchedule *schedule, double learning_rate, double warmup_prop, int64_t updates)
{
	schedule->learning_rate = learning_rate;
	schedule->updates = updates;
	schedule->total = updates + 1;
	schedule->warmup = (int64_t) ceil((double) schedule->total * warmup_prop);
}

double
distil_schedule_rate(const DistilSchedule *schedule, int64_t k)
{
	if (k < schedule->warmup)
		return schedule->learning_rate * (double) k / (double) schedule->warmup;
	if (k >= schedule->total)
		return 0;
	return schedule->learning_rate * (double) (schedule->total - k) /
		(double) (schedule->total - schedule->warmup);
}
