# One mapped copy for all connections: correct under concurrent first use, no load on a fresh connection.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Fcntl qw(O_RDWR);
use POSIX qw(mkfifo);
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

my $node = new_node('sharing', conf => "max_connections = 60\n");
my $path = model_path('bert-sentence');
$node->safe_psql('postgres', "SELECT distil_import('m', '$path')");
unlink glob($node->data_dir . '/pgsql_tmp_distil/*');

my @sessions = map { $node->background_psql('postgres') } (1 .. 40);
my @out;
for my $session (@sessions)
{
	my $sql = "SELECT md5(distil_embed('the same text for all')::text);\n";
	if ($session->can('query')) { push @out, $session->query_safe("SELECT md5(distil_embed('the same text for all')::text)"); }
}
is(scalar(grep { $_ eq $out[0] } @out), 40, '40 connections give the same vector');
my @files = grep { -f } glob($node->data_dir . '/pgsql_tmp_distil/*');
is(scalar(@files), 1, 'they share one mapped copy');
my %inodes;
for my $session (@sessions)
{
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	open(my $maps, '<', "/proc/$pid/maps") or next;
	while (<$maps>)
	{
		$inodes{"$1"}++ if /\s(\d+)\s+\S*pgsql_tmp_distil\//;
	}
	close $maps;
}
is(scalar(keys %inodes), 1, 'they map one file');
cmp_ok((values %inodes)[0] // 0, '>=', 40, 'all of them map it');
$_->quit for @sessions;

# Twenty clients at once for a model whose copy does not exist.
unlink @files;
my $script = $node->basedir . '/first_use.sql';
append_to_file($script, "SELECT distil_embed('first use');\n");
$node->command_ok([ 'pgbench', '-n', '-c', '20', '-j', '2', '-t', '2', '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ],
	'concurrent first use');
@files = grep { -f } glob($node->data_dir . '/pgsql_tmp_distil/*');
is(scalar(@files), 1, 'concurrent first use leaves one copy and no temporary file');

# A fresh connection maps, it does not load.
is( $node->safe_psql('postgres', "SELECT cardinality(distil_embed('x')) > 0; SELECT distil.cache_builds()"),
	"t\n0", 'a fresh connection loads no model');

# Let go who waits for the other end of a pipe, so that a failure is not a hang.
sub wake
{
	sysopen(my $other, $_, O_RDWR) && sleep 1 for @_;
	return;
}

# A pipe in the place of the copy, or of the file it is built in, is not waited for.
my ($copy) = @files;
unlink $copy;
my $timed_out;
mkfifo($copy, 0600) or die "mkfifo: $!";
$node->psql('postgres', "SELECT distil_embed('x')", timeout => 30, timed_out => \$timed_out);
ok(!$timed_out, 'a pipe in the place of a copy is not opened');
wake($copy) if $timed_out;
ok(-f $copy, 'but replaced');
unlink $copy;
my $pid = $node->safe_psql('postgres', 'SELECT pg_backend_pid()');
mkfifo($node->data_dir . "/pgsql_tmp_distil/tmp.$_", 0600) for $pid + 1 .. $pid + 100;
$node->psql('postgres', "SELECT distil_embed('x')", timeout => 30, timed_out => \$timed_out);
ok(!$timed_out && -f $copy, 'nor one in the place of a file being built');
wake(glob($node->data_dir . '/pgsql_tmp_distil/tmp.*')) if $timed_out;

# A folder that cannot be written: private copy and a warning.
SKIP:
{
	skip 'root can write everywhere', 3 if $> == 0;
	unlink @files;
	chmod 0500, $node->data_dir . '/pgsql_tmp_distil';
	my ($code, $out, $err) = quiet_psql($node, "SELECT cardinality(distil_embed('x')) > 0; SELECT cardinality(distil_embed('y')) > 0");
	is($out, "t\nt", 'without a writable cache folder each connection has a copy of its own');
	is(scalar(() = $err =~ /WARNING/g), 1, 'and says so once');
	like($err, qr/Permission denied.*HINT:  The server must be able to write to directory "pgsql_tmp_distil"/s, 'and why');
	chmod 0700, $node->data_dir . '/pgsql_tmp_distil';
}

done_testing();
