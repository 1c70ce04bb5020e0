-- Models: import, catalog, default, rights of content, drop, export; nothing leaks.
\getenv abs_srcdir PG_ABS_SRCDIR
\set folder :abs_srcdir '/test/golden/models/'
CREATE DATABASE distil_model TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
ALTER DATABASE distil_model SET distil.precision = 'float32';	-- numbers are compared
\c distil_model
\set VERBOSITY terse
\pset null '(null)'
CREATE EXTENSION distil;

-- an empty catalog
SELECT count(*) FROM distil_models;
SELECT distil_embed('hello');
SELECT distil_embed('hello', 'nobody');

-- every kind of folder
\set path :folder 'bert-sentence'
SELECT distil_import('sentence', :'path');
\set path :folder 'bert-mlm'
SELECT distil_import('mlm', :'path');
\set path :folder 'bert-old'
SELECT distil_import('old', :'path');
\set path :folder 'bert-f16-sharded'
SELECT distil_import('half', :'path');
\set path :folder 'bert-bf16'
SELECT distil_import('brain', :'path');
\set path :folder 'distilbert-mlm'
SELECT distil_import('distilbert', :'path');
SELECT name, is_default, architecture, tasks, layers, dimensions, max_tokens, vocabulary, dtype,
	owner = current_user AS mine, teacher, length(sha256) AS sha256
	FROM distil_models ORDER BY name;
SELECT name, parameters FROM distil_models ORDER BY name;
SELECT head, model, task, labels, metric FROM distil_heads ORDER BY head;
SELECT distil_config('mlm') ->> 'model_type' AS model_type, distil_config(NULL);
SELECT distil_config('nobody');

-- the stored container has the size and hash of its row
SELECT m.name, m.bytes = length(lo_get(m.weights)) AS bytes, m.sha256 = sha256(lo_get(m.weights)) AS hash
	FROM distil.model m ORDER BY name;
SELECT item, ok FROM distil_verify('sentence');
SELECT bool_and(ok) FROM distil_models, LATERAL distil_verify(name);
SELECT * FROM distil_check();

-- the same weights in another form give the same vectors
SELECT abs(distil_similarity('the cat', 'the cat sat', 'mlm') - distil_similarity('the cat', 'the cat sat', 'old')) < 1e-6 AS old,
	abs(distil_similarity('the cat', 'the cat sat', 'mlm') - distil_similarity('the cat', 'the cat sat', 'half')) < 1e-3 AS half;

-- client side: the folder in large objects
CREATE TABLE files (name text, content oid);
INSERT INTO files SELECT f, lo_import(:'abs_srcdir' || '/test/golden/models/bert-sentence/' || f)
	FROM unnest(ARRAY['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json', 'modules.json',
		'config_sentence_transformers.json', 'sentence_bert_config.json', '1_Pooling/config.json',
		'2_Dense/config.json', '2_Dense/model.safetensors', '3_Normalize/config.json']) f;
SELECT distil_import_objects('from-client', jsonb_object_agg(name, content::bigint)) FROM files;
SELECT a.sha256 = b.sha256 AS same FROM distil_models a, distil_models b WHERE a.name = 'sentence' AND b.name = 'from-client';
SELECT lo_unlink(content) FROM files LIMIT 1;

-- one mapped copy per content: built by the first use, not by other names or sessions, and again when it is gone
CREATE PROCEDURE clear_copy(model text) LANGUAGE plpgsql AS $$
BEGIN
	LOOP	-- until the sessions before have let go of it
		PERFORM distil_cache_clear();
		EXIT WHEN NOT EXISTS (SELECT FROM distil_models WHERE name = model AND resident > 0);
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
SELECT distil.cache_builds() > 0 AS built;
SELECT distil.cache_builds() AS builds \gset
SELECT cardinality(distil_embed('hello', 'from-client'));
SELECT distil.cache_builds() - :builds AS built_again;
\c
\pset null '(null)'
\set VERBOSITY terse
SELECT cardinality(distil_embed('hello', 'sentence'));
SELECT distil.cache_builds();
SELECT resident > 0 AS resident FROM distil_models WHERE name = 'sentence';
\c
\set VERBOSITY terse
CALL clear_copy('sentence');
SELECT cardinality(distil_embed('hello', 'sentence'));
SELECT distil.cache_builds();

-- a copy that is not what it should be is built again
COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; cd pgsql_tmp_distil && for f in *.f32*; do echo broken >$f.new && mv $f.new $f; done';
\c
\set VERBOSITY terse
SELECT cardinality(distil_embed('hello', 'sentence'));
SELECT distil.cache_builds();
-- a server that cannot write copies uses private ones, and says so once
COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; rm -rf pgsql_tmp_distil && touch pgsql_tmp_distil';
\c
\set VERBOSITY terse
SELECT cardinality(distil_embed('hello', 'sentence'));
SELECT cardinality(distil_embed('hello', 'mlm'));
SELECT bool_and(ok) FROM distil_verify('sentence');
COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; rm pgsql_tmp_distil';
\c
\pset null '(null)'
\set VERBOSITY terse
SELECT cardinality(distil_embed('hello', 'sentence'));
SELECT distil.cache_builds();

-- default model
SELECT distil_set_default('mlm');
SELECT name FROM distil_models WHERE is_default;
SELECT cardinality(distil_embed('hello'));
SET distil.default_model = 'sentence';
SELECT cardinality(distil_embed('hello'));
SET distil.default_model = 'nobody';
SELECT cardinality(distil_embed('hello'));
RESET distil.default_model;
BEGIN;
SELECT distil_set_default('sentence');
SELECT cardinality(distil_embed('hello'));
ROLLBACK;
SELECT cardinality(distil_embed('hello'));
SELECT distil_set_default('nobody');

-- an import that is rolled back leaves nothing, and its name stays free
SELECT count(*) AS objects FROM pg_largeobject_metadata \gset
BEGIN;
\set path :folder 'distilbert-mlm'
SELECT distil_import('passing', :'path');
SELECT cardinality(distil_embed('hello', 'passing'));
ROLLBACK;
SELECT count(*) - :objects AS more FROM pg_largeobject_metadata;
SELECT distil_embed('hello', 'passing');
BEGIN;
SAVEPOINT s;
SELECT distil_import('passing', :'path');
SELECT cardinality(distil_embed('hello', 'passing'));
ROLLBACK TO s;
SELECT distil_embed('hello', 'passing');
ROLLBACK;
-- for other weights, too
\set path :folder 'bert-mlm'
BEGIN;
SELECT distil_import('passing', :'path');
SELECT distil_embed('hello', 'passing') = distil_embed('hello', 'mlm') AS same;
ROLLBACK;
\set path :folder 'distilbert-mlm'

-- content is frozen, names are not used twice
UPDATE distil.model SET weights = 1 WHERE name = 'mlm';
UPDATE distil.model SET sha256 = sha256('x') WHERE name = 'mlm';
UPDATE distil.model SET name = 'other' WHERE name = 'mlm';
TRUNCATE distil.model CASCADE;
SELECT distil_import('mlm', :'path');

-- drop
SELECT distil_drop_model('nobody');
SELECT weights AS lost FROM distil.model WHERE name = 'distilbert' \gset
SELECT distil_drop_model('distilbert');
SELECT count(*) FROM pg_largeobject_metadata WHERE oid = :lost;
SELECT count(*) FROM distil_heads WHERE model = 'distilbert';
SELECT distil_embed('hello', 'distilbert');
SELECT distil_import('distilbert', :'path');
\set path :folder 'bert-mlm'
SELECT distil_drop_model('distilbert');
SELECT distil_import('distilbert', :'path');
-- what uses a model keeps it
CREATE TABLE docs (id int, body text, n int DEFAULT distil_token_count('a b', 'brain'));
SELECT distil_drop_model('brain');
ALTER TABLE docs ALTER n DROP DEFAULT;
CREATE INDEX docs_first ON docs (((distil_embed(body, 'brain'))[1]));
SELECT distil_drop_model('brain');
DROP INDEX docs_first;
CREATE TABLE parted (body text) PARTITION BY RANGE (distil_token_count(body, 'brain'));
SELECT distil_drop_model('brain');
DROP TABLE parted;
CREATE STATISTICS docs_tokens ON id, (distil_token_count(body, 'brain')) FROM docs;
SELECT distil_drop_model('brain');
DROP STATISTICS docs_tokens;
CREATE DOMAIN short AS text CHECK (distil_token_count(VALUE, 'brain') < 9);
SELECT distil_drop_model('brain');
DROP DOMAIN short;
CREATE DOMAIN counted AS int DEFAULT distil_token_count('a b', 'brain');
SELECT distil_drop_model('brain');
DROP DOMAIN counted;
CREATE MATERIALIZED VIEW counts AS SELECT distil_token_count(body, 'brain') FROM docs;
SELECT distil_drop_model('brain');
DROP MATERIALIZED VIEW counts;
CREATE RULE counting AS ON INSERT TO docs WHERE distil_token_count(new.body, 'brain') > 9 DO INSTEAD NOTHING;
SELECT distil_drop_model('brain');
DROP RULE counting ON docs;
CREATE POLICY few_tokens ON docs WITH CHECK (distil_token_count(body, 'brain') < 9);
SELECT distil_drop_model('brain');
DROP POLICY few_tokens ON docs;
CREATE TRIGGER long_ones BEFORE UPDATE ON docs FOR EACH ROW WHEN (distil_token_count(new.body, 'brain') > 9) EXECUTE FUNCTION suppress_redundant_updates_trigger();
SELECT distil_drop_model('brain');
DROP TRIGGER long_ones ON docs;
CREATE FUNCTION tokens_of(body text) RETURNS int BEGIN ATOMIC SELECT distil_token_count(body, 'brain'); END;
SELECT distil_drop_model('brain');
DROP FUNCTION tokens_of(text);
SELECT distil_drop_model('brain', force => true);
-- whatever the name
SELECT distil_import('its \ o''clock', :'path');
ALTER TABLE docs ADD CHECK (distil_logits(body, 'its \ o''clock/lm') IS NOT NULL);
SELECT distil_drop_model('its \ o''clock');
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SELECT distil_drop_model('its \\ o''clock');
RESET standard_conforming_strings;
RESET escape_string_warning;
ALTER TABLE docs DROP CONSTRAINT docs_body_check;
-- nor by the name of a head that no other model has
CREATE VIEW logits AS SELECT distil_logits(body, 'lm') FROM docs;
BEGIN;
SELECT distil_drop_model('its \ o''clock');
ROLLBACK;
BEGIN;
UPDATE distil.head SET name = 'other' WHERE model <> 'its \ o''clock' AND name = 'lm';
SELECT distil_drop_model('its \ o''clock');
ROLLBACK;
DROP VIEW logits;
ALTER TABLE docs ADD CHECK (distil_logits(body, 'its \ o''clock/lm') IS NOT NULL);
SELECT distil_drop_model('its \ o''clock', force => true);
DROP TABLE docs;
-- DELETE does as distil_drop_model
SELECT weights AS lost FROM distil.model WHERE name = 'half' \gset
DELETE FROM distil.model WHERE name = 'half';
SELECT count(*) FROM pg_largeobject_metadata WHERE oid = :lost;
SELECT name FROM distil.tombstone ORDER BY name;

-- export as large objects, and import again: the same model
CREATE TABLE exported AS SELECT * FROM distil_export('sentence');
SELECT file FROM exported ORDER BY file COLLATE "C";
SELECT distil_import_objects('again', jsonb_object_agg(file, content::bigint)) FROM exported;
SELECT distil_embed('the cat', 'again') = distil_embed('the cat', 'sentence') AS same;

-- export to a folder of the server; nothing is overwritten
\! rm -rf "$PG_ABS_SRCDIR/results/exported"
\set exported :abs_srcdir '/results/exported'
SELECT distil_export('sentence', :'exported');
SELECT distil_import('from-folder', :'exported');
SELECT a.sha256 = b.sha256 AS same FROM distil_models a, distil_models b WHERE a.name = 'sentence' AND b.name = 'from-folder';
SELECT set_config('test.path', :'exported', false) <> '' AS set;
DO $$ BEGIN PERFORM distil_export('sentence', current_setting('test.path')); EXCEPTION WHEN duplicate_file THEN RAISE NOTICE 'file exists'; END $$;
-- and an export that fails half-way takes its files back
\! cd "$PG_ABS_SRCDIR/results/exported" && find . -type f ! -name tokenizer.json -delete; find . -type f
DO $$ BEGIN PERFORM distil_export('sentence', current_setting('test.path')); EXCEPTION WHEN duplicate_file THEN RAISE NOTICE 'file exists'; END $$;
\! cd "$PG_ABS_SRCDIR/results/exported" && find . -type f
\! rm -rf "$PG_ABS_SRCDIR/results/exported"

-- weights that were touched are not used
SELECT weights AS touched FROM distil.model WHERE name = 'again' \gset
SELECT lo_put(:touched, 5000, '\xdeadbeef');
SELECT item, ok FROM distil_verify('again');
SELECT count(*) FROM distil_export('again');
\c
\set VERBOSITY terse
CALL clear_copy('again');
DO $$ BEGIN PERFORM distil_embed('hello', 'again'); EXCEPTION WHEN data_corrupted THEN RAISE NOTICE '%', sqlerrm; END $$;
-- an error of the server in the middle of reading them is that of the call
SET allow_system_table_mods = on;
UPDATE pg_largeobject SET data = decode(repeat('00', 3000), 'hex') WHERE loid = :touched AND pageno = 3;
DO $$ BEGIN PERFORM distil_embed('hello', 'again'); EXCEPTION WHEN data_corrupted THEN RAISE NOTICE '%', regexp_replace(sqlerrm, '\d{4,}', 'N', 'g'); END $$;
SELECT cardinality(distil_embed('hello', 'sentence')) > 0 AS goes_on;

-- lost weights, orphans and lost links are found
SELECT lo_unlink(:touched);
DO $$ BEGIN PERFORM distil_embed('hello', 'again'); EXCEPTION WHEN object_not_in_prerequisite_state THEN RAISE NOTICE '%', sqlerrm; END $$;
SELECT lo_from_bytea(0, lo_get(weights)) AS orphan FROM distil.model WHERE name = 'mlm' \gset
DELETE FROM pg_depend WHERE classid = 'pg_largeobject'::regclass AND objid IN (SELECT weights FROM distil.model WHERE name = 'mlm');
SELECT regexp_replace(object, '\d+', 'N') AS object, regexp_replace(problem, '\d{4,}', 'N') AS problem, regexp_replace(fix, '\d{4,}', 'N') AS fix
	FROM distil_check();
SELECT lo_unlink(:orphan);
SELECT distil_drop_model('again', force => true);
SELECT * FROM distil_check();

-- DROP EXTENSION removes the weights of all models, and nothing else
SELECT count(*) AS others FROM pg_largeobject_metadata l WHERE NOT EXISTS (SELECT FROM distil.model m WHERE m.weights = l.oid) \gset
DROP EXTENSION distil;
SELECT count(*) - :others AS left FROM pg_largeobject_metadata;
CREATE EXTENSION distil;
SELECT count(*) FROM distil_models;
\c regression
DROP DATABASE distil_model;
