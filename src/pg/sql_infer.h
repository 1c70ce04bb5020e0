/*
 * sql_infer.h
 *		The batchable functions of sql_infer.c, sql_heads.c, sql_generate.c and sql_token.c, for the table of
 *		batch_call.c.
 */
#ifndef DISTIL_SQL_INFER_H
#define DISTIL_SQL_INFER_H

#include "batch_call.h"

extern void distil_run_embed(DistilBatchArgs *args);
extern void distil_run_embed_query(DistilBatchArgs *args);
extern void distil_run_similarity(DistilBatchArgs *args);
extern void distil_run_hidden_states(DistilBatchArgs *args);
extern void distil_run_classify(DistilBatchArgs *args);
extern void distil_run_rerank(DistilBatchArgs *args);
extern void distil_run_logits(DistilBatchArgs *args);
extern void distil_run_loss(DistilBatchArgs *args);
extern void distil_run_perplexity(DistilBatchArgs *args);
extern void distil_run_token_ids(DistilBatchArgs *args);
extern void distil_run_token_count(DistilBatchArgs *args);
extern void distil_run_decode(DistilBatchArgs *args);

#endif							/* DISTIL_SQL_INFER_H */
