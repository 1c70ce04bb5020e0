/*
 * line_order.c
 *		The order of an INT8 weight's lines, see distil_order_panel in kernels.h.
 *
 * Plain C for any CPU: whoever writes packed weights does it once.  The rule a newcomer would break: inputs
 * are 0 to 255, so how far a sum of products can get depends on its positive weights or on its negative ones,
 * not on both.
 */
#include "kernels.h"

#include <string.h>

#define HALF_OUTPUTS 8
#define MOST_LOAD	128			/* times 255 it fits into 16 bits */
#define TAKEN		255			/* no line has such a load */
#define WINDOW		64			/* lines that are looked at for a partner: near ones share cache lines */

const uint8_t distil_line_turns[DISTIL_LINE_TURNS][4] = {{0, 1, 2, 3}, {0, 2, 1, 3}, {0, 3, 1, 2}};

typedef uint8_t Part __attribute__((vector_size(16), aligned(1), may_alias));

/* Of a line in a turn: each sum of two weights, of the positive ones and of the negative ones. */
typedef struct Loads
{
	Part		part[2];
} Loads;

static uint8_t
load(int a, int b)
{
	return (uint8_t) (a + b < TAKEN ? a + b : TAKEN - 1);
}

static void
find_loads(Loads loads[DISTIL_LINE_TURNS], const int8_t *line)
{
	uint8_t		size[2][4 * HALF_OUTPUTS];
	int			turn,
				sign,
				i;

	for (i = 0; i < 4 * HALF_OUTPUTS; i++)
	{
		size[0][i] = (uint8_t) (line[i] > 0 ? line[i] : 0);
		size[1][i] = (uint8_t) (line[i] < 0 ? -line[i] : 0);
	}
	for (turn = 0; turn < DISTIL_LINE_TURNS; turn++)
	{
		const uint8_t *of = distil_line_turns[turn];

		for (sign = 0; sign < 2; sign++)
		{
			uint8_t		sum[2 * HALF_OUTPUTS];

			for (i = 0; i < HALF_OUTPUTS; i++)
			{
				const uint8_t *four = size[sign] + 4 * i;

				sum[2 * i] = load(four[of[0]], four[of[1]]);
				sum[2 * i + 1] = load(four[of[2]], four[of[3]]);
			}
			memcpy(&loads[turn].part[sign], sum, sizeof(sum));
		}
	}
}

static bool
loads_fit(const Loads *loads, const Loads *limit)
{
	Part		above = (Part) ((loads->part[0] > limit->part[0]) | (loads->part[1] > limit->part[1]));
	uint64_t	both[2];

	memcpy(both, &above, sizeof(both));
	return (both[0] | both[1]) == 0;
}

/* Those that leave room for `used`. */
static Loads
room(const Loads *used)
{
	return (Loads) {{MOST_LOAD - used->part[0], MOST_LOAD - used->part[1]}};
}

/* The first turn of a line none of whose loads is above its limit, or DISTIL_LINE_TURNS. */
static int
find_turn(const Loads loads[DISTIL_LINE_TURNS], const Loads *limit)
{
	int			turn;

	for (turn = 0; turn < DISTIL_LINE_TURNS; turn++)
		if (loads_fit(&loads[turn], limit))
			break;
	return turn;
}

/* To pair[] line i and the next one that makes a pair with it, both in their turns; false: there is none. */
static bool
find_pair(uint16_t pair[2], Loads (*loads)[DISTIL_LINE_TURNS], int i, int lines)
{
	const Loads most = room(&(Loads) {0});
	int			end = lines - i > WINDOW ? i + WINDOW : lines;
	int			turn,
				other,
				l;

	for (turn = 0; turn < DISTIL_LINE_TURNS; turn++)
	{
		Loads		limit = room(&loads[i][turn]);

		if (!loads_fit(&loads[i][turn], &most))
			continue;
		for (l = i + 1; l < end; l++)
		{
			other = find_turn(loads[l], &limit);
			if (other == DISTIL_LINE_TURNS)
				continue;
			pair[0] = (uint16_t) DISTIL_LINE(i, turn);
			pair[1] = (uint16_t) DISTIL_LINE(l, other);
			return true;
		}
	}
	return false;
}

static void
order_half(uint16_t *order, Loads (*loads)[DISTIL_LINE_TURNS], const int8_t *half, int lines)
{
	const Loads most = room(&(Loads) {0});
	uint16_t   *line = order + DISTIL_ORDER_HEAD;
	int			pairs = 0;
	int			alone = 0;
	int			rest = 0;
	int			i,
				turn;

	memset(order, 0, DISTIL_ORDER_HEAD * sizeof(*order));
	for (i = 0; i < lines; i++)
		find_loads(loads[i], half + (size_t) i * 4 * DISTIL_PANEL);
	for (i = 0; i < lines; i++)
	{
		if (loads[i][0].part[0][0] == TAKEN || !find_pair(line + pairs, loads, i, lines))
			continue;
		memset(loads[i], TAKEN, sizeof(loads[i]));
		memset(loads[line[pairs + 1] / 4], TAKEN, sizeof(loads[i]));
		pairs += 2;
	}
	for (i = 0; i < lines; i++)
	{
		if (loads[i][0].part[0][0] == TAKEN)
			continue;
		turn = find_turn(loads[i], &most);
		if (turn < DISTIL_LINE_TURNS)
			line[pairs + alone++] = (uint16_t) DISTIL_LINE(i, turn);
		else
			line[lines - ++rest] = (uint16_t) DISTIL_LINE(i, 0);
	}
	order[0] = (uint16_t) pairs;
	order[1] = (uint16_t) alone;
}

void
distil_order_panel(uint16_t *order, uint8_t *scratch, const int8_t *panel, int k)
{
	int			lines = (int) (distil_row_length(DISTIL_TYPE_INT8, (size_t) k) / 4);
	Loads		(*loads)[DISTIL_LINE_TURNS] = (Loads (*)[DISTIL_LINE_TURNS]) (void *) scratch;

	order_half(order, loads, panel, lines);
	order_half(order + DISTIL_ORDER_HEAD + lines, loads, panel + 4 * HALF_OUTPUTS, lines);
}
