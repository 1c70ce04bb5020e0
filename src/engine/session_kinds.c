/*
 * session_kinds.c
 *		The kinds of tokens in a pass: those that are equal in id, position and type.
 *
 * Short texts begin alike ("[CLS] a man is"), and up to the first attention nothing but these three numbers
 * counts: embeddings and what the first layer multiplies there are computed once for all tokens of a kind.
 * Two kinds may be equal, which costs time only; two tokens of one kind are always equal.
 */
#include "layers.h"
#include "rng.h"
#include "session.h"

#include <string.h>

/* So many places of the table are looked at for a token; one that is not found there is of a new kind. */
#define PROBES 16

/* Places of the table, a power of two: it is at most half full. */
static size_t
table_slots(int ntokens)
{
	size_t		slots = 16;

	while (slots < 2 * (size_t) ntokens)
		slots *= 2;
	return slots;
}

size_t
distil_kinds_count(int ntokens)
{
	return 4 * (size_t) ntokens + table_slots(ntokens);
}

/* The kind of a token if an earlier one has it; otherwise kinds->n, a new one, noted where there is room. */
static int32_t
find_kind(int32_t *table, size_t slots, const DistilKinds *kinds, int32_t id, int32_t position, int32_t type)
{
	uint64_t	key = (uint64_t) (uint32_t) id << 32 ^ (uint64_t) (uint32_t) type << 28 ^ (uint32_t) position;
	int			probe;

	/* ids and positions are small numbers */
	key = distil_mix(key);
	for (probe = 0; probe < PROBES; probe++)
	{
		size_t		slot = (size_t) (key + (uint64_t) probe) & (slots - 1);
		int32_t		kind = table[slot];

		if (kind < 0)
		{
			table[slot] = kinds->n;
			break;
		}
		if (kinds->ids[kind] == id && kinds->positions[kind] == position && kinds->types[kind] == type)
			return kind;
	}
	return kinds->n;
}

bool
distil_kinds_find(DistilKinds *kinds, int32_t *memory, const int32_t *ids, const int32_t *positions,
				  const int32_t *types, int ntokens)
{
	int32_t    *kind = memory;
	int32_t    *to = memory + ntokens;
	int32_t    *table = memory + 4 * (size_t) ntokens;
	size_t		slots = table_slots(ntokens);
	int			i;

	*kinds = (DistilKinds) {
		.n = 0,.ids = to,.positions = to + ntokens,.types = to + 2 * (size_t) ntokens,.kind = kind
	};
	memset(table, -1, slots * sizeof(int32_t));
	for (i = 0; i < ntokens; i++)
	{
		kind[i] = find_kind(table, slots, kinds, ids[i], positions[i], types[i]);
		if (kind[i] < kinds->n)
			continue;
		to[kinds->n] = ids[i];
		to[ntokens + kinds->n] = positions[i];
		to[2 * (size_t) ntokens + kinds->n++] = types[i];
	}
	return 8 * (int64_t) kinds->n <= 7 * (int64_t) ntokens;
}

size_t
distil_session_kinds_count(const DistilSession *session, int ntokens)
{
	return distil_takes_kinds(&session->model->spec, session->device) ? distil_kinds_count(ntokens) : 0;
}

const DistilKinds *
distil_session_kinds(DistilSession *session, int nseq, int ntokens)
{
	/* the tokens of one text differ in their positions */
	if (session->kinds_memory == NULL || nseq < 2 ||
		!distil_kinds_find(&session->kinds, session->kinds_memory, session->ids, session->positions,
						   session->types, ntokens))
		return NULL;
	return &session->kinds;
}
