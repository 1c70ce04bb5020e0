/*
 * fingerprint.c
 *		See fingerprint.h.
 */
#include <string.h>

#include "fingerprint.h"
#include "rng.h"

static const uint64_t odd[4] = {
	UINT64_C(0x9E3779B97F4A7C15), UINT64_C(0xC2B2AE3D27D4EB4F),
	UINT64_C(0xD6E8FEB86659FD93), UINT64_C(0xA0761D6478BD642F)
};

static void
absorb(uint64_t lane[4], const uint8_t *block)
{
	uint64_t	word[4];
	int			i;

	memcpy(word, block, sizeof(word));
	for (i = 0; i < 4; i++)
	{
		uint64_t	x = (lane[i] ^ word[i]) * odd[i];

		lane[i] = x ^ (x >> 29);
	}
}

void
distil_fingerprint_init(DistilFingerprint *fingerprint)
{
	memset(fingerprint, 0, sizeof(*fingerprint));
	memcpy(fingerprint->lane, odd, sizeof(odd));
}

void
distil_fingerprint_update(DistilFingerprint *fingerprint, const void *data, size_t bytes)
{
	const uint8_t *p = data;
	size_t		have = fingerprint->bytes % 32;

	fingerprint->bytes += bytes;
	if (have > 0)
	{
		size_t		take = bytes < 32 - have ? bytes : 32 - have;

		memcpy(fingerprint->tail + have, p, take);
		if (have + take < 32)
			return;
		absorb(fingerprint->lane, fingerprint->tail);
		p += take;
		bytes -= take;
	}
	for (; bytes >= 32; p += 32, bytes -= 32)
		absorb(fingerprint->lane, p);
	if (bytes > 0)
		memcpy(fingerprint->tail, p, bytes);
}

void
distil_fingerprint_value(const DistilFingerprint *fingerprint, uint8_t value[32])
{
	uint64_t	lane[4];
	uint8_t		block[32];
	size_t		have = fingerprint->bytes % 32;
	uint64_t	all;
	int			i;

	memcpy(lane, fingerprint->lane, sizeof(lane));
	memset(block, 0, sizeof(block));
	memcpy(block, fingerprint->tail, have);
	absorb(lane, block);
	all = fingerprint->bytes;
	for (i = 0; i < 4; i++)
		all = distil_mix(all ^ lane[i]) + odd[i];
	for (i = 0; i < 4; i++)
		lane[i] = distil_mix(lane[i] ^ distil_mix(all + (uint64_t) i));
	memcpy(value, lane, 32);
}
