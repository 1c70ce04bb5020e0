# Common ground of the TAP tests: a private server with distil and the tiny models of test/golden.
package DistilTest;

use strict;
use warnings;
use Cwd qw(abs_path);
use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);

our @EXPORT = qw(new_node model_path wait_until quiet_psql kill_process);

# The repository root: PG_ABS_SRCDIR where the tests run in a copy.
my $top = $ENV{PG_ABS_SRCDIR} // abs_path('.');

# Folder of a tiny model.
sub model_path
{
	my ($name) = @_;
	return "$top/test/golden/models/$name";
}

# A started server with the extension in database postgres; %options go to init().
sub new_node
{
	my ($name, %options) = @_;
	my $conf = delete $options{conf} // '';
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(%options);
	$node->append_conf('postgresql.conf', $conf);
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION distil');
	return $node;
}

# Poll a condition for up to $seconds (default 60).
sub wait_until
{
	my ($condition, $what, $seconds) = @_;
	my $end = time + ($seconds // 60);
	while (time < $end)
	{
		return 1 if $condition->();
		usleep(50_000);
	}
	diag("waited in vain for: $what");
	return 0;
}

# psql whose failure is expected: (exit code, stdout, stderr).
sub quiet_psql
{
	my ($node, $sql, %options) = @_;
	my ($out, $err) = ('', '');
	my $code = $node->psql('postgres', $sql, stdout => \$out, stderr => \$err, %options);
	return ($code, $out, $err);
}

# kill -9 of one of the server's processes, so that it starts all of them again; true when it has, or the process had ended.
# That the server answers is not enough: it may answer once more before it notices.
sub kill_process
{
	my ($node, $pid) = @_;
	my $checkpointer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
	my $before = $node->safe_psql('postgres', $checkpointer);
	return 1 if !kill('KILL', $pid);
	return wait_until(sub {
		my ($code, $now) = quiet_psql($node, $checkpointer);
		return $code == 0 && $now =~ /^\d+$/ && $now ne $before;
	}, 'the server to come back');
}

1;
