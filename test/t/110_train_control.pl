# Cancel, pause, resume, the queue, waiting and its end, no free worker slot, rights that go away.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

my $node = new_node('train_control');
my $path = model_path('bert-sentence');
$node->safe_psql('postgres', "SELECT distil_import('m', '$path')");
$node->safe_psql('postgres',
	"CREATE TABLE docs (body text);
	 INSERT INTO docs SELECT 'the quick brown fox reads ' || i || ' rows of the large table and the lazy dog stores data in columns ' || i * 7
		FROM generate_series(1, 500) i");
my $long = '{"max_steps": 1000000, "batch_size": 32, "threads": 1, "checkpoint_seconds": 1}';
my $short = '{"max_steps": 300, "batch_size": 32, "threads": 1, "checkpoint_seconds": 1}';

sub train
{
	my ($student, $options) = @_;
	$node->safe_psql('postgres', "CALL distil_train('m', 'docs', '$student', options => '$options')");
	return $node->safe_psql('postgres', "SELECT max(job) FROM distil_jobs WHERE student = '$student'");
}
sub job { return $node->safe_psql('postgres', "SELECT $_[1] FROM distil_jobs WHERE job = $_[0]"); }
sub wait_state
{
	my ($job, $state) = @_;
	return wait_until(sub { job($job, 'state') eq $state }, "job $job to be $state", 120);
}
sub wait_step { my ($job) = @_; return wait_until(sub { job($job, 'step') > 0 }, "a step of job $job"); }
sub folders { return $node->safe_psql('postgres', "SELECT count(*) FROM pg_ls_dir('pgsql_tmp_distil') f WHERE f LIKE 'job%'"); }

# what a running job shows
my $job = train('shown', $long);
ok(wait_step($job), 'a job makes steps');
like($node->safe_psql('postgres', "SELECT query FROM pg_stat_activity WHERE backend_type = 'distil job'"),
	qr/^distil job $job: /, 'pg_stat_activity shows the job');
wait_until(sub { $node->safe_psql('postgres', "SELECT query FROM pg_stat_activity WHERE backend_type = 'distil job'") =~ /step \d+\/1000000 loss / }, 'a step');
like($node->safe_psql('postgres', "SELECT query FROM pg_stat_activity WHERE backend_type = 'distil job'"),
	qr/step \d+\/1000000 loss /, 'with step and loss');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'distil job' AND backend_xmin IS NULL"), '1', 'and holds no snapshot');
is(job($job, "eta > now() AND progress = '[..........] 0 %' AND tokens_per_second > 0"), 't', 'the view has speed and end');

# the next one waits for its turn, and starts when there is a place
my $next = train('next', $short);
usleep(1_000_000);
is(job($next, 'state'), 'queued', 'a second job is queued');
my ($code, $out, $err) = quiet_psql($node, "CALL distil_train('m', 'docs', 'shown')");
like($err, qr/job $job is already making a model "shown"/, 'a name is promised once');

# cancel
$node->safe_psql('postgres', "SELECT distil_cancel($job)");
ok(wait_state($job, 'canceled'), 'cancel');
ok(wait_state($next, 'done'), 'the queued job runs then');
is($node->safe_psql('postgres', "SELECT count(*) FROM distil_models WHERE name = 'shown'"), '0', 'a canceled job makes no model');
is(folders(), '0', 'and leaves no folder');

# products of bfloat16 in the worker, where the session's own arithmetic is that
my $rounded = train('rounded', '{"max_steps": 3, "batch_size": 8, "threads": 1, "dtype": "bfloat16"}');
if ($node->safe_psql('postgres', 'SELECT arithmetic FROM distil_system') eq 'bfloat16')
{
	ok(wait_state($rounded, 'done'), 'a job trains with dtype bfloat16');
}
else
{
	ok(wait_state($rounded, 'failed'), 'dtype bfloat16 is refused where it would not be faster');
	like(job($rounded, 'error'), qr/"dtype" is "bfloat16"/, 'by name');
}
my $expected = $node->safe_psql('postgres', "SELECT sha256 FROM distil_models WHERE name = 'next'");

# a cancel that is rolled back does nothing
$job = train('rolled', $long);
wait_step($job);
$node->safe_psql('postgres', "BEGIN; SELECT distil_cancel($job); ROLLBACK");
usleep(1_500_000);
is(job($job, 'state'), 'running', 'a cancel that is rolled back is none');
# a canceling transaction that stays open does not stop the training
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT distil_pause($job);");
my $step = job($job, 'step');
usleep(2_500_000);
is(job($job, 'state'), 'running', 'an open transaction does not hold up the job');
$holder->query_safe('COMMIT;');
ok(wait_state($job, 'paused'), 'it pauses at commit');
$holder->quit;
$node->safe_psql('postgres', "SELECT distil_cancel($job)");
is(job($job, 'state'), 'canceled', 'a paused job is canceled at once');
is(folders(), '0', 'with its folder');

# pause and resume: the same weights
$job = train('paused', $short);
wait_step($job);
$node->safe_psql('postgres', "SELECT distil_pause($job)");
wait_until(sub { job($job, 'state') =~ /paused|done/ }, 'pause');
is(job($job, 'state'), 'paused', 'pause');
is(folders(), '1', 'a paused job keeps its folder');
is($node->safe_psql('postgres', "SELECT count(*) = max(l.step) AND max(l.step) = max(j.step) FROM distil_job_log l JOIN distil_jobs j USING (job) WHERE job = $job"),
	't', 'and has logged all its steps');
usleep(300_000);
$node->safe_psql('postgres', "SELECT distil_resume($job)");
ok(wait_state($job, 'done'), 'resume');
is($node->safe_psql('postgres', "SELECT sha256 FROM distil_models WHERE name = 'paused'"), $expected, 'the same weights as without the pause');

# an update that takes long: its progress shows before the first one is done, and a pause ends it
$job = train('slow', '{"max_steps": 7, "batch_size": 64, "gradient_accumulation_steps": 60000, "threads": 1}');
ok(wait_until(sub { job($job, 'tokens') > 0 }, 'tokens'), 'tokens are counted in the first update');
is(job($job, "step = 0 AND steps = 7 AND loss IS NULL AND tokens_per_second > 0 AND eta > now()"), 't', 'with steps, speed and end');
ok(wait_until(sub { $node->safe_psql('postgres', "SELECT query FROM pg_stat_activity WHERE backend_type = 'distil job'") =~ qr/step 0\/7, \d+ % of the next/ }, 'activity'),
	'and pg_stat_activity shows it');
$node->safe_psql('postgres', "SELECT distil_pause($job)");
ok(wait_state($job, 'paused'), 'a pause in the middle of an update');
is(job($job, "step = 0 AND tokens = 0 AND loss IS NULL"), 't', 'gives up its work');
$node->safe_psql('postgres', "SELECT distil_cancel($job)");

# damaged and empty spools: the corpus is read again, and the job goes on from its checkpoint
my $round = 0;
for my $damage (sub { my $at = (-s $_[0]) / 2; open(my $f, '+<', $_[0]) or die $!; seek($f, $at, 0); print $f 'damaged'; close $f; },
	sub { truncate($_[0], 0) or die $!; })
{
	$round++;
	$job = train("damaged$round", $short);
	wait_step($job);
	$node->safe_psql('postgres', "SELECT distil_pause($job)");
	wait_until(sub { job($job, 'state') =~ /paused|done/ }, 'pause');
	is(job($job, 'state'), 'paused', 'a pause');
	$damage->(glob($node->data_dir . "/pgsql_tmp_distil/job_*_$job/spool"));
	my $before = -s $node->logfile;
	$node->safe_psql('postgres', "SELECT distil_resume($job)");
	ok(wait_state($job, 'done'), 'a job whose spool is damaged goes on');
	like(slurp_file($node->logfile, $before), qr/reads its corpus again.*goes on after step [1-9]/s, 'with the corpus read again, from its checkpoint');
	is($node->safe_psql('postgres', "SELECT sha256 FROM distil_models WHERE name = 'damaged$round'"), $expected, 'to the same weights');
}

# waiting: progress, its end by timeout, by statement_timeout, by the failure of the job
($code, $out, $err) = quiet_psql($node, "CALL distil_train('m', 'docs', 'waited', options => '$short', wait => true)");
is($code, 0, 'wait => true');
like($err, qr/NOTICE:  \[[#.]{10}\] +\d+ %  step \d+\/300  loss \d/, 'shows a bar');
like($err, qr/is done: model "waited" is ready/, 'and the end');
$job = train('timeout', $long);
($code, $out, $err) = quiet_psql($node, "CALL distil_wait($job, '1 second')");
is($code, 0, 'distil_wait with a timeout ends');
like($err, qr/goes on, the time to wait is over/, 'and says so');
($code, $out, $err) = quiet_psql($node, "SET statement_timeout = '700ms'; CALL distil_wait($job)", on_error_stop => 1);
like($err, qr/only the wait is over: job $job goes on/, 'a wait that times out says that the job goes on');
like($err, qr/statement timeout/, 'and ends with the error');
is(job($job, 'state'), 'running', 'the job goes on');
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM distil_jobs WHERE job = $job");
ok(wait_state($job, 'canceled'), 'pg_cancel_backend cancels');
is(folders(), '1', 'and keeps the checkpoint');
($code, $out, $err) = quiet_psql($node, "CALL distil_wait($job)");
like($err, qr/ERROR:  job $job was canceled/, 'waiting for a canceled job is an error');
$holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT distil_cancel($job);");
($code, $out, $err) = quiet_psql($node, "SET lock_timeout = '500ms'; SELECT distil_resume($job)", on_error_stop => 1);
like($err, qr/lock timeout/, 'a resume waits for a cancel that is about to remove the folder');
is(folders(), '1', 'which it does not before its commit');
$holder->query_safe('COMMIT;');
$holder->quit;
is(folders(), '0', 'a second cancel gives up the checkpoint');

# the name of a model that was dropped: no work is done that could not be stored
$job = train('gone', $long);
wait_step($job);
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM distil_jobs WHERE job = $job");
ok(wait_state($job, 'canceled'), 'a canceled job promises no name');
$node->safe_psql('postgres', "SELECT distil_import('gone', '$path'); SELECT distil_drop_model('gone')");
($code, $out, $err) = quiet_psql($node, "SELECT distil_resume($job)", on_error_stop => 1);
like($err, qr/ERROR:  the name "gone" belonged to a model that was dropped/, 'it cannot be resumed when the name is used up');
like($err, qr/HINT:  Start a new job with another student => '...'; distil_cancel\($job\) gives this one up/, 'with what to do');
$node->safe_psql('postgres', "SELECT distil_cancel($job)");
is(folders(), '0', 'which removes its files');
my $first = train('first', $long);
wait_step($first);
$job = train('gone_too', $short);
$node->safe_psql('postgres', "INSERT INTO distil.tombstone SELECT 'gone_too', sha256 FROM distil.model LIMIT 1; SELECT distil_cancel($first)");
ok(wait_state($job, 'failed'), 'nor does the worker begin');
like(job($job, 'error'), qr/the name "gone_too" belonged to a model that was dropped/, 'with the reason');
is(job($job, 'step'), '0', 'before the first step');

# a failure in the worker
$node->safe_psql('postgres', "CREATE VIEW broken AS SELECT (1 / (length(body) - length(body)))::text AS body FROM docs");
($code, $out, $err) = quiet_psql($node, "CALL distil_train('m', 'broken', 'x', wait => true)");
like($err, qr/ERROR:  job \d+ failed: division by zero/, 'an error in the corpus is the error of the wait');
is($node->safe_psql('postgres', "SELECT state || ' ' || error_code FROM distil.job WHERE student = 'x'"), 'failed 22012', 'and of the row');

# rights that were taken away before the worker reads
$node->safe_psql('postgres', "CREATE ROLE u LOGIN; GRANT EXECUTE ON PROCEDURE distil_train TO u; GRANT SELECT ON docs TO u; SELECT distil_grant('m', 'u')");
my $blocker = train('blocker', $long);
wait_step($blocker);
$node->safe_psql('postgres', "SET ROLE u; CALL distil_train('m', 'docs', 'late')");
$node->safe_psql('postgres', "REVOKE SELECT ON docs FROM u; SELECT distil_cancel($blocker)");
my $late = $node->safe_psql('postgres', "SELECT job FROM distil_jobs WHERE student = 'late'");
ok(wait_state($late, 'failed'), 'a right that was revoked fails the job');
like(job($late, 'error'), qr/permission denied for table docs/, 'with its reason');
# a role that was dropped or locked out: the worker does not come back for ever
$node->safe_psql('postgres', "GRANT SELECT ON docs TO u");
$blocker = train('blocker', $long);
wait_step($blocker);
$node->safe_psql('postgres', "SET ROLE u; CALL distil_train('m', 'docs', 'locked')");
my $behind = train('behind', $short);
$node->safe_psql('postgres', "ALTER ROLE u NOLOGIN; SELECT distil_cancel($blocker)");
wait_state($blocker, 'canceled');
my $logged = -s $node->logfile;
usleep(7_000_000);
my $log = slurp_file($node->logfile, $logged);
my @refused = $log =~ /is not permitted to log in/g;
cmp_ok(scalar(@refused), '<=', 1, 'a refused login is not repeated');
SKIP:
{
	skip 'workers of this server need no login', 1 if $node->safe_psql('postgres', 'SHOW server_version_num') >= 170000;
	ok(wait_state($behind, 'done'), 'and does not stand in the way of the next job');
}
wait_until(sub { job($behind, 'state') eq 'done' }, 'the next job to end');
# the same with a role that may not connect
$node->safe_psql('postgres',
	"CREATE ROLE v LOGIN; GRANT EXECUTE ON PROCEDURE distil_train TO v; GRANT SELECT ON docs TO v; SELECT distil_grant('m', 'v')");
$blocker = train('blocker', $long);
wait_step($blocker);
$node->safe_psql('postgres', "SET ROLE v; CALL distil_train('m', 'docs', 'unconnected')");
$behind = train('behind2', $short);
$node->safe_psql('postgres', "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; SELECT distil_cancel($blocker)");
ok(wait_state($behind, 'done'), 'a job whose owner may not connect does not stand in the way');
is($node->safe_psql('postgres', "SELECT state FROM distil_jobs WHERE student = 'unconnected'"), 'queued', 'and stays queued');
# and with one that is no more
$behind = $node->safe_psql('postgres', "SELECT job FROM distil_jobs WHERE student = 'unconnected'");
$node->safe_psql('postgres', 'DROP OWNED BY v; DROP ROLE v');
is($node->safe_psql('postgres', "SELECT regexp_replace(problem, '\\d+', 'N'), fix FROM distil_check() WHERE object = 'job $behind'"),
	"its owner, role N, does not exist any more|SELECT distil_cancel($behind)", 'distil_check() names a job without owner');
$node->safe_psql('postgres', "SELECT distil_cancel($behind)");
is($node->safe_psql('postgres', "SELECT count(*) FROM distil_check() WHERE object LIKE 'job%'"), 0, 'which its fix ends');
$node->safe_psql('postgres',
	"GRANT CONNECT ON DATABASE postgres TO PUBLIC; SELECT distil_cancel(job) FROM distil_jobs WHERE state = 'queued'");

# a role whose sessions begin as another role
$node->safe_psql('postgres',
	"CREATE ROLE grp; CREATE ROLE app LOGIN IN ROLE grp; ALTER ROLE app SET role = 'grp';
	 GRANT EXECUTE ON PROCEDURE distil_train TO app; GRANT SELECT ON docs TO app; SELECT distil_grant('m', 'app')");
$node->safe_psql('postgres', "SET ROLE app; CALL distil_train('m', 'docs', 'other_role', options => '$short')");
my $other = $node->safe_psql('postgres', "SELECT job FROM distil_jobs WHERE student = 'other_role'");
ok(wait_state($other, 'done'), 'a job runs as its owner, whatever role the owner has set');
is($node->safe_psql('postgres', "SELECT owner FROM distil_models WHERE name = 'other_role'"), 'app', 'who gets the model');

# the extension is dropped under a running job: in a database of its own
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other',
	"CREATE EXTENSION distil; SELECT distil_import('m', '$path');
	 CREATE TABLE docs AS SELECT 'the quick brown fox reads ' || i || ' rows' AS body FROM generate_series(1, 100) i");
sub others { return $node->safe_psql('other', "SELECT count(*) FROM pg_stat_activity WHERE datname = 'other' AND backend_type = 'distil job'"); }
$node->safe_psql('other', "CALL distil_train('m', 'docs', 'orphan', options => '$long')");
ok(wait_until(sub { $node->safe_psql('other', 'SELECT step > 0 FROM distil_jobs') eq 't' }, 'a step'), 'a job in another database');
$node->safe_psql('other', 'DROP EXTENSION distil');
ok(wait_until(sub { others() eq '0' }, 'the worker to leave'), 'the worker leaves when the extension is dropped');
is(folders(), '0', 'and takes its folder along');
# the row of a running job is deleted
$node->safe_psql('other', "CREATE EXTENSION distil; SELECT distil_import('m', '$path')");
$node->safe_psql('other', "CALL distil_train('m', 'docs', 'orphan', options => '$long')");
ok(wait_until(sub { $node->safe_psql('other', 'SELECT step > 0 FROM distil_jobs') eq 't' }, 'a step'), 'another job');
$node->safe_psql('other', 'DELETE FROM distil.job');
ok(wait_until(sub { others() eq '0' }, 'the worker to leave'), 'the worker leaves when its row is deleted');
is(folders(), '0', 'and takes its folder along');

# the calling session as worker
$node->safe_psql('postgres', 'SELECT distil_cancel(job) FROM distil_jobs WHERE state = \'queued\'');
$node->stop;
$node->append_conf('postgresql.conf', "max_worker_processes = 1\nmax_logical_replication_workers = 1\n");
$node->start;
($code, $out, $err) = quiet_psql($node, "CALL distil_train('m', 'docs', 'slotless', options => '$short')");
my $slot = $node->safe_psql('postgres', "SELECT job FROM distil_jobs WHERE student = 'slotless'");
SKIP:
{
	skip 'this server had a free worker slot', 4 if $err !~ /WARNING/;
	is($code, 0, 'without a worker slot distil_train succeeds');
	like($err, qr/WARNING:  no free worker slot: job $slot stays queued/, 'with a warning');
	like($err, qr/max_worker_processes/, 'and a hint');
	is(job($slot, 'state'), 'queued', 'the job is queued');
}
if (job($slot, 'state') eq 'queued')
{
	($code, $out, $err) = quiet_psql($node, "CALL distil_train('m', 'docs', 'slotless2', options => '$short', wait => true)", on_error_stop => 1);
	isnt($code, 0, 'waiting without a slot is an error');
	like($err, qr/no free worker slot: job \d+ stays queued/, 'that says why');
}
($code, $out, $err) = quiet_psql($node, "CALL distil_work()");
is($code, 0, 'distil_work() does the queue\'s work');
is(job($slot, 'state'), 'done', 'the job is done');
is($node->safe_psql('postgres', "SELECT sha256 FROM distil_models WHERE name = 'slotless'"), $expected, 'with the same weights');
# with the custom settings of the session that called distil_train, not those of this one
$node->safe_psql('postgres', "SET app.one = 'its'; CALL distil_train('m', \$\$SELECT body FROM docs WHERE current_setting('app.one') = 'its' "
	. "AND coalesce(current_setting('app.two', true), '') = ''\$\$, 'settings', options => '$short')");
quiet_psql($node, "SET app.one = 'mine'; SET app.two = 'mine'; CALL distil_work()");
is($node->safe_psql('postgres', "SELECT state || ' ' || texts FROM distil_jobs WHERE student = 'settings'"), 'done 500', 'a job has the custom settings of its caller');
($code, $out, $err) = quiet_psql($node, "BEGIN; CALL distil_work()", on_error_stop => 1);
like($err, qr/cannot run inside a transaction block/, 'distil_work() needs its own transactions');
is(folders(), '0', 'no folder is left');

done_testing();
