-- DistilBatch: where it is put, that it changes no result, how many rows it takes at once.
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/batch.inc'
\i :include

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
DROP TABLE docs, parts, few, twice, twice_2, written, created, long, parallel;
SELECT distil_drop_model('batch-tiny');
