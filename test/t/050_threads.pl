# Threads of a batch: the same bits with any number, none left when idle, cancelled or ended, none in the postmaster,
# never more than the cores by default, nor than allowed, also in one transaction, beside a training and after a crash; scratch memory of single texts stays small.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

plan skip_all => 'needs /proc' unless -d "/proc/$$/task";

my $node = new_node('threads', conf => "shared_preload_libraries = 'distil'\nmax_parallel_workers_per_gather = 0\nrestart_after_crash = on\n");
my $path = model_path('bert-sentence');
$node->safe_psql('postgres', "SELECT distil_import('m', '$path')");
$node->safe_psql('postgres', "CREATE TABLE docs AS SELECT i AS id, repeat('many words to read again ', i % 40) || i AS body FROM generate_series(1, 20000) i; ANALYZE docs");
my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];

# States of the threads of a process: "R", "S", ...
sub threads
{
	my ($pid) = @_;
	my @states;
	for my $file (glob("/proc/$pid/task/*/stat"))
	{
		open(my $f, '<', $file) or next;
		my $line = <$f> // next;
		push @states, $1 if $line =~ /\) (\S)/;
	}
	return @states;
}

# A session that runs a long statement; gives session and pid.
my $long = "SELECT count(distil_embed(body || x)) FROM docs, generate_series(1, 1000) x";
sub busy_session
{
	my (@settings) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query('SELECT pg_backend_pid()');
	$session->query($_) for @settings;
	$session->query_until(qr/go/, "\\echo go\n$long;\n");
	return ($session, $pid);
}

# ---- bits ----

my $sum = 'SELECT md5(string_agg(e::text, \'\' ORDER BY id)) FROM (SELECT id, distil_embed(body) AS e FROM docs WHERE id <= 2000) d';
SKIP:
{
	skip 'OpenBLAS adds up a row as suits the others of its batch', 1
		if $node->safe_psql('postgres', 'SELECT isa FROM distil_system') eq 'reference';
	my %sums;
	for my $threads (1, 2, 3, 7, 0)
	{
		$sums{ $node->safe_psql('postgres', "SET distil.threads = $threads; $sum") } = $threads;
	}
	is(scalar keys %sums, 1, 'the same bits with any number of threads');
}

# ---- started, idle, ended ----

my ($session, $pid) = busy_session('SET distil.threads = 3');
ok(wait_until(sub { threads($pid) == 3 }, 'three threads'), 'a batch runs on as many threads as distil.threads says');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
is($session->query('SELECT 1'), '1', 'a cancel ends it');
ok(wait_until(sub { threads($pid) == 1 }, 'one thread'), 'threads end when idle');
is($session->query('SELECT count(distil_embed(body)) FROM docs WHERE id < 3000'), '2999', 'and start again');
$session->quit;

($session, $pid) = busy_session('SET distil.threads = 3');
ok(wait_until(sub { threads($pid) == 3 }, 'three threads'), 'threads at work');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok(wait_until(sub { !-d "/proc/$pid" }, 'the end of the process'), 'a terminated backend ends its threads and itself');
eval { $session->quit };

($session, $pid) = busy_session('SET distil.threads = 3', "SET statement_timeout = '300ms'");
ok(wait_until(sub { $node->safe_psql('postgres', "SELECT state FROM pg_stat_activity WHERE pid = $pid") eq 'idle' }, 'timeout'),
	'statement_timeout ends a batch on threads');
$session->query('SET statement_timeout = 0');

# ---- other numbers of threads, in one transaction ----

# Processor time of the threads of a process but its first one, in ticks.
sub helpers_time
{
	my ($of) = @_;
	my $ticks = 0;
	for my $file (grep { !m{/task/$of/} } glob("/proc/$of/task/*/stat"))
	{
		open(my $f, '<', $file) or next;
		my $line = <$f> // next;
		my @fields = split ' ', $line =~ s/.*\) //r;
		$ticks += $fields[11] + $fields[12];
	}
	return $ticks;
}
my $some = 'SELECT count(distil_embed(body)) FROM docs WHERE id <= 6000';
my $one = $node->background_psql('postgres');
my $one_pid = $one->query('SELECT pg_backend_pid()');
$one->query('SET distil.max_threads = 2; SET distil.threads = 4');
$one->query($some);
is(scalar threads($one_pid), 2, 'no more threads than distil.max_threads allows');
$one->query('RESET distil.max_threads');
$node->safe_psql('postgres', "SELECT distil_import('n', '" . model_path('bert-mlm') . "')");
my @counts;
$one->query('BEGIN');
for my $n (4, 2, 3)
{
	$one->query("SET LOCAL distil.threads = $n");
	$one->query($_) for $some, $some =~ s/body/body, 'n'/r;
	push @counts, scalar threads($one_pid);
}
is("@counts", '4 2 3', 'as many threads as asked for each time');
$one->query('SET LOCAL distil.threads = 1');
my $spent = helpers_time($one_pid);
$one->query($some) for 1 .. 3;
cmp_ok(helpers_time($one_pid), '<=', $spent + 3, 'with one thread the others do nothing');
$one->query('COMMIT');
$one->quit;

# ---- cancels at random points ----

my $cancels = $ENV{DISTIL_CANCELS} // 30;
my $most = 0;
my $memory = sub { open(my $f, '<', "/proc/$pid/statm") or return 0; my @v = split ' ', <$f>; return ($v[1] - $v[2]) * 4; };
my $before = 0;
my $other = $node->background_psql('postgres');
my @answers;
for my $i (1 .. $cancels)
{
	$session->query_until(qr/go/, "\\echo go\n$long;\n");
	usleep(20_000 + int(rand(120_000)));
	my $asked = time;
	$other->query("SELECT pg_cancel_backend($pid)");
	$session->query('SELECT 1');
	push @answers, 1000 * (time - $asked);
	my $n = threads($pid);
	$most = $n if $n > $most;
	$before = $memory->() if $i == 5;
}
$other->quit;
@answers = sort { $a <=> $b } @answers;
note(sprintf 'cancels answered after %.1f ms (median), %.1f ms (99 of 100), %.1f ms (all)', $answers[ $#answers / 2 ], $answers[ 0.99 * $#answers ], $answers[-1]);
cmp_ok($most, '<=', 3, 'no more threads than asked for after cancels at random points');
ok(wait_until(sub { threads($pid) == 1 }, 'one thread'), 'no thread is left');
cmp_ok($memory->() - $before, '<', 8192, 'private memory does not grow by cancels');
is($session->query("SELECT count(distil_embed(body)) FROM docs WHERE id < 100"), '99', 'the session goes on');
$session->quit;

# ---- never more than the cores ----

my $cores = `nproc`;
chomp $cores;
my $many = $cores > 64 ? $cores : 64;
my @busy = map { [ busy_session() ] } 1 .. 3;
my $limit = $cores > 3 ? $cores : 3;
my $calm = 0;
my $wide;
ok(wait_until(sub {
	my $running = 0;
	for my $b (@busy) { $running += grep { $_ eq 'R' } threads($b->[1]); }
	$calm = $running <= $limit ? $calm + 1 : 0;
	return $calm >= 40;
}, 'no more threads than cores'), "three sessions run no more than $limit threads on $cores cores");
# A session alone has all cores again.
for my $b (@busy[ 1, 2 ])
{
	$node->safe_psql('postgres', "SELECT pg_cancel_backend($b->[1])");
	$b->[0]->query('SELECT 1');
	$b->[0]->quit;
}
ok(wait_until(sub { threads($busy[0][1]) == $cores }, 'all cores'), 'a session alone uses all cores');
# When a session with more of them is terminated, others have the cores again.
my ($ended, $ended_pid) = busy_session("SET distil.threads = $many");
ok(wait_until(sub { threads($ended_pid) == $many }, 'many threads'), 'a session with more threads than cores');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($ended_pid)");
ok(wait_until(sub { threads($busy[0][1]) == $cores }, 'all cores'), 'leaves them to others when it has ended');
eval { $ended->quit };
# Threads of a training job count.
$node->safe_psql('postgres', "SELECT pg_cancel_backend($busy[0][1])");
$busy[0][0]->query('SELECT 1');
$node->safe_psql('postgres', "CALL distil_train('m', 'docs', 'student', options => '{\"threads\": $cores, \"max_steps\": 1000000}')");
ok(wait_until(sub { $node->safe_psql('postgres', "SELECT count(*) FROM distil_jobs WHERE state = 'running' AND step > 0") }, 'a job'), 'a job runs');
wait_until(sub { threads($busy[0][1]) == 1 }, 'one thread');
$busy[0][0]->query_until(qr/go/, "\\echo go\n$long;\n");
$wide = 0;
for (1 .. 20)
{
	$wide++ if threads($busy[0][1]) > 1;
	usleep(50_000);
}
is($wide, 0, 'a batch leaves the cores of a training job to it');
$node->safe_psql('postgres', "SELECT distil_cancel(job) FROM distil_jobs WHERE student = 'student'");
ok(wait_until(sub { threads($busy[0][1]) == $cores }, 'all cores'), 'and has them when that has ended');
# A parallel worker has one.
$node->safe_psql('postgres', "SELECT pg_cancel_backend($busy[0][1])");
$busy[0][0]->query('SELECT 1');
$busy[0][0]->quit;
$node->safe_psql('postgres', 'ALTER TABLE docs SET (parallel_workers = 2)');
($session, $pid) = busy_session('SET max_parallel_workers_per_gather = 2', 'SET parallel_setup_cost = 0', 'SET parallel_tuple_cost = 0',
	'SET parallel_leader_participation = off', 'SET distil.threads = 4');
my @workers;
wait_until(sub {
	@workers = split /\n/, $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE leader_pid = $pid");
	return @workers == 2;
}, 'parallel workers');
$wide = 0;
for (1 .. 40)
{
	$wide++ for grep { threads($_) > 1 } @workers;
	usleep(20_000);
}
is(@workers . " workers, $wide", '2 workers, 0', 'a parallel worker has no threads');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
$session->query('SELECT 1');
$session->quit;

# ---- private memory ----

# A model as wide as a common small one: what a pass takes is that of 64 tokens, not of the largest pass.
# kB of the heap and of mappings without a file: not of shared memory that only this process happens to have touched.
sub private_memory
{
	my ($of) = @_;
	my ($counts, $kb) = (0, 0);
	for my $line (split /\n/, slurp_file("/proc/$of/smaps"))
	{
		$counts = $1 eq '' || $1 eq '[heap]' if $line =~ /^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+\s*(.*)$/;
		$kb += $1 if $counts && $line =~ /^Private_Dirty:\s+(\d+)/;
	}
	return $kb;
}
SKIP:
{
	skip 'no smaps', 2 unless -r "/proc/$$/smaps";
	$node->safe_psql('postgres', q{SELECT distil_create('wide', distil_config('m') || '{"hidden_size": 384, "num_attention_heads": 12,
		"intermediate_size": 1536, "num_hidden_layers": 2, "max_position_embeddings": 512}', tokenizer_of => 'm')});
	my (@sessions, @pids, @idle);
	for my $i (0 .. 19)
	{
		push @sessions, $node->background_psql('postgres');
		push @pids, scalar $sessions[$i]->query('SELECT pg_backend_pid()');
		push @idle, private_memory($pids[$i]);
	}
	$_->query("SELECT cardinality(distil_embed('the cat sat on the mat', 'wide'))") for @sessions;
	# The first one has built the shared copy, and is not counted here.
	my $largest = 0;
	for my $i (1 .. 19)
	{
		my $grown = private_memory($pids[$i]) - $idle[$i];
		$largest = $grown if $grown > $largest;
	}
	cmp_ok($largest, '<', 4096, "connections that embed single texts have less than 4 MB more each ($largest kB)");
	for my $threads (1, 3, 3, 3)
	{
		$sessions[1]->query("SET distil.threads = $threads");
		$sessions[1]->query("SELECT count(distil_embed(body, 'wide')) FROM docs WHERE id <= 600");
	}
	my $grown = private_memory($pids[1]) - $idle[1];
	cmp_ok($grown, '<', 10240, "batches leave less than 10 MB ($grown kB)");
	$_->quit for @sessions;
}

# ---- cores given back in the middle of a call ----

SKIP:
{
	skip 'one core, or so many that the call is too short, or no smaps', 2 if $cores < 2 || $cores > 8 || !-r "/proc/$$/smaps";
	my @calls = map { $node->background_psql('postgres', on_error_stop => 0) } 1, 2;
	my @of = map { scalar $_->query('SELECT pg_backend_pid()') } @calls;
	# All of it is one call of the engine, which takes a while.
	$calls[0]->query("SET distil.batch_rows = 10000; SET work_mem = '1GB'; SET max_parallel_workers_per_gather = 0; SET distil.truncation = 'silent'");
	$calls[0]->query_until(qr/go/, "\\echo go\nSELECT count(distil_embed(repeat(body, 8), 'wide')) FROM docs WHERE id <= 10000;\n");
	ok(wait_until(sub { threads($of[0]) == $cores }, 'all cores'), 'a call with all cores');
	$calls[1]->query_until(qr/go/, "\\echo go\n$long;\n");
	my $expected = int($cores / 2);
	ok(wait_until(sub { threads($of[0]) == $expected && threads($of[1]) == $expected }, 'half of the cores each', 20), 'gives half of them to another one');
	for my $i (0, 1)
	{
		$node->safe_psql('postgres', "SELECT pg_cancel_backend($of[$i])");
		$calls[$i]->query('SELECT 1');
		$calls[$i]->quit;
	}
}

is(scalar threads($postmaster), 1, 'the postmaster has no threads');
unlike(slurp_file($node->logfile), qr/was terminated by signal|PANIC/, 'no process crashed');

# ---- after a crash ----

# What the sessions before it ran does not count: theirs are not the numbers of the processes that are there now.
my @before = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 3;
my ($killed, $killed_pid) = busy_session("SET distil.threads = $many");
ok(wait_until(sub { threads($killed_pid) == $many }, 'many threads'), 'a session with many threads');
ok(kill_process($node, $killed_pid), 'which is killed');
eval { $_->quit } for @before, $killed;
($session, $pid) = busy_session();
ok(wait_until(sub { threads($pid) == $cores }, 'all cores'), 'a session has all cores again');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
$session->query('SELECT 1');
$session->quit;

done_testing();
