-- What users do wrong: SQLSTATE, message, detail and hint of each error; nothing is left behind.
\getenv abs_srcdir PG_ABS_SRCDIR
CREATE DATABASE distil_errors TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
ALTER DATABASE distil_errors SET distil.precision = 'float32';	-- numbers are compared
\c distil_errors
\pset null '(null)'
\pset tuples_only on
\pset format unaligned
CREATE EXTENSION distil;
\set path :abs_srcdir '/test/golden/models/bert-sentence'
SELECT distil_import('tiny', :'path');
\set path :abs_srcdir '/test/golden/models/bert-mlm'
SELECT distil_import('mlm', :'path');

CREATE FUNCTION try(stmt text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text;
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE stmt;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n  ', state || ': ' || message, nullif(detail, ''), nullif(hint, ''));
END $$;

-- names
SELECT try('SELECT distil_import('''', ''/x'')');
SELECT try('SELECT distil_import(''  '', ''/x'')');
SELECT try('SELECT distil_import(''a/b'', ''/x'')');
SELECT try('SELECT distil_import(E''a\nb'', ''/x'')');
SELECT try(format('SELECT distil_import(%L, ''/x'')', repeat('m', 64)));
SELECT try('SELECT distil_import(''tiny'', ''/x'')');
SELECT try('SELECT distil_import(NULL, ''/x'')');
SELECT try('SELECT distil_import(''m'', NULL)');
SELECT try('SELECT distil_import(''m'', ''/x'', NULL)');
SELECT try('SELECT distil_import(''no-such-bundle'')');

-- paths and files
SELECT try('SELECT distil_import(''m'', ''relative/path'')');
SELECT try('SELECT distil_import(''m'', ''/nonexistent/model'')');
SELECT try('SELECT distil_import(''m'', ''/dev/null'')');
SELECT try('SELECT distil_import(''m'', ''/dev'')');
SELECT try('SELECT distil_import(''m'', ''/x'', ''{"parse_special": 3}'')');
SELECT try('SELECT distil_import(''m'', ''/x'', ''{"colour": "blue"}'')');
SELECT try('SELECT distil_import(''m'', ''/x'', ''[]'')');
SELECT try('SELECT distil_import(''m'', ''/x'', ''"blue"'')');
SELECT try('SELECT distil_import_objects(''m'', ''[1]'')');
SELECT try('SELECT distil_import_objects(''m'', ''{"config.json": "x"}'')');
SELECT try('SELECT distil_import_objects(''m'', ''{"config.json": 0}'')');
SELECT try('SELECT distil_import_objects(''m'', ''{"config.json": 5000000000}'')');
SELECT try('SELECT distil_import_objects(''m'', ''{"config.json": 1}'')');
SELECT try('SELECT distil_import_objects(''m'', ''{"../config.json": 1}'')');
SELECT try('SELECT distil_import_objects(''m'', ''{"/etc/passwd": 1}'')');
SELECT try('SELECT distil_import_objects(''m'', ''{"a//b": 1}'')');
SELECT try('SELECT distil_import_objects(''m'', ''{"a/./b": 1}'')');
SELECT try('SELECT distil_import_objects(''m'', ''{}'')');

-- files that are not what they should be: one file of a good folder replaced, or left out (NULL)
CREATE TABLE good (name text, content bytea);
INSERT INTO good SELECT f, pg_read_binary_file(:'path' || '/' || f)
	FROM unnest(ARRAY['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']) f;
CREATE FUNCTION try_file(file text, bad bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	objects jsonb;
	result text;
BEGIN
	SELECT jsonb_object_agg(name, lo_from_bytea(0, content)::bigint) INTO objects
		FROM (SELECT name, content FROM good WHERE name <> file UNION ALL SELECT file, bad WHERE bad IS NOT NULL) g;
	result := try(format('SELECT distil_import_objects(''broken'', %L)', objects));
	PERFORM lo_unlink(value::oid) FROM jsonb_each_text(objects);
	RETURN result;
END $$;
SELECT count(*) AS objects FROM pg_largeobject_metadata \gset
SELECT try_file('config.json', NULL);
SELECT try_file('model.safetensors', NULL);
SELECT try_file('tokenizer.json', NULL);
SELECT try_file('config.json', 'not json');
SELECT try_file('config.json', '1');
SELECT try_file('config.json', convert_to('{"model_type": "' || chr(233) || '", "x": "', 'UTF8') || '\xff227d');
SELECT try_file('config.json', convert_to('{"model_type": "gpt9", "architectures": ["Gpt9Model"]}', 'UTF8'));
SELECT try_file('config.json', convert_to(repeat('[', 100), 'UTF8'));
SELECT try_file('tokenizer.json', '{}');
SELECT try_file('model.safetensors', '');
SELECT try_file('model.safetensors', '\xffffffffffffffff');
SELECT try_file('model.safetensors', substr(content, 1, 1000)) FROM good WHERE name = 'model.safetensors';
SELECT try_file('model.safetensors', substr(content, 1, length(content) - 4)) FROM good WHERE name = 'model.safetensors';
-- NaN in the last weight
SELECT try_file('model.safetensors', substr(content, 1, length(content) - 4) || '\x0000c07f') FROM good WHERE name = 'model.safetensors';
-- only a pickle
UPDATE good SET name = 'pytorch_model.bin' WHERE name = 'model.safetensors';
SELECT try_file('nothing', NULL);
UPDATE good SET name = 'model.safetensors' WHERE name = 'pytorch_model.bin';
-- the same folder untouched is good
SELECT try_file('nothing', NULL);
SELECT distil_drop_model('broken');
SET distil.max_model_size = '1MB';
SELECT try_file('merges.txt', convert_to(repeat('x', 1100000), 'UTF8'));
RESET distil.max_model_size;
SELECT count(*) - :objects AS more_objects FROM pg_largeobject_metadata;

-- unknown models, heads, prompts; bad arguments
SELECT try('SELECT distil_embed(''a'', ''nobody'')');
SELECT try('SELECT distil_embed(''a'', ''sentence-transformers/all-MiniLM-L6-v2'')');
SELECT try('SELECT distil_embed(''a'', ''tiny'', ''nobody'')');
SELECT try('SELECT distil_embed(''a'', ''mlm'', ''query'')');
SELECT try('SELECT distil_logits(''a'', ''tiny/lm'')');
SELECT try('SELECT distil_logits(''a'', ''mlm/nobody'')');
SELECT try('SELECT distil_logits(''a'', ''nobody'')');
SELECT try('SELECT distil_logits(''a'', ''tiny'')');
SELECT try('SELECT * FROM distil_fill_mask(''no mask here'', ''mlm'')');
SELECT try('SELECT * FROM distil_fill_mask(''[MASK] and [MASK]'', ''mlm'')');
SELECT try('SELECT * FROM distil_fill_mask(''[MASK]'', ''tiny'')');
SELECT try('SELECT * FROM distil_fill_mask(''[MASK]'', ''mlm'', 0)');
SELECT try('SELECT * FROM distil_fill_mask(''[MASK]'', ''mlm'', NULL)');
SELECT try('SELECT distil_decode(''{1,NULL}'', ''mlm'')');
SELECT try('SELECT distil_decode(''{{1},{2}}'', ''mlm'')');
SELECT try('SELECT distil_decode(''{1}'', ''mlm'', NULL)');
SELECT try('SELECT * FROM distil_chunk(''a'', max_tokens => 0)');
SELECT try('SELECT * FROM distil_chunk(''a'', max_tokens => 2)');
SELECT try('SELECT * FROM distil_chunk(''a'', overlap => -1)');
SELECT try('SELECT * FROM distil_chunk(''a b c'', max_tokens => 5, overlap => 5)');
SELECT try('SELECT * FROM distil_chunk(''a'', overlap => NULL)');
SELECT try('CALL distil_train(''tiny'', ''delete from good returning name'')');
SELECT try('CALL distil_train(''tiny'', ''drop table good'')');
SELECT try('CALL distil_train(''tiny'', ''"good'')');
SELECT try('SELECT distil_cosine(''{1}''::real[], ''{1,2}''::real[])');
SELECT try('CALL distil_train(''tiny'', ''good'', options => ''1'')');
SELECT try('SELECT distil_set_default(NULL)');
SELECT try('SELECT distil_drop_model(NULL)');
SELECT try('SELECT distil_grant(''tiny'', ''no such role'')');
SELECT try('SELECT distil_grant(''nobody'', ''public'')');
SELECT try('SELECT distil_verify(''nobody'')');
SELECT try('SELECT distil_export(''tiny'', ''relative'')');
SELECT try('SELECT distil_export(''tiny'', ''/nonexistent/folder/model'')');
SELECT try('SELECT distil_export(''nobody'')');
SELECT try('SELECT distil.resident(''\x00'')');

-- a model from a configuration was in no folder
SELECT distil_create('made', distil_config('tiny'), 'tiny');
SELECT distil_drop_model('made');

-- long names are not repeated at length, and are cut between characters
SELECT octet_length(e) < 2500, e LIKE '%' || repeat('é', 10) || '..." does not exist%' FROM try(format('SELECT distil_embed(%L, %L)', 'a', repeat('é', 1000000))) e;
SELECT octet_length(e) < 2500 FROM try(format('SELECT distil_import(%L, %L)', repeat('n', 1000000), '/x')) e;
SELECT octet_length(e) < 2500 FROM try(format('SELECT distil_import(%L, %L)', repeat('n', 100000) || '/' || repeat('m', 100000), '/x')) e;
SELECT octet_length(e) < 2500 FROM try(format('SELECT distil_import(%L, %L)', 'm', repeat('p', 1000000))) e;
SELECT octet_length(e) < 2500 FROM try(format('SELECT distil_import(%L, %L)', 'm', '/' || repeat('p', 1000000))) e;
SELECT octet_length(e) < 2500 FROM try(format('SELECT distil_import_objects(%L, %L)', 'm', format('{"%s": 1}', repeat('f', 1000000)))) e;
SELECT octet_length(e) < 2500 FROM try(format('SELECT distil_logits(%L, %L)', 'a', 'mlm/' || repeat('h', 1000000))) e;
SELECT octet_length(e) < 2500 FROM try(format('SELECT distil_logits(%L, %L)', 'a', repeat('h', 1000000))) e;
SELECT octet_length(e) < 2500 FROM try(format('SELECT distil_logits(%L, %L)', 'a', repeat('h', 1000000) || '/lm')) e;
SELECT octet_length(e) < 2500 FROM try(format('SELECT distil_embed(%L, %L, %L)', 'a', 'tiny', repeat('p', 1000000))) e;
SELECT octet_length(e) < 2500 FROM try(format('SELECT distil_quantize(%L, %L, %L)', 'tiny', 'q', repeat('d', 1000000))) e;
SELECT octet_length(e) < 2500 FROM try(format('SELECT distil_quantize(%L, %L, %L, %L)', 'tiny', 'q', 'int8', format('{"%s": 1}', repeat('d', 1000000)))) e;
SELECT octet_length(e) < 2500 FROM try(format('SELECT * FROM distil_entities(%L, %L, %L)', 'a', 'mlm/lm', repeat('d', 1000000))) e;
SELECT octet_length(e) < 2500 FROM try(format('CALL distil_train(%L, %L, column_name => %L)', 'tiny', 'SELECT 1::text', repeat('d', 1000000))) e;
SELECT octet_length(e) < 2500 FROM try(format('CALL distil_train(%L, %L, method => %L)', 'tiny', 'SELECT 1::text', repeat('d', 1000000))) e;

-- settings
SELECT try('SET distil.truncation = maybe');
SELECT try('SET distil.batch_rows = 0');
SELECT try('SET distil.precision = float64');
SELECT try('SET distil.isa = amx512');
SELECT try('SET distil.truncation = error; SELECT distil_embed(repeat(''cat '', 100), ''tiny'')');

-- read-only transactions read, and do not write
BEGIN READ ONLY;
SELECT cardinality(distil_embed('a', 'tiny'));
SELECT try('SELECT distil_import_objects(''m'', ''{}'')');
SELECT try('SELECT distil_drop_model(''tiny'')');
SELECT try('SELECT distil_set_default(''mlm'')');
SELECT try('SELECT distil_export(''tiny'')');
ROLLBACK;

-- an error in the middle of a statement leaves the session usable; so does a cancel
SELECT try('SELECT distil_embed(m, ''tiny'') FROM unnest(ARRAY[''a'', ''b'']) m WHERE distil_embed(m, ''nobody'') IS NULL');
SELECT cardinality(distil_embed('a', 'tiny'));
SET statement_timeout = '50ms';
SELECT count(distil_embed('text ' || i, 'tiny')) FROM generate_series(1, 1000000) i;
RESET statement_timeout;
SELECT cardinality(distil_embed('a', 'tiny'));
\c regression
DROP DATABASE distil_errors;
