# kill -9 of the worker at random points, an immediate stop of the server: the student is the same to the bit.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

my $rounds = $ENV{DISTIL_KILLS} || 3;
my $node = new_node('train_kill', conf => "restart_after_crash = on\nmax_worker_processes = 8\n");
my $path = model_path('bert-mlm');
$node->safe_psql('postgres', "SELECT distil_import('m', '$path')");
$node->safe_psql('postgres',
	"CREATE TABLE docs (body text);
	 INSERT INTO docs SELECT 'the quick brown fox reads ' || i || ' rows of the large table and the lazy dog stores data in columns ' || i * 7
		FROM generate_series(1, 2000) i");

# Some seconds of work, a checkpoint every second.
my $options = '{"max_steps": 300, "batch_size": 16, "gradient_accumulation_steps": 3, "threads": 1, "checkpoint_seconds": 1}';

sub train
{
	my ($student) = @_;
	$node->safe_psql('postgres', "CALL distil_train('m', 'docs', '$student', options => '$options')");
	return $node->safe_psql('postgres', "SELECT max(job) FROM distil_jobs WHERE student = '$student'");
}

sub job
{
	my ($job, $what) = @_;
	my ($code, $out) = quiet_psql($node, "SELECT $what FROM distil_jobs WHERE job = $job");
	return $code == 0 ? $out : '';
}

sub wait_done
{
	my ($job) = @_;
	quiet_psql($node, "CALL distil_wait($job, '5 minutes')");
	return job($job, 'state') =~ /^(done|failed|canceled)$/;
}

sub sha { return $node->safe_psql('postgres', "SELECT sha256 FROM distil_models WHERE name = '$_[0]'"); }

# uninterrupted
my $began = time;
my $job = train('plain');
ok(wait_done($job), 'a job runs to its end');
is(job($job, 'state'), 'done', 'it is done');
my $expected = sha('plain');
my $seconds = time - $began;
note("$seconds seconds");
like($expected, qr/^\S{64}/, 'the student has a hash');

# the worker is killed; the postmaster starts it again
my $killed = 0;
$job = train('killed');
for my $round (1 .. $rounds)
{
	wait_until(sub { job($job, 'state') ne 'interrupted' }, 'the worker to run');
	usleep(int(rand($seconds / $rounds * 800_000)));
	my $pid = job($job, 'pid');
	last if job($job, 'state') eq 'done';
	next if $pid !~ /^\d+$/;
	$killed++;
	ok(kill_process($node, $pid), "round $round: the server restarts");
	# progress is what forgives a crash: wait for a checkpoint after every restart
	wait_until(sub { job($job, 'state') =~ /done|failed/ or
		$node->psql('postgres', "SELECT 1/(attempts = 1)::int FROM distil.job WHERE job = $job") == 0 }, 'a checkpoint', 60);
}
ok($killed > 0, "the worker was killed $killed times");
ok(wait_done($job), 'the job ends');
is(job($job, 'state'), 'done', 'it is done');
is(sha('killed'), $expected, 'the same weights as without kills');
is($node->safe_psql('postgres', "SELECT count(*) = count(DISTINCT step) AND max(step) = 300 FROM distil_job_log WHERE job = $job"), 't', 'the log has every step once');

# the server is stopped without grace; nothing resumes by itself, distil_resume() does
$job = train('stopped');
wait_until(sub { my $s = job($job, 'step'); $s ne '' && $s > 20 }, 'some steps');
$node->stop('immediate');
$node->start;
is(job($job, 'state'), 'interrupted', 'after a restart of the server the job is interrupted');
$node->safe_psql('postgres', "SELECT distil_resume($job)");
ok(wait_done($job), 'the resumed job ends');
is(sha('stopped'), $expected, 'the same weights as without the stop');

# a worker that is terminated stays away until it is asked for
$job = train('terminated');
wait_until(sub { my $s = job($job, 'step'); $s ne '' && $s > 20 }, 'some steps');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM distil_jobs WHERE job = $job");
ok(wait_until(sub { job($job, 'state') eq 'interrupted' }, 'the worker to end'), 'a terminated job is interrupted');
usleep(6_000_000);
is(job($job, 'state'), 'interrupted', 'and is not started again by the postmaster');
is($node->safe_psql('postgres', "SELECT count(*) = max(l.step) AND max(l.step) = max(j.step) FROM distil_job_log l JOIN distil_jobs j USING (job) WHERE job = $job"),
	't', 'and has logged all its steps');
$node->safe_psql('postgres', "SELECT distil_resume($job)");
ok(wait_done($job), 'the resumed job ends');
is(sha('terminated'), $expected, 'the same weights as without the end');

# a fast stop of the server does not wait for the training
$job = train('fast');
wait_until(sub { my $s = job($job, 'step'); $s ne '' && $s > 20 }, 'some steps');
$node->stop('fast');
$node->start;
$node->safe_psql('postgres', "SELECT distil_resume($job)");
ok(wait_done($job), 'the resumed job ends');
is(sha('fast'), $expected, 'the same weights after a fast stop');

# the whole server is killed; preloaded, it goes on by itself
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'distil'\ndistil.databases = 'postgres, nowhere'\n");
$node->restart;
$job = train('preloaded');
wait_until(sub { my $s = job($job, 'step'); $s ne '' && $s > 20 }, 'some steps');
my $next = train('next');
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
my $worker = job($job, 'pid');
$node->kill9;
ok(wait_until(sub { !kill(0, $postmaster) && !kill(0, $worker) }, 'the processes to be gone'), 'the worker leaves with the server');
usleep(500_000);
$node->start;
ok(wait_until(sub { job($job, 'state') =~ /running|done/ }, 'the job to go on', 30), 'a preloaded server resumes by itself');
ok(wait_done($job), 'the resumed job ends');
is(sha('preloaded'), $expected, 'the same weights after the kill of the server');
ok(wait_done($next), 'and the queued one follows');

# folders without a job are found and removed
mkdir $node->data_dir . "/pgsql_tmp_distil/job_1_1" or die;
append_to_file($node->data_dir . "/pgsql_tmp_distil/job_1_1/spool", 'x');
is($node->safe_psql('postgres', 'SELECT object FROM distil_check()'), '', 'the folder of another database that exists is left alone');
rename $node->data_dir . "/pgsql_tmp_distil/job_1_1", $node->data_dir . "/pgsql_tmp_distil/job_4294967290_1";
is($node->safe_psql('postgres', 'SELECT object FROM distil_check()'), 'folder pgsql_tmp_distil/job_4294967290_1', 'distil_check() finds the folder of a dropped database');

is($node->safe_psql('postgres', "SELECT count(*) FROM pg_ls_dir('pgsql_tmp_distil') f WHERE f LIKE 'job%'"), '0', 'no folder is left');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_largeobject_metadata"),
	$node->safe_psql('postgres', "SELECT count(*) FROM distil_models"), 'no orphan large object');
is($node->safe_psql('postgres', 'SELECT string_agg(problem, \', \') FROM distil_check()'), '', 'distil_check() finds nothing');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'distil job'"), '0', 'no worker is left');

done_testing();
