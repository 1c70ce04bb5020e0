-- DistilBatch: what is not asked for does not happen, what is happens once and in its turn.
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/batch.inc'
\i :include
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

DROP FUNCTION compare(text), rows_of(text, boolean), is_close(jsonb, jsonb), batches_of(text), plan_of(text);
DROP FUNCTION result_of(text), first_row_of(text), first_row(), first_of(), each_of(), kept_join(int), kept_join(text, int);
DROP TABLE docs, parts, few, twice, twice_2, groups, kept, probes;
DROP SEQUENCE turns;
DROP COLLATION loose;
SELECT distil_drop_model('batch-tiny');
