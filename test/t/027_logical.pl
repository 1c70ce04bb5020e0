# Logical replication of all tables: each server keeps its own models and jobs.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

my $publisher = new_node('publisher', allows_streaming => 'logical');
my $subscriber = new_node('subscriber');
my $path = model_path('bert-sentence');
my $mlm = model_path('bert-mlm');
$publisher->safe_psql('postgres', "SELECT distil_import('m', '$path'); SELECT distil_import('mlm', '$mlm')");
# the other way round, so that the weights have other numbers
$subscriber->safe_psql('postgres', "SELECT distil_import('mlm', '$mlm'); SELECT distil_import('m', '$path'); SELECT distil_set_default('m')");
$_->safe_psql('postgres', 'CREATE TABLE docs (id int PRIMARY KEY)') for $publisher, $subscriber;

my $state = "SELECT m, (SELECT count(*) FROM distil.head h WHERE h.model = m.name) FROM distil.model m ORDER BY name";
my $others = "SELECT (SELECT count(*) FROM distil.tombstone), (SELECT count(*) FROM distil.job), (SELECT count(*) FROM distil.job_log)";
my $vector = "SELECT md5(distil_embed('one text')::text)";
my $before = $subscriber->safe_psql('postgres', $state);
my $expected = $subscriber->safe_psql('postgres', $vector);

$publisher->safe_psql('postgres', 'INSERT INTO docs VALUES (1); CREATE PUBLICATION everything FOR ALL TABLES');
$subscriber->safe_psql('postgres',
	"CREATE SUBSCRIPTION everything CONNECTION '" . $publisher->connstr . " dbname=postgres' PUBLICATION everything");
ok(wait_until(sub { $subscriber->safe_psql('postgres',
	"SELECT count(*) > 5 AND bool_and(srsubstate IN ('r', 's')) FROM pg_subscription_rel") eq 't' }, 'the first copy'),
	'the first copy of the tables ends');
is($subscriber->safe_psql('postgres', $state), $before, 'and leaves the models as they were');

# every kind of change on the publisher, then one that must arrive
$publisher->safe_psql('postgres', "SELECT distil_set_default('mlm')");
$publisher->safe_psql('postgres', "SELECT distil_import('m2', '$path'); INSERT INTO distil.head VALUES ('mlm', 'x', 'sequence', '{a}')");
$publisher->safe_psql('postgres', "SELECT distil_drop_model('m')");
$publisher->safe_psql('postgres',
	"INSERT INTO distil.job (owner, teacher, student, corpus, method, options, search_path, isa, threads, state)
		VALUES (10, 'm2', 's', 'docs', 'embedding', '{}', '', '', 1, 'paused');
	 INSERT INTO distil.job_log (job, step, logged_at) SELECT job, 1, now() FROM distil.job");
is($publisher->safe_psql('postgres', $others), '1|1|1', 'the publisher has a dropped model and a job');
$subscriber->safe_psql('postgres', "INSERT INTO distil.job (owner, teacher, student, corpus, method, options, search_path, isa, threads, state)
	VALUES (10, 'mlm', 'own', 'docs', 'embedding', '{}', '', '', 1, 'paused')");
for my $table ('job_log', 'job', 'head', 'tombstone', 'model')
{
	my ($code, $out, $err) = quiet_psql($publisher, "TRUNCATE distil.$table CASCADE");
	like($err, qr/table distil\.\w+ cannot be truncated/, "no TRUNCATE of distil.$table, which would be replicated");
}
$publisher->safe_psql('postgres', 'DELETE FROM docs; INSERT INTO docs VALUES (2)');
ok(wait_until(sub { $subscriber->safe_psql('postgres', 'SELECT array_agg(id) FROM docs') eq '{2}' }, 'row 2'), 'a table is replicated');
is($subscriber->safe_psql('postgres', $state), $before, 'models are not');
is($subscriber->safe_psql('postgres', $others), '0|1|0', 'nor dropped names and jobs');
is($subscriber->safe_psql('postgres', $vector), $expected, 'the default model gives the same vector');
is($subscriber->safe_psql('postgres', "SELECT bool_and(ok) FROM distil_models, distil_verify(name)"), 't', 'and all verify');
is($subscriber->safe_psql('postgres', "SELECT distil_drop_model('m'); SELECT count(*) FROM distil.tombstone"), "\n1",
	'a model is dropped as ever');

done_testing();
