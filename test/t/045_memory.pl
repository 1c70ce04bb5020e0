# Memory that runs out in the middle of anything is an error of that statement: no process ends, and the session goes on.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

plan skip_all => 'needs prlimit of Linux' if system('prlimit --version >/dev/null 2>&1') != 0 || !-r '/proc/self/status';

my $node = new_node('memory');
$node->safe_psql('postgres', "SELECT distil_import('m', '" . model_path('bert-sentence') . "'), distil_import('words', '" . model_path('bert-mlm') . "')");
$node->safe_psql('postgres', "CREATE TABLE docs AS SELECT i AS id, 'a red fox' || repeat(' and the river', i % 9) AS body FROM generate_series(1, 300) i");
my $folder = model_path('bert-f16-sharded');
my %statements = (
	'a batch' => "SELECT md5(string_agg(distil_embed(body, 'm')::text, ',' ORDER BY id)) FROM docs",
	'a batch shared by threads' => "SET distil.threads = 2; SELECT md5(string_agg(distil_embed(body, 'm')::text, ',' ORDER BY id)) FROM docs",
	'words for a mask' => "SELECT md5(string_agg(f::text, ',')) FROM distil_fill_mask('the [MASK] fox', 'words') f",
	'tokens' => "SELECT md5(distil_token_ids(repeat('the red fox ', 20000), 'm')::text)",
	'an import' => "BEGIN; SELECT distil_import('new', '$folder'); SELECT md5(distil_embed('fox', 'new')::text); ROLLBACK",
	'a quantisation' => "BEGIN; SELECT distil_quantize('m', 'new', 'int8'); SELECT md5(distil_embed('fox', 'new')::text); ROLLBACK",
	'checks' => "SELECT string_agg(v::text, ',') FROM distil_verify('m') v",
);
# A test takes few limits, test/soak.sh many.
my $growth = 1 + 0.5 / ($ENV{DISTIL_MEMORY_LIMITS} // 1);

# Bytes of a process's data: what RLIMIT_DATA counts, which leaves out the stack and mapped files.
sub data_bytes
{
	my ($pid) = @_;
	open(my $file, '<', "/proc/$pid/status") or die "process $pid is gone";
	my ($kilobytes) = map { /^VmData:\s+(\d+)/ ? $1 : () } <$file>;
	return $kilobytes * 1024;
}

sub limit
{
	my ($pid, $bytes) = @_;
	system('prlimit', '--pid', $pid, "--data=$bytes:") == 0 or die 'prlimit';
}

for my $what (sort keys %statements)
{
	my $sql = $statements{$what};
	my ($failed, $wrong, $done) = (0, 0, 0);
	my $want = $node->safe_psql('postgres', $sql);
	for (my $room = 20_000; !$done && $room < 4e9; $room *= $growth)
	{
		my $session = $node->background_psql('postgres', on_error_stop => 0);
		my $pid = $session->query("SET client_min_messages = error; LOAD 'distil'; SELECT pg_backend_pid()");
		limit($pid, data_bytes($pid) + int($room));
		my $got = $session->query($sql);
		my $error = $session->{stderr};
		$session->{stderr} = '';
		limit($pid, 'unlimited');
		$session->query('ROLLBACK');
		$failed++ if $error ne '';
		$done = $error eq '' && $got eq $want;
		if (!$done && $error !~ /ERROR:  out of memory|could not load library|Cannot allocate memory/
			|| $session->query($sql) ne $want)
		{
			$wrong++;
			diag("$what, $room bytes more: $error");
		}
		$session->quit;
	}
	ok($done && $failed > 0, "$what: without memory an error, with it the result ($failed errors)");
	is($wrong, 0, "$what: out of memory is what the errors say, and the session goes on");
}
unlike(slurp_file($node->logfile), qr/exited with exit code|terminated by signal|terminating connection/, 'no process ended');
is($node->safe_psql('postgres', 'SELECT count(*) FROM distil_check()'), 0, 'nothing is left over');

done_testing();
