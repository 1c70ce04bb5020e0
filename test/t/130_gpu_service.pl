# Embeddings by the GPU service, played by the stand-in device: a GPU that is not there, the CPU's vectors, requests of
# several sessions in one batch, cancels, the end of its process in the middle of a request, memory, idling, no worker slot.
use strict;
use warnings;
use Cwd qw(abs_path);
use Errno qw(EAGAIN);
use IO::Socket::UNIX;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Socket qw(:DEFAULT SOCK_NONBLOCK);
use Test::More;
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

my $node = new_node('gpu_service', allows_streaming => 1, conf => "restart_after_crash = on\nmax_connections = 20\nmax_worker_processes = 8\ndistil.threads = 1\ndistil.precision = float32\nlog_min_messages = debug1\n");
my $path = model_path('bert-sentence');
$node->safe_psql('postgres', "SELECT distil_import('m', '$path')");
# By a short way: a socket's path has 107 bytes.
my $short = PostgreSQL::Test::Utils::tempdir_short() . '/d';
symlink(abs_path($node->data_dir) . '/pgsql_tmp_distil', $short) or die "symlink $short: $!";
my $socket = "$short/gpu.socket";

my $text = "'the lazy dog stores ' || i || ' rows of the large table'";
my $embed = "distil_embed($text, 'm')";
$node->safe_psql('postgres', "SET distil.device = cpu; CREATE TABLE cpu AS SELECT i, $embed e FROM generate_series(1, 300) i");
# The stand-in sums in another order: far less than a wrong token or a vector in another one's place.
my $same = "distil_l2(e, $embed) < 1e-4";
# Texts $1 to $2 in one request.
sub many
{
	my ($from, $to) = @_;
	return "SELECT count(*) FROM (SELECT row_number() OVER () + $from - 1 AS i, v FROM distil_embed_many(ARRAY(SELECT $text FROM generate_series($from, $to) i), 'm') v) x"
		. " JOIN cpu USING (i) WHERE distil_l2(e, v) < 1e-4";
}
my ($code, $out, $err);

sub set_conf
{
	my ($conf) = @_;
	$node->append_conf('postgresql.conf', $conf);
	$node->reload;
	return;
}
# Figures of the running service; undef: none runs.
sub service
{
	my $line = $node->safe_psql('postgres', 'SELECT devices[2] FROM distil_system');
	return $line =~ /^(\S+): process (\d+), memory limit (\d+) MB, models (\d+), requests (\d+), batches (\d+), evictions (\d+), dropped (\d+)$/
		? { device => $1, pid => $2, memory => $3, models => $4, requests => $5, batches => $6, evictions => $7, dropped => $8 } : undef;
}
# The running service has been told.
sub limit
{
	my ($megabytes) = @_;
	set_conf("distil.gpu_memory = '${megabytes}MB'\n");
	return wait_until(sub { my $running = service(); !defined $running || $running->{memory} == $megabytes }, "a limit of $megabytes MB");
}
sub other_device
{
	my ($isa) = @_;
	my $running = service();
	set_conf("distil.standin_isa = '$isa'\n");
	wait_until(sub { $node->safe_psql('postgres', 'SHOW distil.standin_isa') eq $isa }, 'the setting');
	kill 'KILL', $running->{pid} if defined $running;
	return wait_until(sub { !defined $running || !alive($running->{pid}) }, 'the process to end');
}
sub alive { my ($pid) = @_; return (eval { slurp_file("/proc/$pid/stat") } // 'gone) Z ') !~ /\) Z /; }
sub halt { my ($pid) = @_; kill 'STOP', $pid; return wait_until(sub { slurp_file("/proc/$pid/stat") =~ /\) T / }, 'a stopped process'); }
sub logged { return slurp_file($node->logfile) =~ $_[0]; }
# A psql of its own that runs these statements, each a transaction unless they say otherwise; finish() gives (stdout, stderr).
sub session
{
	my @sql = @_;
	my %run = (out => '', err => '');
	$run{handle} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), map { ('-c', $_) } @sql ],
		'<', \undef, '>', \$run{out}, '2>', \$run{err}, IPC::Run::timeout(180));
	return \%run;
}
sub finish { my ($run) = @_; $run->{handle}->finish; return ($run->{out}, $run->{err}); }
sub waiting
{
	my ($n, $event) = @_;
	return wait_until(sub { $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event = '$event'") == $n },
		"$n sessions in $event");
}

# without a GPU
SKIP:
{
	skip 'there is a GPU driver here', 5 if $node->safe_psql('postgres', 'SELECT cuda FROM distil_system') ne '';
	($code, $out, $err) = quiet_psql($node, "SET distil.device = cuda; SELECT $embed FROM generate_series(1, 1) i", on_error_stop => 1);
	isnt($code, 0, 'a GPU that is not there is refused');
	like($err, qr/ERROR:  device "cuda" is not available\n.*DETAIL:  \S.*\n.*HINT:  Set distil.device/s, 'by name, with cause and fix');
	ok(wait_until(sub { !-e $socket }, 'the service to end'), 'and the service does not stay');
	($code, $out, $err) = quiet_psql($node, "SELECT count(*) FROM cpu WHERE $same");
	is($out, '300', 'auto computes on the CPU');
	is($err, '', 'without a word');
}

# the CPU's vectors
set_conf("distil.standin_device = on\n");
for my $device ('cuda', 'auto')
{
	is($node->safe_psql('postgres', "SET distil.device = $device; SELECT count(*) FROM cpu WHERE $same"), '300', "$device: the vectors of the CPU");
}
my $first = service();
is($first->{device}, 'standin', 'they are the device\'s');
cmp_ok($first->{requests}, '>=', 4, 'whole batches of rows at a time');
is($node->safe_psql('postgres', 'SET distil.device = cuda; ' . many(1, 300)), '300', 'distil_embed_many');
is($node->safe_psql('postgres', "SET distil.device = cuda; SELECT distil_embed('', 'm') IS NULL, abs(distil_similarity('a cat', 'a cat', 'm') - 1) < 1e-5"),
	$node->safe_psql('postgres', "SET distil.device = cpu; SELECT distil_embed('', 'm') IS NULL, abs(distil_similarity('a cat', 'a cat', 'm') - 1) < 1e-5"),
	'an empty text, and distil_similarity');
my $before = service();
is($node->safe_psql('postgres', "SET distil.device = cpu; SELECT count(*) FROM cpu WHERE $same"), '300', 'cpu');
is(service()->{requests}, $before->{requests}, 'asks nobody');
is(service()->{pid}, $first->{pid}, 'all sessions share one process');
is($node->safe_psql('postgres', 'SELECT workers FROM distil_system'), '1', 'which distil_system counts');

# EXPLAIN ANALYZE names the model as it was run: no copy of it for the CPU is made for that
$node->safe_psql('postgres', "SELECT distil_create('unseen', distil_config('m'), tokenizer_of => 'm')");
is($node->safe_psql('postgres', "SET distil.device = cuda; SET distil.precision = auto;
	CREATE TEMP TABLE plan (line text);
	DO \$\$ DECLARE line text; BEGIN
		FOR line IN EXPLAIN (ANALYZE) SELECT distil_embed($text, 'unseen') FROM generate_series(1, 3) i LOOP INSERT INTO plan VALUES (line); END LOOP; END \$\$;
	SELECT substring(line FROM 'Models: .*') FROM plan WHERE line ~ 'Models'") =~ s/^\s+//r, 'Models: unseen (float32)', 'EXPLAIN names the model');
my $unseen = $node->safe_psql('postgres', "SELECT encode(sha256, 'hex') FROM distil.model WHERE name = 'unseen'");
is(scalar(grep { /$unseen/ } glob($node->data_dir . '/pgsql_tmp_distil/*')), 1, 'of which there is one copy');

# rights are asked for in the session, also for a model that is on the device
$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN');
($code, $out, $err) = quiet_psql($node, "SET ROLE stranger; SET distil.device = cuda; SELECT distil_embed('x', 'm')");
like($err, qr/permission denied/, 'a model on the device is used with the right to it only');

# several sessions, one batch: all have asked before the process goes on
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1);');
my @sessions = map { session('SET distil.device = cuda', 'BEGIN', "SELECT $embed IS NULL FROM generate_series(1, 1) i", 'SELECT pg_advisory_lock_shared(1)',
	many($_, $_ + 20), 'COMMIT') } 1 .. 6;
waiting(6, 'advisory');
$before = service();
halt($first->{pid});
$holder->query_safe('SELECT pg_advisory_unlock(1);');
ok(waiting(6, 'Extension'), 'six sessions wait for the service');
kill 'CONT', $first->{pid};
is(join(' ', map { s/\s+/ /gr } map { (finish($_))[0] } @sessions), join(' ', map { 'f 21 ' } 1 .. 6), 'each gets its own vectors');
my $after = service();
is($after->{requests} - $before->{requests}, 6, 'six requests');
is($after->{batches} - $before->{batches}, 1, 'in one batch');

# a standby has its own service; memory that others of its GPU had is tried for again after a while, see the end
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('gpu_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "distil.standin_isa = 'crowded 2'\n");
$standby->start;
$node->wait_for_catchup($standby);
my $ask = "SELECT count(*) FROM cpu WHERE $same";
($code, $out, $err) = quiet_psql($standby, "SET distil.device = cuda; $ask", on_error_stop => 1);
like($err, qr/ERROR:  out of memory on device "cuda"/, 'a standby asks a device of its own, which has no room');

# cancels: the session leaves at once, whatever the device does
sub ask_stopped
{
	my ($device, @sql) = @_;
	$holder->query_safe('SELECT pg_advisory_lock(1);');
	my $run = session("SET distil.device = $device", 'BEGIN', "SELECT $embed IS NULL FROM generate_series(1, 1) i", 'SELECT pg_advisory_lock_shared(1)',
		@sql, 'ROLLBACK', "SELECT 'goes on'");
	waiting(1, 'advisory');
	my $service = service();
	halt($service->{pid});
	$holder->query_safe('SELECT pg_advisory_unlock(1);');
	waiting(1, 'Extension');
	return ($run, $service);
}
my ($run, $service) = ask_stopped('cuda', $ask);
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'Extension'");
($out, $err) = finish($run);
like($err, qr/canceling statement due to user request/, 'a cancel ends the wait');
like($out, qr/goes on/, 'and not the session');
kill 'CONT', $service->{pid};
ok(wait_until(sub { service()->{dropped} == $service->{dropped} + 1 }, 'the drop'), 'the service drops the request');
($run, $service) = ask_stopped('cuda', "SET statement_timeout = '300ms'", $ask);
($out, $err) = finish($run);
like($err, qr/canceling statement due to statement timeout/, 'statement_timeout ends it too');
kill 'CONT', $service->{pid};
($run, $service) = ask_stopped('cuda', $ask);
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'Extension'");
($out, $err) = finish($run);
like($err, qr/terminating connection/, 'and pg_terminate_backend');
kill 'CONT', $service->{pid};
is($node->safe_psql('postgres', "SET distil.device = cuda; $ask"), '300', 'others are served as before');

# a model that is dropped while it works
$node->safe_psql('postgres', "SELECT distil_create('gone', distil_config('m'), tokenizer_of => 'm')");
($run, $service) = ask_stopped('cuda', "SELECT count(distil_embed($text, 'gone')) FROM generate_series(1, 3) i");
$node->safe_psql('postgres', "SELECT distil_drop_model('gone')");
kill 'CONT', $service->{pid};
($out, $err) = finish($run);
like($out, qr/^3$/m, 'a model dropped in the middle of a request is used to the end');

# the process of the device is killed in the middle of a request
my $uptime = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
($run, $service) = ask_stopped('cuda', many(1, 3));
kill 'KILL', $service->{pid};
($out, $err) = finish($run);
like($err, qr/ERROR:  device "cuda" has failed\n.*DETAIL:  The GPU service ended before it answered.*\n.*HINT:  \S/s, 'cuda: an error with cause and fix');
like($out, qr/goes on/, 'which the session survives');
ok(wait_until(sub { logged(qr/process of the GPU service was terminated by signal 9/) }, 'the log'), 'the log has it');
is($node->safe_psql('postgres', "SET distil.device = cuda; $ask"), '300', 'the next request starts another one');
isnt(service()->{pid}, $service->{pid}, 'a new process');
($run, $service) = ask_stopped('cuda', $ask);
kill 'KILL', $service->{pid};
($out, $err) = finish($run);
like($out, qr/^300$/m, 'rows of a batch that failed are asked for again one by one');
($run, $service) = ask_stopped('auto', $ask, $ask);
kill 'KILL', $service->{pid};
($out, $err) = finish($run);
is(() = $out =~ /^300$/mg, 2, 'auto: the CPU answers');
is(() = $err =~ /WARNING:  device "cuda" has failed: embeddings are computed on the CPU/g, 1, 'with one warning');
unlike($err, qr/ERROR/, 'and no error');
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $uptime, 'the server has not restarted');

# many sessions want it at once: one worker is started
$service = service();
if (defined $service)
{
	kill 'KILL', $service->{pid};
	wait_until(sub { !alive($service->{pid}) }, 'the process to end');
}
$holder->query_safe('SELECT pg_advisory_lock(1);');
@sessions = map { session('SET distil.device = cuda', 'SELECT pg_advisory_lock_shared(1)', many(1, 3)) } 1 .. 12;
waiting(12, 'advisory');
my $logged = -s $node->logfile;
$holder->query_safe('SELECT pg_advisory_unlock(1);');
is(join('', map { (finish($_))[0] =~ /(\d+)$/ } @sessions), '3' x 12, 'twelve sessions find no service');
is(() = slurp_file($node->logfile, $logged) =~ /registering background worker "distil GPU service"/g, 1, 'and start one');

# integer weights: computed as the numbers they stand for
$node->safe_psql('postgres', "SELECT distil_quantize('m', 'q', 'int8')");
is($node->safe_psql('postgres', "SET distil.device = cpu; CREATE TABLE quantized AS SELECT i, distil_embed($text, 'q') e FROM generate_series(1, 20) i;
	SET distil.device = cuda; SELECT count(*) FROM quantized WHERE distil_l2(e, distil_embed($text, 'q')) < 1e-4"), '20', 'a quantized model has the vectors of the CPU');

# so many wait to be let in that the queue is full: one more waits too, and starts no other service
$service = service();
halt($service->{pid});
my @queue;
for my $n (1 .. 5000)
{
	socket(my $client, PF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0) or die "socket: $!";
	push @queue, $client;
	next if connect($client, pack_sockaddr_un($socket));
	is($! + 0, EAGAIN, 'the queue is full');
	last;
}
$logged = -s $node->logfile;
($code, $out, $err) = quiet_psql($node, "SET distil.device = cuda; SET statement_timeout = '300ms'; $ask");
like($err, qr/canceling statement due to statement timeout/, 'a session that waits for its place can be cancelled');
$run = session('SET distil.device = cuda', $ask);
ok(waiting(1, 'Extension'), 'another one waits');
close $_ for @queue;
kill 'CONT', $service->{pid};
is((finish($run))[0] =~ s/\s+//r, '300', 'until it is served');
is(service()->{pid}, $service->{pid}, 'by the process that was there');
unlike(slurp_file($node->logfile, $logged), qr/registering background worker "distil GPU service"/, 'and starts no other one');

# nonsense through the socket
$node->safe_psql('postgres', "SET distil.device = cuda; $ask");
$service = service();
my $magic = pack('L', 0x64674701);
my $request = ("\0" x 32) . "f32p16" . ("\0" x 10) . pack('l4', 0, 0, 1, 48);
for my $garbage ("\0" x 64, $magic . pack('LQ', 2, 1 << 40) . 'x', $magic . pack('LQ', 99, 0), $magic . pack('LQ', 2, 16) . ("\xff" x 16),
	$magic . pack('LQ', 2, 72) . ("\xff" x 72), $magic . pack('LQ', 2, 72) . $request . pack('l2', 0, 2000000000),
	$magic . pack('LQ', 2, 76) . $request . pack('l3', 0, -1, 5), $magic . pack('LQ', 2, 76) . $request . pack('l3', 0, 1, 5), $magic)
{
	my $client = IO::Socket::UNIX->new(Peer => $socket);
	$client->send($garbage);
	$client->close;
}
is($node->safe_psql('postgres', "SET distil.device = cuda; $ask"), '300', 'nonsense does no harm');
is(service()->{pid}, $service->{pid}, 'to the process either');

# memory for one model: another one takes its place
my $config = '{"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 6}';
$node->safe_psql('postgres', "SELECT distil_create('big$_', distil_config('m') || '$config', tokenizer_of => 'm', seed => $_)") for 1, 2;
my @big = map { my $name = $_; $embed =~ s/'m'/'$name'/r } 'big1', 'big2';
$node->safe_psql('postgres', "SET distil.device = cpu; CREATE TABLE big AS SELECT i, $big[0] e1, $big[1] e2 FROM generate_series(1, 5) i");
my @ask_big = map { "SELECT count(*) FROM big WHERE distil_l2(e$_, $big[$_ - 1]) < 1e-4" } 1, 2;
$node->safe_psql('postgres', "SET distil.device = cuda; $ask_big[0]");
my $megabytes = 1;
for (; $megabytes < 4096; $megabytes *= 2)
{
	limit($megabytes);
	($code, $out, $err) = quiet_psql($node, "SET distil.device = cuda; $ask_big[0]", on_error_stop => 1);
	last if $code == 0;
	like($err, qr/ERROR:  out of memory on device "cuda".*HINT:  Increase distil.gpu_memory/s, "$megabytes MB are refused") if $megabytes == 1;
}
is($out, '5', "$megabytes MB are enough for one");
$before = service();
is($node->safe_psql('postgres', "SET distil.device = cuda; $ask_big[1]; $ask_big[0]"), "5\n5", 'two models by turns') for 1 .. 3;
is(service()->{evictions} - $before->{evictions}, 6, 'each time the other one goes');
is(service()->{models}, 1, 'one is there');
limit(1);
($code, $out, $err) = quiet_psql($node, "SET distil.device = auto; $ask_big[0]; $ask_big[1]");
is($out, "5\n5", 'auto: a model that does not fit is run by the CPU');
is(() = $err =~ /WARNING:  out of memory on device "cuda"/g, 1, 'with one warning');

# memory that others had for a while: the model is refused until something has changed
$node->safe_psql('postgres', "SELECT distil_create('big3', distil_config('m') || '$config', tokenizer_of => 'm', seed => 3)");
limit($megabytes);
other_device('crowded 2');
for my $when ('is refused', 'stays refused, at no cost for others')
{
	($code, $out, $err) = quiet_psql($node, "SET distil.device = cuda; $ask_big[0]", on_error_stop => 1);
	like($err, qr/ERROR:  out of memory on device "cuda"/, "a model without room $when");
}
is($node->safe_psql('postgres', "SET distil.device = cuda; $ask_big[1]; SELECT distil_embed('a cat', 'big3') IS NULL"), "5\nf", 'others are served');
is(service()->{evictions}, 1, 'one of them had to go');
is($node->safe_psql('postgres', "SET distil.device = cuda; $ask_big[0]"), '5', 'then the model is tried again');
limit(0);

# a device with activations in bfloat16, beside float32 for who wants that; and one that is lost on its way
other_device('bf16');
my $rounded = "SELECT count(*) FROM cpu WHERE distil_cosine(e, $embed) BETWEEN 0.999 AND 0.9999999";
is($node->safe_psql('postgres', "SET distil.device = cuda; SET distil.precision = auto; $rounded; SET distil.precision = float32; $ask; SET distil.precision = bfloat16; $rounded"),
	"300\n300\n300", 'each session has the precision that it wants');
is(service()->{models}, 2, 'which takes the model twice');
other_device('lost 20');
($code, $out, $err) = quiet_psql($node, 'SET distil.device = cuda; ' . many(1, 300), on_error_stop => 1);
like($err, qr/ERROR:  device "\w+" has failed\n.*DETAIL:  The device was lost/s, 'a device that is lost is an error');
other_device('lost 20');
($code, $out, $err) = quiet_psql($node, "SET distil.device = auto; $ask; $ask");
is($out, "300\n300", 'auto: the CPU');
is(() = $err =~ /WARNING:  device "\w+" has failed: embeddings are computed on the CPU/g, 1, 'with one warning');
ok(wait_until(sub { !defined service() }, 'the service to end'), 'the process does not stay');
other_device('');

# idle
$node->safe_psql('postgres', "SET distil.device = cuda; $ask");
$service = service();
set_conf("distil.gpu_idle_timeout = 1\n");
ok(wait_until(sub { !alive($service->{pid}) }, 'the idle service to end'), 'the service ends when it is idle');
ok(!-e $socket, 'without a trace');
is($node->safe_psql('postgres', 'SELECT cardinality(devices) FROM distil_system'), '1', 'nothing runs');
is($node->safe_psql('postgres', "SET distil.device = cuda; $ask"), '300', 'and starts when it is wanted');
set_conf("distil.gpu_idle_timeout = 0\n");
$node->safe_psql('postgres', "SET distil.device = cuda; $ask");

# the end of the worker itself, which has shared memory, restarts the server; nothing is left of the service
$service = service();
my ($worker) = slurp_file("/proc/$service->{pid}/stat") =~ /\) \S (\d+)/;
ok(kill_process($node, $worker), 'the server restarts');
ok(wait_until(sub { !alive($service->{pid}) }, 'the process to end'), 'the process of the device ends with its worker');
is($node->safe_psql('postgres', "SET distil.device = cuda; $ask"), '300', 'and the service with the next request');
$service = service();
$node->stop('fast');
ok(!alive($service->{pid}), 'a stop of the server ends it');

# no worker slot
$node->append_conf('postgresql.conf', "max_worker_processes = 1\nmax_logical_replication_workers = 1\n");
$node->start;
($code, $out, $err) = quiet_psql($node, "SET distil.device = cuda; SELECT $embed FROM generate_series(1, 1) i", on_error_stop => 1);
SKIP:
{
	skip 'this server had a free worker slot', 4 if $code == 0;
	like($err, qr/ERROR:  device "cuda" is not available\n.*DETAIL:  There is no free worker slot.*\n.*HINT:  Consider increasing max_worker_processes/s, 'no worker slot: an error with cause and fix');
	($code, $out, $err) = quiet_psql($node, "$ask; $ask");
	is($out, "300\n300", 'auto: the CPU');
	is(() = $err =~ /WARNING/g, 1, 'with one warning');
	like($err, qr/device "cuda" is not available: embeddings are computed on the CPU/, 'that says so');
}
$node->stop;

# a minute later at the most
ok(wait_until(sub { (quiet_psql($standby, "SET distil.device = cuda; $ask", on_error_stop => 1))[0] == 0 }, 'the standby to be served', 120),
	'a refused model is tried again');
is($standby->safe_psql('postgres', "SET distil.device = cuda; $ask"), '300', 'a standby computes on the device');
like($standby->safe_psql('postgres', 'SELECT devices[2] FROM distil_system'), qr/^standin: process \d+, memory limit 0 MB, models 1, /, 'by a service of its own');
$standby->stop;

done_testing();
