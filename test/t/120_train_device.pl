# Options device and gpus: a GPU that is not there, the stand-in device in its place, several of them, too little memory,
# going on on the CPU.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

my $node = new_node('train_device', conf => "restart_after_crash = on\nmax_worker_processes = 8\n");
my $path = model_path('bert-sentence');
$node->safe_psql('postgres', "SELECT distil_import('m', '$path')");
$node->safe_psql('postgres',
	"CREATE TABLE docs (body text);
	 INSERT INTO docs SELECT 'the quick brown fox reads ' || i || ' rows of the large table and the lazy dog stores data in columns ' || i * 7
		FROM generate_series(1, 300) i");

sub options
{
	my ($device, $steps, $gpus) = @_;
	$gpus //= 1;
	return "{\"max_steps\": $steps, \"batch_size\": 16, \"threads\": 1, \"checkpoint_seconds\": 1, \"device\": \"$device\", \"gpus\": $gpus}";
}
sub train
{
	my ($student, $device, $steps, $gpus) = @_;
	my $options = options($device, $steps, $gpus);
	$node->safe_psql('postgres', "CALL distil_train('m', 'docs', '$student', options => '$options')");
	return $node->safe_psql('postgres', "SELECT max(job) FROM distil_jobs WHERE student = '$student'");
}
sub job { return $node->safe_psql('postgres', "SELECT $_[1] FROM distil_jobs WHERE job = $_[0]"); }
sub state_of
{
	my ($job) = @_;
	quiet_psql($node, "CALL distil_wait($job, '3 minutes')");
	return job($job, 'state');
}
sub logged { return slurp_file($node->logfile) =~ $_[0]; }

my ($code, $out, $err);
my $options = options('cuda', 5);
($code, $out, $err) = quiet_psql($node, "CALL distil_train('m', 'docs', 'none', options => '$options')");
like($err, qr/device "cuda" is not available/, 'a GPU that is not there is refused by name');
($code, $out, $err) = quiet_psql($node, "SET distil.device = cuda; SELECT distil_embed('x', 'm')");
like($err, qr/device "cuda" is not available/, 'for models too');
$options = options('cpu', 5, 2);
($code, $out, $err) = quiet_psql($node, "CALL distil_train('m', 'docs', 'none', options => '$options')");
like($err, qr/option "gpus" does not apply to device "cpu"/, 'the CPU is no number of GPUs');
my $job = train('on_cpu', 'auto', 30);
is(state_of($job), 'done', 'auto goes without');
ok(logged(qr/distil job $job trains on the CPU/), 'and says so in the log');
$job = train('by_name', 'cpu', 5);
is(state_of($job), 'done', 'the CPU by its name');
like(job($job, 'device'), qr/^cpu \(\w+, 1 threads\)$/, 'which distil_jobs says');
ok(!logged(qr/distil job $job trains on/), 'asks for no GPU');

# the stand-in: the worker's whole path on a device with memory of its own
$node->append_conf('postgresql.conf', "distil.standin_device = on\n");
$node->reload;
$job = train('on_device', 'cuda', 30);
is(state_of($job), 'done', 'a job on the device');
ok(logged(qr/distil job $job trains on device "standin"/), 'says so in the log');
is(job($job, 'device'), 'standin', 'and in distil_jobs');
is($node->safe_psql('postgres', "SELECT distil_cosine(distil_embed('the lazy dog', 'on_cpu'), distil_embed('the lazy dog', 'on_device')) > 0.9999"),
	't', 'and its student is that of the CPU');

# three of them
$job = train('on_three', 'cuda', 30, 3);
is(state_of($job), 'done', 'a job on three devices');
ok(logged(qr/distil job $job trains on 3 devices "standin"/), 'says so in the log');
is(job($job, 'device'), 'standin (3 devices)', 'and in distil_jobs');
is($node->safe_psql('postgres', "SELECT distil_cosine(distil_embed('the lazy dog', 'on_device'), distil_embed('the lazy dog', 'on_three')) > 0.9999"),
	't', 'and its student is that of one');

# activations in bfloat16
$node->append_conf('postgresql.conf', "distil.standin_isa = 'bf16'\n");
$node->reload;
$job = train('rounded', 'cuda', 30);
is(state_of($job), 'done', 'a job with activations in bfloat16');
is($node->safe_psql('postgres', "SELECT distil_cosine(distil_embed('the lazy dog', 'on_cpu'), distil_embed('the lazy dog', 'rounded')) BETWEEN 0.999 AND 0.9999999"),
	't', 'and its student is that of the CPU up to rounding');

# a device that is lost on its way
$node->append_conf('postgresql.conf', "distil.standin_isa = 'lost 20000'\n");
$node->reload;
$job = train('lost', 'cuda', 100000);
is(state_of($job), 'failed', 'a job whose device is lost fails');
like(job($job, 'error'), qr/device "standin" has failed/, 'by name');
ok(job($job, 'step') > 0, 'after steps that count');
$node->append_conf('postgresql.conf', "distil.standin_isa = ''\n");
$node->reload;
$node->safe_psql('postgres', "SELECT distil_resume($job)");
ok(wait_until(sub { logged(qr/distil job $job goes on after step [1-9]/) }, 'it to go on'), 'and goes on from its checkpoint');
$node->safe_psql('postgres', "SELECT distil_cancel($job)");
ok(wait_until(sub { job($job, 'state') eq 'canceled' }, 'the cancel'), 'until it is cancelled');

# one of two
$node->append_conf('postgresql.conf', "distil.standin_isa = 'lost 20000'\n");
$node->reload;
$job = train('lost_one', 'cuda', 100000, 2);
is(state_of($job), 'failed', 'a job that loses one of two devices fails');
like(job($job, 'error'), qr/device "standin" has failed/, 'by name');
ok(job($job, 'step') > 0, 'after steps that count');
$node->append_conf('postgresql.conf', "distil.standin_isa = ''\n");
$node->reload;
$node->safe_psql('postgres', "SELECT distil_resume($job)");
ok(wait_until(sub { logged(qr/distil job $job goes on after step [1-9]/) }, 'it to go on'), 'and goes on from its checkpoint');
$node->safe_psql('postgres', "SELECT distil_cancel($job)");
ok(wait_until(sub { job($job, 'state') eq 'canceled' }, 'the cancel'), 'until it is cancelled, on two again');

# too little memory: smaller pieces, then the CPU or an error
$node->append_conf('postgresql.conf', "distil.gpu_memory = '1MB'\n");
$node->reload;
$job = train('small', 'cuda', 5);
is(state_of($job), 'failed', 'a job that does not fit fails');
like(job($job, 'error'), qr/out of memory/, 'by name');
$job = train('small_auto', 'auto', 5);
is(state_of($job), 'done', 'with auto it goes on on the CPU');
ok(logged(qr/distil job $job trains on the CPU/), 'and says so in the log');
$node->append_conf('postgresql.conf', "distil.gpu_memory = 0\n");
$node->reload;

# killed on the device, resumed on the CPU from the same checkpoint
$job = train('moved', 'auto', 100000);
ok(wait_until(sub { -f $node->data_dir . "/pgsql_tmp_distil/" . (grep { /^job/ } split /\n/, $node->safe_psql('postgres', "SELECT f FROM pg_ls_dir('pgsql_tmp_distil') f"))[0] . '/checkpoint' }, 'a checkpoint'),
	'a checkpoint is written from the device');
$node->append_conf('postgresql.conf', "distil.standin_device = off\n");
$node->reload;
my $pid = job($job, 'pid');
ok($pid =~ /^\d+$/ && kill_process($node, $pid), 'the server restarts');
ok(wait_until(sub { logged(qr/distil job $job goes on after step [1-9]/) && logged(qr/distil job $job trains on the CPU/) }, 'the job to go on'),
	'the job goes on on the CPU');
wait_until(sub { job($job, 'state') eq 'running' }, 'it to run');
$node->safe_psql('postgres', "SELECT distil_cancel($job)");
ok(wait_until(sub { job($job, 'state') eq 'canceled' }, 'the cancel'), 'and can be cancelled');

done_testing();
