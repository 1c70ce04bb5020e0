# A quantised model: one mapped copy for many connections, little memory of their own, and the same after a dump.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

# More than the scratch memory of a session (distil.memory) no connection may need.
my $limit_kb = 10 * 1024;
my $connections = 100;

my $node = new_node('quantized', conf => "max_connections = 120\n");
my $path = model_path('bert-sentence');
$node->safe_psql('postgres', "SELECT distil_import('m', '$path'); SELECT distil_quantize('m', 'm8', 'int8')");
my $embed = "SELECT md5(distil_embed('the same text for all', 'm8')::text)";

sub private_kb
{
	my ($pid) = @_;
	my $sum = 0;

	open(my $rollup, '<', "/proc/$pid/smaps_rollup") or return undef;
	while (<$rollup>)
	{
		$sum += $1 if /^Private_Dirty:\s+(\d+) kB/;
	}
	close $rollup;
	return $sum;
}

my @sessions = map { $node->background_psql('postgres') } (1 .. $connections);
my @pids = map { $_->query_safe('SELECT pg_backend_pid()') } @sessions;
my @before = map { private_kb($_) } @pids;
my @out = map { $_->query_safe($embed) } @sessions;
is(scalar(grep { $_ eq $out[0] } @out), $connections, "$connections connections give the same vector");
my @files = grep { -f } glob($node->data_dir . '/pgsql_tmp_distil/*');
is(scalar(@files), 1, 'they share one mapped copy');
SKIP:
{
	skip 'no smaps_rollup here', 1 unless defined $before[0];
	my @after = map { private_kb($_) } @pids;
	my ($most) = sort { $b <=> $a } map { $after[$_] - $before[$_] } (0 .. $#pids);
	cmp_ok($most, '<=', $limit_kb, 'a connection needs little memory of its own');
}
$_->quit for @sessions;

# Whatever instruction set a session takes, it has a copy that serves it.
my ($vector) = $node->safe_psql('postgres', "SELECT distil_embed('the same text for all', 'm8')::text");
foreach my $isa (qw(amx avx512_bf16 avx512_vnni avx512 avx_vnni avx2))
{
	my ($status, $close, $error) = $node->psql('postgres', "SET distil.isa = '$isa';"
		  . "SELECT distil_cosine(distil_embed('the same text for all', 'm8'), '$vector') > 0.999");

  SKIP:
	{
		skip "this CPU has no $isa", 1 if $error =~ /instruction set/;
		is($close, 't', "the same vector with $isa, but for rounding");
	}
}
my $ordered = () = glob($node->data_dir . '/pgsql_tmp_distil/*.int8p16order');
my $has_avx2 = $node->psql('postgres', "SET distil.isa = 'avx2'; SELECT distil_embed('x', 'm8')") == 0;
is($ordered, $has_avx2 ? 1 : 0, 'AVX2 has a copy of its own');

# In another database, by dump and restore: the same bits, no trace of the machine that quantised.
my $dump = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-h', $node->host, '-p', $node->port, 'postgres' ], 'dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '-d', 'copy', '-h', $node->host, '-p', $node->port, $dump ], 'restore');
is($node->safe_psql('copy', $embed), $out[0], 'a restored model gives the same vector');
is($node->safe_psql('copy', "SELECT dtype, cosine_min > 0.9 FROM distil_models WHERE name = 'm8'"), 'int8|t',
	'and is listed as it was');
is($node->safe_psql('copy', "SELECT bool_and(ok) FROM distil_verify('m8')"), 't', 'and passes its checks');

done_testing();
