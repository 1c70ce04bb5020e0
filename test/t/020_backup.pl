# Models go where the data goes: dump and restore, base backup, standby, promotion; nothing leaks.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

my $node = new_node('primary', allows_streaming => 1, conf => "log_min_messages = debug1\n");
my $path = model_path('bert-sentence');
$node->safe_psql('postgres', "SELECT distil_import('m', '$path')");
$node->safe_psql('postgres',
	"CREATE TABLE docs AS SELECT i AS id, 'text number ' || i AS body FROM generate_series(1, 20) i");
$node->safe_psql('postgres', "ALTER TABLE docs ADD e real[]; UPDATE docs SET e = distil_embed(body)");
my $vector = "SELECT md5(array_agg(distil_embed(body) ORDER BY id)::text) FROM docs";
my $expected = $node->safe_psql('postgres', $vector);

# base backup and standby
$node->backup('base');
ok(!-e $node->backup_dir . '/base/pgsql_tmp_distil', 'a base backup leaves the mapped copies out');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $vector), $expected, 'a standby gives the same vectors');
my ($code, $out, $err) = quiet_psql($standby, "SELECT distil_import('x', '$path')", extra_params => ['-v', 'VERBOSITY=sqlstate']);
like($err, qr/25006/, 'importing on a standby is refused as read-only');
my $rows = "SELECT distil_token_count('text', CASE n WHEN 3 THEN 'none' ELSE 'm' END) > 0 FROM generate_series(1, 9) n";
my $cursor = "DECLARE c CURSOR FOR $rows";
like($standby->safe_psql('postgres', "EXPLAIN $cursor"), qr/DistilBatch/, 'a cursor is batched on a standby');
($code, $out, $err) = quiet_psql($standby, "BEGIN; $cursor; FETCH 2 FROM c; FETCH 1 FROM c;");
is($out, "t\nt", 'a row that is not asked for does not fail there');
like($err, qr/model "none" does not exist/, 'one that is asked for does');
my @files = glob($standby->data_dir . '/pgsql_tmp_distil/*');
ok(@files > 0, 'the standby made its own mapped copy');

# jobs of the primary, seen from the standby
$node->safe_psql('postgres', "CREATE ROLE nobody; INSERT INTO distil.job (owner, teacher, student, corpus, method, options, search_path, isa, threads, state)
	SELECT 'nobody'::regrole, 'm', s, 'docs', 'embedding', '{}', '', '', 1, s FROM unnest(ARRAY['queued', 'running']) s");
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', "SELECT string_agg(state, ' ' ORDER BY job) FROM distil_jobs"), 'queued running',
	'a standby does not call a job of the primary interrupted');
for my $state ('queued', 'running')
{
	my $job = $standby->safe_psql('postgres', "SELECT job FROM distil_jobs WHERE state = '$state'");
	($code, $out, $err) = quiet_psql($standby, "CALL distil_wait($job, '4 seconds')");
	is($code, 0, "a standby waits for a $state job");
	like($err, qr/job $job goes on, the time to wait is over/, 'and does not call it lost');
}
unlike(slurp_file($standby->logfile), qr/registering background worker "distil job/, 'and starts no worker');
is($node->safe_psql('postgres', 'SELECT state FROM distil_jobs ORDER BY job DESC LIMIT 1'), 'interrupted', 'the primary does');
$node->safe_psql('postgres', 'DELETE FROM distil.job; DROP ROLE nobody');
$node->wait_for_catchup($standby);
$standby->promote;
is($standby->safe_psql('postgres', "SELECT distil_drop_model('m'); SELECT count(*) FROM pg_largeobject_metadata"), "\n0",
	'a promoted standby can drop a model');
$standby->stop;

# dump and restore
my $dump = $node->backup_dir . '/dump';
$node->safe_psql('postgres', "CREATE ROLE reader; SELECT distil_grant('m', 'reader')");
$node->safe_psql('postgres', "CREATE INDEX nearest ON docs (distil_cosine(distil_embed(body, 'm'), distil_embed('text', 'm')))");
$node->command_ok([ 'pg_dump', '-Fc', '-Z0', '-f', $dump, '-d', $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('copy'), $dump ], 'pg_restore');
is($node->safe_psql('copy', $vector), $expected, 'a restored database gives the same vectors');
is($node->safe_psql('copy', "SET enable_seqscan = off; SELECT count(*) FROM docs "
		. "WHERE distil_cosine(distil_embed(body, 'm'), distil_embed('text', 'm')) > 0"),
	$node->safe_psql('postgres', "SELECT count(*) FROM docs WHERE distil_cosine(e, distil_embed('text', 'm')) > 0"),
	'an index over a model is made again');
is($node->safe_psql('copy', "SELECT bool_and(ok) FROM distil_verify('m')"), 't', 'a restored model verifies');
is($node->safe_psql('copy', "SELECT name || is_default FROM distil_models"), 'mtrue', 'the default model is restored');
is( $node->safe_psql('copy', "SET ROLE reader; SELECT cardinality(distil_embed('x', 'm')) > 0"),
	't', 'rights on the model are restored');
$node->safe_psql('copy', 'SELECT * FROM distil_check()');
$node->safe_psql('copy', 'DROP EXTENSION distil CASCADE');
is($node->safe_psql('copy', 'SELECT count(*) FROM pg_largeobject_metadata'),
	'0', 'DROP EXTENSION after a restore and distil_check() removes the large objects');

# rows without weights
$node->safe_psql('postgres', 'CREATE DATABASE partial');
my $schema = $node->backup_dir . '/partial.sql';
$node->command_ok([ 'pg_dump', '-B', '-f', $schema, '-d', $node->connstr('postgres') ], 'pg_dump without large objects');
$node->command_ok([ 'psql', '-X', '-q', '-d', $node->connstr('partial'), '-f', $schema ], 'restore without large objects');
($code, $out, $err) = (0, '', '');
$node->psql('partial', "SELECT distil_embed('x', 'm')", stdout => \$out, stderr => \$err);
like($err, qr/ERROR:.*"m"/, 'weights that are missing give an error that names the model');
like($node->safe_psql('partial', 'SELECT problem FROM distil_check()'), qr/./, 'distil_check() reports the missing weights');

# a number that was lost is free for anybody's object, which the model has nothing to do with
my $lost = $node->safe_psql('partial', 'SELECT weights FROM distil.model');
$node->safe_psql('partial', "CREATE ROLE stranger; SET ROLE stranger; SELECT lo_from_bytea($lost, 'theirs')");
my $theirs = "SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata WHERE oid = $lost";
$node->psql('partial', "SET ROLE stranger; SELECT distil_drop_model('m', force => true)", stdout => \$out, stderr => \$err);
like($err, qr/must be owner of model "m"\nDETAIL:  Large object $lost is not the one/, 'who made the object cannot drop the model');
like($node->safe_psql('partial', 'SELECT problem FROM distil_check()'), qr/^large object $lost is not the one with its weights$/m,
	'distil_check() reports the object');
is($node->safe_psql('partial', "BEGIN; SET client_min_messages = error; DROP EXTENSION distil CASCADE; $theirs; ROLLBACK"),
	'theirs', 'and does not give it to the extension');
$node->psql('partial', "SELECT distil_grant('m', 'public')", stdout => \$out, stderr => \$err);
like($err, qr/model "m" has lost its weights/, 'rights on it are not granted');
is($node->safe_psql('partial', "SELECT distil_drop_model('m', force => true); $theirs"), "\ntheirs", 'dropping the model leaves it');

# drop
$node->safe_psql('postgres', "DROP INDEX nearest; SELECT distil_drop_model('m')");
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_largeobject_metadata'), '0', 'dropping a model leaves no large object');
$node->safe_psql('postgres', "SELECT distil_import('m2', '" . model_path('distilbert-mlm') . "')");
$node->safe_psql('postgres', 'DROP EXTENSION distil CASCADE');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_largeobject_metadata'), '0', 'DROP EXTENSION leaves no large object');

done_testing();
