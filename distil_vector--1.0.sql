/*
 * distil_vector--1.0.sql
 *		Functions of distil that return pgvector's type vector.
 *
 * The bodies are parsed now and refer to both extensions' objects wherever they live, so
 * that they also work with a restricted search_path (maintenance commands, restore).
 * They are inlined: DistilBatch sees the call of distil inside.
 */
\echo Use "CREATE EXTENSION distil_vector" to load this file. \quit

DO $do$
DECLARE
	distil_schema text := (SELECT n.nspname FROM pg_catalog.pg_extension e
						   JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'distil');
	vector_schema text := (SELECT n.nspname FROM pg_catalog.pg_extension e
						   JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector');
BEGIN
	EXECUTE pg_catalog.format($f$
		CREATE FUNCTION distil_embed_vector(input text) RETURNS %2$I.vector
			LANGUAGE sql STABLE STRICT PARALLEL SAFE COST 100000
			RETURN %1$I.distil_embed(input)::%2$I.vector
	$f$, distil_schema, vector_schema);
	EXECUTE pg_catalog.format($f$
		CREATE FUNCTION distil_embed_vector(input text, model text, prompt text DEFAULT NULL) RETURNS %2$I.vector
			LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 100000
			RETURN %1$I.distil_embed(input, model, prompt)::%2$I.vector
	$f$, distil_schema, vector_schema);
	EXECUTE pg_catalog.format($f$
		CREATE FUNCTION distil_embed_query_vector(input text) RETURNS %2$I.vector
			LANGUAGE sql STABLE STRICT PARALLEL SAFE COST 100000
			RETURN %1$I.distil_embed_query(input)::%2$I.vector
	$f$, distil_schema, vector_schema);
	EXECUTE pg_catalog.format($f$
		CREATE FUNCTION distil_embed_query_vector(input text, model text) RETURNS %2$I.vector
			LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 100000
			RETURN %1$I.distil_embed_query(input, model)::%2$I.vector
	$f$, distil_schema, vector_schema);
END
$do$;
COMMENT ON FUNCTION distil_embed_vector(text) IS 'sentence embedding by the default model, as vector';
COMMENT ON FUNCTION distil_embed_vector(text, text, text) IS 'sentence embedding by a model, as vector';
COMMENT ON FUNCTION distil_embed_query_vector(text) IS 'embedding of a search query by the default model, as vector';
COMMENT ON FUNCTION distil_embed_query_vector(text, text) IS 'embedding of a search query by a model, as vector';
