/*
 * distil--1.0.sql
 *		Every SQL object of distil, in sections that mirror src/pg/sql_*.c.
 *
 * Functions that users call go where the extension is created; tables, triggers and
 * helpers go into schema distil.  Rows of the tables are public, the right to use a model
 * is the ACL of its large object; rows are written by C code only.
 */
\echo Use "CREATE EXTENSION distil" to load this file. \quit

CREATE SCHEMA distil;
COMMENT ON SCHEMA distil IS 'tables and helpers of the extension distil';
GRANT USAGE ON SCHEMA distil TO PUBLIC;

CREATE FUNCTION distil.planner_support(internal) RETURNS internal
	LANGUAGE c AS 'MODULE_PATHNAME', 'distil_support';
COMMENT ON FUNCTION distil.planner_support IS 'loads the library while the first statement of a session is planned';

-- ---------- tables of models ----------

-- The first five columns and dtype are read by position in src/pg/model_store.c.
CREATE TABLE distil.model (
	name text COLLATE "C" PRIMARY KEY,
	weights oid NOT NULL UNIQUE,
	sha256 bytea NOT NULL CHECK (length(sha256) = 32),
	bytes bigint NOT NULL,
	is_default boolean NOT NULL DEFAULT false,
	architecture text NOT NULL,
	tasks text[] NOT NULL,
	parameters bigint NOT NULL,
	layers int NOT NULL,
	dimensions int NOT NULL,
	max_tokens int NOT NULL,
	vocabulary int NOT NULL,
	dtype text NOT NULL,
	config jsonb NOT NULL,
	teacher text,
	cosine_mean real,
	cosine_min real,
	created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX model_is_default ON distil.model (is_default) WHERE is_default;
COMMENT ON TABLE distil.model IS 'models; column weights is the large object with the container file';

CREATE TABLE distil.head (
	model text COLLATE "C" NOT NULL REFERENCES distil.model (name) ON DELETE CASCADE,
	name text COLLATE "C" NOT NULL,
	task text NOT NULL,
	labels text[] NOT NULL,
	metric jsonb,
	PRIMARY KEY (model, name)
);
COMMENT ON TABLE distil.head IS 'task heads of models';

CREATE TABLE distil.tombstone (
	name text COLLATE "C" PRIMARY KEY,
	sha256 bytea NOT NULL,
	dropped_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE distil.tombstone IS 'names of dropped models: a name never stands for other weights';

GRANT SELECT ON distil.model, distil.head, distil.tombstone TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('distil.model', '');
SELECT pg_catalog.pg_extension_config_dump('distil.head', '');
SELECT pg_catalog.pg_extension_config_dump('distil.tombstone', '');

CREATE FUNCTION distil.model_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'distil_model_changed';
CREATE FUNCTION distil.no_truncate() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'distil_no_truncate';
CREATE FUNCTION distil.local_only() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'distil_local_only';
REVOKE EXECUTE ON FUNCTION distil.model_changed(), distil.no_truncate(), distil.local_only() FROM PUBLIC;

CREATE TRIGGER model_deleted AFTER DELETE ON distil.model
	FOR EACH ROW EXECUTE FUNCTION distil.model_changed();
CREATE TRIGGER model_frozen BEFORE UPDATE ON distil.model
	FOR EACH ROW WHEN (OLD.name <> NEW.name OR OLD.weights <> NEW.weights OR OLD.sha256 <> NEW.sha256
					   OR OLD.bytes <> NEW.bytes OR OLD.config <> NEW.config)
	EXECUTE FUNCTION distil.model_changed();

-- No table takes the rows of another server by logical replication, nor hands on a TRUNCATE.
CREATE TRIGGER local_only BEFORE INSERT OR UPDATE OR DELETE ON distil.model
	FOR EACH ROW EXECUTE FUNCTION distil.local_only();
ALTER TABLE distil.model ENABLE ALWAYS TRIGGER local_only;
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON distil.model
	FOR EACH STATEMENT EXECUTE FUNCTION distil.no_truncate();
CREATE TRIGGER local_only BEFORE INSERT OR UPDATE OR DELETE ON distil.head
	FOR EACH ROW EXECUTE FUNCTION distil.local_only();
ALTER TABLE distil.head ENABLE ALWAYS TRIGGER local_only;
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON distil.head
	FOR EACH STATEMENT EXECUTE FUNCTION distil.no_truncate();
CREATE TRIGGER local_only BEFORE INSERT OR UPDATE OR DELETE ON distil.tombstone
	FOR EACH ROW EXECUTE FUNCTION distil.local_only();
ALTER TABLE distil.tombstone ENABLE ALWAYS TRIGGER local_only;
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON distil.tombstone
	FOR EACH STATEMENT EXECUTE FUNCTION distil.no_truncate();

-- ---------- models: sql_model.c ----------

CREATE FUNCTION distil_import(name text, path text, options jsonb DEFAULT '{}') RETURNS text
	LANGUAGE c AS 'MODULE_PATHNAME', 'distil_import';
COMMENT ON FUNCTION distil_import(text, text, jsonb) IS 'imports a Hugging Face model folder of the server';
CREATE FUNCTION distil_import(name text) RETURNS text
	LANGUAGE c AS 'MODULE_PATHNAME', 'distil_import_bundled';
COMMENT ON FUNCTION distil_import(text) IS 'imports a model bundled with the installation';
CREATE FUNCTION distil_import_objects(name text, objects jsonb, options jsonb DEFAULT '{}') RETURNS text
	LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_import_objects IS 'imports a model folder from large objects: {"config.json": 16401, ...}';
CREATE FUNCTION distil_create(name text, config jsonb, tokenizer_of text, seed bigint DEFAULT 0) RETURNS text
	LANGUAGE c AS 'MODULE_PATHNAME', 'distil_create_model';
COMMENT ON FUNCTION distil_create IS 'a new model from a configuration, with random weights and the tokenizer of another model';
CREATE FUNCTION distil_quantize(model text, new_name text, dtype text, options jsonb DEFAULT '{}') RETURNS text
	LANGUAGE c AS 'MODULE_PATHNAME', 'distil_quantize_model';
COMMENT ON FUNCTION distil_quantize IS 'a new model: another one with weights in bfloat16 or int8';
CREATE FUNCTION distil_config(model text) RETURNS jsonb
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_config IS 'configuration of a model';
CREATE FUNCTION distil_drop_model(name text, force boolean DEFAULT false) RETURNS void
	LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_drop_model IS 'removes a model and its weights';
CREATE FUNCTION distil_set_default(model text) RETURNS void
	LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_set_default IS 'sets the default model of the database';
CREATE FUNCTION distil_grant(model text, role text) RETURNS void
	LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_grant IS 'lets a role, or public, use a model';
CREATE FUNCTION distil_revoke(model text, role text) RETURNS void
	LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_revoke IS 'takes the right to use a model from a role, or public';

-- ---------- export: sql_export.c ----------

CREATE FUNCTION distil_export(name text, path text) RETURNS void
	LANGUAGE c AS 'MODULE_PATHNAME', 'distil_export';
COMMENT ON FUNCTION distil_export(text, text) IS 'writes a model as a Hugging Face folder on the server';
CREATE FUNCTION distil_export(name text) RETURNS TABLE (file text, content oid)
	LANGUAGE c AS 'MODULE_PATHNAME', 'distil_export_objects';
COMMENT ON FUNCTION distil_export(text) IS 'writes a model as large objects, for \lo_export';

-- ---------- looking after models: sql_check.c ----------

CREATE FUNCTION distil_verify(model text) RETURNS TABLE (item text, ok boolean, detail text)
	LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_verify IS 'checks the stored weights, the mapped copy, the tokenizer and reference outputs of a model';
CREATE FUNCTION distil_check() RETURNS TABLE (object text, problem text, fix text)
	LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_check IS 'lists rows without weights, weights without rows and other leftovers';
CREATE FUNCTION distil_cache_clear() RETURNS bigint
	LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_cache_clear IS 'removes mapped copies that no process has open; returns their bytes';
-- distil_check reads pg_largeobject; both act on files that all databases share.
REVOKE EXECUTE ON FUNCTION distil_check(), distil_cache_clear() FROM PUBLIC;

CREATE FUNCTION distil.resident(sha256 bytea) RETURNS bigint
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'distil_resident';
COMMENT ON FUNCTION distil.resident IS 'bytes of a mapped copy that are in memory';
CREATE FUNCTION distil.cache_builds() RETURNS bigint
	LANGUAGE c AS 'MODULE_PATHNAME', 'distil_cache_builds_sql';
COMMENT ON FUNCTION distil.cache_builds IS 'mapped copies this session has built';

CREATE VIEW distil_models AS
	SELECT m.name, m.is_default, m.architecture, m.tasks, m.parameters, m.layers, m.dimensions, m.max_tokens,
		m.vocabulary, m.dtype, m.bytes, pg_get_userbyid(l.lomowner) AS owner, m.created_at, m.teacher,
		m.cosine_mean, m.cosine_min, encode(m.sha256, 'hex') AS sha256, distil.resident(m.sha256) AS resident
	FROM distil.model m LEFT JOIN pg_catalog.pg_largeobject_metadata l ON l.oid = m.weights;
COMMENT ON VIEW distil_models IS 'models of this database';

CREATE VIEW distil_heads AS
	SELECT h.model || '/' || h.name AS head, h.model, h.task, h.labels, h.metric
	FROM distil.head h;
COMMENT ON VIEW distil_heads IS 'task heads of the models';

GRANT SELECT ON distil_models, distil_heads TO PUBLIC;

-- ---------- inference: sql_infer.c ----------

CREATE FUNCTION distil_embed(input text) RETURNS real[]
	LANGUAGE c STABLE STRICT PARALLEL SAFE COST 100000 SUPPORT distil.planner_support
	AS 'MODULE_PATHNAME', 'distil_embed';
COMMENT ON FUNCTION distil_embed(text) IS 'sentence embedding by the default model';
CREATE FUNCTION distil_embed(input text, model text, prompt text DEFAULT NULL) RETURNS real[]
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 100000 SUPPORT distil.planner_support
	AS 'MODULE_PATHNAME', 'distil_embed';
COMMENT ON FUNCTION distil_embed(text, text, text) IS 'sentence embedding by a model, with one of its prompts';
CREATE FUNCTION distil_embed_query(input text) RETURNS real[]
	LANGUAGE c STABLE STRICT PARALLEL SAFE COST 100000 SUPPORT distil.planner_support
	AS 'MODULE_PATHNAME', 'distil_embed_query';
COMMENT ON FUNCTION distil_embed_query(text) IS 'embedding of a search query by the default model';
CREATE FUNCTION distil_embed_query(input text, model text) RETURNS real[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100000 SUPPORT distil.planner_support
	AS 'MODULE_PATHNAME', 'distil_embed_query';
COMMENT ON FUNCTION distil_embed_query(text, text) IS 'embedding of a search query by a model';
CREATE FUNCTION distil_embed_many(inputs text[]) RETURNS SETOF real[]
	LANGUAGE c STABLE STRICT PARALLEL SAFE COST 1000000
	AS 'MODULE_PATHNAME', 'distil_embed_many';
COMMENT ON FUNCTION distil_embed_many(text[]) IS 'sentence embeddings of many texts by the default model';
CREATE FUNCTION distil_embed_many(inputs text[], model text) RETURNS SETOF real[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000
	AS 'MODULE_PATHNAME', 'distil_embed_many';
COMMENT ON FUNCTION distil_embed_many(text[], text) IS 'sentence embeddings of many texts by a model';
CREATE FUNCTION distil_similarity(a text, b text, model text DEFAULT NULL) RETURNS real
	LANGUAGE c STABLE PARALLEL SAFE COST 200000 SUPPORT distil.planner_support
	AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_similarity IS 'cosine of the embeddings of two texts';
CREATE FUNCTION distil_hidden_states(input text, model text DEFAULT NULL) RETURNS real[]
	LANGUAGE c STABLE PARALLEL SAFE COST 100000 SUPPORT distil.planner_support
	AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_hidden_states IS 'last hidden state, one row per token';
CREATE FUNCTION distil_fill_mask(input text, model text DEFAULT NULL, top_k int DEFAULT 5)
	RETURNS TABLE (token text, score real, sequence text)
	LANGUAGE c STABLE PARALLEL SAFE COST 100000 ROWS 5 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_fill_mask IS 'best tokens for the mask in a text';
-- ---------- task heads: sql_heads.c ----------

CREATE FUNCTION distil_classify(input text, head text, pair text DEFAULT NULL) RETURNS text
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 100000 SUPPORT distil.planner_support
	AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_classify IS 'best label of a text, or of a text and its pair';
CREATE FUNCTION distil_classify_scores(input text, head text, pair text DEFAULT NULL) RETURNS TABLE (label text, score real)
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 100000 ROWS 5 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_classify_scores IS 'labels of a text (and its pair) and their scores, best first';
CREATE FUNCTION distil_entities(input text, head text, aggregate text DEFAULT 'simple')
	RETURNS TABLE (entity text, score real, word text, start_pos int, end_pos int)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100000 ROWS 10 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_entities IS 'named entities of a text; aggregate: none, simple, first, average, max';
CREATE FUNCTION distil_answer(question text, context text, head text, top_k int DEFAULT 1)
	RETURNS TABLE (answer text, score real, start_pos int, end_pos int)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 200000 ROWS 1 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_answer IS 'parts of a context that answer a question, best first';
CREATE FUNCTION distil_choose(prompt text, choices text[], head text) RETURNS TABLE (choice text, score real)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 200000 ROWS 4 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_choose IS 'choices that may follow a prompt, best first';
CREATE FUNCTION distil_rerank(query text, document text, head text) RETURNS real
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 200000 SUPPORT distil.planner_support
	AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_rerank IS 'how well a document answers a query, by a cross-encoder';
CREATE FUNCTION distil_logits(input text, head text, pair text DEFAULT NULL) RETURNS real[]
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 100000 SUPPORT distil.planner_support
	AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_logits IS 'raw scores of a head';
CREATE FUNCTION distil_loss(example jsonb, head text) RETURNS real
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100000 SUPPORT distil.planner_support
	AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_loss IS 'training loss of one labelled example';

-- ---------- causal language models: sql_generate.c ----------

CREATE FUNCTION distil_generate(prompt text, model text DEFAULT NULL, max_tokens int DEFAULT 50,
		temperature real DEFAULT 0, top_k int DEFAULT 0, top_p real DEFAULT 1, seed bigint DEFAULT NULL)
	RETURNS text LANGUAGE c VOLATILE PARALLEL SAFE COST 1000000 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_generate IS 'what a model writes after a prompt';
CREATE FUNCTION distil_perplexity(input text, model text DEFAULT NULL) RETURNS double precision
	LANGUAGE c STABLE PARALLEL SAFE COST 100000 SUPPORT distil.planner_support
	AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_perplexity IS 'how surprising a text is to a causal language model';

-- ---------- tokens: sql_token.c ----------

CREATE FUNCTION distil_tokenize(input text, model text DEFAULT NULL)
	RETURNS TABLE (token_no int, id int, token text, start_pos int, end_pos int)
	LANGUAGE c STABLE PARALLEL SAFE COST 1000 ROWS 100 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_tokenize IS 'tokens of a text and where they are in it';
CREATE FUNCTION distil_token_ids(input text, model text DEFAULT NULL, pair text DEFAULT NULL) RETURNS int[]
	LANGUAGE c STABLE PARALLEL SAFE COST 1000 SUPPORT distil.planner_support AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_token_ids IS 'token ids of a text or pair, special tokens included';
CREATE FUNCTION distil_token_count(input text) RETURNS int
	LANGUAGE c STABLE STRICT PARALLEL SAFE COST 1000 SUPPORT distil.planner_support
	AS 'MODULE_PATHNAME', 'distil_token_count';
COMMENT ON FUNCTION distil_token_count(text) IS 'number of tokens for the default model';
CREATE FUNCTION distil_token_count(input text, model text) RETURNS int
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000 SUPPORT distil.planner_support
	AS 'MODULE_PATHNAME', 'distil_token_count';
COMMENT ON FUNCTION distil_token_count(text, text) IS 'number of tokens for a model';
CREATE FUNCTION distil_decode(ids int[], model text DEFAULT NULL, skip_special boolean DEFAULT true) RETURNS text
	LANGUAGE c STABLE PARALLEL SAFE COST 1000 SUPPORT distil.planner_support AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_decode IS 'text of token ids';
CREATE FUNCTION distil_chunk(input text, model text DEFAULT NULL, max_tokens int DEFAULT NULL, overlap int DEFAULT 0)
	RETURNS TABLE (chunk_no int, chunk text, start_pos int, end_pos int, tokens int)
	LANGUAGE c STABLE PARALLEL SAFE COST 1000 ROWS 10 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION distil_chunk IS 'cuts a text into pieces of at most max_tokens tokens';

-- ---------- distances: sql_vector.c ----------

CREATE FUNCTION distil_cosine(a real[], b real[]) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'distil_cosine';
CREATE FUNCTION distil_cosine(a double precision[], b double precision[]) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'distil_cosine';
CREATE FUNCTION distil_cosine(a numeric[], b numeric[]) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'distil_cosine';
CREATE FUNCTION distil_cosine(a int[], b int[]) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'distil_cosine';
COMMENT ON FUNCTION distil_cosine(real[], real[]) IS 'cosine of two vectors; null when one is zero';
COMMENT ON FUNCTION distil_cosine(double precision[], double precision[]) IS 'cosine of two vectors; null when one is zero';
COMMENT ON FUNCTION distil_cosine(numeric[], numeric[]) IS 'cosine of two vectors; null when one is zero';
COMMENT ON FUNCTION distil_cosine(int[], int[]) IS 'cosine of two vectors; null when one is zero';
CREATE FUNCTION distil_dot(a real[], b real[]) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'distil_dot';
CREATE FUNCTION distil_dot(a double precision[], b double precision[]) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'distil_dot';
CREATE FUNCTION distil_dot(a numeric[], b numeric[]) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'distil_dot';
CREATE FUNCTION distil_dot(a int[], b int[]) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'distil_dot';
COMMENT ON FUNCTION distil_dot(real[], real[]) IS 'dot product of two vectors';
COMMENT ON FUNCTION distil_dot(double precision[], double precision[]) IS 'dot product of two vectors';
COMMENT ON FUNCTION distil_dot(numeric[], numeric[]) IS 'dot product of two vectors';
COMMENT ON FUNCTION distil_dot(int[], int[]) IS 'dot product of two vectors';
CREATE FUNCTION distil_l2(a real[], b real[]) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'distil_l2';
CREATE FUNCTION distil_l2(a double precision[], b double precision[]) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'distil_l2';
CREATE FUNCTION distil_l2(a numeric[], b numeric[]) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'distil_l2';
CREATE FUNCTION distil_l2(a int[], b int[]) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'distil_l2';
COMMENT ON FUNCTION distil_l2(real[], real[]) IS 'Euclidean distance of two vectors';
COMMENT ON FUNCTION distil_l2(double precision[], double precision[]) IS 'Euclidean distance of two vectors';
COMMENT ON FUNCTION distil_l2(numeric[], numeric[]) IS 'Euclidean distance of two vectors';
COMMENT ON FUNCTION distil_l2(int[], int[]) IS 'Euclidean distance of two vectors';

-- ---------- the installation: sql_system.c ----------

CREATE FUNCTION distil.system(OUT cpu text, OUT isa text, OUT arithmetic text, OUT blas text, OUT cuda text, OUT devices text[])
	LANGUAGE c AS 'MODULE_PATHNAME', 'distil_system_row';
COMMENT ON FUNCTION distil.system IS 'what this session computes with';

CREATE VIEW distil_system AS
	SELECT (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'distil') AS version,
		s.cpu, s.isa, s.arithmetic, s.blas, s.cuda, s.devices,
		(SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.backend_type LIKE 'distil%')
			OPERATOR(pg_catalog.+) (pg_catalog.cardinality(s.devices) OPERATOR(pg_catalog.-) 1) AS workers
	FROM distil.system() s;
COMMENT ON VIEW distil_system IS 'version, CPU, libraries, devices and running workers';
GRANT SELECT ON distil_system TO PUBLIC;

-- ---------- training: sql_train.c ----------

-- One row per job, written by the extension's C code only.  Jobs are the state of this
-- server (folders, workers), so they are not dumped; the students they made are models
-- like any other.
CREATE TABLE distil.job (
	job bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	kind text NOT NULL DEFAULT 'train',
	owner oid NOT NULL,
	state text NOT NULL DEFAULT 'queued'
		CHECK (state IN ('queued', 'running', 'paused', 'done', 'failed', 'canceled')),
	request text CHECK (request IN ('cancel', 'pause')),
	teacher text NOT NULL,
	student text NOT NULL,
	corpus text NOT NULL,
	column_name text,
	method text NOT NULL,
	options text NOT NULL,
	search_path text NOT NULL,
	settings text[],
	isa text NOT NULL,
	threads integer NOT NULL,
	device text,
	attempts integer NOT NULL DEFAULT 0,
	texts bigint,
	sequences bigint,
	corpus_tokens bigint,
	fingerprint bytea,
	step bigint NOT NULL DEFAULT 0,
	steps bigint,
	epoch double precision,
	loss double precision,
	loss_ce double precision,
	loss_mlm double precision,
	loss_clm double precision,
	loss_mse double precision,
	loss_cos double precision,
	eval_loss double precision,
	learning_rate double precision,
	gradient_norm double precision,
	skipped bigint,
	tokens bigint NOT NULL DEFAULT 0,
	tokens_per_second double precision,
	eta timestamptz,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	started_at timestamptz,
	updated_at timestamptz,
	finished_at timestamptz,
	error text,
	error_code text,
	error_hint text
) WITH (fillfactor = 50);

-- A student's name can be promised to one job only.
CREATE UNIQUE INDEX job_student ON distil.job (student) WHERE state IN ('queued', 'running', 'paused');

CREATE TABLE distil.job_log (
	job bigint NOT NULL REFERENCES distil.job ON DELETE CASCADE,
	step bigint NOT NULL,
	epoch double precision,
	loss double precision,
	loss_ce double precision,
	loss_mlm double precision,
	loss_clm double precision,
	loss_mse double precision,
	loss_cos double precision,
	eval_loss double precision,
	learning_rate double precision,
	gradient_norm double precision,
	tokens bigint,
	tokens_per_second double precision,
	logged_at timestamptz NOT NULL,
	PRIMARY KEY (job, step)
);

REVOKE ALL ON distil.job, distil.job_log FROM PUBLIC;
CREATE TRIGGER local_only BEFORE INSERT OR UPDATE OR DELETE ON distil.job
	FOR EACH ROW EXECUTE FUNCTION distil.local_only();
ALTER TABLE distil.job ENABLE ALWAYS TRIGGER local_only;
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON distil.job
	FOR EACH STATEMENT EXECUTE FUNCTION distil.no_truncate();
CREATE TRIGGER local_only BEFORE INSERT OR UPDATE OR DELETE ON distil.job_log
	FOR EACH ROW EXECUTE FUNCTION distil.local_only();
ALTER TABLE distil.job_log ENABLE ALWAYS TRIGGER local_only;
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON distil.job_log
	FOR EACH STATEMENT EXECUTE FUNCTION distil.no_truncate();

-- A worker holds an advisory lock of its own class (objsubid) as long as it runs its job;
-- those of the primary are not seen on a standby.
CREATE VIEW distil_jobs WITH (security_barrier) AS
	SELECT j.job, j.kind, j.teacher, j.student, j.corpus, j.method,
		CASE WHEN j.state = 'running' AND a.pid IS NULL AND NOT pg_catalog.pg_is_in_recovery()
			THEN 'interrupted' ELSE j.state END AS state,
		COALESCE(j.device, CASE WHEN j.options::jsonb ->> 'device' = 'cuda' THEN 'cuda'
			ELSE pg_catalog.format('cpu (%s, %s threads)', j.isa, j.threads) END) AS device,
		j.step, j.steps, j.epoch, j.loss, j.loss_ce, j.loss_mlm, j.loss_clm, j.loss_mse, j.loss_cos,
		j.eval_loss, j.learning_rate, j.tokens, j.tokens_per_second,
		j.created_at, j.started_at, j.finished_at,
		CASE WHEN j.state = 'running' AND (a.pid IS NOT NULL OR pg_catalog.pg_is_in_recovery())
			THEN j.eta END AS eta,
		j.error,
		CASE WHEN j.state = 'done' THEN '[##########] 100 %'
			WHEN COALESCE(j.steps, 0) = 0 THEN '[..........] 0 %'
			ELSE pg_catalog.format('[%s%s] %s %%',
				pg_catalog.repeat('#', (10 * j.step / j.steps)::integer),
				pg_catalog.repeat('.', 10 - (10 * j.step / j.steps)::integer),
				100 * j.step / j.steps) END AS progress,
		pg_catalog.pg_get_userbyid(j.owner) AS owner, j.texts, j.sequences, j.corpus_tokens,
		j.skipped, j.column_name, j.options::jsonb AS options, a.pid
	FROM distil.job j
	LEFT JOIN (
		SELECT (l.classid::bigint << 32) | l.objid::bigint AS job, pg_catalog.min(l.pid) AS pid
		FROM pg_catalog.pg_locks l
		WHERE l.locktype = 'advisory' AND l.objsubid = 17481 AND l.granted
			AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
				WHERE d.datname = pg_catalog.current_database())
		GROUP BY 1) a ON a.job = j.job
	WHERE pg_catalog.pg_has_role(j.owner, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');

CREATE VIEW distil_job_log WITH (security_barrier) AS
	SELECT l.job, l.step, l.epoch, l.loss, l.loss_ce, l.loss_mlm, l.loss_clm, l.loss_mse, l.loss_cos,
		l.eval_loss, l.learning_rate, l.gradient_norm, l.tokens, l.tokens_per_second, l.logged_at
	FROM distil.job_log l JOIN distil.job j ON j.job = l.job
	WHERE pg_catalog.pg_has_role(j.owner, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');

GRANT SELECT ON distil_jobs, distil_job_log TO PUBLIC;

CREATE PROCEDURE distil_train(teacher text, corpus text, student text DEFAULT NULL,
		column_name text DEFAULT NULL, method text DEFAULT NULL, options jsonb DEFAULT '{}',
		wait boolean DEFAULT false)
	LANGUAGE c AS 'MODULE_PATHNAME', 'distil_train';

-- Hours of CPU are a right.
REVOKE EXECUTE ON PROCEDURE distil_train FROM PUBLIC;

CREATE PROCEDURE distil_wait(job bigint, timeout interval DEFAULT NULL)
	LANGUAGE c AS 'MODULE_PATHNAME', 'distil_wait';

CREATE PROCEDURE distil_work()
	LANGUAGE c AS 'MODULE_PATHNAME', 'distil_work';

CREATE FUNCTION distil_last_job() RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'distil_last_job';

CREATE FUNCTION distil_cancel(job bigint) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'distil_cancel';

CREATE FUNCTION distil_pause(job bigint) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'distil_pause';

CREATE FUNCTION distil_resume(job bigint) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'distil_resume';

CREATE FUNCTION distil_loss_curve(job bigint) RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'distil_loss_curve';

CREATE FUNCTION distil_token_counts(model text, corpus text, column_name text DEFAULT NULL)
	RETURNS TABLE(id integer, token text, count bigint)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'distil_token_counts';

COMMENT ON TABLE distil.job IS 'training jobs; written by the extension only';
COMMENT ON TABLE distil.job_log IS 'figures of logged training steps';
COMMENT ON VIEW distil_jobs IS 'own training jobs; all for pg_monitor';
COMMENT ON VIEW distil_job_log IS 'one row per logged training step of those jobs';
COMMENT ON PROCEDURE distil_train IS 'train a smaller student of a model on a corpus, in a background worker';
COMMENT ON PROCEDURE distil_wait IS 'wait for a training job and show its progress';
COMMENT ON PROCEDURE distil_work IS 'run the queued training jobs of this role in this session';
COMMENT ON FUNCTION distil_last_job() IS 'number of the job that this session started last';
COMMENT ON FUNCTION distil_cancel(bigint) IS 'end a training job and remove its files';
COMMENT ON FUNCTION distil_pause(bigint) IS 'stop a training job; distil_resume() goes on';
COMMENT ON FUNCTION distil_resume(bigint) IS 'go on with a paused, failed, canceled or interrupted job';
COMMENT ON FUNCTION distil_loss_curve(bigint) IS 'the logged loss of a job as an SVG picture';
COMMENT ON FUNCTION distil_token_counts(text, text, text) IS 'how often each token occurs in a corpus';
