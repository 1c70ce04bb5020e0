/*
 * student_files.h
 *		The small files a student's folder has besides its weights.
 */
#ifndef DISTIL_STUDENT_FILES_H
#define DISTIL_STUDENT_FILES_H

#include "student.h"

/*
 * A config.json of the given text and the teacher's other small files; all in `arena`, readers over it and
 * the image.
 */
extern DistilStatus distil_student_small_files(DistilFolder *folder, const DistilModel *teacher,
											   const char *config, size_t length, DistilArena *arena,
											   DistilError *err);

#endif							/* DISTIL_STUDENT_FILES_H */
