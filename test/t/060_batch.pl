# Random queries give the same rows and fail at the same row with and without DistilBatch; beside other planner hooks, over foreign tables.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

my $seed = $ENV{DISTIL_BATCH_SEED} // 1;
my $count = $ENV{DISTIL_BATCH_QUERIES} // 100;
srand($seed);

sub one { return $_[ int(rand(scalar @_)) ]; }
sub chance { return rand() < $_[0]; }

# ---- expressions over a row of docs or parts named $t ----

sub text_of
{
	my ($t, $depth) = @_;
	return one("$t.body", "$t.body", "$t.body", "$t.body || '!'", "upper($t.body)", "$t.body || $t.n", "left($t.body, 5)") if $depth <= 0 || chance(0.6);
	return one("$t.body || 12 / ($t.n + 1)", "CASE WHEN $t.n > 3 THEN $t.body END", "coalesce($t.body, 'none')",
		'distil_decode(distil_token_ids(' . text_of($t, $depth - 1) . '))', 'upper(' . text_of($t, $depth - 1) . ')',
		'(' . number_of($t, $depth - 1) . ')::text', "(SELECT max(p.body) FROM parts p WHERE p.id = $t.id)");
}

sub call_of
{
	my ($t, $depth) = @_;
	my $text = text_of($t, $depth - 1);
	return one("distil_token_count($text)", "distil_token_count($text)", "distil_token_count($text, 'm')", "distil_token_count($text, $t.m)",
		"cardinality(distil_token_ids($text))", "round((distil_embed($text))[2]::numeric, 2)::float8", "cardinality(distil_embed($text, $t.m))",
		"round(distil_similarity($text, " . text_of($t, $depth - 1) . ')::numeric, 2)::float8', "cardinality(distil_embed_query($text, 'm'))",
		"length(distil_classify($text, 'c/classify'))", "array_length(distil_logits($text, 'c/classify'), 1)",
		"array_length(distil_hidden_states($text), 1)");
}

sub number_of
{
	my ($t, $depth) = @_;
	return one("$t.n", "$t.id", call_of($t, 0)) if $depth <= 0;
	return call_of($t, $depth) if chance(0.6);
	my $call = number_of($t, $depth - 1);
	return one("$call + $t.n", "coalesce($call, 0)", "CASE WHEN $t.n > 2 THEN $call END", "12 / ($t.n + 1) + $call", "greatest($call, 3)",
		"nullif($call, 4)", "(ARRAY[$call, $t.n])[$t.n % 2 + 1]", "abs(-$call)", "($call IS NULL)::int", "length(ROW($call, $t.id)::text)");
}

sub condition_of
{
	my ($t, $depth) = @_;
	my $number = number_of($t, $depth);
	return one("$number > 3", "$number IS NOT NULL", "$t.n > 1", "12 / ($t.n + 1) > 0", "($number > 4 OR $t.n = 1)", "NOT ($number = 5)",
		"$t.body LIKE '%a%'", "$t.id BETWEEN 3 AND 50", "$number " . one('IN', 'NOT IN') . " (SELECT " . number_of('i', 0) . ' FROM parts i ' . one('', 'WHERE i.n > 7') . ')');
}

sub where_of
{
	my ($t) = @_;
	my @conditions = map { condition_of($t, 1) } 1 .. int(rand(4));
	return @conditions ? 'WHERE ' . join(' AND ', @conditions) : '';
}

# An order in which equal rows are the same, or none.
sub tail_of
{
	my ($columns) = @_;
	my $tail = chance(0.4) ? 'ORDER BY ' . ($columns == 2 ? one('1, 2', '2 DESC, 1') : one('1, 2, 3', '2, 1, 3', '3 DESC, 1, 2')) : '';
	$tail .= one('', '', ' LIMIT 5', ' LIMIT 20', ' LIMIT 3 OFFSET 10', ' LIMIT (SELECT 4)', ' FETCH FIRST 4 ROWS WITH TIES') if $tail ne '';
	$tail .= one('', '', '', ' LIMIT 7', ' OFFSET 5', ' LIMIT (SELECT 6)') if $tail eq '';
	return $tail;
}

my $from = 0;
my $major;

# A table expression and the name of a row of it with the columns id, body, n, m.
sub from_of
{
	my ($depth) = @_;
	my $t = 't' . ++$from;
	my $u = 't' . ++$from;
	return ("docs $t", $t) if $depth <= 0 || chance(0.4);
	return one(
		sub { return ("parts $t", $t); },
		sub { return ("docs $t JOIN parts $u USING (id)", $u) if chance(0.3); return ("docs $t JOIN parts $u ON $t.id = $u.id + 1 AND " . condition_of($u, 1), $t); },
		sub { return ("docs $t " . one('JOIN', 'JOIN', 'LEFT JOIN', 'RIGHT JOIN', 'FULL JOIN') . " parts $u ON " . number_of($t, 1) . ' = ' . number_of($u, 1) . one('', " AND $t.n = $u.n"), one($t, $u)); },
		sub { return ("(SELECT * FROM docs WHERE n = " . int(rand(8)) . ") $t JOIN parts $u ON " . call_of($t, 1) . " = $u.n + " . one(0, 3, -9), one($t, $u)); },
		sub { return ("docs $t LEFT JOIN (SELECT id, " . number_of('p', 1) . " AS x FROM parts p) $u ON $t.id = $u.id", $t); },
		sub { return ("docs $t JOIN LATERAL (SELECT " . number_of($t, 1) . " AS x) $u ON true", $t); },
		sub { return ("(SELECT * FROM docs d " . where_of('d') . " OFFSET 0) $t", $t); },
		sub { return ("(SELECT id, body, n, m FROM docs UNION ALL SELECT id, body, n, m FROM parts) $t", $t); },
		sub { return ("(SELECT max(id) AS id, max(body) AS body, n, max(m) AS m FROM docs GROUP BY n HAVING " . call_of('docs', 0) =~ s/docs\.(body|id|m)/max(docs.$1)/gr . " > 3) $t", $t); },
	)->();
}

sub query
{
	my ($source, $t) = from_of(1);
	my $form = one(qw(plain plain plain plain aggregate group window exists distinct cte));
	my $where = where_of($t);
	my $a = number_of($t, 2);
	my $b = number_of($t, 1);
	return "SELECT $t.id, $a AS a, $b AS b FROM $source $where " . tail_of(3) if $form eq 'plain';
	return "SELECT count(*), sum(($a)::numeric) AS a, max($b) FILTER (WHERE $t.n > 2) AS b, array_agg($b ORDER BY $t.id) AS c FROM $source $where" if $form eq 'aggregate';
	return "SELECT $t.n AS a, max($a) AS b, count(DISTINCT $b) AS c FROM $source $where GROUP BY 1 HAVING max($b) > 2 " . tail_of(3) if $form eq 'group';
	return "SELECT $t.id, sum($a) OVER (PARTITION BY $t.n ORDER BY $t.id) AS a, lag($b) OVER (ORDER BY $t.id) AS b FROM $source $where " . tail_of(3) if $form eq 'window';
	return "SELECT $t.id, $b AS b FROM $source WHERE EXISTS (SELECT FROM parts e WHERE e.id > $t.id AND " . condition_of('e', 1) . ') ' . tail_of(2) if $form eq 'exists';
	return "SELECT DISTINCT $a AS a, $b AS b FROM $source $where " . tail_of(2) if $form eq 'distinct';
	return "WITH w AS MATERIALIZED (SELECT $t.id, $a AS a FROM $source $where) SELECT x.id, x.a, y.a AS b FROM w x JOIN w y ON x.id = y.id + 1 " . tail_of(3);
}

# A row that a statement writes, as RETURNING names it.
sub written { return $major >= 18 ? one($_[0], 'old', 'new') : $_[0]; }

sub write_query
{
	my $a = number_of('docs', 2);
	my $where = where_of('docs');
	my $returning = 'RETURNING docs.id, ' . number_of(written('docs'), 1) . ' AS a, ' . number_of(written('docs'), 2) . ' AS b';
	return one(
		"UPDATE docs SET n = $a $where $returning",
		"UPDATE docs SET n = s.a FROM (SELECT id, " . number_of('p', 1) . " AS a FROM parts p) s WHERE s.id = docs.id + 1 $returning",
		"DELETE FROM docs $where $returning",
		"INSERT INTO docs VALUES (1001, 'a', distil_token_count('a'), 'm'), (1002, 'b c', distil_token_count(" . one("'b c'", 'NULL', "'b' || 'c'") . "), 'm') $returning",
		"INSERT INTO docs SELECT 1000 + p.id, p.body, " . number_of('p', 1) . ", p.m FROM parts p " . where_of('p') . " $returning",
		"MERGE INTO " . one('docs', 'parts') . " m USING (SELECT * FROM docs s " . where_of('s') . ") s ON m.id = s.id + " . one(0, 3) . ' ' .
			one('WHEN MATCHED THEN UPDATE SET n = ' . number_of('s', 1), 'WHEN MATCHED AND s.n > 2 THEN UPDATE SET n = ' . number_of('s', 1) . ' WHEN MATCHED THEN DELETE', '') .
			' WHEN NOT MATCHED THEN INSERT VALUES (s.id + 100, s.body, ' . number_of('s', 1) . ", 'm')" .
			($major >= 17 ? one('', ' WHEN NOT MATCHED BY SOURCE THEN DELETE', ' WHEN NOT MATCHED BY SOURCE AND m.n > 1 THEN UPDATE SET n = ' . number_of('m', 1)) .
				one('', ' RETURNING merge_action() AS action, m.id, ' . number_of(one('s', written('m')), 1) . ' AS a') : ''),
		"UPDATE parts SET n = " . number_of('parts', 1) . ' ' . where_of('parts') . ' RETURNING parts.id, ' . number_of(written('parts'), 1) . ' AS a');
}

# ---- the server: other planner and executor hooks loaded before and after ----

my $node = new_node('batch', conf => <<'CONF');
shared_preload_libraries = 'pg_stat_statements'
compute_query_id = on
CONF
$major = int($node->safe_psql('postgres', 'SHOW server_version_num') / 10000);
my $m = model_path('bert-sentence');
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION pg_stat_statements;
SELECT distil_import('m', '$m');
SELECT distil_create('c', distil_config('m') || '{"architectures": ["BertForSequenceClassification"], "problem_type": "single_label_classification",
  "id2label": {"0": "one", "1": "twelve", "2": "three"}}', tokenizer_of => 'm', seed => 3);
CREATE TABLE docs (id int PRIMARY KEY, body text, n int, m text);
INSERT INTO docs SELECT i, CASE WHEN i % 13 <> 0 THEN 'doc ' || i % 17 || repeat(' and more', i % 5) END, i % 6, CASE WHEN i = 53 THEN 'none' WHEN i % 11 <> 0 THEN 'm' END
  FROM generate_series(1, 60) i;
CREATE TABLE parts (LIKE docs) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (20);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (20) TO (2000);
INSERT INTO parts SELECT id, body || '?', (n + 1) % 6, m FROM docs;
ANALYZE;

-- Rows up to an error, in a cursor at most `stop`; what a statement writes is undone.
CREATE FUNCTION outcome(query text, mode text, stop int, batch boolean, OUT rows jsonb, OUT failure text) LANGUAGE plpgsql AS \$\$
DECLARE
  c refcursor;
  r record;
BEGIN
  rows := '[]';
  PERFORM set_config('distil.batch', batch::text, true);
  BEGIN
    IF mode = 'cursor' THEN
      OPEN c NO SCROLL FOR EXECUTE query;
      WHILE jsonb_array_length(rows) < stop LOOP
        FETCH c INTO r;
        EXIT WHEN NOT FOUND;
        rows := rows || jsonb_build_array(to_jsonb(r));
      END LOOP;
    ELSIF mode = 'write' THEN
      IF query LIKE 'MERGE%' AND query NOT LIKE '%RETURNING%' THEN
        EXECUTE query;
      ELSE
        EXECUTE format('WITH w AS (%s) SELECT jsonb_agg(to_jsonb(w)) FROM w', query) INTO rows;
      END IF;
      rows := rows || (SELECT jsonb_agg(to_jsonb(d) ORDER BY id) FROM docs d) || (SELECT jsonb_agg(to_jsonb(p) ORDER BY id) FROM parts p);
    ELSE
      EXECUTE format('SELECT jsonb_agg(to_jsonb(q) ORDER BY to_jsonb(q)) FROM (%s) q', query) INTO rows;	-- workers give them in any order
    END IF;
    RAISE EXCEPTION 'undo';
  EXCEPTION WHEN OTHERS THEN
    failure := nullif(SQLERRM, 'undo');
  END;
END \$\$;

-- NULL, or how the outcomes with and without DistilBatch differ; which error comes first in a row is left open.
CREATE FUNCTION difference(query text, mode text, stop int) RETURNS text LANGUAGE sql AS \$\$
  SELECT CASE WHEN (a.failure IS NULL) <> (b.failure IS NULL) OR a.rows IS DISTINCT FROM b.rows
              THEN format(E'%s: %s\\nbatch %s %s\\nrow by row %s %s', mode, query, a.failure, left(a.rows::text, 2000), b.failure, left(b.rows::text, 2000)) END
    FROM outcome(query, mode, stop, true) a, outcome(query, mode, stop, false) b
\$\$;

CREATE FUNCTION batched(query text) RETURNS boolean LANGUAGE plpgsql AS \$\$
DECLARE
  plan text;
BEGIN
  EXECUTE 'EXPLAIN (VERBOSE, FORMAT JSON) ' || query INTO plan;
  RETURN plan LIKE '%DistilBatch%';
END \$\$;
SQL

my $settings = "SET distil.default_model = 'm'; SET client_min_messages = error; LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on;\n";
my $script = $settings . "SELECT 1 FROM (SELECT count(distil_embed(body)) FROM docs) s WHERE count = 0;\n";
for my $i (1 .. $count)
{
	my $query = chance(0.25) ? write_query() : query();
	my @modes = $query =~ /RETURNING|^MERGE/ ? ('write') : ('cursor', 'all');
	my $set = one('', '', 'SET enable_hashagg = off; SET enable_hashjoin = off;', 'SET enable_nestloop = off;', 'SET enable_nestloop = off; SET enable_mergejoin = off;', 'SET distil.batch_rows = 3;', 'SET enable_sort = off;');
	# nor do workers give the same rows to a LIMIT without an order
	$set .= ' SET max_parallel_workers_per_gather = 0;' if $query =~ /LIMIT|OFFSET|FETCH FIRST/;
	$script .= "$set\n" if $set;
	my $literal = $query =~ s/'/''/gr;
	for my $mode (@modes)
	{
		my $stop = one(1, 4, 12, 100);
		$script .= "SELECT difference('$literal', '$mode', $stop);\n";
	}
	$script .= "SELECT 'batched' WHERE batched('$literal');\n";
	$script .= "RESET enable_hashagg; RESET enable_hashjoin; RESET enable_nestloop; RESET enable_mergejoin; RESET enable_sort; RESET distil.batch_rows; RESET max_parallel_workers_per_gather;\n" if $set;
}
my ($code, $out, $err) = quiet_psql($node, $script, on_error_stop => 0);
is($code, 0, "$count random queries (seed $seed) run");
is($err, '', 'all of them are valid');
my $batched = () = $out =~ /^batched$/mg;
cmp_ok($batched, '>', $count / 2, "most are batched ($batched of $count)");
my $differences = join("\n", grep { $_ ne '' && $_ ne 'batched' } split /\n/, $out);
is($differences, '', 'none differs from its row-by-row form');

# A hash join without rows on the other side computes no key, and no error comes of one.
my $keys = "SET enable_nestloop = off; SET enable_mergejoin = off;\n";
my $join = 'FROM docs JOIN parts p ON distil_token_count(docs.body, docs.m) = p.n WHERE docs.id = 53';
($code, $out, $err) = quiet_psql($node, "$settings$keys SELECT batched('SELECT p.id $join'); SELECT count(*) $join AND p.n > 7;\n", on_error_stop => 0);
is($out, "t\n0", 'no key is computed for a hash join without rows on the other side');
like($err, qr/^$/, 'nor fails');

SKIP:
{
	skip 'MERGE ... WHEN NOT MATCHED BY SOURCE comes with PostgreSQL 17', 1 if $major < 17;
	my $merge = "MERGE INTO parts m USING docs s ON m.id = s.id + 30 WHEN NOT MATCHED BY SOURCE THEN DELETE " .
		"WHEN NOT MATCHED THEN INSERT VALUES (s.id + 100, s.body, distil_token_count(s.body), ''m'')";
	is($node->safe_psql('postgres', "${settings}SELECT batched('$merge'), difference('$merge', 'write', 1) IS NULL"), 't|t',
		'inserts of a MERGE are batched beside actions for rows of the target alone');
}

# Foreign tables: a scan is read ahead, but not what the other server joins or what is asked for beside other scans.
my ($host, $port) = ($node->host, $node->port);
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION postgres_fdw;
CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'postgres');
CREATE USER MAPPING FOR CURRENT_USER SERVER self;
CREATE FOREIGN TABLE far (id int, body text, n int, m text) SERVER self OPTIONS (table_name 'docs');
CREATE TABLE halves (LIKE docs) PARTITION BY RANGE (id);
CREATE FOREIGN TABLE halves_1 PARTITION OF halves FOR VALUES FROM (0) TO (20) SERVER self OPTIONS (table_name 'parts_1', async_capable 'true');
CREATE FOREIGN TABLE halves_2 PARTITION OF halves FOR VALUES FROM (20) TO (2000) SERVER self OPTIONS (table_name 'parts_2', async_capable 'true');
SQL
for my $case (
	[ 'SELECT id, distil_token_count(body, m) AS n FROM far', 'cursor', 't' ],
	[ 'SELECT id FROM far WHERE distil_token_count(body) > 4', 'all', 't' ],
	[ 'SELECT a.id, distil_token_count(b.body) AS n FROM far a JOIN far b ON a.n = b.n AND a.id < 9', 'all', 'f' ],
	[ 'SELECT id, distil_token_count(body) AS n FROM halves', 'all', 'f' ],
	[ 'UPDATE far SET n = n + 1 RETURNING id, distil_token_count(body) AS t', 'write', 't' ],
	[ 'UPDATE far SET n = distil_token_count(body) RETURNING id', 'write', 't' ],
	[ 'DELETE FROM far WHERE distil_token_count(body) > 4 RETURNING id, distil_token_count(body) AS t', 'write', 't' ])
{
	my ($query, $mode, $expected) = @$case;
	is($node->safe_psql('postgres', "$settings$keys SET enable_hashjoin = off; SELECT batched('$query'), difference('$query', '$mode', 100) IS NULL"), "$expected|t", $query);
}

# The hooks of others saw the same statements.
like($node->safe_psql('postgres', "SELECT max(calls) FROM pg_stat_statements WHERE query LIKE 'SELECT difference%'"), qr/^\d+$/, 'pg_stat_statements counts them');
ok(slurp_file($node->logfile) =~ /Custom Scan \(DistilBatch\)/, 'auto_explain shows the nodes');

# PERFORM is no cursor, whose rows may not all be asked for.
$node->safe_psql('postgres', "${settings}SET auto_explain.log_nested_statements = on; DO \$\$ BEGIN PERFORM distil_token_count(substr(body, 1, length(body))) FROM docs; END \$\$");
ok(slurp_file($node->logfile) =~ /SELECT distil_token_count\(substr\(body, 1, length\(body\)\)\) FROM docs\s+Custom Scan \(DistilBatch\)/, 'PERFORM is batched');

done_testing();
