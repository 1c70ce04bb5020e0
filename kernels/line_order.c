/*
 * line_order.c
 *		The order of an INT8 weight's lines, see distil_order_half in kernels.h.
 *
 * Plain C for any CPU: whoever writes packed weights does it once.  The rule a newcomer would break: inputs
 * are 0 to 255, so how far a sum of products can get depends on its positive weights or on its negative ones,
 * not on both.
 */
#include "kernels.h"

#include <string.h>

#define MOST_LOAD	128			/* times 255 it fits into 16 bits */
#define TAKEN		255			/* no line has such a load */
#define WINDOW		64			/* lines that are looked at for a partner, lest this be quadratic */
#define LEAST		DISTIL_LINE_TURNS	/* behind a line's turns: the least of them in each place */

const uint8_t distil_line_turns[DISTIL_LINE_TURNS][4] = {{0, 1, 2, 3}, {0, 2, 1, 3}, {0, 3, 1, 2}};

typedef uint8_t Part __attribute__((vector_size(16), aligned(1), may_alias));

/* Of a line in a turn: each sum of two weights, of the positive ones and of the negative ones. */
typedef struct Loads
{
	Part		part[2];
} Loads;

typedef Loads LineLoads[DISTIL_LINE_TURNS + 1];

_Static_assert(DISTIL_ORDER_LINE == sizeof(LineLoads), "scratch of a line");
_Static_assert(DISTIL_LINE(DISTIL_ORDER_INPUTS / 4, 0) <= UINT16_MAX + 1, "too many lines");

static uint8_t
load(int a, int b)
{
	return (uint8_t) (a + b < TAKEN ? a + b : TAKEN - 1);
}

static Part
lesser(Part a, Part b)
{
	Part		take_a = (Part) (a < b);

	return (a & take_a) | (b & ~take_a);
}

static void
find_loads(LineLoads loads, const int8_t *line)
{
	uint8_t		size[2][4 * DISTIL_HALF];
	int			turn,
				sign,
				i;

	for (i = 0; i < 4 * DISTIL_HALF; i++)
	{
		size[0][i] = (uint8_t) (line[i] > 0 ? line[i] : 0);
		size[1][i] = (uint8_t) (line[i] < 0 ? -line[i] : 0);
	}
	for (turn = 0; turn < DISTIL_LINE_TURNS; turn++)
	{
		const uint8_t *of = distil_line_turns[turn];

		for (sign = 0; sign < 2; sign++)
		{
			uint8_t		sum[2 * DISTIL_HALF];

			for (i = 0; i < DISTIL_HALF; i++)
			{
				const uint8_t *four = size[sign] + 4 * i;

				sum[2 * i] = load(four[of[0]], four[of[1]]);
				sum[2 * i + 1] = load(four[of[2]], four[of[3]]);
			}
			memcpy(&loads[turn].part[sign], sum, sizeof(sum));
		}
	}
	loads[LEAST] = loads[0];
	for (turn = 1; turn < DISTIL_LINE_TURNS; turn++)
		for (sign = 0; sign < 2; sign++)
			loads[LEAST].part[sign] = lesser(loads[LEAST].part[sign], loads[turn].part[sign]);
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
find_turn(const LineLoads loads, const Loads *limit)
{
	int			turn;

	for (turn = loads_fit(&loads[LEAST], limit) ? 0 : DISTIL_LINE_TURNS; turn < DISTIL_LINE_TURNS; turn++)
		if (loads_fit(&loads[turn], limit))
			break;
	return turn;
}

/* To pair[] line i and one behind it that makes a pair with it, in their turns; false: there is none near. */
static bool
find_pair(uint16_t pair[2], const LineLoads *loads, int i, int lines)
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

void
distil_order_half(uint16_t *order, uint8_t *scratch, const int8_t *data, int half, int k)
{
	const Loads most = room(&(Loads) {0});
	int			lines = (int) (distil_row_length(DISTIL_TYPE_INT8, (size_t) k) / 4);
	LineLoads  *loads = (LineLoads *) (void *) scratch;
	uint16_t   *own = order + (size_t) half * (DISTIL_ORDER_HEAD + lines);
	uint16_t   *line = own + DISTIL_ORDER_HEAD;
	int			pairs = 0;
	int			alone = 0;
	int			rest = 0;
	int			i,
				turn;

	data += distil_weight_index(DISTIL_TYPE_INT8, (size_t) half * DISTIL_HALF, 0, (size_t) k);
	for (i = 0; i < lines; i++)
		find_loads(loads[i], data + (size_t) i * 4 * DISTIL_PANEL);
	for (i = 0; i < lines; i++)
	{
		if (loads[i][0].part[0][0] == TAKEN || !find_pair(line + pairs, (const LineLoads *) loads, i, lines))
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
	memset(own, 0, DISTIL_ORDER_HEAD * sizeof(*own));
	own[0] = (uint16_t) pairs;
	own[1] = (uint16_t) alone;
}
