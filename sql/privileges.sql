-- Rights: importing, using, granting, dropping; catalogs are public, tables are not writable.
\getenv abs_srcdir PG_ABS_SRCDIR
CREATE DATABASE distil_privileges TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c distil_privileges
\pset null '(null)'
CREATE EXTENSION distil;
CREATE ROLE distil_alice;
CREATE ROLE distil_bob;
CREATE ROLE distil_reader;
GRANT pg_read_server_files TO distil_reader;
GRANT CREATE ON SCHEMA public TO distil_alice;
\set path :abs_srcdir '/test/golden/models/bert-sentence'
SELECT distil_import('super', :'path');

-- server files need a right, files of the client do not
SET ROLE distil_alice;
SELECT distil_import('mine', '/somewhere');
SELECT distil_export('super', '/somewhere');
RESET ROLE;
SELECT jsonb_object_agg(f, lo_from_bytea(0, pg_read_binary_file(:'path' || '/' || f))::bigint) AS objects
	FROM unnest(ARRAY['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']) f \gset
SET ROLE distil_alice;
\set VERBOSITY terse
DO $$ BEGIN PERFORM distil_import_objects('mine', '{"config.json": 2613}'); EXCEPTION WHEN undefined_object THEN RAISE NOTICE 'no such object'; END $$;
SELECT set_config('test.objects', :'objects', false) <> '' AS set;
DO $$ BEGIN PERFORM distil_import_objects('mine', current_setting('test.objects')::jsonb);
EXCEPTION WHEN insufficient_privilege THEN RAISE NOTICE '%', regexp_replace(sqlerrm, '\d+', 'N'); END $$;
\set VERBOSITY default
RESET ROLE;
DO $$ BEGIN EXECUTE (SELECT string_agg(format('ALTER LARGE OBJECT %s OWNER TO distil_alice', value), ';')
	FROM jsonb_each_text(current_setting('test.objects')::jsonb)); END $$;
SET ROLE distil_alice;
SELECT distil_import_objects('mine', :'objects');
SELECT name, owner FROM distil_models ORDER BY name;
SELECT cardinality(distil_embed('a', 'mine'));
RESET ROLE;
SET ROLE distil_reader;
SELECT distil_import('read', :'path');
SELECT cardinality(distil_embed('a', 'read'));
RESET ROLE;

-- a model can be used by its owner until it is granted
SET ROLE distil_bob;
SELECT cardinality(distil_embed('a', 'mine'));
SELECT cardinality(distil_embed('a'));
SELECT distil_token_count('a', 'mine');
SELECT distil_export('mine');
SELECT distil_config('mine') ->> 'model_type';
SELECT distil_grant('mine', 'distil_bob');
SELECT distil_drop_model('mine');
SELECT distil_drop_model('mine', force => true);
SELECT distil_set_default('mine');
RESET ROLE;
SET ROLE distil_alice;
SELECT distil_grant('mine', 'distil_bob');
SET ROLE distil_bob;
SELECT cardinality(distil_embed('a', 'mine'));
SET ROLE distil_alice;
SELECT distil_revoke('mine', 'distil_bob');
SET ROLE distil_bob;
-- the right is asked for although this session has the model open
SELECT cardinality(distil_embed('a', 'mine'));
SET ROLE distil_alice;
-- a role's name is no more than that
RESET ROLE;
CREATE ROLE "distil_eve, public";
SET ROLE distil_alice;
SELECT distil_grant('mine', 'distil_eve, public');
SET ROLE distil_bob;
SELECT cardinality(distil_embed('a', 'mine'));
SET ROLE distil_alice;
SELECT distil_revoke('mine', 'distil_eve, public');
SELECT distil_grant('mine', 'public');
SET ROLE distil_bob;
SELECT cardinality(distil_embed('a', 'mine'));
SELECT distil_similarity('a', 'a', 'mine') > 0.999;
RESET ROLE;
SELECT distil_revoke('mine', 'public');

-- after a restore, which keeps no links: its owner is known by the content, and nobody becomes anybody else for that
DELETE FROM pg_depend WHERE classid = 'pg_largeobject'::regclass AND objid = (SELECT weights FROM distil.model WHERE name = 'mine');
SET ROLE distil_bob;
SELECT distil_grant('mine', 'distil_bob');
SET ROLE distil_alice;
SELECT distil_grant('mine', 'distil_bob');
SELECT current_user;
SELECT distil_revoke('mine', 'distil_bob');
RESET ROLE;

-- the same within one transaction and one prepared statement
CREATE TABLE one AS SELECT 'a'::text AS body;
GRANT SELECT ON one TO PUBLIC;
PREPARE q AS SELECT cardinality(distil_embed(body, 'mine')) FROM one;
BEGIN;
EXECUTE q;
SET LOCAL ROLE distil_bob;
EXECUTE q;
ROLLBACK;

-- tables are readable, not writable
SET ROLE distil_bob;
SELECT count(*) FROM distil_models;
SELECT count(*) FROM distil_heads;
SELECT count(*) FROM distil.model;
UPDATE distil.model SET is_default = true WHERE name = 'mine';
DELETE FROM distil.model;
INSERT INTO distil.tombstone VALUES ('x', 'y');
SELECT distil_check();
SELECT distil_cache_clear();
SELECT distil.model_changed();
SET distil.max_model_size = '1TB';
SET distil.cache_size = 0;
RESET ROLE;

-- nobody can put functions in the way of the code that writes as the owner
SET ROLE distil_alice;
CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
CREATE FUNCTION public.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.trap);
CREATE OPERATOR public.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = public.trap);
SET search_path = public, pg_catalog;
SELECT distil_import_objects('trap', :'objects');
SELECT distil_drop_model('trap');
RESET search_path;
SELECT distil_drop_model('mine');
RESET ROLE;
DROP OPERATOR public.= (text, text);
DROP OPERATOR public.<> (text, text);

-- a role that owns a model cannot vanish silently; dropping what it owns is noticed
SET ROLE distil_alice;
SELECT distil_import_objects('left', :'objects');
RESET ROLE;
DROP OWNED BY distil_alice;
SELECT regexp_replace(problem, '\d+', 'N') AS problem, fix FROM distil_check();
SELECT distil_drop_model('left', force => true);
\c regression
DROP DATABASE distil_privileges;
DROP ROLE distil_alice;
DROP ROLE distil_bob;
DROP ROLE distil_reader;
DROP ROLE "distil_eve, public";
