-- Databases of other encodings: texts go to the model as UTF-8 and come back converted.
\getenv abs_srcdir PG_ABS_SRCDIR
\set path :abs_srcdir '/test/golden/models/bert-sentence'
CREATE DATABASE distil_latin1 TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C';
ALTER DATABASE distil_latin1 SET distil.precision = 'float32';	-- numbers are compared
\c distil_latin1
SET client_encoding = 'UTF8';
\set VERBOSITY terse
CREATE EXTENSION distil;
SELECT distil_import('tiny', :'path');
SELECT distil_token_ids('über' || chr(228)) = distil_token_ids('uber' || 'a') AS accents_stripped;
SELECT start_pos, end_pos FROM distil_tokenize('über cat') OFFSET 1;
SELECT chunk, start_pos, end_pos FROM distil_chunk('ä cat sät', max_tokens => 4);
SELECT distil_l2((distil_embed('the cat sat on the mat .'))[1:4], '{0.029001,-0.162941,-0.244109,-0.322622}') < 1e-4 AS ok;
SELECT distil_embed('a', 'nöbody');
SELECT distil_import('mödel', :'path');
SELECT distil_import('other', :'path', '{"schön": 1}');
SELECT distil_token_count('a', 'mödel') = distil_token_count('a', 'tiny') AS ok;
\c regression
CREATE DATABASE distil_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C';
ALTER DATABASE distil_ascii SET distil.precision = 'float32';	-- numbers are compared
\c distil_ascii
\set VERBOSITY terse
CREATE EXTENSION distil;
SELECT distil_import('tiny', :'path');
SELECT distil_token_ids(convert_from('\xc3bc626572', 'SQL_ASCII')) = distil_token_ids('uber') AS utf8;
SELECT distil_token_ids(convert_from('\xfc626572', 'SQL_ASCII'));
\c regression
DROP DATABASE distil_latin1;
DROP DATABASE distil_ascii;
