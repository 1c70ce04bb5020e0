-- Quantised models: made, stored, run, verified, exported; errors.
\getenv abs_srcdir PG_ABS_SRCDIR
\set folder :abs_srcdir '/test/golden/models/'
CREATE DATABASE distil_quantize TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c distil_quantize
\set VERBOSITY terse
\pset null '(null)'
CREATE EXTENSION distil;
\set path :folder 'bert-sentence'
SELECT distil_import('sentence', :'path');
\set path :folder 'distilbert-mlm'
SELECT distil_import('mlm', :'path');
CREATE TABLE docs (id int, body text);
INSERT INTO docs VALUES (1, 'the cat sat on the mat .'), (2, 'a database stores rows and columns; queries read them'),
	(3, 'hello'), (4, 'A QUICK brown fox, 42 lazy dogs & the river?'), (5, NULL);

-- the notice has figures of this machine
SET client_min_messages = warning;
SELECT distil_quantize('sentence', 'sentence8', 'int8');
SELECT distil_quantize('sentence', 'sentence16', 'bfloat16', '{"texts": ["the cat sat", "rows and columns"]}');
SELECT distil_quantize('mlm', 'mlm8', 'int8', '{"query": "SELECT body FROM docs", "smoothing": 0.4}');
-- a query is read until there are 1,000 texts
BEGIN;
SELECT distil_quantize('sentence', 'x', 'bfloat16', '{"query": "SELECT ''text '' || 12 / (1001 - i) FROM generate_series(1, 2000) i"}');
ROLLBACK;
RESET client_min_messages;
-- these models are random and small: a trained one loses less
SELECT name, dtype, cosine_mean > 0.99 AS mean, cosine_min > 0.98 AS least, cosine_min <= cosine_mean AS ordered, parameters, tasks
	FROM distil_models ORDER BY name;
SELECT q.name, round(q.bytes::numeric / o.bytes, 1) < 1 AS smaller FROM distil.model q JOIN distil.model o ON o.name = regexp_replace(q.name, '[0-9]+$', '')
	WHERE q.name <> o.name ORDER BY 1;
SELECT name, item, ok FROM distil_models, LATERAL distil_verify(name) WHERE name IN ('sentence8', 'sentence16', 'mlm8') ORDER BY name, item COLLATE "C";

-- in all precisions, alone and in batches
SET distil.precision = 'float32';
SELECT id, distil_cosine(distil_embed(body, 'sentence8'), distil_embed(body, 'sentence')) > 0.98 AS near FROM docs ORDER BY id;
RESET distil.precision;
SELECT id, distil_cosine(distil_embed(body, 'sentence8'), distil_embed(body, 'sentence')) > 0.98 AS near FROM docs ORDER BY id;
SELECT bool_and(distil_embed(body, 'sentence8') = many) AS same FROM (SELECT body, distil_embed(body, 'sentence8') AS many FROM docs OFFSET 0) d;
SELECT count(*) FROM distil_fill_mask('the [MASK] sat on the river .', 'mlm8');
SELECT distil_similarity('the cat', 'the cat sat', 'sentence8') > 0 AS similar;

-- what is exported is a float32 model with the same numbers
SELECT jsonb_object_agg(file, content::bigint) AS objects FROM distil_export('sentence8') \gset
SELECT distil_import_objects('exported', :'objects');
SELECT dtype FROM distil_models WHERE name = 'exported';
SET distil.precision = 'float32';
SELECT bool_and(distil_embed(body, 'exported') = distil_embed(body, 'sentence8')) AS same FROM docs WHERE body IS NOT NULL;
RESET distil.precision;

-- a student may learn from it
SET client_min_messages = warning;
CALL distil_train('sentence8', 'SELECT body FROM docs', 'student', options => '{"max_steps": 1, "batch_size": 2, "threads": 1}', wait => true);
RESET client_min_messages;
SELECT name, teacher, dtype FROM distil_models WHERE name = 'student';

-- every architecture with every head: kept, near, and again a model when exported
SELECT set_config('test.golden', :'abs_srcdir' || '/test/golden/', false) <> '' AS set;
\set include :abs_srcdir '/sql/import_head.inc'
\i :include
CREATE FUNCTION reimport(model text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	objects jsonb;
BEGIN
	SELECT jsonb_object_agg(file, content::bigint) INTO objects FROM distil_export(model);
	PERFORM distil_import_objects(model || '-again', objects);
	PERFORM lo_unlink(value::oid) FROM jsonb_each_text(objects);
	RETURN model || '-again';
END $$;
SET client_min_messages = warning;
SELECT count(import_head(arch, kind)) AS models FROM unnest(ARRAY['albert', 'bert', 'distilbert', 'roberta', 'mpnet', 'electra', 'electra-small', 'gpt2']) arch,
	unnest(ARRAY['sequence', 'token', 'question', 'choice']) kind WHERE arch <> 'gpt2' OR kind = 'sequence';
SELECT count(distil_quantize(name, name || '-8', 'int8')) AS models FROM distil_models WHERE name ~ '-(sequence|token|question|choice)$';
SELECT count(reimport(name)) AS models FROM distil_models WHERE name LIKE '%-8';
RESET client_min_messages;
SELECT o.name, q.tasks = o.tasks AS tasks, q.parameters = o.parameters AS parameters, q.cosine_min > 0.98 AS near,
	(SELECT array_agg(h.task ORDER BY h.task) FROM distil_heads h WHERE h.model = q.name) = (SELECT array_agg(h.task ORDER BY h.task) FROM distil_heads h WHERE h.model = o.name) AS heads,
	distil_cosine(distil_embed('rows of the table', q.name), distil_embed('rows of the table', o.name)) > 0.98 AS int8,
	distil_cosine(distil_embed('rows of the table', a.name), distil_embed('rows of the table', o.name)) > 0.98 AS again
	FROM distil_models o JOIN distil_models q ON q.name = o.name || '-8' JOIN distil_models a ON a.name = q.name || '-again' ORDER BY o.name COLLATE "C";

-- what users do wrong
SELECT distil_quantize('sentence', 'x', 'int4');
SELECT distil_quantize('nobody', 'x', 'int8');
SELECT distil_quantize('sentence', 'sentence8', 'int8');
SELECT distil_quantize('sentence', 'a/b', 'int8');
SELECT distil_quantize('sentence8', 'x', 'int8');
SELECT distil_quantize('sentence', 'x', 'int8', '{"bits": 8}');
SELECT distil_quantize('sentence', 'x', 'int8', 'true');
SELECT distil_quantize('sentence', 'x', 'int8', '{"query": "SELECT 1"}');
SELECT distil_quantize('sentence', 'x', 'int8', '{"query": "DELETE FROM docs RETURNING body"}');
SELECT distil_quantize('sentence', 'x', 'int8', '{"query": "SELECT body FROM docs WHERE false"}');
SELECT distil_quantize('sentence', 'x', 'int8', '{"texts": []}');
SELECT distil_quantize('sentence', 'x', NULL);
SELECT distil_quantize('sentence', 'x', 'int8', NULL);
BEGIN READ ONLY;
SELECT distil_quantize('sentence', 'x', 'int8');
ROLLBACK;
CREATE ROLE quantize_user;
SET ROLE quantize_user;
SELECT distil_quantize('sentence', 'x', 'int8');
RESET ROLE;
DROP ROLE quantize_user;
SELECT name FROM distil_models WHERE name = 'x';
\c postgres
DROP DATABASE distil_quantize;
