/*
 * status.c
 *		How engine code reports failures.
 *
 * The rule a newcomer would break: nothing of a file goes into a message before
 * distil_printable has cleaned it; %s of a hostile name is a bug.  As a second
 * line of defence the finished text is cleaned here too.
 */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Length of the valid UTF-8 sequence at data, 0 when there is none (control characters included). */
static size_t
printable_sequence(const unsigned char *data, size_t length)
{
	unsigned	c = data[0];
	unsigned	code;
	size_t		need;

	if (c < 0x80)
		return c >= 0x20 && c != 0x7f ? 1 : 0;
	if (c >= 0xc2 && c <= 0xdf)
		need = 2;
	else if (c >= 0xe0 && c <= 0xef)
		need = 3;
	else if (c >= 0xf0 && c <= 0xf4)
		need = 4;
	else
		return 0;
	if (length < need)
		return 0;
	code = c & (0x7fu >> need);
	for (size_t i = 1; i < need; i++)
	{
		if ((data[i] & 0xc0) != 0x80)
			return 0;
		code = (code << 6) | (data[i] & 0x3f);
	}
	/* overlong forms, surrogates, beyond Unicode, C1 controls, line and direction marks */
	if ((need == 3 && code < 0x800) || (need == 4 && (code < 0x10000 || code > 0x10ffff)))
		return 0;
	if ((code >= 0xd800 && code <= 0xdfff) || code < 0xa0)
		return 0;
	if ((code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) || code == 0xfeff)
		return 0;
	return need;
}

const char *
distil_printable(char *buffer, size_t size, const char *name, size_t length)
{
	size_t		at = 0;
	size_t		i = 0;

	if (size == 0)
		return "";
	while (i < length)
	{
		size_t		step = printable_sequence((const unsigned char *) name + i, length - i);
		size_t		width = step == 0 ? 1 : step;

		/* room for this, "..." and the end */
		if (at + width + 4 > size)
		{
			if (size >= 4)
			{
				if (at > size - 4)
					at = size - 4;
				memcpy(buffer + at, "...", 3);
				at += 3;
			}
			break;
		}
		if (step == 0)
			buffer[at] = '?';
		else
			memcpy(buffer + at, name + i, step);
		at += width;
		i += width;
	}
	buffer[at] = '\0';
	return buffer;
}

/* printf into a fixed field: cut at a character's boundary, cleaned of controls and broken bytes. */
static void write_field(char *field, size_t size, const char *format, va_list args)
	__attribute__((format(printf, 3, 0)));

static void
write_field(char *field, size_t size, const char *format, va_list args)
{
	int			wanted = vsnprintf(field, size, format, args);
	size_t		length;
	size_t		i = 0;

	if (wanted < 0)
	{
		field[0] = '\0';
		return;
	}
	length = strlen(field);
	while (i < length)
	{
		size_t		step = printable_sequence((const unsigned char *) field + i, length - i);

		if (step == 0 && (size_t) wanted >= size && length - i < 4 && (unsigned char) field[i] >= 0xc2)
		{
			field[i] = '\0';	/* a character cut by the end of the field */
			break;
		}
		if (step == 0)
			field[i] = '?';
		i += step == 0 ? 1 : step;
	}
}

DistilStatus
distil_fail(DistilError *err, DistilStatus status, const char *format, ...)
{
	va_list		args;

	if (err == NULL)
		return status;
	va_start(args, format);
	write_field(err->message, sizeof(err->message), format, args);
	va_end(args);
	err->detail[0] = '\0';
	err->hint[0] = '\0';
	return status;
}

DistilStatus
distil_fail_detail(DistilError *err, DistilStatus status, const char *format, ...)
{
	va_list		args;

	if (err == NULL)
		return status;
	va_start(args, format);
	write_field(err->detail, sizeof(err->detail), format, args);
	va_end(args);
	return status;
}

DistilStatus
distil_fail_hint(DistilError *err, DistilStatus status, const char *format, ...)
{
	va_list		args;

	if (err == NULL)
		return status;
	va_start(args, format);
	write_field(err->hint, sizeof(err->hint), format, args);
	va_end(args);
	return status;
}

DistilStatus
distil_fail_memory(DistilError *err, size_t bytes)
{
	distil_fail(err, DISTIL_ERR_MEMORY, "out of memory");
	if (bytes > 0)
		distil_fail_detail(err, DISTIL_ERR_MEMORY, "Failed on a request of %zu bytes.", bytes);
	return DISTIL_ERR_MEMORY;
}

DistilStatus
distil_fail_cancelled(DistilError *err)
{
	return distil_fail(err, DISTIL_ERR_CANCELLED, "canceling statement due to user request");
}
