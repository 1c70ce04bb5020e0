/*
 * test_schedule.c
 *		Learning rate by step, update counts, clipping, AdamW settings.
 */
#include "check.h"
#include "optimizer.h"
#include "schedule.h"

static void
test_rates(void)
{
	DistilSchedule s;
	int64_t		k;
	int64_t		updates = 799;

	/* total 800, warm-up ceil(40.0) = 40, as the scripts' int(n) + 1 and ceil(total * 0.05) */
	distil_schedule_init(&s, 5e-4, 0.05, updates);
	CHECK(s.total == 800);
	CHECK(s.warmup == 40);
	CHECK(distil_schedule_rate(&s, 0) == 0);
	CHECK_NEAR(distil_schedule_rate(&s, 1), 5e-4 / 40, 1e-18);
	CHECK_NEAR(distil_schedule_rate(&s, 39), 5e-4 * 39 / 40, 1e-18);
	CHECK_NEAR(distil_schedule_rate(&s, 40), 5e-4, 1e-18);
	CHECK_NEAR(distil_schedule_rate(&s, 420), 5e-4 * 380 / 760, 1e-18);
	CHECK_NEAR(distil_schedule_rate(&s, 799), 5e-4 / 760, 1e-18);
	CHECK(distil_schedule_rate(&s, 800) == 0);
	CHECK(distil_schedule_rate(&s, 900) == 0);
	for (k = 41; k < updates; k++)
		CHECK(distil_schedule_rate(&s, k) < distil_schedule_rate(&s, k - 1));

	distil_schedule_init(&s, 1e-3, 0, 10);
	CHECK(s.warmup == 0);
	CHECK(distil_schedule_rate(&s, 0) == 1e-3);
	distil_schedule_init(&s, 1e-3, 0.05, 10);
	CHECK(s.warmup == 1);
	/* nothing but warm-up: the end of it is no division of zero by zero */
	distil_schedule_init(&s, 1e-3, 1, 10);
	CHECK(s.warmup == s.total && distil_schedule_rate(&s, s.total) == 0);
}

static void
test_updates(void)
{
	CHECK(distil_schedule_updates(1000, 50, 3, -1) == 60);
	CHECK(distil_schedule_updates(1001, 50, 3, -1) == 60);
	CHECK(distil_schedule_updates(1017, 50, 3, -1) == 61);	/* 3051 / 50: left-overs join the next epoch */
	CHECK(distil_schedule_updates(10, 50, 3, -1) == 1);
	CHECK(distil_schedule_updates(100, 1, 0.5, -1) == 50);
	CHECK(distil_schedule_updates(100, 1, 3, 0) == 0);
	CHECK(distil_schedule_updates(100, 1, 3, 7) == 7);
}

static void
test_clip(void)
{
	CHECK(distil_optimizer_clip(0, 5) == 1);
	CHECK(distil_optimizer_clip(4.9, 5) == 1);
	CHECK_NEAR(distil_optimizer_clip(10, 5), 5 / (10 + 1e-6), 1e-15);
	CHECK(distil_optimizer_clip(1e9, 0) == 1);
}

static void
test_settings(void)
{
	DistilTrainOptions options = {.adam_beta1 = 0.9, .adam_beta2 = 0.98, 
	.adam_epsilon = 1e-6, .weight_decay = 0.1};
	DistilAdamW adamw;

	distil_optimizer_settings(&adamw, &options, 5e-4, 0.5, 3);
	/* float fields: one rounding */
	CHECK_NEAR(adamw.correction1, 1 - 0.9 * 0.9 * 0.9, 1e-7);
	CHECK_NEAR(adamw.correction2, 1 - 0.98 * 0.98 * 0.98, 1e-8);
	CHECK_NEAR(adamw.learning_rate, 5e-4, 1e-10);
	CHECK(adamw.gradient_scale == 0.5f);
	CHECK_NEAR(adamw.weight_decay, 0.1, 1e-8);
}

static void
test_segments(void)
{
	DistilParam params[3] = {
		{.name = "a", .offset = 0, .count = 600000},
		{.name = "b", .offset = 600016, .count = 10, .flags = DISTIL_PARAM_NO_DECAY},
		{.name = "c", .offset = 600032, .count = 77, .flags = DISTIL_PARAM_FROZEN},
	};
	DistilParamTable table = {.params = params, .n = 3, .total = 600112};
	static const DistilKernels ops = {.name = "none"};
	DistilDevice device = {.ops = &ops};
	DistilSegment *segments;
	DistilError err;
	size_t		covered = 0;
	int			n;
	int			i;

	CHECK(distil_optimizer_segments(&segments, &n, &table, &device, distil_alloc_system(),
									&err) == DISTIL_OK);
	CHECK(n == 4);
	for (i = 0; i < n; i++)
		covered += segments[i].count;
	CHECK(covered == 600010);
	CHECK(segments[0].decay && segments[2].decay && !segments[3].decay);
	CHECK(segments[3].offset == 600016 && segments[3].count == 10);
	distil_release(distil_alloc_system(), segments);
}

int
main(void)
{
	test_rates();
	test_updates();
	test_clip();
	test_settings();
	test_segments();
	return check_report("schedule");
}
