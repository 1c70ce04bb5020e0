/*
 * session_kinds.c
 *		The kinds of tokens in a pass: those that are equal in id, position and type.
 *
 * Short texts begin alike ("[CLS] a man is"), and up to the first attention nothing but these three numbers
 * counts: what the first layer multiplies there is computed once for all tokens of a kind (block_post.c).
 * Two kinds may be equal, which costs time only; two tokens of one kind are always equal.
 */
#include "layers.h"
#include "session.h"

#include <string.h>

/* So many places of the table are looked at for a token; one that is not found there is of a new kind. */
#define PROBES 64

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
	return 2 * (size_t) ntokens + table_slots(ntokens);
}

static bool
equal_tokens(const int32_t *const tokens[3], int a, int b)
{
	return tokens[0][a] == tokens[0][b] && tokens[1][a] == tokens[1][b] && tokens[2][a] == tokens[2][b];
}

/* The kind of token i if an earlier one has it; otherwise n, a new one, noted where there is room. */
static int32_t
find_kind(int32_t *table, size_t slots, const DistilKinds *kinds, const int32_t *const tokens[3], int i)
{
	uint64_t	key = (uint64_t) (uint32_t) tokens[0][i] << 32 ^ (uint64_t) (uint32_t) tokens[2][i] << 28 ^
		(uint32_t) tokens[1][i];
	int			probe;

	/* the finaliser of splitmix64: ids and positions are small numbers */
	key = (key ^ (key >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	key = (key ^ (key >> 27)) * UINT64_C(0x94D049BB133111EB);
	key ^= key >> 31;
	for (probe = 0; probe < PROBES; probe++)
	{
		size_t		slot = (size_t) (key + (uint64_t) probe) & (slots - 1);
		int32_t		kind = table[slot];

		if (kind < 0)
		{
			table[slot] = kinds->n;
			break;
		}
		if (equal_tokens(tokens, kinds->first[kind], i))
			return kind;
	}
	return kinds->n;
}

bool
distil_kinds_find(DistilKinds *kinds, int32_t *memory, const int32_t *const tokens[3], int ntokens)
{
	int32_t    *first = memory;
	int32_t    *kind = first + ntokens;
	int32_t    *table = kind + ntokens;
	size_t		slots = table_slots(ntokens);
	int			i;

	kinds->n = 0;
	kinds->first = first;
	kinds->kind = kind;
	memset(table, -1, slots * sizeof(int32_t));
	for (i = 0; i < ntokens; i++)
	{
		kind[i] = find_kind(table, slots, kinds, tokens, i);
		if (kind[i] == kinds->n)
			first[kinds->n++] = i;
	}
	return 8 * (int64_t) kinds->n <= 7 * (int64_t) ntokens;
}

size_t
distil_session_kinds_count(const DistilSession *session, int ntokens)
{
	const DistilSpec *spec = &session->model->spec;

	if (session->device->ops->own_memory || spec->low == DISTIL_TYPE_F32 ||
		spec->config.arch->family != &distil_family_post_norm)
		return 0;
	return distil_kinds_count(ntokens);
}

const DistilKinds *
distil_session_kinds(DistilSession *session, int nseq, int ntokens)
{
	const int32_t *const tokens[3] = {session->ids, session->positions, session->types};

	/* the tokens of one text differ in their positions */
	if (session->kinds_memory == NULL || nseq < 2 ||
		!distil_kinds_find(&session->kinds, session->kinds_memory, tokens, ntokens))
		return NULL;
	return &session->kinds;
}
