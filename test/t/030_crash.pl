# kill -9 loses nothing: of a backend that embeds, and of the whole server, at random points.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

my $rounds = $ENV{DISTIL_KILLS} // 3;
my $node = new_node('crash', conf => "restart_after_crash = on\n");
my $path = model_path('bert-sentence');
$node->safe_psql('postgres', "SELECT distil_import('m', '$path')");
$node->safe_psql('postgres',
	"CREATE TABLE docs (id int PRIMARY KEY, body text, e real[]);
	 INSERT INTO docs SELECT i, repeat('some words to read ', 10) || i FROM generate_series(1, 3000) i");

my $committed = 0;
for my $round (1 .. $rounds)
{
	# one committed step, then one that is killed at any point; it never commits, however fast it is
	my $from = $committed * 100 + 1;
	my $to = $from + 99;
	$node->safe_psql('postgres', "UPDATE docs SET e = distil_embed(body) WHERE id BETWEEN $from AND $to");
	$committed++;
	my $victim = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $victim->query_safe('SELECT pg_backend_pid()');
	$victim->query_until(qr/started/, "\\echo started\nBEGIN;\nUPDATE docs SET e = distil_embed(body || id) WHERE id > $to;\n");
	usleep(int(rand(300_000)));
	if ($round % 2)
	{
		ok(kill_process($node, $pid), "round $round: the server restarts by itself");
		eval { $victim->quit };
	}
	else
	{
		# every process at once, as a machine that loses power
		my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
		my @children = split ' ', `ps -o pid= --ppid $postmaster`;
		$node->kill9;
		kill 'KILL', @children;
		eval { $victim->quit };
		wait_until(sub { !grep { kill 0, $_ } @children }, 'the processes to end');
		$node->start;
	}
	is($node->safe_psql('postgres', "SELECT count(*) FROM docs WHERE e IS NOT NULL"), $committed * 100, "round $round: committed rows are there, no others");
	# an import that is killed leaves no model, no large object, no file
	my $importer = $node->background_psql('postgres', on_error_stop => 0);
	$pid = $importer->query_safe('SELECT pg_backend_pid()');
	$importer->query_until(qr/started/, "\\echo started\nSELECT distil_import('half', '" . model_path('distilbert-mlm') . "'), pg_sleep(10);\n");
	usleep(int(rand(200_000)));
	kill_process($node, $pid);
	eval { $importer->quit };
	is($node->safe_psql('postgres', "SELECT string_agg(name, ',') FROM distil_models"), 'm', "round $round: no half model");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_largeobject_metadata'), '1', "round $round: no orphan large object");
	is($node->safe_psql('postgres', "SELECT bool_and(ok) FROM distil_verify('m')"), 't', "round $round: the model verifies");
}
is($node->safe_psql('postgres', 'SELECT string_agg(problem, \', \') FROM distil_check()'), '', 'distil_check() finds nothing');

# a damaged mapped copy is noticed and made again
my $good = $node->safe_psql('postgres', "SELECT md5(distil_embed('a text')::text)");
for my $damage (qw(truncate header empty))
{
	for my $file (glob($node->data_dir . '/pgsql_tmp_distil/*'))
	{
		next if -d $file;
		open(my $fh, '+<', $file) or die "open $file: $!";
		binmode $fh;
		if ($damage eq 'truncate') { truncate($fh, (-s $file) / 2); }
		elsif ($damage eq 'empty') { truncate($fh, 0); }
		else { print $fh "garbage garbage garbage"; }
		close $fh;
	}
	is($node->safe_psql('postgres', "SELECT md5(distil_embed('a text')::text)"), $good, "a mapped copy with damage '$damage' is made again");
}

done_testing();
