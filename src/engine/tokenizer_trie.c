/*
 * tokenizer_trie.c
 *		Builds the double array of a vocabulary (see DistilTrieUnit).
 *
 * Free slots of the last open blocks of 256 are in one ring; a node takes the first
 * free slot that gives all its children a place.  Older blocks are closed, so the
 * search is bounded whatever the vocabulary is.  The rule a newcomer would break: no
 * two nodes may share a base, otherwise the label alone would not identify a child.
 */
#include "tokenizer_parts.h"

#include "status.h"

#include <string.h>

#define BLOCK			256u
#define OPEN_BLOCKS		16u
#define MAX_UNITS		(1u << 26)
#define POLL_NODES		4096

_Static_assert(DISTIL_MAX_VOCABULARY <= DISTIL_TRIE_MAX_VALUE, "an id is a value of the trie");

typedef struct Slot
{
	uint32_t	next;			/* ring of free slots */
	uint32_t	prev;
	bool		taken;
	bool		is_base;
} Slot;

typedef struct Range
{
	size_t		begin, end;		/* keys */
	uint32_t	depth;
	uint32_t	state;
} Range;

typedef struct Builder
{
	DistilTrieUnit *units;
	Slot	   *slots;
	uint32_t	n;
	uint32_t	capacity;
	uint32_t	free_head;		/* 0: no free slot (slot 0 is the root) */
	const DistilAllocator *alloc;
} Builder;

static int
compare_keys(const DistilTrieKey *a, const DistilTrieKey *b)
{
	size_t		n = a->length < b->length ? a->length : b->length;
	int			order = memcmp(a->text, b->text, n);

	if (order != 0)
		return order;
	if (a->length != b->length)
		return a->length < b->length ? -1 : 1;
	return a->value < b->value ? -1 : a->value > b->value;
}

/* Bottom-up merge sort; the C library's qsort may allocate. */
static DistilStatus
sort_keys(DistilTrieKey *keys, size_t n, const DistilAllocator *alloc, const DistilPoll *poll,
		  DistilError *err)
{
	DistilTrieKey *other;
	DistilTrieKey *from = keys;
	DistilTrieKey *to;

	if (n < 2)
		return DISTIL_OK;
	other = distil_alloc_array(alloc, n, sizeof(*other));
	if (other == NULL)
		return distil_fail_memory(err, n * sizeof(*other));
	to = other;
	for (size_t width = 1; width < n; width *= 2)
	{
		DistilTrieKey *swap;

		for (size_t start = 0; start < n; start += 2 * width)
		{
			size_t		middle = start + width < n ? start + width : n;
			size_t		end = middle + width < n ? middle + width : n;
			size_t		i = start;
			size_t		j = middle;

			for (size_t k = start; k < end; k++)
				to[k] = j >= end || (i < middle && compare_keys(&from[i], &from[j]) <= 0) ? from[i++]
					: from[j++];
		}
		swap = from;
		from = to;
		to = swap;
		if (poll != NULL && poll->stop != NULL && poll->stop(poll->ctx))
		{
			distil_release(alloc, other);
			return distil_fail_cancelled(err);
		}
	}
	if (from != keys)
		memcpy(keys, from, n * sizeof(*keys));
	distil_release(alloc, other);
	return DISTIL_OK;
}

static void
ring_remove(Builder *b, uint32_t slot)
{
	Slot	   *s = &b->slots[slot];

	if (s->next == slot)
		b->free_head = 0;
	else
	{
		b->slots[s->prev].next = s->next;
		b->slots[s->next].prev = s->prev;
		if (b->free_head == slot)
			b->free_head = s->next;
	}
}

static void
ring_append(Builder *b, uint32_t slot)
{
	Slot	   *s = &b->slots[slot];

	if (b->free_head == 0)
	{
		b->free_head = slot;
		s->next = s->prev = slot;
		return;
	}
	s->next = b->free_head;
	s->prev = b->slots[b->free_head].prev;
	b->slots[s->prev].next = slot;
	b->slots[b->free_head].prev = slot;
}

static DistilStatus
add_block(Builder *b, DistilError *err)
{
	uint32_t	start = b->n;

	if (b->n + BLOCK > b->capacity)
	{
		uint32_t	capacity = b->capacity == 0 ? 64 * BLOCK : b->capacity * 2;
		DistilTrieUnit *units;
		Slot	   *slots;

		if (capacity > MAX_UNITS)
			return distil_fail(err, DISTIL_ERR_LIMIT, "vocabulary is too large for its index");
		units = distil_alloc_array(b->alloc, capacity, sizeof(*units));
		slots = distil_alloc_array(b->alloc, capacity, sizeof(*slots));
		if (units == NULL || slots == NULL)
		{
			distil_release(b->alloc, units);
			distil_release(b->alloc, slots);
			return distil_fail_memory(err, (size_t) capacity * (sizeof(*units) + sizeof(*slots)));
		}
		if (b->n > 0)
		{
			memcpy(units, b->units, b->n * sizeof(*units));
			memcpy(slots, b->slots, b->n * sizeof(*slots));
		}
		distil_release(b->alloc, b->units);
		distil_release(b->alloc, b->slots);
		b->units = units;
		b->slots = slots;
		b->capacity = capacity;
	}
	/* close the block that leaves the window */
	if (start >= OPEN_BLOCKS * BLOCK)
	{
		uint32_t	first = start - OPEN_BLOCKS * BLOCK;

		for (uint32_t i = first; i < first + BLOCK; i++)
			if (!b->slots[i].taken)
			{
				b->slots[i].taken = true;
				ring_remove(b, i);
			}
	}
	b->n += BLOCK;
	for (uint32_t i = start; i < b->n; i++)
	{
		b->units[i].base = DISTIL_TRIE_LEAF;
		b->units[i].check = 0;
		if (i == 0)
			b->slots[0].taken = true;
		else
			ring_append(b, i);
	}
	return DISTIL_OK;
}

/* A base that gives each label a free slot. */
static DistilStatus
find_base(Builder *b, const uint8_t *labels, int nlabels, uint32_t *base, DistilError *err)
{
	for (;;)
	{
		uint32_t	slot = b->free_head;

		if (slot != 0)
			do
			{
				uint32_t	candidate = slot ^ labels[0];
				int			i = 1;

				if (!b->slots[candidate].is_base)
				{
					while (i < nlabels && !b->slots[candidate ^ labels[i]].taken)
						i++;
					if (i == nlabels)
					{
						b->slots[candidate].is_base = true;
						*base = candidate;
						return DISTIL_OK;
					}
				}
				slot = b->slots[slot].next;
			} while (slot != b->free_head);
		DISTIL_FORWARD(add_block(b, err));
	}
}

/* Place the children of one node and push them onto the stack. */
static DistilStatus
build_node(Builder *b, DistilBuffer *stack, const DistilTrieKey *keys, Range node, DistilError *err)
{
	uint8_t		labels[256];
	size_t		begins[257];
	int			nlabels = 0;
	uint32_t	base;
	size_t		i = node.begin;

	if (keys[i].length == node.depth)
	{
		b->units[node.state].check |= (keys[i].value + 1) << 9;
		while (i < node.end && keys[i].length == node.depth)
			i++;
	}
	if (i == node.end)
		return DISTIL_OK;
	for (; i < node.end; i++)
	{
		uint8_t		label = (uint8_t) keys[i].text[node.depth];

		if (nlabels == 0 || labels[nlabels - 1] != label)
		{
			labels[nlabels] = label;
			begins[nlabels++] = i;
		}
	}
	begins[nlabels] = node.end;
	DISTIL_FORWARD(find_base(b, labels, nlabels, &base, err));
	b->units[node.state].base = base;
	for (int k = 0; k < nlabels; k++)
	{
		uint32_t	child = base ^ labels[k];

		b->slots[child].taken = true;
		ring_remove(b, child);
		b->units[child].check = DISTIL_TRIE_USED | labels[k];
	}
	for (int k = nlabels; k-- > 0;)
	{
		Range		next = {begins[k], begins[k + 1], node.depth + 1, base ^ labels[k]};

		if (!distil_buffer_append(stack, &next, sizeof(next)))
			return distil_fail_memory(err, stack->length + sizeof(next));
	}
	return DISTIL_OK;
}

static DistilStatus
build_nodes(Builder *b, DistilBuffer *stack, const DistilTrieKey *keys, size_t n,
			const DistilPoll *poll, DistilError *err)
{
	Range		node = {0, n, 0, 0};
	size_t		done = 0;

	DISTIL_FORWARD(add_block(b, err));
	if (n == 0)
		return DISTIL_OK;
	if (!distil_buffer_append(stack, &node, sizeof(node)))
		return distil_fail_memory(err, sizeof(node));
	while (stack->length > 0)
	{
		stack->length -= sizeof(node);
		memcpy(&node, stack->data + stack->length, sizeof(node));
		DISTIL_FORWARD(build_node(b, stack, keys, node, err));
		if (++done % POLL_NODES == 0)
			DISTIL_POLL(poll, err);
	}
	return DISTIL_OK;
}

DistilStatus
distil_trie_build(DistilBuffer *out, DistilTrieKey *keys, size_t n,
				  const DistilAllocator *alloc, const DistilPoll *poll, DistilError *err)
{
	Builder		b = {.alloc = alloc};
	DistilBuffer stack;
	DistilStatus status;

	DISTIL_FORWARD(sort_keys(keys, n, alloc, poll, err));
	distil_buffer_init(&stack, alloc);
	status = build_nodes(&b, &stack, keys, n, poll, err);
	if (status == DISTIL_OK && !distil_buffer_append(out, b.units, b.n * sizeof(*b.units)))
		status = distil_fail_memory(err, b.n * sizeof(*b.units));
	distil_buffer_free(&stack);
	distil_release(alloc, b.units);
	distil_release(alloc, b.slots);
	return status;
}
