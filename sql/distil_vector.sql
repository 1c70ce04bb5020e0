-- The bridge to pgvector: only where pgvector is installed.
\getenv abs_srcdir PG_ABS_SRCDIR
CREATE DATABASE distil_vector TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c distil_vector
\set VERBOSITY terse
-- the three extensions in schemas of their own, none of them on the search path of the functions' users
CREATE SCHEMA d;
CREATE SCHEMA v;
CREATE SCHEMA dv;
CREATE EXTENSION distil SCHEMA d;
CREATE EXTENSION vector SCHEMA v;
CREATE EXTENSION distil_vector SCHEMA dv;
SET search_path = public, d, v, dv;
\set path :abs_srcdir '/test/golden/models/bert-sentence'
SELECT distil_import('sentence', :'path');
CREATE TABLE docs (id int, body text, e vector(24));
INSERT INTO docs (id, body) SELECT i, 'the cat sat on mat ' || i FROM generate_series(1, 40) i;
-- real[] goes into a vector column by itself, and the functions give the same (1e-6: alone or in a batch, on any CPU)
UPDATE docs SET e = distil_embed(body);
SELECT count(*) FROM docs WHERE e <-> distil_embed_vector(body) < 1e-6 AND e <-> distil_embed_vector(body, 'sentence') < 1e-6;
SELECT count(*) FROM docs WHERE distil_embed_query_vector(body) <-> distil_embed_query(body, 'sentence')::vector < 1e-6
	AND distil_embed_query_vector(body, 'sentence') <-> distil_embed_query(body)::vector < 1e-6;
SELECT distil_embed_vector(NULL) IS NULL AS null_in, distil_embed_vector('x', 'sentence', 'query') = distil_embed_query_vector('x') AS prompt;
-- inlined: the node sees the call inside, and the search query needs no cast
EXPLAIN (COSTS OFF) SELECT distil_embed_vector(body) FROM docs;
CREATE INDEX ON docs USING hnsw (e vector_cosine_ops);
SELECT body FROM docs ORDER BY e <=> distil_embed_vector('the cat sat on mat 7') LIMIT 1;
-- works where the search path is restricted, as in maintenance commands and restores
SET search_path = pg_catalog;
SELECT v.l2_distance(public.docs.e, dv.distil_embed_vector(body)) < 1e-6 AS same FROM public.docs WHERE id = 3;
\c regression
DROP DATABASE distil_vector;
