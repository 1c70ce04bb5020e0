/*
 * student.h
 *		A student made from its teacher: which layers, which weights, which files.
 *
 * Method embedding keeps the architecture and drops layers.  Method triple makes the
 * architecture's student type (BERT -> DistilBERT): no segment table, its row 0 added to
 * the position table, so that a student with all layers gives the teacher's logits.
 */
#ifndef DISTIL_STUDENT_H
#define DISTIL_STUDENT_H

#include "model.h"

/*
 * Default teacher layers for a student of n: evenly spaced, first and last included
 * (n = 1: the last); method triple with 6 of 12 takes 0, 2, 4, 7, 9, 11 as the DistilBERT
 * scripts.  layers [DISTIL_MAX_LAYERS], entries from n on are set to 0.
 */
extern void distil_student_layers(int *layers, int n, int teacher_layers, DistilMethod method);

/* The structure of the student; everything it points to lives in `arena` or in the teacher. */
extern DistilStatus distil_student_spec(DistilSpec *spec, const DistilModel *teacher,
										const DistilTrainOptions *options, DistilArena *arena,
										DistilError *err);

/*
 * weights [spec->table.total] (memory of the device, all of it overwritten) from the
 * teacher's.  scratch [n] is host memory to copy through.
 */
extern DistilStatus distil_student_weights(float *weights, const DistilSpec *spec, const DistilModel *teacher,
										   const DistilTrainOptions *options, float *scratch, size_t n,
										   DistilDevice *device, const DistilPoll *poll, DistilError *err);

/*
 * The student as a folder: config.json and weight files of its own over `weights` (host
 * memory, borrowed), the other files from the teacher's image.  Owned by the result.
 */
typedef struct DistilStudentFolder DistilStudentFolder;
extern DistilStatus distil_student_folder_create(DistilStudentFolder **folder, const DistilSpec *spec,
												 const DistilModel *teacher, const float *weights,
												 const DistilAllocator *alloc, DistilError *err);
/* The same with other small files beside the weights: borrowed, with their readers, until free. */
extern DistilStatus distil_weight_folder_create(DistilStudentFolder **folder, const DistilSpec *spec,
												const DistilFolder *small, const float *weights,
												const DistilAllocator *alloc, DistilError *err);
extern const DistilFolder *distil_student_folder(const DistilStudentFolder *folder);
extern void distil_student_folder_free(DistilStudentFolder *folder);	/* takes NULL */

#endif							/* DISTIL_STUDENT_H */
