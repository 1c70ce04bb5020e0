-- Distances.
CREATE DATABASE distil_distance TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c distil_distance
\set VERBOSITY terse
\pset null '(null)'
CREATE EXTENSION distil;
SELECT abs(distil_cosine('{1,0}'::real[], '{1,1}'::real[]) - sqrt(0.5)) < 1e-7 AS cosine,
	distil_dot('{1,2,3}'::real[], '{4,5,6}'::real[]) AS dot, distil_l2('{1,2}'::real[], '{4,6}'::real[]) AS l2;
SELECT distil_dot('{1,2,3}'::float8[], '{4,5,6}'::float8[]) AS f8, distil_dot('{1,2,3}'::numeric[], '{4,5,6}'::numeric[]) AS num,
	distil_dot('{1,2,3}'::int[], '{4,5,6}'::int[]) AS int4;
SELECT distil_l2('{1,2}'::float8[], '{4,6}'::float8[]) AS f8, distil_l2('{1.0,2}'::numeric[], '{4,6}'::numeric[]) AS num,
	distil_l2('{1,2}'::int[], '{4,6}'::int[]) AS int4;
SELECT distil_cosine('{1,0}'::float8[], '{0,1}'::float8[]) AS f8, distil_cosine('{1,1}'::numeric[], '{2,2}'::numeric[]) > 0.999999 AS num,
	distil_cosine('{1,0}'::int[], '{-1,0}'::int[]) AS int4;
SELECT distil_cosine(ARRAY[1, 2], ARRAY[1, 2]) > 0.999999 AS literals;
-- int8 arithmetic does not overflow
SELECT distil_dot('{2147483647,2147483647}'::int[], '{2147483647,2147483647}'::int[]) > 9e18 AS ok;
-- squares beyond the type's range
SELECT abs(distil_cosine('{3e200,4e200}'::float8[], '{4e-200,3e-200}'::float8[]) - 0.96) < 1e-15 AS large,
	abs(distil_cosine('{1e-320,0}'::float8[], '{1e308,1e308}'::float8[]) - sqrt(0.5)) < 1e-15 AS small,
	distil_cosine('{0,1e200}'::float8[], '{1,-1e200}'::float8[]) = -1 AS behind;
-- a cosine that rounding would bring out of [-1, 1]
SELECT distil_cosine('{0.7,0.8,0.1}'::real[], '{0.7,0.8,0.1}'::real[]) = 1 AS f4, distil_cosine('{0.7,0.8,0.1}'::real[], '{-0.7,-0.8,-0.1}'::real[]) = -1 AS minus_f4,
	distil_cosine('{0.7,0.8,0.1}'::float8[], '{0.7,0.8,0.1}'::float8[]) = 1 AS f8, distil_cosine('{0.7,0.8,0.1}'::float8[], '{-0.7,-0.8,-0.1}'::float8[]) = -1 AS minus_f8,
	distil_cosine('{0.7,0.8,0.1}'::numeric[], '{-0.7,-0.8,-0.1}'::numeric[]) = -1 AS minus_num;
-- nor is it a number where an element is none
SELECT distil_cosine('{NaN,1}'::real[], '{1,1}'::real[]) AS f4, distil_cosine('{1,1}'::float8[], '{NaN,1}'::float8[]) AS f8,
	distil_cosine('{Infinity,1}'::real[], '{1,1}'::real[]) AS inf4, distil_cosine('{1,1}'::float8[], '{-Infinity,1}'::float8[]) AS inf8;
-- zero vectors, empty vectors, nulls
SELECT distil_cosine('{0,0}'::real[], '{1,1}'::real[]), distil_cosine('{0,0}'::int[], '{1,1}'::int[]), distil_cosine(NULL, '{1}'::real[]),
	distil_dot('{}'::real[], '{}'::real[]), distil_l2('{}'::float8[], '{}'::float8[]);
SELECT distil_cosine('{1,1}'::real[], '{0,0}'::real[]) AS f4, distil_cosine('{0,0}'::float8[], '{1,1}'::float8[]) AS f8, distil_cosine('{1,1}'::float8[], '{0,0}'::float8[]) AS second_f8,
	distil_cosine('{1,1}'::numeric[], '{0,0}'::numeric[]) AS num, distil_cosine('{}'::real[], '{}'::real[]) AS empty_f4, distil_cosine('{}'::float8[], '{}'::float8[]) AS empty_f8;
-- arrays with a bitmap of nulls that have none, and with other bounds
SELECT distil_dot(('{1,2,NULL}'::real[])[1:2], '[5:6]={3,4}'::real[]) AS f4, distil_dot(('{1,2,NULL}'::float8[])[1:2], '[5:6]={3,4}'::float8[]) AS f8,
	distil_dot(('{1,2,NULL}'::int[])[1:2], '[5:6]={3,4}'::int[]) AS int4, distil_dot(('{1,2,NULL}'::numeric[])[1:2], '[5:6]={3,4}'::numeric[]) AS num;
SELECT distil_cosine('{1,2}'::real[], '{1}'::real[]);
SELECT distil_dot('{1,2}'::real[], '{}'::real[]);
SELECT distil_l2('{1,NULL}'::real[], '{1,2}'::real[]);
SELECT distil_dot('{1,2}'::float8[], '{1,NULL}'::float8[]);
SELECT distil_l2('{{1,2}}'::real[], '{1,2}'::real[]);
SELECT distil_cosine('{1,2}'::int[], '{{1,2}}'::int[]);
SELECT distil_cosine('{1,2}', '{1,2}');
-- each function says what it is
SELECT p.oid::regprocedure AS function FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	WHERE p.pronamespace = 'public'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL ORDER BY 1;
\c regression
DROP DATABASE distil_distance;
