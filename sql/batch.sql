-- DistilBatch: where it is put, that it changes no result, how many rows it takes at once.
\getenv abs_srcdir PG_ABS_SRCDIR
\set tiny :abs_srcdir '/test/golden/models/bert-sentence'
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS distil;
SELECT distil_import('batch-tiny', :'tiny');
SET distil.default_model = 'batch-tiny';
SET max_parallel_workers_per_gather = 0;
SET enable_bitmapscan = off;
\pset null '(null)'

-- The nodes of a plan, indented; of DistilBatch the functions it calls.
CREATE FUNCTION plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  plan jsonb;
BEGIN
  EXECUTE 'EXPLAIN (COSTS OFF, FORMAT JSON) ' || query INTO plan;
  RETURN QUERY
    WITH RECURSIVE node (path, n) AS (
        SELECT ARRAY[]::bigint[], plan -> 0 -> 'Plan'
      UNION ALL
        SELECT path || i, child FROM node, jsonb_array_elements(n -> 'Plans') WITH ORDINALITY AS c (child, i)
    )
    SELECT repeat('  ', cardinality(path)) ||
           CASE WHEN n ? 'Custom Plan Provider'
                THEN (n ->> 'Custom Plan Provider') || ' ' || (n -> 'Functions')::text
                ELSE n ->> 'Node Type' END
      FROM node ORDER BY path;
END $$;

-- "batches/rows" of each DistilBatch node of a query, from the top.
CREATE FUNCTION batches_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  plan jsonb;
BEGIN
  EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, FORMAT JSON) ' || query INTO plan;
  RETURN (WITH RECURSIVE node (path, n) AS (
        SELECT ARRAY[]::bigint[], plan -> 0 -> 'Plan'
      UNION ALL
        SELECT path || i, child FROM node, jsonb_array_elements(n -> 'Plans') WITH ORDINALITY AS c (child, i)
    )
    SELECT string_agg((n ->> 'Batches') || '/' || (n ->> 'Batched Rows'), ' ' ORDER BY path) FROM node WHERE n ? 'Batches');
END $$;

-- Scalars of two rows, numbers to 1e-4: a text may give other low bits in another batch.
CREATE FUNCTION is_close(a jsonb, b jsonb) RETURNS boolean LANGUAGE sql AS $$
  SELECT coalesce(bool_and(CASE WHEN jsonb_typeof(x) = 'number' AND jsonb_typeof(y) = 'number'
                                THEN abs(x::float8 - y::float8) < 1e-4
                                ELSE x IS NOT DISTINCT FROM y END), true)
    FROM ROWS FROM (
           jsonb_path_query(a, 'strict $.** ? (@.type() != "object" && @.type() != "array")'),
           jsonb_path_query(b, 'strict $.** ? (@.type() != "object" && @.type() != "array")')) AS s (x, y)
$$;

CREATE FUNCTION rows_of(query text, batch boolean) RETURNS jsonb[] LANGUAGE plpgsql AS $$
DECLARE
  r record;
  result jsonb[] := '{}';
BEGIN
  PERFORM set_config('distil.batch', batch::text, true);
  FOR r IN EXECUTE query LOOP
    result := result || to_jsonb(r);
  END LOOP;
  PERFORM set_config('distil.batch', 'on', true);
  RETURN result;
END $$;

-- Rows of a query, and how many differ with and without DistilBatch.
CREATE FUNCTION compare(query text, OUT "rows" bigint, OUT differ bigint) LANGUAGE sql AS $$
  SELECT count(*), count(*) FILTER (WHERE NOT is_close(a, b))
    FROM ROWS FROM (unnest(rows_of(query, true)), unnest(rows_of(query, false))) AS s (a, b)
$$;

CREATE TABLE docs (id int PRIMARY KEY, body text, e real[]) WITH (autovacuum_enabled = off);
INSERT INTO docs SELECT i, CASE WHEN i % 97 <> 0 THEN 'doc ' || i END FROM generate_series(1, 300) i;
CREATE TABLE parts (id int, body text) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100) WITH (autovacuum_enabled = off);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (1000) WITH (autovacuum_enabled = off);
INSERT INTO parts SELECT id, body FROM docs;
ANALYZE docs, parts;

-- What EXPLAIN shows
EXPLAIN (COSTS OFF) SELECT id, distil_embed(body) FROM docs;
EXPLAIN (VERBOSE, COSTS OFF) SELECT id, distil_embed(body || '!'), distil_token_count(body) + 1 FROM docs;
EXPLAIN (COSTS OFF) UPDATE docs SET e = distil_embed(body);
CREATE FUNCTION explain_keys(options text, query text) RETURNS TABLE (key text, value jsonb) LANGUAGE plpgsql AS $$
DECLARE
  plan jsonb;
BEGIN
  EXECUTE 'EXPLAIN (COSTS OFF, FORMAT JSON' || options || ') ' || query INTO plan;
  RETURN QUERY SELECT k, CASE WHEN k LIKE '% Time' OR k = 'Tokens' THEN to_jsonb(v::float8 > 0) ELSE v END
    FROM jsonb_each(plan -> 0 -> 'Plan') AS p (k, v)
    WHERE k IN ('Functions', 'Batch Rows', 'Models', 'Batches', 'Batched Rows', 'Tokens', 'Tokenizer Time', 'Model Time', 'Rows Removed by Filter')
    ORDER BY k COLLATE "C";
END $$;
SELECT * FROM explain_keys('', 'SELECT distil_embed(body) FROM docs');
SET distil.precision = 'float32';
SELECT * FROM explain_keys(', ANALYZE', 'SELECT distil_embed(body), distil_embed(body, ''batch-tiny'') FROM docs');
SELECT * FROM explain_keys(', ANALYZE, TIMING OFF', 'SELECT distil_embed(body) FROM docs');
SELECT * FROM explain_keys(', ANALYZE, TIMING OFF', 'SELECT id FROM docs WHERE distil_token_count(body) > 4 AND id > 1');
RESET distil.precision;
-- distil.memory counts from the next call on
SELECT distil_create('batch-wide', distil_config('batch-tiny') || '{"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}', tokenizer_of => 'batch-tiny');
SET distil.threads = 1;
\set scratch 'SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name = ''distil model'''
SELECT count(distil_embed(body, 'batch-wide')) FROM docs;
SELECT (:scratch) AS bytes \gset
SET distil.memory = '1MB';
SELECT count(distil_embed(body, 'batch-wide')) FROM docs;
SELECT (:scratch) < :bytes AS less;
RESET distil.memory;
SELECT count(distil_embed(body, 'batch-wide')) FROM docs;
SELECT (:scratch) >= :bytes AS as_before;
RESET distil.threads;
SELECT distil_drop_model('batch-wide');

-- The costs of the calls start no just-in-time compilation
CREATE FUNCTION has_jit(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  plan jsonb;
BEGIN
  EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) ' || query INTO plan;
  RETURN plan -> 0 ? 'JIT';
END $$;
SET jit = on; SET jit_above_cost = 0;
SELECT has_jit('SELECT id, distil_embed(body) FROM docs');
RESET jit; RESET jit_above_cost;

-- Each place, with and without
SELECT * FROM compare('SELECT id, distil_embed(body) FROM docs');
SELECT * FROM compare($$SELECT id, distil_embed(body), distil_embed(body), distil_embed(body, 'batch-tiny'),
  distil_embed(body, 'batch-tiny', prompt => 'query'), distil_embed_query(body) FROM docs$$);
SELECT * FROM plan_of($$SELECT distil_embed(body), distil_embed(body), distil_embed(body, 'batch-tiny') FROM docs$$);
SELECT * FROM compare($$SELECT id, distil_similarity(body, 'doc 7'), distil_similarity(body, body || '!', NULL),
  distil_token_ids(body), distil_token_count(body), distil_hidden_states(body) FROM docs WHERE id < 20$$);
SELECT distil_create('batch-classes', distil_config('batch-tiny') || '{"architectures": ["BertForSequenceClassification"], "problem_type": "single_label_classification",
  "id2label": {"0": "a", "1": "b", "2": "c"}}', tokenizer_of => 'batch-tiny', seed => 1);
SELECT distil_create('batch-ranks', distil_config('batch-tiny') || '{"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a"}}', tokenizer_of => 'batch-tiny', seed => 2);
SELECT * FROM compare($$SELECT id, distil_classify(body, 'batch-classes/classify'), distil_logits(body, 'batch-classes/classify'),
  distil_logits(body, 'batch-classes/classify', nullif(left(body, 5), 'doc 2')), distil_rerank('doc 12', body, 'batch-ranks/rerank') FROM docs$$);
SELECT * FROM compare($$SELECT id, distil_classify(body, CASE WHEN id % 7 <> 0 THEN 'batch-classes/classify' END), distil_hidden_states(coalesce(body, '')) FROM docs$$);
SET distil.precision = 'float32';
SELECT value FROM explain_keys(', ANALYZE', $$SELECT distil_classify(body, 'batch-classes/classify'), distil_embed(body, nullif('batch-tiny', body)), distil_embed(body) FROM docs$$) WHERE key = 'Models';
SELECT value FROM explain_keys(', ANALYZE', $$SELECT distil_embed(NULLIF(body, body), 'nowhere') FROM docs$$) WHERE key = 'Batched Rows';
RESET distil.precision;
SELECT distil_drop_model('batch-classes'), distil_drop_model('batch-ranks');
SELECT * FROM plan_of('SELECT id, distil_decode(distil_token_ids(body)) FROM docs');
SELECT * FROM compare('SELECT id, distil_decode(distil_token_ids(body)) FROM docs');
SELECT * FROM compare($$SELECT id, (distil_embed(body))[1], (distil_embed(body))[id % 4 + 1], (distil_embed(body))[1:2],
  distil_embed(body)::float8[], distil_token_count(body)::text, ARRAY[distil_token_count(body), id], ROW(distil_token_count(body), body),
  distil_embed(body) IS NULL, greatest(distil_token_count(body), 3), -distil_token_count(upper(body)) + id FROM docs$$);
SELECT * FROM plan_of($$SELECT (distil_embed(body))[id % 4 + 1], distil_embed(body)::float8[], distil_token_count(body)::text FROM docs$$);
SELECT * FROM plan_of('SELECT id, distil_embed(body) FROM docs ORDER BY body');
SELECT * FROM compare('SELECT id, distil_embed(body) FROM docs ORDER BY body');
SELECT * FROM plan_of('SELECT id, distil_embed(body) FROM docs ORDER BY body DESC, id LIMIT 5');
SELECT * FROM compare('SELECT id, distil_embed(body) FROM docs ORDER BY body DESC, id LIMIT 5');
SELECT * FROM plan_of('SELECT id, distil_embed(body) FROM parts');
SELECT * FROM compare('SELECT id, distil_embed(body) FROM parts ORDER BY id');
SELECT * FROM plan_of('SELECT distil_embed(body) FROM docs UNION ALL SELECT distil_embed(body) FROM parts');
SELECT * FROM compare('SELECT distil_embed(body) FROM docs UNION ALL SELECT distil_embed(body) FROM parts');
SELECT * FROM plan_of('SELECT d.id, distil_embed(d.body || p.id) FROM docs d JOIN parts p USING (id)');
SELECT * FROM compare('SELECT d.id, distil_embed(d.body || p.id) FROM docs d JOIN parts p USING (id) ORDER BY id');
SELECT * FROM plan_of('SELECT x, s.* FROM generate_series(1, 3) x, LATERAL (SELECT id, distil_embed(body || x) FROM docs WHERE id % 3 = x - 1 OFFSET 0) s');
SELECT * FROM compare('SELECT x, s.* FROM generate_series(1, 3) x, LATERAL (SELECT id, distil_embed(body || x) FROM docs WHERE id % 3 = x - 1 OFFSET 0) s');
SELECT * FROM compare('SELECT x, s.* FROM generate_series(1, 3) x, LATERAL (SELECT id, distil_embed(body || x) FROM docs WHERE id > x LIMIT 2) s');
SELECT * FROM compare('SELECT x, s.* FROM generate_series(1, 3) x, LATERAL (SELECT id, distil_embed(body || x) FROM docs WHERE id > x LIMIT (SELECT 3)) s');
SELECT * FROM plan_of('WITH c AS MATERIALIZED (SELECT id, distil_embed(body) e FROM docs) SELECT a.id, b.e FROM c a JOIN c b USING (id)');
SELECT * FROM compare('WITH c AS MATERIALIZED (SELECT id, distil_embed(body) e FROM docs) SELECT a.id, b.e FROM c a JOIN c b USING (id) ORDER BY id');
SELECT * FROM compare($$WITH RECURSIVE r (n, t) AS (SELECT 1, 'a' UNION ALL SELECT n + 1, t || distil_token_count(t || n) FROM r WHERE n < 5) SELECT * FROM r$$);
SELECT * FROM compare('SELECT id, (SELECT distil_embed(d.body || p.id) FROM parts p WHERE p.id = d.id) FROM docs d WHERE id < 10');
SELECT * FROM compare('SELECT id, distil_embed((SELECT max(p.body) FROM parts p WHERE p.id <= d.id)) FROM docs d WHERE id < 10');
SELECT * FROM plan_of('SELECT id % 10 AS k, distil_embed(max(body)) FROM docs GROUP BY 1 ORDER BY 1');
SELECT * FROM compare('SELECT id % 10 AS k, distil_embed(max(body)) FROM docs GROUP BY 1 ORDER BY 1');
SELECT * FROM compare('SELECT distil_token_count(body), count(*), grouping(distil_token_count(body)) FROM docs GROUP BY ROLLUP (1) ORDER BY 1, 3');
SELECT * FROM compare('SELECT DISTINCT distil_token_ids(body) FROM docs ORDER BY 1');
SELECT * FROM compare('SELECT id, rank() OVER (ORDER BY id % 10), distil_embed(body) FROM docs ORDER BY id');
SELECT * FROM compare('SELECT ctid, tableoid::regclass, docs, distil_embed(body) FROM docs WHERE id < 10');
SELECT * FROM compare('SELECT id, distil_embed(body) FROM docs WHERE id < 10 FOR UPDATE');
SELECT * FROM compare('SELECT id, distil_embed(CASE WHEN id % 2 = 0 THEN body END) FROM docs');

-- Arguments of aggregates
SELECT * FROM plan_of('SELECT count(distil_embed(body)), max(distil_token_count(upper(body))) FROM docs');
SELECT * FROM compare($$SELECT count(distil_embed(body)), max(distil_token_count(upper(body))), avg(distil_similarity(body, 'doc 5')),
  sum(distil_token_count(body)) FILTER (WHERE id > 5), count(DISTINCT distil_token_count(body)) FROM docs$$);
SELECT * FROM plan_of('SELECT id % 3, sum(distil_token_count(distil_decode(distil_token_ids(body)))) FROM docs GROUP BY 1');
SELECT * FROM compare($$SELECT id % 3 AS k, sum(distil_token_count(distil_decode(distil_token_ids(body)))), array_agg(distil_token_count(body) ORDER BY id DESC),
  max(distil_token_count(body || id)) FROM docs GROUP BY ROLLUP (1) HAVING max(distil_token_count(body)) > 3 ORDER BY 1$$);
-- also above a Sort, which passes the arguments on, and behind a filter for rows that pass it
SELECT * FROM plan_of('SELECT sum(distil_token_count(body)) FILTER (WHERE id > 5) FROM docs');
SELECT * FROM compare($$SELECT sum(distil_token_count(body)) FILTER (WHERE id > 5), max(1 / (id - 7) + distil_token_count(body || 1 / (id - 7))) FILTER (WHERE id <> 7),
  count(distil_token_count(body)), array_agg(distil_token_count(body)) FILTER (WHERE random() < 2) FROM docs$$);
SET enable_hashagg = off;
SELECT * FROM plan_of('SELECT id % 3, max(distil_token_count(body || id)) FROM docs GROUP BY 1');
SELECT * FROM plan_of('SELECT id % 3, max(distil_token_count(body)) FROM docs GROUP BY 1');
-- whose rows are sorted again when an argument has another value of a row outside
SET enable_material = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT * FROM compare($$SELECT p.id, (SELECT sum(n * k) FROM (VALUES (1), (2)) AS v (k) LEFT JOIN (SELECT sum(distil_token_count(d.body || repeat(' doc', p.id))) AS n,
  d.id % 3 AS m FROM docs d GROUP BY d.id % 3) s ON k > m) FROM parts p WHERE p.id < 4$$);
RESET enable_material;
RESET enable_hashjoin;
RESET enable_mergejoin;
RESET enable_hashagg;

-- Arguments of window functions that see all rows of their partition; not those that pick rows
SELECT * FROM plan_of('SELECT id, sum(distil_token_count(body || id)) OVER (PARTITION BY id % 3 ORDER BY id) FROM docs');
SELECT * FROM compare($$SELECT id, sum(distil_token_count(body || id)) OVER (PARTITION BY id % 3 ORDER BY id), count(distil_embed(body)) OVER (),
  lag(distil_token_count(body)) OVER (ORDER BY id), avg(distil_similarity(body, 'doc 5')) OVER (ORDER BY id ROWS 3 PRECEDING) FROM docs$$);
SELECT * FROM plan_of('SELECT id, lag(distil_token_count(body)) OVER (ORDER BY id) FROM docs');
SELECT * FROM plan_of('SELECT id, sum(distil_token_count(body)) OVER (ORDER BY id ROWS BETWEEN 2 FOLLOWING AND 4 FOLLOWING) FROM docs');

-- Conditions: those after a call, and the target list, see only rows that it lets pass
SELECT * FROM plan_of($$SELECT id FROM docs WHERE distil_token_count(body) > 3 AND id > 5$$);
EXPLAIN (VERBOSE, COSTS OFF) SELECT upper(body), distil_token_count(body) FROM docs WHERE id > 5 AND distil_token_count(body) > 3 AND distil_similarity(body, 'doc 7') > 0.5;
SELECT * FROM compare($$SELECT id, 1 / (distil_token_count(body) - 3) FROM docs WHERE distil_token_count(body) > 3 AND distil_similarity(body, 'doc 7') > 0.5$$);
SELECT * FROM compare($$SELECT id, distil_embed(body) FROM docs WHERE distil_token_count(body) > 3 LIMIT 7$$);
SELECT * FROM compare($$SELECT id FROM (SELECT id, body FROM docs ORDER BY -id OFFSET 0) s WHERE distil_token_count(body) * 0 + id < 20 LIMIT 5$$);
SELECT * FROM plan_of('SELECT d.id FROM docs d JOIN parts p ON d.id = p.id + 1 AND distil_similarity(d.body, p.body) > 0.9');
SELECT * FROM compare('SELECT d.id FROM docs d JOIN parts p ON d.id = p.id + 1 AND distil_similarity(d.body, p.body) > 0.9 ORDER BY 1');
-- without the condition there are several matches, of which the join looks for more than one
SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_indexscan = off; SET enable_indexonlyscan = off;
SELECT * FROM compare('SELECT p.id, d.id FROM parts p JOIN docs d ON d.id = distil_token_count(p.body)');
RESET enable_hashjoin; RESET enable_mergejoin; RESET enable_indexscan; RESET enable_indexonlyscan;
SELECT * FROM compare('SELECT d.id, p.id FROM docs d LEFT JOIN parts p ON d.id = p.id + 1 AND distil_similarity(d.body, p.body) > 0.9 ORDER BY 1');
SELECT * FROM compare('SELECT id % 10 AS k, max(body) FROM docs GROUP BY 1 HAVING distil_token_count(max(body)) > 3 ORDER BY 1');
SELECT * FROM plan_of('SELECT id % 10 AS k FROM docs GROUP BY 1 HAVING distil_token_count(max(body)) > 3');
SELECT * FROM compare('SELECT id FROM docs d WHERE EXISTS (SELECT FROM parts p WHERE p.id > d.id AND distil_token_count(p.body) > 3)');
SELECT * FROM compare('SELECT id FROM docs d WHERE id IN (SELECT distil_token_count(p.body) FROM parts p)');
SELECT * FROM compare($$SELECT id FROM docs WHERE (SELECT count(*) FROM parts p WHERE p.id < 9 AND distil_token_count(p.body || docs.body) > 3) > 2$$);

-- RETURNING
SELECT * FROM plan_of('UPDATE docs SET body = body RETURNING id, distil_embed(body)');
CREATE TABLE copied (LIKE parts);
WITH w AS (INSERT INTO copied SELECT * FROM parts RETURNING id, distil_token_count(body) AS n)
  SELECT count(*), sum(n) = (SELECT sum(distil_token_count(body)) FROM parts) AS same FROM w;
WITH w AS (UPDATE parts SET body = body RETURNING id, distil_token_count(body) AS n)
  SELECT count(*), sum(n) = (SELECT sum(distil_token_count(body)) FROM parts) AS same FROM w;
DELETE FROM copied WHERE distil_token_count(body) > 3 AND id < 4 RETURNING id, distil_token_count(body), tableoid::regclass;
DROP TABLE copied;
-- of partitions whose columns have other places, and of which one has dropped some
CREATE TABLE mixed (id int, body text, note text) PARTITION BY RANGE (id);
CREATE TABLE mixed_1 (note text, id int, body text);
CREATE TABLE mixed_2 (gone int, body text, lost text, note text, id int);
ALTER TABLE mixed_2 DROP COLUMN gone, DROP COLUMN lost;
ALTER TABLE mixed ATTACH PARTITION mixed_1 FOR VALUES FROM (0) TO (3);
ALTER TABLE mixed ATTACH PARTITION mixed_2 FOR VALUES FROM (3) TO (6);
CREATE TABLE mixed_3 PARTITION OF mixed FOR VALUES FROM (6) TO (9);
SELECT * FROM plan_of('UPDATE mixed SET note = note RETURNING id, distil_token_count(body)');
INSERT INTO mixed SELECT i, repeat('cat ', i), 'note ' || i FROM generate_series(1, 7, 2) i
	RETURNING id, note, distil_token_count(body), distil_token_count(note) - distil_token_count('note 1') AS one, tableoid::regclass;
UPDATE mixed SET note = 'new ' || note, id = CASE id WHEN 5 THEN 8 ELSE id END
	RETURNING id, note, distil_token_count(body), distil_token_count(note) - distil_token_count('new note 1') AS one, tableoid::regclass;
UPDATE mixed SET note = note RETURNING mixed, distil_token_count(note) > 0 AS counted;
DELETE FROM mixed RETURNING id, note, distil_token_count(body), distil_token_count(note) - distil_token_count('new note 1') AS one, tableoid::regclass;
DROP TABLE mixed;

-- An error belongs to its row: one that is not asked for does not fail the query
\set VERBOSITY terse
CREATE TABLE bad AS SELECT i AS id, 'text ' || i AS body, i - 5 AS n, CASE i WHEN 40 THEN 'none' ELSE 'batch-tiny' END AS model FROM generate_series(1, 100) i;
ANALYZE bad;
SELECT id, 1 / n, distil_token_count(body) FROM bad LIMIT 3;
SELECT id, 1 / n, distil_token_count(body) FROM bad LIMIT 5;
BEGIN;
DECLARE c CURSOR FOR SELECT id, distil_token_count(body, model) FROM bad;
MOVE 37 IN c;
FETCH 2 FROM c;
FETCH 1 FROM c;
ROLLBACK;
BEGIN;
DECLARE c CURSOR FOR SELECT id, 1 / n, distil_token_count(body) FROM bad;
FETCH 4 FROM c;
CLOSE c;
DECLARE c CURSOR FOR SELECT id, distil_token_count(body || 1 / n) FROM bad;
FETCH 4 FROM c;
CLOSE c;
DECLARE c CURSOR FOR SELECT id, distil_token_count(body) FROM bad WHERE 1 / n <> 9;
FETCH 4 FROM c;
CLOSE c;
DECLARE c CURSOR FOR SELECT id, cardinality(distil_embed(body)) FROM bad WHERE distil_token_count(body, model) > 2;
MOVE 38 IN c;
FETCH 1 FROM c;
FETCH 1 FROM c;
COMMIT;
-- nor when nodes lie above each other, and the row is the first or the last that one of them reads
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM bad WHERE id BETWEEN 19 AND 40 AND distil_token_count(body, model) > CASE id WHEN 20 THEN 9 ELSE 2 END
  AND distil_token_count(body || '!') > 3;
MOVE 20 IN c;
ROLLBACK;
BEGIN;
DECLARE c CURSOR FOR SELECT id, cardinality(distil_embed(body)) FROM bad WHERE distil_token_count(body, model) > 2 AND distil_token_count(body || '!') > 3;
MOVE 38 IN c;
FETCH 1 FROM c;
FETCH 1 FROM c;
ROLLBACK;
SELECT count(n) FROM (SELECT distil_token_count(body, model) AS n FROM bad LIMIT 39) s;
SELECT count(*) FROM bad b WHERE id < 39 AND EXISTS (SELECT FROM bad c WHERE c.id > b.id AND distil_token_count(c.body, c.model) > 2 OFFSET 0);
SELECT id FROM bad WHERE id <> 40 AND distil_token_count(body, model) > 2 AND id > 98;
SELECT * FROM plan_of('SELECT id, distil_token_count(body) FROM bad ORDER BY 1 / n');
DROP TABLE bad;
\set VERBOSITY default

-- Left row by row: guarded calls, constants
SELECT * FROM plan_of('SELECT CASE WHEN id > 5 THEN distil_embed(body) END FROM docs');
SELECT * FROM plan_of('SELECT coalesce(distil_token_count(body), 0), id > 5 AND distil_token_count(body) > 3, nullif(distil_token_count(body), 3) FROM docs');
SELECT * FROM compare('SELECT coalesce(distil_token_count(body), 0), id > 5 AND distil_token_count(body) > 3, distil_embed(body) FROM docs');
SELECT * FROM plan_of('SELECT generate_series(1, 2), distil_token_count(body) FROM docs');
SELECT * FROM plan_of($$SELECT id, distil_embed('constant') FROM docs$$);
SELECT * FROM compare($$SELECT id, distil_embed('constant'), distil_embed(body) FROM docs$$);
SELECT * FROM plan_of('SELECT id FROM docs WHERE distil_token_count(body) > 3');
SELECT * FROM compare('SELECT id % 3 AS k, grouping(id % 3), distil_token_count(max(body)) FROM docs GROUP BY ROLLUP (1) ORDER BY 1, 2');
CREATE OPERATOR ## (LEFTARG = int, RIGHTARG = int, FUNCTION = generate_series);
SELECT count(s), count(n) FROM (SELECT id ## 4 AS s, distil_token_count(body) AS n FROM docs WHERE id < 4 OFFSET 0) q;
DROP OPERATOR ## (int, int);
-- in all kinds of expressions that evaluate their parts whenever they are evaluated themselves
CREATE TABLE wide (LIKE docs);
CREATE TABLE narrow () INHERITS (wide);
SELECT expression, EXISTS (SELECT FROM plan_of('SELECT ' || expression || ' FROM docs') p WHERE p LIKE '%DistilBatch%') AS batched FROM (VALUES
  ('distil_token_count(body) IS DISTINCT FROM id'), ('distil_token_count(body) = ANY (ARRAY[id, 3])'), ('ROW(distil_token_count(body), id)'),
  ('greatest(distil_token_count(body), 3)'), ('(jsonb_populate_record(NULL::docs, to_jsonb(distil_token_count(body)))).id'),
  ('distil_decode(distil_token_ids(body))::varchar'), ('ROW(distil_token_count(body), body, e)::narrow::wide'),
  ('distil_token_count(body)::information_schema.cardinal_number'), ('distil_token_count(body) IS NULL'), ('(distil_token_count(body) > 3) IS TRUE'),
  ('distil_token_count(count(*)::text)'), ('distil_token_count((row_number() OVER ())::text)'), ('distil_token_count(random()::text)')) e (expression);
DROP TABLE wide CASCADE;
-- Volatile expressions are evaluated when their row is due; not read ahead under a LIMIT when they are arguments
SELECT * FROM plan_of('SELECT id, distil_embed(body || random()) FROM docs LIMIT (SELECT 3)');
SELECT * FROM plan_of('SELECT id, random(), distil_embed(body) FROM docs LIMIT 3');
SELECT * FROM plan_of('SELECT id, random(), distil_embed(body) FROM docs');
SET distil.batch = off;
SELECT * FROM plan_of('SELECT id, distil_embed(body) FROM docs');
RESET distil.batch;

-- Statements that write
CREATE TEMP TABLE assigned AS SELECT id, body, ARRAY[0, 0] AS ids FROM docs WHERE id < 4;
UPDATE assigned SET ids[2] = id, body = body || distil_token_count(body) RETURNING id, ids;
UPDATE docs SET e = distil_embed(body);
SELECT count(*) AS rows, count(e) AS embedded FROM docs;
SELECT * FROM compare('SELECT id, e = distil_embed(body) FROM docs WHERE id < 5');
CREATE TABLE written (id int GENERATED ALWAYS AS IDENTITY, gone int, e real[], n int GENERATED ALWAYS AS (cardinality(e)) STORED);
ALTER TABLE written DROP COLUMN gone;
SELECT * FROM plan_of('INSERT INTO written (e) SELECT distil_embed(body) FROM docs');
INSERT INTO written (e) SELECT distil_embed(body) FROM docs ORDER BY id;
CREATE TABLE created AS SELECT id, distil_embed(body) AS e FROM docs;
SELECT count(*) AS rows, count(w.e) AS embedded, sum(w.n),
       count(*) FILTER (WHERE NOT is_close(to_jsonb(w.e), to_jsonb(d.e)) OR NOT is_close(to_jsonb(c.e), to_jsonb(d.e))) AS differ
  FROM docs d JOIN written w USING (id) JOIN created c USING (id);
COPY (SELECT id, cardinality(distil_embed(body)) FROM docs WHERE id < 4) TO STDOUT;
WITH u AS (UPDATE parts SET body = body || distil_token_count(body) WHERE id % 2 = 0 RETURNING id, body)
  SELECT count(*), count(body) FROM u;
UPDATE docs SET (body, e) = (SELECT p.body, distil_embed(p.body) FROM parts p WHERE p.id = docs.id) WHERE id IN (2, 3);
SELECT d.id, d.body = p.body AS body, is_close(to_jsonb(d.e), to_jsonb(distil_embed(p.body))) AS e FROM docs d JOIN parts p USING (id) WHERE id IN (2, 3);
CREATE VIEW docs_view AS SELECT id, body, e FROM docs;
CREATE FUNCTION docs_view_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN UPDATE docs SET e = new.e WHERE id = old.id AND body = old.body; RETURN new; END $$;
CREATE TRIGGER instead INSTEAD OF UPDATE ON docs_view FOR EACH ROW EXECUTE FUNCTION docs_view_update();
UPDATE docs_view SET e = distil_embed(body || '?') WHERE id IN (4, 5);
SELECT id, is_close(to_jsonb(e), to_jsonb(distil_embed(body || '?'))) AS e FROM docs WHERE id IN (4, 5);
MERGE INTO docs d USING (SELECT id, distil_embed(body) e FROM docs WHERE id < 20 OFFSET 0) s ON s.id = d.id
  WHEN MATCHED THEN UPDATE SET e = s.e;
SELECT * FROM compare('SELECT id, e = distil_embed(body) FROM docs WHERE id < 5');

-- VALUES: calls on constants
CREATE TABLE listed (id int, body text, e real[], n int);
SELECT * FROM plan_of($$INSERT INTO listed VALUES (1, 'a', distil_embed('a'), distil_token_count('a')), (2, 'b', distil_embed('b'), distil_token_count('b'))$$);
EXPLAIN (VERBOSE, COSTS OFF) SELECT n + 1 FROM (VALUES (1, distil_token_count('a')), (2, distil_token_count(NULL))) v (id, n) WHERE id > 0 AND n > 1;
INSERT INTO listed VALUES (1, 'a', distil_embed('a'), distil_token_count('a')), (2, NULL, distil_embed(NULL), distil_token_count(NULL)), (3, 'a b', distil_embed('a b'), distil_token_count('a b'));
SELECT id, is_close(to_jsonb(e), to_jsonb(distil_embed(body))) AS e, n IS NOT DISTINCT FROM distil_token_count(body) AS n FROM listed;
PREPARE values_of (text, text) AS SELECT * FROM (VALUES (1, distil_token_count($1)), (2, distil_token_count($2)), (3, distil_token_count('x'))) v;
EXECUTE values_of ('a', 'a b c');
SET plan_cache_mode = force_generic_plan;
EXECUTE values_of ('a', NULL);
RESET plan_cache_mode;
SELECT * FROM compare($$SELECT * FROM (VALUES (1, distil_token_count('a')), (2, distil_token_count('b c') + 1)) v$$);
SELECT * FROM compare($$SELECT * FROM (VALUES (1, distil_embed('a b')), (2, distil_embed_query('a b'))) v$$);
SELECT * FROM compare($$SELECT v, v.*, to_jsonb(v) FROM (VALUES (1, distil_token_count('a')), (2, distil_token_count('b c'))) v$$);
DROP TABLE listed;
DEALLOCATE values_of;

-- MERGE: actions that are done for all rows of their kind
CREATE TABLE merged (id int, body text, n int) PARTITION BY RANGE (id);
CREATE TABLE merged_1 PARTITION OF merged FOR VALUES FROM (0) TO (100);
CREATE TABLE merged_2 PARTITION OF merged FOR VALUES FROM (100) TO (1000);
INSERT INTO merged SELECT id, body FROM docs WHERE id % 2 = 0;
SELECT * FROM plan_of('MERGE INTO merged m USING docs d ON m.id = d.id WHEN MATCHED THEN UPDATE SET n = distil_token_count(d.body) + m.id
  WHEN NOT MATCHED THEN INSERT VALUES (d.id, d.body, -distil_token_count(d.body || d.id))');
MERGE INTO merged m USING docs d ON m.id = d.id WHEN MATCHED THEN UPDATE SET n = distil_token_count(d.body) + m.id
  WHEN NOT MATCHED THEN INSERT VALUES (d.id, d.body, -distil_token_count(d.body || d.id));
SELECT count(*), count(n), count(*) FILTER (WHERE n IS DISTINCT FROM CASE WHEN id % 2 = 0 THEN distil_token_count(body) + id ELSE -distil_token_count(body || id) END) AS differ FROM merged;
DELETE FROM merged WHERE id > 40;
-- for no others: theirs would be errors
MERGE INTO merged m USING docs d ON m.id = d.id
  WHEN MATCHED AND m.id < 20 THEN UPDATE SET n = distil_token_count(d.body || '!', CASE WHEN d.id < 20 THEN 'batch-tiny' ELSE 'none' END)
  WHEN MATCHED THEN DELETE
  WHEN NOT MATCHED THEN INSERT VALUES (d.id, d.body, distil_token_count(d.body, CASE WHEN d.id > 40 THEN 'batch-tiny' ELSE 'none' END));
SELECT count(*), count(*) FILTER (WHERE n IS DISTINCT FROM CASE WHEN id < 20 THEN distil_token_count(body || '!') ELSE distil_token_count(body) END) AS differ FROM merged;
-- not of columns of the target, nor in an action that comes after one with a condition
MERGE INTO merged m USING docs d ON m.id = d.id WHEN MATCHED THEN UPDATE SET n = distil_token_count(m.body || m.id) + distil_token_count(d.body || '!');
SELECT count(*) FILTER (WHERE n IS DISTINCT FROM distil_token_count(body || id) + distil_token_count(body || '!')) AS differ FROM merged;
MERGE INTO merged m USING docs d ON m.id = d.id WHEN MATCHED AND m.id < 20 THEN DO NOTHING
  WHEN MATCHED THEN UPDATE SET n = distil_token_count(d.body || 12 / (d.id - 6));
DROP TABLE merged;

-- How many rows at once
SELECT batches_of('SELECT distil_embed(body) FROM docs');
SELECT batches_of('SELECT distil_embed(body) FROM docs LIMIT 3');
SELECT batches_of('SELECT distil_embed(body) FROM docs OFFSET 10 LIMIT 280');
SELECT batches_of('SELECT distil_embed(body) FROM docs ORDER BY body OFFSET 1 LIMIT 5');
CREATE FUNCTION sort_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  plan jsonb;
BEGIN
  EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) ' || query INTO plan;
  RETURN jsonb_path_query_first(plan, 'strict $.**."Sort Method"');
END $$;
SELECT sort_of('SELECT distil_embed(body) FROM docs ORDER BY body LIMIT 5');
SELECT batches_of('SELECT * FROM (SELECT distil_embed(body) e FROM docs OFFSET 0) s WHERE e IS NOT NULL LIMIT 3');
SELECT batches_of('SELECT id FROM docs WHERE distil_token_count(body) > 4 LIMIT 100');
SELECT batches_of('UPDATE docs SET e = distil_embed(body)');
SELECT batches_of('SELECT count(e) FROM (SELECT distil_embed(body) e FROM docs OFFSET 0) s');
SELECT batches_of('SELECT x, e FROM generate_series(1, 3) x, LATERAL (SELECT distil_embed(body || x) e FROM docs WHERE id <= 5 OFFSET 0) s');
SET distil.batch_rows = 50;
SELECT batches_of('SELECT distil_embed(body) FROM docs');
RESET distil.batch_rows;
CREATE TABLE long AS SELECT i AS id, repeat('doc ' || i || ' ', 5000) AS body FROM generate_series(1, 40) i;
SET distil.truncation = 'silent';
SET work_mem = '256kB';
SELECT split_part(batches_of('SELECT distil_embed(body) FROM long'), '/', 1)::int > 10 AS small_batches;
SELECT * FROM compare('SELECT id, distil_embed(body), body FROM long');
RESET work_mem;
-- or when results were large
SET work_mem = '64kB';
SELECT split_part(batches_of('SELECT distil_hidden_states(repeat(body, 20)) FROM docs'), '/', 1)::int > 20 AS small_batches;
SELECT split_part(batches_of($$SELECT count(x), count(n) FROM (SELECT x, distil_token_count(body) AS n FROM (SELECT body, repeat('x', 20000) AS x FROM docs OFFSET 0) s OFFSET 0) t$$), '/', 1)::int > 50 AS small_batches;
RESET work_mem;
RESET distil.truncation;
-- what stops the statement is no error of a row
SET work_mem = '200MB'; SET statement_timeout = '20ms';
SELECT count(distil_token_count(repeat(body, 20))) FROM long;
RESET statement_timeout; RESET work_mem;

-- Cursors: forward only unless SCROLL, which is not batched
BEGIN;
DECLARE c CURSOR FOR SELECT id, cardinality(distil_embed(body)) FROM docs ORDER BY id;
FETCH 2 FROM c;
FETCH 3 FROM c;
CLOSE c;
DECLARE c SCROLL CURSOR FOR SELECT id, cardinality(distil_embed(body)) FROM docs ORDER BY id;
FETCH 3 FROM c;
FETCH BACKWARD 1 FROM c;
CLOSE c;
DECLARE c CURSOR FOR SELECT id, distil_token_count(body) > 0 FROM docs ORDER BY id FOR UPDATE;
FETCH 3 FROM c;
UPDATE docs SET e = distil_embed(body) WHERE CURRENT OF c RETURNING id;
CLOSE c;
DECLARE c CURSOR FOR SELECT id, distil_token_count(body) FROM docs WHERE distil_token_count(body || '!') > 4 AND id < 200;
MOVE 7 IN c;
FETCH 1 FROM c;
UPDATE docs SET e = NULL WHERE CURRENT OF c RETURNING id;
CLOSE c;
SET LOCAL enable_seqscan = off;
DECLARE c CURSOR FOR SELECT distil_token_count(id::text), id FROM docs WHERE id > 10 ORDER BY id;
MOVE 7 IN c;
FETCH 1 FROM c;
DELETE FROM docs WHERE CURRENT OF c RETURNING id;
ROLLBACK;

-- of partitions the one that the row is in
BEGIN;
DECLARE c CURSOR FOR SELECT distil_token_count(body) > 0 AS ok FROM parts WHERE body IS NOT NULL;
SELECT count(body) AS first FROM parts_1 \gset
MOVE :first IN c;
FETCH 1 FROM c;
WITH d AS (DELETE FROM parts WHERE CURRENT OF c RETURNING id, tableoid) SELECT tableoid::regclass, count(*) FROM d GROUP BY 1;
CLOSE c;
DECLARE c CURSOR FOR SELECT id, distil_token_count(body) > 0 AS ok FROM (SELECT * FROM docs OFFSET 0) s WHERE id > 7;
MOVE 5 IN c;
FETCH 1 FROM c;
DELETE FROM docs WHERE CURRENT OF c RETURNING id;
CLOSE c;
DECLARE c CURSOR FOR SELECT id, distil_token_count(body) > 0 AS ok FROM (SELECT * FROM docs TABLESAMPLE SYSTEM (100) LIMIT 1000) s WHERE id > 7 AND now() > '2000-01-01';
MOVE 6 IN c;
FETCH 1 FROM c;
DELETE FROM docs WHERE CURRENT OF c RETURNING id;
CLOSE c;
SET LOCAL enable_bitmapscan = on; SET LOCAL enable_indexscan = off; SET LOCAL enable_seqscan = off;
DECLARE c CURSOR FOR SELECT id, distil_token_count(body) > 0 AS ok FROM docs WHERE id BETWEEN 30 AND 50;
MOVE 6 IN c;
FETCH 1 FROM c;
DELETE FROM docs WHERE CURRENT OF c RETURNING id;
CLOSE c;
SET LOCAL enable_bitmapscan = off;
DECLARE c CURSOR FOR SELECT id, distil_token_count(body) > 0 AS ok FROM docs WHERE ctid >= '(0,1)' AND ctid < '(99,0)' AND id BETWEEN 60 AND 70;
MOVE 6 IN c;
FETCH 1 FROM c;
DELETE FROM docs WHERE CURRENT OF c RETURNING id;
CLOSE c;
DECLARE c CURSOR FOR SELECT id, distil_token_count(id::text) > 0 AS ok FROM long WHERE ctid IN ('(0,2)', '(0,1)');
FETCH 2 FROM c;
DELETE FROM long WHERE CURRENT OF c RETURNING id;
CLOSE c;
ROLLBACK;
CREATE TABLE parent (LIKE docs);
CREATE TABLE child () INHERITS (parent);
INSERT INTO parent SELECT * FROM docs WHERE id < 6;
INSERT INTO child SELECT * FROM docs WHERE id BETWEEN 6 AND 9;
BEGIN;
DECLARE c CURSOR FOR SELECT id, distil_token_count(body) > 0 AS ok FROM parent;
MOVE 7 IN c;
FETCH 1 FROM c;
DELETE FROM parent WHERE CURRENT OF c RETURNING id, tableoid::regclass;
CLOSE c;
DECLARE c CURSOR FOR SELECT id, distil_token_count(body) > 0 AS ok FROM (SELECT id, body FROM parts UNION ALL (SELECT id, body FROM docs) LIMIT 1000) s WHERE id > 7;
FETCH 1 FROM c;
DELETE FROM parts WHERE CURRENT OF c RETURNING id;
CLOSE c;
DO $$
DECLARE c CURSOR FOR SELECT id, distil_token_count(body) FROM parent ORDER BY id FOR UPDATE; r record;
BEGIN
  FOR r IN c LOOP
    UPDATE parent SET id = -id WHERE CURRENT OF c;
  END LOOP;
END $$;
SELECT count(*), max(id) < 0 AS done FROM parent;
EXPLAIN (COSTS OFF) DECLARE c CURSOR FOR SELECT id, distil_token_count(body) FROM parent FOR UPDATE;
ROLLBACK;

-- The inner side of a merge join must support marks
CREATE TABLE twice AS SELECT id / 3 AS k, body FROM docs;
CREATE INDEX ON twice (k);
CREATE TABLE twice_2 AS TABLE twice;
CREATE INDEX ON twice_2 (k);
ANALYZE twice, twice_2;
SET enable_hashjoin = off; SET enable_nestloop = off; SET enable_sort = off; SET enable_material = off;
SELECT $$SELECT a.n, b.n FROM (SELECT k, ARRAY[distil_token_count(body)] AS n FROM twice) a
  FULL JOIN (SELECT k, ARRAY[distil_token_count(body)] AS n FROM twice_2) b USING (k)$$ AS marks \gset
SELECT * FROM plan_of(:'marks');
SELECT * FROM compare(:'marks');
-- An incremental sort hands on the rows of its child, as a sort does
SET enable_hashagg = off; SET enable_seqscan = off;
SELECT * FROM plan_of('SELECT k, body, max(distil_token_count(body || k)) FROM twice GROUP BY k, body');
SELECT * FROM compare('SELECT k, body, max(distil_token_count(body || k)) FROM twice GROUP BY k, body');
RESET enable_hashagg; RESET enable_seqscan;
RESET enable_hashjoin; RESET enable_nestloop; RESET enable_sort; RESET enable_material;

-- What is not asked for does not happen, what is happens once and in its turn
CREATE TABLE few (id int PRIMARY KEY, body text);
INSERT INTO few SELECT i, 'doc ' || i FROM generate_series(1, 20) i;
ANALYZE few;
CREATE SEQUENCE turns;
CREATE FUNCTION result_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  result text;
BEGIN
  EXECUTE format('SELECT md5(string_agg(q::text, '' '')) FROM (%s) q', query) INTO result;
  RETURN result;
EXCEPTION WHEN OTHERS THEN
  RETURN SQLERRM;
END $$;
CREATE FUNCTION first_of() RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  n int;
BEGIN
  SELECT distil_token_count(body || 12 / (id - 5)) INTO n FROM few LIMIT 7;
  RETURN n;
END $$;
CREATE FUNCTION each_of() RETURNS SETOF int LANGUAGE sql VOLATILE AS $$
  SELECT distil_token_count(body || 12 / (id - 5)) FROM few
$$;
CREATE DOMAIN small AS int CHECK (VALUE < 5);
CREATE TEMP TABLE turns_of (what text, query text);
INSERT INTO turns_of VALUES
  ('limit over append', $$SELECT distil_token_count(body) FROM few WHERE id < 4 UNION ALL SELECT distil_token_count(body || 1 / (id - 7)) FROM few WHERE id > 3 LIMIT 5$$),
  ('limit in limit', $$SELECT * FROM (SELECT id, distil_token_count(body || 1 / (id - 3)) FROM few LIMIT 5) s LIMIT 2$$),
  ('run condition', $$SELECT * FROM (SELECT id, k, row_number() OVER (ORDER BY id) AS n
     FROM (SELECT id, distil_token_count(body || 1 / (id - 10)) AS k FROM few ORDER BY id OFFSET 0) x) s WHERE n <= 6$$),
  ('function', 'SELECT each_of() LIMIT 3'),
  ('filter', $$SELECT sum(distil_token_count(body, left('batch-tiny', 10 + 0 * (12 / (id - 5))))) FILTER (WHERE id <> 5) FROM few$$),
  ('order', $$SELECT id, sum(distil_token_count(repeat('a ', nextval('turns')::int))) OVER (ORDER BY -id) FROM few, (SELECT setval('turns', 1) OFFSET 0) s$$),
  ('condition', 'SELECT id FROM few WHERE distil_token_count(body || 12 / (id - 5)) > CASE id WHEN 1 THEN 99 ELSE 0 END LIMIT 3'),
  ('domain', $$SELECT distil_token_count(body || k::small) FROM (SELECT body, id AS k FROM few OFFSET 0) s LIMIT (SELECT 3)$$),
  ('subplan', $$SELECT distil_token_count(body || (SELECT 12 / (id - 5))) FROM few LIMIT (SELECT 3)$$),
  ('guard', 'SELECT CASE WHEN id <> 5 THEN distil_token_count(body || 12 / (id - 5)) END, distil_token_count(body) FROM few'),
  ('limit in cte', $$WITH c AS MATERIALIZED (SELECT id, distil_token_count(body || 12 / (id - 5)) FROM few LIMIT 10) SELECT * FROM c LIMIT 3$$),
  ('window', 'SELECT id, sum(distil_token_count(body || 12 / (id - 5))) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) FROM few LIMIT 3'),
  ('frame, start', 'SELECT id, sum(distil_token_count(body || 12 / (id - 1))) OVER (ORDER BY id ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) FROM few'),
  ('frame, end', 'SELECT id, sum(distil_token_count(body || 12 / (id - 20))) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) FROM few'),
  ('frame, exclusion', 'SELECT id, sum(distil_token_count(body || 12 / (id - 20))) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING EXCLUDE CURRENT ROW) FROM few'),
  ('subscript', $$SELECT (distil_embed(NULLIF(body, 'doc 5')))[distil_token_count(body || 12 / (id - 5))] IS NULL FROM few$$),
  ('slice', $$SELECT cardinality((distil_embed(NULLIF(body, 'doc 5')))[distil_token_count(body || 12 / (id - 5)):9]) FROM few$$),
  ('second key', $$SELECT f.id FROM few f JOIN (SELECT n, m FROM generate_series(1, 30) n, generate_series(1, 30) m OFFSET 0) g
     ON distil_token_count(NULLIF(f.body, 'doc 5')) = n AND distil_token_count(f.body || 12 / (f.id - 5)) = m$$),
  ('key', 'SELECT f.id FROM few f JOIN generate_series(1, 30) n ON distil_token_count(f.body || 12 / (f.id - 5)) = n LIMIT 3'),
  ('semi join', $$SELECT id FROM few p WHERE EXISTS (SELECT FROM few q WHERE q.id <> p.id + 100
     AND distil_token_count(q.body || 12 / (q.id - 5)) > CASE q.id WHEN 1 THEN 99 ELSE 0 END)$$),
  ('set', $$SELECT count(distil_token_count(t || 'x')), sum(distil_token_count(lower(t))) FROM (SELECT unnest(ARRAY['a', 'b c', body]) AS t FROM few) s$$),
  ('set, filter', $$SELECT sum(distil_token_count(t)) FILTER (WHERE id > 5) FROM (SELECT id, unnest(ARRAY['a', 'b c', body]) AS t FROM few) s$$);
SET enable_seqscan = off;
SET distil.batch = off;
CREATE TEMP TABLE turns_off AS SELECT what, result_of(query) AS result FROM turns_of;
RESET distil.batch;
SELECT what, result ~ '^[0-9a-f]+$' AS found, result_of(query) = result AS same FROM turns_of JOIN turns_off USING (what) ORDER BY 1;
RESET enable_seqscan;
DROP DOMAIN small;
SET enable_hashjoin = off; SET enable_nestloop = off; SET enable_seqscan = off; SET enable_sort = off;
SELECT count(*) FROM few f JOIN (SELECT id FROM few WHERE id < 3) g USING (id) WHERE distil_token_count(f.body || 12 / (f.id - 5)) > 0;
RESET enable_hashjoin; RESET enable_nestloop; RESET enable_seqscan; RESET enable_sort;
SELECT first_of() > 0 AS found;
SELECT setval('turns', 1, false) AS turn;
SELECT sum(distil_token_count(CASE WHEN nextval('turns') % 2 = 0 THEN body END)) FILTER (WHERE id > 2)
  = (SELECT sum(distil_token_count(body)) FROM few WHERE id > 2 AND id % 2 = 0) AS once FROM few;
SELECT nextval('turns') AS turn;
SELECT count(distil_token_count(body)) FILTER (WHERE nextval('turns') > 0), count(distil_token_count(body)) FILTER (WHERE (SELECT nextval('turns') + id) > 0) FROM few;
SELECT nextval('turns') AS turn;
SELECT sum(distil_token_count(t || 'x')) > 0 AS counted FROM (SELECT nextval('turns')::text AS t FROM few) s;
SELECT count(a), count(b) FROM (SELECT distil_token_count(nextval('turns')::text) AS a, distil_token_count(nextval('turns')::text) AS b FROM few OFFSET 0) s;
SELECT nextval('turns') AS turn;
ALTER TABLE few ADD turn int DEFAULT nextval('turns');
INSERT INTO few (id, body) SELECT id + 100, body FROM few WHERE id < 4 RETURNING turn = currval('turns') AS own, distil_token_count(body) > 0 AS counted;
SELECT setval('turns', 1) AS turn;
WITH u AS (UPDATE few SET body = body WHERE id < 11 RETURNING nextval('turns'), distil_token_count(body)) SELECT 1 AS one;
SELECT nextval('turns') AS turn;
WITH u AS (UPDATE few SET body = body RETURNING id, distil_token_count(body, CASE WHEN id = 7 THEN 'none' ELSE 'batch-tiny' END)) SELECT 1 FROM u LIMIT 2;
MERGE INTO few t USING (SELECT id + 15 AS id, body FROM few WHERE id <= 20) s ON t.id = s.id
  WHEN NOT MATCHED THEN INSERT VALUES (s.id, distil_token_count(s.body, left('batch-tiny', 10 + 0 * (12 / (s.id - 18))))::text);
SELECT count(*) FROM few WHERE id BETWEEN 21 AND 35;
BEGIN;
SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_memoize = off; SET LOCAL enable_material = off;
DECLARE c CURSOR FOR SELECT d.id < 0 AS never, distil_token_count(d.body || g::text) > 0 AS ok FROM docs d, LATERAL generate_series(1, 1 + 0 * (12 / (d.id - 5))) g WHERE d.body IS NOT NULL ORDER BY d.id;
FETCH 1 FROM c;
FETCH 1 FROM c;
ROLLBACK;
-- of some functions it depends on a constant whether they can fail
CREATE COLLATION loose (PROVIDER = icu, LOCALE = 'und', DETERMINISTIC = false);
SELECT condition, EXISTS (SELECT FROM plan_of('DECLARE c CURSOR FOR SELECT distil_token_count(body) FROM few WHERE ' || condition) p WHERE p LIKE '%DistilBatch%') AS batched FROM (VALUES
  ($$body LIKE 'd%'$$), ($$body LIKE 'd\%'$$), ($$body NOT LIKE '_oc%'$$), ('body LIKE body'), ($$body ILIKE 'D%'$$),
  ($$substr(body, 2) <> ''$$), ($$substr(body, 2, 10) <> ''$$), ($$substr(body, 2, id) <> ''$$), ($$substring(body FROM 2 FOR 0) <> 'x'$$),
  ($$substring(body FROM 2 FOR -1) <> ''$$), ($$split_part(body, ' ', 1) <> ''$$), ($$split_part(body, ' ', id) <> ''$$), ($$split_part(body, ' ', -1) <> ''$$),
  ($$split_part(body COLLATE loose, ' ', 1) <> ''$$), ($$id / 2 > 0$$), ($$body || id <> ''$$)) c (condition);
BEGIN;
DECLARE c CURSOR FOR SELECT id, distil_token_count(body) > 0 AS ok FROM few WHERE ARRAY[ARRAY[1, 2], CASE WHEN id = 14 THEN ARRAY[1] ELSE ARRAY[1, 2] END] IS NOT NULL;
FETCH 2 FROM c;
ROLLBACK;

-- A row that is read, but not computed: of the next group, or of the outer side before an empty inner one
CREATE TABLE groups (id int PRIMARY KEY, n int, body text, model text);
INSERT INTO groups SELECT i, i / 5, 'doc ' || i, CASE WHEN i = 5 THEN 'none' ELSE 'batch-tiny' END FROM generate_series(0, 19) i;
ANALYZE groups;
CREATE FUNCTION first_row_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  result text;
BEGIN
  EXECUTE format('CREATE OR REPLACE FUNCTION first_row() RETURNS text LANGUAGE sql VOLATILE AS %L', format('SELECT q::text FROM (%s) q', query));
  EXECUTE 'SELECT first_row()' INTO result;
  RETURN result;
EXCEPTION WHEN OTHERS THEN
  RETURN SQLERRM;
END $$;
CREATE TEMP TABLE late (what text, query text);
INSERT INTO late VALUES
  ('group', 'SELECT n, sum(distil_token_count(body, model)) FROM groups GROUP BY n'),
  ('group, argument', 'SELECT n, sum(distil_token_count(body || 12 / (id - 5))) FROM groups GROUP BY n'),
  ('group, filter', 'SELECT n, sum(distil_token_count(body)) FILTER (WHERE 12 / (id - 5) < 9) FROM groups GROUP BY n'),
  ('group, nested', 'SELECT n, sum(cardinality(distil_token_ids(distil_decode(distil_token_ids(body, model))))) FROM groups GROUP BY n'),
  ('group, nested argument', 'SELECT n, sum(distil_token_count(distil_decode(distil_token_ids(body || 12 / (id - 5))))) FROM groups GROUP BY n'),
  ('group, reached', 'SELECT n, sum(distil_token_count(body, model)) FROM groups WHERE id > 2 GROUP BY n HAVING count(*) > 2'),
  ('group, NULL', 'SELECT n, count(distil_token_count(NULLIF(body, body), model)), count(distil_token_count(body)) FROM groups GROUP BY n'),
  ('partition', 'SELECT n, sum(distil_token_count(body, model)) OVER (PARTITION BY n) FROM groups'),
  ('partition, argument', 'SELECT n, sum(distil_token_count(body || 12 / (id - 5))) OVER (PARTITION BY n) FROM groups'),
  ('peer', 'SELECT n, sum(distil_token_count(body, model)) OVER (ORDER BY n) FROM groups'),
  ('outer', 'SELECT a.id FROM groups a JOIN few b ON distil_token_count(a.body, ''none'') = b.id WHERE b.body = ''nothing'''),
  ('outer, argument', 'SELECT a.id FROM groups a JOIN few b ON distil_token_count(a.body || 12 / a.id) = b.id WHERE b.body = ''nothing'''),
  ('outer, first', 'SELECT a.id FROM groups a JOIN few b ON distil_token_count(a.body || 12 / a.id) = b.id'),
  ('outer empty', 'SELECT a.id FROM groups a JOIN few b ON distil_token_count(a.body) = distil_token_count(b.body, ''none'') WHERE a.body = ''nothing'''),
  ('outer fails first', 'SELECT a.id FROM groups a JOIN few b ON distil_token_count(a.body) = distil_token_count(b.body, ''none'') WHERE 12 / a.id > -1'),
  ('both', 'SELECT a.id, b.id FROM groups a JOIN groups b ON distil_token_count(a.body || a.id) = distil_token_count(b.body || b.id) WHERE b.id = 3');
SET enable_hashagg = off; SET enable_mergejoin = off; SET enable_nestloop = off;
SET distil.batch = off;
CREATE TEMP TABLE late_off AS SELECT what, first_row_of(query) AS first, result_of(query) AS result FROM late;
RESET distil.batch;
SELECT what, first, first_row_of(query) IS NOT DISTINCT FROM first AND result_of(query) IS NOT DISTINCT FROM result AS same FROM late JOIN late_off USING (what) ORDER BY 1;
-- whether its calls are computed is no parameter of the statement: EXPLAIN would look for what sets it
EXPLAIN (VERBOSE, COSTS OFF) SELECT n, sum(distil_token_count(body || id)) FROM groups GROUP BY n LIMIT 1;
-- who finds NULL makes the call: not of an argument that may be another then, nor where a filter keeps a row out
SELECT setval('turns', 1) AS turn;
SELECT n, count(distil_token_count(CASE WHEN nextval('turns') < 0 THEN body END)), count(distil_token_count((SELECT CASE WHEN nextval('turns') < 0 THEN body END))) FROM groups GROUP BY n;
SELECT nextval('turns') AS turn;
SELECT n, sum(distil_token_count(body || 12 / (id - 5))) FILTER (WHERE id <> 5) > 0 AS counted FROM groups GROUP BY n;
SELECT sum(distil_token_count(body, model)) FILTER (WHERE id <> 5) > 0 AS counted FROM groups;
-- a hash join compares what its node has computed
EXPLAIN (COSTS OFF) SELECT a.id FROM groups a JOIN few b ON distil_token_count(a.body) = b.id;
-- below a LIMIT, whatever reads all that it gives
CREATE TEMP TABLE first_group (n int, sum int);
INSERT INTO first_group SELECT n, sum(distil_token_count(body, model)) FROM groups GROUP BY n LIMIT 1;
SELECT * FROM (SELECT n, sum(distil_token_count(body, model)) AS s FROM groups GROUP BY n LIMIT 1) q ORDER BY s;
SELECT ARRAY(SELECT sum(distil_token_count(body, model)) FROM groups GROUP BY n LIMIT 1);
SELECT what FROM late WHERE NOT EXISTS (SELECT FROM plan_of(query) p WHERE p::text LIKE '%DistilBatch%') ORDER BY 1;
BEGIN;
DECLARE c CURSOR FOR SELECT n, sum(distil_token_count(body, model)) > 0 AS ok FROM groups GROUP BY n;
FETCH 1 FROM c;
FETCH 1 FROM c;
ROLLBACK;
-- calls in arguments of others: one node above the other, in cursors and behind FILTER too
BEGIN;
EXPLAIN (COSTS OFF) DECLARE c CURSOR FOR SELECT id, distil_token_count(distil_decode(distil_token_ids(body, model))) > 0 AS ok FROM groups WHERE distil_token_count(distil_decode(distil_token_ids(body))) > 0;
DECLARE c CURSOR FOR SELECT id, distil_token_count(distil_decode(distil_token_ids(body, model))) > 0 AS ok FROM groups WHERE distil_token_count(distil_decode(distil_token_ids(body))) > 0;
FETCH 5 FROM c;
FETCH 1 FROM c;
ROLLBACK;
BEGIN;
DECLARE c CURSOR FOR SELECT id, distil_token_count((12 / (id - cardinality(distil_token_ids(body))))::text) > 0 AS ok FROM groups;
FETCH 1 FROM c;
ROLLBACK;
EXPLAIN (COSTS OFF) SELECT sum(distil_token_count(distil_decode(distil_token_ids(body, model)))) FILTER (WHERE id <> 5) FROM groups;
SELECT sum(distil_token_count(distil_decode(distil_token_ids(body, model)))) FILTER (WHERE id <> 5) FROM groups;
-- subplans that are read to their end
SELECT * FROM plan_of('SELECT ARRAY(SELECT distil_token_count(body || 12 / (id + 1)) FROM groups)');
SELECT batches_of('SELECT ARRAY(SELECT distil_token_count(body || 12 / (id + 1)) FROM groups)');
SELECT batches_of('SELECT id, ARRAY(SELECT distil_token_count(f.body || 12 / (g.id + 1)) FROM groups g) FROM few f WHERE f.id < 4');
SELECT batches_of('SELECT count(*) FROM few WHERE id NOT IN (SELECT distil_token_count(body || 12 / (id + 1)) FROM groups)');
SELECT batches_of('SELECT count(*) FROM few WHERE EXISTS (SELECT distil_token_count(body || 12 / (id + 1)) FROM groups OFFSET 0)');
SELECT batches_of('SELECT n, sum(distil_token_count(body)) FROM groups GROUP BY n');
SELECT batches_of('SELECT count(*) FROM groups a JOIN few b ON distil_token_count(a.body || 12 / (a.id + 1)) = b.id');
SELECT batches_of('SELECT count(*) FROM groups a JOIN few b ON distil_token_count(a.body) = b.id');
SELECT batches_of('SELECT n, sum(distil_token_count(body)) FROM groups GROUP BY n LIMIT (SELECT 3)');
SELECT batches_of('SELECT n, sum(distil_token_count(body || 12 / (id + 1))) FROM groups GROUP BY n');
DO $$
DECLARE
  plan jsonb;
BEGIN
  EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) SELECT n, sum((distil_embed(distil_decode(distil_token_ids(body))))[1]) FROM groups GROUP BY n' INTO plan;
  RAISE WARNING 'embedded in batches: %', jsonb_path_exists(plan, 'strict $.**."Tokens" ? (@ > 0)');
END $$;
-- an outer side that needs more than a row for its first one: of it nothing is run when the inner side is empty
CREATE INDEX ON groups (n);
SET enable_sort = off;
CREATE TEMP TABLE hashed (what text, query text);
INSERT INTO hashed VALUES
  ('group', 'SELECT a.s FROM (SELECT n, sum(distil_token_count(body || 12 / (id - 8))) AS s FROM groups GROUP BY n) a JOIN few b ON a.n = b.id'),
  ('condition', 'SELECT a.id FROM groups a JOIN few b ON a.id = b.id WHERE (distil_token_count(a.body || 12 / (a.id - 3)) > 0) = (a.id > 0)'),
  ('limit', 'SELECT a.id FROM (SELECT id, distil_token_count(body || 12 / (id - 3)) AS t FROM groups LIMIT 10) a JOIN few b ON a.t = b.id'),
  ('hash join', 'SELECT a.id FROM (SELECT a.id, t FROM (SELECT id, distil_token_count(body || 12 / (id - 3)) AS t FROM groups OFFSET 0) a JOIN few c ON a.id = c.id OFFSET 0) a JOIN few b ON a.t = b.id'),
  ('column', 'SELECT a.id FROM (SELECT id, distil_token_count(body || 12 / (id - 3)) AS t FROM groups OFFSET 0) a JOIN few b ON a.t = b.id'),
  ('semi', 'SELECT a.s FROM (SELECT n, sum(distil_token_count(body || 12 / (id - 8))) AS s FROM groups GROUP BY n) a WHERE n IN (SELECT id FROM few b WHERE true)');
CREATE TEMP TABLE empty_inner AS SELECT what || e AS what, replace(query, 'few b', inner_side) AS query FROM hashed,
  (VALUES (', empty', '(SELECT * FROM few WHERE body = ''nothing'') b'), (', empty, may fail', '(SELECT * FROM few WHERE 12 / id > 100) b'), ('', 'few b')) i (e, inner_side);
SET distil.batch = off;
CREATE TEMP TABLE empty_off AS SELECT what, first_row_of(query) AS first, result_of(query) AS result FROM empty_inner;
RESET distil.batch;
SELECT what, result, first_row_of(query) IS NOT DISTINCT FROM first AND result_of(query) IS NOT DISTINCT FROM result AS same,
       EXISTS (SELECT FROM plan_of(query) p WHERE p LIKE '%DistilBatch%') AS batched FROM empty_inner JOIN empty_off USING (what) ORDER BY 1;
-- results that are kept with the inner side take more than work_mem: then the outer side is read to its end
CREATE TABLE kept (id int PRIMARY KEY, body text);
INSERT INTO kept SELECT i, repeat('doc ', 12) || i FROM generate_series(1, 300) i;
CREATE TABLE probes (id int PRIMARY KEY, ids int[]);
INSERT INTO probes SELECT i, ids FROM generate_series(1, 1500) i, LATERAL (SELECT distil_token_ids(body) AS ids FROM kept WHERE id = i % 300 + 1) k;
ALTER TABLE probes ALTER ids SET STATISTICS 0;
VACUUM ANALYZE kept, probes;
CREATE FUNCTION kept_join(k int) RETURNS text LANGUAGE sql AS $$
  SELECT format('SELECT a.id, a.x FROM (SELECT id, ids, 12 / (id - %s) AS x FROM probes WHERE id >= %s OFFSET 0) a WHERE a.ids IN (SELECT distil_token_ids(body) FROM kept)', k + 1, k)
$$;
SET work_mem = '64kB'; SET hash_mem_multiplier = 1;
SELECT * FROM plan_of(kept_join(1));
SELECT k, first_row_of(kept_join(k)), result_of(kept_join(k) || ' LIMIT 1') FROM generate_series(1, 12) k;
SELECT * FROM plan_of(kept_join(1) || ' LIMIT 1');
SELECT * FROM plan_of(replace(kept_join(1), '12 / (id - 2)', 'id') || ' LIMIT 1');
SELECT batches_of(replace(kept_join(1), '12 / (id - 2)', '12 / (id + 2)'));
RESET work_mem; RESET hash_mem_multiplier; RESET enable_sort;
RESET enable_hashagg; RESET enable_mergejoin; RESET enable_nestloop;

-- Below a node that may ask for more rows than its LIMIT a Sort keeps them all
CREATE TEMP TABLE more_of (what text, query text);
INSERT INTO more_of VALUES
  ('unique', 'SELECT DISTINCT ON (k) k, t FROM (SELECT -n AS k, distil_token_count(body) AS t FROM groups ORDER BY -n LIMIT ALL) s LIMIT 2'),
  ('window', 'SELECT id, t, sum(t) OVER () FROM (SELECT id, distil_token_count(body) AS t FROM docs ORDER BY -id LIMIT ALL) s LIMIT 2'),
  ('set', 'SELECT generate_series(1, id % 2), t FROM (SELECT id, distil_token_count(body) AS t FROM docs ORDER BY -id LIMIT ALL) s LIMIT 2'),
  ('loop', 'SELECT s.t, f.id FROM (SELECT id, distil_token_count(body) AS t FROM docs ORDER BY -id LIMIT ALL) s, few f WHERE f.id > s.id LIMIT 2'),
  ('join', 'SELECT s.t, f.id FROM (SELECT -id AS k, distil_token_count(body) AS t FROM docs ORDER BY -id LIMIT ALL) s LEFT JOIN few f ON -f.id = s.k WHERE f.id IS NULL OR f.id < 9 LIMIT 2'),
  ('inner join', 'SELECT s.t, f.id FROM (SELECT -id AS k, distil_token_count(body) AS t FROM docs ORDER BY -id LIMIT ALL) s JOIN few f ON -f.id = s.k LIMIT 2'),
  ('nested call', 'SELECT id FROM (SELECT id, body FROM docs ORDER BY -id OFFSET 0) s WHERE distil_token_count(distil_decode(distil_token_ids(body))) * 0 + id < 290 LIMIT 2'),
  ('ties', 'SELECT n, distil_token_count(body) FROM groups ORDER BY -n FETCH FIRST 2 ROWS WITH TIES'),
  ('large limit', 'SELECT id, distil_token_count(body) FROM docs ORDER BY -id LIMIT 4294967298');
SET distil.batch = off;
CREATE TEMP TABLE more_off AS SELECT what, result_of(query) AS result FROM more_of;
RESET distil.batch;
SELECT what, result ~ '^[0-9a-f]+$' AS found, result_of(query) = result AS same, EXISTS (SELECT FROM plan_of(query) p WHERE p LIKE '%DistilBatch%') AS batched FROM more_of JOIN more_off USING (what) ORDER BY 1;
SET enable_hashjoin = off; SET enable_nestloop = off;
SELECT result_of(query) = result AS same FROM more_of JOIN more_off USING (what) WHERE what = 'inner join';
RESET enable_hashjoin; RESET enable_nestloop;
BEGIN;
WITH d AS (DELETE FROM docs WHERE id = 300 RETURNING 1) SELECT id, distil_token_count(body) > 0 AS ok FROM docs, (SELECT count(*) FROM d) s ORDER BY -id LIMIT 2 FOR UPDATE OF docs;
ROLLBACK;
-- whether rows are read that are not asked for
CREATE TEMP TABLE ends (what text, query text);
INSERT INTO ends VALUES
  ('sorted by groups', 'SELECT k, t FROM (SELECT k, distil_token_count(body || 12 / (k - 80)) AS t FROM twice ORDER BY k OFFSET 0) s ORDER BY k, t LIMIT 2'),
  ('scalar', 'SELECT (SELECT distil_token_count(body || 12 / (id - 5)) FROM groups)'),
  ('key below', 'SELECT f.x FROM (SELECT id, body, 12 / (id - 5) AS x FROM kept OFFSET 0) f JOIN generate_series(1, 100) n ON distil_token_count(f.body) = n LIMIT 3'),
  ('loop condition', 'SELECT f.id, g.id FROM groups f JOIN groups g ON distil_token_count(f.body || 12 / (g.id - 5)) * 0 + g.id > 1 LIMIT 2'),
  ('call on calls', 'SELECT distil_token_count((12 / (id - 4 + 0 * cardinality(distil_token_ids(body))))::text) FROM groups LIMIT (SELECT 3)'),
  ('condition on calls', 'SELECT id FROM groups WHERE 12 / (id - 4 + 0 * cardinality(distil_token_ids(body))) < 99 AND distil_token_count(body || ''!'') > 0 LIMIT (SELECT 3)'),
  ('hash condition', 'SELECT f.id, g.id FROM groups f JOIN groups g ON f.id = g.id AND distil_token_count(f.body || 12 / (g.id - 5)) * 0 + g.id > 1 LIMIT 2'),
  ('group, hashed key', 'SELECT a.id FROM (SELECT id, distil_token_count(body || id) AS t FROM groups WHERE 12 / (id + 1) > 100 OFFSET 0) a JOIN (SELECT * FROM few WHERE id < 4) b ON a.t = 12 / (b.id - 3)'),
  ('run condition', 'SELECT * FROM (SELECT distil_token_count(body) AS t, distil_token_count(body) AS u, row_number() OVER (ORDER BY id) AS n FROM groups) s WHERE n <= 3'),
  ('run condition below', 'SELECT * FROM (SELECT distil_token_count(body) AS t, distil_token_count(body) AS u, row_number() OVER (ORDER BY id) AS n, rank() OVER (ORDER BY -id) AS s FROM groups) s WHERE s <= 3'),
  ('run condition above', 'SELECT * FROM (SELECT distil_token_count(body) AS t, distil_token_count(body) AS u, row_number() OVER (ORDER BY id) AS n, rank() OVER (ORDER BY -id) AS s FROM groups) s WHERE n <= 3');
SET enable_sort = off; SET enable_mergejoin = off;
SET distil.batch = off;
CREATE TEMP TABLE ends_off AS SELECT what, first_row_of(query) AS first, result_of(query) AS result FROM ends;
RESET distil.batch;
SELECT what, result ~ '^[0-9a-f]+$' AS found, first_row_of(query) IS NOT DISTINCT FROM first AND result_of(query) IS NOT DISTINCT FROM result AS same FROM ends JOIN ends_off USING (what) ORDER BY 1;
RESET enable_sort; RESET enable_mergejoin;
\set VERBOSITY terse
CREATE TEMP TABLE returned (n int);
DO $$ DECLARE t int; BEGIN INSERT INTO returned SELECT 12 / (i - 5) FROM generate_series(1, 9) i RETURNING distil_token_count(n::text) INTO t; END $$;
DO $$ DECLARE t int; BEGIN INSERT INTO returned SELECT distil_token_count('doc' || 12 / (i - 5)) FROM generate_series(1, 9) i RETURNING n INTO t; END $$;
\set VERBOSITY default
-- of an inner side that is left at its first match, or where the outer one ends; a Result passes marks on
CREATE TEMP TABLE inner_sides (what text, query text);
INSERT INTO inner_sides VALUES
  ('anti', 'SELECT f.id FROM groups f WHERE NOT EXISTS (SELECT FROM groups g WHERE f.n = g.n AND distil_token_count(g.body || 12 / (g.id - 18)) > 0)'),
  ('unique', 'SELECT f.id, g.id FROM groups f LEFT JOIN groups g ON f.n = g.id AND distil_token_count(g.body || 12 / (g.id - 4)) > 0');
SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off; SET enable_memoize = off; SET enable_indexscan = off; SET enable_indexonlyscan = off;
SET distil.batch = off;
CREATE TEMP TABLE inner_off AS SELECT what, result_of(query) AS result FROM inner_sides;
RESET distil.batch;
SELECT what, result ~ '^[0-9a-f]+$' AS found, result_of(query) IS NOT DISTINCT FROM result AS same, EXISTS (SELECT FROM plan_of(query) p WHERE p LIKE '%DistilBatch%') AS batched FROM inner_sides JOIN inner_off USING (what) ORDER BY 1;
RESET enable_mergejoin; RESET enable_indexscan; RESET enable_indexonlyscan;
SET enable_nestloop = off; SET enable_sort = off; SET enable_seqscan = off;
DELETE FROM inner_sides;
INSERT INTO inner_sides VALUES
  ('sorted', 'SELECT a.id FROM groups a WHERE id < 3 AND EXISTS (SELECT FROM (SELECT id, distil_token_count(body || 12 / (id - 8)) AS t FROM groups ORDER BY id OFFSET 0) b WHERE a.id = b.id AND b.t > 0)'),
  ('unmarked', 'SELECT a.id, b.id FROM groups a LEFT JOIN docs b ON a.id = b.id AND distil_token_count(b.body) > 3'),
  ('marked', 'SELECT a.k, b.k FROM (SELECT k FROM twice WHERE (SELECT true) AND distil_token_count(body) > 0) a FULL JOIN (SELECT k FROM twice_2 WHERE (SELECT true) AND distil_token_count(body) > 0) b USING (k)');
SET distil.batch = off;
DELETE FROM inner_off;
INSERT INTO inner_off SELECT what, result_of(query) AS result FROM inner_sides;
RESET distil.batch;
SELECT what, result ~ '^[0-9a-f]+$' AS found, result_of(query) IS NOT DISTINCT FROM result AS same, EXISTS (SELECT FROM plan_of(query) p WHERE p LIKE '%DistilBatch%') AS batched FROM inner_sides JOIN inner_off USING (what) ORDER BY 1;
RESET enable_hashjoin; RESET enable_nestloop; RESET enable_sort; RESET enable_seqscan; RESET enable_material; RESET enable_memoize;
-- where something that can fail is found below a node under a LIMIT, and where it is hidden
CREATE TEMP TABLE tells (what text, query text);
INSERT INTO tells VALUES
  ('column', 'SELECT distil_token_count(body), x FROM (SELECT body, 12 / (id - 5) AS x FROM groups OFFSET 0) s'),
  ('filter', 'SELECT distil_token_count(body) FROM groups WHERE n > 12 / (id - 5)'),
  ('index', 'SELECT distil_token_count(f.body), g.body FROM few f JOIN groups g ON g.n = 12 / (f.id - 5)'),
  ('index only', 'SELECT distil_token_count(f.body), g.n FROM few f JOIN groups g ON g.n = 12 / (f.id - 5)'),
  ('values', 'SELECT distil_token_count(v.b), v.x FROM groups f, LATERAL (VALUES (f.body, 12 / (f.id - 5)), (f.body, f.n)) v (b, x)'),
  ('append', 'SELECT distil_token_count(body), x FROM (SELECT body, id AS x FROM few UNION ALL SELECT body, 12 / (id - 5) FROM groups OFFSET 0) s'),
  ('merge append', 'SELECT distil_token_count(body), x FROM (SELECT id, body, id AS x FROM few UNION ALL SELECT id, body, 12 / (id - 5) FROM groups ORDER BY 1 OFFSET 0) s'),
  ('result', 'SELECT distil_token_count(body), x FROM (SELECT body, 12 / (id - 5) AS x FROM groups OFFSET 0) s WHERE (SELECT true)'),
  ('limit', 'SELECT distil_token_count(body), x FROM (SELECT body, 12 / (id - 5) AS x FROM groups LIMIT 9) s'),
  ('unique', 'SELECT distil_token_count(body), x FROM (SELECT DISTINCT ON (n) body, x FROM (SELECT n, body, 12 / (id - 5) AS x FROM groups ORDER BY n OFFSET 0) q OFFSET 0) s'),
  ('sort', 'SELECT distil_token_count(body), x FROM (SELECT body, 12 / (id - 5) AS x FROM groups ORDER BY body OFFSET 0) s'),
  ('sorted groups', 'SELECT n, distil_token_count(max(body)), sum(12 / (id - 5)) FROM groups GROUP BY n'),
  ('hashed groups', 'SELECT body, distil_token_count(body), max(12 / (id - 5)) FROM groups GROUP BY body'),
  ('groups', 'SELECT n, distil_token_count(n::text) FROM groups WHERE n > 12 / (id - 5) GROUP BY n'),
  ('split', 'SELECT distil_token_count(split_part(body, '' '', 0)) FROM groups'),
  ('not ilike', 'SELECT distil_token_count(body) FROM groups WHERE body NOT ILIKE ''x%'''),
  ('loop', 'SELECT distil_token_count(f.body) FROM groups f JOIN few g ON g.body < (12 / (f.id - 5))::text'),
  ('outer of loop', 'SELECT distil_token_count(f.body), x FROM (SELECT n, body, 12 / (id - 5) AS x FROM groups OFFSET 0) f JOIN few g ON f.n < g.id'),
  ('hash', 'SELECT distil_token_count(f.body) FROM docs f JOIN few g ON 12 / (f.id - 5) = g.id'),
  ('outer of hash', 'SELECT distil_token_count(f.body), x FROM (SELECT id, body, 12 / (id - 5) AS x FROM docs OFFSET 0) f JOIN few g USING (id)'),
  ('xml', 'SELECT distil_token_count(body) FROM groups WHERE XMLPARSE(DOCUMENT body) IS NOT NULL');
SET enable_mergejoin = off; SET enable_sort = off;
SELECT fails, harmless, string_agg(what, ', ' ORDER BY what) AS what FROM (SELECT what,
    EXISTS (SELECT FROM plan_of(query || ' LIMIT (SELECT 3)') p WHERE p LIKE '%DistilBatch%') AS fails,
    EXISTS (SELECT FROM plan_of(regexp_replace(query, '12 / \((\w*\.?id) - 5\)', '\1', 'g') || ' LIMIT (SELECT 3)') p WHERE p LIKE '%DistilBatch%') AS harmless FROM tells WHERE what ~ 'hash|sort') t GROUP BY 1, 2 ORDER BY 1, 2;
SET enable_hashagg = off; SET enable_hashjoin = off; SET enable_seqscan = off;
SELECT fails, harmless, string_agg(what, ', ' ORDER BY what) AS what FROM (SELECT what,
    EXISTS (SELECT FROM plan_of(query || ' LIMIT (SELECT 3)') p WHERE p LIKE '%DistilBatch%') AS fails,
    EXISTS (SELECT FROM plan_of(regexp_replace(query, '12 / \((\w*\.?id) - 5\)', '\1', 'g') || ' LIMIT (SELECT 3)') p WHERE p LIKE '%DistilBatch%') AS harmless FROM tells WHERE what <> 'hashed groups') t GROUP BY 1, 2 ORDER BY 1, 2;
RESET enable_mergejoin; RESET enable_hashagg; RESET enable_hashjoin; RESET enable_sort; RESET enable_seqscan;
-- nodes that pass on how many are asked for, and that read all
SELECT what, batches_of(query) FROM (VALUES
  (1, 'SELECT id + 1, e FROM (SELECT id, distil_embed(body) e FROM docs OFFSET 0) s LIMIT 3'),
  (2, 'SELECT * FROM (SELECT id, distil_embed(body) e FROM docs OFFSET 0) s WHERE (SELECT true) LIMIT 3'),
  (3, 'SELECT distil_token_count(body) FROM parts LIMIT 150'),
  (4, 'SELECT id, distil_token_count(body) FROM docs UNION ALL SELECT id, distil_token_count(body || id) FROM docs ORDER BY 1 LIMIT 5'),
  (5, 'SELECT distil_token_count(body || 12 / (id - 400)) FROM docs OFFSET 10'),
  (6, 'SELECT distil_token_count(body || 12 / (id - 400)) FROM docs LIMIT ALL OFFSET 10'),
  (7, 'SELECT k, count(t) FROM (SELECT id % 3 AS k, distil_token_count(body || 12 / (id - 400)) AS t FROM docs OFFSET 0) s GROUP BY k LIMIT 1'),
  (8, 'UPDATE docs SET id = id RETURNING id, distil_token_count(body)'),
  (9, 'SELECT count(x) FROM docs a FULL JOIN (SELECT id, ARRAY(SELECT distil_token_count(g.body || 12 / (g.id + 1) || f.id) FROM groups g) AS x FROM few f WHERE id < 4 OFFSET 0) b ON a.id = b.id'),
  (10, 'SELECT x FROM (SELECT id, ARRAY(SELECT distil_token_count(g.body || 12 / (g.id + 1) || f.id) FROM groups g) AS x FROM few f WHERE id < 4 OFFSET 0) s WHERE id > 1'),
  (11, 'SELECT ARRAY(SELECT distil_token_count(g.body || 12 / (g.id + 1) || f.id) FROM groups g) FROM few f WHERE id < 4 UNION ALL SELECT NULL'),
  (12, 'WITH c AS MATERIALIZED (SELECT ARRAY(SELECT distil_token_count(body || 12 / (id + 1)) FROM groups) AS a) SELECT * FROM c')) v (what, query);
-- nodes below that are passed
SELECT * FROM plan_of('SELECT count(t) FROM twice d, LATERAL (SELECT distil_token_count(f.body) AS t FROM few f WHERE f.id = d.k OFFSET 0) s');
SELECT * FROM plan_of('WITH RECURSIVE r (n, t) AS (SELECT id, distil_token_count(body) FROM docs UNION ALL SELECT n, t + 1 FROM r WHERE t < 5) SELECT count(*) FROM r');
SELECT * FROM plan_of('SELECT sum(distil_token_count(body || n)) FROM groups WHERE distil_token_count(body) > 3');
-- a cursor reads ahead where nobody can tell
SELECT setval('turns', 1, false) AS turn;
CREATE FUNCTION seen(t text) RETURNS text LANGUAGE plpgsql STABLE LEAKPROOF AS $$ BEGIN PERFORM nextval('turns'); RETURN t; END $$;
BEGIN;
DECLARE c CURSOR FOR SELECT id, distil_token_count(seen(body)) FROM groups;
MOVE 6 IN c;
SELECT currval('turns') AS seen;
ROLLBACK;
ALTER FUNCTION seen(text) VOLATILE;
SELECT setval('turns', 1, false) AS turn;
BEGIN;
DECLARE c CURSOR FOR SELECT id, distil_token_count(body) FROM groups WHERE seen(body) IS NOT NULL;
MOVE 6 IN c;
SELECT currval('turns') AS seen;
ROLLBACK;
DROP FUNCTION seen(text);
-- but hides no rows of a table among several from WHERE CURRENT OF
SELECT what, EXISTS (SELECT FROM plan_of(query) p WHERE p LIKE '%DistilBatch%') AS batched,
       EXISTS (SELECT FROM plan_of('DECLARE c CURSOR FOR ' || query) p WHERE p LIKE '%DistilBatch%') AS cursor FROM
  (VALUES ('SELECT id, distil_token_count(body) > 0 AS ok FROM (SELECT id, body FROM parts UNION ALL (SELECT id, body FROM docs) LIMIT 1000) s WHERE id > 7')) u (spans),
  LATERAL (VALUES ('limit', spans || ' LIMIT 100'), ('subquery', format('SELECT * FROM (%s OFFSET 0) q WHERE ok', spans)),
    ('result', format('SELECT * FROM (%s OFFSET 0) q WHERE (SELECT true)', spans)), ('append', spans || ' UNION ALL SELECT id, true FROM docs')) v (what, query);
-- the outer side, where the inner one takes over work_mem
SET enable_hashagg = off; SET enable_mergejoin = off; SET enable_nestloop = off; SET enable_sort = off;
CREATE FUNCTION kept_join(what text, k int) RETURNS text LANGUAGE sql AS $$
  SELECT CASE what WHEN 'call' THEN replace(kept_join(k), format('12 / (id - %s)', k + 1), format('distil_token_count(''doc'', CASE id WHEN %s THEN ''none'' ELSE ''batch-tiny'' END)', k + 1))
    WHEN 'key' THEN format('SELECT a.id FROM (SELECT id, ids FROM probes WHERE id >= %s OFFSET 0) a WHERE CASE WHEN 12 / (a.id - %s) < 99 THEN a.ids END IN (SELECT distil_token_ids(body) FROM kept)', k, k + 1)
    ELSE format('SELECT a.id FROM (SELECT id, ids FROM probes WHERE id >= %s OFFSET 0) a JOIN kept k ON a.ids = distil_token_ids(k.body) AND 12 / (a.id - %s + 0 * k.id) < 99', k, k + 1) END
$$;
CREATE TEMP TABLE outer_sides AS SELECT what, k, kept_join(what, k) AS query FROM (VALUES ('call'), ('key'), ('condition')) w (what), generate_series(1, 12) k;
SET work_mem = '64kB'; SET hash_mem_multiplier = 1;
SET distil.batch = off;
CREATE TEMP TABLE outer_off AS SELECT query, first_row_of(query) AS first, result_of(query || ' LIMIT 1') AS result FROM outer_sides;
RESET distil.batch;
SELECT what, count(*), count(*) FILTER (WHERE first_row_of(query) IS DISTINCT FROM first OR result_of(query || ' LIMIT 1') IS DISTINCT FROM result) AS differ FROM outer_sides JOIN outer_off USING (query) GROUP BY 1 ORDER BY 1;
RESET work_mem; RESET hash_mem_multiplier;
RESET enable_hashagg; RESET enable_mergejoin; RESET enable_nestloop; RESET enable_sort;

-- Prepared statements, PL/pgSQL, SQL functions
PREPARE p (int, text) AS SELECT id, distil_token_count(body, $2), distil_token_count(body || $2) FROM docs WHERE id < $1;
SET plan_cache_mode = force_generic_plan;
EXECUTE p (4, 'batch-tiny');
SELECT * FROM plan_of($$EXECUTE p (4, 'batch-tiny')$$);
SET distil.batch = off;
EXECUTE p (4, 'batch-tiny');
SELECT batches_of($$EXECUTE p (4, 'batch-tiny')$$);
RESET distil.batch;
RESET plan_cache_mode;
DO $$
DECLARE r record; n int := 0; found int := 0;
BEGIN
  FOR r IN SELECT id, distil_embed(body) AS e FROM docs ORDER BY id LOOP
    n := n + 1; found := found + (r.e IS NOT NULL)::int; EXIT WHEN n = 100;
  END LOOP;
  RAISE WARNING '% rows, % embeddings', n, found;
END $$;
CREATE FUNCTION embed_exclaimed(t text) RETURNS real[] STABLE RETURN distil_embed(t || '!');
SELECT * FROM plan_of('SELECT embed_exclaimed(body) FROM docs');

-- Workers run it below the Gather
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;
SELECT * FROM plan_of('SELECT id, distil_embed(body) FROM docs');
CREATE TABLE parallel AS SELECT id, distil_embed(body) AS e FROM docs;
SELECT count(*), count(p.e), count(*) FILTER (WHERE NOT is_close(to_jsonb(p.e), to_jsonb(d.e))) AS differ FROM docs d JOIN parallel p USING (id);
SELECT count(distil_embed(NULLIF(body, body), 'nowhere')) FROM docs;
SELECT substring(batches_of('SELECT id, distil_embed(body) FROM docs') from '/\d+') AS rows;
SET parallel_leader_participation = off;
SELECT substring(batches_of('SELECT id, distil_embed(body) FROM docs') from '/\d+') AS rows;
RESET parallel_leader_participation;
-- where errors cannot be kept rows are not read ahead
SET max_parallel_workers = 0;
SELECT count(n) FROM (SELECT distil_token_count('doc', CASE id WHEN 39 THEN 'none' ELSE 'batch-tiny' END) AS n FROM long LIMIT 38) s;
SET enable_parallel_hash = off;
SELECT count(*) FROM long a JOIN few b ON distil_token_count('doc', CASE WHEN a.id > 0 THEN 'none' END) = b.id WHERE b.body = 'nothing';
RESET enable_parallel_hash;
RESET max_parallel_workers;
SELECT * FROM plan_of('SELECT sum(distil_token_count(body)) FROM docs');
SELECT sum(distil_token_count(body)) = (SELECT sum(n) FROM (SELECT distil_token_count(body) AS n FROM docs OFFSET 0) s) AS same FROM docs;
-- a worker that sorts sorts all its rows, whatever the limit above asks it for
SET parallel_leader_participation = off; SET parallel_tuple_cost = 1;
SELECT * FROM plan_of('SELECT id FROM docs ORDER BY distil_token_count(body), id LIMIT 3');
SELECT split_part(batches_of('SELECT id FROM docs ORDER BY distil_token_count(body), id LIMIT 3'), '/', 1)::int < 20 AS large_batches;
SET distil.precision = 'bfloat16';
SELECT distil_embed('this session has used another precision') IS NOT NULL AS embedded;
SET distil.precision = 'float32';
DO $$
DECLARE
  plan jsonb;
BEGIN
  PERFORM set_config('distil.threads', '1', true);
  EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) SELECT distil_embed(body) FROM docs WHERE body IS NOT NULL' INTO plan;
  RAISE WARNING 'in workers: % rows, threads: %, models: %, tokens: %', jsonb_path_query_first(plan, 'strict $.**."Batched Rows"'),
    jsonb_path_query_first(plan, 'strict $.**."Threads"'), jsonb_path_query_first(plan, 'strict $.**."Models"'), jsonb_path_exists(plan, 'strict $.**."Tokens" ? (@ > 0)');
END $$;
RESET distil.precision;
RESET parallel_leader_participation; SET parallel_tuple_cost = 0;
SET max_parallel_workers_per_gather = 0;

-- Rights are those of the caller, row security comes first
CREATE ROLE regress_batch;
GRANT SELECT ON docs TO regress_batch;
SELECT distil_grant('batch-tiny', 'regress_batch');
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON docs USING (id <= 10);
SET ROLE regress_batch;
SELECT batches_of('SELECT distil_embed(body) FROM docs');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION distil_embed(text) FROM PUBLIC;
SET ROLE regress_batch;
SELECT id, distil_embed(body) FROM docs;
RESET ROLE;
GRANT EXECUTE ON FUNCTION distil_embed(text) TO PUBLIC;
ALTER FUNCTION distil_embed(text) SECURITY DEFINER;
SELECT * FROM plan_of('SELECT id, distil_embed(body) FROM docs');
ALTER FUNCTION distil_embed(text) SECURITY INVOKER;
ALTER FUNCTION distil_embed(text) SET distil.truncation = 'error';
SELECT * FROM plan_of('SELECT id, distil_embed(body) FROM docs');
ALTER FUNCTION distil_embed(text) RESET ALL;
ALTER TABLE docs DISABLE ROW LEVEL SECURITY;

-- An error in one row fails the statement
\set VERBOSITY terse
SELECT id, distil_embed(body, 'no such model') FROM docs;
SELECT id, distil_embed(body, CASE WHEN id = 250 THEN 'none' ELSE 'batch-tiny' END) IS NULL FROM docs;
\set VERBOSITY default

-- Rows with more columns than one may have are not made for the sake of batches
SELECT string_agg(format('cardinality(distil_token_ids(body || %1$s, pair => body || -%1$s)) AS c%1$s', i), ', ') AS columns,
	string_agg(format('max(distil_token_ids(body || %1$s, pair => body || -%1$s)) AS c%1$s', i), ', ') AS aggregates,
	string_agg(format('distil_token_count(body || %1$s)', i), ', ') AS values FROM generate_series(1, 900) i \gset
SELECT 'SELECT ' || :'columns' || ' FROM docs WHERE id < 3' AS wide \gset
SELECT plan_of(:'wide');
SELECT * FROM compare(:'wide');
SELECT 'SELECT ' || :'aggregates' || ' FROM docs WHERE id < 3' AS wide \gset
SELECT count(*) FROM plan_of(:'wide');
SELECT * FROM compare(:'wide');
SELECT 'SELECT id FROM docs WHERE id < 3 AND greatest(' || :'values' || ') > 0' AS wide \gset
SELECT plan_of(:'wide');
SELECT * FROM compare(:'wide');
SELECT 'UPDATE docs SET id = id WHERE id < 3 RETURNING ' || :'columns' AS wide \gset
SELECT * FROM compare(:'wide');

-- The first statement of a session, planned before the library was there
\c -reuse-previous=on "options='-csession_preload_libraries= -cmax_parallel_workers_per_gather=0'"
EXPLAIN (COSTS OFF) UPDATE docs SET e = distil_embed(body);
\c
EXPLAIN (COSTS OFF) SELECT distil_embed(left(body, 10 / (id - 3))) FROM docs;
\c
BEGIN;
DECLARE c NO SCROLL CURSOR FOR SELECT id, distil_token_count(body, 'batch-tiny') > 0 AS ok FROM (SELECT id, body FROM parts UNION ALL (SELECT id, body FROM docs) LIMIT 1000) s WHERE id > 7;
FETCH 1 FROM c;
DELETE FROM parts WHERE CURRENT OF c RETURNING id;
ROLLBACK;
\c
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id, cardinality(distil_embed(body, 'batch-tiny')) FROM docs ORDER BY id;
FETCH 3 FROM c;
FETCH BACKWARD 1 FROM c;
ROLLBACK;
\c
SELECT batches_of($$UPDATE docs SET e = distil_embed(body, 'batch-tiny')$$);
\c
PREPARE p AS SELECT count(e) FROM (SELECT distil_embed(body, 'batch-tiny') e FROM docs OFFSET 0) s;
EXECUTE p;
SELECT batches_of('EXECUTE p');
\c -reuse-previous=on "options=''"

SET client_min_messages = warning;
DROP OWNED BY regress_batch;
SELECT distil_revoke('batch-tiny', 'regress_batch');
DROP ROLE regress_batch;
DROP VIEW docs_view;
DROP FUNCTION docs_view_update(), embed_exclaimed(text), compare(text), rows_of(text, boolean), is_close(jsonb, jsonb);
DROP FUNCTION has_jit(text), batches_of(text), sort_of(text), plan_of(text), explain_keys(text, text);
DROP TABLE docs, parts, written, created, long, twice, twice_2, parallel;
SELECT distil_drop_model('batch-tiny');
