/*
 * group_standin.c
 *		Several stand-in devices whose sum over all of them is plain C.
 *
 * The rule a newcomer would break: a device that has failed never takes part, so the others fail
 * too, as they do where they would wait for it forever.
 */
#include "standin.h"

#include <stdio.h>
#include <string.h>

void
distil_standin_leave(StandinDevice *dev)
{
	StandinGroup *group = dev->group;

	if (group != NULL && --group->open == 0)
		distil_host_release(NULL, group);
}

/* May all of them take part? */
static bool
all_ready(StandinGroup *group, int n)
{
	bool		ready = n == group->n;
	int			i;

	for (i = 0; i < group->n; i++)
		ready = distil_standin_ready(&group->members[i]->base) && ready;
	for (i = 0; i < group->n && !ready; i++)
		distil_standin_fail(group->members[i], n == group->n ? "Another device of the group has failed"
							: "A sum over the devices of a group was not given all of them");
	return ready;
}

/* In order of the devices. */
static void
all_sum(DistilDevice *dev, float *const *x, int n, size_t count)
{
	StandinGroup *group = ((StandinDevice *) dev)->group;
	float	   *at[DISTIL_MAX_GROUP];
	size_t		i;
	int			d;

	if (!all_ready(group, n))
		return;
	for (d = 0; d < n; d++)
		at[d] = distil_standin_at(&group->members[d]->base, x[d]);
	/* a wrong address has failed its device */
	for (d = 0; d < n; d++)
		if (group->members[d]->failure != NULL)
			return;
	for (i = 0; i < count; i++)
	{
		float		sum = at[0][i];

		for (d = 1; d < n; d++)
			sum += at[d][i];
		for (d = 0; d < n; d++)
			at[d][i] = sum;
	}
}

/* isa "lost N": the last of them is lost. */
bool
distil_standin_open_group(const char *isa, DistilDevice **devices, int n, char *message, size_t message_size)
{
	bool		lost = strncmp(isa, "lost ", 5) == 0;
	StandinGroup *group = distil_host_alloc(NULL, sizeof(StandinGroup));
	int			i;

	if (group == NULL)
	{
		snprintf(message, message_size, DISTIL_NO_MEMORY " opening the standin backend");
		return false;
	}
	memset(group, 0, sizeof(*group));
	for (i = 0; i < n; i++)
	{
		StandinDevice *dev = (StandinDevice *) distil_standin_open(lost && i < n - 1 ? "auto" : isa, message,
																   message_size);

		if (dev == NULL)
			break;
		dev->group = group;
		dev->ops.all_sum = all_sum;
		group->members[group->n++] = dev;
		group->open++;
		devices[i] = &dev->base;
	}
	if (i == n)
		return true;
	if (i == 0)
		distil_host_release(NULL, group);
	while (i > 0)
		distil_standin_close(devices[--i]);
	return false;
}
