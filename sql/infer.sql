-- Inference against what the Python libraries compute (test/golden), NULL rules, constants.
\getenv abs_srcdir PG_ABS_SRCDIR
CREATE DATABASE distil_infer TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
ALTER DATABASE distil_infer SET distil.precision = 'float32';	-- numbers are compared
\c distil_infer
\set VERBOSITY terse
\pset null '(null)'
CREATE EXTENSION distil;
\set path :abs_srcdir '/test/golden/models/bert-sentence'
SELECT distil_import('sentence', :'path');
\set path :abs_srcdir '/test/golden/models/bert-mlm'
SELECT distil_import('mlm', :'path');

-- embeddings: first four values of sentence-transformers' encode and encode_query; 1e-4 is the promise for float32
CREATE TABLE texts (i int, body text, want real[], want_query real[]);
INSERT INTO texts VALUES
	(0, 'the cat sat on the mat .', '{0.029001,-0.162941,-0.244109,-0.322622}', '{-0.019429,-0.203945,-0.200558,-0.331521}'),
	(1, 'a database stores rows and columns; queries read them', '{0.103922,-0.194041,-0.250376,-0.294106}', '{0.086818,-0.243945,-0.216133,-0.303688}'),
	(2, 'hello', '{0.207966,-0.116298,-0.2621,-0.235652}', NULL),
	(3, 'A QUICK brown fox, 42 lazy dogs & the river?', '{0.066128,-0.198095,-0.201717,-0.293392}', NULL),
	(4, 'training a small model to do the work of a large one takes time and data', '{-0.082816,-0.175893,-0.208283,-0.347226}', NULL),
	(5, '', '{0.240302,-0.045892,-0.248804,-0.196114}', NULL),
	(6, 'the [MASK] sat on the river .', '{0.072654,-0.181806,-0.270451,-0.307287}', NULL);
SELECT i, cardinality(distil_embed(body)) AS n, distil_l2((distil_embed(body))[1:4], want) < 1e-4 AS ok,
	distil_l2((distil_embed(body, 'sentence'))[1:4], want) < 1e-4 AS named,
	distil_l2((distil_embed_query(body))[1:4], want_query) < 1e-4 AS query,
	distil_l2((distil_embed(body, 'sentence', prompt => 'query'))[1:4], want_query) < 1e-4 AS prompt
	FROM texts ORDER BY i;
SELECT distil_embed('cat', 'sentence', 'query') = distil_embed('query: cat', 'sentence') AS prompt_is_text;

-- many at once: order kept, NULL kept, each as alone
SELECT i, e IS NULL AS isnull, distil_l2(e, distil_embed(body)) < 1e-6 AS ok
	FROM (SELECT array_agg(body ORDER BY i) || NULL::text AS bodies FROM texts) b,
		ROWS FROM (unnest(bodies), distil_embed_many(bodies)) WITH ORDINALITY AS r (body, e, i);
SELECT count(*) FROM distil_embed_many('{}');
SELECT count(*) FROM distil_embed_many(NULL);
SELECT count(*) FROM distil_embed_many('{a,b}', 'mlm');
SELECT count(*) FROM distil_embed_many('{a,b}', NULL);
SELECT count(*) FROM distil_embed_many('{{a,b},{c,d}}');

-- similarity, hidden states, logits
SELECT abs(distil_similarity(a.body, b.body) - 0.909277) < 1e-4 AS ok FROM texts a, texts b WHERE a.i = 0 AND b.i = 1;
SELECT array_dims(h), distil_l2(ARRAY[h[1][1], h[1][2], h[1][3], h[2][1], h[2][2], h[2][3]],
	'{0.701167,-0.590156,0.971462,0.61588,0.265556,0.36152}'::real[]) < 1e-4 AS ok
	FROM distil_hidden_states('the cat sat on the mat .', 'mlm') h;
SELECT array_dims(l), distil_l2(ARRAY[l[1][1], l[1][2], l[1][3]], '{-0.438705,0.125515,-0.476524}'::real[]) < 1e-4 AS ok
	FROM distil_logits('where is the cat', 'mlm/lm', 'the cat is on the mat') l;
SELECT distil_logits('the cat', 'lm') = distil_logits('the cat', 'mlm/lm') AS bare_name;
SELECT token, round(score::numeric, 4) AS score, sequence FROM distil_fill_mask('the [MASK] sat on the river .', 'mlm');
SELECT count(*) FROM distil_fill_mask('the [MASK] sat', 'mlm', top_k => 3);

-- NULL rules
SELECT distil_embed(NULL), distil_embed(NULL, 'mlm'), distil_embed('a', NULL), distil_embed('a', NULL, 'query'),
	distil_embed_query(NULL), distil_embed_query('a', NULL), distil_similarity('a', NULL), distil_similarity(NULL, 'a', 'mlm');
SELECT cardinality(distil_embed('a', 'sentence', NULL)), distil_similarity('a', 'a', NULL) > 0.999 AS same,
	distil_hidden_states(NULL), distil_logits(NULL, 'mlm/lm'), distil_logits('a', NULL), array_ndims(distil_logits('a', 'mlm/lm', NULL));
SELECT count(*) FROM distil_fill_mask(NULL);

-- long texts are cut, with one warning per statement
SELECT cardinality(distil_embed(repeat('cat ', 100))) FROM generate_series(1, 3);
SELECT distil_embed(repeat('cat ', 100)) = distil_embed(repeat('cat ', 200)) AS same;
SET distil.truncation = silent;
SELECT cardinality(distil_embed(repeat('cat ', 100)));
SET distil.truncation = error;
SELECT cardinality(distil_embed(repeat('cat ', 100)));
RESET distil.truncation;

-- a constant call runs once per statement; other arguments or another default in the same call site do not hit it
CREATE FUNCTION first_of(body text, model text) RETURNS real LANGUAGE plpgsql AS $$
BEGIN
	RETURN (distil_embed(body, model))[1];
END $$;
SELECT i, abs(first_of(body, 'sentence') - want[1]) < 1e-4 AS sentence, abs(first_of(body, 'mlm') - want[1]) > 1e-3 AS mlm FROM texts ORDER BY i;
DO $$
DECLARE
	r record;
	n int[];
BEGIN
	FOR r IN SELECT m FROM unnest(ARRAY['sentence', 'mlm', 'sentence']) m LOOP
		PERFORM set_config('distil.default_model', r.m, false);
		n := n || cardinality(distil_embed('the same constant'));
	END LOOP;
	RAISE NOTICE '%', n;
END $$;
RESET distil.default_model;
CREATE FUNCTION prompted(name text) RETURNS real[] LANGUAGE plpgsql AS $$ BEGIN RETURN distil_embed('cat', 'sentence', name); END $$;
SELECT prompted(NULL) = distil_embed('cat', 'sentence') AS none, prompted('query') = distil_embed('query: cat', 'sentence') AS query,
	prompted(NULL) = distil_embed('cat', 'sentence') AS again;
DO $$
DECLARE
	setting text[];
	fresh real[];
	same boolean := true;
BEGIN
	FOREACH setting SLICE 1 IN ARRAY '{{precision,float32},{precision,bfloat16},{precision,float32},{isa,reference},{isa,auto}}'::text[] LOOP
		PERFORM set_config('distil.' || setting[1], setting[2], false);
		EXECUTE $s$SELECT distil_embed('the same constant')$s$ INTO fresh;
		same := distil_embed('the same constant') = fresh AND same;
	END LOOP;
	RAISE NOTICE '%', same;
END $$;

-- rows of a batch with other names, prompts, NULLs and texts that come twice
SET distil.batch = off;
CREATE TABLE mixed AS SELECT i, CASE WHEN i IN (2, 5) THEN 'cat' WHEN i > 0 THEN body END AS body FROM texts;
CREATE TABLE one_by_one AS SELECT i, distil_embed(body, 'sentence', CASE WHEN i % 2 = 0 THEN 'query' END) AS e,
	distil_similarity(body, 'cat', CASE WHEN i % 3 = 0 THEN 'mlm' END) AS s, distil_hidden_states(body, CASE WHEN i % 4 > 0 THEN 'mlm' END) AS h FROM mixed;
RESET distil.batch;
CREATE TABLE in_batches AS SELECT i, distil_embed(body, 'sentence', CASE WHEN i % 2 = 0 THEN 'query' END) AS e,
	distil_similarity(body, 'cat', CASE WHEN i % 3 = 0 THEN 'mlm' END) AS s, distil_hidden_states(body, CASE WHEN i % 4 > 0 THEN 'mlm' END) AS h FROM mixed;
SELECT count(a.e) AS rows, bool_and((a.e IS NULL) = (b.e IS NULL) AND coalesce(distil_l2(a.e, b.e) < 1e-5, true)) AS e, bool_and(coalesce(abs(a.s - b.s) < 1e-5, a.s IS NULL AND b.s IS NULL)) AS s,
	bool_and(array_dims(a.h) IS NOT DISTINCT FROM array_dims(b.h) AND coalesce(distil_l2(ARRAY(SELECT unnest(a.h)), ARRAY(SELECT unnest(b.h))) < 1e-4, true)) AS h
	FROM one_by_one a JOIN in_batches b USING (i);

-- the instruction sets agree; a setting that is not there is refused
SET distil.isa = reference;
SELECT distil_l2((distil_embed(body))[1:4], want) < 1e-4 AS ok FROM texts WHERE i = 1;
RESET distil.isa;
SELECT distil_l2((distil_embed(body))[1:4], want) < 1e-4 AS ok FROM texts WHERE i = 1;
-- products of bfloat16: the same within their rounding; back in float32 the same bits as before (as near as rounding by OpenBLAS)
CREATE TABLE exact AS SELECT i, body, distil_embed(body) AS e FROM texts;
SELECT arithmetic FROM distil_system;
SET distil.precision = bfloat16;
SELECT arithmetic FROM distil_system;
SELECT count(*) AS texts, count(*) FILTER (WHERE distil_cosine(e, distil_embed(body)) > 0.999) AS near FROM exact;
RESET distil.precision;
SELECT count(*) AS same FROM exact, distil_system WHERE e = distil_embed(body) OR isa = 'reference' AND distil_l2(e, distil_embed(body)) < 1e-5;
SET distil.nonsense = 1;
SELECT name, setting, unit, context FROM pg_settings WHERE name LIKE 'distil.%' ORDER BY name;
SELECT version, cpu <> '' AS cpu, isa <> '' AS isa, cardinality(devices) AS devices, workers FROM distil_system;

-- in parallel workers, in an index, in a prepared statement
CREATE TABLE many AS SELECT i, 'text number ' || i AS body FROM generate_series(1, 200) i;
ANALYZE many;
CREATE TABLE alone AS SELECT i, distil_embed(body, 'sentence') AS e FROM many;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
CREATE TABLE together AS SELECT i, distil_embed(body, 'sentence') AS e FROM many;
SELECT count(*) FROM alone JOIN together USING (i) WHERE distil_l2(alone.e, together.e) < 1e-6;
RESET ALL;
CREATE INDEX ON many (((distil_embed(body, 'sentence'))[1]));
PREPARE q (text) AS SELECT cardinality(distil_embed($1));
EXECUTE q ('a');
SELECT distil_drop_model('mlm');
EXECUTE q ('b');
DEALLOCATE q;
\c regression
DROP DATABASE distil_infer;
