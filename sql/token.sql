-- Token functions: ids and offsets as the tokenizers library, chunks by their rules.
\getenv abs_srcdir PG_ABS_SRCDIR
CREATE DATABASE distil_token TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c distil_token
\set VERBOSITY terse
\pset null '(null)'
CREATE EXTENSION distil;
\set path :abs_srcdir '/test/golden/models/bert-sentence'
SELECT distil_import('tiny', :'path');
SELECT distil_import('plain', :'path', '{"parse_special": false}');

SELECT distil_token_ids('the cat sat on the mat .') = '{2,122,154,158,129,122,157,18,3}' AS ok,
	distil_token_ids('where is the cat', pair => 'the cat is on the mat') = '{2,199,131,122,154,3,122,154,131,129,122,157,3}' AS pair;
SELECT * FROM distil_tokenize('The cat, über-cat!');
SELECT substring('The cat, über-cat!', start_pos + 1, end_pos - start_pos) AS span, token FROM distil_tokenize('The cat, über-cat!');
SELECT distil_token_count('the cat'), distil_token_count('the cat', 'tiny'), distil_token_count(''), distil_token_count(NULL),
	distil_token_count('a', NULL);
SELECT distil_decode(distil_token_ids('The CAT sat.')), distil_decode(distil_token_ids('The CAT sat.'), skip_special => false),
	distil_decode('{}'), distil_decode(NULL);
-- special tokens in a text
SELECT distil_token_ids('the [MASK]') = '{2,122,4,3}' AS parsed, distil_token_count('the [MASK]', 'plain') > 4 AS as_text;
-- never truncated
SELECT distil_token_count(repeat('cat ', 1000));
-- a query that counts tokens opens no device
SELECT count(*), sum(distil_token_count('the cat ' || i)) > 0 AS ok FROM generate_series(1, 100) i;

-- chunks
SELECT * FROM distil_chunk('the cat sat on the mat . the cat sat on the river .', max_tokens => 8);
SELECT * FROM distil_chunk('the cat sat on the mat . the cat sat on the river .', max_tokens => 8, overlap => 2);
SELECT count(*), bool_and(tokens = distil_token_count(chunk) AND tokens <= 8) AS tokens,
	bool_and(chunk = substring(body, start_pos + 1, end_pos - start_pos)) AS text
	FROM (SELECT repeat('the Cat-sat on über mats, ', 40) AS body) b, distil_chunk(body, max_tokens => 8);
SELECT count(*), max(tokens) <= 64 AS fits FROM distil_chunk(repeat('the cat ', 200));
SELECT count(*) FROM distil_chunk('');
SELECT count(*) FROM distil_chunk(NULL);
\c regression
DROP DATABASE distil_token;
