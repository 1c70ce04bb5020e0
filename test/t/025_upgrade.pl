# pg_upgrade keeps models, rights and jobs; distil_check() links the weights to the extension again.
use strict;
use warnings;
use Cwd qw(abs_path getcwd);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

my $old = new_node('old');
# Before 18 Debian's servers look for '$libdir/distil' in a staged installation too.
plan skip_all => 'pg_upgrade looks for the library in $libdir, and this one is staged elsewhere'
	if $old->pg_version >= 18 && !-e $old->config_data('--pkglibdir') . '/distil.so';
$old->safe_psql('postgres', "SELECT distil_import('m', '" . model_path('bert-sentence') . "')");
$old->safe_psql('postgres', "SELECT distil_quantize('m', 'm8', 'int8')");
$old->safe_psql('postgres', "CREATE ROLE reader; SELECT distil_grant('m8', 'reader')");
$old->safe_psql('postgres',
	"CREATE TABLE docs AS SELECT i AS id, 'text number ' || i AS body FROM generate_series(1, 20) i");
$old->safe_psql('postgres',
	q[CALL distil_train('m', 'docs', student => 's', column_name => 'body', options => '{"max_steps": 2}', wait => true)]);
$old->safe_psql('postgres', "CREATE INDEX nearest ON docs (distil_cosine(distil_embed(body, 'm'), distil_embed('text', 'm')))");
my $vectors = "SELECT md5(array_agg(distil_embed(body, model) ORDER BY model, id)::text) FROM docs, unnest('{m,m8,s}'::text[]) model";
my $expected = $old->safe_psql('postgres', $vectors);
my $rows = "SELECT name, owner, teacher, sha256 FROM distil_models UNION ALL "
	. "SELECT state, student, step::text, NULL FROM distil_jobs ORDER BY 1";
my $before = $old->safe_psql('postgres', $rows);
my $objects = $old->safe_psql('postgres', 'SELECT count(*) FROM pg_largeobject_metadata');
$old->stop;

my $new = PostgreSQL::Test::Cluster->new('new');
$new->init;
my $bin = $old->config_data('--bindir');
my @folders = ('-d', abs_path($old->data_dir), '-D', abs_path($new->data_dir), '-b', $bin, '-B', $bin);
my $here = getcwd;
chdir($new->basedir) or die;	# it leaves a script where it is called
$new->command_ok([ 'pg_upgrade', '--no-sync', @folders, '-s', $new->host, '-p', $old->port, '-P', $new->port ], 'pg_upgrade');
chdir($here) or die;
$new->start;
is($new->safe_psql('postgres', $rows), $before, 'models and jobs are there');
is($new->safe_psql('postgres', $vectors), $expected, 'they give the same vectors');
is($new->safe_psql('postgres', 'SELECT bool_and(ok) FROM distil_models, distil_verify(name)'), 't', 'they verify');
is($new->safe_psql('postgres', "SET ROLE reader; SELECT cardinality(distil_embed('x', 'm8')) > 0"), 't', 'so do rights');
my ($code, $out, $err) = quiet_psql($new, "SET ROLE reader; SELECT distil_embed('x', 'm')", extra_params => ['-v', 'VERBOSITY=sqlstate']);
like($err, qr/42501/, 'and no others');
is($new->safe_psql('postgres', "SET enable_seqscan = off; SELECT count(*) FROM docs "
		. "WHERE distil_cosine(distil_embed(body, 'm'), distil_embed('text', 'm')) > -2"), '20', 'an index over a model stands');
is($new->safe_psql('postgres', 'SELECT count(*) FROM pg_largeobject_metadata'), $objects, 'with as many large objects');

$new->safe_psql('postgres', 'SELECT * FROM distil_check()');
is($new->safe_psql('postgres', 'SELECT count(*) FROM distil_check()'), '0', 'distil_check() has nothing left to say');
$new->safe_psql('postgres', 'DROP EXTENSION distil CASCADE');
is($new->safe_psql('postgres', 'SELECT count(*) FROM pg_largeobject_metadata'), '0', 'DROP EXTENSION removes the weights');

done_testing();
