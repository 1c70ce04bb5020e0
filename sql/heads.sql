-- Task heads against what transformers computes (test/golden/make_heads.py): every architecture, every head.
\getenv abs_srcdir PG_ABS_SRCDIR
CREATE DATABASE distil_heads TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
ALTER DATABASE distil_heads SET distil.precision = 'float32';	-- numbers are compared
\c distil_heads
\set VERBOSITY terse
\pset null '(null)'
CREATE EXTENSION distil;
SELECT set_config('test.golden', :'abs_srcdir' || '/test/golden/', false) <> '' AS set;

\set include :abs_srcdir '/sql/import_head.inc'
\i :include

-- A float32 tensor of the goldens, its values in order.
CREATE FUNCTION golden(arch text, tensor text) RETURNS float8[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	content bytea := pg_read_binary_file(current_setting('test.golden') || 'heads-' || arch || '.goldens.safetensors');
	header int := get_byte(content, 0) + 256 * get_byte(content, 1) + 65536 * get_byte(content, 2);
	span jsonb := convert_from(substr(content, 9, header), 'UTF8')::jsonb -> tensor -> 'data_offsets';
	data bytea := substr(content, 9 + header + (span ->> 0)::int, (span ->> 1)::int - (span ->> 0)::int);
BEGIN
	RETURN (SELECT array_agg(CASE WHEN exponent = 0 THEN 0 ELSE sign * (1 + mantissa / 8388608.0::float8) * 2.0::float8 ^ (exponent - 127) END ORDER BY i)
		FROM generate_series(0, length(data) - 4, 4) i,
			LATERAL (SELECT get_byte(data, i) + 256 * get_byte(data, i + 1) + 65536 * (get_byte(data, i + 2) % 128) AS mantissa,
				2 * (get_byte(data, i + 3) % 128) + get_byte(data, i + 2) / 128 AS exponent,
				1 - 2 * (get_byte(data, i + 3) / 128) AS sign) f);
END $$;
CREATE FUNCTION facts(arch text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT pg_read_file(current_setting('test.golden') || 'heads-' || arch || '.json')::jsonb
$$;

-- As many values, none further apart than 1e-4: the promise for float32.
CREATE FUNCTION is_close(got float8[], want float8[]) RETURNS boolean LANGUAGE sql AS $$
	SELECT (SELECT count(*) FROM unnest(got)) = cardinality(want) AND bool_and(abs(g - w) < 1e-4)
		FROM ROWS FROM (unnest(got), unnest(want)) AS s (g, w)
$$;
CREATE FUNCTION softmax(logits float8[]) RETURNS float8[] LANGUAGE sql AS $$
	SELECT array_agg(e / total ORDER BY i) FROM (SELECT i, exp(x) AS e, sum(exp(x)) OVER () AS total
		FROM unnest(logits) WITH ORDINALITY AS l (x, i)) s
$$;

CREATE TABLE texts (i int, body text);
INSERT INTO texts VALUES (0, 'the cat sat on the mat .'), (1, 'A QUICK brown fox, 42 lazy dogs & the river?'),
	(2, 'training a small model to do the work of a large one takes time and data; the king and the queries of a city come '
		'from the east, where the red fox runs fast in the dark night and the dogs see it');
CREATE TABLE models (arch text, kind text, head text);
INSERT INTO models SELECT arch, kind, head
	FROM unnest(ARRAY['albert', 'bert', 'distilbert', 'roberta', 'mpnet', 'electra', 'electra-small', 'gpt2']) arch,
		(VALUES ('lm', 'lm'), ('sequence', 'classify'), ('token', 'entities'), ('question', 'answer'), ('choice', 'choose')) k (kind, head)
	WHERE arch <> 'gpt2' OR kind <> 'choice'
	UNION ALL VALUES ('bert', 'multi', 'classify'), ('bert', 'one', 'rerank'), ('bert', 'regression', 'classify');
UPDATE models SET head = import_head(arch, kind) || '/' || head;

-- heads and tasks from the architecture class
SELECT head, task, labels, metric FROM distil_heads ORDER BY head;
SELECT name, tasks FROM distil_models WHERE name LIKE 'bert%' OR name LIKE 'gpt2%' ORDER BY name;

-- a head that is only named is not there, and that is said
SELECT jsonb_object_agg(f.name, lo_from_bytea(0, pg_read_binary_file(current_setting('test.golden') || 'models/heads-bert/' || f.file))::bigint) AS objects
	FROM (VALUES ('config.json', 'question.config.json'), ('model.safetensors', 'backbone.safetensors'), ('tokenizer.json', 'tokenizer.json')) f (name, file) \gset
SELECT distil_import_objects('headless', :'objects');
SELECT count(lo_unlink(value::oid)) FROM jsonb_each_text(:'objects');
SELECT distil_drop_model('headless', true);

-- raw scores: one row for a text, or one for each token
SELECT arch, kind, count(*) AS texts,
	bool_and(is_close(distil_logits(body, head)::float8[], golden(arch, kind || '.text' || i))) AS ok
	FROM models, texts WHERE kind IN ('sequence', 'token', 'question', 'choice') OR kind = 'lm' AND i = 0 GROUP BY 1, 2 ORDER BY 1, 2;
SELECT arch, kind, is_close(distil_logits('where is the cat', head, 'the cat is on the mat')::float8[], golden(arch, kind || '.pair')) AS pair
	FROM models WHERE kind IN ('sequence', 'token', 'lm') ORDER BY 1, 2;
SELECT kind, array_dims(distil_logits(body, head)) AS dims, array_dims(distil_logits(body, head, NULL)) AS no_pair
	FROM models, texts WHERE i = 0 AND arch = 'bert' ORDER BY kind;
SELECT distil_logits('', 'gpt2-token/entities') AS no_token, distil_logits('', 'gpt2-lm/lm') AS no_token_lm;

-- classification: labels and their probabilities
SELECT arch, i, distil_classify(body, head) AS label,
	distil_classify(body, head) = ('{bad,plain,good}'::text[])[array_position(want, (SELECT max(w) FROM unnest(want) w))] AS best,
	(SELECT is_close(array_agg(score ORDER BY array_position('{bad,plain,good}', label)), softmax(want)) FROM distil_classify_scores(body, head)) AS ok,
	(SELECT array_agg(score ORDER BY ordinality) = array_agg(score ORDER BY score DESC) FROM distil_classify_scores(body, head) WITH ORDINALITY) AS sorted
	FROM models, texts, golden(arch, 'sequence.text' || i) want WHERE kind = 'sequence' ORDER BY arch, i;
-- of two texts, as those of MNLI and MRPC
SELECT arch, distil_classify('where is the cat', head, 'the cat is on the mat')
		= ('{bad,plain,good}'::text[])[array_position(want, (SELECT max(w) FROM unnest(want) w))] AS best,
	(SELECT is_close(array_agg(score ORDER BY array_position('{bad,plain,good}', label)), softmax(want))
		FROM distil_classify_scores('where is the cat', head, 'the cat is on the mat')) AS ok,
	is_close(ARRAY[distil_loss('{"text": "where is the cat", "pair": "the cat is on the mat", "label": "good"}', head)], ARRAY[-ln((softmax(want))[3])]) AS loss
	FROM models, golden(arch, 'sequence.pair') want WHERE kind = 'sequence' ORDER BY arch;
-- of a multi-label head each on its own; of a regression the value
SELECT is_close(array_agg(score ORDER BY array_position('{bad,plain,good}', label)),
	(SELECT array_agg(1 / (1 + exp(-x)) ORDER BY i) FROM unnest(golden('bert', 'sequence.text0')) WITH ORDINALITY AS g (x, i))) AS ok
	FROM texts, distil_classify_scores(body, 'bert-multi/classify') WHERE i = 0;
SELECT distil_classify(body, 'bert-multi/classify') FROM texts WHERE i = 0;
SELECT label, score = (distil_logits(body, 'bert-regression/classify'))[1] AS ok
	FROM texts, distil_classify_scores(body, 'bert-regression/classify') WHERE i = 0;
SELECT distil_classify(body, 'bert-regression/classify') FROM texts WHERE i = 0;

-- reranking: what CrossEncoder.predict gives
SELECT is_close(ARRAY[distil_rerank('where is the cat', 'the cat is on the mat', 'bert-one/rerank')], golden('bert', 'rerank')) AS ok,
	is_close(distil_logits('where is the cat', 'bert-one/rerank', 'the cat is on the mat')::float8[], golden('bert', 'one')) AS raw;

-- entities: each strategy of the pipeline
SELECT arch, strategy, count(*) AS entities,
	bool_and((w ->> 'entity', (w ->> 'start')::int, (w ->> 'end')::int) IS NOT DISTINCT FROM (g.entity, g.start_pos, g.end_pos)
		AND abs((w ->> 'score')::float8 - g.score) < 1e-4 AND g.word = substring(body, g.start_pos + 1, g.end_pos - g.start_pos)) AS ok
	FROM models, LATERAL (SELECT facts(arch) -> 'entities' AS e) f, LATERAL (SELECT e ->> 'text' AS body) t,
		unnest(ARRAY['none', 'simple', 'first', 'average', 'max']) strategy,
		ROWS FROM (jsonb_array_elements(e -> strategy), distil_entities(body, head, strategy)) AS g (w, entity, score, word, start_pos, end_pos)
	WHERE kind = 'token' GROUP BY arch, strategy ORDER BY arch, strategy;
SELECT entity, word, start_pos, end_pos FROM distil_entities((facts('bert') -> 'entities') ->> 'text', 'bert-token/entities');
SELECT entity, word, start_pos, end_pos FROM distil_entities('le café — the 東京 king', 'bert-token/entities', aggregate => 'none');
SELECT count(*) FROM distil_entities('', 'bert-token/entities');

-- answers: the rule of the manual over the logits of transformers, over several windows
SELECT arch, count(*) AS answers, bool_and(((w ->> 'start')::int, (w ->> 'end')::int) = (g.start_pos, g.end_pos)
		AND abs((w ->> 'score')::float8 - g.score) < 1e-6 + 1e-3 * g.score
		AND g.answer = substring(context, g.start_pos + 1, g.end_pos - g.start_pos)) AS ok
	FROM models, LATERAL (SELECT facts(arch) AS f) x, LATERAL (SELECT f ->> 'question' AS question, f ->> 'context' AS context) t,
		ROWS FROM (jsonb_array_elements(f -> 'answers'), distil_answer(question, context, head, top_k => 5)) AS g (w, answer, score, start_pos, end_pos)
	WHERE kind = 'question' GROUP BY arch ORDER BY arch;
SELECT answer, start_pos, end_pos FROM distil_answer('where is the dog', 'the white dog comes home', 'bert-question/answer');
SELECT count(*) FROM distil_answer('where is the dog', '', 'bert-question/answer');

-- multiple choice
SELECT arch, bool_and(abs(score - want[array_position('{the cat is on the mat,a fox,the king reads a book}', choice)]) < 1e-4) AS ok,
	array_agg(score ORDER BY ordinality) = array_agg(score ORDER BY score DESC) AS sorted, sum(score)::numeric(4, 3) AS total
	FROM models, golden(arch, 'choose.scores') want,
		distil_choose('where is the cat', '{the cat is on the mat,a fox,the king reads a book}', head) WITH ORDINALITY
	WHERE kind = 'choice' GROUP BY arch ORDER BY arch;
SELECT count(*) FROM distil_choose('where is the cat', '{}', 'bert-choice/choose');
SELECT choice FROM distil_choose('where is the cat', '{same,same}', 'bert-choice/choose');

-- writing on: the tokens transformers writes; sampling repeats with its seed
SELECT g ->> 'prompt' AS prompt, distil_generate(g ->> 'prompt', 'gpt2-lm', max_tokens => 24)
		= distil_decode(ARRAY(SELECT jsonb_array_elements_text(g -> 'ids')::int), 'gpt2-lm') AS ok
	FROM jsonb_array_elements(facts('gpt2') -> 'generate') g;
SELECT distil_generate('the cat sat on', 'gpt2-lm', 12, temperature => 2, seed => 7) = distil_generate('the cat sat on', 'gpt2-lm', 12, temperature => 2, seed => 7) AS same,
	distil_generate('the cat sat on', 'gpt2-lm', 12, temperature => 2, seed => 7) <> distil_generate('the cat sat on', 'gpt2-lm', 12, temperature => 2, seed => 8) AS other,
	distil_generate('the cat sat on', 'gpt2-lm', 12, temperature => 2, top_k => 1, seed => 3) = distil_generate('the cat sat on', 'gpt2-lm', 12) AS one_is_greedy,
	distil_generate('the cat sat on', 'gpt2-lm', 12, temperature => 2, top_p => 1e-6, seed => 3) = distil_generate('the cat sat on', 'gpt2-lm', 12) AS likeliest_is_greedy;
SELECT count(DISTINCT distil_generate(body, 'gpt2-lm', 12, temperature => 5)) > 1 AS each_call_its_own_seed
	FROM (SELECT 'the cat sat on' AS body FROM generate_series(1, 8)) s;
SELECT length(distil_generate('', 'gpt2-lm', 3)) > 0 AS from_nothing;
-- the token of byte 0, which no text holds
SELECT octet_length(distil_decode(ARRAY[id], 'gpt2-lm')) AS bytes, ascii(distil_decode(ARRAY[id], 'gpt2-lm')) AS code
	FROM generate_series(0, 400) id WHERE ascii(distil_decode(ARRAY[id], 'gpt2-lm')) = 65533 AND distil_token_ids(chr(1), 'gpt2-lm') = ARRAY[id + 1];
-- a prompt that fills the context keeps its end
SELECT distil_generate(repeat(' dog', 100) || ' the cat', 'gpt2-lm', 5) = distil_generate(repeat(' dog', 57) || ' the cat', 'gpt2-lm', 5) AS same;

-- perplexity
SELECT i, abs(distil_perplexity(body, 'gpt2-lm') / (facts('gpt2') -> 'perplexity' ->> i)::float8 - 1) < 1e-4 AS ok FROM texts ORDER BY i;
SELECT distil_perplexity('the', 'gpt2-lm') AS one_token, distil_perplexity('', 'gpt2-lm') AS none;

-- losses
SELECT arch, kind, is_close(ARRAY[distil_loss(example, head)], golden(arch, loss)) AS ok
	FROM models JOIN (VALUES
		('lm', 'loss.lm', '{"text": "the MASK sat on the mat .", "target": "the cat sat on the mat ."}'::jsonb),
		('lm', 'loss.lm.masked_only', '{"text": "the MASK sat on the mat .", "target": "the cat sat on the mat .", "masked_only": true}'),
		('sequence', 'loss.sequence', '{"text": "the cat sat on the mat .", "label": "good"}'),
		('sequence', 'loss.sequence', '{"text": "the cat sat on the mat .", "label": 2}'),
		('multi', 'loss.multi', '{"text": "the cat sat on the mat .", "label": ["bad", "good"]}'),
		('multi', 'loss.multi', '{"text": "the cat sat on the mat .", "label": [1, 0, 1]}'),
		('token', 'loss.token', '{"words": ["the", "cat", "sat", "on", "the", "mat", "."], "tags": ["O", "B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"]}'),
		('question', 'loss.question', '{"question": "where is the cat", "context": "the cat is on the mat", "start": 3, "end": 5}'),
		('choice', 'loss.choice', '{"prompt": "where is the cat", "choices": ["the cat is on the mat", "a fox", "the king reads a book"], "label": 2}')
	) AS l (k, loss, raw) ON k = kind AND arch <> 'gpt2',
	LATERAL (SELECT replace(raw::text, 'MASK', CASE WHEN arch IN ('roberta', 'mpnet') THEN '<mask>' ELSE '[MASK]' END)::jsonb AS example) e
	ORDER BY arch, kind, loss, raw;
SELECT kind, is_close(ARRAY[distil_loss(example::jsonb, head)], golden(arch, 'loss.' || kind)) AS ok
	FROM models JOIN (VALUES ('lm', '{"text": "the cat sat on the mat ."}'), ('sequence', '{"text": "the cat sat on the mat .", "label": "good"}'),
		('token', '{"words": ["the", "cat", "sat", "on", "the", "mat", "."], "tags": ["O", "B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"]}'),
		('question', '{"question": "where is the cat", "context": "the cat is on the mat", "start": 3, "end": 5}')) l (k, example) ON k = kind
	WHERE arch = 'gpt2' ORDER BY kind;
SELECT distil_loss('{"question": "where is the cat", "context": "the cat is on the mat", "answer": "on the mat"}', 'bert-question/answer')
	= distil_loss('{"question": "where is the cat", "context": "the cat is on the mat", "start": 9, "end": 11}', 'bert-question/answer') AS by_answer;
SELECT distil_loss('{"text": "the cat", "pair": null, "label": 1}', 'bert-sequence/classify') = distil_loss('{"text": "the cat", "label": 1}', 'bert-sequence/classify') AS no_pair;
SELECT abs(distil_loss('{"text": "the cat", "label": 1.5}', 'bert-regression/classify')
	- ((distil_logits('the cat', 'bert-regression/classify'))[1] - 1.5) ^ 2) < 1e-4 AS regression;

-- bare names of heads that are unique; those that are not
SELECT distil_rerank('where is the cat', 'the cat is on the mat', 'rerank') = distil_rerank('where is the cat', 'the cat is on the mat', 'bert-one/rerank') AS bare;
SELECT distil_classify('a', 'classify');
\set VERBOSITY default
SELECT distil_classify('a', 'choose');
\set VERBOSITY terse

-- NULL rules
SELECT distil_classify(NULL, 'bert-sequence/classify'), distil_classify('a', NULL), distil_rerank('a', NULL, 'rerank'), distil_rerank('a', 'b', NULL),
	distil_loss(NULL, 'bert-lm/lm'), distil_loss('{}', NULL), distil_perplexity(NULL), distil_perplexity(NULL, 'gpt2-lm'), distil_generate(NULL),
	distil_generate(NULL, 'gpt2-lm', NULL), distil_logits(NULL, 'bert-lm/lm'), distil_logits('a', NULL, 'b');
SELECT distil_classify(NULL, 'x', 'a') AS classify, distil_classify('a', 'bert-sequence/classify', NULL) = distil_classify('a', 'bert-sequence/classify') AS no_pair;
SELECT (SELECT count(*) FROM distil_classify_scores(NULL, 'x')) + (SELECT count(*) FROM distil_classify_scores('a', NULL, 'a')) AS scores, (SELECT count(*) FROM distil_entities('a', 'x', NULL)) AS entities,
	(SELECT count(*) FROM distil_answer('a', 'b', 'x', NULL)) AS answers, (SELECT count(*) FROM distil_choose('a', NULL, 'x')) AS choices;

-- declared as the manual says
SELECT proname, provolatile AS volatility, proisstrict AS strict, proparallel AS parallel, pg_get_function_arguments(oid) AS arguments
	FROM pg_proc WHERE proname IN ('distil_classify', 'distil_classify_scores', 'distil_entities', 'distil_answer', 'distil_choose', 'distil_rerank',
		'distil_generate', 'distil_perplexity', 'distil_loss', 'distil_logits', 'distil_create') ORDER BY 1;

-- DistilBatch runs the scalar ones, with the same results
CREATE TABLE docs AS SELECT i, CASE WHEN i % 7 <> 0 THEN 'the ' || (ARRAY['cat', 'dog', 'king', 'fox'])[1 + i % 4] || ' number ' || i END AS body
	FROM generate_series(1, 40) i;
ANALYZE docs;
SET max_parallel_workers_per_gather = 0;
EXPLAIN (COSTS OFF) SELECT i, distil_classify(body, 'bert-sequence/classify'), distil_rerank('the dog', body, 'bert-one/rerank'),
	distil_perplexity(body, 'gpt2-lm'), distil_logits(body, 'bert-choice/choose'), distil_loss(jsonb_build_object('text', body, 'label', 1), 'bert-sequence/classify') FROM docs;
CREATE TABLE batched AS SELECT i, distil_classify(body, 'bert-sequence/classify') AS label, distil_rerank('the dog', body, 'bert-one/rerank') AS rank,
	distil_classify(body, 'gpt2-sequence/classify', CASE WHEN i % 3 > 0 THEN 'the dog ' || i END) AS pair_label,
	distil_perplexity(body, 'gpt2-lm') AS perplexity, distil_logits(body, 'bert-choice/choose') AS logits,
	distil_loss(jsonb_build_object('text', coalesce(body, ''), 'label', 1), 'bert-sequence/classify') AS loss FROM docs;
SET distil.batch = off;
SELECT count(*) AS "rows", count(label) AS labels, bool_and(label IS NOT DISTINCT FROM distil_classify(body, 'bert-sequence/classify')) AS classify,
	bool_and(pair_label IS NOT DISTINCT FROM distil_classify(body, 'gpt2-sequence/classify', CASE WHEN i % 3 > 0 THEN 'the dog ' || i END)) AS pairs,
	bool_and((rank IS NULL) = (body IS NULL) AND coalesce(abs(rank - distil_rerank('the dog', body, 'bert-one/rerank')) < 1e-5, true)) AS rerank,
	bool_and((perplexity IS NULL) = (body IS NULL) AND coalesce(abs(perplexity - distil_perplexity(body, 'gpt2-lm')) < 1e-2, true)) AS perplexity,
	bool_and(body IS NULL OR is_close(logits, distil_logits(body, 'bert-choice/choose')::float8[])) AS logits,
	bool_and(abs(loss - distil_loss(jsonb_build_object('text', coalesce(body, ''), 'label', 1), 'bert-sequence/classify')) < 1e-5) AS loss
	FROM docs JOIN batched USING (i);
RESET distil.batch;
-- and threads share a batch of labels or perplexities
SET distil.threads = 1;
CREATE TABLE alone AS SELECT i, distil_classify(repeat(body || ' ', 4), 'gpt2-sequence/classify') AS label, distil_perplexity(body, 'gpt2-lm') AS perplexity FROM docs;
SET distil.threads = 2;
CREATE TABLE labels AS SELECT i, distil_classify(repeat(body || ' ', 4), 'gpt2-sequence/classify') AS label FROM docs;
SELECT count(*) AS threads FROM pg_ls_dir('/proc/' || pg_backend_pid() || '/task');
SET distil.threads = 3;
CREATE TABLE perplexities AS SELECT i, distil_perplexity(body, 'gpt2-lm') AS perplexity FROM docs;
SELECT count(*) AS threads FROM pg_ls_dir('/proc/' || pg_backend_pid() || '/task');
RESET distil.threads;
SELECT count(DISTINCT alone.label) > 1 AND bool_and(alone.label IS NOT DISTINCT FROM labels.label) AS labels, bool_and(alone.perplexity IS NOT DISTINCT FROM perplexities.perplexity) AS perplexities
	FROM alone JOIN labels USING (i) JOIN perplexities USING (i);
DROP TABLE alone, labels, perplexities;

-- a model from its configuration, with random weights and another model's tokenizer
SELECT distil_create('fresh', distil_config('bert-sequence') || '{"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 20}', 'bert-sequence', seed => 5);
SELECT architecture, layers, dimensions, vocabulary, max_tokens FROM distil_models WHERE name = 'fresh';
SELECT head, task, labels FROM distil_heads WHERE model = 'fresh';
SELECT distil_config('fresh') ->> 'hidden_size' AS hidden_size, distil_classify('the cat', 'fresh/classify') IN ('bad', 'plain', 'good') AS label;
SELECT distil_create('again', distil_config('fresh'), 'bert-sequence', 5);
SELECT distil_create('other', distil_config('fresh'), 'bert-sequence');
SELECT (SELECT sha256 FROM distil_models WHERE name = 'again') = sha256 AS same,
	(SELECT sha256 FROM distil_models WHERE name = 'other') <> sha256 AS another_seed FROM distil_models WHERE name = 'fresh';
SELECT bool_and(ok) FROM distil_verify('fresh');

-- every model's export is the model again: imported ones, random ones and students
-- whether a job has to wait for the end of the one before is a matter of time
SET client_min_messages = warning;
CALL distil_train('bert-lm', 'SELECT body FROM texts', 'student-triple', method => 'triple', options => '{"max_steps": 1, "batch_size": 1, "gradient_accumulation_steps": 1, "threads": 1}', wait => true);
CALL distil_train('gpt2-lm', 'SELECT body FROM texts', 'student-causal', method => 'triple', options => '{"max_steps": 1, "batch_size": 1, "gradient_accumulation_steps": 1, "threads": 1}', wait => true);
CALL distil_train('roberta-token', 'SELECT body FROM texts', 'student-embedding', method => 'embedding', options => '{"max_steps": 1, "batch_size": 2, "threads": 1}', wait => true);
RESET client_min_messages;
CREATE FUNCTION reimport(model text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	objects jsonb;
BEGIN
	SELECT jsonb_object_agg(file, content::bigint) INTO objects FROM distil_export(model);
	PERFORM distil_import_objects('re-' || model, objects);
	PERFORM lo_unlink(value::oid) FROM jsonb_each_text(objects);
	RETURN 're-' || model;
END $$;
SELECT count(reimport(name)) AS models FROM distil_models WHERE name NOT LIKE 're-%';
SELECT m.name, m.tasks = r.tasks AS tasks, distil_config(m.name) = distil_config(r.name) AS config,
	(SELECT bool_and(distil_hidden_states(body, m.name) = distil_hidden_states(body, r.name)) FROM texts) AS hidden,
	(SELECT bool_and(distil_logits(body, h.head) = distil_logits(body, 're-' || h.head)) FROM texts, distil_heads h WHERE h.model = m.name) AS logits,
	(SELECT bool_and(ok) FROM distil_verify(r.name)) AS verified
	FROM distil_models m JOIN distil_models r ON r.name = 're-' || m.name ORDER BY m.name COLLATE "C";
SELECT distil_drop_model(name) FROM distil_models WHERE name LIKE 're-%' OR name LIKE 'student-%' \g /dev/null

-- what users do wrong
\pset tuples_only on
\pset format unaligned
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
SET distil.truncation = 'error';
SELECT f || split_part(try('SELECT * FROM ' || replace(f, 'LONG', quote_literal(repeat('cat ', 700)))), ' of model', 1) FROM unnest(ARRAY[
	$$distil_classify(LONG, 'bert-sequence/classify') $$, $$distil_classify_scores(LONG, 'bert-sequence/classify') $$, $$distil_rerank('a', LONG, 'rerank') $$,
	$$distil_choose('a', ARRAY['b', LONG], 'bert-choice/choose') $$, $$distil_entities(LONG, 'bert-token/entities') $$, $$distil_logits(LONG, 'bert-token/entities') $$,
	$$distil_logits(LONG, 'bert-lm/lm') $$, $$distil_loss(jsonb_build_object('text', LONG, 'label', 1), 'bert-sequence/classify') $$,
	$$distil_fill_mask('[MASK] ' || LONG, 'bert-lm') $$, $$distil_hidden_states(LONG, 'bert-lm') $$, $$distil_perplexity(LONG, 'gpt2-lm') $$]) f;
RESET distil.truncation;
SELECT try($$SELECT distil_classify('a', 'nobody/classify')$$);
SELECT try($$SELECT distil_classify('a', 'bert-sequence/nobody')$$);
SELECT try($$SELECT distil_classify('a', 'nobody')$$);
SELECT try($$SELECT distil_classify('a', 'bert-one/rerank')$$);
SELECT try($$SELECT * FROM distil_classify_scores('a', 'bert-token/entities')$$);
SELECT try($$SELECT * FROM distil_entities('a', 'bert-sequence/classify')$$);
SELECT try($$SELECT * FROM distil_entities('a', 'bert-token/entities', 'most')$$);
SELECT try($$SELECT * FROM distil_answer('a', 'b', 'bert-choice/choose')$$);
SELECT try($$SELECT * FROM distil_answer('a', 'b', 'bert-question/answer', 0)$$);
SELECT try($$SELECT * FROM distil_answer('a', 'b', 'bert-question/answer', 1000000)$$);
SELECT try(format('SELECT * FROM distil_answer(%L, %L, %L)', repeat('cat ', 100), 'b', 'bert-question/answer'));
SELECT try($$SELECT * FROM distil_choose('a', '{b}', 'bert-question/answer')$$);
SELECT try($$SELECT * FROM distil_choose('a', '{b,NULL}', 'bert-choice/choose')$$);
SELECT try($$SELECT * FROM distil_choose('a', '{{b},{c}}', 'bert-choice/choose')$$);
SELECT try($$SELECT distil_rerank('a', 'b', 'bert-regression/classify')$$);
SELECT try($$SELECT distil_rerank('a', 'b', 'bert-lm/lm')$$);
SELECT try($$SELECT distil_classify('', 'gpt2-sequence/classify')$$);
SELECT try($$SELECT distil_logits('a', 'bert-lm/classify')$$);
SELECT try($$SELECT distil_generate('a', 'bert-lm')$$);
SELECT try($$SELECT distil_generate('a', 'gpt2-sequence')$$);
SELECT try($$SELECT distil_generate('a', 'bert-sequence')$$);
SELECT try($$SELECT distil_perplexity('a b', 'bert-sequence')$$);
SELECT try($$SELECT * FROM distil_fill_mask('[MASK]', 'gpt2-sequence')$$);
SELECT try($$SELECT distil_generate('a', 'nobody')$$);
-- a head's name where a model's is wanted, and the reverse
SELECT try($$SELECT distil_generate('a', 'gpt2-lm/lm')$$);
SELECT try($$SELECT distil_embed('a', 'bert-sequence/classify')$$);
SELECT try($$SELECT distil_embed('a', 'no/gpt2-lm/lm')$$);
SELECT try($$SELECT distil_embed('a', '/lm')$$);
SELECT try($$SELECT distil_classify('a', 'bert-sequence')$$);
SELECT try($$SELECT distil_generate('a', 'gpt2-lm', 0)$$);
SELECT try($$SELECT distil_generate('a', 'gpt2-lm', NULL)$$);
SELECT try($$SELECT distil_generate('a', 'gpt2-lm', temperature => -1)$$);
SELECT try($$SELECT distil_generate('a', 'gpt2-lm', temperature => 'NaN')$$);
SELECT try($$SELECT distil_generate('a', 'gpt2-lm', temperature => NULL)$$);
SELECT try($$SELECT distil_generate('a', 'gpt2-lm', top_k => -1)$$);
SELECT try($$SELECT distil_generate('a', 'gpt2-lm', top_p => 0)$$);
SELECT try($$SELECT distil_generate('a', 'gpt2-lm', top_p => 1.5)$$);
SELECT try($$SELECT distil_perplexity('a b', 'bert-lm')$$);
SELECT try($$SELECT * FROM distil_fill_mask('the cat', 'gpt2-lm')$$);
SELECT try($$SELECT distil_loss('[]', 'bert-sequence/classify')$$);
SELECT try($$SELECT distil_loss('1', 'bert-sequence/classify')$$);
SELECT try($$SELECT distil_loss('{}', 'bert-sequence/classify')$$);
SELECT try($$SELECT distil_loss('{"text": "a", "label": "ugly"}', 'bert-sequence/classify')$$);
SELECT try($$SELECT distil_loss('{"text": "a", "label": 3}', 'bert-sequence/classify')$$);
SELECT try($$SELECT distil_loss('{"text": "a", "label": "high"}', 'bert-regression/classify')$$);
SELECT try($$SELECT distil_loss('{"text": "a"}', 'bert-lm/lm')$$);
SELECT try($$SELECT distil_loss('{"text": "the cat", "target": "the cat sat"}', 'bert-lm/lm')$$);
SELECT try($$SELECT distil_loss('{"words": ["a"], "tags": []}', 'bert-token/entities')$$);
SELECT try($$SELECT distil_loss('{"words": ["a", "b"], "tags": ["O"]}', 'bert-token/entities')$$);
SELECT try($$SELECT distil_loss('{"question": "a", "context": "b", "answer": "c"}', 'bert-question/answer')$$);
SELECT try($$SELECT distil_loss('{"question": "a", "context": "b", "start": 0, "end": 99}', 'bert-question/answer')$$);
SELECT try($$SELECT distil_loss('{"prompt": "a", "choices": ["b"], "label": 1}', 'bert-choice/choose')$$);
SELECT try($$SELECT distil_create('fresh', '{}', 'bert-lm')$$);
SELECT try($$SELECT distil_create('a/b', '{}', 'bert-lm')$$);
SELECT try($$SELECT distil_create('m', NULL, 'bert-lm')$$);
SELECT try($$SELECT distil_create('m', '{}', NULL)$$);
SELECT try($$SELECT distil_create('m', '{}', 'bert-lm', NULL)$$);
SELECT try($$SELECT distil_create('m', '{}', 'nobody')$$);
SELECT try($$SELECT distil_create('m', '{}', 'bert-lm')$$);
SELECT try($$SELECT distil_create('m', '[1]', 'bert-lm')$$);
SELECT try($$SELECT distil_create('m', '{"model_type": "gpt9"}', 'bert-lm')$$);
SELECT try($$SELECT distil_create('m', distil_config('bert-lm') || '{"hidden_act": "wiggle"}', 'bert-lm')$$);
SELECT try($$SELECT distil_create('m', distil_config('bert-lm') || '{"vocab_size": 10}', 'bert-lm')$$);
SELECT try($$SELECT distil_create('m', distil_config('bert-lm') || '{"num_attention_heads": 5}', 'bert-lm')$$);
SET distil.max_model_size = '1MB';
SELECT try($$SELECT distil_create('m', distil_config('bert-lm') || '{"hidden_size": 512, "num_attention_heads": 8}', 'bert-lm')$$);
RESET distil.max_model_size;
SELECT try($$SET distil.truncation = error; SELECT distil_classify(repeat('cat ', 100), 'bert-sequence/classify')$$);
SELECT try($$SET distil.truncation = error; SELECT distil_generate(repeat('cat ', 100), 'gpt2-lm', 2)$$);
RESET distil.truncation;
\pset tuples_only off
\pset format aligned

-- long texts are cut with a warning; contexts of questions are not
SELECT distil_classify(repeat('cat ', 100), 'bert-sequence/classify') IS NOT NULL AS classified;
SELECT count(*) FROM distil_answer('where is the cat', repeat('the cat is on the mat . ', 100), 'bert-question/answer');
BEGIN READ ONLY;
SELECT distil_classify('the cat', 'bert-sequence/classify') IS NOT NULL AS classified;
SELECT distil_create('m', '{}', 'bert-lm');
ROLLBACK;

-- cancelled in the middle; the session goes on
SET statement_timeout = '50ms';
SELECT count(distil_classify('text ' || i, 'bert-sequence/classify')) FROM generate_series(1, 1000000) i;
SELECT count(distil_generate('the cat ' || i, 'gpt2-lm')) FROM generate_series(1, 100000) i;
SELECT count(*) FROM distil_answer('where is the cat', repeat('the cat is on the mat . ', 100000), 'bert-question/answer');
RESET statement_timeout;
SELECT distil_classify('the cat', 'bert-sequence/classify') IS NOT NULL AS classified;

-- rights: those of the model
CREATE ROLE distil_heads_user;
GRANT SELECT ON docs TO distil_heads_user;
SET ROLE distil_heads_user;
SELECT distil_classify('a', 'bert-sequence/classify');
SELECT * FROM distil_classify_scores('a', 'bert-sequence/classify');
SELECT * FROM distil_entities('a', 'bert-token/entities');
SELECT * FROM distil_answer('a', 'b', 'bert-question/answer');
SELECT * FROM distil_choose('a', '{b}', 'bert-choice/choose');
SELECT distil_rerank('a', 'b', 'rerank');
SELECT distil_logits('a', 'bert-sequence/classify');
SELECT distil_loss('{}', 'bert-sequence/classify');
SELECT distil_generate('a', 'gpt2-lm');
SELECT distil_perplexity('a', 'gpt2-lm');
SELECT distil_create('m', '{}', 'bert-lm');
SELECT distil_classify(body, 'bert-sequence/classify') FROM docs;
RESET ROLE;
SELECT distil_grant('bert-sequence', 'distil_heads_user');
SET ROLE distil_heads_user;
SELECT distil_classify('a', 'bert-sequence/classify') IS NOT NULL AS granted;
RESET ROLE;

-- the examples of the guide
SELECT distil_set_default('bert-lm');
SELECT token, id > 0 AS known FROM distil_tokenize('Hello, my dog is cute');
SELECT array_dims(distil_hidden_states('Hello, my dog is cute', 'bert-lm')) AS base_model;
SELECT count(*) AS fills FROM distil_fill_mask('The capital of France is [MASK].', 'bert-lm');
SELECT distil_loss('{"text": "The capital of France is [MASK].", "target": "The capital of France is old."}', 'bert-lm/lm') > 0 AS mlm_loss;
SELECT distil_classify('Hello, my dog is cute', 'bert-sequence/classify') = label AS best, score > 1 / 3.0 AS likely
	FROM distil_classify_scores('Hello, my dog is cute', 'bert-sequence/classify') LIMIT 1;
SELECT array_dims(distil_logits('Hello, my dog is cute', 'bert-sequence/classify')) AS logits,
	distil_loss('{"text": "Hello, my dog is cute", "label": "good"}', 'bert-sequence/classify') > 0 AS loss;
SELECT count(*), sum(score)::numeric(4, 3) FROM distil_choose('In Italy, pizza is served unsliced.',
	'{It is eaten with a fork and a knife.,It is eaten while held in the hand.}', 'bert-choice/choose');
SELECT distil_loss('{"prompt": "In Italy, pizza is served unsliced.", "choices": ["It is eaten with a fork.", "It is drunk."], "label": 0}',
	'bert-choice/choose') > 0 AS loss;
SELECT count(*) > 0 AS found FROM distil_entities('HuggingFace is a company based in Paris and New York', 'bert-token/entities');
SELECT count(*) > 0 AS found FROM distil_entities('HuggingFace is in Paris', 'bert-token/entities', aggregate => 'first');
SELECT distil_loss('{"words": ["Paris", "is", "old"], "tags": ["B-LOC", "O", "O"]}', 'bert-token/entities') > 0 AS loss;
SELECT count(*) AS answers, bool_and(answer = substring('Jim Henson was a nice puppet', start_pos + 1, end_pos - start_pos)) AS positions
	FROM distil_answer('Who was Jim Henson?', 'Jim Henson was a nice puppet', 'bert-question/answer');
SELECT array_dims(distil_logits('Who was Jim Henson?', 'bert-question/answer', 'Jim Henson was a nice puppet')) AS start_and_end,
	distil_loss('{"question": "Who was Jim Henson?", "context": "Jim Henson was a nice puppet", "answer": "a nice puppet"}', 'bert-question/answer') > 0 AS loss,
	distil_loss('{"question": "Who was Jim Henson?", "context": "Jim Henson was a nice puppet", "start": 1, "end": 3}', 'bert-question/answer') > 0 AS loss_by_tokens;
SELECT count(*) FROM (SELECT body FROM docs ORDER BY distil_rerank('restore a backup', body, 'rerank') DESC LIMIT 5) d;
SELECT distil_generate('Once upon a time', 'gpt2-lm') <> '' AS greedy,
	distil_generate('Once upon a time', 'gpt2-lm', max_tokens => 40, temperature => 0.8, top_k => 50, top_p => 0.95, seed => 1) <> '' AS sampled,
	distil_perplexity('Once upon a time', 'gpt2-lm') > 1 AS perplexity, distil_loss('{"text": "Once upon a time"}', 'gpt2-lm/lm') > 0 AS loss;
SELECT distil_create('small', distil_config('bert-lm') || '{"num_hidden_layers": 3}', tokenizer_of => 'bert-lm');
SELECT distil_config('small') -> 'num_hidden_layers' AS layers;
\c regression
DROP DATABASE distil_heads;
DROP ROLE distil_heads_user;
