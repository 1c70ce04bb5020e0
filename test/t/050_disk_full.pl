# A disk that is really full: the mapped copy falls back to a private one, a training job without a spool fails
# with 53100 and one with a checkpoint goes on, nothing half written stays.
# DISTIL_SMALL_DISK is a file system of its own of some megabytes, made by test/check.sh; the folder of copies and jobs is put there.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

my $disk = $ENV{DISTIL_SMALL_DISK} // '';
plan skip_all => 'no small file system is at hand: making one needs root' unless -d $disk;

my $node = new_node('disk_full');
my $folder = "$disk/copies";
mkdir $folder or die "mkdir $folder: $!";
symlink($folder, $node->data_dir . '/pgsql_tmp_distil') or die "symlink: $!";
my $path = model_path('bert-sentence');
$node->safe_psql('postgres', "SELECT distil_import('m', '$path')");
$node->safe_psql('postgres',
	"CREATE TABLE docs AS SELECT 'the quick brown fox reads ' || i || ' rows of the large table' AS body FROM generate_series(1, 5000) i");

# Take all room; what is given back later (a deleted file that a process still maps, an old checkpoint) is taken by the next call.
sub fill
{
	open(my $filler, '>>', "$disk/filler") or die "filler: $!";
	my $block = 'x' x 4096;
	while (syswrite($filler, $block) // 0) { }
	close $filler;
	return;
}
# No backend maps a deleted copy any more.
sub alone
{
	return wait_until(sub { $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname = 'postgres'") eq '1' }, 'other backends to end');
}
sub files { return join(' ', map { s/.*\///r } glob("$folder/*")); }
my $embed = "SELECT md5(distil_embed('the same text')::text)";

# ---- the mapped copy ----
my $expected = $node->safe_psql('postgres', $embed);
unlink glob("$folder/*");
alone();
fill();
my ($code, $out, $err) = quiet_psql($node, "$embed; $embed", extra_params => [ '-v', 'VERBOSITY=verbose' ]);
is($code, 0, 'a full disk does not stop an embedding');
is($out, "$expected\n$expected", 'whose result is the same');
like($err, qr/WARNING:  53100: could not write the shared copy of model "m": No space left on device.*HINT:  Make room for/s, 'a warning says so');
is(scalar(() = $err =~ /WARNING/g), 1, 'once in a session');
is(files(), '', 'no part of a copy stays');
unlink "$disk/filler";
is($node->safe_psql('postgres', $embed), $expected, 'with room again');
like(files(), qr/^[0-9a-f]{64}\.\w+$/, 'the shared copy is made');

# ---- a training job ----
sub job { return $node->safe_psql('postgres', "SELECT $_[1] FROM distil.job WHERE student = '$_[0]'"); }
my $options = '{"max_steps": 1000000, "batch_size": 8, "threads": 1, "checkpoint_seconds": 1}';
fill();
$node->safe_psql('postgres', "CALL distil_train('m', 'docs', 'early', options => '$options')");
wait_until(sub { job('early', 'state') eq 'failed' }, 'the job to fail', 120);
is(job('early', "state || ' ' || error_code"), 'failed 53100', 'a spool without room is disk_full');
is($node->safe_psql('postgres', "SELECT count(*) FROM distil_models WHERE name = 'early'"), '0', 'and makes no model');
is($node->safe_psql('postgres', 'SELECT count(*) FROM distil_check()'), '0', 'nor anything left over');
is(scalar(grep { /job/ } glob("$folder/*")), 0, 'its folder is gone');

# A checkpoint without room costs no step: the one before stays, and the next one is written when there is room.
unlink "$disk/filler";
$node->safe_psql('postgres', "CALL distil_train('m', 'docs', 'late', options => '$options')");
ok(wait_until(sub { my @kept = glob("$folder/job*/checkpoint"); @kept > 0 }, 'a checkpoint', 120), 'a job that trains');
my $logged = -s $node->logfile;
ok( wait_until(sub { fill(); slurp_file($node->logfile, $logged) =~ /no checkpoint could be written.*No space left on device/s }, 'the warning', 120),
	'a checkpoint without room is a warning');
is(job('late', 'state'), 'running', 'and the job goes on');
my @kept = glob("$folder/job*/checkpoint $folder/job*/checkpoint.old");
ok(scalar(grep { -s } @kept), 'with the checkpoint before');
my $step = job('late', 'step');
unlink "$disk/filler";
ok(wait_until(sub { job('late', "state = 'running' AND step > $step") eq 't' }, 'more steps', 120), 'it makes more steps');
my $freed = time;
sub newest { my ($file) = glob("$folder/job*/checkpoint"); return (stat($file // ''))[9] // 0; }
ok(wait_until(sub { newest() > $freed }, 'a checkpoint', 120), 'and checkpoints, with room again');
$node->safe_psql('postgres', "SELECT distil_cancel(job) FROM distil_jobs WHERE student = 'late'");
ok(wait_until(sub { job('late', 'state') eq 'canceled' && !glob("$folder/job*") }, 'the end of the job', 120), 'a cancel takes its folder along');
is($node->safe_psql('postgres', $embed), $expected, 'the server goes on');
done_testing();
