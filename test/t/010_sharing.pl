# One mapped copy for all connections: correct under concurrent first use, no load on a fresh connection.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Fcntl qw(O_RDWR :flock);
use POSIX qw(mkfifo);
use Time::HiRes qw(utime);
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

# Twenty clients at once for a model whose copy does not exist, and takes a while to be made.
$node->safe_psql('postgres', q{SELECT distil_create('large', distil_config('m') || '{"hidden_size": 384, "num_attention_heads": 12,
	"intermediate_size": 1536, "num_hidden_layers": 6}', tokenizer_of => 'm')});
unlink glob($node->data_dir . '/pgsql_tmp_distil/*');
my $script = $node->basedir . '/first_use.sql';
$node->safe_psql('postgres', 'CREATE TABLE built (pid int PRIMARY KEY, builds bigint)');
append_to_file($script, "SELECT distil_embed('first use', 'large');\n"
	. "INSERT INTO built VALUES (pg_backend_pid(), distil.cache_builds()) ON CONFLICT (pid) DO UPDATE SET builds = EXCLUDED.builds;\n");
$node->command_ok([ 'pgbench', '-n', '-c', '20', '-j', '2', '-t', '2', '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ],
	'concurrent first use');
@files = grep { -f } glob($node->data_dir . '/pgsql_tmp_distil/*');
is(scalar(@files), 1, 'concurrent first use leaves one copy and no temporary file');
is($node->safe_psql('postgres', 'SELECT count(*), sum(builds) FROM built'), '20|1', 'which one of them has built for all');

# Stopped at any point of the making of a copy: nothing half made stays.
my ($stopped, $left) = (0, 0);
for (my ($ms, $made) = (10, 0); !$made && $ms < 20000; $ms *= 1.12)
{
	unlink @files;
	quiet_psql($node, "SET statement_timeout = '${ms}ms'; SELECT distil_embed('first use', 'large')");
	$made = -e $files[0];
	$stopped++ if !$made;
	my @parts = glob($node->data_dir . '/pgsql_tmp_distil/tmp.*');
	$left += @parts;
}
cmp_ok($stopped, '>', 0, 'a timeout stops the making of a copy');
is($left, 0, 'and leaves no part of it');
unlink @files;
$node->safe_psql('postgres', "SELECT distil_embed('x')");
@files = glob($node->data_dir . '/pgsql_tmp_distil/*');

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

# ---- what may stand in the place of a copy ----

my $folder = $node->data_dir . '/pgsql_tmp_distil';
my $embed = "SELECT md5(distil_embed('a text')::text)";
unlink glob("$folder/tmp.*");
$node->safe_psql('postgres', "SELECT distil_import('other', '" . model_path('bert-mlm') . "')");
my $right = $node->safe_psql('postgres', $embed);
$node->safe_psql('postgres', "SELECT distil_embed('a text', 'other')");
my ($foreign) = grep { $_ ne $copy } glob("$folder/*");
unlink $copy;
link($foreign, $copy) or die "link: $!";
is($node->safe_psql('postgres', $embed), $right, 'the copy of another model is not used');
rename($copy, "$folder/aside") && symlink('aside', $copy) or die "symlink: $!";
is($node->safe_psql('postgres', $embed), $right, 'nor is a link');
ok(-f $copy && !-l $copy, 'which is replaced');
unlink "$folder/aside";

# How much of the copies is in memory, each model by itself.
my $resident = "SELECT string_agg(name || ' ' || (resident >= 4096), ' ' ORDER BY name) FROM distil_models WHERE name IN ('m', 'other')";
is($node->safe_psql('postgres', $resident), 'm true other true', 'two models have copies in memory');
unlink $foreign;
is($node->safe_psql('postgres', $resident), 'm true other false', 'the second has none without its copy');
$node->safe_psql('postgres', "SELECT distil_embed('a text', 'other')");
unlink $copy;
is($node->safe_psql('postgres', $resident), 'm false other true', 'nor has the first');
$node->safe_psql('postgres', $embed);

# ---- who builds, and who waits ----

# The lock is held while a copy is built, not to the end of the transaction.
my $first = $node->background_psql('postgres');
unlink $copy;
$first->query_safe("BEGIN; $embed");
ok(-f $copy, 'a transaction has built a copy');
unlink $copy;
is($node->safe_psql('postgres', "SET lock_timeout = '20s'; $embed; SELECT distil.cache_builds()"), "$right\n1",
	'another one can build it again before it ends');
$first->query_safe('COMMIT');
$first->quit;

# ---- files and mappings of a connection that has had many models ----

sub open_copies
{
	my ($of) = @_;
	my $files = grep { (readlink($_) // '') =~ /pgsql_tmp_distil\// } glob("/proc/$of/fd/*");
	my $maps = grep { /pgsql_tmp_distil\// } split /\n/, slurp_file("/proc/$of/maps");
	return "$files files, $maps mappings";
}
$node->safe_psql('postgres', "SELECT distil_import('m' || i, '$path') FROM generate_series(1, 12) i");
my $many = $node->background_psql('postgres');
$pid = $many->query_safe('SELECT pg_backend_pid()');
$many->query_safe("SELECT distil_embed('a text', 'm$_')") for 1 .. 12;
is(open_copies($pid), '8 files, 8 mappings', 'a connection keeps eight models open');
$many->quit;
# What is no copy of the model is let go of: an empty file, one that is too short, a pipe.
unlink $copy;
append_to_file($copy, '');
$many = $node->background_psql('postgres');
$pid = $many->query_safe('SELECT pg_backend_pid()');
$many->query_safe("SELECT distil_embed('a text', 'm1')");
append_to_file("$folder/new", 'short');
rename("$folder/new", $copy) or die "rename: $!";
$many->query_safe("SELECT distil_embed('a text', 'm2')");
unlink $copy;
mkfifo($copy, 0600) or die "mkfifo: $!";
$many->query_safe("SELECT distil_embed('a text', 'm3')");
is(open_copies($pid), '3 files, 3 mappings', 'and nothing open of files that are no copies');

# ---- removing copies ----

# A copy of so many bytes of a model that nobody has, used last so many seconds ago.
sub old_copy
{
	my ($digit, $age, $bytes) = @_;
	my $file = "$folder/" . $digit x 64 . '.old';
	open(my $f, '>', $file) or die "open $file: $!";
	truncate($f, $bytes) or die "truncate: $!";
	close $f;
	utime(time - $age, time - $age, $file);
	return $file;
}
# Which of these files are there.
sub left { return join(' ', map { /\/(\w)\w*\.old$/ && -e $_ ? $1 : () } @_); }

# In use: by $many, and by a process that has its lock.  Not copies: what has another name, and a file being built.
my $now = int(time);
my @old = map { old_copy(@$_) } [ 'a', 50.25, 1 << 20 ], [ 'b', 40, 1 << 20 ], [ 'c', 50.75, 1 << 20 ], [ 'd', 30, 1 << 20 ], [ 'e', 60, 1 << 20 ];
open(my $held, '<', $old[4]) or die "open: $!";
flock($held, LOCK_SH) or die "flock: $!";
append_to_file("$folder/$_", 'x') for 'notes', "tmp.$$", 'tmp.x', 'f' x 63 . '.old', 'f' x 65 . '.old', 'f' x 64;
my $ended = fork();
if (!defined $ended) { die "fork: $!"; }
elsif ($ended == 0) { POSIX::_exit(0); }
waitpid($ended, 0);
append_to_file("$folder/tmp.$ended", 'x');
utime(1, 1, $copy);
unlink $foreign;
is($node->safe_psql('postgres', "$embed; SET distil.cache_size = 4; SELECT distil.cache_builds()"), "$right\n0", 'a copy is mapped');
cmp_ok((stat $copy)[9], '>=', $now, 'which makes it the one used last');
is(left(@old), 'a b c d e', 'and removes nothing');
$node->safe_psql('postgres', "SELECT distil_embed('a text', 'other')");
is(left(@old), 'a b c d e', 'nor does one that is built, while there is room');
unlink $foreign;
$node->safe_psql('postgres', "SET distil.cache_size = 4; SELECT distil_embed('a text', 'other')");
is(left(@old), 'b d e', 'without room the least recently used go that nobody uses, and no more than needed');
ok(-f $copy && -f $foreign, 'not those in use');
ok(!-e "$folder/tmp.$ended", 'nor a file whose builder has ended');
my @others = ('notes', "tmp.$$", 'tmp.x', 'f' x 63 . '.old', 'f' x 65 . '.old', 'f' x 64);
unlink $foreign;
is($node->safe_psql('postgres', 'SELECT distil_cache_clear()'), 2 << 20, 'distil_cache_clear() says what it has removed');
is(left(@old), 'e', 'all that nobody uses');
ok(-f $copy, 'and no copy that a connection maps');
is(scalar(grep { -f "$folder/$_" } @others), scalar(@others), 'nor any other file');
close $held;
my $bytes = (-s $copy) + (-s $old[4]);
$many->quit;
ok(wait_until(sub { $bytes -= $node->safe_psql('postgres', 'SELECT distil_cache_clear()'); !-e $copy && !-e $old[4] }, 'the removal'),
	'when nobody uses them any more they go, too');
is($bytes, 0, 'each counted once');
unlink map { "$folder/$_" } @others;
$node->safe_psql('postgres', $embed);

# A folder that cannot be written: private copy and a warning.
SKIP:
{
	skip 'root can write everywhere', 3 if $> == 0;
	unlink $copy;
	chmod 0500, $node->data_dir . '/pgsql_tmp_distil';
	my ($code, $out, $err) = quiet_psql($node, "SELECT cardinality(distil_embed('x')) > 0; SELECT cardinality(distil_embed('y')) > 0");
	is($out, "t\nt", 'without a writable cache folder each connection has a copy of its own');
	is(scalar(() = $err =~ /WARNING/g), 1, 'and says so once');
	like($err, qr/Permission denied.*HINT:  The server must be able to write to directory "pgsql_tmp_distil"/s, 'and why');
	chmod 0700, $node->data_dir . '/pgsql_tmp_distil';
}

done_testing();
