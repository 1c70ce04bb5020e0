/*
 * status.h
 *		How engine code reports failures: fill a DistilError, return the status.
 */
#ifndef DISTIL_STATUS_H
#define DISTIL_STATUS_H

#include "distil_engine.h"

/* Fill err->message (printf style; detail and hint are cleared) and return status. */
extern DistilStatus distil_fail(DistilError *err, DistilStatus status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Add to the error that distil_fail just made; both return `status` unchanged for chaining. */
extern DistilStatus distil_fail_detail(DistilError *err, DistilStatus status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
extern DistilStatus distil_fail_hint(DistilError *err, DistilStatus status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
extern DistilStatus distil_fail_memory(DistilError *err, size_t bytes);
extern DistilStatus distil_fail_cancelled(DistilError *err);

/*
 * A name out of a hostile file, made printable and short for a message;
 * static ring is not used: caller's buffer.
 */
extern const char *distil_printable(char *buffer, size_t size, const char *name, size_t length);

#define DISTIL_FORWARD(call) \
	do { \
		DistilStatus forward_status_ = (call); \
		if (forward_status_ != DISTIL_OK) return forward_status_; \
	} while (0)

/* Poll: returns DISTIL_ERR_CANCELLED from the enclosing function when the host says stop. */
#define DISTIL_POLL(poll, err) \
	do { \
		if ((poll) != NULL && (poll)->stop != NULL && (poll)->stop((poll)->ctx)) \
			return distil_fail_cancelled(err); \
	} while (0)

#endif							/* DISTIL_STATUS_H */
