/*
 * fingerprint.h
 *		256-bit fingerprint of a stream of bytes: notices accidents, not attackers.
 *
 * Four lanes of 64 bits, each fed with every fourth word.  Cutting the stream into
 * other pieces does not change the result.
 */
#ifndef DISTIL_FINGERPRINT_H
#define DISTIL_FINGERPRINT_H

#include <stddef.h>
#include <stdint.h>

typedef struct DistilFingerprint
{
	uint64_t	lane[4];
	uint64_t	bytes;
	uint8_t		tail[32];
} DistilFingerprint;

extern void distil_fingerprint_init(DistilFingerprint *fingerprint);
extern void distil_fingerprint_update(DistilFingerprint *fingerprint, const void *data, size_t bytes);
/* Leaves the fingerprint as it was: more may follow. */
extern void distil_fingerprint_value(const DistilFingerprint *fingerprint, uint8_t value[32]);

#endif							/* DISTIL_FINGERPRINT_H */
