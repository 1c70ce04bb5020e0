-- Training jobs: arguments, options, rights, the jobs' views and commands.
-- Progress notices carry speeds, so they are off; job numbers are not printed.
\getenv srcdir PG_ABS_SRCDIR
\set sentence :srcdir '/test/golden/models/bert-sentence'
\set mlm :srcdir '/test/golden/models/bert-mlm'
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS distil;
SET client_min_messages = warning;
SELECT distil_import('train-sentence', :'sentence');
SELECT distil_import('train-mlm', :'mlm');
CREATE TABLE train_docs (id int, body text);
INSERT INTO train_docs
	SELECT i, 'the quick brown fox reads ' || i || ' rows of the large table and the lazy dog stores data in columns ' || i * 7
	FROM generate_series(1, 60) i;
INSERT INTO train_docs VALUES (0, NULL);
CREATE TABLE train_two (a text, b varchar, n int);
CREATE TABLE train_none (n int);
CREATE VIEW train_view AS SELECT body FROM train_docs;

-- a student of a sentence model, and one by the triple loss
CALL distil_train('train-sentence', 'train_docs', 'train-s1', options => '{"max_steps": 12, "batch_size": 8, "threads": 1}', wait => true);
SELECT state, kind, teacher, student, corpus, column_name, method, step, steps, progress, texts, error, loss > 0 AS loss, tokens > 0 AS tokens,
	loss_ce IS NULL AS no_ce, eta, options->>'max_steps' AS max_steps
	FROM distil_jobs WHERE job = distil_last_job();
SELECT layers, dimensions, teacher FROM distil_models WHERE name = 'train-s1';
SELECT count(*), min(step), max(step), bool_and(loss > 0) AS loss FROM distil_job_log WHERE job = distil_last_job();
SELECT cardinality(distil_embed('the cat', 'train-s1'));
SELECT bool_and(ok) FROM distil_verify('train-s1');
CALL distil_train('train-mlm', 'SELECT body FROM train_docs WHERE id > 10', method => 'triple',
	options => '{"max_steps": 6, "batch_size": 4, "gradient_accumulation_steps": 2, "threads": 1}', wait => true);
SELECT state, student, method, step, steps, progress, texts, loss_ce > 0 AS ce, loss_mlm > 0 AS mlm, loss_cos > 0 AS cos
	FROM distil_jobs WHERE job = distil_last_job();
SELECT count(*) FROM distil_fill_mask('the [MASK] sat on the mat', 'distiltrain-mlm');
-- DistilGPT2: a causal teacher, next words instead of masked ones
\set gpt2 :srcdir '/test/golden/models/heads-gpt2/'
SELECT jsonb_object_agg(f.name, lo_from_bytea(0, pg_read_binary_file(:'gpt2' || f.file))::bigint) AS objects
	FROM (VALUES ('config.json', 'lm.config.json'), ('model.safetensors', 'backbone.safetensors'), ('tokenizer.json', 'tokenizer.json'),
		('tokenizer_config.json', 'tokenizer_config.json')) f (name, file) \gset
SELECT distil_import_objects('train-gpt2', :'objects');
SELECT count(lo_unlink(value::oid)) FROM jsonb_each_text(:'objects');
CALL distil_train('train-gpt2', 'train_docs', options => '{"max_steps": 6, "batch_size": 4, "gradient_accumulation_steps": 2, "threads": 1}', wait => true);
SELECT state, student, method, step, loss_ce > 0 AS ce, loss_clm > 0 AS clm, loss_mlm, loss_cos > 0 AS cos, options->>'alpha_clm' AS alpha_clm,
	options ? 'mlm_mask_prop' AS masks FROM distil_jobs WHERE job = distil_last_job();
SELECT layers, teacher, tasks FROM distil_models WHERE name = 'distiltrain-gpt2';
SELECT distil_perplexity('the quick brown fox reads rows of the table', 'distiltrain-gpt2') > 1 AS perplexity,
	length(distil_generate('the quick brown', 'distiltrain-gpt2', max_tokens => 4)) > 0 AS writes;
CALL distil_train('train-gpt2', 'train_docs', 'train-x', options => '{"alpha_mlm": 2}');
CALL distil_train('train-mlm', 'train_docs', 'train-x', options => '{"alpha_clm": 2}');
-- the same again gives the same weights to the bit, from a view and another name
CALL distil_train('train-sentence', 'public.train_view', 'train-s2', options => '{"max_steps": 12, "batch_size": 8, "threads": 1}', wait => true);
SELECT a.sha256 = b.sha256 AS same FROM distil_models a, distil_models b WHERE a.name = 'train-s1' AND b.name = 'train-s2';
-- untrained
CALL distil_train('train-sentence', 'train_docs', 'train-s0', options => '{"max_steps": 0, "threads": 1}', wait => true);
SELECT state, step, progress, loss, eval_loss, learning_rate FROM distil_jobs WHERE job = distil_last_job();
SELECT count(*) FROM distil_models WHERE name = 'train-s0';

-- a picture of the loss
SELECT distil_loss_curve(distil_last_job() - 1) LIKE '<svg xmlns=%</svg>%' AS svg;
SELECT xml_is_well_formed_document(distil_loss_curve(distil_last_job() - 1)) AS xml;

-- arguments
CALL distil_train(NULL, 'train_docs');
CALL distil_train('train-sentence', NULL);
\set VERBOSITY terse
CALL distil_train('nobody', 'train_docs');
\set VERBOSITY default
CALL distil_train('train-sentence', 'train_docs', 'train-mlm');
CALL distil_train('train-sentence', 'train_docs', 'a/b');
CALL distil_train('train-sentence', 'train_docs', '');
SELECT distil_import('train-gone', :'mlm'), distil_drop_model('train-gone');
CALL distil_train('train-sentence', 'train_docs', 'train-gone');
CALL distil_train('train-sentence', 'no_such_table');
CALL distil_train('train-sentence', '');
CALL distil_train('train-sentence', 'train_two', 'train-x');
CALL distil_train('train-sentence', 'train_two', 'train-x', 'c');
CALL distil_train('train-sentence', 'train_two', 'train-x', 'n');
CALL distil_train('train-sentence', 'train_none', 'train-x');
CALL distil_train('train-sentence', 'train_docs_nope.body', 'train-x');
CALL distil_train('train-sentence', 'SELECT a, b FROM train_two', 'train-x');
CALL distil_train('train-sentence', 'SELECT 1', 'train-x');
CALL distil_train('train-sentence', 'SELECT body FROM train_docs; DROP TABLE train_docs', 'train-x');
CALL distil_train('train-sentence', 'SELECT FROM WHERE', 'train-x');
CALL distil_train('train-sentence', 'WITH x AS (DELETE FROM train_docs RETURNING body) SELECT body FROM x', 'train-x');
CALL distil_train('train-sentence', 'SELECT body FROM train_docs FOR UPDATE', 'train-x');
SELECT count(*) FROM train_docs;
CREATE TEMPORARY TABLE train_temp (body text);
CALL distil_train('train-sentence', 'train_temp', 'train-x');
CALL distil_train('train-sentence', '/* a temporary one */ SELECT body FROM train_temp', 'train-x');
CREATE SEQUENCE train_seq;
CALL distil_train('train-sentence', 'train_seq', 'train-x');

-- options
CALL distil_train('train-sentence', 'train_docs', 'train-x', method => 'wrong');
CALL distil_train('train-sentence', 'train_docs', 'train-x', method => 'minilm');
CALL distil_train('train-sentence', 'train_docs', 'train-x', method => 'triple');
CALL distil_train('train-sentence', 'train_docs', 'train-x', options => NULL);
CALL distil_train('train-sentence', 'train_docs', 'train-x', options => '[]');
CALL distil_train('train-sentence', 'train_docs', 'train-x', options => '{"epoch": 1}');
CALL distil_train('train-sentence', 'train_docs', 'train-x', options => '{"alpha_ce": 1}');
CALL distil_train('train-sentence', 'train_docs', 'train-x', options => '{"epochs": "many"}');
CALL distil_train('train-sentence', 'train_docs', 'train-x', options => '{"learning_rate": -1}');
CALL distil_train('train-sentence', 'train_docs', 'train-x', options => '{"layers": 99}');
CALL distil_train('train-sentence', 'train_docs', 'train-x', options => '{"layers": [0, 7]}');
\set VERBOSITY terse
CALL distil_train('train-sentence', 'train_docs', 'train-x', options => '{"device": "cuda"}');
CALL distil_train('train-sentence', 'train_docs', 'train-x', options => '{"gpus": 2}');
\set VERBOSITY default
CALL distil_train('train-sentence', 'train_docs', 'train-x', options => '{"device": "abacus"}');
CALL distil_train('train-sentence', 'train_docs', 'train-x', options => '{"dimensions": 8}');
-- a teacher that cannot be distilled is found before the corpus is read
SELECT jsonb_object_agg(f, lo_from_bytea(0, CASE f
		WHEN 'config_sentence_transformers.json' THEN convert_to(replace(t, '"default_prompt_name": null', '"default_prompt_name": "passage"'), 'UTF8')
		WHEN '1_Pooling/config.json' THEN convert_to(replace(replace(t, '"mean"', '"weightedmean"'), 'true', 'false'), 'UTF8')
		ELSE b END)::bigint) AS objects
	FROM unnest('{config.json,model.safetensors,tokenizer.json,tokenizer_config.json,modules.json,sentence_bert_config.json,
		config_sentence_transformers.json,1_Pooling/config.json,2_Dense/config.json,2_Dense/model.safetensors,3_Normalize/config.json}'::text[]) f,
	pg_read_binary_file(:'sentence' || '/' || f) b, LATERAL (SELECT CASE WHEN f LIKE '%.json' THEN convert_from(b, 'UTF8') END AS t) x \gset
SELECT distil_import_objects('train-weighted', :'objects');
SELECT count(lo_unlink(value::oid)) FROM jsonb_each_text(:'objects');
CALL distil_train('train-weighted', 'train_docs', 'train-x');
SET distil.max_threads = 2;
CALL distil_train('train-sentence', 'train_docs', 'train-x', options => '{"threads": 3}');
RESET distil.max_threads;
SELECT count(*) FROM distil_jobs WHERE student = 'train-x';

-- an empty corpus is found by the worker
CREATE TABLE train_empty (body text);
\set VERBOSITY sqlstate
CALL distil_train('train-sentence', 'train_empty', 'train-x', wait => true);
\set VERBOSITY default
SELECT state, error_code, error FROM distil.job WHERE job = distil_last_job();

-- its errors may be long
CREATE FUNCTION train_fail() RETURNS text LANGUAGE plpgsql AS
	$$ BEGIN RAISE '%', repeat('é', 100000) USING DETAIL = repeat('d', 100000), HINT = repeat('h', 100000); END $$;
\set VERBOSITY sqlstate
CALL distil_train('train-sentence', 'SELECT train_fail()', 'train-x', wait => true);
\set VERBOSITY default
SELECT state, octet_length(error), octet_length(error_hint), right(left(error, 504), 6) FROM distil.job WHERE job = distil_last_job();

-- in a transaction block: no waiting, and nothing starts before the commit
BEGIN;
CALL distil_train('train-sentence', 'train_docs', 'train-x', wait => true);
ROLLBACK;
BEGIN;
CALL distil_train('train-sentence', 'train_docs', 'train-b', options => '{"max_steps": 3, "threads": 1}');
ROLLBACK;
SELECT count(*) FROM distil_jobs WHERE student = 'train-b';
-- nor does it commit what a block did before
DO $$ BEGIN
	CREATE TABLE train_undone (a int);
	CALL distil_train('train-sentence', 'train_docs', 'train-b', options => '{"max_steps": 3, "threads": 1}');
	RAISE EXCEPTION 'undone';
END $$;
SELECT to_regclass('train_undone') IS NULL AS undone, count(*) FROM distil_jobs WHERE student = 'train-b';
BEGIN;
CALL distil_train('train-sentence', 'train_docs', 'train-b', options => '{"max_steps": 3, "threads": 1}');
SELECT state FROM distil_jobs WHERE student = 'train-b';
SAVEPOINT s;
-- the name is promised to the job
\set VERBOSITY sqlstate
SELECT distil_import('train-b', :'sentence');
\set VERBOSITY default
ROLLBACK TO s;
-- and its teacher stays
\set VERBOSITY terse
SELECT distil_drop_model('train-sentence');
\set VERBOSITY default
ROLLBACK TO s;
\set VERBOSITY sqlstate
CALL distil_train('train-sentence', 'train_docs', 'train-b');
CALL distil_wait(distil_last_job());
\set VERBOSITY default
ROLLBACK;
BEGIN;
CALL distil_train('train-sentence', 'train_docs', 'train-b', options => '{"max_steps": 3, "threads": 1}');
COMMIT;
CALL distil_wait(distil_last_job());
SELECT state, step FROM distil_jobs WHERE student = 'train-b';
BEGIN;
CALL distil_train('train-sentence', 'train_docs', 'train-p', options => '{"max_steps": 3, "threads": 1}');
SELECT distil_last_job() AS outer \gset
SAVEPOINT s;
CALL distil_train('train-sentence', 'train_docs', 'train-q', options => '{"max_steps": 3, "threads": 1}');
ROLLBACK TO s;
COMMIT;
CALL distil_wait(:outer);
SELECT student, state FROM distil_jobs WHERE job >= :outer;
BEGIN;
CALL distil_train('train-sentence', 'train_docs', 'train-q');
PREPARE TRANSACTION 'train';

-- a corpus query that gives away all advisory locks of its session: those of the job stay
CREATE FUNCTION train_unlock(t text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_unlock_all();
	IF (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted) <> 2 THEN
		RAISE 'the locks of the job are gone';
	END IF;
	RETURN t;
END $$;
CALL distil_train('train-sentence', 'SELECT train_unlock(body) AS body FROM train_docs', 'train-l', options => '{"max_steps": 3, "threads": 1}', wait => true);
SELECT state FROM distil_jobs WHERE job = distil_last_job();

-- nor do settings that functions of the corpus leave behind stay
CREATE ROLE train_other;
GRANT SELECT ON train_docs TO train_other;
CREATE FUNCTION train_settings(t text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', 'train_other', false), set_config('default_transaction_read_only', 'on', false),
		set_config('transaction_read_only', 'on', false);
	RETURN t;
END $$;
CALL distil_train('train-sentence', 'SELECT train_settings(body) AS body FROM train_docs', 'train-r', options => '{"max_steps": 3, "threads": 1}', wait => true);
SELECT state, error FROM distil_jobs WHERE job = distil_last_job();
SELECT owner = current_user AS mine FROM distil_models WHERE name = 'train-r';

-- names in a query mean what they mean to the caller
CREATE SCHEMA train_away;
CREATE TABLE train_away.train_docs AS SELECT id, body FROM train_docs WHERE id BETWEEN 1 AND 7;
SET search_path = train_away, public;
CALL distil_train('train-sentence', 'SELECT body FROM train_docs', 'train-a', options => '{"max_steps": 1, "batch_size": 2, "threads": 1}', wait => true);
RESET search_path;
SELECT state, texts FROM distil_jobs WHERE student = 'train-a';
DROP SCHEMA train_away CASCADE;

-- commands
\set VERBOSITY sqlstate
SELECT distil_cancel(distil_last_job());
SELECT distil_pause(distil_last_job());
SELECT distil_resume(distil_last_job());
SELECT distil_cancel(987654321);
CALL distil_wait(987654321);
SELECT distil_cancel(NULL);
SELECT distil_loss_curve(987654321);
CALL distil_wait(distil_last_job(), '-1 second');
\set VERBOSITY default

-- rights: the procedure, the corpus, the job
CREATE ROLE train_user LOGIN;
SET ROLE train_user;
CALL distil_train('train-sentence', 'train_docs', 'train-u');
RESET ROLE;
GRANT EXECUTE ON PROCEDURE distil_train TO train_user;
SET ROLE train_user;
CALL distil_train('train-sentence', 'train_docs', 'train-u');
RESET ROLE;
SELECT distil_grant('train-sentence', 'train_user');
SET ROLE train_user;
CALL distil_train('train-sentence', 'train_docs', 'train-u');
CALL distil_train('train-sentence', 'SELECT body FROM train_docs', 'train-u');
SELECT count(*) FROM distil_jobs;
SELECT count(*) FROM distil_job_log;
SELECT count(*) FROM distil.job;
\set VERBOSITY sqlstate
SELECT distil_cancel(1);
SELECT distil_loss_curve(1);
\set VERBOSITY default
RESET ROLE;
-- row security: this role sees half of the rows
ALTER TABLE train_docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY half ON train_docs TO train_user USING (id > 30);
GRANT SELECT ON train_docs TO train_user;
SET ROLE train_user;
CALL distil_train('train-sentence', 'train_docs', 'train-u', options => '{"max_steps": 2, "threads": 1}', wait => true);
SELECT state, owner, texts FROM distil_jobs;
RESET ROLE;
SELECT pg_get_userbyid(lomowner) AS owner FROM pg_largeobject_metadata m JOIN distil.model d ON d.weights = m.oid WHERE d.name = 'train-u';
-- policies that ask for a custom setting: the worker has those of the caller, and no others
CREATE POLICY tenant ON train_docs AS RESTRICTIVE TO train_user USING (id % 5 = current_setting('app.tenant', true)::int
	OR current_setting('app.tenant', true) IS NULL);
SET app.tenant = 3;
SET app.note = 'it''s "odd" {a,b}';
SET ROLE train_user;
CALL distil_train('train-sentence', $$SELECT body FROM train_docs WHERE current_setting('app.note') LIKE 'it''s "odd" {_,b}'$$, 'train-t',
	options => '{"max_steps": 2, "threads": 1}', wait => true);
SELECT state, texts FROM distil_jobs WHERE student = 'train-t';
RESET ROLE;
SELECT settings FROM distil.job WHERE student = 'train-t';
BEGIN;
SET LOCAL app.tenant = 99;
SELECT current_setting('app.tenant') AS tenant;
SET LOCAL ROLE train_user;
CALL distil_train('train-sentence', 'train_docs', 'train-w', options => '{"max_steps": 2, "threads": 1}');
COMMIT;
\set VERBOSITY sqlstate
CALL distil_wait(distil_last_job());
\set VERBOSITY default
SELECT error, error_hint FROM distil.job WHERE student = 'train-w';
DROP POLICY tenant ON train_docs;
RESET app.tenant;
RESET app.note;
-- who may not train any more cannot go on either
SET ROLE train_user;
BEGIN;
CALL distil_train('train-sentence', 'train_docs', 'train-v');
SELECT distil_cancel(distil_last_job());
COMMIT;
RESET ROLE;
REVOKE EXECUTE ON PROCEDURE distil_train FROM train_user;
SET ROLE train_user;
\set VERBOSITY terse
DO $$ BEGIN PERFORM distil_resume(distil_last_job()); EXCEPTION WHEN insufficient_privilege THEN
	RAISE WARNING '%', regexp_replace(sqlerrm, '\d+', 'N'); END $$;
\set VERBOSITY default
RESET ROLE;
GRANT EXECUTE ON PROCEDURE distil_train TO train_user;
GRANT pg_monitor TO train_user;
SET ROLE train_user;
SELECT count(*) > 5 AS all_jobs FROM distil_jobs;
-- who may look may not command; who may signal may command those that are no superuser's
\set VERBOSITY sqlstate
SELECT min(job) AS job FROM distil_jobs WHERE owner <> 'train_user' AND state = 'done' \gset
CALL distil_wait(:job);
SELECT distil_cancel(:job);
SELECT distil_resume(:job);
RESET ROLE;
GRANT pg_signal_backend TO train_user, train_other;
CREATE ROLE train_member NOINHERIT IN ROLE train_user;
CREATE ROLE train_heir INHERIT IN ROLE train_user;
SELECT max(job) AS other FROM distil_jobs WHERE owner = 'train_user' AND state = 'done' \gset
SET ROLE train_user;
SELECT distil_cancel(:job);
SELECT set_config('test.job', :'job', false) <> '' AS set;
\set VERBOSITY terse
DO $$
DECLARE
	hint text;
	command text;
BEGIN
	FOREACH command IN ARRAY ARRAY['cancel', 'pause', 'resume'] LOOP
		BEGIN
			EXECUTE format('SELECT distil_%s(%s)', command, current_setting('test.job'));
		EXCEPTION WHEN insufficient_privilege THEN
			GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
			RAISE INFO '%: %', command, hint;
		END;
	END LOOP;
END $$;
\set VERBOSITY sqlstate
SET ROLE train_other;
SELECT distil_cancel(:other);
CALL distil_wait(:other);
-- nor may a member of the owner that has not its rights
SET ROLE train_member;
SELECT distil_cancel(:other);
SELECT distil_pause(:other);
SELECT distil_resume(:other);
CALL distil_wait(:other);
SET ROLE train_heir;
SELECT distil_cancel(:other);
CALL distil_wait(:other);
\set VERBOSITY default
RESET ROLE;

-- token counts, special tokens included, those written in a text not recognised
SELECT token, count FROM distil_token_counts('train-mlm', $$SELECT 'the cat [MASK]' UNION ALL SELECT 'the cat the mat'$$) ORDER BY count DESC, token LIMIT 6;

-- nothing is left behind
SELECT count(*) FROM pg_ls_dir('pgsql_tmp_distil') f WHERE f LIKE 'job%'
	AND f IN (SELECT format('job_%s_%s', d.oid, j.job) FROM pg_database d, distil.job j WHERE d.datname = current_database() AND j.state = 'done');

DROP TABLE train_docs, train_two, train_none, train_empty, train_temp CASCADE;
DROP SEQUENCE train_seq;
DROP FUNCTION train_unlock, train_fail, train_settings;
DROP ROLE train_other, train_member, train_heir;
SELECT distil_drop_model(name, true) FROM distil_models WHERE name LIKE '%train-%' ORDER BY name;
REVOKE EXECUTE ON PROCEDURE distil_train FROM train_user;
DROP ROLE train_user;
